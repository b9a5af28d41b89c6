/* SPDX-License-Identifier: Apache-2.0
 * app.h - the program as a whole: what its parts share. The parts:
 *   main.c      from start to end                       window.c    the window and its actions
 *   app.c       the conversation with the model         sidebar.c   the list of conversations, its search
 *   keeper.h    conversations on disk, on a thread      page.c      the messages
 *   engine.h    the model, on a thread                  composer.c  where a message is written
 *   settings.h  this program's own settings             dialogs.c   questions about one conversation
 *   tray.c      the tray's item                         models.c    the menu of models
 *   widgets.h   small things that many make             monitor.c   the figures as plots
 *   zoom.c      the size of what is read                prefs/      the settings dialog
 *   jobs.h      downloads and conversions
 * Everything here belongs to the main loop, which nothing may block. */
#ifndef DESK_APP_H
#define DESK_APP_H

#include "chat.h"
#include "engine.h"
#include "jobs.h"
#include "keeper.h"
#include "settings.h"
#include "widgets.h"
#include <adwaita.h>
#include <glib/gi18n.h>

#define DESK_APP_ID "org.whisperengine.WhisperEngine"

typedef struct desk_page desk_page;
typedef struct desk_composer desk_composer;
typedef struct desk_sidebar desk_sidebar;
typedef struct desk_models desk_models;
typedef struct desk_window desk_window;
typedef struct desk_tray desk_tray;

/* What the tray and the header show: told apart by colour and by shape. */
typedef enum desk_light {
    DESK_LIGHT_GREEN,  /* the MLX backend has a model in memory */
    DESK_LIGHT_YELLOW, /* it could, but is not in use */
    DESK_LIGHT_RED     /* it can't: the model does not load */
} desk_light;

typedef struct desk_app {
    AdwApplication *gtk;
    desk_settings settings;
    desk_keeper *keeper;
    desk_engine *engine;
    desk_jobs *jobs;
    desk_engine_status status; /* the latest; its texts are owned */
    GListStore *chats;         /* of DeskChat that are kept, the latest first */
    DeskChat *current;         /* on the page */
    desk_window *window;       /* NULL: closed */
    desk_tray *tray;
    GtkWidget *prefs;       /* the settings; NULL: closed */
    gboolean tray_is_shown; /* by some host */
    gboolean paused;        /* nothing new is asked */
    int zoom;               /* percent */
    GtkCssProvider *zoom_css;
    double tokens_per_second;
    int64_t continued;   /* the latest answer that was to go on */
    char *unkept;        /* why the store cannot write at present; NULL: it can */
    GHashTable *unsaved; /* ids of messages that have grown since they were saved */
    guint save_timer;
    guint feeder; /* brings the conversations of the store into `chats` */
} desk_app;

/* ---- app.c ---- */

extern const desk_engine_events desk_app_events; /* what the engine tells goes there */
/** Write what has grown since it was saved, now. */
void desk_app_save_unsaved(desk_app *app);
/** Send what was written. `attachments` of desk_attachment, may be NULL; it is copied. */
void desk_app_send(desk_app *app, DeskChat *chat, const char *text, const GPtrArray *attachments);
/** Take back messages from `id` on. */
void desk_app_cut(desk_app *app, DeskChat *chat, int64_t id);
/** Answer the last question anew; an answer that is there is kept as another version. */
void desk_app_again(desk_app *app, DeskChat *chat);
/** Show the version before or after (`by` -1 or 1) the one that is shown. */
void desk_app_show_version(desk_app *app, DeskChat *chat, int64_t id, int by);
/** Go on with the last answer. */
void desk_app_continue(desk_app *app, DeskChat *chat);
void desk_app_stop(desk_app *app, DeskChat *chat);
/** The model of a conversation: load it behind the window. */
void desk_app_load_for(desk_app *app, DeskChat *chat);
void desk_app_set_model(desk_app *app, DeskChat *chat, const char *url);
void desk_app_open(desk_app *app, DeskChat *chat);
void desk_app_new_chat(desk_app *app);
void desk_app_delete(desk_app *app, DeskChat *chat);
/** The heading has changed (title, system prompt, draft): keep it, where the conversation is kept. */
void desk_app_keep(desk_app *app, DeskChat *chat);
void desk_app_save_settings(desk_app *app);
/** While paused nothing is asked; an answer that runs goes on to its end. */
void desk_app_set_paused(desk_app *app, gboolean paused);
void desk_app_settings_changed(desk_app *app); /* the appearance follows */
desk_light desk_app_light(const desk_app *app);
/** What the light means, in words; g_free. */
char *desk_app_light_text(const desk_app *app);
/** A model's name as lists show it: "default" is the built-in one; borrowed. */
const char *desk_model_name(const char *name);
/** A model's URL or name as people call it: "default" is the built-in one; g_free. */
char *desk_model_label(const char *url);

