#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "math/convert.h"
#include "model/storage.h"
#include "run/source.h"
#include "measure/forward.h"
#include "save/saveout.h"
#include "tests/lib/tempdir.h"

/* A model that is nothing but a checkpoint: what storage_take needs. */
typedef struct World {
    Model m;
    Open o;
    Error err;
} World;

static void world_open(World *w, const char *path)
{
    *w = (World){0};
    w->o = (Open){.m = &w->m, .err = &w->err};
    w->m.cfg.block_out = w->m.cfg.block_in = 128;
    if (checkpoint_open(&w->m.ckpt, path, &w->err) != ST_OK)
        fail_msg("%s", w->err.text);
    w->o.used = calloc((size_t)checkpoint_count(w->m.ckpt), sizeof *w->o.used);
    assert_non_null(w->o.used);
}

static void world_close(World *w)
{
    checkpoint_free(w->m.ckpt);
    free(w->o.used);
    arena_free(&w->m.arena);
}

static Linear take(World *w, const char *base, int64_t out, int64_t in)
{
    Linear l = {.name = base, .out = out, .in = in};
    if (storage_take(&w->o, base, 0, out, in, "test", &l.weight, &l.store) != ST_OK)
        fail_msg("%s", w->err.text);
    assert_non_null(l.weight);
    assert_non_null(l.store);
    return l;
}

/* ---- the peer's functions ---- */

static void recorded_weights_are_decoded_bit_by_bit(void **state)
{
    (void)state;
    static const struct {
        const char *base, *how;
        int64_t out, in;
        uint64_t bytes;
    } cases[] = {
        {"fp8", "fp8", 200, 300, 200 * 300 + 2 * 3 * 4},
        {"v4fp8", "fp8_e8m0", 128, 256, 128 * 256 + 2},
        {"v4fp4", "fp4_e8m0", 8, 128, 8 * 64 + 8 * 4},
        {"int4", "int4_packed", 6, 64, 6 * 32 + 6 * 2 * 2},
    };
    World w;
    world_open(&w, "tests/golden/models/dequant/golden.safetensors");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[64];
        Linear l = take(&w, cases[i].base, cases[i].out, cases[i].in);
        assert_string_equal(l.store->how->name, cases[i].how);
        assert_int_equal(weight_bytes(&l), cases[i].bytes);
        assert_int_equal(weight_dtype(&l), DT_BF16);
        assert_int_equal(weight_verify(&w.m, &l, &w.err), ST_OK);
        snprintf(name, sizeof name, "%s.expected", cases[i].base);
        const TensorInfo *t = checkpoint_find(w.m.ckpt, name);
        assert_non_null(t);
        uint16_t *want = malloc(t->nbytes);
        float *got = malloc((size_t)(l.out * l.in) * sizeof *got);
        assert_int_equal(checkpoint_read(w.m.ckpt, t, 0, t->nbytes, want, &w.err), ST_OK);
        for (int64_t step = 1; step <= l.out; step += step < 7 ? 3 : l.out - step > 0 ? l.out - step : 1)
            for (int64_t r = 0; r < l.out; r += step) {
                int64_t n = l.out - r < step ? l.out - r : step;
                if (source_rows(&(Source){&w.m, NULL}, NULL, &l, r, n, got, &w.err) != ST_OK)
                    fail_msg("%s", w.err.text);
                for (int64_t j = 0; j < n * l.in; j++)
                    if (bits_of_float(got[j]) != (uint32_t)want[r * l.in + j] << 16)
                        fail_msg("%s[%lld,%lld]: %a, recorded %a", cases[i].base, (long long)(r + j / l.in),
                                 (long long)(j % l.in), (double)got[j], (double)bf16_to_float(want[r * l.in + j]));
            }
        free(want);
        free(got);
    }
    world_close(&w);
}

