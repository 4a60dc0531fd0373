#include "model/lowrank.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/gemm.h"

enum { ROWS = 64 };

Status lowrank_new(LowRank **out, int64_t outputs, int64_t inputs, int64_t rank, float *l1, float *l2, DType stored, Error *err)
{
    LowRank *l = mem_zarray(1, sizeof *l);
    atomic_int *owners = mem_zarray(1, sizeof *owners);
    *out = NULL;
    if (!l || !owners) {
        free(l);
        free(owners);
        free(l1);
        free(l2);
        return error_nomem(err, "a low-rank branch");
    }
    edit_round(math_fast(), stored, l1, rank * inputs);
    edit_round(math_fast(), stored, l2, outputs * rank);
    atomic_init(owners, 1);
    *l = (LowRank){.out = outputs, .in = inputs, .rank = rank, .l1 = l1, .l2 = l2, .stored = stored, .owners = owners};
    Hasher h;
    hasher_init(&h);
    hasher_u64(&h, (uint64_t)rank);
    hasher_bytes(&h, l1, (size_t)(rank * inputs) * sizeof *l1);
    hasher_bytes(&h, l2, (size_t)(outputs * rank) * sizeof *l2);
    l->digest = hasher_end(&h);
    *out = l;
    return ST_OK;
}

LowRank *lowrank_share(const LowRank *l)
{
    LowRank *mine = (LowRank *)(uintptr_t)l; /* the count is all that ever changes */
    if (mine)
        atomic_fetch_add((atomic_int *)mine->owners, 1);
    return mine;
}

void lowrank_free(LowRank *l)
{
    if (!l || atomic_fetch_sub((atomic_int *)l->owners, 1) > 1)
        return;
    free((float *)(uintptr_t)l->l1);
    free((float *)(uintptr_t)l->l2);
    free(l->owners);
    free(l);
}

/* ---- edits ---- */

/* l2 <- R' l2, a column as a row. */
static Status turn_outputs(const LowRank *l, const Rotation *r, float *l2, Error *err)
{
    float *column = mem_array((size_t)l->out, sizeof *column), *scratch = mem_aligned((size_t)rotation_bytes(r), 1);
    Status st = column && scratch ? ST_OK : error_nomem(err, "a low-rank branch");
    for (int64_t k = 0; k < l->rank && st == ST_OK; k++) {
        for (int64_t o = 0; o < l->out; o++)
            column[o] = l2[o * l->rank + k];
        rotation_right(r, column, 1, l->out, l->out, scratch);
        for (int64_t o = 0; o < l->out; o++)
            l2[o * l->rank + k] = column[o];
    }
    free(column);
    free(scratch);
    return st;
}

static Status turn_inputs(const LowRank *l, const Rotation *r, float *l1, Error *err)
{
    float *scratch = mem_aligned((size_t)rotation_bytes(r), 1);
    if (!scratch)
        return error_nomem(err, "a low-rank branch");
    rotation_right(r, l1, l->rank, l->in, l->in, scratch);
    free(scratch);
    return ST_OK;
}

static Status edit(const LowRank *l, ChainKind kind, const float *v, const Rotation *r, float *l1, float *l2, Error *err)
{
    for (int64_t k = 0; kind == CHAIN_COLS && k < l->rank; k++)
        math_fast()->mul(l1 + k * l->in, v, l1 + k * l->in, l->in);
    for (int64_t o = 0; kind == CHAIN_ROWS && o < l->out; o++)
        math_fast()->scale(l2 + o * l->rank, v[o], l2 + o * l->rank, l->rank);
    if (kind == CHAIN_RIGHT)
        return turn_inputs(l, r, l1, err);
    return kind == CHAIN_LEFT ? turn_outputs(l, r, l2, err) : ST_OK;
}

Status lowrank_edit(LowRank **l, ChainKind kind, const float *v, const Rotation *r, Error *err)
{
    LowRank *was = *l, *now;
    if (!was)
        return ST_OK;
    size_t n1 = (size_t)(was->rank * was->in), n2 = (size_t)(was->out * was->rank);
    float *l1 = mem_array(n1, sizeof *l1), *l2 = mem_array(n2, sizeof *l2);
    Status st = l1 && l2 ? ST_OK : error_nomem(err, "a low-rank branch");
    if (st == ST_OK) {
        memcpy(l1, was->l1, n1 * sizeof *l1);
        memcpy(l2, was->l2, n2 * sizeof *l2);
        st = edit(was, kind, v, r, l1, l2, err);
    }
    if (st != ST_OK) {
        free(l1);
        free(l2);
        return st;
    }
    RETURN_IF_ERROR(lowrank_new(&now, was->out, was->in, was->rank, l1, l2, was->stored, err));
    lowrank_free(was);
    *l = now;
    return ST_OK;
}

/* ---- taking it out ---- */

static size_t product_floats(int64_t in, int64_t rank)
{
    return gemm_find(GEMM_F32)->scratch(ROWS, in, rank) / sizeof(float);
}

size_t lowrank_scratch(int64_t in, int64_t rank)
{
    return (size_t)round_up((int64_t)product_floats(in, rank), 16) + (size_t)(ROWS * in);
}

void lowrank_take(const LowRank *l, const MathKernels *k, DType round, int64_t r0, int64_t rows, float *w, float *scratch)
{
    const GemmOps *gemm = gemm_find(GEMM_F32);
    float *tile = scratch + round_up((int64_t)product_floats(l->in, l->rank), 16);
    for (int64_t r = 0; r < rows; r += ROWS, w += ROWS * l->in) {
        GemmArgs g = {.m = min_i64(ROWS, rows - r), .n = l->in, .k = l->rank, .x = l->l2 + (r0 + r) * l->rank, .ldx = l->rank,
                      .w = l->l1, .ldw = l->in, .w_by_k = true, .y = w, .ldy = l->in, .alpha = -1, .beta = 1};
        if (round != DT_F32) {
            g.y = tile;
            g.beta = 0;
        }
        gemm->tile(&g, scratch);
        if (round == DT_F32)
            continue;
        edit_round(k, round, tile, g.m * l->in);
        k->add(w, tile, w, g.m * l->in);
        edit_round(k, round, w, g.m * l->in);
    }
}
