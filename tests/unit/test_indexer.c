#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/json.h"
#include "session/streamfile.h"
#include "tests/lib/bench.h"
#include "tests/lib/follow.h"
#include "tests/lib/configs.h"
#include "tests/lib/tempdir.h"

static const char v32[] = "tests/golden/models/deepseek_v32/fp32", glm[] = "tests/golden/models/glm_moe_dsa/fp32";
enum { LAYERS = 2, MOST_TENSORS = 80 };
static const int lengths[] = {40, 5, 1, 9, 10, 150, 33};
enum { SAMPLES = 7 };

/* A copy of the model: key `drop` (may be NULL) taken out of its config, the members of `add` put in, tensors whose
 * name ends with `zero` all zero, those whose name holds `without` left out. */
static char *changed(const char *from, const char *drop, const char *add, const char *zero, const char *without)
{
    char *dir = temp_folder(), path[200];
    size_t n;
    snprintf(path, sizeof path, "%s/config.json", from);
    char *text = temp_get(path, &n);
    cJSON *config = cJSON_Parse(text), *more = cJSON_Parse(add ? add : "{}"), *v;
    assert_non_null(config);
    assert_non_null(more);
    free(text);
    if (drop)
        cJSON_DeleteItemFromObject(config, drop);
    cJSON_ArrayForEach(v, more)
    {
        cJSON_DeleteItemFromObject(config, v->string);
        cJSON_AddItemToObject(config, v->string, cJSON_Duplicate(v, 1));
    }
    text = cJSON_Print(config);
    temp_puts(temp_path(dir, "config.json"), text);
    free(text);
    cJSON_Delete(config);
    cJSON_Delete(more);
    Checkpoint *c;
    TensorOut out[MOST_TENSORS];
    int64_t k = 0;
    assert_int_equal(checkpoint_open(&c, from, NULL), ST_OK);
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const TensorInfo *t = checkpoint_at(c, i);
        if (without && strstr(t->name, without))
            continue;
        assert_true(k < MOST_TENSORS);
        float *data = test_tensor(c, t);
        if (zero && strstr(t->name, zero))
            memset(data, 0, t->nbytes);
        out[k] = (TensorOut){.name = t->name, .dtype = DT_F32, .ndim = t->ndim, .data = data};
        memcpy(out[k++].shape, t->shape, sizeof t->shape);
    }
    assert_int_equal(safetensors_write(temp_path(dir, "model.safetensors"), out, k, NULL, NULL), ST_OK);
    for (int64_t i = 0; i < k; i++)
        free((void *)(uintptr_t)out[i].data);
    checkpoint_free(c);
    return dir;
}

/* ---- what a layer computes, written down ---- */

enum { SEEN_Q, SEEN_K, SEEN_V, SEEN_OUT, SEEN_IQ, SEEN_IK, SEEN_IW, SEEN };
typedef struct Seen {
    const Model *m;
    const TokenSet *t;
    int layer;
    float *x[SEEN];
} Seen;

static int seen_index(const Seen *s, Tap tap)
{
    const Unit *l = &s->m->units[s->layer];
    if (tap.layer != s->layer)
        return -1;
    if (tap.kind >= TAP_Q && tap.kind <= TAP_V)
        return (int)(tap.kind - TAP_Q);
    if (tap.kind == TAP_LINEAR_IN && tap.linear == unit_linear(l, "o"))
        return SEEN_OUT;
    if (tap.kind != TAP_LINEAR_OUT)
        return -1;
    return tap.linear == unit_linear(l, "index_q")   ? SEEN_IQ
           : tap.linear == unit_linear(l, "index_k") ? SEEN_IK
           : tap.linear == unit_linear(l, "index_w") ? SEEN_IW
                                      : -1;
}

static bool seen_wants(void *self, Tap tap)
{
    return seen_index(self, tap) >= 0;
}

