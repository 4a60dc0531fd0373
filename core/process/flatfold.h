#ifndef SLIM_PROCESS_FLATFOLD_H
#define SLIM_PROCESS_FLATFOLD_H

#include "model/overlay.h"
#include "process/processor.h"

/* Where flatquant works, and how what it found goes into the model (specs/outlier_suppression.md 14): pairs of what gives
 * channels and the linears that read them, each with one transform for all it feeds. */

enum { FLAT_Q, FLAT_K, FLAT_V, FLAT_O, FLAT_GATE, FLAT_UP, FLAT_DOWN, FLAT_SLOTS };
enum {
    FLAT_ATTENTION, /* norm -> q, k, v */
    FLAT_VALUES,    /* v -> o: L between the heads, R within one, which v's weight takes */
    FLAT_GATED,     /* norm -> gate, up */
    FLAT_UP_DOWN,   /* up -> down */
    FLAT_PAIRS
};
/* The pair that transforms what a slot's linear reads. */
static inline int flat_pair_of(int slot)
{
    return slot < FLAT_O ? FLAT_ATTENTION : slot == FLAT_O ? FLAT_VALUES : slot < FLAT_DOWN ? FLAT_GATED : FLAT_UP_DOWN;
}

/* Of one unit. */
typedef struct FlatPlace {
    int unit;
    int64_t linear[FLAT_SLOTS];         /* -1: it has none */
    bool on[FLAT_PAIRS];
    bool diag[FLAT_PAIRS];              /* with a diagonal, which goes into the norm or into the rows of up */
    int64_t left[FLAT_PAIRS], right[FLAT_PAIRS];
    const TensorInfo *norm[FLAT_PAIRS]; /* NULL: none */
    bool norm_one;                      /* norms multiply by 1 + w */
} FlatPlace;
static inline bool flat_on(const FlatPlace *p, int slot)
{
    return p->on[flat_pair_of(slot)] && p->linear[slot] >= 0;
}

/* Sizes of the two sides for n values: FlatQuant's own, the nearest to a square of a sum and a difference; ours, where there
 * is none, the factors that are nearest to it. false: only the latter would do, and it is not to be taken. */
bool flat_split(int64_t n, bool peer, int64_t *left, int64_t *right);
/* What the unit has: pairs are on where its blocks have their shape. */
Status flat_place(const Model *m, int unit, bool peer, FlatPlace *out, Error *err);
/* Leaves out the pairs of which a target is not taken: a pair is whole or not there. Without the pair before v the pair behind
 * it goes, too; what reads up keeps its transform without the diagonal where up's weight stays. */
void flat_roll_back(FlatPlace *p, const bool taken[FLAT_SLOTS]);

/* What training found for a unit, float32. */
typedef struct FlatSide {
    float *t, *inv; /* [n][n] T, T^-T; NULL: the pair is off */
} FlatSide;
typedef struct FlatFound {
    FlatSide left[FLAT_PAIRS], right[FLAT_PAIRS];
    float *diag[FLAT_PAIRS];  /* [l * r], NULL: none */
    float *clip[FLAT_SLOTS];  /* [2 * out] factors of each row's least value, then of its largest; NULL: off */
    float limit[FLAT_SLOTS];  /* of each token's largest absolute value */
    float *all;               /* who holds them all */
    int64_t n;                /* floats of it */
} FlatFound;
/* Room for it, the transforms all 0. Caller frees by flat_found_fini. */
Status flat_found_init(FlatFound *f, const Model *m, const FlatPlace *p, Error *err);
void flat_found_fini(FlatFound *f);

/* Puts it into the model: each weight transformed, clamped, v's outputs turned, then what gives the channels multiplied; at
 * run time what a linear reads is transformed and limited. round: to which the values of a weight are rounded behind its last
 * edit. */
Status flat_fold(const Model *m, const FlatPlace *p, const FlatFound *f, Overlay *o, DType round, Error *err);

/* left_trans, right_trans and clip_ratio of each linear, and its mark; and their values. */
Status flat_promise(const Model *m, const FlatPlace *p, SaveChanges *to, Error *err);
Status flat_give(const Model *m, const FlatPlace *p, const FlatFound *f, const Gifts *to, Error *err);

#endif
