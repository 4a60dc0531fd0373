#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "recipe/pattern.h"
#include "recipe/recipe.h"
#include "tests/lib/fake_model.h"

#define Q8 \
    "{act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax}, weight: {scope: per_channel, dtype: " \
    "int8, symmetric: true, method: minmax}}"
#define Q4 \
    "{act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}, weight: {scope: per_channel, dtype: " \
    "int4, symmetric: true, method: ssz}}"
#define HEAD "apiversion: modelslim_v1\n"

/* Every shape that a list, an entry and a document can have. */
static const struct {
    const char *name, *text;
} shapes[] = {
    {"absent", HEAD "spec:\n  process:\n  - type: linear_quant # first\n    qconfig: " Q8
                    "\n    include: ['*']  # all\n  # tail\n  dataset: x.jsonl\n"},
    {"both absent", HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8 "\n"},
    {"null", HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8
                  "\n      exclude: null # none\n      include: ~\n"},
    {"nothing", HEAD "spec:\n  process:\n    - type: linear_quant\n      exclude:\n      qconfig: " Q8 "\n"},
    {"empty flow", HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8
                        "\n      exclude: []\n      include: [ \"*\" ]\n"},
    {"flow", HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8
                  "\n      exclude: [\"*down_proj\", '*layers.2.*']   # keep\n"},
    {"flow lines", HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8
                        "\n      exclude: [\n        '*down_proj', # worst\n        # a note\n"
                        "        '*layers.2.*' # block\n      ]\n      include: ['*']\n"},
    {"trailing comma", HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8
                            "\n      exclude: [\n        '*down_proj',\n        '*layers.2.*',\n      ]\n"},
    {"block", HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8
                   "\n      exclude:\n        # why\n        - '*down_proj'  # worst\n\n"
                   "        # more\n        - \"*layers.2.*\"\n        # end\n      include:\n      - '*'\n"},
    {"block at the end", HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8
                              "\n      exclude:\n        - '*down_proj'\n        - '*layers.2.*'"},
    {"one at the end",
     HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8 "\n      exclude:\n        - '*down_proj'"},
    {"no final newline",
     HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8 "\n      include: ['*']"},
    {"crlf", "apiversion: modelslim_v1\r\nspec:\r\n  process:\r\n    - type: linear_quant\r\n      qconfig: " Q8
             "\r\n      exclude:\r\n        - '*down_proj' # c\r\n        - '*up_proj'\r\n      include: ['*']\r\n"},
    {"bom and wide comments",
     "\xef\xbb\xbf" HEAD
     "# \xe5\xb1\x82 \xf0\x9f\x98\x80\nspec:\n  process:\n    - type: linear_quant # \xe9\x87\x8f\n      qconfig: " Q8
     "\n      exclude: ['*down_proj'] # \xe6\x9c\x80\n"},
    {"anchored lists", HEAD
     "inc: &inc ['*']\nexc: &exc\n  - '*down_proj'\nspec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8
     "\n      include: *inc\n      exclude: *exc\n    - type: linear_quant\n      qconfig: " Q4
     "\n      include: *inc\n      exclude: *exc\n"},
    {"anchored here", HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8
                           "\n      exclude: &e # shared\n        - '*down_proj'\n        - '*o_proj'\n"
                           "    - type: linear_quant\n      qconfig: " Q4
                           "\n      exclude: *e\n    - type: iter_smooth\n      exclude: *e\n"},
    {"anchored flow and item", HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: &q " Q8
                                    "\n      exclude: &e [ &d '*down_proj', '*up_proj' ]\n"
                                    "    - type: linear_quant\n      qconfig: " Q4
                                    "\n      exclude: [*d, '*gate_proj']\n    - {type: iter_smooth, exclude: *e}\n"},
    {"two entries", HEAD "spec:\n  process:\n    - type: linear_quant\n      qconfig: " Q8
                         "\n      include: ['*self_attn*']\n    - type: linear_quant\n      qconfig: " Q4
                         "\n      include:\n        - '*mlp*'\n      exclude:\n        - '*down_proj'\n"},
    {"group",
     HEAD "spec:\n  process:\n    - type: group\n      configs:\n        - type: linear_quant\n          qconfig: " Q8
          "\n          include: ['*self_attn*']\n        - type: group\n          configs:\n            - {type: "
          "linear_quant, qconfig: " Q4
          ", include: ['*mlp*']}\n            - type: linear_quant\n              qconfig: " Q8 "\n"},
    {"entry anchored",
     HEAD "w8: &w8\n  type: linear_quant\n  qconfig: " Q8
          "\n  include: ['*self_attn*']\nspec:\n  process:\n    - *w8\n    - *w8\n    - type: linear_quant\n"
          "      qconfig: " Q4 "\n"},
    {"entry used again", HEAD "spec:\n  process:\n    - &w8\n      type: linear_quant\n      qconfig: " Q8
                              "\n      include: ['*self_attn*']\n    - type: group\n      configs:\n"
                              "        - *w8\n        - type: linear_quant\n          qconfig: " Q4 "\n"},
    {"merge",
     HEAD "base: &base\n  type: linear_quant\n  qconfig: " Q8
          "\nspec:\n  process:\n    - <<: *base\n      include: ['*self_attn*']\n    - <<: *base\n      exclude:\n"
          "        - '*down_proj'\n"},
    {"merged list", HEAD
     "base: &base {type: linear_quant, exclude: ['*down_proj']}\nspec:\n  process:\n    - <<: *base\n      qconfig: " Q8
     " # q\n    - <<: [*base]\n      qconfig: " Q4 "\n"},
    {"processes shared", HEAD "p: &p\n  - type: linear_quant\n    qconfig: " Q8
                              "\n    exclude: ['*down_proj']\nspec:\n  process: *p\n  prior:\n    - process: *p\n"},
    {"spec shared", HEAD "s: &s\n  process:\n    - type: linear_quant\n      qconfig: " Q8 "\nspec: *s\n"},
    {"flow document", "{apiversion: modelslim_v1, spec: {process: [{type: linear_quant, qconfig: " Q8
                      ", include: ['*']}, {type: linear_quant, qconfig: " Q4 "}]}}"},
    {"json", "{\"apiversion\": \"modelslim_v1\", \"spec\": {\"process\": [{\"type\": \"linear_quant\", \"qconfig\": " Q8
             ", \"exclude\": [\"*down_proj\"]}]}}\n"},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static Recipe *open_text(const char *text, const char *name)
{
    Recipe *r;
    Error e = {0};
    if (recipe_parse(&r, &recipe_rows, text, strlen(text), name, NULL, &e) != ST_OK)
        fail_msg("%s: %s\n%s", name, e.text, text);
    return r;
}

/* Exports, and proves the text with a reading of our own. */
static char *export_text(const Recipe *r, const Model *m, const int16_t *level, const char *const *comments)
{
    Export x;
    Error e = {0};
    if (recipe_export(r, m, level, NULL, NULL, comments, NULL, &x, &e) != ST_OK)
        fail_msg("%s: %s", recipe_name(r), e.text);
    Recipe *again = open_text(str_text(&x.text), recipe_name(r));
    int16_t *got = calloc((size_t)m->nlinears, sizeof *got);
    assert_int_equal(recipe_assign(again, m, got, &e), ST_OK);
    assert_memory_equal(got, level, (size_t)m->nlinears * sizeof *got);
    assert_int_equal(recipe_entries(again), recipe_entries(r));
    for (int k = 0; k < recipe_entries(r); k++)
        for (int i = 0; i < recipe_entry(again, k)->nexclude; i++)
            assert_true(strlen(recipe_entry(again, k)->exclude[i]) <= 200);
    free(got);
    recipe_free(again);
    char *s = strdup(str_text(&x.text));
    export_fini(&x);
    return s;
}

static Model *demo_like(void)
{
    return fake_model(&(FakeShape){.layers = 8, .hidden = 64, .inter = 128});
}

/* Lines of the text that aren't about a list stay; here: every comment. */
static void comments_stay(const char *before, const char *after, const char *name)
{
    for (const char *s = strchr(before, '#'); s; s = strchr(s + 1, '#')) {
        char c[64];
        snprintf(c, sizeof c, "%.*s", (int)strcspn(s, "\r\n") > 60 ? 60 : (int)strcspn(s, "\r\n"), s);
        if (!strstr(after, c))
            fail_msg("%s: comment '%s' is gone from:\n%s", name, c, after);
    }
}

static void unchanged_assignment_changes_nothing(void **state)
{
    (void)state;
    Model *m = demo_like();
    int16_t level[64];
    for (int k = 0; k < SHAPES; k++) {
        if (strcmp(shapes[k].name, "null") == 0 || strcmp(shapes[k].name, "nothing") == 0)
            continue; /* null becomes a list */
        Recipe *r = open_text(shapes[k].text, shapes[k].name);
        assert_int_equal(recipe_assign(r, m, level, NULL), ST_OK);
        char *s = export_text(r, m, level, NULL);
        assert_string_equal(s, shapes[k].text);
        free(s);
        recipe_free(r);
    }
    fake_model_free(m);
}

static void random_assignments_round_trip(void **state)
{
    (void)state;
    Model *m = demo_like();
    unsigned long long seed = 11;
    int16_t level[64];
    for (int k = 0; k < SHAPES; k++) {
        Recipe *r = open_text(shapes[k].text, shapes[k].name);
        int n = recipe_entries(r);
        for (int round = 0; round < 60; round++) {
            unsigned density = fake_random(&seed) % 4;
            recipe_assign(r, m, level, NULL);
            for (int64_t i = 0; i < m->nlinears; i++)
                if (fake_random(&seed) % 8 < 1u << density)
                    level[i] = (int16_t)(fake_random(&seed) % (unsigned)(n + 1));
            if (round < 3) /* all float, all at the first, all at the last */
                for (int64_t i = 0; i < m->nlinears; i++)
                    level[i] = (int16_t)(round == 0 ? 0 : round == 1 ? 1 : n);
            char *s = export_text(r, m, level, NULL);
            size_t len = strlen(shapes[k].text);
            if (!strstr(shapes[k].name, "shared") && shapes[k].text[len - 1] != '\n')
                assert_true(s[strlen(s) - 1] != '\n');
            if (strcmp(shapes[k].name, "crlf") == 0)
                for (const char *p = s; (p = strchr(p, '\n')) != NULL; p++)
                    assert_true(p[-1] == '\r');
            /* exporting the export again changes nothing */
            Recipe *again = open_text(s, shapes[k].name);
            char *t = export_text(again, m, level, NULL);
            assert_string_equal(s, t);
            recipe_free(again);
            free(t);
            free(s);
        }
        recipe_free(r);
    }
    fake_model_free(m);
}

static char *with_float(const char *text, const char *const *float_patterns)
{
    Model *m = demo_like();
    Recipe *r = open_text(text, "r");
    int16_t level[64];
    recipe_assign(r, m, level, NULL);
    for (; *float_patterns; float_patterns++) {
        Pattern *p;
        bool hits[64] = {false};
        assert_int_equal(pattern_compile(&p, *float_patterns, NULL), ST_OK);
        pattern_hits(p, m, hits);
        pattern_free(p);
        for (int64_t i = 0; i < m->nlinears; i++)
            if (hits[i])
                level[i] = 0;
    }
    char *s = export_text(r, m, level, NULL);
    recipe_free(r);
    fake_model_free(m);
    return s;
}

static const char *shape(const char *name)
{
    for (int k = 0; k < SHAPES; k++)
        if (strcmp(shapes[k].name, name) == 0)
            return shapes[k].text;
    fail_msg("no shape %s", name);
    return "";
}

static void minimal_edits(void **state)
{
    (void)state;
    static const struct {
        const char *shape, *find, *put;
    } rows[] = {
        {"absent", "['*']  # all\n", "['*']  # all\n    exclude:\n      - '*layers.{1,6}.mlp.down_proj'\n"},
        {"null", "exclude: null # none\n      include: ~\n",
         "exclude: ['*layers.{1,6}.mlp.down_proj'] # none\n      include: ['*']\n"},
        {"nothing", "exclude:\n", "exclude: ['*layers.{1,6}.mlp.down_proj']\n"},
        {"empty flow", "exclude: []", "exclude: ['*layers.{1,6}.mlp.down_proj']"},
        {"no final newline", "include: ['*']",
         "include: ['*']\n      exclude:\n        - '*layers.{1,6}.mlp.down_proj'"},
        {"json", NULL, NULL},
        {"two entries", NULL, NULL},
    };
    static const char *const worst[] = {"*layers.{1,6}.mlp.down_proj", NULL};
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        const char *text = shape(rows[k].shape);
        char *s = with_float(text, worst), want[4096];
        const char *at = rows[k].find ? strstr(text, rows[k].find) : NULL;
        if (at)
            snprintf(want, sizeof want, "%.*s%s%s", (int)(at - text), text, rows[k].put, at + strlen(rows[k].find));
        else
            snprintf(want, sizeof want, "%s", text); /* excluded already */
        assert_string_equal(s, want);
        free(s);
    }
    static const char *const more[] = {"*layers.5.*", NULL};
    char *s = with_float(shape("block"), more);
    assert_non_null(strstr(s, "        - \"*layers.2.*\"\n        - '*layers.5.*'\n        # end\n"));
    comments_stay(shape("block"), s, "block");
    free(s);
    s = with_float(shape("flow lines"), more);
    assert_non_null(strstr(s, "        '*layers.2.*', '*layers.5.*' # block\n      ]\n"));
    comments_stay(shape("flow lines"), s, "flow lines");
    free(s);
    s = with_float(shape("flow"), more);
    assert_non_null(strstr(s, "exclude: [\"*down_proj\", '*layers.2.*', '*layers.5.*']   # keep\n"));
    free(s);
    s = with_float(shape("anchored here"), more); /* the smoother keeps the list it shared */
    assert_non_null(strstr(s, "    - type: iter_smooth\n      exclude: ['*down_proj', '*o_proj']\n"));
    free(s);
}

