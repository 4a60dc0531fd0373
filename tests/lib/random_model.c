#include "model/block.h"
#include "random_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "math/convert.h"

enum { TENSORS_MAX = 200 };

typedef struct Writer {
    TensorOut t[TENSORS_MAX];
    char name[TENSORS_MAX][80];
    int n;
    const RandomShape *s;
    uint32_t seed;
} Writer;

static uint32_t next(uint32_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 17;
    *s ^= *s << 5;
    return *s;
}

/* Uniform with this standard deviation around `mean`, rounded to the model's dtype. */
static void add(Writer *w, const char *name, int64_t rows, int64_t cols, double mean, double std)
{
    int64_t n = rows * (cols ? cols : 1);
    unsigned char *data = malloc((size_t)n * 4);
    assert_non_null(data);
    for (int64_t i = 0; i < n; i++) {
        float v = (float)(mean + std * 3.4641 * ((double)(next(&w->seed) >> 8) / 16777216.0 - 0.5));
        uint16_t h = w->s->dtype == DT_BF16 ? bf16_of_float(v) : f16_of_float(v);
        if (w->s->dtype == DT_F32)
            memcpy(data + 4 * i, &v, 4);
        else
            memcpy(data + 2 * i, &h, 2);
    }
    assert_true(w->n < TENSORS_MAX);
    snprintf(w->name[w->n], sizeof w->name[w->n], "%s", name);
    w->t[w->n] = (TensorOut){.name = w->name[w->n], .dtype = w->s->dtype, .ndim = cols ? 2 : 1, .shape = {rows, cols},
                             .data = data};
    w->n++;
}

static void add_layer(Writer *w, int layer)
{
    const RandomShape *s = w->s;
    int64_t q = (int64_t)s->heads * s->head_dim, kv = (int64_t)s->kv_heads * s->head_dim;
    const struct {
        const char *name;
        int64_t rows, cols;
        int bias;
    } lin[] = {
        {"self_attn.q_proj", q, s->hidden, 1},      {"self_attn.k_proj", kv, s->hidden, 1},
        {"self_attn.v_proj", kv, s->hidden, 1},     {"self_attn.o_proj", s->hidden, q, 0},
        {"mlp.gate_proj", s->inter, s->hidden, 0},  {"mlp.up_proj", s->inter, s->hidden, 0},
        {"mlp.down_proj", s->hidden, s->inter, 0},
    };
    char name[80];
    static const char *const norms[] = {"input_layernorm", "post_attention_layernorm", "self_attn.q_norm",
                                        "self_attn.k_norm"};
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, norms[i]);
        if (i < 2 || strcmp(s->model_type, "qwen3") == 0)
            add(w, name, i < 2 ? s->hidden : s->head_dim, 0, 1, 0.2);
    }
    for (size_t i = 0; i < sizeof lin / sizeof *lin; i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, lin[i].name);
        add(w, name, lin[i].rows, lin[i].cols, 0, 1.2 / sqrt((double)lin[i].cols));
        snprintf(name, sizeof name, "model.layers.%d.%s.bias", layer, lin[i].name);
        if (lin[i].bias && strcmp(s->model_type, "qwen2") == 0)
            add(w, name, lin[i].rows, 0, 0, 0.3);
    }
}

static void write_config(const RandomShape *s, const char *path)
{
    static const char *const dtype[] = {[DT_F32] = "float32", [DT_BF16] = "bfloat16", [DT_F16] = "float16"};
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "{\"model_type\":\"%s\",\"torch_dtype\":\"%s\",\"hidden_size\":%lld,\"intermediate_size\":%lld,"
            "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"head_dim\":%d,"
            "\"vocab_size\":%lld,\"max_position_embeddings\":8192,\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,"
            "\"tie_word_embeddings\":false,\"hidden_act\":\"silu\"",
            s->model_type, dtype[s->dtype], (long long)s->hidden, (long long)s->inter, s->layers, s->heads,
            s->kv_heads, s->head_dim, (long long)s->vocab);
    if (s->window)
        fprintf(f, ",\"use_sliding_window\":true,\"sliding_window\":%lld,\"max_window_layers\":1",
                (long long)s->window);
    fprintf(f, "}\n");
    assert_int_equal(fclose(f), 0);
}

