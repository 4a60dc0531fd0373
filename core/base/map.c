#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct MapEntry {
    const char *key;
    int64_t value;
    uint32_t len, hash;
};

/* Small, so that most of a table is near: a key that is not there costs a look at it alone. */
struct MapSlot {
    uint32_t hash;
    uint32_t number; /* of the entry, plus 1; 0: empty */
};

static uint64_t word(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The last n < 8 bytes of a key, every one of them in the result. */
static uint64_t tail(const unsigned char *p, size_t n)
{
    uint32_t a, b;
    if (n >= 4) {
        memcpy(&a, p, 4);
        memcpy(&b, p + n - 4, 4);
        return (uint64_t)a << 32 | b;
    }
    return n ? (uint64_t)p[0] << 16 | (uint64_t)p[n / 2] << 8 | p[n - 1] : 0;
}

static uint64_t mix(uint64_t h, uint64_t w)
{
    h = (h ^ w) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

/* 64-bit hash of bytes, eight at a time: for tables only, not for fingerprints. */
static uint64_t hash_bytes(const void *p, size_t n)
{
    const unsigned char *s = p;
    uint64_t h = n * 0xff51afd7ed558ccdu;
    size_t i = 0;
    for (; n - i >= 8; i += 8)
        h = mix(h, word(s + i));
    h = mix(h, tail(s + i, n - i));
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 29;
}

/* Where the key is from slot i on, or the empty slot for it. */
static size_t probe(const Map *m, size_t i, const char *key, size_t len, uint32_t hash)
{
    for (; m->slot[i].number; i = (i + 1) & (m->cap - 1)) {
        const struct MapEntry *e = &m->entry[m->slot[i].number - 1];
        if (m->slot[i].hash == hash && e->len == len && memcmp(e->key, key, len) == 0)
            break;
    }
    return i;
}

/* Makes the table anew. */
static bool rehash(Map *m, size_t cap)
{
    struct MapSlot *slot = mem_zarray(cap, sizeof *slot);
    if (!slot)
        return false;
    mem_prefer_huge(slot, cap * sizeof *slot);
    for (size_t k = 0; k < m->count; k++) {
        size_t i = m->entry[k].hash & (cap - 1);
        while (slot[i].number)
            i = (i + 1) & (cap - 1);
        slot[i] = (struct MapSlot){.hash = m->entry[k].hash, .number = (uint32_t)k + 1};
    }
    free(m->slot);
    m->slot = slot;
    m->cap = cap;
    return true;
}

bool map_reserve(Map *m, size_t count)
{
    size_t cap = m->cap ? m->cap : 64;
    if (count >= UINT32_MAX || !mem_grow(&m->entry, &m->room, count, sizeof *m->entry))
        return false;
    while (count > cap / 8 * 5) /* beyond, a key is looked for in many slots */
        cap *= 2;
    return cap == m->cap || rehash(m, cap);
}

bool map_add(Map *m, const char *key, size_t len, int64_t value, bool *added)
{
    if ((m->count == m->room || m->count + 1 > m->cap / 8 * 5) && !map_reserve(m, m->count + 1))
        return false;
    uint32_t hash = (uint32_t)hash_bytes(key, len);
    struct MapSlot *s = &m->slot[probe(m, hash & (m->cap - 1), key, len, hash)];
    if (added)
        *added = !s->number;
    if (!s->number) {
        m->entry[m->count++] = (struct MapEntry){.key = key, .value = value, .len = (uint32_t)len, .hash = hash};
        *s = (struct MapSlot){.hash = hash, .number = (uint32_t)m->count};
    }
    return true;
}

int64_t map_get(const Map *m, const char *key, size_t len, int64_t missing)
{
    if (!m->cap)
        return missing;
    uint32_t hash = (uint32_t)hash_bytes(key, len), number;
    number = m->slot[probe(m, hash & (m->cap - 1), key, len, hash)].number;
    return number ? m->entry[number - 1].value : missing;
}

MapSeek map_seek(const Map *m, const char *key, size_t len)
{
    uint32_t hash = (uint32_t)hash_bytes(key, len);
    size_t slot = m->cap ? hash & (m->cap - 1) : 0;
    if (m->cap)
        __builtin_prefetch(&m->slot[slot]);
    return (MapSeek){.key = key, .len = (uint32_t)len, .hash = hash, .slot = slot};
}

void map_near(const Map *m, MapSeek *at)
{
    if (!m->cap)
        return;
    while (m->slot[at->slot].number && m->slot[at->slot].hash != at->hash)
        at->slot = (at->slot + 1) & (m->cap - 1);
    if (m->slot[at->slot].number)
        __builtin_prefetch(&m->entry[m->slot[at->slot].number - 1]);
}

int64_t map_sought(const Map *m, const MapSeek *at, int64_t missing)
{
    uint32_t number = m->cap ? m->slot[probe(m, at->slot, at->key, at->len, at->hash)].number : 0;
    return number ? m->entry[number - 1].value : missing;
}

void map_free(Map *m)
{
    free(m->entry);
    free(m->slot);
    memset(m, 0, sizeof *m);
}
