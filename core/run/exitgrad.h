#ifndef SLIM_RUN_EXITGRAD_H
#define SLIM_RUN_EXITGRAD_H

#include "run/runner.h"

/* Where a backward pass begins: the negative log-likelihood of one token a row, and its gradient at the last unit's output. */

enum { LABEL_DRAW = -1, LABEL_NONE = -2 };

typedef struct ExitLoss {
    int32_t *label;      /* [rows] the token; LABEL_DRAW: drawn from the row's own distribution and written here; LABEL_NONE: the
                          * row has no loss, and no gradient */
    const uint64_t *key; /* [rows] what a row's random numbers depend on, beside the seed. NULL: its number */
    uint64_t seed;
    int first;           /* what errors count the samples from */
} ExitLoss;

/* Gradients of the rows' losses (each row's own, nothing is divided) into *grad, initialised here in h's shape: through the
 * head, where there is a cap on logits through that, and the final norm. In float32, whatever the arithmetic. What is drawn
 * depends neither on the threads nor on the rows beside a row. Caller frees with stream_fini. ST_DATA when the logits of a
 * row are no numbers or a label is outside the vocabulary; ST_USAGE: exit_has_gradients says no. */
Status exit_gradient(Runner *r, const Stream *h, const ExitLoss *loss, Stream *grad, Error *err);
/* Whether there are gradients behind the model's last unit; ST_USAGE naming what has none. */
Status exit_has_gradients(const Model *m, Error *err);
/* Bytes that it takes for so many rows beside *grad and RunnerNeed.head. */
uint64_t exit_gradient_bytes(const Model *m, int64_t rows, int threads);

#endif
