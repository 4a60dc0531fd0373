/* Samples divided over several processes: what each packed makes the bytes of one that saw them all. Ranks are run here
 * one after the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metric/metric.h"
#include "process/cachewatch.h"
#include "quant/headquant.h"
#include "quant/hessian.h"
#include "quant/quantizer.h"
#include "run/taps.h"
#include "stat/tapstat.h"

#include "tests/lib/bench.h"
#include "tests/lib/random_model.h"

enum { RANKS = 3 };

/* ---- the analysis ---- */

typedef struct Gatherer {
    Pack pack[RANKS][8]; /* of each rank and layer */
    const Pack *all[RANKS];
    int rank, ranks, layer;
} Gatherer;

/* All but the last rank hear of themselves alone; their results are not looked at. */
static Status gather(void *ctx, const Pack *mine, const Pack *const **all, int *n, Error *err)
{
    (void)err;
    Gatherer *g = ctx;
    Pack *own = &g->pack[g->rank][g->layer];
    pack_put(own, mine->data, mine->len);
    *n = g->rank == g->ranks - 1 ? g->ranks : 1;
    for (int i = 0; i < *n; i++)
        g->all[i] = &g->pack[*n == 1 ? g->rank : i][g->layer];
    *all = g->all;
    g->layer++;
    return ST_OK;
}

typedef struct Found {
    LinearResult *r; /* [nlinears] */
    bool keep;
} Found;

static Status keep_results(void *ctx, const PassStep *step, Error *err)
{
    (void)err;
    Found *f = ctx;
    LinearResult *r = step->linear;
    for (int i = 0; i < step->nlinear; i++) {
        if (f->keep)
            f->r[r[i].linear] = r[i];
        else
            linear_result_fini(&r[i]);
    }
    return ST_OK;
}

static void analyze(const TestRun *b, const TokenSet *t, const QConfig *w, const Ranks *ranks, Found *f)
{
    Error e = {0};
    unsigned needs = NEED_ORDER | NEED_STD | NEED_CHANNEL | NEED_WEIGHT | NEED_OUTPUT | NEED_HIST | NEED_WHIST;
    PassPlan p = {.m = b->m, .needs = needs, .levels = w, .nlevels = 1, .tokens = t, .ranks = ranks};
    if (pass_statistics.run(b->r, &p, &(PassSink){keep_results, f}, &e) != ST_OK)
        fail_msg("%s", e.text);
}

static void same_hist(const KeyHist *a, const KeyHist *b)
{
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->total, b->total);
    assert_memory_equal(a->key, b->key, (size_t)a->n * sizeof *a->key);
    assert_memory_equal(a->count, b->count, (size_t)a->n * sizeof *a->count);
}

static void same_results(const LinearResult *a, const LinearResult *b)
{
    const TapSummary *x = &a->in, *y = &b->in;
    const WeightSummary *v = &a->weight, *w = &b->weight;
    const double mine[] = {x->min, x->max, x->mean, x->std, x->kurtosis, x->quantile, x->std_score, x->token_max_sq,
                           x->mean_sq, v->min, v->max, v->mean, v->std, a->err.output_sq, a->err.extra[0].err};
    const double theirs[] = {y->min, y->max, y->mean, y->std, y->kurtosis, y->quantile, y->std_score, y->token_max_sq,
                             y->mean_sq, w->min, w->max, w->mean, w->std, b->err.output_sq, b->err.extra[0].err};
    same_hist(&x->hist, &y->hist);
    same_hist(&v->hist, &w->hist);
    assert_memory_equal(x->channel_max, y->channel_max, (size_t)x->width * sizeof *x->channel_max);
    assert_memory_equal(mine, theirs, sizeof mine);
    assert_true(a->err.have && b->err.have && x->rows == y->rows && x->samples == y->samples && !x->bad && !y->bad);
    assert_memory_equal(a->err.weight_err, b->err.weight_err, sizeof a->err.weight_err);
    assert_memory_equal(a->err.act_err, b->err.act_err, sizeof a->err.act_err);
}

static void results_free(Found *f, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        linear_result_fini(&f->r[i]);
    free(f->r);
}

