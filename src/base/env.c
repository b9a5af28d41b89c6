/* SPDX-License-Identifier: Apache-2.0
 * env.c - environment variables, and the values that configuration files lay below them. The process's own environment is
 * never written: other threads may be reading it.
 *
 * Invariant: a value that was handed out stays where it is for the process's life; a newer one is put in front of it. */
#include "base/arena.h"
#include "base/system.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct laid {
    const struct laid *next;
    const char *name, *value; /* value NULL: taken away again */
} laid;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const laid *newest;

const char *we_env(const char *name)
{
    const char *value = getenv(name);
    if (value && value[0]) return value;
    pthread_mutex_lock(&lock);
    const laid *l = newest;
    while (l && strcmp(l->name, name) != 0) l = l->next;
    pthread_mutex_unlock(&lock);
    return l ? l->value : NULL;
}

bool we_env_lay(const char *name, const char *value)
{
    const size_t name_len = strlen(name) + 1, value_len = value ? strlen(value) + 1 : 0;
    laid *l = we_calloc(1, sizeof *l + name_len + value_len);
    if (!l) return false;
    char *text = (char *)(l + 1);
    memcpy(text, name, name_len);
    if (value) memcpy(text + name_len, value, value_len);
    l->name = text;
    l->value = value ? text + name_len : NULL;
    pthread_mutex_lock(&lock);
    l->next = newest;
    newest = l;
    pthread_mutex_unlock(&lock);
    return true;
}
