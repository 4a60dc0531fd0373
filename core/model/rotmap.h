#ifndef SLIM_MODEL_ROTMAP_H
#define SLIM_MODEL_ROTMAP_H

#include "base/mem.h"
#include "math/rotation.h"
#include "model/model.h"

/* Where a model can be turned without a change of what it computes: what of it reads and writes the residual stream, the
 * heads' values and the latents of q, k and v, worked out of the kinds of its blocks (specs/outlier_suppression.md 10).
 * A norm in between lets a rotation through once its weights stand in the linears behind it. */

/* Which rotation. */
typedef enum TurnMatrix {
    TURN_STREAM,       /* of the residual stream, R */
    TURN_STREAM_TWICE, /* diag(R, R): two of it side by side */
    TURN_HEADS,        /* of a head's values, Rv */
    TURN_QKV,          /* rows of q, k and v in one: diag(1, 1, Rv ...) */
    TURN_Q_LATENT,
    TURN_KV_LATENT,
    TURN_KV_ROPE,      /* diag(Rkv, 1): the latent and the keys' rotated part */
    TURN_KV_HEADS,     /* diag(1, Rv): a head's keys and values */
    TURN_MATRICES
} TurnMatrix;
typedef struct Turns {
    Rotation *r[TURN_MATRICES]; /* NULL: the model has nothing it is for */
} Turns;

/* What the peer's adapter of a family says of the rotation of heads (Arch.turn). */
typedef enum TurnHeads { TURN_HEADS_HADAMARD, TURN_HEADS_SHIFTED } TurnHeads;
typedef struct TurnSpec {
    TurnHeads heads;
    const char *pedigree;      /* only under this name of the row's; NULL: under all */
    bool adapt;                /* adapt_rotation knows it */
    bool online;               /* it can be asked for rotations at run time, too */
} TurnSpec;

/* NULL: the peer's adapter of the name that the model was opened as has none. */
const TurnSpec *rotmap_spec(const Model *m);

/* ST_DATA, with the reason, where the model can't be turned. peer: what the peer's adapters refuse or would break, too. */
Status rotmap_check(const Model *m, bool peer, Error *err);
/* The rotations for this model. block: of R and Rv, -1: they are whole. stream: R itself, of hidden_size; NULL: Hadamard's.
 * peer: a stream takes the place of whatever else has its size. ST_DATA: a size has no such rotation. */
Status rotmap_turns(const Model *m, bool peer, int64_t block, const Rotation *stream, Turns *out, Error *err);
void turns_free(Turns *t);

typedef enum TurnAction {
    TURN_ABSORB,     /* the weights of the norms go into the columns of the linear, or of the tensor */
    TURN_NORM_ONE,   /* whose weights then are 1 (and its bias 0) */
    TURN_OUTPUTS,    /* W <- R' W of the linear */
    TURN_INPUTS      /* W <- W R of the linear; T <- T R of the tensor */
} TurnAction;
typedef struct TurnStep {
    TurnAction action;
    TurnMatrix matrix;          /* of the last two */
    int64_t linear;             /* -1: the tensor */
    const TensorInfo *tensor;   /* NULL: the head, wherever it stands */
    const TensorInfo *norm[2];  /* the first alone, or side by side */
} TurnStep;
typedef struct TurnSteps {
    TurnStep *step; /* in the order in which they have to be done */
    int64_t n;
    size_t cap;
} TurnSteps;
/* Of a unit, or (unit -1) of the table of embeddings, the last norm and the head. The caller frees step. */
Status rotmap_steps(const Model *m, int unit, TurnSteps *out, Error *err);

#endif
