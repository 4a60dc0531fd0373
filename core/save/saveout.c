#include "save/saveout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "io/file.h"
#include "io/json.h"
#include "model/check.h"

/* ---- progress record ---- */

/* Everything that decides which bytes are written where. */
static void plan_digest(const SaveOut *s, char hex[65])
{
    const SavePlan *p = s->plan;
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, "slimscope-save-2");
    for (size_t i = 0; i < s->layout.n; i++) {
        const OutTensor *t = &s->layout.t[i];
        hasher_str(&h, t->name);
        hasher_u64(&h, (uint64_t)t->dtype);
        hasher_u64(&h, (uint64_t)t->file);
        hasher_u64(&h, t->offset);
    }
    for (int64_t i = 0; i < p->model->nlinears; i++) {
        const QConfig *q = save_config(p, i);
        hasher_u64(&h, q != NULL);
        if (q) {
            qspec_hash(&h, &q->act);
            qspec_hash(&h, &q->weight);
        }
    }
    Digest d = hasher_end(&h);
    digest_hex(&d, hex);
}

static const char *hex_or_none(const char *hex)
{
    return hex ? hex : "";
}

static void head_record(const SaveOut *s, Str *out)
{
    char plan[65], changes[65];
    plan_digest(s, plan);
    overlay_digest(s->plan->overlay, changes);
    str_printf(out, "{\"model\":\"%s\",\"peer\":%s,\"limit\":%llu,\"plan\":\"%s\",\"texts\":\"%s\","
               "\"flow\":\"%s\",\"arith\":\"%s\",",
               s->plan->model->fingerprint, s->plan->peer ? "true" : "false",
               (unsigned long long)save_limit(s->plan), plan, hex_or_none(s->plan->texts), hex_or_none(s->plan->flow),
               dtype_name(s->plan->arith));
    if (changes[0])
        str_printf(out, "\"changes\":\"%s\",", changes);
    str_puts(out, "\"old\":[");
    for (size_t i = 0; i < s->nold; i++) {
        str_puts(out, i ? ",[" : "[");
        str_json(out, s->old[i].name);
        str_printf(out, ",\"%llx\"]", (unsigned long long)s->old[i].inode);
    }
    str_puts(out, "]}");
}

typedef struct Replay {
    SaveOut *s;
    bool head;
} Replay;

static Status replay_head(SaveOut *s, const cJSON *o, Error *err)
{
    const char *model = "", *plan = "", *texts = "", *flow = "", *arith = "", *changes = "";
    bool peer = false;
    char mine[65], changed[65];
    plan_digest(s, mine);
    overlay_digest(s->plan->overlay, changed);
    RETURN_IF_ERROR(json_str(o, "model", &model, NULL, err));
    RETURN_IF_ERROR(json_str(o, "plan", &plan, NULL, err));
    RETURN_IF_ERROR(json_str(o, "texts", &texts, NULL, err));
    RETURN_IF_ERROR(json_str(o, "flow", &flow, NULL, err));
    RETURN_IF_ERROR(json_str(o, "arith", &arith, NULL, err));
    RETURN_IF_ERROR(json_str(o, "changes", &changes, NULL, err));
    RETURN_IF_ERROR(json_bool(o, "peer", &peer, NULL, err));
    const cJSON *limit = json_get(o, "limit");
    const char *what = NULL;
    if (strcmp(model, s->plan->model->fingerprint) != 0)
        what = "the model has changed";
    else if (peer != s->plan->peer)
        what = "the arithmetic (--compat) is another";
    else if (limit && limit->valuedouble != (double)save_limit(s->plan))
        what = "part_file_size is another";
    else if (strcmp(plan, mine) != 0)
        what = "the recipe quantizes other layers or with another scheme";
    else if (strcmp(flow, hex_or_none(s->plan->flow)) != 0)
        what = "the recipe's processors or their order are others";
    else if (strcmp(changes, changed) != 0)
        what = "what the processors changed in the model is another";
    else if (strcmp(texts, hex_or_none(s->plan->texts)) != 0)
        what = "the calibration texts are others (data set, --max-samples, --seq-len)";
    else if (strcmp(arith, dtype_name(s->plan->arith)) != 0)
        what = "the arithmetic (--dtype-sim) is another";
    if (what)
        return error_set(err, ST_DATA, "the stopped run in '%s' can't be continued: %s; run without --resume to start "
                         "again", s->store.dir, what);
    const cJSON *e;
    cJSON_ArrayForEach(e, json_get(o, "old")) {
        const cJSON *name = cJSON_GetArrayItem(e, 0), *inode = cJSON_GetArrayItem(e, 1);
        if (!cJSON_IsString(name) || !cJSON_IsString(inode))
            continue;
        if (!mem_grow(&s->old, &s->old_cap, s->nold + 1, sizeof *s->old))
            return error_nomem(err, "the list of files");
        OldFile *f = &s->old[s->nold++];
        snprintf(f->name, sizeof f->name, "%s", name->valuestring);
        f->inode = strtoull(inode->valuestring, NULL, 16);
    }
    return ST_OK;
}

