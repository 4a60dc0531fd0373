#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "measure/effect.h"
#include "measure/plan.h"
#include "tests/lib/bench.h"
#include "tests/lib/configs.h"
#include "tests/lib/follow.h"
#include "tests/lib/tempdir.h"

static const char llama[] = "tests/golden/models/llama/fp32", qwen3_bf16[] = "tests/golden/models/qwen3/bf16";
enum { LINEARS = 21, LAYERS = 3, PER_LAYER = 7 };
static const int calib_len[] = {9, 30, 17, 5}, eval_len[] = {40, 1, 25, 140, 2};
enum { CALIB = 4, EVAL = 5 };

typedef struct Lab {
    TestRun run;
    TokenSet *calib, *eval;
    EffectLab *lab;
    QConfig q[3]; /* static asymmetric, W4A8 per token, weight only */
} Lab;

static void lab_open(Lab *l, const char *dir, ArithMode arith, int threads, uint64_t cache, const char *cache_dir)
{
    test_run_open(&l->run, dir, arith, threads, NULL);
    l->calib = test_tokens(calib_len, CALIB, l->run.m->cfg.vocab, 1);
    l->eval = test_tokens(eval_len, EVAL, l->run.m->cfg.vocab, 2);
    for (int i = 0; i < 3; i++)
        l->q[i] = config_default();
    l->q[1].act = (QSpec){.dtype = QT_INT8, .scope = QS_PER_TOKEN, .symmetric = true, .method = "minmax"};
    l->q[1].weight.dtype = QT_INT4;
    l->q[2].act = (QSpec){.dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .symmetric = true, .method = "none"};
    EffectOptions o = {.calib = l->calib, .eval = l->eval, .cache_bytes = cache, .cache_dir = cache_dir,
                       .cache_dir_bytes = 1 << 22, .seed = 5};
    assert_int_equal(effectlab_new(&l->lab, l->run.m, &o, NULL), ST_OK);
}

static void lab_close(Lab *l)
{
    effectlab_free(l->lab);
    test_tokens_free(l->calib);
    test_tokens_free(l->eval);
    test_run_close(&l->run);
}

static Effect measure(Lab *l, const int16_t *level)
{
    Effect e;
    Error err = {0};
    if (measure_work(l->lab, l->run.r, &(Work){.levels = l->q, .nlevels = 3, .level = level}, &e, &err) != ST_OK)
        fail_msg("%s", err.text);
    return e;
}

static void set_all(int16_t *level, int l)
{
    for (int i = 0; i < LINEARS; i++)
        level[i] = (int16_t)l;
}

/* Every measured number, bit for bit. */
static void assert_same_effect(Effect a, Effect b)
{
    a.first_layer_run = b.first_layer_run = 0;
    a.layers_run = b.layers_run = 0;
    a.from_cache = b.from_cache = false;
    a.seconds = b.seconds = 0;
    assert_int_equal(a.tokens, b.tokens);
    const double *x = &a.kl_mean, *y = &b.kl_mean;
    assert_memory_equal(x, y, offsetof(Effect, first_layer_run) - offsetof(Effect, kl_mean));
    assert_int_equal(a.predicted, b.predicted);
    assert_int_equal(a.texts, b.texts);
}

/* ---- against float64 over whole logits ---- */

typedef struct Direct {
    double *kl, kl_mean, kl_median, kl_max, top1, ppl_f, ppl_q, mse;
    int n;
} Direct;

/* Logits of all rows in float64: the hidden states times the head, or the runner's own where they are rounded. */
static double *all_logits(Lab *l, const Stream *h)
{
    const Model *m = l->run.m;
    Stream n;
    assert_int_equal(runner_final_norm(l->run.r, h, &n, NULL, 0, NULL), ST_OK);
    int64_t V = m->cfg.vocab, H = m->cfg.hidden;
    double *z = malloc((size_t)(h->rows * V) * sizeof *z);
    assert_non_null(z);
    if (runner_arith(l->run.r) == ARITH_EXACT) {
        float *rounded = test_logits(l->run.r, &n);
        for (int64_t i = 0; i < h->rows * V; i++)
            z[i] = (double)rounded[i];
        free(rounded);
    } else {
        float *w = test_tensor(m->ckpt, m->exit.head);
        for (int64_t r = 0; r < h->rows; r++)
            for (int64_t v = 0; v < V; v++) {
                double sum = 0;
                for (int64_t k = 0; k < H; k++)
                    sum += (double)n.data[r * H + k] * (double)w[v * H + k];
                z[r * V + v] = sum;
            }
        free(w);
    }
    stream_fini(&n);
    return z;
}

