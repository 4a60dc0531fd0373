#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "evaluate/child.h"
#include "tests/lib/server_process.h"
#include "tests/lib/tempdir.h"

/* Programs that are started, waited for and ended, whatever they do and whatever becomes of us. */

typedef struct World {
    char *dir, *log;
    ChildEnd end;
} World;

static World world_open(void)
{
    World w = {.dir = temp_folder()};
    w.log = strdup(temp_path(w.dir, "log"));
    return w;
}

static void world_close(World *w)
{
    temp_remove(w->dir);
    free(w->log);
}

/* Runs a script of the shell as the program, with words behind it. */
static Status run(World *w, const char *script, const char *word, double seconds, uint64_t most, const Cancel *cancel)
{
    const char *const argv[] = {"/bin/sh", "-c", script, "sh", word, NULL};
    const char *const env[] = {"COLOUR=red green", "HOME=/nowhere", NULL};
    ChildSpec s = {.argv = argv, .env = env, .log = w->log, .most = most, .grace = 0.2};
    Error e = {0};
    return child_run(&s, seconds, cancel, &w->end, &e);
}

static void expect_log(World *w, const char *want)
{
    char *got = temp_get(w->log, NULL);
    assert_string_equal(got, want);
    free(got);
    unlink(w->log);
}

/* Words reach the program as they are, with its environment and both streams in the log, behind what was there. */
static void test_words(void **state)
{
    (void)state;
    World w = world_open();
    temp_puts(w.log, "before\n");
    assert_int_equal(run(&w, "echo \"$1|$COLOUR|$HOME\"; echo bad >&2; cat; exit 3", "a  $HOME `x` \"'", 20, 0, NULL),
                     ST_OK);
    assert_int_equal(w.end.fate, CHILD_EXITED);
    assert_int_equal(w.end.number, 3);
    expect_log(&w, "before\na  $HOME `x` \"'|red green|/nowhere\nbad\n");
    assert_int_equal(run(&w, "kill -9 $$", "", 20, 0, NULL), ST_OK);
    assert_int_equal(w.end.fate, CHILD_KILLED);
    assert_int_equal(w.end.number, SIGKILL);
    world_close(&w);
}

/* A session of its own, no file of ours, no blocked or ignored signal (of the first 28: what lies above is the C
 * library's). */
static void test_surroundings(void **state)
{
    (void)state;
    World w = world_open();
    int fd = open("/dev/null", O_RDONLY); /* not closed by an exec */
    sigset_t all, old;
    sigfillset(&all);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    assert_int_equal(
        run(&w,
            "for f in 3 4 5 6 7 8 9; do [ ! -e /proc/$$/fd/$f ] || echo $f; done;"
            "ps -o sid= -p $$ | grep -qx \" *$$\" && echo own;"
            "sed -n 's/^SigBlk.*\\(.\\{7\\}\\)$/\\1/p; s/^SigIgn.*\\(.\\{7\\}\\)$/\\1/p' /proc/self/status",
            "", 20, 0, NULL),
        ST_OK);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    signal(SIGPIPE, SIG_DFL);
    close(fd);
    expect_log(&w, "own\n0000000\n0000000\n");
    world_close(&w);
}

static void test_time(void **state)
{
    (void)state;
    World w = world_open();
    char text[64];
    assert_int_equal(run(&w, "echo $$; exec sleep 60", "", 0.2, 0, NULL), ST_OK);
    assert_int_equal(w.end.fate, CHILD_TIMEOUT);
    assert_string_equal(child_end_text(&w.end, 0.2, text, sizeof text), "no end within 0.2 s");
    assert_false(process_runs(file_number(w.log)));
    unlink(w.log);
    /* one that doesn't heed SIGTERM */
    assert_int_equal(run(&w, "trap '' TERM; echo $$; while :; do sleep 0.05; done", "", 0.2, 0, NULL), ST_OK);
    assert_int_equal(w.end.fate, CHILD_TIMEOUT);
    assert_false(process_runs(file_number(w.log)));
    world_close(&w);
}

static void test_flood(void **state)
{
    (void)state;
    World w = world_open();
    temp_puts(w.log, "what was there doesn't count\n");
    assert_int_equal(run(&w, "echo 123456", "", 20, 20, NULL), ST_OK);
    assert_int_equal(w.end.fate, CHILD_EXITED);
    assert_int_equal(run(&w, "echo 123456789012345678901234567890; exec sleep 60", "", 20, 20, NULL), ST_OK);
    assert_int_equal(w.end.fate, CHILD_FLOODED);
    world_close(&w);
}

static void *raise_later(void *cancel)
{
    struct timespec t = {.tv_nsec = 100000000L};
    nanosleep(&t, NULL);
    atomic_store(&((Cancel *)cancel)->level, 2);
    return NULL;
}

static void test_cancel(void **state)
{
    (void)state;
    World w = world_open();
    Cancel cancel = {0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, raise_later, &cancel), 0);
    assert_int_equal(run(&w, "echo $$; sleep 60", "", 60, 0, &cancel), ST_CANCELLED);
    pthread_join(thread, NULL);
    assert_false(process_runs(file_number(w.log)));
    world_close(&w);
}

