#include "save/debug_saver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"
#include "dist/dist.h"
#include "io/file.h"
#include "save/debug_info.h"
#include "save/manifest.h"
#include "save/store.h"

#define TYPE "debug_info"
#define JSON_FILE "debug_info/debug_info.json"
#define TENSOR_FILE "debug_info/debug_info.safetensors"

typedef struct DebugSaver {
    const SavePlan *plan;
    DebugInfo *info;
    Pack mine;             /* of several ranks: this one's linears of the layer */
    Store store;
    bool is_ready, finished;
} DebugSaver;

static Status debug_check(const SaveFormat *f, const SavePlan *plan, Error *err)
{
    (void)f;
    (void)plan;
    (void)err;
    return ST_OK;
}

static Status debug_files(const SaveFormat *f, const SavePlan *plan, SaveFile **out, int *n, Error *err)
{
    (void)f;
    (void)plan;
    *n = 2;
    *out = mem_zarray(2, sizeof **out);
    if (!*out)
        return error_nomem(err, "the list of files");
    (*out)[0] = (SaveFile){.name = JSON_FILE};
    (*out)[1] = (SaveFile){.name = TENSOR_FILE};
    return ST_OK;
}

static void debug_close(void *self, bool keep)
{
    DebugSaver *d = self;
    if (!d)
        return;
    /* a part of them serves nobody; but where the others are in place and these are not, that stays to be seen */
    store_close(&d->store, keep && d->is_ready && !d->finished);
    debug_info_free(d->info);
    pack_fini(&d->mine);
    free(d);
}

static Status debug_open(void **self, const SaveFormat *f, const SavePlan *plan, bool resume, int *first_layer,
                         Error *err)
{
    (void)f;
    *self = NULL;
    (void)resume; /* nothing of a stopped run is kept: layers that the others have are computed once more for this */
    *first_layer = 0;
    DebugSaver *d = mem_zarray(1, sizeof *d);
    if (!d)
        return error_nomem(err, "debug_info");
    d->plan = plan;
    d->store = STORE_CLOSED;
    Status st = debug_info_new(&d->info, err);
    if (st == ST_OK && dist_leads(plan->dist)) /* which alone writes */
        st = store_open(&d->store, plan->dir, TYPE, plan->model->path, err);
    if (st != ST_OK) {
        debug_close(d, false);
        return st;
    }
    *self = d;
    return ST_OK;
}

/* ---- linears, of all ranks in their order ---- */

static void pack_linear(Pack *p, const DebugLinear *l)
{
    pack_put(p, l, sizeof *l); /* of its scale: whether there is one */
    if (l->scale)
        pack_put(p, l->scale, (size_t)(l->out * l->groups) * sizeof *l->scale);
}

static Status debug_linear(void *self, const SaveLinear *l, Error *err)
{
    DebugSaver *d = self;
    if (d->plan->peer) /* which records nothing of linears */
        return ST_OK;
    const DebugLinear of = debug_linear_of(l);
    if (dist_size(d->plan->dist) == 1)
        return debug_info_linear(d->info, d->plan->model, &of, err);
    pack_linear(&d->mine, &of);
    return ST_OK;
}

static Status tell_float(DebugSaver *d, int64_t linear, Error *err)
{
    return debug_info_text(d->info, "float", d->plan->model->linears[linear].name, "no token reached it", err);
}

/* Every rank knows of it. */
static Status debug_keep_float(void *self, int64_t linear, Error *err)
{
    DebugSaver *d = self;
    if (d->plan->peer || !dist_leads(d->plan->dist))
        return ST_OK;
    if (dist_size(d->plan->dist) == 1)
        return tell_float(d, linear, err);
    pack_linear(&d->mine, &(DebugLinear){.linear = linear, .out = -1});
    return ST_OK;
}

/* The next one that a rank packed; false: none is left. */
static bool next_linear(const Unpack *from, DebugLinear *l)
{
    Unpack in = *from;
    unpack_get(&in, l, sizeof *l);
    return from->at != from->end && !in.bad;
}

static Status take_linear(DebugSaver *d, Unpack *in, Error *err)
{
    DebugLinear l;
    unpack_get(in, &l, sizeof l);
    if (l.out < 0)
        return tell_float(d, l.linear, err);
    float *scale = l.scale ? unpack_array(in, l.out * l.groups, sizeof *scale) : NULL;
    if (in->bad)
        return error_nomem(err, "debug info");
    l.scale = scale;
    const Status st = debug_info_linear(d->info, d->plan->model, &l, err);
    free(scale);
    return st;
}

