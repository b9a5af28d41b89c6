/* SPDX-License-Identifier: Apache-2.0
 * value.c - making values and looking into them: strings, lists, dicts, undefined, iterators, values from JSON.
 * Not here: comparing and hashing (compare.c), arithmetic (number.c), attributes (attribute.c), text (format.c). */
#include "template/template_int.h"

/* ---- strings ---- */

struct string_store { /* the end of the newest string in it may grow */
    size_t used, capacity;
    char bytes[];
};

size_t we_tpl_utf8_count(we_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) n += (s.ptr[i] & 0xC0) != 0x80;
    return n;
}

static value string_value(render *r, const char *ptr, size_t len, size_t n_chars, struct string_store *store)
{
    string *s = we_tpl_alloc(r, sizeof(*s));
    *s = (string){ .ptr = ptr, .len = len, .n_chars = n_chars, .store = store };
    return (value){ .type = V_STR, .str = s };
}

value we_tpl_str(render *r, we_str s)
{
    we_tpl_work(r, s.len / 64);
    return string_value(r, s.ptr, s.len, we_tpl_utf8_count(s), NULL);
}

value we_tpl_str_c(render *r, const char *text) { return we_tpl_str(r, we_str_from(text)); }

value we_tpl_str_copy(render *r, we_str s)
{
    if (s.len == 0) return we_tpl_str_c(r, "");
    return we_tpl_str(r, (we_str){ memcpy(we_tpl_alloc(r, s.len), s.ptr, s.len), s.len });
}

value we_tpl_markup(render *r, value str)
{
    value v = string_value(r, str.str->ptr, str.str->len, str.str->n_chars, NULL);
    v.str->markup = true;
    return v;
}

value we_tpl_concat(render *r, value a, value b)
{
    string *x = a.str, *y = b.str;
    if (y->len == 0) return a;
    if (x->len == 0) return b;
    struct string_store *store = x->store;
    size_t len = x->len + y->len;
    we_tpl_work(r, y->len / 64);
    bool at_end = store && x->ptr + x->len == store->bytes + store->used;
    if (!at_end || store->capacity - store->used < y->len) {
        size_t capacity = store ? len * 2 : len + 16;
        we_tpl_work(r, x->len / 64);
        store = we_tpl_alloc(r, sizeof(*store) + capacity);
        store->capacity = capacity;
        store->used = x->len;
        memcpy(store->bytes, x->ptr, x->len);
    }
    const char *start = at_end && store == x->store ? x->ptr : store->bytes;
    memcpy(store->bytes + store->used, y->ptr, y->len);
    store->used += y->len;
    return string_value(r, start, len, x->n_chars + y->n_chars, store);
}

size_t we_tpl_byte_of(value str, size_t char_index)
{
    const string *s = str.str;
    if (s->n_chars == s->len || char_index == 0) return char_index;
    if (char_index >= s->n_chars) return s->len;
    size_t i = 0;
    for (size_t n = 0; i < s->len; i++)
        if ((s->ptr[i] & 0xC0) != 0x80 && n++ == char_index) break;
    return i;
}

value we_tpl_substr(render *r, value str, size_t from_char, size_t to_char)
{
    if (to_char > str.str->n_chars) to_char = str.str->n_chars;
    if (from_char >= to_char) from_char = to_char = 0;
    if (str.str->n_chars != str.str->len) we_tpl_work(r, str.str->len / 64);
    size_t from = we_tpl_byte_of(str, from_char), to = we_tpl_byte_of(str, to_char);
    value s = string_value(r, str.str->ptr + from, to - from, to_char - from_char, NULL);
    s.str->markup = str.str->markup;
    return s;
}

/* ---- lists ---- */

struct list_store {
    size_t used, capacity;
    value items[];
};

list *we_tpl_list_new(render *r, size_t capacity)
{
    list *l = we_tpl_calloc(r, 1, sizeof(*l));
    if (capacity > SIZE_MAX / sizeof(value) / 2) we_tpl_fail(r, "the values of this template need too much memory");
    if (capacity < 4) capacity = 4;
    l->store = we_tpl_alloc(r, sizeof(struct list_store) + capacity * sizeof(value));
    l->store->used = 0;
    l->store->capacity = capacity;
    l->items = l->store->items;
    return l;
}