static void run_streams(Lab *l, const int16_t *level, Stream s[2])
{
    Follow f = {.calib = l->calib, .eval = l->eval, .spoiled = -1};
    const Work w = {.levels = l->q, .nlevels = 3, .level = level};
    assert_int_equal(follow_run(&f, l->run.r, &w, NULL), ST_OK);
    s[0] = f.s[0];
    s[1] = f.s[1];
    free(f.param);
}

static double log_sum(const double *z, int64_t n, int64_t *top)
{
    double sum = 0;
    *top = 0;
    for (int64_t i = 1; i < n; i++)
        *top = z[i] > z[*top] ? i : *top;
    for (int64_t i = 0; i < n; i++)
        sum += exp(z[i] - z[*top]);
    return z[*top] + log(sum);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void direct_effect(Lab *l, const int16_t *level, Direct *d)
{
    int16_t zero[LINEARS] = {0};
    Stream f[2], q[2];
    int64_t V = l->run.m->cfg.vocab;
    run_streams(l, zero, f);
    run_streams(l, level, q);
    double *zf = all_logits(l, &f[1]), *zq = all_logits(l, &q[1]), nll_f = 0, nll_q = 0;
    *d = (Direct){.kl = calloc((size_t)f[1].rows, sizeof *d->kl)};
    assert_non_null(d->kl);
    for (int s = 0; s < EVAL; s++)
        for (int64_t r = l->eval->start[s]; r + 1 < l->eval->start[s + 1]; r++) {
            int64_t tf, tq;
            const double *a = zf + r * V, *b = zq + r * V;
            double la = log_sum(a, V, &tf), lb = log_sum(b, V, &tq);
            for (int64_t v = 0; v < V; v++)
                d->kl[d->n] += exp(a[v] - la) * ((a[v] - la) - (b[v] - lb));
            d->kl_mean += d->kl[d->n];
            d->top1 += tf == tq;
            nll_f += la - a[l->eval->ids[r + 1]];
            nll_q += lb - b[l->eval->ids[r + 1]];
            d->n++;
        }
    qsort(d->kl, (size_t)d->n, sizeof *d->kl, compare);
    d->kl_mean /= d->n;
    d->kl_median = (d->kl[(d->n - 1) / 2] + d->kl[d->n / 2]) / 2;
    d->kl_max = d->kl[d->n - 1];
    d->top1 /= d->n;
    d->ppl_f = exp(nll_f / d->n);
    d->ppl_q = exp(nll_q / d->n);
    int64_t n = f[0].rows * f[0].width;
    for (int64_t i = 0; i < n; i++) {
        double e = (double)f[0].data[i] - (double)q[0].data[i];
        d->mse += e * e / (double)n;
    }
    free(zf);
    free(zq);
    for (int i = 0; i < 2; i++) {
        stream_fini(&f[i]);
        stream_fini(&q[i]);
    }
}

static double off(double got, double want)
{
    return fabs(got - want) / fabs(want);
}

static void check_direct(Lab *l, const int16_t *level, double tolerance)
{
    Direct d;
    Effect e = measure(l, level);
    direct_effect(l, level, &d);
    print_message("KL %.6g (float64 %.6g) median %.6g (%.6g) max %.6g (%.6g)\n", e.kl_mean, d.kl_mean, e.kl_median,
                  d.kl_median, e.kl_max, d.kl_max);
    assert_int_equal(e.predicted, d.n);
    assert_int_equal(e.tokens, l->eval->start[EVAL]);
    assert_int_equal(e.texts, EVAL);
    assert_true(off(e.kl_mean, d.kl_mean) < tolerance && off(e.kl_median, d.kl_median) < tolerance);
    assert_true(off(e.kl_max, d.kl_max) < tolerance);
    assert_true(e.kl_p99 <= e.kl_max && e.kl_p99 >= e.kl_median && e.kl_median >= 0);
    assert_true(off(e.ppl_float, d.ppl_f) < 1e-5 && off(e.ppl_quant, d.ppl_q) < 1e-5);
    assert_true(fabs(e.top1 - d.top1) < 1e-12);
    assert_true(off(e.out_mse, d.mse) < 1e-9);
    assert_true(e.kl_se > 0 && e.kl_se < e.kl_mean && e.ppl_float_se > 0 && e.ppl_quant_se > 0 && e.out_mse_se > 0);
    assert_true(fabs(e.ppl_change - (e.ppl_quant / e.ppl_float - 1)) < 1e-12);
    assert_true(e.ppl_change_se > 0 && e.ppl_change_se < hypot(e.ppl_float_se, e.ppl_quant_se) / e.ppl_float); /* paired */
    free(d.kl);
}

static void numbers_equal_float64_over_whole_logits(void **state)
{
    (void)state;
    Lab l;
    int16_t level[LINEARS];
    lab_open(&l, llama, ARITH_FP32, 2, 1 << 24, NULL);
    for (int k = 1; k <= 3; k++) {
        set_all(level, k);
        check_direct(&l, level, 1e-2);
    }
    memset(level, 0, sizeof level);
    level[20] = 3; /* one weight-only down_proj: far below what the short form can tell */
    check_direct(&l, level, 1e-2);
    lab_close(&l);
    lab_open(&l, qwen3_bf16, ARITH_EXACT, 2, 1 << 24, NULL);
    set_all(level, 1);
    check_direct(&l, level, 1e-3);
    memset(level, 0, sizeof level);
    level[13] = 2;
    check_direct(&l, level, 1e-3);
    lab_close(&l);
}

static TokenBlocks *measure_blocks(Lab *l, const int16_t *level, Effect *e)
{
    Pipeline *p;
    TokenBlocks *b;
    const Work w = {.levels = l->q, .nlevels = 3, .level = level};
    assert_int_equal(pipeline_new(&p, l->run.m, &w, NULL), ST_OK);
    assert_int_equal(effectlab_measure(l->lab, l->run.r, p, e, &b, NULL), ST_OK);
    pipeline_free(p);
    return b;
}

/* Blocks hold every token once, so their sums are the means; from the cache they are the same. */
static void blocks_add_up_to_the_means(void **state)
{
    (void)state;
    Lab l;
    Effect e, again;
    int16_t level[LINEARS];
    lab_open(&l, llama, ARITH_FP32, 2, 1 << 24, NULL);
    set_all(level, 1);
    TokenBlocks *b = measure_blocks(&l, level, &e), *c = measure_blocks(&l, level, &again);
    assert_true(again.from_cache && c != b);
    assert_int_equal(b->n, 3 + 0 + 2 + 9 + 1);
    assert_memory_equal(b, c, sizeof *b + (size_t)b->n * sizeof *b->b);
    assert_string_equal(b->set, l.eval->sha256);
    double kl = 0, nll = 0, more = 0, agree = 0, n = 0;
    for (int64_t i = 0; i < b->n; i++) {
        kl += block_kl(&b->b[i]);
        nll += block_nll_float(&b->b[i]);
        more += block_nll_more(&b->b[i]);
        agree += block_agree(&b->b[i]);
        n += b->b[i].tokens;
        assert_true(b->b[i].kl > 0);
    }
    assert_int_equal(e.predicted, n);
    assert_true(off(kl / n, e.kl_mean) < 1e-6 && off(exp(nll / n), e.ppl_float) < 1e-6);
    assert_true(off(exp(more / n) - 1, e.ppl_change) < 1e-5 && fabs(agree / n - e.top1) < 1e-12);
    assert_true(e.kl_se == blocks_error(b, block_kl) && e.top1_se == blocks_error(b, block_agree));
    free(b);
    free(c);
    lab_close(&l);
}

static void float_has_no_effect(void **state)
{
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        Lab l;
        int16_t level[LINEARS] = {0};
        /* nothing cached: all is run twice */
        lab_open(&l, mode ? qwen3_bf16 : llama, mode ? ARITH_EXACT : ARITH_FP32, 2, 0, NULL);
        Effect e = measure(&l, level);
        assert_true(e.kl_mean == 0 && e.kl_max == 0 && e.kl_se == 0 && e.out_mse == 0 && e.top1 == 1);
        assert_true(e.ppl_float == e.ppl_quant && e.ppl_float_se == e.ppl_quant_se);
        assert_true(e.ppl_change == 0 && e.ppl_change_se == 0);
        assert_int_equal(e.first_layer_run, 0);
        lab_close(&l);
    }
}

