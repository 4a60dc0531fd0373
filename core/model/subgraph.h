#ifndef SLIM_MODEL_SUBGRAPH_H
#define SLIM_MODEL_SUBGRAPH_H

#include "model/block.h"

/* Sub-graphs: where a scale of channels can be moved from a producer into what reads it without changing what the model
 * computes (specs/outlier_suppression.md 2). Ours are derived from the blocks of a unit, each kind of block telling its
 * own; the peer's are the tables of its adapters (Arch.folds), or what it finds by itself. */

/* In the order in which those of a unit are applied. */
typedef enum SubgraphType {
    SUBGRAPH_UP_DOWN,
    SUBGRAPH_OV,
    SUBGRAPH_LINEAR_LINEAR,
    SUBGRAPH_NORM_LINEAR,
    SUBGRAPH_TYPES
} SubgraphType;
/* "up-down", "ov", "linear-linear", "norm-linear" */
const char *subgraph_name(SubgraphType t);

/* Rows of a linear that make channels: channel c is row first + (c / run) * step + c % run. */
typedef struct SubgraphRows {
    int64_t n, first, run, step;
} SubgraphRows;
static inline int64_t subgraph_row(const SubgraphRows *r, int64_t c)
{
    return r->first + c / r->run * r->step + c % r->run;
}

/* Heads of values: kv_heads of them are made, each read by heads / kv_heads heads of the output projection in turn (h0 h0
 * h1 h1). */
typedef struct OvShape {
    int heads, kv_heads;
    int64_t head_dim;
    bool group_max; /* the peer's group_method max: maxima over a group before the formula, else a mean behind it */
} OvShape;

/* One place: norms or a source give the channels, or neither does (they can only be scaled at run time). */
typedef struct Subgraph {
    SubgraphType type;
    const TensorInfo *norm;      /* NULL: none */
    const TensorInfo *norm2;     /* gives the second half of the channels, norm the first; NULL: norm gives all */
    const TensorInfo *norm_bias; /* of a LayerNorm, NULL without one */
    bool norm_one;               /* it multiplies by 1 + w */
    double gain;                 /* what the norm gives reaches its readers times this */
    int64_t source;              /* index of a linear, -1: none */
    SubgraphRows rows;           /* of the source, one for each of its channels; of a norm of heads their number alone */
    const int64_t *targets;      /* linears whose columns are the channels, at least one */
    int ntargets;
    const TensorInfo *const *tensors; /* readers that are no linears, [..][width]: routers */
    int ntensors;
    const int64_t *watch; /* linears whose input taps together see all that the channels hold */
    int nwatch;
    int64_t width;        /* channels of the targets; what gives them has as many but in SUBGRAPH_OV (kv_heads * head_dim) */
    OvShape ov;           /* of SUBGRAPH_OV */
    const char *key;      /* name that patterns are matched with: the norm's or source's module, or the first target's */
} Subgraph;
/* Whether its scale can be put into what gives the channels. */
static inline bool subgraph_folds(const Subgraph *g)
{
    return g->norm || g->source >= 0;
}
/* Whether several heads of the targets' channels have to have the same scales. */
static inline bool subgraph_shares(const Subgraph *g)
{
    return g->type == SUBGRAPH_OV && subgraph_folds(g);
}

/* The peer's processors that take an adapter's table. */
typedef enum SubgraphUser {
    SUBGRAPH_OURS,
    SUBGRAPH_SMOOTH = 1 << 0,
    SUBGRAPH_ITER = 1 << 1,
    SUBGRAPH_FLEX = 1 << 2, /* flex_smooth_quant and flex_awq_ssz */
    SUBGRAPH_AWQ = 1 << 3,
    SUBGRAPH_EVERY = SUBGRAPH_SMOOTH | SUBGRAPH_ITER | SUBGRAPH_FLEX | SUBGRAPH_AWQ
} SubgraphUser;

/* A line of an adapter's table. Names under the unit; "%d" in them stands for each expert's number. */
typedef struct SubgraphFold {
    SubgraphType type;
    const char *source;     /* NULL: none */
    const char *targets[4]; /* statistics are taken at the first */
    unsigned users;         /* SubgraphUser: who has the line */
    const char *pedigree;   /* only in the table of this name of the row's; NULL: in those that no line names */
    bool group_max;
} SubgraphFold;

/* The sub-graphs of a unit. user SUBGRAPH_OURS: all there are, also those whose channels nothing gives that a scale could
 * be put into. Else the peer's: lines of its table whose modules the unit has; without a table for this processor what it
 * finds by itself (2.4), norm-linear only. Arrays are the arena's. *found (may be NULL): whether there was a table. */
Status subgraphs_of_unit(const Model *m, int unit, SubgraphUser user, Arena *a, Subgraph **out, int *n, bool *found,
                         Error *err);

/* ---- for the kinds of blocks ---- */

/* Where a kind adds its own. */
typedef struct SubgraphMaker {
    const Model *m;
    const Unit *unit;
    Arena *arena;
    Subgraph *list;
    int n;
    size_t cap;
    Status st; /* ST_NOMEM: nothing more is added */
} SubgraphMaker;
/* One whose reader is linear `target`, and the `source` (-1: none) with its rows. */
Subgraph *subgraph_pair(SubgraphMaker *k, SubgraphType type, int64_t source, SubgraphRows rows, int64_t target);
/* Norm `norm` (of a plain weight) before the linears of `b` in slots that end with -1; those that it hasn't are left out.
 * NULL: nothing was added. */
Subgraph *subgraph_norm(SubgraphMaker *k, const Block *b, const TensorInfo *norm, double gain, const int *slots);
/* All n rows. */
static inline SubgraphRows subgraph_all_rows(int64_t n)
{
    return (SubgraphRows){.n = n, .first = 0, .run = n, .step = n};
}
/* Norm `norm` of every head alike, `heads` of them, before `target`. */
void subgraph_heads_norm(SubgraphMaker *k, const TensorInfo *norm, int heads, int64_t target);
/* up -> down of a gated block: rows [first, first + down's width) of `up`; without a source where the activation isn't
 * linear in what up gives. */
void subgraph_gated(SubgraphMaker *k, int64_t up, int64_t first, int64_t down);

#endif
