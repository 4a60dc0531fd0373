/* What jobs came to, in a line each. */
#include "ui/told.h"

#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "session/autotune.h"
#include "session/guide.h"
#include "src/lang.h"
#include "ui/attached.h"

/* Against what was measured before, and whether that is more than the error. */
static void tell_measured(Ui *ui, const Effect *e, const char *took)
{
    static const char *const said[] = {
        [VERDICT_SAME] = N_("measured: KL %.4g, the same as %.4g before"),
        [VERDICT_BETTER] = N_("measured: KL %.4g, better than %.4g before"),
        [VERDICT_WORSE] = N_("measured: KL %.4g, worse than %.4g before"),
        [VERDICT_UNDECIDED] = N_("measured: KL %.4g, undecided against %.4g before"),
    };
    char change[48], kl[120], more[120];
    Measurement before;
    Paired p;
    fmt_change(change, sizeof change, e->ppl_change, e->ppl_change_se);
    text_format(more, sizeof more, ", top-1 %.1f %%, ppl %.4g (%s), in %s", 100 * e->top1, e->ppl_quant, change, took);
    if (session_rival(ui_session(ui), RIVAL_PREVIOUS, &before, &p) && p.state == PAIR_OK)
        text_format(kl, sizeof kl, said[verdict_of(p.kl, p.kl_se)], e->kl_mean, before.effect->kl_mean);
    else
        text_format(kl, sizeof kl, "measured: KL %.4g", e->kl_mean);
    ui_say(ui, SL_OK, "%s%s", kl, more);
}

/* The layer with the largest score of the shown metric, -1: none has one. */
static int64_t worst_shown(Ui *ui)
{
    Session *s = ui_session(ui);
    for (int64_t i = 0; session_metric(s) && i < ui_model(ui)->nlinears; i++)
        if (session_rank(s, i) == 1)
            return i;
    return -1;
}

/* Whether `title` (a job's) begins with the shown metric. */
static bool is_shown(Ui *ui, const char *title)
{
    const Metric *m = session_metric(ui_session(ui));
    const size_t n = strcspn(title, "+");
    return m && strncmp(title, m->name, n) == 0 && !m->name[n];
}

static const char *short_name(Ui *ui, int64_t linear)
{
    static const char prefix[] = "model.";
    const char *name = ui_model(ui)->linears[linear].name;
    return name + (strncmp(name, prefix, sizeof prefix - 1) == 0 ? sizeof prefix - 1 : 0);
}

bool told_worst(Ui *ui, char *name, size_t size)
{
    const int64_t worst = ui_model(ui) ? worst_shown(ui) : -1;
    if (worst >= 0)
        snprintf(name, size, "%s", short_name(ui, worst));
    return worst >= 0;
}

enum { WIDE = 100 }; /* columns from which there is room for what keys do, too */

/* Another metric than the one that is shown: of that the worst layer stays to be read. */
static void tell_other(Ui *ui, const JobView *j, const char *took, int64_t worst)
{
    const bool rank = ui->view == &view_rank;
    if (worst >= 0 && ui->cols < WIDE)
        ui_say(ui, SL_OK, "worst by %s: %s; %s done in %s", session_metric(ui_session(ui))->name, short_name(ui, worst), j->title, took);
    else if (worst >= 0)
        ui_say(ui, SL_OK,
               rank ? "worst by %s: %s; %s done in %s; m shows other metrics" : "worst by %s: %s; %s done in %s; m on Rank (1) shows other metrics",
               session_metric(ui_session(ui))->name, short_name(ui, worst), j->title, took);
    else
        ui_say(ui, SL_OK, rank ? "%s done in %s: %d scored; m shows other metrics" : "%s done in %s: %d scored; m on Rank (1) shows other metrics",
               j->title, took, j->ok);
}

/* An analysis that is whole: which layer is the worst, and what to do about it. */
static void tell_analyzed(Ui *ui, const JobView *j, const char *took)
{
    const int64_t worst = worst_shown(ui);
    const int title = (int)strcspn(j->title, "+");
    if (worst < 0 || !is_shown(ui, j->title)) {
        tell_other(ui, j, took, worst);
        return;
    }
    const char *next;
    if (session_cursor(ui_session(ui)) < 0 || ui_here(ui).linear == worst)
        next = ui->cols < WIDE ? N_("x keeps it in float") : N_("x keeps it in float, Enter tells why, F5 measures");
    else
        next = ui->cols < WIDE ? N_("g goes there") : N_("g goes there, x keeps it in float, F5 measures");
    ui_say(ui, SL_OK, "%.*s done in %s; worst: %s; %s", title, j->title, took, short_name(ui, worst), tr(next));
}

