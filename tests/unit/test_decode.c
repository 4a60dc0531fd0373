#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "run/decode.h"
#include "tests/lib/bench.h"

/* What a decoder gives token by token is what passes over whole texts give. */

/* The logits behind the first `len` tokens, by a pass that keeps nothing: [len][vocab]. */
static float *whole_pass(Runner *r, const int32_t *ids, int64_t len)
{
    int64_t start[2] = {0, len};
    TokenSet t = {.name = (char *)(uintptr_t)"test", .samples = 1, .start = start, .ids = (int32_t *)(uintptr_t)ids};
    Stream h, normed;
    Error e = {0};
    assert_int_equal(runner_embed(r, &t, &h, &e), ST_OK);
    for (int i = 0; i < runner_model(r)->cfg.layers; i++)
        if (runner_layer(r, i, NULL, &h, &h, NULL, 0, &e) != ST_OK)
            fail_msg("%s", e.text);
    assert_int_equal(runner_final_norm(r, &h, &normed, NULL, 0, &e), ST_OK);
    float *logits = test_logits(r, &normed);
    stream_fini(&h);
    stream_fini(&normed);
    return logits;
}

static Decoder *decoder_of(Runner *r, int texts, int64_t rows, uint64_t ready)
{
    Decoder *d;
    Error e = {0};
    if (decoder_new(&d, r, &(DecoderOptions){.texts = texts, .rows = rows, .ready = ready}, &e) != ST_OK)
        fail_msg("%s", e.text);
    return d;
}

static void step(Decoder *d, int n, const int *text, const int64_t *start, const int32_t *ids, float *logits)
{
    Error e = {0};
    if (decoder_step(d, &(DecodeStep){n, text, start, ids}, logits, &e) != ST_OK)
        fail_msg("%s", e.text);
}

static int32_t *random_ids(int64_t n, int64_t vocab, uint32_t seed)
{
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)((int64_t)(seed >> 8) % vocab);
    }
    return ids;
}

static int32_t first_largest(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return (int32_t)best;
}

/* Three texts that begin at different times and grow by different numbers of tokens; each is held against passes over it
 * alone. Returns the worst difference in parts of the largest logit. */
static double grow_case(const char *dir, ArithMode arith, int threads, uint64_t ready, int64_t len)
{
    TestRun b;
    double worst = 0;
    test_run_open(&b, dir, arith, threads, NULL);
    int64_t vocab = b.m->cfg.vocab;
    int32_t *ids[3];
    float *want[3], *got = malloc(3 * (size_t)vocab * sizeof *got);
    for (int i = 0; i < 3; i++) {
        ids[i] = random_ids(len, vocab, 77u + (uint32_t)i);
        want[i] = whole_pass(b.r, ids[i], len);
    }
    Decoder *d = decoder_of(b.r, 3, len, ready);
    int64_t at[3] = {0, 0, 0};
    for (int64_t turn = 0; at[0] < len || at[1] < len || at[2] < len; turn++) {
        int32_t now[256];
        int text[3], n = 0;
        int64_t start[4] = {0};
        for (int i = 2; i >= 0; i--) { /* not in the decoder's order */
            int64_t more = turn < 2 * i ? 0 : turn == 2 * i ? 5 * i + 2 : i == 1 && turn % 3 == 0 ? 3 : 1;
            more = at[i] + more > len ? len - at[i] : more;
            if (!more)
                continue;
            memcpy(now + start[n], ids[i] + at[i], (size_t)more * sizeof *now);
            text[n] = i;
            start[n + 1] = start[n] + more;
            at[i] += more;
            n++;
        }
        step(d, n, text, start, now, got);
        for (int i = 0; i < n; i++) {
            const float *w = want[text[i]] + (at[text[i]] - 1) * vocab, *g = got + i * vocab;
            double off = test_worst(w, g, vocab);
            worst = fmax(worst, off);
            if (!(off < 1e-4))
                fail_msg("%s: text %d, token %lld: off by %g of the largest", dir, text[i], (long long)at[text[i]], off);
            assert_int_equal(first_largest(w, vocab), first_largest(g, vocab));
        }
    }
    decoder_free(d);
    for (int i = 0; i < 3; i++) {
        free(ids[i]);
        free(want[i]);
    }
    free(got);
    test_run_close(&b);
    return worst;
}

static const char *const archs[] = {
    "llama", "llama3", "qwen2", "qwen3", "mistral", "phi3", "gemma2", "gemma3", "mixtral", "qwen2_moe", "qwen3_moe",
    "glm4_moe", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm_moe_dsa", "gpt_oss", "minimax_m2", "qwen3_next",
    "longcat_flash", "deepseek_v4"};

static void every_family_goes_on_as_a_whole_pass(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        char dir[128];
        snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", archs[i]);
        double kept = grow_case(dir, ARITH_FP32, 1, (uint64_t)1 << 30, 44), anew = grow_case(dir, ARITH_FP32, 2, 0, 44);
        assert_true(kept == anew); /* weights that stay ready, threads: nothing changes */
        print_message("%s: worst %.2g\n", archs[i], kept);
    }
}

