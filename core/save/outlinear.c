#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/str.h"
#include "math/convert.h"
#include "model/check.h"
#include "save/attention.h"
#include "save/dequant.h"
#include "save/outcheck_impl.h"

/* Linears of an output: what each must consist of, told by its label or its group. */

static const char weight_end[] = ".weight";

/* ---- tensors ---- */

typedef struct Module {
    const char *name;        /* "model.layers.0.mlp.up_proj" */
    const char *what;        /* its label, or its group */
    const TensorInfo *weight;
    int64_t out, in;
} Module;

static const TensorInfo *tensor_of(const OutCheck *o, const char *module, const char *suffix, char name[600], int *file)
{
    snprintf(name, 600, "%.500s%s", module, suffix);
    return out_tensor(o, name, file);
}

static void put_shape(const int64_t *shape, int ndim, char buf[80])
{
    int n = snprintf(buf, 80, "[");
    for (int i = 0; i < ndim && n < 80; i++)
        n += snprintf(buf + n, (size_t)(80 - n), "%s%lld", i ? "," : "", (long long)shape[i]);
    if (n < 80)
        snprintf(buf + n, (size_t)(80 - n), "]");
}

static bool same_shape(const TensorInfo *t, int ndim, const int64_t *shape)
{
    if (t->ndim != ndim)
        return false;
    for (int i = 0; i < ndim; i++)
        if (t->shape[i] != shape[i])
            return false;
    return true;
}

static void claim(OutCheck *o, const TensorInfo *t, OutRole role)
{
    int file;
    (void)out_tensor(o, t->name, &file);
    int64_t i = map_get(&o->where, t->name, strlen(t->name), 0) & 0xffffffff;
    o->file[file].role[i] = (uint8_t)role;
    o->file[file].claimed[i] = true;
}

/* ---- scales ---- */

/* Value i of a scale, NaN for one that is none. */
static double scale_at(const TensorInfo *t, const void *data, int64_t i)
{
    int64_t bits;
    switch (t->dtype) {
    case DT_U8: return ((const uint8_t *)data)[i] == 255 ? (double)NAN : 1; /* E8M0 */
    case DT_I64:
        memcpy(&bits, (const char *)data + i * 8, 8);
        return bits >> 32 ? (double)NAN : (double)float_of_bits((uint32_t)bits);
    default: return dequant_value(data, i, t->dtype);
    }
}

Status out_check_scale(OutCheck *o, const TensorInfo *t, Error *err)
{
    int file;
    (void)out_tensor(o, t->name, &file);
    if (o->only && strcmp(o->file[file].name, o->only) != 0)
        return ST_OK;
    int64_t n = (int64_t)t->nbytes / dtype_size(t->dtype), bad = 0, first = -1;
    void *data = mem_array((size_t)t->nbytes + 1, 1);
    Error why;
    if (!data)
        return error_nomem(err, t->name);
    /* one that can't be read is told by the scan of all values */
    if (checkpoint_read(o->file[file].c, t, 0, t->nbytes, data, &why) == ST_OK)
        for (int64_t i = 0; i < n; i++)
            if (!(scale_at(t, data, i) > 0)) {
                first = first < 0 ? i : first;
                bad++;
            }
    free(data);
    if (!bad)
        return ST_OK;
    Str at = {0};
    tensor_position(t->shape, t->ndim, first, &at);
    out_tell(o, true, t, t->name, "%lld of %lld scales are not above 0, first at %s", (long long)bad, (long long)n,
             str_text(&at));
    str_free(&at);
    return ST_OK;
}

static OutRole role_of(QPartKind k)
{
    switch (k) {
    case PART_CODE: case PART_INT4_ROWS: case PART_FP4: return OUT_CODES;
    case PART_EXPONENT: case PART_SCALE: case PART_OUTER: case PART_INPUT_SCALE: case PART_DEQ_SCALE: return OUT_SCALE;
    case PART_BIAS: case PART_FLOAT: return OUT_FLOAT;
    default: return OUT_OTHER;
    }
}

static bool is_float(DType t)
{
    return t == DT_F32 || t == DT_BF16 || t == DT_F16;
}

/* Whether a tensor may be of this type where `want` is what is written now: bit patterns of deq_scale in int64, scales
 * and biases of compressed-tensors in the model's dtype. */
static bool type_fits(const OutCheck *o, const QPart *p, DType t)
{
    bool any = p->kind == PART_BIAS || p->kind == PART_FLOAT || (o->loader && p->kind == PART_SCALE);
    bool zero = o->loader && p->kind == PART_INPUT_OFFSET;
    return t == p->dtype || (p->kind == PART_DEQ_SCALE && t == DT_I64) || ((any || zero) && is_float(t));
}

