/* SPDX-License-Identifier: Apache-2.0
 * window.c - the window: conversations in a sidebar, one of them (or the monitor) beside it, and the actions that menus and keys
 * reach. Narrow windows show one of both at a time. */
#include "app.h"

#define SEARCH_MS 150

struct desk_window {
    desk_app *app;
    GtkWidget *window, *leaflet, *sidebar, *content, *toasts, *banners, *stack;
    GtkWidget *search_bar, *search, *list, *list_stack, *back, *light, *new_button;
    GListStore *shown; /* what the sidebar lists: all conversations, or what was found */
    desk_page *page;
    desk_models *models;
    guint searcher, monitor_maker;
    guint search_number; /* answers to older searches are dropped */
    gboolean selecting;  /* the window itself changes the selection */
};

/* ---- The list ---- */

static gboolean is_searching(const desk_window *w) { return *gtk_editable_get_text(GTK_EDITABLE(w->search)) != 0; }

static DeskChat *chat_at(const desk_window *w, int index)
{
    DeskChat *chat = index < 0 ? NULL : g_list_model_get_item(G_LIST_MODEL(w->shown), (guint)index);
    if (chat) g_object_unref(chat); /* the list keeps it */
    return chat;
}

static void select_current(desk_window *w)
{
    guint at;
    w->selecting = TRUE;
    if (w->app->current && g_list_store_find(w->shown, w->app->current, &at))
        gtk_list_box_select_row(GTK_LIST_BOX(w->list), gtk_list_box_get_row_at_index(GTK_LIST_BOX(w->list), (int)at));
    else
        gtk_list_box_unselect_all(GTK_LIST_BOX(w->list));
    w->selecting = FALSE;
    const gboolean empty = g_list_model_get_n_items(G_LIST_MODEL(w->shown)) == 0;
    gtk_stack_set_visible_child_name(GTK_STACK(w->list_stack), !empty ? "list" : is_searching(w) ? "none" : "empty");
}

static int days_ago(int64_t us)
{
    GDateTime *now = g_date_time_new_now_local(), *then = g_date_time_new_from_unix_local(us / G_USEC_PER_SEC);
    GDate today, day;
    g_date_clear(&today, 1);
    g_date_clear(&day, 1);
    g_date_set_dmy(&today, (GDateDay)g_date_time_get_day_of_month(now), (GDateMonth)g_date_time_get_month(now),
                   (GDateYear)g_date_time_get_year(now));
    if (then)
        g_date_set_dmy(&day, (GDateDay)g_date_time_get_day_of_month(then), (GDateMonth)g_date_time_get_month(then),
                       (GDateYear)g_date_time_get_year(then));
    const int days = then ? g_date_days_between(&day, &today) : 0;
    g_date_time_unref(now);
    if (then) g_date_time_unref(then);
    return days;
}

static const char *period_of(const DeskChat *chat)
{
    const int days = days_ago(chat->head->updated);
    return days <= 0 ? _("Today") : days == 1 ? _("Yesterday") : days < 7 ? _("Last 7 Days") : _("Earlier");
}

static void row_header(GtkListBoxRow *row, GtkListBoxRow *before, gpointer user)
{
    const desk_window *w = user;
    const DeskChat *chat = chat_at(w, gtk_list_box_row_get_index(row));
    const DeskChat *above = before ? chat_at(w, gtk_list_box_row_get_index(before)) : NULL;
    if (!chat) return;
    const char *period = period_of(chat);
    desk_row_heading(row, above ? period_of(above) : NULL, period);
}