static const RandomShape dense = {"qwen3", 3, 4, 2, 16, 40, 72, 130, 0, DT_BF16, 4};

/* Each text of 512 tokens or more ends a band of rows: a rank may end there. */
static const int lengths[] = {512, 3, 1, 700, 520, 40, 600, 33};
enum { TEXTS = sizeof lengths / sizeof *lengths };
static const int splits[][RANKS + 1] = {{0, TEXTS}, {0, 1, TEXTS}, {0, 4, 5, TEXTS}, {0, 7, TEXTS}, {0, 1, 7, TEXTS}};

static void scores_do_not_depend_on_the_ranks(void **state)
{
    (void)state;
    char dir[64];
    TestRun b;
    random_model_write(&dense, dir);
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, TEXTS, dense.vocab, 21);
    QConfig fp8 = {.weight = {.dtype = QT_FP8_E4M3, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "minmax"}};
    Found want = {calloc((size_t)b.m->nlinears, sizeof(LinearResult)), true};
    analyze(&b, t, &fp8, NULL, &want);
    for (size_t k = 0; k < sizeof splits / sizeof *splits; k++) {
        Gatherer *g = calloc(1, sizeof *g);
        Found got = {calloc((size_t)b.m->nlinears, sizeof(LinearResult)), false};
        while (splits[k][g->ranks] < TEXTS)
            g->ranks++;
        for (g->rank = 0; g->rank < g->ranks; g->rank++) {
            int s0 = splits[k][g->rank], s1 = splits[k][g->rank + 1];
            TokenSet *part = test_tokens(lengths + s0, s1 - s0, dense.vocab, 1);
            memcpy(part->ids, t->ids + t->start[s0], (size_t)(t->start[s1] - t->start[s0]) * sizeof *t->ids);
            got.keep = g->rank == g->ranks - 1;
            g->layer = 0;
            analyze(&b, part, &fp8, &(Ranks){.gather = gather, .ctx = g}, &got);
            test_tokens_free(part);
        }
        for (int64_t i = 0; i < b.m->nlinears; i++)
            same_results(&want.r[i], &got.r[i]);
        results_free(&got, b.m->nlinears);
        for (int i = 0; i < RANKS; i++)
            for (int layer = 0; layer < 8; layer++)
                pack_fini(&g->pack[i][layer]);
        free(g);
    }
    results_free(&want, b.m->nlinears);
    test_tokens_free(t);
    test_run_close(&b);
    random_model_remove(dir);
}

/* ---- one tap ---- */

enum { WIDTH = 70 };
static const int64_t start[] = {0, 5, 5, 40, 41, 90, 96};
enum { SAMPLES = 6 };

/* In [0, 1). */
static double uniform(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(*seed >> 11) * 0x1p-53;
}

/* Of samples so different in size that sums in another order have other bits. */
static float *values(void)
{
    static const float size[SAMPLES] = {1, 1, 3e4f, 7e-3f, 70, 1e-5f};
    uint64_t seed = 11;
    float *x = malloc((size_t)(start[SAMPLES] * WIDTH) * sizeof *x);
    for (int s = 0; s < SAMPLES; s++)
        for (int64_t i = start[s] * WIDTH; i < start[s + 1] * WIDTH; i++)
            x[i] = (float)(uniform(&seed) - 0.3) * size[s] * (i % 13 == 5 ? 40 : 1);
    return x;
}

static TapStat *tap_of(StatPool *pool, const float *x, int s0, int s1, bool parts)
{
    int64_t own[SAMPLES + 1];
    TapStat *t;
    TapWants w = {.order = true, .std = true, .channel = true, .hist = true, .parts = parts};
    for (int i = s0; i <= s1; i++)
        own[i - s0] = start[i] - start[s0];
    assert_int_equal(tapstat_new(&t, pool, w, s1 - s0, own, WIDTH, NULL), ST_OK);
    for (int i = s0; i < s1; i++)
        tapstat_tile(t, i - s0, 0, x + start[i] * WIDTH, start[i + 1] - start[i], WIDTH);
    return t;
}

