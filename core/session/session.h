#ifndef SLIM_SESSION_SESSION_H
#define SLIM_SESSION_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/profile.h"
#include "base/str.h"
#include "metric/metric.h"
#include "model/model.h"
#include "measure/paired.h"
#include "process/work.h"
#include "recipe/pattern.h"
#include "recipe/recipe.h"
#include "recipe/runtime.h"
#include "save/attention.h"
#include "save/format.h"
#include "save/target.h"
#include "save/verify.h"
#include "session/goal.h"
#include "tune/predict.h"

/* What a person works on: model, data, recipe, assignment, runs, undo, journal, and the one job thread with its queue.
 * All functions are for one thread (the owner); jobs post events, session_pump applies them. */
typedef struct Session Session;

struct AutotuneView; /* session/autotune.h */
typedef struct SessionOptions {
    int threads;             /* 0: every core */
    uint64_t mem;            /* bytes; 0: 70 % of what is available */
    ArithMode arith;
    bool peer;               /* --compat peer (implies ARITH_EXACT) */
    const Runtime *runtime;  /* engine whose rules must hold; NULL: those of the recipe's savers are told */
    int max_samples;         /* 0: no limit */
    int64_t seq_len;         /* 0: no limit */
    int64_t ctx;             /* evaluation window, default 512 */
    int64_t eval_tokens;     /* default 1024; --full: 0 */
    int64_t tokens;          /* of analyses that take few: alone; 0: their own number */
    bool data_labels;        /* gradients are of the texts' next tokens, not of tokens drawn from the model */
    uint64_t seed;           /* default 42 */
    const char *state_dir;   /* where sessions live; NULL: nothing is written (one-shot commands) */
    const char *cache_dir;   /* NULL: RAM only */
    Goal budget;             /* of bytes or bits, that sets are held against; text "": none */
    uint64_t session_cap;    /* bytes that all sessions may take on disk; 0: no limit */
    struct Dist *dist;       /* over whose ranks jobs are divided; NULL: this process does all */
    const char *words;       /* of the command line that began it, for those that attach; NULL: none */
    bool read_once;          /* ranks that divide texts read each layer's weights once together, instead of each all of them */
    bool profile;            /* jobs tell where their CPU time went (session_profile) */
    bool once;               /* no second measurement is to come, which could begin with the states of the first */
    bool attended;           /* somebody works on a screen meanwhile: compute threads stand back */
    bool asks;               /* there is somebody who answers what a job asks (session/autotune.h) */
    bool read_only;
    /* writes one more report of a tuning plan, beside report.md and report.json, after every try; NULL: there is none */
    Status (*plan_report)(const struct AutotuneView *v, Error *err);
    bool force;              /* session_restore goes on although the model is not the one that was recorded */
    /* finds a data set by name ("mix_calib.jsonl"), or a file of practices ("lab_practice/experience.yaml"): caller's search
     * path; returns a malloced path or NULL with err set */
    char *(*find_data)(void *ctx, const char *name, Error *err);
    void *find_ctx;
} SessionOptions;
void session_options_default(SessionOptions *o);

Status session_new(Session **out, const SessionOptions *o, Error *err);
/* Stops the job, writes what is to be kept, frees. The first error of everything that was to be saved. */
Status session_close(Session *s, Error *err);
/* The same where nobody can be told. */
void session_free(Session *s);
const SessionOptions *session_options(const Session *s);
/* Changes a setting (session/settings.h); refused while a job runs. */
Status session_set(Session *s, const char *key, const char *value, Error *err);

/* ---- what is open ---- */
Status session_open_model(Session *s, const char *path, const char *model_type, Error *err);
Status session_set_calib(Session *s, const char *name_or_path, Error *err); /* checked and tokenized by the first job */
Status session_set_eval(Session *s, const char *name_or_path, Error *err);
/* NULL: the default recipe. Of a model that has one already it is one undo step, which keeps what was decided but for
 * levels that the new one has not; `what` (may be NULL) is told in a line what became of it. */
Status session_open_recipe(Session *s, const char *path, Str *what, Error *err);
/* What analyses from here on quantize with: "recipe" (at first): the open recipe's levels; "peer": what msModelSlim's own
 * analyze takes, where a pass names that, else the recipe's levels; the name of a row of scheme_table that this build
 * runs: all linears so. */
Status session_set_scheme(Session *s, const char *name, Error *err);
/* Whether one scheme is what metrics of the pass are scored at; false: the recipe's levels. */
bool session_scheme(const Session *s, const MetricPass *pass, QConfig *out);
const Model *session_model(const Session *s);   /* NULL before open */
const Recipe *session_recipe(const Session *s);
const char *session_calib(const Session *s);    /* name or path as set */
const char *session_eval(const Session *s);
/* Of the newest run: samples, tokens, SHA-256 of the file; zeros before the first. */
typedef struct DataInfo {
    const char *name;
    char sha256[65];
    int samples;
    int64_t tokens;
} DataInfo;
DataInfo session_calib_info(const Session *s);
DataInfo session_eval_info(const Session *s);

