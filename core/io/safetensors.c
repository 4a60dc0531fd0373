#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/str.h"
#include "io/file.h"
#include "io/filekind.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/stheader.h"

/* File: u64 length of the header, the header (JSON, padded with spaces), the tensors' bytes one after the other.
 * data_offsets count from the end of the header. */
enum { HEADER_MAX = 100000000, LENGTH_BYTES = 8, NAME_SHOWN = 300, KIND_BYTES = 64 };

typedef struct HeaderCtx {
    const char *path;
    uint64_t data_size; /* bytes behind the header */
    uint64_t data_start;
    int file;
    TensorList *list;
} HeaderCtx;

/* What the header says of one tensor, as text: a shape is read no further than its seventh number, however long. */
typedef struct Entry {
    struct {
        const char *s;
        size_t n;
    } dtype, shape, offsets; /* NULL: not there */
} Entry;

static Status entry_member(void *ctx, const char *key, size_t key_len, const char *value, size_t len, Error *err)
{
    Entry *e = ctx;
    (void)err;
    if (key_len == 5 && memcmp(key, "dtype", 5) == 0) {
        e->dtype.s = value;
        e->dtype.n = len;
    } else if (key_len == 5 && memcmp(key, "shape", 5) == 0) {
        e->shape.s = value;
        e->shape.n = len;
    } else if (key_len == 12 && memcmp(key, "data_offsets", 12) == 0) {
        e->offsets.s = value;
        e->offsets.n = len;
    }
    return ST_OK;
}

/* Up to `max` whole numbers in [0, 2^53) of a list that is good JSON; *n is max + 1 when there are more. */
static bool whole_numbers(const char *s, size_t len, int64_t *out, int max, int *n)
{
    const int64_t most = INT64_C(1) << 53;
    size_t i = 1;
    *n = 0;
    if (!s || s[0] != '[')
        return false;
    for (;;) {
        while (i < len && strchr(" \t\r\n,", s[i]))
            i++;
        if (i >= len || s[i] == ']')
            return true;
        if (*n == max) {
            ++*n;
            return true;
        }
        int64_t v = 0;
        size_t first = i;
        for (; i < len && s[i] >= '0' && s[i] <= '9' && v < most; i++)
            v = v * 10 + (s[i] - '0');
        if (i == first || v >= most || (i < len && !strchr(" \t\r\n,]", s[i])))
            return false;
        out[(*n)++] = v;
    }
}

static Status read_shape(const Entry *e, TensorInfo *t, const char **what)
{
    *what = "'shape' must be a list of whole numbers";
    if (!whole_numbers(e->shape.s, e->shape.n, t->shape, TENSOR_MAX_DIMS, &t->ndim))
        return ST_DATA;
    if (t->ndim > TENSOR_MAX_DIMS) {
        *what = "'shape' has more than 6 dimensions";
        return ST_DATA;
    }
    int64_t n = dtype_size(t->dtype);
    for (int i = 0; i < t->ndim; i++)
        if (!mul_i64(n, t->shape[i], &n)) {
            *what = "'shape' is too large";
            return ST_DATA;
        }
    t->nbytes = (uint64_t)n;
    return ST_OK;
}

static Status read_dtype(const Entry *e, TensorInfo *t, Error *err)
{
    if (!e->dtype.s || e->dtype.s[0] != '"')
        return error_set(err, ST_DATA, "'dtype' must be a string");
    const char *name = e->dtype.s + 1;
    size_t n = e->dtype.n - 2;
    for (int i = 0; i < DT_COUNT; i++)
        if (strlen(dtype_name((DType)i)) == n && memcmp(name, dtype_name((DType)i), n) == 0) {
            t->dtype = (DType)i;
            return ST_OK;
        }
    return error_set(err, ST_DATA, "unknown dtype '%.*s'", (int)(n < NAME_SHOWN ? n : NAME_SHOWN), name);
}

/* Fills dtype, shape, offset and nbytes from the tensor's JSON object. */
static Status read_tensor(const HeaderCtx *h, const char *value, size_t len, TensorInfo *t, Error *err)
{
    Entry e = {.dtype = {NULL, 0}};
    if (value[0] != '{')
        return error_set(err, ST_DATA, "expected an object with dtype, shape and data_offsets");
    RETURN_IF_ERROR(json_walk_again(value, len, h->path, entry_member, &e, err));
    RETURN_IF_ERROR(read_dtype(&e, t, err));
    const char *what;
    if (read_shape(&e, t, &what) != ST_OK)
        return error_set(err, ST_DATA, "%s", what);
    int64_t at[2];
    int n;
    if (!whole_numbers(e.offsets.s, e.offsets.n, at, 2, &n) || n != 2 || at[0] > at[1])
        return error_set(err, ST_DATA, "'data_offsets' must be two whole numbers, ascending");
    if ((uint64_t)(at[1] - at[0]) != t->nbytes)
        return error_set(err, ST_DATA, "dtype and shape need %llu bytes, 'data_offsets' give %lld",
                         (unsigned long long)t->nbytes, (long long)(at[1] - at[0]));
    if ((uint64_t)at[1] > h->data_size)
        return error_set(err, ST_DATA, "the file is truncated: the tensor ends at byte %llu, the file at %llu",
                         (unsigned long long)(h->data_start + (uint64_t)at[1]),
                         (unsigned long long)(h->data_start + h->data_size));
    t->offset = h->data_start + (uint64_t)at[0];
    return ST_OK;
}

