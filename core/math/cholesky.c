#include "math/cholesky.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/cholesky_tile.h"

/* The matrix is cut into square tiles of `side`, the lower ones are kept. First tasks make the factor L column of tiles by
 * column, a tile each; then others make Y = transpose of inverse(L): its tile (j, i), i >= j, is
 *   Y(j,i) = -(sum over k = j..i-1 of Y(j,k) L(i,k)^T) inverse(L(i,i))^T,
 * so that every product is one of rows with rows. Row i of L has i tiles beside the diagonal, and those of Y that come of
 * it go where row i - 1 of L was with its diagonal, which nobody needs by then. Tasks are handed out in this order, and
 * one waits for tiles that others have still in work; they are all of tasks handed out before. */

enum { R = CHOLESKY_ROWS, SIDE = 144 };

typedef struct Work {
    const CholeskyTask *t;
    CholeskyTileFn *tile;
    int64_t n, side, tiles;   /* along one edge */
    int64_t step;             /* doubles from panel to panel: R * side */
    double *slot;             /* [tiles * (tiles + 1) / 2][side * side], row by row */
    double *x, *y;            /* [tiles][side * side] inverse(L(i,i)), and transposed */
    double *sum;              /* [threads][side * side] */
    pthread_mutex_t lock;
    pthread_cond_t ready;
    atomic_uchar *have_l, *have_y; /* [as slot] the tile is made */
    atomic_llong *readers;    /* [tiles] tasks that still have to read row i of L */
    atomic_bool stop, indefinite;
} Work;

/* ---- shape ---- */

static int64_t index_of(int64_t i, int64_t j)
{
    return i * (i + 1) / 2 + j;
}

static double *slot_of(const Work *w, int64_t i, int64_t j)
{
    return w->slot + index_of(i, j) * w->side * w->side;
}

/* Tile (j, i) of Y. */
static double *y_of(const Work *w, int64_t j, int64_t i)
{
    return i == j ? w->y + i * w->side * w->side : slot_of(w, i - 1, j);
}

/* Panels of 8 rows in row i of tiles. Rows behind the n-th are those of the unit matrix. */
static int64_t panels_of(const Work *w, int64_t i)
{
    int64_t left = round_up(w->n, R) - i * w->side;
    return (left < w->side ? left : w->side) / R;
}

/* Row and column of the tile that has this index. */
static void place_of(int64_t index, int64_t *i, int64_t *j)
{
    int64_t row = (int64_t)((sqrt(8.0 * (double)index + 1.0) - 1.0) / 2.0);
    while (index_of(row, row) < index)
        row++;
    while (row > 0 && index_of(row, 0) > index)
        row--;
    *i = row;
    *j = index - index_of(row, 0);
}

/* ---- products ---- */

/* Panels [p, end) of c (8 columns) and of a with b, k columns. */
static void rows_product(const Work *w, bool set, int64_t k, int64_t p, int64_t end, const double *a, const double *b,
                         double *c)
{
    for (; p < end; p += CHOLESKY_PANELS) {
        int n = end - p < CHOLESKY_PANELS ? (int)(end - p) : CHOLESKY_PANELS;
        w->tile(set, k, n, w->step, a + p * w->step, b, c + p * w->step);
    }
}

/* c -= a b^T for tiles of side columns, c and a with `rows` panels, b with `cols`. lower: only panels of c at and below the
 * diagonal. upper: a is an upper triangle. */
static void subtract_product(const Work *w, int64_t rows, int64_t cols, const double *a, const double *b, double *c,
                             bool lower, bool upper)
{
    for (int64_t p = 0; p < rows; p += CHOLESKY_PANELS) {
        int64_t end = p + CHOLESKY_PANELS < rows ? p + CHOLESKY_PANELS : rows, skip = upper ? p * R : 0;
        for (int64_t q = 0; q < cols && !(lower && q >= end); q++)
            rows_product(w, false, w->side - skip, p, end, a + skip * R, b + q * w->step + skip * R, c + q * R * R);
    }
}

