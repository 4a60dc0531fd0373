#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"
#include "base/str.h"
#include "io/file.h"
#include "io/fingerprint.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/stheader.h"

static const char single_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

enum { INDEX_MAX = 200000000 };

typedef struct Shard {
    char *path;
    int fd;
    uint64_t size;         /* when it was opened */
    struct timespec mtime;
} Shard;

struct Checkpoint {
    TensorList list;
    Map names; /* tensor name -> index into list */
    Shard *shards;
    size_t nshards, shard_cap;
    char fingerprint[65];
    atomic_uint_fast64_t *bytes_read; /* behind a pointer: readers hold a const Checkpoint */
};

/* Takes `path` over. */
static Status add_shard(Checkpoint *c, char *path, Error *err)
{
    if (!path || !mem_grow(&c->shards, &c->shard_cap, c->nshards + 1, sizeof *c->shards)) {
        free(path);
        return error_nomem(err, "the list of shards");
    }
    c->shards[c->nshards++] = (Shard){.path = path, .fd = -1};
    return ST_OK;
}

/* The walk over an index file, twice: first for the names of the shards, then, when those are open, to compare. */
typedef struct IndexCtx {
    Checkpoint *c;
    const char *dir, *path;
    Map seen;      /* file names met */
    Arena strings;
    const char *map; /* text of weight_map, once found */
    size_t map_len;
    bool compare;
} IndexCtx;

static bool leaves_folder(const char *name)
{
    return !*name || strchr(name, '/') || strchr(name, '\\') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static Status first_sight(IndexCtx *x, const char *file, Error *err)
{
    if (map_get(&x->seen, file, strlen(file), -1) >= 0)
        return ST_OK;
    if (leaves_folder(file))
        return error_set(err, ST_DATA, "'%s': shard '%s' is no plain file name: shards lie in the model's folder",
                         x->path, file);
    char *copy = arena_strdup(&x->strings, file);
    if (!copy || !map_add(&x->seen, copy, strlen(copy), 0, NULL))
        return error_nomem(err, "the list of shards");
    return add_shard(x->c, path_join(x->dir, file), err);
}

static Status compare_entry(IndexCtx *x, const char *key, size_t len, const char *file, Error *err)
{
    const Checkpoint *c = x->c;
    int shown = (int)(len < 300 ? len : 300);
    int64_t i = map_get(&c->names, key, len, -1);
    if (i < 0)
        return error_set(err, ST_DATA, "'%s': tensor '%.*s' is missing in shard '%s'", x->path, shown, key, file);
    const char *real = path_base(c->shards[c->list.t[i].file].path);
    if (strcmp(real, file) != 0)
        return error_set(err, ST_DATA, "'%s': tensor '%.*s' is not in shard '%s' but in '%s'", x->path, shown, key,
                         file, real);
    return ST_OK;
}

static Status weight_map_member(void *ctx, const char *key, size_t key_len, const char *value, size_t len, Error *err)
{
    IndexCtx *x = ctx;
    if (value[0] != '"')
        return error_set(err, ST_DATA, "'%s': weight_map must give a file name for tensor '%.*s'", x->path,
                         (int)(key_len < 300 ? key_len : 300), key);
    cJSON *v = cJSON_ParseWithLength(value, len);
    if (!v)
        return error_nomem(err, x->path);
    Status st = x->compare ? compare_entry(x, key, key_len, v->valuestring, err) : first_sight(x, v->valuestring, err);
    cJSON_Delete(v);
    return st;
}

static Status index_member(void *ctx, const char *key, size_t key_len, const char *value, size_t len, Error *err)
{
    IndexCtx *x = ctx;
    if (key_len != 10 || memcmp(key, "weight_map", 10) != 0)
        return ST_OK;
    x->map = value;
    x->map_len = len;
    if (value[0] != '{')
        return error_set(err, ST_DATA, "'%s': weight_map must be an object", x->path);
    return json_walk_again(value, len, x->path, weight_map_member, x, err);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const Shard *)a)->path, ((const Shard *)b)->path);
}

