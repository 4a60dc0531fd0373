#ifndef SLIM_SESSION_KEPT_H
#define SLIM_SESSION_KEPT_H

#include "io/json.h"
#include "session/comparing.h"
#include "session/results.h"

/* What a person marked, and runs that were kept, to be compared. Owner thread. */
typedef struct Foreign {
    char run[32];               /* as which the other session was brought in */
    Measured m;                 /* its levels are of this model's linears */
} Foreign;
typedef struct Kept {
    char mark[MARKS][THING_MAX];
    uint64_t version;           /* grows with every change of these */
    Foreign *foreign;           /* [nforeign] measurements of other sessions */
    int nforeign;
    size_t cap_foreign;
} Kept;

/* What the present scores are made with, in words. */
void kept_made_of(const Session *s, char *out, size_t size);
/* Scores of the present data and settings are about to become stale by a new calibration set: they are kept as a run. */
void kept_outdated(Session *s);
/* Another model is opened, or the session ends. */
void kept_close(Kept *k);
Status mark_restore(Session *s, const cJSON *record, Error *err);
Status foreign_restore(Session *s, const cJSON *record, Error *err);
Status drop_restore(Session *s, const cJSON *record, Error *err);
/* Takes away what another session's measurements were brought in as; how many. The journal is not told. */
int foreign_drop(Session *s, const char *run);

#endif
