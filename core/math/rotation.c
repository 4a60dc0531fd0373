#include "math/rotation.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/gemm.h"
#include "math/hadamard.h"

enum {
    SEED = 1234,
    SHIFT = 16,       /* of the shifted blocks */
    SHIFTED_BLOCK = 32,
    PANEL = 48,       /* columns that rotation_left turns round at once */
    DENSE_ROWS = 96   /* rows of one product with a dense matrix */
};

typedef enum RotationKind {
    ROTATION_HADAMARD,
    ROTATION_DENSE,
    ROTATION_KRON,   /* part[0] x part[1] */
    ROTATION_BLOCKS, /* part[i], NULL: identity, of size[i] */
    ROTATION_TURNED  /* part[0] transposed */
} RotationKind;

struct Rotation {
    atomic_int owners;
    RotationKind kind;
    int64_t n;
    /* Hadamard */
    int k;
    int64_t m;
    signed char *base; /* [k][k] */
    float *sign;       /* [n] */
    float scale;
    float *dense;      /* [n][n] */
    Rotation **part;   /* [nparts] */
    int64_t *size;
    int nparts;
};

/* ---- making ---- */

static Status rotation_new(Rotation **out, RotationKind kind, int64_t n, int nparts, Error *err)
{
    Rotation *r = *out = mem_zarray(1, sizeof *r);
    if (!r)
        return error_nomem(err, "a rotation");
    atomic_init(&r->owners, 1);
    r->kind = kind;
    r->n = n;
    r->nparts = nparts;
    r->part = mem_zarray((size_t)nparts, sizeof *r->part);
    r->size = mem_zarray((size_t)nparts, sizeof *r->size);
    if (r->part && r->size)
        return ST_OK;
    rotation_free(r);
    *out = NULL;
    return error_nomem(err, "a rotation");
}

Rotation *rotation_share(const Rotation *r)
{
    Rotation *mine = (Rotation *)(uintptr_t)r; /* the count is all that ever changes */
    if (mine)
        atomic_fetch_add(&mine->owners, 1);
    return mine;
}

void rotation_free(Rotation *r)
{
    if (!r || atomic_fetch_sub(&r->owners, 1) > 1)
        return;
    for (int i = 0; r->part && i < r->nparts; i++)
        rotation_free(r->part[i]);
    free(r->part);
    free(r->size);
    free(r->base);
    free(r->sign);
    free(r->dense);
    free(r);
}

static Status hadamard_new(Rotation **out, int64_t n, Error *err)
{
    int k;
    int64_t m;
    RETURN_IF_ERROR(hadamard_check(n, NULL, err));
    hadamard_parts(n, &k, &m);
    RETURN_IF_ERROR(rotation_new(out, ROTATION_HADAMARD, n, 0, err));
    Rotation *r = *out;
    r->k = k;
    r->m = m;
    r->scale = 1.0f / sqrtf((float)n);
    r->base = mem_array((size_t)k * (size_t)k, 1);
    r->sign = mem_array((size_t)n, sizeof *r->sign);
    Status st = r->base && r->sign ? hadamard_base(k, r->base, err) : error_nomem(err, "a rotation");
    if (st == ST_OK) {
        hadamard_signs(SEED, n, r->sign);
        return ST_OK;
    }
    rotation_free(r);
    *out = NULL;
    return st;
}

/* What divides a size into blocks. */
static Status check_block(int64_t size, int64_t block, Error *err)
{
    if (size > 0 && block > 0 && size % block == 0 && size / block <= INT32_MAX)
        return ST_OK;
    return error_set(err, ST_DATA, "blocks of %lld don't divide size %lld", (long long)block,
                     (long long)size);
}

static Status copies(Rotation **out, int64_t size, int64_t block, Error *err)
{
    RETURN_IF_ERROR(check_block(size, block, err));
    Rotation *one;
    RETURN_IF_ERROR(hadamard_new(&one, block, err));
    Status st = rotation_new(out, ROTATION_BLOCKS, size, (int)(size / block), err);
    for (int i = 0; st == ST_OK && i < (*out)->nparts; i++) {
        (*out)->part[i] = rotation_share(one);
        (*out)->size[i] = block;
    }
    rotation_free(one);
    return st;
}

Status rotation_hadamard(Rotation **out, int64_t size, int64_t block, Error *err)
{
    *out = NULL;
    return block == -1 || block == size ? hadamard_new(out, size, err) : copies(out, size, block, err);
}

