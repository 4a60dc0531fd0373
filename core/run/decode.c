#include "run/decode.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/past.h"
#include "run/ready.h"

struct Decoder {
    Runner *r;
    const Model *m;
    DecoderOptions o;
    Past *past;
    Ready *ready;
    int32_t *ids; /* [texts][rows] */
};

/* ---- start and end ---- */

static Status check_forms(const Model *m, const DecoderOptions *o, Error *err)
{
    for (int u = 0; u < m->cfg.layers && o->variant; u++)
        for (int64_t i = 0; o->variant[u] && o->variant[u]->forms && i < m->units[u].count; i++) {
            const LinearForm *f = o->variant[u]->forms[i];
            if (f && f->prepare)
                return error_set(err, ST_USAGE, "'%s': its activations are quantized by all tokens of a text together, which "
                                 "generation, token by token, has not", m->linears[m->units[u].first + i].name);
        }
    return ST_OK;
}

Status decoder_new(Decoder **out, Runner *r, const DecoderOptions *o, Error *err)
{
    const Model *m = runner_model(r);
    *out = NULL;
    RETURN_IF_ERROR(check_forms(m, o, err));
    Decoder *d = mem_zarray(1, sizeof *d);
    if (!d)
        return error_nomem(err, "generation");
    *d = (Decoder){.r = r, .m = m, .o = *o, .ids = mem_array((size_t)(o->texts * o->rows), sizeof *d->ids)};
    Status st = d->ids ? past_new(&d->past, m, o->texts, o->rows, err) : error_nomem(err, "the texts");
    if (st == ST_OK && o->ready)
        st = ready_new(&d->ready, m, o->ready, err);
    if (st != ST_OK) {
        decoder_free(d);
        return st;
    }
    *out = d;
    return ST_OK;
}

void decoder_free(Decoder *d)
{
    if (!d)
        return;
    past_free(d->past);
    ready_free(d->ready);
    free(d->ids);
    free(d);
}

int decoder_texts(const Decoder *d)
{
    return d->o.texts;
}

int64_t decoder_vocab(const Decoder *d)
{
    return d->m->cfg.vocab;
}

int64_t decoder_length(const Decoder *d, int text)
{
    return past_length(d->past, text);
}

void decoder_forget(Decoder *d, int text)
{
    past_forget(d->past, text);
}

uint64_t decoder_bytes(const Model *m, int texts, int64_t rows)
{
    uint64_t text = (uint64_t)rows * sizeof(int32_t) + (uint64_t)m->cfg.vocab * sizeof(float);
    text += (uint64_t)(m->cfg.stream_width + m->cfg.hidden) * sizeof(float); /* last states */
    return past_bytes(m, texts, rows) + (uint64_t)texts * text;
}

uint64_t decoder_ready_bytes(const Model *m)
{
    const GemmOps *g = gemm_find(GEMM_F32);
    uint64_t sum = 0;
    for (int64_t i = 0; i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        if (l->layer >= m->cfg.layers)
            continue;
        int64_t rows = min_i64(panel_rows(l->in), l->out), panels = div_up(l->out, panel_rows(l->in));
        sum += (uint64_t)panels * (uint64_t)round_up((int64_t)g->packed_bytes(rows, l->in), 64) +
               (uint64_t)l->out * sizeof(float);
    }
    int64_t step = round_up((int64_t)g->packed_bytes(LOGITS_COLS, m->cfg.hidden), 64);
    return sum + (uint64_t)(div_up(m->cfg.vocab, LOGITS_COLS) * step);
}

uint64_t decoder_ready(const Decoder *d, int64_t *left)
{
    *left = d->ready ? d->ready->left : 0;
    return d->ready ? d->ready->bytes : 0;
}

/* ---- a step ---- */

/* Whether what was kept of a text is of no use once it has `len` tokens: some rotary embeddings depend on a text's length. */
static bool turns_anew(const Decoder *d, int text, int64_t len)
{
    const Model *m = d->m;
    int64_t before = past_length(d->past, text);
    for (int u = 0; u < m->cfg.layers && before; u++)
        for (int i = 0; i < m->units[u].nblocks; i++) {
            const RopeParams *rope = m->units[u].block[i].rope;
            if (rope && !rope_same(m->units[u].cfg, rope, before, len))
                return true;
        }
    return false;
}

