#ifndef SLIM_METRIC_LEVELED_H
#define SLIM_METRIC_LEVELED_H

#include "metric/pass.h"
#include "quant/forms.h"

/* The levels of a plan, each as if all linears of the model were at it: what passes quantize single units by. */

typedef struct Leveled {
    const QConfig *q;
    int number;            /* the plan's, from 1 on */
    int16_t *at;           /* [nlinears] the number where the level fits the linear's shape and this build runs it, else 0 */
    FormsOptions opt;      /* of layer_forms_init */
} Leveled;

typedef struct LeveledSet {
    const Model *m;
    Leveled *of;           /* [n] */
    int n;                 /* levels that differ */
    QConfig *config;       /* [the plan's] as they run */
    QuantLevel *level;     /* [the plan's] */
    FormTypes types;       /* of every pass */
} LeveledSet;

/* Of the plan's levels, each kind once. The runner reads weights and must outlive it. */
Status leveled_init(LeveledSet *s, Runner *r, const PassPlan *p, Error *err);
/* The same, each as level_without_data (metric/ranges.h). */
Status leveled_init_without_data(LeveledSet *s, Runner *r, const PassPlan *p, Error *err);
void leveled_fini(LeveledSet *s);
/* FormsOptions.read with a Runner. */
Status leveled_read(void *runner, int64_t linear, float *w, Error *err);
/* Why a unit whose level needs data has no value: it, or another of its layer's experts, which go together. */
extern const char leveled_unreached[];
/* Why a unit has no value at a level, "" when it can have one: no linear of it fits. */
const char *leveled_refuses(const LeveledSet *s, const Leveled *l, MetricScope scope, int64_t unit);
/* Bytes that the forms of one layer take while they calibrate and run, at all levels together. */
uint64_t leveled_bytes(const PassPlan *p, int threads);

/* Bytes of a float pass over all texts in which they calibrate: where one of them needs the second moments of whole
 * inputs (gptq), no rows are cut. */
uint64_t leveled_need(const PassPlan *p, int threads);

/* Forms that calibrate several levels' forms of one layer in one float pass. */
typedef struct WatchForms {
    const LinearForm **table; /* [n] of a Variant */
    struct WatchForm *form;   /* [n] */
    int64_t n;
    bool any;
} WatchForms;
/* Sets all `forms` [nforms] (of one layer) to FORM_WATCH. Ended by watch_fini also after an error. */
Status watch_init(WatchForms *w, LayerForms *forms, int nforms, const FormTypes *t, Error *err);
void watch_fini(WatchForms *w);

#endif
