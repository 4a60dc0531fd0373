#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/rotmap.h"
#include "tests/lib/mtp_model.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tiny_model.h"

/* Where a model can be turned: which families, by what, and in which order. */

static Model *open_model(const char *dir, const char *type)
{
    char path[256];
    Model *m;
    Error err = {0};
    snprintf(path, sizeof path, "tests/golden/models/%s/fp32", dir);
    if (model_open(&m, path, type, &err) != ST_OK)
        fail_msg("%s: %s", dir, err.text);
    return m;
}

/* word: of the reason why it can't be; NULL: it can. */
static const struct {
    const char *dir, *type, *word, *peer;
} families[] = {
    {"llama", NULL, NULL, "the original has no rotation"},
    {"llama3", NULL, NULL, "the original has no rotation"},
    {"mistral", NULL, NULL, "the original has no rotation"},
    {"mixtral", NULL, NULL, "the original has no rotation"},
    {"qwen2", NULL, NULL, "the original has no rotation"},
    {"qwen2_moe", NULL, NULL, "the original has no rotation"},
    {"qwen3", NULL, NULL, NULL},
    {"qwen3_moe", NULL, NULL, NULL},
    {"qwen3_next", NULL, NULL, "the original has no rotation"},
    {"phi3", NULL, NULL, "the original has no rotation"},
    {"gpt_oss", NULL, NULL, "the original has no rotation"},
    {"minimax_m2", NULL, NULL, "the original has no rotation"},
    {"deepseek_v2", NULL, NULL, "the original has no rotation"},
    {"deepseek_v3", NULL, NULL, NULL},
    {"deepseek_v32", NULL, NULL, "the original has no rotation"},
    {"glm4_moe", NULL, NULL, NULL},
    {"glm_moe_dsa", NULL, NULL, "the original has no rotation"},
    {"gemma2", NULL, "stands between a block and the residual stream", NULL},
    {"gemma3", NULL, "stands between a block and the residual stream", NULL},
    {"longcat_flash", NULL, "give back what the norm gave", NULL},
    {"deepseek_v4", NULL, "mixes the residual stream", NULL},
};

static void test_families(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        Model *m = open_model(families[i].dir, families[i].type);
        Error err = {0};
        Status st = rotmap_check(m, false, &err);
        if (st != (families[i].word ? ST_DATA : ST_OK) || (families[i].word && !strstr(err.text, families[i].word)))
            fail_msg("%s: %s", families[i].dir, err.text);
        bool tied = m->cfg.tied;
        st = rotmap_check(m, true, &err);
        const char *word = families[i].word ? families[i].word : families[i].peer ? families[i].peer
                         : tied ? "tie_word_embeddings" : NULL;
        if (st != (word ? ST_DATA : ST_OK) || (word && !strstr(err.text, word)))
            fail_msg("%s: peer: %s", families[i].dir, err.text);
        model_free(m);
    }
}

static void test_adapters_by_name(void **state)
{
    (void)state;
    Model *m = open_model("qwen2", "QwQ-32B");
    Error err = {0};
    assert_true(rotmap_spec(m) && rotmap_spec(m)->heads == TURN_HEADS_SHIFTED);
    Status st = rotmap_check(m, true, &err);
    assert_int_equal(st, m->cfg.tied ? ST_DATA : ST_OK);
    model_free(m);
    m = open_model("qwen2", "Qwen2-7B");
    assert_null(rotmap_spec(m));
    model_free(m);
}

/* Every step's sides fit: what is turned is a multiple of its rotation, and what the norms hold is as long as what reads
 * them. Each linear is told to absorb at most once and each side is turned at most twice. */
static void check_steps(const Model *m, int unit, const Turns *t)
{
    TurnSteps s;
    assert_int_equal(rotmap_steps(m, unit, &s, NULL), ST_OK);
    assert_true(s.n > 0);
    for (int64_t i = 0; i < s.n; i++) {
        const TurnStep *p = &s.step[i];
        const Linear *l = p->linear >= 0 ? &m->linears[p->linear] : NULL;
        if (l)
            assert_int_equal(l->layer, unit);
        if (p->action == TURN_ABSORB) {
            int64_t n = 0;
            for (int k = 0; k < 2; k++)
                n += p->norm[k] ? p->norm[k]->shape[0] : 0;
            const TensorInfo *tensor = p->tensor ? p->tensor : m->exit.head;
            assert_int_equal(n, l ? l->in : tensor->shape[tensor->ndim - 1]);
        } else if (p->action == TURN_OUTPUTS || p->action == TURN_INPUTS) {
            const TensorInfo *tensor = p->tensor ? p->tensor : m->exit.head;
            int64_t side = !l ? tensor->shape[tensor->ndim - 1] : p->action == TURN_OUTPUTS ? l->out : l->in;
            assert_non_null(t->r[p->matrix]);
            assert_int_equal(side % rotation_size(t->r[p->matrix]), 0);
        }
        for (int64_t k = 0; k < i; k++) /* norms first, and nothing twice */
            if (s.step[k].action == p->action && s.step[k].matrix == p->matrix && s.step[k].norm[0] == p->norm[0])
                assert_false(s.step[k].linear == p->linear && s.step[k].tensor == p->tensor);
        if (i && (p->action == TURN_ABSORB || p->action == TURN_NORM_ONE) && unit < m->cfg.layers && unit >= 0)
            assert_true(s.step[i - 1].action == TURN_ABSORB || s.step[i - 1].action == p->action);
    }
    free(s.step);
}

