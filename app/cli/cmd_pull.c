/* SPDX-License-Identifier: Apache-2.0
 * cmd_pull.c - `pull`, `verify` and `rm`: models come from the hub, are checked, and go. Ctrl-C (and being ended from outside)
 * stops a pull at once; what has come is kept, and the next pull goes on from there. */
#include "cli.h"

#include <math.h>
#include <signal.h>
#include <unistd.h>

#define AT(field) offsetof(cli_options, field)

static int only_name(const cli_options *options, const char **name)
{
    if (options->positional.n != 1) return cli_usage_error(options->command, "which model? Its name is missing");
    *name = options->positional.items[0];
    return CLI_OK;
}

/* ---- pull ---- */

#define RATE_WINDOW_S 3.0 /* the rate that is shown is that of the last seconds */
#define NOTE_EVERY 10     /* percent, where standard error is no terminal */

typedef struct pull_view {
    double start_s, window_s, drawn_s, rate;
    uint64_t window_bytes; /* fetched when the window began */
    int noted;             /* percent that the last line told */
    bool told_waiting;
    we_pull_progress last;
} pull_view;

static void take_rate(pull_view *v, const we_pull_progress *p, double now)
{
    const double span = now - v->window_s;
    if (span < RATE_WINDOW_S && v->rate > 0) return;
    if (span > 0.2) v->rate = (double)(p->fetched_bytes - v->window_bytes) / span;
    if (span < RATE_WINDOW_S) return;
    v->window_s = now;
    v->window_bytes = p->fetched_bytes;
}

static void describe(const pull_view *v, const we_pull_progress *p, we_buf *line)
{
    char done[24], total[24], rate[24];
    const uint64_t left = p->total_bytes - WE_MIN(p->done_bytes, p->total_bytes);
    we_buf_printf(line, "Fetching %3d%%  %s of %s", (int)(100.0 * (double)p->done_bytes / (double)p->total_bytes),
                  we_format_bytes(done, p->done_bytes), we_format_bytes(total, p->total_bytes));
    if (v->rate >= 1) {
        const double left_s = (double)left / v->rate;
        we_buf_printf(line, "  %s/s  %.0f:%02.0f left", we_format_bytes(rate, (uint64_t)v->rate), floor(left_s / 60),
                      floor(fmod(left_s, 60)));
    }
    if (p->total_files > 1)
        we_buf_printf(line, "  file %zu of %zu", WE_MIN(p->done_files + 1, p->total_files), p->total_files);
}

static bool show_pull(void *user, const we_pull_progress *p)
{
    pull_view *v = user;
    const double now = we_now_s();
    v->last = *p;
    v->last.file = v->last.waiting = NULL;
    if (cli_interrupted()) return false;
    if (p->waiting && !v->told_waiting) {
        cli_note("waiting for another program that fetches %s", p->waiting);
        v->told_waiting = true;
    }
    if (p->total_bytes == 0) return true;
    take_rate(v, p, now);
    we_buf line = { 0 };
    describe(v, p, &line);
    const int percent = (int)(100.0 * (double)p->done_bytes / (double)p->total_bytes);
    if (cli_is_smart_terminal(stderr)) {
        if (now - v->drawn_s >= 0.1 && line.ptr) cli_progress_show(line.ptr), v->drawn_s = now;
    } else if (percent >= v->noted + NOTE_EVERY && percent < 100 && line.ptr) {
        cli_note("%s", line.ptr);
        v->noted = percent / NOTE_EVERY * NOTE_EVERY;
    }
    we_buf_deinit(&line);
    return true;
}

static int pull_json(const char *name, const char *path, const we_pull_progress *p, double seconds)
{
    cli_json json;
    we_model_source source = { .size = sizeof source };
    we_error err;
    if (we_model_get_source(&source, path, &err)) return cli_fail(&err);
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    cli_json_text(&json, "name", name);
    cli_json_text(&json, "path", path);
    cli_json_text(&json, "repo", source.repo);
    cli_json_text(&json, "commit", source.commit);
    cli_json_i64(&json, "fetched_files", p->total_files);
    cli_json_i64(&json, "fetched_bytes", p->fetched_bytes);
    cli_json_f64(&json, "seconds", seconds);
    we_json_end_object(&json.w);
    we_model_source_deinit(&source);
    return cli_json_end(&json);
}

