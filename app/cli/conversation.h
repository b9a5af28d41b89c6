/* SPDX-License-Identifier: Apache-2.0
 * conversation.h - the messages of a chat, and the file they are kept in between runs:
 *   {"version": 1, "model": "default", "messages": [{"role": "user", "content": "..."}, ...]}
 * written whole after every turn (beside and renamed, mode 0600). */
#ifndef CLI_CONVERSATION_H
#define CLI_CONVERSATION_H

#include "base/base.h"

typedef struct cli_conversation { /* zeroed is empty */
    we_message *messages;         /* roles are static strings, contents owned */
    size_t n, capacity;
    char *model; /* that it was loaded with; owned, may be NULL */
} cli_conversation;

void cli_conversation_deinit(cli_conversation *c);
/** Add a message; `role` is a literal. */
we_status cli_conversation_add(cli_conversation *c, const char *role, const char *content, we_error *err);
void cli_conversation_drop_last(cli_conversation *c);
/** Set, change or (with NULL or "") take away the system message at the beginning. */
we_status cli_conversation_set_system(cli_conversation *c, const char *content, we_error *err);
/** Forget all but the system message. */
void cli_conversation_reset(cli_conversation *c);

we_status cli_conversation_save(const cli_conversation *c, const char *path, const char *model, we_error *err);
/** Errors: WE_E_NOT_FOUND (no file), WE_E_FORMAT (not such a file). */
we_status cli_conversation_load(cli_conversation *c, const char *path, we_error *err);

#endif
