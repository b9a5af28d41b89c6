/* SPDX-License-Identifier: Apache-2.0
 * fuzz_monitor.c - any bytes as another process's page of figures: refused with a message, or texts and figures that can be
 * shown. The head is put right where the first byte says so, since random bytes hardly ever get past it. */
#include "runtime/monitor_int.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    we_monitor_page p;
    we_monitor_info info;
    we_error err;
    if (size == 0) return 0;
    if (data[0] & 1) {
        memset(&p, 0, sizeof p);
        memcpy(&p, data, WE_MIN(size, sizeof p));
        memcpy(p.magic, (const char[])WE_MONITOR_MAGIC, sizeof p.magic);
        p.version = WE_MONITOR_VERSION;
        p.size = sizeof p;
        p.pid = 1;
        p.start = 2;
        data = (const uint8_t *)&p;
        size = sizeof p;
    }
    if (we_monitor_parse((we_str){ (const char *)data, size }, 1, 2, &info, &err)) return 0;
    if (we_utf8_valid(we_str_from(info.model)) != strlen(info.model) || !isfinite(info.prompt_tokens_per_second))
        abort();
    return 0;
}
