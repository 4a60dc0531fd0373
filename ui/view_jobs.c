/* Screen 3: what runs, waits and ran; the end of the log below. */
#include <stdio.h>
#include <string.h>

#include "src/lang.h"
#include "ui/actions.h"
#include "ui/log.h"

typedef struct Jobs {
    ListPos pos;
    int page;
    int id; /* of the job that the cursor is on; 0: the first row, whatever it is */
} Jobs;

static const struct {
    const char *text;
    Slot slot;
} states[] = {
    [JOB_WAITING] = {"wait", SL_DIM},       [JOB_RUNNING] = {"run", SL_RUNNING}, [JOB_DONE] = {"done", SL_DONE},
    [JOB_FAILED] = {"FAIL", SL_FAILED},     [JOB_STOPPED] = {"STOP", SL_WARN},
};

static const char *const stopped[][2] = { /* without and with a way on */
    [JOB_ANALYZE] = {"stopped; its rows are kept", "stopped; its rows are kept, r goes on after the last whole layer"},
    [JOB_MEASURE] = {"stopped; nothing was measured", ""},
    [JOB_QUANTIZE] = {"stopped; nothing in the target was replaced",
                      "stopped; nothing in the target was replaced, r goes on with what is done"},
};

/* The newest first: what runs is at the top. */
static const JobView *job_at(Session *s, int64_t i)
{
    return session_job(s, session_jobs(s) - 1 - (int)i);
}

/* The row of the cursor: that of its job, wherever new ones have moved it. NULL: there is no job. */
static const JobView *cursor_job(Ui *ui, Jobs *st)
{
    Session *s = ui_session(ui);
    int n = s ? session_jobs(s) : 0;
    for (int i = 0; st->id && i < n; i++)
        if (job_at(s, i)->id == st->id)
            st->pos.cur = i;
    list_clamp(&st->pos, n, st->page);
    return n ? job_at(s, st->pos.cur) : NULL;
}

static bool move_rows(Ui *ui, void *state, Motion m)
{
    Jobs *st = state;
    cursor_job(ui, st);
    bool moved = list_move(&st->pos, m, session_jobs(ui_session(ui)), st->page);
    st->id = 0;
    const JobView *j = cursor_job(ui, st);
    st->id = j ? j->id : 0;
    return moved;
}

static void draw_job(Ui *ui, Rect r, int y, const JobView *j, bool here)
{
    char elapsed[24], eta[40] = "", id[16];
    fmt_seconds(elapsed, sizeof elapsed, j->elapsed);
    if (j->state == JOB_RUNNING && j->eta >= 0) {
        char t[24];
        fmt_seconds(t, sizeof t, j->eta);
        text_format(eta, sizeof eta, "  ~%s left", t);
    }
    snprintf(id, sizeof id, "#%d", j->id);
    Pen p = pen_at(ui, y, r.x, r.w);
    pen_char(&p, SL_TEXT, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, y, r.x);
    pen_cell(&p, SL_TEXT, 4, false, id);
    pen_cell(&p, states[j->state].slot, 5, false, tr(states[j->state].text));
    bool bar = j->state == JOB_RUNNING && r.w >= 90;
    pen_name(&p, SL_STRONG, r.w < 76 ? 24 : 33, j->title);
    pen_puts(&p, SL_TEXT, " ");
    if (bar) {
        pen_puts(&p, SL_BLUR, "[");
        pen_bar(&p, r.w >= 120 ? 40 : 16, j->total > 0 ? (double)j->done / (double)j->total : 0, true);
        pen_puts(&p, SL_BLUR, "] ");
    }
    if (j->total > 0)
        pen_printf(&p, SL_TEXT, "%lld/%lld ", (long long)j->done, (long long)j->total);
    if (j->state == JOB_RUNNING && j->total > 0)
        pen_printf(&p, SL_TEXT, "%lld %% ", (long long)(100 * j->done / j->total));
    if (j->state != JOB_WAITING)
        pen_printf(&p, SL_TEXT, " %s%s", elapsed, eta);
}

