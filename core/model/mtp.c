#include "model/mtp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/storage.h"

enum { LAYERS_COUNTED = 64 };

/* Bytes of the longest module of the body's that the tensor lies in: of "model." or of what stands above it. */
static size_t above(const Model *m, const char *name)
{
    size_t n = m->body ? strlen(m->body) : 0;
    while (n && strncmp(name, m->body, n) != 0)
        for (n--; n && m->body[n - 1] != '.'; n--) {
        }
    return n;
}

/* Length of the prefix that names the tensor's MTP layer, 0 when it is none. *number: of the layer. */
static size_t mtp_prefix(const Model *m, const char *name, long *number)
{
    static const char *const own[] = {"mtp.layers.", "mtp."};
    const char *layers = model_layers_prefix(m);
    size_t n = strlen(layers), k = above(m, name);
    char *end;
    if (strncmp(name, layers, n) == 0) {
        *number = strtol(name + n, &end, 10);
        return end > name + n && *end == '.' && *number >= m->cfg.layers ? (size_t)(end - name) : 0;
    }
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        n = k + strlen(own[i]);
        if (strncmp(name + k, own[i], n - k) != 0)
            continue;
        *number = strtol(name + n, &end, 10);
        return end > name + n && *end == '.' ? (size_t)(end - name) : n - 1;
    }
    return 0;
}

bool model_mtp_tensor(const Model *m, const char *name)
{
    long number;
    return mtp_prefix(m, name, &number) > 0;
}

static bool is_linear(const TensorInfo *t, const StorageRole *role)
{
    static const char *const others[] = {"embed", "norm", "head.", "rotary", "bias"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strstr(t->name, others[i]))
            return false;
    return role->codes || (!role->how && t->ndim >= 2);
}

void model_mtp(const Model *m, MtpInfo *out)
{
    long seen[LAYERS_COUNTED];
    *out = (MtpInfo){0};
    for (int64_t i = 0; i < checkpoint_count(m->ckpt); i++) {
        const TensorInfo *t = checkpoint_at(m->ckpt, i);
        long number = 0;
        size_t n = mtp_prefix(m, t->name, &number);
        if (!n)
            continue;
        if (!out->tensors++)
            snprintf(out->first, sizeof out->first, "%.*s", (int)(n < 63 ? n : 63), t->name);
        int64_t k = 0;
        while (k < out->layers && seen[k] != number)
            k++;
        if (k == out->layers && k < LAYERS_COUNTED)
            seen[out->layers++] = number;
        StorageRole role = storage_role(m->ckpt, t);
        if (role.how && !role.codes)
            continue;
        out->params += (int64_t)(t->nbytes / (uint64_t)dtype_size(t->dtype)) * (role.how ? role.how->codes : 1);
        out->linears += is_linear(t, &role);
    }
}
