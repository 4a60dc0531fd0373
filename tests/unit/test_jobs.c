/* The queue: its order, pauses and estimates, what of it comes back, and the log that tells of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/file.h"
#include "session/logfile.h"
#include "session/session.h"
#include "tests/lib/demo_session.h"
#include "tests/lib/small_session.h"
#include "tests/lib/tempdir.h"

static Error err;

static void ok(Status st)
{
    session_ok(st, &err);
}

static Session *restore(const char *id)
{
    SessionOptions o = small_options();
    Session *s;
    ok(session_restore(&s, &o, id, &err));
    return s;
}

static void ask(Session *s, const char *metric)
{
    const char *const names[] = {metric, NULL};
    ok(session_analyze(s, names, NULL, 0, false, &err));
}

/* What was queued while job 1 stands still: 2 kurtosis, 3 std, 4 a measurement, 5 a quantization, one undo step between. */
static Session *queue_of_five(char id[40])
{
    static const char *const target[] = {"*.0.mlp.down_proj"};
    Session *s = small_session(id);
    const QuantizeOptions q = {.save_path = temp_path(small_root, "out"), .verify = true};
    ok(session_measure(s, false, &err));
    ok(session_pause_job(s, 1, true, &err)); /* it waits for its texts at least, or stands at a tile */
    ask(s, "kurtosis");
    ok(session_pause_job(s, 2, true, &err));
    ask(s, "std");
    ok(session_pause_job(s, 3, true, &err));
    ok(session_edit(s, target, 1, 0, false, NULL, &err));
    ok(session_measure(s, false, &err));
    ok(session_pause_job(s, 4, true, &err));
    ok(session_quantize(s, &q, &err));
    ok(session_pause_job(s, 5, true, &err));
    return s;
}

static int places(Session *s, int out[], int most)
{
    int n = 0;
    for (int i = 0; i < session_jobs(s); i++) {
        const JobView *j = session_job(s, i);
        if (j->state == JOB_WAITING && j->place >= 1 && j->place <= most) {
            out[j->place - 1] = j->id;
            n++;
        }
    }
    return n;
}

static int line_with(const Session *s, const char *text)
{
    for (int i = session_log_first(s); i < session_log_lines(s); i++)
        if (strstr(session_log_line(s, i).text, text))
            return i;
    return -1;
}

/* The line that says that it starts. */
static int begun(const Session *s, const char *job)
{
    for (int i = session_log_lines(s); i-- > session_log_old(s);)
        if (strncmp(session_log_line(s, i).text, job, strlen(job)) == 0 && strstr(session_log_line(s, i).text, " starts"))
            return i;
    return -1;
}

static void a_paused_job_stands_still(void **state)
{
    (void)state;
    char id[40];
    Session *s = queue_of_five(id);
    assert_true(session_busy(s));
    assert_false(session_works(s));
    assert_int_equal(session_wait(s, &err), ST_USAGE); /* and does not wait for ever */
    assert_non_null(strstr(err.text, "is paused: 'resume"));
    for (int i = 0; i < 20; i++) {
        session_pump(s);
        usleep(2000);
    }
    for (int i = 1; i < 5; i++) { /* the first may have run through before it was told */
        const JobView *j = session_job(s, i);
        assert_true(j->paused && j->ok == 0 && !j->measured && (j->state == JOB_WAITING || j->state == JOB_RUNNING));
    }
    assert_int_equal(session_pause_job(s, 3, true, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "paused already"));
    assert_int_equal(session_pause_job(s, 9, true, &err), ST_USAGE);
    ok(session_pause_job(s, 0, false, &err)); /* all of them */
    assert_true(session_works(s));
    ok(session_wait(s, &err));
    for (int i = 0; i < 5; i++)
        assert_int_equal(session_job(s, i)->state, JOB_DONE);
    assert_int_equal(session_pause_job(s, 3, true, &err), ST_USAGE);
    assert_int_equal(session_pause_job(s, 0, false, &err), ST_USAGE);
    ok(session_close(s, &err));
}

