#include "dist/dist.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"

struct Dist {
    const DistOps *ops;
    DistPort port;
    uint64_t sent, got;   /* bytes */
    uint64_t calls;       /* that all ranks agreed on */
    double *speed;        /* [size], NULL: alike */
    Dist *of;             /* the job of which this one is the first ranks; NULL: it is whole */
    Error fault;          /* what ended the job, on every rank; ST_OK: nothing has */
};

/* What each rank says when it comes to a call, and rank 0 answers. */
typedef enum CallKind { CALL_SAME, CALL_COMMON, CALL_GATHER, CALL_SPREAD, CALL_FIRST, CALL_EXCHANGE, CALL_END } CallKind;
typedef struct Word {
    uint64_t calls, bits;
    int32_t kind, status;
    uint8_t key[32];
    char text[ERROR_TEXT_MAX];
} Word;

/* How many ranks a launcher says that it started; 1: none did. */
static int launched_as(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *v = getenv(names[i]);
        if (v && atoi(v) > 1)
            return atoi(v);
    }
    return 1;
}

Status dist_open(Dist **out, const DistOps *const *rows, Error *err)
{
    Dist *d = mem_zarray(1, sizeof *d);
    if (!d)
        return error_nomem(err, "the ranks");
    while (!*rows || !(*rows)->launched())
        rows++;
    d->ops = *rows;
    Status st = d->ops->start(&d->port, err);
    if (st == ST_OK && d->ops->send && d->port.size == 1 && launched_as() > 1) {
        st = error_set(err, ST_USAGE, "started as one of %d ranks, but MPI finds no others: start it with the mpirun of this "
                                      "MPI, or with 'srun --mpi=pmix'", launched_as());
        dist_free(d);
        return st;
    }
    if (st == ST_OK && !d->ops->send && launched_as() > 1)
        st = error_set(err, ST_USAGE, "started as one of %d ranks, but this build has no MPI: 'make MPI=1' builds it with "
                                      "MPI, and without mpirun one process does all of it", launched_as());
    if (st != ST_OK) {
        free(d);
        return st;
    }
    *out = d;
    return ST_OK;
}

void dist_free(Dist *d)
{
    if (d && !d->of && d->ops->stop)
        d->ops->stop(&d->port);
    if (d && !d->of)
        free(d->speed);
    free(d);
}

Status dist_part(Dist **out, Dist *d, int n, Error *err)
{
    *out = NULL;
    if (dist_rank(d) >= n)
        return ST_OK;
    Dist *p = mem_zarray(1, sizeof *p);
    if (!p)
        return error_nomem(err, "the ranks");
    *p = (Dist){.ops = d->ops, .port = d->port, .speed = d->speed, .of = d};
    p->port.size = n;
    *out = p;
    return ST_OK;
}

int dist_rank(const Dist *d)
{
    return d ? d->port.rank : 0;
}

int dist_size(const Dist *d)
{
    return d ? d->port.size : 1;
}

int dist_here(const Dist *d)
{
    return d ? d->port.here : 1;
}

const double *dist_speeds(const Dist *d)
{
    return d ? d->speed : NULL;
}

uint64_t dist_sent(const Dist *d)
{
    return d ? d->sent : 0;
}

uint64_t dist_got(const Dist *d)
{
    return d ? d->got : 0;
}

/* ---- messages ---- */

static void put(Dist *d, int to, const void *data, size_t n)
{
    for (Dist *x = d; x; x = x->of)
        x->sent += n;
    d->ops->send(&d->port, to, data, n);
}

static bool take(Dist *d, int from, void *data, size_t n, int64_t until)
{
    const bool came = d->ops->recv(&d->port, from, data, n, until);
    for (Dist *x = d; x; x = x->of)
        x->got += came ? n : 0;
    return came;
}

/* ---- agreement ---- */

static void say_apart(Word *w, int rank)
{
    w->status = ST_INTERNAL;
    snprintf(w->text, sizeof w->text, "rank %d is at another step than rank 0", rank);
}

