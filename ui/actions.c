#include "ui/actions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "session/columns.h"
#include "session/fold.h"
#include "src/lang.h"
#include "text/lexer.h"
#include "ui/attached.h"
#include "ui/input.h"
#include "ui/plot.h"

/* ---- why a key does nothing ---- */

const char *refuse_no_model(Ui *ui)
{
    return ui_model(ui) ? NULL : "no model is open; type :open FOLDER";
}

const char *refuse_no_linear(Ui *ui)
{
    const char *why = refuse_no_model(ui);
    return why ? why : ui_here(ui).linear < 0 ? "no row is shown; the filter hides them all" : NULL;
}

const char *refuse_no_tags(Ui *ui)
{
    const char *why = refuse_no_model(ui);
    return why                                      ? why
           : session_tag_count(ui_session(ui)) == 0 ? "nothing is tagged; Space tags a row, T tags by pattern"
                                                    : NULL;
}

const char *refuse_no_undo(Ui *ui)
{
    return ui_session(ui) && session_undo_depth(ui_session(ui)) > 0 ? NULL : "there is nothing to undo";
}

const char *refuse_no_redo(Ui *ui)
{
    return ui_session(ui) && session_redo_depth(ui_session(ui)) > 0 ? NULL : "there is nothing to do again";
}

const char *refuse_no_search(Ui *ui)
{
    return ui->search[0] ? NULL : "nothing was searched yet; / does";
}

const char *refuse_no_result(Ui *ui)
{
    const char *why = refuse_no_linear(ui);
    const Here at = ui_here(ui);
    if (why || at.fold >= 0)
        return why ? why : "a fold has no histogram; o opens it";
    return session_result(ui_session(ui), at.linear) ? NULL : "this layer is not measured yet; r runs the metric";
}

const char *refuse_no_whatif(Ui *ui)
{
    const char *why = refuse_no_model(ui);
    return why ? why : session_whatifs(ui_session(ui)) == 0 ? "there is no rule here yet; p types one" : NULL;
}

const char *refuse_no_folds(Ui *ui)
{
    const char *why = refuse_no_model(ui);
    return why                                             ? why
           : session_fold_mode(ui_session(ui)) == FOLD_NONE ? "the table is not folded; f does"
           : session_folds(ui_session(ui)) == 0             ? "no two rows of this table belong together"
                                                            : NULL;
}

/* ---- seeing ---- */

unsigned act_end(Ui *ui, Motion m)
{
    static const char *const ends[] = {
        [MOVE_DOWN] = N_("this is the end"),          [MOVE_UP] = N_("this is the beginning"),     [MOVE_HALF_DOWN] = N_("this is the end"),
        [MOVE_HALF_UP] = N_("this is the beginning"), [MOVE_PAGE_DOWN] = N_("this is the end"),    [MOVE_PAGE_UP] = N_("this is the beginning"),
        [MOVE_TOP] = N_("this is the beginning"),     [MOVE_BOTTOM] = N_("this is the end"),       [MOVE_LEFT] = N_("this is the left end"),
        [MOVE_RIGHT] = N_("this is the right end"),
    };
    ui_say(ui, SL_DIM, "%s", tr(ends[m]));
    return DO_PAINT;
}

unsigned act_move(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    if (!ui_model(ui))
        return ui_refuse(ui, "%s", refuse_no_model(ui));
    return ui->view->move(ui, ui_state(ui, ui->view), (Motion)row->arg) ? DO_PAINT : act_end(ui, (Motion)row->arg);
}

unsigned act_screen(Ui *ui, const KeyRow *row, int key)
{
    (void)row;
    char name[2] = {(char)key, 0};
    const View *v = view_find(name);
    if (v && v == ui->view && !ui->side_full)
        ui_say(ui, SL_TEXT, "this is %s already", tr(v->title));
    ui->side_full = false;
    return v ? ui_goto(ui, v) | DO_RELAYOUT : ui_refuse(ui, "there is no screen %s", name);
}

void ui_hold(Ui *ui)
{
    if (ui_model(ui) && ui->view->hold)
        ui->view->hold(ui, ui_state(ui, ui->view));
}

