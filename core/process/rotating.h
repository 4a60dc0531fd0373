#ifndef SLIM_PROCESS_ROTATING_H
#define SLIM_PROCESS_ROTATING_H

#include "model/rotmap.h"
#include "process/processor.h"

/* What quarot and adapt_rotation's second stage share (specs/outlier_suppression.md 10, 11.1): the model is turned by the
 * map of its family, and inputs of o_proj and down_proj may be turned at run time, too. No forward: what follows sees the
 * turned model. */

/* Settings of both. */
typedef struct RotateSettings {
    int64_t block;             /* -1: whole */
    bool online;
    int64_t max_tp;            /* heads, and first factors, that are turned together */
    const int64_t *layers;     /* [nlayers] whose down_proj is turned online */
    int nlayers;
    bool export_info;          /* R is written beside the weights */
} RotateSettings;
/* From a checked mapping; false: no memory. */
bool rotate_settings(Arena *a, const YamlNode *map, RotateSettings *out);
void rotate_hash(const RotateSettings *s, Hasher *h);

typedef struct Rotating {
    const Model *m;
    const RotateSettings *set;
    bool peer;
    Turns turns;               /* of the run, once it has begun */
    Rotation *heads;           /* Qo of o_proj, between the heads; NULL: not online */
    Rotation *m_factor, *n_factor; /* of down_proj */
} Rotating;

/* Checks that the model can be turned so, before anything runs. stream: size of a matrix that will take R's place, 0: none
 * will. ST_DATA: it can't, or the step can't stand where it does. */
Status rotating_start(Rotating *r, const ProcessorCtx *ctx, const RotateSettings *set, bool stream, Error *err);
void rotating_end(Rotating *r);
/* Before the first unit: the ends of the model. stream: R, NULL: Hadamard's. */
Status rotating_begin(Rotating *r, const UnitRun *u, const Rotation *stream, Error *err);
/* Turns the unit. */
Status rotating_learn(Rotating *r, const UnitRun *u, Error *err);

/* What comes of it in files, and its values. info: R itself goes along, where the settings say so. */
Status rotating_promise(const Rotating *r, bool info, SavePlan *plan, Error *err);
Status rotating_give(const Rotating *r, bool info, const UnitRun *u, const Gifts *to, Error *err);
/* For --debug: every matrix once, and by which of them each weight was turned, left (W <- R' W) or right (W <- W R). */
Status rotating_tell(const Rotating *r, const Gifts *to, Error *err);

#endif
