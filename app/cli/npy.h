/* SPDX-License-Identifier: Apache-2.0
 * npy.h - writing a float32 matrix as a .npy file, row by row, so that it never lies in memory whole. The file gets its name
 * only when it is complete: it is written beside and renamed.
 *
 *   "\x93NUMPY" 1 0 | u16 header length, little-endian | "{'descr': '<f4', 'fortran_order': False, 'shape': (T, V), }"
 *   and spaces, ended by "\n", to a multiple of 64 bytes in all | T * V floats
 *
 * Source: numpy/lib/format.py, version 1.0 of the format. */
#ifndef CLI_NPY_H
#define CLI_NPY_H

#include "base/base.h"

#include <stdio.h>

typedef struct cli_npy {
    char *path, *beside;
    FILE *file;
} cli_npy;

we_status cli_npy_open(cli_npy *npy, const char *path, size_t rows, size_t columns, we_error *err);
we_status cli_npy_write(cli_npy *npy, const float *values, size_t n, we_error *err);
/** Complete the file and give it its name. */
we_status cli_npy_finish(cli_npy *npy, we_error *err);
/** Drop what is not finished; a zeroed or finished one is fine. */
void cli_npy_deinit(cli_npy *npy);

#endif
