/* SPDX-License-Identifier: Apache-2.0
 * store.c - see store.h. */
#include "store.h"
#include <errno.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <sqlite3.h>

#define VERSION 2

struct desk_store {
    sqlite3 *db;
    char *path;
};

/* ---- Values ---- */

int64_t desk_id_new(void)
{
    static int64_t last;
    const int64_t now = g_get_real_time();
    last = now > last ? now : last + 1;
    return last;
}

static void attachment_free(gpointer p)
{
    desk_attachment *a = p;
    g_free(a->name);
    g_free(a->text);
    g_free(a);
}

desk_message *desk_message_new(desk_role role, const char *text)
{
    desk_message *m = g_new0(desk_message, 1);
    *m = (desk_message){ .id = desk_id_new(), .role = role, .text = g_strdup(text), .note = g_strdup("") };
    return m;
}

void desk_message_attach(desk_message *m, const char *name, const char *text)
{
    desk_attachment *a = g_new0(desk_attachment, 1);
    if (!m->attachments) m->attachments = g_ptr_array_new_with_free_func(attachment_free);
    *a = (desk_attachment){ g_strdup(name), g_strdup(text) };
    g_ptr_array_add(m->attachments, a);
}

desk_message *desk_message_copy(const desk_message *m)
{
    desk_message *copy = g_new0(desk_message, 1);
    *copy = *m;
    copy->text = g_strdup(m->text);
    copy->note = g_strdup(m->note);
    copy->attachments = NULL;
    copy->others = NULL;
    for (guint i = 0; m->attachments && i < m->attachments->len; i++) {
        const desk_attachment *a = m->attachments->pdata[i];
        desk_message_attach(copy, a->name, a->text);
    }
    return copy;
}

void desk_message_free(desk_message *m)
{
    if (!m) return;
    g_free(m->text);
    g_free(m->note);
    if (m->attachments) g_ptr_array_unref(m->attachments);
    if (m->others) g_ptr_array_unref(m->others);
    g_free(m);
}

desk_conversation *desk_conversation_new(void)
{
    desk_conversation *c = g_new0(desk_conversation, 1);
    c->id = desk_id_new();
    c->updated = c->id;
    c->title = g_strdup("");
    c->system = g_strdup("");
    c->model = g_strdup("");
    c->draft = g_strdup("");
    return c;
}

desk_conversation *desk_conversation_copy(const desk_conversation *c)
{
    desk_conversation *copy = g_new0(desk_conversation, 1);
    *copy = (desk_conversation){
        c->id, c->updated, g_strdup(c->title), g_strdup(c->system), g_strdup(c->model), g_strdup(c->draft)
    };
    return copy;
}

void desk_conversation_free(desk_conversation *c)
{
    if (!c) return;
    g_free(c->title);
    g_free(c->system);
    g_free(c->model);
    g_free(c->draft);
    g_free(c);
}

/* ---- SQL ---- */

static we_status fail(const desk_store *s, we_error *err)
{
    const int code = s->db ? sqlite3_errcode(s->db) & 0xff : SQLITE_NOMEM;
    const bool io = code == SQLITE_IOERR || code == SQLITE_CANTOPEN;
    const int reason = io ? sqlite3_system_errno(s->db) : 0;
    if (code == SQLITE_CONSTRAINT || code == SQLITE_TOOBIG || code == SQLITE_MISUSE)
        return we_fail(err, WE_E_ARG, "%s: %s", s->path, sqlite3_errmsg(s->db));
    if (code == SQLITE_FULL || reason == ENOSPC || reason == EDQUOT)
        return we_fail(err, WE_E_IO, _("%s: the disk is full; please free some space"), s->path);
    if (code == SQLITE_READONLY) return we_fail(err, WE_E_IO, _("%s: this file may only be read"), s->path);
    return we_fail(err, WE_E_IO, "%s: %s%s%s%s", s->path, s->db ? sqlite3_errmsg(s->db) : "no memory",
                   reason ? " (" : "", reason ? g_strerror(reason) : "", reason ? ")" : "");
}

static we_status run(desk_store *s, const char *sql, we_error *err)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? WE_OK : fail(s, err);
}

/* A statement with its values: 'i' int64_t, 's' a string (NULL is NULL). NULL on failure. */
static sqlite3_stmt *prepare(desk_store *s, we_error *err, const char *sql, const char *types, ...)
{
    sqlite3_stmt *stmt = NULL;
    va_list args;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL);
    va_start(args, types);
    for (int i = 1; *types && rc == SQLITE_OK; types++, i++)
        rc = *types == 'i' ? sqlite3_bind_int64(stmt, i, va_arg(args, int64_t))
                           : sqlite3_bind_text(stmt, i, va_arg(args, const char *), -1, SQLITE_TRANSIENT);
    va_end(args);
    if (rc == SQLITE_OK) return stmt;
    fail(s, err);
    sqlite3_finalize(stmt);
    return NULL;
}

