/* SPDX-License-Identifier: Apache-2.0
 * tokenizer_int.h - what the files of this room share: the tokenizer's parts and the tables that name them.
 *
 * Each stage of the pipeline is a list of components (a Sequence is written out into the list). A component is a row
 * { name, parse, run } of its stage's table and a we_part with its settings: to add one, write two functions and a row.
 *     tokenizer.c: door, order of work     config.c: tokenizer_config.json & family      vocab.c, trie.c: look-ups
 *     added.c: added tokens                normalizer.c, precompiled.c                   pretokenizer.c
 *     model.c: loading, table; model_*.c   post.c: post-processors                       decoder.c, stream.c
 *     compiled.c: a file that need not be parsed      gguf.c, merges.c: the same from a GGUF file
 * Vocabularies that are no tokenizer.json: vocab_file.c finds them, sentencepiece.c and tiktoken.c read them. */
#ifndef WE_TOKENIZER_INT_H
#define WE_TOKENIZER_INT_H

#include "tokenizer/regex.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

#include <assert.h>
#include <stdio.h>

#define WE_TOK_MAX_ID (1 << 22)            /* ids are indices of tables: a lying file must not make them large */
#define WE_TOK_MAX_PARTS 64                /* components of one stage */
#define WE_TOK_MAX_BYTES ((size_t)1 << 31) /* of a text to encode, and of a tokenizer.json: positions fit 32 bits */

/* Components that make text longer may stand in a row: no text grows beyond this, whatever the file says. */
#define WE_TOK_MAX_GROWN(len) ((len)*1000 + ((size_t)1 << 20))

/* ---- The compiled form: the large tables as they lie in memory (compiled.c) ---- */

enum {
    WE_TABLE_JSON, /* tokenizer.json without vocabulary and merges */
    WE_TABLE_POOL, /* vocab.c */
    WE_TABLE_TOKENS,
    WE_TABLE_SLOTS,
    WE_TABLE_MERGES, /* model_bpe.c */
    WE_TABLE_PAIRS,
    WE_TABLE_SCORES, /* model_unigram.c */
    WE_TABLE_EDGES,  /* trie.c */
    WE_TABLE_VALUES,
    WE_TABLE_ROOT,
    WE_N_TABLES
};
typedef struct we_tables {
    we_str table[WE_N_TABLES]; /* borrowed; empty: there is none */
} we_tables;
#define WE_TABLE_OF(items, n) ((we_str){ (const char *)(items), (n) * sizeof(*(items)) })
/* Each _give lists what a part has; its _take makes the part of such a list again, checking all that it will rely on, and
 * borrows what is large. False: damaged, or memory is out. A map that is cut short later reads as zeros, which every table
 * must bear: a zeroed slot or edge is a free one. */

#define WE_COMPILED_MIN ((size_t)1 << 20) /* a shorter tokenizer.json is read as fast as a compiled form */

typedef struct we_compiled_header {
    char magic[8];     /* "wetokc" and the format's version */
    uint64_t checksum; /* of the header behind this field */
    uint64_t library;  /* hash of the library's version */
    uint64_t salt[2];  /* the key of source_hash */
    uint64_t source_len, source_hash;
    struct {
        uint64_t offset, len, hash;
    } tables[WE_N_TABLES];
} we_compiled_header;

/** Check a compiled form of `source` and list its tables: borrowed from `file`, which is aligned to 8 bytes.
 * False: it is something else, or damaged. */
bool we_compiled_read(we_str file, we_str source, we_tables *tables);
/** The user's compiled form of `source`, if there is one and all of it can be trusted; close the map behind the last use. */
we_map *we_compiled_find(we_str source, we_tables *tables);
/** Write it for the next time. A failure costs only time, so it is logged and no more. */
void we_compiled_save(we_str source, const we_tables *tables);
/** Its file's place, found by the content of `source`; NULL where there is no home or memory is out. we_free. */
char *we_compiled_path(we_str source);

/** Read tokenizer.json. small: takes its part of a compiled form; NULL: nobody wants one. */
we_status we_tok_parse_json(we_tok *tok, we_str json, we_buf *small, we_error *err);
/** List what a compiled form of a tokenizer holds; `small` as we_tok_parse_json gave it. Borrowed from both. */
void we_tok_list_tables(const we_tok *tok, we_str small, we_tables *tables);
/** The tokenizer of such a list, which it borrows; on failure `tok` is as zeroed. */
we_status we_tok_take_tables(we_tok *tok, const we_tables *tables, we_error *err);

