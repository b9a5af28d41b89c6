/* SPDX-License-Identifier: Apache-2.0
 * model_int.h - what the files of model/ share: hyperparameters, a layer's weights, what an architecture page says, and the
 * blocks that pages are made of. */
#ifndef WE_MODEL_INT_H
#define WE_MODEL_INT_H

#include "model/model.h"
#include <pthread.h>

/* ---- config.json ---- */

typedef enum we_rope_kind {
    WE_ROPE_DEFAULT,
    WE_ROPE_LINEAR,
    WE_ROPE_LLAMA3,
    WE_ROPE_YARN,
    WE_ROPE_LONGROPE,
    WE_ROPE_DYNAMIC
} we_rope_kind;

typedef struct we_rope_scaling { /* config.json's rope_scaling, or rope_parameters */
    we_rope_kind kind;
    double factor, low_freq_factor, high_freq_factor, original_max_position_embeddings, beta_fast, beta_slow;
    double mscale, mscale_all_dim;
    const double *long_factor; /* [n_long_factor] */
    int n_long_factor;
} we_rope_scaling;

/* Keys keep their names. 0 in a page's defaults means: the file must say. */
typedef struct we_config {
    const char *model_type;
    int64_t hidden_size, num_hidden_layers, intermediate_size, num_attention_heads, num_key_value_heads, head_dim;
    int64_t vocab_size, max_position_embeddings, sliding_window, sliding_window_pattern;
    int64_t original_max_position_embeddings;
    double rms_norm_eps, rope_theta, rope_local_base_freq, partial_rotary_factor, query_pre_attn_scalar;
    bool rope_traditional, tie_word_embeddings;
    we_rope_scaling rope_scaling;
    const int *layer_windows; /* [num_hidden_layers]: 0 full attention, else the window */

    /* Derived, or set by the page's `configure`. */
    float attention_scale;  /* on q.k; 0: 1 / sqrt(head_dim) */
    float embed_scale;      /* on embeddings; 0: 1 */
    float norm_offset;      /* norms multiply by weight + this */
    bool tied_without_head; /* tied when the file has no lm_head, whatever the key says */
    bool has_local_rope;    /* sliding layers rotate with rope_local_base_freq, unscaled */
    bool reads_layer_types; /* layer_types and sliding_window count; else only sliding_window_pattern does */
} we_config;

struct we_arch;

/** Read DIR/config.json, check it, find its page and apply the page's defaults and `configure`. Strings and arrays live in
 * the arena. Errors: WE_E_NOT_FOUND, WE_E_FORMAT (key, found, expected), WE_E_UNSUPPORTED (model_type, rope, quantization). */
we_status we_config_read(we_config *config, const struct we_arch **arch, we_arena *arena, const char *dir,
                         we_error *err);

/** The same from text; `file` is for messages. */
we_status we_config_parse(we_config *config, const struct we_arch **arch, we_arena *arena, we_str text,
                          const char *file, we_error *err);

/** The same from a GGUF file's metadata. */
we_status we_gguf_config_read(we_config *config, const struct we_arch **arch, we_arena *arena,
                              const we_weights *weights, we_error *err);
/** A checkpoint name in the file's words; false: it has none. */
bool we_gguf_name(const we_gguf_arch *arch, const char *mlx_name, char out[WE_GGUF_NAME]);

/* ---- Weights of a layer ---- */

typedef struct we_proj {      /* a linear projection */
    we_tensor *weight, *bias; /* bias: NULL where the checkpoint has none */
} we_proj;

typedef struct we_layer {
    int index, window;    /* window 0: full attention */
    we_rope *const *rope; /* the decoder's: a dynamic one is remade between steps */
    we_tensor *input_layernorm, *post_attention_layernorm, *pre_feedforward_layernorm, *post_feedforward_layernorm;
    we_tensor *q_norm, *k_norm;
    we_proj q_proj, k_proj, v_proj, o_proj;
    we_proj gate_proj, up_proj, down_proj;
} we_layer;

/* A tensor's size in terms of the configuration. */
typedef enum we_dim {
    WE_DIM_NONE,
    WE_DIM_HIDDEN,
    WE_DIM_FF,
    WE_DIM_Q /* n_heads * head_dim */,
    WE_DIM_KV /* n_kv_heads * head_dim */,
    WE_DIM_HEAD,
    WE_DIM_VOCAB
} we_dim;

/* Where a field of we_layer comes from in the checkpoint. `name` stands below model.layers.N. and without ".weight". A
 * matrix is [shape[0], shape[1]] and fills a we_proj; a vector is [shape[0]] and fills a we_tensor *. A joined tensor is cut by
 * rows: `after` lists the parts that lie before this one, `of` all of its parts. */