/* Step to the next row; false at the end and on failure, which *st tells. */
static bool next(desk_store *s, sqlite3_stmt *stmt, we_status *st, we_error *err)
{
    const int rc = sqlite3_step(stmt);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) *st = fail(s, err);
    return rc == SQLITE_ROW;
}

static we_status finish(desk_store *s, sqlite3_stmt *stmt, we_error *err)
{
    we_status st = stmt ? WE_OK : WE_E_IO; /* prepare has said why */
    while (stmt && next(s, stmt, &st, err)) continue;
    sqlite3_finalize(stmt);
    return st;
}

static char *text_of(sqlite3_stmt *stmt, int column)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    return g_utf8_make_valid(text ? text : "", -1); /* the file may be anybody's work */
}

/* desk_has(text, needle): needle is case-folded already. LIKE folds only ASCII. */
static void has(sqlite3_context *context, int n, sqlite3_value **values)
{
    const char *text = (const char *)sqlite3_value_text(values[0]);
    const char *needle = (const char *)sqlite3_value_text(values[1]);
    (void)n;
    if (!text || !needle) return sqlite3_result_int(context, 0);
    char *folded = g_utf8_casefold(text, -1);
    sqlite3_result_int(context, strstr(folded, needle) != NULL);
    g_free(folded);
}

/* ---- Opening ---- */

static const char schema[] =
    "BEGIN;"
    "CREATE TABLE IF NOT EXISTS conversation(id INTEGER PRIMARY KEY, updated INTEGER NOT NULL, title TEXT NOT NULL,"
    " system TEXT NOT NULL, model TEXT NOT NULL, draft TEXT NOT NULL, deleted INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE IF NOT EXISTS message(id INTEGER PRIMARY KEY,"
    " conversation INTEGER NOT NULL REFERENCES conversation ON DELETE CASCADE,"
    " role INTEGER NOT NULL, state INTEGER NOT NULL, text TEXT NOT NULL, note TEXT NOT NULL,"
    " hidden INTEGER NOT NULL DEFAULT 0);"
    "CREATE INDEX IF NOT EXISTS message_of ON message(conversation, id);"
    "CREATE TABLE IF NOT EXISTS attachment(id INTEGER PRIMARY KEY,"
    " message INTEGER NOT NULL REFERENCES message ON DELETE CASCADE, name TEXT NOT NULL, text TEXT NOT NULL);"
    "CREATE INDEX IF NOT EXISTS attachment_of ON attachment(message, id);"
    "CREATE TABLE IF NOT EXISTS memo(name TEXT PRIMARY KEY, value TEXT NOT NULL);"
    "DELETE FROM conversation WHERE deleted;"
    "UPDATE message SET state = 3 WHERE state = 1;"
    "PRAGMA user_version = 2;"
    "COMMIT;";

static bool is_broken(int rc) { return rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB; }

static void disconnect(desk_store *s)
{
    sqlite3_close(s->db);
    s->db = NULL;
}

/* Gives SQLite's own code. `wrong` is set where the file is sound, but not ours to change. */
static int connect_to(desk_store *s, we_status *wrong, we_error *err)
{
    sqlite3_stmt *stmt = NULL;
    int version = 0, rc = sqlite3_open(s->path, &s->db);
    if (rc == SQLITE_OK) rc = sqlite3_extended_result_codes(s->db, 0);
    if (rc == SQLITE_OK) rc = sqlite3_busy_timeout(s->db, 2000);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(s->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON", NULL,
                          NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_create_function(s->db, "desk_has", 2, SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL, has, NULL, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &stmt, NULL);
    if (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW) version = sqlite3_column_int(stmt, 0);
    if (version > VERSION)
        *wrong =
            we_fail(err, WE_E_UNSUPPORTED,
                    "%s was made by a later version of WhisperEngine (%d, this one knows %d): use that one, or move "
                    "the file away",
                    s->path, version, VERSION);
    sqlite3_finalize(stmt);
    if (rc != SQLITE_OK || *wrong) return rc;
    /* A file that is cut or overwritten in the middle is found now, not when somebody opens that conversation. */
    rc = sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &stmt, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW) rc = g_strcmp0((const char *)sqlite3_column_text(stmt, 0), "ok") ? SQLITE_CORRUPT : 0;
    }
    sqlite3_finalize(stmt);
    if (rc == SQLITE_OK && version == 1) /* before answers had versions; that and the new number are written at once */
        rc = sqlite3_exec(s->db,
                          "BEGIN; ALTER TABLE message ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;"
                          "PRAGMA user_version = 2; COMMIT;",
                          NULL, NULL, NULL);
    return rc == SQLITE_OK ? sqlite3_exec(s->db, schema, NULL, NULL, NULL) : rc;
}