int cli_pull(const cli_options *options, const char *name, char **path, we_pull_progress *last)
{
    we_error err;
    pull_view view = { .start_s = we_now_s(), .window_s = we_now_s() };
    we_pull_options o = WE_PULL_OPTIONS_INIT;
    if (options->connections.set) o.connections = (int)options->connections.value;
    if (options->retries.set) o.retries = (int)options->retries.value;
    o.progress = show_pull;
    o.progress_user = &view;
    cli_interrupt_catch();
    signal(SIGXFSZ, SIG_IGN); /* a file beyond the user's limit is an error with a name, not our end */
    const we_status st = we_model_pull(name, &o, path, &err);
    cli_progress_end();
    if (last) *last = view.last;
    if (st == WE_E_CANCELLED && cli_interrupted()) {
        cli_note("Stopped. What has come is kept: the same command goes on from there.");
        return cli_interrupt_status();
    }
    return st ? cli_fail(&err) : CLI_OK;
}

static int run_pull(const cli_options *options)
{
    const char *name = NULL;
    char *path = NULL, bytes[24];
    we_pull_progress last;
    const double start = we_now_s();
    int status = only_name(options, &name);
    if (!status) status = cli_pull(options, name, &path, &last);
    if (status) return status;
    if (options->json) {
        status = pull_json(name, path, &last, we_now_s() - start);
    } else {
        we_buf line = { 0 };
        if (last.total_files)
            cli_note("%zu file%s, %s fetched in %.0f s", last.total_files, last.total_files == 1 ? "" : "s",
                     we_format_bytes(bytes, last.fetched_bytes), we_now_s() - start);
        else
            cli_note("everything was here already");
        cli_out_printf("%s\n", cli_escape_line(&line, path));
        we_buf_deinit(&line);
    }
    we_free(path);
    return status;
}

static const cli_option pull_own[] = {
    { "connections", 0, CLI_INT, AT(connections), 1, 64, "N", "at once (default 8)" },
    { "retries", 0, CLI_INT, AT(retries), 0, 100, "N", "of a request that fails without any progress (default 5)" },
};
const cli_command cli_command_pull = {
    "pull",
    "[options] REPO[@REVISION]",
    "fetch a model from the Hugging Face hub",
    "REPO is ORG/NAME, or a short name like llama-3.2-1b; REVISION a branch, a tag or a commit. Only the files that the model\n"
    "needs are fetched, into the cache that Hugging Face's own tools use (HF_HOME), and what is there is not fetched again.\n"
    "After a break the same command goes on. HF_TOKEN is for models that ask for one, HF_ENDPOINT for another hub.\n"
    "Prints the folder.",
    pull_own,
    WE_COUNT(pull_own),
    { NULL },
    1,
    run_pull
};

/* ---- verify ---- */

typedef struct verify_view {
    cli_progress progress;
    const cli_options *options;
    cli_json json;
} verify_view;

static bool verify_step(void *user, uint64_t done, uint64_t total)
{
    cli_progress_step(&((verify_view *)user)->progress, done, total);
    return !cli_interrupted();
}

static void verify_bad(void *user, const char *file, const char *why)
{
    verify_view *v = user;
    if (v->options->json) {
        we_json_begin_object(&v->json.w);
        cli_json_text(&v->json, "file", file);
        cli_json_text(&v->json, "why", why);
        we_json_end_object(&v->json.w);
    }
    cli_error("%s: %s", file, why);
}

static int verify_answer(verify_view *v, const char *path, const we_verify_result *r, bool sound)
{
    if (v->options->json) {
        we_json_end_array(&v->json.w);
        cli_json_text(&v->json, "path", path);
        cli_json_i64(&v->json, "checked", r->n_checked);
        cli_json_i64(&v->json, "without_hash", r->n_unknown);
        cli_json_i64(&v->json, "bytes", r->n_bytes);
        cli_json_bool(&v->json, "ok", sound);
        we_json_end_object(&v->json.w);
        return cli_json_end(&v->json);
    }
    char bytes[24];
    if (!sound) return CLI_OK;
    if (r->n_checked)
        cli_out_printf("ok: %zu file%s, %s, hashes right", r->n_checked, r->n_checked == 1 ? "" : "s",
                       we_format_bytes(bytes, r->n_bytes));
    else
        cli_out_printf("ok: %zu file%s, %s, readable and fitting together", r->n_unknown, r->n_unknown == 1 ? "" : "s",
                       we_format_bytes(bytes, r->n_bytes));
    if (r->n_checked && r->n_unknown) cli_out_printf(" (%zu without a known hash)", r->n_unknown);
    if (!r->n_checked) cli_out_printf(" (no hashes are known of a folder that did not come from the hub)");
    cli_out_printf("\n");
    return CLI_OK;
}

