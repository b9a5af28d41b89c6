/* SPDX-License-Identifier: Apache-2.0
 * models.c - the button in the header that says who answers, and its menu of all who could: models on this computer and those of
 * the other backends that run. What there is is looked up on a thread each time the menu opens. */
#include "app.h"

struct desk_models {
    desk_app *app;
    GtkWidget *button, *name, *state, *spinner, *list, *stack, *search;
    GCancellable *looking; /* the newest look-up */
};

typedef struct found {
    char *url, *label, *caption, *section;
} found;

static void found_free(gpointer p)
{
    found *f = p;
    g_free(f->url);
    g_free(f->label);
    g_free(f->caption);
    g_free(f->section);
    g_free(f);
}

/* ---- Looking, on a thread ---- */

static bool add_entry(void *user, const we_model_entry *e)
{
    char bytes[24];
    if (!e->runnable) return true;
    found *f = g_new0(found, 1);
    f->url = g_strdup_printf("mlx://%s", e->name);
    f->label = g_strdup(desk_model_name(e->name));
    f->caption = g_strdup_printf("%s · %s", we_format_bytes(bytes, e->bytes), e->quantization);
    f->section = g_strdup(_("On This Computer"));
    g_ptr_array_add(user, f);
    return true;
}

static void add_backend(GPtrArray *out, const we_backend_info *b)
{
    char bytes[24];
    for (size_t i = 0; i < b->n_models; i++) {
        const we_backend_model *m = &b->models[i];
        found *f = g_new0(found, 1);
        f->url = g_strdup_printf("%s://%s", b->id, m->name);
        f->label = g_strdup(m->name);
        f->caption = m->bytes ? g_strdup(we_format_bytes(bytes, m->bytes)) : g_strdup("");
        f->section = g_strdup(b->name);
        g_ptr_array_add(out, f);
    }
}

static void look(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(found_free);
    we_backends *list = NULL;
    (void)source, (void)data, (void)cancel;
    we_models_list(add_entry, out, NULL);
    we_backends_detect(&list, NULL, NULL);
    for (size_t i = 0; list && i < we_backends_count(list); i++) {
        we_backend_info b = { .size = sizeof b };
        if (!we_backends_get(list, i, &b, NULL) && b.available &&
            (b.kind == WE_BACKEND_LMSTUDIO || b.kind == WE_BACKEND_OLLAMA))
            add_backend(out, &b);
    }
    we_backends_close(list);
    g_task_return_pointer(task, out, (GDestroyNotify)g_ptr_array_unref);
}

/* ---- The menu ---- */

static const char *current_url(const desk_models *m) { return m->app->current ? m->app->current->head->model : ""; }

/* The URL that "" stands for. */
static char *configured_url(void)
{
    we_config_value v = { .size = sizeof v };
    if (!we_config_get("LLM_CHAT_API_URL", &v, NULL) && v.value) return g_strdup(v.value);
    v.size = sizeof v;
    if (!we_config_get("MLX_MODEL_NAME", &v, NULL) && v.value) return g_strdup_printf("mlx://%s", v.value);
    return g_strdup("mlx://default");
}

static GtkWidget *make_row(const found *f, gboolean is_current)
{
    GtkWidget *row = gtk_list_box_row_new(), *box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 12);
    GtkWidget *words = gtk_box_new(GTK_ORIENTATION_VERTICAL, 2),
              *check = gtk_image_new_from_icon_name("object-select-symbolic");
    GtkWidget *label = gtk_label_new(f->label), *caption = gtk_label_new(f->caption);
    GtkWidget *const both[] = { label, caption };
    for (size_t i = 0; i < G_N_ELEMENTS(both); i++) {
        gtk_label_set_xalign(GTK_LABEL(both[i]), 0);
        gtk_label_set_ellipsize(GTK_LABEL(both[i]), PANGO_ELLIPSIZE_MIDDLE);
        gtk_label_set_max_width_chars(GTK_LABEL(both[i]), 34);
        gtk_box_append(GTK_BOX(words), both[i]);
    }
    gtk_widget_add_css_class(caption, "caption");
    gtk_widget_add_css_class(caption, "dim-label");
    gtk_widget_set_visible(caption, *f->caption != 0);
    gtk_widget_set_hexpand(words, TRUE);
    gtk_widget_set_opacity(check, is_current);
    gtk_box_append(GTK_BOX(box), words);
    gtk_box_append(GTK_BOX(box), check);
    gtk_list_box_row_set_child(GTK_LIST_BOX_ROW(row), box);
    gtk_accessible_update_property(GTK_ACCESSIBLE(row), GTK_ACCESSIBLE_PROPERTY_LABEL, f->label, -1);
    g_object_set_data_full(G_OBJECT(row), "url", g_strdup(f->url), g_free);
    g_object_set_data_full(G_OBJECT(row), "section", g_strdup(f->section), g_free);
    g_object_set_data_full(G_OBJECT(row), "words", g_utf8_casefold(f->label, -1), g_free);
    return row;
}

