/* Tokenizers, the texts they get, and data sets. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "text/calib.h"
#include "text/regex.h"
#include "text/tokenizer.h"

static const TextLimits limits = {.bytes = 64 << 20};

static void encode(const Tokenizer *t, const char *text, size_t n, bool must)
{
    int32_t *ids = NULL;
    size_t k = 0;
    Error err = {0};
    EncodeCost cost;
    Status st = tokenizer_encode_cost(t, text, n, true, &limits, &ids, &k, &cost, &err);
    fuzz_error(st, &err);
    if (st != ST_OK && must)
        fuzz_bad("a text that is refused", err.text);
    for (size_t i = 0; i < k && st == ST_OK; i++)
        if (ids[i] < 0)
            fuzz_bad("a negative id", "");
    if (must && cost.search_bytes > 256 * (n + 64))
        fuzz_bad("a search that is not linear", "");
    free(st == ST_OK ? ids : NULL);
}

static void run_tokenizer(int variant, const uint8_t *data, size_t n)
{
    static const char *const texts[] = {"Hello, world!  1234567 \xe4\xbd\xa0\xe5\xa5\xbd\n\n\t<|im_end|>", "", " ", "a\xcc\x81\xff\xe2\x82"};
    Tokenizer *t;
    Error err = {0};
    fuzz_put("tokenizer.json", data, n);
    Status st = tokenizer_open(&t, fuzz_path("tokenizer.json"), &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    encode(t, texts[variant & 3], strlen(texts[variant & 3]), false);
    tokenizer_free(t);
}

static const char *const tokenizer_seeds[] = {"tests/fuzz/seeds/tokenizer*.json", NULL};
static const char *const tokenizer_words[] = {
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}", "\"normalizer\":{\"type\":\"NFC\"}", "{\"type\":\"Sequence\",\"normalizers\":[",
    "\"added_tokens\":[", "\"byte_fallback\":true", "\"merges\":[\"a b\"]", "{\"Regex\":\"\\\\p{L}+\"}", "{\"String\":\" \"}",
    "\"behavior\":\"Isolated\"", "\"lstrip\":true", "\"id\":3", NULL};
const FuzzTarget fuzz_tokenizer = {
    .name = "tokenizer", .seeds = tokenizer_seeds, .words = tokenizer_words, .run = run_tokenizer};

/* Any bytes are a text. */
static void run_encode(int variant, const uint8_t *data, size_t n)
{
    static const char *const file[] = {"lab_models/demo",
                                       "tests/golden/tokenizers_own/tiktoken",
                                       "tests/golden/tokenizers_own/gpt2",
                                       "tests/golden/tokenizers_own/qwen2",
                                       "tests/fuzz/seeds/tokenizer_metaspace.json"};
    enum { FILES = sizeof file / sizeof *file };
    static Tokenizer *t[FILES];
    int k = variant % FILES;
    Error err = {0};
    if (!t[k] && tokenizer_open(&t[k], file[k], &err) != ST_OK)
        fuzz_bad("no tokenizer", err.text);
    encode(t[k], (const char *)data, n, true);
}

static const char *const encode_seeds[] = {"lab_calib/*.jsonl", "README.zh-CN.md", "core/text/regex.c", NULL};
static const char *const encode_words[] = {"\xe2\x80\xa8", "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb", "\xcc\x81", "\xc2\xa0", "    ", "\r\n", "'s", "<|im_end|>", "\xe1\xb2\x89", NULL};
const FuzzTarget fuzz_encode = {.name = "encode", .seeds = encode_seeds, .words = encode_words, .take = 3000, .run = run_encode};