/* Rank 0: what a rank said joins the answer. The first that failed is told, rank 0 before the others. */
static void join(Word *all, const Word *w, int rank, const char *what)
{
    if (all->status != ST_OK)
        return;
    if (w->status != ST_OK) {
        all->status = w->status;
        snprintf(all->text, sizeof all->text, "rank %d: %.*s", rank, ERROR_TEXT_MAX - 20, w->text);
    } else if (w->kind != all->kind || w->calls != all->calls) {
        say_apart(all, rank);
    } else if (what && memcmp(w->key, all->key, sizeof w->key) != 0) {
        all->status = ST_USAGE;
        snprintf(all->text, sizeof all->text, "rank %d has another %.900s than rank 0", rank, what);
    }
    all->bits &= w->bits;
}

/* Rank 0 of a part that failed: the ranks that are none of it hear of it at the call at which they wait for the part. */
static void tell_others(Dist *d, const Word *w)
{
    Word spare;
    for (int r = d->port.size; d->of && r < d->of->port.size; r++) {
        take(d->of, r, &spare, sizeof spare, 0);
        put(d->of, r, w, sizeof *w);
    }
}

/* Everybody says its word to rank 0, which answers all. false: somebody was not heard until then (0: no end). */
static bool agree(Dist *d, Word *w, const char *what, int64_t until)
{
    w->calls = d->calls;
    if (d->port.rank > 0) {
        put(d, 0, w, sizeof *w);
        if (!take(d, 0, w, sizeof *w, until))
            return false;
    } else {
        Word *other = malloc(sizeof *other);
        if (!other) { /* the answer is awaited all the same */
            w->status = ST_NOMEM;
            snprintf(w->text, sizeof w->text, "not enough memory for a message");
        }
        Word spare;
        for (int r = 1; r < d->port.size; r++) {
            if (!take(d, r, other ? other : &spare, sizeof spare, until)) {
                free(other);
                return false;
            }
            join(w, other ? other : &spare, r, what);
        }
        free(other);
        for (int r = 1; r < d->port.size; r++)
            put(d, r, w, sizeof *w);
        if (w->status != ST_OK)
            tell_others(d, w);
    }
    d->calls++;
    for (Dist *x = d; x && w->status != ST_OK; x = x->of)
        error_set(&x->fault, (Status)w->status, "%s", w->text);
    return true;
}

static Status fault_of(const Dist *d, Error *err)
{
    return d->fault.status == ST_OK ? ST_OK : error_set(err, d->fault.status, "%s", d->fault.text);
}

/* Comes to a call of this kind. */
static Status meet(Dist *d, Word *w, const char *what, Error *err)
{
    if (d->fault.status == ST_OK)
        agree(d, w, what, 0);
    return fault_of(d, err);
}

Status dist_same(Dist *d, const char *what, const void *data, size_t n, Error *err)
{
    if (dist_size(d) == 1)
        return ST_OK;
    Word w = {.kind = CALL_SAME};
    const Digest key = digest_of(data, n);
    memcpy(w.key, key.b, sizeof w.key);
    return meet(d, &w, what, err);
}

Status dist_common(Dist *d, uint64_t *bits, Error *err)
{
    if (dist_size(d) == 1)
        return ST_OK;
    Word w = {.kind = CALL_COMMON, .bits = *bits};
    RETURN_IF_ERROR(meet(d, &w, NULL, err));
    *bits = w.bits;
    return ST_OK;
}

/* ---- data ---- */

/* Down a binomial tree whose root is `from`: each rank gets it once and hands it to at most log2(size) others. */
static void spread(Dist *d, int from, void *data, size_t n)
{
    int size = d->port.size, at = (d->port.rank - from + size) % size, bit = 1;
    while (bit < size && !(at & bit))
        bit <<= 1;
    if (at)
        take(d, (at - bit + from) % size, data, n, 0);
    for (bit >>= 1; bit; bit >>= 1)
        if (at + bit < size)
            put(d, (at + bit + from) % size, data, n);
}

void dist_packs_free(Pack *all, int n)
{
    for (int i = 0; all && i < n; i++)
        pack_fini(&all[i]);
    free(all);
}

