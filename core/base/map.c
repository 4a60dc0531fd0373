#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct MapSlot {
    const char *key; /* NULL: empty */
    uint32_t len, hash;
    int64_t value;
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
    const struct MapSlot *s = m->slots;
    for (; s[i].key; i = (i + 1) & (m->cap - 1))
        if (s[i].hash == hash && s[i].len == len && memcmp(s[i].key, key, len) == 0)
            break;
    return i;
}

/* Whose keys differ: none is compared. */
static void move(struct MapSlot *slots, size_t cap, const struct MapSlot *from)
{
    size_t i = from->hash & (cap - 1);
    while (slots[i].key)
        i = (i + 1) & (cap - 1);
    slots[i] = *from;
}

static bool rehash(Map *m, size_t cap)
{
    struct MapSlot *slots = mem_zarray(cap, sizeof *slots);
    if (!slots)
        return false;
    mem_prefer_huge(slots, cap * sizeof *slots);
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].key)
            move(slots, cap, &m->slots[i]);
    free(m->slots);
    m->slots = slots;
    m->cap = cap;
    return true;
}

/* Whether so many keys leave a quarter of the slots empty. */
static bool fits(size_t cap, size_t count)
{
    return count <= cap / 4 * 3;
}

bool map_reserve(Map *m, size_t count)
{
    size_t cap = m->cap ? m->cap : 64;
    while (!fits(cap, count) && cap <= SIZE_MAX / 2)
        cap *= 2;
    return cap == m->cap || rehash(m, cap);
}

bool map_add(Map *m, const char *key, size_t len, int64_t value, bool *added)
{
    if (!fits(m->cap, m->count + 1) && !map_reserve(m, m->count + 1))
        return false;
    uint32_t hash = (uint32_t)hash_bytes(key, len);
    struct MapSlot *s = &m->slots[probe(m, hash & (m->cap - 1), key, len, hash)];
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
    uint32_t hash = (uint32_t)hash_bytes(key, len);
    const struct MapSlot *s = &m->slots[probe(m, hash & (m->cap - 1), key, len, hash)];
    return s->key ? s->value : missing;
}

MapSeek map_seek(const Map *m, const char *key, size_t len)
{
    uint32_t hash = (uint32_t)hash_bytes(key, len);
    size_t slot = m->cap ? hash & (m->cap - 1) : 0;
    if (m->cap)
        __builtin_prefetch(&m->slots[slot]);
    return (MapSeek){.key = key, .len = (uint32_t)len, .hash = hash, .slot = slot};
}

void map_near(const Map *m, MapSeek *at)
{
    const struct MapSlot *s = m->slots;
    if (!m->cap)
        return;
    while (s[at->slot].key && (s[at->slot].hash != at->hash || s[at->slot].len != at->len))
        at->slot = (at->slot + 1) & (m->cap - 1);
    __builtin_prefetch(s[at->slot].key);
}

int64_t map_sought(const Map *m, const MapSeek *at, int64_t missing)
{
    if (!m->cap)
        return missing;
    const struct MapSlot *s = &m->slots[probe(m, at->slot, at->key, at->len, at->hash)];
    return s->key ? s->value : missing;
}

void map_free(Map *m)
{
    free(m->slots);
    memset(m, 0, sizeof *m);
}