/* The store that can take n more behind l, and l moved there. */
static void list_reserve(render *r, list *l, size_t n)
{
    struct list_store *store = l->store;
    if (l->items + l->n == store->items + store->used && store->capacity - store->used >= n) return;
    size_t capacity = (l->n + n) * 2;
    we_tpl_work(r, l->n);
    struct list_store *bigger = we_tpl_alloc(r, sizeof(*bigger) + capacity * sizeof(value));
    bigger->capacity = capacity;
    bigger->used = l->n;
    memcpy(bigger->items, l->items, l->n * sizeof(value));
    l->store = bigger;
    l->items = bigger->items;
}

void we_tpl_list_push(render *r, list *l, value v)
{
    we_tpl_work(r, 1);
    list_reserve(r, l, 1);
    l->items[l->n++] = v;
    l->store->used++;
}

value we_tpl_list_concat(render *r, value a, value b)
{
    list *l = we_tpl_alloc(r, sizeof(*l)), *tail = b.list;
    *l = *a.list;
    l->group = false;
    we_tpl_work(r, tail->n);
    list_reserve(r, l, tail->n);
    if (tail->n) memcpy(l->items + l->n, tail->items, tail->n * sizeof(value));
    l->n += tail->n;
    l->store->used += tail->n;
    return (value){ .type = a.type, .list = l };
}

value we_tpl_pair(render *r, value a, value b)
{
    list *l = we_tpl_list_new(r, 2);
    we_tpl_list_push(r, l, a);
    we_tpl_list_push(r, l, b);
    return v_tuple(l);
}

list *we_tpl_to_list(render *r, value v)
{
    if (v.type == V_LIST || v.type == V_TUPLE) {
        list *l = we_tpl_alloc(r, sizeof(*l));
        *l = *v.list;
        l->group = false;
        return l;
    }
    iterator *it = we_tpl_iter(r, v);
    list *l = we_tpl_list_new(r, 8);
    for (value item; we_tpl_next(r, it, &item);) we_tpl_list_push(r, l, item);
    return l;
}

/* ---- dicts ---- */

#define DICT_SMALL 8 /* up to here a scan is as fast as the index */

dict *we_tpl_dict_new(render *r) { return we_tpl_calloc(r, 1, sizeof(dict)); }

static void dict_index(dict *d, size_t entry)
{
    size_t i = d->entries[entry].hash & (d->index_size - 1);
    while (d->index[i]) i = (i + 1) & (d->index_size - 1);
    d->index[i] = (uint32_t)entry + 1;
}

static void dict_grow(render *r, dict *d)
{
    size_t capacity = d->capacity ? d->capacity * 2 : DICT_SMALL;
    if (capacity > UINT32_MAX / 4) we_tpl_fail(r, "the values of this template need too much memory");
    dict_entry *entries = we_tpl_alloc(r, capacity * sizeof(*entries));
    if (d->n) memcpy(entries, d->entries, d->n * sizeof(*entries));
    d->entries = entries;
    d->capacity = capacity;
    if (capacity <= DICT_SMALL) return;
    d->index_size = capacity * 2;
    d->index = we_tpl_calloc(r, d->index_size, sizeof(*d->index));
    for (size_t i = 0; i < d->n; i++) dict_index(d, i);
}

static bool is_str_key(value key, we_str s) { return key.type == V_STR && we_str_eq(str_of(key), s); }

static dict_entry *dict_lookup(render *r, const dict *d, value key, uint64_t hash)
{
    if (!d->index) {
        for (size_t i = 0; i < d->n; i++)
            if (d->entries[i].hash == hash && we_tpl_equal(r, d->entries[i].key, key)) return &d->entries[i];
        return NULL;
    }
    for (size_t i = hash & (d->index_size - 1); d->index[i]; i = (i + 1) & (d->index_size - 1)) {
        dict_entry *e = &d->entries[d->index[i] - 1];
        we_tpl_work(r, 1); /* hostile keys may collide */
        if (e->hash == hash && we_tpl_equal(r, e->key, key)) return e;
    }
    return NULL;
}

