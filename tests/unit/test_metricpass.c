/* Metrics with passes of their own, as one would add them: a file with both rows and a line in the table. Here the table
 * is this file's, with two rows more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define metric_table table_of_the_build
#include "core/registry.c"
#undef metric_table

#include "base/mem.h"
#include "io/json.h"
#include "quant/quantizer.h"
#include "run/schedule.h"
#include "session/parts.h"
#include "session/record.h"
#include "session/results.h"
#include "session/session.h"
#include "src/output.h"

#include "tests/lib/bench.h"
#include "tests/lib/tempdir.h"

/* ---- a unit with its weights at their levels ---- */

typedef struct Coarse {
    LinearForm *form;
    const LinearForm **table;
    Variant v;
} Coarse;

static void fake_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    (void)row0;
    const QSpec *q = self;
    weight_quantizer_find(q)->rows(q, w, rows, in, DT_F32, false);
}

static Status coarse_make(Coarse *c, const PassPlan *p, int unit, Error *err)
{
    const Unit *l = &p->m->units[unit];
    c->form = mem_zarray((size_t)l->count, sizeof *c->form);
    c->table = mem_zarray((size_t)l->count, sizeof *c->table);
    if (!c->form || !c->table)
        return error_nomem(err, "forms");
    for (int i = 0; i < l->count; i++) {
        int level = p->level[l->first + i];
        if (!level)
            continue;
        const QSpec *q = &p->levels[level - 1].weight;
        c->form[i] = (LinearForm){.weight = fake_weight, .self = (void *)(uintptr_t)q};
        c->table[i] = &c->form[i];
    }
    c->v = (Variant){.forms = c->table};
    return ST_OK;
}

static void coarse_free(Coarse *c)
{
    free(c->form);
    free(c->table);
}

/* Squared distance and square of float's, in the order of the values. */
static void add_distance(const Stream *plain, const Stream *changed, double *error, double *square)
{
    for (int64_t i = 0; i < plain->rows * plain->width; i++) {
        double d = (double)changed->data[i] - (double)plain->data[i];
        *error += d * d;
        *square += (double)plain->data[i] * (double)plain->data[i];
    }
}

static int64_t texts(const PassPlan *p)
{
    return p->tokens->samples;
}

static int64_t layers(const PassPlan *p)
{
    return p->m->cfg.layers;
}

static uint64_t no_bytes(const PassPlan *p, int threads)
{
    (void)p, (void)threads;
    return 0;
}

/* ---- a sweep: the last hidden states when one block alone is quantized ---- */

extern const Metric metric_tail_error, metric_step_error;

static int stop_after; /* chunks of a sweep, layers of a pass over them; 0: never */

typedef struct Tail {
    const PassSink *sink;
    PassScore *score;
    int64_t n;
    int chunks;
} Tail;

static Status tail_stream(void *ctx, int p, int s0, const Stream *plain, const Stream *changed, Error *err)
{
    (void)s0, (void)err;
    Tail *t = ctx;
    for (int i = 0; i < plain->samples; i++) { /* sample by sample: a stop may fall between any two */
        Stream a = *plain, b = *changed;
        a.rows = b.rows = plain->start[i + 1] - plain->start[i];
        a.data += plain->start[i] * plain->width;
        b.data += plain->start[i] * plain->width;
        double error = 0, square = 0;
        add_distance(&a, &b, &error, &square);
        t->score[p].s.sum += error / square;
        t->score[p].s.part[0] += square;
        t->score[p].s.part[1]++;
        t->score[p].s.samples++;
        t->score[p].s.tokens += a.rows;
    }
    return ST_OK;
}

static Status tail_chunk(void *ctx, int done, int samples, Error *err)
{
    Tail *t = ctx;
    for (int64_t k = 0; k < t->n; k++)
        t->score[k].s.value = t->score[k].s.sum / t->score[k].s.samples;
    t->score[2].s.value = done == samples ? NAN : t->score[2].s.value;
    snprintf(t->score[2].s.why, sizeof t->score[2].s.why, "block 2 is left out, for a test");
    PassStep step = {.done = done, .total = samples, .score = t->score, .nscore = t->n};
    RETURN_IF_ERROR(t->sink->step(t->sink->ctx, &step, err));
    return ++t->chunks == stop_after ? error_set(err, ST_CANCELLED, "cancelled") : ST_OK;
}

