/* SPDX-License-Identifier: Apache-2.0
 * precompiled.c - SentencePiece's normalization maps (Precompiled): base64 of
 *
 *     u32 little-endian: trie's bytes | the trie: u32 units of a double array | replacements, each with a NUL behind it
 *
 * Each grapheme cluster below six bytes is looked up: the SHORTEST key that begins it counts, and its replacement takes the
 * place of the WHOLE cluster. Other clusters are looked up character by character. That is what the reference does.
 * Source: darts-clone's double_array units, the crate spm_precompiled. */
#include "tokenizer/tokenizer_int.h"

typedef struct charsmap {
    const uint32_t *units;
    size_t n_units;
    we_str texts;
} charsmap;

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool base64_decode(we_str in, unsigned char *out, size_t *n)
{
    uint32_t bits = 0;
    int n_bits = 0;
    *n = 0;
    while (in.len && in.ptr[in.len - 1] == '=') in.len--;
    for (size_t i = 0; i < in.len; i++) {
        int value = base64_value(in.ptr[i]);
        if (value < 0) return false;
        bits = bits << 6 | (uint32_t)value;
        if ((n_bits += 6) >= 8) {
            n_bits -= 8;
            out[(*n)++] = (unsigned char)(bits >> n_bits);
        }
    }
    return true;
}

static uint32_t little_endian(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

we_status we_precompiled_parse(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    we_str text;
    we_status st = we_tok_get_str(tok, json, "precompiled_charsmap", where, true, &text, err);
    if (st) return st;
    unsigned char *bytes = we_arena_alloc(&tok->arena, text.len / 4 * 3 + 4);
    charsmap *map = we_arena_calloc(&tok->arena, 1, sizeof(*map));
    if (!bytes || !map) return we_fail(err, WE_E_NOMEM, "%s: no memory for its map", where);
    size_t n;
    if (!base64_decode(text, bytes, &n))
        return we_fail(err, WE_E_FORMAT, "%s.precompiled_charsmap is not base64", where);
    if (n < 4 || little_endian(bytes) > n - 4)
        return we_fail(err, WE_E_FORMAT, "%s.precompiled_charsmap is cut short", where);
    map->n_units = little_endian(bytes) / 4;
    uint32_t *units = we_arena_calloc(&tok->arena, map->n_units, sizeof(*units));
    if (!units) return we_fail(err, WE_E_NOMEM, "%s: no memory for its map", where);
    for (size_t i = 0; i < map->n_units; i++) units[i] = little_endian(bytes + 4 + 4 * i);
    map->units = units;
    size_t texts = 4 + 4 * map->n_units; /* a remainder of the size is passed over by the reference as well */
    map->texts = (we_str){ (const char *)bytes + texts, n - texts };
    if (we_utf8_valid(map->texts) != map->texts.len)
        return we_fail(err, WE_E_FORMAT, "%s.precompiled_charsmap holds replacements that are not UTF-8", where);
    part->data = map;
    return WE_OK;
}

static size_t unit_offset(uint32_t unit) { return (size_t)(unit >> 10) << ((unit & 1U << 9) >> 6); }

/* The replacement of the shortest key that begins `key`. */
static bool look_up(const charsmap *map, we_str key, we_str *out)
{
    if (map->n_units == 0) return false;
    size_t at = unit_offset(map->units[0]);
    for (size_t i = 0; i < key.len && key.ptr[i]; i++) {
        unsigned char byte = (unsigned char)key.ptr[i];
        at ^= byte;
        if (at >= map->n_units || (map->units[at] & (1U << 31 | 0xFF)) != byte) return false;
        uint32_t unit = map->units[at];
        at ^= unit_offset(unit);
        if (!(unit >> 8 & 1)) continue;
        size_t start = at < map->n_units ? map->units[at] & ~(1U << 31) : SIZE_MAX;
        if (start > map->texts.len || (start < map->texts.len && (map->texts.ptr[start] & 0xC0) == 0x80))
            return false; /* a lying map */
        const char *text = map->texts.ptr + start;
        const char *nul = memchr(text, 0, map->texts.len - start);
        *out = (we_str){ text, nul ? (size_t)(nul - text) : map->texts.len - start };
        return true;
    }
    return false;
}

we_status we_precompiled_run(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    const charsmap *map = part->data;
    for (size_t i = 0; i < in.len;) {
        size_t end = we_uni_grapheme_end(in, i);
        we_str text;
        if (end - i < 6 && look_up(map, (we_str){ in.ptr + i, end - i }, &text)) {
            we_buf_append_str(out, text);
            i = end;
            continue;
        }
        while (i < end) {
            size_t at = i;
            we_utf8_next(in, &i);
            we_str one = { in.ptr + at, i - at };
            we_buf_append_str(out, look_up(map, one, &text) ? text : one);
        }
    }
    return we_buf_status(out, err, "normalized text");
}
