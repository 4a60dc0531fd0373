#ifndef SLIM_SESSION_PARTS_H
#define SLIM_SESSION_PARTS_H

#include "base/map.h"
#include "session/session.h"

/* Private to core/session: what is open, and the parts of a session, each behind its own header. A file includes this
 * one and the headers of the parts that it touches: the others are only names to it. */
struct Session {
    SessionOptions opt;
    char *state_dir, *cache_dir;

    Model *model;
    char *model_type;
    Recipe *recipe;
    char *calib_path, *calib_name, *eval_path, *eval_name;
    char scheme[32];               /* session_set_scheme; "": the recipe's levels */
    char calib_print[65], eval_print[65]; /* of the files' names and contents, wherever they lie */
    Map by_name;                   /* linear name -> index */

    char id[40], *dir;             /* of the folder on disk; "" and NULL without one */
    char name[40];                 /* session_set_name */
    char *log_path;                /* of the file of the log there */
    bool read_only;                /* for this session only: opened elsewhere, or so by wish */
    bool restoring;                /* the journal is being replayed */
    char recorded[65];             /* fingerprint of the model that the journal was written for */
    int format;                    /* of the journal's records (entries.h) */
    bool renamed;                  /* they call an arithmetic by its older name */
    bool worth;                    /* session_has_work */
    char saved_view[512];          /* newest record of the view */
    uint64_t rules_told;           /* digest of what was said last of the engines' rules */

    struct Assignment *assignment; /* levels, tags, undo */
    struct WhatIfs *whatifs;       /* patterns, their figures, the prediction */
    struct Results *results;       /* of passes and measurements */
    struct Texts *texts;           /* the calibration set's changes, and its texts */
    struct Table *table;           /* order, filter, folds */
    struct Tuning *tuning;         /* the newest search for a goal */
    struct Autotune *autotune;     /* the newest tuning plan */
    struct Said *said;             /* what a model said last; NULL: nothing */
    struct Queue *queue;           /* jobs and their events */
    struct Keeper *keeper;         /* folder on disk; NULL: nothing is written */
    struct Serve *serve;           /* those that are attached from elsewhere; NULL: nobody can */
    struct Attach *attach;         /* the process whose session this one shows; NULL: it is its own */
    struct Kept *kept;             /* marks, runs that were kept */
    struct Guide *guide;           /* NULL: nobody asked for it */
    struct Loaded *loaded;         /* scores of other programs; NULL: none */
    struct Sizes *sizes;           /* what recipes add to files */
    struct Pictures *pictures;     /* of weights that are looked at; NULL: none yet */
    struct Notes *notes;           /* messages, and the commands that were run */
};

#endif
