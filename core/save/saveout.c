#include "save/saveout.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "dist/dist.h"
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
    hasher_str(&h, "slimscope-save-3");
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

static const char *or_none(const char *text)
{
    return text ? text : "";
}

/* What a run is: a resumed one must have the same. */
static void run_fields(const SaveOut *s, Str *out)
{
    char plan[65], changes[65];
    plan_digest(s, plan);
    overlay_digest(s->plan->overlay, changes);
    str_printf(out, "\"model\":\"%s\",\"peer\":%s,\"limit\":%llu,\"plan\":\"%s\",\"texts\":\"%s\","
               "\"flow\":\"%s\",\"arith\":\"%s\"",
               s->plan->model->fingerprint, s->plan->peer ? "true" : "false",
               (unsigned long long)save_limit(s->plan), plan, or_none(s->plan->texts), or_none(s->plan->flow),
               or_none(s->plan->arith));
    if (changes[0])
        str_printf(out, ",\"changes\":\"%s\"", changes);
}

/* Digests of what a run is and of what goes along with the weights: s->known of what is known before the run, s->run of
 * all. As planned: a repack at the end does not change them. */
static Status save_digests(SaveOut *s, Error *err)
{
    const SavePlan *p = s->plan;
    char plan[65], side[65], changes[65];
    Hasher h;
    RETURN_IF_ERROR(save_side_digest(p, s->format->code_only, side, err));
    plan_digest(s, plan);
    overlay_digest(p->overlay, changes);
    hasher_init(&h);
    const char *const known[] = {p->model->fingerprint, path_base(p->model->path), or_none(p->model_type), plan, side,
                                 or_none(p->arith), p->peer ? "peer" : "", p->extra ? p->extra->name : ""};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        hasher_str(&h, known[i]);
    hasher_u64(&h, save_limit(p));
    hasher_u64(&h, p->extra ? p->extra->len : 0);
    if (p->extra)
        hasher_bytes(&h, p->extra->text, p->extra->len);
    Digest d = hasher_end(&h);
    digest_hex(&d, s->known);
    const char *const all[] = {s->known, or_none(p->texts), or_none(p->flow), changes};
    hasher_init(&h);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        hasher_str(&h, all[i]);
    d = hasher_end(&h);
    digest_hex(&d, s->run);
    return ST_OK;
}

/* Why a run with this head can't be gone on with, NULL: it can. What a plan doesn't know yet, before its run, is not
 * compared. */
static Status head_differs(const SaveOut *s, const cJSON *o, bool whole, const char **what, Error *err)
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
    const struct {
        bool differs;
        const char *what;
    } rows[] = {
        {strcmp(model, s->plan->model->fingerprint) != 0, "the model has changed"},
        {peer != s->plan->peer, "the arithmetic (--compat) is another"},
        {limit && limit->valuedouble != (double)save_limit(s->plan), "part_file_size is another"},
        {strcmp(plan, mine) != 0, "the recipe quantizes other layers or with another scheme"},
        {whole && strcmp(flow, or_none(s->plan->flow)) != 0,
         "the recipe's processors or their order are others"},
        {whole && strcmp(changes, changed) != 0, "what the processors changed in the model is another"},
        {whole && strcmp(texts, or_none(s->plan->texts)) != 0,
         "the calibration texts are others (data set, --max-samples, --seq-len)"},
        {whole && strcmp(arith, or_none(s->plan->arith)) != 0, "the arithmetic (--dtype-sim) is another"},
    };
    *what = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !*what; i++)
        *what = rows[i].differs ? rows[i].what : NULL;
    return ST_OK;
}

typedef struct Replay {
    SaveOut *s;
    bool head;
    SaveStopped *look;  /* only looks: what it finds; NULL: goes on with it */
} Replay;

static Status replay_head(Replay *r, const cJSON *o, Error *err)
{
    SaveOut *s = r->s;
    const char *what;
    r->head = true;
    RETURN_IF_ERROR(json_bool(o, "force", &s->forced, NULL, err));
    RETURN_IF_ERROR(head_differs(s, o, !r->look || s->plan->flow, &what, err));
    if (r->look)
        r->look->differs = what;
    else if (what)
        return error_set(err, ST_DATA, "the stopped run in '%s' can't be continued: %s; start again without --resume, by %s",
                         s->store.dir, what, save_force_word(s->plan));
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
    if (!r->head)
        st = replay_head(r, o, err);
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
    cJSON_Delete(o);
    return st;
}

