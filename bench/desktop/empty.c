/* SPDX-License-Identifier: Apache-2.0
 * empty.c - a libadwaita window with nothing in it: what any such program needs to start, for bench/desktop/measure. */
#include <adwaita.h>

static void activate(GApplication *app, gpointer user)
{
    GtkWidget *window = adw_application_window_new(GTK_APPLICATION(app));
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    (void)user;
    gtk_box_append(GTK_BOX(box), adw_header_bar_new());
    adw_application_window_set_content(ADW_APPLICATION_WINDOW(window), box);
    gtk_window_set_default_size(GTK_WINDOW(window), 980, 720);
    gtk_window_present(GTK_WINDOW(window));
}

int main(int argc, char **argv)
{
    AdwApplication *app = adw_application_new("org.whisperengine.Empty", 0);
    g_signal_connect(app, "activate", G_CALLBACK(activate), NULL);
    return g_application_run(G_APPLICATION(app), argc, argv);
}
