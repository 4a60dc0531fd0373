#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metric/metric.h"
#include "model/block.h"
#include "run/unit.h"
#include "tests/lib/bench.h"
#include "tests/lib/mtp_model.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tiny_model.h"

/* The layer of multi-token prediction. Nothing is recorded of it: a recorded model gets one whose decoder layer is a
 * copy of its last one, so that the step before it, computed here from the definition, and that layer over the step's
 * result say what must come out. */

/* ---- the definition ---- */

static float *tensor(const Model *m, const char *name)
{
    const TensorInfo *t = checkpoint_find(m->ckpt, name);
    assert_non_null(t);
    return test_tensor(m->ckpt, t);
}

static void norm(const double *x, const float *w, double eps, int64_t n, double *y)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] / sqrt(sum / (double)n + eps) * (double)w[i];
}

static int32_t likeliest(const Model *m, const float *h)
{
    int64_t n = m->cfg.hidden;
    float *w = tensor(m, "model.norm.weight"), *head = tensor(m, "lm_head.weight");
    double x[256], y[256], best = -INFINITY;
    int32_t id = -1;
    assert_true(n <= 256);
    for (int64_t i = 0; i < n; i++)
        x[i] = (double)h[i];
    norm(x, w, m->cfg.eps, n, y);
    for (int64_t v = 0; v < m->cfg.vocab; v++) {
        double dot = 0;
        for (int64_t i = 0; i < n; i++)
            dot += y[i] * (double)head[v * n + i];
        if (dot > best) {
            best = dot;
            id = (int32_t)v;
        }
    }
    free(w);
    free(head);
    return id;
}

/* joined[rows][2 hidden] and out[rows][hidden] of the step over h. */
static void step(const Model *m, const char *table, const TokenSet *t, const Stream *h, double *joined, double *out)
{
    int64_t n = m->cfg.hidden;
    char name[96];
    const char *const part[] = {"enorm.weight", "hnorm.weight", "eh_proj.weight"};
    float *w[3], *e = tensor(m, table);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s", m->cfg.layers, part[i]);
        w[i] = tensor(m, name);
    }
    for (int s = 0; s < t->samples; s++)
        for (int64_t r = t->start[s]; r < t->start[s + 1]; r++) {
            int32_t id = r + 1 < t->start[s + 1] ? t->ids[r + 1] : likeliest(m, h->data + r * n);
            double x[256], *j = joined + r * 2 * n;
            for (int64_t i = 0; i < n; i++)
                x[i] = (double)e[id * n + i];
            norm(x, w[0], m->cfg.eps, n, j);
            for (int64_t i = 0; i < n; i++)
                x[i] = (double)h->data[r * n + i];
            norm(x, w[1], m->cfg.eps, n, j + n);
            for (int64_t o = 0; o < n; o++) {
                out[r * n + o] = 0;
                for (int64_t i = 0; i < 2 * n; i++)
                    out[r * n + o] += j[i] * (double)w[2][o * 2 * n + i];
            }
        }
    for (int i = 0; i < 3; i++)
        free(w[i]);
    free(e);
}

/* ---- what a layer's linears see ---- */

typedef struct Watch {
    const Model *m;
    float **in, **out;  /* [linears], by the order within the layer; experts' and unwatched NULL */
    int64_t *rows;      /* [linears] of the inputs */
    int64_t first;
} Watch;

static bool watch_wants(void *self, Tap tap)
{
    const Watch *w = self;
    return (tap.kind == TAP_LINEAR_IN || tap.kind == TAP_LINEAR_OUT) && tap.linear >= w->first;
}

static Status watch_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    (void)err;
    Watch *w = self;
    float **slot = (tap.kind == TAP_LINEAR_IN ? w->in : w->out) + (tap.linear - w->first);
    *slot = calloc((size_t)(start[samples] * width) + 1, sizeof **slot);
    assert_non_null(*slot);
    if (tap.kind == TAP_LINEAR_IN)
        w->rows[tap.linear - w->first] = start[samples];
    return ST_OK;
}

static const int64_t *watch_start;

static void watch_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                       int64_t ld)
{
    Watch *w = self;
    const Linear *l = &w->m->linears[tap.linear];
    if (l->expert >= 0)
        return;
    float *to = (tap.kind == TAP_LINEAR_IN ? w->in : w->out)[tap.linear - w->first];
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + (watch_start[sample] + row0 + r) * width, x + r * ld, (size_t)width * sizeof *x);
}

