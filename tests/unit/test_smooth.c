#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "math/convert.h"
#include "process/smooth.h"
#include "run/source.h"
#include "tests/lib/folded.h"
#include "tests/lib/random_model.h"
#include "tests/lib/recorded_layer.h"

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

/* Settings from a recipe's mapping. */
typedef struct Keys {
    YamlDoc *doc;
    Arena arena;
    const void *set;
} Keys;

static void keys_open(Keys *k, const ProcessorType *row, const char *yaml)
{
    Error err = {0};
    char text[256];
    int n = snprintf(text, sizeof text, "{type: %s%s}", row->name, yaml);
    *k = (Keys){.set = NULL};
    ok(yaml_parse(&k->doc, text, (size_t)n, "a test", &err), &err);
    k->set = row->settings(&k->arena, yaml_root(k->doc));
    assert_non_null(k->set);
}

static void keys_close(Keys *k)
{
    arena_free(&k->arena);
    yaml_doc_free(k->doc);
}

/* ---- the peer's recordings of one layer ---- */

typedef struct Recorded {
    const char *name;
    const SmoothMethod *method;
    const ProcessorType *row;
    const char *keys;
    unsigned types;  /* of sub-graphs that are taken */
    bool run_time;   /* q, k and v are scaled at run time */
} Recorded;
enum { ALL = SMOOTH_EVERY_TYPE, NORMS = 1u << SUBGRAPH_NORM_LINEAR };

#define ITER &iter_smooth_method, &processor_iter_smooth
#define QUANT &smooth_quant_method, &processor_smooth_quant
static const Recorded recordings[] = {
    {"iter_smooth_sym", ITER, "", ALL, false},
    {"iter_smooth_asym", ITER, ", alpha: 0.6, scale_min: 0.5, symmetric: false", ALL, false},
    {"iter_smooth_nonfusion", ITER, "", ALL, true},
    {"smooth_quant_sym", QUANT, "", NORMS, false},
    {"smooth_quant_asym", QUANT, ", alpha: 0.7, symmetric: false", NORMS, false},
};

/* The layer's sub-graphs in the order in which they are applied. */
static int graphs_of(const Model *m, unsigned types, Arena *a, Subgraph *out, int most)
{
    Subgraph *g;
    Error err = {0};
    int n, kept = 0;
    ok(subgraphs_of_unit(m, 0, SUBGRAPH_OURS, a, &g, &n, NULL, &err), &err);
    for (int t = 0; t < SUBGRAPH_TYPES; t++)
        for (int i = 0; i < n; i++)
            if (g[i].type == (SubgraphType)t && types & 1u << t) {
                assert_true(kept < most);
                out[kept++] = g[i];
            }
    return kept;
}

static void watch_layer(const RecordedLayer *l, Runner *r, SmoothWatch *w)
{
    Error err = {0};
    Stream h;
    const Observer obs = smooth_watch_observer(w);
    ok(runner_embed(r, l->calib, &h, &err), &err);
    ok(runner_layer(r, 0, NULL, &h, &h, &obs, 1, &err), &err);
    stream_fini(&h);
}

static void compare_recording(const Recorded *rec)
{
    RecordedLayer l;
    TestRun base;
    Overlay *o;
    Runner *r;
    Error err = {0};
    Arena a = {0};
    Subgraph g[4];
    Keys keys;
    recorded_layer_open(&l, rec->name, "qwen2");
    test_run_open(&base, l.dir, ARITH_FP32, 2, NULL);
    keys_open(&keys, rec->row, rec->keys);
    ok(overlay_new(&o, base.m, &err), &err);
    ok(runner_new(&r, base.m, &(RunnerOptions){.pool = base.pool, .arith = ARITH_FP32, .overlay = o}, &err), &err);
    int n = graphs_of(base.m, rec->types, &a, g, 4);
    SmoothWatch w = {.needs = rec->method->needs, .ordered = true, .T = DT_F32};
    ok(smooth_watch_init(&w, 0, base.m->nlinears, &err), &err);
    for (int i = 0; i < n; i++) {
        ok(smooth_watch_add(&w, base.m->linears[g[i].targets[0]].input, &err), &err);
        if (rec->run_time && strstr(g[i].key, "input_layernorm"))
            g[i].norm = NULL;
    }
    watch_layer(&l, r, &w);
    const SmoothCtx c = {.model = base.m, .runner = r, .overlay = o, .settings = keys.set, .peer = true, .T = DT_F32,
                         .A = DT_F32};
    bool applied = false;
    ok(smooth_norms(&c, rec->method, g, n, &err), &err);
    for (int i = 0; i < n; i++) {
        ok(smooth_apply(&c, rec->method, &w, &g[i], &applied, &err), &err);
        assert_true(applied);
    }
    recorded_layer_compare(&l, base.m, o, 1e-6);
    recorded_layer_outputs(&l, r, 1e-5);
    smooth_watch_fini(&w);
    arena_free(&a);
    runner_free(r);
    overlay_free(o);
    keys_close(&keys);
    test_run_close(&base);
    recorded_layer_close(&l);
}

