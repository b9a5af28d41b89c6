/* SPDX-License-Identifier: Apache-2.0
 * models.c - the page of models: those that are here (the one that new chats begin with, converting, deleting), those of the hub that
 * suit this machine, and what is on its way. Downloads and conversions are the program's (jobs.h) and go on when the dialog closes. */
#include "prefs.h"

struct prefs_models {
    GtkWidget *running, *here, *offers;               /* groups */
    GPtrArray *running_rows, *here_rows, *offer_rows; /* what they show */
    GtkWidget *pack;                                  /* the switch: convert what is downloaded */
};

/* ---- What there is, on a thread ---- */

typedef struct model {
    char *name, *label, *subtitle;
    gboolean can_remove, can_convert, is_offer, suits;
} model;

static void model_free(gpointer data)
{
    model *m = data;
    g_free(m->name);
    g_free(m->label);
    g_free(m->subtitle);
    g_free(m);
}

/* Packing makes it smaller, or makes it one that runs. */
static gboolean is_convertible(const we_model_entry *e)
{
    const gboolean unpacked = g_str_has_prefix(e->quantization, "bfloat") || g_str_has_prefix(e->quantization, "float");
    return unpacked || g_str_has_suffix(e->path, ".gguf") ||
           (!e->runnable && strcmp(e->source, "hugging face cache") == 0);
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
    m->can_convert = is_convertible(e);
    m->suits = e->runnable;
    g_ptr_array_add(user, m);
    return true;
}

static bool add_offer(void *user, const we_recommendation *r)
{
    char bytes[24], needed[24];
    if (r->is_here) return true;
    model *m = g_new0(model, 1);
    m->is_offer = TRUE;
    m->name = g_strdup(r->name);
    m->label = r->is_recommended ? g_strdup_printf(_("%s (recommended)"), r->name) : g_strdup(r->name);
    we_format_bytes(bytes, r->download_bytes);
    we_format_bytes(needed, r->needed_bytes);
    m->subtitle = !r->fits ? g_strdup_printf(_("%s · needs %s of memory: too large for this computer"), bytes, needed)
                  : r->tokens_per_second > 0 ? g_strdup_printf(_("%s · needs %s of memory · about %.0f tokens/s"),
                                                               bytes, needed, r->tokens_per_second)
                                             : g_strdup_printf(_("%s · needs %s of memory"), bytes, needed);
    m->suits = r->fits;
    g_ptr_array_add(user, m);
    return true;
}

static void list(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(model_free);
    (void)source, (void)data, (void)cancel;
    we_models_list(add_installed, out, NULL);
    we_recommend_each(NULL, NULL, add_offer, out, NULL);
    g_task_return_pointer(task, out, (GDestroyNotify)g_ptr_array_unref);
}

static void reload(prefs *p);

/* ---- What is on its way ---- */

typedef struct running { /* a row of a job; lives with it */
    prefs *p;
    int id;
    GtkWidget *row, *bar;
} running;

static void on_cancel(GtkButton *button, gpointer user)
{
    const running *r = user;
    gtk_widget_set_sensitive(GTK_WIDGET(button), FALSE);
    desk_jobs_cancel(r->p->app->jobs, r->id);
}

static running *row_of(prefs *p, const desk_job *job)
{
    for (guint i = 0; i < p->models->running_rows->len; i++) {
        running *r = g_object_get_data(p->models->running_rows->pdata[i], "running");
        if (r->id == job->id) return r;
    }
    running *r = g_new0(running, 1);
    GtkWidget *stop = prefs_icon_button("process-stop-symbolic", _("Cancel"));
    *r = (running){ p, job->id, prefs_row(job->name, NULL), gtk_progress_bar_new() };
    g_object_set(r->bar, "valign", GTK_ALIGN_CENTER, "width-request", 120, NULL);
    gtk_accessible_update_property(GTK_ACCESSIBLE(r->bar), GTK_ACCESSIBLE_PROPERTY_LABEL, job->name, -1);
    adw_action_row_add_suffix(ADW_ACTION_ROW(r->row), r->bar);
    adw_action_row_add_suffix(ADW_ACTION_ROW(r->row), stop);
    g_signal_connect(stop, "clicked", G_CALLBACK(on_cancel), r);
    g_object_set_data_full(G_OBJECT(r->row), "running", r, g_free);
    prefs_add(p->models->running, r->row);
    g_ptr_array_add(p->models->running_rows, r->row);
    gtk_widget_set_visible(p->models->running, TRUE);
    return r;
}

