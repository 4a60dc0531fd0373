#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "run/panels.h"
#include "run/runner.h"
#include "tests/lib/bench.h"
#include "tests/lib/random_model.h"

static const int thread_counts[] = {1, 2, 5, 16};

/* ---- the ring alone ---- */

enum { ENTRIES = 60 };

typedef struct Work {
    PanelRing ring;
    int each;                      /* entries of a task */
    _Atomic int made[ENTRIES], used[ENTRIES], wrong;
    Cancel cancel;
    int64_t stop_at;               /* entry whose making raises the cancel, -1: none */
} Work;

static int64_t users(const void *ctx, int64_t entry)
{
    const Work *w = ctx;
    return 1 + entry / w->each % 4;
}

static void prepare(void *ctx, int64_t entry, int worker, void *dst)
{
    (void)worker;
    Work *w = ctx;
    atomic_fetch_add(&w->made[entry], 1);
    if (entry % 7 == 0)
        usleep(500); /* some are dear */
    if (entry == w->stop_at)
        atomic_store(&w->cancel.level, 1);
    *(int64_t *)dst = entry;
}

static void use(void *ctx, int64_t index, int worker)
{
    Work *w = ctx;
    int64_t panel = 0;
    for (int64_t n; index >= (n = users(w, panel * w->each)); panel++)
        index -= n;
    const int64_t *got[2] = {NULL, NULL};
    for (int k = 0; k < w->each; k++)
        if (!(got[k] = panels_get(&w->ring, panel * w->each + k, worker, &w->cancel)))
            return;
    for (int k = 0; k < w->each; k++) {
        atomic_fetch_add(&w->wrong, *got[k] != panel * w->each + k);
        atomic_fetch_add(&w->used[panel * w->each + k], 1);
    }
    for (int k = 0; k < w->each; k++) /* still there while the other one was looked at */
        atomic_fetch_add(&w->wrong, *got[k] != panel * w->each + k);
    for (int k = 0; k < w->each; k++)
        panels_done(&w->ring, panel * w->each + k);
}

static void run(Work *w, int threads, int each, int64_t stop_at)
{
    Pool *pool;
    int64_t tasks = 0;
    *w = (Work){.each = each, .stop_at = stop_at};
    for (int64_t e = 0; e < ENTRIES; e += each)
        tasks += users(w, e);
    assert_int_equal(pool_new(&pool, threads, NULL), ST_OK);
    assert_int_equal(panels_init(&w->ring, threads, NULL), ST_OK);
    assert_int_equal(panels_reserve(&w->ring, sizeof(int64_t), NULL), ST_OK);
    for (int round = 0; round < 3; round++) { /* what a stopped round leaves is dropped by the next */
        memset(w->made, 0, sizeof w->made);
        memset(w->used, 0, sizeof w->used);
        panels_begin(&w->ring, &(PanelWork){ENTRIES, users, prepare, w});
        pool_run(pool, PHASE_OTHER, tasks, use, w, &w->cancel);
    }
    panels_fini(&w->ring);
    pool_free(pool);
    assert_int_equal(w->wrong, 0);
}

static void every_entry_is_made_once_and_used_by_all(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof thread_counts / sizeof *thread_counts; t++)
        for (int each = 1; each <= 2; each++) {
            Work *w = calloc(1, sizeof *w);
            assert_non_null(w);
            run(w, thread_counts[t], each, -1);
            for (int64_t e = 0; e < ENTRIES; e++) {
                assert_int_equal(w->made[e], 1);
                assert_int_equal(w->used[e], users(w, e));
            }
            free(w);
        }
}

static void a_stopped_run_lets_go_of_all(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof thread_counts / sizeof *thread_counts; t++) {
        Work *w = calloc(1, sizeof *w);
        assert_non_null(w);
        run(w, thread_counts[t], 2, 11); /* comes back */
        assert_int_equal(w->made[ENTRIES - 1], 0);
        free(w);
    }
}

