/* SPDX-License-Identifier: Apache-2.0
 * page.c - a conversation on screen: its messages, which follow the end while somebody reads there. Messages of a long one are made
 * CHUNK at a time, the last ones first, so that opening it does not block. */
#include "app.h"
#include "message.h"

#define CHUNK 12

struct desk_page {
    desk_app *app;
    DeskChat *chat;
    GtkWidget *root, *stack, *scroller, *list, *down;
    desk_composer *composer;
    GHashTable *views; /* id -> desk_message_view, of those that are made */
    guint n_missing;   /* messages at the beginning that are not made yet */
    guint filler;
    gboolean stuck;  /* to the end */
    gboolean moving; /* the page itself moves the scroll bar */
    guint follower;  /* does so before the next frame */
};

/* ---- Scrolling ---- */

static GtkAdjustment *adjustment(const desk_page *p)
{
    return gtk_scrolled_window_get_vadjustment(GTK_SCROLLED_WINDOW(p->scroller));
}

static void to_end(desk_page *p)
{
    GtkAdjustment *a = adjustment(p);
    p->moving = TRUE;
    gtk_adjustment_set_value(a, gtk_adjustment_get_upper(a) - gtk_adjustment_get_page_size(a));
    p->moving = FALSE;
}

static gboolean follow(GtkWidget *widget, GdkFrameClock *clock, gpointer user)
{
    desk_page *p = user;
    (void)widget, (void)clock;
    p->follower = 0;
    if (p->stuck) to_end(p);
    return G_SOURCE_REMOVE;
}

/* Comes while the viewport places its child, which no longer hears of another value then: so a moment later. */
static void on_range(GtkAdjustment *a, gpointer user)
{
    desk_page *p = user;
    (void)a;
    if (p->stuck && !p->follower) p->follower = gtk_widget_add_tick_callback(p->scroller, follow, p, NULL);
}

static void on_scroll(GtkAdjustment *a, gpointer user)
{
    desk_page *p = user;
    if (p->moving) return;
    p->stuck = gtk_adjustment_get_value(a) >= gtk_adjustment_get_upper(a) - gtk_adjustment_get_page_size(a) - 30;
    gtk_revealer_set_reveal_child(GTK_REVEALER(p->down), !p->stuck);
}

static void on_down(GtkButton *button, gpointer user)
{
    desk_page *p = user;
    (void)button;
    p->stuck = TRUE;
    gtk_revealer_set_reveal_child(GTK_REVEALER(p->down), FALSE);
    to_end(p);
}

/* ---- Messages ---- */

static void on_again(gpointer user, int64_t id)
{
    const desk_page *p = user;
    (void)id;
    desk_app_again(p->app, p->chat);
}

static void on_version(gpointer user, int64_t id, int by)
{
    const desk_page *p = user;
    desk_app_show_version(p->app, p->chat, id, by);
}

static void on_go_on(gpointer user, int64_t id)
{
    const desk_page *p = user;
    (void)id;
    desk_app_continue(p->app, p->chat);
}

static void on_edit(gpointer user, int64_t id)
{
    const desk_page *p = user;
    desk_composer_edit(p->composer, id);
}

static void on_copied(gpointer user)
{
    const desk_page *p = user;
    desk_window_toast(p->app->window, _("Copied"));
}

static void on_link_answer(AdwMessageDialog *dialog, const char *response, gpointer user)
{
    GtkWindow *parent = gtk_window_get_transient_for(GTK_WINDOW(dialog));
    if (strcmp(response, "open") == 0) gtk_show_uri(parent, user, GDK_CURRENT_TIME);
}

/* A model may write any address under any text: people see it before it opens. */
static void on_link(gpointer user, const char *address)
{
    const desk_page *p = user;
    GtkWidget *dialog = adw_message_dialog_new(desk_window_gtk(p->app->window), _("Open This Link?"), NULL);
    adw_message_dialog_format_body(ADW_MESSAGE_DIALOG(dialog), "%s", address);
    adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(dialog), "cancel", _("_Cancel"), "open", _("_Open"), NULL);
    adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(dialog), "open", ADW_RESPONSE_SUGGESTED);
    adw_message_dialog_set_default_response(ADW_MESSAGE_DIALOG(dialog), "cancel");
    char *kept = g_strdup(address);
    g_object_set_data_full(G_OBJECT(dialog), "address", kept, g_free);
    g_signal_connect(dialog, "response", G_CALLBACK(on_link_answer), kept);
    gtk_window_present(GTK_WINDOW(dialog));
}

static const desk_message_actions actions = { on_again, on_edit, on_go_on, on_version, on_link, on_copied };

