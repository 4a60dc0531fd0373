#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"
#include "base/str.h"
#include "io/file.h"
#include "io/fingerprint.h"
#include "io/json.h"
#include "io/modeldir.h"
#include "io/safetensors.h"
#include "io/stheader.h"

static const char single_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

enum { INDEX_MAX = 200000000, SHOWN = 300, OPEN_FILES = 512 };

typedef struct Shard {
    char *path;
    int fd;                /* -1: not open now */
    uint64_t size;         /* when it was opened */
    struct timespec mtime;
    int users;             /* reads under way; under Files.lock */
    uint64_t used_at;      /* Files.clock when it was last taken */
} Shard;

/* Which shards are open, where they are too many to be it all. */
typedef struct Files {
    pthread_mutex_t lock;
    pthread_cond_t free;
    size_t open, limit; /* limit 0: all stay open */
    uint64_t clock;
} Files;

struct Checkpoint {
    TensorList list;
    Map names; /* tensor name -> index into list */
    bool has[DT_COUNT];
    Shard *shards;
    size_t nshards, shard_cap;
    int64_t *twin;  /* [list.count], NULL: no tensor is in two shards; next of the same name, -1 at the end */
    Map promised;   /* tensors that the index names and no shard has -> index into shards */
    Arena strings;
    Str note;
    char fingerprint[65];
    Digest places;  /* of the weights at the fingerprint's places, when they were opened */
    Files *files;   /* behind a pointer, as the counter: readers hold a const Checkpoint */
    atomic_uint_fast64_t *bytes_read;
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

/* ---- which tensor is read where ---- */

/* The walk over an index file, twice: first for the names of the shards, then, when those are open, to compare. */
typedef struct IndexCtx {
    Checkpoint *c;
    const char *dir, *path;
    Map seen;        /* file names met -> index into shards, once those are in order */
    const char *map; /* text of weight_map, once found */
    size_t map_len;
    bool compare;
    int64_t *chosen; /* [list.count], NULL without twins: index of the one that is read, under the first of a name */
    int64_t promised, moved, twins; /* tensors that no shard has; that another shard has; that are in two */
    Str first_promised, first_moved, first_twin;
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
    char *copy = arena_strdup(&x->c->strings, file);
    if (!copy || !map_add(&x->seen, copy, strlen(copy), 0, NULL))
        return error_nomem(err, "the list of shards");
    return add_shard(x->c, path_join(x->dir, file), err);
}

/* Counts a tensor that is not as the index says; of the first one `what` keeps the name and a file. */
static void count_odd(int64_t *n, Str *what, const char *key, size_t len, const char *file)
{
    if (!(*n)++)
        str_printf(what, "'%.*s' (%s)", (int)(len < SHOWN ? len : SHOWN), key, file);
}

static Status promise(IndexCtx *x, const char *key, size_t len, const char *file, Error *err)
{
    Checkpoint *c = x->c;
    char *copy = arena_strndup(&c->strings, key, len);
    int64_t shard = map_get(&x->seen, file, strlen(file), 0);
    bool added = false;
    if (!copy || !map_add(&c->promised, copy, len, shard, &added))
        return error_nomem(err, "the names of the tensors");
    if (added)
        count_odd(&x->promised, &x->first_promised, key, len, file);
    return ST_OK;
}

static Status compare_entry(IndexCtx *x, const char *key, size_t len, const char *file, Error *err)
{
    const Checkpoint *c = x->c;
    int64_t first = map_get(&c->names, key, len, -1), i = first;
    int shard = (int)map_get(&x->seen, file, strlen(file), -1);
    if (first < 0)
        return promise(x, key, len, file, err);
    while (i >= 0 && c->list.t[i].file != shard)
        i = c->twin ? c->twin[i] : -1;
    if (i >= 0 && x->chosen)
        x->chosen[first] = i;
    if (i < 0)
        count_odd(&x->moved, &x->first_moved, key, len, path_base(c->shards[c->list.t[first].file].path));
    return ST_OK;
}

static Status weight_map_member(void *ctx, const char *key, size_t key_len, const char *value, size_t len, Error *err)
{
    IndexCtx *x = ctx;
    if (value[0] != '"')
        return error_set(err, ST_DATA, "'%s': weight_map must give a file name for tensor '%.*s'", x->path,
                         (int)(key_len < SHOWN ? key_len : SHOWN), key);
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

/* Orders the shards, and gives the files of the index their numbers. */
static Status order_shards(IndexCtx *x, Error *err)
{
    Checkpoint *c = x->c;
    if (c->nshards)
        qsort(c->shards, c->nshards, sizeof *c->shards, by_path);
    map_free(&x->seen);
    for (size_t i = 0; i < c->nshards; i++) {
        const char *file = path_base(c->shards[i].path);
        if (!map_add(&x->seen, file, strlen(file), (int64_t)i, NULL))
            return error_nomem(err, "the list of shards");
    }
    return ST_OK;
}

/* ---- files ---- */

/* Descriptors for shards: half of what the process may have, so that others get theirs. */
static size_t file_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur / 2 >= OPEN_FILES)
        return OPEN_FILES;
    return r.rlim_cur > 16 ? (size_t)r.rlim_cur / 2 : 8;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* What was opened first is what is opened again. */
static Status open_shard(Shard *s, bool first, Error *err)
{
    uint64_t size;
    struct stat sb = {.st_size = 0};
    RETURN_IF_ERROR(file_open(s->path, &s->fd, &size, err));
    bool told = fstat(s->fd, &sb) == 0;
    if (first) {
        s->size = size;
        s->mtime = sb.st_mtim;
    } else if (size != s->size || (told && !same_time(sb.st_mtim, s->mtime))) {
        close(s->fd);
        s->fd = -1;
        return error_set(err, ST_DATA, "'%s' has changed while it was in use", s->path);
    }
    return ST_OK;
}

static void close_shard(Shard *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

/* The open shard nobody reads that was taken longest ago; NULL: there is none. */
static Shard *oldest_idle(const Checkpoint *c)
{
    Shard *old = NULL;
    for (size_t i = 0; i < c->nshards; i++) {
        Shard *s = &c->shards[i];
        if (s->fd >= 0 && !s->users && (!old || s->used_at < old->used_at))
            old = s;
    }
    return old;
}

/* Opens the shard if need be, for as long as put_shard is not called; another one may have to be closed for it. */
static Status take_shard(const Checkpoint *c, Shard *s, Error *err)
{
    Files *f = c->files;
    Status st = ST_OK;
    if (!f->limit)
        return ST_OK;
    pthread_mutex_lock(&f->lock);
    Shard *old = NULL;
    while (s->fd < 0 && f->open >= f->limit && !(old = oldest_idle(c)))
        pthread_cond_wait(&f->free, &f->lock);
    if (s->fd < 0) {
        if (f->open >= f->limit) {
            close_shard(old);
            f->open--;
        }
        st = open_shard(s, false, err);
        f->open += st == ST_OK;
    }
    s->users += st == ST_OK;
    s->used_at = ++f->clock;
    pthread_mutex_unlock(&f->lock);
    return st;
}

static void put_shard(const Checkpoint *c, Shard *s)
{
    Files *f = c->files;
    if (!f->limit)
        return;
    pthread_mutex_lock(&f->lock);
    if (--s->users == 0)
        pthread_cond_broadcast(&f->free);
    pthread_mutex_unlock(&f->lock);
}

/* Another tensor of a name that is there already. */
static Status add_twin(Checkpoint *c, size_t i, Error *err)
{
    const char *name = c->list.t[i].name;
    int64_t first = map_get(&c->names, name, strlen(name), 0);
    if (!c->twin) {
        c->twin = mem_array(c->list.count, sizeof *c->twin);
        if (!c->twin)
            return error_nomem(err, "the names of the tensors");
        for (size_t k = 0; k < c->list.count; k++)
            c->twin[k] = -1;
    }
    c->twin[i] = c->twin[first];
    c->twin[first] = (int64_t)i;
    return ST_OK;
}

static Status make_names(Checkpoint *c, Error *err)
{
    map_free(&c->names);
    if (!map_reserve(&c->names, c->list.count))
        return error_nomem(err, "the names of the tensors");
    for (size_t i = 0; i < c->list.count; i++) {
        const char *name = c->list.t[i].name;
        bool added;
        c->has[c->list.t[i].dtype] = true;
        if (!map_add(&c->names, name, strlen(name), (int64_t)i, &added))
            return error_nomem(err, "the names of the tensors");
        if (!added)
            RETURN_IF_ERROR(add_twin(c, i, err));
    }
    return ST_OK;
}

/* Adds the weights of every shard to the hash, at a bounded number of places. */
static Status sample(const Checkpoint *c, Hasher *hash, Error *err)
{
    enum { PLACES = 128, PLACES_MIN = 4 };
    int places = c->nshards > PLACES / PLACES_MIN ? PLACES_MIN : PLACES / (int)c->nshards;
    for (size_t i = 0; i < c->nshards; i++) {
        Shard *s = &c->shards[i];
        RETURN_IF_ERROR(take_shard(c, s, err));
        Status st = fingerprint_sample(s->fd, s->path, s->size, places, hash, err);
        put_shard(c, s);
        RETURN_IF_ERROR(st);
    }
    return ST_OK;
}

static Status sample_alone(const Checkpoint *c, Digest *out, Error *err)
{
    Hasher h;
    hasher_init(&h);
    RETURN_IF_ERROR(sample(c, &h, err));
    *out = hasher_end(&h);
    return ST_OK;
}

/* Opens every shard and gathers its tensors. */
static Status read_headers(Checkpoint *c, Hasher *hash, Error *err)
{
    size_t limit = file_limit();
    c->files->limit = c->nshards > limit ? limit : 0;
    for (size_t i = 0; i < c->nshards; i++) {
        Shard *s = &c->shards[i];
        RETURN_IF_ERROR(open_shard(s, true, err));
        RETURN_IF_ERROR(stheader_read(s->fd, s->path, s->size, (int)i, &c->list, hash, err));
        if (c->files->limit)
            close_shard(s);
    }
    RETURN_IF_ERROR(sample(c, hash, err));
    RETURN_IF_ERROR(sample_alone(c, &c->places, err));
    TensorInfo *fit = realloc(c->list.t, (c->list.count ? c->list.count : 1) * sizeof *fit);
    if (fit) {
        c->list.t = fit;
        c->list.cap = c->list.count ? c->list.count : 1;
    }
    return make_names(c, err);
}

/* Leaves of each tensor that is in several shards the one `chosen` has (NULL: no index told). */
static Status drop_twins(IndexCtx *x, Hasher *hash, Error *err)
{
    Checkpoint *c = x->c;
    bool *keep = mem_zarray(c->list.count, sizeof *keep);
    Status st = keep ? ST_OK : error_nomem(err, "the names of the tensors");
    for (size_t i = 0; i < c->list.count && st == ST_OK; i++) {
        const TensorInfo *t = &c->list.t[i];
        int64_t first = map_get(&c->names, t->name, strlen(t->name), 0), other = c->twin[first];
        int64_t chosen = other < 0 ? (int64_t)i : x->chosen ? x->chosen[first] : -1;
        keep[i] = chosen == (int64_t)i;
        if (chosen < 0)
            st = error_set(err, ST_DATA, "tensor '%s' is in two shards and no index says which one counts: '%s' and '%s'",
                           t->name, c->shards[c->list.t[first].file].path, c->shards[c->list.t[other].file].path);
        if (other < 0 || !keep[i])
            continue;
        count_odd(&x->twins, &x->first_twin, t->name, strlen(t->name), path_base(c->shards[t->file].path));
        hasher_u64(hash, i);
    }
    size_t n = 0;
    for (size_t i = 0; i < c->list.count && st == ST_OK; i++)
        if (keep[i])
            c->list.t[n++] = c->list.t[i];
    free(keep);
    free(c->twin);
    c->twin = NULL;
    RETURN_IF_ERROR(st);
    c->list.count = n;
    return make_names(c, err);
}

/* ---- folders ---- */

static void add_note(Checkpoint *c, int64_t n, const char *one, const char *many, const Str *first)
{
    if (!n)
        return;
    str_puts(&c->note, c->note.len ? "; " : "");
    if (n == 1)
        str_printf(&c->note, "tensor %s %s", str_text(first), one);
    else
        str_printf(&c->note, "%lld tensors %s, the first is %s", (long long)n, many, str_text(first));
    c->note.oom |= first->oom;
}

/* What of an index is not as its shards are. */
static void note_odd(const IndexCtx *x)
{
    add_note(x->c, x->promised, "is in the index and in no shard", "are in the index and in no shard",
             &x->first_promised);
    add_note(x->c, x->moved, "is in another shard than the index says and is read there",
             "are in other shards than the index says and are read there", &x->first_moved);
    add_note(x->c, x->twins, "is in several shards and is read where the index says",
             "are in several shards and are read where the index says", &x->first_twin);
}

/* Reads the shards that are listed, as the index (x->map NULL: there is none) says. */
static Status read_listed(IndexCtx *x, Error *err)
{
    Checkpoint *c = x->c;
    Hasher hash;
    hasher_init(&hash);
    RETURN_IF_ERROR(order_shards(x, err));
    for (size_t i = 0; i < c->nshards && x->map; i++)
        if (!file_exists(c->shards[i].path))
            return error_set(err, ST_DATA, "'%s' names shard '%s', which is missing in that folder", x->path,
                             path_base(c->shards[i].path));
    RETURN_IF_ERROR(read_headers(c, &hash, err));
    if (c->twin && x->map) {
        x->chosen = mem_array(c->list.count, sizeof *x->chosen);
        if (!x->chosen)
            return error_nomem(err, "the names of the tensors");
        for (size_t i = 0; i < c->list.count; i++)
            x->chosen[i] = -1;
    }
    x->compare = true;
    if (x->map)
        RETURN_IF_ERROR(json_walk_again(x->map, x->map_len, x->path, weight_map_member, x, err));
    if (c->twin)
        RETURN_IF_ERROR(drop_twins(x, &hash, err));
    note_odd(x);
    Digest d = hasher_end(&hash);
    digest_hex(&d, c->fingerprint);
    return c->note.oom ? error_nomem(err, "the list of shards") : ST_OK;
}

static Status read_index(IndexCtx *x, const char *text, size_t len, Error *err)
{
    RETURN_IF_ERROR(json_walk_loose(text, len, x->path, index_member, x, err));
    if (!x->c->nshards)
        return error_set(err, ST_DATA, "'%s': %s", x->path, x->map ? "weight_map is empty" : "no weight_map");
    return read_listed(x, err);
}

/* The shards of a folder that lost its index. */
static Status read_loose_shards(IndexCtx *x, Error *err)
{
    Checkpoint *c = x->c;
    ShardNames names = {0};
    Status st = modeldir_shards(x->dir, &names, err);
    for (int i = 0; i < names.count && st == ST_OK; i++)
        st = add_shard(c, path_join(x->dir, names.name[i]), err);
    modeldir_free(&names);
    RETURN_IF_ERROR(st);
    if (!c->nshards)
        return modeldir_no_weights(x->dir, err);
    str_printf(&c->note, "there is no %s: the %zu shards of the folder are read", index_name, c->nshards);
    st = read_listed(x, err);
    return st == ST_DATA ? error_prefix(err, st, "shards without %s: ", index_name) : st;
}

static Status open_folder(IndexCtx *x, Error *err)
{
    char *single = path_join(x->dir, single_name), *index = path_join(x->dir, index_name), *text = NULL;
    size_t len;
    Status st = single && index ? ST_OK : error_nomem(err, "a path");
    x->path = index;
    if (st == ST_OK && file_exists(single)) {
        st = add_shard(x->c, single, err);
        single = NULL;
        if (st == ST_OK)
            st = read_listed(x, err);
    } else if (st == ST_OK && file_exists(index)) {
        st = json_read_file(index, INDEX_MAX, &text, &len, err);
        if (st == ST_OK)
            st = read_index(x, text, len, err);
    } else if (st == ST_OK) {
        st = read_loose_shards(x, err);
    }
    free(text);
    free(single);
    free(index);
    return st;
}

/* An empty one; NULL when memory is short. */
static Checkpoint *checkpoint_new(void)
{
    Checkpoint *c = calloc(1, sizeof *c);
    Files *f = calloc(1, sizeof *f);
    atomic_uint_fast64_t *bytes = calloc(1, sizeof *bytes);
    if (!c || !f || !bytes) {
        free(c);
        free(f);
        free(bytes);
        return NULL;
    }
    atomic_init(bytes, 0);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->free, NULL);
    c->files = f;
    c->bytes_read = bytes;
    return c;
}

Status checkpoint_open(Checkpoint **out, const char *dir, Error *err)
{
    *out = NULL;
    Checkpoint *c = checkpoint_new();
    if (!c)
        return error_nomem(err, "a checkpoint");
    IndexCtx x = {.c = c, .dir = dir, .path = dir};
    Status st;
    if (dir_exists(dir)) {
        st = open_folder(&x, err);
    } else {
        st = add_shard(c, strdup(dir), err);
        if (st == ST_OK)
            st = read_listed(&x, err);
    }
    map_free(&x.seen);
    free(x.chosen);
    str_free(&x.first_promised);
    str_free(&x.first_moved);
    str_free(&x.first_twin);
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
        close_shard(&c->shards[i]);
        free(c->shards[i].path);
    }
    free(c->shards);
    map_free(&c->names);
    map_free(&c->promised);
    free(c->twin);
    free(c->list.t);
    arena_free(&c->list.names);
    arena_free(&c->strings);
    str_free(&c->note);
    pthread_mutex_destroy(&c->files->lock);
    pthread_cond_destroy(&c->files->free);
    free(c->files);
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

bool checkpoint_has(const Checkpoint *c, DType t)
{
    return c->has[t];
}

const char *checkpoint_promised(const Checkpoint *c, const char *name)
{
    int64_t i = map_get(&c->promised, name, strlen(name), -1);
    return i < 0 ? NULL : c->shards[i].path;
}

const char *checkpoint_note(const Checkpoint *c)
{
    return c->note.len ? c->note.s : NULL;
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
    Shard *s = &c->shards[t->file];
    if (begin > t->nbytes || n > t->nbytes - begin)
        return error_set(err, ST_INTERNAL, "tensor '%s': bytes %llu to %llu of %llu were asked for", t->name,
                         (unsigned long long)begin, (unsigned long long)(begin + n), (unsigned long long)t->nbytes);
    Status st = take_shard(c, s, err);
    if (st == ST_OK) {
        st = file_pread(s->fd, s->path, dst, (size_t)n, t->offset + begin, err);
        put_shard(c, s);
    }
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

const char *checkpoint_changed(const Checkpoint *c, bool *other)
{
    Digest now;
    for (size_t i = 0; i < c->nshards; i++) {
        Shard *s = &c->shards[i];
        struct stat sb;
        Error err;
        *other = true;
        if (take_shard(c, s, &err) != ST_OK)
            return s->path;
        bool fine = fstat(s->fd, &sb) != 0 || ((uint64_t)sb.st_size == s->size && same_time(sb.st_mtim, s->mtime));
        put_shard(c, s);
        if (fine)
            continue;
        *other = (uint64_t)sb.st_size != s->size || sample_alone(c, &now, NULL) != ST_OK ||
                 digest_cmp(&now, &c->places) != 0;
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
    Shard *s = &c->shards[file];
    HashWatch w = {watch, s->size};
    Hasher hash;
    hasher_init(&hash);
    RETURN_IF_ERROR(take_shard(c, s, err));
    Status st = fingerprint_whole(s->fd, s->path, s->size, watch->cancel, tell_hashed, &w, &hash, err);
    put_shard(c, s);
    RETURN_IF_ERROR(st);
    *out = hasher_end(&hash);
    return ST_OK;
}
