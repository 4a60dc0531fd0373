#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "math/convert.h"
#include "measure/forward.h"
#include "run/runner.h"

#include "tests/lib/bench.h"

/* ---- golden data ---- */

static int64_t count_of(const TensorInfo *t)
{
    return (int64_t)(t->nbytes / (uint64_t)dtype_size(t->dtype));
}

static void tokens_of_golden(const Checkpoint *g, TokenSet *t)
{
    const TensorInfo *ids = checkpoint_find(g, "input_ids");
    assert_non_null(ids);
    int64_t n = count_of(ids);
    float *v = test_tensor(g, ids);
    *t = (TokenSet){.samples = 1};
    t->start = calloc(2, sizeof *t->start);
    t->ids = malloc((size_t)n * sizeof *t->ids);
    t->start[1] = n;
    for (int64_t i = 0; i < n; i++)
        t->ids[i] = (int32_t)v[i];
    free(v);
}

static void compare_fp32(const char *name, const float *want, const float *got, int64_t n, double most, double *worst)
{
    double max = 0, diff = 0;
    for (int64_t i = 0; i < n; i++) {
        max = fmax(max, fabs((double)want[i]));
        diff = fmax(diff, fabs((double)want[i] - (double)got[i]));
        assert_false(isnan(got[i]));
    }
    if (diff > most * max)
        fail_msg("%s: off by %g of max %g", name, diff, max);
    *worst = fmax(*worst, max > 0 ? diff / max : 0);
}

/* Elements one ulp off; none may be further. */
static int64_t compare_bf16(const char *name, const float *want, const float *got, int64_t n)
{
    int64_t off = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t a = (int32_t)(bits_of_float(want[i]) >> 16), b = (int32_t)(bits_of_float(got[i]) >> 16);
        if (a == b || (want[i] == 0 && got[i] == 0))
            continue;
        off++;
        if (abs(a - b) != 1)
            fail_msg("%s[%lld]: %g, recorded %g", name, (long long)i, (double)got[i], (double)want[i]);
    }
    return off;
}

static void compare_stat(const char *name, const float *want, const float *got, double tolerance)
{
    static const char *const what[] = {"count", "sum", "sumsq", "max", "min", "mean", "std", "kurtosis"};
    double mean_scale = fabs((double)want[6]) + fabs((double)want[5]);
    for (int i = 0; i < 8; i++) {
        double scale = i == 1 ? (double)want[0] * mean_scale : i == 5 ? mean_scale : fabs((double)want[i]);
        if (fabs((double)want[i] - (double)got[i]) > tolerance * (scale + 1e-3))
            fail_msg("%s: %s %.9g, recorded %.9g", name, what[i], (double)got[i], (double)want[i]);
    }
}

/* The name under which the recorded tensor of a linear is written: the hub's, and of linears that share an input the
 * first. In DeepSeek-V4 the recorded names are the library's. */
static void name_written(const Model *m, const char *recorded, char out[160])
{
    static const struct {
        const char *library, *hub;
    } names[] = {
        {"self_attn.q_a_proj", "attn.wq_a"},
        {"self_attn.q_b_proj", "attn.wq_b"},
        {"self_attn.kv_proj", "attn.wkv"},
        {"self_attn.o_a_proj", "attn.wo_a"},
        {"self_attn.o_b_proj", "attn.wo_b"},
        {"self_attn.compressor.kv_proj", "attn.compressor.wkv"},
        {"self_attn.compressor.gate_proj", "attn.compressor.wgate"},
        {"self_attn.compressor.indexer.q_b_proj", "attn.indexer.wq_b"},
        {"self_attn.compressor.indexer.scorer.weights_proj", "attn.indexer.weights_proj"},
        {"self_attn.compressor.indexer.kv_proj", "attn.indexer.compressor.wkv"},
        {"self_attn.compressor.indexer.gate_proj", "attn.indexer.compressor.wgate"},
        {"mlp.shared_experts.gate_proj", "ffn.shared_experts.w1"},
        {"mlp.shared_experts.up_proj", "ffn.shared_experts.w3"},
        {"mlp.shared_experts.down_proj", "ffn.shared_experts.w2"},
    };
    const char *layer = strstr(recorded, ".model.layers."), *part = layer ? strchr(layer + 14, '.') : NULL;
    bool input = strncmp(recorded, "in.", 3) == 0;
    char linear[128];
    snprintf(out, 160, "%s", recorded);
    snprintf(linear, sizeof linear, "%s", layer ? layer + 1 : "");
    for (size_t i = 0; i < sizeof names / sizeof *names && part && m->arch->prefix; i++)
        if (strcmp(part + 1, names[i].library) == 0)
            snprintf(linear, sizeof linear, "layers.%d.%s", atoi(layer + 14), names[i].hub);
    int64_t at = model_find_linear(m, linear);
    if (at >= 0)
        snprintf(out, 160, "%s.%s", input ? "in" : "stat", m->linears[input ? m->linears[at].input : at].name);
}

