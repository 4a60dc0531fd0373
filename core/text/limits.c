#include "text/limits.h"

Status text_limits_check(const TextLimits *l, uint64_t bytes, const char *what, Error *err)
{
    if (!l)
        return ST_OK;
    if (l->bytes && bytes > l->bytes)
        return error_set(err, ST_NOMEM, "%s needs more than the %.1f MB that the memory limit leaves for texts: give less "
                                        "text or raise --mem",
                         what, (double)l->bytes / 1e6);
    return cancel_check(l->cancel, err);
}
