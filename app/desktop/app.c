/* SPDX-License-Identifier: Apache-2.0
 * app.c - the conversation between a person and the model: what was written goes to the store and to the engine, what comes back
 * goes to the store and to the page.
 *
 * What always holds: an answer is in the store from its first moment, as DESK_STREAMING, and is written again every SAVE_MS while it
 * grows; so a program that is killed loses at most that. */
#include "app.h"

#define SAVE_MS 250

/* ---- Finding things ---- */

/* The conversation that a message is in, and where. */
static DeskChat *chat_of(desk_app *app, int64_t id, desk_message **message)
{
    const guint n = g_list_model_get_n_items(G_LIST_MODEL(app->chats));
    for (guint i = 0; i < n; i++) {
        DeskChat *chat = g_list_model_get_item(G_LIST_MODEL(app->chats), i);
        g_object_unref(chat); /* the list keeps it */
        const int at = chat->answering ? desk_chat_find(chat, id) : -1;
        if (at >= 0) return *message = chat->messages->pdata[at], chat;
    }
    return *message = NULL, NULL;
}

static desk_message *last_of(const DeskChat *chat)
{
    return chat->messages && chat->messages->len ? chat->messages->pdata[chat->messages->len - 1] : NULL;
}

static desk_page *page_of(desk_app *app) { return app->window ? desk_window_page(app->window) : NULL; }

static void show_message(desk_app *app, DeskChat *chat, const desk_message *m)
{
    desk_page *page = page_of(app);
    if (page && app->current == chat) desk_page_changed(page, chat, m);
}

/* ---- Keeping ---- */

void desk_app_keep(desk_app *app, DeskChat *chat)
{
    if (chat->kept) desk_keeper_put_conversation(app->keeper, chat->head);
}

static void save_message(desk_app *app, DeskChat *chat, const desk_message *m)
{
    g_hash_table_remove(app->unsaved, &m->id);
    desk_keeper_put_message(app->keeper, chat->head->id, m);
}

void desk_app_save_unsaved(desk_app *app)
{
    GHashTableIter i;
    gpointer key;
    g_hash_table_iter_init(&i, app->unsaved);
    while (g_hash_table_iter_next(&i, &key, NULL)) {
        desk_message *m;
        DeskChat *chat = chat_of(app, *(int64_t *)key, &m);
        if (chat) desk_keeper_put_message(app->keeper, chat->head->id, m);
        g_hash_table_iter_remove(&i);
    }
}

static gboolean save_unsaved(gpointer p)
{
    desk_app *app = p;
    desk_app_save_unsaved(app);
    app->save_timer = 0;
    return G_SOURCE_REMOVE;
}

static void save_soon(desk_app *app, const desk_message *m)
{
    int64_t *key = g_new(int64_t, 1);
    *key = m->id;
    g_hash_table_add(app->unsaved, key);
    if (!app->save_timer) app->save_timer = g_timeout_add(SAVE_MS, save_unsaved, app);
}

/* The conversation becomes the latest one. */
static void touch(desk_app *app, DeskChat *chat)
{
    guint at;
    chat->head->updated = g_get_real_time();
    if (g_list_store_find(app->chats, chat, &at)) {
        if (at == 0) return desk_app_keep(app, chat);
        g_object_ref(chat);
        g_list_store_remove(app->chats, at);
        g_list_store_insert(app->chats, 0, chat);
        g_object_unref(chat);
    } else {
        g_list_store_insert(app->chats, 0, chat);
    }
    chat->kept = TRUE;
    desk_app_keep(app, chat);
}

/* ---- Asking ---- */

static const char *system_of(const desk_app *app, const DeskChat *chat)
{
    return *chat->head->system ? chat->head->system : app->settings.system;
}

static void ask(desk_app *app, DeskChat *chat, const desk_message *answer, gboolean continues)
{
    char *json = desk_chat_json(chat, system_of(app, chat));
    desk_chat_set_answering(chat, TRUE);
    desk_engine_ask(app->engine, answer->id, chat->head->model, json, continues);
    we_free(json);
    if (app->current == chat && page_of(app)) desk_composer_update_buttons(desk_page_composer(page_of(app)));
}

static void add_message(desk_app *app, DeskChat *chat, desk_message *m)
{
    g_ptr_array_add(chat->messages, m);
    save_message(app, chat, m);
    show_message(app, chat, m);
}

static void answer_last(desk_app *app, DeskChat *chat)
{
    desk_message *m = desk_message_new(DESK_ASSISTANT, "");
    m->state = DESK_STREAMING;
    add_message(app, chat, m);
    ask(app, chat, m, FALSE);
}

