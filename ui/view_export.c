/* Screen 5: the YAML as it would be written: differences or whole, with the checks that decide. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "src/lang.h"
#include "ui/actions.h"
#include "ui/detail.h"
#include "ui/input.h"

typedef struct Preview {
    bool have, whole;
    uint64_t version;        /* session_edit_version it was made for */
    const Effect *effect;    /* the comments quote it */
    Export e;
    Error err;
    ListPos pos;             /* cur = first line shown */
    int left, page;
    Scroll checks;
    const Recipe *recipe;
} Preview;

static void forget(Preview *p)
{
    if (p->have)
        export_fini(&p->e);
    p->have = false;
}

/* Makes the preview when the decision changed since. */
static void refresh_preview(Ui *ui, Preview *p)
{
    Session *s = ui_session(ui);
    const Effect *effect = session_effect(s, NULL);
    bool same = p->version == session_edit_version(s) && p->recipe == session_recipe(s) && p->effect == effect;
    if (same && (p->have || p->err.status != ST_OK))
        return;
    forget(p);
    p->version = session_edit_version(s);
    p->recipe = session_recipe(s);
    p->effect = effect;
    memset(&p->e, 0, sizeof p->e);
    memset(&p->err, 0, sizeof p->err);
    p->have = session_export_preview(s, NULL, NULL, &p->e, &p->err) == ST_OK;
}

static const char *shown_text(const Preview *p)
{
    const char *diff = str_text(&p->e.diff);
    return p->whole || !*diff ? str_text(&p->e.text) : diff;
}

static int64_t count_lines(const char *s)
{
    int64_t n = 0;
    for (; *s; n++) {
        s += strcspn(s, "\n");
        s += *s == '\n';
    }
    return n;
}

static Slot line_slot(const Preview *p, const char *s)
{
    bool diff = shown_text(p) == str_text(&p->e.diff);
    if (!diff)
        return *s == '#' ? SL_DIM : SL_TEXT;
    if (strncmp(s, "+++", 3) == 0 || strncmp(s, "---", 3) == 0)
        return SL_STRONG;
    return *s == '+' ? SL_ADDED : *s == '-' ? SL_REMOVED : *s == '@' ? SL_DIM : SL_TEXT;
}

/* Whether a line is cut at the right or begins left of the place. */
static bool is_wide(const Preview *p, int w)
{
    bool wide = p->left > 0;
    for (const char *s = shown_text(p), *end; *s && !wide; s = *end ? end + 1 : end) {
        end = s + strcspn(s, "\n");
        wide = text_break(s, w) < (size_t)(end - s);
    }
    return wide;
}

static void draw_text_head(Ui *ui, const Preview *p, Rect r, int64_t n)
{
    bool diff = shown_text(p) == str_text(&p->e.diff);
    LineParts l = {.n = 0};
    part_add(&l, SL_HEADER, 1, "%s", tr(diff ? "differences to the recipe" : "the document"));
    part_add(&l, SL_HEADER, 0, "lines %lld-%lld of %lld", (long long)(n ? p->pos.cur + 1 : 0),
             (long long)(p->pos.cur + p->page < n ? p->pos.cur + p->page : n), (long long)n);
    if (is_wide(p, r.w - 2))
        part_add(&l, SL_HEADER, 2, "h l sideways");
    Pen head = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&head, SL_HEADER, " ");
    pen_parts(&head, SL_HEADER, &l, 1);
    pen_fill(&head, SL_HEADER);
}

static void draw_text(Ui *ui, Preview *p, Rect r)
{
    const char *s = shown_text(p);
    int64_t n = count_lines(s), last = n - r.h + 1;
    p->page = r.h - 1;
    if (p->pos.cur > last)
        p->pos.cur = last > 0 ? last : 0;
    draw_text_head(ui, p, r, n);
    for (int64_t i = 0; *s; i++) {
        size_t len = strcspn(s, "\n");
        if (i >= p->pos.cur && i - p->pos.cur < p->page) {
            Pen pen = pen_at(ui, r.y + 1 + (int)(i - p->pos.cur), r.x + 1, r.w - 2);
            Str l = {0};
            str_append(&l, s, len);
            const char *from = str_text(&l);
            int w;
            for (int skip = p->left; skip > 0 && text_next(&from, &w);)
                skip -= w;
            char line[1024];
            text_clip(line, sizeof line, from, pen.end - pen.x, ui->term.glyphs.ellipsis);
            pen_puts(&pen, line_slot(p, str_text(&l)), line);
            str_free(&l);
        }
        s += len + (s[len] == '\n');
    }
    ui_rest_cursor(ui, r.y + 1, r.x);
}