/* ---- assignment, tags, undo ---- */
int session_levels(const Session *s);                       /* number of levels, float included */
const char *session_level_name(const Session *s, int level); /* "float", "W8A8", "W8A8#2" */
int session_level_find(const Session *s, const char *name);  /* -1 unknown */
int session_level_of(const Session *s, int64_t linear);
bool session_tagged(const Session *s, int64_t linear);
int64_t session_tag_count(const Session *s);

/* Linears a target names: a pattern, an exact linear name, or "tagged". hits[nlinears] is set. No hit: ST_DATA with the
 * nearest name. */
Status session_target(const Session *s, const char *target, bool *hits, int64_t *count, Error *err);
/* What the exclude, include and level commands do, one undo step: all that the targets name (session_target), with their
 * fused groups, gets this level. `include` true, `level` unused: what is float goes back to the recipe's level for it
 * (the first entry that would take it, ignoring excludes; else level 1). It is done by rules: rows about nothing but
 * these linears that say otherwise go, and a row a target comes where it is needed, and for float always. *changed (may
 * be NULL): linears with another level. */
Status session_edit(Session *s, const char *const *targets, int n, int level, bool include, int64_t *changed,
                    Error *err);
Status session_tag(Session *s, const bool *hits, bool on, Error *err); /* undoable */
/* what (may be NULL): a line telling what was undone. ST_USAGE when there is nothing. */
Status session_undo(Session *s, Str *what, Error *err);
Status session_redo(Session *s, Str *what, Error *err);
int session_undo_depth(const Session *s);
int session_redo_depth(const Session *s);
uint64_t session_edit_version(const Session *s); /* grows with every change of the assignment */

/* What-if list: rules that are applied to the recipe's levels in this order, those that are on. The float linears are
 * the union of the rows that send to float, but for what a later row quantizes. */
enum { WHATIF_QUANTIZE = -1 };
typedef struct WhatIf {
    const char *pattern;
    int to;                   /* level it gives, 0: float; WHATIF_QUANTIZE: the recipe's, to those that are float */
    bool on;
    int64_t hits;             /* linears it takes: those it selects, with their fused groups */
    int64_t joined;           /* of these, the ones that only their groups bring */
    int64_t bytes;            /* size change of all of these by itself */
    double share;             /* of what quantizing all groups does (Prediction.sum) that it gives back by itself; NaN unknown */
    int64_t fresh;            /* linears to which it gives a level that the rows before it don't (one that is off: would
                                 give if switched on now) */
    double fresh_bits;        /* weight bits per weight that these change */
    int64_t fresh_bytes;      /* and what these alone change: the sums over the rows that are on are the list's */
    double fresh_share;
    char note[240];           /* what is odd about it, "" nothing */
} WhatIf;
int session_whatifs(Session *s);
/* A row; one without figures where there was no memory for them. */
const WhatIf *session_whatif(Session *s, int i);
/* All rows, borrowed until the next call that changes the session. */
Status session_whatif_list(Session *s, const WhatIf **rows, int *n, Error *err);
/* The same figures for a pattern that is only being typed: as the next row, to float, or in place of the row with the
 * pattern `instead` (NULL: none). ST_DATA when it doesn't compile. */
Status session_preview(Session *s, const char *pattern, const char *instead, WhatIf *out, Error *err);
/* Change a row, each one undo step. A row is named by its pattern (or by a linear of the group that is its pattern); no
 * such row: ST_DATA naming those there are. *changed (may be NULL): linears with another level. */
Status session_rule_switch(Session *s, const char *rule, bool on, int64_t *changed, Error *err);
Status session_rule_delete(Session *s, const char *rule, int64_t *changed, Error *err);
Status session_rule_edit(Session *s, const char *rule, const char *pattern, int64_t *changed, Error *err);
Status session_rule_move(Session *s, const char *rule, int by, int64_t *changed, Error *err); /* rows; < 0: up */

/* ---- jobs ---- */
typedef enum JobKind { JOB_ANALYZE, JOB_MEASURE, JOB_QUANTIZE, JOB_EVALUATE, JOB_GENERATE } JobKind;
typedef enum JobState { JOB_WAITING, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_STOPPED } JobState;
/* Its texts are never NULL, and hold until the next call that changes the session. */
typedef struct JobView {
    int id;
    JobKind kind;
    JobState state;
    const char *title;       /* "kurtosis+local_error" */
    const char *phase;
    int64_t done, total;     /* layers */
    double elapsed, eta;     /* seconds; eta < 0: not known yet */
    uint64_t bound, peak;    /* planner's bound and measured peak, bytes */
    const char *last;        /* last finished row and its score */
    const char *error;
    Status status;
    int ok, failed, unseen;  /* rows; unseen: session_unseen */
    int warned;              /* warnings in the log that are its own */
    const char *bad;         /* name of the linear whose weight is the first to hold a NaN or Inf, "" */
    int behind;              /* waits: id of the job before it, 0: none */
    bool gives_way;          /* waits: and what is asked for later comes before it */
    int place;               /* 0: runs, 1: next, ..., -1: has ended */
    bool paused;             /* runs and stands still, or waits and will not start by itself */
    bool earlier;            /* waits, of an earlier sitting: until something goes on with the queue */
    double estimate;         /* waits: seconds that the newest job of its kind took, for as much work; < 0: none did */
    uint64_t held;           /* paused while it runs: bytes that the process holds */
    bool resumable;          /* ended before its end, and session_resume_job goes on with it */
    const char *target;      /* the folder that a quantization writes to */
    bool plan;               /* a step of a tuning plan (session/autotune.h) */
    bool measured;           /* a measurement that is done found: */
    double kl, kl_se, ppl, ppl_float, top1;
} JobView;

