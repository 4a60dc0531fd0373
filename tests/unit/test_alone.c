/* What a unit does to the model's output: block_error and the sweeps, held against measurements and plain loops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "measure/logitpass.h"
#include "measure/shiftpass.h"
#include "measure/spread.h"
#include "metric/metric.h"
#include "metric/rows.h"
#include "quant/quantizer.h"
#include "session/session.h"

#include "tests/lib/bench.h"
#include "tests/lib/tempdir.h"

#define DEMO "lab_models/demo"
#define CALIB "tests/golden/analysis/_models/calib5.jsonl"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static Session *open_model(const char *model, const char *state)
{
    SessionOptions o;
    session_options_default(&o);
    o.threads = 2;
    o.state_dir = state;
    o.seq_len = 64;
    o.eval_tokens = 128;
    o.ctx = 64;
    Session *s;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, model, NULL, &err));
    ok(session_set_calib(s, CALIB, &err));
    ok(session_set_eval(s, CALIB, &err));
    return s;
}

static Session *open_demo(const char *state)
{
    return open_model(DEMO, state);
}

static void analyze(Session *s, const char *metric, const char *pattern)
{
    const char *names[] = {metric, NULL};
    ok(session_analyze(s, names, &pattern, pattern != NULL, false, &err));
    ok(session_wait(s, &err));
}

/* ---- the sweep against the measurement of the same thing ---- */

static void only_group(Session *s, int64_t group)
{
    const char *all = "*", *one[16];
    const FusedGroup *g = &session_model(s)->groups[group];
    for (int k = 0; k < g->count; k++)
        one[k] = session_model(s)->linears[group_linear(g, k)].name;
    ok(session_edit(s, &all, 1, 0, false, NULL, &err));
    ok(session_edit(s, one, g->count, 0, true, NULL, &err));
}

static void exact_is_what_measuring_finds(void **state)
{
    (void)state;
    Session *s = open_demo(NULL);
    analyze(s, "alone_exact", NULL);
    int64_t groups = scope_units(session_model(s), SCOPE_GROUP);
    for (int64_t g = 0; g < groups; g += 5) {
        only_group(s, g);
        ok(session_measure(s, false, &err));
        ok(session_wait(s, &err));
        const Effect *e = session_effect(s, NULL);
        Score sc = session_unit_score(s, &metric_alone_exact, g);
        assert_int_equal(sc.state, SCORE_OK);
        assert_true(fabs(sc.value - e->kl_mean) <= 1e-4 * e->kl_mean + 1e-7);
        const double *part = session_unit_parts(s, &metric_alone_exact, g);
        assert_true(fabs(part[1] - e->ppl_change) < 1e-5);
        assert_true(part[0] > 0 && part[0] < sc.value);
        assert_int_equal(session_unit_tokens(s, &metric_alone_exact, g), 128);
    }
    session_free(s);
}

static void units_of_other_scopes(void **state)
{
    (void)state;
    Session *s = open_demo(NULL);
    const Model *m = session_model(s);
    analyze(s, "alone", NULL);
    analyze(s, "alone_linear", "model.layers.1.*");
    analyze(s, "alone_block", NULL);
    double sum = 0;
    for (int64_t i = 0; i < m->nlinears; i++) { /* a group of one linear is that linear */
        Score linear = session_unit_score(s, &metric_alone_linear, i);
        Score group = session_unit_score(s, &metric_alone, m->linears[i].group);
        assert_int_equal(linear.state, m->linears[i].layer == 1 ? SCORE_OK : SCORE_NONE);
        assert_int_equal(group.state, SCORE_OK);
        if (linear.state == SCORE_OK && m->groups[m->linears[i].group].count == 1)
            assert_true(fabs(linear.value - group.value) <= 1e-6 * group.value + 1e-12);
        if (linear.state == SCORE_OK)
            sum += linear.value;
    }
    Score block = session_unit_score(s, &metric_alone_block, 1);
    assert_true(block.value > sum / 3 && block.value < sum * 3);
    session_free(s);
}

