#ifndef SLIM_SAVE_CHANGES_H
#define SLIM_SAVE_CHANGES_H

#include "base/error.h"
#include "model/model.h"

/* What processors will have changed in the tensors of an output beside their values, told before the run (a processor's
 * promise), so that every file can be laid out and what a saver can't hold is refused before anything is written. What
 * is told twice is told once. The values come with the run: from the overlay, or as gifts (process/processor.h). */
typedef struct SaveChanges SaveChanges;

/* A tensor that processors make, given while its layer is written; or, in its place, an entry of the description alone. */
typedef struct SaveMade {
    const char *name;    /* "model.layers.0.self_attn.o_proj.heads_rotation" */
    int64_t linear;      /* written behind this linear's tensors; -1: where its name stands in the family's order */
    int layer;           /* given with this unit; -1: with the first, and written behind the layers */
    bool int8;           /* of whole numbers, stored as such; else float32 */
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    const char *label;   /* in the description, of what an attention reads (attention.h); NULL: FLOAT */
    const char *entry;   /* there is no tensor, but this under its name in the description, of an attention too */
    const char *file;    /* a file of its own below the target ("optional/quarot.safetensors"): one that engines can do
                          * without. NULL: among the weights, without which the model is another */
    bool unlisted;       /* the peer's description has no entry for it */
    bool branch;         /* a factor of a low-rank branch: before its linear's tensors, */
    DType dtype;         /* and in this dtype */
    bool as_linear;      /* labelled as its linear's tensors are, else FLOAT */
} SaveMade;

/* Objects of the description that processors add a member to. */
typedef enum SaveNote { SAVE_METADATA, SAVE_OPTIONAL, SAVE_NOTES } SaveNote;

/* The model outlives it. */
Status save_changes_new(SaveChanges **out, const Model *m, Error *err);
void save_changes_free(SaveChanges *c);
static inline DType save_made_dtype(const SaveMade *t)
{
    return t->branch ? t->dtype : t->int8 ? DT_I8 : DT_F32;
}

/* ---- for promises; strings are copied ---- */

/* Some values of the model's tensors will be others: said for every processor that changes the model. */
void save_changes_values(SaveChanges *c);
/* The linear gets a bias where it has none. */
Status save_changes_bias(SaveChanges *c, int64_t linear, Error *err);
/* The norm gets one: `<norm>.bias`, float32. norm: its weight. */
Status save_changes_norm_bias(SaveChanges *c, const TensorInfo *norm, Error *err);
/* The linear's input is multiplied at run time: `<linear>.div.mul_scale`, and the linear becomes `<linear>.linear`. */
Status save_changes_input_scale(SaveChanges *c, int64_t linear, Error *err);
/* A low-rank branch runs beside the linear (its factors are promised apart): its label says so. */
Status save_changes_branch(SaveChanges *c, int64_t linear, Error *err);
/* The types of the linear's tensors get this mark (save/marks.h). ST_DATA: it has another one. */
Status save_changes_mark(SaveChanges *c, int64_t linear, const char *mark, Error *err);
/* Embedding and head are two tensors afterwards. */
void save_changes_untie(SaveChanges *c);
/* ST_INTERNAL: another shape or place than before under this name. */
Status save_changes_made(SaveChanges *c, const SaveMade *t, Error *err);
/* `key` of the object is this JSON value. */
Status save_changes_note(SaveChanges *c, SaveNote where, const char *key, const char *json, Error *err);
/* Something is needed at run time that no format has a place for: refused by every saver. text: "the rotation of
 * 'model.layers.0.x', which …". The first is kept. */
Status save_changes_unsaved(SaveChanges *c, const char *text, Error *err);

/* ---- for savers; c may be NULL ---- */

bool save_changes_has_values(const SaveChanges *c);
bool save_changes_has_bias(const SaveChanges *c, int64_t linear);
bool save_changes_has_norm_bias(const SaveChanges *c, const TensorInfo *norm);
bool save_changes_has_input_scale(const SaveChanges *c, int64_t linear);
bool save_changes_has_branch(const SaveChanges *c, int64_t linear);
/* NULL: none. */
const char *save_changes_mark_of(const SaveChanges *c, int64_t linear);
bool save_changes_has_untied(const SaveChanges *c);
/* NULL behind the last; in the order in which they were told. */
const SaveMade *save_changes_made_at(const SaveChanges *c, size_t i);
/* Member i of the object, false behind the last. */
bool save_changes_note_at(const SaveChanges *c, SaveNote where, size_t i, const char **key, const char **json);
/* NULL: nothing. */
const char *save_changes_has_unsaved(const SaveChanges *c);

#endif
