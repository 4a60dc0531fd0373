#ifndef SLIM_BASE_PACK_H
#define SLIM_BASE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* State as bytes, for a process of the same program on the same kind of machine: values stand as they do in memory. */
typedef struct Pack {
    unsigned char *data;
    size_t len, cap;
    bool oom; /* memory was short: what was put in since is missing */
} Pack;
void pack_put(Pack *p, const void *data, size_t n);
void pack_i64(Pack *p, int64_t v);
void pack_f64(Pack *p, double v);
void pack_fini(Pack *p);

/* Reads what was put in, in the same order. */
typedef struct Unpack {
    const unsigned char *at, *end;
    bool bad; /* more was asked for than there is: zeros were given */
} Unpack;
Unpack unpack_of(const Pack *p);
void unpack_get(Unpack *u, void *out, size_t n);
int64_t unpack_i64(Unpack *u);
double unpack_f64(Unpack *u);
/* The next n*size bytes in an allocation of their own; NULL, and bad, when there are fewer or memory is short. */
void *unpack_array(Unpack *u, int64_t n, size_t size);

#endif
