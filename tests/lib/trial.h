#ifndef SLIM_TEST_TRIAL_H
#define SLIM_TEST_TRIAL_H

#include <malloc.h>
#include <stddef.h>

#include "base/error.h"

/* Opens a checkpoint and frees it again; what came of it. */
Status try_open(const char *path, Error *e);
/* Heap bytes in use; 0 where the allocator (the sanitizer's) does not tell. */
static inline size_t heap_bytes(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

#endif
