/* Attention that reads quantized queries, keys and values: fa3_quant and dynamic_cache in every architecture against plain
 * loops, and what generation makes of them. */
#include <glob.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/block.h"
#include "process/pipeline.h"
#include "process/sink_keep.h"
#include "quant/headquant.h"
#include "recipe/field.h"
#include "run/decode.h"
#include "save/attention.h"
#include "tune/practicedoc.h"

#include "tests/lib/attn_seen.h"
#include "tests/lib/bench.h"
#include "tests/lib/npz.h"

extern const RecipeRows recipe_rows;

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

/* ---- a model that is kept ---- */

typedef struct Quantized {
    Recipe *recipe;
    int16_t *level;
    Work work;
    Pipeline *p;
    KeptModel kept;
} Quantized;

static Status quantize(Quantized *q, const TestRun *b, const char *process, const TokenSet *t)
{
    char yaml[2048];
    *q = (Quantized){.level = mem_zarray((size_t)b->m->nlinears, sizeof *q->level)};
    snprintf(yaml, sizeof yaml, "apiversion: modelslim_v1\nspec:\n  process: %s\n", process);
    ok(recipe_parse(&q->recipe, &recipe_rows, yaml, strlen(yaml), "r.yaml", NULL, &err));
    q->work = (Work){.recipe = q->recipe, .level = q->level};
    Status st = pipeline_new(&q->p, b->m, &q->work, &err);
    if (st != ST_OK)
        return st;
    ok(keptmodel_init(&q->kept, b->m, &err));
    const Sink sink = keep_sink(&q->kept);
    return pipeline_run(q->p, b->r, &(PipelineOptions){.calib = t, .sinks = &sink, .nsinks = 1}, &err);
}

static void quantized_end(Quantized *q)
{
    if (q->kept.m)
        keptmodel_fini(&q->kept);
    pipeline_free(q->p);
    recipe_free(q->recipe);
    free(q->level);
}

static float *logits_of(const TestRun *b, Stream *h)
{
    Stream normed;
    ok(runner_final_norm(b->r, h, &normed, NULL, 0, &err));
    float *z = test_logits(b->r, &normed);
    stream_fini(&normed);
    return z;
}

static float *kept_logits(const TestRun *b, const Quantized *q, const TokenSet *t)
{
    Stream h;
    ok(runner_embed(b->r, t, &h, &err));
    for (int l = 0; l < b->m->cfg.layers; l++)
        ok(runner_layer(b->r, l, q->kept.variant[l], &h, &h, NULL, 0, &err));
    float *z = logits_of(b, &h);
    stream_fini(&h);
    return z;
}

/* ---- plain loops ---- */

typedef enum Kind { NONE, INT8_HEAD, FP8_HEAD, INT8_TOKEN, FP8_TOKEN, MXFP4, MXFP8, INT8_CHANNEL } Kind;

static float e4m3_value(int code)
{
    int e = code >> 3, m = code & 7;
    return e ? ldexpf(1 + (float)m / 8, e - 7) : ldexpf((float)m / 8, -6);
}

/* The nearest value of e4m3; of two equally near ones that with the even code. */
static float to_e4m3(float x)
{
    int best = 0;
    float a = fminf(fabsf(x), 448);
    for (int c = 1; c < 0x7f; c++) {
        double d = fabs((double)e4m3_value(c) - (double)a), least = fabs((double)e4m3_value(best) - (double)a);
        best = d < least || (d == least && c % 2 == 0) ? c : best;
    }
    return copysignf(e4m3_value(best), x);
}

static float range_scale(Kind k, float lo, float hi)
{
    float a = fmaxf(-fminf(lo, 0), fmaxf(hi, 0));
    if (k == FP8_HEAD || k == FP8_TOKEN)
        return fmaxf(a, 1e-12f) / 448;
    return fmaxf(a / 127, 0x1p-23f);
}

static float by_scale(Kind k, float x, float s)
{
    if (k == FP8_HEAD || k == FP8_TOKEN)
        return to_e4m3(x / s) * s;
    return fminf(fmaxf(nearbyintf(x / s), -128), 127) * s;
}

