/* Ranges of static levels are found as the float pass goes by, in chunks where memory is short: the same in any. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "metric/metric.h"
#include "metric/outputs.h"
#include "metric/rows.h"

#include "tests/lib/bench.h"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

/* As they were told. */
typedef struct Told {
    UnitScore *s;
    const Metric **m;
    int64_t n;
} Told;

static Status tell(void *ctx, const PassStep *step, Error *e)
{
    (void)e;
    Told *t = ctx;
    t->s = realloc(t->s, (size_t)(t->n + step->nscore + 1) * sizeof *t->s);
    t->m = realloc(t->m, (size_t)(t->n + step->nscore + 1) * sizeof *t->m);
    for (int64_t i = 0; i < step->nscore; i++) {
        t->m[t->n] = step->score[i].metric;
        t->s[t->n++] = step->score[i].s;
    }
    return ST_OK;
}

#define INT8(name) {.scope = QS_PER_TENSOR, .dtype = QT_INT8, .symmetric = false, .method = name}
#define WEIGHT {.scope = QS_PER_CHANNEL, .dtype = QT_INT8, .symmetric = true, .method = "minmax"}
static const QConfig levels[] = {{.act = INT8("minmax"), .weight = WEIGHT}, {.act = INT8("histogram"), .weight = WEIGHT}};

static Status run(const char *dir, const Metric *const *metrics, uint64_t limit, const TokenSet *t, uint64_t *need, Told *out)
{
    TestRun b;
    test_run_open_within(&b, dir, ARITH_FP32, 2, limit, NULL);
    int16_t *at = mem_array((size_t)b.m->nlinears, sizeof *at);
    for (int64_t i = 0; i < b.m->nlinears; i++)
        at[i] = 1;
    PassPlan p = {.m = b.m, .pass = metrics[0]->pass, .metrics = metrics, .levels = levels, .nlevels = 2, .level = at, .tokens = t};
    *out = (Told){0};
    *need = p.pass->need(&p, 2);
    Status st = p.pass->run(b.r, &p, &(PassSink){tell, out}, &err);
    free(at);
    test_run_close(&b);
    return st;
}

static void told_fini(Told *t)
{
    free(t->s);
    free(t->m);
}

static void same(const Told *a, const Told *b)
{
    assert_int_equal(a->n, b->n);
    for (int64_t i = 0; i < a->n; i++) {
        assert_true(a->m[i] == b->m[i] && a->s[i].unit == b->s[i].unit && a->s[i].levels == b->s[i].levels);
        assert_memory_equal(&a->s[i].value, &b->s[i].value, sizeof a->s[i].value);
        assert_memory_equal(a->s[i].part, b->s[i].part, sizeof a->s[i].part);
        assert_string_equal(a->s[i].why, b->s[i].why);
    }
}

static void ranges_do_not_depend_on_chunks(void **state)
{
    (void)state;
    static const char *const models[] = {"lab_models/demo", "tests/golden/models/llama/fp32", "tests/golden/models/gemma3/fp32",
                                         "tests/golden/models/phi3/fp32", "tests/golden/models/qwen3_moe/fp32"};
    static const Metric *const blocks[] = {&metric_block_error, &metric_input_range, NULL};
    static const Metric *const outputs[] = {&metric_output_error, &metric_residual_error, &metric_block_output, NULL};
    static const Metric *const *const passes[] = {blocks, outputs};
    enum { TEXTS = 40 };
    int lengths[TEXTS], cut = 0;
    for (int i = 0; i < TEXTS; i++)
        lengths[i] = 100 + 7 * (i % 5);
    for (size_t k = 0; k < sizeof models / sizeof *models; k++)
        for (int i = 0; i < 2; i++) {
            Model *m;
            Told plain, tight;
            uint64_t need, same_need;
            ok(model_open(&m, models[k], NULL, &err));
            TokenSet *t = test_tokens(lengths, TEXTS, m->cfg.vocab, 3);
            const RunnerAsk ask = {.rows = t->start[TEXTS], .longest = 128, .threads = 2, .whole = true};
            RunnerNeed n = runner_need(m, &ask);
            ok(run(models[k], passes[i], 0, t, &need, &plain));
            assert_true(need <= n.stream + n.kept + n.layer);
            /* not a third of the activations of all rows at once */
            Status st = run(models[k], passes[i], n.stream + n.kept + n.layer * 3 / 10, t, &same_need, &tight);
            if (st == ST_OK)
                same(&plain, &tight);
            else
                printf("# %s\n", err.text);
            cut += st == ST_OK;
            assert_true(st == ST_OK || st == ST_NOMEM);
            assert_true(st == ST_OK || k == 4); /* experts see all rows at once whatever is quantized */
            assert_true(plain.n > 0);
            told_fini(&plain);
            told_fini(&tight);
            test_tokens_free(t);
            model_free(m);
        }
    printf("# %d of 10 in chunks\n", cut);
    assert_int_equal(cut, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranges_do_not_depend_on_chunks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
