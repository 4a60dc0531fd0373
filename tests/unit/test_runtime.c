#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "qir/scheme.h"
#include "recipe/field.h"
#include "recipe/pattern.h"
#include "recipe/runtime.h"
#include "save/format.h"
#include "tests/lib/fake_model.h"
#include "tests/lib/tiny_model.h"

/* The engines' rules: the table, and for each rule a recipe and a model that break it and one that doesn't. */

/* ---- the table ---- */

static void engines_are_the_words_of_the_option(void **state)
{
    (void)state;
    Str words = {0};
    for (const Runtime *r = runtime_table; r->name; r++) {
        str_printf(&words, "%s%s", words.len ? "|" : "", r->name);
        assert_ptr_equal(runtime_find(r->name), r);
        for (int i = 0; r->saver[i]; i++)
            assert_non_null(saver_find(r->saver[i]));
    }
    assert_string_equal(str_text(&words), RUNTIME_WORDS);
    assert_null(runtime_find("cuda"));
    for (int i = 0; saver_table[i]; i++) /* each format is for an engine */
        assert_non_null(runtime_of_saver(saver_table[i]->type));
    assert_string_equal(runtime_of_saver("ascendv1_saver")->name, "vllm-ascend");
    assert_string_equal(runtime_of_saver("mindie_format_saver")->name, "mindie");
    assert_string_equal(runtime_of_saver("compressed_tensors")->name, "vllm");
    str_free(&words);
}

static void classes_are_of_schemes(void **state)
{
    (void)state;
    for (const RuntimeClass *k = runtime_classes; k->engine; k++) {
        const Scheme *s = scheme_table;
        while (s->name && (strcmp(s->name, k->scheme) != 0 || s->weight_scope != k->weight))
            s++;
        if (!s->name)
            fail_msg("%s: no scheme %s %s", k->engine, k->scheme, qscope_name(k->weight));
        assert_non_null(runtime_find(k->engine));
        assert_true(!k->saver || saver_find(k->saver));
        assert_true(k->modules && !(k->modules & ~(unsigned)(RT_LINEAR | RT_EXPERT)));
    }
    for (const RuntimeRule *r = runtime_rules; r->name; r++) {
        assert_true(!r->engine || runtime_find(r->engine));
        assert_true(!r->saver || saver_find(r->saver));
        assert_true(r->says && *r->says);
        assert_int_equal(r->labels[0] != NULL, r->kind == RULE_GROUP || r->kind == RULE_GROUP_OR_FLOAT);
    }
}

/* ---- recipes ---- */

#define ENTRY(act, weight, include, exclude)                                                                         \
    "    - {type: linear_quant, qconfig: {act: " act ", weight: " weight "}, include: " include ", exclude: " exclude  \
    "}\n"
#define INT8 "{scope: per_channel, dtype: int8, symmetric: true, method: minmax}"
#define INT4 "{scope: per_channel, dtype: int4, symmetric: true, method: minmax}"
#define TOKEN "{scope: per_token, dtype: int8, symmetric: true, method: minmax}"
#define FIXED "{scope: per_tensor, dtype: int8, symmetric: false, method: minmax}"
#define NO_ACT "{scope: per_tensor, dtype: float, symmetric: true, method: none}"
#define MX(bits) "{scope: per_block, dtype: mxfp" #bits ", symmetric: true, method: minmax}"
#define GROUPS4 "{scope: per_group, dtype: int4, symmetric: true, method: minmax, ext: {group_size: 8}}"
#define DYNAMIC(include, exclude) ENTRY(TOKEN, INT8, include, exclude)
#define STATIC(include, exclude) ENTRY(FIXED, INT8, include, exclude)
#define W4A8(include, exclude) ENTRY(TOKEN, INT4, include, exclude)
#define W8A16(include, exclude) ENTRY(NO_ACT, INT8, include, exclude)
#define W4A16(include, exclude) ENTRY(NO_ACT, GROUPS4, include, exclude)
#define W4A8_MX(include, exclude) ENTRY(MX(8), MX(4), include, exclude)

static Recipe *recipe_of(const char *entries, const char *saver)
{
    Recipe *r;
    Error err = {0};
    Str text = {0};
    str_printf(&text, "apiversion: modelslim_v1\nspec:\n  process:\n%s  save:\n    - type: %s\n", entries, saver);
    if (recipe_parse(&r, &recipe_rows, text.s, text.len, "r.yaml", NULL, &err) != ST_OK)
        fail_msg("%s\n%s", err.text, text.s);
    str_free(&text);
    return r;
}

