#include "run/pass.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"

Status pass_linear_start(Pass *ps, LinearRun *l, int32_t index, Error *err)
{
    const Linear *lin = &ps->r->m->linears[index];
    const Overlay *overlay = ps->r->opt.overlay;
    *l = linear_ahead(ps->r, lin);
    l->index = index;
    l->form = ps->forms ? ps->forms[index - ps->u->first] : NULL;
    RETURN_IF_ERROR(source_check(&ps->r->src, lin, err));
    l->weight_mask = taps_weight_wanted(&ps->hub, index);
    l->inputs = overlay_inputs(overlay, index);
    l->low = ps->bare ? NULL : overlay_branch(overlay, index);
    if (taps_energy_wanted(&ps->hub, pass_tap_mask(ps, TAP_LINEAR_IN, overlay_input(overlay, ps->r->m, index)))) {
        l->energy = mem_zarray((size_t)((ps->plan.n + ps->in->samples) * l->panels), sizeof *l->energy);
        if (!l->energy)
            return error_nomem(err, "output energies");
    }
    l->bias_apart = lin->out_step > 0;
    /* libm's arithmetic is the one to compare with: it multiplies what quantization makes of the values */
    l->codes = l->form && l->form->weight_codes && !ps->r->ops.libm && !ps->grad && lin->in % 2 == 0;
    if (l->codes && !(l->scale = mem_array((size_t)lin->out, sizeof *l->scale)))
        return error_nomem(err, "the scales of a weight");
    return source_bias(&ps->r->src, &ps->ops, lin, &l->bias, err);
}

void pass_linear_end(LinearRun *l)
{
    free(l->bias);
    free(l->energy);
    free(l->scale);
}

uint64_t pass_tap_mask(const Pass *ps, TapKind kind, int64_t linear)
{
    return taps_wanted(&ps->hub, (Tap){kind, ps->layer, linear});
}

Status pass_feed_tap(Pass *ps, TapKind kind, int64_t linear, const float *x, int64_t width, int64_t ld, Error *err)
{
    Tap tap = {kind, ps->layer, linear};
    TapFeed f = {&ps->hub, taps_wanted(&ps->hub, tap), tap, ps->in, ps->s0, ps->row0, x, width, ld};
    if (!f.mask)
        return ST_OK;
    if (ps->b0 == 0)
        RETURN_IF_ERROR(taps_begin(&ps->hub, f.mask, tap, ps->in, width, err));
    Batch b = {.n = 0};
    batch_add(&b, PHASE_STATISTICS, taps_task, &f, ps->s1 - ps->s0);
    RETURN_IF_ERROR(batch_run(&b, ps->r->opt.pool, ps->r->opt.cancel, err));
    return ps->b1 == ps->plan.n ? taps_end(&ps->hub, f.mask, tap, err) : ST_OK;
}

void pass_take_all(Pass *ps)
{
    ps->b0 = ps->row0 = 0;
    ps->b1 = ps->plan.n;
    ps->rows = ps->in->rows;
    ps->s0 = 0;
    ps->s1 = ps->in->samples;
}

int pass_sample_of_row(const Pass *ps, int64_t t)
{
    int lo = ps->s0, hi = ps->s1;
    while (hi - lo > 1) {
        int mid = lo + (hi - lo) / 2;
        if (ps->in->start[mid] <= ps->row0 + t)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

int64_t pass_tile_end(int64_t index, int64_t rows)
{
    return min_i64((index + 1) * PASS_TILE, rows);
}

Status pass_tiles(const Pass *ps, Phase phase, PoolTask *fn, void *ctx, int64_t rows, Error *err)
{
    Batch b = {.n = 0};
    batch_add(&b, phase, fn, ctx, div_up(rows, PASS_TILE));
    return batch_run(&b, ps->r->opt.pool, ps->r->opt.cancel, err);
}
