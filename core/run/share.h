#ifndef SLIM_RUN_SHARE_H
#define SLIM_RUN_SHARE_H

#include <stdbool.h>

#include "base/error.h"
#include "dist/dist.h"
#include "run/stream.h"
#include "text/calib.h"

/* Texts divided over ranks: each has samples that stand beside each other, as many tokens as its speed says (dist_speeds). A
 * row's products have the same bits wherever it stands, sums end with samples: results do not depend on the cuts. Where there
 * are fewer texts than ranks, the last ranks get none. */
typedef struct Share {
    Dist *dist;
    const TokenSet *whole;
    TokenSet mine;    /* borrows its ids */
    int first;        /* sample of `whole` that mine begins with */
} Share;
Status share_init(Share *s, Dist *d, const TokenSet *whole, Error *err);
void share_fini(Share *s);
/* stream_beginnings of all ranks' streams, of which this one has h: on every rank. Not of streams with choices. */
Status share_beginnings(const Share *s, Stream *out, const Stream *h, int n, int64_t rows, Error *err);
/* Whether every one of so many ranks gets a token. */
int share_most(const TokenSet *t); /* how many ranks can */
bool share_all_have(const TokenSet *t, int size);
/* Of pieces that are given out one after the other: the rank that this one of so much work goes to, which is added to its
 * load[dist_size] (0 at first): that which would be done with it first. */
int share_taker(const Dist *d, double *load, double work);
/* cut[size + 1]: rank r of `size` has samples [cut[r], cut[r + 1]). speed: [size], NULL: all are alike. */
Status share_cuts(const TokenSet *t, const double *speed, int size, int *cut, Error *err);

#endif