static void on_row_menu(GtkGesture *gesture, int n, double x, double y, gpointer user)
{
    desk_window *w = user;
    GtkWidget *row = gtk_event_controller_get_widget(GTK_EVENT_CONTROLLER(gesture));
    DeskChat *chat = g_object_get_data(G_OBJECT(row), "chat");
    (void)n;
    if (chat != w->app->current) desk_app_open(w->app, chat);
    GMenu *menu = g_menu_new();
    g_menu_append(menu, _("_Rename…"), "win.rename");
    g_menu_append(menu, _("_Export…"), "win.export");
    g_menu_append(menu, _("_Delete"), "win.delete");
    GtkWidget *popover = gtk_popover_menu_new_from_model(G_MENU_MODEL(menu));
    g_object_unref(menu);
    gtk_widget_set_parent(popover, row);
    gtk_popover_set_has_arrow(GTK_POPOVER(popover), FALSE);
    gtk_widget_set_halign(popover, GTK_ALIGN_START);
    gtk_popover_set_pointing_to(GTK_POPOVER(popover), &(GdkRectangle){ (int)x, (int)y, 1, 1 });
    g_signal_connect_swapped(row, "destroy", G_CALLBACK(gtk_widget_unparent), popover);
    gtk_popover_popup(GTK_POPOVER(popover));
}

static GtkWidget *make_row(gpointer item, gpointer user)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6), *spinner = gtk_spinner_new();
    GtkWidget *label =
        g_object_new(GTK_TYPE_LABEL, "xalign", 0.0F, "ellipsize", PANGO_ELLIPSIZE_END, "hexpand", TRUE, NULL);
    GtkWidget *row = gtk_list_box_row_new();
    g_object_bind_property(item, "title", label, "label", G_BINDING_SYNC_CREATE);
    g_object_bind_property(item, "title", label, "tooltip-text", G_BINDING_SYNC_CREATE);
    g_object_bind_property(item, "answering", spinner, "visible", G_BINDING_SYNC_CREATE);
    g_object_bind_property(item, "answering", spinner, "spinning", G_BINDING_SYNC_CREATE);
    gtk_box_append(GTK_BOX(box), label);
    gtk_box_append(GTK_BOX(box), spinner);
    gtk_list_box_row_set_child(GTK_LIST_BOX_ROW(row), box);
    g_object_set_data(G_OBJECT(row), "chat", item);
    GtkGesture *click = gtk_gesture_click_new();
    gtk_gesture_single_set_button(GTK_GESTURE_SINGLE(click), GDK_BUTTON_SECONDARY);
    g_signal_connect(click, "pressed", G_CALLBACK(on_row_menu), user);
    gtk_widget_add_controller(row, GTK_EVENT_CONTROLLER(click));
    return row;
}

static void on_row(GtkListBox *list, GtkListBoxRow *row, gpointer user)
{
    desk_window *w = user;
    DeskChat *chat = chat_at(w, gtk_list_box_row_get_index(row));
    (void)list;
    if (w->selecting || !chat) return;
    desk_app_open(w->app, chat);
    adw_leaflet_navigate(ADW_LEAFLET(w->leaflet), ADW_NAVIGATION_DIRECTION_FORWARD);
}

/* ---- Search ---- */

static void show_all(desk_window *w)
{
    const guint n = g_list_model_get_n_items(G_LIST_MODEL(w->app->chats));
    gpointer *all = g_new(gpointer, n + 1);
    for (guint i = 0; i < n; i++) all[i] = g_list_model_get_item(G_LIST_MODEL(w->app->chats), i);
    g_list_store_splice(w->shown, 0, g_list_model_get_n_items(G_LIST_MODEL(w->shown)), all, n);
    for (guint i = 0; i < n; i++) g_object_unref(all[i]);
    g_free(all);
    select_current(w);
}

typedef struct search {
    desk_app *app;
    guint number;
} search;

static void on_found(gpointer user, GPtrArray *rows)
{
    search *s = user;
    desk_window *w = s->app->window;
    if (w && w->search_number == s->number) {
        g_list_store_remove_all(w->shown);
        const guint n = g_list_model_get_n_items(G_LIST_MODEL(w->app->chats));
        for (guint i = 0; i < n; i++) {
            DeskChat *chat = g_list_model_get_item(G_LIST_MODEL(w->app->chats), i);
            for (guint k = 0; k < rows->len; k++)
                if (((desk_conversation *)rows->pdata[k])->id == chat->head->id) g_list_store_append(w->shown, chat);
            g_object_unref(chat);
        }
        select_current(w);
    }
    g_free(s);
}