/* ---- caching ---- */

static void suffix_runs_and_undo_give_the_same_bits(void **state)
{
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        Lab warm, cold;
        Effect e;
        int16_t a[LINEARS], b[LINEARS];
        lab_open(&warm, mode ? qwen3_bf16 : llama, mode ? ARITH_EXACT : ARITH_FP32, 2, 1 << 24, NULL);
        lab_open(&cold, mode ? qwen3_bf16 : llama, mode ? ARITH_EXACT : ARITH_FP32, 1, 0, NULL);
        set_all(a, 1);
        Effect first = measure(&warm, a);
        assert_int_equal(first.first_layer_run, 0);
        assert_int_equal(first.layers_run, LAYERS);
        assert_false(first.from_cache);
        assert_same_effect(first, measure(&cold, a));

        memcpy(b, a, sizeof b);
        b[2 * PER_LAYER + 1] = 0; /* something in the last layer */
        e = measure(&warm, b);
        assert_int_equal(e.first_layer_run, 2);
        assert_int_equal(e.layers_run, 1);
        assert_same_effect(e, measure(&cold, b));
        assert_true(e.kl_mean != first.kl_mean);

        e = measure(&warm, a); /* back */
        assert_true(e.from_cache && e.layers_run == 0 && e.first_layer_run == LAYERS);
        assert_same_effect(e, first);

        memset(b, 0, sizeof b); /* the float prefix comes from the reference's own run */
        b[PER_LAYER + 4] = 2;
        e = measure(&warm, b);
        assert_int_equal(e.first_layer_run, 1);
        assert_same_effect(e, measure(&cold, b));
        memset(b, 0, sizeof b);
        assert_int_equal(measure_work(warm.lab, warm.run.r, &(Work){.level = b}, &e, NULL), ST_OK);
        assert_int_equal(e.first_layer_run, LAYERS); /* float is float under any recipe: the reference's own states */
        lab_close(&warm);
        lab_close(&cold);
    }
}

