/* What the kinds of input lines do while they are typed, and with Enter. */
#include "ui/input_kinds.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "session/calibset.h"
#include "src/lang.h"
#include "text/lexer.h"
#include "ui/actions.h"
#include "ui/model.h"

static void preview_pattern(Ui *ui, const char *text, Input *p)
{
    WhatIf w;
    Error err = {ST_OK, ""};
    char size[32], share[32];
    memset(&w, 0, sizeof w);
    p->note_slot = SL_ERR;
    if (!*text)
        return;
    const char *instead = p->kind == INPUT_RULE ? ui->rule : NULL;
    if (session_preview(ui_session(ui), text, instead, &w, &err) != ST_OK) {
        snprintf(p->note, MAX_NOTE, "%.*s", MAX_NOTE - 1, err.text);
        return;
    }
    fmt_delta(size, sizeof size, (double)w.fresh_bytes);
    fmt_percent(share, sizeof share, w.fresh_share);
    p->note_slot = w.hits == 0 ? SL_ERR : w.note[0] ? SL_WARN : SL_OK;
    int n = text_format(p->figures, MAX_NOTE, w.hits == 1 ? "%lld hit, %lld new, size %s" : "%lld hits, %lld new, size %s",
                        (long long)w.hits, (long long)w.fresh, size);
    if (w.fresh_share == w.fresh_share && n < MAX_NOTE)
        text_format(p->figures + n, (size_t)(MAX_NOTE - n), ", loss -%s", share);
    n = (int)strlen(p->figures);
    if (ask_over(ui, w.fresh_bytes, w.fresh_bits, p->figures + n, (size_t)(MAX_NOTE - n)) > 0)
        p->note_slot = SL_WARN;
    if (w.note[0])
        snprintf(p->note, MAX_NOTE, "! %s", w.note);
}

/* As a command that was typed, for Up and ^R. */
static void remember_as(const char *verb, const char *text)
{
    Str line = {0};
    str_printf(&line, "%s%s", verb, text);
    if (*text && !line.oom)
        input_remember(line.s);
    str_free(&line);
}

/* What a pattern takes, in the model's order, with the level of each now; those that only their fused group brings, too. */
static void list_hits(Ui *ui, const char *text, Choices *out)
{
    enum { LISTED = 2000 };
    const Model *m = ui_model(ui);
    Session *s = ui_session(ui);
    bool *hits = calloc((size_t)m->nlinears + 1, sizeof *hits), *group = calloc((size_t)m->ngroups + 1, sizeof *group);
    int64_t n = 0;
    choices_drop(out);
    out->list = hits && group ? calloc(LISTED, sizeof *out->list) : NULL;
    if (!out->list || session_target(s, text, hits, &n, NULL) != ST_OK)
        n = 0;
    for (int64_t i = 0; n && i < m->nlinears; i++)
        group[m->linears[i].group] |= hits[i];
    for (int64_t i = 0; n && i < m->nlinears && out->n < LISTED; i++) {
        if (!group[m->linears[i].group])
            continue;
        struct Choice *c = &out->list[out->n];
        c->word = strdup(m->linears[i].name);
        c->help = strdup(hits[i] ? session_level_name(s, session_level_of(s, i)) : tr("goes along: fused groups stay whole"));
        if (!c->word || !c->help) {
            free(c->word);
            free(c->help);
            break;
        }
        out->n++;
    }
    free(hits);
    free(group);
}

static unsigned done_exclude(Ui *ui, const char *text)
{
    if (*text) {
        Str b = {0};
        remember_as("exclude ", text);
        str_puts(&b, "exclude ");
        lexer_quote(&b, text);
        ui_command(ui, "%s", str_text(&b));
        str_free(&b);
    }
    return DO_PAINT;
}

static unsigned done_rule(Ui *ui, const char *text)
{
    if (*text && strcmp(text, ui->rule) != 0) {
        Str b = {0};
        str_puts(&b, "rule edit ");
        lexer_quote(&b, ui->rule);
        str_putc(&b, ' ');
        lexer_quote(&b, text);
        ui_command(ui, "%s", str_text(&b));
        str_free(&b);
    }
    return DO_PAINT;
}

