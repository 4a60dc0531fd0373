/* Measurements side by side. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/kept.h"
#include "session/levelnames.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/sizes.h"

int session_measurements(const Session *s)
{
    return s->model ? (int)s->results->nmeasured : 0;
}

/* Each takes a walk through all levels: lists of measurements ask for many. */
static const PresentKeys *present_keys(const Session *s)
{
    PresentKeys *k = &s->results->keys;
    const Assignment *a = s->assignment;
    if (!k->have || k->version != a->version || k->opened != a->opened_version || k->results != s->results->version)
        *k = (PresentKeys){.have = true, .version = a->version, .opened = a->opened_version, .results = s->results->version,
                           .now = assignment_key(s, a->level), .base = assignment_key(s, a->opened), .fit = fit_key(s)};
    return k;
}

int session_measurements_all(const Session *s)
{
    return session_measurements(s) + (s->model ? s->kept->nforeign : 0);
}

static const Measured *measured_at(const Session *s, int i)
{
    const int own = (int)s->results->nmeasured;
    return i < own ? &s->results->measured[i] : &s->kept->foreign[i - own].m;
}

Measurement session_measurement(const Session *s, int i)
{
    const Measured *k = measured_at(s, i);
    const PresentKeys *p = present_keys(s);
    const int own = (int)s->results->nmeasured;
    Measurement m = (Measurement){.id = k->id, .effect = &k->effect, .blocks = k->blocks, .recipe = k->recipe, .level = k->level,
                         .made = &k->made, .rules = k->rules_text, .present = digest_cmp(&k->key, &p->now) == 0,
                         .base = digest_cmp(&k->key, &p->base) == 0, .comparable = digest_cmp(&k->fit, &p->fit) == 0};
    if (i < own)
        snprintf(m.name, sizeof m.name, "%d", k->id);
    else
        snprintf(m.name, sizeof m.name, "%d@%s", k->id, s->kept->foreign[i - own].run);
    return m;
}

bool session_measurement_size(const Session *s, const Measurement *m, SizeReport *out)
{
    if (m->recipe)
        sizes_of(s, m->recipe, m->level, out);
    return m->recipe != NULL;
}

static Paired paired(const Measured *a, const Measured *b)
{
    return paired_of(&a->effect, a->blocks, &b->effect, b->blocks);
}

Paired session_paired(const Session *s, int a, int b)
{
    return paired(measured_at(s, a), measured_at(s, b));
}

/* The newest other one, of those over the same tokens where there are some. */
static const Measured *previous_of(const Session *s, const Measured *m)
{
    const Results *r = s->results;
    const Measured *any = NULL;
    for (size_t i = r->nmeasured; i-- > 0;) {
        const Measured *k = &r->measured[i];
        if (k->aside)
            continue;
        PairState st = k == m ? PAIR_SET : paired(m, k).state;
        if (st == PAIR_OK || st == PAIR_NO_BLOCKS)
            return k;
        any = k == m || any ? any : k;
    }
    return any;
}

static const Measured *present_of(const Session *s)
{
    return results_find(s, s->assignment->level, 0);
}

static const Measured *base_of(const Session *s)
{
    const Measured *m = present_of(s);
    return results_find(s, s->assignment->opened, m ? m->effect.tokens : 0);
}

const Effect *session_base_effect(const Session *s)
{
    const Measured *m = s->model ? base_of(s) : NULL;
    return m ? &m->effect : NULL;
}

static const Measured *newest_or_present(const Session *s)
{
    const Results *r = s->results;
    const Measured *m = present_of(s);
    return m || !r->nmeasured ? m : &r->measured[r->nmeasured - 1];
}

static const Measured *previous(const Session *s)
{
    return previous_of(s, newest_or_present(s));
}

static const struct Named {
    const char *name;
    const Measured *(*find)(const Session *s);
    const char *none;
} named[] = {
    {"present", present_of, "the present assignment is not measured: measure"},
    {"previous", previous, "there is no other measurement"},
    {"base", base_of, "the recipe's own assignment is not measured"},
};

Status session_measurement_find(const Session *s, const char *name, int *i, Error *err)
{
    const Results *r = s->results;
    const Measured *m = NULL;
    const struct Named *row = NULL;
    char *end;
    long id = strtol(name[0] == '#' ? name + 1 : name, &end, 10);
    if (!session_measurements_all(s))
        return error_set(err, ST_USAGE, "nothing is measured yet: measure");
    for (int k = session_measurements(s); k < session_measurements_all(s); k++) {
        *i = k;
        if (strcmp(session_measurement(s, k).name, name) == 0)
            return ST_OK;
    }
    for (size_t k = 0; k < sizeof named / sizeof *named; k++)
        row = strcmp(named[k].name, name) == 0 ? &named[k] : row;
    if (row) {
        m = row->find(s);
    } else if (name[0] && !*end) {
        for (size_t k = 0; k < r->nmeasured; k++)
            m = r->measured[k].id == id ? &r->measured[k] : m;
    } else {
        return error_set(err, ST_USAGE, "'%s' is no measurement: a number of 'compare list', present, previous or base",
                         name);
    }
    if (!m)
        return row ? error_set(err, ST_USAGE, "%s", row->none)
                   : error_set(err, ST_USAGE, "there is no measurement %s: 'compare list' has them all", name);
    *i = (int)(m - r->measured);
    return ST_OK;
}

bool session_rival(const Session *s, Rival which, Measurement *out, Paired *difference)
{
    static const Measured *(*const find[RIVALS])(const Session *) = {[RIVAL_BASE] = base_of, [RIVAL_PREVIOUS] = previous};
    const Measured *m = s->model ? present_of(s) : NULL, *other = m ? find[which](s) : NULL;
    if (!other || other == m)
        return false;
    *difference = paired(m, other);
    *out = session_measurement(s, (int)(other - s->results->measured));
    return difference->state == PAIR_OK || difference->state == PAIR_NO_BLOCKS;
}

/* ---- levels that differ ---- */

Status session_level_changes(const Session *s, const Measurement *a, const Measurement *b, LevelChange **out, int64_t *n,
                             Error *err)
{
    LevelNames na, nb;
    size_t cap = 0;
    *out = NULL;
    *n = 0;
    RETURN_IF_ERROR(levelnames_of(a->recipe, &na, err));
    Status st = levelnames_of(b->recipe, &nb, err);
    if (st != ST_OK) {
        levelnames_fini(&na);
        return st;
    }
    for (int64_t i = 0; st == ST_OK && i < s->model->nlinears; i++) {
        if (levelnames_same(&na, a->level[i], &nb, b->level[i]))
            continue;
        if (!mem_grow(out, &cap, (size_t)*n + 1, sizeof **out)) {
            st = error_nomem(err, "the levels of two measurements");
            break;
        }
        LevelChange *c = &(*out)[(*n)++];
        c->linear = i;
        levelnames_name(&na, a->level[i], c->from);
        levelnames_name(&nb, b->level[i], c->to);
    }
    levelnames_fini(&na);
    levelnames_fini(&nb);
    if (st != ST_OK) {
        free(*out);
        *out = NULL;
    }
    return st;
}
