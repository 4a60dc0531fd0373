/* A tuning plan, a job after the other. */
#include "session/autotuning.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/file.h"
#include "session/aside.h"
#include "session/entries.h"
#include "session/fields.h"
#include "session/notes.h"
#include "session/parts.h"
#include "session/practices.h"
#include "session/queue.h"
#include "session/sizes.h"
#include "session/start.h"
#include "tune/trials.h"

void autotune_clear(Autotune *t)
{
    loop_free(t->loop);
    plan_free(t->plan);
    recipe_free(t->recipe);
    arena_free(&t->arena);
    free(t->plan_path);
    free(t->save_path);
    free(t->model_type);
    free(t->practices);
    *t = (Autotune){0};
}

static void say(Autotune *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(Autotune *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->text, sizeof t->text, fmt, ap);
    va_end(ap);
}

/* What was tried so far, as files; one that can't be written is told, and nothing more. */
static void report(Session *s)
{
    const Autotune *t = s->autotune;
    AutotuneView v;
    LoopStep now = {.kind = t->doing, .best = loop_best(t->loop)};
    Error err = {0};
    if (!dist_leads(s->opt.dist))
        return;
    Status st = t->state == AUTOTUNE_ENDED && t->doing == LOOP_DONE ? loop_next(t->loop, &now, &err) : ST_OK;
    const TrialsAbout about = {.model = s->model->path, .seconds = (double)(clock_ns() - t->began) * 1e-9};
    if (st == ST_OK)
        st = trials_write(t->loop, &now, &about, &err);
    if (st == ST_OK && s->opt.plan_report && session_autotuning(s, &v))
        st = s->opt.plan_report(&v, &err);
    if (st != ST_OK)
        session_log(s, 1, "a report of the plan was not written: %s", err.text);
}

static void finish(Session *s, AutotuneState state, Status st)
{
    Autotune *t = s->autotune;
    t->state = state;
    t->status = st;
    t->job = 0;
    if (t->loop)
        report(s);
    entry_autotune_end(s, state == AUTOTUNE_STOPPED);
    session_log(s, st == ST_OK ? 0 : st == ST_CANCELLED ? 1 : 2, "tune %s: %s", path_base(t->plan_path), t->text);
}

static void loop_log(void *ctx, int level, const char *text)
{
    session_log(ctx, level, "%s", text);
}

/* Rank 0's: what comes next depends on it. */
static int64_t wall_clock(void *ctx)
{
    const Session *s = ctx;
    int64_t now = dist_leads(s->opt.dist) ? (int64_t)time(NULL) : INT64_MAX;
    return dist_least(s->opt.dist, &now, NULL) == ST_OK ? now : (int64_t)time(NULL); /* where that fails, all that comes does */
}

/* ---- rankings ---- */

static const MetricScope scope_of[] = {[RANK_BLOCKS] = SCOPE_BLOCK, [RANK_GROUPS] = SCOPE_GROUP, [RANK_LINEARS] = SCOPE_LINEAR};

static Status ranking_metric(const RankWish *w, const Metric **out, Error *err)
{
    *out = metric_find(w->metric);
    if (!*out)
        return error_set(err, ST_USAGE, "metric '%s' is not in this build", w->metric);
    const MetricScope own = (*out)->scope; /* a finer one adds up */
    if ((*out)->score || (own != scope_of[w->scope] && own != SCOPE_GROUP && own != SCOPE_LINEAR))
        return error_set(err, ST_USAGE, "metric '%s' gives no values of %ss: a plan's ranking can't be by it", w->metric,
                         rank_scope_names[w->scope]);
    return ST_OK;
}

/* More bytes when the unit is in float than by the recipe, -1: nothing of it is quantized. */
static int64_t unit_bytes(const Session *s, MetricScope scope, int64_t unit)
{
    const Model *m = s->model;
    int64_t from, to, sum = 0;
    bool any = false;
    scope_linears(m, scope, unit, &from, &to);
    for (int64_t i = from; i < to; i++) {
        int level = s->assignment->level[i];
        if (scope_unit_of(m, scope, i) != unit || level == 0)
            continue;
        any = true;
        sum += (int64_t)recipe_linear_bytes(s->recipe, m, i, 0, s->opt.peer) -
               (int64_t)recipe_linear_bytes(s->recipe, m, i, level, s->opt.peer);
    }
    return any ? sum : -1;
}

