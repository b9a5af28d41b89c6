/* SPDX-License-Identifier: Apache-2.0
 * backends.c - the page of who can answer: the chain with each one's state, moved by dragging, by keys or by a menu (FALLBACK_CHAIN); a
 * test that asks one for a word; the server of one's own, with its key in the secret service where there is one. */
#include "prefs.h"

typedef struct backend { /* of the chain, as it was found */
    char *id, *name, *version, *reason;
    char *model; /* for the test: one in memory, else the smallest */
    char *said;  /* what the test told; NULL: not tested */
    gboolean available, testing;
} backend;

struct prefs_backends {
    GtkWidget *chain, *connection, *key, *kept;
    GPtrArray *rows;  /* of the chain's group */
    GPtrArray *found; /* of backend, in the chain's order */
    guint shower;     /* the chain is shown anew soon: never while one of its rows is at work */
    int focus;        /* of the row that has it then; -1: the one that had it */
};

static void backend_free(gpointer data)
{
    backend *b = data;
    g_free(b->id);
    g_free(b->name);
    g_free(b->version);
    g_free(b->reason);
    g_free(b->model);
    g_free(b->said);
    g_free(b);
}

/* ---- What is there, on a thread ---- */

static char *model_to_test(const we_backend_info *info)
{
    const we_backend_model *best = NULL;
    for (size_t i = 0; i < info->n_models; i++) {
        const we_backend_model *m = &info->models[i];
        if (!best || (m->loaded && !best->loaded) || (m->loaded == best->loaded && m->bytes < best->bytes)) best = m;
    }
    return g_strdup(info->kind == WE_BACKEND_MLX ? "default" : best ? best->name : "");
}

static void detect(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    we_backends *list = NULL;
    we_error err = { 0 };
    const we_backends_options options = { sizeof options, 2000 };
    (void)source, (void)data, (void)cancel;
    if (we_backends_detect(&list, &options, &err))
        return g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_FAILED, "%s", err.message);
    GPtrArray *found = g_ptr_array_new_with_free_func(backend_free);
    for (size_t i = 0; i < we_backends_count(list); i++) {
        we_backend_info info = { .size = sizeof info };
        if (we_backends_get(list, i, &info, NULL)) continue;
        backend *b = g_new0(backend, 1);
        *b = (backend){ .id = g_strdup(info.id),
                        .name = g_strdup(info.name),
                        .version = g_strdup(info.version),
                        .reason = g_strdup(info.reason),
                        .model = model_to_test(&info),
                        .available = info.available };
        g_ptr_array_add(found, b);
    }
    we_backends_close(list);
    g_task_return_pointer(task, found, (GDestroyNotify)g_ptr_array_unref);
}

/* ---- A test: one word of an answer ---- */

typedef struct test {
    char *id, *url;
    gboolean asks; /* for a word; else only for the list of models */
    char *said;
} test;

static void test_free(gpointer data)
{
    test *t = data;
    g_free(t->id);
    g_free(t->url);
    g_free(t->said);
    g_free(t);
}

static bool count_model(void *user, const we_backend_model *model)
{
    (void)model;
    ++*(int *)user;
    return true;
}

static we_status ask(we_client *client, we_error *err)
{
    static const we_message hello = { "user", "Hello" };
    we_conversation c = WE_CONVERSATION_INIT;
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    c.messages = &hello;
    c.n_messages = 1;
    o.max_tokens = 1;
    return we_client_chat(client, &c, &o, NULL, err);
}

static void on_cancelled(GCancellable *cancel, gpointer client)
{
    (void)cancel;
    we_client_cancel(client);
}

