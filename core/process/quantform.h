#ifndef SLIM_PROCESS_QUANTFORM_H
#define SLIM_PROCESS_QUANTFORM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "process/quantizer.h"
#include "process/quantjob.h"
#include "run/runner.h"

/* The quantized forms of one layer's linears: what quantjob hands to the runner. */
typedef struct LayerForms {
    int64_t n;
    struct FormState *states; /* [n], those in use */
    int64_t *state_of;        /* [n] index into states, -1 = float */
    LinearForm *forms;        /* [n] */
    const LinearForm **table; /* [n] for a Variant, NULL entries are float */
    bool any;                 /* at least one is quantized */
} LayerForms;

/* Forms of linears [first, first+n) at o's levels, ready for the calibration stream. o and m must outlive them. */
Status layer_forms_init(LayerForms *l, const Model *m, const QuantJobOptions *o, int64_t first, int64_t n, DType T,
                        Error *err);
/* After the calibration: static ranges stay as found, and go into found[n] (untouched where there are none). */
void layer_forms_fix(LayerForms *l, QParam *found);
void layer_forms_fini(LayerForms *l);

#endif
