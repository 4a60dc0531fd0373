#ifndef SLIM_SESSION_RESULTS_H
#define SLIM_SESSION_RESULTS_H

#include "base/hash.h"
#include "session/assignment.h"
#include "session/madewith.h"
#include "session/rules.h"

/* What passes and measurements found. Owner thread. */

typedef struct Measured {
    int id;                    /* by which a person names it; one that replaces another has the other's */
    Digest key;                /* of assignment, levels, data and arithmetic */
    Digest fit;                /* of all of these but the assignment: predictions are fitted to those of one fit */
    Effect effect;
    TokenBlocks *blocks;            /* NULL: recorded by a program that kept none */
    Recipe *recipe;            /* held; NULL: not known */
    int16_t *level;            /* [nlinears] the assignment */
    MadeWith made;
    bool aside;                /* on other texts than the session's: a trial (texts_trial.c) */
    bool ruled;                /* the rules that gave the assignment are known: */
    RuleList rules;
    char *rules_text;          /* those that were on, a line each; NULL: not known */
} Measured;

/* The newest pass that did not reach its end. */
typedef struct Stopped {
    int run;                   /* -1: none */
    int64_t done, total;       /* of its steps */
    const MetricPass *pass;
    const Metric **metrics;    /* NULL-terminated; NULL: those of its needs */
    unsigned needs;
    bool *selected;            /* [nselected]; NULL: every linear */
    int64_t nselected;
    char sha[65], prev_sha[65]; /* of the streams behind steps done - 1 and done - 2, "" unknown */
} Stopped;

/* The newest quantization that did not reach its end, of an earlier sitting. */
typedef struct Unwritten {
    char *dir; /* NULL: none */
    bool verify, debug;
} Unwritten;

/* Keys of the present assignment and of the recipe's own, and the fit of both, with what they were made of. */
typedef struct PresentKeys {
    bool have;
    uint64_t version, opened, results;
    Digest now, base, fit;
} PresentKeys;

/* What passes found of a base that is not the present one (bases.h). */
typedef struct Shelf {
    Digest base;
    Scores scores;
} Shelf;
enum { SHELVES = 3 };

enum { WHY_MAX = 200, DATA_NAME_MAX = 128 };

/* A score that was stored. */
typedef struct ScoreNews {
    const Metric *metric;      /* NULL: statistics of a linear */
    int64_t unit;
} ScoreNews;
enum { SCORE_NEWS = 4096 };

typedef struct Results {
    Scores scores;             /* of the present base of the model that is open */
    Digest base, run_base;     /* that base; while a journal is read, the one of the newest pass */
    Shelf shelf[SHELVES];      /* [nshelves] of other bases, the newest last */
    int nshelves;
    ScoreNews *news;           /* [SCORE_NEWS] the newest of nnews, number i at i % SCORE_NEWS */
    uint64_t nnews;
    unsigned needs_met;        /* of all statistics that were stored */
    uint64_t levels_seen;      /* version of the assignment that the values of passes were compared with, + 1; 0: of none */
    uint64_t news_seen;        /* and how many of the news */
    int16_t *compared;         /* [nlinears] what they were scored at then, under the recipe of this version: */
    uint64_t compared_opened;
    uint64_t chosen;           /* grows when all of these values may be others */
    uint64_t version;          /* grows with every result stored, of passes and measurements */
    uint64_t loss_version; /* the same but for statistics, by which no prediction goes */
    uint64_t loss_whole;   /* grows when any value of a pass may be another, not only those of the news */
    char identity[65];         /* of data and arithmetic behind the scores that are not stale */
    int next_run;
    Stopped stopped;
    Stopped before;            /* while a journal is read: the one that the newest pass may leave as it was; its run -1: none */
    Unwritten unwritten;
    Measured *measured;
    size_t nmeasured, cap_measured;
    int last_measured;         /* the highest id given */
    PresentKeys keys;
    QuantizeDone *quantized;   /* the newest that ended well */
    DataInfo calib_info, eval_info;
    char calib_name[DATA_NAME_MAX], eval_name[DATA_NAME_MAX];
    char why[WHY_MAX];         /* reason behind the score asked for last */
} Results;

void measured_fini(Measured *m);
void results_init(Results *r);
void results_fini(Results *r);
Status results_open(Results *r, const Model *m, Error *err);
/* Drops what belongs to the model: scores, measurements, the stopped pass. */
void results_close(Results *r);
/* Takes over what *r holds. */
void results_store(Results *rs, LinearResult *r, unsigned needs);
/* A value that a metric's own pass found. */
Status results_store_unit(Results *rs, const PassScore *p, Error *err);
/* Makes room for `more` measurements: that many can then be kept without a failure. */
Status results_room(Results *r, size_t more, Error *err);
/* Keeps a measurement, which it takes over (also on an error); an older one of the same assignment and as many tokens
 * goes. */
Status results_measured(Results *r, Measured *m, Error *err);
/* The newest measurement of these levels, over so many tokens where there is one, else over most; NULL: not measured. */
const Measured *results_find(const Session *s, const int16_t *level, int64_t tokens);
/* The newest measurement of the present recipe, data and arithmetic, NULL: none. */
Measured *results_newest(const Session *s);
/* The steps of a pass below `done` are kept; the stream behind them has this digest. */
void results_step(Results *r, int run, int64_t done, int64_t total, const char *sha);
/* Marks the values of passes that were made under other levels of their unit's linears. */
void results_compare_levels(const Session *s);
/* A linear's score without the question whether it is queued. */
Score results_score(const Session *s, const Metric *m, int64_t linear);
/* What a linear is scored at: the level it has, or the one that a float linear returns to. */
static inline int16_t scored_level(const Assignment *a, int64_t linear)
{
    return a->level[linear] ? a->level[linear] : a->home[linear];
}
/* That of each, out[nlinears]. */
void scored_levels(const Session *s, int16_t *out);
/* Digests of what the metric's units would be scored at now (scores_levels); level: scratch of nlinears. */
void scored_keys(const Session *s, const Metric *m, int16_t *level, uint64_t *out);
/* That of one unit; level[nlinears]: scored_levels. */
uint64_t scored_key(const Session *s, const Metric *m, int64_t unit, const int16_t *level);
void results_forget_stopped(Results *r);
/* While a journal is read: a pass begins, or has ended. It is the stopped one until it ends well; then that is again the
 * one that was stopped before it, unless it did the same. */
void results_run_begins(Results *r);
void results_run_ended(Results *r, int run, bool well);
/* Marks what was made under other data or arithmetic than the present ones. */
void results_mark_stale(Session *s);

/* Digest of the model as the open recipe changes it, data and arithmetic under which scores are made. */
void identity_now(const Session *s, char out[65]);
/* The same as what scores are held against; of the model as its checkpoint has it; of an identity that was recorded, of a
 * model that was changed or not. */
ScoreOrigin origin_now(const Session *s);
ScoreOrigin origin_unchanged(const Session *s);
ScoreOrigin origin_of_identity(const Session *s, const char *identity, bool changed);
Digest assignment_key(const Session *s, const int16_t *level);
Digest fit_key(const Session *s); /* Measured.fit of what would be measured now */
/* The same under another recipe than the open one. */
Digest recipe_key(const Session *s, const Recipe *r, const int16_t *level);
Digest recipe_fit_key(const Session *s, const Recipe *r);

/* coverage.c: says after an analysis how far it reached into the experts. */
void coverage_log(Session *s);

#endif
