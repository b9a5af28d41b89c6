/* SPDX-License-Identifier: Apache-2.0
 * rows.c - tables of variables to rows. A row shows the value that counts, wherever it comes from; what the environment sets is
 * locked and says so, and a value that is none says what is wrong with it. A number is written WRITE_MS after its last change, so
 * that stepping through values neither writes nor loads each one. */
#include "prefs.h"
#include "base/base.h"

#define WRITE_MS 600

typedef struct row {
    prefs *p;
    prefs_variable v; /* its texts are the table's */
    GtkWidget *row, *control;
    GPtrArray *values; /* of a choice: texts or NULL; owned */
    guint writer;      /* a timer; 0: nothing is to be written */
} row;

/* ---- Values ---- */

we_config_value prefs_value(const char *name)
{
    we_config_value v = { .size = sizeof v };
    we_config_get(name, &v, NULL);
    return v;
}

gboolean prefs_is_locked(const char *name) { return prefs_value(name).source == WE_CONFIG_ENVIRONMENT; }

char *prefs_locked_text(const char *name) { return g_strdup_printf(_("Set by the environment (%s)"), name); }

void prefs_reload(prefs *p)
{
    desk_app *app = p->app;
    if (app->status.state == DESK_ENGINE_EMPTY) return;
    desk_engine_unload(app->engine);
    if (app->current) desk_app_load_for(app, app->current);
}

gboolean prefs_write(prefs *p, const char *name, const char *value)
{
    we_error err = { 0 };
    const we_status st = we_config_set(name, value, &err);
    if (st) prefs_toast(p, err.message);
    return !st;
}

/* What is wrong with the value, why it can't be changed, or what it means. */
static void show_subtitle(row *r, const char *problem)
{
    const we_config_value value = prefs_value(r->v.name);
    if (!problem && value.value && !value.is_valid) problem = value.problem;
    char *text = problem                           ? g_strdup(problem)
                 : prefs_is_locked(r->v.name)      ? prefs_locked_text(r->v.name)
                 : r->v.subtitle && *r->v.subtitle ? g_strdup(_(r->v.subtitle))
                                                   : g_strdup("");
    if (ADW_IS_ACTION_ROW(r->row)) adw_action_row_set_subtitle(ADW_ACTION_ROW(r->row), text);
    if (problem)
        gtk_widget_add_css_class(r->row, "error");
    else
        gtk_widget_remove_css_class(r->row, "error");
    gtk_widget_set_tooltip_text(r->row, ADW_IS_ACTION_ROW(r->row) || !problem ? NULL : text);
    g_free(text);
}

static gboolean write_value(row *r, const char *value)
{
    if (!prefs_write(r->p, r->v.name, value)) return FALSE;
    show_subtitle(r, NULL);
    if (r->v.reloads) prefs_reload(r->p);
    prefs_memory_update(r->p);
    desk_engine_settings_changed(r->p->app->engine);
    return TRUE;
}

static void row_free(gpointer data, GClosure *closure)
{
    row *r = data;
    (void)closure;
    if (r->values) g_ptr_array_unref(r->values);
    g_free(r);
}

static row *row_new(prefs *p, const prefs_variable *v)
{
    row *r = g_new0(row, 1);
    r->p = p;
    r->v = *v;
    return r;
}

static void finish(row *r, GtkWidget *group)
{
    if (prefs_is_locked(r->v.name)) {
        gtk_widget_set_sensitive(r->row, FALSE);
        if (ADW_IS_ACTION_ROW(r->row))
            adw_action_row_add_suffix(ADW_ACTION_ROW(r->row), gtk_image_new_from_icon_name("changes-prevent-symbolic"));
    }
    show_subtitle(r, NULL);
    prefs_add(group, r->row);
}

/* ---- Numbers ---- */

/* Below the least value there is one more place: nothing is set. */
static double unset_place(const prefs_variable *v) { return v->least - (v->digits ? v->step : 1); }

