/* check: is what lies on disk whole and sane? Models tensor by tensor, recipes by their rules. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "convert/convert.h"
#include "io/file.h"
#include "io/json.h"
#include "model/config.h"
#include "model/storage.h"
#include "quant/quantizer.h"
#include "recipe/field.h"
#include "recipe/recipe.h"
#include "save/outcheck.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"
#include "model/check.h"

enum { CONFIG_MAX = 10000000 };

typedef struct Finding {
    ScanVerdict verdict;
    char *subject; /* a tensor, or "" */
    char *text;
    char *data;    /* further members of its JSON object, each with a comma behind; NULL: none */
} Finding;

/* What was found at one path. */
typedef struct Report {
    const char *path, *kind; /* kind: "model", "output", "recipe" */
    char form[128];          /* savers of an output, "" */
    const CommandLine *cl;
    int64_t tensors;
    uint64_t bytes;
    int files;
    Finding *finding;
    size_t n, cap;
    size_t bad;
    Status worst;
} Report;

static Status add_finding(Report *r, ScanVerdict v, const char *subject, const char *text, Error *err)
{
    if (!mem_grow(&r->finding, &r->cap, r->n + 1, sizeof *r->finding))
        return error_nomem(err, "a report");
    Finding f = {v, strdup(subject), strdup(text), NULL};
    r->finding[r->n++] = f;
    r->bad += v == SCAN_BAD;
    return f.subject && f.text ? ST_OK : error_nomem(err, "a report");
}

static void report_fini(Report *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->finding[i].subject);
        free(r->finding[i].text);
        free(r->finding[i].data);
    }
    free(r->finding);
}

/* What could not even be opened is the path's one finding. A lack of memory is no finding about the path. */
static Status add_failure(Report *r, const Error *why, Error *err)
{
    if (why->status == ST_NOMEM || why->status == ST_CANCELLED || why->status == ST_INTERNAL) {
        *err = *why;
        return why->status;
    }
    r->worst = status_exit_code(why->status) > status_exit_code(r->worst) ? why->status : r->worst;
    return add_finding(r, SCAN_BAD, "", why->text, err);
}

/* ---- models ---- */

static void put_type(Str *b, const TensorInfo *t)
{
    str_printf(b, "%s [", dtype_name(t->dtype));
    for (int i = 0; i < t->ndim; i++)
        str_printf(b, "%s%lld", i ? "," : "", (long long)t->shape[i]);
    str_puts(b, "]: ");
}

/* Everything that is odd about a tensor, "; " between. codes: as in ScanOptions. */
static void describe(const TensorInfo *t, const TensorScan *s, double codes, Str *b)
{
    put_type(b, t);
    size_t empty = b->len;
#define NEXT (b->len > empty ? "; " : "")
    if (s->unreadable)
        str_printf(b, "%s", s->unreadable);
    if (s->nans || s->infs) {
        str_printf(b, "%s%lld NaN and %lld Inf, first %s at ", NEXT, (long long)s->nans, (long long)s->infs,
                   s->bad_is_nan ? "NaN" : "Inf");
        tensor_position(t->shape, t->ndim, s->bad_at, b);
    }
    if (s->huge) {
        str_printf(b, "%s%lld values above %g (largest %.4g), first at ", NEXT, (long long)s->huge,
                   codes > 0 ? SCAN_HUGE / codes : SCAN_HUGE, s->max_abs);
        tensor_position(t->shape, t->ndim, s->huge_at, b);
    }
    if (!s->unreadable && !s->nans && !s->infs && s->max_abs == 0)
        str_printf(b, "%sall zero", NEXT);
    else if (s->max_abs > 0 && s->max_abs < SCAN_TINY)
        str_printf(b, "%slargest magnitude %.4g, below %g", NEXT, s->max_abs, SCAN_TINY);
    if (s->constant_rows && s->max_abs > 0)
        str_printf(b, "%s%lld of %lld rows are one value repeated, first row %lld", NEXT, (long long)s->constant_rows,
                   (long long)s->rows, (long long)s->constant_at);
#undef NEXT
}

/* ScanOptions.codes of a checkpoint; caller frees. */
static double *codes_of(const Checkpoint *c)
{
    int64_t n = checkpoint_count(c);
    double *codes = mem_zarray((size_t)n + 1, sizeof *codes);
    for (int64_t i = 0; codes && i < n; i++) {
        StorageRole role = storage_role(c, checkpoint_at(c, i));
        codes[i] = role.scales ? role.how->code->largest : 0;
    }
    return codes;
}

