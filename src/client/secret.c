/* SPDX-License-Identifier: Apache-2.0
 * secret.c - the session's secret service (GNOME Keyring, KWallet, KeePassXC), by way of libsecret. That library is opened when it is
 * first needed and stays open, as GLib cannot be unloaded; without it, or where no service answers, there is none.
 *
 * A call may wait for a person who unlocks the keyring. Source: libsecret 0.20's secret-password.h and secret-schema.h, whose
 * interface is stable since 0.1. */
#include "client/client_int.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

typedef struct schema { /* SecretSchema */
    const char *name;
    int flags;
    struct {
        const char *name;
        int type; /* 0: a string */
    } attributes[32];
    int reserved;
    void *reserved_too[7];
} schema;

typedef struct g_error { /* GError */
    uint32_t domain;
    int code;
    char *message;
} g_error;

static const schema variables = { "org.whisperengine.Variable", 0, { { "variable", 0 }, { NULL, 0 } }, 0, { NULL } };

static struct {
    char *(*lookup)(const schema *s, void *cancellable, g_error **error, ...);
    int (*store)(const schema *s, const char *collection, const char *label, const char *password, void *cancellable,
                 g_error **error, ...);
    int (*clear)(const schema *s, void *cancellable, g_error **error, ...);
    void (*free_password)(char *password);
    void (*free_error)(g_error *error);
} lib;
static bool is_open;

static void open_library(void)
{
    void *const so = dlopen("libsecret-1.so.0", RTLD_LAZY | RTLD_LOCAL);
    const struct {
        const char *name;
        void *place;
    } functions[] = {
        { "secret_password_lookup_sync", &lib.lookup },
        { "secret_password_store_sync", &lib.store },
        { "secret_password_clear_sync", &lib.clear },
        { "secret_password_free", &lib.free_password },
        { "g_error_free", &lib.free_error }, /* of GLib, which it needs */
    };
    is_open = so != NULL;
    for (size_t i = 0; is_open && i < WE_COUNT(functions); i++) {
        void *const found = dlsym(so, functions[i].name);
        memcpy(functions[i].place, &found, sizeof found); /* C has no way from an object's to a function's pointer */
        is_open = found != NULL;
    }
}

static we_status ready(we_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_library);
    return is_open ? WE_OK
                   : we_fail(err, WE_E_UNSUPPORTED,
                             "there is no secret service: libsecret (libsecret-1.so.0) was not found");
}

static we_status failed(g_error *e, we_error *err)
{
    const we_status st = we_fail(err, WE_E_UNSUPPORTED, "no secret service answers: %s", e->message);
    lib.free_error(e);
    return st;
}

we_status we_secret_get(const char *name, char **value, we_error *err)
{
    g_error *e = NULL;
    *value = NULL;
    const we_status st = ready(err);
    if (st) return st;
    char *const found = lib.lookup(&variables, NULL, &e, "variable", name, (char *)NULL);
    if (e) return failed(e, err);
    if (!found) return we_fail(err, WE_E_NOT_FOUND, "the secret service has no %s: set it anew, or unset it", name);
    *value = we_strdup(found);
    lib.free_password(found);
    return *value ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for %s", name);
}

we_status we_secret_put(const char *name, const char *value, we_error *err)
{
    g_error *e = NULL;
    char label[96];
    const we_status st = ready(err);
    if (st) return st;
    snprintf(label, sizeof label, "WhisperEngine: %s", name);
    if (value)
        lib.store(&variables, "default", label, value, NULL, &e, "variable", name, (char *)NULL);
    else
        lib.clear(&variables, NULL, &e, "variable", name, (char *)NULL);
    return e ? failed(e, err) : WE_OK;
}
