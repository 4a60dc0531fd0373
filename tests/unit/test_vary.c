/* recipe_vary: other values where they stand, whatever the document looks like; everything else byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "recipe/field.h"
#include "recipe/recipe.h"

static const RecipeChange per_token = {.act = true, .types = {QT_INT8}, .scope = "per_token", .method = "minmax", .symmetric = 1};
static const RecipeChange histogram = {.act = true, .types = {QT_INT8}, .from_scope = "per_tensor", .method = "histogram", .symmetric = -1};
static const RecipeChange gptq = {.types = {QT_INT8, QT_INT4}, .method = "gptq", .symmetric = -1};
static const RecipeChange smooth = {.front = "{type: iter_smooth, alpha: 0.9}", .symmetric = -1};

static Error err;

static Recipe *parse(const char *text)
{
    Recipe *r;
    Str all = {0};
    if (recipe_parse(&r, &recipe_rows, text, strlen(text), "mine.yaml", &all, &err) != ST_OK)
        fail_msg("%s", str_text(&all));
    str_free(&all);
    return r;
}

/* The text that comes out, where it has `changed` changes. */
static void gives(const char *text, const RecipeChange *c, int changed, const char *want)
{
    Recipe *r = parse(text);
    RecipeVaried v;
    if (recipe_vary(r, c, "S3a", &v, &err) != ST_OK)
        fail_msg("%s", err.text);
    assert_int_equal(v.changed, changed);
    if (want) {
        size_t n;
        assert_non_null(v.recipe);
        assert_string_equal(recipe_source(v.recipe, &n), want);
        assert_string_equal(recipe_name(v.recipe), "mine+S3a.yaml");
    } else {
        assert_null(v.recipe);
    }
    recipe_free(v.recipe);
    recipe_free(r);
}

#define HEAD "apiversion: modelslim_v1 # keep me\r\nspec:\r\n  process:\r\n"
#define TAIL "  save: [{type: ascendv1_saver}]\r\n"

static void test_block(void **state)
{
    (void)state;
    static const char was[] = HEAD "  - type: linear_quant\r\n    qconfig:\r\n      act:\r\n        scope: per_tensor # why\r\n        dtype: int8\r\n"
                                   "        symmetric: false\r\n        method: minmax\r\n      weight: {scope: per_channel, dtype: int8, symmetric: true, "
                                   "method: 'minmax'}\r\n    include: ['*']\r\n" TAIL;
    gives(was, &per_token, 1,
          HEAD "  - type: linear_quant\r\n    qconfig:\r\n      act:\r\n        scope: per_token # why\r\n        dtype: int8\r\n"
               "        symmetric: true\r\n        method: minmax\r\n      weight: {scope: per_channel, dtype: int8, symmetric: true, "
               "method: 'minmax'}\r\n    include: ['*']\r\n" TAIL);
    gives(was, &gptq, 1,
          HEAD "  - type: linear_quant\r\n    qconfig:\r\n      act:\r\n        scope: per_tensor # why\r\n        dtype: int8\r\n"
               "        symmetric: false\r\n        method: minmax\r\n      weight: {scope: per_channel, dtype: int8, symmetric: true, "
               "method: gptq}\r\n    include: ['*']\r\n" TAIL);
}

/* Values that entries share through an anchor change once, for all of them. */
static void test_shared(void **state)
{
    (void)state;
    static const char head[] = "apiversion: modelslim_v1\nspec:\n  process:\n  - type: group\n    configs:\n    - {type: linear_quant, qconfig: &q {act: {scope: "
                               "per_tensor, dtype: int8, symmetric: false, method: minmax}, weight: {scope: per_channel, dtype: int8, symmetric: true, "
                               "method: minmax}}, include: ['*q_proj']}\n    - {type: linear_quant, qconfig: *q, include: ['*o_proj']}\n  save: [{type: "
                               "ascendv1_saver}]\n";
    static const char want[] = "apiversion: modelslim_v1\nspec:\n  process:\n  - type: group\n    configs:\n    - {type: linear_quant, qconfig: &q {act: {scope: "
                               "per_token, dtype: int8, symmetric: true, method: minmax}, weight: {scope: per_channel, dtype: int8, symmetric: true, "
                               "method: minmax}}, include: ['*q_proj']}\n    - {type: linear_quant, qconfig: *q, include: ['*o_proj']}\n  save: [{type: "
                               "ascendv1_saver}]\n";
    gives(head, &per_token, 2, want);
}

