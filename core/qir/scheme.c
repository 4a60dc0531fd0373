#include "qir/scheme.h"

#include <stdio.h>
#include <string.h>

#include "model/weight.h"
#include "qir/mx.h"

const char *const qtype_names[QT_COUNT + 1] = {
    [QT_FLOAT] = "float", [QT_INT8] = "int8",         [QT_INT4] = "int4",              [QT_MXFP8] = "mxfp8",
    [QT_MXFP4] = "mxfp4", [QT_FP8_E4M3] = "fp8_e4m3", [QT_PLACEHOLDER] = "placeholder",
};

const char *const qscope_names[QS_COUNT + 1] = {
    [QS_PER_TENSOR] = "per_tensor", [QS_PER_CHANNEL] = "per_channel", [QS_PER_GROUP] = "per_group",
    [QS_PER_BLOCK] = "per_block",   [QS_PER_TOKEN] = "per_token",     [QS_PD_MIX] = "pd_mix",
    [QS_PER_HEAD] = "per_head",     [QS_DUAL_SCALE] = "dual_scale",   [QS_PLACEHOLDER] = "placeholder",
};

static int parse(const char *const *names, int n, const char *s)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], s) == 0)
            return i;
    return -1;
}

const char *qtype_name(QType t)
{
    return (unsigned)t < QT_COUNT ? qtype_names[t] : "?";
}

const char *qscope_name(QScope s)
{
    return (unsigned)s < QS_COUNT ? qscope_names[s] : "?";
}

int qtype_parse(const char *s)
{
    return parse(qtype_names, QT_COUNT, s);
}

int qscope_parse(const char *s)
{
    return parse(qscope_names, QS_COUNT, s);
}

/* ---- the pairs ---- */

enum { EITHER = -1 };

#define STATIC_PARTS P_CODE8, P_QUANT_BIAS, P_IN_SCALE, P_IN_OFFSET, P_DEQ

/* Every row of specs/quantization.md 2 that is a pair of a linear; FLOAT, C8 and FAQuant are not. W16A16S is what the
 * processor float_sparse makes. Ours: W8A8S
 * (14; written as W8A8) and W4A16. */
