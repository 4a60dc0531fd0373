/* Screen 7: what the model is made of: its facts, and every tensor in a tree that unfolds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/facts.h"
#include "session/modeltree.h"
#include "src/lang.h"
#include "src/output.h"
#include "ui/actions.h"
#include "ui/detail.h"
#include "ui/input.h"
#include "ui/model.h"

enum { PLAN_ROWS = 16384, PLAN_LONGEST = 2048 };
enum { C_NAME, C_SHAPE, C_TYPE, C_BYTES, C_LEVEL, COLUMNS };

typedef struct ModelView {
    char model[65];      /* fingerprint of the model that all of this is of */
    ModelTree tree;
    bool *open;          /* [tree.n] */
    int32_t *row;        /* [nrows] nodes that are seen */
    int32_t nrows;
    char filter[200];    /* the session's, that the rows are of; "": none */
    bool *shown;         /* [tree.n] what passes it, and what that is in */
    int64_t hits;
    Str facts;
    char error[200];
    ListPos pos;
    int page, w[COLUMNS];
    Scroll detail;
} ModelView;

static const Column columns[COLUMNS] = {
    [C_NAME] = {"tensor", 24, 70, 0, false},  [C_SHAPE] = {"shape", 14, 18, 2, true},  [C_TYPE] = {"type", 5, 8, 3, false},
    [C_BYTES] = {"size", 9, 9, 1, true},      [C_LEVEL] = {"level", 15, 22, 0, false},
};

static void forget(ModelView *v)
{
    model_tree_free(&v->tree);
    free(v->open);
    free(v->row);
    free(v->shown);
    str_free(&v->facts);
    v->open = v->shown = NULL;
    v->row = NULL;
    v->nrows = 0;
    v->model[0] = v->error[0] = v->filter[0] = 0;
}

static void fini(void *state)
{
    forget(state);
}

/* The nodes that are seen: those whose parents are all open; under a filter what passes it, with all that it is in. */
static void list_rows(ModelView *v)
{
    v->nrows = 0;
    for (int32_t i = 0; i < v->tree.n;) {
        bool seen = !v->filter[0] || v->shown[i], open = v->filter[0] || v->open[i];
        if (seen)
            v->row[v->nrows++] = i;
        i = (seen && open) || v->tree.node[i].tensor ? i + 1 : v->tree.node[i].end;
    }
}

/* The cursor stays on its node where that is seen still. */
static Status filter_rows(Ui *ui, ModelView *v, const char *text, Error *err)
{
    int32_t at = v->nrows ? v->row[v->pos.cur] : -1;
    RETURN_IF_ERROR(model_tree_filter(ui_session(ui), &v->tree, text, v->shown, &v->hits, err));
    snprintf(v->filter, sizeof v->filter, "%s", text);
    list_rows(v);
    v->pos.cur = 0;
    for (int32_t k = 0; k < v->nrows; k++)
        if (v->row[k] == at || (v->row[v->pos.cur] < at && v->row[k] <= at))
            v->pos.cur = k;
    return ST_OK;
}

static void gather(Ui *ui, ModelView *v)
{
    Session *s = ui_session(ui);
    Error err = {ST_OK, ""};
    ModelFacts f;
    forget(v);
    v->pos = (ListPos){0, 0};
    snprintf(v->model, sizeof v->model, "%s", session_model(s)->fingerprint);
    int threads = session_options(s)->threads;
    Status st = model_tree_make(s, &v->tree, &err);
    if (st == ST_OK)
        st = model_facts(&f, session_model(s), PLAN_ROWS, PLAN_LONGEST, threads > 0 ? threads : 1, &err);
    if (st == ST_OK)
        output_model(&f, false, &v->facts);
    const Recipe *r = session_recipe(s);
    for (int i = 0; st == ST_OK && r && i < recipe_notes(r); i++)
        str_printf(&v->facts, "recipe        line %d: %s\n", recipe_note(r, i)->line, recipe_note(r, i)->text);
    v->open = mem_zarray((size_t)v->tree.n + 1, sizeof *v->open);
    v->shown = mem_zarray((size_t)v->tree.n + 1, sizeof *v->shown);
    v->row = mem_array((size_t)v->tree.n + 1, sizeof *v->row);
    if (st == ST_OK && (!v->open || !v->shown || !v->row || v->facts.oom))
        st = error_nomem(&err, "the tree of tensors");
    if (st == ST_OK)
        list_rows(v);
    else
        snprintf(v->error, sizeof v->error, "%.199s", err.text);
}