/* Whether one of the recorded tensors is written under this name, or none can be: inputs of a block-diagonal linear. */
static bool is_recorded(const Model *m, const Checkpoint *want, const char *name)
{
    char other[160];
    for (int64_t i = 0; i < checkpoint_count(want); i++) {
        name_written(m, checkpoint_at(want, i)->name, other);
        if (strcmp(other, name) == 0)
            return true;
    }
    return strncmp(name, "in.", 3) == 0 && m->linears[model_find_linear(m, name + 3)].groups > 1;
}

/* A recorded forward and ours of the same tokens. */
typedef struct Forward {
    char dir[256], out[40], file[64];
    Checkpoint *want, *got;
    TokenSet t;
    TestRun b;
} Forward;

static void forward_open(Forward *f, const char *arch, const char *kind, ArithMode arith)
{
    char path[300];
    Error e = {0};
    *f = (Forward){.out = "/tmp/slimscope-forward-XXXXXX"};
    snprintf(f->dir, sizeof f->dir, "tests/golden/models/%s/%s", arch, kind);
    if (strcmp(kind, "bf16") == 0)
        snprintf(path, sizeof path, "tests/golden/models_canonical/%s.bf16.safetensors", arch);
    else
        snprintf(path, sizeof path, "%s/golden.safetensors", f->dir);
    close(mkstemp(f->out));
    snprintf(f->file, sizeof f->file, "%s.safetensors", f->out);
    assert_int_equal(checkpoint_open(&f->want, path, &e), ST_OK);
    tokens_of_golden(f->want, &f->t);
    test_run_open(&f->b, f->dir, arith, 2, NULL);
    if (forward_write(f->b.r, &f->t, f->file, &e) != ST_OK || checkpoint_open(&f->got, f->file, &e) != ST_OK)
        fail_msg("%s", e.text);
}

static void forward_close(Forward *f)
{
    test_run_close(&f->b);
    checkpoint_free(f->want);
    checkpoint_free(f->got);
    free(f->t.start);
    free(f->t.ids);
    unlink(f->file);
    unlink(f->out);
}

/* What a model gives in float32, and, where it is a bf16 one, with every operation in float64 and rounded once: recordings
 * of a library's own bf16 kernels depend on the order of their sums. Of a bf16 model's values two, or 0.01 % where that
 * is more, may be one ulp off. Experts chosen are the recorded ones; equal scores are resolved by the lowest index. */
static void golden_case(const char *arch, const char *kind, ArithMode arith)
{
    Forward f;
    forward_open(&f, arch, kind, arith);
    double worst = 0, most = strcmp(arch, "qwen3_next") == 0 ? 5e-5 : 3e-5;
    int64_t compared = 0, values = 0, off = 0;
    for (int64_t i = 0; i < checkpoint_count(f.want); i++) {
        const TensorInfo *w = checkpoint_at(f.want, i);
        if (strncmp(w->name, "rope.", 5) == 0)
            continue;
        char name[160];
        name_written(f.b.m, w->name, name);
        const TensorInfo *g = checkpoint_find(f.got, name);
        if (!g)
            fail_msg("%s: %s was not written", f.dir, w->name);
        assert_int_equal(g->dtype, w->dtype);
        assert_int_equal(g->ndim, w->ndim);
        assert_memory_equal(g->shape, w->shape, (size_t)w->ndim * sizeof *w->shape);
        int64_t n = count_of(w);
        float *fw = test_tensor(f.want, w), *fg = test_tensor(f.got, g);
        if (strncmp(w->name, "stat.", 5) == 0)
            compare_stat(w->name, fw, fg, 5e-5);
        else if (w->dtype == DT_BF16)
            off += compare_bf16(w->name, fw, fg, n);
        else if (w->dtype == DT_I64)
            assert_memory_equal(fw, fg, (size_t)n * sizeof *fw);
        else
            compare_fp32(w->name, fw, fg, n, most, &worst);
        values += w->dtype == DT_BF16 ? n : 0;
        free(fw);
        free(fg);
        compared++;
    }
    if (off > 2 && off > values / 10000)
        fail_msg("%s: %lld of %lld values are one ulp off", f.dir, (long long)off, (long long)values);
    for (int64_t i = 0; i < checkpoint_count(f.got); i++)
        if (!is_recorded(f.b.m, f.want, checkpoint_at(f.got, i)->name))
            fail_msg("%s: %s was not recorded", f.dir, checkpoint_at(f.got, i)->name);
    print_message("%s/%s %s: %lld tensors, worst %.2g, %lld one ulp off\n", arch, kind, arith_name(arith),
                  (long long)compared, worst, (long long)off);
    forward_close(&f);
}

