#include "evaluate/part.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "evaluate/precheck.h"
#include "run/share.h"

/* As share_init, by what texts cost. */
static Status cuts(const TokenSet *t, int64_t more, const Dist *d, int *cut, Error *err)
{
    int64_t *cost = mem_array((size_t)t->samples + 1, sizeof *cost);
    if (!cost)
        return error_nomem(err, "a share of the questions");
    for (int i = 0; i <= t->samples; i++)
        cost[i] = t->start[i] + more * i;
    const TokenSet by_cost = {.samples = t->samples, .start = cost};
    Status st = share_cuts(&by_cost, dist_speeds(d), dist_size(d), cut, err);
    free(cost);
    return st;
}

Status task_part(TaskPart *p, Dist *d, const TokenSet *whole, int64_t more, Error *err)
{
    const int rank = dist_rank(d);
    int *cut = mem_array((size_t)dist_size(d) + 1, sizeof *cut);
    *p = (TaskPart){.dist = d};
    Status st = cut ? cuts(whole, more, d, cut, err) : error_nomem(err, "a share of the questions");
    if (st == ST_OK) {
        p->first = cut[rank];
        st = tokens_part(&p->mine, whole, cut[rank], cut[rank + 1] - cut[rank], err);
    }
    free(cut);
    return st;
}

void task_part_fini(TaskPart *p)
{
    free(p->mine.start);
    *p = (TaskPart){.first = 0};
}

Status task_part_gather(const TaskPart *p, double *v, Error *err)
{
    Pack mine = {0}, *all = NULL;
    if (dist_size(p->dist) == 1)
        return ST_OK;
    pack_put(&mine, v + p->first, (size_t)p->mine.samples * sizeof *v);
    Status st = dist_gather_all(p->dist, &mine, &all, err);
    for (int r = 0; st == ST_OK && r < dist_size(p->dist); r++) {
        if (all[r].len)
            memcpy(v, all[r].data, all[r].len);
        v += all[r].len / sizeof *v;
    }
    dist_packs_free(all, dist_size(p->dist));
    pack_fini(&mine);
    return st;
}

static int64_t rule_number(const char *rule)
{
    for (int i = 0; rule && i < GARBLED_ITEMS; i++)
        if (strcmp(rule, garbled_names[i]) == 0)
            return i;
    return -1;
}

Status task_part_score(const TaskPart *p, TaskScore *s, Error *err)
{
    Pack mine = {0}, *all = NULL;
    if (dist_size(p->dist) == 1)
        return ST_OK;
    pack_i64(&mine, s->right);
    pack_i64(&mine, s->garbled);
    pack_i64(&mine, rule_number(s->rule));
    Status st = dist_gather_all(p->dist, &mine, &all, err);
    if (st == ST_OK)
        *s = (TaskScore){.n = s->n};
    for (int r = 0; st == ST_OK && r < dist_size(p->dist); r++) {
        Unpack in = unpack_of(&all[r]);
        s->right += unpack_i64(&in);
        s->garbled += unpack_i64(&in);
        const int64_t rule = unpack_i64(&in);
        if (!s->rule && rule >= 0)
            s->rule = garbled_names[rule];
    }
    dist_packs_free(all, dist_size(p->dist));
    pack_fini(&mine);
    return st;
}
