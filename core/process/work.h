#ifndef SLIM_PROCESS_WORK_H
#define SLIM_PROCESS_WORK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/str.h"
#include "qir/scheme.h"
#include "recipe/recipe.h"

typedef struct Pipeline Pipeline; /* pipeline.h */

/* What is to be done to a model; all borrowed. */
typedef struct Work {
    const Recipe *recipe;  /* its processors, in list order; NULL: linear_quant of every level, in one pass */
    const QConfig *levels; /* [nlevels] level k+1 is the recipe's entry k; NULL: as the recipe has them (a pipeline's own
                            * work always has them) */
    int nlevels;
    const int16_t *level;  /* [model.nlinears] 0 = float */
    bool peer;             /* --compat peer: order of work, rounding points and quirks */
    void (*tell)(void *ctx, const char *text); /* what a person should know of the run, a line; NULL: nobody listens */
    void *tell_ctx;
    bool lenient;          /* processors that this build doesn't run are left out; else the pipeline refuses them */
    bool changes;          /* only what changes the model, and prior stages: of `level` all are 0 */
} Work;

/* Whether results depend on the recipe's order of work beside the levels: a processor changes the model or trains weights by
 * settings of its own, or it is the peer's and has several items. */
bool work_ordered(const Work *w);
/* That order: which processor stands in which item of which stage, and what it is told. */
Digest work_order(const Work *w);

/* Whether its processors change the model, and a digest of how they do, beside the texts; zeros when they don't. */
bool work_changes(const Work *w, Digest *out);
/* What the main list's processors have attentions read (Processor.attends), whether or not they select one: into h. */
void work_hash_attention(const Recipe *r, Hasher *h);
/* The type of the i-th of them in list order, NULL behind the last; all of them appended, "kv_smooth, iter_smooth". */
const char *work_change(const Recipe *r, int i);
void work_name_changes(const Recipe *r, Str *out);

/* What the recipe's processors add to the files that ascendv1_saver writes, for recipe_sizes; inner: as pipeline_promise.
 * The caller frees *out by work_sizing_fini. ST_DATA: they can't be run. */
Status work_sizing(const Recipe *r, const Model *m, bool peer, DType inner, RecipeSizing *out, Error *err);
void work_sizing_fini(RecipeSizing *s);

/* What came of it, written to files (sink_save.h). */
typedef struct SaveResult {
    int64_t quantized, floats;  /* linears */
    int64_t unseen;             /* experts without a token: kept float (or, where the scheme allows, dynamic) */
    char first_unseen[256];
    int layers_resumed;
    uint64_t bytes_read, bytes_written;
    bool there;                 /* the target held this very output, whole: nothing was written */
    char removed[512];          /* files of an older output that went: "a, b and 3 more" */
    uint64_t bound;             /* memory promised by save_estimate */
} SaveResult;

#endif
