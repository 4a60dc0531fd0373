#include "ui/choices.h"

#include <stdlib.h>
#include <string.h>

#include "src/lang.h"

void choices_drop(Choices *c)
{
    for (int i = 0; i < c->n; i++) {
        free(c->list[i].word);
        free(c->list[i].help);
    }
    free(c->list);
    *c = (Choices){.chosen = -1};
}

/* Bytes that all words share, up to the last '.' or '/' in them: what the line shows already. */
static size_t common_head(const Choices *c)
{
    const char *first = c->list[0].word;
    size_t same = strlen(first), head = 0;
    for (int i = 1; i < c->n; i++) {
        size_t k = 0;
        while (k < same && c->list[i].word[k] == first[k])
            k++;
        same = k;
    }
    for (size_t k = 0; k < same; k++)
        head = first[k] == '.' || first[k] == '/' ? k + 1 : head;
    return c->n > 1 ? head : 0;
}

/* Takes words and their helps over. */
static void take(App *a, const char *line, char **words, Choices *c)
{
    int n = 0;
    while (words && words[n])
        n++;
    c->list = n > 0 ? calloc((size_t)n, sizeof *c->list) : NULL;
    for (int i = 0; i < n; i++) {
        Str help = {0};
        if (!c->list) {
            free(words[i]);
            continue;
        }
        app_complete_help(a, line, words[i], &help);
        c->list[i].word = words[i];
        c->list[i].help = help.len ? str_detach(&help) : strdup("");
        str_free(&help); /* an empty one may hold memory */
        c->n = i + 1;
    }
    free(words);
    for (int i = 0; i < c->n; i++)
        if (!c->list[i].help) { /* out of memory: nothing is offered */
            choices_drop(c);
            return;
        }
}

void choices_fill(App *a, const char *line, Choices *c)
{
    bool tall = c->tall;
    choices_drop(c);
    c->tall = tall;
    take(a, line, app_complete(a, line), c);
    if (c->n == 0)
        take(a, "", app_search_commands(line), c);
    if (c->n > 0)
        c->head = common_head(c);
}

bool choices_choose(Choices *c, int by)
{
    int to = c->chosen + by;
    if (c->n == 0 || to >= c->n || to < -1 || (to == c->chosen))
        return false;
    c->chosen = to;
    if (to >= 0 && to < c->top)
        c->top = to;
    if (to >= c->top + c->page)
        c->top = to - c->page + 1;
    return true;
}

void choices_scroll(Choices *c, int pages)
{
    int last = c->n - c->page;
    c->top += pages * (c->page > 0 ? c->page : 1);
    c->top = c->top > last ? last : c->top;
    c->top = c->top < 0 ? 0 : c->top;
}

/* One choice a line with what it means, or several beside each other where there is nothing to tell. */
static void draw_choice(Ui *ui, const Choices *c, Rect r, int i, int wide)
{
    char line[512];
    Pen pen = pen_at(ui, r.y, r.x + 1, r.w - 1);
    pen.reverse = i == c->chosen;
    pen_name(&pen, SL_KEY, wide, c->list[i].word + c->head);
    text_cut(line, sizeof line, c->list[i].help, pen.end - pen.x - 2, ui->term.glyphs.ellipsis);
    pen_printf(&pen, SL_TEXT, " %s", line);
}

/* Cells of the longest word; *helps: whether one is explained. */
static int widest(const Choices *c, bool *helps)
{
    enum { WIDEST = 30 };
    int wide = 0;
    *helps = false;
    for (int i = 0; i < c->n; i++) {
        int w = text_width(c->list[i].word + c->head);
        wide = w > wide ? w : wide;
        *helps |= c->list[i].help[0] != '\0';
    }
    return *helps && wide > WIDEST ? WIDEST : wide;
}

/* Over the last lines of the body; what does not fit is counted. */
void choices_draw(Ui *ui, Choices *c)
{
    enum { GAP = 2 };
    bool helps;
    Rect f = ui->layout.figures;
    int body = f.y - ui->layout.tabs.y - 1, wide = widest(c, &helps);
    int across = helps || c->chosen >= 0 ? 1 : (f.w - 1) / (wide + GAP) > 0 ? (f.w - 1) / (wide + GAP) : 1;
    int lines = (c->n + across - 1) / across, room = body * (c->tall ? 2 : 1) / (c->tall ? 3 : 2);
    bool more = lines > room;
    int top = across == 1 ? c->top : 0, page = more ? room - 1 : lines, y = f.y - (more ? room : lines) - 1;
    int shown = page * across < c->n - top ? page * across : c->n - top;
    c->page = page;
    draw_hline(ui, y, f.x, f.w);
    draw_clear(ui, (Rect){y + 1, f.x, f.y - y - 1, f.w});
    for (int i = 0; i < shown; i++) {
        Rect r = {y + 1 + i / across, f.x + i % across * (wide + GAP), 1, helps ? f.w : wide + 1};
        draw_choice(ui, c, r, top + i, wide < f.w - 1 ? wide : f.w - 1);
    }
    if (!more)
        return;
    LineParts l = {.n = 0};
    part_add(&l, SL_DIM, 0, "%d-%d of %d", top + 1, top + shown, c->n);
    if (across == 1) {
        part_add(&l, SL_DIM, 1, "PgDn scrolls");
        part_add(&l, SL_DIM, 2, "Down chooses");
    }
    part_add(&l, SL_DIM, 3, "another letter leaves fewer");
    Pen last = pen_at(ui, f.y - 1, f.x + 1, f.w - 1);
    pen_parts(&last, SL_DIM, &l, 0);
}