/* Up to 32 values (specs/quantization.md 7.4). */
static void by_block(Kind k, float *x, int64_t n)
{
    float top = 0;
    for (int64_t i = 0; i < n; i++)
        top = fmaxf(top, fabsf(x[i]));
    float e = k == MXFP8 ? fmaxf(floorf(log2f(top + (top == 0 ? 0x1p-126f : 0))) - 8, -127)
                         : fminf(fmaxf(floorf(log2f(top / 0.875f + 9.6e-7f)) - 2, -129), 125);
    for (int64_t i = 0; i < n; i++) {
        float a = fabsf(x[i]) / exp2f(e);
        float p = k == MXFP8 ? fmaxf(floorf(log2f(a + (a == 0))), -6) : fminf(fmaxf(floorf(log2f(a + 9.6e-7f)), 0), 2);
        float steps = k == MXFP8 ? 8 : 2, most = k == MXFP8 ? 448 : 6;
        float r = fminf(floorf(a / exp2f(p) * steps + 0.5f) / steps * exp2f(p), most);
        x[i] = copysignf((k == MXFP4 && e < -127 ? 0 : r) * exp2f(e), x[i]);
    }
}

/* What is read, and how it is to be quantized: a scale for each channel. */
typedef struct Seen {
    AttnSeen seen;
    Kind kind[3];
    double ratio[3];
    const ModelConfig *c;
} Seen;

static float scale_of(const Seen *s, int at, int part, int64_t c0, int64_t dim)
{
    float lo, hi;
    attn_seen_window(&s->seen, at, part, c0, dim, s->ratio[part], &lo, &hi);
    return range_scale(s->kind[part], lo, hi);
}

static int64_t dim_of(const Seen *s, int part)
{
    return s->kind[part] == INT8_CHANNEL ? 1 : part == 2 ? s->c->v_dim : s->c->head_dim;
}

static void make_scales(Seen *s)
{
    for (int i = 0; i < s->seen.n; i++)
        for (int part = 0; part < 3; part++) {
            int64_t dim = dim_of(s, part);
            Kind k = s->kind[part];
            for (int64_t at = 0; (k == INT8_HEAD || k == FP8_HEAD || k == INT8_CHANNEL) && at < s->seen.width[i][part]; at += dim) {
                float scale = scale_of(s, i, part, at, dim);
                for (int64_t c = 0; c < dim; c++)
                    s->seen.scale[i][part][at + c] = scale;
            }
        }
}

static void replace_head(const Seen *s, int part, const float *scale, float *x, int64_t dim)
{
    Kind k = s->kind[part];
    float lo = x[0], hi = x[0], own = 0;
    for (int64_t c = 0; c < dim; c++) {
        lo = fminf(lo, x[c]);
        hi = fmaxf(hi, x[c]);
    }
    own = range_scale(k, lo, hi);
    for (int64_t c = 0; c < dim; c += 32)
        if (k == MXFP4 || k == MXFP8)
            by_block(k, x + c, dim - c < 32 ? dim - c : 32);
    for (int64_t c = 0; c < dim && k != MXFP4 && k != MXFP8; c++)
        x[c] = by_scale(k, x[c], k == INT8_TOKEN || k == FP8_TOKEN ? own : scale[c]);
}

static void replace(void *self, int64_t linear, int part, float *x, int64_t rows, int64_t ld)
{
    const Seen *s = self;
    int at = s->seen.linear[0] == linear ? 0 : 1;
    int64_t dim = dim_of(s, part);
    for (int64_t r = 0; at < s->seen.n && s->kind[part] != NONE && r < rows; r++)
        for (int64_t c = 0; c < s->seen.width[at][part]; c += dim)
            replace_head(s, part, s->seen.scale[at][part] + c, x + r * ld + c, dim);
}

/* ---- recipes ---- */