/* Counts a tensor, and tells what is odd about it. codes: as in ScanOptions. */
static Status add_scanned(Report *r, const TensorInfo *t, const TensorScan *s, ScanVerdict v, double codes, Error *err)
{
    Str b = {0};
    r->tensors++;
    r->bytes += t->nbytes;
    if (v == SCAN_FINE)
        return ST_OK;
    describe(t, s, codes, &b);
    Status st = b.oom ? error_nomem(err, "a report") : add_finding(r, v, t->name, str_text(&b), err);
    str_free(&b);
    if (s->unreadable)
        r->worst = ST_IO;
    return st;
}

static Status scan_tensors(Report *r, const Checkpoint *c, const ScanOptions *o, Error *err)
{
    TensorScan *scan;
    RETURN_IF_ERROR(tensorscan_run(c, o, &scan, err));
    Status st = ST_OK;
    int64_t n = checkpoint_count(c);
    r->files = checkpoint_files(c);
    for (int64_t i = 0; i < n && st == ST_OK; i++) {
        const TensorInfo *t = checkpoint_at(c, i);
        st = add_scanned(r, t, &scan[i], tensorscan_verdict(t, &scan[i]), o->codes[i], err);
    }
    tensorscan_free(scan, checkpoint_count(c));
    return st;
}

/* Whether config.json names a family that this build has no row for: then that it cannot run says nothing about what
 * lies on disk. */
static bool foreign_family(const char *config)
{
    cJSON *root;
    char type[64];
    char *text;
    size_t n;
    if (file_read(config, CONFIG_MAX, &text, &n, NULL) != ST_OK)
        return false;
    Status st = json_parse_loose(text, n, config, &root, NULL);
    free(text);
    if (st != ST_OK)
        return false;
    bool named = cJSON_IsObject(root) && config_model_type(config_text(root), type, NULL) == ST_OK;
    cJSON_Delete(root);
    return named && !arch_find(type);
}

/* Headers against config.json, then every tensor. `path`: a model's folder or one .safetensors file. */
static Status check_model(Report *r, Pool *pool, int show, Error *err)
{
    Error why;
    Checkpoint *c;
    r->kind = "model";
    if (checkpoint_open(&c, r->path, &why) != ST_OK)
        return add_failure(r, &why, err);
    char *config = path_join(r->path, "config.json");
    Status st = config ? ST_OK : error_nomem(err, "a path");
    if (st == ST_OK && file_exists(config)) {
        Model *m;
        if (model_open(&m, r->path, NULL, &why) == ST_OK) {
            if (m->warning)
                st = add_finding(r, SCAN_NOTE, "", m->warning, err);
            model_free(m);
        } else if (why.status == ST_DATA && foreign_family(config))
            st = add_finding(r, SCAN_NOTE, "", why.text, err);
        else
            st = add_failure(r, &why, err);
    }
    free(config);
    if (st == ST_OK) {
        ByteWatch w = {.phase = "check", .path = r->path, .show = show};
        double *codes = codes_of(c);
        ScanOptions o = {.pool = pool, .cancel = &w.cancel, .progress = byte_progress, .ctx = &w, .codes = codes};
        st = codes ? scan_tensors(r, c, &o, err) : error_nomem(err, "a scan");
        free(codes);
    }
    checkpoint_free(c);
    return st;
}

/* ---- outputs of quant ---- */

static Status take_found(void *ctx, const OutFound *f, Error *err)
{
    return add_finding(ctx, f->bad ? SCAN_BAD : SCAN_NOTE, f->tensor, f->text, err);
}

/* What to make of a scanned tensor of an output: codes and offsets may well be all zero, and scales alike. */
static ScanVerdict part_verdict(OutRole role, const TensorInfo *t, const TensorScan *s)
{
    if (role == OUT_FLOAT)
        return tensorscan_verdict(t, s);
    if (s->unreadable || s->nans || s->infs)
        return SCAN_BAD;
    return role == OUT_CODES && s->max_abs == 0 && t->nbytes ? SCAN_NOTE : SCAN_FINE;
}

