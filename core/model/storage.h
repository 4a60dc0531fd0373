#ifndef SLIM_MODEL_STORAGE_H
#define SLIM_MODEL_STORAGE_H

#include "io/json.h"
#include "model/open.h"
#include "model/weight.h"

/* Reads quantization_config of config.json (its root, and the object that describes the decoder) into *cfg. What isn't
 * read is refused by the name of its method or format; *foreign then: the weights may be floats all the same. (specs/models.md 2.7)
 */
Status storage_config(const cJSON *root, const cJSON *config, ModelConfig *cfg, bool *foreign, Error *err);

/* Whether the weight `base` is stored in a way that is known and not read; then which one and what to do, into text. */
bool storage_foreign(const Open *o, const char *base, char *text, size_t size);

/* Whether the checkpoint holds coded weights under the name `base`. */
bool storage_found(const Open *o, const char *base);

/* Finds the codes and scales of `base` ("model.layers.0.mlp.down_proj"; stacked: "...experts.gate_up_proj"): `matrices`
 * (0: a tensor of two dimensions) of [rows][in] values each, and counts them as used. *store is the model's. Absent
 * (no codes under this name): *weight NULL. A scale that is missing or has another shape is an error that names it. */
Status storage_take(Open *o, const char *base, int64_t matrices, int64_t rows, int64_t in, const char *keys,
                    const TensorInfo **weight, const WeightStore **store);

/* A coded matrix that no part of the decoder is (of a multi-token prediction layer) as a linear that can be read: *l and
 * the *w that it points to are the caller's, l->name is NULL. t is a tensor of codes (storage_role). ST_DATA: its scales
 * don't fit, or it is a stack. */
Status storage_loose(const Model *m, const TensorInfo *t, Linear *l, WeightStore *w, Error *err);

/* The parts of it: how many values a row of codes t has (w->in), as w->shape says, and the blocks that w->scale is for, its type
 * and shape checked; how, scale, shape and rows of w are there. Of m only checkpoint, path and block sizes are looked at. */
Status storage_width(const Model *m, const TensorInfo *t, WeightStore *w, Error *err);
Status storage_scales(const Model *m, int64_t matrices, WeightStore *w, Error *err);

/* What a tensor holds when it belongs to a coded weight, told by names and types alone. */
typedef struct StorageRole {
    const Storage *how;  /* NULL: neither codes nor scales nor a shape */
    bool codes, scales;
} StorageRole;
StorageRole storage_role(const Checkpoint *c, const TensorInfo *t);

#endif
