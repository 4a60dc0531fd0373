/* The program's own forms: the workbench (also slimscope alone, and --script) and the shell. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session/settings.h"
#include "src/commands.h"
#include "src/internal.h"

/* Runs a command of the language so that it is part of the history: verb and one word. */
static Status do_command(App *a, const char *verb, const char *word, Error *err)
{
    char *argv[] = {(char *)verb, (char *)word, NULL};
    return app_execute_words(a, 2, argv, err);
}

/* Opens what the command line names, each as the command that would do it by hand. kept: a session with its model is open. */
static Status open_named(App *a, const CommandLine *cl, bool kept, Error *err)
{
    static const char *const files[] = {"recipe", "calib_dataset", "eval", NULL};
    static const char *const verbs[] = {"recipe", "calib", "eval"};
    const char *type = cl_str(cl, "model_type");
    RETURN_IF_ERROR(app_session(a, err));
    if (cl->nwords && !kept) {
        char *argv[] = {"open", (char *)cl->words[0], "--model_type", (char *)type, NULL};
        RETURN_IF_ERROR(app_execute_words(a, type ? 4 : 2, argv, err));
    } else if (!kept && (type || cl_given(cl, "recipe"))) {
        return error_set(err, ST_USAGE, "--%s needs a MODEL", type ? "model_type" : "recipe");
    }
    for (const Setting *s = setting_table; s->key; s++) {
        const char *v = cl_str(cl, s->key);
        Str b = {0};
        str_printf(&b, "%s=%s", s->key, v ? v : "");
        Status st = v ? do_command(a, "set", str_text(&b), err) : ST_OK;
        str_free(&b);
        RETURN_IF_ERROR(st);
    }
    for (int i = 0; files[i]; i++)
        if (cl_given(cl, files[i]))
            RETURN_IF_ERROR(do_command(a, verbs[i], cl_str(cl, files[i]), err));
    return ST_OK;
}

static Status prepare(App *a, const CommandLine *cl, Error *err)
{
    const char *dir = cl_str(cl, "cache-dir");
    if (dir && !(a->options.cache_dir = strdup(dir)))
        return error_nomem(err, "--cache-dir");
    a->options.read_only = cl_given(cl, "read-only");
    a->force = cl_given(cl, "force");
    apply_progress(a, cl);
    return ST_OK;
}

static Status parse_geometry(const char *text, ScreenOptions *o, Error *err)
{
    char more;
    if (sscanf(text, "%4dx%4d%c", &o->cols, &o->rows, &more) != 2 || o->cols < 1 || o->rows < 1 || o->cols > 1000 ||
        o->rows > 1000)
        return error_set(err, ST_USAGE, "--size takes COLUMNSxROWS up to 1000x1000, like 80x24, not '%s'", text);
    return ST_OK;
}

Status screen_options(const CommandLine *cl, ScreenOptions *o, Error *err)
{
    const char *color = cl_str(cl, "color"), *glyphs = cl_str(cl, "glyphs"), *size = cl_str(cl, "size");
    int64_t pace = cl_int(cl, "pace", 0);
    if (cl_given(cl, "mouse") && cl_given(cl, "no-mouse"))
        return error_set(err, ST_USAGE, "--mouse and --no-mouse exclude each other");
    if (color && cl_given(cl, "no-color"))
        return error_set(err, ST_USAGE, "--color and --no-color exclude each other");
    if (pace < 0 || pace > 60000)
        return error_set(err, ST_USAGE, "--pace takes milliseconds from 0 to 60000");
    if (cl_given(cl, "pace") && !cl_given(cl, "script"))
        return error_set(err, ST_USAGE, "--pace needs --script");
    *o = (ScreenOptions){
        .theme = cl_str(cl, "theme"),
        .lang = cl_str(cl, "lang"),
        .glyphs = glyphs ? glyphs : "auto",
        .color = cl_given(cl, "no-color") || (color && strcmp(color, "never") == 0) ? 0
                 : color && strcmp(color, "always") == 0                            ? 1
                                                                                    : -1,
        .calm = cl_given(cl, "calm"),
        .mouse = cl_given(cl, "mouse") || (!cl_given(cl, "no-mouse") && !getenv("TMUX")),
        .script = cl_str(cl, "script"),
        .pace_ms = (int)pace,
        .dump_screen = cl_str(cl, "dump-screen"),
    };
    return size ? parse_geometry(size, o, err) : ST_OK;
}

/* Screen options given where no screen will be. */
static Status refuse_screen_options(const CommandLine *cl, Error *err)
{
    static const char *const names[] = {"pace",     "dump-screen", "theme",    "lang",   "glyphs", "color",
                                        "no-color", "mouse",       "no-mouse", "calm", "session", NULL};
    for (int i = 0; names[i]; i++)
        if (cl_given(cl, names[i]))
            return error_set(err, ST_USAGE,
                             "--%s needs a screen: add --ui, or --size COLUMNSxROWS to draw without a terminal",
                             names[i]);
    return ST_OK;
}

/* What --session says: that session if it is kept, else a new one with this name. */
static Status open_as(App *a, const CommandLine *cl, const char *name, Error *err)
{
    bool kept;
    RETURN_IF_ERROR(session_named(a, cl, name, &kept, err));
    if (!kept && !cl->nwords)
        return error_set(err, ST_USAGE, "no session '%s' is kept: give the MODEL that a new one of this name is to open", name);
    if (!kept && a->options.read_only)
        return error_set(err, ST_USAGE, "--read-only keeps no session that could be named '%s'", name);
    RETURN_IF_ERROR(open_named(a, cl, kept, err));
    return kept ? ST_OK : session_set_name(a->session, name, err);
}

