#include "session/internal.h"

#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"

char *dup_or_null(const char *s)
{
    return s ? strdup(s) : NULL;
}

void session_options_default(SessionOptions *o)
{
    *o = (SessionOptions){.ctx = 512, .eval_tokens = 1024, .seed = 42};
}

Status session_new(Session **out, const SessionOptions *o, Error *err)
{
    *out = NULL;
    Session *s = calloc(1, sizeof *s);
    if (!s)
        return error_nomem(err, "the session");
    s->opt = *o;
    if (s->opt.peer)
        s->opt.arith = ARITH_MODEL;
    s->state_dir = dup_or_null(o->state_dir);
    s->cache_dir = dup_or_null(o->cache_dir);
    s->opt.state_dir = s->state_dir;
    s->opt.cache_dir = s->cache_dir;
    s->pipe[0] = s->pipe[1] = s->lock_fd = -1;
    s->cursor = -1;
    s->resume_run = s->resume_layer = -1;
    s->events_tail = &s->events;
    s->metric = metric_table[0];
    s->read_only = o->read_only;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->journal_lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    s->why = calloc(1, WHY_MAX);
    if (!s->why || (o->state_dir && !s->state_dir) || (o->cache_dir && !s->cache_dir)) {
        session_free(s);
        return error_nomem(err, "the session");
    }
    if (pipe2(s->pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
        session_free(s);
        return error_set(err, ST_IO, "cannot make a pipe for job events: too many open files?");
    }
    *out = s;
    return ST_OK;
}

static void slots_free(Session *s)
{
    for (int64_t i = 0; s->slot && s->model && i < s->model->nlinears; i++)
        if (s->slot[i].needs)
            linear_result_fini(&s->slot[i].r);
    free(s->slot);
    s->slot = NULL;
    s->results++;
}

static void levels_free(Session *s)
{
    free(s->levels);
    free(s->level_name);
    s->levels = NULL;
    s->level_name = NULL;
    s->nlevels = 0;
    for (size_t i = 0; i < s->nedits; i++)
        edit_fini(&s->edits[i]);
    s->nedits = s->edit_pos = 0;
    for (size_t i = 0; i < s->nwhatif; i++) {
        free(s->whatif[i].text);
        free(s->whatif[i].own);
        free(s->whatif[i].closed);
    }
    s->nwhatif = 0;
    s->nmeasured = 0;
}

static void model_close(Session *s)
{
    slots_free(s);
    levels_free(s);
    free(s->level);
    free(s->opened);
    free(s->home);
    free(s->tagged);
    free(s->order);
    free(s->rank);
    table_close(s);
    s->level = s->opened = s->home = NULL;
    s->tagged = NULL;
    s->order = s->rank = NULL;
    s->order_valid = s->rank_valid = false;
    s->ntagged = 0;
    s->cursor = -1;
    map_free(&s->by_name);
    recipe_free(s->recipe);
    s->recipe = NULL;
    model_free(s->model);
    s->model = NULL;
}

void session_free(Session *s)
{
    if (!s)
        return;
    jobs_stop(s);
    if (s->journal)
        durable_view(s);
    jobs_stop(s); /* again: what the last write had to say */
    durable_end(s);
    model_close(s);
    for (size_t i = 0; i < s->njobs; i++)
        job_free(s->jobs[i]);
    for (size_t i = 0; i < s->nlog; i++)
        free(s->log[i].text);
    for (size_t i = 0; i < s->ncommands; i++)
        free(s->commands[i]);
    for (int i = 0; i < 2; i++)
        if (s->pipe[i] >= 0)
            close(s->pipe[i]);
    free(s->jobs);
    free(s->log);
    free(s->commands);
    free(s->edits);
    free(s->whatif);
    free(s->measured);
    free(s->filter);
    free(s->why);
    free(s->model_type);
    quantize_done_free(s->quantized);
    free(s->calib_path);
    free(s->calib_name);
    free(s->eval_path);
    free(s->eval_name);
    free(s->state_dir);
    free(s->cache_dir);
    free(s->dir);
    free(s->resume_selected);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->journal_lock);
    pthread_cond_destroy(&s->wake);
    free(s);
}

