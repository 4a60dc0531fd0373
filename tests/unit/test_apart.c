/* Analyses of linears that read one input of the model in different scales: each is looked at by what it reads itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/json.h"
#include "metric/metric.h"
#include "model/overlay.h"
#include "session/record.h"
#include "tests/lib/bench.h"

#define LLAMA "tests/golden/analysis/_models/llama-fp32"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

enum { SCORES_MAX = 512 };

/* What a pass says of the first unit's linears behind some changes. */
typedef struct Seen {
    Overlay *overlay;
    Runner *r;
    PassScore score[SCORES_MAX];
    int64_t n;
    LinearResult of[16]; /* pass_statistics */
} Seen;

static Status take(void *ctx, const PassStep *step, Error *e)
{
    (void)e;
    Seen *s = ctx;
    for (int64_t i = 0; i < step->nscore; i++) {
        const PassScore *one = &step->score[i];
        if (one->metric->scope != SCOPE_LINEAR || one->s.unit >= 16)
            continue;
        assert_true(s->n < SCORES_MAX);
        s->score[s->n++] = *one;
    }
    for (int i = 0; i < step->nlinear; i++)
        if (step->linear[i].linear < 16)
            s->of[step->linear[i].linear] = step->linear[i];
        else
            linear_result_fini(&step->linear[i]);
    return ST_OK;
}

static const PassScore *find(const Seen *s, const Metric *m, int64_t linear)
{
    for (int64_t i = 0; i < s->n; i++)
        if (s->score[i].metric == m && s->score[i].s.unit == linear)
            return &s->score[i];
    fail_msg("%s has nothing of linear %lld", m->name, (long long)linear);
    return NULL;
}

/* The linears' columns by powers of two, their inputs by the reciprocals: nothing that is computed differs by a bit. */
static void rescale(Seen *s, const Model *m, const int64_t *linear, int n)
{
    int64_t in = m->linears[linear[0]].in;
    float *up = malloc((size_t)in * sizeof *up), *down = malloc((size_t)in * sizeof *down);
    assert_true(up && down);
    for (int64_t i = 0; i < in; i++) {
        up[i] = i % 7 == 3 ? 64 : i % 5 == 2 ? 0.25f : 1;
        down[i] = 1 / up[i];
    }
    for (int k = 0; k < n; k++) {
        ok(overlay_scale_inputs(s->overlay, linear[k], down, &err));
        ok(overlay_input_scale(s->overlay, linear[k], up, &err));
    }
    free(up);
    free(down);
}

static void look(Seen *s, const TestRun *b, const int64_t *linear, int n)
{
    *s = (Seen){0};
    ok(overlay_new(&s->overlay, b->m, &err));
    if (n)
        rescale(s, b->m, linear, n);
    const RunnerOptions o = {.pool = b->pool, .arith = ARITH_FP32, .overlay = s->overlay};
    ok(runner_new(&s->r, b->m, &o, &err));
}

/* Every metric that is made of one linear's input, by what passes made them. */
static void run_pass(Seen *s, const TestRun *b, const TokenSet *t, const MetricPass *pass)
{
    const Metric *asked[64] = {NULL};
    QConfig q;
    unsigned needs = 0;
    int n = 0;
    assert_true(scheme_config("W8A8", &q));
    int16_t *level = calloc((size_t)b->m->nlinears, sizeof *level);
    for (int64_t i = 0; i < b->m->nlinears; i++)
        level[i] = 1;
    for (int i = 0; metric_table[i] && n < 63; i++)
        if (metric_table[i]->pass == pass) {
            asked[n++] = metric_table[i];
            needs |= metric_table[i]->needs;
        }
    PassPlan p = {.m = b->m, .pass = pass, .metrics = asked, .needs = needs | (pass == &pass_statistics ? NEED_HIST : 0),
                  .tokens = t, .levels = &q, .nlevels = 1, .level = level, .overlay = s->overlay};
    ok(pass->run(s->r, &p, &(PassSink){take, s}, &err));
    free(level);
}

static void look_end(Seen *s)
{
    for (int i = 0; i < 16; i++)
        linear_result_fini(&s->of[i]);
    runner_free(s->r);
    overlay_free(s->overlay);
}

