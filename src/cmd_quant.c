/* quant and quantize: the quantized model that an inference engine loads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "convert/convert.h"
#include "io/file.h"
#include "recipe/practice.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"
#include "src/quant_report.h"

/* ---- log lines of the program's form ---- */

/* MSMODELSLIM_LOG_LEVEL: info (also when it isn't set) or debug. */
static Status log_level(bool *debug, Error *err)
{
    const char *v = getenv("MSMODELSLIM_LOG_LEVEL");
    *debug = v && ascii_casecmp(v, "debug") == 0;
    if (!v || !*v || *debug || ascii_casecmp(v, "info") == 0)
        return ST_OK;
    return error_set(err, ST_USAGE, "MSMODELSLIM_LOG_LEVEL is '%s': set it to info or debug, or unset it", v);
}

/* "YYYY-MM-DD hh:mm:ss,mmm - slimscope.quant - INFO - text" on stderr (specs/config.md 9). */
static void log_phase(const App *a, const char *text)
{
    struct timespec now;
    struct tm tm;
    char when[32];
    if (a->face != FACE_CLI)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&now.tv_sec, &tm));
    tell("%s,%03ld - slimscope.quant - INFO - %s\n", when, now.tv_nsec / 1000000, text);
}

/* ---- which recipe ---- */

/* Practices of the user's folder and of those that ship. */
static Status load_library(PracticeLibrary *lib, const char *pedigree, Error *err)
{
    const char *own = getenv("MSMODELSLIM_CUSTOM_PRACTICE_REPO");
    if (own && *own)
        RETURN_IF_ERROR(practice_add_folder(lib, own, PRACTICE_CUSTOM, pedigree, err));
    char *shipped = app_find_data("lab_practice", err);
    if (!shipped)
        return err ? err->status : ST_DATA;
    Status st = practice_add_folder(lib, shipped, PRACTICE_OFFICIAL, pedigree, err);
    free(shipped);
    return st;
}

/* Of several ranks the first has a person in front of it; its answer is that of all. */
static bool ask_once(void *ctx, const char *question, char *line, size_t size)
{
    App *a = ctx;
    char said[256] = "";
    bool answered = dist_leads(a->dist) && ask_person(NULL, question, said, sizeof said);
    if (dist_from_first(a->dist, &answered, sizeof answered, NULL) != ST_OK
        || dist_from_first(a->dist, said, sizeof said, NULL) != ST_OK)
        return false;
    snprintf(line, size, "%s", said);
    return answered;
}

static Status choose_practice(App *a, const CommandLine *cl, bool trace, char **path, Error *err)
{
    int ntags = 0;
    const char **tags = cl_list(cl, "tag", &ntags);
    PracticeLibrary *lib = NULL;
    PracticeModel who;
    PracticeChoice choice;
    Str why = {0};
    const Model *m = session_model(a->session);
    practice_identify(cl_str(cl, "model_type"), path_base(m->path), m->cfg.model_type, &who);
    Status st = tags ? practice_library_new(&lib, &recipe_rows, err) : error_nomem(err, "a list of tags");
    if (st == ST_OK)
        st = load_library(lib, who.pedigree, err);
    if (st == ST_OK) {
        PracticeQuery q = {.model_type = who.model_type, .pedigree = who.pedigree, .guessed = who.guessed,
                           .quant_type = cl_str(cl, "quant_type"), .tags = tags, .ntags = ntags};
        if (*practice_notes(lib))
            app_note(a, "%s", practice_notes(lib));
        st = practice_choose(lib, &q, &choice, trace ? &why : NULL, err);
        if (why.len)
            tell("%s", str_text(&why));
    }
    if (st == ST_OK)
        st = practice_confirm(&choice, cl_given(cl, "yes") || cl_given(cl, "dry-run"), ask_once, a, err);
    if (st == ST_OK) {
        app_note(a, "practice %s: %s", choice.practice->id, choice.practice->path);
        *path = strdup(choice.practice->path);
        st = *path ? ST_OK : error_nomem(err, "a path");
    }
    practice_library_free(lib);
    str_free(&why);
    free(tags);
    return st;
}

static Status open_quant_recipe(App *a, const CommandLine *cl, bool debug, Error *err)
{
    const char *config = cl_str(cl, "config_path");
    if (config && cl_given(cl, "tag"))
        app_note(a, "note: --tag chooses among practices: it is not used with --config_path");
    if (config)
        return session_open_recipe(a->session, config, NULL, err);
    char *path = NULL;
    Status st = choose_practice(a, cl, debug || cl_given(cl, "why"), &path, err);
    if (st == ST_OK)
        st = session_open_recipe(a->session, path, NULL, err);
    free(path);
    return st;
}

