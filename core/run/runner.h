#ifndef SLIM_RUN_RUNNER_H
#define SLIM_RUN_RUNNER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"
#include "math/gemm.h"
#include "model/overlay.h"
#include "run/arith.h"
#include "run/observer.h"
#include "run/stream.h"
#include "text/calib.h"

/* How one linear computes instead of plain float (a variant's entry). Lives as long as the call that uses it. */
typedef struct LinearForm {
    /* [job] sees the whole input before the linear runs (rows packed as in `shape`, width = in): static calibration.
     * May be NULL. parts: rows may be cut in chunks for all that, and it is called once for each chunk, in their order;
     * samples of other chunks have no row in `shape`. */
    Status (*prepare)(void *self, const float *x, const Stream *shape, int64_t width, Pool *pool, Error *err);
    bool parts;
    /* [worker] replaces rows [row0, row0+rows) of the weight ([rows][in], whole rows) by their fake-quantized values.
     * May be NULL. */
    void (*weight)(void *self, int64_t row0, int64_t rows, int64_t in, float *w);
    /* [worker] fake-quantizes all rows of one sample's input into out ([rows][in]). May be NULL. Linears sharing an
     * input whose forms have the same act and the same self, or the same act_key other than NULL, share the result. */
    void (*act)(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out);
    /* [worker] The same two where weight and input are integers (|weight| <= 128, |input| <= 256, held as floats, exact in
     * bfloat16) times one scale for each row: y[t][o] = x_scale[t] * w_scale[o] * sum_k x[t][k] * w[o][k]. weight_codes
     * replaces the weight's rows by integers, act_codes writes the input's; both give the scales of their rows. Zero points
     * are in the integers already. Values of `weight` and `act` are these products, rounded to the pass's dtype. Called
     * after prepare, instead of weight and act; inputs are shared as those of act. Both set, or both NULL: no such form. */
    void (*weight_codes)(void *self, int64_t row0, int64_t rows, int64_t in, float *w, float *scale);
    void (*act_codes)(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out,
                      float *scale);
    void *self;
    const void *act_key;
} LinearForm;

/* What attention reads instead of its q, k and v (a variant's entry): of quantized attention, of a quantized cache of keys
 * and values. Not in layers of linear attention, which have no scores. Lives as long as the call that uses it. */
typedef struct AttnForm {
    /* [job] Between the taps of an attention's q, k and v and the first of its rows that is replaced: all rows of the pass have
     * been seen then, in one chunk. NULL: it has nothing to do, and rows may be cut. */
    Status (*prepare)(void *self, int64_t linear, Error *err);
    /* [worker] Changes rows of part 0: q, 1: k, 2: v in place, as they enter the score (after RoPE and norms) or the sum, one
     * head behind the other, keys and values not repeated for the query heads that share them; ld floats a row. linear:
     * the attention, as Tap.linear tells it. */
    void (*replace)(void *self, int64_t linear, int part, float *x, int64_t rows, int64_t ld);
    void *self;
} AttnForm;

/* Of a pass over some of the samples of several processes, whose experts all of them show what they read: an expert that got
 * rows elsewhere only shows its forms and observers that it has none here. */
typedef struct RouteForm {
    /* [job] Once it is known how many rows each of n experts has: fills in those of all processes, this one's among them. */
    Status (*routed)(void *self, const int64_t *rows, int64_t *all, int n, Error *err);
    void *self;
} RouteForm;

/* Where operations round: the dtypes in which a layer behind the peer's deployed linears computes (specs/formats.md 6). Weights and
 * position tables stay in the model dtype. */
typedef enum VariantDtype {
    VARIANT_MODEL, /* the model dtype throughout */
    VARIANT_MIXED, /* the layer's input and its first norm; float32 behind */
    VARIANT_WIDE   /* float32 throughout */
} VariantDtype;

/* Overrides of one layer, indexed like Model.linears from the layer's first linear; NULL entries are float. */
typedef struct Variant {
    const LinearForm *const *forms; /* indexed by (linear - first linear of the layer); NULL: all float */
    const AttnForm *attn;           /* of its attentions, NULL: q, k and v as they are */
    const RouteForm *route;         /* NULL: this process has all samples */
    VariantDtype dtype;             /* without meaning where nothing rounds */
    bool sdpa;                      /* attention rounds, where operations do, as torch's fused kernel on a CPU does, not as eager
                                     * attention: scores stay float32, weights are rounded before they are divided */
    bool bare;                      /* low-rank branches (overlay_branch) don't run */
} Variant;

/* Progress of the running job; called on the job thread at most every ~100 ms and at each finished layer. */
typedef struct Progress {
    const char *phase; /* "tokenize", "layer", "logits", … */
    int64_t done, total;
    double work_done, work_total; /* multiply-adds, for the ETA */
} Progress;

typedef struct RunnerOptions {
    Pool *pool;
    const Overlay *overlay;              /* what was changed in the model (run/source.h), NULL: nothing */
    ArithMode arith;
    const GemmOps *gemm;                 /* what multiplies where sums are float32, NULL: gemm_find(GEMM_F32) */
    uint64_t mem_limit;                  /* bytes for streams and scratch; 0 = none */
    struct Dist *together;               /* ranks that run the same layers in the same order: each layer's weights are read
                                          * once by all of them together (run/shelf.h). NULL: this process reads alone */
    const Cancel *cancel;                /* may be NULL */
    void (*progress)(void *ctx, const Progress *p); /* may be NULL */
    void *progress_ctx;
} RunnerOptions;