const SessionOptions *session_options(const Session *s)
{
    return &s->opt;
}

/* ---- settings ---- */

static Status parse_count(const char *key, const char *value, int64_t min, int64_t *out, Error *err)
{
    char *end;
    long long v = strtoll(value, &end, 10);
    if (!*value || *end || v < min)
        return error_set(err, ST_USAGE, "%s takes a whole number of at least %lld, not '%s'", key, (long long)min,
                         value);
    *out = v;
    return ST_OK;
}

static Status parse_bytes(const char *key, const char *value, uint64_t *out, Error *err)
{
    char *end;
    double v = strtod(value, &end);
    static const char units[] = "KMGT";
    double scale = 1;
    const char *u = *end ? strchr(units, *end >= 'a' && *end <= 'z' ? *end - 32 : *end) : NULL;
    if (u) {
        for (long i = 0; i <= u - units; i++)
            scale *= 1024;
        end++;
        if (*end == 'i')
            end++;
    }
    if (*end == 'B' || *end == 'b')
        end++;
    if (!*value || *end || !(v >= 0) || v * scale > 1e18)
        return error_set(err, ST_USAGE, "%s takes a size like 300M or 4G, not '%s'", key, value);
    *out = (uint64_t)(v * scale);
    return ST_OK;
}

static Status set_threads(SessionOptions *o, const char *v, Error *err)
{
    int64_t n = 0;
    RETURN_IF_ERROR(parse_count("threads", v, 0, &n, err));
    if (n > 1024)
        return error_set(err, ST_USAGE, "threads takes at most 1024, not '%s'", v);
    o->threads = (int)n;
    return ST_OK;
}

static Status set_mem(SessionOptions *o, const char *v, Error *err)
{
    return parse_bytes("mem", v, &o->mem, err);
}

static Status set_dtype_sim(SessionOptions *o, const char *v, Error *err)
{
    if (strcmp(v, "fp32") != 0 && strcmp(v, "model") != 0)
        return error_set(err, ST_USAGE, "dtype-sim is fp32 or model, not '%s'", v);
    if (o->peer && strcmp(v, "fp32") == 0)
        return error_set(err, ST_USAGE, "compat=peer computes in model mode: set compat=none first");
    o->arith = strcmp(v, "model") == 0 ? ARITH_MODEL : ARITH_FP32;
    return ST_OK;
}

static Status set_compat(SessionOptions *o, const char *v, Error *err)
{
    if (strcmp(v, "peer") != 0 && strcmp(v, "none") != 0)
        return error_set(err, ST_USAGE, "compat is peer or none, not '%s'", v);
    o->peer = strcmp(v, "peer") == 0;
    if (o->peer)
        o->arith = ARITH_MODEL;
    return ST_OK;
}

static Status set_max_samples(SessionOptions *o, const char *v, Error *err)
{
    int64_t n = 0;
    RETURN_IF_ERROR(parse_count("max-samples", v, 0, &n, err));
    o->max_samples = n > INT32_MAX ? INT32_MAX : (int)n;
    return ST_OK;
}

static Status set_seq_len(SessionOptions *o, const char *v, Error *err)
{
    return parse_count("seq-len", v, 0, &o->seq_len, err);
}

static Status set_ctx(SessionOptions *o, const char *v, Error *err)
{
    return parse_count("ctx", v, 2, &o->ctx, err);
}

static Status set_eval_tokens(SessionOptions *o, const char *v, Error *err)
{
    return parse_count("eval-tokens", v, 0, &o->eval_tokens, err);
}

static Status set_seed(SessionOptions *o, const char *v, Error *err)
{
    int64_t n = 0;
    RETURN_IF_ERROR(parse_count("seed", v, 0, &n, err));
    o->seed = (uint64_t)n;
    return ST_OK;
}

static const struct Setting {
    const char *key;
    Status (*set)(SessionOptions *o, const char *value, Error *err);
} settings[] = {
    {"threads", set_threads},
    {"mem", set_mem},
    {"dtype-sim", set_dtype_sim},
    {"compat", set_compat},
    {"max-samples", set_max_samples},
    {"seq-len", set_seq_len},
    {"ctx", set_ctx},
    {"eval-tokens", set_eval_tokens},
    {"seed", set_seed},
};