static void qconfigs_are_told_apart_by_what_they_are(void **state)
{
    (void)state;
    Lab l;
    Effect e;
    int16_t level[LINEARS];
    lab_open(&l, llama, ARITH_FP32, 2, 1 << 24, NULL);
    set_all(level, 2);
    Effect two = measure(&l, level);
    QConfig swapped[2] = {l.q[1], l.q[0]};
    set_all(level, 1);
    const Work work = {.levels = swapped, .nlevels = 2, .level = level};
    assert_int_equal(measure_work(l.lab, l.run.r, &work, &e, NULL), ST_OK);
    assert_true(e.from_cache); /* another number, the same quantization */
    assert_same_effect(e, two);
    assert_false(measure(&l, level).from_cache);
    swapped[0].weight.dtype = QT_INT8;
    assert_int_equal(measure_work(l.lab, l.run.r, &work, &e, NULL), ST_OK);
    assert_false(e.from_cache);
    lab_close(&l);
}

static void small_caches_only_run_more(void **state)
{
    (void)state;
    /* a state is (61 + 208) rows x 40 x 4 bytes */
    Lab l, cold;
    int16_t a[LINEARS], b[LINEARS];
    lab_open(&l, llama, ARITH_FP32, 2, 60000, NULL); /* one state */
    lab_open(&cold, llama, ARITH_FP32, 2, 0, NULL);
    set_all(a, 1);
    memcpy(b, a, sizeof b);
    b[20] = 0;
    Effect x = measure(&l, a);
    assert_same_effect(x, measure(&cold, a));
    Effect e = measure(&l, b); /* only the last output was kept */
    assert_int_equal(e.first_layer_run, 0);
    assert_same_effect(e, measure(&cold, b));
    lab_close(&l);

    char *dir = temp_folder();
    lab_open(&l, llama, ARITH_FP32, 2, 60000, dir); /* the others go into a folder */
    assert_same_effect(x, measure(&l, a));
    e = measure(&l, b);
    assert_int_equal(e.first_layer_run, 2);
    assert_same_effect(e, measure(&cold, b));
    lab_close(&l);
    lab_open(&l, llama, ARITH_FP32, 2, 60000, dir); /* another run finds them */
    assert_same_effect(x, measure(&l, a));
    set_all(b, 1);
    b[PER_LAYER] = 0;
    e = measure(&l, b);
    assert_int_equal(e.first_layer_run, 1);
    assert_same_effect(e, measure(&cold, b));
    lab_close(&l);
    lab_close(&cold);
    temp_remove(dir);
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        Lab a, b;
        int16_t level[LINEARS];
        for (int i = 0; i < LINEARS; i++)
            level[i] = (int16_t)(i % 4);
        lab_open(&a, mode ? qwen3_bf16 : llama, mode ? ARITH_EXACT : ARITH_FP32, 1, 1 << 24, NULL);
        lab_open(&b, mode ? qwen3_bf16 : llama, mode ? ARITH_EXACT : ARITH_FP32, 4, 1 << 24, NULL);
        assert_same_effect(measure(&a, level), measure(&b, level));
        lab_close(&a);
        lab_close(&b);
    }
}

