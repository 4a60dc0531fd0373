#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/check.h"
#include "save/pyjson.h"
#include "save/saveout.h"
#include "save/terms.h"

/* What an output has that no checkpoint has: biases of norms, multipliers of inputs, tensors that processors make, and
 * what the description says of them. */

/* ---- what is there ---- */

bool save_norm_bias(const SavePlan *plan, const TensorInfo *norm)
{
    return overlay_norm_bias(plan->overlay, norm) || save_changes_has_norm_bias(plan->changes, norm);
}

/* Whether a step of this kind is done to the linear's input. */
static bool has_input(const SavePlan *plan, int64_t i, ChainKind kind)
{
    const EditChain *c = overlay_inputs(plan->overlay, i);
    int k = 0;
    while (c && k < c->n && c->step[k].kind != kind)
        k++;
    return c && k < c->n;
}

bool save_input_scale(const SavePlan *plan, int64_t i)
{
    return has_input(plan, i, CHAIN_COLS) || save_changes_has_input_scale(plan->changes, i);
}

bool save_untied(const SavePlan *plan)
{
    return overlay_untied(plan->overlay) || save_changes_has_untied(plan->changes);
}

bool save_is_added(const SaveItem *it)
{
    return it->kind == SI_NORM_BIAS || it->kind == SI_FACTOR;
}

DType save_added_dtype(const SavePlan *plan, const SaveItem *it)
{
    return it->kind == SI_FACTOR && plan->peer ? save_model_dtype(plan, it->linear) : DT_F32;
}

int64_t save_added_values(const SavePlan *plan, const SaveItem *it)
{
    return it->kind == SI_FACTOR ? plan->model->linears[it->linear].in : it->t->shape[it->t->ndim - 1];
}

/* ---- what a format can't hold ---- */

static const char *first_norm_bias(const SavePlan *plan)
{
    const Model *m = plan->model;
    for (int64_t i = 0; i < checkpoint_count(m->ckpt); i++)
        if (save_norm_bias(plan, checkpoint_at(m->ckpt, i)))
            return checkpoint_at(m->ckpt, i)->name;
    return NULL;
}

static Status check_biases(const SaveFormat *f, const SavePlan *plan, Error *err)
{
    const char *of = f->holds & SAVES_BIASES ? NULL : first_norm_bias(plan);
    for (int64_t i = 0; !(f->holds & SAVES_BIASES) && !of && i < plan->model->nlinears; i++)
        if (!plan->model->linears[i].bias && save_has_bias(plan, i))
            of = plan->model->linears[i].name;
    if (!of)
        return ST_OK;
    if (!plan->peer)
        return error_set(err, ST_DATA, "%s can't write the bias that a processor gives '%s': what loads this layout has none "
                         "there and would run another model; use symmetric: true, or ascendv1_saver", f->type, of);
    save_warn(plan, "%s: '%s' gets a bias that what loads this layout doesn't apply: as the original does, it is written "
              "all the same", f->type, of);
    return ST_OK;
}

static Status check_factors(const SaveFormat *f, const SavePlan *plan, Error *err)
{
    for (int64_t i = 0; i < plan->model->nlinears; i++)
        if (save_input_scale(plan, i) && !(f->holds & SAVES_INPUT_SCALES))
            return error_set(err, ST_DATA, "%s can't write the multiplier of the input of '%s' (non-fusion): use "
                             "ascendv1_saver", f->type, plan->model->linears[i].name);
    return ST_OK;
}

/* ST_DATA for a linear whose input is turned at run time by what no tensor of the output has. */
static Status check_rotation(const SaveFormat *f, const SavePlan *plan, int64_t i, Error *err)
{
    const SaveMade *t;
    bool made = !has_input(plan, i, CHAIN_RIGHT);
    for (size_t k = 0; !made && (t = save_changes_made_at(plan->changes, k)) != NULL; k++)
        made = t->linear == i && !t->branch;
    return made ? ST_OK : error_set(err, ST_DATA, "%s can't write the rotation of the input of '%s': no tensor of the output "
                                    "has it", f->type, plan->model->linears[i].name);
}

static Status check_rotations(const SaveFormat *f, const SavePlan *plan, Error *err)
{
    for (int64_t i = 0; plan->overlay && i < plan->model->nlinears; i++)
        RETURN_IF_ERROR(check_rotation(f, plan, i, err));
    return ST_OK;
}

