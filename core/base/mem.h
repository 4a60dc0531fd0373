#ifndef SLIM_BASE_MEM_H
#define SLIM_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* malloc of n*size bytes; NULL on overflow or when memory is short. n*size == 0 gives a freeable pointer. */
void *mem_array(size_t n, size_t size);
/* As mem_array, zeroed. */
void *mem_zarray(size_t n, size_t size);
/* n*size bytes aligned to 64 (cache line, SIMD); freed with free(). Not zeroed. */
void *mem_aligned(size_t n, size_t size);
/* Grows *ptr (elements of `size` bytes, capacity *cap) to hold at least `need` elements, doubling.
 * false when memory is short; *ptr and *cap then stay valid. */
bool mem_grow(void *ptr_to_ptr, size_t *cap, size_t need, size_t size);
/* Asks for huge pages under a large array that is reached into at random: most of the time would go into page walks. */
void mem_prefer_huge(void *p, size_t bytes);
/* a*b into *out; false on overflow. */
bool mul_i64(int64_t a, int64_t b, int64_t *out);
/* Highest resident set of this process in bytes, since it began or since mem_peak_reset (0 where unknown). */
uint64_t mem_peak_bytes(void);
/* Begins to look for it anew, where the system lets it. */
void mem_peak_reset(void);
/* Resident set of this process now in bytes (0 where unknown). */
uint64_t mem_resident_bytes(void);
/* MemAvailable of this machine in bytes, capped by the limits of the cgroups this process is in (0 where unknown). */
uint64_t mem_available_bytes(void);
/* Bytes that the limits of a cgroup (version 2) and of all above it still leave; UINT64_MAX where none is set. `self`
 * is a /proc/PID/cgroup file, `root` where the hierarchy is mounted. */
uint64_t mem_cgroup_left(const char *self, const char *root);

/* Arena: many small allocations, freed together. Zero-initialise to start. */
typedef struct ArenaBlock ArenaBlock;
typedef struct Arena {
    ArenaBlock *head;
    size_t used; /* bytes handed out, for accounting */
} Arena;
/* n bytes aligned to 16, NULL when memory is short. */
void *arena_alloc(Arena *a, size_t n);
char *arena_strndup(Arena *a, const char *s, size_t n);
char *arena_strdup(Arena *a, const char *s);
void arena_free(Arena *a);

#endif
