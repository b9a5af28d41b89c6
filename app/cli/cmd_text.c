/* SPDX-License-Identifier: Apache-2.0
 * cmd_text.c - `tokenize`, `detokenize` and `template`: a model folder's text side, without weights, for tests and tools.
 * Plain forms are exact to the byte: nothing is added to or taken from a text. With --jsonl each line of standard input is
 * a question and each line of standard output its answer, in order. */
#include "cli.h"

#include <stdlib.h>

#define AT(field) offsetof(cli_options, field)

typedef struct text_job {
    const cli_options *options;
    we_tokenizer *tokenizer;
} text_job;

/* For lines that have no answer: "line 3: ..." ends the command. */
static int line_error(size_t number, const char *what)
{
    cli_error("standard input: line %zu: %s", number, what);
    return CLI_FAILED;
}

/* A member that may be missing. False where it is there and no boolean. */
static bool bool_member(const we_json *object, const char *key, bool *out)
{
    const we_json *v = we_json_get(object, key);
    return !v || we_json_bool(v, out);
}

static void print_json(we_buf *buf)
{
    cli_out_exact(we_buf_str(buf));
    cli_out_printf("\n");
}

/* ---- tokenize ---- */

static int print_ids(const text_job *job, we_str text, bool special, we_error *err)
{
    int32_t *ids = NULL;
    size_t n = 0;
    if (we_tokenize(job->tokenizer, text.ptr, text.len, special, &ids, &n, err)) return CLI_FAILED;
    we_buf buf = { 0 };
    we_json_writer w = { .buf = &buf };
    we_json_begin_array(&w);
    for (size_t i = 0; i < n; i++) we_json_write_i64(&w, ids[i]);
    we_json_end_array(&w);
    we_free(ids);
    const bool failed = we_buf_status(&buf, err, "the token ids") != WE_OK;
    if (!failed) print_json(&buf);
    we_buf_deinit(&buf);
    return failed ? CLI_FAILED : CLI_OK;
}

static int tokenize_line(void *user, we_str line, size_t number)
{
    const text_job *job = user;
    we_arena arena = { 0 };
    we_error err = { 0 };
    const we_json *question;
    we_str text;
    bool special = !job->options->no_special;
    int status;
    if (we_json_parse(&arena, line, &question, &err))
        status = line_error(number, err.message);
    else if (!we_json_str(we_json_get(question, "text"), &text) || !bool_member(question, "special", &special))
        status = line_error(number, "expected {\"text\": \"...\", \"special\": true or false}");
    else if ((status = print_ids(job, text, special, &err)))
        status = line_error(number, err.message);
    we_arena_deinit(&arena);
    return status;
}

static int tokenize_all(const text_job *job)
{
    we_buf text = { 0 };
    we_error err = { 0 };
    int status = cli_read_all(stdin, "standard input", &text);
    if (!status && (status = print_ids(job, we_buf_str(&text), !job->options->no_special, &err))) cli_fail(&err);
    we_buf_deinit(&text);
    return status;
}

/* ---- detokenize ---- */

/* Ids of a JSON array, owned by the arena. A number past the ids' range stands for an id that no token has. */
static bool ids_from_json(we_arena *arena, const we_json *array, const int32_t **out, size_t *n)
{
    if (!we_json_is(array, WE_JSON_ARRAY)) return false;
    int32_t *ids = we_arena_calloc(arena, array->n + 1, sizeof *ids);
    if (!ids) return false;
    size_t i = 0;
    for (const we_json *v = array->first; v; v = v->next) {
        int64_t id;
        if (!we_json_i64(v, &id)) return false;
        ids[i++] = id < 0 || id > INT32_MAX ? INT32_MAX : (int32_t)id;
    }
    *out = ids;
    *n = i;
    return true;
}

/* An array: a string for each id, and one for what comes out at the end. */
static we_status write_stream(const text_job *job, we_json_writer *w, const int32_t *ids, size_t n, bool skip,
                              we_error *err)
{
    we_detokenizer *detokenizer;
    we_status st = we_detokenizer_open(&detokenizer, job->tokenizer, skip, err);
    const char *text = "";
    size_t len = 0;
    we_json_begin_array(w);
    for (size_t i = 0; i < n && !st; i++)
        if (!(st = we_detokenizer_feed(detokenizer, ids[i], &text, &len, err)))
            we_json_write_str(w, (we_str){ text, len });
    if (!st && !(st = we_detokenizer_flush(detokenizer, &text, &len, err))) we_json_write_str(w, (we_str){ text, len });
    we_json_end_array(w);
    we_detokenizer_close(detokenizer);
    return st;
}