static gboolean search_now(gpointer user)
{
    desk_window *w = user;
    w->searcher = 0;
    w->search_number++;
    if (!is_searching(w)) {
        show_all(w);
        return G_SOURCE_REMOVE;
    }
    search *s = g_new(search, 1);
    *s = (search){ w->app, w->search_number };
    desk_keeper_list(w->app->keeper, gtk_editable_get_text(GTK_EDITABLE(w->search)), on_found, s);
    return G_SOURCE_REMOVE;
}

static void on_search(GtkEditable *entry, gpointer user)
{
    desk_window *w = user;
    (void)entry;
    g_clear_handle_id(&w->searcher, g_source_remove);
    w->searcher = g_timeout_add(SEARCH_MS, search_now, w);
}

static void on_chats_changed(GListModel *model, guint at, guint removed, guint added, gpointer user)
{
    desk_window *w = user;
    (void)model, (void)at, (void)removed, (void)added;
    if (is_searching(w))
        on_search(NULL, w);
    else
        show_all(w);
}

/* ---- Dialogs ---- */

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

static void rename_chat(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_window *w = user;
    DeskChat *chat = w->app->current;
    (void)action, (void)value;
    if (!chat || !chat->kept) return;
    GtkWidget *dialog = adw_message_dialog_new(GTK_WINDOW(w->window), _("Rename Chat"), NULL), *entry = gtk_entry_new();
    gtk_editable_set_text(GTK_EDITABLE(entry), chat->head->title);
    gtk_entry_set_activates_default(GTK_ENTRY(entry), TRUE);
    gtk_accessible_update_property(GTK_ACCESSIBLE(entry), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Title"), -1);
    adw_message_dialog_set_extra_child(ADW_MESSAGE_DIALOG(dialog), entry);
    adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(dialog), "cancel", _("_Cancel"), "rename", _("_Rename"), NULL);
    adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(dialog), "rename", ADW_RESPONSE_SUGGESTED);
    adw_message_dialog_set_default_response(ADW_MESSAGE_DIALOG(dialog), "rename");
    g_object_set_data(G_OBJECT(dialog), "entry", entry);
    g_object_set_data_full(G_OBJECT(dialog), "chat", g_object_ref(chat), g_object_unref);
    g_signal_connect(dialog, "response", G_CALLBACK(on_renamed), w->app);
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

static void edit_system(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_window *w = user;
    DeskChat *chat = w->app->current;
    (void)action, (void)value;
    if (!chat) return;
    GtkWidget *dialog =
        adw_message_dialog_new(GTK_WINDOW(w->window), _("System Prompt"),
                               _("What the model is told before this chat. It counts from the next answer on."));
    GtkWidget *scroller = gtk_scrolled_window_new();
    GtkWidget *view = g_object_new(GTK_TYPE_TEXT_VIEW, "wrap-mode", GTK_WRAP_WORD_CHAR, "top-margin", 8,
                                   "bottom-margin", 8, "left-margin", 8, "right-margin", 8, "accepts-tab", FALSE, NULL);
    GtkTextBuffer *buffer = gtk_text_view_get_buffer(GTK_TEXT_VIEW(view));
    gtk_text_buffer_set_text(buffer, *chat->head->system ? chat->head->system : w->app->settings.system, -1);
    gtk_accessible_update_property(GTK_ACCESSIBLE(view), GTK_ACCESSIBLE_PROPERTY_LABEL, _("System Prompt"), -1);
    gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(scroller), view);
    gtk_widget_set_size_request(scroller, 380, 150);
    gtk_widget_add_css_class(scroller, "card");
    gtk_widget_set_overflow(scroller, GTK_OVERFLOW_HIDDEN);
    adw_message_dialog_set_extra_child(ADW_MESSAGE_DIALOG(dialog), scroller);
    adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(dialog), "cancel", _("_Cancel"), "save", _("_Save"), NULL);
    adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(dialog), "save", ADW_RESPONSE_SUGGESTED);
    g_object_set_data(G_OBJECT(dialog), "buffer", buffer);
    g_object_set_data_full(G_OBJECT(dialog), "chat", g_object_ref(chat), g_object_unref);
    g_signal_connect(dialog, "response", G_CALLBACK(on_system), w->app);
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

