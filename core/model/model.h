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
typedef enum Activation {
    ACT_SILU, ACT_GELU_TANH, ACT_SWIGLU_CLAMPED, ACT_SILU_CLAMPED /* silu of clamped values */
} Activation;
typedef enum NormKind {
    NORM_LLAMA, NORM_LATE, NORM_UNIT,
    NORM_LAYER /* LayerNorm, with a bias where there is one */
} NormKind;

typedef struct RopeParams {
    RopeType type;
    double theta, factor, low_freq_factor, high_freq_factor, beta_fast, beta_slow;
    double attention_factor, mscale, mscale_all_dim; /* mscale 0: not given */
    bool has_attention_factor, truncate;
    int64_t original_max;
    int dim; /* rotated dimensions of a head */
    double *short_factor, *long_factor; /* longrope: dim/2 each */
} RopeParams;

typedef enum QkNorm { QK_NORM_NONE, QK_NORM_HEAD, QK_NORM_FULL } QkNorm; /* each head, or the whole projection */

enum { MLA_ROPE_MAX = 1024 }; /* rotated dimensions of a head */
enum { DELTA_KERNEL_MAX = 64 };

/* Multi-head latent attention; kv_rank 0: there is none. */
typedef struct MlaConfig {
    int64_t q_rank, kv_rank; /* q_rank 0: a plain q_proj */
    int nope, rope, v;       /* dimensions of a head: without and with rotation, and of its values */
    bool interleaved;        /* rotated pairs are neighbours */
    float q_scale, kv_scale; /* of q, and of the normed latent of k and v; 1: none */
} MlaConfig;

/* Linear attention by the gated delta rule; layer NULL: there is none. */
typedef struct DeltaConfig {
    int key_heads, value_heads; /* every key head serves value_heads / key_heads value heads */
    int key_dim, value_dim;     /* of a head */
    int kernel;                 /* taps of the causal convolution */
    bool *layer;                /* [layers] which layers have it instead of attention over scores */
} DeltaConfig;

/* Indexer of sparse attention: which keys a query looks at (specs/models.md 2.5); heads 0: there is none. */
typedef struct IndexConfig {
    int heads, dim;
    int64_t top_k;           /* keys of a query; texts up to this length are attended to as without */
    bool interleaved;        /* rotated pairs are neighbours */
    bool *shared;            /* [layers] takes over what the layer before it chose */
} IndexConfig;

enum { HYPER_MAX = 16 };

/* Hyper-connections: a token's state is `copies` vectors, of which a block reads a weighted sum and which it leaves
 * mixed with what it adds (specs/models.md 2.5); copies 0: a plain residual stream. */
typedef struct HyperConfig {
    int copies;              /* up to HYPER_MAX */
    int rounds;              /* of making the mixing matrix doubly stochastic */
    double eps;
} HyperConfig;

typedef enum CompressKind {
    COMPRESS_NONE,           /* a window of keys alone */
    COMPRESS_SPARSE,         /* and those compressed keys that an indexer chooses, made of overlapping windows */
    COMPRESS_HEAVY,          /* and all compressed keys, each made of many tokens */
    COMPRESS_KINDS
} CompressKind;

/* Attention over a window of keys and over compressed ones, with a grouped output projection; kind NULL: none. */
typedef struct CompressConfig {
    unsigned char *kind;     /* [layers] CompressKind */
    int rate[COMPRESS_KINDS];/* tokens a compressed key stands for */
    int64_t q_rank;
    int rope;                /* rotated dimensions, the last of a head */
    int groups;              /* of heads, each projected to group_rank values */
    int64_t group_rank;
    int index_heads, index_dim;
    int64_t index_top;       /* compressed keys the indexer lets through */
} CompressConfig;

/* Mixture of experts; experts 0: there is none. */
typedef struct MoeConfig {
    int experts, top_k;
    int zero;                /* more to choose from that give back what they read; numbered after the experts */
    int hash_layers;         /* layers that look a token's experts up by its id */
    int groups, top_groups;  /* experts are chosen from top_groups of the groups; groups 1: from all */
    int64_t inter, shared_inter; /* shared_inter 0: no shared expert */
    bool renorm;
    double scale;            /* of the weights */
    double act_limit, act_alpha; /* ACT_SWIGLU_CLAMPED */
    bool *layer;             /* [layers] which layers have experts */
} MoeConfig;

