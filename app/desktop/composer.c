/* SPDX-License-Identifier: Apache-2.0
 * composer.c - where a message is written: the entry, the attached files, the draft that is kept, an old message that is edited. */
#include "app.h"

#define MAX_FILE_BYTES (1 << 20)
#define DRAFT_MS 600

struct desk_composer {
    desk_app *app;
    DeskChat *chat;
    GtkWidget *root, *entry, *send, *attach, *files, *edit_bar, *placeholder;
    guint drafter;
    GPtrArray *attachments; /* of desk_attachment, to be sent */
    GCancellable *reading;  /* of files, ends with the widget */
    int64_t editing;        /* the message that is written anew; 0: none */
};

/* ---- The entry ---- */

static GtkTextBuffer *buffer(const desk_composer *c) { return gtk_text_view_get_buffer(GTK_TEXT_VIEW(c->entry)); }

static char *written(const desk_composer *c)
{
    GtkTextIter from, to;
    gtk_text_buffer_get_bounds(buffer(c), &from, &to);
    return gtk_text_buffer_get_text(buffer(c), &from, &to, FALSE);
}

void desk_composer_update_buttons(desk_composer *c)
{
    const gboolean answering = c->chat && c->chat->answering;
    char *text = written(c);
    const gboolean some = *g_strstrip(text) != 0 || c->attachments->len;
    if (answering)
        desk_name_button(c->send, "media-playback-stop-symbolic", _("Stop"));
    else
        desk_name_button(c->send, "go-up-symbolic", _("Send"));
    gtk_widget_set_sensitive(c->send, answering || (some && c->chat && c->chat->messages && !c->app->paused));
    if (answering)
        gtk_widget_remove_css_class(c->send, "suggested-action");
    else
        gtk_widget_add_css_class(c->send, "suggested-action");
    gtk_widget_set_visible(c->placeholder, gtk_text_buffer_get_char_count(buffer(c)) == 0);
    if (c->app->window) desk_window_enable_stop(c->app->window, answering);
    g_free(text);
}

static gboolean keep_draft(gpointer user)
{
    desk_composer *c = user;
    c->drafter = 0;
    if (!c->chat || c->editing) return G_SOURCE_REMOVE;
    char *text = written(c);
    if (strcmp(text, c->chat->head->draft) != 0) {
        g_free(c->chat->head->draft);
        c->chat->head->draft = g_strdup(text);
        if (c->chat->kept)
            desk_app_keep(c->app, c->chat);
        else
            desk_keeper_put(c->app->keeper, "draft", text);
    }
    g_free(text);
    return G_SOURCE_REMOVE;
}

static void on_text(GtkTextBuffer *b, gpointer user)
{
    desk_composer *c = user;
    (void)b;
    desk_composer_update_buttons(c);
    if (!c->drafter) c->drafter = g_timeout_add(DRAFT_MS, keep_draft, c);
}

static void show_files(desk_composer *c);

static void stop_editing(desk_composer *c)
{
    c->editing = 0;
    gtk_revealer_set_reveal_child(GTK_REVEALER(c->edit_bar), FALSE);
}

static void on_edit_cancel(GtkButton *button, gpointer user)
{
    desk_composer *c = user;
    (void)button;
    stop_editing(c);
    gtk_text_buffer_set_text(buffer(c), c->chat->head->draft, -1);
    g_ptr_array_set_size(c->attachments, 0);
    show_files(c);
}

static void send_written(desk_composer *c)
{
    char *text = written(c);
    g_strstrip(text);
    if (c->chat->answering || c->app->paused || !c->chat->messages || (!*text && !c->attachments->len)) {
        g_free(text);
        return;
    }
    if (c->editing) {
        desk_app_cut(c->app, c->chat, c->editing);
        stop_editing(c);
    }
    desk_app_send(c->app, c->chat, text, c->attachments);
    gtk_text_buffer_set_text(buffer(c), "", 0);
    g_clear_handle_id(&c->drafter, g_source_remove);
    g_ptr_array_set_size(c->attachments, 0);
    show_files(c);
    g_free(text);
}

static void on_send(GtkButton *button, gpointer user)
{
    desk_composer *c = user;
    (void)button;
    if (c->chat->answering)
        desk_app_stop(c->app, c->chat);
    else
        send_written(c);
}

