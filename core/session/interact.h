#ifndef SLIM_SESSION_INTERACT_H
#define SLIM_SESSION_INTERACT_H

#include "io/json.h"
#include "session/job.h"

/* What sets of groups do together against what each does alone: sets that were measured on few tokens (pass_together), and
 * the question that was asked last. Owner thread. */
typedef struct SetScore {
    int32_t *group;            /* [n] ascending */
    uint64_t *digest;          /* [n] of their levels (GroupTable.digest) */
    int64_t n;
    uint64_t data;             /* ScoreOrigin.data */
    int64_t want, tokens;      /* asked for; that there were */
    double kl, error;          /* NaN: it can't be quantized so */
} SetScore;
typedef struct Interactions {
    SetScore *score;           /* [nscore] */
    size_t nscore, cap;
    /* asked last: groups by falling effect, the first `among` of them in pairs */
    int32_t *group;            /* [ngroups]; NULL: nothing was asked */
    int16_t *level;            /* [ngroups] */
    int64_t ngroups, among;
    bool given_back;
    /* what came of it, as looked at last */
    InteractPair *pair;
    InteractView view;
    bool looked;
    uint64_t version, results, opened; /* of levels, results, recipe */
    size_t scores;
} Interactions;
void interactions_clear(Interactions *i);
/* Takes what a job of sets found. */
Status interact_store(Session *s, const Job *j, const PassScore *score, int64_t n, Error *err);
/* Reads the journal's records of a question and of scores back. */
Status interact_restore(Session *s, const cJSON *record, Error *err);
Status interact_restore_scores(Session *s, const cJSON *record, Error *err);
void set_job_fini(SetJob *j);

#endif
