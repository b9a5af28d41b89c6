/* SPDX-License-Identifier: Apache-2.0
 * chat.c - one conversation -> the variables of a chat template, with the steps that transformers takes before it
 * renders: nulls leave the messages, reasoning gets all of its names, special tokens and defaults join the context. And
 * the step behind it: a prompt that ends in the middle of the final message.
 * Source: apply_chat_template, render_jinja_template and _alias_reasoning_fields of transformers 5. */
#include "template/template_int.h"

typedef struct builder { /* of one object: members are chained */
    we_arena *arena;
    we_json *object, *last;
    bool failed;
} builder;

static we_json *json_new(we_arena *arena, we_json_type type)
{
    we_json *j = we_arena_calloc(arena, 1, sizeof(*j));
    if (j) j->type = type;
    return j;
}

/* A copy of v as the next child; v itself may have other siblings. */
static void append(builder *b, we_str key, const we_json *v)
{
    we_json *copy = b->object ? json_new(b->arena, v->type) : NULL;
    if (!copy) {
        b->failed = true;
        return;
    }
    *copy = *v;
    copy->key = key;
    copy->next = NULL;
    if (b->last)
        b->last->next = copy;
    else
        b->object->first = copy;
    b->last = copy;
    b->object->n++;
}

static builder begin(we_arena *arena, we_json_type type)
{
    return (builder){ .arena = arena, .object = json_new(arena, type) };
}

static const we_json *member(const we_json *object, we_str key) /* the last of that name, as in Python */
{
    const we_json *found = NULL;
    for (const we_json *m = object->first; m; m = m->next)
        if (we_str_eq(m->key, key)) found = m;
    return found;
}

static const we_json *set_member(const we_json *object, const char *key) /* NULL where it is null, too */
{
    const we_json *m = member(object, we_str_from(key));
    return m && m->type != WE_JSON_NULL ? m : NULL;
}

static bool is_repeated(const we_json *object, const we_json *m) /* stands there already, further ahead */
{
    for (const we_json *before = object->first; before != m; before = before->next)
        if (we_str_eq(before->key, m->key)) return true;
    return false;
}

static const char *const reasoning_names[] = { "reasoning_content", "thinking", "reasoning" };

static const we_json *reasoning_of(const we_json *message)
{
    for (size_t i = 0; i < WE_COUNT(reasoning_names); i++) {
        const we_json *m = set_member(message, reasoning_names[i]);
        if (m) return m;
    }
    return NULL;
}

static const we_json *build_message(we_arena *arena, const we_json *message)
{
    builder b = begin(arena, WE_JSON_OBJECT);
    const we_json *reasoning = reasoning_of(message), *thinking = set_member(message, "thinking");
    if (reasoning) append(&b, WE_STR("thinking"), thinking ? thinking : reasoning);
    for (const we_json *m = message->first; m; m = m->next) {
        const we_json *v = member(message, m->key);
        if (v->type == WE_JSON_NULL || is_repeated(message, m)) continue;
        if (reasoning && we_str_is(m->key, "thinking")) continue;
        append(&b, m->key, reasoning && we_str_is(m->key, "reasoning_content") ? reasoning : v);
    }
    if (reasoning && !set_member(message, "reasoning_content")) append(&b, WE_STR("reasoning_content"), reasoning);
    return b.failed ? NULL : b.object;
}

static we_status build_messages(we_arena *arena, const we_json *messages, const we_json **out, we_error *err)
{
    builder b = begin(arena, WE_JSON_ARRAY);
    size_t i = 0;
    for (const we_json *m = messages->first; m; m = m->next, i++) {
        if (m->type != WE_JSON_OBJECT)
            return we_fail(err, WE_E_TEMPLATE, "message %zu is %s, expected an object", i, we_json_type_name(m));
        const we_json *built = build_message(arena, m);
        if (built) append(&b, (we_str){ 0 }, built);
        b.failed |= !built;
    }
    *out = b.object;
    return b.failed ? we_fail(err, WE_E_NOMEM, "no memory for the conversation") : WE_OK;
}

/* ---- continue_final_message ----
 * The text to go on from gets a tag behind it, the template runs, and the prompt is cut where the tag appears: so the end of
 * the turn goes, whatever a template makes of it. */

static const we_str tag = { "CONTINUE_FINAL_MESSAGE_TAG ", 27 }, bare_tag = { "CONTINUE_FINAL_MESSAGE_TAG", 26 };

typedef struct continuation {
    we_arena *arena;
    const char *field;     /* "content", or where the caller says */
    const we_json *value;  /* of that field */
    const we_json *tagged; /* the same with the tag */
    we_str text;           /* what is continued */
} continuation;

static bool mentions(we_str haystack, we_str needle)
{
    size_t at;
    return we_tpl_find_bytes(haystack, needle, 0, &at);
}