unsigned act_detail(Ui *ui, const KeyRow *row, int key)
{
    (void)row;
    ui_hold(ui);
    if (key != '\t' && plot_enter(ui))
        return DO_PAINT;
    bool beside = ui->layout.split == SPLIT_RIGHT || ui->layout.split == SPLIT_BELOW;
    if (key == '\t' && (beside || !ui->side_on) && !ui->side_full)
        ui->side_on = !ui->side_on;
    else
        ui->side_full = !ui->side_full;
    return DO_RELAYOUT;
}

unsigned act_resort(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    int64_t n;
    if (!session_order_stale(ui_session(ui)))
        return ui_refuse(ui, "every row is in its place");
    session_order(ui_session(ui), &n, true);
    return DO_PAINT;
}

unsigned ui_found(Ui *ui, Found f, const char *text)
{
    if (f.of == 0)
        return ui_refuse(ui, "nothing here holds '%s'", text);
    ui_say(ui, SL_TEXT, "match %lld of %lld for '%s'; n next, N before, Esc unmarks", (long long)f.at,
           (long long)f.of, text);
    return DO_PAINT;
}

unsigned act_find_next(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    if (!ui->view->find)
        return ui_refuse(ui, "there is nothing to search on this screen");
    snprintf(ui->marked, sizeof ui->marked, "%s", ui->search);
    return ui_found(ui, ui->view->find(ui, ui_state(ui, ui->view), ui->search, row->arg, false), ui->search);
}

unsigned act_help(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    help_open(ui);
    return DO_PAINT;
}

unsigned act_redraw(Ui *ui, const KeyRow *row, int key)
{
    (void)ui, (void)row, (void)key;
    clearok(curscr, TRUE);
    return DO_RELAYOUT;
}

unsigned act_suspend(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    term_suspend(&ui->term);
    return DO_RELAYOUT;
}

unsigned act_export(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return ui_goto(ui, &view_export);
}

/* ---- commands ---- */

unsigned act_prompt(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    const char *text = row->arg == INPUT_FILTER ? session_filter_text(ui_session(ui)) : NULL;
    return input_open(ui, (InputKind)row->arg, text);
}

unsigned act_run(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const Metric *m = session_metric(ui_session(ui));
    if (!m)
        return ui_refuse(ui, "no metric is shown; :show METRIC");
    if (m->loaded)
        return ui_refuse(ui, m->loaded->kept ? "%s is of a run that was kept: %s" : "%s was loaded from %s: another program makes it",
                         m->name, m->loaded->file);
    static const char weighs[] = "block_error"; /* what predictions go by */
    bool asked = strcmp(m->name, weighs) == 0, known = session_predict(ui_session(ui)).have;
    if (asked) /* with the histograms, and what sharpens it, in the background */
        ui_command(ui, "analyze block_error local_error alone");
    else
        ui_command(ui, known ? "analyze %s" : "analyze %s %s", m->name, weighs);
    return DO_PAINT;
}

unsigned act_measure(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ui_command(ui, "measure");
    return DO_PAINT;
}

/* Runs the verb on the row of the cursor: on its linear, or on what its fold shows. */
static unsigned on_row(Ui *ui, Here at, const char *verb)
{
    Str b = {0};
    char **target = NULL;
    int n = 0;
    Error err = {ST_OK, ""};
    ui_hold(ui);
    if (at.fold >= 0 && session_fold_target(ui_session(ui), at.fold, &target, &n, &err) != ST_OK)
        return ui_refuse(ui, "%s", err.text);
    str_puts(&b, verb);
    for (int i = 0; i < n; i++) {
        str_putc(&b, ' ');
        lexer_quote(&b, target[i]);
        free(target[i]);
    }
    free(target);
    if (at.fold < 0) {
        str_putc(&b, ' ');
        lexer_quote(&b, ui_model(ui)->linears[at.linear].name);
    }
    ui_command(ui, "%s", str_text(&b));
    str_free(&b);
    return DO_PAINT;
}

/* NULL: the cursor is on a linear. */
static const Fold *fold_at(Ui *ui, Here at)
{
    return at.fold >= 0 ? session_fold_at(ui_session(ui), at.fold) : NULL;
}

unsigned act_exclude(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const Here at = ui_here(ui);
    const Fold *f = fold_at(ui, at);
    bool off = f ? f->floats == f->count : session_level_of(ui_session(ui), at.linear) == 0;
    return on_row(ui, at, off ? "include" : "exclude");
}

