/* SPDX-License-Identifier: Apache-2.0
 * test_client_config.c - client: files of KEY=value, where values come from, what is refused. */
#include "client/client_int.h"
#include "support.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Lines ---- */

static bool collect(void *user, const we_envline *line)
{
    we_buf *out = user;
    we_buf_printf(out, "%zu:%.*s=[%.*s]%s%s\n", line->number, (int)line->key.len, line->key.ptr, (int)line->value.len,
                  line->value.ptr, line->problem ? "!" : "", line->problem ? line->problem : "");
    return true;
}

static void expect_lines(const char *text, const char *wanted)
{
    we_buf out = { 0 };
    we_error err;
    CHECK_OK(we_envfile_parse(we_str_from(text), collect, &out, &err), &err);
    CHECK_STR(we_buf_str(&out), wanted);
    we_buf_deinit(&out);
}

TEST(client_envfile_reads_what_shells_and_dotenv_readers_agree_on)
{
    expect_lines("A=1\nB = two words  \n\n  # no\n\texport C=3\r\n", "1:A=[1]\n2:B=[two words]\n5:C=[3]\n");
    expect_lines("\xEF\xBB\xBF"
                 "A='as $it \\n is' # c\nB=\"a\\nb\"\nC=\"a # b\"#c",
                 "1:A=[as $it \\n is]\n"
                 "2:B=[]!the value holds a control character\n3:C=[a # b]\n");
    expect_lines("A=a#b # c\nB=# c\nC=\nexport=4\nD=\"\\\"\\\\\\$\\x\"",
                 "1:A=[a#b]\n2:B=[]\n3:C=[]\n4:export=[4]\n5:D=[\"\\$\\x]\n");
}

TEST(client_envfile_names_broken_lines)
{
    expect_lines("A\n1=2\n=3\nB=\"x\nC='x' y\nD=\xFF",
                 "1:A=[]!expected '=' behind the name\n2:=[]!expected KEY=value\n"
                 "3:=[]!expected KEY=value\n4:B=[]!the quote is not closed on its line\n"
                 "5:C=[]!something stands behind the closing quote\n6:D=[]!the value is not UTF-8\n");
}

static void expect_change(const char *text, const char *key, const char *value, const char *wanted)
{
    we_buf out = { 0 };
    we_error err;
    CHECK_OK(we_envfile_change(&out, we_str_from(text), key, value, &err), &err);
    CHECK_STR(we_buf_str(&out), wanted);
    we_buf_deinit(&out);
}

TEST(client_envfile_changes_one_variable_and_nothing_else)
{
    expect_change("", "A", "1", "A=1\n");
    expect_change("# c\nA=1\nB=2", "A", "x y", "# c\nA=\"x y\"\nB=2");
    expect_change("A=1\nB=2\r\nexport A=3\n", "A", "4", "A=4\nB=2\r\n");
    expect_change("A=1\nB=2", "C", "$x", "A=1\nB=2\nC=\"\\$x\"\n");
    expect_change("A=1\nB=2\n", "A", NULL, "B=2\n");
    we_buf out = { 0 };
    we_error err;
    CHECK_STATUS(we_envfile_change(&out, WE_STR(""), "A", "x\ny", &err), WE_E_ARG, &err);
    we_buf_deinit(&out);
}

/* ---- Sources ---- */

static void see_note(void *user, const char *text) { we_buf_printf(user, "%s\n", text); }
static bool say_yes(void *user, const char *question)
{
    (void)user;
    assert_non_null(strstr(question, "evil.example"));
    return true;
}

/* In a folder of its own, with these two files; variables that the tests use are out of the environment. */
static void place(const char *dotenv, const char *user)
{
    static const char *const names[] = { "LLM_CHAT_API_URL", "MLX_TOP_P",        "MLX_MAX_TOKENS", "MLX_QUANTIZATION",
                                         "OLLAMA_HOST",      "LLM_CHAT_API_KEY", "WE_LOG" };
    for (size_t i = 0; i < WE_COUNT(names); i++) unsetenv(names[i]);
    assert_int_equal(chdir(test_dir()), 0);
    setenv("XDG_CONFIG_HOME", test_path("config"), 1);
    we_dir_make(test_path("config/whisperengine"), 0700, NULL);
    unlink(".env");
    unlink(test_path("config/whisperengine/env"));
    if (dotenv) chmod(test_write(".env", dotenv, strlen(dotenv)), 0644);
    if (user) chmod(test_write("config/whisperengine/env", user, strlen(user)), 0644);
}

static void load(we_buf *notes, we_confirm_fn confirm)
{
    we_config_options o = WE_CONFIG_OPTIONS_INIT;
    we_error err;
    o.on_note = see_note;
    o.confirm = confirm;
    o.user = notes;
    we_buf_clear(notes);
    CHECK_OK(we_config_load(&o, &err), &err);
}

static we_config_value get(const char *name)
{
    we_config_value v = { .size = sizeof v };
    we_error err;
    CHECK_OK(we_config_get(name, &v, &err), &err);
    return v;
}

