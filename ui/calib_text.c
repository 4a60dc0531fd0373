/* Screen 6: one text of the calibration set, and what its parts share with the table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metric/textrange.h"
#include "src/lang.h"
#include "ui/calib.h"
#include "ui/detail.h"

/* What is told in the screen's language. */
const char *const calib_script_words[SCRIPTS] = {
    [SCRIPT_LATIN] = "Latin",       [SCRIPT_HAN] = "Han",       [SCRIPT_KANA] = "Kana",   [SCRIPT_HANGUL] = "Hangul",
    [SCRIPT_CYRILLIC] = "Cyrillic", [SCRIPT_ARABIC] = "Arabic", [SCRIPT_OTHER] = "other", [SCRIPT_DIGIT] = "digits",
    [SCRIPT_SIGN] = "signs"};
static const char *const state_words[TEXT_STATES] = {[TEXT_USED] = "used", [TEXT_CUT] = "cut to --seq-len",
                                                     [TEXT_OUT] = "taken out", [TEXT_EMPTY] = "no token",
                                                     [TEXT_BEYOND] = "beyond --max-samples"};

const TextTable *calib_texts(Ui *ui, const char **why)
{
    Session *s = ui_session(ui);
    *why = "";
    if (!s || !ui_model(ui))
        return NULL;
    if (ui->term.null)
        session_texts_wait(s, NULL);
    else
        session_texts_begin(s);
    return session_texts(s, why);
}

void calib_script_text(const double share[SCRIPTS], int most, char *out, size_t size)
{
    bool told[SCRIPTS] = {false};
    int n = 0;
    out[0] = 0;
    for (int i = 0; i < most; i++) {
        int best = -1;
        for (int k = 0; k < SCRIPTS; k++)
            best = !told[k] && share[k] >= 0.02 && (best < 0 || share[k] > share[best]) ? k : best;
        if (best < 0 || n >= (int)size)
            break;
        told[best] = true;
        n += snprintf(out + n, size - (size_t)n, "%s%s %.0f %%", i ? ", " : "", tr(calib_script_words[best]), 100 * share[best]);
    }
}

void calib_factor_text(char *out, size_t size, double v)
{
    out[0] = 0;
    if (v < 100)
        snprintf(out, size, "%.2fx", v);
    else if (!isnan(v))
        snprintf(out, size, "%.0fx", v);
}

/* ---- one text ---- */

static void detail_ranges(Ui *ui, Rect r, int *y, const TextTable *t, const TextRow *row)
{
    char buf[300], middle[24], most[24], share[24];
    const TextRanges *g = &row->ranges;
    calib_factor_text(middle, sizeof middle, g->middle);
    calib_factor_text(most, sizeof most, g->most);
    if (!t->sums.ranged) {
        draw_wrapped(ui, r, y, SL_DIM, "ranges are not known: r finds which text sets which");
        return;
    }
    if (g->sets)
        text_format(buf, sizeof buf, "alone it sets the range of %lld of %lld linears, by %s in the median, %s at most",
                    (long long)g->sets, (long long)t->sums.ranged, middle, most);
    else
        text_format(buf, sizeof buf, "it sets no range alone");
    draw_wrapped(ui, r, y, row->flag ? SL_OUTLIER : SL_TEXT, buf);
    if (row->flag) {
        text_format(buf, sizeof buf, "! flagged: %lld ranges are %.2gx wider because of it, at least %.0f %% of them. x takes it out",
                    (long long)g->widens, TEXT_WIDE, 100 * TEXT_FLAG);
        draw_wrapped(ui, r, y, SL_OUTLIER, buf);
    }
    if (g->sets) {
        fmt_percent(share, sizeof share, g->share);
        text_format(buf, sizeof buf, "share %s: the part of a range that no other text needs (its width less that without the text, over "
                                     "it), mean over all linears", share);
        draw_wrapped(ui, r, y, SL_DIM, buf);
    }
    if (g->sole) {
        text_format(buf, sizeof buf, "%lld linears of experts only it reaches", (long long)g->sole);
        draw_wrapped(ui, r, y, SL_TEXT, buf);
    }
    if (t->sums.stale)
        draw_wrapped(ui, r, y, SL_STALE, "stale: of other texts or settings; r runs it anew");
}

static void detail_scores(Ui *ui, Rect r, int *y, const TextRow *row)
{
    const TextRanges *g = &row->ranges;
    char buf[300], share[24];
    if (!g->worst_of)
        return;
    fmt_percent(share, sizeof share, g->worst_share);
    if (g->worst)
        text_format(buf, sizeof buf, "scores: of %lld of %lld of %s it has most, %s of the score on average", (long long)g->worst,
                    (long long)g->units, g->worst_of, share);
    else
        text_format(buf, sizeof buf, "scores: of none of %lld of %s it has most", (long long)g->units, g->worst_of);
    draw_wrapped(ui, r, y, g->worst * 4 > g->units ? SL_WARN : SL_TEXT, buf);
}

