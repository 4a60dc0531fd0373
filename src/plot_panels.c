/* Plots of one linear beside each other: as two decisions quantize it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "session/comparing.h"
#include "session/levelnames.h"
#include "src/format.h"
#include "src/lang.h"
#include "src/plot.h"

/* ---- what they are of ---- */

static PlotPanel *add(PlotPanels *p, PlotKind kind)
{
    PlotPanel *n = &p->p[p->n++];
    n->kind = kind;
    n->title[0] = '\0';
    return n;
}

/* The level that a measurement gave a linear; NULL: float. */
static const QConfig *level_of(const Measurement *m, int64_t linear)
{
    int level = m->level[linear];
    return m->recipe && level > 0 && level <= recipe_entries(m->recipe) ? &recipe_entry(m->recipe, level - 1)->q : NULL;
}

/* "A #3 W8A8: error 0.83 % of the weight". */
static void put_title(const Measurement *m, int which, int64_t linear, PlotPanel *p)
{
    LevelNames names;
    char level[48] = "", error[24];
    double loss = plot_loss(&p->d);
    if (levelnames_of(m->recipe, &names, NULL) == ST_OK) {
        levelnames_name(&names, m->level[linear], level);
        levelnames_fini(&names);
    }
    fmt_percent(error, sizeof error, loss);
    if (m->level[linear] == 0)
        text_format(p->title, sizeof p->title, "%c #%s float: nothing is lost", which ? 'B' : 'A', m->name);
    else if (!m->recipe) /* its levels are numbers only */
        text_format(p->title, sizeof p->title, "%c #%s: of a recipe that is not known", which ? 'B' : 'A', m->name);
    else if (isnan(loss))
        snprintf(p->title, sizeof p->title, "%c #%s %s", which ? 'B' : 'A', m->name, level);
    else
        text_format(p->title, sizeof p->title, "%c #%s %s: error %s of the weight", which ? 'B' : 'A', m->name, level, error);
}

static void add_input(Session *s, int64_t linear, PlotPanels *p)
{
    const PlotLook look = {.kind = PLOT_INPUT};
    PlotPanel *n = add(p, PLOT_INPUT);
    if (plot_data(s, linear, &look, false, NULL, &n->d, NULL) != ST_OK || n->d.why[0])
        p->n--;
}

Status plot_measured(Session *s, int64_t linear, const Measurement m[2], bool now, const Cancel *cancel, PlotPanels *out, Error *err)
{
    *out = (PlotPanels){.linear = &session_model(s)->linears[linear]};
    for (int i = 0; i < 2; i++) {
        const QConfig *q = level_of(&m[i], linear);
        PlotPanel *p = add(out, q && q->weight.dtype != QT_FLOAT ? PLOT_DEQUANT : PLOT_WEIGHT);
        if (i && out->p[0].d.waits) /* one after the other: a newer wish stops the older one */
            p->d = (PlotData){.waits = true, .steps = ""};
        else
            RETURN_IF_ERROR(plot_data_at(s, linear, q, now, cancel, &p->d, err));
        put_title(&m[i], i, linear, p);
    }
    add_input(s, linear, out);
    return ST_OK;
}

Status plot_present(Session *s, int64_t linear, bool now, const Cancel *cancel, PlotPanels *out, Error *err)
{
    const PlotLook over = {.kind = PLOT_GRID}, weight = {.kind = PLOT_DEQUANT}, plain = {.kind = PLOT_WEIGHT};
    *out = (PlotPanels){.linear = &session_model(s)->linears[linear]};
    PlotPanel *p = add(out, PLOT_GRID);
    RETURN_IF_ERROR(plot_data(s, linear, &over, now, cancel, &p->d, err));
    if (p->d.why[0]) { /* no grid there: the input alone, or why there is none */
        out->n = 0;
        p = add(out, PLOT_INPUT);
        RETURN_IF_ERROR(plot_data(s, linear, &(PlotLook){.kind = PLOT_INPUT}, now, cancel, &p->d, err));
    }
    text_format(p->title, sizeof p->title, "input, as the present run has seen it");
    p = add(out, PLOT_DEQUANT);
    RETURN_IF_ERROR(plot_data(s, linear, &weight, now, cancel, &p->d, err));
    if (p->d.why[0]) {
        p->kind = PLOT_WEIGHT;
        RETURN_IF_ERROR(plot_data(s, linear, &plain, now, cancel, &p->d, err));
    }
    text_format(p->title, sizeof p->title, session_level_of(s, linear) ? "weight, as its level leaves it" : "weight (float now), as its level leaves it");
    return ST_OK;
}

/* ---- drawing ---- */

static Status draw_one(PlotPanel *p, const PlotLook *look, Sheet *c, int y, int x, int w, int h, Error *err)
{
    Sheet part;
    PlotLook own = {.kind = p->kind, .linear = look->linear, .table = look->table, .still = true};
    if (h < 1 || w < 1)
        return ST_OK;
    int head = p->title[0] ? 1 : 0;
    canvas_text(c, y, x, INK_STRONG, p->title);
    if (h <= head)
        return ST_OK;
    RETURN_IF_ERROR(canvas_init(&part, w, h - head, c->form, err));
    part.vline = c->vline;
    plot_draw(&p->d, &own, &part);
    for (int i = 0; i < part.h && y + head + i < c->h; i++) /* whole cells: a wide character has two */
        memcpy(&c->cell[(y + head + i) * c->w + x], &part.cell[i * w], (size_t)w * sizeof *part.cell);
    canvas_fini(&part);
    return ST_OK;
}

/* Where there is no room for two: the titles of both, and of the plots the first that shows a loss. */
static Status draw_low(PlotPanels *p, const PlotLook *look, Sheet *c, Error *err)
{
    int at = 0;
    while (at < p->n - 1 && at < 1 && p->p[at].kind == PLOT_WEIGHT)
        at++;
    PlotPanel one = p->p[at];
    for (int i = 0; i < p->n && i < 2; i++)
        canvas_text(c, i, 0, i == at ? INK_STRONG : INK_TEXT, p->p[i].title);
    one.title[0] = '\0';
    return draw_one(&one, look, c, 2, 0, c->w, c->h - 2, err);
}

/* Two stand side by side where there is room for both, else one below the other; the third is below, or left out. */
Status plot_panels_draw(PlotPanels *p, const PlotLook *look, Sheet *c, Error *err)
{
    enum { WIDE = 90, LEAST = 7, GAP = 2 };
    bool wide = c->w >= WIDE && p->n > 1;
    int bands = wide ? 1 + (p->n > 2) : p->n;
    while (bands > (wide ? 1 : 2) && c->h / bands < LEAST + 2)
        bands--;
    if (c->h / bands < LEAST)
        return draw_low(p, look, c, err);
    int w = wide ? (c->w - GAP) / 2 : c->w, y = 0;
    for (int band = 0, i = 0; band < bands && i < p->n; band++) {
        int h = (c->h - y) / (bands - band) - (band + 1 < bands), side = wide && band == 0 ? 2 : 1;
        for (int k = 0; k < side && i < p->n; k++, i++)
            RETURN_IF_ERROR(draw_one(&p->p[i], look, c, y, k * (w + GAP), side == 2 ? w : c->w, h, err));
        y += h + 1;
    }
    return ST_OK;
}
