/* What fused groups weigh and take at each level. */
#include "session/groups.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/sizes.h"
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
    sizes_of(s, s->recipe, s->assignment->opened, &opened);
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

/* What predictions go by: these metrics, where they are of groups, and a part of the first. */
typedef struct Sources {
    const Metric *alone, *block;
    int error;
} Sources;

static const Metric *of_groups(const char *name)
{
    const Metric *m = metric_find(name);
    return m && m->scope == SCOPE_GROUP && !m->score ? m : NULL;
}

static Sources sources(void)
{
    Sources f = {of_groups("alone"), of_groups("block_error"), -1};
    f.error = f.alone ? metric_parts(f.alone) - 1 : -1;
    while (f.error >= 0 && strcmp(f.alone->parts[f.error].name, "error") != 0)
        f.error--;
    return f;
}

/* The value of the present data and arithmetic, NULL: there is none. */
static const UnitSlot *value_at(const Session *s, const GroupTable *t, const Metric *m, int64_t g, int64_t at)
{
    const UnitSlot *u = m && at % t->levels ? scores_unit_at(&s->results->scores, m, g, t->digest[at]) : NULL;
    return u && u->made == t->origin ? u : NULL;
}

/* What is known of a group; what is not, or is no number, is NaN. */
static void read_group(const Session *s, GroupTable *t, const Sources *from, int64_t g)
{
    for (int64_t at = g * t->levels; at < (g + 1) * t->levels; at++) {
        const UnitSlot *alone = value_at(s, t, from->alone, g, at), *block = value_at(s, t, from->block, g, at);
        t->alone[at] = alone ? value_of(s->model, g, alone) : NAN;
        t->error[at] = alone && from->error >= 0 ? alone->s.part[from->error] : NAN;
        t->block[at] = block ? value_of(s->model, g, block) : NAN;
    }
}

/* Reads what the news are about; false: none of them is about what predictions go by. */
static bool read_news(const Session *s, GroupTable *t, const Sources *from)
{
    const Results *r = s->results;
    bool any = false;
    for (uint64_t at = t->news; at < r->nnews; at++) {
        const ScoreNews *n = &r->news[at % SCORE_NEWS];
        if (n->metric && (n->metric == from->alone || n->metric == from->block)) {
            read_group(s, t, from, n->unit);
            any = true;
        }
    }
    return any;
}

static void read_results(const Session *s, GroupTable *t)
{
    const Results *r = s->results;
    const Sources from = sources();
    const uint64_t origin = origin_now(s).data;
    bool any = true;
    if (t->whole != r->loss_whole + 1 || t->origin != origin || r->nnews - t->news > SCORE_NEWS) {
        t->origin = origin;
        for (int64_t g = 0; g < t->n; g++)
            read_group(s, t, &from, g);
    } else {
        any = read_news(s, t, &from);
    }
    t->whole = r->loss_whole + 1;
    t->news = r->nnews;
    if (!any)
        return;
    tune_weights(t->alone, t->error, t->block, t->n, t->levels, t->v);
    bool all = s->model->cfg.layers >= model_depth(s->model); /* lead to logits */
    for (int64_t g = 0; g < t->n && !all; g++)
        for (int k = 0; k < t->levels && !leads_to_logits(s->model, g); k++)
            t->v[g * t->levels + k] = 0;
}

Status group_table(Session *s, const GroupTable **out, Error *err)
{
    GroupTable *t = &s->whatifs->groups;
    if (!t->n || t->opened != s->assignment->opened_version)
        RETURN_IF_ERROR(open_table(s, t, err));
    if (t->results != s->results->loss_version + 1) {
        read_results(s, t);
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
