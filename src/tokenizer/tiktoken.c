/* SPDX-License-Identifier: Apache-2.0
 * tiktoken.c - ranks in tiktoken's text form, one token a line:
 *
 *     base64 of the token's bytes | space | rank, which is its id
 *
 * The file tells neither how a text is cut before it is merged nor which special tokens there are: both come from a table of
 * families, chosen by what the small files beside it say. Special tokens of tokenizer_config.json come first, the table
 * fills the ids that it leaves open.
 * Inside it is a byte-level BPE as tokenizer.json has it, but with equal ranks for all ways to make the same token.
 * Source: tiktoken/load.py, src/lib.rs; tokenizers of the families' own repositories. */
#include "tokenizer/tokenizer_int.h"

/* ---- Families ---- */

typedef struct tiktoken_family {
    const char *name;
    const char *pattern;
    const char *words[8];           /* any of them in tokenizer_class, auto_map or model_type, or in the file's name */
    bool nfc;                       /* the text is normalized first */
    const char *const *specials;    /* in a row from the first id behind the ranks, or from first_id */
    int32_t n_specials, first_id;   /* first_id 0: behind the ranks */
    const char *reserved;           /* names of those that follow: %d counts ... */
    int32_t reserved_from, n_total; /* ... from here, until there are so many; reserved_from -1: the id itself */
    const char *before[2];          /* what goes before every text */
} tiktoken_family;

/* clang-format off */
#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT2_PATTERN "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define CL100K_PATTERN CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" TAIL
#define QWEN_PATTERN CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" TAIL
#define QWEN35_PATTERN CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|" \
    " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CASED(upper, lower) \
    "[^\\r\\n\\p{L}\\p{N}]?" upper "*" lower "+" CONTRACTION "?|" \
    "[^\\r\\n\\p{L}\\p{N}]?" upper "+" lower "*" CONTRACTION "?|\\p{N}{1,3}|"
#define O200K_PATTERN CASED("[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]") \
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define KIMI_PATTERN "[\\p{Han}]+|" \
    CASED("[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]", "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]") TAIL
/* clang-format on */

static const char *const gpt2_specials[] = { "<|endoftext|>" };
static const char *const cl100k_specials[] = { "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>" };
static const char *const o200k_specials[] = { "<|endoftext|>" };
static const char *const qwen_specials[] = { "<|endoftext|>", "<|im_start|>", "<|im_end|>" };
static const char *const qwen35_specials[] = {
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
    "<tts_text_bos_single>",
    "<|audio_pad|>",
};
static const char *const llama_specials[] = {
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|step_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
};
static const char *const glm_specials[] = {
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
};

static const tiktoken_family families[] = {
    { .name = "Kimi",
      .pattern = KIMI_PATTERN,
      .words = { "kimi", "moonshot", "moonlight", "tiktokentokenizer" },
      .reserved = "<|reserved_token_%d|>",
      .reserved_from = -1,
      .n_total = 256 },
    { .name = "Qwen3.5",
      .pattern = QWEN35_PATTERN,
      .words = { "qwen3_5", "qwen3.5", "qwen3_6", "qwen3.6" },
      .nfc = true,
      .specials = qwen35_specials,
      .n_specials = WE_COUNT(qwen35_specials),
      .n_total = WE_COUNT(qwen35_specials) },
    { .name = "Qwen",
      .pattern = QWEN_PATTERN,
      .words = { "qwen" },
      .nfc = true,
      .specials = qwen_specials,
      .n_specials = WE_COUNT(qwen_specials),
      .reserved = "<|extra_%d|>",
      .n_total = 208 },
    { .name = "GLM-4",
      .pattern = CL100K_PATTERN,
      .words = { "glm" },
      .specials = glm_specials,
      .n_specials = WE_COUNT(glm_specials),
      .n_total = WE_COUNT(glm_specials),
      .before = { "[gMASK]", "<sop>" } },
    { .name = "o200k",
      .pattern = O200K_PATTERN,
      .words = { "o200k", "gpt_oss", "gpt-oss", "llama4" },
      .specials = o200k_specials,
      .n_specials = WE_COUNT(o200k_specials),
      .first_id = 199999,
      .n_total = WE_COUNT(o200k_specials) },
    { .name = "Llama 3",
      .pattern = CL100K_PATTERN,
      .words = { "llama" },
      .specials = llama_specials,
      .n_specials = WE_COUNT(llama_specials),
      .reserved = "<|reserved_special_token_%d|>",
      .reserved_from = 2,
      .n_total = 256,
      .before = { "<|begin_of_text|>" } },
    { .name = "cl100k",
      .pattern = CL100K_PATTERN,
      .words = { "cl100k", "dbrx", "phi3small" },
      .specials = cl100k_specials,
      .n_specials = WE_COUNT(cl100k_specials),
      .first_id = 100257,
      .n_total = WE_COUNT(cl100k_specials) },
    { .name = "GPT-2",
      .pattern = GPT2_PATTERN,
      .words = { "gpt2", "r50k", "p50k" },
      .specials = gpt2_specials,
      .n_specials = WE_COUNT(gpt2_specials),
      .first_id = 50256,
      .n_total = WE_COUNT(gpt2_specials) },
};