static unsigned done_tag(Ui *ui, const char *text)
{
    Str b = {0};
    str_puts(&b, "tag");
    /* what is pasted is a list; a pattern has no spaces or commas outside its braces */
    char *copy = strdup(text), *save = NULL;
    for (char *w = copy ? strtok_r(copy, " \t;\"'", &save) : NULL; w; w = strtok_r(NULL, " \t;\"'", &save)) {
        size_t n = strlen(w);
        while (n > 0 && (w[n - 1] == ',' || w[n - 1] == ':'))
            w[--n] = '\0';
        if (n == 0 || strcmp(w, "-") == 0)
            continue;
        str_putc(&b, ' ');
        lexer_quote(&b, w);
    }
    free(copy);
    remember_as("tag ", text);
    if (b.len > 3)
        ui_command(ui, "%s", str_text(&b));
    str_free(&b);
    return DO_PAINT;
}

/* Searches what is in front: an overlay, or the screen. */
static Found search(Ui *ui, const char *text)
{
    if (ui->overlay)
        return ui->overlay->find(ui, text, 1, true);
    return ui->view->find ? ui->view->find(ui, ui_state(ui, ui->view), text, 1, true) : (Found){0, 0};
}

static void changed_search(Ui *ui, const char *text, Input *p)
{
    snprintf(ui->marked, sizeof ui->marked, "%s", text);
    if (!ui->overlay && ui_session(ui))
        session_set_cursor(ui_session(ui), p->origin);
    if (!*text)
        return;
    Found f = search(ui, text);
    p->note_slot = f.of ? SL_OK : SL_WARN;
    if (f.of)
        text_format(p->note, MAX_NOTE, "match %lld of %lld", (long long)f.at, (long long)f.of);
    else
        text_format(p->note, MAX_NOTE, "nothing here holds '%s'", text);
}

static unsigned done_search(Ui *ui, const char *text)
{
    if (!*text)
        return DO_PAINT;
    snprintf(ui->search, sizeof ui->search, "%s", text);
    return ui_found(ui, search(ui, text), text);
}

static void cancelled_search(Ui *ui)
{
    ui->marked[0] = '\0';
    if (!ui->overlay && ui_session(ui))
        session_set_cursor(ui_session(ui), ui->input->origin);
}

/* Shows what passes while it is typed; the edit comes with Enter. */
static void changed_filter(Ui *ui, const char *text, Input *p)
{
    Error err = {ST_OK, ""};
    int64_t n;
    session_set_cursor(ui_session(ui), p->origin);
    p->note_slot = SL_ERR;
    if (session_filter_try(ui_session(ui), text, &err) != ST_OK) {
        snprintf(p->note, MAX_NOTE, "%.*s", MAX_NOTE - 1, err.text);
        return;
    }
    session_order(ui_session(ui), &n, false);
    p->note_slot = n > 0 ? SL_OK : SL_WARN;
    text_format(p->figures, MAX_NOTE, n == 1 ? "%lld layer of %lld passes" : "%lld layers of %lld pass", (long long)n,
             (long long)ui_model(ui)->nlinears);
}

static void filter_back(Ui *ui)
{
    session_filter_try(ui_session(ui), ui->input->before ? ui->input->before : "", NULL); /* it was one already */
}

static void cancelled_filter(Ui *ui)
{
    filter_back(ui);
    session_set_cursor(ui_session(ui), ui->input->origin);
}

static unsigned done_filter(Ui *ui, const char *text)
{
    Str b = {0};
    remember_as("filter ", text);
    str_puts(&b, "filter ");
    lexer_quote(&b, text);
    ui_command(ui, "%s", str_text(&b));
    str_free(&b);
    return DO_PAINT;
}

/* The same of the calibration set's texts. */
static void changed_texts(Ui *ui, const char *text, Input *p)
{
    session_texts_filter(ui_session(ui), text, NULL);
    const TextTable *t = session_texts(ui_session(ui), NULL);
    p->note_slot = t && t->shown ? SL_OK : SL_WARN;
    if (t)
        text_format(p->figures, MAX_NOTE, t->shown == 1 ? "%d text of %d passes" : "%d texts of %d pass", t->shown, t->n);
}

