#include "measure/blocks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Predicted tokens of a window: all but its last. */
static int64_t predicted_of(const TokenSet *t, int window)
{
    int64_t n = t->start[window + 1] - t->start[window];
    return n > 0 ? n - 1 : 0;
}

static int64_t count_blocks(const TokenSet *t, int64_t len)
{
    int64_t n = 0;
    for (int w = 0; w < t->samples; w++)
        n += (predicted_of(t, w) + len - 1) / len;
    return n;
}

Status blocks_new(const TokenSet *t, TokenBlocks **out, int32_t **block_of, Error *err)
{
    int64_t len = BLOCK_TOKENS, at = 0, block = -1;
    while (count_blocks(t, len) > BLOCKS_MAX && len < UINT16_MAX / 2)
        len *= 2;
    int64_t n = count_blocks(t, len);
    *out = mem_zarray(1, sizeof **out + (size_t)n * sizeof(TokenBlock));
    *block_of = mem_array((size_t)t->start[t->samples], sizeof **block_of);
    if (!*out || !*block_of) {
        free(*out);
        free(*block_of);
        *out = NULL;
        *block_of = NULL;
        return error_nomem(err, "the blocks of the evaluation tokens");
    }
    (*out)->n = n;
    memcpy((*out)->set, t->sha256, sizeof (*out)->set);
    for (int w = 0; w < t->samples; w++)
        for (int64_t i = 0; i < predicted_of(t, w); i++) {
            block += i % len == 0;
            (*block_of)[at++] = (int32_t)block;
            (*out)->b[block].tokens++;
        }
    return ST_OK;
}

TokenBlocks *blocks_copy(const TokenBlocks *b)
{
    size_t bytes = sizeof *b + (size_t)b->n * sizeof *b->b;
    TokenBlocks *copy = mem_array(1, bytes);
    if (copy)
        memcpy(copy, b, bytes);
    return copy;
}

double block_kl(const TokenBlock *b)
{
    return (double)b->kl;
}

double block_agree(const TokenBlock *b)
{
    return b->agree;
}

double block_nll_float(const TokenBlock *b)
{
    return (double)b->nll_float;
}

double block_nll_more(const TokenBlock *b)
{
    return (double)b->nll_more;
}

double block_nll_quant(const TokenBlock *b)
{
    return (double)b->nll_float + (double)b->nll_more;
}

static double value_at(const TokenBlocks *a, const TokenBlocks *b, int64_t i, BlockValue value)
{
    return b ? value(&a->b[i]) - value(&b->b[i]) : value(&a->b[i]);
}

/* From the squares of the sums' distances from what their tokens make one expect. */
static double error_of(double square, double tokens, int64_t n)
{
    return sqrt(square * (double)n / (double)(n - 1)) / tokens;
}

/* b NULL: of a alone. */
static double ratio_error(const TokenBlocks *a, const TokenBlocks *b, BlockValue value)
{
    double sum = 0, tokens = 0, square = 0;
    if (a->n < 2)
        return NAN;
    for (int64_t i = 0; i < a->n; i++) {
        sum += value_at(a, b, i, value);
        tokens += a->b[i].tokens;
    }
    for (int64_t i = 0; i < a->n; i++) {
        double off = value_at(a, b, i, value) - sum / tokens * a->b[i].tokens;
        square += off * off;
    }
    return error_of(square, tokens, a->n);
}

double block_sums_error(const double *sum, const double *tokens, int64_t n)
{
    double all = 0, count = 0, square = 0;
    if (n < 2)
        return NAN;
    for (int64_t i = 0; i < n; i++) {
        all += sum[i];
        count += tokens[i];
    }
    for (int64_t i = 0; i < n; i++) {
        double off = sum[i] - all / count * tokens[i];
        square += off * off;
    }
    return error_of(square, count, n);
}

double blocks_error(const TokenBlocks *b, BlockValue value)
{
    return ratio_error(b, NULL, value);
}

double blocks_paired_error(const TokenBlocks *a, const TokenBlocks *b, BlockValue value)
{
    return ratio_error(a, b, value);
}
