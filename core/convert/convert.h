#ifndef SLIM_CONVERT_CONVERT_H
#define SLIM_CONVERT_CONVERT_H

#include "base/pool.h"
#include "recipe/recipe.h"
#include "save/format.h"
#include "save/target.h"

/* Weights from one encoding into another, by names and bytes alone (specs/config.md 3 modelslim_convert, specs/formats.md 13):
 * any checkpoint, whether its family is known or not; no calibration, no forward pass. */

/* The first are the words of documents (convert_kind_words), the rest what checkpoints have beside them. */
typedef enum ConvertKind {
    CK_FLOAT, CK_FP8_BLOCK, CK_W8A8_MXFP8, CK_W4A4_MXFP4, CK_W4A8_MXFP8, CK_INT4_PACKED, CK_NVFP4, CK_HIFP4, CK_UNKNOWN,
    CK_MXFP4, CK_FP8_E8M0, CK_FP4_E8M0, CK_COUNT
} ConvertKind;
const char *convert_kind_name(ConvertKind k);
/* Whether `to` can be made of `from`: by a path over the edges. */
bool convert_reaches(ConvertKind from, ConvertKind to);
/* Appends the kinds other than itself that can be made of `from`: "FLOAT, W8A8_MXFP8 and W4A4_MXFP4"; nothing when none can. */
void convert_reachable(ConvertKind from, Str *out);

/* ---- documents ---- */

enum { CONVERT_ROUTE_MAX = 8 };
typedef struct ConvertRule {
    const char *const *match;  /* [nmatch] Python's fnmatch over names of modules */
    int nmatch;
    ConvertKind to;
    ConvertKind route[CONVERT_ROUTE_MAX];
    int nroute;                /* 0: auto */
    int line;
} ConvertRule;

/* Everything that a document says, parsed; strings lie in it. */
typedef struct ConvertDoc ConvertDoc;
/* Whether the text is a document of modelslim_convert; what is no YAML is none. */
Status convert_is_document(const char *text, size_t len, bool *is, Error *err);
/* Validates as recipe_parse does (all, may be NULL: every error), then what can't be done here: ST_DATA says
 * `name:line:column: what`. path: of the file, or a name. */
Status convert_doc_parse(ConvertDoc **out, const RecipeRows *rows, const char *text, size_t len, const char *path, Str *all,
                         Error *err);
void convert_doc_free(ConvertDoc *d);
const ConvertRule *convert_doc_rule(const ConvertDoc *d, int i);
/* The document for one target, with these patterns (n 0: what is coded; of a target that quantizes all of it, and linears that
 * are called *_proj, w1, w2 or w3). */
Status convert_doc_write(ConvertKind to, bool ascend, double part_file_size, const char *const *match, int n, Str *out, Error *err);

/* ---- plans ---- */

/* What becomes of one linear, or of a tensor that is none. */
typedef struct ConvertItem {
    const char *name;          /* of the module; of the tensor where it is no linear */
    const TensorInfo *t;
    ConvertKind from, to;
    int32_t rule;              /* that took it, -1: none */
    bool linear, coded;        /* coded: its bytes are no floats, taken or not */
    bool widen;                /* a float tensor that is written as F32 */
    bool turned;               /* each matrix [rows][in] is written [in][rows] */
    bool bare;                 /* FP8 without a scale: the codes' values */
    const Linear *l;           /* how its rows are read; NULL: bytes [begin, begin + n) are copied */
    int64_t matrices;          /* of a stack; else 1 */
    uint64_t begin, n;
    int64_t out;               /* its first tensor of the layout */
    int parts;
} ConvertItem;

/* How many linears went one way. */
typedef struct ConvertWay {
    ConvertKind from, to;
    int rule;
    int64_t linears;
    uint64_t bytes_in, bytes_out;
    const char *first;         /* name of one */
} ConvertWay;

typedef struct ConvertPlan ConvertPlan;
typedef struct ConvertAsk {
    const char *model;         /* folder, or one .safetensors file */
    const char *dir;           /* target */
    const char *model_type;    /* names the recipe beside the weights; NULL: "convert" */
    bool peer, force;
    bool guessed;              /* the patterns are the program's: one that takes nothing is no news */
} ConvertAsk;
/* Reads headers and config.json only; the document outlives the plan. ST_DATA names the linear and the rule where a target
 * can't be made. */
Status convert_plan_make(ConvertPlan **out, const ConvertDoc *doc, const ConvertAsk *ask, Error *err);
void convert_plan_free(ConvertPlan *p);
/* [n] in the order of rules; borrowed. */
const ConvertWay *convert_ways(const ConvertPlan *p, int *n);
/* Things to know, a line each: patterns that took nothing, linears that stay coded. [n], borrowed. */
const char *const *convert_notes(const ConvertPlan *p, int *n);
/* Tensors that are written as they are, and those whose values go into others. */
typedef struct ConvertSums {
    int64_t copied, dropped;
    uint64_t copied_bytes, dropped_bytes, bytes_in, bytes_out;
} ConvertSums;
ConvertSums convert_sums(const ConvertPlan *p);
/* As a saver's row and plan: files, what lies in the target. */
const SaveFormat *convert_format(const ConvertPlan *p);
const SavePlan *convert_save_plan(const ConvertPlan *p);

/* ---- the run ---- */

typedef struct ConvertOptions {
    Pool *pool;
    Cancel *cancel;            /* may be NULL */
    /* Bytes written, of all; from the calling thread. May be NULL. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
    uint64_t mem;              /* bytes for buffers; 0: no bound */
    bool resume, verify;
} ConvertOptions;

typedef struct ConvertDone {
    bool there;                /* the target holds this output already */
    uint64_t skipped;          /* bytes that an earlier run had written */
    uint64_t written;
    double seconds;
    int threads;               /* as many as fit into mem */
    uint64_t buffers;          /* bytes planned for them */
    bool verified;
    int64_t compared;          /* tensors that were read back */
    double error;              /* of quantized weights: sqrt(sum of squared differences / sum of squares); 0 without any */
    NameList removed;          /* of an older output */
} ConvertDone;
/* Streams every tensor into its place, then puts all into the target. Stopped by cancel: ST_CANCELLED, everything so far is kept
 * for a resume. Ended by convert_done_fini, also after an error. */
Status convert_run(ConvertPlan *p, const ConvertOptions *o, ConvertDone *done, Error *err);
void convert_done_fini(ConvertDone *d);

#endif
