/* SPDX-License-Identifier: Apache-2.0
 * template.c - the room's door: parsing and rendering, the limits that hold while they run, and how they fail. */
#include "template/template_int.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- failing ---- */

void we_tpl_fail(render *r, const char *format, ...)
{
    char message[768];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    r->status = we_fail(r->err, WE_E_TEMPLATE, "line %d: %s", r->line, message);
    longjmp(r->escape, 1);
}

void we_tpl_fail_plain(render *r, we_str message)
{
    r->status = we_fail(r->err, WE_E_TEMPLATE, "%.*s", (int)WE_MIN(message.len, (size_t)4096), message.ptr);
    longjmp(r->escape, 1);
}

void we_tpl_nomem(render *r)
{
    r->status = we_fail(r->err, WE_E_NOMEM, "line %d: no memory for the template's values", r->line);
    longjmp(r->escape, 1);
}

/* ---- memory and limits ---- */

void *we_tpl_alloc(render *r, size_t size)
{
    if (size > r->memory_left) we_tpl_fail(r, "the values of this template need too much memory");
    r->memory_left -= size;
    void *p = we_arena_alloc(r->arena, size);
    if (!p) we_tpl_nomem(r);
    return p;
}

void *we_tpl_calloc(render *r, size_t n, size_t size)
{
    if (size && n > SIZE_MAX / size) we_tpl_fail(r, "the values of this template need too much memory");
    void *p = we_tpl_alloc(r, n * size);
    memset(p, 0, n * size);
    return p;
}

const char *we_tpl_printf(render *r, const char *format, ...)
{
    char text[768];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    size_t len = strlen(text) + 1;
    return memcpy(we_tpl_alloc(r, len), text, len);
}

void we_tpl_work(render *r, size_t n)
{
    if (n >= r->steps_left) we_tpl_fail(r, "the template takes too many steps");
    r->steps_left -= n;
}

/* An evaluator's frame is small, so that a few thousand of them fit the smallest stacks that threads get. */
void we_tpl_enter(render *r)
{
    if (r->depth >= r->max_depth * 8) we_tpl_fail(r, "maximum recursion depth exceeded");
    r->depth++;
}

void we_tpl_put(render *r, const char *bytes, size_t len)
{
    if (len > r->max_output || r->out->len > r->max_output - len)
        we_tpl_fail(r, "the output is longer than %zu bytes", r->max_output);
    we_buf_append(r->out, bytes, len);
    if (r->out->failed) we_tpl_nomem(r);
}

void we_tpl_put_c(render *r, const char *text) { we_tpl_put(r, text, strlen(text)); }

void we_tpl_put_rune(render *r, uint32_t c)
{
    char bytes[4];
    we_tpl_put(r, bytes, (size_t)we_utf8_encode(c, bytes));
}

void we_tpl_put_fill(render *r, uint32_t c, int64_t n)
{
    char bytes[4];
    size_t len = (size_t)we_utf8_encode(c, bytes);
    if (n > 0 && (uint64_t)n > r->max_output / len)
        we_tpl_fail(r, "the output is longer than %zu bytes", r->max_output);
    for (; n > 0; n--) we_tpl_put(r, bytes, len);
}

void we_tpl_drop(render *r, size_t start)
{
    if (!r->out->ptr) return;
    r->out->len = start;
    r->out->ptr[start] = 0;
}

value we_tpl_take(render *r, size_t start)
{
    value s = we_tpl_str_copy(r, (we_str){ r->out->ptr ? r->out->ptr + start : "", r->out->len - start });
    we_tpl_drop(r, start);
    return s;
}

/* ---- parsing ---- */

/* The jump lands in a function of its own, whose only locals never change (C17 7.13.2.1). */
static void parse_guarded(render *r, we_template *tpl, we_str source)
{
    if (setjmp(r->escape)) return;
    size_t bad = we_utf8_valid(source);
    if (bad < source.len) we_tpl_fail(r, "the template is not UTF-8 (byte %zu)", bad);
    token_list tokens;
    char *copy = we_tpl_alloc(r, source.len + 1);
    if (source.len) memcpy(copy, source.ptr, source.len);
    tpl->source = (we_str){ copy, source.len };
    we_tpl_lex(r, tpl->source, &tokens);
    we_tpl_parse(r, tpl, tokens);
    we_tpl_bind(r, tpl);
}

we_status we_template_parse(we_template **out, we_str source, we_error *err)
{
    *out = NULL;
    we_template *tpl = we_calloc(1, sizeof(*tpl));
    if (!tpl) return we_fail(err, WE_E_NOMEM, "no memory for a template");
    we_buf scratch = { 0 };
    render r = {
        .arena = &tpl->arena,
        .out = &scratch,
        .steps_left = SIZE_MAX,
        .memory_left = SIZE_MAX,
        .max_output = SIZE_MAX,
        .max_depth = MAX_NESTING,
        .line = 1,
        .err = err,
    };
    parse_guarded(&r, tpl, source);
    we_buf_deinit(&scratch);
    if (r.status)
        we_template_free(tpl);
    else
        *out = tpl;
    return r.status;
}

void we_template_free(we_template *t)
{
    if (!t) return;
    we_arena_deinit(&t->arena);
    we_free(t);
}

/* ---- rendering ---- */

static void run_guarded(render *r, const we_json *context)
{
    if (setjmp(r->escape)) return;
    if (context && context->type != WE_JSON_OBJECT)
        we_tpl_fail(r, "the context is %s, expected an object", we_json_type_name(context));
    r->context = context ? we_tpl_from_json(r, context).dict : we_tpl_dict_new(r);
    we_tpl_exec(r, r->tpl);
}

we_status we_template_run(const we_template *t, const we_json *context, const char *date,
                          const we_template_limits *limits, we_buf *out, we_error *err)
{
    we_template_limits lim = limits ? *limits : (we_template_limits){ 0 };
    we_arena arena = { 0 };
    render r = {
        .arena = &arena,
        .out = out,
        .tpl = t,
        .steps_left = lim.max_steps ? lim.max_steps : 50000000,
        .memory_left = lim.max_memory_bytes ? lim.max_memory_bytes : (size_t)512 << 20,
        .max_output = out->len + (lim.max_output_bytes ? lim.max_output_bytes : (size_t)64 << 20),
        .max_depth = lim.max_depth ? lim.max_depth : 200,
        .line = 1,
        .date = date,
        .random = 88172645463325252u,
        .err = err,
    };
    run_guarded(&r, context);
    we_arena_deinit(&arena);
    return r.status;
}
