/* SPDX-License-Identifier: Apache-2.0
 * message.c - see message.h. */
#include "message.h"
#include "highlight.h"
#include "markdown.h"
#include "widgets.h"
#include <adwaita.h>
#include <glib/gi18n.h>

#define INDENT 24
#define CELL_CHARS 40 /* wider cells of a table break their lines */

struct desk_message_view {
    int64_t id;
    const desk_message_actions *actions;
    gpointer user;
    char *text; /* as it is shown */
    GtkWidget *root, *body, *bar, *caption, *again, *problem, *problem_label, *details, *details_label, *go_on, *dots;
    GtkWidget *versions, *version, *earlier, *later; /* of an answer that was given more than once */
    GtkWidget *thoughts, *thoughts_label;            /* NULL until there are some */
    desk_blocks blocks;                              /* what the children of `body` show, in order */
};

/* ---- Text ---- */

static gboolean activate_link(GtkLabel *label, const char *address, gpointer p)
{
    const desk_message_view *v = p;
    (void)label;
    v->actions->open_link(v->user, address);
    return TRUE;
}

static GtkWidget *text_label(desk_message_view *v)
{
    GtkWidget *label = g_object_new(GTK_TYPE_LABEL, "wrap", TRUE, "wrap-mode", PANGO_WRAP_WORD_CHAR, "xalign", 0.0F,
                                    "yalign", 0.0F, "selectable", TRUE, "hexpand", TRUE, NULL);
    g_signal_connect(label, "activate-link", G_CALLBACK(activate_link), v);
    return label;
}

static void set_markup(GtkWidget *label, const char *markup) { gtk_label_set_markup(GTK_LABEL(label), markup); }

static void copy_text(GtkWidget *button, const char *text, desk_message_view *v)
{
    gdk_clipboard_set_text(gtk_widget_get_clipboard(button), text);
    v->actions->copied(v->user);
}

static GtkWidget *flat_button(const char *icon, const char *name)
{
    GtkWidget *button = desk_icon_button(icon, name);
    gtk_widget_add_css_class(button, "flat");
    return button;
}

/* ---- Blocks ---- */

static void copy_code(GtkButton *button, gpointer p)
{
    GtkWidget *label = g_object_get_data(G_OBJECT(button), "code");
    copy_text(GTK_WIDGET(button), gtk_label_get_text(GTK_LABEL(label)), p);
}

/* Words of code in GNOME's palette: dark tones on light, light ones on dark. */
static void color_word(void *user, desk_token token, size_t from, size_t to)
{
    static const guint32 colors[2][DESK_TOKENS] = { /* keyword, value, string, number, comment, name */
                                                    { 0x813d9c, 0xa51d2d, 0x17683b, 0xa14a00, 0x6a6873, 0x1a5fb4 },
                                                    { 0xdc8add, 0xff9b8f, 0x8ff0a4, 0xffbe6f, 0xa8a5ad, 0x99c1f1 }
    };
    const guint32 rgb = colors[adw_style_manager_get_dark(adw_style_manager_get_default())][token];
    PangoAttribute *color = pango_attr_foreground_new(
        (guint16)((rgb >> 16) * 0x101), (guint16)((rgb >> 8 & 0xff) * 0x101), (guint16)((rgb & 0xff) * 0x101));
    color->start_index = (guint)from;
    color->end_index = (guint)to;
    pango_attr_list_insert(user, color);
}

static void color_code(GtkWidget *label)
{
    PangoAttrList *words = pango_attr_list_new();
    desk_highlight(g_object_get_data(G_OBJECT(label), "language"), we_str_from(gtk_label_get_text(GTK_LABEL(label))),
                   color_word, words);
    gtk_label_set_attributes(GTK_LABEL(label), words);
    pango_attr_list_unref(words);
}

