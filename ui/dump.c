/* The screen as text: for tests, --dump-screen and the command `dump screen`. */
#include <string.h>

#include "io/file.h"
#include "ui/workbench.h"

static void put_char(Str *out, wchar_t c)
{
    char utf8[4];
    str_append(out, utf8, (size_t)utf8_encode((unsigned)c, utf8));
}

void ui_dump(Ui *ui, Str *out)
{
    int rows, cols;
    (void)ui;
    getmaxyx(stdscr, rows, cols);
    for (int y = 0; y < rows; y++) {
        size_t end = out->len;
        for (int x = 0; x < cols;) {
            cchar_t cell;
            wchar_t text[CCHARW_MAX + 1] = {0};
            attr_t attr;
            short pair;
            if (mvin_wch(y, x, &cell) != OK || getcchar(&cell, text, &attr, &pair, NULL) != OK || !text[0])
                text[0] = L' ';
            put_char(out, text[0]);
            if (text[0] != L' ')
                end = out->len;
            int w = wcwidth(text[0]);
            x += w > 1 ? w : 1; /* a wide character is reported in each of its cells */
        }
        if (!out->oom && out->s) {
            out->len = end;
            out->s[end] = '\0';
        }
        str_putc(out, '\n');
    }
    move(ui->cursor_y < rows ? ui->cursor_y : 0, ui->cursor_x < cols ? ui->cursor_x : 0);
}

Status ui_dump_file(Ui *ui, const char *path, Error *err)
{
    Str text = {0};
    ui_paint(ui);
    while (ui_session(ui) && session_picture_waits(ui_session(ui))) { /* of a weight that is being read */
        session_picture_wait(ui_session(ui));
        ui_paint(ui);
    }
    ui_dump(ui, &text);
    Status st = text.oom ? error_nomem(err, "the screen's text") : file_write_atomic(path, text.s, text.len, err);
    str_free(&text);
    return st;
}