void desk_app_send(desk_app *app, DeskChat *chat, const char *text, const GPtrArray *attachments)
{
    desk_message *m = desk_message_new(DESK_USER, text);
    if (chat->answering || app->paused || !chat->messages) return desk_message_free(m);
    for (guint i = 0; attachments && i < attachments->len; i++) {
        const desk_attachment *a = attachments->pdata[i];
        desk_message_attach(m, a->name, a->text);
    }
    if (!*chat->head->title) {
        const desk_attachment *first = attachments && attachments->len ? attachments->pdata[0] : NULL;
        char *title = desk_title_from(*text || !first ? text : first->name);
        desk_chat_set_title(chat, title);
        g_free(title);
    }
    g_free(chat->head->draft);
    chat->head->draft = g_strdup("");
    if (!chat->kept) desk_keeper_put(app->keeper, "draft", "");
    touch(app, chat);
    add_message(app, chat, m);
    answer_last(app, chat);
}

void desk_app_cut(desk_app *app, DeskChat *chat, int64_t id)
{
    const int at = desk_chat_find(chat, id);
    if (at < 0 || chat->answering) return;
    g_ptr_array_remove_range(chat->messages, (guint)at, chat->messages->len - (guint)at);
    desk_keeper_cut(app->keeper, chat->head->id, id);
    if (app->current == chat && page_of(app)) desk_page_rebuild(page_of(app), chat);
}

/* `next` takes the place of an answer, which becomes another version of it, and hands its own over. Takes `next`. */
static void replace_answer(desk_app *app, DeskChat *chat, guint at, desk_message *next)
{
    desk_message *before = chat->messages->pdata[at];
    GPtrArray *others = g_steal_pointer(&before->others);
    while (others && others->len) desk_message_add_version(next, g_ptr_array_steal_index(others, 0));
    if (others) g_ptr_array_unref(others);
    desk_message_add_version(next, before);
    chat->messages->pdata[at] = next; /* `before` is the new one's now */
    save_message(app, chat, next);    /* first: of two that are shown the later one counts, where this is cut off */
    save_message(app, chat, before);
    if (app->current == chat && page_of(app)) desk_page_replaced(page_of(app), chat, before->id, next);
}

void desk_app_again(desk_app *app, DeskChat *chat)
{
    const desk_message *last = last_of(chat);
    if (!last || chat->answering || app->paused) return;
    if (last->role == DESK_ASSISTANT && !*last->text && !last->others)
        desk_app_cut(app, chat, last->id); /* it said nothing */
    last = last_of(chat);
    if (!last) return;
    if (last->role == DESK_USER) return answer_last(app, chat);
    desk_message *m = desk_message_new(DESK_ASSISTANT, "");
    m->state = DESK_STREAMING;
    replace_answer(app, chat, chat->messages->len - 1, m);
    ask(app, chat, m, FALSE);
}

void desk_app_show_version(desk_app *app, DeskChat *chat, int64_t id, int by)
{
    const int at = desk_chat_find(chat, id);
    if (at < 0 || chat->answering) return;
    desk_message *now = chat->messages->pdata[at];
    int place = 0; /* of the one that is shown, among the others */
    while (now->others && place < (int)now->others->len && ((desk_message *)now->others->pdata[place])->id < id)
        place++;
    const int wanted = by < 0 ? place - 1 : place;
    if (!now->others || wanted < 0 || wanted >= (int)now->others->len) return;
    desk_message *next = g_ptr_array_steal_index(now->others, (guint)wanted);
    next->hidden = FALSE;
    replace_answer(app, chat, (guint)at, next);
}

void desk_app_continue(desk_app *app, DeskChat *chat)
{
    desk_message *last = last_of(chat);
    if (!last || last->role != DESK_ASSISTANT || chat->answering || app->paused) return;
    if (!*last->text) return desk_app_again(app, chat);
    last->state = DESK_STREAMING;
    app->continued = last->id;
    save_message(app, chat, last);
    show_message(app, chat, last);
    ask(app, chat, last, TRUE);
}

void desk_app_stop(desk_app *app, DeskChat *chat)
{
    const desk_message *last = last_of(chat);
    if (chat->answering && last) desk_engine_stop(app->engine, last->id);
}

void desk_app_load_for(desk_app *app, DeskChat *chat) { desk_engine_load(app->engine, chat->head->model); }

void desk_app_set_model(desk_app *app, DeskChat *chat, const char *url)
{
    if (strcmp(chat->head->model, url) != 0) {
        g_free(chat->head->model);
        chat->head->model = g_strdup(url);
        desk_app_keep(app, chat);
    }
    desk_app_load_for(app, chat);
}