static void run_test(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    test *t = data;
    we_client *client = NULL;
    we_error err = { 0 };
    we_client_options o = WE_CLIENT_OPTIONS_INIT;
    int n = 0;
    const gint64 start = g_get_monotonic_time();
    (void)source;
    o.no_failover = true;
    o.retries = -1;
    we_status st = we_client_open(&client, t->url, &o, &err);
    const gulong id = st ? 0 : g_cancellable_connect(cancel, G_CALLBACK(on_cancelled), client, NULL);
    if (!st) st = t->asks ? ask(client, &err) : we_client_models(client, count_model, &n, &err);
    if (id) g_cancellable_disconnect(cancel, id);
    we_client_close(client);
    const double s = (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    t->said = st        ? g_strdup(err.message)
              : t->asks ? g_strdup_printf(_("Answered after %.1f s"), s)
                        : g_strdup_printf(g_dngettext(GETTEXT_PACKAGE, "Answers, with %d model, after %.1f s",
                                                      "Answers, with %d models, after %.1f s", (gulong)n),
                                          n, s);
    g_task_return_boolean(task, !st);
}

static void test_start(prefs *p, const char *id, char *url, gboolean asks, GAsyncReadyCallback done)
{
    test *t = g_new0(test, 1);
    *t = (test){ .id = g_strdup(id), .url = url, .asks = asks };
    prefs_look(p, run_test, t, test_free, done);
}

/* ---- The chain ---- */

static void show_soon(prefs *p, int focus);

static void on_tested(GObject *source, GAsyncResult *result, gpointer user)
{
    const test *t = g_task_get_task_data(G_TASK(result));
    GError *error = NULL;
    (void)source;
    g_task_propagate_boolean(G_TASK(result), &error);
    if (error) return g_clear_error(&error); /* the dialog is gone */
    prefs *p = user;
    for (guint i = 0; i < p->backends->found->len; i++) {
        backend *b = p->backends->found->pdata[i];
        if (strcmp(b->id, t->id) != 0) continue;
        g_free(b->said);
        b->said = g_strdup(t->said);
        b->testing = FALSE;
    }
    show_soon(p, -1);
}

static prefs *prefs_of(GtkWidget *row) { return g_object_get_data(G_OBJECT(row), "prefs"); }

/* Where its backend is now: a second key may come before the rows are made anew. -1: nowhere. */
static int index_of(GtkWidget *row)
{
    const GPtrArray *found = prefs_of(row)->backends->found;
    const char *id = g_object_get_data(G_OBJECT(row), "id");
    for (guint i = 0; i < found->len; i++)
        if (strcmp(((backend *)found->pdata[i])->id, id) == 0) return (int)i;
    return -1;
}

/* Move one to another's place, and keep the order. */
static void move(prefs *p, int from, int to)
{
    GPtrArray *found = p->backends->found;
    if (from == to || from < 0 || to < 0 || from >= (int)found->len || to >= (int)found->len) return;
    g_ptr_array_insert(found, to, g_ptr_array_steal_index(found, (guint)from));
    GString *chain = g_string_new(NULL);
    for (guint i = 0; i < found->len; i++)
        g_string_append_printf(chain, "%s%s", i ? "," : "", ((backend *)found->pdata[i])->id);
    const gboolean usual = strcmp(chain->str, prefs_value("FALLBACK_CHAIN").default_value) == 0;
    prefs_write(p, "FALLBACK_CHAIN", usual ? NULL : chain->str);
    g_string_free(chain, TRUE);
    show_soon(p, to);
}

static void on_up(GtkWidget *row) { move(prefs_of(row), index_of(row), index_of(row) - 1); }
static void on_down(GtkWidget *row) { move(prefs_of(row), index_of(row), index_of(row) + 1); }

static gboolean on_key_move(GtkWidget *row, GVariant *args, gpointer user)
{
    (void)user;
    move(prefs_of(row), index_of(row), index_of(row) + g_variant_get_int32(args));
    return TRUE;
}

static GdkContentProvider *on_drag(GtkDragSource *source, double x, double y, gpointer row)
{
    GdkPaintable *picture = gtk_widget_paintable_new(row);
    gtk_drag_source_set_icon(source, picture, (int)x, (int)y);
    g_object_unref(picture);
    return gdk_content_provider_new_typed(G_TYPE_INT, index_of(row));
}

static gboolean on_drop(GtkDropTarget *target, const GValue *value, double x, double y, gpointer row)
{
    (void)target, (void)x, (void)y;
    move(prefs_of(row), g_value_get_int(value), index_of(row));
    return TRUE;
}

static void add_action(GtkWidget *row, GSimpleActionGroup *group, const char *name, gboolean enabled, GCallback fn)
{
    GSimpleAction *action = g_simple_action_new(name, NULL);
    g_simple_action_set_enabled(action, enabled);
    g_signal_connect_swapped(action, "activate", fn, row);
    g_action_map_add_action(G_ACTION_MAP(group), G_ACTION(action));
    g_object_unref(action);
}

static void add_moving(GtkWidget *row, int i, int n)
{
    GSimpleActionGroup *actions = g_simple_action_group_new();
    GMenu *menu = g_menu_new();
    GtkEventController *keys = gtk_shortcut_controller_new();
    GtkDragSource *drag = gtk_drag_source_new();
    GtkDropTarget *drop = gtk_drop_target_new(G_TYPE_INT, GDK_ACTION_MOVE);
    add_action(row, actions, "up", i > 0, G_CALLBACK(on_up));
    add_action(row, actions, "down", i + 1 < n, G_CALLBACK(on_down));
    gtk_widget_insert_action_group(row, "backend", G_ACTION_GROUP(actions));
    g_object_unref(actions);
    g_menu_append(menu, _("Move _Up"), "backend.up");
    g_menu_append(menu, _("Move _Down"), "backend.down");
    GtkWidget *button = desk_menu_button("view-more-symbolic", _("Order"), menu, FALSE);
    gtk_widget_add_css_class(button, "flat");
    gtk_widget_set_valign(button, GTK_ALIGN_CENTER);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), button);
    static const guint arrows[] = { GDK_KEY_Up, GDK_KEY_Down };
    for (int k = 0; k < 2; k++) {
        GtkShortcut *shortcut = gtk_shortcut_new(gtk_keyval_trigger_new(arrows[k], GDK_ALT_MASK),
                                                 gtk_callback_action_new(on_key_move, NULL, NULL));
        gtk_shortcut_set_arguments(shortcut, g_variant_new_int32(k ? 1 : -1));
        gtk_shortcut_controller_add_shortcut(GTK_SHORTCUT_CONTROLLER(keys), shortcut);
    }
    gtk_widget_add_controller(row, keys);
    gtk_drag_source_set_actions(drag, GDK_ACTION_MOVE);
    g_signal_connect(drag, "prepare", G_CALLBACK(on_drag), row);
    gtk_widget_add_controller(row, GTK_EVENT_CONTROLLER(drag));
    g_signal_connect(drop, "drop", G_CALLBACK(on_drop), row);
    gtk_widget_add_controller(row, GTK_EVENT_CONTROLLER(drop));
    GtkWidget *handle = gtk_image_new_from_icon_name("list-drag-handle-symbolic");
    gtk_widget_add_css_class(handle, "dim-label");
    adw_action_row_add_prefix(ADW_ACTION_ROW(row), handle);
}