/* Queues an analysis, a job for each pass that the metrics are made by (block_error's collects statistics on its way); the
 * first of them is shown where the shown one has no score. metrics: NULL-terminated names of metric_table;
 * unknown or not built: ST_USAGE naming those that are. patterns: n texts (0 = all linears). detail: also collect what
 * the detail pane shows. A pass asked for again with nothing changed is answered from what is there. */
Status session_analyze(Session *s, const char *const *metrics, const char *const *patterns, int npatterns, bool detail,
                       Error *err);
/* Queues a measurement of the present assignment. */
Status session_measure(Session *s, bool full, Error *err);
/* Goes on with a job that is paused, waits since an earlier sitting (and all others that do), was stopped or failed: an
 * analysis from its last whole layer, a quantization with what lies in its folder. id 0: with the newest that can be gone on
 * with, else with those that are paused. Asking for the analysis again (session_analyze) does the
 * same. ST_USAGE when there is nothing to go on with. */
Status session_resume_job(Session *s, int id, Error *err);
/* The analysis that can be gone on with: steps done, of how many, and what they are ("layer"). false: there is none. */
bool session_stopped(const Session *s, int64_t *done, int64_t *total, const char **step);
/* Stops the job that runs (or is the next to); those that wait behind it run on. level 1: after the tile, rows are
 * kept; 2: at once. Without a job: ST_USAGE. */
Status session_cancel(Session *s, int level, Error *err);
/* The same for the job with this id; one that waits never starts. */
Status session_cancel_job(Session *s, int id, int level, Error *err);
/* A job that runs stands still after its tile and keeps all that it has; one that waits does not start. on false: it goes
 * on. id 0: the job that runs, or is the next to; off, all that are paused. */
Status session_pause_job(Session *s, int id, bool on, Error *err);
/* Moves a job that waits by so many places towards the front (by < 0) or the end of the queue; past an end: to it. */
Status session_move_job(Session *s, int id, int by, Error *err);
/* Takes a job that has ended off the list, 0: all that have. What it found stays; a stopped analysis is not gone on with. */
Status session_discard_job(Session *s, int id, Error *err);
/* Goes on with what an earlier sitting left: its stopped job, unless that was paused, then those that waited behind it, in
 * their order. *waiting (may be NULL): how many these are. ST_USAGE when it left nothing. */
Status session_go_on(Session *s, int *waiting, Error *err);
bool session_busy(const Session *s);  /* a job runs or waits */
bool session_works(const Session *s); /* and is not paused: something will come of waiting */
int session_jobs(const Session *s);
const JobView *session_job(Session *s, int i); /* i = 0: oldest */
/* The job with this id, NULL: none. */
const JobView *session_job_find(Session *s, int id);
/* That ended last in this sitting, NULL: none, or it was discarded; *times: how many did. */
const JobView *session_job_ended(Session *s, int *times);

/* Where the CPU time went of the job that ended last, with those that the same analysis asked for; workers 0: it was not
 * asked for (SessionOptions.profile). */
void session_profile(const Session *s, ProfileReport *out);

/* Readable when events wait; for poll. */
int session_fd(const Session *s);
enum { EV_ROWS = 1, EV_PROGRESS = 2, EV_JOB = 4, EV_EFFECT = 8, EV_MESSAGE = 16, EV_TEXTS = 32 /* session/calibset.h */,
       EV_PICTURE = 64 /* session/picture.h */ };
/* Applies waiting events without blocking; which kinds there were. */
unsigned session_pump(Session *s);
/* Blocks until idle (pumping). Status of the job that was queued last; of the first that did not end well where one
 * analysis queued several. */
Status session_wait(Session *s, Error *err);