static void export_chat(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_window *w = user;
    DeskChat *chat = w->app->current;
    (void)action, (void)value;
    if (!chat || !chat->kept || !chat->messages) return;
    char *text = desk_chat_export(chat), *name = g_strconcat(chat->head->title, ".md", NULL);
    export *e = g_new(export, 1);
    *e = (export){ w->app, g_bytes_new_take(text, strlen(text)) };
    g_strdelimit(name, "/\\:*?\"<>|", '-');
    GtkFileChooserNative *dialog = gtk_file_chooser_native_new(_("Export Chat"), GTK_WINDOW(w->window),
                                                               GTK_FILE_CHOOSER_ACTION_SAVE, _("_Export"), NULL);
    gtk_file_chooser_set_current_name(GTK_FILE_CHOOSER(dialog), name);
    gtk_native_dialog_set_modal(GTK_NATIVE_DIALOG(dialog), TRUE);
    g_signal_connect(dialog, "response", G_CALLBACK(on_export_chosen), e);
    gtk_native_dialog_show(GTK_NATIVE_DIALOG(dialog));
    g_free(name);
}

/* ---- Actions ---- */

static void delete_chat(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_window *w = user;
    (void)action, (void)value;
    if (w->app->current && w->app->current->kept) desk_app_delete(w->app, w->app->current);
}

static void attach(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    desk_page_attach(((desk_window *)user)->page);
}

static void stop(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_window *w = user;
    (void)action, (void)value;
    if (w->app->current) desk_app_stop(w->app, w->app->current);
}

static void again(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_window *w = user;
    (void)action, (void)value;
    if (w->app->current) desk_app_again(w->app, w->app->current);
}

static void edit_last(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    desk_page_edit_last(((desk_window *)user)->page);
}

static void start_search(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_window *w = user;
    (void)action, (void)value;
    adw_leaflet_set_visible_child(ADW_LEAFLET(w->leaflet), w->sidebar);
    gtk_search_bar_set_search_mode(GTK_SEARCH_BAR(w->search_bar), TRUE);
    gtk_widget_grab_focus(w->search);
}

static void step(desk_window *w, int by)
{
    guint at = 0;
    const gboolean known = w->app->current && g_list_store_find(w->shown, w->app->current, &at);
    DeskChat *chat = chat_at(w, known ? (int)at + by : 0);
    if (chat) desk_app_open(w->app, chat);
}

static void next(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    step(user, 1);
}

static void previous(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    step(user, -1);
}

static void monitor(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    desk_window_show_monitor(user);
}

static void toggle_sidebar(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_window *w = user;
    (void)action, (void)value;
    gtk_widget_set_visible(w->sidebar, !gtk_widget_get_visible(w->sidebar));
}

static void open_models(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    gtk_menu_button_popup(GTK_MENU_BUTTON(desk_models_widget(((desk_window *)user)->models)));
}

/* ---- Making it ---- */

static GtkWidget *named_button(const char *icon, const char *name, const char *action)
{
    GtkWidget *button = gtk_button_new_from_icon_name(icon);
    gtk_widget_set_tooltip_text(button, name);
    gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL, name, -1);
    if (action) gtk_actionable_set_action_name(GTK_ACTIONABLE(button), action);
    return button;
}

static GtkWidget *menu_button(const char *icon, const char *name, GMenu *menu, gboolean primary)
{
    GtkWidget *button = g_object_new(GTK_TYPE_MENU_BUTTON, "icon-name", icon, "menu-model", menu, "primary", primary,
                                     "tooltip-text", name, NULL);
    gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL, name, -1);
    g_object_unref(menu);
    return button;
}

static GMenu *primary_menu(void)
{
    GMenu *menu = g_menu_new(), *first = g_menu_new(), *second = g_menu_new();
    g_menu_append(first, _("_Resource Monitor"), "win.monitor");
    g_menu_append(second, _("_Preferences"), "app.preferences");
    g_menu_append(second, _("_Keyboard Shortcuts"), "win.show-help-overlay");
    g_menu_append(second, _("_About WhisperEngine"), "app.about");
    g_menu_append_section(menu, NULL, G_MENU_MODEL(first));
    g_menu_append_section(menu, NULL, G_MENU_MODEL(second));
    g_object_unref(first);
    g_object_unref(second);
    return menu;
}

