#ifndef SLIM_RECIPE_PRACTICE_H
#define SLIM_RECIPE_PRACTICE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/str.h"
#include "recipe/recipe.h"

/* Best practices: recipes in folders by pedigree (the family of a model), chosen by model, quantization type and tags
 * (specs/config.md 11). Nothing here reads an environment variable or asks a terminal. */

/* The values of --quant_type, NULL-terminated. */
extern const char *const practice_quant_types[];

/* Who a model is to the library. */
typedef struct PracticeModel {
    const char *model_type; /* as practices name it in verified_model_types */
    const char *pedigree;   /* its folder; borrowed from the arguments or static */
    bool guessed;           /* read from config.json or a folder's name: without such a folder `default` is used */
    bool known;             /* false: `given` is neither a name of the quantizer's nor the config.json type, which is
                               used instead; without one the pedigree is `default` */
} PracticeModel;
/* given: --model_type or NULL; folder: last part of the model's path; config_type: config.json's model_type. The
 * quantizer's names are found whatever their case, '-' and '_' being one. */
void practice_identify(const char *given, const char *folder, const char *config_type, PracticeModel *out);

/* Where a practice comes from; of equals the first is taken. */
typedef enum PracticeSource { PRACTICE_CUSTOM, PRACTICE_PLUGIN, PRACTICE_OFFICIAL } PracticeSource;

typedef struct PracticeScenario {
    const char *model_type;
    int ntags;
    const char *const *tags;
} PracticeScenario;

/* A readable recipe of the library; what its metadata says. Numbers that are none compare as NaN: with nothing. */
typedef struct Practice {
    const char *pedigree, *id, *path;
    PracticeSource source;
    double score;
    double w_bit, a_bit;      /* label */
    double sparse, kv_cache;  /* 0 or 1 */
    double fa_bit;            /* 0: none */
    int ntypes, nscenarios;
    const char *const *types; /* verified_model_types */
    const PracticeScenario *scenarios;
    bool runs;                /* recipe_can_run */
} Practice;

typedef struct PracticeLibrary PracticeLibrary;
/* rows: what its recipes are read with; borrowed. */
Status practice_library_new(PracticeLibrary **out, const RecipeRows *rows, Error *err);
void practice_library_free(PracticeLibrary *lib);
/* Adds a document under its pedigree. One that the loader refuses is left out and noted. Only a lack of memory is an
 * error. */
Status practice_add(PracticeLibrary *lib, const char *pedigree, PracticeSource source, const char *path,
                    const char *text, size_t len, Error *err);
/* Adds root/PEDIGREE/NAME.yaml of every pedigree, or of one (and of `default`) when it is given. A root or a file that
 * can't be read is noted. */
Status practice_add_folder(PracticeLibrary *lib, const char *root, PracticeSource source, const char *pedigree,
                           Error *err);
/* Lines about what was left out, "" when nothing was. */
const char *practice_notes(const PracticeLibrary *lib);

typedef struct PracticeQuery {
    const char *model_type, *pedigree;
    bool guessed;            /* see PracticeModel */
    const char *quant_type;  /* NULL: not given, w8a8 is assumed */
    const char *const *tags; /* [ntags]; case and '-' or '_' don't matter */
    int ntags;
} PracticeQuery;

/* What has to be confirmed. */
typedef enum PracticeAsk {
    PRACTICE_SILENT,           /* nothing: it is what was asked for */
    PRACTICE_NO_TYPE_BEST,     /* no quant type given: the model's practice of w8a8 */
    PRACTICE_NO_TYPE_DEFAULT,  /* no quant type given: the default practice of w8a8 */
    PRACTICE_DEFAULT,          /* none of the model's: the default practice of the type */
    PRACTICE_W8A8_BEST,        /* none of the type: the model's practice of w8a8 */
    PRACTICE_W8A8_DEFAULT,     /* none of either: the default practice of w8a8 */
    PRACTICE_STANDBY           /* verified, but not with these tags */
} PracticeAsk;

typedef struct PracticeChoice {
    const Practice *practice; /* the library's */
    PracticeAsk ask;
    int step;                 /* 1..6, the step of the search that found it */
    char reason[400];         /* one sentence for people; "" when silent */
} PracticeChoice;

/* The six-step search. ST_DATA with what to do when nothing is found, ST_USAGE for an unknown quant type. why (may be
 * NULL) gets the trace: every step and every candidate with its reason. */
Status practice_choose(PracticeLibrary *lib, const PracticeQuery *q, PracticeChoice *out, Str *why, Error *err);

/* Shows the question and gives the answer's line (caller's buffer, without its end); false at the end of the input. */
typedef bool PracticeAnswer(void *ctx, const char *question, char *line, size_t size);
/* ST_OK to go on: nothing to ask, `yes`, or the answer y or yes in any case. Else ST_FAIL with one line. */
Status practice_confirm(const PracticeChoice *choice, bool yes, PracticeAnswer *answer, void *ctx, Error *err);

#endif
