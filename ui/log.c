/* The log: its last lines as a pane, all of it as a page over the body that follows the end. */
#include "ui/log.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "src/lang.h"
#include "ui/actions.h"
#include "ui/input.h"

enum { MARGIN = 15 }; /* cells before a line's text: the clock and its mark */

/* A line of the log in the language of the screen; good until the next one. */
static LogLine line_at(const Session *s, int i)
{
    static char text[2 * ERROR_TEXT_MAX];
    LogLine l = session_log_line(s, i);
    l.text = tr_line(l.text, text, sizeof text);
    return l;
}

static int level_of(const LogLine *l)
{
    return l->level < 0 || l->level > 2 ? 0 : l->level;
}

static void clock_text(int64_t when, char out[16])
{
    time_t t = (time_t)when;
    struct tm day;
    if (!localtime_r(&t, &day) || strftime(out, 16, "%H:%M:%S", &day) == 0)
        out[0] = '\0';
}

/* Clock and mark of a line; the pen stands at its text then. */
static Pen pen_of_line(Ui *ui, Rect r, int y, const LogLine *l, bool here)
{
    static const char *const marks[] = {"    ", "warn", "FAIL"};
    static const Slot slots[] = {SL_TEXT, SL_WARN, SL_FAILED};
    char clock[16];
    clock_text(l->when, clock);
    Pen p = pen_at(ui, r.y + y, r.x, r.w);
    pen_char(&p, SL_TEXT, here ? ui->term.glyphs.mark : L' ');
    pen_puts(&p, SL_DIM, clock);
    pen_printf(&p, slots[level_of(l)], " %s ", marks[level_of(l)]);
    return p;
}

void log_draw(Ui *ui, Rect r)
{
    Session *s = ui_session(ui);
    int n = session_log_lines(s), from = n - r.h;
    from = from < session_log_first(s) ? session_log_first(s) : from;
    for (int y = 0; y < r.h && from + y < n; y++) {
        LogLine l = line_at(s, from + y);
        char line[ERROR_TEXT_MAX + 8];
        Pen p = pen_of_line(ui, r, y, &l, false);
        text_cut(line, sizeof line, l.text, p.end - p.x, ui->term.glyphs.ellipsis);
        pen_puts(&p, l.kind == LOG_COMMAND && l.level == 0 ? SL_STRONG : SL_TEXT, line);
    }
}

void log_text(Session *s, Str *out)
{
    static const char *const marks[] = {"", "warning: ", "error: "};
    for (int i = session_log_first(s); i < session_log_lines(s); i++) {
        LogLine l = line_at(s, i);
        char clock[16];
        clock_text(l.when, clock);
        str_printf(out, "%s  %s%s\n", clock, marks[level_of(&l)], l.text);
    }
}

/* ---- the page ---- */

static const struct Filter {
    const char *name;
    unsigned kinds; /* bits of LogKind */
    int least;      /* level */
} filters[] = {
    {N_("all"), ~0u, 0},
    {N_("commands"), 1u << LOG_COMMAND, 0},
    {N_("jobs"), 1u << LOG_JOB, 0},
    {N_("warnings and errors"), ~0u, 1},
    {N_("errors"), ~0u, 2},
    {N_("standard error"), 1u << LOG_STDERR, 0},
};
enum { FILTERS = sizeof filters / sizeof filters[0] };

/* A row of the page: a piece of a line of the log. */
typedef struct Piece {
    int line;
    int at, n; /* bytes of its text */
} Piece;

typedef struct LogPage {
    int job, filter;
    Piece *piece;
    size_t n, cap;
    int made_lines, made_first, made_width, made_filter; /* what the pieces were made of */
    const char *made_lang;
    ListPos pos;
    bool end;          /* follows it */
} LogPage;

static bool passes(const LogPage *g, const LogLine *l)
{
    const struct Filter *f = &filters[g->filter];
    return (f->kinds >> l->kind & 1) && l->level >= f->least && (!g->job || l->job == g->job);
}