static GMenu *chat_menu(void)
{
    GMenu *menu = g_menu_new(), *first = g_menu_new(), *second = g_menu_new();
    g_menu_append(first, _("_System Prompt…"), "win.system");
    g_menu_append(first, _("_Rename…"), "win.rename");
    g_menu_append(first, _("_Export…"), "win.export");
    g_menu_append(second, _("_Delete"), "win.delete");
    g_menu_append_section(menu, NULL, G_MENU_MODEL(first));
    g_menu_append_section(menu, NULL, G_MENU_MODEL(second));
    g_object_unref(first);
    g_object_unref(second);
    return menu;
}

static GtkWidget *dim_text(const char *text)
{
    GtkWidget *label = g_object_new(GTK_TYPE_LABEL, "label", text, "wrap", TRUE, "justify", GTK_JUSTIFY_CENTER,
                                    "margin-start", 24, "margin-end", 24, "max-width-chars", 20, NULL);
    gtk_widget_add_css_class(label, "dim-label");
    return label;
}

static GtkWidget *make_sidebar(desk_window *w)
{
    GtkWidget *header = adw_header_bar_new(), *scroller = gtk_scrolled_window_new(), *toggle = gtk_toggle_button_new();
    w->sidebar = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    gtk_widget_set_size_request(w->sidebar, 270, -1);
    gtk_widget_add_css_class(w->sidebar, "sidebar-pane");
    adw_header_bar_set_title_widget(ADW_HEADER_BAR(header), adw_window_title_new(_("Chats"), NULL));
    w->new_button = named_button("chat-message-new-symbolic", _("New Chat"), "app.new-chat");
    adw_header_bar_pack_start(ADW_HEADER_BAR(header), w->new_button);
    adw_header_bar_pack_end(ADW_HEADER_BAR(header),
                            menu_button("open-menu-symbolic", _("Main Menu"), primary_menu(), TRUE));
    gtk_button_set_icon_name(GTK_BUTTON(toggle), "system-search-symbolic");
    gtk_widget_set_tooltip_text(toggle, _("Search"));
    gtk_accessible_update_property(GTK_ACCESSIBLE(toggle), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Search"), -1);
    adw_header_bar_pack_end(ADW_HEADER_BAR(header), toggle);
    g_object_bind_property(w->leaflet, "folded", header, "show-end-title-buttons", G_BINDING_SYNC_CREATE);

    w->search_bar = gtk_search_bar_new();
    w->search = gtk_search_entry_new();
    gtk_widget_set_hexpand(w->search, TRUE);
    gtk_accessible_update_property(GTK_ACCESSIBLE(w->search), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Search Chats"), -1);
    gtk_search_bar_set_child(GTK_SEARCH_BAR(w->search_bar), w->search);
    gtk_search_bar_connect_entry(GTK_SEARCH_BAR(w->search_bar), GTK_EDITABLE(w->search));
    g_object_bind_property(toggle, "active", w->search_bar, "search-mode-enabled",
                           G_BINDING_SYNC_CREATE | G_BINDING_BIDIRECTIONAL);
    g_signal_connect(w->search, "changed", G_CALLBACK(on_search), w);

    w->list = gtk_list_box_new();
    gtk_widget_add_css_class(w->list, "navigation-sidebar");
    gtk_accessible_update_property(GTK_ACCESSIBLE(w->list), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Chats"), -1);
    gtk_list_box_bind_model(GTK_LIST_BOX(w->list), G_LIST_MODEL(w->shown), make_row, w, NULL);
    gtk_list_box_set_header_func(GTK_LIST_BOX(w->list), row_header, w, NULL);
    g_signal_connect(w->list, "row-activated", G_CALLBACK(on_row), w);
    gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(scroller), w->list);
    gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scroller), GTK_POLICY_NEVER, GTK_POLICY_AUTOMATIC);
    w->list_stack = g_object_new(GTK_TYPE_STACK, "vexpand", TRUE, NULL);
    gtk_stack_add_named(GTK_STACK(w->list_stack), scroller, "list");
    gtk_stack_add_named(GTK_STACK(w->list_stack), dim_text(_("Your chats will be listed here.")), "empty");
    gtk_stack_add_named(GTK_STACK(w->list_stack), dim_text(_("No chat has these words.")), "none");
    gtk_box_append(GTK_BOX(w->sidebar), header);
    gtk_box_append(GTK_BOX(w->sidebar), w->search_bar);
    gtk_box_append(GTK_BOX(w->sidebar), w->list_stack);
    return w->sidebar;
}