static void detail_layers(Ui *ui, Rect r, int *y, const TextRow *row)
{
    enum { SHOWN = 8 };
    TextLinear *l;
    int64_t n;
    if (session_text_linears(ui_session(ui), row->number, &l, &n, NULL) != ST_OK)
        return;
    if (n)
        draw_wrapped(ui, r, y, SL_HEADER, "the widest: range, without it");
    for (int64_t i = 0; i < n && i < SHOWN; i++) {
        char name[200], a[24], b[24], c[24], d[24], f[24], buf[160];
        text_elide(name, sizeof name, ui_model(ui)->linears[l[i].linear].name, r.w, ui->term.glyphs.ellipsis);
        fmt_value(a, sizeof a, l[i].lo);
        fmt_value(b, sizeof b, l[i].hi);
        fmt_value(c, sizeof c, l[i].lo_less);
        fmt_value(d, sizeof d, l[i].hi_less);
        calib_factor_text(f, sizeof f, l[i].factor);
        draw_wrapped(ui, r, y, SL_TEXT, name);
        if (isnan(l[i].factor))
            text_format(buf, sizeof buf, "  %s..%s, no other text reaches it", a, b);
        else
            snprintf(buf, sizeof buf, "  %s..%s  %s..%s  %s", a, b, c, d, f);
        draw_wrapped(ui, r, y, SL_DIM, buf);
    }
    if (n > SHOWN) {
        char more[80];
        text_format(more, sizeof more, "and %lld more: o shows them on Rank", (long long)(n - SHOWN));
        draw_wrapped(ui, r, y, SL_DIM, more);
    }
    free(l);
}

/* A text of any length; the lines in sight alone would do, but it is measured by drawing. */
static void detail_text(Ui *ui, Rect r, int *y, const char *text, size_t len)
{
    char *copy = malloc(len + 1);
    if (!copy)
        return;
    memcpy(copy, text, len);
    copy[text_fit_terminal(copy, len, true)] = 0;
    draw_wrapped(ui, r, y, SL_TEXT, copy);
    free(copy);
}

int calib_text_content(Ui *ui, Rect r, int64_t number, int spare)
{
    (void)spare;
    const char *why;
    const TextTable *t = calib_texts(ui, &why);
    int y = r.y;
    if (!t || number < 1 || number > t->n)
        return y;
    const TextRow *row = &t->row[number - 1];
    char buf[300], n[24], scripts[120];
    text_format(buf, sizeof buf, "text %d: %s", row->number, tr(state_words[row->state]));
    draw_wrapped(ui, r, &y, SL_STRONG, buf);
    fmt_count(n, sizeof n, row->tokens);
    text_format(buf, sizeof buf, "%s:%d, %s tokens, %d different", row->file, row->line, n, row->distinct);
    draw_wrapped(ui, r, &y, SL_TEXT, buf);
    calib_script_text(row->script, 4, scripts, sizeof scripts);
    draw_wrapped(ui, r, &y, SL_DIM, scripts);
    if (row->same_as) {
        text_format(buf, sizeof buf, "it has the same tokens as text %d", row->same_as);
        draw_wrapped(ui, r, &y, SL_WARN, buf);
    }
    if (!isnan(row->loo)) {
        text_format(buf, sizeof buf, "left out, KL changes by %+.3e +-%.1e", row->loo, row->loo_se);
        draw_wrapped(ui, r, &y, SL_TEXT, buf);
    }
    if (!isnan(row->loss)) {
        char share[24];
        fmt_percent(share, sizeof share, row->loss);
        text_format(buf, sizeof buf, "loss %s: its share of what block_error adds up to over all that is quantized (1 less the sum without it over "
                                     "that with it)", share);
        draw_wrapped(ui, r, &y, SL_TEXT, buf);
    }
    if (t->sums.beyond && (!isnan(row->loss) || !isnan(row->loo)))
        draw_wrapped(ui, r, &y, SL_DIM, "left out, the first text beyond --max-samples takes its place");
    detail_ranges(ui, r, &y, t, row);
    detail_scores(ui, r, &y, row);
    detail_layers(ui, r, &y, row);
    y++;
    if (row->text)
        detail_text(ui, r, &y, row->text, row->len);
    y++;
    Str tokens = {0};
    session_text_tokens(ui_session(ui), row->number, &tokens);
    draw_wrapped(ui, r, &y, SL_HEADER, "its tokens, | between them");
    detail_text(ui, r, &y, str_text(&tokens), tokens.len);
    str_free(&tokens);
    return y;
}
