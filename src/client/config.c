/* SPDX-License-Identifier: Apache-2.0
 * config.c - the one table of variables, and where their values come from: the environment, ./.env, the user's file
 * `whisperengine/env` in the configuration directory, the default; the first that has one. Values of files are laid below the
 * environment (base/env.c), so every room reads them with we_env and nobody's environment is written.
 *
 * What always holds: ./.env is somebody's who wrote the folder, not surely the user's: it counts only where it belongs to the
 * user and nobody else may write it, sets nothing but rows of this table, never what names a program, and is not followed to an
 * address off this machine without a yes. Values are checked where they are used: a wrong one stands in nobody's way
 * who does not need it. */
#include "client/client_int.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- The table ---- */

typedef enum type { TEXT, WHOLE, NUMBER, YES_NO, BITS, KERNELS, URL, HOST, FOLDER, LEVELS, CHAIN } type;
enum { SECRET = 1, TOLD_ONLY = 2, NOT_IN_DOTENV = 4, MAY_BE_KEPT = 8 /* in the secret service */ };

typedef struct row {
    const char *name;
    type type;
    int flags;
    double min, max;
    const char *usual; /* what counts where nothing is set, for people */
    const char *help;
} row;

static const row rows[] = {
    { "LLM_CHAT_API_URL", URL, 0, 0, 0, "", "who answers run and chat, where --model is not given" },
    { "LLM_CHAT_API_KEY", TEXT, SECRET | MAY_BE_KEPT, 0, 0, "",
      "API key, sent only to the server of LLM_CHAT_API_URL" },
    { "OPENAI_API_KEY", TEXT, SECRET | MAY_BE_KEPT, 0, 0, "", "API key, sent only to https://api.openai.com" },
    { "LM_API_TOKEN", TEXT, SECRET, 0, 0, "", "API token of the LM Studio on this machine" },
    { "MLX_MODEL_NAME", TEXT, 0, 0, 0, "default", "the model, where neither --model nor LLM_CHAT_API_URL names one" },
    { "MLX_MAX_TOKENS", WHOLE, 0, 1, 2147483647, "to the context's end", "most tokens of an answer" },
    { "MLX_TEMPERATURE", NUMBER, 0, 0, 100, "the model's", "0 takes the likeliest token each time" },
    { "MLX_TOP_P", NUMBER, 0, 0, 1, "the model's", "sample from the likeliest tokens that sum to this" },
    { "MLX_PROMPT_LOOKUP", YES_NO, 0, 0, 0, "false",
      "guess tokens from earlier text: the same answer, sooner where it repeats its prompt" },
    { "MLX_DRAFT_MODEL", TEXT, 0, 0, 0, "",
      "a smaller model of the same vocabulary that guesses tokens likewise; left out where it does not fit" },
    { "MLX_CONTEXT_LENGTH", WHOLE, 0, 1, 2147483647, "the model's, at most 8192",
      "most tokens of a conversation, where the model takes so many" },
    { "MLX_KV_BITS", BITS, 0, 0, 0, "16",
      "bits of each cached key and value: fewer hold longer chats in the same memory, 4 at some cost in quality" },
    { "MLX_THREADS", WHOLE, 0, 1, 1024, "one for each core", "worker threads of the CPU" },
    { "MLX_KERNELS", KERNELS, 0, 0, 0, "the best for this CPU",
      "which instruction set computes; MLX's GPU is left alone then" },
    { "MLX_UNLOAD_MINUTES", WHOLE, 0, 1, 100000, "never",
      "the desktop program gives the model's memory back after so long without a question" },
    { "LOCAL_MODELS_DIR", FOLDER, 0, 0, 0, "./models, else the user's data directory",
      "models lie in mlx/ below it, GGUF files there or in it" },
    { "MLX_MEMORY_POOL_SIZE", WHOLE, 0, 1, 16777216, "no limit", "most MB for weights, KV cache and scratch together" },
    { "MLX_BATCH_SIZE", WHOLE, 0, 1, 16, "1", "sequences decoded together, where several are at hand (bench)" },
    { "MLX_QUANTIZATION", YES_NO, 0, 0, 0, "false",
      "quantize unquantized models to 4 bits when they load; kept in the cache" },
    { "FALLBACK_CHAIN", CHAIN, 0, 0, 0, "mlx,lmstudio,ollama,llamacpp,transformers",
      "who takes over where the one that answers fails, in this order; names left out come behind" },
    { "FALLBACK_MODEL_MLX", TEXT, 0, 0, 0, "", "the model MLX answers with in place of one that it does not have" },
    { "FALLBACK_MODEL_LMSTUDIO", TEXT, 0, 0, 0, "", "likewise LM Studio" },
    { "FALLBACK_MODEL_OLLAMA", TEXT, 0, 0, 0, "", "likewise Ollama" },
    { "FALLBACK_MODEL_LLAMACPP", TEXT, 0, 0, 0, "", "likewise llama-cpp-python: a GGUF file" },
    { "FALLBACK_MODEL_TRANSFORMERS", TEXT, 0, 0, 0, "", "likewise Transformers: ORG/NAME or a folder" },
    { "OLLAMA_HOST", HOST, 0, 0, 0, "127.0.0.1:11434", "where Ollama answers" },
    { "LMSTUDIO_HOST", HOST, 0, 0, 0, "127.0.0.1:1234", "where LM Studio answers" },
    { "OLLAMA_MODELS", FOLDER, 0, 0, 0, "~/.ollama/models", "where Ollama's downloads are found" },
    { "WE_PYTHON", TEXT, NOT_IN_DOTENV, 0, 0, "",
      "a Python with llama-cpp-python or Transformers, where neither VIRTUAL_ENV's nor python3 has it" },
    { "WE_LOG", LEVELS, 0, 0, 0, "warn", "what is logged: LEVEL or MODULE=LEVEL, comma-separated" },
    { "HF_HOME", FOLDER, TOLD_ONLY, 0, 0, "~/.cache/huggingface", "where the Hugging Face cache is" },
    { "HF_HUB_CACHE", FOLDER, TOLD_ONLY, 0, 0, "$HF_HOME/hub", "its models, where they lie elsewhere" },
    { "HF_ENDPOINT", TEXT, TOLD_ONLY, 0, 0, "https://huggingface.co", "the hub that models are pulled from" },
    { "HF_TOKEN", TEXT, TOLD_ONLY | SECRET, 0, 0, "", "token for the hub" },
    { "HF_HUB_OFFLINE", YES_NO, TOLD_ONLY, 0, 0, "false", "never ask the hub" },
};
#define N_ROWS WE_COUNT(rows)

