/* Units in parts, and what blocks can be told beyond what the families of today need, against the obvious arithmetic. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/block.h"
#include "run/unit.h"
#include "tests/lib/bench.h"
#include "tests/lib/random_model.h"

enum { SAMPLES = 3, HIDDEN = 24, INTER = 40, HEADS = 4, KV = 2, DIM = 6 };
static const int lengths[SAMPLES] = {7, 1, 19};

/* ---- parts ---- */

static void run(TestRun *b, int unit, int from, int to, const Variant *v, const Stream *in, Stream *out)
{
    Error e = {0};
    if (unit_forward(b->r, unit, from, to, v, in, out, NULL, 0, &e) != ST_OK)
        fail_msg("unit %d, blocks %d to %d: %s", unit, from, to, e.text);
}

/* A stream of this one's shape that holds nothing a block could mistake for its input. */
static void empty_like(const Stream *h, Stream *out)
{
    Error e = {0};
    assert_int_equal(stream_copy(out, h, &e), ST_OK);
    for (int64_t i = 0; i < h->rows * h->width; i++)
        out->data[i] = NAN;
}

/* Every unit whole, and as its first block and the rest: the same bytes. */
static void cut_units(const char *dir, ArithMode arith, VariantDtype dtype)
{
    TestRun b;
    Error e = {0};
    Stream h, whole, parts;
    const Variant v = {.dtype = dtype};
    test_run_open(&b, dir, arith, 2, NULL);
    TokenSet *t = test_tokens(lengths, SAMPLES, b.m->cfg.vocab, 3);
    assert_int_equal(runner_embed(b.r, t, &h, &e), ST_OK);
    for (int u = 0; u < b.m->nunits; u++) {
        int n = b.m->units[u].nblocks;
        assert_true(n >= 2);
        empty_like(&h, &whole);
        empty_like(&h, &parts);
        run(&b, u, 0, n, &v, &h, &whole);
        run(&b, u, 0, 1, &v, &h, &parts);
        assert_memory_not_equal(whole.data, parts.data, (size_t)(h.rows * h.width) * sizeof(float));
        run(&b, u, 1, n, &v, &parts, &parts);
        assert_memory_equal(whole.data, parts.data, (size_t)(h.rows * h.width) * sizeof(float));
        stream_fini(&h);
        stream_fini(&parts);
        h = whole;
    }
    stream_fini(&h);
    test_tokens_free(t);
    test_run_close(&b);
}

static void parts_make_the_whole(void **state)
{
    (void)state;
    static const char *const models[] = {
        "tests/golden/models/llama/bf16",      "tests/golden/models/gemma2/bf16",
        "tests/golden/models/qwen3_next/fp32", "tests/golden/models/deepseek_v3/bf16",
        "tests/golden/models/longcat_flash/fp32", "tests/golden/models/gpt_oss/bf16",
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        cut_units(models[i], ARITH_FP32, VARIANT_MODEL);
        cut_units(models[i], ARITH_EXACT, VARIANT_MODEL);
        cut_units(models[i], ARITH_EXACT, VARIANT_MIXED); /* the first norm alone rounds */
    }
}

