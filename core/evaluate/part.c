#include "evaluate/part.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "evaluate/precheck.h"

/* The text that the part of rank r of `size` begins with. */
static int cut(const TokenSet *t, int64_t more, int r, int size)
{
    const int64_t all = t->start[t->samples] + more * t->samples;
    int i = 0;
    while (i < t->samples && t->start[i] + more * i < all * r / size)
        i++;
    return i;
}

Status task_part(TaskPart *p, Dist *d, const TokenSet *whole, int64_t more, Error *err)
{
    const int size = dist_size(d), rank = dist_rank(d), end = cut(whole, more, rank + 1, size);
    *p = (TaskPart){.dist = d, .mine = *whole, .first = cut(whole, more, rank, size)};
    p->mine.samples = end - p->first;
    p->mine.ids = whole->ids + whole->start[p->first];
    p->mine.start = mem_array((size_t)p->mine.samples + 1, sizeof *p->mine.start);
    if (!p->mine.start)
        return error_nomem(err, "a share of the questions");
    for (int i = 0; i <= p->mine.samples; i++)
        p->mine.start[i] = whole->start[p->first + i] - whole->start[p->first];
    return ST_OK;
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
