#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/file.h"
#include "tests/lib/server_process.h"
#include "tests/lib/tempdir.h"

enum { TRIES = 2000, NAP_MS = 10 };

static void nap(void)
{
    struct timespec t = {.tv_nsec = NAP_MS * 1000000L};
    nanosleep(&t, NULL);
}

int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(s >= 0);
    assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&a, &n), 0);
    close(s);
    return ntohs(a.sin_port);
}

bool process_runs(long pid)
{
    char path[64], text[512], *end;
    size_t n;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    end = strrchr(text, ')');
    return end && end[2] != 'Z' && end[2] != 'X';
}

bool process_ends(long pid)
{
    for (int i = 0; i < TRIES; i++, nap())
        if (!process_runs(pid))
            return true;
    return false;
}

bool file_gets(const char *path, const char *text)
{
    for (int i = 0; i < TRIES; i++, nap())
        if (file_exists(path)) {
            char *got = temp_get(path, NULL);
            bool there = strstr(got, text) != NULL;
            free(got);
            if (there)
                return true;
        }
    return false;
}

long file_number(const char *path)
{
    for (int i = 0; i < TRIES; i++, nap())
        if (file_exists(path)) {
            char *got = temp_get(path, NULL);
            long v = strtol(got, NULL, 10);
            free(got);
            if (v)
                return v;
        }
    fail_msg("no number in %s", path);
    return 0;
}

Child *server_start(const char *dir, int port, const char *mode, const char *const *more)
{
    char number[16], log[512], *python = child_find("python3", NULL);
    const char *argv[24] = {python, "tests/lib/fake_server.py", "--model", dir, "--port", number, "--mode", mode};
    const char *const env[] = {"PYTHONDONTWRITEBYTECODE=1", NULL};
    int n = 8;
    Child *c;
    Error e = {0};
    assert_non_null(python);
    while (more && *more && n < 23)
        argv[n++] = *more++;
    snprintf(number, sizeof number, "%d", port);
    snprintf(log, sizeof log, "%s/server.log", dir);
    ChildSpec s = {.argv = argv, .env = env, .log = log, .grace = 5};
    if (child_start(&c, &s, &e) != ST_OK)
        fail_msg("%s", e.text);
    free(python);
    assert_true(file_gets(log, "listening"));
    return c;
}
