#ifndef SLIM_SESSION_KIT_H
#define SLIM_SESSION_KIT_H

#include "session/job.h"

/* What the job thread keeps from one job to the next: pool, runner, tokens, reference. Job thread only. */
typedef struct Kit Kit;

Kit *kit_new(void);
void kit_free(Kit *k);
Status kit_analyze(Session *s, Job *j, Error *err);
Status kit_measure(Session *s, Job *j, Error *err);
Status kit_quantize(Session *s, Job *j, Error *err);

#endif
