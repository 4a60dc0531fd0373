#ifndef SLIM_MEASURE_STATECACHE_H
#define SLIM_MEASURE_STATECACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"

/* Blocks of bytes under content addresses: least recently used first out of RAM, from there into a folder when one is
 * given, with a cap for each. It is a cache: whatever goes wrong with the folder only means that less is found, and a
 * damaged file is never handed out. put and get belong to one thread; has may be called from any other meanwhile. */
typedef struct StateCache StateCache;

/* dir NULL: RAM only. The folder is made when the first block is spilled; blocks that an earlier run left there are
 * found again. */
Status statecache_new(StateCache **out, uint64_t ram_bytes, const char *dir, uint64_t dir_bytes, Error *err);
void statecache_free(StateCache *c);

/* One piece of a block. */
typedef struct StatePart {
    void *data;
    size_t size;
} StatePart;

/* Keeps a copy of the parts, one after the other, unless it can't be kept (larger than the cap, memory short). */
void statecache_put(StateCache *c, const Digest *key, const StatePart *parts, int n);
/* Fills the parts. false when the key is absent, its size differs from the parts' sum, or its file is damaged (which is
 * then removed). */
bool statecache_get(StateCache *c, const Digest *key, const StatePart *parts, int n);
bool statecache_has(StateCache *c, const Digest *key);
/* A new cap for RAM: the least recently used go, into the folder when one is given, until it is kept. */
void statecache_limit(StateCache *c, uint64_t ram_bytes);
/* Bytes held now. */
uint64_t statecache_ram_bytes(StateCache *c);
uint64_t statecache_dir_bytes(StateCache *c);

#endif
