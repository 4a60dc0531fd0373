#include "qir/quantkey.h"

#include <string.h>

bool quantkey_takes(const QuantKey *k, const QSpec *q)
{
    return k->dtype == q->dtype && k->scope == q->scope && (k->sym < 0 || (k->sym != 0) == q->symmetric)
           && strcmp(k->method, q->method) == 0;
}