/* c = a x^T, x a lower triangle of `cols` panels; c may be a: columns from the last on, which need none behind them. */
static void triangle_product(const Work *w, int64_t rows, int64_t cols, const double *a, const double *x, double *c)
{
    for (int64_t p = 0; p < rows; p += CHOLESKY_PANELS) {
        int64_t end = p + CHOLESKY_PANELS < rows ? p + CHOLESKY_PANELS : rows;
        for (int64_t q = cols - 1; q >= 0; q--)
            rows_product(w, true, (q + 1) * R, p, end, a, x + q * w->step, c + q * R * R);
    }
}

/* ---- a tile of the diagonal ---- */

/* The factor of a block [col][row] of 8 x 8 in its place, and its inverse x [col][row]. false: not positive definite. */
static bool small_factor(double (*l)[R], double (*x)[R])
{
    for (int j = 0; j < R; j++) {
        for (int k = 0; k < j; k++)
            for (int i = j; i < R; i++)
                l[j][i] -= l[k][i] * l[k][j];
        if (!(l[j][j] > 0.0) || !isfinite(l[j][j]))
            return false;
        double d = sqrt(l[j][j]);
        l[j][j] = d;
        for (int i = j + 1; i < R; i++)
            l[j][i] /= d;
        for (int i = 0; i < j; i++)
            l[j][i] = 0.0;
    }
    for (int j = 0; j < R; j++)
        for (int i = 0; i < R; i++) {
            double s = i == j ? 1.0 : 0.0;
            for (int k = j; k < i; k++)
                s -= l[k][i] * x[j][k];
            x[j][i] = i < j ? 0.0 : s / l[i][i];
        }
    return true;
}

static void transpose(const double *from, double *to)
{
    for (int i = 0; i < R; i++)
        for (int j = 0; j < R; j++)
            to[j * R + i] = from[i * R + j];
}

/* Tile l, of whose diagonal blocks and below everything to the left is subtracted, becomes its factor; y its inverse
 * transposed, x its inverse. */
static bool diagonal(const Work *w, int64_t panels, double *l, double *x, double *y)
{
    memset(x, 0, (size_t)(w->side * w->side) * sizeof *x);
    memset(y, 0, (size_t)(w->side * w->side) * sizeof *y);
    for (int64_t q = 0; q < panels; q++) {
        int64_t at = q * w->step + q * R * R; /* the block on the diagonal */
        double block[R][R], inverse[R][R];
        rows_product(w, false, q * R, q, panels, l, l + q * w->step, l + q * R * R);
        memcpy(block, l + at, sizeof block);
        if (!small_factor(block, inverse))
            return false;
        memcpy(l + at, block, sizeof block);
        memcpy(x + at, inverse, sizeof inverse);
        transpose(&inverse[0][0], y + at);
        rows_product(w, true, R, q + 1, panels, l + q * R * R, x + at, l + q * R * R);
    }
    for (int64_t i = 1; i < panels; i++) { /* as the tiles of Y are made of those of L */
        for (int64_t p = 0; p < i; p += CHOLESKY_PANELS)
            rows_product(w, false, (i - p) * R, p, p + CHOLESKY_PANELS < i ? p + CHOLESKY_PANELS : i, y + p * R * R,
                         l + i * w->step + p * R * R, y + i * R * R);
        rows_product(w, true, R, 0, i, y + i * R * R, x + i * w->step + i * R * R, y + i * R * R);
        for (int64_t j = 0; j < i; j++)
            transpose(y + j * w->step + i * R * R, x + i * w->step + j * R * R);
    }
    return true;
}

/* ---- tasks ---- */

/* Everybody hurries to the end. */
static bool stopped(Work *w)
{
    if (cancel_level(w->t->cancel))
        atomic_store(&w->stop, true);
    return atomic_load_explicit(&w->stop, memory_order_relaxed);
}

