#ifndef SLIM_RECIPE_RECIPE_H
#define SLIM_RECIPE_RECIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "model/model.h"
#include "qir/scheme.h"

/* What documents may name: recipe/field.h. */
typedef struct RecipeRows RecipeRows;
typedef struct ProcessorType ProcessorType;
extern const RecipeRows recipe_rows; /* of this build (core/registry.c) */
/* The kinds of weights that documents of modelslim_convert name, NULL behind the last. */
extern const char *const convert_kind_words[];

/* A quantization recipe: a modelslim_v1 document with its source text. */
typedef struct Recipe Recipe;

/* A linear_quant entry of spec.process, or a strategy of autoround_quant, in document order, groups entered. Level i+1 of an assignment is entry i. */
typedef struct RecipeEntry {
    QConfig q;
    const Scheme *scheme;       /* NULL: the pair can't be written */
    int ninclude, nexclude;
    const char *const *include; /* borrowed */
    const char *const *exclude;
    int line;                   /* of the entry in the source, 1-based; 0 in a generated document */
} RecipeEntry;

/* A finding about a recipe that doesn't stop it from being read. */
typedef struct RecipeNote {
    int line, column;
    bool blocks;                /* quant can't run it */
    char text[256];
} RecipeNote;

/* A processor. */
typedef struct RecipeStep {
    const ProcessorType *processor; /* NULL: not run by this build */
    const char *type;               /* as written; borrowed */
    int entry;                      /* of a processor with levels in spec.process: for recipe_entry, its first; else -1 */
    int entries;                    /* how many they are */
    const void *settings;           /* what processor->settings made of it; borrowed */
    int line;
} RecipeStep;
/* An item of spec.process: a processor, or a group of them that share one forward (nested groups are flattened). */
typedef struct RecipeUnit {
    const RecipeStep *steps;
    int nsteps;                 /* 0: an empty group */
    int line;
} RecipeUnit;
/* A list of processors that goes through the whole model: a prior stage, or spec.process itself. */
typedef struct RecipeStage {
    const RecipeUnit *units;    /* in list order */
    int nunits;
    const char *dataset;        /* a prior stage's own; NULL: spec.dataset */
} RecipeStage;

/* An item of spec.save. */
typedef struct RecipeSaver {
    const char *type;           /* as written; borrowed */
    double part_file_size;      /* GB, 0 = one file; a fraction is ours */
    int line;
} RecipeSaver;

/* Parses and validates with the rows of a build, which are borrowed; errors collect as lines
 * `name:line:column: path: message` (all of them in *all, may be NULL; the first in err). */
Status recipe_parse(Recipe **out, const RecipeRows *rows, const char *text, size_t len, const char *name, Str *all,
                    Error *err);
/* The same of a file's text as it was read before; path: of the file. */
Status recipe_parse_file(Recipe **out, const RecipeRows *rows, const char *text, size_t len, const char *path, Str *all,
                         Error *err);
Status recipe_open(Recipe **out, const RecipeRows *rows, const char *path, Str *all, Error *err);
/* The default recipe (DECISIONS: W8A8 static). */
Status recipe_default(Recipe **out, const RecipeRows *rows, Error *err);
void recipe_free(Recipe *r);
/* The same recipe once more, freed by itself: a job keeps what it was given while another one is opened. Any thread. */
Recipe *recipe_hold(Recipe *r);
const char *recipe_name(const Recipe *r);
const char *recipe_path(const Recipe *r);    /* NULL for the default recipe */
const char *recipe_source(const Recipe *r, size_t *len); /* the text it was read from */
const char *recipe_dataset(const Recipe *r); /* spec.dataset */
int recipe_entries(const Recipe *r);
const RecipeEntry *recipe_entry(const Recipe *r, int i);
/* In order of work: the prior stages, then spec.process; none of a document that has no such list. */
int recipe_stages(const Recipe *r);
const RecipeStage *recipe_stage(const Recipe *r, int i);
int recipe_savers(const Recipe *r);
const RecipeSaver *recipe_saver(const Recipe *r, int i);
/* Whether quant can run it; else appends a line `name:line:column: text` for every reason (why may be NULL). Pairs
 * and processors that this build has are judged, not the model. */
bool recipe_can_run(const Recipe *r, Str *why);
int recipe_notes(const Recipe *r);
const RecipeNote *recipe_note(const Recipe *r, int i);

