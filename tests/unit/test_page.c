/* The session as a page: what it holds, and that names of any letters stay text. Its form is checked by tests/cli/report.sh. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "src/page.h"
#include "src/plot.h"
#include "src/reportdata.h"
#include "tests/lib/tempdir.h"

#define EVIL "a<b>&\"c'\x01"
#define SAFE "a&lt;b&gt;&amp;&quot;c&#39;?"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *s = strstr(text, what); s; s = strstr(s + 1, what))
        n++;
    return n;
}

static void text_is_escaped(void **state)
{
    (void)state;
    Str b = {0};
    page_text(&b, EVIL);
    assert_string_equal(str_text(&b), SAFE);
    str_free(&b);
    page_number(&b, 1.0 / 3);
    assert_string_equal(str_text(&b), "<data value=\"0.3333333333333333\">0.3333</data>");
    str_free(&b);
    page_number(&b, 0.0 / 0.0);
    assert_string_equal(str_text(&b), "");
    str_free(&b);
}

/* A session with everything a page shows: passes with histograms, loaded scores, two measurements, a rule. */
static Session *whole_session(const char *root)
{
    char here[4096], link[256];
    SessionOptions o;
    Session *s;
    session_options_default(&o);
    o.threads = 1;
    o.ctx = 8;
    assert_non_null(getcwd(here, sizeof here - 40));
    strcat(here, "/tests/golden/models/llama/fp32");
    snprintf(link, sizeof link, "%s", temp_path(root, EVIL));
    assert_int_equal(symlink(here, link), 0);
    temp_puts(temp_path(root, "texts.jsonl"), "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n{\"input_ids\":[9,8,7,6,5,4]}\n");
    temp_puts(temp_path(root, EVIL ".csv"), "model.layers.0.mlp.up_proj,3\nmodel.layers.1.mlp.up_proj,4\n");
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, link, NULL, &err));
    ok(session_set_calib(s, temp_path(root, "texts.jsonl"), &err));
    ok(session_set_eval(s, temp_path(root, "texts.jsonl"), &err));
    static const char *const names[] = {"kurtosis", "local_error", "block_error", NULL};
    ok(session_analyze(s, names, NULL, 0, true, &err));
    ok(session_wait(s, &err));
    ok(session_load_scores(s, temp_path(root, EVIL ".csv"), "other", NULL, &err));
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    static const char *const target[] = {"*.layers.1.mlp.down_proj"};
    ok(session_edit(s, target, 1, 0, false, NULL, &err));
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    ok(session_show(s, "kurtosis", &err));
    return s;
}

static void everything_is_on_it(void **state)
{
    (void)state;
    char *root = temp_folder();
    Session *s = whole_session(root);
    Str page = {0}, again = {0};
    ok(page_report(s, &page, &err));
    const char *t = str_text(&page);
    static const char *const parts[] = {
        "<h1>" SAFE "</h1>", "Loaded from " SAFE ".csv", "<h2>The decision</h2>", "*.layers.1.mlp.down_proj", "#1 (base)", "#2 (present)",
        "<h2>KL over size</h2>", "<path class=\"l\" d=\"M", "<path class=\"r\" d=\"M", "<h2>Where kurtosis is high</h2>", "<title>layer 1 mlp.down_proj: ", "<h2>kurtosis and ", "<h2>Plots of the worst</h2>",
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (!strstr(t, parts[i]))
            fail_msg("no '%s' in the page", parts[i]);
    assert_null(strstr(t, "<b>"));
    assert_int_equal(count(t, "class=\"c\""), 21); /* a cell for each linear */
    static const PlotKind of_each[] = {PLOT_INPUT, PLOT_GRID, PLOT_CHANNELS, PLOT_DEQUANT, PLOT_WROWS, PLOT_ERROR};
    for (size_t i = 0; i < sizeof of_each / sizeof *of_each; i++) {
        char head[120];
        snprintf(head, sizeof head, "<div><p>%s <span", plot_title(of_each[i]));
        assert_int_equal(count(t, head), 6);
    }
    assert_int_equal(count(t, "<circle"), 21 + 2 + (strstr(t, "class=\"h\"") != NULL));
    ok(page_report(s, &again, &err));
    assert_string_equal(t, str_text(&again));
    const char *keep = getenv("KEEP_PAGE");
    if (keep)
        temp_puts(keep, t);
    str_free(&page);
    str_free(&again);
    session_free(s);
    temp_remove(root);
}

/* The same in eighty columns, in each set of characters. */
static void text_has_it_too(void **state)
{
    (void)state;
    static const HistForm forms[] = {HIST_ASCII, HIST_BLOCK, HIST_BRAILLE};
    static const char *const parts[] = {
        "The decision, and what was measured", "#2 (present): KL ", "KL over size", "up: KL, nats a token, to the right: MiB", "Kurtosis",
        "Where kurtosis is high: layers 0 to 2", "mlp.down_proj ", " over kurtosis", "x is float now",
        "input activations: ", "of 256 codes; an int8 step", "outliers > 6 times the mean", "SQNR ", "groups by channels",
    };
    char *root = temp_folder();
    Session *s = whole_session(root);
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        Str text = {0};
        ok(report_text(s, (int)forms[f], &text, &err));
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            if (!strstr(str_text(&text), parts[i]))
                fail_msg("no '%s' in\n%s", parts[i], str_text(&text));
        int width = 0;
        for (const char *p = str_text(&text); *p; p++) {
            assert_true(forms[f] != HIST_ASCII || (unsigned char)*p < 127);
            width = *p == '\n' ? 0 : width + (((unsigned char)*p & 0xc0) != 0x80);
            if (width > 100)
                fail_msg("a line is too long: %.100s", p - 99);
        }
        str_free(&text);
    }
    session_free(s);
    temp_remove(root);
}

/* Before anything was found. */
static void an_empty_session(void **state)
{
    (void)state;
    SessionOptions o;
    Session *s;
    Str page = {0};
    session_options_default(&o);
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, "tests/golden/models/qwen3_moe/fp32", NULL, &err));
    ok(page_report(s, &page, &err));
    assert_non_null(strstr(str_text(&page), "Nothing is measured yet."));
    assert_null(strstr(str_text(&page), "<svg"));
    str_free(&page);
    session_free(s);
}

int main(void)
{
    if (!setlocale(LC_ALL, "C.UTF-8"))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_escaped),
        cmocka_unit_test(everything_is_on_it),
        cmocka_unit_test(text_has_it_too),
        cmocka_unit_test(an_empty_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