const Scheme scheme_table[] = {
    {.name = "W8A8S", .svd = "W8A8S_SVD", .act_type = QT_INT8, .act_scope = QS_PER_TENSOR, .act_sym = EITHER,
     .weight_type = QT_INT8, .weight_scope = QS_PER_CHANNEL, .weight_sym = 1, .weight_method = "w8a8s",
     .weight_bits = 8, .act_bits = 8, .runnable = true, .part = {STATIC_PARTS}},
    {.name = "W8A8", .svd = "W8A8_SVD", .act_type = QT_INT8, .act_scope = QS_PER_TENSOR, .act_sym = EITHER,
     .weight_type = QT_INT8, .weight_scope = QS_PER_CHANNEL, .weight_sym = 1,
     .weight_bits = 8, .act_bits = 8, .runnable = true, .part = {STATIC_PARTS}},
    {.name = "W8A8_DYNAMIC", .svd = "W8A8_SVD_DYNAMIC", .act_type = QT_INT8, .act_scope = QS_PER_TOKEN, .act_sym = 1,
     .weight_type = QT_INT8, .weight_scope = QS_PER_CHANNEL, .weight_sym = 1,
     .weight_bits = 8, .act_bits = 8, .data_free = true, .runnable = true, .part = {P_CODE8, P_SCALE, P_OFFSET},
     .peer_zero = true},
    {.name = "W8A8_DYNAMIC", .svd = "W8A8_SVD_DYNAMIC", .act_type = QT_INT8, .act_scope = QS_PER_TOKEN, .act_sym = 1,
     .weight_type = QT_INT8, .weight_scope = QS_PER_GROUP, .weight_sym = EITHER,
     .weight_bits = 8, .act_bits = 8, .runnable = true, .part = {P_CODE8, P_SCALE, P_OFFSET},
     .peer_zero = true},
    {.name = "W8A8_MIX", .svd = "W8A8_MIX_SVD", .act_type = QT_INT8, .act_scope = QS_PD_MIX, .act_sym = 0,
     .weight_type = QT_INT8, .weight_scope = QS_PER_CHANNEL, .weight_sym = 1,
     .weight_bits = 8, .act_bits = 8, .runnable = true, .part = {STATIC_PARTS, P_SCALE, P_ZERO}},
    {.name = "W4A8_DYNAMIC", .svd = "W4A8_SVD_DYNAMIC", .act_type = QT_INT8, .act_scope = QS_PER_TOKEN, .act_sym = 1,
     .weight_type = QT_INT4, .weight_scope = QS_PER_CHANNEL, .weight_sym = 1,
     .weight_bits = 4, .act_bits = 8, .data_free = true, .runnable = true,
     .part = {P_ROWS4, P_SCALE, P_OFFSET, P_SCALE_BIAS}},
    {.name = "W4A4_DYNAMIC", .svd = "W4A4_SVD_DYNAMIC", .act_type = QT_INT4, .act_scope = QS_PER_TOKEN, .act_sym = 1,
     .weight_type = QT_INT4, .weight_scope = QS_PER_CHANNEL, .weight_sym = EITHER,
     .weight_bits = 4, .act_bits = 4, .data_free = true, .runnable = true, .part = {P_CODE8, P_SCALE, P_OFFSET}},
    {.name = "W4A4_DYNAMIC", .svd = "W4A4_SVD_DYNAMIC", .act_type = QT_INT4, .act_scope = QS_PER_TOKEN, .act_sym = 1,
     .weight_type = QT_INT4, .weight_scope = QS_PER_GROUP, .weight_sym = EITHER,
     .weight_bits = 4, .act_bits = 4, .data_free = true, .runnable = true, .part = {P_CODE8, P_SCALE, P_OFFSET}},
    {.name = "W8A16", .svd = "W8A16_SVD", .act_type = QT_FLOAT, .act_scope = QS_PER_TENSOR, .act_sym = 1,
     .weight_type = QT_INT8, .weight_scope = QS_PER_CHANNEL, .weight_sym = EITHER,
     .weight_bits = 8, .act_bits = 16, .data_free = true, .runnable = true, .part = {P_CODE8, P_SCALE, P_OFFSET}},
    {.name = "W8A16", .svd = "W8A16_SVD", .act_type = QT_FLOAT, .act_scope = QS_PER_TENSOR, .act_sym = 1,
     .weight_type = QT_INT8, .weight_scope = QS_PER_GROUP, .weight_sym = EITHER,
     .weight_bits = 8, .act_bits = 16, .runnable = true, .part = {P_CODE8, P_SCALE, P_OFFSET}},
    {.name = "W4A16", .svd = "W4A16_SVD", .act_type = QT_FLOAT, .act_scope = QS_PER_TENSOR, .act_sym = 1,
     .weight_type = QT_INT4, .weight_scope = QS_PER_GROUP, .weight_sym = EITHER,
     .weight_bits = 4, .act_bits = 16, .data_free = true, .runnable = true, .ours = true, .part = {P_ROWS4, P_SCALE, P_OFFSET}},
    {.name = "WFP8AFP8_DYNAMIC", .svd = "WFP8AFP8_SVD_DYNAMIC", .act_type = QT_FP8_E4M3, .act_scope = QS_PER_TOKEN, .act_sym = 1,
     .weight_type = QT_FP8_E4M3, .weight_scope = QS_PER_CHANNEL, .weight_sym = 1,
     .weight_bits = 8, .act_bits = 8, .data_free = true, .runnable = true, .part = {P_FP8, P_SCALE, P_ZERO}},
    {.name = "W8A8_MXFP8", .svd = "W8A8_MXFP8_SVD", .act_type = QT_MXFP8, .act_scope = QS_PER_BLOCK, .act_sym = 1,
     .weight_type = QT_MXFP8, .weight_scope = QS_PER_BLOCK, .weight_sym = 1,
     .weight_bits = 8, .act_bits = 8, .data_free = true, .runnable = true, .part = {P_FP8, P_EXPONENT}},
    {.name = "W4A8_MXFP", .svd = "W4A8_MXFP_SVD", .act_type = QT_MXFP8, .act_scope = QS_PER_BLOCK, .act_sym = 1,
     .weight_type = QT_MXFP4, .weight_scope = QS_PER_BLOCK, .weight_sym = 1,
     .weight_bits = 4, .act_bits = 8, .data_free = true, .runnable = true, .part = {P_FP4, P_EXPONENT}},
    {.name = "W4A4_MXFP4", .svd = "W4A4_MXFP4_SVD", .act_type = QT_MXFP4, .act_scope = QS_PER_BLOCK, .act_sym = 1,
     .weight_type = QT_MXFP4, .weight_scope = QS_PER_BLOCK, .weight_sym = 1,
     .weight_bits = 4, .act_bits = 4, .data_free = true, .runnable = true, .part = {P_FP4, P_EXPONENT}},
    {.name = "W4A4_MXFP4_DUALSCALE", .svd = "W4A4_MXFP4_DUALSCALE_SVD", .act_type = QT_MXFP4, .act_scope = QS_DUAL_SCALE, .act_sym = 1,
     .weight_type = QT_MXFP4, .weight_scope = QS_DUAL_SCALE, .weight_sym = 1,
     .weight_bits = 4, .act_bits = 4, .data_free = true, .runnable = true, .part = {P_FP4, P_EXPONENT, P_OUTER},
     .labels_bias = true},
    {.name = "W16A16S", .svd = "W16A16S_SVD", .act_type = QT_FLOAT, .act_scope = QS_PER_TENSOR, .act_sym = 1,
     .weight_type = QT_FLOAT, .weight_scope = QS_PER_TENSOR, .weight_sym = 1, .weight_method = "admm",
     .weight_bits = 16, .act_bits = 16, .runnable = true, .part = {P_FLOAT}, .labels_bias = true, .plain_bias = true},
    {.name = NULL},
};

