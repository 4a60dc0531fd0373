#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cjson/cJSON.h>

#include "base/error.h"
#include "recipe/pattern.h"
#include "tests/lib/fake_model.h"

static char *slurp(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long n = ftell(f);
    rewind(f);
    char *s = calloc(1, (size_t)n + 1);
    assert_int_equal(fread(s, 1, (size_t)n, f), n);
    fclose(f);
    return s;
}

/* Both ways of matching must agree: one name, and a scan over a model. */
static bool matches(const char *pattern, const char *name)
{
    Pattern *p;
    Error e = {0};
    if (pattern_compile(&p, pattern, &e) != ST_OK)
        fail_msg("'%s': %s", pattern, e.text);
    Linear l = {.name = name};
    Model m = {.linears = &l, .nlinears = 1};
    bool hit = false;
    bool one = pattern_match(p, name);
    assert_int_equal(pattern_hits(p, &m, &hit), one);
    assert_int_equal(hit, one);
    pattern_free(p);
    return one;
}

static void check_file(const char *path, int least)
{
    char *text = slurp(path);
    cJSON *all = cJSON_Parse(text), *row;
    assert_non_null(all);
    int n = 0;
    cJSON_ArrayForEach(row, all)
    {
        const char *p = cJSON_GetObjectItem(row, "pattern")->valuestring,
                   *s = cJSON_GetObjectItem(row, "name")->valuestring;
        bool want = cJSON_IsTrue(cJSON_GetObjectItem(row, "match"));
        if (matches(p, s) != want)
            fail_msg("'%s' on '%s' should be %d", p, s, want);
        n++;
    }
    assert_true(n >= least);
    cJSON_Delete(all);
    free(text);
}

static void recorded_matches(void **state)
{
    (void)state;
    check_file("tests/golden/quant/patterns.json", 52);
}

static const struct {
    const char *pattern, *name;
    bool match;
} cases[] = {
    {"[[:alpha:][:digit:]]", "7", true},
    {"[[:^digit:]]", "7", false},
    {"[[:^digit:]]", "x", true},
    {"[z-a]", "b", false},
    {"[!z-a]", "b", true},
    {"[a-]", "-", true},
    {"[]-]", "-", true},
    {"[\\]]", "]", true},
    {"[a-[:digit:]]", "-", true},
    {"[", "[", true},
    {"[!]", "[!]", true},
    {"a\\", "a", true},
    {"\\a", "a", true},
    {"\\{a,b\\}", "{a,b}", true},
    {"{a\\,b,c}", "a,b", true},
    {"{a\\,b,c}", "b", false},
    {"${a,b}", "${a,b}", true},
    {"${a,b}", "$a", false},
    {"{3..1}", "2", true},
    {"{-2..2}", "-1", true},
    {"{-02..2}", "002", true},
    {"{-02..2}", "02", false},
    {"{1..9..0}", "5", true},
    {"{1..9..-4}", "5", true},
    {"{1..9..4}", "4", false},
    {"{A..c}", "[", true},
    {"{1..c}", "{1..c}", true},
    {"{1..2}x{a..b}", "2xb", true},
    {"{a,{b,{c,d}}}e", "de", true},
    {"{{a,b}", "{b", true},
    {"{a,b}}", "b}", true},
    {"{}{a,b}", "{}b", true},
    {"x{,}", "x", true},
    {"{99999999999999999999..2}", "2", false},
    {"*", "", false},
    {"?*", ".a", false},
    {"[.]a", ".a", false},
    {".*", ".a", true},
    {"{.,x}a", ".a", true},
    {"a*", "a", true},
    {"?", "\xc3\xa9", true},
    {"?", "\xc3\xa9x", false},
    {"[\xc3\xa0-\xc3\xbf]", "\xc3\xa9", true},
    {"[!a]", "\xc3\xa9", true},
    {"*.x", "\xc3\xa9.x", true},
    {"a[b", "a[b", true},
    {"*a*b", "xaxxbxab", true},
    {"*a*b", "xaxxbxaba", false},
    {"model.layers.2.*", "model.layers.2", false},
    {"*down_proj.*", "x.down_proj", false},
};

static void table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (matches(cases[i].pattern, cases[i].name) != cases[i].match)
            fail_msg("'%s' on '%s' should be %d", cases[i].pattern, cases[i].name, cases[i].match);
}

