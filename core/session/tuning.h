#ifndef SLIM_SESSION_TUNING_H
#define SLIM_SESSION_TUNING_H

#include "io/json.h"
#include "session/goal.h"
#include "session/job.h"

/* The newest search for a goal (session_tune). It is what its goal, the levels that it began with and the measurements
 * make it: after a stop, also of the program, it goes on from these. Owner thread. */
typedef struct Tuning {
    TuneState state;
    Goal goal;
    TuneOptions opt;
    int16_t *base;      /* [nlinears] */
    bool *fixed;        /* [groups] */
    Digest fit;         /* of everything else that measurements depend on */
    int job;            /* that it waits for, 0: none */
    JobKind job_kind;
    bool asked_block, asked_alone;
    TuneTry *tries;     /* [ntries] */
    int ntries, best;
    char text[200];
    double seconds[3];  /* of block_error, alone, measurements */
} Tuning;
void tuning_clear(Tuning *t);
/* A job has ended, or never started. */
void tuning_ended(Session *s, int job, Status st);
/* Whether there is a search that was stopped, and goes on with the present recipe and data. */
bool tuning_stopped(const Session *s);
Status tuning_resume(Session *s, Error *err);
/* Reads the journal's records of its begin and its end back. */
Status tuning_restore(Session *s, const cJSON *record, Error *err);
Status tuning_restore_end(Session *s, const cJSON *record, Error *err);

#endif
