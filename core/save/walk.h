#ifndef SLIM_SAVE_WALK_H
#define SLIM_SAVE_WALK_H

#include "save/saver.h"

/* The order in which modules are written (specs/formats.md 3): decoder layer by decoder layer, modules in the order in
 * which the family's reference code defines them, then embedding, final norm, lm_head. */
typedef enum SaveItemKind {
    SI_LINEAR,
    SI_TENSOR,
    SI_CACHE,
    SI_NORM_BIAS, /* what a norm gets that has none */
    SI_FACTOR,    /* what a linear's input is multiplied by */
    SI_MADE       /* a tensor that processors make */
} SaveItemKind;

typedef struct SaveItem {
    SaveItemKind kind;
    int layer;           /* -1: after the layers */
    int64_t linear;      /* SI_LINEAR, SI_FACTOR: index into the model's linears */
    const TensorInfo *t; /* SI_TENSOR: copied as it is; SI_NORM_BIAS: the norm's weight */
    const char *name;    /* what it is written under: the whole name, of SI_LINEAR the module's, of SI_CACHE the attention's */
    const SaveMade *made;
    bool head;           /* SI_TENSOR: weight of a linear outside the layers (lm_head) */
    bool extra;          /* SI_TENSOR: the decoder does not use it */
    bool wide;           /* BF16 or F16, but written as float32 unless it is quantized */
    const Linear *coded; /* SI_TENSOR: t holds codes, of which the values are written; else NULL */
} SaveItem;

typedef struct SaveWalk {
    SaveItem *items;
    size_t n, cap;
    Arena names;
} SaveWalk;

/* Tensors of the checkpoint that the decoder doesn't use, and buffers, follow at the end of their layer or of the
 * model; under plan->peer they are left out. Stacked experts of which one is quantized or changed appear linear by
 * linear, else as the tensors they are. Freed with save_walk_free, also after an error. */
Status save_walk(SaveWalk *w, const SavePlan *plan, Error *err);
void save_walk_free(SaveWalk *w);

#endif
