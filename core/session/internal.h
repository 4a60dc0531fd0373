#ifndef SLIM_SESSION_INTERNAL_H
#define SLIM_SESSION_INTERNAL_H

#include <pthread.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/map.h"
#include "io/journal.h"
#include "session/fold.h"
#include "session/session.h"

/* Private to core/session: what the parts of a session share. */

/* ---- results ---- */
typedef struct Slot {          /* newest pass over one linear */
    LinearResult r;
    unsigned needs;            /* NEED_* collected; 0: nothing yet */
    bool stale;                /* made under other data or arithmetic */
} Slot;

/* ---- edits ---- */
typedef enum EditKind { EDIT_LEVEL, EDIT_TAG, EDIT_FILTER } EditKind;
typedef struct EditCell {
    int32_t linear;
    int16_t from, to;
} EditCell;
typedef struct Edit {
    EditKind kind;
    int n;
    EditCell *cells;           /* EDIT_LEVEL, EDIT_TAG */
    char *from, *to;           /* EDIT_FILTER */
} Edit;

typedef struct PatternRow {
    char *text;
    WhatIf view;
    /* what does not change while the model is open, found when the row is first looked at; ascending */
    bool fixed;
    int32_t *own, *closed;     /* linears it selects, and with their fused groups */
    int64_t nown, nclosed;
} PatternRow;

/* ---- measured assignments ---- */
typedef struct Measured {
    Digest key;                /* of assignment, levels, data and arithmetic */
    Effect effect;
    double local_sum;          /* sum of local_error over quantized linears then, NaN unknown */
    uint64_t version;          /* edit version it was queued at */
} Measured;

/* ---- jobs ---- */
typedef struct DataSpec {      /* what a token set is made from */
    char *path, *name;
    int max_samples;
    int64_t seq_len, ctx, max_tokens;
} DataSpec;

/* A quantization that is to run: its own copy of the recipe, and what each saver will write. */
typedef struct QuantizeJob {
    char *dir;
    char *model_type;
    char *text;                /* of the recipe, len bytes */
    size_t len;
    Recipe *recipe;            /* selects exactly the job's levels */
    bool *cache_layer;         /* [layers] keys and values get scales */
    int nsavers;
    const Saver *saver[QUANTIZE_SAVERS_MAX + 1]; /* the last for debug_info */
    SavePlan plan[QUANTIZE_SAVERS_MAX + 1];
    bool needs_data, resume, verify, debug;
} QuantizeJob;

typedef struct Job {
    JobView view;
    SessionOptions opt;
    DataSpec calib, eval;
    /* analyze */
    unsigned needs;
    bool *selected;            /* [nlinears] or NULL */
    int nselected;
    QSpec weights[LOCAL_EXTRA];/* of the levels, scored beside the usual ones */
    int nweights;
    int first_layer;
    int run;                   /* id of the pass, for its stream files */
    /* measure */
    int16_t *level;
    QConfig *levels;
    int nlevels;
    bool full;
    Digest key;
    double local_sum;
    uint64_t version;
    QuantizeJob quantize;
    /* times, owner thread */
    int64_t t_start, t_layer;
    double layer_s[8];
    int layers_timed;
    struct Job *next;          /* waiting queue */
} Job;

typedef enum EventKind {
    EVT_ROWS,
    EVT_PROGRESS,
    EVT_DATA,
    EVT_EFFECT,
    EVT_WRITTEN,
    EVT_LOG,
    EVT_START,
    EVT_END
} EventKind;
typedef struct Event {
    struct Event *next;
    EventKind kind;
    Job *job;
    int layer;
    LinearResult *results;
    int nresults;
    char phase[40];
    int64_t done, total;
    uint64_t bound, peak;
    bool is_eval;
    DataInfo data;
    char sha[65];              /* of the layer's stream */
    Effect effect;
    QuantizeDone *written;     /* EVT_WRITTEN: the session's once applied */
    int level;
    Error error;
} Event;

/* State of the job thread, kept between jobs. */
typedef struct Engine Engine;

enum { WHY_MAX = 200 };

/* ---- rows of the table (fold.c) ---- */
typedef struct FoldSlot {
    Fold view;
    int32_t key;               /* what its members share */
} FoldSlot;
typedef struct Table {
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
    uint64_t results_seen, version_seen, tags_seen;
    const Metric *metric_seen;
    ScoreRange range;
    TableWork work;
} Table;

struct Session {
    SessionOptions opt;
    char *state_dir, *cache_dir;

    Model *model;
    char *model_type;
    Recipe *recipe;
    char *calib_path, *calib_name, *eval_path, *eval_name;
    DataInfo calib_info, eval_info;
    char calib_info_name[128], eval_info_name[128];
    Map by_name;               /* linear name -> index */

    int nlevels;               /* float included */
    QConfig *levels;           /* [nlevels - 1] */
    char (*level_name)[48];
    int16_t *level, *opened;   /* [nlinears] now, and as the recipe gives it */
    int16_t *home;             /* level a float linear returns to */
    bool *tagged;
    int64_t ntagged;
    uint64_t tag_version;      /* grows with every change of tags */
    uint64_t version;          /* of the assignment */

    Edit *edits;
    size_t nedits, cap_edits, edit_pos;
    PatternRow *whatif;
    size_t nwhatif, cap_whatif;
    double error_all;          /* local error of all linears at their home levels, of these versions: */
    uint64_t error_version, error_results;
    bool error_known;
    Prediction predicted;      /* of these versions */
    uint64_t predicted_version, predicted_results;
    bool predicted_known;

