/* The sweep: many perturbed copies of a stream on their way together. */
#include "run/rowplan.h"
#include "run/schedule.h"

#include <stdlib.h>
#include <string.h>

/* One chunk of samples on its way. Copy 0 of `all` is float's; perturbation way[i] is copy 1 + i. */
typedef struct SweepRun {
    Runner *r;
    const Sweep *s;
    const SweepSink *sink;
    int copies;       /* beside the float one, at most */
    int *by_unit;     /* [s->n] perturbations by unit */
    int *way;         /* [copies] those on their way, in the order of by_unit */
    int nway, begun;  /* begun: of by_unit */
    Stream all;
    int s0;
} SweepRun;

/* By unit, those of one unit as in the list. */
static void sort_perturbs(const Sweep *s, int *order)
{
    int n = 0;
    for (int unit = 0; unit < s->last; unit++)
        for (int i = 0; i < s->n; i++)
            if (s->perturb[i].unit == unit)
                order[n++] = i;
}

int schedule_sweep_copies(const Sweep *s)
{
    int most = 0;
    for (int unit = 0; unit < s->last; unit++) {
        int now = 0;
        for (int i = 0; i < s->n; i++)
            now += s->perturb[i].unit <= unit && s->perturb[i].until > unit;
        most = now > most ? now : most;
    }
    return most;
}

uint64_t schedule_sweep_bytes(const Model *m, int copies, int64_t rows, int64_t longest, int threads)
{
    rows *= 1 + (int64_t)copies;
    const RunnerAsk ask = {.rows = rows, .longest = longest, .threads = threads};
    return runner_estimate(m, &ask) + (uint64_t)rows * sizeof(int32_t);
}

/* ---- the way of one chunk ---- */

static Status run_view(SweepRun *w, int unit, const Variant *v, int from, int to, int n, Error *err)
{
    Stream in = stream_view(&w->all, from, n), out = stream_view(&w->all, to, n);
    int64_t others = w->all.rows - in.rows * (from == to ? 1 : 2);
    runner_hold(w->r, (uint64_t)(others * w->all.width) * sizeof(float));
    Status st = runner_layer(w->r, unit, v, &in, &out, NULL, 0, err);
    Status kept = stream_view_end(&w->all, to, &out, err);
    return st != ST_OK ? st : kept;
}

/* What a perturbation that is on its way does at this unit, NULL: nothing. */
static const Variant *again_at(const Perturb *p, int unit)
{
    for (p = p->then; p; p = p->then)
        if (p->unit == unit)
            return p->variant;
    return NULL;
}

/* The perturbations that begin at this unit leave the float stream; then all others go through it, those that it changes
 * by themselves, those between them together. */
static Status run_unit(SweepRun *w, int unit, Error *err)
{
    const Perturb *p = w->s->perturb;
    Variant plain = {.sdpa = w->s->sdpa};
    int on = w->nway;
    for (; w->begun < w->s->n && p[w->by_unit[w->begun]].unit == unit; w->begun++) {
        int k = w->by_unit[w->begun];
        w->way[w->nway++] = k;
        RETURN_IF_ERROR(run_view(w, unit, p[k].variant, 0, w->nway, 1, err));
    }
    for (int c = 0, n; c <= on; c += n) {
        const Variant *v = c ? again_at(&p[w->way[c - 1]], unit) : NULL;
        for (n = 1; !v && c + n <= on && !again_at(&p[w->way[c + n - 1]], unit);)
            n++;
        RETURN_IF_ERROR(run_view(w, unit, v ? v : &plain, c, c, n, err));
    }
    return ST_OK;
}

/* Hands over what has arrived; those still on their way close up. */
static Status hand_over(SweepRun *w, int unit, Error *err)
{
    int left = 0;
    Stream plain = stream_view(&w->all, 0, 1);
    for (int i = 0; i < w->nway; i++) {
        int k = w->way[i];
        if (w->s->perturb[k].until == unit + 1) {
            Stream changed = stream_view(&w->all, 1 + i, 1);
            RETURN_IF_ERROR(w->sink->stream(w->sink->ctx, k, w->s0, &plain, &changed, err));
            continue;
        }
        if (left < i)
            stream_copy_over(&w->all, 1 + left, 1 + i);
        w->way[left++] = k;
    }
    w->nway = left;
    return ST_OK;
}

static Status run_chunk(SweepRun *w, const TokenSet *t, Error *err)
{
    Stream one;
    RETURN_IF_ERROR(runner_embed(w->r, t, &one, err));
    Status st = stream_copies(&w->all, &one, 1 + w->copies, err);
    stream_fini(&one);
    w->nway = w->begun = 0;
    for (int unit = 0; st == ST_OK && unit < w->s->last; unit++) {
        st = cancel_check(runner_cancel(w->r), err);
        if (st == ST_OK)
            st = run_unit(w, unit, err);
        if (st == ST_OK)
            st = hand_over(w, unit, err);
    }
    stream_fini(&w->all);
    runner_hold(w->r, 0);
    return st;
}

/* ---- chunks ---- */

