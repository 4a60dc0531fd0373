#include "process/smooth.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "process/pipeline.h"
#include "qir/round.h"
#include "recipe/pattern.h"

/* ---- keys ---- */

static const char run_time_name[] = "non-fusion";

static int type_of(const char *name)
{
    for (int t = 0; t < SUBGRAPH_TYPES; t++)
        if (strcmp(subgraph_name((SubgraphType)t), name) == 0)
            return t;
    return strcmp(name, run_time_name) == 0 ? SMOOTH_RUN_TIME : -1;
}

void smooth_check(Check *c, const YamlNode *map)
{
    const YamlNode *list = yaml_get(map, "enable_subgraph_type");
    size_t was = check_push(c, "enable_subgraph_type");
    for (int i = 0; list && list->kind == YAML_SEQ && i < list->count; i++) {
        const YamlNode *v = list->items[i];
        if (v->kind != YAML_STR)
            continue;
        int type = type_of(v->text);
        if (type < 0)
            check_fail(c, v, "'%s' is no type of sub-graph: there are norm-linear, linear-linear, ov, up-down and non-fusion",
                       v->text);
        else if (type == SMOOTH_RUN_TIME)
            check_note(c, v, "non-fusion is ours: the peer refuses it here");
    }
    check_pop(c, was);
}

bool smooth_settings(SmoothSettings *s, Arena *a, const YamlNode *map)
{
    bool symmetric = true;
    const YamlNode *list = yaml_get(map, "enable_subgraph_type");
    *s = (SmoothSettings){.types = SMOOTH_EVERY_TYPE};
    if (yaml_get(map, "symmetric"))
        lax_bool(yaml_get(map, "symmetric"), &symmetric);
    s->asymmetric = !symmetric;
    if (list) {
        int n;
        const char *const *names = texts_read(a, list, &n);
        s->types = 0;
        for (int i = 0; names && i < n; i++)
            s->types |= 1u << type_of(names[i]);
        if (!names)
            return false;
    }
    return names_read(a, map, &s->names);
}

const char *smooth_lacks(const QSpec *q, char text[LACK_MAX])
{
    snprintf(text, LACK_MAX, "this build has no %s %s %s %s quantizer", qscope_name(q->scope), qtype_name(q->dtype),
             q->symmetric ? "sym" : "asym", q->method);
    return text;
}

void smooth_hash(const SmoothSettings *s, Hasher *h)
{
    hasher_u64(h, s->types);
    hasher_u64(h, s->asymmetric);
    names_hash(&s->names, h);
}

/* ---- which sub-graphs ---- */

/* A processor at work. */
typedef struct Smooth {
    const Model *m;
    const Work *work;
    const SmoothMethod *method;
    const SmoothSettings *set;
    bool peer;
    Arena arena;
    struct SmoothUnit {
        const Subgraph *g; /* in the order in which they are applied */
        int n;
    } *unit; /* [model_depth] */
    SmoothWatch watch; /* of the present unit */
    Stream input;      /* the same, with SMOOTH_BLOCK_INPUTS */
    SmoothRecords records;
    DType T, A;
    unsigned there;    /* bit SubgraphType: the model has one */
    int last;          /* unit that has any, -1: none */
    int left;          /* sub-graphs that no token came by */
    const char *first_left;
} Smooth;

/* The lists, compiled. */
typedef struct Lists {
    Pattern **pattern; /* [ninclude + nexclude] */
    bool *hit;         /* [the same] it matches something */
    const NameLists *names;
} Lists;

static void lists_fini(Lists *l)
{
    for (int i = 0; l->pattern && i < l->names->ninclude + l->names->nexclude; i++)
        pattern_free(l->pattern[i]);
    free(l->pattern);
    free(l->hit);
}

static Status lists_init(Lists *l, const NameLists *names, Error *err)
{
    int n = names->ninclude + names->nexclude;
    *l = (Lists){.pattern = mem_zarray((size_t)n + 1, sizeof(Pattern *)), .hit = mem_zarray((size_t)n + 1, sizeof(bool)),
                 .names = names};
    if (!l->pattern || !l->hit)
        return error_nomem(err, "patterns");
    for (int i = 0; i < n; i++) {
        const char *text = i < names->ninclude ? names->include[i] : names->exclude[i - names->ninclude];
        RETURN_IF_ERROR(pattern_compile(&l->pattern[i], text, err));
    }
    return ST_OK;
}