    Slot *slot;                /* [nlinears] */
    uint64_t results;          /* grows with every result stored, of analyses and measurements */
    char run_arith[16], run_scheme[64];
    char identity[65];         /* of data and arithmetic behind the slots that are not stale */

    Measured *measured;
    size_t nmeasured, cap_measured;

    QuantizeDone *quantized;   /* the newest that ended well */

    /* view */
    const Metric *metric;
    SortKey sort;
    bool ascending;
    char *filter;
    int64_t *order, norder;
    int64_t order_failed, order_scored; /* by score: failed linears come before the first, scored before the second */
    uint64_t order_made;       /* grows with every new order */
    bool order_valid, order_stale;
    int64_t *rank;             /* [nlinears], valid for rank_metric at rank_version */
    bool rank_valid;
    int64_t cursor;
    Table table;
    char *why;                 /* [WHY_MAX] reason behind the score asked for last */

    /* jobs: owner's list, and the queue shared with the thread */
    Job **jobs;
    size_t njobs, cap_jobs;
    int next_job, next_run;
    pthread_t thread;
    bool thread_on;
    pthread_mutex_t lock;      /* queue and events; never held longer than a list operation */
    pthread_cond_t wake;
    Job *queue_head, *queue_tail;
    bool quit;
    Event *events, **events_tail;
    int pipe[2];
    Cancel cancel;             /* of the running job */
    Engine *engine;            /* job thread only, while it lives */

    struct {
        int level;
        char *text;
    } *log;
    size_t nlog, cap_log;

    /* durability */
    char id[40];
    char *dir;
    Journal *journal;
    pthread_mutex_t journal_lock;
    int lock_fd;
    bool read_only, restoring;
    bool journal_lost;         /* a write failed and that was told (journal_lock) */
    char **commands;
    size_t ncommands, cap_commands;
    int resume_run, resume_layer; /* newest unfinished pass; -1 none */
    unsigned resume_needs;
    bool *resume_selected;
    char resume_sha[65], resume_prev_sha[65]; /* streams of the layers before resume_layer */
    char saved_view[256];
};

/* session.c */
Status identity_now(const Session *s, char out[65]);
Digest assignment_key(const Session *s, const int16_t *level);
double level_error(const Session *s, int64_t linear, int level); /* local_error at a level, NaN unknown */
double local_sum(const Session *s, const int16_t *level);

/* coverage.c: says after an analysis how far it reached into the experts; appends the module of an expert's linear */
void coverage_log(Session *s);
const QConfig *level_config(const Session *s, int level);        /* NULL for float */
char *dup_or_null(const char *s);

/* view.c */
void metric_names(Str *out); /* of metric_table, with commas */

/* fold.c: the rows' memory, for the model that is open */
Status table_open(Session *s, Error *err);
void table_close(Session *s);

/* assign.c */
Status edit_push(Session *s, Edit e, Error *err); /* applies and takes ownership */
void edit_fini(Edit *e);
void close_groups(const Model *m, bool *hits);

/* jobs.c */
void jobs_stop(Session *s);
void job_free(Job *j);
/* A job with its data files found (calib false: it needs none); the caller's until enqueue, which takes it. */
Status job_new(Session *s, JobKind kind, bool calib, Job **out, Error *err);
Status job_take_levels(Session *s, Job *j, Error *err); /* copies the present assignment */
Status job_enqueue(Session *s, Job *j, Error *err);
void post(Session *s, Event e); /* any thread */
void note_layer(Session *s, int run, int layer, const char *sha);
void slot_store(Session *s, LinearResult *r, unsigned needs);

/* engine.c (job thread) */
Engine *engine_new(void);
void engine_free(Engine *e);
Status engine_analyze(Session *s, Job *j, Error *err);
Status engine_measure(Session *s, Job *j, Error *err);
Status engine_quantize(Session *s, Job *j, Error *err);

/* quantize.c */
void quantize_job_fini(QuantizeJob *q);
void quantize_done_free(QuantizeDone *d);

/* durable.c */
/* Locks s->dir and opens its journal, replaying what is there; locked elsewhere: the session becomes read-only. */
Status durable_open(Session *s, JournalReplay *replay, uint64_t *torn, Error *err);
Status durable_begin(Session *s, Error *err);
void durable_end(Session *s);
void durable_line(Session *s, const Str *json, bool sync);   /* any thread; failures become a warning once */
void durable_edit(Session *s, const Edit *e);
void durable_move(Session *s, const char *what);             /* "undo", "redo" */
void durable_text(Session *s, const char *kind, const char *text);
void durable_view(Session *s);
void durable_run(Session *s, const Job *j);
/* Writes the stream, then the rows' record; sha gets the stream's digest ("" when it could not be written). Job thread.
 */
Status durable_layer(Session *s, const Job *j, int layer, const Stream *h, const Str *rows, char sha[65], Error *err);
void durable_run_end(Session *s, const Job *j, Status st);
void durable_measured(Session *s, const Measured *m);
Status durable_load_stream(Session *s, int run, int layer, const char *sha, Stream *out, Error *err);

/* record.c: results as JSON */
void record_results(Str *b, const LinearResult *r, int n, const Model *m);
Status record_parse(const struct cJSON *rows, const Model *m, LinearResult **out, int *n, Error *err);

#endif
