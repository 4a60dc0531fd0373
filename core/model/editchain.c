#include "model/editchain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "model/lowrank.h"

void edit_round(const MathKernels *k, DType t, float *v, int64_t n)
{
    if (t == DT_BF16)
        k->round_bf16(v, n);
    else if (t == DT_F16)
        k->round_f16(v, n);
}

/* ---- making one ---- */

/* The steps are this file's, readers see them as const. */
static ChainStep *steps_of(const EditChain *c)
{
    return (ChainStep *)(uintptr_t)c->step;
}

static void note(EditChain *c, ChainKind kind, DType round, const float *v, const Rotation *r, int64_t n)
{
    Hasher h;
    hasher_init(&h);
    hasher_bytes(&h, c->digest.b, sizeof c->digest.b);
    hasher_u64(&h, (uint64_t)kind);
    hasher_u64(&h, (uint64_t)round);
    hasher_u64(&h, (uint64_t)n);
    if (v)
        hasher_bytes(&h, v, (size_t)n * sizeof *v);
    if (r)
        rotation_digest(r, &h);
    c->digest = hasher_end(&h);
}

static bool only_multiplies(const ChainStep *s)
{
    return s->round == DT_F32 && (s->kind == CHAIN_COLS || s->kind == CHAIN_ROWS);
}

/* The step of this kind that one more can be multiplied into: factors of rows and columns don't mind their order. */
static ChainStep *mergeable(const EditChain *c, ChainKind kind, DType round)
{
    ChainStep *s = steps_of(c);
    if (round != DT_F32 || (kind != CHAIN_COLS && kind != CHAIN_ROWS))
        return NULL;
    for (int i = c->n; i-- > 0 && only_multiplies(&s[i]);)
        if (s[i].kind == kind)
            return &s[i];
    return NULL;
}

static Status append(EditChain *c, const ChainStep *s, Error *err)
{
    ChainStep *steps = steps_of(c);
    bool grown = mem_grow(&steps, &c->cap, (size_t)c->n + 1, sizeof *steps);
    c->step = steps;
    if (!grown)
        return error_nomem(err, "the changes of the model");
    steps[c->n++] = *s;
    if (s->rot)
        c->scratch = max_u64(c->scratch, rotation_bytes(s->rot) / sizeof(float) + 1);
    if (s->low)
        c->scratch = max_u64(c->scratch, lowrank_scratch(s->low->in, s->low->rank));
    c->whole = c->whole || s->kind == CHAIN_LEFT;
    return ST_OK;
}

Status editchain_scale(EditChain *c, ChainKind kind, const float *v, int64_t n, DType round, Error *err)
{
    ChainStep *have = mergeable(c, kind, round);
    if (have) {
        float *to = (float *)(uintptr_t)have->v;
        for (int64_t i = 0; i < n; i++)
            to[i] *= v[i];
    } else {
        float *copy = mem_array((size_t)n, sizeof *copy);
        if (!copy)
            return error_nomem(err, "the changes of the model");
        memcpy(copy, v, (size_t)n * sizeof *v);
        Status st = append(c, &(ChainStep){.kind = kind, .round = round, .v = copy, .n = n}, err);
        if (st != ST_OK) {
            free(copy);
            return st;
        }
    }
    note(c, kind, round, v, NULL, n);
    return ST_OK;
}

Status editchain_rotate(EditChain *c, ChainKind kind, const Rotation *r, int64_t n, DType round, const char *of, Error *err)
{
    int64_t size = rotation_size(r);
    if (n % size)
        return error_set(err, ST_DATA, "'%s': a rotation of size %lld doesn't fit %lld %s", of, (long long)size,
                         (long long)n, kind == CHAIN_LEFT ? "outputs" : "inputs");
    ChainStep s = {.kind = kind, .round = round, .rot = rotation_share(r), .n = n};
    Status st = append(c, &s, err);
    if (st != ST_OK) {
        rotation_free((Rotation *)(uintptr_t)s.rot);
        return st;
    }
    note(c, kind, round, NULL, r, n);
    return ST_OK;
}

Status editchain_take(EditChain *c, const LowRank *l, DType round, Error *err)
{
    ChainStep s = {.kind = CHAIN_TAKE, .round = round, .low = lowrank_share(l), .n = l->in};
    Status st = append(c, &s, err);
    if (st != ST_OK) {
        lowrank_free((LowRank *)(uintptr_t)s.low);
        return st;
    }
    note(c, CHAIN_TAKE, round, NULL, NULL, l->in);
    Hasher h;
    hasher_init(&h);
    hasher_bytes(&h, c->digest.b, sizeof c->digest.b);
    hasher_bytes(&h, l->digest.b, sizeof l->digest.b);
    c->digest = hasher_end(&h);
    return ST_OK;
}

