/* Screen 3: what runs, waits in which order, and ran; the end of the log below. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/autotune.h"
#include "src/lang.h"
#include "ui/actions.h"
#include "ui/input.h"
#include "ui/log.h"

typedef struct Jobs {
    ListPos pos;
    int page;
    int id;       /* of the job that the cursor is on; 0: the first row, whatever it is */
    struct Place {
        int index;  /* for session_job */
        int place, id;
    } *row;       /* [n] as they are shown */
    size_t n, cap;
} Jobs;

enum { DETAILS = 4 }; /* lines that the cursor's job has below its row at most */

typedef struct Shown {
    const char *text;
    Slot slot;
} Shown;
static const Shown states[] = {
    [JOB_WAITING] = {N_("wait"), SL_DIM}, [JOB_RUNNING] = {N_("run"), SL_RUNNING}, [JOB_DONE] = {N_("done"), SL_DONE},
    [JOB_FAILED] = {N_("FAIL"), SL_FAILED}, [JOB_STOPPED] = {N_("STOP"), SL_WARN},
};

static const char *const stopped[][2] = { /* without and with a way on */
    [JOB_ANALYZE] = {N_("stopped; its rows are kept"), N_("stopped; its rows are kept, r goes on after the last whole layer")},
    [JOB_MEASURE] = {N_("stopped; nothing was measured"), ""},
    [JOB_QUANTIZE] = {N_("stopped; nothing in the target was replaced"),
                      N_("stopped; nothing in the target was replaced, r goes on with what is done")},
    [JOB_EVALUATE] = {N_("stopped; r goes on with the plan, at this try"), ""},
    [JOB_GENERATE] = {N_("stopped; nothing was kept"), ""},
};

/* ---- the order of the rows ---- */

/* What runs, what waits in its order, what has ended, the newest first. */
static int by_place(const void *a, const void *b)
{
    const struct Place *x = a, *y = b;
    int p = x->place < 0 ? INT_MAX : x->place, q = y->place < 0 ? INT_MAX : y->place;
    if (p != q)
        return p < q ? -1 : 1;
    return x->id > y->id ? -1 : x->id < y->id;
}

static void order_rows(Session *s, Jobs *st)
{
    size_t n = s ? (size_t)session_jobs(s) : 0;
    st->n = mem_grow(&st->row, &st->cap, n + 1, sizeof *st->row) ? n : 0;
    for (size_t i = 0; i < st->n; i++) {
        const JobView *j = session_job(s, (int)i);
        st->row[i] = (struct Place){(int)i, j->place, j->id};
    }
    if (st->n)
        qsort(st->row, st->n, sizeof *st->row, by_place);
}

/* The row of the cursor: that of its job, wherever others have moved it. NULL: there is no job. */
static const JobView *cursor_job(Ui *ui, Jobs *st)
{
    Session *s = ui_session(ui);
    order_rows(s, st);
    for (size_t i = 0; st->id && i < st->n; i++)
        if (st->row[i].id == st->id)
            st->pos.cur = (int64_t)i;
    list_clamp(&st->pos, (int64_t)st->n, st->page > 0 ? st->page : 1);
    return st->n ? session_job(s, st->row[st->pos.cur].index) : NULL;
}

static bool move_rows(Ui *ui, void *state, Motion m)
{
    Jobs *st = state;
    cursor_job(ui, st);
    bool moved = list_move(&st->pos, m, (int64_t)st->n, st->page > 0 ? st->page : 1);
    st->id = 0;
    const JobView *j = cursor_job(ui, st);
    st->id = j ? j->id : 0;
    return moved;
}

static void click(Ui *ui, void *state, int y, int x)
{
    Jobs *st = state;
    (void)x;
    cursor_job(ui, st);
    int64_t at = st->pos.top + y;
    if (at > st->pos.cur) /* below its details */
        at = at - DETAILS > st->pos.cur ? at - DETAILS : st->pos.cur;
    if (at < (int64_t)st->n)
        st->id = st->row[at].id;
}

/* ---- a row ---- */

