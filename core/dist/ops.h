#ifndef SLIM_DIST_OPS_H
#define SLIM_DIST_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* How processes of one job (ranks) reach each other: a row of dist_table. Everything else is made of these (dist.h). Calls
 * of one port come from one thread at a time. */
typedef struct DistPort {
    void *self;
    int rank, size; /* 0 <= rank < size */
    int here;       /* ranks on this machine, this one among them */
} DistPort;

typedef struct DistOps {
    const char *name;
    /* Whether a launcher that the row knows started this process. */
    bool (*launched)(void);
    Status (*start)(DistPort *p, Error *err);
    /* Messages from one rank to another arrive whole and in their order. send returns when data may be changed. */
    void (*send)(DistPort *p, int to, const void *data, size_t n);
    /* The next message from `from`, which has n bytes. false: nothing came until clock_ns() was past `until` (0: waits for
     * ever). */
    bool (*recv)(DistPort *p, int from, void *data, size_t n, int64_t until);
    /* Ends every rank, this one too; exit code `code`. May return where it can't. */
    void (*kill)(DistPort *p, int code);
    void (*stop)(DistPort *p);
} DistOps;
/* core/registry.c. The first that was launched is taken; rows that are no part of this build are NULL, the last is
 * dist_alone. */
extern const DistOps *const dist_table[];

#endif
