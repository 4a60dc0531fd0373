#include "base/hash.h"

#include <string.h>

void hasher_init(Hasher *h)
{
    sha256_init(&h->ctx);
}

void hasher_bytes(Hasher *h, const void *p, size_t n)
{
    sha256_update(&h->ctx, n, p);
}

void hasher_str(Hasher *h, const char *s)
{
    size_t n = strlen(s);
    hasher_u64(h, n);
    hasher_bytes(h, s, n);
}

void hasher_u64(Hasher *h, uint64_t v)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> 8 * i);
    hasher_bytes(h, b, sizeof b);
}

Digest hasher_end(Hasher *h)
{
    Digest d;
    sha256_digest(&h->ctx, sizeof d.b, d.b);
    return d;
}

Digest digest_of(const void *p, size_t n)
{
    Hasher h;
    hasher_init(&h);
    hasher_bytes(&h, p, n);
    return hasher_end(&h);
}

void digest_hex(const Digest *d, char out[65])
{
    static const char hex[] = "0123456789abcdef";
    for (int i = 0; i < 32; i++) {
        out[2 * i] = hex[d->b[i] >> 4];
        out[2 * i + 1] = hex[d->b[i] & 15];
    }
    out[64] = 0;
}

int digest_cmp(const Digest *a, const Digest *b)
{
    return memcmp(a->b, b->b, sizeof a->b);
}