static bool file_mentions(const char *file, const char *word) { return strstr(file, word) != NULL; }

/* The class and the model's type count more than the file's name. */
static const tiktoken_family *find_family(const we_tok_hints *h)
{
    for (int by_file = 0; by_file < 2; by_file++)
        for (size_t i = 0; i < WE_COUNT(families); i++)
            for (const char *const *word = families[i].words; *word; word++)
                if (by_file ? file_mentions(h->file, *word) : we_hints_mention(h, *word)) return &families[i];
    return NULL;
}

static we_status unknown_family(const we_tok_hints *h, we_error *err)
{
    we_str class_name = WE_STR("nothing"), type = WE_STR("nothing");
    we_buf known = { 0 };
    we_json_str(we_json_get(h->config, "tokenizer_class"), &class_name);
    we_json_str(we_json_get(h->model, "model_type"), &type);
    for (size_t i = 0; i < WE_COUNT(families); i++) we_buf_printf(&known, "%s%s", i ? ", " : "", families[i].name);
    we_status st =
        we_fail(err, WE_E_UNSUPPORTED,
                "tiktoken's ranks do not say how text is cut, and no known family is named by tokenizer_config.json's "
                "tokenizer_class (%.*s) and auto_map, config.json's model_type (%.*s) or the file's name (known: %s)",
                (int)WE_MIN(class_name.len, 60), class_name.ptr, (int)WE_MIN(type.len, 60), type.ptr,
                known.failed ? "" : known.ptr);
    we_buf_deinit(&known);
    return st;
}

/* ---- Lines ---- */

/* The next line that holds something, cut at its space. */
static bool next_line(we_str file, size_t *at, size_t *number, we_str *token, we_str *rank)
{
    while (*at < file.len) {
        const char *line = file.ptr + *at, *end = memchr(line, '\n', file.len - *at);
        size_t len = end ? (size_t)(end - line) : file.len - *at;
        *at += len + 1;
        ++*number;
        if (len && line[len - 1] == '\r') len--;
        if (len == 0) continue;
        const char *space = memchr(line, ' ', len);
        size_t before = space ? (size_t)(space - line) : len;
        *token = (we_str){ line, before };
        *rank = (we_str){ line + before + (space != NULL), len - before - (space != NULL) };
        return true;
    }
    return false;
}

bool we_is_tiktoken(we_str file)
{
    size_t at = 0, number = 0, n;
    we_str token, rank;
    int64_t value;
    char bytes[1024 + 4];
    if (file.len == 0 || file.ptr[0] == '\n' || !next_line(file, &at, &number, &token, &rank)) return false;
    return token.len && token.len < 1024 && we_parse_i64(rank, &value) && we_base64_decode(token, bytes, &n);
}

static we_status bad_line(size_t number, const char *what, we_error *err)
{
    return we_fail(err, WE_E_FORMAT, "line %zu: %s", number, what);
}

/* Tokens in the byte alphabet of byte-level BPE. */
static we_status read_ranks(we_tok *tok, we_str file, we_error *err)
{
    we_buf text = { 0 }, bytes = { 0 };
    we_str token, rank;
    size_t at = 0, number = 0, n;
    we_status st = WE_OK;
    while (!st && next_line(file, &at, &number, &token, &rank)) {
        int64_t id;
        we_buf_clear(&text);
        we_buf_clear(&bytes);
        if (!we_buf_reserve(&bytes, token.len / 4 * 3 + 4))
            st = we_fail(err, WE_E_NOMEM, "no memory for a token");
        else if (!we_base64_decode(token, bytes.ptr, &n))
            st = bad_line(number, "expected a token in base64", err);
        else if (n == 0)
            st = bad_line(number, "an empty token", err);
        else if (!we_parse_i64(rank, &id) || id < 0 || id >= WE_TOK_MAX_ID)
            st = bad_line(number, "expected a rank from 0 to 4194303 behind the token and a space", err);
        if (st) break;
        we_byte_level_append(&text, (we_str){ bytes.ptr, n });
        if (text.failed)
            st = we_fail(err, WE_E_NOMEM, "no memory for a token");
        else if (we_vocab_find(&tok->vocab, we_buf_str(&text)) >= 0)
            st = bad_line(number, "the token is there twice", err);
        else if (!we_vocab_add(&tok->vocab, we_buf_str(&text), (int32_t)id))
            st = we_fail(err, WE_E_NOMEM, "no memory for the tokens");
    }
    we_buf_deinit(&text);
    we_buf_deinit(&bytes);
    return st;
}

