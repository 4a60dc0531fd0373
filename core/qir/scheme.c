#include "qir/scheme.h"

#include <stdio.h>
#include <string.h>

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

/* ---- bytes written, specs/formats.md 7 and 8 ---- */

static uint64_t area(int64_t a, int64_t b)
{
    return (uint64_t)a * (uint64_t)b;
}

static int64_t blocks_of(int64_t n, int64_t block)
{
    return block > 0 ? (n + block - 1) / block : 1;
}

/* weight I8[out,in], quant_bias I32[out], input_scale and input_offset F32[1], deq_scale F32[out] */
static uint64_t bytes_static(int64_t out, int64_t in, int64_t group)
{
    (void)group;
    return area(out, in) + area(out, 4) + 4 + 4 + area(out, 4);
}

/* as static, and weight_scale, weight_offset F32[out,1] */
static uint64_t bytes_mix(int64_t out, int64_t in, int64_t group)
{
    return bytes_static(out, in, group) + area(out, 8);
}

/* weight I8 or F8[out,in], weight_scale and weight_offset F32[out,1] */
static uint64_t bytes_channel(int64_t out, int64_t in, int64_t group)
{
    (void)group;
    return area(out, in) + area(out, 8);
}

/* weight I8[out,in], weight_scale and weight_offset F32[out,in/group] */
static uint64_t bytes_group(int64_t out, int64_t in, int64_t group)
{
    return area(out, in) + area(out, blocks_of(in, group)) * 8;
}

/* weight I8[out/2,in] (two rows a byte), weight_scale and weight_offset F32[out,in/group] */
static uint64_t bytes_group4(int64_t out, int64_t in, int64_t group)
{
    return area((out + 1) / 2, in) + area(out, blocks_of(in, group)) * 8;
}

/* weight I8[out/2,in] (two rows a byte), weight_scale, weight_offset and scale_bias F32[out,1] */
static uint64_t bytes_packed4(int64_t out, int64_t in, int64_t group)
{
    (void)group;
    return area((out + 1) / 2, in) + area(out, 12);
}

/* weight F8[out,in], weight_scale U8[out,in/32] */
static uint64_t bytes_mx8(int64_t out, int64_t in, int64_t group)
{
    (void)group;
    return area(out, in) + area(out, blocks_of(in, 32));
}

/* weight U8[out,in/2], weight_scale U8[out,in/32] */
static uint64_t bytes_mx4(int64_t out, int64_t in, int64_t group)
{
    (void)group;
    return area(out, (in + 1) / 2) + area(out, blocks_of(in, 32));
}

/* as mx4, and weight_dual_scale F32[out,in/dual block,1] */
static uint64_t bytes_dual(int64_t out, int64_t in, int64_t group)
{
    return bytes_mx4(out, in, 0) + area(out, blocks_of(in, group)) * 4;
}

enum { EITHER = -1 };

/* Every row of specs/quantization.md 2 that is a pair of a linear; FLOAT, W16A16S, C8 and FAQuant are not. Ours: W8A8S
 * (14; written as W8A8) and W4A16. */
