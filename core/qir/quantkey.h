#ifndef SLIM_QIR_QUANTKEY_H
#define SLIM_QIR_QUANTKEY_H

#include <stdbool.h>

#include "qir/scheme.h"

/* Whose quantizer a key names. */
typedef enum QuantOwner {
    QUANT_BOTH, /* the peer's loader takes it and this build has it */
    QUANT_OURS, /* the peer's loader refuses it */
    QUANT_PEER, /* the peer's loader takes it, this build has none */
    QUANT_STEP  /* a processor's own: no qconfig names it */
} QuantOwner;

/* What a quantizer takes: a (method, dtype, scope, symmetric) of a qconfig's side (specs/quantization.md 2). */
typedef struct QuantKey {
    const char *method;
    QType dtype;
    QScope scope;
    int sym; /* 1, 0, or -1 = either */
    QuantOwner owner;
} QuantKey;

bool quantkey_takes(const QuantKey *k, const QSpec *q);

#endif