static void same_totals(TapTotals *a, TapTotals *b)
{
    if (!a->bad) {
        same_hist(&a->hist, &b->hist);
        assert_memory_equal(a->channel_sq, b->channel_sq, WIDTH * sizeof *a->channel_sq);
        assert_memory_equal(a->channel_max, b->channel_max, WIDTH * sizeof *a->channel_max);
    }
    const double mine[] = {a->min, a->max, a->mean, a->std, a->mean_sq, a->kurtosis, a->quantile, a->std_score,
                           a->token_max_sq};
    const double theirs[] = {b->min, b->max, b->mean, b->std, b->mean_sq, b->kurtosis, b->quantile, b->std_score,
                             b->token_max_sq};
    assert_memory_equal(mine, theirs, sizeof mine);
    assert_true(a->rows == b->rows && a->values == b->values && a->samples == b->samples && a->bad == b->bad);
}

static void a_tap_is_the_same_in_parts(void **state)
{
    (void)state;
    float *x = values();
    StatPool *pool;
    assert_int_equal(statpool_new(&pool, NULL), ST_OK);
    for (int bad = 0; bad < 2; bad++) {
        if (bad)
            x[50 * WIDTH + 3] = NAN; /* sample 4, row 9 */
        TapTotals want;
        TapStat *one = tap_of(pool, x, 0, SAMPLES, false);
        assert_int_equal(tapstat_end(one, &want, NULL), ST_OK);
        tapstat_free(one);
        assert_true(want.bad == bad);
        for (int a = 0; a <= SAMPLES; a++)
            for (int c = a; c <= SAMPLES; c++) { /* a rank may have no sample at all */
                int cut[] = {0, a, c, SAMPLES};
                TapTotals got;
                TapStat *all = tap_of(pool, x, 0, 0, true);
                for (int r = 0; r < RANKS; r++) {
                    Pack p = {0};
                    TapStat *part = tap_of(pool, x, cut[r], cut[r + 1], true);
                    assert_int_equal(tapstat_pack(part, &p, NULL), ST_OK);
                    Unpack in = unpack_of(&p);
                    assert_int_equal(tapstat_merge(all, &in, NULL), ST_OK);
                    assert_true(!in.bad && in.at == in.end);
                    tapstat_free(part);
                    pack_fini(&p);
                }
                assert_int_equal(tapstat_end(all, &got, NULL), ST_OK);
                same_totals(&want, &got);
                if (bad)
                    assert_non_null(strstr(got.bad_text, "NaN first at sample 4 token 9 channel 3"));
                taptotals_fini(&got);
                tapstat_free(all);
            }
        taptotals_fini(&want);
    }
    statpool_free(pool);
    free(x);
}

static void what_is_cut_short_is_refused(void **state)
{
    (void)state;
    float *x = values();
    StatPool *pool;
    Error e = {0};
    assert_int_equal(statpool_new(&pool, NULL), ST_OK);
    Pack p = {0};
    TapStat *part = tap_of(pool, x, 0, 3, true);
    assert_int_equal(tapstat_pack(part, &p, NULL), ST_OK);
    tapstat_free(part);
    for (size_t len = 0; len < p.len; len += 1 + len / 3) {
        TapStat *all = tap_of(pool, x, 0, 0, true);
        Unpack in = {p.data, p.data + len, false};
        assert_int_not_equal(tapstat_merge(all, &in, &e), ST_OK);
        tapstat_free(all);
    }
    pack_fini(&p);
    statpool_free(pool);
    free(x);
}

/* ---- ranges of activations ---- */

static void extremes(const float *x, float mn[SAMPLES], float mx[SAMPLES])
{
    for (int s = 0; s < SAMPLES; s++) {
        mn[s] = INFINITY;
        mx[s] = -INFINITY;
        for (int64_t i = start[s] * WIDTH; i < start[s + 1] * WIDTH; i++) {
            mn[s] = fminf(mn[s], x[i]);
            mx[s] = fmaxf(mx[s], x[i]);
        }
    }
}