static GtkWidget *code_widget(desk_message_view *v, const desk_block *b)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0), *head = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6);
    GtkWidget *language = gtk_label_new(b->marker), *copy = flat_button("edit-copy-symbolic", _("Copy Code"));
    GtkWidget *scroller = gtk_scrolled_window_new(), *label = gtk_label_new(b->text);
    gtk_widget_add_css_class(box, "code-block");
    gtk_widget_add_css_class(head, "code-head");
    gtk_widget_add_css_class(language, "caption");
    gtk_widget_add_css_class(language, "dim-label");
    gtk_label_set_ellipsize(GTK_LABEL(language), PANGO_ELLIPSIZE_END);
    gtk_label_set_xalign(GTK_LABEL(language), 0);
    gtk_widget_set_hexpand(language, TRUE);
    gtk_box_append(GTK_BOX(head), language);
    gtk_box_append(GTK_BOX(head), copy);
    g_object_set(label, "selectable", TRUE, "xalign", 0.0F, "yalign", 0.0F, NULL);
    gtk_widget_add_css_class(label, "monospace");
    gtk_widget_add_css_class(label, "code-text");
    gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scroller), GTK_POLICY_AUTOMATIC, GTK_POLICY_NEVER);
    gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(scroller), label);
    gtk_accessible_update_property(GTK_ACCESSIBLE(scroller), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Code"), -1);
    gtk_box_append(GTK_BOX(box), head);
    gtk_box_append(GTK_BOX(box), scroller);
    g_object_set_data_full(G_OBJECT(label), "language", g_strdup(b->marker), g_free);
    color_code(label);
    g_signal_connect_object(adw_style_manager_get_default(), "notify::dark", G_CALLBACK(color_code), label,
                            G_CONNECT_SWAPPED);
    g_object_set_data(G_OBJECT(copy), "code", label);
    g_signal_connect(copy, "clicked", G_CALLBACK(copy_code), v);
    g_object_set_data(G_OBJECT(box), "label", label);
    return box;
}

static GtkWidget *table_widget(desk_message_view *v, const desk_block *b)
{
    GtkWidget *scroller = gtk_scrolled_window_new(), *grid = gtk_grid_new();
    char **rows = g_strsplit(b->text, "\x1e", -1);
    gtk_widget_add_css_class(grid, "md-table");
    gtk_widget_set_halign(grid, GTK_ALIGN_START);
    for (int y = 0; rows[y]; y++) {
        char **cells = g_strsplit(rows[y], "\x1f", -1);
        for (int x = 0; cells[x]; x++) {
            GtkWidget *cell = text_label(v);
            set_markup(cell, cells[x]);
            /* Of one width: the scroller asks for the height at the least width, which would leave a gap below. */
            if (g_utf8_strlen(gtk_label_get_text(GTK_LABEL(cell)), -1) > CELL_CHARS)
                g_object_set(cell, "width-chars", CELL_CHARS, "max-width-chars", CELL_CHARS, NULL);
            else
                g_object_set(cell, "wrap", FALSE, NULL);
            gtk_widget_add_css_class(cell, y ? "cell" : "head-cell");
            if (y && !rows[y + 1]) gtk_widget_add_css_class(cell, "last-row");
            gtk_grid_attach(GTK_GRID(grid), cell, x, y, 1, 1);
        }
        g_strfreev(cells);
    }
    g_strfreev(rows);
    gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scroller), GTK_POLICY_AUTOMATIC, GTK_POLICY_NEVER);
    gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(scroller), grid);
    gtk_accessible_update_property(GTK_ACCESSIBLE(scroller), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Table"), -1);
    return scroller;
}

static GtkWidget *words_widget(desk_message_view *v, const desk_block *b)
{
    static const char *const headings[] = {
        "title-2", "title-2", "title-3", "title-4", "heading", "heading", "heading"
    };
    GtkWidget *label = text_label(v), *box = label;
    set_markup(label, b->text);
    if (b->kind == DESK_HEADING) gtk_widget_add_css_class(label, headings[b->level]);
    if (b->kind == DESK_ITEM) {
        GtkWidget *marker = gtk_label_new(b->marker);
        box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 8);
        g_object_set(marker, "xalign", 1.0F, "yalign", 0.0F, "width-request", INDENT, NULL);
        gtk_widget_add_css_class(marker, "numeric");
        gtk_box_append(GTK_BOX(box), marker);
        gtk_box_append(GTK_BOX(box), label);
    }
    g_object_set_data(G_OBJECT(box), "label", label);
    return box;
}