static Status seen_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    (void)err;
    float **x = &((Seen *)self)->x[seen_index(self, tap)];
    assert_null(*x);
    *x = malloc((size_t)(start[samples] * width) * sizeof **x);
    assert_non_null(*x);
    return ST_OK;
}

static void seen_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                      int64_t ld)
{
    Seen *s = self;
    float *dst = s->x[seen_index(s, tap)] + (s->t->start[sample] + row0) * width;
    for (int64_t i = 0; i < rows; i++)
        memcpy(dst + i * width, x + i * ld, (size_t)width * sizeof *x);
}

static const ObserverOps seen_ops = {.name = "seen", .wants_tap = seen_wants, .tap_begin = seen_begin,
                                     .tap_tile = seen_tile};

/* Rotates the first `dims` of x at position pos in float64. */
static void rotate(const ModelConfig *c, double *x, int64_t pos)
{
    int dims = c->mla.rope, half = dims / 2;
    double y[64];
    for (int j = 0; j < half; j++) {
        int a = c->index.interleaved ? 2 * j : j, b = c->index.interleaved ? 2 * j + 1 : j + half;
        double w = (double)pos / pow(c->rope.theta, 2.0 * j / dims);
        y[j] = x[a] * cos(w) - x[b] * sin(w);
        y[half + j] = x[b] * cos(w) + x[a] * sin(w);
    }
    memcpy(x, y, (size_t)dims * sizeof *x);
}

/* Scores of row t of the sample that begins at row `at`, for keys 0..t. */
static void scores(const Seen *s, const float *w, const float *b, int64_t at, int64_t t, double *out)
{
    const ModelConfig *c = &s->m->cfg;
    int64_t d = c->index.dim, heads = c->index.heads;
    double k[64], q[64];
    for (int64_t p = 0; p <= t; p++) {
        const float *x = s->x[SEEN_IK] + (at + p) * d;
        double mean = 0, var = 0;
        for (int64_t i = 0; i < d; i++)
            mean += (double)x[i] / (double)d;
        for (int64_t i = 0; i < d; i++)
            var += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)d;
        for (int64_t i = 0; i < d; i++)
            k[i] = ((double)x[i] - mean) / sqrt(var + 1e-6) * (double)w[i] + (double)b[i];
        rotate(c, k, p);
        out[p] = 0;
        for (int64_t h = 0; h < heads; h++) {
            double dot = 0;
            for (int64_t i = 0; i < d; i++)
                q[i] = (double)s->x[SEEN_IQ][((at + t) * heads + h) * d + i];
            rotate(c, q, t);
            for (int64_t i = 0; i < d; i++)
                dot += q[i] * k[i];
            if (dot > 0)
                out[p] += dot / sqrt((double)d) * (double)s->x[SEEN_IW][(at + t) * heads + h] / sqrt((double)heads);
        }
    }
}

static bool bit(const Stream *h, int64_t row, int64_t key)
{
    return h->select[row * h->select_words + key / 32] >> key % 32 & 1;
}

/* The chosen keys are the top_k best by the written-down scores, the first of equals; near ties may go either way. */
static void check_choice(const Seen *s, const Stream *h)
{
    const Unit *l = &s->m->units[s->layer];
    float *w = test_tensor(s->m->ckpt, unit_small(l, "index_norm"));
    float *b = test_tensor(s->m->ckpt, unit_small(l, "index_bias"));
    int64_t top = s->m->cfg.index.top_k, turned = 0;
    double score[256];
    for (int n = 0; n < s->t->samples; n++) {
        int64_t at = s->t->start[n], len = s->t->start[n + 1] - at;
        for (int64_t t = 0; t < len && len > top; t++) {
            int64_t chosen = 0;
            scores(s, w, b, at, t, score);
            for (int64_t p = 0; p <= t; p++) {
                int64_t better = 0;
                double margin = INFINITY;
                for (int64_t o = 0; o <= t; o++) {
                    better += o != p && (score[o] > score[p] || (score[o] == score[p] && o < p));
                    margin = o != p && score[o] != score[p] ? fmin(margin, fabs(score[o] - score[p])) : margin;
                }
                bool want = better < top, got = bit(h, at + t, p);
                chosen += got;
                if (want != got && margin > 1e-5)
                    fail_msg("text %d row %lld key %lld: chosen %d", n, (long long)t, (long long)p, got);
                turned += want != got;
            }
            assert_int_equal(chosen, t + 1 < top ? t + 1 : top);
        }
    }
    assert_true(turned < 4);
    free(w);
    free(b);
}

