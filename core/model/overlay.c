#include "model/overlay.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/block.h"
#include "model/config.h"
#include "model/weight.h"

/* The edits' arrays are this file's: readers see them as const. */
typedef struct OwnedLinear {
    LinearEdit edit;
    EditChain weight, inputs;
    float *values, *bias;
    Rotation *scored;
    LowRank *branch;
} OwnedLinear;

typedef struct OwnedTensor {
    TensorEdit edit;
    EditChain rows;
    float *values, *norm_bias;
} OwnedTensor;

struct Overlay {
    const Model *m;
    OwnedLinear **linear; /* [nlinears], NULL where nothing changed; NULL before the first edit */
    Map tensor_of;        /* name -> index into tensor */
    OwnedTensor **tensor;
    size_t ntensors, tensor_cap;
    Checkpoint **file;
    size_t nfiles, file_cap;
    TensorInfo head;      /* untied; its name is NULL before */
    DType round;          /* of every edit's result; DT_F32: none */
    Hasher edits;         /* of every edit, in order */
    bool changed;
};

Status overlay_new(Overlay **out, const Model *m, Error *err)
{
    *out = mem_zarray(1, sizeof **out);
    if (!*out)
        return error_nomem(err, "the changes of the model");
    (*out)->m = m;
    (*out)->round = DT_F32;
    hasher_init(&(*out)->edits);
    return ST_OK;
}

void overlay_free(Overlay *o)
{
    if (!o)
        return;
    for (int64_t i = 0; o->linear && i < o->m->nlinears; i++) {
        OwnedLinear *l = o->linear[i];
        if (!l)
            continue;
        editchain_fini(&l->weight);
        editchain_fini(&l->inputs);
        free(l->values);
        free(l->bias);
        rotation_free(l->scored);
        lowrank_free(l->branch);
        free(l);
    }
    for (size_t i = 0; i < o->ntensors; i++) {
        editchain_fini(&o->tensor[i]->rows);
        free(o->tensor[i]->values);
        free(o->tensor[i]->norm_bias);
        free(o->tensor[i]);
    }
    for (size_t i = 0; i < o->nfiles; i++)
        checkpoint_free(o->file[i]);
    free(o->linear);
    free(o->tensor);
    free(o->file);
    map_free(&o->tensor_of);
    free(o);
}

Status overlay_file(Overlay *o, const char *path, const char *key, Error *err)
{
    if (!mem_grow(&o->file, &o->file_cap, o->nfiles + 1, sizeof *o->file))
        return error_nomem(err, "the changes of the model");
    RETURN_IF_ERROR(checkpoint_open(&o->file[o->nfiles], path, err));
    hasher_str(&o->edits, "file");
    hasher_str(&o->edits, key);
    hasher_str(&o->edits, checkpoint_fingerprint(o->file[o->nfiles++]));
    return ST_OK;
}

void overlay_round(Overlay *o, DType t)
{
    o->round = t;
}

/* ---- what all edits share ---- */

static void note(Overlay *o, const char *what, const char *of, const float *v, int64_t n)
{
    hasher_str(&o->edits, what);
    hasher_str(&o->edits, of);
    hasher_u64(&o->edits, (uint64_t)o->round);
    hasher_u64(&o->edits, (uint64_t)n);
    if (n)
        hasher_bytes(&o->edits, v, (size_t)n * sizeof *v);
    o->changed = true;
}

static void note_rotation(Overlay *o, const char *what, const char *of, const Rotation *r)
{
    note(o, what, of, NULL, 0);
    rotation_digest(r, &o->edits);
}

static Status linear_of(Overlay *o, int64_t linear, OwnedLinear **out, Error *err)
{
    if (linear < 0 || linear >= o->m->nlinears)
        return error_set(err, ST_INTERNAL, "there is no linear %lld to change", (long long)linear);
    if (!o->linear && !(o->linear = mem_zarray((size_t)o->m->nlinears, sizeof *o->linear)))
        return error_nomem(err, "the changes of the model");
    if (!o->linear[linear] && !(o->linear[linear] = mem_zarray(1, sizeof **o->linear)))
        return error_nomem(err, "the changes of the model");
    *out = o->linear[linear];
    return ST_OK;
}