/* Whether a pattern matches the key or, ours, a target. */
static bool matches(const Smooth *s, const Pattern *p, const Subgraph *g)
{
    bool hit = pattern_match(p, g->key);
    for (int t = 0; !s->peer && !hit && t < g->ntargets; t++)
        hit = pattern_match(p, s->m->linears[g->targets[t]].name);
    return hit;
}

/* Whether one of the patterns [from, end) does. */
static bool any_matches(const Smooth *s, const Lists *l, int from, int end, const Subgraph *g)
{
    bool any = false;
    for (int i = from; i < end; i++) {
        bool hit = matches(s, l->pattern[i], g);
        l->hit[i] = l->hit[i] || hit;
        any = any || hit;
    }
    return any;
}

/* Takes over what the settings select; what no enabled type folds is scaled at run time where they say so. */
static bool selects(const Smooth *s, const Lists *l, Subgraph *g)
{
    unsigned types = s->set->types & s->method->types, bit = 1u << g->type;
    int n = l->names->ninclude;
    bool at_run_time = s->method->run_time && s->set->types & 1u << SMOOTH_RUN_TIME;
    bool fold = subgraph_folds(g) && types & bit;
    if (!fold && at_run_time) {
        g->norm = g->norm2 = g->norm_bias = NULL;
        g->source = -1;
        g->ntensors = 0;
        g->key = s->m->linears[g->targets[0]].name;
    }
    bool in = any_matches(s, l, 0, n, g) || n == 0, out = any_matches(s, l, n, n + l->names->nexclude, g);
    return (fold || at_run_time) && in && !out;
}

/* *some: a name that patterns could take. */
static Status select_unit(Smooth *s, const Lists *l, int unit, const char **some, Error *err)
{
    Subgraph *all;
    int n, kept = 0;
    bool table;
    RETURN_IF_ERROR(subgraphs_of_unit(s->m, unit, s->peer ? s->method->user : SUBGRAPH_OURS, &s->arena, &all, &n, &table,
                                      err));
    if (s->peer && s->method->user == SUBGRAPH_AWQ && !table) /* the one that finds none by itself */
        return error_set(err, ST_DATA, "the original has no awq for %s: leave --compat peer out", s->m->arch->title);
    Subgraph *g = arena_alloc(&s->arena, ((size_t)n + 1) * sizeof *g);
    *some = n && !*some ? all[0].key : *some;
    for (int i = 0; i < n; i++)
        s->there |= 1u << all[i].type;
    if (!g)
        return error_nomem(err, s->method->name);
    for (int t = 0; t < SUBGRAPH_TYPES; t++)
        for (int i = 0; i < n; i++)
            if (all[i].type == (SubgraphType)t && selects(s, l, &all[i]))
                g[kept++] = all[i];
    s->unit[unit] = (struct SmoothUnit){g, kept};
    s->last = kept ? unit : s->last;
    return ST_OK;
}