static gboolean on_key(GtkEventControllerKey *keys, guint key, guint code, GdkModifierType state, gpointer user)
{
    desk_composer *c = user;
    (void)keys, (void)code;
    const gboolean enter = key == GDK_KEY_Return || key == GDK_KEY_KP_Enter || key == GDK_KEY_ISO_Enter;
    const gboolean ctrl = (state & GDK_CONTROL_MASK) != 0;
    if (!enter || (state & GDK_SHIFT_MASK) || (c->app->settings.send_with_ctrl && !ctrl)) return FALSE;
    send_written(c);
    return TRUE;
}

void desk_composer_edit(desk_composer *c, int64_t id)
{
    const int at = desk_chat_find(c->chat, id);
    if (at < 0 || c->chat->answering) return;
    const desk_message *m = c->chat->messages->pdata[at];
    keep_draft(c);
    c->editing = id;
    gtk_text_buffer_set_text(buffer(c), m->text, -1);
    g_ptr_array_set_size(c->attachments, 0);
    for (guint i = 0; m->attachments && i < m->attachments->len; i++) {
        const desk_attachment *from = m->attachments->pdata[i];
        desk_attachment *a = g_new(desk_attachment, 1);
        *a = (desk_attachment){ g_strdup(from->name), g_strdup(from->text) };
        g_ptr_array_add(c->attachments, a);
    }
    show_files(c);
    gtk_revealer_set_reveal_child(GTK_REVEALER(c->edit_bar), TRUE);
    gtk_widget_grab_focus(c->entry);
}

void desk_composer_edit_last(desk_composer *c)
{
    for (guint i = c->chat->messages ? c->chat->messages->len : 0; i-- > 0;) {
        const desk_message *m = c->chat->messages->pdata[i];
        if (m->role == DESK_USER) return desk_composer_edit(c, m->id);
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
    desk_composer *c = user;
    g_ptr_array_remove(c->attachments, g_object_get_data(G_OBJECT(button), "file"));
    show_files(c);
}

static void show_files(desk_composer *c)
{
    GtkWidget *child;
    while ((child = gtk_widget_get_first_child(c->files))) gtk_box_remove(GTK_BOX(c->files), child);
    for (guint i = 0; i < c->attachments->len; i++) {
        desk_attachment *a = c->attachments->pdata[i];
        GtkWidget *chip = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6), *name = gtk_label_new(a->name);
        GtkWidget *remove = gtk_button_new();
        char *label = g_strdup_printf(_("Remove %s"), a->name);
        gtk_widget_add_css_class(chip, "chip");
        gtk_widget_add_css_class(remove, "flat");
        gtk_widget_add_css_class(remove, "circular");
        gtk_label_set_ellipsize(GTK_LABEL(name), PANGO_ELLIPSIZE_MIDDLE);
        desk_name_button(remove, "window-close-symbolic", label);
        g_object_set_data(G_OBJECT(remove), "file", a);
        g_signal_connect(remove, "clicked", G_CALLBACK(on_remove_file), c);
        gtk_box_append(GTK_BOX(chip), gtk_image_new_from_icon_name("text-x-generic-symbolic"));
        gtk_box_append(GTK_BOX(chip), name);
        gtk_box_append(GTK_BOX(chip), remove);
        gtk_box_append(GTK_BOX(c->files), chip);
        g_free(label);
    }
    gtk_widget_set_visible(c->files, c->attachments->len > 0);
    desk_composer_update_buttons(c);
}

static void refuse_file(desk_composer *c, const char *format, const char *name)
{
    char *text = g_strdup_printf(format, name);
    if (c->app->window) desk_window_toast(c->app->window, text);
    g_free(text);
}

static void on_read(GObject *source, GAsyncResult *result, gpointer user)
{
    desk_composer *c = user; /* gone where it was cancelled */
    GError *error = NULL;
    char *text = NULL, *name = g_file_get_basename(G_FILE(source)), *shown = g_utf8_make_valid(name, -1);
    gsize len = 0;
    if (!g_file_load_contents_finish(G_FILE(source), result, &text, &len, NULL, &error)) {
        if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
            refuse_file(c, _("The file could not be read: %s"), error->message);
        g_clear_error(&error);
    } else if (!g_utf8_validate(text, (gssize)len, NULL)) {
        refuse_file(c, _("%s is not a text file"), shown);
    } else {
        desk_attachment *a = g_new(desk_attachment, 1);
        *a = (desk_attachment){ g_strdup(shown), g_strdup(text) };
        g_ptr_array_add(c->attachments, a);
        show_files(c);
        gtk_widget_grab_focus(c->entry);
    }
    g_free(text);
    g_free(name);
    g_free(shown);
}