/* More tokens replace fewer, and what is known is not done again. */
static void rows_sharpen(void **state)
{
    (void)state;
    Session *s = open_demo(NULL);
    const char *pattern = "model.layers.2.*";
    analyze(s, "alone", pattern);
    assert_int_equal(session_unit_tokens(s, &metric_alone, session_model(s)->linears[session_model(s)->units[2].first].group),
                     128);
    int jobs = session_jobs(s);
    analyze(s, "alone", pattern);
    assert_int_equal(session_jobs(s), jobs);
    ok(session_set(s, "tokens", "300", &err));
    analyze(s, "alone", pattern);
    assert_int_equal(session_jobs(s), jobs + 1);
    assert_int_equal(session_unit_tokens(s, &metric_alone, session_model(s)->linears[session_model(s)->units[2].first].group),
                     300);
    analyze(s, "alone", NULL); /* the rest */
    const JobView *v = session_job(s, session_jobs(s) - 1);
    assert_int_equal(v->done, v->total);
    session_free(s);
}

/* ---- block_error against plain loops ---- */


static void fake_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    (void)self, (void)row0;
    for (int64_t r = 0; r < rows; r++) {
        float most = 0;
        for (int64_t i = 0; i < in; i++)
            most = fmaxf(most, fabsf(w[r * in + i]));
        float scale = most / 127;
        for (int64_t i = 0; i < in; i++)
            w[r * in + i] = scale > 0 ? rintf(w[r * in + i] / scale) * scale : 0;
    }
}

static void fake_act(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    (void)self, (void)sample;
    for (int64_t r = 0; r < rows; r++) {
        float most = 0;
        for (int64_t i = 0; i < in; i++)
            most = fmaxf(most, fabsf(x[r * ld + i]));
        float scale = most / 127;
        for (int64_t i = 0; i < in; i++)
            out[r * in + i] = scale > 0 ? rintf(x[r * ld + i] / scale) * scale : 0;
    }
}

/* rows of h through the final norm, by its definition. */
static double *norm_rows(const Model *m, const Checkpoint *c, const Stream *h)
{
    float *w = test_tensor(c, m->exit.norm);
    double *out = malloc((size_t)(h->rows * h->width) * sizeof *out);
    for (int64_t t = 0; t < h->rows; t++) {
        double square = 0;
        for (int64_t i = 0; i < h->width; i++)
            square += (double)h->data[t * h->width + i] * (double)h->data[t * h->width + i];
        for (int64_t i = 0; i < h->width; i++)
            out[t * h->width + i] = (double)h->data[t * h->width + i] / sqrt(square / (double)h->width + m->cfg.eps) *
                                    (double)w[i];
    }
    free(w);
    return out;
}

/* What drawing blocks of 16 tokens again and again says of the mean error a token. */
static double drawn_error(const double *plain, const double *changed, const Stream *h)
{
    UnitSums u;
    int n = 0;
    ok(unit_sums_init(&u, (int)h->rows, &err));
    for (int s = 0; s < h->samples; s++)
        for (int64_t t = h->start[s]; t < h->start[s + 1]; t++) {
            n += (t - h->start[s]) % 16 == 0;
            u.count[n - 1]++;
            for (int64_t k = t * h->width; k < (t + 1) * h->width; k++)
                u.sum[n - 1] += (changed[k] - plain[k]) * (changed[k] - plain[k]);
        }
    u.units = n;
    double drawn = unit_sums_error(&u, 7) * sqrt(n / (n - 1.0)); /* drawing counts the spread of n values as one of n */
    unit_sums_fini(&u);
    return drawn;
}

static double by_definition(const double *plain, const double *changed, const Stream *h, double *drawn)
{
    double error = 0, square = 0, spread = 0, n = (double)(h->rows - h->samples);
    for (int64_t i = 0; i < h->rows * h->width; i++)
        error += (changed[i] - plain[i]) * (changed[i] - plain[i]);
    for (int64_t k = 0; k < h->width; k++) {
        double mean = 0;
        for (int s = 0; s < h->samples; s++)
            for (int64_t t = h->start[s] + 1; t < h->start[s + 1]; t++) {
                mean += plain[t * h->width + k] / n;
                square += plain[t * h->width + k] * plain[t * h->width + k] / n;
            }
        spread += mean * mean;
    }
    *drawn = drawn_error(plain, changed, h) / (square - spread);
    return error / (double)h->rows / (square - spread);
}

