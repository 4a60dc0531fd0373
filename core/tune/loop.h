#ifndef SLIM_TUNE_LOOP_H
#define SLIM_TUNE_LOOP_H

#include "tune/plan.h"

/* The outer loop of auto-tuning (specs/tuning.md 1, 9): which try comes next, by the strategy and by what is known already.
 * It has no threads, processes or clock of its own: whoever drives it does what each step says and tells what came of it.
 * What it learns lies in save_path/history after every step, written so that a kill loses the running step at most; the same
 * save_path goes on where it was. */

enum { LOOP_TRIES_MAX = 30 };

typedef struct LoopOptions {
    const Plan *plan;
    const PlanRows *rows;
    const char *save_path;       /* made when it isn't there */
    bool peer;                   /* --compat peer: cache keys, order of events and files as the peer's */
    double timeout;              /* seconds, looked at between tries; 0: none */
    const Model *model;          /* may be NULL: names aren't checked */
    const char *model_type;      /* into the metadata of practices; NULL: none */
    const char *model_id;        /* tells the model's contents from any other's (a digest); NULL: unknown */
    const char *data_id;         /* the same of the calibration set */
    const char *experience;      /* as StrategyKit */
    Dist *dist;                  /* ranks that run loops of the same plan, a step of each like those of the others: rank 0 has
                                  * the files, now() is the same on all of them; NULL: alone */
    int64_t (*now)(void *ctx);   /* seconds since 1970 */
    void (*log)(void *ctx, int level, const char *text); /* one line: what has changed since an earlier run, say; may be NULL */
    void *ctx;
} LoopOptions;

typedef struct Loop Loop;
Status loop_open(Loop **out, const LoopOptions *o, Error *err);
void loop_free(Loop *l);

typedef struct LoopTrial {
    const Practice *practice;
    const char *folder;          /* where its quantized model is written, and looked for */
    int number;                  /* of the try, from 1 */
} LoopTrial;

typedef enum LoopStepKind {
    LOOP_RANK,     /* do: rank by `wish`; tell: loop_ranked */
    LOOP_QUANTIZE, /* do: recipe of `trial`, its sizes, and with `write` the quantized model into its folder, which is emptied
                    * first; tell: loop_quantized */
    LOOP_EVALUATE, /* do: the evaluator's run on `trial`; tell: loop_evaluated */
    LOOP_KEEP,     /* do: the folder of `trial` becomes `kept`, in place of what was there; tell: loop_kept */
    LOOP_DONE
} LoopStepKind;

typedef enum LoopEnd {
    LOOP_MET,
    LOOP_NOT_MET,   /* the strategy has nothing more to try */
    LOOP_TIMEOUT,
    LOOP_EXHAUSTED, /* LOOP_TRIES_MAX tries */
    LOOP_REFUSED,   /* the strategy can't go on */
    LOOP_FAILED     /* quantizing or evaluating failed: goes on from here in another run */
} LoopEnd;
const char *loop_end_word(LoopEnd e); /* "MET", "NOT MET", "TIMEOUT", ... */

typedef struct LoopStep {
    LoopStepKind kind;
    const RankWish *wish;
    LoopTrial trial;
    bool write;
    const char *kept;            /* save_path/quant_model */
    /* LOOP_DONE */
    LoopEnd end;
    Status status;               /* ST_OK: met; under --compat peer also TIMEOUT and EXHAUSTED */
    int best;                    /* index of the try that is the answer, or is closest; -1: none */
    const char *text;            /* one line: what it came to */
    const char *final;           /* the document that `quant --config_path` takes, NULL: none met the demand; also in
                                  * save_path/best_practice.yaml (not under --compat peer) */
    size_t final_len;
    const char *final_id;
} LoopStep;
/* What is to be done now; the same until it was told. After LOOP_DONE always that. Texts are borrowed until the next call. */
Status loop_next(Loop *l, LoopStep *out, Error *err);

/* rows: copied. */
Status loop_ranked(Loop *l, const RankRow *rows, int64_t n, Error *err);
/* What became of a quantization. st: not ST_OK ends the loop with LOOP_FAILED and `why` (ST_CANCELLED: tell nothing and
 * free the loop). */
typedef struct LoopMade {
    Status st;
    const char *why;
    double seconds;
    uint64_t bytes, float_bytes; /* of the model as it is quantized, and all in float */
    int64_t linears, floats;     /* linears in all, and of them in float */
} LoopMade;
Status loop_quantized(Loop *l, const LoopMade *m, Error *err);
/* The evaluator's answer, copied; r->satisfied is set here. EVAL_FAILED ends the loop with LOOP_FAILED and isn't remembered. */
Status loop_evaluated(Loop *l, const EvalResult *r, Error *err);
Status loop_kept(Loop *l, Error *err);

/* As it was opened. */
const LoopOptions *loop_options(const Loop *l);

/* Every try so far, in order. */
typedef struct LoopTry {
    const Practice *practice;
    int number;                  /* from 1 */
    bool cached;                 /* its answer was known */
    bool known;                  /* result is there */
    EvalResult result;           /* borrowed */
    double seconds;              /* of quantizing; result.seconds: of evaluating */
    uint64_t bytes, float_bytes; /* 0: not known */
    int64_t linears, floats;
} LoopTry;
int loop_tries(const Loop *l);
const LoopTry *loop_try(const Loop *l, int i);
/* The best so far: satisfied with the fewest bytes, else the closest; -1: none. */
int loop_best(const Loop *l);
/* An accuracy of a try that lies nearer to what is demanded of it than its error, so that the verdict may be chance; NULL: none
 * does. */
const Accuracy *loop_borderline(const Loop *l, int i);

#endif