static void limits(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{1..1001}", "{1..32}{1..32}", "{0..9999999999}", "{a,{1..1000}}", "{1..500}{a,b}{c,d}", NULL,
    };
    Pattern *p;
    Error e;
    for (const char *const *b = bad; *b; b++) {
        e = (Error){0};
        if (pattern_compile(&p, *b, &e) != ST_DATA)
            fail_msg("'%s' compiled", *b);
        assert_non_null(strstr(e.text, "1000"));
    }
    assert_int_equal(pattern_compile(&p, "{1..1000}", &e), ST_OK);
    assert_true(pattern_match(p, "1000"));
    pattern_free(p);
    char *deep = malloc(5001);
    memset(deep, '{', 5000);
    deep[5000] = '\0';
    assert_int_equal(pattern_compile(&p, deep, &e), ST_DATA);
    for (int i = 0; i < 4000; i++) /* 1000 groups, one in the other */
        deep[i] = "{a,b"[i % 4];
    deep[4000] = '\0';
    assert_int_equal(pattern_compile(&p, deep, &e), ST_OK); /* unbalanced: text */
    pattern_free(p);
    for (int i = 0; i < 2000; i++)
        deep[i] = "{a"[i & 1];
    for (int i = 2000; i < 4000; i++)
        deep[i] = ",}"[i & 1];
    assert_int_equal(pattern_compile(&p, deep, &e), ST_DATA); /* too deep */
    memset(deep, '*', 4000);
    for (int i = 0; i < 4000; i += 2)
        deep[i] = 'a';
    deep[3999] = 'b';
    assert_int_equal(pattern_compile(&p, deep, &e), ST_OK);
    char *name = malloc(20001);
    memset(name, 'a', 20000);
    name[20000] = '\0';
    name[19999] = 'b';
    assert_true(pattern_match(p, name));
    name[19999] = 'c';
    assert_false(pattern_match(p, name)); /* returns: steps are at most tokens x characters */
    pattern_free(p);
    free(name);
    free(deep);
}

/* The obvious matcher of expanded patterns without classes: every way is tried. */
static bool slow(const char *p, const char *s)
{
    if (!*p)
        return !*s;
    if (*p == '*')
        return slow(p + 1, s) || (*s && slow(p, s + 1));
    return *s && (*p == '?' || *p == *s) && slow(p + 1, s + 1);
}

/* ... with one brace level and no escapes. */
static bool slow_braces(const char *p, const char *s)
{
    const char *open = strchr(p, '{'), *close = open ? strchr(open, '}') : NULL;
    if (!close)
        return !((*p == '*' || *p == '?') && (*s == '.' || !*s)) && slow(p, s);
    for (const char *a = open + 1; a <= close;) {
        const char *b = a;
        while (*b != ',' && *b != '}')
            b++;
        char text[256];
        snprintf(text, sizeof text, "%.*s%.*s%s", (int)(open - p), p, (int)(b - a), a, close + 1);
        if (slow_braces(text, s))
            return true;
        a = b + 1;
    }
    return false;
}

static void random_against_slow(void **state)
{
    (void)state;
    static const char *const part[] = {"*", "?", "a", "b", ".", "ab", "*a", "{a,b}", "{*,a.b}", "{b,?b,}", "1"};
    unsigned long long seed = 7;
    const char *names[64];
    char store[64][24];
    int hits = 0;
    for (int round = 0; round < 1500; round++) {
        char text[80] = "";
        int braces = 0;
        for (int k = (int)(fake_random(&seed) % 6); k >= 0; k--) {
            const char *t = part[fake_random(&seed) % 11];
            if (*t == '{' && ++braces > 2)
                continue;
            strcat(text, t);
        }
        for (int i = 0; i < 64; i++) {
            int n = (int)(fake_random(&seed) % 9);
            for (int k = 0; k < n; k++)
                store[i][k] = "ab.1"[fake_random(&seed) % 4];
            store[i][n] = '\0';
            names[i] = store[i];
        }
        Model *m = fake_model_names(names, 64);
        Pattern *p;
        assert_int_equal(pattern_compile(&p, text, NULL), ST_OK);
        bool got[64] = {false};
        pattern_hits(p, m, got);
        for (int i = 0; i < 64; i++) {
            bool want = strcmp(text, names[i]) == 0 || slow_braces(text, names[i]);
            hits += want;
            if (got[i] != want || pattern_match(p, names[i]) != want)
                fail_msg("'%s' on '%s' should be %d", text, names[i], want);
        }
        pattern_free(p);
        fake_model_free(m);
    }
    assert_true(hits > 1000);
}

