#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "io/yaml.h"
#include "tests/lib/fake_model.h"

static YamlDoc *doc(const char *text)
{
    YamlDoc *d;
    Error e = {0};
    if (yaml_parse(&d, text, strlen(text), "t", &e) != ST_OK)
        fail_msg("%s\n%s", e.text, text);
    return d;
}

static void refused(const char *text, size_t len, const char *want)
{
    YamlDoc *d = NULL;
    Error e = {0};
    if (yaml_parse(&d, text, len, "t", &e) != ST_DATA)
        fail_msg("accepted, wanted: %s", want);
    if (strncmp(e.text, want, strlen(want)) != 0)
        fail_msg("'%s' instead of '%s'", e.text, want);
}

/* Plain scalars, as PyYAML's safe loader resolves them. */
static const struct {
    const char *text;
    YamlKind kind;
    double value;
} scalars[] = {
    {"yes", YAML_BOOL, 1},
    {"Yes", YAML_BOOL, 1},
    {"YES", YAML_BOOL, 1},
    {"no", YAML_BOOL, 0},
    {"on", YAML_BOOL, 1},
    {"OFF", YAML_BOOL, 0},
    {"true", YAML_BOOL, 1},
    {"False", YAML_BOOL, 0},
    {"tRue", YAML_STR, 0},
    {"y", YAML_STR, 0},
    {"n", YAML_STR, 0},
    {"~", YAML_NULL, 0},
    {"null", YAML_NULL, 0},
    {"Null", YAML_NULL, 0},
    {"NULL", YAML_NULL, 0},
    {"nUll", YAML_STR, 0},
    {"None", YAML_STR, 0},
    {"0", YAML_INT, 0},
    {"-0", YAML_INT, 0},
    {"+12", YAML_INT, 12},
    {"1_000", YAML_INT, 1000},
    {"012", YAML_INT, 10},
    {"0o12", YAML_STR, 0},
    {"08", YAML_STR, 0},
    {"0x1F", YAML_INT, 31},
    {"-0x1f", YAML_INT, -31},
    {"0b101", YAML_INT, 5},
    {"0b2", YAML_STR, 0},
    {"0_7", YAML_INT, 7},
    {"1:30", YAML_INT, 90},
    {"1:30:00", YAML_INT, 5400},
    {"1:60", YAML_STR, 0},
    {"-1:30", YAML_INT, -90},
    {"_1", YAML_STR, 0},
    {"1.5", YAML_FLOAT, 1.5},
    {"1.", YAML_FLOAT, 1},
    {".5", YAML_FLOAT, .5},
    {"-.5", YAML_STR, 0},
    {"1e-5", YAML_STR, 0},
    {"1.0e5", YAML_STR, 0},
    {"1.0e+5", YAML_FLOAT, 1e5},
    {"1.0E-5", YAML_FLOAT, 1e-5},
    {".5e-1", YAML_FLOAT, .05},
    {"1_0.2_5", YAML_FLOAT, 10.25},
    {"1:30.5", YAML_FLOAT, 90.5},
    {".inf", YAML_FLOAT, INFINITY},
    {"-.Inf", YAML_FLOAT, -INFINITY},
    {"+.INF", YAML_FLOAT, INFINITY},
    {".nan", YAML_FLOAT, NAN},
    {"-.nan", YAML_STR, 0},
    {"inf", YAML_STR, 0},
    {"nan", YAML_STR, 0},
    {"1.2.3", YAML_STR, 0},
    {".", YAML_STR, 0},
    {"+", YAML_STR, 0},
    {"-", YAML_STR, 0},
    {"2024-01-31", YAML_DATE, 0},
    {"2024-1-1", YAML_STR, 0},
    {"2024-1-1 1:02:03", YAML_DATE, 0},
    {"2024-01-31T10:00:00.5Z", YAML_DATE, 0},
    {"2024-01-31 10:00:00 +01:00", YAML_DATE, 0},
    {"2024-01-31 10:00", YAML_STR, 0},
    {"99999999999999999999", YAML_INT, 1e20},
    {"w8a8", YAML_STR, 0},
};

static void resolution(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof scalars / sizeof scalars[0]; i++) {
        bool b;
        int64_t n;
        double f;
        YamlKind k = yaml_resolve(scalars[i].text, strlen(scalars[i].text), &b, &n, &f);
        if (k != scalars[i].kind ||
            (k != YAML_STR && !isnan(scalars[i].value) && f != scalars[i].value
             && !(fabs(f / scalars[i].value - 1) < 1e-15)) ||
            (k == YAML_FLOAT && isnan(scalars[i].value) && !isnan(f)))
            fail_msg("'%s' is %s %g, not %s %g", scalars[i].text, yaml_kind_name(k), f, yaml_kind_name(scalars[i].kind),
                     scalars[i].value);
        if (k == YAML_INT && fabs(f) < 1e18)
            assert_int_equal(n, (int64_t)f);
        if (k == YAML_BOOL)
            assert_int_equal(b, f == 1);
    }
}

