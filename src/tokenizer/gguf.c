/* SPDX-License-Identifier: Apache-2.0
 * gguf.c - a tokenizer from a GGUF file's metadata, written as the tokenizer.json and tokenizer_config.json that a folder
 * with the same model has: one way from there on, in place and on import.
 *
 *     tokenizer.ggml.model   "gpt2"   byte-level BPE: tokens and merges; `pre` names the regex that cuts the text first
 *                            "llama"  SentencePiece: tokens and scores, as BPE with byte fallback (merges.c)
 *     .token_type            3 control, 2 unknown: special; 4 user-defined: found whole in the text; 6 a byte
 *
 * Source: docs/gguf.md of ggml-org/ggml; src/llama-vocab.cpp of ggml-org/llama.cpp for `pre` and the defaults; the regexes
 * are those of the tokenizer.json files that the models were published with. */
#include "tokenizer/tokenizer_int.h"

#define PRE "tokenizer.ggml."

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

/* ---- Pre-tokenizers by name ---- */

#define WORDS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define ENGLISH "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define REST " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define MARKED_WORDS "[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+"
#define MARKED_REST " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+"
#define CASED_2 "[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*"
#define REST_SLASH " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

typedef struct pre_kind {
    const char *regex; /* NULL: GPT-2's, which ByteLevel has itself */
    bool digits;       /* cut single digits off before */
    bool nfc, ignore_merges, add_bos;
} pre_kind;

static const pre_kind gpt2 = { NULL, false, false, false, false }, digits = { NULL, true, false, false, false },
                      llama3 = { ENGLISH "|" WORDS "|\\p{N}{1,3}|" REST, false, false, true, true },
                      cl100k = { ENGLISH "|" WORDS "|\\p{N}{1,3}|" REST, false, false, false, false },
                      qwen2 = { ENGLISH "|" WORDS "|\\p{N}|" REST, false, true, false, false },
                      qwen35 = { ENGLISH "|" MARKED_WORDS "|\\p{N}|" MARKED_REST, false, true, false, false },
                      tekken = { CASED "|" CASED_2 "|\\p{N}|" REST_SLASH, false, false, true, true },
                      o200k = { CASED ENGLISH "?|" CASED_2 ENGLISH "?|\\p{N}{1,3}|" REST_SLASH, false, false, false,
                                false };

static const struct {
    const char *name;
    const pre_kind *kind;
} pre_kinds[] = {
    { "llama-bpe", &llama3 }, { "llama3", &llama3 },     { "llama-v3", &llama3 },    { "falcon3", &llama3 },
    { "smaug-bpe", &cl100k }, { "dbrx", &cl100k },       { "olmo", &gpt2 },          { "gpt-2", &gpt2 },
    { "phi-2", &gpt2 },       { "mpt", &gpt2 },          { "qwen2", &qwen2 },        { "deepseek-r1-qwen", &qwen2 },
    { "qwen35", &qwen35 },    { "glm4", &cl100k },       { "chatglm-bpe", &cl100k }, { "megrez", &qwen2 },
    { "tekken", &tekken },    { "gpt-4o", &o200k },      { "llama4", &o200k },       { "smollm", &digits },
    { "command-r", &digits }, { "refact", &digits },     { "starcoder", &digits },   { "codeshell", &digits },
    { "exaone", &digits },    { "minerva-7b", &digits },
};

static const pre_kind *find_pre(const we_gguf *g)
{
    we_str name = WE_STR("missing");
    we_gguf_str(we_gguf_get(g, PRE "pre"), &name);
    for (size_t i = 0; i < WE_COUNT(pre_kinds); i++)
        if (we_str_is(name, pre_kinds[i].name)) return pre_kinds[i].kind;
    we_log(tokenizer, WARN,
           "%s: " PRE
           "pre is %.*s, which this version does not know: text is cut as GPT-2 does, and some texts may get "
           "other tokens than the model learned",
           g->file, (int)WE_MIN(name.len, 60U), name.ptr);
    return &gpt2;
}

/* ---- What the file says ---- */

typedef struct gguf_tok {
    const we_gguf *gguf;
    we_scored *pieces;
    uint8_t *types;
    size_t n;
    bool is_spm, add_bos, add_eos, add_space_prefix;
    const pre_kind *pre; /* of byte-level BPE */
    int32_t bos, eos, unk, pad;
    we_error *err;
} gguf_tok;