static void both_arithmetics_live_in_one_lab(void **state)
{
    (void)state;
    Lab l, own;
    int16_t level[LINEARS];
    set_all(level, 1);
    lab_open(&l, qwen3_bf16, ARITH_FP32, 2, 1 << 24, NULL);
    lab_open(&own, qwen3_bf16, ARITH_EXACT, 2, 1 << 24, NULL);
    Effect fp32 = measure(&l, level), model = measure(&own, level), got;
    assert_int_equal(measure_work(l.lab, own.run.r, &(Work){.levels = l.q, .nlevels = 3, .level = level}, &got, NULL), ST_OK);
    assert_false(got.from_cache);
    assert_same_effect(got, model);
    assert_true(got.kl_mean != fp32.kl_mean);
    assert_same_effect(measure(&l, level), fp32);
    lab_close(&l);
    lab_close(&own);
}

/* ---- edges ---- */

static void empty_sets_are_refused(void **state)
{
    (void)state;
    static const int ones[] = {1, 1}, some[] = {4};
    TestRun b;
    Error e = {0};
    test_run_open(&b, llama, ARITH_FP32, 1, NULL);
    TokenSet *one = test_tokens(ones, 2, 100, 1), *good = test_tokens(some, 1, 100, 1);
    TokenSet *none = test_tokens(some, 0, 100, 1);
    EffectLab *lab;
    EffectOptions o = {.calib = good, .eval = one};
    assert_int_equal(effectlab_new(&lab, b.m, &o, &e), ST_DATA);
    assert_null(lab);
    o = (EffectOptions){.calib = none, .eval = good};
    assert_int_equal(effectlab_new(&lab, b.m, &o, &e), ST_DATA);
    o = (EffectOptions){.calib = one, .eval = good}; /* one block: its error is not known */
    assert_int_equal(effectlab_new(&lab, b.m, &o, &e), ST_OK);
    Runner *r = b.r;
    QConfig q = config_default();
    int16_t level[LINEARS];
    set_all(level, 1);
    Effect got;
    assert_int_equal(measure_work(lab, r, &(Work){.levels = &q, .nlevels = 1, .level = level}, &got, &e), ST_OK);
    assert_int_equal(got.predicted, 3);
    assert_true(isnan(got.kl_se) && isnan(got.ppl_quant_se) && isfinite(got.out_mse_se));
    effectlab_free(lab);
    effectlab_free(NULL);
    test_tokens_free(one);
    test_tokens_free(good);
    test_tokens_free(none);
    test_run_close(&b);
}

static void failures_leave_the_lab_usable(void **state)
{
    (void)state;
    Lab l;
    Error err = {0};
    Effect e;
    int16_t level[LINEARS];
    lab_open(&l, llama, ARITH_FP32, 2, 1 << 24, NULL);
    set_all(level, 1);
    QConfig bad = l.q[0];
    strcpy(bad.weight.method, "awq");
    assert_int_equal(measure_work(l.lab, l.run.r, &(Work){.levels = &bad, .nlevels = 1, .level = level}, &e, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "awq"));
    Cancel cancel = {.level = 2};
    RunnerOptions o = {.pool = l.run.pool, .cancel = &cancel};
    Runner *r;
    assert_int_equal(runner_new(&r, l.run.m, &o, NULL), ST_OK);
    assert_int_equal(measure_work(l.lab, r, &(Work){.levels = l.q, .nlevels = 3, .level = level}, &e, &err), ST_CANCELLED);
    atomic_store(&cancel.level, 0);
    assert_int_equal(measure_work(l.lab, r, &(Work){.levels = l.q, .nlevels = 3, .level = level}, &e, &err), ST_OK);
    Effect again = measure(&l, level);
    assert_same_effect(e, again);
    runner_free(r);
    lab_close(&l);
}