static const ObserverOps watch_ops = {.name = "watch", .wants_tap = watch_wants, .tap_begin = watch_begin,
                                      .tap_tile = watch_tile};

static Watch watch_new(const Model *m, int64_t first)
{
    size_t n = (size_t)m->nlinears;
    Watch w = {m, calloc(n, sizeof *w.in), calloc(n, sizeof *w.out), calloc(n, sizeof *w.rows), first};
    assert_true(w.in && w.out && w.rows);
    return w;
}

static void watch_free(Watch *w)
{
    for (int64_t i = 0; i < w->m->nlinears; i++) {
        free(w->in[i]);
        free(w->out[i]);
    }
    free(w->in);
    free(w->out);
    free(w->rows);
}

static void ok(Status st, const Error *e)
{
    if (st != ST_OK)
        fail_msg("%s", e->text);
}

static double worst_of(const float *a, const double *b, int64_t n)
{
    double worst = 0, top = 0;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)a[i] - b[i]));
        top = fmax(top, fabs(b[i]));
    }
    return worst / top;
}

static void decode(const TestRun *b, const TokenSet *t, Stream *h)
{
    Error e = {0};
    ok(runner_embed(b->r, t, h, &e), &e);
    for (int l = 0; l < b->m->cfg.layers; l++)
        ok(runner_layer(b->r, l, NULL, h, h, NULL, 0, &e), &e);
}

static const int lengths[] = {7, 1, 22, 3};
enum { SAMPLES = 4 };

/* Every tap of the copied layer, and how many rows its experts saw. */
static void same_taps(const Watch *a, const Watch *b, int32_t n, double bound)
{
    int compared = 0;
    for (int32_t i = 0; i < n; i++) { /* a has eh_proj in front */
        const Linear *l = &b->m->linears[b->first + i];
        if (a->rows[i + 1] != b->rows[i])
            fail_msg("%s: %lld rows, wanted %lld", l->name, (long long)a->rows[i + 1], (long long)b->rows[i]);
        if (!b->in[i] || l->expert >= 0)
            continue;
        double worst = 0, top = 0;
        for (int64_t k = 0; k < b->rows[i] * l->in; k++) {
            worst = fmax(worst, fabs((double)a->in[i + 1][k] - (double)b->in[i][k]));
            top = fmax(top, fabs((double)b->in[i][k]));
        }
        if (!(worst <= bound * top))
            fail_msg("%s: input off by %g of %g", l->name, worst, top);
        compared++;
    }
    assert_true(compared >= 4);
}

static void check_definition(const char *model, bool own_table, ArithMode arith)
{
    char *dir = mtp_model_write(&(MtpRecipe){.model = model, .own_table = own_table}), table[96];
    TestRun b;
    Error e = {0};
    test_run_open(&b, dir, arith, 2, NULL);
    const Model *m = b.m;
    int64_t n = m->cfg.hidden, eh;
    int layer = m->cfg.layers;
    double bound = arith == ARITH_FP32 ? 3e-6 : 1.0 / 64;
    assert_int_equal(m->mtp_layers, 1);
    eh = unit_linear(&m->units[layer], "eh_proj");
    assert_true(m->linears[eh].kept);
    assert_int_equal(m->units[layer].first, eh);
    assert_int_equal(m->units[layer].count, m->units[layer - 1].count + 1);
    TokenSet *t = test_tokens(lengths, SAMPLES, m->cfg.vocab, 4);
    Stream h, ref, out;
    decode(&b, t, &h);
    ok(stream_copy(&ref, &h, &e), &e);
    ok(stream_copy(&out, &h, &e), &e);
    double *joined = malloc((size_t)(h.rows * 2 * n) * sizeof *joined), *sum = malloc((size_t)(h.rows * n) * sizeof *sum);
    snprintf(table, sizeof table, own_table ? "model.layers.%d.embed_tokens.weight" : "model.embed_tokens.weight", layer);
    step(m, table, t, &h, joined, sum);

    Watch w = watch_new(m, eh), v = watch_new(m, m->units[layer - 1].first);
    Observer obs = {&watch_ops, &w};
    watch_start = t->start;
    ok(runner_layer(b.r, layer, NULL, &h, &out, &obs, 1, &e), &e);
    assert_true(worst_of(w.in[0], joined, h.rows * 2 * n) < bound);
    assert_true(worst_of(w.out[0], sum, h.rows * n) < bound);

    /* the decoder layer itself is held by recorded tensors */
    for (int64_t i = 0; i < h.rows * n; i++)
        ref.data[i] = arith == ARITH_FP32 ? (float)sum[i] : w.out[0][i];
    obs.self = &v;
    ok(runner_layer(b.r, layer - 1, NULL, &ref, &ref, &obs, 1, &e), &e);
    same_taps(&w, &v, m->units[layer - 1].count, arith == ARITH_FP32 ? 2e-5 : 0);
    for (int64_t i = 0; i < h.rows * n; i++)
        sum[i] = (double)ref.data[i];
    assert_true(worst_of(out.data, sum, h.rows * n) <= (arith == ARITH_FP32 ? 2e-5 : 0));

    ok(runner_layer(b.r, layer, NULL, &h, &h, NULL, 0, &e), &e); /* in place */
    assert_memory_equal(h.data, out.data, (size_t)(h.rows * n) * sizeof *h.data);
    watch_free(&w);
    watch_free(&v);
    stream_fini(&h);
    stream_fini(&ref);
    stream_fini(&out);
    free(joined);
    free(sum);
    test_tokens_free(t);
    test_run_close(&b);
    temp_remove(dir);
}

