/* SPDX-License-Identifier: Apache-2.0
 * vocab.c - the model's tokens: one pool of bytes, 12 bytes a token and a hash table of 8-byte slots. */
#include "tokenizer/tokenizer_int.h"

static uint32_t hash_more(uint32_t hash, we_str text) /* FNV-1a: tokens are short */
{
    for (size_t i = 0; i < text.len; i++) hash = (hash ^ (unsigned char)text.ptr[i]) * 16777619U;
    return hash;
}

static uint32_t hash_end(uint32_t hash) /* FNV's low bits are weak: mix */
{
    hash ^= hash >> 15;
    hash *= 0x2C1B3C6DU;
    return hash ^ hash >> 13;
}

static bool grow(we_vocab *v)
{
    size_t n_slots = v->n_slots ? v->n_slots * 2 : 1024;
    we_vocab_slot *slots = we_calloc(n_slots, sizeof(*slots));
    if (!slots) return false;
    for (size_t i = 0; i < v->n_slots; i++) {
        if (!v->slots[i].token) continue;
        size_t at = v->slots[i].hash & (n_slots - 1);
        while (slots[at].token) at = (at + 1) & (n_slots - 1);
        slots[at] = v->slots[i];
    }
    we_free(v->slots);
    v->slots = slots;
    v->n_slots = n_slots;
    return true;
}

bool we_vocab_add(we_vocab *v, we_str text, int32_t id)
{
    if (v->n * 3 >= v->n_slots * 2 && !grow(v)) return false;
    if (v->n == v->capacity) {
        size_t capacity = v->capacity ? v->capacity * 2 : 1024;
        we_vocab_token *tokens = we_realloc_array(v->tokens, capacity, sizeof(*tokens));
        if (!tokens) return false;
        v->tokens = tokens;
        v->capacity = capacity;
    }
    uint32_t hash = hash_end(hash_more(2166136261U, text));
    v->tokens[v->n] = (we_vocab_token){ (uint32_t)v->pool.len, (uint32_t)text.len, id };
    if (!we_buf_reserve(&v->pool, text.len)) return false; /* an only token that is empty has a place as well */
    we_buf_append(&v->pool, text.ptr, text.len);
    v->n++;
    v->max_len = WE_MAX(v->max_len, text.len);
    v->max_id = v->n == 1 ? id : WE_MAX(v->max_id, id);
    size_t at = hash & (v->n_slots - 1);
    for (; v->slots[at].token; at = (at + 1) & (v->n_slots - 1))
        if (v->slots[at].hash == hash && we_str_eq(we_vocab_text(v, v->slots[at].token - 1), text)) break;
    v->slots[at] = (we_vocab_slot){ hash, (uint32_t)v->n };
    return true;
}

uint32_t we_vocab_hash_pair(we_str a, we_str b) { return hash_end(hash_more(hash_more(2166136261U, a), b)); }

void we_vocab_prefetch(const we_vocab *v, uint32_t hash, int step)
{
    if (v->n_slots == 0) return;
    const we_vocab_slot *slot = &v->slots[hash & (v->n_slots - 1)];
    if (step == 0)
        __builtin_prefetch(slot);
    else if (slot->token && step == 1)
        __builtin_prefetch(&v->tokens[slot->token - 1]);
    else if (slot->token)
        __builtin_prefetch(v->pool.ptr + v->tokens[slot->token - 1].start);
}

int32_t we_vocab_find_hashed(const we_vocab *v, uint32_t hash, we_str a, we_str b)
{
    if (v->n_slots == 0) return -1;
    for (size_t at = hash & (v->n_slots - 1); v->slots[at].token; at = (at + 1) & (v->n_slots - 1)) {
        if (v->slots[at].hash != hash) continue;
        const we_vocab_token *token = &v->tokens[v->slots[at].token - 1];
        const char *text = v->pool.ptr + token->start;
        if (token->len == a.len + b.len && (a.len == 0 || memcmp(text, a.ptr, a.len) == 0) &&
            (b.len == 0 || memcmp(text + a.len, b.ptr, b.len) == 0))
            return token->id;
    }
    return -1;
}