static we_status wrong(const gguf_tok *t, const char *key, const char *expected)
{
    char shown[96];
    return we_fail(t->err, WE_E_FORMAT, "%s: %s is %s, expected %s", t->gguf->file, key,
                   we_gguf_shown(we_gguf_get(t->gguf, key), shown), expected);
}

static we_status read_tokens(gguf_tok *t)
{
    const we_gguf_value *v = we_gguf_get(t->gguf, PRE "tokens");
    if (!v || !v->is_array || v->type != WE_GGUF_STRING || v->n == 0 || v->n > WE_TOK_MAX_ID)
        return wrong(t, PRE "tokens", "an array of 1 to 4194304 strings");
    t->n = (size_t)v->n;
    t->pieces = we_calloc(t->n, sizeof *t->pieces);
    t->types = we_calloc(t->n, 1);
    if (!t->pieces || !t->types) return we_fail(t->err, WE_E_NOMEM, "%s: no memory for its tokens", t->gguf->file);
    size_t at = 0;
    for (size_t i = 0; we_gguf_next_str(v, &at, &t->pieces[i].text) && ++i < t->n;) continue;
    for (size_t i = 0; i < t->n; i++)
        if (we_utf8_valid(t->pieces[i].text) != t->pieces[i].text.len)
            return we_fail(t->err, WE_E_FORMAT, "%s: " PRE "tokens[%zu] is not UTF-8", t->gguf->file, i);
    return WE_OK;
}

/* An array beside the tokens: as many, or not there. */
static we_status read_beside(const gguf_tok *t, const char *key, const we_gguf_value **out)
{
    *out = we_gguf_get(t->gguf, key);
    double x;
    if (*out && ((*out)->n != t->n || !we_gguf_f64(*out, 0, &x)))
        return wrong(t, key, "as many numbers as there are tokens");
    return WE_OK;
}

static we_status read_types(gguf_tok *t)
{
    const we_gguf_value *types, *scores;
    we_status st;
    if ((st = read_beside(t, PRE "token_type", &types)) || (st = read_beside(t, PRE "scores", &scores))) return st;
    if (t->is_spm && !scores) return wrong(t, PRE "scores", "a number for each token");
    for (size_t i = 0; i < t->n; i++) {
        int64_t type = TYPE_NORMAL;
        double score = 0;
        we_gguf_i64(types, i, &type);
        we_gguf_f64(scores, i, &score);
        t->types[i] = type >= TYPE_NORMAL && type <= TYPE_BYTE ? (uint8_t)type : TYPE_NORMAL;
        t->pieces[i].score = (float)score;
    }
    return WE_OK;
}

/* A token's id, -1 where the file names none. */
static we_status read_id(const gguf_tok *t, const char *key, int32_t *out)
{
    int64_t id;
    *out = -1;
    const we_gguf_value *v = we_gguf_get(t->gguf, key);
    if (!v) return WE_OK;
    if (v->is_array || !we_gguf_i64(v, 0, &id)) return wrong(t, key, "a token's id");
    if (id == -1 || id == UINT32_MAX) return WE_OK; /* some writers' none */
    if (id < 0 || (uint64_t)id >= t->n) return wrong(t, key, "the id of one of its tokens");
    *out = (int32_t)id;
    return WE_OK;
}

static we_status read_flag(const gguf_tok *t, const char *key, bool fallback, bool *out)
{
    *out = fallback;
    return !we_gguf_get(t->gguf, key) || we_gguf_bool(we_gguf_get(t->gguf, key), out) ? WE_OK
                                                                                      : wrong(t, key, "true or false");
}

static we_status read_all(gguf_tok *t)
{
    we_str model;
    if (!we_gguf_str(we_gguf_get(t->gguf, PRE "model"), &model)) return wrong(t, PRE "model", "\"gpt2\" or \"llama\"");
    t->is_spm = we_str_is(model, "llama");
    if (!t->is_spm && !we_str_is(model, "gpt2"))
        return we_fail(t->err, WE_E_UNSUPPORTED,
                       "%s: " PRE "model is \"%.*s\"; this version reads \"gpt2\" and \"llama\"", t->gguf->file,
                       (int)WE_MIN(model.len, 60U), model.ptr);
    if (!t->is_spm) t->pre = find_pre(t->gguf);
    we_status st;
    if ((st = read_tokens(t)) || (st = read_types(t)) || (st = read_id(t, PRE "bos_token_id", &t->bos)) ||
        (st = read_id(t, PRE "eos_token_id", &t->eos)) || (st = read_id(t, PRE "unknown_token_id", &t->unk)) ||
        (st = read_id(t, PRE "padding_token_id", &t->pad)) ||
        (st = read_flag(t, PRE "add_bos_token", t->is_spm || t->pre->add_bos, &t->add_bos)) ||
        (st = read_flag(t, PRE "add_eos_token", false, &t->add_eos)))
        return st;
    return read_flag(t, PRE "add_space_prefix", t->is_spm, &t->add_space_prefix);
}

