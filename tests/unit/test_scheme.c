#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "qir/scheme.h"

static QConfig config(QType at, QScope as, bool asym, QType wt, QScope ws, bool wsym)
{
    return (QConfig){
        .act = {.dtype = at, .scope = as, .symmetric = asym, .method = "minmax"},
        .weight = {.dtype = wt, .scope = ws, .symmetric = wsym, .method = "minmax"},
    };
}

static void names_round_trip(void **state)
{
    (void)state;
    for (int t = 0; t < QT_COUNT; t++)
        assert_int_equal(qtype_parse(qtype_name((QType)t)), t);
    for (int s = 0; s < QS_COUNT; s++)
        assert_int_equal(qscope_parse(qscope_name((QScope)s)), s);
    assert_int_equal(qtype_parse("INT8"), -1); /* case matters in YAML */
    assert_int_equal(qtype_parse(""), -1);
    assert_int_equal(qscope_parse("per_row"), -1);
}

/* Every row of specs/quantization.md 2 that a linear can have. */
static void pairs_find_their_names(void **state)
{
    (void)state;
    static const struct {
        QType at; QScope as; int asym; QType wt; QScope ws; int wsym; /* sym -1: both */
        const char *name;
        bool runnable;
    } rows[] = {
        {QT_INT8, QS_PER_TENSOR, -1, QT_INT8, QS_PER_CHANNEL, 1, "W8A8", true},
        {QT_INT8, QS_PER_TOKEN, 1, QT_INT8, QS_PER_CHANNEL, 1, "W8A8_DYNAMIC", true},
        {QT_INT8, QS_PER_TOKEN, 1, QT_INT8, QS_PER_GROUP, -1, "W8A8_DYNAMIC", true},
        {QT_INT8, QS_PD_MIX, 0, QT_INT8, QS_PER_CHANNEL, 1, "W8A8_MIX", true},
        {QT_INT8, QS_PER_TOKEN, 1, QT_INT4, QS_PER_CHANNEL, 1, "W4A8_DYNAMIC", true},
        {QT_INT4, QS_PER_TOKEN, 1, QT_INT4, QS_PER_CHANNEL, -1, "W4A4_DYNAMIC", false},
        {QT_INT4, QS_PER_TOKEN, 1, QT_INT4, QS_PER_GROUP, -1, "W4A4_DYNAMIC", false},
        {QT_FLOAT, QS_PER_TENSOR, 1, QT_INT8, QS_PER_CHANNEL, -1, "W8A16", true},
        {QT_FLOAT, QS_PER_TENSOR, 1, QT_INT8, QS_PER_GROUP, -1, "W8A16", true},
        {QT_FLOAT, QS_PER_TENSOR, 1, QT_INT4, QS_PER_GROUP, -1, "W4A16", true},
        {QT_FP8_E4M3, QS_PER_TOKEN, 1, QT_FP8_E4M3, QS_PER_CHANNEL, 1, "WFP8AFP8_DYNAMIC", true},
        {QT_MXFP8, QS_PER_BLOCK, 1, QT_MXFP8, QS_PER_BLOCK, 1, "W8A8_MXFP8", true},
        {QT_MXFP8, QS_PER_BLOCK, 1, QT_MXFP4, QS_PER_BLOCK, 1, "W4A8_MXFP", true},
        {QT_MXFP4, QS_PER_BLOCK, 1, QT_MXFP4, QS_PER_BLOCK, 1, "W4A4_MXFP4", true},
        {QT_MXFP4, QS_DUAL_SCALE, 1, QT_MXFP4, QS_DUAL_SCALE, 1, "W4A4_MXFP4_DUALSCALE", true},
    };
    int found = 0, in_table = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int v = 0; v < 4; v++) {
            bool as = v & 1, ws = v & 2;
            QConfig q = config(rows[i].at, rows[i].as, as, rows[i].wt, rows[i].ws, ws);
            const Scheme *s = scheme_find(&q);
            if ((rows[i].asym >= 0 && as != rows[i].asym) || (rows[i].wsym >= 0 && ws != rows[i].wsym)) {
                assert_null(s);
                continue;
            }
            assert_non_null(s);
            assert_string_equal(s->name, rows[i].name);
            assert_int_equal(s->runnable, rows[i].runnable);
            found++;
        }
    }
    for (const Scheme *s = scheme_table; s->name; s++) {
        in_table++;
        assert_non_null(s->bytes);
        assert_true(s->weight_bits == 4 || s->weight_bits == 8);
    }
    assert_int_equal(in_table, sizeof rows / sizeof rows[0] + 1);
    assert_int_equal(found, 22);
    QConfig q = qconfig_default();
    strcpy(q.weight.method, "w8a8s");
    assert_string_equal(scheme_find(&q)->name, "W8A8S");
    assert_true(scheme_find(&q)->runnable);
    q.weight.symmetric = false;
    assert_null(scheme_find(&q));
}