void desk_app_set_paused(desk_app *app, gboolean paused)
{
    app->paused = paused;
    if (app->window) desk_window_status(app->window);
    desk_tray_update(app->tray);
}

/* ---- What the engine tells ---- */

static void on_status(gpointer user, const desk_engine_status *s)
{
    desk_app *app = user;
    desk_engine_status *own = &app->status;
    g_free(own->url);
    g_free(own->model);
    g_free(own->backend);
    g_free(own->problem);
    *own = *s;
    own->url = g_strdup(s->url);
    own->model = g_strdup(s->model);
    own->backend = g_strdup(s->backend);
    own->problem = g_strdup(s->problem);
    if (app->window) desk_window_status(app->window);
    desk_tray_update(app->tray);
}

static void on_piece(gpointer user, int64_t id, const char *text)
{
    desk_app *app = user;
    desk_message *m;
    DeskChat *chat = chat_of(app, id, &m);
    if (!chat) return;
    char *longer = g_strconcat(m->text, text, NULL);
    g_free(m->text);
    m->text = longer;
    save_soon(app, m);
    show_message(app, chat, m);
}

/* Somebody who looks elsewhere hears of a long answer's end. */
static void notify(desk_app *app, DeskChat *chat, const desk_message *m)
{
    GtkWindow *window = app->window ? desk_window_gtk(app->window) : NULL;
    if (window && gtk_widget_get_visible(GTK_WIDGET(window)) && gtk_window_is_active(window)) return;
    GNotification *n = g_notification_new(chat->head->title);
    char *body = m->state == DESK_FAILED ? g_strdup(m->note) : desk_title_from(m->text);
    g_notification_set_body(n, body);
    g_notification_set_default_action_and_target(n, "app.open-chat", "x", chat->head->id);
    g_application_send_notification(G_APPLICATION(app->gtk), "answer", n);
    g_free(body);
    g_object_unref(n);
}

static char *note_of(const desk_answer *a)
{
    char *model = desk_model_label(a->model);
    char *note = a->tokens_per_second > 0 ? g_strdup_printf(_("%s · %.0f tokens/s"), model, a->tokens_per_second)
                                          : g_strdup(model);
    g_free(model);
    return note;
}

static void on_done(gpointer user, const desk_answer *a)
{
    desk_app *app = user;
    desk_message *m;
    DeskChat *chat = chat_of(app, a->id, &m);
    if (!chat) return;
    m->state = a->status                          ? DESK_FAILED
               : a->finish == WE_FINISH_CANCELLED ? DESK_STOPPED
               : a->finish == WE_FINISH_LENGTH    ? DESK_CUT
                                                  : DESK_WHOLE;
    g_free(m->note);
    m->note = a->status ? g_strdup(a->problem) : note_of(a);
    app->tokens_per_second = a->tokens_per_second;
    desk_chat_set_answering(chat, FALSE);
    save_message(app, chat, m);
    touch(app, chat);
    show_message(app, chat, m);
    if (app->current == chat && page_of(app)) desk_composer_update_buttons(desk_page_composer(page_of(app)));
    if (a->status == WE_E_UNSUPPORTED && app->continued == a->id) { /* a server that knows no unfinished answers */
        m->state = DESK_STOPPED;
        if (app->window) desk_window_toast(app->window, _("This model can't continue an answer: it begins anew"));
        return desk_app_again(app, chat);
    }
    notify(app, chat, m);
}

static void on_note(gpointer user, const char *text)
{
    desk_app *app = user;
    if (app->window) desk_window_toast(app->window, text);
}

const desk_engine_events desk_app_events = { on_status, on_piece, on_done, on_note };

/* ---- Conversations ---- */

static void on_messages(gpointer user, GPtrArray *rows)
{
    gpointer *both = user; /* the app and a reference to the conversation */
    desk_app *app = both[0];
    DeskChat *chat = both[1];
    if (!chat->messages) chat->messages = g_ptr_array_ref(rows);
    if (app->window && app->current == chat) desk_window_show_chat(app->window, chat);
    g_object_unref(chat);
    g_free(both);
}

void desk_app_open(desk_app *app, DeskChat *chat)
{
    g_set_object(&app->current, chat);
    if (!chat->messages) {
        gpointer *both = g_new(gpointer, 2);
        both[0] = app;
        both[1] = g_object_ref(chat);
        desk_keeper_messages(app->keeper, chat->head->id, on_messages, both);
    } else if (app->window) {
        desk_window_show_chat(app->window, chat);
    }
    const gboolean other = strcmp(app->status.url, chat->head->model) != 0;
    if (other && !app->status.answering && app->status.state != DESK_ENGINE_EMPTY) desk_app_load_for(app, chat);
    if (app->window) desk_window_status(app->window);
}

