#ifndef TESTS_THREAD_RANKS_H
#define TESTS_THREAD_RANKS_H

#include "dist/dist.h"

/* Ranks of one job as threads of a test that speak through sockets. */
enum { THREAD_RANKS_MOST = 5 };

/* What a rank does; its end goes to status and error. */
typedef struct ThreadRank {
    void (*act)(Dist *d, struct ThreadRank *p);
    void *ctx;  /* of all of them */
    int rank;
    Status status;
    Error error;
    bool heard;
} ThreadRank;

/* n ranks at once into p[n], until all have ended. */
void thread_ranks_run(int n, void (*act)(Dist *, ThreadRank *), void *ctx, ThreadRank *p);

#endif
