#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <cmocka.h>
#include <utf8proc.h>

#include "base/str.h"
#include "io/file.h"
#include "text/normalizer.h"
#include "text/tokenizer.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/token_golden.h"

#define GOLDEN "tests/golden/tokenizers/"

/* ---- golden texts ---- */

static void golden_kind(void **state)
{
    const char *kind = *state;
    char path[128], golden[128];
    snprintf(path, sizeof path, strcmp(kind, "demo") == 0 ? "lab_models/%s" : GOLDEN "%s/tokenizer.json", kind);
    snprintf(golden, sizeof golden, GOLDEN "%s/golden.json", kind);
    token_golden(path, golden);
}

/* ---- small tokenizers written here ---- */

/* A tokenizer from the text of a tokenizer.json, and optionally a tokenizer_config.json beside it. */
static Status open_text(const char *json, const char *config, Tokenizer **t, Error *err)
{
    char dir[] = "/tmp/slimscope.XXXXXX", file[64], beside[64];
    assert_non_null(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/tokenizer.json", dir);
    snprintf(beside, sizeof beside, "%s/tokenizer_config.json", dir);
    assert_int_equal(file_write_atomic(file, json, strlen(json), err), ST_OK);
    if (config)
        assert_int_equal(file_write_atomic(beside, config, strlen(config), err), ST_OK);
    Status st = tokenizer_open(t, dir, err);
    unlink(file);
    unlink(beside);
    rmdir(dir);
    return st;
}

static void expect_ids(const Tokenizer *t, const char *text, bool special, const char *want)
{
    int32_t *ids;
    size_t n;
    Error err = {0};
    Str got = {0};
    if (tokenizer_encode(t, text, strlen(text), special, NULL, &ids, &n, &err) != ST_OK)
        fail_msg("'%s': %s", text, err.text);
    for (size_t i = 0; i < n; i++)
        str_printf(&got, i ? " %d" : "%d", (int)ids[i]);
    if (strcmp(str_text(&got), want) != 0)
        fail_msg("'%s': %s, wanted %s", text, str_text(&got), want);
    str_free(&got);
    free(ids);
}

static void one_occurrence_is_merged_at_a_time(void **state)
{
    (void)state;
    Tokenizer *t;
    Error err = {0};
    assert_int_equal(
        open_text(
            "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1,\"aaa\":2},\"merges\":[\"aa a\",[\"a\",\"a\"]]}}",
            NULL, &t, &err),
        ST_OK);
    expect_ids(t, "aaaaa", true, "2 1");
    expect_ids(t, "", true, "");
    expect_ids(t, "xaxx", true, "0"); /* no unknown token: dropped */
    tokenizer_free(t);
}

static void unknown_code_points_fall_back(void **state)
{
    (void)state;
    Tokenizer *t;
    Error err = {0};
    assert_int_equal(
        open_text(
            "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"<unk>\":0,\"a\":1,\"<0xC3>\":2,\"<0xA9>\":3},\"merges\":[],"
            "\"unk_token\":\"<unk>\",\"byte_fallback\":true,\"fuse_unk\":true}}",
            NULL, &t, &err),
        ST_OK);
    expect_ids(t, "a\xc3\xa9" "a", true, "1 2 3 1");
    expect_ids(t, "xyza", true, "0 1");
    expect_ids(t, "x\xc3\xa9y", true, "2 3 0"); /* the waiting unknown token is overtaken, as in the reference */
    tokenizer_free(t);
}

/* Long pieces are cut where no merge crosses: tokens of bytes and the unknown token are symbols, too. */
static void merges_join_bytes_and_unknown_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *byte_level, *vocab, *merge, *text, *want;
    } rows[] = {
        {"", "\"<0xC3>\":2,\"<0xA9>\":3,\"<0xC3><0xA9>\":4", "[\"<0xC3>\",\"<0xA9>\"]", "aaaaaaaaaaaaaaaaaaaaaaaaa\xc3\xa9",
         "1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 4"},
        {"", "\"<unk>a\":2", "\"<unk> a\"", "aaaaaaaaaaaaaaaaaaaaaaaaza", "1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 2"},
        {"\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false},", "\"<unk>a\":2", "\"<unk> a\"",
         "aaaaaaaaaaaaaaaaaaaaaaaaza", "1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 2"},
        {"", "\"\xf0\x9f\x98\x80\":2,\"a\xf0\x9f\x98\x80\":3", "[\"a\",\"\xf0\x9f\x98\x80\"]", "aaaaaaaaaaaaaaaaaaaaaaaaa\xf0\x9f\x98\x80",
         "1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 3"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Tokenizer *t;
        Error err = {0};
        Str json = {0};
        str_printf(&json, "{%s\"model\":{\"type\":\"BPE\",\"vocab\":{\"<unk>\":0,\"a\":1,%s},\"merges\":[%s],"
                          "\"unk_token\":\"<unk>\",\"byte_fallback\":true,\"fuse_unk\":true}}",
                   rows[i].byte_level, rows[i].vocab, rows[i].merge);
        if (open_text(json.s, NULL, &t, &err) != ST_OK)
            fail_msg("row %zu: %s", i, err.text);
        expect_ids(t, rows[i].text, true, rows[i].want);
        tokenizer_free(t);
        str_free(&json);
    }
}

