#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/weight.h"

#include "save/marks.h"
#include "save/saveout.h"

uint64_t save_limit(const SavePlan *plan)
{
    double bytes = plan->part_file_size * 0x1p30;
    if (!(bytes > 0))
        return 0;
    return bytes >= 0x1p62 ? UINT64_C(1) << 62 : bytes < 1 ? 1 : (uint64_t)bytes;
}

const QConfig *save_config(const SavePlan *plan, int64_t i)
{
    int16_t level = plan->level[i];
    return level > 0 && level <= plan->nlevels ? &plan->levels[level - 1] : NULL;
}

static const Scheme *scheme_of(const SavePlan *plan, int64_t i)
{
    const QConfig *q = save_config(plan, i);
    return q ? scheme_find(q) : NULL;
}

const char *save_scheme(const SavePlan *plan, int64_t i)
{
    const Scheme *s = scheme_of(plan, i);
    return s ? s->name : NULL;
}

const char *save_label(const SavePlan *plan, int64_t i)
{
    const Scheme *s = scheme_of(plan, i);
    return !s ? NULL : save_changes_has_branch(plan->changes, i) ? s->svd : s->name;
}

int save_scheme_parts(const SavePlan *plan, int64_t i, DType model, QPart out[SCHEME_PARTS_MAX])
{
    const Scheme *s = scheme_of(plan, i);
    const SchemeLinear of = {.l = &plan->model->linears[i], .bias = save_has_bias(plan, i), .peer = plan->peer,
                             .model = model};
    int n = s ? scheme_parts(s, save_config(plan, i), &of, out) : 0;
    for (int k = 0; k < n; k++)
        out[k].label = out[k].label == s->name ? save_label(plan, i) : out[k].label;
    return n;
}

bool save_quantized(const SaveOut *s, int64_t i)
{
    return s->plan->level[i] > 0 && !(s->state[i] & SAVE_KEPT_FLOAT);
}

void save_warn(const SavePlan *plan, const char *fmt, ...)
{
    if (!plan->warn)
        return;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    plan->warn(plan->warn_ctx, text);
}

static Status check_part(const SavePlan *plan, int64_t i, const QPart *p, Error *err)
{
    const Linear *l = &plan->model->linears[i];
    const char *label = save_label(plan, i);
    if (p->kind == PART_INT4_ROWS && l->out % 2 != 0)
        return error_set(err, ST_DATA, "'%s' has %lld outputs: %s packs rows in pairs; exclude it", l->name,
                         (long long)l->out, label);
    if (p->kind == PART_FP4 && l->in % 2 != 0)
        return error_set(err, ST_DATA, "'%s' has %lld inputs: %s packs columns in pairs; exclude it", l->name,
                         (long long)l->in, label);
    if (p->kind == PART_SCALE_BIAS && p->shape[1] == 0)
        return error_set(err, ST_DATA, "'%s' has %lld inputs, which %s can't cut into 16 slices as the original does: "
                         "exclude it or leave --compat peer", l->name, (long long)l->in, label);
    return ST_OK;
}

static Status check_shapes(const SavePlan *plan, const SaveFormat *f, Error *err)
{
    for (int64_t i = 0; i < plan->model->nlinears; i++) {
        QPart parts[SCHEME_PARTS_MAX];
        if (plan->level[i] <= 0)
            continue;
        char what[96];
        const QConfig *q = save_config(plan, i);
        int n = q ? f->parts(plan, i, false, parts) : 0;
        if (n == 0) {
            if (q)
                qconfig_describe(q, what, sizeof what);
            else
                snprintf(what, sizeof what, "level %d", plan->level[i]);
            return error_set(err, ST_DATA, "%s can't write %s ('%s'): use ascendv1_saver, or another scheme", f->type,
                             what, plan->model->linears[i].name);
        }
        for (int k = 0; k < n; k++)
            RETURN_IF_ERROR(check_part(plan, i, &parts[k], err));
    }
    return ST_OK;
}

static Status check_cache(const SavePlan *plan, const SaveFormat *f, Error *err)
{
    for (int i = 0; plan->cache_layer && i < plan->model->cfg.layers; i++) {
        const Unit *u = &plan->model->units[i];
        if (!plan->cache_layer[i])
            continue;
        if (!f->cache_label)
            return error_set(err, ST_DATA, "%s can't write quantized keys and values (C8): use ascendv1_saver",
                             f->type);
        if (unit_linear(u, "k") < 0 || unit_linear(u, "v") < 0)
            return error_set(err, ST_DATA, "layer %d has no k_proj and v_proj of its own: its keys and values can't be "
                             "written as C8; exclude it from dynamic_cache", i);
    }
    return ST_OK;
}

Status saveout_check(const SaveFormat *f, const SavePlan *plan, Error *err)
{
    RETURN_IF_ERROR(check_cache(plan, f, err));
    RETURN_IF_ERROR(check_shapes(plan, f, err));
    RETURN_IF_ERROR(save_check_changes(f, plan, err));
    if (f->refuse)
        RETURN_IF_ERROR(f->refuse(plan, err));
    if (f->warn && plan->warn)
        f->warn(plan);
    return ST_OK;
}

