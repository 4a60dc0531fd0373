#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "text/calib.h"

#define CASES "tests/golden/analysis/_cases/"

/* A file of the given bytes in a new folder of its own. */
typedef struct Temp {
    char dir[32], path[64];
} Temp;

static void temp_write(Temp *t, const char *name, const void *bytes, size_t n)
{
    strcpy(t->dir, "/tmp/slimscope.XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    snprintf(t->path, sizeof t->path, "%s/%s", t->dir, name);
    FILE *f = fopen(t->path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void temp_remove(Temp *t)
{
    unlink(t->path);
    rmdir(t->dir);
}

static CalibFile *open_bytes(const char *name, const void *bytes, size_t n, bool peer)
{
    Temp t;
    CalibFile *c = NULL;
    Error err = {0};
    temp_write(&t, name, bytes, n);
    if (calib_open(&c, t.path, peer, NULL, &err) != ST_OK)
        fail_msg("%s", err.text);
    temp_remove(&t);
    return c;
}

/* The file is refused as data, in one line that holds `say`. */
static void refused(const char *name, const void *bytes, size_t n, const char *say)
{
    Temp t;
    CalibFile *c = NULL;
    Error err = {0};
    temp_write(&t, name, bytes, n);
    Status st = calib_open(&c, t.path, false, NULL, &err);
    temp_remove(&t);
    if (st != ST_DATA || !strstr(err.text, say))
        fail_msg("%s: status %d, '%s', wanted '%s'", name, st, err.text, say);
}

static void recorded_cases(void **state)
{
    (void)state;
    static const struct {
        const char *name, *first, *say; /* the first text, or what the refusal holds */
        int count, line, blank;
    } rows[] = {
        {.name = "bad.json", .say = "bad.json:"},
        {.name = "bad.jsonl", .say = "bad.jsonl:2:"},
        {.name = "blank.jsonl", .first = "hello there", .count = 1, .line = 1, .blank = 1},
        {.name = "dict.json", .say = "a JSON list of strings was expected, found an object"},
        {.name = "empty.json", .say = "holds no text"},
        {.name = "empty.jsonl", .say = "holds no text"},
        {.name = "emptystr.json", .first = "hello there", .count = 2, .line = 1},
        {.name = "ints.json", .say = "item 1: a string or an object was expected, found a number"},
        {.name = "lod.json", .first = "a", .count = 1, .line = 1},
        {.name = "nested.json", .say = "item 1: a string or an object was expected, found a list"},
        {.name = "nokey.jsonl", .first = "hello there", .count = 1, .line = 1},
        {.name = "null.jsonl", .say = "null.jsonl:1: none of the fields 'inputs_pretokenized', 'prompt', 'text'"},
        {.name = "one.json", .first = "Hello world, this is a test of the calibration text.", .count = 1, .line = 1},
        {.name = "onetok.json", .first = "a", .count = 1, .line = 1},
        {.name = "short.json", .first = "a", .count = 2, .line = 1},
        {.name = "strlines.jsonl", .first = "hello", .count = 1, .line = 1},
        {.name = "tiny.json", .first = "a b c d e f", .count = 1, .line = 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[128];
        CalibFile *c = NULL;
        Error err = {0};
        snprintf(path, sizeof path, CASES "%s", rows[i].name);
        Status st = calib_open(&c, path, false, NULL, &err);
        if (rows[i].say) {
            if (st != ST_DATA || !strstr(err.text, rows[i].say))
                fail_msg("%s: status %d, '%s', wanted '%s'", rows[i].name, st, err.text, rows[i].say);
            continue;
        }
        if (st != ST_OK)
            fail_msg("%s: %s", rows[i].name, err.text);
        assert_int_equal(c->count, rows[i].count);
        assert_string_equal(c->items[0].text, rows[i].first);
        assert_int_equal(c->items[0].len, strlen(rows[i].first));
        assert_int_equal(c->items[0].line, rows[i].line);
        assert_int_equal(c->skipped_blank, rows[i].blank);
        assert_string_equal(c->name, rows[i].name);
        calib_free(c);
    }
}

static void peer_takes_the_raw_line(void **state)
{
    (void)state;
    static const char text[] = "{\"text\": \"x\"}\r\n{\"inputs_pretokenized\": \"y\"}\n{\"prompt\": \"z\"}";
    CalibFile *c = open_bytes("p.jsonl", text, sizeof text - 1, true);
    assert_int_equal(c->count, 3);
    assert_string_equal(c->items[0].text, "{\"text\": \"x\"}\n");
    assert_string_equal(c->items[1].text, "y");
    assert_string_equal(c->items[2].text, "{\"prompt\": \"z\"}");
    calib_free(c);
    Error err = {0};
    assert_int_equal(calib_open(&c, CASES "null.jsonl", true, NULL, &err), ST_DATA);
    assert_non_null(strstr(err.text, "found null"));
}

static void fields_in_their_order(void **state)
{
    (void)state;
    static const char text[] =
        "\xef\xbb\xbf{\"text\":\"c\",\"prompt\":\"b\",\"inputs_pretokenized\":\"a\"}\r\n\r\n  \t\n"
        "{\"text\":\"c\",\"prompt\":\"b\"}\n{\"prompt\":null,\"text\":\"c\"}\n{\"input_ids\":[5,0,7]}\n";
    CalibFile *c = open_bytes("f.jsonl", text, sizeof text - 1, false);
    assert_int_equal(c->count, 4);
    assert_int_equal(c->skipped_blank, 2);
    assert_string_equal(c->items[0].text, "a");
    assert_string_equal(c->items[1].text, "b");
    assert_string_equal(c->items[2].text, "c");
    assert_int_equal(c->items[1].line, 4);
    assert_null(c->items[3].text);
    assert_int_equal(c->items[3].nids, 3);
    assert_int_equal(c->items[3].ids[2], 7);
    calib_free(c);
}

static void bad_bytes_are_replaced_and_counted(void **state)
{
    (void)state;
    static const char lines[] = "{\"text\":\"a\xff\"}\n{\"text\":\"ok\"}\n{\"text\":\"\xe4\xb8\"}\n";
    CalibFile *c = open_bytes("u.jsonl", lines, sizeof lines - 1, false);
    assert_int_equal(c->count, 3);
    assert_int_equal(c->bad_utf8, 2);
    assert_string_equal(c->items[0].text, "a\xef\xbf\xbd");
    assert_string_equal(c->items[2].text, "\xef\xbf\xbd");
    calib_free(c);
    static const char list[] = "[\"a\", \"b\xc3\"]";
    c = open_bytes("u.json", list, sizeof list - 1, false);
    assert_int_equal(c->bad_utf8, 1);
    assert_string_equal(c->items[1].text, "b\xef\xbf\xbd");
    calib_free(c);
}

static void bad_files_name_the_place(void **state)
{
    (void)state;
    refused("x.txt", "a", 1, "only .jsonl");
    refused("nul.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\0c\"}\n", 26, "nul.jsonl:2:");
    refused("esc.jsonl", "{\"text\":\"a\\u0000b\"}", 19, "esc.jsonl:1:");
    refused("cut.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b", 23, "cut.jsonl:2:");
    refused("cut.json", "[\"a\", \"b", 8, "cut.json:1:");
    refused("zeros.jsonl", "\0\0\0\0", 4, "zeros.jsonl:1:");
    refused("num.jsonl", "{\"text\":5}", 10, "num.jsonl:1: 'text' must be a string, found a number");
    refused("two.jsonl", "{\"text\":\"a\"} {}", 15, "two.jsonl:1:");
    refused("ids.jsonl", "{\"input_ids\":[1,-2]}", 20, "entry 1 of 'input_ids' is no token id");
    refused("frac.jsonl", "{\"input_ids\":[1.5]}", 19, "entry 0 of 'input_ids'");
    refused("obj.jsonl", "{\"input_ids\":\"1\"}", 17, "'input_ids' must be a list");
    refused("blank.jsonl", "\n\n \n", 4, "holds no text");
    CalibFile *c;
    Error err = {0};
    assert_int_equal(calib_open(&c, CASES "nothere.jsonl", false, NULL, &err), ST_IO);
    assert_int_equal(calib_open(&c, "/tmp", false, NULL, &err), ST_DATA);
}

/* A line or item of a list, and the text it gives. */
static void chats_become_texts(void **state)
{
    (void)state;
    static const struct {
        const char *object, *text;
        CalibForm form;
    } rows[] = {
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\\nb\"},{\"role\":\"assistant\",\"content\":\"c\"}]}", "a\nb\nc",
         CALIB_MESSAGES},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]},{\"content\":[{\"type\":\"image\"},"
         "{\"type\":\"text\",\"text\":\"x\"},\"y\"]}]}", "x\ny", CALIB_MESSAGES},
        {"{\"id\":1,\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\",\"value\":\"r\"}]}", "q\nr",
         CALIB_CONVERSATIONS},
        {"{\"instruction\":\"do\",\"input\":\"\",\"output\":\"done\"}", "do\ndone", CALIB_INSTRUCTION},
        {"{\"instruction\":\"do\",\"input\":\"it\"}", "do\nit", CALIB_INSTRUCTION},
        {"{\"messages\":[],\"text\":\"t\"}", "t", CALIB_PLAIN},
        {"\"just words\"", "just words", CALIB_PLAIN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int list = 0; list < 2; list++) {
            char bytes[512];
            snprintf(bytes, sizeof bytes, list ? "[\n%s]" : "%s", rows[i].object);
            CalibFile *c = open_bytes(list ? "c.json" : "c.jsonl", bytes, strlen(bytes), false);
            assert_int_equal(c->count, 1);
            assert_string_equal(c->items[0].text, rows[i].text);
            assert_int_equal(c->items[0].line, 1);
            if (rows[i].object[0] == '{')
                assert_int_equal(c->made[rows[i].form], 1);
            calib_free(c);
        }
    refused("m.jsonl", "{\"messages\":{}}", 15, "m.jsonl:1: 'messages' must be a list of turns, found an object");
    refused("m.jsonl", "{\"messages\":[5]}", 16, "entry 0 of 'messages': an object with 'content' was expected");
    refused("m.jsonl", "{\"messages\":[]}", 15, "no entry of 'messages' has a text in 'content'");
    refused("m.json", "[{\"conversations\":[{\"value\":7}]}]", 33, "m.json: item 1: entry 0 of 'conversations'");
    refused("m.jsonl", "{\"instruction\":3}", 17, "'instruction' must be a string, found a number");
    refused("m.jsonl", "{\"chat\":3}", 10, "none of the fields");
}

static void unread_members_do_not_matter(void **state)
{
    (void)state;
    static const char lines[] = "{\"s\":NaN,\"t\":[Infinity,-Infinity],\"text\":\"a\"}\n{\"k\":1,\"k\":2,\"z\":\"\\u0000\",\"text\":\"b\"}\n"
                                "{\"text\":\"c\",\"text\":\"d\"}\n";
    CalibFile *c = open_bytes("n.jsonl", lines, sizeof lines - 1, false);
    assert_int_equal(c->count, 3);
    assert_string_equal(c->items[1].text, "b");
    assert_string_equal(c->items[2].text, "d");
    calib_free(c);
    refused("n.jsonl", "{\"text\":NaN}", 12, "n.jsonl:1:");
    refused("n.jsonl", "{\"a\":-Infinit,\"text\":\"b\"}", 25, "n.jsonl:1:");
}

static void other_kinds_of_file_are_named(void **state)
{
    (void)state;
    refused("g.jsonl", "\x1f\x8b\x08\x00", 4, "is a gzip file");
    refused("u.jsonl", "\xff\xfe{\0", 4, "is UTF-16 text");
    refused("p.json", "PAR1....", 8, "is a Parquet file");
    refused("l.jsonl", "version https://git-lfs.github.com/spec/v1\n", 43, "is a Git LFS pointer");
    static const char pretty[] = "[\n {\"text\":\"a\"},\n {\"text\":\"b\"}\n]\n";
    CalibFile *c = open_bytes("pretty.jsonl", pretty, sizeof pretty - 1, false);
    assert_int_equal(c->count, 2);
    calib_free(c);
}

static void long_lines_are_read(void **state)
{
    (void)state;
    enum { N = 8 << 20 };
    Str line = {0};
    str_puts(&line, "{\"text\":\"");
    while (line.len < N)
        str_puts(&line, "abcdefgh ");
    size_t text = line.len - 9;
    str_puts(&line, "\"}\n{\"text\":\"next\"}\n");
    CalibFile *c = open_bytes("long.jsonl", str_text(&line), line.len, false);
    assert_int_equal(c->count, 2);
    assert_int_equal(c->items[0].len, text);
    assert_int_equal(c->items[1].line, 2);
    calib_free(c);
    str_clear(&line);
    str_puts(&line, "{\"text\":\"a\"}\n{\"text\":\"");
    while (line.len < (64 << 20) + 64)
        str_append(&line, "abcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefgh", 64);
    str_puts(&line, "\"}\n");
    refused("huge.jsonl", str_text(&line), line.len, "huge.jsonl:2: a line of");
    str_free(&line);
}

/* ---- tokens ---- */

static Tokenizer *demo(void)
{
    Tokenizer *t = NULL;
    Error err = {0};
    assert_int_equal(tokenizer_open(&t, "lab_models/demo", &err), ST_OK);
    return t;
}

static void ids_pass_through(void **state)
{
    (void)state;
    static const char text[] =
        "{\"input_ids\":[1,2,3,4,5]}\n{\"input_ids\":[]}\n{\"input_ids\":[6]}\n{\"input_ids\":[7,8]}\n";
    CalibFile *c = open_bytes("i.jsonl", text, sizeof text - 1, false);
    TokenSet *t, *again;
    Error err = {0};
    assert_int_equal(tokens_make(&t, c, NULL, 2, 3, 9, NULL, &err), ST_OK);
    assert_int_equal(t->samples, 2);
    assert_int_equal(t->truncated, 1);
    assert_int_equal(t->dropped_empty, 1);
    assert_int_equal(t->start[1], 3);
    assert_int_equal(t->start[2], 4);
    assert_int_equal(t->ids[3], 6);
    assert_int_equal(t->item[1], 2);
    assert_string_equal(t->file_sha256, c->sha256);
    assert_int_equal(tokens_make(&again, c, NULL, 2, 3, 0, NULL, &err), ST_OK);
    assert_string_equal(again->sha256, t->sha256);
    tokens_free(again);
    assert_int_equal(tokens_make(&again, c, NULL, 2, 4, 0, NULL, &err), ST_OK);
    assert_string_not_equal(again->sha256, t->sha256);
    tokens_free(again);
    tokens_free(t);
    assert_int_equal(tokens_make(&t, c, NULL, 0, 0, 8, NULL, &err), ST_DATA);
    assert_non_null(strstr(err.text, "i.jsonl:4: token id 8 is outside the model's vocabulary of 8"));
    calib_free(c);
    assert_int_equal(calib_open(&c, CASES "one.json", false, NULL, &err), ST_OK);
    assert_int_equal(tokens_make(&t, c, NULL, 0, 0, 0, NULL, &err), ST_DATA);
    assert_non_null(strstr(err.text, "no tokenizer.json"));
    calib_free(c);
}

static void texts_become_samples(void **state)
{
    (void)state;
    Tokenizer *tok = demo();
    CalibFile *c;
    TokenSet *t;
    Error err = {0};
    assert_int_equal(calib_open(&c, CASES "emptystr.json", false, NULL, &err), ST_OK);
    assert_int_equal(tokens_make(&t, c, tok, 0, 0, 4096, NULL, &err), ST_OK);
    assert_int_equal(t->samples, 1);
    assert_int_equal(t->dropped_empty, 1);
    int32_t *ids;
    size_t n;
    assert_int_equal(tokenizer_encode(tok, "hello there", 11, true, NULL, &ids, &n, &err), ST_OK);
    assert_int_equal(t->start[1], n);
    assert_memory_equal(t->ids, ids, n * sizeof *ids);
    free(ids);
    tokens_free(t);
    calib_free(c);
    static const char empty[] = "[\"\", \"\"]";
    c = open_bytes("e.json", empty, sizeof empty - 1, false);
    assert_int_equal(tokens_make(&t, c, tok, 0, 0, 0, NULL, &err), ST_DATA);
    calib_free(c);
    tokenizer_free(tok);
}

static void windows_cover_each_text(void **state)
{
    (void)state;
    static const char text[] =
        "{\"input_ids\":[0,1,2,3,4,5,6,7,8]}\n{\"input_ids\":[9]}\n{\"input_ids\":[10,11,12,13,14,15]}\n";
    CalibFile *c = open_bytes("w.jsonl", text, sizeof text - 1, false);
    TokenSet *t;
    Error err = {0};
    assert_int_equal(tokens_windows(&t, c, NULL, 4, 0, 0, NULL, &err), ST_OK);
    static const int64_t all[] = {0, 4, 8, 12, 14}; /* first windows 0-3 10-13, then 4-7 14-15; 8 and 9 are alone */
    assert_int_equal(t->samples, 4);
    assert_memory_equal(t->start, all, sizeof all);
    assert_int_equal(t->ids[4], 10);
    assert_int_equal(t->ids[8], 4);
    assert_int_equal(t->item[1], 2);
    assert_int_equal(t->item[2], 0);
    tokens_free(t);
    assert_int_equal(tokens_windows(&t, c, NULL, 4, 6, 0, NULL, &err), ST_OK);
    assert_int_equal(t->samples, 2);
    assert_int_equal(t->start[2], 6);
    assert_int_equal(t->item[1], 2); /* a small budget hears every text */
    tokens_free(t);
    assert_int_equal(tokens_windows(&t, c, NULL, 1, 0, 0, NULL, &err), ST_USAGE);
    calib_free(c);
}

/* What a set takes is bounded while it is read, whatever it is made of, and a set inside the bound is read. */
static void limits_hold(void **state)
{
    (void)state;
    static const struct {
        const char *name, *begin, *part, *end;
    } rows[] = {
        {"empty.json", "[\"\"", ",\"\"", "]"},
        {"empty.jsonl", "\"a\"", "\n\"\"", "\n"},
        {"ids.jsonl", "{\"input_ids\":[1", ",1", "]}"},
        {"turns.jsonl", "{\"messages\":[1", ",1", "]}"},
        {"string.json", "[\"", "abc", "\"]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Str s = {0};
        str_puts(&s, rows[i].begin);
        for (int k = 0; k < 100000; k++)
            str_puts(&s, rows[i].part);
        str_puts(&s, rows[i].end);
        Temp t;
        CalibFile *c;
        Error err = {0};
        temp_write(&t, rows[i].name, s.s, s.len);
        TextLimits limits = {.bytes = s.len + 100000};
        assert_int_equal(calib_open(&c, t.path, false, &limits, &err), ST_NOMEM);
        assert_non_null(strstr(err.text, "needs more than the"));
        limits.bytes = 100 << 20;
        Status st = calib_open(&c, t.path, false, &limits, &err);
        if (i != 3)
            assert_int_equal(st, ST_OK);
        if (st == ST_OK)
            calib_free(c);
        temp_remove(&t);
        str_free(&s);
    }
    CalibFile *c = open_bytes("i.json", "[{\"input_ids\":[1,2,3,4]},{\"input_ids\":[1,2,3,4]}]", 49, false);
    TokenSet *set;
    Error err = {0};
    TextLimits limits = {.bytes = 40};
    assert_int_equal(tokens_make(&set, c, NULL, 0, 0, 0, &limits, &err), ST_NOMEM);
    assert_int_equal(tokens_windows(&set, c, NULL, 4, 0, 0, &limits, &err), ST_NOMEM);
    Cancel stop = {.level = 2};
    limits = (TextLimits){.cancel = &stop};
    assert_int_equal(tokens_make(&set, c, NULL, 0, 0, 0, &limits, &err), ST_CANCELLED);
    calib_free(c);
}

/* A bad id behind good texts: both forms of set say so, and what they hold is freed once (ASan looks). */
static void ids_outside_the_vocabulary(void **state)
{
    (void)state;
    static const char text[] = "{\"input_ids\":[1,2]}\n{\"input_ids\":[1e1,3]}\n{\"input_ids\":[999999]}\n";
    CalibFile *c = open_bytes("v.jsonl", text, sizeof text - 1, false);
    TokenSet *t;
    Error err = {0};
    assert_int_equal(c->items[1].ids[0], 10);
    assert_int_equal(tokens_windows(&t, c, NULL, 4, 0, 300, NULL, &err), ST_DATA);
    assert_non_null(strstr(err.text, "v.jsonl:3: token id 999999 is outside the model's vocabulary of 300"));
    assert_int_equal(tokens_make(&t, c, NULL, 0, 0, 300, NULL, &err), ST_DATA);
    calib_free(c);
    refused("f.jsonl", "{\"input_ids\":[1,2.5]}", 21, "f.jsonl:1: entry 1 of 'input_ids' is no token id");
    refused("n.jsonl", "{\"input_ids\":[NaN]}", 19, "n.jsonl:1: entry 0 of 'input_ids' is no token id");
    refused("s.jsonl", "{\"input_ids\":\"1\"}", 17, "'input_ids' must be a list of token ids, found a string");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_cases),       cmocka_unit_test(peer_takes_the_raw_line),
        cmocka_unit_test(fields_in_their_order), cmocka_unit_test(bad_bytes_are_replaced_and_counted),
        cmocka_unit_test(bad_files_name_the_place), cmocka_unit_test(long_lines_are_read),
        cmocka_unit_test(chats_become_texts),   cmocka_unit_test(unread_members_do_not_matter),
        cmocka_unit_test(other_kinds_of_file_are_named),
        cmocka_unit_test(ids_pass_through),     cmocka_unit_test(texts_become_samples),
        cmocka_unit_test(windows_cover_each_text), cmocka_unit_test(limits_hold),
        cmocka_unit_test(ids_outside_the_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