static GtkWidget *make_view(desk_page *p, const desk_message *m)
{
    desk_message_view *v = desk_message_view_new(m, &actions, p);
    int64_t *key = g_new(int64_t, 1);
    *key = m->id;
    g_hash_table_replace(p->views, key, v);
    return desk_message_view_widget(v);
}

static void mark_last(desk_page *p)
{
    const GPtrArray *all = p->chat->messages;
    for (guint i = all->len > 3 ? all->len - 3 : 0; i < all->len; i++) {
        const desk_message *m = all->pdata[i];
        desk_message_view *v = g_hash_table_lookup(p->views, &m->id);
        if (v) desk_message_view_set_last(v, i + 1 == all->len);
    }
}

static void show_stack(desk_page *p)
{
    const gboolean empty = !p->chat->messages || !p->chat->messages->len;
    gtk_stack_set_visible_child_name(GTK_STACK(p->stack), empty ? "empty" : "messages");
}

/* Earlier messages come in above; the end stays where it is. */
static gboolean fill(gpointer user)
{
    desk_page *p = user;
    for (int i = 0; i < CHUNK && p->n_missing; i++)
        gtk_box_prepend(GTK_BOX(p->list), make_view(p, p->chat->messages->pdata[--p->n_missing]));
    if (p->n_missing) return G_SOURCE_CONTINUE;
    p->filler = 0;
    return G_SOURCE_REMOVE;
}

void desk_page_rebuild(desk_page *p, DeskChat *chat)
{
    GtkWidget *child;
    if (chat != p->chat) return;
    while ((child = gtk_widget_get_first_child(p->list))) gtk_box_remove(GTK_BOX(p->list), child);
    g_hash_table_remove_all(p->views);
    g_clear_handle_id(&p->filler, g_source_remove);
    p->n_missing = chat->messages ? chat->messages->len : 0;
    p->stuck = TRUE;
    gtk_revealer_set_reveal_child(GTK_REVEALER(p->down), FALSE);
    if (p->n_missing) {
        fill(p);
        if (p->n_missing) p->filler = g_idle_add(fill, p);
        mark_last(p);
    }
    show_stack(p);
    desk_composer_update_buttons(p->composer);
}

void desk_page_changed(desk_page *p, DeskChat *chat, const desk_message *m)
{
    if (chat != p->chat) return;
    desk_message_view *v = g_hash_table_lookup(p->views, &m->id);
    if (v) {
        desk_message_view_update(v, m);
    } else {
        gtk_box_append(GTK_BOX(p->list), make_view(p, m));
        p->stuck = TRUE;
    }
    if (!v || m->state != DESK_STREAMING) mark_last(p);
    show_stack(p);
}

void desk_page_replaced(desk_page *p, DeskChat *chat, int64_t before, const desk_message *m)
{
    desk_message_view *v = g_hash_table_lookup(p->views, &before);
    if (chat != p->chat || !v) return;
    GtkWidget *old = desk_message_view_widget(v);
    gtk_box_insert_child_after(GTK_BOX(p->list), make_view(p, m), old);
    g_hash_table_remove(p->views, &before);
    gtk_box_remove(GTK_BOX(p->list), old);
    mark_last(p);
}

/* ---- Making it ---- */

static gboolean on_drop(GtkDropTarget *target, const GValue *value, double x, double y, gpointer user)
{
    (void)target, (void)x, (void)y;
    if (!G_VALUE_HOLDS(value, GDK_TYPE_FILE_LIST)) return FALSE;
    GSList *files = gdk_file_list_get_files(g_value_get_boxed(value));
    for (const GSList *f = files; f; f = f->next) desk_composer_attach_file(user, f->data);
    g_slist_free(files);
    return TRUE;
}

static void on_suggestion(GtkButton *button, gpointer user)
{
    desk_page *p = user;
    desk_composer_send(p->composer, gtk_button_get_label(button));
}

static GtkWidget *empty_page(desk_page *p)
{
    static const char *const questions[] = { N_("What can you do?"), N_("How do I get a larger model?"),
                                             N_("What is quantization?") };
    GtkWidget *status = adw_status_page_new(), *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 12);
    adw_status_page_set_icon_name(ADW_STATUS_PAGE(status), DESK_APP_ID);
    adw_status_page_set_title(ADW_STATUS_PAGE(status), _("Ask Anything"));
    adw_status_page_set_description(ADW_STATUS_PAGE(status), _("Write a message below, or begin with one of these."));
    gtk_widget_set_halign(box, GTK_ALIGN_CENTER);
    for (size_t i = 0; i < G_N_ELEMENTS(questions); i++) {
        GtkWidget *button = gtk_button_new_with_label(_(questions[i]));
        gtk_widget_add_css_class(button, "pill");
        gtk_widget_add_css_class(button, "suggestion");
        g_signal_connect(button, "clicked", G_CALLBACK(on_suggestion), p);
        gtk_box_append(GTK_BOX(box), button);
    }
    adw_status_page_set_child(ADW_STATUS_PAGE(status), box);
    gtk_widget_set_focusable(gtk_widget_get_first_child(status), FALSE); /* its scrolled window, which has no name */
    gtk_widget_add_css_class(status, "compact");
    return status;
}