void random_model_write(const RandomShape *s, char dir[64])
{
    Error e = {0};
    char path[128];
    Writer *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->s = s;
    w->seed = s->seed * 2654435761u + 1;
    snprintf(dir, 64, "/tmp/slimscope-model-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/config.json", dir);
    write_config(s, path);
    add(w, "model.embed_tokens.weight", s->vocab, s->hidden, 0, 1);
    for (int i = 0; i < s->layers; i++)
        add_layer(w, i);
    add(w, "model.norm.weight", s->hidden, 0, 1, 0.2);
    add(w, "lm_head.weight", s->vocab, s->hidden, 0, 1 / sqrt((double)s->hidden));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    if (safetensors_write(path, w->t, w->n, NULL, &e) != ST_OK)
        fail_msg("%s", e.text);
    for (int i = 0; i < w->n; i++)
        free((void *)(uintptr_t)w->t[i].data);
    free(w);
}

void random_model_remove(const char *dir)
{
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    unlink(path);
    rmdir(dir);
}

void random_tokens(TokenSet *t, int samples, const int64_t *len, int64_t vocab, uint32_t seed)
{
    *t = (TokenSet){.samples = samples};
    t->start = calloc((size_t)samples + 1, sizeof *t->start);
    assert_non_null(t->start);
    for (int i = 0; i < samples; i++)
        t->start[i + 1] = t->start[i] + len[i];
    t->ids = malloc((size_t)t->start[samples] * sizeof *t->ids + 1);
    assert_non_null(t->ids);
    seed = seed * 40503u + 1;
    for (int64_t i = 0; i < t->start[samples]; i++)
        t->ids[i] = (int32_t)(next(&seed) % (uint32_t)vocab);
}

void random_tokens_free(TokenSet *t)
{
    free(t->start);
    free(t->ids);
    *t = (TokenSet){0};
}

/* ---- the obvious decoder ---- */

static double *values(const Model *m, const TensorInfo *t)
{
    Error e = {0};
    int64_t n = (int64_t)(t->nbytes / (uint64_t)dtype_size(t->dtype));
    unsigned char *raw = malloc(t->nbytes);
    double *v = malloc((size_t)n * sizeof *v);
    assert_non_null(raw);
    assert_non_null(v);
    if (checkpoint_read(m->ckpt, t, 0, t->nbytes, raw, &e) != ST_OK)
        fail_msg("%s", e.text);
    for (int64_t i = 0; i < n; i++) {
        float f;
        uint16_t h;
        memcpy(&f, raw + (t->dtype == DT_F32 ? 4 * i : 0), 4);
        memcpy(&h, raw + 2 * i, 2);
        v[i] = t->dtype == DT_F32 ? (double)f : (double)(t->dtype == DT_BF16 ? bf16_to_float(h) : f16_to_float(h));
    }
    free(raw);
    return v;
}

static double *linear(const Model *m, const TensorInfo *weight, const TensorInfo *bias, const double *x, int64_t rows)
{
    int64_t out = weight->shape[0], in = weight->shape[1];
    double *w = values(m, weight), *b = bias ? values(m, bias) : NULL, *y = malloc((size_t)(rows * out) * sizeof *y);
    assert_non_null(y);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t o = 0; o < out; o++) {
            double sum = b ? b[o] : 0;
            for (int64_t k = 0; k < in; k++)
                sum += x[t * in + k] * w[o * in + k];
            y[t * out + o] = sum;
        }
    free(w);
    free(b);
    return y;
}

static double *by_index(const Model *m, int32_t index, const double *x, int64_t rows)
{
    return linear(m, m->linears[index].weight, m->linears[index].bias, x, rows);
}

/* x[rows][groups][n], normed over n. */
static double *normed(const Model *m, const TensorInfo *weight, const double *x, int64_t rows, int64_t n)
{
    double *w = values(m, weight), *y = malloc((size_t)(rows * n) * sizeof *y);
    assert_non_null(y);
    for (int64_t t = 0; t < rows; t++) {
        double sum = 0;
        for (int64_t j = 0; j < n; j++)
            sum += x[t * n + j] * x[t * n + j];
        for (int64_t j = 0; j < n; j++)
            y[t * n + j] = x[t * n + j] / sqrt(sum / (double)n + m->cfg.eps) * w[j];
    }
    free(w);
    return y;
}

static void rotate(const Model *m, double *x, int64_t rows, int heads)
{
    int d = m->cfg.head_dim;
    for (int64_t t = 0; t < rows; t++)
        for (int h = 0; h < heads; h++)
            for (int j = 0; j < d / 2; j++) {
                double *a = x + (t * heads + h) * d + j, *b = a + d / 2;
                double angle = (double)t * pow(m->cfg.rope.theta, -2.0 * j / d), c = cos(angle), s = sin(angle),
                    u = *a, v = *b;
                *a = u * c - v * s;
                *b = v * c + u * s;
            }
}