/* "engine rule count first; ..." */
static void findings(const RuntimeReport *r, const Model *m, Str *out)
{
    for (size_t i = 0; i < r->n; i++) {
        const RuntimeFinding *f = &r->f[i];
        str_printf(out, "%s%s %s %lld%s%s", i ? "; " : "", f->engine ? f->engine : "any", f->rule->name,
                   (long long)f->count, f->linear >= 0 ? " " : "", f->linear >= 0 ? m->linears[f->linear].name : "");
    }
}

/* What a recipe is told with a golden model of a family ("": without a model). runtime "": the saver's own; "peer":
 * that, under --compat peer. */
typedef struct Meeting {
    const char *family, *entries, *saver, *runtime, *want;
} Meeting;

static void meet(const Meeting *t)
{
    char path[96];
    Error err = {0};
    Str got = {0};
    RuntimeReport report;
    snprintf(path, sizeof path, "tests/golden/models/%s/fp32", t->family);
    Model *m = *t->family ? test_model_open(path, NULL) : NULL;
    Recipe *r = recipe_of(t->entries, t->saver);
    const RuntimeQuery q = {.recipe = r, .model = m, .runtime = *t->runtime ? runtime_find(t->runtime) : NULL,
                            .peer = strcmp(t->runtime, "peer") == 0};
    assert_int_equal(runtime_check(&q, &report, &err), ST_OK);
    findings(&report, m, &got);
    if (strcmp(str_text(&got), t->want) != 0)
        fail_msg("%s, %s, %s:\n%s  got  '%s'\n  want '%s'", t->family, t->saver, t->runtime, t->entries,
                 str_text(&got), t->want);
    for (size_t i = 0; i < report.n; i++) /* each says what happens, and by its rule's name */
        assert_true(strstr(report.f[i].text, report.f[i].rule->says) != NULL &&
                    strstr(report.f[i].text, report.f[i].rule->name) != NULL);
    runtime_report_fini(&report);
    recipe_free(r);
    model_free(m);
    str_free(&got);
}

#define A "ascendv1_saver"
#define C "compressed_tensors"
#define MI "mindie_format_saver"
#define ALL "['*']"
#define NONE "[]"