unsigned act_exclude_tagged(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Session *s = ui_session(ui);
    bool all = true;
    for (int64_t i = 0; i < ui_model(ui)->nlinears && all; i++)
        all = !session_tagged(s, i) || session_level_of(s, i) == 0;
    ui_command(ui, all ? "include tagged" : "exclude tagged");
    return DO_PAINT;
}

unsigned act_level(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Session *s = ui_session(ui);
    const Here at = ui_here(ui);
    const Fold *f = fold_at(ui, at);
    int now = f ? f->level : session_level_of(s, at.linear); /* -1, of a fold with several: all to float first */
    int next = (now + 1) % session_levels(s);
    char verb[80];
    Str name = {0};
    lexer_quote(&name, session_level_name(s, next));
    snprintf(verb, sizeof verb, "level %s", str_text(&name));
    str_free(&name);
    return on_row(ui, at, verb);
}

unsigned act_undo(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ui_command(ui, "undo");
    return DO_RELAYOUT;
}

unsigned act_redo(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ui_command(ui, "redo");
    return DO_RELAYOUT;
}

unsigned act_tag(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const Here at = ui_here(ui);
    const Fold *f = fold_at(ui, at);
    bool off = f ? f->tagged == f->count : session_tagged(ui_session(ui), at.linear);
    on_row(ui, at, off ? "tag --off" : "tag");
    ui->view->move(ui, ui_state(ui, ui->view), MOVE_DOWN);
    return DO_PAINT;
}

static unsigned sort_by(Ui *ui, SortKey k, bool ascending)
{
    ui_hold(ui);
    ui_command(ui, "sort %s %s", sort_key_name(k), ascending ? "asc" : "desc");
    return DO_PAINT;
}

unsigned ui_sort(Ui *ui, SortKey k)
{
    bool ascending;
    if (session_sort_key(ui_session(ui), &ascending) == k)
        return sort_by(ui, k, !ascending);
    return sort_by(ui, k, k == SORT_NAME || k == SORT_MODEL || k == SORT_LEVEL); /* float first */
}

unsigned act_sort(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    Session *s = ui_session(ui);
    int k = session_sort_key(s, NULL);
    do
        k = (k + row->arg + SORT_KEYS) % SORT_KEYS;
    while (k == SORT_SECOND && !session_second(s));
    return ui_sort(ui, (SortKey)k);
}

unsigned act_sort_invert(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    bool ascending;
    SortKey k = session_sort_key(ui_session(ui), &ascending);
    return sort_by(ui, k, !ascending);
}

unsigned act_metric(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    const Metric *now = session_metric(ui_session(ui));
    int n = 0, at = 0;
    ui_hold(ui);
    const Metric *const *all = ui_metrics(ui);
    for (; all[n]; n++) {
        if (all[n] == now)
            at = n;
    }
    if (n == 0)
        return ui_refuse(ui, "this build has no metric");
    const Metric *next = all[(at + row->arg + n) % n];
    ui_command(ui, "show %s", next->name);
    return DO_PAINT;
}

/* ---- copying ---- */

unsigned act_copy(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Str text = {0};
    if (ui_model(ui))
        ui->view->copy(ui, ui_state(ui, ui->view), false, &text);
    if (text.len == 0) {
        str_free(&text);
        return ui_refuse(ui, "there is nothing to copy here");
    }
    if (!text.oom && term_copy(&ui->term, text.s, text.len))
        ui_say(ui, SL_OK, "copied (if the terminal allows OSC 52): %.*s%s", (int)strcspn(text.s, "\n"), text.s,
               strchr(text.s, '\n') ? " ..." : "");
    else
        ui_say(ui, SL_ERR, "not copied: %s", tr(text.oom ? "out of memory" : "the terminal takes no bytes"));
    str_free(&text);
    return DO_PAINT;
}

unsigned act_plain(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Str text = {0};
    if (ui_model(ui))
        ui->view->copy(ui, ui_state(ui, ui->view), true, &text);
    if (text.len == 0 || ui->term.null) {
        str_free(&text);
        return ui_refuse(ui, "there is nothing to print here");
    }
    term_leave(&ui->term);
    text.len = text_fit_terminal(text.s, text.len, true);
    str_puts(&text, "-- Enter returns to the workbench\n");
    if (term_write(&ui->term, text.s, text.len))
        term_wait_enter(&ui->term);
    term_return(&ui->term);
    str_free(&text);
    return DO_RELAYOUT;
}

/* ---- stopping and leaving ---- */

