/* SPDX-License-Identifier: Apache-2.0
 * tray.c - the item in the tray, over D-Bus: org.kde.StatusNotifierItem with a menu as com.canonical.dbusmenu. Where there is no
 * tray the window's header shows the same light (app->tray_is_shown).
 *
 * Icons are drawn here in ARGB, so that no theme needs to have them: a green disc with a check, a yellow ring that is half full, a
 * red octagon with a cross. Source: freedesktop.org's StatusNotifierItem page; dbusmenu's dbus-menu.xml, version 3. */
#include "app.h"
#include <math.h>
#include <unistd.h>

#define ITEM_PATH "/StatusNotifierItem"
#define MENU_PATH "/MenuBar"
#define WATCHER "org.kde.StatusNotifierWatcher"

static const char item_xml[] =
    "<node><interface name='org.kde.StatusNotifierItem'>"
    "<property name='Category' type='s' access='read'/><property name='Id' type='s' access='read'/>"
    "<property name='Title' type='s' access='read'/><property name='Status' type='s' access='read'/>"
    "<property name='IconName' type='s' access='read'/><property name='IconPixmap' type='a(iiay)' access='read'/>"
    "<property name='IconAccessibleDesc' type='s' access='read'/>"
    "<property name='ToolTip' type='(sa(iiay)ss)' access='read'/><property name='Menu' type='o' access='read'/>"
    "<property name='ItemIsMenu' type='b' access='read'/>"
    "<method name='Activate'><arg type='i' direction='in'/><arg type='i' direction='in'/></method>"
    "<method name='SecondaryActivate'><arg type='i' direction='in'/><arg type='i' direction='in'/></method>"
    "<method name='ContextMenu'><arg type='i' direction='in'/><arg type='i' direction='in'/></method>"
    "<method name='Scroll'><arg type='i' direction='in'/><arg type='s' direction='in'/></method>"
    "<signal name='NewIcon'/><signal name='NewToolTip'/><signal name='NewTitle'/>"
    "<signal name='NewStatus'><arg type='s'/></signal></interface></node>";

static const char menu_xml[] =
    "<node><interface name='com.canonical.dbusmenu'>"
    "<property name='Version' type='u' access='read'/><property name='Status' type='s' access='read'/>"
    "<property name='TextDirection' type='s' access='read'/><property name='IconThemePath' type='as' access='read'/>"
    "<method name='GetLayout'><arg type='i' direction='in'/><arg type='i' direction='in'/><arg type='as' direction='in'/>"
    "<arg type='u' direction='out'/><arg type='(ia{sv}av)' direction='out'/></method>"
    "<method name='GetGroupProperties'><arg type='ai' direction='in'/><arg type='as' direction='in'/>"
    "<arg type='a(ia{sv})' direction='out'/></method>"
    "<method name='GetProperty'><arg type='i' direction='in'/><arg type='s' direction='in'/>"
    "<arg type='v' direction='out'/></method>"
    "<method name='Event'><arg type='i' direction='in'/><arg type='s' direction='in'/><arg type='v' direction='in'/>"
    "<arg type='u' direction='in'/></method>"
    "<method name='EventGroup'><arg type='a(isvu)' direction='in'/><arg type='ai' direction='out'/></method>"
    "<method name='AboutToShow'><arg type='i' direction='in'/><arg type='b' direction='out'/></method>"
    "<method name='AboutToShowGroup'><arg type='ai' direction='in'/><arg type='ai' direction='out'/>"
    "<arg type='ai' direction='out'/></method>"
    "<signal name='ItemsPropertiesUpdated'><arg type='a(ia{sv})'/><arg type='a(ias)'/></signal>"
    "<signal name='LayoutUpdated'><arg type='u'/><arg type='i'/></signal></interface></node>";

enum { MENU_ROOT, MENU_OPEN, MENU_STATE, MENU_SPEED, MENU_LINE, MENU_LOAD, MENU_PAUSE, MENU_LINE2, MENU_QUIT, N_MENU };

struct desk_tray {
    desk_app *app;
    GDBusConnection *bus;
    GDBusNodeInfo *item, *menu;
    guint item_id, menu_id, name_id, watch_id;
    char *name;
    guint32 revision;
    desk_light light;
    char *text, *layout; /* what was shown last, to tell changes only */
};

/* ---- Icons ---- */

