#ifndef SLIM_QUANT_QUANTIZER_H
#define SLIM_QUANT_QUANTIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pack.h"
#include "base/pool.h"
#include "base/dtype.h"
#include "qir/intquant.h"
#include "qir/quantkey.h"
#include "qir/qweight.h"
#include "qir/scheme.h"

/* Fixed parameters of an activation, and the bounds its fake-quantized values are cut to (-INFINITY, INFINITY: none).
 */
typedef struct ActParam {
    QParam p;
    float lo, hi;
} ActParam;

/* How calibration finds fixed parameters: a state that is fed the samples in order. */
typedef struct ActObserver {
    size_t size;  /* of the state, which begins zeroed */
    /* Looks at the values, and what it makes of them depends on what it saw before: where several ranks divide the
     * samples, all values are gathered. Otherwise feed's x is NULL and the extremes have to do. */
    bool values;
    /* A sample of n > 0 finite values in [mn, mx]. peer: the peer's own rule. */
    void (*feed)(void *self, const float *x, int64_t n, float mn, float mx, bool peer);
    /* What was seen so far as a range (at least one sample). */
    void (*range)(const void *self, const QSpec *q, bool peer, DType T, float *mn, float *mx);
} ActObserver;

/* Activation quantizer: a row of act_quantizer_table. */
typedef struct ActQuantizer {
    QuantKey key;
    const ActObserver *observer; /* its parameters come from a calibration pass; NULL: it needs none */
    bool dynamic;     /* each row (block) is quantized by its own parameters, also where calibration found some */
    bool wide;        /* parameters are float32 in every arithmetic */
    bool cut;         /* the peer cuts fake-quantized values to the range */
    /* Parameters of the range [mn, mx]; NULL: has none. */
    QParam (*param)(const QSpec *q, float mn, float mx, DType T);
    /* Of a dynamic one: parameters with which the peer's calibration quantizes a whole sample of this range; NULL: it
     * leaves its input alone there. */
    QParam (*sample)(const QSpec *q, float mn, float mx, DType T);
    /* Fake-quantizes x[rows][in] (ld floats a row) into out[rows][in]. p: parameters of all these rows, or NULL: of
     * each row its own. NULL: leaves its input alone. */
    void (*rows)(const QSpec *q, const ActParam *p, const float *x, int64_t rows, int64_t in, int64_t ld, DType T,
                 bool peer, float *out);
    /* Where rows gives integers times one scale a row, and nothing is cut: the integers as floats into out[rows][in], the
     * scales into scale[rows]. rows is R(product of the two), bit for bit. NULL: no such form. */
    void (*codes)(const QSpec *q, const ActParam *p, const float *x, int64_t rows, int64_t in, int64_t ld, DType T,
                  float *out, float *scale);
} ActQuantizer;

/* One weight to quantize; everything is borrowed. */
typedef struct WeightTask {
    const QSpec *q;
    const float *w;        /* [out][in], values of T */
    int64_t out, in;
    DType T;               /* arithmetic: the model's dtype under peer, else DT_F32 */
    DType F;               /* float type of dequantized values inside the method (specs/quantization.md 0): T in a
                            * calibration forward, DT_F32 where no data is needed */
    DType stored;          /* of values that are written as floats */
    int64_t rows;          /* of the input whose moments these are; only for prepare */
    bool peer;             /* quirks of the peer; else the "Do better" rules */
    const void *shared;    /* what .prepare made of the input's second moments; only for methods with it */
    Pool *pool;            /* not from within one of its tasks; NULL: this thread only */
    const Cancel *cancel;  /* may be NULL; then ST_CANCELLED */
} WeightTask;

