#include "save/layout.h"

#include <stdlib.h>
#include <string.h>

Status layout_add(SaveLayout *l, const char *module, const char *suffix, DType dtype, int ndim, const int64_t *shape,
                  const char *label, int32_t item, int32_t part, Error *err)
{
    size_t a = strlen(module), b = strlen(suffix);
    char *name = arena_alloc(&l->names, a + b + 1);
    if (!name || !mem_grow(&l->t, &l->cap, l->n + 1, sizeof *l->t))
        return error_nomem(err, "the list of tensors");
    memcpy(name, module, a);
    memcpy(name + a, suffix, b + 1);
    OutTensor t = {.name = name, .label = label, .item = item, .part = part, .ndim = (int16_t)ndim,
                   .dtype = (int16_t)dtype};
    int64_t count = 1;
    for (int d = 0; d < ndim; d++) {
        t.shape[d] = shape[d];
        if (shape[d] < 0 || !mul_i64(count, shape[d], &count))
            return error_set(err, ST_DATA, "tensor '%s' is too large", name);
    }
    if (!mul_i64(count, dtype_size(dtype), &count))
        return error_set(err, ST_DATA, "tensor '%s' is too large", name);
    t.nbytes = (uint64_t)count;
    l->t[l->n++] = t;
    return ST_OK;
}

void layout_cut(SaveLayout *l, uint64_t limit)
{
    uint64_t pending = 0;
    size_t waiting = 0;
    int file = 0;
    for (size_t i = 0; i < l->n; i++) {
        if (l->t[i].own)
            continue;
        if (limit && waiting && pending + l->t[i].nbytes >= limit) {
            file++;
            pending = 0;
            waiting = 0;
        }
        l->t[i].file = file;
        pending += l->t[i].nbytes;
        waiting++;
    }
    l->files = file + 1;
}

Status layout_own(SaveLayout *l, Error *err)
{
    int shards = l->files;
    size_t cap = 0;
    for (size_t i = 0; i < l->n; i++) {
        int k = 0;
        if (!l->t[i].own)
            continue;
        while (k < l->nown && strcmp(l->own[k], l->t[i].own) != 0)
            k++;
        if (k == l->nown) {
            if (!mem_grow(&l->own, &cap, (size_t)k + 1, sizeof *l->own))
                return error_nomem(err, "the list of files");
            l->own[l->nown++] = l->t[i].own;
        }
        l->t[i].file = shards + k;
    }
    l->files = shards + l->nown;
    return ST_OK;
}

int layout_shards(const SaveLayout *l)
{
    return l->files - l->nown;
}

/* Files sort their tensors by dtype in this order (the library's enumeration, from its end), then by name. */
static int dtype_rank(int dtype)
{
    static const int8_t rank[DT_COUNT] = {
        [DT_U64] = 15, [DT_I64] = 14, [DT_F64] = 13, [DT_F32] = 12, [DT_U32] = 11, [DT_I32] = 10, [DT_BF16] = 9,
        [DT_F16] = 8, [DT_U16] = 7, [DT_I16] = 6, [DT_F8_E8M0] = 5, [DT_F8_E4M3] = 4, [DT_F8_E5M2] = 3, [DT_I8] = 2,
        [DT_U8] = 1, [DT_BOOL] = 0,
    };
    return rank[dtype];
}

static int place_cmp(const void *pa, const void *pb, void *ctx)
{
    const OutTensor *t = ctx, *a = &t[*(const size_t *)pa], *b = &t[*(const size_t *)pb];
    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    int d = dtype_rank(b->dtype) - dtype_rank(a->dtype);
    return d ? d : strcmp(a->name, b->name);
}

static Status check_names(const SaveLayout *l, Error *err)
{
    Map seen = {0};
    Status st = ST_OK;
    for (size_t i = 0; i < l->n && st == ST_OK; i++) {
        bool added;
        if (!map_add(&seen, l->t[i].name, strlen(l->t[i].name), 1, &added))
            st = error_nomem(err, "the list of tensors");
        else if (!added)
            st = error_set(err, ST_DATA, "two tensors would be written as '%s'", l->t[i].name);
    }
    map_free(&seen);
    return st;
}

/* JSON of one file's entries, offsets from the end of the header. */
static void header_text(const SaveLayout *l, int file, Str *s)
{
    uint64_t at = 0;
    str_putc(s, '{');
    for (size_t i = l->begin[file]; i < l->begin[file + 1]; i++) {
        const OutTensor *t = &l->t[l->order[i]];
        if (i > l->begin[file])
            str_putc(s, ',');
        str_json(s, t->name);
        str_printf(s, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name((DType)t->dtype));
        for (int d = 0; d < t->ndim; d++)
            str_printf(s, "%s%lld", d ? "," : "", (long long)t->shape[d]);
        str_printf(s, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)(at + t->nbytes));
        at += t->nbytes;
    }
    str_putc(s, '}');
    while (s->len % 8 && !s->oom)
        str_putc(s, ' ');
}

Status layout_header(const SaveLayout *l, int file, Str *out, Error *err)
{
    Str text = {0};
    header_text(l, file, &text);
    unsigned char len[8];
    for (int i = 0; i < 8; i++)
        len[i] = (unsigned char)((uint64_t)text.len >> (8 * i));
    str_clear(out);
    str_append(out, (const char *)len, sizeof len);
    str_append(out, str_text(&text), text.len);
    bool bad = text.oom || out->oom;
    str_free(&text);
    return bad ? error_nomem(err, "a file's header") : ST_OK;
}

Status layout_place(SaveLayout *l, Error *err)
{
    RETURN_IF_ERROR(check_names(l, err));
    size_t files = (size_t)l->files;
    l->order = mem_array(l->n, sizeof *l->order);
    l->begin = mem_zarray(files + 1, sizeof *l->begin);
    l->size = mem_zarray(files, sizeof *l->size);
    l->head = mem_zarray(files, sizeof *l->head);
    if (!l->order || !l->begin || !l->size || !l->head)
        return error_nomem(err, "the list of tensors");
    for (size_t i = 0; i < l->n; i++) {
        l->order[i] = i;
        l->begin[l->t[i].file + 1]++;
    }
    for (size_t f = 0; f < files; f++)
        l->begin[f + 1] += l->begin[f];
    if (l->n)
        qsort_r(l->order, l->n, sizeof *l->order, place_cmp, l->t);
    Str head = {0};
    Status st = ST_OK;
    l->payload = 0;
    for (int f = 0; f < l->files && st == ST_OK; f++) {
        st = layout_header(l, f, &head, err);
        uint64_t at = head.len;
        l->head[f] = at;
        for (size_t i = l->begin[f]; st == ST_OK && i < l->begin[f + 1]; i++) {
            l->t[l->order[i]].offset = at;
            at += l->t[l->order[i]].nbytes;
            l->payload += f < layout_shards(l) ? l->t[l->order[i]].nbytes : 0;
        }
        l->size[f] = at;
    }
    str_free(&head);
    return st;
}

void layout_free(SaveLayout *l)
{
    free(l->t);
    free(l->own);
    free(l->size);
    free(l->head);
    free(l->order);
    free(l->begin);
    arena_free(&l->names);
    *l = (SaveLayout){0};
}
