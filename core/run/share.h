#ifndef SLIM_RUN_SHARE_H
#define SLIM_RUN_SHARE_H

#include <stdbool.h>

#include "base/error.h"
#include "dist/dist.h"
#include "run/stream.h"
#include "text/calib.h"

/* Texts divided over ranks: each has samples that stand beside each other, of about as many tokens, and shares end where a
 * band of rows ends (RowPlan), so that products and sums have the same bits as those of one rank with all. Where there are
 * fewer bands than ranks, the last ranks get none. */
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
bool share_all_have(const TokenSet *t, int size);
/* cut[size + 1]: rank r of `size` has samples [cut[r], cut[r + 1]). */
Status share_cuts(const TokenSet *t, int size, int *cut, Error *err);

#endif
