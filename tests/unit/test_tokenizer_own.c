/* Pre-tokenizers in any order, and tokenizers without tokenizer.json: ids as the libraries of
 * tests/golden/tokenizers_own/README.md give them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "base/str.h"
#include "io/json.h"
#include "tests/lib/fake_model.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/token_golden.h"
#include "text/bpe.h"
#include "text/tokenizer.h"

#define OWN "tests/golden/tokenizers_own/"

/* ---- pre-tokenizers ---- */

static Tokenizer *open_case(const cJSON *model, const cJSON *one)
{
    char *dir = temp_folder(), *m = cJSON_PrintUnformatted(model);
    char *pre = cJSON_PrintUnformatted(cJSON_GetObjectItem(one, "pre_tokenizer"));
    Str json = {0};
    str_printf(&json, "{\"pre_tokenizer\":%s,\"model\":%s}", pre, m);
    const char *path = temp_path(dir, "tokenizer.json");
    temp_puts(path, str_text(&json));
    Tokenizer *t;
    Error err = {0};
    if (tokenizer_open(&t, path, &err) != ST_OK)
        fail_msg("%s", err.text);
    temp_remove(dir);
    free(m);
    free(pre);
    str_free(&json);
    return t;
}

static void check_case(const Tokenizer *t, const char *name, const char *text, const cJSON *want)
{
    int32_t *ids;
    size_t n, i = 0;
    Error err = {0};
    const cJSON *e;
    if (tokenizer_encode(t, text, strlen(text), true, NULL, &ids, &n, &err) != ST_OK)
        fail_msg("%s: %s", name, err.text);
    cJSON_ArrayForEach(e, want) {
        if (i >= n || ids[i] != e->valueint)
            fail_msg("%s: '%s': id %zu is %d, wanted %d", name, text, i, i < n ? (int)ids[i] : -1, e->valueint);
        i++;
    }
    if (i != n)
        fail_msg("%s: '%s': %zu ids, wanted %zu", name, text, n, i);
    free(ids);
}

static void pre_tokenizers_in_any_order(void **state)
{
    (void)state;
    cJSON *root, *set, *one;
    Error err = {0};
    assert_int_equal(json_parse_file(OWN "pretok.json", 1 << 20, &root, &err), ST_OK);
    const cJSON *texts = cJSON_GetObjectItem(root, "texts");
    int cases = 0;
    cJSON_ArrayForEach(set, cJSON_GetObjectItem(root, "sets")) {
        cJSON_ArrayForEach(one, cJSON_GetObjectItem(set, "cases")) {
            Tokenizer *t = open_case(cJSON_GetObjectItem(set, "model"), one);
            const cJSON *text = texts->child, *want = cJSON_GetObjectItem(one, "ids")->child;
            for (; text; text = text->next, want = want->next)
                check_case(t, cJSON_GetObjectItem(one, "name")->valuestring, text->valuestring, want);
            tokenizer_free(t);
            cases++;
        }
    }
    assert_int_equal(cases, 23);
    cJSON_Delete(root);
}

/* ---- files in place of tokenizer.json ---- */

static void golden_folder(void **state)
{
    char folder[128], golden[160];
    snprintf(folder, sizeof folder, OWN "%s", (const char *)*state);
    snprintf(golden, sizeof golden, "%s/golden.json", folder);
    token_golden(folder, golden);
}

/* The rule itself, at its slowest: of all neighbours the concatenation with the lowest rank, the leftmost of equals. */
static size_t slow_ranks(const Bpe *b, const char *text, size_t len, int32_t *ids)
{
    size_t at[64], n = len;
    for (size_t i = 0; i <= len; i++)
        at[i] = i;
    int32_t whole = (int32_t)map_get(&b->names, text, len, -1);
    if (whole >= 0) {
        ids[0] = whole;
        return 1;
    }
    for (;;) {
        int64_t best = INT64_MAX;
        size_t where = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            int64_t r = map_get(&b->names, text + at[i], at[i + 2] - at[i], INT64_MAX);
            if (r < best) {
                best = r;
                where = i;
            }
        }
        if (best == INT64_MAX)
            break;
        memmove(&at[where + 1], &at[where + 2], (n - where - 1) * sizeof *at);
        n--;
    }
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)map_get(&b->names, text + at[i], at[i + 1] - at[i], -1);
    return n;
}

