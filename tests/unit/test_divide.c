/* Passes divided over ranks, here threads: the scores of one, however fast the ranks are, and so wherever the texts are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metric/divide.h"
#include "metric/rows.h"
#include "metric/watch.h"

#include "tests/lib/bench.h"
#include "tests/lib/random_model.h"
#include "tests/lib/thread_ranks.h"

static const RandomShape shape = {"qwen3", 3, 4, 2, 16, 40, 72, 130, 0, DT_BF16, 4};
static const int lengths[] = {70, 3, 1, 40, 52, 33, 8};
enum { TEXTS = sizeof lengths / sizeof *lengths, MOST_SCORES = 400 };

/* What rank 0 ends up with, the last score of each unit. */
typedef struct Found {
    PassScore score[MOST_SCORES];
    int n;
} Found;

typedef struct Work {
    const char *dir;
    const TokenSet *tokens;
    const Metric *const *metrics;
    const QConfig *level;
    int ranks;
    const double *speed; /* [ranks] */
    Found found;         /* rank 0's */
} Work;

static Status keep(void *ctx, const PassStep *step, Error *err)
{
    Found *f = ctx;
    for (int i = 0; i < step->nlinear; i++)
        linear_result_fini(&step->linear[i]);
    for (int64_t i = 0; i < step->nscore; i++) {
        const PassScore *s = &step->score[i];
        int at = 0;
        while (at < f->n && !(f->score[at].metric == s->metric && f->score[at].s.unit == s->s.unit &&
                              f->score[at].s.levels == s->s.levels))
            at++;
        if (at == MOST_SCORES)
            return error_set(err, ST_INTERNAL, "more scores than expected");
        f->score[at] = *s;
        f->n += at == f->n;
    }
    return ST_OK;
}

static Status run_work(Dist *d, Work *w, Found *found, Error *err)
{
    TestRun b;
    PassDivision division;
    test_run_open(&b, w->dir, ARITH_FP32, 1, NULL);
    int16_t *level = calloc((size_t)b.m->nlinears, sizeof *level);
    for (int64_t i = 0; i < b.m->nlinears; i++)
        level[i] = 1;
    PassPlan p = {.m = b.m, .pass = pass_of_all(w->metrics), .metrics = w->metrics, .levels = w->level, .nlevels = 1,
                  .level = level, .tokens = w->tokens, .seed = 3};
    assert_int_not_equal(pass_divides(&p, dist_size(d)), DIVIDES_NOT);
    Status st = pass_divide(&division, &p, d, err);
    if (st == ST_OK)
        st = pass_run_divided(&division, b.r, &(PassSink){keep, found}, err);
    pass_divide_end(&division);
    free(level);
    test_run_close(&b);
    return st;
}

static void act(Dist *d, ThreadRank *p)
{
    Work *w = p->ctx;
    Found *own = calloc(1, sizeof *own);
    p->status = dist_set_speed(d, w->speed[p->rank], &p->error);
    if (p->status == ST_OK)
        p->status = run_work(d, w, own, &p->error);
    if (p->rank == 0)
        w->found = *own;
    free(own);
}

static void same_scores(const Found *want, const Found *got)
{
    bool any = false;
    for (int i = 0; i < want->n; i++)
        any = any || isfinite(want->score[i].s.value);
    assert_true(any);
    assert_int_equal(want->n, got->n);
    for (int i = 0; i < want->n; i++) {
        const PassScore *a = &want->score[i], *b = got->score;
        while (b < got->score + got->n && !(b->metric == a->metric && b->s.unit == a->s.unit && b->s.levels == a->s.levels))
            b++;
        assert_true(b < got->score + got->n);
        assert_memory_equal(&a->s.value, &b->s.value, sizeof a->s.value);
        assert_memory_equal(a->s.part, b->s.part, sizeof a->s.part);
        assert_string_equal(a->s.why, b->s.why);
        assert_true(a->s.tokens == b->s.tokens && a->s.samples == b->s.samples && a->s.absent == b->s.absent);
    }
}

/* One rank, then several in whose shares the texts are cut elsewhere. */
static void divided(const Metric *const *metrics, const QConfig *level)
{
    static const double speeds[][THREAD_RANKS_MOST] = {{1, 1, 1, 1, 1}, {8, 1, 3, 1, 1}, {1, 2, 8, 8, 1}};
    char dir[64];
    random_model_write(&shape, dir);
    TokenSet *t = test_tokens(lengths, TEXTS, shape.vocab, 21);
    Work w = {.dir = dir, .tokens = t, .metrics = metrics, .level = level};
    Found *one = calloc(1, sizeof *one);
    Error e = {0};
    if (run_work(NULL, &w, one, &e) != ST_OK)
        fail_msg("%s", e.text);
    for (int i = 0; i < 3; i++)
        for (w.ranks = 2; w.ranks <= THREAD_RANKS_MOST; w.ranks += 3) {
            ThreadRank p[THREAD_RANKS_MOST];
            w.speed = speeds[i];
            thread_ranks_run(w.ranks, act, &w, p);
            if (p[0].status != ST_OK)
                fail_msg("%s", p[0].error.text);
            same_scores(one, &w.found);
        }
    free(one);
    test_tokens_free(t);
    random_model_remove(dir);
}

static const QConfig int8 = {.weight = {.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "minmax"},
                             .act = {.dtype = QT_INT8, .scope = QS_PER_TENSOR, .method = "minmax"}};
static const QConfig moments = {.weight = {.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "gptq"},
                                .act = {.dtype = QT_INT8, .scope = QS_PER_TENSOR, .method = "minmax"}};

static void what_flows_is_the_same(void **state)
{
    (void)state;
    static const Metric *const all[] = {&metric_act_outliers, &metric_output_outliers, &metric_massive, &metric_text_range, NULL};
    divided(all, &int8);
}

static void gradients_are_the_same(void **state)
{
    (void)state;
    static const Metric *const fisher[] = {&metric_fisher, NULL};
    divided(fisher, &int8);
}

static void block_errors_are_the_same(void **state)
{
    (void)state;
    static const Metric *const block_error[] = {&metric_block_error, NULL};
    divided(block_error, &int8);
    divided(block_error, &moments);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_flows_is_the_same),
        cmocka_unit_test(gradients_are_the_same),
        cmocka_unit_test(block_errors_are_the_same),
    };
    return cmocka_run_group_tests_name("divide", tests, NULL, NULL);
}