/* Every value of one file. */
static Status scan_part(Report *r, const OutCheck *o, int file, Pool *pool, int show, Error *err)
{
    const Checkpoint *c = outcheck_file(o, file);
    ByteWatch w = {.phase = "check", .path = r->path, .show = show};
    double *codes = codes_of(c);
    ScanOptions opt = {.pool = pool, .cancel = &w.cancel, .progress = byte_progress, .ctx = &w, .codes = codes};
    TensorScan *scan = NULL;
    Status st = codes ? tensorscan_run(c, &opt, &scan, err) : error_nomem(err, "a scan");
    for (int64_t i = 0; st == ST_OK && i < checkpoint_count(c); i++) {
        const TensorInfo *t = checkpoint_at(c, i);
        st = add_scanned(r, t, &scan[i], part_verdict(outcheck_role(o, file, i), t, &scan[i]), 0, err);
    }
    tensorscan_free(scan, checkpoint_count(c));
    free(codes);
    return st;
}

static Status check_output(Report *r, const SaveFormat *f, OutCheck *o, Pool *pool, int show, Error *err)
{
    size_t n = strlen(r->form);
    snprintf(r->form + n, sizeof r->form - n, "%s%s", n ? " and " : "", f->type);
    r->kind = "output";
    RETURN_IF_ERROR(outcheck_run(o, take_found, r, err));
    for (int i = 0; i < outcheck_files(o); i++)
        RETURN_IF_ERROR(scan_part(r, o, i, pool, show, err));
    r->files += outcheck_files(o);
    return ST_OK;
}

/* Of every saver that left something there; *found: one did. */
static Status check_outputs(Report *r, bool *found, Pool *pool, int show, Error *err)
{
    Status st = ST_OK;
    for (const SaveFormat *const *f = saver_table; *f && st == ST_OK; f++) {
        OutCheck *o;
        Error why;
        st = outcheck_open(&o, *f, r->path, &why);
        *found = *found || st != ST_OK || o;
        if (st != ST_OK)
            st = add_failure(r, &why, err);
        else if (o)
            st = check_output(r, *f, o, pool, show, err);
        outcheck_free(o);
    }
    return st;
}

/* ---- recipes ---- */

/* Notes of a recipe that was read, and the methods that aren't built. */
static Status add_notes(Report *r, const Recipe *recipe, Error *err)
{
    Status st = ST_OK;
    char line[400];
    for (int i = 0; i < recipe_notes(recipe) && st == ST_OK; i++) {
        const RecipeNote *n = recipe_note(recipe, i);
        snprintf(line, sizeof line, "%s:%d:%d: %s%s", r->path, n->line, n->column, n->blocks ? "can't run here: " : "",
                 n->text);
        st = add_finding(r, SCAN_NOTE, "", line, err);
    }
    for (int i = 0; i < recipe_entries(recipe) && st == ST_OK; i++) {
        const RecipeEntry *e = recipe_entry(recipe, i);
        if (!e->scheme || !e->scheme->runnable || qconfig_runnable(&e->q))
            continue;
        snprintf(line, sizeof line, "%s:%d:1: can't run here: linear_quant %s with activations %s and weights %s",
                 r->path, e->line, e->scheme->name, e->q.act.method, e->q.weight.method);
        st = add_finding(r, SCAN_NOTE, "", line, err);
    }
    return st;
}

/* What the recipe breaks of the engines' rules: bad where one of them was asked for. model NULL: without one. */
static Status add_broken_rules(Report *r, const Recipe *recipe, const Model *model, Error *err)
{
    const char *runtime = cl_str(r->cl, "runtime");
    const RuntimeQuery q = {.recipe = recipe, .model = model, .runtime = runtime ? runtime_find(runtime) : NULL};
    RuntimeReport rules;
    Str text = {0};
    Status st = runtime_check(&q, &rules, err);
    for (size_t i = 0; i < rules.n && st == ST_OK; i++) {
        const RuntimeFinding *f = &rules.f[i];
        str_clear(&text);
        str_printf(&text, "%s:%d:1: %s%s%s%s", r->path, f->line ? f->line : 1, model ? "with " : "",
                   model ? model->path : "", model ? ": " : "", f->text);
        st = text.oom ? error_nomem(err, "a report")
                      : add_finding(r, q.runtime ? SCAN_BAD : SCAN_NOTE, "", str_text(&text), err);
        Str data = {0};
        str_printf(&data, "\"rule\":\"%s\",\"engine\":", f->rule->name);
        str_json(&data, f->engine ? f->engine : "any");
        str_printf(&data, ",\"count\":%lld,", (long long)f->count);
        if (model) {
            str_puts(&data, "\"model\":");
            str_json(&data, model->path);
            str_putc(&data, ',');
        }
        if (f->linear >= 0) {
            str_puts(&data, "\"first\":");
            str_json(&data, model->linears[f->linear].name);
            str_putc(&data, ',');
        }
        if (st == ST_OK && !(r->finding[r->n - 1].data = str_detach(&data)))
            st = error_nomem(err, "a report");
        str_free(&data);
    }
    str_free(&text);
    runtime_report_fini(&rules);
    return st;
}

