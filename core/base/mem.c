#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/ascii.h"

void *mem_array(size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total))
        return NULL;
    return malloc(total ? total : 1);
}

void *mem_zarray(size_t n, size_t size)
{
    return calloc(n ? n : 1, size ? size : 1);
}

void *mem_aligned(size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total) || total > SIZE_MAX - 63)
        return NULL;
    total = (total + 63) & ~(size_t)63;
    return aligned_alloc(64, total ? total : 64);
}

bool mem_grow(void *ptr_to_ptr, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap)
        return true;
    size_t n = *cap ? *cap : 8;
    while (n < need)
        if (__builtin_mul_overflow(n, (size_t)2, &n))
            return false;
    size_t total;
    if (__builtin_mul_overflow(n, size, &total))
        return false;
    void *old;
    memcpy(&old, ptr_to_ptr, sizeof old);
    void *p = realloc(old, total);
    if (!p)
        return false;
    memcpy(ptr_to_ptr, &p, sizeof p);
    *cap = n;
    return true;
}

void mem_prefer_huge(void *p, size_t bytes)
{
    enum { HUGE = 1 << 21 };
    uintptr_t at = ((uintptr_t)p + HUGE - 1) & ~(uintptr_t)(HUGE - 1), end = (uintptr_t)p + bytes;
    if (end > at + HUGE)
        madvise((void *)at, (end - at) & ~(size_t)(HUGE - 1), MADV_HUGEPAGE);
}

bool mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* Reads a small file into buf (NUL-terminated); false when it can't be read. */
static bool read_small(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n;
    do
        n = read(fd, buf, size - 1);
    while (n < 0 && errno == EINTR);
    close(fd);
    if (n < 0)
        return false;
    buf[n] = 0;
    return true;
}

/* VmHWM is this program's own; what getrusage tells survives exec and may be that of a large parent. */
uint64_t mem_peak_bytes(void)
{
    char buf[4096];
    const char *line = read_small("/proc/self/status", buf, sizeof buf) ? strstr(buf, "VmHWM:") : NULL;
    if (line)
        return strtoull(line + 6, NULL, 10) * 1024;
    struct rusage ru;
    return getrusage(RUSAGE_SELF, &ru) == 0 ? (uint64_t)ru.ru_maxrss * 1024 : 0;
}

void mem_peak_reset(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = write(fd, "5", 1); /* proc(5): resets VmHWM */
    (void)n;
    close(fd);
}

uint64_t mem_resident_bytes(void)
{
    char buf[128], *end;
    if (!read_small("/proc/self/statm", buf, sizeof buf))
        return 0;
    strtoull(buf, &end, 10);
    return strtoull(end, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* A number in DIR/FILE; false when there is none ("max"). */
static bool read_number(const char *dir, const char *file, uint64_t *out)
{
    char path[PATH_MAX], buf[64];
    int n = snprintf(path, sizeof path, "%s/%s", dir, file);
    if (n < 0 || (size_t)n >= sizeof path || !read_small(path, buf, sizeof buf) || !ascii_is_digit(buf[0]))
        return false;
    *out = strtoull(buf, NULL, 10);
    return true;
}

uint64_t mem_cgroup_left(const char *self, const char *root)
{
    char buf[PATH_MAX], dir[PATH_MAX];
    const char *own = read_small(self, buf, sizeof buf) ? strstr(buf, "0::/") : NULL;
    int n = snprintf(dir, sizeof dir, "%s%.*s", root, own ? (int)strcspn(own + 3, "\n") : 0, own ? own + 3 : "");
    uint64_t least = UINT64_MAX, limit, now;
    if (n < 0 || (size_t)n >= sizeof dir)
        return least;
    for (size_t top = strlen(root);;) {
        if (read_number(dir, "memory.max", &limit) && read_number(dir, "memory.current", &now)) {
            uint64_t left = limit > now ? limit - now : 0;
            least = left < least ? left : least;
        }
        char *slash = strrchr(dir, '/');
        if (!slash || slash < dir + top)
            return least;
        *slash = 0;
    }
}

uint64_t mem_available_bytes(void)
{
    char buf[8192];
    uint64_t avail = 0;
    if (read_small("/proc/meminfo", buf, sizeof buf)) {
        const char *p = strstr(buf, "MemAvailable:");
        if (p)
            avail = strtoull(p + 13, NULL, 10) * 1024;
    }
    uint64_t left = mem_cgroup_left("/proc/self/cgroup", "/sys/fs/cgroup");
    if (left != UINT64_MAX && (avail == 0 || left < avail))
        avail = left;
    return avail;
}

struct ArenaBlock {
    ArenaBlock *next;
    size_t size, used;
    _Alignas(16) unsigned char data[];
};

void *arena_alloc(Arena *a, size_t n)
{
    if (n > SIZE_MAX - 4096)
        return NULL;
    n = (n + 15) & ~(size_t)15;
    if (!a->head || a->head->size - a->head->used < n) {
        size_t size = a->head ? a->head->size * 2 : 4096 - sizeof(ArenaBlock);
        if (size > (1u << 20))
            size = 1u << 20;
        if (size < n)
            size = n;
        ArenaBlock *b = malloc(sizeof *b + size);
        if (!b)
            return NULL;
        b->next = a->head;
        b->size = size;
        b->used = 0;
        a->head = b;
    }
    void *p = a->head->data + a->head->used;
    a->head->used += n;
    a->used += n;
    return p;
}

char *arena_strndup(Arena *a, const char *s, size_t n)
{
    char *p = arena_alloc(a, n + 1);
    if (p) {
        memcpy(p, s, n);
        p[n] = 0;
    }
    return p;
}

char *arena_strdup(Arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

void arena_free(Arena *a)
{
    while (a->head) {
        ArenaBlock *next = a->head->next;
        free(a->head);
        a->head = next;
    }
    a->used = 0;
}
