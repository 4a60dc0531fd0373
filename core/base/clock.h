#ifndef SLIM_BASE_CLOCK_H
#define SLIM_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds of a clock that never goes back. */
int64_t clock_ns(void);

#endif