static void ranks_agree_with_a_slow_one(void **state)
{
    (void)state;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned long long seed = 11;
    Str file = {0};
    int rank = 0;
    for (int i = 0; i < 256; i++)
        str_printf(&file, "%c%c== %d\n", digits[i >> 2], digits[(i & 3) << 4], rank++);
    for (int i = 0; i < 60; i++) { /* three bytes out of a, b, c */
        unsigned v = 0;
        for (int k = 0; k < 3; k++)
            v = v << 8 | ('a' + fake_random(&seed) % 3);
        char line[5] = {digits[v >> 18 & 63], digits[v >> 12 & 63], digits[v >> 6 & 63], digits[v & 63], 0};
        if (!strstr(str_text(&file), line))
            str_printf(&file, "%s %d\n", line, rank++);
        if (i % 6 == 0) { /* and two of them */
            snprintf(line, sizeof line, "%c%c%c=", digits[v >> 18 & 63], digits[v >> 12 & 63], digits[v >> 6 & 60]);
            if (!strstr(str_text(&file), line))
                str_printf(&file, "%s %d\n", line, rank++);
        }
    }
    Bpe *b;
    Error err = {0};
    if (bpe_from_ranks(&b, str_text(&file), file.len, &err) != ST_OK)
        fail_msg("%s", err.text);
    BpeScratch s = {.no_cache = true};
    for (int round = 0; round < 4000; round++) {
        char text[64];
        int32_t want[64];
        size_t len = 1 + fake_random(&seed) % 60;
        IdList got = {0};
        for (size_t i = 0; i < len; i++)
            text[i] = (char)('a' + fake_random(&seed) % 3);
        assert_int_equal(bpe_encode(b, &s, text, len, &got, &err), ST_OK);
        assert_int_equal(got.n, slow_ranks(b, text, len, want));
        assert_memory_equal(got.id, want, got.n * sizeof *want);
        free(got.id);
    }
    bpe_scratch_free(&s);
    bpe_free(b);
    str_free(&file);
}

static void bad_rank_files_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *say;
    } rows[] = {
        {"", "byte 0x00 has no token"},
        {"AA== 0\n", "byte 0x01 has no token"},
        {"AA== 0\nAA== 1\n", "line 2: the token stands twice"},
        {"AA== 0\r\n\r\nAQ== 0\r\n", "line 3: rank 0 stands twice"},
        {"AA==\n", "line 1 is no token"},
        {"AA== \n", "line 1 is no token"},
        {" 1\n", "line 1 is no token"},
        {"A=== 1\n", "line 1 is no token"},
        {"=A== 1\n", "line 1 is no token"},
        {"AAA 1\n", "line 1 is no token"},
        {"A!== 1\n", "line 1 is no token"},
        {"AA== x\n", "line 1: no rank"},
        {"AA== -1\n", "line 1: no rank"},
        {"AA== 99999999999999999999\n", "line 1: no rank"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Bpe *b;
        Error err = {0};
        Status st = bpe_from_ranks(&b, rows[i].text, strlen(rows[i].text), &err);
        if (st != ST_DATA || !strstr(err.text, rows[i].say))
            fail_msg("'%s': status %d, '%s', wanted '%s'", rows[i].text, st, err.text, rows[i].say);
    }
    Str line = {0};
    for (int i = 0; i < 200; i++)
        str_puts(&line, "AAAA");
    str_puts(&line, " 7\n");
    Bpe *b;
    Error err = {0};
    assert_int_equal(bpe_from_ranks(&b, line.s, line.len, &err), ST_DATA);
    assert_non_null(strstr(err.text, "a token of more than"));
    str_free(&line);
}

