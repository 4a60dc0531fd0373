#include "measure/reference.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void reference_fini(Reference *f)
{
    stream_fini(&f->normed);
    logit_rows_fini(&f->rows);
    free(f->last);
    *f = (Reference){0};
}

Status reference_make(Reference *f, Runner *r, const Predicted *p, const Stream *calib, const Stream *eval, Error *err)
{
    size_t n = (size_t)calib->rows * (size_t)calib->width;
    f->last_bytes = n * sizeof *f->last;
    f->last = mem_array(n, sizeof *f->last);
    Status st = f->last ? predicted_rows(p, r, eval, &f->normed, err) : error_nomem(err, "the float reference");
    if (st == ST_OK) {
        memcpy(f->last, calib->data, n * sizeof *f->last);
        /* rounded logits and capped ones are not linear in the hidden state: no use for mean_w */
        bool linear = !arith_table[runner_arith(r)].rounds && runner_model(r)->cfg.final_softcap == 0;
        st = logit_rows_run(r, &f->normed, p->next, linear, &f->rows, err);
    }
    if (st == ST_DATA)
        error_prefix(err, st, "the float model: ");
    f->have = st == ST_OK;
    if (st != ST_OK)
        reference_fini(f);
    return st;
}

uint64_t reference_bytes(const Reference *f)
{
    uint64_t row = (uint64_t)f->normed.width * sizeof(float) * (f->rows.mean_w ? 2 : 1) + LOGIT_ROW_BYTES;
    return f->have ? f->last_bytes + (uint64_t)f->normed.rows * row : 0;
}
