#include "run/shelf.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "model/weight.h"

enum { READ_STEP = 4 << 20 }; /* bytes that one task reads */

/* A tensor of the unit; `at`: its first byte in the buffer. */
typedef struct Book {
    const TensorInfo *tensor;
    uint64_t at;
} Book;

struct Shelf {
    const Model *m;
    Dist *dist;
    unsigned char *data;
    uint64_t cap, bytes;
    uint64_t *cut;        /* [ranks + 1] of the buffer: who reads what */
    Book *book;           /* [n], by address of the tensor */
    int64_t n;
    int unit;             /* -1: none */
    pthread_mutex_t lock; /* of `there`, and of the buffer while it is copied from */
    bool there;
    /* the first fault of a reading */
    int64_t fault_at;
    Error fault;
};

static int by_place(const void *a, const void *b)
{
    const TensorInfo *x = ((const Book *)a)->tensor, *y = ((const Book *)b)->tensor;
    return x < y ? -1 : x > y;
}

/* The tensors that linears of the unit read, each once, into book[2 * count]; their bytes together. */
static uint64_t list_books(const Model *m, const Unit *u, Book *book, int64_t *n)
{
    int64_t all = 0, some = 0;
    for (int64_t i = u->first; i < u->first + u->count; i++) {
        const Linear *l = &m->linears[i];
        book[all++].tensor = l->weight;
        if (l->store && l->store->scale)
            book[all++].tensor = l->store->scale;
    }
    qsort(book, (size_t)all, sizeof *book, by_place);
    uint64_t bytes = 0;
    for (int64_t i = 0; i < all; i++) {
        if (some && book[some - 1].tensor == book[i].tensor)
            continue;
        book[some++] = (Book){book[i].tensor, bytes};
        bytes += book[i].tensor->nbytes;
    }
    *n = some;
    return bytes;
}

uint64_t shelf_bytes(const Model *m)
{
    uint64_t most = 0;
    int64_t n;
    Book *book = mem_array((size_t)(2 * model_most_linears(m)) + 1, sizeof *book);
    for (int i = 0; book && i < m->nunits; i++)
        most = max_u64(most, list_books(m, &m->units[i], book, &n));
    free(book);
    return most;
}

Status shelf_new(Shelf **out, const Model *m, Dist *dist, Error *err)
{
    Shelf *s = mem_zarray(1, sizeof *s);
    *out = s;
    if (!s)
        return error_nomem(err, "a layer's weights");
    *s = (Shelf){.m = m, .dist = dist, .unit = -1, .cap = shelf_bytes(m)};
    pthread_mutex_init(&s->lock, NULL);
    s->data = mem_aligned((size_t)s->cap + 1, 1);
    s->cut = mem_array((size_t)dist_size(dist) + 1, sizeof *s->cut);
    s->book = mem_array((size_t)(2 * model_most_linears(m)) + 1, sizeof *s->book);
    if (s->data && s->cut && s->book)
        return ST_OK;
    shelf_free(s);
    *out = NULL;
    return error_nomem(err, "a layer's weights");
}

void shelf_free(Shelf *s)
{
    if (!s)
        return;
    pthread_mutex_destroy(&s->lock);
    free(s->data);
    free(s->cut);
    free(s->book);
    free(s);
}

static void set_there(Shelf *s, bool there)
{
    pthread_mutex_lock(&s->lock);
    s->there = there;
    pthread_mutex_unlock(&s->lock);
}

/* Bytes [a, b) of the buffer out of the files. */
static Status read_range(Shelf *s, uint64_t a, uint64_t b, Error *err)
{
    int64_t i = 0, end = s->n;
    while (end - i > 1) {
        const int64_t mid = i + (end - i) / 2;
        if (s->book[mid].at <= a)
            i = mid;
        else
            end = mid;
    }
    for (; i < s->n && s->book[i].at < b; i++) {
        const TensorInfo *t = s->book[i].tensor;
        const uint64_t at = s->book[i].at, from = max_u64(a, at), to = min_u64(b, at + t->nbytes);
        if (from < to)
            RETURN_IF_ERROR(checkpoint_read(s->m->ckpt, t, from - at, to - from, s->data + from, err));
    }
    return ST_OK;
}

static void read_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    Shelf *s = ctx;
    Error err = {0};
    const int rank = dist_rank(s->dist);
    const uint64_t a = s->cut[rank] + (uint64_t)index * READ_STEP, b = min_u64(a + READ_STEP, s->cut[rank + 1]);
    if (read_range(s, a, b, &err) == ST_OK)
        return;
    pthread_mutex_lock(&s->lock);
    if (s->fault.status == ST_OK || index < s->fault_at) {
        s->fault = err;
        s->fault_at = index;
    }
    pthread_mutex_unlock(&s->lock);
}

Status shelf_hold(Shelf *s, int unit, Pool *pool, const Cancel *cancel, Error *err)
{
    const int size = dist_size(s->dist), rank = dist_rank(s->dist);
    if (s->unit == unit)
        return ST_OK;
    set_there(s, false);
    s->unit = -1;
    s->bytes = list_books(s->m, &s->m->units[unit], s->book, &s->n);
    s->fault = (Error){0};
    for (int r = 0; r <= size; r++)
        s->cut[r] = (uint64_t)((double)s->bytes * r / size);
    s->cut[size] = s->bytes;
    pool_run(pool, PHASE_READ, div_up((int64_t)(s->cut[rank + 1] - s->cut[rank]), READ_STEP), read_task, s, cancel);
    RETURN_IF_ERROR(cancel_check(cancel, err));
    if (s->fault.status != ST_OK)
        return error_set(err, s->fault.status, "%s", s->fault.text);
    RETURN_IF_ERROR(dist_exchange(s->dist, s->data, s->cut, err));
    s->unit = unit;
    set_there(s, true);
    return ST_OK;
}

bool shelf_copy(Shelf *s, const TensorInfo *t, uint64_t begin, uint64_t n, void *dst)
{
    const Book key = {.tensor = t};
    pthread_mutex_lock(&s->lock);
    const Book *b = s->there ? bsearch(&key, s->book, (size_t)s->n, sizeof key, by_place) : NULL;
    if (b && n)
        memcpy(dst, s->data + b->at + begin, (size_t)n);
    pthread_mutex_unlock(&s->lock);
    return b != NULL;
}
