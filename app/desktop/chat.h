/* SPDX-License-Identifier: Apache-2.0
 * chat.h - a conversation in memory: what the sidebar lists and the page shows. Its messages are read from the store when it is first
 * opened. */
#ifndef DESK_CHAT_H
#define DESK_CHAT_H

#include "store.h"
#include <glib-object.h>

#define DESK_TYPE_CHAT (desk_chat_get_type())
G_DECLARE_FINAL_TYPE(DeskChat, desk_chat, DESK, CHAT, GObject)

struct _DeskChat {
    GObject parent;
    desk_conversation *head;
    GPtrArray *messages; /* of desk_message; NULL until they are read */
    gboolean kept;       /* the store has it; one without messages is not kept */
    gboolean answering;  /* properties "title" and "answering" notify */
};

DeskChat *desk_chat_new(desk_conversation *head); /* takes it */
void desk_chat_set_title(DeskChat *chat, const char *title);
void desk_chat_set_answering(DeskChat *chat, gboolean answering);
/** Index of a message, or -1. */
int desk_chat_find(const DeskChat *chat, int64_t message);
/** What a title is made of, before somebody gives a better one: the first words of a message; g_free. */
char *desk_title_from(const char *text);
/** The whole as Markdown; g_free. */
char *desk_chat_export(const DeskChat *chat);
/** The messages as JSON for the model, attached files in their place. we_free.
 * system : the system prompt, "" for none. */
char *desk_chat_json(const DeskChat *chat, const char *system);

#endif
