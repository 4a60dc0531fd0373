#ifndef SLIM_MODEL_LAYERS_H
#define SLIM_MODEL_LAYERS_H

#include "model/model.h"

/* What building one model needs besides the model. */
typedef struct Open {
    Model *m;
    Map used; /* names of the tensors the decoder uses */
    Error *err;
    const char *attn; /* module of the attention at work: "self_attn" */
    size_t linears_cap, groups_cap;
} Open;

/* The file a tensor's error is about: its own, or (missing tensors) the folder's only one or index. */
const char *open_file_of(const Open *o, const TensorInfo *t);

/* Finds tensor `name` of shape [rows] (cols 0) or [rows][cols]. `keys` names the config keys the shape comes from.
 * Absent: *out NULL when optional, else an error that names it. */
Status open_take(Open *o, const char *name, bool optional, int64_t rows, int64_t cols, const char *keys,
                 const TensorInfo **out);

/* Fills Model.layers, linears and groups from the checkpoint, by what the family's row says. */
Status open_layers(Open *o);

#endif
