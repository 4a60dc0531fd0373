#ifndef SLIM_METRIC_METRIC_H
#define SLIM_METRIC_METRIC_H

#include "metric/pass.h"
#include "metric/scores.h"

/* One more number of a score: every face shows it beside the score. */
typedef struct MetricPart {
    const char *name; /* "sqnr" */
    const char *unit; /* "dB", "" when none */
    const char *text; /* what it is, in a few words */
} MetricPart;

/* What metrics are for: their order in lists and help. */
typedef enum MetricFamily {
    FAMILY_DECIDE,  /* how much quantizing a unit harms the model's output */
    FAMILY_ERROR,   /* how far quantizing moves something inside the model */
    FAMILY_INPUT,   /* describe inputs of linears */
    FAMILY_WEIGHT,  /* describe weights, without data */
    METRIC_FAMILIES
} MetricFamily;
const char *metric_family_title(MetricFamily f);

/* Scores that another program made, of a file: such a Metric is no row of metric_table but a session's own. */
typedef struct LoadedScores {
    const char *file;        /* its name; of a run of slimscope's that was kept what it was made with */
    bool kept;               /* such a run: no other program made them */
    const double *value;     /* [units of the scope] NaN: the file has none */
} LoadedScores;
extern const MetricPass pass_loaded; /* of those: nothing runs */

/* A row of metric_table: one file core/metric/NAME.c, one line in core/registry.c, one test. */
typedef struct Metric {
    const char *name;        /* "kurtosis" */
    const char *peer_name;   /* what msModelSlim's command line calls it where a scope is given, NULL: the same */
    const char *title;       /* column head */
    const char *unit;        /* "" when none */
    MetricScope scope;
    MetricFamily family;
    const char *cost;        /* "one float pass over the calibration set" */
    const MetricPart *parts; /* ended by a NULL name, at most METRIC_PARTS; NULL: none. Of metrics whose pass gives values */
    int direction;           /* +1: higher is more sensitive */
    bool any_level;          /* the same whatever the levels are, as all of a pass that says so: UnitScore.levels is 0 */
    const MetricPass *pass;  /* what it is made by */
    unsigned needs;          /* bits that its pass understands */
    const char *explain;     /* two or three lines: what it is, when to trust it */
    /* Score of one unit, of a linear at its level (NULL q: the open recipe has none, or the scope is another). NaN = not
     * defined; a reason goes into why. NULL: the value its pass gave. */
    double (*score)(const Scores *s, int64_t unit, const QConfig *q, char *why, int why_size);
    const LoadedScores *loaded; /* NULL: made here */
} Metric;
extern const Metric *const metric_table[]; /* NULL-terminated, core/registry.c */
const Metric *metric_find(const char *name);
/* Its place in metric_table, -1: it is none of its rows. */
int metric_index(const Metric *m);
int metric_count(void);
/* Metric.any_level, or its pass's. */
bool metric_any_level(const Metric *m);
/* How many parts its scores have. */
int metric_parts(const Metric *m);
/* Lists of rows, ended by NULL: how many there are (list may be NULL), and a copy (caller frees; NULL: memory is short). */
size_t metric_list_len(const Metric *const *list);
const Metric **metric_list_copy(const Metric *const *list);
/* Metric.score, or the value of its pass. */
double metric_score(const Metric *m, const Scores *s, int64_t unit, const QConfig *q, char *why, int why_size);
/* Whether a pass came by the unit and left what the metric needs; whether that was under other data, arithmetic or
 * levels. */
bool metric_has(const Metric *m, const Scores *s, int64_t unit);
bool metric_stale(const Metric *m, const Scores *s, int64_t unit);
/* The arithmetics in which what metric_has finds of the unit was made, as bits 1 << ArithMode. */
unsigned metric_ariths(const Metric *m, const Scores *s, int64_t unit);

#endif
