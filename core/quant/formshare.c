#include "quant/forms.h"

/* A quantized weight goes from the rank that made it to the others. */

/* What quantize finds beside the arrays. */
typedef struct Found {
    int64_t zeros;
    int32_t half;
} Found;

static Status array(const FormMakers *m, int from, void *data, int64_t n, size_t size, Error *err)
{
    return data ? dist_from(m->dist, from, data, (size_t)n * size, err) : ST_OK;
}

static Status arrays(const FormMakers *m, int from, QWeight *q, Error *err)
{
    const int64_t params = q->out * q->groups;
    Found found = {q->zeros, (int32_t)q->half};
    RETURN_IF_ERROR(array(m, from, &found, 1, sizeof found, err));
    q->zeros = found.zeros;
    q->half = (DType)found.half;
    RETURN_IF_ERROR(array(m, from, q->code, q->out * q->in, qweight_code(q->dtype), err));
    RETURN_IF_ERROR(array(m, from, q->scale, params, sizeof *q->scale, err));
    RETURN_IF_ERROR(array(m, from, q->offset, params, sizeof *q->offset, err));
    RETURN_IF_ERROR(array(m, from, q->exponent, params, sizeof *q->exponent, err));
    return array(m, from, q->outer, q->out * q->outer_blocks, sizeof *q->outer, err);
}

Status form_share(const FormMakers *m, int64_t linear, QWeight *q, const QSpec *spec, int64_t out, int64_t in, Error *err)
{
    const bool own = form_is_own(m, linear);
    if (!own)
        RETURN_IF_ERROR(qweight_init(q, spec, out, in, err));
    Status st = arrays(m, m->rank[linear], q, err);
    if (st != ST_OK && !own)
        qweight_fini(q);
    return st;
}
