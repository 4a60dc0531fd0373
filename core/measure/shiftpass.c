#include "measure/shiftpass.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/kernels.h"

/* Values that are worked on together, and partial sums of them. */
enum { PIECE = 64, LANES = 16, DOUBLINGS = 8, TORN = 64 };

/* Of one token and copy, over the vocabulary. */
typedef struct ShiftSums {
    double grown;  /* sum p (e^d - 1) */
    double over;   /* sum p (e^d - 1 - d) */
    double linear; /* sum p d */
    double target; /* d of the next token */
} ShiftSums;

typedef struct ShiftPass {
    const ShiftRows *s;
    const MathKernels *k;
    ShiftSums *sum; /* [tokens][copies] */
    float *scratch; /* [threads][2][LOGITS_COLS] */
    bool linear;    /* the head is: rows hold differences */
    atomic_bool torn;
} ShiftPass;

int shift_copies(int n)
{
    int rows = 2;
    while (rows - 1 < n && rows < LOGITS_ROWS)
        rows *= 2;
    return rows - 1 < n ? 0 : rows - 1;
}

/* e^d - 1 into u and e^d - 1 - d into g, of PIECE values: a series at d / 2^n, at most 1/2 there, then doubled n times,
 * each step without cancellation: e^2x - 1 = u (u + 2), e^2x - 1 - 2x = u^2 + 2 g. */
static void grow(const float *restrict d, float most, float *restrict u, float *restrict g)
{
    int doublings = 0;
    float part = 1;
    for (; most * part > 0.5f && doublings < DOUBLINGS; doublings++)
        part /= 2;
    for (int i = 0; i < PIECE; i++) {
        float x = d[i] * part;
        float t = 1.0f / 24 + x * (1.0f / 120 + x * (1.0f / 720 + x * (1.0f / 5040)));
        g[i] = x * x * (0.5f + x * (1.0f / 6 + x * t));
        u[i] = x + g[i];
    }
    for (int k = 0; k < doublings; k++)
        for (int i = 0; i < PIECE; i++) {
            g[i] = u[i] * u[i] + 2 * g[i];
            u[i] = u[i] * (u[i] + 2);
        }
}

static double lanes_sum(const float *lane)
{
    double sum = 0;
    for (int j = 0; j < LANES; j++)
        sum += (double)lane[j];
    return sum;
}

/* Changes that float32 may not hold the exponential of: a model that is torn apart. */
static void add_torn(const float *p, const float *d, ShiftSums *to)
{
    for (int i = 0; i < PIECE; i++) {
        double e = expm1((double)d[i]);
        to->grown += (double)p[i] * e;
        to->over += (double)p[i] * (e - (double)d[i]);
        to->linear += (double)p[i] * (double)d[i];
    }
}

/* p and d of PIECE entries. */
static void add_piece(const float *restrict p, const float *restrict d, ShiftSums *to)
{
    float u[PIECE], g[PIECE], lane[3][LANES] = {{0}}, most = 0;
    for (int i = 0; i < PIECE; i++)
        most = fabsf(d[i]) > most ? fabsf(d[i]) : most;
    if (most > TORN) {
        add_torn(p, d, to);
        return;
    }
    grow(d, most, u, g);
    for (int i = 0; i < PIECE; i += LANES)
        for (int j = 0; j < LANES; j++) {
            lane[0][j] += p[i + j] * u[i + j];
            lane[1][j] += p[i + j] * g[i + j];
            lane[2][j] += p[i + j] * d[i + j];
        }
    to->grown += lanes_sum(lane[0]);
    to->over += lanes_sum(lane[1]);
    to->linear += lanes_sum(lane[2]);
}

