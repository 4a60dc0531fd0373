#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "qir/scheme.h"
#include "tests/lib/configs.h"

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
        {QT_INT4, QS_PER_TOKEN, 1, QT_INT4, QS_PER_CHANNEL, -1, "W4A4_DYNAMIC", true},
        {QT_INT4, QS_PER_TOKEN, 1, QT_INT4, QS_PER_GROUP, -1, "W4A4_DYNAMIC", true},
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
        assert_true(s->part[0] != P_END);
        assert_true(s->weight_bits == 4 || s->weight_bits == 8 || s->weight_type == QT_FLOAT);
    }
    assert_int_equal(in_table, sizeof rows / sizeof rows[0] + 2); /* W8A8S and W16A16S go by their methods */
    assert_int_equal(found, 22);
    QConfig q = config_default();
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
        q.weight.ext.group_size = rows[i].group;
        Linear l = {.name = (char *)rows[i].name, .out = rows[i].out, .in = rows[i].in};
        assert_int_equal(scheme_bytes(s, &q, &(SchemeLinear){&l, false, true, rows[i].model}), rows[i].bytes);
        if (rows[i].wt != QT_INT4 || rows[i].as != QS_PER_TOKEN || strcmp(rows[i].name, "down_proj") != 0)
            assert_int_equal(scheme_bytes(s, &q, &(SchemeLinear){&l, false, false, rows[i].model}), rows[i].bytes);
    }
}

/* Of a bf16 model. */
static uint64_t bytes_of(const QConfig *q, const Linear *l, bool peer)
{
    return scheme_bytes(scheme_find(q), q, &(SchemeLinear){l, l->bias != NULL, peer, DT_BF16});
}

/* specs/formats.md 7: by the peer's rule 40 columns give 20 slices, and a name that is neither kind keeps the whole
 * matrix; ours cuts into 16 and sums what it doesn't know. */
static void scale_bias_goes_by_the_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t peer, own; /* columns */
    } rows[] = {
        {"x.down_proj", 20, 16}, {"mlp.gate", 40, 1}, {"mlp.gate_up_proj", 1, 1}, {"x.o_proj", 20, 16},
        {"self_attn.q_a_proj", 40, 1}, {"self_attn.kv_a_proj_with_mqa", 40, 1}, {"self_attn.kv_b_proj", 40, 1},
        {"linear_attn.in_proj_ba", 40, 1}, {"linear_attn.out_proj", 40, 1}, {"w2", 20, 16}, {"experts.3.w1", 1, 1},
        {"o_proj.inner", 20, 1},
    };
    QConfig w4 = config(QT_INT8, QS_PER_TOKEN, true, QT_INT4, QS_PER_CHANNEL, true);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Linear l = {.name = (char *)rows[i].name, .out = 2, .in = 40};
        uint64_t rest = 40 + 16;
        assert_int_equal(bytes_of(&w4, &l, true), rest + 2 * (uint64_t)rows[i].peer * 4);
        assert_int_equal(bytes_of(&w4, &l, false), rest + 2 * (uint64_t)rows[i].own * 4);
    }
    Linear odd = {.name = (char *)"o_proj", .out = 2, .in = 41}; /* refused when it is written */
    assert_int_equal(scale_bias_columns(odd.name, odd.in, true), 0);
    assert_int_equal(scale_bias_columns(odd.name, odd.in, false), 16);
}

static void sizes_of_a_bias(void **state)
{
    (void)state;
    TensorInfo bias = {.name = "b", .dtype = DT_BF16};
    Linear l = {.name = (char *)"q_proj", .out = 64, .in = 64, .bias = &bias};
    QConfig q = config_default();
    assert_int_equal(bytes_of(&q, &l, false), 4096 + 64 * 4 * 2 + 8 + 64 * 4); /* F32 */
}

static void sizes_do_not_overflow(void **state)
{
    (void)state;
    const TensorInfo weight = {.dtype = DT_F16};
    Linear l = {.name = (char *)"up_proj", .out = INT64_C(1) << 20, .in = INT64_C(1) << 20, .weight = &weight};
    for (const Scheme *s = scheme_table; s->name; s++) {
        QConfig q = config(s->act_type, s->act_scope, true, s->weight_type, s->weight_scope, true);
        if (s->weight_type == QT_FLOAT)
            strcpy(q.weight.method, s->weight_method);
        assert_true(scheme_bytes(s, &q, &(SchemeLinear){&l, false, true, DT_F16}) >= UINT64_C(1) << 39);
    }
}

