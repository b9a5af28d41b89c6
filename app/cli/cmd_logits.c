/* SPDX-License-Identifier: Apache-2.0
 * cmd_logits.c - `logits`: the logits of every position of some tokens, as a .npy file that numpy reads. */
#include "cli.h"
#include "npy.h"

typedef struct logits_job {
    cli_npy npy;
    size_t vocab_size;
    we_status status;
    we_error err;
} logits_job;

static bool write_rows(void *user, size_t first, size_t n, const float *rows)
{
    (void)first;
    logits_job *job = user;
    job->status = cli_npy_write(&job->npy, rows, n * job->vocab_size, &job->err);
    return job->status == WE_OK;
}

static int print_json(const cli_options *options, const logits_job *job)
{
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    cli_json_text(&json, "output", options->output);
    cli_json_i64(&json, "tokens", options->tokens.n);
    cli_json_i64(&json, "vocab_size", job->vocab_size);
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

static int run(const cli_options *options)
{
    const cli_tokens *tokens = &options->tokens;
    if (!tokens->set) return cli_usage_error(options->command, "--tokens 1,2,3 is needed");
    if (!options->output) return cli_usage_error(options->command, "--output FILE.npy is needed");
    cli_model m;
    int status = cli_model_open(&m, options, 0, true);
    if (status) return status;
    we_error err;
    logits_job job = { .vocab_size = (size_t)m.info.vocab_size };
    we_status st = cli_npy_open(&job.npy, options->output, tokens->n, job.vocab_size, &err);
    cli_interrupt_install(false); /* Ctrl-C leaves no half-written file behind */
    cli_interrupt_target(m.session);
    if (!st && (st = we_session_eval(m.session, tokens->ids, tokens->n, write_rows, &job, &err)) && job.status)
        err = job.err;
    cli_interrupt_target(NULL);
    if (!st) st = cli_npy_finish(&job.npy, &err);
    if (st == WE_E_CANCELLED && cli_interrupted())
        status = CLI_INTERRUPTED;
    else if (st)
        status = cli_fail(&err);
    else if (options->json)
        status = print_json(options, &job);
    cli_npy_deinit(&job.npy);
    cli_model_close(&m);
    return status;
}

static const cli_option own[] = {
    { "tokens", 0, CLI_TOKENS, offsetof(cli_options, tokens), 0, 0, "1,2,3", "the token ids" },
    { "output", 'o', CLI_TEXT, offsetof(cli_options, output), 0, 0, "FILE", "where to write the .npy file" },
};

const cli_command cli_command_logits = { "logits",
                                         "[options] --tokens 1,2,3 --output FILE.npy",
                                         "write the logits of every position",
                                         "The file holds float32 values before softmax, [tokens, vocabulary].",
                                         own,
                                         WE_COUNT(own),
                                         { &cli_group_model, &cli_group_engine },
                                         0,
                                         run };
