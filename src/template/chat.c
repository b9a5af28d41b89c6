/* SPDX-License-Identifier: Apache-2.0
 * chat.c - one conversation -> the variables of a chat template, with the steps that transformers takes before it
 * renders: nulls leave the messages, reasoning gets all of its names, special tokens and defaults join the context.
 * Source: apply_chat_template and _alias_reasoning_fields of transformers 5. */
#include "template/template.h"

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

static const we_json *reasoning_of(const we_json *message)
{
    static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
    for (size_t i = 0; i < WE_COUNT(names); i++) {
        const we_json *m = set_member(message, names[i]);
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

we_status we_chat_context(we_arena *arena, const we_chat_input *input, const we_chat_special *special, size_t n_special,
                          const we_json **out, we_error *err)
{
    static const we_json null = { .type = WE_JSON_NULL }, yes = { .type = WE_JSON_TRUE },
                         no = { .type = WE_JSON_FALSE };
    const we_json *messages = input->messages;
    *out = NULL;
    if (!messages || messages->type != WE_JSON_ARRAY)
        return we_fail(err, WE_E_TEMPLATE, "messages is %s, expected an array", we_json_type_name(messages));
    if (!messages->first) return we_fail(err, WE_E_TEMPLATE, "there are no messages");
    if (input->variables && input->variables->type != WE_JSON_OBJECT)
        return we_fail(err, WE_E_TEMPLATE, "the template's variables are %s, expected an object",
                       we_json_type_name(input->variables));
    we_status st = build_messages(arena, messages, &messages, err);
    if (st) return st;

    builder b = begin(arena, WE_JSON_OBJECT);
    append(&b, WE_STR("messages"), messages);
    append(&b, WE_STR("tools"), input->tools ? input->tools : &null);
    append(&b, WE_STR("documents"), &null);
    append(&b, WE_STR("add_generation_prompt"), input->add_generation_prompt ? &yes : &no);
    for (size_t i = 0; i < n_special; i++) {
        const we_json token = { .type = WE_JSON_STRING, .text = special[i].content };
        if (!we_str_is(special[i].role, "additional_special_tokens")) append(&b, special[i].role, &token);
    }
    for (const we_json *m = input->variables ? input->variables->first : NULL; m; m = m->next) append(&b, m->key, m);
    if (b.failed) return we_fail(err, WE_E_NOMEM, "no memory for the conversation");
    *out = b.object;
    return WE_OK;
}
