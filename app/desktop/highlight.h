/* SPDX-License-Identifier: Apache-2.0
 * highlight.h - the words of code that deserve a colour, in some twenty languages. Good enough to read by, not a parser: a table says
 * how a language writes comments, strings and keywords. No widgets here; message.c has the colours. */
#ifndef DESK_HIGHLIGHT_H
#define DESK_HIGHLIGHT_H

#include "base/base.h"

typedef enum desk_token {
    DESK_TOKEN_KEYWORD,
    DESK_TOKEN_VALUE, /* true, NULL, types that the language brings along */
    DESK_TOKEN_STRING,
    DESK_TOKEN_NUMBER,
    DESK_TOKEN_COMMENT,
    DESK_TOKEN_NAME, /* a function that is called, a key, a tag, a variable of a shell */
    DESK_TOKENS
} desk_token;

/** Call `fn` for each word, in order: bytes [from, to) of `code`, which begin and end between characters of UTF-8 that is valid.
 * language: as it stands behind ``` ("py", "C++"); one that is not known has no words. */
void desk_highlight(const char *language, we_str code, void (*fn)(void *user, desk_token token, size_t from, size_t to),
                    void *user);

#endif
