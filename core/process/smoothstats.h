#ifndef SLIM_PROCESS_SMOOTHSTATS_H
#define SLIM_PROCESS_SMOOTHSTATS_H

#include "process/processor.h"
#include "run/observer.h"

/* Statistics of the channels of linears' inputs in one unit, from one forward over the texts. */

enum {
    SMOOTH_MINMAX = 1 << 0,
    SMOOTH_MEAN = 1 << 1,  /* mean |x| over tokens */
    SMOOTH_TOKENS = 1 << 2, /* the inputs themselves, or every so manieth row of them */
    SMOOTH_BLOCK_INPUTS = 1 << 3 /* what the unit reads, or the beginnings of texts (SmoothCtx.input) */
};

/* One sub-graph's, merged over all its taps. */
typedef struct SmoothStats {
    int64_t width, rows;    /* channels, tokens seen; 0 tokens: nothing else is filled in */
    const float *min, *max; /* [width] */
    const float *most;      /* [width] largest |x|, or of |x - shift| */
    const float *shift;     /* [width] (max + min) / 2, NULL: not asked for */
    const float *mean;      /* [width]; NULL without SMOOTH_MEAN */
    const float *tokens;    /* [ntokens][width], in the order of the texts; NULL without SMOOTH_TOKENS */
    int64_t ntokens;
} SmoothStats;

/* What one tap saw; the arrays are per sample until it ends. */
typedef struct SmoothTap {
    int64_t linear;
    int64_t width, rows; /* rows: of all ranks */
    int samples;         /* rows of min, max and sum */
    float *min, *max;    /* [samples][width] */
    double *sum;         /* [samples][width] of |x|; NULL without SMOOTH_MEAN */
    int64_t *count;      /* [samples] tokens */
    int sums;            /* rows of sum, once other ranks' extremes are there */
    float *token;        /* [ntokens][width] */
    int64_t most, ntokens, stride;
    int64_t before;      /* rows of the ranks before this one */
    bool done;
} SmoothTap;

/* The watcher of a unit. Its taps are made by smooth_watch_add. */
typedef struct SmoothWatch {
    const UnitRun *unit; /* whose ranks divide the texts; NULL: none do */
    unsigned needs;
    bool ordered;        /* samples are kept apart: the peer's statistics depend on their order */
    DType T;             /* in which the peer's statistics are computed; DT_F32: ours, or float32 */
    int64_t most_tokens; /* of the taps that are added from here on; 0: all */
    int64_t first;       /* the unit's first linear */
    int32_t *tap_of;     /* [linears of the unit] index into tap, -1: not watched */
    int64_t nlinears;
    SmoothTap *tap;
    size_t ntaps, cap;
} SmoothWatch;

Status smooth_watch_init(SmoothWatch *w, int64_t first, int64_t nlinears, Error *err);
void smooth_watch_fini(SmoothWatch *w);
Status smooth_watch_add(SmoothWatch *w, int64_t linear, Error *err);
Observer smooth_watch_observer(SmoothWatch *w);
/* Behind the pass: of several ranks, what each of them saw becomes what all did (unit_gather); sums go from one to the next. */
Status smooth_watch_gather(SmoothWatch *w, Error *err);
/* The statistics of these taps together. shift: of x - shift. Arrays are *own's (free), which may be set without rows. */
Status smooth_watch_stats(const SmoothWatch *w, const int64_t *linear, int n, bool shift, SmoothStats *out, float **own,
                          Error *err);
/* The first channel in which a linear's input has been NaN or Inf; -1: in none, or nobody watched it. */
int64_t smooth_watch_bad(const SmoothWatch *w, int64_t linear);
/* Bytes of a tap while it is open, and afterwards. */
typedef struct SmoothTapBytes {
    uint64_t open, kept;
} SmoothTapBytes;
SmoothTapBytes smooth_tap_bytes(const SmoothWatch *w, int64_t width, const PassSize *size);

#endif
