#include "session/preset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/parts.h"

/* Appends what stands before the number of a layer: "model.layers.". */
static bool put_prefix(const Model *m, Str *out)
{
    for (int64_t i = 0; i < m->nlinears; i++) {
        char layer[24];
        snprintf(layer, sizeof layer, ".%d.", m->linears[i].layer);
        const char *at = m->linears[i].layer >= 0 ? strstr(m->linears[i].name, layer) : NULL;
        if (at) {
            str_append(out, m->linears[i].name, (size_t)(at - m->linears[i].name) + 1);
            return true;
        }
    }
    return false;
}

static Status blocks(const Model *m, const char *target, Str *out, Error *err)
{
    const char *digits = strchr(target, '=') + 1;
    char *end;
    long n = strtol(digits, &end, 10), layers = m->cfg.layers;
    if (end == digits || *end || n < 1)
        return error_set(err, ST_USAGE, "'%s': first= and last= take a number of blocks", target);
    n = n < layers ? n : layers;
    long from = target[0] == 'f' ? 0 : layers - n;
    if (!put_prefix(m, out))
        return error_set(err, ST_DATA, "'%s': the layers of this model have no numbers", target);
    if (n == 1)
        str_printf(out, "%ld.*", from);
    else
        str_printf(out, "{%ld..%ld}.*", from, from + n - 1);
    return ST_OK;
}

Status preset_text(const Session *s, const char *target, Str *out, Error *err)
{
    Status st = ST_OK;
    if (strncmp(target, "first=", 6) == 0 || strncmp(target, "last=", 5) == 0)
        st = blocks(s->model, target, out, err);
    else if (strncmp(target, "kind=", 5) == 0 && target[5])
        str_printf(out, "*.%s", target + 5);
    else
        str_puts(out, target);
    return st == ST_OK && out->oom ? error_nomem(err, "a target") : st;
}
