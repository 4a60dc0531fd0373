/* Screen 4: the list of measurements, and one of them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "io/file.h"
#include "src/lang.h"
#include "ui/compare.h"

enum { C_MARK, C_NUMBER, C_SET, C_STATE, C_SIZE, C_MORE, C_BITS, C_KL, C_KL_SE, C_VERDICT, C_PPL, C_AGAINST, C_TOP1, C_TOKENS,
       C_RECIPE, C_ARITH, C_WHEN, COLUMNS };
static const Column columns[COLUMNS] = {
    [C_MARK] = {"", 1, 1, 0, false},          [C_NUMBER] = {"#", 3, 3, 0, true},
    [C_SET] = {"levels", 20, 44, 0, false}, [C_STATE] = {"is", 5, 5, 2, false},
    [C_SIZE] = {"size", 9, 9, 0, true},       [C_MORE] = {"", 7, 7, 4, true},
    [C_BITS] = {"bits", 5, 5, 9, true},       [C_KL] = {"KL", 8, 8, 0, true},
    [C_KL_SE] = {"+-", 7, 7, 5, true},        [C_VERDICT] = {"", 9, 9, 1, false},
    [C_PPL] = {"ppl", 15, 15, 10, true},       [C_AGAINST] = {"", 15, 15, 6, true},
    [C_TOP1] = {"top-1", 6, 6, 7, true},      [C_TOKENS] = {"tokens", 7, 7, 11, true},
    [C_RECIPE] = {"recipe", 12, 24, 8, false}, [C_ARITH] = {"arith", 5, 5, 13, false},
    [C_WHEN] = {"when", 11, 11, 12, false},
};

/* ---- what the list is made of ---- */

static int by_kl(const void *a, const void *b)
{
    const CompareRow *x = a, *y = b;
    return x->m.effect->kl_mean < y->m.effect->kl_mean ? -1 : x->m.effect->kl_mean > y->m.effect->kl_mean;
}

static int by_size(const void *a, const void *b)
{
    const CompareRow *x = a, *y = b;
    uint64_t i = x->sized ? x->size.bytes : UINT64_MAX, k = y->sized ? y->size.bytes : UINT64_MAX;
    return i != k ? (i < k ? -1 : 1) : by_kl(a, b);
}

static int by_number(const void *a, const void *b)
{
    const CompareRow *x = a, *y = b;
    return y->place - x->place;
}

static int (*const sorts[COMPARE_SORTS])(const void *, const void *) = {
    [BY_NUMBER] = by_number, [BY_KL] = by_kl, [BY_SIZE] = by_size};

/* What of a measurement never changes: found once. */
static void fill_row(Session *s, CompareRow *r, const CompareRow *old, int nold)
{
    for (int i = 0; i < nold; i++)
        if (strcmp(old[i].m.name, r->m.name) == 0 && old[i].m.level == r->m.level) {
            memcpy(r->set, old[i].set, sizeof r->set);
            r->floats = old[i].floats;
            r->sized = old[i].sized;
            r->size = old[i].size;
            return;
        }
    Str set = {0};
    session_measurement_levels(s, &r->m, true, &set);
    snprintf(r->set, sizeof r->set, "%s", str_text(&set));
    str_free(&set);
    for (int64_t i = 0; i < session_model(s)->nlinears; i++)
        r->floats += r->m.level[i] == 0;
    r->sized = session_measurement_size(s, &r->m, &r->size);
}

/* The one that the others are held against: A, else the present one, else the oldest. -1: none. */
static int reference(Session *s, bool *a)
{
    int at = session_marked_measurement(s, MARK_A);
    *a = at >= 0;
    for (int i = 0; at < 0 && i < session_measurements(s); i++)
        at = session_measurement(s, i).present ? i : -1;
    return at < 0 && session_measurements(s) > 1 ? 0 : at;
}

