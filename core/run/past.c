#include "run/past.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "run/block.h"

typedef struct PastBlock {
    PastShape shape;
    float *slot[PAST_SLOTS]; /* [texts][rows][shape.row], or [texts][shape.state] */
} PastBlock;

struct Past {
    const Model *m;
    int texts;
    int64_t rows;
    int64_t *length;  /* [texts] */
    int *first;       /* [layers] the unit's first entry of block */
    PastBlock *block; /* of all units, one after the other */
    int blocks;
};

static PastShape shape_of(const Unit *u, int block)
{
    PastShape s = {.cannot = NULL};
    const BlockOps *ops = block_ops(u->block[block].type);
    if (ops && ops->past)
        ops->past(&u->block[block], u->cfg, &s);
    return s;
}

static int64_t text_floats(const PastShape *s, int slot, int64_t rows)
{
    return s->row[slot] * rows + s->state[slot];
}

static Status slots_new(Past *p, PastBlock *b, Error *err)
{
    for (int k = 0; k < PAST_SLOTS; k++) {
        int64_t n = text_floats(&b->shape, k, p->rows), all;
        if (!n)
            continue;
        b->slot[k] = mul_i64(n, p->texts, &all) ? mem_aligned((size_t)all, sizeof *b->slot[k]) : NULL;
        if (!b->slot[k])
            return error_nomem(err, "the keys and values of the texts");
        if (b->shape.state[k])
            memset(b->slot[k], 0, (size_t)all * sizeof *b->slot[k]);
    }
    return ST_OK;
}

static Status blocks_new(Past *p, Error *err)
{
    const Model *m = p->m;
    for (int u = 0, at = 0; u < m->cfg.layers; u++) {
        p->first[u] = at;
        for (int i = 0; i < m->units[u].nblocks; i++, at++) {
            PastBlock *b = &p->block[at];
            b->shape = shape_of(&m->units[u], i);
            if (b->shape.cannot)
                return error_set(err, ST_DATA, "layer %d has %s: no text can be generated token by token", u,
                                 b->shape.cannot);
            RETURN_IF_ERROR(slots_new(p, b, err));
        }
    }
    return ST_OK;
}

Status past_new(Past **out, const Model *m, int texts, int64_t rows, Error *err)
{
    *out = NULL;
    Past *p = mem_zarray(1, sizeof *p);
    if (!p)
        return error_nomem(err, "the keys and values of the texts");
    *p = (Past){.m = m, .texts = texts, .rows = rows};
    for (int u = 0; u < m->cfg.layers; u++)
        p->blocks += m->units[u].nblocks;
    p->length = mem_zarray((size_t)texts, sizeof *p->length);
    p->first = mem_zarray((size_t)m->cfg.layers, sizeof *p->first);
    p->block = mem_zarray((size_t)p->blocks, sizeof *p->block);
    bool made = p->length && p->first && p->block;
    Status st = made ? blocks_new(p, err) : error_nomem(err, "the keys and values of the texts");
    if (st != ST_OK) {
        past_free(p);
        return st;
    }
    *out = p;
    return ST_OK;
}

void past_free(Past *p)
{
    if (!p)
        return;
    for (int i = 0; p->block && i < p->blocks; i++)
        for (int k = 0; k < PAST_SLOTS; k++)
            free(p->block[i].slot[k]);
    free(p->block);
    free(p->first);
    free(p->length);
    free(p);
}

uint64_t past_bytes(const Model *m, int texts, int64_t rows)
{
    uint64_t sum = 0;
    for (int u = 0; u < m->cfg.layers; u++)
        for (int i = 0; i < m->units[u].nblocks; i++) {
            const PastShape s = shape_of(&m->units[u], i);
            for (int k = 0; k < PAST_SLOTS; k++)
                sum += (uint64_t)text_floats(&s, k, rows) * (uint64_t)texts * sizeof(float);
        }
    return sum;
}

int64_t past_length(const Past *p, int text)
{
    return p->length[text];
}

void past_forget(Past *p, int text)
{
    p->length[text] = 0;
    for (int i = 0; i < p->blocks; i++)
        for (int k = 0; k < PAST_SLOTS; k++) {
            int64_t n = p->block[i].shape.state[k];
            if (n)
                memset(p->block[i].slot[k] + text * n, 0, (size_t)n * sizeof(float));
        }
}

void past_advance(const Stream *s)
{
    for (int i = 0; i < s->samples; i++)
        s->past->length[s->text[i]] += s->start[i + 1] - s->start[i];
}

int64_t stream_seen(const Stream *s, int sample)
{
    return s->past ? s->past->length[s->text[sample]] : 0;
}

static PastBlock *block_of(const Pass *ps, const BlockRun *b)
{
    Past *p = ps->in->past;
    return &p->block[p->first[ps->layer] + (int)(b->b - ps->u->block)];
}

float *past_at(const Pass *ps, const BlockRun *b, int slot, int sample)
{
    const PastBlock *at = block_of(ps, b);
    return at->slot[slot] + ps->in->text[sample] * text_floats(&at->shape, slot, ps->in->past->rows);
}

void past_put(const Pass *ps, const BlockRun *b, int slot, const float *x, int64_t ld)
{
    int64_t width = block_of(ps, b)->shape.row[slot];
    for (int s = ps->s0; s < ps->s1; s++) {
        float *to = past_at(ps, b, slot, s) + stream_seen(ps->in, s) * width;
        const float *from = x + (ps->in->start[s] - ps->row0) * ld;
        for (int64_t t = 0; t < ps->in->start[s + 1] - ps->in->start[s]; t++)
            memcpy(to + t * width, from + t * ld, (size_t)width * sizeof *to);
    }
}