void desk_app_new_chat(desk_app *app)
{
    if (app->current && !app->current->kept && app->current->messages) { /* it is one already */
        if (app->window) desk_window_show_chat(app->window, app->current);
        return;
    }
    DeskChat *chat = desk_chat_new(desk_conversation_new());
    chat->messages = g_ptr_array_new_with_free_func((GDestroyNotify)desk_message_free);
    desk_app_open(app, chat);
    g_object_unref(chat);
}

typedef struct deletion {
    desk_app *app;
    DeskChat *chat;
} deletion;

static void deletion_free(gpointer p)
{
    deletion *d = p;
    g_object_unref(d->chat);
    g_free(d);
}

static int newer(gconstpointer a, gconstpointer b, gpointer user)
{
    const int64_t x = ((const DeskChat *)a)->head->updated, y = ((const DeskChat *)b)->head->updated;
    (void)user;
    return (x < y) - (x > y);
}

static void undo_delete(gpointer p)
{
    const deletion *d = p;
    desk_keeper_set_deleted(d->app->keeper, d->chat->head->id, FALSE);
    g_list_store_insert_sorted(d->app->chats, d->chat, newer, NULL);
    desk_app_open(d->app, d->chat);
}

void desk_app_delete(desk_app *app, DeskChat *chat)
{
    guint at;
    if (!g_list_store_find(app->chats, chat, &at)) return;
    deletion *d = g_new(deletion, 1);
    *d = (deletion){ app, g_object_ref(chat) };
    desk_app_stop(app, chat);
    desk_keeper_set_deleted(app->keeper, chat->head->id, TRUE);
    g_list_store_remove(app->chats, at);
    if (app->current == chat) {
        g_clear_object(&app->current);
        desk_app_new_chat(app);
    }
    char *text = g_strdup_printf(_("“%s” deleted"), chat->head->title);
    desk_window_toast_action(app->window, text, _("_Undo"), undo_delete, d, deletion_free);
    g_free(text);
}

/* ---- The light ---- */

desk_light desk_app_light(const desk_app *app)
{
    const desk_engine_status *s = &app->status;
    if (s->state == DESK_ENGINE_FAILED) return DESK_LIGHT_RED;
    return s->state == DESK_ENGINE_READY && s->kind == WE_BACKEND_MLX && !app->paused ? DESK_LIGHT_GREEN
                                                                                      : DESK_LIGHT_YELLOW;
}

char *desk_app_light_text(const desk_app *app)
{
    const desk_engine_status *s = &app->status;
    char *model = desk_model_label(s->model), *text;
    if (s->state == DESK_ENGINE_FAILED)
        text = g_strdup(_("MLX is not available: the model did not load"));
    else if (s->state == DESK_ENGINE_LOADING)
        text = g_strdup_printf(_("Loading %s…"), model);
    else if (s->state == DESK_ENGINE_EMPTY)
        text = g_strdup(_("MLX is available; no model is loaded"));
    else if (s->kind != WE_BACKEND_MLX)
        text = g_strdup_printf(_("%s answers with %s; MLX is available"), s->backend, model);
    else if (s->answering)
        text = g_strdup_printf(_("MLX is answering with %s"), model);
    else
        text = g_strdup_printf(_("MLX is active with %s"), model);
    g_free(model);
    return text;
}

const char *desk_model_name(const char *name) { return strcmp(name, "default") == 0 ? _("Built-in model") : name; }

char *desk_model_label(const char *url)
{
    const char *scheme = strstr(url, "://"), *name = scheme ? scheme + 3 : url;
    if (desk_model_name(name) != name) return g_strdup(desk_model_name(name));
    if (g_str_has_prefix(url, "http")) return g_strdup(strchr(name, '#') ? strchr(name, '#') + 1 : name);
    const char *base = strrchr(name, '/');
    return g_strdup(base && base[1] ? base + 1 : name);
}

/* ---- Settings ---- */

void desk_app_save_settings(desk_app *app)
{
    char *problem = desk_settings_save(&app->settings);
    if (app->window) desk_window_banner(app->window, "settings", GTK_MESSAGE_WARNING, problem, NULL, NULL);
    g_free(problem);
}

void desk_app_settings_changed(desk_app *app)
{
    const desk_settings *s = &app->settings;
    adw_style_manager_set_color_scheme(adw_style_manager_get_default(), (AdwColorScheme)s->color_scheme);
}
