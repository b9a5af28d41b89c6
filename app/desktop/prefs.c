/* SPDX-License-Identifier: Apache-2.0
 * prefs.c - the settings dialog. What other programs share is the library's configuration: rows read and write it
 * (we_config_get, we_config_set), and what the environment sets is shown and locked. What only this program knows is in
 * app->settings. Models and backends are looked up on threads; downloads run on one each and end with the program.
 *
 * When a change counts: sampling from the next answer on; what belongs to the loaded model (memory, context, threads) when it
 * loads, which a change brings about. */
#include "app.h"

typedef struct prefs {
    desk_app *app;
    GtkWidget *window;
    GtkWidget *installed, *offered, *chain; /* groups that are filled later */
    GPtrArray *installed_rows, *offered_rows, *chain_rows;
    GtkWidget *context_row, *name_row;
    GCancellable *cancel; /* look-ups end with the dialog */
} prefs;

static void toast(prefs *p, const char *text)
{
    char *escaped = g_markup_escape_text(text, -1);
    adw_preferences_window_add_toast(ADW_PREFERENCES_WINDOW(p->window), adw_toast_new(escaped));
    g_free(escaped);
}

static GtkWidget *page(prefs *p, const char *title, const char *icon)
{
    GtkWidget *page = g_object_new(ADW_TYPE_PREFERENCES_PAGE, "title", title, "icon-name", icon, NULL);
    adw_preferences_window_add(ADW_PREFERENCES_WINDOW(p->window), ADW_PREFERENCES_PAGE(page));
    return page;
}

static GtkWidget *group(GtkWidget *page, const char *title, const char *description)
{
    GtkWidget *group = g_object_new(ADW_TYPE_PREFERENCES_GROUP, "title", title, "description", description, NULL);
    adw_preferences_page_add(ADW_PREFERENCES_PAGE(page), ADW_PREFERENCES_GROUP(group));
    return group;
}

static void add(GtkWidget *group, GtkWidget *row) { adw_preferences_group_add(ADW_PREFERENCES_GROUP(group), row); }

/* Rows of a group that are made anew. */
static void clear_rows(GtkWidget *group, GPtrArray *rows)
{
    for (guint i = 0; i < rows->len; i++) adw_preferences_group_remove(ADW_PREFERENCES_GROUP(group), rows->pdata[i]);
    g_ptr_array_set_size(rows, 0);
}

static GtkWidget *plain_row(const char *title, const char *subtitle)
{
    return g_object_new(ADW_TYPE_ACTION_ROW, "use-markup", FALSE, "title", title, "subtitle", subtitle, "title-lines",
                        1, "subtitle-lines", 3, NULL);
}

/* A control at a row's end. libadwaita lets a screen reader call it what the row is called. */
static void add_control(GtkWidget *row, GtkWidget *control)
{
    gtk_widget_set_valign(control, GTK_ALIGN_CENTER);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), control);
    adw_action_row_set_activatable_widget(ADW_ACTION_ROW(row), control);
}

static GtkWidget *row_button(const char *icon, const char *name)
{
    GtkWidget *button = gtk_button_new_from_icon_name(icon);
    gtk_widget_add_css_class(button, "flat");
    gtk_widget_set_valign(button, GTK_ALIGN_CENTER);
    gtk_widget_set_tooltip_text(button, name);
    gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL, name, -1);
    return button;
}

/* ---- Variables of the configuration ---- */

typedef struct variable {
    prefs *p;
    const char *name; /* static */
    gboolean reloads; /* the loaded model must be loaded again */
    GtkWidget *row;
    GtkSwitch *toggle; /* NULL: an entry */
} variable;

static we_config_value look_up(const char *name)
{
    we_config_value v = { .size = sizeof v };
    we_config_get(name, &v, NULL);
    return v;
}

static void after_change(const variable *v)
{
    if (!v->reloads) return;
    desk_engine_unload(v->p->app->engine);
    if (v->p->app->current) desk_app_load_for(v->p->app, v->p->app->current);
}

static gboolean write_variable(const variable *v, const char *value)
{
    we_error err = { 0 };
    if (we_config_set(v->name, value, &err)) {
        toast(v->p, err.message);
        return FALSE;
    }
    after_change(v);
    return TRUE;
}

static void on_apply(AdwEntryRow *row, gpointer user)
{
    const variable *v = user;
    char *text = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(row))));
    const gboolean good = write_variable(v, *text ? text : NULL);
    if (good)
        gtk_widget_remove_css_class(GTK_WIDGET(row), "error");
    else
        gtk_widget_add_css_class(GTK_WIDGET(row), "error");
    g_free(text);
}

