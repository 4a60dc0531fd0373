#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "evaluate/child.h"
#include "io/file.h"

extern char **environ;

enum { NAP_FIRST_MS = 1, NAP_MS = 50, LOG_TAIL = 1 << 16 };

struct Child {
    pid_t pid, watcher; /* pid leads its group; 0: reaped */
    pid_t group;
    int tell; /* to the watcher: its end means that we are gone */
    ChildEnd end;
    uint64_t most, had; /* bytes of the log, and those it had before */
    char *log;
    double grace;
};

/* Reads the group it watches, then waits: a word says that all is over, the end of its input that we are gone. Starts
 * before what it watches does. */
static const char watch_script[] = "trap '' HUP INT QUIT TERM\n"
                                   "read -r group || exit 0\n"
                                   "read -r word && exit 0\n"
                                   "kill -s TERM -- \"-$group\" 2>/dev/null\n"
                                   "i=0\n"
                                   "while [ $i -lt \"$1\" ] && kill -s 0 -- \"-$group\" 2>/dev/null; do\n"
                                   "    sleep 0.1 || sleep 1\n"
                                   "    i=$((i + 1))\n"
                                   "done\n"
                                   "kill -s KILL -- \"-$group\" 2>/dev/null\n";
/* Becomes the program once its group is watched: without a word it ends, for then we are gone. */
static const char start_script[] = "read -r word || exit 0\nexec \"$@\" </dev/null\n";

static void nap(int ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

static int longer(int ms)
{
    return ms * 2 < NAP_MS ? ms * 2 : NAP_MS;
}

/* ---- starting ---- */

char *child_find(const char *name, const char *path)
{
    if (strchr(name, '/'))
        return access(name, X_OK) == 0 && !dir_exists(name) ? strdup(name) : NULL;
    if (!path && !(path = getenv("PATH")))
        path = "/usr/local/bin:/usr/bin:/bin";
    while (*name) {
        size_t n = strcspn(path, ":");
        Str at = {0};
        str_append(&at, n ? path : ".", n ? n : 1);
        str_printf(&at, "/%s", name);
        if (!at.oom && access(at.s, X_OK) == 0 && !dir_exists(at.s))
            return str_detach(&at);
        str_free(&at);
        if (!path[n])
            break;
        path += n + 1;
    }
    return NULL;
}

static bool same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");
    return n == strcspn(b, "=") && memcmp(a, b, n) == 0;
}

/* Our environment with `add` in it: pointers only. */
static const char **environment(const char *const *add)
{
    size_t n = 0, nadd = 0, k = 0;
    while (environ[n])
        n++;
    while (add && add[nadd])
        nadd++;
    const char **env = mem_array(n + nadd + 1, sizeof *env);
    if (!env)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        bool theirs = false;
        for (size_t j = 0; j < nadd && !theirs; j++)
            theirs = same_name(environ[i], add[j]);
        if (!theirs)
            env[k++] = environ[i];
    }
    for (size_t j = 0; j < nadd; j++)
        env[k++] = add[j];
    env[k] = NULL;
    return env;
}

/* /bin/sh with `argv` in a session of its own: in, out and errors are its standard streams, nothing else is open. */
static int spawn_shell(pid_t *pid, const char *const *argv, const char *const *env, int in, int out, int errors)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, every;
    sigemptyset(&none);
    sigfillset(&every);
    int rc = posix_spawn_file_actions_init(&files);
    if (rc)
        return rc;
    if ((rc = posix_spawnattr_init(&attr)) == 0) {
        const int streams[] = {in, out, errors};
        for (int i = 0; i < 3 && rc == 0; i++)
            rc = posix_spawn_file_actions_adddup2(&files, streams[i], i);
        if (rc == 0)
            rc = posix_spawn_file_actions_addclosefrom_np(&files, 3);
        if (rc == 0)
            rc = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        if (rc == 0)
            rc = posix_spawnattr_setsigmask(&attr, &none);
        if (rc == 0)
            rc = posix_spawnattr_setsigdefault(&attr, &every);
        if (rc == 0)
            rc = posix_spawn(pid, "/bin/sh", &files, &attr, (char *const *)(uintptr_t)argv,
                             (char *const *)(uintptr_t)env);
        posix_spawnattr_destroy(&attr);
    }
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

/* Two ends of a line (no pipe: writing to one that nobody reads would be a signal), which are closed in what we start
 * and stand above the standard streams. */
static int line_above(int fd[2])
{
    int raw[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, raw) != 0)
        return errno;
    for (int i = 0; i < 2; i++)
        fd[i] = fcntl(raw[i], F_DUPFD_CLOEXEC, 3);
    int rc = fd[0] < 0 || fd[1] < 0 ? errno : 0;
    close(raw[0]);
    close(raw[1]);
    for (int i = 0; i < 2 && rc; i++)
        if (fd[i] >= 0)
            close(fd[i]);
    return rc;
}