/* Recorded in float32 and in bf16. */
static const char *const archs[] = {"llama", "llama3", "qwen2", "qwen3", "mistral", "phi3", "gemma2",
                                    "mixtral", "qwen2_moe", "qwen3_moe", "glm4_moe", "deepseek_v3",
                                    "gpt_oss"};
static const char *const fp32_archs[] = {"gemma3", "minimax_m2", "deepseek_v2", "deepseek_v32", "glm_moe_dsa",
                                         "qwen3_next", "longcat_flash", "deepseek_v4"};

static void fp32_is_the_recorded_forward(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        golden_case(archs[i], "fp32", ARITH_FP32);
    for (size_t i = 0; i < sizeof fp32_archs / sizeof *fp32_archs; i++)
        golden_case(fp32_archs[i], "fp32", ARITH_FP32);
}

static void exact_is_the_canonical_bf16_forward(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        golden_case(archs[i], "bf16", ARITH_EXACT);
}

static void exact_of_a_float32_checkpoint_rounds_nothing(void **state)
{
    (void)state;
    golden_case("qwen3", "fp32", ARITH_EXACT);
}

/* Relative root of the mean squared difference. */
static double apart(const float *want, const float *got, int64_t n)
{
    double sum = 0, all = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)want[i] - (double)got[i];
        sum += d * d;
        all += (double)want[i] * (double)want[i];
    }
    return sqrt(sum / all);
}

/* Arithmetics whose sums are float32 over bf16 inputs: every value of the forward pass lies as near to the recorded one as
 * bf16's 8 bits allow after a few layers. */
static void near_case(const char *arch, const char *kind, ArithMode arith)
{
    Forward f;
    double worst = 0;
    int compared = 0;
    forward_open(&f, arch, kind, arith);
    for (int64_t i = 0; i < checkpoint_count(f.want); i++) {
        const TensorInfo *w = checkpoint_at(f.want, i), *g = checkpoint_find(f.got, w->name);
        if (!g || strncmp(w->name, "stat.", 5) == 0)
            continue;
        float *fw = test_tensor(f.want, w), *fg = test_tensor(f.got, g);
        double d = apart(fw, fg, count_of(w));
        worst = d > worst ? d : worst;
        compared++;
        if (!(d < 0.04))
            fail_msg("%s in %s: %s is %.3g of its size away", f.dir, arith_name(arith), w->name, d);
        free(fw);
        free(fg);
    }
    assert_true(compared > 10);
    print_message("%s %s: %d tensors within %.2g\n", arch, arith_name(arith), compared, worst);
    forward_close(&f);
}

static void bf16_products_stay_near_the_recorded_forward(void **state)
{
    (void)state;
    static const char *const dense[] = {"llama", "llama3", "qwen2", "qwen3", "mistral", "phi3", "gemma2"};
    for (size_t i = 0; i < sizeof dense / sizeof *dense; i++) {
        near_case(dense[i], "bf16", ARITH_MODEL);
        near_case(dense[i], "fp32", ARITH_FAST);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp32_is_the_recorded_forward),
        cmocka_unit_test(exact_is_the_canonical_bf16_forward),
        cmocka_unit_test(exact_of_a_float32_checkpoint_rounds_nothing),
        cmocka_unit_test(bf16_products_stay_near_the_recorded_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