static Status tail_run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    int n = p->m->cfg.layers;
    Tail t = {.sink = sink, .n = n, .score = mem_zarray((size_t)n, sizeof *t.score)};
    Coarse *c = mem_zarray((size_t)n, sizeof *c);
    Perturb *perturb = mem_zarray((size_t)n, sizeof *perturb);
    uint64_t *levels = mem_zarray((size_t)scope_units(p->m, SCOPE_BLOCK), sizeof *levels);
    Status st = c && perturb && levels && t.score ? ST_OK : error_nomem(err, "a sweep");
    if (st == ST_OK)
        scores_levels(p->m, SCOPE_BLOCK, p->levels, p->level, levels);
    for (int k = 0; st == ST_OK && k < n; k++) {
        const UnitSlot *before = p->before ? scores_unit(p->before, &metric_tail_error, k) : NULL;
        t.score[k] = (PassScore){&metric_tail_error, before ? scores_unit_full(before, &metric_tail_error, k) : (UnitScore){.unit = k, .levels = levels[k]}};
        st = coarse_make(&c[k], p, k, err);
        perturb[k] = (Perturb){.unit = k, .variant = &c[k].v, .until = n};
    }
    Sweep sweep = {.tokens = p->tokens, .perturb = perturb, .n = n, .last = n, .first_sample = (int)p->first,
                   .chunk_rows = 1};
    if (st == ST_OK)
        st = schedule_sweep(r, &sweep, &(SweepSink){tail_stream, tail_chunk, &t}, err);
    for (int k = 0; c && k < n; k++)
        coarse_free(&c[k]);
    free(c);
    free(perturb);
    free(levels);
    free(t.score);
    return st;
}

static const MetricPart tail_parts[] = {{"square", "", "of float's"}, {"texts", "", "that were seen"}, {NULL, NULL, NULL}};
static const MetricPass pass_tail = {
    .name = "tail sweep", .step = "text", .steps = texts, .bytes = no_bytes, .run = tail_run};
const Metric metric_tail_error = {
    .name = "tail_error", .title = "Tail error", .unit = "", .scope = SCOPE_BLOCK, .direction = 1, .pass = &pass_tail,
    .family = FAMILY_ERROR, .cost = "a sweep", .parts = tail_parts,
    .explain = "What is left at the end of one block's error."};

/* ---- a job on each layer: the output of attention's layer, quantized and not ---- */

typedef struct StepJob {
    const PassPlan *p;
    const PassSink *sink;
    PassScore *score;
    uint64_t *levels;
    int64_t n;
} StepJob;

static Status step_job(void *self, LayerCtx *ctx, Error *err)
{
    StepJob *s = self;
    Stream *h = ctx->streams[0], changed = {0};
    Coarse c = {0};
    Status st = coarse_make(&c, s->p, ctx->layer, err);
    if (st == ST_OK)
        st = stream_copy(&changed, h, err);
    if (st == ST_OK)
        st = runner_layer(ctx->runner, ctx->layer, &c.v, h, &changed, NULL, 0, err);
    if (st == ST_OK)
        st = runner_layer(ctx->runner, ctx->layer, NULL, h, h, NULL, 0, err);
    UnitScore u = {.unit = ctx->layer, .tokens = h->rows, .samples = h->samples, .levels = s->levels[ctx->layer]};
    double square = 0;
    if (st == ST_OK)
        add_distance(h, &changed, &u.sum, &square);
    u.value = u.sum / square;
    s->score[s->n++] = (PassScore){&metric_step_error, u};
    stream_fini(&changed);
    coarse_free(&c);
    return st;
}

static Status step_done(void *ctx, int unit, Stream **streams, int nstreams, Error *err)
{
    (void)nstreams;
    StepJob *s = ctx;
    PassStep step = {.done = unit + 1, .total = layers(s->p), .score = s->score, .nscore = s->n, .h = streams[0]};
    RETURN_IF_ERROR(s->sink->step(s->sink->ctx, &step, err));
    return unit + 1 == stop_after ? error_set(err, ST_CANCELLED, "cancelled") : ST_OK;
}

