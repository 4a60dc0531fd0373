#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/session.h"
#include "src/output.h"
#include "tests/lib/bench.h"
#include "tests/lib/tempdir.h"

static const char moe[] = "tests/golden/models/qwen3_moe/fp32";
static const char few[] = "{\"input_ids\":[1,2]}\n{\"input_ids\":[9]}\n";
static const char many[] = "{\"input_ids\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14]}\n{\"input_ids\":[9,3]}\n";

static Error err;
static char *dir;

static int make_dir(void **state)
{
    (void)state;
    dir = temp_folder();
    temp_puts(temp_path(dir, "few.jsonl"), few);
    temp_puts(temp_path(dir, "many.jsonl"), many);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    temp_remove(dir);
    return 0;
}

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static Session *open_session(const char *calib, bool durable)
{
    SessionOptions o;
    Session *s;
    session_options_default(&o);
    o.threads = 2;
    o.state_dir = durable ? dir : NULL;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, moe, NULL, &err));
    ok(session_set_calib(s, temp_path(dir, calib), &err));
    ok(session_set_eval(s, temp_path(dir, "many.jsonl"), &err));
    return s;
}

static void analyze(Session *s, const char *metric, const char *pattern)
{
    const char *names[] = {metric, NULL};
    ok(session_analyze(s, names, &pattern, pattern != NULL, false, &err));
    ok(session_wait(s, &err));
}

/* ---- tokens of each expert by the router's own choices ---- */

typedef struct Chosen {
    const Model *m;
    int64_t *tokens; /* [layers * experts] */
} Chosen;

static bool wants_choices(void *self, Tap tap)
{
    (void)self;
    return tap.kind == TAP_EXPERTS;
}

static void count_choices(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                          int64_t ld)
{
    (void)sample;
    (void)row0;
    Chosen *c = self;
    for (int64_t i = 0; i < rows * width; i++)
        __atomic_add_fetch(&c->tokens[tap.layer * c->m->cfg.moe.experts + (int)x[i / width * ld + i % width]], 1,
                           __ATOMIC_RELAXED);
}

static int64_t *choices(void)
{
    static const ObserverOps ops = {.name = "choices", .wants_tap = wants_choices, .tap_tile = count_choices};
    TestRun b;
    Stream h;
    test_run_open(&b, moe, ARITH_FP32, 1, NULL);
    Chosen c = {b.m, calloc((size_t)(b.m->cfg.layers * b.m->cfg.moe.experts), sizeof *c.tokens)};
    int64_t start[] = {0, 2, 3};
    int32_t ids[] = {1, 2, 9};
    TokenSet t = {.samples = 2, .start = start, .ids = ids};
    ok(runner_embed(b.r, &t, &h, &err));
    for (int l = 0; l < b.m->cfg.layers; l++)
        ok(runner_layer(b.r, l, NULL, &h, &h, &(Observer){&ops, &c}, 1, &err));
    stream_fini(&h);
    test_run_close(&b);
    return c.tokens;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int log_lines(const Session *s, const char *part, int *level)
{
    int n = 0;
    for (int i = 0; i < session_log_lines(s); i++)
        if (strstr(session_log_line(s, i).text, part)) {
            n++;
            *level = session_log_line(s, i).level;
        }
    return n;
}

static void coverage_is_what_the_router_chose(void **state)
{
    (void)state;
    Session *s = open_session("few.jsonl", false);
    const Model *m = session_model(s);
    Coverage c;
    assert_false(session_coverage(s, &c));
    analyze(s, "kurtosis", NULL);
    ok(session_show(s, "kurtosis", &err));
    assert_true(session_coverage(s, &c));
    int64_t *tokens = choices();
    int n = m->cfg.layers * m->cfg.moe.experts;
    int64_t unseen = 0;
    for (int i = 0; i < n; i++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%d.down_proj", i / m->cfg.moe.experts,
                 i % m->cfg.moe.experts);
        int64_t at = model_find_linear(m, name);
        assert_int_equal(session_result(s, at)->in.rows, tokens[i]);
        assert_int_equal(session_unseen(s, at), tokens[i] == 0);
        Score sc = session_score(s, session_metric(s), at);
        assert_int_equal(sc.state, tokens[i] ? SCORE_OK : SCORE_NONE);
        assert_true(tokens[i] ? isfinite(sc.value) : isnan(sc.value) && strcmp(sc.reason, "no token reached it") == 0);
        if (!tokens[i] && unseen == 0)
            assert_int_equal(m->linears[c.first_unseen].expert + m->linears[c.first_unseen].layer * 8, i);
        unseen += tokens[i] == 0;
    }
    qsort(tokens, (size_t)n, sizeof *tokens, compare);
    assert_true(unseen > 0 && unseen < n);
    assert_true(c.experts == n && c.unseen == unseen && c.fewest_tokens == tokens[unseen]);
    assert_int_equal(session_result(s, c.fewest)->in.rows, c.fewest_tokens);
    assert_true(c.median == ((double)tokens[(n - 1) / 2] + (double)tokens[n / 2]) / 2);
    free(tokens);
    const JobView *j = session_job(s, 0);
    assert_true(j->failed == 0 && j->unseen == 3 * unseen && j->ok == m->nlinears - 3 * unseen);
    int level = 0;
    assert_int_equal(log_lines(s, "experts: ", &level), 1); /* one line, not one for each */
    assert_int_equal(level, 1);
    assert_int_equal(log_lines(s, "no token reached it", &level), 0);
    session_free(s);
}

