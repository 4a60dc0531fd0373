/* Tables of the workbench's words: in order, with the conversions of the English format, and chosen by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/phrase.h"
#include "base/str.h"
#include "src/lang.h"

/* The conversions of a format one behind the other: "%.2f" and "%lld" stay as they are written. */
static void conversions(const char *fmt, Str *out)
{
    for (const char *p = strchr(fmt, '%'); p; p = strchr(p, '%')) {
        size_t n = 1 + strspn(p + 1, "-+ #0123456789.*hlzj");
        if (p[n] != '%')
            str_append(out, p, n + 1);
        str_putc(out, ' ');
        p += n + (p[n] != 0);
    }
}

static void same_conversions(const LangText *t)
{
    Str en = {0}, to = {0};
    conversions(t->en, &en);
    conversions(t->to, &to);
    if (strcmp(str_text(&en), str_text(&to)) != 0)
        fail_msg("'%s' and '%s' print other things", t->en, t->to);
    str_free(&en);
    str_free(&to);
}

/* In order through all tables of a language, so that no text stands in two of them; and each is found. */
static void tables_are_in_order_and_keep_the_conversions(void **state)
{
    (void)state;
    Error err = {0};
    for (int l = 0; lang_table[l]; l++) {
        const char *before = "";
        assert_int_equal(lang_choose(lang_table[l]->name, &err), ST_OK);
        for (int i = 0; lang_table[l]->tables[i]; i++)
            for (const LangText *t = lang_table[l]->tables[i]; t->en; before = t++->en) {
                char copy[400];
                if (strcmp(before, t->en) >= 0)
                    fail_msg("'%s' stands before '%s'", before, t->en);
                same_conversions(t);
                assert_string_equal(tr(t->en), t->to);
                assert_true(*t->to);
                snprintf(copy, sizeof copy, "%s", t->to);
                assert_int_equal(text_fit_terminal(copy, strlen(copy), true), strlen(t->to));
                assert_string_equal(copy, t->to);
            }
    }
    assert_int_equal(lang_choose("en", &err), ST_OK);
}