/* Premultiplied by cairo, ARGB in network order for the bus. */
static GVariant *pixmap(desk_light light, int size)
{
    static const double colors[][3] = { { 0.15, 0.64, 0.41 }, { 0.90, 0.65, 0.04 }, { 0.75, 0.11, 0.16 } };
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_ARGB32, size, size);
    cairo_t *cr = cairo_create(surface);
    cairo_scale(cr, size / 16.0, size / 16.0);
    cairo_set_source_rgb(cr, colors[light][0], colors[light][1], colors[light][2]);
    if (light == DESK_LIGHT_RED) {
        static const double corners[8][2] = { { 5, 1 },   { 11, 1 }, { 15, 5 }, { 15, 11 },
                                              { 11, 15 }, { 5, 15 }, { 1, 11 }, { 1, 5 } };
        for (int i = 0; i < 8; i++) cairo_line_to(cr, corners[i][0], corners[i][1]);
        cairo_fill(cr);
    } else if (light == DESK_LIGHT_GREEN) {
        cairo_arc(cr, 8, 8, 7, 0, 2 * G_PI);
        cairo_fill(cr);
    } else {
        cairo_arc(cr, 8, 8, 6, 0, 2 * G_PI);
        cairo_set_line_width(cr, 2);
        cairo_stroke(cr);
        cairo_arc(cr, 8, 8, 6, -G_PI / 2, G_PI / 2);
        cairo_fill(cr);
    }
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_set_line_width(cr, 2);
    if (light == DESK_LIGHT_GREEN) {
        cairo_move_to(cr, 4.2, 8);
        cairo_line_to(cr, 7, 10.8);
        cairo_line_to(cr, 12, 5.8);
    } else if (light == DESK_LIGHT_RED) {
        cairo_move_to(cr, 5, 5);
        cairo_line_to(cr, 11, 11);
        cairo_move_to(cr, 11, 5);
        cairo_line_to(cr, 5, 11);
    }
    cairo_stroke(cr);
    cairo_destroy(cr);
    cairo_surface_flush(surface);
    const int stride = cairo_image_surface_get_stride(surface);
    const unsigned char *data = cairo_image_surface_get_data(surface);
    guchar *bytes = g_malloc((gsize)size * (gsize)size * 4);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            guint32 argb;
            memcpy(&argb, data + y * stride + 4 * x, 4);
            argb = GUINT32_TO_BE(argb);
            memcpy(bytes + 4 * (y * size + x), &argb, 4);
        }
    cairo_surface_destroy(surface);
    GVariant *array =
        g_variant_new_from_data(G_VARIANT_TYPE("ay"), bytes, (gsize)size * (gsize)size * 4, TRUE, g_free, bytes);
    return g_variant_new("(ii@ay)", size, size, array);
}

static GVariant *pixmaps(desk_light light)
{
    GVariant *sizes[] = { pixmap(light, 22), pixmap(light, 44) };
    return g_variant_new_array(G_VARIANT_TYPE("(iiay)"), sizes, G_N_ELEMENTS(sizes));
}

/* ---- The menu ---- */

static gboolean is_loaded(const desk_app *app)
{
    return app->status.state == DESK_ENGINE_READY || app->status.state == DESK_ENGINE_LOADING;
}

/* A menu entry's properties. */
static GVariant *entry(const desk_app *app, int id)
{
    GVariantBuilder b;
    char *label = NULL;
    gboolean enabled = TRUE;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sv}"));
    switch (id) {
    case MENU_ROOT: g_variant_builder_add(&b, "{sv}", "children-display", g_variant_new_string("submenu")); break;
    case MENU_OPEN: label = g_strdup(_("_Open WhisperEngine")); break;
    case MENU_STATE:
        label = desk_app_light_text(app);
        enabled = FALSE;
        break;
    case MENU_SPEED:
        label = app->tokens_per_second > 0 ? g_strdup_printf(_("%.1f tokens/s"), app->tokens_per_second)
                                           : g_strdup(_("No answer yet"));
        enabled = FALSE;
        break;
    case MENU_LOAD: label = g_strdup(is_loaded(app) ? _("_Unload Model") : _("_Load Model")); break;
    case MENU_PAUSE:
        label = g_strdup(_("_Pause"));
        g_variant_builder_add(&b, "{sv}", "toggle-type", g_variant_new_string("checkmark"));
        g_variant_builder_add(&b, "{sv}", "toggle-state", g_variant_new_int32(app->paused));
        break;
    case MENU_QUIT: label = g_strdup(_("_Quit")); break;
    default: g_variant_builder_add(&b, "{sv}", "type", g_variant_new_string("separator")); break;
    }
    if (label) {
        g_variant_builder_add(&b, "{sv}", "label", g_variant_new_take_string(label));
        g_variant_builder_add(&b, "{sv}", "enabled", g_variant_new_boolean(enabled));
    }
    return g_variant_builder_end(&b);
}