/* config.json, both dialects, defaults filled (specs/models.md 2.1). */
typedef struct ModelConfig {
    char model_type[64];
    int64_t hidden, inter, vocab;
    int64_t max_positions; /* 0: not given */
    int64_t stream_width; /* of a token's state between layers: hidden, or so many copies of it */
    int layers, heads, kv_heads, head_dim; /* with MLA head_dim is that of q and k, kv_heads is heads */
    int v_dim;        /* of a head's values */
    double eps;
    RopeParams rope;
    RopeParams rope_local; /* of layers with a window, where rope_apart */
    bool rope_apart;       /* some blocks rotate by rope_local */
    bool rope_fp32;        /* rotations compute in float32 in every arithmetic */
    NormKind norm;
    QkNorm qk_norm;
    double attn_scale;     /* of the scores */
    double attn_softcap, final_softcap; /* 0: none */
    MlaConfig mla;
    DeltaConfig delta;
    IndexConfig index;
    HyperConfig hyper;
    CompressConfig compress;
    MoeConfig moe;
    Activation act;
    bool tied;
    DType dtype;      /* the checkpoint's model dtype: F32, BF16 or F16 */
    int64_t block_out, block_in; /* FP8: values that share a scale */
    int64_t *window;  /* [layers], 0 = full attention */
} ModelConfig;

/* How a family's experts are stored and chosen (specs/models.md 2.3, 2.4). */
typedef enum MoeLayers { MOE_ALL, MOE_AFTER_DENSE, MOE_SPARSE_STEP } MoeLayers;
typedef enum RouterScore {
    SCORE_SOFTMAX, SCORE_SIGMOID, SCORE_TOP_SOFTMAX /* over the chosen */, SCORE_SQRT_SOFTPLUS
} RouterScore;
typedef enum GroupScore { GROUP_NONE, GROUP_MAX, GROUP_TOP2 } GroupScore;
typedef enum Renorm { RENORM_NEVER, RENORM_ALWAYS, RENORM_CONFIG } Renorm;

/* Rotated pairs of an indexer. */
typedef enum IndexerKind { INDEXER_NONE, INDEXER_HALVES, INDEXER_PAIRS } IndexerKind;

typedef struct MoeRule {
    const char *block;          /* module of a layer's experts: "mlp" */
    const char *saved_block;    /* its name in files of the library's own, where another one; NULL: the same */
    const char *experts_key;    /* config.json: their number */
    const char *inter_key;      /* and their width */
    const char *top_k_key;      /* how many a token takes, NULL: num_experts_per_tok */
    const char *zero_key;       /* number of those without weights, NULL: the family has none */
    const char *bias;           /* tensor that is added for the choice, under block; NULL: none */
    const char *gate, *up, *down; /* names of an expert's linears */
    bool down_second;           /* an expert defines gate, down, up (w1, w2, w3) instead of gate, up, down */
    const char *shared;         /* the shared expert's module, NULL: none */
    const char *shared_inter_key; /* its width; NULL: n_shared_experts times an expert's */
    bool shared_gate;           /* sigmoid(x·shared_expert_gate) scales it */
    const char *router;         /* the router's module under block, NULL: "gate" */
    bool stacked;               /* one tensor for all experts, [in][out] with gate and up in turn (variant E) */
    bool round_logits;          /* a router that is no linear has a bias and rounds like one */
    bool round_steps;           /* logits, scores and weights round to the model dtype at every step */
    bool router_linear;         /* the router is a linear of the model; otherwise it computes in float32 */
    bool router_wide;           /* a linear that computes in float32 all the same, defined after the experts */
    MoeLayers layers;
    RouterScore score;
    GroupScore group;
    Renorm renorm;
    double renorm_eps;
    bool scaled;                /* routed_scaling_factor multiplies the weights */
    bool round_weights;         /* weights are rounded to the model dtype */
} MoeRule;

struct BlockSpec;
struct BlockType;
struct SubgraphFold;
struct TurnSpec;

/* Another name of an architecture. */
typedef struct ArchName {
    const char *name;     /* what the peer's adapters take for --model_type */
    const char *pedigree; /* folder of its best practices; NULL: the row's */
    bool config;          /* a model_type of config.json instead: no person gives it */
} ArchName;

/* What a key of config.json means to the configuration class of Hugging Face where it isn't there, or is null: JSON. */
typedef struct ConfigDefault {
    const char *key;
    const char *absent, *null; /* NULL: nothing, as null itself; null may be CONFIG_NO_NULL: it can't be used */
    const char *other;         /* another name that the key may stand under */
} ConfigDefault;
#define CONFIG_NO_NULL ""

