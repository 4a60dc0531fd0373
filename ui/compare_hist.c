/* Screen 4: histograms of one layer, as two decisions quantize it or as two metrics score it. */
#include <stdio.h>
#include <string.h>

#include "src/lang.h"
#include "ui/compare.h"
#include "ui/plot.h"

ComparePage compare_rows_page(const Compare *st)
{
    return st->page == PAGE_HIST ? st->under : st->page;
}

int64_t compare_linear(Ui *ui, const Compare *st)
{
    ComparePage page = compare_rows_page(st);
    if (page == PAGE_RANKS)
        return compare_rank_linear(ui, st);
    if (page != PAGE_PAIR || !st->paired || st->pos[PAGE_PAIR].cur >= compare_pair_rows(ui, st))
        return -1;
    return compare_pair_linear(st, st->pos[PAGE_PAIR].cur);
}

/* What stands above them: the layer, and what A and B give it. */
static void draw_head(Ui *ui, const Compare *st, Rect r, int64_t linear)
{
    char text[300], a[24], b[24];
    Pen p = pen_at(ui, r.y, r.x + 1, r.w - 2);
    pen_name(&p, SL_STRONG, r.w - 2, ui_model(ui)->linears[linear].name);
    const PairRow *row = st->under == PAGE_RANKS ? compare_rank_row(st) : NULL;
    if (!row)
        return;
    int y = r.y + 1;
    fmt_score(a, sizeof a, row->a);
    fmt_score(b, sizeof b, row->b);
    text_format(text, sizeof text, "A %s %s #%g  B %s %s #%g", st->ranks.a->name, a, row->rank_a, st->ranks.b->name, b, row->rank_b);
    draw_wrapped(ui, (Rect){r.y, r.x + 1, 2, r.w - 2}, &y, SL_TEXT, text);
}

static void draw_keys(Ui *ui, Rect r)
{
    LineParts l = {.n = 0};
    part_add(&l, SL_HEADER, 0, "j k layer");
    part_add(&l, SL_HEADER, 1, "L log  H table");
    part_add(&l, SL_HEADER, 2, "Enter on Rank");
    part_add(&l, SL_HEADER, 0, "q back");
    Pen p = pen_at(ui, r.y + r.h - 1, r.x + 1, r.w - 1);
    pen_parts(&p, SL_HEADER, &l, 0);
    pen_fill(&p, SL_HEADER);
}

static Status find_panels(Ui *ui, const Compare *st, int64_t linear, PlotPanels *out, Error *err)
{
    const Measurement both[] = {st->pair.a, st->pair.b};
    return st->under == PAGE_PAIR ? plot_measured(ui_session(ui), linear, both, false, NULL, out, err)
                                  : plot_present(ui_session(ui), linear, false, NULL, out, err);
}

void compare_draw_hist(Ui *ui, Compare *st, Rect r)
{
    Sheet c;
    PlotPanels p;
    Error err = {0};
    (st->under == PAGE_PAIR ? compare_pair_settle : compare_ranks_settle)(ui, st);
    int64_t linear = compare_linear(ui, st);
    if (linear < 0) {
        st->page = st->under;
        return;
    }
    int head = st->under == PAGE_RANKS ? 2 : 1;
    draw_head(ui, st, r, linear);
    draw_keys(ui, r);
    Rect in = {r.y + head, r.x + 1, r.h - head - 1, r.w - 2};
    if (in.h < 3 || in.w < 12 || canvas_init(&c, in.w, in.h, ui->term.glyphs.hist, NULL) != ST_OK)
        return;
    c.vline = ui->term.glyphs.vline;
    if (find_panels(ui, st, linear, &p, &err) != ST_OK || plot_panels_draw(&p, &st->look, &c, &err) != ST_OK)
        canvas_text(&c, 0, 0, INK_BAD, err.text);
    ui_canvas(ui, in.y, in.x, &c);
    canvas_fini(&c);
    ui_rest_cursor(ui, r.y, r.x);
}
