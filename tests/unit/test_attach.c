/* The attach socket: its lines, a session that shows another one as it grows, clients that are killed or don't read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>

#include "io/file.h"
#include "session/attach.h"
#include "session/settings.h"
#include "tests/lib/demo_session.h"
#include "tests/lib/small_session.h"
#include "tests/lib/tempdir.h"

static Error err;

static void ok(Status st)
{
    session_ok(st, &err);
}

/* ---- lines ---- */

static void lines_come_back(void **state)
{
    (void)state;
    for (int k = 0; k < WIRE_KINDS; k++) {
        WireLine l = {.kind = (WireKind)k, .format = WIRE_FORMAT, .pid = 77, .ranks = 3, .job = 5, .state = JOB_STOPPED, .what = JOB_QUANTIZE,
                      .paused = true, .done = 12, .total = 30, .elapsed = 1.5, .eta = 31, .peak = 1 << 20, .bound = 1 << 21, .waits = {6, 9},
                      .nwaits = 2, .status = ST_CANCELLED, .level = 2, .log = LOG_JOB}, back;
        strcpy(l.version, "1.2");
        strcpy(l.id, "20260101-000000-1");
        strcpy(l.name, "n\"1");
        strcpy(l.host, "h");
        strcpy(l.model, "/m \\ \t");
        strcpy(l.words, "analyze 'a b'");
        strcpy(l.title, "kurtosis");
        strcpy(l.phase, "layer 3");
        strcpy(l.text, "what went \xe9\xab\x98 wrong\n");
        Str b = {0};
        wire_put(&b, &l);
        assert_int_equal(b.s[b.len - 1], '\n');
        assert_int_equal(strcspn(b.s, "\n"), b.len - 1);
        ok(wire_parse(&back, b.s, b.len - 1, &err));
        assert_int_equal(back.kind, k);
        if (k == WIRE_HELLO) {
            assert_true(back.format == WIRE_FORMAT && back.pid == 77 && back.ranks == 3);
            assert_string_equal(back.name, l.name);
            assert_string_equal(back.model, l.model);
            assert_string_equal(back.words, l.words);
        }
        if (k == WIRE_JOB)
            assert_true(back.job == 5 && back.paused && back.done == 12 && back.total == 30 && back.eta == 31 && back.nwaits == 2 &&
                        back.waits[1] == 9 && back.what == JOB_QUANTIZE && back.bound == 1 << 21);
        if (k == WIRE_END)
            assert_true(back.state == JOB_STOPPED && back.status == ST_CANCELLED && back.elapsed == 1.5);
        if (k == WIRE_END || k == WIRE_LOG || k == WIRE_IDLE || k == WIRE_REFUSED)
            assert_string_equal(back.text, l.text);
        if (k == WIRE_CANCEL)
            assert_true(back.job == 5 && back.level == 2);
        str_free(&b);
    }
    WireLine l;
    const char newer[] = "{\"t\":\"colour\",\"x\":[1]}", bad[] = "{\"t\":", none[] = "{\"done\":1e300,\"x\":null}";
    ok(wire_parse(&l, newer, sizeof newer - 1, &err));
    assert_int_equal(l.kind, WIRE_KINDS);
    assert_int_equal(wire_parse(&l, bad, sizeof bad - 1, &err), ST_DATA);
    assert_int_equal(wire_parse(&l, none, sizeof none - 1, &err), ST_DATA);
}

static void pieces_make_lines(void **state)
{
    (void)state;
    int fd[2];
    size_t n;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    WireIn in = {0};
    assert_int_equal(write(fd[0], "ab", 2), 2);
    assert_true(wire_read(&in, fd[1]));
    assert_null(wire_next(&in, &n));
    assert_int_equal(write(fd[0], "c\nde\nf", 6), 6);
    assert_true(wire_read(&in, fd[1]));
    const char *l = wire_next(&in, &n);
    assert_true(n == 3 && memcmp(l, "abc", 3) == 0);
    l = wire_next(&in, &n);
    assert_true(n == 2 && memcmp(l, "de", 2) == 0);
    assert_null(wire_next(&in, &n));
    char *much = calloc(1, WIRE_LINE_MAX);
    memset(much, 'x', WIRE_LINE_MAX);
    assert_true(write(fd[0], much, WIRE_LINE_MAX) > 0);
    assert_false(wire_read(&in, fd[1])); /* no line is as long as that */
    free(much);
    free(in.b);
    close(fd[0]);
    close(fd[1]);
}

