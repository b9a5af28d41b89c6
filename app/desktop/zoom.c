/* SPDX-License-Identifier: Apache-2.0
 * zoom.c - the size of what is read and written, in steps, kept between runs. */
#include "app.h"
#include <stdlib.h>

static const int steps[] = { 70, 80, 90, 100, 110, 125, 150, 175, 200 }; /* percent */

static int step_of(int percent)
{
    int nearest = 0;
    for (int i = 1; i < (int)G_N_ELEMENTS(steps); i++)
        if (abs(steps[i] - percent) < abs(steps[nearest] - percent)) nearest = i;
    return nearest;
}

static void apply(desk_app *app, int percent)
{
    app->zoom = steps[step_of(percent)];
    char *css = g_strdup_printf(".messages, .composer textview { font-size: %d%%; }", app->zoom);
    if (!app->zoom_css) {
        app->zoom_css = gtk_css_provider_new();
        gtk_style_context_add_provider_for_display(gdk_display_get_default(), GTK_STYLE_PROVIDER(app->zoom_css),
                                                   GTK_STYLE_PROVIDER_PRIORITY_USER);
    }
    gtk_css_provider_load_from_data(app->zoom_css, css, -1);
    g_free(css);
}

static void on_remembered(gpointer user, const char *value)
{
    if (value) apply(user, atoi(value));
}

void desk_zoom_remember(desk_app *app)
{
    app->zoom = 100;
    desk_keeper_get(app->keeper, "zoom", on_remembered, app);
}

void desk_zoom(desk_app *app, int by)
{
    const int wanted = CLAMP(step_of(app->zoom) + by, 0, (int)G_N_ELEMENTS(steps) - 1);
    apply(app, by ? steps[wanted] : 100);
    char *value = g_strdup_printf("%d", app->zoom);
    desk_keeper_put(app->keeper, "zoom", value);
    g_free(value);
}
