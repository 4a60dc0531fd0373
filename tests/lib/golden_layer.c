#include "tests/lib/golden_layer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const int text_start[GL_TEXTS + 1] = {0, 12, 21};
static const char *const linears[GL_LINEARS] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                                "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
static const char *const norms[GL_NORMS] = {"input_layernorm", "post_attention_layernorm"};

const char *golden_linear(int i)
{
    return linears[i];
}

const char *golden_norm(int i)
{
    return norms[i];
}

static float *copied(const float *x, int64_t n)
{
    float *y = malloc((size_t)n * sizeof *y);
    assert_non_null(y);
    return memcpy(y, x, (size_t)n * sizeof *y);
}

/* ---- the forward ---- */

void golden_linear_out(const GoldenLayer *g, float *const *w, int i, const float *x, double *y)
{
    for (int t = 0; t < GL_TOKENS; t++)
        for (int64_t o = 0; o < g->out[i]; o++) {
            double sum = g->b[i] ? (double)g->b[i][o] : 0;
            for (int64_t k = 0; k < g->in[i]; k++)
                sum += (double)x[t * g->in[i] + k] * (double)w[i][o * g->in[i] + k];
            y[t * g->out[i] + o] = sum;
        }
}

/* Halves of a head at position p. */
static void rotate(double *v, int p)
{
    for (int j = 0; j < GL_DIM / 2; j++) {
        double angle = p * pow(10000.0, -2.0 * j / GL_DIM), c = cos(angle), s = sin(angle), a = v[j];
        v[j] = a * c - v[j + GL_DIM / 2] * s;
        v[j + GL_DIM / 2] = v[j + GL_DIM / 2] * c + a * s;
    }
}

static void attend(const GoldenLayer *g, const double *q, const double *k, const double *v, float *out)
{
    const int share = GL_HEADS / g->kv_heads, kw = g->kv_heads * GL_DIM;
    for (int text = 0; text < GL_TEXTS; text++)
        for (int t = text_start[text]; t < text_start[text + 1]; t++)
            for (int h = 0; h < GL_HEADS; h++) {
                double score[GL_TOKENS], sum = 0, y[GL_DIM] = {0};
                for (int u = text_start[text]; u <= t; u++) {
                    double dot = 0;
                    for (int c = 0; c < GL_DIM; c++)
                        dot += q[t * GL_HIDDEN + h * GL_DIM + c] * k[u * kw + h / share * GL_DIM + c];
                    score[u] = exp(dot / sqrt(GL_DIM));
                    sum += score[u];
                }
                for (int u = text_start[text]; u <= t; u++)
                    for (int c = 0; c < GL_DIM; c++)
                        y[c] += score[u] / sum * v[u * kw + h / share * GL_DIM + c];
                for (int c = 0; c < GL_DIM; c++)
                    out[t * GL_HIDDEN + h * GL_DIM + c] = (float)y[c];
            }
}

/* What o_proj reads. */
static void heads_of(const GoldenLayer *g, float *const *w, const float *x, float *out)
{
    double q[GL_TOKENS * GL_HIDDEN], k[GL_TOKENS * GL_HIDDEN], v[GL_TOKENS * GL_HIDDEN];
    golden_linear_out(g, w, GL_Q, x, q);
    golden_linear_out(g, w, GL_K, x, k);
    golden_linear_out(g, w, GL_V, x, v);
    for (int text = 0; text < GL_TEXTS; text++)
        for (int t = text_start[text]; t < text_start[text + 1]; t++) {
            for (int h = 0; h < GL_HEADS; h++)
                rotate(q + t * GL_HIDDEN + h * GL_DIM, t - text_start[text]);
            for (int h = 0; h < g->kv_heads; h++)
                rotate(k + (t * g->kv_heads + h) * GL_DIM, t - text_start[text]);
        }
    attend(g, q, k, v, out);
}

void golden_attention(const GoldenLayer *g, float *const *w, const float *x, double *y)
{
    float o[GL_TOKENS * GL_HIDDEN];
    heads_of(g, w, x, o);
    golden_linear_out(g, w, GL_O, o, y);
}

static void gated(const GoldenLayer *g, float *const *w, const float *x, float *out)
{
    double a[GL_TOKENS * GL_INTER], u[GL_TOKENS * GL_INTER];
    golden_linear_out(g, w, GL_GATE, x, a);
    golden_linear_out(g, w, GL_UP, x, u);
    for (int i = 0; i < GL_TOKENS * GL_INTER; i++)
        out[i] = (float)(a[i] / (1 + exp(-a[i])) * u[i]);
}

void golden_mlp(const GoldenLayer *g, float *const *w, const float *x, double *y)
{
    float h[GL_TOKENS * GL_INTER];
    gated(g, w, x, h);
    golden_linear_out(g, w, GL_DOWN, h, y);
}