/* ---- in passes ---- */

static const RandomShape shape = {"llama", 1, 4, 2, 40, 160, 1100, 300, 0, DT_BF16, 3};
#define MOE_MODEL "tests/golden/models/qwen3_moe/fp32"

static const int lens[] = {600, 900, 70, 1300};

typedef struct Count {
    _Atomic int64_t panels, rows;
} Count;

static void count_panel(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    Count *c = self;
    (void)row0;
    atomic_fetch_add(&c->panels, 1);
    atomic_fetch_add(&c->rows, rows);
    for (int64_t i = 0; i < rows * in; i++)
        w[i] *= 0.5f;
}

static void preparations_are_panels(void **state)
{
    (void)state;
    char dir[64];
    float *first = NULL;
    random_model_write(&shape, dir);
    for (size_t t = 0; t < sizeof thread_counts / sizeof *thread_counts; t++) {
        TestRun b;
        Error e = {0};
        Stream h;
        Count count[16] = {{0}};
        LinearForm forms[16];
        const LinearForm *form[16];
        test_run_open(&b, dir, ARITH_FP32, thread_counts[t], NULL);
        assert_true(b.m->nlinears <= 16);
        for (int64_t i = 0; i < b.m->nlinears; i++) {
            forms[i] = (LinearForm){.weight = count_panel, .self = &count[i]};
            form[i] = &forms[i];
        }
        TokenSet *tokens = test_tokens(lens, 4, b.m->cfg.vocab, 5);
        assert_int_equal(runner_embed(b.r, tokens, &h, &e), ST_OK);
        assert_int_equal(runner_layer(b.r, 0, &(Variant){.forms = form}, &h, &h, NULL, 0, &e), ST_OK);
        for (int64_t i = 0; i < b.m->nlinears; i++) {
            const Linear *l = &b.m->linears[i];
            int64_t panels = (l->out + 511) / 512; /* 512 rows of so few columns */
            if (count[i].panels != panels || count[i].rows != l->out)
                fail_msg("%s on %d threads: %lld preparations of %lld panels", l->name, thread_counts[t],
                         (long long)count[i].panels, (long long)panels);
        }
        size_t bytes = (size_t)(h.rows * h.width) * sizeof *h.data;
        if (!first) {
            first = malloc(bytes);
            assert_non_null(first);
            memcpy(first, h.data, bytes);
        }
        assert_memory_equal(h.data, first, bytes); /* whoever prepared them */
        stream_fini(&h);
        test_tokens_free(tokens);
        test_run_close(&b);
    }
    free(first);
    random_model_remove(dir);
}

/* ---- another way to multiply ---- */

/* A layout of its own: [k][n]. Not in place, takes float32 only, wants scratch. */
static bool runs(void)
{
    return true;
}

static bool takes(DType t)
{
    return t == DT_F32;
}

static void pack(DType t, const void *w, int64_t n, int64_t k, int64_t ldw, void *packed)
{
    const float *from = w;
    float *to = packed;
    assert_int_equal(t, DT_F32);
    assert_true(to != from);
    for (int64_t o = 0; o < n; o++)
        for (int64_t i = 0; i < k; i++)
            to[i * n + o] = from[o * ldw + i];
}

static _Atomic int64_t packed_products, plain_products;
static _Atomic int64_t expert_width, together, most_together; /* products of this many outputs, at the same time */

/* Waits a moment for another worker to multiply for an expert, too. */
static void meet(void)
{
    int64_t now = atomic_fetch_add(&together, 1) + 1;
    for (int i = 0; i < 100 && now < 2 && atomic_load(&most_together) < 2; i++) {
        usleep(1000);
        now = atomic_load(&together);
    }
    if (now > atomic_load(&most_together))
        atomic_store(&most_together, now);
}