static Status tensor_of(Overlay *o, const TensorInfo *t, OwnedTensor **out, Error *err)
{
    size_t len = strlen(t->name);
    int64_t at = map_get(&o->tensor_of, t->name, len, -1);
    if (at < 0) {
        OwnedTensor *one = NULL;
        if (!mem_grow(&o->tensor, &o->tensor_cap, o->ntensors + 1, sizeof *o->tensor) ||
            !(one = mem_zarray(1, sizeof *one)) ||
            !map_add(&o->tensor_of, t->name, len, (int64_t)o->ntensors, NULL)) {
            free(one);
            return error_nomem(err, "the changes of the model");
        }
        at = (int64_t)o->ntensors;
        o->tensor[o->ntensors++] = one;
    }
    *out = o->tensor[at];
    return ST_OK;
}

static bool same_shape(const TensorInfo *t, const int64_t *shape, int ndim)
{
    bool same = t->ndim == ndim;
    for (int i = 0; i < ndim && same; i++)
        same = t->shape[i] == shape[i];
    return same && dtype_plain(t->dtype);
}

static Status find_derived(const Overlay *o, const char *name, const int64_t *shape, int ndim, const char *of,
                           const TensorInfo **t, const Checkpoint **file, Error *err)
{
    *t = NULL;
    for (size_t i = o->nfiles; i-- > 0 && !*t;) {
        *file = o->file[i];
        *t = checkpoint_find(o->file[i], name);
    }
    if (!*t)
        return error_set(err, ST_DATA, "'%s': no file of the run has a tensor '%s'", of, name);
    if (!same_shape(*t, shape, ndim))
        return error_set(err, ST_DATA, "'%s': derived tensor '%s' has another shape or is no float", of, name);
    return ST_OK;
}

/* ---- linears ---- */

/* Points the readers' view to what there is. */
static void show_linear(OwnedLinear *l)
{
    l->edit.weight = l->weight.n ? &l->weight : NULL;
    l->edit.inputs = l->inputs.n ? &l->inputs : NULL;
    l->edit.bias = l->bias;
    l->edit.scored = l->scored;
    l->edit.branch = l->branch;
}

/* The linear's bias in l->bias, if it has one or `must`. */
static Status take_bias(Overlay *o, const Linear *lin, OwnedLinear *l, bool must, Error *err)
{
    if (l->bias || (!lin->bias && !must))
        return ST_OK;
    float *b = mem_zarray((size_t)lin->out, sizeof *b);
    if (!b)
        return error_nomem(err, "the changes of the model");
    Status st = lin->bias ? weight_bias(o->m, lin, b, err) : ST_OK;
    if (st != ST_OK) {
        free(b);
        return st;
    }
    l->bias = b;
    show_linear(l);
    return ST_OK;
}

Status overlay_scale_outputs(Overlay *o, int64_t linear, const float *s, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    RETURN_IF_ERROR(take_bias(o, lin, l, false, err));
    RETURN_IF_ERROR(lowrank_edit(&l->branch, CHAIN_ROWS, s, NULL, err));
    RETURN_IF_ERROR(editchain_scale(&l->weight, CHAIN_ROWS, s, lin->out, o->round, err));
    show_linear(l);
    for (int64_t i = 0; l->bias && i < lin->out; i++)
        l->bias[i] *= s[i];
    if (l->bias)
        edit_round(math_fast(), o->round, l->bias, lin->out);
    note(o, "outputs", lin->name, s, lin->out);
    return ST_OK;
}

Status overlay_scale_inputs(Overlay *o, int64_t linear, const float *s, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    RETURN_IF_ERROR(lowrank_edit(&l->branch, CHAIN_COLS, s, NULL, err));
    RETURN_IF_ERROR(editchain_scale(&l->weight, CHAIN_COLS, s, lin->in, o->round, err));
    show_linear(l);
    note(o, "inputs", lin->name, s, lin->in);
    return ST_OK;
}