/* Patterns that take exactly the unit out. */
static Status unit_patterns(const Model *m, MetricScope scope, int64_t unit, Arena *a, RankRow *row, Error *err)
{
    Str text = {0};
    const char **list = NULL;
    size_t cap = 0;
    Status st = ST_OK;
    for (int32_t k = 0; st == ST_OK && scope_unit_pattern(m, scope, unit, k, &text); k++) {
        char *one = arena_strdup(a, str_text(&text));
        if (!one || !mem_grow(&list, &cap, (size_t)row->npatterns + 1, sizeof *list))
            st = error_nomem(err, "a ranking");
        else
            list[row->npatterns++] = one;
    }
    row->patterns = st == ST_OK ? arena_alloc(a, (size_t)row->npatterns * sizeof *list + 1) : NULL;
    if (st == ST_OK && !row->patterns)
        st = error_nomem(err, "a ranking");
    if (st == ST_OK && row->npatterns)
        memcpy((void *)row->patterns, list, (size_t)row->npatterns * sizeof *list);
    free(list);
    str_free(&text);
    return st;
}

/* Of the metric's own units: their sum over those that have linears in the unit; NaN where one is missing. mark[metric's
 * units] tells which were counted: by this unit. */
static double unit_score(const Model *m, const Job *j, MetricScope scope, int64_t unit, int64_t *mark)
{
    int64_t from, to;
    double sum = 0;
    bool any = false;
    scope_linears(m, scope, unit, &from, &to);
    for (int64_t i = from; i < to; i++) {
        int64_t of = scope_unit_of(m, scope, i) == unit ? scope_unit_of(m, j->metrics[0]->scope, i) : -1;
        if (of < 0 || j->found[of] < 0 || mark[of] == unit + 1)
            continue;
        mark[of] = unit + 1;
        sum += j->found[of];
        any = true;
    }
    return any ? sum : (double)NAN;
}

/* The name of a unit and its score; what takes it out. */
static Status tell_unit(Session *s, const Job *j, int64_t unit, int64_t *mark, RankRow *r, Error *err)
{
    Autotune *t = s->autotune;
    const MetricScope scope = scope_of[t->scope];
    Str name = {0};
    scope_unit_name(s->model, scope, unit, &name);
    *r = (RankRow){.name = arena_strdup(&t->arena, str_text(&name)), .score = unit_score(s->model, j, scope, unit, mark),
                   .bytes = j->found_bytes[unit]};
    Status st = !r->name || name.oom ? error_nomem(err, "a ranking") : ST_OK;
    str_free(&name);
    if (st == ST_OK && scope != SCOPE_BLOCK)
        st = unit_patterns(s->model, scope, unit, &t->arena, r, err);
    return st;
}

/* What the analysis that has ended found, as the loop wants it: of units of which something is quantized. */
static Status tell_ranking(Session *s, const Job *j, Error *err)
{
    Autotune *t = s->autotune;
    const int64_t units = scope_units(s->model, scope_of[t->scope]);
    RankRow *rows = mem_zarray((size_t)units + 1, sizeof *rows);
    int64_t *mark = mem_zarray((size_t)scope_units(s->model, j->metrics[0]->scope) + 1, sizeof *mark);
    int64_t n = 0;
    Status st = rows && mark ? ST_OK : error_nomem(err, "a ranking");
    arena_free(&t->arena);
    for (int64_t u = 0; st == ST_OK && u < units; u++)
        if (j->found_bytes[u] >= 0)
            st = tell_unit(s, j, u, mark, &rows[n++], err);
    if (st == ST_OK)
        st = loop_ranked(t->loop, rows, n, err);
    free(rows);
    free(mark);
    return st;
}

/* An analysis of the session as it is put aside. */
static Status rank_job(Session *s, const RankWish *w, const Metric *m, Job **out, Error *err)
{
    Job *j;
    const bool all = w->nmodules == 0 || (w->nmodules == 1 && strcmp(w->modules[0], "*") == 0);
    RETURN_IF_ERROR(start_aside(s, m, all ? NULL : w->modules, all ? 0 : w->nmodules, &j, err));
    const int64_t found = scope_units(s->model, m->scope), units = scope_units(s->model, scope_of[w->scope]);
    j->found = mem_array((size_t)found + 1, sizeof *j->found);
    j->found_bytes = mem_array((size_t)units + 1, sizeof *j->found_bytes);
    if (!j->found || !j->found_bytes) {
        job_free(j);
        return error_nomem(err, "a job");
    }
    for (int64_t u = 0; u < found; u++)
        j->found[u] = NAN;
    for (int64_t u = 0; u < units; u++)
        j->found_bytes[u] = unit_bytes(s, scope_of[w->scope], u);
    s->autotune->scope = w->scope;
    *out = j;
    return ST_OK;
}

