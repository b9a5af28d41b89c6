/* SPDX-License-Identifier: Apache-2.0
 * window.c - the window: the sidebar, a conversation or the monitor beside it, and the actions that menus and keys reach. Narrow
 * windows show one of both at a time. */
#include "app.h"

struct desk_window {
    desk_app *app;
    GtkWidget *window, *leaflet, *content, *toasts, *banners, *stack, *back, *light;
    desk_sidebar *sidebar;
    desk_page *page;
    desk_models *models;
    guint monitor_maker;
    gboolean told; /* that it goes on without a window */
};

/* ---- Actions ---- */

static void rename_chat(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_app *app = ((desk_window *)user)->app;
    (void)action, (void)value;
    if (app->current && app->current->kept) desk_dialog_rename(app, app->current);
}

static void edit_system(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_app *app = ((desk_window *)user)->app;
    (void)action, (void)value;
    if (app->current) desk_dialog_system(app, app->current);
}

static void export_chat(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_app *app = ((desk_window *)user)->app;
    (void)action, (void)value;
    if (app->current && app->current->kept && app->current->messages) desk_dialog_export(app, app->current);
}

static void delete_chat(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_window *w = user;
    (void)action, (void)value;
    if (w->app->current && w->app->current->kept) desk_app_delete(w->app, w->app->current);
}

static void attach(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    desk_composer_attach(desk_page_composer(((desk_window *)user)->page));
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
    desk_composer_edit_last(desk_page_composer(((desk_window *)user)->page));
}

static void start_search(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_window *w = user;
    (void)action, (void)value;
    adw_leaflet_set_visible_child(ADW_LEAFLET(w->leaflet), desk_sidebar_widget(w->sidebar));
    desk_sidebar_search(w->sidebar);
}

static void next(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    desk_sidebar_step(((desk_window *)user)->sidebar, 1);
}

static void previous(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    desk_sidebar_step(((desk_window *)user)->sidebar, -1);
}

static void monitor(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    desk_window_show_monitor(user);
}

static void toggle_sidebar(GSimpleAction *action, GVariant *value, gpointer user)
{
    GtkWidget *sidebar = desk_sidebar_widget(((desk_window *)user)->sidebar);
    (void)action, (void)value;
    gtk_widget_set_visible(sidebar, !gtk_widget_get_visible(sidebar));
}

static void open_models(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    gtk_menu_button_popup(GTK_MENU_BUTTON(desk_models_widget(((desk_window *)user)->models)));
}

/* ---- Making it ---- */

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
    w->back = desk_icon_button("go-previous-symbolic", _("Back"));
    g_signal_connect(w->back, "clicked", G_CALLBACK(on_back), w);
    adw_header_bar_pack_start(ADW_HEADER_BAR(header), w->back);
    w->light = gtk_image_new();
    gtk_widget_add_css_class(w->light, "light");
    w->models = desk_models_new(w->app);
    adw_header_bar_set_title_widget(ADW_HEADER_BAR(header), desk_models_widget(w->models));
    adw_header_bar_pack_end(ADW_HEADER_BAR(header),
                            desk_menu_button("view-more-symbolic", _("Chat Menu"), chat_menu(), FALSE));
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

/* Nothing on the screen shows it any more: said once. */
static void tell_background(desk_window *w)
{
    GNotification *n = g_notification_new(_("WhisperEngine Keeps Running"));
    g_notification_set_body(n, _("Start it again to see its window; Ctrl+Q there ends it."));
    g_application_send_notification(G_APPLICATION(w->app->gtk), "background", n);
    g_object_unref(n);
    w->told = TRUE;
}

static gboolean on_close(GtkWindow *window, gpointer user)
{
    desk_window *w = user;
    desk_window_remember(w);
    if (!w->app->settings.background && w->app->unkept) {
        desk_dialog_unkept(w->app);
        return TRUE;
    }
    if (!w->app->settings.background) return FALSE;
    gtk_widget_set_visible(GTK_WIDGET(window), FALSE); /* the program stays, and its window with it */
    if (!w->app->tray_is_shown && !w->told) tell_background(w);
    return TRUE;
}