static void every_activation_observer_is_the_same_in_parts(void **state)
{
    (void)state;
    float *x = values(), mn[SAMPLES], mx[SAMPLES];
    int rows = 0;
    extremes(x, mn, mx);
    for (int k = 0; act_quantizer_table[k]; k++) {
        const ActObserver *o = act_quantizer_table[k]->observer;
        if (!o)
            continue;
        rows++;
        for (int peer = 0; peer < 2; peer++)
            for (int a = 0; a <= SAMPLES; a++)
                for (int c = a; c <= SAMPLES; c++) {
                    int cut[] = {0, a, c, SAMPLES};
                    void *want = calloc(1, o->size), *got = calloc(1, o->size);
                    act_observe(o, want, x, start, SAMPLES, WIDTH, mn, mx, peer);
                    for (int r = 0; r < RANKS; r++) {
                        Pack p = {0};
                        assert_int_equal(act_observe_pack(o, x, start + cut[r], cut[r + 1] - cut[r], WIDTH,
                                                          mn + cut[r], mx + cut[r], &p, NULL),
                                         ST_OK);
                        assert_true(o->values || p.len <= 8 + 16 * SAMPLES); /* the values stay where they are */
                        Unpack in = unpack_of(&p);
                        assert_int_equal(act_observe_packed(o, got, &in, peer, NULL), ST_OK);
                        assert_true(in.at == in.end);
                        pack_fini(&p);
                    }
                    assert_memory_equal(want, got, o->size);
                    free(want);
                    free(got);
                }
    }
    assert_true(rows >= 3);
    free(x);
}

/* ---- second moments ---- */

static void give_rows(void *ctx, int64_t row0, int64_t rows, float *out)
{
    memcpy(out, (const float *)ctx + row0 * WIDTH, (size_t)(rows * WIDTH) * sizeof *out);
}

static void second_moments_go_on_where_another_rank_stopped(void **state)
{
    (void)state;
    enum { ROWS = 1500 };
    static const int64_t cuts[][RANKS + 1] = {
        {0, 512, 1024, ROWS}, {0, 100, 101, ROWS}, {0, 0, 700, ROWS}, {0, 1400, 1500, ROWS}};
    float *x = malloc(ROWS * WIDTH * sizeof *x), *want = malloc(WIDTH * WIDTH * sizeof *want),
          *got = malloc(WIDTH * WIDTH * sizeof *got);
    uint64_t seed = 5;
    for (int i = 0; i < ROWS * WIDTH; i++)
        x[i] = (float)(uniform(&seed) - 0.5);
    Pool *pool;
    assert_int_equal(pool_new(&pool, 2, NULL), ST_OK);
    assert_int_equal(hessian_gather(give_rows, x, ROWS, WIDTH, pool, NULL, want, NULL), ST_OK);
    for (size_t k = 0; k < sizeof cuts / sizeof *cuts; k++) {
        Pack p = {0};
        for (int r = 0; r < RANKS; r++) {
            Hessian *g;
            assert_int_equal(hessian_new(&g, WIDTH, got, pool, NULL, NULL), ST_OK);
            Unpack in = unpack_of(&p);
            if (r > 0)
                assert_int_equal(hessian_merge(g, &in, NULL), ST_OK);
            assert_true(in.at == in.end);
            assert_int_equal(hessian_add(g, give_rows, x + cuts[k][r] * WIDTH, cuts[k][r + 1] - cuts[k][r], NULL),
                             ST_OK);
            pack_fini(&p);
            if (r < RANKS - 1)
                assert_int_equal(hessian_pack(g, &p, NULL), ST_OK);
            else
                assert_int_equal(hessian_end(g, NULL), ST_OK);
            hessian_free(g);
        }
        assert_memory_equal(want, got, WIDTH * WIDTH * sizeof *want);
    }
    Pack p = {0};
    Hessian *g, *other;
    Error e = {0};
    assert_int_equal(hessian_new(&g, WIDTH, want, pool, NULL, NULL), ST_OK);
    assert_int_equal(hessian_new(&other, WIDTH - 1, got, pool, NULL, NULL), ST_OK);
    assert_int_equal(hessian_pack(g, &p, NULL), ST_OK);
    Unpack in = unpack_of(&p);
    assert_int_equal(hessian_merge(other, &in, &e), ST_INTERNAL);
    hessian_free(g);
    hessian_free(other);
    pack_fini(&p);
    pool_free(pool);
    free(x);
    free(want);
    free(got);
}

