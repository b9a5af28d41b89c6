/* SPDX-License-Identifier: Apache-2.0
 * page.c - a conversation on screen: its messages, which follow the end while somebody reads there, and the entry with its attached
 * files. Messages of a long conversation are made CHUNK at a time, the last ones first, so that opening it does not block. */
#include "app.h"
#include "message.h"

#define CHUNK 12
#define MAX_FILE_BYTES (1 << 20)
#define DRAFT_MS 600

struct desk_page {
    desk_app *app;
    DeskChat *chat;
    GtkWidget *root, *stack, *scroller, *list, *down, *entry, *send, *attach, *files, *edit_bar, *placeholder;
    GHashTable *views; /* id -> desk_message_view, of those that are made */
    guint n_missing;   /* messages at the beginning that are not made yet */
    guint filler, drafter;
    gboolean stuck;         /* to the end */
    gboolean moving;        /* the page itself moves the scroll bar */
    guint follower;         /* does so before the next frame */
    GPtrArray *attachments; /* of desk_attachment, to be sent */
    GCancellable *reading;  /* of files, ends with the page */
    int64_t editing;        /* the message that is written anew; 0: none */
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

static void on_go_on(gpointer user, int64_t id)
{
    const desk_page *p = user;
    (void)id;
    desk_app_continue(p->app, p->chat);
}

static void on_edit(gpointer user, int64_t id) { desk_page_edit(user, id); }

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

static const desk_message_actions actions = { on_again, on_edit, on_go_on, on_link, on_copied };

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
    desk_page_update_buttons(p);
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

/* ---- The entry ---- */

static GtkTextBuffer *buffer(const desk_page *p) { return gtk_text_view_get_buffer(GTK_TEXT_VIEW(p->entry)); }

static char *written(const desk_page *p)
{
    GtkTextIter from, to;
    gtk_text_buffer_get_bounds(buffer(p), &from, &to);
    return gtk_text_buffer_get_text(buffer(p), &from, &to, FALSE);
}

static void set_icon(GtkWidget *button, const char *icon, const char *name)
{
    gtk_button_set_icon_name(GTK_BUTTON(button), icon);
    gtk_widget_set_tooltip_text(button, name);
    gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL, name, -1);
}

void desk_page_update_buttons(desk_page *p)
{
    const gboolean answering = p->chat && p->chat->answering;
    char *text = written(p);
    const gboolean some = *g_strstrip(text) != 0 || p->attachments->len;
    if (answering)
        set_icon(p->send, "media-playback-stop-symbolic", _("Stop"));
    else
        set_icon(p->send, "go-up-symbolic", _("Send"));
    gtk_widget_set_sensitive(p->send, answering || (some && p->chat && p->chat->messages && !p->app->paused));
    if (answering)
        gtk_widget_remove_css_class(p->send, "suggested-action");
    else
        gtk_widget_add_css_class(p->send, "suggested-action");
    gtk_widget_set_visible(p->placeholder, gtk_text_buffer_get_char_count(buffer(p)) == 0);
    if (p->app->window) desk_window_enable_stop(p->app->window, answering);
    g_free(text);
}

static gboolean keep_draft(gpointer user)
{
    desk_page *p = user;
    p->drafter = 0;
    if (!p->chat || p->editing) return G_SOURCE_REMOVE;
    char *text = written(p);
    if (strcmp(text, p->chat->head->draft) != 0) {
        g_free(p->chat->head->draft);
        p->chat->head->draft = g_strdup(text);
        if (p->chat->kept)
            desk_app_keep(p->app, p->chat);
        else
            desk_keeper_put(p->app->keeper, "draft", text);
    }
    g_free(text);
    return G_SOURCE_REMOVE;
}

static void on_text(GtkTextBuffer *b, gpointer user)
{
    desk_page *p = user;
    (void)b;
    desk_page_update_buttons(p);
    if (!p->drafter) p->drafter = g_timeout_add(DRAFT_MS, keep_draft, p);
}

static void show_files(desk_page *p);

static void stop_editing(desk_page *p)
{
    p->editing = 0;
    gtk_revealer_set_reveal_child(GTK_REVEALER(p->edit_bar), FALSE);
}

static void on_edit_cancel(GtkButton *button, gpointer user)
{
    desk_page *p = user;
    (void)button;
    stop_editing(p);
    gtk_text_buffer_set_text(buffer(p), p->chat->head->draft, -1);
    g_ptr_array_set_size(p->attachments, 0);
    show_files(p);
}