/* All of it is made once for a model. */
static bool settle(Ui *ui, ModelView *v)
{
    if (!ui_model(ui))
        return false;
    if (strcmp(v->model, ui_model(ui)->fingerprint) != 0)
        gather(ui, v);
    if (!v->error[0] && strcmp(v->filter, session_tensor_filter_text(ui_session(ui))) != 0)
        filter_rows(ui, v, session_tensor_filter_text(ui_session(ui)), NULL);
    list_clamp(&v->pos, v->nrows, v->page);
    return v->nrows > 0;
}

Status model_filter(Ui *ui, const char *text, int64_t *hits, int64_t *of, Error *err)
{
    ModelView *v = ui_state(ui, &view_model);
    *hits = *of = 0;
    RETURN_IF_ERROR(session_tensor_filter(ui_session(ui), text, err));
    settle(ui, v);
    *hits = v->hits;
    *of = checkpoint_count(ui_model(ui)->ckpt);
    return ST_OK;
}

static bool move_rows(Ui *ui, void *state, Motion m)
{
    ModelView *v = state;
    if (ui->side_full)
        return detail_move(&v->detail, m);
    return settle(ui, v) && list_move(&v->pos, m, v->nrows, v->page);
}

/* ---- drawing ---- */

static void shape_text(const TensorInfo *t, char *out, size_t size)
{
    int n = 0;
    out[0] = 0;
    for (int i = 0; i < t->ndim && n < (int)size; i++)
        n += snprintf(out + n, size - (size_t)n, "%s%lld", i ? "x" : "", (long long)t->shape[i]);
}

/* What the decision makes of it. */
static void level_text(Ui *ui, const ModelView *v, int32_t i, char *out, size_t size)
{
    Session *s = ui_session(ui);
    const TreeNode *x = &v->tree.node[i];
    TreeLevels l = model_tree_levels(s, &v->tree, i);
    out[0] = 0;
    if (x->tensor && x->linear >= 0)
        snprintf(out, size, "%s", session_level_name(s, session_level_of(s, x->linear)));
    else if (x->tensor)
        text_format(out, size, "copied");
    else if (!l.linears)
        text_format(out, size, "copied");
    else if (l.floats == l.linears)
        text_format(out, size, "float");
    else if (!l.floats)
        snprintf(out, size, "%s", l.level >= 0 ? session_level_name(s, l.level) : tr("mixed"));
    else
        text_format(out, size, "%s, %lld float", l.level >= 0 ? session_level_name(s, l.level) : tr("mixed"), (long long)l.floats);
}

static void draw_row(Ui *ui, const ModelView *v, Rect r, int y, int32_t i, bool here)
{
    const TreeNode *x = &v->tree.node[i];
    char name[300], cell[COLUMNS][48] = {{0}};
    snprintf(name, sizeof name, "%*s%s %s", 2 * x->depth, "", x->tensor ? " " : v->open[i] || v->filter[0] ? "-" : "+", x->name);
    if (x->tensor)
        shape_text(x->tensor, cell[C_SHAPE], sizeof cell[0]);
    else
        text_format(cell[C_SHAPE], sizeof cell[0], x->tensors == 1 ? "%lld tensor" : "%lld tensors", (long long)x->tensors);
    snprintf(cell[C_TYPE], sizeof cell[0], "%s", x->dtype == DT_COUNT ? tr("several") : dtype_name(x->dtype));
    fmt_bytes(cell[C_BYTES], sizeof cell[0], (double)x->bytes);
    level_text(ui, v, i, cell[C_LEVEL], sizeof cell[0]);
    Slot slot = x->tensor && x->linear < 0 ? SL_DIM : x->linear >= 0 && !session_level_of(ui_session(ui), x->linear) ? SL_EXCLUDED : SL_ROW;
    Pen p = pen_at(ui, y, r.x, r.w);
    p.reverse = here;
    pen_char(&p, slot, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, y, r.x);
    for (int c = 0; c < COLUMNS; c++) {
        if (!v->w[c])
            continue;
        pen_puts(&p, slot, " ");
        if (c == C_NAME)
            pen_name(&p, slot, v->w[c], name);
        else
            pen_cell(&p, slot, v->w[c], columns[c].right, cell[c]);
    }
    pen_fill(&p, slot);
}

