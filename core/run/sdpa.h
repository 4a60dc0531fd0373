#ifndef SLIM_RUN_SDPA_H
#define SLIM_RUN_SDPA_H

#include "run/ops.h"

/* What torch's fused attention on a CPU with vectors of 16 floats does otherwise than eager attention: scores stay
 * float32, weights are rounded before they are divided, and whole vectors of keys go through an approximate exp. */

/* How many keys of query `t`, counted from the text's first, are in whole vectors. Rows are computed in blocks of 32
 * queries, 64 from 192 tokens on, 256 from 768 on; a block reads the keys up to its own end, or with every_key all. */
int64_t sdpa_vector_keys(int64_t t, int64_t len, bool every_key);

/* x = R(exp(x * scale - max)), of the first `vector` of n keys approximately: Vectorized::fexp_u20 in a 16-bit dtype,
 * exp_u20 in float32 (aten/src/ATen/cpu/vec, Malossi et al. 2015). Returns the sum before rounding. */
float sdpa_weights(const Ops *o, float *x, float scale, int64_t n, int64_t vector);

#endif