/* ---- Vocabulary: the model's tokens by text and by id ---- */

typedef struct we_vocab_token {
    uint32_t start, len; /* in the pool */
    int32_t id;
} we_vocab_token;
typedef struct we_vocab_slot {
    uint32_t hash, token; /* token: index + 1; 0: free */
} we_vocab_slot;
typedef struct we_vocab {
    we_buf pool;
    we_vocab_token *tokens;
    size_t n, capacity;
    we_vocab_slot *slots;
    size_t n_slots; /* a power of two */
    size_t max_len; /* of a token, in bytes */
    int32_t max_id; /* -1: empty */
    bool borrowed;  /* tokens and slots are a compiled form's */
} we_vocab;

/** A text that is there already gets the new id (the last one counts, as in the reference). False: memory is out. */
bool we_vocab_add(we_vocab *v, we_str text, int32_t id);
int32_t we_vocab_find(const we_vocab *v, we_str text); /* -1: none */
/** The same for a + b without joining them. */
int32_t we_vocab_find_pair(const we_vocab *v, we_str a, we_str b);
/* The same in steps, for many look-ups at once: hash all, prefetch all (steps 0, 1, 2), then find. */
uint32_t we_vocab_hash_pair(we_str a, we_str b);
void we_vocab_prefetch(const we_vocab *v, uint32_t hash, int step);
int32_t we_vocab_find_hashed(const we_vocab *v, uint32_t hash, we_str a, we_str b);
static inline we_str we_vocab_text(const we_vocab *v, size_t token)
{
    return (we_str){ v->pool.ptr + v->tokens[token].start, v->tokens[token].len };
}
void we_vocab_deinit(we_vocab *v);
void we_vocab_give(const we_vocab *v, we_tables *tables);
bool we_vocab_take(we_vocab *v, const we_tables *tables);

/** Every way to cut a token between two characters so that both parts are tokens, tokens in order, the shortest left part
 * first; what fn fails with ends it. */
typedef we_status (*we_split_fn)(void *user, int32_t id, int32_t left, int32_t right, we_error *err);
we_status we_vocab_each_split(const we_vocab *v, we_split_fn fn, void *user, we_error *err);

/* ---- Pairs of characters that stand together in some token: no merge crosses a place between two others ---- */

#define WE_N_PAIR_WORDS ((size_t)1 << 16)
uint64_t *we_rune_pairs_new(void); /* [WE_N_PAIR_WORDS]; NULL: memory is out */
void we_rune_pairs_note(uint64_t *pairs, we_str token);
bool we_rune_pairs_have(const uint64_t *pairs, uint32_t left, uint32_t right); /* may be wrong in saying yes */
void we_rune_pairs_free(uint64_t *pairs);                                      /* NULL is allowed */

/* ---- Trie over bytes ---- */

typedef struct we_trie_edge {
    uint32_t key, node; /* key: parent << 8 | byte, + 1; 0: free */
} we_trie_edge;
typedef struct we_trie {
    we_trie_edge *edges;
    size_t n_edges, n_slots;
    int32_t *values; /* [n_nodes]: -1 where no key ends; node 0 is the root */
    size_t n_nodes, capacity;
    uint32_t root[256];
    bool borrowed; /* edges and values are a compiled form's */
} we_trie;

bool we_trie_add(we_trie *t, we_str key, int32_t value); /* the last value of a key counts; false: memory is out */
uint32_t we_trie_step(const we_trie *t, uint32_t node, unsigned char byte); /* 0: no such edge */
void we_trie_deinit(we_trie *t);
void we_trie_give(const we_trie *t, we_tables *tables);
bool we_trie_take(we_trie *t, const we_tables *tables, size_t n_values); /* values are below n_values */

/* ---- Added tokens ---- */

typedef struct we_added {
    we_str content;
    we_str form; /* what is matched and decoded: content, normalized where `normalized` */
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    bool skipped; /* left out with special tokens: the reference asks whether the form is a special token's content */
} we_added;

typedef struct we_added_list {
    we_added *tokens;
    size_t n;
    we_trie raw, normal; /* the contents to find before and behind the normalizer; value: index in tokens */
    bool any_raw, any_normal;
} we_added_list;