/* Of the row of the cursor: where it lies, and why it is not quantized. */
static void draw_about(Ui *ui, const ModelView *v, Rect r)
{
    const TreeNode *x = v->nrows ? &v->tree.node[v->row[v->pos.cur]] : NULL;
    char text[400], at[24];
    const char *arg, *why = "";
    int y = r.y;
    if (!x)
        return;
    if (x->tensor) {
        const char *path = checkpoint_file_path(ui_model(ui)->ckpt, x->tensor->file), *base = strrchr(path, '/');
        fmt_count(at, sizeof at, (int64_t)x->tensor->offset);
        text_format(text, sizeof text, "in %s, from byte %s on", base ? base + 1 : path, at);
        why = model_tree_why(ui_session(ui), &v->tree, v->row[v->pos.cur], &arg);
    } else {
        text_format(text, sizeof text, x->linears == 1 ? "%lld tensors, %lld linear" : "%lld tensors, %lld linears", (long long)x->tensors,
                    (long long)x->linears);
    }
    draw_wrapped(ui, (Rect){r.y, r.x + 2, 1, r.w - 3}, &y, SL_DIM, text);
    y = r.y + 1;
    if (!*why)
        return;
    char cut[400];
    text_format(text, sizeof text, why, arg);
    text_cut(cut, sizeof cut, text, r.w - 3, ui->term.glyphs.ellipsis);
    draw_wrapped(ui, (Rect){r.y, r.x + 2, 2, r.w - 3}, &y, SL_TEXT, cut);
}

static int facts_content(Ui *ui, Rect r, int64_t what, int spare)
{
    (void)what, (void)spare;
    const ModelView *v = ui_state(ui, &view_model);
    int y = r.y;
    for (const char *s = str_text(&v->facts); *s;) {
        size_t n = strcspn(s, "\n");
        char line[1200];
        size_t key = strcspn(s, " \n"), text = key + strspn(s + key, " ");
        bool pair = text > key + 1 && text < n; /* words that stand in columns */
        if (pair)
            snprintf(line, sizeof line, "%.*s: %.*s", (int)key, s, (int)(n - text), s + text);
        else
            snprintf(line, sizeof line, "%.*s", (int)n, s);
        draw_wrapped(ui, r, &y, pair ? SL_TEXT : SL_STRONG, line);
        s += n + (s[n] == '\n');
    }
    return y;
}

static void draw(Ui *ui, void *state)
{
    ModelView *v = state;
    Rect r = ui->layout.main;
    bool any = settle(ui, v);
    if (!ui_model(ui))
        return;
    if (!any && v->error[0] && r.h > 0) {
        int y = r.y + 1;
        draw_wrapped(ui, (Rect){r.y, r.x + 2, r.h, r.w - 4}, &y, SL_ERR, v->error);
        return;
    }
    if (r.h > 0) {
        enum { ABOUT = 2, LEAST = 8 };
        int about = r.h >= LEAST ? ABOUT : 0;
        r.h -= about;
        v->page = r.h - 1;
        settle(ui, v);
        if (about)
            draw_about(ui, v, (Rect){r.y + r.h, r.x, about, r.w});
        columns_fit(columns, COLUMNS, r.w - 2, v->w);
        Pen head = pen_at(ui, r.y, r.x, r.w);
        pen_puts(&head, SL_HEADER, " ");
        for (int c = 0; c < COLUMNS; c++) {
            if (!v->w[c])
                continue;
            pen_puts(&head, SL_HEADER, " ");
            pen_cell(&head, SL_HEADER, v->w[c], columns[c].right, tr(columns[c].title));
        }
        pen_fill(&head, SL_HEADER);
        int y0 = r.y + 2;
        if (!v->nrows)
            draw_wrapped(ui, (Rect){r.y, r.x + 2, r.h, r.w - 2}, &y0, SL_TEXT, "No tensor passes the filter. Esc takes it away.");
        for (int y = 1; y < r.h && v->pos.top + y - 1 < v->nrows; y++)
            draw_row(ui, v, r, r.y + y, v->row[v->pos.top + y - 1], v->pos.top + y - 1 == v->pos.cur);
    }
    if (ui->layout.side.h > 0)
        detail_scrolled(ui, ui->layout.side, facts_content, 0, &v->detail, tr(ui->side_full ? "j k scroll" : "J K scroll"));
}

