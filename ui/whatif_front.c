/* Screen 2, the front: what bytes buy, as a plot and as a table whose rows can be taken. */
#include "ui/whatif.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "src/lang.h"

/* ---- the plot ---- */

enum { AXIS = 8 }; /* cells of the axis at the left */

/* Cells of so many dots, drawn from the top left corner; over them marks of one cell. */
typedef struct Canvas {
    int w, h, across, down; /* cells; dots of a cell */
    unsigned char *dots;    /* [h][w] a bit for each */
    char *mark;             /* [h][w] 0: none */
    Slot *slot;             /* [h][w] of the marks */
} Canvas;

static bool canvas_new(Canvas *c, HistForm form, int w, int h)
{
    size_t n = (size_t)w * (size_t)h;
    *c = (Canvas){.w = w, .h = h, .across = form == HIST_BRAILLE ? 2 : 1,
                  .down = form == HIST_BRAILLE ? 4 : form == HIST_BLOCK ? 2 : 1, .dots = mem_zarray(n, 1),
                  .mark = mem_zarray(n, 1), .slot = mem_zarray(n, sizeof *c->slot)};
    return c->dots && c->mark && c->slot;
}

static void canvas_free(Canvas *c)
{
    free(c->dots);
    free(c->mark);
    free(c->slot);
}

static void put_dot(Canvas *c, int x, int y)
{
    if (x >= 0 && y >= 0 && x < c->w * c->across && y < c->h * c->down)
        c->dots[y / c->down * c->w + x / c->across] |= (unsigned char)(1 << (y % c->down * c->across + x % c->across));
}

/* Of the dots of a cell the character. */
static wchar_t cell_char(const Canvas *c, unsigned bits)
{
    static const unsigned char braille[8] = {0x01, 0x08, 0x02, 0x10, 0x04, 0x20, 0x40, 0x80};
    static const wchar_t halves[4] = {L' ', 0x2580, 0x2584, 0x2588};
    unsigned sum = 0;
    if (c->down == 1)
        return bits ? L'.' : L' ';
    if (c->down == 2)
        return halves[bits & 3];
    for (int k = 0; k < 8; k++)
        sum |= bits >> k & 1 ? braille[k] : 0;
    return sum ? (wchar_t)(0x2800 + sum) : L' ';
}

/* Where values lie on it: x bytes, y loss; the present set's place and what the sizes are told against. */
typedef struct Scale {
    double x0, x1, y1;   /* y begins at 0 */
    bool kl;             /* else the sum of what groups weigh */
    int64_t opened;
} Scale;

static double loss_of(const FrontRow *r, const Scale *s)
{
    return isfinite(r->kl_measured) ? r->kl_measured : s->kl ? r->kl.value : r->sum;
}

static bool scale_make(const FrontRow *rows, int64_t n, const Reach *reach, Scale *s)
{
    *s = (Scale){.x0 = INFINITY, .x1 = -INFINITY, .opened = reach->opened};
    for (int64_t i = 0; i < n; i++)
        s->kl = s->kl || isfinite(rows[i].kl.value);
    for (int64_t i = 0; i < n; i++) {
        double y = loss_of(&rows[i], s);
        s->x0 = fmin(s->x0, (double)rows[i].bytes);
        s->x1 = fmax(s->x1, (double)rows[i].bytes);
        s->y1 = isfinite(y) ? fmax(s->y1, y) : s->y1;
    }
    return s->x1 > s->x0 && s->y1 > 0;
}

static int dot_x(const Canvas *c, const Scale *s, double bytes)
{
    return (int)lround((bytes - s->x0) / (s->x1 - s->x0) * (c->w * c->across - 1));
}

static int dot_y(const Canvas *c, const Scale *s, double loss)
{
    return (int)lround((1 - loss / s->y1) * (c->h * c->down - 1));
}

/* The foretold points as one line, from dot to dot. */
static void draw_curve(Canvas *c, const Scale *s, const FrontRow *rows, int64_t n)
{
    int px = -1, py = -1;
    for (int64_t i = 0; i < n; i++) {
        double y = loss_of(&rows[i], s);
        if (isfinite(rows[i].kl_measured) || !isfinite(y))
            continue;
        int x1 = dot_x(c, s, (double)rows[i].bytes), y1 = dot_y(c, s, y);
        int steps = px < 0 ? 0 : abs(x1 - px) > abs(y1 - py) ? abs(x1 - px) : abs(y1 - py);
        for (int k = 1; k < steps; k++)
            put_dot(c, px + (x1 - px) * k / steps, py + (y1 - py) * k / steps);
        put_dot(c, x1, y1);
        px = x1;
        py = y1;
    }
}