typedef struct we_tensor_spec {
    size_t field; /* offsetof(we_layer, ...) */
    const char *name;
    we_dim shape[2];
    we_dim after[2], of[3];
} we_tensor_spec;
#define WE_LAYER(member) offsetof(we_layer, member)

/* ---- A step and its blocks ---- */

typedef struct we_step {
    we_device *d;
    const we_config *c;
    we_tensor *ids, *x, *h, *q, *k, *v, *a, *gate, *up, *picked, *logits, *sampled;
    const int32_t *kept; /* [n_kept], ascending: the rows that the last layer goes on with behind its keys and values */
    int n_kept;          /* 0: all */
    int kept_of_span;    /* they are among the last so many of each span */
    int32_t last_row;
} we_step;

/* An architecture page. A page with a parent lists only what differs: tensors add to or replace the parent's of the same
 * field; a NULL function is the parent's. */
typedef struct we_arch {
    const char *name;
    const struct we_arch *parent;
    const we_config *defaults; /* for keys that the file may leave out */
    const we_tensor_spec *tensors;
    size_t n_tensors;
    we_status (*configure)(we_config *c, we_error *err); /* after the keys are read */
    void (*layer)(we_step *s, const we_layer *w);        /* s->x: [n, hidden_size], in place */
} we_arch;

/** The page of a model_type, NULL where there is none. */
extern const we_arch we_arch_llama; /* the parent of most pages */
const we_arch *we_arch_find(we_str model_type);

/* ---- The decoder ---- */

typedef struct we_slot { /* where the forward pass reads a matrix, or some rows of a joined one */
    const char *name;    /* in the checkpoint, without ".weight" */
    we_tensor **field, *own;
    int64_t first, rows;
} we_slot;

typedef struct we_handle { /* a weight on the device, and where its bytes lie in the file */
    we_tensor *handle;
    we_matrix matrix;
} we_handle;

struct we_decoder {
    we_decoder_info info;
    we_decoder_options options;
    we_arena arena; /* config's strings, layers, the list of tensors */
    we_config config;
    const we_arch *arch;
    we_device *device;
    uint64_t counted_bytes; /* weights and scratch, in the device's budget */
    we_weights *weights;
    we_layer *layers; /* [num_hidden_layers] */
    we_tensor *embed_tokens, *norm;
    we_proj lm_head;            /* embed_tokens where tied */
    we_rope *rope, *local_rope; /* made for sequences of up to rope_length tokens; only "dynamic" scaling cares */
    int64_t rope_length;
    we_handle *tensors; /* all that were made, to be freed */
    size_t n_tensors, tensors_capacity;
    we_slot *slots;
    size_t n_slots, slots_capacity;
    pthread_mutex_t lock; /* guards the scratch below, from the first op of a step until its results are read */
    we_step step;
};

/** Find every tensor that the page names, check it, hand it to the device (unless options.bind_only); count into info. */
we_status we_bind_weights(we_decoder *decoder, const char *dir, we_error *err);
/** (Re)make the rotary embeddings for sequences of `length` tokens. */
we_status we_bind_ropes(we_decoder *decoder, int64_t length, we_error *err);

/* Blocks, in the order in which a layer uses them. */
void we_norm(we_step *s, we_tensor *out, const we_tensor *x, const we_tensor *weight);
void we_qkv(we_step *s, const we_tensor *x, const we_layer *w); /* s->q, s->k, s->v = projections of x */
void we_head_norms(we_step *s, const we_layer *w);              /* q_norm and k_norm, head by head */
void we_rotate(we_step *s, const we_layer *w);                  /* s->q, s->k */
/* s->k, s->v to the cache; s->a from s->q. In the last layer s->a and s->x are left with the kept rows alone. */
void we_attention(we_step *s, const we_layer *w);
void we_project(we_step *s, we_tensor *out, const we_tensor *x, const we_proj *p);
void we_project_add(we_step *s, we_tensor *out, const we_tensor *x, const we_proj *p);
void we_gated(we_step *s, const we_tensor *x, const we_layer *w,
              we_activation act); /* s->gate = act(gate x) * up x, for down_proj alone */
void we_add(we_step *s, we_tensor *x, const we_tensor *y);

/* ---- Rotary frequencies ---- */

typedef struct we_rope_params {
    double base;
    int dims; /* of a head that are rotated */
    we_rope_scaling scaling;
    int64_t max_position_embeddings;
    int64_t length; /* tokens so far: only `dynamic` looks at it */
} we_rope_params;

/** inv_freq[dims / 2] in radians per position, and what q and k are multiplied by. */
void we_rope_frequencies(const we_rope_params *params, float *inv_freq, float *scale);

#endif
