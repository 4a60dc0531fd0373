/* The detail pane of a fold's head. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "session/fold.h"
#include "src/lang.h"
#include "ui/detail.h"

void fold_member_name(Ui *ui, int32_t fold, int64_t linear, size_t skip, Str *out)
{
    const char *name = ui_model(ui)->linears[linear].name;
    Str whole = {0};
    session_fold_name(ui_session(ui), fold, &whole);
    const char *sign = strpbrk(str_text(&whole), "*{");
    size_t len = strlen(name), head = sign ? (size_t)(sign - whole.s) : 0, tail = 0;
    if (sign == whole.s && sign) /* "*.down_proj": the end is what they share */
        tail = whole.len - 1;
    head = head > skip ? head : skip;
    if (head + tail < len)
        str_append(out, name + head, len - head - tail);
    str_free(&whole);
}

static void draw_head(Ui *ui, Rect r, int *y, int32_t fold, const Fold *f)
{
    char buf[300], name[300];
    Str whole = {0};
    session_fold_name(ui_session(ui), fold, &whole);
    text_elide(name, sizeof name, str_text(&whole), r.w, ui->term.glyphs.ellipsis);
    str_free(&whole);
    draw_wrapped(ui, r, y, SL_STRONG, name);
    char bytes[24], cost[24];
    fmt_bytes(bytes, sizeof bytes, f->bytes);
    fmt_delta(cost, sizeof cost, f->cost);
    int len = text_format(buf, sizeof buf, "%lld linears", (long long)f->count);
    if (f->whole > f->count)
        len += text_format(buf + len, sizeof buf - (size_t)len, " (the filter hides %lld)",
                        (long long)(f->whole - f->count));
    snprintf(buf + len, sizeof buf - (size_t)len, ", %s, %s %s", bytes,
             tr(f->floats == f->count ? "float costs" : "float"), cost);
    draw_wrapped(ui, r, y, SL_TEXT, buf);
}

/* How many members are at each level. */
static void draw_levels(Ui *ui, Rect r, int *y, const Fold *f)
{
    Session *s = ui_session(ui);
    Str b = {0};
    str_puts(&b, tr("levels:"));
    int64_t others = f->count;
    for (int level = 0; level < session_levels(s) && level < FOLD_LEVELS; level++) {
        others -= f->at_level[level];
        if (f->at_level[level] > 0)
            str_printf(&b, "  %s %d", session_level_name(s, level), (int)f->at_level[level]);
    }
    if (others > 0)
        str_printf(&b, tr("  others %lld"), (long long)others);
    if (f->tagged > 0)
        str_printf(&b, tr("  *%lld tagged"), (long long)f->tagged);
    draw_wrapped(ui, r, y, SL_TEXT, str_text(&b));
    str_free(&b);
}

static void draw_scores(Ui *ui, Rect r, int *y, const Fold *f)
{
    Session *s = ui_session(ui);
    const Metric *m = session_metric(s);
    char buf[400], max[24], mean[24];
    if (!m)
        return;
    fmt_score(max, sizeof max, f->max);
    fmt_score(mean, sizeof mean, f->mean);
    if (f->scored > 0)
        text_format(buf, sizeof buf, "%s max %s, mean %s %s", m->name, max, mean, m->unit ? m->unit : "");
    else
        text_format(buf, sizeof buf, "%s ? no score yet; r runs it", m->name);
    draw_wrapped(ui, r, y, f->scored > 0 ? SL_STRONG : SL_DIM, buf);
    if (f->worst >= 0) {
        text_format(buf, sizeof buf, "worst #%lld: %s", (long long)session_rank(s, f->worst),
                 ui_model(ui)->linears[f->worst].name);
        draw_wrapped(ui, r, y, SL_TEXT, buf);
    }
    int64_t none = f->count - f->scored - f->failed;
    text_format(buf, sizeof buf, "%lld scored, %lld failed, %lld not measured%s", (long long)f->scored,
             (long long)f->failed, (long long)none, f->stale ? tr(", s stale") : "");
    draw_wrapped(ui, r, y, f->failed ? SL_FAILED : f->stale ? SL_STALE : SL_DIM, buf);
}

static void draw_member(Ui *ui, Rect r, int y, int32_t fold, int64_t linear)
{
    Str name = {0};
    Session *s = ui_session(ui);
    const Metric *m = session_metric(s);
    Score sc = m ? session_score(s, m, linear) : (Score){.state = SCORE_NONE};
    char score[24] = "?";
    if (sc.state == SCORE_OK || sc.state == SCORE_STALE)
        fmt_score(score, sizeof score, sc.value);
    else if (sc.state == SCORE_FAILED)
        text_format(score, sizeof score, "failed");
    Slot slot = session_level_of(s, linear) == 0 ? SL_EXCLUDED : session_tagged(s, linear) ? SL_TAGGED : SL_TEXT;
    Pen p = pen_at(ui, y, r.x, r.w);
    pen_cell(&p, sc.state == SCORE_FAILED ? SL_FAILED : slot, SCORE_WIDTH, true, score);
    pen_puts(&p, slot, session_level_of(s, linear) == 0 ? " X " : session_tagged(s, linear) ? " * " : "   ");
    fold_member_name(ui, fold, linear, 0, &name);
    pen_name(&p, slot, r.w - SCORE_WIDTH - 3, str_text(&name));
    str_free(&name);
}

static int content(Ui *ui, Rect r, int64_t fold, int spare)
{
    const Fold *f = session_fold_at(ui_session(ui), (int32_t)fold);
    int y = r.y;
    (void)spare;
    if (!f)
        return y;
    draw_head(ui, r, &y, (int32_t)fold, f);
    draw_levels(ui, r, &y, f);
    draw_scores(ui, r, &y, f);
    y++;
    for (int64_t k = 0; k < f->count; k++, y++) {
        if (y >= ui->clip_top && y < ui->clip_bottom)
            draw_member(ui, r, y, (int32_t)fold, f->members[k]);
    }
    return y;
}

void detail_draw_fold(Ui *ui, Rect r, int32_t fold, Scroll *pos, const char *keys)
{
    detail_scrolled(ui, r, content, fold, pos, keys);
}
