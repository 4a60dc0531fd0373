/* What a screen says that shows the session of another process. */
#include "ui/attached.h"

#include <stdio.h>
#include <string.h>

#include "session/attach.h"
#include "src/lang.h"
#include "ui/told.h"

bool ui_attached(const Ui *ui)
{
    AttachView v;
    return ui_session(ui) && session_attached(ui_session(ui), &v);
}

static const char *name_of(const AttachView *v)
{
    return v->hello->name[0] ? v->hello->name : v->hello->id;
}

/* "analyze kurtosis 12/30, 40 %, 31 s left" */
static void work_text(const AttachView *v, char *out, size_t size)
{
    static const char *const verbs[] = {[JOB_ANALYZE] = "analyze ", [JOB_GENERATE] = ""};
    const WireLine *j = v->job;
    char far[64] = "", left[24], rest[48] = "";
    if (j->total > 0)
        snprintf(far, sizeof far, " %lld/%lld, %lld %%", (long long)j->done, (long long)j->total, (long long)(100 * j->done / j->total));
    else if (j->phase[0])
        snprintf(far, sizeof far, ", %s", j->phase);
    if (j->paused) {
        snprintf(rest, sizeof rest, ", %s", tr("paused"));
    } else if (v->eta >= 0 && j->total > 0) {
        fmt_seconds(left, sizeof left, v->eta);
        text_format(rest, sizeof rest, ", %s left", left);
    }
    snprintf(out, size, "%s%s%s%s", verbs[j->what] ? verbs[j->what] : "", j->title, far, rest);
}

/* How the newest job ended. */
static void end_text(const WireLine *l, char *out, size_t size)
{
    char t[24];
    fmt_seconds(t, sizeof t, l->elapsed);
    if (l->state == JOB_DONE)
        text_format(out, size, "%s done in %s", l->title, t);
    else if (l->state == JOB_STOPPED)
        text_format(out, size, "%s stopped at %lld of %lld", l->title, (long long)l->done, (long long)l->total);
    else
        text_format(out, size, "%s failed: %s", l->title, l->text);
}

/* The same with the worst layer of the shown metric, where it is known. */
static void found_text(Ui *ui, const WireLine *l, char *out, size_t size)
{
    char name[200], end[300];
    end_text(l, end, sizeof end);
    if (l->state == JOB_DONE && l->what == JOB_ANALYZE && told_worst(ui, name, sizeof name))
        text_format(out, size, "%s, worst: %s", end, name);
    else
        snprintf(out, size, "%s", end);
}

static void over_line(Ui *ui, const AttachView *v, int width, char *out, size_t size, Slot *slot)
{
    char end[520] = "";
    *slot = v->died ? SL_ERR : SL_OK;
    if (v->died) {
        text_format(out, size, "process %ld has died; q, then 'slimscope resume %s' goes on with the session", v->hello->pid, name_of(v));
        return;
    }
    if (v->ended)
        found_text(ui, v->ended, end, sizeof end);
    text_format(out, size, v->ended ? "%s; the session is closed there: q, then 'slimscope resume %s' opens it"
                                    : "%sthe session is closed there: q, then 'slimscope resume %s' opens it", end, name_of(v));
    if (v->ended && text_width(out) > width) {
        end_text(v->ended, end, sizeof end);
        text_format(out, size, "%s; q, then 'slimscope resume %s' opens it", end, name_of(v));
    }
}

bool attached_line(Ui *ui, int width, char *out, size_t size, Slot *slot)
{
    AttachView v;
    char what[520], ranks[32] = "";
    if (!ui_session(ui) || !session_attached(ui_session(ui), &v))
        return false;
    if (v.over) {
        over_line(ui, &v, width, out, size, slot);
        return true;
    }
    *slot = SL_TEXT;
    if (v.job)
        work_text(&v, what, sizeof what);
    else if (v.ended)
        found_text(ui, v.ended, what, sizeof what);
    else
        snprintf(what, sizeof what, "%s", tr("nothing runs"));
    if (v.hello->ranks > 1)
        text_format(ranks, sizeof ranks, ", %d ranks", v.hello->ranks);
    text_format(out, size, "attached to %s, pid %ld on %s%s: %s", name_of(&v), v.hello->pid, v.hello->host, ranks, what);
    if (text_width(out) > width)
        text_format(out, size, "attached to %s, pid %ld%s: %s", name_of(&v), v.hello->pid, ranks, what);
    if (text_width(out) > width)
        text_format(out, size, "attached: %s", what);
    return true;
}

static unsigned stop_yes(Ui *ui)
{
    ui->stopping = -ui->stopping;
    if (ui_command(ui, "cancel %d", ui->stopping))
        ui_say(ui, SL_WARN, "it stops after this tile, finished rows are kept; ^C again: at once");
    return DO_PAINT;
}

unsigned attached_stop(Ui *ui, const JobView *j)
{
    const bool again = ui->stopping == j->id;
    ui->stopping = again ? j->id : -j->id; /* until the answer */
    if (again && ui_command(ui, "cancel %d --now", j->id))
        ui_say(ui, SL_WARN, "#%d stops at once", j->id);
    if (!again)
        ui->question = (Question){.text = N_("stop the job there? y: its finished rows are kept, any other key: no"), .yes = stop_yes};
    return DO_PAINT;
}