static GtkWidget *block_widget(desk_message_view *v, const desk_block *b, const desk_block *before)
{
    GtkWidget *w = b->kind == DESK_CODE    ? code_widget(v, b)
                   : b->kind == DESK_TABLE ? table_widget(v, b)
                   : b->kind == DESK_RULE  ? gtk_separator_new(GTK_ORIENTATION_HORIZONTAL)
                                           : words_widget(v, b);
    const gboolean items = before && before->kind == DESK_ITEM && b->kind == DESK_ITEM;
    gtk_widget_set_margin_top(w, !before ? 0 : items ? 4 : b->kind == DESK_HEADING ? 18 : 12);
    if (b->depth || (b->kind == DESK_CODE && before && before->kind == DESK_ITEM))
        gtk_widget_set_margin_start(w, INDENT * b->depth);
    if (b->quotes) gtk_widget_add_css_class(w, "quote");
    return w;
}

static gboolean same(const desk_block *a, const desk_block *b)
{
    return a->kind == b->kind && a->level == b->level && a->depth == b->depth && a->quotes == b->quotes &&
           strcmp(a->marker, b->marker) == 0 && strcmp(a->text, b->text) == 0;
}

/* The one that is being written grows: its label takes the new text and stays the same widget. */
static gboolean grow(GtkWidget *child, const desk_block *a, const desk_block *b)
{
    GtkWidget *label = g_object_get_data(G_OBJECT(child), "label");
    if (!label || a->kind != b->kind || a->level != b->level || a->depth != b->depth || a->quotes != b->quotes ||
        strcmp(a->marker, b->marker) != 0)
        return FALSE;
    if (b->kind == DESK_CODE) {
        gtk_label_set_text(GTK_LABEL(label), b->text);
        color_code(label);
    } else {
        set_markup(label, b->text);
    }
    return TRUE;
}

static void show_blocks(desk_message_view *v, const char *text)
{
    desk_blocks now = { 0 };
    desk_markdown(&now, we_str_from(text));
    GtkWidget *child = gtk_widget_get_first_child(v->body);
    size_t i = 0;
    for (; i < now.n && i < v->blocks.n; i++) { /* what is the same stays */
        GtkWidget *next = gtk_widget_get_next_sibling(child);
        if (!same(&v->blocks.items[i], &now.items[i]) && !grow(child, &v->blocks.items[i], &now.items[i])) break;
        child = next;
    }
    while (child) {
        GtkWidget *next = gtk_widget_get_next_sibling(child);
        gtk_box_remove(GTK_BOX(v->body), child);
        child = next;
    }
    for (; i < now.n; i++)
        gtk_box_append(GTK_BOX(v->body), block_widget(v, &now.items[i], i ? &now.items[i - 1] : NULL));
    desk_blocks_deinit(&v->blocks);
    v->blocks = now;
}

/* Models that think aloud write <think>...</think> first. */
static const char *show_thoughts(desk_message_view *v, const char *text)
{
    const char *from = text;
    while (g_ascii_isspace(*from)) from++;
    if (!g_str_has_prefix(from, "<think>")) return text;
    from += 7;
    const char *end = strstr(from, "</think>"), *rest = end ? end + 8 : "";
    char *thoughts = end ? g_strndup(from, (gsize)(end - from)) : g_strdup(from);
    g_strstrip(thoughts);
    if (*thoughts && !v->thoughts) {
        v->thoughts = gtk_expander_new(_("Thoughts"));
        v->thoughts_label = text_label(v);
        gtk_widget_add_css_class(v->thoughts_label, "dim-label");
        gtk_widget_add_css_class(v->thoughts_label, "quote");
        gtk_widget_set_margin_top(v->thoughts_label, 6);
        gtk_widget_set_margin_bottom(v->thoughts, 6);
        gtk_expander_set_child(GTK_EXPANDER(v->thoughts), v->thoughts_label);
        gtk_box_prepend(GTK_BOX(v->root), v->thoughts);
    }
    if (v->thoughts) {
        gtk_label_set_text(GTK_LABEL(v->thoughts_label), thoughts);
        gtk_expander_set_label(GTK_EXPANDER(v->thoughts), end ? _("Thoughts") : _("Thinking…"));
    }
    g_free(thoughts);
    while (g_ascii_isspace(*rest)) rest++;
    return rest;
}

