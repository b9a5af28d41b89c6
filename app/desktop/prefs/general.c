/* SPDX-License-Identifier: Apache-2.0
 * general.c - this program's own settings: what it looks like, how it behaves. Each acts at once. */
#include "prefs.h"

static void changed(prefs *p)
{
    desk_app_settings_changed(p->app);
    desk_app_save_settings(p->app);
}

static void on_switch(GtkSwitch *toggle, GParamSpec *spec, gpointer user)
{
    gboolean *value = g_object_get_data(G_OBJECT(toggle), "value");
    (void)spec;
    *value = gtk_switch_get_active(toggle);
    changed(user);
}

static void add_switch(prefs *p, GtkWidget *group, gboolean *value, const char *title, const char *subtitle)
{
    GtkWidget *row = prefs_row(title, subtitle), *toggle = gtk_switch_new();
    gtk_switch_set_active(GTK_SWITCH(toggle), *value);
    g_object_set_data(G_OBJECT(toggle), "value", value);
    prefs_add_control(row, toggle);
    g_signal_connect(toggle, "notify::active", G_CALLBACK(on_switch), p);
    prefs_add(group, row);
}

static const AdwColorScheme schemes[] = { ADW_COLOR_SCHEME_DEFAULT, ADW_COLOR_SCHEME_FORCE_LIGHT,
                                          ADW_COLOR_SCHEME_FORCE_DARK };

static void on_scheme(AdwComboRow *row, GParamSpec *spec, gpointer user)
{
    prefs *p = user;
    (void)spec;
    p->app->settings.color_scheme = (int)schemes[MIN(adw_combo_row_get_selected(row), G_N_ELEMENTS(schemes) - 1)];
    changed(p);
}

static void add_scheme(prefs *p, GtkWidget *group)
{
    const char *const names[] = { _("Follow the System"), _("Light"), _("Dark"), NULL };
    guint chosen = G_N_ELEMENTS(schemes) - 1;
    while (chosen > 0 && (int)schemes[chosen] != p->app->settings.color_scheme) chosen--;
    GtkStringList *model = gtk_string_list_new(names);
    GtkWidget *row = g_object_new(ADW_TYPE_COMBO_ROW, "title", _("Style"), "model", model, "selected", chosen, NULL);
    g_signal_connect(row, "notify::selected", G_CALLBACK(on_scheme), p);
    g_object_unref(model);
    prefs_add(group, row);
}

static void on_system(AdwEntryRow *row, gpointer user)
{
    prefs *p = user;
    g_free(p->app->settings.system);
    p->app->settings.system = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(row))));
    changed(p);
}

void prefs_general_page(prefs *p)
{
    desk_settings *s = &p->app->settings;
    GtkWidget *page = prefs_page(p, _("General"), "preferences-system-symbolic");
    GtkWidget *look = prefs_group(page, _("Appearance"), NULL), *chats = prefs_group(page, _("Chats"), NULL);
    add_scheme(p, look);
    add_switch(p, look, &s->background, _("Keep Running When Closed"),
               _("The model stays in memory; open the window again from the tray or the applications"));
    add_switch(p, chats, &s->send_with_ctrl, _("Send With Ctrl+Enter"), _("Enter alone then begins a new line"));
    GtkWidget *system =
        g_object_new(ADW_TYPE_ENTRY_ROW, "title", _("System Prompt of New Chats"), "show-apply-button", TRUE, NULL);
    gtk_editable_set_text(GTK_EDITABLE(system), s->system);
    g_signal_connect(system, "apply", G_CALLBACK(on_system), p);
    prefs_add(chats, system);
}
