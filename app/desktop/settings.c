/* SPDX-License-Identifier: Apache-2.0
 * settings.c - see settings.h. */
#include "settings.h"
#include "base/base.h"

#define GROUP "desktop"

static int number(GKeyFile *file, const char *key, int least, int most, int otherwise)
{
    GError *error = NULL;
    const int value = g_key_file_get_integer(file, GROUP, key, &error);
    const gboolean good = !error && value >= least && value <= most;
    g_clear_error(&error);
    return good ? value : otherwise;
}

void desk_settings_load(desk_settings *s)
{
    GKeyFile *file = g_key_file_new();
    char *dir = we_dir_user_config();
    s->path = dir ? g_build_filename(dir, "desktop.ini", NULL) : NULL;
    if (s->path) g_key_file_load_from_file(file, s->path, G_KEY_FILE_NONE, NULL); /* a broken one: the defaults */
    s->width = number(file, "width", 300, 20000, 980);
    s->height = number(file, "height", 200, 20000, 720);
    s->maximized = number(file, "maximized", 0, 1, 0);
    s->color_scheme = number(file, "color-scheme", 0, 4, 0);
    s->background = number(file, "background", 0, 1, 0);
    s->send_with_ctrl = number(file, "send-with-ctrl", 0, 1, 0);
    s->system = g_key_file_get_string(file, GROUP, "system", NULL);
    if (!s->system) s->system = g_strdup("");
    we_free(dir);
    g_key_file_unref(file);
}

char *desk_settings_save(const desk_settings *s)
{
    we_error err = { 0 };
    if (!s->path) return NULL;
    GKeyFile *file = g_key_file_new();
    g_key_file_set_integer(file, GROUP, "width", s->width);
    g_key_file_set_integer(file, GROUP, "height", s->height);
    g_key_file_set_integer(file, GROUP, "maximized", s->maximized);
    g_key_file_set_integer(file, GROUP, "color-scheme", s->color_scheme);
    g_key_file_set_integer(file, GROUP, "background", s->background);
    g_key_file_set_integer(file, GROUP, "send-with-ctrl", s->send_with_ctrl);
    g_key_file_set_string(file, GROUP, "system", s->system);
    gsize len;
    char *text = g_key_file_to_data(file, &len, NULL), *dir = g_path_get_dirname(s->path);
    we_status st = we_dir_make(dir, 0700, &err);
    if (!st) st = we_file_write(s->path, text, len, 0600, &err);
    g_free(dir);
    g_free(text);
    g_key_file_unref(file);
    return st ? g_strdup(err.message) : NULL;
}

void desk_settings_deinit(desk_settings *s)
{
    g_free(s->path);
    g_free(s->system);
}
