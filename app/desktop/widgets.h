/* SPDX-License-Identifier: Apache-2.0
 * widgets.h - small things that several parts make alike. A button without words says its name by a tooltip and to assistive
 * technology. */
#ifndef DESK_WIDGETS_H
#define DESK_WIDGETS_H

#include <gtk/gtk.h>

GtkWidget *desk_icon_button(const char *icon, const char *name);
/** Another icon and name for a button. */
void desk_name_button(GtkWidget *button, const char *icon, const char *name);
/** Takes `menu`. */
GtkWidget *desk_menu_button(const char *icon, const char *name, GMenu *menu, gboolean primary);
/** Puts `heading` above a list's row, unless the row before stands below the same one (`above`; NULL: it is the first). */
void desk_row_heading(GtkListBoxRow *row, const char *above, const char *heading);

#endif