static void on_size(GObject *source, GAsyncResult *result, gpointer user)
{
    desk_composer *c = user;
    GError *error = NULL;
    GFileInfo *info = g_file_query_info_finish(G_FILE(source), result, &error);
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        c = NULL; /* the window is gone */
    else if (!info)
        refuse_file(c, _("The file could not be read: %s"), error->message);
    else if (g_file_info_get_file_type(info) != G_FILE_TYPE_REGULAR)
        refuse_file(c, _("%s is not a text file"), g_file_info_get_display_name(info));
    else if (g_file_info_get_size(info) > MAX_FILE_BYTES)
        refuse_file(c, _("%s is larger than 1 MB"), g_file_info_get_display_name(info));
    else
        g_file_load_contents_async(G_FILE(source), c->reading, on_read, c);
    g_clear_error(&error);
    g_clear_object(&info);
}

void desk_composer_attach_file(desk_composer *c, GFile *file)
{
    g_file_query_info_async(file,
                            G_FILE_ATTRIBUTE_STANDARD_TYPE "," G_FILE_ATTRIBUTE_STANDARD_SIZE
                                                           "," G_FILE_ATTRIBUTE_STANDARD_DISPLAY_NAME,
                            G_FILE_QUERY_INFO_NONE, G_PRIORITY_DEFAULT, c->reading, on_size, c);
}

static void on_chosen(GtkNativeDialog *dialog, int response, gpointer user)
{
    if (response == GTK_RESPONSE_ACCEPT) {
        GListModel *files = gtk_file_chooser_get_files(GTK_FILE_CHOOSER(dialog));
        for (guint i = 0; i < g_list_model_get_n_items(files); i++) {
            GFile *file = g_list_model_get_item(files, i);
            desk_composer_attach_file(user, file);
            g_object_unref(file);
        }
        g_object_unref(files);
    }
    g_object_unref(dialog);
}

void desk_composer_attach(desk_composer *c)
{
    GtkFileChooserNative *dialog = gtk_file_chooser_native_new(_("Attach Text Files"), desk_window_gtk(c->app->window),
                                                               GTK_FILE_CHOOSER_ACTION_OPEN, _("_Attach"), NULL);
    gtk_file_chooser_set_select_multiple(GTK_FILE_CHOOSER(dialog), TRUE);
    gtk_native_dialog_set_modal(GTK_NATIVE_DIALOG(dialog), TRUE);
    g_signal_connect(dialog, "response", G_CALLBACK(on_chosen), c);
    gtk_native_dialog_show(GTK_NATIVE_DIALOG(dialog));
}

/* ---- Making it ---- */

static GtkWidget *edit_bar(desk_composer *c)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 8), *label = gtk_label_new(NULL);
    GtkWidget *cancel = desk_icon_button("window-close-symbolic", _("Cancel Editing"));
    c->edit_bar = gtk_revealer_new();
    gtk_label_set_text(GTK_LABEL(label), _("Sending replaces this message and all after it."));
    g_object_set(label, "xalign", 0.0F, "hexpand", TRUE, "wrap", TRUE, NULL);
    gtk_widget_add_css_class(label, "caption");
    gtk_widget_add_css_class(label, "dim-label");
    gtk_widget_add_css_class(cancel, "flat");
    gtk_widget_add_css_class(cancel, "circular");
    g_signal_connect(cancel, "clicked", G_CALLBACK(on_edit_cancel), c);
    gtk_box_append(GTK_BOX(box), gtk_image_new_from_icon_name("document-edit-symbolic"));
    gtk_box_append(GTK_BOX(box), label);
    gtk_box_append(GTK_BOX(box), cancel);
    gtk_widget_add_css_class(box, "edit-bar");
    gtk_revealer_set_child(GTK_REVEALER(c->edit_bar), box);
    return c->edit_bar;
}

static void composer_free(gpointer data)
{
    desk_composer *c = data;
    g_clear_handle_id(&c->drafter, g_source_remove);
    g_ptr_array_unref(c->attachments);
    g_cancellable_cancel(c->reading);
    g_object_unref(c->reading);
    g_clear_object(&c->chat);
    g_free(c);
}

