#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "io/json.h"
#include "tests/lib/tempdir.h"

static Status parse(const char *text, size_t n, Error *e)
{
    /* a copy of exactly n bytes: reading one too many is then seen by the sanitizer */
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    cJSON *j;
    Status st = json_parse(copy, n, "f.json", &j, e);
    assert_true((st == ST_OK) == (j != NULL));
    cJSON_Delete(j);
    free(copy);
    return st;
}

static void good_documents(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{}", "[]", "null", " [ 1 , -0.5e+3 , true , false , null , \"\" ] \r\n\t", "0", "-0", "1E5", "1e-7",
        "{\"a\":{\"a\":{\"a\":1}},\"b\":[{\"a\":1},{\"a\":2}]}", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"",
        "\"\xe4\xb8\xad\xf0\x9f\x98\x80\"", "\xef\xbb\xbf{\"bom\":1}", "1e999",
        "123456789012345678901234567890123456789012345678901234567890",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        Error e = {0};
        if (parse(good[i], strlen(good[i]), &e) != ST_OK)
            fail_msg("%s: %s", good[i], e.text);
    }
}

/* As Python's json module reads: json.loads of the same texts gives the same trees. */
static void python_documents(void **state)
{
    (void)state;
    static const struct {
        const char *text, *plain; /* plain: the tree, printed; 1e999 is printed as null */
    } rows[] = {
        {"{\"a\":1,\"b\":2,\"a\":3}", "{\"b\":2,\"a\":3}"},
        {"{\"a\":1,\"\\u0061\":2,\"a\":{\"x\":1,\"x\":[{\"y\":1,\"y\":2}]}}", "{\"a\":{\"x\":[{\"y\":2}]}}"},
        {"[NaN, Infinity ,-Infinity]", "[null,null,null]"},
        {"{\"NaN\":\"Infinity \\\" NaN\",\"b\":NaN}", "{\"NaN\":\"Infinity \\\" NaN\",\"b\":null}"},
        {"[[1,1],[1,1]]", "[[1,1],[1,1]]"},
        {"[]", "[]"},
        {"7", "7"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Error e = {0};
        cJSON *j;
        if (json_parse_loose(rows[i].text, strlen(rows[i].text), "f.json", &j, &e) != ST_OK)
            fail_msg("%s: %s", rows[i].text, e.text);
        char *got = cJSON_PrintUnformatted(j);
        assert_string_equal(got, rows[i].plain);
        free(got);
        cJSON_Delete(j);
    }
    static const char *const bad[] = {"{\"a\":nan}", "[+Infinity]", "[Inf]", "{\"a\":1,}", "[NaNa]", "", "{}{}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Error e = {0};
        cJSON *j;
        assert_int_equal(json_parse_loose(bad[i], strlen(bad[i]), "f.json", &j, &e), ST_DATA);
        assert_null(j);
    }
    Error e = {0};
    cJSON *j;
    double v = 1;
    assert_int_equal(json_parse_loose("{\"x\":NaN}", 9, "f.json", &j, &e), ST_OK);
    assert_int_equal(json_num(j, "x", &v, NULL, &e), ST_DATA);
    assert_string_equal(e.text, "'x' must be a finite number");
    cJSON_Delete(j);
}

static const struct {
    const char *text, *fragment;
} bad_documents[] = {
    {"", "f.json: empty"},
    {" \n ", "f.json: empty"},
    {"{} {}", "f.json:1:4: something follows"},
    {"{}x", "f.json:1:3: something follows"},
    {"{\"a\":1,\n \"b\":2,\n \"a\":3}", "f.json:3:2: key 'a' is there twice"},
    {"{\"a\":1,\"\\u0061\":2}", "key 'a' is there twice"},
    {"[{\"x\":{\"k\":1,\"k\":1}}]", "key 'k' is there twice"},
    {"{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"j\":10,\"b\":0}",
     "key 'b' is there twice"},
    {"{\"a\" 1}", "expected ':'"},
    {"{\"a\":1 \"b\":2}", "expected ',' or '}'"},
    {"{\"a\":1,}", "expected a key"},
    {"{a:1}", "expected a key"},
    {"{'a':1}", "expected a key"},
    {"[1 2]", "expected ',' or ']'"},
    {"[1,]", "f.json:1:4: expected a value"},
    {"[", "the text ends too early"},
    {"{\"a\":", "the text ends too early"},
    {"\"abc", "without its closing quote"},
    {"\"a\nb\"", "control character"},
    {"\"\\x41\"", "unknown escape"},
    {"\"\\u12g4\"", "four hexadecimal"},
    {"\"\\u12", "four hexadecimal"},
    {"\"a\\u0000b\"", "\\u0000 is not allowed"},
    {"\"\\ud800\"", "half of a surrogate"},
    {"\"\\ud800\\u0041\"", "half of a surrogate"},
    {"\"\\udc00\"", "half of a surrogate"},
    {"\"\xff\"", "ill-formed UTF-8"},
    {"\"\xc0\x80\"", "ill-formed UTF-8"},
    {"\"\xed\xa0\x80\"", "ill-formed UTF-8"},
    {"\"\xe4\xb8\"", "ill-formed UTF-8"},
    {"01", "not a number"},
    {"-", "not a number"},
    {"1.", "not a number"},
    {".5", "expected a value"},
    {"+1", "expected a value"},
    {"1e", "not a number"},
    {"0x10", "something follows"},
    {"NaN", "expected a value"},
    {"Infinity", "expected a value"},
    {"tru", "expected a value"},
    {"[1] // no", "something follows"},
    {"1234567890123456789012345678901234567890123456789012345678901", "too many digits"},
    {"{\"\xe4\xb8\xad\xe6\x96\x87\": x}", "f.json:1:8: expected a value"},
};

static void bad_documents_say_where(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_documents / sizeof *bad_documents; i++) {
        Error e = {0};
        assert_int_equal(parse(bad_documents[i].text, strlen(bad_documents[i].text), &e), ST_DATA);
        if (!strstr(e.text, bad_documents[i].fragment))
            fail_msg("%s: '%s' lacks '%s'", bad_documents[i].text, e.text, bad_documents[i].fragment);
    }
    Error e = {0};
    assert_int_equal(parse("[1,\0 2]", 7, &e), ST_DATA);
    assert_int_equal(parse("\"a\0b\"", 5, &e), ST_DATA);
}

