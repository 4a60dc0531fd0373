#ifndef SLIM_RUN_OBSERVER_H
#define SLIM_RUN_OBSERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pack.h"
#include "model/model.h"

/* A point of the forward pass where hidden states can be watched. */
typedef enum TapKind {
    TAP_LINEAR_IN,  /* input of a linear; linears that share an input are observed once, under the first of them */
    TAP_LINEAR_OUT, /* output of a linear, bias included */
    TAP_Q, TAP_K, TAP_V, /* as they enter the score: after RoPE and norms; not in layers of linear attention, which
                            have no scores */
    TAP_ATTN,       /* attention output after o_proj, before the residual add */
    TAP_FFN,        /* feed-forward output before the residual add; the experts' where a layer has dense blocks too */
    TAP_BLOCK_OUT,
    TAP_FINAL_NORM,
    TAP_ROUTER,         /* logits over the experts */
    TAP_EXPERTS,        /* numbers of the chosen experts, ascending */
    TAP_EXPERT_WEIGHTS  /* and their weights */
} TapKind;

typedef struct Tap {
    TapKind kind;
    int layer;      /* -1 after the last layer */
    int64_t linear; /* index into Model.linears for the two linear taps; o_proj's for the attention taps of a layer's
                     * second half; else -1 */
} Tap;

/* Streaming watcher of taps and weights (hook 1 of the runner, which knows none of its users). All function pointers
 * but `name` may be NULL. Calls marked [worker] come from any compute thread, concurrently for different (tap,
 * sample) or (linear, panel); those marked [job] come from the job thread while no worker runs. */
typedef struct ObserverOps {
    const char *name;
    bool (*wants_tap)(void *self, Tap tap);                                          /* [job] */
    bool (*wants_weight)(void *self, int64_t linear);                                /* [job] */
    /* [job] before the first sample of a tap: samples and their row starts [samples+1]. */
    Status (*tap_begin)(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err);
    /* [worker] all rows of one sample in order, in one or more tiles; row0 counts within the sample. ld: floats per
     * row. The tiles of a sample lie one behind the other and stay where they are until the last one's call ended. */
    void (*tap_tile)(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                     int64_t ld);
    /* [job] after the last sample of a tap: merge in sample order. */
    Status (*tap_end)(void *self, Tap tap, Error *err);
    /* [job] before the panels of a weight. */
    Status (*weight_begin)(void *self, int64_t linear, int panels, Error *err);
    /* [worker] rows [row0, row0+rows) of the weight as the checkpoint has it, widened to float32 [rows][in], before a
     * variant's form replaces it; each panel exactly once per layer pass. */
    void (*weight_panel)(void *self, int64_t linear, int panel, int64_t row0, int64_t rows, const float *w, int64_t in);
    /* [job] after the last panel of a weight: merge in panel order. */
    Status (*weight_end)(void *self, int64_t linear, Error *err);
    /* [job] y^2 over all rows and outputs (float64, bias included) of a linear whose input tap is watched, as n sums of
     * samples, or of parts of them, those of the first rows first; their sum in this order is the total. And the rows. */
    Status (*output_energy)(void *self, int64_t linear, const double *sums, int64_t n, int64_t rows, Error *err);
    /* [job] everything of this layer was delivered. */
    Status (*layer_end)(void *self, int layer, Error *err);
    /* [job] Samples may be divided over several processes (ranks), each with an observer of its own. pack takes out what the
     * layer's taps gave of this rank's samples, after which none are seen; merge adds packed ones behind those that are
     * there. Results have the same bits however the samples were divided: sums are
     * made in the order of the samples. NULL: one process must see all of them. */
    Status (*pack)(void *self, int layer, Pack *out, Error *err);
    Status (*merge)(void *self, int layer, Unpack *in, Error *err);
} ObserverOps;

typedef struct Observer {
    const ObserverOps *ops;
    void *self;
} Observer;

#endif