static void pairs_that_nothing_writes_have_no_row(void **state)
{
    (void)state;
    QConfig none[] = {
        config(QT_INT8, QS_PER_TOKEN, false, QT_INT8, QS_PER_CHANNEL, true),    /* the guides' per_token asymmetric */
        config(QT_FLOAT, QS_PER_TENSOR, true, QT_INT4, QS_PER_CHANNEL, true),   /* W4A16 is per_group */
        config(QT_INT8, QS_PER_TENSOR, false, QT_INT8, QS_PER_CHANNEL, false),  /* asymmetric weight */
        config(QT_INT8, QS_PER_TENSOR, false, QT_INT4, QS_PER_CHANNEL, true),   /* static W4A8 */
        config(QT_INT8, QS_PER_TOKEN, true, QT_INT4, QS_PER_GROUP, true),
        config(QT_FP8_E4M3, QS_PER_TENSOR, true, QT_FP8_E4M3, QS_PER_CHANNEL, true),
        config(QT_PLACEHOLDER, QS_PLACEHOLDER, true, QT_INT8, QS_PER_CHANNEL, true),
        config(QT_INT8, QS_PER_TENSOR, true, QT_FLOAT, QS_PER_CHANNEL, true),
    };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_null(scheme_find(&none[i]));
}

/* Payload bytes of the recorded ascendv1 outputs (golden/formats), bias not counted. */
static void bytes_equal_the_recorded_files(void **state)
{
    (void)state;
    static const struct {
        QType at; QScope as; QType wt; QScope ws;
        DType model;
        const char *name;
        int64_t out, in, group;
        uint64_t bytes;
    } rows[] = {
        {QT_INT8, QS_PER_TENSOR, QT_INT8, QS_PER_CHANNEL, DT_BF16, "down_proj", 64, 128, 0, 8712},
        {QT_INT8, QS_PER_TENSOR, QT_INT8, QS_PER_CHANNEL, DT_BF16, "k_proj", 32, 64, 0, 2312},
        {QT_INT8, QS_PER_TENSOR, QT_INT8, QS_PER_CHANNEL, DT_F32, "down_proj", 64, 192, 0, 13064},
        {QT_INT8, QS_PER_TENSOR, QT_INT8, QS_PER_CHANNEL, DT_F32, "q_proj", 64, 64, 0, 4872},
        {QT_INT8, QS_PER_TOKEN, QT_INT8, QS_PER_CHANNEL, DT_BF16, "down_proj", 64, 128, 0, 8704},
        {QT_INT8, QS_PER_TOKEN, QT_INT8, QS_PER_GROUP, DT_F32, "down_proj", 64, 192, 32, 15360},
        {QT_INT8, QS_PD_MIX, QT_INT8, QS_PER_CHANNEL, DT_BF16, "q_proj", 64, 64, 0, 5128},
        {QT_INT8, QS_PD_MIX, QT_INT8, QS_PER_CHANNEL, DT_F16, "q_proj", 64, 64, 0, 5384},
        {QT_INT8, QS_PER_TOKEN, QT_INT4, QS_PER_CHANNEL, DT_BF16, "down_proj", 64, 128, 0, 8704},
        {QT_INT8, QS_PER_TOKEN, QT_INT4, QS_PER_CHANNEL, DT_BF16, "k_proj", 32, 64, 0, 1408},
        {QT_FLOAT, QS_PER_TENSOR, QT_INT8, QS_PER_CHANNEL, DT_BF16, "k_proj", 32, 64, 0, 2304},
        {QT_FLOAT, QS_PER_TENSOR, QT_INT8, QS_PER_GROUP, DT_F32, "k_proj", 32, 64, 32, 2560},
        /* ours: 2048 bytes of nibbles, 64 x 2 scales and as many offsets */
        {QT_FLOAT, QS_PER_TENSOR, QT_INT4, QS_PER_GROUP, DT_BF16, "o_proj", 64, 64, 32, 3072},
        {QT_INT4, QS_PER_TOKEN, QT_INT4, QS_PER_CHANNEL, DT_BF16, "down_proj", 64, 128, 0, 8704},
        {QT_INT4, QS_PER_TOKEN, QT_INT4, QS_PER_GROUP, DT_BF16, "down_proj", 64, 128, 32, 10240},
        {QT_FP8_E4M3, QS_PER_TOKEN, QT_FP8_E4M3, QS_PER_CHANNEL, DT_BF16, "q_proj", 64, 64, 0, 4608},
        {QT_MXFP8, QS_PER_BLOCK, QT_MXFP8, QS_PER_BLOCK, DT_BF16, "down_proj", 64, 128, 0, 8448},
        {QT_MXFP8, QS_PER_BLOCK, QT_MXFP4, QS_PER_BLOCK, DT_BF16, "down_proj", 64, 128, 0, 4352},
        {QT_MXFP4, QS_PER_BLOCK, QT_MXFP4, QS_PER_BLOCK, DT_BF16, "k_proj", 32, 64, 0, 1088},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        QConfig q = config(rows[i].at, rows[i].as, rows[i].as != QS_PD_MIX, rows[i].wt, rows[i].ws, true);
        const Scheme *s = scheme_find(&q);
        assert_non_null(s);
        assert_int_equal(scheme_bytes(s, rows[i].name, rows[i].out, rows[i].in, rows[i].group, rows[i].model),
                         rows[i].bytes);
        if (rows[i].model == DT_BF16 && strcmp(rows[i].name, "down_proj") != 0)
            assert_int_equal(s->bytes(rows[i].out, rows[i].in, rows[i].group), rows[i].bytes);
    }
    /* specs/formats.md 7: 40 columns give 20 slices; a name that is neither kind keeps the whole matrix */
    QConfig w4 = config(QT_INT8, QS_PER_TOKEN, true, QT_INT4, QS_PER_CHANNEL, true);
    const Scheme *s = scheme_find(&w4);
    assert_int_equal(scheme_bytes(s, "x.down_proj", 2, 40, 0, DT_BF16), 40 + 16 + 2 * 20 * 4);
    assert_int_equal(scheme_bytes(s, "mlp.gate", 2, 40, 0, DT_BF16), 40 + 16 + 2 * 40 * 4);
    assert_int_equal(scheme_bytes(s, "mlp.gate_up_proj", 2, 40, 0, DT_BF16), 40 + 16 + 2 * 4);
}