/* Adds the weights of every shard to the hash, at a bounded number of places. */
static Status sample(const Checkpoint *c, Hasher *hash, Error *err)
{
    enum { PLACES = 128, PLACES_MIN = 4 };
    int places = c->nshards > PLACES / PLACES_MIN ? PLACES_MIN : PLACES / (int)c->nshards;
    for (size_t i = 0; i < c->nshards; i++)
        RETURN_IF_ERROR(fingerprint_sample(c->shards[i].fd, c->shards[i].path, c->shards[i].size, places, hash, err));
    return ST_OK;
}

/* Opens every shard and gathers its tensors. */
static Status read_headers(Checkpoint *c, Error *err)
{
    Hasher hash;
    hasher_init(&hash);
    for (size_t i = 0; i < c->nshards; i++) {
        Shard *s = &c->shards[i];
        struct stat sb;
        RETURN_IF_ERROR(file_open(s->path, &s->fd, &s->size, err));
        if (fstat(s->fd, &sb) == 0)
            s->mtime = sb.st_mtim;
        RETURN_IF_ERROR(stheader_read(s->fd, s->path, s->size, (int)i, &c->list, &hash, err));
    }
    RETURN_IF_ERROR(sample(c, &hash, err));
    Digest d = hasher_end(&hash);
    digest_hex(&d, c->fingerprint);
    TensorInfo *fit = realloc(c->list.t, (c->list.count ? c->list.count : 1) * sizeof *fit);
    if (fit) {
        c->list.t = fit;
        c->list.cap = c->list.count ? c->list.count : 1;
    }
    for (size_t i = 0; i < c->list.count; i++) {
        const TensorInfo *t = &c->list.t[i];
        bool added;
        if (!map_add(&c->names, t->name, strlen(t->name), (int64_t)i, &added))
            return error_nomem(err, "the names of the tensors");
        if (!added) {
            const TensorInfo *other = &c->list.t[map_get(&c->names, t->name, strlen(t->name), 0)];
            return error_set(err, ST_DATA, "tensor '%s' is in two shards: '%s' and '%s'", t->name,
                             c->shards[other->file].path, c->shards[t->file].path);
        }
    }
    return ST_OK;
}

static Status open_sharded(Checkpoint *c, const char *dir, const char *index, Error *err)
{
    char *text;
    size_t len;
    RETURN_IF_ERROR(file_read(index, INDEX_MAX, &text, &len, err));
    IndexCtx x = {.c = c, .dir = dir, .path = index};
    Status st = json_walk(text, len, index, index_member, &x, err);
    if (st == ST_OK && !c->nshards)
        st = error_set(err, ST_DATA, "'%s': %s", index, x.map ? "weight_map is empty" : "no weight_map");
    if (st == ST_OK) {
        qsort(c->shards, c->nshards, sizeof *c->shards, by_path);
        for (size_t i = 0; i < c->nshards && st == ST_OK; i++)
            if (!file_exists(c->shards[i].path))
                st = error_set(err, ST_DATA, "'%s' names shard '%s', which is missing in that folder", index,
                               path_base(c->shards[i].path));
    }
    if (st == ST_OK)
        st = read_headers(c, err);
    if (st == ST_OK) {
        x.compare = true;
        st = json_walk_again(x.map, x.map_len, index, weight_map_member, &x, err);
    }
    map_free(&x.seen);
    arena_free(&x.strings);
    free(text);
    return st;
}

static Status open_folder(Checkpoint *c, const char *dir, Error *err)
{
    char *single = path_join(dir, single_name), *index = path_join(dir, index_name);
    char *torch = path_join(dir, "pytorch_model.bin");
    Status st;
    if (!single || !index || !torch) {
        st = error_nomem(err, "a path");
    } else if (file_exists(single)) {
        st = add_shard(c, single, err);
        single = NULL;
        if (st == ST_OK)
            st = read_headers(c, err);
    } else if (file_exists(index)) {
        st = open_sharded(c, dir, index, err);
    } else {
        st = error_set(err, ST_DATA, "'%s' has no %s and no %s%s", dir, single_name, index_name,
                       file_exists(torch) ? ": convert its pytorch_model.bin to safetensors first" : "");
    }
    free(single);
    free(index);
    free(torch);
    return st;
}

