#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "process/dynamic_cache.h"
#include "process/processor.h"
#include "recipe/pattern.h"
#include "recipe/recipe.h"
#include "tests/lib/fake_model.h"

/* modelslim_v0 documents: what each setting becomes, and what is refused by name. */

#define V0(cfg) "apiversion: modelslim_v0\nspec:\n  calib_cfg: {" cfg "}\n"

static Recipe *parse(const char *text)
{
    Recipe *r = NULL;
    Error e = {0};
    if (recipe_parse(&r, &recipe_rows, text, strlen(text), "t.yaml", NULL, &e) != ST_OK)
        fail_msg("%s for\n%s", e.text, text);
    return r;
}

typedef struct Want {
    const char *text;
    QType act;
    QScope act_scope;
    bool act_sym;
    const char *act_method;
    QType weight;
    QScope scope;
    bool sym;
    const char *method;
} Want;

static const Want wants[] = {
    {V0("mm_tensor: false"), QT_INT8, QS_PER_TENSOR, false, "minmax", QT_INT8, QS_PER_CHANNEL, true, "minmax"},
    {V0("mm_tensor: false, act_method: 2"), QT_INT8, QS_PER_TENSOR, false, "histogram", QT_INT8, QS_PER_CHANNEL, true,
     "minmax"},
    {V0("mm_tensor: 'no', pdmix: true"), QT_INT8, QS_PD_MIX, false, "minmax", QT_INT8, QS_PER_CHANNEL, true, "minmax"},
    {V0("mm_tensor: 0, is_dynamic: true"), QT_INT8, QS_PER_TOKEN, true, "minmax", QT_INT8, QS_PER_CHANNEL, true,
     "minmax"},
    {V0("mm_tensor: false, a_bit: 16"), QT_FLOAT, QS_PER_TENSOR, true, "none", QT_INT8, QS_PER_CHANNEL, true, "minmax"},
    {V0("mm_tensor: false, a_bit: 16, w_sym: false, w_method: GPTQ"), QT_FLOAT, QS_PER_TENSOR, true, "none", QT_INT8,
     QS_PER_CHANNEL, false, "gptq"},
    {V0("mm_tensor: false, a_bit: 16, w_bit: 4, is_lowbit: true, open_outlier: false"), QT_FLOAT, QS_PER_TENSOR, true,
     "none", QT_INT4, QS_PER_GROUP, true, "minmax"},
    {V0("mm_tensor: false, a_bit: 16, w_sym: false, is_lowbit: true, open_outlier: false"), QT_FLOAT, QS_PER_TENSOR,
     true, "none", QT_INT8, QS_PER_GROUP, false, "minmax"},
    {V0("mm_tensor: false, w_bit: 4, co_sparse: true, fraction: 0.02"), QT_INT8, QS_PER_TENSOR, false, "minmax",
     QT_INT8, QS_PER_CHANNEL, true, "w8a8s"},
    {V0("mm_tensor: false, w_bit: 4, is_lowbit: true, use_sigma: true"), QT_INT8, QS_PER_TENSOR, false, "minmax",
     QT_INT8, QS_PER_CHANNEL, true, "w8a8s"},
};

static void settings_become_a_pair(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wants / sizeof wants[0]; i++) {
        const Want *w = &wants[i];
        Recipe *r = parse(w->text);
        if (recipe_entries(r) != 1)
            fail_msg("%s: %s", recipe_note(r, 0)->text, w->text);
        const RecipeEntry *e = recipe_entry(r, 0);
        assert_int_equal(e->q.act.dtype, w->act);
        assert_int_equal(e->q.act.scope, w->act_scope);
        assert_int_equal(e->q.act.symmetric, w->act_sym);
        assert_string_equal(e->q.act.method, w->act_method);
        assert_int_equal(e->q.weight.dtype, w->weight);
        assert_int_equal(e->q.weight.scope, w->scope);
        assert_int_equal(e->q.weight.symmetric, w->sym);
        assert_string_equal(e->q.weight.method, w->method);
        assert_int_equal(e->line, 0);
        recipe_free(r);
    }
    Recipe *r = parse(wants[5].text);
    assert_true(recipe_entry(r, 0)->q.weight.ext.percdamp == 0.01);
    recipe_free(r);
    r = parse(wants[6].text);
    assert_int_equal(qspec_group(&recipe_entry(r, 0)->q.weight, 0), 64);
    recipe_free(r);
    r = parse(wants[8].text);
    assert_true(recipe_entry(r, 0)->q.weight.ext.fraction == 0.02);
    recipe_free(r);
}