static bool same_key(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b))
            return false;
    return *a == *b;
}

static void mark_stale(Session *s)
{
    char now[65];
    if (!s->slot || identity_now(s, now) != ST_OK || strcmp(now, s->identity) == 0)
        return;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        s->slot[i].stale = s->slot[i].needs != 0;
    s->results++;
    s->order_stale = true;
    s->rank_valid = false;
}

Status session_set(Session *s, const char *key, const char *value, Error *err)
{
    if (session_busy(s))
        return error_set(err, ST_USAGE, "'%s' can't change while a job runs: stop it or wait", key);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (same_key(settings[i].key, key)) {
            RETURN_IF_ERROR(settings[i].set(&s->opt, value, err));
            mark_stale(s);
            Str b = {0};
            str_puts(&b, "{\"t\":\"set\",\"key\":");
            str_json(&b, settings[i].key);
            str_puts(&b, ",\"value\":");
            str_json(&b, value);
            str_putc(&b, '}');
            durable_line(s, &b, false);
            str_free(&b);
            return ST_OK;
        }
    Str names = {0};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        str_printf(&names, "%s%s", i ? " " : "", settings[i].key);
    error_set(err, ST_USAGE, "no setting '%s': there are %s", key, str_text(&names));
    str_free(&names);
    return ST_USAGE;
}

/* ---- opening ---- */

static void name_levels(Session *s)
{
    strcpy(s->level_name[0], "float");
    for (int i = 1; i < s->nlevels; i++) {
        const Scheme *sch = scheme_find(&s->levels[i - 1]);
        const char *base = sch ? sch->name : "unwritable";
        int twin = 1;
        for (int k = 1; k < i; k++) {
            const Scheme *other = scheme_find(&s->levels[k - 1]);
            twin += other && sch && strcmp(other->name, sch->name) == 0;
        }
        if (twin > 1)
            snprintf(s->level_name[i], sizeof s->level_name[i], "%s#%d", base, twin);
        else
            snprintf(s->level_name[i], sizeof s->level_name[i], "%s", base);
    }
}

/* Level a float linear goes back to: the first entry whose include list takes it, else level 1. */
static Status find_homes(Session *s, Error *err)
{
    const Model *m = s->model;
    bool *hits = mem_zarray((size_t)m->nlinears, 1);
    if (!hits)
        return error_nomem(err, "the assignment");
    for (int64_t i = 0; i < m->nlinears; i++)
        s->home[i] = 0;
    Status st = ST_OK;
    for (int e = 0; e < recipe_entries(s->recipe) && st == ST_OK; e++) {
        const RecipeEntry *re = recipe_entry(s->recipe, e);
        memset(hits, 0, (size_t)m->nlinears);
        for (int k = 0; k < re->ninclude && st == ST_OK; k++) {
            Pattern *p;
            st = pattern_compile(&p, re->include[k], err);
            if (st == ST_OK) {
                pattern_hits(p, m, hits);
                pattern_free(p);
            }
        }
        for (int64_t i = 0; i < m->nlinears; i++)
            if (hits[i] && !s->home[i])
                s->home[i] = (int16_t)(e + 1);
    }
    for (int64_t i = 0; i < m->nlinears; i++) {
        if (s->level[i])
            s->home[i] = s->level[i];
        else if (!s->home[i])
            s->home[i] = s->nlevels > 1 ? 1 : 0;
    }
    free(hits);
    return st;
}

static Status use_recipe(Session *s, Recipe *r, Error *err)
{
    const Model *m = s->model;
    int n = recipe_entries(r);
    QConfig *levels = mem_zarray((size_t)n + 1, sizeof *levels);
    char(*names)[48] = mem_zarray((size_t)n + 1, sizeof *names);
    int16_t *level = mem_zarray((size_t)m->nlinears, sizeof *level);
    Status st = levels && names && level ? recipe_assign(r, m, level, err) : error_nomem(err, "the recipe");
    if (st != ST_OK) {
        free(levels);
        free(names);
        free(level);
        return st;
    }
    levels_free(s);
    recipe_free(s->recipe);
    s->recipe = r;
    s->levels = levels;
    s->level_name = names;
    s->nlevels = n + 1;
    for (int i = 0; i < n; i++)
        s->levels[i] = recipe_entry(r, i)->q;
    name_levels(s);
    memcpy(s->level, level, (size_t)m->nlinears * sizeof *level);
    memcpy(s->opened, level, (size_t)m->nlinears * sizeof *level);
    free(level);
    s->version++;
    s->order_stale = true;
    s->rank_valid = false;
    return find_homes(s, err);
}