/* The changes of a copy's logits, in pieces, the last filled up with zeros. */
static void add_row(const ShiftPass *s, const float *p, const float *plain, const float *z, int64_t nv, ShiftSums *to)
{
    float d[PIECE], q[PIECE];
    for (int64_t at = 0; at < nv; at += PIECE) {
        int64_t n = nv - at < PIECE ? nv - at : PIECE;
        if (n < PIECE) {
            memset(d, 0, sizeof d);
            memset(q, 0, sizeof q);
        }
        for (int64_t i = 0; i < n; i++)
            d[i] = s->linear ? z[at + i] : z[at + i] - plain[at + i];
        if (n < PIECE)
            memcpy(q, p + at, (size_t)n * sizeof *q);
        add_piece(n < PIECE ? q : p + at, d, to);
    }
}

static void shift_panel(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv, const float *logits,
                        int64_t ld, const float *w)
{
    (void)w;
    ShiftPass *s = ctx;
    int64_t each = 1 + s->s->copies;
    float *p = s->scratch + (size_t)worker * LOGITS_COLS;
    if (row0 % each != 0 || rows % each != 0) {
        atomic_store(&s->torn, true);
        return;
    }
    for (int64_t r = 0; r < rows; r += each) {
        int64_t t = (row0 + r) / each, next = s->s->next[t] - v0;
        const float *plain = logits + r * ld;
        for (int64_t i = 0; i < nv; i++)
            p[i] = (float)((double)plain[i] - s->s->lse[t]);
        s->k->exp(p, nv);
        for (int64_t c = 0; c < each - 1; c++) {
            const float *z = plain + (c + 1) * ld;
            ShiftSums *to = &s->sum[t * s->s->copies + c];
            add_row(s, p, plain, z, nv, to);
            if (next >= 0 && next < nv)
                to->target = (double)(s->linear ? z[next] : z[next] - plain[next]);
        }
    }
}

/* Where the head is linear the changes go through it by themselves, and lose no digits against the logits. */
static void take_differences(ShiftRows *s)
{
    int64_t width = s->rows.width;
    for (int64_t t = 0; t < s->tokens; t++) {
        const float *plain = s->rows.data + t * (1 + s->copies) * width;
        for (int64_t c = 1; c <= s->copies; c++)
            for (int64_t i = 0; i < width; i++)
                s->rows.data[(t * (1 + s->copies) + c) * width + i] -= plain[i];
    }
}

static void finish(const ShiftPass *s, double *kl, double *nll)
{
    for (int64_t i = 0; i < s->s->tokens * s->s->copies; i++) {
        const ShiftSums *x = &s->sum[i];
        double grown = log1p(x->grown);
        kl[i] = fabs(x->grown) > 0.5 ? grown - x->linear : grown - x->grown + x->over;
        kl[i] = isfinite(kl[i]) ? fmax(kl[i], 0) : NAN;
        nll[i] = grown - x->target;
    }
}

uint64_t shift_rows_scratch(int64_t tokens, int copies, int threads)
{
    return (uint64_t)threads * LOGITS_COLS * sizeof(float) + (uint64_t)(tokens * copies) * sizeof(ShiftSums);
}

Status shift_rows_run(Runner *r, ShiftRows *s, double *kl, double *nll, Error *err)
{
    ShiftPass p = {.s = s, .linear = !(runner_model(r)->cfg.final_softcap > 0),
                   .k = arith_table[runner_arith(r)].libm ? math_libm() : math_fast()};
    p.sum = mem_zarray((size_t)(s->tokens * s->copies) + 1, sizeof *p.sum);
    p.scratch = mem_aligned((size_t)pool_threads(runner_pool(r)) * LOGITS_COLS, sizeof *p.scratch);
    Status st = p.sum && p.scratch ? ST_OK : error_nomem(err, "the logits' sums");
    if (st == ST_OK && p.linear)
        take_differences(s);
    if (st == ST_OK)
        st = runner_logits(r, &s->rows, shift_panel, &p, err);
    if (st == ST_OK && atomic_load(&p.torn))
        st = error_set(err, ST_INTERNAL, "a block of logits cuts the rows of a token");
    if (st == ST_OK)
        finish(&p, kl, nll);
    free(p.sum);
    free(p.scratch);
    return st;
}