static void removing_patterns(void **state)
{
    (void)state;
    Model *m = demo_like();
    static const char *const names[] = {"block",          "flow lines", "trailing comma", "flow", "block at the end",
                                        "one at the end", "crlf"};
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        Recipe *r = open_text(shape(names[k]), names[k]);
        int16_t level[64];
        for (int64_t i = 0; i < m->nlinears; i++)
            level[i] = 1;
        char *s = export_text(r, m, level, NULL);
        assert_null(strstr(s, "down_proj"));
        free(s);
        recipe_free(r);
    }
    fake_model_free(m);
}

static void provenance_is_replaced(void **state)
{
    (void)state;
    Model *m = demo_like();
    static const char *const one[] = {"slimscope 1", "metric kurtosis\nand\ttab", NULL};
    static const char *const two[] = {"slimscope 2", NULL};
    int16_t level[64];
    const char *const texts[] = {shape("block"), shape("crlf"), shape("bom and wide comments")};
    for (int k = 0; k < 3; k++) {
        Recipe *r = open_text(texts[k], "r");
        recipe_assign(r, m, level, NULL);
        char *s = export_text(r, m, level, one);
        const char *body = s + (k == 2 ? 3 : 0), *eol = k == 1 ? "\r\n" : "\n";
        char want[200];
        snprintf(want, sizeof want, "# slimscope: slimscope 1%s# slimscope: metric kurtosis and tab%s", eol, eol);
        assert_int_equal(strncmp(body, want, strlen(want)), 0);
        Recipe *again = open_text(s, "r");
        char *t = export_text(again, m, level, two);
        snprintf(want, sizeof want, "# slimscope: slimscope 2%s", eol);
        body = t + (k == 2 ? 3 : 0);
        assert_int_equal(strncmp(body, want, strlen(want)), 0);
        assert_string_equal(body + strlen(want), texts[k] + (k == 2 ? 3 : 0));
        free(t);
        recipe_free(again);
        free(s);
        recipe_free(r);
    }
    fake_model_free(m);
}

