/* Products by tiles (math/tile.h): float32, and over inputs rounded to bf16. A packed panel begins with a head that says
 * what its words are; behind it stand panels of TileOps.wide outputs and, for what is left, of TileOps.narrow, each
 * [words][outputs]. A wrapped one is its head alone. */
#include "math/gemm.h"

#include <string.h>

#include "base/num.h"
#include "math/convert.h"
#include "math/tile.h"

typedef struct PackHead {
    int64_t n, k;
    bool pairs; /* of bf16; float32 otherwise */
    const uint16_t *raw; /* wrapped: bf16 rows [n][ld], NULL otherwise */
    int64_t ld;
} PackHead;

enum { HEAD_BYTES = 64 };
_Static_assert(sizeof(PackHead) <= HEAD_BYTES, "the head of a packed panel");

static int64_t words_of(int64_t k, bool pairs)
{
    return pairs ? (k + 1) / 2 : k;
}

static bool runs(void)
{
    return true;
}

/* Outputs of the panel that begins at output j of n. */
static int cols_at(const TileOps *t, int64_t n, int64_t j)
{
    return n - j >= t->wide ? t->wide : t->narrow;
}

/* ---- packing ---- */

static size_t f32_bytes(int64_t n, int64_t k)
{
    return HEAD_BYTES + (size_t)(round_up(n, TILE_COLS_MAX) * k) * sizeof(uint32_t);
}

static size_t bf16_bytes(int64_t n, int64_t k)
{
    return HEAD_BYTES + (size_t)(round_up(n, TILE_COLS_MAX) * words_of(k, true)) * sizeof(uint32_t);
}

static bool takes(DType t)
{
    return t == DT_F32 || t == DT_BF16;
}

/* k rows of w [n][ldw] as pairs; the last of an odd k has a zero beside it. */
static void pack_pairs(const TileOps *t, const uint16_t *w, int64_t ldw, int64_t n, int64_t k, int cols, uint32_t *out)
{
    t->pack(w, ldw * (int64_t)sizeof *w, n, k / 2, cols, out);
    for (int64_t j = 0; j < cols && k % 2; j++)
        out[k / 2 * cols + j] = j < n ? w[j * ldw + k - 1] : 0;
}

/* The same of float32 values, rounded, chunk by chunk. */
static void pack_rounded(const TileOps *t, const float *w, int64_t ldw, int64_t n, int64_t k, int cols, uint32_t *out)
{
    uint16_t half[TILE_COLS_MAX * TILE_CHUNK];
    for (int64_t k0 = 0; k0 < k; k0 += TILE_CHUNK, out += TILE_CHUNK / 2 * cols) {
        int64_t kn = k - k0 < TILE_CHUNK ? k - k0 : TILE_CHUNK;
        for (int64_t j = 0; j < n && j < cols; j++)
            t->round(w + j * ldw + k0, kn, half + j * TILE_CHUNK);
        pack_pairs(t, half, TILE_CHUNK, n, kn, cols, out);
    }
}

static void pack_any(bool bf16, DType type, const void *w, int64_t n, int64_t k, int64_t ldw, void *packed)
{
    const TileOps *t = tile_ops(math_level());
    bool pairs = bf16 || type == DT_BF16;
    uint32_t *out = (void *)((unsigned char *)packed + HEAD_BYTES);
    *(PackHead *)packed = (PackHead){.n = n, .k = k, .pairs = pairs};
    for (int64_t j = 0, cols; j < n; j += cols, out += words_of(k, pairs) * cols) {
        cols = cols_at(t, n, j);
        const void *from = (const unsigned char *)w + j * ldw * dtype_size(type);
        if (type == DT_BF16)
            pack_pairs(t, from, ldw, n - j, k, (int)cols, out);
        else if (pairs)
            pack_rounded(t, from, ldw, n - j, k, (int)cols, out);
        else
            t->pack(from, ldw * (int64_t)sizeof(float), n - j, k, (int)cols, out);
    }
}