static void a_whole_document(void **state)
{
    (void)state;
    static const char text[] =
        "apiversion: modelslim_v0\nmetadata:\n  config_id: it\n  score: 80\n  label: {w_bit: 8, a_bit: 8}\n"
        "  verified_model_types: [Some-Model]\nspec:\n  calib_cfg:\n    mm_tensor: false\n    pr: 1.0\n"
        "    disable_names: &d\n      - lm_head\n      - model.layers.1.mlp.down_proj\n      - it's[0].*\n"
        "  batch_size: abc\n  calib_save_params: {part_file_size: 8}\n  calib_dataset: \"some.jsonl\"\n";
    Recipe *r = parse(text);
    assert_string_equal(recipe_dataset(r), "some.jsonl");
    assert_true(recipe_can_run(r, NULL));
    assert_int_equal(recipe_notes(r), 1);
    assert_non_null(strstr(recipe_note(r, 0)->text, "translated to modelslim_v1"));
    assert_int_equal(recipe_note(r, 0)->line, 8);
    assert_int_equal(recipe_stage(r, 0)->nunits, 1);
    assert_int_equal(recipe_stage(r, 0)->units[0].line, 0);
    assert_int_equal(recipe_savers(r), 1);
    assert_string_equal(recipe_saver(r, 0)->type, "ascendv1_saver");
    assert_true(recipe_saver(r, 0)->part_file_size == 8);
    const RecipeEntry *e = recipe_entry(r, 0);
    assert_int_equal(e->nexclude, 3);
    Pattern *p;
    assert_int_equal(pattern_compile(&p, e->exclude[2], NULL), ST_OK); /* a name, not a pattern */
    assert_true(pattern_match(p, "it's[0].*"));
    assert_false(pattern_match(p, "it's0.x"));
    pattern_free(p);

    Model *m = fake_model(&(FakeShape){.layers = 2, .hidden = 64, .inter = 128});
    int16_t level[14];
    Error err = {0};
    assert_int_equal(recipe_assign(r, m, level, &err), ST_OK);
    for (int i = 0; i < 14; i++)
        assert_int_equal(level[i], strcmp(m->linears[i].name, "model.layers.1.mlp.down_proj") != 0);
    level[0] = 0;
    Export out;
    if (recipe_export(r, m, level, NULL, NULL, NULL, NULL, &out, &err) != ST_OK)
        fail_msg("%s", err.text);
    assert_non_null(strstr(out.text.s, "apiversion: modelslim_v1\n"));
    assert_non_null(strstr(out.text.s, "'Some-Model'"));
    export_fini(&out);
    fake_model_free(m);
    recipe_free(r);
}

static void caches_and_smoothing(void **state)
{
    (void)state;
    Recipe *r = parse(V0("mm_tensor: false, use_kvcache_quant: true"));
    assert_true(recipe_can_run(r, NULL));
    assert_int_equal(recipe_stage(r, 0)->nunits, 2);
    assert_ptr_equal(recipe_stage(r, 0)->units[1].steps[0].processor, &processor_dynamic_cache);
    assert_false(((const CacheSettings *)recipe_stage(r, 0)->units[1].steps[0].settings)->q.symmetric);
    assert_true(recipe_saver(r, 0)->part_file_size == 0); /* absent: one file */
    assert_string_equal(recipe_dataset(r), "teacher_qualification.jsonl");
    recipe_free(r);
    r = parse(V0("mm_tensor: false, use_fa_quant: true, fa_amp: 0"));
    assert_true(recipe_can_run(r, NULL));
    assert_string_equal(recipe_stage(r, 0)->units[1].steps[0].type, "fa3_quant");
    recipe_free(r);
    r = parse(V0("mm_tensor: false") "  anti_cfg: {anti_method: m6, flex_config: {alpha: 0.75, beta: 1e-5}, "
                                     "disable_anti_names: [a.b]}\n  anti_dataset: x.jsonl\n");
    assert_true(recipe_can_run(r, NULL));
    assert_int_equal(recipe_entries(r), 1);
    assert_ptr_equal(recipe_stage(r, 0)->units[0].steps[0].processor, &processor_flex_smooth_quant);
    recipe_free(r);
}