/* ---- names ---- */

static void suffix_of(const SaveOut *s, char out[64])
{
    out[0] = 0;
    if (s->format->suffix)
        s->format->suffix(s, out);
}

void save_file_name(const SaveOut *s, int i, char out[256])
{
    char suffix[64];
    int n = layout_shards(&s->layout);
    if (i >= n) {
        snprintf(out, 256, "%s", s->layout.own[i - n]);
        return;
    }
    suffix_of(s, suffix);
    if (save_limit(s->plan))
        snprintf(out, 256, "%s-%05d-of-%05d.safetensors", s->format->weights, i + 1, n);
    else
        snprintf(out, 256, "%s%s.safetensors", s->format->weights, suffix);
}

void save_index_name(const SaveOut *s, char out[256])
{
    out[0] = 0;
    if (save_limit(s->plan))
        snprintf(out, 256, "%s.safetensors.index.json", s->format->weights);
}

void save_description_name(const SaveOut *s, char out[256])
{
    char suffix[64];
    suffix_of(s, suffix);
    snprintf(out, 256, "%s%s.json", s->format->description, suffix);
}

/* ---- the layout ---- */

static DType cache_dtype(const SavePlan *plan)
{
    DType t = plan->cache_dtype;
    return t == DT_BF16 || t == DT_F16 ? t : DT_F32;
}

/* A label of one of the linear's tensors. The peer marks a bias, which stays float, too. */
static const char *label_of(const SaveOut *s, SaveLayout *l, int64_t linear, const char *label, bool bias)
{
    return layout_marked(l, label, bias && !s->plan->peer ? NULL : save_changes_mark_of(s->plan->changes, linear));
}

static Status add_float(const SaveOut *s, const SaveItem *it, int32_t item, SaveLayout *l, Error *err)
{
    const Linear *n = &s->plan->model->linears[it->linear];
    DType t = save_item_dtype(s->plan, it, false);
    const char *label = label_of(s, l, it->linear, save_changes_has_branch(s->plan->changes, it->linear) ? FLOAT_SVD : "FLOAT", false);
    if (!label)
        return error_nomem(err, "the list of tensors");
    RETURN_IF_ERROR(layout_add(l, it->name, ".weight", t, 2, (int64_t[]){n->out, n->in}, label, item, 0, err));
    if (!save_has_bias(s->plan, it->linear))
        return ST_OK;
    t = save_item_dtype(s->plan, it, true);
    return layout_add(l, it->name, ".bias", t, 1, (int64_t[]){n->out}, "FLOAT", item, 1, err);
}

static Status add_linear(const SaveOut *s, const SaveItem *it, int32_t item, SaveLayout *l, Error *err)
{
    QPart parts[SCHEME_PARTS_MAX];
    int n = s->format->parts(s->plan, it->linear, (s->state[it->linear] & SAVE_NO_ZERO) != 0, parts);
    if (n == 0)
        return error_set(err, ST_INTERNAL, "'%s': a scheme that can't be written was not refused", it->name);
    for (int k = 0; k < n; k++) {
        const char *label = label_of(s, l, it->linear, parts[k].label, parts[k].kind == PART_BIAS);
        if (!label)
            return error_nomem(err, "the list of tensors");
        RETURN_IF_ERROR(layout_add(l, it->name, parts[k].suffix, parts[k].dtype, parts[k].ndim, parts[k].shape, label, item, k,
                                   err));
    }
    return ST_OK;
}

const char *save_cache_part(const SavePlan *plan, int layer, int part, int64_t *n)
{
    static const char *const suffix[SAVE_CACHE_PARTS] = {
        ".k_proj.kv_cache_scale", ".k_proj.kv_cache_offset", ".v_proj.kv_cache_scale", ".v_proj.kv_cache_offset"};
    *n = plan->model->linears[unit_linear(&plan->model->units[layer], part < 2 ? "k" : "v")].out;
    return suffix[part];
}

static Status add_cache(const SaveOut *s, const SaveItem *it, int32_t item, SaveLayout *l, Error *err)
{
    for (int k = 0; k < SAVE_CACHE_PARTS; k++) {
        int64_t n;
        const char *suffix = save_cache_part(s->plan, it->layer, k, &n);
        RETURN_IF_ERROR(layout_add(l, it->name, suffix, cache_dtype(s->plan), 1, &n, s->format->cache_label, item, k,
                                   err));
    }
    return ST_OK;
}

/* As the linear's tensors; the peer's as its last one, which may be a bias. */
static const char *made_label(const SaveOut *s, SaveLayout *l, int64_t linear)
{
    bool coded = save_quantized(s, linear) && !(s->plan->peer && save_has_bias(s->plan, linear));
    return label_of(s, l, linear, coded ? save_label(s->plan, linear) : "FLOAT", false);
}