static GVariant *layout_of(const desk_app *app, int id, int depth)
{
    GVariantBuilder children;
    g_variant_builder_init(&children, G_VARIANT_TYPE("av"));
    for (int i = 1; id == MENU_ROOT && depth != 0 && i < N_MENU; i++)
        g_variant_builder_add(&children, "v", layout_of(app, i, 0));
    return g_variant_new("(i@a{sv}av)", id, entry(app, id), &children);
}

static void on_clicked(desk_app *app, int id)
{
    switch (id) {
    case MENU_OPEN: g_application_activate(G_APPLICATION(app->gtk)); break;
    case MENU_LOAD:
        g_action_group_activate_action(G_ACTION_GROUP(app->gtk), is_loaded(app) ? "unload-model" : "load-model", NULL);
        break;
    case MENU_PAUSE: desk_app_set_paused(app, !app->paused); break;
    case MENU_QUIT: g_action_group_activate_action(G_ACTION_GROUP(app->gtk), "quit", NULL); break;
    default: break;
    }
}

static GVariant *group_properties(const desk_app *app, GVariant *parameters)
{
    GVariantBuilder b;
    GVariantIter *ids;
    gint32 id;
    gboolean any = FALSE;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(ia{sv})"));
    g_variant_get(parameters, "(aias)", &ids, NULL);
    while (g_variant_iter_next(ids, "i", &id)) {
        any = TRUE;
        if (id >= 0 && id < N_MENU) g_variant_builder_add(&b, "(i@a{sv})", id, entry(app, id));
    }
    for (id = 0; !any && id < N_MENU; id++) g_variant_builder_add(&b, "(i@a{sv})", id, entry(app, id));
    g_variant_iter_free(ids);
    return g_variant_new("(a(ia{sv}))", &b);
}

static GVariant *one_property(const desk_app *app, GVariant *parameters)
{
    gint32 id;
    const char *name;
    g_variant_get(parameters, "(i&s)", &id, &name);
    GVariant *all = g_variant_ref_sink(entry(app, id >= 0 && id < N_MENU ? id : MENU_LINE));
    GVariant *value = g_variant_lookup_value(all, name, NULL);
    g_variant_unref(all);
    GVariant *answer = g_variant_new("(v)", value ? value : g_variant_new_string(""));
    if (value) g_variant_unref(value);
    return answer;
}

static void menu_call(GDBusConnection *bus, const char *sender, const char *path, const char *interface,
                      const char *method, GVariant *parameters, GDBusMethodInvocation *call, gpointer user)
{
    desk_tray *t = user;
    gint32 id, depth;
    const char *what;
    (void)bus, (void)sender, (void)path, (void)interface;
    if (strcmp(method, "GetLayout") == 0) {
        g_variant_get(parameters, "(iias)", &id, &depth, NULL);
        if (id < 0 || id >= N_MENU)
            return g_dbus_method_invocation_return_error(call, G_DBUS_ERROR, G_DBUS_ERROR_INVALID_ARGS, "no entry %d",
                                                         id);
        g_dbus_method_invocation_return_value(
            call, g_variant_new("(u@(ia{sv}av))", t->revision, layout_of(t->app, id, depth)));
    } else if (strcmp(method, "GetGroupProperties") == 0) {
        g_dbus_method_invocation_return_value(call, group_properties(t->app, parameters));
    } else if (strcmp(method, "GetProperty") == 0) {
        g_dbus_method_invocation_return_value(call, one_property(t->app, parameters));
    } else if (strcmp(method, "Event") == 0) {
        g_variant_get(parameters, "(i&svu)", &id, &what, NULL, NULL);
        g_dbus_method_invocation_return_value(call, NULL);
        if (strcmp(what, "clicked") == 0) on_clicked(t->app, id);
    } else if (strcmp(method, "EventGroup") == 0) {
        GVariantIter *events;
        GArray *ids = g_array_new(FALSE, FALSE, sizeof id);
        g_variant_get(parameters, "(a(isvu))", &events);
        while (g_variant_iter_next(events, "(i&svu)", &id, &what, NULL, NULL))
            if (strcmp(what, "clicked") == 0) g_array_append_val(ids, id);
        g_dbus_method_invocation_return_value(
            call, g_variant_new("(@ai)", g_variant_new_array(G_VARIANT_TYPE_INT32, NULL, 0)));
        for (guint i = 0; i < ids->len; i++) on_clicked(t->app, g_array_index(ids, gint32, i));
        g_array_free(ids, TRUE);
        g_variant_iter_free(events);
    } else if (strcmp(method, "AboutToShow") == 0) {
        g_dbus_method_invocation_return_value(call, g_variant_new("(b)", FALSE));
    } else {
        GVariant *none = g_variant_new_array(G_VARIANT_TYPE_INT32, NULL, 0),
                 *none2 = g_variant_new_array(G_VARIANT_TYPE_INT32, NULL, 0);
        g_dbus_method_invocation_return_value(call, g_variant_new("(@ai@ai)", none, none2));
    }
}

