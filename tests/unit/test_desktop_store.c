/* SPDX-License-Identifier: Apache-2.0
 * test_desktop_store.c - app/desktop/store.c: what is written is found again, whatever happened to the program or the file. */
#include "store.h"
#include "support.h"
#include <sqlite3.h>
#include <sys/stat.h>

static desk_store *open_store(const char *path, char **aside)
{
    desk_store *s = NULL;
    char *kept = NULL;
    we_error err;
    CHECK_OK(desk_store_open(&s, path, &kept, &err), &err);
    if (aside)
        *aside = kept;
    else
        assert_null(kept);
    return s;
}

static int64_t add_chat(desk_store *s, const char *title, const char *text)
{
    we_error err;
    desk_conversation *c = desk_conversation_new();
    desk_message *m = desk_message_new(DESK_USER, text);
    const int64_t id = c->id;
    g_free(c->title);
    c->title = g_strdup(title);
    CHECK_OK(desk_store_put_conversation(s, c, &err), &err);
    CHECK_OK(desk_store_put_message(s, id, m, &err), &err);
    desk_conversation_free(c);
    desk_message_free(m);
    return id;
}

/* Titles, joined by commas. */
static void expect_list(desk_store *s, const char *needle, const char *wanted)
{
    GPtrArray *rows;
    we_error err;
    GString *got = g_string_new(NULL);
    CHECK_OK(desk_store_list(s, needle, &rows, &err), &err);
    for (guint i = 0; i < rows->len; i++)
        g_string_append_printf(got, "%s%s", i ? "," : "", ((desk_conversation *)rows->pdata[i])->title);
    assert_string_equal(got->str, wanted);
    g_string_free(got, TRUE);
    g_ptr_array_unref(rows);
}

TEST(desktop_store_keeps_conversations)
{
    const char *path = test_path("a/b/c.sqlite");
    desk_store *s = open_store(path, NULL);
    GPtrArray *rows;
    we_error err;
    struct stat st;
    const int64_t id = add_chat(s, "One", "it's \"quoted\"; DROP TABLE message;--");
    desk_message *m = desk_message_new(DESK_ASSISTANT, "half");
    m->state = DESK_STREAMING;
    desk_message_attach(m, "n.txt", "text");
    CHECK_OK(desk_store_put_message(s, id, m, &err), &err);
    g_free(m->text);
    m->text = g_strdup("half and more");
    CHECK_OK(desk_store_put_message(s, id, m, &err), &err);
    desk_message_free(m);
    desk_store_close(s);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);

    s = open_store(path, NULL); /* the program ended in the middle of an answer */
    CHECK_OK(desk_store_messages(s, id, &rows, &err), &err);
    assert_int_equal(rows->len, 2);
    const desk_message *first = rows->pdata[0], *second = rows->pdata[1];
    assert_string_equal(first->text, "it's \"quoted\"; DROP TABLE message;--");
    assert_string_equal(second->text, "half and more");
    assert_int_equal(second->state, DESK_INTERRUPTED);
    assert_int_equal(second->attachments->len, 1);
    assert_string_equal(((desk_attachment *)second->attachments->pdata[0])->text, "text");
    const int64_t second_id = second->id;
    g_ptr_array_unref(rows);
    CHECK_OK(desk_store_cut(s, id, second_id, &err), &err);
    CHECK_OK(desk_store_messages(s, id, &rows, &err), &err);
    assert_int_equal(rows->len, 1);
    g_ptr_array_unref(rows);
    desk_store_close(s);
}

TEST(desktop_store_finds_words_in_any_case)
{
    desk_store *s = open_store(test_path("find.sqlite"), NULL);
    add_chat(s, "Reise nach ÖSTERREICH", "a");
    add_chat(s, "Other", "the 100% of it_all");
    expect_list(s, NULL, "Other,Reise nach ÖSTERREICH");
    expect_list(s, "", "Other,Reise nach ÖSTERREICH");
    expect_list(s, "österreich", "Reise nach ÖSTERREICH");
    expect_list(s, "0% OF", "Other");
    expect_list(s, "%", "Other");
    expect_list(s, "nowhere", "");
    desk_store_close(s);
}

TEST(desktop_store_deletes_with_a_way_back)
{
    const char *path = test_path("delete.sqlite");
    desk_store *s = open_store(path, NULL);
    we_error err;
    char *value;
    const int64_t a = add_chat(s, "A", "x"), b = add_chat(s, "B", "y");
    CHECK_OK(desk_store_set_deleted(s, a, true, &err), &err);
    CHECK_OK(desk_store_set_deleted(s, b, true, &err), &err);
    expect_list(s, NULL, "");
    CHECK_OK(desk_store_set_deleted(s, b, false, &err), &err);
    expect_list(s, NULL, "B");
    CHECK_OK(desk_store_put(s, "draft", "not sent", &err), &err);
    desk_store_close(s);
    s = open_store(path, NULL);
    GPtrArray *rows;
    CHECK_OK(desk_store_messages(s, a, &rows, &err), &err); /* gone with its conversation */
    assert_int_equal(rows->len, 0);
    g_ptr_array_unref(rows);
    CHECK_OK(desk_store_get(s, "draft", &value, &err), &err);
    assert_string_equal(value, "not sent");
    g_free(value);
    CHECK_OK(desk_store_get(s, "nothing", &value, &err), &err);
    assert_null(value);
    desk_store_close(s);
}