static void recordings_are_reproduced(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof recordings / sizeof *recordings; i++)
        compare_recording(&recordings[i]);
}

/* ---- bf16: every scale and weight bit for bit ---- */

typedef struct Named {
    const char *recorded, *name; /* of golden/outlier/bf16_units, and in a layer of qwen2 */
} Named;
static const Named bf16_tensors[] = {
    {"norm.weight", "input_layernorm.weight"}, {"k.weight", "self_attn.k_proj.weight"},
    {"k.bias", "self_attn.k_proj.bias"},       {"q.weight", "self_attn.q_proj.weight"},
    {"q.bias", "self_attn.q_proj.bias"},       {"v.weight", "self_attn.v_proj.weight"},
    {"v.bias", "self_attn.v_proj.bias"},       {"o.weight", "self_attn.o_proj.weight"},
    {"up.weight", "mlp.up_proj.weight"},       {"down.weight", "mlp.down_proj.weight"},
};
enum { NBF16 = sizeof bf16_tensors / sizeof *bf16_tensors, HIDDEN = 32, INTER = 48 };

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void write_weights(const char *dir, const TensorOut *t, int n)
{
    char path[160];
    Error err = {0};
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ok(safetensors_write(path, t, n, NULL, &err), &err);
}

/* Of qwen2, or of gemma2, whose norms multiply by 1 + w. */
static void write_bf16_layer(const Npz *z, bool gemma, char dir[64])
{
    static const uint16_t zeros[INTER * HIDDEN];
    TensorOut t[NBF16 + 6];
    char name[NBF16][80];
    int n = 0;
    strcpy(dir, "/tmp/slimscope-bf16-XXXXXX");
    assert_non_null(mkdtemp(dir));
    for (; n < NBF16; n++) {
        const NpyArray *a = npz_find(z, "before/%s", bf16_tensors[n].recorded);
        assert_non_null(a);
        snprintf(name[n], sizeof name[n], "model.layers.0.%s", bf16_tensors[n].name);
        t[n] = (TensorOut){name[n], DT_BF16, a->ndim, {a->shape[0], a->ndim == 2 ? a->shape[1] : 0}, a->data};
    }
    t[n++] = (TensorOut){"model.layers.0.mlp.gate_proj.weight", DT_BF16, 2, {INTER, HIDDEN}, zeros};
    t[n++] = (TensorOut){"model.layers.0.post_attention_layernorm.weight", DT_BF16, 1, {HIDDEN}, zeros};
    t[n++] = (TensorOut){"model.embed_tokens.weight", DT_BF16, 2, {8, HIDDEN},
                         gemma ? npz_find(z, "before/q.weight")->data : zeros};
    if (gemma) {
        t[n++] = (TensorOut){"model.layers.0.pre_feedforward_layernorm.weight", DT_BF16, 1, {HIDDEN}, zeros};
        t[n++] = (TensorOut){"model.layers.0.post_feedforward_layernorm.weight", DT_BF16, 1, {HIDDEN}, zeros};
    }
    t[n++] = (TensorOut){"model.norm.weight", DT_BF16, 1, {HIDDEN}, zeros};
    write_weights(dir, t, n);
    write_file(dir, "config.json", gemma ? "{\"model_type\":\"gemma2\",\"torch_dtype\":\"bfloat16\",\"hidden_size\":32,"
               "\"intermediate_size\":48,\"num_hidden_layers\":1,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
               "\"head_dim\":8,\"vocab_size\":8,\"query_pre_attn_scalar\":8}\n" :
               "{\"model_type\":\"qwen2\",\"torch_dtype\":\"bfloat16\",\"hidden_size\":32,\"intermediate_size\":48,"
               "\"num_hidden_layers\":1,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":8,\"vocab_size\":8,"
               "\"max_position_embeddings\":64,\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,\"attention_bias\":true,"
               "\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"}\n");
}