static void show_job(gpointer user, const desk_job *job)
{
    const running *r = row_of(user, job);
    char done[24], total[24], *text;
    const double share = job->total ? (double)job->done / (double)job->total : 0;
    if (job->stage == DESK_JOB_ASKING)
        text = g_strdup(_("Asking the hub…"));
    else if (job->stage == DESK_JOB_DOWNLOADING)
        text = g_strdup_printf(_("%s of %s"), we_format_bytes(done, job->done), we_format_bytes(total, job->total));
    else
        text = g_strdup_printf(_("Converting, %.0f %%"), share * 100);
    gtk_progress_bar_set_fraction(GTK_PROGRESS_BAR(r->bar), share);
    adw_action_row_set_subtitle(ADW_ACTION_ROW(r->row), text);
    g_free(text);
}

static void on_ended(gpointer user, const desk_job *job, const char *problem)
{
    prefs *p = user;
    const running *r = row_of(p, job);
    GtkWidget *row = r->row;
    adw_preferences_group_remove(ADW_PREFERENCES_GROUP(p->models->running), row);
    g_ptr_array_remove(p->models->running_rows, row);
    gtk_widget_set_visible(p->models->running, p->models->running_rows->len > 0);
    char *text = !problem    ? g_strdup_printf(_("%s is ready"), job->name)
                 : !*problem ? NULL /* cancelled */
                 : job->stage == DESK_JOB_CONVERTING
                     ? g_strdup_printf(_("%s was not converted: %s"), job->name, problem)
                     : g_strdup_printf(_("%s was not downloaded: %s"), job->name, problem);
    if (text) prefs_toast(p, text);
    g_free(text);
    reload(p);
}

static const desk_job_events events = { show_job, on_ended };

/* ---- Converting ---- */

static const int pack_bits[] = { 4, 8, 6, 3, 0 };

typedef struct conversion {
    prefs *p;
    char *name;
    GtkWidget *dialog, *target, *bits;
} conversion;

static void conversion_free(gpointer data)
{
    conversion *c = data;
    g_free(c->name);
    g_free(c);
}

static void on_bits(AdwComboRow *row, GParamSpec *spec, gpointer user)
{
    const conversion *c = user;
    char *target =
        desk_job_target(c->name, pack_bits[MIN(adw_combo_row_get_selected(row), G_N_ELEMENTS(pack_bits) - 1)]);
    (void)spec;
    gtk_editable_set_text(GTK_EDITABLE(c->target), target);
    g_free(target);
}

static void on_target(GtkEditable *target, gpointer user)
{
    const conversion *c = user;
    const gboolean good = *gtk_editable_get_text(target) != 0;
    adw_message_dialog_set_response_enabled(ADW_MESSAGE_DIALOG(c->dialog), "convert", good);
}

static void on_convert_answer(AdwMessageDialog *dialog, const char *response, gpointer user)
{
    const conversion *c = user;
    (void)dialog;
    if (strcmp(response, "convert") != 0) return;
    const guint i = adw_combo_row_get_selected(ADW_COMBO_ROW(c->bits));
    char *target = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(c->target))));
    desk_jobs_convert(c->p->app->jobs, c->name, target, pack_bits[MIN(i, G_N_ELEMENTS(pack_bits) - 1)]);
    g_free(target);
}

