#ifndef SLIM_SRC_COMMANDS_H
#define SLIM_SRC_COMMANDS_H

#include "src/app.h"
#include "src/cmdline.h"

/* The one list of verbs: command_NAME in the cmd_*.c file of its group, in the order in which they are listed. */
#define COMMAND_ROWS(ROW)                                                                                          \
    ROW(open) ROW(calib) ROW(eval) ROW(recipe) ROW(save) ROW(load) ROW(analyze) ROW(rank) ROW(show) ROW(sort) ROW(filter) ROW(savefilter) ROW(fold) ROW(columns) ROW(sheet) ROW(say)    \
    ROW(tag) ROW(exclude) ROW(include) ROW(level) ROW(rule) ROW(undo) ROW(redo) ROW(measure) ROW(compare) ROW(take) \
    ROW(fit) ROW(grow) ROW(trim) ROW(keep) ROW(swap) ROW(sets) ROW(front) ROW(tune) ROW(answer) ROW(guide) ROW(interact) \
    ROW(export) ROW(report) ROW(quantize) \
    ROW(history) ROW(log) ROW(session) ROW(replay) ROW(set) ROW(bind) ROW(theme) ROW(screen) ROW(dump) ROW(wait) ROW(cancel) ROW(pause) ROW(resume) ROW(attach) ROW(priority) ROW(discard) ROW(profile) \
    ROW(quant) ROW(convert) ROW(info) ROW(tensors) ROW(plot) ROW(hist) ROW(heat) ROW(schemes) ROW(check) ROW(forward) ROW(generate) ROW(tokenize) ROW(shell) ROW(workbench) ROW(help) ROW(version)    \
    ROW(quit)
#define COMMAND_DECLARE(name) extern const Command command_##name;
COMMAND_ROWS(COMMAND_DECLARE)

/* Opens what a one-shot analyze or measure names (model, run options, calibration set; calib: its default, NULL none);
 * in the other faces checks that a model is open and applies the options given. */
Status open_for_run(App *a, const CommandLine *cl, const char *calib, Error *err);
/* The same for what measures, with its recipe, evaluation set and excludes. once: no second measurement is to come. */
Status open_for_effect(App *a, const CommandLine *cl, bool once, Error *err);
/* The one linear that a word names: its name, or a pattern of one. ST_USAGE: it names none or several. */
Status one_linear(const Session *s, const char *word, int64_t *out, Error *err);
/* --size CxR of a drawing, 80x20 where it is not given. ST_USAGE. */
Status plot_size(const CommandLine *cl, int *w, int *h, Error *err);
/* Refuses what the peer's options can't mean, as --device gpu. */
Status check_peer_options(App *a, const CommandLine *cl, Error *err);
struct ConvertDoc;
/* Runs a document of modelslim_convert as the options of 'convert' and 'quant' say; prints what it did. */
Status run_conversion(App *a, const CommandLine *cl, const char *model, const struct ConvertDoc *doc, Error *err);
/* *out NULL: the file is no such document. */
Status open_conversion(const char *path, struct ConvertDoc **out, Error *err);
/* The ranked table and the measured effect of keeping the two worst linears in float, for a model without a terminal
 * (make demo). */
Status report_run(App *a, Error *err);
/* How a screen is drawn: rows of an option table, and what they say. */
#define OPTIONS_SCREEN  \
    {"size", ARG_STR, "CxR", "draw on a screen of C columns and R rows without a terminal", COMP_NONE}, \
    {"dump-screen", ARG_PATH, "FILE", "write the last screen to FILE as text", COMP_FILE}, \
    {"theme", ARG_STR, "NAME", "colours", COMP_THEME}, \
    {"lang", ARG_STR, "auto|en|zh", "language of the workbench's words (auto: LC_ALL, LC_MESSAGES, LANG)", COMP_NONE}, \
    {"glyphs", ARG_CHOICE, "auto|braille|block|ascii", "characters that bars and histograms are drawn with", COMP_NONE}, \
    {"color", ARG_CHOICE, "auto|always|never", "whether colours are used (NO_COLOR counts in auto)", COMP_NONE}, \
    {"no-color", ARG_FLAG, NULL, "as --color never", COMP_NONE}, \
    {"mouse", ARG_FLAG, NULL, "use the mouse (default outside tmux)", COMP_NONE}, \
    {"no-mouse", ARG_FLAG, NULL, "leave the mouse to the terminal", COMP_NONE}, \
    {"calm", ARG_FLAG, NULL, "nothing moves by itself: paint for keys, and when a job starts or ends", COMP_NONE}
Status screen_options(const CommandLine *cl, ScreenOptions *o, Error *err);
/* The manual page, generated from the tables. */
void write_man_page(const ScreenFace *face, Str *out);

#endif