/* ---- results ---- */
typedef enum ScoreState { SCORE_NONE, SCORE_QUEUED, SCORE_OK, SCORE_FAILED, SCORE_STALE } ScoreState;
typedef struct Score {
    ScoreState state;
    double value;
    const char *reason;  /* SCORE_FAILED; SCORE_NONE of an expert that no token reached; borrowed */
} Score;
/* Of the unit of the metric's scope that the linear belongs to; SCORE_NONE when it belongs to none. */
Score session_score(const Session *s, const Metric *m, int64_t linear);
Score session_unit_score(const Session *s, const Metric *m, int64_t unit);
/* What Metric.parts names of it, borrowed until the next call that changes the session; NULL: there are none. */
const double *session_unit_parts(const Session *s, const Metric *m, int64_t unit);
/* Tokens behind it, -1: not known. */
int64_t session_unit_tokens(const Session *s, const Metric *m, int64_t unit);
/* Whether the newest pass watched this linear of a routed expert and no token came: it is not measured. */
bool session_unseen(const Session *s, int64_t linear);
/* Tokens that reached the routed experts in the newest pass. */
typedef struct Coverage {
    int64_t experts, unseen;       /* measured ones of all layers, and those no token reached */
    int64_t first_unseen;          /* a linear of the first, -1 when there is none */
    int64_t fewest, fewest_tokens; /* a linear of the one with fewest tokens above zero, -1 when there is none */
    double median;                 /* of all, also the unseen */
} Coverage;
/* false: no expert was in a pass. */
bool session_coverage(const Session *s, Coverage *out);
bool session_has_run(const Session *s, const Metric *m);
/* Summary of the newest pass over this linear, NULL before. */
const LinearResult *session_result(const Session *s, int64_t linear);
/* The same of the model as its checkpoint has it, where the open recipe changes it; NULL: it doesn't, or nothing is known
 * of it with the present texts. */
const LinearResult *session_result_before(const Session *s, int64_t linear);
/* The arithmetics in which a unit was scored (arith_names), 0: it was not. */
unsigned session_unit_ariths(const Session *s, const Metric *m, int64_t unit);

/* What the present assignment will show (tune/predict.h): from the KL of each fused group alone, or its block_error where
 * that was not measured, and from the measurements of this recipe, data and arithmetic on as many tokens as the newest of
 * them. */
typedef struct Prediction {
    bool no_memory;        /* there was too little for it: nothing below but size is told */
    bool have;             /* what each group weighs is known, at its home level and the present one */
    int64_t groups, unknown; /* fused groups that logits depend on and quantize; of them without either metric */
    int64_t alone;         /* of them with their own KL */
    double sum;            /* of the weights of the quantized groups */
    double share_back;     /* of the sum at the home levels, given back by the present ones, 0..1 */
    int measurements;      /* that the line goes through; 0: neither of the following is known */
    TuneRange kl;
    TuneRange ppl;         /* of perplexity, change relative to float's: 0.01 is +1 % */
    bool measured;         /* one of the measurements is of this very assignment: nothing is foretold */
    double without, miss;  /* then: the KL that the others foretell of it, and its relative error; NaN: there are none */
    SizeReport size;
} Prediction;
Prediction session_predict(Session *s);

/* ---- fit and tune ---- */

/* What can be had by giving groups other levels; what rules hold stays. */
typedef struct Reach {
    int64_t low, high;          /* bytes of the model */
    double bits_low, bits_high; /* weight bits per weight */
    double kl_low, kl_high, ppl_low, ppl_high; /* as far as is foretold; NaN: nothing is. ppl: relative change */
    int64_t opened;             /* bytes as the recipe gives the model by itself */
} Reach;
Status session_reach(Session *s, Reach *out, Error *err);
/* The limit that was set (set budget=). */
typedef struct Budget {
    bool bits;                  /* weight bits per weight, else bytes */
    bool more;                  /* of bytes beyond what the recipe gives by itself */
    double limit, used;         /* used: by the present set */
    double low, high;           /* what can be had, in the same unit */
} Budget;
/* false: there is none, or no model is open. */
bool session_budget(Session *s, Budget *out);

/* Groups that an allocation leaves as they are. */
typedef struct FitLeft {
    int64_t held;      /* by rules */
    int64_t excluded;  /* the recipe keeps them float, or splits them */
    int64_t refused;   /* levels of groups that the engine (--runtime) does not load */
} FitLeft;
typedef struct FitOptions {
    bool free;         /* what rules decided may change, too */
    bool dry;          /* nothing is changed */
} FitOptions;
typedef struct FitDone {
    int64_t changed;   /* linears with another level */
    int64_t groups;    /* fused groups with another level */
    int16_t *level;    /* [nlinears] what was chosen */
    SizeReport before, after;
    double sum_before, sum; /* of what groups weigh */
    TuneRange kl, ppl; /* foretold of it; ppl: relative change */
    FitLeft left;
} FitDone;
/* Gives groups the levels that reach a goal (session/goal.h) at the least loss, or with the fewest bytes, by prediction
 * alone: one undo step, by rules. Exact allocation, as tune_allocate tells. ST_USAGE when groups' weights are not known,
 * when nothing was measured that tells KL or perplexity, or when the goal is out of reach: with what can be had. */
Status session_fit(Session *s, const char *goal, const FitOptions *o, FitDone *out, Error *err);
void fit_done_free(FitDone *d);
/* What fit would come to, told by the greedy way alone, which takes no time: for a goal that is being typed. */
typedef struct FitLook {
    int64_t groups;    /* that are not at the recipe's own level */
    int64_t bytes;     /* of the model */
    double bits;       /* weight bits per weight */
    TuneRange kl, ppl;
} FitLook;
Status session_fit_look(Session *s, const char *goal, FitLook *out, Error *err);

