#ifndef SLIM_MEASURE_LOGITPASS_H
#define SLIM_MEASURE_LOGITPASS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "run/runner.h"

/* What one pass over the logits of a model leaves of each row (a predicted token): nothing of the vocabulary's size. */
typedef struct LogitRows {
    int64_t rows, hidden;
    double *lse;     /* [rows] log of the sum over the vocabulary of exp(logit) */
    float *target;   /* [rows] logit of the token that follows */
    int32_t *top;    /* [rows] token with the largest logit, the first of equal ones */
    float *mean_w;   /* [rows][hidden] sum_v p(v) W_v, NULL unless asked for */
} LogitRows;

/* Bytes of a row but for mean_w, and the pass's own for so many threads. */
enum { LOGIT_ROW_BYTES = 32 };
uint64_t logit_rows_scratch(const Model *m, int threads, bool mean_w);

/* One pass. next[rows]: the token that follows each row. Caller frees with logit_rows_fini. ST_DATA when a row's logits
 * hold NaN or their sum is no number. */
Status logit_rows_run(Runner *r, const Stream *normed, const int32_t *next, bool mean_w, LogitRows *out, Error *err);
void logit_rows_fini(LogitRows *l);

/* KL(a || b) in nats of the rows which[n] of two runs by the difference form, which stays exact when both runs are
 * nearly equal: with d = log q - log p,  KL = sum_v p (e^d - 1 - d), a sum of terms >= 0, because sum_v p e^d = sum_v q
 * = 1. Takes the logits of both runs together in one more pass over 2n rows. kl[which[i]] is written. */
Status logit_rows_kl(Runner *r, const Stream *normed_a, const LogitRows *a, const Stream *normed_b, const LogitRows *b,
                     const int64_t *which, int64_t n, double *kl, Error *err);

#endif
