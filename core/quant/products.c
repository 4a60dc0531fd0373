#include "quant/products.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/gemm.h"
#include "qir/round.h"

/* Outputs of a task, and rows that it multiplies at a time. */
enum { PANEL = 64, ROWS = 128, COLUMNS = 256, FAKE_ROWS = 64 };

typedef struct ProductRun {
    const Product *p;
    const GemmOps *gemm;
    unsigned char *scratch; /* [threads][scratch_bytes] */
    size_t scratch_bytes;
    float *tile;            /* [threads][ROWS * PANEL] */
    float *store;           /* product_make: y */
    const float *y;         /* product_compare, product_error */
    bool few;               /* product_error */
    ProductSums *sums;      /* [panels] */
} ProductRun;

static void add_tile(ProductSums *s, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j++) {
            double y = (double)a[r * lda + j], z = (double)b[r * ldb + j];
            s->error += (z - y) * (z - y);
            s->square += y * y;
            s->changed += z * z;
            s->cross += y * z;
            s->max = fmax(s->max, fabs(z - y));
        }
}

/* Sums of SIDE columns each, so that they can be made side by side. */
static void add_error_tile(ProductSums *s, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t rows, int64_t n)
{
    enum { SIDE = 8 };
    double error[SIDE] = {0}, square[SIDE] = {0};
    for (int64_t r = 0; r < rows; r++) {
        const float *x = a + r * lda, *z = b + r * ldb;
        int64_t j = 0;
        for (; j + SIDE <= n; j += SIDE)
            for (int k = 0; k < SIDE; k++) {
                double y = (double)x[j + k], d = (double)z[j + k] - y;
                error[k] += d * d;
                square[k] += y * y;
            }
        for (; j < n; j++) {
            double y = (double)x[j], d = (double)z[j] - y;
            error[0] += d * d;
            square[0] += y * y;
        }
    }
    for (int k = 0; k < SIDE; k++) {
        s->error += error[k];
        s->square += square[k];
    }
}

static void add_rounded_tile(ProductSums *s, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t rows,
                             int64_t n, DType T)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j++) {
            float y = a[r * lda + j], z = round_to_dtype(b[r * ldb + j], T), d = round_to_dtype(z - y, T);
            s->error += (double)round_to_dtype(d * d, T);
            s->square += (double)round_to_dtype(y * y, T);
            s->changed += (double)round_to_dtype(z * z, T);
            s->cross += (double)y * (double)z;
            s->max = fmax(s->max, fabs((double)d));
        }
}

static bool rounds(const Product *p)
{
    return p->T == DT_BF16 || p->T == DT_F16;
}

static void round_tile(float *y, int64_t ld, int64_t rows, int64_t n, DType T)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j++)
            y[r * ld + j] = round_to_dtype(y[r * ld + j], T);
}

static void product_task(void *ctx, int64_t index, int worker)
{
    const ProductRun *u = ctx;
    const Product *p = u->p;
    int64_t c = index * PANEL, n = min_i64(PANEL, p->out - c);
    float *tile = u->tile + (int64_t)worker * ROWS * PANEL;
    ProductSums s = {0};
    for (int64_t r = 0; r < p->rows; r += ROWS) {
        int64_t m = min_i64(ROWS, p->rows - r);
        GemmArgs g = {.m = m, .n = n, .k = p->in, .x = p->x + r * p->in, .ldx = p->in, .w = p->w + c * p->in, .ldw = p->in,
                      .bias = p->bias ? p->bias + c : NULL, .y = u->store ? u->store + r * p->out + c : tile,
                      .ldy = u->store ? p->out : PANEL};
        u->gemm->tile(&g, u->scratch + (size_t)worker * u->scratch_bytes);
        if (u->y && rounds(p))
            add_rounded_tile(&s, u->y + r * p->out + c, p->out, tile, PANEL, m, n, p->T);
        else if (rounds(p))
            round_tile(g.y, g.ldy, m, n, p->T);
        else if (u->few)
            add_error_tile(&s, u->y + r * p->out + c, p->out, tile, PANEL, m, n);
        else if (u->y)
            add_tile(&s, u->y + r * p->out + c, p->out, tile, PANEL, m, n);
    }
    if (u->y)
        u->sums[index] = s;
}

