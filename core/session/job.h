#ifndef SLIM_SESSION_JOB_H
#define SLIM_SESSION_JOB_H

#include "base/hash.h"
#include "base/str.h"
#include "session/rules.h"
#include "tune/evaluator.h"

/* A job, and the events by which the job thread tells its owner. */

typedef struct DataSpec {      /* what a token set is made from */
    char *path, *name;         /* name: as people are told of it */
    char **added;              /* [nadded] files behind it */
    int *out;                  /* [nout] numbers of texts that are taken out, rising */
    int nadded, nout;
    int max_samples;
    int64_t seq_len, ctx, max_tokens;
} DataSpec;
void dataspec_fini(DataSpec *d);
/* On an error *to is to be freed all the same. */
Status dataspec_copy(DataSpec *to, const DataSpec *from, Error *err);
/* Whether both give the same tokens. */
bool dataspec_same(const DataSpec *a, const DataSpec *b);
/* The texts, with what was added and without what is out. Any thread. */
Status dataspec_open(CalibFile **out, const DataSpec *d, bool peer, const TextLimits *limits, Error *err);

/* A quantization that is to run: its own copy of the recipe, and what each saver will write. */
typedef struct QuantizeJob {
    char *dir;
    char *model_type;
    char *text;                /* of the recipe, len bytes */
    size_t len;
    Recipe *recipe;            /* selects exactly the job's levels */
    bool *cache_layer;         /* [layers] keys and values get scales */
    int nsavers;
    const SaveFormat *saver[QUANTIZE_SAVERS_MAX + 1]; /* the last for debug_info */
    SavePlan plan[QUANTIZE_SAVERS_MAX + 1];
    SaveChanges *changes;      /* of all plans */
    SaveExtra recipe_out;      /* the recipe as it goes along with the weights */
    char recipe_file[320];
    Str recipe_text;
    bool needs_data, resume, verify, debug, force;
    const char *force_word;
} QuantizeJob;

/* An evaluation of a try that is to run; all borrowed from what tunes, but for its own copies. */
typedef struct EvaluateJob {
    const EvaluatorType *type;
    const void *settings;
    const Expectation *expect; /* [nexpect] */
    int nexpect;
    const char *folder, *work_dir, *id;
    int number;
    EvalResult result;         /* what came of it */
} EvaluateJob;

/* What the job thread asks a person, under the queue's lock. */
typedef enum AskState { ASK_NONE, ASK_OPEN, ASK_ANSWERED, ASK_NOBODY } AskState;
typedef struct JobAsk {
    AskState state;
    char question[800], answer[256];
} JobAsk;

/* What the job thread tells the owner, in order. Kinds below EVT_ROWS happen once a job at most (or only their newest
 * matters): their events are part of the job, so that none can fail to be told. */
typedef enum EventKind {
    EVT_START,
    EVT_PROGRESS,
    EVT_CALIB,                 /* calibration tokens are made: Job.calib_info */
    EVT_EVAL,
    EVT_EFFECT,
    EVT_WRITTEN,
    EVT_ASK,                   /* Job.ask */
    EVT_END,
    EVT_ROWS,                  /* a RowsEvent */
    EVT_SCORES,                /* a ScoresEvent */
    EVT_LOG                    /* a LogEvent */
} EventKind;
typedef struct Event {
    struct Event *next;
    EventKind kind;
    bool queued;
    struct Job *job;
} Event;
typedef struct RowsEvent {
    Event event;
    int64_t done, total;       /* steps of the pass */
    int n;
    LinearResult r[];
} RowsEvent;
typedef struct ScoresEvent {
    Event event;
    int64_t done, total, n;
    bool news;
    PassScore s[];
} ScoresEvent;
typedef struct LogEvent {
    Event event;
    int level;
    char text[];
} LogEvent;

typedef struct JobProgress {
    char phase[40];
    int64_t done, total;
    uint64_t bound, peak;
    int laps;                  /* a measurement: how often it goes through the layers */
} JobProgress;

/* A row of the list of jobs, which stays when the job has ended: what is shown of it, and how it is gone on with. */
typedef struct JobRow {
    JobView view;              /* owner thread; its texts lie in the job, in `texts` once that is gone */
    struct Job *job;           /* NULL: it has ended */
    char *texts;
    char *dir;                 /* that a quantization wrote to, NULL: another kind, or as the job has it */
    bool verify, debug;        /* of that quantization */
    int request;               /* id of the first of the jobs that one analysis asked for; 0: another kind */
    int run;                   /* id of the pass, for its stream files; -1: another kind */
    bool own;                  /* a search or a plan queued it, which asks for it again when it goes on */
    uint64_t sort;             /* jobs of one sort take as long, for as much work */
    int64_t work;              /* values of the weights that it goes through, 0: not known */
    ProfileReport profile;     /* once it has ended; workers 0: none */
} JobRow;

