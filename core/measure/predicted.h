#ifndef SLIM_MEASURE_PREDICTED_H
#define SLIM_MEASURE_PREDICTED_H

#include <stdint.h>

#include "base/error.h"
#include "run/runner.h"
#include "text/calib.h"

/* The rows of an evaluation set that predict a token: all but the last of each window. */
typedef struct Predicted {
    int64_t n;
    int *sample_of;  /* [n] */
    int64_t *row_of; /* [n] row of the set's stream */
    int32_t *next;   /* [n] the token that follows */
} Predicted;
/* ST_DATA when nothing is predicted. Freed with predicted_fini, also after an error. */
Status predicted_init(Predicted *p, const TokenSet *t, Error *err);
/* The same of one rank's texts, which may predict nothing. */
Status predicted_list(Predicted *p, const TokenSet *t, Error *err);
void predicted_fini(Predicted *p);
/* Final norm of these rows of the set's last hidden states into *normed (initialised here). */
Status predicted_rows(const Predicted *p, Runner *r, const Stream *eval, Stream *normed, Error *err);

#endif