/* Bits of a tensor as a saver writes it. */
static uint16_t *bits_now(const Model *m, const Overlay *o, const char *name, int64_t n)
{
    const Source s = {m, o};
    Error err = {0};
    char full[160];
    float *v = NULL;
    uint16_t *bits = malloc((size_t)n * sizeof *bits);
    assert_non_null(bits);
    snprintf(full, sizeof full, "model.layers.0.%s", name);
    char *end = strrchr(full, '.');
    *end = '\0';
    int64_t i = model_find_linear(m, full);
    if (i >= 0 && strcmp(end + 1, "bias") == 0) {
        ok(source_bias(&s, NULL, &m->linears[i], &v, &err), &err);
    } else if (i >= 0) {
        v = malloc((size_t)n * sizeof *v);
        assert_non_null(v);
        ok(source_rows(&s, NULL, &m->linears[i], 0, m->linears[i].out, v, &err), &err);
    } else {
        *end = '.';
        ok(source_small(&s, NULL, checkpoint_find(m->ckpt, full), &v, &err), &err);
    }
    for (int64_t k = 0; k < n; k++)
        assert_true(v[k] == bf16_to_float(bf16_of_float(v[k]))); /* rounded at every step, not only in the end */
    source_encode(v, n, DT_BF16, bits);
    free(v);
    return bits;
}

static void bf16_scales_and_weights_are_the_same_bits(void **state)
{
    (void)state;
    static const char *const most_of[] = {"a_down", "a_o", "a_norm"};
    static const char *const scales[] = {"0_UpDownSubgraph_scales", "1_OVSubgraph_o_scales", "2_NormLinearSubgraph_scales"};
    Npz *z = npz_open("tests/golden/outlier/bf16_units.npz");
    char dir[64];
    TestRun base;
    Overlay *o;
    Runner *r;
    Error err = {0};
    Arena a = {0};
    Subgraph g[4];
    Keys keys;
    write_bf16_layer(z, false, dir);
    test_run_open(&base, dir, ARITH_EXACT, 1, NULL);
    keys_open(&keys, &processor_iter_smooth, "");
    ok(overlay_new(&o, base.m, &err), &err);
    overlay_round(o, DT_BF16);
    ok(runner_new(&r, base.m, &(RunnerOptions){.pool = base.pool, .arith = ARITH_EXACT, .overlay = o}, &err), &err);
    const SmoothCtx c = {.model = base.m, .runner = r, .overlay = o, .settings = keys.set, .peer = true, .T = DT_BF16,
                         .A = DT_BF16};
    assert_int_equal(graphs_of(base.m, ALL, &a, g, 4), 4);
    for (int i = 0; i < 3; i++) {
        float most[INTER], target[INTER], source[INTER];
        const NpyArray *from = npz_find(z, "%s", most_of[i]);
        assert_non_null(from);
        for (int64_t k = 0; k < from->count; k++)
            most[k] = bf16_to_float(((const uint16_t *)from->data)[k]);
        SmoothScale s = {.target = target, .source = source};
        ok(iter_smooth_method.scale(&c, &g[i], &(SmoothStats){.width = from->count, .rows = 1, .most = most}, &s, &err), &err);
        assert_memory_equal(target, npz_f32(z, NULL, "scale/%s", scales[i]), (size_t)from->count * sizeof *target);
        ok(smooth_fold(&c, &g[i], &s, &err), &err);
    }
    for (int i = 0; i < NBF16; i++) {
        const NpyArray *want = npz_find(z, "after_iter/%s", bf16_tensors[i].recorded);
        uint16_t *bits = bits_now(base.m, o, bf16_tensors[i].name, want->count);
        if (memcmp(bits, want->data, (size_t)want->count * sizeof *bits) != 0)
            fail_msg("%s differs", want->name);
        free(bits);
    }
    arena_free(&a);
    runner_free(r);
    overlay_free(o);
    keys_close(&keys);
    test_run_close(&base);
    random_model_remove(dir);
    npz_free(z);
}

/* ---- values within the rows of kv_b_proj ---- */