#define Q(type, scope_of) "{dtype: " type ", scope: " scope_of ", symmetric: true, method: minmax}"
static const struct {
    const char *process;
    Kind kind[3];
} cases[] = {
    {"[{type: fa3_quant}]", {INT8_HEAD, INT8_HEAD, INT8_HEAD}},
    {"[{type: dynamic_cache, qconfig: " Q("int8", "per_channel") "}]", {NONE, INT8_CHANNEL, INT8_CHANNEL}},
    {"[{type: fa3_quant, qconfig: " Q("int8", "per_token") "}]", {INT8_TOKEN, INT8_TOKEN, INT8_TOKEN}},
    {"[{type: fa3_quant, qconfig: " Q("fp8_e4m3", "per_token") "}]", {FP8_TOKEN, FP8_TOKEN, FP8_TOKEN}},
    {"[{type: fa3_quant, qconfig: " Q("mxfp4", "per_block") "}]", {MXFP4, MXFP4, MXFP4}},
    {"[{type: fa3_quant, qconfig: " Q("mxfp8", "per_block") "}]", {MXFP8, MXFP8, MXFP8}},
    {"[{type: fa3_quant, qconfig: " Q("fp8_e4m3", "per_head") "}]", {FP8_HEAD, FP8_HEAD, FP8_HEAD}},
    {"[{type: fa3_quant, details: {fa_q: " Q("fp8_e4m3", "per_token") ", fa_k: " Q("int8", "per_head") "}}]",
     {FP8_TOKEN, INT8_HEAD, NONE}},
};
enum { CASES = sizeof cases / sizeof cases[0], ALWAYS = 2 };

static bool is_cut(const Model *m)
{
    const char *type = m->arch->model_type;
    return strcmp(type, "deepseek_v3") == 0 || strcmp(type, "deepseek_v32") == 0 || strcmp(type, "glm_moe_dsa") == 0;
}

static Seen seen_of(const TestRun *b, int unit, int at)
{
    Seen s = {.seen = {.unit = unit}, .c = b->m->units[unit].cfg};
    memcpy(s.kind, cases[at].kind, sizeof s.kind);
    for (int i = 0; i < 3; i++)
        s.ratio[i] = is_cut(b->m) && i < 2 && s.kind[i] != INT8_CHANNEL ? 0.9999 : 1;
    return s;
}

/* What a pass over h sees, of which the first attentions are as `before` has them. */
static void look(const TestRun *b, const Stream *h, const AttnForm *before, Seen *s)
{
    Stream copy;
    const Observer obs = {&attn_seen_ops, &s->seen};
    ok(stream_copy(&copy, h, &err));
    ok(runner_layer(b->r, s->seen.unit, &(Variant){.attn = before}, &copy, &copy, &obs, 1, &err));
    make_scales(s);
    stream_fini(&copy);
}

/* The same model layer by layer: what each attention reads is seen in a pass of its own, behind those before it. */
static float *logits_by_hand(const TestRun *b, const TokenSet *t, int at)
{
    Stream h;
    ok(runner_embed(b->r, t, &h, &err));
    for (int l = 0; l < b->m->cfg.layers; l++) {
        Seen s = seen_of(b, l, at);
        look(b, &h, NULL, &s);
        if (s.seen.n == 2) {
            Seen both = seen_of(b, l, at);
            s.seen.n = 1;
            look(b, &h, &(AttnForm){.replace = replace, .self = &s}, &both);
            s.seen.n = 2;
            attn_seen_end(&s.seen);
            s = both;
        }
        const AttnForm form = {.replace = replace, .self = &s};
        ok(runner_layer(b->r, l, &(Variant){.attn = s.seen.n ? &form : NULL}, &h, &h, NULL, 0, &err));
        attn_seen_end(&s.seen);
    }
    float *z = logits_of(b, &h);
    stream_fini(&h);
    return z;
}

/* ---- tests ---- */