static gboolean on_toggle(GtkSwitch *toggle, gboolean on, gpointer user)
{
    const variable *v = user;
    if (on != gtk_switch_get_state(toggle) && !write_variable(v, on ? "true" : NULL)) return TRUE;
    gtk_switch_set_state(toggle, on);
    return TRUE;
}

/* What the environment says cannot be changed here. */
static gboolean is_locked(const we_config_value *v) { return v->source == WE_CONFIG_ENVIRONMENT; }

static void add_entry(prefs *p, GtkWidget *to, const char *name, const char *title, gboolean reloads)
{
    const we_config_value value = look_up(name);
    variable *v = g_new0(variable, 1);
    char *full = is_locked(&value)                ? g_strdup_printf(_("%s (set by the environment)"), title)
                 : value.is_secret && value.value ? g_strdup_printf(_("%s (is set)"), title)
                 : value.is_secret || !*value.default_value || strcmp(value.default_value, "not set") == 0
                     ? g_strdup(title)
                     : g_strdup_printf("%s (%s)", title, value.default_value);
    *v = (variable){ p, name, reloads, NULL, NULL };
    v->row = g_object_new(value.is_secret ? ADW_TYPE_PASSWORD_ENTRY_ROW : ADW_TYPE_ENTRY_ROW, "use-markup", FALSE,
                          "title", full, "show-apply-button", TRUE, "tooltip-text", value.help, NULL);
    if (value.value && !value.is_secret) gtk_editable_set_text(GTK_EDITABLE(v->row), value.value);
    if (!value.is_valid && value.value) gtk_widget_add_css_class(v->row, "error");
    gtk_widget_set_sensitive(v->row, !is_locked(&value));
    g_signal_connect_data(v->row, "apply", G_CALLBACK(on_apply), v, (GClosureNotify)(void (*)(void))g_free, 0);
    add(to, v->row);
    g_free(full);
}

static void add_switch(prefs *p, GtkWidget *to, const char *name, const char *title, const char *subtitle,
                       gboolean reloads)
{
    const we_config_value value = look_up(name);
    variable *v = g_new0(variable, 1);
    const gboolean on = value.value && strcmp(value.value, "false") != 0 && strcmp(value.value, "0") != 0;
    *v = (variable){ p, name, reloads, NULL, GTK_SWITCH(gtk_switch_new()) };
    v->row = plain_row(title, is_locked(&value) ? _("Set by the environment") : subtitle);
    gtk_switch_set_active(v->toggle, on);
    gtk_switch_set_state(v->toggle, on);
    add_control(v->row, GTK_WIDGET(v->toggle));
    gtk_widget_set_sensitive(v->row, !is_locked(&value));
    g_signal_connect_data(v->toggle, "state-set", G_CALLBACK(on_toggle), v, (GClosureNotify)(void (*)(void))g_free, 0);
    add(to, v->row);
}

/* ---- This program's own settings ---- */

static void settings_changed(prefs *p)
{
    desk_app_settings_changed(p->app);
    desk_app_save_settings(p->app);
}

static void on_own_switch(GtkSwitch *toggle, GParamSpec *spec, gpointer user)
{
    gboolean *value = g_object_get_data(G_OBJECT(toggle), "value");
    (void)spec;
    *value = gtk_switch_get_active(toggle);
    settings_changed(user);
}

static void add_own_switch(prefs *p, GtkWidget *to, gboolean *value, const char *title, const char *subtitle)
{
    GtkWidget *row = plain_row(title, subtitle), *toggle = gtk_switch_new();
    gtk_switch_set_active(GTK_SWITCH(toggle), *value);
    g_object_set_data(G_OBJECT(toggle), "value", value);
    add_control(row, toggle);
    g_signal_connect(toggle, "notify::active", G_CALLBACK(on_own_switch), p);
    add(to, row);
}

static void show_context_memory(prefs *p);

static void on_spin(GtkSpinButton *spin, gpointer user)
{
    prefs *p = user;
    int *value = g_object_get_data(G_OBJECT(spin), "value");
    *value = gtk_spin_button_get_value_as_int(spin);
    settings_changed(p);
    if (value == &p->app->settings.context) show_context_memory(p);
}

static GtkWidget *add_spin(prefs *p, GtkWidget *to, int *value, int most, int step, const char *title,
                           const char *subtitle)
{
    GtkWidget *row = plain_row(title, subtitle), *spin = gtk_spin_button_new_with_range(0, most, step);
    gtk_spin_button_set_value(GTK_SPIN_BUTTON(spin), *value);
    g_object_set_data(G_OBJECT(spin), "value", value);
    add_control(row, spin);
    g_signal_connect(spin, "value-changed", G_CALLBACK(on_spin), p);
    add(to, row);
    return row;
}