static void put_mark(Canvas *c, const Scale *s, double bytes, double loss, char mark, Slot slot)
{
    if (!isfinite(loss))
        return;
    int x = dot_x(c, s, bytes) / c->across, y = dot_y(c, s, loss) / c->down;
    if (x < 0 || y < 0 || x >= c->w || y >= c->h)
        return;
    c->mark[y * c->w + x] = mark;
    c->slot[y * c->w + x] = slot;
}

/* The present set: as measured, else as foretold. */
static double loss_now(Session *s, const Scale *scale)
{
    int64_t differs = 1;
    const Prediction p = session_predict(s);
    const Effect *e = session_effect(s, &differs);
    if (!scale->kl)
        return p.sum;
    return e && !differs ? e->kl_mean : p.kl.value;
}

static void draw_marks(Ui *ui, Canvas *c, const Scale *s, const FrontRow *rows, int64_t n, int64_t at)
{
    for (int64_t i = 0; i < n; i++)
        if (rows[i].knee)
            put_mark(c, s, (double)rows[i].bytes, loss_of(&rows[i], s), 'K', SL_WARN);
    for (int64_t i = 0; i < n; i++)
        if (isfinite(rows[i].kl_measured))
            put_mark(c, s, (double)rows[i].bytes, rows[i].kl_measured, 'o', SL_STRONG);
    const Prediction now = session_predict(ui_session(ui));
    put_mark(c, s, (double)now.size.bytes, loss_now(ui_session(ui), s), '@', SL_OK);
    if (at >= 0 && at < n)
        put_mark(c, s, (double)rows[at].bytes, loss_of(&rows[at], s), '+', SL_CURSOR);
}

static void draw_canvas(Ui *ui, const Canvas *c, const Scale *s, Rect r)
{
    for (int y = 0; y < c->h; y++) {
        char text[24] = "";
        Pen p = pen_at(ui, r.y + y, r.x, r.w);
        if (y == 0 || y == c->h - 1 || (c->h >= 7 && y == c->h / 2))
            snprintf(text, sizeof text, "%.3g", s->y1 * (1 - (double)y / (c->h - 1)));
        pen_cell(&p, SL_AXIS, AXIS - 1, true, text);
        pen_char(&p, SL_AXIS, ui->term.glyphs.vline);
        for (int x = 0; x < c->w; x++) {
            int i = y * c->w + x;
            if (c->mark[i])
                pen_char(&p, c->slot[i], (wchar_t)c->mark[i]);
            else
                pen_char(&p, SL_PREDICTED, cell_char(c, c->dots[i]));
        }
    }
}

/* The sizes at the ends and in the middle of the axis. */
static void draw_sizes(Ui *ui, const Scale *s, Rect r)
{
    char text[3][32];
    for (int k = 0; k < 3; k++)
        fmt_delta(text[k], sizeof text[k], s->x0 + (s->x1 - s->x0) * k / 2 - (double)s->opened);
    Pen p = pen_at(ui, r.y, r.x + AXIS, r.w - AXIS);
    pen_puts(&p, SL_AXIS, text[0]);
    int last = p.end - text_width(text[2]), mid = p.x + (last - p.x - text_width(text[1])) / 2;
    if (mid > p.x + 1) {
        pen_to(&p, SL_AXIS, mid);
        pen_puts(&p, SL_AXIS, text[1]);
    }
    if (last > p.x) {
        pen_to(&p, SL_AXIS, last);
        pen_puts(&p, SL_AXIS, text[2]);
    }
}

/* What the plot's signs are; `keys`: its list is below and takes keys. */
static void draw_legend(Ui *ui, const Scale *s, const FrontRow *rows, int64_t n, bool keys, Rect r)
{
    LineParts l = {.n = 0};
    char size[32], loss[32];
    Session *session = ui_session(ui);
    const Prediction now = session_predict(session);
    fmt_delta(size, sizeof size, (double)now.size.bytes - (double)s->opened);
    part_add(&l, SL_OK, 1, tr("@ now %s"), now.size.bytes == (uint64_t)s->opened ? "+0" : size);
    for (int64_t i = 0; i < n; i++)
        if (rows[i].knee) {
            fmt_delta(size, sizeof size, (double)(rows[i].bytes - s->opened));
            snprintf(loss, sizeof loss, "%.3g~", loss_of(&rows[i], s));
            part_add(&l, SL_WARN, 2, tr("K knee %s %s"), size, loss);
        }
    part_add(&l, SL_STRONG, 3, "%s", tr("o measured"));
    if (keys)
        part_add(&l, SL_DIM, 4, "Enter takes a row  q back to the rules")->right = true;
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_TEXT, " ");
    pen_parts(&p, SL_TEXT, &l, 0);
}

