#ifndef SLIM_SAVE_DEBUG_INFO_H
#define SLIM_SAVE_DEBUG_INFO_H

#include "base/str.h"
#include "save/saver.h"

/* `--debug`: DIR/debug_info/debug_info.json and .safetensors (specs/formats.md 14). Entries are grouped by namespace;
 * a tensor is a reference {"_type", "_file", "_key"} whose key is "namespace/key", so that none overwrites another. Equal
 * tensors are stored once, under the first name. */
typedef struct DebugInfo DebugInfo;

Status debug_info_new(DebugInfo **out, Error *err);
void debug_info_free(DebugInfo *d);
/* A later value of the same namespace and key replaces the earlier one. Everything is copied. */
Status debug_info_number(DebugInfo *d, const char *space, const char *key, double value, Error *err);
Status debug_info_text(DebugInfo *d, const char *space, const char *key, const char *value, Error *err);
/* What is told of a quantized linear. */
typedef struct DebugLinear {
    int64_t linear;
    int64_t out, groups;
    const float *scale;      /* [out][groups], borrowed; NULL: the weight has none */
    bool has_codes, has_act;
    double zeros, limits;    /* shares of codes that are 0, and that are the least or the greatest */
    QParam act;
} DebugLinear;
DebugLinear debug_linear_of(const SaveLinear *l);
/* "weight" NAME.scale (tensor), NAME.zeros and NAME.limits, "activation" NAME.scale, NAME.offset. */
Status debug_info_linear(DebugInfo *d, const Model *m, const DebugLinear *l, Error *err);
/* What a processor found. */
Status debug_info_tensor(DebugInfo *d, const SaveDebug *v, Error *err);
/* Both files: the tensors into `path`, replaced as a whole, the document into *json. peer: with the peer's keys, which are
 * numbers that begin anew in each namespace and are one too low in the document, so that a later namespace's tensors
 * take the place of an earlier one's. */
Status debug_info_save(DebugInfo *d, bool peer, const char *path, Str *json, Error *err);

#endif
