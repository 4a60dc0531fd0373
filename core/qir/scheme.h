#ifndef SLIM_QIR_SCHEME_H
#define SLIM_QIR_SCHEME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/dtype.h"

typedef enum QType { QT_FLOAT, QT_INT8, QT_INT4, QT_MXFP8, QT_MXFP4, QT_FP8_E4M3, QT_PLACEHOLDER, QT_COUNT } QType;
typedef enum QScope {
    QS_PER_TENSOR, QS_PER_CHANNEL, QS_PER_GROUP, QS_PER_BLOCK, QS_PER_TOKEN, QS_PD_MIX, QS_PER_HEAD, QS_DUAL_SCALE,
    QS_PLACEHOLDER, QS_COUNT
} QScope;
/* Names as in YAML ("int8", "per_channel"), NULL behind the last; -1 from the parse functions when unknown. */
extern const char *const qtype_names[QT_COUNT + 1], *const qscope_names[QS_COUNT + 1];
const char *qtype_name(QType t);
const char *qscope_name(QScope s);
int qtype_parse(const char *s);
int qscope_parse(const char *s);

/* ext of a qconfig's side (specs/quantization.md 1); 0 or false: absent, the method's default holds. */
typedef struct QExt {
    bool mean;             /* minmax activations: aggregation_type mean */
    int steps;             /* ssz */
    double percdamp;       /* gptq, share of the mean of the Hessian's diagonal */
    int64_t block_size;    /* gptq, input columns */
    bool act_order;        /* gptq, ours: columns by falling diagonal */
    bool search;           /* ceil_x */
    double ceil_x, search_min, search_max, search_step;
    int64_t dual_block;    /* dualscale */
    double fraction;       /* w8a8s, ours: share of outliers */
} QExt;

/* One side of a qconfig (specs/quantization.md 1). method is a name of the QuantMethod table ("minmax"). */
typedef struct QSpec {
    QType dtype;
    QScope scope;
    bool symmetric;
    char method[24];
    int64_t group_size;  /* ext, 0 = absent */
    QExt ext;
} QSpec;

typedef struct QConfig {
    QSpec act, weight;
} QConfig;

/* A pair that a saver can write (specs/quantization.md 2): a row of scheme_table. */
typedef struct Scheme {
    const char *name;      /* "W8A8", "W8A8_DYNAMIC", … */
    QType act_type; QScope act_scope; int act_sym;       /* sym: 1, 0, or -1 = either */
    QType weight_type; QScope weight_scope; int weight_sym;
    const char *weight_method; /* only with this method; NULL: any that no row before this one asks for */
    int weight_bits, act_bits;
    bool data_free;        /* needs no calibration pass */
    bool runnable;         /* this build quantizes and measures it */
    /* bytes the ascendv1 saver writes for a linear [out][in] without its bias (specs/formats.md 7), of a bf16 model;
     * scale_bias of W4A8_DYNAMIC as for q/k/v/gate/up. group: of a per_group row, else ignored. scheme_bytes knows the
     * rest. */
    uint64_t (*bytes)(int64_t out, int64_t in, int64_t group);
    bool deq_scale; /* writes deq_scale: 8 bytes an entry instead of 4 unless the model is bf16 */
} Scheme;
extern const Scheme scheme_table[]; /* ends with name == NULL */
/* Row for a qconfig, NULL when no saver can write the pair. */
const Scheme *scheme_find(const QConfig *q);
/* Exactly what the saver writes for the linear called `name` of a model of dtype `model`, without its bias. */
uint64_t scheme_bytes(const Scheme *s, const char *name, int64_t out, int64_t in, int64_t group, DType model);
/* group_size of a qconfig's weight with its default (128) filled in; 0 when it isn't per_group. */
int64_t qconfig_group(const QConfig *q);
/* Same quantization: every field that can change a number. */
bool qconfig_equal(const QConfig *a, const QConfig *b);
/* Every field that can change a number, for cache keys. */
void qspec_hash(Hasher *h, const QSpec *q);
/* The same as a quick 64-bit key; it may be written to a file. */
uint64_t qspec_key(const QSpec *q);
/* The default recipe's: act per_tensor int8 asymmetric minmax, weight per_channel int8 symmetric minmax. */
QConfig qconfig_default(void);
/* "W8A8 per_tensor asym" for people. */
void qconfig_describe(const QConfig *q, char *buf, int size);

#endif