static void on_scheme(AdwComboRow *row, GParamSpec *spec, gpointer user)
{
    static const int schemes[] = { ADW_COLOR_SCHEME_DEFAULT, ADW_COLOR_SCHEME_FORCE_LIGHT,
                                   ADW_COLOR_SCHEME_FORCE_DARK };
    prefs *p = user;
    (void)spec;
    p->app->settings.color_scheme = schemes[MIN(adw_combo_row_get_selected(row), 2)];
    settings_changed(p);
}

static void on_kv_bits(AdwComboRow *row, GParamSpec *spec, gpointer user)
{
    static const int bits[] = { 0, 8, 4 };
    prefs *p = user;
    (void)spec;
    p->app->settings.kv_bits = bits[MIN(adw_combo_row_get_selected(row), 2)];
    settings_changed(p);
    show_context_memory(p);
}

static void add_combo(prefs *p, GtkWidget *to, const char *title, const char *subtitle, const char *const *names,
                      guint selected, GCallback fn)
{
    GtkStringList *model = gtk_string_list_new(names);
    GtkWidget *row = g_object_new(ADW_TYPE_COMBO_ROW, "title", title, "subtitle", subtitle, "model", model, "selected",
                                  selected, NULL);
    g_signal_connect(row, "notify::selected", fn, p);
    g_object_unref(model);
    add(to, row);
}

static void on_system(AdwEntryRow *row, gpointer user)
{
    prefs *p = user;
    g_free(p->app->settings.system);
    p->app->settings.system = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(row))));
    settings_changed(p);
}

static void general_page(prefs *p)
{
    const char *const schemes[] = { _("Follow the System"), _("Light"), _("Dark"), NULL };
    desk_settings *s = &p->app->settings;
    GtkWidget *where = page(p, _("General"), "preferences-system-symbolic");
    GtkWidget *look = group(where, _("Appearance"), NULL), *chats = group(where, _("Chats"), NULL);
    const guint scheme = s->color_scheme == ADW_COLOR_SCHEME_FORCE_LIGHT  ? 1
                         : s->color_scheme == ADW_COLOR_SCHEME_FORCE_DARK ? 2
                                                                          : 0;
    add_combo(p, look, _("Style"), NULL, schemes, scheme, G_CALLBACK(on_scheme));
    add_own_switch(p, look, &s->background, _("Keep Running When Closed"),
                   _("The model stays in memory; open the window again from the tray or the applications"));
    add_own_switch(p, chats, &s->send_with_ctrl, _("Send With Ctrl+Enter"), _("Enter alone then begins a new line"));
    GtkWidget *system =
        g_object_new(ADW_TYPE_ENTRY_ROW, "title", _("System Prompt of New Chats"), "show-apply-button", TRUE, NULL);
    gtk_editable_set_text(GTK_EDITABLE(system), s->system);
    g_signal_connect(system, "apply", G_CALLBACK(on_system), p);
    add(chats, system);
}

/* ---- How much memory a context takes ---- */

typedef struct inspection {
    char *model;
    we_model_options options;
    uint64_t kv_bytes;
    int context;
    gboolean known;
} inspection;

static void inspection_free(gpointer data)
{
    inspection *i = data;
    g_free(i->model);
    g_free(i);
}

static void inspect(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    inspection *i = data;
    we_model_info info = { .size = sizeof info };
    char type[64], quantization[128], *path = NULL;
    (void)source, (void)cancel;
    if (!we_model_find(i->model, &path, NULL) &&
        !we_model_inspect(path, &i->options, &info, type, quantization, NULL)) {
        i->known = TRUE;
        i->kv_bytes = info.kv_bytes_at_context;
        i->context = info.context;
    }
    we_free(path);
    g_task_return_boolean(task, TRUE);
}

static void on_inspected(GObject *source, GAsyncResult *result, gpointer user)
{
    const inspection *i = g_task_get_task_data(G_TASK(result));
    char bytes[24];
    (void)source;
    if (!g_task_propagate_boolean(G_TASK(result), NULL)) return; /* the dialog is gone */
    prefs *p = user;
    char *text = i->known ? g_strdup_printf(_("%d tokens take %s of memory; 0 takes the model's own, at most 8192"),
                                            i->context, we_format_bytes(bytes, i->kv_bytes))
                          : g_strdup(_("In tokens; 0 takes the model's own, at most 8192"));
    adw_action_row_set_subtitle(ADW_ACTION_ROW(p->context_row), text);
    g_free(text);
}

