#ifndef SLIM_TUNE_ALLOCATE_H
#define SLIM_TUNE_ALLOCATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Which level each fused group gets: the fewest bytes for a sum of v (predict.h), the smallest sum for so many bytes. */

typedef struct TuneTable {
    int64_t n;            /* groups */
    int levels;           /* float included, which is level 0 */
    const double *v;      /* [n][levels] */
    const int64_t *bytes; /* [n][levels]; below 0: the group can't have this level */
    const bool *fixed;    /* [n] stays at `set`; NULL: none does */
    const int16_t *set;   /* [n] of fixed groups */
} TuneTable;

/* A group has the levels that take bytes and of which v is known; one without such a level stays at `set`, as a fixed one
 * does. Levels that take no less than another of no larger v never come up. */

/* One group to a level of more bytes and less v. */
typedef struct TuneMove {
    int64_t group, bytes; /* more than before */
    double v;             /* less than before */
    int16_t from, to;
} TuneMove;

/* The greedy way: from the fewest bytes there are, always the move that takes most v per byte away; the moves of a group
 * follow the lower convex hull of its levels. Each prefix is the best set of its bytes. */
typedef struct TunePath {
    int64_t n, nmoves;
    int16_t *start;       /* [n] the set before the first move */
    TuneMove *move;       /* [nmoves] */
    double s0, s1;        /* sum of v before the first move, after the last (fixed groups included, where known) */
    int64_t bytes0, bytes1; /* of all groups */
} TunePath;
Status tune_path(TunePath *p, const TuneTable *t, Error *err);
void tune_path_free(TunePath *p);
/* The set after the first `moves` moves, into set[n]; its sum and bytes (may be NULL). */
void tune_path_set(const TunePath *p, int64_t moves, int16_t *set, double *s, int64_t *bytes);
/* The fewest moves after which the sum is at most s; nmoves + 1: not even after all. */
int64_t tune_path_reach(const TunePath *p, double s);
/* How many moves fit these bytes in all. */
int64_t tune_path_fit(const TunePath *p, int64_t bytes);

/* Sums of a set. s: NaN where a v is not known. */
void tune_sums(const TuneTable *t, const int16_t *set, double *s, int64_t *bytes);

/* What is to be held: both may be given. */
typedef struct TuneWish {
    int64_t bytes; /* at most, of all groups; INT64_MAX: any */
    double s;      /* at most; INFINITY: any */
} TuneWish;
/* Exact allocation by dynamic programming over bytes in units of at most 1/4096 of the span between the fewest and the
 * most bytes (1/65536 up to 256 groups), each group's rounded up: the bytes never pass the wish, and what is lost
 * against the true optimum is no more than n units of bytes would have bought. Never worse than the greedy way, which is
 * taken where it is better. With a bound of bytes: the smallest sum; of s alone: the fewest bytes. set[n] is the result;
 * ST_USAGE naming the interval of bytes, or of
 * sums, that can be had, when there is no such set: told in the time of one look at the path. */
Status tune_allocate(const TuneTable *t, const TunePath *p, const TuneWish *wish, int16_t *set, Error *err);
/* The same wish by the greedy way: the prefix that holds it, and then, down the rest, what still fits. */
Status tune_greedy(const TuneTable *t, const TunePath *p, const TuneWish *wish, int16_t *set, Error *err);

/* The move behind which the path's curve of sum over bytes is farthest below the line between its ends, both scaled to 1:
 * the knee; 0: there are fewer than two moves. */
int64_t tune_knee(const TunePath *p);

#endif