Status session_open_recipe(Session *s, const char *path, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "open a model before a recipe");
    Recipe *r;
    Str all = {0};
    Status st = path ? recipe_open(&r, path, &all, err) : recipe_default(&r, err);
    if (st != ST_OK) {
        for (char *line = strtok(all.s, "\n"); line; line = strtok(NULL, "\n"))
            session_log(s, 2, "%s", line);
        str_free(&all);
        return st;
    }
    str_free(&all);
    if (session_busy(s) && !s->calib_name && strcmp(recipe_dataset(r), session_calib(s)) != 0)
        st = error_set(err, ST_USAGE, "a job runs: stop it before opening a recipe with other calibration data");
    if (st == ST_OK)
        st = use_recipe(s, r, err);
    if (st != ST_OK) {
        if (s->recipe != r)
            recipe_free(r);
        return st;
    }
    mark_stale(s);
    for (int i = 0; i < recipe_notes(r); i++)
        session_log(s, 1, "%s:%d:%d: %s", recipe_name(r), recipe_note(r, i)->line, recipe_note(r, i)->column,
                    recipe_note(r, i)->text);
    durable_text(s, "recipe", path);
    return ST_OK;
}

static Status adopt_model(Session *s, Model *m, Error *err)
{
    size_t n = (size_t)m->nlinears;
    model_close(s);
    s->model = m;
    s->level = mem_zarray(n, sizeof *s->level);
    s->opened = mem_zarray(n, sizeof *s->opened);
    s->home = mem_zarray(n, sizeof *s->home);
    s->tagged = mem_zarray(n, sizeof *s->tagged);
    s->slot = mem_zarray(n, sizeof *s->slot);
    s->order = mem_zarray(n, sizeof *s->order);
    s->rank = mem_zarray(n, sizeof *s->rank);
    if (!s->level || !s->opened || !s->home || !s->tagged || !s->slot || !s->order || !s->rank)
        return error_nomem(err, "the layer table");
    for (size_t i = 0; i < n; i++)
        if (!map_add(&s->by_name, m->linears[i].name, strlen(m->linears[i].name), (int64_t)i, NULL))
            return error_nomem(err, "the layer table");
    return table_open(s, err);
}

Status session_open_model(Session *s, const char *path, const char *model_type, Error *err)
{
    if (session_busy(s))
        return error_set(err, ST_USAGE, "a job runs: stop it before opening another model");
    Model *m;
    RETURN_IF_ERROR(model_open(&m, path, model_type, err));
    jobs_stop(s); /* the thread keeps buffers of the old model */
    if (!s->restoring)
        durable_end(s);
    Status st = adopt_model(s, m, err);
    if (st != ST_OK) {
        model_close(s);
        return st;
    }
    free(s->model_type);
    s->model_type = dup_or_null(model_type);
    if (m->warning)
        session_log(s, 1, "%s", m->warning);
    if (!s->restoring)
        RETURN_IF_ERROR(durable_begin(s, err));
    return session_open_recipe(s, NULL, err);
}

static Status set_data(Session *s, const char *kind, const char *name, char **path, char **shown, Error *err)
{
    if (session_busy(s))
        return error_set(err, ST_USAGE, "a job runs: stop it before changing the data");
    char *found = file_exists(name) || !s->opt.find_data ? strdup(name) : s->opt.find_data(s->opt.find_ctx, name, err);
    if (!found)
        return err && err->status != ST_OK ? err->status : error_nomem(err, "a path");
    if (!file_exists(found)) {
        error_set(err, ST_DATA, "'%s': no such file", found);
        free(found);
        return ST_DATA;
    }
    char *copy = strdup(name);
    if (!copy) {
        free(found);
        return error_nomem(err, "a path");
    }
    free(*path);
    free(*shown);
    *path = found;
    *shown = copy;
    durable_text(s, kind, name);
    mark_stale(s);
    return ST_OK;
}