/* What a program leaves behind when it ends by itself is ended, too. */
static void test_left_behind(void **state)
{
    (void)state;
    World w = world_open();
    assert_int_equal(run(&w, "sleep 60 & echo $!", "", 20, 0, NULL), ST_OK);
    assert_int_equal(w.end.fate, CHILD_EXITED);
    assert_false(process_runs(file_number(w.log)));
    world_close(&w);
}

static void test_cannot_start(void **state)
{
    (void)state;
    World w = world_open();
    const char *const argv[] = {"/no/such/program", NULL};
    ChildSpec s = {.argv = argv, .log = w.log, .grace = 0.2};
    Error e = {0};
    Str last = {0};
    assert_int_equal(child_run(&s, 20, NULL, &w.end, &e), ST_OK);
    assert_int_equal(w.end.fate, CHILD_EXITED);
    assert_int_equal(w.end.number, 127);
    child_last_line(w.log, 200, &last);
    assert_non_null(strstr(last.s, "/no/such/program"));
    str_free(&last);
    s.log = "/no/such/folder/log";
    assert_int_equal(child_run(&s, 20, NULL, &w.end, &e), ST_IO);
    assert_non_null(strstr(e.text, "/no/such/folder/log"));
    world_close(&w);
}

static void test_find(void **state)
{
    (void)state;
    World w = world_open();
    const char *tool = temp_path(w.dir, "tool");
    char path[600];
    temp_puts(tool, "#!/bin/sh\n");
    snprintf(path, sizeof path, "/nowhere::%s", w.dir);
    assert_null(child_find("tool", path)); /* not to be run */
    assert_null(child_find(tool, NULL));
    assert_int_equal(chmod(tool, 0755), 0);
    char *a = child_find("tool", path), *b = child_find(tool, NULL), *c = child_find("sh", NULL);
    assert_string_equal(a, tool);
    assert_string_equal(b, tool);
    assert_non_null(c);
    assert_null(child_find("tests", "")); /* a folder */
    assert_null(child_find("", path));
    free(a);
    free(b);
    free(c);
    world_close(&w);
}

static void test_last_line(void **state)
{
    (void)state;
    World w = world_open();
    static const struct {
        const char *text, *last;
        size_t longest;
    } cases[] = {
        {"", "", 100},
        {"\n \n", "", 100},
        {"one\ntwo\n\n  \n", "two", 100},
        {"one\n  a \033[31mred\033[0m", "a ?[31mred?[0m", 100},
        {"10%\r20%\r30%\r", "30%", 100},
        {"abc你好", "abc", 5},
        {"abc你好", "abc你", 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Str out = {0};
        temp_puts(w.log, cases[i].text);
        child_last_line(w.log, cases[i].longest, &out);
        assert_string_equal(str_text(&out), cases[i].last);
        str_free(&out);
    }
    Str out = {0};
    child_last_line("/no/such/log", 100, &out);
    assert_int_equal(out.len, 0);
    world_close(&w);
}

/* We are killed: the program and what it started end all the same, one that heeds SIGTERM and one that doesn't. */
static void killed(const char *script)
{
    World w = world_open();
    char *inner = strdup(temp_path(w.dir, "inner"));
    pid_t us = fork();
    assert_true(us >= 0);
    if (us == 0) {
        const char *const argv[] = {"/bin/sh", "-c", script, "sh", inner, NULL};
        ChildSpec s = {.argv = argv, .log = w.log, .grace = 0.2};
        Child *c;
        Error e = {0};
        if (child_start(&c, &s, &e) == ST_OK && file_number(w.log) && file_number(inner))
            raise(SIGKILL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(us, &status, 0), us);
    assert_true(WIFSIGNALED(status));
    assert_true(process_ends(file_number(w.log)));
    assert_true(process_ends(file_number(inner)));
    free(inner);
    world_close(&w);
}

static void test_killed(void **state)
{
    (void)state;
    killed("sleep 60 & echo $! >\"$1\"; echo $$; exec sleep 60");
    killed("trap '' TERM; sleep 60 & echo $! >\"$1\"; echo $$; while :; do sleep 0.1; done");
}

/* Several at a time: the end of one is not the end of another, and no line to a watcher is held open by another. */
static void test_two(void **state)
{
    (void)state;
    World w = world_open();
    const char *const argv[] = {"/bin/sleep", "60", NULL};
    ChildSpec s = {.argv = argv, .log = w.log, .grace = 0.2};
    Child *a, *b;
    Error e = {0};
    ChildEnd end;
    assert_int_equal(child_start(&a, &s, &e), ST_OK);
    assert_int_equal(child_start(&b, &s, &e), ST_OK);
    child_stop(a);
    assert_true(child_running(b, &end));
    child_stop(b);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),        cmocka_unit_test(test_surroundings), cmocka_unit_test(test_time),
        cmocka_unit_test(test_flood),        cmocka_unit_test(test_cancel),       cmocka_unit_test(test_left_behind),
        cmocka_unit_test(test_cannot_start), cmocka_unit_test(test_find),         cmocka_unit_test(test_last_line),
        cmocka_unit_test(test_killed),       cmocka_unit_test(test_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