static Status run_script(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(refuse_screen_options(cl, err));
    RETURN_IF_ERROR(app_become(a, FACE_SCRIPT, err));
    RETURN_IF_ERROR(prepare(a, cl, err));
    if (cl->nwords || cl->nvalues > 1)
        RETURN_IF_ERROR(open_named(a, cl, false, err));
    return app_script(a, cl_str(cl, "script"), err);
}

static Status run_workbench(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    bool ui = cl_given(cl, "ui"), script = cl_given(cl, "script"), sized = cl_given(cl, "size");
    if (script && !ui && !sized)
        return run_script(a, cl, err);
    bool tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (!tty && !sized && a->implicit && !ui && cl->nwords) {
        RETURN_IF_ERROR(refuse_screen_options(cl, err));
        RETURN_IF_ERROR(prepare(a, cl, err));
        RETURN_IF_ERROR(open_named(a, cl, false, err));
        return report_run(a, err);
    }
    if (!tty && !sized)
        return error_set(err, ST_USAGE,
                         "the workbench needs a terminal and standard %s is none: run commands with 'slimscope "
                         "--script -', or print a "
                         "ranking with 'slimscope analyze --model_path MODEL'",
                         isatty(STDIN_FILENO) ? "output" : "input");
    ScreenOptions o;
    RETURN_IF_ERROR(screen_options(cl, &o, err));
    RETURN_IF_ERROR(app_become(a, FACE_UI, err));
    RETURN_IF_ERROR(prepare(a, cl, err));
    const char *name = cl_str(cl, "session");
    RETURN_IF_ERROR(name ? open_as(a, cl, name, err) : open_named(a, cl, false, err));
    return app_run_screen(a, &o, err);
}

#define OPTIONS_SESSION                                                                                           \
    {"model_type", ARG_STR, "TYPE", "the model's family (default: read from config.json)", COMP_NONE},             \
    {"recipe", ARG_PATH, "FILE", "quantization recipe (default: W8A8 static)", COMP_FILE},                         \
    {"calib_dataset", ARG_PATH, "FILE", "calibration set (default mix_calib.jsonl)", COMP_FILE},                   \
    {"eval", ARG_PATH, "FILE", "evaluation set (default eval.jsonl)", COMP_FILE},                                  \
    {"ctx", ARG_INT, "N", "evaluation window in tokens (default 512)", COMP_NONE},                                 \
    {"tokens", ARG_INT, "N", "alone, block_error, fisher, errors of outputs: on N tokens of texts' beginnings (default 128, 512, 1,024, 1,024)", COMP_NONE},       \
    OPTION_LABELS,                                                                                                 \
    OPTION_RUNTIME,                                                                                                \
    {"budget", ARG_STR, "SIZE", "hold the set against a budget: +20M above the recipe, 300M, 5.2bits", COMP_NONE},  \
    {"session-cap", ARG_STR, "SIZE", "delete the sessions not used for longest above SIZE together, as 2G (0: none)", COMP_NONE}, \
    {"read-only", ARG_FLAG, NULL, "write nothing: no export, no session", COMP_NONE}

static const Option workbench_options[] = {
    {"script", ARG_PATH, "FILE", "run the commands in FILE (- is standard input) and end; also -x FILE", COMP_FILE},
    {"ui", ARG_FLAG, NULL, "with --script: show the workbench while the script runs", COMP_NONE},
    {"session", ARG_STR, "NAME", "go on with the session of this name, or begin it", COMP_NONE},
    {"force", ARG_FLAG, NULL, "with --script: also on another model than the one it was recorded with", COMP_NONE},
    {"pace", ARG_INT, "MS", "with --ui --script: wait MS milliseconds between commands", COMP_NONE},
    OPTIONS_SCREEN,
    OPTIONS_SESSION,
    OPTIONS_RUN,
    OPTION_PROGRESS,
    {0},
};
const Command command_workbench = {
    .name = "workbench",
    .args = "[MODEL]",
    .summary = "Open the workbench: what 'slimscope MODEL' does.",
    .help = "Without a terminal 'slimscope MODEL' prints the ranking and the measured effect of keeping the two worst "
            "linears in float.",
    .flags = CMD_CLI_ONLY | CMD_NO_LOG,
    .completes = COMP_FILE,
    .options = workbench_options,
    .run = run_workbench,
};

static Status run_shell(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    RETURN_IF_ERROR(app_become(a, FACE_SHELL, err));
    RETURN_IF_ERROR(prepare(a, cl, err));
    Status st = app_rc(a, err);
    if (st != ST_OK && !isatty(STDIN_FILENO))
        return st;
    if (st != ST_OK) /* a slip in the settings must not keep a person out */
        app_note(a, "%s", err->text);
    if (cl->nwords || cl->nvalues)
        RETURN_IF_ERROR(open_named(a, cl, false, err));
    return app_shell(a, err);
}
static const Option shell_options[] = {
    OPTIONS_SESSION,
    OPTIONS_RUN,
    OPTION_PROGRESS,
    {0},
};
const Command command_shell = {
    .name = "shell",
    .args = "[MODEL]",
    .summary = "A prompt for the command language, without a screen.",
    .flags = CMD_CLI_ONLY | CMD_NO_LOG,
    .completes = COMP_FILE,
    .options = shell_options,
    .run = run_shell,
};
