/* measure and export: the effect of the present assignment, and the files it is written as. */
#include <stdlib.h>
#include <string.h>

#include "export/export.h"
#include "src/commands.h"
#include "src/compare.h"
#include "src/internal.h"
#include "src/output.h"

Status open_for_effect(App *a, const CommandLine *cl, bool once, Error *err)
{
    int n;
    if (a->face != FACE_CLI && (cl_given(cl, "recipe") || cl_given(cl, "exclude")))
        return error_set(
            err, ST_USAGE,
            "--recipe and --exclude belong to the program's command line: use 'recipe' and 'exclude' here");
    a->options.once = once && a->face == FACE_CLI;
    RETURN_IF_ERROR(open_for_run(a, cl, NULL, err));
    const char *recipe = cl_str(cl, "recipe"), *eval = cl_str(cl, "eval");
    if (recipe)
        RETURN_IF_ERROR(session_open_recipe(a->session, recipe, NULL, err));
    if (eval)
        RETURN_IF_ERROR(session_set_eval(a->session, eval, err));
    const char **exclude = cl_list(cl, "exclude", &n);
    Status st = exclude ? ST_OK : error_nomem(err, "a list of patterns");
    if (st == ST_OK && cl_given(cl, "exclude"))
        st = n ? session_edit(a->session, exclude, n, 0, false, NULL, err)
               : error_set(err, ST_USAGE, "--exclude needs at least one pattern");
    free(exclude);
    return st;
}

static Status run_recipes(App *a, const CommandLine *cl, Error *err)
{
    Str b = {0};
    RETURN_IF_ERROR(open_for_effect(a, cl, false, err));
    Status st = measure_recipes(a, cl, out_format(cl_str(cl, "format")), &b, err);
    if (st == ST_OK && b.oom)
        st = error_nomem(err, "a comparison");
    if (st == ST_OK)
        st = app_result(a, &b, cl_str(cl, "out"), err);
    str_free(&b);
    app_note_memory(a);
    return st;
}

/* One recipe as a word is what --recipe names. */
static Status open_word(App *a, const CommandLine *cl, Error *err)
{
    if (!cl->nwords)
        return ST_OK;
    if (cl_given(cl, "recipe") || cl_given(cl, "exclude"))
        return error_set(err, ST_USAGE, "name the recipe '%s' by --recipe alone, beside --exclude, too", cl->words[0]);
    return session_open_recipe(a->session, cl->words[0], NULL, err);
}

static Status run_measure(App *a, const CommandLine *cl, Error *err)
{
    if (cl->nwords > 1)
        return run_recipes(a, cl, err);
    if (out_format(cl_str(cl, "format")) == OUT_CSV)
        return error_set(err, ST_USAGE, "--format csv is of several recipes: 'measure A.yaml B.yaml'");
    RETURN_IF_ERROR(open_for_effect(a, cl, true, err));
    if (!app_waits(a) && (cl_given(cl, "format") || cl_given(cl, "out")))
        return error_set(err, ST_USAGE, "the measurement goes on in the background: --format and --out do not apply");
    RETURN_IF_ERROR(open_word(a, cl, err));
    RETURN_IF_ERROR(session_measure(a->session, cl_given(cl, "full"), err));
    if (!app_waits(a))
        return ST_OK;
    Status st = app_wait(a, err);
    OutFormat f = out_format(cl_str(cl, "format"));
    const Effect *e = session_effect(a->session, NULL);
    if (st == ST_OK && !e)
        st = error_set(err, ST_INTERNAL, "the measurement ended without a result");
    if (st == ST_OK) {
        Str text = {0};
        ProfileReport profile;
        app_profile(a, &profile);
        st = output_effect(a->session, f, e, &profile, &text, err);
        if (st == ST_OK)
            st = app_result(a, &text, cl_str(cl, "out"), err);
        str_free(&text);
    }
    app_note_memory(a);
    app_note_profile(a, f);
    return st;
}