static Status check_part(OutCheck *o, const Module *m, const QPart *p, Error *err)
{
    char name[600], want[80], have[80];
    int file;
    const TensorInfo *t = tensor_of(o, m->name, p->suffix, name, &file);
    if (!t) {
        if (p->kind != PART_BIAS)
            out_tell(o, true, m->weight, name, "is missing: %s makes its linear of it", m->what);
        return ST_OK;
    }
    claim(o, t, role_of(p->kind));
    put_shape(p->shape, p->ndim, want);
    put_shape(t->shape, t->ndim, have);
    if (!same_shape(t, p->ndim, p->shape) || !type_fits(o, p, t->dtype)) {
        out_tell(o, true, t, name, "is %s %s, %s wants %s %s", dtype_name(t->dtype), have, m->what, dtype_name(p->dtype),
                 want);
        return ST_OK;
    }
    return role_of(p->kind) == OUT_SCALE ? out_check_scale(o, t, err) : ST_OK;
}

/* ---- by label ---- */

/* Outputs and inputs of the linear whose first part is this weight; false when it is no form of the scheme. */
static bool sizes_of(const Scheme *s, const TensorInfo *w, Module *m)
{
    QPart first = part_make((QPartId)s->part[0], &(QPartOf){.name = "", .out = 2, .in = 2, .group = 2});
    if (w->ndim != 2 || !(first.kind == PART_FLOAT ? is_float(w->dtype) : w->dtype == first.dtype))
        return false;
    m->out = w->shape[0] * (first.kind == PART_INT4_ROWS ? 2 : 1);
    m->in = w->shape[1] * (first.kind == PART_FP4 ? 2 : 1);
    return m->out > 0 && m->in > 0;
}

/* Inputs under one scale, told by how many scales a row has; 0: not told. */
static int64_t group_of(const OutCheck *o, const Module *m, const char *suffix)
{
    char name[600];
    int file;
    const TensorInfo *t = tensor_of(o, m->name, suffix, name, &file);
    int64_t n = t && t->ndim >= 2 ? t->shape[1] : 1;
    return n > 0 && n <= m->in ? div_up(m->in, n) : 0;
}

/* The row of this name whose weights are of this form: with a scale a group, or a row. */
static const Scheme *scheme_of(const OutCheck *o, const char *label, Module *m, bool *known)
{
    const Scheme *best = NULL;
    *known = false;
    for (const Scheme *s = scheme_table; s->name; s++) {
        if (strcmp(s->name, scheme_of_label(label)) != 0)
            continue;
        *known = true;
        if (!sizes_of(s, m->weight, m))
            continue;
        bool grouped = group_of(o, m, ".weight_scale") < m->in;
        if (!best || (s->weight_scope == QS_PER_GROUP) == grouped)
            best = s;
    }
    return best;
}

static Status check_labelled(OutCheck *o, Module *m, Error *err)
{
    bool known;
    const Scheme *s = scheme_of(o, m->what, m, &known);
    if (!s) {
        char have[80];
        put_shape(m->weight->shape, m->weight->ndim, have);
        out_tell(o, true, m->weight, m->weight->name, known ? "is %s %s, which is no form of %s" : "is %s %s, %s is no label "
                 "that is known", dtype_name(m->weight->dtype), have, m->what);
        return ST_OK;
    }
    QPartOf of = {.name = m->name, .out = m->out, .in = m->in, .outer = group_of(o, m, ".weight_dual_scale")};
    bool mx = s->weight_type == QT_MXFP8 || s->weight_type == QT_MXFP4;
    of.group = mx ? 32 : s->weight_scope == QS_PER_GROUP ? group_of(o, m, ".weight_scale") : m->in;
    of.group = of.group ? of.group : m->in;
    for (int i = 0; s->part[i] != P_END; i++) {
        QPart p = part_make((QPartId)s->part[i], &of);
        char name[600];
        int file;
        const TensorInfo *t = p.kind == PART_SCALE_BIAS ? tensor_of(o, m->name, p.suffix, name, &file) : NULL;
        of.peer = t && !same_shape(t, p.ndim, p.shape); /* whose sums go by other rules */
        if (of.peer)
            p = part_make((QPartId)s->part[i], &of);
        RETURN_IF_ERROR(check_part(o, m, &p, err));
    }
    QPart bias = part_make(P_BIAS, &of);
    return check_part(o, m, &bias, err);
}

