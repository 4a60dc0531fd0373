/* What the details say of a layer's place in the table: ties, the second metric, the worst text, advice. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "metric/sampleparts.h"
#include "session/columns.h"
#include "src/lang.h"
#include "ui/detail.h"

static void draw_interval(Ui *ui, Rect r, int *y, const Metric *m, int64_t i)
{
    Session *s = ui_session(ui);
    double share = session_interval(s, m, i);
    char value[24], buf[160];
    if (isnan(share))
        return;
    fmt_percent(value, sizeof value, share);
    text_format(buf, sizeof buf, session_tied(s, i) ? "95 %% interval +-%s: it may as well rank beside its neighbour (=)"
                                                     : "95 %% interval +-%s", value);
    draw_wrapped(ui, r, y, session_tied(s, i) ? SL_WARN : SL_DIM, buf);
}

/* The text that has most of the score, where the metric knows it. */
static void draw_worst_text(Ui *ui, Rect r, int *y, const Metric *m, int64_t i)
{
    Session *s = ui_session(ui);
    int64_t unit = m->parts == sample_parts ? scope_unit_of(ui_model(ui), m->scope, i) : -1;
    const double *part = unit >= 0 ? session_unit_parts(s, m, unit) : NULL;
    int texts = session_calib_info(s).samples;
    char share[24], buf[160];
    if (!part || !(part[SAMPLE_SHARE] > 0))
        return;
    fmt_percent(share, sizeof share, part[SAMPLE_SHARE] / 100);
    text_format(buf, sizeof buf, "worst text: number %d of %d, with %s of the score", (int)part[SAMPLE_MOST] + 1, texts, share);
    draw_wrapped(ui, r, y, texts > 1 && part[SAMPLE_SHARE] > 300.0 / texts ? SL_OUTLIER : SL_DIM, buf);
}

void detail_standing(Ui *ui, Rect r, int *y, int64_t linear)
{
    Session *s = ui_session(ui);
    const Metric *m = session_metric(s), *second = session_second(s);
    char buf[240], share[24];
    if (m) {
        draw_interval(ui, r, y, m, linear);
        draw_worst_text(ui, r, y, m, linear);
    }
    if (second && session_second_rank(s, linear) > 0) {
        text_format(buf, sizeof buf, "by %s it is #%lld", second->name, (long long)session_second_rank(s, linear));
        draw_wrapped(ui, r, y, SL_DIM, buf);
    }
    Advice a = session_advice(s, linear);
    if (isnan(a.share))
        return;
    fmt_percent(share, sizeof share, a.share);
    text_format(buf, sizeof buf, "advice: %s (%s: its group makes %s of the loss)", tr(a.word), a.rule, share);
    draw_wrapped(ui, r, y, SL_TEXT, buf);
}