/* ---- keys and values ---- */

static void feed_cache(CacheWatch *w, const float *x, int s0, int s1)
{
    int64_t own[SAMPLES + 1];
    Observer o = cache_watch_observer(w);
    for (int i = s0; i <= s1; i++)
        own[i - s0] = start[i] - start[s0];
    for (int kind = TAP_K; kind <= TAP_V; kind++) {
        Tap tap = {(TapKind)kind, 2, -1};
        assert_true(o.ops->wants_tap(o.self, tap));
        assert_int_equal(o.ops->tap_begin(o.self, tap, s1 - s0, own, WIDTH, NULL), ST_OK);
        for (int i = s0; i < s1; i++)
            o.ops->tap_tile(o.self, tap, i - s0, 0, x + start[i] * WIDTH, start[i + 1] - start[i], WIDTH, WIDTH);
        assert_int_equal(o.ops->tap_end(o.self, tap, NULL), ST_OK);
    }
}

typedef struct CachePacks {
    Pack pack[RANKS];
    const Pack *all[RANKS];
    int n;
} CachePacks;

static Status gather_cache(void *ctx, const Pack *mine, const Pack *const **all, int *n, Error *err)
{
    (void)err;
    CachePacks *c = ctx;
    pack_put(&c->pack[c->n], mine->data, mine->len);
    c->all[c->n] = &c->pack[c->n];
    *n = ++c->n;
    *all = c->all;
    return ST_OK;
}

static void ranges_of_keys_and_values_are_the_same_in_parts(void **state)
{
    (void)state;
    float *x = values();
    QSpec q = {.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = false, .method = "minmax"};
    for (int last = 0; last < 2; last++)
        for (int a = 1; a <= SAMPLES; a++)
            for (int c = a; c <= SAMPLES; c++) {
                int cut[] = {0, a, c, SAMPLES};
                CacheWatch one = {.layer = 2, .last = last}, rank = one;
                CachePacks packs = {.n = 0};
                feed_cache(&one, x, 0, SAMPLES);
                for (int r = 0; r < RANKS; r++) {
                    cache_watch_fini(&rank);
                    feed_cache(&rank, x, cut[r], cut[r + 1]);
                    Observer o = cache_watch_observer(&rank);
                    assert_int_equal(taps_gather(&o, 2, &(Ranks){.gather = gather_cache, .ctx = &packs}, NULL), ST_OK);
                }
                for (int side = 0; side < 2; side++) {
                    float *want, *got, *offset;
                    int64_t n;
                    assert_int_equal(cache_watch_params(&one, side, &q, DT_F32, &want, &offset, &n, NULL), ST_OK);
                    assert_int_equal(cache_watch_params(&rank, side, &q, DT_F32, &got, &offset, &n, NULL), ST_OK);
                    assert_int_equal(n, WIDTH);
                    assert_memory_equal(want, got, 2 * WIDTH * sizeof *want);
                    free(want);
                    free(got);
                }
                cache_watch_fini(&one);
                cache_watch_fini(&rank);
                for (int r = 0; r < RANKS; r++)
                    pack_fini(&packs.pack[r]);
            }
    free(x);
}

/* ---- ranges of heads ---- */

static void feed_heads(HeadQuant *h, const float *x, int s0, int s1)
{
    static int64_t own[SAMPLES + 1]; /* it outlives the taps */
    Observer o = head_quant_observer(h);
    for (int i = s0; i <= s1; i++)
        own[i - s0] = start[i] - start[s0];
    for (int kind = TAP_Q; kind <= TAP_V; kind++) {
        Tap tap = {(TapKind)kind, 0, -1};
        assert_true(o.ops->wants_tap(o.self, tap));
        assert_int_equal(o.ops->tap_begin(o.self, tap, s1 - s0, own, WIDTH, NULL), ST_OK);
        for (int i = s0; i < s1; i++)
            o.ops->tap_tile(o.self, tap, i - s0, 0, x + start[i] * WIDTH, start[i + 1] - start[i], WIDTH, WIDTH);
        assert_int_equal(o.ops->tap_end(o.self, tap, NULL), ST_OK);
    }
}

