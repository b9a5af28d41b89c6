/* SPDX-License-Identifier: Apache-2.0
 * api.h - the public handles' insides, for the files of api/, which put whisperengine.h on top of the rooms below. No work is
 * done here: arguments are checked, defaults filled in, pieces put together. */
#ifndef WE_API_H
#define WE_API_H

#include "hub/hub.h"
#include "runtime/runtime.h"
#include "template/template.h"

struct we_engine {
    we_device *device;
};

struct we_tokenizer {
    we_tok *tok;
    we_template *templates[2]; /* "default", "tool_use"; NULL where there is none or it does not parse */
    we_error template_errors[2];
    const we_family *family; /* whose format templates[0] is, where the folder has no template; else NULL */
    we_ids eos;              /* end-of-turn ids: the folder's and the family's */
};

struct we_model {
    we_engine *engine;
    we_decoder *decoder;
    we_tokenizer *tokenizer; /* NULL: the folder has none */
    char *path;
    double load_s;
    bool monitored; /* the monitor counts it */
    struct {
        double temperature, top_p, min_p, repetition_penalty, top_k; /* NAN: generation_config.json does not say */
    } recommended;
};

struct we_session {
    we_model *model;
    we_seq *seq;
    atomic_bool busy;
    const we_model *drafts; /* a model whose vocabulary was found to be this one's; only compared */
};

/* A struct whose size was not set would be taken for one of an older version, and silently for nothing at all. */
#define WE_REFUSE_UNSIZED(p, macro)                                                                             \
    do {                                                                                                        \
        if ((p) && (p)->size == 0) return we_fail(err, WE_E_ARG, "the size of " #p " is 0: begin with " macro); \
    } while (0)
/* Option structs of other versions: copy what the caller's size covers over the defaults. `opt` may be NULL. */
#define WE_TAKE_OPTIONS(local, opt)                                           \
    do {                                                                      \
        if (opt) memcpy(&(local), (opt), WE_MIN((opt)->size, sizeof(local))); \
        (local).size = sizeof(local);                                         \
    } while (0)
/* Info structs likewise: give as much as the caller has room for, `size` as the caller set it. */
#define WE_GIVE_INFO(out, local)                              \
    do {                                                      \
        const size_t room = (out)->size;                      \
        memcpy((out), &(local), WE_MIN(room, sizeof(local))); \
        (out)->size = room;                                   \
    } while (0)

/** The tokenizer of a model folder, *out NULL where it has none. */
we_status we_tokenizer_open_optional(we_tokenizer **out, const char *path, we_error *err);

/** A text of the folder's config.json; NULL where that is not to be had. Free with we_free. */
char *we_config_text(const char *dir, const char *key);

/** Mark the session as running and clear its cancel flag; WE_E_BUSY where it runs already. */
we_status we_session_begin(we_session *session, we_error *err);
void we_session_end(we_session *session);
/* The calls of whisperengine.h without begin and end: for the call itself and for a task's thread. */
we_status we_session_do_generate(we_session *s, const int32_t *tokens, size_t n, size_t mark,
                                 const we_generate_options *opt, we_result *result, we_error *err);
we_status we_session_do_chat(we_session *s, const we_conversation *c, const we_generate_options *opt, we_result *result,
                             we_error *err);

#endif