bool we_tpl_dict_find(const dict *d, we_str key, value *out)
{
    uint64_t hash = we_str_hash(key);
    if (!d->index) {
        for (size_t i = 0; i < d->n; i++)
            if (d->entries[i].hash == hash && is_str_key(d->entries[i].key, key))
                return *out = d->entries[i].value, true;
        return false;
    }
    for (size_t i = hash & (d->index_size - 1); d->index[i]; i = (i + 1) & (d->index_size - 1)) {
        const dict_entry *e = &d->entries[d->index[i] - 1];
        if (e->hash == hash && is_str_key(e->key, key)) return *out = e->value, true;
    }
    return false;
}

bool we_tpl_dict_get(render *r, const dict *d, value key, value *out)
{
    uint64_t hash = we_tpl_hash(r, key);
    const dict_entry *e = dict_lookup(r, d, key, hash);
    if (e) *out = e->value;
    return e != NULL;
}

void we_tpl_dict_set(render *r, dict *d, value key, value v)
{
    uint64_t hash = we_tpl_hash(r, key);
    dict_entry *e = dict_lookup(r, d, key, hash);
    if (e) {
        e->value = v;
        return;
    }
    if (d->n == d->capacity) dict_grow(r, d);
    d->entries[d->n++] = (dict_entry){ key, v, hash };
    if (d->index) dict_index(d, d->n - 1);
}

void we_tpl_dict_set_str(render *r, dict *d, we_str key, value v) { we_tpl_dict_set(r, d, we_tpl_str(r, key), v); }

/* ---- undefined ---- */

static value undefined_value(render *r, undefined u)
{
    undefined *p = we_tpl_alloc(r, sizeof(*p));
    *p = u;
    return (value){ .type = V_UNDEFINED, .undefined = p };
}

value we_tpl_undefined_name(render *r, we_str name)
{
    return undefined_value(r, (undefined){ .object = V_MISSING_VALUE, .name = we_tpl_str(r, name) });
}

value we_tpl_undefined_item(render *r, value object, value name)
{
    return undefined_value(r, (undefined){ .object = object, .name = name });
}

value we_tpl_undefined_hint(render *r, const char *hint) { return undefined_value(r, (undefined){ .hint = hint }); }

void we_tpl_raise_undefined(render *r, value v)
{
    const undefined *u = v.undefined;
    if (u->hint) we_tpl_fail(r, "%s", u->hint);
    we_str name = str_of(we_tpl_repr(r, u->name));
    if (u->object.type == V_MISSING) we_tpl_fail(r, "%.*s is undefined", STR_ARG(name));
    const char *type = u->object.type == V_NONE ? "None" : we_tpl_type_name(u->object);
    const char *object = u->object.type == V_NONE ? "" : " object";
    if (u->name.type != V_STR) we_tpl_fail(r, "%s%s has no element %.*s", type, object, STR_ARG(name));
    we_tpl_fail(r, "'%s%s' has no attribute %.*s", type, object, STR_ARG(name));
}

/* ---- iterators ---- */

iterator *we_tpl_iterator(render *r, const char *type_name, bool (*next)(render *, iterator *, value *))
{
    iterator *it = we_tpl_calloc(r, 1, sizeof(*it));
    it->type_name = type_name;
    it->next = next;
    return it;
}

bool we_tpl_next(render *r, iterator *it, value *out)
{
    we_tpl_work(r, 1);
    we_tpl_enter(r); /* generators may stand in long rows, one asking the next */
    bool more = it->next(r, it, out);
    we_tpl_leave(r);
    return more;
}

static bool next_none(render *r, iterator *it, value *out)
{
    (void)r, (void)it, (void)out;
    return false;
}

static bool next_item(render *r, iterator *it, value *out)
{
    (void)r;
    if (it->index >= it->source.list->n) return false;
    *out = it->source.list->items[it->index++];
    return true;
}

static bool next_char(render *r, iterator *it, value *out) /* index: byte */
{
    const string *s = it->source.str;
    if (it->index >= s->len) return false;
    size_t end = it->index + 1;
    while (end < s->len && (s->ptr[end] & 0xC0) == 0x80) end++;
    *out = string_value(r, s->ptr + it->index, end - it->index, 1, NULL);
    it->index = end;
    return true;
}

static bool next_in_range(render *r, iterator *it, value *out)
{
    (void)r;
    const range *g = it->source.range;
    if ((int64_t)it->index >= g->n) return false;
    *out = v_int(g->start + (int64_t)it->index++ * g->step);
    return true;
}