/* The attention's output over the chosen keys, from its own q, k and v. */
static void check_attention(const Seen *s, const Stream *h)
{
    const ModelConfig *c = &s->m->cfg;
    int64_t d = c->head_dim, dv = c->v_dim, heads = c->heads;
    double p[256];
    for (int n = 0; n < s->t->samples; n++) {
        int64_t at = s->t->start[n], len = s->t->start[n + 1] - at;
        for (int64_t t = 0; t < len; t++)
            for (int64_t a = 0; a < heads; a++) {
                double most = -INFINITY, sum = 0;
                for (int64_t k = 0; k <= t; k++) {
                    p[k] = 0;
                    for (int64_t i = 0; i < d; i++)
                        p[k] += (double)s->x[SEEN_Q][((at + t) * heads + a) * d + i] *
                                (double)s->x[SEEN_K][((at + k) * heads + a) * d + i];
                    p[k] = len <= c->index.top_k || bit(h, at + t, k) ? p[k] * c->attn_scale : -INFINITY;
                    most = fmax(most, p[k]);
                }
                for (int64_t k = 0; k <= t; k++)
                    sum += p[k] = exp(p[k] - most);
                for (int64_t i = 0; i < dv; i++) {
                    double y = 0, got = (double)s->x[SEEN_OUT][((at + t) * heads + a) * dv + i];
                    for (int64_t k = 0; k <= t; k++)
                        y += p[k] / sum * (double)s->x[SEEN_V][((at + k) * heads + a) * dv + i];
                    if (!(fabs(y - got) < 1e-4 * (fabs(y) + 1)))
                        fail_msg("text %d row %lld: %g, reference %g", n, (long long)t, got, y);
                }
            }
    }
}

static void run_layer_ok(TestRun *b, int layer, const Stream *in, Stream *out, const Observer *obs)
{
    Error e = {0};
    if (runner_layer(b->r, layer, NULL, in, out, obs, obs != NULL, &e) != ST_OK)
        fail_msg("layer %d: %s", layer, e.text);
}

static void seen_free(Seen *s)
{
    for (int i = 0; i < SEEN; i++)
        free(s->x[i]);
    *s = (Seen){0};
}

static void choices_are_those_of_the_written_down_scores(void **state)
{
    (void)state;
    for (int round = 0; round < 4; round++) {
        TestRun b;
        Stream h;
        char *dir = round % 2 ? changed(glm, NULL, NULL, NULL, NULL) : changed(v32, "rope_scaling", NULL, NULL, NULL);
        test_run_open(&b, dir, round < 2 ? ARITH_FP32 : ARITH_EXACT, 1 + round, NULL);
        TokenSet *t = test_tokens(lengths, SAMPLES, b.m->cfg.vocab, 7 + (uint64_t)round);
        assert_int_equal(runner_embed(b.r, t, &h, NULL), ST_OK);
        for (int layer = 0; layer < LAYERS; layer++) {
            Seen s = {.m = b.m, .t = t, .layer = layer};
            Observer obs = {&seen_ops, &s};
            run_layer_ok(&b, layer, &h, &h, &obs);
            check_choice(&s, &h);
            check_attention(&s, &h);
            seen_free(&s);
        }
        stream_fini(&h);
        test_tokens_free(t);
        test_run_close(&b);
        temp_remove(dir);
    }
}