/* ---- memory ---- */

/* Measures under a limit; *layers: how often a layer was told of. */
static void count_layers(void *ctx, const Progress *p)
{
    *(int *)ctx += strcmp(p->phase, "layer") == 0 || strcmp(p->phase, "embed") == 0;
}

static Status measure_within(Lab *l, const int16_t *level, uint64_t limit, int *layers, Effect *e, Error *err)
{
    Runner *r;
    RunnerOptions o = {.pool = l->run.pool, .mem_limit = limit, .progress = count_layers, .progress_ctx = layers};
    *layers = 0;
    assert_int_equal(runner_new(&r, l->run.m, &o, NULL), ST_OK);
    Status st = measure_work(l->lab, r, &(Work){.levels = l->q, .nlevels = 3, .level = level}, e, err);
    runner_free(r);
    return st;
}

/* Whatever limit is refused is refused before a layer runs, and whatever is accepted gives the same numbers; what the
 * plan says is enough is. */
static void a_limit_is_refused_before_a_layer_runs(void **state)
{
    (void)state;
    Lab l;
    int16_t level[LINEARS];
    int layers;
    Effect e;
    Error err = {0};
    for (int at = 1; at <= 3; at++) {
        lab_open(&l, llama, ARITH_FP32, 2, 0, NULL);
        set_all(level, at);
        Effect want = measure(&l, level);
        Pipeline *p;
        assert_int_equal(pipeline_new(&p, l.run.m, &(Work){.levels = l.q, .nlevels = 3, .level = level}, NULL), ST_OK);
        EffectPlan plan = effect_plan(p, l.calib, l.eval, 2, ARITH_FP32);
        assert_int_equal(plan.whole, at == 1);
        assert_int_equal(plan.first, 0);
        pipeline_free(p);
        int refused = 0;
        for (uint64_t limit = plan.runner / 8; limit < plan.runner; limit += plan.runner / 16) {
            lab_close(&l);
            lab_open(&l, llama, ARITH_FP32, 2, 0, NULL);
            Status st = measure_within(&l, level, limit, &layers, &e, &err);
            assert_true(st == ST_OK || st == ST_NOMEM);
            if (st == ST_OK) {
                assert_same_effect(e, want);
            } else {
                assert_non_null(strstr(err.text, "raise --mem"));
                assert_int_equal(layers, 0);
                refused++;
            }
        }
        assert_true(refused > 0);
        lab_close(&l);
        lab_open(&l, llama, ARITH_FP32, 2, 0, NULL);
        assert_int_equal(measure_within(&l, level, plan.runner, &layers, &e, &err), ST_OK);
        assert_same_effect(e, want);
        lab_close(&l);
    }
}

static void states_go_when_their_room_is_taken(void **state)
{
    (void)state;
    Lab l;
    int16_t a[LINEARS], b[LINEARS];
    const uint64_t one = (61 + 208) * 40 * 4; /* bytes, and the note of what stayed float */
    lab_open(&l, llama, ARITH_FP32, 2, 1 << 24, NULL);
    set_all(a, 1);
    memcpy(b, a, sizeof b);
    b[20] = 0;
    Effect x = measure(&l, a);
    assert_true(effectlab_states(l.lab) > 2 * LAYERS * one);
    uint64_t references = effectlab_references(l.lab);
    assert_true(references > 61 * 40 * 4 && references < 3 * one);
    effectlab_limit(l.lab, 2 * one);
    assert_true(effectlab_states(l.lab) > one && effectlab_states(l.lab) <= 2 * one);
    Effect y = measure(&l, b);
    assert_int_equal(y.first_layer_run, 0); /* the only one left is the last output */
    effectlab_limit(l.lab, 0);
    assert_int_equal(effectlab_states(l.lab), 0);
    assert_int_equal(effectlab_references(l.lab), references);
    assert_same_effect(x, measure(&l, a)); /* results are not states */
    set_all(b, 2);
    Effect z = measure(&l, b);
    lab_close(&l);
    lab_open(&l, llama, ARITH_FP32, 2, 1 << 24, NULL);
    assert_same_effect(z, measure(&l, b));
    set_all(b, 1);
    b[20] = 0;
    assert_same_effect(y, measure(&l, b));
    lab_close(&l);
}