static void tell(const Smooth *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void tell(const Smooth *s, const char *fmt, ...)
{
    char text[512];
    va_list args;
    if (!s->work->tell)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    s->work->tell(s->work->tell_ctx, text);
}

static Status check_selection(const Smooth *s, const Lists *l, const char *some, Error *err)
{
    for (int i = 0; i < l->names->ninclude + l->names->nexclude && !s->peer; i++) {
        bool out = i >= l->names->ninclude;
        const char *text = out ? l->names->exclude[i - l->names->ninclude] : l->names->include[i];
        if (!l->hit[i] && strcmp(text, "*") != 0)
            tell(s, "%s: '%s' in %s matches no sub-graph: they go by their norm or linear, such as '%s', and by what reads it",
                 s->method->name, text, out ? "exclude" : "include", some);
    }
    if (s->peer || !s->set->types)
        return ST_OK;
    for (int t = 0; t < SUBGRAPH_TYPES && s->set->types != SMOOTH_EVERY_TYPE; t++)
        if (s->set->types & ~s->there & 1u << t)
            tell(s, "%s: this model has no sub-graph of type %s", s->method->name, subgraph_name((SubgraphType)t));
    if (smooth_forward(s, -1))
        return ST_OK;
    return error_set(err, ST_DATA, "%s selects nothing: no sub-graph of this model has an enabled type and a name that the "
                     "patterns take, such as '%s'", s->method->name, some);
}

static Status select_all(Smooth *s, Error *err)
{
    Lists l;
    Status st = lists_init(&l, &s->set->names, err);
    const char *some = NULL;
    for (int u = 0; u < model_depth(s->m) && st == ST_OK; u++)
        st = select_unit(s, &l, u, &some, err);
    if (st == ST_OK)
        st = check_selection(s, &l, some ? some : "model.layers.0.input_layernorm", err);
    lists_fini(&l);
    return st;
}

static void drop_records(SmoothRecords *r)
{
    free(r->at);
    arena_free(&r->arena);
    *r = (SmoothRecords){.n = 0};
}

Status smooth_start(void **self, const ProcessorCtx *ctx, const SmoothMethod *m, Error *err)
{
    Smooth *s = mem_zarray(1, sizeof *s);
    if (!s)
        return error_nomem(err, m->name);
    *self = s;
    *s = (Smooth){.m = ctx->model, .work = ctx->work, .method = m, .set = ctx->step->settings, .peer = ctx->work->peer, .T = DT_F32,
                  .A = DT_F32, .unit = mem_zarray((size_t)model_depth(ctx->model), sizeof *s->unit)};
    return s->unit ? select_all(s, err) : error_nomem(err, m->name);
}

void smooth_end(void *self)
{
    Smooth *s = self;
    smooth_watch_fini(&s->watch);
    stream_fini(&s->input);
    drop_records(&s->records);
    arena_free(&s->arena);
    free(s->unit);
    free(s);
}

/* Whether it scales inputs at run time somewhere. */
unsigned smooth_more(const void *self)
{
    const Smooth *s = self;
    for (int u = 0; u < model_depth(s->m); u++)
        for (int i = 0; i < s->unit[u].n; i++)
            if (!s->unit[u].g[i].norm && s->unit[u].g[i].source < 0)
                return PROCESSOR_INPUTS;
    return 0;
}

bool smooth_forward(const void *self, int unit)
{
    const Smooth *s = self;
    for (int u = 0; unit < 0 && u < model_depth(s->m); u++)
        if (s->unit[u].n)
            return true;
    return unit >= 0 && s->unit[unit].n > 0;
}

/* ---- statistics ---- */

static void set_watch(const Smooth *s, SmoothWatch *w)
{
    *w = (SmoothWatch){.needs = s->method->needs, .ordered = s->peer, .T = s->A};
}

/* The taps of a sub-graph; the peer's is that of its first target. */
typedef struct Taps {
    int64_t first;
    const int64_t *linear;
    int n;
} Taps;
static void taps_of(const Model *m, bool peer, const Subgraph *g, Taps *t)
{
    t->first = m->linears[g->targets[0]].input;
    t->linear = peer ? &t->first : g->watch;
    t->n = peer ? 1 : g->nwatch;
}

/* Rows that a tap keeps: of a sub-graph's taps together no more than of one, of an expert fewer. */
static int64_t tap_tokens(const Smooth *s, const Taps *t)
{
    enum { EXPERT_TOKENS = 32 };
    int64_t most = s->peer ? 0 : s->method->tokens;
    bool expert = s->m->linears[t->linear[0]].expert >= 0;
    return most ? max_i64(1, min_i64(most / t->n, expert ? EXPERT_TOKENS : most)) : 0;
}

/* All of it, or the beginnings of texts, each with as many rows as attention needs to have something to look at. */
static Status take_input(Smooth *s, const UnitRun *u, Error *err)
{
    enum { FEWEST = 32 };
    int64_t tokens = s->peer ? 0 : s->method->tokens;
    int samples = unit_samples(u), n = tokens ? (int)min_i64(samples, max_i64(1, tokens / FEWEST)) : samples;
    stream_fini(&s->input);
    if (!(s->method->needs & SMOOTH_BLOCK_INPUTS) || !n)
        return ST_OK;
    return unit_beginnings(u, n, tokens ? tokens / n : INT64_MAX, &s->input, err);
}

/* What all of its calls are told. */
static SmoothCtx ctx_of(Smooth *s)
{
    return (SmoothCtx){.model = s->m, .settings = s->set, .peer = s->peer, .T = s->T, .A = s->A};
}

Status smooth_stage(void *self, UnitRun *u, FormStage stage, const FormTypes *t, Error *err)
{
    Smooth *s = self;
    const struct SmoothUnit *at = &s->unit[u->unit];
    if (stage != FORM_CALIBRATE || !at->n)
        return ST_OK;
    s->T = s->peer ? arith_dtype(runner_arith(u->runner), s->m->cfg.dtype) : DT_F32;
    s->A = s->peer ? t->inner : DT_F32;
    SmoothCtx c = ctx_of(s);
    c.overlay = u->overlay;
    overlay_round(u->overlay, s->T);
    RETURN_IF_ERROR(smooth_norms(&c, s->method, at->g, at->n, err));
    smooth_watch_fini(&s->watch);
    set_watch(s, &s->watch);
    s->watch.unit = u;
    RETURN_IF_ERROR(smooth_watch_init(&s->watch, u->first, u->n, err));
    for (int i = 0; i < at->n; i++) {
        Taps taps;
        taps_of(s->m, s->peer, &at->g[i], &taps);
        s->watch.most_tokens = tap_tokens(s, &taps);
        for (int k = 0; k < taps.n; k++)
            RETURN_IF_ERROR(smooth_watch_add(&s->watch, taps.linear[k], err));
    }
    RETURN_IF_ERROR(take_input(s, u, err));
    return unit_observe(u, smooth_watch_observer(&s->watch), err);
}

/* ---- what methods read of weights ---- */

typedef struct ColumnsJob {
    const float *w;
    int64_t rows, in;
    bool is_signed;
    float *out;
} ColumnsJob;
enum { COLUMNS_STEP = 256 };

static void columns_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const ColumnsJob *j = ctx;
    int64_t c0 = index * COLUMNS_STEP, c1 = min_i64(c0 + COLUMNS_STEP, j->in);
    for (int64_t r = 0; r < j->rows; r++)
        for (int64_t i = c0; i < c1; i++) {
            float v = j->is_signed ? j->w[r * j->in + i] : fabsf(j->w[r * j->in + i]);
            if (!(v <= j->out[i])) /* NaN stays */
                j->out[i] = isnan(j->out[i]) ? j->out[i] : v;
        }
}

