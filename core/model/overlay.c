#include "model/overlay.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The edits' arrays are this file's: readers see them as const. */
typedef struct OwnedLinear {
    LinearEdit edit;
    float *rows, *cols, *values, *bias_scale, *bias;
} OwnedLinear;

typedef struct OwnedTensor {
    TensorEdit edit;
    float *scale, *values;
} OwnedTensor;

struct Overlay {
    const Model *m;
    OwnedLinear **linear; /* [nlinears], NULL where nothing changed; NULL before the first edit */
    Map tensor_of;        /* name -> index into tensor */
    OwnedTensor **tensor;
    size_t ntensors, tensor_cap;
    Checkpoint **file;
    size_t nfiles, file_cap;
    Hasher edits;         /* of every edit, in order */
    bool changed;
};

Status overlay_new(Overlay **out, const Model *m, Error *err)
{
    *out = mem_zarray(1, sizeof **out);
    if (!*out)
        return error_nomem(err, "the changes of the model");
    (*out)->m = m;
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
        free(l->rows);
        free(l->cols);
        free(l->values);
        free(l->bias_scale);
        free(l->bias);
        free(l);
    }
    for (size_t i = 0; i < o->ntensors; i++) {
        free(o->tensor[i]->scale);
        free(o->tensor[i]->values);
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

/* ---- what all edits share ---- */

static void note(Overlay *o, const char *what, const char *of, const float *v, int64_t n)
{
    hasher_str(&o->edits, what);
    hasher_str(&o->edits, of);
    hasher_u64(&o->edits, (uint64_t)n);
    if (n)
        hasher_bytes(&o->edits, v, (size_t)n * sizeof *v);
    o->changed = true;
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

/* *have *= s, or a copy of s. */
static Status multiply(float **have, const float *s, int64_t n, Error *err)
{
    if (*have) {
        for (int64_t i = 0; i < n; i++)
            (*have)[i] *= s[i];
        return ST_OK;
    }
    if (!(*have = mem_array((size_t)n, sizeof **have)))
        return error_nomem(err, "the changes of the model");
    memcpy(*have, s, (size_t)n * sizeof *s);
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

Status overlay_scale_outputs(Overlay *o, int64_t linear, const float *s, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    RETURN_IF_ERROR(multiply(&l->rows, s, lin->out, err));
    l->edit.rows = l->rows;
    if (lin->bias)
        RETURN_IF_ERROR(multiply(&l->bias_scale, s, lin->out, err));
    l->edit.bias_scale = l->bias_scale;
    for (int64_t i = 0; l->bias && i < lin->out; i++)
        l->bias[i] *= s[i];
    note(o, "outputs", lin->name, s, lin->out);
    return ST_OK;
}

Status overlay_scale_inputs(Overlay *o, int64_t linear, const float *s, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    RETURN_IF_ERROR(multiply(&l->cols, s, lin->in, err));
    l->edit.cols = l->cols;
    note(o, "inputs", lin->name, s, lin->in);
    return ST_OK;
}

Status overlay_add_bias(Overlay *o, int64_t linear, const float *b, Error *err)
{
    OwnedLinear *l;
    RETURN_IF_ERROR(linear_of(o, linear, &l, err));
    const Linear *lin = &o->m->linears[linear];
    if (!l->bias && !(l->bias = mem_zarray((size_t)lin->out, sizeof *l->bias)))
        return error_nomem(err, "the changes of the model");
    for (int64_t i = 0; i < lin->out; i++)
        l->bias[i] += b[i];
    l->edit.bias = l->bias;
    note(o, "bias", lin->name, b, lin->out);
    return ST_OK;
}

/* Drops what made the weight up to now. */
static void new_base(OwnedLinear *l, float *values, const TensorInfo *derived, const Checkpoint *file)
{
    free(l->rows);
    free(l->cols);
    free(l->values);
    l->rows = l->cols = NULL;
    l->values = values;
    l->edit = (LinearEdit){.values = values, .derived = derived, .file = file, .bias_scale = l->bias_scale,
                           .bias = l->bias};
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

/* ---- other tensors ---- */

static int64_t tensor_values(const TensorInfo *t)
{
    return (int64_t)(t->nbytes / (uint64_t)dtype_size(t->dtype));
}

Status overlay_scale_tensor(Overlay *o, const TensorInfo *t, const float *s, Error *err)
{
    OwnedTensor *e;
    RETURN_IF_ERROR(tensor_of(o, t, &e, err));
    int64_t n = t->ndim ? t->shape[t->ndim - 1] : 1;
    RETURN_IF_ERROR(multiply(&e->scale, s, n, err));
    e->edit.scale = e->scale;
    note(o, "tensor", t->name, s, n);
    return ST_OK;
}

static void new_tensor(OwnedTensor *e, float *values, const TensorInfo *derived, const Checkpoint *file)
{
    free(e->scale);
    free(e->values);
    e->scale = NULL;
    e->values = values;
    e->edit = (TensorEdit){.values = values, .derived = derived, .file = file};
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

/* ---- questions ---- */

const LinearEdit *overlay_linear(const Overlay *o, int64_t linear)
{
    return o && o->linear && o->linear[linear] ? &o->linear[linear]->edit : NULL;
}

const TensorEdit *overlay_tensor(const Overlay *o, const TensorInfo *t)
{
    int64_t at = o ? map_get(&o->tensor_of, t->name, strlen(t->name), -1) : -1;
    return at < 0 ? NULL : &o->tensor[at]->edit;
}

bool overlay_has_bias(const Overlay *o, const Model *m, int64_t linear)
{
    const LinearEdit *e = overlay_linear(o, linear);
    return m->linears[linear].bias || (e && e->bias);
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