/* Makes the pieces where the log, the width or the filter is another one. */
static void make_pieces(Ui *ui, LogPage *g, int width)
{
    Session *s = ui_session(ui);
    int first = session_log_first(s), end = session_log_lines(s);
    bool same = g->made_width == width && g->made_filter == g->filter && g->made_first == first &&
                g->made_lang && strcmp(g->made_lang, lang_name()) == 0;
    if (same && g->made_lines == end)
        return;
    int from = same ? g->made_lines : first, held = g->pos.cur < (int64_t)g->n && g->n ? g->piece[g->pos.cur].line : -1;
    g->n = same ? g->n : 0;
    for (int i = from; i < end; i++) {
        LogLine l = line_at(s, i);
        int at = 0;
        while (passes(g, &l) && mem_grow(&g->piece, &g->cap, g->n + 1, sizeof *g->piece)) {
            int k = (int)text_break(l.text + at, width > 4 ? width : 4);
            g->piece[g->n++] = (Piece){i, at, k};
            at += k;
            at += (int)strspn(l.text + at, " ");
            if (!l.text[at])
                break;
        }
    }
    g->made_lines = end;
    g->made_first = first;
    g->made_width = width;
    g->made_filter = g->filter;
    g->made_lang = lang_name();
    for (size_t i = 0; !same && held >= 0 && i < g->n; i++)
        if (g->piece[i].line <= held)
            g->pos.cur = (int64_t)i;
    if (g->end)
        g->pos.cur = (int64_t)g->n - 1;
}

static int page_rows(const Ui *ui)
{
    int h = ui->layout.figures.y - ui->layout.tabs.y - 2;
    return h > 1 ? h : 1;
}

static void draw_head(Ui *ui, Rect r, const LogPage *g)
{
    LineParts l = {.n = 0};
    if (g->job)
        part_add(&l, SL_HEADER, 1, "log of #%d", g->job);
    else
        part_add(&l, SL_HEADER, 1, "%s", tr("log"));
    part_add(&l, SL_HEADER, 0, "%s: %s", tr("shown"), tr(filters[g->filter].name));
    part_add(&l, SL_HEADER, 2, "%s", tr("Tab shows others"));
    part_add(&l, SL_HEADER, 4, "%s", tr("/ finds"));
    part_add(&l, SL_HEADER, 5, "%s", tr("y copies"));
    part_add(&l, SL_HEADER, 3, "%s", tr("q closes"));
    if (session_log_file(ui_session(ui)))
        part_add(&l, SL_HEADER, 6, "%s", session_log_file(ui_session(ui)))->least = 20;
    part_add(&l, SL_HEADER, 2, "%lld/%zu", (long long)(g->n ? g->pos.cur + 1 : 0), g->n)->right = true;
    Pen head = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&head, SL_HEADER, " ");
    pen_parts(&head, SL_HEADER, &l, 1);
    pen_fill(&head, SL_HEADER);
}

/* The piece of a line, where it was searched for marked. */
static void put_piece(Ui *ui, Pen *p, const LogLine *l, const Piece *at)
{
    char text[ERROR_TEXT_MAX];
    snprintf(text, sizeof text, "%.*s", at->n, l->text + at->at);
    Slot slot = l->kind == LOG_COMMAND && l->level == 0 ? SL_STRONG : SL_TEXT;
    char *hit = ui->marked[0] ? strcasestr(text, ui->marked) : NULL;
    if (!hit) {
        pen_puts(p, slot, text);
        return;
    }
    char was = *hit, *behind = hit + strlen(ui->marked), then;
    *hit = '\0';
    pen_puts(p, slot, text);
    *hit = was;
    then = *behind;
    *behind = '\0';
    pen_puts(p, SL_MATCH, hit);
    *behind = then;
    pen_puts(p, slot, behind);
}

static void draw(Ui *ui, Rect r)
{
    LogPage *g = ui->overlay_state;
    Session *s = ui_session(ui);
    if (!s)
        return;
    make_pieces(ui, g, r.w - MARGIN - 1);
    list_clamp(&g->pos, (int64_t)g->n, page_rows(ui));
    draw_head(ui, r, g);
    Rect body = {r.y + 1, r.x, r.h - 1, r.w};
    for (int y = 0; y < body.h && g->pos.top + y < (int64_t)g->n; y++) {
        const Piece *at = &g->piece[g->pos.top + y];
        bool here = g->pos.top + y == g->pos.cur;
        LogLine l = line_at(s, at->line);
        if (at->at == 0) {
            Pen p = pen_of_line(ui, body, y, &l, here);
            put_piece(ui, &p, &l, at);
        } else {
            Pen p = pen_at(ui, body.y + y, body.x, body.w);
            pen_char(&p, SL_TEXT, here ? ui->term.glyphs.mark : L' ');
            pen_to(&p, SL_TEXT, body.x + MARGIN);
            put_piece(ui, &p, &l, at);
        }
        if (here)
            ui_rest_cursor(ui, body.y + y, body.x);
    }
    if (g->n == 0) {
        Pen p = pen_at(ui, body.y, body.x + 1, body.w - 1);
        pen_puts(&p, SL_DIM, tr("no line of this kind; Tab shows others"));
    }
}