/* Keys and values. */
static Status check_cache(OutCheck *o, const TensorInfo *t, Error *err)
{
    bool scale = strstr(t->name, "_scale") != NULL;
    claim(o, t, scale ? OUT_SCALE : OUT_OTHER);
    if (t->ndim != 1 || !is_float(t->dtype)) {
        out_tell(o, true, t, t->name, "is no vector of floats, C8 wants one");
        return ST_OK;
    }
    return scale ? out_check_scale(o, t, err) : ST_OK;
}

/* ---- by group ---- */

static Status check_grouped(OutCheck *o, Module *m, const LoaderGroup *g, Error *err)
{
    static const char *const others[] = {".input_scale", ".input_zero_point"};
    m->out = m->weight->shape[0];
    m->in = m->weight->shape[1];
    QPart part[] = {
        {.suffix = ".weight", .kind = PART_CODE, .dtype = DT_I8, .ndim = 2, .shape = {m->out, m->in}},
        {.suffix = ".weight_scale", .kind = PART_SCALE, .dtype = DT_F32, .ndim = 2, .shape = {m->out, 1}},
        {.suffix = ".bias", .kind = PART_BIAS, .dtype = DT_F32, .ndim = 1, .shape = {m->out}},
        {.suffix = others[0], .kind = PART_INPUT_SCALE, .dtype = DT_F32, .ndim = 1, .shape = {1}},
        {.suffix = others[1], .kind = PART_INPUT_OFFSET, .dtype = DT_I8, .ndim = 1, .shape = {1}},
    };
    int n = g->fixed ? g->symmetric ? 4 : 5 : 3;
    for (int i = 0; i < n; i++)
        RETURN_IF_ERROR(check_part(o, m, &part[i], err));
    for (int i = n; i < 5; i++) {
        char name[600];
        int file;
        const TensorInfo *t = tensor_of(o, m->name, part[i].suffix, name, &file);
        if (!t)
            continue;
        claim(o, t, role_of(part[i].kind));
        out_tell(o, true, t, name, "%s has no place for it: inputs would be quantized otherwise than they were", g->name);
    }
    return ST_OK;
}

/* A weight that no group takes must be as the model has it. */
static void check_left_alone(OutCheck *o, const Module *m)
{
    char name[600];
    int file;
    if (!is_float(m->weight->dtype))
        out_tell(o, true, m->weight, m->weight->name, "is %s, but no group of quantization_config takes it",
                 dtype_name(m->weight->dtype));
    else if (tensor_of(o, m->name, ".weight_scale", name, &file))
        out_tell(o, true, m->weight, name, "is there, but no group of quantization_config takes its linear");
}

/* Of which many loaders make no linear: the class does not take it there. */
static bool is_router(const char *module)
{
    static const char *const names[] = {"gate", "router", "classifier"};
    const char *dot = strrchr(module, '.');
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(dot ? dot + 1 : module, names[i]) == 0)
            return true;
    return false;
}

static Status check_loaded(OutCheck *o, Module *m, Error *err)
{
    const LoaderGroup *g;
    bool by_class;
    if (m->weight->ndim != 2 || strstr(m->name, "embed_tokens") || strcmp(m->name, "embed") == 0)
        return ST_OK;
    RETURN_IF_ERROR(loader_find(o->loader, m->name, &g, &by_class, err));
    if (!g) {
        check_left_alone(o, m);
        return ST_OK;
    }
    m->what = g->name;
    if (!g->known) {
        out_tell(o, false, m->weight, m->weight->name, "is in %s, a form that is not checked", g->name);
        return ST_OK;
    }
    if (!is_float(m->weight->dtype))
        return check_grouped(o, m, g, err);
    out_tell(o, !by_class || !is_router(m->name), m->weight, m->weight->name, "is %s, but %s takes %s: it belongs into "
             "'ignore'", dtype_name(m->weight->dtype), g->name, by_class ? "every linear" : "it by name");
    return ST_OK;
}

/* ---- all ---- */

static Status check_weight(OutCheck *o, const TensorInfo *t, Error *err)
{
    const char *label = o->f->labels ? out_label(o, t->name) : NULL;
    if (o->f->labels && (!label || strcmp(scheme_of_label(label), "FLOAT") == 0))
        return ST_OK;
    char name[600];
    snprintf(name, sizeof name, "%.*s", (int)(strlen(t->name) - (sizeof weight_end - 1)), t->name);
    Module m = {.name = name, .what = label, .weight = t};
    return o->loader ? check_loaded(o, &m, err) : check_labelled(o, &m, err);
}

