/* SPDX-License-Identifier: Apache-2.0
 * test_backend_url.c - backend: URLs and host variables to targets, and what is refused. */
#include "backend/backend.h"
#include "support.h"
#include <stdlib.h>

static void forget_variables(void)
{
    unsetenv("OLLAMA_HOST");
    unsetenv("LMSTUDIO_HOST");
}

TEST(backend_urls_become_targets)
{
    static const struct {
        const char *url;
        we_backend_kind kind;
        const char *model, *base;
        bool local;
    } cases[] = {
        { "mlx://llama-3.1-8b-instruct", WE_BACKEND_MLX, "llama-3.1-8b-instruct", "", true },
        { "mlx:///models/a b@c", WE_BACKEND_MLX, "/models/a b@c", "", true },
        { "MLX://default", WE_BACKEND_MLX, "default", "", true },
        { "lmstudio://google/gemma-3-4b", WE_BACKEND_LMSTUDIO, "google/gemma-3-4b", "http://127.0.0.1:1234", true },
        { "lmstudio://google/gemma-3-4b@q4_k_m", WE_BACKEND_LMSTUDIO, "google/gemma-3-4b@q4_k_m",
          "http://127.0.0.1:1234", true },
        { "lmstudio://gemma@q4_k_m@studio.lan:1300", WE_BACKEND_LMSTUDIO, "gemma@q4_k_m", "http://studio.lan:1300",
          false },
        { "lmstudio://", WE_BACKEND_LMSTUDIO, "", "http://127.0.0.1:1234", true },
        { "ollama://llama3.2:3b", WE_BACKEND_OLLAMA, "llama3.2:3b", "http://127.0.0.1:11434", true },
        { "ollama://llama3.2:3b@10.0.0.2:11434", WE_BACKEND_OLLAMA, "llama3.2:3b", "http://10.0.0.2:11434", false },
        { "ollama://x@[::1]:99", WE_BACKEND_OLLAMA, "x", "http://[::1]:99", true },
        { "ollama://x@0.0.0.0:99", WE_BACKEND_OLLAMA, "x", "http://127.0.0.1:99", true },
        { "llamacpp:///m/x.gguf", WE_BACKEND_LLAMACPP, "/m/x.gguf", "", true },
        { "transformers://Qwen/Qwen3-0.6B", WE_BACKEND_TRANSFORMERS, "Qwen/Qwen3-0.6B", "", true },
        { "http://localhost:8000/v1", WE_BACKEND_OPENAI, "", "http://localhost:8000/v1", true },
        { "https://api.example.org/v1/#gpt@x", WE_BACKEND_OPENAI, "gpt@x", "https://api.example.org/v1", false },
        { "https://api.example.org", WE_BACKEND_OPENAI, "", "https://api.example.org/v1", false },
        { "http://[fe80::1]:8000/v1/chat/completions", WE_BACKEND_OPENAI, "", "http://[fe80::1]:8000/v1", false },
    };
    forget_variables();
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_backend_target t;
        we_error err;
        CHECK_OK(we_backend_target_parse(&t, cases[i].url, &err), &err);
        assert_int_equal(t.kind, cases[i].kind);
        assert_string_equal(t.model, cases[i].model);
        assert_string_equal(t.base, cases[i].base);
        assert_int_equal(t.local, cases[i].local);
        assert_true(we_backend_is_url(cases[i].url));
        we_backend_target_deinit(&t);
    }
}

TEST(backend_urls_that_are_none_are_refused)
{
    static const struct {
        const char *url, *says;
    } cases[] = {
        { "llama", "expected mlx://NAME, lmstudio://NAME" },
        { "gopher://x", "not the URL of a backend" },
        { "mlx://", "mlx://default" },
        { "llamacpp://", "name is missing" },
        { "http://user:secret@host/v1", "user and password do not belong" },
        { "ollama://x@user:secret@host:1", "user and password do not belong" },
        { "ollama://x@host:70000", "no HOST:PORT" },
        { "ollama://x@ho st:7", "no HOST:PORT" },
        { "ollama://x@[::1:7", "no HOST:PORT" },
        { "http://", "no HOST" },
        { "http://host:0/v1", "no HOST" },
        { "http://host/v1?key=1", "'?' has no place" },
        { "http://ho\nst/v1", "control character" },
        { "ftp://me:secret@host/", "the address" },
    };
    forget_variables();
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_backend_target t;
        we_error err;
        CHECK_STATUS(we_backend_target_parse(&t, cases[i].url, &err), WE_E_ARG, &err);
        EXPECT_MESSAGE(&err, cases[i].says);
        assert_null(strstr(err.message, "secret"));
        assert_null(t.model);
    }
    assert_false(we_backend_is_url("models/x"));
}

TEST(backend_host_variables_are_read_as_ollama_does)
{
    static const struct {
        const char *value, *base; /* NULL: refused */
    } cases[] = {
        { "", "http://127.0.0.1:11434" },
        { "1.2.3.4", "http://1.2.3.4:11434" },
        { ":5678", "http://127.0.0.1:5678" },
        { "1.2.3.4:5678", "http://1.2.3.4:5678" },
        { " \"example.com\" ", "http://example.com:11434" },
        { "example.com:5678/", "http://example.com:5678" },
        { "http://1.2.3.4", "http://1.2.3.4:80" },
        { "https://example.com", "https://example.com:443" },
        { "https://example.com:5678/ollama/", "https://example.com:5678/ollama" },
        { "0.0.0.0", "http://127.0.0.1:11434" },
        { "[::]:7", "http://[::1]:7" },
        { "::1", "http://[::1]:11434" },
        { "[::1]", "http://[::1]:11434" },
        { "host:port", NULL },
        { "me:secret@host", NULL },
        { "host/a b", NULL },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_backend_target t;
        we_error err;
        setenv("OLLAMA_HOST", cases[i].value, 1);
        if (cases[i].base) {
            CHECK_OK(we_backend_target_default(&t, WE_BACKEND_OLLAMA, &err), &err);
            assert_string_equal(t.base, cases[i].base);
            assert_string_equal(t.model, "");
        } else {
            CHECK_STATUS(we_backend_target_default(&t, WE_BACKEND_OLLAMA, &err), WE_E_ARG, &err);
            EXPECT_MESSAGE(&err, "OLLAMA_HOST");
            assert_null(strstr(err.message, "secret"));
        }
        we_backend_target_deinit(&t);
    }
    forget_variables();
}

TEST(backend_targets_survive_failing_allocations)
{
    we_backend_target t = { 0 };
    we_error err;
    we_status st = WE_E_INTERNAL;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = we_backend_target_parse(&t, "ollama://x@host:1", &err);
        assert_true(st == WE_OK || st == WE_E_NOMEM);
        we_backend_target_deinit(&t);
    }
}