static char *set_path(Session *s, const char *dataset, Error *err)
{
    if (s->calib_path) /* a set that was chosen by hand is taken for all */
        return strdup(s->calib_path);
    return data_find(s, dataset, err);
}

static Status start_ranking(Session *s, const RankWish *w, Job **out, Error *err)
{
    Recipe *r = NULL;
    const Metric *m;
    Aside a;
    RETURN_IF_ERROR(ranking_metric(w, &m, err));
    if (w->recipe)
        RETURN_IF_ERROR(recipe_parse(&r, &recipe_rows, w->recipe, strlen(w->recipe), "plan", NULL, err));
    else
        RETURN_IF_ERROR(recipe_default(&r, &recipe_rows, err));
    char *calib = set_path(s, w->dataset, err);
    Status st = !calib ? (err->status != ST_OK ? err->status : error_nomem(err, "a path"))
                       : aside_begin(s, r, calib, w->recipe ? "" : "peer", &a, err);
    if (st == ST_OK) {
        st = rank_job(s, w, m, out, err);
        aside_end(s, &a);
    }
    free(calib);
    recipe_free(r);
    return st;
}

/* ---- tries ---- */

static Status trial_recipe(const LoopTrial *trial, Recipe **out, Error *err)
{
    char name[160];
    snprintf(name, sizeof name, "%.140s.yaml", trial->practice->id);
    return recipe_parse(out, &recipe_rows, trial->practice->text, trial->practice->len, name, NULL, err);
}

/* Sizes of the recipe that the session has put aside. */
static void take_sizes(Session *s, LoopMade *made)
{
    SizeReport size;
    sizes_of(s, s->recipe, s->assignment->level, &size);
    *made = (LoopMade){.bytes = size.bytes, .float_bytes = size.float_bytes, .linears = size.quantized + size.floats,
                       .floats = size.floats};
}

/* A quantization or an evaluation of a trial, as the session is put aside. */
static Status trial_job(Session *s, const LoopStep *step, Job **out, Error *err)
{
    Autotune *t = s->autotune;
    const LoopTrial *trial = &step->trial;
    *out = NULL;
    if (step->kind == LOOP_QUANTIZE) {
        take_sizes(s, &t->made);
        const QuantizeOptions o = {.save_path = trial->folder, .force = true};
        return step->write ? start_quantization(s, &o, out, err) : ST_OK;
    }
    const EvaluatorType *type = plan_evaluator(t->plan);
    EvaluateJob e = {.type = type, .settings = plan_evaluator_settings(t->plan), .number = trial->number,
                     .folder = type->folder ? trial->folder : NULL, .work_dir = t->save_path, .id = trial->practice->id};
    e.expect = plan_demand(t->plan, &e.nexpect);
    return start_evaluation(s, &e, out, err);
}

static Status start_trial(Session *s, const LoopStep *step, Job **out, Error *err)
{
    Autotune *t = s->autotune;
    Aside a;
    recipe_free(t->recipe);
    t->recipe = NULL;
    RETURN_IF_ERROR(trial_recipe(&step->trial, &t->recipe, err));
    char *calib = set_path(s, recipe_dataset(t->recipe), err);
    Status st = !calib ? (err->status != ST_OK ? err->status : error_nomem(err, "a path"))
                       : aside_begin(s, t->recipe, calib, "", &a, err);
    if (st == ST_OK) {
        st = trial_job(s, step, out, err);
        aside_end(s, &a);
    }
    free(calib);
    return st;
}

/* The folder of the best try in place of the one before. */
static Status keep_folder(const Session *s, const LoopStep *step, Error *err)
{
    if (!dist_leads(s->opt.dist))
        return ST_OK;
    if (dir_exists(step->kept))
        RETURN_IF_ERROR(dir_remove(step->kept, err));
    if (rename(step->trial.folder, step->kept) != 0)
        return file_error(err, "rename", step->trial.folder, errno);
    file_sync_name(step->kept);
    return ST_OK;
}

/* ---- what comes next ---- */

static const char *const doing_words[] = {[LOOP_RANK] = "ranks", [LOOP_QUANTIZE] = "quantizes", [LOOP_EVALUATE] = "evaluates"};

