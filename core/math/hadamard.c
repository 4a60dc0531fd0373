#include "math/hadamard.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- the orders ---- */

typedef enum Construction { PALEY, WILLIAMSON, DOUBLED, POWER_OF_TWO } Construction;

typedef struct Order {
    int k;
    Construction how;
    uint64_t row[4]; /* Williamson: first rows of A, B, C, D, the highest of k / 4 bits first, 1 for + */
} Order;

/* Largest first. */
static const Order order_table[] = {
    {.k = 200, .how = PALEY},
    {.k = 172, .how = WILLIAMSON, .row = {0x467aecdd798, 0x6fc29b650fd, 0x7595e85ea6b, 0x63d260192f1}},
    {.k = 160, .how = DOUBLED},
    {.k = 156, .how = WILLIAMSON, .row = {0x7282619053, 0x7898528647, 0x73452128b3, 0x46a0edc158}},
    {.k = 140, .how = PALEY},
    {.k = 136, .how = DOUBLED},
    {.k = 108, .how = WILLIAMSON, .row = {0x47d7af8, 0x47d7af8, 0x49733a4, 0x768cc5b}},
    {.k = 76, .how = WILLIAMSON, .row = {0x65fe9, 0x51fe2, 0x6cb4d, 0x674b9}},
    {.k = 60, .how = WILLIAMSON, .row = {0x6d2d, 0x6f3d, 0x6c0d, 0x51e2}},
    {.k = 52, .how = WILLIAMSON, .row = {0x14f2, 0x11f8, 0x1a65, 0x1090}},
    {.k = 40, .how = DOUBLED},
    {.k = 36, .how = WILLIAMSON, .row = {0x181, 0x142, 0x124, 0x118}},
    {.k = 28, .how = WILLIAMSON, .row = {0x40, 0x61, 0x52, 0x4c}},
    {.k = 20, .how = WILLIAMSON, .row = {0x10, 0x10, 0x19, 0x16}},
    {.k = 12, .how = PALEY},
    {.k = 1, .how = POWER_OF_TWO},
};
/* What the doubled ones double. */
static const Order half_table[] = {
    {.k = 80, .how = PALEY},
    {.k = 68, .how = WILLIAMSON, .row = {0x16e76, 0x12ff4, 0x1a245, 0x11c38}},
    {.k = 20, .how = WILLIAMSON, .row = {0x10, 0x10, 0x19, 0x16}},
};
enum { ORDERS = sizeof order_table / sizeof *order_table, HALVES = sizeof half_table / sizeof *half_table };

static bool is_power(int64_t n)
{
    return n > 0 && (n & (n - 1)) == 0;
}

bool hadamard_parts(int64_t n, int *k, int64_t *m)
{
    for (int i = 0; i < ORDERS; i++)
        if (n > 0 && n % order_table[i].k == 0 && is_power(n / order_table[i].k)) {
            *k = order_table[i].k;
            *m = n / *k;
            return true;
        }
    return false;
}

Status hadamard_check(int64_t n, const char *what, Error *err)
{
    char orders[160] = "";
    size_t at = 0;
    int k;
    int64_t m;
    if (hadamard_parts(n, &k, &m))
        return ST_OK;
    for (int i = ORDERS - 2; i >= 0 && at < sizeof orders; i--)
        at += (size_t)snprintf(orders + at, sizeof orders - at, "%s%d", i == ORDERS - 2 ? "" : ", ", order_table[i].k);
    return error_set(err, ST_DATA,
                     "%s%sno Hadamard matrix of size %lld is known: it has to be a power of two, or one times %s; a "
                     "block_size that is a power of two and divides it can stand for it",
                     what ? what : "", what ? ": " : "", (long long)n, orders);
}

/* ---- constructions ---- */

/* Of q = k - 1, a prime that is 3 modulo 4: row 0 is + - - ..., column 0 +, the rest by whether j - i is a square. */
static void paley(int k, signed char *b)
{
    int q = k - 1;
    bool square[256] = {false};
    for (int i = 1; i < q; i++)
        square[i * i % q] = true;
    for (int j = 0; j < k; j++)
        b[j] = j ? -1 : 1;
    for (int i = 0; i < q; i++) {
        b[(i + 1) * k] = 1;
        for (int j = 0; j < q; j++)
            b[(i + 1) * k + j + 1] = square[((j - i) % q + q) % q] ? -1 : 1;
    }
}

