#ifndef SLIM_SRC_APP_H
#define SLIM_SRC_APP_H

#include <stdbool.h>

#include "base/error.h"
#include "base/str.h"
#include "dist/dist.h"
#include "session/session.h"

/* The program around a session: where commands run, whatever face they come from. */
typedef struct App App;
typedef struct Command Command;
struct PlotLook;

typedef enum Face { FACE_CLI, FACE_SCRIPT, FACE_SHELL, FACE_UI } Face;

enum { PROGRESS_LINES = 3 }; /* a line for every finished layer */

/* How the workbench shows itself. */
typedef struct ScreenOptions {
    const char *theme;        /* NULL: default */
    const char *lang;         /* of its words: "auto", "en", "zh" (src/lang.h); NULL: auto */
    const char *glyphs;       /* "auto", "braille", "block", "ascii" */
    int color;                /* -1 auto, 0 never, 1 always */
    bool mouse;
    bool calm;           /* paint for keys, and when a job starts or ends, not while it goes on */
    const char *script;       /* commands shown while they run; NULL none */
    int pace_ms;
    int cols, rows;           /* > 0: null terminal of this size (tests, --dump-screen) */
    const char *dump_screen;  /* file that gets the last screen as text; NULL none */
} ScreenOptions;

/* The face with a screen; src/ knows none. */
typedef struct ScreenFace {
    /* Runs the workbench until quit. Restores the terminal in every case. */
    Status (*run)(App *a, const ScreenOptions *o, Error *err);
    const char *(*view_name)(int i); /* of screen i ("rank"); NULL behind the last */
    /* Line `line` of the keys of screen i (0: those of all screens, from 1 on the others in their order): its title in
     * *title, the keys' names, what they do, and the command (NULL: none). false behind the last line. */
    bool (*key_line)(int i, int line, const char **title, char keys[64], const char **help, const char **command);
} ScreenFace;

struct App {
    Session *session;        /* created by the first command that needs it */
    SessionOptions options;
    Dist *dist;              /* the ranks of this job; options.dist: only while they share the work */
    Face face;
    const ScreenFace *screen; /* set by main; NULL: a program without one */
    /* results of commands: stdout, or a pager in the workbench. Never NULL. */
    void (*print)(void *ctx, const char *text, size_t len);
    void *print_ctx;
    bool quit;               /* set by the quit command */
    Session *next;           /* that the workbench or the shell goes on with, once it has left this one; NULL: it ends then */
    char *words;             /* of the command line, for those that attach; options.words */
    char *replay_file;       /* script being run, for messages */
    int replay_line;
    /* screen commands; NULL without a workbench */
    Status (*dump_screen)(void *ctx, const char *path, bool all, Error *err); /* all: the whole list, not the screen */
    Status (*set_theme)(void *ctx, const char *name, Error *err);
    bool (*set_color)(void *ctx, int setting); /* -1 auto, 0 never, 1 always; false: something stronger decides otherwise */
    Status (*set_screen)(void *ctx, const char *name, Error *err);
    Status (*show_plot)(void *ctx, int64_t linear, const struct PlotLook *look, Error *err); /* linear -1: that of the cursor */
    Status (*bind_key)(void *ctx, const char *key, const char *command, Error *err);
    void (*show_help)(void *ctx, const Command *c); /* c NULL: all of them */
    void (*show_log)(void *ctx);
    /* runs the lines of a script one after the other, waiting for jobs between them without blocking the screen; takes
     * a copy of text */
    Status (*run_lines)(void *ctx, const char *name, const char *text, Error *err);
    void *ui_ctx;
    bool async;       /* the running command was prefixed with async */
    bool shows;       /* it changed nothing, but shows what edits did: history is not compacted across it */
    int progress;     /* on stderr: -1 not decided, 0 none, 1 one line, 2 JSON lines, PROGRESS_LINES */
    int log_seen;     /* session log lines already passed on to stderr */
    int depth;        /* nesting of replays */
    int pace_ms;      /* between the lines of a replay that is begun now, on a screen */
    bool detach;      /* what runs goes on without a screen once this program has closed the session */
    bool force;       /* scripts run on other models than those they were recorded with */
    uint64_t weights_read; /* bytes of the model that app_close closed */
    bool implicit;    /* the workbench was opened without being asked for by name: without a terminal a report takes its
                         place */
};

Status app_init(App *a, Face face, Error *err);
/* Takes `next` in the place of the session, which is closed. */
Status app_go_on(App *a, Error *err);
/* Closes the session: the first error of what was to be saved. */
Status app_close(App *a, Error *err);
void app_fini(App *a);

/* ---- commands ---- */