/* ---- tokenizer.json ---- */

static void write_text(we_json_writer *w, const char *key, we_str v)
{
    we_json_key(w, key);
    we_json_write_str(w, v);
}
static void write_name(we_json_writer *w, const char *key, const char *v) { write_text(w, key, we_str_from(v)); }
static void write_bool(we_json_writer *w, const char *key, bool v)
{
    we_json_key(w, key);
    we_json_write_bool(w, v);
}
static void write_null(we_json_writer *w, const char *key)
{
    we_json_key(w, key);
    we_json_write_null(w);
}
static void begin_typed(we_json_writer *w, const char *type)
{
    we_json_begin_object(w);
    write_name(w, "type", type);
}
static void write_raw(we_json_writer *w, const char *key, const char *json)
{
    we_json_key(w, key);
    we_json_write_raw(w, we_str_from(json));
}

static bool is_special(const gguf_tok *t, size_t i)
{
    const int32_t id = (int32_t)i;
    return t->types[i] == TYPE_CONTROL || t->types[i] == TYPE_UNKNOWN || id == t->bos || id == t->eos;
}

/* Phi-3's markers swallow the white space behind them, which the metadata does not say. */
static bool swallows(const gguf_tok *t, we_str text)
{
    we_str arch;
    return t->is_spm && we_gguf_str(we_gguf_get(t->gguf, "general.architecture"), &arch) && we_str_is(arch, "phi3") &&
           !we_str_is(text, "<unk>") && !we_str_is(text, "<s>") && !we_str_is(text, "<|endoftext|>");
}

static void write_added(const gguf_tok *t, we_json_writer *w)
{
    we_json_key(w, "added_tokens");
    we_json_begin_array(w);
    for (size_t i = 0; i < t->n; i++) {
        const bool special = is_special(t, i);
        const we_str text = t->pieces[i].text;
        if ((!special && t->types[i] != TYPE_USER_DEFINED) || text.len == 0) continue;
        we_json_begin_object(w);
        we_json_key(w, "id");
        we_json_write_i64(w, (int64_t)i);
        write_text(w, "content", text);
        write_bool(w, "single_word", false);
        write_bool(w, "lstrip", false);
        write_bool(w, "rstrip", special && swallows(t, text));
        write_bool(w, "normalized", false);
        write_bool(w, "special", special);
        we_json_end_object(w);
    }
    we_json_end_array(w);
}

