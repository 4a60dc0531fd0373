/* What a token set is made from. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/job.h"

void dataspec_fini(DataSpec *d)
{
    for (int i = 0; i < d->nadded; i++)
        free(d->added[i]);
    free(d->added);
    free(d->out);
    free(d->path);
    free(d->name);
    *d = (DataSpec){0};
}

Status dataspec_copy(DataSpec *to, const DataSpec *from, Error *err)
{
    *to = *from;
    to->nadded = to->nout = 0;
    to->path = strdup(from->path);
    to->name = strdup(from->name);
    to->added = mem_zarray((size_t)from->nadded + 1, sizeof *to->added);
    to->out = mem_array((size_t)from->nout + 1, sizeof *to->out);
    if (!to->path || !to->name || !to->added || !to->out)
        return error_nomem(err, "the data set");
    while (to->nadded < from->nadded) {
        if (!(to->added[to->nadded] = strdup(from->added[to->nadded])))
            return error_nomem(err, "the data set");
        to->nadded++;
    }
    to->nout = from->nout;
    if (to->nout)
        memcpy(to->out, from->out, (size_t)to->nout * sizeof *to->out);
    return ST_OK;
}

bool dataspec_same(const DataSpec *a, const DataSpec *b)
{
    if (!a->path || strcmp(a->path, b->path) != 0 || a->nadded != b->nadded || a->nout != b->nout)
        return false;
    for (int i = 0; i < a->nadded; i++)
        if (strcmp(a->added[i], b->added[i]) != 0)
            return false;
    if (a->nout && memcmp(a->out, b->out, (size_t)a->nout * sizeof *a->out) != 0)
        return false;
    return a->max_samples == b->max_samples && a->seq_len == b->seq_len && a->ctx == b->ctx &&
           a->max_tokens == b->max_tokens;
}

Status dataspec_open(CalibFile **out, const DataSpec *d, bool peer, const TextLimits *limits, Error *err)
{
    CalibFile *c, *more;
    RETURN_IF_ERROR(calib_open(&c, d->path, peer, limits, err));
    Status st = ST_OK;
    for (int i = 0; st == ST_OK && i < d->nadded; i++) {
        TextLimits rest = limits ? *limits : (TextLimits){0};
        if (rest.bytes)
            rest.bytes = rest.bytes > c->bytes ? rest.bytes - c->bytes : 1;
        st = calib_open(&more, d->added[i], peer, &rest, err);
        if (st == ST_OK)
            st = calib_append(c, more, err);
    }
    if (st == ST_OK && d->nout)
        st = calib_take_out(c, d->out, d->nout, err);
    if (st != ST_OK) {
        calib_free(c);
        return st;
    }
    *out = c;
    return ST_OK;
}
