#ifndef SLIM_BASE_HASH_H
#define SLIM_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include <nettle/sha2.h>

/* Content fingerprints (SHA-256, through nettle). */
typedef struct Digest {
    uint8_t b[32];
} Digest;

typedef struct Hasher {
    struct sha256_ctx ctx;
} Hasher;

void hasher_init(Hasher *h);
void hasher_bytes(Hasher *h, const void *p, size_t n);
/* Adds the length, then the bytes: unambiguous in a sequence of strings. */
void hasher_str(Hasher *h, const char *s);
void hasher_u64(Hasher *h, uint64_t v); /* little endian */
Digest hasher_end(Hasher *h);
Digest digest_of(const void *p, size_t n);
/* 64 lower-case hex digits and a NUL. */
void digest_hex(const Digest *d, char out[65]);
int digest_cmp(const Digest *a, const Digest *b);

#endif