/* The chunk's end is where a tile of rows of all the texts ends, so that a sample's tiles are the same in any chunk. */
static Status chunk_end(const SweepRun *w, const RowPlan *plan, int s0, int *s1, Error *err)
{
    const TokenSet *t = w->s->tokens;
    const Model *m = runner_model(w->r);
    uint64_t limit = runner_mem_limit(w->r);
    int64_t want = w->s->chunk_rows ? w->s->chunk_rows : SWEEP_ROWS;
    *s1 = s0;
    for (int64_t b = 0; b <= plan->n; b++) {
        int end = plan->sample[b];
        if (end <= s0)
            continue;
        int64_t rows = t->start[end] - t->start[s0];
        uint64_t bytes =
            schedule_sweep_bytes(m, w->copies, rows, plan->longest_sample, pool_threads(runner_pool(w->r)));
        if (limit && bytes > limit && *s1 == s0)
            return error_set(err, ST_NOMEM,
                             "%d copies of the %lld tokens that travel together take %.1f MB but the limit leaves "
                             "%.1f MB: raise --mem, or use fewer or shorter texts (--max-samples, --seq-len)",
                             1 + w->copies, (long long)rows, (double)bytes / 1e6, (double)limit / 1e6);
        if (*s1 > s0 && (rows > want || (limit && bytes > limit)))
            return ST_OK;
        *s1 = end;
    }
    return ST_OK;
}

static Status run_texts(SweepRun *w, int s0, int s1, Error *err)
{
    const TokenSet *t = w->s->tokens;
    TokenSet part;
    RETURN_IF_ERROR(tokens_part(&part, t, s0, s1 - s0, err));
    w->s0 = s0;
    Status st = run_chunk(w, &part, err);
    free(part.start);
    return st;
}

static bool prepares(const Model *m, const Perturb *p)
{
    for (; p; p = p->then)
        for (int i = 0; p->variant->forms && i < m->units[p->unit].count; i++)
            if (p->variant->forms[i] && p->variant->forms[i]->prepare)
                return true;
    return false;
}

static Status check_sweep(const Model *m, const Sweep *s, Error *err)
{
    if (s->last < 0 || s->last > model_depth(m) || s->first_sample < 0 || s->first_sample > s->tokens->samples)
        return error_set(err, ST_INTERNAL, "a sweep over %d units from sample %d on", s->last, s->first_sample);
    for (int i = 0; i < s->n; i++)
        for (const Perturb *p = &s->perturb[i]; p->then; p = p->then)
            if (p->then->unit <= p->unit || p->then->unit >= s->perturb[i].until)
                return error_set(err, ST_INTERNAL, "a perturbation of unit %d goes on at unit %d", p->unit, p->then->unit);
    for (int i = 0; i < s->n; i++)
        if (s->perturb[i].unit < 0 || s->perturb[i].until <= s->perturb[i].unit || s->perturb[i].until > s->last)
            return error_set(err, ST_INTERNAL, "a perturbation of unit %d until %d in a sweep over %d units",
                             s->perturb[i].unit, s->perturb[i].until, s->last);
    return ST_OK;
}

static Status run_sweep(SweepRun *w, const RowPlan *plan, Error *err)
{
    const Sweep *s = w->s;
    for (int s0 = s->first_sample, s1; s0 < s->tokens->samples; s0 = s1) {
        RETURN_IF_ERROR(chunk_end(w, plan, s0, &s1, err));
        for (int i = 0; (s0 > 0 || s1 < s->tokens->samples) && i < s->n; i++)
            if (prepares(runner_model(w->r), &s->perturb[i]))
                return error_set(err, ST_USAGE, "layer %d: its static ranges come from all texts, which do not fit "
                                 "memory at once: raise --mem, or use fewer texts (--max-samples)",
                                 s->perturb[i].unit);
        RETURN_IF_ERROR(run_texts(w, s0, s1, err));
        if (w->sink->chunk)
            RETURN_IF_ERROR(w->sink->chunk(w->sink->ctx, s1, s->tokens->samples, err));
    }
    return ST_OK;
}

Status schedule_sweep(Runner *r, const Sweep *s, const SweepSink *sink, Error *err)
{
    RETURN_IF_ERROR(check_sweep(runner_model(r), s, err));
    SweepRun w = {.r = r, .s = s, .sink = sink, .copies = schedule_sweep_copies(s)};
    w.by_unit = mem_array((size_t)s->n + 1, sizeof *w.by_unit);
    w.way = mem_array((size_t)w.copies + 1, sizeof *w.way);
    Stream shape = {.samples = s->tokens->samples, .rows = s->tokens->start[s->tokens->samples],
                    .start = s->tokens->start};
    RowPlan plan = {0};
    Status st = w.by_unit && w.way ? rowplan_make(&plan, &shape, err) : error_nomem(err, "a sweep");
    if (st == ST_OK) {
        sort_perturbs(s, w.by_unit);
        st = run_sweep(&w, &plan, err);
    }
    rowplan_fini(&plan);
    free(w.by_unit);
    free(w.way);
    return st;
}
