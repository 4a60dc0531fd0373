#ifndef SLIM_SESSION_AUTOTUNE_H
#define SLIM_SESSION_AUTOTUNE_H

#include "session/session.h"
#include "tune/loop.h"

/* A tuning plan as work of a session: its rankings, quantizations and evaluations are jobs, one after the other, beside what
 * the session has open, which they leave as it is. What was learned lies in the plan's own folder (tune/loop.h): the same
 * plan with the same folder goes on where it was. Owner thread. */

typedef struct AutotuneOptions {
    const char *plan;       /* path of the plan */
    const char *save_path;
    const char *model_type; /* into the metadata of recipes; NULL: the session's */
    double timeout;         /* seconds, looked at between tries; 0: none */
    const char *practices;  /* folder of practices, where the recipe that meets the demand goes under the model's family, so
                             * that quant finds it; NULL: it lies in save_path only */
} AutotuneOptions;
/* Opens the plan and queues its first job. ST_USAGE while another plan is tuned; errors of the plan are logged line by line,
 * the first is the error. What its evaluator needs is looked for before anything runs. */
Status session_autotune(Session *s, const AutotuneOptions *o, Error *err);

typedef enum AutotuneState { AUTOTUNE_NONE, AUTOTUNE_RUNS, AUTOTUNE_STOPPED, AUTOTUNE_ENDED } AutotuneState;
/* Borrowed until the next call that changes the session. */
typedef struct AutotuneView {
    AutotuneState state;
    const char *plan, *save_path; /* as they were given */
    const char *strategy, *evaluator; /* their types */
    const char *text;             /* one line: what it does now, or what it came to */
    const Loop *loop;             /* its tries; NULL: it was stopped in an earlier sitting */
    LoopEnd end;                  /* AUTOTUNE_ENDED */
    Status status;                /* AUTOTUNE_ENDED: of LOOP_DONE, or why it could not go on; AUTOTUNE_STOPPED: ST_CANCELLED */
    const char *id;               /* AUTOTUNE_ENDED: of the recipe that meets the demand, NULL: none does */
    double seconds;               /* since it began or went on */
} AutotuneView;
/* false: none was begun. */
bool session_autotuning(const Session *s, AutotuneView *out);
/* Goes on with the plan that was stopped; ST_USAGE: there is none. */
Status session_autotune_again(Session *s, Error *err);

/* What the running job asks a person, NULL: nothing. */
const char *session_question(const Session *s);
/* The answer to it; NULL: nobody answers, which ends the job. ST_USAGE: nothing was asked. */
Status session_answer(Session *s, const char *line, Error *err);

#endif
