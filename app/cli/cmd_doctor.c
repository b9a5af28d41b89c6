/* SPDX-License-Identifier: Apache-2.0
 * cmd_doctor.c - `doctor`: looks at all that a chat needs and tells what is wrong, each with its mend. Every check is a function
 * that adds findings; one table is their order. Exit status 1 where something keeps `chat` from answering. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

typedef enum verdict { VERDICT_OK, VERDICT_NOTE, VERDICT_WARNING, VERDICT_BLOCKS } verdict;

static const char *const verdict_names[] = { "ok", "note", "warning", "blocks" };
static const cli_style verdict_styles[] = { CLI_STYLE_GREEN, CLI_STYLE_DIM, CLI_STYLE_CYAN, CLI_STYLE_RED };

typedef struct doctor {
    const cli_options *options;
    const char *area; /* of the running check */
    cli_json json;
    int columns;
    size_t n[WE_COUNT(verdict_names)];
    we_machine machine;
    bool knows_machine;
} doctor;

/* ---- Findings ---- */

/* Words broken into lines; the first goes on where `at` columns are taken. */
static void print_wrapped(const doctor *d, const char *text, int indent)
{
    we_buf escaped = { 0 };
    const char *p = cli_escape_line(&escaped, text);
    int at = indent;
    while (*p) {
        const int len = (int)strcspn(p, " ");
        if (at > indent && at + 1 + len > d->columns) {
            cli_out_printf("\n%*s", indent, "");
            at = indent;
        } else if (at > indent) {
            cli_out_printf(" ");
            at++;
        }
        cli_out_printf("%.*s", len, p);
        at += len;
        p += len + (p[len] == ' ');
    }
    cli_out_printf("\n");
    we_buf_deinit(&escaped);
}

static void find(doctor *d, verdict v, const char *mend, const char *format, ...) WE_PRINTF(4, 5);
/* mend: what to do; NULL where nothing need be done. */
static void find(doctor *d, verdict v, const char *mend, const char *format, ...)
{
    enum { INDENT = 21 };
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c; c++)
        if (*c == '\n') *c = ' '; /* a message of two lines is wrapped here */
    d->n[v]++;
    if (d->options->json) {
        we_json_begin_object(&d->json.w);
        cli_json_text(&d->json, "area", d->area);
        cli_json_text(&d->json, "verdict", verdict_names[v]);
        cli_json_text(&d->json, "finding", text);
        cli_json_text(&d->json, "mend", mend);
        we_json_end_object(&d->json.w);
        return;
    }
    cli_out_printf("%s%-8s%s %-11s ", cli_style_code(stdout, verdict_styles[v]), verdict_names[v],
                   cli_style_code(stdout, CLI_STYLE_RESET), d->area);
    print_wrapped(d, text, INDENT);
    if (!mend) return;
    cli_out_printf("%*s", INDENT, "");
    print_wrapped(d, mend, INDENT);
}

/* ---- The machine ---- */

static void check_cpu(doctor *d)
{
    we_engine *engine;
    we_error err;
    we_engine_options o = WE_ENGINE_OPTIONS_INIT;
    o.device = "cpu";
    o.threads = 1;
    if (we_engine_open(&engine, &o, &err)) {
        find(d, VERDICT_BLOCKS, "Please report it, with this output.", "the engine does not start: %s", err.message);
        return;
    }
    we_engine_info info = { .size = sizeof info };
    we_engine_get_info(engine, &info);
    if (strcmp(info.kernels, "reference") == 0)
        find(d, VERDICT_WARNING, "A CPU with AVX2, or a 64-bit ARM one, is many times faster.",
             "no vector instructions that this program knows: the plain kernels run");
    else
        find(d, VERDICT_OK, NULL, "%d core%s, %s kernels", we_cpu_count(), we_cpu_count() == 1 ? "" : "s",
             info.kernels);
    we_engine_close(engine);
}

static void check_memory(doctor *d)
{
    char total[24], available[24];
    if (!d->knows_machine) {
        find(d, VERDICT_WARNING, "Mount /proc.", "the system does not tell its memory");
        return;
    }
    const uint64_t free_bytes = d->machine.memory_available_bytes;
    const bool little = free_bytes < UINT64_C(500000000);
    find(d, little ? VERDICT_WARNING : VERDICT_OK,
         little ? "Close other programs; `whisperengine top` shows the ones that run a model." : NULL,
         "%s, %s of it available", we_format_bytes(total, d->machine.memory_total_bytes),
         we_format_bytes(available, free_bytes));
}