/* ---- shifted blocks ---- */

/* What their matrix is made of. */
typedef struct Shifted {
    int64_t n, block;
    double *matrix; /* [block][block] Hadamard(block) */
    const int *eye; /* [neye] blocks that are the identity */
    int neye;
} Shifted;

static bool is_eye(const Shifted *s, int64_t block)
{
    for (int i = 0; i < s->neye; i++)
        if (s->eye[i] == block)
            return true;
    return false;
}

/* y = x B or x B' */
static void times_blocks(const Shifted *s, const double *x, double *y, bool transposed)
{
    int64_t b = s->block;
    for (int64_t at = 0; at < s->n; at += b) {
        if (is_eye(s, at / b)) {
            memcpy(y + at, x + at, (size_t)b * sizeof *y);
            continue;
        }
        memset(y + at, 0, (size_t)b * sizeof *y);
        for (int64_t i = 0; i < b; i++)
            for (int64_t j = 0; j < b && x[at + i] != 0; j++)
                y[at + j] += x[at + i] * s->matrix[transposed ? j * b + i : i * b + j];
    }
}

/* The Hadamard matrix in float64: its entries are what they are, not the nearest float32. */
static Status exact_hadamard(Shifted *s, Error *err)
{
    Rotation *one;
    float *rows = mem_array((size_t)(s->block * s->block), sizeof *rows);
    s->matrix = mem_array((size_t)(s->block * s->block), sizeof *s->matrix);
    Status st = rows && s->matrix ? hadamard_new(&one, s->block, err) : error_nomem(err, "a rotation");
    if (st == ST_OK) {
        st = rotation_rows(one, rows, err);
        for (int64_t i = 0; st == ST_OK && i < s->block * s->block; i++)
            s->matrix[i] = copysign(1 / sqrt((double)s->block), (double)rows[i]);
        rotation_free(one);
    }
    free(rows);
    return st;
}

/* Row by row: e_i B P B ... in float64, rounded once. */
static Status shifted_rows(const Shifted *s, const char *factors, float *out, Error *err)
{
    double *x = mem_array((size_t)s->n, sizeof *x), *y = mem_array((size_t)s->n, sizeof *y);
    for (int64_t i = 0; x && y && i < s->n; i++) {
        memset(x, 0, (size_t)s->n * sizeof *x);
        x[i] = 1;
        for (const char *f = factors; *f; f++) {
            if (*f == 'B' || *f == 'b')
                times_blocks(s, x, y, *f == 'b');
            else
                for (int64_t j = 0; j < s->n; j++)
                    y[(*f == 'P' ? j + SHIFT : j + s->n - SHIFT % s->n) % s->n] = x[j];
            double *t = x;
            x = y;
            y = t;
        }
        for (int64_t j = 0; j < s->n; j++)
            out[i * s->n + j] = (float)x[j];
    }
    Status st = x && y ? ST_OK : error_nomem(err, "a rotation");
    free(x);
    free(y);
    return st;
}

Status rotation_shifted(Rotation **out, int64_t size, int64_t block, int step, const int *eye, int neye, Error *err)
{
    static const char *const factors[] = {"BPB", "BPBpb", "BPBpbPBpb"}; /* small: transposed */
    Shifted s = {.n = size, .block = block == -1 ? SHIFTED_BLOCK : block, .eye = eye, .neye = neye};
    *out = NULL;
    if (step < 1 || step > 3)
        return error_set(err, ST_DATA, "rot_step %d: it can be 1, 2 or 3", step);
    RETURN_IF_ERROR(check_block(size, s.block, err));
    float *m = mem_array((size_t)(size * size), sizeof *m);
    Status st = m ? exact_hadamard(&s, err) : error_nomem(err, "a rotation");
    if (st == ST_OK)
        st = shifted_rows(&s, factors[step - 1], m, err);
    free(s.matrix);
    if (st == ST_OK)
        return rotation_dense(out, m, size, err);
    free(m);
    return st;
}

Status rotation_dense(Rotation **out, float *m, int64_t n, Error *err)
{
    Status st = rotation_new(out, ROTATION_DENSE, n, 0, err);
    if (st == ST_OK)
        (*out)->dense = m;
    else
        free(m);
    return st;
}

Status rotation_kron(Rotation **out, const Rotation *m, const Rotation *n, Error *err)
{
    RETURN_IF_ERROR(rotation_new(out, ROTATION_KRON, m->n * n->n, 2, err));
    (*out)->part[0] = rotation_share(m);
    (*out)->part[1] = rotation_share(n);
    return ST_OK;
}