typedef struct Caught {
    const Metric *of;
    double value[64], part[64][METRIC_PARTS];
    int n;
} Caught;

static const QConfig dynamic8 = {
    .act = {.dtype = QT_INT8, .scope = QS_PER_TOKEN, .symmetric = true, .method = "minmax"},
    .weight = {.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "minmax"}};

static int16_t *all_at_one(const Model *m)
{
    int16_t *at = malloc((size_t)m->nlinears * sizeof *at);
    for (int64_t i = 0; i < m->nlinears; i++)
        at[i] = 1;
    return at;
}

static Status catch_scores(void *ctx, const PassStep *step, Error *e)
{
    (void)e;
    Caught *c = ctx;
    for (int64_t i = 0; i < step->nscore; i++)
        if (step->score[i].metric == c->of) {
            assert_true(step->score[i].s.unit < 64);
            c->value[step->score[i].s.unit] = step->score[i].s.value;
            memcpy(c->part[step->score[i].s.unit], step->score[i].s.part, sizeof c->part[0]);
            c->n++;
        }
    return ST_OK;
}

static void nothing_depends_on_threads_or_memory(void **state)
{
    (void)state;
    static const Metric *const rows[] = {&metric_block_error, &metric_alone};
    static const uint64_t limits[] = {0, 0, 15 << 20}; /* the last lets few units travel together */
    Caught want[2];
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 2; i++) {
            const Metric *const metrics[] = {rows[i], NULL};
            TestRun b;
            test_run_open_within(&b, DEMO, ARITH_FP32, k == 1 ? 1 : 2, limits[k], NULL);
            const int lengths[] = {70, 64, 17, 40};
            TokenSet *t = test_tokens(lengths, 4, b.m->cfg.vocab, 5);
            int16_t *at = all_at_one(b.m);
            Caught got = {.of = rows[i]};
            PassPlan p = {.m = b.m, .pass = rows[i]->pass, .metrics = metrics, .levels = &dynamic8, .nlevels = 1,
                          .level = at, .tokens = t};
            ok(p.pass->run(b.r, &p, &(PassSink){catch_scores, &got}, &err));
            assert_int_equal(got.n, scope_units(b.m, SCOPE_GROUP));
            for (int64_t g = 0; k && g < got.n; g++)
                assert_true(got.value[g] == want[i].value[g]);
            want[i] = got;
            free(at);
            test_tokens_free(t);
            test_run_close(&b);
        }
}