TEST(desktop_store_keeps_a_broken_file_aside)
{
    char junk[8192];
    memset(junk, 'x', sizeof junk);
    const char *path = test_write("junk.sqlite", junk, sizeof junk);
    char *aside = NULL, *text;
    size_t len;
    we_error err;
    desk_store *s = open_store(path, &aside);
    assert_non_null(aside);
    CHECK_OK(we_file_read(aside, 0, &text, &len, &err), &err);
    assert_int_equal(len, sizeof junk);
    we_free(text);
    g_free(aside);
    add_chat(s, "After", "x");
    desk_store_close(s);

    /* Sound at its beginning, overwritten further on. */
    s = open_store(path, NULL);
    for (int i = 0; i < 60; i++) {
        char *long_text = g_strnfill(2000, (char)('a' + i % 26));
        add_chat(s, "Long", long_text);
        g_free(long_text);
    }
    desk_store_close(s);
    CHECK_OK(we_file_read(path, 0, &text, &len, &err), &err);
    assert_true(len > 100000);
    memset(text + 40000, 'y', 30000);
    CHECK_OK(we_file_write(path, text, len, 0600, &err), &err);
    we_free(text);
    s = open_store(path, &aside);
    assert_non_null(aside);
    g_free(aside);
    expect_list(s, NULL, "");
    desk_store_close(s);
}

TEST(desktop_store_leaves_a_later_version_alone)
{
    const char *path = test_path("later.sqlite");
    desk_store *s = open_store(path, NULL);
    sqlite3 *db;
    char *aside;
    we_error err;
    desk_store_close(s);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version=99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    CHECK_STATUS(desk_store_open(&s, path, &aside, &err), WE_E_UNSUPPORTED, &err);
    EXPECT_MESSAGE(&err, "later version");
    assert_null(s);
    assert_null(aside);
}

TEST(desktop_store_says_where_it_cannot_write)
{
    desk_store *s;
    char *aside;
    we_error err;
    const char *file = test_write("file", "x", 1);
    char *path = g_build_filename(file, "c.sqlite", NULL);
    const we_status st = desk_store_open(&s, path, &aside, &err);
    assert_int_equal(st, WE_E_IO);
    EXPECT_MESSAGE(&err, file);
    g_free(path);
}

static void put_answer(desk_store *s, int64_t chat, const char *text, gboolean hidden)
{
    we_error err;
    desk_message *m = desk_message_new(DESK_ASSISTANT, text);
    m->hidden = hidden;
    CHECK_OK(desk_store_put_message(s, chat, m, &err), &err);
    desk_message_free(m);
}

TEST(desktop_store_gathers_the_versions_of_an_answer)
{
    desk_store *s = open_store(test_path("versions.sqlite"), NULL);
    GPtrArray *rows;
    we_error err;
    const int64_t id = add_chat(s, "Versions", "Question");
    put_answer(s, id, "first", TRUE);
    put_answer(s, id, "second", FALSE);
    put_answer(s, id, "third", TRUE);
    CHECK_OK(desk_store_messages(s, id, &rows, &err), &err);
    assert_int_equal(rows->len, 2);
    const desk_message *m = rows->pdata[1];
    assert_string_equal(m->text, "second");
    assert_int_equal(m->others->len, 2);
    assert_string_equal(((desk_message *)m->others->pdata[0])->text, "first");
    assert_string_equal(((desk_message *)m->others->pdata[1])->text, "third");
    desk_message *copy = desk_message_copy(m);
    assert_null(copy->others);
    desk_message_free(copy);
    g_ptr_array_unref(rows);

    /* A file that somebody has changed: none of them is shown. */
    put_answer(s, add_chat(s, "Odd", "Question"), "only", TRUE);
    GPtrArray *list;
    CHECK_OK(desk_store_list(s, "Odd", &list, &err), &err);
    CHECK_OK(desk_store_messages(s, ((desk_conversation *)list->pdata[0])->id, &rows, &err), &err);
    assert_int_equal(rows->len, 2);
    g_ptr_array_unref(rows);
    g_ptr_array_unref(list);
    desk_store_close(s);
}

TEST(desktop_store_takes_the_first_versions_file_over)
{
    const char *path = test_path("one.sqlite");
    sqlite3 *db;
    GPtrArray *rows;
    we_error err;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(
            db,
            "CREATE TABLE conversation(id INTEGER PRIMARY KEY, updated INTEGER NOT NULL, title TEXT NOT NULL,"
            " system TEXT NOT NULL, model TEXT NOT NULL, draft TEXT NOT NULL, deleted INTEGER NOT NULL DEFAULT 0);"
            "CREATE TABLE message(id INTEGER PRIMARY KEY,"
            " conversation INTEGER NOT NULL REFERENCES conversation ON DELETE CASCADE,"
            " role INTEGER NOT NULL, state INTEGER NOT NULL, text TEXT NOT NULL, note TEXT NOT NULL);"
            "INSERT INTO conversation VALUES(7, 7, 'Old', '', '', '', 0);"
            "INSERT INTO message VALUES(8, 7, 0, 0, 'Question', ''), (9, 7, 1, 0, 'Answer', 'Model');"
            "PRAGMA user_version=1",
            NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    for (int i = 0; i < 2; i++) {
        desk_store *s = open_store(path, NULL);
        expect_list(s, NULL, "Old");
        CHECK_OK(desk_store_messages(s, 7, &rows, &err), &err);
        assert_int_equal(rows->len, 2);
        assert_string_equal(((desk_message *)rows->pdata[1])->text, "Answer");
        g_ptr_array_unref(rows);
        desk_store_close(s);
    }
}