static void on_convert(GtkButton *button, gpointer user)
{
    const char *const names[] = { _("4 Bits"), _("8 Bits"), _("6 Bits"), _("3 Bits"), _("Unpacked"), NULL };
    conversion *c = g_new0(conversion, 1);
    GtkWidget *list_box = gtk_list_box_new();
    GtkStringList *choices = gtk_string_list_new(names);
    c->p = user;
    c->name = g_strdup(g_object_get_data(G_OBJECT(button), "name"));
    c->dialog = adw_message_dialog_new(GTK_WINDOW(c->p->window), _("Convert This Model?"), NULL);
    adw_message_dialog_format_body(ADW_MESSAGE_DIALOG(c->dialog),
                                   _("A copy of %s is made in MLX’s form; the original stays."), c->name);
    adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(c->dialog), "cancel", _("_Cancel"), "convert", _("C_onvert"),
                                     NULL);
    adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(c->dialog), "convert", ADW_RESPONSE_SUGGESTED);
    adw_message_dialog_set_default_response(ADW_MESSAGE_DIALOG(c->dialog), "convert");
    c->bits = g_object_new(ADW_TYPE_COMBO_ROW, "title", _("Weights"), "model", choices, NULL);
    c->target = g_object_new(ADW_TYPE_ENTRY_ROW, "title", _("Name"), NULL);
    gtk_list_box_set_selection_mode(GTK_LIST_BOX(list_box), GTK_SELECTION_NONE);
    gtk_widget_add_css_class(list_box, "boxed-list");
    gtk_list_box_append(GTK_LIST_BOX(list_box), c->bits);
    gtk_list_box_append(GTK_LIST_BOX(list_box), c->target);
    adw_message_dialog_set_extra_child(ADW_MESSAGE_DIALOG(c->dialog), list_box);
    g_object_unref(choices);
    g_object_set_data_full(G_OBJECT(c->dialog), "conversion", c, conversion_free);
    g_signal_connect(c->target, "changed", G_CALLBACK(on_target), c);
    g_signal_connect(c->bits, "notify::selected", G_CALLBACK(on_bits), c);
    on_bits(ADW_COMBO_ROW(c->bits), NULL, c);
    g_signal_connect(c->dialog, "response", G_CALLBACK(on_convert_answer), c);
    gtk_window_present(GTK_WINDOW(c->dialog));
}

/* ---- Deleting ---- */

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
        prefs_toast(user, good ? _("Model deleted") : error->message);
        reload(user);
    }
    g_clear_error(&error);
}

static void on_remove_answer(AdwMessageDialog *dialog, const char *response, gpointer user)
{
    if (strcmp(response, "delete") != 0) return;
    prefs_look(user, remove_model, g_strdup(g_object_get_data(G_OBJECT(dialog), "name")), g_free, on_removed);
}

static void on_remove(GtkButton *button, gpointer user)
{
    prefs *p = user;
    const char *name = g_object_get_data(G_OBJECT(button), "name");
    GtkWidget *dialog = adw_message_dialog_new(GTK_WINDOW(p->window), _("Delete This Model?"), NULL);
    adw_message_dialog_format_body(ADW_MESSAGE_DIALOG(dialog), _("%s is removed from the disk."), name);
    adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(dialog), "cancel", _("_Cancel"), "delete", _("_Delete"), NULL);
    adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(dialog), "delete", ADW_RESPONSE_DESTRUCTIVE);
    g_object_set_data_full(G_OBJECT(dialog), "name", g_strdup(name), g_free);
    g_signal_connect(dialog, "response", G_CALLBACK(on_remove_answer), p);
    gtk_window_present(GTK_WINDOW(dialog));
}

/* ---- The lists ---- */

static void on_default(GtkCheckButton *check, gpointer user)
{
    prefs *p = user;
    const char *name = g_object_get_data(G_OBJECT(check), "name");
    if (!gtk_check_button_get_active(check)) return;
    if (!prefs_write(p, "MLX_MODEL_NAME", strcmp(name, "default") == 0 ? NULL : name)) return;
    if (p->app->current && !*p->app->current->head->model) prefs_reload(p); /* "" now means another model */
    prefs_memory_update(p);
}

static void on_download(GtkButton *button, gpointer user)
{
    prefs *p = user;
    gtk_widget_set_sensitive(GTK_WIDGET(button), FALSE);
    desk_jobs_pull(p->app->jobs, g_object_get_data(G_OBJECT(button), "name"), 0); /* these come packed */
}

static void add_row_button(prefs *p, GtkWidget *row, const model *m, const char *icon, const char *what, GCallback fn)
{
    char *text = g_strdup_printf(what, m->label);
    GtkWidget *button = prefs_icon_button(icon, text);
    g_object_set_data_full(G_OBJECT(button), "name", g_strdup(m->name), g_free);
    gtk_widget_set_sensitive(button, m->suits || !m->is_offer);
    g_signal_connect(button, "clicked", fn, p);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), button);
    g_free(text);
}

