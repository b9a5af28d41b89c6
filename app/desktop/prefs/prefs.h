/* SPDX-License-Identifier: Apache-2.0
 * prefs.h - what the files of prefs/ share: the dialog, its widgets, and rows out of tables of variables. The parts:
 *   prefs.c   the dialog, from opening to closing      memory.c    how much memory the model takes, and may
 *   rows.c    tables of variables to rows              tuning.c    speed, sampling, guessing
 *   general.c this program's own settings              backends.c  who can answer; server and key
 *   models.c  models here and on the hub
 *
 * What other programs share is the library's configuration: rows read and write it (we_config_get, we_config_set), and what the
 * environment sets is shown and locked. What only this program knows is in app->settings. Each group of rows says when its
 * values count. Look-ups run on threads that the dialog does not wait for (prefs->cancel). */
#ifndef DESK_PREFS_H
#define DESK_PREFS_H

#include "../app.h"
#include "../widgets.h"

typedef struct prefs prefs;
typedef struct prefs_models prefs_models;
typedef struct prefs_memory prefs_memory;
typedef struct prefs_backends prefs_backends;

struct prefs {
    desk_app *app;
    GtkWidget *window;
    GCancellable *cancel; /* look-ups end with the dialog */
    prefs_models *models; /* each page's own */
    prefs_memory *memory;
    prefs_backends *backends;
};

/* ---- Pages ---- */

void prefs_general_page(prefs *p);
void prefs_models_page(prefs *p);
void prefs_memory_page(prefs *p);
void prefs_tuning_page(prefs *p);
void prefs_backends_page(prefs *p);
/** Count anew what the model takes: something it depends on has changed. */
void prefs_memory_update(prefs *p);
void prefs_models_free(prefs_models *m);
void prefs_memory_free(prefs_memory *m);
void prefs_backends_free(prefs_backends *b);

/* ---- Widgets (prefs.c) ---- */

void prefs_toast(prefs *p, const char *text);
GtkWidget *prefs_page(prefs *p, const char *title, const char *icon);
GtkWidget *prefs_group(GtkWidget *page, const char *title, const char *description);
void prefs_add(GtkWidget *group, GtkWidget *row);
/** Remove the rows that a group got since; `rows` is empty then. */
void prefs_clear(GtkWidget *group, GPtrArray *rows);
/** An AdwActionRow; its texts are text, not markup. */
GtkWidget *prefs_row(const char *title, const char *subtitle);
/** A control at a row's end. libadwaita lets a screen reader call it what the row is called. */
void prefs_add_control(GtkWidget *row, GtkWidget *control);
/** A flat button for a row's end. */
GtkWidget *prefs_icon_button(const char *icon, const char *name);
/** Run `look` on a thread; `done` hears of it in the main loop, if the dialog is still there. data_free frees `data`. */
void prefs_look(prefs *p, GTaskThreadFunc look, gpointer data, GDestroyNotify data_free, GAsyncReadyCallback done);

/* ---- Variables of the configuration (rows.c) ---- */

typedef enum prefs_kind { PREFS_NUMBER, PREFS_SWITCH, PREFS_CHOICE, PREFS_TEXT } prefs_kind;

typedef struct prefs_variable {
    const char *name; /* of the variable */
    prefs_kind kind;
    gboolean reloads; /* the loaded model is loaded again */
    const char *title, *subtitle;
    const char *unset; /* of a number: what is shown where nothing is set */
    double least, most, step;
    guint digits;
    const char *const *values,
        *const *names; /* of a choice, the same many; values[0] is NULL: not set. Names end in NULL. */
} prefs_variable;

/** Rows for a table, in its order. The table and its texts stay the caller's; texts are translated here. */
void prefs_add_variables(prefs *p, GtkWidget *group, const prefs_variable *table, size_t n);
/** A choice whose values are only known now; copied. `chosen`: beyond them, a value that is set. */
void prefs_add_choice(prefs *p, GtkWidget *group, const prefs_variable *v, const GPtrArray *values,
                      const GPtrArray *names);

we_config_value prefs_value(const char *name);
/** What the environment says cannot be changed here. */
gboolean prefs_is_locked(const char *name);
/** "Set by the environment (MLX_TOP_P)"; g_free. */
char *prefs_locked_text(const char *name);
/** Write a variable; NULL takes it out. Where that fails, a toast says why. */
gboolean prefs_write(prefs *p, const char *name, const char *value);
/** What is in memory was loaded with other values: load it again, behind the answer that runs. */
void prefs_reload(prefs *p);

#endif
