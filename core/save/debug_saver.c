#include "save/debug_saver.h"

#include <stdlib.h>

#include "base/mem.h"
#include "save/debug_info.h"

typedef struct DebugSaver {
    const SavePlan *plan;
    DebugInfo *info;
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
    (*out)[0] = (SaveFile){.name = "debug_info/debug_info.json"};
    (*out)[1] = (SaveFile){.name = "debug_info/debug_info.safetensors"};
    return ST_OK;
}

static Status debug_open(void **self, const SaveFormat *f, const SavePlan *plan, bool resume, int *first_layer,
                         Error *err)
{
    (void)f;
    (void)resume;
    *first_layer = model_depth(plan->model); /* what the others have need not be made again for this */
    DebugSaver *d = mem_zarray(1, sizeof *d);
    if (!d)
        return error_nomem(err, "debug_info");
    d->plan = plan;
    Status st = debug_info_new(&d->info, err);
    if (st != ST_OK) {
        free(d);
        return st;
    }
    *self = d;
    return ST_OK;
}

static Status debug_linear(void *self, const SaveLinear *l, Error *err)
{
    DebugSaver *d = self;
    return debug_info_linear(d->info, d->plan->model, l, err);
}

static Status debug_keep_float(void *self, int64_t linear, Error *err)
{
    DebugSaver *d = self;
    return debug_info_text(d->info, "float", d->plan->model->linears[linear].name, "no token reached it", err);
}

static Status debug_cache(void *self, const SaveCache *c, Error *err)
{
    (void)self;
    (void)c; /* its scales are tensors of the output */
    (void)err;
    return ST_OK;
}

static Status debug_layer_done(void *self, int layer, Error *err)
{
    (void)self;
    (void)layer;
    (void)err;
    return ST_OK;
}

static Status debug_finish(void *self, Error *err)
{
    DebugSaver *d = self;
    return debug_info_save(d->info, d->plan->dir, err);
}

static void debug_close(void *self, bool keep)
{
    DebugSaver *d = self;
    (void)keep;
    if (d)
        debug_info_free(d->info);
    free(d);
}

static const SaverOps ops = {
    .check = debug_check,
    .files = debug_files,
    .open = debug_open,
    .linear = debug_linear,
    .keep_float = debug_keep_float,
    .cache = debug_cache,
    .layer_done = debug_layer_done,
    .finish = debug_finish,
    .close = debug_close,
};

const SaveFormat saver_debug_info = {.type = "debug_info", .title = "statistics of what was quantized", .ops = &ops};
