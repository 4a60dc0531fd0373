#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "evaluate/precheck.h"

/* Prechecks of a model's answers: the original's rules as its classes were seen to apply them, and ours. */

static int fired(const char *text, unsigned items, bool peer)
{
    Error e = {0};
    int out = 99;
    assert_int_equal(precheck_garbled(text, strlen(text), items, peer, &out, &e), ST_OK);
    return out;
}

static const char english[] =
    "The capital of France is Paris. It lies on the Seine, and about two million people live there. If you count the "
    "suburbs, there are more than ten million.";
static const char chinese[] = "你好！我是一个人工智能助手，可以回答问题、写文章、翻译文字，也可以陪你聊天。请告诉我你今"
                              "天想做些什么，我会尽力帮助你。";
static const char code[] =
    "```c\nfor (int i = 0; i < n; i++) {\n    sum += a[i] * b[i];\n    if (sum > 1e9)\n        return -1;\n}\n"
    "free(a);\nreturn sum / n;\n```";
static const char list[] = "1. apples\n2. pears\n3. plums\n4. cherries\n5. grapes\n6. lemons\n7. oranges\n8. figs\n";
static const char hindi[] = "भारत की राजधानी नई दिल्ली है। यह यमुना नदी के किनारे बसी हुई है और बहुत पुरानी है।";

