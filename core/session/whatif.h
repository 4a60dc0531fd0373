#ifndef SLIM_SESSION_WHATIF_H
#define SLIM_SESSION_WHATIF_H

#include "session/front.h"
#include "session/groups.h"
#include "session/interact.h"
#include "session/sets.h"

/* Figures of the what-if list and of the prediction, each with what it was made from. Owner thread. */

typedef struct WhatIfs {
    WhatIf *view;              /* [n] of the present rows */
    int n;
    double v_all;              /* of all groups at their home levels */
    uint64_t version, results; /* of the levels and of the results that these were made from */
    bool known;
    GroupTable groups;
    Outlook outlook;
    EngineSays engine;
    KeptSets sets;
    Interactions interactions;
    Prediction predicted;      /* of these versions */
    uint64_t predicted_version, predicted_results;
    bool predicted_known;
    SizeReport size;           /* of the present levels, as written for the peer or not */
    uint64_t size_version;
    bool size_known, size_peer;
} WhatIfs;

void whatif_clear(WhatIfs *w);
/* What other levels of linears than the present ones will show. */
Prediction predict_levels(Session *s, const int16_t *level);

#endif
