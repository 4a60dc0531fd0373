#ifndef TESTS_RANDOM_MODEL_H
#define TESTS_RANDOM_MODEL_H

#include <stdint.h>

#include "model/model.h"
#include "text/calib.h"

/* A small random checkpoint in a folder of its own, for tests that need other shapes than the recorded models. */
typedef struct RandomShape {
    const char *model_type; /* llama, qwen2, qwen3 */
    int layers, heads, kv_heads, head_dim;
    int64_t hidden, inter, vocab, window; /* window 0: none (qwen2 only) */
    DType dtype;
    uint32_t seed;
} RandomShape;

/* Writes config.json and model.safetensors into a new folder below /tmp, whose name goes into dir[64]. A failure
 * fails the test. */
void random_model_write(const RandomShape *s, char dir[64]);
void random_model_remove(const char *dir);
/* `samples` random texts of these lengths; freed with random_tokens_free. */
void random_tokens(TokenSet *t, int samples, const int64_t *len, int64_t vocab, uint32_t seed);
void random_tokens_free(TokenSet *t);

/* The obvious decoder in float64, one text: h[layers + 1][tokens][hidden] and logits[tokens][vocab] (either may be
 * NULL). Supports the Llama family with default RoPE. */
void plain_decoder(const Model *m, const int32_t *ids, int64_t tokens, double *h, double *logits);

#endif
