#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/file.h"
#include "session/session.h"
#include "tests/lib/tempdir.h"

/* A session that is killed before any of its calls for a file, or has one fail: what comes back is what was shown, at the
 * end or after one of the steps before; it is less than all only when that was told or the process died. The process is
 * this program again, below tests/lib/faultshim.c. */

#define MODEL "tests/golden/models/llama/fp32"
enum { STEPS = 7, STATE = 80, STATES = STEPS + 1 };

static char self[4096], shim[4096];

/* What a person sees of it: every linear's level and tag, and how much can be undone. */
static void state_of(const Session *s, char out[STATE])
{
    const Model *m = session_model(s);
    uint64_t h = 14695981039346656037u;
    for (int64_t i = 0; i < m->nlinears; i++) {
        h = (h ^ (uint64_t)session_level_of(s, i)) * 1099511628211u;
        h = (h ^ (uint64_t)session_tagged(s, i)) * 1099511628211u;
    }
    snprintf(out, STATE, "%016llx undo %d", (unsigned long long)h, session_undo_depth(s));
}

static SessionOptions options(const char *dir)
{
    SessionOptions o;
    session_options_default(&o);
    o.threads = 1;
    o.state_dir = dir;
    return o;
}

static Status edit(Session *s, const char *target, bool include)
{
    return session_edit(s, &target, 1, 0, include, NULL, NULL);
}

static Status tag(Session *s, const char *target)
{
    bool *hits = calloc((size_t)session_model(s)->nlinears + 1, sizeof *hits);
    for (int64_t i = 0; hits && i < session_model(s)->nlinears; i++)
        hits[i] = strstr(session_model(s)->linears[i].name, target) != NULL;
    Status st = hits ? session_tag(s, hits, true, NULL) : ST_NOMEM;
    free(hits);
    return st;
}

static Status step(Session *s, int i)
{
    switch (i) {
    case 0: return edit(s, "*.0.mlp.down_proj", false);
    case 1: return edit(s, "*.1.mlp.up_proj", false);
    case 2: return tag(s, "q_proj");
    case 3: return session_undo(s, NULL, NULL);
    case 4: return edit(s, "*.0.mlp.down_proj", true);
    case 5: return edit(s, "*o_proj", false);
    default: return session_undo(s, NULL, NULL);
    }
}

static void say(const char *text)
{
    char line[STATE + 2];
    int n = snprintf(line, sizeof line, "%s\n", text);
    if (write(1, line, (size_t)n) != n)
        _exit(3);
}

/* The process that dies: a line for each state that it shows, then whether all of it was kept. */
static _Noreturn void child(const char *dir)
{
    SessionOptions o = options(dir);
    Session *s;
    char state[STATE];
    if (session_new(&s, &o, NULL) != ST_OK || session_open_model(s, MODEL, NULL, NULL) != ST_OK)
        _exit(74); /* told by the command */
    for (int i = 0; i <= STEPS; i++) {
        if (i > 0 && step(s, i - 1) != ST_OK)
            _exit(4);
        state_of(s, state);
        say(state);
    }
    bool told = false; /* on the screen, or by the line that the command ends with */
    for (int i = 0; i < session_log_lines(s); i++)
        told = told || strstr(session_log_line(s, i).text, "not saved");
    say(session_close(s, NULL) == ST_OK && !told ? "kept" : "told");
    _exit(0);
}

typedef struct Seen {
    char state[STATES][STATE];
    int n;
    bool kept, told, killed;
    int code;
} Seen;

static void take_line(Seen *x, const char *line)
{
    if (strcmp(line, "kept") == 0)
        x->kept = true;
    else if (strcmp(line, "told") == 0)
        x->told = true;
    else if (x->n < STATES)
        snprintf(x->state[x->n++], STATE, "%s", line);
}