static void on_looked(GObject *source, GAsyncResult *result, gpointer user)
{
    GError *error = NULL;
    GPtrArray *all = g_task_propagate_pointer(G_TASK(result), &error);
    GtkWidget *child;
    (void)source;
    if (!all) { /* overtaken by another one, or the window is gone */
        g_clear_error(&error);
        return;
    }
    desk_models *m = user;
    char *wanted = *current_url(m) ? g_strdup(current_url(m)) : configured_url();
    while ((child = gtk_widget_get_first_child(m->list))) gtk_list_box_remove(GTK_LIST_BOX(m->list), child);
    for (guint i = 0; i < all->len; i++) {
        const found *f = all->pdata[i];
        gtk_list_box_append(GTK_LIST_BOX(m->list), make_row(f, strcmp(f->url, wanted) == 0));
    }
    gtk_widget_child_focus(m->list, GTK_DIR_TAB_FORWARD);
    gtk_widget_set_visible(m->search, all->len > 8);
    gtk_stack_set_visible_child_name(GTK_STACK(m->stack), "list");
    g_free(wanted);
    g_ptr_array_unref(all);
}

static void on_open(GtkWidget *popover, gpointer user)
{
    desk_models *m = user;
    (void)popover;
    g_cancellable_cancel(m->looking);
    g_clear_object(&m->looking);
    m->looking = g_cancellable_new();
    if (!gtk_widget_get_first_child(m->list)) gtk_stack_set_visible_child_name(GTK_STACK(m->stack), "wait");
    GTask *task = g_task_new(NULL, m->looking, on_looked, m);
    g_task_run_in_thread(task, look);
    g_object_unref(task);
}

static void on_row(GtkListBox *list, GtkListBoxRow *row, gpointer user)
{
    desk_models *m = user;
    (void)list;
    gtk_menu_button_popdown(GTK_MENU_BUTTON(m->button));
    if (m->app->current) desk_app_set_model(m->app, m->app->current, g_object_get_data(G_OBJECT(row), "url"));
}

static void row_header(GtkListBoxRow *row, GtkListBoxRow *before, gpointer user)
{
    const char *section = g_object_get_data(G_OBJECT(row), "section");
    (void)user;
    desk_row_heading(row, before ? g_object_get_data(G_OBJECT(before), "section") : NULL, section);
}

static gboolean row_matches(GtkListBoxRow *row, gpointer user)
{
    const desk_models *m = user;
    char *needle = g_utf8_casefold(gtk_editable_get_text(GTK_EDITABLE(m->search)), -1);
    const gboolean matches = strstr(g_object_get_data(G_OBJECT(row), "words"), needle) != NULL;
    g_free(needle);
    return matches;
}

static GtkWidget *make_popover(desk_models *m)
{
    GtkWidget *popover = gtk_popover_new(), *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 6);
    GtkWidget *scroller = gtk_scrolled_window_new(), *wait = gtk_spinner_new();
    GtkWidget *unload = gtk_button_new_with_mnemonic(_("_Unload")),
              *manage = gtk_button_new_with_mnemonic(_("_Manage Models…"));
    GtkWidget *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6);
    m->search = gtk_search_entry_new();
    gtk_widget_set_visible(m->search, FALSE);
    m->list = gtk_list_box_new();
    gtk_widget_add_css_class(m->list, "navigation-sidebar");
    gtk_widget_add_css_class(m->list, "model-list");
    gtk_list_box_set_selection_mode(GTK_LIST_BOX(m->list), GTK_SELECTION_NONE);
    gtk_list_box_set_header_func(GTK_LIST_BOX(m->list), row_header, NULL, NULL);
    gtk_list_box_set_filter_func(GTK_LIST_BOX(m->list), row_matches, m, NULL);
    g_signal_connect(m->list, "row-activated", G_CALLBACK(on_row), m);
    g_signal_connect_swapped(m->search, "search-changed", G_CALLBACK(gtk_list_box_invalidate_filter), m->list);
    g_object_set(scroller, "propagate-natural-height", TRUE, "propagate-natural-width", TRUE, "max-content-height", 380,
                 "min-content-width", 300, "hscrollbar-policy", GTK_POLICY_NEVER, NULL);
    gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(scroller), m->list);
    gtk_widget_set_focusable(scroller, FALSE);
    g_object_set(wait, "spinning", TRUE, "margin-top", 24, "margin-bottom", 24, "width-request", 24, NULL);
    m->stack = gtk_stack_new();
    g_object_set(m->stack, "vhomogeneous", FALSE, NULL);
    gtk_stack_add_named(GTK_STACK(m->stack), wait, "wait");
    gtk_stack_add_named(GTK_STACK(m->stack), scroller, "list");
    gtk_actionable_set_action_name(GTK_ACTIONABLE(unload), "app.unload-model");
    gtk_actionable_set_action_name(GTK_ACTIONABLE(manage), "app.preferences");
    GtkWidget *const buttons[] = { unload, manage };
    for (size_t i = 0; i < G_N_ELEMENTS(buttons); i++) {
        gtk_widget_add_css_class(buttons[i], "flat");
        gtk_widget_set_hexpand(buttons[i], TRUE);
        g_signal_connect_swapped(buttons[i], "clicked", G_CALLBACK(gtk_popover_popdown), popover);
        gtk_box_append(GTK_BOX(row), buttons[i]);
    }
    gtk_box_append(GTK_BOX(box), m->search);
    gtk_box_append(GTK_BOX(box), m->stack);
    gtk_box_append(GTK_BOX(box), gtk_separator_new(GTK_ORIENTATION_HORIZONTAL));
    gtk_box_append(GTK_BOX(box), row);
    gtk_popover_set_child(GTK_POPOVER(popover), box);
    gtk_widget_add_css_class(popover, "models");
    g_signal_connect(popover, "map", G_CALLBACK(on_open), m);
    return popover;
}