static void hold_against(Session *s, Compare *st)
{
    int ref = reference(s, &st->against_a);
    const CompareRow *base = NULL;
    snprintf(st->against, sizeof st->against, "%s", ref < 0 ? "" : session_measurement(s, ref).name);
    for (int i = 0; i < st->n; i++)
        base = st->row[i].place == ref ? &st->row[i] : base;
    for (int i = 0; i < st->n; i++) {
        CompareRow *r = &st->row[i];
        r->against = base && r != base;
        if (!r->against)
            continue;
        r->p = session_paired(s, r->place, ref);
        r->more = (int64_t)r->size.bytes - (int64_t)base->size.bytes;
    }
}

static void make_rows(Ui *ui, Compare *st)
{
    Session *s = ui_session(ui);
    int n = session_measurements_all(s), nold = st->n;
    CompareRow *old = st->row;
    bool same = strcmp(st->model, ui_model(ui)->fingerprint) == 0;
    st->row = mem_zarray((size_t)n + 1, sizeof *st->row);
    st->n = st->row ? n : 0;
    for (int i = 0; i < st->n; i++) {
        st->row[i] = (CompareRow){.m = session_measurement(s, i), .place = i};
        fill_row(s, &st->row[i], old, same ? nold : 0);
    }
    free(old);
    snprintf(st->model, sizeof st->model, "%s", ui_model(ui)->fingerprint);
    hold_against(s, st);
    if (st->n)
        qsort(st->row, (size_t)st->n, sizeof *st->row, sorts[st->sort]);
}

void compare_refresh(Ui *ui, Compare *st)
{
    uint64_t version = session_compare_version(ui_session(ui));
    if (!st->have || st->version != version)
        make_rows(ui, st);
    st->have = true;
    st->version = version;
}

/* The cursor stays on its measurement, wherever new ones or another order move it. */
const CompareRow *compare_row(Ui *ui, Compare *st)
{
    compare_refresh(ui, st);
    ListPos *pos = &st->pos[PAGE_MEASURED];
    for (int i = 0; st->name[0] && i < st->n; i++)
        if (strcmp(st->row[i].m.name, st->name) == 0)
            pos->cur = i;
    list_clamp(pos, st->n, st->seen[PAGE_MEASURED]);
    return st->n ? &st->row[pos->cur] : NULL;
}

void compare_fini(Compare *st)
{
    free(st->row);
    if (st->paired)
        measured_pair_fini(&st->pair);
}

/* ---- the list ---- */

static const char *state_word(const Measurement *m)
{
    return strchr(m->name, '@') ? "" : m->present ? N_("now") : m->base ? N_("base") : m->comparable ? "" : N_("other");
}

static void when_text(int64_t when, char *out, size_t size)
{
    time_t t = (time_t)when;
    struct tm tm;
    if (!when || !localtime_r(&t, &tm) || !strftime(out, size, "%m-%d %H:%M", &tm))
        snprintf(out, size, "%s", when ? "" : "?");
}

static void change_text(char *out, size_t size, double change, double se)
{
    fmt_change(out, size, change, se);
    if (text_width(out) > 15)
        fmt_change(out, size, change, NAN);
}

void compare_size(char *out, size_t size, uint64_t bytes)
{
    enum { MIB = 1 << 20 };
    if (bytes >= (uint64_t)10 * MIB && bytes < (uint64_t)10000 * MIB)
        snprintf(out, size, "%.1f MiB", (double)bytes / MIB);
    else
        fmt_bytes(out, size, (double)bytes);
}

static Slot verdict_slot(const Paired *p, Verdict v)
{
    return p->state != PAIR_OK ? SL_DIM : v == VERDICT_BETTER ? SL_OK : v == VERDICT_WORSE ? SL_ERR : SL_DIM;
}

/* Against the other one, by KL. */
static const char *verdict_text(const CompareRow *r, Slot *slot)
{
    Verdict v = verdict_of(r->p.kl, r->p.kl_se);
    *slot = SL_DIM;
    if (!r->against)
        return ".";
    *slot = verdict_slot(&r->p, v);
    return r->p.state != PAIR_OK ? N_("no pair") : v == VERDICT_UNDECIDED ? N_("tie") : verdict_word(v);
}

