#ifndef SLIM_SESSION_GROUPS_H
#define SLIM_SESSION_GROUPS_H

#include "session/session.h"

/* The fused groups of the open model at the levels of the open recipe, as predictions and allocation see them
 * (core/tune): what each weighs and takes. Owner thread. */
typedef struct GroupTable {
    int64_t n;
    int levels;              /* float included */
    double *alone, *block;   /* [n][levels] those metrics, NaN: not known */
    double *error;           /* [n][levels] standard error of alone */
    double *v;               /* [n][levels] tune_weights of them */
    int64_t *bytes;          /* [n][levels] as the saver writes them; -1: a linear of it can't have the level */
    double *bits;            /* [n][levels] weight bits of all its weights */
    uint64_t *digest;        /* [n][levels] scores_level_all */
    double weights;          /* of all groups */
    int64_t others;          /* bytes of the model beside the groups' */
    int64_t opened_bytes;    /* of the model as the recipe gives it by itself */
    uint64_t results, opened; /* versions of what it was made from (Results.loss_version, Assignment.opened_version) */
    uint64_t whole, news, origin; /* of the values in it (Results.loss_whole, nnews; ScoreOrigin.data) */
} GroupTable;
void group_table_free(GroupTable *t);
/* The present one, borrowed until a result comes or a recipe is opened. Linears that no logit depends on weigh nothing. */
Status group_table(Session *s, const GroupTable **out, Error *err);
/* The level of each group under these levels of linears, set[n]: where a recipe splits it, the level that weighs most. */
void group_set(const Session *s, const GroupTable *t, const int16_t *level, int16_t *set);
/* v of one group under these levels of linears. */
double group_v(const Session *s, const GroupTable *t, int64_t g, const int16_t *level);
/* Sum of v; NaN where one is not known. */
double group_sum(const GroupTable *t, const int16_t *set);

#endif
