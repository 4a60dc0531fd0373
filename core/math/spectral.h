#ifndef SLIM_MATH_SPECTRAL_H
#define SLIM_MATH_SPECTRAL_H

#include <stdint.h>

#include "base/error.h"
#include "base/rng.h"

/* Square matrices that are trained without ever being far from invertible, as FlatQuant's transforms are (Sun et al.,
 * "FlatQuant: Flatness Matters for LLM Quantization", 2024): T = U diag(s) V', s = softplus(p), and U, V orthogonal. So
 * T^-T = U diag(1/s) V'. U = U0 (I + A/2)^-1 (I - A/2), A skew-symmetric (Cayley), U0 a random orthogonal matrix; V alike.
 * All in float64, row-major, on the calling thread. */
typedef struct Spectral {
    int64_t n;
    double *start[2];  /* [n][n] U0, V0 */
    double *turned[2]; /* [n][n] U, V of the present parameters */
    double *cayley[2]; /* [n][n] (I + A/2)^-1 (I - A/2) */
    double *t, *inv;   /* [n][n] T and T^-T */
    double *room;      /* [4][n][n] */
} Spectral;

/* Numbers that describe one of size n: p[n], then below the diagonal A of U, row by row, and that of V. */
int64_t spectral_params(int64_t n);
/* Bytes of one. */
uint64_t spectral_bytes(int64_t n);
/* Random U0 and V0, and the parameters where s = 1 and A = 0. Caller frees with spectral_fini, also after an error. */
Status spectral_init(Spectral *s, int64_t n, Rng *rng, double *params, Error *err);
void spectral_fini(Spectral *s);
/* T and T^-T of these parameters. */
void spectral_make(Spectral *s, const double *params);
/* Adds to grad[spectral_params] what a loss changes by with the parameters that spectral_make saw last, from its gradients by
 * T and T^-T, gt[n][n] and gi[n][n]. */
void spectral_backward(Spectral *s, const double *params, const double *gt, const double *gi, double *grad);

#endif