static void show_context_memory(prefs *p)
{
    const char *url = p->app->current ? p->app->current->head->model : "";
    const we_config_value configured = look_up("MLX_MODEL_NAME");
    inspection *i = g_new0(inspection, 1);
    i->model = g_strdup(g_str_has_prefix(url, "mlx://") ? url + 6 : configured.value ? configured.value : "default");
    i->options = (we_model_options)WE_MODEL_OPTIONS_INIT;
    i->options.context = p->app->settings.context;
    i->options.kv_bits = p->app->settings.kv_bits;
    GTask *task = g_task_new(NULL, p->cancel, on_inspected, p);
    g_task_set_task_data(task, i, inspection_free);
    g_task_run_in_thread(task, inspect);
    g_object_unref(task);
}

static void tuning_page(prefs *p)
{
    const char *const bits[] = { _("16 bits"), _("8 bits"), _("4 bits"), NULL };
    desk_settings *s = &p->app->settings;
    GtkWidget *where = page(p, _("Tuning"), "preferences-other-symbolic");
    GtkWidget *answers = group(where, _("Answers"), _("These count from the next answer on."));
    GtkWidget *memory = group(where, _("Memory"), _("A change loads the model again."));
    add_entry(p, answers, "MLX_TEMPERATURE", _("Temperature"), FALSE);
    add_entry(p, answers, "MLX_TOP_P", _("Top-p"), FALSE);
    add_entry(p, answers, "MLX_MAX_TOKENS", _("Most Tokens of an Answer"), FALSE);
    p->context_row = add_spin(p, memory, &s->context, 1 << 20, 1024, _("Context Length"), "");
    add_combo(p, memory, _("KV Cache"), _("Fewer bits hold longer chats in the same memory, a little less exactly"),
              bits,
              s->kv_bits == 8   ? 1
              : s->kv_bits == 4 ? 2
                                : 0,
              G_CALLBACK(on_kv_bits));
    add_entry(p, memory, "MLX_MEMORY_POOL_SIZE", _("Memory Limit in MB"), TRUE);
    add_switch(p, memory, "MLX_QUANTIZATION", _("Quantize Large Models"),
               _("Unquantized models are packed to 4 bits when they first load"), TRUE);
    add_spin(p, memory, &s->threads, 256, 1, _("Threads"), _("0 uses every core"));
    add_spin(p, memory, &s->unload_minutes, 1440, 5, _("Unload When Idle"),
             _("After so many minutes; 0 keeps the model in memory"));
    show_context_memory(p);
}

/* ---- Models ---- */

typedef struct model {
    char *name, *label, *subtitle, *command;
    gboolean can_remove, is_offer, suits;
} model;

static void model_free(gpointer data)
{
    model *m = data;
    g_free(m->name);
    g_free(m->label);
    g_free(m->subtitle);
    g_free(m->command);
    g_free(m);
}

static bool add_installed(void *user, const we_model_entry *e)
{
    char bytes[24];
    model *m = g_new0(model, 1);
    m->name = g_strdup(e->name);
    m->label = g_strdup(desk_model_name(e->name));
    m->subtitle = e->runnable
                      ? g_strdup_printf("%s · %s · %s", we_format_bytes(bytes, e->bytes), e->quantization, e->source)
                      : g_strdup_printf(_("%s · %s · cannot run here"), we_format_bytes(bytes, e->bytes), e->source);
    m->can_remove = strcmp(e->source, "models") == 0 || strcmp(e->source, "hugging face cache") == 0;
    m->suits = e->runnable;
    g_ptr_array_add(user, m);
    return true;
}

static bool add_offer(void *user, const we_recommendation *r)
{
    char bytes[24];
    if (r->is_here) return true;
    model *m = g_new0(model, 1);
    m->is_offer = TRUE;
    m->name = g_strdup(r->name);
    m->label = r->is_recommended ? g_strdup_printf(_("%s (recommended)"), r->name) : g_strdup(r->name);
    m->subtitle =
        r->fits && r->tokens_per_second > 0
            ? g_strdup_printf(_("%s · fits, about %.0f tokens/s"), we_format_bytes(bytes, r->download_bytes),
                              r->tokens_per_second)
        : r->fits ? g_strdup_printf(_("%s · fits"), we_format_bytes(bytes, r->download_bytes))
                  : g_strdup_printf(_("%s · too large for this computer"), we_format_bytes(bytes, r->download_bytes));
    m->suits = r->fits;
    g_ptr_array_add(user, m);
    return true;
}