static void on_test(GtkButton *button, gpointer row)
{
    prefs *p = prefs_of(row);
    const int at = index_of(row);
    (void)button;
    if (at < 0) return;
    backend *b = p->backends->found->pdata[at];
    b->testing = TRUE;
    test_start(p, b->id, g_strdup_printf("%s://%s", b->id, b->model), TRUE, on_tested);
    show_soon(p, at);
}

static GtkWidget *chain_row(prefs *p, int i, gboolean locked)
{
    const backend *b = p->backends->found->pdata[i];
    char *title = g_strdup_printf("%s%s%s", b->name, *b->version ? " " : "", b->version);
    GtkWidget *row = prefs_row(title, b->testing ? _("Asked for a word…") : b->said ? b->said : b->reason);
    GtkWidget *light =
        gtk_image_new_from_icon_name(b->available ? "we-light-green-symbolic" : "we-light-yellow-symbolic");
    g_object_set_data(G_OBJECT(row), "prefs", p);
    g_object_set_data_full(G_OBJECT(row), "id", g_strdup(b->id), g_free);
    gtk_widget_add_css_class(light, "light");
    gtk_widget_add_css_class(light, b->available ? "green" : "dim-label");
    gtk_accessible_update_property(GTK_ACCESSIBLE(light), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   b->available ? _("Available") : _("Not available"), -1);
    adw_action_row_add_prefix(ADW_ACTION_ROW(row), light);
    if (b->testing) {
        adw_action_row_add_suffix(ADW_ACTION_ROW(row),
                                  g_object_new(GTK_TYPE_SPINNER, "spinning", TRUE, "valign", GTK_ALIGN_CENTER, NULL));
    } else if (b->available && *b->model) {
        GtkWidget *button = gtk_button_new_with_label(_("Test"));
        char *name = g_strdup_printf(_("Test %s"), b->name);
        gtk_widget_add_css_class(button, "flat");
        gtk_widget_set_valign(button, GTK_ALIGN_CENTER);
        gtk_widget_set_tooltip_text(button, b->model);
        gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL, name, -1);
        g_signal_connect(button, "clicked", G_CALLBACK(on_test), row);
        adw_action_row_add_suffix(ADW_ACTION_ROW(row), button);
        g_free(name);
    }
    if (!locked) add_moving(row, i, (int)p->backends->found->len);
    g_free(title);
    return row;
}

