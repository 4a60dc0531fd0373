#include "model/open.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "model/storage.h"

const char *open_file_of(const Open *o, const TensorInfo *t)
{
    const Checkpoint *c = o->m->ckpt;
    return t || checkpoint_files(c) == 1 ? checkpoint_file_path(c, t ? t->file : 0) : o->m->path;
}

bool open_use(Open *o, const TensorInfo *t)
{
    bool *used = &o->used[t - checkpoint_at(o->m->ckpt, 0)];
    bool first = !*used;
    *used = true;
    return first;
}

/* What storage_foreign says of the weight `name`. */
static bool foreign_weight(const Open *o, const char *name, char *text, size_t size)
{
    static const char end[] = ".weight";
    char base[NAME_MAX_BYTES];
    size_t n = strlen(name), k = sizeof end - 1;
    if (n <= k || n - k >= sizeof base || strcmp(name + n - k, end) != 0)
        return false;
    snprintf(base, sizeof base, "%.*s", (int)(n - k), name);
    return storage_foreign(o, base, text, size);
}

Status open_float(Open *o, const TensorInfo *t)
{
    char text[400];
    if (dtype_plain(t->dtype))
        return ST_OK;
    if (foreign_weight(o, t->name, text, sizeof text))
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' is %s, and %s", open_file_of(o, t), t->name,
                         dtype_name(t->dtype), text);
    return error_set(o->err, ST_DATA, "'%s': tensor '%s' is %s: only F32, F16 and BF16 weights can be used",
                     open_file_of(o, t), t->name, dtype_name(t->dtype));
}

static void shape_text(Str *b, int ndim, const int64_t *shape)
{
    str_putc(b, '[');
    for (int i = 0; i < ndim; i++)
        str_printf(b, "%s%lld", i ? "," : "", (long long)shape[i]);
    str_putc(b, ']');
}

Status open_wrong_shape(Open *o, const TensorInfo *t, int ndim, const int64_t *want, const char *keys)
{
    Str a = {0}, b = {0};
    shape_text(&a, t->ndim, t->shape);
    shape_text(&b, ndim, want);
    error_set(o->err, ST_DATA, "'%s': tensor '%s' has shape %s, config.json says %s (%s)", open_file_of(o, t), t->name,
              str_text(&a), str_text(&b), keys);
    str_free(&a);
    str_free(&b);
    return ST_DATA;
}

Status open_missing(const Open *o, const char *name)
{
    const char *shard = checkpoint_promised(o->m->ckpt, name);
    if (shard)
        return error_set(o->err, ST_DATA, "tensor '%s' is missing in '%s', where the index says it is", name, shard);
    char text[400];
    bool foreign = foreign_weight(o, name, text, sizeof text);
    return error_set(o->err, ST_DATA, "'%s': tensor '%s' is missing%s%s", open_file_of(o, NULL), name,
                     foreign ? ", and " : "", foreign ? text : "");
}

Status open_shape(Open *o, const char *name, bool optional, int ndim, const int64_t *want, const char *keys,
                  const TensorInfo **out)
{
    const TensorInfo *t = checkpoint_find(o->m->ckpt, name);
    *out = t;
    if (!t && optional)
        return ST_OK;
    if (!t)
        return open_missing(o, name);
    RETURN_IF_ERROR(open_float(o, t));
    if (t->ndim != ndim || memcmp(t->shape, want, (size_t)ndim * sizeof *want) != 0)
        return open_wrong_shape(o, t, ndim, want, keys);
    int64_t n = 1;
    for (int i = 0; i < ndim; i++)
        n *= want[i]; /* fits: nbytes of the tensor does */
    o->m->params += open_use(o, t) ? n : 0;
    return ST_OK;
}

Status open_take(Open *o, const char *name, bool optional, int64_t rows, int64_t cols, const char *keys,
                 const TensorInfo **out)
{
    return open_shape(o, name, optional, cols ? 2 : 1, (const int64_t[]){rows, cols}, keys, out);
}

Status open_body_take(Open *o, const char *name, const char *other, bool optional, int64_t rows, int64_t cols,
                      const char *keys, const TensorInfo **out)
{
    char text[2][NAME_MAX_BYTES];
    const char *const names[] = {name, other};
    int k = 0;
    for (int i = 0; i < 2 && names[i]; i++) {
        snprintf(text[i], sizeof text[i], "%s%s", o->m->body, names[i]);
        k = !checkpoint_find(o->m->ckpt, text[0]) && checkpoint_find(o->m->ckpt, text[i]) ? i : k;
    }
    return open_take(o, text[k], optional, rows, cols, keys, out);
}

const char *open_layers_prefix(const Open *o)
{
    return model_layers_prefix(o->m);
}

Status open_unit_take(Open *o, int unit, int64_t rows, int64_t cols, const char *keys, const TensorInfo **out,
                      const char *fmt, ...)
{
    char name[NAME_MAX_BYTES];
    int k = snprintf(name, sizeof name, "%s%d.", open_layers_prefix(o), unit);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name + k, sizeof name - (size_t)k, fmt, ap);
    va_end(ap);
    return open_take(o, name, false, rows, cols, keys, out);
}