/* Runs the child on `dir`; DISK_* as given, NULL: none. */
static void run_child(const char *dir, const char *op, const char *how, int at, const char *count, Seen *x)
{
    int p[2], status;
    char number[16], text[STATES * STATE + 64];
    size_t n = 0;
    *x = (Seen){0};
    snprintf(number, sizeof number, "%d", at);
    assert_int_equal(pipe(p), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const char *asan = getenv("ASAN_OPTIONS");
        char all[512];
        snprintf(all, sizeof all, "%s:verify_asan_link_order=0:detect_leaks=0", asan ? asan : "");
        dup2(p[1], 1);
        setenv("LD_PRELOAD", shim, 1);
        setenv("ASAN_OPTIONS", all, 1);
        setenv("SYNC_SKIP", "1", 1);
        if (op) {
            setenv("DISK_OP", op, 1);
            setenv("DISK_HOW", how, 1);
            setenv("DISK_AT", number, 1);
        }
        if (count)
            setenv("DISK_COUNT", count, 1);
        execl(self, self, "child", dir, (char *)NULL);
        _exit(126);
    }
    close(p[1]);
    for (ssize_t r; n < sizeof text - 1 && (r = read(p[0], text + n, sizeof text - 1 - n)) > 0;)
        n += (size_t)r;
    text[n] = 0;
    close(p[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    x->killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    x->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        take_line(x, line);
}

/* How many steps of `all` the session that comes back has, -1: there is none. *least: an undo makes some states alike. */
static int steps_back(const char *dir, const Seen *all, const char *what, int *least)
{
    int most = -1;
    *least = -1;
    SessionOptions o = options(dir);
    Session *s;
    Error err = {0};
    char state[STATE];
    if (session_restore(&s, &o, NULL, &err) != ST_OK)
        return -1;
    state_of(s, state);
    session_free(s);
    for (int i = 0; i < all->n; i++)
        if (strcmp(state, all->state[i]) == 0) {
            most = i;
            *least = *least < 0 ? i : *least;
        }
    if (most < 0)
        fail_msg("%s: what comes back was never shown", what);
    return most;
}

static void judge(const char *dir, const Seen *all, const char *op, const char *how, int at)
{
    Seen x;
    char what[64];
    snprintf(what, sizeof what, "%s:%s:%d", op, how, at);
    run_child(dir, op, how, at, NULL, &x);
    if (x.code == 74)
        return; /* the model could not be opened, which ends the command with a line */
    if (x.code != 0 && !x.killed)
        fail_msg("%s: exit %d", what, x.code);
    for (int i = 0; i < x.n; i++)
        if (strcmp(x.state[i], all->state[i]) != 0)
            fail_msg("%s: step %d shows something else", what, i);
    int least, back = steps_back(dir, all, what, &least);
    if (x.kept && back != STEPS)
        fail_msg("%s: kept, it says, but %d of %d steps come back", what, back, STEPS);
    if (least > x.n) /* a step may be kept before it is shown */
        fail_msg("%s: %d steps come back, %d were shown", what, least, x.n - 1);
}

typedef struct Kind {
    const char *op, *how;
} Kind;

static int calls_of(const char *counts, const char *op)
{
    char key[32];
    snprintf(key, sizeof key, "\n%s ", op);
    const char *at = strstr(counts, key);
    return at ? atoi(at + strlen(key)) : 0;
}

static void try_all(const Kind *kinds, size_t n)
{
    Seen all;
    char *dir = temp_folder(), counts[4096] = "\n";
    const char *file = temp_path(dir, "count");
    run_child(temp_path(dir, "whole"), NULL, NULL, 0, file, &all);
    assert_true(all.kept && all.n == STATES);
    int least;
    assert_int_equal(steps_back(temp_path(dir, "whole"), &all, "without a failure", &least), STEPS);
    char *text = temp_get(file, NULL);
    strncat(counts, text, sizeof counts - 2);
    free(text);
    int tried = 0;
    for (size_t i = 0; i < n; i++)
        for (int at = 1; at <= calls_of(counts, kinds[i].op); at++) {
            char run[512];
            snprintf(run, sizeof run, "%s/%zu-%d", dir, i, at);
            judge(run, &all, kinds[i].op, kinds[i].how, at);
            tried++;
        }
    assert_true(tried > 25);
    temp_remove(dir);
}

static void test_killed(void **state)
{
    (void)state;
    static const Kind kinds[] = {{"write", "kill"}, {"fsync", "kill"}, {"fdatasync", "kill"}, {"rename", "kill"}, {"open", "kill"},
                                 {"close", "kill"}, {"mkdir", "kill"}, {"unlink", "kill"}, {"ftruncate", "kill"}};
    try_all(kinds, sizeof kinds / sizeof *kinds);
}

static void test_failing(void **state)
{
    (void)state;
    static const Kind kinds[] = {{"write", "ENOSPC"}, {"write", "short"}, {"write", "EINTR"}, {"fsync", "EIO"},
                                 {"fdatasync", "EIO"}, {"rename", "EIO"}, {"mkdir", "ENOSPC"}, {"ftruncate", "EIO"},
                                 {"open", "EIO"}, {"fstat", "EIO"}, {"pwrite", "ENOSPC"}};
    try_all(kinds, sizeof kinds / sizeof *kinds);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "child") == 0)
        child(argv[2]);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    snprintf(shim, sizeof shim, "%.*s/faultshim.so", (int)(path_base(self) - self - 1), self);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_killed), cmocka_unit_test(test_failing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
