#ifndef SLIM_BASE_CLOCK_H
#define SLIM_BASE_CLOCK_H

#include <stdint.h>

#include "base/error.h"

/* Nanoseconds of a clock that never goes back. */
int64_t clock_ns(void);

/* Seconds of "2d", "1h30m", "90s": whole numbers with their units in falling order, in either case, each once; ST_USAGE for
 * anything else. */
Status duration_parse(const char *text, double *seconds, Error *err);

#endif
