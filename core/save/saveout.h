#ifndef SLIM_SAVE_SAVEOUT_H
#define SLIM_SAVE_SAVEOUT_H

#include "io/journal.h"
#include "run/source.h"
#include "save/format.h"
#include "save/layout.h"
#include "save/manifest.h"
#include "save/store.h"
#include "save/terms.h"
#include "save/walk.h"

/* What all savers share: which tensors lie where, streaming them there, progress, and the final step. A format says
 * which tensors a linear becomes, how files are called and which documents go with them. */

enum { SAVE_KEPT_FLOAT = 1, SAVE_NO_ZERO = 2, SAVE_WRITTEN = 4 };

struct SaveOut {
    const SaveFormat *format;
    const SavePlan *plan;
    SaveWalk walk;
    SaveLayout layout;        /* as planned, and after finish as it is */
    uint8_t *state;       /* [nlinears] flags above */
    int32_t *item_of;     /* [nlinears] item of the walk, -1: written as part of a stack */
    int64_t *tensor_of;   /* [walk.n] its first tensor of the layout, -1: the format has no place for it */
    Map made;             /* name of a promised tensor -> item of the walk; empty before the first came */
    int64_t *given;       /* [walk.n] values of it that came; NULL: none */
    bool changed;         /* layout no longer fits what was handed over */
    Store store;
    Journal *journal;
    int32_t *rank_of;     /* [walk.n] of several ranks, the one that copies the item (saveout_ranks.c) */
    uint8_t *packed;      /* [files] repacked already; NULL before the repack */
    int layers_done;
    bool forced;          /* what lies in the target may be replaced */
    char known[65], run[65]; /* digests of Manifest.plan and .run; "" before save_digests */
    bool is_ready;        /* everything is made, only renames are left */
    bool finished;
    void *buf;
    size_t buf_cap;
};

/* ---- saveout_ranks.c: several ranks that write one output (SavePlan.dist) ----
 * Rank 0 makes the target, its folder and every file, has the lock and the one journal, and writes what isn't a weight or a
 * float tensor; then it makes everything ready and installs it. The others write at the places of the same layout, which each
 * of them works out, into the files that rank 0 made. A layer ends when all of them have synced what they wrote. */

/* Who copies what of the float tensors. */
Status saveout_deal(SaveOut *s, Error *err);
bool saveout_copies(const SaveOut *s, size_t item);
/* Behind rank 0's opening: the others learn what it found and open the same folder. *resume: rank 0's. */
Status saveout_join(SaveOut *s, bool *resume, Error *err);
/* Behind a layer that each has synced: all learn what became of the others' linears. */
Status saveout_gather(SaveOut *s, int layer, Error *err);

/* ---- saveout_made.c: what the model that is written has beside the checkpoint's tensors ---- */

/* Whether the norm whose weight this is has a bias that the checkpoint lacks. */
bool save_norm_bias(const SavePlan *plan, const TensorInfo *norm);
/* Whether linear i's input is multiplied at run time. */
bool save_input_scale(const SavePlan *plan, int64_t i);
/* Whether embedding and head, one tensor in the checkpoint, are two. */
bool save_untied(const SavePlan *plan);
/* Of SI_NORM_BIAS and SI_FACTOR. */
bool save_is_added(const SaveItem *it);
DType save_added_dtype(const SavePlan *plan, const SaveItem *it);
int64_t save_added_values(const SavePlan *plan, const SaveItem *it);
/* Whether the format has a place for a tensor that processors make. */
bool save_holds(const SaveFormat *f, const SaveMade *t);
/* Refuses (ST_DATA) what readers of the format would not apply. */
Status save_check_changes(const SaveFormat *f, const SavePlan *plan, Error *err);
/* SaverOps.tensor. */
Status save_out_tensor(void *self, const SaveValues *v, Error *err);
/* ST_INTERNAL when a tensor of the layer was promised and did not come whole; ST_DATA for what came without a promise. */
Status save_check_given(const SaveOut *s, int layer, Error *err);
/* Entries of the description without a tensor: those of items [*at, to) of the walk, each behind `sep`. */
void save_put_entries(const SaveOut *s, size_t *at, size_t to, const char *sep, Str *out);
/* An object of the description, as a member's value: "{}" without notes. */
Status save_put_notes(const SaveOut *s, SaveNote where, Str *out, Error *err);

/* Whether linear i has a bias in the model that is written. */
bool save_has_bias(const SavePlan *plan, int64_t i);
/* GiB limit of the plan in bytes, 0: one file. */
uint64_t save_limit(const SavePlan *plan);
/* What linear i is quantized to, NULL: it is float. */
const QConfig *save_config(const SavePlan *plan, int64_t i);
/* Name of linear i's scheme ("W8A8"), NULL when there is none or it is float; save_label: as descriptions call it, which tell a
 * low-rank branch, too ("W8A8_SVD"). */