/* Reasoning stands in the message under several names: every copy is continued. */
static bool is_continued(const continuation *c, const we_json *m)
{
    if (we_str_is(m->key, c->field)) return true;
    bool both = false, field_is = false;
    for (size_t i = 0; i < WE_COUNT(reasoning_names); i++) {
        both |= we_str_is(m->key, reasoning_names[i]);
        field_is |= strcmp(c->field, reasoning_names[i]) == 0;
    }
    if (!both || !field_is || m->type != c->value->type) return false;
    return m->type == WE_JSON_STRING ? we_str_eq(m->text, c->value->text) : m->first && m->first == c->value->first;
}

static we_status no_text(we_error *err)
{
    return we_fail(err, WE_E_TEMPLATE, "continue_final_message: the final message has no text to continue");
}

static we_status tag_text(continuation *c, const we_json *old, const we_json **out, we_error *err)
{
    if (old->type != WE_JSON_STRING) return no_text(err);
    we_json *tagged = json_new(c->arena, WE_JSON_STRING);
    char *text = we_arena_alloc(c->arena, old->text.len + tag.len);
    if (!tagged || !text) return we_fail(err, WE_E_NOMEM, "no memory for the conversation");
    if (old->text.len) memcpy(text, old->text.ptr, old->text.len);
    memcpy(text + old->text.len, tag.ptr, tag.len);
    tagged->text = (we_str){ text, old->text.len + tag.len };
    c->text = old->text;
    *out = tagged;
    return WE_OK;
}

/* Python's `"text" in part`, for the parts that it allows; anything else there is an error in Python, too. */
static bool lacks_text(const we_json *part)
{
    if (part->type == WE_JSON_OBJECT) return !member(part, WE_STR("text"));
    if (part->type == WE_JSON_STRING) return !mentions(part->text, WE_STR("text"));
    if (part->type != WE_JSON_ARRAY) return false;
    for (const we_json *m = part->first; m; m = m->next)
        if (m->type == WE_JSON_STRING && we_str_is(m->text, "text")) return false;
    return true;
}

/* The object (or array: no keys) with the member `old` replaced. */
static const we_json *replaced(we_arena *arena, const we_json *in, const we_json *old, const we_json *new)
{
    builder b = begin(arena, in->type);
    for (const we_json *m = in->first; m; m = m->next) append(&b, m->key, m == old ? new : m);
    return b.failed ? NULL : b.object;
}

static we_status tag_last_part(continuation *c, const we_json **out, we_error *err)
{
    const we_json *last = NULL, *text;
    for (const we_json *part = c->value->first; part; part = part->next)
        if (!lacks_text(part)) last = part;
    if (!last || last->type != WE_JSON_OBJECT) return no_text(err);
    const we_json *old = member(last, WE_STR("text"));
    we_status st = tag_text(c, old, &text, err);
    if (st) return st;
    const we_json *part = replaced(c->arena, last, old, text);
    *out = part ? replaced(c->arena, c->value, last, part) : NULL;
    return *out ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for the conversation");
}

/* Put the tag into the last of the messages. */
static we_status tag_final_message(continuation *c, we_str source, const we_json **messages, we_error *err)
{
    const we_json *final = (*messages)->first;
    while (final->next) final = final->next;
    bool known = false;
    if (!(c->value = member(final, we_str_from(c->field))))
        return we_fail(err, WE_E_TEMPLATE, "continue_final_message: the final message has no \"%s\" to continue",
                       c->field);
    for (const we_json *m = final->first; m; m = m->next) known |= is_continued(c, m) && mentions(source, m->key);
    if (!known)
        return we_fail(err, WE_E_TEMPLATE, "continue_final_message: this chat template does not use \"%s\"", c->field);
    we_status st =
        c->value->type == WE_JSON_ARRAY ? tag_last_part(c, &c->tagged, err) : tag_text(c, c->value, &c->tagged, err);
    if (st) return st;
    builder b = begin(c->arena, WE_JSON_OBJECT);
    for (const we_json *m = final->first; m; m = m->next) append(&b, m->key, is_continued(c, m) ? c->tagged : m);
    *messages = b.failed ? NULL : replaced(c->arena, *messages, final, b.object);
    return *messages ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for the conversation");
}

static we_str right_strip(we_str s)
{
    while (s.len) {
        size_t start = s.len - 1, next;
        while (start && ((unsigned char)s.ptr[start] & 0xC0) == 0x80) start--;
        next = start;
        if (!we_tpl_is_space(we_utf8_next(s, &next))) break;
        s.len = start;
    }
    return s;
}

static we_str strip(we_str s)
{
    s = right_strip(s);
    for (size_t next = 0; s.len && we_tpl_is_space(we_utf8_next(s, &next)); next = 0)
        s = (we_str){ s.ptr + next, s.len - next };
    return s;
}