/* w [k][ldw] to [words][cols]. */
static void pack_inputs(const TileOps *t, bool bf16, const float *w, int64_t ldw, int64_t n, int64_t k, int cols,
                        uint32_t *out)
{
    uint16_t half[2][TILE_COLS_MAX] = {{0}};
    for (int64_t i = 0; i < k; i++, w += ldw) {
        if (!bf16) {
            memcpy(out + i * cols, w, (size_t)n * sizeof *w);
            memset(out + i * cols + n, 0, (size_t)(cols - n) * sizeof *w);
            continue;
        }
        t->round(w, n, half[i & 1]);
        if (i + 1 == k && i % 2 == 0)
            memset(half[1], 0, sizeof half[1]);
        for (int c = 0; c < cols && (i % 2 || i + 1 == k); c++)
            out[i / 2 * cols + c] = half[0][c] | (uint32_t)half[1][c] << 16;
    }
}

static void pack_any_by_k(bool bf16, const float *w, int64_t n, int64_t k, int64_t ldw, void *packed)
{
    const TileOps *t = tile_ops(math_level());
    uint32_t *out = (void *)((unsigned char *)packed + HEAD_BYTES);
    *(PackHead *)packed = (PackHead){.n = n, .k = k, .pairs = bf16};
    for (int64_t j = 0, cols; j < n; j += cols, out += words_of(k, bf16) * cols) {
        cols = cols_at(t, n, j);
        pack_inputs(t, bf16, w + j, ldw, n - j < cols ? n - j : cols, k, (int)cols, out);
    }
}

static void pack_f32_by_k(const float *w, int64_t n, int64_t k, int64_t ldw, void *packed)
{
    pack_any_by_k(false, w, n, k, ldw, packed);
}

static void pack_bf16_by_k(const float *w, int64_t n, int64_t k, int64_t ldw, void *packed)
{
    pack_any_by_k(true, w, n, k, ldw, packed);
}

static void pack_f32(DType type, const void *w, int64_t n, int64_t k, int64_t ldw, void *packed)
{
    pack_any(false, type, w, n, k, ldw, packed);
}

static void pack_bf16(DType type, const void *w, int64_t n, int64_t k, int64_t ldw, void *packed)
{
    pack_any(true, type, w, n, k, ldw, packed);
}

static bool wrap(DType type, const void *w, int64_t n, int64_t k, int64_t ldw, void *packed)
{
    if (type == DT_BF16)
        *(PackHead *)packed = (PackHead){.n = n, .k = k, .pairs = true, .raw = w, .ld = ldw};
    return type == DT_BF16;
}

/* ---- products ---- */

/* One product on its way. */
typedef struct Product {
    const GemmArgs *g;
    const TileOps *t;
    TileFn *fn;
    bool bf16;
    const void *x;    /* [m][ldx] as TileCall.x */
    int64_t ldx;
    uint32_t *panel;  /* TILE_CHUNK products of a panel of g->w */
    float *strip;     /* [m][TILE_COLS_MAX], what can't be summed in place */
} Product;

static size_t x_size(const TileOps *t)
{
    return t->x_halves ? sizeof(uint16_t) : sizeof(float);
}

static size_t rounded_bytes(const TileOps *t, int64_t m, int64_t k)
{
    return (size_t)round_up(m * round_up(k, 2) * (int64_t)x_size(t), 64);
}

static size_t panel_bytes(void)
{
    return (size_t)TILE_CHUNK * TILE_COLS_MAX * sizeof(uint32_t);
}

/* The panel's vectors are read as aligned ones. */
enum { ALIGN = 64 };

static unsigned char *aligned(void *scratch)
{
    return (unsigned char *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN);
}

static size_t f32_scratch(int64_t m, int64_t n, int64_t k)
{
    (void)n;
    (void)k;
    return ALIGN + panel_bytes() + (size_t)m * TILE_COLS_MAX * sizeof(float);
}

static size_t bf16_scratch(int64_t m, int64_t n, int64_t k)
{
    return f32_scratch(m, n, k) + rounded_bytes(tile_ops(math_level()), m, k);
}

