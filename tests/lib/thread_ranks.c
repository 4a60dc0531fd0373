#include "tests/lib/thread_ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int wire[THREAD_RANKS_MOST][THREAD_RANKS_MOST]; /* [rank][other]: its end of a pair */
static int ranks;
static _Thread_local int me;
static int killed;

static bool launched(void)
{
    return true;
}

static Status start(DistPort *p, Error *err)
{
    (void)err;
    *p = (DistPort){.rank = me, .size = ranks, .here = ranks};
    return ST_OK;
}

static void send_all(DistPort *p, int to, const void *data, size_t n)
{
    for (ssize_t k = 0; n > 0; n -= (size_t)k, data = (const char *)data + k)
        if ((k = write(wire[p->rank][to], data, n)) <= 0)
            abort();
}

static bool recv_all(DistPort *p, int from, void *data, size_t n, int64_t until)
{
    struct pollfd f = {.fd = wire[p->rank][from], .events = POLLIN};
    if (until && poll(&f, 1, 100) == 0) /* less patience than the real ones have */
        return false;
    for (ssize_t k = 0; n > 0; n -= (size_t)k, data = (char *)data + k)
        if ((k = read(wire[p->rank][from], data, n)) <= 0)
            abort();
    return true;
}

static void end_all(DistPort *p, int code)
{
    (void)p;
    killed = code;
}

static const DistOps sockets = {.name = "sockets", .launched = launched, .start = start, .send = send_all, .recv = recv_all,
                                .kill = end_all};
static const DistOps *const rows[] = {NULL, &sockets};

static void *play(void *arg)
{
    ThreadRank *p = arg;
    Dist *d;
    me = p->rank;
    assert_int_equal(dist_open(&d, rows, NULL), ST_OK);
    p->act(d, p);
    p->status = dist_end(d, p->status, &p->heard, &p->error);
    dist_free(d);
    return NULL;
}

void thread_ranks_run(int n, void (*act)(Dist *, ThreadRank *), void *ctx, ThreadRank *p)
{
    pthread_t thread[THREAD_RANKS_MOST];
    ranks = n;
    for (int a = 0; a < n; a++)
        for (int b = a + 1; b < n; b++) {
            int pair[2];
            assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
            wire[a][b] = pair[0];
            wire[b][a] = pair[1];
        }
    for (int r = 0; r < n; r++) {
        p[r] = (ThreadRank){.act = act, .ctx = ctx, .rank = r};
        assert_int_equal(pthread_create(&thread[r], NULL, play, &p[r]), 0);
    }
    for (int r = 0; r < n; r++)
        pthread_join(thread[r], NULL);
    for (int a = 0; a < n; a++)
        for (int b = 0; b < n; b++)
            if (a != b)
                close(wire[a][b]);
}
