/* SPDX-License-Identifier: Apache-2.0
 * trie.c - keys by their bytes. All edges lie in one hash table of (node, byte); the root's, which every search asks first,
 * in an array. Serves added tokens and Unigram. */
#include "tokenizer/tokenizer_int.h"

static size_t slot_of(const we_trie *t, uint32_t key)
{
    uint32_t hash = key * 0x9E3779B1U;
    hash ^= hash >> 15;
    size_t at = hash & (t->n_slots - 1);
    while (t->edges[at].key && t->edges[at].key != key) at = (at + 1) & (t->n_slots - 1);
    return at;
}

static bool grow_edges(we_trie *t)
{
    we_trie old = *t;
    t->n_slots = old.n_slots ? old.n_slots * 2 : 256;
    t->edges = we_calloc(t->n_slots, sizeof(*t->edges));
    if (!t->edges) {
        t->edges = old.edges;
        t->n_slots = old.n_slots;
        return false;
    }
    for (size_t i = 0; i < old.n_slots; i++)
        if (old.edges[i].key) t->edges[slot_of(t, old.edges[i].key)] = old.edges[i];
    we_free(old.edges);
    return true;
}

static uint32_t node_new(we_trie *t) /* 0: memory is out, or 2^24 nodes are there */
{
    if (t->n_nodes == t->capacity) {
        size_t capacity = t->capacity ? t->capacity * 2 : 64;
        int32_t *values = we_realloc_array(t->values, capacity, sizeof(*values));
        if (!values) return 0;
        t->values = values;
        t->capacity = capacity;
    }
    if (t->n_nodes == 0) t->values[t->n_nodes++] = -1; /* the root */
    if (t->n_nodes >= 1U << 24) return 0;
    t->values[t->n_nodes] = -1;
    return (uint32_t)t->n_nodes++;
}

uint32_t we_trie_step(const we_trie *t, uint32_t node, unsigned char byte)
{
    if (node == 0) return t->root[byte];
    if (t->n_slots == 0) return 0;
    return t->edges[slot_of(t, (node << 8 | byte) + 1)].node;
}

bool we_trie_add(we_trie *t, we_str key, int32_t value)
{
    uint32_t node = 0;
    if (t->capacity == 0 && node_new(t) == 0) /* also makes the root; the first node stays unused */
        return false;
    for (size_t i = 0; i < key.len; i++) {
        unsigned char byte = (unsigned char)key.ptr[i];
        uint32_t next = we_trie_step(t, node, byte);
        if (!next) {
            if (t->n_edges * 3 >= t->n_slots * 2 && !grow_edges(t)) return false;
            if (!(next = node_new(t))) return false;
            if (node == 0) {
                t->root[byte] = next;
            } else {
                uint32_t edge = (node << 8 | byte) + 1;
                t->edges[slot_of(t, edge)] = (we_trie_edge){ edge, next };
                t->n_edges++;
            }
        }
        node = next;
    }
    t->values[node] = value;
    return true;
}

void we_trie_deinit(we_trie *t)
{
    if (!t->borrowed) {
        we_free(t->edges);
        we_free(t->values);
    }
    *t = (we_trie){ 0 };
}

/* ---- The compiled form ---- */

void we_trie_give(const we_trie *t, we_tables *tables)
{
    tables->table[WE_TABLE_EDGES] = WE_TABLE_OF(t->edges, t->n_slots);
    tables->table[WE_TABLE_VALUES] = WE_TABLE_OF(t->values, t->n_nodes);
    tables->table[WE_TABLE_ROOT] = WE_TABLE_OF(t->root, WE_COUNT(t->root));
}

bool we_trie_take(we_trie *t, const we_tables *tables, size_t n_values)
{
    const we_str *table = tables->table;
    *t = (we_trie){ .borrowed = true };
    t->edges = (we_trie_edge *)table[WE_TABLE_EDGES].ptr;
    t->n_slots = table[WE_TABLE_EDGES].len / sizeof(*t->edges);
    t->values = (int32_t *)table[WE_TABLE_VALUES].ptr;
    t->n_nodes = table[WE_TABLE_VALUES].len / sizeof(*t->values);
    if (table[WE_TABLE_ROOT].len != sizeof(t->root) || t->n_slots & (t->n_slots - 1)) return false;
    memcpy(t->root, table[WE_TABLE_ROOT].ptr, sizeof(t->root));
    for (size_t i = 0; i < WE_COUNT(t->root); i++)
        if (t->root[i] && t->root[i] >= t->n_nodes) return false;
    for (size_t i = 0; i < t->n_nodes; i++)
        if (t->values[i] < -1 || (t->values[i] >= 0 && (size_t)t->values[i] >= n_values)) return false;
    size_t n_free = 0;
    for (size_t i = 0; i < t->n_slots; i++) {
        if (t->edges[i].key ? t->edges[i].node >= t->n_nodes : t->edges[i].node) return false;
        n_free += !t->edges[i].key;
    }
    return n_free > 0 || t->n_slots == 0; /* a search ends at a free slot */
}