static we_status write_text(const text_job *job, we_json_writer *w, const int32_t *ids, size_t n, bool skip,
                            we_error *err)
{
    char *text;
    size_t len;
    const we_status st = we_detokenize(job->tokenizer, ids, n, skip, &text, &len, err);
    if (st) return st;
    we_json_write_str(w, (we_str){ text, len });
    we_free(text);
    return WE_OK;
}

static int detokenize_line(void *user, we_str line, size_t number)
{
    const text_job *job = user;
    we_arena arena = { 0 };
    we_buf buf = { 0 };
    we_json_writer w = { .buf = &buf };
    we_error err = { 0 };
    const we_json *question;
    const int32_t *ids;
    size_t n;
    bool skip = !job->options->keep_special, stream = false;
    int status = CLI_OK;
    if (we_json_parse(&arena, line, &question, &err))
        status = line_error(number, err.message);
    else if (!ids_from_json(&arena, we_json_get(question, "ids"), &ids, &n) ||
             !bool_member(question, "skip_special", &skip) || !bool_member(question, "stream", &stream))
        status = line_error(
            number, "expected {\"ids\": [1, 2, 3], \"skip_special\": true or false, \"stream\": true or false}");
    else if ((stream ? write_stream : write_text)(job, &w, ids, n, skip, &err) || we_buf_status(&buf, &err, "the text"))
        status = line_error(number, err.message);
    else
        print_json(&buf);
    we_buf_deinit(&buf);
    we_arena_deinit(&arena);
    return status;
}

static int detokenize_all(const text_job *job)
{
    we_arena arena = { 0 };
    we_buf input = { 0 };
    we_error err = { 0 };
    const we_json *array;
    const int32_t *ids;
    char *text = NULL;
    size_t n, len;
    int status = cli_read_all(stdin, "standard input", &input);
    if (!status && we_json_parse(&arena, we_buf_str(&input), &array, &err)) {
        we_fail_in(&err, err.status, "standard input: ");
        status = cli_fail(&err);
    } else if (!status && !ids_from_json(&arena, array, &ids, &n)) {
        cli_error("standard input: expected a JSON array of token ids like [1, 2, 3], found %s%s",
                  we_json_type_name(array), we_json_is(array, WE_JSON_ARRAY) ? " with something else in it" : "");
        status = CLI_FAILED;
    } else if (!status && we_detokenize(job->tokenizer, ids, n, !job->options->keep_special, &text, &len, &err)) {
        status = cli_fail(&err);
    } else if (!status && job->options->json) {
        cli_json json;
        cli_json_begin(&json);
        we_json_write_str(&json.w, (we_str){ text, len });
        status = cli_json_end(&json);
    } else if (!status) {
        cli_out_exact((we_str){ text, len });
    }
    we_free(text);
    we_arena_deinit(&arena);
    we_buf_deinit(&input);
    return status;
}

/* ---- template ---- */

/* JSON text of a tree, NUL-terminated; NULL where memory is out. */
static char *json_text(const we_json *v)
{
    we_buf buf = { 0 };
    we_json_writer w = { .buf = &buf };
    we_json_write_tree(&w, v);
    char *text = we_buf_take(&buf, NULL);
    we_buf_deinit(&buf);
    return text;
}

static char *optional_json_text(const we_json *v) { return v && v->type != WE_JSON_NULL ? json_text(v) : NULL; }

typedef struct template_question { /* one rendering: `source` and `context`, or `messages` and what goes with them */
    we_str source;
    bool has_source;
    const we_json *context, *messages, *tools, *documents;
    bool generation_prompt, go_on;
    char *go_on_field; /* NULL: the content; in the arena */
    const char *date, *variables;
} template_question;

