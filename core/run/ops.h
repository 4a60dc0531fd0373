#ifndef SLIM_RUN_OPS_H
#define SLIM_RUN_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "math/gemm.h"
#include "math/kernels.h"
#include "model/model.h"
#include "run/arith.h"

/* The operations of a decoder in an arithmetic (run/arith.h; specs/models.md 2.2, 2.3). Where it rounds, every operation
 * ends with R(), rounding to the model dtype; elsewhere nothing is rounded below float32. */
typedef struct Ops {
    const MathKernels *k; /* fast */
    const MathKernels *f; /* exp, softmax and gates */
    const GemmOps *gemms[GEMM_KINDS]; /* NULL: none runs here */
    GemmKind products;    /* which of them multiplies matrices */
    bool rounds, libm;    /* Arith's */
    bool rope_fp32; /* rotations round only their result */
    float act_limit, act_alpha; /* ACT_SWIGLU_CLAMPED, ACT_SILU_CLAMPED */
    DType dtype;
} Ops;

Ops ops_make(ArithMode arith, DType dtype);
/* Has o compute in float32 from here on, as the layers behind the peer's deployed linears do; its exp, softmax and gates
 * stay those of its arithmetic. */
void ops_widen(Ops *o);
/* R() in place. */
void ops_round(const Ops *o, float *x, int64_t n);
/* y = R(norm(x) + b) with weights w, one row of n; b: NULL without a bias. */
void ops_norm(const Ops *o, NormKind kind, const float *x, const float *w, const float *b, double eps, int64_t n,
              float *y);
/* g = R(R(act(g)) * u) */
void ops_gate(const Ops *o, Activation act, float *g, const float *u, int64_t n);
/* x = R(act(x)), of an activation that is no gate's alone. */
void ops_act(const Ops *o, Activation act, float *x, int64_t n);
/* x = R(silu(x)) */
void ops_silu(const Ops *o, float *x, int64_t n);
/* x = R(sigmoid(x)) */
void ops_sigmoid(const Ops *o, float *x, int64_t n);
/* y = R(a * b) */
void ops_mul(const Ops *o, const float *a, const float *b, float *y, int64_t n);
/* y = R(a + b) */
void ops_add(const Ops *o, const float *a, const float *b, float *y, int64_t n);
/* Rotates the pairs (x[j], x[j+half]). */
void ops_rope(const Ops *o, float *x, const float *cos, const float *sin, int64_t half);
/* The same for the neighbours (x[2j], x[2j+1]), rounded once; back: by the negative angle. */
void ops_rope_pairs(const Ops *o, float *x, const float *cos, const float *sin, int64_t half, bool back);
/* x = R(softmax(x)) */
void ops_softmax(const Ops *o, float *x, int64_t n);
/* The same with one more score, whose share is dropped: x = R(softmax(R(x - max))) */
void ops_softmax_sink(const Ops *o, float *x, int64_t n, float sink);
/* x = R(R(tanh(R(x / cap))) * cap) */
void ops_softcap(const Ops *o, float *x, int64_t n, float cap);
/* x = R(x * s) */
void ops_scale(const Ops *o, float *x, float s, int64_t n);
/* What multiplies matrices in this arithmetic. scratch in the following: GemmOps.scratch bytes. */
const GemmOps *ops_gemms(const Ops *o);
/* y = x·w and what else g says, unrounded; y = R(x·w + bias). */
void ops_product(const Ops *o, const GemmArgs *g, void *scratch);
/* ops_product of what something is chosen by (experts, keys), and what multiplies there: inputs are never rounded to less
 * than the operations are. */
GemmKind ops_choice_products(const Ops *o);
void ops_choice(const Ops *o, const GemmArgs *g, void *scratch);
void ops_gemm(const Ops *o, const GemmArgs *g, void *scratch);
/* Scores: y = R(R(x·w) * scale). */
void ops_scores(const Ops *o, const GemmArgs *g, float scale, void *scratch);

#endif
