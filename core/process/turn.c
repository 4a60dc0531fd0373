#include "process/turn.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "run/source.h"

typedef struct Turning {
    const Model *m;
    Overlay *o;
    const Turns *t;
    bool peer;
    const TensorInfo *norm[2]; /* whose values these are; experts ask for the same again and again */
    float *scale, *bias;       /* NULL: none */
} Turning;

static int64_t values_of(const TensorInfo *t)
{
    return (int64_t)(t->nbytes / (uint64_t)dtype_size(t->dtype));
}

static void drop_norms(Turning *t)
{
    free(t->scale);
    free(t->bias);
    t->scale = t->bias = NULL;
    t->norm[0] = t->norm[1] = NULL;
}

/* What a norm multiplies by, and adds, behind `at` in the arrays. */
static Status read_norm(Turning *t, const TensorInfo *norm, float *scale, float *bias, bool *has_bias, Error *err)
{
    const Source s = {.model = t->m, .overlay = t->o};
    float *w, *b = NULL;
    RETURN_IF_ERROR(source_small(&s, NULL, norm, &w, err));
    Status st = source_norm_bias(&s, NULL, norm, &b, err);
    for (int64_t i = 0; st == ST_OK && i < values_of(norm); i++) {
        if (!isfinite(w[i]))
            st = error_set(err, ST_DATA, "'%s' has %s at [%lld]: the model is damaged; 'slimscope check' looks through the whole model",
                           norm->name, isnan(w[i]) ? "NaN" : "Inf", (long long)i);
        scale[i] = t->m->cfg.norm == NORM_UNIT ? 1 + w[i] : w[i];
        bias[i] = b ? b[i] : 0;
        *has_bias = *has_bias || bias[i] != 0;
    }
    free(w);
    free(b);
    return st;
}

static Status read_norms(Turning *t, const TurnStep *s, Error *err)
{
    if (t->scale && t->norm[0] == s->norm[0] && t->norm[1] == s->norm[1])
        return ST_OK;
    drop_norms(t);
    int64_t first = values_of(s->norm[0]), n = first + (s->norm[1] ? values_of(s->norm[1]) : 0);
    bool has_bias = false;
    t->scale = mem_array((size_t)n, sizeof *t->scale);
    t->bias = mem_array((size_t)n, sizeof *t->bias);
    if (!t->scale || !t->bias)
        return error_nomem(err, "the weights of norms");
    RETURN_IF_ERROR(read_norm(t, s->norm[0], t->scale, t->bias, &has_bias, err));
    if (s->norm[1])
        RETURN_IF_ERROR(read_norm(t, s->norm[1], t->scale + first, t->bias + first, &has_bias, err));
    if (!has_bias || (t->peer && !s->norm[1])) {
        free(t->bias);
        t->bias = NULL;
    }
    t->norm[0] = s->norm[0];
    t->norm[1] = s->norm[1];
    return ST_OK;
}

static Status absorb(Turning *t, const TurnStep *s, const TensorInfo *tensor, Error *err)
{
    RETURN_IF_ERROR(read_norms(t, s, err));
    if (s->linear >= 0 && t->bias)
        RETURN_IF_ERROR(overlay_bias_from(t->o, s->linear, t->bias, err));
    if (s->linear >= 0)
        return overlay_scale_inputs(t->o, s->linear, t->scale, err);
    if (t->bias)
        return error_set(err, ST_DATA, "the bias of norm '%s' can't go into '%s', which has none: rotate before the norm is "
                         "given one, or smooth symmetrically", s->norm[0]->name, tensor->name);
    return overlay_scale_tensor(t->o, tensor, t->scale, err);
}

static Status norm_one(Turning *t, const TensorInfo *norm, Error *err)
{
    int64_t n = values_of(norm);
    drop_norms(t);
    float *zero = mem_zarray((size_t)n, sizeof *zero), *one = mem_array((size_t)n, sizeof *one);
    for (int64_t i = 0; one && i < n; i++)
        one[i] = t->m->cfg.norm == NORM_UNIT ? 0 : 1;
    Status st = ST_OK;
    if (!zero || !one) {
        free(one);
        st = error_nomem(err, "the weights of norms");
    } else {
        st = overlay_replace_tensor(t->o, norm, one, err);
    }
    if (st == ST_OK)
        st = overlay_scale_norm_bias(t->o, norm, zero, err);
    free(zero);
    return st;
}

static Status turn_step(Turning *t, const TurnStep *s, Error *err)
{
    const TensorInfo *tensor = s->tensor ? s->tensor : overlay_head(t->o, t->m);
    const Rotation *r = t->t->r[s->matrix];
    switch (s->action) {
    case TURN_ABSORB:
        return absorb(t, s, tensor, err);
    case TURN_NORM_ONE:
        return norm_one(t, s->norm[0], err);
    case TURN_OUTPUTS:
        return overlay_rotate_outputs(t->o, s->linear, r, err);
    case TURN_INPUTS:
        return s->linear >= 0 ? overlay_rotate_inputs(t->o, s->linear, r, err)
                              : overlay_rotate_tensor(t->o, tensor, r, err);
    }
    return ST_OK;
}

Status turn_model(const Model *m, Overlay *o, const Turns *turns, bool peer, int unit, Error *err)
{
    Turning t = {.m = m, .o = o, .t = turns, .peer = peer};
    TurnSteps steps;
    if (unit < 0 && m->exit.head)
        RETURN_IF_ERROR(overlay_untie(o, err));
    Status st = rotmap_steps(m, unit, &steps, err);
    for (int64_t i = 0; i < steps.n && st == ST_OK; i++)
        st = turn_step(&t, &steps.step[i], err);
    drop_norms(&t);
    free(steps.step);
    return st;
}