const char *save_scheme(const SavePlan *plan, int64_t i);
const char *save_label(const SavePlan *plan, int64_t i);
/* The tensors of a quantized linear of a model of this dtype (scheme_parts); 0: no scheme. */
int save_scheme_parts(const SavePlan *plan, int64_t i, DType model, QPart out[SCHEME_PARTS_MAX]);
/* The tensors of a layer's quantized keys and values, in the order of SaveCache: what tensor `part` is called below the
 * attention, and its *n values. The layer has keys and values of its own (saveout_check). */
enum { SAVE_CACHE_PARTS = 4 };
const char *save_cache_part(const SavePlan *plan, int layer, int part, int64_t *n);
/* Whether linear i is written quantized. */
bool save_quantized(const SaveOut *s, int64_t i);
void save_warn(const SavePlan *plan, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* How a person asks for what is in the target to be replaced. */
const char *save_force_word(const SavePlan *plan);
/* A small file of the output. */
Status save_document(SaveOut *s, const char *name, const Str *text, Error *err);
/* Name of file i of the layout, of the index ("" when there is none), of the description. */
void save_file_name(const SaveOut *s, int i, char out[256]);
void save_index_name(const SaveOut *s, char out[256]);
void save_description_name(const SaveOut *s, char out[256]);

/* Names in the target that can't be replaced by a file are found before the first layer. */
Status saveout_check_names(const SaveOut *s, Error *err);
/* Whether the folder (a descriptor) holds this very output, whole, by its manifests. */
Status saveout_complete(SaveOut *s, int at, bool *done, Error *err);
/* Every file of the layout and what goes with them, with sizes: *out is the caller's (free); *n is 0 before. */
Status save_list_files(const SaveOut *s, SaveFile **out, int *n, Error *err);
/* What drives every format; saveout_plan.c has the first two. */
extern const SaverOps saveout_ops;
Status saveout_check(const SaveFormat *f, const SavePlan *plan, Error *err);
Status saveout_files(const SaveFormat *f, const SavePlan *plan, SaveFile **out, int *n, Error *err);

/* saveout_plan.c: *s as far as it is known without a target; ended by saveout_look_end, also after an error. */
Status saveout_look(SaveOut *s, const SaveFormat *f, const SavePlan *plan, Error *err);
void saveout_look_end(SaveOut *s);
/* saveout_plan.c: the layout of what the flags in s->state say. first: file of every item's first tensor in the layout
 * as planned, when files are to keep their tensors; NULL: cut anew. */
Status saveout_layout(const SaveOut *s, const int32_t *first, SaveLayout *l, Error *err);
/* saveout_copy.c: a float linear, or an item of the walk (a tensor, a linear's weight or its bias) as it is written,
 * from the model into its place, in pieces, through `put`. */
typedef Status SavePut(void *ctx, uint64_t at, const void *data, size_t n, Error *err);
Status save_copy_item(const SavePlan *plan, const SaveItem *it, bool bias, SavePut *put, void *ctx, Error *err);
/* The same, but ST_DATA names the tensor and the place of a NaN or Inf. put NULL: only looks. */
Status save_copy_sound(const SavePlan *plan, const SaveItem *it, bool bias, SavePut *put, void *ctx, Error *err);
DType save_item_dtype(const SavePlan *plan, const SaveItem *it, bool bias);
Status save_copy_linear(const SavePlan *plan, int64_t linear, bool bias, SavePut *put, void *ctx, Error *err);
Status save_copy_added(const SavePlan *plan, const SaveItem *it, SavePut *put, void *ctx, Error *err);
/* saveout_finish.c */
Status saveout_repack(SaveOut *s, Error *err);
/* Everything of the output as the store's list, documents and the manifest made. */
Status saveout_list(SaveOut *s, Error *err);
/* saveout.c: the same, whole and on the disk, once the weights are; then into the target. */
Status saveout_seal(SaveOut *s, Error *err);
Status saveout_install(SaveOut *s, Error *err);
/* ST_IO when a file that the output would replace has come into the target since the run began. */
Status saveout_check_appeared(const SaveOut *s, Error *err);
/* sidefiles.c: files of the model's folder that are no weights (specs/formats.md 2). only_code: .json and .py. */
Status save_side_files(SaveOut *s, bool only_code, Error *err);
/* Their names, sorted: *names and each of them are the caller's. */
Status save_side_names(const SavePlan *plan, bool only_code, char ***names, size_t *n, Error *err);
/* Digest of their names and bytes. */
Status save_side_digest(const SavePlan *plan, bool only_code, char hex[65], Error *err);
/* config.json of the output without the members in `drop` (NULL-terminated), with `add` at its end (may be NULL).
 * Without either it is left as it is unless `always`, or embedding and head are two tensors: then it says so. */
Status save_edit_config(SaveOut *s, const char *const *drop, const char *add, bool always, Error *err);

#endif