Status rotation_blocks(Rotation **out, Rotation *const *part, const int64_t *size, int n, Error *err)
{
    int64_t all = 0;
    for (int i = 0; i < n; i++)
        all += part[i] ? part[i]->n : size[i];
    RETURN_IF_ERROR(rotation_new(out, ROTATION_BLOCKS, all, n, err));
    for (int i = 0; i < n; i++) {
        (*out)->part[i] = rotation_share(part[i]);
        (*out)->size[i] = part[i] ? part[i]->n : size[i];
    }
    return ST_OK;
}

Status rotation_identity(Rotation **out, int64_t size, Error *err)
{
    return rotation_blocks(out, (Rotation *const[]){NULL}, &size, 1, err);
}

Status rotation_transpose(Rotation **out, const Rotation *r, Error *err)
{
    RETURN_IF_ERROR(rotation_new(out, ROTATION_TURNED, r->n, 1, err));
    (*out)->part[0] = rotation_share(r);
    return ST_OK;
}

int64_t rotation_size(const Rotation *r)
{
    return r->n;
}

/* ---- Hadamard ---- */

/* Sylvester's matrix of order m, a power of two, on x[m]. */
static void butterflies(float *x, int64_t m)
{
    for (int64_t h = 1; h < m; h *= 2)
        for (int64_t i = 0; i < m; i += 2 * h)
            for (int64_t j = i; j < i + h; j++) {
                float a = x[j], b = x[j + h];
                x[j] = a + b;
                x[j + h] = a - b;
            }
}

/* y[p][q] = sum over i of B[p][i] x[i][q], or with B' */
static void base_product(const Rotation *r, const float *x, float *y, bool transposed)
{
    int k = r->k;
    int64_t m = r->m;
    for (int p = 0; p < k; p++) {
        float *to = y + p * m;
        for (int64_t q = 0; q < m; q++)
            to[q] = 0;
        for (int i = 0; i < k; i++) {
            const float *from = x + i * m;
            if ((transposed ? r->base[i * k + p] : r->base[p * k + i]) > 0)
                for (int64_t q = 0; q < m; q++)
                    to[q] += from[q];
            else
                for (int64_t q = 0; q < m; q++)
                    to[q] -= from[q];
        }
    }
}

static void times_signs(const Rotation *r, float *x)
{
    for (int64_t i = 0; i < r->n; i++)
        x[i] *= r->sign[i];
}

static void hadamard_row(const Rotation *r, float *x, bool transposed, float *scratch)
{
    if (!transposed)
        times_signs(r, x);
    for (int p = 0; p < r->k; p++)
        butterflies(x + p * r->m, r->m);
    if (r->k > 1) {
        base_product(r, x, scratch, transposed);
        memcpy(x, scratch, (size_t)r->n * sizeof *x);
    }
    for (int64_t i = 0; i < r->n; i++)
        x[i] *= r->scale;
    if (transposed)
        times_signs(r, x);
}

/* ---- applying ---- */

/* Floats of scratch: a multiple of 16. */
static int64_t need_right(const Rotation *r)
{
    int64_t own = 0, parts = 0;
    for (int i = 0; i < r->nparts; i++) {
        int64_t one = r->part[i] ? need_right(r->part[i]) : 0;
        if (r->kind == ROTATION_KRON && i == 0)
            one += round_up(PANEL * r->part[0]->n, 16);
        parts = one > parts ? one : parts;
    }
    if (r->kind == ROTATION_HADAMARD)
        own = r->k > 1 ? r->n : 0;
    else if (r->kind == ROTATION_DENSE)
        own = DENSE_ROWS * r->n + (int64_t)(gemm_f32.scratch(DENSE_ROWS, r->n, r->n) / sizeof(float));
    return round_up(own, 16) + parts;
}

uint64_t rotation_bytes(const Rotation *r)
{
    return (uint64_t)(round_up(PANEL * r->n, 16) + need_right(r)) * sizeof(float);
}

static void apply(const Rotation *r, float *x, int64_t rows, int64_t ld, bool transposed, float *scratch);

