/* SPDX-License-Identifier: Apache-2.0
 * message.h - the widget of one message: the user's as a bubble, the model's as rendered Markdown. While an answer comes only
 * the blocks that changed are made anew. */
#ifndef DESK_MESSAGE_H
#define DESK_MESSAGE_H

#include "store.h"
#include <gtk/gtk.h>

typedef struct desk_message_view desk_message_view;

typedef struct desk_message_actions { /* each with the message's id */
    void (*again)(gpointer user, int64_t id);
    void (*edit)(gpointer user, int64_t id);
    void (*go_on)(gpointer user, int64_t id);
    void (*version)(gpointer user, int64_t id, int by); /* show the one before (-1) or after (1) */
    void (*open_link)(gpointer user, const char *address);
    void (*copied)(gpointer user);
} desk_message_actions;

/** actions and user must outlive the view; the view lives as long as its widget. */
desk_message_view *desk_message_view_new(const desk_message *m, const desk_message_actions *actions, gpointer user);
GtkWidget *desk_message_view_widget(desk_message_view *v);
/** The message has changed. */
void desk_message_view_update(desk_message_view *v, const desk_message *m);
/** The last message shows its buttons always, others under the pointer and focus. */
void desk_message_view_set_last(desk_message_view *v, gboolean last);

#endif