/* A span of the source as text. */
static void spans_are(const YamlDoc *d, const YamlNode *n, const char *want)
{
    size_t len;
    const char *s = yaml_source(d, &len);
    assert_true(n->start <= n->begin && n->begin <= n->end && n->end <= len);
    if (n->end - n->begin != strlen(want) || memcmp(s + n->begin, want, strlen(want)) != 0)
        fail_msg("span '%.*s' instead of '%s'", (int)(n->end - n->begin), s + n->begin, want);
}

static void spans(void **state)
{
    (void)state;
    static const char *const eols[] = {"\n", "\r\n", "\r"};
    static const char text[] = "# \xe5\xb1\x82 x|a: plain text # c|\xc3\xa9\xc3\xa9: 'q''q'|list: &l  # c|  - one   # "
                               "c|  - &two \"tw\\u00e9o\"|  - [x, \"y\",{k: v}] #z|"
                               "nul:|b: !!str 5|m: &m {p: *l , q: ~}|lit: |2";
    for (int bom = 0; bom < 2; bom++)
        for (int k = 0; k < 3; k++) {
            Str s = {0};
            str_puts(&s, bom ? "\xef\xbb\xbf" : "");
            for (const char *p = text; *p && strcmp(p, "|2") != 0; p++) {
                if (*p == '|')
                    str_puts(&s, eols[k]);
                else
                    str_putc(&s, *p);
            }
            YamlDoc *d = doc(s.s);
            const YamlNode *r = yaml_root(d), *l = yaml_get(r, "list"), *m = yaml_get(r, "m");
            spans_are(d, yaml_get(r, "a"), "plain text");
            spans_are(d, yaml_get(r, "\xc3\xa9\xc3\xa9"), "'q''q'");
            assert_string_equal(yaml_get(r, "\xc3\xa9\xc3\xa9")->text, "q'q");
            assert_int_equal(yaml_get(r, "\xc3\xa9\xc3\xa9")->line, 3);
            assert_int_equal(yaml_get(r, "\xc3\xa9\xc3\xa9")->column, 5);
            assert_int_equal(l->count, 3);
            assert_string_equal(l->anchor, "l");
            assert_int_equal(l->alias_uses, 1);
            assert_int_equal(yaml_source(d, NULL)[l->start], '&');
            assert_int_equal(yaml_source(d, NULL)[l->begin], '-');
            spans_are(d, l->items[0], "one");
            spans_are(d, l->items[1], "\"tw\\u00e9o\"");
            assert_string_equal(l->items[1]->text, "tw\xc3\xa9o");
            spans_are(d, l->items[2], "[x, \"y\",{k: v}]");
            assert_int_equal(l->end, l->items[2]->end); /* not what follows it */
            spans_are(d, l->items[2]->items[2], "{k: v}");
            spans_are(d, yaml_get(r, "nul"), "");
            assert_int_equal(yaml_get(r, "nul")->kind, YAML_NULL);
            spans_are(d, yaml_get(r, "b"), "5");
            assert_int_equal(yaml_get(r, "b")->kind, YAML_STR);
            spans_are(d, m, "{p: *l , q: ~}");
            spans_are(d, yaml_get(m, "p"), "*l");
            assert_true(yaml_get(m, "p")->from_alias && yaml_get(m, "p")->target == l &&
                        yaml_get(m, "p")->items == l->items);
            assert_int_equal(yaml_get(r, "lit")->kind, YAML_NULL);
            yaml_doc_free(d);
            str_free(&s);
        }
}

static void merge_keys(void **state)
{
    (void)state;
    YamlDoc *d =
        doc("a: &a {x: 1}\nb: &b {y: 2}\nc: {<<: *a, z: 3}\nd: {<<: [*a, *b], z: 3}\ne: {<<: {w: 1}}\nf: {'<<': 1}\n");
    const YamlNode *r = yaml_root(d), *c = yaml_get(r, "c"), *m = yaml_get(r, "d");
    assert_int_equal(c->count, 2);
    assert_int_equal(c->own, 1);
    assert_int_equal(yaml_get(c, "x")->i, 1);
    assert_int_equal(m->count, 3);
    assert_int_equal(yaml_get(m, "y")->i, 2);
    assert_int_equal(yaml_get(yaml_get(r, "e"), "w")->i, 1);
    assert_int_equal(yaml_get(yaml_get(r, "f"), "<<")->i, 1);
    int n;
    yaml_aliases(d, &n);
    assert_int_equal(n, 3);
    yaml_doc_free(d);
}

