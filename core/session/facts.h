#ifndef SLIM_SESSION_FACTS_H
#define SLIM_SESSION_FACTS_H

#include "model/mtp.h"
#include "model/storage.h"
#include "recipe/recipe.h"

/* What a model is made of and what an analysis of it would take, from its headers: no weight is read. */

enum { FACT_KINDS = 64, FACT_LABELS = 16, FACT_STORES = 12 };

/* Tensors of one dtype in the whole checkpoint. */
typedef struct TypeSum {
    int64_t tensors;
    uint64_t bytes;
} TypeSum;

/* Fused groups with one label. */
typedef struct LabelSum {
    const char *label; /* borrowed from the model */
    int64_t groups, linears;
} LabelSum;

/* Linears whose weights are stored in one way. */
typedef struct StoreSum {
    const Storage *how; /* NULL: plain floats of `dtype` */
    DType dtype;
    int64_t linears;
    uint64_t bytes;
} StoreSum;

typedef struct ModelFacts {
    const Model *m;
    TypeSum type[DT_COUNT];
    StoreSum store[FACT_STORES];      /* linears by how their weights are stored */
    int nstores;
    int64_t tensors, values;
    uint64_t bytes;
    int64_t kind[FACT_KINDS];         /* linears by LinearKind */
    LabelSum label[FACT_LABELS];
    int nlabels;
    int64_t alone;                   /* groups of one */
    MtpInfo mtp;
    char level[48];                  /* what the default recipe makes of most linears */
    SizeReport size;
    int64_t rows, longest;
    int threads;
    uint64_t one, all, measure;      /* bytes: kurtosis alone, every metric with histograms, measure */
    const char *tokenizer;           /* name of the file, NULL when there is none */
} ModelFacts;

/* Of an open model, which must outlive them; memory for `rows` calibration tokens, the longest text of `longest`. */
Status model_facts(ModelFacts *f, const Model *m, int64_t rows, int64_t longest, int threads, Error *err);

#endif