/* One step by hand: n > 0 groups get the next level of most loss per byte; n < 0: -n of those that the recipe gives less
 * go back, the least loss per byte first, also where a rule sends them. */
typedef struct GrowDone {
    int64_t groups;            /* that changed: fewer than n where no more can */
    int64_t bytes;             /* more than before */
    int64_t group;             /* the last of them */
    int level;                 /* that it got */
    double sum_before, sum;    /* of what groups weigh */
    Prediction before;
} GrowDone;
/* One undo step. ST_USAGE when what groups weigh is not known, or none can change, with the reason. */
Status session_grow(Session *s, int n, GrowDone *out, Error *err);

/* ---- interactions ---- */

/* Whether groups do together what the sum of each alone foretells: every group of a set alone, all of them together, and
 * the pairs of those that do most, each quantized with everything else in float, KL on the tokens of alone. */
typedef struct InteractAsk {
    const char *const *targets; /* groups that have a linear of these, at the levels they are quantized to; */
    int n;                      /* 0: those that the present set gives back, at the levels it would quantize them to */
    int64_t pairs;              /* at most so many */
    bool dry;                   /* only the cost is told */
} InteractAsk;
typedef struct InteractCost {
    int64_t groups, among, pairs; /* of the set; of them in pairs; pairs */
    int64_t sets, tokens;       /* that are to be measured: others are known */
    double passes;              /* float passes over 4,000 tokens that this takes, about */
} InteractCost;
/* Queues it as a job, whose sets are kept as they come: asked for again after a stop it goes on. ST_USAGE for fewer than
 * two groups. */
Status session_interact(Session *s, const InteractAsk *ask, InteractCost *cost, Error *err);
typedef struct InteractPair {
    int64_t a, b;               /* groups */
    double apart, joint, error; /* KL: sum of both alone, both together, standard error of that */
} InteractPair;
typedef struct InteractView {
    int64_t groups, among;
    const int32_t *group;       /* [groups] the one that does most first */
    int64_t known, wanted;      /* sets */
    int64_t tokens;
    double sum, joint, error;   /* of each alone; of all together, and its standard error. NaN: not known yet */
    const InteractPair *pair;   /* [npairs] those known, by how far they are from their sum */
    int64_t npairs;
    bool present;               /* of what the present set gives back */
    bool runs;
} InteractView;
/* What is known of the newest question; borrowed until the next call that changes the session. */
Status session_interactions(Session *s, InteractView *out, Error *err);

/* ---- sets kept under names ---- */
enum { SET_NAME_MAX = 25 };
/* Keeps the present set, its rules and its recipe, under a name; one that has it is replaced. */
Status session_keep(Session *s, const char *name, bool *replaced, Error *err);
/* Forgets one. */
Status session_keep_not(Session *s, const char *name, Error *err);
/* Makes a kept set the present one, with its recipe; NULL: the next of those that are kept, or the one
 * kept last where none of them is the present one. One undo step. *changed:
 * linears; *took: its name, borrowed. */
Status session_swap(Session *s, const char *name, int64_t *changed, const char **took, Error *err);
typedef struct KeptView {
    const char *name;
    const Recipe *recipe;
    const int16_t *level;      /* [nlinears] under that recipe */
    bool present;              /* it is the present set */
    bool comparable;           /* of the present recipe: what is foretold and measured is told */
    Prediction predicted;      /* size, also of another recipe */
    int measurement;           /* index for session_measurement, -1: not measured */
} KeptView;
int session_kept_sets(const Session *s);
/* In the order in which they were kept. Borrowed until the next call that changes the session. */
KeptView session_kept_set(Session *s, int i);

/* A point of the front: the most that so many bytes give, or a measurement; one that is both foretells nothing. */
typedef struct FrontRow {
    int64_t bytes;     /* of the model */
    int64_t floats;    /* groups in float */
    double sum;        /* NaN where a weight is not known */
    TuneRange kl, ppl; /* foretold, without a measurement NaN */
    double kl_measured, ppl_measured; /* NaN: it was not; ppl: relative change */
    int measurement;   /* its id, 0: none */
    int64_t group;     /* that got another level last, -1: none, or a measurement */
    int to;            /* its level */
    bool knee;
} FrontRow;
/* The predicted front from the fewest bytes to the most, with its knee, and every measurement that predictions go by, in
 * order of bytes. Caller frees. */
Status session_front(Session *s, bool free_rules, FrontRow **rows, int64_t *n, Error *err);
/* The same for looking at: of many points about FRONT_POINTS, the ends and the knee among them, and every measurement.
 * Borrowed until the next call that changes the session. */
enum { FRONT_POINTS = 160 };
Status session_front_rows(Session *s, const FrontRow **rows, int64_t *n, Error *err);