static void block_error_by_its_definition(void **state)
{
    (void)state;
    static const Metric *const metrics[] = {&metric_block_error, NULL};
    TestRun b;
    test_run_open(&b, DEMO, ARITH_FP32, 2, NULL);
    const int lengths[] = {90, 64, 17, 1};
    TokenSet *t = test_tokens(lengths, 4, b.m->cfg.vocab, 5);
    int16_t *at = all_at_one(b.m);
    Caught got = {.of = &metric_block_error};
    double worst = 0; /* of the closed form of its error against drawing */
    PassPlan p = {.m = b.m, .pass = metric_block_error.pass, .metrics = metrics, .levels = &dynamic8, .nlevels = 1,
                  .level = at, .tokens = t, .probe = 4 * 64};
    Stream own = {0};
    p.h = &own;
    ok(p.pass->run(b.r, &p, &(PassSink){catch_scores, &got}, &err));
    assert_int_equal(got.n, scope_units(b.m, SCOPE_GROUP));
    /* the same texts, cut to as many tokens */
    const int cut[] = {64, 64, 17, 1};
    TokenSet *few = test_tokens(cut, 4, b.m->cfg.vocab, 5);
    for (int s = 0; s < 4; s++)
        memcpy(few->ids + few->start[s], t->ids + t->start[s], (size_t)cut[s] * sizeof *t->ids);
    Stream h;
    ok(runner_embed(b.r, few, &h, &err));
    LinearForm form = {.weight = fake_weight, .act = fake_act, .self = &form};
    const LinearForm *table[16];
    for (int layer = 0; layer < b.m->cfg.layers; layer++) {
        const Unit *u = &b.m->units[layer];
        Stream plain, changed;
        ok(stream_copy(&plain, &h, &err));
        ok(stream_copy(&changed, &h, &err));
        ok(runner_layer(b.r, layer, NULL, &h, &plain, NULL, 0, &err));
        double *np = norm_rows(b.m, b.m->ckpt, &plain);
        for (int64_t g = b.m->linears[u->first].group; g <= b.m->linears[u->first + u->count - 1].group; g++) {
            for (int i = 0; i < u->count; i++)
                table[i] = b.m->linears[u->first + i].group == g ? &form : NULL;
            ok(runner_layer(b.r, layer, &(Variant){.forms = table}, &h, &changed, NULL, 0, &err));
            double *nc = norm_rows(b.m, b.m->ckpt, &changed);
            double drawn, want = by_definition(np, nc, &plain, &drawn);
            worst = fmax(worst, fabs(got.part[g][2] / drawn - 1));
            if (fabs(got.value[g] - want) > 2e-3 * want) /* roundings flip */
                fail_msg("layer %d group %lld: %.6g, not %.6g", layer, (long long)g, got.value[g], want);
            free(nc);
        }
        free(np);
        stream_fini(&changed);
        stream_fini(&h);
        h = plain;
    }
    printf("# error against one that is drawn: %.0f %% at most\n", 100 * worst);
    assert_true(worst < 0.15);
    stream_fini(&h);
    free(at);
    test_tokens_free(few);
    test_tokens_free(t);
    test_run_close(&b);
}

static void ranges_are_those_of_the_float_pass(void **state)
{
    (void)state;
    Session *s = open_demo(NULL);
    analyze(s, "std", NULL); /* the same pass's extremes */
    analyze(s, "input_range", NULL);
    const Model *m = session_model(s);
    for (int64_t i = 0; i < m->nlinears; i++) {
        const double *part = session_unit_parts(s, &metric_input_range, i);
        const LinearResult *r = session_result(s, i);
        assert_true(part && r && part[0] == r->in.min && part[1] == r->in.max);
        assert_true(session_unit_score(s, &metric_input_range, i).value == fmax(fabs(part[0]), fabs(part[1])));
    }
    session_free(s);
}

typedef struct Order {
    int64_t unit[64];
    int n;
} Order;

static Status note_order(void *ctx, const PassStep *step, Error *e)
{
    (void)e;
    Order *o = ctx;
    for (int64_t i = 0; i < step->nscore; i++)
        o->unit[o->n++] = step->score[i].s.unit;
    return ST_OK;
}

static void the_last_layer_goes_first_then_the_worst(void **state)
{
    (void)state;
    static const Metric *const metrics[] = {&metric_alone, NULL};
    TestRun b;
    test_run_open(&b, DEMO, ARITH_FP32, 2, NULL);
    const int lengths[] = {30};
    TokenSet *t = test_tokens(lengths, 1, b.m->cfg.vocab, 5);
    int16_t *at = all_at_one(b.m);
    Scores known;
    ok(scores_init(&known, b.m, &err));
    int64_t n = b.m->ngroups, last = b.m->linears[b.m->units[b.m->cfg.layers - 1].first].group;
    for (int64_t g = 0; g < n; g++) {
        UnitScore u = {.unit = g, .value = (double)((g * 7) % n), .levels = scores_level_all(b.m, SCOPE_GROUP, g, &dynamic8)};
        ok(scores_put(&known, &metric_block_error, &u, &err));
    }
    Order o = {{0}, 0};
    PassPlan p = {.m = b.m, .pass = metric_alone.pass, .metrics = metrics, .levels = &dynamic8, .nlevels = 1, .level = at,
                  .tokens = t, .before = &known};
    ok(p.pass->run(b.r, &p, &(PassSink){note_order, &o}, &err));
    assert_int_equal(o.n, n);
    for (int i = 0; i < o.n; i++) {
        if (i < n - last)
            assert_true(o.unit[i] >= last);
        else if (i > n - last)
            assert_true((o.unit[i] * 7) % n < (o.unit[i - 1] * 7) % n);
    }
    scores_fini(&known);
    free(at);
    test_tokens_free(t);
    test_run_close(&b);
}

