#ifndef SLIM_BASE_PROFILE_H
#define SLIM_BASE_PROFILE_H

#include <stdint.h>

#include "base/error.h"

/* Where the CPU seconds of a job go, by the parts of its work. Whoever hands work out names its part, and within a task
 * of several parts the clock is moved from one to the other; without a profile that costs a test of a pointer. */

typedef enum Phase {
    PHASE_OTHER,        /* what no part claims: the rest of the process's CPU time */
    PHASE_READ,
    PHASE_DECODE,
    PHASE_PACK,
    PHASE_LINEAR,
    PHASE_ATTENTION,
    PHASE_ELEMENTS,
    PHASE_GATE,
    PHASE_STATISTICS,
    PHASE_QUANT_ACT,
    PHASE_QUANT_WEIGHT,
    PHASE_LOGITS,
    PHASE_SAVE,
    PHASE_TOKENIZE,
    PHASES
} Phase;

typedef struct PhaseRow {
    const char *name; /* a word, as keys of JSON are */
    const char *text; /* what it is, for a person */
} PhaseRow;
/* [PHASES], in the order in which they are shown but for the first, which comes last. */
extern const PhaseRow phase_table[PHASES];

/* Counters of the workers of a pool and of the thread that drives it (worker 0), each written by its own thread. */
typedef struct Profile Profile;

/* From now on. Caller frees. */
Status profile_new(Profile **out, int workers, Error *err);
void profile_free(Profile *p);

Phase profile_move(Profile *p, int worker, Phase to, int calls);
int64_t profile_thread_ns(void);
void profile_count(Profile *p, Phase phase, int64_t since);

/* [worker] What this worker does from here on is of this part: one call of it. Gives the part it comes out of, for
 * profile_leave. p NULL: nothing happens. */
static inline Phase profile_enter(Profile *p, int worker, Phase phase)
{
    return p ? profile_move(p, worker, phase, 1) : PHASE_OTHER;
}

static inline void profile_leave(Profile *p, int worker, Phase back)
{
    if (p)
        profile_move(p, worker, back, 0);
}

/* For threads that are no workers: the CPU time between the two, of the thread that calls both, is of the part. */
static inline int64_t profile_begin(const Profile *p)
{
    return p ? profile_thread_ns() : 0;
}

static inline void profile_end(Profile *p, Phase phase, int64_t begin)
{
    if (p)
        profile_count(p, phase, begin);
}

typedef struct ProfileReport {
    double cpu[PHASES];    /* seconds; their sum is total, up to rounding */
    int64_t calls[PHASES]; /* of PHASE_OTHER: none are counted */
    double total;          /* CPU seconds of the whole process since profile_new */
    double wall;
    int workers;           /* 0: there is no report */
} ProfileReport;

/* While no worker is at work. */
void profile_report(const Profile *p, ProfileReport *out);
/* Makes the total that of the process since it began: what was before goes to PHASE_OTHER. */
void profile_report_process(ProfileReport *r);
/* Adds what another job took; wall times as one after the other. */
void profile_report_add(ProfileReport *to, const ProfileReport *more);

#endif