/* The database and what belongs to it get another name. */
static we_status move_aside(const desk_store *s, char **to, we_error *err)
{
    static const char *const tails[] = { "", "-wal", "-shm" };
    GDateTime *now = g_date_time_new_now_local();
    char *when = g_date_time_format(now, "%Y%m%d-%H%M%S");
    char *aside = g_strdup_printf("%s.broken-%s", s->path, when);
    we_status st = WE_OK;
    for (size_t i = 0; i < WE_COUNT(tails); i++) {
        char *from = g_strconcat(s->path, tails[i], NULL), *target = g_strconcat(aside, tails[i], NULL);
        if (g_rename(from, target) && i == 0)
            st = we_fail(err, WE_E_IO, "%s is broken and could not be moved away: %s", from, g_strerror(errno));
        g_free(from);
        g_free(target);
    }
    g_free(when);
    g_date_time_unref(now);
    if (st)
        g_free(aside);
    else
        *to = aside;
    return st;
}

we_status desk_store_open(desk_store **out, const char *path, char **kept_aside, we_error *err)
{
    desk_store *s = g_new0(desk_store, 1);
    char *dir = g_path_get_dirname(path);
    *out = NULL;
    *kept_aside = NULL;
    s->path = g_strdup(path);
    we_status st = we_dir_make(dir, 0700, err), wrong = WE_OK;
    int rc = st ? SQLITE_OK : connect_to(s, &wrong, err);
    if (is_broken(rc)) {
        disconnect(s);
        if (!(st = move_aside(s, kept_aside, err))) rc = connect_to(s, &wrong, err);
    }
    if (!st && rc != SQLITE_OK) st = fail(s, err);
    if (!st) st = wrong;
    if (!st) g_chmod(path, 0600); /* what people tell a model is nobody else's to read */
    g_free(dir);
    if (st)
        desk_store_close(s);
    else
        *out = s;
    return st;
}

void desk_store_close(desk_store *s)
{
    if (!s) return;
    disconnect(s);
    g_free(s->path);
    g_free(s);
}

/* ---- Reading ---- */

we_status desk_store_list(desk_store *s, const char *needle, GPtrArray **out, we_error *err)
{
    char *folded = needle && *needle ? g_utf8_casefold(needle, -1) : NULL;
    sqlite3_stmt *stmt = prepare(
        s, err,
        "SELECT id, updated, title, system, model, draft FROM conversation c WHERE NOT deleted AND (?1 IS NULL"
        " OR desk_has(title, ?1) OR EXISTS (SELECT 1 FROM message WHERE conversation = c.id AND desk_has(text, ?1)))"
        " ORDER BY updated DESC, id DESC",
        "s", folded);
    we_status st = stmt ? WE_OK : WE_E_IO;
    g_free(folded);
    *out = g_ptr_array_new_with_free_func((GDestroyNotify)desk_conversation_free);
    while (stmt && next(s, stmt, &st, err)) {
        desk_conversation *c = g_new0(desk_conversation, 1);
        *c = (desk_conversation){ sqlite3_column_int64(stmt, 0),
                                  sqlite3_column_int64(stmt, 1),
                                  text_of(stmt, 2),
                                  text_of(stmt, 3),
                                  text_of(stmt, 4),
                                  text_of(stmt, 5) };
        g_ptr_array_add(*out, c);
    }
    sqlite3_finalize(stmt);
    return st;
}

static we_status attachments(desk_store *s, desk_message *m, we_error *err)
{
    sqlite3_stmt *stmt = prepare(s, err, "SELECT name, text FROM attachment WHERE message = ? ORDER BY id", "i", m->id);
    we_status st = stmt ? WE_OK : WE_E_IO;
    while (stmt && next(s, stmt, &st, err)) {
        char *name = text_of(stmt, 0), *text = text_of(stmt, 1);
        desk_message_attach(m, name, text);
        g_free(name);
        g_free(text);
    }
    sqlite3_finalize(stmt);
    return st;
}

static void message_free(gpointer m) { desk_message_free(m); }

void desk_message_add_version(desk_message *shown, desk_message *hidden)
{
    guint at = 0;
    if (!shown->others) shown->others = g_ptr_array_new_with_free_func(message_free);
    while (at < shown->others->len && ((desk_message *)shown->others->pdata[at])->id < hidden->id) at++;
    hidden->hidden = TRUE;
    g_ptr_array_insert(shown->others, (int)at, hidden);
}