/* ---- a session and who is attached to it ---- */

typedef struct Opening {
    const char *id;
    Attach *attach;
    Status status;
    Error err;
    volatile bool done;
} Opening;

static void *opening(void *arg)
{
    Opening *o = arg;
    do /* its first record may still be on the way to the disk */
        o->status = attach_open(&o->attach, small_root, o->id, &o->err);
    while (o->status == ST_DATA && usleep(10000) == 0);
    __atomic_store_n(&o->done, true, __ATOMIC_RELEASE);
    return NULL;
}

/* Connects while the owner answers, as its loop would. */
static Attach *connect_to(Session *s, const char *id)
{
    Opening o = {.id = id};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, opening, &o), 0);
    while (!__atomic_load_n(&o.done, __ATOMIC_ACQUIRE))
        session_pump(s);
    pthread_join(t, NULL);
    ok(o.status == ST_OK ? ST_OK : error_set(&err, o.status, "%s", o.err.text));
    return o.attach;
}

static Session *attach_to(Session *s, const char *id)
{
    SessionOptions o = small_options();
    Session *shown;
    Attach *a = connect_to(s, id);
    ok(session_attach(&shown, &o, a, &err));
    return shown;
}

static void analyze(Session *s, const char *metric)
{
    const char *const names[] = {metric, NULL};
    ok(session_analyze(s, names, NULL, 0, false, &err));
}

/* Both go on until this one was told that nothing runs, and the other end has closed when `s` is NULL. */
static void follow(Session *s, Session *shown)
{
    AttachView v;
    do {
        if (s)
            session_pump(s);
        session_pump(shown);
        assert_true(session_attached(shown, &v));
    } while (s ? session_works(s) || v.job || !v.ended : !v.over);
    session_pump(shown);
}

/* Until there is something to pump. */
static void wait_for(Session *shown)
{
    struct pollfd p = {.fd = session_fd(shown), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1);
    session_pump(shown);
}

static void the_table_grows(void **state)
{
    (void)state;
    char id[40];
    Session *s = small_session(id), *shown = attach_to(s, id);
    const Metric *m = metric_find("kurtosis");
    AttachView v;
    assert_true(session_attached(shown, &v));
    assert_int_equal(v.hello->pid, getpid());
    assert_false(session_has_run(shown, m));
    assert_false(session_attached(s, &v));
    analyze(s, "kurtosis");
    follow(s, shown);
    int times;
    const JobView *j;
    while (!(j = session_job_ended(shown, &times)) || session_busy(shown)) /* records follow what was said of them */
        wait_for(shown);
    assert_true(times == 1 && j->state == JOB_DONE);
    /* changed, run: not here */
    const char *const all[] = {"*"};
    assert_int_equal(session_edit(shown, all, 1, 0, false, NULL, &err), ST_USAGE);
    analyze(s, "std");
    const char *const names[] = {"std", NULL};
    assert_int_equal(session_analyze(shown, names, NULL, 0, false, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "read only"));
    ok(session_wait(s, &err));
    ok(session_edit(s, all, 1, 0, false, NULL, &err));
    while (session_level_of(shown, 0) != session_level_of(s, 0)) /* of which nothing is said: the journal grew */
        wait_for(shown);
    ok(session_close(s, &err)); /* says goodbye: all is on the disk */
    follow(NULL, shown);
    assert_true(session_attached(shown, &v) && !v.died);
    const Model *model = session_model(shown);
    Session *again;
    SessionOptions o = small_options();
    ok(session_restore(&again, &o, id, &err));
    for (int64_t i = 0; i < model->nlinears; i++) {
        const Score a = session_score(again, m, i), b = session_score(shown, m, i);
        assert_true(a.state == b.state && a.value == b.value);
        assert_int_equal(session_level_of(again, i), session_level_of(shown, i));
    }
    ok(session_close(again, &err));
    ok(session_close(shown, &err));
}

