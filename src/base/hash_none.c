/* SPDX-License-Identifier: Apache-2.0
 * hash_none.c - a processor whose instructions for SHA-256 we do not know. */
#include "base/hash_int.h"

we_sha256_fn we_sha256_native(void) { return NULL; }