static void list_models(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(model_free);
    (void)source, (void)data, (void)cancel;
    we_models_list(add_installed, out, NULL);
    we_recommend_each(NULL, NULL, add_offer, out, NULL);
    g_task_return_pointer(task, out, (GDestroyNotify)g_ptr_array_unref);
}

static void reload_models(prefs *p);

/* A download lives on when the dialog closes; it ends with the program. */
typedef struct download {
    desk_app *app;
    char *name;
    int refs;            /* the thread's and the row's */
    int cancelled, gone; /* atomic; gone: the row */
    GtkWidget *bar, *stack;
    prefs *p;
    uint64_t done, total;
    GMutex lock;
    int told;
} download;

static void download_unref(gpointer data)
{
    download *d = data;
    if (!g_atomic_int_dec_and_test(&d->refs)) return;
    g_mutex_clear(&d->lock);
    g_free(d->name);
    g_free(d);
}

static gboolean show_progress(gpointer data)
{
    download *d = data;
    char done[24], total[24];
    g_atomic_int_set(&d->told, 0);
    if (g_atomic_int_get(&d->gone)) return G_SOURCE_REMOVE;
    g_mutex_lock(&d->lock);
    const uint64_t n = d->done, of = d->total;
    g_mutex_unlock(&d->lock);
    char *text = of ? g_strdup_printf(_("%s of %s"), we_format_bytes(done, n), we_format_bytes(total, of))
                    : g_strdup(_("Asking the hub…"));
    gtk_progress_bar_set_fraction(GTK_PROGRESS_BAR(d->bar), of ? (double)n / (double)of : 0);
    gtk_progress_bar_set_text(GTK_PROGRESS_BAR(d->bar), text);
    g_free(text);
    return G_SOURCE_REMOVE;
}

static bool on_progress(void *user, const we_pull_progress *progress)
{
    download *d = user;
    g_mutex_lock(&d->lock);
    d->done = progress->done_bytes;
    d->total = progress->total_bytes;
    g_mutex_unlock(&d->lock);
    if (g_atomic_int_compare_and_exchange(&d->told, 0, 1)) {
        g_atomic_int_inc(&d->refs);
        g_idle_add_full(G_PRIORITY_DEFAULT_IDLE, show_progress, d, download_unref);
    }
    return !g_atomic_int_get(&d->cancelled);
}

static void pull(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    download *d = data;
    we_error err = { 0 };
    we_pull_options o = WE_PULL_OPTIONS_INIT;
    char *path = NULL;
    (void)source, (void)cancel;
    o.progress = on_progress;
    o.progress_user = d;
    const we_status st = we_model_pull(d->name, &o, &path, &err);
    we_free(path);
    if (st)
        g_task_return_new_error(task, G_IO_ERROR, st == WE_E_CANCELLED ? G_IO_ERROR_CANCELLED : G_IO_ERROR_FAILED, "%s",
                                err.message);
    else
        g_task_return_boolean(task, TRUE);
}

static void on_pulled(GObject *source, GAsyncResult *result, gpointer user)
{
    download *d = g_task_get_task_data(G_TASK(result));
    GError *error = NULL;
    const gboolean good = g_task_propagate_boolean(G_TASK(result), &error);
    const gboolean cancelled = g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    (void)source, (void)user;
    char *text = good ? g_strdup_printf(_("%s is ready"), d->name)
                      : g_strdup_printf(_("%s was not downloaded: %s"), d->name, error ? error->message : "");
    if (!g_atomic_int_get(&d->gone)) {
        if (!cancelled) toast(d->p, text);
        gtk_stack_set_visible_child_name(GTK_STACK(d->stack), "button");
        if (good) reload_models(d->p);
    } else if (!cancelled) {
        GNotification *n = g_notification_new(good ? _("Download Complete") : _("Download Failed"));
        g_notification_set_body(n, text);
        g_application_send_notification(G_APPLICATION(d->app->gtk), d->name, n);
        g_object_unref(n);
    }
    g_clear_error(&error);
    g_free(text);
}

static void on_row_gone(gpointer data)
{
    download *d = data;
    g_atomic_int_set(&d->gone, 1);
    download_unref(d);
}

static void on_cancel(GtkButton *button, gpointer user)
{
    download *d = g_object_get_data(G_OBJECT(user), "download");
    (void)button;
    if (d) g_atomic_int_set(&d->cancelled, 1);
}

