#ifndef SLIM_RUN_ROTARY_H
#define SLIM_RUN_ROTARY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "run/ops.h"

/* cos and sin of one frequency set for positions 0..rows-1, [rows][half], as they enter the rotation (specs/models.md
 * 2.3). */
typedef struct RopeTable {
    int64_t key, rows, half;
    const RopeParams *of;
    float *cos, *sin;
} RopeTable;

/* Tables already made; grows. Zero-initialise. */
typedef struct RopeSet {
    RopeTable *t;
    size_t n, cap;
} RopeSet;

/* Makes sure there is a table that covers a sample of `len` tokens; job thread. */
Status rope_reserve(RopeSet *set, const ModelConfig *cfg, const RopeParams *p, const Ops *ops, int64_t len, Error *err);
/* Whether texts of these lengths turn by the same table: what was turned before the text grew stays as it is. */
bool rope_same(const ModelConfig *cfg, const RopeParams *p, int64_t a, int64_t b);
/* The table for a sample of `len` tokens, reserved before. */
const RopeTable *rope_table(const RopeSet *set, const ModelConfig *cfg, const RopeParams *p, int64_t len);
void rope_fini(RopeSet *set);

#endif