/* A measurement that stood still finds what one finds that did not. */
static void a_pause_changes_nothing(void **state)
{
    (void)state;
    char id[40];
    Session *s = small_session(id);
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    double kl = session_job(s, 0)->kl;
    ok(session_close(s, &err));
    s = small_session(id);
    ok(session_measure(s, false, &err));
    for (int i = 0; i < 200 && session_busy(s); i++) {
        Error none;
        if (session_pause_job(s, 1, true, &none) == ST_OK)
            session_pause_job(s, 1, false, &none);
        session_pump(s);
    }
    ok(session_wait(s, &err));
    assert_true(session_job(s, 0)->kl == kl);
    ok(session_close(s, &err));
}

/* After the program's end all that had not begun waits again, in its order, paused where it was. */
static Session *five_of_an_earlier_sitting(char id[40])
{
    Session *s = queue_of_five(id);
    ok(session_pause_job(s, 2, false, &err));
    ok(session_pause_job(s, 1, false, &err));
    ok(session_wait(s, NULL) == ST_USAGE ? ST_OK : ST_FAIL); /* 1 and 2 are done, the others stay paused */
    session_move_job(s, 5, -1, NULL); /* it may stand still behind its beginning */
    ok(session_pause_job(s, 4, false, &err));
    ok(session_pause_job(s, 4, true, &err));
    ok(session_close(s, &err));
    return restore(id);
}

static void the_queue_comes_back(void **state)
{
    (void)state;
    char id[40];
    int order[8] = {0}, n = 0;
    Session *s = NULL;
    for (int i = 0; i < 50 && n != 3; i++) { /* until none of the three had begun before it was told to wait */
        session_free(s);
        s = five_of_an_earlier_sitting(id);
        n = places(s, order, 8);
    }
    assert_int_equal(session_jobs(s), 5);
    assert_true(session_job_find(s, 1)->measured && session_job_find(s, 1)->state == JOB_DONE);
    assert_true(session_job_find(s, 2)->ok > 0 && session_job_find(s, 2)->elapsed > 0);
    assert_int_equal(n, 3);
    assert_true(session_busy(s) && !session_works(s));
    for (int i = 0; i < n; i++)
        assert_true(session_job_find(s, order[i])->earlier && session_job_find(s, order[i])->paused);
    const JobView *q = session_job_find(s, 5);
    assert_string_equal(q->target, temp_path(small_root, "out"));
    ok(session_go_on(s, &n, &err) == ST_USAGE ? ST_OK : ST_FAIL); /* they were paused */
    assert_int_equal(session_wait(s, &err), ST_USAGE);
    ok(session_pause_job(s, 0, false, &err));
    ok(session_wait(s, &err));
    for (int i = 0; i < 5; i++)
        assert_int_equal(session_job(s, i)->state, JOB_DONE);
    double kl = session_job_find(s, 4)->kl; /* of the assignment as it was when it was queued */
    assert_true(kl != session_job_find(s, 1)->kl);
    ok(session_close(s, &err));
    Session *other = small_session(id);
    static const char *const target[] = {"*.0.mlp.down_proj"};
    ok(session_edit(other, target, 1, 0, false, NULL, &err));
    ok(session_measure(other, false, &err));
    ok(session_wait(other, &err));
    assert_true(session_job(other, 0)->kl == kl);
    ok(session_close(other, &err));
}

