#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "text/matcher.h"
#include "text/regex.h"
#include "text/unicode.h"

#define QWEN2                                                                                    \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define DEEPSEEK3                                                                                      \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|" \
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define KIMI                                                                        \
    "[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*" \
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+|\\p{N}{1,3}|\\s+"

/* Matches and the gaps between them, in brackets those that match. */
static void split(const char *pattern, const char *text, Str *out)
{
    Matcher *m = NULL;
    MatchScratch s = {0};
    Error err = {0};
    size_t len = strlen(text), at = 0, b, e;
    bool found = true;
    if (matcher_regex(&m, pattern, strlen(pattern), &err) != ST_OK)
        fail_msg("%s: %s", pattern, err.text);
    while (at < len) {
        assert_int_equal(matcher_find(m, &s, text, len, at, &b, &e, &found, &err), ST_OK);
        if (!found)
            break;
        str_append(out, text + at, b - at);
        str_putc(out, '[');
        str_append(out, text + b, e - b);
        str_putc(out, ']');
        at = e > b ? e : e + 1;
    }
    str_puts(out, text + at);
    match_scratch_free(&s);
    matcher_free(m);
}

static void patterns_split_as_measured(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text, *want;
    } rows[] = {
        {QWEN2, "it'S don'\xc5\xbft  x", "[it]['S][ don]['\xc5\xbf][t][ ][ x]"},
        {QWEN2, "a\n\n b   \t\r\n  c 12", "[a][\n\n][ b][   \t\r\n][ ][ c][ ][1][2]"},
        {DEEPSEEK3, "Hello, world!! abc #foo  bar", "[Hello][,][ world][!!][ abc][ #][foo][ ][ bar]"},
        {"[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+",
         "a\xe4\xb8\xad\xe6\x96\x87z", "a[\xe4\xb8\xad\xe6\x96\x87]z"},
        /* an intersection with a complement: PCRE2 alone would read this class wrongly, without a word */
        {KIMI, "abc\xe4\xb8\xad\xe6\x96\x87xyz\xe3\x81\x82", "[abc][\xe4\xb8\xad\xe6\x96\x87][xyz\xe3\x81\x82]"},
        {"[\\p{L}&&[^\\p{Han}]]+", "\xe4\xb8\xad" "a[b\xe4\xb8\xad", "\xe4\xb8\xad[a][[b]\xe4\xb8\xad"},
        {"[a-z&&[^m-p]&&[^x]]+", "lmnopqxyz", "[l]mnop[q]x[yz]"},
        {"[^a-z&&[^m-p]]+", "lmnq0", "l[mn]q[0]"}, /* the complement of the whole intersection */
        {"[a-c[x-z]]+", "abxcmz", "[abxc]m[z]"},
        {"[a[^\\s]]+", "a b\tc", "[a] [b]\t[c]"},
        {"[\\S\\n]+", "a b\nc", "[a] [b\nc]"},
        {"[^\\S\\n]+", "a \n\tb", "a[ ]\n[\t]b"},
        {"\\s", "\xe1\xa0\x8e\xe2\x80\x8b\x1c\xc2\xa0\xe3\x80\x80",
         "\xe1\xa0\x8e\xe2\x80\x8b\x1c[\xc2\xa0][\xe3\x80\x80]"},
        {"\\p{Lu}", "\xe1\xb2\x89", "[\xe1\xb2\x89]"},            /* U+1C89, a letter since Unicode 16 */
        {"\\P{L}", "\xe1\xb2\x89.", "\xe1\xb2\x89[.]"},
        {"[^\\p{L}]", "\xe1\xb2\x89.", "\xe1\xb2\x89[.]"},
        {"\\p{^L}\\pN", "a.7", "a[.7]"},
        {"\\p{Mn}", "\xe1\x9c\xb4\xcc\x81", "\xe1\x9c\xb4[\xcc\x81]"}, /* U+1734 is Mc now */
        {"\\p{Mc}", "\xe1\x9c\xb4\xcc\x81", "[\xe1\x9c\xb4]\xcc\x81"},
        {"\\p{Script=Han}+", "\xf0\xb1\x8d\x90\xe4\xb8\xad", "[\xf0\xb1\x8d\x90\xe4\xb8\xad]"}, /* U+31350 */
        {"\\p{S}", "$_|~-", "[$]_[|][~]-"},
        {"\\p{P}", "$_|~-", "$[_]|~[-]"},
        {"\\w+|\\d", "a_1\xc3\xa9 -", "[a_1\xc3\xa9] -"},
        {"\\W\\D", "a.b", "a[.b]"},
        {"(?i:'k)", "'\xe2\x84\xaa", "['\xe2\x84\xaa]"}, /* the Kelvin sign */
        {"\\s+(?!\\S)|\\s+", "a   b", "a[  ][ ]b"},
        {"x(?=y)|(y)(?:z)?", "xyzxx", "[x][yz]xx"},
        {"a{2}|b{1,}|c{,2}d|e{0,1}f", "aaabbccd ef", "[aa]a[bb][ccd] [ef]"},
        {"a{x}|{|}", "a{x}{}", "[a{x}][{][}]"},
        {"a++b?+c*+", "aabcc", "[aabcc]"},
        {"^a|b$", "aab\nab", "[a]a[b]\n[a][b]"},
        {".", "a\n\xe4\xb8\xad", "[a]\n[\xe4\xb8\xad]"},
        {"\\x41|\\x{4e2d}|\\u4e2e|\\t|\\/|\\-", "A\xe4\xb8\xad\xe4\xb8\xae\t/-",
         "[A][\xe4\xb8\xad][\xe4\xb8\xae][\t][/][-]"},
        {"[a\\-c\\]\\\\]", "b-]\\", "b[-][]][\\]"},
        {"[-a]|[b-]", "-ab", "[-][a][b]"},
        {"[\\s-x]", "- x", "[-][ ][x]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Str out = {0};
        split(rows[i].pattern, rows[i].text, &out);
        if (strcmp(str_text(&out), rows[i].want) != 0)
            fail_msg("%s on '%s': '%s', wanted '%s'", rows[i].pattern, rows[i].text, str_text(&out), rows[i].want);
        str_free(&out);
    }
}

