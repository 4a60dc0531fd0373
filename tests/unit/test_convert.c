/* Names, kinds and documents of conversions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "convert/impl.h"

/* What Python's fnmatch.fnmatchcase gives. */
static void patterns_are_pythons(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool hit;
    } rows[] = {
        {"*", "", true}, {"*", "a.b", true}, {"", "", true}, {"", "a", false}, {"a", "", false}, {"model.layers.*.mlp.*_proj", "model.layers.0.mlp.up_proj", true},
        {"model.layers.*.mlp.*_proj", "model.layers.0.mlp.up_proj.weight", false}, {"*.a*b*c", "x.aXbbc", true}, {"*.a*b*c", "x.aXbb", false},
        {"?", "a", true}, {"?", "", false}, {"[ab]c", "ac", true}, {"[ab]c", "cc", false}, {"[!ab]c", "cc", true}, {"[!ab]c", "ac", false},
        {"[a-c]", "b", true}, {"[a-c]", "d", false}, {"[c-a]", "b", false}, {"[]]", "]", true}, {"[!]]", "]", false}, {"[!]]", "a", true},
        {"[a", "[a", true}, {"[a", "a", false}, {"a[", "a[", true}, {"[a-]", "-", true}, {"[-a]", "-", true}, {"{a,b}", "a", false},
        {"{a,b}", "{a,b}", true}, {"a\\*", "a\\b", true}, {"a\\*", "a*", false}, {".*", ".x", true}, {"*x", ".x", true}, {"[^a]", "^", true},
        {"[^a]", "b", false}, {"**", "abc", true}, {"*a", "aaa", true}, {"[!a]", "", false}, {"*[!x]", "ax", false}, {"*[!x]", "xa", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (convert_glob(rows[i].pattern, rows[i].name) != rows[i].hit)
            fail_msg("'%s' on '%s'", rows[i].pattern, rows[i].name);
}

static void renamings_are_pythons(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *name, *want; /* NULL: it is left */
    } rows[] = {
        {"a(.*)c", "x\\1y", "abbc", "xbby"}, {"a(.*)c", "\\g<1>0", "abc", "b0"}, {"(?P<n>a+)b", "\\g<n>\\g<n>", "aab", "aaaa"}, {"b", "x", "abc", NULL},
        {"a", "x", "aa", NULL}, {"a|aa", "x", "aa", "x"}, {"(a)|b", "[\\1]", "b", "[]"}, {"a", "\\\\", "a", "\\"}, {"a", "", "a", ""},
        {"(.+)[.]q", "\\1.w", "m.l.0.q", "m.l.0.w"}, {"a", "\\g<7>x", "a", "x"},
    };
    Str out = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Renaming *r;
        Error err = {0};
        bool hit;
        assert_int_equal(renaming_new(&r, rows[i].from, rows[i].to, &err), ST_OK);
        assert_int_equal(renaming_apply(r, rows[i].name, &hit, &out, &err), ST_OK);
        assert_int_equal(hit, rows[i].want != NULL);
        if (hit)
            assert_string_equal(str_text(&out), rows[i].want);
        renaming_free(r);
    }
    Renaming *r;
    Error err = {0};
    assert_int_equal(renaming_new(&r, "(", "", &err), ST_DATA);
    assert_non_null(strstr(err.text, "is no regular expression"));
    renaming_free(r);
    str_free(&out);
}

static void kinds_are_reached_by_edges(void **state)
{
    (void)state;
    Str s = {0};
    assert_true(convert_reaches(CK_FP8_BLOCK, CK_W8A8_MXFP8));
    assert_true(convert_reaches(CK_FLOAT, CK_FLOAT));
    assert_false(convert_reaches(CK_FLOAT, CK_FP8_BLOCK));
    assert_false(convert_reaches(CK_NVFP4, CK_FLOAT));
    assert_false(convert_reaches(CK_UNKNOWN, CK_UNKNOWN));
    convert_reachable(CK_INT4_PACKED, &s);
    assert_string_equal(str_text(&s), "FLOAT, W8A8_MXFP8, W4A4_MXFP4 and W4A8_MXFP8");
    str_clear(&s);
    convert_reachable(CK_HIFP4, &s);
    assert_int_equal(s.len, 0);
    str_free(&s);
    for (int k = 0; k < CK_COUNT; k++)
        for (int i = 0; i < k; i++)
            assert_string_not_equal(convert_kind_name((ConvertKind)k), convert_kind_name((ConvertKind)i));
}