static void row_cells(Session *s, const CompareRow *r, char cell[COLUMNS][200])
{
    const Effect *e = r->m.effect;
    const char *a = session_marked(s, MARK_A), *b = session_marked(s, MARK_B);
    snprintf(cell[C_NUMBER], 200, "%s", r->m.name);
    snprintf(cell[C_MARK], 200, "%s", strcmp(a, cell[C_NUMBER]) == 0 ? "A" : strcmp(b, cell[C_NUMBER]) == 0 ? "B" : "");
    snprintf(cell[C_SET], 200, "%s", r->set);
    snprintf(cell[C_STATE], 200, "%s", tr(state_word(&r->m)));
    if (r->sized) {
        compare_size(cell[C_SIZE], 200, r->size.bytes);
        snprintf(cell[C_BITS], 200, "%.2f", r->size.average_bits);
    } else {
        snprintf(cell[C_SIZE], 200, "?");
    }
    if (r->against && r->sized)
        fmt_delta(cell[C_MORE], 200, (double)r->more);
    fmt_value(cell[C_KL], 200, e->kl_mean);
    if (isfinite(e->kl_se))
        snprintf(cell[C_KL_SE], 200, "%.2g", e->kl_se);
    change_text(cell[C_PPL], 200, e->ppl_change, e->ppl_change_se);
    if (r->against && isfinite(r->p.ppl))
        change_text(cell[C_AGAINST], 200, r->p.ppl, r->p.ppl_se);
    snprintf(cell[C_TOP1], 200, "%.1f %%", 100 * e->top1);
    fmt_count(cell[C_TOKENS], 200, e->tokens);
    snprintf(cell[C_RECIPE], 200, "%s", r->m.recipe ? recipe_name(r->m.recipe) : "?");
    snprintf(cell[C_ARITH], 200, "%s", arith_name(e->arith));
    when_text(r->m.made->when, cell[C_WHEN], 200);
}

/* Text that says something: cut behind a word. Figures are whole, or their column is not there. */
static void put_cell(Pen *p, Slot slot, int c, int w, const char *text)
{
    char cut[200];
    if (c == C_SET)
        text_cut(cut, sizeof cut, text, w, p->ui->term.glyphs.ellipsis);
    if (c == C_RECIPE)
        pen_name(p, slot, w, text);
    else
        pen_cell(p, slot, w, columns[c].right, c == C_SET ? cut : text);
}

static void draw_row(Ui *ui, Rect r, const int *w, const CompareRow *row, bool here)
{
    char cell[COLUMNS][200] = {{0}};
    Slot verdict;
    row_cells(ui_session(ui), row, cell);
    snprintf(cell[C_VERDICT], 200, "%s", tr(verdict_text(row, &verdict)));
    Pen p = pen_at(ui, r.y, r.x, r.w);
    p.reverse = here;
    pen_char(&p, SL_ROW, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, r.y, r.x);
    for (int c = 0; c < COLUMNS; c++) {
        if (!w[c])
            continue;
        Slot slot = c == C_VERDICT               ? verdict
                    : c == C_MARK                ? SL_TAGGED
                    : row->m.present             ? SL_STRONG
                    : row->m.comparable || strchr(row->m.name, '@') ? SL_ROW
                                                 : SL_STALE;
        pen_puts(&p, SL_ROW, " ");
        put_cell(&p, slot, c, w[c], cell[c]);
    }
    pen_fill(&p, SL_ROW);
}

static void draw_heading(Ui *ui, const Compare *st, Rect r, const int *w)
{
    static const int sorted[COMPARE_SORTS] = {[BY_NUMBER] = C_NUMBER, [BY_KL] = C_KL, [BY_SIZE] = C_SIZE};
    char against[64] = "", ppl[80] = "";
    if (st->against[0]) {
        if (st->against_a)
            text_format(against, sizeof against, "vs A");
        else
            text_format(against, sizeof against, "vs #%s", st->against);
        snprintf(ppl, sizeof ppl, "ppl %s", against);
    }
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_HEADER, " ");
    for (int c = 0; c < COLUMNS; c++) {
        char title[96];
        const char *name = c == C_VERDICT || c == C_MORE ? against : c == C_AGAINST ? ppl : tr(columns[c].title);
        bool room = text_width(name) + 2 <= w[c];
        if (!w[c])
            continue;
        snprintf(title, sizeof title, "%s%s", name, c != sorted[st->sort] ? "" : !room ? "" : st->sort == BY_NUMBER ? " v" : " ^");
        pen_puts(&p, SL_HEADER, " ");
        pen_cell(&p, SL_HEADER, w[c], columns[c].right, title);
    }
    pen_fill(&p, SL_HEADER);
}