static GtkWidget *installed_row(prefs *p, const model *m, const char *chosen, gboolean locked, GtkWidget **first)
{
    GtkWidget *row = prefs_row(m->label, m->subtitle), *check = gtk_check_button_new();
    gtk_widget_set_valign(check, GTK_ALIGN_CENTER);
    if (*first)
        gtk_check_button_set_group(GTK_CHECK_BUTTON(check), GTK_CHECK_BUTTON(*first));
    else
        *first = check;
    gtk_check_button_set_active(GTK_CHECK_BUTTON(check), strcmp(m->name, chosen) == 0);
    gtk_widget_set_sensitive(check, m->suits && !locked);
    g_object_set_data_full(G_OBJECT(check), "name", g_strdup(m->name), g_free);
    g_signal_connect(check, "toggled", G_CALLBACK(on_default), p);
    adw_action_row_add_prefix(ADW_ACTION_ROW(row), check);
    adw_action_row_set_activatable_widget(ADW_ACTION_ROW(row), check);
    if (m->can_convert)
        add_row_button(p, row, m, "emblem-synchronizing-symbolic", _("Convert %s…"), G_CALLBACK(on_convert));
    if (m->can_remove) add_row_button(p, row, m, "user-trash-symbolic", _("Delete %s…"), G_CALLBACK(on_remove));
    return row;
}

static void on_listed(GObject *source, GAsyncResult *result, gpointer user)
{
    GPtrArray *all = g_task_propagate_pointer(G_TASK(result), NULL);
    const we_config_value v = prefs_value("MLX_MODEL_NAME");
    GtkWidget *first = NULL;
    (void)source;
    if (!all) return; /* the dialog is gone */
    prefs *p = user;
    prefs_models *m = p->models;
    prefs_clear(m->here, m->here_rows);
    prefs_clear(m->offers, m->offer_rows);
    for (guint i = 0; i < all->len; i++) {
        const model *one = all->pdata[i];
        GtkWidget *row = one->is_offer ? prefs_row(one->label, one->subtitle)
                                       : installed_row(p, one, v.value ? v.value : "default",
                                                       v.source == WE_CONFIG_ENVIRONMENT, &first);
        if (one->is_offer)
            add_row_button(p, row, one, "folder-download-symbolic", _("Download %s"), G_CALLBACK(on_download));
        prefs_add(one->is_offer ? m->offers : m->here, row);
        g_ptr_array_add(one->is_offer ? m->offer_rows : m->here_rows, row);
    }
    g_ptr_array_unref(all);
}

static void reload(prefs *p) { prefs_look(p, list, NULL, NULL, on_listed); }

/* ---- The page ---- */

static void on_name(AdwEntryRow *row, gpointer user)
{
    prefs *p = user;
    char *name = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(row))));
    if (*name) {
        desk_jobs_pull(p->app->jobs, name, gtk_switch_get_active(GTK_SWITCH(p->models->pack)) ? 4 : 0);
        gtk_editable_set_text(GTK_EDITABLE(row), "");
    }
    g_free(name);
}

static void add_another(prefs *p, GtkWidget *page)
{
    GtkWidget *group = prefs_group(page, _("Another Model"), NULL);
    GtkWidget *name = g_object_new(ADW_TYPE_ENTRY_ROW, "title", _("Name on Hugging Face (ORG/NAME)"),
                                   "show-apply-button", TRUE, NULL);
    GtkWidget *pack =
        prefs_row(_("Convert After the Download"), _("Unpacked weights are packed to 4 bits in MLX’s form"));
    g_signal_connect(name, "apply", G_CALLBACK(on_name), p);
    p->models->pack = gtk_switch_new();
    gtk_switch_set_active(GTK_SWITCH(p->models->pack), TRUE);
    prefs_add_control(pack, p->models->pack);
    prefs_add(group, name);
    prefs_add(group, pack);
}

void prefs_models_free(prefs_models *m)
{
    g_ptr_array_unref(m->running_rows);
    g_ptr_array_unref(m->here_rows);
    g_ptr_array_unref(m->offer_rows);
    g_free(m);
}

void prefs_models_page(prefs *p)
{
    prefs_models *m = p->models = g_new0(prefs_models, 1);
    GtkWidget *page = prefs_page(p, _("Models"), "folder-symbolic");
    char *locked = prefs_is_locked("MLX_MODEL_NAME") ? prefs_locked_text("MLX_MODEL_NAME") : NULL;
    m->running_rows = g_ptr_array_new();
    m->here_rows = g_ptr_array_new();
    m->offer_rows = g_ptr_array_new();
    m->running = prefs_group(page, _("On Its Way"), _("This goes on when the window closes."));
    gtk_widget_set_visible(m->running, FALSE);
    m->here = prefs_group(page, _("On This Computer"), locked ? locked : _("New chats begin with the chosen model."));
    m->offers = prefs_group(page, _("Download"), NULL);
    add_another(p, page);
    g_free(locked);
    desk_jobs_listen(p->app->jobs, &events, p);
    desk_jobs_each(p->app->jobs, show_job, p);
    reload(p);
}
