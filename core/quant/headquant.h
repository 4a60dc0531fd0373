#ifndef SLIM_QUANT_HEADQUANT_H
#define SLIM_QUANT_HEADQUANT_H

#include <stdatomic.h>

#include "base/error.h"
#include "qir/intquant.h"
#include "quant/quantizer.h"
#include "run/runner.h"

/* What attention reads, quantized: q, k and v of a unit's attentions as they enter the score (specs/analysis.md 2.4,
 * specs/quantization.md 10.4). Int8 or fp8 with one symmetric scale a head, from the shortest window that holds a share of its
 * values (4: recall window), int8 with one a channel (5, 10.3: C8): a pass with the observer finds them over all texts, passes
 * with the form compute with them. Or by scales of their own for each token and head, or each block of 32 of its values:
 * those need no pass. */

enum { HEAD_ATTENTIONS = 2, HEAD_PARTS = 3 };

typedef struct HeadSide {
    int64_t heads, width;  /* width: of one head; 1 where each channel has a scale, which counts as a head then */
    int samples;
    const int64_t *start;  /* of the pass: [samples + 1] rows */
    float *lo, *hi;        /* [samples][heads] of each sample's window; the first row is of all in the end */
    int gathered;          /* samples of all ranks that are merged so far */
    struct HeadBad *bad;   /* [samples] its first value that is not finite */
    QParam *param;         /* [heads], once they are fixed */
} HeadSide;

/* Zero-initialise, then set what is above the line. */
typedef struct HeadQuant {
    const Model *m;
    int unit;
    DType T;                  /* in which q, k and v are computed */
    double ratio[HEAD_PARTS]; /* of a text's values of a head, so many are in the range: the shortest that holds them; 0: this
                               * part stays float */
    bool channels;            /* a scale for each channel of a head */
    const QSpec *spec[HEAD_PARTS];  /* symmetric: per_head, or (without a pass) per_token, per_block. NULL: int8, per head */
    bool skip[HEAD_ATTENTIONS];     /* this one of the unit's attentions stays float */
    /* Ranks divide the texts: behind the taps, before scales are fixed, what each of them saw becomes what all did. NULL: one has
     * all of them. */
    Status (*gather)(void *ctx, Observer o, Error *err);
    void *ctx;
    bool peer;                      /* fp8 as the peer has it in a forward, without its grid */
    /* ---- */
    int64_t linear[HEAD_ATTENTIONS]; /* Tap.linear of each attention that was seen */
    int n;
    HeadSide side[HEAD_ATTENTIONS][HEAD_PARTS];
    atomic_bool oom;
} HeadQuant;
/* The ratios of the peer's analysis: 0.9999 of queries and keys, all values. And those of a cache: all keys and values. */
extern const double head_ratios[HEAD_PARTS], cache_ratios[HEAD_PARTS];
/* Bytes of the ranges of one unit over so many texts (they go when the scales are fixed), and of the scales of all. */
uint64_t head_quant_bytes(const Model *m, bool channels, int samples);

/* Of a pass over all texts; the HeadQuant outlives it. */
Observer head_quant_observer(HeadQuant *h);
/* After that pass: the scales. ST_DATA: a value is not finite, which the text names, or no attention had any. */
Status head_quant_fix(HeadQuant *h, Error *err);
/* For Variant.attn, once the scales are fixed. */
AttnForm head_quant_form(HeadQuant *h);
/* The same for the pass that the observer is in: it fixes them when all rows were seen, and computes with them. */
AttnForm head_quant_calibrating(HeadQuant *h);
/* Whether it runs a side of this kind, and whether that has scales which a pass has to find. */
bool head_quant_runs(const QSpec *q);
bool head_quant_static(const QSpec *q);
void head_quant_fini(HeadQuant *h);

/* The shortest [*lo, *hi] that holds trunc(ratio * n) of x's n finite values ([rows][width], ld floats a row), but one at
 * least; the least of equally short ones; n >= 1. O(n log n); holds at most the values that are left out twice, or all once.
 * false: no memory. */
bool head_window(const float *x, int64_t rows, int64_t width, int64_t ld, double ratio, float *lo, float *hi);

#endif