static value view_item(render *r, view_kind kind, const dict_entry *e)
{
    return kind == VIEW_KEYS ? e->key : kind == VIEW_VALUES ? e->value : we_tpl_pair(r, e->key, e->value);
}

static bool next_in_view(render *r, iterator *it, value *out)
{
    const view *w = it->source.view;
    if (it->n != w->of->n) we_tpl_fail(r, "dictionary changed size during iteration");
    if (it->index >= w->of->n) return false;
    *out = view_item(r, w->kind, &w->of->entries[it->index++]);
    return true;
}

bool we_tpl_iterable(value v)
{
    switch (v.type) {
    case V_UNDEFINED:
    case V_STR:
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_RANGE:
    case V_VIEW:
    case V_ITER:
    case V_LOOP: return true;
    default: return false;
    }
}

static value keys_view(render *r, dict *d)
{
    view *w = we_tpl_alloc(r, sizeof(*w));
    *w = (view){ VIEW_KEYS, d };
    return (value){ .type = V_VIEW, .view = w };
}

static bool next_round(render *r, iterator *it, value *out) /* `loop` itself: pairs of item and loop */
{
    loop *l = it->source.loop;
    value item = we_tpl_loop_peek(r, l);
    if (item.type == V_MISSING) return false;
    l->after = V_MISSING_VALUE;
    l->index0++;
    l->before = l->current;
    l->current = item;
    *out = we_tpl_pair(r, item, it->source);
    return true;
}

iterator *we_tpl_iter(render *r, value v)
{
    if (v.type == V_ITER) return v.iter;
    iterator *it = we_tpl_iterator(r, "iterator", next_none);
    it->source = v;
    switch (v.type) {
    case V_UNDEFINED: break;
    case V_STR: it->next = next_char; break;
    case V_LIST:
    case V_TUPLE: it->next = next_item; break;
    case V_RANGE: it->next = next_in_range; break;
    case V_DICT: it->source = keys_view(r, v.dict); /* fall through */
    case V_VIEW:
        it->next = next_in_view;
        it->n = it->source.view->of->n;
        break;
    case V_LOOP: it->next = next_round; break;
    default: we_tpl_fail(r, "'%s' object is not iterable", we_tpl_type_name(v));
    }
    return it;
}

static bool next_item_back(render *r, iterator *it, value *out)
{
    (void)r;
    if (it->index == 0) return false;
    *out = it->source.list->items[--it->index];
    return true;
}

static bool next_char_back(render *r, iterator *it, value *out)
{
    const string *s = it->source.str;
    size_t end = it->index, start = end;
    if (end == 0) return false;
    do start--;
    while (start > 0 && (s->ptr[start] & 0xC0) == 0x80);
    *out = string_value(r, s->ptr + start, end - start, 1, NULL);
    it->index = start;
    return true;
}

static bool next_in_range_back(render *r, iterator *it, value *out)
{
    (void)r;
    const range *g = it->source.range;
    if (it->index == 0) return false;
    *out = v_int(g->start + (int64_t)--it->index * g->step);
    return true;
}

static bool next_in_view_back(render *r, iterator *it, value *out)
{
    if (it->index == 0) return false;
    *out = view_item(r, it->source.view->kind, &it->source.view->of->entries[--it->index]);
    return true;
}

iterator *we_tpl_reversed(render *r, value v)
{
    static const char *const view_types[] = { "dict_reversekeyiterator", "dict_reversevalueiterator",
                                              "dict_reverseitemiterator" };
    iterator *it = we_tpl_iterator(r, "reversed", next_none);
    it->source = v;
    switch (v.type) {
    case V_UNDEFINED: break;
    case V_STR:
        it->next = next_char_back;
        it->index = v.str->len;
        break;
    case V_LIST:
    case V_TUPLE:
        it->type_name = v.type == V_LIST ? "list_reverseiterator" : "reversed";
        it->next = next_item_back;
        it->index = v.list->n;
        break;
    case V_RANGE:
        it->type_name = "range_iterator";
        it->next = next_in_range_back;
        it->index = (size_t)v.range->n;
        break;
    case V_DICT: it->source = keys_view(r, v.dict); /* fall through */
    case V_VIEW:
        it->type_name = view_types[it->source.view->kind];
        it->next = next_in_view_back;
        it->index = it->source.view->of->n;
        break;
    default: return NULL;
    }
    return it;
}

