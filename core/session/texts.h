#ifndef SLIM_SESSION_TEXTS_H
#define SLIM_SESSION_TEXTS_H

#include "base/hash.h"
#include "io/json.h"
#include "session/calibset.h"
#include "session/job.h"

/* The calibration set's changes and what is known of its texts. Owner thread, but for what says otherwise. */

/* What was changed in a set. */
typedef struct TextsChange {
    char base[128];    /* texts_base of that set; "": nothing was changed */
    char **added;      /* [nadded] absolute paths */
    char (*print)[65]; /* [nadded] of their names and contents */
    int *out;          /* [nout] numbers, rising */
    int nadded, nout;
} TextsChange;

/* Texts that were read. */
typedef struct TextItem {
    int32_t *ids;
    int64_t nids;
    int distinct, same_as;
    int64_t script[SCRIPTS];
} TextItem;
typedef struct TextsRead {
    DataSpec spec;         /* that it is of; nothing is out */
    CalibFile *file;
    TextItem *item;        /* [file->count] */
    char *eval;            /* path of the evaluation set, NULL: it is not found */
    int64_t vocab;
    int32_t *eval_count;   /* [vocab] how often the evaluation set has the token */
    int64_t eval_tokens, eval_script[SCRIPTS];
    char **piece;          /* [vocab] what the tokens that come in it stand for, NULL: not known */
    Arena arena;           /* of these */
    Error error;           /* status ST_OK: it is there */
} TextsRead;

/* A set that the present assignment was measured under. */
typedef struct Trial {
    int number;            /* text that is left out of the set `base`; 0: another set: */
    char base[128];
    char *path, *name, print[65];
    bool scored;           /* what block_error finds with them, of this set and these levels: */
    Digest key;
    double loss;           /* sum over the groups that are quantized */
} Trial;
void trial_fini(Trial *t);
void trial_record(Str *b, const Trial *t);                       /* members of its record */
Status trial_restore(Session *s, const cJSON *record, Error *err);
/* Keeps the sum of what a job without one of the texts (Job.without) found, when it has ended. */
void texts_loss_found(Session *s, const Job *j);
/* Puts what leaving texts out does into their rows. */
void texts_put_loo(Session *s, TextRow *row, int n);

typedef struct Texts {
    TextsChange change;
    char title[300];
    uint64_t version;      /* grows with every change of what is here */
    uint64_t asked;        /* version + 1 at which reading was last begun, of the set */
    char asked_of[128];
    TextsRead *read;       /* NULL: none */
    struct TextsReader *reader; /* the thread; NULL: none runs */
    bool *tagged;          /* [ntagged] by number - 1, of the set `tagged_of` */
    int ntagged;
    TextSort sort;
    bool descending;
    char *filter;
    bool aside;            /* the set is that of a trial that is being asked for (texts_trial.c) */
    Trial *trial;          /* [ntrials] as they were asked for */
    int ntrials;
    size_t cap_trials;
    struct TextsView *view; /* what session_texts gives */
} Texts;
void texts_end(Texts *t);

/* What identifies the set that is open before it is changed. */
void texts_base(const Session *s, char out[128]);
/* The changes that hold for the set that is open, NULL: none. */
const TextsChange *texts_now(const Session *s);
/* Adds them to a digest: nothing where there are none. */
void texts_hash(const Session *s, Hasher *h);
/* Puts them into a spec whose path is there, with the name that people are told. */
Status texts_fill(const Session *s, DataSpec *d, Error *err);
/* Takes a whole change over, as it is written in the journal. */
Status texts_set(Session *s, const char *json, Error *err);
/* Appends in words what a step from one to the other did. */
void texts_describe(const char *from, const char *to, Str *what);
/* The job's data path of the set, malloced. */
char *texts_path(Session *s, Error *err);
char *eval_path(Session *s, Error *err); /* of the evaluation set */

/* Name and content of a data file: all of a small one, places of a large one. */
Status data_print(const char *path, char print[65], Error *err);

/* The texts that the targets select (session_texts_take), hit[*n] (caller frees), reading them where that is not done. */
Status texts_target(Session *s, const char *const *targets, int ntargets, bool **hit, int *n, Error *err);

/* texts_read.c: takes over what the reader has finished: whether there was something. */
bool texts_pump(Session *s);
/* Stops it, forgets what was read. */
void texts_forget(Texts *t);
/* texts_view.c */
void texts_view_free(struct TextsView *v);

#endif
