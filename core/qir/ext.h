#ifndef SLIM_QIR_EXT_H
#define SLIM_QIR_EXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ext of a qconfig's side (specs/quantization.md 1). One row a key, ROW(type, member, its ExtField): the member of
 * QExt, and how a recipe's value is read, checked and told from another. 0 or false: absent, the method's default
 * holds. New keys go to the end. */
#define EXT_POSITIVE .strict = true, .open = true, .lo = 0, .hi = EXT_NO_LIMIT
#define EXT_ROWS(ROW)                                                                                                  \
    /* elements of a row of the weight under one scale, where the scope is per_group */                                \
    ROW(int64_t, group_size, .key = "group_size", .methods = "ssz minmax gptq autoround", .grouped = true,             \
        EXT_POSITIVE)                                                                                                  \
    ROW(bool, mean, .key = "aggregation_type", .methods = "minmax", .of_act = true, .word = "mean", .other = "max")    \
    ROW(int, steps, .key = "step", .methods = "ssz", .lo = -INFINITY, .hi = INFINITY)                                  \
    ROW(double, percdamp, .key = "percdamp", .methods = "gptq", EXT_POSITIVE) /* of the Hessian's mean diagonal */     \
    ROW(int64_t, block_size, .key = "block_size", .methods = "gptq", EXT_POSITIVE) /* input columns */                 \
    ROW(bool, act_order, .key = "actorder", .methods = "gptq", .ours = true) /* columns by falling diagonal */         \
    ROW(bool, search, .key = "enable_search", .methods = "ceil_x")                                                     \
    ROW(double, ceil_x, .key = "ceil_x_value", .methods = "ceil_x", .lo = 6, .hi = 12)                                 \
    ROW(double, search_min, .key = "search_min", .methods = "ceil_x", .lo = 6, .hi = 12)                               \
    ROW(double, search_max, .key = "search_max", .methods = "ceil_x", .lo = 6, .hi = 12)                               \
    ROW(double, search_step, .key = "search_step", .methods = "ceil_x", .open = true, .lo = 0, .hi = EXT_NO_LIMIT)     \
    ROW(int64_t, dual_block, .key = "dual_block_size", .methods = "dualscale", .needed = true, .lo = 1,                \
        .hi = EXT_NO_LIMIT)                                                                                            \
    ROW(double, fraction, .key = "fraction", .methods = "w8a8s", .open = true, .lo = 0, .hi = 1) /* of outliers */     \
    ROW(double, sparse_ratio, .key = "sparse_ratio", .methods = "admm magnitude", .lo = 0, .hi = 1) /* of values pruned */ \
    ROW(int, scale_dtype, .key = "scale_dtype", .methods = "autoround", .one_of = "bfloat16 float16 float32")

typedef struct QExt {
#define EXT_MEMBER(type, member, ...) type member;
    EXT_ROWS(EXT_MEMBER)
#undef EXT_MEMBER
} QExt;

#define EXT_ONE(type, member, ...) +1
enum { EXT_COUNT = EXT_ROWS(EXT_ONE) };
#undef EXT_ONE

#define EXT_NO_LIMIT 1e15

typedef enum ExtType { EXT_BOOL, EXT_INT, EXT_LONG, EXT_REAL } ExtType; /* bool, int, int64_t, double */

/* What is known of a key. Numbers are in lo … hi; open: without these two. */
typedef struct ExtField {
    const char *key;
    const char *methods;      /* that read it, separated by blanks */
    size_t at;                /* into QExt */
    ExtType type;
    double lo, hi;
    bool open;
    bool strict;              /* texts and true/false aren't converted into numbers */
    const char *word, *other; /* a bool that is a text in recipes: of true and of false */
    const char *one_of;       /* an int that is a text in recipes: of 0 (the default), 1, ..., separated by blanks */
    bool of_act;              /* weights ignore it */
    bool grouped;             /* counts where the scope is per_group */
    bool needed;              /* the methods have no default for it */
    bool ours;                /* the peer doesn't know it */
} ExtField;

extern const ExtField ext_fields[]; /* as EXT_ROWS; ends with key == NULL */

/* Which of the words (separated by blanks) this is, from 0; -1: none of them. */
int ext_word(const char *words, const char *word);
/* Whether the method (a name as in YAML) reads the key. */
bool ext_reads(const ExtField *f, const char *method);
/* Sets the member to a number: cut to a whole one where the member is; what an int can't hold is absent. */
void ext_put(QExt *e, const ExtField *f, double x);
/* Every value that can change a number, as words to hash or to compare: gives how many. What a key of later versions
 * stands for adds none while it is absent, so that recorded digests hold. */
enum { EXT_WORDS_MAX = 2 * EXT_COUNT };
int ext_words(const QExt *e, uint64_t word[EXT_WORDS_MAX]);

#endif
