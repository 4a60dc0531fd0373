#include "tune/allocate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"

static double v_of(const TuneTable *t, int64_t g, int level)
{
    return t->v[g * t->levels + level];
}

static int64_t bytes_of(const TuneTable *t, int64_t g, int level)
{
    return t->bytes[g * t->levels + level];
}

static bool can_have(const TuneTable *t, int64_t g, int level)
{
    return bytes_of(t, g, level) >= 0 && isfinite(v_of(t, g, level));
}

static bool is_fixed(const TuneTable *t, int64_t g)
{
    if (t->fixed && t->fixed[g])
        return true;
    for (int k = 0; k < t->levels; k++)
        if (can_have(t, g, k))
            return false;
    return true;
}

void tune_sums(const TuneTable *t, const int16_t *set, double *s, int64_t *bytes)
{
    *s = 0;
    *bytes = 0;
    for (int64_t g = 0; g < t->n; g++) {
        *s += v_of(t, g, set[g]);
        *bytes += max_i64(bytes_of(t, g, set[g]), 0);
    }
}

/* ---- the greedy way ---- */

/* The level of fewest bytes, of equal ones that of least v, of these the first. */
static int cheapest(const TuneTable *t, int64_t g)
{
    int best = -1;
    for (int k = 0; k < t->levels; k++)
        if (can_have(t, g, k) &&
            (best < 0 || bytes_of(t, g, k) < bytes_of(t, g, best) ||
             (bytes_of(t, g, k) == bytes_of(t, g, best) && v_of(t, g, k) < v_of(t, g, best))))
            best = k;
    return best;
}

/* The level that takes most v per byte away from this one; -1: none takes any away. */
static int next_on_hull(const TuneTable *t, int64_t g, int from)
{
    int best = -1;
    double most = 0;
    for (int k = 0; k < t->levels; k++) {
        int64_t more = can_have(t, g, k) ? bytes_of(t, g, k) - bytes_of(t, g, from) : 0;
        double less = more > 0 ? v_of(t, g, from) - v_of(t, g, k) : 0;
        if (less > 0 && less / (double)more > most) {
            best = k;
            most = less / (double)more;
        }
    }
    return best;
}

static double rate(const TuneMove *m)
{
    return m->v / (double)m->bytes;
}

