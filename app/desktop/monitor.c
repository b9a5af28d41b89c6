/* SPDX-License-Identifier: Apache-2.0
 * monitor.c - the figures of this process over the last minutes, as plots: the same that `whisperengine top` shows (we_monitor_get).
 * One look a second, some 50 microseconds; it is drawn only while somebody sees it. */
#include "app.h"
#include <math.h>

#define SECONDS 180
#define N_PLOTS 4
#define MAX_LINES 4

typedef struct plot {
    const char *title, *lines[MAX_LINES]; /* names; one without a name stands alone */
    int n_lines;
    char *(*format)(double value);
    GtkWidget *area, *now;
    double values[MAX_LINES][SECONDS]; /* a ring, see `at`; NAN: unknown */
    int hover;                         /* seconds ago, or -1 */
    struct monitor *monitor;
} plot;

typedef struct monitor {
    plot plots[N_PLOTS];
    int at; /* the newest value */
    guint timer;
    GtkWidget *root, *note;
    uint64_t tokens, prompt_tokens; /* of the look before */
    gint64 when;
    gboolean has_before;
} monitor;

/* ---- Words ---- */

static char *as_bytes(double value)
{
    char out[24];
    return g_strdup(we_format_bytes(out, value > 0 ? (uint64_t)value : 0));
}

static char *as_rate(double value) { return g_strdup_printf(_("%.1f tokens/s"), value); }
static char *as_time(double value)
{
    return value >= 1000 ? g_strdup_printf(_("%.2f s"), value / 1000) : g_strdup_printf(_("%.1f ms"), value);
}

/* ---- Drawing ---- */

static double value_at(const plot *p, int line, int seconds_ago)
{
    return p->values[line][(p->monitor->at - seconds_ago + SECONDS) % SECONDS];
}

/* The top of the scale: 1, 2 or 5 times a power of ten above all values. */
static double scale_of(const plot *p)
{
    double most = 0;
    for (int line = 0; line < p->n_lines; line++)
        for (int s = 0; s < SECONDS; s++)
            if (value_at(p, line, s) > most) most = value_at(p, line, s);
    if (most <= 0) return 1;
    const double ten = pow(10, floor(log10(most)));
    return ten * (most <= ten ? 1 : most <= 2 * ten ? 2 : most <= 5 * ten ? 5 : 10);
}

/* GNOME's palette, one for each line; the same in light and dark. */
static void set_color(cairo_t *cr, int line, double alpha)
{
    static const double colors[MAX_LINES][3] = {
        { 0.21, 0.52, 0.89 }, { 0.90, 0.38, 0.00 }, { 0.18, 0.76, 0.49 }, { 0.57, 0.25, 0.67 }
    };
    cairo_set_source_rgba(cr, colors[line][0], colors[line][1], colors[line][2], alpha);
}

static void draw_line(const plot *p, cairo_t *cr, int line, double width, double height, double top)
{
    gboolean on = FALSE;
    double first = 0, last = 0;
    for (int s = SECONDS - 1; s >= 0; s--) {
        const double v = value_at(p, line, s), x = width * (SECONDS - 1 - s) / (SECONDS - 1),
                     y = height - v / top * (height - 4);
        if (isnan(v)) continue;
        if (on)
            cairo_line_to(cr, x, y);
        else
            cairo_move_to(cr, first = x, y);
        on = TRUE;
        last = x;
    }
    if (!on) return;
    set_color(cr, line, 1);
    cairo_set_line_width(cr, 2);
    cairo_stroke_preserve(cr);
    if (p->n_lines > 1) return cairo_new_path(cr);
    cairo_line_to(cr, last, height);
    cairo_line_to(cr, first, height);
    set_color(cr, line, 0.15);
    cairo_fill(cr);
}

