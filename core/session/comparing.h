#ifndef SLIM_SESSION_COMPARING_H
#define SLIM_SESSION_COMPARING_H

#include "session/session.h"

/* What is compared in a session, two things at a time: measurements, and rankings (session/ranking.h). */

enum { MARK_A, MARK_B, MARKS, THING_MAX = 160 };

/* ---- runs ---- */

/* Keeps the session's present scores as columns NAME.METRIC (session/loaded.h), which nothing changes any more; *columns: how
 * many. ST_USAGE where there is none, or for a name that can't be. A new calibration set does so by itself with what it makes
 * stale, under the name of the old one. */
Status session_keep_scores(Session *s, const char *name, int *columns, Error *err);
/* Keeps those of another session (id), which is read and not changed, as name.METRIC, and, where its model has the same linears,
 * its measurements as NUMBER@name (name NULL: its id). ST_DATA where it has nothing about a layer of this model. */
Status session_keep_other(Session *s, const char *id, const char *name, int *columns, int *measured, Error *err);

/* Drops what was kept, loaded or brought in as `run`: its columns run.METRIC, or the column of exactly this name, and its
 * measurements NUMBER@run; marks on them go, too. In the journal; no undo step. How many of each. ST_USAGE where there is nothing of this
 * name. */
Status session_drop_kept(Session *s, const char *run, int *columns, int *measured, Error *err);
/* As which run session_drop_kept drops a column or a measurement of this name; "": it is this session's own. */
void session_kept_run(const Session *s, const char *name, char run[THING_MAX]);

/* Appends where the scores of a metric come from: "now: boolq.jsonl, 5 texts, 320 tokens #ec77, fp32", that they are
 * stale, or what a run that was kept, or a file, says. */
void session_scores_from(const Session *s, const Metric *m, Str *out);

/* ---- marks ---- */

/* Marks a thing as A or B by its name: a measurement's (session_measurement_find) or a ranking's; NULL takes the mark away.
 * In the journal; no undo step. ST_USAGE for what is neither. */
Status session_mark(Session *s, int which, const char *thing, Error *err);
/* "" where nothing is marked. */
const char *session_marked(const Session *s, int which);
/* A becomes B, and B A. */
void session_swap_marks(Session *s);
/* The metric that is marked, NULL: none is, or a measurement. */
const Metric *session_marked_metric(const Session *s, int which);
/* The measurement that is marked, -1: none is, or what is marked is no measurement (any more). */
int session_marked_measurement(const Session *s, int which);
/* Grows with everything that a list or a comparison shows: marks, measurements, scores, levels. */
uint64_t session_compare_version(const Session *s);

/* ---- measurements ---- */

/* One thing in which two were made differently. */
typedef struct Difference {
    const char *what;           /* "calibration" */
    char a[200], b[200];
} Difference;
enum { DIFFERENCES_MAX = 12 };

typedef struct MeasuredPair {
    Measurement a, b;
    Paired p;                   /* a - b */
    bool sized;                 /* the recipes of both are known: */
    SizeReport size[2];
    LevelChange *change;        /* from those of a to those of b, in model order */
    int64_t changes;
    Difference differs[DIFFERENCES_MAX];
    int ndiffers;
    bool told;                  /* both tell what they were made with */
    Str config;                 /* recipe and rules: lines of a behind '-', of b behind '+'; a heading before each part */
} MeasuredPair;
/* Two measurements by their places (session_measurement). What it points to is borrowed until the next call that changes the
 * session; the caller frees with measured_pair_fini. */
Status measured_pair(const Session *s, int a, int b, MeasuredPair *out, Error *err);
void measured_pair_fini(MeasuredPair *p);
/* Appends in a few words what differs: "calibration only", "levels of 3 linears, recipe", "nothing". */
void measured_pair_differs(const MeasuredPair *p, Str *out);

/* Appends in a few words which levels a measurement gave: "all W8A8", "float: gate_proj up_proj x2, o_proj x1"; brief: names without
 * their "_proj". */
void session_measurement_levels(const Session *s, const Measurement *m, bool brief, Str *out);

/* Makes the levels of a measurement, its rules and its recipe the present ones again, as one undo step. *changed (may be
 * NULL): linears with another level. ST_USAGE where its recipe is not known. */
Status session_take(Session *s, int i, int64_t *changed, Error *err);

#endif