static void codes_are_their_formats(void **state)
{
    (void)state;
    for (int i = 0; i < 256; i++) { /* the definitions, in float64 */
        int e = i >> 3 & 15, m = i & 7;
        double v = e ? (1 + m / 8.0) : m / 8.0;
        for (int k = e ? e : 1; k < 7; k++)
            v /= 2;
        for (int k = 7; k < e; k++)
            v *= 2;
        float got = e4m3_to_float((uint8_t)i);
        if ((i & 127) == 127)
            assert_true(got != got);
        else
            assert_true((double)got == (i & 128 ? -v : v) && (bits_of_float(got) >> 31) == (uint32_t)i >> 7);
        float p = e8m0_to_float((uint8_t)i);
        double q = 1;
        for (int k = 127; k < i; k++)
            q *= 2;
        for (int k = i; k < 127; k++)
            q /= 2;
        if (i == 255)
            assert_true(p != p);
        else
            assert_true((double)p == q);
    }
    static const float fp4[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    for (uint8_t i = 0; i < 16; i++)
        assert_int_equal(bits_of_float(e2m1_to_float(i)), bits_of_float(fp4[i & 7]) | (uint32_t)(i & 8) << 28);
}

/* ---- shapes of all kinds, made here ---- */

typedef struct Files {
    char *dir;
    TensorOut t[8];
    int n;
} Files;

static uint32_t next(uint32_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 17;
    *s ^= *s << 5;
    return *s;
}

static void *add(Files *f, const char *name, DType t, int64_t a, int64_t b, int64_t c)
{
    int64_t n = a * (b ? b : 1) * (c ? c : 1);
    void *data = calloc((size_t)n + 1, (size_t)dtype_size(t));
    assert_non_null(data);
    f->t[f->n++] = (TensorOut){.name = name, .dtype = t, .ndim = c ? 3 : b ? 2 : 1, .shape = {a, b, c}, .data = data};
    return data;
}

static void files_open(Files *f, World *w)
{
    Error e;
    f->dir = temp_folder();
    const char *path = temp_path(f->dir, "x.safetensors");
    if (safetensors_write(path, f->t, f->n, NULL, &e) != ST_OK)
        fail_msg("%s", e.text);
    world_open(w, path);
}

static void files_close(Files *f, World *w)
{
    world_close(w);
    for (int i = 0; i < f->n; i++)
        free((void *)(uintptr_t)f->t[i].data);
    temp_remove(f->dir);
    *f = (Files){0};
}

/* Blocks that end in the middle, in both directions and in stacked matrices; any range of rows. */
static void blocks_may_end_anywhere(void **state)
{
    (void)state;
    static const struct {
        int64_t matrices, rows, in, bn, bk;
    } cases[] = {{0, 1, 1, 128, 128}, {0, 129, 127, 128, 128}, {0, 130, 257, 128, 128}, {0, 7, 5, 3, 2},
                 {0, 10, 10, 1, 10}, {3, 7, 5, 3, 2}, {4, 6, 33, 128, 8}};
    uint32_t seed = 7;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t e = cases[i].matrices ? cases[i].matrices : 1, n = cases[i].rows, k = cases[i].in;
        int64_t sr = (n + cases[i].bn - 1) / cases[i].bn, sc = (k + cases[i].bk - 1) / cases[i].bk;
        Files f = {0};
        World w;
        bool one = !cases[i].matrices;
        uint8_t *q = add(&f, "x.weight", DT_F8_E4M3, one ? n : e, one ? k : n, one ? 0 : k);
        float *s = add(&f, "x.weight_scale_inv", DT_F32, one ? sr : e, one ? sc : sr, one ? 0 : sc);
        for (int64_t j = 0; j < e * n * k; j++)
            q[j] = (uint8_t)next(&seed);
        for (int64_t j = 0; j < e * sr * sc; j++)
            s[j] = (float)(next(&seed) >> 8) * 0x1p-24f;
        files_open(&f, &w);
        w.m.cfg.block_out = cases[i].bn;
        w.m.cfg.block_in = cases[i].bk;
        Linear l = {.name = "x", .out = n, .in = k};
        if (storage_take(&w.o, "x", cases[i].matrices, n, k, "test", &l.weight, &l.store) != ST_OK)
            fail_msg("%s", w.err.text);
        assert_int_equal(w.m.params, e * n * k);
        float *got = malloc((size_t)(n * k) * sizeof *got);
        for (int64_t m = 0; m < e; m++)
            for (int64_t a = 0; a < n; a++)
                for (int64_t b = a + 1; b <= n; b += 1 + n / 9) {
                    l.at = m * n * k;
                    l.out_step = one ? 0 : k;
                    l.in_step = one ? 0 : 1;
                    assert_int_equal(source_rows(&(Source){&w.m, NULL}, NULL, &l, a, b - a, got, &w.err), ST_OK);
                    for (int64_t r = a; r < b; r++)
                        for (int64_t j = 0; j < k; j++) {
                            float x = e4m3_to_float(q[(m * n + r) * k + j]) *
                                      s[(m * sr + r / cases[i].bn) * sc + j / cases[i].bk];
                            x = bf16_to_float(bf16_of_float(x));
                            float y = got[(r - a) * k + j];
                            assert_true(x != x ? y != y : bits_of_float(x) == bits_of_float(y));
                        }
                }
        free(got);
        files_close(&f, &w);
    }
}