static const char *const models[] = {"tests/golden/models/deepseek_v3/fp32", "tests/golden/models/glm4_moe/fp32"};

static void step_and_layer_follow_the_definition(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        check_definition(models[i], false, ARITH_FP32);
        check_definition(models[i], true, ARITH_FP32);
    }
    check_definition("tests/golden/models/deepseek_v3/bf16", false, ARITH_EXACT);
    check_definition("tests/golden/models/glm4_moe/bf16", true, ARITH_EXACT);
}

/* Packed or alone, with whatever threads: the same bytes. */
static void samples_do_not_touch_each_other(void **state)
{
    (void)state;
    char *dir = mtp_model_write(&(MtpRecipe){.model = models[0]});
    for (int threads = 1; threads <= 3; threads += 2) {
        TestRun b;
        Error e = {0};
        Stream all, one;
        test_run_open(&b, dir, ARITH_EXACT, threads, NULL);
        int layer = b.m->cfg.layers;
        TokenSet *t = test_tokens(lengths, SAMPLES, b.m->cfg.vocab, 8);
        decode(&b, t, &all);
        ok(runner_layer(b.r, layer, NULL, &all, &all, NULL, 0, &e), &e);
        for (int s = 0; s < SAMPLES; s++) {
            int64_t start[2] = {0, lengths[s]};
            TokenSet alone = {.samples = 1, .start = start, .ids = t->ids + t->start[s]};
            decode(&b, &alone, &one);
            ok(runner_layer(b.r, layer, NULL, &one, &one, NULL, 0, &e), &e);
            assert_memory_equal(one.data, all.data + t->start[s] * all.width,
                                (size_t)(lengths[s] * all.width) * sizeof *one.data);
            stream_fini(&one);
        }
        free(all.ids); /* without the tokens there are no successors */
        all.ids = NULL;
        assert_int_equal(runner_layer(b.r, layer, NULL, &all, &all, NULL, 0, &e), ST_INTERNAL);
        assert_int_equal(runner_layer(b.r, layer + 1, NULL, &all, &all, NULL, 0, &e), ST_INTERNAL);
        stream_fini(&all);
        test_tokens_free(t);
        test_run_close(&b);
    }
    temp_remove(dir);
}

/* ---- what is listed only ---- */

static void incomplete_layers_are_left_out(void **state)
{
    (void)state;
    static const char *const drop[] = {"enorm.weight", "hnorm.weight", "eh_proj.weight", "input_layernorm.weight",
                                       "self_attn.kv_b_proj.weight", "mlp.experts.7.up_proj.weight",
                                       "mlp.gate.weight"};
    Model *plain = test_model_open(models[0], NULL);
    char name[96];
    for (size_t i = 0; i <= sizeof drop / sizeof *drop; i++) {
        bool shape = i == sizeof drop / sizeof *drop;
        char *dir = mtp_model_write(&(MtpRecipe){.model = models[0], .drop = shape ? NULL : drop[i], .eh_cols = shape});
        Model *m = test_model_open(dir, NULL);
        snprintf(name, sizeof name, "model.layers.3.%s", shape ? "eh_proj.weight" : drop[i]);
        assert_int_equal(m->mtp_layers, 0);
        assert_int_equal(model_depth(m), 3);
        assert_non_null(m->mtp_reason);
        assert_non_null(strstr(m->mtp_reason, name));
        assert_int_equal(m->nlinears, plain->nlinears);
        assert_int_equal(m->ngroups, plain->ngroups);
        assert_int_equal(m->params, plain->params);
        for (int64_t k = 0; k < m->nlinears; k++)
            assert_int_equal(model_find_linear(m, plain->linears[k].name), k);
        assert_true(model_find_linear(m, "model.layers.3.eh_proj") < 0);
        assert_true(model_find_linear(m, "model.layers.3.self_attn.q_a_proj") < 0);
        model_free(m);
        temp_remove(dir);
    }
    model_free(plain);
}