static double *attention(const Model *m, const double *q, const double *k, const double *v, int64_t rows,
                         int64_t window)
{
    int d = m->cfg.head_dim, nh = m->cfg.heads, nkv = m->cfg.kv_heads;
    double *o = calloc((size_t)(rows * nh * d), sizeof *o), *p = malloc((size_t)rows * sizeof *p);
    assert_non_null(o);
    assert_non_null(p);
    for (int h = 0; h < nh; h++)
        for (int64_t t = 0; t < rows; t++) {
            int kv = h / (nh / nkv);
            int64_t first = window && t - window + 1 > 0 ? t - window + 1 : 0;
            double max = -INFINITY, sum = 0;
            for (int64_t s = first; s <= t; s++) {
                double dot = 0;
                for (int j = 0; j < d; j++)
                    dot += q[(t * nh + h) * d + j] * k[(s * nkv + kv) * d + j];
                p[s] = dot / sqrt((double)d);
                max = fmax(max, p[s]);
            }
            for (int64_t s = first; s <= t; s++)
                sum += p[s] = exp(p[s] - max);
            for (int64_t s = first; s <= t; s++)
                for (int j = 0; j < d; j++)
                    o[(t * nh + h) * d + j] += p[s] / sum * v[(s * nkv + kv) * d + j];
        }
    free(p);
    return o;
}

static void plain_layer(const Model *m, int layer, double *h, int64_t rows)
{
    const Unit *t = &m->units[layer];
    const ModelConfig *c = &m->cfg;
    double *x = normed(m, unit_small(t, "norm"), h, rows, c->hidden);
    double *q = by_index(m, unit_linear(t, "q"), x, rows), *k = by_index(m, unit_linear(t, "k"), x, rows);
    double *v = by_index(m, unit_linear(t, "v"), x, rows);
    if (unit_small(t, "q_norm")) {
        double *qn = normed(m, unit_small(t, "q_norm"), q, rows * c->heads, c->head_dim),
            *kn = normed(m, unit_small(t, "k_norm"), k, rows * c->kv_heads, c->head_dim);
        free(q);
        free(k);
        q = qn;
        k = kn;
    }
    rotate(m, q, rows, c->heads);
    rotate(m, k, rows, c->kv_heads);
    double *o = attention(m, q, k, v, rows, c->window ? c->window[layer] : 0);
    double *a = by_index(m, unit_linear(t, "o"), o, rows);
    for (int64_t i = 0; i < rows * c->hidden; i++)
        h[i] += a[i];
    double *y = normed(m, t->block[1].join->small[RESIDUAL_BEFORE], h, rows, c->hidden);
    double *g = by_index(m, unit_linear(t, "gate"), y, rows), *u = by_index(m, unit_linear(t, "up"), y, rows);
    for (int64_t i = 0; i < rows * c->inter; i++)
        g[i] = g[i] / (1 + exp(-g[i])) * u[i];
    double *f = by_index(m, unit_linear(t, "down"), g, rows);
    for (int64_t i = 0; i < rows * c->hidden; i++)
        h[i] += f[i];
    double *const all[] = {x, q, k, v, o, a, y, g, u, f};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

void plain_decoder(const Model *m, const int32_t *ids, int64_t tokens, double *h, double *logits)
{
    int64_t n = m->cfg.hidden, step = tokens * n;
    double *e = values(m, m->entry.table), *now = malloc((size_t)step * sizeof *now);
    assert_non_null(now);
    for (int64_t t = 0; t < tokens; t++)
        memcpy(now + t * n, e + ids[t] * n, (size_t)n * sizeof *e);
    free(e);
    for (int i = 0; i <= m->cfg.layers; i++) {
        if (h)
            memcpy(h + i * step, now, (size_t)step * sizeof *h);
        if (i < m->cfg.layers)
            plain_layer(m, i, now, tokens);
    }
    if (logits) {
        double *x = normed(m, m->exit.norm, now, tokens, n), *y = linear(m, m->exit.head, NULL, x, tokens);
        memcpy(logits, y, (size_t)(tokens * m->cfg.vocab) * sizeof *y);
        free(x);
        free(y);
    }
    free(now);
}