/* What makes the first unit's input of tokens, and logits of the last one's output. Tensors, without what they begin
 * with: Hugging Face's names where NULL. */
typedef struct EntrySpec {
    const char *table;           /* a row for each token */
    bool scaled;                 /* rows times sqrt(hidden) */
} EntrySpec;
typedef struct ExitSpec {
    const char *head;
    const char *hyper;           /* of the sum at the end of hyper-connections: "hc_head" */
    bool softcap;                /* final_logit_softcapping */
    bool tied;                   /* default of tie_word_embeddings */
} ExitSpec;

/* One decoder family (a row of arch_table): the blocks of its layers, and what differs from Llama. One new file + one
 * row + one golden test. */
typedef struct Arch {
    const char *model_type;      /* config.json's */
    const char *title;
    const struct BlockSpec *blocks; /* of a layer, in the order they compute; ends with one without a type */
    const struct BlockSpec *ahead;  /* block before those of the layer of multi-token prediction, which then runs behind
                                     * the last layer; NULL: the family's isn't run */
    const char *const *order;    /* of its modules where they aren't Llama's (model/order.h); NULL: they are */
    NormKind norm;
    const char *prefix;          /* of the units' tensors where nothing stands above them; NULL: "model.layers." */
    EntrySpec entry;
    ExitSpec exit;
    const char *layers_key, *ffn_key; /* NULL: num_hidden_layers, intermediate_size */
    Activation act;              /* default of hidden_act */
    double partial_rotary;       /* default of partial_rotary_factor; 0: the family has none, all of a head rotates */
    int default_head_dim;        /* of a head_dim that isn't hidden / heads; 0: it is */
    double default_theta, default_eps;
    int64_t original_max;        /* default of original_max_position_embeddings; 0: max_position_embeddings */
    const ConfigDefault *defaults; /* of further keys, ends with key == NULL; NULL: there are none */
    const struct TurnSpec *turn; /* how the peer rotates it (model/rotmap.h), NULL: it doesn't */
    const ArchName *names;       /* its other names, ends with name == NULL (may be NULL) */
    const struct SubgraphFold *folds; /* sub-graphs of the peer's adapter, ends with source == NULL; NULL: it has none */
    const char *pedigree;        /* folder of its best practices; NULL: model_type */
} Arch;
extern const Arch *const arch_table[]; /* NULL-terminated (core/registry.c) */
/* Row for config.json's model_type, or for another name of it; NULL when unknown. */
const Arch *arch_find(const char *name);
/* Names of the modules of a layer in the order of their definition, NULL-terminated. a: may be NULL. */
const char *const *arch_order(const Arch *a);

struct WeightStore;

/* One linear under its hub module name, in definition order of the model. Its values are read through run/source.h.
 */
typedef struct Linear {
    const char *name;            /* "model.layers.1.mlp.down_proj" */
    const TensorInfo *weight;    /* [out][in], or its codes */
    const TensorInfo *bias;      /* [out] or NULL */
    const struct WeightStore *store; /* how the weight is coded; NULL: plain floats */
    /* Within a stacked tensor: value (o, i) is value at + o * out_step + i * in_step, the bias's element o is
     * bias_at + o * bias_step. out_step 0: the tensor is the weight. */
    int64_t at, out_step, in_step, bias_at, bias_step;
    int64_t out, in;
    int32_t layer;               /* its unit, -1 outside (lm_head) */
    int32_t group;               /* fused group: index into groups, every linear has one (alone: a group of one) */
    int32_t input;               /* index of the first linear that sees the same input (itself, when alone) */
    LinearKind kind;
    int32_t expert;              /* number of the routed expert, -1 for all others */
    bool kept;                   /* every inference engine keeps it in float (BlockType.kept) */
    int32_t groups;              /* block-diagonal: so many groups of outputs, each with `in` inputs of its own; 0, 1:
                                  * every output sees all inputs */
} Linear;

/* Linears that inference engines load into one matrix: one level for all. */
typedef struct FusedGroup {
    char label[8];               /* "qkv", "gu", "qkv_a", "experts", "." for one alone */
    int32_t first, count;
    int32_t between;             /* linears of others between a member and the next */
} FusedGroup;
/* Linear k of the group's count. */
static inline int32_t group_linear(const FusedGroup *g, int32_t k)
{
    return g->first + k * (g->between + 1);
}

