#ifndef SLIM_TESTS_LIB_CONFIGS_H
#define SLIM_TESTS_LIB_CONFIGS_H

#include "qir/scheme.h"

/* The default recipe's pair: act per_tensor int8 asymmetric minmax, weight per_channel int8 symmetric minmax. */
static inline QConfig config_default(void)
{
    return (QConfig){
        .act = {.dtype = QT_INT8, .scope = QS_PER_TENSOR, .symmetric = false, .method = "minmax"},
        .weight = {.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "minmax"},
    };
}

/* Whether nothing that can change a number differs. */
static inline bool config_equal(const QConfig *a, const QConfig *b)
{
    return qspec_key(&a->act) == qspec_key(&b->act) && qspec_key(&a->weight) == qspec_key(&b->weight);
}

#endif
