#ifndef SLIM_SESSION_LOADED_H
#define SLIM_SESSION_LOADED_H

#include "session/session.h"

/* Metrics of a session whose scores other programs made. Owner thread. */

/* Where scores come from. */
typedef struct LoadedFrom {
    const char *file;          /* LoadedScores.file */
    bool kept;                 /* a run of slimscope's */
    int direction;             /* Metric.direction */
} LoadedFrom;

/* Takes over values [units of the scope], also on an error; replaces one of this name. The journal is not told. */
Status loaded_put(Session *s, const char *name, const LoadedFrom *from, MetricScope scope, double *value, Error *err);
/* Keeps what a session knows of each metric as a column RUN.METRIC of `to`, in the journal, too; `what`: what it was made
 * with; data: only of metrics that depend on calibration texts. Units are matched by their names. *columns: how many. */
Status loaded_keep(Session *to, const Session *from, const char *run, const char *what, bool data, int *columns, Error *err);
/* Takes away the columns name.METRIC and the one of this name; how many. The journal is not told. */
int loaded_drop(Session *s, const char *name);
/* Forgets all: another model is opened, or the session ends. */
void loaded_close(Session *s);

#endif