static void send_written(desk_page *p)
{
    char *text = written(p);
    g_strstrip(text);
    if (p->chat->answering || p->app->paused || !p->chat->messages || (!*text && !p->attachments->len)) {
        g_free(text);
        return;
    }
    if (p->editing) {
        desk_app_cut(p->app, p->chat, p->editing);
        stop_editing(p);
    }
    desk_app_send(p->app, p->chat, text, p->attachments);
    gtk_text_buffer_set_text(buffer(p), "", 0);
    g_clear_handle_id(&p->drafter, g_source_remove);
    g_ptr_array_set_size(p->attachments, 0);
    show_files(p);
    g_free(text);
}

static void on_send(GtkButton *button, gpointer user)
{
    desk_page *p = user;
    (void)button;
    if (p->chat->answering)
        desk_app_stop(p->app, p->chat);
    else
        send_written(p);
}

static gboolean on_key(GtkEventControllerKey *keys, guint key, guint code, GdkModifierType state, gpointer user)
{
    desk_page *p = user;
    (void)keys, (void)code;
    const gboolean enter = key == GDK_KEY_Return || key == GDK_KEY_KP_Enter || key == GDK_KEY_ISO_Enter;
    const gboolean ctrl = (state & GDK_CONTROL_MASK) != 0;
    if (!enter || (state & GDK_SHIFT_MASK) || (p->app->settings.send_with_ctrl && !ctrl)) return FALSE;
    send_written(p);
    return TRUE;
}

void desk_page_edit(desk_page *p, int64_t id)
{
    const int at = desk_chat_find(p->chat, id);
    if (at < 0 || p->chat->answering) return;
    const desk_message *m = p->chat->messages->pdata[at];
    keep_draft(p);
    p->editing = id;
    gtk_text_buffer_set_text(buffer(p), m->text, -1);
    g_ptr_array_set_size(p->attachments, 0);
    for (guint i = 0; m->attachments && i < m->attachments->len; i++) {
        const desk_attachment *from = m->attachments->pdata[i];
        desk_attachment *a = g_new(desk_attachment, 1);
        *a = (desk_attachment){ g_strdup(from->name), g_strdup(from->text) };
        g_ptr_array_add(p->attachments, a);
    }
    show_files(p);
    gtk_revealer_set_reveal_child(GTK_REVEALER(p->edit_bar), TRUE);
    gtk_widget_grab_focus(p->entry);
}

void desk_page_edit_last(desk_page *p)
{
    for (guint i = p->chat->messages ? p->chat->messages->len : 0; i-- > 0;) {
        const desk_message *m = p->chat->messages->pdata[i];
        if (m->role == DESK_USER) return desk_page_edit(p, m->id);
    }
}

/* ---- Attached files ---- */

static void attachment_free(gpointer data)
{
    desk_attachment *a = data;
    g_free(a->name);
    g_free(a->text);
    g_free(a);
}

static void on_remove_file(GtkButton *button, gpointer user)
{
    desk_page *p = user;
    g_ptr_array_remove(p->attachments, g_object_get_data(G_OBJECT(button), "file"));
    show_files(p);
}

static void show_files(desk_page *p)
{
    GtkWidget *child;
    while ((child = gtk_widget_get_first_child(p->files))) gtk_box_remove(GTK_BOX(p->files), child);
    for (guint i = 0; i < p->attachments->len; i++) {
        desk_attachment *a = p->attachments->pdata[i];
        GtkWidget *chip = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6), *name = gtk_label_new(a->name);
        GtkWidget *remove = gtk_button_new_from_icon_name("window-close-symbolic");
        char *label = g_strdup_printf(_("Remove %s"), a->name);
        gtk_widget_add_css_class(chip, "chip");
        gtk_widget_add_css_class(remove, "flat");
        gtk_widget_add_css_class(remove, "circular");
        gtk_label_set_ellipsize(GTK_LABEL(name), PANGO_ELLIPSIZE_MIDDLE);
        gtk_widget_set_tooltip_text(remove, label);
        gtk_accessible_update_property(GTK_ACCESSIBLE(remove), GTK_ACCESSIBLE_PROPERTY_LABEL, label, -1);
        g_object_set_data(G_OBJECT(remove), "file", a);
        g_signal_connect(remove, "clicked", G_CALLBACK(on_remove_file), p);
        gtk_box_append(GTK_BOX(chip), gtk_image_new_from_icon_name("text-x-generic-symbolic"));
        gtk_box_append(GTK_BOX(chip), name);
        gtk_box_append(GTK_BOX(chip), remove);
        gtk_box_append(GTK_BOX(p->files), chip);
        g_free(label);
    }
    gtk_widget_set_visible(p->files, p->attachments->len > 0);
    desk_page_update_buttons(p);
}

