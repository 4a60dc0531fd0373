#include "measure/sink_measure.h"

#include <string.h>

#include "dist/dist.h"

/* ---- states between units ---- */

/* A state: the streams at the input of a layer, and what the layers before it left float. */
enum { STREAMS = 3, PARTS = 2 * STREAMS + 1 };

/* The number of parts. */
static int parts_of(const Model *m, int layer, const Stream *const *s, int n, Unseen *u, StatePart parts[PARTS])
{
    int k = 0;
    for (int i = 0; i < n; i++)
        parts[k++] = (StatePart){s[i]->data, (size_t)s[i]->rows * (size_t)s[i]->width * sizeof *s[i]->data};
    for (int i = 0; i < n; i++)
        if (runner_carries(m, layer, s[i]))
            parts[k++] = (StatePart){s[i]->select,
                                     (size_t)s[i]->rows * (size_t)s[i]->select_words * sizeof *s[i]->select};
    parts[k++] = (StatePart){u, sizeof *u};
    return k;
}

/* While a pass runs over one of the streams, the others wait. */
static void hold_all_but(const MeasureSink *s, const Stream *flow, const Stream *now)
{
    const Stream *all[STREAMS] = {flow, &s->s[0], &s->s[1]};
    uint64_t bytes = 0;
    for (int i = 0; i <= s->n; i++)
        if (all[i] != now)
            bytes += (uint64_t)all[i]->rows * ((uint64_t)all[i]->width * sizeof *all[i]->data +
                                               (uint64_t)all[i]->select_words * sizeof *all[i]->select);
    runner_hold(s->r, bytes);
}

static void keep_state(MeasureSink *s, int layer, const Stream *flow)
{
    StatePart parts[PARTS];
    int n = parts_of(s->m, layer, (const Stream *[]){flow, &s->s[0], &s->s[1]}, 1 + s->n, &s->unseen, parts);
    statecache_put(s->states, &s->keys[layer], parts, n);
}

/* Deepest layer whose input is kept; 0 (the embedding) always can be had. */
static int measure_deepest(const Model *m, StateCache *states, const Digest *keys)
{
    int layer = m->cfg.layers;
    while (layer > 0 && !statecache_has(states, &keys[layer]))
        layer--;
    return layer;
}

static void drop_streams(MeasureSink *s, Stream *flow)
{
    stream_fini(flow);
    stream_fini(&s->s[0]);
    stream_fini(&s->s[1]);
}

/* Room for the streams at the input of a layer. */
static Status make_streams(MeasureSink *s, int layer, Stream *flow, Error *err)
{
    Stream *all[STREAMS] = {flow, &s->s[0], &s->s[1]};
    for (int i = 0; i <= s->n; i++) {
        const TokenSet *t = i == 1 ? s->eval : s->calib;
        RETURN_IF_ERROR(stream_init(all[i], t->samples, t->start, s->m->cfg.stream_width, err));
        RETURN_IF_ERROR(stream_set_ids(all[i], t->ids, err));
        if (runner_carries(s->m, layer, all[i]))
            RETURN_IF_ERROR(runner_carry(all[i], err));
    }
    return ST_OK;
}

/* Streams of a state that is kept; *got false, and no streams, when it isn't whole. */
static Status load_state(MeasureSink *s, int layer, Stream *flow, bool *got, Error *err)
{
    StatePart parts[PARTS];
    Status st = make_streams(s, layer, flow, err);
    if (st == ST_OK) {
        int n = parts_of(s->m, layer, (const Stream *[]){flow, &s->s[0], &s->s[1]}, 1 + s->n, &s->unseen, parts);
        *got = statecache_get(s->states, &s->keys[layer], parts, n);
    }
    if (st != ST_OK || !*got)
        drop_streams(s, flow);
    return st;
}

static Status embed(MeasureSink *s, Stream *flow, Error *err)
{
    s->unseen = (Unseen){.first = -1};
    Status st = runner_embed(s->r, s->calib, flow, err);
    if (st == ST_OK)
        st = runner_embed(s->r, s->eval, &s->s[0], err);
    if (st == ST_OK && s->n == 2)
        st = runner_embed(s->r, s->calib, &s->s[1], err);
    if (st != ST_OK)
        drop_streams(s, flow);
    return st;
}