/* Products [k0, k0 + kn) of outputs [j, j + cols) of what is not packed, a wrapped panel or g->w, into p->panel. */
static void pack_chunk(const Product *p, int64_t j, int cols, int64_t k0, int64_t kn)
{
    const GemmArgs *g = p->g;
    const PackHead *head = g->packed;
    int64_t all = head ? head->n : g->n, n = all - j < cols ? all - j : cols;
    const float *w = g->w_by_k ? g->w + k0 * g->ldw + j : g->w + j * g->ldw + k0;
    if (head)
        pack_pairs(p->t, head->raw + j * head->ld + k0, head->ld, n, kn, cols, p->panel);
    else if (g->w_by_k)
        pack_inputs(p->t, p->bf16, w, g->ldw, n, kn, cols, p->panel);
    else if (p->bf16)
        pack_rounded(p->t, w, g->ldw, n, kn, cols, p->panel);
    else
        p->t->pack(w, g->ldw * (int64_t)sizeof *w, n, kn, cols, p->panel);
}

/* Products of one chunk for all rows: y[m][cols]. w: the chunk of a panel. */
static void chunk_rows(const Product *p, const uint32_t *w, int cols, int64_t k0, int64_t kn, float *y, int64_t ldy)
{
    TileCall c = {.wide = cols == p->t->wide, .add = k0 > 0, .k = kn, .ldx = p->ldx, .w = w, .ldy = ldy};
    size_t size = p->bf16 ? x_size(p->t) : sizeof(float);
    for (int64_t i = 0; i < p->g->m; i += TILE_ROWS) {
        c.rows = p->g->m - i < TILE_ROWS ? (int)(p->g->m - i) : TILE_ROWS;
        c.x = (const unsigned char *)p->x + (size_t)(i * p->ldx + k0) * size;
        c.y = y + i * ldy;
        p->fn(&c);
    }
}

/* What is left to do with sums[m][n], which are y itself where nothing is added to it, and are left changed. */
static void finish(const Product *p, float *sums, int64_t lds, int64_t j, int64_t n)
{
    const GemmArgs *g = p->g;
    const float *bias = g->bias ? g->bias + j : NULL;
    bool scaled = g->alpha != 0 && g->alpha != 1;
    float *y = g->y + j;
    if (!bias && !scaled && g->beta == 0 && sums == y)
        return;
    const MathKernels *k = math_fast();
    for (int64_t i = 0; i < g->m; i++, sums += lds, y += g->ldy) {
        if (scaled)
            k->scale(sums, g->alpha, sums, n);
        if (g->beta != 0 && g->beta != 1)
            k->scale(y, g->beta, y, n);
        if (g->beta != 0)
            k->add(sums, y, y, n);
        else if (sums != y)
            memcpy(y, sums, (size_t)n * sizeof *y);
        if (bias)
            k->add(y, bias, y, n);
    }
}

/* One panel, outputs [at, at + cols): those n of them that are wanted begin at at + skip and are y's from j on. packed: its
 * words, or NULL to pack them on the way. */
static void panel_product(const Product *p, const uint32_t *packed, bool pairs, int cols, int64_t at, int64_t skip,
                          int64_t j, int64_t n)
{
    const GemmArgs *g = p->g;
    bool direct = skip == 0 && n == cols && g->beta == 0;
    float *y = direct ? g->y + j : p->strip;
    int64_t ldy = direct ? g->ldy : TILE_COLS_MAX;
    unsigned before = p->bf16 && p->t->flush_begin ? p->t->flush_begin() : 0;
    for (int64_t k0 = 0; k0 < g->k; k0 += TILE_CHUNK) {
        int64_t kn = g->k - k0 < TILE_CHUNK ? g->k - k0 : TILE_CHUNK;
        if (!packed)
            pack_chunk(p, at, cols, k0, kn);
        chunk_rows(p, packed ? packed + words_of(k0, pairs) * cols : p->panel, cols, k0, kn, y, ldy);
    }
    if (p->bf16 && p->t->flush_end)
        p->t->flush_end(before);
    for (int64_t i = 0; i < g->m && g->k <= 0; i++)
        memset(y + i * ldy, 0, (size_t)cols * sizeof *y);
    finish(p, direct ? y : y + skip, ldy, j, n);
}

static void packed_product(const Product *p)
{
    const GemmArgs *g = p->g;
    const PackHead *head = g->packed;
    const uint32_t *w = (const void *)((const unsigned char *)g->packed + HEAD_BYTES);
    int64_t first = g->packed_first, end = first + g->n;
    for (int64_t j = 0, cols; j < head->n && j < end; j += cols, w += words_of(head->k, head->pairs) * cols) {
        cols = cols_at(p->t, head->n, j);
        int64_t lo = j > first ? j : first, hi = j + cols < end ? j + cols : end;
        if (lo < hi)
            panel_product(p, head->raw ? NULL : w, head->pairs, (int)cols, j, lo - j, lo - first, hi - lo);
    }
}

