#include "process/rotating.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* For --debug: by which matrix each weight was turned, and on which side, in the peer's order (specs/formats.md 14): the
 * table of embeddings, then matrix by matrix what gives channels, the head, what reads them. */

typedef struct Telling {
    const Rotating *r;
    const Gifts *to;
    TurnSteps *steps;         /* [units + 1] of the ends, then of each unit */
    bool said[TURN_MATRICES]; /* the matrix was given */
} Telling;

static Status tell_matrix(Telling *t, TurnMatrix which, const char *key, Error *err)
{
    const Rotation *r = t->r->turns.r[which];
    int64_t n = rotation_size(r);
    SaveDebug d = {.space = "quarot_rotate_matrices", .key = key, .identity = r, .ndim = 2, .shape = {n, n},
                   .dtype = DT_F32};
    if (t->said[which])
        return t->to->debug(t->to->self, &d, err);
    float *m = mem_array((size_t)(n * n), sizeof *m);
    Status st = m ? rotation_rows(r, m, err) : error_nomem(err, "a rotation");
    d.values = m;
    if (st == ST_OK)
        st = t->to->debug(t->to->self, &d, err);
    t->said[which] = st == ST_OK;
    free(m);
    return st;
}

/* "model.embed_tokens" of the tensor's name; the head's where it has none of its own. */
static void module_of(const TurnStep *s, const Model *m, char *out, size_t size)
{
    const char *name = s->linear >= 0 ? m->linears[s->linear].name : s->tensor ? s->tensor->name : "lm_head";
    const char *end = strstr(name, ".weight");
    snprintf(out, size, "%.*s", (int)(s->linear < 0 && end && !end[7] ? end - name : (long)strlen(name)), name);
}

/* Steps of a unit (-1: of the ends; head: of these the head alone, or all but it) that turn by this matrix on this side. */
static Status tell_unit(Telling *t, int unit, bool head, TurnAction side, TurnMatrix which, Error *err)
{
    const TurnSteps *steps = &t->steps[unit + 1];
    char key[320];
    for (int64_t i = 0; i < steps->n; i++) {
        const TurnStep *s = &steps->step[i];
        bool is_head = s->linear < 0 && !s->tensor;
        if (s->action != side || s->matrix != which || (unit < 0 && is_head != head))
            continue;
        module_of(s, t->r->m, key, 300);
        strcat(key, side == TURN_OUTPUTS ? ".left" : ".right");
        RETURN_IF_ERROR(tell_matrix(t, which, key, err));
    }
    return ST_OK;
}

static Status tell_all(Telling *t, int units, Error *err)
{
    RETURN_IF_ERROR(tell_unit(t, -1, false, TURN_INPUTS, TURN_STREAM, err));
    for (int which = 0; which < TURN_MATRICES; which++) {
        for (int u = 0; u < units && t->r->turns.r[which]; u++)
            RETURN_IF_ERROR(tell_unit(t, u, false, TURN_OUTPUTS, which, err));
        if (t->r->turns.r[which])
            RETURN_IF_ERROR(tell_unit(t, -1, true, TURN_INPUTS, which, err));
        for (int u = 0; u < units && t->r->turns.r[which]; u++)
            RETURN_IF_ERROR(tell_unit(t, u, false, TURN_INPUTS, which, err));
    }
    return ST_OK;
}

Status rotating_tell(const Rotating *r, const Gifts *to, Error *err)
{
    int units = model_depth(r->m);
    Telling t = {.r = r, .to = to, .steps = mem_zarray((size_t)units + 1, sizeof *t.steps)};
    Status st = t.steps ? ST_OK : error_nomem(err, "the rotation of the model");
    for (int u = -1; u < units && st == ST_OK; u++)
        st = rotmap_steps(r->m, u, &t.steps[u + 1], err);
    if (st == ST_OK)
        st = tell_all(&t, units, err);
    for (int u = 0; t.steps && u <= units; u++)
        free(t.steps[u].step);
    free(t.steps);
    return st;
}
