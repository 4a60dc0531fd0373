#ifndef SLIM_RUN_STREAM_H
#define SLIM_RUN_STREAM_H

#include <stdint.h>

#include "base/error.h"

struct Past;

/* Hidden states of several samples, packed: sample s owns rows [start[s], start[s+1]). Row-major [rows][width]
 * float32 (where the arithmetic rounds, every value is one of the model dtype). Positions restart at 0 in every sample, or go
 * on where its text was left (past). */
typedef struct Stream {
    int samples;
    int64_t rows, width;
    int64_t *start; /* [samples+1] */
    float *data;
    int32_t *ids;   /* [rows] tokens, for layers that look at them; NULL: not known */
    /* What an indexer chose, for the layers that take it over: bit s of row t is set when key s of t's sample may be
     * looked at. [rows][select_words], NULL while no sample is longer than what is chosen. */
    uint32_t *select;
    int64_t select_words;
    int copy;       /* > 0: the samples come again and again, so many at a time (stream_copies); what is computed of a copy
                     * does not depend on the others, because no tile of rows belongs to two of them */
    struct Past *past; /* what was kept of the rows before these (run/past.h), borrowed; NULL: every sample begins a text */
    const int *text;   /* [samples] with past: whose rows they are; each text once */
    int first;         /* samples before these in the set that they are a part of: for what is told of one */
} Stream;

/* Allocates data (64-byte aligned, not zeroed) and copies starts; no ids. Caller frees with stream_fini. */
Status stream_init(Stream *s, int samples, const int64_t *start, int64_t width, Error *err);
/* A stream of in's shape and ids, for what follows it; its values and choices are not copied. */
Status stream_like(Stream *out, const Stream *in, Error *err);
Status stream_copy(Stream *dst, const Stream *src, Error *err);
/* Keeps a copy of the rows' token ids. */
Status stream_set_ids(Stream *s, const int32_t *ids, Error *err);
/* Room for choices among `keys` keys, unless it is there already; not cleared. */
Status stream_reserve_select(Stream *s, int64_t keys, Error *err);
void stream_fini(Stream *s);

/* Samples [s0, s0 + n) of another stream, with their ids and choices. Caller frees. */
Status stream_slice(Stream *out, const Stream *in, int s0, int n, Error *err);
/* The first `rows` rows (or all) of n samples, which are spread over all of them, with their ids and choices. Caller
 * frees. */
Status stream_beginnings(Stream *out, const Stream *in, int n, int64_t rows, Error *err);
/* Room for `copies` copies of a stream, one after the other; the first holds its values, the others nothing but the
 * ids. Caller frees. */
Status stream_copies(Stream *out, const Stream *one, int copies, Error *err);
/* Copies [first, first + n) of such a stream as a stream of their own. Borrows everything: never to be freed. */
Stream stream_view(const Stream *copies, int first, int n);
/* After a pass into a view: takes over the choices that an indexer made there for the first time. */
Status stream_view_end(Stream *copies, int first, Stream *view, Error *err);
/* One copy's values and choices over another's. */
void stream_copy_over(Stream *copies, int to, int from);

#endif
