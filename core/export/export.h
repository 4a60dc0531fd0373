#ifndef SLIM_EXPORT_EXPORT_H
#define SLIM_EXPORT_EXPORT_H

#include "recipe/recipe.h"
#include "recipe/runtime.h"

/* The decision in the words of other tools: which linear gets which level. Every text is read again by the matching
 * rules of the tool it is for, and has to give each linear the level that it was written for. */

/* Scores beside the decision, for forms that have room for them. */
typedef struct ExportColumn {
    const char *name;
    const double *value;         /* [model.nlinears] NaN: none */
} ExportColumn;

typedef struct ExportInput {
    const Model *model;
    const Recipe *recipe;        /* level k is its entry k - 1 */
    const int16_t *level;        /* [model.nlinears] */
    const char (*level_name)[48];/* [entries + 1] "float", "W8A8", … */
    const int16_t *same;         /* [entries + 1] the lowest level that is written as this one; export_write fills it */
    const RecipeSizing *sizing;  /* as recipe_sizes takes it */
    const Runtime *runtime;      /* as recipe_export takes it */
    const char *const *comments; /* provenance, ends with NULL */
    const char *against;         /* text to diff with; NULL: none */
    const ExportColumn *column;
    int ncolumns;
} ExportInput;

/* What a level is written as, or why it can't be. level 0: float. Refusals are ST_DATA and begin behind the level's name
 * ("llama.cpp has no …"). */
typedef Status ExportSetting(const ExportInput *in, int level, Str *out, Error *err);

/* A row of export_form_table: one file core/export/NAME.c. */
typedef struct ExportForm {
    const char *name;            /* as --as names it */
    const char *ext[3];          /* of its files, ".csv"; ends with NULL. An extension that two rows have chooses none */
    const char *tool;            /* what takes it */
    const char *use;             /* how the tool is given it, FILE for the file; NULL: nothing to say */
    bool groups;                 /* what loads the tool's output wants fused groups whole */
    bool some;                   /* at least one linear has to be quantized */
    ExportSetting *setting;      /* NULL: levels are written by their names */
    /* The text, and what else it has to say into out->checks. Linears of levels with one setting are alike
     * (ExportInput.same). Refusals of single linears: ST_DATA, naming them. */
    Status (*write)(const ExportInput *in, Export *out, Error *err);
    /* Reads a text by the tool's rules, of which the file says the source: level[nlinears], for levels of one setting the
     * lowest. NULL: write proves its text itself. */
    Status (*expand)(const ExportInput *in, const char *text, size_t len, int16_t *level, Error *err);
} ExportForm;
extern const ExportForm *const export_form_table[]; /* NULL-terminated (core/registry.c); the first: where nothing chooses */
#define EXPORT_WORDS "yaml|compressed-tensors|gptqmodel|llama.cpp|csv"

/* The row that `as` names (NULL: nothing was asked for), else the one whose extension the path has, else the first. ST_USAGE
 * where several have it, or `as` is no row's name. path may be NULL. */
Status export_form_choose(const char *as, const char *path, const ExportForm **out, Error *err);
/* The assignment in a form, proved: refused (ST_DATA) naming a level or linear that the form can't express, ST_INTERNAL
 * where the text doesn't give every linear its level. On success out is the caller's (export_fini). */
Status export_write(const ExportForm *f, const ExportInput *in, Export *out, Error *err);

/* The entry of a level >= 1. */
static inline const QConfig *export_config(const ExportInput *in, int level)
{
    return &recipe_entry(in->recipe, level - 1)->q;
}

#endif