static GtkWidget *messages_page(desk_page *p)
{
    GtkWidget *overlay = gtk_overlay_new(), *clamp = adw_clamp_new(), *viewport;
    GtkWidget *button = desk_icon_button("go-down-symbolic", _("To the End"));
    p->scroller = gtk_scrolled_window_new();
    gtk_accessible_update_property(GTK_ACCESSIBLE(p->scroller), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Messages"), -1);
    p->list = gtk_box_new(GTK_ORIENTATION_VERTICAL, 12);
    gtk_widget_add_css_class(p->list, "messages");
    adw_clamp_set_maximum_size(ADW_CLAMP(clamp), 760);
    adw_clamp_set_tightening_threshold(ADW_CLAMP(clamp), 600);
    adw_clamp_set_child(ADW_CLAMP(clamp), p->list);
    viewport = gtk_viewport_new(NULL, NULL);
    gtk_viewport_set_scroll_to_focus(GTK_VIEWPORT(viewport), FALSE); /* a click into a long answer would make it jump */
    gtk_viewport_set_child(GTK_VIEWPORT(viewport), clamp);
    gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(p->scroller), viewport);
    gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(p->scroller), GTK_POLICY_NEVER, GTK_POLICY_AUTOMATIC);
    g_signal_connect(adjustment(p), "changed", G_CALLBACK(on_range), p);
    g_signal_connect(adjustment(p), "value-changed", G_CALLBACK(on_scroll), p);
    p->down = g_object_new(GTK_TYPE_REVEALER, "transition-type", GTK_REVEALER_TRANSITION_TYPE_CROSSFADE, "halign",
                           GTK_ALIGN_CENTER, "valign", GTK_ALIGN_END, "margin-bottom", 12, NULL);
    gtk_widget_add_css_class(button, "circular");
    gtk_widget_add_css_class(button, "osd");
    g_signal_connect(button, "clicked", G_CALLBACK(on_down), p);
    gtk_revealer_set_child(GTK_REVEALER(p->down), button);
    gtk_overlay_set_child(GTK_OVERLAY(overlay), p->scroller);
    gtk_overlay_add_overlay(GTK_OVERLAY(overlay), p->down);
    return overlay;
}

static void page_free(gpointer data)
{
    desk_page *p = data;
    g_clear_handle_id(&p->filler, g_source_remove);
    g_hash_table_unref(p->views);
    g_clear_object(&p->chat);
    g_free(p);
}

desk_page *desk_page_new(desk_app *app)
{
    desk_page *p = g_new0(desk_page, 1);
    p->app = app;
    p->views = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    p->composer = desk_composer_new(app);
    p->root = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    p->stack =
        g_object_new(GTK_TYPE_STACK, "vexpand", TRUE, "transition-type", GTK_STACK_TRANSITION_TYPE_CROSSFADE, NULL);
    gtk_stack_add_named(GTK_STACK(p->stack), empty_page(p), "empty");
    gtk_stack_add_named(GTK_STACK(p->stack), messages_page(p), "messages");
    gtk_box_append(GTK_BOX(p->root), p->stack);
    gtk_box_append(GTK_BOX(p->root), desk_composer_widget(p->composer));
    GtkDropTarget *drop = gtk_drop_target_new(GDK_TYPE_FILE_LIST, GDK_ACTION_COPY);
    g_signal_connect(drop, "drop", G_CALLBACK(on_drop), p->composer);
    gtk_widget_add_controller(p->root, GTK_EVENT_CONTROLLER(drop));
    g_object_set_data_full(G_OBJECT(p->root), "page", p, page_free);
    return p;
}

GtkWidget *desk_page_widget(desk_page *p) { return p->root; }

desk_composer *desk_page_composer(desk_page *p) { return p->composer; }

void desk_page_show(desk_page *p, DeskChat *chat)
{
    g_set_object(&p->chat, chat);
    desk_composer_show(p->composer, chat);
    desk_page_rebuild(p, chat);
}
