#include "convert/impl.h"

#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "model/storage.h"

/* What tensors of a checkpoint are, by their names and types, and what reads the rows of coded ones (specs/models.md 2.7). */

/* In place of the scales of codes that have none. */
static const TensorInfo no_scale = {.name = "", .dtype = DT_F32};

static const struct {
    const char *storage;
    ConvertKind kind;
} kind_of[] = {
    {"fp8", CK_FP8_BLOCK}, {"int4_packed", CK_INT4_PACKED}, {"mxfp4", CK_MXFP4},
    {"fp8_e8m0", CK_FP8_E8M0}, {"fp4_e8m0", CK_FP4_E8M0},
};

static int64_t at_name(const Entries *all, const char *base, const char *end)
{
    char name[600];
    size_t n = text_join(name, sizeof name, (const char *const[]){base, end}, 2);
    return n < sizeof name ? map_get(&all->by_name, name, n, -1) : -1;
}

static bool fits(const Storage *s, DType t)
{
    return s->scale_dtype == DT_COUNT ? dtype_plain(t) : t == s->scale_dtype;
}

/* The name without this end. */
static bool cut_end(const char *name, const char *end, char base[512])
{
    size_t n = strlen(name), k = strlen(end);
    if (n <= k || n - k >= 512 || !str_ends_with(name, end))
        return false;
    memcpy(base, name, n - k);
    base[n - k] = 0;
    return true;
}

static bool look_coded(const Entries *all, const Entry *e, Found *f)
{
    for (const Storage *s = storage_table; s->name; s++) {
        if (e->t->dtype != s->dtype || !cut_end(e->name, s->weight, f->base))
            continue;
        int64_t scale = at_name(all, f->base, s->scale), shape = s->shape ? at_name(all, f->base, s->shape) : -1;
        if (scale < 0 || !fits(s, all->e[scale].t->dtype))
            continue;
        f->how = s;
        f->scale = all->e[scale].t;
        f->scale_at = scale;
        f->shape = shape < 0 ? NULL : all->e[shape].t;
        f->shape_at = shape;
        f->kind = CK_UNKNOWN;
        bool refused = s->refused && at_name(all, f->base, s->refused) >= 0;
        for (size_t i = 0; i < sizeof kind_of / sizeof *kind_of && !refused; i++)
            if (strcmp(kind_of[i].storage, s->name) == 0)
                f->kind = kind_of[i].kind;
        return true;
    }
    return false;
}

/* Codes whose scales are missing. */
static bool look_alone(const Entries *all, const Entry *e, Found *f)
{
    for (size_t i = 0; i < sizeof kind_of / sizeof *kind_of; i++)
        for (const Storage *s = storage_table; s->name; s++) {
            bool own = strcmp(s->weight, ".weight") != 0 || s->dtype == DT_F8_E4M3; /* integers may be anything */
            if (!own || !*s->weight || e->t->dtype != s->dtype || strcmp(s->name, kind_of[i].storage) != 0 ||
                !cut_end(e->name, s->weight, f->base) || at_name(all, f->base, ".weight_scale") >= 0)
                continue;
            f->how = s;
            f->kind = kind_of[i].kind;
            return true;
        }
    return false;
}

/* A matrix that is coded in no way that is read. */
static bool look_foreign(const Entries *all, const Entry *e, Found *f)
{
    if (look_alone(all, e, f))
        return true;
    f->kind = CK_UNKNOWN;
    if (e->t->ndim != 2)
        return false;
    if (cut_end(e->name, ".qweight", f->base) || cut_end(e->name, ".weight_packed", f->base))
        return true;
    if (!cut_end(e->name, ".weight", f->base))
        return false;
    f->kind = at_name(all, f->base, ".weight_scale_2") >= 0 ? CK_NVFP4 : CK_UNKNOWN;
    return true;
}

bool convert_look(const Entries *all, const Entry *e, Found *f)
{
    *f = (Found){.scale_at = -1, .shape_at = -1};
    if (look_coded(all, e, f))
        return true;
    if (!dtype_plain(e->t->dtype))
        return look_foreign(all, e, f);
    f->plain = true;
    f->kind = CK_FLOAT;
    if (e->t->ndim == 2)
        return cut_end(e->name, ".weight", f->base);
    return e->t->ndim == 3 && (cut_end(e->name, ".weight", f->base) || cut_end(e->name, "", f->base));
}

/* ---- readers ---- */

