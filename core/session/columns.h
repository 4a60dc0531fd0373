#ifndef SLIM_SESSION_COLUMNS_H
#define SLIM_SESSION_COLUMNS_H

#include "session/session.h"

/* What the table shows beside the shown metric: a second metric with its ranks, intervals and ties, kinds, advice. All
 * need an open model. */

/* Whether the interval of this rank meets that of the one above or below: which of the two is worse is not sure. */
bool session_tied(Session *s, int64_t linear);
/* Half of a score's 95 % interval (two standard errors) as a share of its value; NaN: its error is not known. */
double session_interval(const Session *s, const Metric *m, int64_t linear);

/* Columns that are there when they are asked for, as bits. */
enum { COLUMN_KIND = 1, COLUMN_ADVICE = 2 };
/* Their names, "kind" and "advice", by bit number; NULL behind the last. */
const char *table_column_name(int bit);
/* The second metric, NULL: none. */
const Metric *session_second(const Session *s);
/* Rank of a linear under it, 0: not scored. */
int64_t session_second_rank(Session *s, int64_t linear);
unsigned session_columns(const Session *s);
/* Shows exactly these: the second metric (NULL: none) and COLUMN_ bits. Kept by resume, no edit. */
void session_set_columns(Session *s, const Metric *second, unsigned columns);

/* What to do with a linear, by the first rule of a small table that fits what is known of its fused group. */
typedef struct Advice {
    const char *word; /* "keep float", "8-bit", "group 64", "fine"; "?": not known yet */
    const char *rule; /* its name, "twentieth-of-loss" */
    const char *why;  /* the rule in a line */
    double share;     /* of the loss that all groups make together at the recipe's levels; NaN: not known */
} Advice;
Advice session_advice(Session *s, int64_t linear);
/* Row i of the table, its share NaN; false: there are no more. */
bool advice_rule(int i, Advice *out);

#endif
