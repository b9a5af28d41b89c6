/* SPDX-License-Identifier: Apache-2.0
 * stop.c - stop texts in a stream. What is given out does not depend on where the stream is cut into pieces: a place at which
 * a stop text may still begin is held back together with all behind it, even a shorter stop text that is complete there,
 * until the earlier one is decided. Only `which` may depend on it: of "\n" and "\n\n" the first complete one ends the answer,
 * since the text is the same and waiting would cost another token. */
#include "sampling/sampling.h"

we_status we_stop_init(we_stop *stop, const we_str *texts, size_t n, we_error *err)
{
    *stop = (we_stop){ .texts = texts, .n = n };
    for (size_t i = 0; i < n; i++)
        if (texts[i].len == 0) return we_fail(err, WE_E_ARG, "stop text %zu is empty: leave it out", i + 1);
    return WE_OK;
}

void we_stop_deinit(we_stop *stop)
{
    we_buf_deinit(&stop->held);
    we_buf_deinit(&stop->out);
}

/* What begins at a place: nothing, a whole stop text, or what may become one. */
typedef enum found { NOTHING, WHOLE, BEGINNING } found;

static found look_at(we_stop *stop, we_str rest)
{
    found best = NOTHING;
    for (size_t i = 0; i < stop->n; i++) {
        const we_str text = stop->texts[i];
        if (text.ptr[0] != rest.ptr[0]) continue;
        if (we_str_starts_with(rest, text)) {
            if (best != WHOLE || text.len > stop->texts[stop->which].len) stop->which = i;
            best = WHOLE;
        } else if (best == NOTHING && we_str_starts_with(text, rest)) {
            best = BEGINNING;
        }
    }
    return best;
}

/* Move the first n bytes that are held to `out`. */
static void release(we_stop *stop, size_t n)
{
    we_buf_append(&stop->out, stop->held.ptr, n);
    stop->held.len -= n;
    if (n) memmove(stop->held.ptr, stop->held.ptr + n, stop->held.len + 1); /* and the NUL */
}

/* Give out what is held up to the first stop text or, where more may come, up to where one may begin. */
static we_status give(we_stop *stop, bool more_may_come, we_str *out, we_error *err)
{
    size_t n_safe = 0;
    while (n_safe < stop->held.len && !stop->stopped) {
        const found here = look_at(stop, (we_str){ stop->held.ptr + n_safe, stop->held.len - n_safe });
        if (here == BEGINNING && more_may_come) break;
        if (here == WHOLE)
            stop->stopped = true;
        else
            n_safe++;
    }
    release(stop, n_safe);
    if (stop->stopped) we_buf_clear(&stop->held);
    *out = we_buf_str(&stop->out);
    return we_buf_status(&stop->out, err, "the text before a stop text");
}

we_status we_stop_feed(we_stop *stop, we_str piece, we_str *out, we_error *err)
{
    we_buf_clear(&stop->out);
    if (!stop->stopped) we_buf_append_str(&stop->held, piece);
    const we_status st = we_buf_status(&stop->held, err, "the text before a stop text");
    return st ? st : give(stop, true, out, err);
}

we_status we_stop_flush(we_stop *stop, we_str *out, we_error *err)
{
    we_buf_clear(&stop->out);
    return give(stop, false, out, err);
}
