#ifndef SLIM_TUNE_HISTORY_H
#define SLIM_TUNE_HISTORY_H

#include "dist/dist.h"
#include "tune/plan.h"

/* What a tuning run learned, in save_path/history: accuracy.yaml (answers by key), history.yaml (tries in order), ID.yaml (each
 * practice), and of ours ranking.json and run.json. Each file is written beside its place and renamed over it. */

/* An answer, and what the try took. */
typedef struct HistoryAnswer {
    EvalResult r;
    double seconds; /* of quantizing */
    uint64_t bytes, float_bytes;
    int64_t linears, floats;
} HistoryAnswer;

/* What the answers of a run depend on, as hex digests; "" is not known. */
typedef struct HistoryIds {
    char model[65], data[65], evaluator[65], plan[65];
} HistoryIds;

typedef struct History History;
typedef struct HistoryOptions {
    const char *save_path;
    bool peer;               /* nothing but the peer's files and keys of files; its old practices are deleted first */
    HistoryIds ids;
    Dist *dist;              /* rank 0 reads and writes the files, all ranks have what is in them; NULL: alone */
    void (*log)(void *ctx, int level, const char *text); /* one line each: what is broken or has changed */
    void *ctx;
} HistoryOptions;
/* Reads what is there; a file that can't be read is put aside as NAME.broken, said, and taken as empty. */
Status tunehist_open(History **out, const HistoryOptions *o, Error *err);
void tunehist_free(History *h);
/* The answer of a key, NULL: none. */
const HistoryAnswer *tunehist_get(const History *h, const char *key);
/* Copies; written before it returns. */
Status tunehist_put(History *h, const char *key, const HistoryAnswer *a, const Expectation *e, int n, Error *err);
/* A try: its practice as ID.yaml, and a line of history.yaml. when: seconds since 1970. */
Status tunehist_record(History *h, const Practice *p, const char *key, const EvalResult *r, const Expectation *e, int n,
                      int64_t when, Error *err);
/* The ranking of a key into *rows (freed with free; its texts last until the next call); false: there is none. */
bool tunehist_ranking(History *h, const char *key, RankRow **rows, int64_t *n);
Status tunehist_put_ranking(History *h, const char *key, const RankRow *rows, int64_t n, Error *err);
/* Which practice the kept folder holds, by its key; "": it is not known. */
const char *tunehist_kept(const History *h);
Status tunehist_put_kept(History *h, const char *key, Error *err);

#endif
