#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"
#include "recipe/pattern.h"
#include "recipe/recipe.h"
#include "tests/lib/fake_model.h"

static void select_texts(const Model *m, const char *const *texts, int n, bool *hits)
{
    memset(hits, 0, (size_t)m->nlinears);
    for (int i = 0; i < n; i++) {
        Pattern *p;
        Error e = {0};
        if (pattern_compile(&p, texts[i], &e) != ST_OK)
            fail_msg("'%s': %s", texts[i], e.text);
        pattern_hits(p, m, hits);
        pattern_free(p);
    }
}

/* Covers, proves it, and gives the texts joined by blanks. */
static char *cover(const Model *m, const bool *want, int *count)
{
    char **list;
    int n;
    Error e = {0};
    if (pattern_cover(m, want, &list, &n, &e) != ST_OK)
        fail_msg("%s", e.text);
    bool *got = calloc((size_t)m->nlinears + 1, 1);
    select_texts(m, (const char *const *)list, n, got);
    assert_memory_equal(got, want, (size_t)m->nlinears);
    size_t len = 1;
    for (int i = 0; i < n; i++) {
        assert_true(strlen(list[i]) <= 200);
        for (const char *s = list[i]; *s; s++)
            assert_true(isalnum((unsigned char)*s) || strchr("_\"'><=[])(,}{: |/.*~?!+-\\", *s));
        len += strlen(list[i]) + 1;
    }
    char *text = calloc(1, len);
    for (int i = 0; i < n; i++) {
        strcat(strcat(text, i ? " " : ""), list[i]);
        free(list[i]);
    }
    free(list);
    free(got);
    if (count)
        *count = n;
    return text;
}

static void short_lists(void **state)
{
    (void)state;
    Model *m = fake_model(&(FakeShape){.layers = 8, .hidden = 8, .inter = 8});
    static const struct {
        const char *set[3];
        const char *want;
    } rows[] = {
        {{"*"}, "*"},
        {{"*layers.{1,6}.mlp.down_proj"}, "*layers.{1,6}.mlp.down_proj"},
        {{"model.layers.3.mlp.gate_proj", "model.layers.3.mlp.up_proj"}, "*layers.3.mlp.{gate,up}_proj"},
        {{"*down_proj"}, "*down_proj"},
        {{"*gate_proj", "*up_proj"}, "*{gate,up}_proj"},
        {{"*mlp*"}, "*mlp.*"},
        {{"*layers.{0..3}.*"}, "*layers.{0..3}.*"},
        {{"*layers.{0,1,2,5}.*"}, "*layers.{{0..2},5}.*"},
        {{"*self_attn*", "*layers.2.*"}, "*layers.2.* *self_attn.*"},
        {{"*down_proj", "*layers.3.*"}, "*layers.3.* *down_proj"},
        {{"model.layers.5.self_attn.o_proj"}, "*layers.5.self_attn.o_proj"},
        {{"*layers.2.self_attn.o_proj", "*layers.2.mlp.down_proj"}, "*layers.2.{mlp.down,self_attn.o}_proj"},
        {{"nothing"}, ""},
    };
    bool *want = calloc((size_t)m->nlinears, 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int n = 0;
        while (n < 3 && rows[i].set[n])
            n++;
        select_texts(m, rows[i].set, n, want);
        char *text = cover(m, want, NULL), *again = cover(m, want, NULL);
        if (strcmp(text, rows[i].want) != 0)
            fail_msg("'%s' instead of '%s'", text, rows[i].want);
        assert_string_equal(text, again);
        free(text);
        free(again);
    }
    free(want);
    fake_model_free(m);
}

static void odd_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        "a",
        "a.b",
        "a.b.1",
        "a.b.01",
        "x.1.y.2.z.3",
        "x.1.y.2.z.4",
        "x.2.y.2.z.3",
        "odd{1,2}.w",
        "odd[3].w",
        "star*.w",
        "back\\slash.w",
        "h\xc3\xb6"
        "he.1.w",
        "at@.w",
        "model.layers.1.w",
        "vision.layers.1.w",
        "layers.1.w",
        "12345678901234567890.w",
        "q.",
        ".hidden.w",
    };
    enum { N = sizeof names / sizeof names[0] };
    Model *m = fake_model_names(names, N);
    bool want[N];
    unsigned long long seed = 2;
    for (int i = 0; i < N; i++) { /* each alone */
        memset(want, 0, sizeof want);
        want[i] = true;
        free(cover(m, want, NULL));
    }
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < N; i++)
            want[i] = fake_random(&seed) & 1;
        free(cover(m, want, NULL));
    }
    fake_model_free(m);
}