desk_composer *desk_composer_new(desk_app *app)
{
    desk_composer *c = g_new0(desk_composer, 1);
    c->app = app;
    c->attachments = g_ptr_array_new_with_free_func(attachment_free);
    c->reading = g_cancellable_new();
    GtkWidget *clamp = adw_clamp_new(), *card = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    GtkWidget *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 4), *overlay = gtk_overlay_new();
    GtkWidget *scroller = gtk_scrolled_window_new();
    GtkEventController *keys = gtk_event_controller_key_new();
    c->entry = g_object_new(GTK_TYPE_TEXT_VIEW, "wrap-mode", GTK_WRAP_WORD_CHAR, "accepts-tab", FALSE, "top-margin", 9,
                            "bottom-margin", 9, "left-margin", 6, "right-margin", 6, "hexpand", TRUE, NULL);
    gtk_accessible_update_property(GTK_ACCESSIBLE(c->entry), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Message"), -1);
    c->placeholder = g_object_new(GTK_TYPE_LABEL, "label", _("Message"), "halign", GTK_ALIGN_START, "valign",
                                  GTK_ALIGN_START, "margin-start", 7, "margin-top", 9, "can-target", FALSE, NULL);
    gtk_widget_add_css_class(c->placeholder, "dim-label");
    gtk_event_controller_set_propagation_phase(keys, GTK_PHASE_CAPTURE);
    g_signal_connect(keys, "key-pressed", G_CALLBACK(on_key), c);
    gtk_widget_add_controller(c->entry, keys);
    g_signal_connect(buffer(c), "changed", G_CALLBACK(on_text), c);
    g_object_set(scroller, "propagate-natural-height", TRUE, "max-content-height", 220, "hscrollbar-policy",
                 GTK_POLICY_NEVER, "vscrollbar-policy", GTK_POLICY_EXTERNAL, NULL); /* a bar would ask for two lines */
    gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(scroller), c->entry);
    gtk_widget_set_focusable(scroller, FALSE);
    gtk_overlay_set_child(GTK_OVERLAY(overlay), scroller);
    gtk_overlay_add_overlay(GTK_OVERLAY(overlay), c->placeholder);
    gtk_widget_set_hexpand(overlay, TRUE);

    c->attach = desk_icon_button("mail-attachment-symbolic", _("Attach Text Files"));
    gtk_actionable_set_action_name(GTK_ACTIONABLE(c->attach), "win.attach");
    gtk_widget_add_css_class(c->attach, "flat");
    c->send = gtk_button_new();
    g_signal_connect(c->send, "clicked", G_CALLBACK(on_send), c);
    GtkWidget *const buttons[] = { c->attach, c->send };
    for (size_t i = 0; i < G_N_ELEMENTS(buttons); i++) {
        gtk_widget_add_css_class(buttons[i], "circular");
        gtk_widget_set_valign(buttons[i], GTK_ALIGN_END);
    }
    c->files = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6);
    gtk_widget_add_css_class(c->files, "files");
    gtk_widget_set_visible(c->files, FALSE);
    gtk_box_append(GTK_BOX(row), c->attach);
    gtk_box_append(GTK_BOX(row), overlay);
    gtk_box_append(GTK_BOX(row), c->send);
    gtk_box_append(GTK_BOX(card), edit_bar(c));
    gtk_box_append(GTK_BOX(card), c->files);
    gtk_box_append(GTK_BOX(card), row);
    gtk_widget_add_css_class(card, "composer");
    adw_clamp_set_maximum_size(ADW_CLAMP(clamp), 784);
    adw_clamp_set_tightening_threshold(ADW_CLAMP(clamp), 600);
    adw_clamp_set_child(ADW_CLAMP(clamp), card);
    c->root = clamp;
    g_object_set_data_full(G_OBJECT(clamp), "composer", c, composer_free);
    desk_composer_update_buttons(c);
    return c;
}

/* ---- Doors ---- */

GtkWidget *desk_composer_widget(desk_composer *c) { return c->root; }

void desk_composer_show(desk_composer *c, DeskChat *chat)
{
    if (c->chat != chat) {
        desk_composer_keep_draft(c);
        stop_editing(c);
        g_ptr_array_set_size(c->attachments, 0);
    }
    g_set_object(&c->chat, chat);
    gtk_text_buffer_set_text(buffer(c), chat->head->draft, -1);
    show_files(c);
}

void desk_composer_keep_draft(desk_composer *c)
{
    g_clear_handle_id(&c->drafter, g_source_remove);
    keep_draft(c);
}

void desk_composer_focus(desk_composer *c) { gtk_widget_grab_focus(c->entry); }

void desk_composer_send(desk_composer *c, const char *text)
{
    gtk_text_buffer_set_text(buffer(c), text, -1);
    send_written(c);
}