static int run_verify(const cli_options *given)
{
    cli_options options = *given;
    const char *name = NULL;
    char *path;
    we_error err;
    int status = only_name(given, &name);
    if (status) return status;
    options.model = name;
    if ((status = cli_model_path(&options, &path))) return status;
    verify_view view = { .progress = cli_progress_begin("Reading", true), .options = given };
    view.progress.show_rate = true;
    we_verify_options o = WE_VERIFY_OPTIONS_INIT;
    o.progress = verify_step;
    o.bad = verify_bad;
    o.user = &view;
    cli_json_begin(&view.json);
    we_json_begin_object(&view.json.w);
    cli_json_text(&view.json, "name", name);
    we_json_key(&view.json.w, "bad");
    we_json_begin_array(&view.json.w);
    cli_interrupt_catch();
    we_verify_result result = { .size = sizeof result };
    const we_status st = we_model_verify(path, &o, &result, &err);
    cli_progress_end();
    if (st == WE_E_CANCELLED && cli_interrupted()) {
        status = cli_interrupt_status();
    } else if (st) {
        status = cli_fail(&err);
    } else {
        status = verify_answer(&view, path, &result, result.n_bad == 0);
        if (result.n_bad) status = CLI_FAILED;
    }
    if (st || !given->json) we_buf_deinit(&view.json.buf);
    we_free(path);
    return status;
}

const cli_command cli_command_verify = {
    "verify",
    "[options] M",
    "check a model's files against their hashes",
    "Reads every file. Those from the hub must have the hash that the hub gave them; those of other folders must be readable.\n"
    "Configuration, weights and tokenizer must fit together. A wrong file of the hub: remove the model and pull it again.",
    NULL,
    0,
    { NULL },
    1,
    run_verify
};

/* ---- rm ---- */

/* Whether the person at the terminal says yes. */
static bool confirmed(void)
{
    char answer[16];
    fputs("Remove it? [y/N] ", stderr);
    fflush(stderr);
    if (!fgets(answer, sizeof answer, stdin)) return false;
    return strcmp(answer, "y\n") == 0 || strcmp(answer, "Y\n") == 0 || strcmp(answer, "yes\n") == 0;
}

static void show_removal(const we_removal *r)
{
    char bytes[24];
    if (r->link_target)
        cli_note("%s: a link to %s, which stays", r->path, r->link_target);
    else
        cli_note("%s: %zu file%s, %s become free", r->path, r->n_files, r->n_files == 1 ? "" : "s",
                 we_format_bytes(bytes, r->bytes));
}

static int rm_json(const char *name, const we_removal *r)
{
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    cli_json_text(&json, "name", name);
    cli_json_text(&json, "path", r->path);
    cli_json_i64(&json, "bytes", r->bytes);
    cli_json_i64(&json, "files", r->n_files);
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

static int run_rm(const cli_options *options)
{
    const char *name = NULL;
    we_error err;
    we_removal removal = { .size = sizeof removal };
    int status = only_name(options, &name);
    if (status) return status;
    if (we_model_removal_plan(&removal, name, &err)) return cli_fail(&err);
    show_removal(&removal);
    if (!options->yes && isatty(STDIN_FILENO) != 1) {
        cli_error("nothing was removed: standard input is no terminal to ask on; say --yes");
        status = CLI_FAILED;
    } else if (!options->yes && !confirmed()) {
        cli_note("Nothing was removed.");
        status = CLI_FAILED;
    } else if (we_model_removal_run(&removal, &err)) {
        status = cli_fail(&err);
    } else if (options->json) {
        status = rm_json(name, &removal);
    }
    we_model_removal_deinit(&removal);
    return status;
}

static const cli_option rm_own[] = {
    { "yes", 'y', CLI_FLAG, AT(yes), 0, 0, NULL, "do not ask" },
};
const cli_command cli_command_rm = {
    "rm",
    "[options] M",
    "remove a model from this machine",
    "Shows the folder and its size, and asks. Of the hub's cache the revision goes, and the content that no other revision\n"
    "refers to; a link goes alone, what it points to stays. Paths are refused: M is a name that `list` shows.",
    rm_own,
    WE_COUNT(rm_own),
    { NULL },
    1,
    run_rm
};
