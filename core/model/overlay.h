#ifndef SLIM_MODEL_OVERLAY_H
#define SLIM_MODEL_OVERLAY_H

#include "base/error.h"
#include "base/hash.h"
#include "model/editchain.h"
#include "model/lowrank.h"
#include "model/model.h"

/* How a model differs from its checkpoint: what processors have changed in it so far. Nobody applies an overlay but
 * run/source.h, through which everybody reads the model: passes, quantizers, savers.
 *
 * What a linear or another tensor is: a base, and the chain of edits (model/editchain.h) that are done to it in the order
 * in which they were asked for, in float32; then rounded to the dtype of the pass that reads it (not at all in float32
 * arithmetic) or of the file it is written to. The base is what the checkpoint holds, values in memory, or a tensor of a
 * file that the run has made (derived); a new one drops the edits of the weight, the bias stays. Biases are small: they
 * are worked out when they are edited.
 *
 * At run time a linear's input, and what a norm gives, may differ, too: see below.
 *
 * Edits are made on the job thread while no pass runs; everybody may read. Values given are copied, but for new bases
 * in memory, which are taken over; of rotations a share is kept. After an error the overlay may have a part of the edit. */
typedef struct Overlay Overlay;

typedef struct LinearEdit {
    const EditChain *weight;   /* done to the base W[out][in]; NULL: nothing */
    const float *values;       /* [out][in] the base; NULL: not in memory */
    const TensorInfo *derived; /* [out][in] the base; NULL: none. F32, F16 or BF16 */
    const Checkpoint *file;    /* which has it */
    const float *bias;         /* [out] in the place of the checkpoint's; NULL: that one, or none */
    const EditChain *inputs;   /* as overlay_inputs gives it */
    const Rotation *scored;    /* as overlay_scored gives it */
    const LowRank *branch;     /* as overlay_branch gives it */
} LinearEdit;

/* A norm, an embedding, the head, and whatever else is no linear's weight. */
typedef struct TensorEdit {
    const EditChain *rows;     /* done to its rows of the last dimension; NULL: nothing */
    const float *values;       /* as many as the tensor has; the base; NULL: not in memory */
    const TensorInfo *derived; /* of the tensor's shape; the base; NULL: none */
    const Checkpoint *file;
    const float *norm_bias;    /* as overlay_norm_bias gives it */
    double eps;                /* of the norm with this weight, in passes; 0: the model's */
} TensorEdit;

/* Without edits. The model outlives it. */
Status overlay_new(Overlay **out, const Model *m, Error *err);
void overlay_free(Overlay *o);

/* Opens a .safetensors file (or a folder of them) that a processor has made, for overlay_derive*. key: what its values
 * depend on (they are not read for the digest). Files stay open as long as the overlay lives. */
Status overlay_file(Overlay *o, const char *path, const char *key, Error *err);
/* From here on what every edit gives is rounded to this dtype once: the peer's arithmetic. DT_F32, as at first: nothing
 * is. F32, F16 or BF16. */
void overlay_round(Overlay *o, DType t);

/* ---- linears, by their index in Model.linears ---- */

/* Output o becomes s[o] times as large: rows of the weight, and the bias. */
Status overlay_scale_outputs(Overlay *o, int64_t linear, const float *s, Error *err);
/* Column i of the weight becomes s[i] times as large: for an input that is 1/s[i] as large. */
Status overlay_scale_inputs(Overlay *o, int64_t linear, const float *s, Error *err);
/* W <- W R: for an input x R. R is tiled along the inputs, which its size divides (ST_DATA otherwise). */
Status overlay_rotate_inputs(Overlay *o, int64_t linear, const Rotation *r, Error *err);
/* W <- R' W, bias <- R' bias: for what reads its outputs times R. Tiled along the outputs. Whoever reads such a weight
 * reads all of it at once. */
Status overlay_rotate_outputs(Overlay *o, int64_t linear, const Rotation *r, Error *err);
/* Row o of the weight is kept between its least value times least[o] and its largest times most[o]: r = least[out], then
 * most[out]. */
Status overlay_clamp_weight(Overlay *o, int64_t linear, const float *r, Error *err);
/* b[out] more. */
Status overlay_add_bias(Overlay *o, int64_t linear, const float *b, Error *err);
/* W beta more, W as it is by now: what a part beta of its input gives, beta[in] (of a block-diagonal one [groups * in]).
 * Reads the weight, once, on this thread; sums in float64. */
Status overlay_bias_from(Overlay *o, int64_t linear, const float *beta, Error *err);
/* The weight is w[out][in] (malloc; taken over, also after an error). */
Status overlay_replace(Overlay *o, int64_t linear, float *w, Error *err);
/* The weight is tensor `name` of the file opened last that has it. ST_DATA: none, or of another shape or type. */
Status overlay_derive(Overlay *o, int64_t linear, const char *name, Error *err);

/* Takes `out` out of the weight and has `beside` run in its place from here on: overlay_branch. What is done to the weight
 * later is done to the branch, too; a new base leaves it as it is. ST_DATA: the linear has a branch already. */
