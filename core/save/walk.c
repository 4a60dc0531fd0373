#include "save/walk.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "model/block.h"
#include "model/storage.h"
#include "model/weight.h"
#include "save/families.h"
#include "save/saveout.h"

/* Whether `name` is the module or lies below it. */
static bool within(const char *name, const char *module)
{
    size_t n = strlen(module);
    return strncmp(name, module, n) == 0 && (name[n] == 0 || name[n] == '.');
}

static int rank_of(const char *const *order, const char *name)
{
    int i = 0;
    while (order[i] && !within(name, order[i]))
        i++;
    return i;
}

/* What follows the prefix of the model's layers: "N.…"; else NULL. */
static const char *after_layers(const Model *m, const char *name)
{
    const char *prefix = model_layers_prefix(m);
    size_t n = strlen(prefix);
    return strncmp(name, prefix, n) == 0 ? name + n : NULL;
}

/* Name below its layer, or the whole one. */
static const char *below_layer(const Model *m, const char *name)
{
    const char *number = after_layers(m, name), *dot = number ? strchr(number, '.') : NULL;
    return dot ? dot + 1 : name;
}

static int layer_of(const Model *m, const char *name)
{
    const char *number = after_layers(m, name);
    char *end;
    if (!number)
        return -1;
    long v = strtol(number, &end, 10);
    return end != number && *end == '.' && v >= 0 && v < model_depth(m) ? (int)v : -1;
}

typedef struct WalkEntry {
    SaveItem item;
    int rank;    /* in the family's order */
    int expert;  /* within a rank */
    size_t seq;  /* as collected */
} WalkEntry;

typedef struct Walker {
    SaveWalk *w;
    const SavePlan *plan;
    const char *const *order;
    bool router_wide; /* SaveFamily's, in the peer's mode */
    Map used;     /* names of tensors that are accounted for */
    int64_t *made_first, *made_next; /* chains of what processors make, by layer + 1 */
    WalkEntry *e;     /* of the layer in work */
    size_t n, cap;
    Error *err;
} Walker;