/* One request for both: the second goes by what the first finds, its ranges too. */
static void one_request_for_both(void **state)
{
    (void)state;
    Session *s = open_demo(NULL);
    const char *names[] = {"block_error", "alone", NULL};
    ok(session_analyze(s, names, NULL, 0, false, &err));
    assert_int_equal(session_jobs(s), 2);
    ok(session_wait(s, &err));
    for (int64_t g = 0; g < session_model(s)->ngroups; g++)
        for (int k = 0; k < 2; k++)
            assert_int_equal(session_unit_score(s, k ? &metric_alone : &metric_block_error, g).state, SCORE_OK);
    session_free(s);
}

/* Statistics are collected in the float pass that block_error makes, and are what a pass of their own gives. */
static void one_pass_for_errors_and_statistics(void **state)
{
    (void)state;
    static const char *const names[] = {"local_error", "block_error", "std", NULL};
    Session *one = open_demo(NULL), *two = open_demo(NULL);
    ok(session_analyze(one, names, NULL, 0, true, &err));
    assert_int_equal(session_jobs(one), 1);
    assert_string_equal(session_job(one, 0)->title, "block_error+local_error+std");
    const Metric *kurtosis = metric_find("kurtosis"); /* of the detail pane: on the way, too */
    assert_int_equal(session_score(one, kurtosis, 0).state, SCORE_QUEUED);
    ok(session_wait(one, &err));
    assert_int_equal(session_job(one, 0)->ok, session_model(one)->ngroups);
    analyze(two, "block_error", NULL);
    ok(session_analyze(two, (const char *[]){"kurtosis", NULL}, NULL, 0, true, &err));
    ok(session_wait(two, &err));
    assert_int_equal(session_jobs(two), 2);
    for (int64_t i = 0; i < session_model(one)->nlinears; i++) {
        const LinearResult *a = session_result(one, i), *b = session_result(two, i);
        assert_true(a && b && a->in.hist.n == b->in.hist.n && a->weight.hist.n == b->weight.hist.n);
        assert_memory_equal(a->in.hist.count, b->in.hist.count, (size_t)a->in.hist.n * sizeof *a->in.hist.count);
        assert_memory_equal(a->in.channel_max, b->in.channel_max, (size_t)a->in.width * sizeof *a->in.channel_max);
        assert_memory_equal(&a->err, &b->err, sizeof a->err);
        assert_true(a->in.kurtosis == b->in.kurtosis && a->in.std_score == b->in.std_score && a->in.mean == b->in.mean);
        assert_true(session_score(one, &metric_block_error, i).value == session_score(two, &metric_block_error, i).value);
    }
    int jobs = session_jobs(one); /* all of it is known now */
    ok(session_analyze(one, names, NULL, 0, true, &err));
    assert_int_equal(session_jobs(one), jobs);
    const char *part = "model.layers.1.*";
    ok(session_set_scheme(two, "W4A4_MXFP4", &err));
    ok(session_analyze(two, names, &part, 1, false, &err));
    assert_int_equal(session_jobs(two), 4); /* statistics know the recipe's levels, too: two passes */
    ok(session_wait(two, &err));
    session_free(one);
    session_free(two);
}

/* ---- the head ---- */