static void what_does_not_fit_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *codes, *scales, *extra;
        DType dtype, scale_dtype;
        int64_t shape[3], scale_shape[3], out, in;
        const char *error;
    } cases[] = {
        {"x.weight", "y", NULL, DT_F8_E4M3, DT_F32, {4, 4}, {1, 1}, 4, 4, "tensor 'x.weight_scale_inv' is missing"},
        {"x.weight", "y", NULL, DT_I8, DT_F32, {4, 16}, {1, 1}, 4, 32, "tensor 'x.scale' is missing: 'x.weight' is I8"},
        {"x.weight", "x.weight_scale_inv", NULL, DT_F8_E4M3, DT_F32, {4, 4}, {2, 1}, 4, 4,
         "has shape [2,1], expected [1,1]"},
        {"x.weight", "x.weight_scale_inv", NULL, DT_F8_E4M3, DT_F32, {4, 4}, {1}, 4, 4,
         "has shape [1], expected [1,1]"},
        {"x.weight", "x.weight_scale_inv", NULL, DT_F8_E4M3, DT_I32, {4, 4}, {1, 1}, 4, 4,
         "is I32: the scales of FP8"},
        {"x.weight", "x.weight_scale_inv", NULL, DT_F8_E4M3, DT_F32, {4, 5}, {1, 1}, 4, 4,
         "has shape [4,5], expected [4,4] (test)"},
        {"x.weight", "x.scale", NULL, DT_I8, DT_F8_E8M0, {4, 16}, {4, 2}, 4, 32, "has shape [4,2], expected [4,1]"},
        {"x.weight", "x.scale", NULL, DT_I8, DT_F8_E8M0, {4, 20}, {4, 1}, 4, 40, "in groups of 32 (test)"},
        {"x.weight_packed", "x.weight_scale", NULL, DT_I32, DT_BF16, {4, 5}, {4, 3}, 4, 40, "3 scales a row"},
        {"x.weight_packed", "x.weight_scale", NULL, DT_I32, DT_BF16, {4, 4}, {4, 2}, 4, 40,
         "has shape [4,4], expected [4,5]"},
        {"x.weight_packed", "x.weight_scale", NULL, DT_I32, DT_BF16, {4, 5}, {3, 2}, 4, 40,
         "has shape [3,2], expected [4,2]"},
        {"x.weight_packed", "x.weight_scale", "x.weight_zero_point", DT_I32, DT_BF16, {4, 5}, {4, 2}, 4, 40,
         "with offsets are not read"},
        {"x.weight_packed", "x.weight_scale", "x.weight_shape", DT_I32, DT_BF16, {4, 5}, {4, 2}, 4, 40,
         "must be two integers"},
        {"x_blocks", "x_scales", NULL, DT_U8, DT_U8, {4, 2, 16}, {4, 3}, 4, 64, "has shape [4,3], expected [4,2]"},
        {"x_blocks", "x_scales", NULL, DT_U8, DT_U8, {4, 2, 8}, {4, 2}, 4, 64, "has shape [4,2,8], expected [4,2,16]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Files f = {0};
        World w;
        Linear l;
        const int64_t *a = cases[i].shape, *b = cases[i].scale_shape;
        add(&f, cases[i].codes, cases[i].dtype, a[0], a[1], a[2]);
        add(&f, cases[i].scales, cases[i].scale_dtype, b[0], b[1], b[2]);
        if (cases[i].extra)
            add(&f, cases[i].extra, DT_I64, 3, 0, 0);
        files_open(&f, &w);
        assert_int_equal(storage_take(&w.o, "x", 0, cases[i].out, cases[i].in, "test", &l.weight, &l.store), ST_DATA);
        if (!strstr(w.err.text, cases[i].error))
            fail_msg("case %zu: %s", i, w.err.text);
        files_close(&f, &w);
    }
}