/* Sets of groups that are measured together, and their linears. */
typedef struct SetJob {
    int64_t n;                 /* sets */
    int64_t *start, *linear_start; /* [n + 1] */
    int32_t *group, *linear;   /* ascending within a set */
    uint64_t *digest;          /* as group: of their levels */
    int64_t want;              /* tokens asked for */
    PassSets sets;             /* borrows the linears */
} SetJob;

/* What the model is to say behind a prompt, and what it said. */
typedef struct GenerateJob {
    char *prompt;
    int32_t *ids, *stop, *made; /* [nids] of the prompt, [nstop], [nmade] */
    int64_t nids, nmade, max_tokens;
    int nstop;
    bool quantized;
} GenerateJob;

typedef struct Job {
    JobRow *row;
    JobView *view;             /* of the row */
    char title[80], phase[40], last[160], bad[160], target[256]; /* the view's texts; owner thread */
    SessionOptions opt;
    const Model *model;
    DataSpec calib, eval;
    DataSpec *prior;           /* [npriors] of the recipe's prior stages */
    int npriors;
    Cancel cancel;
    /* analyze */
    PassPlan plan;             /* borrows what follows; tokens and stream come where it runs */
    const Metric **metrics;    /* NULL-terminated */
    bool *selected;            /* [nlinears] or NULL */
    Scores before;             /* of a pass that goes on from its scores, or by those of others */
    ScoreOrigin origin;        /* of what it finds */
    Digest base;               /* of the model that it looks at (bases.h); recipe: whose processors make it, NULL: none do */
    char stream_sha[65];       /* of the saved stream that enters plan.first, when it is not the first */
    int rows_failed;           /* linears whose statistics give no score */
    int64_t first_bad, first_failed; /* linear + 1 whose weight is the first to hold a NaN or Inf; without a score; 0: none */
    SetJob sets;               /* plan.sets: an analysis of sets */
    /* measure */
    Recipe *recipe;            /* held: another one may be opened meanwhile; of an analysis, where it changes the model */
    int16_t *level;
    QConfig *levels;
    int nlevels;
    bool full;
    bool aside;                /* Measured.aside; of an analysis: what it finds is no score of the session, but goes here: */
    double *found;             /* [units of its first metric] NaN: nothing yet; below 0 when it begins: not asked for */
    int64_t *found_bytes;      /* [units] RankRow.bytes; NULL: nobody wants them */
    int without;               /* of the calibration set less this text; 0: it is of a tuning plan. key: of the set and
                                * the levels */
    bool ruled;                /* level is what these give: */
    RuleList rules;
    Digest key, fit;
    QuantizeJob quantize;
    EvaluateJob evaluate;
    GenerateJob generate;
    JobAsk ask;
    /* what its events tell, written before they are posted */
    Event own[EVT_ROWS];
    JobProgress progress;      /* under the queue's lock */
    DataInfo calib_info, eval_info;
    Effect effect;
    TokenBlocks *blocks;            /* the session's once applied */
    ProfileReport profile;
    QuantizeDone *written;     /* the session's once applied */
    Error error;
    Error lost;                /* why what was found could not be kept; owner thread */
    int unsaid;                /* messages that there was no memory for; before EVT_END */
    /* times, owner thread */
    int64_t t_start, t_layer, t_pause;
    double *weight;            /* [weights + 1] of the steps before each; NULL: all weigh the same */
    int64_t weights;
    double pace[8];            /* seconds for a unit of weight */
    int paces;
    int64_t timed;             /* steps that were */
    int lap;                   /* of a measurement */
    struct Job *next;          /* waiting queue */
    bool held;                 /* waits and is passed over; under the queue's lock */
    Str begin;                 /* what the journal gets when it starts, beside that it does (entry_job_begin) */
} Job;

/* With its row. NULL is fine. */
void job_free(Job *j);
void job_row_free(JobRow *r);
/* Frees a job that has ended, all but its row. */
void job_end(Job *j);
/* The view's texts and `dir` become the row's own; the job, if it has one, is no longer asked for them. On an error (no
 * memory) nothing has changed. */
Status job_row_keep(JobRow *r, const char *dir, Error *err);
/* The folder that a quantization writes to. */
const char *job_row_dir(const JobRow *r);
void quantize_job_fini(QuantizeJob *q);
void quantize_done_free(QuantizeDone *d);

#endif
