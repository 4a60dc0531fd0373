#ifndef SLIM_RUN_OPSBACK_H
#define SLIM_RUN_OPSBACK_H

#include "run/ops.h"

/* Gradients of the operations of run/ops.h where nothing rounds: float32, sums in float64. Rows of any length; outputs may be
 * the gradients that come in, nothing else may overlap. */

/* Of ops_norm: g is of what it gave for x. add: dx += ..., else dx = ... */
void ops_norm_back(const Ops *o, NormKind kind, const float *x, const float *w, double eps, int64_t n, const float *g,
                   bool add, float *dx);
/* Of ops_gate: g and u as it was given them become their gradients; d is of what it gave. */
void ops_gate_back(const Ops *o, Activation act, float *g, float *u, const float *d, int64_t n);
/* Of ops_act: x as it was given becomes its gradient. */
void ops_act_back(const Ops *o, Activation act, float *x, const float *d, int64_t n);
/* Of ops_sigmoid, which gave y: d becomes the gradient of what it was given. */
void ops_sigmoid_back(const float *y, float *d, int64_t n);
/* Of ops_rope: the rotation's transpose. */
void ops_rope_back(const Ops *o, float *g, const float *cos, const float *sin, int64_t half);
/* Of the softmax that gave p: d, of p, becomes the gradient of the scores, times scale. */
void ops_softmax_back(const float *p, float *d, int64_t n, float scale);
/* Sum of a*b in float64, 8 interleaved partial sums. */
double ops_dot(const float *a, const float *b, int64_t n);

#endif