/* One set that a search measured. */
typedef struct TuneTry {
    int64_t bytes;     /* of the model */
    int64_t floats;    /* linears */
    Effect effect;
    bool holds, best;
} TuneTry;
typedef enum TuneState { TUNING_NONE, TUNING_RUNS, TUNING_STOPPED, TUNING_MET, TUNING_MISSED, TUNING_FAILED } TuneState;
typedef struct TuneView {
    TuneState state;
    const char *goal, *text; /* text: what it does or did, one line */
    const TuneTry *tries;    /* [ntries] in the order in which they were measured; those used of earlier ones first */
    int ntries, best;        /* -1: none */
    int64_t base_bytes;      /* of the assignment as the recipe gives it */
    double block_seconds, alone_seconds, measure_seconds; /* of the jobs that it queued in this sitting */
} TuneView;
/* Searches the fewest bytes that hold a goal by measuring: what groups weigh is analyzed first where it is not known,
 * then tune_next says what to measure. Every measurement is an ordinary one. In the end, also when it is stopped, the
 * best set that holds the goal becomes the assignment as one undo step, or, without one, the one of least loss. */
typedef struct TuneOptions {
    bool free, full;   /* full: on the whole evaluation set */
} TuneOptions;
Status session_tune(Session *s, const char *goal, const TuneOptions *o, Error *err);
/* The newest search; borrowed until the next call that changes the session. */
Status session_tuning(Session *s, TuneView *out, Error *err);

/* Measurement of the present assignment, else the newest one under this recipe, data and arithmetic; NULL without one.
 * *differs (may be NULL): linears that have another level since, 0 = it is of the present assignment. */
const Effect *session_effect(Session *s, int64_t *differs);
/* Where session_effect has none: the newest measurement there is, of another recipe (*recipe: its name) or of other data
 * or settings (*recipe: NULL). It says nothing about the present assignment. NULL: none. */
const Effect *session_other_effect(Session *s, const char **recipe);
/* Measurement of the assignment as the recipe gives it, over as many tokens as the present one's where there is such a
 * one; NULL when not measured. */
const Effect *session_base_effect(const Session *s);

/* A data set as a measurement or a run used it. */
typedef struct DataPrint {
    char name[128], sha256[65]; /* "": not recorded */
    int samples;
    int64_t tokens;
} DataPrint;
/* Under what a measurement was made. */
typedef struct MadeWith {
    int64_t when;               /* seconds since the epoch; 0: a program recorded it that told nothing of all this */
    char version[24];           /* of the program */
    DataPrint calib, eval;
    bool peer;                  /* --compat peer */
    int64_t ctx;                /* these as in SessionOptions */
    uint64_t seed;
} MadeWith;

/* Every measurement of the session, in the order in which they came: 0 is the oldest. */
typedef struct Measurement {
    int id;                     /* stays the same */
    char name[48];              /* by which it is named: "3", of another session that was brought in "3@NAME" */
    const Effect *effect;
    const TokenBlocks *blocks;  /* NULL: recorded by a program that kept none */
    const Recipe *recipe;       /* NULL: not known */
    const int16_t *level;       /* [nlinears] */
    const MadeWith *made;
    const char *rules;          /* the rules that were on, a line each; NULL: not known */
    bool present;               /* of the present assignment, data and settings */
    bool base;                  /* of the assignment as the present recipe gives it */
    bool comparable;            /* of the present recipe, data, settings and arithmetic: only its levels may differ */
} Measurement;
int session_measurements(const Session *s);
/* With those of other sessions that were brought in, which come behind (session/comparing.h). */
int session_measurements_all(const Session *s);
/* Borrowed until the next call that changes the session. */
Measurement session_measurement(const Session *s, int i);
/* false: the recipe, and so the size, is not known. */
bool session_measurement_size(const Session *s, const Measurement *m, SizeReport *out);
/* By "3" or "#3", "present", "previous" (the newest other one, of those that compare with the present one where there
 * are some), "base". ST_USAGE when there is none such. */
Status session_measurement_find(const Session *s, const char *name, int *i, Error *err);
Paired session_paired(const Session *s, int a, int b);
/* What the measurement of the present assignment (session_effect, with nothing that differs) is held against: the
 * recipe's own assignment, or the one measured before. false: there is no such other measurement over the same tokens. */
typedef enum Rival { RIVAL_BASE, RIVAL_PREVIOUS, RIVALS } Rival;
bool session_rival(const Session *s, Rival which, Measurement *out, Paired *difference);

/* The linears to which two measurements gave another scheme, in model order; caller frees *out. */
typedef struct LevelChange {
    int64_t linear;
    char from[48], to[48];      /* names of the levels of a and b */
} LevelChange;
Status session_level_changes(const Session *s, const Measurement *a, const Measurement *b, LevelChange **out, int64_t *n,
                             Error *err);