static int open_above(const char *path, int flags)
{
    int raw = open(path, flags | O_CLOEXEC | O_NOCTTY, 0666);
    int fd = raw < 0 ? -1 : fcntl(raw, F_DUPFD_CLOEXEC, 3);
    if (raw >= 0)
        close(raw);
    return fd;
}

static bool say(int fd, const char *text)
{
    size_t n = strlen(text);
    return send(fd, text, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static Status start_watcher(Child *c, Error *err)
{
    char tenths[24];
    snprintf(tenths, sizeof tenths, "%.0f", c->grace < 1e6 ? c->grace * 10 : 1e7);
    const char *const argv[] = {"sh", "-c", watch_script, "slimscope-watch", tenths, NULL};
    int in[2] = {-1, -1}, null = open_above("/dev/null", O_RDWR);
    int rc = null < 0 ? errno : line_above(in);
    if (rc == 0) {
        pid_t pid;
        rc = spawn_shell(&pid, argv, (const char *const *)environ, in[0], null, null);
        close(in[0]);
        c->watcher = rc ? 0 : pid;
        c->tell = in[1];
    }
    if (null >= 0)
        close(null);
    return rc ? error_set(err, ST_IO, "cannot start the watcher of a program: %s", strerror(rc)) : ST_OK;
}

/* Starts the shell that becomes the program, tells the watcher, and lets it go. */
static int start_program(Child *c, const ChildSpec *s, const char *const *argv, int out, int errors)
{
    int go[2] = {-1, -1};
    char group[24];
    const char **env = environment(s->env);
    int rc = env ? line_above(go) : ENOMEM;
    if (rc == 0) {
        pid_t pid;
        rc = spawn_shell(&pid, argv, env, go[0], out, errors);
        close(go[0]);
        if (rc == 0) {
            c->group = c->pid = pid;
            snprintf(group, sizeof group, "%ld\n", (long)c->group);
            rc = say(c->tell, group) && say(go[1], "go\n") ? 0 : EPIPE;
        }
        close(go[1]);
    }
    free(env);
    return rc;
}

static Status start(Child *c, const ChildSpec *s, Error *err)
{
    size_t n = 0;
    while (s->argv[n])
        n++;
    const char **argv = mem_array(n + 5, sizeof *argv);
    c->log = strdup(s->log);
    if (!argv || !c->log) {
        free(argv);
        return error_nomem(err, "a program");
    }
    argv[0] = "sh";
    argv[1] = "-c";
    argv[2] = start_script;
    argv[3] = "sh";
    memcpy(argv + 4, s->argv, (n + 1) * sizeof *argv);
    int out = open_above(s->log, O_WRONLY | O_CREAT | O_APPEND), other = -1;
    struct stat info;
    Status st = out < 0 || fstat(out, &info) != 0 ? file_error(err, "write", s->log, errno) : ST_OK;
    if (st == ST_OK)
        c->had = (uint64_t)info.st_size;
    if (st == ST_OK && s->errors && (other = open_above(s->errors, O_WRONLY | O_CREAT | O_APPEND)) < 0)
        st = file_error(err, "write", s->errors, errno);
    if (st == ST_OK)
        st = start_watcher(c, err);
    if (st == ST_OK) {
        int rc = start_program(c, s, argv, out, other >= 0 ? other : out);
        if (rc)
            st = error_set(err, ST_IO, "cannot start '%s': %s", s->argv[0], strerror(rc));
    }
    if (out >= 0)
        close(out);
    if (other >= 0)
        close(other);
    free(argv);
    return st;
}

Status child_start(Child **out, const ChildSpec *spec, Error *err)
{
    Child *c = *out = mem_zarray(1, sizeof *c);
    if (!c)
        return error_nomem(err, "a program");
    c->tell = -1;
    c->grace = spec->grace;
    c->most = spec->most;
    Status st = start(c, spec, err);
    if (st != ST_OK) {
        child_stop(c);
        *out = NULL;
    }
    return st;
}

/* ---- waiting and ending ---- */

static void reap(Child *c)
{
    int status;
    pid_t got;
    if (c->pid <= 0)
        return;
    do
        got = waitpid(c->pid, &status, WNOHANG);
    while (got < 0 && errno == EINTR);
    if (got == 0)
        return;
    c->pid = 0;
    c->end = got < 0               ? (ChildEnd){.fate = CHILD_KILLED}
             : WIFSIGNALED(status) ? (ChildEnd){.fate = CHILD_KILLED, .number = WTERMSIG(status)}
                                   : (ChildEnd){.fate = CHILD_EXITED, .number = WEXITSTATUS(status)};
}

bool child_running(Child *c, ChildEnd *end)
{
    reap(c);
    if (c->pid <= 0 && end)
        *end = c->end;
    return c->pid > 0;
}

/* Whether the process is of the group, and more than a zombie, which nobody may ever reap. */
static bool process_of(const char *name, pid_t group)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%.20s/stat", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *end = strrchr(text, ')'); /* behind the program's name: state, parent, group */
    char state;
    long parent, its;
    return end && sscanf(end + 1, " %c %ld %ld", &state, &parent, &its) == 3 && its == group && state != 'Z' &&
           state != 'X';
}

static bool group_alive(pid_t group)
{
    if (group <= 0 || (kill(-group, 0) != 0 && errno == ESRCH))
        return false;
    DIR *all = opendir("/proc");
    bool alive = !all;
    for (const struct dirent *d; !alive && all && (d = readdir(all));)
        alive = d->d_name[0] >= '1' && d->d_name[0] <= '9' && process_of(d->d_name, group);
    if (all)
        closedir(all);
    return alive;
}

/* Waits up to `seconds` for the end of the whole group. */
static bool group_ends(Child *c, double seconds)
{
    int64_t until = clock_ns() + (int64_t)(seconds * 1e9);
    for (int ms = NAP_FIRST_MS;; ms = longer(ms)) {
        reap(c);
        if (c->pid <= 0 && !group_alive(c->group))
            return true;
        if (clock_ns() >= until)
            return false;
        nap(ms);
    }
}

static void end_group(Child *c)
{
    reap(c);
    if (c->group <= 0 || (c->pid <= 0 && !group_alive(c->group)))
        return;
    kill(-c->group, SIGTERM);
    if (group_ends(c, c->grace))
        return;
    kill(-c->group, SIGKILL);
    group_ends(c, 5); /* what hangs in a driver may never end: it isn't waited for */
}

static uint64_t log_bytes(const Child *c)
{
    struct stat info;
    return stat(c->log, &info) == 0 && (uint64_t)info.st_size > c->had ? (uint64_t)info.st_size - c->had : 0;
}

/* Waits until it ends by itself, or `seconds` have passed (it is ended then), or its log is too long. ST_CANCELLED: it
 * was ended because of `cancel` (may be NULL), within 0.1 s and the grace. */
static Status child_wait(Child *c, double seconds, const Cancel *cancel, ChildEnd *end, Error *err)
{
    int64_t until = clock_ns() + (int64_t)(seconds < 1e9 ? seconds * 1e9 : 1e18);
    for (int ms = NAP_FIRST_MS; child_running(c, end); ms = longer(ms)) {
        if (cancel_level(cancel)) {
            end_group(c);
            return cancel_check(cancel, err);
        }
        bool late = clock_ns() >= until, flood = c->most && log_bytes(c) > c->most;
        if (late || flood) {
            end_group(c);
            *end = (ChildEnd){.fate = late ? CHILD_TIMEOUT : CHILD_FLOODED};
            return ST_OK;
        }
        nap(ms);
    }
    return ST_OK;
}

void child_stop(Child *c)
{
    if (!c)
        return;
    end_group(c);
    if (c->tell >= 0) {
        if (c->group > 0)
            say(c->tell, "over\n");
        close(c->tell);
    }
    if (c->watcher > 0)
        while (waitpid(c->watcher, NULL, 0) < 0 && errno == EINTR)
            ;
    free(c->log);
    free(c);
}

Status child_run(const ChildSpec *spec, double seconds, const Cancel *cancel, ChildEnd *end, Error *err)
{
    Child *c;
    RETURN_IF_ERROR(child_start(&c, spec, err));
    Status st = child_wait(c, seconds, cancel, end, err);
    child_stop(c);
    return st;
}

const char *child_end_text(const ChildEnd *end, double seconds, char *buf, size_t size)
{
    switch (end->fate) {
    case CHILD_EXITED:
        snprintf(buf, size, "exit code %d", end->number);
        break;
    case CHILD_KILLED:
        snprintf(buf, size, "killed by signal %d", end->number);
        break;
    case CHILD_TIMEOUT:
        snprintf(buf, size, "no end within %g s", seconds);
        break;
    case CHILD_FLOODED:
        snprintf(buf, size, "wrote too much");
        break;
    }
    return buf;
}

void child_last_line(const char *log, size_t longest, Str *out)
{
    struct stat info;
    int fd = open(log, O_RDONLY | O_CLOEXEC);
    char *text = malloc(LOG_TAIL);
    ssize_t n = -1;
    if (fd >= 0 && text && fstat(fd, &info) == 0)
        n = pread(fd, text, LOG_TAIL, info.st_size > LOG_TAIL ? info.st_size - LOG_TAIL : 0);
    if (fd >= 0)
        close(fd);
    size_t end = n > 0 ? (size_t)n : 0;
    while (end && (unsigned char)text[end - 1] <= ' ')
        end--;
    size_t begin = end;
    while (begin && text[begin - 1] != '\n' && text[begin - 1] != '\r')
        begin--;
    while (begin < end && (text[begin] == ' ' || text[begin] == '\t'))
        begin++;
    if (end > begin) {
        size_t len = end - begin > longest ? longest : end - begin;
        while (len && len < end - begin && ((unsigned char)text[begin + len] & 0xc0) == 0x80)
            len--;
        str_append(out, text + begin, text_fit_terminal(text + begin, len, false));
    }
    free(text);
}