Status session_set_calib(Session *s, const char *name, Error *err)
{
    return set_data(s, "calib", name, &s->calib_path, &s->calib_name, err);
}

Status session_set_eval(Session *s, const char *name, Error *err)
{
    return set_data(s, "eval", name, &s->eval_path, &s->eval_name, err);
}

const Model *session_model(const Session *s)
{
    return s->model;
}

const Recipe *session_recipe(const Session *s)
{
    return s->recipe;
}

const char *session_calib(const Session *s)
{
    if (s->calib_name)
        return s->calib_name;
    return s->recipe ? recipe_dataset(s->recipe) : "mix_calib.jsonl";
}

const char *session_eval(const Session *s)
{
    return s->eval_name ? s->eval_name : "eval.jsonl";
}

DataInfo session_calib_info(const Session *s)
{
    return s->calib_info;
}

DataInfo session_eval_info(const Session *s)
{
    return s->eval_info;
}

/* ---- identity and error sums ---- */

Status identity_now(const Session *s, char out[65])
{
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, s->model ? s->model->fingerprint : "");
    hasher_str(&h, s->calib_path ? s->calib_path : session_calib(s));
    hasher_u64(&h, (uint64_t)s->opt.arith);
    hasher_u64(&h, s->opt.peer);
    hasher_u64(&h, (uint64_t)s->opt.max_samples);
    hasher_u64(&h, (uint64_t)s->opt.seq_len);
    Digest d = hasher_end(&h);
    digest_hex(&d, out);
    return ST_OK;
}

Digest assignment_key(const Session *s, const int16_t *level)
{
    Hasher h;
    char id[65];
    hasher_init(&h);
    identity_now(s, id);
    hasher_str(&h, id);
    hasher_str(&h, s->eval_path ? s->eval_path : session_eval(s));
    hasher_u64(&h, (uint64_t)s->opt.ctx);
    hasher_u64(&h, s->opt.seed);
    for (int i = 0; i + 1 < s->nlevels; i++) {
        qspec_hash(&h, &s->levels[i].act);
        qspec_hash(&h, &s->levels[i].weight);
    }
    hasher_bytes(&h, level, (size_t)s->model->nlinears * sizeof *level);
    return hasher_end(&h);
}

const QConfig *level_config(const Session *s, int level)
{
    return level > 0 && level < s->nlevels ? &s->levels[level - 1] : NULL;
}

double level_error(const Session *s, int64_t linear, int level)
{
    const Slot *sl = &s->slot[linear];
    const QConfig *q = level_config(s, level);
    if (!q || session_unseen(s, linear)) /* where no token of the set comes, nothing is lost on the set */
        return 0;
    if (!sl->needs || !sl->r.err.have)
        return NAN;
    return local_error_score(&sl->r.err, q);
}

double local_sum(const Session *s, const int16_t *level)
{
    double sum = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        if (s->model->linears[i].layer < s->model->cfg.layers) /* no other layer leads to the logits */
            sum += level_error(s, i, level[i]);
    return sum;
}

/* ---- log ---- */

enum { LOG_MAX = 2000 };

void session_log(Session *s, int level, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (s->nlog == LOG_MAX) {
        free(s->log[0].text);
        memmove(s->log, s->log + 1, (LOG_MAX - 1) * sizeof *s->log);
        s->nlog--;
    }
    char *copy = strdup(text);
    if (!copy || !mem_grow(&s->log, &s->cap_log, s->nlog + 1, sizeof *s->log)) {
        free(copy); /* a log line is all that is lost */
        return;
    }
    s->log[s->nlog].level = level;
    s->log[s->nlog++].text = copy;
}

int session_log_lines(const Session *s)
{
    return (int)s->nlog;
}

LogLine session_log_line(const Session *s, int i)
{
    return (LogLine){s->log[i].level, s->log[i].text};
}