static we_status check_bytes(const we_tok *tok, we_error *err)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[4];
        size_t len = (size_t)we_utf8_encode(we_byte_to_rune((unsigned char)byte), text);
        if (we_vocab_find(&tok->vocab, (we_str){ text, len }) < 0)
            return we_fail(err, WE_E_FORMAT, "the byte 0x%02x has no token: every byte needs one", byte);
    }
    return WE_OK;
}

/* ---- Parts ---- */

static we_status parse_parts(we_tok *tok, const tiktoken_family *f, we_error *err)
{
    we_arena arena = { 0 };
    we_buf buf = { 0 };
    we_json_writer w = { .buf = &buf };
    const we_json *json;
    we_buf_append_str(&buf,
                      WE_STR("{\"cut\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":"
                             "\"Removed\",\"invert\":true,\"pattern\":{\"Regex\":"));
    we_json_write_str(&w, we_str_from(f->pattern));
    we_buf_append_str(&buf, WE_STR("}},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
                                   "\"decode\":{\"type\":\"ByteLevel\"},\"form\":{\"type\":\"NFC\"},"
                                   "\"model\":{\"ignore_merges\":true}}"));
    we_status st = we_buf_status(&buf, err, "the tokenizer's parts");
    if (!st) st = we_json_parse(&arena, we_buf_str(&buf), &json, err);
    if (!st && f->nfc) st = we_tok_parse_normalizers(tok, we_json_get(json, "form"), err);
    if (!st) st = we_tok_parse_pretokenizers(tok, we_json_get(json, "cut"), err);
    if (!st) st = we_tok_parse_decoders(tok, we_json_get(json, "decode"), err);
    if (!st) st = we_bpe_merges_from_ids(tok, err);
    tok->model = &we_model_bpe;
    if (!st) st = tok->model->finish(tok, we_json_get(json, "model"), err);
    we_arena_deinit(&arena);
    we_buf_deinit(&buf);
    return st;
}

static bool id_is_taken(const we_tok *tok, const we_added_new *list, int32_t id)
{
    if (tok->vocab.max_id >= id) return true;
    for (size_t i = 0; i < list->n; i++)
        if (list->tokens[i].id == id) return true;
    return false;
}

static we_status add_known(we_tok *tok, const tiktoken_family *f, we_added_new *list, we_error *err)
{
    const int32_t first = f->first_id ? f->first_id : tok->vocab.max_id + 1;
    we_status st = WE_OK;
    for (int32_t i = 0; i < f->n_total && !st; i++) {
        char name[64];
        int32_t count = f->reserved_from < 0 ? first + i : f->reserved_from + i - f->n_specials;
        if (i < f->n_specials)
            snprintf(name, sizeof(name), "%s", f->specials[i]);
        else /* the families' own formats, with one %d each */
            snprintf(name, sizeof(name), "%.*s%d|>", (int)(strlen(f->reserved) - 4), f->reserved, count);
        we_added added = { .content = we_str_from(name), .id = first + i, .special = true };
        if (id_is_taken(tok, list, added.id) || we_vocab_find(&list->seen, added.content) >= 0) continue;
        st = we_added_push(tok, list, &added, err);
    }
    return st;
}

static we_status set_around(we_tok *tok, const tiktoken_family *f, const we_tok_hints *h, we_error *err)
{
    int32_t before[2], eos = we_tok_id(tok, we_hints_role(h, "eos_token", (we_str){ "", 0 }));
    size_t n = 0;
    bool add_bos = true, add_eos = false;
    we_status st;
    if ((st = we_tok_get_bool(h->config, "add_bos_token", "tokenizer_config.json", &add_bos, err)) ||
        (st = we_tok_get_bool(h->config, "add_eos_token", "tokenizer_config.json", &add_eos, err)))
        return st;
    for (size_t i = 0; i < WE_COUNT(before) && add_bos; i++) {
        int32_t id = f->before[i] ? we_tok_id(tok, we_str_from(f->before[i])) : -1;
        if (id >= 0) before[n++] = id;
    }
    return we_tok_set_around(tok, before, n, &eos, add_eos && eos >= 0, err);
}

we_status we_tok_build_tiktoken(we_tok *tok, we_str file, const we_tok_hints *hints, we_error *err)
{
    const tiktoken_family *f = find_family(hints);
    we_status st;
    if (!f) return unknown_family(hints, err);
    if ((st = read_ranks(tok, file, err)) || (st = check_bytes(tok, err)) || (st = parse_parts(tok, f, err))) return st;
    we_added_new list = { 0 };
    st = we_hints_added(tok, hints, -1, &list, err);
    if (!st) st = add_known(tok, f, &list, err);
    st = we_added_take(tok, &list, st, err);
    if (!st) st = set_around(tok, f, hints, err);
    if (!st)
        we_log(tokenizer, DEBUG, "%s: tiktoken's ranks, %zu tokens, cut as %s cuts", hints->file, tok->vocab.n,
               f->name);
    return st;
}
