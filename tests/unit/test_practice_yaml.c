#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/yaml.h"
#include "save/practice_yaml.h"
#include "save/pyyaml.h"
#include "tests/lib/savefeed.h"
#include "tests/lib/tempdir.h"

/* ---- what the peer wrote beside its weights ---- */

static void test_recorded(void **state)
{
    static const struct {
        const char *name, *type;
    } cases[] = {
        {"w8a8_static", "Qwen3-8B"}, {"w8a8_static_fp32_llama", "default"}, {"moe_w8a8_mixed", "Qwen3-30B"},
        {"w8a16_pergroup_gptq", "default"}, {"c8_only_fp32", "Qwen3-8B"}, {"two_savers", "Qwen3-8B"},
        {"mindie_mixed", "Qwen3-8B"}, {"float_only", "Qwen3-8B"}, {"ct_w8a8_static", "Qwen3-8B"},
        {"w8a8c8_asym", "Qwen3-8B"}, {"sharded_tiny", "Qwen3-8B"}, {"mxfp8", "Qwen3-8B"},
    };
    (void)state;
    char *dir = temp_folder();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char from[256], want[256], file[320];
        size_t n;
        Str made = {0};
        Error err = {0};
        snprintf(from, sizeof from, "tests/golden/formats/%s/config.yaml", cases[i].name);
        practice_yaml_name(cases[i].type, file);
        snprintf(want, sizeof want, "tests/golden/formats/%.60s/out/%.100s", cases[i].name, file);
        char *text = temp_get(from, &n);
        assert_int_equal(practice_yaml(text, n, from, &made, &err), ST_OK);
        temp_put(temp_path(dir, file), made.s, made.len);
        str_free(&made);
        assert_same_file(temp_path(dir, file), want);
        free(text);
    }
    temp_remove(dir);
}

/* ---- documents and what PyYAML 6.0 makes of them ---- */

static const struct {
    const char *from, *to;
} dumps[] = {
    {"a: 'true'\nb: \"1e-5\"\nc: 1.0e-5\nd: 0x10\ne: ~\nf: [ ]\ng: { }\nh: ''\n",
     "a: 'true'\nb: 1e-5\nc: 1.0e-05\nd: 16\ne: null\nf: []\ng: {}\nh: ''\n"},
    {"x: &a [1, 2]\ny: *a\nz: [[1, [2]], {k: v}]\n",
     "x:\n- 1\n- 2\ny:\n- 1\n- 2\nz:\n- - 1\n  - - 2\n- k: v\n"},
    {"l: ['*', '*self_attn*', 'model.layers.{0..3}.*', '- x', 'a: b', 'a #b', '@x', ' lead', 'trail ', '1', 'no', '=']\n",
     "l:\n- '*'\n- '*self_attn*'\n- model.layers.{0..3}.*\n- '- x'\n- 'a: b'\n- 'a #b'\n- '@x'\n- ' lead'\n- 'trail '\n"
     "- '1'\n- 'no'\n- '='\n"},
    {"s: \"tab\\there\"\nt: \"two\\nlines\"\nu: \"it's\"\nv: \"'quoted'\"\nw: \"\\u00e9\"\n",
     "s: \"tab\\there\"\nt: 'two\n\n  lines'\nu: it's\nv: '''quoted'''\nw: \"\\xE9\"\n"},
    {"a: {b: {c: [{d: 1, e: [x]}, {f: 2}]}}\n",
     "a:\n  b:\n    c:\n    - d: 1\n      e:\n      - x\n    - f: 2\n"},
    {"p: word word word word word word word word word word word word word word word word word word end\n"
     "q: ': word word word word word word word word word word word word word word word word word word end'\n",
     "p: word word word word word word word word word word word word word word word word\n"
     "  word word end\n"
     "q: ': word word word word word word word word word word word word word word word word\n"
     "  word word end'\n"},
    {"f: 100.0\ng: 1.5\nh: 1e22\ni: .inf\nj: -0.0\nk: 123456789.125\n",
     "f: 100.0\ng: 1.5\nh: 1e22\ni: .inf\nj: -0.0\nk: 123456789.125\n"},
    {"n: \"两个专家层保持浮点：第一层和最后一层的注意力投影对量化很敏感，其余的层都用静态整数 é\"\n",
     "n: \"\\u4E24\\u4E2A\\u4E13\\u5BB6\\u5C42\\u4FDD\\u6301\\u6D6E\\u70B9\\uFF1A\\u7B2C\\u4E00\\u5C42\\\n"
     "  \\u548C\\u6700\\u540E\\u4E00\\u5C42\\u7684\\u6CE8\\u610F\\u529B\\u6295\\u5F71\\u5BF9\\u91CF\\u5316\\\n"
     "  \\u5F88\\u654F\\u611F\\uFF0C\\u5176\\u4F59\\u7684\\u5C42\\u90FD\\u7528\\u9759\\u6001\\u6574\\u6570\\\n"
     "  \\ \\xE9\"\n"},
    {"8: eight\ntrue: yes\n", "8: eight\ntrue: true\n"},
};

static void test_dump(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dumps / sizeof dumps[0]; i++) {
        YamlDoc *doc;
        Error err = {0};
        Str out = {0};
        assert_int_equal(yaml_parse(&doc, dumps[i].from, strlen(dumps[i].from), "x", &err), ST_OK);
        pyyaml_dump(yaml_root(doc), &out);
        assert_string_equal(str_text(&out), dumps[i].to);
        str_free(&out);
        yaml_doc_free(doc);
    }
}

static void test_metadata_defaults(void **state)
{
    (void)state;
    static const char text[] = "extra: 1\nmetadata:\n  score: 7\nspec: {process: [], save: []}\napiversion: modelslim_v1\n";
    Str out = {0};
    Error err = {0};
    assert_int_equal(practice_yaml(text, sizeof text - 1, "x", &out, &err), ST_OK);
    assert_string_equal(out.s, "apiversion: modelslim_v1\nspec:\n  process: []\n  save: []\nmetadata:\n"
                               "  config_id: Unknown\n  score: 7.0\n  label: {}\n  verified_model_types: []\n"
                               "  verified_tags: {}\nextra: 1\n");
    str_free(&out);
    assert_int_equal(practice_yaml("- a\n", 4, "x", &out, &err), ST_DATA);
    assert_int_equal(practice_yaml("", 0, "x", &out, &err), ST_DATA);
    str_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_dump),
        cmocka_unit_test(test_metadata_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