TEST(client_config_takes_the_environment_then_dotenv_then_the_users_file)
{
    we_buf notes = { 0 };
    place("MLX_TOP_P=0.2\nMLX_MAX_TOKENS=2\nPATH=/evil\n", "MLX_TOP_P=0.3\nMLX_MAX_TOKENS=3\nMLX_QUANTIZATION=true\n");
    setenv("MLX_TOP_P", "0.1", 1);
    load(&notes, NULL);
    CHECK_STR(we_buf_str(&notes), "./.env sets MLX_MAX_TOKENS\n");
    assert_string_equal(get("MLX_TOP_P").value, "0.1");
    assert_int_equal(get("MLX_TOP_P").source, WE_CONFIG_ENVIRONMENT);
    assert_string_equal(get("MLX_MAX_TOKENS").value, "2");
    assert_string_equal(get("MLX_MAX_TOKENS").path, "./.env");
    assert_string_equal(get("MLX_QUANTIZATION").value, "true");
    assert_string_equal(get("MLX_QUANTIZATION").path, test_path("config/whisperengine/env"));
    assert_null(get("OLLAMA_HOST").value);
    double d = 0;
    bool yes = false;
    CHECK_OK(we_config_f64("MLX_TOP_P", &d, NULL), NULL);
    CHECK_OK(we_config_bool("MLX_QUANTIZATION", &yes, NULL), NULL);
    assert_true(d > 0.099 && d < 0.101 && yes);
    place(NULL, NULL);
    load(&notes, NULL);
    assert_null(get("MLX_MAX_TOKENS").value);
    we_buf_deinit(&notes);
}

TEST(client_config_trusts_no_dotenv_that_others_may_write)
{
    we_buf notes = { 0 };
    place("MLX_TOP_P=0.2\n", NULL);
    chmod(".env", 0664);
    load(&notes, NULL);
    assert_null(get("MLX_TOP_P").value);
    assert_non_null(strstr(notes.ptr, "./.env is not read: others may write to it"));
    place(NULL, NULL);
    test_write("elsewhere", "MLX_TOP_P=0.2\n", 14);
    assert_int_equal(symlink("elsewhere", ".env"), 0);
    load(&notes, NULL);
    assert_null(get("MLX_TOP_P").value);
    if (geteuid() == 0) {
        place("MLX_TOP_P=0.2\n", NULL);
        assert_int_equal(chown(".env", 12345, 12345), 0);
        load(&notes, NULL);
        assert_null(get("MLX_TOP_P").value);
        assert_non_null(strstr(notes.ptr, "./.env is not read: it belongs to another user"));
    }
    place("NOT_OURS=1\n", NULL);
    chmod(".env", 0666);
    load(&notes, NULL);
    assert_int_equal(notes.len, 0); /* nobody's business */
    we_buf_deinit(&notes);
}

TEST(client_config_follows_no_dotenv_to_another_machine_without_a_yes)
{
    we_buf notes = { 0 };
    place("LLM_CHAT_API_URL=https://evil.example/v1\nOLLAMA_HOST=127.0.0.1:9\n", NULL);
    load(&notes, NULL);
    assert_null(get("LLM_CHAT_API_URL").value);
    assert_string_equal(get("LLM_CHAT_API_URL").refused, "https://evil.example/v1");
    assert_string_equal(get("OLLAMA_HOST").value, "127.0.0.1:9");
    load(&notes, say_yes);
    assert_string_equal(get("LLM_CHAT_API_URL").value, "https://evil.example/v1");
    assert_null(get("LLM_CHAT_API_URL").refused);
    place("OLLAMA_HOST=evil.example\n", NULL);
    load(&notes, NULL);
    assert_null(get("OLLAMA_HOST").value);
    we_buf_deinit(&notes);
}

TEST(client_config_names_what_is_wrong_with_a_value)
{
    we_buf notes = { 0 };
    we_error err;
    int64_t n = 7;
    place("MLX_MAX_TOKENS=0\n", "MLX_TOP_P=2\nLLM_CHAT_API_URL=gopher://x\nMLX_QUANTIZATION=perhaps\nTYPO=1\n");
    load(&notes, NULL);
    assert_non_null(strstr(notes.ptr, "line 4 is left out: TYPO is not a variable of ours"));
    CHECK_STATUS(we_config_i64("MLX_MAX_TOKENS", &n, &err), WE_E_ARG, &err);
    EXPECT_MESSAGE(&err, "MLX_MAX_TOKENS is '0' (./.env): expected a whole number, 1 to 2147483647");
    assert_int_equal(n, 7);
    assert_false(get("MLX_TOP_P").is_valid);
    assert_non_null(strstr(get("MLX_TOP_P").problem, "expected a number, 0 to 1"));
    assert_false(get("LLM_CHAT_API_URL").is_valid);
    assert_non_null(strstr(get("MLX_QUANTIZATION").problem, "true or false"));
    we_config_value v = { .size = sizeof v };
    CHECK_STATUS(we_config_get("PATH", &v, &err), WE_E_NOT_FOUND, &err);
    place(NULL, "WE_LOG=loud\n");
    CHECK_STATUS(we_config_load(NULL, &err), WE_E_ARG, &err);
    EXPECT_MESSAGE(&err, "WE_LOG is 'loud'");
    place(NULL, NULL);
    load(&notes, NULL);
    we_buf_deinit(&notes);
}