static gboolean show_chain(gpointer user)
{
    prefs *p = user;
    prefs_backends *b = p->backends;
    const gboolean locked = prefs_is_locked("FALLBACK_CHAIN");
    GtkWidget *const focused = gtk_window_get_focus(GTK_WINDOW(p->window));
    b->shower = 0;
    for (guint i = 0; b->focus < 0 && focused && i < b->rows->len; i++)
        if (focused == b->rows->pdata[i] || gtk_widget_is_ancestor(focused, b->rows->pdata[i])) b->focus = (int)i;
    prefs_clear(b->chain, b->rows);
    for (guint i = 0; i < b->found->len; i++) {
        GtkWidget *row = chain_row(p, (int)i, locked);
        g_ptr_array_add(b->rows, row);
        prefs_add(b->chain, row);
        if ((int)i == b->focus) gtk_widget_grab_focus(row);
    }
    return G_SOURCE_REMOVE;
}

/* focus: the row that gets it; -1: who has it keeps it, or gets it as was asked for just before. */
static void show_soon(prefs *p, int focus)
{
    if (focus >= 0 || !p->backends->shower) p->backends->focus = focus;
    if (!p->backends->shower) p->backends->shower = g_idle_add(show_chain, p);
}

static void on_detected(GObject *source, GAsyncResult *result, gpointer user)
{
    GError *error = NULL;
    GPtrArray *found = g_task_propagate_pointer(G_TASK(result), &error);
    (void)source;
    if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        prefs *p = user;
        if (found) {
            g_ptr_array_unref(p->backends->found);
            p->backends->found = found;
            show_soon(p, -1);
        } else { /* FALLBACK_CHAIN says what is none */
            char *text = g_markup_escape_text(error->message, -1);
            adw_preferences_group_set_description(ADW_PREFERENCES_GROUP(p->backends->chain), text);
            g_free(text);
        }
    }
    g_clear_error(&error);
}

static void check_again(prefs *p) { prefs_look(p, detect, NULL, NULL, on_detected); }

/* ---- The server and its key ---- */

static const prefs_variable server[] = {
    { "LLM_CHAT_API_URL", PREFS_TEXT, TRUE, N_("Address"), NULL, NULL, 0, 0, 0, 0, NULL, NULL },
};

static const prefs_variable hosts[] = {
    { "OLLAMA_HOST", PREFS_TEXT, TRUE, N_("Ollama"), NULL, NULL, 0, 0, 0, 0, NULL, NULL },
    { "LMSTUDIO_HOST", PREFS_TEXT, TRUE, N_("LM Studio"), NULL, NULL, 0, 0, 0, 0, NULL, NULL },
};

#define KEY "LLM_CHAT_API_KEY"

/* Where the key is. missing: no secret service answered when it was kept. */
static void show_kept(prefs *p, gboolean missing)
{
    const we_config_value v = prefs_value(KEY);
    char *locked = v.source == WE_CONFIG_ENVIRONMENT ? prefs_locked_text(KEY) : NULL;
    char *text = locked            ? g_strdup(locked)
                 : !v.value        ? g_strdup(_("No key is kept."))
                 : v.is_in_service ? g_strdup(_("In the secret service of this session"))
                 : missing && v.path
                     ? g_strdup_printf(_("In %s, which only you can read: no secret service answers here"), v.path)
                 : v.path ? g_strdup_printf(_("In %s, which only you can read"), v.path)
                          : g_strdup("");
    adw_action_row_set_subtitle(ADW_ACTION_ROW(p->backends->kept), text);
    gtk_widget_set_sensitive(p->backends->key, !locked);
    g_free(locked);
    g_free(text);
}

typedef struct keeping {
    char *key; /* NULL: it is taken out */
    gboolean missing;
} keeping;

static void keeping_free(gpointer data)
{
    keeping *k = data;
    g_free(k->key);
    g_free(k);
}

static void keep(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    keeping *k = data;
    we_error err = { 0 };
    (void)source, (void)cancel;
    we_status st = k->key ? we_config_keep_secret(KEY, k->key, &err) : we_config_set(KEY, NULL, &err);
    k->missing = st == WE_E_UNSUPPORTED;
    if (k->missing) st = we_config_set(KEY, k->key, &err);
    if (st)
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_FAILED, "%s", err.message);
    else
        g_task_return_boolean(task, TRUE);
}