static void latent_values_are_scaled_in_their_rows(void **state)
{
    (void)state;
    enum { HEADS = 4, NOPE = 8, V = 6, ROPE = 2, RANK = 10, WIDTH = HEADS * V, OUT = 16 };
    static const float zeros[HEADS * (NOPE + ROPE) * OUT];
    Npz *z = npz_open("tests/golden/outlier/mla_ov.npz");
    const float *act = npz_f32(z, NULL, "act");
    const TensorOut t[] = {
        {"model.embed_tokens.weight", DT_F32, 2, {8, OUT}, zeros},
        {"model.norm.weight", DT_F32, 1, {OUT}, zeros},
        {"model.layers.0.input_layernorm.weight", DT_F32, 1, {OUT}, zeros},
        {"model.layers.0.post_attention_layernorm.weight", DT_F32, 1, {OUT}, zeros},
        {"model.layers.0.self_attn.q_proj.weight", DT_F32, 2, {HEADS * (NOPE + ROPE), OUT}, zeros},
        {"model.layers.0.self_attn.kv_a_proj_with_mqa.weight", DT_F32, 2, {RANK + ROPE, OUT}, zeros},
        {"model.layers.0.self_attn.kv_a_layernorm.weight", DT_F32, 1, {RANK}, zeros},
        {"model.layers.0.self_attn.kv_b_proj.weight", DT_F32, 2, {HEADS * (NOPE + V), RANK},
         npz_f32(z, NULL, "before/kv_b_proj.weight")},
        {"model.layers.0.self_attn.o_proj.weight", DT_F32, 2, {OUT, WIDTH}, npz_f32(z, NULL, "before/o_proj.weight")},
        {"model.layers.0.mlp.gate_proj.weight", DT_F32, 2, {4, OUT}, zeros},
        {"model.layers.0.mlp.up_proj.weight", DT_F32, 2, {4, OUT}, zeros},
        {"model.layers.0.mlp.down_proj.weight", DT_F32, 2, {OUT, 4}, zeros},
    };
    RecordedLayer l = {.z = z};
    TestRun base;
    Overlay *o;
    Runner *r;
    Error err = {0};
    Arena a = {0};
    Subgraph g;
    Keys keys;
    strcpy(l.dir, "/tmp/slimscope-mla-XXXXXX");
    assert_non_null(mkdtemp(l.dir));
    write_weights(l.dir, t, sizeof t / sizeof *t);
    write_file(l.dir, "config.json",
               "{\"model_type\":\"deepseek_v2\",\"torch_dtype\":\"float32\",\"hidden_size\":16,\"intermediate_size\":4,"
               "\"num_hidden_layers\":1,\"num_attention_heads\":4,\"q_lora_rank\":null,\"kv_lora_rank\":10,"
               "\"qk_nope_head_dim\":8,\"qk_rope_head_dim\":2,\"v_head_dim\":6,\"first_k_dense_replace\":1,"
               "\"n_routed_experts\":4,\"num_experts_per_tok\":2,\"moe_intermediate_size\":4,\"vocab_size\":8,"
               "\"max_position_embeddings\":64,\"rms_norm_eps\":1e-6,\"tie_word_embeddings\":true}\n");
    test_run_open(&base, l.dir, ARITH_FP32, 1, NULL);
    keys_open(&keys, &processor_iter_smooth, "");
    ok(overlay_new(&o, base.m, &err), &err);
    ok(runner_new(&r, base.m, &(RunnerOptions){.pool = base.pool, .arith = ARITH_FP32, .overlay = o}, &err), &err);
    const SmoothCtx c = {.model = base.m, .runner = r, .overlay = o, .settings = keys.set, .peer = true, .T = DT_F32,
                         .A = DT_F32};
    assert_int_equal(graphs_of(base.m, 1u << SUBGRAPH_OV, &a, &g, 1), 1);
    float most[WIDTH] = {0}, target[WIDTH], source[WIDTH];
    for (int i = 0; i < 7 * WIDTH; i++)
        most[i % WIDTH] = fmaxf(most[i % WIDTH], fabsf(act[i]));
    SmoothScale s = {.target = target, .source = source};
    ok(iter_smooth_method.scale(&c, &g, &(SmoothStats){.width = WIDTH, .rows = 7, .most = most}, &s, &err), &err);
    ok(smooth_fold(&c, &g, &s, &err), &err);
    const Source src = {base.m, o};
    float w[HEADS * (NOPE + V) * RANK];
    ok(source_rows(&src, NULL, &base.m->linears[g.source], 0, HEADS * (NOPE + V), w, &err), &err);
    assert_true(test_worst(npz_f32(z, NULL, "after_iter/kv_b_proj.weight"), w, HEADS * (NOPE + V) * RANK) <= 1e-6);
    ok(source_rows(&src, NULL, &base.m->linears[g.targets[0]], 0, OUT, w, &err), &err);
    assert_true(test_worst(npz_f32(z, NULL, "after_iter/o_proj.weight"), w, OUT * WIDTH) <= 1e-6);
    arena_free(&a);
    runner_free(r);
    overlay_free(o);
    keys_close(&keys);
    test_run_close(&base);
    random_model_remove(l.dir);
    npz_free(z);
}

/* ---- over whole models, through the pipeline ---- */

static void has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' does not say '%s'", text, part);
}

#define LLAMA "tests/golden/models/llama/fp32"

