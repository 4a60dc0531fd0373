#ifndef SLIM_SESSION_POINTS_H
#define SLIM_SESSION_POINTS_H

#include "session/groups.h"
#include "tune/search.h"

/* The measurements that predictions and searches go by: of this recipe, data and arithmetic, on as many tokens as the
 * newest of them. */
typedef struct Points {
    int n;
    TuneResult *result;    /* [n] oldest first; their sets lie in `sets` */
    size_t *measured;      /* [n] index in Results.measured */
    int16_t *sets;         /* [n][groups] */
    double *errors;        /* [n][n] points_errors */
} Points;
/* Free with points_free, also after an error. */
Status points_take(Session *s, const GroupTable *t, Points *out, Error *err);
void points_free(Points *p);
/* Fills in TuneResult.error. */
Status points_errors(const Session *s, Points *p, TuneWhat what, Error *err);
/* What they foretell of a set with sum s: KL, and the relative change of perplexity. */
Status points_foretell(const Points *p, const GroupTable *t, const int16_t *set, double s, TuneRange *kl, TuneRange *ppl,
                       Error *err);
/* The points alone, [n], for tune_predict; caller frees. NULL: memory is short. */
TunePoint *points_list(const Points *p);

#endif