static void draw_check(Ui *ui, Rect r, int *y, const ExportCheck *c)
{
    Pen pen = pen_at(ui, *y, r.x, r.w);
    pen_puts(&pen, c->ok ? SL_OK : c->blocking ? SL_ERR : SL_WARN, c->ok ? "[ok]" : c->blocking ? "[!!]" : "[..]");
    Rect text = {r.y, r.x + 5, r.h, r.w - 6};
    draw_wrapped(ui, text, y, SL_TEXT, c->text);
}

/* What blocks first, then what one should know, then what is well: a low screen shows the first lines. */
static int checks_content(Ui *ui, Rect r, int64_t what, int spare)
{
    (void)what, (void)spare;
    const Preview *p = ui_state(ui, &view_export);
    int y = r.y;
    for (int grade = 0; grade < 3; grade++) {
        for (int i = 0; i < p->e.nchecks; i++) {
            const ExportCheck *c = &p->e.checks[i];
            if ((c->ok ? 2 : c->blocking ? 0 : 1) == grade)
                draw_check(ui, r, &y, c);
        }
    }
    y++;
    draw_wrapped(ui, r, &y, SL_DIM, "w writes it to a file, W the quantized model. d: differences or all of it.");
    return y;
}

static void draw_checks(Ui *ui, Preview *p, Rect r)
{
    detail_scrolled(ui, r, checks_content, 0, &p->checks, tr("J K scroll"));
}

static void draw(Ui *ui, void *state)
{
    Preview *p = state;
    Rect r = ui->layout.main;
    if (!ui_model(ui))
        return;
    refresh_preview(ui, p);
    if (!p->have) {
        int y = r.y + 1;
        Rect text = {r.y, r.x + 2, r.h, r.w - 4};
        draw_wrapped(ui, text, &y, SL_ERR, p->err.text);
        return;
    }
    if (r.w >= 100) {
        int right = r.w * 42 / 100;
        draw_text(ui, p, (Rect){r.y, r.x, r.h, r.w - right - 1});
        draw_vline(ui, r.y, r.x + r.w - right - 1, r.h);
        draw_checks(ui, p, (Rect){r.y, r.x + r.w - right, r.h, right});
    } else {
        int below = p->e.nchecks + 3 < r.h / 2 ? p->e.nchecks + 3 : r.h / 2;
        draw_text(ui, p, (Rect){r.y, r.x, r.h - below - 1, r.w});
        draw_hline(ui, r.y + r.h - below - 1, r.x, r.w);
        draw_checks(ui, p, (Rect){r.y + r.h - below, r.x, below, r.w});
    }
}

static bool move_text(Ui *ui, void *state, Motion m)
{
    Preview *p = state;
    refresh_preview(ui, p);
    if (!p->have)
        return false;
    if (m == MOVE_LEFT && p->left == 0)
        return false;
    if (m == MOVE_LEFT || m == MOVE_RIGHT) {
        p->left += m == MOVE_LEFT ? -8 : 8;
        if (p->left < 0)
            p->left = 0;
        return true;
    }
    int64_t first = p->pos.cur, last = count_lines(shown_text(p)) - p->page;
    return list_move(&p->pos, m, last > 0 ? last + 1 : 1, p->page) && p->pos.cur != first;
}

