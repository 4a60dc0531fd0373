#include "ui/log.h"

#include <time.h>

static void clock_text(int64_t when, char out[16])
{
    time_t t = (time_t)when;
    struct tm day;
    if (!localtime_r(&t, &day) || strftime(out, 16, "%H:%M:%S", &day) == 0)
        out[0] = '\0';
}

void log_draw(Ui *ui, Rect r)
{
    static const char *const marks[] = {"    ", "warn", "FAIL"};
    static const Slot slots[] = {SL_TEXT, SL_WARN, SL_FAILED};
    Session *s = ui_session(ui);
    int n = session_log_lines(s), from = n > r.h ? n - r.h : 0;
    for (int y = 0; y < r.h && from + y < n; y++) {
        LogLine l = session_log_line(s, from + y);
        int level = l.level < 0 || l.level > 2 ? 0 : l.level;
        char clock[16], line[ERROR_TEXT_MAX + 8];
        clock_text(l.when, clock);
        Pen p = pen_at(ui, r.y + y, r.x, r.w);
        pen_printf(&p, SL_DIM, " %s", clock);
        pen_printf(&p, slots[level], " %s ", marks[level]);
        text_cut(line, sizeof line, l.text, p.end - p.x, ui->term.glyphs.ellipsis);
        pen_puts(&p, SL_TEXT, line);
    }
}

void log_text(Session *s, Str *out)
{
    static const char *const marks[] = {"", "warning: ", "error: "};
    for (int i = session_log_first(s); i < session_log_lines(s); i++) {
        LogLine l = session_log_line(s, i);
        char clock[16];
        clock_text(l.when, clock);
        str_printf(out, "%s  %s%s\n", clock, marks[l.level < 0 || l.level > 2 ? 0 : l.level], l.text);
    }
}