static void tile(const GemmArgs *g, void *scratch)
{
    bool expert = g->packed && g->n == expert_width;
    if (expert)
        meet();
    double *row = scratch;
    const float *w = g->packed ? (const float *)g->packed + g->packed_first : g->w;
    int64_t so = g->packed || g->w_by_k ? 1 : g->ldw, sk = g->packed ? g->packed_n : g->w_by_k ? g->ldw : 1;
    atomic_fetch_add(g->packed ? &packed_products : &plain_products, 1);
    for (int64_t i = 0; i < g->m; i++) {
        memset(row, 0, (size_t)g->n * sizeof *row);
        for (int64_t k = 0; k < g->k; k++)
            for (int64_t j = 0; j < g->n; j++)
                row[j] += (double)g->x[i * g->ldx + k] * (double)w[j * so + k * sk];
        for (int64_t j = 0; j < g->n; j++)
            g->y[i * g->ldy + j] = (float)(row[j] * (g->alpha != 0 ? (double)g->alpha : 1) +
                                           (g->bias ? (double)g->bias[j] : 0));
    }
    if (expert)
        atomic_fetch_sub(&together, 1);
}

static size_t scratch_bytes(int64_t m, int64_t n, int64_t k)
{
    (void)m;
    (void)k;
    return ((size_t)n * sizeof(double) + 63) / 64 * 64;
}

static const GemmOps by_columns = {
    .name = "by columns", .runs = runs, .panel_rows = 1, .packed_bytes = gemm_rows_bytes, .takes = takes, .pack = pack,
    .tile = tile, .scratch = scratch_bytes,
};

static void layer_of(const TestRun *b, const GemmOps *gemm, Stream *h)
{
    Error e = {0};
    Runner *r;
    RunnerOptions o = {.pool = b->pool, .gemm = gemm};
    TokenSet *tokens = test_tokens((int[]){40, 21}, 2, b->m->cfg.vocab, 5);
    assert_int_equal(runner_new(&r, b->m, &o, &e), ST_OK);
    assert_int_equal(runner_embed(r, tokens, h, &e), ST_OK);
    assert_int_equal(runner_layer(r, 0, NULL, h, h, NULL, 0, &e), ST_OK);
    runner_free(r);
    test_tokens_free(tokens);
}

static void another_gemm_is_one_row(void **state)
{
    (void)state;
    char dir[64];
    TestRun b;
    Stream x, y;
    random_model_write(&shape, dir);
    test_run_open(&b, dir, ARITH_FP32, 3, NULL);
    layer_of(&b, NULL, &x);
    layer_of(&b, &by_columns, &y);
    assert_true(packed_products > 0 && plain_products > 0); /* projections; attention */
    assert_true(test_worst(x.data, y.data, x.rows * x.width) < 1e-5);
    stream_fini(&x);
    stream_fini(&y);
    test_run_close(&b);
    random_model_remove(dir);
}

/* Each expert's gate and up are one panel and one tile: two workers multiply at a time only when two experts share a
 * pool call. */
static void experts_run_together(void **state)
{
    (void)state;
    TestRun b;
    Stream x, y;
    test_run_open(&b, MOE_MODEL, ARITH_FP32, 2, NULL);
    layer_of(&b, NULL, &x);
    expert_width = b.m->cfg.moe.inter;
    assert_true(b.m->cfg.moe.experts > 1 && expert_width != b.m->cfg.hidden);
    layer_of(&b, &by_columns, &y);
    expert_width = 0;
    assert_true(most_together >= 2);
    assert_true(test_worst(x.data, y.data, x.rows * x.width) < 1e-5);
    stream_fini(&x);
    stream_fini(&y);
    test_run_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_entry_is_made_once_and_used_by_all),
        cmocka_unit_test(a_stopped_run_lets_go_of_all),
        cmocka_unit_test(preparations_are_panels),
        cmocka_unit_test(another_gemm_is_one_row),
        cmocka_unit_test(experts_run_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
