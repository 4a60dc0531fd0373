#include "run/stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

Status stream_init(Stream *s, int samples, const int64_t *start, int64_t width, Error *err)
{
    int64_t rows = start[samples], cells;
    *s = (Stream){.samples = samples, .rows = rows, .width = width};
    if (!mul_i64(rows, width, &cells))
        return error_nomem(err, "hidden states");
    s->start = mem_array((size_t)samples + 1, sizeof *s->start);
    s->data = mem_aligned((size_t)cells, sizeof *s->data);
    if (!s->start || !s->data) {
        stream_fini(s);
        return error_nomem(err, "hidden states");
    }
    memcpy(s->start, start, ((size_t)samples + 1) * sizeof *start);
    return ST_OK;
}

Status stream_copy(Stream *dst, const Stream *src, Error *err)
{
    RETURN_IF_ERROR(stream_init(dst, src->samples, src->start, src->width, err));
    memcpy(dst->data, src->data, (size_t)(src->rows * src->width) * sizeof *src->data);
    Status st = src->ids ? stream_set_ids(dst, src->ids, err) : ST_OK;
    if (st == ST_OK && src->select)
        st = stream_reserve_select(dst, src->select_words * 32, err);
    if (st != ST_OK)
        stream_fini(dst);
    else if (src->select)
        memcpy(dst->select, src->select, (size_t)(src->rows * src->select_words) * sizeof *src->select);
    return st;
}

Status stream_set_ids(Stream *s, const int32_t *ids, Error *err)
{
    int32_t *copy = mem_array((size_t)s->rows, sizeof *copy);
    if (!copy)
        return error_nomem(err, "token ids");
    memcpy(copy, ids, (size_t)s->rows * sizeof *copy);
    free(s->ids);
    s->ids = copy;
    return ST_OK;
}

Status stream_reserve_select(Stream *s, int64_t keys, Error *err)
{
    int64_t words = (keys + 31) / 32, n;
    if (s->select && s->select_words == words)
        return ST_OK;
    free(s->select);
    s->select = mul_i64(s->rows, words, &n) ? mem_array((size_t)n, sizeof *s->select) : NULL;
    s->select_words = words;
    return s->select ? ST_OK : error_nomem(err, "the keys an indexer chose");
}

void stream_fini(Stream *s)
{
    free(s->start);
    free(s->data);
    free(s->select);
    free(s->ids);
    *s = (Stream){0};
}