Status overlay_rotate_inputs(Overlay *o, int64_t linear, const Rotation *r, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    RETURN_IF_ERROR(editchain_rotate(&l->weight, CHAIN_RIGHT, r, lin->in, o->round, lin->name, err));
    RETURN_IF_ERROR(lowrank_edit(&l->branch, CHAIN_RIGHT, NULL, r, err));
    show_linear(l);
    note_rotation(o, "inputs turned", lin->name, r);
    return ST_OK;
}

Status overlay_clamp_weight(Overlay *o, int64_t linear, const float *r, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    RETURN_IF_ERROR(editchain_scale(&l->weight, CHAIN_CLAMP, r, 2 * lin->out, o->round, err));
    show_linear(l);
    note(o, "weight clamped", lin->name, r, 2 * lin->out);
    return ST_OK;
}

/* b <- R' b */
static Status rotate_vector(const Rotation *r, DType round, float *b, int64_t n, Error *err)
{
    float *scratch = mem_aligned((size_t)rotation_bytes(r), 1);
    if (!scratch)
        return error_nomem(err, "the changes of the model");
    rotation_right(r, b, 1, n, n, scratch);
    edit_round(math_fast(), round, b, n);
    free(scratch);
    return ST_OK;
}

Status overlay_rotate_outputs(Overlay *o, int64_t linear, const Rotation *r, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    RETURN_IF_ERROR(take_bias(o, lin, l, false, err));
    RETURN_IF_ERROR(editchain_rotate(&l->weight, CHAIN_LEFT, r, lin->out, o->round, lin->name, err));
    RETURN_IF_ERROR(lowrank_edit(&l->branch, CHAIN_LEFT, NULL, r, err));
    show_linear(l);
    if (l->bias)
        RETURN_IF_ERROR(rotate_vector(r, o->round, l->bias, lin->out, err));
    note_rotation(o, "outputs turned", lin->name, r);
    return ST_OK;
}

Status overlay_add_bias(Overlay *o, int64_t linear, const float *b, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    RETURN_IF_ERROR(take_bias(o, lin, l, true, err));
    math_fast()->add(l->bias, b, l->bias, lin->out);
    edit_round(math_fast(), o->round, l->bias, lin->out);
    note(o, "bias", lin->name, b, lin->out);
    return ST_OK;
}

Status overlay_low_rank(Overlay *o, int64_t linear, const LowRank *out, const LowRank *beside, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    if (l->branch)
        return error_set(err, ST_DATA, "'%s' has a low-rank branch already", lin->name);
    RETURN_IF_ERROR(editchain_take(&l->weight, out, o->round, err));
    l->branch = lowrank_share(beside);
    show_linear(l);
    note(o, "low rank", lin->name, NULL, 0);
    hasher_bytes(&o->edits, out->digest.b, sizeof out->digest.b);
    hasher_bytes(&o->edits, beside->digest.b, sizeof beside->digest.b);
    return ST_OK;
}

/* Drops what made the weight up to now. */
static void new_base(OwnedLinear *l, float *values, const TensorInfo *derived, const Checkpoint *file)
{
    editchain_fini(&l->weight);
    free(l->values);
    l->values = values;
    l->edit = (LinearEdit){.values = values, .derived = derived, .file = file};
    show_linear(l);
}

Status overlay_replace(Overlay *o, int64_t linear, float *w, Error *err)
{
    OwnedLinear *l;
    Status st = linear_of(o, linear, &l, err);
    if (st != ST_OK) {
        free(w);
        return st;
    }
    const Linear *lin = &o->m->linears[linear];
    new_base(l, w, NULL, NULL);
    note(o, "weight", lin->name, w, lin->out * lin->in);
    return ST_OK;
}

Status overlay_derive(Overlay *o, int64_t linear, const char *name, Error *err)
{
    OwnedLinear *l;
    const TensorInfo *t;
    const Checkpoint *file;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    RETURN_IF_ERROR(find_derived(o, name, (int64_t[]){lin->out, lin->in}, 2, lin->name, &t, &file, err));
    new_base(l, NULL, t, file);
    note(o, "derived weight", lin->name, NULL, 0);
    hasher_str(&o->edits, name);
    return ST_OK;
}