static void start_download(prefs *p, GtkWidget *stack, GtkWidget *bar, const char *name)
{
    download *d = g_new0(download, 1);
    *d = (download){ .app = p->app, .name = g_strdup(name), .refs = 2, .bar = bar, .stack = stack, .p = p };
    g_mutex_init(&d->lock);
    g_object_set_data_full(G_OBJECT(stack), "download", d, on_row_gone);
    gtk_progress_bar_set_fraction(GTK_PROGRESS_BAR(bar), 0);
    gtk_progress_bar_set_text(GTK_PROGRESS_BAR(bar), _("Asking the hub…"));
    gtk_stack_set_visible_child_name(GTK_STACK(stack), "progress");
    GTask *task = g_task_new(NULL, NULL, on_pulled, NULL);
    g_task_set_task_data(task, d, download_unref);
    g_task_run_in_thread(task, pull);
    g_object_unref(task);
}

static void on_download(GtkButton *button, gpointer user)
{
    GtkWidget *stack = g_object_get_data(G_OBJECT(button), "stack");
    start_download(user, stack, g_object_get_data(G_OBJECT(stack), "bar"), g_object_get_data(G_OBJECT(stack), "name"));
}

/* The suffix of a row: a button, or the progress of what it began. */
static GtkWidget *download_suffix(prefs *p, const char *name)
{
    GtkWidget *stack = gtk_stack_new(), *button = row_button("folder-download-symbolic", _("Download"));
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6), *bar = gtk_progress_bar_new();
    GtkWidget *cancel = row_button("window-close-symbolic", _("Cancel"));
    gtk_stack_set_hhomogeneous(GTK_STACK(stack), FALSE);
    g_object_set(bar, "show-text", TRUE, "valign", GTK_ALIGN_CENTER, "width-request", 150, NULL);
    gtk_box_append(GTK_BOX(box), bar);
    gtk_box_append(GTK_BOX(box), cancel);
    gtk_stack_add_named(GTK_STACK(stack), button, "button");
    gtk_stack_add_named(GTK_STACK(stack), box, "progress");
    g_object_set_data_full(G_OBJECT(stack), "name", g_strdup(name), g_free);
    g_object_set_data(G_OBJECT(stack), "bar", bar);
    g_object_set_data(G_OBJECT(button), "stack", stack);
    g_signal_connect(button, "clicked", G_CALLBACK(on_download), p);
    g_signal_connect(cancel, "clicked", G_CALLBACK(on_cancel), stack);
    return stack;
}

/* ---- Removing a model ---- */

static void remove_model(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    we_error err = { 0 };
    we_removal plan = { .size = sizeof plan };
    (void)source, (void)cancel;
    we_status st = we_model_removal_plan(&plan, data, &err);
    if (!st) st = we_model_removal_run(&plan, &err);
    we_model_removal_deinit(&plan);
    if (st)
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_FAILED, "%s", err.message);
    else
        g_task_return_boolean(task, TRUE);
}

static void on_removed(GObject *source, GAsyncResult *result, gpointer user)
{
    GError *error = NULL;
    const gboolean good = g_task_propagate_boolean(G_TASK(result), &error);
    (void)source;
    if (good || !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        prefs *p = user;
        toast(p, good ? _("Model deleted") : error->message);
        reload_models(p);
    }
    g_clear_error(&error);
}

static void on_remove_answer(AdwMessageDialog *dialog, const char *response, gpointer user)
{
    prefs *p = user;
    if (strcmp(response, "delete") != 0) return;
    GTask *task = g_task_new(NULL, p->cancel, on_removed, p);
    g_task_set_task_data(task, g_strdup(g_object_get_data(G_OBJECT(dialog), "name")), g_free);
    g_task_run_in_thread(task, remove_model);
    g_object_unref(task);
}

static void on_remove(GtkButton *button, gpointer user)
{
    prefs *p = user;
    const char *name = g_object_get_data(G_OBJECT(button), "name");
    GtkWidget *dialog = adw_message_dialog_new(GTK_WINDOW(p->window), _("Delete This Model?"), NULL);
    adw_message_dialog_format_body(ADW_MESSAGE_DIALOG(dialog),
                                   _("%s is removed from the disk. It can be downloaded again."), name);
    adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(dialog), "cancel", _("_Cancel"), "delete", _("_Delete"), NULL);
    adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(dialog), "delete", ADW_RESPONSE_DESTRUCTIVE);
    g_object_set_data_full(G_OBJECT(dialog), "name", g_strdup(name), g_free);
    g_signal_connect(dialog, "response", G_CALLBACK(on_remove_answer), p);
    gtk_window_present(GTK_WINDOW(dialog));
}