bool qspec_fits(const QSpec *q, QType type, QScope scope, int sym)
{
    return q->dtype == type && q->scope == scope && (sym == EITHER || (sym != 0) == q->symmetric);
}

const Scheme *scheme_find(const QConfig *q)
{
    for (const Scheme *s = scheme_table; s->name; s++)
        if ((!s->weight_method || strcmp(s->weight_method, q->weight.method) == 0)
            && qspec_fits(&q->act, s->act_type, s->act_scope, s->act_sym)
            && qspec_fits(&q->weight, s->weight_type, s->weight_scope, s->weight_sym))
            return s;
    return NULL;
}

const char *scheme_of_label(const char *label)
{
    for (const Scheme *s = scheme_table; s->name; s++)
        if (strcmp(s->svd, label) == 0)
            return s->name;
    return strcmp(label, FLOAT_SVD) == 0 ? "FLOAT" : label;
}

static QSpec plain_side(QType type, QScope scope, bool sym, const char *method)
{
    QSpec q = {.dtype = type, .scope = scope, .symmetric = sym};
    const char *own = type == QT_FLOAT ? "none" : scope == QS_DUAL_SCALE ? "dualscale" : "minmax";
    snprintf(q.method, sizeof q.method, "%s", method ? method : own);
    q.ext.dual_block = scope == QS_DUAL_SCALE ? 512 : 0;
    q.ext.group_size = scope == QS_PER_GROUP ? 128 : 0;
    return q;
}

bool scheme_config(const char *name, QConfig *out)
{
    for (const Scheme *s = scheme_table; s->name; s++) {
        if (strcmp(s->name, name) != 0 || s->weight_type == QT_FLOAT)
            continue;
        *out = (QConfig){plain_side(s->act_type, s->act_scope, s->act_sym == 1, NULL),
                         plain_side(s->weight_type, s->weight_scope, s->weight_sym != 0, s->weight_method)};
        return true;
    }
    return false;
}