const Scheme scheme_table[] = {
    {.name = "W8A8S", .act_type = QT_INT8, .act_scope = QS_PER_TENSOR, .act_sym = EITHER,
     .weight_type = QT_INT8, .weight_scope = QS_PER_CHANNEL, .weight_sym = 1, .weight_method = "w8a8s",
     .weight_bits = 8, .act_bits = 8, .runnable = true, .bytes = bytes_static, .deq_scale = true},
    {.name = "W8A8", .act_type = QT_INT8, .act_scope = QS_PER_TENSOR, .act_sym = EITHER,
     .weight_type = QT_INT8, .weight_scope = QS_PER_CHANNEL, .weight_sym = 1,
     .weight_bits = 8, .act_bits = 8, .runnable = true, .bytes = bytes_static, .deq_scale = true},
    {.name = "W8A8_DYNAMIC", .act_type = QT_INT8, .act_scope = QS_PER_TOKEN, .act_sym = 1,
     .weight_type = QT_INT8, .weight_scope = QS_PER_CHANNEL, .weight_sym = 1,
     .weight_bits = 8, .act_bits = 8, .data_free = true, .runnable = true, .bytes = bytes_channel},
    {.name = "W8A8_DYNAMIC", .act_type = QT_INT8, .act_scope = QS_PER_TOKEN, .act_sym = 1,
     .weight_type = QT_INT8, .weight_scope = QS_PER_GROUP, .weight_sym = EITHER,
     .weight_bits = 8, .act_bits = 8, .runnable = true, .bytes = bytes_group},
    {.name = "W8A8_MIX", .act_type = QT_INT8, .act_scope = QS_PD_MIX, .act_sym = 0,
     .weight_type = QT_INT8, .weight_scope = QS_PER_CHANNEL, .weight_sym = 1,
     .weight_bits = 8, .act_bits = 8, .runnable = true, .bytes = bytes_mix, .deq_scale = true},
    {.name = "W4A8_DYNAMIC", .act_type = QT_INT8, .act_scope = QS_PER_TOKEN, .act_sym = 1,
     .weight_type = QT_INT4, .weight_scope = QS_PER_CHANNEL, .weight_sym = 1,
     .weight_bits = 4, .act_bits = 8, .data_free = true, .runnable = true, .bytes = bytes_packed4},
    {.name = "W4A4_DYNAMIC", .act_type = QT_INT4, .act_scope = QS_PER_TOKEN, .act_sym = 1,
     .weight_type = QT_INT4, .weight_scope = QS_PER_CHANNEL, .weight_sym = EITHER,
     .weight_bits = 4, .act_bits = 4, .bytes = bytes_channel},
    {.name = "W4A4_DYNAMIC", .act_type = QT_INT4, .act_scope = QS_PER_TOKEN, .act_sym = 1,
     .weight_type = QT_INT4, .weight_scope = QS_PER_GROUP, .weight_sym = EITHER,
     .weight_bits = 4, .act_bits = 4, .bytes = bytes_group},
    {.name = "W8A16", .act_type = QT_FLOAT, .act_scope = QS_PER_TENSOR, .act_sym = 1,
     .weight_type = QT_INT8, .weight_scope = QS_PER_CHANNEL, .weight_sym = EITHER,
     .weight_bits = 8, .act_bits = 16, .data_free = true, .runnable = true, .bytes = bytes_channel},
    {.name = "W8A16", .act_type = QT_FLOAT, .act_scope = QS_PER_TENSOR, .act_sym = 1,
     .weight_type = QT_INT8, .weight_scope = QS_PER_GROUP, .weight_sym = EITHER,
     .weight_bits = 8, .act_bits = 16, .runnable = true, .bytes = bytes_group},
    {.name = "W4A16", .act_type = QT_FLOAT, .act_scope = QS_PER_TENSOR, .act_sym = 1,
     .weight_type = QT_INT4, .weight_scope = QS_PER_GROUP, .weight_sym = EITHER,
     .weight_bits = 4, .act_bits = 16, .data_free = true, .runnable = true, .bytes = bytes_group4},
    {.name = "WFP8AFP8_DYNAMIC", .act_type = QT_FP8_E4M3, .act_scope = QS_PER_TOKEN, .act_sym = 1,
     .weight_type = QT_FP8_E4M3, .weight_scope = QS_PER_CHANNEL, .weight_sym = 1,
     .weight_bits = 8, .act_bits = 8, .data_free = true, .runnable = true, .bytes = bytes_channel},
    {.name = "W8A8_MXFP8", .act_type = QT_MXFP8, .act_scope = QS_PER_BLOCK, .act_sym = 1,
     .weight_type = QT_MXFP8, .weight_scope = QS_PER_BLOCK, .weight_sym = 1,
     .weight_bits = 8, .act_bits = 8, .data_free = true, .runnable = true, .bytes = bytes_mx8},
    {.name = "W4A8_MXFP", .act_type = QT_MXFP8, .act_scope = QS_PER_BLOCK, .act_sym = 1,
     .weight_type = QT_MXFP4, .weight_scope = QS_PER_BLOCK, .weight_sym = 1,
     .weight_bits = 4, .act_bits = 8, .data_free = true, .runnable = true, .bytes = bytes_mx4},
    {.name = "W4A4_MXFP4", .act_type = QT_MXFP4, .act_scope = QS_PER_BLOCK, .act_sym = 1,
     .weight_type = QT_MXFP4, .weight_scope = QS_PER_BLOCK, .weight_sym = 1,
     .weight_bits = 4, .act_bits = 4, .data_free = true, .runnable = true, .bytes = bytes_mx4},
    {.name = "W4A4_MXFP4_DUALSCALE", .act_type = QT_MXFP4, .act_scope = QS_DUAL_SCALE, .act_sym = 1,
     .weight_type = QT_MXFP4, .weight_scope = QS_DUAL_SCALE, .weight_sym = 1,
     .weight_bits = 4, .act_bits = 4, .data_free = true, .runnable = true, .bytes = bytes_dual},
    {.name = NULL},
};

static bool side_fits(const QSpec *q, QType type, QScope scope, int sym)
{
    return q->dtype == type && q->scope == scope && (sym == EITHER || (sym != 0) == q->symmetric);
}

const Scheme *scheme_find(const QConfig *q)
{
    for (const Scheme *s = scheme_table; s->name; s++)
        if ((!s->weight_method || strcmp(s->weight_method, q->weight.method) == 0)
            && side_fits(&q->act, s->act_type, s->act_scope, s->act_sym)
            && side_fits(&q->weight, s->weight_type, s->weight_scope, s->weight_sym))
            return s;
    return NULL;
}

static bool name_has(const char *name, const char *const *parts)
{
    for (; *parts; parts++)
        if (strstr(name, *parts))
            return true;
    return false;
}

