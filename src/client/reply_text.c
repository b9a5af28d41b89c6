/* SPDX-License-Identifier: Apache-2.0
 * reply_text.c - what is done to the text of an answer on its way to the caller: special tokens that a server let through are
 * taken out, and the echo of an answer that is being continued is dropped. Both hold text back only while it may still become
 * one of them, wherever the pieces are cut. */
#include "client/client_int.h"

/* ---- Special tokens ---- */

typedef enum place { ANYWHERE, AT_BEGIN, AT_END } place; /* what is HTML or prose elsewhere goes only at an edge */

static const struct {
    const char *text;
    place place;
} specials[] = {
    { "<|im_end|>", ANYWHERE },
    { "<|im_start|>", ANYWHERE },
    { "<|endoftext|>", ANYWHERE },
    { "<|eot_id|>", ANYWHERE },
    { "<|eom_id|>", ANYWHERE },
    { "<|end_of_text|>", ANYWHERE },
    { "<|begin_of_text|>", ANYWHERE },
    { "<|start_header_id|>", ANYWHERE },
    { "<|end_header_id|>", ANYWHERE },
    { "<|end|>", ANYWHERE },
    { "<|user|>", ANYWHERE },
    { "<|assistant|>", ANYWHERE },
    { "<|system|>", ANYWHERE },
    { "<|eot|>", ANYWHERE },
    { "<|END_OF_TURN_TOKEN|>", ANYWHERE },
    { "<|return|>", ANYWHERE },
    { "<|im_sep|>", ANYWHERE },
    { "<end_of_turn>", ANYWHERE },
    { "<start_of_turn>", ANYWHERE },
    { "<\xEF\xBD\x9C"
      "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
      ANYWHERE },
    { "<bos>", AT_BEGIN },
    { "<s>", AT_BEGIN },
    { "<eos>", AT_END },
    { "</s>", AT_END },
    { "[/INST]", AT_END },
};

static bool is_blank(we_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!strchr(" \t\r\n", s.ptr[i]) || !s.ptr[i]) return false;
    return true;
}

typedef enum match { NO, DROP, WAIT } match;

/* What stands at the beginning of `s`, more of which may come. *len: of what is to be dropped. */
static match match_special(we_str s, bool at_begin, bool ended, size_t *len)
{
    match best = NO;
    for (size_t i = 0; i < WE_COUNT(specials); i++) {
        const we_str t = we_str_from(specials[i].text);
        if (specials[i].place == AT_BEGIN && !at_begin) continue;
        if (s.len < t.len) {
            if (!ended && memcmp(s.ptr, t.ptr, s.len) == 0) best = WAIT;
            continue;
        }
        if (memcmp(s.ptr, t.ptr, t.len) != 0) continue;
        *len = t.len;
        if (specials[i].place != AT_END) return DROP;
        if (!is_blank((we_str){ s.ptr + t.len, s.len - t.len })) continue;
        if (ended) return DROP;
        best = WAIT;
    }
    return best;
}

void we_cleaner_feed(we_cleaner *c, we_str text, bool ended, we_buf *out)
{
    we_buf_append_str(&c->held, text);
    const we_str all = we_buf_str(&c->held);
    size_t at = 0;
    while (at < all.len) {
        const we_str rest = { all.ptr + at, all.len - at };
        size_t len = 0;
        const match m = rest.ptr[0] == '<' || rest.ptr[0] == '[' ? match_special(rest, !c->begun, ended, &len) : NO;
        if (m == WAIT) break;
        if (m == DROP) {
            at += len;
            continue;
        }
        c->begun = c->begun || !is_blank((we_str){ rest.ptr, 1 });
        we_buf_append_char(out, rest.ptr[0]);
        at++;
    }
    if (at) {
        memmove(c->held.ptr, c->held.ptr + at, c->held.len - at);
        c->held.len -= at;
        c->held.ptr[c->held.len] = 0;
    }
    out->failed = out->failed || c->held.failed;
}

/* ---- Echoes ---- */

#define SHORTEST_ECHO ((size_t)8)  /* less is repeated by chance */
#define SHORTEST_ANEW ((size_t)24) /* more than an answer repeats of its own first words; a list or a poem may */

static we_str behind_blanks(we_str s)
{
    while (s.len && is_blank((we_str){ s.ptr, 1 })) s = (we_str){ s.ptr + 1, s.len - 1 };
    return s;
}

void we_echo_feed(we_echo *e, we_str text, bool ended, we_buf *out)
{
    if (e->decided) {
        we_buf_append_str(out, text);
        return;
    }
    we_buf_append_str(&e->held, text);
    const we_str all = we_buf_str(&e->held), came = behind_blanks(all), said = behind_blanks(e->said);
    size_t len = said.len, same = 0;
    while (len && is_blank((we_str){ said.ptr + len - 1, 1 })) len--; /* servers trim the end */
    while (same < came.len && same < len && came.ptr[same] == said.ptr[same]) same++;
    const bool agrees = len >= SHORTEST_ECHO && same == WE_MIN(came.len, len);
    if (agrees && came.len < said.len && !ended) return;
    e->decided = true;
    e->is_anew = !agrees && same >= SHORTEST_ANEW;
    we_str rest = all;
    if (agrees && came.len >= len) { /* an echo; the blanks that `said` ends in are there already */
        rest = (we_str){ came.ptr + len, came.len - len };
        for (size_t i = len; i < said.len && rest.len && rest.ptr[0] == said.ptr[i]; i++)
            rest = (we_str){ rest.ptr + 1, rest.len - 1 };
    }
    we_buf_append_str(out, rest);
    we_buf_clear(&e->held);
    out->failed = out->failed || e->held.failed;
}
