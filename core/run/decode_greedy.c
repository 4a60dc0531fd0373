#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "run/decode.h"
#include "run/past.h"

/* Greedy generation: a place of the decoder has a prompt until its text ends, then takes the next one. */

typedef struct Place {
    int prompt;    /* -1: none */
    int64_t made;  /* tokens behind it */
    int32_t last;
} Place;

typedef struct Run {
    Decoder *d;
    const TokenSet *prompts;
    const GreedyOptions *o;
    Greedy *out;
    Place *place;        /* [places] */
    int places, next;    /* next: prompt that no place has had */
    int32_t **made;      /* [prompts][max_tokens] what was generated, *n of it in count */
    int64_t *count;
    /* of a step */
    int *text;           /* [places] */
    int64_t *start;
    int32_t *ids;
    float *logits;       /* [places][vocab] */
} Run;

void greedy_fini(Greedy *g)
{
    free(g->start);
    free(g->ids);
    free(g->end);
    *g = (Greedy){0};
}

static bool is_stop(const GreedyOptions *o, int32_t id)
{
    for (int i = 0; i < o->nstop; i++)
        if (o->stop[i] == id)
            return true;
    return false;
}

/* The first of the largest. ST_DATA without a number. */
static Status largest(const float *x, int64_t n, int32_t *out, Error *err)
{
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(x[i]))
            return error_set(err, ST_DATA, "the logits hold NaN: nothing can be generated");
        if (best < 0 || x[i] > x[best])
            best = i;
    }
    *out = (int32_t)best;
    return ST_OK;
}

static int64_t prompt_length(const Run *r, int prompt)
{
    return r->prompts->start[prompt + 1] - r->prompts->start[prompt];
}

/* Gives every free place a prompt, and lists what goes through the model. Returns the texts of the step. */
static int fill_step(Run *r)
{
    int n = 0;
    r->start[0] = 0;
    for (int i = 0; i < r->places; i++) {
        Place *p = &r->place[i];
        bool begins = p->prompt < 0 && r->next < r->prompts->samples;
        if (begins) {
            *p = (Place){.prompt = r->next++};
            decoder_forget(r->d, i);
        }
        if (p->prompt < 0)
            continue;
        int64_t len = begins ? prompt_length(r, p->prompt) : 1;
        memcpy(r->ids + r->start[n], begins ? r->prompts->ids + r->prompts->start[p->prompt] : &p->last,
               (size_t)len * sizeof *r->ids);
        r->text[n] = i;
        r->start[n + 1] = r->start[n] + len;
        n++;
    }
    return n;
}

static Status keep_token(Run *r, int prompt, int32_t id, Error *err)
{
    if (!r->made[prompt] && !(r->made[prompt] = mem_array((size_t)r->o->max_tokens, sizeof **r->made)))
        return error_nomem(err, "what is generated");
    r->made[prompt][r->count[prompt]++] = id;
    return ST_OK;
}

/* The token behind a place's text. */
static Status take_token(Run *r, Place *p, const float *logits, int64_t vocab, Error *err)
{
    Status st = largest(logits, vocab, &p->last, err);
    if (st != ST_OK)
        return error_prefix(err, st, "text %d: ", p->prompt + 1);
    GreedyEnd *end = &r->out->end[p->prompt];
    bool ends = is_stop(r->o, p->last);
    *end = GREEDY_STOP;
    if (!ends) {
        RETURN_IF_ERROR(keep_token(r, p->prompt, p->last, err));
        bool told = r->o->token && !r->o->token(r->o->ctx, p->prompt, p->last);
        ends = told || ++p->made == r->o->max_tokens;
        *end = told ? GREEDY_TOLD : GREEDY_LENGTH;
    }
    if (ends)
        p->prompt = -1;
    return ST_OK;
}

static Status run_steps(Run *r, int64_t vocab, Error *err)
{
    for (int n; (n = fill_step(r)) > 0; r->out->steps++) {
        RETURN_IF_ERROR(decoder_step(r->d, &(DecodeStep){n, r->text, r->start, r->ids}, r->logits, err));
        for (int i = 0; i < n; i++)
            RETURN_IF_ERROR(take_token(r, &r->place[r->text[i]], r->logits + i * vocab, vocab, err));
    }
    return ST_OK;
}

static Status collect(const Run *r, Error *err)
{
    Greedy *g = r->out;
    for (int i = 0; i < g->texts; i++)
        g->start[i + 1] = g->start[i] + r->count[i];
    g->ids = mem_array((size_t)g->start[g->texts], sizeof *g->ids);
    if (!g->ids)
        return error_nomem(err, "what is generated");
    for (int i = 0; i < g->texts; i++)
        if (r->count[i])
            memcpy(g->ids + g->start[i], r->made[i], (size_t)r->count[i] * sizeof *g->ids);
    return ST_OK;
}

/* Ids that one step may have at most: as many prompts as there are places. */
static int64_t most_ids(const TokenSet *t, int places)
{
    int64_t longest = 1;
    for (int i = 0; i < t->samples; i++)
        longest = t->start[i + 1] - t->start[i] > longest ? t->start[i + 1] - t->start[i] : longest;
    return longest * places;
}

static Status make_run(Run *r, int64_t vocab, Error *err)
{
    size_t places = (size_t)r->places, n = (size_t)r->prompts->samples;
    r->place = mem_zarray(places, sizeof *r->place);
    r->made = mem_zarray(n, sizeof *r->made);
    r->count = mem_zarray(n, sizeof *r->count);
    r->text = mem_array(places, sizeof *r->text);
    r->start = mem_array(places + 1, sizeof *r->start);
    r->ids = mem_array((size_t)most_ids(r->prompts, r->places), sizeof *r->ids);
    r->logits = mem_array(places * (size_t)vocab, sizeof *r->logits);
    r->out->start = mem_zarray(n + 1, sizeof *r->out->start);
    r->out->end = mem_zarray(n, sizeof *r->out->end);
    if (!r->place || !r->made || !r->count || !r->text || !r->start || !r->ids || !r->logits || !r->out->start || !r->out->end)
        return error_nomem(err, "generation");
    for (int i = 0; i < r->places; i++)
        r->place[i].prompt = -1;
    return ST_OK;
}

Status decode_greedy(Decoder *d, const TokenSet *prompts, const GreedyOptions *o, Greedy *out, Error *err)
{
    int64_t vocab = decoder_vocab(d);
    *out = (Greedy){.texts = prompts->samples};
    Run r = {.d = d, .prompts = prompts, .o = o, .out = out, .places = decoder_texts(d)};
    Status st = o->max_tokens > 0 ? make_run(&r, vocab, err) : error_set(err, ST_USAGE, "0 tokens to generate");
    for (int i = 0; i < prompts->samples && st == ST_OK; i++)
        if (prompt_length(&r, i) < 1)
            st = error_set(err, ST_DATA, "text %d has no token: nothing can be put behind it", i + 1);
    if (st == ST_OK)
        st = run_steps(&r, vocab, err);
    if (st == ST_OK)
        st = collect(&r, err);
    for (int i = 0; r.made && i < prompts->samples; i++)
        free(r.made[i]);
    free(r.place);
    free(r.made);
    free(r.count);
    free(r.text);
    free(r.start);
    free(r.ids);
    free(r.logits);
    if (st != ST_OK)
        greedy_fini(out);
    return st;
}