static Status open_journal(SaveOut *s, bool *resume, Error *err)
{
    struct stat st;
    bool there = fstatat(s->store.temp_at, "journal", &st, AT_SYMLINK_NOFOLLOW) == 0;
    *resume = *resume && there && S_ISREG(st.st_mode); /* a link is no record of ours */
    if (!*resume && there)
        unlinkat(s->store.temp_at, "journal", 0);
    char *path = path_join(s->store.temp, "journal");
    if (!path)
        return error_nomem(err, "a path");
    Replay r = {.s = s};
    Status code = journal_open(&s->journal, path, JOURNAL_CUT, replay_record, &r, NULL, err);
    *resume = *resume && r.head;
    free(path);
    return code;
}

/* The head goes in when the files are there: a run that never got its room left nothing to resume. */
static Status start_journal(SaveOut *s, Error *err)
{
    Str head = {0};
    str_putc(&head, '{');
    run_fields(s, &head);
    str_puts(&head, s->forced ? ",\"force\":true}" : "}");
    Status st = head.oom ? error_nomem(err, "the progress record") : journal_append(s->journal, head.s, true, err);
    str_free(&head);
    return st;
}

/* ---- what an earlier run left ---- */

/* Savers of one run share documents: the last one's is there, as its manifest says. */
static bool is_whole(int at, const Manifest *all, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        const ManifestFile *f = manifest_find(&all[i], name, false);
        if (f && manifest_is_there(at, f))
            return true;
    }
    return false;
}

/* Whether it is what this plan's run writes, as far as the plan is known. What processors change in a model follows from
 * their order of work and the texts. */
static bool is_same_run(const SaveOut *s, const Manifest *m)
{
    return s->plan->flow ? strcmp(m->run, s->run) == 0 : strcmp(m->plan, s->known) == 0;
}

Status saveout_complete(SaveOut *s, int at, bool *done, Error *err)
{
    Manifest *all;
    size_t n;
    *done = false;
    RETURN_IF_ERROR(manifest_list(at, s->plan->dir, &all, &n, err));
    Status st = n && !s->run[0] ? save_digests(s, err) : ST_OK;
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        if (strcmp(all[i].saver, s->format->type) != 0 || !is_same_run(s, &all[i]))
            continue;
        *done = all[i].n > 0;
        for (size_t k = 0; k < all[i].n && *done; k++)
            *done = all[i].files[k].old || is_whole(at, all, n, all[i].files[k].name);
    }
    manifest_list_free(all, n);
    return st;
}

