/* SPDX-License-Identifier: Apache-2.0
 * tojson.c - the filter `tojson` as transformers defines it: json.dumps(x, ensure_ascii=False, indent, separators,
 * sort_keys). base/json.h writes JSON for programs; this one writes what Python writes, to the space. */
#include "template/template_int.h"

#include <math.h>
#include <stdio.h>

typedef struct dumper {
    render *r;
    bool ascii, sort, pretty;
    we_str indent, item, key; /* key: between a key and its value */
    int level;
} dumper;

static void put(dumper *d, we_str s) { we_tpl_put(d->r, s.ptr, s.len); }

static void dump_char(dumper *d, uint32_t c)
{
    static const char plain[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
    const char *known = c && c < 0x80 ? strchr(plain, (int)c) : NULL;
    char text[16];
    if (known)
        snprintf(text, sizeof(text), "\\%c", letters[known - plain]);
    else if (c < 0x20 || (d->ascii && c > 0x7E && c < 0x10000))
        snprintf(text, sizeof(text), "\\u%04x", (unsigned)c);
    else if (d->ascii && c >= 0x10000)
        snprintf(text, sizeof(text), "\\u%04x\\u%04x", 0xD7C0u + (unsigned)(c >> 10), 0xDC00u + (unsigned)(c & 0x3FF));
    else {
        we_tpl_put_rune(d->r, c);
        return;
    }
    we_tpl_put_c(d->r, text);
}

static void dump_string(dumper *d, we_str s)
{
    we_tpl_put(d->r, "\"", 1);
    we_tpl_work(d->r, s.len / 16);
    for (size_t i = 0; i < s.len;) {
        size_t from = i; /* most text is put as it stands */
        while (i < s.len && (unsigned char)s.ptr[i] >= 0x20 && s.ptr[i] != '"' && s.ptr[i] != '\\' &&
               !(d->ascii && (unsigned char)s.ptr[i] >= 0x7F))
            i++;
        we_tpl_put(d->r, s.ptr + from, i - from);
        if (i < s.len) dump_char(d, we_utf8_next(s, &i));
    }
    we_tpl_put(d->r, "\"", 1);
}

static void dump_float(dumper *d, double x)
{
    char text[40];
    if (isnan(x))
        we_tpl_put_c(d->r, "NaN");
    else if (isinf(x))
        we_tpl_put_c(d->r, x > 0 ? "Infinity" : "-Infinity");
    else
        we_tpl_put(d->r, text, we_tpl_float_repr(x, text));
}

static void line(dumper *d)
{
    if (!d->pretty) return;
    we_tpl_put(d->r, "\n", 1);
    for (int i = 0; i < d->level; i++) put(d, d->indent);
}

static void dump(dumper *d, value v);

static void dump_list(dumper *d, const list *l)
{
    if (l->n == 0) {
        we_tpl_put_c(d->r, "[]");
        return;
    }
    we_tpl_put(d->r, "[", 1);
    d->level++;
    for (size_t i = 0; i < l->n; i++) {
        if (i) put(d, d->item);
        line(d);
        dump(d, l->items[i]);
    }
    d->level--;
    line(d);
    we_tpl_put(d->r, "]", 1);
}

static void dump_key(dumper *d, value key)
{
    switch (key.type) {
    case V_STR: dump_string(d, str_of(key)); return;
    case V_NONE:
    case V_BOOL:
    case V_INT:
    case V_BIG:
    case V_FLOAT:
        we_tpl_put(d->r, "\"", 1);
        dump(d, key);
        we_tpl_put(d->r, "\"", 1);
        return;
    default: we_tpl_fail(d->r, "keys must be str, int, float, bool or None, not %s", we_tpl_type_name(key));
    }
}

static list *sorted_pairs(dumper *d, const dict *of)
{
    list *pairs = we_tpl_list_new(d->r, of->n);
    value *keys = we_tpl_calloc(d->r, of->n + 1, sizeof(*keys));
    for (size_t i = 0; i < of->n; i++) {
        keys[i] = of->entries[i].key;
        we_tpl_list_push(d->r, pairs, we_tpl_pair(d->r, keys[i], of->entries[i].value));
    }
    we_tpl_sort(d->r, keys, pairs->items, pairs->n, false);
    return pairs;
}

static void dump_dict(dumper *d, const dict *of)
{
    if (of->n == 0) {
        we_tpl_put_c(d->r, "{}");
        return;
    }
    const list *sorted = d->sort ? sorted_pairs(d, of) : NULL;
    we_tpl_put(d->r, "{", 1);
    d->level++;
    for (size_t i = 0; i < of->n; i++) {
        const dict_entry *e = &of->entries[i];
        if (i) put(d, d->item);
        line(d);
        dump_key(d, sorted ? sorted->items[i].list->items[0] : e->key);
        put(d, d->key);
        dump(d, sorted ? sorted->items[i].list->items[1] : e->value);
    }
    d->level--;
    line(d);
    we_tpl_put(d->r, "}", 1);
}

static void dump(dumper *d, value v)
{
    we_tpl_work(d->r, 1);
    we_tpl_enter(d->r);
    switch (v.type) {
    case V_NONE: we_tpl_put_c(d->r, "null"); break;
    case V_BOOL: we_tpl_put_c(d->r, v.boolean ? "true" : "false"); break;
    case V_INT:
    case V_BIG: we_tpl_write_repr(d->r, v); break;
    case V_FLOAT: dump_float(d, v.number); break;
    case V_STR: dump_string(d, str_of(v)); break;
    case V_LIST:
    case V_TUPLE: dump_list(d, v.list); break;
    case V_DICT: dump_dict(d, v.dict); break;
    default: we_tpl_fail(d->r, "Object of type %s is not JSON serializable", we_tpl_type_name(v));
    }
    we_tpl_leave(d->r);
}

static void read_indent(dumper *d, value v)
{
    int64_t n;
    if (!given(v) || v.type == V_NONE) return;
    d->pretty = true;
    if (v.type == V_STR) {
        d->indent = str_of(v);
        return;
    }
    if (!we_tpl_index(v, &n)) we_tpl_fail(d->r, "can't multiply sequence by non-int of type '%s'", we_tpl_type_name(v));
    if (n > 1000) we_tpl_fail(d->r, "an indentation of %lld is too large", (long long)n);
    d->indent = str_of(we_tpl_binary(d->r, OP_MUL, we_tpl_str_c(d->r, " "), v));
}

static void read_separators(dumper *d, value v)
{
    if (!given(v) || v.type == V_NONE) return;
    if (!we_tpl_iterable(v)) we_tpl_fail(d->r, "cannot unpack non-iterable %s object", we_tpl_type_name(v));
    const list *l = we_tpl_to_list(d->r, v);
    if (l->n != 2) we_tpl_fail(d->r, "expected 2 separators, got %zu", l->n);
    for (size_t i = 0; i < 2; i++)
        if (l->items[i].type != V_STR)
            we_tpl_fail(d->r, "separators must be str, not %s", we_tpl_type_name(l->items[i]));
    d->item = str_of(l->items[0]);
    d->key = str_of(l->items[1]);
}

value we_tpl_tojson(render *r, value self, const value *a, const call *c)
{
    (void)c;
    dumper d = { .r = r, .item = WE_STR(", "), .key = WE_STR(": ") };
    size_t start = r->out->len;
    d.ascii = given(a[0]) && we_tpl_truth(a[0]);
    d.sort = given(a[3]) && we_tpl_truth(a[3]);
    read_indent(&d, a[1]);
    if (d.pretty) d.item = WE_STR(",");
    read_separators(&d, a[2]);
    dump(&d, self);
    return we_tpl_take(r, start);
}