/* ---- the run ---- */

/* --dry-run: what would be done. */
static Status print_outline(App *a, const QuantizeOptions *o, OutFormat f, Error *err)
{
    QuantizeOutline outline;
    RETURN_IF_ERROR(session_quantize_outline(a->session, o, &outline, err));
    Str text = {0};
    Status st = quant_outline_text(a->session, o, &outline, f, &text, err);
    quantize_outline_fini(&outline);
    if (st == ST_OK)
        st = app_result(a, &text, NULL, err);
    str_free(&text);
    return st;
}

static Status quantize_and_print(App *a, const QuantizeOptions *o, OutFormat f, Error *err)
{
    RETURN_IF_ERROR(session_quantize(a->session, o, err));
    if (!app_waits(a))
        return ST_OK;
    Status st = app_wait(a, err);
    const QuantizeDone *done = session_quantized(a->session);
    if ((st == ST_OK || st == ST_FAIL) && done) {
        Str text = {0};
        Error second = {0};
        ProfileReport profile;
        app_profile(a, &profile);
        quant_done_text(a->session, done, f, &profile, &text);
        Status printed = app_result(a, &text, NULL, &second);
        str_free(&text);
        if (st == ST_OK && printed != ST_OK) {
            *err = second;
            st = printed;
        }
    } else if (st == ST_CANCELLED) {
        error_set(err, st, "stopped: nothing in '%s' was replaced; finished layers are kept, --resume goes on",
                  o->save_path);
    }
    app_note_memory(a);
    app_note_profile(a, f);
    return st;
}

static Status check_quant_options(App *a, const CommandLine *cl, bool *debug, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 0, err));
    RETURN_IF_ERROR(log_level(debug, err));
    RETURN_IF_ERROR(check_peer_options(a, cl, err));
    if (!cl_str(cl, "save_path") && !cl_given(cl, "dry-run"))
        return error_set(err, ST_USAGE, "'quant' needs --save_path DIR");
    if (cl_given(cl, "quant_type") && cl_given(cl, "config_path"))
        return error_set(err, ST_USAGE, "give --quant_type or --config_path, not both");
    return ST_OK;
}

/* A document that converts needs no model that runs. */
static Status run_quant_conversion(App *a, const CommandLine *cl, ConvertDoc *doc, Error *err)
{
    const char *model = cl_str(cl, "model_path");
    if (!dist_leads(a->dist)) {
        convert_doc_free(doc);
        return ST_OK;
    }
    if (dist_size(a->dist) > 1)
        app_note(a, "note: a conversion is not divided over ranks: rank 0 of %d does all of it", dist_size(a->dist));
    if (cl_given(cl, "debug"))
        app_note(a, "note: --debug writes nothing of a conversion");
    if (cl_given(cl, "device") && strcmp(cl_str(cl, "device"), "cpu") != 0)
        app_note(a, "note: --device %s: a conversion runs in one process, on the processor", cl_str(cl, "device"));
    log_phase(a, "===========QUANTIZE MODEL===========");
    Status st = model ? run_conversion(a, cl, model, doc, err) : error_set(err, ST_USAGE, "'quant' needs --model_path DIR");
    convert_doc_free(doc);
    RETURN_IF_ERROR(st);
    log_phase(a, "===========SUCCESS===========");
    return ST_OK;
}

static Status run_quant(App *a, const CommandLine *cl, Error *err)
{
    bool debug;
    RETURN_IF_ERROR(check_quant_options(a, cl, &debug, err));
    ConvertDoc *conversion = NULL;
    if (cl_str(cl, "config_path"))
        RETURN_IF_ERROR(open_conversion(cl_str(cl, "config_path"), &conversion, err));
    if (conversion)
        return run_quant_conversion(a, cl, conversion, err);
    log_phase(a, "===========ANALYSE MODEL===========");
    RETURN_IF_ERROR(open_for_run(a, cl, NULL, err));
    if (debug || (a->progress == 1 && !isatty(STDERR_FILENO)))
        a->progress = PROGRESS_LINES; /* a log is made of lines */
    log_phase(a, "===========GET BEST PRACTICE===========");
    RETURN_IF_ERROR(open_quant_recipe(a, cl, debug, err));
    RETURN_IF_ERROR(ranks_for_devices(a, cl, session_recipe(a->session), err));
    const char *dir = cl_str(cl, "save_path");
    QuantizeOptions o = {.save_path = dir ? dir : "quantized", .resume = cl_given(cl, "resume"),
                         .verify = cl_given(cl, "verify"), .debug = cl_given(cl, "debug"),
                         .force = cl_given(cl, "force"), .force_word = "--force"};
    OutFormat f = out_format(cl_str(cl, "format"));
    if (cl_given(cl, "dry-run"))
        return print_outline(a, &o, f, err);
    log_phase(a, "===========QUANTIZE MODEL===========");
    RETURN_IF_ERROR(quantize_and_print(a, &o, f, err));
    log_phase(a, "===========SUCCESS===========");
    return ST_OK;
}