static void unknown_constructs_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *say;
    } rows[] = {
        {"(?<=a)b", "look-behind '(?<='"},
        {"(?<!a)b", "look-behind '(?<!'"},
        {"(?>a)", "atomic group"},
        {"(?<n>a)", "named group"},
        {"(?P<n>a)", "named group"},
        {"(?i)a", "group option"},
        {"(*UCP)a", "verb"},
        {"(a)\\1", "back-reference"},
        {"a+?", "lazy quantifier at byte 2"},
        {"a{1,3}?", "lazy quantifier"},
        {"a{2}{3}", "a quantifier after a quantifier"},
        {"a{1,3}+", "a quantifier after a quantifier"},
        {"\\bword", "escape '\\b'"},
        {"\\Ra", "escape '\\R'"},
        {"\\p{Greek}", "property 'Greek'"},
        {"\\p{Cn}", "property 'Cn'"},
        {"[[:alpha:]]", "POSIX class"},
        {"[]a]", "empty class"},
        {"[a", "class that does not end"},
        {"(a", "group that does not end"},
        {"a)", "')' without a group"},
        {"[z-a]", "range whose end"},
        {"*a", "quantifier with nothing before it"},
        {"(?!a)*", "after an assertion"},
        {"a\\", "backslash at the end"},
        {"\\x{110000}", "hexadecimal"},
        {"\\xZZ", "hexadecimal"},
        {"\\p{L", "does not end"},
        {"\\p", "without a name"},
        {"a{5,2}", "bad repeat count"},
        {"a{1001}", "bad repeat count"},
        {"\xff", "not UTF-8"},
        {"[a&&]", "empty class"},
        {"\\ud800", "hexadecimal"},
        {"\\p{\xc3\xa9}", "property"},
        {"(?#x)", "comment"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Str out = {0};
        Error err = {0};
        Status st = regex_translate(rows[i].pattern, strlen(rows[i].pattern), 140, &out, &err);
        if (st != ST_DATA || !strstr(err.text, rows[i].say))
            fail_msg("%s: status %d, '%s', wanted '%s'", rows[i].pattern, st, err.text, rows[i].say);
        str_free(&out);
    }
}

static void nesting_has_an_end(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        Str deep = {0}, out = {0};
        Error err = {0};
        for (int i = 0; i < 20000; i++)
            str_puts(&deep, k ? "[a" : "(a");
        assert_int_equal(regex_translate(str_text(&deep), deep.len, 140, &out, &err), ST_DATA);
        assert_non_null(strstr(err.text, "nested too deeply"));
        str_free(&deep);
        str_free(&out);
    }
}

/* The default limits of PCRE2 end such searches early; the result would pass for "no match". */
static void long_pieces_match(void **state)
{
    (void)state;
    enum { N = 2000000 };
    static const char *const patterns[] = {"\\p{L}+", "(?:[a-z]|\\s)+", "[\\p{L}&&[^\\p{Han}]]+", "(?:a|b)*b"};
    char *text = malloc(N);
    assert_non_null(text);
    memset(text, 'b', N);
    for (int i = 0; i < 4; i++) {
        Matcher *m;
        MatchScratch s = {0};
        Error err = {0};
        size_t b, e;
        bool found;
        assert_int_equal(matcher_regex(&m, patterns[i], strlen(patterns[i]), &err), ST_OK);
        if (matcher_find(m, &s, text, N, 0, &b, &e, &found, &err) != ST_OK)
            fail_msg("%s: %s", patterns[i], err.text);
        assert_true(found);
        assert_int_equal(b, 0);
        assert_int_equal(e, N);
        match_scratch_free(&s);
        matcher_free(m);
    }
    free(text);
}

