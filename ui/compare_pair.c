/* Screen 4: two measurements side by side. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/lang.h"
#include "ui/compare.h"

enum { FIGURE_ROWS = 8 };

int64_t compare_pair_rows(Ui *ui, const Compare *st)
{
    return !st->paired ? 0 : st->all ? ui_model(ui)->nlinears : st->pair.changes;
}

int64_t compare_pair_linear(const Compare *st, int64_t i)
{
    return st->all ? i : st->pair.change[i].linear;
}

void compare_pair_settle(Ui *ui, Compare *st)
{
    Session *s = ui_session(ui);
    uint64_t version = session_compare_version(s);
    if (st->pair_version == version && (st->paired || st->pair_why.status != ST_OK))
        return;
    if (st->paired)
        measured_pair_fini(&st->pair);
    int a = session_marked_measurement(s, MARK_A), b = session_marked_measurement(s, MARK_B);
    st->pair_version = version;
    st->pair_why = (Error){.status = ST_OK};
    if (a < 0 || b < 0)
        error_set(&st->pair_why, ST_USAGE, "what was marked is gone: q leads back to the list");
    st->paired = a >= 0 && b >= 0 && measured_pair(s, a, b, &st->pair, &st->pair_why) == ST_OK;
}

/* ---- the figures ---- */

enum { F_NAME, F_A, F_B, F_DIFFERENCE, F_VERDICT, F_COLUMNS };
static const Column figure_columns[F_COLUMNS] = {
    [F_NAME] = {"", 10, 14, 0, false}, [F_A] = {"A", 9, 14, 0, true}, [F_B] = {"B", 9, 14, 0, true},
    [F_DIFFERENCE] = {"A - B", 16, 22, 0, true}, [F_VERDICT] = {"A is", 8, 12, 1, false},
};

typedef struct FigureLine {
    const char *name;
    char a[56], b[56], difference[40];
    const char *verdict;
    Slot slot;
} FigureLine;

static void put_line(Ui *ui, Rect r, int y, const int *w, const FigureLine *f)
{
    const char *const cell[F_COLUMNS] = {f->name, f->a, f->b, f->difference, f->verdict ? f->verdict : ""};
    Pen p = pen_at(ui, y, r.x + 1, r.w - 1);
    for (int c = 0; c < F_COLUMNS; c++) {
        if (!w[c])
            continue;
        if (c)
            pen_puts(&p, SL_TEXT, c == F_VERDICT ? "  " : " ");
        pen_cell(&p, c == F_NAME ? SL_DIM : c == F_VERDICT ? f->slot : SL_TEXT, w[c], figure_columns[c].right, cell[c]);
    }
}

/* less: of this figure less is better. */
static void judge(FigureLine *f, const Paired *p, double difference, double error, bool less)
{
    Verdict v = verdict_of(less ? difference : -difference, error);
    if (p->state != PAIR_OK)
        return;
    f->verdict = tr(v == VERDICT_UNDECIDED ? N_("a tie") : verdict_word(v));
    f->slot = v == VERDICT_BETTER ? SL_OK : v == VERDICT_WORSE ? SL_ERR : SL_TEXT;
}

static void with_error(char *out, size_t size, const char *value, const char *error, double v, double se)
{
    char a[24], b[24] = "";
    if (!isfinite(v)) {
        out[0] = '\0';
        return;
    }
    snprintf(a, sizeof a, value, v);
    if (isfinite(se))
        snprintf(b, sizeof b, error, se);
    snprintf(out, size, "%s%s%s", a, b[0] ? " +-" : "", b);
}