static void languages_are_chosen(void **state)
{
    (void)state;
    Error err = {0};
    assert_string_equal(tr("Export"), "Export");
    assert_int_equal(lang_choose("zh", &err), ST_OK);
    assert_string_equal(lang_name(), "zh");
    assert_string_equal(tr("Export"), "导出");
    assert_string_equal(tr("no table has this"), "no table has this");
    char text[64];
    assert_int_equal(text_format(text, sizeof text, "size %s", "3 MiB"), strlen("大小 3 MiB"));
    assert_string_equal(text, "大小 3 MiB");
    assert_int_equal(lang_choose("tlh", &err), ST_USAGE);
    assert_non_null(strstr(err.text, "there is no language 'tlh': lang is auto, en, zh"));
    assert_string_equal(lang_name(), "zh");
    static const struct {
        const char *all, *messages, *lang, *name;
    } rows[] = {{NULL, NULL, NULL, "en"},           {NULL, NULL, "zh_CN.UTF-8", "zh"}, {"C.UTF-8", NULL, "zh_CN.UTF-8", "en"},
                {"", "zh_TW", "en_US.UTF-8", "zh"}, {NULL, NULL, "zhuang", "en"},      {NULL, NULL, "zh", "zh"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static const char *const names[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
        const char *const values[] = {rows[i].all, rows[i].messages, rows[i].lang};
        for (int k = 0; k < 3; k++)
            values[k] ? setenv(names[k], values[k], 1) : unsetenv(names[k]);
        assert_int_equal(lang_choose("auto", &err), ST_OK);
        assert_string_equal(lang_name(), rows[i].name);
    }
    assert_int_equal(lang_choose("en", &err), ST_OK);
    assert_string_equal(tr("Export"), "Export");
}

static void says(const Phrase *p, const char *language, const char *want)
{
    char out[400];
    assert_int_equal(lang_choose(language, NULL), ST_OK);
    phrase_say(p, tr, out, sizeof out);
    assert_string_equal(out, want);
    assert_int_equal(lang_choose("en", NULL), ST_OK);
}

/* What was said in English is said in another language afterwards, numbers and names as they were printed. */
static void phrases_are_said_in_both(void **state)
{
    (void)state;
    Phrase p, q;
    phrase_set(&p, "perplexity %+.2f %%", -1.25);
    phrase_add(&p, ", %+.2f %% +-%.2f %% against #%d: %s", 3.0, 0.5, 7, "the same");
    assert_string_equal(p.text, "perplexity -1.25 %, +3.00 % +-0.50 % against #7: the same");
    says(&p, "en", p.text);
    says(&p, "zh", "困惑度 -1.25 %，相对 +3.00 % +-0.50 %（对 #7）：相同");
    phrase_set(&q, "%s ", "S1c");
    phrase_join(&q, &p);
    says(&q, "zh", "S1c 困惑度 -1.25 %，相对 +3.00 % +-0.50 %（对 #7）：相同");
    says(&q, "en", "S1c perplexity -1.25 %, +3.00 % +-0.50 % against #7: the same");
    phrase_set(&p, "%.4s|%lld|%5.1f|%c|%zu|%s", "cut off", 1LL << 40, 2.25, 'x', sizeof(int), "");
    assert_string_equal(p.text, "cut |1099511627776|  2.2|x|4|");
    phrase_set(&p, "no conversions: 100 %%");
    assert_string_equal(p.text, "no conversions: 100 %");
    phrase_set(&p, "%s", "");
    assert_true(p.parts == 1 && !p.text[0]);
}

/* What is too long is cut, at both ends of a joint, and stays a string. */
/* A line of the log by its template, with what stands in it; others stay, and so does English. */
static void lines_of_the_log_are_said_in_both(void **state)
{
    (void)state;
    static const char line[] = "iter_smooth: '*.gate_prj' in exclude matches no sub-graph: they go by their norm or linear, such as "
                               "'model.layers.0.input_layernorm', and by what reads it";
    static const char other[] = "kv_smooth: '*foo' in include matches no attention, such as 'model.layers.0.self_attn'";
    char buf[600], small[8];
    assert_int_equal(lang_choose("en", NULL), ST_OK);
    assert_ptr_equal(tr_line(line, buf, sizeof buf), line);
    assert_int_equal(lang_choose("zh", NULL), ST_OK);
    assert_string_equal(tr_line(line, buf, sizeof buf), "iter_smooth：'*.gate_prj'（exclude）没有匹配任何子图：子图以其归一化或线性层的名字（如 "
                                                        "'model.layers.0.input_layernorm'）以及读取它的层为名");
    assert_string_equal(tr_line(other, buf, sizeof buf), "kv_smooth：'*foo'（include）没有匹配任何 attention，例如 'model.layers.0.self_attn'");
    assert_string_equal(tr_line("smooth_quant: this model has no sub-graph of type ov", buf, sizeof buf),
                        "smooth_quant：此模型没有 ov 类型的子图");
    assert_ptr_equal(tr_line(line, small, sizeof small), line);
    static const char *const same[] = {"", "%s", "smooth_quant: this model has no", "x: this model has no sub-graph of type ",
                                       "a session of last week"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        assert_ptr_equal(tr_line(same[i], buf, sizeof buf), same[i]);
    for (const LangText *t = lang_zh.lines; t->en; t++)
        same_conversions(t);
    assert_int_equal(lang_choose("en", NULL), ST_OK);
}

static void long_phrases_are_cut(void **state)
{
    (void)state;
    char much[2000], out[16];
    memset(much, 'x', sizeof much - 1);
    much[sizeof much - 1] = '\0';
    Phrase p, q;
    phrase_set(&p, "%s and %s", much, much);
    assert_int_equal(strlen(p.text), PHRASE_MAX - 1);
    q = p;
    for (int i = 0; i < PHRASE_PARTS + 2; i++)
        phrase_join(&q, &p);
    assert_int_equal(q.parts, PHRASE_PARTS);
    assert_int_equal(strlen(q.text), PHRASE_MAX - 1);
    phrase_add(&q, "%d", 1);
    phrase_say(&q, tr, out, sizeof out);
    assert_int_equal(strlen(out), sizeof out - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_in_order_and_keep_the_conversions),
        cmocka_unit_test(languages_are_chosen),
        cmocka_unit_test(phrases_are_said_in_both),
        cmocka_unit_test(long_phrases_are_cut),
        cmocka_unit_test(lines_of_the_log_are_said_in_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
