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
    TurnSteps steps = {0};
    char key[320];
    Status st = rotmap_steps(t->r->m, unit, &steps, err);
    for (int64_t i = 0; st == ST_OK && i < steps.n; i++) {
        const TurnStep *s = &steps.step[i];
        bool is_head = s->linear < 0 && !s->tensor;
        if (s->action != side || s->matrix != which || (unit < 0 && is_head != head))
            continue;
        module_of(s, t->r->m, key, 300);
        strcat(key, side == TURN_OUTPUTS ? ".left" : ".right");
        st = tell_matrix(t, which, key, err);
    }
    free(steps.step);
    return st;
}

Status rotating_tell(const Rotating *r, const Gifts *to, Error *err)
{
    Telling t = {.r = r, .to = to};
    int units = model_depth(r->m);
    RETURN_IF_ERROR(tell_unit(&t, -1, false, TURN_INPUTS, TURN_STREAM, err));
    for (int which = 0; which < TURN_MATRICES; which++) {
        for (int u = 0; u < units && r->turns.r[which]; u++)
            RETURN_IF_ERROR(tell_unit(&t, u, false, TURN_OUTPUTS, which, err));
        if (r->turns.r[which])
            RETURN_IF_ERROR(tell_unit(&t, -1, true, TURN_INPUTS, which, err));
        for (int u = 0; u < units && r->turns.r[which]; u++)
            RETURN_IF_ERROR(tell_unit(&t, u, false, TURN_INPUTS, which, err));
    }
    return ST_OK;
}
