/* Texts that savers write: config.json as Python would write it, and the regular expression of an ignore list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "save/ignore_regex.h"
#include "save/pyjson.h"

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err->text);
}

/* As Python's json.load and json.dump(indent=2) make of it. */
static void test_rewrite(void **state)
{
    (void)state;
    static const char from[] = "{\"a\":1, \"quantization_config\": {\"b\": [1, {\"c\": 2}]}, \"e\": [], \"o\": {},"
                               " \"text_config\": {\"quantization_config\": 1, \"n\": 1E-6, \"s\": \"\\u00e9\\n/\\/\", "
                               "\"deep\": {\"quantization_config\": [true, null]}}, \"f\": [1.0, 100000.0, 1e16, -0, "
                               "0.1, 12345678901234567890, 1.5e300, \"\xf0\x9f\x98\x80\"]}";
    static const char to[] = "{\n  \"a\": 1,\n  \"e\": [],\n  \"o\": {},\n  \"text_config\": {\n    \"n\": 1e-06,\n"
                             "    \"s\": \"\\u00e9\\n//\",\n    \"deep\": {\n      \"quantization_config\": [\n"
                             "        true,\n        null\n      ]\n    }\n  },\n  \"f\": [\n    1.0,\n    100000.0,\n"
                             "    1e+16,\n    0,\n    0.1,\n    12345678901234567890,\n    1.5e+300,\n"
                             "    \"\\ud83d\\ude00\"\n  ],\n  \"x\": 1\n}";
    Str out = {0};
    Error err = {0};
    int dropped = 0;
    static const char *const drop[] = {"nobody's", "quantization_config", NULL};
    ok(pyjson_rewrite(from, sizeof from - 1, "x", 2, &(PyjsonEdit){.drop = drop, .add = "\"x\": 1"}, &dropped, &out, &err), &err);
    assert_int_equal(dropped, 2);
    assert_string_equal(out.s, to);
    str_clear(&out);
    assert_int_equal(pyjson_rewrite("[1]", 3, "x", 2, &(PyjsonEdit){0}, NULL, &out, &err), ST_DATA);
    assert_int_equal(pyjson_rewrite("{\"a\":", 5, "x", 2, &(PyjsonEdit){0}, NULL, &out, &err), ST_DATA);
    str_free(&out);
}

/* A member that must have a value, in the root and in the text model's part, and nowhere else. */
static void test_set(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } rows[] = {
        {"{\"t\":true,\"a\":{\"t\":1}}", "{\n \"t\": false,\n \"a\": {\n  \"t\": 1\n }\n}"},
        {"{\"a\":1}", "{\n \"a\": 1,\n \"t\": false\n}"},
        {"{\"text_config\":{\"t\":true},\"t\":1}", "{\n \"text_config\": {\n  \"t\": false\n },\n \"t\": false\n}"},
        {"{\"text_config\":{}}", "{\n \"text_config\": {\n  \"t\": false\n },\n \"t\": false\n}"},
    };
    Error err = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Str out = {0};
        ok(pyjson_rewrite(rows[i].from, strlen(rows[i].from), "x", 1, &(PyjsonEdit){.set = "t", .to = "false"}, NULL, &out,
                          &err), &err);
        assert_string_equal(out.s, rows[i].to);
        str_free(&out);
    }
}

/* One regular expression for a set of names: siblings that go on alike are merged. */
static void test_ignore_regex(void **state)
{
    (void)state;
    const char *a[] = {"model.layers.10.x", "lm_head", "model.layers.2.x", "model.layers.2.y-z"};
    const char *b[] = {"m.0.gate", "m.0.up", "m.1.gate", "m.1.up", "m.11.up"};
    Str out = {0};
    Error err = {0};
    ok(ignore_regex(a, 4, &out, &err), &err);
    assert_string_equal(out.s, "re:(?:lm_head|model\\.layers\\.(?:10\\.x|2\\.(?:x|y\\-z)))(?![.\\w])");
    str_clear(&out);
    ok(ignore_regex(b, 5, &out, &err), &err);
    assert_string_equal(out.s, "re:m\\.(?:(?:0|1)\\.(?:gate|up)|11\\.up)(?![.\\w])");
    str_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rewrite),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_ignore_regex),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
