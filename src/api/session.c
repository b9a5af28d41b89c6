/* SPDX-License-Identifier: Apache-2.0
 * session.c - the session handle: options to a generation, conversations to prompts, measuring. */
#include "api/api.h"

we_status we_session_open(we_session **out, we_model *model, we_error *err)
{
    *out = NULL;
    we_session *s = we_calloc(1, sizeof *s);
    if (!s) return we_fail(err, WE_E_NOMEM, "no memory for a session");
    s->model = model;
    atomic_init(&s->busy, false);
    const we_status st = we_seq_open(&s->seq, model->decoder, err);
    if (st) {
        we_free(s);
        return st;
    }
    *out = s;
    return WE_OK;
}

void we_session_close(we_session *s)
{
    if (!s) return;
    we_seq_close(s->seq);
    we_free(s);
}

/* What every call does first: after any failure the result can be deinited. */
static we_status check_structs(const we_generate_options *opt, we_result *result, we_error *err)
{
    WE_REFUSE_UNSIZED(opt, "WE_GENERATE_OPTIONS_INIT");
    WE_REFUSE_UNSIZED(result, "its sizeof");
    const we_result empty = { .size = sizeof empty };
    if (result) WE_GIVE_INFO(result, empty);
    return WE_OK;
}

we_status we_session_begin(we_session *s, we_error *err)
{
    if (atomic_exchange(&s->busy, true))
        return we_fail(err, WE_E_BUSY, "the session is busy: wait for its running call or task to end");
    atomic_store(we_seq_cancel_flag(s->seq), false);
    return WE_OK;
}

void we_session_end(we_session *s) { atomic_store(&s->busy, false); }

void we_session_cancel(we_session *s) { atomic_store(we_seq_cancel_flag(s->seq), true); }

void we_session_reset(we_session *s) { we_seq_reset(s->seq); }

void we_session_get_info(const we_session *s, we_session_info *info)
{
    const we_session_info i = { sizeof i, we_seq_length(s->seq),
                                (size_t)we_decoder_get_info(s->model->decoder)->context, we_seq_kv_bytes(s->seq) };
    WE_GIVE_INFO(info, i);
}

void we_result_deinit(we_result *r)
{
    if (!r) return;
    we_free(r->text);
    we_free(r->tokens);
    r->text = NULL;
    r->tokens = NULL;
    const size_t size = r->size; /* a struct of another version may be smaller than ours */
    memset(r, 0, WE_MIN(size, sizeof *r));
    r->size = size;
}

/* ---- Generate ---- */

/* Ids of a draft model are the model's own only where every one stands for the same token. */
we_status we_session_check_draft(we_session *s, const we_session *draft, we_error *err)
{
    const we_model *m = s->model, *d = draft->model;
    if (draft == s) return we_fail(err, WE_E_ARG, "a session cannot draft for itself");
    if (s->drafts == d) return WE_OK;
    const int n = we_decoder_get_info(m->decoder)->vocab_size, n_draft = we_decoder_get_info(d->decoder)->vocab_size;
    int32_t other =
        n_draft < n ? n_draft : -1; /* the draft model's guesses are fed to the model, and its own ids back */
    if (m->tokenizer && d->tokenizer) {
        const int32_t most = (int32_t)we_tok_vocab_size(m->tokenizer->tok);
        if ((int32_t)we_tok_vocab_size(d->tokenizer->tok) != most)
            other = most;
        else
            other = -1; /* vocabularies are padded differently: what no token stands for is not drawn */
        for (int32_t id = 0; other < 0 && id < most; id++) {
            we_str a = { 0 }, b = { 0 };
            if (we_tok_token(m->tokenizer->tok, id, &a) != we_tok_token(d->tokenizer->tok, id, &b) || !we_str_eq(a, b))
                other = id;
        }
    }
    if (other >= 0)
        return we_fail(
            err, WE_E_ARG,
            "%s cannot draft for %s: their vocabularies differ (from token %d on): take a smaller model of the "
            "same family",
            d->path, m->path, (int)other);
    s->drafts = d;
    return WE_OK;
}