/* A folder without tokenizer.json. Variant: bits 0-1: which file the data is. */
static void run_fallback(int variant, const uint8_t *data, size_t n)
{
    static const struct {
        const char *name, *text;
    } file[] = {{"tiktoken.model", "IQ== 0\nIg== 1\n"},
                {"vocab.json", "{\"a\":0,\"b\":1,\"ab\":2}"},
                {"merges.txt", "#version: 0.2\na b\n"},
                {"tokenizer_config.json", "{\"tokenizer_class\":\"GPT2Tokenizer\"}"}};
    for (int k = 0; k < 4; k++) {
        unlink(fuzz_path(file[k].name));
        if (k == (variant & 3))
            fuzz_put(file[k].name, data, n);
        else if (k > 0 || variant & 4)
            fuzz_put(file[k].name, file[k].text, strlen(file[k].text));
    }
    unlink(fuzz_path("tokenizer.json"));
    char folder[256];
    snprintf(folder, sizeof folder, "%s", fuzz_path("x"));
    *strrchr(folder, '/') = '\0';
    Tokenizer *t;
    Error err = {0};
    Status st = tokenizer_open(&t, folder, &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    encode(t, "ab abba", 7, false);
    tokenizer_free(t);
}

static const char *const fallback_seeds[] = {"tests/golden/tokenizers_own/*/*", NULL};
static const char *const fallback_words[] = {"IQ== 7\n", "a b\n", "#version", "\"tokenizer_class\":\"Qwen2Tokenizer\"", "\"added_tokens_decoder\":{\"0\":{\"content\":\"x\"}}", "=", " 0\n", NULL};
const FuzzTarget fuzz_fallback = {
    .name = "fallback", .seeds = fallback_seeds, .words = fallback_words, .take = 4000, .run = run_fallback};

static void tokens(const CalibFile *c, const Tokenizer *t, bool windows)
{
    TokenSet *set;
    Error err = {0};
    Status st = windows ? tokens_windows(&set, c, t, 16, 1000, 4096, &limits, &err)
                        : tokens_make(&set, c, t, 4, 64, 4096, &limits, &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    for (int64_t i = 0; i < set->start[set->samples]; i++)
        if (set->ids[i] < 0 || set->ids[i] >= 4096)
            fuzz_bad("an id outside the vocabulary", "");
    tokens_free(set);
}

/* Variant: bit 0: .json or .jsonl, bit 1: the peer's rules, bit 2: windows, bit 3: no tokenizer. */
static void run_calib(int variant, const uint8_t *data, size_t n)
{
    static Tokenizer *t;
    Error err = {0};
    if (!t && tokenizer_open(&t, "lab_models/demo", &err) != ST_OK)
        fuzz_bad("no tokenizer", err.text);
    const char *name = variant & 1 ? "set.json" : "set.jsonl";
    fuzz_put(name, data, n);
    CalibFile *c;
    Status st = calib_open(&c, fuzz_path(name), variant & 2, &limits, &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    tokens(c, variant & 8 ? NULL : t, variant & 4);
    calib_free(c);
}

static const char *const calib_seeds[] = {"tests/golden/analysis/_cases/*.json*", "tests/fuzz/seeds/set*", NULL};
static const char *const calib_words[] = {"{\"input_ids\":[1,2]}\n", "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]", "\"prompt\":", "\"text\":\"a\"",
                                          "\"conversations\":[{\"value\":\"x\"}]", "\"instruction\":", "\n", "[\"", "\"]", "999999", NULL};
const FuzzTarget fuzz_calib = {.name = "calib", .seeds = calib_seeds, .words = calib_words, .take = 4000, .run = run_calib};

/* What the translator gives out, PCRE2 takes. */
static void run_regex(int variant, const uint8_t *data, size_t n)
{
    Str s = {0};
    Error err = {0};
    Status st = regex_translate((const char *)data, n, variant & 1 ? 140 : 160, &s, &err);
    fuzz_error(st, &err);
    if (st == ST_OK && n < 200) {
        int code;
        PCRE2_SIZE at;
        pcre2_code *c = pcre2_compile((PCRE2_SPTR)str_text(&s), s.len, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
        pcre2_code_free(c);
    }
    str_free(&s);
}

static const char *const regex_seeds[] = {"tests/fuzz/seeds/regex*", NULL};
static const char *const regex_words[] = {"\\p{L}", "\\p{Han}", "[^", "&&", "(?i:", "(?!", "{1,3}", "++", "\\s", "\\x{1F600}", "|", "]", ")", "-", NULL};
const FuzzTarget fuzz_regex = {.name = "regex", .seeds = regex_seeds, .words = regex_words, .run = run_regex};
