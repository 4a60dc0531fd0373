#ifndef SLIM_SESSION_ALLOT_H
#define SLIM_SESSION_ALLOT_H

#include "session/goal.h"
#include "session/points.h"
#include "session/rules.h"

/* Which groups may get another level, and from what: for fit, tune and front. Owner thread. */
typedef struct Allot {
    const GroupTable *groups;
    int16_t *base;      /* [nlinears] levels that it begins with */
    bool *fixed;        /* [n] stays as it is there */
    int16_t *set;       /* [n] of the base */
    int64_t *cost;      /* [n][levels] bytes, or bits; -1: can't be had, or an engine has no class for it */
    TuneTable table;
    TunePath path;
    int64_t others;     /* bytes of the model beside the groups */
    FitLeft left;
} Allot;
/* From the present assignment; from base and fixed (copied) where they are given, of a search that goes on. `free`: rules
 * hold nothing. by_bits: costs are weight bits. ST_USAGE when what groups weigh is not known. Free with allot_free, also
 * after an error. */
typedef struct AllotAsk {
    const int16_t *base;
    const bool *fixed;
    bool free, by_bits;
    bool glance;        /* for a look while something is typed: the engine is not asked about thousands of groups */
} AllotAsk;
/* What an engine (--runtime) does not load, [groups][levels], kept until another is named or a recipe is opened. */
typedef struct EngineSays {
    bool *refuses;      /* NULL: not asked yet */
    uint64_t opened;
    const Runtime *runtime;
    bool peer;
} EngineSays;
void engine_says_clear(EngineSays *e);
/* Marks in fixed[groups] what does not change, and counts it: rules that fit, grow or tune made hold nothing. */
void allot_fixed(const Session *s, bool free_rules, bool *fixed, FitLeft *left);
Status allot_open(Session *s, const AllotAsk *ask, Allot *out, Error *err);
void allot_free(Allot *a);
/* Levels of linears that a set of groups means, level[nlinears]: those of fixed groups are the base's. */
void allot_levels(const Session *s, const Allot *a, const int16_t *set, int16_t *level);
/* The goal as a bound of costs or of the sum of v. ST_USAGE when there is nothing to foretell it by, or when it is out
 * of reach, with what is not. */
Status allot_wish(const Allot *a, const Points *p, const Goal *goal, TuneWish *out, Error *err);
/* Makes these the present levels by rules that are marked as made so, as one undo step; none when they are. *changed:
 * linears. LEVELS_ANEW: instead of the rules that were made so before; LEVELS_BESIDE: besides them. */
typedef enum LevelsHow { LEVELS_ANEW, LEVELS_BESIDE } LevelsHow;
Status levels_apply(Session *s, const int16_t *level, LevelsHow how, int64_t *changed, Error *err);

#endif