/* A list in the making, for tokens that bring their ids. */
typedef struct we_added_new {
    we_added *tokens;
    size_t n, capacity;
    we_vocab seen;
} we_added_new;
/** A copy of *added; of the same content the last one counts. */
we_status we_added_push(we_tok *tok, we_added_new *list, const we_added *added, we_error *err);
/** Make the list the tokenizer's, unless `st` is an error already; frees it in any case, gives the status. */
we_status we_added_take(we_tok *tok, we_added_new *list, we_status st, we_error *err);

/* ---- Components ---- */

typedef enum we_split_behavior {
    WE_SPLIT_REMOVED,
    WE_SPLIT_ISOLATED,
    WE_SPLIT_MERGED_WITH_PREVIOUS,
    WE_SPLIT_MERGED_WITH_NEXT,
    WE_SPLIT_CONTIGUOUS
} we_split_behavior;
typedef enum we_prepend_scheme { WE_PREPEND_ALWAYS, WE_PREPEND_FIRST, WE_PREPEND_NEVER } we_prepend_scheme;

/* A component's settings: each uses what it needs. */
typedef struct we_part {
    const void *kind; /* a row of its stage's table */
    we_str text;      /* Prepend's, Replace's content, a decoder's prefix or suffix, CTC's pad token */
    we_str text2;     /* CTC's word delimiter */
    we_regex *regex;  /* Split, Replace */
    we_str literal;   /* Split, Replace with a plain pattern */
    bool is_literal, invert;
    we_split_behavior behavior;
    we_prepend_scheme scheme;
    uint32_t rune;      /* Metaspace's replacement, CharDelimiterSplit's, decoder Strip's */
    bool left, right;   /* normalizer Strip */
    size_t start, stop; /* decoder Strip; FixedLength's length in start */
    bool use_regex, add_prefix_space, individual_digits, cleanup;
    bool clean_text, handle_chinese_chars, strip_accents, lowercase; /* BertNormalizer */
    void *data; /* Precompiled's map, TemplateProcessing's pieces: in the tokenizer's arena */
    size_t n_data;
} we_part;
typedef struct we_parts {
    we_part *parts;
    size_t n;
} we_parts;

/* ---- Pre-tokenized text: pieces of one stretch between added tokens ---- */

typedef struct we_piece {
    uint32_t start, end; /* in the text */
} we_piece;
typedef struct we_pieces {
    we_str text;
    we_buf bufs[2]; /* texts that components wrote: one is read while the other is written */
    int current;    /* which one is next to be written */
    we_piece *pieces, *next;
    size_t n, n_next, capacity, next_capacity;
    size_t n_first;  /* as in we_tok_work: a piece that begins in these bytes of the text is at the start */
    bool byte_level; /* each byte still stands for its character of the byte alphabet */
    bool failed;     /* memory ran out */
    size_t limit;    /* how long a text may grow */
    bool too_long;   /* it did */
} we_pieces;

/* ---- Models ---- */

typedef struct we_model_kind we_model_kind;
typedef struct we_bpe we_bpe;
typedef struct we_unigram we_unigram;
typedef struct we_wordpiece we_wordpiece;
typedef struct we_spm we_spm;

/* One call's scratch. */
typedef struct we_tok_work {
    we_pieces pieces;
    bool at_start;  /* the stretch begins where the whole text does */
    size_t n_first; /* the begin of its normalized text, in bytes, that stands for the whole text's first character */
    we_buf normal[2];
    we_buf joined; /* a word with its prefix, its byte alphabet, ... */
    void *bpe;     /* model_bpe.c's */
    void *unigram; /* model_unigram.c's */
    size_t unigram_capacity;
    void *spm; /* model_spm.c's */
} we_tok_work;

struct we_model_kind {
    const char *name;
    /** Settings are read, the vocabulary and the merges are there. */
    we_status (*finish)(we_tok *tok, const we_json *settings, we_error *err);
    /** The large tables that a compiled form has ready; NULL: none. */
    we_status (*build)(we_tok *tok, we_error *err);
    /** Append the tokens of a piece (never empty). byte_level: its bytes stand for the byte alphabet. */
    we_status (*encode)(const we_tok *tok, we_tok_work *work, we_str piece, bool byte_level, we_ids *out,
                        we_error *err);
    void (*free)(we_tok *tok);
};