static Status metadata_member(void *ctx, const char *key, size_t key_len, const char *value, size_t len, Error *err)
{
    (void)key, (void)key_len, (void)len;
    return value[0] == '"' ? ST_OK
                           : error_set(err, ST_DATA, "'%s': '__metadata__' must be an object of strings",
                                       ((const HeaderCtx *)ctx)->path);
}

/* One member of the header. */
static Status header_member(void *ctx, const char *key, size_t key_len, const char *value, size_t len, Error *err)
{
    HeaderCtx *h = ctx;
    TensorList *l = h->list;
    if (key_len == 12 && memcmp(key, "__metadata__", 12) == 0) {
        if (value[0] != '{')
            return error_set(err, ST_DATA, "'%s': '__metadata__' must be an object of strings", h->path);
        return json_walk_again(value, len, h->path, metadata_member, h, err);
    }
    if (key_len == 0)
        return error_set(err, ST_DATA, "'%s': a tensor without a name", h->path);
    if (!mem_grow(&l->t, &l->cap, l->count + 1, sizeof *l->t))
        return error_nomem(err, h->path);
    TensorInfo *t = &l->t[l->count];
    *t = (TensorInfo){.name = arena_strndup(&l->names, key, key_len), .file = h->file};
    if (!t->name)
        return error_nomem(err, h->path);
    Status st = read_tensor(h, value, len, t, err);
    if (st != ST_OK)
        return error_prefix(err, st, "'%s': tensor '%.*s': ", h->path,
                            (int)(key_len < NAME_SHOWN ? key_len : NAME_SHOWN), key);
    l->count++;
    return ST_OK;
}

static int by_offset(const void *pa, const void *pb)
{
    const TensorInfo *a = pa, *b = pb;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    if (a->nbytes != b->nbytes) /* empty tensors before the one that begins at the same byte */
        return a->nbytes < b->nbytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* The tensors of one file must lie end to end and fill it. */
static Status check_layout(const HeaderCtx *h, const TensorInfo *t, size_t n, Error *err)
{
    uint64_t at = h->data_start;
    for (size_t i = 0; i < n; i++) {
        if (t[i].offset < at)
            return error_set(err, ST_DATA, "'%s': tensors '%s' and '%s' overlap", h->path, t[i - 1].name, t[i].name);
        if (t[i].offset > at)
            return error_set(err, ST_DATA, "'%s': %llu bytes before tensor '%s' belong to no tensor", h->path,
                             (unsigned long long)(t[i].offset - at), t[i].name);
        at += t[i].nbytes;
    }
    uint64_t end = h->data_start + h->data_size;
    if (at != end)
        return error_set(err, ST_DATA, "'%s': %llu bytes at the end belong to no tensor", h->path,
                         (unsigned long long)(end - at));
    return ST_OK;
}

static Status header_length(int fd, const char *path, uint64_t size, uint64_t *len, Error *err)
{
    unsigned char b[KIND_BYTES];
    size_t have = size < sizeof b ? (size_t)size : sizeof b;
    if (size < LENGTH_BYTES)
        return error_set(err, ST_DATA, "'%s' is no safetensors file: %llu bytes, the header's length alone takes 8",
                         path, (unsigned long long)size);
    RETURN_IF_ERROR(file_pread(fd, path, b, have, 0, err));
    const char *kind = file_foreign_kind(b, have);
    uint64_t n = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        n = n << 8 | b[i];
    if (kind && (n > HEADER_MAX || n > size - LENGTH_BYTES)) /* no length, the other kind's first bytes */
        return error_set(err, ST_DATA, "'%s' %s", path, kind);
    if (n > HEADER_MAX)
        return error_set(err, ST_DATA, "'%s': header of %llu bytes, at most %d are allowed", path,
                         (unsigned long long)n, HEADER_MAX);
    if (n > size - LENGTH_BYTES)
        return error_set(err, ST_DATA, "'%s' is truncated: the header ends at byte %llu, the file at %llu", path,
                         (unsigned long long)(n + LENGTH_BYTES), (unsigned long long)size);
    *len = n;
    return ST_OK;
}

Status stheader_read(int fd, const char *path, uint64_t size, int file, TensorList *list, Hasher *hash, Error *err)
{
    uint64_t len = 0;
    RETURN_IF_ERROR(header_length(fd, path, size, &len, err));
    char *text = malloc((size_t)len + 1);
    if (!text)
        return error_nomem(err, path);
    size_t first = list->count;
    HeaderCtx h = {.path = path, .data_size = size - LENGTH_BYTES - len, .data_start = LENGTH_BYTES + len, .file = file,
                   .list = list};
    Status st = file_pread(fd, path, text, (size_t)len, LENGTH_BYTES, err);
    text[len] = 0;
    if (st == ST_OK && text[0] != '{')
        st = error_set(err, ST_DATA, "'%s' is no safetensors file: its header does not begin with '{'", path);
    if (st == ST_OK) {
        hasher_u64(hash, size);
        hasher_u64(hash, len);
        hasher_bytes(hash, text, (size_t)len);
        st = json_walk(text, (size_t)len, path, header_member, &h, err);
    }
    free(text);
    if (st != ST_OK)
        return st;
    size_t n = list->count - first;
    if (n)
        qsort(list->t + first, n, sizeof *list->t, by_offset);
    return check_layout(&h, n ? list->t + first : NULL, n, err);
}

/* Appends the header's entry of one tensor; *at moves behind its bytes. */
static Status write_entry(Str *b, const TensorOut *t, uint64_t *at, Error *err)
{
    int64_t n = dtype_size(t->dtype);
    str_json(b, t->name);
    str_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(t->dtype));
    for (int i = 0; i < t->ndim; i++) {
        if (t->shape[i] < 0 || !mul_i64(n, t->shape[i], &n))
            return error_set(err, ST_INTERNAL, "tensor '%s' has an impossible shape", t->name);
        str_printf(b, "%s%lld", i ? "," : "", (long long)t->shape[i]);
    }
    str_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*at, (unsigned long long)(*at + (uint64_t)n));
    *at += (uint64_t)n;
    return ST_OK;
}

