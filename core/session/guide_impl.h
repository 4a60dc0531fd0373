#ifndef SLIM_SESSION_GUIDE_IMPL_H
#define SLIM_SESSION_GUIDE_IMPL_H

#include "base/hash.h"
#include "recipe/recipe.h"
#include "session/goal.h"
#include "session/guide.h"

/* Shared by the guide's files only. */

typedef enum GuideKind {
    GUIDE_ASK,      /* a person answers; running it measures what is open */
    GUIDE_NOISE,    /* whether the drop is larger than its noise */
    GUIDE_TEXTS,    /* size of the calibration set */
    GUIDE_ANALYZE,  /* runs analyses */
    GUIDE_LOO,      /* what the set is without single texts */
    GUIDE_CALIB,    /* what another calibration set does */
    GUIDE_VARY,     /* the recipe with other values, or a processor more */
    GUIDE_FLOAT,    /* the worst layers of a kind in float */
    GUIDE_FIT,      /* the levels that are foretold to hold the goal */
    GUIDE_SEARCH,   /* tune */
    GUIDE_GIVE_BACK /* one rule to float less */
} GuideKind;

typedef struct GuideRow {
    const char *id, *title, *why, *risk;
    int step;
    GuideKind kind;
    RecipeChange change;        /* GUIDE_VARY */
    const char *processor;      /* type that change.front puts in, NULL: none */
    const char *with;           /* .aside but for a recipe with this processor; NULL: for any */
    const char *aside;          /* why it is not run with its step, only by itself; NULL: it is */
    const char *layers;         /* GUIDE_FLOAT: kind of linear, "down_proj" */
    const char *const *metrics; /* GUIDE_ANALYZE: NULL-terminated */
} GuideRow;
extern const GuideRow guide_rows[]; /* ends with id == NULL */
extern const struct GuideStepRow {
    const char *id, *title, *why;
} guide_steps[GUIDE_STEPS];

typedef enum GuideAnswer { ANSWER_NONE, ANSWER_YES, ANSWER_NO, ANSWER_UNKNOWN, ANSWERS } GuideAnswer;
extern const char *const guide_answers[ANSWERS]; /* "", "yes", "no", "unknown" */

typedef enum GuideEnd { END_NONE, END_MET, END_MISSED, END_STOPPED, END_FAILED, ENDS } GuideEnd;
extern const char *const guide_ends[ENDS]; /* "", "met", "missed", "stopped", "failed" */
/* What a search came to. */
typedef struct GuideSearch {
    GuideEnd end;
    char goal[48];
    int tries;
    int64_t more; /* bytes of its set above what the recipe gives */
} GuideSearch;

/* What was said and found of an entry. */
typedef struct GuideMark {
    GuideAnswer answer;
    char *note, *skip;      /* NULL: none */
    int measured, against;  /* ids, 0: none */
    int tried, applied;     /* places in the order of everything that was done, 0: it was not */
    int job;                /* that it waits for, 0: none */
    Digest key, base;       /* of what that job measures, and of what was open */
    GuideSearch search;     /* GUIDE_SEARCH: .measured is its set */
} GuideMark;

/* What trying an entry means now. */
typedef struct Candidate {
    Recipe *recipe;  /* held; NULL: it can't be tried, .state and .reason tell */
    int16_t *level;  /* [nlinears] */
    Digest key;
    GuideState state; /* GUIDE_TODO: it can be tried */
    Phrase reason, delta;
    uint64_t opened, version, results; /* what it was made from */
    bool known;
} Candidate;

struct Guide {
    Goal goal;
    bool have_goal;
    GuideMark mark[GUIDE_ITEMS_MAX];
    char *skip[GUIDE_STEPS];
    int clock;           /* of tried and applied */
    uint64_t version;    /* grows with every change of what is here */
    Candidate candidate[GUIDE_ITEMS_MAX];
    GuideView view;
    GuideItem item[GUIDE_ITEMS_MAX];
    uint64_t seen[6];    /* what the view was made from */
    bool fresh;
};

/* The session's, made when it is first asked for; NULL: no memory. */
Guide *guide_of(Session *s);
int guide_count(void);
/* Entry i as it is to be tried now; cached. Never NULL; state GUIDE_MISSING or GUIDE_LATER with a reason where it can't be. */
const Candidate *guide_candidate(Session *s, Guide *g, int i);
void candidate_free(Candidate *c);
/* Whether a recipe has a processor of this type. */
bool guide_has_processor(const Recipe *r, const char *type);
/* The same of an entry that smooths where what smooths already stays, behind it; freed with candidate_free. ST_USAGE for others. */
Status guide_beside(Session *s, int i, Candidate *out, Error *err);
/* Levels[nlinears] without rule i, which sends to float; false: it is no such rule, or changes nothing, or there is no memory. */
bool guide_without(const Session *s, int i, int16_t *level);

#endif