static void what_selects_nothing_is_named(void **state)
{
    (void)state;
    static const int lens[] = {9};
    Status st;
    Told t;
    const char *text = folded_says(LLAMA, "[{type: iter_smooth, enable_subgraph_type: [linear-linear]}]", lens, 1, &st, &t);
    assert_int_equal(st, ST_DATA);
    has(text, "iter_smooth selects nothing: no sub-graph of this model has an enabled type");
    text = folded_says(LLAMA, "[{type: smooth_quant, include: ['*.self_atn.*']}]", lens, 1, &st, &t);
    assert_int_equal(st, ST_DATA);
    has(t.text[0], "'*.self_atn.*' in include matches no sub-graph");
    text = folded_says(LLAMA, "[{type: iter_smooth, exclude: ['*.nowhere', '*.down_proj']}]", lens, 1, &st, &t);
    assert_int_equal(st, ST_OK);
    assert_int_equal(t.n, 1);
    has(text, "iter_smooth: '*.nowhere' in exclude matches no sub-graph: they go by their norm or linear, such as "
              "'model.layers.0.input_layernorm'");
    text = folded_says(LLAMA, "[{type: iter_smooth, enable_subgraph_type: [non-fusion], include: ['*norm']}]", lens, 1, &st, &t);
    assert_int_equal(st, ST_DATA); /* at run time only linears have a say */
    folded_says(LLAMA, "[{type: iter_smooth, enable_subgraph_type: []}]", lens, 1, &st, &t); /* asks for nothing */
    assert_int_equal(st, ST_OK);
    assert_int_equal(t.n, 0);
    text = folded_says(LLAMA, "[{type: iter_smooth, enable_subgraph_type: [norm-liner]}]", lens, 1, &st, &t);
    assert_int_not_equal(st, ST_OK);
    has(text, "'norm-liner' is no type of sub-graph: there are norm-linear, linear-linear, ov, up-down");
}

/* Experts that no token chose are left, and that is told. */
static void inputs_without_a_token_are_told(void **state)
{
    (void)state;
    static const int one[] = {1};
    Status st;
    Told t;
    const char *text = folded_says("tests/golden/models/mixtral/fp32", "[{type: iter_smooth}]", one, 1, &st, &t);
    assert_int_equal(st, ST_OK);
    assert_int_equal(t.n, 1);
    has(text, "iter_smooth: no token reached ");
    has(text, "first that of 'model.layers.0.block_sparse_moe.experts.");
    folded_says(LLAMA, "[{type: iter_smooth}]", one, 1, &st, &t);
    assert_int_equal(st, ST_OK);
    assert_int_equal(t.n, 0);
}

/* Patterns go by what reads the channels, too: a target that is left out keeps the whole sub-graph as it is. */
static void patterns_go_by_keys_and_targets(void **state)
{
    (void)state;
    static const struct {
        const char *process;
        int folds; /* norms and linears that change in layer 0 of llama: 2 norms, 7 linears */
    } cases[] = {
        {"[{type: iter_smooth}]", 9},
        {"[{type: iter_smooth, exclude: ['*.v_proj']}]", 4}, /* neither the first norm, nor v and o */
        {"[{type: iter_smooth, include: ['*.up_proj']}]", 4},  /* the second norm, gate, up, down */
        {"[{type: iter_smooth, exclude: ['*_layernorm']}]", 4},
        {"[{type: smooth_quant, include: ['model.layers.0.input_layernorm']}]", 4},
        {"[{type: smooth_quant}]", 7},
    };
    static const int lens[] = {9, 3};
    TestRun base;
    test_run_open(&base, LLAMA, ARITH_FP32, 1, NULL);
    TokenSet *calib = test_tokens(lens, 2, base.m->cfg.vocab, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Folded f;
        Error err = {0};
        int changed = 0;
        ok(folded_run(&f, &base, cases[i].process, false, calib, &err), &err);
        const Overlay *o = pipeline_overlay(f.p);
        for (int64_t l = 0; l < base.m->units[0].count; l++)
            changed += overlay_linear(o, l) != NULL;
        changed += overlay_tensor(o, checkpoint_find(base.m->ckpt, "model.layers.0.input_layernorm.weight")) != NULL;
        changed += overlay_tensor(o, checkpoint_find(base.m->ckpt, "model.layers.0.post_attention_layernorm.weight")) != NULL;
        if (changed != cases[i].folds)
            fail_msg("%s changes %d", cases[i].process, changed);
        folded_fini(&f);
    }
    test_tokens_free(calib);
    test_run_close(&base);
}

/* With non-fusion alone every input is multiplied at run time, on every recorded family, and nothing else changes but the
 * weights that read it; beside other types only what those can't fold. */
