#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/outcome.h"
#include "evaluate/stops.h"
#include "evaluate/task.h"
#include "io/file.h"
#include "io/json.h"

/* Evaluator `native`: the quantized model is asked in this process. Data sets kl, ppl and top1 are a measurement's; others are
 * files of questions (evaluate/taskfile.h), which the float model is asked once, too. */

enum { KEPT_MAX = 1 << 20 };

typedef struct Native {
    const TaskSet *set; /* [n] */
    int n;
    bool full;          /* kl, ppl and top1 over all of the evaluation set */
} Native;

/* ---- keys ---- */

/* Figures of a measurement. */
typedef struct Figure {
    const char *name;
    double (*value)(const Effect *e), (*error)(const Effect *e), (*base)(const Effect *e); /* base NULL: none */
    double (*paired)(const Effect *e); /* error against the base, over the same blocks of tokens */
} Figure;
static double kl(const Effect *e) { return e->kl_mean; }
static double kl_error(const Effect *e) { return e->kl_se; }
static double ppl(const Effect *e) { return e->ppl_quant; }
static double ppl_error(const Effect *e) { return e->ppl_quant_se; }
static double ppl_base(const Effect *e) { return e->ppl_float; }
static double ppl_paired(const Effect *e) { return e->ppl_change_se * e->ppl_float; }
static double top1(const Effect *e) { return e->top1; }
static double top1_error(const Effect *e) { return e->top1_se; }
static const Figure figures[] = {
    {"kl", kl, kl_error, NULL, NULL}, {"ppl", ppl, ppl_error, ppl_base, ppl_paired}, {"top1", top1, top1_error, NULL, NULL}, {0}};

static const Figure *figure_of(const char *dataset)
{
    for (const Figure *f = figures; f->name; f++)
        if (strcmp(f->name, dataset) == 0)
            return f;
    return NULL;
}

/* Every data set that is demanded is there, and none takes a figure's name. */
static void check_native(Check *c, const YamlNode *map)
{
    const YamlNode *sets = yaml_get(map, "datasets"), *demand = yaml_get(map, "demand");
    const YamlNode *all = demand ? yaml_get(demand, "expectations") : NULL;
    for (const Figure *f = figures; f->name; f++)
        if (sets && yaml_get(sets, f->name))
            check_fail(c, sets, "'%s' is a figure of the measurement: give the data set another name", f->name);
    for (int i = 0; all && all->kind == YAML_SEQ && i < all->count; i++) {
        const YamlNode *name = all->items[i]->kind == YAML_MAP ? yaml_get(all->items[i], "dataset") : NULL;
        if (name && name->kind == YAML_STR && !figure_of(name->text) && !(sets && yaml_get(sets, name->text)))
            check_fail(c, name, "data set '%s' is neither kl, ppl or top1 nor one of evaluation.datasets", name->text);
    }
}

static const Field native_fields[] = {
    FIELD_EVALUATION,
    {.key = "datasets", .type = F_MAP, .object = &task_set_object},
    {.key = "full", .type = F_BOOL},
    FIELD_END,
};
static const Object native_object = {.fields = native_fields, .check = check_native};

static const void *native_settings(Arena *a, const YamlNode *map)
{
    const YamlNode *sets = yaml_get(map, "datasets");
    int n = sets ? sets->count : 0;
    Native *s = arena_alloc(a, sizeof *s);
    TaskSet *set = arena_alloc(a, (size_t)(n ? n : 1) * sizeof *set);
    if (!s || !set)
        return NULL;
    bool full = false;
    if (yaml_get(map, "full"))
        lax_bool(yaml_get(map, "full"), &full);
    *s = (Native){.set = set, .n = n, .full = full};
    for (int i = 0; i < n; i++)
        if (!task_set_read(a, sets->keys[i]->text, sets->vals[i], &set[i]))
            return NULL;
    return s;
}

static const TaskSet *set_of(const Native *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->set[i].name, name) == 0)
            return &s->set[i];
    return NULL;
}

/* ---- before any work ---- */

static Status native_ready(const void *settings, const Expectation *e, int n, const EvalKit *kit, Error *err)
{
    const Native *s = settings;
    for (int i = 0; i < n; i++) {
        const TaskSet *set = set_of(s, e[i].dataset);
        const ChatForm *chat;
        TaskFile *file;
        if (!set)
            continue;
        Status st = task_open(&file, set->path, set->kind, (int)set->limit, err);
        task_free(file);
        if (st == ST_OK && set->chat)
            st = chat_form(kit->model_path, &chat, err);
        if (st != ST_OK)
            return error_prefix(err, st, "data set '%s': ", set->name);
    }
    return ST_OK;
}

static Status native_digest(const void *settings, Hasher *h, Error *err)
{
    const Native *s = settings;
    for (int i = 0; i < s->n; i++)
        RETURN_IF_ERROR(eval_hash_file(s->set[i].path, h, err));
    return ST_OK;
}