static ConvertDoc *doc_of(const char *text, Error *err)
{
    ConvertDoc *d;
    (void)convert_doc_parse(&d, &recipe_rows, text, strlen(text), "t.yaml", NULL, err);
    return d;
}

static void written_documents_read_back(void **state)
{
    (void)state;
    static const ConvertKind targets[] = {CK_FLOAT, CK_W8A8_MXFP8, CK_W4A4_MXFP4, CK_W4A8_MXFP8};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        Str text = {0};
        Error err = {0};
        assert_int_equal(convert_doc_write(targets[i], true, 0.5, (const char *const[]){"*a", "[b]*"}, 2, &text, &err), ST_OK);
        bool is;
        assert_int_equal(convert_is_document(str_text(&text), text.len, &is, &err), ST_OK);
        assert_true(is);
        ConvertDoc *d = doc_of(str_text(&text), &err);
        assert_non_null(d);
        const ConvertRule *r = convert_doc_rule(d, 0);
        assert_int_equal(d->nrules, 1);
        assert_int_equal(r->to, targets[i]);
        assert_int_equal(r->nmatch, 2);
        assert_string_equal(r->match[1], "[b]*");
        assert_true(d->ascend && d->part_file_size == 0.5);
        convert_doc_free(d);
        str_free(&text);
    }
    bool is = true;
    assert_int_equal(convert_is_document("apiversion: modelslim_v1\n", 25, &is, NULL), ST_OK);
    assert_false(is);
    assert_int_equal(convert_is_document("{", 1, &is, NULL), ST_OK);
    assert_false(is);
}

/* A single file under the original's rules gives nothing; else all of it. What is asked of a plan is there. */
static void plans_count_what_they_do(void **state)
{
    (void)state;
    Error err = {0};
    ConvertDoc *d = doc_of("apiversion: modelslim_convert\nspec:\n  linears:\n  - {match: ['*.mlp.*'], target: W8A8_MXFP8}\n"
                           "  - {match: ['*_proj', nothing], target: W4A4_MXFP4}\n", &err);
    assert_non_null(d);
    ConvertAsk ask = {.model = "tests/golden/formats/_models/qwen3-bf16", .dir = "build/never-made"};
    ConvertPlan *p;
    int n;
    if (convert_plan_make(&p, d, &ask, &err) != ST_OK)
        fail_msg("%s", err.text);
    const ConvertWay *w = convert_ways(p, &n);
    assert_int_equal(n, 2);
    assert_true((w[0].to == CK_W8A8_MXFP8) != (w[1].to == CK_W8A8_MXFP8));
    assert_int_equal(w[0].linears + w[1].linears, 14);
    assert_non_null(strstr(convert_notes(p, &n)[0], "t.yaml:5: 'nothing' takes no linear"));
    ConvertSums s = convert_sums(p);
    assert_true(s.copied == 11 && s.dropped == 0 && s.bytes_out < s.bytes_in);
    convert_plan_free(p);
    ask.peer = true;
    assert_int_equal(convert_plan_make(&p, d, &ask, &err), ST_OK);
    s = convert_sums(p);
    assert_true(s.bytes_out == 0 && s.copied == 0);
    convert_plan_free(p);
    convert_doc_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_are_pythons),
        cmocka_unit_test(renamings_are_pythons),
        cmocka_unit_test(kinds_are_reached_by_edges),
        cmocka_unit_test(written_documents_read_back),
        cmocka_unit_test(plans_count_what_they_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