/* [[A,B,C,D],[-B,A,-D,C],[-C,D,A,-B],[-D,-C,B,A]] of circulant blocks: row i is row 0 turned right by i. */
static void williamson(const Order *o, signed char *b)
{
    static const signed char block[4][4] = {{0, 1, 2, 3}, {1, 0, 3, 2}, {2, 3, 0, 1}, {3, 2, 1, 0}};
    static const signed char sign[4][4] = {{1, 1, 1, 1}, {-1, 1, -1, 1}, {-1, 1, 1, -1}, {-1, -1, 1, 1}};
    int m = o->k / 4;
    for (int i = 0; i < o->k; i++)
        for (int j = 0; j < o->k; j++) {
            int at = ((j % m - i % m) % m + m) % m;
            bool plus = o->row[block[i / m][j / m]] >> (m - 1 - at) & 1;
            b[i * o->k + j] = (signed char)(plus ? sign[i / m][j / m] : -sign[i / m][j / m]);
        }
}

static void construct(const Order *o, signed char *b)
{
    if (o->how == PALEY)
        paley(o->k, b);
    else if (o->how == WILLIAMSON)
        williamson(o, b);
    else
        b[0] = 1;
}

static const Order *find_order(const Order *table, int n, int k)
{
    for (int i = 0; i < n; i++)
        if (table[i].k == k)
            return &table[i];
    return NULL;
}

Status hadamard_base(int k, signed char *b, Error *err)
{
    const Order *o = find_order(order_table, ORDERS, k);
    if (!o)
        return error_set(err, ST_INTERNAL, "no Hadamard matrix of order %d to begin with", k);
    if (o->how != DOUBLED) {
        construct(o, b);
        return ST_OK;
    }
    int h = k / 2;
    signed char *half = mem_array((size_t)h * (size_t)h, 1);
    if (!half)
        return error_nomem(err, "a Hadamard matrix");
    construct(find_order(half_table, HALVES, h), half);
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) {
            signed char v = half[i % h * h + j % h];
            b[i * k + j] = (signed char)(i >= h && j >= h ? -v : v);
        }
    free(half);
    return ST_OK;
}

/* ---- signs ---- */

enum { MT_N = 624, MT_M = 397 };

void hadamard_signs(uint32_t seed, int64_t n, float *s)
{
    uint32_t mt[MT_N];
    mt[0] = seed;
    for (uint32_t i = 1; i < MT_N; i++)
        mt[i] = 1812433253u * (mt[i - 1] ^ mt[i - 1] >> 30) + i;
    for (int64_t i = 0; i < n; i++) {
        int at = (int)(i % MT_N);
        if (at == 0)
            for (int j = 0; j < MT_N; j++) {
                uint32_t y = (mt[j] & 0x80000000u) | (mt[(j + 1) % MT_N] & 0x7fffffffu);
                mt[j] = mt[(j + MT_M) % MT_N] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
            }
        uint32_t y = mt[at];
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c5680u;
        y ^= y << 15 & 0xefc60000u;
        y ^= y >> 18;
        s[i] = y & 1 ? 1 : -1;
    }
}

/* ---- sizes ---- */

static bool is_factor(int64_t n)
{
    return n == 1 || n == 2 || (n > 0 && n <= 256 && n % 4 == 0);
}

bool hadamard_split(int64_t n, int64_t *a, int64_t *b)
{
    if (n <= 0)
        return false;
    for (int64_t mean = (int64_t)sqrt((double)n); mean <= 256; mean++) { /* n = mean^2 - half^2 */
        int64_t rest = mean * mean - n, half = rest < 0 ? 0 : (int64_t)(sqrt((double)rest) + 0.5);
        if (rest >= 0 && half * half == rest && is_factor(mean - half) && is_factor(mean + half)) {
            *a = mean - half;
            *b = mean + half;
            return true;
        }
    }
    return false;
}