/* What the float model's answers depend on. */
static Status base_key(const TaskSet *set, const EvalKit *kit, char hex[65], Error *err)
{
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, "slimscope native base 1");
    hasher_str(&h, kit->model->fingerprint);
    hasher_str(&h, arith_name(kit->arith));
    const int64_t numbers[] = {set->kind, set->limit, set->chat, set->norm, set->max_tokens, set->match, set->nuntil};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        hasher_u64(&h, (uint64_t)numbers[i]);
    hasher_str(&h, set->extract ? set->extract : "");
    for (int i = 0; i < set->nuntil; i++)
        hasher_str(&h, set->until[i]);
    RETURN_IF_ERROR(eval_hash_file(set->path, &h, err));
    const Digest d = hasher_end(&h);
    digest_hex(&d, hex);
    return ST_OK;
}

/* The file of what the float model answered; a damaged one holds nothing. */
static cJSON *kept_bases(const char *path)
{
    Error e = {0};
    cJSON *doc = NULL;
    if (!file_exists(path) || json_parse_file(path, KEPT_MAX, &doc, &e) != ST_OK || !cJSON_IsObject(doc)) {
        cJSON_Delete(doc);
        doc = cJSON_CreateObject();
    }
    return doc;
}

static bool find_base(const char *path, const char *key, TaskScore *out)
{
    cJSON *doc = kept_bases(path);
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(doc, key), *right = cJSON_GetArrayItem(v, 0), *n = cJSON_GetArrayItem(v, 1);
    bool found = cJSON_IsNumber(right) && cJSON_IsNumber(n) && n->valuedouble >= 1 && right->valuedouble >= 0 &&
                 right->valuedouble <= n->valuedouble;
    if (found)
        *out = (TaskScore){.right = (int64_t)right->valuedouble, .n = (int64_t)n->valuedouble};
    cJSON_Delete(doc);
    return found;
}

static Status keep_base(const char *path, const char *key, const TaskScore *s, Error *err)
{
    cJSON *doc = kept_bases(path), *v = cJSON_CreateDoubleArray((const double[]){(double)s->right, (double)s->n}, 2);
    bool added = doc && v;
    if (added) {
        cJSON_DeleteItemFromObjectCaseSensitive(doc, key);
        added = cJSON_AddItemToObject(doc, key, v);
    } else {
        cJSON_Delete(v);
    }
    char *text = added ? cJSON_Print(doc) : NULL;
    Status st = text ? file_write_atomic(path, text, strlen(text), err) : error_nomem(err, "the float model's answers");
    cJSON_free(text);
    cJSON_Delete(doc);
    return st;
}

/* ---- asking ---- */

typedef struct Run {
    const EvalKit *kit;
    const EvalTrial *trial;
    Tokenizer *tok;
    Subject *subject;   /* the try's, or the float model's: one at a time */
    bool quantized;     /* which */
    Work work;
    Effect effect;
    bool measured;
} Run;

static Status texts(void *ctx, Pipeline *p, const TokenSet **calib, Error *err)
{
    const Run *r = ctx;
    return r->kit->texts(r->kit->ctx, r->trial, p, calib, err);
}

static void progress(void *ctx, const char *phase, int64_t done, int64_t total)
{
    const Run *r = ctx;
    eval_progress(r->kit, phase, done, total);
}

static Status subject_of(Run *r, bool quantized, Error *err)
{
    const EvalKit *k = r->kit;
    if (r->subject && r->quantized == quantized)
        return ST_OK;
    subject_free(r->subject);
    r->subject = NULL;
    uint64_t taken = mem_resident_bytes();
    if (k->mem && k->mem <= taken)
        return error_set(err, ST_NOMEM, "the program takes %.1f MB but the limit is %.1f MB: raise --mem", (double)taken / 1e6,
                         (double)k->mem / 1e6);
    r->work = (Work){.recipe = r->trial->recipe, .level = r->trial->level, .peer = k->peer, .lenient = true};
    const SubjectOptions o = {.model = k->model, .pool = k->pool, .arith = k->arith, .mem = k->mem ? k->mem - taken : 0,
                              .cancel = k->cancel, .dist = k->dist, .work = quantized ? &r->work : NULL, .texts = texts, .ctx = r,
                              .progress = progress, .progress_ctx = r};
    r->quantized = quantized;
    return subject_new(&r->subject, &o, err);
}

static Status ask(Run *r, const TaskSet *set, const TaskFile *file, bool quantized, TaskScore *out, Error *err)
{
    const EvalKit *k = r->kit;
    TaskModel m = {.dist = k->dist, .tok = r->tok, .vocab = k->model->cfg.vocab, .peer = k->peer};
    int32_t *stop = NULL;
    Status st = subject_of(r, quantized, err);
    if (st == ST_OK && set->chat)
        st = chat_form(k->model_path, &m.chat, err);
    if (st == ST_OK)
        st = stop_tokens(k->model_path, r->tok, m.vocab, m.chat ? m.chat->end : NULL, &stop, &m.nstop, err);
    m.subject = r->subject;
    m.stop = stop;
    if (st == ST_OK)
        st = (set->kind == TASK_CHOICE ? choice_run : exact_run)(&m, set, file, out, err);
    free(stop);
    return st;
}

