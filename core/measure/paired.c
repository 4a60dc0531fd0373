#include "measure/paired.h"

#include <math.h>
#include <string.h>

static const char *const words[] = {
    [VERDICT_SAME] = "the same", [VERDICT_BETTER] = "better", [VERDICT_WORSE] = "worse", [VERDICT_UNDECIDED] = "undecided"};

static const char *const reasons[] = {
    [PAIR_OK] = "",
    [PAIR_ARITH] = "measured in other arithmetics",
    [PAIR_TOKENS] = "measured over another number of tokens",
    [PAIR_SET] = "measured on other texts",
    [PAIR_MODEL] = "measured of another model",
    [PAIR_NO_BLOCKS] = "the error is unknown: recorded by an older slimscope",
};

const char *verdict_word(Verdict v)
{
    return words[v];
}

const char *pair_why(PairState s)
{
    return reasons[s];
}

Verdict verdict_of(double difference, double error)
{
    if (difference == 0)
        return VERDICT_SAME;
    if (!(fabs(difference) >= PAIR_ERRORS * error))
        return VERDICT_UNDECIDED;
    return difference < 0 ? VERDICT_BETTER : VERDICT_WORSE;
}

/* The float model's own losses tell it from another one, and its tokens from those of another set. */
static PairState blocks_pair(const TokenBlocks *a, const TokenBlocks *b)
{
    if (!a || !b)
        return PAIR_NO_BLOCKS;
    if (strcmp(a->set, b->set) != 0 || a->n != b->n)
        return PAIR_SET;
    for (int64_t i = 0; i < a->n; i++)
        if (a->b[i].nll_float != b->b[i].nll_float || a->b[i].tokens != b->b[i].tokens)
            return PAIR_MODEL;
    return PAIR_OK;
}

static PairState pair_state(const Effect *a, const TokenBlocks *ab, const Effect *b, const TokenBlocks *bb)
{
    if (a->arith != b->arith)
        return PAIR_ARITH;
    if (a->tokens != b->tokens || a->predicted != b->predicted)
        return PAIR_TOKENS;
    if (a->ppl_float != b->ppl_float)
        return ab && bb && strcmp(ab->set, bb->set) == 0 ? PAIR_MODEL : PAIR_SET;
    return blocks_pair(ab, bb);
}

Paired paired_of(const Effect *a, const TokenBlocks *ab, const Effect *b, const TokenBlocks *bb)
{
    Paired p = {.state = pair_state(a, ab, b, bb), .kl = NAN, .kl_se = NAN, .ppl = NAN, .ppl_se = NAN, .top1 = NAN,
                .top1_se = NAN, .tokens = a->tokens, .whole = a->whole && b->whole};
    if (p.state != PAIR_OK && p.state != PAIR_NO_BLOCKS)
        return p;
    p.kl = a->kl_mean - b->kl_mean;
    p.ppl = a->ppl_quant / b->ppl_quant - 1;
    p.top1 = a->top1 - b->top1;
    if (p.state == PAIR_NO_BLOCKS)
        return p;
    p.kl_se = blocks_paired_error(ab, bb, block_kl);
    p.ppl_se = (1 + p.ppl) * blocks_paired_error(ab, bb, block_nll_more);
    p.top1_se = blocks_paired_error(ab, bb, block_agree);
    return p;
}
