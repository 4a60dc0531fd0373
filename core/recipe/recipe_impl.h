#ifndef SLIM_RECIPE_RECIPE_IMPL_H
#define SLIM_RECIPE_RECIPE_IMPL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"
#include "base/str.h"
#include "io/yaml.h"
#include "recipe/field.h"
#include "recipe/pattern.h"
#include "recipe/recipe.h"

/* Shared by the recipe files only. */

/* One include or exclude list as the document has it. */
typedef struct ListRef {
    const YamlNode *node; /* NULL: the key is absent */
    const char **text;    /* its patterns ("*" for an absent include) */
    Pattern **pattern;
    int n;
} ListRef;

typedef struct Entry {
    RecipeEntry pub;
    const YamlNode *map;   /* the mapping of a processor with `levels` */
    const YamlNode *alias; /* outermost alias on the way from the root to map (map itself may be it), or NULL */
    ListRef include, exclude;
    const char *bad;       /* why a pattern of it can't be matched, or NULL */
} Entry;

typedef struct ApiVersion ApiVersion;

struct Recipe {
    atomic_int holders;
    const RecipeRows *rows; /* what it was read with */
    YamlDoc *doc;          /* what everything below refers to: the source, or its translation */
    YamlDoc *old;          /* the source when doc is a translation, else NULL */
    const ApiVersion *api; /* of the source */
    char *name, *path;
    const char *dataset;
    Entry *entry;
    size_t nentries, entries_cap;
    RecipeNote *note;
    size_t nnotes, notes_cap;
    RecipeStage *stage;
    RecipeSaver *saver;
    int nstages, nsavers;
    bool generated;
    Arena arena;
};

/* ---- validation ---- */

enum { CHECK_ERRORS_MAX = 100 };

struct Check {
    Recipe *r;
    Str *all;      /* may be NULL */
    Error *err;
    int errors;
    Status status; /* ST_OK until the first error */
    char path[512];
    size_t plen;
    const YamlNode *alias; /* see Entry */
    bool gather;           /* those mappings become entries */
    bool peer;             /* what is ours is refused */
    const YamlNode *instead; /* of a translated document: where findings are told. What it gets wrong blocks it. */
};

void check_nomem(Check *c);
/* " (did you mean 'x'?)" for the nearest of a NULL-terminated list, or "". */
const char *check_nearest(const char *word, const char *const *words, char *buf, size_t size);

extern const Object prior_object;

/* A document format. */
struct ApiVersion {
    const char *name;
    const Object *spec;
    bool spec_needed;
    const char *dataset; /* when spec.dataset is absent */
    bool process;        /* spec.process and spec.save are lists of processors and savers */
    const char *blocks;  /* why no document of it runs here, or NULL */
    /* Appends a modelslim_v1 document that does the same; nothing when there is none, with notes that say why. */
    void (*translate)(Check *c, const YamlNode *root, Str *out);
};
extern const ApiVersion api_v1, api_v0, api_vlm, api_sd, api_convert;

/* Checks the whole mapping at the root. */
void check_root(Check *c, const YamlNode *root, const ApiVersion *api);
/* Values of F_CHECKED fields: lists of savers in multimodal documents. */
void check_old_savers(Check *c, const YamlNode *v, const Field *f);
/* Whether v is a list of at least `least` items; says so otherwise. */
bool check_list(Check *c, const YamlNode *v, int least);
/* Whether v is such a list, and what `item` says of each of its items. */
void check_items(Check *c, const YamlNode *v, const Field *f, void (*item)(Check *c, const YamlNode *item));
void check_texts(Check *c, const YamlNode *v, const Field *f);
/* Saver i of those that are processors, too (NULL behind the last), and the check of an item of its type. */
const char *old_saver_name(const Check *c, int i);
void check_old_saver(Check *c, const YamlNode *item, int i);
/* Keys and check of a saver as a processor that no row stands for. */
extern const Field kept_saver_fields[];
void check_saver_processor(Check *c, const YamlNode *map);
/* A checked mapping with include and exclude becomes a level, where levels are gathered. empty: an include without items takes
 * every linear. */
void recipe_add_entry(Check *c, const YamlNode *map, const QConfig *q, const Scheme *scheme, bool empty);
/* Blocks: nothing can write this pair. */
void recipe_no_scheme(Check *c, const YamlNode *at, const QConfig *q);
/* The row for a type of spec.process, NULL: it isn't run by this build. */
const ProcessorType *processor_find(const RecipeRows *rows, const char *type);
/* Stages, units and savers of a document without errors. */
Status recipe_build_units(Recipe *r, Error *err);

/* ---- export ---- */

/* What becomes of one list: which of its patterns stay, and what is added behind them. */
typedef struct ListPlan {
    bool *keep;  /* [ListRef.n] */
    char **added;
    int nadded;
    bool edit;   /* the source has to change */
} ListPlan;

typedef struct EntryPlan {
    ListPlan include, exclude;
} EntryPlan;

/* How much of the source is written anew when a finer edit doesn't hold: lists, the value of spec, everything. */
typedef enum EditReach { EDIT_LISTS, EDIT_SPEC, EDIT_ALL } EditReach;

/* Appends the source of r with the planned lists. Everything else stays byte for byte. */
Status recipe_edit(const Recipe *r, const EntryPlan *plan, EditReach reach, Str *out, Error *err);

/* Appends a value of r's document in flow form. */
void recipe_put_flow(const Recipe *r, const YamlNode *n, Str *out);

/* The document that recipe_default parses; with model != NULL under its name. */
void recipe_default_text(Str *out, const char *model);

#endif
