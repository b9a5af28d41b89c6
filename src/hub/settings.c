/* SPDX-License-Identifier: Apache-2.0
 * settings.c - the environment variables that huggingface_hub reads, read as it does: HF_HOME, HF_HUB_CACHE (and its older
 * name HUGGINGFACE_HUB_CACHE), XDG_CACHE_HOME, HF_ENDPOINT, HF_TOKEN (HUGGING_FACE_HUB_TOKEN), HF_TOKEN_PATH,
 * HF_HUB_DISABLE_IMPLICIT_TOKEN, HF_HUB_OFFLINE; and our own LOCAL_MODELS_DIR. Not here: proxies (net/). */
#include "hub/hub_int.h"
#include <stdlib.h>
#include <strings.h>

static bool is_true(const char *name)
{
    const char *v = we_env(name);
    return v && (strcasecmp(v, "1") == 0 || strcasecmp(v, "on") == 0 || strcasecmp(v, "yes") == 0 ||
                 strcasecmp(v, "true") == 0);
}

/* A leading "~/" is the home folder: environment files are not always read by a shell. */
static char *expand(const char *path)
{
    const char *home = we_env("HOME");
    return path[0] == '~' && path[1] == '/' && home ? we_path_join(home, path + 2) : we_strdup(path);
}

static char *expand_join(const char *dir, const char *name)
{
    char *whole = expand(dir), *joined = whole ? we_path_join(whole, name) : NULL;
    we_free(whole);
    return joined;
}

/* huggingface_hub's own folder, and a part of it; we_free. */
static char *home_part(const char *name)
{
    const char *set = we_env("HF_HOME"), *cache = we_env("XDG_CACHE_HOME"), *home = we_env("HOME");
    if (set) return expand_join(set, name);
    char *dir = cache ? expand_join(cache, "huggingface") : home ? we_path_join(home, ".cache/huggingface") : NULL;
    char *part = dir ? we_path_join(dir, name) : NULL;
    we_free(dir);
    return part;
}

char *we_hub_cache_dir(void)
{
    const char *set = we_env("HF_HUB_CACHE");
    if (!set) set = we_env("HUGGINGFACE_HUB_CACHE");
    return set ? expand(set) : home_part("hub");
}

char *we_hub_models_dir(void)
{
    const char *set = we_env("LOCAL_MODELS_DIR");
    if (set) return we_strdup(set);
    if (we_path_is_dir("./models")) return we_strdup("./models");
    char *data = we_dir_user_data(), *dir = data ? we_path_join(data, "models") : NULL;
    we_free(data);
    if (dir && we_path_is_dir(dir)) return dir;
    we_free(dir);
    return we_strdup("./models");
}

/* Without the white space around it; NULL where nothing is left. */
static char *clean_token(const char *text)
{
    const char *start = text + strspn(text, " \t\r\n");
    size_t len = strlen(start);
    while (len && strchr(" \t\r\n", start[len - 1])) len--;
    return len ? we_strndup(start, len) : NULL;
}

static char *read_token(void)
{
    const char *set = we_env("HF_TOKEN");
    if (!set) set = we_env("HUGGING_FACE_HUB_TOKEN");
    if (set) return clean_token(set);
    if (is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return NULL;
    const char *named = we_env("HF_TOKEN_PATH");
    char *path = named ? expand(named) : home_part("token"), *text = NULL, *token = NULL;
    if (path && we_path_exists(path) && !we_file_read(path, 4096, &text, NULL, NULL)) token = clean_token(text);
    we_free(text);
    we_free(path);
    return token;
}

we_status we_hub_settings_read(we_hub_settings *s, const char *token, const char *endpoint, we_error *err)
{
    if (!endpoint) endpoint = we_env("HF_ENDPOINT");
    if (!endpoint) endpoint = "https://huggingface.co";
    size_t len = strlen(endpoint);
    while (len && endpoint[len - 1] == '/') len--;
    *s = (we_hub_settings){ .cache = we_hub_cache_dir(),
                            .endpoint = we_strndup(endpoint, len),
                            .token = token ? clean_token(token) : read_token(),
                            .offline = is_true("HF_HUB_OFFLINE") };
    if (s->endpoint) return WE_OK;
    we_hub_settings_deinit(s);
    return we_fail(err, WE_E_NOMEM, "no memory for the hub's settings");
}

void we_hub_settings_deinit(we_hub_settings *s)
{
    we_free(s->cache);
    we_free(s->endpoint);
    we_free(s->token);
    *s = (we_hub_settings){ 0 };
}
