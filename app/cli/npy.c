/* SPDX-License-Identifier: Apache-2.0
 * npy.c - see npy.h. */
#include "npy.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static we_status io_failed(const cli_npy *npy, we_error *err)
{
    return we_fail(err, WE_E_IO, "%s: %s", npy->path, strerror(errno ? errno : EIO));
}

static we_status write_header(cli_npy *npy, size_t rows, size_t columns, we_error *err)
{
    enum { PREFIX = 10, ALIGNMENT = 64 };
    const char order = *(const unsigned char *)&(const uint16_t){ 1 } ? '<' : '>';
    char header[256];
    const int n = snprintf(header, sizeof header, "{'descr': '%cf4', 'fortran_order': False, 'shape': (%zu, %zu), }",
                           order, rows, columns);
    const size_t whole = (PREFIX + (size_t)n + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const size_t len = whole - PREFIX;
    memset(header + n, ' ', len - (size_t)n - 1);
    header[len - 1] = '\n';
    const unsigned char prefix[PREFIX] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)(len & 0xFF), (unsigned char)(len >> 8)
    };
    if (fwrite(prefix, 1, PREFIX, npy->file) != PREFIX || fwrite(header, 1, len, npy->file) != len)
        return io_failed(npy, err);
    return WE_OK;
}

we_status cli_npy_open(cli_npy *npy, const char *path, size_t rows, size_t columns, we_error *err)
{
    struct stat st;
    we_buf beside = { 0 };
    *npy = (cli_npy){ .path = we_strdup(path) };
    /* A device or pipe can't be renamed over: /dev/stdout is written as it is. */
    if (stat(path, &st) != 0 || S_ISREG(st.st_mode)) {
        we_buf_printf(&beside, "%s.%ld.part", path, (long)getpid());
        npy->beside = we_buf_take(&beside, NULL);
        we_buf_deinit(&beside);
        if (!npy->beside) return we_fail(err, WE_E_NOMEM, "no memory for a file's name");
    }
    if (!npy->path) return we_fail(err, WE_E_NOMEM, "no memory for a file's name");
    npy->file = fopen(npy->beside ? npy->beside : path, "wb");
    return npy->file ? write_header(npy, rows, columns, err) : io_failed(npy, err);
}

we_status cli_npy_write(cli_npy *npy, const float *values, size_t n, we_error *err)
{
    return fwrite(values, sizeof *values, n, npy->file) == n ? WE_OK : io_failed(npy, err);
}

we_status cli_npy_finish(cli_npy *npy, we_error *err)
{
    FILE *file = npy->file;
    npy->file = NULL;
    const bool flushed = fflush(file) == 0 && (!npy->beside || fsync(fileno(file)) == 0);
    const int reason = errno;
    if (fclose(file) != 0 || !flushed) {
        if (!flushed) errno = reason;
        return io_failed(npy, err);
    }
    if (npy->beside && rename(npy->beside, npy->path) != 0) return io_failed(npy, err);
    we_free(npy->beside);
    npy->beside = NULL;
    return WE_OK;
}

void cli_npy_deinit(cli_npy *npy)
{
    if (npy->file) fclose(npy->file);
    if (npy->beside) unlink(npy->beside);
    we_free(npy->beside);
    we_free(npy->path);
    *npy = (cli_npy){ 0 };
}
