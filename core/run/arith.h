#ifndef SLIM_RUN_ARITH_H
#define SLIM_RUN_ARITH_H

#include <stdbool.h>

#include "base/dtype.h"
#include "base/str.h"
#include "math/gemm.h"

/* The arithmetics in which a model can be run, one row each: the name that options, settings and results give it, a
 * number that never changes (sessions' records know results by it), what users are told of it, and what it means (the
 * fields of Arith that are not zero). The first is the default. */
#define ARITHS(FIRST, NEXT)                                                                                            \
    FIRST(FP32, "fp32", 0, "float32 throughout", .products = GEMM_F32)                                                 \
    NEXT(FAST, "fast", 2, "float32, but products of matrices take bf16 inputs", .products = GEMM_BF16)                 \
    NEXT(MODEL, "model", 3,                                                                                            \
         "each operation rounded to the checkpoint's dtype as Hugging Face does, sums in float32",                     \
         .products = GEMM_BF16, .rounds = true)                                                                        \
    NEXT(EXACT, "exact", 1,                                                                                            \
         "each operation rounded to the checkpoint's dtype as Hugging Face does, its sums in float64",                 \
         .products = GEMM_EXACT, .rounds = true, .libm = true)

#define ARITH_ID(id, ...) ARITH_##id,
typedef enum ArithMode { ARITHS(ARITH_ID, ARITH_ID) ARITH_MODES } ArithMode;
#undef ARITH_ID

typedef struct Arith {
    const char *name, *help;
    unsigned code;
    GemmKind products;  /* how matrices are multiplied */
    bool rounds;        /* every operation ends with rounding to the model's dtype: all values, streams too, are of it */
    bool libm;          /* exp and the like are libm's: the same bytes on every processor, whatever the vectors */
} Arith;
extern const Arith arith_table[ARITH_MODES];

/* "fp32|exact": choices of an option. */
#define ARITH_FIRST_WORD(id, name, ...) name
#define ARITH_NEXT_WORD(id, name, ...) "|" name
#define ARITH_WORDS ARITHS(ARITH_FIRST_WORD, ARITH_NEXT_WORD)
/* "fp32 (default): float32 throughout; exact: ...": what an option's help says of them. */
#define ARITH_FIRST_HELP(id, name, code, help, ...) name " (default): " help
#define ARITH_NEXT_HELP(id, name, code, help, ...) "; " name ": " help
#define ARITH_HELP ARITHS(ARITH_FIRST_HELP, ARITH_NEXT_HELP)

const char *arith_name(ArithMode m);
/* The names of a set of bits 1 << ArithMode, as "fp32 and exact". */
void arith_names(unsigned set, Str *out);
/* The row of this name into *out; false: there is none. */
bool arith_find(const char *name, ArithMode *out);
/* How a run of a model of this dtype multiplies: bf16 would lose what a model of another dtype holds where its operations
 * round to that. */
GemmKind arith_products(ArithMode m, DType model);
/* The dtype to which a run of a model of this dtype rounds; F32: not at all. */
DType arith_dtype(ArithMode m, DType model);

#endif
