#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "process/pipeline.h"
#include "process/roundstep.h"
#include "recipe/recipe.h"
#include "tests/lib/bench.h"
#include "tests/lib/thread_ranks.h"

/* The training of a unit's rounding by several ranks: the weights of one. */

static const char yaml[] =
    "apiversion: modelslim_v1\nspec:\n  process:\n  - type: autoround_quant\n    strategies:\n"
    "    - include: ['*']\n      qconfig:\n        act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}\n"
    "        weight: {scope: per_channel, dtype: int4, symmetric: true, method: autoround}\n";

/* One rank: a program of its own. */
typedef struct Member {
    TestRun b;
    Recipe *recipe;
    int16_t *level;
    Pipeline *p;
    Stream in, want;
    QWeight *q; /* [linears of the unit] */
    RoundResult found;
} Member;

typedef struct Job {
    const char *model;
    int n, unit;
    bool peer;
    TokenSet *texts;
    int64_t cut[THREAD_RANKS_MOST + 1]; /* texts of each rank */
    Member m[THREAD_RANKS_MOST];
} Job;

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static void member_open(const Job *j, int rank, Member *m)
{
    Error err = {0};
    test_run_open(&m->b, j->model, ARITH_FP32, 1, NULL);
    ok(recipe_parse(&m->recipe, &recipe_rows, yaml, strlen(yaml), "t.yaml", NULL, &err), &err);
    m->level = calloc((size_t)m->b.m->nlinears, sizeof *m->level);
    assert_non_null(m->level);
    ok(recipe_assign(m->recipe, m->b.m, m->level, &err), &err);
    const Work w = {.recipe = m->recipe, .level = m->level, .peer = j->peer};
    ok(pipeline_new(&m->p, m->b.m, &w, &err), &err);
    m->q = calloc((size_t)m->b.m->units[j->unit].count, sizeof *m->q);
    assert_non_null(m->q);
    TokenSet mine;
    ok(tokens_part(&mine, j->texts, (int)j->cut[rank], (int)(j->cut[rank + 1] - j->cut[rank]), &err), &err);
    ok(runner_embed(m->b.r, &mine, &m->in, &err), &err);
    const Variant plain = {.forms = NULL};
    for (int u = 0; u < j->unit; u++)
        ok(runner_layer(m->b.r, u, &plain, &m->in, &m->in, NULL, 0, &err), &err);
    ok(stream_copy(&m->want, &m->in, &err), &err);
    ok(runner_layer(m->b.r, j->unit, &plain, &m->in, &m->want, NULL, 0, &err), &err);
    free(mine.start);
}

static void member_close(const Job *j, Member *m)
{
    for (int64_t i = 0; i < m->b.m->units[j->unit].count; i++)
        qweight_fini(&m->q[i]);
    free(m->q);
    stream_fini(&m->in);
    stream_fini(&m->want);
    pipeline_free(m->p);
    free(m->level);
    recipe_free(m->recipe);
    test_run_close(&m->b);
}

static void train(Dist *d, ThreadRank *p)
{
    Job *j = p->ctx;
    Member *m = &j->m[p->rank];
    const RoundSettings set = {.iters = 7, .rounds = true, .clips = true, .seed = 3};
    const UnitRanks ranks = {.dist = d, .samples = j->texts->samples, .first = (int)j->cut[p->rank], .start = j->texts->start,
                             .cut = j->cut};
    const RoundTask t = {.runner = m->b.r, .unit = j->unit, .set = &set, .levels = pipeline_levels(m->p),
                         .level = m->level + m->b.m->units[j->unit].first, .peer = j->peer, .T = DT_F32, .in = &m->in,
                         .want = &m->want, .ranks = j->n > 1 ? &ranks : NULL};
    p->status = round_unit(&t, m->q, &m->found, &p->error);
}

/* Fills j->m[0 .. n). */
static void run(Job *j, int n)
{
    ThreadRank p[THREAD_RANKS_MOST];
    j->n = n;
    for (int r = 0; r <= n; r++)
        j->cut[r] = r * j->texts->samples / n;
    for (int r = 0; r < n; r++)
        member_open(j, r, &j->m[r]);
    thread_ranks_run(n, train, j, p);
    for (int r = 0; r < n; r++)
        ok(p[r].status, &p[r].error);
}

static void same(const Job *j, const Member *a, const Member *b)
{
    assert_true(a->found.first == b->found.first && a->found.best == b->found.best);
    for (int64_t i = 0; i < a->b.m->units[j->unit].count; i++) {
        const QWeight *x = &a->q[i], *y = &b->q[i];
        assert_int_equal(x->code != NULL, y->code != NULL);
        if (!x->code)
            continue;
        assert_memory_equal(x->code, y->code, (size_t)(x->out * x->in));
        assert_memory_equal(x->scale, y->scale, (size_t)(x->out * x->groups) * sizeof *x->scale);
    }
}

static void agree(const char *model, int unit, bool peer, const int *lengths, int texts)
{
    Job one = {.model = model, .unit = unit, .peer = peer}, many = one;
    TestRun b;
    test_run_open(&b, model, ARITH_FP32, 1, NULL);
    one.texts = many.texts = test_tokens(lengths, texts, b.m->cfg.vocab, 5);
    test_run_close(&b);
    run(&one, 1);
    for (int n = 2; n <= THREAD_RANKS_MOST; n += 3) {
        run(&many, n);
        for (int r = 0; r < n; r++) {
            same(&one, &one.m[0], &many.m[r]);
            member_close(&many, &many.m[r]);
        }
    }
    member_close(&one, &one.m[0]);
    test_tokens_free(one.texts);
}

/* More texts than a step has, one of a single token; longer ones than a chunk of sums. */
static void ranks_train_what_one_does(void **state)
{
    (void)state;
    static const int lengths[] = {20, 31, 7, 1, 26, 12, 600, 9, 30, 22, 5};
    agree("tests/golden/formats/_models/qwen3-fp32", 1, false, lengths, 11);
}

/* Fewer texts than a step of the peer's has: one of them comes again. Ranks that have nothing to do in a step. */
static void fewer_texts_than_a_step(void **state)
{
    (void)state;
    static const int lengths[] = {20, 31, 7, 12, 9};
    agree("tests/golden/formats/_models/qwen3-fp32", 0, false, lengths, 5);
    agree("tests/golden/formats/_models/qwen3-fp32", 0, true, lengths, 5);
}

/* Experts that a rank's texts don't reach; linears in groups, layers that look at tokens. */
static void experts_and_groups(void **state)
{
    (void)state;
    static const int lengths[] = {20, 3, 7, 1, 2, 12, 9, 4, 1};
    agree("tests/golden/models/qwen3_moe/fp32", 1, false, lengths, 9);
    agree("tests/golden/models/deepseek_v4/fp32", 0, false, lengths, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_train_what_one_does),
        cmocka_unit_test(fewer_texts_than_a_step),
        cmocka_unit_test(experts_and_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