static void same_input(const LinearResult *a, const LinearResult *b)
{
    const double x[] = {a->in.min, a->in.max, a->in.std, a->in.kurtosis, a->in.quantile, a->in.std_score, a->in.mean_sq,
                        a->err.weight_err[0], a->err.act_err[0], a->err.act_err[2], a->err.output_sq};
    const double y[] = {b->in.min, b->in.max, b->in.std, b->in.kurtosis, b->in.quantile, b->in.std_score, b->in.mean_sq,
                        b->err.weight_err[0], b->err.act_err[0], b->err.act_err[2], b->err.output_sq};
    assert_memory_equal(x, y, sizeof x);
    assert_memory_equal(a->in.channel_max, b->in.channel_max, (size_t)a->in.width * sizeof(float));
    assert_int_equal(a->in.hist.n, b->in.hist.n);
    assert_memory_equal(a->in.hist.key, b->in.hist.key, (size_t)a->in.hist.n * sizeof *a->in.hist.key);
}

/* q, k and v of the first layer: as they are, v in another scale, and all three. */
typedef struct World {
    TestRun b;
    TokenSet *t;
    int64_t qkv[3];
    Seen plain, one, all;
} World;

static void world_open(World *w)
{
    static const int lens[] = {40, 25, 31};
    static const char *const names[] = {"q", "k", "v"};
    char name[80];
    test_run_open(&w->b, LLAMA, ARITH_FP32, 2, NULL);
    w->t = test_tokens(lens, 3, w->b.m->cfg.vocab, 9);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "model.layers.0.self_attn.%s_proj", names[i]);
        w->qkv[i] = model_find_linear(w->b.m, name);
        assert_true(w->qkv[i] >= 0 && w->qkv[i] < 16);
    }
    look(&w->plain, &w->b, NULL, 0);
    look(&w->one, &w->b, &w->qkv[2], 1);
    look(&w->all, &w->b, w->qkv, 3);
}

static void world_run(World *w, const MetricPass *pass)
{
    Seen *seen[] = {&w->plain, &w->one, &w->all};
    for (int i = 0; i < 3; i++)
        run_pass(seen[i], &w->b, w->t, pass);
}

static void world_close(World *w)
{
    look_end(&w->plain);
    look_end(&w->one);
    look_end(&w->all);
    test_tokens_free(w->t);
    test_run_close(&w->b);
}

static void statistics_are_of_what_each_reads(void **state)
{
    (void)state;
    World w;
    world_open(&w);
    world_run(&w, &pass_statistics);
    assert_true(w.plain.of[w.qkv[2]].in.max != w.all.of[w.qkv[2]].in.max);
    same_input(&w.one.of[w.qkv[0]], &w.plain.of[w.qkv[0]]);
    same_input(&w.one.of[w.qkv[1]], &w.plain.of[w.qkv[1]]);
    same_input(&w.one.of[w.qkv[2]], &w.all.of[w.qkv[2]]);
    Str text = {0}; /* and they come back so from the journal, where what is equal is written once */
    LinearResult *back;
    int n;
    cJSON *doc;
    LinearResult three[3] = {w.one.of[w.qkv[0]], w.one.of[w.qkv[1]], w.one.of[w.qkv[2]]};
    record_results(&text, three, 3, w.b.m);
    ok(json_parse(str_text(&text), text.len, "a record", &doc, &err));
    ok(record_parse(doc, w.b.m, &back, &n, &err));
    assert_int_equal(n, 3);
    for (int i = 0; i < 3; i++) {
        same_input(&back[i], &three[i]);
        linear_result_fini(&back[i]);
    }
    free(back);
    cJSON_Delete(doc);
    str_free(&text);
    world_close(&w);
}

/* The same bits as of a model in which all readers have the scale, and of one in which none has. */
static void scores_are_of_what_each_reads(void **state)
{
    (void)state;
    static const char *const of[] = {"act_outliers", "output_error", "gptq_gain"}; /* a metric of each pass */
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        const MetricPass *pass = metric_find(of[k])->pass;
        World w;
        bool differs = false;
        world_open(&w);
        world_run(&w, pass);
        for (int i = 0; metric_table[i]; i++) {
            const Metric *m = metric_table[i];
            /* a scale of smooth_alpha goes by the weights of all that read the input: others here than in either model */
            if (m->pass != pass || m->scope != SCOPE_LINEAR || strcmp(m->name, "smooth_alpha") == 0)
                continue;
            for (int l = 0; l < 3; l++) {
                const PassScore *got = find(&w.one, m, w.qkv[l]), *want = find(l < 2 ? &w.plain : &w.all, m, w.qkv[l]);
                if (memcmp(&got->s, &want->s, sizeof got->s) != 0)
                    fail_msg("%s of %s: %.9g, not %.9g", m->name, w.b.m->linears[w.qkv[l]].name, got->s.value,
                             want->s.value);
            }
            differs = differs || find(&w.plain, m, w.qkv[2])->s.value != find(&w.all, m, w.qkv[2])->s.value;
        }
        assert_true(differs);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_are_of_what_each_reads),
        cmocka_unit_test(scores_are_of_what_each_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