/* ---- config.json ---- */

static void quantization_config_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error; /* NULL: accepted */
        int64_t out, in;
    } cases[] = {
        {"{}", NULL, 128, 128},
        {"{\"quantization_config\":null}", NULL, 128, 128},
        {"{\"quantization_config\":{\"quant_method\":\"fp8\"}}", NULL, 128, 128},
        {"{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[32,64]}}", NULL, 32, 64},
        {"{\"quantization_config\":{\"quant_method\":\"mxfp4\"}}", NULL, 128, 128},
        {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\"}}", NULL, 128, 128},
        {"{\"quantization_config\":[]}", "must be an object", 0, 0},
        {"{\"quantization_config\":{}}", "'quant_method' is missing", 0, 0},
        {"{\"quantization_config\":{\"quant_method\":7}}", "'quant_method' must be a string", 0, 0},
        {"{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}}", "quant_method 'gptq' is not read", 0, 0},
        {"{\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}}", "fmt 'e5m2' is not read", 0, 0},
        {"{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128]}}", "two whole numbers", 0, 0},
        {"{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[0,1]}}", "two whole numbers", 0, 0},
        {"{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[1.5,1]}}", "two whole", 0, 0},
        {"{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[1,1e300]}}", "two whole", 0, 0},
        {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\"}}",
         "format 'float-quantized' is not read", 0, 0},
        {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"a\":{\"weights\":"
         "{\"num_bits\":8}}}}}", "'8-bit int' is not read", 0, 0},
        {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"a\":{\"weights\":"
         "{\"num_bits\":4,\"symmetric\":false}}}}}", "'4-bit asymmetric int' is not read", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *root;
        ModelConfig cfg = {0};
        Error e = {0};
        bool foreign;
        assert_int_equal(json_parse(cases[i].text, strlen(cases[i].text), "test", &root, &e), ST_OK);
        Status st = storage_config(root, root, &cfg, &foreign, &e);
        if (cases[i].error) {
            assert_int_equal(st, ST_DATA);
            assert_true(foreign == (strstr(cases[i].error, "is not read") != NULL));
            if (!strstr(e.text, cases[i].error))
                fail_msg("%s: %s", cases[i].text, e.text);
        } else {
            assert_int_equal(st, ST_OK);
            assert_int_equal(cfg.block_out, cases[i].out);
            assert_int_equal(cfg.block_in, cases[i].in);
        }
        cJSON_Delete(root);
    }
    cJSON *root = cJSON_Parse("{\"quantization_config\":{\"quant_method\":\"awq\"},\"text_config\":{}}");
    ModelConfig cfg = {0};
    bool foreign;
    assert_int_equal(storage_config(root, cJSON_GetObjectItem(root, "text_config"), &cfg, &foreign, NULL), ST_DATA);
    cJSON_Delete(root);
}