/* ---- what every value can be asked ---- */

bool we_tpl_length(value v, int64_t *out)
{
    switch (v.type) {
    case V_UNDEFINED: *out = 0; return true;
    case V_STR: *out = (int64_t)v.str->n_chars; return true;
    case V_LIST:
    case V_TUPLE: *out = (int64_t)v.list->n; return true;
    case V_DICT: *out = (int64_t)v.dict->n; return true;
    case V_RANGE: *out = v.range->n; return true;
    case V_VIEW: *out = (int64_t)v.view->of->n; return true;
    default: return false;
    }
}

const char *we_tpl_type_name(value v)
{
    static const char *const names[] = {
        [V_MISSING] = "object",
        [V_UNDEFINED] = "Undefined",
        [V_NONE] = "NoneType",
        [V_BOOL] = "bool",
        [V_INT] = "int",
        [V_BIG] = "int",
        [V_FLOAT] = "float",
        [V_STR] = "str",
        [V_LIST] = "list",
        [V_TUPLE] = "tuple",
        [V_DICT] = "dict",
        [V_RANGE] = "range",
        [V_VIEW] = "",
        [V_ITER] = "",
        [V_FUNCTION] = "builtin_function_or_method",
        [V_MACRO] = "Macro",
        [V_NAMESPACE] = "TemplateNamespace",
        [V_LOOP] = "LoopContext",
        [V_CYCLER] = "Cycler",
        [V_JOINER] = "Joiner",
        [V_BLOCKS] = "TemplateReference",
    };
    static const char *const views[] = { "dict_keys", "dict_values", "dict_items" };
    if (v.type == V_VIEW) return views[v.view->kind];
    if (v.type == V_ITER) return v.iter->type_name;
    if (v.type == V_STR && v.str->markup) return "Markup";
    if (v.type == V_TUPLE && v.list->group) return "_GroupTuple";
    return names[v.type];
}

bool we_tpl_truth(value v)
{
    int64_t n;
    switch (v.type) {
    case V_MISSING:
    case V_NONE: return false;
    case V_BOOL: return v.boolean;
    case V_INT: return v.integer != 0;
    case V_FLOAT: return v.number != 0; /* NaN is true */
    default: return !we_tpl_length(v, &n) || n != 0;
    }
}

/* ---- from JSON ---- */

static value number_from_json(render *r, we_str text)
{
    int64_t i;
    bool is_float = false;
    for (size_t k = 0; k < text.len; k++) is_float |= text.ptr[k] == '.' || text.ptr[k] == 'e' || text.ptr[k] == 'E';
    if (is_float) {
        double d = 0;
        we_tpl_parse_float(r, text, &d);
        return v_float(d);
    }
    if (we_parse_i64(text, &i)) return v_int(i);
    bool negative = text.len && text.ptr[0] == '-';
    return we_tpl_int_parse(r, (we_str){ text.ptr + negative, text.len - negative }, 10, negative);
}

value we_tpl_from_json(render *r, const we_json *j)
{
    value v = V_NONE_VALUE;
    we_tpl_enter(r);
    we_tpl_work(r, 1);
    switch (j->type) {
    case WE_JSON_NULL: break;
    case WE_JSON_FALSE: v = v_bool(false); break;
    case WE_JSON_TRUE: v = v_bool(true); break;
    case WE_JSON_NUMBER: v = number_from_json(r, j->text); break;
    case WE_JSON_STRING: v = we_tpl_str(r, j->text); break;
    case WE_JSON_ARRAY:
        v = v_list(we_tpl_list_new(r, j->n));
        for (const we_json *c = j->first; c; c = c->next) we_tpl_list_push(r, v.list, we_tpl_from_json(r, c));
        break;
    case WE_JSON_OBJECT:
        v = v_dict(we_tpl_dict_new(r));
        for (const we_json *c = j->first; c; c = c->next)
            we_tpl_dict_set_str(r, v.dict, c->key, we_tpl_from_json(r, c));
        break;
    }
    we_tpl_leave(r);
    return v;
}