typedef enum LogKind { LOG_NOTE, LOG_COMMAND, LOG_JOB, LOG_STDERR, LOG_KINDS } LogKind;
const char *log_kind_name(LogKind k); /* "note", "command", "job", "stderr" */
typedef struct LogLine {
    int level; /* 0 info, 1 warning, 2 error */
    LogKind kind;
    int job;      /* that it is about, 0: none */
    const char *text;
    int64_t when; /* seconds since the epoch */
} LogLine;
/* The file that keeps the log of a session on disk, borrowed; NULL: there is none. */
const char *session_log_file(const Session *s);
/* How many lines the log ever had, and the first of them that it still has: it keeps the newest 2,000. A line's number
 * stays the same for as long as it is there. */
int session_log_lines(const Session *s);
int session_log_first(const Session *s);
/* How many of them earlier sittings left. */
int session_log_old(const Session *s);
LogLine session_log_line(const Session *s, int i);
void session_log(Session *s, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same as a line of another kind than LOG_NOTE. */
void session_note(Session *s, LogKind kind, int level, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* ---- the table as a person looks at it ---- */
typedef enum SortKey { SORT_SCORE, SORT_NAME, SORT_MODEL, SORT_SIZE, SORT_LEVEL, SORT_SECOND, SORT_KEYS } SortKey;
const char *sort_key_name(SortKey k);
int sort_key_find(const char *name); /* -1 */
const Metric *session_metric(const Session *s);      /* the shown metric */
Status session_show(Session *s, const char *metric, Error *err);
Status session_sort(Session *s, SortKey k, bool ascending, Error *err);
SortKey session_sort_key(const Session *s, bool *ascending);
/* DECISIONS, `filter`: words are substrings, kind=, layer=a..b, score>x, float, failed, tagged, !word; "" clears. */
Status session_filter(Session *s, const char *expr, Error *err);
/* Shows what passes, as no edit: of a filter that is only being typed. The caller sets the old one again in the end. */
Status session_filter_try(Session *s, const char *expr, Error *err);
const char *session_filter_text(const Session *s);
/* Keeps a filter under a name (letters, digits, - and _), "" takes the name away: @NAME is a word of filters. Kept by
 * resume, no edit. */
Status session_save_filter(Session *s, const char *name, const char *expr, Error *err);
/* Name of filter i that was kept, and what it is; NULL: there are no more. */
const char *session_filter_name(const Session *s, int i, const char **expr);
/* Visible linears in table order. Failed rows first when sorted by score, then scores, then not measured. Borrowed
 * until the next call that changes the session. resort: take arrived scores into the order now; otherwise rows that
 * have a place keep it. */
const int64_t *session_order(Session *s, int64_t *n, bool resort);
bool session_order_stale(const Session *s);
/* Rank (1-based) among all scored linears of the shown metric, 0 = not scored. */
int64_t session_rank(Session *s, int64_t linear);
/* Cursor as a linear, kept by resume; -1 none. */
int64_t session_cursor(const Session *s);
void session_set_cursor(Session *s, int64_t linear);

/* ---- export ---- */
/* Preview of the text for the present assignment in the form that `as` names (NULL: that of path's extension, a recipe in
 * YAML where it has none; export/export.h), a recipe against `path`'s content (NULL: against its source). */
Status session_export_preview(Session *s, const char *path, const char *as, Export *out, Error *err);
/* Checks, then writes atomically. A blocking check needs `force`; an existing file too (ST_IO), unless it holds these very
 * bytes: then there is nothing to do. */
Status session_export(Session *s, const char *path, const char *as, bool force, Error *err);

/* ---- scores of other programs (export/scorefile.h) ---- */
/* Loads a file's scores as metrics of this session, which every face shows beside the others, as `as` (NULL: the file's name
 * without its end), or as.COLUMN where there are several; of a recipe (.yaml, .yml) what it leaves float has score 1. They
 * stay what they are when data, levels or the arithmetic change, and are kept in the journal. `what` (may be NULL): a line
 * for each. ST_DATA where nothing of it is a name of the model. Loading again under the same name replaces. */
Status session_load_scores(Session *s, const char *path, const char *as, Str *what, Error *err);
/* All metrics there are scores of or could be: metric_table's rows, then those that were loaded. NULL-terminated, borrowed
 * until the next file is loaded or another model is opened. s may be NULL. */
const Metric *const *session_metrics(const Session *s);
/* That of this name, NULL: none. */
const Metric *session_metric_find(const Session *s, const char *name);

/* ---- engines ---- */
/* Holds the open recipe at the present assignment against the rules of the engines (recipe/runtime.h); the report is the
 * caller's. Also where one of them is broken: ST_OK. */
Status session_runtime(const Session *s, RuntimeReport *out, Error *err);

/* ---- quantize: the model that an inference engine loads ---- */
typedef struct QuantizeOptions {
    const char *save_path;
    bool resume;           /* go on with a run that was stopped before its end */
    bool verify;           /* read back what was written and compare it with the model */
    bool debug;            /* debug_info/ */
    bool force;            /* what lies in the target is replaced */
    const char *force_word; /* how a person asks for that, for refusals; NULL: "--force" */
} QuantizeOptions;

enum { QUANTIZE_SAVERS_MAX = 4 };
/* What a quantization of the present assignment would do, found without making anything. */
typedef struct QuantizeOutline {
    int nsavers;
    struct {
        const char *type, *title;
        SaveFile *files;
        int nfiles;
        uint64_t bytes;    /* of those files whose size is known */
    } saver[QUANTIZE_SAVERS_MAX + 1]; /* the last for debug_info */
    SaveTarget target;     /* what is there, and what would become of it */
    bool needs_data;       /* calibration texts are run through the model */
    int caches;            /* attentions whose keys and values get scales (C8) */
    AttentionCount attention[ATTENTION_TYPES_MAX]; /* those that read quantized queries, keys or values (FAQuant) */
    int nattention;
} QuantizeOutline;
/* Everything that can be refused before the first layer is refused here: ST_DATA for what the recipe or a saver can't
 * express (every reason is in the log), ST_IO or ST_USAGE for the target. */
Status session_quantize_outline(Session *s, const QuantizeOptions *o, QuantizeOutline *out, Error *err);
void quantize_outline_fini(QuantizeOutline *o);
/* Queues the quantization of the present assignment, after the same checks. */
Status session_quantize(Session *s, const QuantizeOptions *o, Error *err);

typedef struct QuantizeDone {
    SaveResult run;
    double seconds;
    char save_path[4096];
    int nverified;         /* savers whose output was read back, 0: not asked for */
    const char *saver[QUANTIZE_SAVERS_MAX];
    VerifyReport verify[QUANTIZE_SAVERS_MAX];
    int64_t problems;      /* of all of them */
} QuantizeDone;
/* The newest quantization that ended well, NULL before. */
const QuantizeDone *session_quantized(const Session *s);

/* ---- durability ---- */
const char *session_id(const Session *s);    /* "" without a state_dir */
/* A name that a person gave it, by which session_restore finds it, too; "": none. ST_USAGE for one that is empty, too long,
 * or no name. */
const char *session_name(const Session *s);
Status session_set_name(Session *s, const char *name, Error *err);
/* Writes the session as one file that can be taken elsewhere: its journal without streams of activations. Waits until all
 * that was done is in it. */
Status session_save(Session *s, const char *path, Error *err);
/* Makes a session of such a file below the state folder; its id in `id`. */
Status session_take_file(const char *state_dir, const char *path, char id[40], Error *err);
bool session_is_read_only(const Session *s);
/* Whether what is done is being kept on disk: not without a folder, and not after a write or a sync has failed. */
bool session_is_saved(const Session *s);
/* Why what is done now is not kept: "read-only", "not saved"; NULL: it is. */
const char *session_unkept(const Session *s);
/* Whether there is anything in it that a person would miss: one without is deleted when it is closed. */
bool session_has_work(const Session *s);
/* Appends a command as it was run, for history and replay. */
Status session_record(Session *s, const char *line, Error *err);
int session_commands(const Session *s);
const char *session_command(const Session *s, int i);
/* Restores the session with this id, or name (NULL or "": the newest), from its journal. */
Status session_restore(Session **out, const SessionOptions *o, const char *id, Error *err);
/* One record of a journal as JSON; what is longer than a line of it tells (histograms) is left out. */
typedef void SessionRecord(void *ctx, const char *json);
/* What a journal holds, without the model that it is about: `out` has the commands, the name, the seed, the arithmetic, what
 * is known of the calibration set and the log, and no model; each record goes to `each`. Nothing is written. */
Status session_look(Session **out, const SessionOptions *o, const char *id, SessionRecord *each, void *ctx, Error *err);

typedef struct SessionInfo {
    char id[40];
    char name[40];       /* "": none */
    char model[512];     /* path, cut to this */
    int64_t when;        /* seconds since the epoch of the last change */
    bool locked;
    bool served;         /* and the process that has it open can be attached to (session/attach.h) */
    uint64_t bytes;      /* on the disk */
    int64_t rows, linears; /* that the newest pass scored, of the model; 0: not recorded */
    int run;             /* that pass */
    int layer, layers;   /* layers of it that are done, of the model's */
    bool finished;       /* it reached its end */
    int edits, measured;
    int unwritten;       /* edits since an export, a report or a quantized model was written */
} SessionInfo;
/* Sessions on disk, newest first; caller frees. Journals are looked at, not read. */
Status session_list(const char *state_dir, SessionInfo **out, int *n, Error *err);
/* What is in one, in a few words. */
void session_info_text(const SessionInfo *i, Str *out);
/* Called with each thing that is found; its error stops the check. */
typedef Status SessionFinding(void *ctx, bool bad, const char *text);
/* Looks whether the folder of a session is whole: journal, model, the stream that a stopped analysis needs. Changes
 * nothing. */
Status session_check(const char *dir, SessionFinding *found, void *ctx, Error *err);
/* Deletes one that no process has open, with what slimscope wrote into it; other files there are an error and stay. */
Status session_delete(const char *state_dir, const char *id, Error *err);

#endif