/* Whether every rank has the memory that it needs for what comes. */
static Status have_room(Dist *d, CallKind kind, bool room, Error *err)
{
    Error own = {0};
    Word w = {.kind = kind, .status = room ? ST_OK : error_nomem(&own, "what the ranks gathered")};
    snprintf(w.text, sizeof w.text, "%s", own.text);
    if (dist_size(d) == 1)
        return room ? ST_OK : error_set(err, own.status, "%s", own.text);
    return meet(d, &w, NULL, err);
}

/* How long what each rank sends is, where it is asked for. */
static void gather_lengths(Dist *d, uint64_t mine, bool everywhere, uint64_t *len)
{
    const int size = dist_size(d), rank = dist_rank(d);
    len[rank] = mine;
    if (rank > 0)
        put(d, 0, &mine, sizeof mine);
    for (int r = 1; rank == 0 && r < size; r++)
        take(d, r, &len[r], sizeof *len, 0);
    if (everywhere && size > 1)
        spread(d, 0, len, (size_t)size * sizeof *len);
}

static void gather_data(Dist *d, const Pack *mine, bool everywhere, Pack *p)
{
    const int size = dist_size(d), rank = dist_rank(d);
    if (rank > 0)
        put(d, 0, mine->data, mine->len);
    else if (mine->len)
        memcpy(p[0].data, mine->data, mine->len);
    for (int r = 1; rank == 0 && r < size; r++)
        take(d, r, p[r].data, p[r].len, 0);
    for (int r = 0; everywhere && size > 1 && r < size; r++)
        spread(d, 0, p[r].data, p[r].len);
}

static Status gather(Dist *d, const Pack *mine, bool everywhere, Pack **all, Error *err)
{
    const int size = dist_size(d);
    const bool gets = everywhere || dist_rank(d) == 0;
    *all = NULL;
    Pack *p = mem_zarray((size_t)size, sizeof *p);
    uint64_t *len = mem_zarray((size_t)size, sizeof *len);
    Status st = have_room(d, CALL_GATHER, p && len && !mine->oom, err);
    if (st == ST_OK) {
        gather_lengths(d, mine->len, everywhere, len);
        bool room = true;
        for (int r = 0; gets && room && r < size; r++) {
            p[r] = (Pack){.data = malloc(len[r] + 1), .len = len[r], .cap = len[r]};
            room = p[r].data != NULL;
        }
        st = have_room(d, CALL_GATHER, room, err);
    }
    if (st == ST_OK)
        gather_data(d, mine, everywhere, p);
    free(len);
    if (st == ST_OK && gets) {
        *all = p;
        return ST_OK;
    }
    dist_packs_free(p, size);
    return st;
}

Status dist_gather(Dist *d, const Pack *mine, Pack **all, Error *err)
{
    return gather(d, mine, false, all, err);
}

Status dist_gather_all(Dist *d, const Pack *mine, Pack **all, Error *err)
{
    return gather(d, mine, true, all, err);
}

Status dist_set_speed(Dist *d, double mine, Error *err)
{
    enum { STEPS = 8 };
    const int size = dist_size(d);
    if (size == 1)
        return ST_OK;
    Pack p = {0}, *all;
    pack_f64(&p, mine);
    double *speed = mem_array((size_t)size, sizeof *speed), most = 0;
    p.oom = p.oom || !speed;
    Status st = dist_gather_all(d, &p, &all, err);
    pack_fini(&p);
    free(d->speed);
    d->speed = speed;
    RETURN_IF_ERROR(st);
    for (int r = 0; r < size; r++) {
        Unpack in = unpack_of(&all[r]);
        speed[r] = unpack_f64(&in);
        most = fmax(most, speed[r]);
    }
    for (int r = 0; r < size; r++)
        speed[r] = fmax(1, round(STEPS * speed[r] / most)) / STEPS;
    dist_packs_free(all, size);
    return ST_OK;
}

Status dist_take(Dist *d, Pack *state, Error *err)
{
    uint64_t n = 0;
    if (dist_rank(d) == 0)
        return ST_OK;
    take(d, d->port.rank - 1, &n, sizeof n, 0);
    *state = (Pack){.data = malloc(n + 1), .len = n, .cap = n};
    if (!state->data)
        return error_nomem(err, "a state of the rank before");
    take(d, d->port.rank - 1, state->data, n, 0);
    return ST_OK;
}

