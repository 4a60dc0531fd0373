/* Where CPU time goes is told part by part: nothing is lost, nothing counted twice, whatever the threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/pool.h"

enum { TASKS = 24, THREADS = 3 };
static const int64_t spin_ns = 1500 * 1000;

typedef struct Seen {
    int64_t ns[PHASES]; /* that the task itself saw pass, within each part */
} Seen;

typedef struct Work {
    Profile *profile;
    Seen task[TASKS];
} Work;

/* CPU time of this thread, spent here. */
static int64_t spin(void)
{
    int64_t begin = profile_thread_ns(), now = begin;
    while (now - begin < spin_ns)
        now = profile_thread_ns();
    return now - begin;
}

/* Every third task is of two other parts, one within the other. */
static void task(void *ctx, int64_t i, int worker)
{
    Work *w = ctx;
    Seen *s = &w->task[i];
    s->ns[PHASE_LINEAR] += spin();
    if (i % 3)
        return;
    Phase was = profile_enter(w->profile, worker, PHASE_DECODE);
    s->ns[PHASE_DECODE] += spin();
    Phase inner = profile_enter(w->profile, worker, PHASE_STATISTICS);
    s->ns[PHASE_STATISTICS] += spin();
    profile_leave(w->profile, worker, inner);
    s->ns[PHASE_DECODE] += spin();
    profile_leave(w->profile, worker, was);
    s->ns[PHASE_LINEAR] += spin();
}

static void every_part_has_its_time(void **state)
{
    (void)state;
    Work w = {0};
    Pool *pool;
    ProfileReport r;
    double want[PHASES] = {0}, sum = 0;
    assert_int_equal(pool_new(&pool, THREADS, NULL), ST_OK);
    assert_null(pool_profile(pool));
    assert_int_equal(profile_new(&w.profile, THREADS, NULL), ST_OK);
    pool_set_profile(pool, w.profile);
    Phase was = profile_enter(w.profile, 0, PHASE_SAVE); /* the thread that drives the pool, around its run */
    want[PHASE_SAVE] += (double)spin() * 1e-9;
    pool_run(pool, PHASE_LINEAR, TASKS, task, &w, NULL);
    want[PHASE_SAVE] += (double)spin() * 1e-9;
    profile_leave(w.profile, 0, was);
    int64_t begin = profile_begin(w.profile);
    want[PHASE_READ] += (double)spin() * 1e-9;
    profile_end(w.profile, PHASE_READ, begin);
    profile_report(w.profile, &r);
    for (int i = 0; i < TASKS; i++)
        for (int k = 0; k < PHASES; k++)
            want[k] += (double)w.task[i].ns[k] * 1e-9;
    for (int k = 0; k < PHASES; k++) {
        sum += r.cpu[k];
        if (k != PHASE_OTHER && (r.cpu[k] < want[k] - 1e-9 || (want[k] == 0) != (r.cpu[k] == 0)))
            fail_msg("%s: %.9f s told, %.9f s seen", phase_table[k].name, r.cpu[k], want[k]);
    }
    assert_true(sum > r.total - 1e-9 && sum < r.total + 1e-9);
    assert_true(r.cpu[PHASE_OTHER] > -0.01); /* clocks of threads and of the process are read one after the other */
    assert_int_equal(r.calls[PHASE_LINEAR], TASKS);
    assert_int_equal(r.calls[PHASE_DECODE], TASKS / 3);
    assert_int_equal(r.calls[PHASE_STATISTICS], TASKS / 3);
    assert_int_equal(r.calls[PHASE_SAVE], 1);
    assert_int_equal(r.calls[PHASE_READ], 1);
    assert_int_equal(r.calls[PHASE_OTHER], 0);
    assert_int_equal(r.workers, THREADS);
    pool_set_profile(pool, NULL);
    pool_free(pool);
    profile_free(w.profile);
}

/* Without one nothing is kept, and reports of several jobs are sums. */
static void reports_add_up(void **state)
{
    (void)state;
    ProfileReport a = {.total = 1.5, .wall = 1, .workers = 2, .cpu = {[PHASE_GATE] = 1, [PHASE_OTHER] = 0.5}, .calls = {[PHASE_GATE] = 3}};
    ProfileReport sum = {0};
    assert_int_equal(profile_enter(NULL, 7, PHASE_GATE), PHASE_OTHER);
    profile_leave(NULL, 7, PHASE_OTHER);
    profile_end(NULL, PHASE_READ, profile_begin(NULL));
    profile_report_add(&sum, &a);
    profile_report_add(&sum, &a);
    assert_true(sum.total == 3 && sum.wall == 2 && sum.cpu[PHASE_GATE] == 2 && sum.calls[PHASE_GATE] == 6);
    assert_int_equal(sum.workers, 2);
    profile_report_process(&sum);
    double all = 0;
    for (int k = 0; k < PHASES; k++)
        all += sum.cpu[k];
    assert_true(all > sum.total - 1e-9 && all < sum.total + 1e-9);
}

static void parts_are_named(void **state)
{
    (void)state;
    for (int k = 0; k < PHASES; k++) {
        assert_non_null(phase_table[k].name);
        assert_true(phase_table[k].text && *phase_table[k].text);
        assert_int_equal(strspn(phase_table[k].name, "abcdefghijklmnopqrstuvwxyz_"), strlen(phase_table[k].name));
        for (int j = 0; j < k; j++)
            assert_true(strcmp(phase_table[k].name, phase_table[j].name) != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_has_its_time),
        cmocka_unit_test(reports_add_up),
        cmocka_unit_test(parts_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