/* Whatever the translator lets through PCRE2 compiles, and a search ends. */
static void random_patterns_are_safe(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "a",    "b",   "\\s", "\\S", "\\p{L}", "\\P{Lu}",      "[",       "]", "[^", "&&",      "-",   "(",    ")",
        "(?:",  "|",   "*",   "+",   "?",      "{2}",          "{1,3}",   "{", "}",  ".",       "^",   "$",    "'",
        "(?i:", "(?!", "(?=", "\\",  "x",      "\xe4\xb8\xad", "\\x{41}", ",", "0",  "\\p{Mn}", "\\w", "[a-z]"};
    enum { PARTS = sizeof parts / sizeof parts[0] };
    static const char text[] = "ab  xa-\xe4\xb8\xad]0{,}\n^a'A";
    uint32_t seed = 11;
    int compiled = 0;
    for (int round = 0; round < 20000; round++) {
        Str p = {0};
        Matcher *m = NULL;
        MatchScratch s = {0};
        Error err = {0};
        size_t b, e;
        bool found = true;
        int n = 1 + round % 9;
        for (int i = 0; i < n; i++) {
            seed = seed * 1664525u + 1013904223u;
            str_puts(&p, parts[(seed >> 10) % PARTS]);
        }
        Status st = matcher_regex(&m, str_text(&p), p.len, &err);
        if (st == ST_OK) {
            compiled++;
            assert_int_equal(matcher_find(m, &s, text, sizeof text - 1, 0, &b, &e, &found, &err), ST_OK);
            assert_true(b <= e && e <= sizeof text - 1);
        } else if (st != ST_DATA || strncmp(err.text, "pattern: ", 9) != 0)
            fail_msg("'%s': %s", str_text(&p), err.text); /* refused by PCRE2: the translator should have */
        match_scratch_free(&s);
        matcher_free(m);
        str_free(&p);
    }
    assert_true(compiled > 4000);
}

/* A pattern that explodes is an error after bounded work. */
static void giving_up_is_an_error(void **state)
{
    (void)state;
    static const char pattern[] = "(?:(?:a+)+)+c";
    static const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab c";
    Matcher *m;
    MatchScratch s = {0};
    Error err = {0};
    size_t b, e;
    bool found;
    assert_int_equal(matcher_regex(&m, pattern, sizeof pattern - 1, &err), ST_OK);
    assert_int_equal(matcher_find(m, &s, text, sizeof text - 1, 0, &b, &e, &found, &err), ST_DATA);
    assert_non_null(strstr(err.text, "gave up"));
    match_scratch_free(&s);
    matcher_free(m);
}

static void categories_are_of_unicode_16(void **state)
{
    (void)state;
    assert_string_equal(unicode_category('A'), "Lu");
    assert_string_equal(unicode_category(0x1c89), "Lu");
    assert_string_equal(unicode_category(0x1c8a), "Ll");
    assert_string_equal(unicode_category(0x1734), "Mc");
    assert_string_equal(unicode_category(0x323b0), "Cn");
    for (size_t i = 1; i < unicode_delta_count; i++)
        assert_true(unicode_delta[i - 1].hi < unicode_delta[i].lo);
    assert_true(unicode_is_word(0x24b6) && unicode_is_word('_') && unicode_is_word(0x200d) && !unicode_is_word('-'));
}

/* As Python's decoder replaces: one U+FFFD for the longest beginning of a sequence. */
static void ill_formed_text_is_repaired(void **state)
{
    (void)state;
#define R "\xef\xbf\xbd"
    static const struct {
        const char *in, *want;
        size_t bad;
    } rows[] = {
        {"abc", "abc", 0},
        {"a\xff", "a" R, 1},
        {"\xe4\xb8x", R "x", 1},
        {"\xc0\x80", R R, 2},
        {"\xed\xa0\x80", R R R, 3},
        {"\xf0\x9f\x98", R, 1},
        {"\xf4\x90\x80\x80", R R R R, 4},
        {"12345678\xe4\xb8\xad\x80z", "12345678\xe4\xb8\xad" R "z", 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Str out = {0};
        assert_int_equal(utf8_repair(&out, rows[i].in, strlen(rows[i].in)), rows[i].bad);
        assert_string_equal(str_text(&out), rows[i].want);
        str_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_split_as_measured),  cmocka_unit_test(unknown_constructs_are_named),
        cmocka_unit_test(nesting_has_an_end),          cmocka_unit_test(long_pieces_match),
        cmocka_unit_test(giving_up_is_an_error),       cmocka_unit_test(categories_are_of_unicode_16),
        cmocka_unit_test(ill_formed_text_is_repaired), cmocka_unit_test(random_patterns_are_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