/* ---- what a run reads ---- */

/* A pass over one chunk reads every weight once, as it is stored: no tensor is expanded on disk or in whole. */
static void a_run_reads_stored_bytes(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen3-bf16-2", "qwen3-bf16-5"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[200], *dir = temp_folder();
        const char *out = temp_path(dir, "f.safetensors");
        Model *m;
        Pool *pool;
        Runner *r;
        Error e;
        int32_t ids[] = {1, 2, 3, 300};
        int64_t start[] = {0, 4};
        TokenSet t = {.samples = 1, .start = start, .ids = ids};
        snprintf(path, sizeof path, "tests/golden/formats/_models/%s", models[i]);
        if (model_open(&m, path, NULL, &e) != ST_OK || pool_new(&pool, 2, &e) != ST_OK)
            fail_msg("%s", e.text);
        assert_int_equal(checkpoint_bytes_read(m->ckpt), 0);
        RunnerOptions o = {.pool = pool};
        assert_int_equal(runner_new(&r, m, &o, &e), ST_OK);
        if (forward_write(r, &t, out, &e) != ST_OK)
            fail_msg("%s", e.text);
        uint64_t want = 0;
        for (int64_t k = 0; k < checkpoint_count(m->ckpt); k++) {
            const TensorInfo *x = checkpoint_at(m->ckpt, k);
            want += x == m->entry.table ? 4 * (uint64_t)m->cfg.hidden * 2 : x->nbytes;
        }
        assert_int_equal(checkpoint_bytes_read(m->ckpt), want);
        runner_free(r);
        pool_free(pool);
        model_free(m);
        temp_remove(dir);
    }
}

/* ---- what a saver writes ---- */

typedef struct Sink {
    unsigned char *p;
    size_t n;
} Sink;

static Status sink_put(void *ctx, uint64_t at, const void *bytes, size_t n, Error *err)
{
    (void)err;
    Sink *s = ctx;
    assert_true(at + n <= s->n);
    memcpy(s->p + at, bytes, n);
    return ST_OK;
}

/* Linears that stay float are written as the peer's conversion writes them, byte for byte. */
static void savers_write_what_codes_stand_for(void **state)
{
    (void)state;
    static const char *const models[][2] = {{"qwen3-bf16-2", "convert_fp8block32_to_bf16_hf"},
                                            {"qwen3-bf16-5", "convert_int4packed_to_bf16_hf"}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[200], out[200], name[200];
        Model *m;
        Checkpoint *c;
        Error e;
        snprintf(path, sizeof path, "tests/golden/formats/_models/%s", models[i][0]);
        snprintf(out, sizeof out, "tests/golden/formats/%s/out", models[i][1]);
        if (model_open(&m, path, NULL, &e) != ST_OK || checkpoint_open(&c, out, &e) != ST_OK)
            fail_msg("%s", e.text);
        SavePlan plan = {.model = m};
        for (int64_t k = 0; k < m->nlinears; k++) {
            snprintf(name, sizeof name, "%s.weight", m->linears[k].name);
            const TensorInfo *t = checkpoint_find(c, name);
            assert_non_null(t);
            unsigned char *want = malloc(t->nbytes);
            Sink got = {malloc(t->nbytes), t->nbytes};
            assert_int_equal(checkpoint_read(c, t, 0, t->nbytes, want, &e), ST_OK);
            if (save_copy_linear(&plan, k, false, sink_put, &got, &e) != ST_OK)
                fail_msg("%s", e.text);
            assert_memory_equal(want, got.p, t->nbytes);
            free(want);
            free(got.p);
        }
        checkpoint_free(c);
        model_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_weights_are_decoded_bit_by_bit),
        cmocka_unit_test(codes_are_their_formats),
        cmocka_unit_test(blocks_may_end_anywhere),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(quantization_config_is_read),
        cmocka_unit_test(a_run_reads_stored_bytes),
        cmocka_unit_test(savers_write_what_codes_stand_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
