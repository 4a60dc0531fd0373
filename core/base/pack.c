#include "base/pack.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void pack_put(Pack *p, const void *data, size_t n)
{
    if (p->oom || !mem_grow(&p->data, &p->cap, p->len + n, 1)) {
        p->oom = true;
        return;
    }
    if (n)
        memcpy(p->data + p->len, data, n);
    p->len += n;
}

void pack_i64(Pack *p, int64_t v)
{
    pack_put(p, &v, sizeof v);
}

void pack_f64(Pack *p, double v)
{
    pack_put(p, &v, sizeof v);
}

void pack_fini(Pack *p)
{
    free(p->data);
    *p = (Pack){0};
}

Unpack unpack_of(const Pack *p)
{
    return (Unpack){.at = p->data, .end = p->data ? p->data + p->len : NULL, .bad = p->oom};
}

void unpack_get(Unpack *u, void *out, size_t n)
{
    u->bad = u->bad || n > (size_t)(u->end - u->at);
    if (u->bad) {
        memset(out, 0, n);
        return;
    }
    if (n)
        memcpy(out, u->at, n);
    u->at += n;
}

int64_t unpack_i64(Unpack *u)
{
    int64_t v;
    unpack_get(u, &v, sizeof v);
    return v;
}

double unpack_f64(Unpack *u)
{
    double v;
    unpack_get(u, &v, sizeof v);
    return v;
}

void *unpack_array(Unpack *u, int64_t n, size_t size)
{
    bool fits = !u->bad && n >= 0 && (uint64_t)n <= (uint64_t)(u->end - u->at) / size;
    void *out = fits ? mem_array((size_t)n, size) : NULL;
    u->bad = !out;
    if (out)
        unpack_get(u, out, (size_t)n * size);
    return out;
}