static Status look_into(SaveOut *s, int temp, const char *path, SaveStopped *out, Error *err)
{
    struct stat st;
    if (fstatat(temp, "journal", &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
        return ST_OK;
    Replay r = {.s = s, .look = out};
    Journal *j;
    Status code = journal_open(&j, path, JOURNAL_READ, replay_record, &r, NULL, err);
    if (code != ST_OK)
        return code;
    (void)journal_close(j, NULL);
    out->there = r.head;
    out->ready = r.head && faccessat(temp, STORE_READY, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    out->forced = s->forced;
    out->layers = s->layers_done;
    return ST_OK;
}

static Status look_at(SaveOut *s, int at, SaveStopped *out, Error *err)
{
    char name[200];
    store_temp_name(s->format->type, name, sizeof name);
    int temp = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    Status st = ST_OK;
    if (temp >= 0) {
        snprintf(name, sizeof name, STORE_PREFIX "%s/journal", s->format->type);
        char *path = path_join(s->plan->dir, name);
        st = path ? look_into(s, temp, path, out, err) : error_nomem(err, "a path");
        free(path);
        close(temp);
    }
    if (st == ST_OK && !out->there)
        st = saveout_complete(s, at, &out->done, err);
    return st;
}

static Status out_stopped(const SaveFormat *f, const SavePlan *plan, SaveStopped *out, Error *err)
{
    *out = (SaveStopped){0};
    int at = open(plan->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return ST_OK; /* nothing there, or nothing that open would take */
    SaveOut s;
    Status st = saveout_look(&s, f, plan, err);
    if (st == ST_OK)
        st = look_at(&s, at, out, err);
    saveout_look_end(&s);
    close(at);
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
    for (size_t i = 0; i < s->walk.n; i++)
        s->tensor_of[i] = -1;
    for (size_t t = s->layout.n; t-- > 0;)
        s->tensor_of[s->layout.t[t].item] = (int64_t)t;
    return ST_OK;
}

Status saveout_check_names(const SaveOut *s, Error *err)
{
    for (int i = 0; i <= s->layout.files; i++) {
        char name[256];
        if (i < s->layout.files)
            save_file_name(s, i, name);
        else
            save_index_name(s, name);
        struct stat st;
        if (name[0] && fstatat(s->store.at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
            return error_set(err, ST_IO, "cannot write '%s' in '%s': a folder of this name is there", name, s->store.dir);
    }
    return ST_OK;
}

/* What is copied only at the end is looked at before the first layer: hours may lie between. */
static Status check_outside(const SaveOut *s, Error *err)
{
    for (size_t i = 0; i < s->walk.n; i++)
        if (s->walk.items[i].layer < 0 && s->walk.items[i].kind == SI_TENSOR && saveout_copies(s, i))
            RETURN_IF_ERROR(save_copy_sound(s->plan, &s->walk.items[i], false, NULL, NULL, err));
    return ST_OK;
}

/* A saver whose output is whole has nothing more to do in a run that goes on for the sake of another. */
static Status take_complete(SaveOut *s, Error *err)
{
    RETURN_IF_ERROR(saveout_complete(s, s->store.at, &s->finished, err));
    if (s->finished)
        s->layers_done = model_depth(s->plan->model);
    return ST_OK;
}

static Status open_store(SaveOut *s, bool *resume, Error *err)
{
    bool wanted = *resume;
    RETURN_IF_ERROR(open_journal(s, resume, err));
    if (wanted && !*resume)
        RETURN_IF_ERROR(take_complete(s, err));
    if (s->finished)
        return ST_OK;
    if (*resume)
        RETURN_IF_ERROR(store_take_ready(&s->store, &s->is_ready, err));
    RETURN_IF_ERROR(store_create(&s->store, &s->layout, *resume, err));
    if (*resume && !s->is_ready) /* later files are already where they belong */
        RETURN_IF_ERROR(store_check(&s->store, &s->layout, s->packed, err));
    return *resume ? ST_OK : start_journal(s, err);
}

static Status open_parts(SaveOut *s, bool *resume, Error *err)
{
    const SavePlan *plan = s->plan;
    s->forced = plan->force;
    RETURN_IF_ERROR(index_items(s, err));
    RETURN_IF_ERROR(saveout_deal(s, err));
    if (!*resume)
        RETURN_IF_ERROR(check_outside(s, err));
    if (dist_leads(plan->dist)) {
        RETURN_IF_ERROR(save_digests(s, err));
        RETURN_IF_ERROR(store_open(&s->store, plan->dir, s->format->type, plan->model->path, err));
        RETURN_IF_ERROR(saveout_check_names(s, err));
        RETURN_IF_ERROR(open_store(s, resume, err));
    }
    return dist_size(plan->dist) > 1 ? saveout_join(s, resume, err) : ST_OK;
}

static void out_close(void *self, bool keep)
{
    SaveOut *s = self;
    if (!s)
        return;
    (void)journal_close(s->journal, NULL); /* what counts was synced as it was written */
    store_close(&s->store, keep && !s->finished);
    saveout_look_end(s);
    free(s->item_of);
    free(s->tensor_of);
    map_free(&s->made);
    free(s->given);
    free(s->rank_of);
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
    bool wanted = resume;
    Status st = saveout_look(s, f, plan, err);
    if (st == ST_OK)
        st = open_parts(s, &resume, err);
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
    if (bias != (l->bias != NULL) && !(bias && save_changes_has_bias(s->plan->changes, l->linear)))
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
    SaveLinear whole = *l;
    float *zero = NULL; /* a bias that was promised and did not come */
    if (!l->bias && save_has_bias(s->plan, l->linear)) {
        if (!(zero = mem_zarray((size_t)l->weight->out, sizeof *zero)))
            return error_nomem(err, "a bias");
        whole.bias = zero;
    }
    Status st = write_linear(s, &whole, err);
    free(zero);
    return st;
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

/* Float tensors of the layer, or (-1) of what is outside: those that this rank has to copy. */
static Status copy_floats(SaveOut *s, int layer, Error *err)
{
    for (size_t i = 0; i < s->walk.n; i++) {
        const SaveItem *it = &s->walk.items[i];
        if (it->layer != layer || it->kind == SI_CACHE || it->kind == SI_MADE || !saveout_copies(s, i))
            continue;
        Place p = {s, &s->layout.t[s->tensor_of[i]]};
        if (it->kind == SI_TENSOR || save_is_added(it)) {
            RETURN_IF_ERROR(save_copy_sound(s->plan, it, false, put_place, &p, err));
        } else if (s->plan->level[it->linear] <= 0) {
            RETURN_IF_ERROR(save_copy_sound(s->plan, it, false, put_place, &p, err));
            p.t++;
            if (save_has_bias(s->plan, it->linear))
                RETURN_IF_ERROR(save_copy_sound(s->plan, it, true, put_place, &p, err));
        }
    }
    return ST_OK;
}

static Status check_written(const SaveOut *s, int layer, Error *err)
{
    for (size_t i = 0; i < s->walk.n; i++) {
        const SaveItem *it = &s->walk.items[i];
        if (it->layer == layer && it->kind == SI_LINEAR && s->plan->level[it->linear] > 0
            && !(s->state[it->linear] & SAVE_WRITTEN))
            return error_set(err, ST_INTERNAL, "'%s' was not handed over", it->name);
    }
    return ST_OK;
}

static Status out_keep(void *self, int layer, const void *data, size_t n, Error *err)
{
    SaveOut *s = self;
    return dist_leads(s->plan->dist) ? store_keep(&s->store, layer, data, n, err) : ST_OK;
}

static Status out_found(void *self, int layer, void **data, size_t *n, Error *err)
{
    return store_kept(&((SaveOut *)self)->store, layer, data, n, err);
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

static Status record_layer(SaveOut *s, int layer, Error *err)
{
    Str rec = {0};
    str_printf(&rec, "{\"layer\":%d", layer);
    put_flags(s, layer, "float", SAVE_KEPT_FLOAT, &rec);
    put_flags(s, layer, "nozero", SAVE_NO_ZERO, &rec);
    str_putc(&rec, '}');
    Status st = rec.oom ? error_nomem(err, "the progress record") : journal_append(s->journal, rec.s, true, err);
    str_free(&rec);
    return st;
}

static Status out_layer_done(void *self, int layer, Error *err)
{
    SaveOut *s = self;
    const bool leads = dist_leads(s->plan->dist);
    if (layer < s->layers_done)
        return ST_OK;
    if (layer != s->layers_done || layer >= model_depth(s->plan->model))
        return error_set(err, ST_INTERNAL, "layer %d ended where layer %d was expected", layer, s->layers_done);
    if (leads)
        RETURN_IF_ERROR(save_check_given(s, layer, err));
    RETURN_IF_ERROR(copy_floats(s, layer, err));
    RETURN_IF_ERROR(store_sync(&s->store, err));
    if (dist_size(s->plan->dist) > 1)
        RETURN_IF_ERROR(saveout_gather(s, layer, err));
    RETURN_IF_ERROR(check_written(s, layer, err));
    if (leads)
        RETURN_IF_ERROR(record_layer(s, layer, err));
    s->layers_done++;
    return ST_OK;
}

Status saveout_seal(SaveOut *s, Error *err)
{
    RETURN_IF_ERROR(saveout_list(s, err));
    RETURN_IF_ERROR(store_make_ready(&s->store, err));
    s->is_ready = true;
    return ST_OK;
}

Status saveout_install(SaveOut *s, Error *err)
{
    if (!s->forced)
        RETURN_IF_ERROR(saveout_check_appeared(s, err));
    RETURN_IF_ERROR(store_install(&s->store, err));
    s->finished = true;
    return ST_OK;
}

static Status make_ready(SaveOut *s, Error *err)
{
    if (!s->packed) { /* a repack removes files that it has taken over */
        RETURN_IF_ERROR(copy_floats(s, -1, err));
        RETURN_IF_ERROR(store_sync(&s->store, err));
    }
    RETURN_IF_ERROR(dist_meet(s->plan->dist, err));
    if (!dist_leads(s->plan->dist)) {
        s->is_ready = true; /* as far as this rank goes */
        return ST_OK;
    }
    store_drop_fd(&s->store); /* what others wrote is seen by who opens it behind them */
    if (s->changed)
        RETURN_IF_ERROR(saveout_repack(s, err));
    return saveout_seal(s, err);
}

static Status out_ready(void *self, Error *err)
{
    SaveOut *s = self;
    if (s->layers_done != model_depth(s->plan->model))
        return error_set(err, ST_INTERNAL, "%d of %d layers were written", s->layers_done, model_depth(s->plan->model));
    if (s->is_ready || s->finished)
        return ST_OK;
    Status st = make_ready(s, err);
    return st == ST_OK ? st : store_nothing_replaced(s->store.dir, st, err);
}

static Status out_finish(void *self, Error *err)
{
    SaveOut *s = self;
    RETURN_IF_ERROR(out_ready(s, err));
    return s->finished || !dist_leads(s->plan->dist) ? ST_OK : saveout_install(s, err);
}

const SaverOps saveout_ops = {
    .check = saveout_check,
    .files = saveout_files,
    .open = out_open,
    .linear = out_linear,
    .keep_float = out_keep_float,
    .cache = out_cache,
    .tensor = save_out_tensor,
    .keep = out_keep,
    .found = out_found,
    .layer_done = out_layer_done,
    .stopped = out_stopped,
    .ready = out_ready,
    .finish = out_finish,
    .close = out_close,
};