static void descriptions(void **state)
{
    (void)state;
    char b[64];
    QConfig q = config_default();
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
    QConfig pruned = config(QT_FLOAT, QS_PER_TENSOR, true, QT_FLOAT, QS_PER_TENSOR, true);
    strcpy(pruned.weight.method, "admm");
    pruned.weight.ext.sparse_ratio = 0.3;
    qconfig_describe(&pruned, b, sizeof b);
    assert_string_equal(b, "W16A16S 0.3");
    q.weight.scope = QS_PER_CHANNEL;
    qconfig_describe(&q, b, sizeof b);
    assert_string_equal(b, "float per_tensor x int4 per_channel (no saver)");
    qconfig_describe(&q, b, 6); /* cut, not overrun */
    assert_string_equal(b, "float");
}

static void hash_of(const QSpec *q, Digest *d)
{
    Hasher h;
    hasher_init(&h);
    qspec_hash(&h, q);
    *d = hasher_end(&h);
}

/* Every key of ext, as far as the table goes: what is put changes digest and key, and nothing else does. */
static void digests_see_every_field(void **state)
{
    (void)state;
    QSpec a = config_default().act, b = a;
    Digest of_a, of_b;
    memset(b.method, 'x', sizeof b.method);
    strcpy(b.method, "minmax"); /* bytes behind the name do not count */
    hash_of(&a, &of_a);
    hash_of(&b, &of_b);
    assert_int_equal(digest_cmp(&of_a, &of_b), 0);
    assert_true(qspec_key(&a) == qspec_key(&b));
    for (const ExtField *f = ext_fields; f->key; f++) {
        b = a;
        ext_put(&b.ext, f, 3);
        hash_of(&b, &of_b);
        assert_int_not_equal(digest_cmp(&of_a, &of_b), 0);
        assert_true(qspec_key(&a) != qspec_key(&b));
        ext_put(&b.ext, f, 0);
        assert_memory_equal(&a.ext, &b.ext, sizeof a.ext);
    }
    QSpec others[] = {a, a, a, a};
    others[0].symmetric = true;
    strcpy(others[1].method, "ssz");
    others[2].dtype = QT_INT4;
    others[3].scope = QS_PER_CHANNEL;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        hash_of(&others[i], &of_b);
        assert_int_not_equal(digest_cmp(&of_a, &of_b), 0);
        assert_true(qspec_key(&a) != qspec_key(&others[i]));
    }
}

/* As journals have it: a key is added without one of them being read anew. */
static void recorded_digests_hold(void **state)
{
    (void)state;
    QSpec q = config_default().weight;
    char hex[65];
    Digest d;
    hash_of(&q, &d);
    digest_hex(&d, hex);
    assert_string_equal(hex, "47c0b1d20f6f05fedd46c168448f9c04bfecd268cb832b618c3a7953f697917e");
    assert_true(qspec_key(&q) == UINT64_C(0x6e650fd7a9f3cded));
}

static void keys_are_told_apart(void **state)
{
    (void)state;
    int n = 0;
    for (const ExtField *f = ext_fields; f->key; f++, n++) {
        assert_true(*f->methods != 0);
        for (const ExtField *k = ext_fields; k < f; k++)
            assert_true(strcmp(k->key, f->key) != 0 && k->at != f->at);
    }
    assert_int_equal(n, EXT_COUNT);
    assert_int_equal(ext_word("a bb c", "c"), 2);
    assert_true(ext_reads(&ext_fields[0], "ssz") && ext_reads(&ext_fields[0], "autoround"));
    assert_false(ext_word("a bb c", "b") >= 0 || ext_reads(&ext_fields[0], "s") || ext_reads(&ext_fields[0], "round") || ext_reads(&ext_fields[0], ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_round_trip),
        cmocka_unit_test(pairs_find_their_names),
        cmocka_unit_test(pairs_that_nothing_writes_have_no_row),
        cmocka_unit_test(bytes_equal_the_recorded_files),
        cmocka_unit_test(scale_bias_goes_by_the_name),
        cmocka_unit_test(sizes_of_a_bias),
        cmocka_unit_test(sizes_do_not_overflow),
        cmocka_unit_test(descriptions),
        cmocka_unit_test(digests_see_every_field),
        cmocka_unit_test(recorded_digests_hold),
        cmocka_unit_test(keys_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