Status smooth_columns(const SmoothCtx *c, const Subgraph *g, bool is_signed, float *out, Error *err)
{
    int64_t most = 0;
    for (int t = 0; t < g->ntargets; t++)
        most = max_i64(most, c->model->linears[g->targets[t]].out);
    float *w = mem_aligned((size_t)(most * g->width), sizeof *w);
    if (!w)
        return error_nomem(err, g->key);
    for (int64_t i = 0; i < g->width; i++)
        out[i] = -INFINITY;
    Status st = ST_OK;
    for (int t = 0; t < g->ntargets && st == ST_OK; t++) {
        int64_t ahead = t + 1 < g->ntargets ? g->targets[t + 1] : -1;
        st = runner_weight(c->runner, g->targets[t], ahead, w, err);
        ColumnsJob j = {w, c->model->linears[g->targets[t]].out, g->width, is_signed, out};
        if (st == ST_OK)
            pool_run(runner_pool(c->runner), PHASE_OTHER, div_up(g->width, COLUMNS_STEP), columns_task, &j,
                     runner_cancel(c->runner));
        if (st == ST_OK)
            st = cancel_check(runner_cancel(c->runner), err);
    }
    free(w);
    return st;
}

float smooth_pow(DType t, float x, double e)
{
    return round_to_dtype(powf(x, round_to_dtype((float)e, t)), t);
}

