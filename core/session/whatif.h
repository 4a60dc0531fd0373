#ifndef SLIM_SESSION_WHATIF_H
#define SLIM_SESSION_WHATIF_H

#include "session/session.h"

/* The what-if list and the prediction, each with what it was made from. Owner thread. */

typedef struct PatternRow {
    char *text;
    WhatIf view;
    /* what does not change while the model is open, found when the row is first looked at; ascending */
    bool fixed;
    int32_t *own, *closed;     /* linears it selects, and with their fused groups */
    int64_t nown, nclosed;
} PatternRow;

typedef struct WhatIfs {
    PatternRow *row;
    size_t n, cap;
    double error_all;          /* local error of all linears at their home levels, of these versions: */
    uint64_t error_version, error_results;
    bool error_known;
    Prediction predicted;      /* of these versions */
    uint64_t predicted_version, predicted_results;
    bool predicted_known;
} WhatIfs;

/* Appends a pattern; one that is there already stays where it is. *added (may be NULL) tells. */
Status whatif_add(WhatIfs *w, const char *text, bool *added, Error *err);
void whatif_clear(WhatIfs *w);

#endif