static void random_sets(void **state)
{
    (void)state;
    unsigned long long seed = 9;
    for (int kind = 0; kind < 2; kind++) {
        Model *m = fake_model(&(FakeShape){.layers = kind ? 3 : 8, .experts = kind ? 8 : 0, .hidden = 8, .inter = 8});
        bool *want = calloc((size_t)m->nlinears, 1);
        for (int round = 0; round < 300; round++) {
            unsigned rare = 1 + fake_random(&seed) % 30;
            for (int64_t i = 0; i < m->nlinears; i++)
                want[i] = (fake_random(&seed) % rare == 0) != (round & 1);
            int n;
            free(cover(m, want, &n));
            assert_true(n <= m->nlinears);
        }
        free(want);
        fake_model_free(m);
    }
}

/* The trained demo model: the names a user sees. */
static void demo_model(void **state)
{
    (void)state;
    Model *m;
    Error e = {0};
    if (model_open(&m, "lab_models/demo", NULL, &e) != ST_OK)
        fail_msg("%s", e.text);
    bool *want = calloc((size_t)m->nlinears, 1);
    unsigned long long seed = 4;
    static const char *const worst[] = {"*layers.{1,6}.mlp.down_proj"};
    select_texts(m, worst, 1, want);
    char *s = cover(m, want, NULL);
    assert_string_equal(s, worst[0]);
    free(s);
    Recipe *r;
    assert_int_equal(recipe_default(&r, &recipe_rows, &e), ST_OK);
    int16_t *level = calloc((size_t)m->nlinears, sizeof *level);
    for (int round = 0; round < 100; round++) {
        for (int64_t i = 0; i < m->nlinears; i++) {
            want[i] = fake_random(&seed) & 1;
            level[i] = want[i] ? 0 : 1;
        }
        free(cover(m, want, NULL));
        Export x; /* proves itself */
        if (recipe_export(r, m, level, NULL, NULL, NULL, NULL, &x, &e) != ST_OK)
            fail_msg("%s", e.text);
        export_fini(&x);
    }
    free(level);
    free(want);
    recipe_free(r);
    model_free(m);
}

/* 60,000 linears: exact, and the number of patterns stays near the number of different rows. */
static void large_model(void **state)
{
    (void)state;
    Model *m = fake_model(&(FakeShape){.layers = 28, .experts = 712, .hidden = 8, .inter = 8});
    assert_true(m->nlinears > 59000);
    bool *want = calloc((size_t)m->nlinears, 1);
    unsigned long long seed = 6;
    int n;
    for (int64_t i = 0; i < m->nlinears; i++)
        want[i] = fake_random(&seed) % 2000 == 0;
    free(cover(m, want, &n));
    assert_true(n < 60);
    for (int64_t i = 0; i < m->nlinears; i++)
        want[i] = m->linears[i].kind == LK_DOWN;
    char *s = cover(m, want, NULL);
    assert_string_equal(s, "*down_proj");
    free(s);
    /* one block less: everything else in few words */
    for (int64_t i = 0; i < m->nlinears; i++)
        want[i] = m->linears[i].layer != 5;
    s = cover(m, want, &n);
    assert_string_equal(s, "*layers.{{0..4},{6..27}}.*");
    free(s);
    Recipe *r;
    Export x;
    Error e = {0};
    int16_t *level = calloc((size_t)m->nlinears, sizeof *level);
    assert_int_equal(recipe_default(&r, &recipe_rows, &e), ST_OK);
    for (int64_t i = 0; i < m->nlinears; i++)
        level[i] = (int16_t)(fake_random(&seed) % 500 != 0);
    if (recipe_export(r, m, level, NULL, NULL, NULL, NULL, &x, &e) != ST_OK)
        fail_msg("%s", e.text);
    export_fini(&x);
    recipe_free(r);
    free(level);
    free(want);
    fake_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_lists), cmocka_unit_test(odd_names),   cmocka_unit_test(random_sets),
        cmocka_unit_test(demo_model),  cmocka_unit_test(large_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