static void wait_for(Work *w, atomic_uchar *have)
{
    if (atomic_load_explicit(have, memory_order_acquire))
        return;
    pthread_mutex_lock(&w->lock);
    while (!atomic_load_explicit(have, memory_order_acquire))
        pthread_cond_wait(&w->ready, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

/* Until nobody reads row i of L any more. */
static void wait_for_row(Work *w, int64_t i)
{
    pthread_mutex_lock(&w->lock);
    while (atomic_load(&w->readers[i]))
        pthread_cond_wait(&w->ready, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

/* The tile is made, by a task that read row i of L. */
static void finish(Work *w, atomic_uchar *have, int64_t i)
{
    pthread_mutex_lock(&w->lock);
    atomic_store_explicit(have, 1, memory_order_release);
    atomic_fetch_sub(&w->readers[i], 1);
    pthread_cond_broadcast(&w->ready);
    pthread_mutex_unlock(&w->lock);
}

static void factor_tile(Work *w, int64_t i, int64_t j)
{
    double *c = slot_of(w, i, j), *x = w->x + j * w->side * w->side, *y = w->y + j * w->side * w->side;
    for (int64_t k = 0; k < j && !stopped(w); k++) {
        wait_for(w, &w->have_l[index_of(i, k)]);
        wait_for(w, &w->have_l[index_of(j, k)]);
        subtract_product(w, panels_of(w, i), panels_of(w, j), slot_of(w, i, k), slot_of(w, j, k), c, i == j, false);
    }
    if (i > j)
        wait_for(w, &w->have_l[index_of(j, j)]);
    bool stop = stopped(w);
    if (!stop && i > j) {
        triangle_product(w, panels_of(w, i), panels_of(w, j), c, x, c);
    } else if (!stop && !diagonal(w, panels_of(w, j), c, x, y)) {
        atomic_store(&w->indefinite, true);
        atomic_store(&w->stop, true);
    }
    finish(w, &w->have_l[index_of(i, j)], j);
}

static void inverse_tile(Work *w, int64_t j, int64_t i, double *sum)
{
    memset(sum, 0, (size_t)(w->side * w->side) * sizeof *sum);
    for (int64_t k = j; k < i && !stopped(w); k++) {
        wait_for(w, k == j ? &w->have_l[index_of(j, j)] : &w->have_y[index_of(k, j)]);
        wait_for(w, &w->have_l[index_of(i, k)]);
        subtract_product(w, panels_of(w, j), panels_of(w, i), y_of(w, j, k), slot_of(w, i, k), sum, false, k == j);
    }
    wait_for(w, &w->have_l[index_of(i, i)]);
    wait_for_row(w, i - 1);
    if (!stopped(w))
        triangle_product(w, panels_of(w, j), panels_of(w, i), sum, w->x + i * w->side * w->side, y_of(w, j, i));
    finish(w, &w->have_y[index_of(i, j)], i);
}

/* Tasks of the factor, column by column, then those of the inverse, row by row: the longest of a row first. */
static void run_task(void *ctx, int64_t index, int worker)
{
    Work *w = ctx;
    int64_t a, b, all = index_of(w->tiles, 0);
    if (index < all) { /* the a-th column from the right has a + 1 tiles */
        place_of(all - 1 - index, &a, &b);
        factor_tile(w, w->tiles - 1 - b, w->tiles - 1 - a);
        return;
    }
    place_of(index - all, &a, &b);
    inverse_tile(w, b, a + 1, w->sum + worker * w->side * w->side);
}

static void read_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    Work *w = ctx;
    int64_t ti, tj;
    double row[SIDE];
    place_of(index, &ti, &tj);
    double *c = slot_of(w, ti, tj);
    for (int64_t r = 0; r < panels_of(w, ti) * R; r++) {
        int64_t i = ti * w->side + r, j = tj * w->side, m = ti == tj ? r + 1 : w->side;
        memset(row, 0, sizeof row);
        if (i < w->n)
            w->t->read(w->t->ctx, i, j, m, row);
        else if (ti == tj)
            row[r] = 1.0;
        for (int64_t k = 0; k < w->side; k++)
            c[r / R * w->step + k * R + r % R] = row[k];
    }
}

static void write_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    Work *w = ctx;
    int64_t ti, tj;
    double row[SIDE];
    place_of(index, &ti, &tj);
    const double *c = y_of(w, tj, ti);
    for (int64_t r = 0; r < panels_of(w, ti) * R && ti * w->side + r < w->n; r++) {
        int64_t m = ti == tj ? r + 1 : w->side;
        for (int64_t k = 0; k < m; k++)
            row[k] = c[k / R * w->step + r * R + k % R];
        w->t->write(w->t->ctx, ti * w->side + r, tj * w->side, m, row);
    }
}

/* ---- the whole ---- */

static void run_all(Work *w, int64_t tasks, PoolTask *fn, const Cancel *cancel)
{
    if (w->t->pool)
        pool_run(w->t->pool, w->t->phase, tasks, fn, w, cancel);
    for (int64_t i = 0; !w->t->pool && i < tasks && !cancel_level(cancel); i++)
        fn(w, i, 0);
}

static int64_t side_of(int64_t n)
{
    return min_i64(round_up(n, R), SIDE);
}

static void fini(Work *w)
{
    free(w->slot);
    free(w->x);
    free(w->y);
    free(w->sum);
    free(w->have_l);
    free(w->have_y);
    free(w->readers);
}

static Status init(Work *w, const CholeskyTask *t, Error *err)
{
    int64_t side = side_of(t->n), tiles = (t->n + side - 1) / side, all = index_of(tiles, 0);
    size_t one = (size_t)(side * side), threads = t->pool ? (size_t)pool_threads(t->pool) : 1;
    *w = (Work){.t = t, .tile = cholesky_tile(), .n = t->n, .side = side, .tiles = tiles, .step = R * side,
                .slot = mem_aligned((size_t)all * one, sizeof *w->slot),
                .x = mem_aligned((size_t)tiles * one, sizeof *w->x), .y = mem_aligned((size_t)tiles * one, sizeof *w->y),
                .sum = mem_aligned(threads * one, sizeof *w->sum),
                .have_l = mem_zarray((size_t)all, sizeof *w->have_l), .have_y = mem_zarray((size_t)all, sizeof *w->have_y),
                .readers = mem_zarray((size_t)tiles, sizeof *w->readers)};
    if (!w->slot || !w->x || !w->y || !w->sum || !w->have_l || !w->have_y || !w->readers) {
        fini(w);
        return error_nomem(err, "a matrix's factor");
    }
    for (int64_t i = 0; i < tiles; i++) /* tiles - i tasks of a column, and i of Y's row */
        atomic_store(&w->readers[i], tiles);
    return ST_OK;
}

Status cholesky_inverse(const CholeskyTask *t, bool *definite, Error *err)
{
    Work w;
    RETURN_IF_ERROR(init(&w, t, err));
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.ready, NULL);
    int64_t all = index_of(w.tiles, 0);
    run_all(&w, all, read_task, t->cancel);
    run_all(&w, all + index_of(w.tiles - 1, 0), run_task, NULL); /* tasks wait for others: none is left out */
    *definite = !w.indefinite;
    if (*definite && !stopped(&w))
        run_all(&w, all, write_task, t->cancel);
    pthread_mutex_destroy(&w.lock);
    pthread_cond_destroy(&w.ready);
    fini(&w);
    return *definite ? cancel_check(t->cancel, err) : ST_OK;
}

uint64_t cholesky_bytes(int64_t n, int threads)
{
    uint64_t side = (uint64_t)side_of(n), tiles = ((uint64_t)n + side - 1) / side, all = tiles * (tiles + 1) / 2;
    return (all + 2 * tiles + (uint64_t)threads) * side * side * sizeof(double) + 2 * all + tiles * sizeof(long long);
}