void smooth_share(const SmoothCtx *c, const OvShape *ov, const float *s, SmoothScale *out)
{
    int group = ov->heads / ov->kv_heads;
    for (int k = 0; k < ov->kv_heads; k++)
        for (int64_t i = 0; i < ov->head_dim; i++) {
            float sum = 0;
            for (int h = k * group; h < (k + 1) * group; h++)
                sum += s[h * ov->head_dim + i];
            out->source[k * ov->head_dim + i] = round_to_dtype(sum / (float)group, c->T);
        }
    for (int64_t h = 0; h < ov->heads; h++)
        memcpy(out->target + h * ov->head_dim, out->source + h / group * ov->head_dim,
               (size_t)ov->head_dim * sizeof *out->target);
}

/* ---- one sub-graph ---- */

/* What was promised comes, all the same: an input that nothing is known of is multiplied by 1. */
static Status leave(const SmoothCtx *c, const Subgraph *g, float *room, Error *err)
{
    Status st = ST_OK;
    for (int64_t i = 0; i < g->width; i++)
        room[i] = 1;
    for (int t = 0; t < g->ntargets && !subgraph_folds(g) && st == ST_OK; t++)
        st = overlay_input_scale(c->overlay, g->targets[t], room, err);
    return st;
}

Status smooth_apply(const SmoothCtx *c, const SmoothMethod *m, const SmoothWatch *w, const Subgraph *g, bool *applied,
                    Error *err)
{
    SmoothStats stats;
    float *own = NULL, *room = mem_array(3 * (size_t)g->width, sizeof *room);
    SmoothScale scale = {.target = room, .source = room + g->width, .shift = room + 2 * g->width};
    Taps taps;
    taps_of(c->model, c->peer, g, &taps);
    bool shift = smooth_shifts(c, g);
    *applied = false;
    if (!room)
        return error_nomem(err, g->key);
    Status st = smooth_watch_stats(w, taps.linear, taps.n, shift, &stats, &own, err);
    if (!shift)
        scale.shift = NULL;
    if (st == ST_OK && stats.rows) { /* else no token came by: it stays as it is */
        st = m->scale(c, g, &stats, &scale, err);
        *applied = st == ST_OK && !scale.none;
        if (*applied)
            st = smooth_fold(c, g, &scale, err);
    }
    if (st == ST_OK && !*applied)
        st = leave(c, g, room, err);
    free(own);
    free(room);
    return st;
}

static Status apply(Smooth *s, const SmoothCtx *c, const Subgraph *g, Error *err)
{
    bool applied;
    RETURN_IF_ERROR(smooth_apply(c, s->method, &s->watch, g, &applied, err));
    if (!applied && s->left++ == 0)
        s->first_left = s->m->linears[g->targets[0]].name;
    return ST_OK;
}

Status smooth_learn(void *self, UnitRun *u, Error *err)
{
    Smooth *s = self;
    const struct SmoothUnit *at = &s->unit[u->unit];
    SmoothCtx c = ctx_of(s);
    Status st = at->n ? smooth_watch_gather(&s->watch, err) : ST_OK;
    overlay_round(u->overlay, s->T);
    c.runner = u->runner;
    c.overlay = u->overlay;
    c.unit = u;
    c.input = &s->input;
    c.records = u->gives ? &s->records : NULL;
    drop_records(&s->records);
    for (int i = 0; i < at->n && st == ST_OK; i++)
        st = apply(s, &c, &at->g[i], err);
    Status why = st == ST_DATA ? smooth_blame(&c, &s->watch, at->g, at->n, err) : ST_OK;
    st = why == ST_OK ? st : why;
    smooth_watch_fini(&s->watch);
    stream_fini(&s->input);
    if (st == ST_OK && u->unit == s->last && s->left)
        tell(s, "%s: no token reached %d of the inputs%s, first that of '%s': their scales stay 1", s->method->name, s->left,
             s->peer ? ", or the original finds no scales for them" : "", s->first_left);
    return st;
}

/* ---- what files get of it ---- */