TEST(client_config_checks_lists_of_words)
{
    we_buf notes = { 0 };
    we_error err;
    we_backend_kind chain[WE_BACKEND_CHAIN];
    const char *kernels = NULL;
    int64_t bits = 0;
    place(NULL, "MLX_KV_BITS=8\nMLX_KERNELS=reference\nFALLBACK_CHAIN=ollama, mlx\nMLX_PROMPT_LOOKUP=On\n");
    load(&notes, NULL);
    CHECK_OK(we_config_i64("MLX_KV_BITS", &bits, &err), &err);
    CHECK_OK(we_config_str("MLX_KERNELS", &kernels, &err), &err);
    CHECK_OK(we_config_chain(chain, &err), &err);
    assert_int_equal(bits, 8);
    assert_string_equal(kernels, "reference");
    const we_backend_kind wanted[] = { WE_BACKEND_OLLAMA, WE_BACKEND_MLX, WE_BACKEND_LMSTUDIO, WE_BACKEND_LLAMACPP,
                                       WE_BACKEND_TRANSFORMERS };
    assert_memory_equal(chain, wanted, sizeof wanted);
    assert_true(get("MLX_PROMPT_LOOKUP").is_on);
    assert_string_equal(get("MLX_KV_BITS").words, "16|8|4");
    assert_string_equal(get("MLX_KV_BITS").range, "16, 8 or 4");
    assert_null(get("MLX_THREADS").words);
    place(NULL, "MLX_KV_BITS=16|8\nMLX_KERNELS=avx\nFALLBACK_CHAIN=mlx,,ollama\nMLX_PROMPT_LOOKUP=off\n");
    load(&notes, NULL);
    CHECK_STATUS(we_config_i64("MLX_KV_BITS", &bits, &err), WE_E_ARG, &err);
    EXPECT_MESSAGE(&err, "expected 16, 8 or 4");
    CHECK_STATUS(we_config_str("MLX_KERNELS", &kernels, &err), WE_E_ARG, &err);
    CHECK_STATUS(we_config_chain(chain, &err), WE_E_ARG, &err);
    EXPECT_MESSAGE(&err, "FALLBACK_CHAIN is 'mlx,,ollama'");
    assert_false(get("MLX_PROMPT_LOOKUP").is_on);
    place(NULL, NULL);
    load(&notes, NULL);
    we_buf_deinit(&notes);
}

TEST(client_config_sets_and_masks)
{
    we_buf notes = { 0 };
    we_error err;
    char *text;
    place(NULL, "# mine\nMLX_TOP_P=0.3\n");
    load(&notes, NULL);
    CHECK_OK(we_config_set("LLM_CHAT_API_KEY", "s3cret word", &err), &err);
    CHECK_OK(we_config_set("MLX_TOP_P", "0.5", &err), &err);
    assert_string_equal(get("LLM_CHAT_API_KEY").value, "********");
    assert_string_equal(we_env("LLM_CHAT_API_KEY"), "s3cret word");
    CHECK_OK(we_file_read(test_path("config/whisperengine/env"), 0, &text, NULL, &err), &err);
    assert_string_equal(text, "# mine\nMLX_TOP_P=0.5\nLLM_CHAT_API_KEY=\"s3cret word\"\n");
    we_free(text);
    struct stat st;
    assert_int_equal(stat(test_path("config/whisperengine/env"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    CHECK_STATUS(we_config_set("MLX_TOP_P", "2", &err), WE_E_ARG, &err);
    CHECK_STATUS(we_config_set("MLX_TOP_P", "", &err), WE_E_ARG, &err);
    CHECK_STATUS(we_config_set("HF_HOME", "/x", &err), WE_E_UNSUPPORTED, &err);
    CHECK_STATUS(we_config_set("PATH", "/x", &err), WE_E_NOT_FOUND, &err);
    CHECK_OK(we_config_set("LLM_CHAT_API_KEY", NULL, &err), &err);
    assert_null(we_env("LLM_CHAT_API_KEY"));
    place(NULL, NULL);
    load(&notes, NULL);
    we_buf_deinit(&notes);
}

TEST(client_config_gives_memory_errors_back)
{
    we_status st = WE_OK;
    place("MLX_TOP_P=0.2\nMLX_MAX_TOKENS=2\n", "MLX_TOP_P=0.3\n");
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = we_config_load(NULL, NULL);
        assert_true(st == WE_OK || st == WE_E_NOMEM);
    }
    place(NULL, NULL);
    CHECK_OK(we_config_load(NULL, NULL), NULL);
}