/* The tokens that go through the model: the new ones, and of a text that begins anew all. */
static Status tokens_of(Decoder *d, const DecodeStep *s, TokenSet *t, Error *err)
{
    int64_t rows = 0;
    *t = (TokenSet){.name = (char *)(uintptr_t)"the texts", .samples = s->n};
    t->start = mem_array((size_t)s->n + 1, sizeof *t->start);
    if (!t->start)
        return error_nomem(err, "the texts");
    t->start[0] = 0;
    for (int i = 0; i < s->n; i++) {
        int64_t n = s->start[i + 1] - s->start[i], before = past_length(d->past, s->text[i]), len = before + n;
        if (n < 1)
            return error_set(err, ST_INTERNAL, "text %d has no token", s->text[i]);
        if (len > d->o.rows)
            return error_set(err, ST_USAGE, "a text of %lld tokens: there is room for %lld", (long long)len,
                             (long long)d->o.rows);
        memcpy(d->ids + s->text[i] * d->o.rows + before, s->ids + s->start[i], (size_t)n * sizeof *d->ids);
        if (turns_anew(d, s->text[i], len)) {
            past_forget(d->past, s->text[i]);
            n = len;
        }
        rows = t->start[i + 1] = rows + n;
    }
    t->ids = mem_array((size_t)rows, sizeof *t->ids);
    if (!t->ids)
        return error_nomem(err, "the texts");
    for (int i = 0; i < s->n; i++)
        memcpy(t->ids + t->start[i], d->ids + s->text[i] * d->o.rows + past_length(d->past, s->text[i]),
               (size_t)(t->start[i + 1] - t->start[i]) * sizeof *t->ids);
    return ST_OK;
}

/* The last row of every sample. */
static Status last_rows(const Stream *h, Stream *out, Error *err)
{
    int64_t *start = mem_array((size_t)h->samples + 1, sizeof *start);
    for (int i = 0; start && i <= h->samples; i++)
        start[i] = i;
    Status st = start ? stream_init(out, h->samples, start, h->width, err) : error_nomem(err, "the texts");
    for (int i = 0; i < h->samples && st == ST_OK; i++)
        memcpy(out->data + i * h->width, h->data + (h->start[i + 1] - 1) * h->width, (size_t)h->width * sizeof *h->data);
    free(start);
    return st;
}

static Status logits_of(Decoder *d, const Stream *h, float *logits, Error *err)
{
    Stream last = {0}, normed = {0};
    Status st = last_rows(h, &last, err);
    if (st == ST_OK)
        st = runner_final_norm(d->r, &last, &normed, NULL, 0, err);
    if (st == ST_OK)
        st = runner_logit_rows(d->r, &normed, logits, err);
    stream_fini(&last);
    stream_fini(&normed);
    return st;
}

static Status run_layers(Decoder *d, const int *text, Stream *h, Error *err)
{
    Status st = ST_OK;
    h->past = d->past;
    h->text = text;
    for (int i = 0; i < d->m->cfg.layers && st == ST_OK; i++)
        st = runner_layer(d->r, i, d->o.variant ? d->o.variant[i] : NULL, h, h, NULL, 0, err);
    if (st == ST_OK)
        past_advance(h);
    return st;
}

Status decoder_step(Decoder *d, const DecodeStep *s, float *logits, Error *err)
{
    TokenSet t;
    Stream h = {0};
    runner_keep_ready(d->r, d->ready);
    Status st = tokens_of(d, s, &t, err);
    if (st == ST_OK)
        st = runner_embed(d->r, &t, &h, err);
    if (st == ST_OK)
        st = run_layers(d, s->text, &h, err);
    if (st == ST_OK && logits)
        st = logits_of(d, &h, logits, err);
    runner_keep_ready(d->r, NULL);
    stream_fini(&h);
    free(t.start);
    free(t.ids);
    return st;
}
