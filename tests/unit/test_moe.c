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
#include "base/num.h"
#include "model/block.h"
#include "run/block/router.h"
#include "tests/lib/bench.h"
#include "tests/lib/configs.h"
#include "tests/lib/follow.h"
#include "tests/lib/stacked_model.h"
#include "tests/lib/tempdir.h"

static const char *const models[] = {
    "tests/golden/models/mixtral/fp32",    "tests/golden/models/qwen2_moe/bf16", "tests/golden/models/qwen3_moe/fp32",
    "tests/golden/models/minimax_m2/fp32", "tests/golden/models/glm4_moe/bf16",
    "tests/golden/models/deepseek_v2/fp32", "tests/golden/models/deepseek_v3/bf16",
    "tests/golden/models/gpt_oss/bf16",    "tests/golden/models/gpt_oss/fp32",
    "tests/golden/models/qwen3_next/fp32", "tests/golden/models/deepseek_v32/fp32",
    "tests/golden/models/glm_moe_dsa/fp32", "tests/golden/models/longcat_flash/fp32",
    "tests/golden/models/deepseek_v4/fp32",
};

/* Rows of the experts that the model's own router gives, by sample: what observers must see. */
typedef struct Seen {
    const Model *m;
    int64_t *rows;    /* [linears] */
    int64_t *chosen;  /* [layers * experts] */
    int *ended;       /* [linears] */
} Seen;

static bool seen_wants(void *self, Tap tap)
{
    (void)self;
    return tap.kind == TAP_LINEAR_IN || tap.kind == TAP_EXPERTS;
}

static void seen_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                      int64_t ld)
{
    (void)sample;
    (void)row0;
    Seen *s = self;
    if (tap.kind == TAP_LINEAR_IN) {
        __atomic_add_fetch(&s->rows[tap.linear], rows, __ATOMIC_RELAXED);
        return;
    }
    for (int64_t i = 0; i < rows * width; i++) {
        int e = (int)x[i / width * ld + i % width];
        __atomic_add_fetch(&s->chosen[tap.layer * router_choices(&s->m->cfg.moe) + e], 1, __ATOMIC_RELAXED);
    }
}

static Status seen_end(void *self, Tap tap, Error *err)
{
    (void)err;
    Seen *s = self;
    if (tap.kind == TAP_LINEAR_IN)
        s->ended[tap.linear]++;
    return ST_OK;
}

static const ObserverOps seen_ops = {.name = "seen", .wants_tap = seen_wants, .tap_tile = seen_tile,
                                     .tap_end = seen_end};

static void all_layers(TestRun *b, const TokenSet *t, Stream *h, const Observer *obs, int nobs)
{
    Error e = {0};
    assert_int_equal(runner_embed(b->r, t, h, &e), ST_OK);
    for (int l = 0; l < b->m->cfg.layers; l++)
        if (runner_layer(b->r, l, NULL, h, h, obs, nobs, &e) != ST_OK)
            fail_msg("%s", e.text);
}

/* Packed with others or alone, with one thread or three: a sample's states are the same. */
static void samples_do_not_touch_each_other(void **state)
{
    (void)state;
    static const int len[] = {7, 1, 30, 2, 64, 3};
    for (size_t k = 0; k < sizeof models / sizeof *models; k++)
        for (int threads = 1; threads <= 3; threads += 2) {
            TestRun b;
            Stream all, one;
            test_run_open(&b, models[k], ARITH_EXACT, threads, NULL);
            TokenSet *t = test_tokens(len, 6, b.m->cfg.vocab, 5);
            all_layers(&b, t, &all, NULL, 0);
            for (int s = 0; s < 6; s++) {
                int64_t start[2] = {0, len[s]};
                TokenSet alone = {.samples = 1, .start = start, .ids = t->ids + t->start[s]};
                all_layers(&b, &alone, &one, NULL, 0);
                assert_memory_equal(one.data, all.data + t->start[s] * all.width,
                                    (size_t)(len[s] * all.width) * sizeof *one.data);
                stream_fini(&one);
            }
            stream_fini(&all);
            test_tokens_free(t);
            test_run_close(&b);
        }
}