static void folders_are_refused_in_one_line(void **state)
{
    (void)state;
    static const struct {
        const char *name[4], *text[4];
        const char *say;
    } rows[] = {
        {{"tokenizer.model"}, {"x"}, "tokenizer.model alone is not supported"},
        {{"vocab.json"}, {"{}"}, "one is missing"},
        {{"merges.txt"}, {"a b"}, "one is missing"},
        {{"vocab.json", "merges.txt"}, {"{", ""}, "vocab.json"},
        {{"vocab.json", "merges.txt"}, {"{\"a\":0}", "#version: 0.2\na\n"}, "merges.txt:2 is no pair"},
        {{"vocab.json", "merges.txt"}, {"{\"a\":0}", "a b\n"}, "'b' is not in the vocabulary"},
        {{"vocab.json", "merges.txt", "tokenizer_config.json"},
         {"{\"a\":0}", "", "{\"tokenizer_class\":\"CLIPTokenizer\"}"},
         "tokenizer_class 'CLIPTokenizer'"},
        {{"vocab.json", "merges.txt", "tokenizer_config.json"},
         {"{\"a\":0}", "", "{\"add_prefix_space\":true}"},
         "'add_prefix_space' is not supported"},
        {{"vocab.json", "merges.txt", "tokenizer_config.json"},
         {"{\"a\":0}", "", "{\"added_tokens_decoder\":{\"x\":{}}}"},
         "'x' is no id"},
        {{"vocab.json", "merges.txt", "added_tokens.json"}, {"{\"a\":0}", "", "{\"<t>\":-1}"}, "'<t>' has no id"},
        {{"vocab.json", "merges.txt", "added_tokens.json"},
         {"{\"a\":0}", "", "[]"},
         "added_tokens.json: no JSON object"},
        {{"tiktoken.model"}, {"AA== 0\nxx\n"}, "tiktoken.model: line 2"},
        {{"tiktoken.model", "tokenizer_config.json"},
         {"AA== 0", "{\"tokenizer_class\":\"QWenTokenizer\"}"},
         "tokenizer_class 'QWenTokenizer'"},
        {{"tiktoken.model", "tokenizer_config.json"}, {"AA== 0", "[]"}, "tokenizer_config.json: no JSON object"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *dir = temp_folder();
        for (int k = 0; k < 4 && rows[i].name[k]; k++)
            temp_puts(temp_path(dir, rows[i].name[k]), rows[i].text[k]);
        Tokenizer *t;
        Error err = {0};
        Status st = tokenizer_open(&t, dir, &err);
        if (st != ST_DATA || !strstr(err.text, rows[i].say))
            fail_msg("%s: status %d, '%s', wanted '%s'", rows[i].name[0], st, err.text, rows[i].say);
        temp_remove(dir);
    }
}

/* A normalizer that makes a text larger than the limit, and a split pattern that takes long, end with a line. */
static void limits_hold(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "tokenizer.json");
    Str json = {0}, big = {0};
    for (int i = 0; i < 10000; i++)
        str_putc(&big, 'b');
    str_printf(&json,
               "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"},"
               "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"b*c|b\"},\"behavior\":\"Isolated\",\"invert\":"
               "false},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2},\"merges\":[]}}",
               big.s);
    temp_puts(path, str_text(&json));
    Tokenizer *t;
    Error err = {0};
    if (tokenizer_open(&t, path, &err) != ST_OK)
        fail_msg("%s", err.text);
    char text[1000];
    memset(text, 'a', sizeof text);
    int32_t *ids;
    size_t n;
    TextLimits limits = {.bytes = 1 << 20};
    assert_int_equal(tokenizer_encode(t, text, sizeof text, true, &limits, &ids, &n, &err), ST_NOMEM);
    assert_non_null(strstr(err.text, "a text as its normalizer makes it needs more than the 1.0 MB"));
    assert_int_equal(tokenizer_encode(t, text, 10, true, &limits, &ids, &n, &err), ST_OK);
    assert_int_equal(n, 100000);
    free(ids);
    Cancel stop = {.level = 1};
    limits = (TextLimits){.cancel = &stop};
    assert_int_equal(tokenizer_encode(t, text, 10, true, &limits, &ids, &n, &err), ST_CANCELLED);
    tokenizer_free(t);
    temp_remove(dir);
    str_free(&json);
    str_free(&big);
}

#define FOLDER(name) {"golden texts: " #name, golden_folder, NULL, NULL, #name}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pre_tokenizers_in_any_order),
        FOLDER(qwen2),
        FOLDER(gpt2),
        FOLDER(tiktoken),
        cmocka_unit_test(ranks_agree_with_a_slow_one),
        cmocka_unit_test(bad_rank_files_name_the_line),
        cmocka_unit_test(folders_are_refused_in_one_line),
        cmocka_unit_test(limits_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
