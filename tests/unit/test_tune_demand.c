/* What a plan demands: exact decimals, expectations, the mapping `demand` (specs/tuning.md 2). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tune/demand.h"
#include "tune/plan.h"

static Decimal dec(const char *text)
{
    Decimal d;
    if (!decimal_parse(text, strlen(text), &d))
        fail_msg("'%s' is no decimal", text);
    return d;
}

static void decimals_are_read_and_written(void **state)
{
    (void)state;
    /* what Python's str(Decimal(...)) gives */
    static const char *const rows[][2] = {
        {"83", "83"}, {"+83", "83"}, {"-0.5", "-0.5"}, {".5", "0.5"}, {"5.", "5"}, {"083.10", "83.10"}, {"0", "0"},
        {"0.00", "0.00"}, {"1e3", "1E+3"}, {"1.5e3", "1.5E+3"}, {"150e-1", "15.0"}, {"1e-6", "0.000001"}, {"1e-7", "1E-7"},
        {" 2 ", "2"}, {"12345678901234567890123456789012345678", "12345678901234567890123456789012345678"},
        {"0.0000012", "0.0000012"}, {"0.00000012", "1.2E-7"}, {"0.1234567890123456789", "0.1234567890123456789"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Decimal d = dec(rows[i][0]);
        Str s = {0};
        decimal_put(&d, &s);
        assert_string_equal(str_text(&s), rows[i][1]);
        assert_true(decimal_value(&d) == strtod(rows[i][0], NULL));
        str_free(&s);
    }
    static const char *const bad[] = {"", ".", "-", "e5", "1e", "1e+", "nan", "inf", "1_0", "1 0", "0x10", "1..2", "1e100", "1e99999",
                                      "123456789012345678901234567890123456789"};
    Decimal d;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (decimal_parse(bad[i], strlen(bad[i]), &d))
            fail_msg("'%s' was read", bad[i]);
    assert_true(decimal_of(0.1, &d));
    assert_true(decimal_value(&d) == 0.1);
    assert_true(decimal_of(100, &d) && decimal_value(&d) == 100);
    assert_false(decimal_of(NAN, &d) || decimal_of(INFINITY, &d));
}

static void differences_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *c;
        int sign;
    } rows[] = {
        {"83", "81", "2", 0},      {"83", "80.99", "2", 1},  {"83", "81.0000000000000000000000000001", "2", -1},
        {"0.3", "0.1", "0.2", 0},  {"1e90", "1e90", "1e-90", -1}, {"1e99", "1e-99", "0", 1},
        {"0", "0.000", "-0", 0},   {"1", "-1", "2", 0},      {"-1", "1", "0", -1}, {"100", "99.9", "0.1", 0},
        {"99999999999999999999999999999999999999", "99999999999999999999999999999999999998", "1", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Decimal a = dec(rows[i].a), b = dec(rows[i].b), c = dec(rows[i].c);
        if (decimal_sign(&a, &b, &c) != rows[i].sign)
            fail_msg("%s - %s - %s: %d", rows[i].a, rows[i].b, rows[i].c, decimal_sign(&a, &b, &c));
    }
    Decimal a = dec("-0.0");
    assert_int_equal(decimal_sign(&a, NULL, NULL), 0);
}

static Accuracy accuracy(const char *dataset, const char *value, const char *base)
{
    Accuracy a = {.value = dec(value), .error = NAN, .has_base = base != NULL};
    strcpy(a.dataset, dataset);
    if (base)
        a.base = dec(base);
    return a;
}

static void only_a_shortfall_counts(void **state)
{
    (void)state;
    Expectation e = {.dataset = "d", .target = dec("83"), .tolerance = dec("2")};
    Accuracy a = accuracy("d", "81", NULL);
    assert_true(expectation_met(&e, &a));
    a.value = dec("80.999");
    assert_false(expectation_met(&e, &a));
    a.value = dec("99");
    assert_true(expectation_met(&e, &a));
    Expectation small = {.dataset = "kl", .target = dec("0.1"), .at_most = true};
    a.value = dec("0.1");
    assert_true(expectation_met(&small, &a));
    a.value = dec("0.1000001");
    assert_false(expectation_met(&small, &a));
    Expectation share = {.dataset = "ppl", .target = dec("2"), .at_most = true, .relative = true};
    a = accuracy("ppl", "10.2", "10");
    assert_true(expectation_met(&share, &a));
    a.value = dec("10.21");
    assert_false(expectation_met(&share, &a));
    a = accuracy("ppl", "1", NULL);
    assert_false(expectation_met(&share, &a)); /* more than what? */
}

