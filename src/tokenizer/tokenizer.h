/* SPDX-License-Identifier: Apache-2.0
 * tokenizer.h - text to token ids and back, as Hugging Face `tokenizers` does it from tokenizer.json, and the text settings
 * of tokenizer_config.json and its family. Chat templates are only carried here as text; template/ runs them.
 *
 * The pipeline, each stage a list of components behind a table (tokenizer_int.h):
 *     added tokens -> normalizer -> pre-tokenizer -> model -> post-processor        decoder -> text */
#ifndef WE_TOKENIZER_H
#define WE_TOKENIZER_H

#include "format/format.h"

typedef struct we_tok we_tok; /* immutable once open; any thread may use it */

/** Read tokenizer.json and, where they exist, tokenizer_config.json, special_tokens_map.json, chat_template.jinja (or
 * chat_template.json), generation_config.json's and config.json's token ids.
 * Where tokenizer.json is absent, tokenizer.model (tiktoken.model, spiece.model, spm.model, *.tiktoken) is read in its place:
 * SentencePiece's protobuf, or tiktoken's ranks.
 * A folder without any of these, but with some of the settings, opens too: its chat template is there, encoding and decoding
 * say WE_E_NOT_FOUND.
 * Errors: WE_E_NOT_FOUND (none of these: names all that were looked for), WE_E_FORMAT (file, place, what was expected; Git LFS pointers are
 *         recognised and `git lfs pull` advised), WE_E_UNSUPPORTED (names the component), WE_E_NOMEM. */
we_status we_tok_open(we_tok **out, const char *dir, we_error *err);
/** Whether the folder holds a vocabulary in any of these forms. */
bool we_tok_has_vocab(const char *dir);
/** The same from a GGUF file's metadata, which has all of it. */
we_status we_tok_open_gguf(we_tok **out, const we_gguf *gguf, we_error *err);
bool we_tok_in_gguf(const we_gguf *gguf); /* whether it has a tokenizer at all */
/** What that is made of: the texts of tokenizer.json and tokenizer_config.json; NULL: not wanted.
 * Errors: WE_E_FORMAT (file, key, value), WE_E_UNSUPPORTED (a kind of tokenizer), WE_E_NOMEM. A pre-tokenizer that is not
 * known is logged, and GPT-2's taken. */
we_status we_tok_from_gguf(const we_gguf *gguf, we_buf *tokenizer_json, we_buf *tokenizer_config_json, we_error *err);
#define WE_TOK_GGUF_EOS 3
/** The ids that end a turn, as generation_config.json would list them; gives how many. */
size_t we_tok_gguf_eos(const we_gguf *gguf, int64_t ids[WE_TOK_GGUF_EOS]);
/** The same from texts in memory (for tests and fuzzers); config may be empty. Texts are borrowed for the call only. */
we_status we_tok_parse(we_tok **out, we_str tokenizer_json, we_str tokenizer_config_json, we_error *err);
/** The same from a vocabulary in another form, told by its content: SentencePiece's protobuf, or tiktoken's ranks.
 * name: the file's, for messages and to tell tiktoken's families apart. */
we_status we_tok_parse_vocab(we_tok **out, const char *name, we_str bytes, we_str tokenizer_config_json, we_error *err);
void we_tok_close(we_tok *tok); /* NULL is allowed */

/** ids is a growing array owned by the caller: zero it first, free with we_ids_deinit. */
typedef struct we_ids {
    int32_t *ids;
    size_t n, capacity;
} we_ids;
void we_ids_deinit(we_ids *ids);
we_status we_ids_push(we_ids *ids, int32_t id, we_error *err);

/** Append the tokens of `text`. special: run the post-processor (BOS and the like).
 * Errors: WE_E_FORMAT (not UTF-8: tells the offset), WE_E_NOMEM. */
we_status we_tok_encode(const we_tok *tok, we_str text, bool special, we_ids *out, we_error *err);

/** Append the text of ids; ids without a token are dropped. skip_special leaves special tokens out. */
we_status we_tok_decode(const we_tok *tok, const int32_t *ids, size_t n, bool skip_special, we_buf *out, we_error *err);

/** Streaming decode: caller's storage; what it gives out joins to what we_tok_decode gives for all ids at once. */
typedef struct we_tok_stream {
    const we_tok *tok; /* borrowed */
    bool skip_special;
    struct we_decode *state; /* the decoders' chain and what it holds back; NULL before the first id */
    we_buf text;             /* what the last call handed out */
} we_tok_stream;
void we_tok_stream_init(we_tok_stream *s, const we_tok *tok, bool skip_special);
void we_tok_stream_deinit(we_tok_stream *s);
/** *piece is borrowed until the next call; may be empty. Constant time per id, however long the stream. */
we_status we_tok_stream_feed(we_tok_stream *s, int32_t id, we_str *piece, we_error *err);
we_status we_tok_stream_flush(we_tok_stream *s, we_str *piece, we_error *err); /* then it begins anew */

size_t we_tok_vocab_size(const we_tok *tok);                       /* highest id + 1, added tokens included */
int32_t we_tok_id(const we_tok *tok, we_str token);                /* the id of a token's exact content; -1: none */
bool we_tok_token(const we_tok *tok, int32_t id, we_str *content); /* raw content, borrowed; false: no such id */
bool we_tok_is_special(const we_tok *tok, int32_t id);

/** bos_token, eos_token, pad_token, unk_token, ... of the configuration ("bos_token"): content, or empty with false. */
bool we_tok_special(const we_tok *tok, const char *role, we_str *content);
/** All configured special tokens by role, for the template's variables; index from 0; false at the end. */
bool we_tok_special_at(const we_tok *tok, size_t index, we_str *role, we_str *content);
/** Whether encode(special = true) begins with this id: -1 where the post-processor adds none in front. */
int32_t we_tok_bos_id(const we_tok *tok);

/** End-of-turn ids from every place where models declare them: generation_config.json's eos_token_id (one or several),
 * tokenizer_config.json's eos_token, config.json's eos_token_id, and the well-known end-of-turn tokens that the chat
 * template itself writes behind an assistant's message (<|im_end|>, <|eot_id|>, <end_of_turn>, <|end|>, ...) where they are
 * special tokens of this vocabulary. Borrowed. */
const int32_t *we_tok_eos_ids(const we_tok *tok, size_t *n);

/** The chat template by name: "default", "tool_use", ...; the default for NULL. False: there is none. Borrowed. */
bool we_tok_chat_template(const we_tok *tok, const char *name, we_str *source);

#endif
