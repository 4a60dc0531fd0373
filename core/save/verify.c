#include "save/verify.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"
#include "model/check.h"
#include "model/weight.h"
#include "save/dequant.h"
#include "save/marks.h"
#include "save/saveout.h"

/* ---- the output's tensors and labels ---- */

typedef struct Output {
    const SavePlan *plan;
    Checkpoint **files;
    size_t nfiles, cap;
    Map where;       /* name -> file * 2^32 + index */
    Map labels;      /* name -> index into label */
    char (*label)[48];
    size_t nlabels, labels_cap;
    bool described;
    uint8_t **used;  /* [nfiles][tensors] */
    Arena names;
    VerifyReport *r;
    char *src, *raw; /* scratch */
    size_t src_cap, raw_cap;
    bool no_memory;  /* while a tensor was fetched */
} Output;

static void problem(Output *o, const char *fmt, ...)
{
    VerifyReport *r = o->r;
    if (r->problems < VERIFY_PROBLEMS) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(r->problem[r->problems], sizeof r->problem[0], fmt, ap);
        va_end(ap);
    }
    r->problems++;
}

static Status add_file(Output *o, const char *path, Error *err)
{
    if (!mem_grow(&o->files, &o->cap, o->nfiles + 1, sizeof *o->files))
        return error_nomem(err, path);
    Checkpoint *c;
    RETURN_IF_ERROR(checkpoint_open(&c, path, err));
    size_t file = o->nfiles++;
    o->files[file] = c; /* freed with the others, whatever comes */
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const TensorInfo *t = checkpoint_at(c, i);
        bool added;
        if (!map_add(&o->where, t->name, strlen(t->name), (int64_t)file << 32 | i, &added))
            return error_nomem(err, path);
        if (!added)
            problem(o, "'%s' is in two files", t->name);
    }
    return ST_OK;
}

static Status take_label(void *ctx, const char *key, size_t key_len, const char *v, size_t n, Error *err)
{
    Output *o = ctx;
    if (n < 2 || v[0] != '"')
        return ST_OK; /* metadata and the like */
    if (!mem_grow(&o->label, &o->labels_cap, o->nlabels + 1, sizeof *o->label))
        return error_nomem(err, "the description");
    snprintf(o->label[o->nlabels], sizeof o->label[0], "%.*s", (int)(n - 2 < 47 ? n - 2 : 47), v + 1);
    const char *kept = arena_strndup(&o->names, key, key_len);
    if (!kept || !map_add(&o->labels, kept, key_len, (int64_t)o->nlabels, NULL))
        return error_nomem(err, "the description");
    o->nlabels++;
    return ST_OK;
}

static Status read_description(Output *o, const char *path, Error *err)
{
    char *text;
    size_t n;
    RETURN_IF_ERROR(file_read(path, (size_t)1 << 30, &text, &n, err));
    Status st = json_walk(text, n, path, take_label, o, err);
    free(text);
    o->described = true;
    return st;
}

static Status open_output(Output *o, const SaveFormat *f, Error *err)
{
    DIR *d = opendir(o->plan->dir);
    if (!d)
        return file_error(err, "read folder", o->plan->dir, errno);
    Status st = ST_OK;
    const struct dirent *e;
    while (st == ST_OK && (e = readdir(d)) != NULL) {
        bool weights = format_is_weights(f, e->d_name);
        if (!weights && !(f->labels && format_is_description(f, e->d_name)))
            continue;
        char *path = path_join(o->plan->dir, e->d_name);
        st = !path ? error_nomem(err, "a path") : weights ? add_file(o, path, err) : read_description(o, path, err);
        free(path);
    }
    closedir(d);
    if (st == ST_OK && o->nfiles == 0)
        return error_set(err, ST_DATA, "'%s' holds no weights written by %s", o->plan->dir, f->type);
    if (st == ST_OK && !o->described && f->labels)
        return error_set(err, ST_DATA, "'%s' holds no %s", o->plan->dir, f->description);
    o->used = mem_zarray(o->nfiles, sizeof *o->used);
    for (size_t i = 0; st == ST_OK && i < o->nfiles; i++)
        if (!o->used || !(o->used[i] = mem_zarray((size_t)checkpoint_count(o->files[i]), 1)))
            st = error_nomem(err, "the list of tensors");
    return st;
}