static void refuse_file(desk_page *p, const char *format, const char *name)
{
    char *text = g_strdup_printf(format, name);
    if (p->app->window) desk_window_toast(p->app->window, text);
    g_free(text);
}

static void on_read(GObject *source, GAsyncResult *result, gpointer user)
{
    desk_page *p = user; /* gone where it was cancelled */
    GError *error = NULL;
    char *text = NULL, *name = g_file_get_basename(G_FILE(source)), *shown = g_utf8_make_valid(name, -1);
    gsize len = 0;
    if (!g_file_load_contents_finish(G_FILE(source), result, &text, &len, NULL, &error)) {
        if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
            refuse_file(p, _("The file could not be read: %s"), error->message);
        g_clear_error(&error);
    } else if (!g_utf8_validate(text, (gssize)len, NULL)) {
        refuse_file(p, _("%s is not a text file"), shown);
    } else {
        desk_attachment *a = g_new(desk_attachment, 1);
        *a = (desk_attachment){ g_strdup(shown), g_strdup(text) };
        g_ptr_array_add(p->attachments, a);
        show_files(p);
        gtk_widget_grab_focus(p->entry);
    }
    g_free(text);
    g_free(name);
    g_free(shown);
}

static void on_size(GObject *source, GAsyncResult *result, gpointer user)
{
    desk_page *p = user;
    GError *error = NULL;
    GFileInfo *info = g_file_query_info_finish(G_FILE(source), result, &error);
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        p = NULL; /* the page is gone */
    else if (!info)
        refuse_file(p, _("The file could not be read: %s"), error->message);
    else if (g_file_info_get_file_type(info) != G_FILE_TYPE_REGULAR)
        refuse_file(p, _("%s is not a text file"), g_file_info_get_display_name(info));
    else if (g_file_info_get_size(info) > MAX_FILE_BYTES)
        refuse_file(p, _("%s is larger than 1 MB"), g_file_info_get_display_name(info));
    else
        g_file_load_contents_async(G_FILE(source), p->reading, on_read, p);
    g_clear_error(&error);
    g_clear_object(&info);
}

void desk_page_attach_file(desk_page *p, GFile *file)
{
    g_file_query_info_async(file,
                            G_FILE_ATTRIBUTE_STANDARD_TYPE "," G_FILE_ATTRIBUTE_STANDARD_SIZE
                                                           "," G_FILE_ATTRIBUTE_STANDARD_DISPLAY_NAME,
                            G_FILE_QUERY_INFO_NONE, G_PRIORITY_DEFAULT, p->reading, on_size, p);
}

static void on_chosen(GtkNativeDialog *dialog, int response, gpointer user)
{
    if (response == GTK_RESPONSE_ACCEPT) {
        GListModel *files = gtk_file_chooser_get_files(GTK_FILE_CHOOSER(dialog));
        for (guint i = 0; i < g_list_model_get_n_items(files); i++) {
            GFile *file = g_list_model_get_item(files, i);
            desk_page_attach_file(user, file);
            g_object_unref(file);
        }
        g_object_unref(files);
    }
    g_object_unref(dialog);
}

void desk_page_attach(desk_page *p)
{
    GtkFileChooserNative *dialog = gtk_file_chooser_native_new(_("Attach Text Files"), desk_window_gtk(p->app->window),
                                                               GTK_FILE_CHOOSER_ACTION_OPEN, _("_Attach"), NULL);
    gtk_file_chooser_set_select_multiple(GTK_FILE_CHOOSER(dialog), TRUE);
    gtk_native_dialog_set_modal(GTK_NATIVE_DIALOG(dialog), TRUE);
    g_signal_connect(dialog, "response", G_CALLBACK(on_chosen), p);
    gtk_native_dialog_show(GTK_NATIVE_DIALOG(dialog));
}