/* ---- Buttons ---- */

static void copy_message(GtkButton *button, gpointer p)
{
    desk_message_view *v = p;
    copy_text(GTK_WIDGET(button), v->text, v);
}

static void again(GtkButton *button, gpointer p)
{
    const desk_message_view *v = p;
    (void)button;
    v->actions->again(v->user, v->id);
}

static void edit(GtkButton *button, gpointer p)
{
    const desk_message_view *v = p;
    (void)button;
    v->actions->edit(v->user, v->id);
}

static void go_on(GtkButton *button, gpointer p)
{
    const desk_message_view *v = p;
    (void)button;
    v->actions->go_on(v->user, v->id);
}

static void earlier(GtkButton *button, gpointer p)
{
    const desk_message_view *v = p;
    (void)button;
    v->actions->version(v->user, v->id, -1);
}

static void later(GtkButton *button, gpointer p)
{
    const desk_message_view *v = p;
    (void)button;
    v->actions->version(v->user, v->id, 1);
}

static GtkWidget *add_button(desk_message_view *v, const char *icon, const char *name, GCallback fn)
{
    GtkWidget *button = flat_button(icon, name);
    g_signal_connect(button, "clicked", fn, v);
    gtk_box_append(GTK_BOX(v->bar), button);
    return button;
}

/* ---- The two kinds ---- */

static void attachment_chips(GtkWidget *box, const desk_message *m)
{
    for (guint i = 0; m->attachments && i < m->attachments->len; i++) {
        const desk_attachment *a = m->attachments->pdata[i];
        GtkWidget *chip = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6), *name = gtk_label_new(a->name);
        gtk_widget_add_css_class(chip, "chip");
        gtk_label_set_ellipsize(GTK_LABEL(name), PANGO_ELLIPSIZE_MIDDLE);
        gtk_box_append(GTK_BOX(chip), gtk_image_new_from_icon_name("text-x-generic-symbolic"));
        gtk_box_append(GTK_BOX(chip), name);
        gtk_widget_set_halign(chip, GTK_ALIGN_END);
        gtk_box_append(GTK_BOX(box), chip);
    }
}

static void make_user(desk_message_view *v, const desk_message *m)
{
    GtkWidget *label = text_label(v), *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6);
    gtk_widget_set_margin_start(v->root, 24);
    attachment_chips(v->root, m);
    v->body = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    gtk_widget_add_css_class(v->body, "bubble");
    gtk_widget_set_hexpand(label, FALSE);
    gtk_label_set_text(GTK_LABEL(label), m->text);
    gtk_box_append(GTK_BOX(v->body), label);
    gtk_widget_set_visible(v->body, *m->text != 0);
    gtk_widget_set_valign(v->bar, GTK_ALIGN_CENTER);
    add_button(v, "document-edit-symbolic", _("Edit and Send Again"), G_CALLBACK(edit));
    add_button(v, "edit-copy-symbolic", _("Copy Message"), G_CALLBACK(copy_message));
    gtk_box_append(GTK_BOX(row), v->bar);
    gtk_box_append(GTK_BOX(row), v->body);
    gtk_widget_set_halign(row, GTK_ALIGN_END);
    gtk_box_append(GTK_BOX(v->root), row);
    gtk_accessible_update_property(GTK_ACCESSIBLE(v->root), GTK_ACCESSIBLE_PROPERTY_LABEL, _("You"), -1);
}