static int put_measured(char *out, size_t size, const JobView *j)
{
    char kl[24], ppl[24], base[24];
    fmt_value(kl, sizeof kl, j->kl);
    fmt_value(ppl, sizeof ppl, j->ppl);
    fmt_value(base, sizeof base, j->ppl_float);
    return text_format(out, size, "KL %s+-%.2g  ppl %s (float %s)  top-1 %.1f %%  ", kl, j->kl_se, ppl, base, 100 * j->top1);
}

static int draw_more(Ui *ui, Rect r, int y, const JobView *j)
{
    char buf[ERROR_TEXT_MAX + 200], peak[24], bound[24];
    int n = 0;
    Rect text = {r.y, r.x + 6, r.h, r.w - 7};
    buf[0] = '\0';
    if (j->state == JOB_FAILED) {
        draw_wrapped(ui, text, &y, SL_FAILED, j->error);
        return y;
    }
    if (j->target[0])
        n = text_format(buf, sizeof buf, "to %s  ", j->target);
    if (j->state == JOB_STOPPED)
        n += snprintf(buf + n, sizeof buf - (size_t)n, "%s  ", tr(stopped[j->kind][j->resumable]));
    else if (j->state == JOB_RUNNING)
        n += snprintf(buf + n, sizeof buf - (size_t)n, "%s  ", j->phase);
    else if (j->state == JOB_WAITING && j->behind)
        n += text_format(buf + n, sizeof buf - (size_t)n, "queued behind #%d  ", j->behind);
    if (j->measured)
        n += put_measured(buf + n, sizeof buf - (size_t)n, j);
    if (j->ok || j->failed)
        n += text_format(buf + n, sizeof buf - (size_t)n, "ok %d fail %d  ", j->ok, j->failed);
    if (j->last[0])
        n += text_format(buf + n, sizeof buf - (size_t)n, "last %s  ", j->last);
    if (j->peak > 0 && j->bound > 0) {
        fmt_bytes(peak, sizeof peak, (double)j->peak);
        fmt_bytes(bound, sizeof bound, (double)j->bound);
        text_format(buf + n, sizeof buf - (size_t)n, "memory %s of at most %s", peak, bound);
    }
    if (buf[0])
        draw_wrapped(ui, text, &y, SL_DIM, buf);
    return y;
}

static void draw(Ui *ui, void *state)
{
    Jobs *st = state;
    Rect r = ui->layout.main;
    Session *s = ui_session(ui);
    if (!ui_model(ui))
        return;
    int log_rows = r.h / 3, n = session_jobs(s);
    Rect list = {r.y, r.x, r.h - log_rows - 1, r.w}, log = {r.y + r.h - log_rows, r.x, log_rows, r.w};
    st->page = list.h / 2;
    cursor_job(ui, st);
    int y = list.y;
    for (int64_t i = st->pos.top; i < n && y < list.y + list.h; i++) {
        draw_job(ui, list, y++, job_at(s, i), i == st->pos.cur);
        y = draw_more(ui, list, y, job_at(s, i));
    }
    if (n == 0) {
        y++;
        Rect text = {list.y, list.x + 2, list.h, list.w - 4};
        draw_wrapped(
            ui, text, &y, SL_TEXT,
            "Nothing ran in this sitting. r on screen 1 runs the shown metric; F5 measures what the decision does.");
    }
    draw_hline(ui, log.y - 1, r.x, r.w);
    Pen rule = pen_at(ui, log.y - 1, r.x + 2, r.w - 2);
    pen_printf(&rule, SL_BLUR, " %s ", tr("log: Enter opens all of it"));
    log_draw(ui, log);
}

static void context(Ui *ui, void *state, LineParts *out)
{
    (void)state;
    Session *s = ui_session(ui);
    int waiting = 0;
    for (int i = 0; i < session_jobs(s); i++)
        waiting += session_job(s, i)->state == JOB_WAITING;
    if (waiting > 0)
        part_add(out, SL_TEXT, 0, "%d waiting", waiting);
    if (session_id(s)[0])
        part_add(out, SL_TEXT, 2, "session %s", session_id(s))->least = 18;
    if (session_id(s)[0] && !session_is_saved(s) && !session_is_read_only(s))
        part_add(out, SL_WARN, 0, "is not saved any more")->gap = 1;
}