static void default_recipe(void **state)
{
    (void)state;
    Model *m = demo_like();
    Recipe *r;
    Error e = {0};
    assert_int_equal(recipe_default(&r, &recipe_rows, &e), ST_OK);
    assert_int_equal(recipe_entries(r), 1);
    assert_int_equal(recipe_entry(r, 0)->line, 0);
    assert_string_equal(recipe_dataset(r), "mix_calib.jsonl");
    assert_non_null(recipe_entry(r, 0)->scheme);
    assert_string_equal(recipe_entry(r, 0)->scheme->name, "W8A8");
    int16_t level[64];
    assert_int_equal(recipe_assign(r, m, level, &e), ST_OK);
    level[6] = level[13] = 0; /* two down_proj */
    Export x;
    assert_int_equal(recipe_export(r, m, level, NULL, NULL, NULL, NULL, &x, &e), ST_OK);
    assert_non_null(strstr(str_text(&x.text), "config_id: 'fake_w8a8_static'"));
    assert_non_null(strstr(str_text(&x.text), "verified_model_types:\n    - 'fake'\n"));
    assert_non_null(strstr(str_text(&x.text), "      exclude:\n        - '*layers.{0,1}.mlp.down_proj'\n"));
    assert_non_null(strstr(str_text(&x.diff), "@@"));
    for (int i = 0; i < x.nchecks; i++)
        assert_true(x.checks[i].ok);
    assert_true(x.nchecks >= 5);
    export_fini(&x);
    level[0] = 0; /* a part of qkv */
    assert_int_equal(recipe_export(r, m, level, NULL, NULL, NULL, NULL, &x, &e), ST_OK);
    assert_false(x.checks[1].ok);
    assert_true(x.checks[1].blocking);
    export_fini(&x);
    level[0] = 2;
    assert_int_equal(recipe_export(r, m, level, NULL, NULL, NULL, NULL, &x, &e), ST_USAGE);
    recipe_free(r);
    fake_model_free(m);
}

