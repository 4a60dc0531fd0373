#ifndef SLIM_TEXT_LIMITS_H
#define SLIM_TEXT_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"

/* What reading and encoding texts may take, and whether somebody wants it to stop. Where one is asked for NULL means
 * neither. */
typedef struct TextLimits {
    uint64_t bytes; /* of texts, ids and what is between them at one time; 0: no bound */
    const Cancel *cancel;
} TextLimits;

/* ST_CANCELLED once the wish to stop is there, ST_NOMEM when `bytes` are more than the bound; `what` needs them. */
Status text_limits_check(const TextLimits *l, uint64_t bytes, const char *what, Error *err);

#endif