#define OPTIONS_QUANTIZE                                                                                               \
    {"resume", ARG_FLAG, NULL, "go on with a run into this folder that was stopped before its end", COMP_NONE},        \
        {"verify", ARG_FLAG, NULL, "read back what was written and print the error of every linear's weight",          \
         COMP_NONE},                                                                                                   \
        {"debug", ARG_FLAG, NULL, "also write debug_info/: statistics of every quantized linear", COMP_NONE},          \
        {"dry-run", ARG_FLAG, NULL, "print what would be quantized how, and the files; write nothing", COMP_NONE},     \
    {                                                                                                                  \
        "format", ARG_CHOICE, "text|json", "of the result (default text)", COMP_NONE                                   \
    }

static const Option quant_options[] = {
    {"model_path", ARG_PATH, "DIR", "the model's folder", COMP_FILE},
    {"save_path", ARG_PATH, "DIR", "folder of the quantized model; made when it isn't there", COMP_FILE},
    {"model_type", ARG_STR, "TYPE", "the model's family (default: read from config.json)", COMP_NONE},
    {"config_path", ARG_PATH, "FILE", "the recipe; excludes --quant_type", COMP_FILE},
    {"quant_type", ARG_CHOICE, "w4a4|w4a8|w4a4c8|w4a4f8|w4a8c8|w8a16|w8a8|w8a8s|w8a8c8|w8a8f8|w4a4f4|w16a16s",
     "look the best practice of this type up", COMP_NONE},
    {"tag", ARG_LIST, "TAG...", "where it shall run: a practice verified with all of these comes first", COMP_NONE},
    OPTION_DEVICE,
    {"trust_remote_code", ARG_CHOICE, "True|False",
     "accepted for compatibility: code that comes with a model is never run", COMP_NONE},
    {"yes", ARG_FLAG, NULL, "take the practice that was found without asking", COMP_NONE},
    {"why", ARG_FLAG, NULL, "tell how the practice was found: every step and candidate", COMP_NONE},
    {"force", ARG_FLAG, NULL, "replace what is in the folder already: an older output, or a run that was stopped",
     COMP_NONE},
    OPTIONS_QUANTIZE,
    OPTION_RUNTIME,
    OPTIONS_RUN,
    OPTION_SESSION,
    OPTION_PROGRESS,
    OPTION_READ,
    {0},
};
const Command command_quant = {
    .name = "quant",
    .args = "",
    .summary = "Quantize a model by a recipe and write what an inference engine loads.",
    .help = "The recipe is --config_path (one of modelslim_convert runs as 'convert' does), or the best practice of --quant_type for this model. Everything is checked "
            "before anything is written. What is in the target is replaced with --force only, and not before the run is "
            "whole; files that are not of an older output stay.",
    .flags = CMD_LONG | CMD_CLI | CMD_CLI_ONLY | CMD_RANKS,
    .options = quant_options,
    .run = run_quant,
};

static Status run_quantize(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 0, err));
    const char *dir = cl_str(cl, "save");
    if (!dir)
        return error_set(err, ST_USAGE, "'quantize' needs --save DIR");
    RETURN_IF_ERROR(apply_run_options(a, cl, err));
    QuantizeOptions o = {.save_path = dir, .resume = cl_given(cl, "resume"), .verify = cl_given(cl, "verify"),
                         .debug = cl_given(cl, "debug"), .force = cl->bang, .force_word = "!"};
    OutFormat f = out_format(cl_str(cl, "format"));
    return cl_given(cl, "dry-run") ? print_outline(a, &o, f, err) : quantize_and_print(a, &o, f, err);
}
static const Option quantize_options[] = {
    {"save", ARG_PATH, "DIR", "folder of the quantized model; made when it isn't there", COMP_FILE},
    OPTIONS_QUANTIZE,
    OPTION_RUNTIME,
    {0},
};
const Command command_quantize = {
    .name = "quantize",
    .args = "",
    .summary = "Quantize with the present assignment and write the model: the same run as 'slimscope quant'.",
    .help = "Files that are in DIR already are replaced with ! only.",
    .flags = CMD_NEEDS_MODEL | CMD_LONG | CMD_DESTROYS,
    .options = quantize_options,
    .run = run_quantize,
};