static void replay_flags(SaveOut *s, const cJSON *o, const char *key, int flag)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, json_get(o, key))
        if (cJSON_IsNumber(e) && e->valuedouble >= 0 && e->valuedouble < (double)s->plan->model->nlinears) {
            s->state[(int64_t)e->valuedouble] |= (uint8_t)flag;
            s->changed = true;
        }
}

static Status replay_record(void *ctx, const char *json, uint32_t len, Error *err)
{
    Replay *r = ctx;
    SaveOut *s = r->s;
    cJSON *o;
    RETURN_IF_ERROR(json_parse(json, len, "the progress record", &o, err));
    Status st = ST_OK;
    int64_t layer = -1, packed = -1;
    if (!r->head) {
        st = replay_head(s, o, err);
        r->head = true;
    }
    if (st == ST_OK)
        st = json_int(o, "layer", &layer, NULL, err);
    if (st == ST_OK)
        st = json_int(o, "packed", &packed, NULL, err);
    if (st == ST_OK && layer >= 0 && layer == s->layers_done && layer < model_depth(s->plan->model)) {
        s->layers_done++;
        replay_flags(s, o, "float", SAVE_KEPT_FLOAT);
        replay_flags(s, o, "nozero", SAVE_NO_ZERO);
    }
    if (st == ST_OK && packed >= 0 && packed < s->layout.files) {
        if (!s->packed)
            s->packed = mem_zarray((size_t)s->layout.files, 1);
        if (!s->packed)
            st = error_nomem(err, "the list of files");
        else
            s->packed[packed] = 1;
    }
    s->finishing = s->finishing || json_get(o, "finish");
    cJSON_Delete(o);
    return st;
}

static Status open_journal(SaveOut *s, bool *resume, Error *err)
{
    char *path = path_join(s->store.temp, "journal");
    if (!path)
        return error_nomem(err, "a path");
    *resume = *resume && file_exists(path);
    if (!*resume)
        remove(path);
    Replay r = {.s = s};
    Status st = journal_open(&s->journal, path, JOURNAL_CUT, replay_record, &r, NULL, err);
    *resume = *resume && r.head;
    free(path);
    return st;
}

/* The head goes in when the files are there: a run that never got its room left nothing to resume. */
static Status start_journal(SaveOut *s, Error *err)
{
    Str head = {0};
    RETURN_IF_ERROR(save_list_old(s, err));
    head_record(s, &head);
    Status st = head.oom ? error_nomem(err, "the progress record") : journal_append(s->journal, head.s, true, err);
    str_free(&head);
    return st;
}

/* ---- opening ---- */

static Status index_items(SaveOut *s, Error *err)
{
    int64_t n = s->plan->model->nlinears;
    s->item_of = mem_array((size_t)n, sizeof *s->item_of);
    s->tensor_of = mem_array(s->walk.n, sizeof *s->tensor_of);
    if (!s->item_of || !s->tensor_of)
        return error_nomem(err, "the list of tensors");
    for (int64_t i = 0; i < n; i++)
        s->item_of[i] = -1;
    for (size_t i = 0; i < s->walk.n; i++)
        if (s->walk.items[i].kind == SI_LINEAR)
            s->item_of[s->walk.items[i].linear] = (int32_t)i;
    for (size_t t = s->layout.n; t-- > 0;)
        s->tensor_of[s->layout.t[t].item] = (int64_t)t;
    return ST_OK;
}