static void parts_that_are_not_there(void **state)
{
    (void)state;
    TestRun b;
    Error e = {0};
    Stream h;
    static const int bad[][3] = {{-1, 0, 1}, {99, 0, 1}, {0, -1, 1}, {0, 1, 1}, {0, 0, 3}};
    test_run_open(&b, "tests/golden/models/llama/bf16", ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens(lengths, SAMPLES, b.m->cfg.vocab, 3);
    assert_int_equal(runner_embed(b.r, t, &h, &e), ST_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(unit_forward(b.r, bad[i][0], bad[i][1], bad[i][2], NULL, &h, &h, NULL, 0, &e), ST_INTERNAL);
    stream_fini(&h);
    test_tokens_free(t);
    test_run_close(&b);
}

/* ---- what the obvious arithmetic gives ---- */

/* How a unit of the random Llama is changed. */
typedef struct Change {
    bool every_key, layer_norm, bias, plain, no_rope;
} Change;

typedef struct Ref {
    const Model *m;
    const Change *c;
    const Unit *u;
} Ref;

static double *product(const Ref *r, const char *slot, const double *x, int64_t rows)
{
    const Linear *l = &r->m->linears[unit_linear(r->u, slot)];
    float *w = test_tensor(r->m->ckpt, l->weight);
    double *y = calloc((size_t)(rows * l->out), sizeof *y);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t o = 0; o < l->out; o++)
            for (int64_t i = 0; i < l->in; i++)
                y[t * l->out + o] += x[t * l->in + i] * (double)w[o * l->in + i];
    free(w);
    return y;
}

/* LayerNorm, or the square mean's. */
static double *normed(const Ref *r, const Block *join, const double *h, int64_t rows)
{
    float *w = test_tensor(r->m->ckpt, join->small[RESIDUAL_BEFORE]);
    float *b = join->small[RESIDUAL_BEFORE_BIAS] ? test_tensor(r->m->ckpt, join->small[RESIDUAL_BEFORE_BIAS]) : NULL;
    double *y = calloc((size_t)(rows * HIDDEN), sizeof *y);
    for (int64_t t = 0; t < rows; t++) {
        const double *x = h + t * HIDDEN;
        double mean = 0, sq = 0;
        for (int i = 0; i < HIDDEN && r->c->layer_norm; i++)
            mean += x[i] / HIDDEN;
        for (int i = 0; i < HIDDEN; i++)
            sq += (x[i] - mean) * (x[i] - mean) / HIDDEN;
        for (int i = 0; i < HIDDEN; i++)
            y[t * HIDDEN + i] = (x[i] - mean) / sqrt(sq + r->m->cfg.eps) * (double)w[i] + (b ? (double)b[i] : 0);
    }
    free(w);
    free(b);
    return y;
}

static void rotate(const Ref *r, double *x, int heads, int64_t rows)
{
    for (int64_t t = 0; t < rows && !r->c->no_rope; t++)
        for (int h = 0; h < heads; h++)
            for (int j = 0; j < DIM / 2; j++) {
                double *a = x + (t * heads + h) * DIM + j, *b = a + DIM / 2, u = *a, v = *b;
                double angle = (double)t * pow(r->m->cfg.rope.theta, -2.0 * j / DIM);
                *a = u * cos(angle) - v * sin(angle);
                *b = v * cos(angle) + u * sin(angle);
            }
}

static double *attended(const Ref *r, const double *q, const double *k, const double *v, int64_t rows)
{
    double *o = calloc((size_t)(rows * HEADS * DIM), sizeof *o), p[64];
    for (int h = 0; h < HEADS; h++)
        for (int64_t t = 0; t < rows; t++) {
            int64_t keys = r->c->every_key ? rows : t + 1, kv = h / (HEADS / KV);
            double sum = 0;
            for (int64_t s = 0; s < keys; s++) {
                double dot = 0;
                for (int j = 0; j < DIM; j++)
                    dot += q[(t * HEADS + h) * DIM + j] * k[(s * KV + kv) * DIM + j];
                sum += p[s] = exp(dot / sqrt(DIM));
            }
            for (int64_t s = 0; s < keys; s++)
                for (int j = 0; j < DIM; j++)
                    o[(t * HEADS + h) * DIM + j] += p[s] / sum * v[(s * KV + kv) * DIM + j];
        }
    return o;
}

/* h of one text becomes the unit's output. */
static void reference(const Ref *r, double *h, int64_t rows)
{
    double *x = normed(r, r->u->block[0].join, h, rows);
    double *q = product(r, "q", x, rows), *k = product(r, "k", x, rows), *v = product(r, "v", x, rows);
    rotate(r, q, HEADS, rows);
    rotate(r, k, KV, rows);
    double *o = attended(r, q, k, v, rows), *a = product(r, "o", o, rows);
    for (int64_t i = 0; i < rows * HIDDEN; i++)
        h[i] += a[i];
    double *y = normed(r, r->u->block[1].join, h, rows), *up = product(r, "up", y, rows);
    double *gate = r->c->plain ? NULL : product(r, "gate", y, rows);
    for (int64_t i = 0; i < rows * INTER; i++)
        up[i] = gate ? up[i] * gate[i] / (1 + exp(-gate[i])) : up[i] / (1 + exp(-up[i]));
    double *down = product(r, "down", up, rows);
    for (int64_t i = 0; i < rows * HIDDEN; i++)
        h[i] += down[i];
    double *const all[] = {x, q, k, v, o, a, y, up, gate, down};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* ---- the blocks, told otherwise ---- */

/* What stands in for the unit's own while it is changed. */
typedef struct Stand {
    ModelConfig cfg;
    GqaConf gqa;
    DenseConf dense;
    Block join[2];
    const TensorInfo *small[2][RESIDUAL_SMALLS];
} Stand;

static void change_unit(Model *m, const Change *c, Stand *s)
{
    Unit *u = &m->units[0];
    s->cfg = m->cfg;
    s->gqa = *(const GqaConf *)u->block[0].conf;
    s->dense = *(const DenseConf *)u->block[1].conf;
    s->gqa.every_key = c->every_key;
    s->dense.plain = c->plain;
    s->cfg.norm = c->layer_norm ? NORM_LAYER : m->cfg.norm;
    u->cfg = &s->cfg;
    u->block[0].conf = &s->gqa;
    u->block[1].conf = &s->dense;
    if (c->no_rope)
        u->block[0].rope = NULL;
    if (c->plain)
        u->block[1].linear[DENSE_GATE] = -1;
    for (int i = 0; i < 2; i++) {
        s->join[i] = *u->block[i].join;
        memcpy(s->small[i], s->join[i].small, sizeof s->small[i]);
        if (c->bias) /* as wide as the norm, and other values */
            s->small[i][RESIDUAL_BEFORE_BIAS] = m->units[1].block[i].join->small[RESIDUAL_BEFORE];
        s->join[i].small = s->small[i];
        u->block[i].join = &s->join[i];
    }
}

static void check_change(const char *dir, const Change *c, int threads)
{
    TestRun b;
    Stand stand;
    Stream h, out;
    Error e = {0};
    test_run_open(&b, dir, ARITH_FP32, threads, NULL);
    change_unit(b.m, c, &stand);
    TokenSet *t = test_tokens(lengths, SAMPLES, b.m->cfg.vocab, 5);
    assert_int_equal(runner_embed(b.r, t, &h, &e), ST_OK);
    empty_like(&h, &out);
    run(&b, 0, 0, 2, NULL, &h, &out);
    const Ref r = {b.m, c, &b.m->units[0]};
    for (int s = 0; s < SAMPLES; s++) {
        int64_t rows = lengths[s], at = h.start[s] * HIDDEN;
        double *want = malloc((size_t)(rows * HIDDEN) * sizeof *want);
        for (int64_t i = 0; i < rows * HIDDEN; i++)
            want[i] = (double)h.data[at + i];
        reference(&r, want, rows);
        for (int64_t i = 0; i < rows * HIDDEN; i++)
            if (!(fabs((double)out.data[at + i] - want[i]) < 2e-5))
                fail_msg("text %d, value %lld: %g, not %g", s, (long long)i, (double)out.data[at + i], want[i]);
        free(want);
    }
    stream_fini(&h);
    stream_fini(&out);
    test_tokens_free(t);
    test_run_close(&b);
}

static void blocks_told_otherwise(void **state)
{
    (void)state;
    static const Change rows[] = {
        {.every_key = false}, {.every_key = true},      {.layer_norm = true},
        {.plain = true},      {.layer_norm = true, .bias = true}, {.no_rope = true},
        {.every_key = true, .layer_norm = true, .bias = true, .plain = true, .no_rope = true}, /* an encoder's layer */
    };
    const RandomShape shape = {.model_type = "llama", .layers = 2, .heads = HEADS, .kv_heads = KV, .head_dim = DIM,
                               .hidden = HIDDEN, .inter = INTER, .vocab = 50, .dtype = DT_F32, .seed = 9};
    char dir[64];
    random_model_write(&shape, dir);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        check_change(dir, &rows[i], 1);
        check_change(dir, &rows[i], 3);
    }
    random_model_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_make_the_whole),
        cmocka_unit_test(parts_that_are_not_there),
        cmocka_unit_test(blocks_told_otherwise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
