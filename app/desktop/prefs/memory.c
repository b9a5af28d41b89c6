/* SPDX-License-Identifier: Apache-2.0
 * memory.c - the page of memory: what the chosen model takes with these settings, counted anew at each change without loading it, and
 * the settings. */
#include "prefs.h"
#include "base/base.h"

static const char *const kv_values[] = { NULL, "8", "4" };
static const char *const kv_names[] = { N_("16 Bits"), N_("8 Bits"), N_("4 Bits"), NULL };

static const prefs_variable variables[] = {
    { "MLX_MEMORY_POOL_SIZE", PREFS_NUMBER, TRUE, N_("Memory Limit"),
      N_("In MB, for weights, KV cache and scratch together"), N_("No Limit"), 1, 16777216, 512, 0, NULL, NULL },
    { "MLX_CONTEXT_LENGTH", PREFS_NUMBER, TRUE, N_("Context Length"),
      N_("In tokens: how much of a chat the model sees, where it was made for so many"), N_("Automatic"), 1, 2147483647,
      1024, 0, NULL, NULL },
    { "MLX_KV_BITS", PREFS_CHOICE, TRUE, N_("KV Cache Precision"),
      N_("Fewer bits hold longer chats in the same memory, a little less exactly"), NULL, 0, 0, 0, 0, kv_values,
      kv_names },
};

static const prefs_variable idle[] = {
    { "MLX_UNLOAD_MINUTES", PREFS_NUMBER, FALSE, N_("Unload When Idle"),
      N_("After so many minutes without a question; the next one loads the model again"), N_("Never"), 1, 100000, 5, 0,
      NULL, NULL },
};

struct prefs_memory {
    GtkWidget *group, *weights, *kv, *scratch, *sum, *bar;
    GCancellable *counting; /* the latest */
};

/* ---- Counting, on a thread ---- */

typedef struct count {
    char *model; /* the name, as we_model_find takes it */
    char problem[1024];
    we_model_info info;
    we_memory_info memory;
} count;

static void count_free(gpointer data)
{
    count *c = data;
    g_free(c->model);
    g_free(c);
}

static void count_memory(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    count *c = data;
    we_error err = { 0 };
    char type[64], quantization[128], *path = NULL;
    (void)source, (void)cancel;
    c->info.size = sizeof c->info;
    c->memory.size = sizeof c->memory;
    we_memory_get_info(&c->memory, NULL);
    we_status st = we_model_find(c->model, &path, &err);
    if (!st) st = we_model_inspect(path, NULL, &c->info, type, quantization, &err);
    if (st) g_strlcpy(c->problem, err.message, sizeof c->problem);
    we_free(path);
    g_task_return_boolean(task, TRUE);
}

/* ---- Showing ---- */

static void show_bytes(GtkWidget *label, uint64_t bytes)
{
    char text[24];
    gtk_label_set_text(GTK_LABEL(label), we_format_bytes(text, bytes));
}

static GtkWidget *row_of(GtkWidget *label) { return gtk_widget_get_ancestor(label, ADW_TYPE_ACTION_ROW); }

/* What speaks against it, or what is left; g_free. */
static char *verdict(const count *c, uint64_t sum)
{
    char need[24], limit_text[24];
    const we_config_value limit = prefs_value("MLX_MEMORY_POOL_SIZE");
    int64_t mb = 0;
    if (limit.value && limit.is_valid && we_parse_i64(we_str_from(limit.value), &mb) && sum > (uint64_t)mb << 20)
        return g_strdup_printf(_("More than the memory limit of %s: the model will not load"),
                               we_format_bytes(limit_text, (uint64_t)mb << 20));
    if (sum > c->memory.total_bytes)
        return g_strdup_printf(_("More than this computer has (%s)"), we_format_bytes(need, c->memory.total_bytes));
    return g_strdup_printf(_("%s of %s are free now"), we_format_bytes(need, c->memory.available_bytes),
                           we_format_bytes(limit_text, c->memory.total_bytes));
}