static Status take_linears(DebugSaver *d, const Pack *all, int n, Error *err)
{
    Unpack *in = mem_array((size_t)n, sizeof *in);
    Status st = in ? ST_OK : error_nomem(err, "debug info");
    for (int r = 0; st == ST_OK && r < n; r++)
        in[r] = unpack_of(&all[r]);
    for (int first = 0; st == ST_OK && first >= 0;) {
        int64_t least = INT64_MAX;
        DebugLinear l;
        first = -1;
        for (int r = 0; r < n; r++)
            if (next_linear(&in[r], &l) && l.linear < least) {
                least = l.linear;
                first = r;
            }
        if (first >= 0)
            st = take_linear(d, &in[first], err);
    }
    free(in);
    return st;
}

static Status debug_layer_met(void *self, int layer, Error *err)
{
    (void)layer;
    DebugSaver *d = self;
    const int n = dist_size(d->plan->dist);
    Pack *all;
    Status st = dist_gather(d->plan->dist, &d->mine, &all, err);
    pack_fini(&d->mine);
    if (st == ST_OK && all)
        st = take_linears(d, all, n, err);
    dist_packs_free(all, n);
    return st;
}

static Status debug_cache(void *self, const SaveCache *c, Error *err)
{
    (void)self;
    (void)c; /* its scales are tensors of the output */
    (void)err;
    return ST_OK;
}

static Status debug_debug(void *self, const SaveDebug *v, Error *err)
{
    DebugSaver *d = self;
    return debug_info_tensor(d->info, v, err);
}

static Status debug_layer_done(void *self, int layer, Error *err)
{
    (void)self;
    (void)layer;
    (void)err;
    return ST_OK;
}

/* The manifest, which comes first. */
static Status put_manifest(DebugSaver *d, Error *err)
{
    Manifest m = {.saver = TYPE, .model = (char *)path_base(d->plan->model->path)};
    Str text = {0};
    char name[128];
    manifest_name(TYPE, name);
    snprintf(m.fingerprint, sizeof m.fingerprint, "%s", d->plan->model->fingerprint);
    Status st = ST_OK;
    for (size_t i = 0; i < d->store.nout && st == ST_OK; i++)
        st = manifest_add(&m, d->store.out[i].to, d->store.out[i].bytes, false, err);
    if (st == ST_OK) {
        manifest_text(&m, &text);
        st = text.oom ? error_nomem(err, name) : store_put(&d->store, name, text.s, text.len, NULL, err);
    }
    if (st == ST_OK)
        store_to_front(&d->store);
    str_free(&text);
    m.saver = m.model = NULL; /* borrowed */
    manifest_fini(&m);
    return st;
}

static Status put_files(DebugSaver *d, Error *err)
{
    char from[32];
    struct stat st;
    Str json = {0};
    store_clear_list(&d->store);
    store_name("out", 0, from);
    char *path = path_join(d->store.temp, from);
    Status code = path ? debug_info_save(d->info, d->plan->peer, path, &json, err) : error_nomem(err, "a path");
    if (code == ST_OK && stat(path, &st) != 0)
        code = error_set(err, ST_IO, "'%s' is gone", path);
    if (code == ST_OK)
        code = store_add(&d->store, from, TENSOR_FILE, (uint64_t)st.st_size, err);
    if (code == ST_OK)
        code = store_put(&d->store, JSON_FILE, json.s, json.len, NULL, err);
    str_free(&json);
    free(path);
    return code;
}

static Status debug_ready(void *self, Error *err)
{
    DebugSaver *d = self;
    if (d->is_ready || !dist_leads(d->plan->dist))
        return ST_OK;
    RETURN_IF_ERROR(put_files(d, err));
    RETURN_IF_ERROR(put_manifest(d, err));
    d->is_ready = true;
    return store_make_ready(&d->store, err);
}

static Status debug_finish(void *self, Error *err)
{
    DebugSaver *d = self;
    if (!dist_leads(d->plan->dist))
        return ST_OK;
    if (!d->is_ready)
        RETURN_IF_ERROR(debug_ready(d, err));
    RETURN_IF_ERROR(store_install(&d->store, err));
    d->finished = true;
    return ST_OK;
}

static const SaverOps ops = {
    .check = debug_check,
    .files = debug_files,
    .open = debug_open,
    .linear = debug_linear,
    .keep_float = debug_keep_float,
    .cache = debug_cache,
    .debug = debug_debug,
    .layer_met = debug_layer_met,
    .layer_done = debug_layer_done,
    .ready = debug_ready,
    .finish = debug_finish,
    .close = debug_close,
};

const SaveFormat saver_debug_info = {.type = TYPE, .title = "statistics of what was quantized", .ops = &ops};