static void context(Ui *ui, void *state, LineParts *out)
{
    ModelView *v = state;
    char n[24];
    settle(ui, v);
    if (!ui_model(ui) || v->error[0])
        return;
    fmt_count(n, sizeof n, checkpoint_count(ui_model(ui)->ckpt));
    if (v->filter[0]) {
        part_add(out, SL_TEXT, 2, "filter %s", v->filter)->least = 16;
        part_add(out, SL_TEXT, 0, "%lld of %s tensors", (long long)v->hits, n);
        return;
    }
    part_add(out, SL_TEXT, 1, "%s tensors", n);
    part_add(out, SL_TEXT, 0, "%lld linears", (long long)ui_model(ui)->nlinears);
}

static void full_name(const ModelTree *t, int32_t i, Str *out)
{
    if (t->node[i].parent >= 0) {
        full_name(t, t->node[i].parent, out);
        str_putc(out, '.');
    }
    str_puts(out, t->node[i].name);
}

static void copy(Ui *ui, void *state, bool all, Str *out)
{
    ModelView *v = state;
    if (!settle(ui, v))
        return;
    if (all)
        str_puts(out, str_text(&v->facts));
    else
        full_name(&v->tree, v->row[v->pos.cur], out);
}

/* A match below closed nodes opens them. */
static Found find(Ui *ui, void *state, const char *text, int direction, bool from_here)
{
    ModelView *v = state;
    Found found = {0, 0};
    int64_t best = -1, n, at;
    int32_t hit = -1;
    if (!settle(ui, v))
        return found;
    n = v->tree.n;
    at = v->row[v->pos.cur];
    for (int32_t i = 0; i < v->tree.n; i++) {
        Str name = {0};
        if (v->tree.node[i].tensor)
            full_name(&v->tree, i, &name);
        bool is = v->tree.node[i].tensor && strcasestr(str_text(&name), text);
        str_free(&name);
        if (!is)
            continue;
        found.of++;
        int64_t away = ((direction * (i - at)) % n + n) % n;
        away = away == 0 && !from_here ? n : away;
        if (best < 0 || away < best) {
            best = away;
            hit = i;
            found.at = found.of;
        }
    }
    for (int32_t p = hit; p >= 0; p = v->tree.node[p].parent)
        if (p != hit)
            v->open[p] = true;
    list_rows(v);
    for (int32_t k = 0; hit >= 0 && k < v->nrows; k++)
        if (v->row[k] == hit)
            v->pos.cur = k;
    list_clamp(&v->pos, v->nrows, v->page);
    return found;
}

/* ---- keys ---- */

static unsigned set_open(Ui *ui, ModelView *v, bool open)
{
    if (v->filter[0])
        return ui_refuse(ui, "the filter opens what holds its tensors; Esc takes it away");
    int32_t i = v->row[v->pos.cur];
    if (v->tree.node[i].tensor || (!open && !v->open[i])) { /* closing leads to the parent */
        i = v->tree.node[i].parent;
        if (open || i < 0)
            return ui_refuse(ui, open ? "a tensor has nothing below it" : "nothing is open here");
    }
    if (v->open[i] == open)
        return ui_refuse(ui, "this is open already");
    v->open[i] = open;
    list_rows(v);
    for (int32_t k = 0; k < v->nrows; k++)
        if (v->row[k] == i)
            v->pos.cur = k;
    return DO_PAINT;
}

static unsigned model_open_node(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    ModelView *v = ui_state(ui, &view_model);
    if (ui->side_full)
        return ui_refuse(ui, "the facts fill the screen; Tab shows the tensors");
    return settle(ui, v) ? set_open(ui, v, row->arg) : DO_PAINT;
}

