#ifndef SLIM_UI_WORKBENCH_H
#define SLIM_UI_WORKBENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "src/plot.h"
#include "ui/draw.h"
#include "ui/layout.h"
#include "ui/term.h"
#include "ui/text.h"
#include "ui/ui.h"
#include "ui/view.h"

/* What the parts of the workbench share. Nothing here computes or waits: keys become commands, events become bits, bits
 * become paint. */

/* What a handler asks the loop for. */
enum { DO_NOTHING = 0, DO_PAINT = 1, DO_RELAYOUT = 2, DO_QUIT = 4 };

/* Something over the body that gets the keys first: help, pager. */
typedef struct Overlay {
    void (*draw)(Ui *ui, Rect area);
    unsigned (*key)(Ui *ui, int key);
    void (*fini)(Ui *ui);
    Found (*find)(Ui *ui, const char *text, int direction, bool from_here);
} Overlay;

/* A yes/no question in the message line. */
typedef struct Question {
    const char *text;          /* NULL: none open */
    unsigned (*yes)(Ui *ui);
    unsigned (*detach)(Ui *ui);  /* what d does; NULL: it is a no */
} Question;

typedef struct Binding {
    int key;
    char *command;
} Binding;

typedef struct Input Input;
typedef struct Player Player;

enum { UI_MAX_BACK = 8, UI_MAX_VIEWS = 12, UI_SEARCH_MAX = 256 };
struct Ui {
    App *app;
    Term term;
    Layout layout;
    int rows, cols;
    const View *view;
    const Metric *const *metrics;   /* of tests; NULL: ui_metrics are the session's */
    void *state[UI_MAX_VIEWS];      /* of each row of view_table */
    const View *back[UI_MAX_BACK];
    int nback;
    bool side_on, side_full;        /* detail pane */
    PlotLook plot;                  /* of the details */
    int64_t plot_of;                /* the linear that it points into */
    char search[UI_SEARCH_MAX];
    char marked[UI_SEARCH_MAX];   /* what is marked in names; "": nothing */
    char rule[4200];              /* that is being edited */
    LineParts rest;          /* what the line of tabs had no room for */
    char message[ERROR_TEXT_MAX];
    Slot message_slot;
    Question question;
    const Overlay *overlay;
    void *overlay_state;
    Input *input;                 /* NULL: none open */
    Str out;                        /* what the running command prints */
    Status command_status;          /* of the newest one */
    Binding *bindings;
    size_t nbindings, cap_bindings;
    Player *player;                 /* script or replay; NULL: none running */
    int pace_ms;
    int64_t player_next;            /* clock_ns before which its next line doesn't run */
    bool player_started;            /* its last line started a job */
    Status script_status;           /* why a script stopped */
    Error script_error;
    int64_t last_key, last_int;     /* clock_ns of the last key, of the last ^C or F9 */
    int stopping;                   /* id of the job that that was for */
    int jobs_ended;                 /* how many ends of jobs were told */
    bool told_question;             /* what the running job asks was told */
    bool calm;                      /* ScreenOptions.calm */
    bool button_down;               /* of the mouse */
    bool pasting;
    bool telling_end;          /* of a job, which the log has whole */
    Str paste;
    int clip_top, clip_bottom;      /* lines that are drawn to */
    int cursor_y, cursor_x;         /* where the hardware cursor rests */
    struct { int x, w; const View *view; } tab_spans[UI_MAX_VIEWS];
    struct { int x, w, key; } key_spans[24];
    int ntab_spans, nkey_spans;
};

/* ---- session, or NULL while nothing is open ---- */
Session *ui_session(const Ui *ui);
/* Metrics that m walks and details tell, NULL-terminated: the session's. */
const Metric *const *ui_metrics(const Ui *ui);
const Model *ui_model(const Ui *ui); /* NULL before open */

/* ---- what happens ---- */
/* Runs one command text; its error or its printed line becomes the message, longer output a pager. */
bool ui_command(Ui *ui, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The message line's text; where it is too long for the line, the log gets it whole. */
void ui_say(Ui *ui, Slot slot, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same of what a new job does, or behind which one it is queued. */
void ui_say_queued(Ui *ui, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Stops the job after its tile; a second time within two seconds: at once. Always DO_PAINT. */
unsigned ui_stop_job(Ui *ui, const JobView *j);
/* Says why a key does nothing here. Always DO_PAINT. */
unsigned ui_refuse(Ui *ui, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Says what a command line did that succeeded and printed nothing. */
void ui_said(Ui *ui, const char *line);
void ui_open_overlay(Ui *ui, const Overlay *o, void *state);
void ui_close_overlay(Ui *ui);
unsigned ui_goto(Ui *ui, const View *v);
unsigned ui_key(Ui *ui, int key);
enum { PASTE_SILENCE_NS = 1000000000 };
/* Ends a paste that has been silent for PASTE_SILENCE_NS: its end got lost. Bits. */
unsigned ui_paste_pause(Ui *ui);
/* The first message: what is wrong, or what to do first. */
void ui_greet(Ui *ui);
/* From now on the cursor stays on what it is on. */
void ui_hold(Ui *ui);
/* What the present screen points at. */
Here ui_here(Ui *ui);
void *ui_state(Ui *ui, const View *v);

/* What the user bound the key to, NULL: nothing. */
const Binding *ui_binding(const Ui *ui, int key);

/* ---- parts ---- */
/* Takes `text` (borrowed lines are copied). Enter there opens the command line with `typed` in it (borrowed; NULL: it
 * closes the page). */
void pager_open(Ui *ui, const char *title, const char *text, const char *typed);
void help_open(Ui *ui);
/* The list of commands; what one of them is for, with a way to type it. */
void help_commands(Ui *ui);
void help_command(Ui *ui, const Command *c);
/* Starts to play the lines of a text (copied), or of a file ("-": stdin). */
Status player_lines(Ui *ui, const char *name, const char *text, Error *err);
Status player_file(Ui *ui, const char *path, Error *err);
/* Runs the next line when nothing else runs and its time has come; bits. */
unsigned player_step(Ui *ui);
/* ^C: stops before the next line. false: none plays. */
bool player_interrupt(Ui *ui);
void player_stop(Ui *ui);
/* Hardware cursor for the line that has the focus. */
void ui_rest_cursor(Ui *ui, int y, int x);
void ui_paint(Ui *ui);

/* ---- in-process use: the loop, and tests ---- */
Status ui_new(Ui **out, App *a, const ScreenOptions *o, Error *err);
void ui_free(Ui *ui);
/* The settings file (not for scripts), then the theme that the command line names. */
Status ui_settings(Ui *ui, const ScreenOptions *o, Error *err);
/* Takes over what the session reports; bits. */
unsigned ui_pump(Ui *ui);
/* Whether events of the session (EV_*) are painted at once: calm, not those of a job that goes on. */
bool ui_paints_for(const Ui *ui, unsigned events);
void ui_set_size(Ui *ui, int rows, int cols);
/* The screen as text: rows without trailing spaces, each with a newline. */
void ui_dump(Ui *ui, Str *out);
Status ui_dump_file(Ui *ui, const char *path, Error *err);

#endif
