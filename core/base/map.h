#ifndef SLIM_BASE_MAP_H
#define SLIM_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Hash map from byte strings to int64. Keys are borrowed: the caller keeps them alive. Zero-initialise to start. */
typedef struct Map {
    struct MapEntry *entry; /* [count] in the order in which they were added */
    struct MapSlot *slot;   /* [cap] hash table of their numbers */
    size_t count, room, cap;
} Map;

/* Makes room for `count` keys, in place of growing step by step; false when memory is short. */
bool map_reserve(Map *m, size_t count);
/* Adds key or, when it is there already, leaves the map as it is. *added (may be NULL) tells. false when memory is
 * short. */
bool map_add(Map *m, const char *key, size_t len, int64_t value, bool *added);
/* Value of key, or `missing`. */
int64_t map_get(const Map *m, const char *key, size_t len, int64_t missing);
void map_free(Map *m);

/* Many keys at once, for large maps: what each needs is on its way from memory while others are looked at. First
 * map_seek for every key, then map_near for every one, then map_sought, which gives what map_get does. The map may not
 * change in between. */
typedef struct MapSeek {
    const char *key;
    uint32_t len, hash;
    size_t slot; /* where it is looked for next */
} MapSeek;
MapSeek map_seek(const Map *m, const char *key, size_t len);
void map_near(const Map *m, MapSeek *at);
int64_t map_sought(const Map *m, const MapSeek *at, int64_t missing);

#endif
