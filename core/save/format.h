#ifndef SLIM_SAVE_FORMAT_H
#define SLIM_SAVE_FORMAT_H

#include "save/saver.h"

struct Field;
struct SaverType; /* recipe/field.h */
typedef struct SaveOut SaveOut; /* save/saveout.h */
typedef struct SaveFormat SaveFormat;

/* How a run hands over what it quantized. Every format of saver_table has the same: saveout_ops (save/saveout.h). */
typedef struct SaverOps {
    /* Refuses (ST_DATA) what the format cannot express; under plan->peer some of it is a warning instead. */
    Status (*check)(const SaveFormat *f, const SavePlan *plan, Error *err);
    /* Files it would write, with sizes: *out is the caller's (free). */
    Status (*files)(const SaveFormat *f, const SavePlan *plan, SaveFile **out, int *n, Error *err);
    /* Lays out every file under temporary names, checks target paths and free space. resume: continues a stopped run
     * when the plan is the same (else ST_DATA says what differs); *first_layer: the first layer still to be written. */
    Status (*open)(void **self, const SaveFormat *f, const SavePlan *plan, bool resume, int *first_layer, Error *err);
    Status (*linear)(void *self, const SaveLinear *l, Error *err);
    /* This linear stays float after all (an expert that saw no token). */
    Status (*keep_float)(void *self, int64_t linear, Error *err);
    Status (*cache)(void *self, const SaveCache *c, Error *err); /* ST_DATA when the format has no place for it */
    /* Values of a promised tensor. NULL: the saver writes none. */
    Status (*tensor)(void *self, const SaveValues *v, Error *err);
    Status (*debug)(void *self, const SaveDebug *d, Error *err); /* NULL: it has no place for them */
    /* What a processor found for a layer at great cost, for a run that goes on; and what a run that was stopped left (*data is
     * the caller's, NULL: nothing). Both NULL: it keeps nothing. */
    Status (*keep)(void *self, int layer, const void *data, size_t n, Error *err);
    Status (*found)(void *self, int layer, void **data, size_t *n, Error *err);
    /* Of several ranks, behind the layer's linears and before what processors give: what each of them is to know of the others'
     * linears. NULL: nothing. */
    Status (*layer_met)(void *self, int layer, Error *err);
    /* Synced, on all ranks: a resumed run starts after it. */
    Status (*layer_done)(void *self, int layer, Error *err);
    /* What is in the target of an earlier run; NULL: the saver keeps nothing for a resume. */
    Status (*stopped)(const SaveFormat *f, const SavePlan *plan, SaveStopped *out, Error *err);
    /* Rest of the model, description, index, side files: everything is whole, and on the disk, before the target is
     * touched. NULL: finish does it. */
    Status (*ready)(void *self, Error *err);
    /* ready when it wasn't called, then everything is renamed into place: the weights, what describes them, the index last. */
    Status (*finish)(void *self, Error *err);
    /* Frees; without a finish the partial output is kept for a resume when keep, else removed. */
    void (*close)(void *self, bool keep);
} SaverOps;

/* What readers of a format apply of a model in which processors have changed more than values (changes.h). */
enum {
    SAVES_BIASES = 1,       /* of norms and linears that have none in the family's code */
    SAVES_INPUT_SCALES = 2, /* non-fusion */
    SAVES_ROTATIONS = 4,    /* of a linear's input, and what lies in a file of its own */
    SAVES_MODULES = 8,      /* a matrix under a module's own name */
    SAVES_ATTENTION = 16,   /* attention that reads quantized queries, keys and values (attention.h) */
    SAVES_BRANCHES = 32     /* low-rank branches beside linears */
};

/* A saver: the one row that says everything of its format. */
struct SaveFormat {
    const char *type;           /* of spec.save: "ascendv1_saver" */
    const char *title;
    const struct Field *fields; /* keys of its item of spec.save */
    bool processor;             /* see SaverType */
    bool peer_reruns;           /* the peer runs what was deployed once more before it writes this */
    /* Files: "WEIGHTS.safetensors" or "WEIGHTS-00001-of-00003.safetensors" with an index of the same name, and
     * "DESCRIPTION.json", which says what they are. */
    const char *weights, *description;
    bool code_only;             /* of the model's small files only .json and .py go along */
    bool labels;                /* the description gives each tensor a label */
    /* What follows the names of a single file and of the description: "_w8a8"; no function: nothing. */
    void (*suffix)(const SaveOut *s, char out[64]);
    /* Tensors of quantized linear i in write order; 0: the format can't express its scheme. no_zero: its activation
     * offset turned out to be 0. */
    int (*parts)(const SavePlan *plan, int64_t i, bool no_zero, QPart out[SCHEME_PARTS_MAX]);
    bool drops_zero;            /* parts depends on no_zero */
    const char *cache_label;    /* of quantized keys and values (C8); NULL: there is no place for them */
    unsigned holds;             /* SAVES_* */
    /* Refuses (ST_DATA) what else the format can't express than the scheme of a linear; no function: nothing. */
    Status (*refuse)(const SavePlan *plan, Error *err);
    void (*warn)(const SavePlan *plan); /* what the plan can't be told without (save_warn); no function: nothing */
    /* Everything besides the weights and their index, once these are in place. */
    Status (*documents)(SaveOut *s, Error *err);
    const SaverOps *ops;
};
extern const SaveFormat *const saver_table[]; /* NULL-terminated (core/registry.c) */
const SaveFormat *saver_find(const char *type);
/* Row i as a recipe is read with it; false behind the last. */
bool saver_type(int i, struct SaverType *out);
/* What is wrong with the first row that isn't whole or is called like another, or with the list of families
 * (families.h); NULL: nothing. At the program's start. */
const char *saver_table_fault(const SaveFormat *const *table);

/* Whether a file of the target is one of the format's. */
bool format_is_weights(const SaveFormat *f, const char *name);
bool format_is_description(const SaveFormat *f, const char *name);
/* Whether some saver calls its description like that. */
bool saver_description(const char *name);

#endif
