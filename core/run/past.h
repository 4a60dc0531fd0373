#ifndef SLIM_RUN_PAST_H
#define SLIM_RUN_PAST_H

#include "run/pass.h"

/* What blocks keep of the rows of texts that they have seen, so that a pass goes on with the rows behind them alone: keys
 * and values, states of recurrences. A stream whose `past` is set goes on with the texts that it names. */

enum { PAST_SLOTS = 7 };

/* What a kind of block keeps (BlockOps.past), by slot, in floats: of each row, or once a text. */
typedef struct PastShape {
    int64_t row[PAST_SLOTS], state[PAST_SLOTS];
    const char *cannot; /* why a row may depend on those behind it; NULL: it doesn't */
} PastShape;

typedef struct Past Past;
/* Room for so many texts of up to `rows` tokens, none of which has begun. ST_DATA naming the layer where a block can't go on
 * with a text. */
Status past_new(Past **out, const Model *m, int texts, int64_t rows, Error *err);
void past_free(Past *p);
/* Bytes that it takes. */
uint64_t past_bytes(const Model *m, int texts, int64_t rows);
/* Tokens of a text so far. */
int64_t past_length(const Past *p, int text);
/* The text begins anew. */
void past_forget(Past *p, int text);
/* Behind the last layer of a pass: the stream's rows belong to their texts from here on. */
void past_advance(const Stream *s);

/* Rows of a sample's text before the stream's own, and all rows of it with them. */
int64_t stream_seen(const Stream *s, int sample);
static inline int64_t stream_length(const Stream *s, int sample)
{
    return stream_seen(s, sample) + s->start[sample + 1] - s->start[sample];
}

/* ---- for blocks; the pass's stream has a past ---- */

/* [job] Keeps the chunk's rows x[rows][ld]. */
void past_put(const Pass *ps, const BlockRun *b, int slot, const float *x, int64_t ld);
/* All rows of a sample's text, those of the present chunk where they were put; or its state, zeros when it begins. */
float *past_at(const Pass *ps, const BlockRun *b, int slot, int sample);

#endif
