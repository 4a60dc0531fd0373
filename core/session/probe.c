/* What analyses quantize with: the recipe's levels, or one scheme for all linears. */
#include <stdio.h>
#include <string.h>

#include "quant/quantizer.h"
#include "session/assignment.h"
#include "session/entries.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/table.h"

static Status unknown_scheme(const char *name, bool known, Error *err)
{
    Str names = {0};
    for (const Scheme *s = scheme_table; s->name; s++) {
        QConfig q;
        bool twin = s > scheme_table && strcmp(s[-1].name, s->name) == 0;
        if (!twin && scheme_config(s->name, &q) && qconfig_runnable(&q))
            str_printf(&names, "%s%s", names.len ? ", " : "", s->name);
    }
    error_set(err, ST_USAGE, "scheme '%s' %s: there are %s; recipe is what the recipe says, peer what msModelSlim's analyze takes",
              name, known ? "can't be run by this build" : "is none", str_text(&names));
    str_free(&names);
    return ST_USAGE;
}

Status session_set_scheme(Session *s, const char *name, Error *err)
{
    QConfig q;
    bool word = strcmp(name, "recipe") == 0 || strcmp(name, "peer") == 0, known = word || scheme_config(name, &q);
    if (!known || (!word && !qconfig_runnable(&q)))
        return unknown_scheme(name, known, err);
    const char *kept = strcmp(name, "recipe") == 0 ? "" : name;
    if (s->model && strcmp(s->scheme, kept) != 0) /* what is stopped now and gone on with later is made at it */
        entry_text(s, "scheme", name);
    snprintf(s->scheme, sizeof s->scheme, "%s", kept);
    s->results->levels_seen = 0;
    if (s->model)
        table_scores_changed(s->table);
    return ST_OK;
}

bool session_scheme(const Session *s, const MetricPass *pass, QConfig *out)
{
    bool peer = strcmp(s->scheme, "peer") == 0;
    const char *name = peer ? pass->probe : s->scheme;
    return !pass->fixed && name && name[0] && scheme_config(name, out);
}

Status job_take_scheme(Session *s, const MetricPass *pass, Job *j, Error *err)
{
    QConfig q;
    RETURN_IF_ERROR(job_take_levels(s, j, err));
    scored_levels(s, j->level);
    if (pass->fixed)
        memset(j->level, 0, (size_t)s->model->nlinears * sizeof *j->level);
    if (!session_scheme(s, pass, &q))
        return ST_OK;
    if (!pass->has) /* statistics serve the recipe's levels, too */
        j->nlevels = 0;
    j->levels[j->nlevels++] = q; /* there is room: float is counted */
    for (int64_t i = 0; i < s->model->nlinears; i++)
        j->level[i] = (int16_t)j->nlevels;
    return ST_OK;
}

void scored_keys(const Session *s, const Metric *m, int16_t *level, uint64_t *out)
{
    const Assignment *a = s->assignment;
    QConfig q;
    bool one = session_scheme(s, m->pass, &q);
    if (metric_any_level(m)) {
        memset(out, 0, (size_t)scope_units(s->model, m->scope) * sizeof *out);
        return;
    }
    scored_levels(s, level);
    if (m->pass->fixed) /* it depends on none */
        memset(level, 0, (size_t)s->model->nlinears * sizeof *level);
    for (int64_t i = 0; one && i < s->model->nlinears; i++)
        level[i] = 1;
    scores_levels(s->model, m->scope, one ? &q : a->levels, level, out);
}

uint64_t scored_key(const Session *s, const Metric *m, int64_t unit, const int16_t *level)
{
    QConfig q;
    bool one = session_scheme(s, m->pass, &q);
    if (metric_any_level(m))
        return 0;
    if (one || m->pass->fixed)
        return scores_level_all(s->model, m->scope, unit, one ? &q : NULL);
    return scores_unit_levels(s->model, m->scope, unit, s->assignment->levels, level);
}
