/* SPDX-License-Identifier: Apache-2.0
 * widgets.c - see widgets.h. */
#include "widgets.h"
#include <string.h>

static void set_name(GtkWidget *widget, const char *name)
{
    gtk_widget_set_tooltip_text(widget, name);
    gtk_accessible_update_property(GTK_ACCESSIBLE(widget), GTK_ACCESSIBLE_PROPERTY_LABEL, name, -1);
}

void desk_name_button(GtkWidget *button, const char *icon, const char *name)
{
    gtk_button_set_icon_name(GTK_BUTTON(button), icon);
    set_name(button, name);
}

GtkWidget *desk_icon_button(const char *icon, const char *name)
{
    GtkWidget *button = gtk_button_new();
    desk_name_button(button, icon, name);
    return button;
}

GtkWidget *desk_menu_button(const char *icon, const char *name, GMenu *menu, gboolean primary)
{
    GtkWidget *button =
        g_object_new(GTK_TYPE_MENU_BUTTON, "icon-name", icon, "menu-model", menu, "primary", primary, NULL);
    set_name(button, name);
    g_object_unref(menu);
    return button;
}

void desk_row_heading(GtkListBoxRow *row, const char *above, const char *heading)
{
    if (above && strcmp(above, heading) == 0) return gtk_list_box_row_set_header(row, NULL);
    GtkWidget *label = gtk_label_new(heading);
    gtk_label_set_xalign(GTK_LABEL(label), 0);
    gtk_widget_add_css_class(label, "period");
    gtk_widget_add_css_class(label, "caption-heading");
    gtk_widget_add_css_class(label, "dim-label");
    gtk_list_box_row_set_header(row, label);
}
