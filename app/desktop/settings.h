/* SPDX-License-Identifier: Apache-2.0
 * settings.h - what only this program knows: window, appearance, what it does when it is closed. Kept in `desktop.ini` beside the
 * library's own configuration, which has all that other programs share (we_config_get). */
#ifndef DESK_SETTINGS_H
#define DESK_SETTINGS_H

#include <glib.h>

typedef struct desk_settings {
    char *path;
    int width, height;
    gboolean maximized;
    int color_scheme;        /* an AdwColorScheme */
    gboolean background;     /* closing the window keeps the program running */
    gboolean send_with_ctrl; /* Enter makes a line, Ctrl+Enter sends */
    char *system;            /* of new conversations; never NULL */
} desk_settings;

void desk_settings_load(desk_settings *s);
/** Write the file, whole or not at all; NULL or why not (g_free). */
char *desk_settings_save(const desk_settings *s);
void desk_settings_deinit(desk_settings *s);

#endif