static void fit(const Compare *st, int width, int *w)
{
    Column c[COLUMNS];
    memcpy(c, columns, sizeof c);
    for (int i = 0; i < st->n; i++) {
        int len = text_width(st->row[i].m.name);
        if (len > c[C_NUMBER].min && len <= 16)
            c[C_NUMBER].min = c[C_NUMBER].max = len;
    }
    if (!st->against[0])
        c[C_VERDICT].min = c[C_AGAINST].min = c[C_MORE].min = c[C_VERDICT].max = c[C_AGAINST].max = c[C_MORE].max = 0;
    columns_fit(c, COLUMNS, width, w);
}

static void draw_nothing(Ui *ui, Rect r)
{
    int y = r.y + 1;
    Rect in = {r.y, r.x + 2, r.h, r.w - 4};
    draw_wrapped(ui, in, &y, SL_STRONG, "Nothing is measured yet.");
    y++;
    draw_wrapped(ui, in, &y, SL_TEXT,
                 "F5 measures what is decided now: KL, perplexity and top-1 against float. Change the decision on Rank (1) or "
                 "What-if (2), measure again, and both stand here: a and b mark two of them, = compares the two.");
}

/* ---- one of them ---- */

static void part(Ui *ui, Rect r, int *y, const char *name, const char *text)
{
    enum { LABEL = 13 };
    if (!text[0])
        return;
    Pen p = pen_at(ui, *y, r.x, r.w);
    pen_cell(&p, SL_DIM, LABEL - 1, false, tr(name));
    draw_wrapped(ui, (Rect){r.y, r.x + LABEL, r.h, r.w - LABEL}, y, SL_TEXT, text);
}

static void data_line(Ui *ui, Rect r, int *y, const char *name, const DataPrint *d)
{
    char text[300], tokens[24];
    fmt_count(tokens, sizeof tokens, d->tokens);
    text_format(text, sizeof text, d->samples == 1 ? "%s: %d text, %s tokens, #%.4s" : "%s: %d texts, %s tokens, #%.4s",
                path_base(d->name), d->samples, tokens, d->sha256);
    part(ui, r, y, name, d->name[0] ? text : "");
}

static void figures(Ui *ui, Rect r, int *y, const Effect *e)
{
    char text[300], a[24], b[24], c[24], d[24];
    fmt_value(a, sizeof a, e->kl_mean);
    fmt_value(b, sizeof b, e->kl_median);
    fmt_value(c, sizeof c, e->kl_p99);
    fmt_value(d, sizeof d, e->kl_max);
    text_format(text, sizeof text, "%s +-%.2g nats a token, median %s, 99 %% below %s, most %s", a, e->kl_se, b, c, d);
    part(ui, r, y, "KL", text);
    fmt_value(a, sizeof a, e->ppl_float);
    fmt_value(b, sizeof b, e->ppl_quant);
    fmt_change(c, sizeof c, e->ppl_change, e->ppl_change_se);
    text_format(text, sizeof text, "%s float, %s quantized: %s", a, b, c);
    part(ui, r, y, "perplexity", text);
    text_format(text, sizeof text, "%.2f %% +-%.2f", 100 * e->top1, 100 * e->top1_se);
    part(ui, r, y, "same top-1", text);
}