static const TensorInfo *find(Output *o, const char *name, const Checkpoint **c)
{
    int64_t at = map_get(&o->where, name, strlen(name), -1);
    if (at < 0)
        return NULL;
    *c = o->files[at >> 32];
    o->used[at >> 32][at & 0xffffffff] = 1;
    return checkpoint_at(*c, at & 0xffffffff);
}

/* ---- comparing ---- */

static Status to_memory(void *ctx, uint64_t at, const void *data, size_t n, Error *err)
{
    Output *o = ctx;
    if (!mem_grow(&o->src, &o->src_cap, (size_t)at + n + 1, 1))
        return error_nomem(err, "a tensor of the model");
    memcpy(o->src + at, data, n);
    return ST_OK;
}

/* Compares what is put with the same bytes of the output. */
typedef struct Compare {
    Output *o;
    const Checkpoint *c;
    const TensorInfo *t;
    bool differs, bad, nan; /* bad: has a NaN (nan) or an Inf */
} Compare;

static Status compare_put(void *ctx, uint64_t at, const void *data, size_t n, Error *err)
{
    Compare *p = ctx;
    if (!mem_grow(&p->o->raw, &p->o->raw_cap, n + 1, 1))
        return error_nomem(err, p->t->name);
    RETURN_IF_ERROR(checkpoint_read(p->c, p->t, at, n, p->o->raw, err));
    p->bad = p->bad || values_first_bad(p->t->dtype, p->o->raw, (int64_t)n / dtype_size(p->t->dtype), &p->nan) >= 0;
    p->differs = p->differs || memcmp(p->o->raw, data, n) != 0;
    p->o->r->bytes += n;
    return ST_OK;
}

/* Whether the tensor is there, of this type and size; else a problem. */
static bool expect(Output *o, const char *name, DType dtype, uint64_t nbytes, Compare *p)
{
    *p = (Compare){.o = o};
    p->t = find(o, name, &p->c);
    if (!p->t)
        problem(o, "'%s' is missing", name);
    else if (p->t->dtype != dtype || p->t->nbytes != nbytes)
        problem(o, "'%s' is %s with %llu bytes, the model's is %s with %llu", name, dtype_name(p->t->dtype),
                (unsigned long long)p->t->nbytes, dtype_name(dtype), (unsigned long long)nbytes);
    else
        return true;
    return false;
}

static void tell_compared(Output *o, const Compare *p)
{
    if (p->differs)
        problem(o, "'%s' differs from the model's", p->t->name);
    if (p->bad)
        problem(o, "'%s' has %s", p->t->name, p->nan ? "NaN" : "Inf");
}

static Status verify_tensor(Output *o, const SaveItem *it, Error *err)
{
    Compare p;
    uint64_t bytes = it->coded ? (uint64_t)it->coded->out * (uint64_t)it->coded->in * sizeof(uint16_t)
                     : save_is_added(it)
                         ? (uint64_t)save_added_values(o->plan, it) * (uint64_t)dtype_size(save_item_dtype(o->plan, it, false))
                         : it->t->nbytes * (it->wide ? 2 : 1);
    if (!expect(o, it->name, save_item_dtype(o->plan, it, false), bytes, &p))
        return ST_OK;
    RETURN_IF_ERROR(save_copy_item(o->plan, it, false, compare_put, &p, err));
    tell_compared(o, &p);
    return ST_OK;
}

static const char *name_of(const SaveItem *it, const char *suffix, char buf[600])
{
    snprintf(buf, 600, "%.500s%s", it->name, suffix);
    return buf;
}