static void inputs_are_scaled_at_run_time(void **state)
{
    (void)state;
    static const char *const models[] = {"llama", "phi3", "gemma3", "deepseek_v3", "qwen3_next", "gpt_oss", "longcat_flash"};
    static const char *const lists[] = {"[non-fusion]", "[norm-linear, linear-linear, ov, up-down, non-fusion]"};
    static const int lens[] = {19, 8};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (int k = 0; k < 2; k++) {
            TestRun base;
            Folded f;
            Error err = {0};
            char dir[128], process[160];
            int64_t n, scaled = 0;
            snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", models[i]);
            snprintf(process, sizeof process, "[{type: iter_smooth, enable_subgraph_type: %s}]", lists[k]);
            test_run_open(&base, dir, ARITH_FP32, 2, NULL);
            TokenSet *t = test_tokens(lens, 2, base.m->cfg.vocab, 3);
            ok(folded_run(&f, &base, process, false, t, &err), &err);
            float *want = folded_logits(base.r, t, &n), *got = folded_logits(f.r, t, &n);
            double worst = test_worst(want, got, n);
            if (!(worst <= 1e-4))
                fail_msg("%s: %s moves logits by %g", models[i], process, worst);
            for (int64_t l = 0; l < base.m->nlinears; l++)
                scaled += overlay_inputs(pipeline_overlay(f.p), l) != NULL;
            bool all = i < 5; /* everything folds */
            if (k == 0 ? scaled < base.m->nlinears / 2 : (scaled != 0) == all)
                fail_msg("%s: %s scales %lld inputs of %lld", models[i], process, (long long)scaled,
                         (long long)base.m->nlinears);
            assert_true(!(pipeline_needs(f.p) & PROCESSOR_INPUTS) == (scaled == 0)); /* planners make room */
            free(want);
            free(got);
            folded_fini(&f);
            test_tokens_free(t);
            test_run_close(&base);
        }
}

/* Fingerprint of what a run changes. */
static void changes_of(const char *dir, const char *process, int threads, const TokenSet *calib, char out[65])
{
    TestRun base;
    Folded f;
    Error err = {0};
    test_run_open(&base, dir, ARITH_FP32, threads, NULL);
    ok(folded_run(&f, &base, process, false, calib, &err), &err);
    overlay_digest(pipeline_overlay(f.p), out);
    folded_fini(&f);
    test_run_close(&base);
}

static void threads_and_order_of_texts_change_nothing(void **state)
{
    (void)state;
    static const char process[] = "[{type: iter_smooth, symmetric: false}]";
    static const int lens[] = {5, 40, 17}, back[] = {17, 40, 5};
    char one[65], three[65], other[65];
    TestRun base;
    test_run_open(&base, LLAMA, ARITH_FP32, 1, NULL);
    int64_t vocab = base.m->cfg.vocab;
    test_run_close(&base);
    TokenSet *t = test_tokens(lens, 3, vocab, 1), *r = test_tokens(back, 3, vocab, 1);
    for (int s = 0; s < 3; s++) /* the same texts the other way round */
        memcpy(r->ids + r->start[2 - s], t->ids + t->start[s], (size_t)lens[s] * sizeof *t->ids);
    changes_of(LLAMA, process, 1, t, one);
    changes_of(LLAMA, process, 3, t, three);
    changes_of(LLAMA, process, 1, r, other);
    assert_string_equal(one, three);
    assert_string_equal(one, other);
    test_tokens_free(t);
    test_tokens_free(r);
}

/* ---- values that are none ---- */

static float *recorded_values(const RecordedLayer *l, const char *name)
{
    return (float *)(uintptr_t)npz_f32(l->z, NULL, "%s", name);
}

static void values_that_are_no_numbers_are_named(void **state)
{
    (void)state;
    for (int inf = 0; inf < 2; inf++) {
        RecordedLayer l;
        TestRun base;
        Folded f;
        Error err = {0};
        recorded_layer_open(&l, "iter_smooth_sym", "qwen2");
        recorded_values(&l, "before/mlp.down_proj.weight")[5] = inf ? INFINITY : NAN;
        recorded_layer_write(&l, "qwen2");
        test_run_open(&base, l.dir, ARITH_FP32, 1, NULL);
        assert_int_equal(folded_run(&f, &base, "[{type: iter_smooth}]", false, l.calib, &err), ST_DATA);
        has(err.text, inf ? "'model.layers.0.mlp.down_proj': its weight holds Inf at [0,5]"
                          : "'model.layers.0.mlp.down_proj': its weight holds NaN at [0,5]");
        folded_fini(&f);
        test_run_close(&base);
        recorded_layer_close(&l);
    }
}

