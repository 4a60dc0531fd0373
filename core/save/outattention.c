#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "save/attention.h"
#include "save/outcheck_impl.h"

/* What an output says of attentions that read quantized queries, keys and values: each entry against its tensors, each tensor
 * against its entry. */

/* A tensor of one part of an attention. */
typedef struct Side {
    char attention[512];
    int part;
    bool offset;
} Side;

static bool side_of(const char *name, Side *out)
{
    for (int i = 0; i < ATTENTION_PARTS; i++)
        for (int k = 0; k < 2; k++) {
            char end[32];
            snprintf(end, sizeof end, ".%s.%s", attention_parts[i], k ? "offset" : "scale");
            size_t n = strlen(name), m = strlen(end);
            if (!str_ends_with(name, end) || n - m >= sizeof out->attention)
                continue;
            *out = (Side){.part = i, .offset = k};
            memcpy(out->attention, name, n - m);
            return true;
        }
    return false;
}

/* What the description has of the attention; false: nothing that can be read. */
static bool parts_of(const OutCheck *o, const char *attention, AttentionPart part[ATTENTION_PARTS])
{
    char name[600];
    snprintf(name, sizeof name, "%.500s" ATTENTION_TYPE, attention);
    const char *text = out_label(o, name);
    return text && attention_type_read(text, part);
}

static void check_entry(OutCheck *o, const char *name)
{
    AttentionPart part[ATTENTION_PARTS];
    const char *text = out_label(o, name);
    if (!attention_type_read(text, part)) {
        out_tell(o, true, NULL, name, "is '%s', which is no kind of quantized attention", text);
        return;
    }
    for (int i = 0; i < ATTENTION_PARTS; i++)
        for (int k = 0; k < 2 && part[i].dtype != QT_FLOAT && !part[i].dynamic; k++) {
            char of[600];
            int file;
            snprintf(of, sizeof of, "%.*s.%s.%s", (int)(strlen(name) - strlen(ATTENTION_TYPE)), name, attention_parts[i],
                     k ? "offset" : "scale");
            if (!out_tensor(o, of, &file))
                out_tell(o, true, NULL, of, "is missing: '%s' is %s", name, text);
        }
}

void out_attentions(OutCheck *o)
{
    for (size_t i = 0; i < o->nattentions; i++)
        check_entry(o, o->attention[i]);
}

Status out_attention_tensor(OutCheck *o, const TensorInfo *t, Error *err)
{
    AttentionPart part[ATTENTION_PARTS];
    Side s;
    if (!side_of(t->name, &s)) {
        out_tell(o, true, t, t->name, "is %s, but no scale or offset of queries, keys or values", ATTENTION_LABEL);
        return ST_OK;
    }
    bool told = parts_of(o, s.attention, part) && part[s.part].dtype != QT_FLOAT && !part[s.part].dynamic;
    DType want = s.offset && told && part[s.part].dtype == QT_INT8 ? DT_I8 : DT_F32;
    if (!told)
        out_tell(o, true, t, t->name, "is there, but '%s" ATTENTION_TYPE "' says nothing of it", s.attention);
    if (t->ndim != 2 || t->shape[1] != 1 || (told && t->dtype != want))
        out_tell(o, true, t, t->name, "is no column of %s, one value a head", dtype_name(want));
    else if (!s.offset)
        return out_check_scale(o, t, err);
    return ST_OK;
}