struct we_tok {
    we_arena arena;
    we_map *compiled; /* the tables lie in it; NULL: they are our own */
    we_vocab vocab;
    const we_model_kind *model;
    we_bpe *bpe;
    we_unigram *unigram;
    we_wordpiece *wordpiece;
    we_spm *spm; /* set: normalizer, model and decoder are those of model_spm.c, the lists below are empty */
    we_added_list added;
    uint32_t *by_id; /* [n_ids]: 0 none, token index + 1, or added index + 1 with WE_TOK_ADDED */
    size_t n_ids;
    we_parts normalizers, pretokenizers, posts, decoders;
    bool has_decoder;   /* without one, tokens are joined by spaces */
    bool first_matters; /* a Metaspace asks what stands for the text's first character */

    /* config.c */
    struct we_tok_role {
        we_str role, content;
    } * roles;
    size_t n_roles;
    struct we_tok_template {
        we_str name, source;
    } * templates;
    size_t n_templates;
    we_ids eos_ids;
};
#define WE_TOK_ADDED 0x80000000U

/* ---- Reading tokenizer.json ---- */

/* The value of a member; absent or null leaves *out alone. `where` is for messages: "normalizer.content". */
we_status we_tok_get_bool(const we_json *object, const char *key, const char *where, bool *out, we_error *err);
we_status we_tok_get_size(const we_json *object, const char *key, const char *where, size_t *out, we_error *err);
we_status we_tok_get_str(we_tok *tok, const we_json *object, const char *key, const char *where, bool required,
                         we_str *out, we_error *err);
we_status we_tok_get_rune(const we_json *object, const char *key, const char *where, uint32_t *out, we_error *err);
/** { "String": ... } or { "Regex": ... } into literal or regex. */
we_status we_tok_get_pattern(we_tok *tok, const we_json *object, const char *where, we_part *part, we_error *err);
we_status we_tok_copy(we_tok *tok, we_str text, we_str *out, we_error *err); /* into the tokenizer's arena */

typedef struct we_part_kind { /* how every stage's table begins */
    const char *name;
    we_status (*parse)(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err);
} we_part_kind;
/** Read a stage: null, one component, or a Sequence of them. `sequence`: the member of a Sequence that holds the list.
 * Errors: WE_E_UNSUPPORTED names an unknown component. */
we_status we_tok_parse_stage(we_tok *tok, we_parts *out, const we_json *json, const char *where, const char *sequence,
                             const void *table, size_t n_rows, size_t row_size, we_error *err);

we_status we_tok_parse_normalizers(we_tok *tok, const we_json *json, we_error *err);
we_status we_tok_parse_pretokenizers(we_tok *tok, const we_json *json, we_error *err);
we_status we_tok_parse_posts(we_tok *tok, const we_json *json, we_error *err);
we_status we_tok_parse_decoders(we_tok *tok, const we_json *json, we_error *err);
we_status we_tok_parse_added(we_tok *tok, const we_json *json, we_error *err);
/** The reader stands behind the key "model". settings: out, its members but vocab and merges; borrowed from the reader's text. */
we_status we_tok_read_model(we_tok *tok, we_json_reader *reader, const we_json **settings, we_error *err);
/** The same where vocabulary and merges come from a compiled form. */
we_status we_tok_take_model(we_tok *tok, const we_json *settings, const we_tables *tables, we_error *err);
void we_bpe_give(const we_bpe *bpe, we_tables *tables);
bool we_bpe_take(we_tok *tok, const we_tables *tables);
bool we_unigram_score(we_str number, double *out); /* a number of JSON, as the reference reads it */
we_status we_unigram_take_scores(we_tok *tok, double *scores, we_error *err); /* owned from here on, also on failure */
void we_unigram_give(const we_tok *tok, we_tables *tables);
bool we_unigram_take(we_tok *tok, const we_tables *tables);
/** A further reading of BPE's merges: false when the file's order lets them be read only at the end. */
we_status we_bpe_read_merges(we_tok *tok, we_json_reader *reader, we_str prefix, we_error *err);

/* ---- Running ---- */

we_status we_tok_normalize(const we_tok *tok, we_tok_work *work, we_str text, we_str *out, we_error *err);
typedef struct we_charsmap we_charsmap; /* SentencePiece's normalization map, in the tokenizer's arena */
we_status we_charsmap_read(we_tok *tok, we_str blob, const char *where, const we_charsmap **out, we_error *err);
/** The longest key that `text` begins with: its bytes (0: none) and its replacement, borrowed from the map. */
size_t we_charsmap_longest(const we_charsmap *map, we_str text, we_str *replacement);
bool we_base64_decode(we_str in, char *out, size_t *n); /* out: [in.len / 4 * 3 + 4]; false: not base64 */
we_status we_precompiled_parse(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err);
we_status we_precompiled_run(const we_part *part, we_str in, we_buf *out, we_error *err);