/* clang-format off */
#define URLS "mlx://NAME, lmstudio://NAME, ollama://NAME, llamacpp://FILE, transformers://NAME or http(s)://HOST/v1"
static const char *const ranges[] = {
    [TEXT] = "a text", [WHOLE] = "a whole number", [NUMBER] = "a number", [YES_NO] = "true or false", [URL] = URLS,
    [HOST] = "HOST:PORT", [FOLDER] = "a folder", [LEVELS] = "error, warn, info, debug, trace or off",
    [CHAIN] = "names out of mlx, lmstudio, ollama, llamacpp and transformers, comma-separated, each once",
};
/* clang-format on */

static const char *const word_lists[CHAIN + 1] = {
    [BITS] = "16|8|4", [KERNELS] = "reference|avx2|avxvnni|avx512|avx512bf16|neon|neoni8mm"
};

static bool is_word(const char *list, we_str value)
{
    for (const char *p = list; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (we_str_eq(value, (we_str){ p, strcspn(p, "|") })) return true;
    return false;
}

static size_t find_row(we_str name) /* N_ROWS: none */
{
    size_t i = 0;
    while (i < N_ROWS && !we_str_is(name, rows[i].name)) i++;
    return i;
}

static void list_words(const char *words, char out[160]) /* "16|8|4": "16, 8 or 4" */
{
    size_t n = 0;
    for (const char *p = words, *bar; p && n < 160; p = bar ? bar + 1 : NULL) {
        bar = strchr(p, '|');
        const char *between = !bar ? "" : strchr(bar + 1, '|') ? ", " : " or ";
        n += (size_t)snprintf(out + n, 160 - n, "%.*s%s", (int)strcspn(p, "|"), p, between);
    }
}

static const char *range_text(const row *r, char out[160])
{
    const char *words = word_lists[r->type];
    if (r->type == WHOLE || r->type == NUMBER)
        snprintf(out, 160, "%s, %.10g to %.10g", ranges[r->type], r->min, r->max);
    else if (words)
        list_words(words, out);
    else
        snprintf(out, 160, "%s", ranges[r->type]);
    return out;
}

/* ---- What was read ---- */

typedef struct held { /* of a row */
    we_config_source source;
    const char *path; /* of its file */
    bool laid;
    const char *refused; /* a value of ./.env that was not followed */
} held;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static held state[N_ROWS];

static const char *source_text(const held *h)
{
    return h->source == WE_CONFIG_ENVIRONMENT ? "environment" : h->source == WE_CONFIG_DEFAULT ? "default" : h->path;
}

static bool in_environment(const row *r)
{
    const char *value = getenv(r->name);
    return value && value[0];
}

/* The row's value and where it comes from; NULL where it is not set. */
static const char *value_of(size_t i, held *from)
{
    const char *value = we_env(rows[i].name);
    pthread_mutex_lock(&lock);
    *from = state[i];
    pthread_mutex_unlock(&lock);
    if (in_environment(&rows[i]))
        from->source = WE_CONFIG_ENVIRONMENT;
    else if (!value)
        from->source = WE_CONFIG_DEFAULT;
    return value;
}

/* ---- Checking ---- */

static bool read_yes_no(we_str v, bool *out)
{
    static const struct {
        const char *text;
        bool value;
    } words[] = { { "true", true },   { "1", true },  { "yes", true }, { "on", true },
                  { "false", false }, { "0", false }, { "no", false }, { "off", false } };
    for (size_t i = 0; i < WE_COUNT(words); i++)
        if (v.len == strlen(words[i].text) && strncasecmp(v.ptr, words[i].text, v.len) == 0)
            return *out = words[i].value, true;
    return false;
}

/* Levels are checked by a look at each part; setting them would be a deed. */
static bool are_levels(const char *value)
{
    static const char *const levels[] = { "error", "warn", "info", "debug", "trace", "off" };
    for (const char *p = value;; p++) {
        const size_t len = strcspn(p, ",");
        const char *equals = memchr(p, '=', len);
        const we_str level = equals ? (we_str){ equals + 1, len - (size_t)(equals + 1 - p) } : (we_str){ p, len };
        bool known = false;
        for (size_t i = 0; i < WE_COUNT(levels); i++) known = known || we_str_is(level, levels[i]);
        if (!known) return false;
        if (!*(p += len)) return true;
    }
}

static we_status check(const row *r, const char *value, const char *source, we_error *err)
{
    char range[160];
    const we_str v = we_str_from(value);
    int64_t whole = 0;
    double number = 0;
    bool yes, local, ok = true;
    we_error why;
    we_backend_target target;
    we_backend_kind chain[WE_BACKEND_CHAIN];
    switch (r->type) {
    case WHOLE: ok = we_parse_i64(v, &whole) && (double)whole >= r->min && (double)whole <= r->max; break;
    case NUMBER: ok = we_parse_f64(v, &number) && number >= r->min && number <= r->max; break;
    case YES_NO: ok = read_yes_no(v, &yes); break;
    case BITS:
    case KERNELS: ok = is_word(word_lists[r->type], v); break;
    case LEVELS: ok = are_levels(value); break;
    case CHAIN: ok = !we_backend_chain_parse(value, chain, &why); break;
    case HOST:
        if (we_backend_host_check(r->name, value, &local, &why))
            return we_fail(err, WE_E_ARG, "%s (%s)", why.message, source);
        break;
    case URL:
        if (!we_backend_target_parse(&target, value, &why)) {
            we_backend_target_deinit(&target);
            break;
        }
        return we_fail(err, why.status == WE_E_NOMEM ? WE_E_NOMEM : WE_E_ARG, "%s (%s): %s", r->name, source,
                       why.message);
    case TEXT:
    case FOLDER: break;
    }
    if (ok) return WE_OK;
    return we_fail(err, WE_E_ARG, "%s is '%s' (%s): expected %s", r->name, value, source, range_text(r, range));
}

/* *value NULL: not set. */
static we_status checked(const char *name, const char **value, we_error *err)
{
    held from;
    const size_t i = find_row(we_str_from(name));
    *value = value_of(i, &from);
    return *value ? check(&rows[i], *value, source_text(&from), err) : WE_OK;
}

we_status we_config_i64(const char *name, int64_t *out, we_error *err)
{
    const char *value;
    const we_status st = checked(name, &value, err);
    if (!st && value) we_parse_i64(we_str_from(value), out);
    return st;
}

we_status we_config_f64(const char *name, double *out, we_error *err)
{
    const char *value;
    const we_status st = checked(name, &value, err);
    if (!st && value) we_parse_f64(we_str_from(value), out);
    return st;
}

we_status we_config_bool(const char *name, bool *out, we_error *err)
{
    const char *value;
    const we_status st = checked(name, &value, err);
    if (!st && value) read_yes_no(we_str_from(value), out);
    return st;
}

we_status we_config_str(const char *name, const char **out, we_error *err)
{
    const char *value;
    const we_status st = checked(name, &value, err);
    if (!st && value) *out = value;
    return st;
}

we_status we_config_chain(we_backend_kind out[WE_BACKEND_CHAIN], we_error *err)
{
    const char *value;
    const we_status st = checked("FALLBACK_CHAIN", &value, err);
    return st ? st : we_backend_chain_parse(value, out, err);
}

/* ---- Files ---- */

#define MAX_FILE ((size_t)1 << 20)

/* Why a file's values don't count; NULL: they do. Links of the user's own folders are followed, those of a foreign one not. */
static const char *read_trusted(const char *path, bool follow, we_buf *out)
{
    struct stat st;
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
    int fd = open(path, flags | (follow ? 0 : O_NOFOLLOW));
    const bool is_link = fd < 0 && errno == ELOOP && !follow;
    if (is_link) fd = open(path, flags);
    if (fd < 0) return is_link ? "it is a link" : errno == ENOENT || errno == ENOTDIR ? "" : "it can't be read";
    const char *problem = is_link                            ? "it is a link"
                          : fstat(fd, &st) != 0              ? "it can't be read"
                          : !S_ISREG(st.st_mode)             ? "it is no file"
                          : st.st_uid != geteuid()           ? "it belongs to another user"
                          : st.st_mode & (S_IWGRP | S_IWOTH) ? "others may write to it (chmod go-w)"
                          : (size_t)st.st_size > MAX_FILE    ? "it is larger than 1 MiB"
                                                             : NULL;
    char bytes[4096];
    ssize_t n = 0; /* what may not count is read too: whether it is about us decides if anybody hears of it */
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        while (out->len <= MAX_FILE && (n = read(fd, bytes, sizeof bytes)) > 0) we_buf_append(out, bytes, (size_t)n);
    close(fd);
    return !problem && n < 0 ? "it can't be read" : problem;
}

typedef struct reading {
    const char *path;
    we_config_source source;
    const we_config_options *options;
    char *values[N_ROWS]; /* owned */
    we_config_source sources[N_ROWS];
    char *refused[N_ROWS];
    size_t n_known;
    bool out_of_memory;
} reading;

static void WE_PRINTF(2, 3) tell(const reading *r, const char *format, ...)
{
    char raw[1024], text[1024];
    va_list args;
    if (!r->options->on_note) return;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    we_str_clean(text, sizeof text, we_str_from(raw));
    r->options->on_note(r->options->user, text);
}

static void keep(reading *r, char **place, we_str value)
{
    we_free(*place);
    *place = we_strndup(value.ptr, value.len);
    r->out_of_memory = r->out_of_memory || !*place;
}

/* Does the value lead to another machine? What can't be read leads nowhere. */
static bool leads_away(const row *row_, const char *value)
{
    bool local = true;
    we_backend_target target;
    if (row_->type == HOST && we_backend_host_check(row_->name, value, &local, NULL)) return false;
    if (row_->type == URL && !we_backend_target_parse(&target, value, NULL)) {
        local = target.local;
        we_backend_target_deinit(&target);
    }
    return !local;
}

static bool count_known(void *user, const we_envline *line)
{
    ((reading *)user)->n_known += find_row(line->key) < N_ROWS;
    return true;
}

static bool take_line(void *user, const we_envline *line)
{
    reading *r = user;
    const size_t i = find_row(line->key);
    const bool users = r->source == WE_CONFIG_USER;
    if (line->problem && (users || i < N_ROWS))
        tell(r, "%s: line %zu is left out: %s", r->path, line->number, line->problem);
    else if (i == N_ROWS && users)
        tell(r, "%s: line %zu is left out: %.*s is not a variable of ours", r->path, line->number,
             (int)WE_MIN(line->key.len, (size_t)80), line->key.ptr);
    if (line->problem || i == N_ROWS) return true;
    if (rows[i].flags & (users ? TOLD_ONLY : TOLD_ONLY | NOT_IN_DOTENV)) {
        tell(r, "%s: line %zu is left out: %s counts only in the environment", r->path, line->number, rows[i].name);
        return true;
    }
    if (!users && we_str_is(line->value, WE_IN_SECRET_SERVICE)) { /* a folder asks for a key of the user's */
        tell(r, "%s: line %zu is left out: the secret service is not asked for a ./.env", r->path, line->number);
        return true;
    }
    if (line->value.len == 0) return true; /* set to nothing is not set, as in the environment */
    keep(r, &r->values[i], line->value);
    r->sources[i] = r->source;
    return !r->out_of_memory;
}

static we_status read_source(reading *r, const char *path, we_config_source source, we_error *err)
{
    we_buf text = { 0 };
    r->path = path;
    r->source = source;
    r->n_known = 0;
    const char *problem = read_trusted(path, source == WE_CONFIG_USER, &text);
    we_status st = we_buf_status(&text, err, "a configuration file");
    if (!st && text.len) st = we_envfile_parse(we_buf_str(&text), count_known, r, err);
    if (!st && problem && problem[0] && (r->n_known || source == WE_CONFIG_USER))
        tell(r, "%s is not read: %s", path, problem);
    if (!st && !problem) st = we_envfile_parse(we_buf_str(&text), take_line, r, err);
    we_buf_deinit(&text);
    return !st && r->out_of_memory ? we_fail(err, WE_E_NOMEM, "no memory for the configuration") : st;
}

/* Values of ./.env that lead away need a yes. */
static void hold_back(reading *r)
{
    char question[512];
    for (size_t i = 0; i < N_ROWS; i++) {
        if (!r->values[i] || r->sources[i] != WE_CONFIG_DOTENV || in_environment(&rows[i])) continue;
        if (!leads_away(&rows[i], r->values[i])) continue;
        snprintf(question, sizeof question, "./.env sets %s=%s, which is not this machine. Follow it?", rows[i].name,
                 r->values[i]);
        if (r->options->confirm && r->options->confirm(r->options->user, question)) continue;
        r->refused[i] = r->values[i];
        r->values[i] = NULL;
    }
}

static void announce(reading *r)
{
    we_buf names = { 0 };
    for (size_t i = 0; i < N_ROWS; i++) {
        if (r->refused[i])
            tell(
                r,
                "./.env: %s leads to another machine and is not followed; set it in the environment or with 'whisperengine "
                "config set' if you mean it",
                rows[i].name);
        if (r->values[i] && r->sources[i] == WE_CONFIG_DOTENV && !in_environment(&rows[i]))
            we_buf_printf(&names, "%s%s", names.len ? ", " : "", rows[i].name);
    }
    if (names.len) tell(r, "./.env sets %s", names.ptr);
    we_buf_deinit(&names);
}

/* A copy that stays for the process's life, as what was handed out must; one of each text. NULL: memory is out. Under the lock. */
static const char *kept(const char *text)
{
    static struct kept_text {
        struct kept_text *next;
        char text[];
    } * all;
    for (const struct kept_text *k = all; k; k = k->next)
        if (strcmp(k->text, text) == 0) return k->text;
    const size_t len = strlen(text) + 1;
    struct kept_text *k = we_malloc(sizeof *k + len);
    if (!k) return NULL;
    memcpy(k->text, text, len);
    k->next = all;
    all = k;
    return k->text;
}

static bool lay(const reading *r, const char *user_file)
{
    pthread_mutex_lock(&lock);
    const char *const user_path = kept(user_file);
    bool ok = user_path != NULL;
    for (size_t i = 0; i < N_ROWS; i++) {
        held *h = &state[i];
        if (r->values[i] || h->laid) ok = we_env_lay(rows[i].name, r->values[i]) && ok;
        h->laid = r->values[i] != NULL;
        h->source = h->laid ? r->sources[i] : WE_CONFIG_DEFAULT;
        h->path = h->source == WE_CONFIG_USER ? user_path : "./.env";
        h->refused = NULL;
        if (r->refused[i]) ok = (h->refused = kept(r->refused[i])) != NULL && ok;
    }
    pthread_mutex_unlock(&lock);
    return ok;
}

we_status we_config_load(const we_config_options *opt, we_error *err)
{
    we_config_options o = WE_CONFIG_OPTIONS_INIT;
    if (opt && opt->size == 0)
        return we_fail(err, WE_E_ARG, "the size of the options is 0: begin with WE_CONFIG_OPTIONS_INIT");
    if (opt) memcpy(&o, opt, WE_MIN(opt->size, sizeof o));
    reading r = { .options = &o };
    char *file = NULL;
    we_status st = we_config_file(&file, NULL); /* no home: no file */
    st = st == WE_E_NOMEM ? we_fail(err, st, "no memory for the configuration") : WE_OK;
    if (!st && file) st = read_source(&r, file, WE_CONFIG_USER, err);
    if (!st && !o.no_dotenv) st = read_source(&r, "./.env", WE_CONFIG_DOTENV, err);
    if (!st) {
        hold_back(&r);
        announce(&r);
        if (!lay(&r, file ? file : "")) st = we_fail(err, WE_E_NOMEM, "no memory for the configuration");
    }
    for (size_t i = 0; i < N_ROWS; i++) {
        we_free(r.values[i]);
        we_free(r.refused[i]);
    }
    we_free(file);
    const char *levels = NULL;
    if (!st && !checked("WE_LOG", &levels, err) && levels) return we_log_set_levels(levels, err);
    return st ? st : checked("WE_LOG", &levels, err);
}

we_status we_config_file(char **path, we_error *err)
{
    char *dir = we_dir_user_config();
    *path = dir ? we_path_join(dir, "env") : NULL;
    we_free(dir);
    if (*path) return WE_OK;
    return dir ? we_fail(err, WE_E_NOMEM, "no memory for a path")
               : we_fail(err, WE_E_NOT_FOUND, "this user has no home folder: HOME and XDG_CONFIG_HOME are not set");
}

/* ---- Telling ---- */

static void give(size_t i, we_config_value *out)
{
    static const char *const masked = "********";
    held from;
    const row *r = &rows[i];
    const char *value = value_of(i, &from);
    we_config_value v = { .name = r->name, .default_value = r->usual, .help = r->help, .source = from.source };
    we_error why = { 0 };
    v.is_valid = !value || !check(r, value, source_text(&from), &why);
    snprintf(v.problem, sizeof v.problem, "%s", v.is_valid ? "" : why.message);
    v.is_secret = r->flags & SECRET;
    v.is_settable = !(r->flags & TOLD_ONLY);
    v.is_in_service = value && r->flags & MAY_BE_KEPT && strcmp(value, WE_IN_SECRET_SERVICE) == 0;
    v.value = value && v.is_secret ? masked : value;
    v.refused = from.source == WE_CONFIG_ENVIRONMENT ? NULL : from.refused;
    v.path = from.source == WE_CONFIG_USER || from.source == WE_CONFIG_DOTENV ? from.path : NULL;
    if (r->type == YES_NO && value) read_yes_no(we_str_from(value), &v.is_on);
    v.words = word_lists[r->type];
    range_text(r, v.range);
    const size_t room = out->size;
    memcpy(out, &v, WE_MIN(room, sizeof v));
    out->size = room;
}

void we_config_each(we_config_fn fn, void *user)
{
    bool go_on = true;
    for (size_t i = 0; i < N_ROWS && go_on; i++) {
        we_config_value v = { .size = sizeof v };
        give(i, &v);
        go_on = fn(user, &v);
    }
}

static we_status unknown(const char *name, we_error *err)
{
    return we_fail(err, WE_E_NOT_FOUND, "%s is not a variable of ours; 'whisperengine config' lists them", name);
}

we_status we_config_get(const char *name, we_config_value *value, we_error *err)
{
    if (value->size == 0) return we_fail(err, WE_E_ARG, "the size of the value is 0: begin with its sizeof");
    const size_t i = find_row(we_str_from(name));
    if (i == N_ROWS) return unknown(name, err);
    give(i, value);
    return WE_OK;
}

/* ---- Setting ---- */

static we_status change_file(const char *path, bool follow, const char *name, const char *value, we_error *err)
{
    we_buf old = { 0 }, text = { 0 };
    const char *problem = read_trusted(path, follow, &old);
    we_status st = we_buf_status(&old, err, "a configuration file");
    if (!st && problem && problem[0]) st = we_fail(err, WE_E_IO, "%s is not changed: %s", path, problem);
    if (!st) st = we_envfile_change(&text, we_buf_str(&old), name, value, err);
    if (!st) st = we_file_write(path, text.ptr ? text.ptr : "", text.len, 0600, err);
    we_buf_deinit(&old);
    we_buf_deinit(&text);
    return st;
}

/* A link is followed to its file, which is replaced; the link stays. */
static char *real_file(const char *path)
{
    char *real = realpath(path, NULL), *copy = we_strdup(real ? real : path);
    free(real);
    return copy;
}

we_status we_config_check(const char *name, const char *value, we_error *err)
{
    const size_t i = find_row(we_str_from(name));
    if (i == N_ROWS) return unknown(name, err);
    if (rows[i].flags & TOLD_ONLY)
        return we_fail(err, WE_E_UNSUPPORTED, "%s belongs to the Hugging Face tools and counts only in the environment",
                       name);
    if (value && !value[0]) return we_fail(err, WE_E_ARG, "%s: an empty value means nothing; unset it instead", name);
    return value ? check(&rows[i], value, "the new value", err) : WE_OK;
}

static we_status set(const char *name, const char *value, we_error *err)
{
    const size_t i = find_row(we_str_from(name));
    char *path = NULL, *dir = NULL, *real = NULL;
    we_status st = we_config_check(name, value, err);
    if (!st) st = we_config_file(&path, err);
    if (!st && (!(dir = we_dir_user_config()) || !(real = real_file(path))))
        st = we_fail(err, WE_E_NOMEM, "no memory for a path");
    if (!st) st = we_dir_make(dir, 0700, err);
    if (!st) st = change_file(real, true, name, value, err);
    if (!st) {
        pthread_mutex_lock(&lock);
        if (state[i].source != WE_CONFIG_DOTENV) { /* which stays before it */
            const char *kept_path = kept(path);
            if (!kept_path || !we_env_lay(name, value))
                st = we_fail(err, WE_E_NOMEM, "no memory for %s, which is kept in %s", name, path);
            state[i] = (held){ value ? WE_CONFIG_USER : WE_CONFIG_DEFAULT, kept_path, value != NULL, state[i].refused };
        }
        pthread_mutex_unlock(&lock);
    }
    we_free(real);
    we_free(dir);
    we_free(path);
    return st;
}

/* Does the user's file say that it is kept elsewhere? */
static bool is_kept(const char *name)
{
    held from;
    const size_t i = find_row(we_str_from(name));
    const char *value = i < N_ROWS && rows[i].flags & MAY_BE_KEPT ? value_of(i, &from) : NULL;
    return value && from.source == WE_CONFIG_USER && strcmp(value, WE_IN_SECRET_SERVICE) == 0;
}

we_status we_config_set(const char *name, const char *value, we_error *err)
{
    const bool was_kept = is_kept(name);
    const we_status st = set(name, value, err);
    if (!st && was_kept && !is_kept(name)) we_secret_put(name, NULL, NULL); /* nobody would find it any more */
    return st;
}

we_status we_config_keep_secret(const char *name, const char *value, we_error *err)
{
    const size_t i = find_row(we_str_from(name));
    we_status st = we_config_check(name, value, err);
    if (st) return st;
    if (!(rows[i].flags & MAY_BE_KEPT))
        return we_fail(err, WE_E_ARG, "%s is not kept in the secret service: LLM_CHAT_API_KEY and OPENAI_API_KEY are",
                       name);
    st = we_secret_put(name, value, err);
    return st ? st : set(name, WE_IN_SECRET_SERVICE, err);
}

/* ---- Configuring by what is there ---- */

typedef struct proposing {
    we_config_target target;
    we_config_proposal_fn fn;
    void *user;
    size_t n;
} proposing;

static we_status propose(proposing *p, const char *name, const char *value, const char *reason, we_error *err)
{
    held from;
    const size_t i = find_row(we_str_from(name));
    if (value_of(i, &from) || from.refused) return WE_OK; /* what is set stays */
    p->n++;
    if (p->fn) p->fn(p->user, name, value, reason);
    if (p->target == WE_CONFIG_TO_USER) return we_config_set(name, value, err);
    return p->target == WE_CONFIG_TO_DOTENV ? change_file("./.env", false, name, value, err) : WE_OK;
}

/* How well each model of a backend suits this machine: one in memory before all, then one that `recommend` names, then the
 * largest that fits; the built-in one is for when there is no other. Not at all: 0. */
typedef struct suiting {
    const we_backend_info *info;
    const we_hub_models *table;
    double *weight; /* [info->n_models] */
} suiting;

#define CLASS 1e18 /* more than a model's bytes */
#define RECOMMENDED (2 * CLASS)
#define IN_MEMORY (4 * CLASS)

/* What a model of our own engine needs is counted from its files; of a server's only the size is known. */
static double size_of(const we_backend_info *info, const we_backend_model *m, const we_machine *machine)
{
    char *path = NULL, model_type[64], quantization[128];
    we_model_info i = { .size = sizeof i };
    double bytes = (double)m->bytes;
    if (info->kind == WE_BACKEND_MLX) {
        we_status st = we_hub_find(m->name, &path, NULL);
        if (!st) st = we_model_inspect(path, NULL, &i, model_type, quantization, NULL);
        bytes = st ? INFINITY : (double)(i.weights_bytes + i.kv_bytes_at_context + i.scratch_bytes);
        we_free(path);
    }
    return bytes <= (double)we_machine_usable(machine) ? 1 + bytes : 0;
}

static bool weigh_recommended(void *user, const we_recommendation *r)
{
    const suiting *s = user;
    for (size_t i = 0; r->is_recommended && i < s->info->n_models; i++) {
        const we_hub_model *m = we_client_known_model(s->table, s->info->models[i].name);
        if (m && strcmp(m->name, r->name) == 0 && s->weight[i] > 0) s->weight[i] += RECOMMENDED;
    }
    return true;
}

/* The model of a backend that suits best, in *best; NULL: it has none. */
static we_status most_suitable(const we_backend_info *info, const char **best, we_error *err)
{
    we_machine machine;
    we_hub_models table;
    we_buf gpus = { 0 };
    *best = NULL;
    if (info->n_models == 0) return WE_OK;
    we_status st = we_hub_models_read(&table, err);
    if (st) return st;
    suiting s = { info, &table, we_calloc(info->n_models, sizeof(double)) };
    st = s.weight ? we_machine_look(&machine, &gpus, false, err)
                  : we_fail(err, WE_E_NOMEM, "no memory to compare models");
    for (size_t i = 0; !st && i < info->n_models; i++) {
        const we_backend_model *m = &info->models[i];
        s.weight[i] = strcmp(m->name, "default") == 0 ? 0.5 : size_of(info, m, &machine);
        if (m->loaded) s.weight[i] += IN_MEMORY;
    }
    if (!st) st = we_recommend_for(&machine, 8192, weigh_recommended, &s, err);
    double most = 0;
    for (size_t i = 0; !st && i < info->n_models; i++)
        if (s.weight[i] > most) most = s.weight[i], *best = info->models[i].name;
    if (!st && !*best) *best = info->models[0].name; /* none fits; the one who asks may know better */
    we_free(s.weight);
    we_hub_models_deinit(&table);
    we_buf_deinit(&gpus);
    return st;
}

static we_status propose_best(proposing *p, const we_backend_info *info, we_error *err)
{
    held from;
    const char *model = NULL;
    we_buf url = { 0 }, reason = { 0 };
    we_status st = WE_OK;
    if (info->kind == WE_BACKEND_MLX) model = value_of(find_row(WE_STR("MLX_MODEL_NAME")), &from);
    if (!model && (st = most_suitable(info, &model, err))) return st;
    if (!model) return WE_OK;
    we_buf_printf(&url, "%s://%s", info->id, model);
    we_buf_printf(&reason, "%s %s", info->name, info->reason);
    if (!(st = we_buf_status(&url, err, "a URL")) && !(st = we_buf_status(&reason, err, "a URL")))
        st = propose(p, "LLM_CHAT_API_URL", url.ptr, reason.ptr, err);
    if (!st && info->kind == WE_BACKEND_MLX)
        st = propose(p, "MLX_MODEL_NAME", model, "the same model, where a command takes only a name", err);
    we_buf_deinit(&url);
    we_buf_deinit(&reason);
    return st;
}

we_status we_config_auto(const we_backends *list, we_config_target target, we_config_proposal_fn fn, void *user,
                         size_t *n, we_error *err)
{
    proposing p = { target, fn, user, 0 };
    we_backend_info info = { .size = sizeof info };
    const size_t best = we_backends_optimal(list);
    we_status st = WE_OK;
    if (best < we_backends_count(list) && !(st = we_backends_get(list, best, &info, err)))
        st = propose_best(&p, &info, err);
    /* What the others answer with where they don't have that model. */
    for (size_t i = 0; !st && i < we_backends_count(list); i++) {
        char variable[64];
        const char *model;
        if (i == best || (st = we_backends_get(list, i, &info, err)) || !info.available) continue;
        if ((st = most_suitable(&info, &model, err)) || !model) continue;
        we_client_fallback_variable(info.kind, variable);
        st = propose(&p, variable, model, "what it answers with where it lacks the model", err);
    }
    if (n) *n = p.n;
    return st;
}