static void provenance(Ui *ui, Rect r, int *y, const Measurement *m)
{
    char text[300], tokens[24], when[40];
    const MadeWith *w = m->made;
    fmt_count(tokens, sizeof tokens, m->effect->tokens);
    data_line(ui, r, y, "calibration", &w->calib);
    data_line(ui, r, y, "evaluation", &w->eval);
    text_format(text, sizeof text, m->effect->whole ? "%s, all of the set" : "%s; R on What-if (2) takes all", tokens);
    part(ui, r, y, "tokens", text);
    part(ui, r, y, "arithmetic", arith_name(m->effect->arith));
    if (!w->when) {
        part(ui, r, y, "made", "an older slimscope recorded it: when, and with which texts and settings, is not known");
        return;
    }
    when_text(w->when, when, sizeof when);
    text_format(text, sizeof text, "%s by slimscope %s, seed %llu, windows of %lld tokens%s", when, w->version,
                (unsigned long long)w->seed, (long long)w->ctx, w->peer ? ", compat peer" : "");
    part(ui, r, y, "made", text);
}

static const char *state_sentence(const Measurement *m)
{
    return m->present      ? N_("This is what is decided now.")
           : m->comparable ? N_("Of the open recipe; t makes its levels the present ones again (u takes that back).")
                           : N_("Of another recipe, or of other data or settings; t brings its levels, rules and recipe back.");
}

static int one_content(Ui *ui, Rect r, int64_t what, int spare)
{
    (void)what, (void)spare;
    Compare *st = ui_state(ui, &view_compare);
    const CompareRow *row = compare_row(ui, st);
    int y = r.y;
    char text[400], size[24];
    if (!row)
        return y;
    fmt_bytes(size, sizeof size, (double)row->size.bytes);
    text_format(text, sizeof text, "#%s  %lld of %lld linears float, %s, %.2f bits per weight", row->m.name, (long long)row->floats,
                (long long)ui_model(ui)->nlinears, row->sized ? size : "?", row->sized ? row->size.average_bits : NAN);
    draw_wrapped(ui, r, &y, SL_STRONG, text);
    draw_wrapped(ui, r, &y, row->m.present ? SL_STRONG : row->m.comparable ? SL_TEXT : SL_STALE, state_sentence(&row->m));
    figures(ui, r, &y, row->m.effect);
    Str levels = {0};
    session_measurement_levels(ui_session(ui), &row->m, false, &levels);
    part(ui, r, &y, "levels", str_text(&levels));
    str_free(&levels);
    part(ui, r, &y, "recipe", row->m.recipe ? recipe_name(row->m.recipe) : "?");
    Str names = {0};
    if (row->m.recipe)
        work_name_changes(row->m.recipe, &names);
    if (names.len)
        part(ui, r, &y, "processors", str_text(&names));
    str_free(&names);
    part(ui, r, &y, "rules then", !row->m.rules ? "not recorded" : row->m.rules[0] ? row->m.rules : "none: as the recipe gives it");
    provenance(ui, r, &y, &row->m);
    return y;
}

void compare_draw_one(Ui *ui, Compare *st, Rect r)
{
    compare_row(ui, st);
    detail_scrolled(ui, r, one_content, 0, &st->detail, tr(st->page == PAGE_ONE ? "j k scroll" : "J K scroll"));
    if (st->page == PAGE_ONE)
        ui_rest_cursor(ui, r.y, r.x);
}

void compare_draw_list(Ui *ui, Compare *st, Rect r)
{
    enum { BELOW = 14 }; /* lines from which the details stand below the list */
    compare_refresh(ui, st);
    if (!st->n) {
        draw_nothing(ui, r);
        return;
    }
    Rect list = r;
    if (r.h >= BELOW) {
        int want = st->n + 1, most = r.h - 8;
        list.h = want < most ? want : most;
        if (list.h < r.h / 3)
            list.h = r.h / 3;
        draw_hline(ui, r.y + list.h, r.x, r.w);
        compare_draw_one(ui, st, (Rect){r.y + list.h + 1, r.x, r.h - list.h - 1, r.w});
    }
    int w[COLUMNS];
    fit(st, list.w - 2, w);
    st->seen[PAGE_MEASURED] = list.h - 1;
    compare_row(ui, st);
    const ListPos *pos = &st->pos[PAGE_MEASURED];
    draw_heading(ui, st, list, w);
    for (int y = 1; y < list.h && pos->top + y - 1 < st->n; y++)
        draw_row(ui, (Rect){list.y + y, list.x, 1, list.w}, w, &st->row[pos->top + y - 1], pos->top + y - 1 == pos->cur);
}
