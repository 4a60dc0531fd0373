/* A session whose jobs go on without a screen, in a process of their own. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/file.h"
#include "src/internal.h"

/* The child of the child: nobody waits for it, no terminal belongs to it. */
static void run_headless(const char *id, int in, int out)
{
    char *const argv[] = {(char *)"slimscope", (char *)"resume", (char *)id, (char *)"--headless", NULL};
    setsid();
    if (fork() != 0)
        _exit(0);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_DFL);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    execv("/proc/self/exe", argv);
    _exit(127);
}

Status session_detach(const char *state_dir, const char *id, Error *err)
{
    char *sessions = path_join(state_dir, "sessions"), *dir = sessions ? path_join(sessions, id) : NULL;
    char *path = dir ? path_join(dir, "detached") : NULL;
    int out = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600) : -1, in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    Status st = !path ? error_nomem(err, "a path") : out < 0 ? file_error(err, "open", path, errno) : ST_OK;
    pid_t child = st == ST_OK && in >= 0 ? fork() : -1;
    if (child == 0)
        run_headless(id, in, out);
    if (child > 0)
        waitpid(child, NULL, 0);
    else if (st == ST_OK)
        st = error_set(err, ST_IO, "cannot start a process for the jobs: %s; slimscope resume %s --headless does it", strerror(errno), id);
    if (out >= 0)
        close(out);
    if (in >= 0)
        close(in);
    free(path);
    free(dir);
    free(sessions);
    return st;
}