static Status verify_float(Output *o, const SaveItem *it, Error *err)
{
    const Linear *l = &o->plan->model->linears[it->linear];
    char name[600];
    for (int bias = 0; bias < 2; bias++) {
        if (bias && !save_has_bias(o->plan, it->linear))
            continue;
        uint64_t count = (uint64_t)l->out * (bias ? 1 : (uint64_t)l->in);
        DType dtype = save_item_dtype(o->plan, it, bias);
        Compare p;
        if (!expect(o, name_of(it, bias ? ".bias" : ".weight", name), dtype, count * (uint64_t)dtype_size(dtype), &p))
            continue;
        RETURN_IF_ERROR(save_copy_item(o->plan, it, bias, compare_put, &p, err));
        tell_compared(o, &p);
    }
    return ST_OK;
}

static const void *fetch(void *ctx, const char *name, const TensorInfo **t)
{
    Output *o = ctx;
    const Checkpoint *c;
    *t = find(o, name, &c);
    if (!*t)
        return NULL;
    void *p = arena_alloc(&o->names, (*t)->nbytes + 1);
    Error err = {0};
    o->no_memory = o->no_memory || !p;
    if (!p || checkpoint_read(c, *t, 0, (*t)->nbytes, p, &err) != ST_OK)
        return NULL;
    o->r->bytes += (*t)->nbytes;
    bool nan;
    if (values_first_bad((*t)->dtype, p, (int64_t)(*t)->nbytes / dtype_size((*t)->dtype), &nan) >= 0)
        problem(o, "'%s' has %s", name, nan ? "NaN" : "Inf");
    return p;
}

static double norm_ratio(const Dequant *d, const Linear *l, const char *src, DType dtype, float *row, bool *bad)
{
    double diff = 0, all = 0;
    for (int64_t n = 0; n < l->out; n++) {
        dequant_row(d, n, row);
        for (int64_t k = 0; k < l->in; k++) {
            double w = dequant_value(src, n * l->in + k, dtype), e = w - (double)row[k];
            diff += e * e;
            all += w * w;
        }
    }
    *bad = !isfinite(diff);
    return all > 0 ? sqrt(diff / all) : diff > 0 ? NAN : 0;
}

static Status verify_quantized(Output *o, const SaveItem *it, const char *label, VerifyRow *row, Error *err)
{
    int64_t i = it->linear;
    const Linear *l = &o->plan->model->linears[i];
    Arena keep = o->names;
    Dequant d;
    char why[200] = "";
    row->error = NAN;
    o->names = (Arena){0};
    float *y = mem_array((size_t)l->in, sizeof *y);
    Status st = y ? save_copy_linear(o->plan, i, false, to_memory, o, err) : error_nomem(err, l->name);
    const QConfig *q = save_config(o->plan, i);
    int64_t dual = q ? q->weight.ext.dual_block : 0;
    bool ok = st == ST_OK && dequant_open(&d, it->name, label, l->out, l->in, dual, fetch, o, why, sizeof why);
    bool bad = false;
    if (!ok && o->no_memory)
        st = error_nomem(err, l->name);
    if (ok)
        row->error = norm_ratio(&d, l, o->src, weight_dtype(l), y, &bad);
    else if (st == ST_OK)
        problem(o, "'%s': %s", l->name, why);
    if (bad)
        problem(o, "'%s' dequantizes to NaN or infinity", l->name);
    free(y);
    arena_free(&o->names);
    o->names = keep;
    return st;
}

static Status verify_linear(Output *o, const SaveItem *it, Error *err)
{
    int64_t i = it->linear;
    char name[600];
    name_of(it, ".weight", name);
    VerifyRow *row = &o->r->rows[o->r->n++];
    int64_t at = map_get(&o->labels, name, strlen(name), -1);
    *row = (VerifyRow){.linear = i};
    const Checkpoint *c;
    const TensorInfo *t = find(o, name, &c);
    bool raw = t && dtype_plain(t->dtype);
    char label[64];
    snprintf(label, sizeof label, "%s", o->described ? at >= 0 ? o->label[at] : "?" : raw ? "FLOAT" : "INT8");
    (void)label_unmark(label);
    snprintf(row->label, sizeof row->label, "%.31s", label);
    if (!t) {
        problem(o, "'%s' is missing", name);
        row->error = NAN;
        return ST_OK;
    }
    if (strcmp(row->label, "?") == 0)
        problem(o, "'%s' is not in the description", name);
    if (strcmp(scheme_of_label(row->label), "FLOAT") == 0)
        return verify_float(o, it, err);
    RETURN_IF_ERROR(verify_quantized(o, it, row->label, row, err));
    o->r->quantized++;
    if (o->r->worst < 0 || !(row->error <= o->r->rows[o->r->worst].error))
        o->r->worst = o->r->n - 1;
    return ST_OK;
}