static void test_not_for_it(void **state)
{
    (void)state;
    static const char dynamic[] = "apiversion: modelslim_v1\nspec:\n  process:\n  - type: linear_quant\n    qconfig:\n      act: {scope: per_token, dtype: int8, "
                                  "symmetric: true, method: minmax}\n      weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}\n"
                                  "  save: [{type: ascendv1_saver}]\n";
    Recipe *r = parse(dynamic);
    RecipeVaried v;
    gives(dynamic, &per_token, 0, NULL);
    assert_int_equal(recipe_vary(r, &per_token, "x", &v, &err), ST_OK);
    assert_int_equal(v.fits, 1); /* it has it */
    assert_int_equal(recipe_vary(r, &histogram, "x", &v, &err), ST_OK);
    assert_int_equal(v.fits, 0); /* only for static scales */
    recipe_free(r);
    r = parse("apiversion: modelslim_v0\nspec:\n  calib_cfg: {w_bit: 8, a_bit: 8, mm_tensor: false}\n");
    assert_int_equal(recipe_vary(r, &per_token, "x", &v, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "no modelslim_v1 recipe"));
    recipe_free(r);
}

/* A processor in front; one that this build does not run makes a recipe that can't be run, and says so. */
static void test_front(void **state)
{
    (void)state;
    static const char tail[] = "type: linear_quant\n      qconfig:\n        act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax}\n"
                               "        weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}\n  save: [{type: ascendv1_saver}]\n";
    char was[700], want[900];
    snprintf(was, sizeof was, "apiversion: modelslim_v1\nspec:\n  process:\n    - %s", tail);
    snprintf(want, sizeof want, "apiversion: modelslim_v1\nspec:\n  process:\n    - {type: iter_smooth, alpha: 0.9}\n    - %s", tail);
    gives(was, &smooth, 1, want);
    Recipe *r = parse(was);
    RecipeVaried v;
    Str why = {0};
    assert_int_equal(recipe_vary(r, &smooth, "S2a", &v, &err), ST_OK);
    assert_string_equal(v.delta, "+ {type: iter_smooth, alpha: 0.9}");
    bool built = false;
    for (int i = 0; recipe_rows.processor(i); i++)
        built |= strcmp(recipe_rows.processor(i)->name, "iter_smooth") == 0;
    assert_int_equal(recipe_can_run(v.recipe, &why), built);
    if (!built)
        assert_non_null(strstr(str_text(&why), "iter_smooth"));
    snprintf(was, sizeof was, "apiversion: modelslim_v1\nspec:\n  process:\n    - {type: quarot}\n    - %s", tail);
    snprintf(want, sizeof want, "apiversion: modelslim_v1\nspec:\n  process:\n    - {type: quarot}\n    - {type: iter_smooth, alpha: 0.9}\n    - %s", tail);
    gives(was, &smooth, 1, want); /* channels are smoothed as they are turned */
    RecipeChange four = smooth;
    four.types[0] = QT_INT4; /* there is none */
    gives(was, &four, 0, NULL);
    Str diff = {0};
    assert_int_equal(recipe_diff(r, v.recipe, &diff, &err), ST_OK);
    assert_non_null(strstr(str_text(&diff), "+    - {type: iter_smooth, alpha: 0.9}\n"));
    str_free(&diff);
    str_free(&why);
    recipe_free(v.recipe);
    recipe_free(r);
}

/* The recipe that is there without a file, and a change upon a change. */
static void test_default(void **state)
{
    (void)state;
    Recipe *r;
    RecipeVaried a, b;
    assert_int_equal(recipe_default(&r, &recipe_rows, &err), ST_OK);
    assert_int_equal(recipe_vary(r, &per_token, "S3a", &a, &err), ST_OK);
    assert_string_equal(a.delta, "activations per_tensor asymmetric minmax -> per_token symmetric minmax");
    assert_int_equal(recipe_entry(a.recipe, 0)->q.act.scope, QS_PER_TOKEN);
    assert_int_equal(recipe_vary(a.recipe, &gptq, "S3g", &b, &err), ST_OK);
    assert_string_equal(recipe_entry(b.recipe, 0)->q.weight.method, "gptq");
    assert_int_equal(recipe_entry(b.recipe, 0)->q.act.scope, QS_PER_TOKEN);
    assert_true(recipe_can_run(b.recipe, NULL));
    recipe_free(b.recipe);
    recipe_free(a.recipe);
    recipe_free(r);
}