/* Names in the target that can't be replaced by a file are found before the first layer. */
static Status check_names(const SaveOut *s, Error *err)
{
    for (int i = 0; i <= s->layout.files; i++) {
        char name[256];
        if (i < s->layout.files)
            save_file_name(s, i, s->layout.files, name);
        else
            save_index_name(s, name);
        char *path = name[0] ? path_join(s->store.dir, name) : NULL;
        bool bad = path && dir_exists(path);
        if (bad)
            error_set(err, ST_IO, "cannot write '%s': a folder of this name is there", path);
        free(path);
        if (bad)
            return ST_IO;
    }
    return ST_OK;
}

/* What is copied only at the end is looked at before the first layer: hours may lie between. */
static Status check_outside(const SaveOut *s, Error *err)
{
    for (size_t i = 0; i < s->walk.n; i++)
        if (s->walk.items[i].layer < 0)
            RETURN_IF_ERROR(save_copy_sound(s->plan, &s->walk.items[i], false, NULL, NULL, err));
    return ST_OK;
}

static Status open_parts(SaveOut *s, bool *resume, Error *err)
{
    const SavePlan *plan = s->plan;
    s->state = mem_zarray((size_t)plan->model->nlinears, 1);
    if (!s->state)
        return error_nomem(err, "the list of linears");
    RETURN_IF_ERROR(save_walk(&s->walk, plan, err));
    RETURN_IF_ERROR(saveout_layout(s, NULL, &s->layout, err));
    RETURN_IF_ERROR(index_items(s, err));
    if (!*resume)
        RETURN_IF_ERROR(check_outside(s, err));
    RETURN_IF_ERROR(store_open(&s->store, plan->dir, s->format->type, plan->model->path, err));
    RETURN_IF_ERROR(check_names(s, err));
    RETURN_IF_ERROR(open_journal(s, resume, err));
    RETURN_IF_ERROR(store_create(&s->store, &s->layout, *resume, err));
    if (*resume && !s->finishing) /* later files are already where they belong */
        RETURN_IF_ERROR(store_check(&s->store, &s->layout, s->packed, err));
    return *resume ? ST_OK : start_journal(s, err);
}

static void out_close(void *self, bool keep)
{
    SaveOut *s = self;
    if (!s)
        return;
    (void)journal_close(s->journal, NULL); /* what counts was synced as it was written */
    store_close(&s->store, keep && !s->finished);
    layout_free(&s->layout);
    save_walk_free(&s->walk);
    free(s->state);
    free(s->item_of);
    free(s->tensor_of);
    free(s->old);
    free(s->packed);
    free(s->buf);
    free(s);
}

static Status out_open(void **self, const SaveFormat *f, const SavePlan *plan, bool resume, int *first_layer,
                       Error *err)
{
    *self = NULL;
    if (first_layer)
        *first_layer = 0;
    SavePlan quiet = *plan; /* what there is to warn of was told by the check before the run */
    quiet.warn = NULL;
    RETURN_IF_ERROR(saveout_check(f, &quiet, err));
    SaveOut *s = calloc(1, sizeof *s);
    if (!s)
        return error_nomem(err, "a saver");
    s->format = f;
    s->plan = plan;
    s->store = (Store){.lock = -1, .fd = -1, .fd_file = -1};
    bool wanted = resume;
    Status st = open_parts(s, &resume, err);
    if (st != ST_OK) {
        /* what a refused resume found stays; a fresh start leaves nothing */
        out_close(s, wanted && resume);
        return st;
    }
    if (first_layer)
        *first_layer = s->layers_done;
    *self = s;
    return ST_OK;
}

/* ---- writing ---- */

typedef struct Place {
    SaveOut *s;
    const OutTensor *t;
} Place;

static Status put_place(void *ctx, uint64_t at, const void *data, size_t n, Error *err)
{
    const Place *p = ctx;
    if (at > p->t->nbytes || n > p->t->nbytes - at)
        return error_set(err, ST_INTERNAL, "'%s' would be written beyond its end", p->t->name);
    return store_write(&p->s->store, p->t, at, data, n, err);
}

/* A bias comes from the model as it is. */
static Status check_values(const OutTensor *t, const void *data, Error *err)
{
    bool nan;
    int64_t bad = values_first_bad((DType)t->dtype, data, (int64_t)t->nbytes / dtype_size((DType)t->dtype), &nan);
    if (bad < 0)
        return ST_OK;
    return error_set(err, ST_DATA, "'%s' would be written with %s at value %lld: the model is damaged; 'slimscope check' "
                     "names every such tensor", t->name, nan ? "NaN" : "Inf", (long long)bad);
}