static void on_kept(GObject *source, GAsyncResult *result, gpointer user)
{
    const keeping *k = g_task_get_task_data(G_TASK(result));
    GError *error = NULL;
    (void)source;
    g_task_propagate_boolean(G_TASK(result), &error);
    if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        prefs *p = user;
        if (error) prefs_toast(p, error->message);
        show_kept(p, k->missing);
        prefs_reload(p);
    }
    g_clear_error(&error);
}

static void on_key(AdwEntryRow *entry, gpointer user)
{
    keeping *k = g_new0(keeping, 1);
    char *text = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(entry))));
    if (*text)
        k->key = text;
    else
        g_free(text);
    prefs_look(user, keep, k, keeping_free, on_kept);
}

static void on_connection(GObject *source, GAsyncResult *result, gpointer user)
{
    const test *t = g_task_get_task_data(G_TASK(result));
    GError *error = NULL;
    (void)source;
    g_task_propagate_boolean(G_TASK(result), &error);
    if (error) return g_clear_error(&error);
    prefs *p = user;
    adw_action_row_set_subtitle(ADW_ACTION_ROW(p->backends->connection), t->said);
}

static void test_connection(prefs *p)
{
    const we_config_value v = prefs_value("LLM_CHAT_API_URL");
    if (!v.value) {
        adw_action_row_set_subtitle(ADW_ACTION_ROW(p->backends->connection), _("Write an address first."));
        return;
    }
    adw_action_row_set_subtitle(ADW_ACTION_ROW(p->backends->connection), _("Asking…"));
    test_start(p, "", NULL, FALSE, on_connection);
}

static void add_server(prefs *p, GtkWidget *page)
{
    prefs_backends *b = p->backends;
    GtkWidget *group =
        prefs_group(page, _("Server for New Chats"),
                    _("Like https://api.example.com/v1#MODEL or ollama://MODEL. A change counts at once."));
    prefs_add_variables(p, group, server, G_N_ELEMENTS(server));
    b->key = g_object_new(ADW_TYPE_PASSWORD_ENTRY_ROW, "title", _("API Key"), "show-apply-button", TRUE, NULL);
    g_signal_connect(b->key, "apply", G_CALLBACK(on_key), p);
    prefs_add(group, b->key);
    b->kept = prefs_row(_("Where the Key Is"), NULL);
    prefs_add(group, b->kept);
    b->connection = prefs_row(_("Connection"), _("Asks the server for its models"));
    GtkWidget *button = gtk_button_new_with_label(_("Test"));
    gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Test the Connection"), -1);
    gtk_widget_set_valign(button, GTK_ALIGN_CENTER);
    gtk_widget_add_css_class(button, "flat");
    g_signal_connect_swapped(button, "clicked", G_CALLBACK(test_connection), p);
    adw_action_row_add_suffix(ADW_ACTION_ROW(b->connection), button);
    prefs_add(group, b->connection);
    show_kept(p, FALSE);
}

/* ---- The page ---- */

void prefs_backends_free(prefs_backends *b)
{
    g_clear_handle_id(&b->shower, g_source_remove);
    g_ptr_array_unref(b->rows);
    g_ptr_array_unref(b->found);
    g_free(b);
}

void prefs_backends_page(prefs *p)
{
    prefs_backends *b = p->backends = g_new0(prefs_backends, 1);
    GtkWidget *page = prefs_page(p, _("Backends"), "network-server-symbolic");
    GtkWidget *check = gtk_button_new_with_mnemonic(_("_Check Again"));
    char *locked = prefs_is_locked("FALLBACK_CHAIN") ? prefs_locked_text("FALLBACK_CHAIN") : NULL;
    b->rows = g_ptr_array_new();
    b->found = g_ptr_array_new_with_free_func(backend_free);
    b->chain = prefs_group(
        page, _("Who Can Answer"),
        locked ? locked : _("Where one fails, the next takes over. Drag them, or press Alt+Up and Alt+Down."));
    g_free(locked);
    gtk_widget_add_css_class(check, "flat");
    gtk_widget_set_valign(check, GTK_ALIGN_CENTER);
    g_signal_connect_swapped(check, "clicked", G_CALLBACK(check_again), p);
    adw_preferences_group_set_header_suffix(ADW_PREFERENCES_GROUP(b->chain), check);
    add_server(p, page);
    GtkWidget *addresses =
        prefs_group(page, _("Addresses"), _("Empty fields mean the usual ones. A change counts at once."));
    prefs_add_variables(p, addresses, hosts, G_N_ELEMENTS(hosts));
    check_again(p);
}