static void cancelled_texts(Ui *ui)
{
    session_texts_filter(ui_session(ui), ui->input->before ? ui->input->before : "", NULL);
}

static unsigned done_texts(Ui *ui, const char *text)
{
    Str b = {0};
    remember_as("calib filter ", text);
    str_puts(&b, "calib filter ");
    lexer_quote(&b, text);
    ui_command(ui, "%s", str_text(&b));
    str_free(&b);
    return DO_PAINT;
}

static void changed_tensors(Ui *ui, const char *text, Input *p)
{
    int64_t hits, of;
    Error err = {ST_OK, ""};
    bool fine = model_filter(ui, text, &hits, &of, &err) == ST_OK;
    p->note_slot = fine && hits ? SL_OK : SL_WARN;
    if (fine)
        text_format(p->figures, MAX_NOTE, hits == 1 ? "%lld tensor of %lld passes" : "%lld tensors of %lld pass", (long long)hits, (long long)of);
    else
        snprintf(p->figures, MAX_NOTE, "%.200s", err.text);
}

static void cancelled_tensors(Ui *ui)
{
    int64_t hits, of;
    model_filter(ui, ui->input->before ? ui->input->before : "", &hits, &of, NULL);
}

static unsigned done_tensors(Ui *ui, const char *text)
{
    Str b = {0};
    remember_as("tensors filter ", text);
    str_puts(&b, "tensors filter ");
    lexer_quote(&b, text);
    ui_command(ui, "%s", str_text(&b));
    str_free(&b);
    return DO_PAINT;
}

#define DEFAULT_YAML "best.yaml"
#define DEFAULT_TEXT "compare.txt"

/* What was typed for a file or folder, without the blanks behind it; *force: with a ! at its end. */
static void typed_path(const char *text, Str *path, bool *force)
{
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == ' ')
        n--;
    *force = n > 1 && text[n - 1] == '!';
    n -= *force;
    while (n > 0 && text[n - 1] == ' ')
        n--;
    str_append(path, text, n);
}

/* Runs `command`, or `forced`, with a path behind it. */
static void run_with_path(Ui *ui, const char *command, const char *forced, const char *text)
{
    Str line = {0}, path = {0};
    bool force;
    typed_path(text, &path, &force);
    str_puts(&line, force ? forced : command);
    lexer_quote(&line, str_text(&path));
    if (path.len > 0)
        ui_command(ui, "%s", str_text(&line));
    str_free(&path);
    str_free(&line);
}

static unsigned done_export(Ui *ui, const char *text)
{
    run_with_path(ui, "export ", "export! ", *text ? text : DEFAULT_YAML);
    return DO_PAINT;
}

static unsigned done_folder(Ui *ui, const char *text)
{
    run_with_path(ui, "quantize --save ", "quantize! --save ", text);
    return DO_PAINT;
}

static unsigned done_compare(Ui *ui, const char *text)
{
    Str path = {0}, line = {0};
    bool force;
    typed_path(*text ? text : DEFAULT_TEXT, &path, &force);
    str_puts(&line, "compare --out ");
    lexer_quote(&line, str_text(&path));
    if (file_exists(str_text(&path)) && !force)
        ui_say(ui, SL_ERR, "'%s' is there already: ! behind the name replaces it", str_text(&path));
    else if (path.len && ui_command(ui, "%s", str_text(&line)))
        ui_say(ui, SL_OK, "written: %s", str_text(&path));
    str_free(&path);
    str_free(&line);
    return DO_PAINT;
}

/* Of Rank its rows, of another screen the lines of its list. */
static unsigned done_sheet(Ui *ui, const char *text)
{
    if (ui->view == &view_rank)
        run_with_path(ui, "sheet ", "sheet! ", text);
    else
        run_with_path(ui, "dump --all ", "dump --all ", text);
    return DO_PAINT;
}