static void fused_groups(void **state)
{
    (void)state;
    static const Meeting rows[] = {
        {"qwen3", DYNAMIC(ALL, "['*down_proj*', '*gate*']"), A, "",
         "vllm-ascend split-group 3 model.layers.0.mlp.gate_proj"},
        {"qwen3", DYNAMIC(ALL, "['*down_proj*', '*gate*']"), C, "",
         "vllm split-group 3 model.layers.0.mlp.gate_proj"},
        {"qwen3", DYNAMIC(ALL, "['*down_proj*', '*gate*']"), C, "transformers", ""}, /* one linear each there */
        {"qwen3", DYNAMIC(ALL, "['*down_proj*', '*{gate,up}_proj']"), A, "", ""},
        {"qwen3", DYNAMIC(ALL, "['*.0.*q_proj']"), C, "sglang", "sglang split-group 1 model.layers.0.self_attn.q_proj"},
        /* MindIE: some of a pack may be float, two schemes may not meet */
        {"qwen3", DYNAMIC(ALL, "['*.0.*q_proj']"), MI, "", ""},
        {"qwen3", STATIC("['*.0.*q_proj']", NONE) DYNAMIC(ALL, NONE), MI, "",
         "mindie split-group 1 model.layers.0.self_attn.q_proj"},
        /* q_a and kv_a are one matrix */
        {"deepseek_v3", DYNAMIC(ALL, "['*.kv_b_proj', '*.0.self_attn.q_a_proj']"), A, "",
         "vllm-ascend split-group 1 model.layers.0.self_attn.q_a_proj"},
        {"deepseek_v3", DYNAMIC(ALL, "['*.kv_b_proj', '*.0.self_attn.{q_a_proj,kv_a_proj_with_mqa}']"), A, "", ""},
        /* an expert alone */
        {"qwen3_moe", DYNAMIC(ALL, "['*.mlp.gate', '*.0.mlp.experts.1.*']"), A, "",
         "vllm-ascend split-group 1 model.layers.0.mlp.experts.0.gate_proj"},
        {"qwen3_moe", DYNAMIC(ALL, "['*.mlp.gate', '*.0.mlp.experts.1.*']"), MI, "",
         "mindie split-experts 1 model.layers.0.mlp.experts.0.gate_proj"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        meet(&rows[i]);
}

static void linears_that_stay_float(void **state)
{
    (void)state;
    static const Meeting rows[] = {
        {"deepseek_v3", DYNAMIC(ALL, NONE), A, "", "vllm-ascend kept-float 3 model.layers.0.self_attn.kv_b_proj"},
        {"deepseek_v32", DYNAMIC(ALL, "['*.kv_b_proj']"), C, "",
         "vllm kept-float 4 model.layers.0.self_attn.indexer.wk"},
        {"qwen3_moe", DYNAMIC(ALL, NONE), C, "sglang", "sglang kept-float 3 model.layers.0.mlp.gate"},
        {"qwen2_moe", DYNAMIC(ALL, "['*.mlp.gate']"), A, "",
         "vllm-ascend kept-float 2 model.layers.0.mlp.shared_expert_gate"},
        {"longcat_flash", DYNAMIC(ALL, "['*.kv_b_proj', '*.classifier']"), A, "", ""},
        {"qwen2_moe", DYNAMIC(ALL, "['*.mlp.gate', '*.shared_expert_gate']"), A, "", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        meet(&rows[i]);
}

static void schemes_without_a_class(void **state)
{
    (void)state;
    static const Meeting rows[] = {
        {"qwen3", W4A8(ALL, NONE), A, "", "vllm-ascend no-class 21 model.layers.0.self_attn.q_proj"},
        {"qwen3", W4A8(ALL, NONE), A, "mindie", ""},
        {"qwen3_moe", W4A8("['*.experts.*']", NONE) DYNAMIC("['*.self_attn.*']", NONE), A, "", ""},
        {"qwen3_moe", W4A8("['*.experts.*']", NONE) DYNAMIC("['*.self_attn.*']", NONE), A, "sglang", ""},
        {"qwen3_moe", STATIC(ALL, "['*.mlp.gate']"), A, "",
         "vllm-ascend no-class 72 model.layers.0.mlp.experts.0.gate_proj"},
        {"qwen3_moe", STATIC("['*.self_attn.*']", NONE) DYNAMIC("['*.experts.*']", NONE), A, "", ""},
        {"qwen3_moe", STATIC(ALL, "['*.mlp.gate']"), C, "",
         "vllm no-class 72 model.layers.0.mlp.experts.0.gate_proj"},
        {"qwen3_moe", DYNAMIC(ALL, "['*.mlp.gate']"), C, "", ""},
        {"qwen3_moe", DYNAMIC(ALL, "['*.mlp.gate']"), C, "transformers",
         "transformers no-class 72 model.layers.0.mlp.experts.0.gate_proj"},
        {"qwen3_moe", W8A16(ALL, "['*.mlp.gate']"), A, "",
         "vllm-ascend no-class 72 model.layers.0.mlp.experts.0.gate_proj"},
        {"qwen3", W8A16(ALL, NONE), A, "", ""},
        {"qwen3", W4A16(ALL, NONE), A, "", "vllm-ascend no-class 21 model.layers.0.self_attn.q_proj"},
        {"qwen3", W4A16(ALL, NONE), A, "mindie", ""},
        /* entries of one scheme are told as one */
        {"qwen3", W4A8("['*mlp*']", NONE) W4A8("['*attn*']", NONE), A, "",
         "vllm-ascend no-class 21 model.layers.0.self_attn.q_proj"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        meet(&rows[i]);
}

static void stacked_families_and_formats(void **state)
{
    (void)state;
    static const Meeting rows[] = {
        {"gpt_oss", DYNAMIC(ALL, NONE), C, "", "vllm stacked-experts 24 model.layers.0.mlp.experts.0.gate_proj"},
        {"gpt_oss", DYNAMIC("['*.self_attn.*']", NONE), C, "", ""},
        {"gpt_oss", DYNAMIC(ALL, NONE), A, "", ""},
        {"qwen3", DYNAMIC(ALL, NONE), A, "vllm", "vllm format 1"},
        {"qwen3", DYNAMIC(ALL, NONE), C, "mindie", "mindie format 1"},
        {"qwen3", DYNAMIC(ALL, NONE), C, "vllm-ascend", ""},
        /* the original's targets: the last kind is taken for all */
        {"qwen3", STATIC("['*attn*']", NONE) DYNAMIC("['*mlp*']", NONE), C, "peer",
         "vllm one-activation 9 model.layers.0.mlp.gate_proj"},
        {"qwen3", STATIC("['*attn*']", NONE) DYNAMIC("['*mlp*']", NONE), C, "", ""},
        {"qwen3", DYNAMIC(ALL, NONE), C, "peer", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        meet(&rows[i]);
}

/* Scales of 32 inputs come in pairs: 96 inputs have three. */
static void pairs_of_blocks(void **state)
{
    (void)state;
    for (int odd = 0; odd < 2; odd++) {
        Model *m = fake_model(&(FakeShape){.layers = 2, .hidden = 128, .inter = odd ? 96 : 192});
        Recipe *r = recipe_of(W4A8_MX(ALL, NONE), A);
        RuntimeReport report;
        Str got = {0};
        assert_int_equal(runtime_check(&(RuntimeQuery){.recipe = r, .model = m}, &report, NULL), ST_OK);
        findings(&report, m, &got);
        assert_string_equal(str_text(&got), odd ? "vllm-ascend block-pairs 2 model.layers.0.mlp.down_proj" : "");
        runtime_report_fini(&report);
        str_free(&got);
        recipe_free(r);
        fake_model_free(m);
    }
}

/* ---- patterns ---- */

static void patterns_without_a_hit(void **state)
{
    (void)state;
    static const Meeting rows[] = {
        {"qwen3", DYNAMIC(ALL, "['re:.*down_proj', 'model.layers.0', 'model.layers.0.mlp.down_proj.weight', "
                               "'down_proj']"), A, "", "any no-hit 4"},
        {"qwen3", DYNAMIC(ALL, "['*down_proj', 'model.layers.0.*', 'model.layers.0.mlp.down_proj']"), A, "", ""},
        {"qwen3", DYNAMIC("['*down_pro']", NONE), A, "", "any no-hit 1"},
        /* what other families have, and what is never quantized, does no harm */
        {"qwen3", DYNAMIC(ALL, "['*.mlp.gate', '*.kv_b_proj', '*.experts.*', '*.eh_proj', '*lm_head*']"), A, "", ""},
        {"qwen3", DYNAMIC("['*lm_head']", NONE), A, "", "any no-hit 1"},
        /* told also without a model, where no model can have such names */
        {"", DYNAMIC(ALL, "['re:.*down_proj', '*down_proj']"), A, "", "any no-hit 1"},
        {"", DYNAMIC(ALL, "['*.no_such_name']"), A, "", ""},
        {"", DYNAMIC(ALL, "['*gate*']"), A, "", "vllm-ascend split-group 1"},
        {"", W4A16(ALL, NONE), A, "", "vllm-ascend no-class 1"},
        {"", W4A8(ALL, NONE), A, "", ""}, /* fine for experts: the model decides */
        {"", DYNAMIC(ALL, NONE), A, "vllm", "vllm format 1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        meet(&rows[i]);
}

/* Forms of other languages: why they select nothing, and the nearest pattern that does. */
static void foreign_patterns_are_explained(void **state)
{
    (void)state;
    static const struct {
        const char *text, *hint; /* hint NULL: nothing to say of the text */
    } rows[] = {
        {"re:.*down_proj", "*down_proj"}, {".*down_proj", "*down_proj"},         {" *down_proj ", "*down_proj"},
        {"*DOWN_PROJ", "*down_proj"},     {"model/layers/0/*", "model.layers.0.*"}, {"!*down_proj", "*down_proj"},
        {"model.layers.0", "model.layers.0.*"}, {"model.layers.0.", "model.layers.0.*"},
        {"model.layers.0.mlp.down_proj.weight", "model.layers.0.mlp.down_proj"},
        {"^model\\.layers\\.0\\.mlp\\.down_proj$", "model.layers.0.mlp.down_proj"},
        {"*down_proj", NULL},             {"model.layers.0.mlp.down_proj", NULL}, {"*.{q,k,v}_proj", NULL},
        {"model.layers.*", NULL},
    };
    Model *m = test_model_open("tests/golden/models/qwen3/fp32", NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Lint lint;
        assert_int_equal(pattern_nowhere(rows[i].text) != NULL, rows[i].hint != NULL);
        if (!rows[i].hint)
            continue;
        assert_int_equal(pattern_lint(rows[i].text, m, NULL, &lint, NULL), ST_OK);
        assert_int_equal(lint.kind, LINT_NO_MATCH);
        if (strcmp(lint.hint, rows[i].hint) != 0)
            fail_msg("'%s': '%s'", rows[i].text, lint.hint);
    }
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engines_are_the_words_of_the_option),
        cmocka_unit_test(classes_are_of_schemes),
        cmocka_unit_test(fused_groups),
        cmocka_unit_test(linears_that_stay_float),
        cmocka_unit_test(schemes_without_a_class),
        cmocka_unit_test(stacked_families_and_formats),
        cmocka_unit_test(pairs_of_blocks),
        cmocka_unit_test(patterns_without_a_hit),
        cmocka_unit_test(foreign_patterns_are_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
