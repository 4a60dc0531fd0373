#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/forms.h"
#include "tests/lib/configs.h"

/* What linears that read one input share is made once: the level's quantizer is watched. */

enum { IN = 40, ROWS = 90, LINEARS = 4 };
static const int64_t outs[LINEARS] = {24, 8, 70, 16};

typedef struct Watch {
    int prepared, released, quantized;
    const void *shared;
    const WeightQuantizer *real;
} Watch;

static Watch watch; /* quantizers are tables: they have no context */

static Status prepare(const WeightTask *t, float *h, void **shared, Error *err)
{
    watch.prepared++;
    Status st = watch.real->prepare(t, h, shared, err);
    watch.shared = *shared;
    return st;
}

static void release(void *shared)
{
    watch.released += shared != NULL;
    assert_int_equal(watch.released, watch.prepared);
    watch.real->release(shared);
}

static Status quantize(const WeightTask *t, QWeight *out, Error *err)
{
    watch.quantized++;
    assert_int_equal(watch.released, watch.prepared - 1);
    assert_ptr_equal(t->shared, watch.shared);
    return watch.real->quantize(t, out, err);
}

static float value(int64_t i)
{
    return (float)(int)((uint32_t)(i + 1) * 2654435761u >> 16) / 65536.0f - 0.5f;
}

static Status read_weight(void *ctx, int64_t linear, float *w, Error *err)
{
    (void)ctx;
    (void)err;
    for (int64_t i = 0; i < outs[linear] * IN; i++)
        w[i] = value(i + 1000 * linear);
    return ST_OK;
}

/* Linear `only` (-1: all) at the level; takes what `i` became. */
static QWeight quantized(int only, int i, int *prepared)
{
    QConfig q = config_default();
    q.act = (QSpec){.dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .symmetric = true, .method = "none"};
    strcpy(q.weight.method, "gptq");
    QuantLevel level = quant_level(&q);
    assert_true(level.runs);
    WeightQuantizer watched = *level.weight;
    watched.prepare = prepare;
    watched.release = release;
    watched.quantize = quantize;
    watch = (Watch){.real = level.weight};
    level.weight = &watched;
    Linear linears[LINEARS];
    int16_t at[LINEARS];
    for (int k = 0; k < LINEARS; k++) { /* the first three read one input, as q, k and v do */
        linears[k] = (Linear){.name = "l", .out = outs[k], .in = IN, .group = k < 3 ? 0 : 3, .input = k < 3 ? 0 : 3,
                              .expert = -1};
        at[k] = only < 0 || only == k;
    }
    Model m = {.linears = linears, .nlinears = LINEARS, .cfg = {.layers = 1}};
    FormsOptions o = {.levels = &level, .level = at, .weight = DT_F32, .read = read_weight};
    assert_int_equal(pool_new(&o.pool, 2, NULL), ST_OK);
    int64_t start[2] = {0, ROWS};
    Stream shape = {.samples = 1, .rows = ROWS, .width = IN, .start = start};
    float x[ROWS * IN];
    LayerForms f;
    for (int64_t k = 0; k < ROWS * IN; k++)
        x[k] = value(7 * k);
    assert_int_equal(layer_forms_init(&f, &m, &o, 0, LINEARS, NULL), ST_OK);
    assert_int_equal(layer_forms_stage(&f, 0, FORM_CALIBRATE, &(FormTypes){DT_F32, DT_F32, DT_F32}, NULL), ST_OK);
    for (int k = 0; k < LINEARS; k++)
        if (f.table[k])
            assert_int_equal(f.table[k]->prepare(f.table[k]->self, x, &shape, IN, o.pool, NULL), ST_OK);
    assert_int_equal(watch.quantized, only < 0 ? LINEARS : 1);
    QWeight out;
    assert_int_equal(layer_forms_take(&f, i, &out, NULL), ST_OK);
    *prepared = watch.prepared;
    assert_int_equal(watch.released, watch.prepared);
    layer_forms_fini(&f);
    pool_free(o.pool);
    return out;
}

static void linears_of_one_input_share(void **state)
{
    (void)state;
    for (int i = 0; i < LINEARS; i++) {
        int prepared;
        QWeight all = quantized(-1, i, &prepared);
        assert_int_equal(prepared, 2); /* two inputs */
        QWeight alone = quantized(i, i, &prepared);
        assert_int_equal(prepared, 1);
        assert_memory_equal(all.code, alone.code, (size_t)(outs[i] * IN));
        assert_memory_equal(all.scale, alone.scale, (size_t)outs[i] * sizeof *all.scale);
        qweight_fini(&all);
        qweight_fini(&alone);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(linears_of_one_input_share)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