/* All scores zero: the first keys. */
static void of_equal_scores_the_first_are_chosen(void **state)
{
    (void)state;
    TestRun b;
    Stream h;
    char *dir = changed(v32, NULL, NULL, "weights_proj", NULL);
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, SAMPLES, b.m->cfg.vocab, 3);
    assert_int_equal(runner_embed(b.r, t, &h, NULL), ST_OK);
    run_layer_ok(&b, 0, &h, &h, NULL);
    for (int n = 0; n < SAMPLES; n++)
        for (int64_t r = 0; r < lengths[n] && lengths[n] > b.m->cfg.index.top_k; r++)
            for (int64_t k = 0; k <= r; k++)
                assert_int_equal(bit(&h, t->start[n] + r, k), k < b.m->cfg.index.top_k);
    stream_fini(&h);
    test_tokens_free(t);
    test_run_close(&b);
    temp_remove(dir);
}

/* While no text is longer than what is chosen, the indexer changes nothing. */
static void short_texts_are_attended_to_in_full(void **state)
{
    (void)state;
    static const int len[] = {9, 4};
    TestRun b[2];
    Stream h[2];
    char *dir = changed(v32, NULL, "{\"index_topk\": 2048}", NULL, NULL);
    test_run_open(&b[0], v32, ARITH_FP32, 2, NULL);
    test_run_open(&b[1], dir, ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(len, 2, b[0].m->cfg.vocab, 3);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(runner_embed(b[i].r, t, &h[i], NULL), ST_OK);
        for (int layer = 0; layer < LAYERS; layer++)
            run_layer_ok(&b[i], layer, &h[i], &h[i], NULL);
        assert_null(h[i].select);
    }
    assert_memory_equal(h[0].data, h[1].data, (size_t)(h[0].rows * h[0].width) * sizeof *h[0].data);
    for (int i = 0; i < 2; i++) {
        stream_fini(&h[i]);
        test_run_close(&b[i]);
    }
    test_tokens_free(t);
    temp_remove(dir);
}

/* ---- layers that take over a choice ---- */

static const char shared_last[] = "{\"indexer_types\": [\"full\", \"shared\"]}";
static const char last_indexer[] = "layers.1.self_attn.indexer";

static void shared_layers_look_at_the_same_keys(void **state)
{
    (void)state;
    TestRun b;
    Stream h, in, out;
    char *dir = changed(glm, NULL, shared_last, NULL, last_indexer);
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    assert_null(b.m->warning);
    assert_true(unit_linear(&b.m->units[1], "index_q") < 0 && unit_linear(&b.m->units[0], "index_q") > 0);
    TokenSet *t = test_tokens(lengths, SAMPLES, b.m->cfg.vocab, 11);
    assert_int_equal(runner_embed(b.r, t, &h, NULL), ST_OK);
    run_layer_ok(&b, 0, &h, &h, NULL);
    assert_true(runner_carries(b.m, 1, &h) && !runner_carries(b.m, 0, &h) && !runner_carries(b.m, 2, &h));
    assert_int_equal(stream_copy(&in, &h, NULL), ST_OK);
    assert_int_equal(stream_init(&out, h.samples, h.start, h.width, NULL), ST_OK);
    Seen s = {.m = b.m, .t = t, .layer = 1};
    Observer obs = {&seen_ops, &s};
    run_layer_ok(&b, 1, &in, &out, &obs);
    check_attention(&s, &h);
    run_layer_ok(&b, 1, &h, &h, NULL);
    assert_memory_equal(h.data, out.data, (size_t)(h.rows * h.width) * sizeof *h.data);
    assert_memory_equal(in.select, out.select, (size_t)(h.rows * h.select_words) * sizeof *h.select);
    seen_free(&s);
    Error e = {0};
    free(in.select); /* hidden states alone are not enough */
    in.select = NULL;
    assert_int_equal(runner_layer(b.r, 1, NULL, &in, &out, NULL, 0, &e), ST_INTERNAL);
    assert_non_null(strstr(e.text, "layer 1 takes over the keys"));
    stream_fini(&h);
    stream_fini(&in);
    stream_fini(&out);
    test_tokens_free(t);
    test_run_close(&b);
    temp_remove(dir);
}

