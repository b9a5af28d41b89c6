/* SPDX-License-Identifier: Apache-2.0
 * dialogs.c - what is asked about one conversation: its name, its system prompt, where to export it; and whether to quit while
 * something is not saved. */
#include "app.h"

static void on_unkept(AdwMessageDialog *dialog, const char *response, gpointer user)
{
    desk_app *app = user;
    (void)dialog;
    if (strcmp(response, "quit") == 0) g_application_quit(G_APPLICATION(app->gtk));
}

void desk_dialog_unkept(desk_app *app)
{
    g_application_activate(G_APPLICATION(app->gtk)); /* a dialog needs a window, which may be hidden */
    GtkWidget *dialog =
        adw_message_dialog_new(desk_window_gtk(app->window), _("Quit and Lose What Was Not Saved?"), app->unkept);
    adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(dialog), "stay", _("_Stay"), "quit", _("_Quit"), NULL);
    adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(dialog), "quit", ADW_RESPONSE_DESTRUCTIVE);
    adw_message_dialog_set_default_response(ADW_MESSAGE_DIALOG(dialog), "stay");
    g_signal_connect(dialog, "response", G_CALLBACK(on_unkept), app);
    gtk_window_present(GTK_WINDOW(dialog));
}

static void on_renamed(AdwMessageDialog *dialog, const char *response, gpointer user)
{
    desk_app *app = user;
    GtkWidget *entry = g_object_get_data(G_OBJECT(dialog), "entry");
    DeskChat *chat = g_object_get_data(G_OBJECT(dialog), "chat");
    char *title = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(entry))));
    if (strcmp(response, "rename") == 0 && *title) {
        desk_chat_set_title(chat, title);
        desk_app_keep(app, chat);
        if (app->window) desk_window_status(app->window);
    }
    g_free(title);
}

void desk_dialog_rename(desk_app *app, DeskChat *chat)
{
    GtkWidget *dialog = adw_message_dialog_new(desk_window_gtk(app->window), _("Rename Chat"), NULL),
              *entry = gtk_entry_new();
    gtk_editable_set_text(GTK_EDITABLE(entry), chat->head->title);
    gtk_entry_set_activates_default(GTK_ENTRY(entry), TRUE);
    gtk_accessible_update_property(GTK_ACCESSIBLE(entry), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Title"), -1);
    adw_message_dialog_set_extra_child(ADW_MESSAGE_DIALOG(dialog), entry);
    adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(dialog), "cancel", _("_Cancel"), "rename", _("_Rename"), NULL);
    adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(dialog), "rename", ADW_RESPONSE_SUGGESTED);
    adw_message_dialog_set_default_response(ADW_MESSAGE_DIALOG(dialog), "rename");
    g_object_set_data(G_OBJECT(dialog), "entry", entry);
    g_object_set_data_full(G_OBJECT(dialog), "chat", g_object_ref(chat), g_object_unref);
    g_signal_connect(dialog, "response", G_CALLBACK(on_renamed), app);
    gtk_window_present(GTK_WINDOW(dialog));
    gtk_widget_grab_focus(entry);
}

static void on_system(AdwMessageDialog *dialog, const char *response, gpointer user)
{
    desk_app *app = user;
    GtkTextBuffer *buffer = g_object_get_data(G_OBJECT(dialog), "buffer");
    DeskChat *chat = g_object_get_data(G_OBJECT(dialog), "chat");
    GtkTextIter from, to;
    if (strcmp(response, "save") != 0) return;
    gtk_text_buffer_get_bounds(buffer, &from, &to);
    g_free(chat->head->system);
    chat->head->system = g_strstrip(gtk_text_buffer_get_text(buffer, &from, &to, FALSE));
    desk_app_keep(app, chat);
}

