/* SPDX-License-Identifier: Apache-2.0
 * regex.h - regular expressions as Hugging Face tokenizers write them: Oniguruma's dialect, Unicode 16, over valid UTF-8.
 *
 * Matches are those of a backtracking engine (leftmost, first alternative first), found in time linear in the text: a table
 * of states where the pattern allows it, else backtracking that remembers what has failed (regex_match.c).
 * Not here: back-references, subexpression calls, conditionals, \G, \K, \X and \y, all refused by name. */
#ifndef WE_TOKENIZER_REGEX_H
#define WE_TOKENIZER_REGEX_H

#include "base/base.h"

typedef struct we_regex we_regex; /* immutable; any thread may use it */

/** Errors: WE_E_FORMAT (names the place in the pattern), WE_E_UNSUPPORTED (names the construct), WE_E_NOMEM. */
we_status we_regex_compile(we_regex **out, we_str pattern, we_error *err);
/** A pattern that matches exactly these bytes. */
we_status we_regex_compile_literal(we_regex **out, we_str literal, we_error *err);
void we_regex_free(we_regex *re); /* NULL is allowed */
/** Whether the fast tables serve it; for tests. */
bool we_regex_has_dfa(const we_regex *re);

/* All matches in a text, one after the other, as Oniguruma's find_iter gives them: an empty match right behind the last match
 * is passed over. Zeroed by _init; the text is borrowed. */
typedef struct we_regex_memo we_regex_memo;
typedef struct we_regex_scan {
    const we_regex *re;
    we_str text;
    size_t pos, last_end; /* last_end: SIZE_MAX before the first match */
    size_t n_steps;       /* so far: the measure of hostile input */
    bool force_memo;      /* tests: do without the table */
    we_regex_memo *memo;
    bool out_of_memory;
} we_regex_scan;
void we_regex_scan_init(we_regex_scan *scan, const we_regex *re, we_str text);
void we_regex_scan_deinit(we_regex_scan *scan);
/** False: no more, or memory ran out (scan->out_of_memory). */
bool we_regex_scan_next(we_regex_scan *scan, size_t *start, size_t *end);

#endif
