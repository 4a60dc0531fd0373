#ifndef SLIM_RUN_WEIGHTWALK_H
#define SLIM_RUN_WEIGHTWALK_H

#include "run/feed.h"
#include "run/runner.h"
#include "run/source.h"

/* Weights for those who only look at them: rows of one linear, widened block by block on all threads, any number of times.
 * A weight that the runner's limit allows to be read at once is read once; a larger one piece by piece in every sweep. */

typedef struct WeightBlock {
    int64_t index;      /* of the weight's blocks: depends on the shape alone */
    int64_t row0, rows;
    const float *w;     /* [rows][in] as layer passes widen them */
    int worker;
} WeightBlock;
typedef void WeightBlockFn(void *ctx, const WeightBlock *b); /* [worker] */

typedef struct WeightWalk {
    Runner *r;
    SourceWeight weight;
    int64_t ahead;      /* the linear wanted next, -1: none */
    int64_t block, piece; /* rows of a block, of a piece */
    bool held;          /* the one piece is there until the end */
    const void *data[FEED_SEGMENTS];
} WeightWalk;

/* Rows of a block of a weight with so many inputs: about 64k values, at least one row. And how many blocks it has. */
int64_t weightwalk_rows(int64_t in);
int64_t weightwalk_blocks(int64_t out, int64_t in);
/* Values of the largest block of any of the model's weights. */
int64_t weightwalk_values(const Model *m);
/* ahead: the linear that is walked next, read meanwhile; -1: none. Not while a pass runs. ST_DATA: the weight cannot be
 * read. Ended by weightwalk_end, also after an error of a sweep. */
Status weightwalk_begin(WeightWalk *w, Runner *r, int64_t linear, int64_t ahead, Error *err);
/* Every block once, in any order. ST_CANCELLED once the runner's cancel was raised. */
Status weightwalk_sweep(WeightWalk *w, WeightBlockFn *fn, void *ctx, Error *err);
void weightwalk_end(WeightWalk *w);
/* Bytes that walks over any of the model's weights take in a runner with this limit (0: none). turned: its overlay may have
 * turned weights from the left. */
uint64_t weightwalk_bytes(const Model *m, uint64_t limit, int threads, bool turned);

#endif