static void shifts_against_float64(void **state)
{
    (void)state;
    TestRun b;
    test_run_open(&b, DEMO, ARITH_FP32, 2, NULL);
    const int lengths[] = {40};
    enum { T = 39, COPIES = 3 };
    TokenSet *t = test_tokens(lengths, 1, b.m->cfg.vocab, 9);
    int64_t start[] = {0, T}, both[] = {0, T * (1 + COPIES)}, width = b.m->cfg.hidden;
    Stream plain, rows;
    ok(stream_init(&plain, 1, start, width, &err));
    ok(stream_init(&rows, 1, both, width, &err));
    Rng rng = rng_of(3, 1);
    for (int64_t i = 0; i < T * width; i++)
        plain.data[i] = (float)(2 * rng_unit(&rng) - 1);
    static const double size[COPIES] = {1e-5, 0.02, 30}; /* from far below a logit's last digit to torn apart */
    for (int64_t k = 0; k < T; k++)
        for (int c = 0; c <= COPIES; c++)
            for (int64_t i = 0; i < width; i++)
                rows.data[(k * (1 + COPIES) + c) * width + i] =
                    plain.data[k * width + i] + (c ? (float)(size[c - 1] * (2 * rng_unit(&rng) - 1)) : 0.0f);
    LogitRows f;
    ok(logit_rows_run(b.r, &plain, t->ids + 1, false, &f, &err));
    Stream keep;
    ok(stream_copy(&keep, &rows, &err));
    float *z = test_logits(b.r, &keep);
    double kl[T * COPIES], nll[T * COPIES];
    ShiftRows s = {.rows = rows, .tokens = T, .copies = COPIES, .lse = f.lse, .next = t->ids + 1};
    ok(shift_rows_run(b.r, &s, kl, nll, &err));
    int64_t v = b.m->cfg.vocab;
    float *head = test_tensor(b.m->ckpt, b.m->exit.head);
    for (int64_t k = 0; k < T; k++)
        for (int c = 0; c < COPIES; c++) {
            const float *hf = keep.data + k * (1 + COPIES) * width, *hq = hf + (c + 1) * width;
            double sum = 0, top = 0, over = 0, grown = 0, linear = 0, target = 0;
            double *p = malloc((size_t)v * sizeof *p), *d = malloc((size_t)v * sizeof *d);
            for (int64_t i = 0; i < v; i++) {
                double a = 0, e = 0;
                for (int64_t j = 0; j < width; j++) {
                    a += (double)head[i * width + j] * (double)hf[j];
                    e += (double)head[i * width + j] * ((double)hq[j] - (double)hf[j]);
                }
                p[i] = a;
                d[i] = e;
                top = i == 0 || a > top ? a : top;
            }
            for (int64_t i = 0; i < v; i++)
                sum += exp(p[i] - top);
            for (int64_t i = 0; i < v; i++) {
                double q = exp(p[i] - top) / sum;
                over += q * (expm1(d[i]) - d[i]);
                linear += q * d[i];
                grown += q * expm1(d[i]);
                target = i == t->ids[k + 1] ? d[i] : target;
            }
            double want = c == 2 ? log1p(grown) - linear : log1p(grown) - grown + over;
            double got = kl[k * COPIES + c];
            if (fabs(got - want) > 2e-4 * want + 1e-12)
                fail_msg("token %lld, change of %g: KL %.8g, not %.8g", (long long)k, size[c], got, want);
            if (fabs(nll[k * COPIES + c] - (log1p(grown) - target)) > 2e-5 * (1 + fabs(target)) + 1e-5 * log1p(grown))
                fail_msg("token %lld, change of %g: %.8g, not %.8g", (long long)k, size[c], nll[k * COPIES + c],
                         log1p(grown) - target);
            free(p);
            free(d);
        }
    free(head);
    free(z);
    logit_rows_fini(&f);
    stream_fini(&keep);
    stream_fini(&plain);
    stream_fini(&s.rows);
    test_tokens_free(t);
    test_run_close(&b);
}

