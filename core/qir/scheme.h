#ifndef SLIM_QIR_SCHEME_H
#define SLIM_QIR_SCHEME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef enum QType { QT_FLOAT, QT_INT8, QT_INT4, QT_MXFP8, QT_MXFP4, QT_FP8_E4M3, QT_PLACEHOLDER, QT_COUNT } QType;
typedef enum QScope {
    QS_PER_TENSOR, QS_PER_CHANNEL, QS_PER_GROUP, QS_PER_BLOCK, QS_PER_TOKEN, QS_PD_MIX, QS_PER_HEAD, QS_DUAL_SCALE,
    QS_PLACEHOLDER, QS_COUNT
} QScope;
/* Names as in YAML ("int8", "per_channel"); -1 from the parse functions when unknown. */
const char *qtype_name(QType t);
const char *qscope_name(QScope s);
int qtype_parse(const char *s);
int qscope_parse(const char *s);

/* One side of a qconfig (specs/quantization.md 1). method is a name of the QuantMethod table ("minmax"). */
typedef struct QSpec {
    QType dtype;
    QScope scope;
    bool symmetric;
    char method[24];
    int64_t group_size;  /* ext, 0 = absent */
} QSpec;

typedef struct QConfig {
    QSpec act, weight;
} QConfig;

/* A pair that a saver can write (specs/quantization.md 2): a row of scheme_table. */
typedef struct Scheme {
    const char *name;      /* "W8A8", "W8A8_DYNAMIC", … */
    QType act_type; QScope act_scope; int act_sym;       /* sym: 1, 0, or -1 = either */
    QType weight_type; QScope weight_scope; int weight_sym;
    int weight_bits, act_bits;
    bool data_free;        /* needs no calibration pass */
    bool runnable;         /* this build quantizes and measures it */
    /* bytes the saver writes for a linear [out][in] without its bias */
    uint64_t (*bytes)(int64_t out, int64_t in, int64_t group);
} Scheme;
extern const Scheme scheme_table[]; /* ends with name == NULL */
/* Row for a qconfig, NULL when no saver can write the pair. */
const Scheme *scheme_find(const QConfig *q);
/* The default recipe's: act per_tensor int8 asymmetric minmax, weight per_channel int8 symmetric minmax. */
QConfig qconfig_default(void);
/* "W8A8 per_tensor asym" for people. */
void qconfig_describe(const QConfig *q, char *buf, int size);

#endif