static void experts_see_the_rows_that_chose_them(void **state)
{
    (void)state;
    static const int len[] = {5, 1, 40};
    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        TestRun b;
        test_run_open(&b, models[k], ARITH_FP32, 2, NULL);
        const ModelConfig *c = &b.m->cfg;
        Seen s = {b.m, calloc((size_t)b.m->nlinears, sizeof *s.rows),
                  calloc((size_t)(c->layers * router_choices(&c->moe)), sizeof *s.chosen),
                  calloc((size_t)b.m->nlinears, sizeof *s.ended)};
        Observer obs = {&seen_ops, &s};
        TokenSet *t = test_tokens(len, 3, c->vocab, 9);
        Stream h;
        all_layers(&b, t, &h, &obs, 1);
        for (int64_t i = 0; i < b.m->nlinears; i++) {
            const Linear *l = &b.m->linears[i];
            const int64_t *chosen = s.chosen + l->layer * router_choices(&c->moe);
            int64_t rows = l->groups > 1 ? 46 * l->groups : 46;
            int64_t want = l->input != i ? 0 : l->expert < 0 ? rows : chosen[l->expert];
            if (s.rows[i] != want || s.ended[i] != (want > 0))
                fail_msg("%s saw %lld rows, wanted %lld", l->name, (long long)s.rows[i], (long long)want);
        }
        stream_fini(&h);
        free(s.rows);
        free(s.chosen);
        free(s.ended);
        test_tokens_free(t);
        test_run_close(&b);
    }
}

/* The tightest memory limit that is enough cuts rows into chunks, and what the planner says is enough: both give the
 * bytes of a run without a limit. */
static void chunks_give_the_bytes_of_the_whole(void **state)
{
    (void)state;
    static const int len[] = {300, 20, 500, 1, 120, 400, 60};
    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        TestRun b;
        Stream h, all;
        Error e = {0};
        Status st = ST_NOMEM;
        test_run_open(&b, models[k], ARITH_FP32, 2, NULL);
        TokenSet *t = test_tokens(len, 7, b.m->cfg.vocab, 4);
        all_layers(&b, t, &all, NULL, 0);
        uint64_t planned = runner_estimate(b.m, &(RunnerAsk){.rows = t->start[7], .longest = 500, .threads = 2});
        uint64_t limit = planned / 64;
        for (int enough = 0; enough < 2; limit = enough ? planned : min_u64(limit + limit / 8, planned)) {
            Runner *r;
            RunnerOptions o = {.pool = b.pool, .mem_limit = limit};
            assert_int_equal(runner_new(&r, b.m, &o, &e), ST_OK);
            st = runner_embed(r, t, &h, &e);
            for (int l = 0; l < b.m->cfg.layers && st == ST_OK; l++)
                st = runner_layer(r, l, NULL, &h, &h, NULL, 0, &e);
            if (st == ST_OK)
                assert_memory_equal(h.data, all.data, (size_t)(h.rows * h.width) * sizeof *h.data);
            else
                assert_int_equal(st, ST_NOMEM);
            enough += st == ST_OK;
            assert_true(st == ST_OK || limit < planned);
            stream_fini(&h);
            runner_free(r);
        }
        stream_fini(&all);
        test_tokens_free(t);
        test_run_close(&b);
    }
}

/* ---- stopping ---- */

typedef struct Stop {
    Cancel *cancel;
    int after; /* taps that begin before it stops */
} Stop;

static bool stop_wants(void *self, Tap tap)
{
    (void)self;
    (void)tap;
    return true;
}

static Status stop_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    (void)tap;
    (void)samples;
    (void)start;
    (void)width;
    (void)err;
    Stop *s = self;
    if (s->after-- == 0)
        atomic_store(&s->cancel->level, 1);
    return ST_OK;
}

