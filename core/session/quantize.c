/* Writing the quantized model: what a run would do, its checks, and the job. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dist/dist.h"
#include "io/file.h"
#include "process/dynamic_cache.h"
#include "process/pipeline.h"
#include "quant/quantizer.h"
#include "save/debug_saver.h"
#include "save/practice_yaml.h"
#include "session/assignment.h"
#include "session/entries.h"
#include "session/notes.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/engine.h"
#include "session/start.h"

void quantize_job_fini(QuantizeJob *q)
{
    free(q->dir);
    free(q->model_type);
    free(q->text);
    free(q->cache_layer);
    save_changes_free(q->changes);
    str_free(&q->recipe_text);
    recipe_free(q->recipe);
    memset(q, 0, sizeof *q);
}

void quantize_done_free(QuantizeDone *d)
{
    for (int i = 0; d && i < d->nverified; i++)
        verify_free(&d->verify[i]);
    free(d);
}

void quantize_outline_fini(QuantizeOutline *o)
{
    for (int i = 0; i < o->nsavers; i++)
        free(o->saver[i].files);
    save_target_fini(&o->target);
    memset(o, 0, sizeof *o);
}

static void warn(void *ctx, const char *text)
{
    session_log(ctx, 1, "%s", text);
}

/* Whether the recipe selects exactly the job's levels. */
static Status selects(const Recipe *r, const Model *m, const int16_t *level, bool *same, Error *err)
{
    int16_t *own = mem_zarray((size_t)m->nlinears, sizeof *own);
    Status st = own ? recipe_assign(r, m, own, err) : error_nomem(err, "the assignment");
    *same = st == ST_OK && memcmp(own, level, (size_t)m->nlinears * sizeof *own) == 0;
    free(own);
    return st;
}

/* Takes over text when it is a recipe that selects the session's levels; *same tells. */
static Status try_recipe(Session *s, QuantizeJob *q, char *text, size_t len, bool *same, Error *err)
{
    *same = false;
    Status st = recipe_parse(&q->recipe, &recipe_rows, text, len, recipe_name(s->recipe), NULL, err);
    if (st == ST_OK)
        st = selects(q->recipe, s->model, s->assignment->level, same, err);
    if (*same) {
        q->text = text;
        q->len = len;
        return ST_OK;
    }
    recipe_free(q->recipe);
    q->recipe = NULL;
    free(text);
    return st;
}

/* The job's recipe: the document as it was opened when nothing was edited since, else as export would write it. */
static Status own_recipe(Session *s, QuantizeJob *q, Error *err)
{
    const char *path = recipe_path(s->recipe);
    char *text;
    size_t len;
    bool same = false;
    const Assignment *a = s->assignment;
    if (path && memcmp(a->level, a->opened, (size_t)s->model->nlinears * sizeof *a->level) == 0) {
        RETURN_IF_ERROR(file_read(path, 1u << 20, &text, &len, err));
        RETURN_IF_ERROR(try_recipe(s, q, text, len, &same, err));
        if (same)
            return ST_OK; /* else the file was changed meanwhile */
    }
    Export e;
    RETURN_IF_ERROR(session_export_preview(s, NULL, NULL, &e, err));
    text = e.text.s;
    len = e.text.len;
    e.text = (Str){0};
    export_fini(&e);
    RETURN_IF_ERROR(try_recipe(s, q, text, len, &same, err));
    if (!same)
        return error_set(err, ST_DATA, "the assignment can't be written as a recipe: 'export --preview' says why");
    return ST_OK;
}

static Status check_recipe(Session *s, const Recipe *r, Error *err)
{
    Str why = {0};
    Status st = ST_OK;
    if (!recipe_can_run(r, &why)) {
        const char *end = strchr(str_text(&why), '\n');
        int n = end ? (int)(end - str_text(&why)) : (int)why.len;
        st = error_set(err, ST_DATA, "%.*s", n, str_text(&why));
        if (end && end[1])
            notes_lines(s, 2, &why);
    }
    str_free(&why);
    return st;
}

