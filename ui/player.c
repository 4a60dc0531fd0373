/* Scripts and replays on the screen: commands run one by one, each when nothing runs any more, while the workbench
 * stays alive. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "io/file.h"
#include "session/calibset.h"
#include "ui/workbench.h"

enum { MAX_NESTING = 8, SCRIPT_MAX_BYTES = 16 << 20 };

/* One text being played; a replay command inside it puts another in front. */
struct Player {
    Player *outer;
    char *name, *text, *at;
    int number;
    ScriptModels models;
};

static void player_free(Player *p)
{
    free(p->name);
    free(p->text);
    free(p);
}

void player_stop(Ui *ui)
{
    while (ui->player) {
        Player *p = ui->player;
        ui->player = p->outer;
        player_free(p);
    }
}

Status player_lines(Ui *ui, const char *name, const char *text, Error *err)
{
    int depth = 0;
    for (const Player *p = ui->player; p; p = p->outer)
        depth++;
    if (depth >= MAX_NESTING)
        return error_set(err, ST_USAGE, "scripts replay each other more than %d deep", MAX_NESTING);
    Player *p = calloc(1, sizeof *p);
    if (!p)
        return error_nomem(err, "the script");
    p->name = strdup(name);
    p->text = strdup(text);
    if (!p->name || !p->text) {
        player_free(p);
        return error_nomem(err, "the script");
    }
    p->at = strncmp(p->text, "\xef\xbb\xbf", 3) == 0 ? p->text + 3 : p->text;
    p->models.force = ui->app->force;
    if (ui->app->pace_ms)
        ui->pace_ms = ui->app->pace_ms;
    p->outer = ui->player;
    ui->player = p;
    return ST_OK;
}

static Status read_stdin(char **out, Error *err)
{
    Str b = {0};
    char buf[4096];
    size_t n;
    while ((n = fread(buf, 1, sizeof buf, stdin)) > 0 && b.len < SCRIPT_MAX_BYTES)
        str_append(&b, buf, n);
    *out = b.len > 0 ? str_detach(&b) : strdup("");
    return *out ? ST_OK : error_nomem(err, "the script");
}

Status player_file(Ui *ui, const char *path, Error *err)
{
    bool in = strcmp(path, "-") == 0;
    char *text;
    size_t len = 0;
    if (in)
        RETURN_IF_ERROR(read_stdin(&text, err));
    else
        RETURN_IF_ERROR(file_read(path, SCRIPT_MAX_BYTES, &text, &len, err));
    Status st = in || strlen(text) == len ? player_lines(ui, in ? "<stdin>" : path, text, err)
                                          : error_set(err, ST_USAGE, "'%s' holds a NUL byte: it is no script", path);
    free(text);
    return st;
}

static void player_fail(Ui *ui, Status st, const char *text)
{
    Player *p = ui->player;
    ui->script_status = error_set(&ui->script_error, st, "%s:%d: %s", p->name, p->number, text);
    ui_say(ui, SL_ERR, "%s", ui->script_error.text);
    player_stop(ui);
}

bool player_interrupt(Ui *ui)
{
    if (!ui->player)
        return false;
    player_fail(ui, ST_CANCELLED, "stopped after this line");
    return true;
}

/* A job that the last line started and that failed stops the script at that line. */
static bool job_failed(Ui *ui)
{
    Error err = {ST_OK, ""};
    Status st = ui->player_started && ui_session(ui) ? session_wait(ui_session(ui), &err) : ST_OK;
    ui->player_started = false;
    if (st != ST_OK)
        player_fail(ui, st, err.text);
    return st != ST_OK;
}

unsigned player_step(Ui *ui)
{
    Player *p = ui->player;
    if (!p || (ui_session(ui) && (session_works(ui_session(ui)) || session_texts_reading(ui_session(ui)))) || clock_ns() < ui->player_next)
        return DO_NOTHING;
    if (job_failed(ui))
        return DO_PAINT;
    if (!*p->at) {
        ui->player = p->outer;
        player_free(p);
        return DO_PAINT;
    }
    char *line = p->at;
    p->at += strcspn(line, "\n");
    if (*p->at)
        *p->at++ = '\0';
    p->number++;
    line[strcspn(line, "\r")] = '\0';
    if (strcmp(line, "wait") == 0)
        return DO_PAINT; /* it does so anyway */
    ui_close_overlay(ui);
    Error err = {ST_OK, ""};
    if (script_line(ui->app, &p->models, line, &err) != ST_OK) {
        player_fail(ui, err.status, err.text);
    } else if (!ui_command(ui, "%s", line)) {
        char text[ERROR_TEXT_MAX];
        snprintf(text, sizeof text, "%s", ui->message);
        player_fail(ui, ui->command_status, text);
    }
    ui->player_started = ui_session(ui) && session_busy(ui_session(ui));
    ui->player_next = clock_ns() + (int64_t)ui->pace_ms * 1000000;
    return DO_RELAYOUT;
}
