#ifndef SLIM_RUN_ROWPLAN_H
#define SLIM_RUN_ROWPLAN_H

#include "run/stream.h"

/* How packed rows are cut. Bands are the row tiles of a GEMM: whole samples up to BAND_MAX rows together, longer
 * samples in several. They depend on the samples alone, so results depend neither on threads nor on chunks; none belongs
 * to two copies of a stream (Stream.copy). */
enum { BAND_GOOD = 512, BAND_MAX = 1024 };
typedef struct RowPlan {
    int64_t n;
    int64_t *start; /* [n+1] rows */
    int *sample;    /* [n+1] the sample that begins with the band, -1 inside a sample */
    int64_t longest_sample, largest; /* rows; of a sample that goes on with a text, the pass counts all of that */
} RowPlan;
Status rowplan_make(RowPlan *p, const Stream *shape, Error *err);
void rowplan_fini(RowPlan *p);
/* The band after the chunk that begins at band b0: whole samples, up to `rows` rows, at least one that cannot be cut.
 */
int64_t rowplan_end(const RowPlan *p, int64_t b0, int64_t rows);
/* Rows of the largest piece that cannot be cut. */
int64_t rowplan_largest_whole(const RowPlan *p);

#endif
