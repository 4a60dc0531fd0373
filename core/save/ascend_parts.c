#include "save/ascend_parts.h"

#include <string.h>

/* One row a scheme: its tensors in write order. Shapes: [N,K], [N/2,K], [N,K/2], [N,G], [N], [1]. */
typedef enum PartId {
    P_END, P_CODE8, P_FP8, P_ROWS4, P_COLS4, P_FP4, P_QUANT_BIAS, P_IN_SCALE, P_IN_OFFSET, P_DEQ, P_SCALE, P_OFFSET,
    P_ZERO, P_SCALE_BIAS, P_EXPONENT, P_OUTER
} PartId;

typedef struct Form {
    const char *name;
    QScope scope;          /* of the weight, where a scheme is packed by it; QS_COUNT: any */
    const char *bias;      /* label of the bias */
    unsigned char part[8]; /* PartId, ends with P_END */
} Form;

static const Form forms[] = {
    {"W8A8", QS_COUNT, "FLOAT", {P_CODE8, P_QUANT_BIAS, P_IN_SCALE, P_IN_OFFSET, P_DEQ}},
    {"W8A8S", QS_COUNT, "FLOAT", {P_CODE8, P_QUANT_BIAS, P_IN_SCALE, P_IN_OFFSET, P_DEQ}},
    {"W8A8_MIX", QS_COUNT, "FLOAT", {P_CODE8, P_QUANT_BIAS, P_IN_SCALE, P_IN_OFFSET, P_DEQ, P_SCALE, P_ZERO}},
    {"W8A8_DYNAMIC", QS_COUNT, "FLOAT", {P_CODE8, P_SCALE, P_OFFSET}},
    {"W8A16", QS_COUNT, "FLOAT", {P_CODE8, P_SCALE, P_OFFSET}},
    {"W4A16", QS_PER_CHANNEL, "FLOAT", {P_COLS4, P_SCALE, P_OFFSET}},
    {"W4A16", QS_PER_GROUP, "FLOAT", {P_ROWS4, P_SCALE, P_OFFSET}},
    {"W4A8_DYNAMIC", QS_COUNT, "FLOAT", {P_ROWS4, P_SCALE, P_OFFSET, P_SCALE_BIAS}},
    {"W4A4_DYNAMIC", QS_COUNT, "FLOAT", {P_CODE8, P_SCALE, P_OFFSET}},
    {"WFP8AFP8_DYNAMIC", QS_COUNT, "FLOAT", {P_FP8, P_SCALE, P_ZERO}},
    {"W8A8_MXFP8", QS_COUNT, "FLOAT", {P_FP8, P_EXPONENT}},
    {"W4A8_MXFP", QS_COUNT, "FLOAT", {P_FP4, P_EXPONENT}},
    {"W4A4_MXFP4", QS_COUNT, "FLOAT", {P_FP4, P_EXPONENT}},
    {"W4A4_MXFP4_DUALSCALE", QS_COUNT, "W4A4_MXFP4_DUALSCALE", {P_FP4, P_EXPONENT, P_OUTER}},
};

typedef enum Dims { D_NK, D_N2K, D_NK2, D_NG, D_N, D_ONE, D_BIAS, D_OUTER } Dims;
static const struct {
    const char *suffix;
    SaveWhat what;
    DType dtype;
    Dims dims;
} parts[] = {
    [P_CODE8] = {".weight", SW_CODE, DT_I8, D_NK},
    [P_FP8] = {".weight", SW_CODE, DT_F8_E4M3, D_NK},
    [P_ROWS4] = {".weight", SW_INT4_ROWS, DT_I8, D_N2K},
    [P_COLS4] = {".weight", SW_INT4_COLS, DT_I8, D_NK2},
    [P_FP4] = {".weight", SW_FP4, DT_U8, D_NK2},
    [P_QUANT_BIAS] = {".quant_bias", SW_QUANT_BIAS, DT_I32, D_N},
    [P_IN_SCALE] = {".input_scale", SW_INPUT_SCALE, DT_F32, D_ONE},
    [P_IN_OFFSET] = {".input_offset", SW_INPUT_OFFSET, DT_F32, D_ONE},
    [P_DEQ] = {".deq_scale", SW_DEQ_SCALE, DT_F32, D_N},
    [P_SCALE] = {".weight_scale", SW_SCALE, DT_F32, D_NG},
    [P_OFFSET] = {".weight_offset", SW_OFFSET, DT_F32, D_NG},
    [P_ZERO] = {".weight_offset", SW_ZERO, DT_F32, D_NG},
    [P_SCALE_BIAS] = {".scale_bias", SW_SCALE_BIAS, DT_F32, D_BIAS},
    [P_EXPONENT] = {".weight_scale", SW_EXPONENT, DT_U8, D_NG},
    [P_OUTER] = {".weight_dual_scale", SW_OUTER, DT_F32, D_OUTER},
};