/* ---- the sink ---- */

static Status sink_open(void *self, const Pipeline *p, Runner *r, SinkWants *wants, Error *err)
{
    (void)err;
    MeasureSink *s = self;
    s->m = pipeline_model(p);
    s->r = r;
    s->n = pipeline_flow_is_output(p) ? 1 : 2;
    s->keeps = !pipeline_overlay(p);
    *wants = (SinkWants){.first = s->keeps ? measure_deepest(s->m, s->states, s->keys) : 0, .end = s->m->cfg.layers,
                         .flow = true};
    return ST_OK;
}

static Status give_output(MeasureSink *s, const Stream *flow, Error *err)
{
    return s->output(s->ctx, s->n == 2 ? &s->s[1] : flow, &s->s[0], err);
}

/* The deepest layer up to `most` whose input is kept, on any rank the least one; 0: none. */
static Status deepest_of_all(const MeasureSink *s, int most, int64_t *layer, Error *err)
{
    *layer = most;
    while (*layer > 0 && !statecache_has(s->states, &s->keys[*layer]))
        --*layer;
    return dist_least(s->dist, layer, err);
}

/* Whether all ranks have that state, which is then loaded. */
static Status load_everywhere(MeasureSink *s, int layer, Stream *flow, bool *got, Error *err)
{
    *got = false;
    if (statecache_has(s->states, &s->keys[layer]))
        RETURN_IF_ERROR(load_state(s, layer, flow, got, err));
    int64_t all = *got;
    RETURN_IF_ERROR(dist_least(s->dist, &all, err));
    if (*got && !all)
        drop_streams(s, flow);
    *got = all;
    return ST_OK;
}

static Status sink_start(void *self, int most, int *unit, Stream *flow, Error *err)
{
    MeasureSink *s = self;
    bool got = false;
    *unit = 0;
    for (int64_t layer = most + 1; layer > 0 && !got;) {
        RETURN_IF_ERROR(deepest_of_all(s, (int)layer - 1, &layer, err));
        if (layer > 0)
            RETURN_IF_ERROR(load_everywhere(s, (int)layer, flow, &got, err));
        if (got)
            *unit = (int)layer;
    }
    if (*unit == 0)
        RETURN_IF_ERROR(embed(s, flow, err));
    s->first = *unit;
    hold_all_but(s, flow, flow);
    Status st = s->first == s->m->cfg.layers ? give_output(s, flow, err) : ST_OK;
    if (st != ST_OK)
        drop_streams(s, flow);
    return st;
}

static void count_unseen(MeasureSink *s, const UnitRun *u)
{
    int32_t expert = -1;
    for (int64_t i = 0; i < u->n; i++) {
        const Linear *l = &u->model->linears[u->first + i];
        if (!unit_unseen(u, i))
            continue;
        s->unseen.first = s->unseen.linears ? s->unseen.first : u->first + i;
        s->unseen.linears++;
        s->unseen.experts += l->expert != expert;
        expert = l->expert;
    }
}

static Status sink_unit(void *self, UnitRun *u, const Stream *flow, Error *err)
{
    MeasureSink *s = self;
    count_unseen(s, u);
    for (int i = 0; i < s->n; i++) {
        if (!s->s[i].rows) /* ranks that have no evaluation text */
            continue;
        hold_all_but(s, flow, &s->s[i]);
        RETURN_IF_ERROR(unit_follow(u, &s->s[i], err));
    }
    hold_all_but(s, flow, flow);
    if (s->keeps && (s->only < 0 || s->only == u->unit + 1))
        keep_state(s, u->unit + 1, flow);
    return u->unit + 1 == s->m->cfg.layers ? give_output(s, flow, err) : ST_OK;
}

static void sink_close(void *self, bool keep)
{
    MeasureSink *s = self;
    (void)keep;
    runner_hold(s->r, 0);
    stream_fini(&s->s[0]);
    stream_fini(&s->s[1]);
}

Sink measure_sink(MeasureSink *s)
{
    static const SinkOps ops = {.name = "measurement", .open = sink_open, .start = sink_start, .unit = sink_unit,
                                .close = sink_close};
    return (Sink){&ops, s};
}
