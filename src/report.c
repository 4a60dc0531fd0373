/* What 'slimscope MODEL' prints without a terminal: the ranking, and what keeping the two worst fused groups in float
 * gives back. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

enum { SHOWN_ROWS = 20, WORST = 2 };

static void put_row(Str *b, const Session *s, const RankedRow *r)
{
    const Model *m = session_model(s);
    Str name = {0};
    scope_unit_name(m, SCOPE_GROUP, r->unit, &name);
    if (r->failed || r->unseen) {
        str_printf(b, "   %c  %-40s  %s\n", r->failed ? '!' : '?', str_text(&name), r->reason);
    } else {
        Score alone = session_unit_score(s, metric_find("alone"), r->unit);
        str_printf(b, "%4d  %-40s  %11.4e", r->rank, str_text(&name), r->score);
        if (alone.state == SCORE_OK)
            str_printf(b, "  %11.4e\n", alone.value);
        else
            str_puts(b, "            -\n");
    }
    str_free(&name);
}

/* The table, and the names of the worst groups' first linears (borrowed). */
static Status print_table(App *a, const char *worst[WORST], Error *err)
{
    Session *s = a->session;
    RankedRow *rows;
    int64_t n;
    RETURN_IF_ERROR(ranking_make(s, metric_find("block_error"), NULL, &rows, &n, err));
    Str b = {0};
    int found = 0;
    const Model *m = session_model(s);
    str_printf(&b, "%s: %s, %d layers, %lld linears, %.1f million parameters\n", m->path, m->cfg.model_type, m->cfg.layers,
               (long long)m->nlinears, (double)m->params / 1e6);
    DataInfo d = session_calib_info(s);
    str_printf(&b, "fused groups ranked by block_error (how far each under %s moves what its layer hands on),\n"
                   "alone: KL divergence with only this group quantized; calibrated on %s, %d texts, %lld tokens",
               session_level_name(s, 1), path_base(d.name), d.samples, (long long)d.tokens);
    if (session_options(s)->arith)
        str_printf(&b, ", %s arithmetic", arith_name(session_options(s)->arith));
    str_puts(&b, "\n\n");
    str_printf(&b, "%4s  %-40s  %11s  %11s\n", "#", "group", "block_error", "alone");
    for (int64_t i = 0; i < n; i++) {
        if (i < SHOWN_ROWS)
            put_row(&b, s, &rows[i]);
        if (found < WORST && rows[i].rank)
            worst[found++] = m->linears[m->groups[rows[i].unit].first].name;
    }
    if (n > SHOWN_ROWS)
        str_printf(&b, "      ... and %lld more\n", (long long)(n - SHOWN_ROWS));
    Status st = app_result(a, &b, NULL, err);
    if (st == ST_OK && found < WORST)
        st = error_set(err, ST_FAIL, "fewer than %d groups could be scored", WORST);
    str_free(&b);
    free(rows);
    return st;
}

static Status measure_now(App *a, Effect *out, Error *err)
{
    RETURN_IF_ERROR(session_measure(a->session, false, err));
    RETURN_IF_ERROR(app_wait(a, err));
    const Effect *e = session_effect(a->session, NULL);
    if (!e)
        return error_set(err, ST_INTERNAL, "the measurement ended without a result");
    *out = *e;
    return ST_OK;
}

static void put_effect(Str *b, const char *what, const Effect *e, const SizeReport *size)
{
    str_printf(b, "  %-42s  %8.2f  %9.5f  %8.1f %%  ", what, e->ppl_quant, e->kl_mean, 100 * e->top1);
    str_bytes(b, size->bytes);
    str_putc(b, '\n');
}

static void put_story(Str *b, const Session *s, const char *const worst[WORST], const Effect *all, const Effect *kept)
{
    double lost = all->ppl_quant - all->ppl_float, left = kept->ppl_quant - all->ppl_float;
    char plus_minus[32] = "";
    if (isfinite(all->ppl_change_se))
        snprintf(plus_minus, sizeof plus_minus, " (+- %.1f)", 100 * all->ppl_change_se);
    str_printf(b, "\nQuantizing every linear moves perplexity from %.2f to %.2f", all->ppl_float, all->ppl_quant);
    if (lost > 0)
        str_printf(b, ", %.1f %% worse%s.\n", 100 * all->ppl_change, plus_minus);
    else
        str_puts(b, ": no loss on this text.\n");
    str_printf(b, "With %s and %s in float it is %.2f", worst[0], worst[1], kept->ppl_quant);
    if (lost > 0)
        str_printf(b, ": %.0f %% of the loss is repaired", 100 * (1 - left / lost));
    str_printf(b, " (KL divergence %.5f before, %.5f after).\n", all->kl_mean, kept->kl_mean);
    Measurement before;
    Paired p;
    if (session_rival(s, RIVAL_PREVIOUS, &before, &p)) {
        str_puts(b, "The difference, over the same tokens: ");
        output_paired(&p, b);
        str_puts(b, ".\n");
    }
}

static Status print_effects(App *a, const char *const worst[WORST], Error *err)
{
    Session *s = a->session;
    Effect all, kept;
    RETURN_IF_ERROR(measure_now(a, &all, err));
    SizeReport size_all = session_predict(s).size;
    RETURN_IF_ERROR(session_edit(s, worst, WORST, 0, false, NULL, err));
    RETURN_IF_ERROR(measure_now(a, &kept, err));
    SizeReport size_kept = session_predict(s).size;
    DataInfo d = session_eval_info(s);
    Str b = {0};
    str_printf(&b, "\nmeasured on %s (%lld tokens)\n  %-42s  %8s  %9s  %10s  size\n", path_base(d.name),
               (long long)all.tokens, "", "ppl", "KL", "same top");
    str_printf(&b, "  %-42s  %8.2f  %9s  %10s  ", "float", all.ppl_float, "-", "-");
    str_bytes(&b, size_all.float_bytes);
    str_putc(&b, '\n');
    Str what = {0};
    str_printf(&what, "quantized: %lld linears %s", (long long)size_all.quantized, session_level_name(s, 1));
    put_effect(&b, str_text(&what), &all, &size_all);
    str_clear(&what);
    str_printf(&what, "quantized, the worst %lld in float", (long long)size_kept.floats - (long long)size_all.floats);
    put_effect(&b, str_text(&what), &kept, &size_kept);
    str_free(&what);
    put_story(&b, s, worst, &all, &kept);
    Status st = app_result(a, &b, NULL, err);
    str_free(&b);
    return st;
}

Status report_run(App *a, Error *err)
{
    static const char *const names[] = {"block_error", "alone", NULL};
    const char *worst[WORST];
    RETURN_IF_ERROR(session_analyze(a->session, names, NULL, 0, false, err));
    RETURN_IF_ERROR(app_wait(a, err));
    RETURN_IF_ERROR(print_table(a, worst, err));
    RETURN_IF_ERROR(print_effects(a, worst, err));
    app_note_memory(a);
    return ST_OK;
}