static Status pick_savers(Session *s, QuantizeJob *q, Error *err)
{
    int n = recipe_savers(q->recipe);
    if (n > QUANTIZE_SAVERS_MAX)
        return error_set(err, ST_DATA, "%d savers in spec.save: at most %d can run at once", n, QUANTIZE_SAVERS_MAX);
    for (int i = 0; i < n; i++) {
        const RecipeSaver *rs = recipe_saver(q->recipe, i);
        q->saver[i] = saver_find(rs->type);
        if (!q->saver[i])
            return error_set(err, ST_DATA, "line %d: saver '%s' is not in this build", rs->line, rs->type);
        for (int k = 0; k < i; k++)
            if (q->saver[k] == q->saver[i])
                return error_set(err, ST_DATA, "line %d: saver '%s' is named twice: both would write the same files",
                                 rs->line, rs->type);
        q->plan[i].part_file_size = rs->part_file_size;
    }
    q->nsavers = n;
    if (n == 0) {
        session_log(s, 1, "%s names no saver (spec.save): ascendv1_saver is used", recipe_name(q->recipe));
        q->saver[0] = saver_find("ascendv1_saver");
        q->plan[0].part_file_size = 4;
        q->nsavers = 1;
    }
    if (q->debug)
        q->saver[q->nsavers++] = &saver_debug_info;
    return ST_OK;
}

/* Fills in what processors give beside the linears, as the run will. */
static Status promise(const Session *s, Job *j, Error *err)
{
    QuantizeJob *q = &j->quantize;
    const Work work = {.recipe = q->recipe, .levels = j->levels, .nlevels = j->nlevels, .level = j->level,
                       .peer = j->opt.peer};
    Pipeline *p;
    RETURN_IF_ERROR(pipeline_new(&p, s->model, &work, err));
    Status st = save_changes_new(&q->changes, s->model, err);
    for (int i = 0; i < q->nsavers && st == ST_OK; i++) {
        q->plan[i].changes = q->changes;
        st = pipeline_promise(p, q->plan[i].cache_dtype, &q->plan[i], err);
    }
    pipeline_free(p);
    return st;
}

/* Fills in the plans and asks every saver whether it can write them. */
static Status check_savers(Session *s, Job *j, Error *err)
{
    QuantizeJob *q = &j->quantize;
    DType T = arith_dtype(j->opt.arith, s->model->cfg.dtype);
    for (int i = 0; i < q->nsavers; i++) {
        double size = q->plan[i].part_file_size;
        q->plan[i] = (SavePlan){.model = s->model, .dir = q->dir, .model_type = q->model_type, .part_file_size = size,
                                .levels = j->levels, .nlevels = j->nlevels, .level = j->level,
                                .cache_layer = q->cache_layer, .peer = j->opt.peer, .arith = arith_name(j->opt.arith),
                                .cache_dtype = T, .warn = warn,
                                .warn_ctx = s,
                                .extra = i == 0 ? &q->recipe_out : NULL, .force = q->force,
                                .force_word = q->force_word};
    }
    RETURN_IF_ERROR(promise(s, j, err));
    for (int i = 0; i < q->nsavers; i++)
        RETURN_IF_ERROR(q->saver[i]->ops->check(q->saver[i], &q->plan[i], err));
    return ST_OK;
}

/* The recipe as it goes along with the weights. */
static Status make_recipe_out(QuantizeJob *q, Error *err)
{
    practice_yaml_name(q->model_type, q->recipe_file);
    RETURN_IF_ERROR(practice_yaml(q->text, q->len, recipe_name(q->recipe), &q->recipe_text, err));
    q->recipe_out = (SaveExtra){q->recipe_file, str_text(&q->recipe_text), q->recipe_text.len};
    return ST_OK;
}

static Status check_levels(const Session *s, const Recipe *r, Error *err)
{
    for (int64_t i = 0; i < s->model->nlinears; i++) {
        int level = s->assignment->level[i];
        if (level == 0 || qconfig_runnable(&recipe_entry(r, level - 1)->q))
            continue;
        char text[96];
        qconfig_describe(&recipe_entry(r, level - 1)->q, text, sizeof text);
        return error_set(err, ST_DATA, "'%s': %s can't be quantized by this build", s->model->linears[i].name, text);
    }
    return ST_OK;
}

/* Whether the recipe, which selects the session's levels, can be quantized at all, and whether it needs texts. tells: of what
 * its processors don't find, too, which otherwise the run does. */
static Status check_work(Session *s, QuantizeJob *q, bool tells, Error *err)
{
    const Work work = {.recipe = q->recipe, .level = s->assignment->level, .peer = s->opt.peer, .tell = tells ? warn : NULL,
                       .tell_ctx = s};
    Pipeline *p;
    RETURN_IF_ERROR(pipeline_new(&p, s->model, &work, err));
    q->needs_data = pipeline_last_data(p) >= 0;
    pipeline_free(p);
    return ST_OK;
}