static void draw_figures(Ui *ui, const MeasuredPair *p, Rect r, int *y)
{
    const Effect *a = p->a.effect, *b = p->b.effect;
    const Paired *d = &p->p;
    int w[F_COLUMNS];
    columns_fit(figure_columns, F_COLUMNS, r.w - 3, w);
    FigureLine head = {.name = "", .difference = "A - B", .verdict = tr("A is"), .slot = SL_DIM},
               kl = {.name = tr("KL")}, ppl = {.name = tr("perplexity")}, top = {.name = tr("same top-1")}, size = {.name = tr("size")};
    snprintf(head.a, sizeof head.a, "A #%s", p->a.name);
    snprintf(head.b, sizeof head.b, "B #%s", p->b.name);
    fmt_value(kl.a, sizeof kl.a, a->kl_mean);
    fmt_value(kl.b, sizeof kl.b, b->kl_mean);
    with_error(kl.difference, sizeof kl.difference, "%+.3g", "%.2g", d->kl, d->kl_se);
    judge(&kl, d, d->kl, d->kl_se, true);
    fmt_value(ppl.a, sizeof ppl.a, a->ppl_quant);
    fmt_value(ppl.b, sizeof ppl.b, b->ppl_quant);
    with_error(ppl.difference, sizeof ppl.difference, "%+.2f %%", "%.2f", 100 * d->ppl, 100 * d->ppl_se);
    judge(&ppl, d, d->ppl, d->ppl_se, true);
    snprintf(top.a, sizeof top.a, "%.2f %%", 100 * a->top1);
    snprintf(top.b, sizeof top.b, "%.2f %%", 100 * b->top1);
    with_error(top.difference, sizeof top.difference, "%+.2f %%", "%.2f", 100 * d->top1, 100 * d->top1_se);
    judge(&top, d, d->top1, d->top1_se, false);
    if (p->sized) {
        int64_t more = (int64_t)p->size[0].bytes - (int64_t)p->size[1].bytes;
        compare_size(size.a, sizeof size.a, p->size[0].bytes);
        compare_size(size.b, sizeof size.b, p->size[1].bytes);
        fmt_delta(size.difference, sizeof size.difference, (double)more);
        size.verdict = tr(more == 0 ? N_("the same") : more < 0 ? N_("smaller") : N_("larger"));
        size.slot = SL_TEXT;
    }
    const FigureLine *const lines[] = {&head, &size, &kl, &ppl, &top};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        put_line(ui, r, (*y)++, w, lines[i]);
}

static void verdict_sentence(const MeasuredPair *p, char *out, size_t size, Slot *slot)
{
    char tokens[24];
    Verdict v = verdict_of(p->p.kl, p->p.kl_se);
    fmt_count(tokens, sizeof tokens, p->p.tokens);
    *slot = SL_WARN;
    if (p->p.state == PAIR_NO_BLOCKS)
        text_format(out, size, "No verdict: %s", tr(pair_why(p->p.state)));
    else if (p->p.state != PAIR_OK)
        text_format(out, size, "Not comparable: %s", tr(pair_why(p->p.state)));
    else if (v == VERDICT_UNDECIDED)
        text_format(out, size, p->p.whole ? "Tie: undecided at %s tokens, which are all there are"
                                          : "Tie: undecided at %s tokens; R on What-if (2) takes all", tokens);
    else
        text_format(out, size, v == VERDICT_SAME     ? "Verdict: A and B are the same"
                               : v == VERDICT_BETTER ? "Verdict: A is better: KL differs by over 2 errors"
                                                     : "Verdict: A is worse: KL differs by over 2 errors");
    *slot = p->p.state != PAIR_OK || v == VERDICT_UNDECIDED ? SL_WARN : v == VERDICT_WORSE ? SL_ERR : SL_OK;
}

static void draw_verdict(Ui *ui, const MeasuredPair *p, Rect r, int *y)
{
    char text[400];
    Slot slot;
    Str differs = {0};
    Rect in = {r.y, r.x + 1, r.h, r.w - 2};
    verdict_sentence(p, text, sizeof text, &slot);
    draw_wrapped(ui, in, y, slot, text);
    measured_pair_differs(p, &differs);
    text_format(text, sizeof text, "differs: %s", str_text(&differs));
    char cut[400]; /* Tab has all of it */
    text_cut(cut, sizeof cut, text, in.w, ui->term.glyphs.ellipsis);
    draw_wrapped(ui, in, y, SL_STRONG, cut);
    str_free(&differs);
}

/* ---- what differs in how they were made ---- */

static int config_content(Ui *ui, Rect r, int64_t what, int spare)
{
    (void)what, (void)spare;
    const MeasuredPair *p = &((Compare *)ui_state(ui, &view_compare))->pair;
    int y = r.y;
    char text[420];
    for (int i = 0; i < p->ndiffers; i++) {
        draw_wrapped(ui, r, &y, SL_HEADER, p->differs[i].what);
        snprintf(text, sizeof text, "- %s", p->differs[i].a);
        draw_wrapped(ui, r, &y, SL_REMOVED, text);
        snprintf(text, sizeof text, "+ %s", p->differs[i].b);
        draw_wrapped(ui, r, &y, SL_ADDED, text);
    }
    for (const char *l = str_text(&p->config), *end; *l; l = end + 1) {
        end = strchr(l, '\n');
        snprintf(text, sizeof text, "%.*s", (int)(end - l < 400 ? end - l : 400), l);
        draw_wrapped(ui, r, &y, *l == '+' ? SL_ADDED : *l == '-' ? SL_REMOVED : SL_HEADER, text);
    }
    if (y == r.y)
        draw_wrapped(ui, r, &y, SL_DIM, p->told ? "Recipe, rules, data and settings are the same."
                                                : "Recipe and arithmetic are the same; an older slimscope recorded no more.");
    return y;
}

