#ifndef SLIM_SESSION_MODELTREE_H
#define SLIM_SESSION_MODELTREE_H

#include "session/session.h"

/* All tensors of a model as a tree by their names: layer ("model.layers.3"), block ("self_attn"), expert ("experts.17"), then
 * the tensors. Owner thread. */
typedef struct TreeNode {
    const char *name;     /* of this step: "model.layers.3", "self_attn", "q_proj.weight" */
    int32_t parent;       /* -1: of the top */
    int32_t end;          /* behind the last node below it: those are [own + 1, end) */
    int depth;            /* 0: of the top */
    const TensorInfo *tensor; /* NULL: a node with others below it */
    int64_t linear;       /* whose weight or scale the tensor is, -1: of none */
    int64_t tensors, linears; /* below it, a tensor is one; linears are counted by their weights */
    uint64_t bytes;
    DType dtype;          /* of all of them; DT_COUNT: of several kinds */
} TreeNode;
typedef struct ModelTree {
    TreeNode *node;       /* [n] each before those below it, names in natural order */
    int32_t n;
    Arena names;
} ModelTree;

/* In O(n log n) of the tensors. Free with model_tree_free. */
Status model_tree_make(const Session *s, ModelTree *out, Error *err);
void model_tree_free(ModelTree *t);
/* The linears below a node (or the one it belongs to) by what they are at now: of how many the level is `level`, where they
 * have one; `floats`: how many of them are float. */
typedef struct TreeLevels {
    int64_t linears, floats;
    int level;            /* of all that are not float; -1: several, or none */
} TreeLevels;
/* Why a tensor is not quantized: what kind it is, or what makes its linear float; "" where it is, or of a node with others below it. A
 * sentence in which %s, where it has one, is *arg (else ""), borrowed until the next call that changes the session. */
const char *model_tree_why(const Session *s, const ModelTree *t, int32_t node, const char **arg);
/* Marks the tensors whose names with their parents' hold every word of `expr`, and the nodes above them: shown[t->n]. Words: a part of
 * the name in any case, type=BF16, size>1M, size<4K, float, quantized, copied, !word. Gives how many tensors. ST_USAGE for a size that is
 * none. */
Status model_tree_filter(const Session *s, const ModelTree *t, const char *expr, bool *shown, int64_t *hits, Error *err);
/* The session's filter of tensors, by the same words, kept in the journal with the view; "": none. ST_USAGE as above, and without a
 * model. */
Status session_tensor_filter(Session *s, const char *expr, Error *err);
const char *session_tensor_filter_text(const Session *s);
TreeLevels model_tree_levels(const Session *s, const ModelTree *t, int32_t node);

#endif
