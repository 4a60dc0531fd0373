#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "evaluate/stops.h"
#include "tests/lib/tempdir.h"
#include "text/chat.h"
#include "text/flow.h"
#include "text/unicode.h"

/* Text out of tokens as they come, what ends it, and how a model for conversations wants a turn written. */

static const char *const tokenizers[] = {"lab_models/demo", "tests/golden/tokenizers_own/gpt2", "tests/golden/tokenizers_own/qwen2",
                                         "tests/fuzz/seeds/tokenizer_metaspace.json"};
static const char *const texts[] = {"The old house.\n  Two  spaces", "\xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb caf\xc3\xa9", "a"};

/* What is put piece by piece is whole characters at every step, and the text in the end. */
static void tokens_become_their_text(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof tokenizers / sizeof *tokenizers; k++)
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            Tokenizer *t;
            Error e = {0};
            int32_t *ids;
            size_t n;
            Str all = {0};
            TextFlow f = {0};
            if (tokenizer_open(&t, tokenizers[k], &e) != ST_OK)
                fail_msg("%s", e.text);
            assert_int_equal(tokenizer_encode(t, texts[i], strlen(texts[i]), false, NULL, &ids, &n, &e), ST_OK);
            for (size_t j = 0; j < n; j++) {
                text_flow_put(&f, t, ids[j], &all);
                assert_int_equal(utf8_valid_prefix(str_text(&all), all.len), all.len);
            }
            text_flow_end(&f, &all);
            bool spm = strstr(tokenizers[k], "metaspace") != NULL; /* which knows few characters, and adds a space */
            if (!spm)
                assert_string_equal(str_text(&all), texts[i]);
            else
                assert_null(strstr(str_text(&all), "\xe2\x96\x81"));
            str_free(&all);
            free(ids);
            tokenizer_free(t);
        }
}

static void bytes_without_their_others_become_one_mark(void **state)
{
    (void)state;
    Tokenizer *t;
    Error e = {0};
    int32_t *ids;
    size_t n;
    Str all = {0};
    TextFlow f = {0};
    assert_int_equal(tokenizer_open(&t, "tests/golden/tokenizers_own/gpt2", &e), ST_OK);
    assert_int_equal(tokenizer_encode(t, "\xf0\x9f\x91\xa9", 4, false, NULL, &ids, &n, &e), ST_OK);
    assert_true(n > 1); /* its bytes come one by one */
    text_flow_put(&f, t, ids[0], &all);
    assert_int_equal(all.len, 0);
    int32_t a = 0;
    for (size_t len = 0; a < 300 && !(tokenizer_piece(t, a, &len) && len == 1 && tokenizer_piece(t, a, &len)[0] == 'a'); a++)
        ;
    text_flow_put(&f, t, a, &all);
    assert_string_equal(str_text(&all), "\xef\xbf\xbd" "a");
    text_flow_put(&f, t, ids[0], &all);
    text_flow_end(&f, &all);
    assert_string_equal(str_text(&all), "\xef\xbf\xbd" "a" "\xef\xbf\xbd");
    text_flow_put(&f, t, -5, &all); /* no token */
    text_flow_put(&f, t, 1 << 30, &all);
    text_flow_end(&f, &all);
    assert_string_equal(str_text(&all), "\xef\xbf\xbd" "a" "\xef\xbf\xbd");
    str_free(&all);
    free(ids);
    tokenizer_free(t);
}

static void put(const char *dir, const char *name, const char *text)
{
    FILE *f = fopen(temp_path(dir, name), "wb");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void texts_end_where_the_model_says(void **state)
{
    (void)state;
    static const struct {
        const char *generation, *config;
        int n;
        int32_t id[3];
    } rows[] = {
        {"{\"eos_token_id\":2}", "{\"eos_token_id\":7}", 1, {2}},
        {"{\"eos_token_id\":[5,3,5]}", "{}", 2, {5, 3}},
        {"{\"x\":1}", "{\"eos_token_id\":7}", 1, {7}},
        {"{}", "{\"eos_token_id\":[7,-1,4096,1e99,\"a\"]}", 1, {7}},
        {"{\"eos_token_id\":null}", "{}", 0, {0}},
    };
    Tokenizer *t;
    Error e = {0};
    assert_int_equal(tokenizer_open(&t, "lab_models/demo", &e), ST_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *dir = temp_folder();
        int32_t *ids, n;
        put(dir, "generation_config.json", rows[i].generation);
        put(dir, "config.json", rows[i].config);
        if (stop_tokens(dir, t, 4096, NULL, &ids, &n, &e) != ST_OK)
            fail_msg("%s", e.text);
        assert_int_equal(n, rows[i].n);
        for (int k = 0; k < n; k++)
            assert_int_equal(ids[k], rows[i].id[k]);
        free(ids);
        assert_int_equal(stop_tokens(dir, t, 4096, "a", &ids, &n, &e), ST_OK); /* a token of its own */
        assert_int_equal(n, rows[i].n + 1);
        free(ids);
        put(dir, "generation_config.json", "{");
        assert_int_equal(stop_tokens(dir, t, 4096, NULL, &ids, &n, &e), ST_DATA);
        temp_remove(dir);
    }
    tokenizer_free(t);
}

static void a_turn_is_written_as_the_family_does(void **state)
{
    (void)state;
    static const struct {
        const char *template, *before, *end;
    } rows[] = {
        {"{{'<|im_start|>' + role}}", "<|im_start|>user\n", "<|im_end|>"},
        {"<|start_header_id|>", "<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},
        {"<start_of_turn>", "<start_of_turn>user\n", "<end_of_turn>"},
        {"<|start|>assistant<|end|>", "<|start|>user<|message|>", "<|return|>"},
        {"<|user|>..<|end|>", "<|user|>\n", "<|end|>"},
        {"[INST] x", "[INST] ", "</s>"},
    };
    const ChatForm *form;
    Error e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int where = 0; where < 3; where++) {
            char *dir = temp_folder(), text[300];
            snprintf(text, sizeof text, where == 1 ? "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"?\"},{\"name\":\"default\",\"template\":\"%s\"}]}"
                                                   : "{\"chat_template\":\"%s\"}", where == 2 ? "other" : rows[i].template);
            put(dir, "tokenizer_config.json", text);
            if (where == 2)
                put(dir, "chat_template.jinja", rows[i].template);
            if (chat_form(dir, &form, &e) != ST_OK)
                fail_msg("%s", e.text);
            assert_string_equal(form->before, rows[i].before);
            assert_string_equal(form->end, rows[i].end);
            temp_remove(dir);
        }
    char *dir = temp_folder();
    assert_int_equal(chat_form(dir, &form, &e), ST_DATA);
    assert_non_null(strstr(e.text, "has no chat template"));
    put(dir, "tokenizer_config.json", "{\"chat_template\":\"{{ x }}\"}");
    assert_int_equal(chat_form(dir, &form, &e), ST_DATA);
    assert_non_null(strstr(e.text, "not known here"));
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_become_their_text),
        cmocka_unit_test(bytes_without_their_others_become_one_mark),
        cmocka_unit_test(texts_end_where_the_model_says),
        cmocka_unit_test(a_turn_is_written_as_the_family_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