/* Columns of W4A8's scale_bias for a linear of this name (specs/formats.md 7): summed, in 16 slices, or not summed at
 * all. */
static int64_t scale_bias_columns(const char *name, int64_t in)
{
    static const char *const summed[] = {"up_proj", "gate_proj", "q_proj", "k_proj", "v_proj", "w1", "w3", NULL};
    static const char *const sliced[] = {"down_proj", "o_proj", "w2", NULL};
    if (!name || name_has(name, summed))
        return 1;
    if (name_has(name, sliced))
        return in >= 16 ? in / (in / 16) : 16;
    return in;
}

uint64_t scheme_bytes(const Scheme *s, const char *name, int64_t out, int64_t in, int64_t group, DType model)
{
    uint64_t n = s->bytes(out, in, group);
    if (s->deq_scale && model != DT_BF16)
        n += area(out, 4);
    if (s->bytes == bytes_packed4)
        n += area(out, scale_bias_columns(name, in) - 1) * 4;
    return n;
}

int64_t qconfig_group(const QConfig *q)
{
    if (q->weight.scope != QS_PER_GROUP)
        return q->weight.scope == QS_DUAL_SCALE ? q->weight.ext.dual_block : 0;
    return q->weight.group_size > 0 ? q->weight.group_size : 128;
}

static bool ext_equal(const QExt *a, const QExt *b)
{
    return a->mean == b->mean && a->steps == b->steps && a->percdamp == b->percdamp
           && a->block_size == b->block_size && a->act_order == b->act_order && a->ceil_x == b->ceil_x
           && a->search == b->search && a->search_min == b->search_min && a->search_max == b->search_max
           && a->search_step == b->search_step && a->dual_block == b->dual_block && a->fraction == b->fraction;
}

static bool spec_equal(const QSpec *a, const QSpec *b)
{
    return a->dtype == b->dtype && a->scope == b->scope && a->symmetric == b->symmetric
           && a->group_size == b->group_size && ext_equal(&a->ext, &b->ext) && strcmp(a->method, b->method) == 0;
}

static uint64_t bits_of(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

enum { EXT_WORDS = 12 };

static void ext_words(const QExt *e, uint64_t w[EXT_WORDS])
{
    const uint64_t words[EXT_WORDS] = {
        e->mean, (uint64_t)e->steps, bits_of(e->percdamp), (uint64_t)e->block_size, e->act_order, e->search,
        bits_of(e->ceil_x), bits_of(e->search_min), bits_of(e->search_max), bits_of(e->search_step),
        (uint64_t)e->dual_block, bits_of(e->fraction),
    };
    memcpy(w, words, sizeof words);
}

void qspec_hash(Hasher *h, const QSpec *q)
{
    uint64_t ext[EXT_WORDS];
    ext_words(&q->ext, ext);
    hasher_str(h, qtype_name(q->dtype));
    hasher_str(h, qscope_name(q->scope));
    hasher_u64(h, q->symmetric);
    hasher_str(h, q->method);
    hasher_u64(h, (uint64_t)q->group_size);
    for (int i = 0; i < EXT_WORDS; i++)
        hasher_u64(h, ext[i]);
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 32;
}

uint64_t qspec_key(const QSpec *q)
{
    uint64_t ext[EXT_WORDS], h = mix(mix(mix(mix(1, q->dtype), q->scope), q->symmetric), (uint64_t)q->group_size);
    ext_words(&q->ext, ext);
    for (int i = 0; i < EXT_WORDS; i++)
        h = mix(h, ext[i]);
    for (const char *c = q->method; *c; c++)
        h = mix(h, (unsigned char)*c);
    return h;
}

bool qconfig_equal(const QConfig *a, const QConfig *b)
{
    return spec_equal(&a->act, &b->act) && spec_equal(&a->weight, &b->weight);
}

QConfig qconfig_default(void)
{
    return (QConfig){
        .act = {.dtype = QT_INT8, .scope = QS_PER_TENSOR, .symmetric = false, .method = "minmax"},
        .weight = {.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "minmax"},
    };
}

void qconfig_describe(const QConfig *q, char *buf, int size)
{
    const Scheme *s = scheme_find(q);
    const QSpec *a = &q->act, *w = &q->weight;
    if (!s)
        snprintf(buf, (size_t)size, "%s %s x %s %s (no saver)", qtype_name(a->dtype), qscope_name(a->scope),
                 qtype_name(w->dtype), qscope_name(w->scope));
    else if (w->scope == QS_PER_GROUP)
        snprintf(buf, (size_t)size, "%s group %lld %s", s->name, (long long)qconfig_group(q),
                 w->symmetric ? "sym" : "asym");
    else if (a->dtype == QT_FLOAT)
        snprintf(buf, (size_t)size, "%s %s %s", s->name, qscope_name(w->scope), w->symmetric ? "sym" : "asym");
    else
        snprintf(buf, (size_t)size, "%s %s %s", s->name, qscope_name(a->scope), a->symmetric ? "sym" : "asym");
}
