#ifndef SLIM_SAVE_SAVER_H
#define SLIM_SAVE_SAVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/overlay.h"
#include "qir/intquant.h"
#include "qir/qweight.h"
#include "qir/scheme.h"
#include "save/changes.h"

/* What a run hands to writers of quantized weights (specs/formats.md; a writer is a row of save/format.h). Order of
 * calls: check, open, then linear for every quantized linear
 * (in the model's order within a layer), cache, tensor, debug and layer_done layer by layer, finish or abandon. Everything else of the
 * model is copied from the checkpoint by the saver itself. */

/* Quantized keys and values of one attention (C8). */
typedef struct SaveCache {
    int layer;
    const char *attention; /* module name: "model.layers.0.self_attn" */
    int64_t n;             /* kv heads * head dim */
    const float *k_scale, *k_offset, *v_scale, *v_offset; /* [n] each */
    DType dtype;           /* in which they are written */
} SaveCache;

/* One quantized linear; everything is borrowed for the call. */
typedef struct SaveLinear {
    int64_t linear;        /* index into the model's linears */
    const QConfig *config;
    const Scheme *scheme;
    const QWeight *weight;
    bool has_act;          /* static parameters of its input */
    QParam act;
    DType act_dtype;       /* of the arithmetic they were found in: products with weight scales round to it */
    const float *bias;     /* [out] or NULL */
} SaveLinear;

/* Values of a promised tensor (SaveMade), borrowed for the call. */
typedef struct SaveValues {
    const char *name;
    int64_t at, n;         /* values [at, at + n): it may come in pieces */
    const float *values;
} SaveValues;

/* Something for --debug (specs/formats.md 14): what processors found, borrowed for the call. The peer has of factors of
 * columns [1][in], of rows [out][1], of a rotation the square matrix, each in the dtype in which it was found. */
typedef struct SaveDebug {
    const char *space, *key; /* "smooth_scales", "model.layers.0.mlp.up_proj.scales" */
    const void *identity;    /* the same for the same values: stored once. NULL: its own */
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    DType dtype;             /* in which it is written: BF16, F16, else F32 */
    const float *values;     /* NULL: as given before under this identity */
} SaveDebug;

/* A small file of the caller's that goes along with the weights. */
typedef struct SaveExtra {
    const char *name;          /* plain */
    const char *text;
    size_t len;
} SaveExtra;

/* What a run is going to write, known before the first layer. */
typedef struct SavePlan {
    const Model *model;
    const Overlay *overlay;    /* what processors changed in the model, NULL: nothing */
    const char *dir;           /* exists or can be made; validated and made by open */
    const char *model_type;    /* as given by the user or of config.json */
    double part_file_size;     /* GiB a shard; 0: one file */
    const QConfig *levels;     /* [nlevels] */
    int nlevels;
    const int16_t *level;      /* [model.nlinears], 0 = float */
    const bool *cache_layer;   /* [layers] C8 is written for this layer; NULL: none */
    DType cache_dtype;         /* in which its tensors are written (SaveCache.dtype is cast to it); not one of F32, BF16
                                * and F16: float32 */
    SaveChanges *changes;      /* what processors promise beside the values of tensors; NULL: nothing */
    bool peer;                 /* the peer's arithmetic and quirks (--compat peer) */
    /* What else the written values depend on; a resumed run must have the same. NULL: nothing */
    const char *texts;         /* digest of the calibration's tokens */
    const char *flow;          /* of the recipe's order of work and caches */
    const char *arith;         /* name of the run's arithmetic */
    const SaveExtra *extra;    /* NULL: none */
    bool force;                /* what lies in the target may be replaced */
    const char *force_word;    /* how a person asks for that: "!"; NULL: "--force" */
    struct Dist *dist;         /* ranks that write one output: each quantizes and copies a part, rank 0 has the journal, what is
                                * no weight, and the target (saveout.h). NULL: one */
    int steps;                 /* a run is counted in so many MiB written; 0: in the model's layers */
    void (*warn)(void *ctx, const char *text); /* one line; may be NULL */
    void *warn_ctx;
} SavePlan;

/* What an earlier run of a saver left in a target. */
typedef struct SaveStopped {
    bool there;                /* a run that was stopped before its end */
    bool ready;                /* everything was made, only its last step is left */
    bool forced;               /* it was allowed to replace what lies in the target */
    int layers;                /* that are done */
    const char *differs;       /* why the plan can't go on with it, as a clause; NULL: it can, as far as the plan is known */
    bool done;                 /* the plan's output is there, whole, as far as the plan is known */
} SaveStopped;

/* One line of what will be written: --dry-run. */
typedef struct SaveFile {
    char name[256];
    uint64_t bytes;            /* 0: copied or small, not known beforehand */
} SaveFile;

#endif
