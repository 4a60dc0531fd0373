#include <string.h>

#include "model/config.h"
#include "model/open.h"

/* The head: what makes logits, which may be the table of embeddings, another tensor, or nothing. */

enum { SPOTS = 32, SPOT_BYTES = 1024 };

/* Whether two tensors differ, by their types, shapes and some of their bytes: a trained head differs everywhere. */
static Status differ(const Checkpoint *c, const TensorInfo *a, const TensorInfo *b, bool *out, Error *err)
{
    char x[SPOT_BYTES], y[SPOT_BYTES];
    *out = a->dtype != b->dtype || a->nbytes != b->nbytes || a->ndim != b->ndim ||
           memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) != 0;
    uint64_t n = a->nbytes < SPOT_BYTES ? a->nbytes : SPOT_BYTES;
    for (int i = 0; i < SPOTS && !*out; i++) {
        uint64_t at = (a->nbytes - n) / SPOTS * (uint64_t)i;
        RETURN_IF_ERROR(checkpoint_read(c, a, at, n, x, err));
        RETURN_IF_ERROR(checkpoint_read(c, b, at, n, y, err));
        *out = memcmp(x, y, n) != 0;
    }
    return ST_OK;
}

/* A tied head although the checkpoint has one of its own. */
static Status tie(Open *o, const char *name, Str *w)
{
    Model *m = o->m;
    bool other = false;
    m->exit.head = m->entry.table;
    m->exit.spare = open_find_head(o, name);
    if (!m->exit.spare)
        return ST_OK;
    RETURN_IF_ERROR(differ(m->ckpt, m->exit.spare, m->entry.table, &other, o->err));
    if (other)
        open_warn(w, "'%s' is not the table of embeddings, but tie_word_embeddings is true: it is not used, as by vLLM and "
                     "transformers 4 (transformers 5 uses it: write false into config.json to do so)", m->exit.spare->name);
    return ST_OK;
}

Status open_head(Open *o, Str *w)
{
    Model *m = o->m;
    const char *name = config_key(m->arch->exit.head, "lm_head.weight");
    const TensorInfo *t = open_find_head(o, name);
    m->cfg.tied = m->cfg.tied || (!t && o->may_tie);
    if (m->cfg.tied)
        return tie(o, name, w);
    if (t)
        return open_take(o, t->name, false, m->cfg.vocab, m->cfg.hidden, "vocab_size, hidden_size", &m->exit.head);
    open_warn(w, "there is no %s and tie_word_embeddings is false: the model gives no logits, so it can be analysed and "
                 "quantized, and not measured", name);
    return ST_OK;
}
