#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <string.h>

#include <cmocka.h>

#include "run/rotary.h"
#include "run/sdpa.h"

/* Position tables and the fused attention's exp against values computed apart (numpy, each operation rounded to float32
 * once, in the order of the originals). */

enum { DIM = 24, HALF = DIM / 2 };

/* ---- position tables ---- */

/* Sines at position 1, where another order of operations gives another float32 in some of them. */
static void frequencies_are_made_in_the_originals_order(void **state)
{
    (void)state;
    static double factors[HALF];
    for (int j = 0; j < HALF; j++)
        factors[j] = (100 + 37 * j) / 100.0;
    const struct {
        RopeParams p;
        int64_t len;
        float sine[HALF];
    } rows[] = {
        {{.type = ROPE_LONGROPE, .theta = 10000, .dim = DIM, .original_max = 50, .short_factor = factors,
          .long_factor = factors, .has_attention_factor = true, .attention_factor = 1},
         40,
         {0x1.aed548p-1f, 0x1.545588p-2f, 0x1.f9dd2cp-4f, 0x1.8419e4p-5f, 0x1.32a058p-6f, 0x1.ef68d4p-8f, 0x1.970e26p-9f,
          0x1.52ee8p-10f, 0x1.1d3d06p-11f, 0x1.e454aap-13f, 0x1.9e37c4p-14f, 0x1.6476aep-15f}},
        {{.type = ROPE_DYNAMIC, .theta = 10000, .dim = DIM, .factor = 3},
         300,
         {0x1.aed548p-1f, 0x1.7984e4p-2f, 0x1.22fc9cp-3f, 0x1.b8c2e2p-5f, 0x1.4cfb6ep-6f, 0x1.f6f02p-8f, 0x1.7bccfep-9f,
          0x1.1ecf56p-10f, 0x1.b12c62p-12f, 0x1.471d46p-13f, 0x1.ee0bccp-15f, 0x1.751526p-16f}},
        {{.type = ROPE_YARN, .theta = 10000, .dim = DIM, .factor = 7, .original_max = 77, .beta_fast = 32,
          .beta_slow = 1, .truncate = true, .has_attention_factor = true, .attention_factor = 1},
         300,
         {0x1.aed548p-1f, 0x1.6d39bcp-2f, 0x1.f6fceap-4f, 0x1.24825ep-5f, 0x1.b28e38p-8f, 0x1.936876p-9f, 0x1.767dc6p-10f,
          0x1.5ba5a8p-11f, 0x1.42ba14p-12f, 0x1.2b97d8p-13f, 0x1.161e2p-14f, 0x1.022e76p-15f}},
        {{.type = ROPE_YARN, .theta = 150000, .dim = DIM, .factor = 32, .original_max = 4096, .beta_fast = 32,
          .beta_slow = 1, .truncate = true, .has_attention_factor = true, .attention_factor = 1},
         10,
         {0x1.aed548p-1f, 0x1.72aa94p-2f, 0x1.1814f2p-3f, 0x1.a0154ep-5f, 0x1.d3571ap-7f, 0x1.d7209ap-9f, 0x1.722766p-11f,
          0x1.f56624p-16f, 0x1.736d1p-17f, 0x1.132518p-18f, 0x1.97a4c4p-20f, 0x1.2df954p-21f}},
    };
    const ModelConfig cfg = {.max_positions = 77};
    const Ops ops = ops_make(ARITH_FP32, DT_F32);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        RopeSet set = {0};
        Error e = {0};
        if (rope_reserve(&set, &cfg, &rows[i].p, &ops, rows[i].len, &e) != ST_OK)
            fail_msg("%s", e.text);
        const RopeTable *t = rope_table(&set, &cfg, &rows[i].p, rows[i].len);
        for (int j = 0; j < HALF; j++)
            if (t->sin[HALF + j] != rows[i].sine[j])
                fail_msg("table %d, pair %d: %a, not %a", (int)i, j, (double)t->sin[HALF + j], (double)rows[i].sine[j]);
        rope_fini(&set);
    }
}

/* ---- the fused attention's weights ---- */

static void whole_vectors_have_the_originals_exp(void **state)
{
    (void)state;
    static const struct {
        float x, low, full; /* in a 16-bit dtype, before rounding, and in float32 */
    } rows[] = {
        {0, 0x1.fff9p-1f, 1},
        {-0.1f, 0x1.cf4ep-1f, 0x1.cf46d8p-1f},
        {-0.5f, 0x1.368d8p-1f, 0x1.368b2ep-1f},
        {-1, 0x1.78afp-2f, 0x1.78b566p-2f},
        {-2.7f, 0x1.134cp-4f, 0x1.134614p-4f},
        {-7.3f, 0x1.62268p-11f, 0x1.622d44p-11f},
        {-20, 0x1.1b4f8p-29f, 0x1.1b4864p-29f},
        {-50.2f, 0x1.7dc9p-73f, 0x1.7dcf2ap-73f},
        {-87.3f, 0x1.0989p-126f, 0x1.09871ap-126f},
        {-87.4f, 0, 0},
    };
    enum { N = sizeof rows / sizeof *rows };
    const Ops full = ops_make(ARITH_EXACT, DT_F32), low = ops_make(ARITH_EXACT, DT_BF16);
    float a[N], b[N], c[N], want[N];
    double sum = 0;
    for (int i = 0; i < N; i++) {
        a[i] = b[i] = c[i] = rows[i].x;
        want[i] = rows[i].low;
        sum += (double)rows[i].low;
    }
    ops_round(&low, want, N);
    sdpa_weights(&full, a, 1, N, N);
    assert_true(sdpa_weights(&low, b, 1, N, N) == (float)sum);
    sdpa_weights(&full, c, 1, N, 3); /* the rest isn't a whole vector */
    for (int i = 0; i < N; i++) {
        float rest = i < 3 ? rows[i].full : expf(rows[i].x);
        if (a[i] != rows[i].full || b[i] != want[i] || c[i] != rest)
            fail_msg("exp(%g): %a %a %a", (double)rows[i].x, (double)a[i], (double)b[i], (double)c[i]);
    }
    float scaled[2] = {2, 6}; /* the maximum is subtracted after the scale */
    sdpa_weights(&full, scaled, 0.25f, 2, 0);
    assert_true(scaled[0] == expf(-1) && scaled[1] == 1);
    float lost[2] = {NAN, 1}, lost_low[2] = {NAN, 1}; /* what is no number stays none */
    assert_true(isnan(sdpa_weights(&full, lost, 1, 2, 2)) && isnan(lost[0]));
    assert_true(isnan(sdpa_weights(&low, lost_low, 1, 2, 2)) && isnan(lost_low[0]));
}

static void keys_of_whole_vectors(void **state)
{
    (void)state;
    static const struct {
        int64_t t, len;
        bool every;
        int64_t keys;
    } rows[] = {{0, 10, false, 0},     {0, 16, false, 16},     {0, 101, false, 32},   {31, 101, false, 32},
                {32, 101, false, 64},  {96, 101, false, 96},   {0, 192, false, 64},   {64, 199, false, 128},
                {191, 191, false, 176}, {150, 767, false, 192}, {0, 768, false, 256}, {1800, 1863, false, 1856},
                {3, 101, true, 96}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(sdpa_vector_keys(rows[i].t, rows[i].len, rows[i].every), rows[i].keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_are_made_in_the_originals_order),
        cmocka_unit_test(whole_vectors_have_the_originals_exp),
        cmocka_unit_test(keys_of_whole_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