void desk_dialog_system(desk_app *app, DeskChat *chat)
{
    GtkWidget *dialog =
        adw_message_dialog_new(desk_window_gtk(app->window), _("System Prompt"),
                               _("What the model is told before this chat. It counts from the next answer on."));
    GtkWidget *scroller = gtk_scrolled_window_new();
    GtkWidget *view = g_object_new(GTK_TYPE_TEXT_VIEW, "wrap-mode", GTK_WRAP_WORD_CHAR, "top-margin", 8,
                                   "bottom-margin", 8, "left-margin", 8, "right-margin", 8, "accepts-tab", FALSE, NULL);
    GtkTextBuffer *buffer = gtk_text_view_get_buffer(GTK_TEXT_VIEW(view));
    gtk_text_buffer_set_text(buffer, *chat->head->system ? chat->head->system : app->settings.system, -1);
    gtk_accessible_update_property(GTK_ACCESSIBLE(view), GTK_ACCESSIBLE_PROPERTY_LABEL, _("System Prompt"), -1);
    gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(scroller), view);
    gtk_widget_set_focusable(scroller, FALSE);
    gtk_widget_set_size_request(scroller, 380, 150);
    gtk_widget_add_css_class(scroller, "card");
    gtk_widget_set_overflow(scroller, GTK_OVERFLOW_HIDDEN);
    adw_message_dialog_set_extra_child(ADW_MESSAGE_DIALOG(dialog), scroller);
    adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(dialog), "cancel", _("_Cancel"), "save", _("_Save"), NULL);
    adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(dialog), "save", ADW_RESPONSE_SUGGESTED);
    g_object_set_data(G_OBJECT(dialog), "buffer", buffer);
    g_object_set_data_full(G_OBJECT(dialog), "chat", g_object_ref(chat), g_object_unref);
    g_signal_connect(dialog, "response", G_CALLBACK(on_system), app);
    gtk_window_present(GTK_WINDOW(dialog));
    gtk_widget_grab_focus(view);
}

typedef struct export
{
    desk_app *app;
    GBytes *bytes;
}
export;

static void on_exported(GObject *source, GAsyncResult *result, gpointer user)
{
    export *e = user;
    GError *error = NULL;
    char *name = g_file_get_basename(G_FILE(source));
    char *text = g_file_replace_contents_finish(G_FILE(source), result, NULL, &error)
                     ? g_strdup_printf(_("Saved as %s"), name)
                     : g_strdup_printf(_("The chat could not be saved: %s"), error->message);
    if (e->app->window) desk_window_toast(e->app->window, text);
    g_clear_error(&error);
    g_free(text);
    g_free(name);
    g_bytes_unref(e->bytes);
    g_free(e);
}

static void on_export_chosen(GtkNativeDialog *dialog, int response, gpointer user)
{
    export *e = user;
    GFile *file = response == GTK_RESPONSE_ACCEPT ? gtk_file_chooser_get_file(GTK_FILE_CHOOSER(dialog)) : NULL;
    if (file) {
        g_file_replace_contents_bytes_async(file, e->bytes, NULL, FALSE, G_FILE_CREATE_NONE, NULL, on_exported, e);
        g_object_unref(file);
    } else {
        g_bytes_unref(e->bytes);
        g_free(e);
    }
    g_object_unref(dialog);
}

void desk_dialog_export(desk_app *app, DeskChat *chat)
{
    char *text = desk_chat_export(chat), *name = g_strconcat(chat->head->title, ".md", NULL);
    export *e = g_new(export, 1);
    *e = (export){ app, g_bytes_new_take(text, strlen(text)) };
    g_strdelimit(name, "/\\:*?\"<>|", '-');
    GtkFileChooserNative *dialog = gtk_file_chooser_native_new(_("Export Chat"), desk_window_gtk(app->window),
                                                               GTK_FILE_CHOOSER_ACTION_SAVE, _("_Export"), NULL);
    gtk_file_chooser_set_current_name(GTK_FILE_CHOOSER(dialog), name);
    gtk_native_dialog_set_modal(GTK_NATIVE_DIALOG(dialog), TRUE);
    g_signal_connect(dialog, "response", G_CALLBACK(on_export_chosen), e);
    gtk_native_dialog_show(GTK_NATIVE_DIALOG(dialog));
    g_free(name);
}