static void write_normalizer(const gguf_tok *t, we_json_writer *w)
{
    static const char spaces[] = "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}";
    if (!t->is_spm) {
        write_raw(w, "normalizer", t->pre->nfc ? "{\"type\":\"NFC\"}" : "null");
        return;
    }
    we_json_key(w, "normalizer");
    begin_typed(w, "Sequence");
    we_json_key(w, "normalizers");
    we_json_begin_array(w);
    if (t->add_space_prefix) we_json_write_raw(w, WE_STR("{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"}"));
    we_json_write_raw(w, we_str_from(spaces));
    we_json_end_array(w);
    we_json_end_object(w);
}

static void write_pre_tokenizer(const gguf_tok *t, we_json_writer *w)
{
    if (t->is_spm) {
        write_null(w, "pre_tokenizer");
        return;
    }
    we_json_key(w, "pre_tokenizer");
    begin_typed(w, "Sequence");
    we_json_key(w, "pretokenizers");
    we_json_begin_array(w);
    if (t->pre->digits) we_json_write_raw(w, WE_STR("{\"type\":\"Digits\",\"individual_digits\":true}"));
    if (t->pre->regex) {
        begin_typed(w, "Split");
        we_json_key(w, "pattern");
        we_json_begin_object(w);
        write_name(w, "Regex", t->pre->regex);
        we_json_end_object(w);
        write_name(w, "behavior", "Isolated");
        write_bool(w, "invert", false);
        we_json_end_object(w);
    }
    begin_typed(w, "ByteLevel");
    write_bool(w, "add_prefix_space", t->add_space_prefix);
    write_bool(w, "trim_offsets", true);
    write_bool(w, "use_regex", !t->pre->regex);
    we_json_end_object(w);
    we_json_end_array(w);
    we_json_end_object(w);
}

static void write_template_token(const gguf_tok *t, we_json_writer *w, int32_t id)
{
    we_json_begin_object(w);
    we_json_key(w, "SpecialToken");
    we_json_begin_object(w);
    write_text(w, "id", t->pieces[id].text);
    we_json_key(w, "type_id");
    we_json_write_i64(w, 0);
    we_json_end_object(w);
    we_json_end_object(w);
}

static void write_template(const gguf_tok *t, we_json_writer *w, const char *key, int32_t bos, int32_t eos)
{
    const bool pair = strcmp(key, "pair") == 0;
    we_json_key(w, key);
    we_json_begin_array(w);
    for (int part = 0; part < 1 + pair; part++) {
        if (bos >= 0) write_template_token(t, w, bos);
        we_json_write_raw(w, part ? WE_STR("{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}")
                                  : WE_STR("{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"));
        if (eos >= 0) write_template_token(t, w, eos);
    }
    we_json_end_array(w);
}

static void write_post_processor(const gguf_tok *t, we_json_writer *w)
{
    const int32_t ids[] = { t->add_bos ? t->bos : -1, t->add_eos ? t->eos : -1 };
    if (ids[0] < 0 && ids[1] < 0) {
        write_null(w, "post_processor");
        return;
    }
    we_json_key(w, "post_processor");
    begin_typed(w, "TemplateProcessing");
    write_template(t, w, "single", ids[0], ids[1]);
    write_template(t, w, "pair", ids[0], ids[1]);
    we_json_key(w, "special_tokens");
    we_json_begin_object(w);
    for (int i = 0; i < 2; i++) {
        if (ids[i] < 0 || (i == 1 && ids[1] == ids[0])) continue;
        we_json_write_key(w, t->pieces[ids[i]].text);
        we_json_begin_object(w);
        write_text(w, "id", t->pieces[ids[i]].text);
        we_json_key(w, "ids");
        we_json_begin_array(w);
        we_json_write_i64(w, ids[i]);
        we_json_end_array(w);
        we_json_key(w, "tokens");
        we_json_begin_array(w);
        we_json_write_str(w, t->pieces[ids[i]].text);
        we_json_end_array(w);
        we_json_end_object(w);
    }
    we_json_end_object(w);
    we_json_end_object(w);
}

static void write_decoder(const gguf_tok *t, we_json_writer *w)
{
    static const char spm[] =
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"},"
        "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}",
                      strip[] = ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}";
    if (!t->is_spm) {
        write_raw(w, "decoder",
                  "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}");
        return;
    }
    char json[256];
    snprintf(json, sizeof json, "%s%s]}", spm, t->add_space_prefix ? strip : "");
    write_raw(w, "decoder", json);
}

static we_status write_gguf_merges(const gguf_tok *t, we_json_writer *w)
{
    if (t->is_spm) return we_tok_write_merges(w, t->pieces, t->n, t->err);
    const we_gguf_value *v = we_gguf_get(t->gguf, PRE "merges");
    if (!v || !v->is_array || v->type != WE_GGUF_STRING) return wrong(t, PRE "merges", "an array of strings");
    size_t at = 0;
    we_str text;
    we_json_begin_array(w);
    while (we_gguf_next_str(v, &at, &text)) we_json_write_str(w, text);
    we_json_end_array(w);
    return WE_OK;
}

static we_status write_model(const gguf_tok *t, we_json_writer *w)
{
    we_json_key(w, "model");
    begin_typed(w, "BPE");
    write_null(w, "dropout");
    if (t->is_spm && t->unk >= 0)
        write_text(w, "unk_token", t->pieces[t->unk].text);
    else
        write_null(w, "unk_token");
    write_null(w, "continuing_subword_prefix");
    write_null(w, "end_of_word_suffix");
    write_bool(w, "fuse_unk", t->is_spm);
    write_bool(w, "byte_fallback", t->is_spm);
    write_bool(w, "ignore_merges", !t->is_spm && t->pre->ignore_merges);
    we_json_key(w, "vocab");
    we_json_begin_object(w);
    for (size_t i = 0; i < t->n; i++) {
        we_json_write_key(w, t->pieces[i].text);
        we_json_write_i64(w, (int64_t)i);
    }
    we_json_end_object(w);
    we_json_key(w, "merges");
    const we_status st = write_gguf_merges(t, w);
    we_json_end_object(w);
    return st;
}