static int entry_cmp(const void *pa, const void *pb)
{
    const WalkEntry *a = pa, *b = pb;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (a->expert != b->expert)
        return a->expert < b->expert ? -1 : 1;
    return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static Status emit(Walker *k, const SaveItem *item)
{
    SaveWalk *w = k->w;
    if (!mem_grow(&w->items, &w->cap, w->n + 1, sizeof *w->items))
        return error_nomem(k->err, "the list of modules");
    w->items[w->n++] = *item;
    return ST_OK;
}

static Status use(Walker *k, const TensorInfo *t)
{
    if (t && !map_add(&k->used, t->name, strlen(t->name), 1, NULL))
        return error_nomem(k->err, "the list of modules");
    return ST_OK;
}

static Status gather(Walker *k, const SaveItem *item, const char *name, int expert)
{
    if (!mem_grow(&k->e, &k->cap, k->n + 1, sizeof *k->e))
        return error_nomem(k->err, "the list of modules");
    int rank = rank_of(k->order, below_layer(k->plan->model, name));
    k->e[k->n] = (WalkEntry){.item = *item, .rank = rank, .expert = expert, .seq = k->n};
    k->n++;
    return ST_OK;
}

static bool is_half(DType t)
{
    return t == DT_BF16 || t == DT_F16;
}

static bool is_router_bias(const TensorInfo *t)
{
    return strstr(t->name, "e_score_correction_bias") != NULL;
}

/* "NAME" less its last `drop` characters, and `end` behind it. */
static const char *derived_name(Walker *k, const char *name, size_t drop, const char *end)
{
    Str s = {0};
    str_append(&s, name, strlen(name) - drop);
    str_puts(&s, end);
    const char *kept = s.oom ? NULL : arena_strndup(&k->w->names, str_text(&s), s.len);
    str_free(&s);
    return kept;
}

/* *has: the norm whose weight t is gets a bias. */
static Status norm_bias_item(Walker *k, const TensorInfo *t, int layer, SaveItem *item, bool *has)
{
    static const char weight[] = ".weight";
    *has = save_norm_bias(k->plan, t);
    if (!*has)
        return ST_OK;
    size_t drop = str_ends_with(t->name, weight) ? sizeof weight - 1 : 0;
    *item = (SaveItem){.kind = SI_NORM_BIAS, .layer = layer, .linear = -1, .t = t,
                       .name = derived_name(k, t->name, drop, ".bias")};
    return item->name ? ST_OK : error_nomem(k->err, "the list of modules");
}

static Status gather_tensor(Walker *k, const TensorInfo *t, int layer)
{
    if (!t)
        return ST_OK;
    RETURN_IF_ERROR(use(k, t));
    SaveItem item = {.kind = SI_TENSOR, .layer = layer, .linear = -1, .t = t, .name = t->name};
    item.wide = k->router_wide && is_router_bias(t) && is_half(t->dtype);
    RETURN_IF_ERROR(gather(k, &item, t->name, 0));
    bool has;
    RETURN_IF_ERROR(norm_bias_item(k, t, layer, &item, &has));
    return has ? gather(k, &item, item.name, 0) : ST_OK;
}

/* A tensor that is no part of the decoder. Codes are written as what they stand for, since the new config.json doesn't
 * say how to read them; their scales go. *skip: nothing is written for it. */
static Status loose_item(Walker *k, const TensorInfo *t, int layer, SaveItem *item, bool *skip)
{
    const Model *m = k->plan->model;
    StorageRole role = storage_role(m->ckpt, t);
    *item = (SaveItem){.kind = SI_TENSOR, .layer = layer, .linear = -1, .t = t, .name = t->name, .extra = true};
    *skip = role.how && !role.codes;
    if (!role.codes)
        return ST_OK;
    struct Loose {
        Linear l;
        WeightStore w;
    } *loose = arena_alloc(&k->w->names, sizeof *loose);
    const char *kept = derived_name(k, t->name, strlen(role.how->weight), role.how->weight[0] == '.' ? ".weight" : "");
    if (!loose || !kept)
        return error_nomem(k->err, "the list of modules");
    RETURN_IF_ERROR(storage_loose(m, t, &loose->l, &loose->w, k->err));
    loose->l.name = kept;
    item->name = kept;
    item->coded = &loose->l;
    return ST_OK;
}

static bool is_stacked(const Linear *l)
{
    return l->out_step != 0;
}

/* Whether every linear of the layer that lies in this tensor stays as it is. */
static bool all_kept(const SavePlan *plan, const Unit *u, const TensorInfo *t)
{
    if (save_changes_has_values(plan->changes)) /* which of them is not known yet */
        return false;
    for (int32_t i = u->first; i < u->first + u->count; i++)
        if (plan->model->linears[i].weight == t && (plan->level[i] > 0 || overlay_linear(plan->overlay, i)))
            return false;
    return true;
}

/* The factors of a linear's low-rank branch. */
static Status gather_branch(Walker *k, int64_t i)
{
    const Linear *l = &k->plan->model->linears[i];
    bool has = save_changes_has_branch(k->plan->changes, i);
    for (int64_t n = has ? k->made_first[l->layer + 1] : -1; n >= 0; n = k->made_next[n]) {
        const SaveMade *t = save_changes_made_at(k->plan->changes, (size_t)n);
        SaveItem item = {.kind = SI_MADE, .layer = l->layer, .linear = -1, .name = t->name, .made = t};
        if (t->branch && t->linear == i)
            RETURN_IF_ERROR(gather(k, &item, l->name, l->expert + 1));
    }
    return ST_OK;
}

static Status gather_linear(Walker *k, const Unit *u, int64_t i)
{
    const Linear *l = &k->plan->model->linears[i];
    if (l->store) { /* written as what the codes stand for */
        RETURN_IF_ERROR(use(k, l->store->scale));
        RETURN_IF_ERROR(use(k, l->store->shape));
    } else if (is_stacked(l) && all_kept(k->plan, u, l->weight)) {
        const TensorInfo *both[] = {l->weight, l->bias};
        for (int b = 0; b < 2; b++)
            if (both[b] && map_get(&k->used, both[b]->name, strlen(both[b]->name), 0) == 0)
                RETURN_IF_ERROR(gather_tensor(k, both[b], l->layer));
        return ST_OK;
    }
    RETURN_IF_ERROR(use(k, l->weight));
    RETURN_IF_ERROR(use(k, l->bias));
    SaveItem item = {.kind = SI_LINEAR, .layer = l->layer, .linear = i, .name = l->name};
    item.wide = k->router_wide && l->kind == LK_ROUTER && is_half(weight_dtype(l));
    RETURN_IF_ERROR(gather_branch(k, i));
    if (save_input_scale(k->plan, i)) {
        SaveItem factor = {.kind = SI_FACTOR, .layer = l->layer, .linear = i,
                           .name = derived_name(k, l->name, 0, ".div.mul_scale")};
        item.name = derived_name(k, l->name, 0, ".linear");
        if (!factor.name || !item.name)
            return error_nomem(k->err, "the list of modules");
        RETURN_IF_ERROR(gather(k, &factor, l->name, l->expert + 1));
    }
    return gather(k, &item, l->name, l->expert + 1);
}

/* What processors make for the layer. */
static Status gather_made(Walker *k, int layer)
{
    for (int64_t i = k->made_first[layer + 1]; i >= 0; i = k->made_next[i]) {
        const SaveMade *t = save_changes_made_at(k->plan->changes, (size_t)i);
        SaveItem item = {.kind = SI_MADE, .layer = layer, .linear = -1, .name = t->name, .made = t};
        if (t->branch) /* stands before its linear */
            continue;
        int expert = t->linear >= 0 ? k->plan->model->linears[t->linear].expert + 1 : 0;
        RETURN_IF_ERROR(layer < 0 ? emit(k, &item) : gather(k, &item, t->name, expert));
    }
    return ST_OK;
}

static Status gather_cache(Walker *k, int layer)
{
    char name[256];
    unit_attention_name(k->plan->model, layer, 0, name, sizeof name);
    const char *kept = arena_strndup(&k->w->names, name, strlen(name));
    if (!kept)
        return error_nomem(k->err, "the list of modules");
    SaveItem item = {.kind = SI_CACHE, .layer = layer, .linear = -1, .name = kept};
    return gather(k, &item, kept, 0);
}

/* Buffers of the reference code: the peer writes parameters only. */
static bool is_buffer(const Walker *k, const TensorInfo *t)
{
    return (is_router_bias(t) && !k->router_wide) || strstr(t->name, "rotary_emb.inv_freq");
}

/* What belongs to no linear: `next` chains the checkpoint's tensors of each layer. */
static Status gather_rest(Walker *k, int layer, const int64_t *first, const int64_t *next)
{
    for (int64_t i = first[layer + 1]; i >= 0; i = next[i]) {
        const TensorInfo *t = checkpoint_at(k->plan->model->ckpt, i);
        SaveItem item;
        bool skip;
        if (map_get(&k->used, t->name, strlen(t->name), 0) != 0 || is_buffer(k, t))
            continue;
        RETURN_IF_ERROR(loose_item(k, t, layer, &item, &skip));
        item.extra = false;
        if (!skip && !item.coded) {
            RETURN_IF_ERROR(gather_tensor(k, t, layer));
            continue;
        }
        RETURN_IF_ERROR(use(k, t));
        if (!skip)
            RETURN_IF_ERROR(gather(k, &item, item.name, 0));
    }
    return ST_OK;
}

static Status walk_layer(Walker *k, int layer, const int64_t *first, const int64_t *next)
{
    const Unit *u = &k->plan->model->units[layer];
    k->n = 0;
    for (int32_t i = u->first; i < u->first + u->count; i++)
        RETURN_IF_ERROR(gather_linear(k, u, i));
    RETURN_IF_ERROR(gather_rest(k, layer, first, next));
    if (k->plan->cache_layer && layer < k->plan->model->cfg.layers && k->plan->cache_layer[layer])
        RETURN_IF_ERROR(gather_cache(k, layer));
    RETURN_IF_ERROR(gather_made(k, layer));
    if (k->n)
        qsort(k->e, k->n, sizeof *k->e, entry_cmp);
    for (size_t i = 0; i < k->n; i++)
        RETURN_IF_ERROR(emit(k, &k->e[i].item));
    return ST_OK;
}

/* What is left, of the layer (its buffers) or, with layer -1, of no layer. */
static Status walk_extras(Walker *k, int layer, const int64_t *first, const int64_t *next)
{
    for (int64_t i = first[layer + 1]; i >= 0; i = next[i]) {
        const TensorInfo *t = checkpoint_at(k->plan->model->ckpt, i);
        if (map_get(&k->used, t->name, strlen(t->name), 0) != 0)
            continue;
        SaveItem item;
        bool skip;
        RETURN_IF_ERROR(loose_item(k, t, layer, &item, &skip));
        if (!skip)
            RETURN_IF_ERROR(emit(k, &item));
    }
    return ST_OK;
}

static Status walk_rest(Walker *k)
{
    const Model *m = k->plan->model;
    const TensorInfo *head = m->exit.head != m->entry.table ? m->exit.head : m->exit.spare;
    SaveItem embed = {.kind = SI_TENSOR, .layer = -1, .linear = -1, .t = m->entry.table, .name = m->entry.table->name};
    SaveItem norm = {.kind = SI_TENSOR, .layer = -1, .linear = -1, .t = m->exit.norm, .name = m->exit.norm->name};
    SaveItem bias, last = {.kind = SI_TENSOR, .layer = -1, .linear = -1, .t = head ? head : m->entry.table,
                           .name = head ? head->name : "lm_head.weight", .head = true};
    bool has, apart = save_untied(k->plan);
    RETURN_IF_ERROR(use(k, m->entry.table));
    RETURN_IF_ERROR(use(k, m->exit.norm));
    RETURN_IF_ERROR(use(k, head));
    RETURN_IF_ERROR(emit(k, &embed));
    RETURN_IF_ERROR(emit(k, &norm));
    RETURN_IF_ERROR(norm_bias_item(k, m->exit.norm, -1, &bias, &has));
    if (has)
        RETURN_IF_ERROR(emit(k, &bias));
    if (head || ((k->plan->peer || apart) && m->exit.head))
        RETURN_IF_ERROR(emit(k, &last));
    return gather_made(k, -1);
}

/* Chains of what processors make, by layer. */
static Status chain_made(Walker *k)
{
    size_t n = 0;
    while (save_changes_made_at(k->plan->changes, n))
        n++;
    int depth = model_depth(k->plan->model);
    k->made_first = mem_array((size_t)depth + 1, sizeof *k->made_first);
    k->made_next = mem_array(n + 1, sizeof *k->made_next);
    if (!k->made_first || !k->made_next)
        return error_nomem(k->err, "the list of modules");
    for (int i = 0; i <= depth; i++)
        k->made_first[i] = -1;
    for (size_t i = n; i-- > 0;) {
        const SaveMade *t = save_changes_made_at(k->plan->changes, i);
        int at = t->layer < 0 ? 0 : t->layer + 1;
        if (at > depth)
            return error_set(k->err, ST_INTERNAL, "'%s' is promised for layer %d", t->name, t->layer);
        k->made_next[i] = k->made_first[at];
        k->made_first[at] = (int64_t)i;
    }
    return ST_OK;
}

static Status walk_layers(Walker *k, int64_t *first, int64_t *next, int64_t n)
{
    const Model *m = k->plan->model;
    for (int layer = -1; layer < model_depth(m); layer++)
        first[layer + 1] = -1;
    for (int64_t i = n - 1; i >= 0; i--) {
        int at = layer_of(m, checkpoint_at(m->ckpt, i)->name) + 1;
        next[i] = first[at];
        first[at] = i;
    }
    for (int layer = 0; layer < model_depth(m); layer++) {
        RETURN_IF_ERROR(walk_layer(k, layer, first, next));
        if (!k->plan->peer)
            RETURN_IF_ERROR(walk_extras(k, layer, first, next));
    }
    RETURN_IF_ERROR(walk_rest(k));
    return k->plan->peer ? ST_OK : walk_extras(k, -1, first, next);
}

static Status walk_all(Walker *k)
{
    const Model *m = k->plan->model;
    int64_t n = checkpoint_count(m->ckpt);
    int64_t *first = mem_array((size_t)model_depth(m) + 1, sizeof *first);
    int64_t *next = mem_array((size_t)n, sizeof *next);
    Status st = first && next ? walk_layers(k, first, next, n) : error_nomem(k->err, "the list of modules");
    free(first);
    free(next);
    return st;
}

Status save_walk(SaveWalk *w, const SavePlan *plan, Error *err)
{
    *w = (SaveWalk){0};
    const SaveFamily *f = save_family_of(plan);
    Walker k = {.w = w, .plan = plan, .order = arch_order(plan->model->arch), .err = err,
                .router_wide = plan->peer && f && f->router_wide};
    Status st = chain_made(&k);
    if (st == ST_OK)
        st = walk_all(&k);
    free(k.made_first);
    free(k.made_next);
    map_free(&k.used);
    free(k.e);
    return st;
}

void save_walk_free(SaveWalk *w)
{
    free(w->items);
    arena_free(&w->names);
    *w = (SaveWalk){0};
}