/* "plan.yaml: try 3, best w8a8_1: evaluates" */
static void name_job(const Autotune *t, const LoopStep *step, Job *j)
{
    char best[80] = "";
    int b = loop_best(t->loop);
    if (b >= 0)
        snprintf(best, sizeof best, ", best %.40s", loop_try(t->loop, b)->practice->id);
    if (step->kind == LOOP_RANK)
        snprintf(j->title, sizeof j->title, "%.40s: %s by %.20s", path_base(t->plan_path), doing_words[LOOP_RANK],
                 step->wish->metric);
    else
        snprintf(j->title, sizeof j->title, "%.24s: try %d%.28s: %s", path_base(t->plan_path), step->trial.number, best,
                 doing_words[step->kind]);
}

/* Among those that quant looks through. */
static void keep_practice(Session *s, const LoopStep *step)
{
    const Autotune *t = s->autotune;
    Str path = {0};
    Error why = {0};
    if (practice_keep(s->model, t->model_type, t->practices, step->final_id, step->final, step->final_len, &path, &why) == ST_OK)
        session_log(s, 0, "practice %s: %s", step->final_id, str_text(&path));
    else
        session_log(s, 1, "not kept among the practices: %s; it lies in '%s'", why.text, t->save_path);
    str_free(&path);
}

static void ended(Session *s, const LoopStep *step)
{
    if (step->final && s->autotune->practices && dist_leads(s->opt.dist))
        keep_practice(s, step);

    Autotune *t = s->autotune;
    t->end = step->end;
    snprintf(t->id, sizeof t->id, "%s", step->final_id ? step->final_id : "");
    say(t, "%s: %s", loop_end_word(step->end), step->text);
    finish(s, AUTOTUNE_ENDED, step->status);
}

static Status start_step(Session *s, const LoopStep *step, Error *err)
{
    Autotune *t = s->autotune;
    Job *j = NULL;
    RETURN_IF_ERROR(step->kind == LOOP_RANK ? start_ranking(s, step->wish, &j, err)
                                            : start_trial(s, step, &j, err));
    if (!j)
        return loop_quantized(t->loop, &t->made, err);
    name_job(t, step, j);
    say(t, "%s", strchr(j->title, ':') + 2);
    j->row->own = j->view->plan = true;
    RETURN_IF_ERROR(job_enqueue(s, j, err));
    t->job = t->last = s->queue->next_job;
    return ST_OK;
}

/* Up to the next job, or the end. */
static Status advance(Session *s, Error *err)
{
    Autotune *t = s->autotune;
    while (t->state == AUTOTUNE_RUNS && !t->job) {
        LoopStep step;
        RETURN_IF_ERROR(loop_next(t->loop, &step, err));
        t->doing = step.kind;
        Status st = ST_OK;
        if (step.kind == LOOP_DONE)
            ended(s, &step);
        else if (step.kind == LOOP_KEEP)
            st = keep_folder(s, &step, err) != ST_OK ? err->status : loop_kept(t->loop, err);
        else
            st = start_step(s, &step, err);
        if (st != ST_OK && step.kind == LOOP_QUANTIZE && st != ST_NOMEM) { /* the recipe can't be run: the loop ends with it */
            const LoopMade made = {.st = st, .why = err->text};
            st = loop_quantized(t->loop, &made, err);
        }
        RETURN_IF_ERROR(st);
    }
    return ST_OK;
}

/* advance, of which an error is the end. */
static Status go_on(Session *s, Error *err)
{
    Autotune *t = s->autotune;
    Error own = {0};
    Status st = advance(s, &own);
    if (st == ST_OK)
        return ST_OK;
    say(t, "%s", own.text);
    t->end = LOOP_FAILED;
    finish(s, AUTOTUNE_ENDED, st);
    return error_set(err, st, "%s", own.text);
}

void autotune_take(Session *s, const Job *j, Status st)
{
    Autotune *t = s->autotune;
    Error err = {0};
    if (t->state != AUTOTUNE_RUNS || t->job != j->view->id || st == ST_CANCELLED)
        return;
    Status told = ST_OK;
    if (t->doing == LOOP_QUANTIZE) {
        t->made.st = st;
        t->made.why = st == ST_OK ? "" : j->error.text;
        t->made.seconds = j->view->elapsed;
        told = loop_quantized(t->loop, &t->made, &err);
    } else if (st != ST_OK) {
        told = error_set(&err, st, "%s", j->error.text);
    } else {
        told = t->doing == LOOP_RANK ? tell_ranking(s, j, &err) : loop_evaluated(t->loop, &j->evaluate.result, &err);
    }
    if (told == ST_OK) {
        if (t->doing == LOOP_EVALUATE)
            report(s);
        return;
    }
    say(t, "%s", err.text);
    t->end = LOOP_FAILED;
    finish(s, AUTOTUNE_ENDED, told);
}

