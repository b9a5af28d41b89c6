/* SPDX-License-Identifier: Apache-2.0
 * template.h - Jinja2 as chat templates use it: lexer, parser and evaluator of our own. The language is the one that
 * transformers' apply_chat_template runs: Jinja2 3.1, ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop
 * controls, `raise_exception`, `strftime_now`, `tojson` as transformers defines it, `generation` blocks.
 * Left out, each with an error that says so: the filter `urlize`, the function `lipsum`, \N{...} in strings, complex numbers.
 * Other than Jinja2, nothing is computed while parsing: what its constant folding turns into errors of branches that are not
 * taken, or hides, is here what it would be at run time.
 * Templates are untrusted: bounded in depth, steps and output; nothing of this machine is reachable from one.
 * Source: Jinja2's template designer documentation; behaviour is measured against Jinja2 3.1.6. */
#ifndef WE_TEMPLATE_H
#define WE_TEMPLATE_H

#include "base/base.h"

typedef struct we_template we_template; /* a parsed template; immutable; any thread may render it */

typedef struct we_template_limits { /* zeroed fields mean these defaults */
    size_t max_output_bytes;        /* 64 MiB */
    size_t max_steps;               /* evaluated nodes and loop rounds: 50,000,000 */
    int max_depth;                  /* nesting of expressions, blocks, macro calls: 200 */
    size_t max_memory_bytes;        /* of values made while rendering: 512 MiB */
} we_template_limits;

/** Parse. `source` is copied. Errors: WE_E_TEMPLATE ("line 12: unexpected '}'"), WE_E_NOMEM. */
we_status we_template_parse(we_template **out, we_str source, we_error *err);
void we_template_free(we_template *t); /* NULL is allowed */

/** Render with the members of the JSON object `context` as variables.
 * date   : "YYYY-MM-DD" seen by strftime_now at 00:00:00; NULL: now.
 * limits : NULL for the defaults.
 * Errors : WE_E_TEMPLATE (message of raise_exception as it stands, or "line N: reason"), WE_E_NOMEM. `out` may then hold
 *          the text until there. */
we_status we_template_run(const we_template *t, const we_json *context, const char *date,
                          const we_template_limits *limits, we_buf *out, we_error *err);

/* What transformers does around the template: one conversation -> the template's variables -> the prompt. */
typedef struct we_chat_input {
    const we_json *messages;  /* array of OpenAI-shaped messages */
    const we_json *tools;     /* array of objects, or NULL */
    const we_json *documents; /* array of objects, or NULL */
    const we_json *variables; /* object of extra variables, or NULL */
    bool add_generation_prompt;
    const char
        *continue_field; /* the prompt ends in the middle of this member of the final message; NULL: it does not */
} we_chat_input;

/* Special tokens by role ("bos_token" -> "<s>"), as tokenizer_config.json has them. */
typedef struct we_chat_special {
    we_str role, content;
} we_chat_special;

/** Render a conversation as transformers' apply_chat_template does: on messages, tools, documents, special tokens,
 * add_generation_prompt and the variables, which come last and win.
 * Errors : WE_E_TEMPLATE, WE_E_ARG (continue_field and add_generation_prompt), WE_E_NOMEM. `out` may then hold a part. */
we_status we_chat_render(const we_template *t, const we_chat_input *input, const we_chat_special *special,
                         size_t n_special, const char *date, we_buf *out, we_error *err);

/* ---- families.c: models that come without a template ---- */

typedef enum we_family_trim { /* white space around what was said goes: */
                              WE_TRIM_NONE,
                              WE_TRIM_TURNS,  /* of users and the assistant */
                              WE_TRIM_JOINED, /* the same, a system message in the user's turn counted to it */
                              WE_TRIM_ALL
} we_family_trim;

typedef struct we_family { /* a chat format: [0] stands before, [1] behind what was said; NULL is nothing */
    const char *name;
    const char *begin, *system[2], *user[2], *assistant[2];
    const char *prompt;  /* the head of the answer */
    bool system_in_user; /* there is no system turn: it stands in the next user turn */
    we_family_trim trim;
    const char *end_of_turn; /* tokens that end an answer, separated by blanks; besides the model's EOS */
    const char *stop;        /* a text that does, or NULL */
} we_family;

typedef struct we_family_facts { /* what is known of a model */
    bool (*has_token)(const void *user, we_str token);
    const void *user;
    we_str model_type, name; /* may be empty */
} we_family_facts;

#define WE_FAMILY_WHY 256
/** The family that a model belongs to by these facts; the plain format where none is known.
 * why    : out, the reason for people: "the vocabulary has <|im_start|> <|im_end|>".
 * Returns: static, never NULL. */
const we_family *we_family_find(const we_family_facts *facts, char why[WE_FAMILY_WHY]);
const we_family *we_family_at(size_t index); /* all of them, the plain one last; NULL at the end */

/** The family's chat template. Errors: WE_E_NOMEM. */
we_status we_family_template(const we_family *family, we_template **out, we_error *err);

#endif