/* Wherever it is stopped, nothing is left behind, and the runner is still good. */
static void a_layer_can_be_stopped_anywhere(void **state)
{
    (void)state;
    static const ObserverOps ops = {.name = "stop", .wants_tap = stop_wants, .tap_begin = stop_begin};
    static const int len[] = {12, 30};
    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        TestRun b;
        Stream in, h, want;
        Error e = {0};
        Cancel cancel = {0};
        test_run_open(&b, models[k], ARITH_FP32, 2, &cancel);
        TokenSet *t = test_tokens(len, 2, b.m->cfg.vocab, 3);
        assert_int_equal(runner_embed(b.r, t, &in, &e), ST_OK);
        int last = b.m->cfg.layers - 1, stopped = 0;
        assert_int_equal(stream_copy(&want, &in, &e), ST_OK);
        assert_int_equal(runner_layer(b.r, last, NULL, &in, &want, NULL, 0, &e), ST_OK);
        for (Status st = ST_CANCELLED; st == ST_CANCELLED; stopped++) {
            Stop s = {&cancel, stopped};
            Observer obs = {&ops, &s};
            assert_int_equal(stream_copy(&h, &in, &e), ST_OK);
            st = runner_layer(b.r, last, NULL, &h, &h, &obs, 1, &e);
            atomic_store(&cancel.level, 0);
            assert_true(st == ST_OK || st == ST_CANCELLED);
            if (st == ST_OK)
                assert_memory_equal(h.data, want.data, (size_t)(h.rows * h.width) * sizeof *h.data);
            stream_fini(&h);
        }
        assert_true(stopped > 10);
        stream_fini(&in);
        stream_fini(&want);
        test_tokens_free(t);
        test_run_close(&b);
    }
}

/* GLM-4.7-Flash computes what DeepSeek-V3 computes; a list may say which layers have experts. */
static void glm_flash_is_deepseek_v3(void **state)
{
    (void)state;
    static const char v3[] = "tests/golden/models/deepseek_v3/fp32", type[] = "\"model_type\": \"deepseek_v3\"";
    static const char first[] = "\"first_k_dense_replace\": 1";
    static const int len[] = {20, 7};
    char *dir = temp_folder(), path[200];
    size_t n;
    snprintf(path, sizeof path, "%s/config.json", v3);
    char *config = temp_get(path, &n), *at = strstr(config, type), *changed = malloc(n + 200);
    assert_non_null(at);
    sprintf(changed, "%.*s\"model_type\": \"glm4_moe_lite\"%s", (int)(at - config), config, at + strlen(type));
    at = strstr(changed, first);
    assert_non_null(at);
    char *rest = strdup(at + strlen(first));
    sprintf(at, "\"mlp_layer_types\": [\"dense\", \"sparse\", \"sparse\"]%s", rest);
    temp_puts(temp_path(dir, "config.json"), changed);
    snprintf(path, sizeof path, "%s/model.safetensors", v3);
    char *weights = temp_get(path, &n);
    temp_put(temp_path(dir, "model.safetensors"), weights, n);
    TestRun a, b;
    Stream x, y;
    test_run_open(&a, v3, ARITH_FP32, 2, NULL);
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    assert_string_equal(b.m->arch->model_type, "glm4_moe_lite");
    assert_null(b.m->warning);
    TokenSet *t = test_tokens(len, 2, a.m->cfg.vocab, 6);
    all_layers(&a, t, &x, NULL, 0);
    all_layers(&b, t, &y, NULL, 0);
    assert_memory_equal(x.data, y.data, (size_t)(x.rows * x.width) * sizeof *x.data);
    stream_fini(&x);
    stream_fini(&y);
    test_tokens_free(t);
    test_run_close(&a);
    test_run_close(&b);
    free(config);
    free(changed);
    free(rest);
    free(weights);
    temp_remove(dir);
}

/* ---- variants ---- */

typedef struct Scaled {
    float scale;
    int64_t prepared;
} Scaled;

static Status scaled_prepare(void *self, const float *x, const Stream *shape, int64_t width, Pool *pool, Error *err)
{
    (void)x;
    (void)width;
    (void)pool;
    (void)err;
    ((Scaled *)self)->prepared = shape->rows;
    return ST_OK;
}

static void scaled_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    (void)row0;
    for (int64_t i = 0; i < rows * in; i++)
        w[i] *= ((Scaled *)self)->scale;
}

static void scaled_act(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    (void)sample;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < in; j++)
            out[i * in + j] = x[i * ld + j] / ((Scaled *)self)->scale;
}

