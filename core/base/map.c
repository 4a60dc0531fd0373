#include "base/map.h"

#include <stdlib.h>
#include <string.h>

struct MapSlot {
    const char *key; /* NULL: empty */
    uint32_t len, hash;
    int64_t value;
};

/* 64-bit hash of bytes (FNV-1a, finalised): for tables only, not for fingerprints. */
static uint64_t hash_bytes(const void *p, size_t n)
{
    const unsigned char *s = p;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ s[i]) * 0x100000001b3u;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    return h ^ h >> 33;
}

static struct MapSlot *probe(struct MapSlot *slots, size_t cap, const char *key, size_t len, uint32_t hash)
{
    size_t i = hash & (cap - 1);
    while (slots[i].key && !(slots[i].hash == hash && slots[i].len == len && memcmp(slots[i].key, key, len) == 0))
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

static bool rehash(Map *m)
{
    size_t cap = m->cap ? m->cap * 2 : 64;
    struct MapSlot *slots = calloc(cap, sizeof *slots);
    if (!slots)
        return false;
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].key)
            *probe(slots, cap, m->slots[i].key, m->slots[i].len, m->slots[i].hash) = m->slots[i];
    free(m->slots);
    m->slots = slots;
    m->cap = cap;
    return true;
}

bool map_add(Map *m, const char *key, size_t len, int64_t value, bool *added)
{
    if ((m->count + 1) * 4 > m->cap * 3 && !rehash(m))
        return false;
    uint32_t hash = (uint32_t)hash_bytes(key, len);
    struct MapSlot *s = probe(m->slots, m->cap, key, len, hash);
    if (added)
        *added = !s->key;
    if (!s->key) {
        *s = (struct MapSlot){.key = key, .len = (uint32_t)len, .hash = hash, .value = value};
        m->count++;
    }
    return true;
}

int64_t map_get(const Map *m, const char *key, size_t len, int64_t missing)
{
    if (!m->cap)
        return missing;
    const struct MapSlot *s = probe(m->slots, m->cap, key, len, (uint32_t)hash_bytes(key, len));
    return s->key ? s->value : missing;
}

void map_free(Map *m)
{
    free(m->slots);
    memset(m, 0, sizeof *m);
}
