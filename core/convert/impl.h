#ifndef SLIM_CONVERT_IMPL_H
#define SLIM_CONVERT_IMPL_H

#include "base/mem.h"
#include "convert/convert.h"
#include "io/yaml.h"
#include "model/weight.h"
#include "save/saveout.h"

/* Shared by the files of convert/ only. */

/* ---- names.c ---- */

/* Python's fnmatch: '*', '?', '[abc]', '[!a-c]' over the whole name; no braces, no escapes. */
bool convert_glob(const char *pattern, const char *name);
/* A renaming: a pattern of Python's re that must match the whole name, and what it becomes (\1, \g<1>, \g<name>). */
typedef struct Renaming Renaming;
Status renaming_new(Renaming **out, const char *from, const char *to, Error *err);
void renaming_free(Renaming *r);
/* *hit: out (emptied first) has the new name. */
Status renaming_apply(Renaming *r, const char *name, bool *hit, Str *out, Error *err);

/* ---- document.c ---- */

typedef struct ConvertStep {
    bool chunk;                      /* else a renaming */
    Renaming *rename;
    const char *const *source;       /* of a chunk: patterns of tensors' names */
    int nsource;
    const char *const *projections;  /* parts of a matrix's rows, in order */
    int nprojections;
    int line;
} ConvertStep;

struct ConvertDoc {
    Arena arena;
    YamlDoc *yaml;
    const char *name;                /* of the file, for messages */
    const char *text;
    size_t len;
    ConvertStep *step;
    int nsteps;
    ConvertRule *rule;
    int nrules;
    bool ascend;                     /* else Hugging Face */
    double part_file_size;
};

/* ---- plan.c, tensors.c ---- */

/* A tensor of the checkpoint under the name that it has after renaming. */
typedef struct Entry {
    const char *name;
    const TensorInfo *t;
    bool used;                       /* its values go into a linear */
} Entry;

typedef struct Entries {
    Entry *e;
    size_t n, cap;
    Map by_name;
} Entries;

struct ConvertPlan {
    SavePlan save;                   /* first: savers' code is handed this */
    Model shell;                     /* of it: path, checkpoint, fingerprint, block sizes */
    const ConvertDoc *doc;
    Arena arena;
    Entries all;
    ConvertItem *item;
    size_t n, cap;
    SaveLayout layout;
    SaveFormat format;
    SaveExtra extra;
    Str practice;
    char practice_name[320];
    char digest[65];
    int64_t *hits;                   /* of every pattern of every rule, one rule after the other */
    ConvertWay *way;
    size_t nways, ways_cap;
    const char **note;
    size_t nnotes, notes_cap;
    ConvertSums sums;
};

/* A linear under the name `base` ("" where entry i belongs to none): its kind, and what reads it. *l NULL: plain floats. */
typedef struct Found {
    char base[512];
    ConvertKind kind;
    const Storage *how;
    const TensorInfo *scale, *shape;
    int64_t scale_at, shape_at;      /* entries; -1 */
    bool plain;
} Found;
/* What entry e is, by its name, its type and what lies beside it; false: no linear, and no codes. */
bool convert_look(const Entries *all, const Entry *e, Found *out);
/* Checks shapes of codes and scales, makes what reads the rows. */
Status convert_reader(ConvertPlan *p, const Entry *e, const Found *f, ConvertItem *it, Error *err);
/* Rows [first, first + rows) of matrix m of a stack that convert_reader was made for, as a linear of its own. */
Status convert_reader_part(ConvertPlan *p, const ConvertItem *stack, int64_t m, int64_t first, int64_t rows, ConvertItem *it,
                           Error *err);

/* ---- documents of the output: files.c ---- */

/* Rows of the saver's tables for this document. */
SaveFormat convert_saver(bool ascend);

#endif