/* Whether it is of an attention's queries, keys or values. */
static bool is_attention(const SaveMade *t)
{
    return t->entry || t->label;
}

bool save_holds(const SaveFormat *f, const SaveMade *t)
{
    if (is_attention(t))
        return f->holds & SAVES_ATTENTION;
    if (t->branch)
        return f->holds & SAVES_BRANCHES;
    return f->holds & (t->linear < 0 && !t->file ? SAVES_MODULES : SAVES_ROTATIONS);
}

static Status check_made(const SaveFormat *f, const SavePlan *plan, Error *err)
{
    const SaveMade *t;
    for (size_t i = 0; (t = save_changes_made_at(plan->changes, i)) != NULL; i++) {
        if (t->linear >= 0 && save_input_scale(plan, t->linear))
            return error_set(err, ST_DATA, "'%s' would have its input multiplied and %s at run time, which no format can "
                             "say: leave it out of one of the two", plan->model->linears[t->linear].name,
                             t->branch ? "a low-rank branch" : "rotated");
        if (save_holds(f, t))
            continue;
        if (is_attention(t))
            return error_set(err, ST_DATA, "%s can't write attention that reads quantized queries, keys and values ('%s', "
                             "fa3_quant): use ascendv1_saver", f->type, t->name);
        if (!t->file || plan->peer)
            return error_set(err, ST_DATA, "%s can't write '%s'%s: use ascendv1_saver, or leave '%s' out", f->type, t->name,
                             t->file ? "" : ", which is applied at run time",
                             t->file ? "export_extra_info" : t->branch ? "svd_res" : t->as_linear ? "flatquant"
                             : t->linear < 0 ? "online_quarot" : "online");
        save_warn(plan, "%s has no place for %s: it is left out, the model is whole without it", f->type, t->file);
    }
    return ST_OK;
}

Status save_check_changes(const SaveFormat *f, const SavePlan *plan, Error *err)
{
    const char *unsaved = save_changes_has_unsaved(plan->changes);
    if (unsaved)
        return error_set(err, ST_DATA, "%s can't write %s", f->type, unsaved);
    RETURN_IF_ERROR(check_biases(f, plan, err));
    RETURN_IF_ERROR(check_factors(f, plan, err));
    RETURN_IF_ERROR(check_rotations(f, plan, err));
    return check_made(f, plan, err);
}

/* ---- values ---- */

static Status put_values(SaveOut *s, const OutTensor *t, int64_t at, const float *v, int64_t n, Error *err)
{
    bool nan;
    int64_t bad = values_first_bad(DT_F32, v, n, &nan);
    if (bad >= 0)
        return error_set(err, ST_DATA, "'%s' would be written with %s at value %lld", t->name, nan ? "NaN" : "Inf",
                         (long long)(at + bad));
    size_t size = (size_t)dtype_size((DType)t->dtype);
    if (!mem_grow(&s->buf, &s->buf_cap, (size_t)n * size + 1, 1))
        return error_nomem(err, t->name);
    save_cast(v, n, (DType)t->dtype, s->buf);
    return store_write(&s->store, t, (uint64_t)at * size, s->buf, (size_t)n * size, err);
}

/* What was promised and did not come changes nothing: 0 of a bias, 1 of a multiplier. */
static void added_values(const SavePlan *plan, const SaveItem *it, int64_t n, float *v)
{
    const float *b = it->kind == SI_NORM_BIAS ? overlay_norm_bias(plan->overlay, it->t) : NULL;
    const EditChain *c = it->kind == SI_FACTOR ? overlay_inputs(plan->overlay, it->linear) : NULL;
    for (int64_t i = 0; i < n; i++)
        v[i] = b ? b[i] : it->kind == SI_FACTOR ? 1 : 0;
    for (int k = 0; c && k < c->n; k++)
        for (int64_t i = 0; c->step[k].kind == CHAIN_COLS && i < n; i++)
            v[i] *= c->step[k].v[i];
}

Status save_copy_added(const SavePlan *plan, const SaveItem *it, SavePut *put, void *ctx, Error *err)
{
    int64_t n = save_added_values(plan, it);
    DType t = save_added_dtype(plan, it);
    float *v = mem_array((size_t)n, sizeof *v);
    void *out = mem_array((size_t)n, (size_t)dtype_size(t));
    Status st = v && out ? ST_OK : error_nomem(err, it->name);
    if (st == ST_OK) {
        added_values(plan, it, n, v);
        save_cast(v, n, t, out);
        st = put(ctx, 0, out, (size_t)n * (size_t)dtype_size(t), err);
    }
    free(v);
    free(out);
    return st;
}