Status overlay_low_rank(Overlay *o, int64_t linear, const LowRank *out, const LowRank *beside, Error *err);

/* ---- what happens to a linear's input at run time, in the order asked for ---- */

/* x <- x * s[in] before the linear. */
Status overlay_input_scale(Overlay *o, int64_t linear, const float *s, Error *err);
/* x <- x R, R tiled along the inputs. */
Status overlay_input_rotate(Overlay *o, int64_t linear, const Rotation *r, Error *err);
/* Of each token, values are kept within the largest absolute one times ratio. */
Status overlay_input_limit(Overlay *o, int64_t linear, float ratio, Error *err);

/* Of a linear that gives an indexer's queries or keys (of each head a row, behind norm and RoPE): x <- x R before they are
 * multiplied with each other. In the place of an earlier one. */
Status overlay_rotate_scored(Overlay *o, int64_t linear, const Rotation *r, Error *err);

/* ---- other tensors, of the model's checkpoint, or the head of overlay_head ---- */

/* s: as many as the tensor's last dimension. A tensor that is embedding and head in one is both afterwards. */
Status overlay_scale_tensor(Overlay *o, const TensorInfo *t, const float *s, Error *err);
/* Of a norm that multiplies by 1 + w: 1 + w becomes s times as large. */
Status overlay_scale_unit_norm(Overlay *o, const TensorInfo *t, const float *s, Error *err);
/* T <- T R: its rows, of the last dimension. */
Status overlay_rotate_tensor(Overlay *o, const TensorInfo *t, const Rotation *r, Error *err);
Status overlay_replace_tensor(Overlay *o, const TensorInfo *t, float *values, Error *err);
Status overlay_derive_tensor(Overlay *o, const TensorInfo *t, const char *name, Error *err);

/* What the norm with weight t gives is b more: its bias, where it has one (of a LayerNorm), or an added one. b: as many as
 * its weight. */
Status overlay_shift_norm(Overlay *o, const TensorInfo *t, const float *b, Error *err);
/* That bias becomes s times as large; factors that are all 0 take an added one away. Nothing without a bias. */
Status overlay_scale_norm_bias(Overlay *o, const TensorInfo *t, const float *s, Error *err);

/* From here on passes compute the norm before a block with this epsilon. No file says it. */
Status overlay_norm_eps(Overlay *o, const TensorInfo *t, double eps, Error *err);

/* A head that is the table of embeddings becomes a tensor of its own, edited apart from here on: overlay_head. Edits of
 * the table so far are of both. Nothing where head and table are two already. */
Status overlay_untie(Overlay *o, Error *err);

/* ---- questions; o may be NULL ---- */

/* Not of NULL. */
const Model *overlay_model(const Overlay *o);
/* NULL: as in the checkpoint. */
const LinearEdit *overlay_linear(const Overlay *o, int64_t linear);
const TensorEdit *overlay_tensor(const Overlay *o, const TensorInfo *t);
/* Where the values lie that the edits of l's weight work on, as a linear; *file: which has them, NULL: they are
 * LinearEdit.values. l: one of the model's linears, or a loose one (model/storage.h), which nobody changes. */
Linear overlay_base(const Overlay *o, const Model *m, const Linear *l, const Checkpoint **file);
/* The edit of such a linear; NULL: none. */
const LinearEdit *overlay_edit(const Overlay *o, const Model *m, const Linear *l);
/* Whether linear i has a bias: of the checkpoint, or an added one. */
bool overlay_has_bias(const Overlay *o, const Model *m, int64_t linear);
/* What happens to its input: CHAIN_COLS, CHAIN_RIGHT and CHAIN_LIMIT; NULL: nothing. */
const EditChain *overlay_inputs(const Overlay *o, int64_t linear);
/* By what an indexer's queries or keys are turned; NULL: by nothing. */
const Rotation *overlay_scored(const Overlay *o, int64_t linear);
/* What runs beside the linear, on what it reads: y more by l2 (l1 x), in float; NULL: nothing. */
const LowRank *overlay_branch(const Overlay *o, int64_t linear);
/* First linear that sees the same input as this one with the same done to it: Linear.input, or one behind it. */
int64_t overlay_input(const Overlay *o, const Model *m, int64_t linear);
/* Bias added to a norm that has none in the checkpoint, by the norm's weight; NULL: none. */
const float *overlay_norm_bias(const Overlay *o, const TensorInfo *t);
/* The checkpoint's bias of the norm with this weight that the model reads; NULL: it has none. */
const TensorInfo *model_norm_bias(const Model *m, const TensorInfo *norm);
/* The head: Model.exit.head, or, untied, a tensor of its own whose base is the table; NULL: the model has none. */
const TensorInfo *overlay_head(const Overlay *o, const Model *m);
bool overlay_untied(const Overlay *o);
/* Fingerprint of all edits in their order, as 64 hex digits: whatever is kept of a changed model is kept under it. ""
 * without edits. */
void overlay_digest(const Overlay *o, char hex[65]);

#endif