/* Between two paintings the log may have dropped lines that pieces are of. */
static void renew(Ui *ui, LogPage *g)
{
    if (g->made_width > 0)
        make_pieces(ui, g, g->made_width);
    list_clamp(&g->pos, (int64_t)g->n, page_rows(ui));
}

/* Matches are whole lines of the log, not their pieces. */
static Found find(Ui *ui, const char *text, int direction, bool from_here)
{
    LogPage *g = ui->overlay_state;
    Session *s = ui_session(ui);
    renew(ui, g);
    Found found = {0, 0};
    int64_t n = (int64_t)g->n, best = -1, best_away = 0;
    int here = g->n ? g->piece[g->pos.cur].line : 0;
    for (int64_t i = 0; i < n; i++) {
        if (g->piece[i].at > 0 || !strcasestr(line_at(s, g->piece[i].line).text, text))
            continue;
        found.of++;
        int64_t span = session_log_lines(s), away = ((direction * (g->piece[i].line - here)) % span + span) % span;
        away = away == 0 && !from_here ? span : away;
        if (best < 0 || away < best_away) {
            best = i;
            best_away = away;
            found.at = found.of;
        }
    }
    if (best >= 0) {
        g->pos.cur = best;
        g->end = false;
    }
    snprintf(ui->marked, sizeof ui->marked, "%s", text);
    return found;
}

static unsigned copy_line(Ui *ui, LogPage *g)
{
    renew(ui, g);
    if (g->n == 0)
        return ui_refuse(ui, "there is nothing to copy here");
    const char *text = line_at(ui_session(ui), g->piece[g->pos.cur].line).text;
    if (term_copy(&ui->term, text, strlen(text)))
        ui_say(ui, SL_OK, "copied (if the terminal allows OSC 52): %.*s%s", (int)strlen(text), text, "");
    else
        ui_say(ui, SL_ERR, "not copied: %s", tr("the terminal takes no bytes"));
    return DO_PAINT;
}

static unsigned close_page(Ui *ui)
{
    ui->marked[0] = '\0';
    ui_close_overlay(ui);
    return DO_RELAYOUT;
}

static unsigned key(Ui *ui, int k)
{
    LogPage *g = ui->overlay_state;
    if (k == 'q' || k == KEY_ESC || k == '\n' || k == '@' || k == KEY_CODE(KEY_ENTER) || k == KEY_CTRL('C'))
        return close_page(ui);
    if (k == '/' || k == KEY_CODE(KEY_F(3)))
        return input_open(ui, INPUT_SEARCH, NULL);
    if (k == ':')
        return input_open(ui, INPUT_COMMAND, NULL);
    if ((k == 'n' || k == 'N') && ui->search[0])
        return ui_found(ui, find(ui, ui->search, k == 'n' ? 1 : -1, false), ui->search);
    if (k == 'y')
        return copy_line(ui, g);
    if (k == '\t' || k == KEY_CODE(KEY_BTAB)) {
        g->filter = (g->filter + (k == '\t' ? 1 : FILTERS - 1)) % FILTERS;
        return DO_PAINT;
    }
    const KeyRow *row = key_find(k, view_find("export"));
    if (!row || row->run != act_move)
        return ui_refuse(ui, "q closes this page");
    bool moved = list_move(&g->pos, (Motion)row->arg, (int64_t)g->n, page_rows(ui));
    g->end = g->pos.cur + 1 >= (int64_t)g->n;
    return moved ? DO_PAINT : act_end(ui, (Motion)row->arg);
}

static void fini(Ui *ui)
{
    LogPage *g = ui->overlay_state;
    free(g->piece);
    free(g);
}

static const Overlay page = {draw, key, fini, find};

void log_open(Ui *ui, int job)
{
    LogPage *g = calloc(1, sizeof *g);
    if (!g) {
        ui_say(ui, SL_ERR, "out of memory");
        return;
    }
    *g = (LogPage){.job = job, .made_width = -1, .end = true};
    ui_open_overlay(ui, &page, g);
}

unsigned act_log(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    if (!ui_session(ui) || session_log_lines(ui_session(ui)) == 0)
        return ui_refuse(ui, "the log is empty");
    log_open(ui, 0);
    return DO_RELAYOUT;
}