/* Of a linear's tensor: to it on Rank; else opens or closes. */
static unsigned model_enter(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ModelView *v = ui_state(ui, &view_model);
    if (ui->side_full)
        return ui_refuse(ui, "the facts fill the screen; Tab shows the tensors");
    if (!settle(ui, v))
        return DO_PAINT;
    int32_t i = v->row[v->pos.cur];
    const TreeNode *x = &v->tree.node[i];
    if (!x->tensor)
        return set_open(ui, v, !v->open[i]);
    if (x->linear < 0)
        return ui_refuse(ui, "this tensor is of no linear that can be quantized: it is copied as it is");
    session_set_cursor(ui_session(ui), x->linear);
    return ui_goto(ui, &view_rank) | DO_RELAYOUT;
}

static unsigned model_ask_filter(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return input_open(ui, INPUT_TENSORS, session_tensor_filter_text(ui_session(ui)));
}

static unsigned model_check(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ui_command(ui, "check");
    return DO_RELAYOUT;
}

/* Esc takes the filter away; else as everywhere. */
static unsigned model_back(Ui *ui, const KeyRow *row, int key)
{
    if (key != KEY_ESC || ui->side_full || ui->marked[0] || !ui_model(ui) || !session_tensor_filter_text(ui_session(ui))[0])
        return act_back(ui, row, key);
    ui_command(ui, "tensors filter");
    return DO_PAINT;
}

static unsigned model_scroll(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    ModelView *v = ui_state(ui, &view_model);
    if (ui->layout.side.h == 0)
        return ui_refuse(ui, "the facts are not shown; Tab shows them");
    return detail_move(&v->detail, (Motion)row->arg) ? DO_PAINT : act_end(ui, (Motion)row->arg);
}

static const KeyRow keys[] = {
    {.place = 62, .keys = {'\n', 'o', K(KEY_ENTER)}, .help = "unfold, or fold; on a linear's tensor: to the linear on Rank",
     .label = "Open", .run = model_enter, .refuse = refuse_no_model},
    {.place = 64, .keys = {'\t'}, .help = "what the model is made of: architecture, sizes, memory, recipe", .label = "Facts",
     .run = act_detail, .refuse = refuse_no_model},
    {.place = 150, .keys = {K(KEY_F(3)), '/'}, .help = "find a tensor while you type", .label = "Find", .run = act_prompt,
     .arg = INPUT_SEARCH, .refuse = refuse_no_model},
    {.place = 160, .keys = {'n'}, .help = "next match", .run = act_find_next, .arg = 1, .refuse = refuse_no_search},
    {.place = 170, .keys = {'N'}, .help = "match before", .run = act_find_next, .arg = -1, .refuse = refuse_no_search},
    {.place = 68, .keys = {'c'}, .command = "check", .help = "check the present decision: what its export proves, and rules of engines it breaks",
     .label = "Check", .run = model_check, .refuse = refuse_no_model},
    {.place = 66, .keys = {K(KEY_F(4)), '\\'}, .command = "tensors filter WORDS", .help = "show only some tensors: words type=BF16 size>1M float quantized copied !word",
     .label = "Filter", .run = model_ask_filter, .refuse = refuse_no_model},
    {.place = 570, .keys = {'q', KEY_ESC}, .help = "out of this view; Esc takes the filter away", .run = model_back},
    {.place = 250, .keys = {'l', K(KEY_RIGHT)}, .help = "unfold", .run = model_open_node, .arg = 1, .refuse = refuse_no_model},
    {.place = 260, .keys = {'h', K(KEY_LEFT)}, .help = "fold, or to what holds it", .run = model_open_node, .arg = 0,
     .refuse = refuse_no_model},
    {.place = 312, .keys = {'J'}, .help = "facts: scroll down", .run = model_scroll, .arg = MOVE_DOWN, .refuse = refuse_no_model},
    {.place = 314, .keys = {'K'}, .help = "facts: scroll up", .run = model_scroll, .arg = MOVE_UP, .refuse = refuse_no_model},
    {.help = NULL},
};

const View view_model = {
    .key = '7', .keys = keys, .name = "model", .title = "Model", .state_size = sizeof(ModelView), .side = true,
    .draw = draw, .move = move_rows, .context = context, .copy = copy, .find = find, .fini = fini,
};