int32_t we_vocab_find_pair(const we_vocab *v, we_str a, we_str b)
{
    return we_vocab_find_hashed(v, we_vocab_hash_pair(a, b), a, b);
}

int32_t we_vocab_find(const we_vocab *v, we_str text) { return we_vocab_find_pair(v, text, (we_str){ "", 0 }); }

we_status we_vocab_each_split(const we_vocab *v, we_split_fn fn, void *user, we_error *err)
{
    for (size_t token = 0; token < v->n; token++) {
        const we_str text = we_vocab_text(v, token);
        for (size_t i = 1; i < text.len; i++) {
            if ((text.ptr[i] & 0xC0) == 0x80) continue;
            int32_t left = we_vocab_find(v, (we_str){ text.ptr, i });
            int32_t right = left < 0 ? -1 : we_vocab_find(v, (we_str){ text.ptr + i, text.len - i });
            we_status st = right < 0 ? WE_OK : fn(user, v->tokens[token].id, left, right, err);
            if (st) return st;
        }
    }
    return WE_OK;
}

void we_vocab_deinit(we_vocab *v)
{
    we_buf_deinit(&v->pool);
    if (!v->borrowed) {
        we_free(v->tokens);
        we_free(v->slots);
    }
    *v = (we_vocab){ 0 };
}

/* ---- The compiled form ---- */

void we_vocab_give(const we_vocab *v, we_tables *tables)
{
    tables->table[WE_TABLE_POOL] = we_buf_str(&v->pool);
    tables->table[WE_TABLE_TOKENS] = WE_TABLE_OF(v->tokens, v->n);
    tables->table[WE_TABLE_SLOTS] = WE_TABLE_OF(v->slots, v->n_slots);
}

static bool check_token(we_vocab *v, const we_vocab_token *token)
{
    if (token->start > v->pool.len || token->len > v->pool.len - token->start || token->id < 0 ||
        token->id >= WE_TOK_MAX_ID)
        return false;
    const char *text = v->pool.ptr + token->start; /* with a NUL behind the pool: both ends must be a character's */
    v->max_len = WE_MAX(v->max_len, token->len);
    v->max_id = WE_MAX(v->max_id, token->id);
    return (text[0] & 0xC0) != 0x80 && (text[token->len] & 0xC0) != 0x80;
}

/* The pool is copied: its text must stay UTF-8, whatever happens to the map. */
bool we_vocab_take(we_vocab *v, const we_tables *tables)
{
    const we_str *t = tables->table;
    *v = (we_vocab){ .borrowed = true, .max_id = -1 };
    v->tokens = (we_vocab_token *)t[WE_TABLE_TOKENS].ptr;
    v->n = t[WE_TABLE_TOKENS].len / sizeof(*v->tokens);
    v->slots = (we_vocab_slot *)t[WE_TABLE_SLOTS].ptr;
    v->n_slots = t[WE_TABLE_SLOTS].len / sizeof(*v->slots);
    we_buf_append_str(&v->pool, t[WE_TABLE_POOL]);
    if (v->pool.failed || !v->pool.ptr || we_utf8_valid(t[WE_TABLE_POOL]) != t[WE_TABLE_POOL].len ||
        v->n_slots & (v->n_slots - 1) || v->n > WE_TOK_MAX_ID || v->n > v->n_slots)
        return false;
    for (size_t i = 0; i < v->n; i++)
        if (!check_token(v, &v->tokens[i])) return false;
    size_t n_free = 0;
    for (size_t i = 0; i < v->n_slots; i++) {
        if (v->slots[i].token > v->n) return false;
        n_free += !v->slots[i].token;
    }
    return n_free > 0 || v->n_slots == 0; /* a search ends at a free slot */
}