#define TINY "\"model\":{\"type\":\"BPE\",\"vocab\":{\"<s>\":0,\"</s>\":1,\"a\":2,\"b\":3,\" \":4},\"merges\":[]}"
#define BOS_TEMPLATE                                                                                                   \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}" \
    "},"                                                                                                               \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[0],\"tokens\":" \
    "[\"<s>\"]}}},"

static void llama_classes_add_their_own_ends(void **state)
{
    (void)state;
    static const struct {
        const char *json, *config, *want;
    } rows[] = {
        {"{" TINY "}", NULL, "2"},
        {"{" BOS_TEMPLATE TINY "}", NULL, "0 2"},
        {"{" TINY "}", "{\"tokenizer_class\":\"LlamaTokenizerFast\",\"bos_token\":{\"content\":\"<s>\"}}", "0 2"},
        {"{" BOS_TEMPLATE TINY "}",
         "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":true,\"bos_token\":\"<s>\"}", "0 2"},
        {"{" BOS_TEMPLATE TINY "}",
         "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":false,\"bos_token\":\"<s>\"}", "2"},
        {"{" TINY "}",
         "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_eos_token\":true,\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}",
         "0 2 1"},
        {"{" TINY "}", "{\"tokenizer_class\":\"Qwen2Tokenizer\",\"add_bos_token\":true,\"bos_token\":\"<s>\"}", "2"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Tokenizer *t;
        Error err = {0};
        if (open_text(rows[i].json, rows[i].config, &t, &err) != ST_OK)
            fail_msg("row %zu: %s", i, err.text);
        expect_ids(t, "a", true, rows[i].want);
        expect_ids(t, "a", false, "2");
        tokenizer_free(t);
    }
}

static void added_tokens_keep_their_flags(void **state)
{
    (void)state;
    static const char added[] =
        "{\"added_tokens\":[{\"id\":5,\"content\":\"<t>\",\"lstrip\":true,\"rstrip\":true,\"normalized\":false,"
        "\"special\":true},"
        "{\"id\":6,\"content\":\"<t>b\",\"normalized\":false,\"special\":true},"
        "{\"id\":7,\"content\":\"ab\",\"single_word\":true,\"normalized\":true,\"special\":false}]," TINY "}";
    Tokenizer *t;
    Error err = {0};
    assert_int_equal(open_text(added, NULL, &t, &err), ST_OK);
    expect_ids(t, "a  <t> b", false, "2 5 3");
    expect_ids(t, "a <t>b", false, "2 4 6"); /* the longest; it has no flags */
    expect_ids(t, "ab", false, "7");
    expect_ids(t, "aab ab b", false, "2 2 3 4 7 4 3");
    expect_ids(t, "<t><t> <t>", false, "5 5 5");
    tokenizer_free(t);
}

/* ---- against slow references ---- */

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

enum { LETTERS = 4, MERGES = 60 };

/* A vocabulary of random merges over four letters: each joins two tokens that are there, in an order that no
 * training made. */
static void random_model(uint32_t seed, char token[LETTERS + MERGES][64], int part[MERGES][2], Str *json)
{
    int n = LETTERS, m = 0;
    for (int i = 0; i < LETTERS; i++)
        sprintf(token[i], "%c", 'a' + i);
    for (int tries = 0; m < MERGES && tries < 10000; tries++) {
        int l = (int)(next_random(&seed) % (unsigned)n), r = (int)(next_random(&seed) % (unsigned)n);
        char made[128];
        snprintf(made, sizeof made, "%s%s", token[l], token[r]);
        bool known = strlen(made) > 12;
        for (int i = 0; i < n; i++)
            known = known || strcmp(token[i], made) == 0;
        if (known)
            continue;
        strcpy(token[n++], made);
        part[m][0] = l;
        part[m++][1] = r;
    }
    for (int i = m - 1; i > 0; i--) { /* ranks in any order */
        int k = (int)(next_random(&seed) % (unsigned)(i + 1));
        for (int side = 0; side < 2; side++) {
            int swap = part[i][side];
            part[i][side] = part[k][side];
            part[k][side] = swap;
        }
    }
    str_puts(json, "{\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int i = 0; i < n; i++)
        str_printf(json, "%s\"%s\":%d", i ? "," : "", token[i], i);
    str_puts(json, "},\"merges\":[");
    for (int i = 0; i < m; i++)
        str_printf(json, "%s[\"%s\",\"%s\"]", i ? "," : "", token[part[i][0]], token[part[i][1]]);
    str_puts(json, "]}}");
    assert_int_equal(m, MERGES);
}

/* Merges the pair of lowest rank, leftmost first, one at a time. */
static size_t slow_bpe(char token[][64], int part[MERGES][2], const char *text, int *id)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++)
        id[i] = text[i] - 'a';
    for (;;) {
        int best = MERGES;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (int k = 0; k < best; k++)
                if (part[k][0] == id[i] && part[k][1] == id[i + 1]) {
                    best = k;
                    at = i;
                }
        if (best == MERGES)
            return n;
        char made[128];
        snprintf(made, sizeof made, "%s%s", token[id[at]], token[id[at + 1]]);
        for (id[at] = 0; strcmp(token[id[at]], made) != 0;)
            id[at]++;
        memmove(id + at + 1, id + at + 2, (n - at - 2) * sizeof *id);
        n--;
    }
}

