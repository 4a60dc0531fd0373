#ifndef SLIM_SESSION_GUIDE_H
#define SLIM_SESSION_GUIDE_H

#include "base/phrase.h"
#include "io/json.h"
#include "session/session.h"

/* The five steps of accuracy tuning as a list that runs what it lists: confirm the problem, suppress outliers, choose
 * methods, look at the calibration data, give layers back to float. What a person said is kept in the journal; whether an
 * entry can be tried, and what it would change, is found anew from the open recipe, the tables of this build and what was
 * measured. Owner thread. */

typedef enum GuideState {
    GUIDE_TODO,
    GUIDE_ASKS,    /* waits for a person's answer */
    GUIDE_RUNNING,
    GUIDE_BETTER,  /* tried: better than what is open by more than the noise */
    GUIDE_DONE,    /* tried or checked, and nothing to take from it */
    GUIDE_OLD,     /* tried, but against what was open before: .evidence is of then */
    GUIDE_HAS,     /* what is open has it already */
    GUIDE_SKIPPED, /* by a person, who said why */
    GUIDE_MISSING, /* this build does not run it: .reason */
    GUIDE_LATER,   /* it does not apply, or needs something else first: .reason */
    GUIDE_STOP,    /* something else has to be put right first */
    GUIDE_MET,     /* not needed: the goal is met */
    GUIDE_STATES
} GuideState;
const char *guide_state_word(GuideState s); /* "todo" */
typedef struct GuideItem GuideItem;
/* The same of an entry, in which what was tried and isn't better is told by its verdict: "worse", "no gain", "in noise". */
const char *guide_item_word(const GuideItem *it);

/* Texts are never NULL. */
struct GuideItem {
    const char *id, *title, *why, *risk;
    int step;             /* 0..4 */
    bool asks;            /* a person answers it */
    GuideState state;
    Phrase reason;        /* why it was skipped, is missing, or stops */
    Phrase delta;         /* what it changes */
    Phrase cost;          /* that running it takes */
    Phrase evidence;      /* what was measured */
    char note[240];       /* what a person wrote */
    int measured, against; /* ids of measurements, 0: none */
    Verdict verdict;       /* of .measured against .against, where both are */
    bool can_run, can_apply;
};

enum { GUIDE_STEPS = 5, GUIDE_ITEMS_MAX = 40 };
typedef struct GuideStep {
    const char *id, *title, *why;
    GuideState state;
    Phrase line;          /* of evidence, or why not */
    int first, n;         /* its entries */
} GuideStep;

typedef struct GuideView {
    GuideStep step[GUIDE_STEPS];
    const GuideItem *item; /* [nitems] */
    int nitems;
    const char *goal;     /* "": none */
    bool measured, met;   /* what is open was measured; and it holds the goal */
    bool stopped;         /* an answer says that something else comes first */
    Phrase status;        /* of the goal, one line */
    Phrase back;          /* a step to go back to, and why; nothing */
    int next;             /* entry that comes next, -1: none */
    int take;             /* of what is better in the first step that has it: the best, or what comes before it and isn't worse by more
                             than the noise (cheaper ones come first); -1: none */
} GuideView;

/* Borrowed until the next call that changes the session. ST_USAGE without a model. */
Status session_guide(Session *s, const GuideView **out, Error *err);
/* "kl=0.05", "ppl=+1%". */
Status session_guide_goal(Session *s, const char *goal, Error *err);
/* id: of a step ("S2") or an entry ("S3b"), in any case. A skip needs a reason; NULL takes it back. */
Status session_guide_skip(Session *s, const char *id, const char *reason, Error *err);
/* Adds a line of evidence, as "GPQA float 51.5". */
Status session_guide_note(Session *s, const char *id, const char *text, Error *err);
/* answer: yes, no or unknown, of an entry that asks. note may be NULL. */
Status session_guide_answer(Session *s, const char *id, const char *answer, const char *note, Error *err);
/* Runs an entry, or all entries of a step that are to be tried, as jobs; NULL: the next entry. *jobs (may be NULL): how many
 * were queued; 0: it was known without. What is open is measured first where it was not. ST_USAGE when there is nothing to
 * run, with the reason. */
Status session_guide_run(Session *s, const char *id, int *jobs, Error *err);
/* Runs again what was tried against what was open before (GUIDE_OLD): an entry, those of a step, or (NULL) all. *jobs as above. ST_USAGE
 * where there is none. */
Status session_guide_again(Session *s, const char *id, int *jobs, Error *err);
/* Makes what an entry tried the open recipe or assignment, one undo step; `what` (may be NULL) tells in a line what came of it, and where
 * one processor took another's place behind it a diff of the recipe. beside: none takes another's place (ST_USAGE where none would). */
Status session_guide_apply(Session *s, const char *id, bool beside, Str *what, Error *err);
/* What an entry would change: a diff of the recipe, or the layers, with what is foretold. beside as above. */
Status session_guide_preview(Session *s, const char *id, bool beside, Str *out, Error *err);

typedef struct Guide Guide;
/* Private to core/session. */
void guide_free(Guide *g);
/* A job has ended, or never started. */
void guide_ended(Session *s, int job, Status st);
/* The newest search for a goal (session_tune), whoever began it, has ended: its entry keeps what came of it. */
void guide_searched(Session *s);
/* Reads a record of the journal back. */
Status guide_restore(Session *s, const cJSON *record, Error *err);

#endif
