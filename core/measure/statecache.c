#include "measure/statecache.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"

/* A block in RAM (data set), or a file of the folder (data NULL). */
typedef struct CacheBlock {
    Digest key;
    uint8_t *data;
    uint64_t size;
    uint64_t used; /* grows with every use; of a file found at the start: its time */
} CacheBlock;

typedef struct Shelf {
    CacheBlock *e;
    size_t n, cap;
    uint64_t bytes, limit;
} Shelf;

struct StateCache {
    pthread_mutex_t lock; /* guards both shelves; held for look-ups and list edits, never for a copy or a file */
    Shelf ram, disk;
    char *dir;
    bool dir_made, dir_broken;
    uint64_t clock;
};

/* ---- shelves ---- */

static CacheBlock *shelf_find(Shelf *s, const Digest *key)
{
    for (size_t i = 0; i < s->n; i++)
        if (digest_cmp(&s->e[i].key, key) == 0)
            return &s->e[i];
    return NULL;
}

static bool shelf_add(Shelf *s, CacheBlock e)
{
    if (!mem_grow(&s->e, &s->cap, s->n + 1, sizeof *s->e))
        return false;
    s->e[s->n++] = e;
    s->bytes += e.size;
    return true;
}

static CacheBlock shelf_take(Shelf *s, CacheBlock *at)
{
    CacheBlock e = *at;
    *at = s->e[--s->n];
    s->bytes -= e.size;
    return e;
}

static CacheBlock *shelf_oldest(Shelf *s)
{
    CacheBlock *o = NULL;
    for (size_t i = 0; i < s->n; i++)
        if (!o || s->e[i].used < o->used)
            o = &s->e[i];
    return o;
}

/* ---- files: magic, key, length, SHA-256 of the bytes, the bytes ---- */

static const char magic[8] = {'s', 'l', 'i', 'm', 's', 't', '0', '1'};
enum { HEAD = 8 + 32 + 8 + 32, HEX = 64 };
static const char suffix[] = ".state";

static char *entry_path(const StateCache *c, const Digest *key)
{
    char name[HEX + sizeof suffix + 1];
    digest_hex(key, name);
    memcpy(name + HEX, suffix, sizeof suffix);
    return path_join(c->dir, name);
}

static void remove_file(StateCache *c, const Digest *key)
{
    char *path = entry_path(c, key);
    if (path)
        unlink(path);
    free(path);
}

static bool parse_name(const char *name, Digest *key)
{
    if (strlen(name) != HEX + sizeof suffix - 1 || strcmp(name + HEX, suffix) != 0)
        return false;
    for (int i = 0; i < HEX; i++) {
        const char *digits = "0123456789abcdef", *at = strchr(digits, name[i]);
        if (!at)
            return false;
        uint8_t v = (uint8_t)(at - digits);
        key->b[i / 2] = (uint8_t)(i % 2 ? key->b[i / 2] | v : v << 4);
    }
    return true;
}