we_status we_tok_pretokenize(const we_tok *tok, we_pieces *pieces, we_str text, size_t n_first, we_error *err);
void we_pieces_deinit(we_pieces *p);
bool we_tok_is_split_into_words(const we_tok *tok); /* by its pre-tokenizers */

/* All occurrences of a pattern, by regex or as plain text. */
typedef struct we_part_scan {
    const we_part *part;
    we_str text;
    size_t pos;
    we_regex_scan regex;
} we_part_scan;
void we_part_scan_init(we_part_scan *scan, const we_part *part, we_str text);
bool we_part_scan_next(we_part_scan *scan, size_t *start, size_t *end);
/** Errors: WE_E_NOMEM where the scan ended for that. */
we_status we_part_scan_deinit(we_part_scan *scan, we_error *err);

/** Cut text at added tokens (those of before or behind the normalizer): calls `text_fn` for what lies between, `token_fn` for
 * each token found. */
typedef we_status (*we_added_text_fn)(void *user, we_str text, size_t offset, we_error *err);
typedef we_status (*we_added_token_fn)(void *user, int32_t id, we_error *err);
we_status we_added_split(const we_added_list *added, bool normalized, we_str text, void *user, we_added_text_fn text_fn,
                         we_added_token_fn token_fn, we_error *err);
void we_added_deinit(we_added_list *added);

void we_bpe_work_free(const we_tok *tok, void *bpe);
extern const we_model_kind we_model_bpe, we_model_unigram, we_model_wordpiece, we_model_wordlevel, we_model_spm;

/** Put what the post-processors add around (or into) the ids from `start` on. */
we_status we_tok_post_process(const we_tok *tok, we_ids *ids, size_t start, bool special, we_error *err);

/* The byte alphabet of GPT-2: printable bytes of Latin-1 stand for themselves, the others for U+0100 onwards. */
uint32_t we_byte_to_rune(unsigned char byte);
int we_rune_to_byte(uint32_t rune); /* -1: not of the alphabet */
void we_byte_level_append(we_buf *out, we_str bytes);

/* ---- Decoding: one machine for all at once and for streams ---- */

typedef struct we_decode_stage {
    we_buf held;    /* not passed on yet */
    size_t index;   /* tokens begun */
    size_t given;   /* of a run that is still open: bytes passed on */
    size_t n_cut;   /* Strip: cut from the token's begin */
    size_t n_trail; /* Strip: held back at its end */
    bool first_done, seen;
    we_buf last;   /* CTC: the token before; the others: scratch */
    we_buf gather; /* parts of a token, for those that want it whole */
    /* ByteFallback: the stages behind it as they were before the run that is open, and how much had been given out then. */
    struct we_decode_stage *before;
    size_t n_out_before, n_gathered; /* n_gathered: in such a copy, the length of gather, whose bytes are not copied */
} we_decode_stage;
typedef struct we_spm_decode_state {
    char bytes[4]; /* of a character that is not whole */
    size_t n_bytes;
    bool any_text, started; /* text was given out; the first space is no longer looked for */
    bool cut;               /* the last piece lost it */
} we_spm_decode_state;
typedef struct we_decode {
    const we_tok *tok;
    we_decode_stage *stages;
    we_spm_decode_state spm;
    bool streaming;
    size_t n_out; /* bytes given out */
    we_buf *out;
    we_error *err;
} we_decode;
we_status we_decode_init(we_decode *d, const we_tok *tok, bool streaming, we_error *err);
we_status we_decode_feed(we_decode *d, int32_t id, bool skip_special, we_buf *out, we_error *err);
we_status we_decode_flush(we_decode *d, we_buf *out, we_error *err); /* then it begins anew */
void we_decode_deinit(we_decode *d);

/* ---- Other vocabulary files ---- */

/* What stands beside a vocabulary that does not say everything itself. */
typedef struct we_tok_hints {
    const char *file;      /* the vocabulary's name */
    const we_json *config; /* tokenizer_config.json; this and the others: NULL where absent */
    const we_json *added;  /* added_tokens.json */
    const we_json *roles;  /* special_tokens_map.json */
    const we_json *model;  /* config.json */
} we_tok_hints;

