/* SPDX-License-Identifier: Apache-2.0
 * fuzz_sse.c - any bytes as a stream of events and as lines: the pieces in which they come change nothing. The first byte says
 * how large the pieces are. */
#include "backend/backend_int.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool see(void *user, we_str event, we_str data)
{
    we_buf *all = user;
    const uint64_t lengths[2] = { event.len, data.len };
    we_buf_append(all, lengths, sizeof lengths);
    we_buf_append_str(all, event);
    we_buf_append_str(all, data);
    return true;
}

static void read_all(we_buf *all, bool is_sse, we_str input, size_t piece)
{
    we_stream s = { .is_sse = is_sse };
    bool ok = true;
    for (size_t i = 0; ok && i < input.len; i += piece)
        ok = we_stream_feed(&s, (we_str){ input.ptr + i, WE_MIN(piece, input.len - i) }, see, all);
    if (ok)
        we_stream_end(&s, see, all);
    else if (!s.too_long)
        abort();
    we_stream_deinit(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    const we_str input = { (const char *)data + 1, size - 1 };
    char words[256];
    we_server_words(words, input);
    if (strlen(words) >= sizeof words || we_utf8_valid(we_str_from(words)) != strlen(words)) abort();
    for (int is_sse = 0; is_sse < 2; is_sse++) {
        we_buf whole = { 0 }, pieces = { 0 };
        read_all(&whole, is_sse, input, input.len + 1);
        read_all(&pieces, is_sse, input, (size_t)data[0] % 17 + 1);
        if (!we_str_eq(we_buf_str(&whole), we_buf_str(&pieces))) abort();
        we_buf_deinit(&whole);
        we_buf_deinit(&pieces);
    }
    return 0;
}