static void verify_cache(Output *o, const SaveItem *it)
{
    for (int k = 0; k < SAVE_CACHE_PARTS; k++) {
        char name[600];
        const Checkpoint *c;
        int64_t n;
        snprintf(name, sizeof name, "%.500s%s", it->name, save_cache_part(o->plan, it->layer, k, &n));
        const TensorInfo *t = find(o, name, &c);
        if (!t)
            problem(o, "'%s' is missing", name);
        else if (t->ndim != 1 || t->shape[0] != n)
            problem(o, "'%s' has %lld values, expected %lld", name, (long long)t->shape[0], (long long)n);
    }
}

/* Its values are the processor's alone. */
static void verify_made(Output *o, const SaveFormat *f, const SaveItem *it)
{
    const Checkpoint *c;
    if (it->made->file || !save_holds(f, it->made))
        return;
    if (it->made->entry) {
        int64_t at = map_get(&o->labels, it->name, strlen(it->name), -1);
        if (at < 0 || strcmp(o->label[at], it->made->entry) != 0)
            problem(o, "the description has '%s' as %s, expected %s", it->name, at < 0 ? "nothing" : o->label[at],
                    it->made->entry);
        return;
    }
    const TensorInfo *t = find(o, it->name, &c);
    bool fits = t && t->dtype == save_made_dtype(it->made) && t->ndim == it->made->ndim;
    for (int d = 0; fits && d < t->ndim; d++)
        fits = t->shape[d] == it->made->shape[d];
    if (!t)
        problem(o, "'%s' is missing", it->name);
    else if (!fits)
        problem(o, "'%s' has another shape or type than was planned", it->name);
}

static void unexpected(Output *o)
{
    for (size_t f = 0; f < o->nfiles; f++)
        for (int64_t i = 0; i < checkpoint_count(o->files[f]); i++)
            if (!o->used[f][i])
                problem(o, "'%s' is not expected", checkpoint_at(o->files[f], i)->name);
}

static Status verify_all(Output *o, const SaveFormat *f, const SaveWalk *w, const Cancel *cancel, Error *err)
{
    for (size_t i = 0; i < w->n; i++) {
        const SaveItem *it = &w->items[i];
        RETURN_IF_ERROR(cancel_check(cancel, err));
        if (it->kind == SI_TENSOR || save_is_added(it))
            RETURN_IF_ERROR(verify_tensor(o, it, err));
        else if (it->kind == SI_LINEAR)
            RETURN_IF_ERROR(verify_linear(o, it, err));
        else if (it->kind == SI_MADE)
            verify_made(o, f, it);
        else
            verify_cache(o, it);
    }
    unexpected(o);
    return ST_OK;
}

Status save_verify(const SavePlan *plan, const SaveFormat *f, VerifyReport *out, const Cancel *cancel, Error *err)
{
    SaveWalk w = {0};
    *out = (VerifyReport){.worst = -1};
    Output o = {.plan = plan, .r = out};
    out->rows = mem_zarray((size_t)plan->model->nlinears + 1, sizeof *out->rows);
    Status st = out->rows ? open_output(&o, f, err) : error_nomem(err, "the report");
    if (st == ST_OK)
        st = save_walk(&w, plan, err);
    if (st == ST_OK)
        st = verify_all(&o, f, &w, cancel, err);
    save_walk_free(&w);
    for (size_t i = 0; i < o.nfiles; i++) {
        checkpoint_free(o.files[i]);
        if (o.used)
            free(o.used[i]);
    }
    free(o.files);
    free(o.used);
    free(o.label);
    free(o.src);
    free(o.raw);
    map_free(&o.where);
    map_free(&o.labels);
    arena_free(&o.names);
    return st;
}

void verify_free(VerifyReport *r)
{
    free(r->rows);
    r->rows = NULL;
}