static Status write_linear(SaveOut *s, const SaveLinear *l, Error *err)
{
    QPart parts[SCHEME_PARTS_MAX];
    int32_t item = s->item_of[l->linear];
    int n = s->format->parts(s->plan, l->linear, false, parts);
    for (int k = 0; k < n; k++) {
        const OutTensor *t = &s->layout.t[s->tensor_of[item] + k];
        const void *data;
        RETURN_IF_ERROR(save_part_data(s->plan, l, &parts[k], &s->buf, &s->buf_cap, &data, err));
        RETURN_IF_ERROR(check_values(t, data, err));
        RETURN_IF_ERROR(put_place(&(Place){s, t}, 0, data, (size_t)t->nbytes, err));
    }
    return ST_OK;
}

static Status check_linear(const SaveOut *s, const SaveLinear *l, Error *err)
{
    const Model *m = s->plan->model;
    if (l->linear < 0 || l->linear >= m->nlinears || s->plan->level[l->linear] <= 0 || s->item_of[l->linear] < 0)
        return error_set(err, ST_INTERNAL, "linear %lld is not to be quantized", (long long)l->linear);
    const Linear *n = &m->linears[l->linear];
    const QSpec *q = &save_config(s->plan, l->linear)->weight;
    if (l->weight->out != n->out || l->weight->in != n->in || l->weight->dtype != q->dtype)
        return error_set(err, ST_INTERNAL, "'%s': the weight handed over is not of the planned shape or type", n->name);
    bool bias = save_has_bias(s->plan, l->linear);
    if (bias != (l->bias != NULL))
        return error_set(err, ST_INTERNAL, "'%s': its bias %s", n->name, bias ? "is missing" : "is not in the model");
    return ST_OK;
}

/* A resumed run may start below what this output holds already (another saver's is shorter): the bytes would be the
 * same. */
static bool is_done(const SaveOut *s, int64_t linear)
{
    return s->plan->model->linears[linear].layer < s->layers_done;
}

static Status out_linear(void *self, const SaveLinear *l, Error *err)
{
    SaveOut *s = self;
    RETURN_IF_ERROR(check_linear(s, l, err));
    if (is_done(s, l->linear))
        return ST_OK;
    uint8_t *state = &s->state[l->linear];
    *state &= (uint8_t)~(SAVE_KEPT_FLOAT | SAVE_NO_ZERO);
    if (s->format->drops_zero && l->has_act && l->act.offset == 0 && s->plan->peer
        && save_config(s->plan, l->linear)->act.scope == QS_PER_TENSOR)
        *state |= SAVE_NO_ZERO;
    if (*state & SAVE_NO_ZERO)
        s->changed = true;
    *state |= SAVE_WRITTEN;
    return write_linear(s, l, err);
}

static Status out_keep_float(void *self, int64_t linear, Error *err)
{
    SaveOut *s = self;
    if (linear < 0 || linear >= s->plan->model->nlinears)
        return error_set(err, ST_INTERNAL, "there is no linear %lld", (long long)linear);
    if (s->plan->level[linear] <= 0 || is_done(s, linear))
        return ST_OK;
    s->state[linear] = SAVE_KEPT_FLOAT | SAVE_WRITTEN;
    s->changed = true;
    return ST_OK;
}

static Status out_cache(void *self, const SaveCache *c, Error *err)
{
    SaveOut *s = self;
    if (!s->format->cache_label)
        return error_set(err, ST_DATA, "%s can't write dynamic_cache", s->format->type);
    if (c->layer < s->layers_done)
        return ST_OK;
    const float *from[SAVE_CACHE_PARTS] = {c->k_scale, c->k_offset, c->v_scale, c->v_offset};
    for (size_t i = 0; i < s->walk.n; i++) {
        if (s->walk.items[i].kind != SI_CACHE || s->walk.items[i].layer != c->layer)
            continue;
        for (int k = 0; k < SAVE_CACHE_PARTS; k++) {
            const OutTensor *t = &s->layout.t[s->tensor_of[i] + k];
            if (t->shape[0] != c->n)
                return error_set(err, ST_INTERNAL, "'%s' has %lld values, %lld were handed over", t->name,
                                 (long long)t->shape[0], (long long)c->n);
            if (!mem_grow(&s->buf, &s->buf_cap, (size_t)c->n * 4 + 1, 1))
                return error_nomem(err, t->name);
            save_cast(from[k], c->n, (DType)t->dtype, s->buf);
            RETURN_IF_ERROR(put_place(&(Place){s, t}, 0, s->buf, (size_t)t->nbytes, err));
        }
        return ST_OK;
    }
    return error_set(err, ST_INTERNAL, "layer %d: no quantized keys and values were planned", c->layer);
}