static gboolean on_drop(GtkDropTarget *target, const GValue *value, double x, double y, gpointer user)
{
    (void)target, (void)x, (void)y;
    if (!G_VALUE_HOLDS(value, GDK_TYPE_FILE_LIST)) return FALSE;
    GSList *files = gdk_file_list_get_files(g_value_get_boxed(value));
    for (const GSList *f = files; f; f = f->next) desk_page_attach_file(user, f->data);
    g_slist_free(files);
    return TRUE;
}

/* ---- Making it ---- */

static void on_suggestion(GtkButton *button, gpointer user)
{
    desk_page *p = user;
    gtk_text_buffer_set_text(buffer(p), gtk_button_get_label(button), -1);
    send_written(p);
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
    gtk_widget_add_css_class(status, "compact");
    return status;
}

static GtkWidget *messages_page(desk_page *p)
{
    GtkWidget *overlay = gtk_overlay_new(), *clamp = adw_clamp_new(), *viewport;
    GtkWidget *button = gtk_button_new_from_icon_name("go-down-symbolic");
    p->scroller = gtk_scrolled_window_new();
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
    set_icon(button, "go-down-symbolic", _("To the End"));
    g_signal_connect(button, "clicked", G_CALLBACK(on_down), p);
    gtk_revealer_set_child(GTK_REVEALER(p->down), button);
    gtk_overlay_set_child(GTK_OVERLAY(overlay), p->scroller);
    gtk_overlay_add_overlay(GTK_OVERLAY(overlay), p->down);
    return overlay;
}

static GtkWidget *edit_bar(desk_page *p)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 8), *label = gtk_label_new(NULL);
    GtkWidget *cancel = gtk_button_new_from_icon_name("window-close-symbolic");
    p->edit_bar = gtk_revealer_new();
    gtk_label_set_text(GTK_LABEL(label), _("Sending replaces this message and all after it."));
    g_object_set(label, "xalign", 0.0F, "hexpand", TRUE, "wrap", TRUE, NULL);
    gtk_widget_add_css_class(label, "caption");
    gtk_widget_add_css_class(label, "dim-label");
    gtk_widget_add_css_class(cancel, "flat");
    gtk_widget_add_css_class(cancel, "circular");
    set_icon(cancel, "window-close-symbolic", _("Cancel Editing"));
    g_signal_connect(cancel, "clicked", G_CALLBACK(on_edit_cancel), p);
    gtk_box_append(GTK_BOX(box), gtk_image_new_from_icon_name("document-edit-symbolic"));
    gtk_box_append(GTK_BOX(box), label);
    gtk_box_append(GTK_BOX(box), cancel);
    gtk_widget_add_css_class(box, "edit-bar");
    gtk_revealer_set_child(GTK_REVEALER(p->edit_bar), box);
    return p->edit_bar;
}