static void make_versions(desk_message_view *v)
{
    v->versions = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 0);
    v->earlier = flat_button("go-previous-symbolic", _("Earlier Version"));
    v->version = gtk_label_new(NULL);
    v->later = flat_button("go-next-symbolic", _("Later Version"));
    gtk_widget_add_css_class(v->version, "caption");
    gtk_widget_add_css_class(v->version, "numeric");
    g_signal_connect(v->earlier, "clicked", G_CALLBACK(earlier), v);
    g_signal_connect(v->later, "clicked", G_CALLBACK(later), v);
    gtk_box_append(GTK_BOX(v->versions), v->earlier);
    gtk_box_append(GTK_BOX(v->versions), v->version);
    gtk_box_append(GTK_BOX(v->versions), v->later);
    gtk_box_append(GTK_BOX(v->bar), v->versions);
}

static void show_versions(desk_message_view *v, const desk_message *m)
{
    const guint n = m->others ? m->others->len : 0;
    guint place = 0;
    while (place < n && ((const desk_message *)m->others->pdata[place])->id < m->id) place++;
    char *text = g_strdup_printf("%u/%u", place + 1, n + 1);
    gtk_label_set_text(GTK_LABEL(v->version), text);
    gtk_widget_set_sensitive(v->earlier, place > 0);
    gtk_widget_set_sensitive(v->later, place < n);
    gtk_widget_set_visible(v->versions, n > 0);
    g_free(text);
}

static void make_answer(desk_message_view *v)
{
    v->body = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    v->dots = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 5);
    for (int i = 0; i < 3; i++) {
        GtkWidget *dot = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 0);
        gtk_widget_add_css_class(dot, "dot");
        gtk_widget_set_valign(dot, GTK_ALIGN_CENTER);
        gtk_box_append(GTK_BOX(v->dots), dot);
    }
    gtk_widget_add_css_class(v->dots, "dots");
    gtk_accessible_update_property(GTK_ACCESSIBLE(v->dots), GTK_ACCESSIBLE_PROPERTY_LABEL, _("An answer is coming"),
                                   -1);
    GtkWidget *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 12);
    v->problem = gtk_box_new(GTK_ORIENTATION_VERTICAL, 6);
    v->problem_label = g_object_new(GTK_TYPE_LABEL, "wrap", TRUE, "wrap-mode", PANGO_WRAP_WORD_CHAR, "xalign", 0.0F,
                                    "hexpand", TRUE, "selectable", TRUE, NULL);
    v->go_on = gtk_button_new_with_label(_("Continue"));
    gtk_widget_set_valign(v->go_on, GTK_ALIGN_CENTER);
    g_signal_connect(v->go_on, "clicked", G_CALLBACK(go_on), v);
    gtk_box_append(GTK_BOX(row), v->problem_label);
    gtk_box_append(GTK_BOX(row), v->go_on);
    v->details = gtk_expander_new(_("Details"));
    v->details_label = text_label(v);
    gtk_expander_set_child(GTK_EXPANDER(v->details), v->details_label);
    gtk_box_append(GTK_BOX(v->problem), row);
    gtk_box_append(GTK_BOX(v->problem), v->details);
    gtk_widget_set_margin_top(v->problem, 6);
    gtk_box_append(GTK_BOX(v->root), v->body);
    gtk_box_append(GTK_BOX(v->root), v->dots);
    gtk_box_append(GTK_BOX(v->root), v->problem);
    add_button(v, "edit-copy-symbolic", _("Copy Answer"), G_CALLBACK(copy_message));
    v->again = add_button(v, "view-refresh-symbolic", _("Answer Again"), G_CALLBACK(again));
    make_versions(v);
    v->caption =
        g_object_new(GTK_TYPE_LABEL, "xalign", 0.0F, "ellipsize", PANGO_ELLIPSIZE_END, "margin-start", 6, NULL);
    gtk_widget_add_css_class(v->caption, "caption");
    gtk_widget_add_css_class(v->caption, "dim-label");
    gtk_box_append(GTK_BOX(v->bar), v->caption);
    gtk_box_append(GTK_BOX(v->root), v->bar);
    gtk_accessible_update_property(GTK_ACCESSIBLE(v->root), GTK_ACCESSIBLE_PROPERTY_LABEL, _("Answer"), -1);
}