static Status gather_heads(void *ctx, Observer o, Error *err)
{
    return taps_gather(&o, 0, &(Ranks){.gather = gather_cache, .ctx = ctx}, err);
}

/* Each by itself, the last of them with what the others packed. */
static void ranges_of_heads_are_the_same_in_parts(void **state)
{
    (void)state;
    ModelConfig c = {.heads = WIDTH, .kv_heads = WIDTH, .head_dim = 1, .v_dim = 1};
    Unit unit = {.cfg = &c};
    Model m = {.units = &unit};
    float *x = values();
    for (int bad = 0; bad < 2; bad++)
        for (int a = 0; a <= SAMPLES; a++) { /* the first may have no sample */
            const int cut[] = {0, a, SAMPLES > a ? a + 1 : a, SAMPLES};
            HeadQuant one = {.m = &m, .T = DT_F32, .ratio = {0.9, 1, 1}}, rank = one;
            CachePacks packs = {.n = 0};
            Error want = {0}, got = {0};
            x[(start[SAMPLES] - 1) * WIDTH + 2] = bad ? NAN : 0.5f;
            feed_heads(&one, x, 0, SAMPLES);
            const Status st = head_quant_fix(&one, &want);
            for (int r = 0; r < RANKS; r++) {
                head_quant_fini(&rank);
                feed_heads(&rank, x, cut[r], cut[r + 1]);
                rank.gather = gather_heads;
                rank.ctx = &packs;
                if (r < RANKS - 1)
                    assert_int_equal(gather_heads(&packs, head_quant_observer(&rank), &got), ST_OK);
            }
            assert_int_equal(head_quant_fix(&rank, &got), st);
            assert_string_equal(want.text, got.text);
            for (int part = 0; st == ST_OK && part < HEAD_PARTS; part++)
                assert_memory_equal(one.side[0][part].param, rank.side[0][part].param, WIDTH * sizeof(QParam));
            head_quant_fini(&one);
            head_quant_fini(&rank);
            for (int r = 0; r < RANKS; r++)
                pack_fini(&packs.pack[r]);
        }
    free(x);
}

/* ---- others ---- */

static Status cut_short(void *ctx, const Pack *mine, const Pack *const **all, int *n, Error *err)
{
    (void)err;
    CachePacks *c = ctx;
    pack_put(&c->pack[0], mine->data, mine->len);
    pack_put(&c->pack[0], "x", 1);
    c->all[0] = &c->pack[0];
    *n = 1;
    *all = c->all;
    return ST_OK;
}

static void an_observer_that_cannot_be_divided_is_named(void **state)
{
    (void)state;
    static const ObserverOps ops = {.name = "everything at once"};
    Error e = {0};
    assert_int_equal(taps_gather(&(Observer){&ops, NULL}, 0, NULL, &e), ST_INTERNAL);
    assert_non_null(strstr(e.text, "'everything at once'"));
    float *x = values();
    CacheWatch w = {.layer = 2};
    CachePacks packs = {.n = 0};
    feed_cache(&w, x, 0, SAMPLES);
    Observer o = cache_watch_observer(&w);
    assert_int_equal(taps_gather(&o, 2, &(Ranks){.gather = cut_short, .ctx = &packs}, &e), ST_INTERNAL);
    assert_non_null(strstr(e.text, "rank 0"));
    cache_watch_fini(&w);
    pack_fini(&packs.pack[0]);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_do_not_depend_on_the_ranks),
        cmocka_unit_test(a_tap_is_the_same_in_parts),
        cmocka_unit_test(what_is_cut_short_is_refused),
        cmocka_unit_test(every_activation_observer_is_the_same_in_parts),
        cmocka_unit_test(second_moments_go_on_where_another_rank_stopped),
        cmocka_unit_test(ranges_of_keys_and_values_are_the_same_in_parts),
        cmocka_unit_test(ranges_of_heads_are_the_same_in_parts),
        cmocka_unit_test(an_observer_that_cannot_be_divided_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
