#ifndef SLIM_RECIPE_RECIPE_IMPL_H
#define SLIM_RECIPE_RECIPE_IMPL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"
#include "base/str.h"
#include "io/yaml.h"
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
    const YamlNode *map;   /* the linear_quant mapping */
    const YamlNode *alias; /* outermost alias on the way from the root to map (map itself may be it), or NULL */
    ListRef include, exclude;
    const char *bad;       /* why a pattern of it can't be matched, or NULL */
} Entry;

typedef struct ApiVersion ApiVersion;

struct Recipe {
    YamlDoc *doc;          /* what everything below refers to: the source, or its translation */
    YamlDoc *old;          /* the source when doc is a translation, else NULL */
    const ApiVersion *api; /* of the source */
    char *name, *path;
    const char *dataset;
    Entry *entry;
    size_t nentries, entries_cap;
    RecipeNote *note;
    size_t nnotes, notes_cap;
    RecipeUnit *unit;
    RecipeSaver *saver;
    int nunits, nsavers, npriors;
    RecipeRunner runner;
    bool generated;
    Arena arena;
};

/* ---- validation ---- */

enum { CHECK_ERRORS_MAX = 100 };

typedef struct Check {
    Recipe *r;
    Str *all;      /* may be NULL */
    Error *err;
    int errors;
    Status status; /* ST_OK until the first error */
    char path[512];
    size_t plen;
    const YamlNode *alias; /* see Entry */
    bool gather;           /* linear_quant mappings become entries */
    const YamlNode *instead; /* of a translated document: where findings are told. What it gets wrong blocks it. */
} Check;

/* Counts an error: `name:line:column: path: message`. */
void check_fail(Check *c, const YamlNode *at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void check_note(Check *c, const YamlNode *at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* A note that says why quant can't run the recipe. */
void check_block(Check *c, const YamlNode *at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void check_nomem(Check *c);
/* Enters a key or an index; gives the length to return to. */
size_t check_push(Check *c, const char *key);
size_t check_push_index(Check *c, int i);
void check_pop(Check *c, size_t to);
/* " (did you mean 'x'?)" for the nearest of a NULL-terminated list, or "". */
const char *check_nearest(const char *word, const char *const *words, char *buf, size_t size);

typedef enum FieldType {
    F_ANY,
    F_STR,
    F_INT,
    F_FLOAT,
    F_BOOL,
    F_ENUM,
    F_MAP,
    F_PATTERNS,
    F_STRINGS,
    F_INTS,
    F_OBJECT,
    F_OBJECTS,
    F_PROCESSORS,
    F_UNION,
    F_SCENARIOS
} FieldType;

typedef struct Object Object;

/* A key of a mapping. */
typedef struct Field {
    const char *key;
    FieldType type;
    bool required, nullable;
    bool bounded, open;       /* numbers: lo <= x <= hi; open: lo < x < hi */
    double lo, hi;
    bool power_of_two;        /* or -1 where lo allows it */
    int longest;              /* characters of a text, or of each text of a list; 0: any */
    int least;                /* items of a list */
    bool filled;              /* texts: not blank */
    const char *const *words; /* F_ENUM */
    const Object *object;     /* F_OBJECT, F_OBJECTS */
    const struct ProcessorType *types; /* F_UNION: rows that an item's type chooses */
    const char *noun;         /* F_UNION: what such an item is */
} Field;

struct Object {
    const Field *fields; /* ends with key == NULL */
    bool extra;          /* unknown keys are fine */
    void (*check)(Check *c, const YamlNode *map);
};

/* A processor type of spec.process. */
typedef struct ProcessorType {
    const char *name;
    bool runs; /* by this build */
    Object object;
} ProcessorType;

extern const ProcessorType processor_table[]; /* ends with name == NULL */
extern const ProcessorType old_saver_table[]; /* of multimodal documents */
extern const Object metadata_object, prior_object;

/* A document format. */
struct ApiVersion {
    const char *name;
    const Object *document;
    const char *dataset; /* when spec.dataset is absent */
    bool process;        /* spec.process and spec.save are lists of processors and savers */
    const char *blocks;  /* why no document of it runs here, or NULL */
    /* Appends a modelslim_v1 document that does the same; nothing when there is none, with notes that say why. */
    void (*translate)(Check *c, const YamlNode *root, Str *out);
};
extern const ApiVersion api_v1, api_v0, api_vlm, api_sd, api_convert;

/* Checks a mapping against its table: unknown and missing keys, then each value. */
void check_object(Check *c, const YamlNode *map, const Object *o);
void check_value(Check *c, const YamlNode *v, const Field *f);
void check_processors(Check *c, const YamlNode *list);
/* Checks what the tables can't say of linear_quant and, when they are gathered, adds the entry. */
void check_linear_quant(Check *c, const YamlNode *map);
void check_dynamic_cache(Check *c, const YamlNode *map);
/* Reads a checked side of a qconfig; false when it isn't whole. Keys of ext that aren't what their method takes stay
 * absent. */
bool qspec_read(const YamlNode *map, QSpec *q);
/* Checks ext of a side against its method (specs/quantization.md 1, 7). */
void check_ext(Check *c, const YamlNode *map, const char *side, const QSpec *q);
/* Whether v is the text s. */
bool node_is(const YamlNode *v, const char *s);
/* Units, savers, runner and stages of a document without errors. */
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

/* Appends a unified diff of two texts, nothing when they are equal. */
Status diff_unified(Str *out, const char *old_name, const char *old_text, const char *new_name, const char *new_text,
                    Error *err);

/* The document that recipe_default parses; with model != NULL under its name. */
void recipe_default_text(Str *out, const char *model);

/* Lax scalar conversion (specs/config.md 1): false when the peer refuses. */
bool lax_int(const YamlNode *n, int64_t *out);
bool lax_float(const YamlNode *n, double *out);
bool lax_bool(const YamlNode *n, bool *out);

#endif