static void only_where_the_family_has_it(void **state)
{
    (void)state;
    const MtpRecipe none[] = {{.model = models[0], .model_type = "kimi_k2"},
                              {.model = "tests/golden/models/qwen3_moe/fp32"}};
    for (size_t i = 0; i < 2; i++) {
        char *dir = mtp_model_write(&none[i]);
        Model *m = test_model_open(dir, NULL);
        assert_int_equal(m->mtp_layers, 0);
        assert_null(m->mtp_reason);
        model_free(m);
        temp_remove(dir);
    }
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) { /* and not without its tensors */
        Model *m = test_model_open(models[i], NULL);
        assert_int_equal(m->mtp_layers, 0);
        assert_null(m->mtp_reason);
        model_free(m);
    }
}

/* ---- analysis ---- */

typedef struct Results {
    int64_t linears, mtp;
    int layers;
} Results;

static Status count_results(void *ctx, const PassStep *step, Error *err)
{
    (void)err;
    Results *c = ctx;
    LinearResult *r = step->linear;
    int layer = (int)step->done - 1, n = step->nlinear;
    c->layers++;
    c->linears += n;
    c->mtp += layer == 3 ? n : 0;
    for (int i = 0; i < n; i++)
        linear_result_fini(&r[i]);
    return ST_OK;
}

static void analysis_takes_it_along(void **state)
{
    (void)state;
    char *dir = mtp_model_write(&(MtpRecipe){.model = models[0]});
    TestRun b;
    Error e = {0};
    Results c = {0};
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, SAMPLES, b.m->cfg.vocab, 4);
    PassPlan p = {.m = b.m, .needs = NEED_INPUT | NEED_WEIGHT, .tokens = t};
    ok(pass_statistics.run(b.r, &p, &(PassSink){count_results, &c}, &e), &e);
    assert_int_equal(c.layers, 4);
    assert_int_equal(c.linears, b.m->nlinears);
    assert_int_equal(c.mtp, b.m->units[3].count);
    test_tokens_free(t);
    test_run_close(&b);
    temp_remove(dir);
}

/* The join alone, then the decoder layer behind it, give what the whole unit gives. */
static void runs_in_parts(void **state)
{
    (void)state;
    char *dir = mtp_model_write(&(MtpRecipe){.model = models[0]});
    TestRun b;
    Stream h, whole, part;
    Error e = {0};
    test_run_open(&b, dir, ARITH_EXACT, 2, NULL);
    int unit = b.m->cfg.layers, n = b.m->units[unit].nblocks;
    assert_ptr_equal(b.m->units[unit].block[0].type, &block_mtp);
    assert_int_equal(n, b.m->units[unit - 1].nblocks + 1);
    TokenSet *t = test_tokens((const int[]){5, 9}, 2, b.m->cfg.vocab, 4);
    assert_int_equal(runner_embed(b.r, t, &h, &e), ST_OK);
    assert_int_equal(stream_copy(&whole, &h, &e), ST_OK);
    assert_int_equal(stream_copy(&part, &h, &e), ST_OK);
    assert_int_equal(runner_layer(b.r, unit, NULL, &h, &whole, NULL, 0, &e), ST_OK);
    assert_int_equal(unit_forward(b.r, unit, 0, 1, NULL, &h, &part, NULL, 0, &e), ST_OK);
    assert_memory_not_equal(part.data, whole.data, (size_t)(h.rows * h.width) * sizeof(float));
    assert_int_equal(unit_forward(b.r, unit, 1, n, NULL, &part, &part, NULL, 0, &e), ST_OK);
    assert_memory_equal(part.data, whole.data, (size_t)(h.rows * h.width) * sizeof(float));
    stream_fini(&h);
    stream_fini(&whole);
    stream_fini(&part);
    test_tokens_free(t);
    test_run_close(&b);
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step_and_layer_follow_the_definition), cmocka_unit_test(samples_do_not_touch_each_other),
        cmocka_unit_test(incomplete_layers_are_left_out),       cmocka_unit_test(only_where_the_family_has_it),
        cmocka_unit_test(analysis_takes_it_along),
        cmocka_unit_test(runs_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
