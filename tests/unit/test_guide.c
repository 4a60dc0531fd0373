/* The guide: what it accepts at the boundary of the noise, states, goal, skips, answers, back edges, one undo step, and what
 * is there again after a restart. Measurements are made by hand, so that their errors are exact; one is the engine's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "recipe/field.h"
#include "session/assignment.h"
#include "session/entries.h"
#include "session/guide_impl.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/tuning.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/weights.h"

#define DEMO "lab_models/demo"

static char *dir;
static Error err;

static int setup(void **state)
{
    (void)state;
    dir = temp_folder();
    return 0;
}

static int teardown(void **state)
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

static void refused(Status st, const char *says)
{
    assert_int_equal(st, ST_USAGE);
    if (!strstr(err.text, says))
        fail_msg("'%s' says nothing of '%s'", err.text, says);
}

static char *find_data(void *ctx, const char *name, Error *e)
{
    (void)ctx, (void)e;
    char path[200];
    snprintf(path, sizeof path, "lab_calib/%s", name);
    return strdup(path);
}

static SessionOptions options(void)
{
    SessionOptions o;
    session_options_default(&o);
    o.threads = 1;
    o.state_dir = dir;
    o.max_samples = 4;
    o.seq_len = 64;
    o.eval_tokens = 128;
    o.find_data = find_data;
    return o;
}

static Session *open_demo(void)
{
    SessionOptions o = options();
    Session *s;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, DEMO, NULL, &err));
    return s;
}

static const GuideView *view(Session *s)
{
    const GuideView *v;
    ok(session_guide(s, &v, &err));
    return v;
}

static int find(const char *id)
{
    for (int i = 0; guide_rows[i].id; i++)
        if (strcmp(guide_rows[i].id, id) == 0)
            return i;
    fail_msg("there is no entry '%s'", id);
    return -1;
}

static const GuideItem *item(Session *s, const char *id)
{
    return &view(s)->item[find(id)];
}

static void is(Session *s, const char *id, GuideState want)
{
    const GuideItem *it = item(s, id);
    if (it->state != want)
        fail_msg("%s is '%s' (%s; %s), not '%s'", id, guide_state_word(it->state), it->evidence.text, it->reason.text, guide_state_word(want));
}

static void says(const char *text, const char *what)
{
    if (!strstr(text, what))
        fail_msg("'%s' says nothing of '%s'", text, what);
}

/* A measurement over two blocks of 16 tokens: the sums of KL and of the loss that quantization adds, in each. */
static void measured(Session *s, Recipe *r, const int16_t *level, const double kl[2], const double nll[2])
{
    size_t n = (size_t)s->model->nlinears;
    TokenBlocks *b = mem_zarray(1, sizeof *b + 2 * sizeof b->b[0]);
    Measured m = {.key = recipe_key(s, r, level), .fit = recipe_fit_key(s, r), .recipe = recipe_hold(r), .level = malloc(n * sizeof *level),
                  .blocks = b};
    assert_non_null(b);
    assert_non_null(m.level);
    memcpy(m.level, level, n * sizeof *level);
    b->n = 2;
    for (int i = 0; i < 2; i++)
        b->b[i] = (TokenBlock){.kl = (float)kl[i], .nll_float = 40, .nll_more = (float)nll[i], .tokens = 16, .agree = 16};
    double change = exp((nll[0] + nll[1]) / 32) - 1;
    m.effect = (Effect){.arith = s->opt.arith, .tokens = 34, .predicted = 32, .kl_mean = (kl[0] + kl[1]) / 32, .ppl_float = 12,
                        .ppl_quant = 12 * (1 + change), .ppl_change = change, .ppl_change_se = 0.001, .kl_se = 0.001, .top1 = 1};
    entry_measured(s, &m);
    ok(results_measured(s->results, &m, &err));
}

static void measure_open(Session *s, double kl, double nll)
{
    measured(s, s->recipe, s->assignment->level, (double[]){kl, kl}, (double[]){nll, nll});
}

static void measure_entry(Session *s, const char *id, double kl0, double kl1, double nll)
{
    const Candidate *c = guide_candidate(s, guide_of(s), find(id));
    if (!c->recipe)
        fail_msg("%s can't be tried: %s", id, c->reason.text);
    measured(s, c->recipe, c->level, (double[]){kl0, kl1}, (double[]){nll, nll});
}