static void depth_has_a_limit(void **state)
{
    (void)state;
    Error e = {0};
    Str b = {0};
    for (int i = 0; i < 64; i++)
        str_puts(&b, i % 2 ? "[" : "{\"k\":");
    str_puts(&b, "1");
    for (int i = 63; i >= 0; i--)
        str_putc(&b, i % 2 ? ']' : '}');
    assert_int_equal(parse(b.s, b.len, &e), ST_OK);
    str_clear(&b);
    for (int i = 0; i < 1000000; i++)
        str_putc(&b, '[');
    assert_int_equal(parse(b.s, b.len, &e), ST_DATA);
    assert_non_null(strstr(e.text, "f.json:1:65: nested deeper"));
    str_free(&b);
}

static void truncation_is_always_an_error(void **state)
{
    (void)state;
    size_t n;
    char *text = temp_get("lab_models/demo/config.json", &n);
    while (n && (text[n - 1] == '\n' || text[n - 1] == ' '))
        n--;
    Error e = {0};
    assert_int_equal(parse(text, n, &e), ST_OK);
    for (size_t k = 0; k < n; k++)
        assert_int_equal(parse(text, k, &e), ST_DATA);
    free(text);
}

/* Random damage never gives cJSON a text that it and the scanner understand differently. */
static void damaged_text_never_crashes(void **state)
{
    (void)state;
    size_t n;
    char *text = temp_get("tests/golden/models/llama3/fp32/config.json", &n);
    uint32_t rng = 12345;
    for (int round = 0; round < 20000; round++) {
        rng = rng * 1664525u + 1013904223u;
        size_t at = (rng >> 8) % n;
        char old = text[at];
        rng = rng * 1664525u + 1013904223u;
        text[at] = (char)(rng >> 24);
        Error e = {0};
        Status st = parse(text, n, &e);
        assert_true(st == ST_OK || st == ST_DATA);
        text[at] = old;
    }
    free(text);
}

static void large_objects_are_not_quadratic(void **state)
{
    (void)state;
    /* 300,000 keys: a comparison of all pairs would take hours */
    enum { N = 300000 };
    Str b = {0};
    str_putc(&b, '{');
    for (int i = 0; i < N; i++)
        str_printf(&b, "%s\"key%d\":%d", i ? "," : "", i, i);
    size_t len = b.len;
    str_putc(&b, '}');
    Error e = {0};
    assert_int_equal(parse(b.s, b.len, &e), ST_OK);
    b.len = len;
    str_puts(&b, ",\"key77\":0}");
    assert_int_equal(parse(b.s, b.len, &e), ST_DATA);
    assert_non_null(strstr(e.text, "key 'key77' is there twice"));
    str_free(&b);
}