/* What a recipe is to have otherwise: one side of its entries, a processor more, or both. */
typedef struct RecipeChange {
    bool act;                /* the side: act, else weight */
    QType types[2];          /* entries whose side has one of these dtypes (QT_FLOAT: none) */
    const char *from_scope;  /* and this scope; NULL: any */
    const char *scope, *method; /* as in YAML; scope NULL: as it is; method NULL: no entry changes */
    int symmetric;           /* 1, 0, -1: as it is */
    const char *front;       /* flow mapping of a processor in front of all others of spec.process but rotations; NULL: none.
                                types[0]: only where a weight has it */
    bool instead;            /* front smooths: it takes the place of the one processor that does (iter_smooth, smooth_quant,
                                flex_smooth_quant, flex_awq_ssz, awq) and its patterns, where there is one; of the same type:
                                only its values change. ST_DATA where there are several */
} RecipeChange;
typedef struct RecipeVaried {
    Recipe *recipe;          /* the caller's; NULL: nothing changes */
    int fits, changed;       /* entries (and the processor) that the change is for, and those that it changes */
    char delta[160];         /* what changes in the first of them */
} RecipeVaried;
/* The recipe with these values, the rest of its text byte for byte; proved by reading it again. Its path is a name only,
 * "NAME+MARK.yaml" beside the recipe's: no file is written. ST_USAGE for other documents than modelslim_v1; ST_DATA when the
 * text can't express it, or what comes out is no recipe. */
Status recipe_vary(const Recipe *r, const RecipeChange *c, const char *mark, RecipeVaried *out, Error *err);
/* Appends a unified diff of the texts of two recipes. */
Status recipe_diff(const Recipe *old, const Recipe *fresh, Str *out, Error *err);

/* level[i] of every linear by the peer's rules: 0 = float, k = entry k-1 (first entry that includes and doesn't exclude
 * it wins). ST_DATA for a document that has no such entries (a conversion, a modelslim_v0 without translation) or a
 * pattern with too many alternatives. */
Status recipe_assign(const Recipe *r, const Model *m, int16_t *level, Error *err);

/* One line of the export's check list. */
typedef struct ExportCheck {
    bool ok, blocking;
    bool rule;                 /* an engine's that --runtime names: ST_DATA where it isn't ok */
    char text[400];
} ExportCheck;
enum { EXPORT_MAX_CHECKS = 16 };
typedef struct Export {
    Str text;                  /* the new document */
    Str diff;                  /* unified diff against `against`, may be empty */
    int added;                 /* patterns that the edit put into lists */
    int nchecks;
    ExportCheck checks[EXPORT_MAX_CHECKS];
} Export;
struct Runtime;
/* Adds a line to the list, while there is room; longer texts are cut. */
void export_add_check(Export *e, bool ok, bool blocking, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* What sizes depend on beside levels (work_sizing makes it). */
typedef struct RecipeSizing {
    bool peer;                 /* under --compat peer */
    uint64_t added;            /* bytes of what processors make beside the linears' weights */
    bool untied;               /* a head that is the table of embeddings becomes a tensor of its own; under peer it always is */
    const bool *bias;          /* [nlinears] linears to which they give a bias; NULL: none */
} RecipeSizing;

/* Writes the recipe with lists edited so that recipe_assign gives exactly `level`; proves it by parsing again
 * (DECISIONS "Export, proved"). comments: provenance lines without '#', NULL-terminated (may be NULL). against: text
 * to diff with (NULL: the source). metadata of a generated document comes from model. sizing: as recipe_sizes.
 * runtime (recipe/runtime.h): the engine whose rules block; NULL: those of the savers are told. */
Status recipe_export(const Recipe *r, const Model *m, const int16_t *level, const RecipeSizing *sizing, const struct Runtime *runtime,
                     const char *const *comments, const char *against, Export *out, Error *err);
void export_fini(Export *e);

/* Sizes and bits of an assignment as ascendv1_saver writes it. */
typedef struct SizeReport {
    uint64_t bytes, float_bytes; /* whole model at this assignment, and all float */
    double average_bits;         /* weight bits per parameter over the decoder linears */
    int64_t quantized, floats;   /* linears */
} SizeReport;
/* sizing: NULL: not under --compat peer, and nothing is added. */
void recipe_sizes(const Recipe *r, const Model *m, const int16_t *level, const RecipeSizing *sizing, SizeReport *out);
/* Bytes a linear takes at a level, without a bias of a processor's. peer: under --compat peer. */
uint64_t recipe_linear_bytes(const Recipe *r, const Model *m, int64_t linear, int level, bool peer);
/* What was asked for lately, for those who ask for many: a model has few shapes. Zeroed at first; of one recipe, model and
 * `peer`. */
enum { SIZE_MEMO = 64 };
typedef struct SizeMemo {
    struct SizeOf {
        int64_t in, out, bytes;
        int16_t level, weight, bias; /* level, bytes of an element of its float form and of its bias, 0: none */
        bool known;
    } of[SIZE_MEMO];
} SizeMemo;
uint64_t recipe_memo_bytes(SizeMemo *memo, const Recipe *r, const Model *m, int64_t linear, int level, bool peer);
/* Bits of its weights there, scales aside. */
double recipe_linear_bits(const Recipe *r, const Model *m, int64_t linear, int level);

#endif
