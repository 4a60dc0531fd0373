/* Ranks that mpirun (or srun) started. The one file that knows MPI; part of the program with `make MPI=1` only. Waiting
 * sleeps instead of asking over and over: a rank that waits leaves its cores to the others of its machine. */
#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include <mpi.h>

#include "base/clock.h"
#include "dist/ops.h"

enum { PIECE = 1 << 30, TAG = 1 };

static bool launched(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]))
            return true;
    return false;
}

static Status start(DistPort *p, Error *err)
{
    int have = 0;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &have) != MPI_SUCCESS || have < MPI_THREAD_SERIALIZED)
        return error_set(err, ST_FAIL, "MPI does not start, or not for calls of more than one thread");
    MPI_Comm_rank(MPI_COMM_WORLD, &p->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &p->size);
    MPI_Comm here;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here);
    MPI_Comm_size(here, &p->here);
    MPI_Comm_free(&here);
    return ST_OK;
}

/* Waits a little, longer each time, up to a millisecond. */
static void rest(int *times)
{
    const long ns = *times < 20 ? 0 : *times < 200 ? 20000 : 1000000;
    ++*times;
    if (ns)
        nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

static void finish(MPI_Request *r)
{
    int done = 0, times = 0;
    for (MPI_Test(r, &done, MPI_STATUS_IGNORE); !done; MPI_Test(r, &done, MPI_STATUS_IGNORE))
        rest(&times);
}

static int piece(size_t n)
{
    return n < PIECE ? (int)n : PIECE;
}

static void send(DistPort *p, int to, const void *data, size_t n)
{
    (void)p;
    MPI_Request r;
    do {
        int now = piece(n);
        MPI_Isend(data, now, MPI_BYTE, to, TAG, MPI_COMM_WORLD, &r);
        finish(&r);
        data = (const char *)data + now;
        n -= (size_t)now;
    } while (n);
}

static bool recv(DistPort *p, int from, void *data, size_t n, int64_t until)
{
    (void)p;
    MPI_Request r;
    int there = 0, times = 0;
    while (MPI_Iprobe(from, TAG, MPI_COMM_WORLD, &there, MPI_STATUS_IGNORE) == MPI_SUCCESS && !there) {
        if (until && clock_ns() > until)
            return false;
        rest(&times);
    }
    do {
        int now = piece(n);
        MPI_Irecv(data, now, MPI_BYTE, from, TAG, MPI_COMM_WORLD, &r);
        finish(&r);
        data = (char *)data + now;
        n -= (size_t)now;
    } while (n);
    return true;
}

static void end_all(DistPort *p, int code)
{
    (void)p;
    MPI_Abort(MPI_COMM_WORLD, code);
}

static void stop(DistPort *p)
{
    (void)p;
    MPI_Finalize();
}

const DistOps dist_mpi = {.name = "MPI", .launched = launched, .start = start, .send = send, .recv = recv, .kill = end_all,
                          .stop = stop};