void autotune_ended(Session *s, int job, Status st)
{
    Autotune *t = s->autotune;
    if (t->state != AUTOTUNE_RUNS || t->job != job)
        return;
    t->job = 0;
    if (st == ST_CANCELLED) {
        say(t, "stopped; the same plan and folder go on from here");
        finish(s, AUTOTUNE_STOPPED, ST_CANCELLED);
        return;
    }
    go_on(s, NULL);
}

/* ---- begin ---- */

/* Contents of the calibration sets that a plan names anywhere under `strategy`. */
static Status hash_sets(Session *s, const YamlNode *at, Hasher *h, Error *err)
{
    for (int i = 0; at->kind == YAML_SEQ && i < at->count; i++)
        RETURN_IF_ERROR(hash_sets(s, at->items[i], h, err));
    for (int i = 0; at->kind == YAML_MAP && i < at->count; i++) {
        const YamlNode *k = at->keys[i], *v = at->vals[i];
        char print[65];
        bool set = v->kind == YAML_STR && (strcmp(k->text, "dataset") == 0 || strcmp(k->text, "analysis_dataset") == 0);
        RETURN_IF_ERROR(hash_sets(s, v, h, err));
        char *path = set ? data_find(s, v->text, err) : NULL;
        if (set && !path)
            return err->status;
        Status st = set ? data_print(path, print, err) : ST_OK;
        free(path);
        RETURN_IF_ERROR(st);
        if (set)
            hasher_str(h, print);
    }
    return ST_OK;
}

static Status data_id(Session *s, const Plan *p, char out[65], Error *err)
{
    Hasher h;
    hasher_init(&h);
    if (s->calib_path) {
        hasher_str(&h, s->calib_print);
    } else {
        char print[65], *path = data_find(s, "mix_calib.jsonl", err);
        Status st = path ? data_print(path, print, err) : err->status;
        free(path);
        RETURN_IF_ERROR(st);
        hasher_str(&h, print);
        RETURN_IF_ERROR(hash_sets(s, plan_strategy_map(p), &h, err));
    }
    hasher_u64(&h, (uint64_t)s->opt.max_samples);
    hasher_u64(&h, (uint64_t)s->opt.seq_len);
    const Digest d = hasher_end(&h);
    digest_hex(&d, out);
    return ST_OK;
}

static Status open_plan(Session *s, Error *err)
{
    Autotune *t = s->autotune;
    Str all = {0};
    Status st = plan_open(&t->plan, &plan_rows, t->plan_path, s->opt.peer, &all, err);
    if (st != ST_OK)
        notes_lines(s, 2, &all);
    str_free(&all);
    return st;
}

static Status open_loop(Session *s, Error *err)
{
    Autotune *t = s->autotune;
    char data[65];
    Error none = {0};
    RETURN_IF_ERROR(data_id(s, t->plan, data, err));
    char *table = data_find(s, "lab_practice/experience.yaml", &none);
    const LoopOptions o = {.plan = t->plan, .rows = &plan_rows, .save_path = t->save_path, .peer = s->opt.peer,
                           .timeout = t->timeout, .model = s->model,
                           .model_type = t->model_type ? t->model_type : s->model->cfg.model_type,
                           .dist = s->opt.dist, .model_id = s->model->fingerprint, .data_id = data, .experience = table, .now = wall_clock,
                           .log = loop_log, .ctx = s};
    Status st = loop_open(&t->loop, &o, err);
    free(table);
    return st;
}

/* Stands for the person while it is only looked whether there is one. */
static bool no_answer(void *ctx, const char *question, char *line, size_t size)
{
    (void)ctx;
    (void)question;
    (void)line;
    (void)size;
    return false;
}

/* Whether the evaluator finds what it needs. */
static Status ready(Session *s, Error *err)
{
    Autotune *t = s->autotune;
    int n;
    const EvaluatorType *e = plan_evaluator(t->plan);
    if (!e->ranks && !dist_leads(s->opt.dist))
        return ST_OK;
    const Expectation *demand = plan_demand(t->plan, &n);
    const EvalKit kit = {.model = s->model, .model_path = s->model->path, .arith = s->opt.arith, .peer = s->opt.peer,
                         .work_dir = t->save_path, .log = loop_log, .ask = s->opt.asks ? no_answer : NULL, .ctx = s};
    return e->ready ? e->ready(plan_evaluator_settings(t->plan), demand, n, &kit, err) : ST_OK;
}

