#ifndef SLIM_MEASURE_REFERENCE_H
#define SLIM_MEASURE_REFERENCE_H

#include "measure/logitpass.h"
#include "measure/predicted.h"

/* The float model's part of every comparison. Zero-initialise. */
typedef struct Reference {
    bool have;
    Stream normed;   /* predicted rows of the evaluation set after the final norm */
    LogitRows rows;
    float *last;     /* calibration set: last decoder output, [rows][stream width] */
    uint64_t last_bytes;
} Reference;
/* From both sets behind the last layer. After an error there is none. */
Status reference_make(Reference *f, Runner *r, const Predicted *p, const Stream *calib, const Stream *eval, Error *err);
void reference_fini(Reference *f);
/* What it holds. */
uint64_t reference_bytes(const Reference *f);

#endif