/* A pattern whose automaton is larger than the table still gives the plain matcher's answer. */
static void scan_overflows(void **state)
{
    (void)state;
    Model *m = fake_model(&(FakeShape){.layers = 20, .experts = 60, .hidden = 8, .inter = 8});
    Pattern *p;
    assert_int_equal(pattern_compile(&p, "*{0..9}?????????{a..x}*{0..3}*", NULL), ST_OK);
    bool *hits = calloc((size_t)m->nlinears, 1);
    int64_t n = pattern_hits(p, m, hits), want = 0;
    for (int64_t i = 0; i < m->nlinears; i++) {
        assert_int_equal(hits[i], pattern_match(p, m->linears[i].name));
        want += hits[i];
    }
    assert_int_equal(n, want);
    assert_true(n > 0 && n < m->nlinears);
    assert_int_equal(pattern_hits(p, m, hits), n); /* |=: a second time changes nothing */
    free(hits);
    pattern_free(p);
    fake_model_free(m);
}

static Lint lint(const Model *m, const char *text, const char *before)
{
    bool *b = calloc((size_t)m->nlinears, 1);
    Lint l;
    Error e = {0};
    Pattern *p;
    if (before) {
        assert_int_equal(pattern_compile(&p, before, &e), ST_OK);
        pattern_hits(p, m, b);
        pattern_free(p);
    }
    assert_int_equal(pattern_lint(text, m, before ? b : NULL, &l, &e), ST_OK);
    free(b);
    return l;
}

static void lint_findings(void **state)
{
    (void)state;
    Model *m = fake_model(&(FakeShape){.layers = 20, .hidden = 8, .inter = 8});
    static const struct {
        const char *text, *before;
        LintKind kind;
        const char *hint;
    } rows[] = {
        {"*down_proj", NULL, LINT_OK, ""},
        {"*.mlp.*", NULL, LINT_OK, ""},
        {"*lm_haed", NULL, LINT_NO_MATCH, "*lm_head"},
        {"lm_haed", NULL, LINT_NO_MATCH, "lm_head"},
        {"lm_head", NULL, LINT_NO_MATCH, ""},
        {"*dwon_proj", NULL, LINT_NO_MATCH, "*down_proj"},
        {"down_proj", NULL, LINT_NO_MATCH, "*down_proj"},
        {"*layers.3.mlp.dow", NULL, LINT_NO_MATCH, "*layers.3.mlp.dow*"},
        {"model.layers.2", NULL, LINT_NO_MATCH, "model.layers.2.*"},
        {"*down_proj.*", NULL, LINT_NO_MATCH, "*down_proj"},
        {"model.layer.3.mlp.*", NULL, LINT_NO_MATCH, "model.layers.3.mlp.*"},
        {"*self_atn*", NULL, LINT_NO_MATCH, "*self_attn*"},
        {"*layers.1*", NULL, LINT_BROAD, "*layers.1.*"},
        {"*layers.2.*", NULL, LINT_OK, ""},
        {"*layers.7*", NULL, LINT_OK, ""},
        {"*q_proj", NULL, LINT_SPLITS, "*{q,k,v}_proj"},
        {"*layers.3.*gat?_proj", NULL, LINT_SPLITS, "*layers.3.mlp.{gate,up}_proj"},
        {"*layers.3.mlp.gate_proj", NULL, LINT_SPLITS, "*layers.3.mlp.{gate,up}_proj"},
        {"*layers.3.mlp.up_proj", "*layers.3.mlp.gate_proj", LINT_OK, ""},
        {"*layers.3.mlp.down_proj", "*down_proj", LINT_SHADOWED, ""},
        {"qqqqqqqqqqqqqqqq", NULL, LINT_NO_MATCH, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Lint l = lint(m, rows[i].text, rows[i].before);
        if (l.kind != rows[i].kind || strcmp(l.hint, rows[i].hint) != 0)
            fail_msg("'%s': kind %d hint '%s' text '%s'", rows[i].text, l.kind, l.hint, l.text);
        assert_int_equal(l.text[0] == '\0', l.kind == LINT_OK);
    }
    Lint l;
    Error e = {0};
    assert_int_equal(pattern_lint("{1..2000}", m, NULL, &l, &e), ST_DATA);
    fake_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_matches), cmocka_unit_test(table),          cmocka_unit_test(limits),
        cmocka_unit_test(random_against_slow), cmocka_unit_test(scan_overflows), cmocka_unit_test(lint_findings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