static we_status write_tokenizer(const gguf_tok *t, we_buf *out)
{
    we_json_writer w = { .buf = out };
    we_json_begin_object(&w);
    write_name(&w, "version", "1.0");
    write_null(&w, "truncation");
    write_null(&w, "padding");
    write_added(t, &w);
    write_normalizer(t, &w);
    write_pre_tokenizer(t, &w);
    write_post_processor(t, &w);
    write_decoder(t, &w);
    const we_status st = write_model(t, &w);
    we_json_end_object(&w);
    return st ? st : we_buf_status(out, t->err, "tokenizer.json");
}

/* ---- tokenizer_config.json ---- */

static void write_role(const gguf_tok *t, we_json_writer *w, const char *role, int32_t id)
{
    if (id >= 0) write_text(w, role, t->pieces[id].text);
}

/* One template is a string; named ones are a list, the default among them. */
static void write_templates(const gguf_tok *t, we_json_writer *w)
{
    we_str source, name;
    const we_gguf_value *names = we_gguf_get(t->gguf, "tokenizer.chat_templates");
    const bool has_default = we_gguf_str(we_gguf_get(t->gguf, "tokenizer.chat_template"), &source);
    if (!names || !names->is_array || names->type != WE_GGUF_STRING) {
        if (has_default) write_text(w, "chat_template", source);
        return;
    }
    we_json_key(w, "chat_template");
    we_json_begin_array(w);
    if (has_default) {
        we_json_begin_object(w);
        write_name(w, "name", "default");
        write_text(w, "template", source);
        we_json_end_object(w);
    }
    for (size_t at = 0; we_gguf_next_str(names, &at, &name);) {
        char key[160];
        snprintf(key, sizeof key, "tokenizer.chat_template.%.*s", (int)WE_MIN(name.len, 100U), name.ptr);
        if (we_str_is(name, "default") || !we_gguf_str(we_gguf_get(t->gguf, key), &source)) continue;
        we_json_begin_object(w);
        write_text(w, "name", name);
        write_text(w, "template", source);
        we_json_end_object(w);
    }
    we_json_end_array(w);
}

static we_status write_config(const gguf_tok *t, we_buf *out)
{
    we_json_writer w = { .buf = out, .indent = 2 };
    we_json_begin_object(&w);
    write_bool(&w, "add_bos_token", t->add_bos);
    write_bool(&w, "add_eos_token", t->add_eos);
    write_role(t, &w, "bos_token", t->bos);
    write_role(t, &w, "eos_token", t->eos);
    write_role(t, &w, "unk_token", t->unk);
    write_role(t, &w, "pad_token", t->pad);
    write_bool(&w, "clean_up_tokenization_spaces", false);
    write_name(&w, "tokenizer_class", "PreTrainedTokenizerFast");
    write_templates(t, &w);
    we_json_end_object(&w);
    return we_buf_status(out, t->err, "tokenizer_config.json");
}

/* ---- Doors ---- */

bool we_tok_in_gguf(const we_gguf *gguf)
{
    we_str model;
    return we_gguf_str(we_gguf_get(gguf, PRE "model"), &model) && !we_str_is(model, "none");
}

we_status we_tok_from_gguf(const we_gguf *gguf, we_buf *tokenizer_json, we_buf *tokenizer_config_json, we_error *err)
{
    gguf_tok t = { .gguf = gguf, .err = err };
    we_status st = read_all(&t);
    if (!st && tokenizer_json) st = write_tokenizer(&t, tokenizer_json);
    if (!st && tokenizer_config_json) st = write_config(&t, tokenizer_config_json);
    we_free(t.pieces);
    we_free(t.types);
    return st;
}

size_t we_tok_gguf_eos(const we_gguf *gguf, int64_t ids[WE_TOK_GGUF_EOS])
{
    static const char *const keys[] = { PRE "eos_token_id", PRE "eot_token_id", PRE "eom_token_id" };
    static_assert(WE_COUNT(keys) == WE_TOK_GGUF_EOS, "an id for each key");
    size_t n = 0;
    for (size_t i = 0; i < WE_COUNT(keys); i++) {
        int64_t id;
        bool seen = false;
        if (!we_gguf_i64(we_gguf_get(gguf, keys[i]), 0, &id) || id < 0 || id > INT32_MAX) continue;
        for (size_t k = 0; k < n; k++) seen |= ids[k] == id;
        if (!seen) ids[n++] = id;
    }
    return n;
}
