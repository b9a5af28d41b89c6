/* SPDX-License-Identifier: Apache-2.0
 * keeper.h - the thread that the store lives on. Writes are handed over and done in their order; what was read comes back in
 * the main loop. Arguments are copied. Writes that fail (a full disk) are kept and tried again. Closing waits until all is
 * written, or has been tried once more. */
#ifndef DESK_KEEPER_H
#define DESK_KEEPER_H

#include "store.h"

typedef struct desk_keeper desk_keeper;

/* Something people must hear of. Called in the main loop.
 * kept   : all that was handed over is written, or will be; FALSE: some of it waits.
 * text   : why; NULL: what waited is written now. */
typedef void (*desk_problem_fn)(gpointer user, gboolean kept, const char *text);
/* What was read: of desk_conversation or desk_message; the callee's to keep (g_ptr_array_ref). Called in the main loop. */
typedef void (*desk_rows_fn)(gpointer user, GPtrArray *rows);
/* A word that was remembered, or NULL. */
typedef void (*desk_memo_fn)(gpointer user, const char *value);

desk_keeper *desk_keeper_new(const char *path, desk_problem_fn problem, gpointer user);
void desk_keeper_close(desk_keeper *k);

void desk_keeper_put_conversation(desk_keeper *k, const desk_conversation *c);
void desk_keeper_put_message(desk_keeper *k, int64_t conversation, const desk_message *m);
void desk_keeper_cut(desk_keeper *k, int64_t conversation, int64_t first);
void desk_keeper_set_deleted(desk_keeper *k, int64_t conversation, gboolean deleted);
void desk_keeper_put(desk_keeper *k, const char *name, const char *value);
void desk_keeper_list(desk_keeper *k, const char *needle, desk_rows_fn fn, gpointer user);
void desk_keeper_messages(desk_keeper *k, int64_t conversation, desk_rows_fn fn, gpointer user);
void desk_keeper_get(desk_keeper *k, const char *name, desk_memo_fn fn, gpointer user);

#endif