/* A channel that is always zero keeps its scale of 1; a weight column of zeros gives a scale all the same. */
static void zero_channels_stay_finite(void **state)
{
    (void)state;
    RecordedLayer l;
    TestRun base;
    Folded f;
    Error err = {0};
    int64_t n;
    recorded_layer_open(&l, "iter_smooth_sym", "qwen2");
    recorded_values(&l, "before/input_layernorm.weight")[3] = 0;
    for (int r = 0; r < 32; r++)
        recorded_values(&l, "before/mlp.down_proj.weight")[r * 48 + 7] = 0;
    recorded_layer_write(&l, "qwen2");
    test_run_open(&base, l.dir, ARITH_FP32, 1, NULL);
    float *want = folded_logits(base.r, l.calib, &n);
    ok(folded_run(&f, &base, "[{type: iter_smooth}]", false, l.calib, &err), &err);
    float *got = folded_logits(f.r, l.calib, &n), w[32 * 32];
    assert_true(test_worst(want, got, n) < 1e-5);
    const Source src = {base.m, pipeline_overlay(f.p)};
    int64_t q = model_find_linear(base.m, "model.layers.0.self_attn.q_proj");
    ok(source_rows(&src, NULL, &base.m->linears[q], 0, 32, w, &err), &err);
    for (int r = 0; r < 32; r++)
        assert_true(w[r * 32 + 3] == recorded_values(&l, "before/self_attn.q_proj.weight")[r * 32 + 3]);
    free(want);
    free(got);
    folded_fini(&f);
    test_run_close(&base);
    recorded_layer_close(&l);
}

/* ---- norms that multiply by 1 + w ---- */

