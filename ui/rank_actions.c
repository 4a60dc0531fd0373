/* Keys of the Rank screen that are about many rows at once, and about its columns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/columns.h"
#include "src/lang.h"
#include "text/lexer.h"
#include "ui/actions.h"
#include "ui/input.h"
#include "ui/rank.h"

/* ---- columns ---- */

/* Says which column that was asked for has no room. */
static unsigned tell_hidden(Ui *ui)
{
    Session *s = ui_session(ui);
    Rank *st = ui_state(ui, &view_rank);
    const unsigned bits = session_columns(s);
    rank_fit(ui, st, ui->layout.main.w - 2);
    const char *lacks = session_second(s) && !st->w[C_SECOND]          ? session_second(s)->name
                        : (bits & COLUMN_ADVICE) && !st->w[C_ADVICE] ? N_("advice")
                        : (bits & COLUMN_KIND) && !st->w[C_KIND]     ? N_("kind")
                                                                     : NULL;
    if (lacks && ui->layout.main.h > 0)
        ui_say(ui, SL_WARN, "there is no room for the column %s: a wider screen has it, or fewer columns (c, C)", tr(lacks));
    return DO_PAINT;
}

/* Runs `columns` with these. */
static unsigned set_columns(Ui *ui, const Metric *second, unsigned bits)
{
    Str words = {0};
    if (second) {
        str_putc(&words, ' ');
        lexer_quote(&words, second->name);
    }
    for (int i = 0; table_column_name(i); i++)
        if (bits & 1u << i)
            str_printf(&words, " %s", table_column_name(i));
    ui_command(ui, "columns%s", words.len ? str_text(&words) : " none");
    str_free(&words);
    return tell_hidden(ui);
}

/* The next metric behind `now` (NULL: from the first on) that has scores and is not the shown one; NULL: there is none. */
static const Metric *next_scored(Ui *ui, const Metric *now)
{
    Session *s = ui_session(ui);
    const Metric *const *all = ui_metrics(ui);
    int at = -1;
    for (int i = 0; now && all[i] && at < 0; i++)
        at = all[i] == now ? i : at;
    for (int i = at + 1; all[i]; i++)
        if (all[i] != session_metric(s) && (all[i]->loaded || session_has_run(s, all[i])))
            return all[i];
    return NULL;
}

unsigned rank_second(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Session *s = ui_session(ui);
    const Metric *next = next_scored(ui, session_second(s));
    if (!next && !session_second(s))
        return ui_refuse(ui, "no other metric has scores yet; m shows another, r runs it");
    return set_columns(ui, next, session_columns(s));
}

unsigned rank_columns(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Session *s = ui_session(ui);
    return set_columns(ui, session_second(s), (session_columns(s) + 1) % (2 * COLUMN_ADVICE));
}

/* ---- tagging rows that belong together ---- */

/* Appends a pattern of all linears of the same kind, or of the same layer (by >= 0). */
static void together(const Model *m, int64_t i, bool block, Str *out)
{
    const char *name = m->linears[i].name, *dot = strrchr(name, '.');
    char layer[24];
    snprintf(layer, sizeof layer, ".%d.", m->linears[i].layer);
    const char *at = strstr(name, layer);
    if (block && at)
        str_printf(out, "%.*s*", (int)(at - name + (long)strlen(layer)), name);
    else
        str_printf(out, "*%s", dot ? dot : name);
}

unsigned rank_tag_like(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    Here at = ui_here(ui);
    Str pattern = {0};
    together(ui_model(ui), at.linear, row->arg != TAG_KIND, &pattern);
    if (pattern.oom) {
        str_free(&pattern);
        return ui_refuse(ui, "out of memory");
    }
    Str quoted = {0};
    lexer_quote(&quoted, str_text(&pattern));
    if (ui->view->hold)
        ui->view->hold(ui, ui_state(ui, ui->view));
    ui_command(ui, "tag %s%s", row->arg == UNTAG_BLOCK ? "--off " : "", str_text(&quoted));
    str_free(&quoted);
    str_free(&pattern);
    return DO_PAINT;
}

/* ---- a range of rows ---- */

bool rank_in_range(const Rank *st, int64_t anchor_row, int64_t row)
{
    int64_t from = anchor_row < st->pos.cur ? anchor_row : st->pos.cur, to = anchor_row < st->pos.cur ? st->pos.cur : anchor_row;
    return st->range_on && anchor_row >= 0 && row >= from && row <= to;
}

bool rank_leave_range(Ui *ui, void *state)
{
    Rank *st = state;
    bool was = st->range_on;
    st->range_on = false;
    if (was)
        ui_say(ui, SL_TEXT, "the range is gone; nothing was tagged");
    return was;
}

/* Appends what selects the rows from..to: their names, and those of folds. */
static Status range_targets(Ui *ui, const TableRow *rows, int64_t from, int64_t to, Str *out, Error *err)
{
    Session *s = ui_session(ui);
    for (int64_t i = from; i <= to; i++) {
        char **target = NULL;
        int n = 0;
        if (!rows[i].head) {
            str_putc(out, ' ');
            lexer_quote(out, ui_model(ui)->linears[rows[i].linear].name);
            continue;
        }
        RETURN_IF_ERROR(session_fold_target(s, rows[i].fold, &target, &n, err));
        for (int k = 0; k < n; k++) {
            str_putc(out, ' ');
            lexer_quote(out, target[k]);
            free(target[k]);
        }
        free(target);
    }
    return out->oom ? error_nomem(err, "the range") : ST_OK;
}

static unsigned tag_range(Ui *ui, Rank *st)
{
    enum { MOST = 2000 };
    int64_t n, a = session_row_of(ui_session(ui), st->anchor, false), b = st->pos.cur;
    const TableRow *rows = session_rows(ui_session(ui), &n, false);
    int64_t from = a < b ? a : b, to = a < b ? b : a;
    Str words = {0};
    Error err = {ST_OK, ""};
    if (a < 0 || to >= n || to - from >= MOST) {
        st->range_on = false;
        return ui_refuse(ui, a < 0 ? "the row where the range began is hidden now" : "a range has at most 2,000 rows; T tags by a pattern");
    }
    if (range_targets(ui, rows, from, to, &words, &err) == ST_OK)
        ui_command(ui, "tag%s", str_text(&words));
    else
        ui_refuse(ui, "%s", err.text);
    st->range_on = false;
    str_free(&words);
    return DO_PAINT;
}

unsigned rank_range(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Rank *st = ui_state(ui, &view_rank);
    if (st->range_on)
        return tag_range(ui, st);
    if (ui->view->hold)
        ui->view->hold(ui, st);
    st->anchor = ui_here(ui).linear;
    st->range_on = true;
    ui_say(ui, SL_TEXT, "a range begins here: move, v again tags it, Esc gives it up");
    return DO_PAINT;
}
