#ifndef SLIM_RECIPE_FIELD_H
#define SLIM_RECIPE_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/yaml.h"
#include "qir/quantkey.h"
#include "qir/scheme.h"
#include "recipe/recipe.h"

/* What a mapping of a recipe may hold, as data: key tables, and the rows with which other folders say what they read.
 * Nothing in core/recipe knows a processor, a saver or a quantizer but through the rows it is handed. */

/* A validation under way: where it is in the document, and what it has found. */
typedef struct Check Check;

/* The text of a document's file (caller frees); what is wrong with the file is told in *all (may be NULL), too, as what is
 * wrong with a document is. */
Status document_read(const char *path, char **text, size_t *len, Str *all, Error *err);
/* Counts an error: `name:line:column: path: message`. */
void check_fail(Check *c, const YamlNode *at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void check_note(Check *c, const YamlNode *at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* A note that says why quant can't run the recipe. */
void check_block(Check *c, const YamlNode *at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Enters a key or an index; gives the length to return to. */
size_t check_push(Check *c, const char *key);
size_t check_push_index(Check *c, int i);
void check_pop(Check *c, size_t to);
/* Whether what is ours is refused: --compat peer. */
bool check_peer(const Check *c);

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
    F_CHECKED
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
    const char *const *words; /* F_ENUM: NULL-terminated */
    const Object *object;     /* F_OBJECT, F_OBJECTS; F_MAP: of each of its values, whatever their keys */
    bool ours;                /* refused by check_run with `peer` */
    const char *absent;       /* what an absent key counts as, in JSON; NULL: it stays absent (tune/canon.h) */
    void (*canon)(const YamlNode *v, Str *out); /* F_CHECKED, numbers: appends v as one JSON value; NULL: by its type */
    void (*value)(Check *c, const YamlNode *v, const struct Field *f); /* F_CHECKED: says what is wrong with v */
} Field;

struct Object {
    const Field *fields; /* ends with FIELD_END */
    bool extra;          /* unknown keys are fine */
    void (*check)(Check *c, const YamlNode *map); /* what the fields can't say; NULL: nothing */
};

#define FIELD_END {.key = NULL}
#define FIELD_TYPE {.key = "type", .type = F_STR, .required = true}
#define FIELD_BLOCK_SIZE \
    {.key = "block_size", .type = F_INT, .bounded = true, .lo = -1, .hi = 1e9, .power_of_two = true, .absent = "-1"}
#define FIELD_TP_SIZE(most) \
    {.key = "max_tp_size", .type = F_INT, .bounded = true, .lo = 1, .hi = most, .power_of_two = true, .absent = "4"}
#define FIELD_PATTERNS                                                                      \
    {.key = "include", .type = F_PATTERNS, .longest = 200, .absent = "[\"*\"]"},            \
        {.key = "exclude", .type = F_PATTERNS, .longest = 200, .absent = "[]"}
/* The same where the peer takes null for an absent list. */
#define FIELD_PATTERNS_OR_NULL                                                                  \
    {.key = "include", .type = F_PATTERNS, .longest = 200, .nullable = true, .absent = "null"}, \
        {.key = "exclude", .type = F_PATTERNS, .longest = 200, .nullable = true, .absent = "null"}
/* The four kinds of subgraph, as an absent list of them stands for. */
#define FIELD_SUBGRAPHS                                                 \
    {.key = "enable_subgraph_type", .type = F_STRINGS,                  \
     .absent = "[\"norm-linear\", \"linear-linear\", \"ov\", \"up-down\"]"}
/* Keys of every saver. Their checks are the recipe's. */
#define FIELD_SAVER \
    FIELD_TYPE, {.key = "part_file_size", .type = F_FLOAT, .absent = "4", .canon = canon_number}, \
        {.key = "save_directory", .type = F_ANY}

/* A number in JSON: whole ones without a point. */
void canon_number(const YamlNode *v, Str *out);

/* Checks a mapping against its table: unknown and missing keys, then each value. */
void check_object(Check *c, const YamlNode *map, const Object *o);
void check_value(Check *c, const YamlNode *v, const Field *f);
/* Runs `body` over a document that is no recipe but may hold parts of one, which are checked against `rows`. Errors as of
 * recipe_parse: lines `name:line:column: path: message`, all of them in *all (may be NULL), the first in err. */
Status check_run(const RecipeRows *rows, const char *name, bool peer, Str *all, void (*body)(Check *c, void *ctx), void *ctx,
                 Error *err);
/* Which type an item is: the index of its name; -1, said, when it is no mapping or names none. noun: what such an item is.
 * list: an unknown one is told all names. name(c, i): NULL behind the last. */
int check_item_type(Check *c, const YamlNode *item, const char *noun, bool list,
                    const char *(*name)(const Check *, int));
/* Keys and texts with characters that the peer's loader refuses (specs/config.md 1). */
void check_characters(Check *c, const YamlNode *n);
/* Values of F_CHECKED fields: a list of processors, a whole document of modelslim_v1. */
void check_processors(Check *c, const YamlNode *v, const Field *f);
void check_saver_list(Check *c, const YamlNode *v, const Field *f);
void check_practice(Check *c, const YamlNode *v, const Field *f);
/* The keys of a type of spec.process, of spec.save; fields NULL: there is no such type. */
Object processor_object(const RecipeRows *rows, const char *type);
Object saver_object(const RecipeRows *rows, const char *type);
/* The spec of a modelslim_v1 document. */
extern const Object recipe_spec_object;

/* A side of a qconfig, and a qconfig {act, weight}. */
extern const Object qspec_object, qconfig_object;
/* Reads a checked side of a qconfig; false when it isn't whole. Keys of ext that aren't what their method takes stay
 * absent. */
bool qspec_read(const YamlNode *map, QSpec *q);
/* The same, whatever the side calls its method. */
bool qspec_read_as(const YamlNode *map, const char *method, QSpec *q);
/* Checks ext of a side against its method (specs/quantization.md 1, 7). */
void check_ext(Check *c, const YamlNode *map, const char *side, const QSpec *q);

/* Lax scalar conversion (specs/config.md 1): false when the peer refuses. */
bool lax_int(const YamlNode *n, int64_t *out);
bool lax_float(const YamlNode *n, double *out);
bool lax_bool(const YamlNode *n, bool *out);
/* Whether v is the text s. */
bool node_is(const YamlNode *v, const char *s);
/* The texts of a checked list of texts, borrowed from the document; none of an absent one. NULL: no memory. */
const char *const *texts_read(Arena *a, const YamlNode *list, int *n);

/* A type of spec.process that this build runs: a row of core/registry.c. */
struct ProcessorType {
    const char *name;
    const Object *object;        /* its keys */
    bool levels;                 /* its mappings are levels of the assignment */
    int (*entries)(const YamlNode *map); /* how many; NULL: one */
    bool first;                  /* has to stand before all that aren't: it turns the model, whose inputs the others look
                                  * at */
    bool changes;                /* it changes what linears read or are: has to stand before those with `levels` */
    bool anywhere;               /* it looks at no inputs and changes none that others look at: it may stand before and behind
                                  * those with `first` */
    bool peer_divides;           /* the peer divides texts over devices with it (dp_layer_wise) */
    const char *peer_alone;      /* but not its levels whose weights have this method; NULL: those, too */
    bool prior;                  /* may stand in a prior stage: what it does is in the model afterwards */
    /* Its settings from a checked mapping, kept in RecipeStep.settings; NULL: no memory. No function: it has none. */
    const void *(*settings)(Arena *a, const YamlNode *map);
    const struct Processor *run; /* process/processor.h; the recipe only hands it on */
};
/* Keys of those with `levels`, whose entries the recipe itself gathers. */
extern const Object linear_quant_object, float_sparse_object, autoround_object;
/* Strategies of a mapping of autoround_quant. */
int autoround_strategies(const YamlNode *map);

/* A type of spec.save. */
typedef struct SaverType {
    const char *name;
    const Field *fields; /* FIELD_SAVER and its own */
    bool processor;      /* the peer has it as a type of spec.process and of multimodal documents, too */
} SaverType;

/* The rows that a recipe is read with. Each function gives row i; NULL or false behind the last. */
struct RecipeRows {
    const ProcessorType *(*processor)(int i);
    bool (*saver)(int i, SaverType *out);
    const QuantKey *(*act)(int i);
    const QuantKey *(*weight)(int i);
};

#endif