int64_t qspec_group(const QSpec *q, int64_t in)
{
    if (q->dtype == QT_MXFP8 || q->dtype == QT_MXFP4)
        return MX_BLOCK;
    if (q->scope != QS_PER_GROUP)
        return in;
    return q->ext.group_size > 0 ? q->ext.group_size : 128;
}

int scheme_parts(const Scheme *s, const QConfig *q, const SchemeLinear *of, QPart out[SCHEME_PARTS_MAX])
{
    const QPartOf shape = {.name = of->l->name, .out = of->l->out, .in = of->l->in, .peer = of->peer,
                           .group = qspec_group(&q->weight, of->l->in), .outer = q->weight.ext.dual_block};
    int n = 0;
    for (; s->part[n] != P_END; n++) {
        out[n] = part_make((QPartId)s->part[n], &shape);
        out[n].label = s->name;
        if (s->part[n] == P_DEQ && of->model != DT_BF16)
            out[n].dtype = DT_I64;
        if (s->part[n] == P_FLOAT)
            out[n].dtype = weight_dtype(of->l);
        if (s->part[n] == P_OFFSET && of->peer && s->peer_zero)
            out[n].kind = PART_ZERO;
    }
    if (of->bias) {
        out[n] = part_make(P_BIAS, &shape);
        if (s->plain_bias)
            out[n].dtype = of->l->bias ? of->l->bias->dtype : weight_dtype(of->l);
        out[n++].label = s->labels_bias ? s->name : "FLOAT";
    }
    return n;
}

uint64_t scheme_bytes(const Scheme *s, const QConfig *q, const SchemeLinear *of)
{
    QPart part[SCHEME_PARTS_MAX];
    uint64_t bytes = 0;
    for (int i = 0, n = scheme_parts(s, q, of, part); i < n; i++)
        bytes += part_bytes(&part[i]);
    return bytes;
}

/* ---- digests ---- */

void qspec_hash(Hasher *h, const QSpec *q)
{
    uint64_t word[EXT_WORDS_MAX];
    int n = ext_words(&q->ext, word);
    hasher_str(h, qtype_name(q->dtype));
    hasher_str(h, qscope_name(q->scope));
    hasher_u64(h, q->symmetric);
    hasher_str(h, q->method);
    for (int i = 0; i < n; i++)
        hasher_u64(h, word[i]);
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 32;
}

uint64_t qspec_key(const QSpec *q)
{
    uint64_t word[EXT_WORDS_MAX], h = mix(mix(mix(1, q->dtype), q->scope), q->symmetric);
    int n = ext_words(&q->ext, word);
    for (int i = 0; i < n; i++)
        h = mix(h, word[i]);
    for (const char *c = q->method; *c; c++)
        h = mix(h, (unsigned char)*c);
    return h;
}

void qconfig_describe(const QConfig *q, char *buf, int size)
{
    const Scheme *s = scheme_find(q);
    const QSpec *a = &q->act, *w = &q->weight;
    if (!s)
        snprintf(buf, (size_t)size, "%s %s x %s %s (no saver)", qtype_name(a->dtype), qscope_name(a->scope),
                 qtype_name(w->dtype), qscope_name(w->scope));
    else if (w->scope == QS_PER_GROUP)
        snprintf(buf, (size_t)size, "%s group %lld %s", s->name, (long long)qspec_group(w, 0),
                 w->symmetric ? "sym" : "asym");
    else if (w->dtype == QT_FLOAT)
        snprintf(buf, (size_t)size, "%s %.4g", s->name, w->ext.sparse_ratio);
    else if (a->dtype == QT_FLOAT)
        snprintf(buf, (size_t)size, "%s %s %s", s->name, qscope_name(w->scope), w->symmetric ? "sym" : "asym");
    else
        snprintf(buf, (size_t)size, "%s %s %s", s->name, qscope_name(a->scope), a->symmetric ? "sym" : "asym");
}