/* Rows and columns from the codes' shape; *matrices: 0 of a tensor of two dimensions. */
static Status code_shape(const ConvertPlan *p, const Entry *e, const Found *f, int64_t *matrices, WeightStore *w, Error *err)
{
    const TensorInfo *t = e->t;
    const Storage *s = f->how;
    bool grouped = s->dtype == DT_U8;
    int nd = t->ndim - (grouped ? 1 : 0);
    if (nd < 2 || nd > 3 || t->nbytes == 0 || (grouped && t->shape[nd] != s->group / s->codes))
        return error_set(err, ST_DATA, "'%s': tensor '%s' is no matrix of %s, and no stack of them",
                         checkpoint_file_path(p->shell.ckpt, t->file), t->name, s->title);
    *matrices = nd == 3 ? t->shape[0] : 0;
    w->rows = t->shape[nd - 2];
    w->in = t->shape[nd - 1] * (grouped ? s->group : s->codes);
    w->row_bytes = (grouped ? w->in / s->codes : t->shape[nd - 1]) * dtype_size(s->dtype);
    if (s->group > 0 && w->in % s->group)
        return error_set(err, ST_DATA, "'%s': tensor '%s' codes rows of %lld values in groups of %lld",
                         checkpoint_file_path(p->shell.ckpt, t->file), t->name, (long long)w->in, (long long)s->group);
    return f->shape ? storage_width(&p->shell, t, w, err) : ST_OK;
}

static Status no_room(const Entry *e, Error *err)
{
    return error_nomem(err, e->name);
}

/* Codes without scales: the peer takes them as they are. */
static Status without_scale(const ConvertPlan *p, const Entry *e, WeightStore *w, ConvertItem *it, Error *err)
{
    if (!p->save.peer || w->how->group)
        return error_set(err, ST_DATA, "'%s': tensor '%s%s' is missing: '%s' is %s and means nothing without it",
                         checkpoint_file_path(p->shell.ckpt, e->t->file), it->name, w->how->scale, e->t->name,
                         dtype_name(e->t->dtype));
    it->bare = true;
    w->scale = &no_scale;
    w->block_out = w->rows;
    w->block_in = w->in;
    return ST_OK;
}

Status convert_reader(ConvertPlan *p, const Entry *e, const Found *f, ConvertItem *it, Error *err)
{
    Linear *l = arena_alloc(&p->arena, sizeof *l);
    if (!l)
        return no_room(e, err);
    const TensorInfo *t = e->t;
    *l = (Linear){.name = it->name, .weight = t, .layer = -1, .expert = -1};
    it->l = l;
    if (f->plain) {
        l->out = t->shape[t->ndim - 2] * (t->ndim == 3 ? t->shape[0] : 1);
        l->in = t->shape[t->ndim - 1];
        it->matrices = t->ndim == 3 ? t->shape[0] : 1;
        return ST_OK;
    }
    WeightStore *w = arena_alloc(&p->arena, sizeof *w);
    int64_t matrices = 0;
    if (!w)
        return no_room(e, err);
    *w = (WeightStore){.how = f->how, .scale = f->scale, .shape = f->shape, .exact = it->to != CK_FLOAT && !p->save.peer};
    l->store = w;
    RETURN_IF_ERROR(code_shape(p, e, f, &matrices, w, err));
    RETURN_IF_ERROR(f->scale ? storage_scales(&p->shell, matrices, w, err) : without_scale(p, e, w, it, err));
    it->matrices = matrices ? matrices : 1;
    l->out = it->matrices * w->rows;
    l->in = w->in;
    it->turned = f->how->dtype == DT_U8 && matrices > 0 && it->to == CK_FLOAT;
    return ST_OK;
}

Status convert_reader_part(ConvertPlan *p, const ConvertItem *stack, int64_t m, int64_t first, int64_t rows, ConvertItem *it,
                           Error *err)
{
    Linear *l = arena_alloc(&p->arena, sizeof *l);
    if (!l)
        return error_nomem(err, it->name);
    int64_t each = stack->l->out / stack->matrices;
    *l = *stack->l;
    l->name = it->name;
    l->out = rows;
    l->out_step = l->in;
    l->in_step = 1;
    l->at = (m * each + first) * l->in;
    it->l = l;
    it->matrices = 1;
    if (!l->store || it->to == CK_FLOAT || p->save.peer)
        return ST_OK;
    WeightStore *w = arena_alloc(&p->arena, sizeof *w);
    if (!w)
        return error_nomem(err, it->name);
    *w = *l->store;
    w->exact = true;
    l->store = w;
    return ST_OK;
}