/* find_base, where rank 0 has the file. */
static Status known_base(const Run *r, const char *path, const char *key, bool *known, TaskScore *out, Error *err)
{
    Pack p = {0};
    if (dist_leads(r->kit->dist) && find_base(path, key, out))
        pack_put(&p, out, sizeof *out);
    Status st = dist_hand_out(r->kit->dist, &p, err);
    if (st == ST_OK && (*known = p.len > 0)) {
        Unpack in = unpack_of(&p);
        unpack_get(&in, out, sizeof *out);
    }
    pack_fini(&p);
    return st;
}

/* The float model's answers, kept below the folder of the run. */
static Status ask_base(Run *r, const TaskSet *set, const TaskFile *file, TaskScore *out, Error *err)
{
    char key[65];
    Str path = {0};
    RETURN_IF_ERROR(base_key(set, r->kit, key, err));
    const bool leads = dist_leads(r->kit->dist);
    bool known = false;
    Status st = leads ? eval_place(r->kit, "history", "float_answers.json", &path, err) : ST_OK;
    if (st == ST_OK)
        st = known_base(r, str_text(&path), key, &known, out, err);
    if (st == ST_OK && !known) {
        eval_log(r->kit, "%s: the float model is asked", set->name);
        st = ask(r, set, file, false, out, err);
        if (st == ST_OK && leads)
            st = keep_base(str_text(&path), key, out, err);
    }
    str_free(&path);
    return st;
}

static Status add_set(Run *r, const Expectation *e, const TaskSet *set, EvalResult *out, Error *err)
{
    TaskFile *file;
    TaskScore base = {.n = 0}, score = {.n = 0};
    RETURN_IF_ERROR(task_open(&file, set->path, set->kind, (int)set->limit, err));
    Status st = r->tok ? ST_OK : tokenizer_open(&r->tok, r->kit->model_path, err);
    if (st == ST_OK && (set->base || e->relative))
        st = ask_base(r, set, file, &base, err);
    if (st == ST_OK)
        st = ask(r, set, file, true, &score, err);
    task_free(file);
    RETURN_IF_ERROR(st);
    if (base.n)
        eval_log(r->kit, "%s: %lld of %lld right, the float model %lld", set->name, (long long)score.right, (long long)score.n,
                 (long long)base.right);
    else
        eval_log(r->kit, "%s: %lld of %lld right", set->name, (long long)score.right, (long long)score.n);
    st = task_add_score(set, &score, base.n ? &base : NULL, out, err);
    if (st == ST_OK && e->relative)
        out->accuracy[out->n - 1].error = NAN; /* the score's own is not that of the difference */
    return st;
}

/* By the six digits that are told. */
static bool figure_text(double v, Decimal *out)
{
    char text[40];
    int n = snprintf(text, sizeof text, "%.6g", v);
    return decimal_parse(text, (size_t)n, out);
}

/* relative: it is held against the base. */
static Status add_figure(const Run *r, const Figure *f, bool relative, EvalResult *out, Error *err)
{
    Accuracy a = {.error = (relative && f->paired ? f->paired : f->error)(&r->effect), .has_base = f->base != NULL};
    snprintf(a.dataset, sizeof a.dataset, "%s", f->name);
    if (!figure_text(f->value(&r->effect), &a.value))
        return eval_says(out, EVAL_BAD, "%s is no number", f->name);
    a.has_base = f->base && figure_text(f->base(&r->effect), &a.base);
    return eval_result_add(out, &a, err);
}

/* Measurements first: they hold memory of their own, which the model that is asked would share. */
static Status run_all(Run *r, const Native *s, const Expectation *e, int n, EvalResult *out, Error *err)
{
    for (int i = 0; i < n; i++)
        if (figure_of(e[i].dataset) && !r->measured) {
            RETURN_IF_ERROR(r->kit->measure(r->kit->ctx, r->trial, s->full, &r->effect, err));
            r->measured = true;
        }
    for (int i = 0; i < n; i++) {
        const Figure *f = figure_of(e[i].dataset);
        const TaskSet *set = f ? NULL : set_of(s, e[i].dataset);
        if (!f && !set)
            return error_set(err, ST_INTERNAL, "no data set '%s'", e[i].dataset);
        RETURN_IF_ERROR(f ? add_figure(r, f, e[i].relative, out, err) : add_set(r, &e[i], set, out, err));
    }
    return ST_OK;
}

static Status native_run(const void *settings, const Expectation *e, int n, const EvalKit *kit, const EvalTrial *t,
                         EvalResult *out, Error *err)
{
    Run r = {.kit = kit, .trial = t};
    Status st = run_all(&r, settings, e, n, out, err);
    subject_free(r.subject);
    tokenizer_free(r.tok);
    if (st != ST_OK)
        return st;
    demand_met(e, n, out);
    if (out->state != EVAL_DONE)
        out->satisfied = false;
    return ST_OK;
}

const EvaluatorType evaluator_native = {
    .name = "native",
    .object = &native_object,
    .ranks = true,
    .settings = native_settings,
    .ready = native_ready,
    .run = native_run,
    .digest = native_digest,
};