static void on_counted(GObject *source, GAsyncResult *result, gpointer user)
{
    const count *c = g_task_get_task_data(G_TASK(result));
    (void)source;
    if (!g_task_propagate_boolean(G_TASK(result), NULL)) return; /* overtaken, or the dialog is gone */
    prefs *p = user;
    prefs_memory *m = p->memory;
    const gboolean known = !*c->problem;
    const uint64_t sum = c->info.weights_bytes + c->info.kv_bytes_at_context + c->info.scratch_bytes;
    char *label = desk_model_label(c->model), *title = g_strdup_printf(_("%s in Memory"), label);
    char *escaped = g_markup_escape_text(title, -1);
    adw_preferences_group_set_title(ADW_PREFERENCES_GROUP(m->group), escaped);
    GtkWidget *const rows[] = { row_of(m->weights), row_of(m->kv), row_of(m->scratch) };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) gtk_widget_set_visible(rows[i], known);
    gtk_widget_set_visible(m->bar, known);
    gtk_widget_set_visible(m->sum, known);
    char *text = known ? verdict(c, sum) : g_strdup(c->problem);
    adw_action_row_set_subtitle(ADW_ACTION_ROW(row_of(m->sum)), text);
    if (known) {
        char *tokens = g_strdup_printf(_("Of a full context: %d tokens"), c->info.context);
        show_bytes(m->weights, c->info.weights_bytes);
        show_bytes(m->kv, c->info.kv_bytes_at_context);
        show_bytes(m->scratch, c->info.scratch_bytes);
        show_bytes(m->sum, sum);
        adw_action_row_set_subtitle(ADW_ACTION_ROW(row_of(m->kv)), tokens);
        gtk_level_bar_set_value(GTK_LEVEL_BAR(m->bar),
                                c->memory.total_bytes ? MIN(1.0, (double)sum / (double)c->memory.total_bytes) : 0);
        g_free(tokens);
    }
    g_free(text);
    g_free(escaped);
    g_free(title);
    g_free(label);
}

/* The model of the chat that is shown, where MLX runs it, else the one that new chats begin with. */
void prefs_memory_update(prefs *p)
{
    prefs_memory *m = p->memory;
    if (!m) return;
    const char *url = p->app->current ? p->app->current->head->model : "";
    const we_config_value configured = prefs_value("MLX_MODEL_NAME");
    count *c = g_new0(count, 1);
    c->model = g_strdup(g_str_has_prefix(url, "mlx://") ? url + strlen("mlx://")
                        : configured.value              ? configured.value
                                                        : "default");
    g_cancellable_cancel(m->counting);
    g_clear_object(&m->counting);
    m->counting = g_cancellable_new();
    GTask *task = g_task_new(NULL, m->counting, on_counted, p);
    g_task_set_task_data(task, c, count_free);
    g_task_run_in_thread(task, count_memory);
    g_object_unref(task);
}

void prefs_memory_free(prefs_memory *m)
{
    g_cancellable_cancel(m->counting);
    g_clear_object(&m->counting);
    g_free(m);
}

/* ---- The page ---- */

static GtkWidget *add_figure(GtkWidget *group, const char *title)
{
    GtkWidget *row = prefs_row(title, NULL), *label = gtk_label_new("…");
    gtk_widget_add_css_class(label, "numeric");
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), label);
    prefs_add(group, row);
    return label;
}

void prefs_memory_page(prefs *p)
{
    prefs_memory *m = p->memory = g_new0(prefs_memory, 1);
    GtkWidget *page = prefs_page(p, _("Memory"), "drive-harddisk-symbolic");
    m->group = prefs_group(page, _("Model in Memory"), NULL);
    m->weights = add_figure(m->group, _("Weights"));
    m->kv = add_figure(m->group, _("KV Cache"));
    m->scratch = add_figure(m->group, _("Scratch"));
    m->sum = add_figure(m->group, _("Together"));
    m->bar = gtk_level_bar_new();
    g_object_set(m->bar, "valign", GTK_ALIGN_CENTER, "width-request", 120, "tooltip-text",
                 _("Share of this computer’s memory"), NULL);
    gtk_accessible_update_property(GTK_ACCESSIBLE(m->bar), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   _("Share of this computer’s memory"), -1);
    gtk_level_bar_add_offset_value(GTK_LEVEL_BAR(m->bar), GTK_LEVEL_BAR_OFFSET_LOW, 0);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row_of(m->sum)), m->bar);
    GtkWidget *settings = prefs_group(page, _("Settings"), _("A change loads the model again."));
    prefs_add_variables(p, settings, variables, G_N_ELEMENTS(variables));
    GtkWidget *pauses = prefs_group(page, _("Pauses"), _("This counts at once."));
    prefs_add_variables(p, pauses, idle, G_N_ELEMENTS(idle));
    prefs_memory_update(p);
}
