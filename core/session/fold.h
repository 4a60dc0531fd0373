#ifndef SLIM_SESSION_FOLD_H
#define SLIM_SESSION_FOLD_H

#include "session/session.h"

/* The table's rows: the visible linears of session_order, those that belong together gathered under one head. A fold
 * is known by its index, which holds until rows are ordered or folded anew. Needs an open model throughout. */

typedef enum FoldMode {
    FOLD_NONE,
    FOLD_BLOCK,   /* all linears of a decoder layer */
    FOLD_KIND,    /* all with the same last part of their names: every down_proj */
    FOLD_GROUP,   /* fused groups */
    FOLD_EXPERTS, /* all routed experts of a layer */
    FOLD_MODES
} FoldMode;
const char *fold_mode_name(FoldMode m);
int fold_mode_find(const char *name); /* -1 */
/* Folds the table anew, every fold closed. Kept by resume, no edit. */
Status session_fold(Session *s, FoldMode mode, Error *err);
FoldMode session_fold_mode(const Session *s);

typedef struct TableRow {
    int64_t linear; /* of a head: its first member */
    int32_t fold;   /* that it is the head or a member of, -1: stands alone */
    bool head;
} TableRow;
/* Rows in table order: a head, then the members where its fold is open; a linear without company among what the filter
 * lets through stands alone. Heads go by their worst member when sorted by score (failed ones first), by their size
 * together when sorted by size, else by their first member; members keep the table's order. Costs nothing while
 * session_order stays as it is. Borrowed until the next call that changes the session; resort: as for session_order. */
const TableRow *session_rows(Session *s, int64_t *n, bool resort);
/* Row that shows this linear: its own, or its fold's head where that is closed or where `head` asks for it. -1: the
 * filter hides it. */
int64_t session_row_of(Session *s, int64_t linear, bool head);

enum { FOLD_LEVELS = 8 };
typedef struct Fold {
    const int64_t *members; /* the visible ones, in table order */
    int64_t count, whole;   /* their number, and with those that the filter hides */
    bool open;
    int64_t row;            /* of the head */
    /* of the visible members under the shown metric */
    int64_t scored, failed, stale;
    int64_t worst;          /* linear with the worst score, -1 when none is scored */
    double max, mean;       /* its score, and the mean of all; NaN when none is scored */
    int64_t tagged, floats;
    int32_t at_level[FOLD_LEVELS]; /* members at each of the first levels */
    int level;              /* -1: not the same for all */
    double bytes;           /* at their present levels */
    double cost;            /* float against their level; a float one against the recipe's first */
} Fold;
/* Figures are made anew only after something that they show changed. */
const Fold *session_fold_at(Session *s, int32_t fold);
int64_t session_folds(Session *s);
/* Bytes that float takes more than a linear's level (one that is float: than the recipe's first). */
double session_linear_cost(const Session *s, int64_t linear);
void session_fold_open(Session *s, int32_t fold, bool open);
void session_fold_open_all(Session *s, bool open);
/* Appends what all linears of the fold are called together, a pattern: "model.layers.3.*", "*.down_proj",
 * "model.layers.3.self_attn.{q,k,v}_proj". */
void session_fold_name(Session *s, int32_t fold, Str *out);
/* Targets for commands that select exactly the visible members: the fold's name when nothing is hidden, else the
 * shortest list of patterns. Caller frees each and the array. */
Status session_fold_target(Session *s, int32_t fold, char ***out, int *n, Error *err);

/* Of all scores of the shown metric: the smallest above zero, the largest, their number with the failed ones, and those alone. */
typedef struct ScoreRange {
    double low, high;
    int64_t scored, failed;
} ScoreRange;
ScoreRange session_score_range(Session *s);
/* How often rows were gathered, laid out, and figures made, since the session began: what looking at the table cost.
 */
typedef struct TableWork {
    uint64_t gathered, laid, figured;
} TableWork;
TableWork session_table_work(const Session *s);

#endif
