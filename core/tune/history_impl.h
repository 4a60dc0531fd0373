#ifndef SLIM_TUNE_HISTORY_IMPL_H
#define SLIM_TUNE_HISTORY_IMPL_H

#include "base/map.h"
#include "io/json.h"
#include "tune/history.h"

/* Shared by the files of the history only. */

typedef struct HistoryEntry {
    const char *key;
    HistoryAnswer a;
    const char *expectations; /* as YAML, of the demand at the time */
} HistoryEntry;

struct History {
    HistoryOptions o;
    Arena arena;
    HistoryEntry **entry; /* [nentries] oldest first */
    size_t nentries, entries_cap;
    Map by_key;
    Str records;          /* history.yaml */
    cJSON *ranking;       /* what was read last */
    const char **pattern; /* of its rows */
    char kept[200];
};

/* YAML of an entry of accuracy.yaml, of a list of expectations, of a record appended to history.yaml. */
void tunehist_put_entry(const HistoryEntry *e, bool peer, Str *out);
void tunehist_put_expectations(const Expectation *e, int n, const char *indent, Str *out);
void tunehist_put_record(const char *id, const char *key, const EvalResult *r, const Expectation *e, int n, const char *when,
                        bool peer, Str *out);

#endif
