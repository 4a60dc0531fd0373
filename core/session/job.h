#ifndef SLIM_SESSION_JOB_H
#define SLIM_SESSION_JOB_H

#include "base/hash.h"
#include "session/session.h"

/* A job, and the events by which the job thread tells its owner. */

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
    char stream_sha[65];       /* of the saved stream that enters it, when it is not the first */
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

void job_free(Job *j);
void quantize_job_fini(QuantizeJob *q);
void quantize_done_free(QuantizeDone *d);

#endif