static void the_line_warns_only_of_unseen_experts(void **state)
{
    (void)state;
    Session *s = open_session("many.jsonl", false);
    analyze(s, "kurtosis", "*layers.1.*experts*down_proj");
    Coverage c;
    int level = 2;
    assert_true(session_coverage(s, &c));
    assert_int_equal(c.experts, 8); /* only what was looked at */
    assert_int_equal(log_lines(s, "experts: ", &level), 1);
    assert_int_equal(level, c.unseen > 0);
    session_free(s);
    SessionOptions o;
    session_options_default(&o);
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, "tests/golden/models/llama/fp32", NULL, &err));
    ok(session_set_calib(s, temp_path(dir, "few.jsonl"), &err));
    analyze(s, "kurtosis", NULL);
    assert_false(session_coverage(s, &c)); /* no experts, no line */
    assert_int_equal(log_lines(s, "experts: ", &level), 0);
    session_free(s);
}

static void unseen_rows_end_the_ranking(void **state)
{
    (void)state;
    Session *s = open_session("few.jsonl", false);
    RankedRow *rows;
    int64_t n, order_n;
    Coverage c;
    analyze(s, "local_error", NULL);
    assert_true(session_coverage(s, &c));
    const Metric *m = metric_find("local_error");
    ok(session_show(s, "local_error", &err));
    ok(ranking_make(s, m, NULL, &rows, &n, &err));
    assert_int_equal(n, session_model(s)->nlinears);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(rows[i].unseen, i >= n - 3 * c.unseen);
        assert_int_equal(rows[i].rank, rows[i].unseen ? 0 : i + 1);
        assert_true(!rows[i].unseen || (isnan(rows[i].score) && rows[i].reason));
    }
    assert_int_equal(ranking_cut(rows, n, 10000), n - 3 * c.unseen);
    const int64_t *order = session_order(s, &order_n, true);
    for (int64_t i = 0; i < order_n; i++)
        assert_int_equal(session_unseen(s, order[i]), i >= n - 3 * c.unseen);
    free(rows);
    analyze(s, "block_error", NULL);
    Prediction p = session_predict(s); /* known although some were not measured */
    assert_true(p.have && p.share_back == 0);
    session_free(s);
}

