#ifndef SLIM_SRC_INTERNAL_H
#define SLIM_SRC_INTERNAL_H

#include "src/app.h"
#include "src/cmdline.h"
#include "src/output.h"

/* Shared by the files of src/; faces use app.h. */

/* ---- app.c ---- */

/* The session, created on first use with a->options. */
Status app_session(App *a, Error *err);
/* ST_USAGE unless a model is open. */
Status app_need_model(const App *a, Error *err);
/* A line on stderr in the headless faces, in the session's log otherwise: notes and warnings that are no result. */
void app_note(App *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* One text on standard error, behind what was printed before it; what a terminal would obey is shown as '?'. */
void tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Writes out what standard output holds; false once that failed. output_fault says why. */
bool output_flush(void);
const char *output_fault(void);
/* Prints text to stdout (or the workbench's pager), or writes it to `out` atomically when not NULL. */
Status app_result(App *a, const Str *text, const char *out, Error *err);
/* Session log lines not seen yet go to stderr in the headless faces; skip (may be NULL): a text that the caller prints
 * itself. */
void app_pass_log(App *a, const char *skip);
/* Makes the program's one-shot App an interactive one: sessions are kept on disk from now on. */
Status app_become(App *a, Face face, Error *err);
/* Union of the linears that n targets name into a fresh [nlinears]; caller frees. */
Status select_linears(const Session *s, const char *const *targets, int n, bool **out, Error *err);
/* session_open_model, after a look whether there is a folder. */
Status app_open_model(App *a, const char *path, const char *type, Error *err);
/* ST_USAGE with the nearest command's name; a_folder: it may have been meant for a model's folder. */
Status unknown_command(const char *name, bool a_folder, Error *err);
/* Runs the workbench; ST_USAGE in a program without a screen. */
Status app_run_screen(App *a, const ScreenOptions *o, Error *err);
/* Whether a long command waits here: everywhere but in the workbench and after "async". */
bool app_waits(const App *a);

/* ---- ranks.c ---- */

/* Once at start: finds the other ranks, and whether program, command line, environment, C library are the same everywhere;
 * kernels are those that every processor runs. All ranks but 0 are silent from here on. */
Status ranks_begin(App *a, int argc, char **argv, Error *err);
/* Whether this rank runs the command: all do where its work is divided, else rank 0 alone. */
bool ranks_share(App *a, const Command *c);
/* Once at the end, with how this rank ended, of which rank 0 has told: gives the exit code's status. */
Status ranks_end(App *a, Status st, Error *err);
/* The command at work is an analysis whose session goes on, whatever ends this job. */
void ranks_keep_session(void);
/* What is told where a rank is lost: a plan's tries are kept. */
void ranks_keep_tries(void);

/* What --device and the recipe's runner (r NULL: a command without one) come to, in a line: a list of devices is work for
 * ranks. Under --compat peer ST_USAGE where the peer divides and a processor of the recipe can't. */
Status ranks_for_devices(App *a, const CommandLine *cl, const Recipe *r, Error *err);

/* ---- cmd_job.c ---- */

/* The number of a job that the command's word gives ("3", "#3"), 0: none was given. */
Status job_word(const CommandLine *cl, int *id, Error *err);

/* ---- wait.c ---- */

/* Waits for the queue to drain: passes the session's log on to stderr, shows progress, turns SIGINT into cancel (first:
 * level 1, second: 2). Gives the status of the job that ended last. */
Status app_wait(App *a, Error *err);
/* One line about the newest job's memory on stderr. */
void app_note_memory(App *a);
/* Where the CPU time went, of the jobs that the command waited for; of the program's one command with all that it did
 * before them. workers 0: nobody asked. */
void app_profile(App *a, ProfileReport *out);
/* The same as a table on stderr, where the program's one command asked for it and its result isn't JSON. */
void app_note_profile(App *a, OutFormat f);

/* A long reading of a command: how far it is on stderr, and ^C. */
typedef struct ByteWatch {
    const char *phase, *path;
    int show;        /* App.progress */
    int width;       /* of the progress line */
    int64_t last_ns; /* of the last line */
    int64_t began_ns; /* of the first call, which found so many bytes done */
    uint64_t began;
    Cancel cancel;
} ByteWatch;
/* For what takes (ctx, done, total) in bytes; ctx: ByteWatch. */
void byte_progress(void *ctx, uint64_t done, uint64_t total);
/* Makes SIGINT wake app_wait. Called once by main for the faces without a screen. */
void interrupt_init(void);
/* Raised by a SIGINT that nothing has taken yet: for work outside jobs. */
const Cancel *interrupt_cancel(void);
/* SIGINTs since the last call. */
int interrupt_take(void);

/* ---- data.c ---- */

/* SessionOptions.find_data: an existing path, lab_calib/NAME, the recipe's folder; otherwise the names there are. ctx:
 * App. */
char *app_find_dataset(void *ctx, const char *name, Error *err);
/* "$XDG_CONFIG_HOME/slimscope/rc"; caller frees. */
char *app_rc_path(void);
/* The path as an absolute one when it exists, else a copy; caller frees. */
char *absolute_path(const char *path);

/* ---- script.c ---- */

/* The fingerprint at the end of a recorded line that opened a model ("open PATH # fingerprint HEX"). */
bool line_print(const char *line, char print[PRINT_MARK]);
/* Runs commands first..last (1-based) of the session's history again. */
Status app_replay_range(App *a, int first, int last, Error *err);

/* ---- cmd_help.c ---- */

/* The build, the libraries and their versions, a line each. */
void write_version(Str *out);

/* ---- cmd_resume.c ---- */

/* --session NAME of a command that runs and ends: from here on what it does is kept as a session; ST_USAGE where there is one
 * of this name. Before the session is made. */
Status run_kept(App *a, const CommandLine *cl, Error *err);
/* Gives it the name, once its model is open. */
Status run_named(App *a, const CommandLine *cl, Error *err);

Status sessions_list(App *a, Error *err);
/* Offers sessions for completion: closed: those that no process has open, by name where they have one; else all but the open
 * one, by ID. */
void offer_sessions(const App *a, bool closed, OfferWord *put, void *ctx);
/* Deletes what `ids` names (NULL: every closed one that was not changed for `days` days). */
Status sessions_delete(App *a, const char *const *ids, int64_t days, Error *err);
/* A session that was opened again goes on with the jobs it was at, unless --no-run was given (cl NULL: it wasn't), and says so. */
void session_follow(App *a, const CommandLine *cl);
/* Goes on with the session of this name or id, or of this saved file, once the command has ended (App.next); the open one
 * is closed and kept. verb: how it was asked for, for messages; stop: a running job is no reason to refuse. Workbench and
 * shell only. */
Status session_go_to(App *a, const char *word, const char *verb, bool stop, Error *err);
/* Opens the kept session of this name, or ID, and goes on with what it was at. *found: false without one. ST_USAGE: the command
 * line names another model than the session's. */
Status session_named(App *a, const CommandLine *cl, const char *name, bool *found, Error *err);

/* ---- detach.c ---- */

/* Starts 'resume ID --headless' of a session that is closed, in a process that outlives this one and its terminal; what it
 * prints goes to the file "detached" of the session's folder. */
Status session_detach(const char *state_dir, const char *id, Error *err);

/* ---- cmd_history.c ---- */

/* A replayable script of the session's commands, undone edits left out. */
Status history_script(const Session *s, Str *out, Error *err);

/* ---- shell.c ---- */

/* Reads commands until quit or the end of input: a prompt with history and completion on a terminal, plain lines
 * otherwise. An error is printed and the next line is read; without a terminal it ends the shell with that command's
 * status. */
Status app_shell(App *a, Error *err);

/* ---- cmd_tune.c ---- */

/* Waits for the search that runs, prints what it found, also when it was stopped, and says whether its goal is held: ST_FAIL when not. */
Status tune_finish(App *a, OutFormat f, Error *err);

/* ---- options that several commands share (commands.c) ---- */

#define OPTION_ARITH {"dtype-sim", ARG_CHOICE, ARITH_WORDS, "arithmetic; " ARITH_HELP, COMP_NONE}
/* How a run computes: rows for the end of an option table. */
#define OPTIONS_RUN                                                                                                    \
    {"threads", ARG_INT, "N", "compute threads (0, the default: every core this process may use)", COMP_NONE},                \
        {"mem", ARG_SIZE, "SIZE", "memory bound, 300M or 4G (default: 70 % of what is available)", COMP_NONE},         \
        {"max-samples", ARG_INT, "N", "use only the first N texts (0, the default: all)", COMP_NONE},                         \
        {"seq-len", ARG_INT, "N", "cut texts to N tokens (0, the default: no limit)", COMP_NONE},                             \
        OPTION_ARITH,                                                                                                  \
        {"compat", ARG_CHOICE, "peer",                                                                                 \
         "quantize exactly as msModelSlim does, quirks included; implies --dtype-sim exact", COMP_NONE},               \
        {"seed", ARG_INT, "N", "random seed (default 42)", COMP_NONE},                                                 \
        {"profile", ARG_FLAG, NULL, "tell where the CPU time went, by the parts of the work", COMP_NONE},              \
    {                                                                                                                  \
        "cache-dir", ARG_PATH, "DIR", "keep intermediate states below DIR too, not only in memory", COMP_FILE          \
    }
#define OPTION_RUNTIME                                                                                                 \
    {                                                                                                                  \
        "runtime", ARG_CHOICE, RUNTIME_WORDS, "the engine that shall load it: what breaks a rule of it is an error",   \
            COMP_NONE                                                                                                  \
    }
#define OPTION_LABELS                                                                                                  \
    {                                                                                                                  \
        "labels", ARG_CHOICE, "model|data",                                                                            \
            "fisher: gradients for tokens drawn from the model (default), or for the texts' next tokens", COMP_NONE    \
    }
#define OPTION_DEVICE                                                                                                  \
    {                                                                                                                  \
        "device", ARG_STR, "DEVICE", "cpu (default), or msModelSlim's npu:0,1,2,3: ranks on processors stand for those", COMP_NONE \
    }
#define OPTION_SESSION                                                                                                 \
    {                                                                                                                  \
        "session", ARG_STR, "NAME", "keep what is found as a session of this name: attach looks at it, resume opens it", \
            COMP_NONE                                                                                                  \
    }
#define OPTION_READ                                                                                                    \
    {                                                                                                                  \
        "read", ARG_CHOICE, "once|all",                                                                                \
            "ranks that divide texts read each layer's weights once together, or each all (default)", COMP_NONE        \
    }
#define OPTION_PROGRESS                                                                                                \
    {                                                                                                                  \
        "progress", ARG_CHOICE, "auto|always|json|never", "progress on stderr (auto: when stderr is a terminal)",      \
            COMP_NONE                                                                                                  \
    }

/* What measures takes: what it opens, and how it runs. */
#define OPTIONS_EFFECT                                                                                                 \
    {"model_path", ARG_PATH, "DIR", "the model's folder", COMP_FILE},                                                  \
        {"model_type", ARG_STR, "TYPE", "the model's family (default: read from config.json)", COMP_NONE},             \
        {"recipe", ARG_PATH, "FILE", "quantization recipe (default: W8A8 static)", COMP_FILE},                         \
        {"exclude", ARG_LIST, "PATTERN...", "keep these linears in float, with their fused groups", COMP_LAYER},       \
        {"eval", ARG_PATH, "FILE", "evaluation set (default eval.jsonl)", COMP_FILE},                                  \
        {"calib_dataset", ARG_PATH, "FILE", "calibration set (default mix_calib.jsonl)", COMP_FILE},                   \
        {"full", ARG_FLAG, NULL, "the whole evaluation set instead of 1,024 tokens of it", COMP_NONE},                 \
    {                                                                                                                  \
        "ctx", ARG_INT, "N", "evaluation window in tokens (default 512)", COMP_NONE                                    \
    }
#define OPTIONS_EFFECT_RUN OPTION_RUNTIME, OPTIONS_RUN, OPTION_SESSION, OPTION_PROGRESS

/* check without a path: what the export of the present decision proves, and the rules of engines that it breaks. */
Status check_decision(App *a, Error *err);
/* Applies the run options given: to a->options before there is a session, through session_set afterwards. */
Status apply_run_options(App *a, const CommandLine *cl, Error *err);
/* Sets how progress is shown from --progress. */
void apply_progress(App *a, const CommandLine *cl);
/* ST_USAGE unless there are at least min and at most max (-1: any number) words. */
Status want_words(const CommandLine *cl, int min, int max, Error *err);

/* Asks on stderr, so that standard output stays the result, and reads the answer from standard input: a PracticeAnswer. */
bool ask_person(void *ctx, const char *question, char *line, size_t size);

/* tune --config (cmd_plan.c): begins, waits for and prints a plan's tries; prints them as they stand. */
Status plan_tune(App *a, const CommandLine *cl, Error *err);
Status plan_finish(App *a, OutFormat f, Error *err);
Status plan_show(App *a, OutFormat f, Error *err);

/* The text of 'help analyses', and of one metric (help_analyses.c). */
void help_analyses(Str *out);
void help_metric(const Metric *m, Str *out);

#endif