/* One processor smooths: another takes its place, and where it works. */
static void test_instead(void **state)
{
    (void)state;
    static const char linear[] = "{type: linear_quant, qconfig: {act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax}, "
                                 "weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}, include: ['*']}";
    static const struct {
        const char *was, *is, *item, *delta;
    } cases[] = {
        {"{type: iter_smooth, alpha: 0.9} # why", "{type: iter_smooth, alpha: 0.5} # why", "{type: iter_smooth, alpha: 0.5}", "iter_smooth alpha 0.9 -> 0.5"},
        {"{type: iter_smooth, alpha: 0.9, include: ['*layers.1.*']}", "{type: iter_smooth, symmetric: false, alpha: 0.5, include: ['*layers.1.*']}",
         "{type: iter_smooth, alpha: 0.5, symmetric: false}", "iter_smooth alpha 0.9 -> 0.5, symmetric false"},
        {"type: iter_smooth\n      alpha: 0.9\n      exclude:\n      - 'it''s'\n      - '*.2.*'",
         "{type: flex_smooth_quant, exclude: ['it''s', '*.2.*']}", "{type: flex_smooth_quant}", "iter_smooth -> {type: flex_smooth_quant}"},
        {"{type: awq, weight_qconfig: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}, enable_subgraph_type: [ov], include: ['a']}",
         "{type: smooth_quant, alpha: 0.5, include: ['a']}", "{type: smooth_quant, alpha: 0.5}", "awq -> {type: smooth_quant, alpha: 0.5}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char was[900], want[900];
        RecipeChange c = {.symmetric = -1, .instead = true, .front = cases[i].item};
        RecipeVaried v;
        const char *form = "apiversion: modelslim_v1\nspec:\n  process:\n    - {type: quarot}\n    - %s\n    - %s\n  save: [{type: ascendv1_saver}]\n";
        snprintf(was, sizeof was, form, cases[i].was, linear);
        snprintf(want, sizeof want, form, cases[i].is, linear);
        gives(was, &c, 1, want);
        Recipe *r = parse(was);
        assert_int_equal(recipe_vary(r, &c, "x", &v, &err), ST_OK);
        assert_string_equal(v.delta, cases[i].delta);
        recipe_free(v.recipe);
        recipe_free(r);
        gives(want, &c, 0, NULL); /* it has it then */
    }
}

/* In a group, too; of two it is not clear which is to go, and a person may want two. */
static void test_instead_of_which(void **state)
{
    (void)state;
    static const char form[] = "apiversion: modelslim_v1\nspec:\n  process:\n  - type: group\n    configs:\n    - type: smooth_quant\n      alpha: 0.5\n"
                               "    - {type: linear_quant, qconfig: {act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax}, "
                               "weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}}\n%s  save: [{type: ascendv1_saver}]\n";
    RecipeChange c = {.symmetric = -1, .instead = true, .front = "{type: iter_smooth, alpha: 0.9}"};
    char text[900];
    RecipeVaried v;
    snprintf(text, sizeof text, form, "");
    Recipe *r = parse(text);
    assert_int_equal(recipe_vary(r, &c, "x", &v, &err), ST_OK);
    size_t n;
    assert_non_null(strstr(recipe_source(v.recipe, &n), "    configs:\n    - {type: iter_smooth, alpha: 0.9}\n    - {type: linear_quant"));
    recipe_free(v.recipe);
    recipe_free(r);
    snprintf(text, sizeof text, form, "  - {type: iter_smooth}\n");
    r = parse(text);
    assert_int_equal(recipe_vary(r, &c, "x", &v, &err), ST_DATA);
    assert_non_null(strstr(err.text, "2 processors that smooth"));
    c.instead = false;
    assert_int_equal(recipe_vary(r, &c, "x", &v, &err), ST_OK);
    assert_string_equal(v.delta, "+ {type: iter_smooth, alpha: 0.9}");
    recipe_free(v.recipe);
    recipe_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block),     cmocka_unit_test(test_shared),  cmocka_unit_test(test_not_for_it),
        cmocka_unit_test(test_front),     cmocka_unit_test(test_default),
        cmocka_unit_test(test_instead),  cmocka_unit_test(test_instead_of_which),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
