/* SPDX-License-Identifier: Apache-2.0
 * spec.h - how one number or text is laid out: what "%-8.3f" and "{:<8.3f}" have in common. */
#ifndef WE_TEMPLATE_SPEC_H
#define WE_TEMPLATE_SPEC_H

#include "template/template_int.h"

typedef struct spec {
    uint32_t fill;     /* 0: a blank */
    char align;        /* '<', '>', '^', '=' or 0 */
    char sign;         /* '+', ' ', or 0: only minus */
    bool alternate;    /* '#' */
    bool zero;         /* pad with zeros behind the sign */
    int64_t width;     /* 0: none */
    int64_t precision; /* -1: none */
    char grouping;     /* ',', '_' or 0 */
    char type;
} spec;

void we_tpl_put_padded(render *r, const spec *s, we_str sign, we_str body, char align);
void we_tpl_put_int(render *r, const spec *s, value v);    /* types b c d o x X n */
void we_tpl_put_float(render *r, const spec *s, double d); /* types e E f F g G n %, 0: like repr */
void we_tpl_put_text(render *r, const spec *s, value str); /* precision cuts */
bool we_tpl_is_ascii_digit(char c);
int64_t we_tpl_scan_count(render *r, we_str s, size_t *i); /* digits; raises when absurd */

#endif