Status overlay_input_scale(Overlay *o, int64_t linear, const float *s, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    RETURN_IF_ERROR(editchain_scale(&l->inputs, CHAIN_COLS, s, lin->in, DT_F32, err));
    show_linear(l);
    note(o, "input", lin->name, s, lin->in);
    return ST_OK;
}

Status overlay_input_rotate(Overlay *o, int64_t linear, const Rotation *r, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    RETURN_IF_ERROR(editchain_rotate(&l->inputs, CHAIN_RIGHT, r, lin->in, DT_F32, lin->name, err));
    show_linear(l);
    note_rotation(o, "input turned", lin->name, r);
    return ST_OK;
}

Status overlay_input_limit(Overlay *o, int64_t linear, float ratio, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    RETURN_IF_ERROR(editchain_scale(&l->inputs, CHAIN_LIMIT, &ratio, 1, DT_F32, err));
    show_linear(l);
    note(o, "input limited", o->m->linears[linear].name, &ratio, 1);
    return ST_OK;
}

Status overlay_rotate_scored(Overlay *o, int64_t linear, const Rotation *r, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    rotation_free(l->scored);
    l->scored = rotation_share(r);
    show_linear(l);
    note_rotation(o, "scored turned", o->m->linears[linear].name, r);
    return ST_OK;
}

/* ---- other tensors ---- */

static int64_t tensor_values(const TensorInfo *t)
{
    return (int64_t)(t->nbytes / (uint64_t)dtype_size(t->dtype));
}

static int64_t tensor_width(const TensorInfo *t)
{
    return t->ndim ? t->shape[t->ndim - 1] : 1;
}

static Status edit_tensor(Overlay *o, const TensorInfo *t, ChainKind kind, const char *what, const float *v, Error *err)
{
    OwnedTensor *e;
    RETURN_IF_ERROR(tensor_of(o, t, &e, err));
    RETURN_IF_ERROR(editchain_scale(&e->rows, kind, v, tensor_width(t), o->round, err));
    e->edit.rows = &e->rows;
    note(o, what, t->name, v, tensor_width(t));
    return ST_OK;
}

Status overlay_scale_tensor(Overlay *o, const TensorInfo *t, const float *s, Error *err)
{
    return edit_tensor(o, t, CHAIN_COLS, "tensor", s, err);
}

Status overlay_scale_unit_norm(Overlay *o, const TensorInfo *t, const float *s, Error *err)
{
    return edit_tensor(o, t, CHAIN_UNIT, "unit norm", s, err);
}

Status overlay_rotate_tensor(Overlay *o, const TensorInfo *t, const Rotation *r, Error *err)
{
    OwnedTensor *e;
    RETURN_IF_ERROR(tensor_of(o, t, &e, err));
    RETURN_IF_ERROR(editchain_rotate(&e->rows, CHAIN_RIGHT, r, tensor_width(t), o->round, t->name, err));
    e->edit.rows = &e->rows;
    note_rotation(o, "tensor turned", t->name, r);
    return ST_OK;
}

static void new_tensor(OwnedTensor *e, float *values, const TensorInfo *derived, const Checkpoint *file)
{
    editchain_fini(&e->rows);
    free(e->values);
    e->values = values;
    e->edit = (TensorEdit){.values = values, .derived = derived, .file = file, .norm_bias = e->norm_bias,
                           .eps = e->edit.eps};
}

Status overlay_replace_tensor(Overlay *o, const TensorInfo *t, float *values, Error *err)
{
    OwnedTensor *e;
    Status st = tensor_of(o, t, &e, err);
    if (st != ST_OK) {
        free(values);
        return st;
    }
    new_tensor(e, values, NULL, NULL);
    note(o, "values", t->name, values, tensor_values(t));
    return ST_OK;
}