/* Against the models that are checked along with it; without any what can be said of it alone. What is wrong with a
 * model is told at its own path. */
static Status check_rules(Report *r, const Recipe *recipe, Error *err)
{
    int models = 0;
    for (int i = 0; i < r->cl->nwords; i++) {
        Model *m;
        if (!dir_exists(r->cl->words[i]) || model_open(&m, r->cl->words[i], NULL, NULL) != ST_OK)
            continue;
        models++;
        Status st = add_broken_rules(r, recipe, m, err);
        model_free(m);
        RETURN_IF_ERROR(st);
    }
    return models ? ST_OK : add_broken_rules(r, recipe, NULL, err);
}

/* Every line of what a document's reader found wrong. */
static Status add_errors(Report *r, const Str *all, const Error *why, Error *err)
{
    Status st = ST_OK;
    if (all->oom || !all->len || why->status == ST_NOMEM)
        return add_failure(r, why, err);
    for (char *line = all->s, *end; st == ST_OK && line && *line; line = end ? end + 1 : NULL) {
        if ((end = strchr(line, '\n')))
            *end = 0;
        st = add_finding(r, SCAN_BAD, "", line, err);
    }
    r->worst = why->status;
    return st;
}

static Status check_recipe(Report *r, Error *err)
{
    Recipe *recipe = NULL;
    Str all = {0};
    Error why = {0};
    Status st = ST_OK;
    r->kind = "recipe";
    r->files = 1;
    if (recipe_open(&recipe, &recipe_rows, r->path, &all, &why) != ST_OK)
        st = add_errors(r, &all, &why, err);
    if (recipe && st == ST_OK)
        st = add_notes(r, recipe, err);
    if (recipe && st == ST_OK)
        st = check_rules(r, recipe, err);
    recipe_free(recipe);
    str_free(&all);
    return st;
}

/* ---- documents of modelslim_convert ---- */

/* What it would do to one model. */
static Status check_against(Report *r, const ConvertDoc *doc, const char *model, Error *err)
{
    ConvertPlan *p;
    Error why = {0};
    char line[700];
    int n;
    if (convert_plan_make(&p, doc, &(ConvertAsk){.model = model, .dir = "converted"}, &why) != ST_OK)
        return add_failure(r, &why, err);
    Status st = ST_OK;
    const char *const *notes = convert_notes(p, &n);
    for (int i = 0; i < n && st == ST_OK; i++) {
        snprintf(line, sizeof line, "with %.200s: %s", model, notes[i]);
        st = add_finding(r, SCAN_NOTE, "", line, err);
    }
    const ConvertWay *way = convert_ways(p, &n);
    for (int i = 0; i < n && st == ST_OK; i++) {
        snprintf(line, sizeof line, "with %.200s: %s:%d: %lld linears %s -> %s", model, path_base(r->path),
                 convert_doc_rule(doc, way[i].rule)->line, (long long)way[i].linears, convert_kind_name(way[i].from),
                 convert_kind_name(way[i].to));
        st = add_finding(r, SCAN_NOTE, "", line, err);
    }
    convert_plan_free(p);
    return st;
}

/* Against the models that are checked along with it. What can't be read as weights is told at its own path. */
static Status check_conversion(Report *r, const char *text, size_t len, Error *err)
{
    ConvertDoc *doc;
    Str all = {0};
    Error why = {0};
    Status st = ST_OK;
    r->kind = "recipe";
    r->files = 1;
    if (convert_doc_parse(&doc, &recipe_rows, text, len, r->path, &all, &why) != ST_OK)
        st = add_errors(r, &all, &why, err);
    for (int i = 0; doc && i < r->cl->nwords && st == ST_OK; i++) {
        Checkpoint *c;
        if (strcmp(r->cl->words[i], r->path) == 0 || checkpoint_open(&c, r->cl->words[i], NULL) != ST_OK)
            continue;
        checkpoint_free(c);
        st = check_against(r, doc, r->cl->words[i], err);
    }
    convert_doc_free(doc);
    str_free(&all);
    return st;
}

