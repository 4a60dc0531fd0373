#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/map.h"
#include "text/calib.h"
#include "text/unicode.h"

static const struct {
    const char *path;
    int texts, min_words, max_words, words; /* at least, per text, altogether */
    const char *field;                      /* every line begins with it; NULL: a .json list */
} sets[] = {
    {"lab_calib/boolq.jsonl", 20, 90, 250, 2000, "{\"inputs_pretokenized\":"},
    {"lab_calib/mix_calib.jsonl", 32, 60, 400, 3000, "{\"inputs_pretokenized\":"},
    {"lab_calib/short_prompts.json", 12, 4, 60, 100, NULL},
    {"lab_calib/eval.jsonl", 6, 300, 2000, 5000, "{\"text\":"},
    {"lab_calib/laos_calib.jsonl", 16, 60, 120, 1200, "{\"inputs_pretokenized\":"},
};
enum { SETS = sizeof sets / sizeof sets[0] };

static CalibFile *open_set(int k)
{
    CalibFile *c = NULL;
    Error err = {0};
    if (calib_open(&c, sets[k].path, false, NULL, &err) != ST_OK)
        fail_msg("%s", err.text);
    return c;
}

/* Words between white space; each ideograph is one. */
static int count_words(const char *s, bool ideographs)
{
    int words = 0, len;
    bool inside = false;
    for (; *s; s += len) {
        uint32_t cp = utf8_next(s, &len);
        bool han = ideographs && cp >= 0x4e00 && cp <= 0x9fff;
        bool space = unicode_is_space(cp) || han;
        words += han || (inside && space);
        inside = !space;
    }
    return words + inside;
}

static void sizes_are_as_promised(void **state)
{
    (void)state;
    int texts = 0, words = 0;
    for (int k = 0; k < SETS; k++) {
        CalibFile *c = open_set(k);
        int here = 0;
        assert_true(c->count >= sets[k].texts);
        assert_int_equal(c->skipped_blank + c->bad_utf8, 0);
        for (int i = 0; i < c->count; i++) {
            int n = count_words(c->items[i].text, true);
            if (n < sets[k].min_words || n > sets[k].max_words)
                fail_msg("%s:%d: %d words", sets[k].path, c->items[i].line, n);
            here += count_words(c->items[i].text, false);
        }
        assert_true(here >= sets[k].words);
        texts += c->count;
        words += here;
        calib_free(c);
    }
    assert_true(texts >= 64);
    assert_true(words >= 10000);
}

static void fields_are_the_guides(void **state)
{
    (void)state;
    for (int k = 0; k < SETS; k++) {
        FILE *f = fopen(sets[k].path, "r");
        char line[1 << 16];
        assert_non_null(f);
        while (sets[k].field && fgets(line, sizeof line, f))
            assert_int_equal(strncmp(line, sets[k].field, strlen(sets[k].field)), 0);
        fclose(f);
    }
}

/* No eight words in a row stand twice anywhere: nothing is padded, nothing lies in two sets. */
static void nothing_is_repeated(void **state)
{
    (void)state;
    enum { RUN = 8 };
    CalibFile *c[SETS];
    Map seen = {0};
    for (int k = 0; k < SETS; k++) {
        c[k] = open_set(k);
        for (int i = 0; i < c[k]->count; i++) {
            const char *at[RUN] = {0}, *s = c[k]->items[i].text;
            for (int w = 0;; w++) {
                s += strspn(s, " \n\t");
                if (!*s)
                    break;
                at[w % RUN] = s;
                s += strcspn(s, " \n\t");
                const char *start = w >= RUN - 1 ? at[(w + 1) % RUN] : NULL;
                bool added = true;
                if (start)
                    assert_true(map_add(&seen, start, (size_t)(s - start), i, &added));
                if (!added)
                    fail_msg("%s:%d: '%.*s' stands twice", sets[k].path, c[k]->items[i].line, (int)(s - start), start);
            }
        }
    }
    assert_true(seen.count > 8000);
    map_free(&seen);
    for (int k = 0; k < SETS; k++)
        calib_free(c[k]);
}

static void languages_and_kinds_vary(void **state)
{
    (void)state;
    CalibFile *c = open_set(1);
    int chinese = 0, code = 0, dialogue = 0, ascii = 0;
    for (int i = 0; i < c->count; i++) {
        const char *s = c->items[i].text;
        int han = count_words(s, true) - count_words(s, false);
        chinese += han > 50;
        code += strstr(s, "return ") || strstr(s, "SELECT");
        dialogue += strncmp(s, "\"", 1) == 0 || strncmp(s, "User:", 5) == 0;
        ascii += han == 0;
    }
    assert_true(chinese >= 4);
    assert_true(code >= 4);
    assert_true(dialogue >= 2);
    assert_true(ascii >= 20);
    calib_free(c);
}

static void eval_gives_many_windows(void **state)
{
    (void)state;
    Tokenizer *tok;
    CalibFile *c = open_set(3);
    TokenSet *t;
    Error err = {0};
    assert_int_equal(tokenizer_open(&tok, "lab_models/demo", &err), ST_OK);
    assert_int_equal(tokens_windows(&t, c, tok, 512, 0, 4096, NULL, &err), ST_OK);
    int full = 0;
    for (int i = 0; i < t->samples; i++)
        full += t->start[i + 1] - t->start[i] == 512;
    assert_true(full >= 7);
    assert_true(t->start[t->samples] >= 6000);
    tokens_free(t);
    assert_int_equal(tokens_windows(&t, c, tok, 512, 1024, 4096, NULL, &err), ST_OK);
    assert_int_equal(t->start[t->samples], 1024);
    tokens_free(t);
    calib_free(c);
    tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_as_promised),    cmocka_unit_test(fields_are_the_guides),
        cmocka_unit_test(nothing_is_repeated),      cmocka_unit_test(languages_and_kinds_vary),
        cmocka_unit_test(eval_gives_many_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
