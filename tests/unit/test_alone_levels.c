/* The sweep takes what comes first at every level of the recipe, and finds what a sweep of that level finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "metric/metric.h"
#include "metric/rows.h"

#include "tests/lib/bench.h"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

#define INT8(at) {.dtype = QT_INT8, .scope = at, .symmetric = true, .method = "minmax"}
static const QConfig levels[] = {
    {.act = INT8(QS_PER_TOKEN), .weight = INT8(QS_PER_CHANNEL)},
    {.act = INT8(QS_PER_TENSOR), .weight = INT8(QS_PER_CHANNEL)},
    {.act = INT8(QS_PER_TOKEN), .weight = {.dtype = QT_INT4, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "minmax"}},
    {.act = INT8(QS_PER_TOKEN), .weight = INT8(QS_PER_CHANNEL)}, /* the first once more */
};
enum { LEVELS = 4, TOP = 10 };

/* Scores of alone as they were told, and how many steps are done. */
typedef struct Told {
    UnitScore s[256];
    int n;
    int64_t done, total;
} Told;

static Status tell(void *ctx, const PassStep *step, Error *e)
{
    (void)e;
    Told *t = ctx;
    for (int64_t i = 0; i < step->nscore; i++)
        if (step->score[i].metric == &metric_alone)
            t->s[t->n++] = step->score[i].s;
    t->done = step->done;
    t->total = step->total;
    return ST_OK;
}

static void run(const TestRun *b, const TokenSet *t, int at, int nlevels, const Scores *known, Told *out)
{
    static const Metric *const metrics[] = {&metric_alone, NULL};
    int16_t *level = mem_array((size_t)b->m->nlinears, sizeof *level);
    for (int64_t i = 0; i < b->m->nlinears; i++)
        level[i] = (int16_t)at;
    PassPlan p = {.m = b->m, .pass = metric_alone.pass, .metrics = metrics, .levels = levels, .nlevels = nlevels,
                  .level = level, .tokens = t, .before = known};
    *out = (Told){0};
    ok(p.pass->run(b->r, &p, &(PassSink){tell, out}, &err));
    free(level);
}

static void the_top_is_swept_at_every_level(void **state)
{
    (void)state;
    static const int lengths[] = {70, 64, 40};
    TestRun b;
    test_run_open(&b, "lab_models/demo", ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, 3, b.m->cfg.vocab, 5);
    int64_t groups = scope_units(b.m, SCOPE_GROUP);
    Told all, of[LEVELS];
    run(&b, t, 1, LEVELS, NULL, &all);
    assert_int_equal(all.n, groups + 2 * TOP); /* the last level is the first again */
    assert_true(all.done == all.n && all.total == all.n);
    for (int k = 1; k <= 3; k++) {
        const QConfig *q = &levels[k - 1];
        int found = 0;
        run(&b, t, k, 4, NULL, &of[k]);
        for (int i = 0; i < all.n; i++)
            for (int j = 0; j < of[k].n; j++) /* bit for bit, whatever travelled along */
                if (all.s[i].unit == of[k].s[j].unit && all.s[i].levels == of[k].s[j].levels &&
                    all.s[i].levels == scores_level_all(b.m, SCOPE_GROUP, all.s[i].unit, q)) {
                    assert_true(all.s[i].value == of[k].s[j].value && all.s[i].value > 0);
                    found++;
                }
        assert_int_equal(found, k == 1 ? groups : TOP);
    }
    for (int i = 0; i < groups; i++) /* the present level is told first */
        assert_true(all.s[i].levels == scores_level_all(b.m, SCOPE_GROUP, all.s[i].unit, &levels[0]));
    Scores known; /* what is known is not done again, at any level */
    ok(scores_init(&known, b.m, &err));
    for (int i = 0; i < all.n - 3; i++)
        ok(scores_put(&known, &metric_alone, &all.s[i], &err));
    Told rest;
    run(&b, t, 1, LEVELS, &known, &rest);
    assert_true(rest.n == 3 && rest.total == all.total && rest.done == all.done);
    for (int i = 0; i < 3; i++)
        assert_true(rest.s[i].unit == all.s[all.n - 3 + i].unit && rest.s[i].value == all.s[all.n - 3 + i].value);
    scores_fini(&known);
    run(&b, t, 1, 1, NULL, &rest); /* one level: nothing more */
    assert_int_equal(rest.n, groups);
    test_tokens_free(t);
    test_run_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_top_is_swept_at_every_level)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