unsigned ui_stop_job(Ui *ui, const JobView *j)
{
    if (ui_attached(ui))
        return attached_stop(ui, j);
    int64_t now = clock_ns();
    bool lately = ui->last_int && now - ui->last_int < 2000000000, again = lately && ui->stopping == j->id;
    const int id = j->id, was = ui->stopping;
    if (lately && !again) { /* meant for the one before, which has ended meanwhile */
        ui->last_int = 0;
        return ui_refuse(ui, "#%d has stopped; once more stops #%d", was, id);
    }
    bool waits = j->state == JOB_WAITING;
    ui->last_int = now;
    ui->stopping = id;
    if (ui_command(ui, again ? "cancel %d --now" : "cancel %d", id))
        ui_say(ui, SL_WARN,
               waits   ? "#%d will not start"
               : again ? "#%d stops at once"
                       : "#%d stops after this tile, finished rows are kept; again: at once",
               id);
    return DO_PAINT;
}

/* The job that runs, or is the next to. */
static const JobView *oldest_open(Session *s)
{
    for (int i = 0; i < session_jobs(s); i++) {
        const JobView *j = session_job(s, i);
        if (j->state == JOB_RUNNING || j->state == JOB_WAITING)
            return j;
    }
    return NULL;
}

unsigned act_stop(Ui *ui, const KeyRow *row, int key)
{
    (void)row;
    Session *s = ui_session(ui);
    if (player_interrupt(ui)) {
        ui_say(ui, SL_WARN, "the script stops before its next line");
        if (!s || !session_busy(s))
            return DO_PAINT;
    } else if (!s || !session_busy(s)) {
        return ui_refuse(ui, key == KEY_CTRL('C') ? "nothing runs; Q or F10 quits" : "nothing runs");
    }
    return ui_stop_job(ui, oldest_open(s));
}

static unsigned quit_yes(Ui *ui)
{
    return ui_command(ui, "quit!") ? DO_QUIT : DO_PAINT;
}

/* Its jobs go on in a process of its own, from their last whole layer. */
static unsigned quit_detach(Ui *ui)
{
    ui->app->detach = true;
    return quit_yes(ui);
}

static const char *quit_text(Session *s)
{
    if (!s || !session_unkept(s))
        return "quit? The session is kept. y yes, any other key: stay";
    return session_is_read_only(s) ? "quit? Read-only: edits are NOT kept. y yes, any other: stay"
                                   : "quit? The session is NOT kept. y yes, any other: stay";
}

unsigned act_quit(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Session *s = ui_session(ui);
    bool busy = s && session_busy(s), lost = s && session_unkept(s) && session_has_work(s);
    if ((!busy && !lost) || ui_attached(ui)) /* another process's goes on */
        return ui_command(ui, "quit") ? DO_QUIT : DO_PAINT;
    if (lost)
        ui->question = (Question){.text = quit_text(s), .yes = quit_yes};
    else
        ui->question = (Question){.text = N_("a job runs. Quit? y keep its rows, d let it go on without a screen, other: stay"),
                                  .yes = quit_yes, .detach = quit_detach};
    return DO_PAINT;
}

unsigned act_back(Ui *ui, const KeyRow *row, int key)
{
    (void)row;
    if (key == KEY_ESC && plot_leave(ui))
        return DO_PAINT;
    if (ui->side_full) {
        ui->side_full = false;
        return DO_RELAYOUT;
    }
    if (key == KEY_ESC && ui->view->cancel && ui->view->cancel(ui, ui_state(ui, ui->view)))
        return DO_PAINT;
    if (key == KEY_ESC && ui->marked[0] && ui->view->find) {
        ui->marked[0] = '\0';
        return DO_PAINT;
    }
    if (key == KEY_ESC) {
        if (ui_model(ui) && session_filter_text(ui_session(ui))[0] && ui->view->find)
            ui_command(ui, "filter");
        else
            ui_say(ui, SL_DIM, "there is nothing to leave here; q leads back");
        return DO_PAINT;
    }
    if (ui->nback > 0) {
        ui->view = ui->back[--ui->nback];
        return DO_RELAYOUT;
    }
    if (ui_session(ui) && (session_busy(ui_session(ui)) || ui_attached(ui)))
        return act_quit(ui, row, key);
    ui->question = (Question){.text = quit_text(ui_session(ui)), .yes = quit_yes};
    return DO_PAINT;
}