static void a_demand_is_met_by_all(void **state)
{
    (void)state;
    Expectation e[] = {{.dataset = "a", .target = dec("1"), .tolerance = dec("0")}, {.dataset = "b", .target = dec("5"), .at_most = true}};
    EvalResult r = {0}, copy;
    Accuracy a = accuracy("a", "1", NULL), b = accuracy("b", "5", NULL);
    Error err = {0};
    assert_false(demand_met(e, 2, &r)); /* nothing is known */
    assert_int_equal(eval_result_add(&r, &a, &err), ST_OK);
    assert_false(demand_met(e, 2, &r));
    assert_int_equal(eval_result_add(&r, &b, &err), ST_OK);
    assert_true(demand_met(e, 2, &r) && r.satisfied);
    r.state = EVAL_BAD; /* garbage keeps any figure small */
    assert_false(demand_met(e, 2, &r) || r.satisfied);
    assert_int_equal(eval_result_copy(&copy, &r, &err), ST_OK);
    eval_result_free(&r);
    assert_int_equal(copy.n, 2);
    assert_non_null(eval_result_of(&copy, "b"));
    assert_null(eval_result_of(&copy, "c"));
    eval_result_free(&copy);
}

typedef struct Case {
    const YamlNode *root;
} Case;

static void check_case(Check *c, void *ctx)
{
    check_object(c, ((Case *)ctx)->root, &demand_object);
}

static void demands_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
        bool peer;
    } rows[] = {
        {"expectations: [{dataset: d, target: '83', tolerance: 2}]", NULL, true},
        {"expectations: [{dataset: kl, at_most: 0.1}, {dataset: ppl, at_most: '+2%'}]", NULL, false},
        {"expectations: [{dataset: kl, at_most: 0.1}]", "t:1:30: expectations.0.at_most: is ours", true},
        {"expectations: []", "t:1:15: expectations: needs at least 1 item", false},
        {"{}", "t:1:1: expectations: is missing", false},
        {"expectations: [{dataset: d, target: 0, tolerance: 2}]", "expectations.0.target: must be above 0, not 0", false},
        {"expectations: [{dataset: d, target: 1, tolerance: -1}]", "expectations.0.tolerance: must be at least 0, not -1", false},
        {"expectations: [{dataset: d, target: .nan, tolerance: 1}]", "expectations.0.target: must be a decimal number", false},
        {"expectations: [{dataset: d, target: 1}]", "expectations.0.tolerance: is missing", false},
        {"expectations: [{dataset: d, at_most: 1, target: 1}]", "expectations.0.target: does not go with at_most", false},
        {"expectations: [{dataset: d, at_most: '2%'}]", "expectations.0.at_most: must be a decimal number or a share", false},
        {"expectations: [{dataset: d, at_most: -1}]", "expectations.0.at_most: must be at least 0", false},
        {"expectations: [{dataset: d, at_most: 1}, {dataset: d, at_most: 2}]", "t:1:52: expectations.1.dataset: 'd' is expected twice", false},
        {"expectations: [{dataset: d, target: 1, tolerance: 0, weight: 2}]", "expectations.0.weight: unknown key", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        YamlDoc *doc;
        Error err = {0};
        assert_int_equal(yaml_parse(&doc, rows[i].text, strlen(rows[i].text), "t", &err), ST_OK);
        Case k = {yaml_root(doc)};
        Str all = {0};
        Status st = check_run(&recipe_rows, "t", rows[i].peer, &all, check_case, &k, &err);
        if (st != (rows[i].says ? ST_DATA : ST_OK) || (rows[i].says && !strstr(err.text, rows[i].says)))
            fail_msg("%s: %d '%s'", rows[i].text, st, err.text);
        if (st == ST_OK) {
            Arena arena = {0};
            int n;
            const Expectation *e = demand_read(&arena, yaml_root(doc), &n);
            assert_non_null(e);
            assert_int_equal(n, yaml_get(yaml_root(doc), "expectations")->count);
            assert_int_equal(e[n - 1].relative, i == 1);
            arena_free(&arena);
        }
        str_free(&all);
        yaml_doc_free(doc);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decimals_are_read_and_written), cmocka_unit_test(differences_are_exact),
        cmocka_unit_test(only_a_shortfall_counts),       cmocka_unit_test(a_demand_is_met_by_all),
        cmocka_unit_test(demands_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
