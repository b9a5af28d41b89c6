/* SPDX-License-Identifier: Apache-2.0
 * prefs.c - the settings dialog from opening to closing, and the widgets that its pages are made of. */
#include "prefs.h"

void prefs_toast(prefs *p, const char *text)
{
    char *escaped = g_markup_escape_text(text, -1);
    adw_preferences_window_add_toast(ADW_PREFERENCES_WINDOW(p->window), adw_toast_new(escaped));
    g_free(escaped);
}

GtkWidget *prefs_page(prefs *p, const char *title, const char *icon)
{
    GtkWidget *page = g_object_new(ADW_TYPE_PREFERENCES_PAGE, "title", title, "icon-name", icon, NULL);
    adw_preferences_window_add(ADW_PREFERENCES_WINDOW(p->window), ADW_PREFERENCES_PAGE(page));
    return page;
}

GtkWidget *prefs_group(GtkWidget *page, const char *title, const char *description)
{
    GtkWidget *group = g_object_new(ADW_TYPE_PREFERENCES_GROUP, "title", title, "description", description, NULL);
    adw_preferences_page_add(ADW_PREFERENCES_PAGE(page), ADW_PREFERENCES_GROUP(group));
    return group;
}

void prefs_add(GtkWidget *group, GtkWidget *row) { adw_preferences_group_add(ADW_PREFERENCES_GROUP(group), row); }

void prefs_clear(GtkWidget *group, GPtrArray *rows)
{
    for (guint i = 0; i < rows->len; i++) adw_preferences_group_remove(ADW_PREFERENCES_GROUP(group), rows->pdata[i]);
    g_ptr_array_set_size(rows, 0);
}

GtkWidget *prefs_row(const char *title, const char *subtitle)
{
    return g_object_new(ADW_TYPE_ACTION_ROW, "use-markup", FALSE, "title", title, "subtitle", subtitle ? subtitle : "",
                        "title-lines", 1, "subtitle-lines", 3, NULL);
}

void prefs_add_control(GtkWidget *row, GtkWidget *control)
{
    gtk_widget_set_valign(control, GTK_ALIGN_CENTER);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), control);
    adw_action_row_set_activatable_widget(ADW_ACTION_ROW(row), control);
}

GtkWidget *prefs_icon_button(const char *icon, const char *name)
{
    GtkWidget *button = desk_icon_button(icon, name);
    gtk_widget_add_css_class(button, "flat");
    gtk_widget_set_valign(button, GTK_ALIGN_CENTER);
    return button;
}

void prefs_look(prefs *p, GTaskThreadFunc look, gpointer data, GDestroyNotify data_free, GAsyncReadyCallback done)
{
    GTask *task = g_task_new(NULL, p->cancel, done, p);
    g_task_set_task_data(task, data, data_free);
    g_task_run_in_thread(task, look);
    g_object_unref(task);
}

/* ---- The dialog ---- */

static void prefs_free(gpointer data)
{
    prefs *p = data;
    desk_jobs_listen(p->app->jobs, NULL, NULL);
    p->app->prefs = NULL;
    g_cancellable_cancel(p->cancel);
    g_object_unref(p->cancel);
    prefs_models_free(p->models);
    prefs_memory_free(p->memory);
    prefs_backends_free(p->backends);
    g_free(p);
}

void desk_prefs_show(desk_app *app)
{
    if (app->prefs) return gtk_window_present(GTK_WINDOW(app->prefs));
    prefs *p = g_new0(prefs, 1);
    p->app = app;
    p->cancel = g_cancellable_new();
    p->window = app->prefs =
        g_object_new(ADW_TYPE_PREFERENCES_WINDOW, "modal", TRUE, "search-enabled", TRUE, "default-width", 800,
                     "default-height", 700, "transient-for", app->window ? desk_window_gtk(app->window) : NULL, NULL);
    g_object_set_data_full(G_OBJECT(p->window), "prefs", p, prefs_free);
    prefs_general_page(p);
    prefs_models_page(p);
    prefs_memory_page(p);
    prefs_tuning_page(p);
    prefs_backends_page(p);
    gtk_window_present(GTK_WINDOW(p->window));
}