static void put_counts(const JobView *j, LineParts *l)
{
    if (j->failed)
        part_add(l, SL_FAILED, 2, "fail %d", j->failed);
    if (j->warned)
        part_add(l, SL_WARN, 4, "warn %d", j->warned);
    if (j->ok && j->state != JOB_WAITING)
        part_add(l, SL_TEXT, 5, "ok %d", j->ok);
}

static void put_waiting(const JobView *j, LineParts *l)
{
    char t[24];
    fmt_seconds(t, sizeof t, j->estimate);
    if (j->paused)
        part_add(l, SL_WARN, 0, "%s", tr("paused"));
    else if (j->earlier)
        part_add(l, SL_WARN, 0, "%s", tr("of an earlier sitting; r starts it"));
    else if (j->behind)
        part_add(l, SL_TEXT, 1, "behind #%d", j->behind);
    if (j->gives_way && !j->paused)
        part_add(l, SL_DIM, 3, "lets what you ask for go first");
    if (j->estimate >= 0)
        part_add(l, SL_TEXT, 2, "takes ~%s", t);
}

static void put_running(const JobView *j, LineParts *l)
{
    char t[24];
    if (j->total > 0)
        part_add(l, SL_TEXT, 1, "%lld/%lld", (long long)j->done, (long long)j->total);
    if (j->total > 0)
        part_add(l, SL_TEXT, 3, "%lld %%", (long long)(100 * j->done / j->total));
    fmt_seconds(t, sizeof t, j->elapsed);
    part_add(l, SL_TEXT, 2, "%s", t);
    fmt_seconds(t, sizeof t, j->eta);
    if (j->paused)
        part_add(l, SL_WARN, 0, "%s", tr("paused; P goes on"));
    else if (j->eta >= 0)
        part_add(l, SL_TEXT, 0, "~%s left", t);
}

static void put_ended(const JobView *j, LineParts *l)
{
    char t[24], kl[24], ppl[24];
    fmt_seconds(t, sizeof t, j->elapsed);
    fmt_value(kl, sizeof kl, j->kl);
    fmt_value(ppl, sizeof ppl, j->ppl);
    if (j->state == JOB_STOPPED && j->total > 0)
        part_add(l, SL_WARN, 1, "%lld/%lld", (long long)j->done, (long long)j->total);
    if (j->measured)
        part_add(l, SL_STRONG, 0, "KL %s+-%.2g", kl, j->kl_se);
    if (j->measured)
        part_add(l, SL_TEXT, 1, "ppl %s", ppl);
    if (j->kind == JOB_QUANTIZE && j->target[0])
        part_add(l, SL_TEXT, 1, "%s %s", tr("to"), j->target)->least = 12;
    if (j->elapsed > 0)
        part_add(l, SL_TEXT, 3, "%s", t);
    if (j->resumable)
        part_add(l, SL_TEXT, 2, "%s", tr("r goes on"));
}

static void draw_job(Ui *ui, Rect r, int y, const JobView *j, bool here)
{
    char id[16];
    LineParts l = {.n = 0};
    snprintf(id, sizeof id, "#%d", j->id);
    Pen p = pen_at(ui, y, r.x, r.w);
    pen_char(&p, SL_TEXT, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, y, r.x);
    pen_cell(&p, SL_TEXT, 4, false, id);
    if (j->state == JOB_RUNNING && j->paused)
        pen_cell(&p, SL_WARN, 6, false, tr("pause"));
    else
        pen_cell(&p, states[j->state].slot, 6, false, tr(states[j->state].text));
    pen_name(&p, SL_STRONG, r.w < 76 ? 22 : r.w < 120 ? 32 : 60, j->title);
    pen_puts(&p, SL_TEXT, " ");
    if (j->state == JOB_RUNNING && r.w >= 96) {
        pen_puts(&p, SL_BLUR, "[");
        pen_bar(&p, r.w >= 120 ? 40 : 14, j->total > 0 ? (double)j->done / (double)j->total : 0, true);
        pen_puts(&p, SL_BLUR, "] ");
    }
    if (j->state == JOB_WAITING)
        put_waiting(j, &l);
    else if (j->state == JOB_RUNNING)
        put_running(j, &l);
    else
        put_ended(j, &l);
    put_counts(j, &l);
    pen_parts(&p, SL_TEXT, &l, 1);
}