/* ---- */

static void rows_are_whole(void **state)
{
    (void)state;
    int n = guide_count();
    assert_true(n > 0 && n <= GUIDE_ITEMS_MAX);
    for (int i = 0; i < n; i++) {
        const GuideRow *r = &guide_rows[i];
        assert_true(r->step >= 0 && r->step < GUIDE_STEPS && (i == 0 || r->step >= guide_rows[i - 1].step));
        assert_int_equal(strncmp(r->id, guide_steps[r->step].id, 2), 0);
        assert_true(strlen(r->id) == 3 && r->title[0] && r->why[0] && r->risk[0]);
        assert_true(strlen(r->title) <= 31); /* of 80 columns */
        assert_int_equal(r->kind == GUIDE_VARY, r->change.method || r->change.front);
        assert_int_equal(r->kind == GUIDE_FLOAT, r->layers != NULL);
        assert_int_equal(r->kind == GUIDE_ANALYZE, r->metrics != NULL);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(guide_rows[k].id, r->id);
    }
}

/* A processor that this build has not is greyed, with its name; one that it has is to be tried. */
static void what_is_built(void **state)
{
    (void)state;
    Session *s = open_demo();
    for (int k = 0, i = 0; k < 2; i = guide_rows[i + 1].id ? i + 1 : (k++, 0)) { /* an INT8 recipe, and one with INT4 */
        const char *type = guide_rows[i].processor;
        bool built = false, fits = k || guide_rows[i].change.types[0] != QT_INT4;
        if (i == 0 && k)
            ok(session_open_recipe(s, "lab_practice/qwen3/qwen3-w4a8.yaml", NULL, &err));
        for (int p = 0; type && recipe_rows.processor(p); p++)
            built |= strcmp(recipe_rows.processor(p)->name, type) == 0;
        if (!type)
            continue;
        const GuideItem *it = &view(s)->item[i];
        assert_int_equal(it->state == GUIDE_MISSING, !built);
        assert_int_equal(it->can_run, built && fits);
        if (!built)
            says(it->reason.text, type);
    }
    session_free(s);
}

