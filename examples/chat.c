/* SPDX-License-Identifier: Apache-2.0
 * chat.c - a complete chat through the public interface: lines on standard input are messages, answers come out as they are
 * made. `chat` talks with the built-in model, `chat MODEL` with another one. Built and run by the tests.
 *   cc chat.c $(pkg-config --cflags --libs whisperengine) -o chat */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <whisperengine.h>

enum { MAX_MESSAGES = 64 };

static bool print_piece(void *user, const char *text, size_t len, int32_t token)
{
    (void)user, (void)token;
    return fwrite(text, 1, len, stdout) == len && fflush(stdout) == 0; /* false stops the answer */
}

int main(int argc, char **argv)
{
    we_error err = { 0 };
    we_engine *engine = NULL;
    we_model *model = NULL;
    we_session *session = NULL;
    we_message messages[MAX_MESSAGES];
    size_t n = 0;
    char line[4096], *path = NULL;
    we_generate_options options = WE_GENERATE_OPTIONS_INIT;
    options.on_piece = print_piece;

    we_status st = we_model_find(argc > 1 ? argv[1] : "default", &path, &err);
    if (!st) st = we_engine_open(&engine, NULL, &err);
    if (!st) st = we_model_open(&model, engine, path, NULL, &err);
    if (!st) st = we_session_open(&session, model, &err);
    if (!st) we_model_default_sampling(model, &options);

    while (!st && n + 2 <= MAX_MESSAGES && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        messages[n++] = (we_message){ "user", strdup(line) };
        we_conversation conversation = WE_CONVERSATION_INIT;
        conversation.messages = messages; /* all of them each time: the session's cache knows the beginning */
        conversation.n_messages = n;
        we_result result = { .size = sizeof result };
        if (!(st = we_session_chat(session, &conversation, &options, &result, &err)))
            messages[n++] = (we_message){ "assistant", strdup(result.text) };
        printf("\n");
        we_result_deinit(&result);
    }
    if (st) fprintf(stderr, "%s: %s\n", we_status_text(st), err.message);

    while (n) free((void *)messages[--n].content);
    we_session_close(session);
    we_model_close(model);
    we_engine_close(engine);
    we_free(path);
    return st != WE_OK;
}