static void on_back(GtkButton *button, gpointer user)
{
    desk_window *w = user;
    (void)button;
    if (strcmp(gtk_stack_get_visible_child_name(GTK_STACK(w->stack)), "monitor") == 0)
        desk_window_show_chat(w, w->app->current);
    else
        adw_leaflet_navigate(ADW_LEAFLET(w->leaflet), ADW_NAVIGATION_DIRECTION_BACK);
}

static void show_back(desk_window *w)
{
    const gboolean monitors = strcmp(gtk_stack_get_visible_child_name(GTK_STACK(w->stack)), "monitor") == 0;
    gtk_widget_set_visible(w->back, monitors || adw_leaflet_get_folded(ADW_LEAFLET(w->leaflet)));
}

static GtkWidget *make_content(desk_window *w)
{
    GtkWidget *header = adw_header_bar_new();
    w->content = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    gtk_widget_set_hexpand(w->content, TRUE);
    w->back = named_button("go-previous-symbolic", _("Back"), NULL);
    g_signal_connect(w->back, "clicked", G_CALLBACK(on_back), w);
    adw_header_bar_pack_start(ADW_HEADER_BAR(header), w->back);
    w->light = gtk_image_new();
    gtk_widget_add_css_class(w->light, "light");
    w->models = desk_models_new(w->app);
    adw_header_bar_set_title_widget(ADW_HEADER_BAR(header), desk_models_widget(w->models));
    adw_header_bar_pack_end(ADW_HEADER_BAR(header),
                            menu_button("view-more-symbolic", _("Chat Menu"), chat_menu(), FALSE));
    adw_header_bar_pack_end(ADW_HEADER_BAR(header), w->light);
    w->banners = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    w->page = desk_page_new(w->app);
    w->stack =
        g_object_new(GTK_TYPE_STACK, "vexpand", TRUE, "transition-type", GTK_STACK_TRANSITION_TYPE_CROSSFADE, NULL);
    gtk_stack_add_named(GTK_STACK(w->stack), desk_page_widget(w->page), "chat");
    gtk_box_append(GTK_BOX(w->content), header);
    gtk_box_append(GTK_BOX(w->content), w->banners);
    gtk_box_append(GTK_BOX(w->content), w->stack);
    return w->content;
}

static gboolean on_close(GtkWindow *window, gpointer user)
{
    desk_window *w = user;
    desk_window_remember(w);
    if (!w->app->settings.background) return FALSE;
    gtk_widget_set_visible(GTK_WIDGET(window), FALSE); /* the program stays, and its window with it */
    return TRUE;
}

static void window_free(gpointer p)
{
    desk_window *w = p;
    g_clear_handle_id(&w->searcher, g_source_remove);
    g_clear_handle_id(&w->monitor_maker, g_source_remove);
    g_signal_handlers_disconnect_by_data(w->app->chats, w);
    w->app->window = NULL;
    g_object_unref(w->shown);
    g_free(w);
}

/* Soon after the start, so that its plots reach back when somebody looks. */
static gboolean make_monitor(gpointer user)
{
    desk_window *w = user;
    if (!gtk_stack_get_child_by_name(GTK_STACK(w->stack), "monitor"))
        gtk_stack_add_named(GTK_STACK(w->stack), desk_monitor_new(), "monitor");
    g_clear_handle_id(&w->monitor_maker, g_source_remove);
    return G_SOURCE_REMOVE;
}