/** Whether tokenizer_class, auto_map or model_type holds `word`, in lower case. */
bool we_hints_mention(const we_tok_hints *h, const char *word);
/** The content of "bos_token" or the like, or `otherwise`. */
we_str we_hints_role(const we_tok_hints *h, const char *role, we_str otherwise);
/** Push the tokens that the files add, but the one with the id `except`. */
we_status we_hints_added(we_tok *tok, const we_tok_hints *h, int32_t except, we_added_new *list, we_error *err);
/** Post-processing: ids that go before and behind every text. */
we_status we_tok_set_around(we_tok *tok, const int32_t *before, size_t n_before, const int32_t *behind, size_t n_behind,
                            we_error *err);
/** Find one of the other files in a folder and read it; without any, tok->model stays NULL. */
we_status we_tok_open_vocab_file(we_tok *tok, const char *dir, we_error *err);
we_status we_tok_build_sentencepiece(we_tok *tok, we_str file, const we_tok_hints *hints, we_error *err);
we_status we_tok_build_tiktoken(we_tok *tok, we_str file, const we_tok_hints *hints, we_error *err);
bool we_is_tiktoken(we_str file); /* its first line is base64 and a number */
/** BPE's merges where no file lists them: any two neighbours that join to a token's text merge, the lowest id first. */
we_status we_bpe_merges_from_ids(we_tok *tok, we_error *err);
/** Index by id, once vocabulary and added tokens are there. */
we_status we_tok_build_index(we_tok *tok, we_error *err);
/** The last step, behind the settings: roles that only the vocabulary knows, end-of-turn ids. */
we_status we_tok_finish(we_tok *tok, we_error *err);

/* ---- model_spm.c ---- */

#define WE_SPM_MAX_PIECE 8000 /* bytes, the library's limit */
enum { WE_SPM_UNIGRAM = 1, WE_SPM_BPE, WE_SPM_WORD, WE_SPM_CHAR };
enum { WE_SPM_NORMAL = 1, WE_SPM_UNKNOWN, WE_SPM_CONTROL, WE_SPM_USER_DEFINED, WE_SPM_UNUSED, WE_SPM_BYTE };
struct we_spm {
    int32_t model_type;
    bool byte_fallback, whitespace_as_suffix, add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
    bool prefix_always; /* also behind an added token */
    size_t n_pieces;
    float *scores;              /* by id, in the tokenizer's arena */
    uint8_t *types;             /* by id */
    int32_t unk_id, bytes[256]; /* -1: none */
    we_str unk_surface, bos_piece, eos_piece;
    float unk_score;
    const we_charsmap *charsmap; /* NULL: texts stay as they are */
    we_trie user, trie;          /* user-defined symbols; Unigram's pieces; value: id */
    uint64_t *pairs;             /* BPE; NULL: a text is merged as a whole */
};
we_spm *we_spm_new(void);
bool we_spm_is_text(const we_spm *m, int32_t id);     /* of a type that is found in texts */
we_status we_spm_prepare(we_tok *tok, we_error *err); /* all pieces are there */
we_status we_spm_normalize(const we_tok *tok, we_tok_work *work, we_str in, bool at_start, we_str *out, we_error *err);
we_status we_spm_decode(we_decode *d, int32_t id, we_str text);
we_status we_spm_decode_end(we_decode *d);
void we_spm_work_free(void *spm);

/* ---- config.c ---- */

we_status we_tok_parse_config(we_tok *tok, we_str json, we_error *err);
we_status we_tok_read_family(we_tok *tok, const char *dir, we_error *err);
we_status we_tok_find_eos(we_tok *tok, we_error *err);
/** A role that no file names. */
we_status we_tok_add_role(we_tok *tok, const char *role, we_str content, we_error *err);
we_status we_tok_add_eos(we_tok *tok, int64_t id, we_error *err); /* an id that is there already stays one */
/** Read a file of a model folder; absent: *text stays NULL. Errors: also WE_E_FORMAT for a Git LFS pointer. */
we_status we_tok_read_file(const char *dir, const char *name, char **text, size_t *len, we_error *err);
/** A small JSON file of it as a tree that lives as long as `arena` and *text, which is freed; absent: *out NULL. */
we_status we_tok_read_json(we_arena *arena, const char *dir, const char *name, char **text, const we_json **out,
                           we_error *err);

/* ---- SentencePiece vocabularies (merges.c) ---- */

typedef struct we_scored {
    we_str text;
    float score;
} we_scored;
/** The array "merges" of a tokenizer.json that joins as SentencePiece does with these pieces, whose ids are their places. */
we_status we_tok_write_merges(we_json_writer *w, const we_scored *pieces, size_t n, we_error *err);

#endif
