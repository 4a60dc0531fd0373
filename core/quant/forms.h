#ifndef SLIM_QUANT_FORMS_H
#define SLIM_QUANT_FORMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "dist/dist.h"
#include "quant/quantizer.h"
#include "run/runner.h"

/* The quantized forms of one layer's linears, which the pipeline hands to the runner. */

/* What the forms do in the next pass. */
typedef enum FormStage {
    FORM_FLOAT,     /* nothing: their turn hasn't come */
    FORM_WATCH,     /* look at the input as FORM_CALIBRATE does, but compute in float: in chunks, but for methods with a
                     * Hessian */
    FORM_CALIBRATE, /* look at the input for what has to be found; methods with a Hessian leave the weight in float */
    FORM_FIXED,     /* as calibrated */
    FORM_DEPLOYED   /* as calibrated, computed as the peer's deployed modules do (specs/quantization.md 8) */
} FormStage;

/* The dtypes of a pass. */
typedef struct FormTypes {
    DType input; /* of what the layer's first linears read */
    DType inner; /* of what all the others read */
    DType kept;  /* WeightTask.F */
} FormTypes;

/* Buffers kept from one linear to the next, also of the next layer, while no pass runs: fresh memory costs more than
 * filling it. */
typedef struct FormRoom {
    float *weight;         /* [weight_cap] the linear that is being quantized */
    uint8_t *code;         /* [code_cap] for the codes of the next one */
    size_t weight_cap, code_cap;
} FormRoom;

/* Ranks that divide the weights of a layer: a rank makes its own, and gets from the others those that a pass needs. */
typedef struct FormMakers {
    Dist *dist;
    const int32_t *rank;   /* [model.nlinears] who makes it */
    bool taken;            /* no pass comes behind the calibration: nobody gets weights that methods with a Hessian make */
} FormMakers;
static inline bool form_is_own(const FormMakers *m, int64_t linear)
{
    return !m || m->rank[linear] == dist_rank(m->dist);
}
/* formshare.c: weight q, made by m->rank[linear], on every rank: initialised there, made anew (the caller's) on the others. */
Status form_share(const FormMakers *m, int64_t linear, QWeight *q, const QSpec *spec, int64_t out, int64_t in, Error *err);

typedef struct FormsOptions {
    const QuantLevel *levels;
    const int16_t *level;  /* [model.nlinears] 0 = float */
    bool peer;
    DType weight;          /* in which weights are quantized */
    const Overlay *overlay; /* what was changed in the model: linears share an input while the same is done to it; may be NULL */
    /* Reads the weight of a linear as float32 [out][in]: for methods that have to see all of it. */
    Status (*read)(void *ctx, int64_t linear, float *w, Error *err);
    void *ctx;
    Pool *pool;
    const Cancel *cancel;  /* may be NULL */
    /* Ranks that divide the samples, each with some of every pass; what calibration finds is of all of them. NULL: one. Of
     * linears that a rank's samples may not reach (experts) only in passes with Variant.route, or of FORM_WATCH without
     * Hessians; layer_forms_gather follows each of the latter. */
    struct Dist *dist;
    /* [model.nlinears] Where no pass comes behind the calibration: weights that are going to be taken; methods with a Hessian
     * make no others. NULL: all. */
    const bool *own;
    const FormMakers *makers; /* NULL: every rank makes all weights */
    FormRoom *room;        /* the caller's, begins zeroed, ends with form_room_free; NULL: each layer has its own */
} FormsOptions;

void form_room_free(FormRoom *r);

typedef struct LayerForms {
    const Model *model;
    const FormsOptions *opt;
    int64_t first, n;         /* linears [first, first+n) */
    struct FormState *states; /* [n], those in use */
    struct FormLinear *lin;   /* [n] */
    LinearForm *forms;        /* [n] */
    const LinearForm **table; /* [n] for a Variant, NULL entries are float */
    bool any;                 /* at least one entry of the table is not NULL */
    FormRoom *room, own;
} LayerForms;

/* All in stage FORM_FLOAT. o and m must outlive them. */
Status layer_forms_init(LayerForms *l, const Model *m, const FormsOptions *o, int64_t first, int64_t n, Error *err);
void layer_forms_fini(LayerForms *l);
/* Those that are as they will stay (FORM_FIXED) go elsewhere, from where there is nothing left; o outlives them there, its
 * levels among it. */
void layer_forms_move(LayerForms *to, LayerForms *from, const FormsOptions *o);
/* Linears at `level` (0: at any) go to this stage; call it before every pass. What methods other than rowwise ones need
 * is made here, or, with a Hessian, while calibrating. Linears whose calibration saw no token become float. */
Status layer_forms_stage(LayerForms *l, int level, FormStage stage, const FormTypes *t, Error *err);
/* Behind a pass of FORM_WATCH, of a work with FormsOptions.dist: all ranks learn what the others saw. */
Status layer_forms_gather(LayerForms *l, Error *err);
/* Calibration left this linear (index within the layer) without a parameter or Hessian that it needs; not under the
 * peer's rules: or another of its layer's routed experts, which then all stay float. */
bool layer_forms_unseen(const LayerForms *l, int64_t i);
/* The fixed parameters of a linear's input and the dtype they were found in; false when it has none. */
bool layer_forms_param(const LayerForms *l, int64_t i, QParam *p, DType *T);
/* The range behind them, which calibration found; false when it has none. And the other way round: linears of this input
 * and level are calibrated as if it had been found in a pass of these types. */
bool layer_forms_range(const LayerForms *l, int64_t i, float *lo, float *hi);
void layer_forms_recall(LayerForms *l, int64_t i, const FormTypes *t, float lo, float hi);
/* How many values of a pruned weight are 0, -1: it is none. */
int64_t layer_forms_zeros(const LayerForms *l, int64_t i);
/* The quantized weight: the one that was made for a pass, or else made now. Caller frees with qweight_fini. */
Status layer_forms_take(LayerForms *l, int64_t i, QWeight *out, Error *err);
/* A quantized weight that was made elsewhere, instead of what the level's method makes; it is taken from *w. */
void layer_forms_put(LayerForms *l, int64_t i, QWeight *w);
/* In place of qweight_fini: its memory serves the next linear. */
void layer_forms_done(LayerForms *l, QWeight *w);

/* Whether some pass has to show forms of these levels whole inputs. */
bool layer_forms_whole(const Model *m, const QuantLevel *levels, const int16_t *level, bool peer);
/* Bytes beside streams and scratch that calibrating and passes over any one layer need at most: Hessians, weights read
 * as a whole, and quantized ones that are kept (one byte a parameter). */
uint64_t layer_forms_bytes(const Model *m, const QuantLevel *levels, const int16_t *level, bool peer, int threads);

#endif
