#ifndef SLIM_PROCESS_ADAPTWATCH_H
#define SLIM_PROCESS_ADAPTWATCH_H

#include "process/processor.h"

/* What adapt_rotation's first stage looks at: inputs of linears, before the weights of the norm in front of them. */
typedef struct AdaptWatchSettings {
    const char *const *parts; /* [nparts] a linear is watched whose name within its layer contains one of them */
    int nparts;
    int64_t most;             /* rows of a layer */
} AdaptWatchSettings;

typedef struct AdaptWatch AdaptWatch;

/* ST_DATA: no linear is meant, or one that doesn't read the residual stream. peer: of each sample the mean of its tokens
 * (of experts every token), and of too many rows some at equal distances. Ours: every so many-th token. */
Status adapt_watch_new(AdaptWatch **out, const Model *m, const AdaptWatchSettings *set, bool peer, Error *err);
void adapt_watch_free(AdaptWatch *w);
/* Whether one of the unit's linears is meant. */
bool adapt_watch_wants(const AdaptWatch *w, int unit);
/* From here on it watches this unit; tokens: of all texts. */
Status adapt_watch_unit(AdaptWatch *w, int unit, int64_t tokens, Error *err);
Observer adapt_watch_observer(AdaptWatch *w);
/* Behind the pass: its rows join those of the units before. */
Status adapt_watch_take(AdaptWatch *w, const UnitRun *u, Error *err);
/* [rows][hidden] of all units so far; the watch's own. */
float *adapt_watch_rows(AdaptWatch *w, int64_t *rows);
/* Rows at most, of so many tokens. */
int64_t adapt_watch_most(const AdaptWatch *w, int64_t tokens);

#endif