/* What a line, or a file of one object, says beside its messages; where it is silent, q keeps what the options said. */
static we_status question_members(we_arena *arena, const we_json *object, template_question *q, we_error *err)
{
    const we_json *tools = we_json_get(object, "tools"), *documents = we_json_get(object, "documents"),
                  *go_on = we_json_get(object, "continue_final_message"),
                  *prompt = we_json_get(object, "add_generation_prompt");
    we_str field;
    if (!q->tools) q->tools = tools;
    if (!q->documents) q->documents = documents;
    if (we_json_str(go_on, &field)) {
        q->go_on = field.len > 0;
        if (!(q->go_on_field = we_arena_strndup(arena, field.ptr, field.len)))
            return we_fail(err, WE_E_NOMEM, "no memory for a field's name");
    } else if (go_on && !we_json_bool(go_on, &q->go_on)) {
        return we_fail(err, WE_E_ARG, "\"continue_final_message\" is neither true nor false nor a field's name");
    }
    if (!prompt) {
        q->generation_prompt &= !q->go_on;
        return WE_OK;
    }
    if (!we_json_bool(prompt, &q->generation_prompt))
        return we_fail(err, WE_E_ARG, "\"add_generation_prompt\" is neither true nor false");
    if (q->generation_prompt && q->go_on)
        return we_fail(err, WE_E_ARG,
                       "\"continue_final_message\" and \"add_generation_prompt\" exclude each other: the answer either "
                       "goes on in the final message or begins a new one");
    return WE_OK;
}

static we_status render_source(const template_question *q, char **text, size_t *len, we_error *err)
{
    char *context = json_text(q->context);
    if (!context) return we_fail(err, WE_E_NOMEM, "no memory for the template's context");
    const we_status st = we_template_render_source(q->source.ptr, q->source.len, context, q->date, text, len, err);
    we_free(context);
    return st;
}

static we_status render_messages(text_job *job, const template_question *q, char **text, size_t *len, we_error *err)
{
    char *messages = json_text(q->messages), *tools = optional_json_text(q->tools),
         *documents = optional_json_text(q->documents);
    we_conversation conversation = WE_CONVERSATION_INIT;
    conversation.messages_json = messages;
    conversation.tools_json = tools;
    conversation.documents_json = documents;
    conversation.continue_final_message = q->go_on;
    conversation.continue_field = q->go_on_field;
    conversation.variables_json = q->variables;
    conversation.no_generation_prompt = !q->generation_prompt;
    conversation.date = q->date;
    const we_status st = messages ? we_template_render(job->tokenizer, &conversation, text, len, err)
                                  : we_fail(err, WE_E_NOMEM, "no memory for the messages");
    we_free(messages);
    we_free(tools);
    we_free(documents);
    return st;
}

/* ---- template: --jsonl ---- */

typedef struct template_job {
    text_job text; /* its tokenizer is opened by the first line that needs it */
    const char *variables;
    bool opened;
} template_job;

/* Fill q from a line's object; WE_E_ARG where it is no question. */
static we_status question_from_json(we_arena *arena, const we_json *line, template_question *q, char date[11],
                                    we_error *err)
{
    const we_json *source = we_json_get(line, "template"), *context = we_json_get(line, "context");
    we_str text;
    q->messages = we_json_get(line, "messages");
    q->context = context;
    q->has_source = source != NULL;
    if (source ? !we_json_str(source, &q->source) || !we_json_is(context, WE_JSON_OBJECT) : !q->messages)
        return we_fail(err, WE_E_ARG, "expected {\"template\": \"...\", \"context\": {...}} or {\"messages\": [...]}");
    const we_status st = q->has_source ? WE_OK : question_members(arena, line, q, err);
    if (st) return st;
    if (we_json_str(we_json_get(line, "date"), &text) && text.len == 10) {
        memcpy(date, text.ptr, 10);
        date[10] = 0;
        q->date = date;
    }
    return WE_OK;
}

static int template_line(void *user, we_str line, size_t number)
{
    (void)number;
    template_job *job = user;
    we_arena arena = { 0 };
    we_buf buf = { 0 };
    we_json_writer w = { .buf = &buf };
    we_error err = { 0 };
    const we_json *object;
    char *text = NULL, date[11];
    size_t len = 0;
    template_question q = { .generation_prompt = !job->text.options->no_generation_prompt,
                            .go_on = job->text.options->continue_final_message,
                            .date = job->text.options->date,
                            .variables = job->variables };
    we_status st;
    if (!(st = we_json_parse(&arena, line, &object, &err)) &&
        !(st = question_from_json(&arena, object, &q, date, &err))) {
        if (!q.has_source && !job->opened) {
            const int status = cli_tokenizer_open(&job->text.tokenizer, job->text.options);
            if (status) {
                we_arena_deinit(&arena);
                return status;
            }
            job->opened = true;
        }
        st = q.has_source ? render_source(&q, &text, &len, &err) : render_messages(&job->text, &q, &text, &len, &err);
    }
    we_json_begin_object(&w);
    we_json_key(&w, st ? "error" : "text");
    we_json_write_str(&w, st ? we_str_from(err.message) : (we_str){ text, len });
    we_json_end_object(&w);
    const bool failed = we_buf_status(&buf, &err, "the text") != WE_OK;
    if (!failed) print_json(&buf);
    we_free(text);
    we_buf_deinit(&buf);
    we_arena_deinit(&arena);
    return failed ? cli_fail(&err) : CLI_OK;
}