desk_window *desk_window_new(desk_app *app)
{
    static const GActionEntry actions[] = {
        { .name = "rename", .activate = rename_chat },
        { .name = "delete", .activate = delete_chat },
        { .name = "export", .activate = export_chat },
        { .name = "attach", .activate = attach },
        { .name = "stop", .activate = stop },
        { .name = "again", .activate = again },
        { .name = "edit-last", .activate = edit_last },
        { .name = "search", .activate = start_search },
        { .name = "system", .activate = edit_system },
        { .name = "next", .activate = next },
        { .name = "previous", .activate = previous },
        { .name = "monitor", .activate = monitor },
        { .name = "sidebar", .activate = toggle_sidebar },
        { .name = "model", .activate = open_models },
    };
    desk_window *w = g_new0(desk_window, 1);
    w->app = app;
    w->shown = g_list_store_new(DESK_TYPE_CHAT);
    w->window = adw_application_window_new(GTK_APPLICATION(app->gtk));
    gtk_window_set_title(GTK_WINDOW(w->window), "WhisperEngine");
    gtk_window_set_icon_name(GTK_WINDOW(w->window), DESK_APP_ID);
    gtk_window_set_default_size(GTK_WINDOW(w->window), app->settings.width, app->settings.height);
    if (app->settings.maximized) gtk_window_maximize(GTK_WINDOW(w->window));
    gtk_widget_set_size_request(w->window, 340, 300);
    g_action_map_add_action_entries(G_ACTION_MAP(w->window), actions, G_N_ELEMENTS(actions), w);

    w->leaflet = g_object_new(ADW_TYPE_LEAFLET, "can-navigate-back", TRUE, NULL);
    w->toasts = adw_toast_overlay_new();
    adw_leaflet_append(ADW_LEAFLET(w->leaflet), make_sidebar(w));
    AdwLeafletPage *line = adw_leaflet_append(ADW_LEAFLET(w->leaflet), gtk_separator_new(GTK_ORIENTATION_VERTICAL));
    adw_leaflet_page_set_navigatable(line, FALSE);
    adw_leaflet_append(ADW_LEAFLET(w->leaflet), make_content(w));
    adw_leaflet_set_visible_child(ADW_LEAFLET(w->leaflet), w->content);
    g_object_bind_property(w->sidebar, "visible", adw_leaflet_page_get_child(line), "visible", G_BINDING_SYNC_CREATE);
    gtk_search_bar_set_key_capture_widget(GTK_SEARCH_BAR(w->search_bar), w->sidebar);
    adw_toast_overlay_set_child(ADW_TOAST_OVERLAY(w->toasts), w->leaflet);
    adw_application_window_set_content(ADW_APPLICATION_WINDOW(w->window), w->toasts);
    g_signal_connect_swapped(w->leaflet, "notify::folded", G_CALLBACK(show_back), w);
    g_signal_connect(app->chats, "items-changed", G_CALLBACK(on_chats_changed), w);
    g_signal_connect(w->window, "close-request", G_CALLBACK(on_close), w);
    g_object_set_data_full(G_OBJECT(w->window), "desk-window", w, window_free);
    w->monitor_maker = g_timeout_add_seconds(1, make_monitor, w);
    show_all(w);
    show_back(w);
    return w;
}

/* ---- Doors ---- */

GtkWindow *desk_window_gtk(desk_window *w) { return GTK_WINDOW(w->window); }
desk_page *desk_window_page(desk_window *w) { return w->page; }

void desk_window_remember(desk_window *w)
{
    desk_settings *s = &w->app->settings;
    s->maximized = gtk_window_is_maximized(GTK_WINDOW(w->window));
    if (!s->maximized) gtk_window_get_default_size(GTK_WINDOW(w->window), &s->width, &s->height);
    desk_page_keep_draft(w->page);
    desk_app_save_settings(w->app);
}

void desk_window_enable_stop(desk_window *w, gboolean enabled)
{
    g_simple_action_set_enabled(G_SIMPLE_ACTION(g_action_map_lookup_action(G_ACTION_MAP(w->window), "stop")), enabled);
}

/* Toasts read markup; what others wrote is text. */
static AdwToast *toast(const char *text)
{
    char *escaped = g_markup_escape_text(text, -1);
    AdwToast *t = adw_toast_new(escaped);
    g_free(escaped);
    return t;
}

