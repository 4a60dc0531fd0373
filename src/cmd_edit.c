/* The decision: which linear has which level, tags, undo. */
#include <stdlib.h>

#include "src/commands.h"
#include "src/internal.h"
#include "src/lang.h"
#include "src/output.h"

/* How an edit is told of: formats with the number, for one linear and for several. */
typedef struct Told {
    const char *one, *many;
} Told;

/* "3 linears sent to float: +93 KiB; a fused group stays whole". bytes: the model's size before; target: the only one, or NULL. */
static void tell_changed(App *a, int64_t changed, const Told *told, uint64_t bytes, const char *target)
{
    const char *why = a->face == FACE_SHELL && changed ? session_unkept(a->session) : NULL;
    const uint64_t now = session_predict(a->session).size.bytes;
    const bool group = changed > 1 && target && model_find_linear(session_model(a->session), target) >= 0;
    char text[200];
    Str out = {0};
    text_format(text, sizeof text, changed == 1 ? told->one : told->many, (long long)changed);
    str_puts(&out, text);
    if (now != bytes) {
        str_puts(&out, now > bytes ? ": +" : ": -");
        str_bytes(&out, now > bytes ? now - bytes : bytes - now);
    }
    if (group)
        str_printf(&out, "; %s", tr("a fused group stays whole"));
    app_note(a, why ? "%s - not kept: this session is %s" : "%s", str_text(&out), why);
    str_free(&out);
}

/* Edits the linears that the words from `first` on select, and tells what it came to. */
static Status edit(App *a, const CommandLine *cl, int first, int level, bool include, const Told *told, Error *err)
{
    const uint64_t bytes = session_predict(a->session).size.bytes;
    int64_t changed = 0;
    RETURN_IF_ERROR(session_edit(a->session, cl->words + first, cl->nwords - first, level, include, &changed, err));
    tell_changed(a, changed, told, bytes, cl->nwords - first == 1 ? cl->words[first] : NULL);
    return ST_OK;
}

static Status exclude_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, -1, err));
    static const Told told = {"%lld linear sent to float", "%lld linears sent to float"};
    const uint64_t bytes = session_predict(a->session).size.bytes;
    const int depth = session_undo_depth(a->session);
    int64_t changed = 0;
    RETURN_IF_ERROR(session_edit(a->session, cl->words, cl->nwords, 0, false, &changed, err));
    bool same = session_undo_depth(a->session) == depth;
    if (changed)
        tell_changed(a, changed, &told, bytes, cl->nwords == 1 ? cl->words[0] : NULL);
    else
        app_note(a, same ? "nothing new: this is a rule already, and all of it is float"
                         : "nothing new: all of it is float already; the rule is kept beside the others");
    return ST_OK;
}
const Command command_exclude = {
    .name = "exclude",
    .args = "TARGET...",
    .summary = "Keep linears in float. Their fused groups go with them.",
    .help = "A target is a layer's name, a pattern ('*.mlp.down_proj', 'model.layers.{0..3}.*'), first=2 or last=2 (blocks), "
            "kind=down_proj, or the word tagged. Each becomes a rule of the what-if list: see rule.",
    .flags = CMD_NEEDS_MODEL | CMD_EDIT,
    .completes = COMP_LAYER,
    .run = exclude_run,
};

static Status include_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, -1, err));
    static const Told told = {"%lld linear quantized again", "%lld linears quantized again"};
    return edit(a, cl, 0, 0, true, &told, err);
}
const Command command_include = {
    .name = "include",
    .args = "TARGET...",
    .summary = "Quantize linears again, at the recipe's level for them.",
    .help = "Rules that send nothing but these to float go; where a wider one holds them, an exception is added behind it.",
    .flags = CMD_NEEDS_MODEL | CMD_EDIT,
    .completes = COMP_LAYER,
    .run = include_run,
};

static Status level_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 2, -1, err));
    int level = session_level_find(a->session, cl->words[0]);
    if (level < 0) {
        Str all = {0};
        for (int i = 0; i < session_levels(a->session); i++)
            str_printf(&all, "%s%s", i ? ", " : "", session_level_name(a->session, i));
        error_set(err, ST_USAGE, "'%s' is no level of the open recipe: it has %s", cl->words[0], str_text(&all));
        str_free(&all);
        return ST_USAGE;
    }
    static const Told told = {"%lld linear at another level", "%lld linears at another level"};
    return edit(a, cl, 1, level, false, &told, err);
}
const Command command_level = {
    .name = "level",
    .args = "LEVEL TARGET...",
    .summary = "Give linears a level of the open recipe: float, W8A8, ...",
    .flags = CMD_NEEDS_MODEL | CMD_EDIT,
    .completes = COMP_LEVEL,
    .run = level_run,
};

static Status tag_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, -1, err));
    bool *hits;
    RETURN_IF_ERROR(select_linears(a->session, cl->words, cl->nwords, &hits, err));
    Status st = session_tag(a->session, hits, !cl_given(cl, "off"), err);
    free(hits);
    if (st == ST_OK)
        app_note(a, "%lld tagged", (long long)session_tag_count(a->session));
    return st;
}
static const Option tag_options[] = {
    {"off", ARG_FLAG, NULL, "take the tag away", COMP_NONE},
    {0},
};
const Command command_tag = {
    .name = "tag",
    .args = "TARGET...",
    .summary = "Tag linears: 'tagged' is a target of the other commands.",
    .flags = CMD_NEEDS_MODEL | CMD_EDIT | CMD_MARKS,
    .completes = COMP_LAYER,
    .options = tag_options,
    .run = tag_run,
};

static Status step(App *a, Status (*move)(Session *, Str *, Error *), const char *verb, Error *err)
{
    Str what = {0};
    Status st = move(a->session, &what, err);
    if (st == ST_OK)
        app_note(a, "%s: %s", verb, str_text(&what));
    str_free(&what);
    return st;
}

static Status undo_run(App *a, const CommandLine *cl, Error *err)
{
    (void)cl;
    return step(a, session_undo, "undone", err);
}
const Command command_undo = {
    .name = "undo",
    .args = "",
    .summary = "Take the newest edit back.",
    .flags = CMD_NEEDS_MODEL,
    .run = undo_run,
};

static Status redo_run(App *a, const CommandLine *cl, Error *err)
{
    (void)cl;
    return step(a, session_redo, "done again", err);
}
const Command command_redo = {
    .name = "redo",
    .args = "",
    .summary = "Do the edit again that was taken back.",
    .flags = CMD_NEEDS_MODEL,
    .run = redo_run,
};
