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

Status stream_like(Stream *out, const Stream *in, Error *err)
{
    RETURN_IF_ERROR(stream_init(out, in->samples, in->start, in->width, err));
    out->first = in->first;
    Status st = in->ids ? stream_set_ids(out, in->ids, err) : ST_OK;
    if (st != ST_OK)
        stream_fini(out);
    return st;
}

Status stream_copy(Stream *dst, const Stream *src, Error *err)
{
    RETURN_IF_ERROR(stream_init(dst, src->samples, src->start, src->width, err));
    memcpy(dst->data, src->data, (size_t)(src->rows * src->width) * sizeof *src->data);
    dst->copy = src->copy;
    dst->first = src->first;
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

Status stream_slice(Stream *out, const Stream *in, int s0, int n, Error *err)
{
    int64_t row = in->start[s0], *start = mem_array((size_t)n + 1, sizeof *start);
    *out = (Stream){0};
    if (!start)
        return error_nomem(err, "hidden states");
    for (int i = 0; i <= n; i++)
        start[i] = in->start[s0 + i] - row;
    Status st = stream_init(out, n, start, in->width, err);
    free(start);
    RETURN_IF_ERROR(st);
    out->first = in->first + s0;
    memcpy(out->data, in->data + row * in->width, (size_t)(out->rows * out->width) * sizeof *out->data);
    if (in->ids)
        st = stream_set_ids(out, in->ids + row, err);
    if (st == ST_OK && in->select)
        st = stream_reserve_select(out, in->select_words * 32, err);
    if (st != ST_OK)
        stream_fini(out);
    else if (in->select)
        memcpy(out->select, in->select + row * in->select_words,
               (size_t)(out->rows * out->select_words) * sizeof *out->select);
    return st;
}

/* Sample i of n that are spread over all. */
static int64_t spread(const Stream *in, int i, int n)
{
    return (int64_t)i * in->samples / n;
}

Status stream_beginnings(Stream *out, const Stream *in, int n, int64_t rows, Error *err)
{
    int64_t *start = mem_array((size_t)n + 1, sizeof *start);
    *out = (Stream){0};
    if (!start)
        return error_nomem(err, "hidden states");
    start[0] = 0;
    for (int i = 0; i < n; i++) {
        int64_t all = in->start[spread(in, i, n) + 1] - in->start[spread(in, i, n)];
        start[i + 1] = start[i] + (all < rows ? all : rows);
    }
    Status st = stream_init(out, n, start, in->width, err);
    free(start);
    RETURN_IF_ERROR(st);
    if (in->ids && !(out->ids = mem_array((size_t)out->rows + 1, sizeof *out->ids)))
        st = error_nomem(err, "token ids");
    if (st == ST_OK && in->select)
        st = stream_reserve_select(out, in->select_words * 32, err);
    for (int i = 0; st == ST_OK && i < n; i++) {
        int64_t to = out->start[i], from = in->start[spread(in, i, n)];
        size_t k = (size_t)(out->start[i + 1] - to);
        memcpy(out->data + to * out->width, in->data + from * out->width, k * (size_t)out->width * sizeof *out->data);
        if (in->ids)
            memcpy(out->ids + to, in->ids + from, k * sizeof *out->ids);
        if (in->select)
            memcpy(out->select + to * out->select_words, in->select + from * in->select_words,
                   k * (size_t)in->select_words * sizeof *out->select);
    }
    if (st != ST_OK)
        stream_fini(out);
    return st;
}

/* ---- copies ---- */

/* Starts of `copies` copies of a stream's samples. */
static int64_t *copies_start(const Stream *one, int copies)
{
    int64_t *start = mem_array((size_t)copies * (size_t)one->samples + 1, sizeof *start);
    for (int c = 0; start && c < copies; c++)
        for (int i = 0; i <= one->samples; i++)
            start[(int64_t)c * one->samples + i] = c * one->rows + one->start[i];
    return start;
}

Status stream_copies(Stream *out, const Stream *one, int copies, Error *err)
{
    int64_t *start = copies_start(one, copies);
    *out = (Stream){0};
    if (!start)
        return error_nomem(err, "copies of hidden states");
    Status st = stream_init(out, copies * one->samples, start, one->width, err);
    free(start);
    RETURN_IF_ERROR(st);
    out->copy = one->samples;
    memcpy(out->data, one->data, (size_t)(one->rows * one->width) * sizeof *out->data);
    if (one->ids && !(out->ids = mem_array((size_t)out->rows, sizeof *out->ids)))
        st = error_nomem(err, "token ids");
    for (int c = 0; st == ST_OK && one->ids && c < copies; c++)
        memcpy(out->ids + c * one->rows, one->ids, (size_t)one->rows * sizeof *out->ids);
    if (st == ST_OK && one->select)
        st = stream_reserve_select(out, one->select_words * 32, err);
    if (st != ST_OK)
        stream_fini(out);
    else if (one->select)
        memcpy(out->select, one->select, (size_t)(one->rows * one->select_words) * sizeof *out->select);
    return st;
}

Stream stream_view(const Stream *copies, int first, int n)
{
    int64_t rows = copies->start[copies->copy], at = first * rows;
    Stream v = *copies; /* every copy has the starts of the first */
    v.samples = n * copies->copy;
    v.rows = n * rows;
    v.data += at * copies->width;
    v.ids = v.ids ? v.ids + at : NULL;
    v.select = v.select ? v.select + at * copies->select_words : NULL;
    return v;
}

Status stream_view_end(Stream *copies, int first, Stream *view, Error *err)
{
    if (!view->select || copies->select)
        return ST_OK;
    Status st = stream_reserve_select(copies, view->select_words * 32, err);
    if (st == ST_OK)
        memcpy(copies->select + first * copies->start[copies->copy] * view->select_words, view->select,
               (size_t)(view->rows * view->select_words) * sizeof *view->select);
    free(view->select);
    view->select = NULL;
    return st;
}

void stream_copy_over(Stream *copies, int to, int from)
{
    int64_t rows = copies->start[copies->copy], w = copies->width, words = copies->select_words;
    memcpy(copies->data + to * rows * w, copies->data + from * rows * w, (size_t)(rows * w) * sizeof *copies->data);
    if (copies->select)
        memcpy(copies->select + to * rows * words, copies->select + from * rows * words,
               (size_t)(rows * words) * sizeof *copies->select);
}