static void merging_agrees_with_a_slow_one(void **state)
{
    (void)state;
    static char token[LETTERS + MERGES][64];
    int part[MERGES][2], id[1024];
    for (uint32_t seed = 1; seed <= 8; seed++) {
        Str json = {0};
        Tokenizer *t;
        Error err = {0};
        random_model(seed, token, part, &json);
        if (open_text(str_text(&json), NULL, &t, &err) != ST_OK)
            fail_msg("%s", err.text);
        uint32_t r = seed * 77;
        for (int len = 1; len < 600; len += len < 50 ? 1 : 90) {
            char text[1024] = "";
            for (int i = 0; i < len; i++)
                text[i] = (char)('a' + next_random(&r) % (len % 3 ? LETTERS : 2));
            size_t want = slow_bpe(token, part, text, id), n;
            int32_t *ids;
            assert_int_equal(tokenizer_encode(t, text, (size_t)len, true, NULL, &ids, &n, &err), ST_OK);
            assert_int_equal(n, want);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(ids[i], id[i]);
            free(ids);
        }
        tokenizer_free(t);
        str_free(&json);
    }
}

static void normal_forms_agree_with_utf8proc(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int options;
    } forms[] = {
        {"{\"type\":\"NFC\"}", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
        {"{\"type\":\"NFD\"}", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
        {"{\"type\":\"NFKC\"}", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKD\"}]}",
         UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
    };
    static const struct {
        uint32_t from, count;
    } blocks[] = {{0x20, 0x5f}, {0xa0, 0x1ff}, {0x300, 0x70}, {0x1100, 0xff}, {0xac00, 0x200}, {0x3040, 0x60}, {0x4e00,
                                                                                                                0x100},
                  {0xf900, 0x100}, {0xfb00, 0x100}, {0x900, 0x100}, {0x1d157, 0x10}, {0x591, 0x30}};
    uint32_t seed = 5;
    for (int k = 0; k < 4; k++) {
        cJSON *node = cJSON_Parse(forms[k].json);
        Normalizer *n;
        MatchScratch s = {0};
        Error err = {0};
        assert_int_equal(normalizer_new(&n, node, &err), ST_OK);
        for (int round = 0; round < 400; round++) {
            Str text = {0}, got = {0};
            for (int i = 0; i < 40; i++) {
                size_t b = next_random(&seed) % (round % 2 ? 3 : sizeof blocks / sizeof blocks[0]);
                char bytes[4];
                str_append(&text, bytes, (size_t)utf8_encode(blocks[b].from + next_random(&seed) % blocks[b].count,
                                                             bytes));
            }
            utf8proc_uint8_t *want = NULL;
            utf8proc_ssize_t len = utf8proc_map((const utf8proc_uint8_t *)text.s, (utf8proc_ssize_t)text.len, &want,
                                                (utf8proc_option_t)forms[k].options);
            assert_true(len > 0);
            assert_int_equal(normalizer_apply(n, &s, text.s, text.len, &got, &err), ST_OK);
            assert_int_equal(got.len, len);
            assert_memory_equal(got.s, want, got.len);
            free(want);
            str_free(&text);
            str_free(&got);
        }
        match_scratch_free(&s);
        normalizer_free(n);
        cJSON_Delete(node);
    }
}

/* ---- cost ---- */

typedef void Fill(char *s, size_t n);

static void fill_prose(char *s, size_t n)
{
    static const char words[] =
        "The house stood with its back to the marsh, as an old man sits; nobody, she said, had 47 windows. ";
    for (size_t i = 0; i < n; i++)
        s[i] = words[i % (sizeof words - 1)];
}

static void fill_word(char *s, size_t n)
{
    uint32_t seed = 3;
    for (size_t i = 0; i < n; i++)
        s[i] = "etaoinshrdlu"[next_random(&seed) % 12];
}

static void fill_spaces(char *s, size_t n)
{
    memset(s, ' ', n);
}

static void fill_newlines(char *s, size_t n)
{
    memset(s, '\n', n);
}

static void fill_cjk(char *s, size_t n)
{
    uint32_t seed = 4;
    memset(s, '.', n);
    for (size_t i = 0; i + 3 <= n; i += 3)
        utf8_encode(0x4e00 + next_random(&seed) % 0x5000, s + i);
}

static void fill_marks(char *s, size_t n)
{
    uint32_t seed = 6;
    for (size_t i = 0; i + 2 <= n; i += 2)
        utf8_encode(0x300 + next_random(&seed) % 0x40, s + i);
}

static void fill_bytes(char *s, size_t n)
{
    uint32_t seed = 9;
    for (size_t i = 0; i < n; i++)
        s[i] = (char)next_random(&seed);
}

/* What encoding costs grows no faster than the text: searches, bytes they pass over, operations on the merge queue. */
static void cost_is_linear(void **state)
{
    (void)state;
    static Fill *const fills[] = {fill_prose, fill_word, fill_spaces, fill_newlines, fill_cjk, fill_marks, fill_bytes};
    static const char *const files[] = {"lab_models/demo", GOLDEN "llama3/tokenizer.json",
                                        GOLDEN "deepseek/tokenizer.json",
                                        GOLDEN "llama2/tokenizer.json"};
    enum { SMALL = 40000, LARGE = SMALL * 10 };
    char *text = calloc(LARGE, 1);
    assert_non_null(text);
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        Tokenizer *t;
        Error err = {0};
        assert_int_equal(tokenizer_open(&t, files[f], &err), ST_OK);
        for (size_t k = 0; k < sizeof fills / sizeof fills[0]; k++) {
            EncodeCost cost[2];
            for (int large = 0; large < 2; large++) {
                int32_t *ids;
                size_t n, len = large ? LARGE : SMALL;
                fills[k](text, len);
                assert_int_equal(tokenizer_encode_cost(t, text, len, true, NULL, &ids, &n, &cost[large], &err), ST_OK);
                assert_true(n > 0);
                free(ids);
            }
            assert_true(cost[1].search_bytes <=
                        (uint64_t)LARGE * 3 * 4 + 64); /* U+FFFD has 3 bytes; at most 4 splits */
            assert_true(cost[1].searches <= 12 * cost[0].searches + 64);
            assert_true(cost[1].queue_ops <= 12 * cost[0].queue_ops + LARGE / 50); /* long segments may be rare */
            assert_true(cost[1].queue_ops <= (uint64_t)LARGE * 6);
        }
        tokenizer_free(t);
    }
    free(text);
}

/* ---- decoding, bad files ---- */

#define WITH(part) "{" part "," TINY "}"

static void bad_files_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *json, *say;
    } rows[] = {
        {"", "empty"},
        {"[1]", "no JSON object"},
        {"{}", "'model' is missing"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", "'WordPiece' is not supported"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "'Unigram' is not supported"},
        {"{\"model\":{\"type\":\"BPE\",\"merges\":[]}}", "'vocab' is missing"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", "vocab: empty"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "'a' has no id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e9},\"merges\":[]}}", "'a' has no id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "id 0 stands twice"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", "twice"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", "entry 0: 'ab' is not in"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a c\"]}}", "entry 0: 'c' is not in"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", "entry 0 is no pair"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", "entry 0 is no pair"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[\"b a\"],\"end_of_word_suffix\":\"w\"}}",
         "id 0 stands twice"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0,\"c\":true},\"merges\":[]}}", "'c' has no id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1.5,\"c\":-1},\"merges\":[]}}", "'b' has no id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\":1,\"\":2},\"merges\":[]}}", "key '' is there twice"},
        {"{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]},\"normalizer\":{\"type\":\"Odd\"}}", "normalizer 'Odd'"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":{}}}", "'merges' is no list"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1e0},\"merges\":[\"a a\",[\"a\",\"a\"],[\"a\",\"a\",\"a\"]]}}",
         "entry 2 is no pair"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\",\"aa a\",7]}}", "entry 1: 'aaa' is not in"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\",[\"a\",\"\"]]}}", "entry 1 is no pair"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\"}}", "unk_token 'u'"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"w\"}}",
         "'end_of_word_suffix'"},
        {WITH("\"normalizer\":{\"type\":\"BertNormalizer\"}"), "normalizer 'BertNormalizer' is not supported"},
        {WITH("\"normalizer\":{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"Regex\":\"(?<=a)\"}}"),
         "look-behind"},
        {WITH("\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}"), "pre_tokenizer 'UnicodeScripts' is not supported"},
        {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a+?\"},\"behavior\":\"Isolated\"}"),
         "lazy"},
        {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Odd\"}"),
         "behavior 'Odd'"},
        {WITH("\"post_processor\":{\"type\":\"BertProcessing\"}"), "post_processor 'BertProcessing' is not supported"},
        {WITH("\"added_tokens\":[{\"id\":-4,\"content\":\"x\"}]"), "'x' has no id"},
        {WITH("\"added_tokens\":{}"), "'added_tokens' is no list"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Tokenizer *t;
        Error err = {0};
        Status st = open_text(rows[i].json, NULL, &t, &err);
        if (st != ST_DATA || !strstr(err.text, rows[i].say) || !strstr(err.text, "tokenizer.json"))
            fail_msg("%s: status %d, '%s', wanted '%s'", rows[i].json, st, err.text, rows[i].say);
    }
    Tokenizer *t;
    Error err = {0};
    assert_int_equal(tokenizer_open(&t, "/nowhere/tokenizer.json", &err), ST_IO);
    assert_int_equal(tokenizer_open(&t, "tests", &err), ST_DATA);
    assert_non_null(strstr(err.text, "no tokenizer.json"));
}

