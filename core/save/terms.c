#include "save/terms.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/convert.h"
#include "model/weight.h"
#include "qir/round.h"
#include "run/source.h"

DType save_model_dtype(const SavePlan *plan, int64_t linear)
{
    return weight_dtype(&plan->model->linears[linear]);
}

void save_cast(const float *x, int64_t n, DType dtype, void *dst)
{
    int8_t *whole = dst;
    if (dtype != DT_I8) {
        source_encode(x, n, dtype, dst);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        whole[i] = (int8_t)fmaxf(-128.f, fminf(127.f, rintf(x[i])));
}

/* Σ q·s over n columns as torch's float32 sum does it on 8 lanes: four interleaved vector sums, each a cascade over
 * levels, then the lanes in order. */
typedef struct LaneSum {
    float acc[4][4][8]; /* level, interleave, lane */
} LaneSum;

static int level_power_of(int64_t size)
{
    int log2 = 0;
    while (((int64_t)1 << log2) < size)
        log2++;
    return log2 / 4 > 4 ? log2 / 4 : 4;
}

static void cascade(LaneSum *s, const int8_t *q, float scale, int64_t size)
{
    int power = level_power_of(size);
    int64_t step = (int64_t)1 << power, mask = step - 1, i = 0;
    memset(s, 0, sizeof *s);
    while (i < size) {
        int64_t stop = i + step <= size ? i + step : size;
        bool whole = stop - i == step;
        for (; i < stop; i++)
            for (int k = 0; k < 4; k++)
                for (int v = 0; v < 8; v++)
                    s->acc[0][k][v] += (float)q[(i * 4 + k) * 8 + v] * scale;
        for (int j = 1; whole && j < 4; j++) {
            for (int k = 0; k < 4; k++)
                for (int v = 0; v < 8; v++) {
                    s->acc[j][k][v] += s->acc[j - 1][k][v];
                    s->acc[j - 1][k][v] = 0;
                }
            if ((i & (mask << (j * power))) != 0)
                break;
        }
    }
    for (int j = 1; j < 4; j++)
        for (int k = 0; k < 4; k++)
            for (int v = 0; v < 8; v++)
                s->acc[0][k][v] += s->acc[j][k][v];
}

static float peer_sum(const int8_t *q, float scale, int64_t n)
{
    LaneSum s;
    int64_t vecs = n / 8, quads = vecs / 4;
    cascade(&s, q, scale, quads);
    float *lane = s.acc[0][0];
    for (int64_t i = quads * 4; i < vecs; i++)
        for (int v = 0; v < 8; v++)
            lane[v] += (float)q[i * 8 + v] * scale;
    for (int k = 1; k < 4; k++)
        for (int v = 0; v < 8; v++)
            lane[v] += s.acc[0][k][v];
    float sum = 0;
    for (int64_t i = vecs * 8; i < n; i++)
        sum += (float)q[i] * scale;
    for (int v = 0; v < 8 && vecs; v++)
        sum += lane[v];
    return sum;
}

static int64_t code_sum(const int8_t *q, int64_t n)
{
    int64_t sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += q[k];
    return sum;
}

static void scale_bias(const SavePlan *plan, const SaveLinear *l, int64_t cols, float *out)
{
    const QWeight *w = l->weight;
    bool whole = scale_bias_of(plan->model->linears[l->linear].name, plan->peer) == SCALE_BIAS_WHOLE;
    int64_t chunk = plan->peer ? w->in / cols : div_up(w->in, cols);
    for (int64_t o = 0; o < w->out; o++) {
        const int8_t *q = (const int8_t *)w->code + o * w->in;
        for (int64_t c = 0; c < cols; c++) {
            int64_t begin = c * chunk < w->in ? c * chunk : w->in, n = w->in - begin < chunk ? w->in - begin : chunk;
            if (whole)
                out[o * cols + c] = (float)q[begin] * w->scale[o];
            else if (plan->peer)
                out[o * cols + c] = 8 * peer_sum(q + begin, w->scale[o], n);
            else
                out[o * cols + c] = (float)(8 * (double)code_sum(q + begin, n) * (double)w->scale[o]);
        }
    }
}

/* deq_scale[n] as float32 (formats.md 7): rounded to the common dtype of its factors by the peer. */
static float deq_of(const SavePlan *plan, const SaveLinear *l, int64_t o, DType md)
{
    float deq = l->act.scale * l->weight->scale[o];
    return plan->peer && l->act_dtype == md ? round_to_dtype(deq, md) : deq;
}

static void deq_scale(const SavePlan *plan, const SaveLinear *l, DType dtype, void *out)
{
    DType md = save_model_dtype(plan, l->linear);
    for (int64_t o = 0; o < l->weight->out; o++) {
        float d = deq_of(plan, l, o, md);
        if (dtype == DT_I64)
            ((int64_t *)out)[o] = (int32_t)bits_of_float(d);
        else
            ((float *)out)[o] = d;
    }
}

static int32_t peer_int(float v)
{
    return v >= -0x1p31f && v < 0x1p31f ? (int32_t)v : INT32_MIN; /* NaN too */
}

static int32_t near_int(double v)
{
    if (isnan(v))
        return 0;
    return v <= INT32_MIN ? INT32_MIN : v >= INT32_MAX ? INT32_MAX : (int32_t)v;
}

static void quant_bias(const SavePlan *plan, const SaveLinear *l, int32_t *out)
{
    const QWeight *w = l->weight;
    DType md = save_model_dtype(plan, l->linear);
    for (int64_t o = 0; o < w->out; o++) {
        const int8_t *q = (const int8_t *)w->code + o * w->in;
        int64_t sum = code_sum(q, w->in);
        if (!plan->peer) {
            double deq = (double)l->act.scale * (double)w->scale[o];
            double b = l->bias && l->bias[o] != 0 ? (double)l->bias[o] / deq : 0;
            out[o] = near_int(rint(b - (double)sum * (double)l->act.offset));
            continue;
        }
        float deq = deq_of(plan, l, o, md);
        float b = l->bias ? l->bias[o] / deq : 0.f / deq;
        if (l->bias && l->act_dtype == md)
            b = round_to_dtype(b, md);
        out[o] = peer_int(rintf(b - (float)sum * l->act.offset));
    }
}

static void pack_rows(const QWeight *w, uint8_t *out)
{
    for (int64_t o = 0; o < w->out / 2; o++) {
        const uint8_t *even = w->code + 2 * o * w->in, *odd = even + w->in;
        for (int64_t k = 0; k < w->in; k++)
            out[o * w->in + k] = (uint8_t)(odd[k] << 4 | (even[k] & 15));
    }
}

static void pack_columns(const QWeight *w, uint8_t *out)
{
    int64_t n = w->out * w->in / 2; /* rows are even, so pairs never cross them */
    for (int64_t i = 0; i < n; i++)
        out[i] = (uint8_t)(w->code[2 * i + 1] << 4 | (w->code[2 * i] & 15));
}

/* The values of a weight that stays float, as float32. */
static const void *widened(const QWeight *w, float *out)
{
    qweight_rows(w, 0, w->out, DT_F32, out);
    return out;
}

static void offsets(const QWeight *w, float *out)
{
    int64_t n = w->out * w->groups;
    if (w->offset)
        memcpy(out, w->offset, (size_t)n * sizeof *out);
    else
        memset(out, 0, (size_t)n * sizeof *out);
}

Status save_part_data(const SavePlan *plan, const SaveLinear *l, const QPart *p, void **buf, size_t *cap,
                      const void **data, Error *err)
{
    const QWeight *w = l->weight;
    int64_t count = 1;
    for (int d = 0; d < p->ndim; d++)
        count *= p->shape[d];
    size_t bytes = (size_t)count * (size_t)dtype_size(p->dtype);
    bool borrowed = p->kind == PART_CODE || p->kind == PART_EXPONENT || (p->kind == PART_FLOAT && p->dtype == w->half);
    if (!borrowed && !mem_grow(buf, cap, bytes ? bytes : 1, 1))
        return error_nomem(err, plan->model->linears[l->linear].name);
    *data = *buf;
    switch (p->kind) {
    case PART_CODE: *data = w->code; break;
    case PART_EXPONENT: *data = w->exponent; break;
    case PART_FLOAT: *data = p->dtype == w->half ? w->code : widened(w, *buf); break;
    case PART_INT4_ROWS: pack_rows(w, *buf); break;
    case PART_FP4: pack_columns(w, *buf); break;
    case PART_SCALE: save_cast(w->scale, count, p->dtype, *buf); break;
    case PART_OFFSET: offsets(w, *buf); break;
    case PART_ZERO: memset(*buf, 0, bytes); break;
    case PART_OUTER: memcpy(*buf, w->outer, bytes); break;
    case PART_SCALE_BIAS: scale_bias(plan, l, p->shape[1], *buf); break;
    case PART_INPUT_SCALE: save_cast(&l->act.scale, 1, p->dtype, *buf); break;
    case PART_INPUT_OFFSET: save_cast(&l->act.offset, 1, p->dtype, *buf); break;
    case PART_DEQ_SCALE: deq_scale(plan, l, p->dtype, *buf); break;
    case PART_QUANT_BIAS: quant_bias(plan, l, *buf); break;
    case PART_BIAS: save_cast(l->bias, count, p->dtype, *buf); break;
    }
    return ST_OK;
}