/* Weights times and inputs by a power of two, another one for each linear: the layer's bytes stay. */
static void variants_that_cancel_out_are_float(void **state)
{
    (void)state;
    static const int len[] = {30, 2, 11};
    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        TestRun b;
        Stream plain, out;
        Error e = {0};
        test_run_open(&b, models[k], ARITH_EXACT, 2, NULL);
        TokenSet *t = test_tokens(len, 3, b.m->cfg.vocab, 8);
        assert_int_equal(runner_embed(b.r, t, &plain, &e), ST_OK);
        for (int layer = 0; layer < b.m->cfg.layers; layer++) {
            int32_t first = b.m->units[layer].first, n = b.m->units[layer].count;
            Scaled *s = calloc((size_t)n, sizeof *s);
            LinearForm *form = calloc((size_t)n, sizeof *form);
            const LinearForm **forms = calloc((size_t)n, sizeof *forms);
            for (int32_t i = 0; i < n; i++) {
                s[i].scale = 2 << i % 5;
                form[i] = (LinearForm){.prepare = scaled_prepare, .weight = scaled_weight, .act = scaled_act,
                                       .self = &s[i]};
                forms[i] = &form[i];
            }
            Variant v = {.forms = forms};
            assert_int_equal(stream_copy(&out, &plain, &e), ST_OK);
            if (runner_layer(b.r, layer, &v, &plain, &out, NULL, 0, &e) != ST_OK ||
                runner_layer(b.r, layer, NULL, &plain, &plain, NULL, 0, &e) != ST_OK)
                fail_msg("%s: %s", models[k], e.text);
            assert_memory_equal(plain.data, out.data, (size_t)(out.rows * out.width) * sizeof *out.data);
            for (int32_t i = 0; i < n; i++) {
                const Linear *l = &b.m->linears[first + i];
                assert_true(s[i].prepared == (l->groups > 1 ? 43 * l->groups : 43) || l->expert >= 0);
            }
            stream_fini(&out);
            free(s);
            free(form);
            free(forms);
        }
        stream_fini(&plain);
        test_tokens_free(t);
        test_run_close(&b);
    }
}

/* ---- analysis and quantization where experts get no token ---- */

typedef struct Counts {
    const Model *m;
    int unfed, fed, weights;
} Counts;

static Status count_results(void *ctx, const PassStep *step, Error *err)
{
    (void)err;
    Counts *c = ctx;
    LinearResult *r = step->linear;
    int n = step->nlinear;
    const QConfig q = config_default();
    for (int i = 0; i < n; i++) {
        bool fed = r[i].in.rows > 0;
        char why[200] = "";
        c->fed += fed;
        c->unfed += !fed;
        c->weights += isfinite(r[i].weight.std) && r[i].weight.std > 0;
        if (!fed && c->m->linears[r[i].linear].expert < 0)
            fail_msg("%s was not fed", c->m->linears[r[i].linear].name);
        for (int k = 0; metric_table[k]; k++) {
            double v = test_score(metric_table[k], &r[i], &q, why, sizeof why);
            if (!fed)
                assert_true(isnan(v)); /* not measured, and never zero */
        }
        linear_result_fini(&r[i]);
    }
    return ST_OK;
}

static void experts_without_tokens_are_not_measured(void **state)
{
    (void)state;
    static const int len[] = {1, 1};
    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        TestRun b;
        Error e = {0};
        test_run_open(&b, models[k], ARITH_FP32, 2, NULL);
        TokenSet *t = test_tokens(len, 2, b.m->cfg.vocab, 3);
        unsigned needs = NEED_HIST;
        for (int i = 0; metric_table[i]; i++)
            needs |= metric_table[i]->needs;
        Counts c = {.m = b.m};
        PassPlan plan = {.m = b.m, .needs = needs, .tokens = t};
        if (pass_statistics.run(b.r, &plan, &(PassSink){count_results, &c}, &e) != ST_OK)
            fail_msg("%s: %s", models[k], e.text);
        assert_int_equal(c.fed + c.unfed, b.m->nlinears);
        assert_true(c.weights == b.m->nlinears); /* their weights are looked at all the same */
        if (strstr(models[k], "qwen3_moe"))
            assert_true(c.unfed > 0);
        test_tokens_free(t);
        test_run_close(&b);
    }
}

