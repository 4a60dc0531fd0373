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

/* What the names of layers' tensors begin with: "model.layers." */
const char *open_layers_prefix(const Open *o);

/* As open_take, for tensor `name` ("attn.attn_sink") of a layer. */
Status open_layer_take(Open *o, int layer, const char *name, int64_t rows, int64_t cols, const char *keys,
                       const TensorInfo **out);

/* Adds the linear `module`.`name` of a layer as a fused group of one. input: the linear that sees the same input, -1
 * for its own. */
Status open_linear(Open *o, int layer, const char *module, const char *name, LinearKind kind, int64_t out, int64_t in,
                   const char *keys, int32_t input, int32_t *index);

/* The tensors `name`_fn, _base and _scale of a hyper-connection with so many sums of its copies and scales; nothing
 * where the family has none. */
Status open_hyper(Open *o, const char *name, int64_t sums, int64_t scales, const TensorInfo *out[3]);

/* Fills Model.layers, linears and groups from the checkpoint, by what the family's row says; the layer of multi-token
 * prediction too, where the family runs it and its tensors are there (Model.mtp_reason where they are not all). */
Status open_layers(Open *o);

#endif
