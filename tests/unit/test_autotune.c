/* Tuning by a plan as work of a session: jobs beside what is open, questions and their answers, stops and what goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* behind these: */
#include <cmocka.h>

#include "io/file.h"
#include "session/autotune.h"
#include "session/parts.h"
#include "src/internal.h"
#include "tests/lib/demo_session.h"
#include "tests/lib/tempdir.h"

static Error err;
static char *dir, plan[96], out[96];

#define ok(call) session_ok(call, &err)

static int setup(void **state)
{
    (void)state;
    dir = temp_folder();
    snprintf(plan, sizeof plan, "%s/plan.yaml", dir);
    snprintf(out, sizeof out, "%s/out", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    Status st = dir_remove(dir, NULL); /* with what plans left */
    free(dir);
    return st == ST_OK ? 0 : -1;
}

/* standing_high over the demo model, whose tries a person values; `dataset` is what it asks of. */
static void write_plan(const char *target)
{
    char text[1200];
    int n = snprintf(text, sizeof text,
                     "strategy:\n  type: standing_high\n  anti_outlier_strategies: [[]]\n  template:\n    dataset: mix_calib.jsonl\n"
                     "    process:\n      - type: linear_quant\n        qconfig:\n"
                     "          act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}\n"
                     "          weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}\n"
                     "    save: [{type: ascendv1_saver, part_file_size: 4}]\n"
                     "evaluation:\n  type: manual\n  demand: {expectations: [{dataset: quiz, target: '%s', tolerance: '0'}]}\n",
                     target);
    assert_true(n > 0 && n < (int)sizeof text);
    temp_put(plan, text, (size_t)n);
}

static Session *open_asking(const char *state)
{
    SessionOptions o = demo_session_options(state);
    Session *s;
    o.asks = true;
    o.max_samples = 2;
    o.seq_len = 32;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, "lab_models/demo", NULL, &err));
    return s;
}

/* Until something is asked, or nothing runs any more. */
static const char *question(Session *s)
{
    const char *q = NULL;
    while (!(q = session_question(s)) && session_works(s))
        session_pump(s);
    return q;
}

static AutotuneView look(const Session *s)
{
    AutotuneView v;
    assert_true(session_autotuning(s, &v));
    return v;
}

/* What the tries come to by the number of blocks they keep in float: 60 and 5 for each. */
static void answer_by_level(Session *s)
{
    while (question(s)) {
        AutotuneView v = look(s);
        char line[32];
        snprintf(line, sizeof line, "%d", 60 + 5 * loop_try(v.loop, loop_tries(v.loop) - 1)->practice->level);
        ok(session_answer(s, line, &err));
    }
}

static void a_person_values_tries(void **state)
{
    (void)state;
    Session *s = open_asking(NULL);
    AutotuneView v;
    const AutotuneOptions o = {.plan = plan, .save_path = out};
    assert_false(session_autotuning(s, &v));
    assert_int_equal(session_answer(s, "1", &err), ST_USAGE);
    write_plan("68");
    const char *edit[] = {"*.0.mlp.down_proj"};
    ok(session_edit(s, edit, 1, 0, false, NULL, &err));
    const Recipe *recipe = s->recipe;
    ok(session_autotune(s, &o, &err));
    assert_int_equal(session_autotune(s, &o, &err), ST_USAGE); /* it runs */
    assert_non_null(question(s));
    assert_non_null(strstr(session_question(s), "quiz"));
    answer_by_level(s);
    v = look(s);
    assert_int_equal(v.state, AUTOTUNE_ENDED);
    assert_int_equal(v.end, LOOP_MET);
    assert_int_equal(v.status, ST_OK);
    const LoopTry *best = loop_try(v.loop, loop_best(v.loop));
    assert_int_equal(best->practice->level, 2); /* the fewest blocks with 68 */
    assert_string_equal(best->practice->id, v.id);
    assert_true(best->floats == 14 && best->bytes < best->float_bytes);
    assert_ptr_equal(s->recipe, recipe); /* what is open is as it was */
    assert_int_equal(session_undo_depth(s), 1);
    assert_int_equal(session_measurements(s), 0);
    char path[160];
    snprintf(path, sizeof path, "%s/best_practice.yaml", out);
    ok(session_open_recipe(s, path, NULL, &err));
    ok(session_close(s, &err));
    ok(dir_remove(out, &err));
}

