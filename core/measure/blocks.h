#ifndef SLIM_MEASURE_BLOCKS_H
#define SLIM_MEASURE_BLOCKS_H

#include <stdint.h>

#include "base/error.h"
#include "text/calib.h"

/* A measurement in blocks of tokens that follow each other: what the errors of its means are made from, and those of
 * its differences to other measurements. Tokens beside each other are not independent, blocks of 16 nearly are; whole
 * texts would be safer still, but of those 1,024 tokens have two, and a spread of two values says nothing. */
typedef struct TokenBlock {
    float kl;              /* sums over the block's predicted tokens, nats */
    float nll_float;       /* of the token that follows, by the float model */
    float nll_more;        /* quantized minus float */
    uint16_t tokens, agree; /* predicted tokens; those with the same top token in both models */
} TokenBlock;

enum { BLOCK_TOKENS = 16, BLOCKS_MAX = 8192 };

typedef struct TokenBlocks {
    char set[65];          /* TokenSet.sha256 of the evaluation tokens */
    int64_t n;
    TokenBlock b[];
} TokenBlocks;

/* Room for the blocks of a set's predicted tokens, all zero but for their `tokens`. A window begins a new block. Blocks
 * are of BLOCK_TOKENS tokens, of twice as many and so on where there were more than BLOCKS_MAX; the last of a window is
 * what is left. block_of[predicted]: which block each predicted token belongs to, in order. free() frees both. */
Status blocks_new(const TokenSet *t, TokenBlocks **out, int32_t **block_of, Error *err);
/* NULL without memory. */
TokenBlocks *blocks_copy(const TokenBlocks *b);

/* What of a block is summed. */
typedef double (*BlockValue)(const TokenBlock *b);
/* Standard error of sum(values) / sum(tokens): of a ratio of means over blocks, by linearization (Cochran, Sampling
 * Techniques, 6.8). In closed form, because drawing blocks with replacement gives the same number and the drawing's own
 * noise. NaN with fewer than two blocks. */
double blocks_error(const TokenBlocks *b, BlockValue value);
double block_kl(const TokenBlock *b);
double block_agree(const TokenBlock *b);
double block_nll_float(const TokenBlock *b);
double block_nll_more(const TokenBlock *b);
double block_nll_quant(const TokenBlock *b);

/* The same of n blocks' sums and numbers of tokens, where a measurement's are not at hand. */
double block_sums_error(const double *sum, const double *tokens, int64_t n);

/* The same of values that two measurements over the same tokens differ by: value(a[i]) - value(b[i]). */
double blocks_paired_error(const TokenBlocks *a, const TokenBlocks *b, BlockValue value);

#endif
