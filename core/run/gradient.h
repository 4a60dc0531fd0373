#ifndef SLIM_RUN_GRADIENT_H
#define SLIM_RUN_GRADIENT_H

#include "run/unit.h"

/* Gradients through units, by recomputation: float32, of the pass that a variant describes. What rounds there (the input's
 * quantizer, the weight's) is taken as it stands: its values are used, and the gradient goes straight through. */

/* One linear of a backward pass, for one chunk of rows; everything borrowed, for the call. Of a block-diagonal one x and dx are
 * [rows][groups * in], each group's for its own outputs. An indexer's linears, which only choose, are not told of. */
typedef struct LinearGrad {
    int64_t linear;          /* Model.linears */
    const LinearForm *form;  /* the variant's; NULL: float */
    const float *x;          /* [rows][in] what reaches it (behind overlay_input_*), before its form's act */
    int64_t ldx;
    const float *g;          /* [rows][out] gradient of what it gives (its bias included) */
    int64_t ldg;
    const int32_t *row;      /* [rows] the rows of the pass's stream they are of; NULL: row0, row0 + 1, ... */
    int64_t row0, rows;
    float *dx;               /* [rows][in] gradient of x: g times the weight as the form gives it (straight through act);
                              * a hook may overwrite it */
    int64_t lddx;
} LinearGrad;

/* [job] Each linear of the unit, once for each chunk of rows, in reverse order of the forward. */
typedef struct GradHooks {
    Status (*linear)(void *self, const LinearGrad *g, Error *err);
    void *self;
} GradHooks;

/* Through a whole unit run as variant v (its forms' weight and act are computed again, as the forward has them; NULL:
 * float): grad is of what it gave for `in` and becomes that of `in`. hooks may be NULL. ST_USAGE where unit_has_gradients
 * says no, ST_CANCELLED as passes. */
Status unit_backward(Runner *r, int unit, const Variant *v, const Stream *in, Stream *grad, const GradHooks *hooks,
                     Error *err);
/* Bytes it takes beside `in` and `grad`, for so many rows whose longest sample is `longest`. */
uint64_t unit_backward_bytes(const Model *m, int unit, int64_t rows, int64_t longest, int threads);

#endif