static void draw(GtkDrawingArea *area, cairo_t *cr, int width, int height, gpointer user)
{
    const plot *p = user;
    GdkRGBA fg;
    const double top = scale_of(p);
    gtk_style_context_get_color(gtk_widget_get_style_context(GTK_WIDGET(area)), &fg);
    for (int i = 0; i <= 4; i++) {
        cairo_set_source_rgba(cr, fg.red, fg.green, fg.blue, i == 4 ? 0.25 : 0.08);
        cairo_rectangle(cr, 0, floor((height - 1) * i / 4.0), width, 1);
        cairo_fill(cr);
    }
    for (int line = 0; line < p->n_lines; line++) draw_line(p, cr, line, width, height - 1, top);
    if (p->hover >= 0) {
        cairo_set_source_rgba(cr, fg.red, fg.green, fg.blue, 0.5);
        cairo_rectangle(cr, floor((double)width * (SECONDS - 1 - p->hover) / (SECONDS - 1)), 0, 1, height);
        cairo_fill(cr);
    }
    char *label = p->format(top);
    PangoLayout *layout = gtk_widget_create_pango_layout(GTK_WIDGET(area), label);
    cairo_set_source_rgba(cr, fg.red, fg.green, fg.blue, 0.5);
    cairo_move_to(cr, 6, 4);
    pango_cairo_show_layout(cr, layout);
    g_object_unref(layout);
    g_free(label);
}

/* ---- Figures beside the title ---- */

static void show_now(plot *p)
{
    GString *text = g_string_new(NULL);
    const int s = p->hover < 0 ? 0 : p->hover;
    for (int line = 0; line < p->n_lines; line++) {
        static const char *const colors[MAX_LINES] = { "#3584e4", "#e66100", "#2ec27e", "#9141ac" };
        const double v = value_at(p, line, s);
        char *value = isnan(v) ? g_strdup("–") : p->format(v);
        if (line) g_string_append(text, "   ");
        if (p->n_lines > 1)
            g_string_append_printf(text, "<span foreground=\"%s\">●</span> %s ", colors[line], _(p->lines[line]));
        g_string_append_printf(text, "<b>%s</b>", value);
        g_free(value);
    }
    if (p->hover > 0) {
        g_string_append(text, "   ");
        g_string_append_printf(text, g_dngettext(NULL, "%d second ago", "%d seconds ago", (gulong)p->hover), p->hover);
    }
    gtk_label_set_markup(GTK_LABEL(p->now), text->str);
    g_string_free(text, TRUE);
    gtk_widget_queue_draw(p->area);
}

static void on_motion(GtkEventControllerMotion *motion, double x, double y, gpointer user)
{
    plot *p = user;
    const int width = gtk_widget_get_width(p->area);
    (void)motion, (void)y;
    p->hover = width > 1 ? CLAMP(SECONDS - 1 - (int)lround(x / (width - 1) * (SECONDS - 1)), 0, SECONDS - 1) : -1;
    show_now(p);
}

static void on_leave(GtkEventControllerMotion *motion, gpointer user)
{
    plot *p = user;
    (void)motion;
    p->hover = -1;
    show_now(p);
}

/* ---- Looking ---- */

static double rate(uint64_t now, uint64_t before, double seconds)
{
    return now >= before && seconds > 0 ? (double)(now - before) / seconds : 0;
}

static gboolean look(gpointer user)
{
    monitor *m = user;
    we_monitor_info i = { .size = sizeof i };
    const gint64 now = g_get_monotonic_time();
    const double seconds = (double)(now - m->when) / G_USEC_PER_SEC;
    if (we_monitor_get(&i, NULL)) return G_SOURCE_CONTINUE;
    const double speed = m->has_before ? rate(i.n_generated_tokens, m->tokens, seconds) : 0;
    const double prompt = m->has_before ? rate(i.n_prompt_tokens, m->prompt_tokens, seconds) : 0;
    const gboolean known = i.generation_tokens_per_second > 0;
    m->at = (m->at + 1) % SECONDS;
    const double values[N_PLOTS][MAX_LINES] = {
        { (double)i.weights_bytes, (double)i.kv_bytes, (double)i.scratch_bytes, (double)i.resident_bytes },
        { speed, prompt },
        { known ? 1000 / i.generation_tokens_per_second : NAN },
        { i.time_to_first_token_s > 0 ? 1000 * i.time_to_first_token_s : NAN },
    };
    for (int p = 0; p < N_PLOTS; p++) {
        for (int line = 0; line < m->plots[p].n_lines; line++) m->plots[p].values[line][m->at] = values[p][line];
        if (gtk_widget_get_mapped(m->root)) show_now(&m->plots[p]);
    }
    char all[24], free_bytes[24];
    char *text = i.n_models ? g_strdup_printf(_("%s on %s · %s of %s memory available"), desk_model_name(i.model),
                                              i.device, we_format_bytes(free_bytes, i.system_available_bytes),
                                              we_format_bytes(all, i.system_total_bytes))
                            : g_strdup_printf(_("No model is loaded · %s of %s memory available"),
                                              we_format_bytes(free_bytes, i.system_available_bytes),
                                              we_format_bytes(all, i.system_total_bytes));
    gtk_label_set_text(GTK_LABEL(m->note), text);
    g_free(text);
    m->tokens = i.n_generated_tokens;
    m->prompt_tokens = i.n_prompt_tokens;
    m->when = now;
    m->has_before = TRUE;
    return G_SOURCE_CONTINUE;
}

