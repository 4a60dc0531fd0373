/* report: the session as one page, or as text. */
#include <string.h>

#include "base/str.h"
#include "io/file.h"
#include "src/canvas.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/page.h"
#include "src/reportdata.h"

static Status write_page(App *a, const char *path, bool replace, const Str *text, Error *err)
{
    if (session_options(a->session)->read_only)
        return error_set(err, ST_USAGE, "opened with --read-only: nothing is written");
    if (file_exists(path) && !replace) {
        if (file_holds(path, str_text(text), text->len))
            return ST_OK;
        return error_set(err, ST_IO, "'%s' is there already with other content: add ! to replace it", path);
    }
    RETURN_IF_ERROR(app_result(a, text, path, err));
    app_note(a, "written: %s", path);
    return ST_OK;
}

/* What the command line has no session for yet: the analysis with its histograms, then the measured effect. */
static Status make_session(App *a, const CommandLine *cl, Error *err)
{
    static const char *const metrics[] = {"block_error", "local_error", "alone", NULL};
    Error own = {0};
    RETURN_IF_ERROR(open_for_effect(a, cl, false, err));
    if (a->face != FACE_CLI)
        return ST_OK;
    RETURN_IF_ERROR(session_analyze(a->session, metrics, NULL, 0, true, err));
    RETURN_IF_ERROR(app_wait(a, err));
    Status st = session_measure(a->session, cl_given(cl, "full"), &own);
    st = st == ST_OK ? app_wait(a, &own) : st;
    if (st == ST_CANCELLED || st == ST_NOMEM)
        return error_set(err, st, "%s", own.text);
    if (st != ST_OK)
        app_note(a, "the report is without a measurement: %s", own.text);
    return ST_OK;
}

static Status report_command(App *a, const CommandLine *cl, Error *err)
{
    const char *out = cl_str(cl, "out"), *format = cl_str(cl, "format");
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    if (out && cl->nwords)
        return error_set(err, ST_USAGE, "the file is named twice: '%s' and --out '%s'", cl->words[0], out);
    const char *path = cl->nwords ? cl->words[0] : out;
    bool text = format ? strcmp(format, "text") == 0 : !path || str_ends_with(path, ".txt");
    RETURN_IF_ERROR(make_session(a, cl, err));
    Str page = {0};
    Status st = text ? report_text(a->session, canvas_form(cl_str(cl, "glyphs")), &page, err) : page_report(a->session, &page, err);
    if (st == ST_OK)
        st = path ? write_page(a, path, cl->bang || out, &page, err) : app_result(a, &page, NULL, err);
    str_free(&page);
    return st;
}

static const Option report_options[] = {
    OPTIONS_EFFECT,
    {"format", ARG_CHOICE, "html|text", "of the report (default: text without a file and for .txt, else html)", COMP_NONE},
    {"out", ARG_PATH, "FILE", "write the report to FILE (whole or not at all), also over an existing one", COMP_FILE},
    {"glyphs", ARG_CHOICE, "auto|braille|block|ascii", "text: characters to draw with (auto: blocks in a UTF-8 locale)", COMP_NONE},
    OPTIONS_EFFECT_RUN,
    {0},
};
const Command command_report = {
    .name = "report",
    .args = "[FILE]",
    .summary = "Write the session as one page of HTML, or print it as text. With ! an existing file is replaced.",
    .help = "Model, data and scheme, the decision, measurements with their errors, KL over size, where the shown metric is high (a heat "
            "map of layers and kinds), two metrics as a scatter, plots of the worst layers (inputs, channels, weights and what quantizing "
            "leaves of them, maps of errors), and the ranking of every metric there is. The page needs nothing beside it and no scripts, and "
            "is light or dark as the reader's screen. Without a file it is text of 80 columns. On the command line the analysis and a "
            "measurement are made first.",
    .flags = CMD_CLI | CMD_DESTROYS,
    .completes = COMP_FILE,
    .options = report_options,
    .run = report_command,
};
