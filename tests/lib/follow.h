#ifndef SLIM_TEST_FOLLOW_H
#define SLIM_TEST_FOLLOW_H

#include "measure/effect.h"
#include "process/pipeline.h"

/* A run of the pipeline whose sink only looks: both sets behind the last layer, and what calibration found. */
typedef struct Follow {
    const TokenSet *calib, *eval; /* eval NULL: none */
    int64_t spoiled;              /* a value of the embedded calibration that becomes NaN, -1: none */
    Runner *r;                    /* set by follow_run */
    Stream s[2];                  /* as the finished layers leave them: calibration (the pipeline's own), evaluation */
    QParam *param;                /* [nlinears] fixed parameters of inputs, scale 0: none */
    int64_t unseen;               /* linears that stayed float */
} Follow;
/* Runs a work that leaves the model as it is: r does not see the pipeline's overlay. Set calib, eval and spoiled before;
 * what it leaves is freed with follow_fini, also after an error. */
Status follow_run(Follow *f, Runner *r, const Work *w, Error *err);
void follow_fini(Follow *f);
/* The sink by itself, for a run with others; f->r and f->param [nlinears, zeroed] are set by the user. */
Sink follow_sink(Follow *f);
/* effectlab_measure of a work. */
Status measure_work(EffectLab *lab, Runner *r, const Work *w, Effect *out, Error *err);

#endif