static gboolean is_unset(const row *r, double value) { return value < r->v.least - 1e-9; }

static void write_number(row *r)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    const double value = gtk_spin_button_get_value(GTK_SPIN_BUTTON(r->control));
    g_clear_handle_id(&r->writer, g_source_remove);
    if (is_unset(r, value)) {
        write_value(r, NULL);
        return;
    }
    g_ascii_formatd(text, sizeof text, r->v.digits ? "%.2f" : "%.0f", value);
    write_value(r, text);
}

static gboolean write_soon(gpointer data)
{
    row *r = data;
    r->writer = 0;
    write_number(r);
    return G_SOURCE_REMOVE;
}

static void on_number(GtkSpinButton *spin, gpointer data)
{
    row *r = data;
    (void)spin;
    g_clear_handle_id(&r->writer, g_source_remove);
    r->writer = g_timeout_add(WRITE_MS, write_soon, r);
}

/* The dialog closes: what was chosen counts. */
static void on_unmap(GtkWidget *spin, gpointer data)
{
    row *r = data;
    (void)spin;
    if (r->writer) write_number(r);
}

static gboolean on_output(GtkSpinButton *spin, gpointer data)
{
    const row *r = data;
    if (!is_unset(r, gtk_spin_button_get_value(spin))) return FALSE;
    if (strcmp(gtk_editable_get_text(GTK_EDITABLE(spin)), _(r->v.unset)) != 0)
        gtk_editable_set_text(GTK_EDITABLE(spin), _(r->v.unset));
    return TRUE;
}

static int on_input(GtkSpinButton *spin, double *value, gpointer data)
{
    const row *r = data;
    char *text = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(spin))));
    const gboolean unset = !*text || strcmp(text, _(r->v.unset)) == 0;
    g_free(text);
    if (!unset) return FALSE; /* a number */
    *value = unset_place(&r->v);
    return TRUE;
}

static void add_number(prefs *p, GtkWidget *group, const prefs_variable *v)
{
    row *r = row_new(p, v);
    const we_config_value value = prefs_value(v->name);
    double number = unset_place(v);
    if (value.value && value.is_valid) we_parse_f64(we_str_from(value.value), &number);
    r->row = prefs_row(_(v->title), NULL);
    r->control = gtk_spin_button_new_with_range(unset_place(v), v->most, v->step);
    GtkSpinButton *spin = GTK_SPIN_BUTTON(r->control);
    gtk_spin_button_set_numeric(spin, FALSE); /* it also says "Automatic" */
    gtk_spin_button_set_digits(spin, v->digits);
    g_signal_connect(spin, "output", G_CALLBACK(on_output), r);
    g_signal_connect(spin, "input", G_CALLBACK(on_input), r);
    const int wide = MAX((int)g_utf8_strlen(_(v->unset), -1), 6);
    g_object_set(spin, "width-chars", wide, "max-width-chars", wide, "value", number, NULL);
    on_output(spin, r); /* the value that it began with is no change */
    g_signal_connect(spin, "unmap", G_CALLBACK(on_unmap), r);
    g_signal_connect_data(spin, "value-changed", G_CALLBACK(on_number), r, row_free, 0);
    prefs_add_control(r->row, r->control);
    finish(r, group);
}

/* ---- Switches ---- */

static gboolean on_toggle(GtkSwitch *toggle, gboolean on, gpointer data)
{
    row *r = data;
    if (on != gtk_switch_get_state(toggle) && !write_value(r, on ? "true" : NULL)) return TRUE;
    gtk_switch_set_state(toggle, on);
    return TRUE;
}

static void add_switch(prefs *p, GtkWidget *group, const prefs_variable *v)
{
    row *r = row_new(p, v);
    r->row = prefs_row(_(v->title), NULL);
    r->control = gtk_switch_new();
    gtk_switch_set_active(GTK_SWITCH(r->control), prefs_value(v->name).is_on);
    prefs_add_control(r->row, r->control);
    g_signal_connect_data(r->control, "state-set", G_CALLBACK(on_toggle), r, row_free, 0);
    finish(r, group);
}