static void check_case(const TestRun *b, const char *name, const TokenSet *t, int at)
{
    Quantized q;
    Status st = quantize(&q, b, cases[at].process, t);
    if (b->m->units[0].block[0].type == &block_compressed && at != 1) {
        assert_int_equal(st, ST_DATA);
        assert_non_null(strstr(err.text, "fa3_quant is not applicable"));
        quantized_end(&q);
        return;
    }
    ok(st);
    int64_t n = t->start[t->samples] * b->m->cfg.vocab;
    float *want = logits_by_hand(b, t, at), *got = kept_logits(b, &q, t);
    double worst = test_worst(want, got, n);
    if (!(worst <= 1e-6))
        fail_msg("%s %s: off by %g", name, cases[at].process, worst);
    assert_true(pipeline_attends(q.p, -1, NULL) && pipeline_first(q.p) < b->m->cfg.layers);
    free(want);
    free(got);
    quantized_end(&q);
}

static void every_family_reads_what_plain_loops_make(void **state)
{
    (void)state;
    static const int lengths[] = {23, 1, 12};
    glob_t found;
    assert_int_equal(glob("tests/golden/models/*/fp32", 0, NULL, &found), 0);
    for (size_t k = 0; k < found.gl_pathc; k++) {
        TestRun b;
        test_run_open(&b, found.gl_pathv[k], ARITH_FP32, 2, NULL);
        TokenSet *t = test_tokens(lengths, 3, b.m->cfg.vocab, 5);
        for (int i = 0; i < ALWAYS; i++)
            check_case(&b, found.gl_pathv[k], t, i);
        for (int i = 0; i < 2; i++)
            check_case(&b, found.gl_pathv[k], t, ALWAYS + (int)((2 * k + (size_t)i) % (CASES - ALWAYS)));
        test_tokens_free(t);
        test_run_close(&b);
    }
    assert_true(found.gl_pathc > 15);
    globfree(&found);
}

/* ---- the attention itself ---- */

/* What the layer's o_proj reads. */
typedef struct Out {
    int64_t linear;
    float *x;
    int64_t width;
    const int64_t *start;
} Out;

static bool out_wants(void *self, Tap tap)
{
    return tap.kind == TAP_LINEAR_IN && tap.linear == ((const Out *)self)->linear;
}

static Status out_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *e)
{
    (void)tap, (void)e;
    Out *o = self;
    o->width = width;
    o->start = start;
    o->x = mem_array((size_t)(start[samples] * width), sizeof(float));
    return ST_OK;
}

static void out_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    (void)tap;
    const Out *o = self;
    for (int64_t r = 0; r < rows; r++)
        memcpy(o->x + (o->start[sample] + row0 + r) * width, x + r * ld, (size_t)width * sizeof *x);
}

/* One query head of row t: softmax over the keys up to it, and the sum of their values. */
static void attend(const Seen *s, const ModelConfig *c, int64_t first, int64_t t, int head, float *out)
{
    int64_t kv = (int64_t)head * c->kv_heads / c->heads, d = c->head_dim, dv = c->v_dim;
    const float *q = s->seen.x[0][0] + t * s->seen.width[0][0] + head * d;
    double *w = mem_array((size_t)(t - first + 1), sizeof *w), top = -INFINITY, sum = 0;
    for (int64_t u = first; u <= t; u++) {
        double dot = 0;
        for (int64_t i = 0; i < d; i++)
            dot += (double)q[i] * (double)s->seen.x[0][1][u * s->seen.width[0][1] + kv * d + i];
        w[u - first] = dot * c->attn_scale;
        top = fmax(top, w[u - first]);
    }
    for (int64_t u = first; u <= t; u++)
        sum += w[u - first] = exp(w[u - first] - top);
    for (int64_t i = 0; i < dv; i++) {
        double v = 0;
        for (int64_t u = first; u <= t; u++)
            v += w[u - first] / sum * (double)s->seen.x[0][2][u * s->seen.width[0][2] + kv * dv + i];
        out[i] = (float)v;
    }
    free(w);
}