static void check_gpu(doctor *d)
{
    const bool any = d->knows_machine && d->machine.gpus[0];
    const char *gpus = any ? d->machine.gpus : "none that the system shows";
    we_engine *engine;
    we_error why;
    we_engine_options o = WE_ENGINE_OPTIONS_INIT;
    o.device = "mlx";
    if (we_engine_open(&engine, &o, &why)) {
        find(d, VERDICT_NOTE, NULL, "%s; models run on the CPU. %s", gpus, why.message);
        return;
    }
    we_engine_info info = { .size = sizeof info };
    char limit[24];
    we_engine_get_info(engine, &info);
    if (strcmp(info.kernels, "mlx-cpu") == 0)
        find(d, VERDICT_NOTE, NULL, "%s; %s finds no GPU, so models run on the CPU with kernels of our own", gpus,
             info.detail);
    else
        find(d, VERDICT_OK, NULL, "%s (%s), memory limit %s", info.detail, info.kernels,
             we_format_bytes(limit, info.memory_limit_bytes));
    we_engine_close(engine);
}

static void check_disk(doctor *d)
{
    const uint64_t free_bytes = d->knows_machine ? d->machine.disk_free_bytes : 0;
    char text[24];
    if (free_bytes == 0)
        find(d, VERDICT_WARNING, "Look at the folder that HF_HOME names, or at ~/.cache.",
             "no room where downloads go, or it can't be told");
    else if (free_bytes < UINT64_C(2000000000))
        find(d, VERDICT_WARNING, "Free some: a small model takes 1 GB, `whisperengine rm` removes one.",
             "%s free where downloads go", we_format_bytes(text, free_bytes));
    else
        find(d, VERDICT_OK, NULL, "%s free where downloads go", we_format_bytes(text, free_bytes));
}

/* ---- Folders ---- */

static void check_folder(doctor *d, const char *what, char *path)
{
    char mend[1024];
    if (!path) {
        find(d, VERDICT_WARNING, "Set HOME.", "%s: there is no home folder", what);
        return;
    }
    if (!we_path_exists(path)) {
        find(d, VERDICT_OK, NULL, "%s: %s, made when it is needed", what, path);
    } else if (!we_path_is_dir(path)) {
        snprintf(mend, sizeof mend, "Move it away: mv '%s' '%s.old'", path, path);
        find(d, VERDICT_WARNING, mend, "%s: %s is no folder", what, path);
    } else if (!we_path_is_private(path)) {
        snprintf(mend, sizeof mend, "chown \"$USER\" '%s' && chmod go-w '%s'", path, path);
        find(d, VERDICT_WARNING, mend, "%s: %s belongs to someone else, is a link, or others may write to it", what,
             path);
    } else if (access(path, W_OK) != 0) {
        snprintf(mend, sizeof mend, "chmod u+w '%s'", path);
        find(d, VERDICT_WARNING, mend, "%s: %s can't be written to", what, path);
    } else {
        find(d, VERDICT_OK, NULL, "%s: %s", what, path);
    }
    we_free(path);
}

static void check_folders(doctor *d)
{
    check_folder(d, "cache", we_dir_user_cache());
    check_folder(d, "data", we_dir_user_data());
    check_folder(d, "configuration", we_dir_user_config());
}

/* ---- Models ---- */

static bool count_model(void *user, const we_model_entry *entry)
{
    size_t *n = user;
    n[entry->runnable ? 0 : 1]++;
    return true;
}

static bool count_own(void *user, const we_short_name *name)
{
    *(size_t *)user += name->is_users;
    return true;
}

static void check_table(doctor *d)
{
    we_error err;
    size_t n = 0;
    if (we_short_names_each(count_own, &n, &err))
        find(d, VERDICT_WARNING,
             "Mend that file, or move it away; until then short names and failing over do not work.", "%s",
             err.message);
    else if (n)
        find(d, VERDICT_OK, NULL, "%zu of your own in models.json", n);
}

static void check_models(doctor *d)
{
    we_error err;
    check_table(d);
    size_t n[2] = { 0 };
    we_config_value folder = { .size = sizeof folder };
    if (!we_config_get("LOCAL_MODELS_DIR", &folder, &err) && folder.value && !we_path_is_dir(folder.value))
        find(d, VERDICT_WARNING, "Make that folder, or unset the variable.", "LOCAL_MODELS_DIR=%s is no folder",
             folder.value);
    if (we_models_list(count_model, n, &err))
        find(d, VERDICT_WARNING, "See `whisperengine list -v`.", "%s", err.message);
    else if (n[1])
        find(d, VERDICT_NOTE, "`whisperengine list --all -v` tells why.", "%zu can run, %zu can't", n[0], n[1]);
    else
        find(d, VERDICT_OK, NULL, "%zu on this machine can run", n[0]);
}