static Status run_product(ProductRun *u, Pool *pool, const Cancel *cancel, Error *err)
{
    size_t threads = (size_t)pool_threads(pool);
    u->gemm = gemm_find(GEMM_F32);
    u->scratch_bytes = u->gemm->scratch(ROWS, PANEL, u->p->in);
    u->scratch = mem_aligned(threads, u->scratch_bytes);
    u->tile = mem_aligned(threads, ROWS * PANEL * sizeof *u->tile);
    Status st = u->scratch && u->tile ? ST_OK : error_nomem(err, "products");
    if (st == ST_OK) {
        pool_run(pool, PHASE_LINEAR, div_up(u->p->out, PANEL), product_task, u, cancel);
        st = cancel_check(cancel, err);
    }
    free(u->scratch);
    free(u->tile);
    return st;
}

Status product_make(const Product *p, Pool *pool, const Cancel *cancel, float *y, Error *err)
{
    ProductRun u = {.p = p, .store = y};
    return run_product(&u, pool, cancel, err);
}

static Status compare(const Product *p, Pool *pool, const Cancel *cancel, const float *y, bool few, ProductSums *sums,
                      Error *err)
{
    int64_t panels = div_up(p->out, PANEL);
    ProductRun u = {.p = p, .y = y, .few = few, .sums = mem_zarray((size_t)panels, sizeof *u.sums)};
    Status st = u.sums ? run_product(&u, pool, cancel, err) : error_nomem(err, "products");
    *sums = (ProductSums){0};
    for (int64_t i = 0; st == ST_OK && i < panels; i++) {
        sums->error += u.sums[i].error;
        sums->square += u.sums[i].square;
        sums->changed += u.sums[i].changed;
        sums->cross += u.sums[i].cross;
        sums->max = fmax(sums->max, u.sums[i].max);
    }
    free(u.sums);
    return st;
}

Status product_compare(const Product *p, Pool *pool, const Cancel *cancel, const float *y, ProductSums *sums, Error *err)
{
    return compare(p, pool, cancel, y, false, sums, err);
}

Status product_error(const Product *p, Pool *pool, const Cancel *cancel, const float *y, ProductSums *sums, Error *err)
{
    return compare(p, pool, cancel, y, true, sums, err);
}

/* ---- quadratic forms ---- */

typedef struct FormRun {
    const float *d, *h;
    int64_t rows, in;
    const GemmOps *gemm;
    unsigned char *scratch;
    size_t scratch_bytes;
    float *tile; /* [threads][PANEL * COLUMNS] */
    double *sum; /* [panels] */
} FormRun;

static void form_task(void *ctx, int64_t index, int worker)
{
    const FormRun *f = ctx;
    int64_t r = index * PANEL, m = min_i64(PANEL, f->rows - r);
    float *tile = f->tile + (int64_t)worker * PANEL * COLUMNS;
    double sum = 0;
    for (int64_t c = 0; c < f->in; c += COLUMNS) {
        int64_t n = min_i64(COLUMNS, f->in - c);
        GemmArgs g = {.m = m, .n = n, .k = f->in, .x = f->d + r * f->in, .ldx = f->in, .w = f->h + c * f->in, .ldw = f->in,
                      .y = tile, .ldy = COLUMNS};
        f->gemm->tile(&g, f->scratch + (size_t)worker * f->scratch_bytes);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                sum += (double)tile[i * COLUMNS + j] * (double)f->d[(r + i) * f->in + c + j];
    }
    f->sum[index] = sum;
}

Status product_form(const float *d, int64_t rows, int64_t in, const float *h, Pool *pool, const Cancel *cancel, double *sum,
                    Error *err)
{
    size_t threads = (size_t)pool_threads(pool);
    int64_t panels = div_up(rows, PANEL);
    const GemmOps *gemm = gemm_find(GEMM_F32);
    FormRun f = {.d = d, .h = h, .rows = rows, .in = in, .gemm = gemm, .scratch_bytes = gemm->scratch(PANEL, COLUMNS, in),
                 .tile = mem_aligned(threads, PANEL * COLUMNS * sizeof *f.tile),
                 .sum = mem_zarray((size_t)panels, sizeof *f.sum)};
    f.scratch = mem_aligned(threads, f.scratch_bytes);
    Status st = f.tile && f.sum && f.scratch ? ST_OK : error_nomem(err, "products");
    *sum = 0;
    if (st == ST_OK) {
        pool_run(pool, PHASE_LINEAR, panels, form_task, &f, cancel);
        st = cancel_check(cancel, err);
    }
    for (int64_t i = 0; st == ST_OK && i < panels; i++)
        *sum += f.sum[i];
    *sum = fmax(*sum, 0);
    free(f.tile);
    free(f.sum);
    free(f.scratch);
    return st;
}