/* Float tensors of the layer, or (-1) of what is outside. */
static Status copy_floats(SaveOut *s, int layer, Error *err)
{
    for (size_t i = 0; i < s->walk.n; i++) {
        const SaveItem *it = &s->walk.items[i];
        if (it->layer != layer || it->kind == SI_CACHE)
            continue;
        Place p = {s, &s->layout.t[s->tensor_of[i]]};
        if (it->kind == SI_TENSOR) {
            RETURN_IF_ERROR(save_copy_sound(s->plan, it, false, put_place, &p, err));
        } else if (s->plan->level[it->linear] <= 0) {
            RETURN_IF_ERROR(save_copy_sound(s->plan, it, false, put_place, &p, err));
            p.t++;
            if (save_has_bias(s->plan, it->linear))
                RETURN_IF_ERROR(save_copy_sound(s->plan, it, true, put_place, &p, err));
        } else if (!(s->state[it->linear] & SAVE_WRITTEN)) {
            return error_set(err, ST_INTERNAL, "'%s' was not handed over", it->name);
        }
    }
    return ST_OK;
}

static void put_flags(const SaveOut *s, int layer, const char *key, int flag, Str *out)
{
    const Unit *u = &s->plan->model->units[layer];
    const char *sep = "";
    str_printf(out, ",\"%s\":[", key);
    for (int32_t i = u->first; i < u->first + u->count; i++)
        if (s->state[i] & flag) {
            str_printf(out, "%s%d", sep, i);
            sep = ",";
        }
    str_putc(out, ']');
}

static Status out_layer_done(void *self, int layer, Error *err)
{
    SaveOut *s = self;
    if (layer < s->layers_done)
        return ST_OK;
    if (layer != s->layers_done || layer >= model_depth(s->plan->model))
        return error_set(err, ST_INTERNAL, "layer %d ended where layer %d was expected", layer, s->layers_done);
    RETURN_IF_ERROR(copy_floats(s, layer, err));
    RETURN_IF_ERROR(store_sync(&s->store, err));
    Str rec = {0};
    str_printf(&rec, "{\"layer\":%d", layer);
    put_flags(s, layer, "float", SAVE_KEPT_FLOAT, &rec);
    put_flags(s, layer, "nozero", SAVE_NO_ZERO, &rec);
    str_putc(&rec, '}');
    Status st = rec.oom ? error_nomem(err, "the progress record") : journal_append(s->journal, rec.s, true, err);
    str_free(&rec);
    if (st == ST_OK)
        s->layers_done++;
    return st;
}

static Status out_finish(void *self, Error *err)
{
    SaveOut *s = self;
    if (s->layers_done != model_depth(s->plan->model))
        return error_set(err, ST_INTERNAL, "%d of %d layers were written", s->layers_done, model_depth(s->plan->model));
    if (!s->finishing) {
        if (!s->packed) { /* a repack removes files that it has taken over */
            RETURN_IF_ERROR(copy_floats(s, -1, err));
            RETURN_IF_ERROR(store_sync(&s->store, err));
        }
        if (s->changed)
            RETURN_IF_ERROR(saveout_repack(s, err));
        RETURN_IF_ERROR(journal_append(s->journal, "{\"finish\":true}", true, err));
        s->finishing = true;
    } else if (s->changed) {
        RETURN_IF_ERROR(saveout_repack(s, err)); /* only the layout: every file is there */
    }
    RETURN_IF_ERROR(saveout_install(s, err));
    s->finished = true;
    return ST_OK;
}

const SaverOps saveout_ops = {
    .check = saveout_check,
    .files = saveout_files,
    .open = out_open,
    .linear = out_linear,
    .keep_float = out_keep_float,
    .cache = out_cache,
    .layer_done = out_layer_done,
    .finish = out_finish,
    .close = out_close,
};