static Status check_file(Report *r, Error *err)
{
    char *text;
    size_t len;
    Error why = {0};
    if (document_read(r->path, &text, &len, NULL, &why) != ST_OK)
        return add_failure(r, &why, err);
    bool is;
    Status st = convert_is_document(text, len, &is, err);
    if (st == ST_OK)
        st = is ? check_conversion(r, text, len, err) : check_recipe(r, err);
    free(text);
    return st;
}

/* ---- sessions ---- */

typedef struct Found {
    Report *r;
    Error *err;
} Found;

static Status add_found(void *ctx, bool bad, const char *text)
{
    const Found *f = ctx;
    return add_finding(f->r, bad ? SCAN_BAD : SCAN_NOTE, "", text, f->err);
}

static Status check_session(Report *r, const char *dir, Error *err)
{
    Error why = {0};
    Found f = {r, &why};
    r->kind = "session";
    r->files = 1;
    return session_check(dir, add_found, &f, &why) == ST_OK ? ST_OK : add_failure(r, &why, err);
}

/* The folder of the session that `path` is or names, NULL: it is none. */
static char *session_dir(const char *path)
{
    char *state = strchr(path, '/') || access(path, F_OK) == 0 ? NULL : app_state_dir();
    char *sessions = state ? path_join(state, "sessions") : NULL;
    char *dir = sessions ? path_join(sessions, path) : strdup(path), *journal = dir ? path_join(dir, "journal") : NULL;
    bool is = journal && file_exists(journal);
    free(state);
    free(sessions);
    free(journal);
    if (is)
        return dir;
    free(dir);
    return NULL;
}

static bool is_safetensors(const char *path)
{
    static const char end[] = ".safetensors";
    size_t n = strlen(path);
    return n >= sizeof end - 1 && strcmp(path + n - (sizeof end - 1), end) == 0;
}

/* ---- the report ---- */

static void put_text(const Report *r, Str *b)
{
    str_printf(b, "%s: ", r->path);
    if (*r->form)
        str_printf(b, "written by %s, ", r->form);
    if (r->tensors || *r->form) {
        str_printf(b, "%lld tensors, ", (long long)r->tensors);
        str_bytes(b, r->bytes);
        str_printf(b, " in %d file%s", r->files, r->files == 1 ? "" : "s");
    } else
        str_puts(b, r->kind);
    if (r->n)
        str_printf(b, ": %zu bad, %zu to know\n", r->bad, r->n - r->bad);
    else
        str_puts(b, ": nothing bad\n");
    for (size_t i = 0; i < r->n; i++) {
        const Finding *f = &r->finding[i];
        str_printf(b, "  %s  %s%s%s\n", f->verdict == SCAN_BAD ? "bad " : "note", f->subject, *f->subject ? "  " : "",
                   f->text);
    }
}

static void put_json(const Report *r, Str *b)
{
    str_puts(b, "{\"path\":");
    str_json(b, r->path);
    str_printf(b, ",\"kind\":\"%s\",\"tensors\":%lld,\"bytes\":%llu,\"files\":%d,\"bad\":%zu,\"findings\":[", r->kind,
               (long long)r->tensors, (unsigned long long)r->bytes, r->files, r->bad);
    for (size_t i = 0; i < r->n; i++) {
        const Finding *f = &r->finding[i];
        str_printf(b, "%s{\"verdict\":\"%s\",", i ? "," : "", f->verdict == SCAN_BAD ? "bad" : "note");
        if (*f->subject) {
            str_puts(b, "\"tensor\":");
            str_json(b, f->subject);
            str_putc(b, ',');
        }
        str_puts(b, f->data ? f->data : "");
        str_puts(b, "\"what\":");
        str_json(b, f->text);
        str_putc(b, '}');
    }
    str_puts(b, "]}");
}