/* A step of a plan: what the plan does next, or came to. */
static void tell_plan(Ui *ui)
{
    AutotuneView v;
    if (!session_autotuning(ui_session(ui), &v))
        return;
    bool over = v.state == AUTOTUNE_ENDED;
    ui_say(ui, !over ? SL_TEXT : v.status == ST_OK ? SL_OK : SL_WARN, "%s: %s", path_base(v.plan), v.text);
}

/* What an entry of the guide was measured for ("S2a: ..."): its evidence. */
static bool tell_guide(Ui *ui, const JobView *j)
{
    const GuideView *v;
    size_t n = strcspn(j->title, ":");
    if (!j->title[n] || session_guide(ui_session(ui), &v, NULL) != ST_OK)
        return false;
    for (int i = 0; i < v->nitems; i++) {
        const GuideItem *it = &v->item[i];
        char text[512];
        if (strlen(it->id) != n || strncmp(it->id, j->title, n) != 0 || !it->evidence.parts)
            continue;
        phrase_say(&it->evidence, tr, text, sizeof text);
        ui_say(ui, SL_OK, "%s %s", it->id, text);
        return true;
    }
    return false;
}

static void tell_end(Ui *ui, const JobView *j)
{
    char t[24];
    const Effect *e = session_effect(ui_session(ui), NULL);
    const QuantizeDone *done = session_quantized(ui_session(ui));
    fmt_seconds(t, sizeof t, j->elapsed);
    if (j->plan)
        tell_plan(ui);
    else if (j->state == JOB_FAILED)
        ui_say(ui, SL_ERR, "%s: %s", j->title, j->error);
    else if (j->state == JOB_STOPPED && j->kind == JOB_MEASURE)
        ui_say(ui, SL_WARN, "%s stopped; nothing was measured", j->title);
    else if (j->state == JOB_STOPPED && j->kind == JOB_GENERATE)
        ui_say(ui, SL_WARN, "%s stopped; nothing was kept", j->title);
    else if (j->state == JOB_STOPPED && j->kind == JOB_QUANTIZE)
        ui_say(ui, SL_WARN, "%s stopped; nothing was replaced, r on Jobs (3) goes on", j->title);
    else if (j->state == JOB_STOPPED)
        ui_say(ui, SL_WARN,
               j->resumable ? "stopped at layer %lld of %lld; r goes on" : "stopped at layer %lld of %lld; its rows are kept",
               (long long)j->done, (long long)j->total);
    else if (j->kind == JOB_MEASURE && tell_guide(ui, j))
        return;
    else if (j->kind == JOB_GENERATE)
        ui_say(ui, SL_OK, "%s done in %s; 'generate' shows what it says", j->title, t);
    else if (j->kind == JOB_MEASURE && e)
        tell_measured(ui, e, t);
    else if (j->bad[0])
        ui_say(ui, SL_WARN, "%d failed behind a bad weight: %s; 3 tells more", j->failed, j->bad);
    else if (j->unseen)
        ui_say(ui, SL_WARN, "%s done in %s: %d scored, %d failed, %d of experts that no token reached", j->title, t,
               j->ok, j->failed, j->unseen);
    else if (j->kind == JOB_QUANTIZE && done && done->run.there)
        ui_say(ui, SL_OK, "%s holds this model already: whole, nothing written", done->save_path);
    else if (j->kind == JOB_QUANTIZE && done)
        ui_say(ui, SL_OK, "written in %s: %s, %lld linears quantized, %lld float", t, done->save_path,
               (long long)done->run.quantized, (long long)done->run.floats);
    else if (j->kind == JOB_ANALYZE && !j->failed)
        tell_analyzed(ui, j, t);
    else
        ui_say(ui, j->failed ? SL_WARN : SL_OK, "%s done in %s: %d scored, %d failed", j->title, t, j->ok, j->failed);
}

void told_jobs(Ui *ui)
{
    Session *s = ui_session(ui);
    int ended;
    const JobView *last = session_job_ended(s, &ended);
    if (ended > ui->jobs_ended && last) {
        char before[ERROR_TEXT_MAX];
        Slot slot = ui->message_slot;
        snprintf(before, sizeof before, "%s", ui->message);
        ui->telling_end = true;
        if (ui_attached(ui)) /* its line says it */
            ui->message[0] = '\0';
        else
            tell_end(ui, last);
        ui->telling_end = false;
        if (ui->input || ui->question.text) { /* nothing comes between what is typed or asked */
            snprintf(ui->message, sizeof ui->message, "%s", before);
            ui->message_slot = slot;
        }
    }
    ui->jobs_ended = ended;
}

void told_question(Ui *ui)
{
    const char *question = session_question(ui_session(ui));
    if (question && !ui->told_question && !ui->input)
        ui_say(ui, SL_WARN, "a job asks: %.*s; i on Jobs (3) answers", (int)strcspn(question, "\n"), question);
    ui->told_question = question && (ui->told_question || !ui->input);
}