static void normed(const double *h, const float *w, float *out)
{
    for (int t = 0; t < GL_TOKENS; t++) {
        double sum = 0;
        for (int c = 0; c < GL_HIDDEN; c++)
            sum += h[t * GL_HIDDEN + c] * h[t * GL_HIDDEN + c];
        for (int c = 0; c < GL_HIDDEN; c++)
            out[t * GL_HIDDEN + c] =
                (float)(h[t * GL_HIDDEN + c] / sqrt(sum / GL_HIDDEN + 1e-6) * (double)w[c]);
    }
}

static void find_inputs(GoldenLayer *g)
{
    double h[GL_TOKENS * GL_HIDDEN], y[GL_TOKENS * GL_HIDDEN];
    for (int text = 0; text < GL_TEXTS; text++) {
        const NpyArray *a;
        const float *x = npz_f32(g->file, &a, "x%d", text);
        assert_int_equal(a->count, (text_start[text + 1] - text_start[text]) * GL_HIDDEN);
        for (int64_t i = 0; i < a->count; i++)
            h[text_start[text] * GL_HIDDEN + i] = (double)x[i];
    }
    normed(h, g->norm[GL_NORM_IN], g->x[GL_Q]);
    heads_of(g, g->w, g->x[GL_Q], g->x[GL_O]);
    golden_linear_out(g, g->w, GL_O, g->x[GL_O], y);
    for (int i = 0; i < GL_TOKENS * GL_HIDDEN; i++)
        h[i] += y[i];
    normed(h, g->norm[GL_NORM_POST], g->x[GL_GATE]);
    gated(g, g->w, g->x[GL_GATE], g->x[GL_DOWN]);
    memcpy(g->x[GL_K], g->x[GL_Q], GL_TOKENS * GL_HIDDEN * sizeof(float));
    memcpy(g->x[GL_V], g->x[GL_Q], GL_TOKENS * GL_HIDDEN * sizeof(float));
    memcpy(g->x[GL_UP], g->x[GL_GATE], GL_TOKENS * GL_HIDDEN * sizeof(float));
}

/* ---- the file ---- */

void golden_layer_open(GoldenLayer *g, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/outlier/%s.npz", name);
    *g = (GoldenLayer){.file = npz_open(path)};
    for (int i = 0; i < GL_LINEARS; i++) {
        const NpyArray *a;
        const float *w = npz_f32(g->file, &a, "before/%s.weight", linears[i]);
        g->out[i] = a->shape[0];
        g->in[i] = a->shape[1];
        g->w[i] = copied(w, a->count);
        if (npz_find(g->file, "before/%s.bias", linears[i]))
            g->b[i] = copied(npz_f32(g->file, NULL, "before/%s.bias", linears[i]), g->out[i]);
        g->x[i] = malloc((size_t)(GL_TOKENS * g->in[i]) * sizeof(float));
        assert_non_null(g->x[i]);
    }
    for (int i = 0; i < GL_NORMS; i++)
        g->norm[i] = copied(npz_f32(g->file, NULL, "before/%s.weight", norms[i]), GL_HIDDEN);
    g->kv_heads = (int)g->out[GL_K] / GL_DIM;
    find_inputs(g);
}

void golden_layer_close(GoldenLayer *g)
{
    for (int i = 0; i < GL_LINEARS; i++) {
        free(g->w[i]);
        free(g->b[i]);
        free(g->x[i]);
    }
    for (int i = 0; i < GL_NORMS; i++)
        free(g->norm[i]);
    npz_free(g->file);
}

/* ---- folds ---- */

void golden_divide_rows(GoldenLayer *g, int i, const float *s)
{
    for (int64_t o = 0; o < g->out[i]; o++) {
        for (int64_t k = 0; k < g->in[i]; k++)
            g->w[i][o * g->in[i] + k] *= 1 / s[o];
        if (g->b[i])
            g->b[i][o] *= 1 / s[o];
    }
}

void golden_multiply_columns(GoldenLayer *g, int i, const float *s)
{
    for (int64_t o = 0; o < g->out[i]; o++)
        for (int64_t k = 0; k < g->in[i]; k++)
            g->w[i][o * g->in[i] + k] *= s[k];
}

void golden_divide_norm(GoldenLayer *g, int norm, const float *s)
{
    for (int c = 0; c < GL_HIDDEN; c++)
        g->norm[norm][c] *= 1 / s[c];
}

static void is_near(const float *got, const float *want, int64_t n, double tol)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)want[i]));
    for (int64_t i = 0; i < n; i++)
        assert_true(fabs((double)got[i] - (double)want[i]) <= tol * most);
}

void golden_layer_is_after(const GoldenLayer *g, double tol)
{
    for (int i = 0; i < GL_LINEARS; i++) {
        is_near(g->w[i], npz_f32(g->file, NULL, "after/%s.weight", linears[i]), g->out[i] * g->in[i], tol);
        if (g->b[i])
            is_near(g->b[i], npz_f32(g->file, NULL, "after/%s.bias", linears[i]), g->out[i], tol);
    }
    for (int i = 0; i < GL_NORMS; i++)
        is_near(g->norm[i], npz_f32(g->file, NULL, "after/%s.weight", norms[i]), GL_HIDDEN, tol);
}
