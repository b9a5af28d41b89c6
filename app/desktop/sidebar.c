/* SPDX-License-Identifier: Apache-2.0
 * sidebar.c - the list of conversations and its search. */
#include "app.h"

#define SEARCH_MS 150

struct desk_sidebar {
    desk_app *app;
    GtkWidget *root, *search_bar, *search, *list, *stack;
    GListStore *shown; /* all conversations, or what was found */
    gboolean shows_all;
    guint searcher;
    guint search_number; /* answers to older searches are dropped */
    gboolean selecting;  /* the sidebar itself changes the selection */
};

/* ---- The list ---- */

static gboolean is_searching(const desk_sidebar *s) { return *gtk_editable_get_text(GTK_EDITABLE(s->search)) != 0; }

static DeskChat *chat_at(const desk_sidebar *s, int index)
{
    DeskChat *chat = index < 0 ? NULL : g_list_model_get_item(G_LIST_MODEL(s->shown), (guint)index);
    if (chat) g_object_unref(chat); /* the list keeps it */
    return chat;
}

void desk_sidebar_select(desk_sidebar *s)
{
    guint at;
    s->selecting = TRUE;
    if (s->app->current && g_list_store_find(s->shown, s->app->current, &at))
        gtk_list_box_select_row(GTK_LIST_BOX(s->list), gtk_list_box_get_row_at_index(GTK_LIST_BOX(s->list), (int)at));
    else
        gtk_list_box_unselect_all(GTK_LIST_BOX(s->list));
    s->selecting = FALSE;
    const gboolean empty = g_list_model_get_n_items(G_LIST_MODEL(s->shown)) == 0;
    gtk_stack_set_visible_child_name(GTK_STACK(s->stack), !empty ? "list" : is_searching(s) ? "none" : "empty");
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
    const desk_sidebar *s = user;
    const DeskChat *chat = chat_at(s, gtk_list_box_row_get_index(row));
    const DeskChat *above = before ? chat_at(s, gtk_list_box_row_get_index(before)) : NULL;
    if (!chat) return;
    const char *period = period_of(chat);
    desk_row_heading(row, above ? period_of(above) : NULL, period);
}

static void on_row_menu(GtkGesture *gesture, int n, double x, double y, gpointer user)
{
    desk_sidebar *s = user;
    GtkWidget *row = gtk_event_controller_get_widget(GTK_EVENT_CONTROLLER(gesture));
    DeskChat *chat = g_object_get_data(G_OBJECT(row), "chat");
    (void)n;
    if (chat != s->app->current) desk_app_open(s->app, chat);
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

static void name_row(DeskChat *chat, GParamSpec *spec, gpointer row)
{
    (void)spec;
    gtk_accessible_update_property(GTK_ACCESSIBLE(row), GTK_ACCESSIBLE_PROPERTY_LABEL, chat->head->title, -1);
}

static GtkWidget *make_row(gpointer item, gpointer user)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6), *spinner = gtk_spinner_new();
    GtkWidget *label =
        g_object_new(GTK_TYPE_LABEL, "xalign", 0.0F, "ellipsize", PANGO_ELLIPSIZE_END, "hexpand", TRUE, NULL);
    GtkWidget *row = gtk_list_box_row_new();
    g_signal_connect_object(item, "notify::title", G_CALLBACK(name_row), row, 0);
    name_row(item, NULL, row);
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
    desk_sidebar *s = user;
    DeskChat *chat = chat_at(s, gtk_list_box_row_get_index(row));
    (void)list;
    if (s->selecting || !chat) return;
    desk_app_open(s->app, chat);
}

/* ---- Search ---- */

/* Bring conversations [at, at + added) of all into the list, in place of `removed` that are there. */
static void show_some(desk_sidebar *s, guint at, guint removed, guint added)
{
    gpointer *items = g_new(gpointer, added + 1);
    for (guint i = 0; i < added; i++) items[i] = g_list_model_get_item(G_LIST_MODEL(s->app->chats), at + i);
    g_list_store_splice(s->shown, at, removed, items, added);
    for (guint i = 0; i < added; i++) g_object_unref(items[i]);
    g_free(items);
    desk_sidebar_select(s);
}