static GVariant *menu_property(GDBusConnection *bus, const char *sender, const char *path, const char *interface,
                               const char *name, GError **error, gpointer user)
{
    (void)bus, (void)sender, (void)path, (void)interface, (void)error, (void)user;
    if (strcmp(name, "Version") == 0) return g_variant_new_uint32(3);
    if (strcmp(name, "Status") == 0) return g_variant_new_string("normal");
    if (strcmp(name, "TextDirection") == 0)
        return g_variant_new_string(gtk_widget_get_default_direction() == GTK_TEXT_DIR_RTL ? "rtl" : "ltr");
    return g_variant_new_array(G_VARIANT_TYPE_STRING, NULL, 0);
}

/* ---- The item ---- */

static void item_call(GDBusConnection *bus, const char *sender, const char *path, const char *interface,
                      const char *method, GVariant *parameters, GDBusMethodInvocation *call, gpointer user)
{
    desk_tray *t = user;
    (void)bus, (void)sender, (void)path, (void)interface, (void)parameters;
    g_dbus_method_invocation_return_value(call, NULL);
    if (strcmp(method, "Activate") == 0) g_application_activate(G_APPLICATION(t->app->gtk));
}

static GVariant *item_property(GDBusConnection *bus, const char *sender, const char *path, const char *interface,
                               const char *name, GError **error, gpointer user)
{
    const desk_tray *t = user;
    (void)bus, (void)sender, (void)path, (void)interface, (void)error;
    if (strcmp(name, "Category") == 0) return g_variant_new_string("ApplicationStatus");
    if (strcmp(name, "Id") == 0) return g_variant_new_string("whisperengine");
    if (strcmp(name, "Title") == 0) return g_variant_new_string("WhisperEngine");
    if (strcmp(name, "Status") == 0) return g_variant_new_string("Active");
    if (strcmp(name, "IconName") == 0) return g_variant_new_string(""); /* the pixels count */
    if (strcmp(name, "IconPixmap") == 0) return pixmaps(t->light);
    if (strcmp(name, "IconAccessibleDesc") == 0) return g_variant_new_string(t->text);
    if (strcmp(name, "ToolTip") == 0) {
        GVariant *none = g_variant_new_array(G_VARIANT_TYPE("(iiay)"), NULL, 0);
        return g_variant_new("(s@a(iiay)ss)", "", none, "WhisperEngine", t->text);
    }
    if (strcmp(name, "Menu") == 0) return g_variant_new_object_path(MENU_PATH);
    return g_variant_new_boolean(FALSE); /* ItemIsMenu */
}

/* ---- The host ---- */

static void set_shown(desk_tray *t, gboolean shown)
{
    t->app->tray_is_shown = shown;
    if (t->app->window) desk_window_status(t->app->window);
}

static void on_registered(GObject *source, GAsyncResult *result, gpointer user)
{
    GError *error = NULL;
    GVariant *answer = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
    desk_tray *t = g_object_get_data(source, "desk-tray"); /* NULL: closed meanwhile */
    (void)user;
    if (t) set_shown(t, answer != NULL);
    if (answer) g_variant_unref(answer);
    g_clear_error(&error);
}

