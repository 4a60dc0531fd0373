#ifndef SLIM_SESSION_KIT_IMPL_H
#define SLIM_SESSION_KIT_IMPL_H

#include "measure/effect.h"
#include "process/pipeline.h"
#include "run/share.h"
#include "session/kit.h"
#include "text/tokenizer.h"

/* Private to the files of the job thread's kit. */

struct Kit {
    Pool *pool;
    int pool_threads;
    Profile *profile;     /* of the running job, or the last one: runner and pool know it; NULL: none */
    Runner *runner;
    Tokenizer *tok;
    TokenSet *calib, *eval, **prior; /* [npriors] */
    DataSpec calib_of, eval_of, *prior_of;
    int npriors;
    bool calib_aside;     /* only a job that is aside has told of calib */
    EffectLab *lab;
    Dist *together;     /* ranks that run the same layers in the same order, each over its texts; NULL: there are none */
    Share calib_share, eval_share; /* of the lab, where ranks divide its texts */
    Dist *part;    /* that are fewer than all, NULL: they are all, or this is none of them */
    int parts;     /* how many; 0: texts aren't divided */
    ArithMode lab_arith;
    Queue *queue;
    Keeper *keeper;       /* NULL: nothing is kept */
    const char *folder; /* where streams lie */
    Pipeline *base;     /* behind whose processors the last analysis looked at the model, NULL: it was unchanged */
    Recipe *base_recipe;
    int16_t *base_level;
    ScoreOrigin base_of;
    Scores found;       /* what passes of this process found, for those that go by it: they may be queued before */
    /* the running job */
    Job *job;
    uint64_t bound;
    uint64_t enough;    /* the limit under which nothing is cut or refused, 0: not known yet */
    uint64_t states;    /* what boundary states may take */
    bool lend;          /* no room for a copy of a stream */
    bool gathers;       /* each layer's stream comes to rank 0, which keeps it */
    int laps;           /* through the layers, of a measurement */
    int prior_stage;    /* that runs, from 1; 0: none */
    bool trains;        /* a layer's rounding: its passes are no progress through the layers */
};

/* What a job takes beside the process as it is, in bytes. */
typedef struct JobMemory {
    uint64_t held;   /* its own tables, streams that wait: not the runner's */
    uint64_t runner; /* the rest, were there no limit: the runner cuts its work to fit */
    uint64_t states; /* boundary states, were there room for them: those that are there, and new ones */
} JobMemory;

/* Code and stacks that come into memory when a job runs, and small blocks. */
enum { JOB_BESIDE = 2 << 20 };

/* What the job does now, and how far it is. */
void kit_tell(Kit *k, const char *phase, int64_t done, int64_t total);
/* A warning of what runs: ctx is the kit. */
void kit_warn(void *ctx, const char *text);
uint64_t kit_mem_limit(const Job *j);
/* ST_NOMEM with what is taken and what may be. */
Status kit_over_limit(uint64_t taken, uint64_t limit, Error *err);
Status kit_pool(Kit *k, const Job *j, Error *err);
/* Tokens of a data file, from the last job when nothing changed. */
Status kit_tokens(Kit *k, const DataSpec *want, bool eval, TokenSet **slot, DataSpec *of, Error *err);
/* Texts of the prior stages that need some, from the last job where nothing changed. */
Status kit_priors(Kit *k, const Job *j, Pipeline *p, Error *err);
/* A runner for this job, of the model as the overlay changes it (NULL: not), with what --mem leaves. */
Status kit_runner(Kit *k, const Job *j, const Overlay *overlay, const JobMemory *m, Error *err);
/* kit_read.c. Whether each rank runs all layers in this pass, over texts of its own (with --read once says where it isn't so);
 * and the ranks that read each layer's weights once together, NULL: none do, and what that takes: all of them, or none.
 * needed: what the job takes without. */
struct PassDivision;
bool kit_all_run(Kit *k, const Job *j, const struct PassDivision *d);
Status kit_readers(Kit *k, const Job *j, uint64_t needed, Dist **out, uint64_t *bytes, Error *err);
/* The runner doesn't outlive the changes that it shows. */
void kit_end_pipeline(Kit *k, Pipeline *p);
/* Of several ranks: whether all of them are about to do the same, before one waits for another. */
Status kit_meet(const Kit *k, const Job *j, Error *err);
/* Whether they divide these texts. */
bool kit_divides(const Job *j, const Pipeline *p, const TokenSet *texts);
/* The effect of the job's levels, into j->effect and j->blocks. */
Status kit_measure(Kit *k, Job *j, Error *err);

/* Whether all ranks are about to do the same: what the job is of. */
Status kit_same_job(const Job *j, Error *err);
/* Rank 0 does it, the others wait until it is done. */
Status kit_lead(Kit *k, Job *j, Status (*run)(Kit *k, Job *j, Error *err), Error *err);
/* What rank 0's evaluator found, on every rank. */
Status kit_hand_out_result(Dist *d, EvalResult *r, Error *err);

/* Streams that are kept, from which a stopped analysis goes on. Before a pass that takes `taken` bytes: *copy more for them. Of
 * ranks that divide the texts rank 0 keeps what all of them have, where there is room. */
Status kit_keep_begin(Kit *k, const Job *j, uint64_t taken, uint64_t *copy, Error *err);
/* Behind a layer, on every rank; step->h is there. */
Status kit_keep_layer(Kit *k, const PassStep *step, Error *err);
/* The one that the job goes on from, with the tokens it belongs to. */
Status kit_kept_stream(Kit *k, const Job *j, Stream *h, Error *err);

/* Jobs of files of their own. */
Status kit_quantize(Kit *k, Job *j, Error *err);
Status kit_evaluate(Kit *k, Job *j, Error *err);
Status kit_generate(Kit *k, Job *j, Error *err);

#endif
