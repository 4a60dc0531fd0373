#ifndef SLIM_MEASURE_PAIRED_H
#define SLIM_MEASURE_PAIRED_H

#include "measure/effect.h"

/* Why two measurements do not compare. */
typedef enum PairState {
    PAIR_OK,
    PAIR_ARITH,    /* other arithmetics */
    PAIR_TOKENS,   /* another number of tokens */
    PAIR_SET,      /* as many, of another set */
    PAIR_MODEL,    /* the same tokens, another float model */
    PAIR_NO_BLOCKS /* one was recorded by a program that kept no blocks: there are differences, but no errors */
} PairState;
typedef enum Verdict { VERDICT_SAME, VERDICT_BETTER, VERDICT_WORSE, VERDICT_UNDECIDED } Verdict;

/* What measurement a is different in from measurement b, both over the same tokens, so that what the text does to both
 * cancels; NaN where they don't compare. Errors are of the difference, from its blocks (measure/blocks.h): those of
 * mistakes in a million small roundings, which noise of 1e-5 brings about, are among them (they spread over tokens as
 * texts do). */
typedef struct Paired {
    PairState state;
    double kl, kl_se;      /* nats per token, a - b */
    double ppl, ppl_se;    /* perplexity of a / that of b - 1 */
    double top1, top1_se;  /* agreement 0..1, a - b */
    int64_t tokens;
    bool whole;            /* all of the evaluation set: no more tokens can decide */
} Paired;

enum { PAIR_ERRORS = 2 };  /* a difference below so many of its errors is undecided */

Paired paired_of(const Effect *a, const TokenBlocks *ab, const Effect *b, const TokenBlocks *bb);
/* Of a figure of which less is better. Without an error (NaN) only equal ones are decided. */
Verdict verdict_of(double difference, double error);
const char *verdict_word(Verdict v);
/* In words why they don't compare, "" for PAIR_OK. */
const char *pair_why(PairState s);

#endif