/* In the arithmetics that round, too. */
static void rounded_arithmetic_goes_on_as_a_whole_pass(void **state)
{
    (void)state;
    static const char *const some[] = {"llama", "gemma2", "gpt_oss", "deepseek_v3"};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        char dir[128];
        snprintf(dir, sizeof dir, "tests/golden/models/%s/bf16", some[i]);
        grow_case(dir, ARITH_EXACT, 1, (uint64_t)1 << 30, 30);
        grow_case(dir, ARITH_MODEL, 2, (uint64_t)1 << 30, 30);
    }
    grow_case("tests/golden/models/qwen3/fp32", ARITH_FAST, 2, (uint64_t)1 << 30, 30);
}

/* Attention takes keys in blocks of 256. */
static void long_texts_go_on_across_blocks_of_keys(void **state)
{
    (void)state;
    grow_case("tests/golden/models/llama/fp32", ARITH_FP32, 2, (uint64_t)1 << 30, 270);
}

/* Tables of a text's length: phi3's stretch from 64 tokens on, and what was kept was turned by the other table. */
static void a_text_that_outgrows_its_rotations_is_run_anew(void **state)
{
    (void)state;
    enum { LEN = 70 };
    TestRun b;
    test_run_open(&b, "tests/golden/models/phi3/fp32", ARITH_FP32, 1, NULL);
    int64_t vocab = b.m->cfg.vocab;
    int32_t *ids = random_ids(LEN, vocab, 5);
    float *got = malloc((size_t)vocab * sizeof *got);
    Decoder *d = decoder_of(b.r, 1, LEN, 0);
    for (int64_t at = 0; at < LEN;) {
        int64_t n = at ? 1 : 60;
        step(d, 1, &(int){0}, (int64_t[]){0, n}, ids + at, got);
        at += n;
        assert_int_equal(decoder_length(d, 0), at);
        float *want = whole_pass(b.r, ids, at);
        assert_true(test_worst(want + (at - 1) * vocab, got, vocab) < 1e-4);
        free(want);
    }
    decoder_free(d);
    free(ids);
    free(got);
    test_run_close(&b);
}

/* ---- greedy ---- */

/* The definition: a pass over the whole text for every token. */
static int64_t plain_greedy(Runner *r, const int32_t *prompt, int64_t n, int64_t most, int32_t stop, int32_t *out)
{
    int64_t vocab = runner_model(r)->cfg.vocab, made = 0;
    int32_t text[64];
    memcpy(text, prompt, (size_t)n * sizeof *text);
    while (made < most) {
        float *logits = whole_pass(r, text, n);
        text[n] = first_largest(logits + (n - 1) * vocab, vocab);
        free(logits);
        if (text[n] == stop)
            break;
        out[made++] = text[n++];
    }
    return made;
}

static bool told(void *ctx, int text, int32_t id)
{
    int32_t (*got)[32] = ctx;
    got[text][++got[text][0]] = id;
    return true;
}

static void greedy_is_the_largest_logit_of_whole_passes(void **state)
{
    (void)state;
    static const char *const some[] = {"qwen3", "qwen3_next", "deepseek_v4"};
    enum { TEXTS = 5, MOST = 12 };
    static const int lengths[TEXTS] = {3, 9, 1, 6, 4};
    for (size_t k = 0; k < sizeof some / sizeof *some; k++) {
        char dir[128];
        TestRun b;
        Error e = {0};
        snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", some[k]);
        test_run_open(&b, dir, ARITH_FP32, 2, NULL);
        TokenSet *t = test_tokens(lengths, TEXTS, b.m->cfg.vocab, 3);
        int32_t want[MOST], first[MOST];
        int64_t n = plain_greedy(b.r, t->ids, lengths[0], MOST, -1, first);
        assert_int_equal(n, MOST);
        int32_t stop = first[MOST / 2]; /* so that texts end at different times */
        for (int places = 1; places <= 7; places += 2) {
            int32_t got[TEXTS][32] = {{0}};
            Greedy g;
            Decoder *d = decoder_of(b.r, places, 9 + MOST, (uint64_t)1 << 30);
            const GreedyOptions o = {.stop = &stop, .nstop = 1, .max_tokens = MOST, .token = told, .ctx = got};
            assert_int_equal(decode_greedy(d, t, &o, &g, &e), ST_OK);
            for (int i = 0; i < TEXTS; i++) {
                n = plain_greedy(b.r, t->ids + t->start[i], lengths[i], MOST, stop, want);
                assert_int_equal(g.start[i + 1] - g.start[i], n);
                assert_int_equal(got[i][0], n);
                assert_memory_equal(g.ids + g.start[i], want, (size_t)n * sizeof *want);
                assert_memory_equal(got[i] + 1, want, (size_t)n * sizeof *want);
                assert_int_equal(g.end[i], n < MOST ? GREEDY_STOP : GREEDY_LENGTH);
            }
            assert_int_equal(g.end[0], GREEDY_STOP);
            greedy_fini(&g);
            decoder_free(d);
        }
        test_tokens_free(t);
        test_run_close(&b);
    }
}