static Status add_made(const SaveOut *s, const SaveItem *it, int32_t item, SaveLayout *l, Error *err)
{
    const SaveMade *t = it->made;
    if (!save_holds(s->format, t) || t->entry)
        return ST_OK;
    const char *label = t->unlisted && s->plan->peer ? NULL : t->label ? t->label : t->as_linear ? made_label(s, l, t->linear) : "FLOAT";
    if (t->as_linear && !label)
        return error_nomem(err, "the list of tensors");
    RETURN_IF_ERROR(layout_add(l, it->name, "", save_made_dtype(t), t->ndim, t->shape, label, item, 0, err));
    l->t[l->n - 1].own = t->file;
    return ST_OK;
}

static Status add_item(const SaveOut *s, int32_t item, SaveLayout *l, Error *err)
{
    const SaveItem *it = &s->walk.items[item];
    if (it->coded)
        return layout_add(l, it->name, "", save_item_dtype(s->plan, it, false), 2,
                          (int64_t[]){it->coded->out, it->coded->in}, "FLOAT", item, 0, err);
    if (it->kind == SI_TENSOR)
        return layout_add(l, it->name, "", save_item_dtype(s->plan, it, false), it->t->ndim, it->t->shape, "FLOAT",
                          item, 0, err);
    if (it->kind == SI_CACHE)
        return add_cache(s, it, item, l, err);
    if (it->kind == SI_MADE)
        return add_made(s, it, item, l, err);
    if (save_is_added(it)) {
        int64_t n = save_added_values(s->plan, it);
        return layout_add(l, it->name, "", save_item_dtype(s->plan, it, false), 1, &n, "FLOAT", item, 0, err);
    }
    return save_quantized(s, it->linear) ? add_linear(s, it, item, l, err) : add_float(s, it, item, l, err);
}

Status saveout_layout(const SaveOut *s, const int32_t *first, SaveLayout *l, Error *err)
{
    *l = (SaveLayout){0};
    for (size_t i = 0; i < s->walk.n; i++) {
        size_t from = l->n;
        RETURN_IF_ERROR(add_item(s, (int32_t)i, l, err));
        for (size_t t = from; first && t < l->n && !l->t[t].own; t++) {
            l->t[t].file = first[i];
            l->files = first[i] + 1 > l->files ? first[i] + 1 : l->files;
        }
    }
    if (l->n == 0)
        return error_set(err, ST_DATA, "the model has no tensors to write");
    if (!first)
        layout_cut(l, save_limit(s->plan));
    RETURN_IF_ERROR(layout_own(l, err));
    return layout_place(l, err);
}

Status saveout_look(SaveOut *s, const SaveFormat *f, const SavePlan *plan, Error *err)
{
    *s = (SaveOut){.format = f, .plan = plan, .store = STORE_CLOSED};
    s->state = mem_zarray((size_t)plan->model->nlinears, 1);
    if (!s->state)
        return error_nomem(err, "the list of linears");
    RETURN_IF_ERROR(save_walk(&s->walk, plan, err));
    return saveout_layout(s, NULL, &s->layout, err);
}

void saveout_look_end(SaveOut *s)
{
    layout_free(&s->layout);
    save_walk_free(&s->walk);
    free(s->state);
    free(s->packed);
    s->state = s->packed = NULL;
}

const char *save_force_word(const SavePlan *plan)
{
    return plan->force_word ? plan->force_word : "--force";
}

/* One more file, unless it is there already. */
static void list_file(SaveFile *files, int *n, const char *name, uint64_t bytes)
{
    for (int i = 0; i < *n; i++)
        if (strcmp(files[i].name, name) == 0)
            return;
    snprintf(files[*n].name, sizeof files[*n].name, "%s", name);
    files[(*n)++].bytes = bytes;
}

Status save_list_files(const SaveOut *s, SaveFile **out, int *n, Error *err)
{
    char **side, name[256];
    size_t nside;
    RETURN_IF_ERROR(save_side_names(s->plan, s->format->code_only, &side, &nside, err));
    *out = mem_zarray((size_t)s->layout.files + nside + 3, sizeof **out);
    for (int i = 0; *out && i < s->layout.files; i++) {
        save_file_name(s, i, name);
        list_file(*out, n, name, s->layout.size[i]);
    }
    if (*out) {
        save_index_name(s, name);
        if (name[0])
            list_file(*out, n, name, 0);
        if (s->format->description) {
            save_description_name(s, name);
            list_file(*out, n, name, 0);
        }
        for (size_t i = 0; i < nside; i++)
            list_file(*out, n, side[i], 0);
        if (s->plan->extra)
            list_file(*out, n, s->plan->extra->name, 0);
    }
    for (size_t i = 0; i < nside; i++)
        free(side[i]);
    free(side);
    return *out ? ST_OK : error_nomem(err, "the list of files");
}

Status saveout_files(const SaveFormat *f, const SavePlan *plan, SaveFile **out, int *n, Error *err)
{
    SaveOut s;
    *out = NULL;
    *n = 0;
    Status st = saveout_look(&s, f, plan, err);
    if (st == ST_OK)
        st = save_list_files(&s, out, n, err);
    saveout_look_end(&s);
    return st;
}