static const Option measure_options[] = {
    OPTIONS_EFFECT,
    {"format", ARG_CHOICE, "text|json|csv", "of the result (default text; csv: of several recipes)", COMP_NONE},
    {"out", ARG_PATH, "FILE", "write the result to FILE (whole or not at all) instead of standard output", COMP_FILE},
    OPTIONS_EFFECT_RUN,
    OPTION_READ,
    {0},
};
const Command command_measure = {
    .name = "measure",
    .args = "[RECIPE...]",
    .summary = "Quantize with the present assignment and measure the effect against float.",
    .help = "KL divergence, top-token agreement and perplexity on the evaluation set, error of the last decoder output "
            "on the calibration set; only layers after the first change run again. The evaluation takes the first "
            "window of every text, then the second of every text, and so on. Differences of KL below 1 to 2 % are noise. "
            "A recipe can be named as a word. Of several: a table, each measured on the same tokens and held against the "
            "first with the paired error of the difference; the float model runs once, and the last recipe stays open.",
    .flags = CMD_LONG | CMD_CLI | CMD_RANKS,
    .completes = COMP_FILE,
    .options = measure_options,
    .run = run_measure,
};

static Status print_preview(App *a, const Export *e, Error *err)
{
    Str b = {0};
    str_append(&b, str_text(&e->text), e->text.len);
    if (e->diff.len)
        str_printf(&b, "\n%s", str_text(&e->diff));
    Status st = app_result(a, &b, NULL, err);
    str_free(&b);
    return st;
}

static void note_checks(App *a, const Export *e)
{
    for (int i = 0; i < e->nchecks; i++)
        app_note(a, "[%s] %s", e->checks[i].ok ? "ok" : e->checks[i].blocking ? "!!" : "..", e->checks[i].text);
}

static Status run_export(App *a, const CommandLine *cl, Error *err)
{
    bool preview = cl_given(cl, "preview");
    RETURN_IF_ERROR(want_words(cl, preview ? 0 : 1, 1, err));
    RETURN_IF_ERROR(apply_run_options(a, cl, err));
    Export e;
    const char *path = cl->nwords ? cl->words[0] : NULL, *as = cl_str(cl, "as");
    RETURN_IF_ERROR(session_export_preview(a->session, path, as, &e, err));
    Status st = preview ? print_preview(a, &e, err) : ST_OK;
    note_checks(a, &e);
    export_fini(&e);
    if (preview || st != ST_OK)
        return st;
    RETURN_IF_ERROR(session_export(a->session, path, as, cl->bang, err));
    app_note(a, "written: %s", path);
    return ST_OK;
}
static const Option export_options[] = {
    {"as", ARG_CHOICE, EXPORT_WORDS, "what it is written as (default: by the file's name; yaml)", COMP_NONE},
    {"preview", ARG_FLAG, NULL, "print the text, a recipe's difference to the file, and the checks; write nothing",
     COMP_NONE},
    OPTION_RUNTIME,
    {0},
};
const Command command_export = {
    .name = "export",
    .args = "FILE",
    .summary = "Write the present assignment: as a recipe (YAML), or for another tool. With ! an existing file is replaced.",
    .help = "yaml (.yaml): for msModelSlim and slimscope. compressed-tensors: a recipe for llm-compressor, with its list of "
            "ignored layers. gptqmodel: arguments of GPTQModel's QuantizeConfig, with dynamic. llama.cpp (.txt): for "
            "llama-quantize --tensor-type-file. csv (.csv): a table of layers with level, bits, bytes and scores. Every "
            "text is read again by the rules of the tool it is for, and is written only if each layer gets the level it "
            "has here; a level or layer that the tool has no words for is refused by its name.",
    .flags = CMD_NEEDS_MODEL | CMD_DESTROYS,
    .completes = COMP_FILE,
    .options = export_options,
    .run = run_export,
};
