#ifndef SLIM_MEASURE_SHIFTPASS_H
#define SLIM_MEASURE_SHIFTPASS_H

#include <stdint.h>

#include "base/error.h"
#include "run/runner.h"

/* Many small changes of the same tokens, each held against float in one pass over the head. */

/* Rows of a token beside each other: float's, then `copies` changed ones. A block of LOGITS_ROWS rows holds whole tokens
 * only where 1 + copies divides it. */
typedef struct ShiftRows {
    Stream rows;         /* [tokens * (1 + copies)][hidden], behind the final norm */
    int64_t tokens;
    int copies;
    const double *lse;   /* [tokens] log-sum-exp of float's logits (logit_rows_run) */
    const int32_t *next; /* [tokens] the token that follows */
} ShiftRows;
/* The least number of copies that a block of rows can hold, from n on; 0: too many. */
int shift_copies(int n);
/* KL(float || changed) in nats, and what the negative log-likelihood of the next token grows by, of token t and copy c at
 * [t * copies + c]. With d the change of a logit and p float's probabilities,
 *   KL = log(1 + sum p (e^d - 1)) - sum p d,
 * summed as p (e^d - 1 - d) where d is small, so that nothing cancels. The rows are overwritten. A value that is no number
 * comes out as NaN. */
Status shift_rows_run(Runner *r, ShiftRows *s, double *kl, double *nll, Error *err);
/* Bytes that it takes for so many threads beside the rows and the results. */
uint64_t shift_rows_scratch(int64_t tokens, int copies, int threads);

#endif