/* ---- window.c ---- */

desk_window *desk_window_new(desk_app *app);
GtkWindow *desk_window_gtk(desk_window *w);
void desk_window_toast(desk_window *w, const char *text);
/** A toast with a button; `fn` is called if it is pressed, and `user` is freed in the end. */
void desk_window_toast_action(desk_window *w, const char *text, const char *button, void (*fn)(gpointer user),
                              gpointer user, GDestroyNotify user_free);
/** A message above the page that stays until it is closed or something else is said of the same `topic`.
 * text   : NULL: nothing is to be said of it any more.
 * button : with `action` to activate, or NULL. */
void desk_window_banner(desk_window *w, const char *topic, GtkMessageType type, const char *text, const char *button,
                        const char *action);
void desk_window_show_chat(desk_window *w, DeskChat *chat);
void desk_window_status(desk_window *w);
desk_page *desk_window_page(desk_window *w);
desk_sidebar *desk_window_sidebar(desk_window *w);
void desk_window_enable_stop(desk_window *w, gboolean enabled); /* else Escape is somebody else's */
void desk_window_show_monitor(desk_window *w);
/** Note size and draft, since the window goes or may go. */
void desk_window_remember(desk_window *w);

/* ---- page.c ---- */

desk_page *desk_page_new(desk_app *app);
GtkWidget *desk_page_widget(desk_page *p);
void desk_page_show(desk_page *p, DeskChat *chat);
void desk_page_changed(desk_page *p, DeskChat *chat, const desk_message *m); /* one message, known or new */
void desk_page_replaced(desk_page *p, DeskChat *chat, int64_t before, const desk_message *m); /* by another version */
void desk_page_rebuild(desk_page *p, DeskChat *chat);
desk_composer *desk_page_composer(desk_page *p);

/* ---- composer.c ---- */

desk_composer *desk_composer_new(desk_app *app);
GtkWidget *desk_composer_widget(desk_composer *c);
void desk_composer_show(desk_composer *c, DeskChat *chat);
void desk_composer_send(desk_composer *c, const char *text);
void desk_composer_attach(desk_composer *c); /* asks which files */
void desk_composer_attach_file(desk_composer *c, GFile *file);
void desk_composer_edit(desk_composer *c, int64_t id);
void desk_composer_edit_last(desk_composer *c);
void desk_composer_focus(desk_composer *c);
void desk_composer_keep_draft(desk_composer *c); /* now */
void desk_composer_update_buttons(desk_composer *c);

/* ---- sidebar.c ---- */

desk_sidebar *desk_sidebar_new(desk_app *app, AdwLeaflet *leaflet);
GtkWidget *desk_sidebar_widget(desk_sidebar *s);
void desk_sidebar_select(desk_sidebar *s);       /* the current conversation */
void desk_sidebar_search(desk_sidebar *s);       /* asks for words */
void desk_sidebar_step(desk_sidebar *s, int by); /* to the next or the previous one */

/* ---- zoom.c ---- */

void desk_zoom_remember(desk_app *app);
void desk_zoom(desk_app *app, int by); /* larger (1), smaller (-1), as it was (0) */

/* ---- dialogs.c ---- */

void desk_dialog_unkept(desk_app *app); /* quit all the same? */
void desk_dialog_rename(desk_app *app, DeskChat *chat);
void desk_dialog_system(desk_app *app, DeskChat *chat);
void desk_dialog_export(desk_app *app, DeskChat *chat);

/* ---- models.c ---- */

/** The button in the header: who answers, and a menu of who else could. */
desk_models *desk_models_new(desk_app *app);
GtkWidget *desk_models_widget(desk_models *m);
void desk_models_update(desk_models *m);

/* ---- monitor.c ---- */

GtkWidget *desk_monitor_new(void);

/* ---- prefs/ ---- */

/** The settings; where they are open already, they come to the front. */
void desk_prefs_show(desk_app *app);

/* ---- tray.c ---- */

desk_tray *desk_tray_new(desk_app *app);
void desk_tray_update(desk_tray *t);
void desk_tray_close(desk_tray *t);

#endif
