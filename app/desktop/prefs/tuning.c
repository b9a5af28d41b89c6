/* SPDX-License-Identifier: Apache-2.0
 * tuning.c - the page of sampling, speed and guessing. Which kernels this processor has and which models could guess is looked up
 * on a thread. */
#include "prefs.h"

static const prefs_variable sampling[] = {
    { "MLX_TEMPERATURE", PREFS_NUMBER, FALSE, N_("Temperature"), N_("0 takes the likeliest token each time"),
      N_("Model’s Own"), 0, 100, 0.05, 2, NULL, NULL },
    { "MLX_TOP_P", PREFS_NUMBER, FALSE, N_("Top-p"), N_("Tokens are drawn from the likeliest ones that sum to this"),
      N_("Model’s Own"), 0, 1, 0.05, 2, NULL, NULL },
    { "MLX_MAX_TOKENS", PREFS_NUMBER, FALSE, N_("Longest Answer"), N_("In tokens; at the longest to the context’s end"),
      N_("No Limit"), 1, 2147483647, 256, 0, NULL, NULL },
};

static const prefs_variable speed[] = {
    { "MLX_THREADS", PREFS_NUMBER, TRUE, N_("Threads"), N_("Of the processor; more than it has cores are slower"),
      N_("Automatic"), 1, 1024, 1, 0, NULL, NULL },
    { "MLX_QUANTIZATION", PREFS_SWITCH, TRUE, N_("Pack When Loading"),
      N_("Unpacked models are packed to 4 bits when they first load: smaller and faster, a little less exact"), NULL, 0,
      0, 0, 0, NULL, NULL },
};

static const prefs_variable kernels = {
    "MLX_KERNELS", PREFS_CHOICE, TRUE, N_("Kernels"), N_("The processor’s instructions that compute"), NULL, 0, 0, 0, 0,
    NULL,          NULL
};

static const prefs_variable batch[] = {
    { "MLX_BATCH_SIZE", PREFS_NUMBER, FALSE, N_("Batch Size"),
      N_("Sequences that “whisperengine bench” decodes together, from the next one on; a chat is always one"),
      N_("Automatic"), 1, 16, 1, 0, NULL, NULL },
};

static const prefs_variable guessing[] = {
    { "MLX_PROMPT_LOOKUP", PREFS_SWITCH, FALSE, N_("Prompt Lookup"),
      N_("Guesses from earlier text; counts from the next answer on"), NULL, 0, 0, 0, 0, NULL, NULL },
};

static const prefs_variable draft = { "MLX_DRAFT_MODEL",
                                      PREFS_CHOICE,
                                      TRUE,
                                      N_("Draft Model"),
                                      N_("A small model of the same family guesses; a change loads the model again"),
                                      NULL,
                                      0,
                                      0,
                                      0,
                                      0,
                                      NULL,
                                      NULL };

typedef struct choices {
    GPtrArray *kernels, *models; /* values; the first is NULL */
} choices;

static void choices_free(gpointer data)
{
    choices *c = data;
    g_ptr_array_unref(c->kernels);
    g_ptr_array_unref(c->models);
    g_free(c);
}

static bool add_model(void *user, const we_model_entry *e)
{
    if (e->runnable) g_ptr_array_add(user, g_strdup(e->name));
    return true;
}

static void look(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    char **names = g_strsplit(prefs_value("MLX_KERNELS").words, "|", -1);
    choices *c = g_new0(choices, 1);
    (void)source, (void)data, (void)cancel;
    c->kernels = g_ptr_array_new_with_free_func(g_free);
    c->models = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(c->kernels, NULL);
    g_ptr_array_add(c->models, NULL);
    for (size_t i = 0; names[i]; i++) {
        we_engine *engine = NULL;
        we_engine_options o = WE_ENGINE_OPTIONS_INIT;
        o.device = "cpu";
        o.kernels = names[i];
        o.threads = 1;
        if (!we_engine_open(&engine, &o, NULL)) g_ptr_array_add(c->kernels, g_strdup(names[i]));
        we_engine_close(engine);
    }
    g_strfreev(names);
    we_models_list(add_model, c->models, NULL);
    g_task_return_pointer(task, c, choices_free);
}

typedef struct places {
    GtkWidget *speed, *guessing;
} places;

static void add(prefs *p, GtkWidget *group, const prefs_variable *v, const GPtrArray *values, const char *unset)
{
    GPtrArray *names = g_ptr_array_new();
    for (guint i = 0; i < values->len; i++)
        g_ptr_array_add(names, (gpointer)(values->pdata[i] ? desk_model_name(values->pdata[i]) : unset));
    prefs_add_choice(p, group, v, values, names);
    g_ptr_array_unref(names);
}

static void on_looked(GObject *source, GAsyncResult *result, gpointer user)
{
    const places *where = g_task_get_task_data(G_TASK(result));
    choices *c = g_task_propagate_pointer(G_TASK(result), NULL);
    (void)source;
    if (!c) return; /* the dialog is gone */
    add(user, where->speed, &kernels, c->kernels, _("Automatic"));
    prefs_add_variables(user, where->speed, batch, G_N_ELEMENTS(batch));
    add(user, where->guessing, &draft, c->models, _("None"));
    choices_free(c);
}

void prefs_tuning_page(prefs *p)
{
    GtkWidget *page = prefs_page(p, _("Tuning"), "preferences-other-symbolic");
    GtkWidget *answers = prefs_group(page, _("Answers"), _("These count from the next answer on."));
    places *where = g_new0(places, 1);
    prefs_add_variables(p, answers, sampling, G_N_ELEMENTS(sampling));
    where->speed = prefs_group(page, _("Speed"), _("A change loads the model again."));
    prefs_add_variables(p, where->speed, speed, G_N_ELEMENTS(speed));
    where->guessing = prefs_group(page, _("Speculative Decoding"),
                                  _("Guessed tokens are checked several at a time: the same answer, often sooner."));
    prefs_add_variables(p, where->guessing, guessing, G_N_ELEMENTS(guessing));
    prefs_look(p, look, where, g_free, on_looked);
}