static Status promise_graph(const SmoothCtx *c, const SmoothMethod *m, const Subgraph *g, SaveChanges *to, Error *err)
{
    bool shifts = smooth_shifts(c, g);
    for (int t = 0; t < g->ntargets; t++) {
        if (shifts && !c->model->linears[g->targets[t]].bias)
            RETURN_IF_ERROR(save_changes_bias(to, g->targets[t], err));
        if (!subgraph_folds(g))
            RETURN_IF_ERROR(save_changes_input_scale(to, g->targets[t], err));
    }
    const TensorInfo *norm[] = {g->norm, g->norm2};
    for (int i = 0; i < 2 && (shifts || smooth_norm_biased(c, m, g)) && !g->norm_bias; i++)
        if (norm[i])
            RETURN_IF_ERROR(save_changes_norm_bias(to, norm[i], err));
    return ST_OK;
}

Status smooth_promise(void *self, DType inner, SavePlan *plan, Error *err)
{
    (void)inner;
    Smooth *s = self;
    const SmoothCtx c = ctx_of(s);
    if (smooth_forward(s, -1))
        save_changes_values(plan->changes);
    for (int u = 0; u < model_depth(s->m); u++)
        for (int i = 0; i < s->unit[u].n; i++)
            RETURN_IF_ERROR(promise_graph(&c, s->method, &s->unit[u].g[i], plan->changes, err));
    return ST_OK;
}

Status smooth_give(void *self, const UnitRun *u, const Gifts *to, Error *err)
{
    const Smooth *s = self;
    char key[300];
    for (size_t i = 0; i < s->records.n && to->debug; i++) {
        const SmoothRecord *r = &s->records.at[i];
        snprintf(key, sizeof key, "%s.%s", u->model->linears[r->linear].name, r->shift ? "shift" : "scales");
        const SaveDebug d = {.space = "smooth_scales", .key = key, .identity = r->values, .ndim = 2,
                             .shape = {r->rows ? r->n : 1, r->rows ? 1 : r->n}, .dtype = r->dtype, .values = r->values};
        RETURN_IF_ERROR(to->debug(to->self, &d, err));
    }
    return ST_OK;
}

/* ---- memory ---- */

static uint64_t input_bytes(const Smooth *s, const PassSize *size)
{
    int64_t most = s->peer ? 0 : s->method->tokens, rows = most ? min_i64(pass_rows(size), most) : pass_rows(size);
    return s->method->needs & SMOOTH_BLOCK_INPUTS
               ? (uint64_t)rows * (uint64_t)s->m->cfg.stream_width * sizeof(float) : 0;
}

/* Statistics of a unit's taps, those that may be open together as they are then; of experts one is. */
static uint64_t unit_bytes(const Smooth *s, const struct SmoothUnit *at, const PassSize *size)
{
    SmoothWatch w;
    uint64_t kept = 0, open = 0, weight = 0;
    set_watch(s, &w);
    for (int i = 0; i < at->n; i++) {
        const Subgraph *g = &at->g[i];
        Taps taps;
        taps_of(s->m, s->peer, g, &taps);
        w.most_tokens = tap_tokens(s, &taps);
        SmoothTapBytes b = smooth_tap_bytes(&w, g->width, size);
        bool experts = s->m->linears[taps.linear[0]].expert >= 0;
        kept += (uint64_t)taps.n * (experts ? b.kept : b.open);
        open = experts && b.open > open ? b.open : open;
        for (int t = 0; t < g->ntargets; t++)
            weight = max_u64(weight, (uint64_t)s->m->linears[g->targets[t]].out * (uint64_t)g->width * sizeof(float));
        if (s->method->bytes)
            weight = max_u64(weight, s->method->bytes(s->set, s->m, g, size, s->peer));
    }
    return kept + open + weight + input_bytes(s, size);
}

uint64_t smooth_bytes(const void *self, const PassSize *size)
{
    const Smooth *s = self;
    uint64_t most = 0;
    for (int u = 0; u < model_depth(s->m); u++)
        most = max_u64(most, unit_bytes(s, &s->unit[u], size));
    return most;
}