static Status check_path(const CommandLine *cl, const char *path, Pool *pool, int show, Str *out, Status *worst,
                         size_t *bad, Error *err)
{
    const bool json = out_format(cl_str(cl, "format")) == OUT_JSON;
    Report r = {.path = path, .kind = "model", .cl = cl};
    bool model = dir_exists(path) || is_safetensors(path), output = false;
    char *session = session_dir(path);
    Status st = session ? check_session(&r, session, err)
                : model ? check_outputs(&r, &output, pool, show, err)
                        : check_file(&r, err);
    if (st == ST_OK && !session && model && !output)
        st = check_model(&r, pool, show, err);
    if (st == ST_OK) {
        if (json)
            put_json(&r, out);
        else
            put_text(&r, out);
        Status mine = r.worst != ST_OK ? r.worst : r.bad ? ST_DATA : ST_OK;
        *worst = status_exit_code(mine) > status_exit_code(*worst) ? mine : *worst;
        *bad += r.bad > 0;
    }
    report_fini(&r);
    free(session);
    return st;
}

static Status run_check(App *a, const CommandLine *cl, Error *err)
{
    if (cl->nwords == 0 && a->session)
        return check_decision(a, err);
    if (a->face == FACE_UI)
        return error_set(err, ST_USAGE, "check without a path holds the present decision against its rules; 'slimscope check PATH' in a shell reads files");
    RETURN_IF_ERROR(want_words(cl, 1, -1, err));
    int threads;
    bool json = out_format(cl_str(cl, "format")) == OUT_JSON;
    RETURN_IF_ERROR(cl_threads(cl, &threads, err));
    apply_progress(a, cl);
    Pool *pool;
    RETURN_IF_ERROR(pool_new(&pool, threads, err));
    Str out = {0};
    Status st = ST_OK, worst = ST_OK;
    size_t bad = 0;
    str_puts(&out, json ? "{\"paths\":[" : "");
    for (int i = 0; i < cl->nwords && st == ST_OK; i++) {
        str_puts(&out, json && i ? "," : "");
        st = check_path(cl, cl->words[i], pool, a->progress, &out, &worst, &bad, err);
    }
    str_puts(&out, json ? "]}\n" : "");
    pool_free(pool);
    if (st == ST_OK)
        st = out.oom ? error_nomem(err, "a report") : app_result(a, &out, NULL, err);
    str_free(&out);
    if (st == ST_OK && worst != ST_OK)
        st = error_set(err, worst, "check: %zu of %d %s bad", bad, cl->nwords, bad == 1 ? "is" : "are");
    return st;
}

static const Option check_options[] = {
    {"format", ARG_CHOICE, "text|json", "of the report (default text)", COMP_NONE},
    OPTION_RUNTIME,
    {"threads", ARG_INT, "N", "compute threads (0, the default: every core this process may use)", COMP_NONE},
    OPTION_PROGRESS,
    {0},
};
const Command command_check = {
    .name = "check",
    .args = "[PATH...]",
    .summary = "Read every tensor of models once and name what is broken; check recipes and sessions.",
    .help = "PATH is a model's folder, what quant wrote (its folder or a file of it), a .safetensors file, a "
            "recipe, or a session (its name or folder). Bad: sizes against config.json and headers, NaN or Inf, a magnitude above 1e5, a largest "
            "magnitude below 1e-20, a matrix that is all zero, rows of one value repeated (rows of 16 values and "
            "more), scales whose products pass 1e5. To know, not bad: such rows in embedding and head, and vectors "
            "and integer tensors that are all zero. What quant wrote is held against its description or "
            "quantization_config: bad are tensors that are missing, not named, of another type or shape, scales that "
            "are not above 0, linears that a loader would take otherwise than they were written, and a run that isn't"
            " finished. A recipe of any apiversion is bad where the quantizer's own loader refuses it; what doesn't "
            "run here is to know. It is held against what inference engines load, with every model named beside it: "
            "fused groups that it splits, patterns that select nothing, linears that loaders keep float, schemes "
            "without a class there are to know, and bad with --runtime. A document of modelslim_convert is held "
            "against the weights of every model beside it: bad is what can't be converted. A session is bad where records of its journal are "
            "damaged or missing, its model is another, or a stopped analysis lacks what it goes on from. Exit 65 when "
            "something is bad. In a session, without a path: the present decision against what its export has to prove and the rules "
            "of inference engines.",
    .flags = CMD_CLI | CMD_NO_LOG | CMD_NEUTRAL,
    .completes = COMP_FILE,
    .options = check_options,
    .run = run_check,
};
