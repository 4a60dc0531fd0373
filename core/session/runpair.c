#include "session/runpair.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static double moved(const NamedPair *r)
{
    return fabs(r->rank_a - r->rank_b);
}

static int moved_most(const void *pa, const void *pb)
{
    const NamedPair *a = pa, *b = pb;
    if (moved(a) != moved(b))
        return moved(a) > moved(b) ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* Rows of the names in both, in the order of a; x, y: their scores as they rank. */
static Status match(const ScoreColumn *a, const ScoreColumn *b, int direction, RunPair *out, double *x, double *y, Error *err)
{
    Map at = {0};
    int64_t known_a = 0, known_b = 0;
    Status st = map_reserve(&at, b->n) ? ST_OK : error_nomem(err, "the names of two runs");
    for (size_t i = 0; st == ST_OK && i < b->n; i++) {
        known_b += !isnan(b->score[i].value);
        if (!map_add(&at, b->score[i].name, strlen(b->score[i].name), (int64_t)i, NULL))
            st = error_nomem(err, "the names of two runs");
    }
    for (size_t i = 0; st == ST_OK && i < a->n; i++) {
        const FileScore *s = &a->score[i];
        int64_t k = map_get(&at, s->name, strlen(s->name), -1);
        known_a += !isnan(s->value);
        if (k < 0 || isnan(s->value) || isnan(b->score[k].value))
            continue;
        out->row[out->n] = (NamedPair){.name = s->name, .a = s->value, .b = b->score[k].value};
        x[out->n] = direction * s->value;
        y[out->n++] = direction * b->score[k].value;
    }
    map_free(&at);
    out->only_a = known_a - out->n;
    out->only_b = known_b - out->n;
    return st;
}

Status run_pair(const ScoreColumn *a, const ScoreColumn *b, int direction, int64_t top, RunPair *out, Error *err)
{
    size_t n = a->n;
    *out = (RunPair){.row = mem_array(n, sizeof *out->row)};
    double *x = mem_array(n * 3, sizeof *x), *y = x + n, *rank = y + n;
    Status st = x && out->row ? match(a, b, direction, out, x, y, err) : error_nomem(err, "two runs");
    if (st == ST_OK && out->n < 2)
        st = error_set(err, ST_DATA, "%lld names of the one are in the other with a score", (long long)out->n);
    if (st == ST_OK)
        st = agree(x, y, out->n, top, &out->agreement, err);
    if (st == ST_OK)
        st = agree_ranks(x, out->n, rank, err);
    for (int64_t i = 0; st == ST_OK && i < out->n; i++)
        out->row[i].rank_a = rank[i];
    if (st == ST_OK)
        st = agree_ranks(y, out->n, rank, err);
    for (int64_t i = 0; st == ST_OK && i < out->n; i++)
        out->row[i].rank_b = rank[i];
    free(x);
    if (st != ST_OK) {
        run_pair_fini(out);
        return st;
    }
    qsort(out->row, (size_t)out->n, sizeof *out->row, moved_most);
    return ST_OK;
}

void run_pair_fini(RunPair *p)
{
    free(p->row);
    *p = (RunPair){0};
}

Status session_column(const Session *s, const Metric *m, ScoreFile *out, Error *err)
{
    const Model *model = session_model(s);
    ScoreColumn *c;
    Str name = {0};
    RETURN_IF_ERROR(score_column(out, m->name, &c, err));
    Status st = ST_OK;
    for (int64_t u = 0; st == ST_OK && u < scope_units(model, m->scope); u++) {
        Score sc = session_unit_score(s, m, u);
        if (sc.state != SCORE_OK && sc.state != SCORE_STALE)
            continue;
        str_clear(&name);
        scope_unit_name(model, m->scope, u, &name);
        st = name.oom ? error_nomem(err, "names") : score_add(out, c, str_text(&name), name.len, -1, sc.value, err);
    }
    str_free(&name);
    return st;
}
