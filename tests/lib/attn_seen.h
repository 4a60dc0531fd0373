#ifndef SLIM_TESTS_LIB_ATTN_SEEN_H
#define SLIM_TESTS_LIB_ATTN_SEEN_H

#include "run/observer.h"

/* q, k and v of a layer's attentions as a pass reads them, and room for what a test makes of them. */
enum { ATTN_SEEN = 2 };
typedef struct AttnSeen {
    int unit, n;                  /* whose; how many attentions it has */
    int64_t linear[ATTN_SEEN];    /* Tap.linear of each */
    float *x[ATTN_SEEN][3];       /* [rows][width] of each part */
    float *scale[ATTN_SEEN][3];   /* [width], 0 at first */
    int64_t width[ATTN_SEEN][3];
    const int64_t *start;         /* [samples + 1] of the pass's stream */
    int samples;
} AttnSeen;

extern const ObserverOps attn_seen_ops; /* self: an AttnSeen with its unit */
void attn_seen_end(AttnSeen *s);
/* Of channels [c0, c0 + dim) of an attention's part: each text's shortest window that holds `ratio` of the values, the widest
 * of all. */
void attn_seen_window(const AttnSeen *s, int at, int part, int64_t c0, int64_t dim, double ratio, float *lo, float *hi);

#endif
