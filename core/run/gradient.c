#include "run/gradient.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/lineargrad.h"
#include "run/need.h"

static uint64_t stream_bytes(const Model *m, int64_t rows)
{
    return (uint64_t)rows * ((uint64_t)m->cfg.stream_width * sizeof(float) + sizeof(int32_t));
}

/* State i of a unit, which block i reads: behind a block that is added behind the last one it is what that one read. */
static Status next_state(Runner *r, int unit, const Variant *v, Stream *state, int i, Error *err)
{
    if (r->m->units[unit].block[i - 1].spec->late)
        return stream_copy(&state[i], &state[i - 1], err);
    RETURN_IF_ERROR(stream_like(&state[i], &state[0], err));
    return unit_forward(r, unit, i - 1, i, v, &state[i - 1], &state[i], NULL, 0, err);
}

/* States between the blocks of a unit, then down. end: as unit_block_backward, whichever block it is for; NULL: none. */
static Status walk_down(Runner *r, int unit, const Variant *v, Stream *state, Stream *grad, Stream *end,
                        const GradHooks *hooks, Error *err)
{
    const Unit *u = &r->m->units[unit];
    Status st = ST_OK;
    for (int i = 1; st == ST_OK && i < u->nblocks; i++)
        st = next_state(r, unit, v, state, i, err);
    for (int i = u->nblocks - 1; st == ST_OK && i >= 0; i--)
        st = unit_block_backward(r, unit, i, v, &state[i], grad, u->block[i].spec->late ? end : NULL, hooks, err);
    return st;
}

Status unit_backward(Runner *r, int unit, const Variant *v, const Stream *in, Stream *grad, const GradHooks *hooks,
                     Error *err)
{
    const Model *m = r->m;
    RETURN_IF_ERROR(unit_has_gradients(m, unit, err));
    int n = m->units[unit].nblocks;
    Stream *state = mem_zarray((size_t)n, sizeof *state);
    if (!state)
        return error_nomem(err, "a backward pass");
    uint64_t held = r->held;
    bool late = unit_first_late(&m->units[unit]) < n;
    Stream end = {0};
    state[0] = *in;
    runner_hold(r, held + (uint64_t)(n - 1 + late) * stream_bytes(m, in->rows));
    Status st = late ? stream_copy(&end, grad, err) : ST_OK;
    if (st == ST_OK)
        st = walk_down(r, unit, v, state, grad, &end, hooks, err);
    runner_hold(r, held);
    for (int i = 1; i < n; i++)
        stream_fini(&state[i]);
    stream_fini(&end);
    free(state);
    return st;
}

/* What the workers need beyond a forward of the unit. */
static uint64_t more_for_workers(const Model *m, const Unit *u, NeedAsk ask, const BlockNeed *back)
{
    ask.back = false;
    BlockNeed forward = unit_need(m, u, 0, u->nblocks, NULL, &ask);
    uint64_t a = worker_need_bytes(&back->worker, ask.threads), b = worker_need_bytes(&forward.worker, ask.threads);
    return a > b ? a - b : 0;
}

uint64_t unit_backward_bytes(const Model *m, int unit, int64_t rows, int64_t longest, int threads)
{
    const Unit *u = &m->units[unit];
    const RunnerAsk plain = {.rows = rows, .longest = longest, .threads = threads};
    RunnerNeed forward = runner_need(m, &plain);
    const GemmOps *f32 = gemm_find(GEMM_F32);
    NeedAsk ask = {.rows = rows, .longest = longest, .band = min_i64(rows, BAND_MAX), .threads = threads, .back = true,
                   .gemms = {[NEED_F32] = f32, [NEED_PRODUCTS] = f32}};
    BlockNeed need = unit_need(m, u, 0, u->nblocks, NULL, &ask);
    uint64_t chunk = (uint64_t)min_i64(rows, max_i64(CHUNK_ROWS, longest));
    uint64_t room = passgrad_bytes(u, m->linears, f32);
    uint64_t layer = room + max_u64(chunk * (uint64_t)row_need_floats(&need.row) * sizeof(float), need.whole);
    int streams = u->nblocks - 1 + (unit_first_late(u) < u->nblocks);
    return (uint64_t)streams * stream_bytes(m, rows) + forward.kept + more_for_workers(m, u, ask, &need) +
           max_u64(forward.layer, layer);
}