static void view_free(gpointer p)
{
    desk_message_view *v = p;
    desk_blocks_deinit(&v->blocks);
    g_free(v->text);
    g_free(v);
}

desk_message_view *desk_message_view_new(const desk_message *m, const desk_message_actions *actions, gpointer user)
{
    desk_message_view *v = g_new0(desk_message_view, 1);
    v->id = m->id;
    v->actions = actions;
    v->user = user;
    v->root = g_object_new(GTK_TYPE_BOX, "orientation", GTK_ORIENTATION_VERTICAL, "spacing", 4, "accessible-role",
                           GTK_ACCESSIBLE_ROLE_GROUP, NULL);
    v->bar = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 0);
    gtk_widget_add_css_class(v->root, "message");
    gtk_widget_add_css_class(v->bar, "message-bar");
    g_object_set_data_full(G_OBJECT(v->root), "view", v, view_free);
    if (m->role == DESK_USER)
        make_user(v, m);
    else
        make_answer(v);
    desk_message_view_update(v, m);
    return v;
}

GtkWidget *desk_message_view_widget(desk_message_view *v) { return v->root; }

static const char *state_text(const desk_message *m)
{
    switch (m->state) {
    case DESK_STOPPED: return _("Stopped.");
    case DESK_INTERRUPTED: return _("WhisperEngine was closed before this answer was complete.");
    case DESK_CUT: return _("The answer reached the greatest length that is set.");
    case DESK_FAILED: return m->note;
    case DESK_WHOLE:
    case DESK_STREAMING: break;
    }
    return NULL;
}

/* What failed first comes first; a line behind it tells who else was asked. */
static void show_problem(desk_message_view *v, const char *text)
{
    const char *end = strchr(text, '\n');
    char *first = end ? g_strndup(text, (gsize)(end - text)) : g_strdup(text);
    gtk_label_set_text(GTK_LABEL(v->problem_label), first);
    gtk_label_set_text(GTK_LABEL(v->details_label), end ? end + 1 : "");
    gtk_widget_set_visible(v->details, end != NULL);
    g_free(first);
}

void desk_message_view_update(desk_message_view *v, const desk_message *m)
{
    if (!v->text || strcmp(v->text, m->text) != 0) {
        g_free(v->text);
        v->text = g_strdup(m->text);
        if (m->role == DESK_ASSISTANT) show_blocks(v, show_thoughts(v, m->text));
    }
    if (m->role == DESK_USER) return;
    const char *state = state_text(m);
    const gboolean streaming = m->state == DESK_STREAMING, failed = m->state == DESK_FAILED;
    gtk_widget_set_visible(v->body, v->blocks.n > 0);
    gtk_widget_set_visible(v->dots, streaming && !v->blocks.n);
    gtk_widget_set_visible(v->bar, !streaming && (*m->text || m->others));
    show_versions(v, m);
    gtk_widget_set_visible(v->problem, state != NULL);
    show_problem(v, state ? state : "");
    if (failed)
        gtk_widget_add_css_class(v->problem, "problem");
    else
        gtk_widget_remove_css_class(v->problem, "problem");
    if (failed)
        gtk_widget_remove_css_class(v->problem_label, "dim-label");
    else
        gtk_widget_add_css_class(v->problem_label, "dim-label");
    gtk_button_set_label(GTK_BUTTON(v->go_on), *m->text ? _("Continue") : _("Try Again"));
    gtk_label_set_text(GTK_LABEL(v->caption), failed ? "" : m->note);
}

void desk_message_view_set_last(desk_message_view *v, gboolean last)
{
    if (last)
        gtk_widget_add_css_class(v->root, "last");
    else
        gtk_widget_remove_css_class(v->root, "last");
    if (v->go_on) gtk_widget_set_visible(v->go_on, last);
    if (v->again) gtk_widget_set_visible(v->again, last);
}
