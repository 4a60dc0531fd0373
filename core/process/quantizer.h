#ifndef SLIM_PROCESS_QUANTIZER_H
#define SLIM_PROCESS_QUANTIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "io/safetensors.h"
#include "qir/intquant.h"
#include "qir/scheme.h"

/* What a quantizer takes: a (method, dtype, scope, symmetric) of a qconfig's side (specs/quantization.md 2). */
typedef struct QuantKey {
    const char *method; /* NULL: any, it says nothing (float) */
    QType dtype;
    QScope scope;
    int sym; /* 1, 0, or -1 = either */
} QuantKey;

/* Activation quantizer: a row of act_quantizer_table. */
typedef struct ActQuantizer {
    QuantKey key;
    bool calibrated; /* its parameters come from a calibration pass and stay fixed afterwards */
    /* Parameters of the range [mn, mx]; NULL: leaves its input as it is. */
    QParam (*param)(const QSpec *q, float mn, float mx, DType T);
    /* Fake-quantizes x[rows][in] (ld floats a row) into out[rows][in]. p: parameters of all these rows, or NULL: of
     * each row its own. */
    void (*rows)(const QSpec *q, const QParam *p, const float *x, int64_t rows, int64_t in, int64_t ld, DType T,
                 float *out);
} ActQuantizer;

/* Weight quantizer that needs nothing but the weight's rows: a row of weight_quantizer_table. */
typedef struct WeightQuantizer {
    QuantKey key;
    /* Fake-quantizes w[rows][in], whole output rows, in place. */
    void (*rows)(const QSpec *q, float *w, int64_t rows, int64_t in, DType T);
} WeightQuantizer;

extern const ActQuantizer *const act_quantizer_table[];       /* NULL-terminated (core/registry.c) */
extern const WeightQuantizer *const weight_quantizer_table[]; /* NULL-terminated (core/registry.c) */
extern const ActQuantizer act_float, act_minmax_tensor, act_minmax_token;
extern const WeightQuantizer weight_minmax_int8, weight_minmax_int4;

/* NULL when this build has none for the spec. */
const ActQuantizer *act_quantizer_find(const QSpec *q);
const WeightQuantizer *weight_quantizer_find(const QSpec *q);
/* Whether this build can quantize and measure a linear at `q`. */
bool qconfig_runnable(const QConfig *q);

#endif