static void on_watcher(GDBusConnection *bus, const char *name, const char *owner, gpointer user)
{
    const desk_tray *t = user;
    (void)name, (void)owner;
    g_dbus_connection_call(bus, WATCHER, "/StatusNotifierWatcher", WATCHER, "RegisterStatusNotifierItem",
                           g_variant_new("(s)", t->name), NULL, G_DBUS_CALL_FLAGS_NONE, -1, NULL, on_registered, NULL);
}

static void on_watcher_gone(GDBusConnection *bus, const char *name, gpointer user)
{
    (void)bus, (void)name;
    set_shown(user, FALSE);
}

static void on_name(GDBusConnection *bus, const char *name, gpointer user)
{
    desk_tray *t = user;
    (void)bus, (void)name;
    t->watch_id = g_bus_watch_name_on_connection(t->bus, WATCHER, G_BUS_NAME_WATCHER_FLAGS_NONE, on_watcher,
                                                 on_watcher_gone, t, NULL);
}

static void emit(const desk_tray *t, const char *path, const char *interface, const char *name, GVariant *value)
{
    g_dbus_connection_emit_signal(t->bus, NULL, path, interface, name, value, NULL);
}

void desk_tray_update(desk_tray *t)
{
    if (!t || !t->bus) return;
    const desk_light light = desk_app_light(t->app);
    char *text = desk_app_light_text(t->app);
    GVariant *tree = g_variant_ref_sink(layout_of(t->app, MENU_ROOT, 1));
    char *layout = g_variant_print(tree, FALSE);
    g_variant_unref(tree);
    if (light != t->light) {
        t->light = light;
        emit(t, ITEM_PATH, "org.kde.StatusNotifierItem", "NewIcon", NULL);
    }
    if (g_strcmp0(text, t->text) != 0) emit(t, ITEM_PATH, "org.kde.StatusNotifierItem", "NewToolTip", NULL);
    if (g_strcmp0(layout, t->layout) != 0)
        emit(t, MENU_PATH, "com.canonical.dbusmenu", "LayoutUpdated", g_variant_new("(ui)", ++t->revision, MENU_ROOT));
    g_free(t->text);
    g_free(t->layout);
    t->text = text;
    t->layout = layout;
}

desk_tray *desk_tray_new(desk_app *app)
{
    static const GDBusInterfaceVTable item_table = { .method_call = item_call, .get_property = item_property };
    static const GDBusInterfaceVTable menu_table = { .method_call = menu_call, .get_property = menu_property };
    GDBusConnection *bus = g_application_get_dbus_connection(G_APPLICATION(app->gtk));
    desk_tray *t = g_new0(desk_tray, 1);
    t->app = app;
    t->light = DESK_LIGHT_YELLOW;
    t->text = desk_app_light_text(app);
    if (!bus) return t; /* no session bus, no tray */
    t->bus = g_object_ref(bus);
    t->item = g_dbus_node_info_new_for_xml(item_xml, NULL);
    t->menu = g_dbus_node_info_new_for_xml(menu_xml, NULL);
    t->item_id = g_dbus_connection_register_object(bus, ITEM_PATH, t->item->interfaces[0], &item_table, t, NULL, NULL);
    t->menu_id = g_dbus_connection_register_object(bus, MENU_PATH, t->menu->interfaces[0], &menu_table, t, NULL, NULL);
    t->name = g_strdup_printf("org.kde.StatusNotifierItem-%d-1", (int)getpid());
    g_object_set_data(G_OBJECT(bus), "desk-tray", t);
    t->name_id = g_bus_own_name_on_connection(bus, t->name, G_BUS_NAME_OWNER_FLAGS_NONE, on_name, NULL, t, NULL);
    return t;
}

void desk_tray_close(desk_tray *t)
{
    if (!t) return;
    if (t->bus) {
        g_object_set_data(G_OBJECT(t->bus), "desk-tray", NULL);
        if (t->watch_id) g_bus_unwatch_name(t->watch_id);
        g_bus_unown_name(t->name_id);
        g_dbus_connection_unregister_object(t->bus, t->item_id);
        g_dbus_connection_unregister_object(t->bus, t->menu_id);
        g_dbus_node_info_unref(t->item);
        g_dbus_node_info_unref(t->menu);
        g_object_unref(t->bus);
    }
    g_free(t->name);
    g_free(t->text);
    g_free(t->layout);
    g_free(t);
}