static void draw_nothing(Ui *ui, Rect r, const char *why)
{
    int y = r.y;
    char text[400];
    snprintf(text, sizeof text, "%s: %s", tr("no front yet"), why);
    draw_wrapped(ui, (Rect){r.y, r.x + 1, r.h, r.w - 2}, &y, SL_DIM, text);
}

bool whatif_plot(Ui *ui, Rect r, int64_t at)
{
    const FrontRow *rows;
    int64_t n;
    Reach reach;
    Scale s;
    Canvas c;
    Error err = {0};
    if (session_front_rows(ui_session(ui), &rows, &n, &err) != ST_OK || session_reach(ui_session(ui), &reach, &err) != ST_OK) {
        draw_nothing(ui, r, err.text);
        return false;
    }
    if (!scale_make(rows, n, &reach, &s)) {
        draw_nothing(ui, r, tr("no group can get another level"));
        return false;
    }
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_HEADER, " ");
    enum { LONG = 50 }; /* cells that the longer words need */
    pen_puts(&p, SL_HEADER, tr(!s.kl        ? "expected loss over size against the recipe's"
                               : r.w < LONG ? "KL over bytes added"
                                            : "KL, nats a token, over size against the recipe's"));
    if (canvas_new(&c, ui->term.glyphs.hist, r.w - AXIS, r.h - 3)) {
        draw_curve(&c, &s, rows, n);
        draw_marks(ui, &c, &s, rows, n, at);
        draw_canvas(ui, &c, &s, (Rect){r.y + 1, r.x, r.h - 3, r.w});
    }
    canvas_free(&c);
    draw_sizes(ui, &s, (Rect){r.y + r.h - 2, r.x, 1, r.w});
    draw_legend(ui, &s, rows, n, at >= 0, (Rect){r.y + r.h - 1, r.x, 1, r.w});
    return true;
}

/* ---- the table ---- */

enum { F_SIZE, F_DELTA, F_FLOAT, F_KL, F_RANGE, F_PPL, F_MEASURED, F_LAST, FCOLUMNS };
static const Column columns[FCOLUMNS] = {
    [F_SIZE] = {"size", 8, 8, 2, true},     [F_DELTA] = {"change", 7, 7, 0, true}, [F_FLOAT] = {"float", 5, 5, 3, true},
    [F_KL] = {"KL", 9, 9, 0, true},         [F_RANGE] = {"range", 19, 19, 4, false}, [F_PPL] = {"ppl", 8, 8, 5, true},
    [F_MEASURED] = {"measured", 9, 9, 1, true}, [F_LAST] = {"changed last", 14, 60, 6, false},
};

static void row_texts(Ui *ui, const FrontRow *r, int64_t opened, char text[FCOLUMNS][96])
{
    bool measured = isfinite(r->kl_measured);
    double ppl = measured ? r->ppl_measured : r->ppl.value;
    Str name = {0};
    memset(text, 0, FCOLUMNS * sizeof *text);
    fmt_bytes(text[F_SIZE], sizeof *text, (double)r->bytes);
    fmt_delta(text[F_DELTA], sizeof *text, (double)(r->bytes - opened));
    fmt_count(text[F_FLOAT], sizeof *text, r->floats);
    if (!measured && isfinite(r->kl.value)) {
        snprintf(text[F_KL], sizeof *text, "%.3g~", r->kl.value);
        text_format(text[F_RANGE], sizeof *text, "%.2g to %.2g", r->kl.low, r->kl.high);
    } else if (!measured && isfinite(r->sum)) {
        snprintf(text[F_KL], sizeof *text, "?");
    }
    if (isfinite(ppl))
        snprintf(text[F_PPL], sizeof *text, "%+.*f%%%s", fabs(ppl) < 0.1 ? 2 : 1, 100 * ppl, measured ? "" : "~");
    if (measured)
        snprintf(text[F_MEASURED], sizeof *text, "%.4g", r->kl_measured);
    if (r->group >= 0) {
        scope_unit_name(ui_model(ui), SCOPE_GROUP, r->group, &name);
        snprintf(text[F_LAST], sizeof *text, "%.70s %s%s", str_text(&name), session_level_name(ui_session(ui), r->to),
                 r->knee ? tr(" (knee)") : "");
    } else if (!measured) {
        snprintf(text[F_LAST], sizeof *text, "%s", tr("the fewest bytes"));
    }
    str_free(&name);
}