static int by_rate(const void *a, const void *b)
{
    const TuneMove *x = a, *y = b;
    double rx = rate(x), ry = rate(y);
    if (rx != ry)
        return rx < ry ? 1 : -1;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

Status tune_path(TunePath *p, const TuneTable *t, Error *err)
{
    *p = (TunePath){.n = t->n, .start = mem_array((size_t)t->n, sizeof *p->start),
                    .move = mem_array((size_t)(t->n * t->levels), sizeof *p->move)};
    if (!p->start || !p->move) {
        tune_path_free(p);
        return error_nomem(err, "an order of groups");
    }
    for (int64_t g = 0; g < t->n; g++) {
        bool fixed = is_fixed(t, g);
        int at = fixed ? t->set[g] : cheapest(t, g);
        p->start[g] = (int16_t)at;
        for (int to; !fixed && (to = next_on_hull(t, g, at)) >= 0; at = to)
            p->move[p->nmoves++] = (TuneMove){.group = g, .from = (int16_t)at, .to = (int16_t)to,
                                              .bytes = bytes_of(t, g, to) - bytes_of(t, g, at),
                                              .v = v_of(t, g, at) - v_of(t, g, to)};
    }
    /* rates fall along a hull, so the moves of a group stay in their order */
    qsort(p->move, (size_t)p->nmoves, sizeof *p->move, by_rate);
    tune_sums(t, p->start, &p->s0, &p->bytes0);
    p->s1 = p->s0;
    p->bytes1 = p->bytes0;
    for (int64_t i = 0; i < p->nmoves; i++) {
        p->s1 -= p->move[i].v;
        p->bytes1 += p->move[i].bytes;
    }
    p->s1 = fmax(p->s1, 0); /* what rounding leaves of a sum that is all taken away */
    return ST_OK;
}

void tune_path_free(TunePath *p)
{
    free(p->start);
    free(p->move);
    *p = (TunePath){0};
}

void tune_path_set(const TunePath *p, int64_t moves, int16_t *set, double *s, int64_t *bytes)
{
    memcpy(set, p->start, (size_t)p->n * sizeof *set);
    double sum = p->s0;
    int64_t taken = p->bytes0;
    for (int64_t i = 0; i < moves; i++) {
        set[p->move[i].group] = p->move[i].to;
        sum -= p->move[i].v;
        taken += p->move[i].bytes;
    }
    if (s)
        *s = moves == p->nmoves ? p->s1 : fmax(sum, 0);
    if (bytes)
        *bytes = taken;
}

int64_t tune_path_reach(const TunePath *p, double s)
{
    double sum = p->s0;
    for (int64_t i = 0; i <= p->nmoves; i++) {
        if ((i == p->nmoves ? p->s1 : sum) <= s)
            return i;
        if (i < p->nmoves)
            sum -= p->move[i].v;
    }
    return p->nmoves + 1;
}

int64_t tune_path_fit(const TunePath *p, int64_t bytes)
{
    int64_t left = bytes - p->bytes0, i = 0;
    while (i < p->nmoves && p->move[i].bytes <= left)
        left -= p->move[i++].bytes;
    return i;
}

int64_t tune_knee(const TunePath *p)
{
    double span = (double)(p->bytes1 - p->bytes0), fall = p->s0 - p->s1, far = 0, sum = p->s0;
    int64_t knee = 0, taken = p->bytes0;
    for (int64_t i = 0; span > 0 && fall > 0 && i < p->nmoves; i++) {
        sum -= p->move[i].v;
        taken += p->move[i].bytes;
        double below = 1 - (double)(taken - p->bytes0) / span - (sum - p->s1) / fall;
        if (below > far) {
            far = below;
            knee = i + 1;
        }
    }
    return knee;
}

/* ---- what can be had ---- */

static Status feasible(const TunePath *p, int64_t bytes, Error *err)
{
    if (bytes >= p->bytes0)
        return ST_OK;
    return error_set(err, ST_USAGE, "%.2f MB is below what can be had: the linears take %.2f to %.2f MB at these levels",
                     (double)bytes / 1e6, (double)p->bytes0 / 1e6, (double)p->bytes1 / 1e6);
}

/* Of a sum that no move reaches. */
static Status too_small(const TunePath *p, const TuneWish *wish, Error *err)
{
    return error_set(err, ST_USAGE, "no choice of levels comes to a sum of %.4g: it goes from %.4g to %.4g", wish->s, p->s1,
                     p->s0);
}

static Status check_wish(const TunePath *p, const TuneWish *wish, Error *err)
{
    RETURN_IF_ERROR(feasible(p, wish->bytes, err));
    return wish->s < p->s1 ? too_small(p, wish, err) : ST_OK;
}

/* ---- greedy ---- */

/* Down the rest of the path, each group's next move where it fits. */
static void fill(const TunePath *p, int64_t from, int64_t left, int16_t *set)
{
    for (int64_t i = from; i < p->nmoves; i++) {
        const TuneMove *m = &p->move[i];
        if (set[m->group] == m->from && m->bytes <= left) {
            set[m->group] = m->to;
            left -= m->bytes;
        }
    }
}

/* Takes back what the sum does not need, the largest first. */
static void trim(const TunePath *p, int64_t moves, double room, int16_t *set)
{
    for (;;) {
        int64_t best = -1;
        for (int64_t i = 0; i < moves; i++) {
            const TuneMove *m = &p->move[i];
            if (set[m->group] == m->to && m->v <= room && (best < 0 || m->bytes > p->move[best].bytes))
                best = i;
        }
        if (best < 0)
            return;
        set[p->move[best].group] = p->move[best].from;
        room -= p->move[best].v;
    }
}

Status tune_greedy(const TuneTable *t, const TunePath *p, const TuneWish *wish, int16_t *set, Error *err)
{
    RETURN_IF_ERROR(check_wish(p, wish, err));
    double s;
    int64_t bytes, moves = wish->bytes < INT64_MAX ? tune_path_fit(p, wish->bytes) : tune_path_reach(p, wish->s);
    tune_path_set(p, moves, set, &s, &bytes);
    if (wish->bytes < INT64_MAX) {
        fill(p, moves, wish->bytes - bytes, set);
        tune_sums(t, set, &s, &bytes);
        if (s > wish->s)
            return error_set(err, ST_USAGE, "so few bytes leave a sum of %.4g, above %.4g", s, wish->s);
    } else {
        trim(p, moves, wish->s - s, set);
    }
    return ST_OK;
}

/* ---- dynamic programming ---- */

typedef struct Dp {
    int64_t units;    /* of the span */
    int64_t unit;     /* bytes */
    double *sum;      /* [units + 1] the smallest sum of the groups so far with so many units at most */
    double *next;
    int16_t *choice;  /* [n][units + 1] the level of a group in it */
} Dp;

/* At least 4096 units, more while the table is small. */
static int64_t units_for(const TunePath *p)
{
    enum { CELLS = 1 << 24, LEAST = 4096, MOST = 65536 };
    int64_t span = max_i64(p->bytes1 - p->bytes0, 1);
    return min_i64(span, min_i64(MOST, max_i64(LEAST, CELLS / max_i64(p->n, 1))));
}

static void dp_free(Dp *d)
{
    free(d->sum);
    free(d->next);
    free(d->choice);
}

static Status dp_new(Dp *d, const TunePath *p, Error *err)
{
    d->units = units_for(p);
    d->unit = max_i64(div_up(p->bytes1 - p->bytes0, d->units), 1);
    size_t row = (size_t)d->units + 1;
    d->sum = mem_zarray(row, sizeof *d->sum);
    d->next = mem_array(row, sizeof *d->next);
    d->choice = mem_array((size_t)p->n * row, sizeof *d->choice);
    if (d->sum && d->next && d->choice)
        return ST_OK;
    dp_free(d);
    return error_nomem(err, "an exact allocation");
}

/* One group more. Its levels on the path and all others that it can have, from its cheapest. */
static void dp_group(Dp *d, const TuneTable *t, const TunePath *p, int64_t g)
{
    int16_t *choice = d->choice + g * (d->units + 1);
    int start = p->start[g];
    bool fixed = is_fixed(t, g);
    double stays = fixed ? 0 : v_of(t, g, start); /* what is fixed is the same for all */
    for (int64_t u = 0; u <= d->units; u++) {
        d->next[u] = d->sum[u] + stays;
        choice[u] = (int16_t)start;
    }
    for (int k = 0; !fixed && k < t->levels; k++) {
        if (k == start || !can_have(t, g, k) || v_of(t, g, k) >= stays)
            continue;
        int64_t more = div_up(bytes_of(t, g, k) - bytes_of(t, g, start), d->unit);
        double v = v_of(t, g, k);
        for (int64_t u = more; u <= d->units; u++)
            if (d->sum[u - more] + v < d->next[u]) {
                d->next[u] = d->sum[u - more] + v;
                choice[u] = (int16_t)k;
            }
    }
    double *swap = d->sum;
    d->sum = d->next;
    d->next = swap;
}

static void dp_trace(const Dp *d, const TuneTable *t, const TunePath *p, int64_t u, int16_t *set)
{
    for (int64_t g = p->n; g-- > 0;) {
        int16_t k = d->choice[g * (d->units + 1) + u];
        set[g] = k;
        if (k != p->start[g])
            u -= div_up(bytes_of(t, g, k) - bytes_of(t, g, p->start[g]), d->unit);
    }
}

/* The sum of those that are fixed. */
static double fixed_sum(const TuneTable *t, const TunePath *p)
{
    double s = 0;
    for (int64_t g = 0; g < t->n; g++)
        s += is_fixed(t, g) ? v_of(t, g, p->start[g]) : 0;
    return s;
}

/* Where in the table the wish is held. -1: rounding leaves no place. */
static int64_t dp_place(const Dp *d, const TunePath *p, const TuneWish *wish, double fixed)
{
    if (wish->bytes < INT64_MAX)
        return min_i64((wish->bytes - p->bytes0) / d->unit, d->units);
    for (int64_t u = 0; u <= d->units; u++)
        if (d->sum[u] + fixed <= wish->s)
            return u;
    return -1;
}

/* Whether a is the better answer to the wish. */
static bool better(const TuneTable *t, const TuneWish *wish, const int16_t *a, const int16_t *b)
{
    double sa, sb;
    int64_t ba, bb;
    tune_sums(t, a, &sa, &ba);
    tune_sums(t, b, &sb, &bb);
    if (sa > wish->s)
        return false;
    return wish->bytes < INT64_MAX ? sa < sb || (sa == sb && ba < bb) : ba < bb || (ba == bb && sa < sb);
}

Status tune_allocate(const TuneTable *t, const TunePath *p, const TuneWish *wish, int16_t *set, Error *err)
{
    RETURN_IF_ERROR(check_wish(p, wish, err));
    int16_t *greedy = mem_array((size_t)t->n, sizeof *greedy);
    Dp d = {0};
    Error too_few = {0};
    Status st = greedy ? dp_new(&d, p, err) : error_nomem(err, "an exact allocation");
    if (st != ST_OK) {
        free(greedy);
        return st;
    }
    for (int64_t g = 0; g < t->n; g++)
        dp_group(&d, t, p, g);
    bool have = tune_greedy(t, p, wish, greedy, &too_few) == ST_OK;
    double s = INFINITY;
    int64_t bytes, u = dp_place(&d, p, wish, fixed_sum(t, p));
    if (u >= 0) {
        dp_trace(&d, t, p, u, set);
        tune_sums(t, set, &s, &bytes);
    }
    if (have && (u < 0 || !better(t, wish, set, greedy)))
        memcpy(set, greedy, (size_t)t->n * sizeof *set);
    else if (!(s <= wish->s))
        st = error_set(err, ST_USAGE, "%s", too_few.text);
    dp_free(&d);
    free(greedy);
    return st;
}
