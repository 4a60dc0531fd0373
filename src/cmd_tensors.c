/* tensors: those of the model, narrowed by a filter; screen 7 shows the same as a tree. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/modeltree.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

static const char *level_of(const Session *s, const TreeNode *x)
{
    bool weight = x->linear >= 0 && session_model(s)->linears[x->linear].weight == x->tensor;
    return weight ? session_level_name(s, session_level_of(s, x->linear)) : "copied";
}

static void shape_of(const TensorInfo *t, const char *between, Str *out)
{
    for (int i = 0; i < t->ndim; i++)
        str_printf(out, "%s%lld", i ? between : "", (long long)t->shape[i]);
}

static void tensor_json(const Session *s, const TreeNode *x, bool first, Str *out)
{
    str_puts(out, first ? "\n{\"name\":" : ",\n{\"name\":");
    str_json(out, x->tensor->name);
    str_puts(out, ",\"shape\":[");
    shape_of(x->tensor, ",", out);
    str_printf(out, "],\"type\":\"%s\",\"bytes\":%llu,\"level\":", dtype_name(x->tensor->dtype), (unsigned long long)x->bytes);
    str_json(out, level_of(s, x));
    str_putc(out, '}');
}

static void tensor_text(const Session *s, const TreeNode *x, Str *out)
{
    Str shape = {0};
    shape_of(x->tensor, "x", &shape);
    str_printf(out, "%14s  %-7s %12llu  %-12s %s\n", str_text(&shape), dtype_name(x->tensor->dtype), (unsigned long long)x->bytes, level_of(s, x),
               x->tensor->name);
    out->oom |= shape.oom;
    str_free(&shape);
}

static Status list(App *a, OutFormat f, Str *out, Error *err)
{
    const char *filter = session_tensor_filter_text(a->session);
    ModelTree t;
    int64_t hits = 0, told = 0;
    RETURN_IF_ERROR(model_tree_make(a->session, &t, err));
    bool *shown = mem_zarray((size_t)t.n + 1, sizeof *shown);
    Status st = shown ? model_tree_filter(a->session, &t, filter, shown, &hits, err) : error_nomem(err, "a list of tensors");
    if (st == ST_OK && f == OUT_JSON) {
        str_puts(out, "{\"filter\":");
        str_json(out, filter);
        str_puts(out, ",\"tensors\":[");
    }
    for (int32_t i = 0; st == ST_OK && i < t.n; i++) {
        if (!shown[i] || !t.node[i].tensor)
            continue;
        if (f == OUT_JSON)
            tensor_json(a->session, &t.node[i], told++ == 0, out);
        else
            tensor_text(a->session, &t.node[i], out);
    }
    if (st == ST_OK && f == OUT_JSON)
        str_puts(out, "]}\n");
    else if (st == ST_OK)
        str_printf(out, "%lld of %lld tensors\n", (long long)hits, (long long)checkpoint_count(session_model(a->session)->ckpt));
    free(shown);
    model_tree_free(&t);
    return st;
}

static Status set_filter(App *a, const CommandLine *cl, Error *err)
{
    Str expr = {0};
    for (int i = 1; i < cl->nwords; i++)
        str_printf(&expr, "%s%s", i > 1 ? " " : "", cl->words[i]);
    Status st = expr.oom ? error_nomem(err, "a filter") : session_tensor_filter(a->session, str_text(&expr), err);
    str_free(&expr);
    return st;
}

static Status tensors_run(App *a, const CommandLine *cl, Error *err)
{
    if (cl->nwords && strcmp(cl->words[0], "filter") == 0)
        return set_filter(a, cl, err);
    if (cl->nwords > 1 || (cl->nwords && strcmp(cl->words[0], "list") != 0))
        return error_set(err, ST_USAGE, "write tensors list, or tensors filter WORDS");
    Str text = {0};
    Status st = list(a, out_format(cl_str(cl, "format")), &text, err);
    if (st == ST_OK)
        st = app_result(a, &text, NULL, err);
    str_free(&text);
    return st;
}

static const struct {
    const char *word, *means;
} filter_words[] = {
    {"type=BF16", "stored as this type"},  {"type=F16", "stored as this type"},     {"type=F32", "stored as this type"},
    {"size>1M", "more bytes than this"},   {"size<4K", "fewer bytes than this"},    {"float", "weights of linears that stay float"},
    {"quantized", "weights of linears that are quantized"}, {"copied", "of no linear, or not its weight: copied as it is"},
};

static void tensors_offer(const App *a, const char *const *words, int n, OfferWord *put, void *ctx)
{
    (void)a;
    if (n == 0) {
        put(ctx, "list", "those that pass the filter, with shape, type, bytes and level");
        put(ctx, "filter", "shows only those that hold every word; none: all");
    }
    for (size_t i = 0; n > 0 && strcmp(words[0], "filter") == 0 && i < sizeof filter_words / sizeof *filter_words; i++)
        put(ctx, filter_words[i].word, filter_words[i].means);
}

static const Option tensors_options[] = {
    {"format", ARG_CHOICE, "text|json", "of the list (default text)", COMP_NONE},
    {0},
};
const Command command_tensors = {
    .name = "tensors",
    .args = "[list | filter [WORDS]]",
    .summary = "List the model's tensors with shape, type, bytes and level, narrowed by a filter.",
    .help = "filter keeps its words for the list and for screen 7; without any it shows all. All must hold: a part of the name in any case, "
            "type=BF16, size>1M, size<4K, float, quantized (weights of linears), copied (everything else); !word negates.\n"
            "Example: tensors filter down_proj !float",
    .flags = CMD_NEEDS_MODEL | CMD_NEUTRAL,
    .options = tensors_options,
    .run = tensors_run,
    .offer = tensors_offer,
};
