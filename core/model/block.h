#ifndef SLIM_MODEL_BLOCK_H
#define SLIM_MODEL_BLOCK_H

#include "model/model.h"

/* A model is a list of units (a decoder's layers, that of multi-token prediction), a unit a list of blocks in the order
 * in which they compute. What a kind of block has in the checkpoint is one BlockType; what it computes is the BlockOps
 * (run/block.h) that stands beside it in block_table. */

struct cJSON;
struct Open;
struct SubgraphMaker;

/* What a block is to its unit. */
typedef enum BlockRole { ROLE_ATTENTION, ROLE_FEED_FORWARD, ROLE_JOIN, ROLE_OTHER } BlockRole;

/* How a small tensor is read. */
typedef enum SmallKind {
    SMALL_ROUNDED, /* widened, in the arithmetic of the model */
    SMALL_KEPT,    /* widened, the checkpoint's values in every arithmetic */
    SMALL_RAW      /* read by the block itself */
} SmallKind;
typedef struct SmallSlot {
    const char *name;
    SmallKind kind;
} SmallSlot;

enum { BLOCK_LINEARS_MAX = 12, BLOCK_SMALLS_MAX = 8 };

struct BlockSpec;

/* A kind of block: what of it stands in config.json and in the checkpoint. */
typedef struct BlockType {
    const char *name;             /* "gqa" */
    BlockRole role;
    bool scores;                  /* attention by scores of queries and keys */
    const char *module;           /* its usual name in a unit; NULL: it names its modules itself */
    const char *const *linears;   /* names of what Block.linear holds, NULL-terminated; NULL: none */
    const SmallSlot *smalls;      /* of what Block.small holds, ends with a nameless one; NULL: none */
    const char *const *kept;      /* ends of the names of those of its linears that every inference engine keeps in
                                   * float, NULL-terminated; NULL: none */
    /* Fills what this kind needs from config.json; once a model. NULL: nothing. */
    Status (*read)(const struct cJSON *config, const Arch *arch, const struct BlockSpec *spec, Arena *a,
                   ModelConfig *cfg, Error *err);
    /* Finds the tensors and linears of unit `unit`'s block; slots and conf are empty before. */
    Status (*take)(struct Open *o, int unit, Block *b);
    /* Slots of the block's linears that read what the join gives, ends with -1. NULL: none does. */
    const int *(*reads)(const Block *b);
    /* Adds the sub-graphs within a block (model/subgraph.h). NULL: there are none. */
    void (*subgraphs)(struct SubgraphMaker *k, const Block *b);
} BlockType;

/* A block as a family's row lists it. */
typedef struct BlockSpec {
    const BlockType *type;
    const char *module;           /* its name in the unit ("self_attn"), NULL: its kind's (block_module) */
    const void *how;              /* what differs from the plain case: GqaSpec, MoeRule, ...; NULL: nothing */
    const struct JoinSpec *join;  /* NULL: it replaces the state instead of adding to it */
    bool (*has)(const ModelConfig *cfg, int unit); /* the units that have it, NULL: all */
    int defined;                  /* place among the unit's blocks in the model's definition, by which its linears are
                                   * numbered; equal ones as listed */
    bool late;                    /* what it gives is added behind the unit's last block */
} BlockSpec;

/* How a block hangs on the residual stream: what it reads, and how what it gives is added. */
typedef struct JoinSpec {
    const BlockType *type;        /* block_residual or block_hyper */
    const char *before, *after;   /* norms of what is read and of what is added, NULL: there is none */
    const char *hyper;            /* tensors HYPER_fn, _base and _scale */
} JoinSpec;

/* ---- what the kinds want to know, and what their blocks hold ---- */

/* Attention over scores, each key head serving some query heads. */
enum { GQA_Q, GQA_K, GQA_V, GQA_O, GQA_LINEARS };
enum { GQA_Q_NORM, GQA_K_NORM, GQA_SINKS, GQA_SMALLS };
typedef struct GqaSpec {
    bool fused;                   /* q, k and v in one linear (slot q) */
    bool gate;                    /* q_proj also gives a gate for each head's output: rows of a head are [q | gate] */
    bool sinks;                   /* a score for every head that no value belongs to */
    bool local_rope;              /* layers with a window have a rotary embedding of their own */
    bool scale_key;               /* scores are scaled by query_pre_attn_scalar^-1/2 */
    bool softcap;                 /* attn_logit_softcapping */
    bool every_key;               /* a token looks at those behind it, too */
    QkNorm qk_norm;               /* before the rotation */
    bool qk_norm_key;             /* only with use_qk_norm */
    /* fills cfg->window from config.json; NULL: no windows */
    Status (*windows)(const struct cJSON *config, ModelConfig *cfg, Error *err);
} GqaSpec;
typedef struct GqaConf {
    bool fused, gate, local_rope, every_key;
    QkNorm qk_norm;
    int64_t window;               /* keys a token looks at, itself among them; 0: all */
} GqaConf;
extern const BlockType block_gqa;

