#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/settings.h"
#include "src/cmdline.h"
#include "text/lexer.h"

/* ---- words ---- */

typedef struct SplitCase {
    const char *line;
    const char *words[6];
} SplitCase;

static void lines_split_as_a_shell_splits_them(void **state)
{
    (void)state;
    static const SplitCase cases[] = {
        {"", {0}},
        {"  \t ", {0}},
        {"# all comment", {0}},
        {"open /a/b", {"open", "/a/b"}},
        {" open\t'/a b'  # why", {"open", "/a b"}},
        {"a#b", {"a#b"}},
        {"a '#b' \\#c", {"a", "#b", "#c"}},
        {"x'a b'\"c d\"e", {"xa bc de"}},
        {"\"a\\\"b\\\\c\\d\"", {"a\"b\\c\\d"}},
        {"'a\\b'", {"a\\b"}},
        {"a\\ b c", {"a b", "c"}},
        {"''", {""}},
        {"exclude *.{q,k}_proj model.layers.[01].* !", {"exclude", "*.{q,k}_proj", "model.layers.[01].*", "!"}},
        {"calib \xe6\x95\xb0\xe6\x8d\xae.jsonl\r\n", {"calib", "\xe6\x95\xb0\xe6\x8d\xae.jsonl"}},
        {"a;b | $c `d`", {"a;b", "|", "$c", "`d`"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Words w;
        Error err = {0};
        assert_int_equal(lexer_split(cases[i].line, &w, &err), ST_OK);
        int n = 0;
        while (cases[i].words[n])
            n++;
        assert_int_equal(w.n, n);
        for (int k = 0; k < n; k++)
            assert_string_equal(w.word[k], cases[i].words[k]);
        assert_true(!w.word || !w.word[w.n]);
        words_fini(&w);
    }
}

static void open_quotes_are_refused_with_their_column(void **state)
{
    (void)state;
    Words w;
    Error err = {0};
    assert_int_equal(lexer_split("open 'a b", &w, &err), ST_USAGE);
    assert_string_equal(err.text, "the ' opened at column 6 is not closed");
    assert_int_equal(lexer_split("x \"", &w, &err), ST_USAGE);
    assert_string_equal(err.text, "the \" opened at column 3 is not closed");
    assert_int_equal(lexer_split("x\\", &w, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "backslash"));
}

static void a_line_being_typed_has_a_last_word(void **state)
{
    (void)state;
    Words w;
    assert_int_equal(lexer_partial("open ", &w, NULL), ST_OK);
    assert_int_equal(w.n, 2);
    assert_string_equal(w.word[1], "");
    assert_int_equal(w.start[1], 5);
    words_fini(&w);
    assert_int_equal(lexer_partial("open 'a b", &w, NULL), ST_OK);
    assert_int_equal(w.n, 2);
    assert_string_equal(w.word[1], "a b");
    assert_int_equal(w.open, '\'');
    assert_int_equal(w.start[1], 5);
    words_fini(&w);
    assert_int_equal(lexer_partial("", &w, NULL), ST_OK);
    assert_int_equal(w.n, 1);
    words_fini(&w);
    assert_int_equal(lexer_partial("x # c", &w, NULL), ST_OK);
    assert_true(w.comment);
    assert_int_equal(w.n, 1);
    words_fini(&w);
}

static void quoted_words_come_back(void **state)
{
    (void)state;
    static const char *const words[] = {"plain", "",   "a b",     "it's",      "\"q\"", "a\\b",        "#x",
                                        "!",     "x!", "*.{a,b}", "tab\there", "'''",   "\xe4\xb8\xad"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        Str b = {0};
        str_puts(&b, "v ");
        lexer_quote(&b, words[i]);
        Words w;
        assert_int_equal(lexer_split(str_text(&b), &w, NULL), ST_OK);
        assert_int_equal(w.n, 2);
        assert_string_equal(w.word[1], words[i]);
        assert_int_equal(w.quoted[1], strcmp(words[i], "!") == 0 || w.quoted[1]);
        words_fini(&w);
        str_free(&b);
    }
}

static void random_lines_split_or_are_refused(void **state)
{
    (void)state;
    static const char alphabet[] = "ab'\"\\ #!-=\t";
    uint32_t x = 12345;
    for (int round = 0; round < 20000; round++) {
        char line[24];
        size_t n = (x >> 8) % (sizeof line - 1);
        for (size_t i = 0; i < n; i++) {
            x = x * 1664525u + 1013904223u;
            line[i] = alphabet[(x >> 16) % (sizeof alphabet - 1)];
        }
        x = x * 1664525u + 1013904223u;
        line[n] = 0;
        Words w, again;
        if (lexer_split(line, &w, NULL) != ST_OK)
            continue;
        Str b = {0};
        for (int i = 0; i < w.n; i++) {
            str_puts(&b, i ? " " : "");
            lexer_quote(&b, w.word[i]);
        }
        assert_int_equal(lexer_split(str_text(&b), &again, NULL), ST_OK);
        assert_int_equal(again.n, w.n);
        for (int i = 0; i < w.n; i++)
            assert_string_equal(again.word[i], w.word[i]);
        words_fini(&again);
        words_fini(&w);
        str_free(&b);
    }
}

/* ---- options ---- */

static const Option table[] = {
    {"topk", ARG_INT, "N", "how many", COMP_NONE},
    {"model_path", ARG_PATH, "DIR", "folder", COMP_FILE},
    {"model_type", ARG_STR, "TYPE", "family", COMP_NONE},
    {"max-samples", ARG_INT, "N", "texts", COMP_NONE},
    {"mem", ARG_SIZE, "SIZE", "bound", COMP_NONE},
    {"pattern", ARG_LIST, "PATTERN...", "names", COMP_LAYER},
    {"format", ARG_CHOICE, "text|json", "form", COMP_NONE},
    {"full", ARG_FLAG, NULL, "all", COMP_NONE},
    {"text", ARG_TEXT, "S", "a text", COMP_NONE},
    {0},
};
static const Command command = {
    .name = "verb", .args = "[WORD...]", .summary = "Test.", .flags = CMD_DESTROYS, .options = table};
static const Command bare = {.name = "bare", .args = "", .summary = "Test.", .options = table};

static Status parse(const Command *c, const char *line, CommandLine *cl, Words *w, Error *err)
{
    assert_int_equal(lexer_split(line, w, err), ST_OK);
    Status st = cmdline_parse(c, w->n, w->word, w->quoted, cl, err);
    if (st != ST_OK)
        words_fini(w);
    return st;
}

static void options_are_taken_by_their_table(void **state)
{
    (void)state;
    CommandLine cl;
    Words w;
    Error err = {0};
    assert_int_equal(parse(&command, "verb a --topk 3 --pattern '*q' --weird* --full b", &cl, &w, &err), ST_USAGE);
    assert_int_equal(parse(&command, "verb a --topk=3 --pattern '*q' 'k v' --full b -- --c !", &cl, &w, &err), ST_OK);
    assert_int_equal(cl.nwords, 3);
    assert_string_equal(cl.words[0], "a");
    assert_string_equal(cl.words[1], "b");
    assert_string_equal(cl.words[2], "--c");
    assert_true(cl.bang);
    assert_int_equal(cl_int(&cl, "topk", 15), 3);
    assert_true(cl_given(&cl, "full"));
    assert_false(cl_given(&cl, "format"));
    assert_null(cl_str(&cl, "format"));
    int n;
    const char **list = cl_list(&cl, "pattern", &n);
    assert_int_equal(n, 2);
    assert_string_equal(list[0], "*q");
    assert_string_equal(list[1], "k v");
    assert_null(list[2]);
    free(list);
    cmdline_fini(&cl);
    words_fini(&w);

    /* '-' is '_', beginnings count, sizes have units, a quoted ! is a word, an empty list is a list */
    assert_int_equal(
        parse(&command, "verb --model-p /x --max_samples 4 --me 1.5K --pattern --text '' '!'", &cl, &w, &err), ST_OK);
    assert_string_equal(cl_str(&cl, "model_path"), "/x");
    assert_int_equal(cl_int(&cl, "max-samples", 0), 4);
    assert_int_equal(cl_size(&cl, "mem", 0), 1536);
    assert_string_equal(cl_str(&cl, "text"), "");
    assert_true(cl_given(&cl, "pattern"));
    assert_false(cl.bang);
    assert_string_equal(cl.words[0], "!");
    list = cl_list(&cl, "pattern", &n);
    assert_int_equal(n, 0);
    free(list);
    cmdline_fini(&cl);
    words_fini(&w);
}

static void wrong_options_say_what_is_right(void **state)
{
    (void)state;
    static const struct {
        const Command *c;
        const char *line, *text;
    } cases[] = {
        {&command, "verb --model x", "'--model' could be --model_path or --model_type: write more of it"},
        {&command, "verb --topkk 3", "'verb' has no option '--topkk': did you mean --topk?"},
        {&command, "verb --zzzzzzzz", "'verb' has no option '--zzzzzzzz': see 'help verb'"},
        {&command, "verb -q", "'verb' has no option '-q': see 'help verb'"},
        {&command, "verb --topk", "--topk needs a value: --topk N"},
        {&command, "verb --topk --full", "--topk needs a value: --topk N"},
        {&command, "verb --topk x", "--topk takes a whole number, not 'x'"},
        {&command, "verb --topk 1.5", "--topk takes a whole number, not '1.5'"},
        {&command, "verb --topk 99999999999999999999", "--topk takes a whole number, not '99999999999999999999'"},
        {&command, "verb --topk 1 --topk 2", "--topk is given twice"},
        {&command, "verb --format xml", "--format takes text|json, not 'xml'"},
        {&command, "verb --format ''", "--format takes text|json, not ''"},
        {&command, "verb --full=1", "--full takes no value"},
        {&command, "verb --mem 4X", "--mem: '4X' is no size: write 300M, 4G or a number of bytes"},
        {&command, "verb --mem 0", "--mem: '0' is no size that memory can have"},
        {&command, "verb --model_path ''", "--model_path is empty"},
        {&bare, "bare word", "'bare' takes no 'word'"},
        {&bare, "bare !", "'bare' takes no '!'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CommandLine cl;
        Words w;
        Error err = {0};
        assert_int_equal(parse(cases[i].c, cases[i].line, &cl, &w, &err), ST_USAGE);
        assert_string_equal(err.text, cases[i].text);
    }
}

static void sizes_have_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"1", 1},           {"300M", 300ull << 20}, {"4G", 4ull << 30},
                {"4g", 4ull << 30}, {"4GiB", 4ull << 30},   {"2TB", 2ull << 40},
                {"0.5k", 512},       {"4Gi", 4ull << 30},    {"7B", 7},
                {"3kB", 3072},      {"0", 0}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t v = 0;
        assert_true(setting_bytes(good[i].text, &v));
        assert_int_equal(v, good[i].bytes);
    }
    static const char *const bad[] = {"", "M", "-1", "4Q", "4MM", "4i", "1e30", "nan", "inf", " 4", "4 G"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t v;
        assert_false(setting_bytes(bad[i], &v));
    }
}