static int64_t groups_of(const QSpec *q, int64_t in)
{
    int64_t g = q->scope == QS_PER_GROUP ? (q->group_size > 0 ? q->group_size : 128)
                : q->dtype == QT_MXFP8 || q->dtype == QT_MXFP4 ? 32 : in;
    return g > 0 ? (in + g - 1) / g : 1;
}

static void set_shape(SavePart *p, Dims dims, const QSpec *q, const Linear *l, bool peer)
{
    int64_t n = l->out, k = l->in;
    int64_t d = q->ext.dual_block > 0 ? q->ext.dual_block : k;
    p->ndim = 2;
    switch (dims) {
    case D_NK: p->shape[0] = n; p->shape[1] = k; break;
    case D_N2K: p->shape[0] = n / 2; p->shape[1] = k; break;
    case D_NK2: p->shape[0] = n; p->shape[1] = k / 2; break;
    case D_NG: p->shape[0] = n; p->shape[1] = groups_of(q, k); break;
    case D_N: p->ndim = 1; p->shape[0] = n; break;
    case D_ONE: p->ndim = 1; p->shape[0] = 1; break;
    case D_BIAS: p->shape[0] = n; p->shape[1] = save_scale_bias_columns(l->name, k, peer); break;
    case D_OUTER: p->ndim = 3; p->shape[0] = n; p->shape[1] = (k + d - 1) / d; p->shape[2] = 1; break;
    }
}

static const Form *form_of(const char *name, QScope scope)
{
    for (size_t i = 0; name && i < sizeof forms / sizeof forms[0]; i++)
        if (strcmp(forms[i].name, name) == 0 && (forms[i].scope == QS_COUNT || forms[i].scope == scope))
            return &forms[i];
    return NULL;
}

int ascend_parts(const SavePlan *plan, int64_t i, bool wide_deq, SavePart out[SAVE_PARTS_MAX])
{
    const Linear *l = &plan->model->linears[i];
    const char *label = save_label(plan, i);
    const QSpec *q = label ? &plan->levels[plan->level[i] - 1].weight : NULL;
    const Form *f = q ? form_of(label, q->scope) : NULL;
    if (!f)
        return 0;
    int n = 0;
    for (; f->part[n] != P_END; n++) {
        int id = f->part[n];
        out[n] = (SavePart){.suffix = parts[id].suffix, .label = label, .what = parts[id].what,
                            .dtype = parts[id].dtype};
        set_shape(&out[n], parts[id].dims, q, l, plan->peer);
        if (id == P_DEQ && wide_deq && plan->model->cfg.dtype != DT_BF16)
            out[n].dtype = DT_I64;
        /* the peer leaves the offsets of dynamic groups out */
        if (id == P_OFFSET && plan->peer && strcmp(label, "W8A8_DYNAMIC") == 0)
            out[n].what = SW_ZERO;
    }
    if (save_has_bias(plan, i)) {
        out[n] = (SavePart){.suffix = ".bias", .label = f->bias, .what = SW_BIAS, .dtype = DT_F32, .ndim = 1,
                            .shape = {l->out}};
        n++;
    }
    return n;
}