uint64_t product_bytes(int64_t in, int threads)
{
    const GemmOps *gemm = gemm_find(GEMM_F32);
    uint64_t one = gemm->scratch(ROWS, PANEL, in), form = gemm->scratch(PANEL, COLUMNS, in);
    return (uint64_t)threads * (max_u64(one, form) + PANEL * COLUMNS * sizeof(float));
}

/* ---- weights ---- */

typedef struct FakeRun {
    const WeightQuantizer *q;
    const QSpec *spec;
    DType T;
    bool peer;
    float *w;
    int64_t out, in;
    const QWeight *made; /* NULL: rowwise */
} FakeRun;

static void fake_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const FakeRun *f = ctx;
    int64_t r = index * FAKE_ROWS, n = min_i64(FAKE_ROWS, f->out - r);
    if (f->made)
        qweight_rows(f->made, r, n, DT_F32, f->w + r * f->in);
    else
        f->q->rows(f->spec, f->w + r * f->in, n, f->in, f->T, f->peer);
}

QSpec fake_weight_spec(const QSpec *q)
{
    QSpec s = *q;
    if (strcmp(q->method, "gptq") == 0)
        strcpy(s.method, "minmax");
    if (strcmp(q->method, "admm") == 0)
        strcpy(s.method, "magnitude");
    return s;
}

static Status run_fake(FakeRun *f, Pool *pool, const Cancel *cancel, Error *err)
{
    QWeight made = {0};
    f->q = weight_quantizer_find(f->spec);
    if (!f->q || f->q->prepare)
        return error_set(err, ST_DATA, "this build has no quantizer for its weight");
    RETURN_IF_ERROR(qweight_check(f->spec, f->out, f->in, err));
    if (!weight_quantizer_rowwise(f->q, f->spec, f->peer) || !f->q->rows) {
        WeightTask t = {.q = f->spec, .w = f->w, .out = f->out, .in = f->in, .T = f->T, .F = DT_F32, .peer = f->peer,
                        .pool = pool, .cancel = cancel};
        RETURN_IF_ERROR(qweight_init(&made, f->spec, f->out, f->in, err));
        Status st = f->q->quantize(&t, &made, err);
        if (st != ST_OK) {
            qweight_fini(&made);
            return st;
        }
        f->made = &made;
    }
    pool_run(pool, PHASE_QUANT_WEIGHT, div_up(f->out, FAKE_ROWS), fake_task, f, cancel);
    qweight_fini(&made);
    return cancel_check(cancel, err);
}

Status fake_weight(const QSpec *q, float *w, int64_t out, int64_t in, Pool *pool, const Cancel *cancel, Error *err)
{
    const QSpec plain = fake_weight_spec(q);
    FakeRun f = {.spec = &plain, .T = DT_F32, .w = w, .out = out, .in = in};
    return run_fake(&f, pool, cancel, err);
}

Status fake_weight_peer(const QSpec *q, DType T, float *w, int64_t out, int64_t in, Pool *pool, const Cancel *cancel,
                        Error *err)
{
    const QSpec plain = fake_weight_spec(q);
    FakeRun f = {.spec = &plain, .T = T, .peer = true, .w = w, .out = out, .in = in};
    return run_fake(&f, pool, cancel, err);
}

uint64_t fake_weight_bytes(const QSpec *spec, int64_t out, int64_t in, bool peer, int threads)
{
    QSpec plain = fake_weight_spec(spec);
    const WeightQuantizer *q = weight_quantizer_find(&plain);
    if (!q || weight_quantizer_rowwise(q, &plain, peer))
        return 0;
    return qweight_bytes(&plain, out, in) + (q->scratch ? q->scratch(&plain, out, in, threads) : 0);
}