static void quantizing_leaves_unseen_experts_float(void **state)
{
    (void)state;
    static const int calib[] = {1, 1}, eval[] = {50, 3};
    for (size_t k = 0; k < sizeof models / sizeof *models; k++)
        for (int peer = 0; peer < 2; peer++) {
            TestRun b;
            Error e = {0};
            test_run_open(&b, models[k], ARITH_FP32, 2, NULL);
            const Model *m = b.m;
            TokenSet *t[2] = {test_tokens(calib, 2, m->cfg.vocab, 3), test_tokens(eval, 2, m->cfg.vocab, 4)};
            int16_t *level = calloc((size_t)m->nlinears, sizeof *level);
            for (int64_t i = 0; i < m->nlinears; i++)
                level[i] = 1;
            QConfig q = config_default(); /* static W8A8 */
            const Work w = {.levels = &q, .nlevels = 1, .level = level, .peer = peer};
            Follow f = {.calib = t[0], .eval = t[1], .spoiled = -1};
            if (follow_run(&f, b.r, &w, &e) != ST_OK)
                fail_msg("%s: %s", models[k], e.text);
            int without = 0;
            for (int64_t i = 0; i < m->nlinears; i++) {
                bool has = f.param[i].scale != 0;
                assert_true(has || m->linears[i].expert >= 0);
                without += !has;
            }
            if (peer)
                assert_int_equal(without, f.unseen);
            else /* whole layers: no layer's experts have several schemes */
                assert_true(f.unseen >= without && (f.unseen > 0) == (without > 0) &&
                            f.unseen % (3 * (m->cfg.moe.experts ? m->cfg.moe.experts : 1)) == 0);
            if (strstr(models[k], "qwen3_moe"))
                assert_true(without > 0);
            for (int i = 0; i < 2; i++) {
                for (int64_t n = 0; n < f.s[i].rows * f.s[i].width; n++)
                    assert_true(isfinite(f.s[i].data[n]));
                test_tokens_free(t[i]);
            }
            follow_fini(&f);
            free(level);
            test_run_close(&b);
        }
}

/* ---- the router ---- */

static void choices_of_one_token(void **state)
{
    (void)state;
    const Ops ops = ops_make(ARITH_FP32, DT_F32);
    float scratch[64], w[4];
    int32_t idx[4];
    MoeConfig c = {.experts = 8, .top_k = 3, .groups = 1, .top_groups = 1, .scale = 2.5, .renorm = true};
    assert_true(router_scratch_floats(&c) <= 64);
    MoeRule soft = {.score = SCORE_SOFTMAX};
    const float equal[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    router_choose(&soft, &c, &ops, equal, NULL, scratch, idx, w);
    assert_true(idx[0] == 0 && idx[1] == 1 && idx[2] == 2); /* of equals the lowest */
    assert_true(fabsf(w[0] - 1.0f / 3) < 1e-6f && w[0] == w[2]);

    const float some[8] = {0, 3, 1, 5, -2, 4, 0, 0};
    router_choose(&soft, &c, &ops, some, NULL, scratch, idx, w);
    assert_true(idx[0] == 1 && idx[1] == 3 && idx[2] == 5); /* ascending, weights with them */
    assert_true(w[1] > w[2] && w[2] > w[0] && fabsf(w[0] + w[1] + w[2] - 1) < 1e-6f);

    /* groups of two: sums of scores plus bias decide, weights are the bare scores */
    MoeRule top2 = {.score = SCORE_SIGMOID, .group = GROUP_TOP2, .scaled = true, .renorm_eps = 1e-20};
    c.groups = 4;
    c.top_groups = 2;
    const float bias[8] = {0, 0, 0, 0, 10, 10, 0, 0};
    router_choose(&top2, &c, &ops, some, bias, scratch, idx, w);
    double s3 = 1 / (1 + exp(-(double)some[idx[0]])), s4 = 1 / (1 + exp(2.0)), s5 = 1 / (1 + exp(-4.0));
    assert_true(idx[0] == 3 && idx[1] == 4 && idx[2] == 5);
    assert_true(fabs((double)w[0] - 2.5 * s3 / (s3 + s4 + s5)) < 1e-5);

    const float bad[8] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN}; /* numbers of experts stay valid and different */
    router_choose(&top2, &c, &ops, bad, bias, scratch, idx, w);
    for (int i = 0; i < 3; i++)
        assert_true(idx[i] >= 0 && idx[i] < 8 && (i == 0 || idx[i] > idx[i - 1]));
}

