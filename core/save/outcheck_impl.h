#ifndef SLIM_SAVE_OUTCHECK_IMPL_H
#define SLIM_SAVE_OUTCHECK_IMPL_H

#include "base/map.h"
#include "base/mem.h"
#include "save/loader.h"
#include "save/outcheck.h"

#define OUT_FACTOR ".div.mul_scale" /* behind a linear's name; its own tensors are behind ".linear" then */

/* Shared by outcheck.c (the folder) and outlinear.c (its linears). */

typedef struct OutFile {
    Checkpoint *c;
    char *name;        /* in the folder */
    uint8_t *role;     /* [tensors] OutRole */
    bool *claimed;     /* [tensors] part of a quantized linear */
} OutFile;

struct OutCheck {
    const SaveFormat *f;
    char *dir, *only;  /* only: name of the file that was asked for, NULL: all */
    OutFile *file;
    int files;
    size_t cap;
    Map where;         /* tensor -> file * 2^32 + index */
    Map label;         /* tensor -> index into labels */
    const char **labels;
    size_t nlabels, labels_cap;
    const char **attention; /* names of the entries that say what an attention reads (attention.h) */
    size_t nattentions, attention_cap;
    char **index, **description; /* paths of these documents */
    size_t nindex, index_cap, ndescription, description_cap;
    Loader *loader;    /* compressed-tensors */
    bool weights;      /* there are some, of whichever saver */
    bool began;        /* a run into the folder was stopped, or still runs */
    Arena names;
    OutTell *tell;
    void *ctx;
    Status told;       /* first error of tell */
    Error *err;
};

/* t: the tensor it is about, NULL: none; name: its name, or that of one that is missing. */
void out_tell(OutCheck *o, bool bad, const TensorInfo *t, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* NULL when absent; *file its file. */
const TensorInfo *out_tensor(const OutCheck *o, const char *name, int *file);
/* NULL: none. */
const char *out_label(const OutCheck *o, const char *name);

/* outlinear.c: every linear against its label, or against the group that a loader puts it in. */
Status out_linears(OutCheck *o, Error *err);

/* And whether a scale's values, which it reads, are above 0. */
Status out_check_scale(OutCheck *o, const TensorInfo *t, Error *err);

/* outattention.c: the entries of attentions; a tensor that is labelled as one's. */
void out_attentions(OutCheck *o);
Status out_attention_tensor(OutCheck *o, const TensorInfo *t, Error *err);

/* outshape.c: what config.json asks for, once out_linears has told codes from floats. */
Status out_shapes(OutCheck *o, Error *err);

#endif