/* Better is more than twice the error of the difference. The blocks differ by -3 and -1: mean -1/8, error 1/16. */
static void accepted_at_the_boundary(void **state)
{
    (void)state;
    static const struct {
        double kl[2];
        GuideState state;
        const char *word;
    } cases[] = {
        {{5, 7}, GUIDE_BETTER, "better"},
        {{4.875, 7.125}, GUIDE_DONE, "within the noise"}, /* the same mean, a little more error */
        {{4, 6}, GUIDE_BETTER, "better"},
        {{8, 8}, GUIDE_DONE, "the same"},
        {{11, 9}, GUIDE_DONE, "worse"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Session *s = open_demo();
        measure_open(s, 8, 2);
        is(s, "S3a", GUIDE_TODO);
        measure_entry(s, "S3a", cases[i].kl[0], cases[i].kl[1], 2);
        is(s, "S3a", cases[i].state);
        says(item(s, "S3a")->evidence.text, cases[i].word);
        says(item(s, "S3a")->evidence.text, "against #1");
        assert_int_equal(item(s, "S3a")->measured, 2);
        session_free(s);
    }
}

/* The goal decides which figure counts, and ends the guide. */
static void the_goal(void **state)
{
    (void)state;
    Session *s = open_demo();
    says(view(s)->status.text, "no goal yet");
    refused(session_guide_goal(s, "bytes=+20M", &err), "fit and tune");
    refused(session_guide_goal(s, "small", &err), "is no goal");
    ok(session_guide_goal(s, "kl=0.25", &err));
    says(view(s)->status.text, "not measured yet");
    assert_string_equal(view(s)->item[view(s)->next].id, "S1a");
    measure_open(s, 4.25, 2);
    assert_false(view(s)->met);
    says(view(s)->status.text, "NOT MET: KL 0.266");
    assert_string_equal(view(s)->item[view(s)->next].id, "S2a");
    measure_entry(s, "S3a", 3, 3, 2);
    says(item(s, "S3a")->evidence.text, "better");
    ok(session_guide_goal(s, "ppl=+1%", &err));
    says(item(s, "S3a")->evidence.text, "the same"); /* the loss of the next token did not change */
    ok(session_guide_goal(s, "kl=0.3", &err));
    assert_true(view(s)->met);
    says(view(s)->status.text, "goal kl=0.3 MET");
    assert_int_equal(view(s)->next, -1);
    is(s, "S3b", GUIDE_MET);
    assert_int_equal(view(s)->step[2].state, GUIDE_BETTER);
    session_free(s);
}

/* Without a goal a drop within its noise is none: there is nothing to do. */
static void no_regression(void **state)
{
    (void)state;
    Session *s = open_demo();
    measure_open(s, 1, 0.02); /* +0.1 %, error 0.1 % */
    assert_true(view(s)->met);
    says(view(s)->status.text, "DONE");
    says(item(s, "S1c")->evidence.text, "no regression");
    assert_int_equal(view(s)->next, -1);
    session_free(s);
    s = open_demo();
    measure_open(s, 1, 0.1);
    assert_false(view(s)->met);
    says(item(s, "S1c")->evidence.text, "a real change");
    session_free(s);
}

static void skipped_with_a_reason(void **state)
{
    (void)state;
    Session *s = open_demo();
    refused(session_guide_skip(s, "S3", "", &err), "why is S3 skipped?");
    refused(session_guide_skip(s, "S9", "x", &err), "the guide has no 'S9'");
    ok(session_guide_skip(s, "s3", "the engine has one method", &err));
    ok(session_guide_skip(s, "S5b", "no bytes left", &err));
    assert_int_equal(view(s)->step[2].state, GUIDE_SKIPPED);
    assert_string_equal(view(s)->step[2].line.text, "the engine has one method");
    is(s, "S3a", GUIDE_SKIPPED);
    is(s, "S5b", GUIDE_SKIPPED);
    assert_string_equal(item(s, "S5b")->reason.text, "no bytes left");
    refused(session_guide_run(s, "S3a", NULL, &err), "guide todo S3a");
    measure_open(s, 4, 2);
    ok(session_guide_skip(s, "S2", "the engine has no smoothed models", &err));
    assert_true(view(s)->item[view(s)->next].step > 2);
    ok(session_guide_skip(s, "S3", NULL, &err));
    is(s, "S3a", GUIDE_TODO);
    session_free(s);
}

static void answers(void **state)
{
    (void)state;
    Session *s = open_demo();
    measure_open(s, 4, 2);
    is(s, "S1a", GUIDE_ASKS);
    refused(session_guide_answer(s, "S1a", "maybe", NULL, &err), "yes, no or unknown");
    refused(session_guide_answer(s, "S3a", "yes", NULL, &err), "asks nothing");
    ok(session_guide_answer(s, "S1a", "yes", "MMLU 51.5 of 51.7", &err));
    is(s, "S1a", GUIDE_DONE);
    assert_string_equal(item(s, "S1a")->note, "MMLU 51.5 of 51.7");
    ok(session_guide_answer(s, "S1b", "no", NULL, &err));
    assert_int_equal(view(s)->step[0].state, GUIDE_STOP);
    says(view(s)->back.text, "S2 first");
    assert_false(view(s)->stopped);
    ok(session_guide_answer(s, "S1a", "no", NULL, &err));
    assert_true(view(s)->stopped);
    says(view(s)->back.text, "engine, template or prompt");
    assert_int_equal(view(s)->next, -1);
    refused(session_guide_run(s, NULL, NULL, &err), "nothing comes next");
    session_free(s);
}

/* Of what is better the best is to be taken, or what comes before it and is not worse by more than the noise. */
static void the_one_to_take(void **state)
{
    (void)state;
    Session *s = open_demo();
    measure_open(s, 8, 2);
    assert_int_equal(view(s)->take, -1);
    measure_entry(s, "S2a", 5, 7, 2);
    assert_string_equal(view(s)->item[view(s)->take].id, "S2a");
    measure_entry(s, "S2c", 3, 5, 2); /* less by 2.5 in both blocks */
    measure_entry(s, "S2e", 2, 5.5, 2); /* less than that by 1 in one, more by 0.5 in the other */
    assert_string_equal(view(s)->item[view(s)->take].id, "S2c");
    says(view(s)->step[1].line.text, "S2c KL 0.25");
    measure_entry(s, "S3a", 1, 1, 2); /* of a later step */
    assert_string_equal(view(s)->item[view(s)->take].id, "S2c");
    measure_entry(s, "S3b", 9, 11, 2);
    assert_string_equal(guide_item_word(item(s, "S3b")), "worse");
    assert_string_equal(guide_item_word(item(s, "S3a")), "better");
    measure_entry(s, "S3c", 8, 8, 2);
    assert_string_equal(guide_item_word(item(s, "S3c")), "no gain");
    ok(session_guide_apply(s, "S2c", false, NULL, &err));
    assert_string_not_equal(view(s)->take < 0 ? "" : view(s)->item[view(s)->take].id, "S2c");
    session_free(s);
}

/* Takes a recipe in as one undo step; what was tried stays known. */
static void applied(void **state)
{
    (void)state;
    Session *s = open_demo();
    Str what = {0};
    refused(session_guide_apply(s, "S3d", false, NULL, &err), "the open recipe has it");
    refused(session_guide_apply(s, "S1a", false, NULL, &err), "changes nothing");
    measure_open(s, 8, 2);
    measure_entry(s, "S3a", 4, 6, 1);
    int depth = session_undo_depth(s);
    ok(session_guide_apply(s, "S3a", false, &what, &err));
    says(str_text(&what), "per_token symmetric minmax; undo takes it back");
    assert_int_equal(session_undo_depth(s), depth + 1);
    assert_string_equal(recipe_name(session_recipe(s)), "w8a8_static+S3a.yaml");
    is(s, "S3a", GUIDE_HAS);
    assert_true(view(s)->measured); /* it is what was measured */
    assert_true(fabs(session_effect(s, NULL)->kl_mean - 10.0 / 32) < 1e-12);
    is(s, "S3d", GUIDE_DONE); /* the way back is known, too */
    says(item(s, "S3d")->evidence.text, "worse");
    ok(session_undo(s, NULL, &err));
    is(s, "S3a", GUIDE_BETTER);
    str_free(&what);
    session_free(s);
}

static double rising(const Model *m, int64_t group, int level)
{
    (void)m;
    return 1e-3 * (double)(group + 1) * level;
}

/* Floats: the worst of a kind, as many as are foretold to do; and giving back what the goal does not need. */
static void rolled_back(void **state)
{
    (void)state;
    Session *s = open_demo();
    is(s, "S5b", GUIDE_LATER);
    says(item(s, "S5b")->reason.text, "S5a first");
    give_block_errors(s, rising);
    ok(session_guide_goal(s, "kl=0.39", &err));
    is(s, "S5b", GUIDE_TODO);
    says(item(s, "S5b")->delta.text, "8 of 8 down_proj to float");
    measure_open(s, 8, 2); /* 0.5, of a sum of 0.528: the worst five have 0.12 of it */
    says(item(s, "S5b")->delta.text, "5 of 8 down_proj to float"); /* 0.386 is enough */
    const Candidate *c = guide_candidate(s, guide_of(s), find("S5b"));
    for (int64_t i = 0, n = 0; i < s->model->nlinears; i++) {
        bool down = strstr(s->model->linears[i].name, "down_proj") != NULL;
        n += down;
        assert_int_equal(c->level[i] == 0, down && n > 3); /* the last five weigh most */
    }
    measure_entry(s, "S5b", 5, 5, 1);
    is(s, "S5b", GUIDE_BETTER);
    ok(session_guide_apply(s, "S5b", false, NULL, &err));
    assert_true(view(s)->met);
    assert_true(session_whatifs(s) > 0);
    is(s, "S5f", GUIDE_HAS); /* without its one rule it is what was measured first: 0.5 */
    says(item(s, "S5f")->reason.text, "every rule to float is needed");
    static const char *const more[] = {"*layers.0.self_attn.o_proj"};
    ok(session_edit(s, more, 1, 0, false, NULL, &err));
    measure_open(s, 4.5, 1);
    assert_true(view(s)->met);
    is(s, "S5f", GUIDE_TODO); /* offered although the goal is met */
    measure_entry(s, "S5f", 7, 7, 2);
    is(s, "S5f", GUIDE_BETTER); /* the rule that came last can go: 0.3125 */
    says(item(s, "S5f")->evidence.text, "KL 0.312");
    says(item(s, "S5f")->delta.text, "layers.0.self_attn.o_proj");
    ok(session_guide_apply(s, "S5f", false, NULL, &err));
    assert_true(fabs(session_effect(s, NULL)->kl_mean - 0.3125) < 1e-12);
    session_free(s);
}

/* What S4 or S5 brought sends back to the outliers, as long as the goal is not met. */
static void back_edge(void **state)
{
    (void)state;
    Session *s = open_demo();
    give_block_errors(s, rising);
    ok(session_guide_goal(s, "kl=0.01", &err));
    measure_open(s, 8, 2);
    assert_string_equal(view(s)->back.text, "");
    measure_entry(s, "S5b", 6, 6, 1);
    ok(session_guide_apply(s, "S5b", false, NULL, &err));
    says(view(s)->back.text, "S2a to S2d once more");
    ok(session_guide_goal(s, "kl=0.5", &err));
    assert_string_equal(view(s)->back.text, "");
    session_free(s);
}

static Session *again(const char *id)
{
    SessionOptions o = options();
    Session *s;
    ok(session_restore(&s, &o, id, &err));
    return s;
}

static void after_a_restart(void **state)
{
    (void)state;
    Session *s = open_demo();
    char id[40];
    ok(session_guide_goal(s, "ppl=+1%", &err));
    ok(session_guide_skip(s, "S2", "engine cannot rotate", &err));
    ok(session_guide_skip(s, "S4", "no time", &err));
    ok(session_guide_skip(s, "S4", NULL, &err));
    ok(session_guide_note(s, "S1", "GPQA float 51.5", &err));
    ok(session_guide_note(s, "S1a", "seed 2: 51.1", &err));
    ok(session_guide_answer(s, "S1a", "yes", NULL, &err));
    measure_open(s, 8, 2);
    measure_entry(s, "S3b", 4, 6, 1);
    int jobs;
    ok(session_guide_run(s, "S3b", &jobs, &err));
    assert_int_equal(jobs, 0); /* it is measured */
    ok(session_guide_apply(s, "S3b", false, NULL, &err));
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    s = again(id);
    assert_string_equal(view(s)->goal, "ppl=+1%");
    assert_int_equal(view(s)->step[1].state, GUIDE_SKIPPED);
    assert_int_not_equal(view(s)->step[3].state, GUIDE_SKIPPED);
    assert_string_equal(item(s, "S1a")->note, "GPQA float 51.5; seed 2: 51.1");
    is(s, "S1a", GUIDE_DONE);
    is(s, "S3b", GUIDE_HAS);
    says(item(s, "S3b")->evidence.text, "(#2)");
    says(item(s, "S3b")->evidence.text, "against #1: better");
    assert_true(guide_of(s)->mark[find("S3b")].applied > guide_of(s)->mark[find("S3b")].tried);
    assert_string_equal(recipe_name(session_recipe(s)), "w8a8_static+S3b.yaml");
    ok(session_undo(s, NULL, &err));
    is(s, "S3b", GUIDE_BETTER);
    session_free(s);
}

/* What smooths takes the place of what smooths already, unless a person wants both; a rotation stays in front. */
static void one_smooths(void **state)
{
    (void)state;
    Session *s = open_demo();
    Str what = {0};
    size_t n;
    measure_open(s, 8, 2);
    ok(session_guide_apply(s, "S2a", false, &what, &err));
    says(str_text(&what), "S2a is in: + {type: iter_smooth, alpha: 0.9, symmetric: true}; undo takes it back");
    assert_null(strchr(str_text(&what), '\n')); /* nothing was replaced */
    is(s, "S2a", GUIDE_HAS);
    says(item(s, "S2c")->delta.text, "iter_smooth alpha 0.9 -> 0.7");
    ok(session_guide_apply(s, "S2f", false, NULL, &err));
    int depth = session_undo_depth(s);
    str_free(&what);
    ok(session_guide_apply(s, "S2e", false, &what, &err));
    says(str_text(&what), "iter_smooth -> {type: flex_smooth_quant}");
    says(str_text(&what), "+    - {type: flex_smooth_quant}");
    says(str_text(&what), "-    - {type: iter_smooth");
    assert_int_equal(session_undo_depth(s), depth + 1);
    const char *text = recipe_source(session_recipe(s), &n), *turns = strstr(text, "quarot"), *flex = strstr(text, "flex_smooth_quant");
    assert_null(strstr(text, "iter_smooth"));
    assert_true(turns && flex && turns < flex);
    is(s, "S2a", GUIDE_TODO);
    refused(session_guide_apply(s, "S2f", true, NULL, &err), "takes no other's place");
    ok(session_guide_apply(s, "S2a", true, NULL, &err));
    text = recipe_source(session_recipe(s), &n);
    assert_true(strstr(text, "quarot") < strstr(text, "iter_smooth") && strstr(text, "iter_smooth") < strstr(text, "flex_smooth_quant"));
    says(item(s, "S2c")->reason.text, "2 processors that smooth");
    is(s, "S2c", GUIDE_LATER);
    ok(session_undo(s, NULL, &err));
    ok(session_undo(s, NULL, &err));
    is(s, "S2a", GUIDE_HAS);
    str_free(&what);
    session_free(s);
}

/* What the guide advises against, or can't be seen by a measurement, is run only by its own name. */
static void stands_aside(void **state)
{
    (void)state;
    Session *s = open_demo();
    measure_open(s, 8, 2);
    is(s, "S2j", GUIDE_LATER);
    says(item(s, "S2j")->reason.text, "not recommended");
    says(item(s, "S2i")->reason.text, "analyze alone_attention");
    assert_true(item(s, "S2j")->can_run && item(s, "S2j")->can_apply);
    assert_string_equal(view(s)->item[view(s)->next].id, "S2a");
    int jobs;
    ok(session_guide_run(s, "S2", &jobs, &err));
    is(s, "S2j", GUIDE_LATER); /* not with its step */
    is(s, "S2a", GUIDE_RUNNING);
    measure_entry(s, "S2j", 4, 6, 1);
    is(s, "S2j", GUIDE_BETTER); /* but it is measured as any other */
    session_free(s);
}

/* After something else came in, what was tried is told to be of before, and measured again by one command. */
static void of_an_earlier_base(void **state)
{
    (void)state;
    Session *s = open_demo();
    int jobs;
    refused(session_guide_again(s, NULL, NULL, &err), "nothing was tried");
    measure_open(s, 8, 2);
    measure_entry(s, "S2a", 4, 6, 1);
    measure_entry(s, "S3a", 5, 7, 1);
    measure_entry(s, "S3b", 9, 11, 1);
    static const char *const ids[] = {"S2a", "S3a", "S3b"};
    for (int i = 0; i < 3; i++)
        ok(session_guide_run(s, ids[i], NULL, &err));
    refused(session_guide_again(s, "S3a", NULL, &err), "guide run S3a");
    ok(session_guide_apply(s, "S2a", false, NULL, &err));
    is(s, "S2a", GUIDE_HAS);
    is(s, "S3a", GUIDE_OLD);
    is(s, "S3b", GUIDE_OLD);
    is(s, "S3c", GUIDE_TODO);
    says(item(s, "S3a")->evidence.text, "against #1");
    says(item(s, "S3a")->reason.text, "before S2a came in");
    measure_entry(s, "S3a", 3, 4, 1);
    is(s, "S3a", GUIDE_BETTER); /* against what S2a made */
    says(item(s, "S3a")->evidence.text, "against #2");
    refused(session_guide_again(s, "S2", NULL, &err), "nothing was tried");
    ok(session_guide_again(s, NULL, &jobs, &err));
    assert_int_equal(jobs, 1); /* S3b alone */
    is(s, "S3b", GUIDE_RUNNING);
    ok(session_cancel_job(s, guide_of(s)->mark[find("S3b")].job, 2, &err));
    (void)session_wait(s, &err);
    ok(session_undo(s, NULL, &err));
    is(s, "S3b", GUIDE_DONE);
    session_free(s);
}

/* The engine's own measurement: what is open first, then the entry, each a job of its own. */
static void it_runs(void **state)
{
    (void)state;
    Session *s = open_demo();
    int jobs;
    refused(session_guide_run(s, "S3h", NULL, &err), "nothing of the open recipe that this is for"); /* no INT4 */
    ok(session_guide_run(s, "S3a", &jobs, &err));
    assert_int_equal(jobs, 2);
    is(s, "S3a", GUIDE_RUNNING);
    refused(session_guide_run(s, "S3a", NULL, &err), "runs already");
    ok(session_wait(s, &err));
    assert_int_equal(session_measurements(s), 2);
    assert_int_equal(guide_of(s)->mark[find("S3a")].measured, 2);
    assert_int_equal(guide_of(s)->mark[find("S3a")].against, 1);
    says(item(s, "S3a")->evidence.text, "against #1");
    refused(session_guide_run(s, "S1", NULL, &err), "S1 has nothing to run");
    ok(session_guide_apply(s, "S3a", false, NULL, &err));
    ok(session_measure(s, false, &err)); /* what was measured for it is the open recipe's */
    ok(session_wait(s, &err));
    assert_int_equal(session_measurements(s), 2);
    session_free(s);
}

/* What a search came to, whoever began it: its end, how many measurements, its set; after a restart, too. */
static void a_search_is_evidence(void **state)
{
    (void)state;
    Session *s = open_demo();
    char id[40];
    give_block_errors(s, rising);
    measure_open(s, 8, 2);
    static const char *const float_all[] = {"*.mlp.*"};
    ok(session_edit(s, float_all, 1, 0, false, NULL, &err));
    measure_open(s, 1, 0.5);
    ok(session_guide_goal(s, "kl=0.2", &err));
    is(s, "S5e", GUIDE_MET);
    Tuning *t = s->tuning;
    t->tries = mem_zarray(2, sizeof *t->tries);
    t->ntries = 2;
    t->best = 1;
    t->tries[1].effect = session_effect(s, NULL)[0];
    ok(goal_parse("kl=0.2", &t->goal, &err));
    t->state = TUNING_MET;
    guide_searched(s);
    is(s, "S5e", GUIDE_DONE);
    says(item(s, "S5e")->evidence.text, "goal kl=0.2 held after 2 measurements: KL 0.0625 (#2), +");
    assert_int_equal(item(s, "S5e")->measured, 2);
    ok(session_guide_goal(s, "kl=0.01", &err));
    is(s, "S5e", GUIDE_TODO);
    says(item(s, "S5e")->reason.text, "searched for kl=0.2: guide run searches for kl=0.01");
    ok(session_guide_goal(s, "kl=0.2", &err));
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    s = again(id);
    is(s, "S5e", GUIDE_DONE);
    says(item(s, "S5e")->evidence.text, "held after 2 measurements: KL 0.0625 (#2), +");
    ok(session_guide_apply(s, "S3a", false, NULL, &err)); /* under this recipe it found nothing yet */
    is(s, "S5e", GUIDE_OLD);
    session_free(s);
}

/* A journal of before: the search's words as a note of its entry. */
static void an_older_search_is_read(void **state)
{
    (void)state;
    Session *s = open_demo();
    static const char *const records[] = {
        "{\"t\":\"guide\",\"do\":\"note\",\"item\":\"S5e\",\"text\":\"held after 5 measurements; KL 0.01\"}",
        "{\"t\":\"guide\",\"do\":\"ran\",\"item\":\"S5e\"}",
    };
    for (int i = 0; i < 2; i++) {
        cJSON *o = cJSON_Parse(records[i]);
        ok(guide_restore(s, o, &err));
        cJSON_Delete(o);
    }
    ok(session_guide_goal(s, "kl=0.2", &err));
    is(s, "S5e", GUIDE_DONE);
    assert_string_equal(item(s, "S5e")->evidence.text, "held after 5 measurements; KL 0.01");
    session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_whole),
        cmocka_unit_test(what_is_built),
        cmocka_unit_test(accepted_at_the_boundary),
        cmocka_unit_test(the_goal),
        cmocka_unit_test(no_regression),
        cmocka_unit_test(skipped_with_a_reason),
        cmocka_unit_test(answers),
        cmocka_unit_test(the_one_to_take),
        cmocka_unit_test(applied),
        cmocka_unit_test(rolled_back),
        cmocka_unit_test(back_edge),
        cmocka_unit_test(after_a_restart),
        cmocka_unit_test(it_runs),
        cmocka_unit_test(one_smooths),
        cmocka_unit_test(stands_aside),
        cmocka_unit_test(of_an_earlier_base),
        cmocka_unit_test(a_search_is_evidence),
        cmocka_unit_test(an_older_search_is_read),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
