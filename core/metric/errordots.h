#ifndef SLIM_METRIC_ERRORDOTS_H
#define SLIM_METRIC_ERRORDOTS_H

#include "quant/forms.h"
#include "run/gradient.h"

/* What the output errors of quantized linears do to a loss in first order: g_t . dy_t of every row t, summed over the
 * linears of a fused group. g: gradient of the loss at the linear's output, dy = y' - y with y' of the fake-quantized input
 * and weight. Taken as  g . dy = g . (x' dW^T) + (x' - x) . (g W),  dW = W' - W, x' the quantized input: nothing cancels.
 * A unit's backward pass hands over x, g and g W; weights are read when it is over. */
typedef struct ErrorDots {
    Runner *r;
    LayerForms *forms;   /* [nforms] of the unit's linears, FORM_FIXED; several quantizations of the same linears */
    int nforms;
    const Stream *shape; /* of the pass: samples and rows */
    int64_t group0, groups; /* the unit's are [group0, group0 + groups) */
    bool *wanted;        /* [groups], the caller's to set after begin; the others are left out */
    double *dot;         /* [nforms][groups][rows] */
    struct HeldChunk *held; /* [nheld] what the pass handed over */
    int nheld, held_cap;
    float *x;            /* [x_cap] a quantized input */
    size_t x_cap;
    float *scratch;      /* [threads][scratch_floats] */
    size_t scratch_floats;
} ErrorDots;

/* Of one unit's backward pass; forms, shape: as above, must outlive it. Ended by errordots_end, also after an error. */
Status errordots_begin(ErrorDots *d, Runner *r, int unit, LayerForms *forms, int nforms, const Stream *shape, Error *err);
GradHooks errordots_hooks(ErrorDots *d);
/* Behind the pass: dot is whole. */
Status errordots_finish(ErrorDots *d, Error *err);
/* [rows] of a group of the unit under forms[k]. */
const double *errordots_rows(const ErrorDots *d, int k, int64_t group);
void errordots_end(ErrorDots *d);
/* Bytes for any unit's pass over so many rows. */
uint64_t errordots_bytes(const Model *m, int64_t rows, int nforms, int threads);

#endif