static void test_peer_rules(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        GarbledItem item;
        bool fires;
    } cases[] = {
        {"", GARBLED_EMPTY_TEXT, true},
        {" \n\t\xe3\x80\x80", GARBLED_EMPTY_TEXT, true}, /* the ideographic space is one, too */
        {"a", GARBLED_EMPTY_TEXT, false},
        {"hello", GARBLED_REPEATED_CHAR, true}, /* 2 > 0.3 * 5 */
        {"helo", GARBLED_REPEATED_CHAR, false}, /* runs of one count nothing */
        {"a", GARBLED_REPEATED_CHAR, false},
        {"hello wo", GARBLED_REPEATED_CHAR, false}, /* 2 < 0.3 * 8 */
        {"aab", GARBLED_REPEATED_CHAR, true},
        {"你你好", GARBLED_REPEATED_CHAR, true}, /* characters, not bytes */
        {"你好啊朋友们", GARBLED_REPEATED_CHAR, false},
        {"$$%%^^", GARBLED_NORMAL_CHAR_RATIO, true},
        {"ab$%", GARBLED_NORMAL_CHAR_RATIO, false}, /* 0.5 is not below 0.5 */
        {"ab$%^", GARBLED_NORMAL_CHAR_RATIO, true},
        {"你好，世界！$%^&", GARBLED_NORMAL_CHAR_RATIO, false},
        {"\xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82", GARBLED_NORMAL_CHAR_RATIO, false}, /* any script */
        {"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
         "ab",
         GARBLED_NORMAL_CHAR_RATIO, true}, /* U+FFFD */
        {"\xff\xfe\xfd"
         "ab",
         GARBLED_NORMAL_CHAR_RATIO, true}, /* bytes that are no UTF-8 */
        {"a\001bcdefgh", GARBLED_CONTROL_CHAR, true},
        {"a\001bcdefghi", GARBLED_CONTROL_CHAR, false}, /* 1 is not above 0.1 * 10 */
        {"a\n\r\tb", GARBLED_CONTROL_CHAR, false},
        {"ababab", GARBLED_REPEATED_PATTERN, false},      /* no length from 2 to 1 */
        {"ababababa", GARBLED_REPEATED_PATTERN, true},    /* L = 2, four times, 8 of 9 */
        {"xababababab", GARBLED_REPEATED_PATTERN, false}, /* only what the text begins with */
        {"你好你好你好你好你好", GARBLED_REPEATED_PATTERN, true},
        {"abcabcabcxyzuvw", GARBLED_REPEATED_PATTERN, true},       /* 9 of 15 */
        {"abcabcabcxyzuvwrstpq", GARBLED_REPEATED_PATTERN, false}, /* 9 of 20 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int got = fired(cases[i].text, 1u << cases[i].item, true);
        if (got != (cases[i].fires ? (int)cases[i].item : -1))
            fail_msg("%s of '%s': %d", garbled_names[cases[i].item], cases[i].text, got);
    }
}

/* By default what the original takes for garbage is none, and what slips through it is. */
static void test_default_rules(void **state)
{
    (void)state;
    static const char *const good[] = {"hello",
                                       "4",
                                       "aab",
                                       "1 + 1 = 2",
                                       "!!!",
                                       english,
                                       chinese,
                                       code,
                                       list,
                                       hindi,
                                       "(a+b)*(c+d)/(e-f) <= 2*x^2 + 3*y^2 = 17",
                                       "\xf0\x9f\x98\x80 sure"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (fired(good[i], GARBLED_ALL, false) >= 0)
            fail_msg("'%s': %s", good[i], garbled_names[fired(good[i], GARBLED_ALL, false)]);
    static const struct {
        const char *text;
        GarbledItem item;
    } bad[] = {
        {"", GARBLED_EMPTY_TEXT},
        {"  \n ", GARBLED_EMPTY_TEXT},
        {"!!!!!!!!!!!!!!!!!!!!!!!!!", GARBLED_REPEATED_CHAR}, /* what NaN logits give */
        {"好的好的好的好的好的好的好的好的好的好的", GARBLED_REPEATED_PATTERN},
        {"Sure, here it is: the the the the the the the the the the the", GARBLED_REPEATED_PATTERN},
        {"\xef\xbf\xbd\xef\xbf\xbe\xef\xbf\xbd\xee\x80\x80\xef\xbf\xbd\xee\x80\x81\xef\xbf\xbd\xee\x80\x82\xef\xbf\xbd"
         "abc\xef\xbf\xbd\xee\x80\x83\xef\xbf\xbd\xee\x80\x84\xef\xbf\xbd\xee\x80\x85\xef\xbf\xbd\xee\x80\x86"
         "de",
         GARBLED_NORMAL_CHAR_RATIO},
        {"\001\002 ok", GARBLED_CONTROL_CHAR},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (fired(bad[i].text, GARBLED_ALL, false) != (int)bad[i].item)
            fail_msg("'%s': %d", bad[i].text, fired(bad[i].text, GARBLED_ALL, false));
}

/* A sentence in a loop; three words in no order, which have no period, yet few trigrams. A list of one word is none. */
static void test_loops(void **state)
{
    (void)state;
    static const char *const words[] = {"the ", "of ", "and "};
    Str loop = {0}, babble = {0}, apples = {0}, prose = {0};
    unsigned random = 1;
    for (int i = 0; i < 40; i++) {
        str_puts(&loop, "I am not sure what you mean, could you please tell me more about it? ");
        str_printf(&apples, "%d. apples\n", i);
        str_puts(&prose, i % 2 ? english : chinese);
        for (int k = 0; k < 4; k++, random = random * 1664525u + 1013904223u)
            str_puts(&babble, words[(random >> 20) % 3]);
    }
    assert_int_equal(fired(loop.s, GARBLED_ALL, false), GARBLED_REPEATED_PATTERN);
    assert_int_equal(fired(babble.s, GARBLED_ALL, false), GARBLED_REPEATED_PATTERN);
    assert_int_equal(fired(apples.s, GARBLED_ALL, false), -1);
    prose.s[600] = '\0'; /* several texts, each once or twice */
    assert_int_equal(fired(prose.s, GARBLED_ALL, false), -1);
    str_free(&loop);
    str_free(&babble);
    str_free(&apples);
    str_free(&prose);
}

static void test_items(void **state)
{
    (void)state;
    assert_int_equal(fired("", 1u << GARBLED_REPEATED_CHAR, false), -1);
    assert_int_equal(fired("hello", GARBLED_ALL, true), GARBLED_REPEATED_CHAR);
    assert_int_equal(fired("hello", GARBLED_ALL & ~(1u << GARBLED_REPEATED_CHAR), true), -1);
    assert_string_equal(garbled_names[GARBLED_REPEATED_PATTERN], "repeated_pattern");
    assert_null(garbled_names[GARBLED_ITEMS]);
}

static bool found(const char *reply, const char *a, const char *b)
{
    Error e = {0};
    const char *const texts[] = {a, b};
    bool out = false;
    assert_int_equal(precheck_expected(reply, texts, b ? 2 : a ? 1 : 0, &out, &e), ST_OK);
    return out;
}

static void test_expected(void **state)
{
    (void)state;
    assert_true(found("2 + 2 is 4.", "4", NULL));
    assert_false(found("2 + 2 is five.", "4", NULL));
    assert_true(found("It is PARIS, of course", "paris", NULL));
    assert_true(found("it is paris", "Rome", "Paris"));
    assert_true(found("МОСКВА", "москва", NULL));
    assert_true(found("答案是四。", "四", NULL));
    assert_false(found("答案是五。", "四", "肆"));
    assert_true(found("whatever", "", NULL)); /* an empty one is skipped */
    assert_false(found("whatever", "", "4"));
    assert_true(found("whatever", NULL, NULL));
    assert_false(found("", "4", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peer_rules), cmocka_unit_test(test_default_rules), cmocka_unit_test(test_loops),
        cmocka_unit_test(test_items),      cmocka_unit_test(test_expected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
