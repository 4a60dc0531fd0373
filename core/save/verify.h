#ifndef SLIM_SAVE_VERIFY_H
#define SLIM_SAVE_VERIFY_H

#include "base/pool.h"
#include "save/format.h"

/* Reads an output again, from the files alone, and compares it with the model it was made from: `quant --verify`. */
typedef struct VerifyRow {
    int64_t linear;
    char label[32];      /* as the output calls it; "FLOAT" when its bytes are the model's */
    double error;        /* ‖W − Ŵ‖ / ‖W‖ (Frobenius); NaN when it could not be read or W is all 0 and Ŵ is not */
} VerifyRow;

enum { VERIFY_PROBLEMS = 20 };
typedef struct VerifyReport {
    VerifyRow *rows;     /* linears in the order of the output */
    int64_t n, quantized;
    int64_t worst;       /* index into rows, -1: nothing is quantized */
    uint64_t bytes;      /* of tensors read */
    int64_t problems;    /* tensors that are missing, of a wrong shape or type, different, or not expected */
    char problem[VERIFY_PROBLEMS][320]; /* the first of them, one line each */
} VerifyReport;

/* plan: the one it was written with; f: the saver's. ST_OK whether or not there are problems; an output that can't
 * be opened is an error. One linear is in memory at a time. Freed with verify_free, also after an error. */
Status save_verify(const SavePlan *plan, const SaveFormat *f, VerifyReport *out, const Cancel *cancel, Error *err);
void verify_free(VerifyReport *r);

#endif
