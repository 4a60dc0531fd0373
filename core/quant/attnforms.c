#include "quant/attnforms.h"

Status attn_forms_add(AttnForms *a, AttnForm f, Error *err)
{
    if (a->n == ATTN_FORMS_MAX)
        return error_set(err, ST_DATA, "more than %d processors quantize what one attention reads", ATTN_FORMS_MAX);
    a->form[a->n++] = f;
    return ST_OK;
}

static Status prepare_all(void *self, int64_t linear, Error *err)
{
    const AttnForms *a = self;
    for (int i = 0; i < a->n; i++)
        if (a->form[i].prepare)
            RETURN_IF_ERROR(a->form[i].prepare(a->form[i].self, linear, err));
    return ST_OK;
}

static void replace_all(void *self, int64_t linear, int part, float *x, int64_t rows, int64_t ld)
{
    const AttnForms *a = self;
    for (int i = 0; i < a->n; i++)
        a->form[i].replace(a->form[i].self, linear, part, x, rows, ld);
}

const AttnForm *attn_forms(AttnForms *a)
{
    a->all = (AttnForm){.replace = replace_all, .self = a};
    for (int i = 0; i < a->n; i++)
        if (a->form[i].prepare)
            a->all.prepare = prepare_all;
    return a->n ? &a->all : NULL;
}
