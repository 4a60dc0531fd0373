#ifndef SLIM_MODEL_MODEL_H
#define SLIM_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"
#include "io/safetensors.h"

struct cJSON;

typedef enum LinearKind {
    LK_Q, LK_K, LK_V, LK_O, LK_GATE, LK_UP, LK_DOWN,
    LK_QKV, LK_GATE_UP, LK_ROUTER, LK_OTHER
} LinearKind;
const char *linear_kind_name(LinearKind k); /* "q_proj", … */

typedef enum RopeType { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN, ROPE_LONGROPE } RopeType;
typedef enum Activation { ACT_SILU, ACT_GELU_TANH } Activation;
typedef enum NormKind { NORM_LLAMA, NORM_LATE, NORM_UNIT } NormKind;

typedef struct RopeParams {
    RopeType type;
    double theta, factor, low_freq_factor, high_freq_factor, beta_fast, beta_slow;
    double attention_factor, mscale, mscale_all_dim; /* mscale 0: not given */
    bool has_attention_factor, truncate;
    int64_t original_max;
    int dim; /* rotated dimensions of a head */
    double *short_factor, *long_factor; /* longrope: dim/2 each */
} RopeParams;

/* config.json, both dialects, defaults filled (specs/models.md 2.1). */
typedef struct ModelConfig {
    char model_type[64];
    int64_t hidden, inter, vocab, max_positions;
    int layers, heads, kv_heads, head_dim;
    double eps;
    RopeParams rope;
    Activation act;
    bool tied;
    DType dtype;      /* the checkpoint's model dtype: F32, BF16 or F16 */
    int64_t *window;  /* [layers], 0 = full attention */
} ModelConfig;

/* One decoder family (a row of arch_table): what differs from Llama. One new file + one row + one golden test. */
typedef struct Arch {
    const char *model_type;      /* config.json's */
    const char *title;
    NormKind norm;
    bool qk_norm;                /* per head, before RoPE */
    bool head_dim_from_config;   /* head_dim has its own default, not H/heads */
    int default_head_dim;
    double default_theta, default_eps;
    const char *const *aliases;  /* the peer's --model_type strings, NULL-terminated (may be NULL) */
    /* fills cfg->window from config.json; NULL: no windows */
    Status (*windows)(const struct cJSON *config, ModelConfig *cfg, Error *err);
} Arch;
extern const Arch *const arch_table[]; /* NULL-terminated (core/registry.c) */
/* Row for config.json's model_type, or for an alias; NULL when unknown. */
const Arch *arch_find(const char *name);

/* One linear under its hub module name, in definition order of the model. */
typedef struct Linear {
    const char *name;            /* "model.layers.1.mlp.down_proj" */
    const TensorInfo *weight;    /* [out][in] */
    const TensorInfo *bias;      /* [out] or NULL */
    int64_t out, in;
    int32_t layer;               /* decoder layer, -1 outside (lm_head) */
    int32_t group;               /* fused group: index into groups, every linear has one (alone: a group of one) */
    int32_t input;               /* index of the first linear that sees the same input (itself, when alone) */
    LinearKind kind;
} Linear;

typedef struct FusedGroup {
    char label[8];               /* "qkv", "gu", "." for one alone */
    int32_t first, count;        /* linears [first, first+count) */
} FusedGroup;

/* Norm weights and the like of one layer. */
typedef struct LayerTensors {
    const TensorInfo *input_norm, *post_norm, *q_norm, *k_norm; /* q_norm, k_norm may be NULL */
    int32_t q, k, v, o, gate, up, down; /* indices into linears */
} LayerTensors;

typedef struct Model {
    char *path;
    Checkpoint *ckpt;
    const Arch *arch;
    ModelConfig cfg;
    Linear *linears;             /* decoder linears of all layers, in order; lm_head is not among them */
    int64_t nlinears;
    Map by_name;                 /* linear name -> index */
    FusedGroup *groups;
    int64_t ngroups;
    LayerTensors *layers;        /* [cfg.layers] */
    const TensorInfo *embed, *final_norm, *head; /* head == embed when tied */
    int64_t params;              /* all tensors the decoder uses */
    char fingerprint[65];        /* config.json's bytes + checkpoint_fingerprint */
    char *warning;               /* e.g. unknown but Llama-shaped; NULL when none */
    Arena arena;
} Model;

/* Reads config.json and the headers, no weight. model_type (may be NULL): the user's --model_type; an unknown one is a
 * warning. Errors name file and key: missing tensor, wrong shape, unsupported type. */
Status model_open(Model **out, const char *path, const char *model_type, Error *err);
void model_free(Model *m);
/* Index of the linear with this name, -1 when there is none. One hash look-up. */
int64_t model_find_linear(const Model *m, const char *name);

#endif