/* One block of a unit: what it is, and its places in the model. Names of the slots: BlockType. */
typedef struct Block {
    const struct BlockType *type;
    const struct BlockSpec *spec;
    const void *conf;            /* what its kind found out for this unit: GqaConf, MlaConf, ...; NULL: nothing */
    int32_t *linear;             /* indices into Model.linears, -1: it has none */
    const TensorInfo **small;    /* NULL: it has none */
    const RopeParams *rope;      /* how it rotates by position; NULL: it doesn't */
    const struct Block *join;    /* block_residual or block_hyper; NULL: it replaces the state */
    int nth;                     /* so many blocks of the unit before it have the same role */
} Block;

/* A list of blocks that run one after the other: a decoder layer, the layer of multi-token prediction. */
typedef struct Unit {
    const ModelConfig *cfg;      /* sizes of its blocks */
    Block *block;
    int nblocks;
    int32_t first, count;        /* its linears */
} Unit;
/* The linear (tensor) in the slot of this name of the first block that has one: "q", "down", "router"; -1 (NULL) when
 * there is none. */
int32_t unit_linear(const Unit *u, const char *slot);
const TensorInfo *unit_small(const Unit *u, const char *slot);

/* Ends of the list of units: what its first one reads comes from tokens, what its last decoder layer leaves goes to
 * logits. */
typedef struct ModelEntry {
    const TensorInfo *table;     /* [vocab][hidden] */
    bool scaled;                 /* rows times sqrt(hidden) */
} ModelEntry;
typedef struct ModelExit {
    const TensorInfo *norm, *norm_bias; /* norm_bias: of a LayerNorm, NULL without one */
    const TensorInfo *head;      /* [vocab][hidden]; ModelEntry.table when tied; NULL: the model gives no logits */
    const TensorInfo *spare;     /* head of a checkpoint whose head is tied all the same; NULL: it has none */
    const TensorInfo *hyper[3];  /* hyper-connections: fn, base and scale of the final sum */
} ModelExit;

typedef struct Model {
    char *path;
    Checkpoint *ckpt;
    const Arch *arch;
    const char *pedigree;        /* folder of best practices of the name it was opened as */
    const char *body, *layers;   /* what names begin with: "model.", "model.layers."; of a part of a multimodal model
                                  * "model.language_model." and so on */
    ModelConfig cfg;
    Linear *linears;             /* of all units, in order; lm_head is not among them */
    int64_t nlinears;
    Map by_name;                 /* linear name -> index */
    FusedGroup *groups;
    int64_t ngroups;
    Unit *units;                 /* [nunits] the decoder's cfg.layers, then that of multi-token prediction */
    int nunits;
    int mtp_layers;              /* 1: unit cfg.layers is that of multi-token prediction; 0: there is none that runs */
    const char *mtp_reason;      /* why the one in the checkpoint does not run, NULL when nothing is wrong with it */
    ModelEntry entry;
    ModelExit exit;
    int64_t params;              /* all tensors the decoder uses */
    char fingerprint[65];        /* of config.json's bytes and checkpoint_fingerprint */
    char *warning;               /* e.g. unknown but Llama-shaped; NULL when none */
    Arena arena;
} Model;

/* Reads config.json and the headers, no weight. model_type (may be NULL): the user's --model_type; an unknown one is a
 * warning. Errors name file and key: missing tensor, wrong shape, unsupported type. */
Status model_open(Model **out, const char *path, const char *model_type, Error *err);
void model_free(Model *m);
/* Place of an expert's gate (part 0), up (1) or down (2) among its three linears. The other way round it is the same:
 * the part at a place. */
int expert_place(const MoeRule *r, int part);
/* Units that are analysed and quantized: the decoder's cfg.layers, which alone lead to the logits, and what stands
 * behind them. Wherever a layer is numbered, it is one of these. */
static inline int model_depth(const Model *m)
{
    return m->nunits;
}
/* Most linears of a unit. */
static inline int64_t model_most_linears(const Model *m)
{
    int64_t most = 0;
    for (int i = 0; i < m->nunits; i++)
        most = m->units[i].count > most ? m->units[i].count : most;
    return most;
}
/* What the names of its units' tensors begin with: "model.layers.". */
static inline const char *model_layers_prefix(const Model *m)
{
    return m->layers ? m->layers : "model.layers.";
}
/* Index of the linear with this name, -1 when there is none. One hash look-up. */
int64_t model_find_linear(const Model *m, const char *name);

#endif
