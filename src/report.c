/* What 'slimscope MODEL' prints without a terminal: the ranking, and what keeping the two worst linears in float gives
 * back. */
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

static const Metric *ranked_by(void)
{
    return metric_find("local_error");
}

static const Metric *shown_beside(void)
{
    return metric_find("kurtosis");
}

/* Rank of each linear in a ranking, 0 where it has none. */
static Status ranks_of(const Session *s, const Metric *m, int **out, RankRow **rows, int64_t *n, Error *err)
{
    RETURN_IF_ERROR(ranking_make(s, m, NULL, rows, n, err));
    *out = mem_zarray((size_t)session_model(s)->nlinears + 1, sizeof **out);
    if (!*out) {
        free(*rows);
        return error_nomem(err, "a ranking");
    }
    for (int64_t i = 0; i < *n; i++)
        (*out)[(*rows)[i].unit] = (*rows)[i].rank;
    return ST_OK;
}

static void put_row(Str *b, const Session *s, const RankRow *r, int kurtosis_rank)
{
    const Linear *l = &session_model(s)->linears[r->unit];
    Score k = session_score(s, shown_beside(), r->unit);
    if (r->failed || r->unseen) {
        str_printf(b, "   %c  %-40s  %s\n", r->failed ? '!' : '?', l->name, r->reason);
        return;
    }
    str_printf(b, "%4d  %-40s  %11.4e", r->rank, l->name, r->score);
    if (k.state == SCORE_OK)
        str_printf(b, "  %11.4e  #%d\n", k.value, kurtosis_rank);
    else
        str_puts(b, "            -\n");
}

/* Whether the linear moves with one that was chosen already. */
static bool same_group(const Model *m, const char *const *chosen, int n, int64_t linear)
{
    for (int i = 0; i < n; i++)
        if (m->linears[model_find_linear(m, chosen[i])].group == m->linears[linear].group)
            return true;
    return false;
}

/* The table, and the names of the worst linears (borrowed) by local error. */
static Status print_table(App *a, const char *worst[WORST], Error *err)
{
    Session *s = a->session;
    RankRow *by_error, *by_kurtosis;
    int *rank_error, *rank_kurtosis;
    int64_t n, nk;
    RETURN_IF_ERROR(ranks_of(s, ranked_by(), &rank_error, &by_error, &n, err));
    Status st = ranks_of(s, shown_beside(), &rank_kurtosis, &by_kurtosis, &nk, err);
    Str b = {0};
    int found = 0;
    if (st == ST_OK) {
        const Model *m = session_model(s);
        str_printf(&b, "%s: %s, %d layers, %lld linears, %.1f million parameters\n", m->path, m->cfg.model_type,
                   m->cfg.layers, (long long)m->nlinears, (double)m->params / 1e6);
        DataInfo d = session_calib_info(s);
        str_printf(&b,
                   "ranked by local_error (expected output error of each linear under %s), calibrated on %s, %d texts, "
                   "%lld tokens",
                   session_level_name(s, 1), path_base(d.name), d.samples, (long long)d.tokens);
        if (session_options(s)->arith)
            str_printf(&b, ", %s arithmetic", arith_name(session_options(s)->arith));
        str_puts(&b, "\n\n");
        str_printf(&b, "%4s  %-40s  %11s  %11s\n", "#", "layer", "local_error", "kurtosis");
        for (int64_t i = 0; i < n; i++) {
            if (i < SHOWN_ROWS)
                put_row(&b, s, &by_error[i], rank_kurtosis[by_error[i].unit]);
            if (found < WORST && by_error[i].rank && !same_group(m, worst, found, by_error[i].unit))
                worst[found++] = m->linears[by_error[i].unit].name;
        }
        if (n > SHOWN_ROWS)
            str_printf(&b, "      ... and %lld more\n", (long long)(n - SHOWN_ROWS));
        st = app_result(a, &b, NULL, err);
        free(by_kurtosis);
        free(rank_kurtosis);
    }
    if (st == ST_OK && found < WORST)
        st = error_set(err, ST_FAIL, "fewer than %d linears could be scored", WORST);
    str_free(&b);
    free(by_error);
    free(rank_error);
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
    static const char *const names[] = {"kurtosis", "local_error", NULL};
    const char *worst[WORST];
    RETURN_IF_ERROR(session_analyze(a->session, names, NULL, 0, false, err));
    RETURN_IF_ERROR(app_wait(a, err));
    RETURN_IF_ERROR(print_table(a, worst, err));
    RETURN_IF_ERROR(print_effects(a, worst, err));
    app_note_memory(a);
    return ST_OK;
}