Status overlay_derive_tensor(Overlay *o, const TensorInfo *t, const char *name, Error *err)
{
    OwnedTensor *e;
    const TensorInfo *d;
    const Checkpoint *file;
    RETURN_IF_ERROR(tensor_of(o, t, &e, err));
    RETURN_IF_ERROR(find_derived(o, name, t->shape, t->ndim, t->name, &d, &file, err));
    new_tensor(e, NULL, d, file);
    note(o, "derived values", t->name, NULL, 0);
    hasher_str(&o->edits, name);
    return ST_OK;
}

Status overlay_shift_norm(Overlay *o, const TensorInfo *t, const float *b, Error *err)
{
    const TensorInfo *own = model_norm_bias(o->m, t);
    OwnedTensor *e;
    int64_t n = tensor_width(t);
    if (own)
        return edit_tensor(o, own, CHAIN_ADD, "norm bias", b, err);
    RETURN_IF_ERROR(tensor_of(o, t, &e, err));
    if (!e->norm_bias && !(e->norm_bias = mem_zarray((size_t)n, sizeof *b)))
        return error_nomem(err, "the changes of the model");
    e->edit.norm_bias = e->norm_bias;
    math_fast()->add(e->norm_bias, b, e->norm_bias, n);
    edit_round(math_fast(), o->round, e->norm_bias, n);
    note(o, "added norm bias", t->name, b, n);
    return ST_OK;
}

Status overlay_norm_eps(Overlay *o, const TensorInfo *t, double eps, Error *err)
{
    OwnedTensor *e;
    const float told = (float)eps;
    RETURN_IF_ERROR(tensor_of(o, t, &e, err));
    e->edit.eps = eps;
    note(o, "norm epsilon", t->name, &told, 1);
    return ST_OK;
}

static bool all_zero(const float *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (s[i] != 0)
            return false;
    return true;
}

Status overlay_scale_norm_bias(Overlay *o, const TensorInfo *t, const float *s, Error *err)
{
    const TensorInfo *own = model_norm_bias(o->m, t);
    OwnedTensor *e;
    int64_t n = tensor_width(t);
    if (own)
        return edit_tensor(o, own, CHAIN_COLS, "norm bias scaled", s, err);
    if (!overlay_norm_bias(o, t))
        return ST_OK;
    RETURN_IF_ERROR(tensor_of(o, t, &e, err));
    math_fast()->mul(e->norm_bias, s, e->norm_bias, n);
    edit_round(math_fast(), o->round, e->norm_bias, n);
    if (all_zero(s, n)) {
        free(e->norm_bias);
        e->norm_bias = NULL;
    }
    e->edit.norm_bias = e->norm_bias;
    note(o, "added norm bias scaled", t->name, s, n);
    return ST_OK;
}

Status overlay_untie(Overlay *o, Error *err)
{
    const Model *m = o->m;
    const TensorEdit *table = overlay_tensor(o, m->entry.table);
    OwnedTensor *e;
    if (o->head.name || m->exit.head != m->entry.table)
        return ST_OK;
    TensorInfo head = *m->entry.table;
    head.name = m->exit.spare ? m->exit.spare->name : config_key(m->arch->exit.head, "lm_head.weight");
    if (table) {
        size_t n = (size_t)tensor_values(&head);
        RETURN_IF_ERROR(tensor_of(o, &head, &e, err));
        e->edit.derived = table->derived;
        e->edit.file = table->file;
        if (table->values && !(e->values = mem_array(n, sizeof(float))))
            return error_nomem(err, "the changes of the model");
        if (table->values)
            e->edit.values = memcpy(e->values, table->values, n * sizeof(float));
        if (table->rows)
            RETURN_IF_ERROR(editchain_copy(&e->rows, table->rows, err));
        e->edit.rows = table->rows ? &e->rows : NULL;
    }
    o->head = head;
    note(o, "untied", head.name, NULL, 0);
    return ST_OK;
}

/* ---- questions ---- */

const Model *overlay_model(const Overlay *o)
{
    return o->m;
}

const LinearEdit *overlay_linear(const Overlay *o, int64_t linear)
{
    return o && o->linear && o->linear[linear] ? &o->linear[linear]->edit : NULL;
}