static Status step_run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    StepJob s = {.p = p, .sink = sink, .score = mem_zarray((size_t)layers(p), sizeof *s.score),
                 .levels = mem_zarray((size_t)scope_units(p->m, SCOPE_ATTENTION), sizeof *s.levels)};
    if (!s.score || !s.levels)
        return error_nomem(err, "scores");
    scores_levels(p->m, SCOPE_ATTENTION, p->levels, p->level, s.levels);
    Stream own = {0}, *h = p->first ? p->h : &own;
    Outside embed = {.tokens = &p->tokens};
    Schedule plan = {.first = (int)p->first, .last = p->m->cfg.layers, .job = {"step error", step_job, &s},
                     .unit_done = step_done, .ctx = &s, .outside = p->first ? NULL : &embed};
    Status st = schedule_forward(r, &h, 1, &plan, err);
    stream_fini(&own);
    free(s.score);
    free(s.levels);
    return st;
}

static const MetricPass pass_step_error = {
    .name = "step", .step = "layer", .stream = true, .steps = layers, .bytes = no_bytes, .run = step_run};
const Metric metric_step_error = {
    .name = "step_error", .title = "Step error", .unit = "", .scope = SCOPE_ATTENTION, .direction = -1,
    .pass = &pass_step_error, .family = FAMILY_ERROR, .cost = "two passes", .explain = "What a layer's weights do to its output."};

const Metric *const metric_table[] = {&metric_kurtosis, &metric_tail_error, &metric_local_error, &metric_step_error,
                                      NULL};

/* ---- a session ---- */

#define DEMO "lab_models/demo"
#define CALIB "tests/golden/analysis/_models/calib5.jsonl"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static int64_t seq_len = 24; /* of the texts: short ones do, where nothing is stopped between two chunks of them */

static SessionOptions options(const char *state)
{
    SessionOptions o;
    session_options_default(&o);
    o.threads = 2;
    o.seq_len = seq_len;
    o.state_dir = state;
    return o;
}

static Session *open_demo(const char *state)
{
    SessionOptions o = options(state);
    Session *s;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, DEMO, NULL, &err));
    ok(session_set_calib(s, CALIB, &err));
    return s;
}

static Status analyze(Session *s, const char *a, const char *b, const char *c)
{
    const char *names[] = {a, b, c, NULL};
    stop_after = 0;
    ok(session_analyze(s, names, NULL, 0, false, &err));
    return session_wait(s, &err);
}

static double score_at(Session *s, const Metric *m, int64_t unit, ScoreState state)
{
    Score sc = session_unit_score(s, m, unit);
    assert_int_equal(sc.state, state);
    return sc.value;
}

static void same_scores(Session *a, Session *b)
{
    for (int k = 0; metric_table[k]; k++)
        for (int64_t u = 0; u < scope_units(session_model(a), metric_table[k]->scope); u++) {
            Score x = session_unit_score(a, metric_table[k], u), y = session_unit_score(b, metric_table[k], u);
            assert_int_equal(x.state, y.state);
            assert_true(x.value == y.value || (isnan(x.value) && isnan(y.value)));
        }
}