/* What an earlier run left, its oldest first in line to go. */
static void scan_dir(StateCache *c)
{
    DIR *d = opendir(c->dir);
    if (!d)
        return;
    for (struct dirent *f; (f = readdir(d));) {
        CacheBlock e = {0};
        struct stat st;
        if (!parse_name(f->d_name, &e.key) || fstatat(dirfd(d), f->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0
            || !S_ISREG(st.st_mode)
            || st.st_size < HEAD)
            continue;
        e.size = (uint64_t)st.st_size - HEAD;
        e.used = (uint64_t)st.st_mtim.tv_sec;
        c->clock = e.used > c->clock ? e.used : c->clock;
        if (!shelf_add(&c->disk, e))
            break;
    }
    closedir(d);
}

static void head_of(uint8_t head[HEAD], const CacheBlock *e, const Digest *content)
{
    memcpy(head, magic, 8);
    memcpy(head + 8, e->key.b, 32);
    for (int i = 0; i < 8; i++)
        head[40 + i] = (uint8_t)(e->size >> (8 * i));
    memcpy(head + 48, content->b, 32);
}

/* Writes a block into the folder, making room first. Failing is no error: a full or missing disk turns spilling off. */
static void spill(StateCache *c, const CacheBlock *e)
{
    pthread_mutex_lock(&c->lock);
    bool there = shelf_find(&c->disk, &e->key) != NULL;
    pthread_mutex_unlock(&c->lock);
    if (there || c->dir_broken || e->size + HEAD > c->disk.limit)
        return;
    if (!c->dir_made && dir_make(c->dir, NULL) != ST_OK) {
        c->dir_broken = true;
        return;
    }
    c->dir_made = true;
    while (c->disk.n > 0 && c->disk.bytes + c->disk.n * HEAD + e->size + HEAD > c->disk.limit) {
        pthread_mutex_lock(&c->lock);
        CacheBlock old = shelf_take(&c->disk, shelf_oldest(&c->disk));
        pthread_mutex_unlock(&c->lock);
        remove_file(c, &old.key);
    }
    uint8_t head[HEAD];
    Digest content = digest_of(e->data, (size_t)e->size);
    head_of(head, e, &content);
    char *path = entry_path(c, &e->key);
    AtomicFile *f = NULL;
    Status st = path ? atomic_open(&f, path, NULL) : ST_NOMEM;
    if (st == ST_OK)
        st = atomic_write(f, head, sizeof head, NULL);
    if (st == ST_OK)
        st = atomic_write(f, e->data, (size_t)e->size, NULL);
    if (st == ST_OK)
        st = atomic_commit(f, NULL);
    else
        atomic_abort(f);
    free(path);
    c->dir_broken = st != ST_OK;
    if (st != ST_OK)
        return;
    pthread_mutex_lock(&c->lock);
    shelf_add(&c->disk, (CacheBlock){.key = e->key, .size = e->size, .used = ++c->clock});
    pthread_mutex_unlock(&c->lock);
}

/* The bytes of a file, verified; NULL when they aren't what was written. */
static uint8_t *load(StateCache *c, const CacheBlock *e)
{
    char *path = entry_path(c, &e->key);
    int fd = -1;
    uint64_t size = 0;
    uint8_t *data = NULL, head[HEAD], want[HEAD];
    bool good = path && file_open(path, &fd, &size, NULL) == ST_OK && size == e->size + HEAD
                && file_pread(fd, path, head, HEAD, 0, NULL) == ST_OK && (data = mem_array((size_t)e->size, 1)) != NULL
                && file_pread(fd, path, data, (size_t)e->size, HEAD, NULL) == ST_OK;
    if (good) {
        Digest content = digest_of(data, (size_t)e->size);
        head_of(want, e, &content);
        good = memcmp(head, want, HEAD) == 0;
    }
    if (fd >= 0)
        close(fd);
    free(path);
    if (good)
        return data;
    free(data);
    return NULL;
}

/* ---- public ---- */

Status statecache_new(StateCache **out, uint64_t ram_bytes, const char *dir, uint64_t dir_bytes, Error *err)
{
    *out = NULL;
    StateCache *c = mem_zarray(1, sizeof *c);
    if (!c)
        return error_nomem(err, "the cache of layer inputs");
    if (pthread_mutex_init(&c->lock, NULL) != 0) {
        free(c);
        return error_nomem(err, "the cache of layer inputs");
    }
    c->ram.limit = ram_bytes;
    c->disk.limit = dir_bytes;
    if (dir) {
        c->dir = strdup(dir);
        if (!c->dir) {
            statecache_free(c);
            return error_nomem(err, "the cache of layer inputs");
        }
        scan_dir(c);
    }
    *out = c;
    return ST_OK;
}

void statecache_free(StateCache *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->ram.n; i++)
        free(c->ram.e[i].data);
    free(c->ram.e);
    free(c->disk.e);
    free(c->dir);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* Pushes the least recently used blocks off the RAM shelf until `size` more bytes are within its limit. */
static void make_room(StateCache *c, uint64_t size)
{
    while (c->ram.n > 0 && c->ram.bytes + size > c->ram.limit) {
        pthread_mutex_lock(&c->lock);
        CacheBlock old = *shelf_oldest(&c->ram);
        pthread_mutex_unlock(&c->lock);
        if (c->dir)
            spill(c, &old);
        pthread_mutex_lock(&c->lock);
        shelf_take(&c->ram, shelf_find(&c->ram, &old.key));
        pthread_mutex_unlock(&c->lock);
        free(old.data);
    }
}

/* Puts a block on the RAM shelf. Takes data. */
static void keep(StateCache *c, const Digest *key, uint8_t *data, uint64_t size)
{
    make_room(c, size);
    pthread_mutex_lock(&c->lock);
    bool kept = shelf_add(&c->ram, (CacheBlock){.key = *key, .data = data, .size = size, .used = ++c->clock});
    pthread_mutex_unlock(&c->lock);
    if (!kept)
        free(data);
}

static uint64_t total_of(const StatePart *parts, int n)
{
    uint64_t size = 0;
    for (int i = 0; i < n; i++)
        size += parts[i].size;
    return size;
}

void statecache_put(StateCache *c, const Digest *key, const StatePart *parts, int n)
{
    uint64_t size = total_of(parts, n);
    CacheBlock *have = shelf_find(&c->ram, key);
    if (have) {
        have->used = ++c->clock;
        return;
    }
    if (size > c->ram.limit)
        return;
    make_room(c, size); /* before the copy: both would be over the limit */
    uint8_t *data = mem_array((size_t)size, 1);
    if (!data)
        return;
    uint64_t at = 0;
    for (int i = 0; i < n; i++) {
        memcpy(data + at, parts[i].data, parts[i].size);
        at += parts[i].size;
    }
    keep(c, key, data, size);
}

bool statecache_get(StateCache *c, const Digest *key, const StatePart *parts, int n)
{
    uint64_t size = total_of(parts, n), at = 0;
    CacheBlock *e = shelf_find(&c->ram, key);
    const uint8_t *data = e ? e->data : NULL;
    uint8_t *loaded = NULL;
    if (!e && (e = shelf_find(&c->disk, key))) {
        CacheBlock file = *e;
        data = loaded = load(c, &file);
        if (!loaded) {
            remove_file(c, key);
            pthread_mutex_lock(&c->lock);
            shelf_take(&c->disk, e);
            pthread_mutex_unlock(&c->lock);
            return false;
        }
    }
    if (!e || e->size != size) {
        free(loaded);
        return false;
    }
    e->used = ++c->clock;
    for (int i = 0; i < n; i++) {
        memcpy(parts[i].data, data + at, parts[i].size);
        at += parts[i].size;
    }
    if (loaded && size <= c->ram.limit)
        keep(c, key, loaded, size);
    else
        free(loaded);
    return true;
}

void statecache_limit(StateCache *c, uint64_t ram_bytes)
{
    c->ram.limit = ram_bytes;
    make_room(c, 0);
}

bool statecache_has(StateCache *c, const Digest *key)
{
    pthread_mutex_lock(&c->lock);
    bool there = shelf_find(&c->ram, key) || shelf_find(&c->disk, key);
    pthread_mutex_unlock(&c->lock);
    return there;
}

uint64_t statecache_ram_bytes(StateCache *c)
{
    pthread_mutex_lock(&c->lock);
    uint64_t n = c->ram.bytes;
    pthread_mutex_unlock(&c->lock);
    return n;
}

uint64_t statecache_dir_bytes(StateCache *c)
{
    pthread_mutex_lock(&c->lock);
    uint64_t n = c->disk.bytes + c->disk.n * HEAD;
    pthread_mutex_unlock(&c->lock);
    return n;
}