const TensorEdit *overlay_tensor(const Overlay *o, const TensorInfo *t)
{
    int64_t at = o ? map_get(&o->tensor_of, t->name, strlen(t->name), -1) : -1;
    return at < 0 ? NULL : &o->tensor[at]->edit;
}

const LinearEdit *overlay_edit(const Overlay *o, const Model *m, const Linear *l)
{
    uintptr_t at = (uintptr_t)l, from = (uintptr_t)m->linears;
    if (!o || at < from || at >= (uintptr_t)(m->linears + m->nlinears))
        return NULL; /* a loose one */
    return overlay_linear(o, l - m->linears);
}

Linear overlay_base(const Overlay *o, const Model *m, const Linear *l, const Checkpoint **file)
{
    const LinearEdit *e = overlay_edit(o, m, l);
    Linear base = *l;
    *file = e && e->values ? NULL : m->ckpt;
    if (!e || !e->derived)
        return base;
    *file = e->file;
    base.weight = e->derived;
    base.store = NULL;
    base.at = base.out_step = base.in_step = 0;
    return base;
}

bool overlay_has_bias(const Overlay *o, const Model *m, int64_t linear)
{
    const LinearEdit *e = overlay_linear(o, linear);
    return m->linears[linear].bias || (e && e->bias);
}

const EditChain *overlay_inputs(const Overlay *o, int64_t linear)
{
    const LinearEdit *e = overlay_linear(o, linear);
    return e ? e->inputs : NULL;
}

static bool same_inputs(const EditChain *a, const EditChain *b)
{
    return a == b || (a && b && digest_cmp(&a->digest, &b->digest) == 0);
}

const Rotation *overlay_scored(const Overlay *o, int64_t linear)
{
    const LinearEdit *e = linear >= 0 ? overlay_linear(o, linear) : NULL;
    return e ? e->scored : NULL;
}

const LowRank *overlay_branch(const Overlay *o, int64_t linear)
{
    const LinearEdit *e = overlay_linear(o, linear);
    return e ? e->branch : NULL;
}

int64_t overlay_input(const Overlay *o, const Model *m, int64_t linear)
{
    const Linear *l = &m->linears[linear];
    int64_t i = l->input;
    if (!o || !o->linear)
        return i;
    while (i < linear && (m->linears[i].input != l->input || !same_inputs(overlay_inputs(o, i), overlay_inputs(o, linear))))
        i++;
    return i;
}

const float *overlay_norm_bias(const Overlay *o, const TensorInfo *t)
{
    const TensorEdit *e = overlay_tensor(o, t);
    return e ? e->norm_bias : NULL;
}

static bool block_reads(const Block *b, const TensorInfo *t)
{
    for (int i = 0; i < block_smalls(b->type); i++)
        if (b->small[i] == t)
            return true;
    return b->join && block_reads(b->join, t);
}

const TensorInfo *model_norm_bias(const Model *m, const TensorInfo *norm)
{
    static const char weight[] = ".weight";
    size_t len = strlen(norm->name), end = sizeof weight - 1;
    char name[512];
    if (len < end || len >= sizeof name || strcmp(norm->name + len - end, weight) != 0)
        return NULL;
    memcpy(name, norm->name, len - end);
    memcpy(name + len - end, ".bias", sizeof ".bias");
    const TensorInfo *t = checkpoint_find(m->ckpt, name);
    if (!t || t == m->exit.norm_bias)
        return t;
    for (int u = 0; u < m->nunits; u++)
        for (int i = 0; i < m->units[u].nblocks; i++)
            if (block_reads(&m->units[u].block[i], t))
                return t;
    return NULL;
}

const TensorInfo *overlay_head(const Overlay *o, const Model *m)
{
    return overlay_untied(o) ? &o->head : m->exit.head;
}

bool overlay_untied(const Overlay *o)
{
    return o && o->head.name;
}

void overlay_digest(const Overlay *o, char hex[65])
{
    hex[0] = '\0';
    if (!o || !o->changed)
        return;
    Hasher all = o->edits;
    Digest d = hasher_end(&all);
    digest_hex(&d, hex);
}