/* The model of `chat`, as far as it can be judged without loading it. */
static void check_own_model(doctor *d, const char *name, const char *origin)
{
    char *path, type[64], quantization[128], needed[24], has[24];
    we_error err;
    we_model_info info = { .size = sizeof info };
    const char *from = origin ? origin : "built in";
    if (we_model_find(name, &path, &err)) {
        find(d, VERDICT_BLOCKS,
             "`whisperengine list` shows what is here, `whisperengine recommend` what suits this machine.",
             "%s (%s): %s", name, from, err.message);
        return;
    }
    if (we_model_inspect(path, NULL, &info, type, quantization, &err)) {
        find(d, VERDICT_BLOCKS, "`whisperengine verify` tells which file is broken; another --model may run.",
             "%s (%s): %s", name, from, err.message);
    } else {
        const uint64_t bytes = info.weights_bytes + info.kv_bytes_at_context + info.scratch_bytes;
        we_format_bytes(needed, bytes);
        if (d->knows_machine && bytes > d->machine.memory_available_bytes)
            find(d, VERDICT_BLOCKS,
                 "Close other programs, take a smaller --context, or a model that `recommend` names.",
                 "%s (%s) needs %s of memory, available are %s", name, from, needed,
                 we_format_bytes(has, d->machine.memory_available_bytes));
        else if (!info.has_tokenizer)
            find(d, VERDICT_BLOCKS, "Fetch the model again: `whisperengine pull` brings all that a chat needs.",
                 "%s (%s) has no tokenizer", name, from);
        else
            find(d, VERDICT_OK, NULL, "%s (%s): %s, %s, needs %s", name, from, type, quantization, needed);
    }
    we_free(path);
}

static bool no_model(void *user, const we_backend_model *model)
{
    (void)user;
    (void)model;
    return false;
}

/* A server that the configuration names: ask it for its models. One that is started for the purpose is not: whether it could be. */
static void check_server(doctor *d, const char *url, const char *origin)
{
    we_client *client;
    we_error err;
    we_client_options o = WE_CLIENT_OPTIONS_INIT;
    o.connect_timeout_s = 2;
    o.idle_timeout_s = 3;
    o.retries = -1;
    o.no_failover = true;
    we_status st = we_client_open(&client, url, &o, &err);
    if (st) {
        find(d, VERDICT_BLOCKS, "Set it right, or unset it: `whisperengine config` shows where it stands.", "%s: %s",
             origin, err.message);
        return;
    }
    we_client_info info = { .size = sizeof info };
    we_client_get_info(client, &info);
    const bool is_started = info.kind == WE_BACKEND_LLAMACPP || info.kind == WE_BACKEND_TRANSFORMERS;
    st = is_started ? we_client_models(client, no_model, NULL, &err) : we_client_load(client, &err);
    if (st && is_started)
        find(d, VERDICT_WARNING, "Until then the next of the chain answers.", "%s=%s: %s", origin, url, err.message);
    else if (is_started)
        find(d, VERDICT_OK, NULL, "%s=%s: %s is installed and starts with the first question", origin, url,
             info.backend);
    else if (st)
        find(d, VERDICT_WARNING, "Start it, or unset the variable; until then the next of the chain answers.",
             "%s=%s: %s", origin, url, err.message);
    else
        find(d, VERDICT_OK, NULL, "%s=%s answers", origin, url);
    we_client_close(client);
}

static void check_model(doctor *d)
{
    static const char *const variables[] = { "LLM_CHAT_API_URL", "MLX_MODEL_NAME" };
    we_error err;
    we_config_value v = { .size = sizeof v };
    const char *name = "default", *origin = NULL;
    for (size_t i = 0; i < WE_COUNT(variables) && !origin; i++)
        if (!we_config_get(variables[i], &v, &err) && v.value) name = v.value, origin = variables[i];
    const bool is_url = strstr(name, "://") != NULL && strncmp(name, "mlx://", 6) != 0;
    if (origin && !v.is_valid) return; /* said among the variables */
    if (is_url)
        check_server(d, name, origin);
    else
        check_own_model(d, name, origin);
}

/* ---- Variables ---- */

typedef struct tally {
    doctor *d;
    size_t n_all, n_set;
} tally;

