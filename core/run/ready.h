#ifndef SLIM_RUN_READY_H
#define SLIM_RUN_READY_H

#include "run/runner.h"

/* Weights that stay as products want them from one pass to the next, for passes over few rows, which would do little but
 * read and lay out weights. Of linears each is all there or not at all; whatever is there, results are the same. Only for
 * passes that run every linear by the same form and arithmetic. */

typedef struct ReadyWeight {
    const GemmOps *gemm; /* that laid it out; NULL: it is not there */
    unsigned char *data; /* its panels, `step` bytes apart */
    size_t step;
    float *scale;        /* [out] where its integers are multiplied, NULL elsewhere */
} ReadyWeight;

typedef struct Ready {
    int64_t n;
    ReadyWeight *linear; /* [n] */
    ReadyWeight head;
    uint64_t limit, bytes;
    int64_t left;        /* linears that there was no room for when they were wanted, the head counted as one */
    bool *refused;       /* [n + 1] those, the head last */
} Ready;

/* limit: bytes that it may take. */
Status ready_new(Ready **out, const Model *m, uint64_t limit, Error *err);
void ready_free(Ready *r);
/* Room for a weight of `panels` panels, not filled: w->gemm stays NULL until it is. False: there is none (i: the linear, n
 * for the head). scales: 0: none. */
bool ready_room(Ready *r, ReadyWeight *w, int64_t i, int64_t panels, size_t step, int64_t scales);

/* Has the runner's passes keep weights there; NULL: no longer. */
void runner_keep_ready(Runner *r, Ready *ready);
/* Logits of all rows, [rows][vocab]; the head's weight stays ready where there is room. */
Status runner_logit_rows(Runner *r, const Stream *normed, float *logits, Error *err);

#endif