static void the_queue_is_put_in_another_order(void **state)
{
    (void)state;
    char id[40];
    int was[8] = {0}, now[8] = {0};
    Session *s = queue_of_five(id);
    session_pump(s);
    int n = places(s, was, 8), last; /* some may run, or stand still, or have come through before they were told */
    for (int i = 0; i < 50 && n < 3; i++) {
        session_free(s);
        s = queue_of_five(id);
        session_pump(s);
        n = places(s, was, 8);
    }
    assert_in_range(n, 3, 5);
    last = was[n - 1];
    assert_true(session_job_find(s, last)->behind != was[n - 2]); /* which is paused */
    ok(session_move_job(s, last, -1, &err));
    places(s, now, 8);
    assert_true(now[n - 2] == last && now[n - 1] == was[n - 2]);
    ok(session_move_job(s, now[n - 1], -INT32_MAX, &err));
    places(s, now, 8);
    assert_true(now[0] == was[n - 2] && now[n - 1] == last && now[1] == was[0]);
    assert_int_equal(session_move_job(s, now[0], -1, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "the next one already"));
    ok(session_move_job(s, now[0], INT32_MAX, &err));
    places(s, now, 8);
    assert_int_equal(now[n - 1], was[n - 2]);
    assert_int_equal(session_move_job(s, now[n - 1], 1, &err), ST_USAGE);
    ok(session_move_job(s, last, -INT32_MAX, &err));
    places(s, was, 8);
    ok(session_close(s, &err));
    s = restore(id); /* the order is that of the journal */
    assert_int_equal(places(s, now, 8), n);
    assert_memory_equal(now, was, (size_t)n * sizeof *now);
    ok(session_pause_job(s, 0, false, &err));
    ok(session_go_on(s, NULL, &err));
    Status st = session_wait(s, &err); /* what had begun in the first sitting was paused there, and is left stopped */
    assert_true(st == ST_OK || st == ST_CANCELLED);
    assert_int_equal(session_move_job(s, last, 1, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "has ended"));
    for (int i = 1; i < n; i++) { /* and they ran in it */
        char a[8], b[8];
        snprintf(a, sizeof a, "#%d: ", now[i - 1]);
        snprintf(b, sizeof b, "#%d: ", now[i]);
        assert_true(begun(s, a) < begun(s, b));
    }
    ok(session_close(s, &err));
}

/* The passes that an analysis needs behind its first let what is asked for later go first. */
static void later_passes_give_way(void **state)
{
    (void)state;
    static const char *const three[] = {"kurtosis", "block_error", "alone", NULL};
    char id[40];
    Session *s = NULL;
    int order[8] = {0};
    bool held = false;
    for (int i = 0; i < 50 && !held; i++) { /* until the first stands still while it runs: it holds the queue up */
        session_free(s);
        s = small_session(id);
        ok(session_measure(s, false, &err));
        while (session_job_find(s, 1)->state == JOB_WAITING)
            session_pump(s);
        held = session_pause_job(s, 1, true, &err) == ST_OK;
        usleep(20000);
        session_pump(s);
        held = held && session_job_find(s, 1)->state == JOB_RUNNING;
    }
    assert_true(held);
    ok(session_analyze(s, three, NULL, 0, false, &err));
    int last = session_job(s, session_jobs(s) - 1)->id;
    assert_true(last > 2); /* two passes at least */
    for (int k = 2; k <= last; k++)
        ok(session_pause_job(s, k, true, &err));
    assert_false(session_job_find(s, 2)->gives_way);
    assert_true(session_job_find(s, last)->gives_way);
    ok(session_edit(s, (const char *const[]){"*.0.mlp.down_proj"}, 1, 0, false, NULL, &err));
    ok(session_measure(s, false, &err));
    int asked = session_job(s, session_jobs(s) - 1)->id;
    ok(session_pause_job(s, asked, true, &err));
    int n = places(s, order, 8), first = 0, now = 0;
    for (int k = 0; k < n; k++) {
        first = order[k] == 2 ? k : first;
        now = order[k] == asked ? k : now;
    }
    assert_int_equal(now, first + 1); /* behind the first pass, before the others */
    assert_int_equal(order[n - 1], last);
    session_free(s);
    s = restore(id);
    assert_true(session_job_find(s, 2)->place < session_job_find(s, asked)->place);
    assert_true(session_job_find(s, asked)->place < session_job_find(s, last)->place);
    session_free(s);
}