void dist_hand_on(Dist *d, const Pack *state)
{
    const uint64_t n = state->len;
    if (dist_rank(d) + 1 == dist_size(d))
        return;
    put(d, d->port.rank + 1, &n, sizeof n);
    put(d, d->port.rank + 1, state->data, n);
}

Status dist_hand_out(Dist *d, Pack *p, Error *err)
{
    uint64_t n = p->len;
    RETURN_IF_ERROR(have_room(d, CALL_FIRST, !p->oom, err));
    if (dist_size(d) == 1)
        return ST_OK;
    spread(d, 0, &n, sizeof n);
    if (dist_rank(d) > 0)
        *p = (Pack){.data = malloc(n + 1), .len = n, .cap = n};
    RETURN_IF_ERROR(have_room(d, CALL_FIRST, p->data || !n, err));
    if (n)
        spread(d, 0, p->data, n);
    return ST_OK;
}

Status dist_from(Dist *d, int rank, void *data, size_t n, Error *err)
{
    if (dist_size(d) == 1)
        return ST_OK;
    Word w = {.kind = CALL_SPREAD};
    RETURN_IF_ERROR(meet(d, &w, NULL, err));
    if (n)
        spread(d, rank, data, n);
    return ST_OK;
}

Status dist_from_last(Dist *d, void *data, size_t n, Error *err)
{
    return dist_from(d, dist_size(d) - 1, data, n, err);
}

Status dist_from_first(Dist *d, void *data, size_t n, Error *err)
{
    return dist_from(d, 0, data, n, err);
}

Status dist_meet(Dist *d, Error *err)
{
    return dist_from_first(d, NULL, 0, err);
}

/* The part of `owner`, to the next rank or from the one before. */
static void pass_on(Dist *d, unsigned char *data, const uint64_t *cut, int owner, bool on)
{
    const int size = d->port.size, rank = d->port.rank;
    if (on)
        put(d, (rank + 1) % size, data + cut[owner], cut[owner + 1] - cut[owner]);
    else
        take(d, (rank + size - 1) % size, data + cut[owner], cut[owner + 1] - cut[owner], 0);
}

Status dist_exchange(Dist *d, void *data, const uint64_t *cut, Error *err)
{
    const int size = dist_size(d), rank = dist_rank(d);
    if (size == 1)
        return ST_OK;
    Word w = {.kind = CALL_EXCHANGE};
    RETURN_IF_ERROR(meet(d, &w, NULL, err));
    for (int s = 0; s + 1 < size; s++) { /* sending waits for who gets it: every other rank gets first */
        const int mine = (rank + size - s) % size, next = (rank + size - s - 1) % size, first = rank % 2;
        pass_on(d, data, cut, first ? next : mine, !first);
        pass_on(d, data, cut, first ? mine : next, first);
    }
    return ST_OK;
}

Status dist_least(Dist *d, int64_t *v, Error *err)
{
    Pack mine = {0}, *all;
    if (dist_size(d) == 1)
        return ST_OK;
    pack_i64(&mine, *v);
    Status st = dist_gather_all(d, &mine, &all, err);
    for (int r = 0; st == ST_OK && r < dist_size(d); r++) {
        Unpack in = unpack_of(&all[r]);
        const int64_t other = unpack_i64(&in);
        *v = other < *v ? other : *v;
    }
    dist_packs_free(all, dist_size(d));
    pack_fini(&mine);
    return st;
}

/* ---- the end ---- */

Status dist_end(Dist *d, Status st, bool *heard, Error *err)
{
    *heard = true;
    if (dist_size(d) == 1)
        return st;
    if (d->fault.status != ST_OK) /* all of them know */
        return st == ST_OK ? fault_of(d, err) : st;
    Word w = {.kind = CALL_END, .status = (int32_t)st};
    if (st != ST_OK)
        snprintf(w.text, sizeof w.text, "%s", err->text);
    *heard = agree(d, &w, NULL, st == ST_OK ? 0 : clock_ns() + DIST_PATIENCE * 1000000000ll);
    return *heard && st == ST_OK ? fault_of(d, err) : st;
}

void dist_kill(Dist *d, int code)
{
    if (d && d->ops->kill)
        d->ops->kill(&d->port, code);
}
