/* SPDX-License-Identifier: Apache-2.0
 * chat.c - see chat.h. */
#include "chat.h"
#include <glib/gi18n.h>

#define TITLE_CHARS 60

enum { PROP_TITLE = 1, PROP_ANSWERING, N_PROPS };
static GParamSpec *props[N_PROPS];

G_DEFINE_FINAL_TYPE(DeskChat, desk_chat, G_TYPE_OBJECT)

static void get_property(GObject *object, guint id, GValue *value, GParamSpec *spec)
{
    const DeskChat *chat = DESK_CHAT(object);
    if (id == PROP_TITLE)
        g_value_set_string(value, chat->head->title);
    else if (id == PROP_ANSWERING)
        g_value_set_boolean(value, chat->answering);
    else
        G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
}

static void finalize(GObject *object)
{
    DeskChat *chat = DESK_CHAT(object);
    desk_conversation_free(chat->head);
    if (chat->messages) g_ptr_array_unref(chat->messages);
    G_OBJECT_CLASS(desk_chat_parent_class)->finalize(object);
}

static void desk_chat_class_init(DeskChatClass *klass)
{
    GObjectClass *object = G_OBJECT_CLASS(klass);
    object->get_property = get_property;
    object->finalize = finalize;
    props[PROP_TITLE] = g_param_spec_string("title", NULL, NULL, "", G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);
    props[PROP_ANSWERING] =
        g_param_spec_boolean("answering", NULL, NULL, FALSE, G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);
    g_object_class_install_properties(object, N_PROPS, props);
}

static void desk_chat_init(DeskChat *chat) { (void)chat; }

DeskChat *desk_chat_new(desk_conversation *head)
{
    DeskChat *chat = g_object_new(DESK_TYPE_CHAT, NULL);
    chat->head = head;
    return chat;
}

void desk_chat_set_title(DeskChat *chat, const char *title)
{
    g_free(chat->head->title);
    chat->head->title = g_strdup(title);
    g_object_notify_by_pspec(G_OBJECT(chat), props[PROP_TITLE]);
}

void desk_chat_set_answering(DeskChat *chat, gboolean answering)
{
    if (chat->answering == answering) return;
    chat->answering = answering;
    g_object_notify_by_pspec(G_OBJECT(chat), props[PROP_ANSWERING]);
}

int desk_chat_find(const DeskChat *chat, int64_t message)
{
    for (guint i = 0; chat->messages && i < chat->messages->len; i++)
        if (((desk_message *)chat->messages->pdata[i])->id == message) return (int)i;
    return -1;
}

char *desk_title_from(const char *text)
{
    GString *title = g_string_new(NULL);
    long n = 0;
    gboolean space = FALSE;
    for (const char *p = text; *p && n <= TITLE_CHARS; p = g_utf8_next_char(p)) {
        const gunichar c = g_utf8_get_char(p);
        if (g_unichar_isspace(c) || g_unichar_iscntrl(c)) {
            if (c == '\n' && title->len > 12) break; /* a first line that says something */
            space = title->len > 0;
            continue;
        }
        if (!title->len && strchr("#>*`-", *p)) continue;
        if (space) g_string_append_c(title, ' '), n++;
        space = FALSE;
        if (n++ < TITLE_CHARS)
            g_string_append_unichar(title, c);
        else
            g_string_append(title, "…");
    }
    if (!title->len) g_string_append(title, _("New Chat"));
    return g_string_free(title, FALSE);
}

char *desk_chat_export(const DeskChat *chat)
{
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "# %s\n", chat->head->title);
    if (*chat->head->system) g_string_append_printf(out, "\n## %s\n\n%s\n", _("System Prompt"), chat->head->system);
    for (guint i = 0; chat->messages && i < chat->messages->len; i++) {
        const desk_message *m = chat->messages->pdata[i];
        g_string_append_printf(out, "\n## %s\n\n%s\n", m->role == DESK_USER ? _("You") : _("Assistant"), m->text);
        for (guint k = 0; m->attachments && k < m->attachments->len; k++) {
            const desk_attachment *a = m->attachments->pdata[k];
            g_string_append_printf(out, "\n%s:\n\n````\n%s\n````\n", a->name, a->text);
        }
    }
    return g_string_free(out, FALSE);
}

/* ---- For the model ---- */

static void write_message(we_json_writer *w, const char *role, we_str content)
{
    we_json_begin_object(w);
    we_json_key(w, "role");
    we_json_write_str(w, we_str_from(role));
    we_json_key(w, "content");
    we_json_write_str(w, content);
    we_json_end_object(w);
}

static void write_user(we_json_writer *w, const desk_message *m)
{
    we_buf text = { 0 };
    for (guint k = 0; m->attachments && k < m->attachments->len; k++) {
        const desk_attachment *a = m->attachments->pdata[k];
        we_buf_printf(&text, "%s:\n```\n%s\n```\n\n", a->name, a->text);
    }
    we_buf_append_str(&text, we_str_from(m->text));
    write_message(w, "user", we_buf_str(&text));
    we_buf_deinit(&text);
}

char *desk_chat_json(const DeskChat *chat, const char *system)
{
    we_buf buf = { 0 };
    we_json_writer w = { .buf = &buf };
    we_json_begin_array(&w);
    if (*system) write_message(&w, "system", we_str_from(system));
    for (guint i = 0; i < chat->messages->len; i++) {
        const desk_message *m = chat->messages->pdata[i];
        if (m->role == DESK_USER)
            write_user(&w, m);
        else if (*m->text)
            write_message(&w, "assistant", we_str_from(m->text));
    }
    we_json_end_array(&w);
    char *json = we_buf_take(&buf, NULL);
    if (!json) g_error("no memory for a conversation");
    return json;
}