static void window_free(gpointer p)
{
    desk_window *w = p;
    g_clear_handle_id(&w->monitor_maker, g_source_remove);
    w->app->window = NULL;
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
    w->window = adw_application_window_new(GTK_APPLICATION(app->gtk));
    gtk_window_set_title(GTK_WINDOW(w->window), "WhisperEngine");
    gtk_window_set_icon_name(GTK_WINDOW(w->window), DESK_APP_ID);
    gtk_window_set_default_size(GTK_WINDOW(w->window), app->settings.width, app->settings.height);
    if (app->settings.maximized) gtk_window_maximize(GTK_WINDOW(w->window));
    gtk_widget_set_size_request(w->window, 340, 300);
    g_action_map_add_action_entries(G_ACTION_MAP(w->window), actions, G_N_ELEMENTS(actions), w);

    w->leaflet = g_object_new(ADW_TYPE_LEAFLET, "can-navigate-back", TRUE, NULL);
    w->toasts = adw_toast_overlay_new();
    w->sidebar = desk_sidebar_new(app, ADW_LEAFLET(w->leaflet));
    GtkWidget *sidebar = desk_sidebar_widget(w->sidebar);
    adw_leaflet_append(ADW_LEAFLET(w->leaflet), sidebar);
    AdwLeafletPage *line = adw_leaflet_append(ADW_LEAFLET(w->leaflet), gtk_separator_new(GTK_ORIENTATION_VERTICAL));
    adw_leaflet_page_set_navigatable(line, FALSE);
    adw_leaflet_append(ADW_LEAFLET(w->leaflet), make_content(w));
    adw_leaflet_set_visible_child(ADW_LEAFLET(w->leaflet), w->content);
    g_object_bind_property(sidebar, "visible", adw_leaflet_page_get_child(line), "visible", G_BINDING_SYNC_CREATE);
    adw_toast_overlay_set_child(ADW_TOAST_OVERLAY(w->toasts), w->leaflet);
    adw_application_window_set_content(ADW_APPLICATION_WINDOW(w->window), w->toasts);
    g_signal_connect_swapped(w->leaflet, "notify::folded", G_CALLBACK(show_back), w);
    g_signal_connect(w->window, "close-request", G_CALLBACK(on_close), w);
    g_object_set_data_full(G_OBJECT(w->window), "desk-window", w, window_free);
    w->monitor_maker = g_timeout_add_seconds(1, make_monitor, w);
    show_back(w);
    return w;
}

/* ---- Doors ---- */

GtkWindow *desk_window_gtk(desk_window *w) { return GTK_WINDOW(w->window); }
desk_page *desk_window_page(desk_window *w) { return w->page; }
desk_sidebar *desk_window_sidebar(desk_window *w) { return w->sidebar; }

void desk_window_remember(desk_window *w)
{
    desk_settings *s = &w->app->settings;
    s->maximized = gtk_window_is_maximized(GTK_WINDOW(w->window));
    if (!s->maximized) gtk_window_get_default_size(GTK_WINDOW(w->window), &s->width, &s->height);
    desk_composer_keep_draft(desk_page_composer(w->page));
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

static GtkWidget *banner_of(const desk_window *w, const char *topic)
{
    GtkWidget *bar = gtk_widget_get_first_child(w->banners);
    while (bar && strcmp(g_object_get_data(G_OBJECT(bar), "topic"), topic) != 0) bar = gtk_widget_get_next_sibling(bar);
    return bar;
}

static void on_banner(GtkInfoBar *bar, int response, gpointer user)
{
    (void)user;
    if (response == GTK_RESPONSE_CLOSE) gtk_info_bar_set_revealed(bar, FALSE);
}

/* One that was closed is kept, hidden: the same words do not come again. */
void desk_window_banner(desk_window *w, const char *topic, GtkMessageType type, const char *text, const char *button,
                        const char *action)
{
    GtkWidget *before = banner_of(w, topic);
    if (before && g_strcmp0(text, g_object_get_data(G_OBJECT(before), "text")) == 0) return;
    if (before) gtk_box_remove(GTK_BOX(w->banners), before);
    if (!text) return;
    GtkWidget *bar = gtk_info_bar_new(), *label = gtk_label_new(text);
    gtk_info_bar_set_message_type(GTK_INFO_BAR(bar), type);
    gtk_info_bar_set_show_close_button(GTK_INFO_BAR(bar), TRUE);
    g_object_set(label, "wrap", TRUE, "wrap-mode", PANGO_WRAP_WORD_CHAR, "xalign", 0.0F, "hexpand", TRUE, NULL);
    gtk_info_bar_add_child(GTK_INFO_BAR(bar), label);
    if (button) {
        GtkWidget *widget = gtk_button_new_with_label(button);
        gtk_actionable_set_action_name(GTK_ACTIONABLE(widget), action);
        gtk_info_bar_add_action_widget(GTK_INFO_BAR(bar), widget, 0);
    }
    g_object_set_data_full(G_OBJECT(bar), "topic", g_strdup(topic), g_free);
    g_object_set_data_full(G_OBJECT(bar), "text", g_strdup(text), g_free);
    g_signal_connect(bar, "response", G_CALLBACK(on_banner), w);
    gtk_box_append(GTK_BOX(w->banners), bar);
}

/* Why the model of this conversation is not there, and who else could answer. */
static void show_model_problem(desk_window *w)
{
    const desk_engine_status *s = &w->app->status;
    const gboolean ours = w->app->current && strcmp(s->url, w->app->current->head->model) == 0;
    const gboolean failed = ours && s->state == DESK_ENGINE_FAILED && *s->problem;
    char *text = failed ? g_strdup_printf(_("The model could not be loaded: %s"), s->problem) : NULL;
    desk_window_banner(w, "model", GTK_MESSAGE_WARNING, text, _("Choose Another…"), "win.model");
    g_free(text);
}

void desk_window_show_chat(desk_window *w, DeskChat *chat)
{
    gtk_stack_set_visible_child_name(GTK_STACK(w->stack), "chat");
    if (!chat) return;
    desk_page_show(w->page, chat);
    gtk_window_set_title(GTK_WINDOW(w->window), *chat->head->title ? chat->head->title : "WhisperEngine");
    adw_leaflet_set_visible_child(ADW_LEAFLET(w->leaflet), w->content);
    desk_sidebar_select(w->sidebar);
    show_back(w);
    desk_composer_focus(desk_page_composer(w->page));
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
    show_model_problem(w);
    desk_composer_update_buttons(desk_page_composer(w->page));
}