typedef struct Seen {
    Str log;
    int stop_at;
} Seen;

static Status note(void *ctx, const char *key, size_t key_len, const char *value, size_t len, Error *err)
{
    Seen *s = ctx;
    str_append(&s->log, key, key_len);
    str_putc(&s->log, '=');
    str_append(&s->log, value, len);
    str_putc(&s->log, ';');
    if (--s->stop_at == 0)
        return error_set(err, ST_FAIL, "stop");
    return ST_OK;
}

static void walk_hands_out_members(void **state)
{
    (void)state;
    Seen s = {.stop_at = -1};
    Error e = {0};
    const char *text = " {\"a\" : [1, {\"x\":2}] ,\"b\\n\\u0063\":\"t\\\"\", \"n\":null}";
    assert_int_equal(json_walk(text, strlen(text), "w", note, &s, &e), ST_OK);
    assert_string_equal(str_text(&s.log), "a=[1, {\"x\":2}];b\nc=\"t\\\"\";n=null;");
    str_clear(&s.log);
    s.stop_at = 1;
    assert_int_equal(json_walk(text, strlen(text), "w", note, &s, &e), ST_FAIL);
    assert_string_equal(str_text(&s.log), "a=[1, {\"x\":2}];");
    assert_int_equal(json_walk("[1]", 3, "w", note, &s, &e), ST_DATA);
    assert_int_equal(json_walk("{}x", 3, "w", note, &s, &e), ST_DATA);
    assert_int_equal(json_walk("{\"a\":1,\"a\":2}", 13, "w", note, &s, &e), ST_DATA);
    str_free(&s.log);
}

static void members_are_typed(void **state)
{
    (void)state;
    const char *text = "{\"i\":-3,\"f\":1.5,\"big\":9007199254740992,\"max\":9007199254740991,\"s\":\"x\",\"b\":true,"
        "\"z\":null,\"l\":[],"
                       "\"inf\":1e999}";
    Error e = {0};
    cJSON *j;
    assert_int_equal(json_parse(text, strlen(text), "t", &j, &e), ST_OK);
    int64_t i = 7;
    double d = 7;
    bool b = false, found;
    const char *s = "keep";
    assert_int_equal(json_int(j, "i", &i, &found, &e), ST_OK);
    assert_true(found && i == -3);
    assert_int_equal(json_int(j, "max", &i, NULL, &e), ST_OK);
    assert_true(i == 9007199254740991);
    assert_int_equal(json_int(j, "big", &i, NULL, &e), ST_DATA);
    assert_non_null(strstr(e.text, "'big' must be a whole number below 2^53"));
    assert_int_equal(json_int(j, "f", &i, NULL, &e), ST_DATA);
    assert_int_equal(json_int(j, "inf", &i, NULL, &e), ST_DATA);
    assert_int_equal(json_int(j, "s", &i, NULL, &e), ST_DATA);
    assert_int_equal(json_num(j, "inf", &d, NULL, &e), ST_DATA);
    assert_int_equal(json_num(j, "f", &d, NULL, &e), ST_OK);
    assert_true(d == 1.5);
    assert_int_equal(json_bool(j, "b", &b, NULL, &e), ST_OK);
    assert_true(b);
    assert_int_equal(json_bool(j, "i", &b, NULL, &e), ST_DATA);
    assert_int_equal(json_str(j, "l", &s, NULL, &e), ST_DATA);
    assert_non_null(strstr(e.text, "'l' must be a string, not a list"));
    /* null and absent leave the default */
    i = 7;
    assert_int_equal(json_int(j, "z", &i, &found, &e), ST_OK);
    assert_true(!found && i == 7);
    assert_int_equal(json_str(j, "nope", &s, &found, &e), ST_OK);
    assert_string_equal(s, "keep");
    assert_null(json_get(j, "S")); /* case matters */
    cJSON_Delete(j);
}

static Status collect_element(void *ctx, const char *value, size_t len, Error *err)
{
    (void)err;
    str_append(ctx, value, len);
    str_putc(ctx, ';');
    return ST_OK;
}

