#include "process/quantizer.h"

#include <stddef.h>
#include <string.h>

static bool key_takes(const QuantKey *k, const QSpec *q)
{
    return k->dtype == q->dtype && k->scope == q->scope && (k->sym < 0 || (k->sym != 0) == q->symmetric)
           && (!k->method || strcmp(k->method, q->method) == 0);
}

const ActQuantizer *act_quantizer_find(const QSpec *q)
{
    for (int i = 0; act_quantizer_table[i]; i++)
        if (key_takes(&act_quantizer_table[i]->key, q))
            return act_quantizer_table[i];
    return NULL;
}

const WeightQuantizer *weight_quantizer_find(const QSpec *q)
{
    for (int i = 0; weight_quantizer_table[i]; i++)
        if (key_takes(&weight_quantizer_table[i]->key, q))
            return weight_quantizer_table[i];
    return NULL;
}

bool weight_quantizer_rowwise(const WeightQuantizer *w, const QSpec *q, bool peer)
{
    return w->rowwise && !(w->whole && w->whole(q, peer));
}

bool qconfig_runnable(const QConfig *q)
{
    const Scheme *s = scheme_find(q);
    const WeightQuantizer *w = weight_quantizer_find(&q->weight);
    return s && s->runnable && act_quantizer_find(&q->act) && w && w->rows;
}
