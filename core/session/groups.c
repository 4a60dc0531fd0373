/* What fused groups weigh and take at each level. */
#include "session/groups.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/whatif.h"
#include "tune/predict.h"

void group_table_free(GroupTable *t)
{
    free(t->alone);
    free(t->error);
    free(t->block);
    free(t->v);
    free(t->bytes);
    free(t->bits);
    free(t->digest);
    *t = (GroupTable){0};
}

/* Whether logits depend on the group: not that of multi-token prediction. */
static bool leads_to_logits(const Model *m, int64_t g)
{
    return m->linears[group_linear(&m->groups[g], 0)].layer < m->cfg.layers;
}

/* Bytes and bits of a group at a level; a level without a scheme can't be had. */
static void size_group(const Session *s, GroupTable *t, int64_t g, int k)
{
    const Model *m = s->model;
    const FusedGroup *f = &m->groups[g];
    const QConfig *q = level_config(s->assignment, k);
    int64_t at = g * t->levels + k;
    for (int32_t j = 0; j < f->count; j++) {
        const Linear *l = &m->linears[group_linear(f, j)];
        t->bits[at] += recipe_linear_bits(s->recipe, m, group_linear(f, j), k);
        t->bytes[at] += (int64_t)recipe_linear_bytes(s->recipe, m, group_linear(f, j), k, s->opt.peer);
        t->weights += k ? 0 : (double)l->out * (double)l->in;
    }
    if (k && !scheme_find(q))
        t->bytes[at] = -1;
    t->digest[at] = scores_level_all(m, SCOPE_GROUP, g, q);
}

static Status open_table(Session *s, GroupTable *t, Error *err)
{
    int64_t n = s->model->ngroups;
    int levels = s->assignment->nlevels;
    size_t cells = (size_t)n * (size_t)levels;
    group_table_free(t);
    *t = (GroupTable){.n = n, .levels = levels, .alone = mem_array(cells, sizeof(double)),
                      .error = mem_array(cells, sizeof(double)),
                      .block = mem_array(cells, sizeof(double)), .v = mem_array(cells, sizeof(double)),
                      .bytes = mem_zarray(cells, sizeof(int64_t)), .bits = mem_zarray(cells, sizeof(double)),
                      .digest = mem_array(cells, sizeof(uint64_t))};
    if (!t->alone || !t->error || !t->block || !t->v || !t->bytes || !t->bits || !t->digest) {
        group_table_free(t);
        return error_nomem(err, "the groups' levels");
    }
    for (int64_t g = 0; g < n; g++)
        for (int k = 0; k < levels; k++)
            size_group(s, t, g, k);
    SizeReport opened;
    recipe_sizes(s->recipe, s->model, s->assignment->opened, s->opt.peer, &opened);
    t->others = t->opened_bytes = (int64_t)opened.bytes;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        t->others -= (int64_t)recipe_linear_bytes(s->recipe, s->model, i, s->assignment->opened[i], s->opt.peer);
    t->opened = s->assignment->opened_version;
    return ST_OK;
}

/* A value; of experts that no token reached 0: nothing is lost on these texts. */
static double value_of(const Model *m, int64_t g, const UnitSlot *u)
{
    bool expert = m->linears[group_linear(&m->groups[g], 0)].expert >= 0;
    return isnan(u->s.value) && !u->s.tokens && expert ? 0 : u->s.value;
}

/* A metric's values, or a part of them, of the present data and arithmetic; unknown ones, and those that are no number, are
 * NaN. */
static void read_metric(const Session *s, const GroupTable *t, const char *name, const char *part, uint64_t origin,
                        double *out)
{
    const Metric *m = metric_find(name);
    int at = m && part ? metric_parts(m) - 1 : -1;
    while (at >= 0 && strcmp(m->parts[at].name, part) != 0)
        at--;
    for (int64_t i = 0; i < t->n * t->levels; i++) {
        bool values = m && m->scope == SCOPE_GROUP && !m->score && i % t->levels;
        const UnitSlot *u = values ? scores_unit_at(&s->results->scores, m, i / t->levels, t->digest[i]) : NULL;
        bool known = u && u->made == origin && (!part || at >= 0);
        out[i] = !known ? NAN : part ? u->s.part[at] : value_of(s->model, i / t->levels, u);
    }
}

Status group_table(Session *s, const GroupTable **out, Error *err)
{
    GroupTable *t = &s->whatifs->groups;
    if (!t->n || t->opened != s->assignment->opened_version) {
        RETURN_IF_ERROR(open_table(s, t, err));
        t->results = 0;
    }
    if (t->results != s->results->loss_version + 1) {
        const ScoreOrigin now = origin_now(s);
        read_metric(s, t, "alone", NULL, now.data, t->alone);
        read_metric(s, t, "alone", "error", now.data, t->error);
        read_metric(s, t, "block_error", NULL, now.data, t->block);
        tune_weights(t->alone, t->error, t->block, t->n, t->levels, t->v);
        for (int64_t i = 0; i < t->n * t->levels; i++)
            if (!leads_to_logits(s->model, i / t->levels))
                t->v[i] = 0;
        t->results = s->results->loss_version + 1;
    }
    *out = t;
    return ST_OK;
}

double group_v(const Session *s, const GroupTable *t, int64_t g, const int16_t *level)
{
    const FusedGroup *f = &s->model->groups[g];
    double most = 0;
    for (int32_t j = 0; j < f->count; j++) {
        double v = t->v[g * t->levels + level[group_linear(f, j)]];
        most = isnan(v) || v > most ? v : most;
        if (isnan(most))
            break;
    }
    return most;
}

void group_set(const Session *s, const GroupTable *t, const int16_t *level, int16_t *set)
{
    for (int64_t g = 0; g < t->n; g++) {
        const FusedGroup *f = &s->model->groups[g];
        set[g] = level[group_linear(f, 0)];
        for (int32_t j = 1; j < f->count; j++) {
            int16_t k = level[group_linear(f, j)];
            double v = t->v[g * t->levels + k], now = t->v[g * t->levels + set[g]];
            if (!isnan(now) && !(v < now) && (v != now || !set[g]))
                set[g] = k;
        }
    }
}

double group_sum(const GroupTable *t, const int16_t *set)
{
    double sum = 0;
    for (int64_t g = 0; g < t->n; g++)
        sum += t->v[g * t->levels + set[g]];
    return sum;
}