static void show_all(desk_sidebar *s)
{
    show_some(s, 0, g_list_model_get_n_items(G_LIST_MODEL(s->shown)),
              g_list_model_get_n_items(G_LIST_MODEL(s->app->chats)));
    s->shows_all = TRUE;
}

typedef struct search {
    desk_app *app;
    guint number;
} search;

static void on_found(gpointer user, GPtrArray *rows)
{
    search *question = user;
    desk_app *app = question->app;
    desk_sidebar *s = app->window ? desk_window_sidebar(app->window) : NULL;
    if (s && s->search_number == question->number) {
        s->shows_all = FALSE;
        g_list_store_remove_all(s->shown);
        const guint n = g_list_model_get_n_items(G_LIST_MODEL(app->chats));
        for (guint i = 0; i < n; i++) {
            DeskChat *chat = g_list_model_get_item(G_LIST_MODEL(app->chats), i);
            for (guint k = 0; k < rows->len; k++)
                if (((desk_conversation *)rows->pdata[k])->id == chat->head->id) g_list_store_append(s->shown, chat);
            g_object_unref(chat);
        }
        desk_sidebar_select(s);
    }
    g_free(question);
}

static gboolean search_now(gpointer user)
{
    desk_sidebar *s = user;
    s->searcher = 0;
    s->search_number++;
    if (!is_searching(s)) {
        show_all(s);
        return G_SOURCE_REMOVE;
    }
    search *question = g_new(search, 1);
    *question = (search){ s->app, s->search_number };
    desk_keeper_list(s->app->keeper, gtk_editable_get_text(GTK_EDITABLE(s->search)), on_found, question);
    return G_SOURCE_REMOVE;
}

static void on_search(GtkEditable *entry, gpointer user)
{
    desk_sidebar *s = user;
    (void)entry;
    g_clear_handle_id(&s->searcher, g_source_remove);
    s->searcher = g_timeout_add(SEARCH_MS, search_now, s);
}

static void on_chats_changed(GListModel *model, guint at, guint removed, guint added, gpointer user)
{
    desk_sidebar *s = user;
    (void)model;
    if (is_searching(s))
        on_search(NULL, s);
    else if (s->shows_all) /* rows are dear: only those that changed */
        show_some(s, at, removed, added);
    else
        show_all(s);
}

/* ---- Making it ---- */

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

static GtkWidget *dim_text(const char *text)
{
    GtkWidget *label = g_object_new(GTK_TYPE_LABEL, "label", text, "wrap", TRUE, "justify", GTK_JUSTIFY_CENTER,
                                    "margin-start", 24, "margin-end", 24, "max-width-chars", 20, NULL);
    gtk_widget_add_css_class(label, "dim-label");
    return label;
}

static void sidebar_free(gpointer p)
{
    desk_sidebar *s = p;
    g_clear_handle_id(&s->searcher, g_source_remove);
    g_signal_handlers_disconnect_by_data(s->app->chats, s);
    g_object_unref(s->shown);
    g_free(s);
}

static GtkWidget *make_header(desk_sidebar *s, AdwLeaflet *leaflet)
{
    GtkWidget *header = adw_header_bar_new(), *toggle = gtk_toggle_button_new();
    GtkWidget *new_button = desk_icon_button("chat-message-new-symbolic", _("New Chat"));
    gtk_actionable_set_action_name(GTK_ACTIONABLE(new_button), "app.new-chat");
    adw_header_bar_set_title_widget(ADW_HEADER_BAR(header), adw_window_title_new(_("Chats"), NULL));
    adw_header_bar_pack_start(ADW_HEADER_BAR(header), new_button);
    adw_header_bar_pack_end(ADW_HEADER_BAR(header),
                            desk_menu_button("open-menu-symbolic", _("Main Menu"), primary_menu(), TRUE));
    desk_name_button(toggle, "system-search-symbolic", _("Search"));
    adw_header_bar_pack_end(ADW_HEADER_BAR(header), toggle);
    g_object_bind_property(toggle, "active", s->search_bar, "search-mode-enabled",
                           G_BINDING_SYNC_CREATE | G_BINDING_BIDIRECTIONAL);
    g_object_bind_property(leaflet, "folded", header, "show-end-title-buttons", G_BINDING_SYNC_CREATE);
    return header;
}

