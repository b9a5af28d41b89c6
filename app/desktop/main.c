/* SPDX-License-Identifier: Apache-2.0
 * main.c - from start to end: the application's actions and keys, what is read when it begins, what is kept when it ends. */
#include "app.h"
#include <locale.h>

#define FEED 40

#define FEED 40

static void on_problem(gpointer user, gboolean kept, const char *text)
{
    desk_app *app = user;
    const char *topic = kept && text ? "news" : "keeping";
    if (!kept || !text) {
        g_free(app->unkept);
        app->unkept = g_strdup(text);
    }
    if (app->window) desk_window_banner(app->window, topic, GTK_MESSAGE_WARNING, text, NULL, NULL);
}

typedef struct chat_feed {
    desk_app *app;
    GPtrArray *rows;
    guint next;
} chat_feed;

static void chat_feed_free(gpointer p)
{
    chat_feed *f = p;
    g_ptr_array_unref(f->rows);
    g_free(f);
}

/* A few rows at a time, below those of conversations that have begun since the start: a row is a dozen widgets. */
static gboolean feed(gpointer p)
{
    chat_feed *f = p;
    GPtrArray *chats = g_ptr_array_new_with_free_func(g_object_unref);
    for (; f->next < f->rows->len && chats->len < FEED; f->next++) {
        DeskChat *chat = desk_chat_new(desk_conversation_copy(f->rows->pdata[f->next]));
        chat->kept = TRUE;
        g_ptr_array_add(chats, chat);
    }
    g_list_store_splice(f->app->chats, g_list_model_get_n_items(G_LIST_MODEL(f->app->chats)), 0, chats->pdata,
                        chats->len);
    g_ptr_array_unref(chats);
    if (f->next < f->rows->len) return G_SOURCE_CONTINUE;
    f->app->feeder = 0;
    return G_SOURCE_REMOVE;
}

/* The first ones are there with the window, the others come while it is used. */
static void on_chats(gpointer user, GPtrArray *rows)
{
    desk_app *app = user;
    chat_feed *f = g_new(chat_feed, 1);
    *f = (chat_feed){ app, g_ptr_array_ref(rows), 0 };
    if (feed(f))
        app->feeder = g_idle_add_full(G_PRIORITY_LOW, feed, f, chat_feed_free);
    else
        chat_feed_free(f);
}

/* What was written in a new conversation and not sent. */
static void on_draft(gpointer user, const char *value)
{
    desk_app *app = user;
    if (!value || !app->current || app->current->kept || *app->current->head->draft) return;
    g_free(app->current->head->draft);
    app->current->head->draft = g_strdup(value);
    if (app->window) desk_window_show_chat(app->window, app->current);
}

static void new_chat(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    desk_app_new_chat(user);
}

static void open_chat(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_app *app = user;
    (void)action;
    g_application_activate(G_APPLICATION(app->gtk));
    const guint n = g_list_model_get_n_items(G_LIST_MODEL(app->chats));
    for (guint i = 0; i < n; i++) {
        DeskChat *chat = g_list_model_get_item(G_LIST_MODEL(app->chats), i);
        if (chat->head->id == g_variant_get_int64(value)) desk_app_open(app, chat);
        g_object_unref(chat);
    }
}

static void quit(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_app *app = user;
    (void)action, (void)value;
    if (app->unkept)
        desk_dialog_unkept(app);
    else
        g_application_quit(G_APPLICATION(app->gtk));
}

static void preferences(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    desk_prefs_show(user);
}

static void about(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_app *app = user;
    (void)action, (void)value;
    adw_show_about_window(app->window ? desk_window_gtk(app->window) : NULL, "application-name", "WhisperEngine",
                          "application-icon", DESK_APP_ID, "version", we_version(), "developer-name",
                          _("The WhisperEngine contributors"), "license-type", GTK_LICENSE_APACHE_2_0, "comments",
                          _("Chat with language models that run on this computer."), NULL);
}

static void zoom_in(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    desk_zoom(user, 1);
}

static void zoom_out(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    desk_zoom(user, -1);
}

static void zoom_reset(GSimpleAction *action, GVariant *value, gpointer user)
{
    (void)action, (void)value;
    desk_zoom(user, 0);
}

static void load_model(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_app *app = user;
    (void)action, (void)value;
    if (app->current) desk_app_load_for(app, app->current);
}

static void unload_model(GSimpleAction *action, GVariant *value, gpointer user)
{
    desk_app *app = user;
    (void)action, (void)value;
    desk_engine_unload(app->engine);
}

