#include "metric/rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const Metric *metric_find(const char *name)
{
    for (const Metric *const *m = metric_table; *m; m++)
        if (!strcmp((*m)->name, name))
            return *m;
    return NULL;
}

void linear_result_fini(LinearResult *r)
{
    free(r->in.channel_max);
    keyhist_fini(&r->in.hist);
    keyhist_fini(&r->weight.hist);
    memset(r, 0, sizeof *r);
}

double metric_input_score(const TapSummary *in, double v, const char *undefined, char *why, int why_size)
{
    const char *reason = in->bad ? in->bad_text : !in->values ? "no token reached it" : isfinite(v) ? NULL : undefined;
    if (!reason)
        return v;
    if (why && why_size > 0)
        snprintf(why, (size_t)why_size, "%s", reason);
    return NAN;
}
