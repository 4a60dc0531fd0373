#ifndef SLIM_SESSION_KEPT_H
#define SLIM_SESSION_KEPT_H

#include "io/json.h"
#include "session/comparing.h"

/* What a person marked, and runs that were kept, to be compared. Owner thread. */
typedef struct Kept {
    char mark[MARKS][THING_MAX];
    uint64_t version;           /* grows with every change of these */
} Kept;

/* Another model is opened, or the session ends. */
void kept_close(Kept *k);
Status mark_restore(Session *s, const cJSON *record, Error *err);

#endif