Status checkpoint_open(Checkpoint **out, const char *dir, Error *err)
{
    *out = NULL;
    Checkpoint *c = calloc(1, sizeof *c);
    if (!c || !(c->bytes_read = calloc(1, sizeof *c->bytes_read))) {
        free(c);
        return error_nomem(err, "a checkpoint");
    }
    atomic_init(c->bytes_read, 0);
    Status st;
    if (dir_exists(dir)) {
        st = open_folder(c, dir, err);
    } else {
        st = add_shard(c, strdup(dir), err);
        if (st == ST_OK)
            st = read_headers(c, err);
    }
    if (st != ST_OK) {
        checkpoint_free(c);
        return st;
    }
    *out = c;
    return ST_OK;
}

void checkpoint_free(Checkpoint *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->nshards; i++) {
        if (c->shards[i].fd >= 0)
            close(c->shards[i].fd);
        free(c->shards[i].path);
    }
    free(c->shards);
    map_free(&c->names);
    free(c->list.t);
    arena_free(&c->list.names);
    free(c->bytes_read);
    free(c);
}

int64_t checkpoint_count(const Checkpoint *c)
{
    return (int64_t)c->list.count;
}

const TensorInfo *checkpoint_at(const Checkpoint *c, int64_t i)
{
    return &c->list.t[i];
}

const TensorInfo *checkpoint_find(const Checkpoint *c, const char *name)
{
    int64_t i = map_get(&c->names, name, strlen(name), -1);
    return i < 0 ? NULL : &c->list.t[i];
}

int checkpoint_files(const Checkpoint *c)
{
    return (int)c->nshards;
}

const char *checkpoint_file_path(const Checkpoint *c, int file)
{
    return c->shards[file].path;
}

Status checkpoint_read(const Checkpoint *c, const TensorInfo *t, uint64_t begin, uint64_t n, void *dst, Error *err)
{
    const Shard *s = &c->shards[t->file];
    if (begin > t->nbytes || n > t->nbytes - begin)
        return error_set(err, ST_INTERNAL, "tensor '%s': bytes %llu to %llu of %llu were asked for", t->name,
                         (unsigned long long)begin, (unsigned long long)(begin + n), (unsigned long long)t->nbytes);
    Status st = file_pread(s->fd, s->path, dst, (size_t)n, t->offset + begin, err);
    if (st != ST_OK)
        return error_prefix(err, st, "tensor '%s': ", t->name);
    atomic_fetch_add_explicit(c->bytes_read, n, memory_order_relaxed);
    return ST_OK;
}

uint64_t checkpoint_bytes_read(const Checkpoint *c)
{
    return atomic_load_explicit(c->bytes_read, memory_order_relaxed);
}

const char *checkpoint_fingerprint(const Checkpoint *c)
{
    return c->fingerprint;
}

const char *checkpoint_changed(const Checkpoint *c)
{
    for (size_t i = 0; i < c->nshards; i++) {
        const Shard *s = &c->shards[i];
        struct stat sb;
        if (fstat(s->fd, &sb) == 0 && ((uint64_t)sb.st_size != s->size || sb.st_mtim.tv_sec != s->mtime.tv_sec ||
                                       sb.st_mtim.tv_nsec != s->mtime.tv_nsec))
            return s->path;
    }
    return NULL;
}

typedef struct HashWatch {
    const CheckpointWatch *outer;
    uint64_t total;
} HashWatch;

static void tell_hashed(void *ctx, uint64_t bytes)
{
    const HashWatch *w = ctx;
    w->outer->progress(w->outer->ctx, bytes, w->total);
}

Status checkpoint_hash(const Checkpoint *c, int file, const CheckpointWatch *watch, Digest *out, Error *err)
{
    const Shard *s = &c->shards[file];
    HashWatch w = {watch, s->size};
    Hasher hash;
    hasher_init(&hash);
    RETURN_IF_ERROR(fingerprint_whole(s->fd, s->path, s->size, watch->cancel, tell_hashed, &w, &hash, err));
    *out = hasher_end(&hash);
    return ST_OK;
}