static void diff_is_unified(void **state)
{
    (void)state;
    Model *m = demo_like();
    Recipe *r = open_text(shape("block"), "block.yaml");
    int16_t level[64];
    recipe_assign(r, m, level, NULL);
    Export x;
    assert_int_equal(recipe_export(r, m, level, NULL, NULL, NULL, NULL, &x, NULL), ST_OK);
    assert_string_equal(str_text(&x.diff), "");
    export_fini(&x);
    level[3] = 0; /* layers.0 o_proj */
    assert_int_equal(recipe_export(r, m, level, NULL, NULL, NULL, NULL, &x, NULL), ST_OK);
    assert_string_equal(str_text(&x.diff),
                        "--- block.yaml\n+++ export\n@@ -9,6 +9,7 @@\n \n         # more\n         - \"*layers.2.*\"\n"
                        "+        - '*layers.0.self_attn.o_proj'\n         # end\n       include:\n       - '*'\n");
    export_fini(&x);
    assert_int_equal(recipe_export(r, m, level, NULL, NULL, NULL, "old\n", &x, NULL), ST_OK);
    assert_non_null(strstr(str_text(&x.diff), "-old\n"));
    export_fini(&x);
    recipe_free(r);
    fake_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unchanged_assignment_changes_nothing),
        cmocka_unit_test(random_assignments_round_trip),
        cmocka_unit_test(minimal_edits),
        cmocka_unit_test(removing_patterns),
        cmocka_unit_test(provenance_is_replaced),
        cmocka_unit_test(default_recipe),
        cmocka_unit_test(diff_is_unified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
