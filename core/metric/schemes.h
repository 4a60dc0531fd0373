#ifndef SLIM_METRIC_SCHEMES_H
#define SLIM_METRIC_SCHEMES_H

#include "qir/scheme.h"
#include "run/runner.h"

/* Schemes held against each other on one model, by what they lose of its weights: no data, one reading. */
typedef struct SchemeLoss {
    QConfig q;
    int64_t linears;      /* that it fits */
    int64_t unfit;        /* that it does not fit, or that have no error: a NaN */
    double mean;          /* relative error, over the linears */
    double worst;
    int64_t worst_linear; /* -1: there is none */
    double sqnr;          /* dB, of all of their values together; infinite: nothing is lost */
    uint64_t bytes;       /* of those linears as they are written */
    double bits;          /* a value takes of them */
} SchemeLoss;
/* Fills rows[n], whose q are given. ST_CANCELLED once the runner's cancel was raised. */
Status schemes_compare(Runner *r, SchemeLoss *rows, int n, Error *err);

#endif