/* Runs layers of one model: prefetch thread, panel buffers, scratch. One job thread at a time. */
typedef struct Runner Runner;
Status runner_new(Runner **out, const Model *m, const RunnerOptions *opt, Error *err);
void runner_free(Runner *r);
/* Another runner with r's options, of the model without the changes of r's overlay. */
Status runner_unchanged(const Runner *r, Runner **out, Error *err);
const Model *runner_model(const Runner *r);
ArithMode runner_arith(const Runner *r);
const Overlay *runner_overlay(const Runner *r); /* may be NULL */
/* What its passes read: the checkpoint with the overlay's changes. */
const struct Source *runner_source(const Runner *r);
Pool *runner_pool(Runner *r);
const Cancel *runner_cancel(const Runner *r); /* may be NULL */
uint64_t runner_mem_limit(const Runner *r);     /* 0: none */
/* What its caller holds from here on beside the stream of a pass (streams that wait): so much of the limit is not the
 * pass's. 0 at first. */
void runner_hold(Runner *r, uint64_t bytes);

/* Texts that a planner asks about, and how passes go over them. */
typedef struct RunnerAsk {
    int64_t rows, longest; /* tokens of all, and of the longest */
    int threads;
    ArithMode arith;
    const int16_t *level;  /* [linears] above 0: has a form that fake-quantizes the input; NULL: none has */
    bool whole;            /* a form has to see all rows at once (LinearForm.prepare without parts): no chunks */
    bool inputs;           /* inputs of linears may be changed by then (overlay_input_*) */
    bool turned;           /* weights may be turned by then (overlay_rotate_*) */
    bool branches;         /* low-rank branches may run beside linears (overlay_branch) */
} RunnerAsk;
/* Bytes that forwards over them take, were there no limit. */
typedef struct RunnerNeed {
    uint64_t stream; /* one stream of them, with what it carries; passes may run in place */
    uint64_t kept;   /* what the runner keeps from pass to pass: threads, panels, pieces of weights, tables */
    uint64_t layer;  /* activations of a layer's largest chunk */
    uint64_t head;   /* the head's weights, for logits: no layer runs then */
    uint64_t ahead;  /* of it: what stays afterwards, because pieces of the head are larger than those of layers */
} RunnerNeed;
RunnerNeed runner_need(const Model *m, const RunnerAsk *ask);
/* The sum for passes in place: shown before the run, compared with the peak after it. */
uint64_t runner_estimate(const Model *m, const RunnerAsk *ask);
/* Bytes that holding the largest weight whole takes, and turning it: where weights may be turned from the left. */
uint64_t runner_whole_bytes(const Model *m, int threads);
/* Whether passes in place over these texts fit the runner's limit, through any of units [0, units), before one runs; level
 * and whole as in RunnerAsk. ST_NOMEM with the figures. */
Status runner_fits(Runner *r, const TokenSet *t, int units, const int16_t *level, bool whole, Error *err);

/* The weight of a linear as float32 [out][in], as layer passes widen it. ahead: the linear whose weight is wanted next
 * (read meanwhile), -1: none. Not while a pass runs, but from a form's prepare. */
Status runner_weight(Runner *r, int64_t linear, int64_t ahead, float *w, Error *err);
/* A linear's bias as float32 [out], *b NULL without one. Caller frees. */
Status runner_bias(Runner *r, int64_t linear, float **b, Error *err);

/* h_0: embeddings of the tokens. Initialises *out. */
Status runner_embed(Runner *r, const TokenSet *t, Stream *out, Error *err);
/* Whether a stream at the input of `layer` holds more than hidden states: the choice (Stream.select) of an indexer that
 * the layer takes over. Whoever keeps such a stream keeps both; runner_carry makes the room for the second. */
bool runner_carries(const Model *m, int layer, const Stream *s);
Status runner_carry(Stream *s, Error *err);
/* One decoder layer, in place or not (out may be in; otherwise it has in's shape). v NULL: float. Rows are cut in
 * chunks of whole samples (the weights are then read once a chunk) unless a form's prepare must see all of them;
 * results do not depend on it, nor on the number of threads. Taps of a layer may be open at the same time; a tap's
 * samples may come in several batches. After ST_CANCELLED the contents of `out` are undefined. */
Status runner_layer(Runner *r, int layer, const Variant *v, const Stream *in, Stream *out, const Observer *obs,
                    int nobs, Error *err);
/* The layer's weights are wanted from here on: a call of all ranks that read together (RunnerOptions.together). */
Status runner_bring(Runner *r, int layer, Error *err);
/* Lets the activations of layers go, before something else is held; the next layer makes them anew. */
void runner_leave_layers(Runner *r);
/* Final norm of h into *out (initialised here). Feeds TAP_FINAL_NORM. */
Status runner_final_norm(Runner *r, const Stream *h, Stream *out, const Observer *obs, int nobs, Error *err);
/* Logits of rows in panels of the vocabulary: fn is called on `worker` with logits[rows][ld] of vocabulary entries
 * [v0, v0+nv) for rows [row0, row0+rows), and with the head weight of these entries W[nv][hidden]. Each (row block,
 * panel) once, panels of one row block in ascending order on one worker, so fn may keep running state per row. */
enum { LOGITS_ROWS = 128, LOGITS_COLS = 512 }; /* the most of one panel */
typedef void LogitsPanel(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv,
                         const float *logits, int64_t ld, const float *w);
Status runner_logits(Runner *r, const Stream *normed, LogitsPanel *fn, void *ctx, Error *err);

#endif