/* The norm as its bf16 file has it, times a weight behind it: what both were before, although w ends near -1. */
static void a_rounded_unit_norm_loses_nothing(void **state)
{
    (void)state;
    static const int lens[] = {19, 8};
    TestRun base;
    Folded f;
    Error err = {0};
    char dir[64];
    Npz *z = npz_open("tests/golden/outlier/bf16_units.npz");
    write_bf16_layer(z, true, dir);
    test_run_open(&base, dir, ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens(lens, 2, base.m->cfg.vocab, 3);
    ok(folded_run(&f, &base, "[{type: iter_smooth, alpha: 0.9}]", false, t, &err), &err);
    const Source was = {base.m, NULL}, is = {base.m, pipeline_overlay(f.p)};
    const TensorInfo *norm = checkpoint_find(base.m->ckpt, "model.layers.0.input_layernorm.weight");
    const Linear *q = &base.m->linears[model_find_linear(base.m, "model.layers.0.self_attn.q_proj")];
    float *n0, *n1, *w0 = malloc((size_t)q->in * sizeof *w0), *w1 = malloc((size_t)q->in * sizeof *w1);
    assert_true(norm && norm->dtype == DT_BF16 && w0 && w1);
    ok(source_small(&was, NULL, norm, &n0, &err), &err);
    ok(source_small(&is, NULL, norm, &n1, &err), &err);
    ok(source_rows(&was, NULL, q, 0, 1, w0, &err), &err);
    ok(source_rows(&is, NULL, q, 0, 1, w1, &err), &err);
    for (int64_t i = 0; i < q->in; i++) {
        w0[i] *= 1 + n0[i];
        w1[i] *= 1 + bf16_to_float(bf16_of_float(n1[i]));
    }
    double worst = test_worst(w0, w1, q->in);
    if (!(worst < 1e-6))
        fail_msg("off by %g", worst);
    free(n0);
    free(n1);
    free(w0);
    free(w1);
    folded_fini(&f);
    test_tokens_free(t);
    test_run_close(&base);
    random_model_remove(dir);
    npz_free(z);
}

/* ---- the peer's norms ---- */

/* They have an epsilon of their own, whatever the model says: that of the recording. */
static void the_peers_norms_have_their_own_epsilon(void **state)
{
    (void)state;
    for (int peer = 0; peer < 2; peer++) {
        RecordedLayer l;
        TestRun base;
        Folded f;
        Error err = {0};
        recorded_layer_open(&l, "smooth_quant_sym", "qwen2");
        write_file(l.dir, "config.json",
                   "{\"model_type\":\"qwen2\",\"torch_dtype\":\"float32\",\"hidden_size\":32,\"intermediate_size\":48,"
                   "\"num_hidden_layers\":1,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":8,"
                   "\"vocab_size\":21,\"max_position_embeddings\":64,\"rms_norm_eps\":0.5,\"rope_theta\":10000.0,"
                   "\"attention_bias\":true,\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"}\n");
        test_run_open(&base, l.dir, ARITH_FP32, 1, NULL);
        ok(folded_run(&f, &base, "[{type: smooth_quant}]", peer, l.calib, &err), &err);
        if (peer) {
            recorded_layer_compare(&l, base.m, pipeline_overlay(f.p), 1e-6);
            recorded_layer_outputs(&l, f.r, 1e-5);
        } else { /* ours are the model's */
            int64_t n;
            float *want = folded_logits(base.r, l.calib, &n), *got = folded_logits(f.r, l.calib, &n);
            assert_true(test_worst(want, got, n) < 1e-5);
            free(want);
            free(got);
        }
        folded_fini(&f);
        test_run_close(&base);
        recorded_layer_close(&l);
    }
}

/* ---- samples of several ranks ---- */

static void divided_samples_give_the_same_statistics(void **state)
{
    (void)state;
    enum { WIDTH = 3, SAMPLES = 4 };
    static const int64_t start[SAMPLES + 1] = {0, 2, 3, 6, 7};
    float x[7 * WIDTH];
    for (int i = 0; i < 7 * WIDTH; i++)
        x[i] = sinf((float)(i * i));
    for (int ordered = 0; ordered < 2; ordered++) {
        enum { RANKS = 3 };
        static const int cut[RANKS + 1] = {0, 2, 2, SAMPLES}; /* one of them has no sample */
        const unsigned needs = SMOOTH_MINMAX | SMOOTH_TOKENS | (ordered ? SMOOTH_MEAN : 0); /* ours go from rank to rank */
        SmoothWatch w[1 + RANKS];
        SmoothStats s[2];
        float *own[2];
        const int64_t linear = 0;
        Error err = {0};
        for (int r = 0; r <= RANKS; r++) { /* one that sees all, and those that share the samples */
            int from = r ? cut[r - 1] : 0, end = r ? cut[r] : SAMPLES;
            int64_t rows[SAMPLES + 1];
            w[r] = (SmoothWatch){.needs = needs, .ordered = ordered, .T = DT_BF16};
            ok(smooth_watch_init(&w[r], 0, 1, &err), &err);
            ok(smooth_watch_add(&w[r], 0, &err), &err);
            const Observer o = smooth_watch_observer(&w[r]);
            const Tap tap = {.kind = TAP_LINEAR_IN, .linear = 0};
            for (int k = from; k <= end; k++)
                rows[k - from] = start[k] - start[from];
            ok(o.ops->tap_begin(o.self, tap, end - from, rows, WIDTH, &err), &err);
            for (int k = from; k < end; k++)
                o.ops->tap_tile(o.self, tap, k - from, 0, x + start[k] * WIDTH, start[k + 1] - start[k], WIDTH, WIDTH);
            ok(o.ops->tap_end(o.self, tap, &err), &err);
        }
        Pack p[RANKS] = {{0}};
        const Observer first = smooth_watch_observer(&w[1]);
        for (int r = 0; r < RANKS; r++) {
            const Observer o = smooth_watch_observer(&w[1 + r]);
            ok(o.ops->pack(o.self, 0, &p[r], &err), &err);
        }
        Unpack torn = {p[0].data, p[0].data + p[0].len - 1, false};
        SmoothWatch bad = {.needs = needs, .ordered = ordered};
        ok(smooth_watch_init(&bad, 0, 1, &err), &err);
        ok(smooth_watch_add(&bad, 0, &err), &err);
        assert_int_equal(first.ops->merge(&bad, 0, &torn, &err), ST_INTERNAL);
        smooth_watch_fini(&bad);
        for (int r = 0; r < RANKS; r++) {
            Unpack in = unpack_of(&p[r]);
            ok(first.ops->merge(first.self, 0, &in, &err), &err);
            assert_true(!in.bad && in.at == in.end);
            pack_fini(&p[r]);
        }
        for (int r = 0; r < 2; r++)
            ok(smooth_watch_stats(&w[r], &linear, 1, true, &s[r], &own[r], &err), &err);
        assert_int_equal(s[0].rows, 7);
        assert_int_equal(s[1].rows, 7);
        assert_memory_equal(s[0].most, s[1].most, WIDTH * sizeof *x);
        assert_memory_equal(s[0].shift, s[1].shift, WIDTH * sizeof *x);
        assert_true(s[0].ntokens == 7 && s[1].ntokens == 7);
        assert_memory_equal(s[0].tokens, s[1].tokens, 7 * WIDTH * sizeof *x);
        if (ordered)
            assert_memory_equal(s[0].mean, s[1].mean, WIDTH * sizeof *x);
        for (int r = 0; r <= RANKS; r++)
            smooth_watch_fini(&w[r]);
        free(own[0]);
        free(own[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recordings_are_reproduced),
        cmocka_unit_test(bf16_scales_and_weights_are_the_same_bits),
        cmocka_unit_test(latent_values_are_scaled_in_their_rows),
        cmocka_unit_test(what_selects_nothing_is_named),
        cmocka_unit_test(inputs_without_a_token_are_told),
        cmocka_unit_test(patterns_go_by_keys_and_targets),
        cmocka_unit_test(inputs_are_scaled_at_run_time),
        cmocka_unit_test(threads_and_order_of_texts_change_nothing),
        cmocka_unit_test(values_that_are_no_numbers_are_named),
        cmocka_unit_test(zero_channels_stay_finite),
        cmocka_unit_test(a_rounded_unit_norm_loses_nothing),
        cmocka_unit_test(the_peers_norms_have_their_own_epsilon),
        cmocka_unit_test(divided_samples_give_the_same_statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
