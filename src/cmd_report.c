/* report: the session as one page. */
#include "io/file.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/page.h"

static Status write_page(App *a, const CommandLine *cl, const Str *text, Error *err)
{
    const char *path = cl->words[0];
    if (file_exists(path) && !cl->bang) {
        if (file_holds(path, str_text(text), text->len))
            return ST_OK;
        return error_set(err, ST_IO, "'%s' is there already with other content: add ! to replace it", path);
    }
    return app_result(a, text, path, err);
}

static Status page_run(App *a, const CommandLine *cl, Error *err)
{
    Str text = {0};
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    if (session_options(a->session)->read_only)
        return error_set(err, ST_USAGE, "opened with --read-only: nothing is written");
    Status st = page_report(a->session, &text, err);
    if (st == ST_OK)
        st = write_page(a, cl, &text, err);
    if (st == ST_OK)
        app_note(a, "written: %s", cl->words[0]);
    str_free(&text);
    return st;
}
const Command command_report = {
    .name = "report",
    .args = "FILE.html",
    .summary = "Write the session as one page of HTML. With ! an existing file is replaced.",
    .help = "Model, data and scheme, the decision, measurements with their errors, KL over size, where the shown metric is high (a heat "
            "map of layers and kinds), two metrics as a scatter, histograms of the worst layers, and the ranking of every metric there "
            "is. The page needs nothing beside it and no scripts, and is light or dark as the reader's screen.",
    .flags = CMD_NEEDS_MODEL | CMD_DESTROYS,
    .completes = COMP_FILE,
    .run = page_run,
};