/* What is done at run time to a linear's input, or to an indexer's queries and keys; *is: this tensor is such a one. The
 * original's description has no entry for rotations of inputs. */
static Status check_input(OutCheck *o, const TensorInfo *t, bool *is, Error *err)
{
    static const char *const turns[] = {".heads_rotation", ".kronecker_rotation_m", ".kronecker_rotation_n", ".q_rot",
                                        ".k_rot", ".left_trans", ".right_trans"};
    bool turn = false, ratio = str_ends_with(t->name, ".clip_ratio"), scale = ratio || str_ends_with(t->name, OUT_FACTOR);
    for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++)
        turn = turn || str_ends_with(t->name, turns[i]);
    *is = o->f->labels && (turn || scale);
    if (!*is)
        return ST_OK;
    claim(o, t, scale ? OUT_SCALE : OUT_OTHER);
    if (turn && (t->ndim != 2 || t->shape[0] != t->shape[1] || t->dtype != DT_F32))
        out_tell(o, true, t, t->name, "is no square matrix of F32, which a rotation is");
    if (scale && (t->ndim != 1 || !is_float(t->dtype)))
        out_tell(o, true, t, t->name, "is no vector of floats, which multiplies an input");
    else if (scale)
        return out_check_scale(o, t, err);
    return ST_OK;
}

/* A factor of a low-rank branch: floats that fit the other one. *is: it is one. */
static void check_branch(OutCheck *o, const TensorInfo *t, bool *is)
{
    static const char *const ends[] = {".svd_lowrank_l1", ".svd_lowrank_l2"};
    int k = str_ends_with(t->name, ends[1]), file;
    char other[600];
    *is = o->f->labels && str_ends_with(t->name, ends[k]);
    if (!*is)
        return;
    claim(o, t, OUT_OTHER);
    snprintf(other, sizeof other, "%.*s%s", (int)(strlen(t->name) - strlen(ends[k])), t->name, ends[!k]);
    const TensorInfo *u = out_tensor(o, other, &file);
    if (!u)
        out_tell(o, true, t, t->name, "is one factor of a low-rank branch, the other one is missing");
    else if (t->ndim != 2 || u->ndim != 2 || !is_float(t->dtype) || t->shape[k] != u->shape[!k])
        out_tell(o, true, t, t->name, "is no matrix of floats that fits the other factor of its branch");
}

/* Tensors that belong to no linear: named, and what their label says. */
static Status check_rest(OutCheck *o, const TensorInfo *t, bool claimed, Error *err)
{
    const char *label = o->f->labels ? out_label(o, t->name) : "FLOAT";
    bool input;
    RETURN_IF_ERROR(check_input(o, t, &input, err));
    if (!input)
        check_branch(o, t, &input);
    if (input)
        return ST_OK;
    if (!label)
        out_tell(o, true, t, t->name, "has no entry in the description");
    else if (!claimed && o->f->cache_label && strcmp(label, o->f->cache_label) == 0)
        return check_cache(o, t, err);
    else if (!claimed && strcmp(label, ATTENTION_LABEL) == 0 && (o->f->holds & SAVES_ATTENTION)) {
        claim(o, t, str_ends_with(t->name, "scale") ? OUT_SCALE : OUT_OTHER);
        return out_attention_tensor(o, t, err);
    } else if (!claimed && strcmp(scheme_of_label(label), "FLOAT") != 0)
        out_tell(o, true, t, t->name, "is %s in the description, but part of no linear", label);
    return ST_OK;
}

static bool is_weight(const char *name)
{
    size_t n = strlen(name), k = sizeof weight_end - 1;
    return n > k && n < 600 && strcmp(name + n - k, weight_end) == 0;
}

Status out_linears(OutCheck *o, Error *err)
{
    for (int f = 0; f < o->files; f++)
        for (int64_t i = 0; i < checkpoint_count(o->file[f].c); i++)
            if (is_weight(checkpoint_at(o->file[f].c, i)->name))
                RETURN_IF_ERROR(check_weight(o, checkpoint_at(o->file[f].c, i), err));
    if (o->f->labels && !o->ndescription)
        return ST_OK;
    out_attentions(o);
    for (int f = 0; f < o->files; f++)
        for (int64_t i = 0; i < checkpoint_count(o->file[f].c); i++)
            RETURN_IF_ERROR(check_rest(o, checkpoint_at(o->file[f].c, i), o->file[f].claimed[i], err));
    return ST_OK;
}