static Status cache_layers_of(Session *s, QuantizeJob *q, int *caches, Error *err)
{
    q->cache_layer = mem_zarray((size_t)s->model->cfg.layers, sizeof *q->cache_layer);
    if (!q->cache_layer)
        return error_nomem(err, "the plan");
    int steps;
    RETURN_IF_ERROR(cache_layers(q->recipe, s->model, q->cache_layer, &steps, err));
    *caches = 0;
    for (int l = 0; l < s->model->cfg.layers; l++)
        *caches += q->cache_layer[l];
    if (*caches == 0) {
        if (steps)
            session_log(s, 1, "dynamic_cache selects no attention of this model: no C8 is written");
        free(q->cache_layer);
        q->cache_layer = NULL;
    }
    return ST_OK;
}

/* A job of the present assignment, everything about it checked. */
static Status prepare(Session *s, const QuantizeOptions *o, bool tells, Job **out, int *caches, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    if (!o->save_path || !o->save_path[0])
        return error_set(err, ST_USAGE, "the folder to write to is missing");
    if (s->opt.read_only)
        return error_set(err, ST_USAGE, "opened with --read-only: nothing is written");
    QuantizeJob own = {.resume = o->resume, .verify = o->verify, .debug = o->debug, .force = o->force,
                       .force_word = o->force_word};
    Status st = own_recipe(s, &own, err);
    if (st == ST_OK)
        st = check_recipe(s, own.recipe, err);
    if (st == ST_OK)
        st = check_levels(s, own.recipe, err);
    if (st == ST_OK)
        st = engine_meet(s, own.recipe, err);
    if (st == ST_OK)
        st = check_work(s, &own, tells, err);
    Job *j = NULL;
    if (st == ST_OK)
        st = job_new(s, JOB_QUANTIZE, own.needs_data ? TEXTS_CALIB : 0, &j, err);
    if (st != ST_OK) {
        quantize_job_fini(&own);
        return st;
    }
    QuantizeJob *q = &j->quantize;
    *q = own;
    q->dir = strdup(o->save_path);
    q->model_type = strdup(s->model_type ? s->model_type : s->model->cfg.model_type);
    if (!q->dir || !q->model_type)
        st = error_nomem(err, "a job");
    if (st == ST_OK)
        st = job_take_levels(s, j, err);
    if (st == ST_OK)
        st = job_take_priors(s, q->recipe, j, err);
    if (st == ST_OK)
        st = cache_layers_of(s, q, caches, err);
    if (st == ST_OK)
        st = pick_savers(s, q, err);
    if (st == ST_OK)
        st = make_recipe_out(q, err);
    if (st == ST_OK)
        st = check_savers(s, j, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    *out = j;
    return ST_OK;
}

Status session_quantize_outline(Session *s, const QuantizeOptions *o, QuantizeOutline *out, Error *err)
{
    *out = (QuantizeOutline){0};
    Job *j;
    RETURN_IF_ERROR(prepare(s, o, true, &j, &out->caches, err));
    const QuantizeJob *q = &j->quantize;
    out->needs_data = q->needs_data;
    out->nattention = attention_count(q->changes, out->attention);
    Status st = ST_OK;
    for (int i = 0; i < q->nsavers && st == ST_OK; i++) {
        out->saver[i].type = q->saver[i]->type;
        out->saver[i].title = q->saver[i]->title;
        st = q->saver[i]->ops->files(q->saver[i], &q->plan[i], &out->saver[i].files, &out->saver[i].nfiles, err);
        for (int k = 0; st == ST_OK && k < out->saver[i].nfiles; k++)
            out->saver[i].bytes += out->saver[i].files[k].bytes;
        out->nsavers = i + 1;
    }
    if (st == ST_OK)
        st = save_target_look(q->saver, q->plan, q->nsavers, &out->target, err);
    job_free(j);
    if (st != ST_OK)
        quantize_outline_fini(out);
    return st;
}

Status start_quantization(Session *s, const QuantizeOptions *o, Job **out, Error *err)
{
    Job *j;
    int caches;
    RETURN_IF_ERROR(prepare(s, o, false, &j, &caches, err));
    j->view->total = model_depth(s->model);
    snprintf(j->title, sizeof j->title, "quantize: %s", path_base(o->save_path));
    snprintf(j->target, sizeof j->target, "%s", o->save_path);
    j->row->verify = j->quantize.verify;
    j->row->debug = j->quantize.debug;
    start_sort_quantization(s, j);
    *out = j;
    return ST_OK;
}

Status session_quantize(Session *s, const QuantizeOptions *o, Error *err)
{
    Job *j;
    RETURN_IF_ERROR(start_quantization(s, o, &j, err));
    const QuantizeJob *q = &j->quantize;
    bool done; /* the run tells, which has the texts: it knows all that decides the bytes, and what it goes on with */
    Status st = q->resume || !dist_leads(s->opt.dist) ? ST_OK : save_target_check(q->saver, q->plan, q->nsavers, false, &done, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    return job_enqueue(s, j, err);
}