static void errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"a: 1\nb: 2\na: 3\n", "t:3:1: duplicate key 'a'"},
        {"1: x\ntrue: y\n", "t:2:1: duplicate key 'true'"},
        {"1: x\n1.0: y\n", "t:2:1: duplicate key"},
        {"a: &a {x: 1}\nb: {<<: *a, x: 2}\n", "t:2:4: duplicate key 'x': a merged key"},
        {"a: &a {x: 1}\nb: &b {x: 1}\nc:\n  <<: [*a, *b]\n", "t:4:3: duplicate key 'x'"},
        {"a: {<<: 5}\n", "t:1:9: a merge key takes"},
        {"a: *b\n", "t:1:4: alias '*b' has no anchor"},
        {"a: &a [*a]\n", "t:1:8: alias '*a' is inside"},
        {"a: &x 1\nb: &x 2\n", "t:2:4: anchor '&x' is defined twice"},
        {"a: 1\n---\nb: 2\n", "t:2:1: a second document"},
        {"a: !!python/object:os.system x\n", "t:1:4: tag"},
        {"a: !foo x\n", "t:1:4: tag '!foo'"},
        {"a: !!int x\n", "t:1:4: the text doesn't fit"},
        {"a: !!set {x}\n", "t:1:4: tag"},
        {"a: =\n", "t:1:4: a plain '='"},
        {"? [x]\n: 1\n", "t:1:3: a list can't be a mapping key"},
        {"a: [1, 2\n", "t:2:1: "},
        {"a: 'x\n", "t:"},
        {"a: b: c\n", "t:1:5: "},
        {"a:\n\t- b\n", "t:2:1: "},
        {"\xff\xfe" "a", "t:1:1: "},
        {"a: \xc3(\n", "t:1:"},
        {"a: \x01\n", "t:1:"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        refused(rows[i].text, strlen(rows[i].text), rows[i].want);
    refused("a: \0b\n", 6, "t:1:");
    YamlDoc *d = doc("# nothing\n");
    assert_null(yaml_root(d));
    yaml_doc_free(d);
    d = doc("");
    assert_null(yaml_root(d));
    yaml_doc_free(d);
}

static void hostile(void **state)
{
    (void)state;
    size_t n = YAML_BYTES_MAX;
    char *s = malloc(n + 2);
    static const char *const fill[] = {"[", "{",    "- ", "? ",  "a: [", "\"",  "&a ",
                                       "!", "[[],", "*",  "|\n", "%",    "\n ", "]"};
    for (size_t k = 0; k < sizeof fill / sizeof fill[0]; k++) {
        size_t len = strlen(fill[k]);
        for (size_t i = 0; i < n; i++)
            s[i] = fill[k][i % len];
        s[n] = '\0';
        YamlDoc *d = NULL;
        Error e = {0};
        if (yaml_parse(&d, s, n, "t", &e) == ST_OK)
            yaml_doc_free(d);
        else
            assert_int_equal(e.status, ST_DATA);
    }
    memset(s, ' ', n + 1);
    refused(s, n + 1, "t: has 1048577 bytes");
    /* 100 levels are fine, 101 aren't; aliases count as what they stand for */
    for (int depth = 99; depth <= 101; depth++) {
        memset(s, '[', (size_t)depth);
        memset(s + depth, ']', (size_t)depth);
        s[2 * depth] = '\0';
        YamlDoc *d = NULL;
        Error e = {0};
        assert_int_equal(yaml_parse(&d, s, strlen(s), "t", &e), depth <= 100 ? ST_OK : ST_DATA);
        yaml_doc_free(d);
    }
    Str bomb = {0};
    str_puts(&bomb, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 12; i++)
        str_printf(&bomb, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1, i - 1,
                   i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    refused(bomb.s, bomb.len, "t:6:5: aliases make this too large");
    str_clear(&bomb);
    str_puts(&bomb, "a0: &a0 [x]\n");
    for (int i = 1; i < 150; i++)
        str_printf(&bomb, "a%d: &a%d [*a%d]\n", i, i, i - 1);
    refused(bomb.s, bomb.len, "t:100:6: nested deeper");
    str_free(&bomb);
    /* a mutated document is read or refused, nothing else */
    static const char good[] = "a: &a {x: 1, y: [b, 'c', \"d\"]}\nl:\n  - <<: *a\n    z: |\n      text\n  - *a\n";
    unsigned long long seed = 5;
    for (int i = 0; i < 4000; i++) {
        memcpy(s, good, sizeof good);
        for (int k = 0; k < 3; k++)
            s[fake_random(&seed) % (sizeof good - 1)] =
                (char)(i & 1 ? fake_random(&seed) : (unsigned)":-[]{}&*!|>'\"#%\n ,?"[fake_random(&seed) % 19]);
        YamlDoc *d = NULL;
        Error e = {0};
        if (yaml_parse(&d, s, sizeof good - 1, "t", &e) == ST_OK)
            yaml_doc_free(d);
        else
            assert_int_equal(e.status, ST_DATA);
    }
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resolution), cmocka_unit_test(spans),   cmocka_unit_test(merge_keys),
        cmocka_unit_test(errors),     cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