static void models_free(gpointer p)
{
    desk_models *m = p;
    g_cancellable_cancel(m->looking);
    g_clear_object(&m->looking);
    g_free(m);
}

desk_models *desk_models_new(desk_app *app)
{
    desk_models *m = g_new0(desk_models, 1);
    GtkWidget *words = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0), *line = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6);
    GtkWidget *name_line = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 4);
    m->app = app;
    m->button = gtk_menu_button_new();
    m->name = gtk_label_new(NULL);
    m->state = gtk_label_new(NULL);
    m->spinner = gtk_spinner_new();
    gtk_widget_add_css_class(m->name, "title");
    gtk_widget_add_css_class(m->state, "subtitle");
    gtk_label_set_ellipsize(GTK_LABEL(m->name), PANGO_ELLIPSIZE_MIDDLE);
    gtk_label_set_ellipsize(GTK_LABEL(m->state), PANGO_ELLIPSIZE_END);
    gtk_widget_set_halign(name_line, GTK_ALIGN_CENTER);
    gtk_widget_set_halign(line, GTK_ALIGN_CENTER);
    gtk_widget_set_valign(words, GTK_ALIGN_CENTER);
    gtk_box_append(GTK_BOX(name_line), m->name);
    gtk_box_append(GTK_BOX(name_line), gtk_image_new_from_icon_name("pan-down-symbolic"));
    gtk_box_append(GTK_BOX(line), m->spinner);
    gtk_box_append(GTK_BOX(line), m->state);
    gtk_box_append(GTK_BOX(words), name_line);
    gtk_box_append(GTK_BOX(words), line);
    gtk_menu_button_set_child(GTK_MENU_BUTTON(m->button), words);
    gtk_menu_button_set_popover(GTK_MENU_BUTTON(m->button), make_popover(m));
    gtk_widget_add_css_class(m->button, "flat");
    gtk_widget_add_css_class(m->button, "model-button");
    gtk_widget_set_tooltip_text(m->button, _("Choose the Model of This Chat"));
    g_object_set_data_full(G_OBJECT(m->button), "models", m, models_free);
    desk_models_update(m);
    return m;
}

GtkWidget *desk_models_widget(desk_models *m) { return m->button; }

void desk_models_update(desk_models *m)
{
    const desk_engine_status *s = &m->app->status;
    char *url = *current_url(m) ? g_strdup(current_url(m)) : configured_url(), *name = desk_model_label(url);
    const gboolean ours = strcmp(s->url, current_url(m)) == 0, loading = ours && s->state == DESK_ENGINE_LOADING;
    char *state;
    if (loading && s->progress > 0 && s->progress < 1)
        state = g_strdup_printf(_("Loading, %.0f %%"), s->progress * 100);
    else if (loading)
        state = g_strdup(_("Loading…"));
    else if (m->app->paused)
        state = g_strdup(_("Paused"));
    else if (ours && s->state == DESK_ENGINE_FAILED)
        state = g_strdup(_("Not available"));
    else if (ours && s->state == DESK_ENGINE_READY)
        state = g_strdup(s->backend);
    else
        state = g_strdup(_("Not loaded"));
    gtk_label_set_text(GTK_LABEL(m->name), name);
    gtk_label_set_text(GTK_LABEL(m->state), state);
    gtk_widget_set_visible(m->spinner, loading);
    gtk_spinner_set_spinning(GTK_SPINNER(m->spinner), loading);
    char *label = g_strdup_printf(_("Model: %s, %s"), name, state);
    gtk_accessible_update_property(GTK_ACCESSIBLE(m->button), GTK_ACCESSIBLE_PROPERTY_LABEL, label, -1);
    g_free(label);
    g_free(state);
    g_free(name);
    g_free(url);
}