we_status we_session_do_generate(we_session *s, const int32_t *tokens, size_t n, size_t mark,
                                 const we_generate_options *opt, we_result *result, we_error *err)
{
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    WE_TAKE_OPTIONS(o, opt);
    if (n == 0) return we_fail(err, WE_E_RANGE, "the prompt is empty: at least one token is needed");
    if (o.max_tokens < 0)
        return we_fail(err, WE_E_RANGE, "max_tokens is %d, expected 1 or more, or 0 for the context's end",
                       o.max_tokens);
    we_generation g = {
        .tokens = tokens,
        .n_tokens = n,
        .mark = mark,
        .max_tokens = o.max_tokens,
        .sampling = { o.temperature, o.top_p, o.min_p, o.top_k, o.repetition_penalty,
                      o.repetition_context ? o.repetition_context : 20, o.seed },
        .ignore_eos = o.ignore_eos,
        .prompt_lookup = o.prompt_lookup,
        .draft = o.draft ? o.draft->seq : NULL,
        .on_piece = o.on_piece,
        .on_prefill = o.on_prefill,
        .user = o.user,
    };
    if (s->model->tokenizer) {
        g.tok = s->model->tokenizer->tok;
        g.eos = s->model->tokenizer->eos.ids;
        g.n_eos = s->model->tokenizer->eos.n;
    }
    we_status st;
    if (o.draft && ((st = we_session_check_draft(s, o.draft, err)) || (st = we_session_begin(o.draft, err)))) return st;
    we_str *stop = we_calloc(o.n_stop, sizeof *stop);
    if (!stop) {
        if (o.draft) we_session_end(o.draft);
        return we_fail(err, WE_E_NOMEM, "no memory for %zu stop texts", o.n_stop);
    }
    for (size_t i = 0; i < o.n_stop; i++) stop[i] = we_str_from(o.stop[i]);
    g.stop = stop;
    g.n_stop = o.n_stop;

    we_result r = { .size = sizeof r };
    st = we_seq_generate(s->seq, &g, &r, err);
    if (o.draft) we_session_end(o.draft);
    if (result)
        WE_GIVE_INFO(result, r);
    else
        we_result_deinit(&r);
    we_free(stop);
    return st;
}

we_status we_session_generate(we_session *s, const int32_t *tokens, size_t n, const we_generate_options *opt,
                              we_result *result, we_error *err)
{
    we_status st;
    if ((st = check_structs(opt, result, err)) || (st = we_session_begin(s, err))) return st;
    st = we_session_do_generate(s, tokens, n, 0, opt, result, err);
    we_session_end(s);
    return st;
}

/* ---- Chat ---- */

/* The template writes the special tokens itself: none are added (as transformers' apply_chat_template does). */
static we_status prompt_tokens(const we_tokenizer *t, const we_conversation *c, we_ids *out, we_error *err)
{
    char *text;
    size_t len;
    we_status st = we_template_render(t, c, &text, &len, err);
    if (st) return st;
    st = we_tok_encode(t->tok, (we_str){ text, len }, false, out, err);
    we_free(text);
    return st;
}

/* How much of the prompt the next turn's will begin with for certain: the conversation without the head of the answer, since
 * templates rewrite answers (reasoning is dropped) but not what the user said. */
static size_t end_of_user_turn(const we_tokenizer *t, const we_conversation *c, const we_ids *prompt)
{
    we_conversation without = *c;
    we_ids ids = { 0 };
    size_t i = 0;
    without.no_generation_prompt = true;
    without.continue_final_message = false;
    if (!prompt_tokens(t, &without, &ids, NULL))
        while (i < ids.n && i < prompt->n && ids.ids[i] == prompt->ids[i]) i++;
    we_ids_deinit(&ids);
    return i;
}

we_status we_session_do_chat(we_session *s, const we_conversation *conversation, const we_generate_options *opt,
                             we_result *result, we_error *err)
{
    const we_tokenizer *t = s->model->tokenizer;
    if (!t)
        return we_fail(err, WE_E_UNSUPPORTED,
                       "%s has no tokenizer.json (or tokenizer.model): without it there is no chat, only tokens",
                       s->model->path);
    we_conversation c = WE_CONVERSATION_INIT;
    WE_TAKE_OPTIONS(c, conversation);
    we_ids prompt = { 0 };
    we_status st = prompt_tokens(t, &c, &prompt, err);
    const size_t mark = st || we_decoder_get_info(s->model->decoder)->rewinds ? 0 : end_of_user_turn(t, &c, &prompt);
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    WE_TAKE_OPTIONS(o, opt);
    const char **stop = NULL;
    if (!st && t->family &&
        t->family->stop) { /* a format without tokens of its own ends where the user's next turn begins */
        if (!(stop = we_calloc(o.n_stop + 1, sizeof *stop))) st = we_fail(err, WE_E_NOMEM, "no memory for stop texts");
        for (size_t i = 0; stop && i < o.n_stop; i++) stop[i] = o.stop[i];
        if (stop) stop[o.n_stop++] = t->family->stop;
        o.stop = stop;
    }
    if (!st) st = we_session_do_generate(s, prompt.ids, prompt.n, mark, &o, result, err);
    we_free(stop);
    we_ids_deinit(&prompt);
    return st;
}