Status open_name(Open *o, int unit, const char *module, const char *name, const Want *w, int32_t *index)
{
    Model *m = o->m;
    char text[NAME_MAX_BYTES];
    if (!mem_grow(&m->linears, &o->linears_cap, (size_t)m->nlinears + 1, sizeof *m->linears))
        return error_nomem(o->err, "the model's layers");
    *index = (int32_t)m->nlinears;
    Linear *l = &m->linears[m->nlinears++];
    char digits[12];
    text_join(text, sizeof text, (const char *const[]){open_layers_prefix(o), text_int(digits, unit), ".", module,
                                                       *module ? "." : "", name}, 6);
    *l = (Linear){.name = arena_strdup(&m->arena, text), .layer = unit, .kind = w->kind, .out = w->out, .in = w->in,
                  .input = w->input < 0 ? *index : w->input, .expert = w->expert, .group = -1};
    if (!l->name || !map_add(&m->by_name, l->name, strlen(l->name), *index, NULL))
        return error_nomem(o->err, "the model's layers");
    return ST_OK;
}

Status open_linear(Open *o, int unit, const char *module, const char *name, const Want *w, int32_t *index)
{
    char text[NAME_MAX_BYTES];
    RETURN_IF_ERROR(open_name(o, unit, module, name, w, index));
    Linear *l = &o->m->linears[*index];
    RETURN_IF_ERROR(storage_take(o, l->name, 0, l->out, l->in, w->keys, &l->weight, &l->store));
    text_join(text, sizeof text, (const char *const[]){l->name, ".weight"}, 2);
    if (!l->weight)
        RETURN_IF_ERROR(open_take(o, text, false, l->out, l->in, w->keys, &l->weight));
    text_join(text, sizeof text, (const char *const[]){l->name, ".bias"}, 2);
    return open_take(o, text, true, l->out, 0, w->keys, &l->bias);
}

Status open_close_group(Open *o, int32_t first, const char *label)
{
    Model *m = o->m;
    if (!mem_grow(&m->groups, &o->groups_cap, (size_t)m->ngroups + 1, sizeof *m->groups))
        return error_nomem(o->err, "the model's layers");
    FusedGroup *g = &m->groups[m->ngroups];
    *g = (FusedGroup){.first = first, .count = (int32_t)m->nlinears - first};
    snprintf(g->label, sizeof g->label, "%s", g->count > 1 ? label : ".");
    for (int64_t i = first; i < m->nlinears; i++)
        m->linears[i].group = (int32_t)m->ngroups;
    m->ngroups++;
    return ST_OK;
}

void open_join(Open *o, int32_t first, const char *label)
{
    Model *m = o->m;
    Linear *last = &m->linears[m->nlinears - 1];
    FusedGroup *g = &m->groups[m->linears[first].group];
    m->ngroups--; /* the one it was alone in */
    last->group = m->linears[first].group;
    g->count = 2;
    g->between = (int32_t)(m->nlinears - 2) - first;
    snprintf(g->label, sizeof g->label, "%s", label);
}

Status open_alone(Open *o, int unit, const char *module, const char *name, const Want *w, int32_t *index)
{
    RETURN_IF_ERROR(open_linear(o, unit, module, name, w, index));
    return open_close_group(o, *index, ".");
}

Status open_gated(Open *o, int unit, const char *module, const MoeRule *names, int64_t width, const char *keys,
                  bool fused, int32_t at[3])
{
    int64_t h = o->m->cfg.hidden;
    if (fused) {
        Want w = {LK_GATE_UP, 2 * width, h, keys, -1, -1};
        RETURN_IF_ERROR(open_alone(o, unit, module, "gate_up_proj", &w, &at[0]));
    } else {
        Want w = {LK_GATE, width, h, keys, -1, -1};
        RETURN_IF_ERROR(open_linear(o, unit, module, names ? names->gate : "gate_proj", &w, &at[0]));
        w = (Want){LK_UP, width, h, keys, at[0], -1};
        RETURN_IF_ERROR(open_linear(o, unit, module, names ? names->up : "up_proj", &w, &at[1]));
        RETURN_IF_ERROR(open_close_group(o, at[0], "gu"));
    }
    Want w = {LK_DOWN, h, width, keys, -1, -1};
    return open_alone(o, unit, module, names ? names->down : "down_proj", &w, &at[2]);
}

void *open_conf(Open *o, Block *b, size_t size)
{
    void *conf = arena_alloc(&o->m->arena, size);
    if (conf)
        memset(conf, 0, size);
    else
        error_nomem(o->err, "the model's layers");
    b->conf = conf;
    return conf;
}

Status open_hyper(Open *o, const char *name, int64_t sums, int64_t scales, const TensorInfo *out[3])
{
    static const char keys[] = "hc_mult, hidden_size";
    const char *const part[] = {"fn", "base", "scale"};
    const int64_t rows[] = {sums, sums, scales};
    char text[NAME_MAX_BYTES];
    for (int i = 0; i < 3 && o->m->cfg.hyper.copies; i++) {
        snprintf(text, sizeof text, "%s_%s", name, part[i]);
        RETURN_IF_ERROR(open_take(o, text, false, rows[i], i ? 0 : o->m->cfg.stream_width, keys, &out[i]));
    }
    return ST_OK;
}