static void blocks_of_rows_hold_whole_tokens(void **state)
{
    (void)state;
    static const int want[][2] = {{1, 1}, {2, 3}, {3, 3}, {4, 7}, {15, 15}, {16, 31}, {31, 31}, {100, 127}, {128, 0}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_int_equal(shift_copies(want[i][0]), want[i][1]);
}

/* ---- every family ---- */

/* Texts as token ids: the recorded models have no tokenizer. */
static void write_ids(const char *path)
{
    Str b = {0};
    uint64_t x = 1;
    for (int s = 0; s < 6; s++) {
        str_puts(&b, "{\"input_ids\":[");
        for (int i = 0; i < 40; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            str_printf(&b, "%s%d", i ? "," : "", (int)(x >> 33) % 100);
        }
        str_puts(&b, "]}\n");
    }
    temp_puts(path, str_text(&b));
    str_free(&b);
}

static void every_family_is_scored(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "qwen3_moe", "deepseek_v3", "deepseek_v32", "deepseek_v4", "gemma2", "gemma3",
                                           "qwen3_next", "gpt_oss", "longcat_flash", "mixtral", "glm4_moe"};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char path[200];
        snprintf(path, sizeof path, "tests/golden/models/%s/fp32", families[i]);
        char *dir = temp_folder();
        write_ids(temp_path(dir, "ids.jsonl"));
        Session *s = open_model(path, NULL);
        ok(session_set_calib(s, temp_path(dir, "ids.jsonl"), &err));
        ok(session_set_eval(s, temp_path(dir, "ids.jsonl"), &err));
        analyze(s, "block_error", NULL);
        analyze(s, "alone", NULL);
        const Model *m = session_model(s);
        int64_t scored = 0;
        for (int64_t g = 0; g < m->ngroups; g++) {
            Score b = session_unit_score(s, &metric_block_error, g), a = session_unit_score(s, &metric_alone, g);
            if (b.state == SCORE_FAILED)
                assert_true(b.reason && *b.reason);
            else
                assert_true(b.state == SCORE_OK && b.value >= 0);
            assert_true(a.state == SCORE_OK ? a.value >= 0 : a.state == SCORE_FAILED || a.state == SCORE_NONE);
            scored += b.state == SCORE_OK && a.state == SCORE_OK;
        }
        if (scored < m->ngroups / 2)
            fail_msg("%s: %lld of %lld groups", families[i], (long long)scored, (long long)m->ngroups);
        session_free(s);
        temp_remove(dir);
    }
}

/* Of experts that the texts never reach nothing is known, which is no failure. */
static void unreached_experts_are_no_failure(void **state)
{
    (void)state;
    char *dir = temp_folder();
    temp_puts(temp_path(dir, "two.jsonl"), "{\"input_ids\":[3,9]}\n");
    Session *s = open_model("tests/golden/models/qwen3_moe/fp32", NULL);
    ok(session_set_calib(s, temp_path(dir, "two.jsonl"), &err));
    analyze(s, "block_error", NULL);
    analyze(s, "alone", NULL);
    const Model *m = session_model(s);
    int experts = 0;
    for (int64_t g = 0; g < m->ngroups; g++)
        for (int k = 0; k < 2; k++) {
            Score sc = session_unit_score(s, k ? &metric_alone : &metric_block_error, g);
            bool expert = m->linears[group_linear(&m->groups[g], 0)].expert >= 0;
            assert_int_equal(sc.state, expert ? SCORE_NONE : SCORE_OK);
            assert_true(!expert || strstr(sc.reason, "no token reached it"));
            experts += expert;
        }
    assert_true(experts > 0);
    session_free(s);
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_is_what_measuring_finds),
        cmocka_unit_test(units_of_other_scopes),
        cmocka_unit_test(rows_sharpen),
        cmocka_unit_test(nothing_depends_on_threads_or_memory),
        cmocka_unit_test(block_error_by_its_definition),
        cmocka_unit_test(the_last_layer_goes_first_then_the_worst),
        cmocka_unit_test(one_request_for_both),
        cmocka_unit_test(one_pass_for_errors_and_statistics),
        cmocka_unit_test(ranges_are_those_of_the_float_pass),
        cmocka_unit_test(shifts_against_float64),
        cmocka_unit_test(blocks_of_rows_hold_whole_tokens),
        cmocka_unit_test(every_family_is_scored),
        cmocka_unit_test(unreached_experts_are_no_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
