#ifndef SLIM_SRC_OUTPUT_H
#define SLIM_SRC_OUTPUT_H

#include "metric/metric.h"
#include "session/session.h"

/* Results as text for people, JSON, CSV or YAML (specs/analysis.md 7; DECISIONS, "JSON"). */
typedef enum OutFormat { OUT_TEXT, OUT_JSON, OUT_CSV, OUT_YAML } OutFormat;
/* Of a --format value that was checked; NULL: text. */
OutFormat out_format(const char *name);

/* One row of a ranking. */
typedef struct RankedRow {
    int64_t unit;        /* of the metric's scope; a linear where that is SCOPE_LINEAR */
    int64_t parameters;
    bool failed, unseen; /* unseen: no token reached it, so it is not measured */
    double score;        /* NaN for these two */
    const char *reason;  /* of these two; borrowed */
    int rank;            /* 1-based among scored rows, 0 for these two */
    bool tied;           /* its score does not differ surely from that of the row above (metric/sampleparts.h) */
} RankedRow;
/* What of a ranking is there. */
typedef struct RankCount {
    int64_t wanted;          /* units asked for */
    int64_t scored, failed;  /* of those; the rest no token reached, or no pass came by */
    int64_t unseen;
} RankCount;
/* Rows of a metric, one a unit of its scope, in rank order: failed ones first, then by sensitivity, ties in model order,
 * then unseen ones; those that no pass came by are left out. selected (may be NULL): only units with one of these linears.
 * Caller frees *out. */
Status ranking_make(const Session *s, const Metric *m, const bool *selected, RankedRow **out, int64_t *n, Error *err);
/* The end of the rows that the first `topk` groups of equal scores take; failed rows, which come first, are no groups and
 * unseen ones, which come last, never are among them. */
int64_t ranking_cut(const RankedRow *rows, int64_t n, int topk);

typedef struct RankRequest {
    const Metric *const *metrics; /* NULL-terminated */
    const char *const *patterns;  /* as given, for the text's head; [npatterns] */
    int npatterns;                /* 0: shown as '*' */
    const bool *selected;         /* [nlinears], NULL: all */
    int topk;                     /* text and YAML: groups of equal scores */
    bool stopped;                 /* the analysis ended early: what is missing in the ranking is said so */
    const ProfileReport *profile; /* of OUT_JSON; NULL: none is given */
} RankRequest;
/* Counts of one metric's ranking. */
Status ranking_count(const Session *s, const Metric *m, const bool *selected, RankCount *out, Error *err);
/* Appends the ranking of each metric in a format. OUT_YAML takes one metric only. */
Status output_ranking(Session *s, OutFormat f, const RankRequest *r, Str *out, Error *err);

/* Append ,"processors":["kv_smooth"] where a recipe's processors change the model; nothing elsewhere. */
void output_changes_json(const Recipe *r, Str *out);

/* Append what is predicted for the present assignment, and from how many measurements: words without a line's end;
 * ,"prediction":{...}. */
void output_prediction(const Prediction *p, Str *out);
void output_prediction_json(const Prediction *p, Str *out);
/* The same of the measurement that stands for the present assignment: of it, stale, or of another recipe. */
void output_measured(Session *s, Str *out);
void output_measured_json(Session *s, Str *out);
/* Append what one measurement is different in from another: whether it is better, in words without a line's end
 * ("undecided at 1,024 tokens: ..."); the figures in front of these; as an object. */
void output_verdict(const Paired *p, Str *out);
void output_paired(const Paired *p, Str *out);
void output_paired_json(const Paired *p, Str *out);
/* Appends a measurement: OUT_TEXT or OUT_JSON. profile as in RankRequest. */
Status output_effect(Session *s, OutFormat f, const Effect *e, const ProfileReport *profile, Str *out, Error *err);

/* Append what fit chose (was[nlinears]: the levels before), the front, what a search measured: OUT_TEXT or OUT_JSON. */
Status output_fit(Session *s, OutFormat f, const char *goal, const FitDone *d, const int16_t *was, bool dry, Str *out,
                  Error *err);
/* The same in one line, of a fit that was done. */
void output_fit_line(Session *s, const char *goal, const FitDone *d, Str *out);
Status output_front(Session *s, OutFormat f, const FrontRow *rows, int64_t n, Str *out, Error *err);
Status output_tune(Session *s, OutFormat f, const TuneView *v, Str *out, Error *err);
/* Appends the guide (session/guide.h): OUT_TEXT or OUT_JSON. brief: as text, its steps alone. */
Status output_guide(Session *s, OutFormat f, bool brief, Str *out, Error *err);

/* Appends what is known of interactions: OUT_TEXT or OUT_JSON. */
void output_interactions(Session *s, OutFormat f, const InteractView *v, Str *out);

/* The texts of the calibration set, which are read: OUT_TEXT, OUT_JSON or OUT_CSV; one of them with all that is known of it. */
Status output_texts(Session *s, OutFormat f, Str *out, Error *err);
Status output_text(Session *s, int64_t number, Str *out, Error *err);
/* What other texts do to the present assignment (session_calib_trial): OUT_TEXT or OUT_JSON. */
Status output_trials(Session *s, OutFormat f, Str *out, Error *err);

/* Append where CPU time went: a table; ,"profile":{...}, nothing when there is none. */
void output_profile(const ProfileReport *r, Str *out);
void output_profile_json(const ProfileReport *r, Str *out);

struct ModelFacts;
/* Appends what a model is made of as text (session/facts.h); now: with its folder as it was given and the memory that is free at
 * this moment, else the folder as seen from here. */
void output_model(const struct ModelFacts *f, bool now, Str *out);
/* Appends a data set as an object, its texts or windows under the name `count`. */
void output_data_json(const DataInfo *d, const char *count, Str *out);
/* "+12.3 MiB" */
void str_delta(Str *out, double bytes);
/* "12.3 MiB". */
void str_bytes(Str *out, uint64_t bytes);

#endif