static void the_sum_is_of_quantized_values(void **state)
{
    (void)state;
    static const int lengths[] = {19, 7};
    static const char *const families[] = {"llama", "qwen3", "deepseek_v3"};
    static const ObserverOps out_ops = {.name = "out", .wants_tap = out_wants, .tap_begin = out_begin, .tap_tile = out_tile};
    for (size_t k = 0; k < 3 * CASES; k++) {
        TestRun b;
        Quantized q;
        Stream h;
        char dir[128];
        int at = (int)(k / 3);
        snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", families[k % 3]);
        test_run_open(&b, dir, ARITH_FP32, 2, NULL);
        TokenSet *t = test_tokens(lengths, 2, b.m->cfg.vocab, 9);
        ok(quantize(&q, &b, cases[at].process, t));
        const ModelConfig *c = b.m->units[0].cfg;
        Seen s = seen_of(&b, 0, at);
        Out o = {.linear = unit_linear(&b.m->units[0], "o")};
        const Observer obs[] = {{&attn_seen_ops, &s.seen}, {&out_ops, &o}};
        ok(runner_embed(b.r, t, &h, &err));
        ok(runner_layer(b.r, 0, q.kept.variant[0], &h, &h, obs, 2, &err));
        make_scales(&s);
        for (int part = 0; part < 3; part++)
            replace(&s, -1, part, s.seen.x[0][part], t->start[2], s.seen.width[0][part]);
        float *want = mem_array((size_t)(t->start[2] * o.width), sizeof *want);
        for (int i = 0; i < t->samples; i++)
            for (int64_t r = t->start[i]; r < t->start[i + 1]; r++)
                for (int head = 0; head < c->heads; head++)
                    attend(&s, c, t->start[i], r, head, want + r * o.width + head * c->v_dim);
        double worst = test_worst(want, o.x, t->start[2] * o.width);
        if (!(worst < 1e-5))
            fail_msg("%s %s: off by %g", families[k % 3], cases[at].process, worst);
        free(want);
        free(o.x);
        attn_seen_end(&s.seen);
        stream_fini(&h);
        quantized_end(&q);
        test_tokens_free(t);
        test_run_close(&b);
    }
}

/* Keys and values are quantized once, when their token comes: what is generated is what a pass over the whole text gives. */
static void generation_reads_what_a_whole_pass_does(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "gemma2", "deepseek_v2", "qwen3_next", "longcat_flash"};
    static const int lengths[] = {11, 8};
    for (size_t k = 0; k < 5 * CASES; k++) {
        TestRun b;
        Quantized q;
        Decoder *d;
        char dir[128];
        int at = (int)(k / 5);
        snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", families[k % 5]);
        test_run_open(&b, dir, ARITH_FP32, 2, NULL);
        TokenSet *t = test_tokens(lengths, 2, b.m->cfg.vocab, 3);
        ok(quantize(&q, &b, cases[at].process, t));
        int64_t vocab = b.m->cfg.vocab;
        float *want = kept_logits(&b, &q, t), *got = mem_array((size_t)vocab, sizeof *got);
        ok(decoder_new(&d, b.r, &(DecoderOptions){.texts = 1, .rows = 11, .variant = q.kept.variant}, &err));
        for (int64_t from = 0, to = 5; to <= 11; from = to++) { /* a prompt of five tokens, then one at a time */
            ok(decoder_step(d, &(DecodeStep){1, (const int[]){0}, (const int64_t[]){0, to - from}, t->ids + from}, got, &err));
            double worst = test_worst(want + (to - 1) * vocab, got, vocab);
            if (!(worst < 2e-5))
                fail_msg("%s %s token %lld: off by %g", families[k % 5], cases[at].process, (long long)to, worst);
        }
        decoder_free(d);
        free(want);
        free(got);
        quantized_end(&q);
        test_tokens_free(t);
        test_run_close(&b);
    }
}