/* ---- Choices ---- */

static void on_choice(AdwComboRow *combo, GParamSpec *spec, gpointer data)
{
    row *r = data;
    const guint i = adw_combo_row_get_selected(combo);
    (void)spec;
    if (i < r->values->len) write_value(r, r->values->pdata[i]);
}

void prefs_add_choice(prefs *p, GtkWidget *group, const prefs_variable *v, const GPtrArray *values,
                      const GPtrArray *names)
{
    row *r = row_new(p, v);
    const char *set = prefs_value(v->name).value;
    guint chosen = set ? G_MAXUINT : 0;
    GtkStringList *model = gtk_string_list_new(NULL);
    r->values = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < values->len; i++) {
        if (set && values->pdata[i] && strcmp(set, values->pdata[i]) == 0) chosen = i;
        g_ptr_array_add(r->values, g_strdup(values->pdata[i]));
        gtk_string_list_append(model, names->pdata[i]);
    }
    if (chosen == G_MAXUINT) { /* set, and none of what is offered */
        chosen = r->values->len;
        g_ptr_array_add(r->values, g_strdup(set));
        gtk_string_list_append(model, set);
    }
    r->row = g_object_new(ADW_TYPE_COMBO_ROW, "use-markup", FALSE, "title", _(v->title), "subtitle-lines", 3, "model",
                          model, "selected", chosen, NULL);
    g_object_unref(model);
    g_signal_connect_data(r->row, "notify::selected", G_CALLBACK(on_choice), r, row_free, 0);
    finish(r, group);
}

static void add_choice(prefs *p, GtkWidget *group, const prefs_variable *v)
{
    GPtrArray *values = g_ptr_array_new(), *names = g_ptr_array_new();
    for (size_t i = 0; v->names[i]; i++) {
        g_ptr_array_add(values, (gpointer)v->values[i]);
        g_ptr_array_add(names, (gpointer)_(v->names[i]));
    }
    prefs_add_choice(p, group, v, values, names);
    g_ptr_array_unref(values);
    g_ptr_array_unref(names);
}

/* ---- Texts ---- */

static void on_apply(AdwEntryRow *entry, gpointer data)
{
    row *r = data;
    we_error err = { 0 };
    char *text = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(entry))));
    if (*text && we_config_check(r->v.name, text, &err)) {
        show_subtitle(r, err.message);
        prefs_toast(r->p, err.message);
    } else {
        write_value(r, *text ? text : NULL);
    }
    g_free(text);
}

static void add_text(prefs *p, GtkWidget *group, const prefs_variable *v)
{
    row *r = row_new(p, v);
    const we_config_value value = prefs_value(v->name);
    const gboolean has_default = *value.default_value && strcmp(value.default_value, "not set") != 0;
    char *title = prefs_is_locked(v->name) ? g_strdup_printf(_("%s (set by the environment)"), _(v->title))
                  : has_default            ? g_strdup_printf("%s (%s)", _(v->title), value.default_value)
                                           : g_strdup(_(v->title));
    r->row = g_object_new(ADW_TYPE_ENTRY_ROW, "use-markup", FALSE, "title", title, "show-apply-button", TRUE, NULL);
    if (value.value) gtk_editable_set_text(GTK_EDITABLE(r->row), value.value);
    g_signal_connect_data(r->row, "apply", G_CALLBACK(on_apply), r, row_free, 0);
    g_free(title);
    finish(r, group);
}

void prefs_add_variables(prefs *p, GtkWidget *group, const prefs_variable *table, size_t n)
{
    static void (*const adders[])(prefs *, GtkWidget *, const prefs_variable *) = {
        [PREFS_NUMBER] = add_number, [PREFS_SWITCH] = add_switch, [PREFS_CHOICE] = add_choice, [PREFS_TEXT] = add_text
    };
    for (size_t i = 0; i < n; i++) adders[table[i].kind](p, group, &table[i]);
}