/* ---- The list of models ---- */

static void on_default(GtkCheckButton *check, gpointer user)
{
    prefs *p = user;
    we_error err = { 0 };
    const char *name = g_object_get_data(G_OBJECT(check), "name");
    if (!gtk_check_button_get_active(check)) return;
    if (we_config_set("MLX_MODEL_NAME", strcmp(name, "default") == 0 ? NULL : name, &err)) return toast(p, err.message);
    if (p->app->current && !*p->app->current->head->model) {
        desk_engine_unload(p->app->engine); /* "" now means another model */
        desk_app_load_for(p->app, p->app->current);
    }
}

static void add_model_row(prefs *p, const model *m, const char *chosen, gboolean locked, GtkWidget **first_check)
{
    GtkWidget *row = plain_row(m->label, m->subtitle);
    if (m->is_offer) {
        GtkWidget *suffix = download_suffix(p, m->name);
        adw_action_row_add_suffix(ADW_ACTION_ROW(row), suffix);
        gtk_widget_set_sensitive(suffix, m->suits);
        add(p->offered, row);
        g_ptr_array_add(p->offered_rows, row);
        return;
    }
    GtkWidget *check = gtk_check_button_new();
    gtk_accessible_update_property(GTK_ACCESSIBLE(check), GTK_ACCESSIBLE_PROPERTY_LABEL, m->label, -1);
    gtk_widget_set_valign(check, GTK_ALIGN_CENTER);
    if (*first_check)
        gtk_check_button_set_group(GTK_CHECK_BUTTON(check), GTK_CHECK_BUTTON(*first_check));
    else
        *first_check = check;
    gtk_check_button_set_active(GTK_CHECK_BUTTON(check), strcmp(m->name, chosen) == 0);
    gtk_widget_set_sensitive(check, m->suits && !locked);
    g_object_set_data_full(G_OBJECT(check), "name", g_strdup(m->name), g_free);
    g_signal_connect(check, "toggled", G_CALLBACK(on_default), p);
    adw_action_row_add_prefix(ADW_ACTION_ROW(row), check);
    adw_action_row_set_activatable_widget(ADW_ACTION_ROW(row), check);
    if (m->can_remove) {
        GtkWidget *button = row_button("user-trash-symbolic", _("Delete"));
        g_object_set_data_full(G_OBJECT(button), "name", g_strdup(m->name), g_free);
        g_signal_connect(button, "clicked", G_CALLBACK(on_remove), p);
        adw_action_row_add_suffix(ADW_ACTION_ROW(row), button);
    }
    add(p->installed, row);
    g_ptr_array_add(p->installed_rows, row);
}

static void on_models(GObject *source, GAsyncResult *result, gpointer user)
{
    GPtrArray *all = g_task_propagate_pointer(G_TASK(result), NULL);
    const we_config_value v = look_up("MLX_MODEL_NAME");
    GtkWidget *first_check = NULL;
    (void)source;
    if (!all) return; /* the dialog is gone */
    prefs *p = user;
    clear_rows(p->installed, p->installed_rows);
    clear_rows(p->offered, p->offered_rows);
    for (guint i = 0; i < all->len; i++)
        add_model_row(p, all->pdata[i], v.value ? v.value : "default", is_locked(&v), &first_check);
    g_ptr_array_unref(all);
}

static void reload_models(prefs *p)
{
    GTask *task = g_task_new(NULL, p->cancel, on_models, p);
    g_task_run_in_thread(task, list_models);
    g_object_unref(task);
}

static void on_name(AdwEntryRow *row, gpointer user)
{
    prefs *p = user;
    char *name = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(row))));
    if (*name) {
        GtkWidget *own = plain_row(name, _("From Hugging Face")), *stack = download_suffix(p, name);
        adw_action_row_add_suffix(ADW_ACTION_ROW(own), stack);
        add(p->offered, own);
        g_ptr_array_add(p->offered_rows, own);
        start_download(p, stack, g_object_get_data(G_OBJECT(stack), "bar"), name);
        gtk_editable_set_text(GTK_EDITABLE(row), "");
    }
    g_free(name);
}

static void models_page(prefs *p)
{
    const we_config_value v = look_up("MLX_MODEL_NAME");
    GtkWidget *where = page(p, _("Models"), "folder-symbolic");
    p->installed =
        group(where, _("On This Computer"),
              is_locked(&v) ? _("New chats begin with the chosen model. It is set by the environment (MLX_MODEL_NAME).")
                            : _("New chats begin with the chosen model."));
    p->offered =
        group(where, _("Download"), _("Sizes are those of the download. A download goes on when this window closes."));
    p->name_row = g_object_new(ADW_TYPE_ENTRY_ROW, "title", _("Another Model of Hugging Face (ORG/NAME)"),
                               "show-apply-button", TRUE, NULL);
    g_signal_connect(p->name_row, "apply", G_CALLBACK(on_name), p);
    add(p->offered, p->name_row);
    reload_models(p);
}