static void the_nearest_name_is_offered(void **state)
{
    (void)state;
    static const char *const names[] = {"analyze", "exclude", "export", "undo", NULL};
    assert_string_equal(nearest_name("anlyze", names), "analyze");
    assert_string_equal(nearest_name("exlude", names), "exclude");
    assert_string_equal(nearest_name("an", names), "analyze");
    assert_string_equal(nearest_name("unod", names), "undo");
    assert_null(nearest_name("frobnicate", names));
    assert_null(nearest_name("q", names));
}

static void usage_shows_every_option_once(void **state)
{
    (void)state;
    Str b = {0};
    command_usage(&command, &b);
    for (const Option *o = table; o->name; o++) {
        char flag[40] = "  --";
        strcat(flag, o->name);
        assert_non_null(strstr(str_text(&b), flag));
    }
    assert_ptr_equal(strstr(str_text(&b), "usage: verb [WORD...] [options] [!]"), str_text(&b));
    str_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_split_as_a_shell_splits_them),
        cmocka_unit_test(open_quotes_are_refused_with_their_column),
        cmocka_unit_test(a_line_being_typed_has_a_last_word),
        cmocka_unit_test(quoted_words_come_back),
        cmocka_unit_test(random_lines_split_or_are_refused),
        cmocka_unit_test(options_are_taken_by_their_table),
        cmocka_unit_test(wrong_options_say_what_is_right),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(the_nearest_name_is_offered),
        cmocka_unit_test(usage_shows_every_option_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