/* A wrong value is an error of the command that needs it; these ones chat needs. */
static bool chat_needs(const char *name)
{
    static const char *const names[] = { "LLM_CHAT_API_URL", "MLX_MAX_TOKENS",       "MLX_TEMPERATURE", "MLX_TOP_P",
                                         "MLX_QUANTIZATION", "MLX_MEMORY_POOL_SIZE", "WE_LOG" };
    for (size_t i = 0; i < WE_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static bool check_variable(void *user, const we_config_value *v)
{
    tally *t = user;
    char mend[512];
    t->n_all++;
    t->n_set += v->value != NULL;
    if (v->refused)
        find(t->d, VERDICT_NOTE, "Set it in the environment or with `whisperengine config set` if it is meant.",
             "%s: ./.env says %s, which leads to another machine and is not followed", v->name, v->refused);
    if (!v->is_valid) {
        snprintf(mend, sizeof mend, "Unset it, or set it right%s%s: `whisperengine config -v` shows what it takes.",
                 v->path ? " in " : "", v->path ? v->path : "");
        find(t->d, chat_needs(v->name) ? VERDICT_BLOCKS : VERDICT_WARNING, mend, "%s", v->problem);
    } else if (v->value) {
        find(t->d, VERDICT_OK, NULL, "%s=%s", v->name, v->value);
    }
    return true;
}

static void check_variables(doctor *d)
{
    tally t = { d, 0, 0 };
    we_config_each(check_variable, &t);
    find(d, VERDICT_OK, NULL, "%zu of %zu are set", t.n_set, t.n_all);
}

/* ---- Backends ---- */

static void check_backends(doctor *d)
{
    we_backends *list;
    we_error err;
    if (we_backends_detect(&list, NULL, &err)) {
        find(d, VERDICT_WARNING, "Close other programs.", "%s", err.message);
        return;
    }
    for (size_t i = 0; i < we_backends_count(list); i++) {
        we_backend_info info = { .size = sizeof info };
        if (we_backends_get(list, i, &info, &err)) continue;
        const bool named = strncmp(info.reason, info.name, strlen(info.name)) == 0;
        if (info.kind == WE_BACKEND_MLX && !info.available)
            find(d, VERDICT_BLOCKS, "Please report it, with this output.", "%s: %s", info.name, info.reason);
        else
            find(d, info.available ? VERDICT_OK : VERDICT_NOTE, NULL, "%s%s%s", named ? "" : info.name,
                 named ? "" : ": ", info.reason);
    }
    we_backends_close(list);
}

/* ---- Other programs ---- */

#define CHILD_MS 10000

/* Run a program and take the beginning of what it says; its exit status, or -1 where it can't be run or takes too long. */
static int ask_program(char *const argv[], char *out, size_t size)
{
    int ends[2], status = -1;
    pid_t pid;
    posix_spawn_file_actions_t actions;
    out[0] = 0;
    if (pipe(ends) != 0) return -1;
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    const int failed = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t len = 0;
    struct pollfd input = { ends[0], POLLIN, 0 };
    const double until_s = we_now_s() + CHILD_MS / 1000.0;
    bool ended = false;
    while (!failed && !ended) {
        const double left_s = until_s - we_now_s();
        char rest[256];
        if (left_s <= 0 || (poll(&input, 1, (int)(left_s * 1000) + 1) < 0 && errno != EINTR)) break;
        if (!input.revents) continue;
        const bool room = len + 1 < size;
        const ssize_t n = read(ends[0], room ? out + len : rest, room ? size - 1 - len : sizeof rest);
        if (n > 0 && room) len += (size_t)n;
        ended = n == 0 || (n < 0 && errno != EINTR);
    }
    out[len] = 0;
    close(ends[0]);
    if (failed) return -1;
    if (!ended) kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return ended && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Packages are looked for without importing them: an import may take seconds, and runs their code. */
static void check_python(doctor *d)
{
    static char script[] =
        "import sys, importlib.util as u\n"
        "print('.'.join(map(str, sys.version_info[:3])), sys.executable, *[n for n in ('mlx', 'mlx_lm', "
        "'llama_cpp', 'transformers', 'whisperengine') if u.find_spec(n)], sep='\\n')";
    const char *env = getenv("VIRTUAL_ENV");
    we_buf program = { 0 };
    char out[2048];
    we_buf_printf(&program, env && *env ? "%s/bin/python3" : "python3", env);
    if (program.failed) return;
    char *argv[] = { program.ptr, (char[]){ "-c" }, script, NULL };
    if (ask_program(argv, out, sizeof out) != 0) {
        find(d, VERDICT_NOTE, "Install Python 3 if you want llama-cpp-python or Transformers; a chat needs neither.",
             "%s does not run", program.ptr);
    } else {
        const size_t version = strcspn(out, "\n"), rest = version + (out[version] == '\n');
        const size_t executable = strcspn(out + rest, "\n");
        char packages[1024] = "";
        for (char *p = out + rest + executable; *p;) {
            p += strspn(p, "\n");
            const size_t len = strcspn(p, "\n"), have = strlen(packages);
            if (len) snprintf(packages + have, sizeof packages - have, "%s%.*s", have ? ", " : "", (int)len, p);
            p += len;
        }
        find(d, VERDICT_OK, NULL, "%.*s, %.*s; packages: %s", (int)version, out, (int)executable, out + rest,
             packages[0] ? packages : "none of mlx, mlx_lm, llama_cpp, transformers");
        const bool mlx = strstr(packages, "mlx") != NULL;
        d->area = "MLX";
        find(d, VERDICT_NOTE, NULL,
             "Python's mlx package is %s; chats with MLX models run on this program's own engine",
             mlx ? "installed" : "not installed, and not needed");
    }
    we_buf_deinit(&program);
}

/* The desktop app's tray icon needs a program that shows such icons. */
static void check_tray(doctor *d)
{
#if defined(__linux__)
    char out[64];
    char *argv[] = { (char[]){ "busctl" }, (char[]){ "--user" }, (char[]){ "status" },
                     (char[]){ "org.kde.StatusNotifierWatcher" }, NULL };
    if (!getenv("DISPLAY") && !getenv("WAYLAND_DISPLAY"))
        find(d, VERDICT_NOTE, NULL, "no desktop session");
    else if (ask_program(argv, out, sizeof out) == 0)
        find(d, VERDICT_OK, NULL, "a tray for the desktop app's icon is there");
    else
        find(d, VERDICT_NOTE, "GNOME: install and enable the AppIndicator extension.",
             "no tray for the desktop app's icon was found; its window works without");
#else
    find(d, VERDICT_OK, NULL, "part of the desktop");
#endif
}

/* ---- All of it ---- */

static bool none(void *user, const we_recommendation *r)
{
    (void)user;
    (void)r;
    return false;
}

static int run_doctor(const cli_options *options)
{
    static const struct {
        const char *area;
        void (*check)(doctor *d);
    } checks[] = {
        { "CPU", check_cpu },       { "memory", check_memory },    { "GPU", check_gpu },
        { "disk", check_disk },     { "folders", check_folders },  { "variables", check_variables },
        { "models", check_models }, { "chat model", check_model }, { "backends", check_backends },
        { "Python", check_python }, { "tray", check_tray },
    };
    doctor d = { .options = options, .columns = 80, .machine = { .size = sizeof d.machine } };
    struct winsize size = { 0 };
    we_recommend_options quick = WE_RECOMMEND_OPTIONS_INIT;
    quick.no_measure = true;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col) d.columns = WE_MAX(size.ws_col, 40);
    d.knows_machine = we_recommend_each(&quick, &d.machine, none, NULL, NULL) == WE_OK;
    cli_json_begin(&d.json);
    we_json_begin_object(&d.json.w);
    we_json_key(&d.json.w, "findings");
    we_json_begin_array(&d.json.w);
    for (size_t i = 0; i < WE_COUNT(checks); i++) {
        d.area = checks[i].area;
        checks[i].check(&d);
    }
    we_json_end_array(&d.json.w);
    cli_json_bool(&d.json, "can_chat", d.n[VERDICT_BLOCKS] == 0);
    we_json_end_object(&d.json.w);
    int status = d.n[VERDICT_BLOCKS] ? CLI_FAILED : CLI_OK;
    if (options->json) {
        status = WE_MAX(status, cli_json_end(&d.json));
    } else {
        we_buf_deinit(&d.json.buf);
        if (d.n[VERDICT_BLOCKS])
            cli_out_printf("\n%zu finding%s a chat from answering.\n", d.n[VERDICT_BLOCKS],
                           d.n[VERDICT_BLOCKS] == 1 ? " keeps" : "s keep");
        else
            cli_out_printf("\nA chat can begin: `whisperengine chat`. %zu warning%s.\n", d.n[VERDICT_WARNING],
                           d.n[VERDICT_WARNING] == 1 ? "" : "s");
    }
    we_free((char *)d.machine.gpus);
    return status;
}

const cli_command cli_command_doctor = {
    "doctor",
    "[options]",
    "look for what is wrong, and tell the mend",
    "Looks at the CPU, memory, disk, folders, variables, models, backends, Python and the tray.\n"
    "Exit status 1 where something keeps a chat from answering.",
    NULL,
    0,
    { NULL },
    0,
    run_doctor
};