enum {
    CMD_NEEDS_MODEL = 1,
    CMD_LONG = 2,         /* starts a job; scripts wait for it */
    CMD_NO_LOG = 4,       /* help, movement, history: not recorded */
    CMD_CLI = 8,          /* also a subcommand of the program */
    CMD_CLI_ONLY = 16,    /* headless only: quant check info forward tokenize shell resume */
    CMD_DESTROYS = 32,    /* takes ! */
    CMD_EDIT = 64,        /* one undo step */
    CMD_NEUTRAL = 128,    /* a view only: neither changes nor shows what edits do (history is compacted across it) */
    CMD_MARKS = 512,      /* an edit of what is looked at alone (tags, filter): --read-only leaves it */
    CMD_INPUT = 256,      /* its words name files to read: recorded as absolute paths */
    CMD_RANKS = 1024,     /* its work is divided over the ranks of a job on several machines */
};

typedef enum ArgType {
    ARG_FLAG,
    ARG_STR,
    ARG_TEXT /* may be empty */,
    ARG_INT,
    ARG_SIZE,
    ARG_LIST,
    ARG_PATH,
    ARG_CHOICE
} ArgType;
/* What completes an argument. */
typedef enum Completes {
    COMP_NONE,
    COMP_FILE,
    COMP_LAYER,
    COMP_METRIC,
    COMP_VERB,
    COMP_THEME,
    COMP_LEVEL,
    COMP_SCREEN,
    COMP_SORT,
    COMP_FOLD,
    COMP_COLUMN,
    COMP_FILTER,
    COMP_PLOT,
    COMP_SETTING
} Completes;

typedef struct Option {
    const char *name;        /* "calib_dataset"; '-' and '_' are the same when given */
    ArgType type;
    const char *value;       /* "FILE" in the usage; choices as "text|json|csv|yaml" */
    const char *help;
    Completes completes;
} Option;

typedef void OfferWord(void *ctx, const char *word, const char *means); /* means: one line, may be "" */

typedef struct CommandLine CommandLine; /* parsed words and options, src/cmdline.h */

struct Command {
    const char *name;
    const char *args;        /* positional part of the usage: "[TARGET...]" */
    const char *summary;     /* one line */
    const char *help;        /* a paragraph, may be NULL */
    unsigned flags;
    Completes completes;     /* of positional words */
    const Option *options;   /* ends with name == NULL; may be NULL */
    Status (*run)(App *a, const CommandLine *cl, Error *err);
    /* What can stand behind its words so far, each with what it means; words[n] is what has been typed of it. NULL: `completes` says it. */
    void (*offer)(const App *a, const char *const *words, int n, OfferWord *put, void *ctx);
};
extern const Command *const command_table[]; /* NULL-terminated, src/commands.c */
const Command *command_find(const char *name);
/* Whether it changes and runs nothing in the session: all that a session that is attached to another process takes. */
bool command_reads(const Command *c);

/* Parses one line by the lexer and runs it. Records it in the session unless CMD_NO_LOG. Long commands return at once
 * in FACE_UI and FACE_SHELL with "async"; otherwise they wait. An empty line or a comment does nothing. */
Status app_execute(App *a, const char *line, Error *err);
/* As app_execute for words that are already split (argv of a subcommand). */
Status app_execute_words(App *a, int argc, char **argv, Error *err);
/* Runs a script; stops at the first error with "file:line: message". path "-": stdin. */
Status app_script(App *a, const char *path, Error *err);
/* The models that a script was recorded with: of its "# model PATH, fingerprint HEX" lines. */
enum { SCRIPT_MODELS = 8, PRINT_MARK = 17 };
typedef struct ScriptModels {
    char print[SCRIPT_MODELS][PRINT_MARK]; /* the first 16 digits */
    int n;
    bool force;
} ScriptModels;
/* Takes in a line of a script that is to be run now. ST_DATA when the open model is none of those named so far (a line
 * that opens one may). */
Status script_line(App *a, ScriptModels *m, const char *line, Error *err);
/* Runs the rc file ($XDG_CONFIG_HOME/slimscope/rc: set, bind, theme). An interactive face calls it once its hooks are
 * set. No file: ST_OK. */
Status app_rc(App *a, Error *err);
/* Completions of `line` at its end: NULL-terminated array of whole replacement words, caller frees each and it. */
char **app_complete(App *a, const char *line);
/* Appends what is to be told of one of them: a command's summary, an option's help, a metric's title, what a setting is
 * now. Nothing for others. */
void app_complete_help(App *a, const char *line, const char *word, Str *out);
/* Where the line is one word: the names of commands whose name or summary holds it, blind to case; as app_complete. */
char **app_search_commands(const char *line);

/* Path of a data file or folder that ships ("lab_calib/eval.jsonl", "themes"): DECISIONS' search order. Caller frees;
 * NULL + err. */
char *app_find_data(const char *name, Error *err);
/* "$XDG_STATE_HOME/slimscope" or its default; caller frees. */
char *app_state_dir(void);

#endif
