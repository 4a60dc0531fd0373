#ifndef SLIM_RUN_FEED_H
#define SLIM_RUN_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"
#include "io/safetensors.h"

/* Reads weights ahead on a thread of its own: while one piece is multiplied the next is read, in the checkpoint's
 * dtype. */
enum { FEED_SEGMENTS = 48 };

typedef struct FeedPiece {
    int nseg;
    struct FeedSegment {
        const Checkpoint *file;
        const TensorInfo *tensor;
        uint64_t begin, n; /* bytes within the tensor */
    } seg[FEED_SEGMENTS];
} FeedPiece;

typedef struct Feed Feed;

/* profile (may be NULL): whom its CPU time is told to; outlives the feed. */
Status feed_new(Feed **out, Profile *profile, Error *err);
void feed_free(Feed *f);
struct Shelf;
/* What lies there needs no reading; what doesn't yet is not read ahead. Before the first piece is wanted; outlives the feed. */
void feed_from_shelf(Feed *f, struct Shelf *s);
/* Starts reading this piece, whose files stay open while the feed lives, unless it is already read or being read. At
 * most one piece besides the taken one is kept; what was read ahead and turns out not to be wanted is dropped, its error
 * too. */
void feed_want(Feed *f, const FeedPiece *p);
/* Waits for the piece; data[i] points to segment i (64-byte aligned) until feed_done. ST_CANCELLED when `cancel` is
 * raised while waiting. */
Status feed_take(Feed *f, const FeedPiece *p, const void *data[FEED_SEGMENTS], const Cancel *cancel, Error *err);
void feed_done(Feed *f);

#endif