/* Every letter within a string as \uXXXX. */
static void write_escapes(const char *json, Str *out)
{
    bool quoted = false;
    for (size_t i = 0; json[i];) {
        unsigned cp;
        int k = utf8_decode(json + i, strlen(json + i), &cp);
        if (quoted && json[i] == '\\') {
            str_append(out, json + i, 2);
            i += 2;
            continue;
        }
        quoted = quoted != (json[i] == '"');
        if (!quoted || json[i] == '"')
            str_append(out, json + i, (size_t)k);
        else if (cp < 0x10000)
            str_printf(out, "\\u%04x", cp);
        else
            str_printf(out, "\\u%04x\\u%04X", 0xd800 + ((cp - 0x10000) >> 10), 0xdc00 + (cp & 0x3ff));
        i += (size_t)k;
    }
}

/* Merges that are strings as pairs, and the other way round. */
static cJSON *other_merges(const cJSON *merges)
{
    cJSON *out = cJSON_CreateArray();
    const cJSON *e;
    cJSON_ArrayForEach(e, merges) {
        Str s = {0};
        const char *gap = cJSON_IsString(e) ? strchr(e->valuestring, ' ') : NULL;
        if (gap) {
            str_append(&s, e->valuestring, (size_t)(gap - e->valuestring));
            const char *const part[] = {s.s, gap + 1};
            cJSON_AddItemToArray(out, cJSON_CreateStringArray(part, 2));
        } else {
            str_printf(&s, "%s %s", e->child->valuestring, e->child->next->valuestring);
            cJSON_AddItemToArray(out, cJSON_CreateString(s.s));
        }
        str_free(&s);
    }
    return out;
}

