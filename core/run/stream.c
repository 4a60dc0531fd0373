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
    return ST_OK;
}

void stream_fini(Stream *s)
{
    free(s->start);
    free(s->data);
    *s = (Stream){0};
}
