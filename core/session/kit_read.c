/* Weights that the ranks of a job read once, together. */
#include <stdio.h>

#include "metric/divide.h"
#include "run/shelf.h"
#include "session/kit_impl.h"

bool kit_all_run(Kit *k, const Job *j, const PassDivision *d)
{
    const int size = dist_size(j->opt.dist);
    if (size == 1)
        return false;
    const bool all = pass_divides(&j->plan, size) == DIVIDES_SAMPLES && share_all_have(d->tokens, size);
    if (j->opt.read_once && !all)
        post_log(k->queue, k->job, 0, "--read once: not every rank runs all layers here: each reads what it needs");
    return all;
}

Status kit_readers(Kit *k, const Job *j, uint64_t needed, Dist **out, uint64_t *bytes, Error *err)
{
    *out = NULL;
    *bytes = 0;
    if (!k->together || !j->opt.read_once)
        return ST_OK;
    const uint64_t shelf = shelf_bytes(j->model);
    uint64_t room = needed + shelf <= kit_mem_limit(j);
    RETURN_IF_ERROR(dist_common(k->together, &room, err));
    if (room) {
        *out = k->together;
        *bytes = shelf;
        return ST_OK;
    }
    char line[200];
    snprintf(line, sizeof line, "--read once: the weights of a layer (%.1f MB) are more than a rank's limit of memory leaves: each "
                                "rank reads all of them", (double)shelf * 1e-6);
    post_log(k->queue, k->job, 1, line);
    return ST_OK;
}
