#include <string.h>

#include "model/model.h"

static const char *const kind_names[] = {
    [LK_Q] = "q_proj",       [LK_K] = "k_proj",       [LK_V] = "v_proj",
    [LK_O] = "o_proj",       [LK_GATE] = "gate_proj", [LK_UP] = "up_proj",
    [LK_DOWN] = "down_proj", [LK_QKV] = "qkv_proj",   [LK_GATE_UP] = "gate_up_proj",
    [LK_ROUTER] = "router",  [LK_OTHER] = "other",
};

const char *linear_kind_name(LinearKind k)
{
    return kind_names[k];
}

const Arch *arch_find(const char *name)
{
    for (const Arch *const *a = arch_table; *a; a++) {
        if (strcmp((*a)->model_type, name) == 0)
            return *a;
        for (const ArchName *n = (*a)->names; n && n->name; n++)
            if (strcmp(n->name, name) == 0)
                return *a;
    }
    return NULL;
}