static void show_all(monitor *m)
{
    for (int i = 0; i < N_PLOTS; i++) show_now(&m->plots[i]);
}

/* ---- Making it ---- */

static GtkWidget *make_plot(plot *p)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 6), *title = gtk_label_new(_(p->title));
    GtkEventController *motion = gtk_event_controller_motion_new();
    p->hover = -1;
    p->area = g_object_new(GTK_TYPE_DRAWING_AREA, "content-height", 110, "hexpand", TRUE, "accessible-role",
                           GTK_ACCESSIBLE_ROLE_IMG, NULL);
    p->now = gtk_label_new(NULL);
    gtk_accessible_update_property(GTK_ACCESSIBLE(p->area), GTK_ACCESSIBLE_PROPERTY_LABEL, _(p->title), -1);
    gtk_drawing_area_set_draw_func(GTK_DRAWING_AREA(p->area), draw, p, NULL);
    gtk_widget_add_css_class(title, "heading");
    gtk_widget_add_css_class(p->now, "numeric");
    gtk_widget_add_css_class(p->area, "caption");
    g_object_set(title, "xalign", 0.0F, NULL);
    g_object_set(p->now, "xalign", 0.0F, "wrap", TRUE, NULL);
    g_signal_connect(motion, "motion", G_CALLBACK(on_motion), p);
    g_signal_connect(motion, "leave", G_CALLBACK(on_leave), p);
    gtk_widget_add_controller(p->area, motion);
    gtk_box_append(GTK_BOX(box), title);
    gtk_box_append(GTK_BOX(box), p->now);
    gtk_box_append(GTK_BOX(box), p->area);
    return box;
}

static void monitor_free(gpointer p)
{
    monitor *m = p;
    g_source_remove(m->timer);
    g_free(m);
}

GtkWidget *desk_monitor_new(void)
{
    static const plot kinds[N_PLOTS] = {
        { .title = N_("Memory"),
          .lines = { N_("Weights"), N_("KV cache"), N_("Scratch"), N_("Process") },
          .n_lines = 4,
          .format = as_bytes },
        { .title = N_("Speed"), .lines = { N_("Answers"), N_("Prompts") }, .n_lines = 2, .format = as_rate },
        { .title = N_("Time per Token"), .n_lines = 1, .format = as_time },
        { .title = N_("Time to First Token"), .n_lines = 1, .format = as_time },
    };
    monitor *m = g_new0(monitor, 1);
    GtkWidget *clamp = adw_clamp_new(), *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 24);
    m->root = gtk_scrolled_window_new();
    m->note = gtk_label_new(NULL);
    g_object_set(m->note, "xalign", 0.0F, "wrap", TRUE, NULL);
    gtk_widget_add_css_class(m->note, "dim-label");
    g_object_set(box, "margin-top", 24, "margin-bottom", 24, "margin-start", 18, "margin-end", 18, NULL);
    gtk_box_append(GTK_BOX(box), m->note);
    for (int i = 0; i < N_PLOTS; i++) {
        m->plots[i] = kinds[i];
        m->plots[i].monitor = m;
        for (int line = 0; line < MAX_LINES; line++)
            for (int s = 0; s < SECONDS; s++) m->plots[i].values[line][s] = NAN;
        gtk_box_append(GTK_BOX(box), make_plot(&m->plots[i]));
    }
    adw_clamp_set_maximum_size(ADW_CLAMP(clamp), 760);
    adw_clamp_set_child(ADW_CLAMP(clamp), box);
    gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(m->root), GTK_POLICY_NEVER, GTK_POLICY_AUTOMATIC);
    gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(m->root), clamp);
    gtk_accessible_update_property(GTK_ACCESSIBLE(m->root), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Resource Monitor"), -1);
    g_signal_connect_swapped(m->root, "map", G_CALLBACK(show_all), m);
    g_object_set_data_full(G_OBJECT(m->root), "monitor", m, monitor_free);
    m->timer = g_timeout_add_seconds(1, look, m);
    look(m);
    return m->root;
}