/* Multi-head latent attention, and the indexer of a sparse one. */
enum { MLA_Q_A, MLA_Q, MLA_KV_A, MLA_KV_B, MLA_O, MLA_INDEX_Q, MLA_INDEX_K, MLA_INDEX_W, MLA_LINEARS };
enum { MLA_Q_A_NORM, MLA_KV_A_NORM, MLA_INDEX_NORM, MLA_INDEX_BIAS, MLA_SMALLS };
typedef struct MlaSpec {
    IndexerKind indexer;
    bool scaled;                  /* MlaConfig.q_scale and kv_scale */
    bool rope_fp32;               /* rotations compute in float32 in every arithmetic */
} MlaSpec;
typedef struct MlaConf {
    bool inherits;                /* takes over the keys that the unit before chose */
    int64_t window;               /* as GqaConf's */
} MlaConf;
extern const BlockType block_mla;

/* Linear attention by the gated delta rule. */
enum { DELTA_QKVZ, DELTA_BA, DELTA_O, DELTA_LINEARS };
enum { DELTA_CONV, DELTA_DT_BIAS, DELTA_A_LOG, DELTA_NORM, DELTA_SMALLS };
extern const BlockType block_delta;

/* Attention over a window of keys and over compressed ones. */
enum {
    COMP_Q_A, COMP_Q, COMP_KV_A, COMP_O_A, COMP_O, COMP_KV, COMP_GATE, COMP_INDEX_Q, COMP_INDEX_W, COMP_INDEX_KV,
    COMP_INDEX_GATE, COMP_LINEARS
};
enum { COMP_Q_A_NORM, COMP_KV_A_NORM, COMP_SINKS, COMP_NORM, COMP_APE, COMP_INDEX_NORM, COMP_INDEX_APE, COMP_SMALLS };
typedef struct CompressedConf {
    CompressKind kind;
    int64_t window;
} CompressedConf;
extern const BlockType block_compressed;

/* Feed-forward block: gate and up side by side, or one linear before the activation. */
enum { DENSE_GATE, DENSE_UP, DENSE_DOWN, DENSE_LINEARS };
typedef struct DenseSpec {
    bool fused;                   /* gate and up in one linear (slot gate) */
    const char *up, *down;        /* a block without a gate: the names of its linears; NULL: gate_proj and so on */
    const char *keys;             /* config keys of its sizes; NULL: the usual ones */
} DenseSpec;
typedef struct DenseConf {
    bool fused, plain;            /* plain: without a gate */
} DenseConf;
extern const BlockType block_dense;

/* Mixture of experts. */
enum { MOE_ROUTER, MOE_GATE, MOE_UP, MOE_DOWN, MOE_SHARED_GATE, MOE_LINEARS }; /* gate, up, down: the shared expert's */
enum { MOE_ROUTER_WEIGHT, MOE_ROUTER_BIAS, MOE_HASH, MOE_SMALLS };
typedef struct MoeConf {
    const MoeRule *rule;
    int32_t expert;               /* gate of expert 0; three linears an expert: expert_place */
} MoeConf;
extern const BlockType block_moe;

/* The plain residual stream: x = norm(state); state + norm(y). */
enum { RESIDUAL_BEFORE, RESIDUAL_BEFORE_BIAS, RESIDUAL_AFTER, RESIDUAL_AFTER_BIAS, RESIDUAL_SMALLS };
extern const BlockType block_residual;

/* Hyper-connections. */
enum { HYPER_BEFORE, HYPER_FN, HYPER_BASE, HYPER_SCALE, HYPER_SMALLS };
extern const BlockType block_hyper;

/* What multi-token prediction puts in front of a decoder layer: it joins, for every token, the embedding of the one
 * after it and what the last decoder layer gave (specs/models.md 1.6). */
enum { MTP_EH_PROJ, MTP_LINEARS };
enum { MTP_EMBED, MTP_ENORM, MTP_HNORM, MTP_SMALLS };
extern const BlockType block_mtp;

/* What such a block is called in its unit. */
const char *block_module(const BlockSpec *s);
/* How many linears and small tensors a kind has. */
int block_linears(const BlockType *t);
int block_smalls(const BlockType *t);
/* The unit's nth block of a role, counted from 0; NULL when it has fewer. */
const Block *unit_block(const Unit *u, BlockRole role, int nth);
/* Name of the unit's nth attention ("model.layers.0.self_attn") into buf, or "" when there is none or it has no keys and
 * values that a cache could hold (linear attention). */
void unit_attention_name(const Model *m, int unit, int nth, char *buf, size_t size);
/* Gate of the unit's expert 0, -1 when it has none. */
int32_t unit_experts(const Unit *u);
/* The row's block of that kind, NULL when the family has none. */
const BlockSpec *arch_block(const Arch *a, const BlockType *t);

/* Predicates for BlockSpec.has. */
bool unit_has_experts(const ModelConfig *cfg, int unit);
bool unit_has_no_experts(const ModelConfig *cfg, int unit);
bool unit_is_delta(const ModelConfig *cfg, int unit);
bool unit_is_not_delta(const ModelConfig *cfg, int unit);

#endif