/* ---- what is told of it beside its row ---- */

static void add(Str *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One more thing, behind two spaces. */
static void add(Str *out, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    str_puts(out, out->len ? "  " : "");
    str_vprintf(out, tr(fmt), ap);
    va_end(ap);
}

/* Peak against plan; more than was planned is never shown without saying so. */
static void add_memory(const JobView *j, Str *out)
{
    char peak[24], bound[24];
    fmt_bytes(peak, sizeof peak, (double)j->peak);
    fmt_bytes(bound, sizeof bound, (double)j->bound);
    if (j->peak > 0 && j->bound > 0)
        add(out, j->peak <= j->bound ? "memory %s of at most %s" : "memory %s, MORE than the %s that were planned", peak, bound);
    fmt_bytes(peak, sizeof peak, (double)j->held);
    if (j->held)
        add(out, "holds %s while it is paused", peak);
}

static void put_measured(Str *out, const JobView *j)
{
    char kl[24], ppl[24], base[24];
    fmt_value(kl, sizeof kl, j->kl);
    fmt_value(ppl, sizeof ppl, j->ppl);
    fmt_value(base, sizeof base, j->ppl_float);
    add(out, "KL %s+-%.2g  ppl %s (float %s)  top-1 %.1f %%", kl, j->kl_se, ppl, base, 100 * j->top1);
}

static void tell_job(const JobView *j, const char *question, Str *out)
{
    if (j->state == JOB_FAILED)
        add(out, "%s", j->error);
    if (j->target[0])
        add(out, "to %s", j->target);
    if (j->state == JOB_STOPPED && stopped[j->kind][j->resumable][0])
        add(out, "%s", tr(stopped[j->kind][j->resumable]));
    bool counts = j->total > 0 && !strpbrk(j->phase, "0123456789");
    if (j->state == JOB_RUNNING && j->phase[0] && counts)
        add(out, "%s %lld of %lld", j->phase, (long long)(j->done < j->total ? j->done + 1 : j->total), (long long)j->total);
    else if (j->state == JOB_RUNNING && j->phase[0])
        add(out, "%s", j->phase);
    if (j->state == JOB_RUNNING && question)
        add(out, "asks: %s (i answers)", question);
    if (j->measured)
        put_measured(out, j);
    if (j->ok || j->failed || j->unseen)
        add(out, "rows: ok %d, fail %d", j->ok, j->failed);
    if (j->unseen)
        add(out, "no token %d", j->unseen);
    if (j->warned)
        add(out, "warnings %d (Enter lists them)", j->warned);
    if (j->last[0])
        add(out, "last %s", j->last);
    if (j->bad[0])
        add(out, "bad weight %s", j->bad);
    add_memory(j, out);
}

static int draw_details(Ui *ui, Rect r, int y, const JobView *j)
{
    Str text = {0};
    Rect at = {r.y, r.x + 6, r.h, r.w - 7};
    if (at.h > y - r.y + DETAILS)
        at.h = y - r.y + DETAILS;
    tell_job(j, session_question(ui_session(ui)), &text);
    if (text.len)
        draw_wrapped(ui, at, &y, j->state == JOB_FAILED ? SL_FAILED : SL_DIM, str_text(&text));
    str_free(&text);
    return y;
}

static void draw_rule(Ui *ui, Rect r, int y)
{
    draw_hline(ui, y, r.x, r.w);
    Pen rule = pen_at(ui, y, r.x + 2, r.w - 2);
    pen_printf(&rule, SL_BLUR, " %s ", tr("log: Enter shows the job's, @ all of it"));
}

static void draw(Ui *ui, void *state)
{
    Jobs *st = state;
    Rect r = ui->layout.main;
    if (!ui_model(ui))
        return;
    int log_rows = r.h / 3;
    Rect list = {r.y, r.x, r.h - log_rows - 1, r.w}, log = {r.y + r.h - log_rows, r.x, log_rows, r.w};
    st->page = list.h - DETAILS > 1 ? list.h - DETAILS : 1;
    cursor_job(ui, st);
    int y = list.y;
    for (int64_t i = st->pos.top; i < (int64_t)st->n && y < list.y + list.h; i++) {
        const JobView *j = session_job(ui_session(ui), st->row[i].index);
        draw_job(ui, list, y++, j, i == st->pos.cur);
        if (i == st->pos.cur)
            y = draw_details(ui, list, y, j);
    }
    if (st->n == 0) {
        y++;
        Rect text = {list.y, list.x + 2, list.h, list.w - 4};
        draw_wrapped(
            ui, text, &y, SL_TEXT,
            "Nothing ran in this sitting. r on screen 1 runs the shown metric; F5 measures what the decision does.");
    }
    draw_rule(ui, r, log.y - 1);
    log_draw(ui, log);
}

static void context(Ui *ui, void *state, LineParts *out)
{
    (void)state;
    Session *s = ui_session(ui);
    int waiting = 0, paused = 0;
    for (int i = 0; i < session_jobs(s); i++) {
        const JobView *j = session_job(s, i);
        waiting += j->state == JOB_WAITING;
        paused += j->paused && j->place >= 0;
    }
    if (waiting > 0)
        part_add(out, SL_TEXT, 0, "%d waiting", waiting);
    if (paused > 0)
        part_add(out, SL_WARN, 0, "%d paused", paused);
    if (session_id(s)[0])
        part_add(out, SL_TEXT, 2, "session %s", session_id(s))->least = 18;
    if (session_id(s)[0] && !session_is_saved(s) && !session_is_read_only(s))
        part_add(out, SL_WARN, 0, "is not saved any more")->gap = 1;
}

static void copy(Ui *ui, void *state, bool all, Str *out)
{
    const JobView *j = cursor_job(ui, state);
    Str text = {0};
    if (all) {
        log_text(ui_session(ui), out);
    } else if (j) {
        tell_job(j, session_question(ui_session(ui)), &text);
        str_printf(out, "#%d %s: %s", j->id, j->title, str_text(&text));
    }
    str_free(&text);
}

static void fini(void *state)
{
    free(((Jobs *)state)->row);
}

/* ---- what is done to the job of the cursor ---- */

static const JobView *here(Ui *ui)
{
    return cursor_job(ui, ui_state(ui, &view_jobs));
}

static const char *refuse_no_resume(Ui *ui)
{
    const JobView *j = here(ui);
    return !ui_model(ui)                            ? refuse_no_model(ui)
           : !j                                     ? N_("nothing ran yet")
           : j->resumable || j->paused || j->earlier ? NULL
                                                    : N_("nothing of this job can be gone on with");
}

static const char *refuse_ended(Ui *ui)
{
    const JobView *j = here(ui);
    return !j ? N_("nothing runs") : j->place >= 0 ? NULL : N_("this job has ended");
}

static const char *refuse_open(Ui *ui)
{
    const JobView *j = here(ui);
    return !j ? N_("nothing ran yet") : j->place < 0 ? NULL : N_("it has not ended; x stops it, or takes it out of the queue");
}

static const char *refuse_no_move(Ui *ui)
{
    const JobView *j = here(ui);
    return j && j->state == JOB_WAITING ? NULL : N_("only a job that waits can be moved within the queue");
}

static const char *refuse_no_job(Ui *ui)
{
    return here(ui) ? NULL : N_("nothing ran yet");
}

static unsigned jobs_log(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    log_open(ui, here(ui)->id);
    return DO_RELAYOUT;
}

static unsigned jobs_resume(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const JobView *j = here(ui);
    bool open = j->place >= 0;
    int id = j->id;
    if (ui_command(ui, "resume %d", id)) {
        if (open)
            ui_say(ui, SL_TEXT, "#%d goes on", id);
        else
            ui_say_queued(ui, "going on with #%d", id);
    }
    return DO_PAINT;
}

static unsigned jobs_pause(Ui *ui, const KeyRow *row, int key)
{
    const JobView *j = here(ui);
    int id = j->id;
    if (j->paused || j->earlier)
        return jobs_resume(ui, row, key);
    bool runs = j->state == JOB_RUNNING;
    if (ui_command(ui, "pause %d", id))
        ui_say(ui, SL_WARN, runs ? "#%d stands still after this tile and keeps what it has; P goes on"
                                 : "#%d does not start; P lets it", id);
    return DO_PAINT;
}

/* Of the job of the cursor; the second time at once. */
static unsigned jobs_stop(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return ui_stop_job(ui, here(ui));
}

static unsigned jobs_discard(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Jobs *st = ui_state(ui, &view_jobs);
    int id = here(ui)->id;
    if (ui_command(ui, "discard %d", id)) {
        st->id = 0;
        ui_say(ui, SL_WARN, "#%d is off the list; what it found stays", id);
    }
    return DO_PAINT;
}

static unsigned jobs_move(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    Jobs *st = ui_state(ui, &view_jobs);
    int id = here(ui)->id;
    st->id = id; /* the cursor goes with it */
    if (ui_command(ui, "priority %d %s", id, row->arg < 0 ? "up" : "down")) {
        const JobView *j = here(ui);
        ui_say(ui, SL_TEXT, "#%d is number %d of those that wait", id, j->place);
    }
    return DO_PAINT;
}

/* Opens the command line with what goes on with another session; it lists them. */
static unsigned jobs_session(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return input_open(ui, INPUT_COMMAND, "session open ");
}

static const char *refuse_unasked(Ui *ui)
{
    return ui_model(ui) && session_question(ui_session(ui)) ? NULL : N_("no job asks anything");
}

/* Opens the command line for the answer to what the running job asks. */
static unsigned jobs_answer(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return input_open(ui, INPUT_COMMAND, "answer ");
}

static const KeyRow keys[] = {
    {.place = 40, .keys = {'r'}, .command = "resume JOB",
     .help = "go on with the job of the cursor, a stopped one after its last whole layer",
     .label = "Resume", .run = jobs_resume, .refuse = refuse_no_resume},
    {.place = 41, .keys = {'P'}, .command = "pause JOB", .help = "let it stand still after its tile, or go on", .label = "Pause",
     .run = jobs_pause, .refuse = refuse_ended},
    {.place = 42, .keys = {K(KEY_F(9)), 'x'}, .command = "cancel JOB",
     .help = "stop the job of the cursor, keep its rows; twice: at once; or unqueue it",
     .label = "Stop", .run = jobs_stop, .refuse = refuse_ended},
    {.place = 43, .keys = {'<'}, .command = "priority JOB up", .help = "start it earlier: before the one that waits above",
     .run = jobs_move, .arg = -1, .refuse = refuse_no_move},
    {.place = 44, .keys = {'>'}, .command = "priority JOB down", .help = "start it later: behind the one that waits below",
     .run = jobs_move, .arg = 1, .refuse = refuse_no_move},
    {.place = 45, .keys = {'D'}, .command = "discard JOB", .help = "take a job that has ended off the list; what it found stays",
     .label = "Discard", .run = jobs_discard, .refuse = refuse_open},
    {.place = 46, .keys = {'\n', '\t', K(KEY_ENTER)}, .help = "what the log says of this job", .label = "Log",
     .run = jobs_log, .refuse = refuse_no_job},
    {.place = 47, .keys = {'o'}, .command = "session open NAME", .help = "go on with another session in the place of this one",
     .label = "Sessions", .run = jobs_session},
    {.place = 48, .keys = {'i'}, .command = "answer TEXT", .help = "answer what the running job asks", .run = jobs_answer,
     .refuse = refuse_unasked},
    {.help = NULL},
};

const View view_jobs = {
    .key = '3', .keys = keys, .name = "jobs", .title = "Jobs", .state_size = sizeof(Jobs),
    .draw = draw, .move = move_rows, .context = context, .copy = copy, .click = click, .fini = fini,
};