/* A file means the same whatever stands first in it, whichever form its merges have, with blanks and with escapes. */
static void lists_are_read_in_every_form(void **state)
{
    (void)state;
    static const char *const kinds[] = {"gemma", "llama2", "llama3"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char path[128], golden[128], *text, *spread;
        size_t len;
        Error err = {0};
        snprintf(path, sizeof path, GOLDEN "%s/tokenizer.json", kinds[i]);
        snprintf(golden, sizeof golden, GOLDEN "%s/golden.json", kinds[i]);
        assert_int_equal(file_read(path, 1 << 24, &text, &len, &err), ST_OK);
        cJSON *root = cJSON_ParseWithLength(text, len), *model = cJSON_DetachItemFromObject(root, "model");
        cJSON *vocab = cJSON_DetachItemFromObject(model, "vocab");
        cJSON *merges = cJSON_DetachItemFromObject(model, "merges");
        cJSON_AddItemToObject(model, "merges", other_merges(merges));
        cJSON_AddItemToObject(model, "vocab", vocab); /* behind the merges */
        cJSON_InsertItemInArray(root, 0, model);      /* before what says whether symbols are bytes */
        assert_non_null(spread = cJSON_Print(root));
        Str escaped = {0};
        write_escapes(spread, &escaped);
        const char *const forms[] = {spread, escaped.s};
        for (int k = 0; k < 2; k++) {
            char *dir = temp_folder();
            const char *file = temp_path(dir, "tokenizer.json");
            assert_int_equal(file_write_atomic(file, forms[k], strlen(forms[k]), &err), ST_OK);
            token_golden(file, golden);
            temp_remove(dir);
        }
        str_free(&escaped);
        cJSON_Delete(merges);
        cJSON_Delete(root);
        free(spread);
        free(text);
    }
}

