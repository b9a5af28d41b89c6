/* SPDX-License-Identifier: Apache-2.0
 * store.h - conversations on disk: one SQLite file in WAL mode. No widgets here. What runs these functions beside the main loop
 * is keeper.c.
 *
 * Ids are made by the program, not by the database (desk_id_new), so that nobody waits for a write. They grow with time: the order
 * of ids is the order of messages. Memory is GLib's in all of app/desktop. */
#ifndef DESK_STORE_H
#define DESK_STORE_H

#include "base/base.h"
#include <glib.h>

typedef enum desk_role { DESK_USER, DESK_ASSISTANT } desk_role;

/* Values are in the file. */
typedef enum desk_message_state {
    DESK_WHOLE = 0,
    DESK_STREAMING = 1,   /* being written; found at the start of the program, it becomes DESK_INTERRUPTED */
    DESK_STOPPED = 2,     /* the user stopped it */
    DESK_INTERRUPTED = 3, /* the program ended in the middle */
    DESK_FAILED = 4,      /* `note` says why */
    DESK_CUT = 5          /* the most tokens were reached */
} desk_message_state;

typedef struct desk_attachment {
    char *name, *text;
} desk_attachment;

typedef struct desk_message {
    int64_t id;
    desk_role role;
    desk_message_state state;
    char *text;
    char *note;             /* of answers: who answered, or why it failed; never NULL */
    GPtrArray *attachments; /* of desk_attachment, or NULL */
    gboolean hidden;        /* another version of this answer is shown */
    GPtrArray *others;      /* of desk_message: the hidden versions, the oldest first; or NULL */
} desk_message;

typedef struct desk_conversation {
    int64_t id;
    int64_t updated; /* microseconds since 1970 */
    char *title;     /* none of the texts is NULL */
    char *system;    /* the system prompt */
    char *model;     /* URL or name; "": what the configuration says */
    char *draft;
} desk_conversation;

/** A new id: the time in microseconds, or one more than the last. Threads: the main one. */
int64_t desk_id_new(void);

desk_message *desk_message_new(desk_role role, const char *text);
desk_message *desk_message_copy(const desk_message *m); /* without its other versions */
void desk_message_free(desk_message *m);
void desk_message_attach(desk_message *m, const char *name, const char *text);
/** Give an answer another version, which is taken and hidden. */
void desk_message_add_version(desk_message *shown, desk_message *hidden);
desk_conversation *desk_conversation_new(void);
desk_conversation *desk_conversation_copy(const desk_conversation *c);
void desk_conversation_free(desk_conversation *c);

typedef struct desk_store desk_store; /* one connection, one thread at a time */

/** Open or make the file and its folder. Answers that were being written become interrupted, conversations that were deleted go.
 * kept_aside: out, where a file that is broken was moved before a new one was begun; NULL: it is sound. g_free.
 * Errors : WE_E_IO, WE_E_UNSUPPORTED (made by a later version; nothing was changed). */
we_status desk_store_open(desk_store **out, const char *path, char **kept_aside, we_error *err);
void desk_store_close(desk_store *s);

/** Conversations, the latest first; with a needle those with it in title or messages, whatever its case.
 * out    : of desk_conversation; free with g_ptr_array_unref. */
we_status desk_store_list(desk_store *s, const char *needle, GPtrArray **out, we_error *err);
/** A conversation's messages in order, of desk_message, each with its other versions. */
we_status desk_store_messages(desk_store *s, int64_t conversation, GPtrArray **out, we_error *err);
we_status desk_store_put_conversation(desk_store *s, const desk_conversation *c, we_error *err);
we_status desk_store_put_message(desk_store *s, int64_t conversation, const desk_message *m, we_error *err);
/** Remove a conversation's messages from `first` on. */
we_status desk_store_cut(desk_store *s, int64_t conversation, int64_t first, we_error *err);
/** Hide a conversation, or show it again. Hidden ones go when the file is opened the next time. */
we_status desk_store_set_deleted(desk_store *s, int64_t conversation, bool deleted, we_error *err);
/** A word to remember between runs, by name. *value is NULL where there is none; g_free. */
we_status desk_store_get(desk_store *s, const char *name, char **value, we_error *err);
we_status desk_store_put(desk_store *s, const char *name, const char *value, we_error *err);

#endif