/* Versions of an answer follow each other; the last one that is not hidden is shown. */
static void gather_versions(GPtrArray *all)
{
    for (guint i = 0; i < all->len; i++) {
        guint end = i, shown = 0;
        for (; end < all->len && ((desk_message *)all->pdata[end])->role == DESK_ASSISTANT; end++)
            if (!((desk_message *)all->pdata[end])->hidden) shown = end;
        if (end == i) continue;
        if (shown < i) shown = end - 1;
        desk_message *m = all->pdata[shown];
        m->hidden = FALSE;
        for (guint k = end; k-- > i;)
            if (k != shown) desk_message_add_version(m, g_ptr_array_steal_index(all, k));
    }
}

we_status desk_store_messages(desk_store *s, int64_t conversation, GPtrArray **out, we_error *err)
{
    sqlite3_stmt *stmt =
        prepare(s, err, "SELECT id, role, state, text, note, hidden FROM message WHERE conversation = ? ORDER BY id",
                "i", conversation);
    we_status st = stmt ? WE_OK : WE_E_IO;
    *out = g_ptr_array_new_with_free_func((GDestroyNotify)desk_message_free);
    while (stmt && !st && next(s, stmt, &st, err)) {
        desk_message *m = g_new0(desk_message, 1);
        *m = (desk_message){ .id = sqlite3_column_int64(stmt, 0),
                             .role = sqlite3_column_int(stmt, 1) == DESK_USER ? DESK_USER : DESK_ASSISTANT,
                             .state = (desk_message_state)CLAMP(sqlite3_column_int(stmt, 2), DESK_WHOLE, DESK_CUT),
                             .text = text_of(stmt, 3),
                             .note = text_of(stmt, 4),
                             .hidden = sqlite3_column_int(stmt, 5) != 0 };
        g_ptr_array_add(*out, m);
        st = attachments(s, m, err);
    }
    sqlite3_finalize(stmt);
    gather_versions(*out);
    return st;
}

we_status desk_store_get(desk_store *s, const char *name, char **value, we_error *err)
{
    sqlite3_stmt *stmt = prepare(s, err, "SELECT value FROM memo WHERE name = ?", "s", name);
    we_status st = stmt ? WE_OK : WE_E_IO;
    *value = stmt && next(s, stmt, &st, err) ? text_of(stmt, 0) : NULL;
    sqlite3_finalize(stmt);
    return st;
}

/* ---- Writing ---- */

we_status desk_store_put(desk_store *s, const char *name, const char *value, we_error *err)
{
    return finish(s, prepare(s, err, "INSERT OR REPLACE INTO memo(name, value) VALUES(?, ?)", "ss", name, value), err);
}

we_status desk_store_put_conversation(desk_store *s, const desk_conversation *c, we_error *err)
{
    return finish(s,
                  prepare(s, err,
                          "INSERT INTO conversation(id, updated, title, system, model, draft) VALUES(?, ?, ?, ?, ?, ?)"
                          " ON CONFLICT(id) DO UPDATE SET updated = excluded.updated, title = excluded.title,"
                          " system = excluded.system, model = excluded.model, draft = excluded.draft",
                          "iissss", c->id, c->updated, c->title, c->system, c->model, c->draft),
                  err);
}

we_status desk_store_put_message(desk_store *s, int64_t conversation, const desk_message *m, we_error *err)
{
    we_status st = run(s, "BEGIN", err);
    if (st) return st;
    st = finish(
        s,
        prepare(s, err,
                "INSERT INTO message(id, conversation, role, state, text, note, hidden) VALUES(?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT(id) DO UPDATE SET state = excluded.state, text = excluded.text, note = excluded.note,"
                " hidden = excluded.hidden",
                "iiiissi", m->id, conversation, (int64_t)m->role, (int64_t)m->state, m->text, m->note,
                (int64_t)m->hidden),
        err);
    if (!st && m->attachments)
        st = finish(s, prepare(s, err, "DELETE FROM attachment WHERE message = ?", "i", m->id), err);
    for (guint i = 0; !st && m->attachments && i < m->attachments->len; i++) {
        const desk_attachment *a = m->attachments->pdata[i];
        st = finish(s,
                    prepare(s, err, "INSERT INTO attachment(message, name, text) VALUES(?, ?, ?)", "iss", m->id,
                            a->name, a->text),
                    err);
    }
    if (!st) st = run(s, "COMMIT", err);
    if (st) run(s, "ROLLBACK", NULL);
    return st;
}

we_status desk_store_cut(desk_store *s, int64_t conversation, int64_t first, we_error *err)
{
    return finish(
        s, prepare(s, err, "DELETE FROM message WHERE conversation = ? AND id >= ?", "ii", conversation, first), err);
}

we_status desk_store_set_deleted(desk_store *s, int64_t conversation, bool deleted, we_error *err)
{
    return finish(
        s, prepare(s, err, "UPDATE conversation SET deleted = ? WHERE id = ?", "ii", (int64_t)deleted, conversation),
        err);
}