static void lists_hand_out_elements(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
        bool strict;
        Status st;
    } rows[] = {
        {" [1, \"a,b\" ,[2,3],{\"k\":[4]}] ", "1;\"a,b\";[2,3];{\"k\":[4]};", true, ST_OK},
        {"[]", "", true, ST_OK},
        {"[NaN]", "NaN;", false, ST_OK},
        {"[NaN]", "", true, ST_DATA},
        {"{}", "", false, ST_DATA},
        {"[1,]", "1;", false, ST_DATA},
        {"[1", "1;", false, ST_DATA},
        {"[1] 2", "1;", false, ST_DATA},
        {"", "", false, ST_DATA},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Str got = {0};
        Error err = {0};
        Status st = json_walk_list(rows[i].text, strlen(rows[i].text), "t", rows[i].strict, collect_element, &got, &err);
        assert_int_equal(st, rows[i].st);
        assert_string_equal(str_text(&got), rows[i].want);
        str_free(&got);
    }
}

/* Strings and blanks are passed over several bytes at a time: what ends them is seen at every distance. */
static void ends_are_seen_at_every_distance(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *rest, *say; /* say NULL: good */
    } rows[] = {
        {"\x01", "\"]", "control character"}, {"\x1f", "\"]", "control character"}, {"\n", "\"]", "control character"},
        {"\xff", "\"]", "ill-formed"},        {"\xed\xa0\x80", "\"]", "ill-formed"},  {"\xe2\x96", "\"]", "ill-formed"},
        {"\xe0\x80\x80", "\"]", "ill-formed"},  {"\\q", "\"]", "unknown escape"},      {"\xe2\x96\x81", "\"]", NULL},
        {"\xc3\xa9", "\"]", NULL},            {"\\\"", "\"]", NULL},                 {"\x7f ", "\"]", NULL},
        {"\"x", "]", "expected ','"},          {"", "\"]", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int n = 0; n < 40; n++)
            for (int after = 0; after < 10; after++) {
                char text[120], where[40];
                int len = snprintf(text, sizeof text, "[\"%.*s%s%.*s%s", n, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                   rows[i].bytes, after, "bbbbbbbbbb", rows[i].rest);
                snprintf(where, sizeof where, "f.json:1:%d: ", n + 3 + (rows[i].bytes[0] == '"'));
                Error e = {0};
                Status st = parse(text, (size_t)len, &e);
                if (st != (rows[i].say ? ST_DATA : ST_OK) ||
                    (rows[i].say && (!strstr(e.text, rows[i].say) || strncmp(e.text, where, strlen(where)) != 0)))
                    fail_msg("%s: %s", text, e.text);
            }
    for (int n = 0; n < 40; n++) {
        char text[320], where[40];
        int len = snprintf(text, sizeof text, "[%*s1\n%*s,\t%*s2\r\n%*s]%*s", n, "", n, "", n, "", n, "", n, "");
        Error e = {0};
        assert_int_equal(parse(text, (size_t)len, &e), ST_OK);
        len = snprintf(text, sizeof text, "[1,\n%*s\v]", n, "");
        assert_int_equal(parse(text, (size_t)len, &e), ST_DATA);
        snprintf(where, sizeof where, "f.json:2:%d: ", n + 1);
        assert_int_equal(strncmp(e.text, where, strlen(where)), 0);
    }
}

/* Writes members down; a key that begins as one before is there twice. */
static Status note_keyed(void *ctx, const char *key, size_t key_len, const char *value, size_t len, bool *twice, Error *err)
{
    (void)err;
    Str *log = ctx;
    char at[40];
    snprintf(at, sizeof at, ";%.*s=", (int)key_len, key);
    *twice = strstr(str_text(log), at) != NULL;
    if (!value || *twice)
        return ST_OK;
    str_puts(log, at);
    str_append(log, value, len);
    return ST_OK;
}