static void a_job_is_cancelled(void **state)
{
    (void)state;
    char id[40];
    Session *s = small_session(id);
    Str texts = {0};
    for (int i = 0; i < 4000; i++)
        str_puts(&texts, "{\"input_ids\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]}\n");
    ok(file_write_atomic(temp_path(small_root, "many.jsonl"), texts.s, texts.len, &err));
    str_free(&texts);
    ok(session_set_calib(s, temp_path(small_root, "many.jsonl"), &err));
    analyze(s, "alone_exact");
    while (session_job(s, 0)->state != JOB_RUNNING)
        session_pump(s);
    ok(session_pause_job(s, 1, true, &err)); /* so that it can't end before it is told to */
    Session *shown = attach_to(s, id);
    AttachView v;
    do {
        session_pump(s);
        session_pump(shown);
        assert_true(session_attached(shown, &v));
    } while (!v.job || !session_busy(shown)); /* its row comes with its record, which may be on its way to the disk */
    assert_true(v.job->paused && v.job->job == 1);
    ok(session_cancel_job(shown, 1, 1, &err));
    while (session_busy(s))
        session_pump(s);
    follow(s, shown);
    assert_int_equal(session_job_find(shown, 1)->state, JOB_STOPPED);
    ok(session_cancel(shown, 1, &err)); /* nothing runs there: it says so */
    int lines = session_log_lines(shown);
    do {
        session_pump(s);
        session_pump(shown);
    } while (session_log_lines(shown) == lines || strcmp(session_log_line(shown, session_log_lines(shown) - 1).text, "no job is running") != 0);
    ok(session_close(s, &err));
    ok(session_close(shown, &err));
}

/* Many, some of which read nothing or are gone: the owner waits for none of them. */
static void nobody_is_waited_for(void **state)
{
    (void)state;
    enum { MANY = 20, LINES = 9000 };
    char id[40], dir[200];
    int fd[MANY];
    Session *s = small_session(id);
    snprintf(dir, sizeof dir, "%s/sessions/%s", small_root, id);
    for (int i = 0; i < MANY; i++) {
        ok(wire_open(dir, false, &fd[i], &err));
        session_pump(s); /* more than have a place are closed */
    }
    close(fd[3]);
    assert_int_equal(write(fd[4], "hello?\n", 7), 7);
    assert_int_equal(write(fd[5], "{\"t\":\"hello\"}\n", 14), 14);
    for (int i = 0; i < LINES; i++) {
        session_log(s, 0, "line %d of a log that is longer than what a socket and the owner keep for somebody: %0300d", i, i);
        session_pump(s);
    }
    close(fd[6]);
    session_pump(s);
    Attach *a = connect_to(s, id); /* those that did not read have been left */
    assert_string_equal(attach_hello(a)->id, id);
    attach_free(a);
    char text[4096];
    ssize_t n = recv(fd[5], text, sizeof text, MSG_DONTWAIT);
    assert_true(n > 0);
    for (int i = 0; i < MANY; i++)
        if (i != 3 && i != 6)
            close(fd[i]);
    ok(session_close(s, &err));
}

static void what_is_left_is_replaced(void **state)
{
    (void)state;
    char id[40], dir[200], path[220];
    struct stat sb;
    Session *s = small_session(id);
    analyze(s, "kurtosis");
    ok(session_wait(s, &err));
    snprintf(dir, sizeof dir, "%s/sessions/%s", small_root, id);
    snprintf(path, sizeof path, "%s/attach", dir);
    assert_true(wire_exists(dir) && lstat(path, &sb) == 0 && (sb.st_mode & 0777) == 0600);
    ok(session_close(s, &err));
    assert_false(wire_exists(dir));
    Attach *a;
    assert_int_equal(attach_open(&a, small_root, id, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "no process has session"));
    int fd;
    ok(wire_open(dir, true, &fd, &err)); /* as a process that was killed leaves it */
    close(fd);
    assert_int_equal(attach_open(&a, small_root, id, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "has died"));
    SessionOptions o = small_options();
    ok(session_restore(&s, &o, id, &err));
    a = connect_to(s, id);
    attach_free(a);
    ok(session_close(s, &err));
    assert_int_equal(attach_open(&a, small_root, "nobody", &err), ST_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_back),          cmocka_unit_test(pieces_make_lines),    cmocka_unit_test(the_table_grows),
        cmocka_unit_test(a_job_is_cancelled),       cmocka_unit_test(nobody_is_waited_for), cmocka_unit_test(what_is_left_is_replaced),
    };
    return cmocka_run_group_tests(tests, small_begin, small_end);
}
