/* SPDX-License-Identifier: Apache-2.0
 * precompiled.c - SentencePiece's normalization maps (Precompiled): base64 of
 *
 *     u32 little-endian: trie's bytes | the trie: u32 units of a double array | replacements, each with a NUL behind it
 *
 * Each grapheme cluster below six bytes is looked up: the SHORTEST key that begins it counts, and its replacement takes the
 * place of the WHOLE cluster. Other clusters are looked up character by character. That is what the reference does.
 * SentencePiece itself (model_spm.c) takes the longest key and replaces no more than that.
 * Source: darts-clone's double_array units, the crate spm_precompiled. */
#include "tokenizer/tokenizer_int.h"

struct we_charsmap {
    const uint32_t *units;
    size_t n_units;
    we_str texts;
};

static uint32_t little_endian(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

we_status we_charsmap_read(we_tok *tok, we_str blob, const char *where, const we_charsmap **out, we_error *err)
{
    const unsigned char *bytes = (const unsigned char *)blob.ptr;
    we_charsmap *map = we_arena_calloc(&tok->arena, 1, sizeof(*map));
    if (!map) return we_fail(err, WE_E_NOMEM, "%s: no memory for its map", where);
    if (blob.len < 4 || little_endian(bytes) > blob.len - 4)
        return we_fail(err, WE_E_FORMAT, "%s.precompiled_charsmap is cut short", where);
    map->n_units = little_endian(bytes) / 4;
    uint32_t *units = we_arena_calloc(&tok->arena, map->n_units, sizeof(*units));
    if (!units) return we_fail(err, WE_E_NOMEM, "%s: no memory for its map", where);
    for (size_t i = 0; i < map->n_units; i++) units[i] = little_endian(bytes + 4 + 4 * i);
    map->units = units;
    size_t texts = 4 + 4 * map->n_units; /* a remainder of the size is passed over by the reference as well */
    we_status st = we_tok_copy(tok, (we_str){ blob.ptr + texts, blob.len - texts }, &map->texts, err);
    if (st) return st;
    if (we_utf8_valid(map->texts) != map->texts.len)
        return we_fail(err, WE_E_FORMAT, "%s.precompiled_charsmap holds replacements that are not UTF-8", where);
    *out = map;
    return WE_OK;
}

we_status we_precompiled_parse(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    we_str text;
    size_t n;
    if (!we_json_str(we_json_get(json, "precompiled_charsmap"), &text))
        return we_fail(err, WE_E_FORMAT, "%s.precompiled_charsmap is %s, expected a string", where,
                       we_json_type_name(we_json_get(json, "precompiled_charsmap")));
    char *bytes = we_malloc(text.len / 4 * 3 + 4);
    if (!bytes) return we_fail(err, WE_E_NOMEM, "%s: no memory for its map", where);
    const we_charsmap *map = NULL;
    we_status st = we_base64_decode(text, bytes, &n)
                       ? we_charsmap_read(tok, (we_str){ bytes, n }, where, &map, err)
                       : we_fail(err, WE_E_FORMAT, "%s.precompiled_charsmap is not base64", where);
    part->data = (void *)(uintptr_t)map;
    we_free(bytes);
    return st;
}

static size_t unit_offset(uint32_t unit) { return (size_t)(unit >> 10) << ((unit & 1U << 9) >> 6); }

/* A key that begins `key`, the shortest or the longest: its bytes (0: none), and its replacement. */
static size_t look_up(const we_charsmap *map, we_str key, bool longest, we_str *out)
{
    size_t len = 0;
    if (map->n_units == 0) return 0;
    size_t at = unit_offset(map->units[0]);
    for (size_t i = 0; i < key.len && key.ptr[i] && (longest || !len); i++) {
        unsigned char byte = (unsigned char)key.ptr[i];
        at ^= byte;
        if (at >= map->n_units || (map->units[at] & (1U << 31 | 0xFF)) != byte) break;
        uint32_t unit = map->units[at];
        at ^= unit_offset(unit);
        if (!(unit >> 8 & 1)) continue;
        size_t start = at < map->n_units ? map->units[at] & ~(1U << 31) : SIZE_MAX;
        if (start > map->texts.len || (start < map->texts.len && (map->texts.ptr[start] & 0xC0) == 0x80))
            break; /* a lying map */
        const char *text = map->texts.ptr + start;
        const char *nul = memchr(text, 0, map->texts.len - start);
        *out = (we_str){ text, nul ? (size_t)(nul - text) : map->texts.len - start };
        len = i + 1;
    }
    return len;
}

size_t we_charsmap_longest(const we_charsmap *map, we_str text, we_str *replacement)
{
    size_t len = look_up(map, text, true, replacement);
    return len < text.len && (text.ptr[len] & 0xC0) == 0x80 ? 0 : len; /* a key that ends within a character */
}

we_status we_precompiled_run(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    const we_charsmap *map = part->data;
    for (size_t i = 0; i < in.len;) {
        size_t end = we_uni_grapheme_end(in, i);
        we_str text;
        if (end - i < 6 && look_up(map, (we_str){ in.ptr + i, end - i }, false, &text)) {
            we_buf_append_str(out, text);
            i = end;
            continue;
        }
        while (i < end) {
            size_t at = i;
            we_utf8_next(in, &i);
            we_str one = { in.ptr + at, i - at };
            we_buf_append_str(out, look_up(map, one, false, &text) ? text : one);
        }
    }
    return we_buf_status(out, err, "normalized text");
}