/* Neither threads nor chunks of rows make another model, and NaN is told by its layer. */
static void nothing_depends_on_threads_or_room(void **state)
{
    (void)state;
    static const int lengths[] = {40, 21, 9};
    float *first = NULL;
    for (int i = 0; i < 3; i++) {
        TestRun b;
        Quantized q;
        test_run_open(&b, "tests/golden/models/qwen3/fp32", ARITH_FP32, 1 + i, NULL);
        TokenSet *t = test_tokens(lengths, 3, b.m->cfg.vocab, 5);
        ok(quantize(&q, &b, "[{type: fa3_quant}, {type: dynamic_cache, qconfig: " Q("int8", "per_channel") "}]", t));
        float *z = kept_logits(&b, &q, t);
        if (first)
            assert_memory_equal(first, z, (size_t)(t->start[3] * b.m->cfg.vocab) * sizeof *z);
        else
            first = z;
        if (first != z)
            free(z);
        quantized_end(&q);
        test_tokens_free(t);
        test_run_close(&b);
    }
    free(first);
}

static void selections_are_refused_in_a_line(void **state)
{
    (void)state;
    static const struct {
        const char *process, *says;
    } bad[] = {
        {"[{type: fa3_quant, include: []}]", "fa3_quant selects no attention: its patterns are of modules such as "
                                             "'model.layers.0.self_attn'"},
        {"[{type: fa3_quant, exclude: ['*']}]", "fa3_quant selects no attention"},
        {"[{type: fa3_quant}]", "calibration"},
    };
    TestRun b;
    Quantized q;
    test_run_open(&b, "tests/golden/models/llama/fp32", ARITH_FP32, 1, NULL);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(quantize(&q, &b, bad[i].process, NULL), ST_DATA);
        if (!strstr(err.text, bad[i].says))
            fail_msg("'%s' says: %s", bad[i].process, err.text);
        quantized_end(&q);
    }
    ok(quantize(&q, &b, cases[2].process, NULL)); /* scales of tokens need no text */
    assert_int_equal(pipeline_last_data(q.p), -1);
    quantized_end(&q);
    test_run_close(&b);
}

/* ---- the pieces ---- */

static void windows_are_as_recorded(void **state)
{
    (void)state;
    static const char *const ratios[] = {"1.0", "0.999", "0.5"};
    static const QSpec q = {.dtype = QT_INT8, .scope = QS_PER_HEAD, .symmetric = true, .method = "minmax"};
    assert_true(head_quant_runs(&q) && head_quant_static(&q));
    Npz *z = npz_open("tests/golden/quant/act.npz");
    const NpyArray *a;
    const float *x = npz_f32(z, &a, "fa3.x");
    for (int i = 0; i < 3; i++) {
        const float *mn = npz_f32(z, NULL, "fa3.r%s.min", ratios[i]), *mx = npz_f32(z, NULL, "fa3.r%s.max", ratios[i]);
        const float *scale = npz_f32(z, NULL, "fa3.r%s.scale", ratios[i]);
        for (int64_t h = 0; h < a->shape[0]; h++) {
            float lo, hi;
            assert_true(head_window(x + h * a->shape[1], a->shape[1] / 4, 4, 4, strtod(ratios[i], NULL), &lo, &hi));
            assert_true(lo == mn[h] && hi == mx[h]);
            assert_true(intquant_param(lo, hi, 8, true, DT_F32).scale == scale[h]);
        }
    }
    npz_free(z);
}

static void channels_have_scales_of_their_own(void **state)
{
    (void)state;
    enum { N = 41 };
    float x[N], scale[N], offset[N], got[N];
    static const DType types[] = {DT_F32, DT_BF16, DT_F16};
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < N; i++) {
            x[i] = (float)((i * 37 % 41) - 20) * 0.375f;
            scale[i] = 0.03125f * (float)(1 + i % 5);
            offset[i] = (float)(i % 7 * 9 - 30);
        }
        x[3] = NAN;
        x[5] = INFINITY;
        intquant_fake_each(x, N, scale, offset, 8, types[k], got);
        for (int i = 0; i < N; i++) {
            float one;
            intquant_fake(&x[i], 1, (QParam){scale[i], offset[i]}, 8, types[k], &one);
            assert_true(got[i] == one);
        }
    }
}