static void parts_are_left_out_of_the_tree(void **state)
{
    (void)state;
    static const struct {
        const char *text, *tree, *log, *list; /* tree NULL: an error, whose text is in list */
        int members, elements;
    } rows[] = {
        {"{\"x\":1,\"m\":{\"v\":{\"a\":1, \"\\u0062\" : [2]},\"y\":[3],\"l\":[ 4,[5] ]}}", "{\"x\":1,\"m\":{\"v\":{},\"y\":[3],\"l\":[]}}",
         ";a=1;b=[2]", "[ 4,[5] ]", 2, 2},
        {"{\"\\u006d\":{\"l\":[1],\"v\":{}}}", "{\"m\":{\"l\":[],\"v\":{}}}", "", "[1]", 0, 1},
        {"{\"m\":{\"v\":[1,2],\"l\":\"[]\"},\"v\":{\"a\":1}}", "{\"m\":{\"v\":[],\"l\":\"[]\"},\"v\":{\"a\":1}}", "", NULL, 2, 0},
        {"{\"n\":{\"v\":{\"a\":1}},\"k\":[{\"v\":{\"a\":1}}],\"m\":[{\"v\":{\"a\":1}}]}",
         "{\"n\":{\"v\":{\"a\":1}},\"k\":[{\"v\":{\"a\":1}}],\"m\":[{\"v\":{\"a\":1}}]}", "", NULL, 0, 0},
        {"{\"m\":{\"v\":{\"a\":{\"v\":{\"b\":1}}}}}", "{\"m\":{\"v\":{}}}", ";a={\"v\":{\"b\":1}}", NULL, 1, 0},
        {"{\"m\":{\"v\":{\"a\":1,\n\"a\":2}}}", NULL, NULL, "f.json:2:1: key 'a' is there twice", 0, 0},
        {"{\"m\":{\"v\":{\"a\":1,\n\"a\" 2}}}", NULL, NULL, "f.json:2:1: key 'a' is there twice", 0, 0},
        {"{\"m\":{\"v\":{\"a\":1,\n\"b\" 2}}}", NULL, NULL, "f.json:2:5: expected ':'", 0, 0},
        {"{\"m\":{\"v\":{\"a\":1}},\n\"m\":{}}", NULL, NULL, "f.json:2:1: key 'm' is there twice", 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Str log = {0};
        Error e = {0};
        cJSON *tree;
        JsonPart part[] = {{.path = {"m", "v"}, .member = note_keyed, .ctx = &log}, {.path = {"m", "l"}}};
        Status st = json_parse_parts(rows[i].text, strlen(rows[i].text), "f.json", part, 2, &tree, &e);
        if (!rows[i].tree) {
            assert_int_equal(st, ST_DATA);
            assert_non_null(strstr(e.text, rows[i].list));
        } else {
            char *got = cJSON_PrintUnformatted(tree);
            assert_string_equal(got, rows[i].tree);
            assert_string_equal(str_text(&log), rows[i].log);
            assert_int_equal(part[0].count, rows[i].members);
            assert_int_equal(part[1].count, rows[i].elements);
            assert_true(rows[i].list ? part[1].len == strlen(rows[i].list) : !part[1].text);
            if (rows[i].list)
                assert_memory_equal(part[1].text, rows[i].list, part[1].len);
            free(got);
        }
        cJSON_Delete(tree);
        str_free(&log);
    }
    Str log = {0};
    Error e = {0};
    cJSON *tree;
    JsonPart whole = {.member = note_keyed, .ctx = &log};
    assert_int_equal(json_parse_parts(" {\"a\":1}", 8, "f.json", &whole, 1, &tree, &e), ST_OK);
    assert_true(cJSON_IsObject(tree) && !tree->child && whole.count == 1);
    cJSON_Delete(tree);
    str_free(&log);
}

static void strings_are_resolved_in_place(void **state)
{
    (void)state;
    char text[] = " \"\" , \"abcdefgh\",\"a\\n\\u00e9\\\"\\ud83d\\ude00z\", 7";
    static const char *const want[] = {"", "abcdefgh", "a\n\xc3\xa9\"\xf0\x9f\x98\x80z"};
    JsonCursor at = {text, text + sizeof text - 1};
    const char *s;
    size_t n;
    for (size_t i = 0; i < 3; i++) {
        assert_true(json_string(&at, &s, &n));
        assert_int_equal(n, strlen(want[i]));
        assert_memory_equal(s, want[i], n);
        assert_true(json_take(&at, ','));
    }
    assert_false(json_string(&at, &s, &n));
    assert_false(json_take(&at, ','));
    assert_true(json_take(&at, '7'));
    assert_false(json_take(&at, '7'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_documents),
        cmocka_unit_test(python_documents),
        cmocka_unit_test(bad_documents_say_where),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(truncation_is_always_an_error),
        cmocka_unit_test(damaged_text_never_crashes),
        cmocka_unit_test(large_objects_are_not_quadratic),
        cmocka_unit_test(walk_hands_out_members),
        cmocka_unit_test(members_are_typed),
        cmocka_unit_test(lists_hand_out_elements),
        cmocka_unit_test(ends_are_seen_at_every_distance),
        cmocka_unit_test(parts_are_left_out_of_the_tree),
        cmocka_unit_test(strings_are_resolved_in_place),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