static void startup(GApplication *gtk, gpointer user)
{
    static const GActionEntry actions[] = {
        { .name = "new-chat", .activate = new_chat },
        { .name = "open-chat", .activate = open_chat, .parameter_type = "x" },
        { .name = "quit", .activate = quit },
        { .name = "preferences", .activate = preferences },
        { .name = "about", .activate = about },
        { .name = "zoom-in", .activate = zoom_in },
        { .name = "zoom-out", .activate = zoom_out },
        { .name = "zoom-reset", .activate = zoom_reset },
        { .name = "load-model", .activate = load_model },
        { .name = "unload-model", .activate = unload_model },
    };
    static const struct {
        const char *action, *keys[4];
    } keys[] = {
        { "app.new-chat", { "<Control>n" } },
        { "app.quit", { "<Control>q" } },
        { "app.preferences", { "<Control>comma" } },
        { "window.close", { "<Control>w" } },
        { "win.search", { "<Control>f" } },
        { "win.rename", { "F2" } },
        { "win.delete", { "<Control>Delete" } },
        { "win.export", { "<Control>e" } },
        { "win.attach", { "<Control>o" } },
        { "win.stop", { "Escape" } },
        { "win.again", { "<Control>r" } },
        { "win.edit-last", { "<Alt>Up" } },
        { "win.system", { "<Control>i" } },
        { "win.monitor", { "<Control>m" } },
        { "win.next", { "<Control>Page_Down" } },
        { "win.previous", { "<Control>Page_Up" } },
        { "win.sidebar", { "F9" } },
        { "win.model", { "<Control>l" } },
        { "app.zoom-in", { "<Control>plus", "<Control>equal", "<Control>KP_Add" } },
        { "app.zoom-out", { "<Control>minus", "<Control>KP_Subtract" } },
        { "app.zoom-reset", { "<Control>0", "<Control>KP_0" } },
    };
    desk_app *app = user;
    g_action_map_add_action_entries(G_ACTION_MAP(gtk), actions, G_N_ELEMENTS(actions), app);
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
        gtk_application_set_accels_for_action(GTK_APPLICATION(gtk), keys[i].action, (const char *const *)keys[i].keys);
    char *dir = we_dir_user_data(), *path = g_build_filename(dir ? dir : g_get_tmp_dir(), "conversations.sqlite", NULL);
    app->chats = g_list_store_new(DESK_TYPE_CHAT);
    app->unsaved = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    app->keeper = desk_keeper_new(path, on_problem, app);
    app->engine = desk_engine_new(&desk_app_events, app);
    app->jobs = desk_jobs_new(gtk);
    app->tray = desk_tray_new(app);
    g_free(path);
    we_free(dir);
    desk_app_settings_changed(app);
    desk_zoom_remember(app);
    desk_keeper_list(app->keeper, NULL, on_chats, app);
}

static void activate(GApplication *gtk, gpointer user)
{
    desk_app *app = user;
    (void)gtk;
    if (!app->window) {
        app->window = desk_window_new(app);
        if (app->current) {
            desk_window_show_chat(app->window, app->current);
        } else {
            desk_app_new_chat(app);
            desk_keeper_get(app->keeper, "draft", on_draft, app);
            desk_app_load_for(app, app->current);
        }
        desk_window_status(app->window);
    }
    gtk_window_present(desk_window_gtk(app->window));
}

static void on_shutdown(GApplication *gtk, gpointer user)
{
    desk_app *app = user;
    (void)gtk;
    g_clear_handle_id(&app->feeder, g_source_remove);
    desk_tray_close(app->tray);
    app->tray = NULL;
    if (app->window) {
        desk_window_remember(app->window);
        gtk_window_destroy(desk_window_gtk(app->window));
    }
    desk_engine_close(app->engine);
    desk_jobs_close(app->jobs);
    if (app->save_timer) g_source_remove(app->save_timer);
    desk_app_save_unsaved(app);
    desk_keeper_close(app->keeper);
    g_clear_object(&app->current);
    g_clear_object(&app->chats);
    g_clear_object(&app->zoom_css);
    g_hash_table_unref(app->unsaved);
}

static void note_config(void *user, const char *text)
{
    (void)user;
    g_message("%s", text);
}

/* Translations: beside the program in a build folder, else where they are installed. */
static void bind_translations(void)
{
    char *folder = we_executable_dir(), *beside = folder ? we_path_join(folder, "locale") : NULL;
    setlocale(LC_ALL, "");
    bindtextdomain(GETTEXT_PACKAGE, beside && we_path_is_dir(beside) ? beside : DESK_LOCALE_DIR);
    bind_textdomain_codeset(GETTEXT_PACKAGE, "UTF-8");
    textdomain(GETTEXT_PACKAGE);
    we_free(beside);
    we_free(folder);
}

int main(int argc, char **argv)
{
    desk_app app = { .status = { DESK_ENGINE_EMPTY, FALSE, 0, g_strdup(""), g_strdup(""), g_strdup(""), g_strdup(""),
                                 WE_BACKEND_MLX } };
    we_config_options config = WE_CONFIG_OPTIONS_INIT;
    we_error err = { 0 };
    bind_translations();
    config.no_dotenv = true; /* a desktop program is started in the home folder, not in a project */
    config.on_note = note_config;
    if (we_config_load(&config, &err)) g_message("%s", err.message);
    desk_settings_load(&app.settings);
    if (!gtk_init_check()) {
        fprintf(
            stderr, "%s\n",
            _("WhisperEngine's window needs a graphical session: neither WAYLAND_DISPLAY nor DISPLAY leads to one. In a "
              "terminal, use 'whisperengine chat'."));
        return 1;
    }
    app.gtk = g_object_new(ADW_TYPE_APPLICATION, "application-id", DESK_APP_ID, "resource-base-path",
                           "/org/whisperengine/WhisperEngine", NULL);
    g_signal_connect(app.gtk, "startup", G_CALLBACK(startup), &app);
    g_signal_connect(app.gtk, "activate", G_CALLBACK(activate), &app);
    g_signal_connect(app.gtk, "shutdown", G_CALLBACK(on_shutdown), &app);
    const int status = g_application_run(G_APPLICATION(app.gtk), argc, argv);
    g_object_unref(app.gtk);
    desk_settings_deinit(&app.settings);
    g_free(app.status.url);
    g_free(app.status.model);
    g_free(app.status.backend);
    g_free(app.status.problem);
    g_free(app.unkept);
    return status;
}
