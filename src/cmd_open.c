/* What is open: model, data sets, recipe, settings. */
#include <stdlib.h>
#include <string.h>

#include "src/commands.h"
#include "src/internal.h"
#include "src/lang.h"

static Status open_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    RETURN_IF_ERROR(app_session(a, err));
    RETURN_IF_ERROR(app_open_model(a, cl->words[0], cl_str(cl, "model_type"), err));
    const Model *m = session_model(a->session);
    app_note(a, "opened %s: %s, %d layers, %lld linears, %.2f million parameters", m->path,
             m->arch ? m->arch->title : m->cfg.model_type, m->cfg.layers, (long long)m->nlinears,
             (double)m->params / 1e6);
    return ST_OK;
}

static const Option open_options[] = {
    {"model_type", ARG_STR, "TYPE", "the model's family (default: read from config.json)", COMP_NONE},
    {0},
};
const Command command_open = {
    .name = "open",
    .args = "MODEL",
    .summary = "Open a model folder: config.json and the safetensors headers; no weight is read.",
    .flags = CMD_INPUT,
    .completes = COMP_FILE,
    .options = open_options,
    .run = open_run,
};

static Status eval_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    RETURN_IF_ERROR(app_session(a, err));
    return session_set_eval(a->session, cl->words[0], err);
}
const Command command_eval = {
    .name = "eval",
    .args = "FILE",
    .summary = "Choose the evaluation set that 'measure' uses.",
    .flags = CMD_INPUT,
    .completes = COMP_FILE,
    .run = eval_run,
};

static Status recipe_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    RETURN_IF_ERROR(app_session(a, err));
    bool standard = strcmp(cl->words[0], "default") == 0;
    Str what = {0};
    Status st = session_open_recipe(a->session, standard ? NULL : cl->words[0], &what, err);
    if (st == ST_OK)
        app_note(a, "%s", str_text(&what));
    str_free(&what);
    return st;
}
const Command command_recipe = {
    .name = "recipe",
    .args = "FILE|default",
    .summary = "Open a quantization recipe (YAML); 'default' is W8A8 static.",
    .help = "What was decided stays: the rules of the what-if list are applied to the new recipe's levels. A rule to a level "
            "that it does not have is dropped, which is said. undo brings the recipe before and its rules back.",
    .flags = CMD_INPUT | CMD_EDIT,
    .completes = COMP_FILE,
    .run = recipe_run,
};

static Status set_color(App *a, const char *value, Error *err)
{
    static const char *const words[] = {"auto", "never", "always"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(value, words[i]) != 0)
            continue;
        if (a->set_color && !a->set_color(a->ui_ctx, i - 1))
            app_note(a, "color=%s changes nothing here: --color, NO_COLOR or the terminal decides", value);
        return ST_OK;
    }
    return error_set(err, ST_USAGE, "color is auto, always or never, not '%s'", value);
}

/* Language and colours are the program's; everything else is the session's. */
static Status set_one(App *a, const char *key, const char *value, Error *err)
{
    if (strcmp(key, "color") == 0)
        return set_color(a, value, err);
    if (strcmp(key, "lang") != 0)
        return session_set(a->session, key, value, err);
    Status st = lang_choose(value, err);
    if (a->face != FACE_UI)
        lang_choose("en", NULL); /* what is no screen stays English */
    return st;
}

/* set key=value..., or set key value. */
static Status set_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, -1, err));
    RETURN_IF_ERROR(app_session(a, err));
    if (cl->nwords == 2 && !strchr(cl->words[0], '='))
        return set_one(a, cl->words[0], cl->words[1], err);
    for (int i = 0; i < cl->nwords; i++) {
        const char *eq = strchr(cl->words[i], '=');
        if (!eq || eq == cl->words[i])
            return error_set(err, ST_USAGE, "'%s' is no setting: write set KEY=VALUE", cl->words[i]);
        char *key = strndup(cl->words[i], (size_t)(eq - cl->words[i]));
        if (!key)
            return error_nomem(err, "a setting");
        Status st = set_one(a, key, eq + 1, err);
        free(key);
        RETURN_IF_ERROR(st);
    }
    return ST_OK;
}
const Command command_set = {
    .name = "set",
    .args = "KEY=VALUE...",
    .summary = "Set how runs compute and how the workbench speaks.",
    .help = "Keys: threads, mem, max-samples, seq-len, ctx, eval-tokens, tokens, labels, seed, dtype-sim, compat, runtime, budget, "
            "session-cap, profile, lang, color. budget (+20M above the recipe, 300M, 5.2bits a weight, none) is what the set is held "
            "against. session-cap (2G, 0 for none) is what all sessions may take together. runtime (" RUNTIME_WORDS "|none) is the engine that shall load what is "
            "written: what breaks a rule of it is an error. It changes no number. lang (auto|en|zh) is the language of the "
            "workbench's words. color (auto|always|never) is whether it has colours; NO_COLOR and the option of that name are stronger.",
    .completes = COMP_SETTING,
    .run = set_run,
};
