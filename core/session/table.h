#ifndef SLIM_SESSION_TABLE_H
#define SLIM_SESSION_TABLE_H

#include "session/filter.h"
#include "session/fold.h"
#include "session/ranking.h"
#include "session/scored.h"

/* The table as a person looks at it: shown metric, order, filter, ranks, cursor (table.c), rows and folds (fold.c).
 * Owner thread. */

typedef struct FoldSlot {
    Fold view;
    int32_t key;               /* what its members share */
} FoldSlot;

typedef struct Folds {
    FoldMode mode;
    int32_t *key;              /* [nlinears] linears of one key belong together; -1: to none */
    int32_t nkeys, *whole;     /* [nkeys] linears of this key */
    bool *open;                /* [nkeys] */
    int32_t *fold_of;          /* [nkeys] -1: fewer than two are visible */
    FoldSlot *fold;            /* [nfolds], room for nlinears / 2 */
    int32_t nfolds;
    int64_t *members;          /* of all folds, one after the other */
    TableRow *units, *rows;    /* heads and lone linears; with the members of open folds */
    int64_t nunits, nrows;
    int64_t *row;              /* [nlinears] that shows it, -1 hidden */
    bool gathered, laid, figured;
    uint64_t order_seen;       /* what was gathered and figured */
    uint64_t scored_seen, version_seen, tags_seen;
    ScoreRange range;
    TableWork work;
} Folds;

/* All linears in the order of a sort key, and what that was made of. */
typedef struct Sorted {
    int64_t *linear;           /* [nlinears] failed ones first, scored ones, those without a score */
    int64_t failed, scored;    /* where the second and the third begin; of other keys than the score: 0, nlinears */
    bool valid;
    SortKey key;
    uint64_t made;             /* number of the scores, or of the levels */
    uint64_t opened;
} Sorted;

typedef struct Table {
    const Metric *metric;
    ScoredTable scored;
    Sorted sorted;
    int64_t *by_name;          /* [nlinears] that come in the order of their names; NULL: nobody asked yet */
    SortKey sort;
    bool ascending;
    char *filter;
    SavedFilters saved;
    char tensors[200];         /* the filter of tensors (modeltree.h); "": none */
    int64_t *order, norder;
    int64_t order_failed, order_scored; /* by score: failed linears come before the first, scored before the second */
    uint64_t order_made;       /* grows with every new order */
    bool order_valid, order_stale;
    Ranking ranks, second_ranks; /* under the shown metric, and under the second */
    const Metric *second;      /* shown beside it, NULL: none */
    unsigned columns;          /* COLUMN_ bits (columns.h) */
    double advice_sum;         /* what all groups weigh, of these versions of results and recipe: */
    uint64_t advice_results, advice_opened;
    bool advice_known;
    int64_t cursor;
    Folds folds;
} Table;

void table_init(Table *t);
void table_fini(Table *t);
/* Room for the linears of the model that is open. */
Status table_open(Table *t, const Model *m, Error *err);
void table_close(Table *t);
/* fold.c's half of the two */
Status folds_open(Folds *f, const Model *m, Error *err);
void folds_close(Folds *f);
/* Makes the order anew when it has changed (resort: also when only scores have changed it), for those who need no rows. */
void table_put_in_order(Session *s, bool resort);
/* Sets the filter's text (copied). */
Status table_set_filter(Table *t, const char *text, Error *err);
/* Any score may be another, a stored one has arrived, levels have changed: the order is made anew when a person asks for
 * it. */
void table_scores_changed(Table *t);
void table_scores_arrived(Table *t);
void table_levels_changed(Table *t);
/* session_linear_cost for many. */
double linear_cost(const Session *s, SizeMemo *memo, int64_t linear);
/* order.c: t->order of what the filter lets through. */
void table_sort(Session *s);
void metric_names(const Session *s, Str *out); /* session_metrics, with commas; s may be NULL */

#endif