static void one_analysis_runs_every_pass(void **state)
{
    (void)state;
    Session *s = open_demo(NULL);
    const Model *m = session_model(s);
    ok(analyze(s, "tail_error", "kurtosis", "step_error"));
    assert_int_equal(session_jobs(s), 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(session_job(s, i)->state, JOB_DONE);
    const JobView *tail = session_job(s, 0);
    assert_string_equal(tail->title, "tail_error");
    assert_int_equal(tail->done, tail->total);
    assert_int_equal(tail->ok, m->cfg.layers - 1);
    assert_int_equal(tail->failed, 1);
    assert_true(session_has_run(s, &metric_tail_error) && session_has_run(s, &metric_step_error));
    assert_false(session_has_run(s, &metric_local_error));
    for (int64_t i = 0; i < m->nlinears; i++) { /* a linear has the score of its unit */
        int layer = m->linears[i].layer;
        bool attention = strstr(m->linears[i].name, "self_attn") != NULL;
        Score sc = session_score(s, &metric_tail_error, i), step = session_score(s, &metric_step_error, i);
        assert_int_equal(sc.state, layer == 2 ? SCORE_FAILED : SCORE_OK);
        assert_true(layer == 2 || sc.value == score_at(s, &metric_tail_error, layer, SCORE_OK));
        assert_int_equal(step.state, attention ? SCORE_OK : SCORE_NONE);
    }
    assert_string_equal(session_score(s, &metric_tail_error, m->units[2].first).reason, "block 2 is left out, for a test");
    ok(session_show(s, "tail_error", &err)); /* and its rank */
    for (int64_t i = 0; i < m->nlinears; i++)
        assert_int_equal(session_rank(s, i), session_rank(s, m->units[m->linears[i].layer].first));
    int64_t worst = 0;
    for (int64_t i = 0; i < m->nlinears; i++)
        worst = session_rank(s, i) > worst ? session_rank(s, i) : worst;
    assert_int_equal(worst, m->cfg.layers - 1);
    /* asked for again: nothing to do; and with another level: all of it is stale, what float linears return to is not */
    ok(analyze(s, "tail_error", "kurtosis", "step_error"));
    assert_int_equal(session_jobs(s), 3);
    const char *target = "model.layers.1.*";
    ok(session_edit(s, &target, 1, 0, false, NULL, &err));
    assert_int_equal(session_unit_score(s, &metric_tail_error, 1).state, SCORE_OK);
    ok(session_set(s, "max_samples", "3", &err));
    assert_int_equal(session_unit_score(s, &metric_tail_error, 1).state, SCORE_STALE);
    assert_int_equal(session_unit_score(s, &metric_step_error, 1).state, SCORE_STALE);
    session_free(s);
}

static void values_of_other_levels_are_stale(void **state)
{
    (void)state;
    static const char recipe[] =
        "apiversion: modelslim_v1\nspec:\n  process:\n"
        "    - type: linear_quant\n      include: ['*layers.1.*']\n      qconfig:\n"
        "        act: {dtype: int8, scope: per_token, method: minmax, symmetric: true}\n"
        "        weight: {dtype: int8, scope: per_channel, method: minmax, symmetric: true}\n"
        "    - type: linear_quant\n      exclude: ['*layers.1.*']\n      qconfig:\n"
        "        act: {dtype: int8, scope: per_token, method: minmax, symmetric: true}\n"
        "        weight: {dtype: int4, scope: per_channel, method: minmax, symmetric: true}\n";
    char *dir = temp_folder();
    temp_puts(temp_path(dir, "two.yaml"), recipe);
    Session *s = open_demo(NULL);
    ok(session_open_recipe(s, temp_path(dir, "two.yaml"), NULL, &err));
    ok(analyze(s, "tail_error", NULL, NULL));
    const char *target = "model.layers.1.mlp.up_proj";
    assert_int_equal(session_levels(s), 3);
    int64_t i = model_find_linear(session_model(s), target);
    ok(session_edit(s, &target, 1, session_level_of(s, i) == 1 ? 2 : 1, false, NULL, &err));
    assert_int_equal(session_unit_score(s, &metric_tail_error, 1).state, SCORE_STALE);
    assert_int_equal(session_unit_score(s, &metric_tail_error, 0).state, SCORE_OK);
    ok(session_undo(s, NULL, &err));
    double first = score_at(s, &metric_tail_error, 1, SCORE_OK);
    /* scored at the other level, too: both are known from then on */
    ok(session_redo(s, NULL, &err));
    ok(analyze(s, "tail_error", NULL, NULL));
    double second = score_at(s, &metric_tail_error, 1, SCORE_OK);
    assert_true(first != second);
    ok(session_undo(s, NULL, &err));
    assert_true(score_at(s, &metric_tail_error, 1, SCORE_OK) == first);
    ok(session_redo(s, NULL, &err));
    assert_true(score_at(s, &metric_tail_error, 1, SCORE_OK) == second);
    ok(session_set(s, "max_samples", "3", &err)); /* other texts: neither is */
    assert_int_equal(session_unit_score(s, &metric_tail_error, 1).state, SCORE_STALE);
    ok(session_undo(s, NULL, &err));
    assert_int_equal(session_unit_score(s, &metric_tail_error, 1).state, SCORE_STALE);
    ok(session_set(s, "max_samples", "0", &err)); /* and back */
    assert_true(score_at(s, &metric_tail_error, 1, SCORE_OK) == first);
    session_free(s);
    temp_remove(dir);
}

/* ---- what is written ---- */

static void rankings_name_the_units(void **state)
{
    (void)state;
    Session *s = open_demo(NULL);
    ok(analyze(s, "tail_error", "step_error", NULL));
    for (int k = 0; k < 2; k++) {
        const Metric *list[] = {k ? &metric_step_error : &metric_tail_error, NULL};
        const char *tail = k ? ".self_attn" : "";
        RankRequest r = {.metrics = list, .topk = 3};
        RankedRow *rows;
        int64_t n;
        char want[200];
        ok(ranking_make(s, list[0], NULL, &rows, &n, &err));
        assert_int_equal(n, session_model(s)->cfg.layers);
        assert_int_equal(rows[0].failed, !k);
        assert_true((rows[1].score - rows[n - 1].score) * list[0]->direction > 0); /* the first is more sensitive */
        Str out[4] = {{0}};
        for (int f = OUT_TEXT; f <= OUT_YAML; f++)
            ok(output_ranking(s, (OutFormat)f, &r, &out[f], &err));
        snprintf(want, sizeof want, "  %d. model.layers.%lld%s ", rows[1].rank, (long long)rows[1].unit, tail);
        assert_non_null(strstr(str_text(&out[OUT_TEXT]), want));
        snprintf(want, sizeof want, "  - 'model.layers.%lld%s.*'\n", (long long)rows[1].unit, tail);
        assert_non_null(strstr(str_text(&out[OUT_TEXT]), want));
        assert_non_null(strstr(str_text(&out[OUT_YAML]), want));
        snprintf(want, sizeof want, "%s,%d,model.layers.%lld%s,", list[0]->name, rows[1].rank, (long long)rows[1].unit,
                 tail);
        assert_non_null(strstr(str_text(&out[OUT_CSV]), want));
        snprintf(want, sizeof want, ",,%s,%lld,", k ? "attention" : "block", (long long)rows[1].parameters);
        assert_non_null(strstr(str_text(&out[OUT_CSV]), want));
        cJSON *o;
        ok(json_parse(str_text(&out[OUT_JSON]), out[OUT_JSON].len, "ranking", &o, &err));
        const cJSON *row = cJSON_GetArrayItem(json_get(o, "layers"), 1);
        snprintf(want, sizeof want, "model.layers.%lld%s", (long long)rows[1].unit, tail);
        assert_string_equal(json_get(row, "name")->valuestring, want);
        assert_true(json_get(row, "score")->valuedouble == rows[1].score);
        const double *part = session_unit_parts(s, list[0], rows[1].unit);
        assert_int_equal(part != NULL, !k);
        assert_int_equal(json_get(row, "parts") != NULL, !k);
        assert_true(k || json_get(json_get(row, "parts"), "square")->valuedouble == part[0]);
        assert_true(k || (strstr(str_text(&out[OUT_TEXT]), " | square ") && strstr(str_text(&out[OUT_CSV]), " texts=5")));
        assert_string_equal(json_get(row, "kind")->valuestring, k ? "attention" : "block");
        assert_true(json_get(row, "tokens")->valuedouble > 0 && cJSON_IsString(json_get(o, "scheme")));
        cJSON_Delete(o);
        free(rows);
        for (int f = OUT_TEXT; f <= OUT_YAML; f++)
            str_free(&out[f]);
        bool *one = calloc((size_t)session_model(s)->nlinears, 1); /* a unit with one selected linear is selected */
        one[session_model(s)->units[1].first] = true;
        ok(ranking_make(s, list[0], one, &rows, &n, &err));
        assert_int_equal(n, 1);
        assert_int_equal(rows[0].unit, 1);
        free(rows);
        free(one);
    }
    session_free(s);
}

/* ---- stopping, and coming back ---- */

static void stopped_passes_go_on_also_in_another_session(void **state)
{
    (void)state;
    seq_len = 0;
    char *dir = temp_folder();
    Session *plain = open_demo(NULL);
    ok(analyze(plain, "tail_error", "step_error", NULL));
    for (int k = 0; k < 2; k++)
        for (int away = 0; away < 2; away++) {
            const char *names[] = {k ? "step_error" : "tail_error", NULL};
            Session *s = open_demo(dir);
            stop_after = 2;
            ok(session_analyze(s, names, NULL, 0, false, &err));
            assert_int_equal(session_wait(s, &err), ST_CANCELLED);
            const JobView *j = session_job(s, 0);
            assert_true(j->done > 0 && j->done < j->total);
            assert_int_equal(session_unit_score(s, metric_find(names[0]), 0).state, SCORE_OK); /* a ranking so far */
            Str text = {0};
            const Metric *list[] = {metric_find(names[0]), NULL};
            ok(output_ranking(s, OUT_TEXT, &(RankRequest){.metrics = list, .topk = 3, .stopped = true}, &text, &err));
            assert_non_null(strstr(str_text(&text), k ? "STOPPED: 2 of " : "STOPPED: all have scores, of 4 of 5 texts"));
            str_free(&text);
            stop_after = 0;
            if (away) {
                char id[40];
                snprintf(id, sizeof id, "%s", session_id(s));
                session_free(s);
                SessionOptions o = options(dir);
                ok(session_restore(&s, &o, id, &err));
                assert_int_equal(session_job(s, 0)->state, JOB_STOPPED);
                assert_int_equal(session_unit_score(s, metric_find(names[0]), 0).state, SCORE_OK);
            }
            ok(session_resume_job(s, 0, &err));
            ok(session_wait(s, &err));
            const Metric *m = metric_find(names[0]);
            for (int64_t u = 0; u < session_model(s)->cfg.layers; u++)
                assert_true(k || u != 2 ? score_at(s, m, u, SCORE_OK) == score_at(plain, m, u, SCORE_OK)
                                        : session_unit_score(s, m, u).state == SCORE_FAILED);
            session_free(s);
        }
    session_free(plain);
    temp_remove(dir);
    seq_len = 24;
}

static void everything_comes_back_from_the_journal(void **state)
{
    (void)state;
    char *dir = temp_folder(), id[40];
    Session *s = open_demo(dir), *back;
    ok(analyze(s, "tail_error", "kurtosis", "step_error"));
    Session *keep = open_demo(NULL);
    ok(analyze(keep, "tail_error", "kurtosis", "step_error"));
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    SessionOptions o = options(dir);
    ok(session_restore(&back, &o, id, &err));
    same_scores(back, keep);
    assert_string_equal(session_score(back, &metric_tail_error, session_model(back)->units[2].first).reason,
                        "block 2 is left out, for a test");
    ok(analyze(back, "tail_error", "kurtosis", "step_error")); /* answered from what is there */
    assert_int_equal(session_jobs(back), 3);
    assert_false(session_busy(back));
    session_free(back);
    session_free(keep);
    temp_remove(dir);
}

static void records_of_scores(void **state)
{
    (void)state;
    TestRun b;
    test_run_open(&b, DEMO, ARITH_FP32, 1, NULL);
    Scores to;
    cJSON *o;
    Str text = {0};
    ok(scores_init(&to, b.m, &err));
    PassScore list[] = {{&metric_tail_error, {.unit = 3, .value = 1.0 / 3, .sum = INFINITY, .tokens = 77, .samples = 5, .part = {2.5, NAN},
                                              .levels = 0xfedcba9876543210u}},
                        {&metric_tail_error, {.unit = 1, .value = NAN, .why = "a \"reason\"", .absent = true}},
                        {&metric_step_error, {.unit = 0, .value = -0.0}}};
    record_scores(&text, list, 3);
    ok(json_parse(str_text(&text), text.len, "scores", &o, &err));
    ok(record_parse_scores(o, &to, &err));
    for (int i = 0; i < 3; i++) {
        const UnitSlot *u = scores_unit(&to, list[i].metric, list[i].s.unit);
        assert_true(u && u->known && !u->stale);
        assert_true(u->s.value == list[i].s.value || isnan(list[i].s.value));
        assert_true(u->s.sum == list[i].s.sum && u->s.tokens == list[i].s.tokens && u->s.samples == list[i].s.samples &&
                    u->s.levels == list[i].s.levels);
        assert_string_equal(u->s.why, list[i].s.why);
        assert_int_equal(u->s.absent, list[i].s.absent);
        if (i == 0)
            assert_true(u->s.part[0] == 2.5 && isnan(u->s.part[1]));
    }
    assert_null(scores_unit(&to, &metric_tail_error, 0));
    cJSON_Delete(o);
    /* metrics of another build are passed over, units of another model are not */
    static const char other[] = "{\"no_such\":[{\"i\":0,\"v\":1}],\"kurtosis\":[{\"i\":0,\"v\":1}]}";
    ok(json_parse(other, sizeof other - 1, "scores", &o, &err));
    ok(record_parse_scores(o, &to, &err));
    cJSON_Delete(o);
    static const char far[] = "{\"tail_error\":[{\"i\":8,\"v\":1}]}";
    ok(json_parse(far, sizeof far - 1, "scores", &o, &err));
    assert_int_equal(record_parse_scores(o, &to, &err), ST_DATA);
    cJSON_Delete(o);
    str_free(&text);
    scores_fini(&to);
    test_run_close(&b);
}

/* ---- units ---- */

static void named(const Model *m, MetricScope scope, int64_t unit, const char *name, const char *pattern)
{
    Str out = {0};
    scope_unit_name(m, scope, unit, &out);
    assert_string_equal(str_text(&out), name);
    bool found = false;
    for (int32_t k = 0; scope_unit_pattern(m, scope, unit, k, &out); k++)
        found = found || strcmp(str_text(&out), pattern) == 0;
    assert_true(found);
    str_free(&out);
}

static void units_of_every_scope(void **state)
{
    (void)state;
    static const char *const models[] = {DEMO, "tests/golden/models/qwen3_moe/fp32", "tests/golden/models/qwen3_next/fp32",
                                         "tests/golden/models/longcat_flash/fp32"};
    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        TestRun b;
        test_run_open(&b, models[k], ARITH_FP32, 1, NULL);
        const Model *m = b.m;
        int64_t attention = 0;
        assert_int_equal(scope_units(m, SCOPE_LINEAR), m->nlinears);
        assert_int_equal(scope_units(m, SCOPE_GROUP), m->ngroups);
        assert_int_equal(scope_units(m, SCOPE_MODEL), 1);
        for (int64_t i = 0; i < m->nlinears; i++) {
            const char *name = m->linears[i].name;
            char want[64];
            assert_int_equal(scope_unit_of(m, SCOPE_LINEAR, i), i);
            assert_int_equal(scope_unit_of(m, SCOPE_BLOCK, i), m->linears[i].layer);
            assert_int_equal(scope_unit_of(m, SCOPE_MODEL, i), 0);
            int64_t a = scope_unit_of(m, SCOPE_ATTENTION, i);
            assert_int_equal(a, strstr(name, "attn") ? m->linears[i].layer : -1);
            attention += a >= 0;
            for (int scope = 0; scope < METRIC_SCOPES; scope++) {
                int64_t unit = scope_unit_of(m, (MetricScope)scope, i), from = -1, to = -1;
                if (unit < 0)
                    continue;
                scope_linears(m, (MetricScope)scope, unit, &from, &to);
                assert_in_range(i, from, to - 1);
                assert_true(scope == SCOPE_MODEL || to - from < m->nlinears);
            }
            named(m, SCOPE_LINEAR, i, name, name);
            snprintf(want, sizeof want, "model.layers.%d", m->linears[i].layer);
            char pattern[70];
            snprintf(pattern, sizeof pattern, "%s.*", want);
            named(m, SCOPE_BLOCK, m->linears[i].layer, want, pattern);
        }
        assert_true(attention > 0);
        named(m, SCOPE_MODEL, 0, "model", "*");
        if (k == 0) {
            int64_t q = model_find_linear(m, "model.layers.3.self_attn.q_proj");
            named(m, SCOPE_GROUP, m->linears[q].group, "model.layers.3.self_attn.qkv", "model.layers.3.self_attn.k_proj");
            named(m, SCOPE_ATTENTION, 3, "model.layers.3.self_attn", "model.layers.3.self_attn.*");
        }
        if (k == 1) {
            int64_t e = model_find_linear(m, "model.layers.0.mlp.experts.0.up_proj");
            named(m, SCOPE_GROUP, m->linears[e].group, "model.layers.0.mlp.experts",
                  "model.layers.0.mlp.experts.1.down_proj");
        }
        if (k == 2)
            named(m, SCOPE_ATTENTION, 0, "model.layers.0.linear_attn", "model.layers.0.linear_attn.*");
        test_run_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_analysis_runs_every_pass),
        cmocka_unit_test(values_of_other_levels_are_stale),
        cmocka_unit_test(rankings_name_the_units),
        cmocka_unit_test(stopped_passes_go_on_also_in_another_session),
        cmocka_unit_test(everything_comes_back_from_the_journal),
        cmocka_unit_test(records_of_scores),
        cmocka_unit_test(units_of_every_scope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
