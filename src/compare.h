#ifndef SLIM_SRC_COMPARE_H
#define SLIM_SRC_COMPARE_H

#include "src/internal.h"
#include "stat/agree.h"

/* Kinds of compare: words after the kind's name are the command line's. */

/* All measurements of the session. */
Status compare_list(App *a, const CommandLine *cl, OutFormat f, Str *out, Error *err);
/* [A [B]] of the session, or two files. */
Status compare_measurements(App *a, const CommandLine *cl, OutFormat f, Str *out, Error *err);
/* M1 M2: two metrics of the session. */
Status compare_metrics(App *a, const CommandLine *cl, OutFormat f, Str *out, Error *err);
/* FILE [FILE]: scores in a file against the session's, or against another file's. */
Status compare_runs(App *a, const CommandLine *cl, OutFormat f, Str *out, Error *err);
/* LAYER [A B]: the layer as two measurements quantize it; of two metrics, its input and weight as they are now. */
Status compare_hist(App *a, const CommandLine *cl, OutFormat f, Str *out, Error *err);
/* measure RECIPE...: a table of the recipes that the words name, each opened in turn and measured on the same tokens, beside
 * the first; the last stays open. */
Status measure_recipes(App *a, const CommandLine *cl, OutFormat f, Str *out, Error *err);
/* What completion offers where a measurement is named. */
void offer_measurements(const App *a, OfferWord *put, void *ctx);
/* Files below the folder that `word` begins with whose end is that of scores or of what measure wrote, and what each is by its first
 * bytes; folders, with a '/' behind their names. */
void offer_results(const char *word, OfferWord *put, void *ctx);
/* --topk: rows shown as text. */
Status compare_rows(const CommandLine *cl, int64_t *rows, Error *err);
/* A document that measure wrote as JSON. */
typedef struct MeasuredFile {
    Effect effect;       /* what differences are made of */
    TokenBlocks *blocks; /* NULL: an older program's document */
    double bytes;        /* NaN: it doesn't tell */
    Str recipe;
} MeasuredFile;
/* ST_DATA when it is no such document. Caller frees with measured_file_fini. */
Status measured_file_read(const char *path, MeasuredFile *out, Error *err);
void measured_file_fini(MeasuredFile *f);
/* Whether a word of compare measurements names a file, and no measurement of the session. */
bool measured_file_named(const char *word);
/* Append how far two rankings agree: words without a line's end; members of an object with a comma in front of each. */
void output_agreement(const Agreement *a, Str *out);
void output_agreement_json(const Agreement *a, Str *out);

#endif
