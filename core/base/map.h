#ifndef SLIM_BASE_MAP_H
#define SLIM_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Hash map from byte strings to int64. Keys are borrowed: the caller keeps them alive. Zero-initialise to start. */
typedef struct Map {
    struct MapSlot *slots;
    size_t cap, count;
} Map;

/* Adds key or, when it is there already, leaves the map as it is. *added (may be NULL) tells. false when memory is
 * short. */
bool map_add(Map *m, const char *key, size_t len, int64_t value, bool *added);
/* Value of key, or `missing`. */
int64_t map_get(const Map *m, const char *key, size_t len, int64_t missing);
void map_free(Map *m);

#endif