static void draw_config(Ui *ui, Compare *st, Rect r)
{
    Pen p = pen_at(ui, r.y, r.x + 1, r.w - 1);
    pen_puts(&p, SL_HEADER, tr("made differently: - A, + B"));
    pen_fill(&p, SL_HEADER);
    detail_scrolled(ui, (Rect){r.y + 1, r.x, r.h - 1, r.w}, config_content, 0, &st->config, tr(st->aside ? "j k scroll" : "J K scroll"));
}

/* ---- the linears ---- */

enum { L_LINEAR, L_A, L_B, L_COLUMNS };
static const Column level_columns[L_COLUMNS] = {
    [L_LINEAR] = {"layer", 24, 60, 0, false}, [L_A] = {"A", 8, 16, 0, false}, [L_B] = {"B", 8, 16, 0, false}};

/* The change of a linear, NULL: both gave it the same level. */
static const LevelChange *change_of(const MeasuredPair *p, int64_t linear)
{
    int64_t lo = 0, hi = p->changes;
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if (p->change[mid].linear < linear)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < p->changes && p->change[lo].linear == linear ? &p->change[lo] : NULL;
}

static void draw_level_row(Ui *ui, const Compare *st, Rect r, const int *w, int64_t i, bool here)
{
    int64_t linear = compare_pair_linear(st, i);
    const LevelChange *c = change_of(&st->pair, linear);
    Pen p = pen_at(ui, r.y, r.x, r.w);
    p.reverse = here;
    pen_char(&p, SL_ROW, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, r.y, r.x);
    pen_puts(&p, SL_ROW, " ");
    pen_name(&p, c ? SL_ROW : SL_DIM, w[L_LINEAR], ui_model(ui)->linears[linear].name);
    pen_puts(&p, SL_ROW, " ");
    pen_cell(&p, c ? SL_REMOVED : SL_DIM, w[L_A], false, c ? c->from : tr("="));
    pen_puts(&p, SL_ROW, " ");
    pen_cell(&p, c ? SL_ADDED : SL_DIM, w[L_B], false, c ? c->to : tr("="));
    pen_fill(&p, SL_ROW);
}

static void draw_levels(Ui *ui, Compare *st, Rect r)
{
    ListPos *pos = &st->pos[PAGE_PAIR];
    int w[L_COLUMNS];
    char title[80];
    int64_t n = compare_pair_rows(ui, st);
    columns_fit(level_columns, L_COLUMNS, r.w - 2, w);
    st->seen[PAGE_PAIR] = r.h - 1;
    list_clamp(pos, n, st->seen[PAGE_PAIR]);
    if (st->all)
        text_format(title, sizeof title, "all %lld linears", (long long)n);
    else
        text_format(title, sizeof title, n == 1 ? "%lld linear differs" : "%lld linears differ", (long long)n);
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_HEADER, "  ");
    pen_cell(&p, SL_HEADER, w[L_LINEAR], false, title);
    pen_puts(&p, SL_HEADER, " ");
    pen_cell(&p, SL_HEADER, w[L_A], false, "A");
    pen_puts(&p, SL_HEADER, " ");
    pen_cell(&p, SL_HEADER, w[L_B], false, "B");
    pen_fill(&p, SL_HEADER);
    for (int y = 1; y < r.h && pos->top + y - 1 < n; y++)
        draw_level_row(ui, st, (Rect){r.y + y, r.x, 1, r.w}, w, pos->top + y - 1, pos->top + y - 1 == pos->cur);
}

void compare_draw_pair(Ui *ui, Compare *st, Rect r)
{
    int y = r.y;
    compare_pair_settle(ui, st);
    if (!st->paired) {
        y++;
        draw_wrapped(ui, (Rect){r.y, r.x + 2, r.h, r.w - 4}, &y, SL_ERR, st->pair_why.text);
        return;
    }
    bool wide = r.w >= COMPARE_WIDE;
    Rect left = r, right = r;
    if (wide) {
        right.w = r.w * 38 / 100;
        left.w = r.w - right.w - 1;
        right.x = r.x + left.w + 1;
        draw_vline(ui, r.y, r.x + left.w, r.h);
        draw_config(ui, st, right);
    }
    draw_figures(ui, &st->pair, left, &y);
    draw_verdict(ui, &st->pair, left, &y);
    Rect rest = {y, left.x, left.y + left.h - y, left.w};
    if (st->aside && !wide)
        draw_config(ui, st, rest);
    else
        draw_levels(ui, st, rest);
}