static void ended_jobs_are_discarded(void **state)
{
    (void)state;
    char id[40];
    Session *s = queue_of_five(id);
    session_pump(s);
    assert_int_equal(session_discard_job(s, 4, &err), ST_USAGE); /* it waits */
    assert_non_null(strstr(err.text, "'cancel 4' stops it first"));
    ok(session_cancel_job(s, 4, 1, &err));
    ok(session_pause_job(s, 0, false, &err));
    ok(session_wait(s, &err));
    assert_int_equal(session_job_find(s, 4)->state, JOB_STOPPED);
    double was = session_score(s, metric_find("kurtosis"), 3).value;
    ok(session_discard_job(s, 2, &err));
    assert_null(session_job_find(s, 2));
    assert_int_equal(session_discard_job(s, 2, &err), ST_USAGE);
    assert_true(session_score(s, metric_find("kurtosis"), 3).value == was); /* what it found stays */
    ok(session_close(s, &err));
    s = restore(id);
    assert_int_equal(session_jobs(s), 4);
    assert_int_equal(session_job_find(s, 4)->state, JOB_STOPPED); /* it does not come back to life */
    ok(session_discard_job(s, 0, &err));
    assert_int_equal(session_jobs(s), 0);
    assert_int_equal(session_discard_job(s, 0, &err), ST_USAGE);
    assert_true(session_score(s, metric_find("kurtosis"), 3).value == was);
    ok(session_measure(s, true, &err)); /* numbers go on */
    assert_int_equal(session_job(s, 0)->id, 6);
    ok(session_wait(s, &err));
    ok(session_close(s, &err));
}

/* A job of a kind that was done is foretold by it, any other is not. */
static void what_waits_is_foretold_by_its_kind(void **state)
{
    (void)state;
    char id[40];
    static const char *const target[] = {"*.0.mlp.down_proj"};
    Session *s = small_session(id);
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    ok(session_edit(s, target, 1, 0, false, NULL, &err));
    ask(s, "kurtosis");
    ok(session_pause_job(s, 2, true, &err));
    ok(session_measure(s, false, &err));
    ok(session_pause_job(s, 3, true, &err));
    ok(session_measure(s, true, &err)); /* another size */
    const JobView *same = session_job_find(s, 3);
    if (same->state == JOB_WAITING)
        assert_true(same->estimate == session_job_find(s, 1)->elapsed);
    const JobView *other = session_job_find(s, 4);
    assert_true(other->state != JOB_WAITING || other->estimate < 0);
    ok(session_pause_job(s, 0, false, &err));
    ok(session_wait(s, &err));
    ok(session_close(s, &err));
}

/* ---- the log ---- */

typedef struct Lines {
    int n, jobs, commands;
    char last[200];
} Lines;

static void count_line(void *ctx, const LogLine *l)
{
    Lines *c = ctx;
    c->n++;
    c->jobs += l->kind == LOG_JOB;
    c->commands += l->kind == LOG_COMMAND;
    snprintf(c->last, sizeof c->last, "%d|%s|#%d|%s", l->level, log_kind_name(l->kind), l->job, l->text);
}

static void the_log_comes_back(void **state)
{
    (void)state;
    char id[40], dir[200];
    Session *s = small_session(id);
    ask(s, "kurtosis");
    ok(session_wait(s, &err));
    session_note(s, LOG_COMMAND, 2, "exclude x: no such\nlayer");
    int lines = session_log_lines(s);
    assert_true(line_with(s, "#1: kurtosis done in") >= 0);
    assert_int_equal(session_log_line(s, line_with(s, "#1: kurtosis done in")).job, 1);
    snprintf(dir, sizeof dir, "%s/sessions/%s", small_root, id);
    assert_string_equal(session_log_file(s), temp_path(dir, "log"));
    ok(session_close(s, &err));
    Lines c = {0};
    logfile_read(dir, 100, count_line, &c);
    assert_true(c.n == lines && c.jobs >= 2 && c.commands == 1);
    assert_string_equal(c.last, "2|command|#0|exclude x: no such layer");
    s = restore(id);
    assert_int_equal(session_log_old(s), lines);
    assert_int_equal(session_log_line(s, lines - 1).level, 2);
    session_log(s, 0, "a line of the second sitting");
    ok(session_close(s, &err));
    c = (Lines){0};
    logfile_read(dir, 1, count_line, &c);
    assert_int_equal(c.n, 1);
    assert_string_equal(c.last, "0|note|#0|a line of the second sitting");
    temp_puts(temp_path(dir, "log"), "no line\n\n2026-11-29 x\n2026-11-29 01:02:03 info job #x y\n");
    c = (Lines){0};
    logfile_read(dir, 100, count_line, &c);
    assert_int_equal(c.n, 1);
    assert_string_equal(c.last, "0|job|#0|#x y");
}