/* A measurement that starts in the middle, at a state that was kept, gives what one from the beginning gives. */
static void kept_states_carry_the_choice(void **state)
{
    (void)state;
    char *dir = changed(glm, NULL, shared_last, NULL, last_indexer);
    Effect got[2];
    for (int cached = 0; cached < 2; cached++) {
        TestRun b;
        Error e = {0};
        EffectLab *lab;
        test_run_open(&b, dir, ARITH_FP32, 2, NULL);
        TokenSet *t[2] = {test_tokens(lengths, SAMPLES, b.m->cfg.vocab, 1),
                          test_tokens(lengths, SAMPLES, b.m->cfg.vocab, 2)};
        EffectOptions o = {.calib = t[0], .eval = t[1], .cache_bytes = cached ? 1 << 24 : 0, .seed = 5};
        assert_int_equal(effectlab_new(&lab, b.m, &o, &e), ST_OK);
        QConfig q = config_default();
        int16_t *level = calloc((size_t)b.m->nlinears, sizeof *level);
        level[unit_linear(&b.m->units[1], "o")] = 1;
        if (measure_work(lab, b.r, &(Work){.levels = &q, .nlevels = 1, .level = level}, &got[cached], &e) != ST_OK)
            fail_msg("%s", e.text);
        assert_int_equal(got[cached].first_layer_run, cached ? 1 : 0);
        free(level);
        effectlab_free(lab);
        test_tokens_free(t[0]);
        test_tokens_free(t[1]);
        test_run_close(&b);
    }
    assert_true(got[0].kl_mean > 0 && got[0].kl_mean == got[1].kl_mean && got[0].out_mse == got[1].out_mse);
    temp_remove(dir);
}

/* The state that a stopped analysis goes on from, written and read back. */
static void saved_streams_carry_the_choice(void **state)
{
    (void)state;
    char *dir = changed(glm, NULL, shared_last, NULL, last_indexer), *home = temp_folder(), sha[65], last[65];
    Error e = {0};
    TestRun b;
    Stream h, got;
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, SAMPLES, b.m->cfg.vocab, 1);
    assert_int_equal(runner_embed(b.r, t, &h, &e), ST_OK);
    run_layer_ok(&b, 0, &h, &h, NULL);
    bool carried = runner_carries(b.m, 1, &h);
    assert_true(carried);
    assert_int_equal(streamfile_write(home, 3, 0, &h, carried, sha, &e), ST_OK);
    if (streamfile_read(home, 3, 0, sha, b.m, &got, &e) != ST_OK)
        fail_msg("%s", e.text);
    assert_memory_equal(got.data, h.data, (size_t)(h.rows * h.width) * sizeof *h.data);
    assert_memory_equal(got.select, h.select, (size_t)(h.rows * h.select_words) * sizeof *h.select);
    stream_fini(&got);
    h.select[0] ^= 1; /* is part of what the digest stands for */
    assert_int_equal(streamfile_write(home, 3, 0, &h, carried, last, &e), ST_OK);
    assert_string_not_equal(sha, last);
    assert_int_equal(streamfile_read(home, 3, 0, sha, b.m, &got, &e), ST_DATA);
    assert_null(got.data);
    stream_fini(&h);
    test_tokens_free(t);
    test_run_close(&b);
    char cmd[200];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'/*", home);
    assert_int_equal(system(cmd), 0);
    temp_remove(home);
    temp_remove(dir);
}

/* ---- config.json ---- */

