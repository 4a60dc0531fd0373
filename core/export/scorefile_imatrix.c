#include "export/scorefile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Importance matrices of llama.cpp (tools/imatrix/imatrix.cpp): the squares of a tensor's inputs by column. The score is what
 * its --show-statistics calls sum(Act^2): the mean of the squares over the tokens, summed over the columns. */

typedef struct Bytes {
    const unsigned char *at, *end;
} Bytes;

/* The next n bytes; NULL where the file ends before. */
static const unsigned char *take(Bytes *b, uint64_t n)
{
    if (n > (uint64_t)(b->end - b->at))
        return NULL;
    const unsigned char *p = b->at;
    b->at += n;
    return p;
}

static uint64_t little(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

static bool take_int(Bytes *b, int bytes, uint64_t *out)
{
    const unsigned char *p = take(b, (uint64_t)bytes);
    if (p)
        *out = little(p, bytes);
    return p != NULL;
}

static double float_at(const unsigned char *p, uint64_t i)
{
    uint32_t bits = (uint32_t)little(p + 4 * i, 4);
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

static double sum_of(const unsigned char *p, uint64_t from, uint64_t n)
{
    double sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += float_at(p, from + i);
    return sum;
}

static Status cut_off(Error *err)
{
    return error_set(err, ST_DATA, "it is cut off");
}

/* ---- before GGUF: counts, names, and means times the number of calls ---- */

static int64_t columns_of(const Model *m, const char *name, size_t len, uint64_t values)
{
    char tensor[256];
    if (!m || len >= sizeof tensor)
        return (int64_t)values;
    memcpy(tensor, name, len);
    tensor[len] = '\0';
    int64_t i = gguf_linear(m, tensor, 0);
    int64_t in = i >= 0 && m->linears[i].expert >= 0 ? m->linears[i].in : 0;
    return in > 0 && values % (uint64_t)in == 0 ? in : (int64_t)values;
}

static Status dat_entry(Bytes *b, const Model *m, ScoreFile *f, ScoreColumn *c, Error *err)
{
    uint64_t len, calls, n;
    const unsigned char *name, *v;
    if (!take_int(b, 4, &len) || !(name = take(b, len)) || !take_int(b, 4, &calls) || !take_int(b, 4, &n)
        || !(v = take(b, n * 4)))
        return cut_off(err);
    if (n == 0 || calls > INT32_MAX)
        return error_set(err, ST_DATA, "a tensor has no values, or no number of calls");
    int64_t columns = columns_of(m, (const char *)name, len, n);
    int64_t matrices = (int64_t)n / columns;
    for (int64_t k = 0; k < matrices; k++) {
        double sum = sum_of(v, (uint64_t)(k * columns), (uint64_t)columns);
        RETURN_IF_ERROR(score_add(f, c, (const char *)name, len, matrices > 1 ? (int)k : -1,
                                  calls ? sum / (double)calls : sum, err));
    }
    return ST_OK;
}

Status score_read_dat(char *text, size_t len, const Model *m, ScoreFile *f, Error *err)
{
    Bytes b = {(const unsigned char *)text, (const unsigned char *)text + len};
    uint64_t entries;
    ScoreColumn *c;
    if (!take_int(&b, 4, &entries))
        return cut_off(err);
    if (entries == 0 || entries > 1u << 24)
        return error_set(err, ST_DATA, "it says that it has %llu tensors", (unsigned long long)entries);
    RETURN_IF_ERROR(score_column(f, NULL, &c, err));
    for (uint64_t i = 0; i < entries; i++)
        RETURN_IF_ERROR(dat_entry(&b, m, f, c, err));
    return ST_OK; /* chunks and the data set's name follow in newer files */
}

/* ---- GGUF ---- */

enum { GT_U8, GT_I8, GT_U16, GT_I16, GT_U32, GT_I32, GT_F32, GT_BOOL, GT_STRING, GT_ARRAY, GT_U64, GT_I64, GT_F64, GT_TYPES };
static const unsigned char type_bytes[GT_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static bool take_text(Bytes *b, const char **out, uint64_t *len)
{
    return take_int(b, 8, len) && (*out = (const char *)take(b, *len)) != NULL;
}

static Status skip_value(Bytes *b, uint64_t type, Error *err)
{
    const char *s;
    uint64_t n, of;
    if (type >= GT_TYPES)
        return error_set(err, ST_DATA, "a value of unknown type %llu", (unsigned long long)type);
    if (type == GT_STRING)
        return take_text(b, &s, &n) ? ST_OK : cut_off(err);
    if (type != GT_ARRAY)
        return take(b, type_bytes[type]) ? ST_OK : cut_off(err);
    if (!take_int(b, 4, &of) || !take_int(b, 8, &n))
        return cut_off(err);
    if (of == GT_ARRAY || of >= GT_TYPES)
        return error_set(err, ST_DATA, "a list of type %llu", (unsigned long long)of);
    if (of != GT_STRING)
        return n <= (uint64_t)(b->end - b->at) && take(b, n * type_bytes[of]) ? ST_OK : cut_off(err);
    for (uint64_t i = 0; i < n; i++)
        RETURN_IF_ERROR(skip_value(b, GT_STRING, err));
    return ST_OK;
}

static bool is_text(const char *s, uint64_t len, const char *want)
{
    return len == strlen(want) && memcmp(s, want, len) == 0;
}

static Status read_pair(Bytes *b, uint64_t *alignment, Error *err)
{
    const char *key;
    uint64_t len, type;
    if (!take_text(b, &key, &len) || !take_int(b, 4, &type))
        return cut_off(err);
    if (is_text(key, len, "general.alignment") && type == GT_U32) {
        if (!take_int(b, 4, alignment))
            return cut_off(err);
        return *alignment && *alignment <= 1u << 20 ? ST_OK : error_set(err, ST_DATA, "an alignment of %llu bytes",
                                                                        (unsigned long long)*alignment);
    }
    return skip_value(b, type, err);
}

typedef struct Tensor {
    const char *name;
    uint64_t len, columns, matrices, offset;
} Tensor;

static Status read_tensor(Bytes *b, Tensor *t, Error *err)
{
    uint64_t dims, n[4] = {1, 1, 1, 1}, type;
    if (!take_text(b, &t->name, &t->len) || !take_int(b, 4, &dims))
        return cut_off(err);
    if (dims == 0 || dims > 4)
        return error_set(err, ST_DATA, "a tensor of %llu dimensions", (unsigned long long)dims);
    for (uint64_t i = 0; i < dims; i++)
        if (!take_int(b, 8, &n[i]))
            return cut_off(err);
    if (!take_int(b, 4, &type) || !take_int(b, 8, &t->offset))
        return cut_off(err);
    if (type != 0)
        return error_set(err, ST_DATA, "a tensor that isn't of float32: it is no imatrix");
    if (n[0] == 0 || n[0] > 1u << 28 || n[1] == 0 || n[1] > 1u << 20 || n[2] != 1 || n[3] != 1)
        return error_set(err, ST_DATA, "a tensor of a size that no imatrix has");
    t->columns = n[0];
    t->matrices = n[1];
    return ST_OK;
}

/* Values of a tensor: NULL where they lie beyond the file's end. */
static const unsigned char *values_of(const Tensor *t, const Bytes *data)
{
    uint64_t size = (uint64_t)(data->end - data->at), bytes = t->columns * t->matrices * 4;
    return t->offset <= size && bytes <= size - t->offset ? data->at + t->offset : NULL;
}

static bool ends_with(const Tensor *t, const char *end, uint64_t *stem)
{
    size_t n = strlen(end);
    *stem = t->len - (t->len > n ? n : t->len);
    return t->len > n && memcmp(t->name + *stem, end, n) == 0;
}

static Status add_tensor(const Tensor *sum, uint64_t stem, const Tensor *count, const Bytes *data, ScoreFile *f,
                         ScoreColumn *c, Error *err)
{
    const unsigned char *v = values_of(sum, data), *n = values_of(count, data);
    if (!v || !n)
        return cut_off(err);
    if (count->columns * count->matrices != sum->matrices)
        return error_set(err, ST_DATA, "'%.*s' has %llu counts for %llu matrices", (int)(stem < 100 ? stem : 100), sum->name,
                         (unsigned long long)(count->columns * count->matrices), (unsigned long long)sum->matrices);
    for (uint64_t k = 0; k < sum->matrices; k++) {
        double tokens = float_at(n, k); /* an expert that no token reached has none */
        double score = tokens > 0 ? sum_of(v, k * sum->columns, sum->columns) / tokens : NAN;
        RETURN_IF_ERROR(score_add(f, c, sum->name, stem, sum->matrices > 1 ? (int)k : -1, score, err));
    }
    return ST_OK;
}

static Status add_tensors(const Tensor *t, uint64_t n, const Bytes *data, ScoreFile *f, Error *err)
{
    ScoreColumn *c;
    Map counts = {0};
    uint64_t stem;
    Status st = score_column(f, NULL, &c, err);
    for (uint64_t i = 0; i < n && st == ST_OK; i++)
        if (ends_with(&t[i], ".counts", &stem) && !map_add(&counts, t[i].name, stem, (int64_t)i, NULL))
            st = error_nomem(err, "the scores");
    for (uint64_t i = 0; i < n && st == ST_OK; i++) {
        if (!ends_with(&t[i], ".in_sum2", &stem))
            continue;
        int64_t at = map_get(&counts, t[i].name, stem, -1);
        st = at < 0 ? error_set(err, ST_DATA, "'%.*s' has no counts", (int)(stem < 100 ? stem : 100), t[i].name)
                    : add_tensor(&t[i], stem, &t[at], data, f, c, err);
    }
    map_free(&counts);
    return st;
}

Status score_read_gguf(char *text, size_t len, const Model *m, ScoreFile *f, Error *err)
{
    Bytes b = {(const unsigned char *)text + 4, (const unsigned char *)text + len};
    uint64_t version, n, pairs, alignment = 32;
    (void)m;
    if (!take_int(&b, 4, &version) || !take_int(&b, 8, &n) || !take_int(&b, 8, &pairs))
        return cut_off(err);
    if (version < 2 || version > 3)
        return error_set(err, ST_DATA, "GGUF version %llu is not known", (unsigned long long)version);
    for (uint64_t i = 0; i < pairs; i++)
        RETURN_IF_ERROR(read_pair(&b, &alignment, err));
    if (n > (uint64_t)(b.end - b.at) / 24) /* a tensor's entry has more bytes */
        return cut_off(err);
    Tensor *t = mem_zarray((size_t)n + 1, sizeof *t);
    Status st = t ? ST_OK : error_nomem(err, "the scores");
    for (uint64_t i = 0; i < n && st == ST_OK; i++)
        st = read_tensor(&b, &t[i], err);
    if (st == ST_OK) {
        uint64_t at = (uint64_t)(b.at - (const unsigned char *)text), pad = (alignment - at % alignment) % alignment;
        st = take(&b, pad) ? add_tensors(t, n, &b, f, err) : cut_off(err);
    }
    free(t);
    return st;
}
