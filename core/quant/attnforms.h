#ifndef SLIM_QUANT_ATTNFORMS_H
#define SLIM_QUANT_ATTNFORMS_H

#include "base/error.h"
#include "run/runner.h"

/* What several processors have the attentions of one layer read: one form after the other. What they calibrate by is q, k and
 * v as they come, before any of them. */
enum { ATTN_FORMS_MAX = 8 };
typedef struct AttnForms {
    AttnForm form[ATTN_FORMS_MAX];
    int n;
    AttnForm all; /* attn_forms's */
} AttnForms;

/* Behind those that are there. ST_DATA: there are too many. */
Status attn_forms_add(AttnForms *a, AttnForm f, Error *err);
/* For Variant.attn, NULL when there are none. Lives as long as a stays where it is and gets no other. */
const AttnForm *attn_forms(AttnForms *a);

#endif