/* Weight quantizer: a row of weight_quantizer_table. Results do not depend on the number of threads. */
typedef struct WeightQuantizer {
    QuantKey key;
    bool rowwise; /* rows are independent: quantize may be given any block of whole rows; see whole */
    /* Methods that need the second moments h[in][in] of their input: once for all linears that read it at this level,
     * before `quantize`: *shared is what they share. h is overwritten and must stay until `release` (NULL: nothing). Of t
     * neither w, out nor shared is looked at. NULL: needs none. */
    Status (*prepare)(const WeightTask *t, float *h, void **shared, Error *err);
    void (*release)(void *shared);
    uint64_t (*prepare_bytes)(int64_t in, int threads); /* bytes `prepare` takes beside h, of which few stay */
    /* Fills *out, which the caller initialised with qweight_init for t->out rows. */
    Status (*quantize)(const WeightTask *t, QWeight *out, Error *err);
    /* Fake-quantizes whole rows w[rows][in] in place, as quantize and qweight_rows would but for what the peer computes
     * otherwise; NULL: not rowwise, the caller keeps the QWeight and dequantizes with qweight_rows. */
    void (*rows)(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, bool peer);
    /* Of a rowwise method whose rows are integers times one scale each: w[rows][in] becomes the integers, scale[rows] the
     * scales; rows is R(product of the two), bit for bit. NULL: no such form. */
    void (*codes)(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, float *scale);
    /* Of a rowwise method: whether this spec looks at the whole weight after all. NULL: never. */
    bool (*whole)(const QSpec *q, bool peer);
    /* Bytes beside w and the QWeight; NULL: few. */
    uint64_t (*scratch)(const QSpec *q, int64_t out, int64_t in, int threads);
} WeightQuantizer;

extern const ActQuantizer *const act_quantizer_table[];       /* NULL-terminated (core/registry.c) */
extern const WeightQuantizer *const weight_quantizer_table[]; /* NULL-terminated (core/registry.c) */
extern const WeightQuantizer weight_minmax_int8; /* the row that local_error computes with */

/* Running or mean extremes (specs/quantization.md 4): the observer of the minmax method. */
extern const ActObserver act_observer_minmax;
/* Feeds `samples` samples x[start[i] .. start[i+1])[width] with extremes mn and mx in order; those without a row are
 * passed over. */
void act_observe(const ActObserver *o, void *self, const float *x, const int64_t *start, int samples, int64_t width,
                 const float *mn, const float *mx, bool peer);
/* Where several ranks divide the samples: what act_observe would look at of this rank's, and the same call with it, for
 * one rank after the other in the order of the samples. The state is the same as if one had seen all of them. */
Status act_observe_pack(const ActObserver *o, const float *x, const int64_t *start, int samples, int64_t width,
                        const float *mn, const float *mx, Pack *out, Error *err);
Status act_observe_packed(const ActObserver *o, void *self, Unpack *in, bool peer, Error *err);
/* Fixed parameters of the range [mn, mx] as quantizer `a` has them. */
ActParam act_param_of(const ActQuantizer *a, const QSpec *q, float mn, float mx, DType T, bool peer);
/* As the peer's deployed dynamic quantizers compute (specs/quantization.md 8): one scale for every column of the
 * sample x[rows][in]. */
void act_columns(const ActQuantizer *a, const QSpec *q, const float *x, int64_t rows, int64_t in, int64_t ld, DType T,
                 float *out);

/* Whether rows() and blocks of rows may be used for this spec. */
bool weight_quantizer_rowwise(const WeightQuantizer *w, const QSpec *q, bool peer);
/* NULL when this build has none for the spec. */
const ActQuantizer *act_quantizer_find(const QSpec *q);
const WeightQuantizer *weight_quantizer_find(const QSpec *q);
/* What a recipe may name: the keys of all rows, then those that only the peer has; NULL behind the last. i counts up
 * from 0. */
const QuantKey *act_quantizer_key(int i);
const QuantKey *weight_quantizer_key(int i);
/* A level of an assignment with the rows that run it, looked up once; NULL where this build has none. */
typedef struct QuantLevel {
    const QConfig *config;
    const Scheme *scheme;
    const ActQuantizer *act;
    const WeightQuantizer *weight;
    bool runs; /* this build can quantize and measure a linear at it */
} QuantLevel;
QuantLevel quant_level(const QConfig *c);
/* quant_level(q).runs */
bool qconfig_runnable(const QConfig *q);

#endif
