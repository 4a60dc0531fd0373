#include "qir/quantkey.h"

#include <string.h>

bool quantkey_takes(const QuantKey *k, const QSpec *q)
{
    return qspec_fits(q, k->dtype, k->scope, k->sym) && strcmp(k->method, q->method) == 0;
}