/* What tells a layer from others: "9.mlp.down_proj" of "model.layers.9.mlp.down_proj". */
static const char *short_name(const char *name)
{
    static const char prefix[] = "model.layers.";
    return strncmp(name, prefix, sizeof prefix - 1) == 0 ? name + sizeof prefix - 1 : name;
}

static void draw_table_row(Ui *ui, Rect r, int y, const int *w, const FrontRow *row, int64_t opened, bool here)
{
    char text[FCOLUMNS][96];
    row_texts(ui, row, opened, text);
    Pen p = pen_at(ui, y, r.x, r.w);
    p.reverse = here;
    pen_char(&p, SL_ROW, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, y, r.x);
    for (int c = 0; c < FCOLUMNS; c++) {
        Slot slot = c == F_KL || c == F_RANGE || (c == F_PPL && !text[F_MEASURED][0]) ? SL_PREDICTED : row->knee ? SL_WARN : SL_ROW;
        if (!w[c])
            continue;
        pen_puts(&p, SL_ROW, " ");
        if (c == F_LAST)
            pen_name(&p, slot, w[c], text_width(text[c]) > w[c] ? short_name(text[c]) : text[c]);
        else
            pen_cell(&p, slot, w[c], columns[c].right, text[c]);
    }
    pen_fill(&p, SL_ROW);
}

static void draw_table(Ui *ui, Whatif *st, Rect r, const FrontRow *rows, int64_t n, int64_t opened)
{
    int w[FCOLUMNS];
    st->points = r.h - 1;
    list_clamp(&st->point, n, st->points);
    columns_fit(columns, FCOLUMNS, r.w - 2, w);
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_HEADER, " ");
    for (int c = 0; c < FCOLUMNS; c++) {
        if (!w[c])
            continue;
        pen_puts(&p, SL_HEADER, " ");
        pen_cell(&p, SL_HEADER, w[c], columns[c].right, tr(columns[c].title));
    }
    pen_fill(&p, SL_HEADER);
    for (int y = 1; y < r.h && st->point.top + y - 1 < n; y++) {
        int64_t i = st->point.top + y - 1;
        draw_table_row(ui, r, r.y + y, w, &rows[i], opened, i == st->point.cur);
    }
}

/* ---- the page ---- */

static int64_t points(Ui *ui, const FrontRow **rows)
{
    int64_t n = 0;
    return session_front_rows(ui_session(ui), rows, &n, NULL) == ST_OK ? n : 0;
}

void whatif_front_draw(Ui *ui, Whatif *st, Rect r)
{
    const FrontRow *rows;
    Reach reach;
    int64_t n = points(ui, &rows);
    int plot = r.h * 3 / 5 > 20 ? 20 : r.h * 3 / 5;
    plot = plot < PLOT_ROWS ? PLOT_ROWS : plot;
    if (!whatif_plot(ui, (Rect){r.y, r.x, plot, r.w}, st->point.cur) || !n ||
        session_reach(ui_session(ui), &reach, NULL) != ST_OK)
        return;
    draw_hline(ui, r.y + plot, r.x, r.w);
    draw_table(ui, st, (Rect){r.y + plot + 1, r.x, r.h - plot - 1, r.w}, rows, n, reach.opened);
}

void whatif_front_open(Ui *ui, Whatif *st)
{
    const FrontRow *rows;
    int64_t n = points(ui, &rows), now = (int64_t)session_predict(ui_session(ui)).size.bytes;
    st->front = true;
    for (int64_t i = 0; i < n; i++)
        if (i == 0 || rows[i].bytes <= now)
            st->point.cur = i;
}

bool whatif_front_move(Ui *ui, Whatif *st, Motion m)
{
    const FrontRow *rows;
    return list_move(&st->point, m, points(ui, &rows), st->points);
}

unsigned whatif_front_take(Ui *ui, Whatif *st)
{
    const FrontRow *rows;
    int64_t n = points(ui, &rows);
    list_clamp(&st->point, n, st->points);
    if (!n)
        return ui_refuse(ui, "there is no front yet: analyze block_error first");
    const FrontRow *r = &rows[st->point.cur];
    if (r->measurement)
        ui_command(ui, "take %d", r->measurement);
    else
        ui_command(ui, "fit bytes=%lld", (long long)r->bytes);
    return DO_PAINT;
}