/* ---- template: one rendering ---- */

static int read_json(we_arena *arena, const char *path, we_buf *bytes, const we_json **out)
{
    we_error err;
    const int status = cli_read_file(path, bytes);
    if (status) return status;
    if (!we_json_parse(arena, we_buf_str(bytes), out, &err)) return CLI_OK;
    we_fail_in(&err, err.status, "%s: ", path);
    return cli_fail(&err);
}

static int print_rendered(const cli_options *options, const char *text, size_t len)
{
    if (!options->json) {
        cli_out_exact((we_str){ text, len });
        return CLI_OK;
    }
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    we_json_key(&json.w, "text");
    we_json_write_str(&json.w, (we_str){ text, len });
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

static int template_once(template_job *job)
{
    const cli_options *options = job->text.options;
    we_arena arena = { 0 };
    we_buf first = { 0 }, second = { 0 }, third = { 0 };
    we_error err;
    const we_json *object = NULL;
    char *text = NULL;
    size_t len = 0;
    template_question q = { .generation_prompt = !options->no_generation_prompt && !options->continue_final_message,
                            .go_on = options->continue_final_message,
                            .date = options->date,
                            .variables = job->variables };
    we_status st = WE_OK;
    int status;
    if (options->template_file) {
        if (!(status = cli_read_file(options->template_file, &first)) &&
            !(status = read_json(&arena, options->template_context, &second, &q.context))) {
            q.source = we_buf_str(&first);
            st = render_source(&q, &text, &len, &err);
        }
    } else if (!(status = read_json(&arena, options->messages, &first, &object)) &&
               (!options->tools || !(status = read_json(&arena, options->tools, &second, &q.tools))) &&
               (!options->documents || !(status = read_json(&arena, options->documents, &third, &q.documents))) &&
               !(status = cli_tokenizer_open(&job->text.tokenizer, options))) {
        const bool whole = we_json_is(object, WE_JSON_OBJECT); /* {"messages", "tools", ...} as in --jsonl */
        q.messages = whole ? we_json_get(object, "messages") : object;
        if (whole) st = question_members(&arena, object, &q, &err);
        q.generation_prompt &= !options->no_generation_prompt;
        if (!st)
            st = we_json_is(q.messages, WE_JSON_ARRAY)
                     ? render_messages(&job->text, &q, &text, &len, &err)
                     : we_fail(&err, WE_E_ARG, "%s: expected an array of messages, found %s", options->messages,
                               we_json_type_name(q.messages));
    }
    if (!status) status = st ? cli_fail(&err) : print_rendered(options, text, len);
    we_free(text);
    we_buf_deinit(&first);
    we_buf_deinit(&second);
    we_buf_deinit(&third);
    we_arena_deinit(&arena);
    return status;
}

/* Each form wants its own options and none of the others'. */
static int template_check(const cli_options *o)
{
    if (o->jsonl && (o->messages || o->template_file || o->template_context || o->tools || o->documents))
        return cli_usage_error(o->command,
                               "--jsonl takes its questions from standard input: leave --messages, --tools, "
                               "--documents, --template and --context out");
    if (o->jsonl) return CLI_OK;
    if (!o->messages == !o->template_file)
        return cli_usage_error(o->command, "one of --messages FILE, --template FILE and --jsonl is needed");
    if (!o->template_file != !o->template_context)
        return cli_usage_error(o->command, "--template FILE and --context FILE go together");
    if (o->template_file &&
        (o->tools || o->documents || o->no_generation_prompt || o->continue_final_message || o->template_args.n))
        return cli_usage_error(o->command,
                               "--tools, --documents, --no-generation-prompt, --continue-final-message and "
                               "--template-arg belong to --messages: with --template, put them into the context");
    return CLI_OK;
}

/* ---- Commands ---- */

static int run_tokenize(const cli_options *options)
{
    text_job job = { options, NULL };
    int status = cli_tokenizer_open(&job.tokenizer, options);
    if (!status) status = options->jsonl ? cli_each_line(tokenize_line, &job) : tokenize_all(&job);
    we_tokenizer_close(job.tokenizer);
    return status;
}

static int run_detokenize(const cli_options *options)
{
    text_job job = { options, NULL };
    int status = cli_tokenizer_open(&job.tokenizer, options);
    if (!status) status = options->jsonl ? cli_each_line(detokenize_line, &job) : detokenize_all(&job);
    we_tokenizer_close(job.tokenizer);
    return status;
}

static int run_template(const cli_options *options)
{
    template_job job = { .text = { options, NULL } };
    char *variables = NULL;
    int status;
    if (!(status = template_check(options)) && !(status = cli_template_variables(options, &variables))) {
        job.variables = variables;
        status = options->jsonl ? cli_each_line(template_line, &job) : template_once(&job);
    }
    we_tokenizer_close(job.text.tokenizer);
    we_free(variables);
    return status;
}

static const cli_option tokenize_own[] = {
    { "no-special", 0, CLI_FLAG, AT(no_special), 0, 0, NULL,
      "leave out what the post-processor adds (BOS and the like)" },
    { "jsonl", 0, CLI_FLAG, AT(jsonl), 0, 0, NULL,
      "each line {\"text\": ..., \"special\": bool} gives a line with an array" },
};
const cli_command cli_command_tokenize = {
    "tokenize",
    "[options] < TEXT",
    "turn text into token ids",
    "Reads a text on standard input, exactly as it stands, and prints a JSON array of ids.",
    tokenize_own,
    WE_COUNT(tokenize_own),
    { &cli_group_model },
    0,
    run_tokenize
};

static const cli_option detokenize_own[] = {
    { "keep-special", 0, CLI_FLAG, AT(keep_special), 0, 0, NULL, "show special tokens" },
    { "jsonl", 0, CLI_FLAG, AT(jsonl), 0, 0, NULL,
      "each line {\"ids\": [...], \"skip_special\": bool} gives a line with a string; with \"stream\": true an array, one "
      "string for each id and one for the end" },
};
const cli_command cli_command_detokenize = {
    "detokenize",
    "[options] < IDS",
    "turn token ids into text",
    "Reads a JSON array of ids on standard input and prints their text, with no newline added.",
    detokenize_own,
    WE_COUNT(detokenize_own),
    { &cli_group_model },
    0,
    run_detokenize
};

static const cli_option template_own[] = {
    { "messages", 0, CLI_TEXT, AT(messages), 0, 0, "FILE",
      "JSON: an array of messages, or an object as --jsonl takes it" },
    { "tools", 0, CLI_TEXT, AT(tools), 0, 0, "FILE", "JSON: an array of tools" },
    { "documents", 0, CLI_TEXT, AT(documents), 0, 0, "FILE",
      "JSON: an array of documents, for templates that retrieve" },
    { "no-generation-prompt", 0, CLI_FLAG, AT(no_generation_prompt), 0, 0, NULL,
      "leave out the head of the assistant's turn" },
    { "continue-final-message", 0, CLI_FLAG, AT(continue_final_message), 0, 0, NULL,
      "end in the middle of the final message, for an answer that goes on there" },
    { "date", 0, CLI_DATE, AT(date), 0, 0, "YYYY-MM-DD", "what the template takes for today" },
    { "template", 0, CLI_TEXT, AT(template_file), 0, 0, "FILE", "any Jinja template, in place of a model's" },
    { "context", 0, CLI_TEXT, AT(template_context), 0, 0, "FILE", "JSON: an object with the template's variables" },
    { "jsonl", 0, CLI_FLAG, AT(jsonl), 0, 0, NULL,
      "each line {\"messages\": ..., \"tools\": ..., \"documents\": ..., \"add_generation_prompt\": bool, "
      "\"continue_final_message\": bool} or {\"template\": ..., \"context\": ...} "
      "gives a line {\"text\": ...} or {\"error\": ...}" },
};
const cli_command cli_command_template = {
    "template",
    "[options] (--messages FILE | --template FILE --context FILE | --jsonl)",
    "render a chat template",
    "Prints the prompt, with no newline added. FILE may be \"-\" for standard input.",
    template_own,
    WE_COUNT(template_own),
    { &cli_group_model, &cli_group_template },
    0,
    run_template
};
