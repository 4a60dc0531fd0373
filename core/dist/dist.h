#ifndef SLIM_DIST_DIST_H
#define SLIM_DIST_DIST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pack.h"
#include "dist/ops.h"

/* The ranks of one job: processes of the same program, started with the same words, that do the same steps, each over its
 * part. Every rank makes the same calls in the same order; each begins with all ranks agreeing that they came to it. Where
 * one failed instead (dist_end), it is ST_... of that one on all of them, with its text: "rank 2: ...", and so is every
 * later call. Rank 0 is the one that speaks to people and writes. With one rank everything returns at once. */

typedef struct Dist Dist;

/* Takes the first row that a launcher started (rows as dist_table). Of a build without one whose launcher started
 * several: ST_USAGE. */
Status dist_open(Dist **out, const DistOps *const *rows, Error *err);
void dist_free(Dist *d);

/* The first n of d's ranks (0 < n) as a job of their own, NULL on the others: while those call it, these wait at the next call of d,
 * and where it fails all are told. d outlives it. Freed with dist_free. */
Status dist_part(Dist **out, Dist *d, int n, Error *err);

/* NULL: alone, in all of these. */
int dist_rank(const Dist *d);
int dist_size(const Dist *d);
int dist_here(const Dist *d); /* ranks on this machine */
/* How fast the ranks compute beside each other, [size] from 0 to 1; NULL: nobody told, or they are alike. To balance their
 * work: nothing that is computed may depend on it. */
const double *dist_speeds(const Dist *d);
/* Bytes that this rank sent and got so far. */
uint64_t dist_sent(const Dist *d);
uint64_t dist_got(const Dist *d);
static inline bool dist_leads(const Dist *d)
{
    return dist_rank(d) == 0;
}

/* Whether these n bytes are the same on every rank; else ST_USAGE on all: "rank 2 has another <what> than rank 0". */
Status dist_same(Dist *d, const char *what, const void *data, size_t n, Error *err);
/* The bits that are set on every rank. */
Status dist_common(Dist *d, uint64_t *bits, Error *err);
/* What every rank packed, on rank 0: all[dist_size], which the caller frees (dist_packs_free); NULL on the others. */
Status dist_gather(Dist *d, const Pack *mine, Pack **all, Error *err);
/* The same on every rank. */
Status dist_gather_all(Dist *d, const Pack *mine, Pack **all, Error *err);
void dist_packs_free(Pack *all, int n);
/* A state goes from rank to rank: `state` gets what the rank before handed on (rank 0: stays empty), for which it waits; and
 * is handed on to the next (by the last one: to nobody). No agreement comes before: a rank that fails in between ends the
 * job by dist_end's patience. */
Status dist_take(Dist *d, Pack *state, Error *err);
void dist_hand_on(Dist *d, const Pack *state);
/* What rank 0 packed, on every rank: the others' *p, which was empty, gets it (pack_fini). */
Status dist_hand_out(Dist *d, Pack *p, Error *err);
/* n bytes of this rank, of the last or of the first, to all. */
Status dist_from(Dist *d, int rank, void *data, size_t n, Error *err);
Status dist_from_last(Dist *d, void *data, size_t n, Error *err);
Status dist_from_first(Dist *d, void *data, size_t n, Error *err);
/* All of them have come here. */
Status dist_meet(Dist *d, Error *err);
/* Tells all ranks what each measured (> 0, of any unit), to steps of an eighth of the fastest, so that noise divides nothing. */
Status dist_set_speed(Dist *d, double mine, Error *err);
/* Rank r has bytes [cut[r], cut[r + 1]) of data, cut[dist_size + 1]; afterwards all have all of it. In a ring: nobody sends or
 * gets more than the whole. */
Status dist_exchange(Dist *d, void *data, const uint64_t *cut, Error *err);
/* The least of all ranks' values. */
Status dist_least(Dist *d, int64_t *v, Error *err);

/* The last call. st: how this rank ended, err its text. Agrees on it with the others, as long as they are heard from: *heard
 * false where a rank that failed was not heard for DIST_PATIENCE seconds: its caller tells why, and ends all by dist_kill.
 * Gives the status of the job, on all of them. */
enum { DIST_PATIENCE = 5 };
Status dist_end(Dist *d, Status st, bool *heard, Error *err);
void dist_kill(Dist *d, int code);

#endif
