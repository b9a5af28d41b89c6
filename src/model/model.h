/* SPDX-License-Identifier: Apache-2.0
 * model.h - a decoder: hyperparameters from config.json, weights bound to a device, and the forward pass over the device's
 * ops. One page per architecture in arch/; what they share in blocks.c. Kernels are not known here (device/), nor who calls
 * for which sequence (runtime/), nor text (tokenizer/). */
#ifndef WE_MODEL_H
#define WE_MODEL_H

#include "device/device.h"
#include <stdatomic.h>

/* Rows of a step that every device takes. A longer prompt goes in pieces, each of info.step_rows at most: what the scratch
 * tensors are made for, and never more than WE_STEP_ROWS_MOST. */
#define WE_STEP_ROWS 128
/* Rows of logits that scratch holds at once: 16 x 128256 float32 are 8 MB. */
#define WE_LOGIT_ROWS 16

typedef struct we_decoder we_decoder; /* immutable but for its scratch, which a lock guards */

typedef struct we_decoder_options {
    int context;       /* 0: the model's, at most usual_context */
    int usual_context; /* 0: 8192 */
    int kv_bits;       /* 0 means 16; 32 whenever precise */
    bool precise;
    bool allow_paging;
    bool bind_only;          /* look at names and shapes, read nothing, make no scratch: for we_model_inspect */
    we_progress_fn progress; /* NULL: none */
    void *progress_user;
} we_decoder_options;

typedef struct we_decoder_info {
    char model_type[64];
    char quantization[128];
    int vocab_size, hidden_size, n_layers, n_heads, n_kv_heads, head_dim;
    int max_position_embeddings; /* 0: config.json does not say */
    int context;
    int step_rows; /* rows of a step at most: the device's */
    bool rewinds;  /* any earlier position can be gone back to: no sliding windows, no recurrent state */
    uint64_t n_parameters, weights_bytes, weight_bytes_read_per_token;
    uint64_t multiply_adds_per_token; /* of a prompt, with the layers' matrices */
    uint64_t kv_bytes_per_token, kv_bytes_at_context, scratch_bytes;
} we_decoder_info;

/** Load a folder's config.json and weights onto a device, or a GGUF file's.
 * Errors: see we_model_open in whisperengine.h. */
we_status we_decoder_open(we_decoder **out, we_device *device, const char *dir, const we_decoder_options *options,
                          we_error *err);
void we_decoder_close(we_decoder *decoder); /* NULL is allowed */
const we_decoder_info *we_decoder_get_info(const we_decoder *decoder);

/* The caches of sequences; sizes and lengths are the caller's business (runtime/). */
we_status we_decoder_kv_new(const we_decoder *decoder, we_kv **out, we_error *err);
we_device *we_decoder_device(const we_decoder *decoder);

typedef struct we_decoder_shape { /* what a decoder's memory depends on, besides its weights */
    int n_layers, hidden_size, intermediate_size, n_heads, n_kv_heads, head_dim, vocab_size;
    int window, full_every; /* each full_every-th layer sees all, the others `window` tokens; 0: all see all */
} we_decoder_shape;
/** The KV cache and scratch of a decoder that is not here, counted as opening one counts them.
 * context: >= 1. Errors: WE_E_NOMEM. */
we_status we_decoder_count(const we_decoder_shape *shape, we_device *device, int context, uint64_t *kv_bytes,
                           uint64_t *scratch_bytes, we_error *err);

/* One step: rows of tokens in, logits or sampled tokens of chosen rows out. */
typedef struct we_step_request {
    const we_span *spans; /* [n_spans]; room must be reserved in their caches */
    int n_spans, n_rows;  /* n_rows <= info.step_rows */
    const int32_t *ids;   /* [n_rows]; NULL: those in `drawn_before` */
    const we_tensor *drawn_before;
    const int32_t *out_rows; /* [n_out] rows whose logits are wanted, ascending: only these go through the last layer's
                                second half and the output matrix */
    int n_out;               /* 0: fill the caches only */
    bool all_rows;           /* every row goes through all layers, whatever is wanted: for who looks on (a tap) */
    const we_sample_spec *specs; /* [n_out], or NULL: no token is drawn */
    int32_t *sampled; /* out, [n_out], where specs are given; NULL: they stay in `drawn`, n_out <= WE_LOGIT_ROWS */
    we_tensor *drawn; /* the caller's ids of the device: read them, or let the next step go on from them */
    const atomic_bool *cancelled; /* looked at between layers: true ends the step with WE_E_CANCELLED; or NULL */
    we_logits_fn on_logits; /* gets the logits of out_rows in order, WE_LOGIT_ROWS at a time (`first` counts from 0 in
                                    out_rows), or NULL; must not call the decoder; false ends the step with WE_E_CANCELLED */
    void *user;
} we_step_request;

/** Run it. Threads: any; steps of one decoder take turns.
 * Errors: WE_E_RANGE (an id beyond the vocabulary), WE_E_DEVICE (also: a weight file was cut short while mapped). */
we_status we_decoder_step(we_decoder *decoder, const we_step_request *request, we_error *err);

/** The model types that this build runs, for messages and `list`: index from 0, NULL at the end. */
const char *we_model_type_at(size_t index);
bool we_model_type_known(we_str model_type);

/* ---- Matrices by name, for what measures or replaces them (convert/) ---- */

/** The checkpoint name of a matrix that a product reads, without ".weight": "model.layers.0.mlp.up_proj"; NULL: none of this
 * decoder's. Parts of a joined matrix have one name. */
const char *we_decoder_matrix_name(const we_decoder *decoder, const we_tensor *weight);

/** Whether it is the output matrix, whose product are the logits. */
bool we_decoder_is_head(const we_decoder *decoder, const we_tensor *weight);

/** Let the decoder read `with` in place of a matrix of the checkpoint, whose shape it has; its bytes are borrowed.
 * with   : NULL: the checkpoint's again.
 * Threads: no step may run.
 * Errors : WE_E_NOT_FOUND, WE_E_NOMEM: the checkpoint's is back in place. */
we_status we_decoder_replace(we_decoder *decoder, const char *name, const we_matrix *with, we_error *err);

/* ---- GGUF files, in the words of an MLX folder (gguf.c) ---- */

typedef struct we_gguf_arch we_gguf_arch; /* a row of the table of architectures */
#define WE_GGUF_NAME 320                  /* holds any translated name */

/** The row of general.architecture. Errors: WE_E_UNSUPPORTED (not one that this build runs). */
we_status we_gguf_find_arch(const we_gguf *gguf, const we_gguf_arch **out, we_error *err);
/** Activations of this family exceed float16's range. */
bool we_gguf_overflows_f16(const we_gguf_arch *arch);
/** config.json's text, as a folder with the same weights has it. in_place: for the tensors as they stand in the file.
 * Errors: WE_E_FORMAT (file, key, value), WE_E_UNSUPPORTED, WE_E_NOMEM. */
we_status we_gguf_config(const we_weights *weights, bool in_place, we_buf *json, we_error *err);

typedef struct we_gguf_role {
    bool is_known;               /* else no weight of this architecture */
    bool is_settings;            /* its numbers are in config.json */
    bool permuted_q, permuted_k; /* rows of a head are ordered for rotating neighbours */
    bool one_added;              /* a norm's weight, 1 greater than MLX has it */
} we_gguf_role;
/** What a tensor of the file is, and its name in an MLX folder. */
we_gguf_role we_gguf_tensor(const we_gguf_arch *arch, const char *name, char mlx_name[WE_GGUF_NAME]);

#endif
