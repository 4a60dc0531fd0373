#ifndef SLIM_TEST_GOLDEN_LAYER_H
#define SLIM_TEST_GOLDEN_LAYER_H

#include <stdint.h>

#include "tests/lib/npz.h"

/* The decoder layer that the files of tests/golden/outlier record before and after a processor: 4 heads of 8, two
 * texts of 12 and 9 tokens, computed here in float64 as its definition says. A failure fails the test. */

enum { GL_HIDDEN = 32, GL_HEADS = 4, GL_DIM = 8, GL_INTER = 48, GL_TEXTS = 2, GL_TOKENS = 21 };
enum { GL_Q, GL_K, GL_V, GL_O, GL_GATE, GL_UP, GL_DOWN, GL_LINEARS };
enum { GL_NORM_IN, GL_NORM_POST, GL_NORMS };

typedef struct GoldenLayer {
    Npz *file;
    int kv_heads;
    int64_t out[GL_LINEARS], in[GL_LINEARS];
    float *w[GL_LINEARS];    /* [out][in] */
    float *b[GL_LINEARS];    /* [out], NULL: none */
    float *norm[GL_NORMS];   /* [GL_HIDDEN] */
    float *x[GL_LINEARS];    /* [GL_TOKENS][in] what each linear reads */
} GoldenLayer;

/* tests/golden/outlier/NAME.npz, as it was before, and what its linears read. */
void golden_layer_open(GoldenLayer *g, const char *name);
void golden_layer_close(GoldenLayer *g);
const char *golden_linear(int i);
const char *golden_norm(int i);
/* y[GL_TOKENS][out] of a linear, y[GL_TOKENS][GL_HIDDEN] of the attention over x (q's input) and of the feed-forward part
 * over x (gate's input), with the weights w[GL_LINEARS]. */
void golden_linear_out(const GoldenLayer *g, float *const *w, int i, const float *x, double *y);
void golden_attention(const GoldenLayer *g, float *const *w, const float *x, double *y);
void golden_mlp(const GoldenLayer *g, float *const *w, const float *x, double *y);
/* A source's rows over s, its bias too; a target's columns times s. */
void golden_divide_rows(GoldenLayer *g, int linear, const float *s);
void golden_multiply_columns(GoldenLayer *g, int linear, const float *s);
void golden_divide_norm(GoldenLayer *g, int norm, const float *s);
/* Every tensor is the recorded one within tol of its largest value. */
void golden_layer_is_after(const GoldenLayer *g, double tol);

#endif