static Status begin(Session *s, Error *err)
{
    Autotune *t = s->autotune;
    RETURN_IF_ERROR(open_plan(s, err));
    RETURN_IF_ERROR(ready(s, err));
    RETURN_IF_ERROR(open_loop(s, err));
    t->state = AUTOTUNE_RUNS;
    t->began = clock_ns();
    entry_autotune(s);
    return go_on(s, err);
}

Status session_autotune(Session *s, const AutotuneOptions *o, Error *err)
{
    Autotune *t = s->autotune;
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    if (t->state == AUTOTUNE_RUNS)
        return error_set(err, ST_USAGE, "%s is being tuned: cancel stops it", path_base(t->plan_path));
    if (s->opt.read_only)
        return error_set(err, ST_USAGE, "opened with --read-only: nothing is written");
    autotune_clear(t);
    t->plan_path = realpath(o->plan, NULL);
    t->save_path = path_absolute(o->save_path);
    t->model_type = o->model_type ? strdup(o->model_type) : NULL;
    t->practices = o->practices ? path_absolute(o->practices) : NULL;
    t->timeout = o->timeout;
    Status st = ST_OK;
    if (!t->plan_path)
        st = file_error(err, "open", o->plan, errno);
    else if (!t->save_path || (o->model_type && !t->model_type) || (o->practices && !t->practices))
        st = error_nomem(err, "a plan");
    if (st == ST_OK)
        st = begin(s, err);
    if (st != ST_OK && t->state == AUTOTUNE_NONE)
        autotune_clear(t);
    return st;
}

Status session_autotune_again(Session *s, Error *err)
{
    Autotune *t = s->autotune;
    if (t->state != AUTOTUNE_STOPPED || !s->model)
        return error_set(err, ST_USAGE, "no plan was stopped");
    Autotune was = *t;
    *t = (Autotune){0};
    const AutotuneOptions o = {.plan = was.plan_path, .save_path = was.save_path, .model_type = was.model_type,
                               .timeout = was.timeout, .practices = was.practices};
    Status st = session_autotune(s, &o, err);
    if (st == ST_OK || t->state != AUTOTUNE_NONE) {
        autotune_clear(&was);
    } else {
        autotune_clear(t);
        *t = was; /* stopped, as it was */
    }
    return st;
}

bool session_autotuning(const Session *s, AutotuneView *out)
{
    const Autotune *t = s->autotune;
    if (t->state == AUTOTUNE_NONE)
        return false;
    *out = (AutotuneView){.state = t->state, .plan = t->plan_path, .save_path = t->save_path,
                          .strategy = t->plan ? plan_strategy(t->plan)->name : "",
                          .evaluator = t->plan ? plan_evaluator(t->plan)->name : "", .text = t->text, .loop = t->loop,
                          .end = t->end, .status = t->status, .id = t->id[0] ? t->id : NULL,
                          .seconds = (double)(clock_ns() - t->began) * 1e-9};
    return true;
}

/* ---- the journal ---- */

Status autotune_restore(Session *s, const cJSON *record, Error *err)
{
    Autotune *t = s->autotune;
    const char *plan = text_of(record, "plan"), *save = text_of(record, "save_path"), *type = text_of(record, "model_type");
    const char *practices = text_of(record, "practices");
    autotune_clear(t);
    if (!plan || !save)
        return error_set(err, ST_DATA, "the record of a tuning plan is damaged");
    t->plan_path = strdup(plan);
    t->save_path = strdup(save);
    t->model_type = type ? strdup(type) : NULL;
    t->practices = practices ? strdup(practices) : NULL;
    t->timeout = num_of(record, "timeout", 0);
    if (!t->plan_path || !t->save_path || (type && !t->model_type) || (practices && !t->practices))
        return error_nomem(err, "a plan");
    t->state = AUTOTUNE_STOPPED;
    t->status = ST_CANCELLED;
    say(t, "stopped; resume goes on");
    return ST_OK;
}

Status autotune_restore_end(Session *s, const cJSON *record, Error *err)
{
    (void)err;
    if (!cJSON_IsTrue(json_get(record, "stopped")))
        autotune_clear(s->autotune);
    return ST_OK;
}