/* The group of experts bears the name of their module. */
static void groups_have_the_path_a_person_expects(void **state)
{
    (void)state;
    static const struct {
        const char *model, *want;
    } rows[] = {
        {moe, "\"group\":\"model.layers.2.mlp.experts\""},
        {moe, "\"group\":\"model.layers.0.self_attn.qkv\""},
        {"tests/golden/models/mixtral/fp32", "\"group\":\"model.layers.1.block_sparse_moe.experts\""},
        {"tests/golden/models/qwen2_moe/fp32", "\"group\":\"model.layers.0.mlp.shared_expert.gu\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Session *s = open_session("many.jsonl", false);
        ok(session_open_model(s, rows[i].model, NULL, &err));
        ok(session_set_calib(s, temp_path(dir, "many.jsonl"), &err));
        analyze(s, "kurtosis", NULL);
        const Metric *metrics[] = {metric_find("kurtosis"), NULL};
        RankRequest r = {.metrics = metrics, .topk = 5};
        Str out = {0};
        ok(output_ranking(s, OUT_JSON, &r, &out, &err));
        if (!strstr(str_text(&out), rows[i].want) || strstr(str_text(&out), "experts.0.experts"))
            fail_msg("%s: no %s", rows[i].model, rows[i].want);
        assert_non_null(strstr(str_text(&out), "\"experts\":{\"measured\":"));
        assert_non_null(strstr(str_text(&out), ",\"tokens\":16"));
        str_free(&out);
        session_free(s);
    }
}

/* What stays float in a measurement is counted, also when the first layers come out of the cache. */
static void measuring_tells_what_stayed_float(void **state)
{
    (void)state;
    Session *s = open_session("few.jsonl", true), *fresh;
    int level = 0;
    const char *last = "*layers.2.self_attn*", *all = "*";
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    const Effect *e = session_effect(s, NULL);
    Unseen first = e->unseen;
    assert_true(first.experts > 0 && first.linears == 3 * first.experts && first.first >= 0);
    assert_true(session_model(s)->linears[first.first].expert >= 0);
    assert_int_equal(log_lines(s, "stayed float", &level), 1);
    assert_int_equal(level, 1);
    ok(session_edit(s, &last, 1, 0, false, NULL, &err));
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    Unseen cached = session_effect(s, NULL)->unseen;
    assert_true(session_effect(s, NULL)->first_layer_run == 2);
    fresh = open_session("few.jsonl", false);
    ok(session_edit(fresh, &last, 1, 0, false, NULL, &err));
    ok(session_measure(fresh, false, &err));
    ok(session_wait(fresh, &err));
    Unseen plain = session_effect(fresh, NULL)->unseen;
    assert_true(cached.linears == plain.linears && cached.experts == plain.experts && cached.first == plain.first);
    ok(session_edit(fresh, &all, 1, 0, false, NULL, &err)); /* nothing is quantized: nothing is missing */
    ok(session_measure(fresh, false, &err));
    ok(session_wait(fresh, &err));
    assert_int_equal(session_effect(fresh, NULL)->unseen.linears, 0);
    session_free(fresh);
    analyze(s, "kurtosis", NULL);
    Coverage before, after;
    assert_true(session_coverage(s, &before));
    char id[40];
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    SessionOptions o;
    session_options_default(&o);
    o.state_dir = dir;
    ok(session_restore(&s, &o, id, &err)); /* and the journal remembers */
    assert_int_equal(session_effect(s, NULL)->unseen.linears, cached.linears);
    assert_int_equal(session_effect(s, NULL)->unseen.first, cached.first);
    assert_true(session_coverage(s, &after));
    assert_memory_equal(&before, &after, sizeof before);
    session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(coverage_is_what_the_router_chose),
        cmocka_unit_test(the_line_warns_only_of_unseen_experts),
        cmocka_unit_test(unseen_rows_end_the_ranking),
        cmocka_unit_test(groups_have_the_path_a_person_expects),
        cmocka_unit_test(measuring_tells_what_stayed_float),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