desk_sidebar *desk_sidebar_new(desk_app *app, AdwLeaflet *leaflet)
{
    desk_sidebar *s = g_new0(desk_sidebar, 1);
    GtkWidget *scroller = gtk_scrolled_window_new();
    s->app = app;
    s->shown = g_list_store_new(DESK_TYPE_CHAT);
    s->root = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    gtk_widget_set_size_request(s->root, 270, -1);
    gtk_widget_add_css_class(s->root, "sidebar-pane");

    s->search_bar = gtk_search_bar_new();
    s->search = gtk_search_entry_new();
    gtk_widget_set_hexpand(s->search, TRUE);
    gtk_accessible_update_property(GTK_ACCESSIBLE(s->search), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Search Chats"), -1);
    gtk_search_bar_set_child(GTK_SEARCH_BAR(s->search_bar), s->search);
    gtk_search_bar_connect_entry(GTK_SEARCH_BAR(s->search_bar), GTK_EDITABLE(s->search));
    gtk_search_bar_set_key_capture_widget(GTK_SEARCH_BAR(s->search_bar), s->root);
    g_signal_connect(s->search, "changed", G_CALLBACK(on_search), s);

    s->list = gtk_list_box_new();
    gtk_widget_add_css_class(s->list, "navigation-sidebar");
    gtk_accessible_update_property(GTK_ACCESSIBLE(s->list), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Chats"), -1);
    gtk_list_box_bind_model(GTK_LIST_BOX(s->list), G_LIST_MODEL(s->shown), make_row, s, NULL);
    gtk_list_box_set_header_func(GTK_LIST_BOX(s->list), row_header, s, NULL);
    g_signal_connect(s->list, "row-activated", G_CALLBACK(on_row), s);
    gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(scroller), s->list);
    gtk_widget_set_focusable(scroller, FALSE);
    gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scroller), GTK_POLICY_NEVER, GTK_POLICY_AUTOMATIC);
    s->stack = g_object_new(GTK_TYPE_STACK, "vexpand", TRUE, NULL);
    gtk_stack_add_named(GTK_STACK(s->stack), scroller, "list");
    gtk_stack_add_named(GTK_STACK(s->stack), dim_text(_("Your chats will be listed here.")), "empty");
    gtk_stack_add_named(GTK_STACK(s->stack), dim_text(_("No chat has these words.")), "none");
    gtk_box_append(GTK_BOX(s->root), make_header(s, leaflet));
    gtk_box_append(GTK_BOX(s->root), s->search_bar);
    gtk_box_append(GTK_BOX(s->root), s->stack);
    g_signal_connect(app->chats, "items-changed", G_CALLBACK(on_chats_changed), s);
    g_object_set_data_full(G_OBJECT(s->root), "sidebar", s, sidebar_free);
    show_all(s);
    return s;
}

/* ---- Doors ---- */

GtkWidget *desk_sidebar_widget(desk_sidebar *s) { return s->root; }

void desk_sidebar_search(desk_sidebar *s)
{
    gtk_search_bar_set_search_mode(GTK_SEARCH_BAR(s->search_bar), TRUE);
    gtk_widget_grab_focus(s->search);
}

void desk_sidebar_step(desk_sidebar *s, int by)
{
    guint at = 0;
    const gboolean known = s->app->current && g_list_store_find(s->shown, s->app->current, &at);
    DeskChat *chat = chat_at(s, known ? (int)at + by : 0);
    if (chat) desk_app_open(s->app, chat);
}