/* Cut the prompt, which begins at `start`, behind the final message's text. */
static we_status cut_at_tag(const continuation *c, we_buf *out, size_t start, we_error *err)
{
    const we_str prompt = { out->ptr ? out->ptr + start : "", out->len - start };
    size_t at = 0, next = 0;
    bool found = false;
    while (we_tpl_find_bytes(prompt, bare_tag, next, &at)) found = true, next = at + 1;
    if (!found || !mentions(prompt, strip(c->text)))
        return we_fail(err, WE_E_TEMPLATE,
                       "continue_final_message: the final message does not appear in the prompt: the chat template "
                       "drops or changes it");
    at = next - 1;
    we_str kept = { prompt.ptr, at };
    /* a template that trims took the blank behind the tag, and then what was before it, too */
    if (!we_str_starts_with((we_str){ prompt.ptr + at, prompt.len - at }, tag)) kept = right_strip(kept);
    out->len = start + kept.len;
    out->ptr[out->len] = 0;
    return WE_OK;
}

/* ---- the context ---- */

static we_status check_objects(const char *what, const we_json *array, we_error *err)
{
    size_t i = 0;
    if (array && array->type != WE_JSON_ARRAY)
        return we_fail(err, WE_E_TEMPLATE, "%s is %s, expected an array", what, we_json_type_name(array));
    for (const we_json *m = array ? array->first : NULL; m; m = m->next, i++)
        if (m->type != WE_JSON_OBJECT)
            return we_fail(err, WE_E_TEMPLATE, "%s: member %zu is %s, expected an object", what, i,
                           we_json_type_name(m));
    return WE_OK;
}

static we_status check_input(const we_chat_input *input, we_error *err)
{
    const we_json *messages = input->messages, *variables = input->variables;
    if (!messages || messages->type != WE_JSON_ARRAY)
        return we_fail(err, WE_E_TEMPLATE, "messages is %s, expected an array", we_json_type_name(messages));
    if (!messages->first) return we_fail(err, WE_E_TEMPLATE, "there are no messages");
    if (variables && variables->type != WE_JSON_OBJECT)
        return we_fail(err, WE_E_TEMPLATE, "the template's variables are %s, expected an object",
                       we_json_type_name(variables));
    if (variables && member(variables, WE_STR("messages")))
        return we_fail(err, WE_E_TEMPLATE, "the template's variables hold \"messages\", which the conversation gives");
    if (input->continue_field && input->add_generation_prompt)
        return we_fail(err, WE_E_ARG,
                       "continue_final_message and add_generation_prompt exclude each other: the answer either goes on "
                       "in the final message or begins a new one");
    we_status st = check_objects("tools", input->tools, err);
    return st ? st : check_objects("documents", input->documents, err);
}

static we_status build_context(we_arena *arena, const we_chat_input *input, const we_json *messages,
                               const we_chat_special *special, size_t n_special, const we_json **out, we_error *err)
{
    static const we_json null = { .type = WE_JSON_NULL }, yes = { .type = WE_JSON_TRUE },
                         no = { .type = WE_JSON_FALSE };
    builder b = begin(arena, WE_JSON_OBJECT);
    append(&b, WE_STR("messages"), messages);
    append(&b, WE_STR("tools"), input->tools ? input->tools : &null);
    append(&b, WE_STR("documents"), input->documents ? input->documents : &null);
    append(&b, WE_STR("add_generation_prompt"), input->add_generation_prompt ? &yes : &no);
    for (size_t i = 0; i < n_special; i++) {
        const we_json content = { .type = WE_JSON_STRING, .text = special[i].content };
        if (!we_str_is(special[i].role, "additional_special_tokens")) append(&b, special[i].role, &content);
    }
    for (const we_json *m = input->variables ? input->variables->first : NULL; m; m = m->next) append(&b, m->key, m);
    if (b.failed) return we_fail(err, WE_E_NOMEM, "no memory for the conversation");
    *out = b.object;
    return WE_OK;
}

we_status we_chat_render(const we_template *t, const we_chat_input *input, const we_chat_special *special,
                         size_t n_special, const char *date, we_buf *out, we_error *err)
{
    we_arena arena = { 0 };
    continuation c = { .arena = &arena, .field = input->continue_field };
    const size_t start = out->len;
    const we_json *messages = NULL, *context = NULL;
    we_status st = check_input(input, err);
    if (!st) st = build_messages(&arena, input->messages, &messages, err);
    if (!st && c.field) st = tag_final_message(&c, t->source, &messages, err);
    if (!st) st = build_context(&arena, input, messages, special, n_special, &context, err);
    if (!st) st = we_template_run(t, context, date, NULL, out, err);
    if (!st && c.field) st = cut_at_tag(&c, out, start, err);
    we_arena_deinit(&arena);
    return st;
}
