/* Scores of other programs as columns of the table. */
#include <string.h>

#include "io/file.h"
#include "src/commands.h"
#include "src/internal.h"

static Status load_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 2, 2, err));
    if (strcmp(path_base(cl->words[0]), "scores") != 0) /* recorded with its folder, where a file is called so */
        return error_set(err, ST_USAGE, "'load %s' is not known: load scores FILE", cl->words[0]);
    Str what = {0};
    Status st = session_load_scores(a->session, cl->words[1], cl_str(cl, "as"), &what, err);
    for (char *line = what.s, *next; st == ST_OK && line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        app_note(a, "%s", line);
    }
    str_free(&what);
    return st;
}

static const Option load_options[] = {
    {"as", ARG_STR, "NAME", "the column's name (default: the file's name without its end)", COMP_NONE},
    {0},
};
const Command command_load = {
    .name = "load",
    .args = "scores FILE",
    .summary = "Show scores that another program made as a column beside those that are made here.",
    .help = "The log of msModelSlim's analyze, an imatrix of llama.cpp (.dat or .gguf: the sum of the mean squares of a layer's "
            "inputs), JSON (what rank writes, or {NAME: SCORE}), CSV (what rank and export write, or name,score), or a recipe "
            "(.yaml: 1 for what it leaves float). Then show, sort, rank and export know it by its name, and say where it comes "
            "from; a file with several columns gives NAME.COLUMN each. Names that are no layers are counted.",
    .flags = CMD_NEEDS_MODEL | CMD_INPUT,
    .completes = COMP_FILE,
    .options = load_options,
    .run = load_run,
};
