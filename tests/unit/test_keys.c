/* The key table and the view table: whole, unambiguous, and every command of theirs is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ui/actions.h"
#include "ui/keys.h"
#include "ui/signs.h"
#include "ui/text.h"

/* Calls f for the rows of every screen and for those of one screen alone. */
static void each_row(void (*f)(const KeyRow *row))
{
    for (const KeyRow *r = key_table; r->help; r++)
        f(r);
    for (int i = 0; view_table[i]; i++)
        for (const KeyRow *r = view_table[i]->keys; r && r->help; r++)
            f(r);
}

static void test_unique(void **state)
{
    (void)state;
    for (int v = 0; view_table[v]; v++)
        for (const KeyRow *a = key_next(view_table[v], NULL); a; a = key_next(view_table[v], a))
            for (const KeyRow *b = key_next(view_table[v], a); b; b = key_next(view_table[v], b))
                for (int i = 0; i < KEYS_PER_ROW && a->keys[i]; i++)
                    for (int k = 0; k < KEYS_PER_ROW && b->keys[k]; k++)
                        if (a->keys[i] == b->keys[k])
                            fail_msg("one key for '%s' and '%s'", a->help, b->help);
}

/* Every row of a screen is met, by rising place; a place stands for one row. */
static void test_places(void **state)
{
    (void)state;
    for (int v = 0; view_table[v]; v++) {
        int rows = 0, met = 0, place = 0;
        for (const KeyRow *r = view_table[v]->keys; r && r->help; r++)
            rows++;
        for (const KeyRow *r = key_table; r->help; r++) {
            bool own = false;
            for (const KeyRow *o = view_table[v]->keys; o && o->help; o++)
                own |= o->keys[0] == r->keys[0];
            rows += !own;
        }
        for (const KeyRow *r = key_next(view_table[v], NULL); r; r = key_next(view_table[v], r), met++) {
            assert_true(r->place > place);
            place = r->place;
            assert_ptr_equal(key_find(r->keys[0], view_table[v]), r);
        }
        assert_int_equal(met, rows);
    }
}

static void row_is_whole(const KeyRow *r)
{
    assert_true(strlen(r->help) > 1 && strlen(r->help) < 90);
    assert_non_null(r->run);
    assert_true(r->keys[0] != 0);
    for (int i = 0; i < KEYS_PER_ROW && r->keys[i]; i++) {
        char name[16];
        key_text(r->keys[i], name, sizeof name);
        assert_true(strcmp(name, "?") != 0 || r->keys[i] == '?');
        if (strcmp(name, "Enter") != 0)
            assert_int_equal(key_parse(name), r->keys[i]);
    }
}

static void test_rows(void **state)
{
    (void)state;
    each_row(row_is_whole);
}

static void command_exists(const KeyRow *r)
{
    for (const char *p = r->command; p && *p;
         p = strstr(p, "| ") ? strstr(p, "| ") + 2 : NULL) { /* "exclude X | include X" */
        char verb[32];
        snprintf(verb, sizeof verb, "%.*s", (int)strcspn(p, " "), p);
        if (!command_find(verb))
            fail_msg("'%s' of '%s' is no command", verb, r->help);
    }
}

static void test_commands_exist(void **state)
{
    (void)state;
    each_row(command_exists);
}

static void test_every_view_has_its_key(void **state)
{
    (void)state;
    for (int i = 0; view_table[i]; i++) {
        const View *v = view_table[i];
        const KeyRow *row = key_find(v->key, v);
        assert_non_null(row);
        assert_true(row->run == act_screen);
        assert_ptr_equal(view_find(v->name), v);
        assert_true(v->draw && v->move && v->context && v->copy);
        for (int k = i + 1; view_table[k]; k++)
            assert_true(view_table[k]->key != v->key && strcmp(view_table[k]->name, v->name) != 0);
        assert_non_null(key_find(KEY_CODE(KEY_F(10)), v)); /* a way out, and help, everywhere */
        assert_non_null(key_find('?', v));
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(key_parse("^X"), 24);
    assert_int_equal(key_parse("F12"), KEY_CODE(KEY_F(12)));
    assert_int_equal(key_parse("F64"), KEY_NONE);
    assert_int_equal(key_parse("Fx"), KEY_NONE);
    assert_int_equal(key_parse("Space"), ' ');
    assert_int_equal(key_parse(""), KEY_NONE);
    assert_int_equal(key_parse("ab"), KEY_NONE);
    assert_int_equal(key_parse("\xc3\xa9"), 0xe9);
    const View *where = NULL;
    assert_null(key_find('e', view_find("rank")));
    assert_non_null(key_elsewhere('e', &where));
    assert_non_null(key_find('e', where));
    assert_null(key_elsewhere('#', &where));
}

/* Every screen's headings and signs are explained, each on a line of a narrow screen. */
static void sign_is_whole(const Sign *at)
{
    enum { SIGN = 13, TEXT = 63 }; /* cells that the page has at 80 columns */
    assert_true(text_width(at->sign) > 0 && text_width(at->sign) <= SIGN);
    if (text_width(at->text) > TEXT || text_width(at->text) == 0)
        fail_msg("'%s' has %d cells", at->text, text_width(at->text));
}

static void test_signs(void **state)
{
    (void)state;
    for (int v = 0; view_table[v]; v++) {
        const Sign *at = signs_of(view_table[v]->name);
        assert_non_null(at);
        for (; at->text; at++)
            sign_is_whole(at);
    }
    for (const Sign *at = signs_of_all(); at->text; at++)
        sign_is_whole(at);
    assert_null(signs_of("none"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unique),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_commands_exist),
        cmocka_unit_test(test_every_view_has_its_key),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_signs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
