#ifndef SLIM_SESSION_KIT_H
#define SLIM_SESSION_KIT_H

#include "session/queue.h"
#include "session/keeper.h"

/* What the job thread keeps from one job to the next: pool, runner, tokens, reference. Job thread only. */
typedef struct Kit Kit;

/* keeper: NULL: nothing is kept. folder: of the session, where streams of earlier passes lie; NULL: none. */
Kit *kit_new(Queue *q, Keeper *keeper, const char *folder);
void kit_free(Kit *k);
/* Runs a job of any kind to its end. */
Status kit_run(Kit *k, Job *j, Error *err);

#endif