static void types_are_written_as_observed(void **state)
{
    (void)state;
    static const struct {
        AttentionPart part[3];
        const char *text;
    } types[] = {
        {{{QT_INT8, false}, {QT_INT8, false}, {QT_INT8, false}}, "INT8"},
        {{{QT_FP8_E4M3, false}, {QT_FP8_E4M3, false}, {QT_FP8_E4M3, false}}, "FP8"},
        {{{QT_INT8, true}, {QT_INT8, true}, {QT_INT8, true}}, "INT8_DYNAMIC"},
        {{{QT_MXFP4, true}, {QT_MXFP4, true}, {QT_MXFP4, true}}, "MXFP4_DYNAMIC"},
        {{{QT_FP8_E4M3, true}, {QT_FP8_E4M3, true}, {QT_INT8, false}}, "QK_FP8_DYNAMIC_V_INT8"},
        {{{QT_FP8_E4M3, true}, {QT_FP8_E4M3, false}, {QT_FP8_E4M3, false}}, "Q_FP8_DYNAMIC_KV_FP8"},
        {{{QT_INT8, false}, {QT_FP8_E4M3, false}, {QT_INT8, false}}, "QV_INT8_K_FP8"},
        {{{QT_FLOAT, false}, {QT_MXFP8, true}, {QT_FLOAT, false}}, "K_MXFP8_DYNAMIC"},
    };
    static const char *const bad[] = {"", "INT9", "Q_INT8_K_INT8", "KQ_INT8", "INT8_", "QKV_INT8", "QK_FP8_V", "_INT8", "int8",
                                      "V_INT8_QK_FP8_DYNAMIC", "Q_INT8_Q_FP8"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char text[ATTENTION_TYPE_MAX];
        AttentionPart back[3];
        attention_type(types[i].part, text);
        assert_string_equal(text, types[i].text);
        assert_true(attention_type_read(text, back));
        for (int k = 0; k < 3; k++)
            assert_true(back[k].dtype == types[i].part[k].dtype && back[k].dynamic == types[i].part[k].dynamic);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        AttentionPart part[3];
        if (attention_type_read(bad[i], part))
            fail_msg("'%s' was taken", bad[i]);
    }
}

/* A practice that a search keeps is looked up by the bits of what attention reads, too. */
static void practices_are_labelled_by_it(void **state)
{
    (void)state;
    static const char *const labels[CASES] = {"fa_bit: 8", "kv_cache: true", "fa_bit: 8", "fa_bit: 8", "fa_bit: 4", "fa_bit: 8",
                                              "fa_bit: 8", "fa_bit: 8"};
    for (int i = 0; i < CASES; i++) {
        Arena a = {0};
        YamlDoc *d;
        PracticeMade made = {.npatterns = 0};
        char yaml[2048];
        const char *rest = cases[i].process + 1;
        snprintf(yaml, sizeof yaml, "process: [{type: linear_quant, qconfig: {act: " Q("int8", "per_token") ", weight: "
                 Q("int8", "per_channel") "}}, %s\n", rest);
        ok(yaml_parse(&d, yaml, strlen(yaml), "plan", &err));
        ok(practice_standing(&a, yaml_root(d), &(PracticeWish){.id = "it"}, &made, &err));
        if (!strstr(made.text.s, labels[i]) || (strstr(made.text.s, "fa_bit") != NULL) != (i != 1))
            fail_msg("no '%s' in\n%s", labels[i], made.text.s);
        practice_made_free(&made);
        yaml_doc_free(d);
        arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_reads_what_plain_loops_make),
        cmocka_unit_test(the_sum_is_of_quantized_values),
        cmocka_unit_test(generation_reads_what_a_whole_pass_does),
        cmocka_unit_test(nothing_depends_on_threads_or_room),
        cmocka_unit_test(selections_are_refused_in_a_line),
        cmocka_unit_test(windows_are_as_recorded),
        cmocka_unit_test(channels_have_scales_of_their_own),
        cmocka_unit_test(types_are_written_as_observed),
        cmocka_unit_test(practices_are_labelled_by_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