static Status write_header(Str *b, const TensorOut *t, int64_t n, const char *const *metadata, Error *err)
{
    uint64_t at = 0;
    str_append(b, "\0\0\0\0\0\0\0\0{", LENGTH_BYTES + 1);
    if (metadata && metadata[0]) {
        str_puts(b, "\"__metadata__\":{");
        for (int i = 0; metadata[i]; i += 2) {
            str_puts(b, i ? "," : "");
            str_json(b, metadata[i]);
            str_putc(b, ':');
            str_json(b, metadata[i + 1]);
        }
        str_puts(b, n ? "}," : "}");
    }
    for (int64_t i = 0; i < n; i++) {
        str_puts(b, i ? "," : "");
        RETURN_IF_ERROR(write_entry(b, &t[i], &at, err));
    }
    str_putc(b, '}');
    while (b->len % 8 && !b->oom)
        str_putc(b, ' ');
    if (b->oom)
        return error_nomem(err, "a safetensors header");
    uint64_t len = b->len - LENGTH_BYTES;
    for (int i = 0; i < LENGTH_BYTES; i++)
        b->s[i] = (char)(unsigned char)(len >> (8 * i));
    return ST_OK;
}

Status safetensors_write(const char *path, const TensorOut *t, int64_t n, const char *const *metadata, Error *err)
{
    Map names = {0};
    Str head = {0};
    Status st = ST_OK;
    for (int64_t i = 0; i < n && st == ST_OK; i++) {
        bool added;
        if (!map_add(&names, t[i].name, strlen(t[i].name), i, &added))
            st = error_nomem(err, path);
        else if (!added)
            st = error_set(err, ST_INTERNAL, "tensor '%s' is given twice for '%s'", t[i].name, path);
    }
    map_free(&names);
    if (st == ST_OK)
        st = write_header(&head, t, n, metadata, err);
    AtomicFile *f = NULL;
    if (st == ST_OK)
        st = atomic_open(&f, path, err);
    if (st == ST_OK)
        st = atomic_write(f, head.s, head.len, err);
    str_free(&head);
    for (int64_t i = 0; i < n && st == ST_OK; i++) {
        size_t bytes = (size_t)dtype_size(t[i].dtype);
        for (int d = 0; d < t[i].ndim; d++)
            bytes *= (size_t)t[i].shape[d];
        st = atomic_write(f, t[i].data, bytes, err);
    }
    if (st != ST_OK) {
        atomic_abort(f);
        return st;
    }
    return atomic_commit(f, err);
}
