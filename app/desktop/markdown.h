/* SPDX-License-Identifier: Apache-2.0
 * markdown.h - what models write, cut into blocks with Pango markup: paragraphs, headings, lists, quotes, tables, code. No widgets
 * here (message.c makes them), no HTML (it is text), no images (a link stands in their place).
 *
 * What always holds: markup is valid for Pango whatever the input; <a> leads to http(s) only; all text is there, in its order. */
#ifndef DESK_MARKDOWN_H
#define DESK_MARKDOWN_H

#include "base/base.h"

typedef enum desk_block_kind {
    DESK_PARAGRAPH,
    DESK_HEADING, /* `level` 1 to 6 */
    DESK_ITEM,    /* of a list; `marker` is what stands before it, "" for a further paragraph of an item */
    DESK_CODE,    /* `text` is the code, `marker` the language or "" */
    DESK_RULE,
    DESK_TABLE /* cells are joined by '\x1f', rows by '\x1e'; the first row is the head */
} desk_block_kind;

typedef struct desk_block {
    desk_block_kind kind;
    int level;    /* of a heading */
    int depth;    /* how deep in lists: 0 is outside, or an item of the outermost list */
    int quotes;   /* how deep in quotes */
    char *text;   /* markup; of DESK_CODE plain text; never NULL */
    char *marker; /* never NULL */
} desk_block;

typedef struct desk_blocks { /* zeroed is empty; `failed`: memory ran out, the blocks until then are good */
    desk_block *items;
    size_t n, capacity;
    bool failed;
} desk_blocks;

/** Read a text; what is not UTF-8 is replaced. Code that is not closed goes on to the end, so a text may be read while it comes. */
void desk_markdown(desk_blocks *out, we_str text);
void desk_blocks_deinit(desk_blocks *blocks);
/** One line of inline markdown as markup, appended. */
void desk_markdown_inline(we_buf *out, we_str text);
/** Text as markup that shows it as it is, appended. */
void desk_markup_escape(we_buf *out, we_str text);

#endif