Status editchain_copy(EditChain *out, const EditChain *c, Error *err)
{
    *out = (EditChain){.n = 0};
    Status st = ST_OK;
    for (int i = 0; i < c->n && st == ST_OK; i++) {
        const ChainStep *s = &c->step[i];
        st = s->rot   ? editchain_rotate(out, s->kind, s->rot, s->n, s->round, "", err)
             : s->low ? editchain_take(out, s->low, s->round, err)
                      : editchain_scale(out, s->kind, s->v, s->n, s->round, err);
    }
    if (st != ST_OK)
        editchain_fini(out);
    else
        out->digest = c->digest;
    return st;
}

void editchain_fini(EditChain *c)
{
    for (int i = 0; i < c->n; i++) {
        free((float *)(uintptr_t)c->step[i].v);
        rotation_free((Rotation *)(uintptr_t)c->step[i].rot);
        lowrank_free((LowRank *)(uintptr_t)c->step[i].low);
    }
    free(steps_of(c));
    *c = (EditChain){.n = 0};
}

/* ---- doing it ---- */

/* NaN stays, and makes no bound. */
static void clamp_row(const float *least, const float *most, int64_t width, float *w)
{
    float lo = w[0], hi = w[0];
    for (int64_t i = 1; i < width; i++) {
        lo = w[i] < lo ? w[i] : lo;
        hi = w[i] > hi ? w[i] : hi;
    }
    lo *= *least;
    hi *= *most;
    for (int64_t i = 0; i < width; i++)
        w[i] = w[i] < lo ? lo : w[i] > hi ? hi : w[i];
}

static void limit_row(float ratio, int64_t width, float *w)
{
    float most = 0;
    for (int64_t i = 0; i < width; i++)
        most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
    most *= ratio;
    for (int64_t i = 0; i < width; i++)
        w[i] = w[i] < -most ? -most : w[i] > most ? most : w[i];
}

/* One that looks at a row alone, on row o of the matrix. */
static void step_row(const ChainStep *s, const MathKernels *k, int64_t o, int64_t width, float *w)
{
    switch (s->kind) {
    case CHAIN_COLS:
        k->mul(w, s->v, w, width);
        break;
    case CHAIN_ROWS:
        k->scale(w, s->v[o], w, width);
        break;
    case CHAIN_UNIT:
        for (int64_t i = 0; i < width; i++)
            w[i] = (1 + w[i]) * s->v[i] - 1;
        break;
    case CHAIN_ADD:
        k->add(w, s->v, w, width);
        break;
    case CHAIN_CLAMP:
        clamp_row(&s->v[o], &s->v[s->n / 2 + o], width, w);
        break;
    case CHAIN_LIMIT:
        limit_row(s->v[0], width, w);
        break;
    case CHAIN_TAKE:
    case CHAIN_RIGHT:
    case CHAIN_LEFT:
        break;
    }
    edit_round(k, s->round, w, width);
}

static bool by_blocks(const ChainStep *s)
{
    return s->kind == CHAIN_RIGHT || s->kind == CHAIN_TAKE;
}

void editchain_rows(const EditChain *c, int from, int to, const MathKernels *k, int64_t r0, int64_t rows, int64_t width,
                    float *w, float *scratch)
{
    for (int i = from, end; i < to; i = end) {
        const ChainStep *s = &c->step[i];
        end = i + 1;
        if (s->kind == CHAIN_RIGHT) {
            rotation_right(s->rot, w, rows, width, width, scratch);
            edit_round(k, s->round, w, rows * width);
            continue;
        }
        if (s->kind == CHAIN_TAKE) {
            lowrank_take(s->low, k, s->round, r0, rows, w, scratch);
            continue;
        }
        while (end < to && !by_blocks(&c->step[end]))
            end++;
        for (int64_t o = 0; o < rows; o++) /* a row through all of them while it is in the caches */
            for (int j = i; j < end; j++)
                step_row(&c->step[j], k, r0 + o, width, w + o * width);
    }
}

void editchain_left(const EditChain *c, int i, const MathKernels *k, int64_t rows, int64_t width, int64_t c0, int64_t cols,
                    float *w, float *scratch)
{
    const ChainStep *s = &c->step[i];
    rotation_left(s->rot, w + c0, rows, cols, width, scratch);
    for (int64_t o = 0; o < rows && s->round != DT_F32; o++)
        edit_round(k, s->round, w + o * width + c0, cols);
}

int editchain_next_left(const EditChain *c, int i)
{
    while (i < c->n && c->step[i].kind != CHAIN_LEFT)
        i++;
    return i;
}

void editchain_all(const EditChain *c, const MathKernels *k, int64_t rows, int64_t width, float *w, float *scratch)
{
    for (int i = 0, left; i < c->n; i = left + 1) {
        left = editchain_next_left(c, i);
        editchain_rows(c, i, left, k, 0, rows, width, w, scratch);
        if (left < c->n)
            editchain_left(c, left, k, rows, width, 0, width, w, scratch);
    }
}
