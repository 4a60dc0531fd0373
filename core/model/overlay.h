#ifndef SLIM_MODEL_OVERLAY_H
#define SLIM_MODEL_OVERLAY_H

#include "base/error.h"
#include "base/hash.h"
#include "model/model.h"

/* How a model differs from its checkpoint: what processors have changed in it so far. Nobody applies an overlay but
 * run/source.h, through which everybody reads the model: passes, quantizers, savers.
 *
 * A linear:  w(o, i) = (base(o, i) * rows(o)) * cols(i),  bias(o) = checkpoint's(o) * bias_scale(o) + bias(o)
 * A tensor:  t(.., i) = base(.., i) * scale(i)
 *
 * in float32, in this order, then rounded to the dtype of the pass that reads it (not at all in float32 arithmetic) or
 * of the file it is written to. The base is what the checkpoint holds, values in memory, or a tensor of a file that the
 * run has made (derived). A later edit works on what the earlier ones gave: factors multiply (in float32); a new base
 * drops the factors of the weight, the bias stays.
 *
 * Edits are made on the job thread while no pass runs; everybody may read. Values given are copied, but for new bases
 * in memory, which are taken over. */
typedef struct Overlay Overlay;

typedef struct LinearEdit {
    const float *rows;         /* [out] factors; NULL: 1 */
    const float *cols;         /* [in] factors; NULL: 1 */
    const float *values;       /* [out][in] the base; NULL: not in memory */
    const TensorInfo *derived; /* [out][in] the base; NULL: none. F32, F16 or BF16 */
    const Checkpoint *file;    /* which has it */
    const float *bias_scale;   /* [out] factors of the checkpoint's bias; NULL: 1 */
    const float *bias;         /* [out] added to it, or the bias of a linear that has none; NULL: nothing */
} LinearEdit;

/* A norm, an embedding, the head, and whatever else is no linear's weight. */
typedef struct TensorEdit {
    const float *scale;        /* [last dimension] factors; NULL: 1 */
    const float *values;       /* as many as the tensor has; the base; NULL: not in memory */
    const TensorInfo *derived; /* of the tensor's shape; the base; NULL: none */
    const Checkpoint *file;
} TensorEdit;

/* Without edits. The model outlives it. */
Status overlay_new(Overlay **out, const Model *m, Error *err);
void overlay_free(Overlay *o);

/* Opens a .safetensors file (or a folder of them) that a processor has made, for overlay_derive*. key: what its values
 * depend on (they are not read for the digest). Files stay open as long as the overlay lives. */
Status overlay_file(Overlay *o, const char *path, const char *key, Error *err);

/* ---- linears, by their index in Model.linears ---- */

/* Output o becomes s[o] times as large: rows of the weight, and the bias. */
Status overlay_scale_outputs(Overlay *o, int64_t linear, const float *s, Error *err);
/* Column i of the weight becomes s[i] times as large: for an input that is 1/s[i] as large. */
Status overlay_scale_inputs(Overlay *o, int64_t linear, const float *s, Error *err);
/* b[out] more. */
Status overlay_add_bias(Overlay *o, int64_t linear, const float *b, Error *err);
/* The weight is w[out][in] (malloc; taken over, also after an error). */
Status overlay_replace(Overlay *o, int64_t linear, float *w, Error *err);
/* The weight is tensor `name` of the file opened last that has it. ST_DATA: none, or of another shape or type. */
Status overlay_derive(Overlay *o, int64_t linear, const char *name, Error *err);

/* ---- other tensors, of the model's checkpoint ---- */

/* s: as many as the tensor's last dimension. A tensor that is embedding and head in one is both afterwards. */
Status overlay_scale_tensor(Overlay *o, const TensorInfo *t, const float *s, Error *err);
Status overlay_replace_tensor(Overlay *o, const TensorInfo *t, float *values, Error *err);
Status overlay_derive_tensor(Overlay *o, const TensorInfo *t, const char *name, Error *err);

/* ---- questions; o may be NULL ---- */

/* NULL: as in the checkpoint. */
const LinearEdit *overlay_linear(const Overlay *o, int64_t linear);
const TensorEdit *overlay_tensor(const Overlay *o, const TensorInfo *t);
/* Whether linear i has a bias: of the checkpoint, or an added one. */
bool overlay_has_bias(const Overlay *o, const Model *m, int64_t linear);
/* Fingerprint of all edits in their order, as 64 hex digits: whatever is kept of a changed model is kept under it. ""
 * without edits. */
void overlay_digest(const Overlay *o, char hex[65]);

#endif