static void the_log_is_bounded(void **state)
{
    (void)state;
    char line[1001];
    memset(line, 'x', 1000);
    line[999] = '\n';
    line[1000] = 0;
    for (int i = 0; i < 2600; i++)
        ok(logfile_append(small_root, line, 1000, &err));
    size_t n[2];
    free(temp_get(temp_path(small_root, "log"), &n[0]));
    free(temp_get(temp_path(small_root, "log.1"), &n[1]));
    assert_true(n[0] <= LOGFILE_MAX && n[1] <= LOGFILE_MAX && n[0] + n[1] > LOGFILE_MAX);
}

/* Least recently used first; what holds edits that were not exported stays, and that is said. */
static void old_sessions_make_room(void **state)
{
    (void)state;
    char id[3][40], now[40];
    static const char *const target[] = {"*.0.mlp.down_proj"};
    SessionInfo *list;
    int n;
    for (int i = 0; i < 3; i++) {
        Session *s = small_session(id[i]);
        ask(s, "kurtosis");
        ok(session_wait(s, &err));
        if (i == 1)
            ok(session_edit(s, target, 1, 0, false, NULL, &err));
        ok(session_close(s, &err));
    }
    Session *s = small_session(now);
    ok(session_set_name(s, "mine", &err));
    assert_int_equal(session_set_name(s, "a b", &err), ST_USAGE);
    ok(session_set(s, "session-cap", "1K", &err));
    ok(session_save(s, temp_path(small_root, "saved"), &err)); /* also waits for what is on its way to the disk */
    ok(session_list(small_root, &list, &n, &err));
    assert_int_equal(n, 2); /* the open one, and that with the edit */
    for (int i = 0; i < n; i++)
        assert_true(strcmp(list[i].id, now) == 0 ? strcmp(list[i].name, "mine") == 0 : list[i].unwritten == 1);
    free(list);
    assert_true(line_with(s, "stays for its 1 edit that was not exported") >= 0);
    assert_true(line_with(s, id[0]) >= 0);
    assert_int_equal(session_set(s, "session-cap", "much", &err), ST_USAGE);
    ok(session_close(s, &err));
    s = restore("mine"); /* by its name */
    assert_string_equal(session_id(s), now);
    ok(session_close(s, &err));
    char other[40];
    ok(session_take_file(small_root, temp_path(small_root, "saved"), other, &err));
    assert_string_not_equal(other, now);
    s = restore(other);
    assert_string_equal(session_name(s), "mine");
    ok(session_close(s, &err));
    assert_int_equal(session_take_file(small_root, temp_path(small_root, "texts.jsonl"), other, &err), ST_DATA);
}

#define WITH_MODEL(f) cmocka_unit_test_setup_teardown(f, small_begin, small_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_MODEL(a_paused_job_stands_still),
        WITH_MODEL(a_pause_changes_nothing),
        WITH_MODEL(the_queue_comes_back),
        WITH_MODEL(the_queue_is_put_in_another_order),
        WITH_MODEL(later_passes_give_way),
        WITH_MODEL(ended_jobs_are_discarded),
        WITH_MODEL(what_waits_is_foretold_by_its_kind),
        WITH_MODEL(the_log_comes_back),
        WITH_MODEL(the_log_is_bounded),
        WITH_MODEL(old_sessions_make_room),
    };
    return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