static void test_steps_fit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (families[i].word)
            continue;
        Model *m = open_model(families[i].dir, families[i].type);
        Turns t;
        Error err = {0};
        if (rotmap_turns(m, false, -1, NULL, &t, &err) != ST_OK && /* heads of 10 have blocks of 2 */
            rotmap_turns(m, false, 2, NULL, &t, &err) != ST_OK)
            fail_msg("%s: %s", families[i].dir, err.text);
        for (int u = -1; u < m->nunits; u++)
            check_steps(m, u, &t);
        turns_free(&t);
        model_free(m);
    }
}

/* The order in which the original rounds a layer of Qwen3. */
static void test_order(void **state)
{
    (void)state;
    static const char *const want[] = {
        "absorb q", "absorb k", "absorb v", "absorb gate", "absorb up", "one", "one", "left o", "left down", "right q",
        "right k", "right v", "right gate", "right up", "left v heads", "right o heads"};
    static const char *const kind[] = {[LK_Q] = "q", [LK_K] = "k", [LK_V] = "v", [LK_O] = "o", [LK_GATE] = "gate",
                                       [LK_UP] = "up", [LK_DOWN] = "down"};
    static const char *const action[] = {[TURN_ABSORB] = "absorb", [TURN_NORM_ONE] = "one", [TURN_OUTPUTS] = "left",
                                         [TURN_INPUTS] = "right"};
    Model *m = open_model("qwen3", NULL);
    TurnSteps s;
    assert_int_equal(rotmap_steps(m, 0, &s, NULL), ST_OK);
    assert_int_equal(s.n, sizeof want / sizeof *want);
    for (int64_t i = 0; i < s.n; i++) {
        const TurnStep *p = &s.step[i];
        char got[64];
        snprintf(got, sizeof got, "%s%s%s%s", action[p->action], p->linear >= 0 ? " " : "",
                 p->linear >= 0 ? kind[m->linears[p->linear].kind] : "", p->matrix == TURN_HEADS ? " heads" : "");
        assert_string_equal(got, want[i]);
    }
    free(s.step);
    model_free(m);
}

/* A head of its own takes up what stands before it; the decoder's can't. */
static void test_mtp_heads(void **state)
{
    (void)state;
    static const MtpRecipe made[] = {
        {.model = "tests/golden/models/glm4_moe/fp32"},
        {.model = "tests/golden/models/glm4_moe/fp32", .drop = "shared_head.head.weight"},
        {.model = "tests/golden/models/glm4_moe/fp32", .drop = "eh_proj.weight"},
    };
    static const char *const words[] = {NULL, "layers.3.shared_head.norm.weight' stands before the decoder's head",
                                        "predicts further tokens from the stream and isn't run here"};
    for (int i = 0; i < 3; i++) {
        char *dir = mtp_model_write(&made[i]);
        Model *m = test_model_open(dir, NULL);
        Error err = {0};
        Status st = rotmap_check(m, false, &err);
        if (st != (words[i] ? ST_DATA : ST_OK) || (words[i] && !strstr(err.text, words[i])))
            fail_msg("%d: %s", i, err.text);
        model_free(m);
        temp_remove(dir);
    }
}

static void test_sizes_are_named(void **state)
{
    (void)state;
    Model *m = open_model("qwen3", NULL);
    Turns t;
    Error err = {0};
    int64_t hidden = m->cfg.hidden;
    m->cfg.hidden = 2880;
    assert_int_equal(rotmap_turns(m, false, -1, NULL, &t, &err), ST_DATA);
    if (!strstr(err.text, "hidden_size 2880: ") || !strstr(err.text, "block_size"))
        fail_msg("%s", err.text);
    m->cfg.hidden = hidden;
    m->cfg.v_dim = 44;
    assert_int_equal(rotmap_turns(m, false, -1, NULL, &t, &err), ST_DATA);
    if (!strstr(err.text, "head_dim 44: "))
        fail_msg("%s", err.text);
    assert_int_equal(rotmap_turns(m, false, 4, NULL, &t, &err), ST_OK); /* blocks of 4 */
    turns_free(&t);
    Rotation *other;
    assert_int_equal(rotation_identity(&other, hidden + 4, NULL), ST_OK);
    assert_int_equal(rotmap_turns(m, false, -1, other, &t, &err), ST_DATA);
    rotation_free(other);
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families), cmocka_unit_test(test_adapters_by_name), cmocka_unit_test(test_steps_fit),
        cmocka_unit_test(test_order),    cmocka_unit_test(test_sizes_are_named),  cmocka_unit_test(test_mtp_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
