#include "qir/part.h"

#include <string.h>

#include "base/num.h"

/* Shapes: [N,K], [N/2,K], [N,K/2], [N,G], [N], [1]. */
typedef enum Dims { D_NK, D_N2K, D_NK2, D_NG, D_N, D_ONE, D_SLICES, D_OUTER } Dims;

static const struct {
    const char *suffix;
    QPartKind kind;
    DType dtype;
    Dims dims;
} parts[] = {
    [P_CODE8] = {".weight", PART_CODE, DT_I8, D_NK},
    [P_FP8] = {".weight", PART_CODE, DT_F8_E4M3, D_NK},
    [P_ROWS4] = {".weight", PART_INT4_ROWS, DT_I8, D_N2K},
    [P_FP4] = {".weight", PART_FP4, DT_U8, D_NK2},
    [P_QUANT_BIAS] = {".quant_bias", PART_QUANT_BIAS, DT_I32, D_N},
    [P_IN_SCALE] = {".input_scale", PART_INPUT_SCALE, DT_F32, D_ONE},
    [P_IN_OFFSET] = {".input_offset", PART_INPUT_OFFSET, DT_F32, D_ONE},
    [P_DEQ] = {".deq_scale", PART_DEQ_SCALE, DT_F32, D_N},
    [P_SCALE] = {".weight_scale", PART_SCALE, DT_F32, D_NG},
    [P_OFFSET] = {".weight_offset", PART_OFFSET, DT_F32, D_NG},
    [P_ZERO] = {".weight_offset", PART_ZERO, DT_F32, D_NG},
    [P_SCALE_BIAS] = {".scale_bias", PART_SCALE_BIAS, DT_F32, D_SLICES},
    [P_EXPONENT] = {".weight_scale", PART_EXPONENT, DT_U8, D_NG},
    [P_OUTER] = {".weight_dual_scale", PART_OUTER, DT_F32, D_OUTER},
    [P_FLOAT] = {".weight", PART_FLOAT, DT_F32, D_NK}, /* the model's own type: scheme_parts */
    [P_BIAS] = {".bias", PART_BIAS, DT_F32, D_N},
};

QPart part_make(QPartId id, const QPartOf *of)
{
    int64_t n = of->out, k = of->in;
    QPart p = {.suffix = parts[id].suffix, .kind = parts[id].kind, .dtype = parts[id].dtype, .ndim = 2,
               .shape = {n, k}};
    switch (parts[id].dims) {
    case D_NK: break;
    case D_N2K: p.shape[0] = div_up(n, 2); break;
    case D_NK2: p.shape[1] = div_up(k, 2); break;
    case D_NG: p.shape[1] = div_up(k, of->group); break;
    case D_N: p.ndim = 1; p.shape[1] = 0; break;
    case D_ONE: p.ndim = 1; p.shape[0] = 1; p.shape[1] = 0; break;
    case D_SLICES: p.shape[1] = scale_bias_columns(of->name, k, of->peer); break;
    case D_OUTER: p.ndim = 3; p.shape[1] = of->outer > 0 ? div_up(k, of->outer) : 1; p.shape[2] = 1; break;
    }
    return p;
}

uint64_t part_bytes(const QPart *p)
{
    uint64_t n = (uint64_t)dtype_size(p->dtype);
    for (int d = 0; d < p->ndim; d++)
        n *= (uint64_t)p->shape[d];
    return n;
}

/* ---- scale_bias ---- */

enum { TP = 16 }; /* slices of a row-parallel linear: the runtime's tensor parallelism */

static bool has_any(const char *name, const char *const *words)
{
    for (; *words; words++)
        if (strstr(name, *words))
            return true;
    return false;
}

/* The peer looks anywhere in the path; otherwise the module's own name decides, and what is unknown is summed. */
ScaleBias scale_bias_of(const char *name, bool peer)
{
    static const char *const summed[] = {"up_proj", "gate_proj", "q_proj", "k_proj", "v_proj", "w1", "w3", NULL};
    static const char *const sliced[] = {"down_proj", "o_proj", "w2", NULL};
    const char *dot = strrchr(name, '.');
    const char *what = peer || !dot ? name : dot + 1;
    if (has_any(what, summed))
        return SCALE_BIAS_SUMMED;
    if (has_any(what, sliced))
        return SCALE_BIAS_SLICED;
    return peer ? SCALE_BIAS_WHOLE : SCALE_BIAS_SUMMED;
}

int64_t scale_bias_columns(const char *name, int64_t in, bool peer)
{
    ScaleBias rule = scale_bias_of(name, peer);
    if (rule != SCALE_BIAS_SLICED)
        return rule == SCALE_BIAS_SUMMED ? 1 : in;
    if (!peer)
        return TP;
    int64_t chunk = in / TP;
    return chunk && in % chunk == 0 ? in / chunk : 0;
}