static GtkWidget *composer(desk_page *p)
{
    GtkWidget *clamp = adw_clamp_new(), *card = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    GtkWidget *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 4), *overlay = gtk_overlay_new();
    GtkWidget *scroller = gtk_scrolled_window_new();
    GtkEventController *keys = gtk_event_controller_key_new();
    p->entry = g_object_new(GTK_TYPE_TEXT_VIEW, "wrap-mode", GTK_WRAP_WORD_CHAR, "accepts-tab", FALSE, "top-margin", 9,
                            "bottom-margin", 9, "left-margin", 6, "right-margin", 6, "hexpand", TRUE, NULL);
    gtk_accessible_update_property(GTK_ACCESSIBLE(p->entry), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Message"), -1);
    p->placeholder = g_object_new(GTK_TYPE_LABEL, "label", _("Message"), "halign", GTK_ALIGN_START, "valign",
                                  GTK_ALIGN_START, "margin-start", 7, "margin-top", 9, "can-target", FALSE, NULL);
    gtk_widget_add_css_class(p->placeholder, "dim-label");
    gtk_event_controller_set_propagation_phase(keys, GTK_PHASE_CAPTURE);
    g_signal_connect(keys, "key-pressed", G_CALLBACK(on_key), p);
    gtk_widget_add_controller(p->entry, keys);
    g_signal_connect(buffer(p), "changed", G_CALLBACK(on_text), p);
    g_object_set(scroller, "propagate-natural-height", TRUE, "max-content-height", 220, "hscrollbar-policy",
                 GTK_POLICY_NEVER, "vscrollbar-policy", GTK_POLICY_EXTERNAL, NULL); /* a bar would ask for two lines */
    gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(scroller), p->entry);
    gtk_overlay_set_child(GTK_OVERLAY(overlay), scroller);
    gtk_overlay_add_overlay(GTK_OVERLAY(overlay), p->placeholder);
    gtk_widget_set_hexpand(overlay, TRUE);

    p->attach = gtk_button_new();
    set_icon(p->attach, "mail-attachment-symbolic", _("Attach Text Files"));
    gtk_actionable_set_action_name(GTK_ACTIONABLE(p->attach), "win.attach");
    gtk_widget_add_css_class(p->attach, "flat");
    p->send = gtk_button_new();
    g_signal_connect(p->send, "clicked", G_CALLBACK(on_send), p);
    GtkWidget *const buttons[] = { p->attach, p->send };
    for (size_t i = 0; i < G_N_ELEMENTS(buttons); i++) {
        gtk_widget_add_css_class(buttons[i], "circular");
        gtk_widget_set_valign(buttons[i], GTK_ALIGN_END);
    }
    p->files = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6);
    gtk_widget_add_css_class(p->files, "files");
    gtk_widget_set_visible(p->files, FALSE);
    gtk_box_append(GTK_BOX(row), p->attach);
    gtk_box_append(GTK_BOX(row), overlay);
    gtk_box_append(GTK_BOX(row), p->send);
    gtk_box_append(GTK_BOX(card), edit_bar(p));
    gtk_box_append(GTK_BOX(card), p->files);
    gtk_box_append(GTK_BOX(card), row);
    gtk_widget_add_css_class(card, "composer");
    adw_clamp_set_maximum_size(ADW_CLAMP(clamp), 784);
    adw_clamp_set_tightening_threshold(ADW_CLAMP(clamp), 600);
    adw_clamp_set_child(ADW_CLAMP(clamp), card);
    return clamp;
}

static void page_free(gpointer data)
{
    desk_page *p = data;
    g_clear_handle_id(&p->filler, g_source_remove);
    g_clear_handle_id(&p->drafter, g_source_remove);
    g_hash_table_unref(p->views);
    g_ptr_array_unref(p->attachments);
    g_cancellable_cancel(p->reading);
    g_object_unref(p->reading);
    g_clear_object(&p->chat);
    g_free(p);
}

desk_page *desk_page_new(desk_app *app)
{
    desk_page *p = g_new0(desk_page, 1);
    p->app = app;
    p->views = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    p->attachments = g_ptr_array_new_with_free_func(attachment_free);
    p->reading = g_cancellable_new();
    p->root = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    p->stack =
        g_object_new(GTK_TYPE_STACK, "vexpand", TRUE, "transition-type", GTK_STACK_TRANSITION_TYPE_CROSSFADE, NULL);
    gtk_stack_add_named(GTK_STACK(p->stack), empty_page(p), "empty");
    gtk_stack_add_named(GTK_STACK(p->stack), messages_page(p), "messages");
    gtk_box_append(GTK_BOX(p->root), p->stack);
    gtk_box_append(GTK_BOX(p->root), composer(p));
    GtkDropTarget *drop = gtk_drop_target_new(GDK_TYPE_FILE_LIST, GDK_ACTION_COPY);
    g_signal_connect(drop, "drop", G_CALLBACK(on_drop), p);
    gtk_widget_add_controller(p->root, GTK_EVENT_CONTROLLER(drop));
    desk_page_update_buttons(p);
    g_object_set_data_full(G_OBJECT(p->root), "page", p, page_free);
    return p;
}

GtkWidget *desk_page_widget(desk_page *p) { return p->root; }

void desk_page_show(desk_page *p, DeskChat *chat)
{
    if (p->chat != chat) {
        desk_page_keep_draft(p);
        stop_editing(p);
        g_ptr_array_set_size(p->attachments, 0);
    }
    g_set_object(&p->chat, chat);
    gtk_text_buffer_set_text(buffer(p), chat->head->draft, -1);
    show_files(p);
    desk_page_rebuild(p, chat);
}

void desk_page_keep_draft(desk_page *p)
{
    g_clear_handle_id(&p->drafter, g_source_remove);
    keep_draft(p);
}

void desk_page_focus(desk_page *p) { gtk_widget_grab_focus(p->entry); }