static unsigned jobs_log(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Str text = {0};
    if (ui_session(ui))
        log_text(ui_session(ui), &text);
    if (text.len == 0) {
        str_free(&text);
        return ui_refuse(ui, "the log is empty");
    }
    pager_open(ui, "log", str_text(&text), NULL);
    str_free(&text);
    return DO_PAINT;
}

static void copy(Ui *ui, void *state, bool all, Str *out)
{
    const JobView *j = cursor_job(ui, state);
    char found[160];
    if (all) {
        log_text(ui_session(ui), out);
    } else if (j && j->measured) {
        put_measured(found, sizeof found, j);
        str_printf(out, "%s: %s", j->title, found);
    } else if (j) {
        str_printf(out, "%s: %s", j->title, j->error[0] ? j->error : j->last);
    }
}

/* ---- what is done to the job of the cursor ---- */

static const char *refuse_not_stopped(Ui *ui)
{
    const JobView *j = cursor_job(ui, ui_state(ui, &view_jobs));
    return !ui_model(ui) ? refuse_no_model(ui)
           : !j          ? "nothing ran yet"
           : j->resumable ? NULL
                          : "nothing of this job can be gone on with";
}

static const char *refuse_ended(Ui *ui)
{
    const JobView *j = cursor_job(ui, ui_state(ui, &view_jobs));
    return !j ? "nothing runs" : j->state == JOB_RUNNING || j->state == JOB_WAITING ? NULL : "this job has ended";
}

static const char *refuse_no_discard(Ui *ui)
{
    const JobView *j = cursor_job(ui, ui_state(ui, &view_jobs));
    bool can = j && (j->state == JOB_WAITING || (j->resumable && j->kind == JOB_ANALYZE));
    return can ? NULL : "only what waits, or an analysis that was stopped, can be discarded";
}

static unsigned jobs_resume(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    int id = cursor_job(ui, ui_state(ui, &view_jobs))->id;
    if (ui_command(ui, "resume %d", id))
        ui_say_queued(ui, "going on with #%d", id);
    return DO_PAINT;
}

/* Of the job of the cursor; the second time at once. */
static unsigned jobs_stop(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return ui_stop_job(ui, cursor_job(ui, ui_state(ui, &view_jobs)));
}

static unsigned jobs_discard(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    int id = cursor_job(ui, ui_state(ui, &view_jobs))->id;
    if (ui_command(ui, "cancel %d", id))
        ui_say(ui, SL_WARN, "#%d is discarded; what it scored stays", id);
    return DO_PAINT;
}

static const KeyRow keys[] = {
    {.place = 40, .keys = {'r'}, .command = "resume JOB",
     .help = "go on with the stopped job of the cursor: after its last whole layer", .label = "Resume", .run = jobs_resume,
     .refuse = refuse_not_stopped},
    {.place = 42, .keys = {K(KEY_F(9))}, .command = "cancel JOB",
     .help = "stop the job of the cursor, keep its rows; twice: at once", .label = "Stop", .run = jobs_stop,
     .refuse = refuse_ended},
    {.place = 44, .keys = {'D'}, .command = "cancel JOB",
     .help = "discard the job of the cursor: it waits for nothing, nothing goes on with it", .run = jobs_discard,
     .refuse = refuse_no_discard},
    {.place = 46, .keys = {'\n', '\t', K(KEY_ENTER)}, .help = "the whole log", .label = "Log",
     .run = jobs_log},
    {.help = NULL},
};

const View view_jobs = {
    .key = '3', .keys = keys, .name = "jobs", .title = "Jobs", .state_size = sizeof(Jobs),
    .draw = draw, .move = move_rows, .context = context, .copy = copy,
};
