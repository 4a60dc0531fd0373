#ifndef SLIM_TUNE_PLAY_H
#define SLIM_TUNE_PLAY_H

#include "tune/practicedoc.h"
#include "tune/strategy.h"

/* What a strategy plays with: straight code that asks, and returns at once where an answer is missing. It is played again from
 * its beginning with one answer more. */

/* What it wants tried: a suppression, and rows that stay in float. */
typedef struct Draft {
    int anti;              /* index of its own list of suppressions */
    int number;            /* the peer counts practices as they are built */
    const RankRow *rows;   /* [n] */
    int64_t n;
    const bool *in;        /* [n] those that stay in float; NULL: all */
} Draft;

/* A StrategyType.make: the document of a draft under this id. anti, patterns: as Practice. */
typedef struct DraftMade {
    PracticeMade doc;
    const char *anti;
} DraftMade;

struct Play {
    const StrategyKit *kit;
    Strategy *s;
    bool stopped;          /* what was asked last has no answer, or the strategy has ended: return */
};

/* The ranking, sorted; false: return. */
bool play_ranking(Play *p, const RankWish *w, const RankRow **rows, int64_t *n);
/* What a draft came to; false: return. */
bool play_try(Play *p, const Draft *d, const EvalResult **r);
/* The end. d: the practice that is the answer, or the last; NULL: none. text: for STEP_NOT_MET, STEP_REFUSED. */
void play_end(Play *p, StepKind kind, const Draft *d, const char *text);
/* The strategy itself failed: memory, say. */
void play_fail(Play *p, Status st, const char *text);

/* Exclude patterns of the rows of a draft, in the arena; NULL: no memory. */
const char *const *draft_patterns(Arena *a, const Draft *d, RankScope scope, int *n);
/* One line of the log. */
void kit_say(const StrategyKit *kit, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