/* ---- refusals ---- */

static void refused(const char *from, const char *old, const char *new, const char *fragment)
{
    char *dir = temp_folder(), path[200];
    size_t n;
    snprintf(path, sizeof path, "%s/config.json", from);
    char *config = temp_get(path, &n), *at = strstr(config, old);
    assert_non_null(at);
    char *changed = malloc(n + strlen(new) + 1);
    sprintf(changed, "%.*s%s%s", (int)(at - config), config, new, at + strlen(old));
    temp_puts(temp_path(dir, "config.json"), changed);
    snprintf(path, sizeof path, "%s/model.safetensors", from);
    char *weights = temp_get(path, &n);
    temp_put(temp_path(dir, "model.safetensors"), weights, n);
    Model *m;
    Error e = {0};
    assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
    if (!strstr(e.text, fragment))
        fail_msg("'%s' lacks '%s'", e.text, fragment);
    free(weights);
    free(config);
    free(changed);
    temp_remove(dir);
}

static void damaged_models_are_refused(void **state)
{
    (void)state;
    refused(models[0], "\"num_local_experts\": 4", "\"num_local_experts\": 5", "block_sparse_moe.gate.weight");
    refused(models[0], "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 9", "'num_experts_per_tok'");
    refused(models[2], "\"num_experts\": 8", "\"num_experts\": 0", "'num_experts'");
    refused(models[4], "\"n_group\": 1", "\"n_group\": 4", "'n_group' 4 and 'topk_group' 1 do not fit 6 experts");
    refused(models[4], "\"first_k_dense_replace\": 1", "\"first_k_dense_replace\": 0", "mlp.gate.weight' is missing");
    refused(models[1], "\"shared_expert_intermediate_size\": 40", "\"shared_expert_intermediate_size\": 41",
            "shared_expert.gate_proj.weight' has shape");
}

/* ---- stacked experts ---- */

static void stacked_experts_compute_the_same(void **state)
{
    (void)state;
    static const int len[] = {30, 9};
    for (int columns = 0; columns < 2; columns++) {
        TestRun a, b;
        Stream x, y;
        char *dir = temp_folder();
        test_run_open(&a, models[2], ARITH_EXACT, 2, NULL);
        stacked_model_write(a.m, models[2], dir, &(StackedForm){.columns = columns});
        test_run_open(&b, dir, ARITH_EXACT, 2, NULL);
        assert_int_equal(a.m->nlinears, b.m->nlinears);
        for (int64_t i = 0; i < a.m->nlinears; i++)
            assert_string_equal(a.m->linears[i].name, b.m->linears[i].name);
        TokenSet *t = test_tokens(len, 2, a.m->cfg.vocab, 6);
        all_layers(&a, t, &x, NULL, 0);
        all_layers(&b, t, &y, NULL, 0);
        assert_memory_equal(x.data, y.data, (size_t)(x.rows * x.width) * sizeof *x.data);
        stream_fini(&x);
        stream_fini(&y);
        test_tokens_free(t);
        test_run_close(&a);
        test_run_close(&b);
        temp_remove(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_do_not_touch_each_other),
        cmocka_unit_test(experts_see_the_rows_that_chose_them),
        cmocka_unit_test(chunks_give_the_bytes_of_the_whole),
        cmocka_unit_test(a_layer_can_be_stopped_anywhere),
        cmocka_unit_test(glm_flash_is_deepseek_v3),
        cmocka_unit_test(variants_that_cancel_out_are_float),
        cmocka_unit_test(experts_without_tokens_are_not_measured),
        cmocka_unit_test(quantizing_leaves_unseen_experts_float),
        cmocka_unit_test(choices_of_one_token),
        cmocka_unit_test(damaged_models_are_refused),
        cmocka_unit_test(stacked_experts_compute_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