static bool ends_at_once(void *ctx, int text, int32_t id)
{
    (void)id;
    *(int *)ctx += 1;
    return text != 1;
}

static void who_is_told_may_end_a_text(void **state)
{
    (void)state;
    TestRun b;
    Error e = {0};
    Greedy g;
    int calls = 0;
    test_run_open(&b, "tests/golden/models/llama/fp32", ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens((const int[]){2, 3}, 2, b.m->cfg.vocab, 8);
    Decoder *d = decoder_of(b.r, 2, 16, 0);
    const GreedyOptions o = {.max_tokens = 4, .token = ends_at_once, .ctx = &calls};
    assert_int_equal(decode_greedy(d, t, &o, &g, &e), ST_OK);
    assert_int_equal(g.start[1], 4);
    assert_int_equal(g.start[2], 5);
    assert_int_equal(g.end[0], GREEDY_LENGTH);
    assert_int_equal(g.end[1], GREEDY_TOLD);
    assert_int_equal(calls, 5);
    assert_int_equal(g.steps, 4);
    greedy_fini(&g);
    assert_int_equal(decode_greedy(d, t, &(GreedyOptions){.max_tokens = 0}, &g, &e), ST_USAGE);
    decoder_free(d);
    test_tokens_free(t);
    test_run_close(&b);
}

/* ---- room ---- */

static void room_is_kept_to(void **state)
{
    (void)state;
    TestRun b;
    Error e = {0};
    int64_t left;
    test_run_open(&b, "tests/golden/models/mixtral/fp32", ARITH_FP32, 2, NULL);
    int64_t vocab = b.m->cfg.vocab;
    int32_t *ids = random_ids(8, vocab, 1);
    float *got = malloc((size_t)vocab * sizeof *got), *want = malloc((size_t)vocab * sizeof *want);
    uint64_t all = decoder_ready_bytes(b.m);
    for (int part = 0; part <= 4; part++) {
        Decoder *d = decoder_of(b.r, 1, 6, all * (uint64_t)part / 4);
        step(d, 1, &(int){0}, (int64_t[]){0, 5}, ids, part ? got : want);
        step(d, 1, &(int){0}, (int64_t[]){0, 1}, ids + 5, part ? got : want);
        assert_true(decoder_ready(d, &left) <= all * (uint64_t)part / 4);
        assert_true(part == 0 ? left == 0 : part == 4 ? left == 0 : left > 0);
        if (part)
            assert_memory_equal(got, want, (size_t)vocab * sizeof *got);
        assert_int_equal(decoder_step(d, &(DecodeStep){1, &(int){0}, (int64_t[]){0, 1}, ids}, got, &e), ST_USAGE);
        assert_string_equal(e.text, "a text of 7 tokens: there is room for 6");
        decoder_forget(d, 0);
        assert_int_equal(decoder_length(d, 0), 0);
        decoder_free(d);
    }
    free(ids);
    free(got);
    free(want);
    test_run_close(&b);
}

/* A form that has to see the whole input can't be told what comes. */
static Status sees_all(void *self, const float *x, const Stream *shape, int64_t width, Pool *pool, Error *err)
{
    (void)self;
    (void)x;
    (void)shape;
    (void)width;
    (void)pool;
    (void)err;
    return ST_OK;
}

static void forms_of_whole_texts_are_refused(void **state)
{
    (void)state;
    TestRun b;
    Error e = {0};
    Decoder *d;
    test_run_open(&b, "tests/golden/models/llama/fp32", ARITH_FP32, 1, NULL);
    const LinearForm form = {.prepare = sees_all};
    const LinearForm **forms = calloc((size_t)b.m->units[0].count, sizeof *forms);
    const Variant v = {.forms = forms};
    const Variant **all = calloc((size_t)b.m->cfg.layers, sizeof *all);
    forms[1] = &form;
    all[0] = &v;
    assert_int_equal(decoder_new(&d, b.r, &(DecoderOptions){.texts = 1, .rows = 4, .variant = all}, &e), ST_USAGE);
    assert_non_null(strstr(e.text, b.m->linears[1].name));
    free(forms);
    free(all);
    test_run_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_goes_on_as_a_whole_pass),
        cmocka_unit_test(rounded_arithmetic_goes_on_as_a_whole_pass),
        cmocka_unit_test(long_texts_go_on_across_blocks_of_keys),
        cmocka_unit_test(a_text_that_outgrows_its_rotations_is_run_anew),
        cmocka_unit_test(greedy_is_the_largest_logit_of_whole_passes),
        cmocka_unit_test(who_is_told_may_end_a_text),
        cmocka_unit_test(room_is_kept_to),
        cmocka_unit_test(forms_of_whole_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