/* Where no second measurement comes, one state at most is kept: where both models part. */
static void once_keeps_the_state_it_begins_with(void **state)
{
    (void)state;
    Lab l;
    int16_t level[LINEARS];
    const uint64_t one = (61 + 208) * 40 * 4;
    lab_open(&l, llama, ARITH_FP32, 2, 1 << 24, NULL);
    set_all(level, 1);
    for (int i = 0; i < PER_LAYER; i++)
        level[i] = 0;
    Effect want = measure(&l, level);
    effectlab_free(l.lab);
    EffectOptions o = {.calib = l.calib, .eval = l.eval, .cache_bytes = 1 << 24, .seed = 5, .once = true};
    assert_int_equal(effectlab_new(&l.lab, l.run.m, &o, NULL), ST_OK);
    Effect e = measure(&l, level);
    assert_same_effect(e, want);
    assert_int_equal(e.first_layer_run, 1);
    assert_true(effectlab_states(l.lab) >= one && effectlab_states(l.lab) < 2 * one);
    lab_close(&l);
}

/* The card of models/demo: quantized clearly worse; the two down_proj with the largest inputs in float repair most of
 * it. */
static void demo_tells_its_story(void **state)
{
    (void)state;
    static const int lens[] = {128, 128, 128};
    TestRun b;
    test_run_open(&b, "lab_models/demo", ARITH_FP32, 2, NULL);
    TokenSet *calib = test_tokens(lens, 3, b.m->cfg.vocab, 11), *eval = test_tokens(lens, 2, b.m->cfg.vocab, 12);
    EffectOptions o = {.calib = calib, .eval = eval, .cache_bytes = 1 << 26, .seed = 1};
    EffectLab *lab;
    Effect all, two, other;
    QConfig q = config_default();
    int16_t *level = calloc((size_t)b.m->nlinears, sizeof *level);
    assert_non_null(level);
    for (int64_t i = 0; i < b.m->nlinears; i++)
        level[i] = 1;
    assert_int_equal(effectlab_new(&lab, b.m, &o, NULL), ST_OK);
    assert_int_equal(measure_work(lab, b.r, &(Work){.levels = &q, .nlevels = 1, .level = level}, &all, NULL), ST_OK);
    level[model_find_linear(b.m, "model.layers.1.mlp.down_proj")] = 0;
    level[model_find_linear(b.m, "model.layers.6.mlp.down_proj")] = 0;
    assert_int_equal(measure_work(lab, b.r, &(Work){.levels = &q, .nlevels = 1, .level = level}, &two, NULL), ST_OK);
    for (int64_t i = 0; i < b.m->nlinears; i++)
        level[i] = 1;
    level[model_find_linear(b.m, "model.layers.2.mlp.down_proj")] = 0;
    level[model_find_linear(b.m, "model.layers.4.mlp.down_proj")] = 0;
    assert_int_equal(measure_work(lab, b.r, &(Work){.levels = &q, .nlevels = 1, .level = level}, &other, NULL), ST_OK);
    print_message("KL: all %.4f, two worst in float %.4f, two others %.4f\n", all.kl_mean, two.kl_mean, other.kl_mean);
    assert_int_equal(two.first_layer_run, 1);
    assert_true(two.kl_mean < 0.5 * all.kl_mean);
    assert_true(other.kl_mean > 0.8 * all.kl_mean);
    effectlab_free(lab);
    free(level);
    test_tokens_free(calib);
    test_tokens_free(eval);
    test_run_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_equal_float64_over_whole_logits),
        cmocka_unit_test(blocks_add_up_to_the_means),
        cmocka_unit_test(float_has_no_effect),
        cmocka_unit_test(suffix_runs_and_undo_give_the_same_bits),
        cmocka_unit_test(qconfigs_are_told_apart_by_what_they_are),
        cmocka_unit_test(small_caches_only_run_more),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(both_arithmetics_live_in_one_lab),
        cmocka_unit_test(empty_sets_are_refused),
        cmocka_unit_test(failures_leave_the_lab_usable),
        cmocka_unit_test(a_limit_is_refused_before_a_layer_runs),
        cmocka_unit_test(states_go_when_their_room_is_taken),
        cmocka_unit_test(once_keeps_the_state_it_begins_with),
        cmocka_unit_test(demo_tells_its_story),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
