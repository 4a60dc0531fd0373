#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/block.h"
#include "tests/lib/folded.h"

/* online_quarot: an indexer's queries and keys, turned alike, choose what they chose; turned on one side they don't; and what
 * has no indexer is told so. */

enum { DIM = 16 };
static const int lens[] = {40, 9, 23};
static const char *const models[] = {"tests/golden/models/deepseek_v32/fp32", "tests/golden/models/glm_moe_dsa/fp32"};
static const char both[] = "[{type: online_quarot}]", one[] = "[{type: online_quarot, exclude: ['*.k_rot']}]";

typedef struct Fixture {
    TestRun base;
    TokenSet *t;
    float *want; /* logits as they are */
    int64_t n;
} Fixture;

static void open_model(Fixture *x, const char *dir)
{
    test_run_open(&x->base, dir, ARITH_FP32, 2, NULL);
    x->t = test_tokens(lens, 3, x->base.m->cfg.vocab, 3);
    x->want = folded_logits(x->base.r, x->t, &x->n);
    assert_int_equal(x->base.m->cfg.index.dim, DIM);
    assert_true(x->base.m->cfg.index.top_k < lens[0]); /* the indexer leaves keys out */
}

static void close_model(Fixture *x)
{
    free(x->want);
    test_tokens_free(x->t);
    test_run_close(&x->base);
}

/* By how much of the largest logit the processor moves them. */
static double moved(const Fixture *x, const char *process, bool peer)
{
    Folded f;
    Error err;
    int64_t n;
    if (folded_run(&f, &x->base, process, peer, x->t, &err) != ST_OK)
        fail_msg("%s: %s", process, err.text);
    float *got = folded_logits(f.r, x->t, &n);
    assert_int_equal(n, x->n);
    double worst = test_worst(x->want, got, n);
    free(got);
    folded_fini(&f);
    return worst;
}

static void both_sides_choose_the_same_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        Fixture x;
        open_model(&x, models[i]);
        double whole = moved(&x, both, false), blocks = moved(&x, "[{type: online_quarot, block_size: 4}]", false);
        if (!(whole < 1e-5) || !(blocks < 1e-5))
            fail_msg("%s: logits moved by %g and %g", models[i], whole, blocks);
        assert_true(moved(&x, both, true) < 1e-5);
        close_model(&x);
    }
}

/* The original does what its lists say; so that it is seen that something is turned at all. */
static void one_side_chooses_others(void **state)
{
    (void)state;
    Fixture x;
    Folded f;
    Error err;
    open_model(&x, models[0]);
    double worst = moved(&x, one, true);
    if (!(worst > 1e-3))
        fail_msg("logits moved by %g", worst);
    assert_int_equal(folded_run(&f, &x.base, one, false, x.t, &err), ST_DATA);
    assert_non_null(strstr(err.text, "the patterns take 'model.layers.0.self_attn.indexer.q_rot' and not "
                                     "'model.layers.0.self_attn.indexer.k_rot'"));
    folded_fini(&f);
    close_model(&x);
}

/* x <- x R', R as it is written. */
static void rows_are_multiplied_by_the_transpose(void **state)
{
    (void)state;
    Fixture x;
    Folded f;
    Error err;
    Rotation *want;
    float r[DIM * DIM], got[DIM * DIM];
    open_model(&x, models[0]);
    assert_int_equal(rotation_hadamard(&want, DIM, -1, NULL), ST_OK);
    assert_int_equal(rotation_rows(want, r, NULL), ST_OK);
    assert_int_equal(folded_run(&f, &x.base, both, false, x.t, &err), ST_OK);
    const Overlay *o = pipeline_overlay(f.p);
    const Block *b = &x.base.m->units[0].block[0];
    const Rotation *q = overlay_scored(o, b->linear[MLA_INDEX_Q]), *k = overlay_scored(o, b->linear[MLA_INDEX_K]);
    assert_true(q && k && !overlay_scored(o, b->linear[MLA_INDEX_W]) && !overlay_scored(o, b->linear[MLA_O]));
    assert_int_equal(rotation_rows(q, got, NULL), ST_OK);
    for (int i = 0; i < DIM; i++)
        for (int j = 0; j < DIM; j++)
            assert_true(got[i * DIM + j] == r[j * DIM + i]);
    assert_int_equal(rotation_rows(k, r, NULL), ST_OK);
    assert_memory_equal(r, got, sizeof r);
    rotation_free(want);
    folded_fini(&f);
    close_model(&x);
}

static void what_cannot_be_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *dir, *process, *text;
    } all[] = {
        {"tests/golden/models/qwen3/fp32", both, "online_quarot has nothing to turn in Qwen 3"},
        {"tests/golden/models/deepseek_v4/fp32", both, "online_quarot has nothing to turn in DeepSeek V4"},
        {"tests/golden/models/deepseek_v32/fp32", "[{type: online_quarot, include: ['*.v_rot']}]",
         "selects nothing: its patterns take names such as 'model.layers.0.self_attn.indexer.q_rot'"},
        {"tests/golden/models/deepseek_v32/fp32", "[{type: online_quarot, block_size: 32}]", "index_head_dim 16: blocks of 32"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        TestRun base;
        Folded f;
        Error err;
        test_run_open(&base, all[i].dir, ARITH_FP32, 1, NULL);
        TokenSet *t = test_tokens(lens, 1, base.m->cfg.vocab, 3);
        if (folded_run(&f, &base, all[i].process, false, t, &err) != ST_DATA || !strstr(err.text, all[i].text))
            fail_msg("%s: '%s' doesn't say '%s'", all[i].process, err.text, all[i].text);
        folded_fini(&f);
        test_tokens_free(t);
        test_run_close(&base);
    }
}

/* Neither quarot nor what looks at inputs minds where it stands. */
static void it_stands_anywhere(void **state)
{
    (void)state;
    Fixture x;
    open_model(&x, models[0]);
    assert_true(moved(&x, "[{type: online_quarot}, {type: quarot, block_size: 2}, {type: iter_smooth}]", false) < 1e-4);
    assert_true(moved(&x, "[{type: quarot, block_size: 2}, {type: iter_smooth}, {type: online_quarot}]", false) < 1e-4);
    close_model(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_choose_the_same_keys),
        cmocka_unit_test(one_side_chooses_others),
        cmocka_unit_test(rows_are_multiplied_by_the_transpose),
        cmocka_unit_test(what_cannot_be_is_told),
        cmocka_unit_test(it_stands_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