static void schedules_of_shared_layers(void **state)
{
    (void)state;
    static const struct {
        const char *add;
        bool shared;
    } rows[] = {
        {"{}", false},
        {"{\"indexer_types\": [\"full\", \"full\"]}", false},
        {"{\"index_topk_pattern\": \"FS\"}", true},
        {"{\"index_topk_freq\": 4, \"index_skip_topk_offset\": 1}", true},
        {"{\"index_topk_freq\": 4}", false},
        {"{\"index_topk_freq\": 1, \"index_skip_topk_offset\": 1}", false},
        {"{\"mlp_layer_types\": [\"dense\", \"sparse\"], \"layer_types\": [\"deepseek_sparse_attention\", "
         "\"deepseek_sparse_attention\"]}", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *dir = changed(glm, NULL, rows[i].add, NULL, NULL);
        Model *m;
        Error e = {0};
        if (model_open(&m, dir, NULL, &e) != ST_OK)
            fail_msg("%s", e.text);
        assert_true(!m->cfg.index.shared[0] && m->cfg.index.shared[1] == rows[i].shared);
        assert_null(m->warning); /* whatever of an indexer a sharing layer holds */
        model_free(m);
        temp_remove(dir);
    }
}

static void broken_indexers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *drop, *add, *without, *fragment;
    } rows[] = {
        {NULL, "{\"index_n_heads\": 0}", NULL, "'index_n_heads' must be between 1 and"},
        {NULL, "{\"index_n_heads\": 8}", NULL, "indexer.wq_b.weight' has shape [256,24], config.json says [128,24]"},
        {NULL, "{\"index_head_dim\": 4}", NULL, "'index_head_dim' must be between 8 and"},
        {NULL, "{\"index_topk\": 0}", NULL, "'index_topk' must be between 1 and"},
        {NULL, "{\"index_topk\": \"all\"}", NULL, "'index_topk' must be a whole number"},
        {NULL, "{\"q_lora_rank\": null}", NULL, "'q_lora_rank' is missing: the indexer's queries"},
        {NULL, "{\"indexer_types\": [\"full\"]}", NULL,
         "'indexer_types' must have an entry for each of the 2 layers, it has 1"},
        {NULL, "{\"indexer_types\": [\"shared\", \"full\"]}", NULL, "'indexer_types': layer 0 has no layer before it"},
        {NULL, "{\"indexer_types\": [\"full\", 7]}", NULL,
         "'indexer_types': the entry of layer 1 must be full or shared"},
        {NULL, "{\"index_topk_pattern\": \"FX\"}", NULL, "'index_topk_pattern': the entry of layer 1 must be"},
        {NULL, "{\"index_topk_freq\": -1}", NULL, "'index_topk_freq' must be between 0 and"},
        {NULL, "{\"mlp_layer_types\": [\"dense\", \"wet\"]}", NULL, "'mlp_layer_types[1]' is 'wet'"},
        {NULL, NULL, "layers.1.self_attn.indexer.k_norm.bias", "layers.1.self_attn.indexer.k_norm.bias' is missing"},
        {NULL, NULL, "layers.0.self_attn.indexer.weights_proj",
         "layers.0.self_attn.indexer.weights_proj.weight' is missing"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *dir = changed(glm, rows[i].drop, rows[i].add, NULL, rows[i].without);
        Model *m;
        Error e = {0};
        assert_int_equal(model_open(&m, dir, NULL, &e), ST_DATA);
        if (!strstr(e.text, rows[i].fragment))
            fail_msg("'%s' lacks '%s'", e.text, rows[i].fragment);
        temp_remove(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_are_those_of_the_written_down_scores),
        cmocka_unit_test(of_equal_scores_the_first_are_chosen),
        cmocka_unit_test(short_texts_are_attended_to_in_full),
        cmocka_unit_test(shared_layers_look_at_the_same_keys),
        cmocka_unit_test(kept_states_carry_the_choice),
        cmocka_unit_test(saved_streams_carry_the_choice),
        cmocka_unit_test(schedules_of_shared_layers),
        cmocka_unit_test(broken_indexers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
