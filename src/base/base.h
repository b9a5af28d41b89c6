/* SPDX-License-Identifier: Apache-2.0
 * base.h - what every room stands on: errors, log, memory, strings, files, hashes, threads, clock, JSON. The one header that other
 * rooms include; each part has its own file beside this one. Knows nothing of models. */
#ifndef WE_BASE_H
#define WE_BASE_H

#include "base/arena.h"
#include "base/child.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/str.h"
#include "base/system.h"
#include "base/thread.h"

#define WE_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define WE_MIN(a, b) ((a) < (b) ? (a) : (b))
#define WE_MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