/* W <- R' W, of one tile: columns turned to rows, some at a time. */
static void apply_left(const Rotation *r, float *w, int64_t cols, int64_t ld, bool transposed, float *scratch)
{
    int64_t n = r->n;
    float *turned = scratch, *rest = scratch + round_up(PANEL * n, 16);
    for (int64_t c = 0; c < cols; c += PANEL) {
        int64_t have = cols - c < PANEL ? cols - c : PANEL;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < have; j++)
                turned[j * n + i] = w[i * ld + c + j];
        apply(r, turned, have, n, transposed, rest);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < have; j++)
                w[i * ld + c + j] = turned[j * n + i];
    }
}

static void apply_dense(const Rotation *r, float *x, int64_t rows, int64_t ld, bool transposed, float *scratch)
{
    float *rest = scratch + round_up(DENSE_ROWS * r->n, 16);
    for (int64_t i = 0; i < rows; i += DENSE_ROWS) {
        int64_t have = rows - i < DENSE_ROWS ? rows - i : DENSE_ROWS;
        for (int64_t j = 0; j < have; j++)
            memcpy(scratch + j * r->n, x + (i + j) * ld, (size_t)r->n * sizeof *x);
        gemm_f32.tile(&(GemmArgs){.m = have, .n = r->n, .k = r->n, .x = scratch, .ldx = r->n, .w = r->dense, .ldw = r->n,
                                  .w_by_k = !transposed, .y = x + i * ld, .ldy = ld}, rest);
    }
}

static void apply_kron(const Rotation *r, float *x, int64_t rows, int64_t ld, bool transposed, float *scratch)
{
    const Rotation *m = r->part[0], *n = r->part[1];
    for (int64_t i = 0; i < rows; i++) {
        apply(n, x + i * ld, m->n, n->n, transposed, scratch);
        apply_left(m, x + i * ld, n->n, n->n, transposed, scratch);
    }
}

static void apply_blocks(const Rotation *r, float *x, int64_t rows, int64_t ld, bool transposed, float *scratch)
{
    int64_t at = 0;
    for (int i = 0; i < r->nparts; at += r->size[i++])
        if (r->part[i])
            apply(r->part[i], x + at, rows, ld, transposed, scratch);
}

static void apply_turned(const Rotation *r, float *x, int64_t rows, int64_t ld, bool transposed, float *scratch)
{
    apply(r->part[0], x, rows, ld, !transposed, scratch);
}

/* x <- x R or x R' of rows as long as R. */
static void apply(const Rotation *r, float *x, int64_t rows, int64_t ld, bool transposed, float *scratch)
{
    static void (*const of_kind[])(const Rotation *, float *, int64_t, int64_t, bool, float *) = {
        [ROTATION_DENSE] = apply_dense, [ROTATION_KRON] = apply_kron, [ROTATION_BLOCKS] = apply_blocks,
        [ROTATION_TURNED] = apply_turned};
    if (r->kind != ROTATION_HADAMARD) {
        of_kind[r->kind](r, x, rows, ld, transposed, scratch);
        return;
    }
    for (int64_t i = 0; i < rows; i++)
        hadamard_row(r, x + i * ld, transposed, scratch);
}

void rotation_right(const Rotation *r, float *x, int64_t rows, int64_t width, int64_t ld, float *scratch)
{
    for (int64_t at = 0; at < width; at += r->n)
        apply(r, x + at, rows, ld, false, scratch);
}

void rotation_left(const Rotation *r, float *w, int64_t rows, int64_t cols, int64_t ld, float *scratch)
{
    for (int64_t at = 0; at < rows; at += r->n)
        apply_left(r, w + at * ld, cols, ld, false, scratch);
}

Status rotation_rows(const Rotation *r, float *out, Error *err)
{
    float *scratch = mem_aligned((size_t)rotation_bytes(r), 1);
    if (!scratch)
        return error_nomem(err, "a rotation");
    memset(out, 0, (size_t)(r->n * r->n) * sizeof *out);
    for (int64_t i = 0; i < r->n; i++)
        out[i * r->n + i] = 1;
    apply(r, out, r->n, r->n, false, scratch);
    free(scratch);
    return ST_OK;
}

void rotation_digest(const Rotation *r, Hasher *h)
{
    hasher_u64(h, r->kind);
    hasher_u64(h, (uint64_t)r->n);
    if (r->dense)
        hasher_bytes(h, r->dense, (size_t)(r->n * r->n) * sizeof *r->dense);
    hasher_u64(h, (uint64_t)r->nparts);
    for (int i = 0; i < r->nparts; i++) {
        hasher_u64(h, (uint64_t)r->size[i]);
        hasher_u64(h, r->part[i] != NULL);
        if (r->part[i])
            rotation_digest(r->part[i], h);
    }
}