void desk_window_toast(desk_window *w, const char *text)
{
    AdwToast *t = toast(text);
    adw_toast_set_timeout(t, 3);
    adw_toast_overlay_add_toast(ADW_TOAST_OVERLAY(w->toasts), t);
}

typedef struct toast_action {
    void (*fn)(gpointer user);
    gpointer user;
    GDestroyNotify user_free;
} toast_action;

static void on_toast_button(AdwToast *t, gpointer p)
{
    const toast_action *a = p;
    (void)t;
    a->fn(a->user);
}

static void toast_action_free(gpointer p, GClosure *closure)
{
    toast_action *a = p;
    (void)closure;
    a->user_free(a->user);
    g_free(a);
}

void desk_window_toast_action(desk_window *w, const char *text, const char *button, void (*fn)(gpointer user),
                              gpointer user, GDestroyNotify user_free)
{
    AdwToast *t = toast(text);
    toast_action *a = g_new(toast_action, 1);
    *a = (toast_action){ fn, user, user_free };
    adw_toast_set_button_label(t, button);
    adw_toast_set_timeout(t, 8);
    g_signal_connect_data(t, "button-clicked", G_CALLBACK(on_toast_button), a, toast_action_free, 0);
    adw_toast_overlay_add_toast(ADW_TOAST_OVERLAY(w->toasts), t);
}

static void on_banner(GtkInfoBar *bar, int response, gpointer user)
{
    desk_window *w = user;
    (void)response;
    gtk_box_remove(GTK_BOX(w->banners), GTK_WIDGET(bar));
}

void desk_window_banner(desk_window *w, GtkMessageType type, const char *text)
{
    GtkWidget *bar = gtk_info_bar_new(), *label = gtk_label_new(text);
    gtk_info_bar_set_message_type(GTK_INFO_BAR(bar), type);
    gtk_info_bar_set_show_close_button(GTK_INFO_BAR(bar), TRUE);
    g_object_set(label, "wrap", TRUE, "xalign", 0.0F, "hexpand", TRUE, NULL);
    gtk_info_bar_add_child(GTK_INFO_BAR(bar), label);
    g_signal_connect(bar, "response", G_CALLBACK(on_banner), w);
    gtk_box_append(GTK_BOX(w->banners), bar);
}

void desk_window_show_chat(desk_window *w, DeskChat *chat)
{
    gtk_stack_set_visible_child_name(GTK_STACK(w->stack), "chat");
    if (!chat) return;
    desk_page_show(w->page, chat);
    gtk_window_set_title(GTK_WINDOW(w->window), *chat->head->title ? chat->head->title : "WhisperEngine");
    adw_leaflet_set_visible_child(ADW_LEAFLET(w->leaflet), w->content);
    select_current(w);
    show_back(w);
    desk_page_focus(w->page);
}

void desk_window_show_monitor(desk_window *w)
{
    make_monitor(w);
    gtk_stack_set_visible_child_name(GTK_STACK(w->stack), "monitor");
    adw_leaflet_set_visible_child(ADW_LEAFLET(w->leaflet), w->content);
    show_back(w);
}

void desk_window_status(desk_window *w)
{
    static const char *const icons[] = { "we-light-green-symbolic", "we-light-yellow-symbolic",
                                         "we-light-red-symbolic" };
    static const char *const classes[] = { "green", "yellow", "red" };
    const desk_light light = desk_app_light(w->app);
    char *text = desk_app_light_text(w->app);
    gtk_image_set_from_icon_name(GTK_IMAGE(w->light), icons[light]);
    for (int i = 0; i < 3; i++) {
        if (i == (int)light)
            gtk_widget_add_css_class(w->light, classes[i]);
        else
            gtk_widget_remove_css_class(w->light, classes[i]);
    }
    gtk_widget_set_tooltip_text(w->light, text);
    gtk_accessible_update_property(GTK_ACCESSIBLE(w->light), GTK_ACCESSIBLE_PROPERTY_LABEL, text, -1);
    gtk_widget_set_visible(w->light, !w->app->tray_is_shown);
    g_free(text);
    desk_models_update(w->models);
    desk_page_update_buttons(w->page);
}
