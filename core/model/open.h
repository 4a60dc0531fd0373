#ifndef SLIM_MODEL_OPEN_H
#define SLIM_MODEL_OPEN_H

#include "base/str.h"
#include "model/block.h"

/* Inside model/: building one model from a checkpoint. */

enum { NAME_MAX_BYTES = 160 };

/* What building one model needs besides the model. */
typedef struct Open {
    Model *m;
    bool *used; /* [checkpoint_count] the tensors that the decoder uses */
    Error *err;
    bool may_tie; /* the decoder's own part of config.json ties the head, whatever the whole one says */
    const char *coding; /* why quantization_config is not read, NULL: it is; the weights may be floats all the same */
    size_t linears_cap, groups_cap;
} Open;

/* The file a tensor's error is about: its own, or (missing tensors) the folder's only one or index. */
const char *open_file_of(const Open *o, const TensorInfo *t);
/* Notes that the decoder uses the tensor; gives whether it is for the first time. */
bool open_use(Open *o, const TensorInfo *t);

/* Finds tensor `name` of shape [rows] (cols 0) or [rows][cols]. `keys` names the config keys the shape comes from.
 * Absent: *out NULL when optional, else an error that names it. */
Status open_take(Open *o, const char *name, bool optional, int64_t rows, int64_t cols, const char *keys,
                 const TensorInfo **out);
/* The same for any shape. */
Status open_shape(Open *o, const char *name, bool optional, int ndim, const int64_t *want, const char *keys,
                  const TensorInfo **out);

/* Finds Model.body and Model.layers. ST_DATA: more than one decoder may be meant. */
Status open_place(Open *o);
/* The tensor `name` of the body's module or of the nearest one above it; NULL when there is none. */
const TensorInfo *open_find_head(const Open *o, const char *name);
/* A tensor of the body itself ("norm.weight"): open_take. `other`: another name of it, NULL when there is none. */
Status open_body_take(Open *o, const char *name, const char *other, bool optional, int64_t rows, int64_t cols,
                      const char *keys, const TensorInfo **out);
/* What the names of units' tensors begin with: "model.layers." */
const char *open_layers_prefix(const Open *o);

/* As open_take, for a tensor of one unit; its name under "model.layers.N." is made from `fmt`. */
Status open_unit_take(Open *o, int unit, int64_t rows, int64_t cols, const char *keys, const TensorInfo **out,
                      const char *fmt, ...) __attribute__((format(printf, 7, 8)));

/* One linear to be found. `input`: index of the first that sees the same input, -1 for its own. */
typedef struct Want {
    LinearKind kind;
    int64_t out, in;
    const char *keys;
    int32_t input, expert;
} Want;

/* Adds linear "model.layers.N.<module>.<name>" (module "": of the unit itself) and gives its index; open_close_group
 * makes linears [first, end of the list) a fused group. */
Status open_linear(Open *o, int unit, const char *module, const char *name, const Want *w, int32_t *index);
Status open_close_group(Open *o, int32_t first, const char *label);
/* Makes one group of linear `first` and the one opened last, each alone so far. */
void open_join(Open *o, int32_t first, const char *label);
/* Both: a group of one. */
Status open_alone(Open *o, int unit, const char *module, const char *name, const Want *w, int32_t *index);
/* A linear without its tensors. */
Status open_name(Open *o, int unit, const char *module, const char *name, const Want *w, int32_t *index);

/* Model.exit's head and spare; what is odd about them goes to *w. */
Status open_head(Open *o, Str *w);
/* Adds a sentence to the warnings of a model. */
void open_warn(Str *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The error about a tensor that is not there. */
Status open_missing(const Open *o, const char *name);
/* An error that says what shape config.json wants. */
Status open_wrong_shape(Open *o, const TensorInfo *t, int ndim, const int64_t *want, const char *keys);
/* Only plain floats can be used there: ST_DATA when the tensor has another type. */
Status open_float(Open *o, const TensorInfo *t);

/* Room for a block's conf, of `size` bytes, zero; NULL when there is none. */
void *open_conf(Open *o, Block *b, size_t size);

/* The tensors `name`_fn, _base and _scale of a hyper-connection with so many sums of its copies and scales; nothing
 * where the family has none. */
Status open_hyper(Open *o, const char *name, int64_t sums, int64_t scales, const TensorInfo *out[3]);

/* gate, up and down of a feed-forward block `width` wide under the names a MoeRule gives (NULL: the usual ones), as the
 * three indices at `at`; fused: gate_up_proj at [0]. */
Status open_gated(Open *o, int unit, const char *module, const MoeRule *names, int64_t width, const char *keys,
                  bool fused, int32_t at[3]);

/* Fills Model.units, linears and groups from the checkpoint, by what the family's row says; the layer of multi-token
 * prediction too, where the family runs it and its tensors are there (Model.mtp_reason where they are not all). */
Status open_units(Open *o);

#endif