static void nobody_answers(void **state)
{
    (void)state;
    const AutotuneOptions o = {.plan = plan, .save_path = out};
    write_plan("68");
    Session *s = open_asking(NULL);
    s->opt.asks = false;
    assert_int_equal(session_autotune(s, &o, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "nobody to ask"));
    assert_false(dir_exists(out)); /* nothing was begun */
    s->opt.asks = true;
    ok(session_autotune(s, &o, &err));
    assert_non_null(question(s));
    ok(session_answer(s, NULL, &err)); /* the end of the input */
    assert_int_not_equal(session_wait(s, &err), ST_INTERNAL);
    AutotuneView v = look(s);
    assert_int_not_equal(v.state, AUTOTUNE_RUNS);
    assert_int_not_equal(v.status, ST_OK);
    ok(session_close(s, &err));
    ok(dir_remove(out, &err));
}

/* Stopped while it asks, closed, opened again: it goes on at the same try, and no answer is asked for twice. */
static void a_stopped_plan_goes_on(void **state)
{
    (void)state;
    char kept[80], id[40];
    snprintf(kept, sizeof kept, "%s/state", dir);
    const AutotuneOptions o = {.plan = plan, .save_path = out};
    write_plan("68");
    Session *s = open_asking(kept);
    ok(session_autotune(s, &o, &err));
    assert_non_null(question(s));
    ok(session_answer(s, "60", &err));
    assert_non_null(question(s));
    int tries = loop_tries(look(s).loop);
    assert_int_equal(tries, 2);
    ok(session_cancel(s, 1, &err));
    assert_int_equal(session_wait(s, &err), ST_CANCELLED);
    assert_int_equal(look(s).state, AUTOTUNE_STOPPED);
    snprintf(id, sizeof id, "%s", session_id(s));
    ok(session_close(s, &err));
    SessionOptions opt = demo_session_options(kept);
    opt.asks = true;
    ok(session_restore(&s, &opt, id, &err));
    assert_int_equal(look(s).state, AUTOTUNE_STOPPED);
    ok(session_resume_job(s, 0, &err));
    const char *q = question(s);
    assert_non_null(q);
    assert_non_null(strstr(q, "try 2"));
    answer_by_level(s);
    AutotuneView v = look(s);
    assert_int_equal(v.end, LOOP_MET);
    assert_true(loop_try(v.loop, 0)->cached);
    ok(session_close(s, &err));
    ok(dir_remove(out, &err));
}

static void plans_that_cannot_begin(void **state)
{
    (void)state;
    char lost[96];
    snprintf(lost, sizeof lost, "%s/none.yaml", dir);
    Session *s = open_asking(NULL);
    AutotuneOptions o = {.plan = lost, .save_path = out};
    assert_int_not_equal(session_autotune(s, &o, &err), ST_OK);
    assert_non_null(strstr(err.text, "none.yaml"));
    temp_puts(plan, "strategy: {type: guess}\n");
    o.plan = plan;
    assert_int_equal(session_autotune(s, &o, &err), ST_DATA);
    if (!strstr(err.text, "plan.yaml:1:1: evaluation"))
        fail_msg("%s", err.text);
    AutotuneView v;
    assert_false(session_autotuning(s, &v));
    ok(session_close(s, &err));
}

/* The command answers what a job asks. */
static void the_command_answers(void **state)
{
    (void)state;
    App a;
    write_plan("60");
    ok(app_init(&a, FACE_SHELL, &err));
    a.session = open_asking(NULL);
    const AutotuneOptions o = {.plan = plan, .save_path = out};
    assert_int_equal(app_execute(&a, "answer 60", &err), ST_USAGE);
    ok(session_autotune(a.session, &o, &err));
    assert_non_null(question(a.session));
    ok(app_execute(&a, "answer 60", &err));
    ok(session_wait(a.session, &err));
    assert_int_equal(look(a.session).end, LOOP_MET);
    ok(app_close(&a, &err));
    app_fini(&a);
    ok(dir_remove(out, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_person_values_tries), cmocka_unit_test(nobody_answers),
        cmocka_unit_test(a_stopped_plan_goes_on), cmocka_unit_test(plans_that_cannot_begin),
        cmocka_unit_test(the_command_answers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