we_status we_session_chat(we_session *s, const we_conversation *conversation, const we_generate_options *opt,
                          we_result *result, we_error *err)
{
    WE_REFUSE_UNSIZED(conversation, "WE_CONVERSATION_INIT");
    we_status st;
    if ((st = check_structs(opt, result, err)) || (st = we_session_begin(s, err))) return st;
    st = we_session_do_chat(s, conversation, opt, result, err);
    we_session_end(s);
    return st;
}

/* ---- Measuring ---- */

we_status we_session_eval(we_session *s, const int32_t *tokens, size_t n, we_logits_fn fn, void *user, we_error *err)
{
    if (n == 0) return we_fail(err, WE_E_RANGE, "the prompt is empty: at least one token is needed");
    we_status st = we_session_begin(s, err);
    if (st) return st;
    st = we_seq_eval(s->seq, tokens, n, fn, user, err);
    we_session_end(s);
    return st;
}

we_status we_bench(we_model *model, const we_bench_options *opt, we_bench_sample *samples, we_error *err)
{
    we_bench_options o = WE_BENCH_OPTIONS_INIT;
    WE_REFUSE_UNSIZED(opt, "WE_BENCH_OPTIONS_INIT");
    WE_TAKE_OPTIONS(o, opt);
    return we_decoder_bench(model->decoder, &o, samples, err);
}

we_status we_bench_limits(we_model *model, we_limits *limits, we_error *err)
{
    we_device *device = we_decoder_device(model->decoder);
    we_limits measured = { .size = sizeof measured };
    (void)err;
    device->ops->measure(device, &measured);
    WE_GIVE_INFO(limits, measured);
    return WE_OK;
}

/* The text's tokens by the model's tokenizer, without special ones. */
static we_status text_ids(const we_model *model, const char *text, size_t len, we_ids *ids, we_error *err)
{
    if (!model->tokenizer)
        return we_fail(err, WE_E_UNSUPPORTED, "%s has no tokenizer.json (or tokenizer.model): perplexity needs one",
                       model->path);
    return we_tok_encode(model->tokenizer->tok, (we_str){ text, len }, false, ids, err);
}

#define PERPLEXITY_CONTEXT 512

we_status we_perplexity(we_model *model, const char *text, size_t len, int context, we_progress_fn progress,
                        void *progress_user, we_perplexity_result *result, we_error *err)
{
    const int most = we_decoder_get_info(model->decoder)->context;
    we_ids ids = { 0 };
    we_perplexity_result r = { .size = sizeof r };
    we_status st = text_ids(model, text, len, &ids, err);
    if (!st)
        st = we_decoder_perplexity(model->decoder, ids.ids, ids.n, we_tok_bos_id(model->tokenizer->tok),
                                   context ? context : WE_MIN(PERPLEXITY_CONTEXT, most), progress, progress_user, &r,
                                   err);
    we_ids_deinit(&ids);
    if (!st) WE_GIVE_INFO(result, r);
    return st;
}

/* Both read the same ids. A base without a tokenizer of its own takes the model's. */
static we_status same_ids(const we_model *model, const we_model *base, const we_ids *ids, const char *text, size_t len,
                          we_error *err)
{
    if (!base->tokenizer) return WE_OK;
    we_ids other = { 0 };
    we_status st = text_ids(base, text, len, &other, err);
    if (!st && (other.n != ids->n || memcmp(other.ids, ids->ids, ids->n * sizeof *ids->ids) != 0))
        st = we_fail(err, WE_E_ARG,
                     "%s and %s read the text as different tokens: only models with one vocabulary can be compared",
                     model->path, base->path);
    we_ids_deinit(&other);
    return st;
}

we_status we_compare(we_model *model, we_model *base, const char *text, size_t len, int context,
                     we_progress_fn progress, void *progress_user, we_comparison *result, we_error *err)
{
    const int most = WE_MIN(we_decoder_get_info(model->decoder)->context, we_decoder_get_info(base->decoder)->context);
    we_ids ids = { 0 };
    we_comparison r = { .size = sizeof r };
    we_status st = text_ids(model, text, len, &ids, err);
    if (!st) st = same_ids(model, base, &ids, text, len, err);
    if (!st)
        st = we_decoder_compare(model->decoder, base->decoder, ids.ids, ids.n, we_tok_bos_id(model->tokenizer->tok),
                                context ? context : WE_MIN(PERPLEXITY_CONTEXT, most), progress, progress_user, &r, err);
    we_ids_deinit(&ids);
    if (!st) WE_GIVE_INFO(result, r);
    return st;
}