/* Item of the walk that this promised tensor is, -1: none. */
static int64_t item_of_made(SaveOut *s, const char *name, Error *err)
{
    bool first = s->made.count == 0;
    for (size_t i = 0; first && i < s->walk.n; i++)
        if (s->walk.items[i].kind == SI_MADE
            && !map_add(&s->made, s->walk.items[i].name, strlen(s->walk.items[i].name), (int64_t)i, NULL)) {
            (void)error_nomem(err, "the list of tensors");
            return -1;
        }
    int64_t at = map_get(&s->made, name, strlen(name), -1);
    if (at < 0)
        (void)error_set(err, ST_INTERNAL, "'%s' was not promised", name);
    return at;
}

Status save_out_tensor(void *self, const SaveValues *v, Error *err)
{
    SaveOut *s = self;
    int64_t i = item_of_made(s, v->name, err);
    if (i < 0)
        return err->status;
    const SaveMade *made = s->walk.items[i].made;
    int layer = made->layer < 0 ? 0 : made->layer;
    if (layer < s->layers_done || !save_holds(s->format, made))
        return ST_OK;
    const OutTensor *t = &s->layout.t[s->tensor_of[i]];
    int64_t all = (int64_t)(t->nbytes / (uint64_t)dtype_size((DType)t->dtype));
    if (v->at < 0 || v->n < 0 || v->at > all || v->n > all - v->at)
        return error_set(err, ST_INTERNAL, "'%s' would be written beyond its end", t->name);
    RETURN_IF_ERROR(put_values(s, t, v->at, v->values, v->n, err));
    if (!s->given && !(s->given = mem_zarray(s->walk.n, sizeof *s->given)))
        return error_nomem(err, "the list of tensors");
    s->given[i] = v->at ? s->given[i] + v->n : v->n;
    return ST_OK;
}

Status save_check_given(const SaveOut *s, int layer, Error *err)
{
    const Unit *u = &s->plan->model->units[layer];
    for (int32_t i = u->first; i < u->first + u->count; i++)
        RETURN_IF_ERROR(check_rotation(s->format, s->plan, i, err));
    for (size_t i = 0; i < s->walk.n; i++) {
        const SaveItem *it = &s->walk.items[i];
        if (it->kind != SI_MADE || (it->layer < 0 ? 0 : it->layer) != layer || !save_holds(s->format, it->made)
            || it->made->entry)
            continue;
        int64_t want = 1;
        for (int d = 0; d < it->made->ndim; d++)
            want *= it->made->shape[d];
        if ((s->given ? s->given[i] : 0) != want)
            return error_set(err, ST_INTERNAL, "'%s' was promised and not handed over", it->name);
    }
    return ST_OK;
}

/* ---- the description ---- */

void save_put_entries(const SaveOut *s, size_t *at, size_t to, const char *sep, Str *out)
{
    for (; *at < to && *at < s->walk.n; ++*at) {
        const SaveItem *it = &s->walk.items[*at];
        if (it->kind != SI_MADE || !it->made->entry || !save_holds(s->format, it->made))
            continue;
        str_puts(out, sep);
        pyjson_string(out, it->name, strlen(it->name));
        str_puts(out, ": ");
        pyjson_string(out, it->made->entry, strlen(it->made->entry));
    }
}

Status save_put_notes(const SaveOut *s, SaveNote where, Str *out, Error *err)
{
    Str plain = {0}, text = {0};
    const char *key, *json;
    size_t n = 0;
    str_putc(&plain, '{');
    for (; save_changes_note_at(s->plan->changes, where, n, &key, &json); n++) {
        str_puts(&plain, n ? "," : "");
        pyjson_string(&plain, key, strlen(key));
        str_printf(&plain, ":%s", json);
    }
    str_putc(&plain, '}');
    Status st = plain.oom ? error_nomem(err, "the description")
                          : pyjson_rewrite(str_text(&plain), plain.len, "the description", 4, &(PyjsonEdit){0}, NULL, &text, err);
    for (size_t i = 0; st == ST_OK && i < text.len; i++) {
        str_putc(out, text.s[i]);
        str_puts(out, text.s[i] == '\n' ? "    " : ""); /* it is a member itself */
    }
    str_free(&plain);
    str_free(&text);
    return st;
}
