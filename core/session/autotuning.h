#ifndef SLIM_SESSION_AUTOTUNING_H
#define SLIM_SESSION_AUTOTUNING_H

#include "io/json.h"
#include "session/autotune.h"
#include "session/job.h"

/* The plan that a session tunes by. */
typedef struct Autotune {
    AutotuneState state;
    char *plan_path, *save_path, *model_type, *practices;
    double timeout;
    Plan *plan;
    Loop *loop;
    Recipe *recipe;       /* of the step that runs */
    Arena arena;          /* of a ranking */
    int job, last;        /* that it waits for, 0: none; that it waited for last */
    LoopStepKind doing;
    RankScope scope;      /* of the ranking that runs */
    LoopMade made;        /* of the quantization that runs */
    LoopEnd end;
    Status status;
    char text[300], id[120];
    int64_t began;
} Autotune;
void autotune_clear(Autotune *t);
/* Takes over what a job that has ended found, as long as it is there. */
void autotune_take(Session *s, const Job *j, Status st);
/* A job has ended, or never started. */
void autotune_ended(Session *s, int job, Status st);
/* Reads the journal's records of its begin and its end back. */
Status autotune_restore(Session *s, const cJSON *record, Error *err);
Status autotune_restore_end(Session *s, const cJSON *record, Error *err);

#endif