static void plain_product(const Product *p)
{
    const GemmArgs *g = p->g;
    for (int64_t j = 0, cols; j < g->n; j += cols) {
        cols = cols_at(p->t, g->n, j);
        panel_product(p, NULL, p->bf16, (int)cols, j, 0, j, g->n - j < cols ? g->n - j : cols);
    }
}

static void run(Product *p)
{
    if (p->g->m <= 0 || p->g->n <= 0)
        return;
    if (p->g->packed)
        packed_product(p);
    else
        plain_product(p);
}

static void f32_tile(const GemmArgs *g, void *scratch)
{
    const TileOps *t = tile_ops(math_level());
    bool pairs = g->packed && ((const PackHead *)g->packed)->pairs;
    unsigned char *at = aligned(scratch);
    Product p = {.g = g, .t = t, .fn = pairs ? t->f32_pairs : t->f32, .x = g->x, .ldx = g->ldx, .panel = (void *)at,
                 .strip = (void *)(at + panel_bytes())};
    run(&p);
}

static size_t bf16_row(int64_t k)
{
    return (size_t)round_up(k, 2) * x_size(tile_ops(math_level()));
}

static void pack_row(const TileOps *t, const float *x, int64_t k, void *to)
{
    uint16_t half[TILE_CHUNK], *h = to;
    float *f = to;
    if (t->x_halves) {
        t->round(x, k, h);
        if (k % 2)
            h[k] = 0;
        return;
    }
    for (int64_t k0 = 0; k0 < k; k0 += TILE_CHUNK) {
        int64_t n = k - k0 < TILE_CHUNK ? k - k0 : TILE_CHUNK;
        t->round(x + k0, n, half);
        for (int64_t i = 0; i < n; i++)
            f[k0 + i] = bf16_to_float(half[i]);
    }
    if (k % 2)
        f[k] = 0;
}

/* x rounded, rows of an even number of values. */
static void bf16_pack_x(const float *x, int64_t ldx, int64_t m, int64_t k, void *to, int64_t ld)
{
    const TileOps *t = tile_ops(math_level());
    for (int64_t i = 0; i < m; i++)
        pack_row(t, x + i * ldx, k, (unsigned char *)to + i * ld);
}

static void bf16_tile(const GemmArgs *g, void *scratch)
{
    const TileOps *t = tile_ops(math_level());
    unsigned char *at = aligned(scratch);
    const void *x = g->px;
    int64_t ld = g->px ? g->ldpx : (int64_t)bf16_row(g->k);
    if (!x) {
        bf16_pack_x(g->x, g->ldx, g->m, g->k, at + panel_bytes(), ld);
        x = at + panel_bytes();
    }
    Product p = {.g = g, .t = t, .fn = t->bf16, .bf16 = true, .x = x, .ldx = ld / (int64_t)x_size(t),
                 .panel = (void *)at, .strip = (void *)(at + panel_bytes() + rounded_bytes(t, g->m, g->k))};
    run(&p);
}

const GemmOps gemm_f32 = {
    .name = "float32",
    .kind = GEMM_F32,
    .runs = runs,
    .panel_rows = TILE_COLS_MAX,
    .packed_bytes = f32_bytes,
    .takes = takes,
    .pack = pack_f32,
    .wrap = wrap,
    .pack_by_k = pack_f32_by_k,
    .tile = f32_tile,
    .scratch = f32_scratch,
};

const GemmOps gemm_bf16 = {
    .name = "bf16",
    .kind = GEMM_BF16,
    .runs = runs,
    .panel_rows = TILE_COLS_MAX,
    .packed_bytes = bf16_bytes,
    .takes = takes,
    .pack = pack_bf16,
    .wrap = wrap,
    .pack_by_k = pack_bf16_by_k,
    .row_bytes = bf16_row,
    .pack_x = bf16_pack_x,
    .tile = bf16_tile,
    .scratch = bf16_scratch,
};