/* ---- Backends ---- */

static void detect(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    we_backends *list = NULL;
    const we_backends_options options = { sizeof options, 2000 };
    (void)source, (void)data, (void)cancel;
    we_backends_detect(&list, &options, NULL);
    g_task_return_pointer(task, list, (GDestroyNotify)we_backends_close);
}

static void on_detected(GObject *source, GAsyncResult *result, gpointer user)
{
    we_backends *list = g_task_propagate_pointer(G_TASK(result), NULL);
    (void)source;
    if (!list) return;
    prefs *p = user;
    clear_rows(p->chain, p->chain_rows);
    for (size_t i = 0; i < we_backends_count(list); i++) {
        we_backend_info b = { .size = sizeof b };
        if (we_backends_get(list, i, &b, NULL)) continue;
        char *title = g_strdup_printf("%d. %s%s%s", b.priority, b.name, *b.version ? " " : "", b.version);
        GtkWidget *row = plain_row(title, b.reason);
        GtkWidget *light =
            gtk_image_new_from_icon_name(b.available ? "we-light-green-symbolic" : "we-light-yellow-symbolic");
        gtk_widget_add_css_class(light, "light");
        gtk_widget_add_css_class(light, b.available ? "green" : "dim-label");
        gtk_accessible_update_property(GTK_ACCESSIBLE(light), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                       b.available ? _("Available") : _("Not available"), -1);
        adw_action_row_add_prefix(ADW_ACTION_ROW(row), light);
        add(p->chain, row);
        g_ptr_array_add(p->chain_rows, row);
        g_free(title);
    }
    we_backends_close(list);
}

static void check_backends(prefs *p)
{
    GTask *task = g_task_new(NULL, p->cancel, on_detected, p);
    g_task_run_in_thread(task, detect);
    g_object_unref(task);
}

static void backends_page(prefs *p)
{
    GtkWidget *where = page(p, _("Backends"), "network-server-symbolic"),
              *check = gtk_button_new_with_mnemonic(_("_Check Again"));
    p->chain = group(where, _("Who Can Answer"), _("Where one fails, the next takes over."));
    gtk_widget_add_css_class(check, "flat");
    gtk_widget_set_valign(check, GTK_ALIGN_CENTER);
    g_signal_connect_swapped(check, "clicked", G_CALLBACK(check_backends), p);
    adw_preferences_group_set_header_suffix(ADW_PREFERENCES_GROUP(p->chain), check);
    GtkWidget *servers = group(where, _("Servers"), _("Empty fields mean the usual addresses."));
    add_entry(p, servers, "LLM_CHAT_API_URL", _("Server for New Chats"), TRUE);
    add_entry(p, servers, "LLM_CHAT_API_KEY", _("Key of This Server"), TRUE);
    add_entry(p, servers, "OLLAMA_HOST", _("Ollama"), TRUE);
    add_entry(p, servers, "LMSTUDIO_HOST", _("LM Studio"), TRUE);
    check_backends(p);
}

/* ---- The dialog ---- */

static void prefs_free(gpointer data)
{
    prefs *p = data;
    g_cancellable_cancel(p->cancel);
    g_object_unref(p->cancel);
    g_ptr_array_unref(p->installed_rows);
    g_ptr_array_unref(p->offered_rows);
    g_ptr_array_unref(p->chain_rows);
    g_free(p);
}

void desk_prefs_show(desk_app *app)
{
    prefs *p = g_new0(prefs, 1);
    p->app = app;
    p->cancel = g_cancellable_new();
    p->installed_rows = g_ptr_array_new();
    p->offered_rows = g_ptr_array_new();
    p->chain_rows = g_ptr_array_new();
    p->window =
        g_object_new(ADW_TYPE_PREFERENCES_WINDOW, "modal", TRUE, "search-enabled", TRUE, "default-width", 640,
                     "default-height", 680, "transient-for", app->window ? desk_window_gtk(app->window) : NULL, NULL);
    g_object_set_data_full(G_OBJECT(p->window), "prefs", p, prefs_free);
    general_page(p);
    models_page(p);
    tuning_page(p);
    backends_page(p);
    gtk_window_present(GTK_WINDOW(p->window));
}