static void context(Ui *ui, void *state, LineParts *out)
{
    Preview *p = state;
    Session *s = ui_session(ui);
    refresh_preview(ui, p);
    int blocked = 0;
    for (int i = 0; p->have && i < p->e.nchecks; i++)
        blocked += !p->e.checks[i].ok && p->e.checks[i].blocking;
    const char *path = session_recipe(s) ? recipe_path(session_recipe(s)) : NULL;
    const char *base = path ? strrchr(path, '/') : NULL;
    if (blocked)
        part_add(out, SL_ERR, 0, "BLOCKED");
    part_add(out, SL_TEXT, 1, "against %s", base ? base + 1 : path ? path : tr("the default"))->least = 16;
}

static void copy(Ui *ui, void *state, bool all, Str *out)
{
    Preview *p = state;
    (void)all;
    refresh_preview(ui, p);
    if (p->have)
        str_puts(out, str_text(&p->e.text));
}

static void fini(void *state)
{
    forget(state);
}

static unsigned export_write(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Preview *p = ui_state(ui, &view_export);
    refresh_preview(ui, p);
    if (!p->have)
        return ui_refuse(ui, "%s", p->err.text);
    if (session_is_read_only(ui_session(ui)))
        return ui_refuse(ui, "this session is read-only");
    return input_open(ui, INPUT_EXPORT, "");
}

static unsigned export_quantize(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    if (session_is_read_only(ui_session(ui)))
        return ui_refuse(ui, "this session is read-only");
    char folder[128] = "";
    const Model *m = ui_model(ui);
    const char *end = m->path + strlen(m->path), *base;
    while (end > m->path && end[-1] == '/')
        end--;
    for (base = end; base > m->path && base[-1] != '/';)
        base--;
    snprintf(folder, sizeof folder, "%.*s-%s", (int)(end - base > 60 ? 60 : end - base), base,
             session_recipe(ui_session(ui)) ? recipe_name(session_recipe(ui_session(ui))) : "quantized");
    return input_open(ui, INPUT_FOLDER, folder);
}

static unsigned export_flip(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Preview *p = ui_state(ui, &view_export);
    p->whole = !p->whole;
    p->pos = (ListPos){0, 0};
    if (!p->whole && p->have && p->e.diff.len == 0)
        return ui_refuse(ui, "there is no difference: the whole document is shown");
    return DO_PAINT;
}

static const char *refuse_all_seen(Ui *ui)
{
    const Preview *p = ui_state(ui, &view_export);
    return p->checks.lines > p->checks.page ? NULL : "all of the checks are in sight";
}

static unsigned export_scroll(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    Preview *p = ui_state(ui, &view_export);
    detail_move(&p->checks, (Motion)row->arg);
    return DO_PAINT;
}

static const KeyRow keys[] = {
    {.place = 360, .keys = {'w', '\n', K(KEY_ENTER)}, .command = "export FILE",
     .help = "write the YAML (asks for the file)", .label = "Write", .run = export_write,
     .refuse = refuse_no_model},
    {.place = 370, .keys = {'W'}, .command = "quantize --save DIR",
     .help = "write the quantized model (asks for the folder)", .label = "Weights", .run = export_quantize,
     .refuse = refuse_no_model},
    {.place = 380, .keys = {'d', '\t'}, .help = "the differences, or the whole document", .label = "Diff/all",
     .run = export_flip, .refuse = refuse_no_model},
    {.place = 382, .keys = {'J'}, .help = "scroll the checks down", .run = export_scroll, .arg = MOVE_DOWN,
     .refuse = refuse_all_seen},
    {.place = 384, .keys = {'K'}, .help = "scroll the checks up", .run = export_scroll, .arg = MOVE_UP,
     .refuse = refuse_all_seen},
    {.place = 530, .keys = {'h', K(KEY_LEFT)}, .help = "left", .run = act_move, .arg = MOVE_LEFT},
    {.place = 540, .keys = {'l', K(KEY_RIGHT)}, .help = "right", .run = act_move, .arg = MOVE_RIGHT},
    {.help = NULL},
};

const View view_export = {
    .key = '5', .keys = keys, .name = "export", .title = "Export", .state_size = sizeof(Preview),
    .draw = draw, .move = move_text, .context = context, .copy = copy, .fini = fini,
};