static const struct {
    const char *text, *why;
} refused[] = {
    {V0("w_bit: 8"), "mm_tensor: true"},
    {V0("mm_tensor: maybe"), "calib_cfg.mm_tensor is neither true nor false"},
    {V0("mm_tensor: false, w_bit: x"), "calib_cfg.w_bit is no number"},
    {V0("mm_tensor: false, w_bit: 3"), "these bits have no counterpart"},
    {V0("mm_tensor: false, act_method: 3"), "act_method has a counterpart for 1"},
    {V0("mm_tensor: false, w_method: HQQ"), "w_method has a counterpart for MinMax and GPTQ"},
    {V0("mm_tensor: false, a_bit: 16, w_bit: 4"), "can't be written by any saver"},
    {V0("mm_tensor: false, w_sym: false"), "no method 'minmax' for per_channel int8 asym"},
    {V0("mm_tensor: false, w_bit: 4, is_lowbit: true, open_outlier: false, is_dynamic: true"),
     "can't be written by any saver"},
    {V0("mm_tensor: false, is_lowbit: true"), "is_lowbit has no counterpart for these bits"},
    {V0("mm_tensor: false, pr: 0.5"), "pr (pruning"},
    {V0("mm_tensor: false, do_smooth: true"), "do_smooth has no counterpart"},
    {V0("mm_tensor: false, use_fa_quant: true, fa_amp: 2"), "fa_amp (attentions"},
    {V0("mm_tensor: false, use_fa_quant: true, use_kvcache_quant: true"), "exclude each other"},
    {V0("mm_tensor: false, disable_last_linear: false"), "would quantize lm_head"},
    {V0("mm_tensor: false, disable_names: x"), "calib_cfg.disable_names is no list"},
    {V0("mm_tensor: false, disable_names: [1]"), "calib_cfg.disable_names.0 is no text"},
    {V0("mm_tensor: false") "  calib_params: {disable_level: L5}\n", "disable_level lets the run choose"},
    {V0("mm_tensor: false") "  calib_params: {mix_cfg: {'*': w8a16}}\n", "mix_cfg has no counterpart"},
    {V0("mm_tensor: false") "  anti_cfg: {anti_method: m2}\n", "anti_method has a counterpart for m4"},
    {V0("mm_tensor: false") "  calib_save_params: {part_file_size: x}\n", "part_file_size is no size"},
    {V0("mm_tensor: false, w_method: GPTQ, percdamp: 0"), "percdamp must be a number above 0"},
    {"apiversion: modelslim_v0\n", "mm_tensor: true"},
};

static void what_has_no_counterpart_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        Recipe *r = parse(refused[i].text); /* the peer loads it, so do we */
        Str why = {0};
        assert_false(recipe_can_run(r, &why));
        if (!strstr(str_text(&why), refused[i].why))
            fail_msg("'%s' isn't among:\n%s", refused[i].why, str_text(&why));
        str_free(&why);
        recipe_free(r);
    }
    static const char good[] = V0("mm_tensor: false") "  calib_params: {disable_level: L0}\n  anti_cfg: null\n"
                                                      "  calib_save_params: {part_file_size: 1e-5}\n";
    Recipe *r = parse(good);
    assert_true(recipe_can_run(r, NULL));
    recipe_free(r);
    /* a name that is too long for v1's list */
    char text[700];
    snprintf(text, sizeof text, "%s%0250d%s", "apiversion: modelslim_v0\nspec: {calib_cfg: {mm_tensor: false, "
             "disable_names: ['", 0, "']}}\n");
    r = parse(text);
    assert_false(recipe_can_run(r, NULL));
    assert_int_equal(recipe_entries(r), 0);
    recipe_free(r);
}

/* Any change of a document is translated, refused with a reason or an error, never more. */
static void mutations(void **state)
{
    (void)state;
    static const char good[] =
        "apiversion: modelslim_v0\nmetadata: {config_id: x, label: {a: [1, b]}}\nspec:\n  calib_cfg: &c {mm_tensor: "
        "false, w_bit: 8, a_bit: 16, disable_names: ['a', b]}\n  anti_cfg: {anti_method: m4}\n  calib_params: {}\n";
    unsigned long long seed = 11;
    int fine = 0;
    for (int i = 0; i < 4000; i++) {
        char s[sizeof good];
        memcpy(s, good, sizeof good);
        for (int k = (int)(fake_random(&seed) % 3); k >= 0; k--)
            s[fake_random(&seed) % (sizeof good - 1)] = ":-[]{}&*!|>'\"#%\n ,?x1<~"[fake_random(&seed) % 23];
        Recipe *r;
        Status st = recipe_parse(&r, &recipe_rows, s, sizeof good - 1, "t", NULL, NULL);
        if (st == ST_OK) {
            assert_true(recipe_entries(r) > 0 || !recipe_can_run(r, NULL));
            recipe_free(r);
        } else {
            assert_int_equal(st, ST_DATA);
        }
        fine += st == ST_OK;
    }
    assert_true(fine > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_become_a_pair),
        cmocka_unit_test(a_whole_document),
        cmocka_unit_test(caches_and_smoothing),
        cmocka_unit_test(what_has_no_counterpart_is_named),
        cmocka_unit_test(mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