static void sizes_do_not_overflow(void **state)
{
    (void)state;
    for (const Scheme *s = scheme_table; s->name; s++)
        assert_true(scheme_bytes(s, "up_proj", INT64_C(1) << 20, INT64_C(1) << 20, 128, DT_F16) >= UINT64_C(1) << 39);
}

static void descriptions(void **state)
{
    (void)state;
    char b[64];
    QConfig q = qconfig_default();
    qconfig_describe(&q, b, sizeof b);
    assert_string_equal(b, "W8A8 per_tensor asym");
    q = config(QT_INT8, QS_PER_TOKEN, true, QT_INT4, QS_PER_CHANNEL, true);
    qconfig_describe(&q, b, sizeof b);
    assert_string_equal(b, "W4A8_DYNAMIC per_token sym");
    q = config(QT_FLOAT, QS_PER_TENSOR, true, QT_INT8, QS_PER_GROUP, false);
    qconfig_describe(&q, b, sizeof b);
    assert_string_equal(b, "W8A16 group 128 asym");
    q.weight.dtype = QT_INT4;
    qconfig_describe(&q, b, sizeof b);
    assert_string_equal(b, "W4A16 group 128 asym");
    q.weight.scope = QS_PER_CHANNEL;
    qconfig_describe(&q, b, sizeof b);
    assert_string_equal(b, "float per_tensor x int4 per_channel (no saver)");
    qconfig_describe(&q, b, 6); /* cut, not overrun */
    assert_string_equal(b, "float");
}

static void equality_sees_every_field(void **state)
{
    (void)state;
    QConfig a = qconfig_default(), b = a;
    memset(b.act.method, 'x', sizeof b.act.method);
    strcpy(b.act.method, "minmax"); /* bytes behind the name do not count */
    assert_true(qconfig_equal(&a, &b));
    b.act.symmetric = true;
    assert_false(qconfig_equal(&a, &b));
    b = a;
    strcpy(b.weight.method, "ssz");
    assert_false(qconfig_equal(&a, &b));
    b = a;
    b.weight.group_size = 64;
    assert_false(qconfig_equal(&a, &b));
    b = a;
    b.weight.dtype = QT_INT4;
    assert_false(qconfig_equal(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_round_trip),
        cmocka_unit_test(pairs_find_their_names),
        cmocka_unit_test(pairs_that_nothing_writes_have_no_row),
        cmocka_unit_test(bytes_equal_the_recorded_files),
        cmocka_unit_test(sizes_do_not_overflow),
        cmocka_unit_test(descriptions),
        cmocka_unit_test(equality_sees_every_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