/* Every beginning of a small file is refused, none is read past its end. */
static void truncated_files_are_refused(void **state)
{
    (void)state;
    static const char whole[] = WITH(BOS_TEMPLATE "\"added_tokens\":[{\"id\":9,\"content\":\"<t>\"}]");
    for (size_t n = 1; n < sizeof whole - 1; n += 3) {
        char part[sizeof whole] = "";
        memcpy(part, whole, n);
        Tokenizer *t;
        Error err = {0};
        assert_int_equal(open_text(part, NULL, &t, &err), ST_DATA);
    }
}

static void splits_follow_their_behavior(void **state)
{
    (void)state;
    static const struct {
        const char *step, *text, *want; /* with ignore_merges a piece shows as one id, letters alone as theirs */
    } rows[] = {
        {"\"pattern\":{\"String\":\"-\"},\"behavior\":\"Isolated\"", "ab-ab", "3 2 3"},
        {"\"pattern\":{\"String\":\"-\"},\"behavior\":\"Removed\"", "ab-ab", "3 3"},
        {"\"pattern\":{\"String\":\"-\"},\"behavior\":\"MergedWithPrevious\"", "ab--ab", "4 2 3"},
        {"\"pattern\":{\"String\":\"-\"},\"behavior\":\"MergedWithNext\"", "ab--ab", "3 2 5"},
        {"\"pattern\":{\"Regex\":\"-\"},\"behavior\":\"Contiguous\"", "ab--ab", "3 6 3"},
        {"\"pattern\":{\"Regex\":\"[a-z]+\"},\"behavior\":\"Removed\",\"invert\":true", "ab--ab", "3 3"},
        {"\"pattern\":{\"Regex\":\"x*\"},\"behavior\":\"Isolated\"", "ab", "0 1"}, /* an empty match cuts */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Str json = {0};
        Tokenizer *t;
        Error err = {0};
        str_printf(&json,
                   "{\"pre_tokenizer\":{\"type\":\"Split\",%s},\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,"
                   "\"merges\":[],\"vocab\":{"
                   "\"a\":0,\"b\":1,\"-\":2,\"ab\":3,\"ab-\":4,\"-ab\":5,\"--\":6}}}",
                   rows[i].step);
        if (open_text(str_text(&json), NULL, &t, &err) != ST_OK)
            fail_msg("%s: %s", rows[i].step, err.text);
        expect_ids(t, rows[i].text, true, rows[i].want);
        tokenizer_free(t);
        str_free(&json);
    }
}

#define KIND(name) {"golden texts: " #name, golden_kind, NULL, NULL, #name}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIND(demo),  KIND(qwen2),  KIND(llama3),    KIND(gpt2),  KIND(o200k),
        KIND(deepseek), KIND(llama2), KIND(metaspace), KIND(gemma),
        cmocka_unit_test(one_occurrence_is_merged_at_a_time),
        cmocka_unit_test(unknown_code_points_fall_back),
        cmocka_unit_test(merges_join_bytes_and_unknown_tokens),
        cmocka_unit_test(llama_classes_add_their_own_ends),
        cmocka_unit_test(added_tokens_keep_their_flags),
        cmocka_unit_test(merging_agrees_with_a_slow_one),
        cmocka_unit_test(normal_forms_agree_with_utf8proc),
        cmocka_unit_test(splits_follow_their_behavior),
        cmocka_unit_test(cost_is_linear),
        cmocka_unit_test(bad_files_are_refused_by_name),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(lists_are_read_in_every_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