static unsigned done_command(Ui *ui, const char *text)
{
    if (*text) {
        input_remember(text);
        ui_command(ui, "%s", text);
    }
    return DO_RELAYOUT;
}

/* The hints fit on the smallest screen. */
const Kind input_kinds[INPUT_KINDS] = {
    [INPUT_COMMAND] = {.label = ":", .verb = "", .hint = "a command; Tab completes, Down chooses, ^R searches",
                      .done = done_command},
    [INPUT_EXCLUDE] = {.label = "exclude: ", .verb = "exclude ", .hint = "a pattern, as *layers.{1,6}.mlp.*; Tab lists, Enter applies",
                      .changed = preview_pattern, .done = done_exclude, .list = list_hits},
    [INPUT_RULE] = {.label = "rule: ", .verb = "exclude ", .hint = "another pattern for this rule; Tab lists, Enter applies",
                      .changed = preview_pattern, .done = done_rule, .list = list_hits},
    [INPUT_TAG] = {.label = "tag: ", .verb = "tag ", .hint = "patterns or names, with spaces between",
                      .done = done_tag},
    [INPUT_SEARCH] = {.label = "/", .hint = "a part of a name, or a pattern",
                      .changed = changed_search, .done = done_search, .cancelled = cancelled_search},
    [INPUT_FILTER] = {.label = "filter: ", .verb = "filter ", .hint = "words, kind= layer=3..7 score>9 float !word; Tab lists",
                      .changed = changed_filter, .done = done_filter, .cancelled = cancelled_filter},
    [INPUT_TEXTS] = {.label = "filter: ", .hint = "words, tokens>100 sets>9 script=Han used out tagged flagged !word",
                     .changed = changed_texts, .done = done_texts, .cancelled = cancelled_texts},
    [INPUT_TENSORS] = {.label = "filter: ", .verb = "tensors filter ", .hint = "words, type=BF16 size>1M float quantized copied !word",
                       .changed = changed_tensors, .done = done_tensors, .cancelled = cancelled_tensors},
    [INPUT_EXPORT] = {.label = "write to: ", .verb = "export ", .hint = "a file (Enter alone: best.yaml); ! at the end replaces it",
                      .done = done_export},
    [INPUT_FOLDER] = {.label = "folder: ", .verb = "quantize --save ", .hint = "where the quantized model goes; ! at the end replaces one",
                      .done = done_folder},
    [INPUT_FIT] = {.label = "fit: ", .hint = "Enter chooses the levels for +20M 300M 5.2bits kl=0.1 ppl=+1%",
                   .ask = ask_fit, .command = "fit "},
    [INPUT_TUNE] = {.label = "tune until: ", .hint = "Enter measures about 8 sets, until +20M kl=0.1 or ppl=+1%",
                    .ask = ask_tune, .command = "tune --until "},
    [INPUT_BUDGET] = {.label = "budget: ", .hint = "+20M above the recipe, 300M, 5.2bits a weight, none",
                      .ask = ask_budget, .command = "set budget="},
    [INPUT_COMPARE] = {.label = "write to: ", .verb = "export ", .hint = "a file (Enter alone: compare.txt); ! at the end replaces it",
                      .done = done_compare},
    [INPUT_SHEET] = {.label = "this list to: ", .verb = "sheet ", .hint = "a file: .csv, .json or text; ! at the end replaces it",
                      .done = done_sheet},
};

void input_look(Ui *ui, const char *text)
{
    Input *p = ui->input;
    const Kind *k = &input_kinds[p->kind];
    if (k->changed)
        k->changed(ui, text, p);
    if (!k->ask)
        return;
    AskNote n = {.figures = p->figures, .note = p->note, .size = MAX_NOTE, .slot = SL_OK};
    k->ask(ui, text, &n);
    p->note_slot = n.slot;
}

unsigned input_run(Ui *ui, const Kind *k, const char *text)
{
    if (k->done)
        return k->done(ui, text);
    if (*text)
        ui_command(ui, "%s%s", k->command, text);
    return DO_PAINT;
}
