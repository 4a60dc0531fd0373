/* convert: weights from one encoding into another. quant runs its documents, too. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "convert/convert.h"
#include "recipe/field.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"
#include "src/quant_report.h"

/* ---- what would be done ---- */

static void text_way(const ConvertDoc *doc, const ConvertWay *w, Str *out)
{
    const ConvertRule *r = convert_doc_rule(doc, w->rule);
    str_printf(out, "  %-14s -> %-12s %7lld linears  ", convert_kind_name(w->from), convert_kind_name(w->to), (long long)w->linears);
    str_bytes(out, w->bytes_in);
    str_puts(out, " -> ");
    str_bytes(out, w->bytes_out);
    str_puts(out, "\n     ");
    for (int i = 0; i < r->nmatch; i++)
        str_printf(out, " %s", r->match[i]);
    str_printf(out, "  (first %s)\n", w->first);
}

static void json_way(const ConvertDoc *doc, const ConvertWay *w, Str *out)
{
    str_printf(out, "{\"from\":\"%s\",\"to\":\"%s\",\"rule\":%d,\"line\":%d,\"linears\":%lld,\"bytes_in\":%llu,\"bytes_out\":%llu,"
                    "\"first\":", convert_kind_name(w->from), convert_kind_name(w->to), w->rule, convert_doc_rule(doc, w->rule)->line,
               (long long)w->linears, (unsigned long long)w->bytes_in, (unsigned long long)w->bytes_out);
    str_json(out, w->first);
    str_putc(out, '}');
}

static void put_ways(const ConvertPlan *p, const ConvertDoc *doc, bool json, Str *out)
{
    int n;
    const ConvertWay *w = convert_ways(p, &n);
    const ConvertSums s = convert_sums(p);
    for (int i = 0; i < n && !json; i++)
        text_way(doc, &w[i], out);
    if (!json) {
        str_printf(out, "  copied as they are          %7lld tensors  ", (long long)s.copied);
        str_bytes(out, s.copied_bytes);
        str_putc(out, '\n');
        return;
    }
    str_puts(out, ",\"ways\":[");
    for (int i = 0; i < n; i++) {
        str_puts(out, i ? "," : "");
        json_way(doc, &w[i], out);
    }
    str_printf(out, "],\"copied\":%lld,\"copied_bytes\":%llu,\"bytes_in\":%llu,\"bytes_out\":%llu", (long long)s.copied,
               (unsigned long long)s.copied_bytes, (unsigned long long)s.bytes_in, (unsigned long long)s.bytes_out);
}

static Status outline(ConvertPlan *p, const ConvertDoc *doc, bool json, Str *out, Error *err)
{
    const SaveFormat *const format = convert_format(p);
    const SavePlan *plan = convert_save_plan(p);
    SaveFile *files = NULL;
    int n = 0;
    SaveTarget target = {0};
    Status st = format->ops->files(format, plan, &files, &n, err);
    if (st == ST_OK)
        st = save_target_look(&format, plan, 1, &target, err);
    if (st == ST_OK && json) {
        str_puts(out, "{\"model\":");
        str_json(out, plan->model->path);
        put_ways(p, doc, true, out);
        str_puts(out, ",\"savers\":[");
        saver_files_json(format->type, convert_sums(p).bytes_out, files, n, out);
        str_putc(out, ']');
        save_target_json(&target, out);
        str_puts(out, "}\n");
    } else if (st == ST_OK) {
        str_printf(out, "model        %s\n", plan->model->path);
        put_ways(p, doc, false, out);
        saver_files_text(format->type, plan->dir, convert_sums(p).bytes_out, files, n, out);
        save_target_text(&target, plan->dir, plan->force, "MiB", "", out);
    }
    free(files);
    save_target_fini(&target);
    return st;
}

/* ---- what was done ---- */

static void done_json(const ConvertPlan *p, const ConvertDoc *doc, const ConvertDone *d, Str *out)
{
    str_puts(out, "{\"model\":");
    str_json(out, convert_save_plan(p)->model->path);
    str_puts(out, ",\"save_path\":");
    str_json(out, convert_save_plan(p)->dir);
    put_ways(p, doc, true, out);
    str_printf(out, ",\"there_already\":%s,\"bytes_skipped\":%llu,\"bytes_written\":%llu,\"seconds\":%.3f,\"threads\":%d,\"buffers\":%llu",
               d->there ? "true" : "false", (unsigned long long)d->skipped, (unsigned long long)d->written, d->seconds, d->threads,
               (unsigned long long)d->buffers);
    if (d->verified) {
        str_printf(out, ",\"compared\":%lld,\"error\":", (long long)d->compared);
        str_double(out, d->error);
    }
    str_putc(out, ',');
    names_json("removed", &d->removed, out);
    str_puts(out, "}\n");
}

static void done_text(const ConvertPlan *p, const ConvertDoc *doc, const ConvertDone *d, Str *out)
{
    const SavePlan *plan = convert_save_plan(p);
    const uint64_t in = convert_sums(p).bytes_in;
    if (d->there) {
        str_printf(out, "%s holds this model already: whole, nothing written\n", plan->dir);
        return;
    }
    put_ways(p, doc, false, out);
    str_printf(out, "%s: ", plan->dir);
    str_bytes(out, d->written);
    str_printf(out, " written in %.1f s", d->seconds);
    if (d->seconds > 0 && !d->skipped)
        str_printf(out, " (%.0f MB/s read and written)", (double)(d->written + in) * 1e-6 / d->seconds);
    if (d->skipped) {
        str_puts(out, ", ");
        str_bytes(out, d->skipped);
        str_puts(out, " were there of the stopped run");
    }
    str_putc(out, '\n');
    if (d->verified)
        str_printf(out, "read back: %lld tensors, all as converted\n", (long long)d->compared);
    if (d->verified && d->error > 0)
        str_printf(out, "quantized weights are off by %.4g of their size\n", d->error);
    if (d->removed.n) {
        str_puts(out, "removed of the older output: ");
        names_text(&d->removed, out);
        str_putc(out, '\n');
    }
}

/* ---- the run ---- */

static Status convert_and_print(App *a, const CommandLine *cl, ConvertPlan *p, const ConvertDoc *doc, Error *err)
{
    const SavePlan *plan = convert_save_plan(p);
    ByteWatch w = {.phase = "convert", .path = plan->dir, .show = a->progress};
    ConvertOptions o = {.cancel = &w.cancel, .progress = byte_progress, .ctx = &w, .resume = cl_given(cl, "resume"),
                        .verify = cl_given(cl, "verify"), .mem = cl_size(cl, "mem", mem_available_bytes() / 10 * 7)};
    int threads;
    ConvertDone done = {0};
    RETURN_IF_ERROR(cl_threads(cl, &threads, err));
    RETURN_IF_ERROR(pool_new(&o.pool, threads, err));
    Status st = convert_run(p, &o, &done, err);
    Str out = {0};
    if (st == ST_OK && out_format(cl_str(cl, "format")) == OUT_JSON)
        done_json(p, doc, &done, &out);
    else if (st == ST_OK)
        done_text(p, doc, &done, &out);
    if (st == ST_OK)
        st = out.oom ? error_nomem(err, "a report") : app_result(a, &out, NULL, err);
    else if (st == ST_CANCELLED)
        error_set(err, st, "stopped: nothing in '%s' was replaced; what is written is kept, --resume goes on", plan->dir);
    if (st == ST_OK && !done.there && a->face == FACE_CLI)
        tell("peak memory %.1f MiB, buffers of %d thread%s %.1f MiB\n", (double)mem_peak_bytes() / 0x1p20, done.threads,
             done.threads == 1 ? "" : "s", (double)done.buffers / 0x1p20);
    str_free(&out);
    convert_done_fini(&done);
    pool_free(o.pool);
    return st;
}

Status run_conversion(App *a, const CommandLine *cl, const char *model, const ConvertDoc *doc, Error *err)
{
    const char *dir = cl_str(cl, "save_path");
    const ConvertAsk ask = {.model = model, .dir = dir ? dir : "converted", .model_type = cl_str(cl, "model_type"),
                            .peer = cl_given(cl, "compat"), .force = cl_given(cl, "force"),
                            .guessed = cl_given(cl, "to") && !cl_given(cl, "match")};
    ConvertPlan *p;
    apply_progress(a, cl);
    RETURN_IF_ERROR(convert_plan_make(&p, doc, &ask, err));
    int n;
    const char *const *notes = convert_notes(p, &n);
    for (int i = 0; i < n; i++)
        app_note(a, "note: %s", notes[i]);
    Status st = ST_OK;
    if (cl_given(cl, "dry-run")) {
        Str out = {0};
        st = outline(p, doc, out_format(cl_str(cl, "format")) == OUT_JSON, &out, err);
        if (st == ST_OK)
            st = out.oom ? error_nomem(err, "a report") : app_result(a, &out, NULL, err);
        str_free(&out);
    } else {
        st = convert_and_print(a, cl, p, doc, err);
    }
    convert_plan_free(p);
    return st;
}

Status open_conversion(const char *path, ConvertDoc **out, Error *err)
{
    char *text;
    size_t len;
    *out = NULL;
    RETURN_IF_ERROR(document_read(path, &text, &len, NULL, err));
    bool is;
    Status st = convert_is_document(text, len, &is, err);
    if (st == ST_OK && is)
        st = convert_doc_parse(out, &recipe_rows, text, len, path, NULL, err);
    free(text);
    return st;
}

/* ---- the command ---- */

/* The document that --to stands for. */
static Status write_document(const CommandLine *cl, ConvertDoc **out, Error *err)
{
    static const struct {
        const char *word;
        ConvertKind to;
    } targets[] = {{"bf16", CK_FLOAT}, {"mxfp8", CK_W8A8_MXFP8}, {"mxfp4", CK_W4A4_MXFP4}, {"w4a8_mxfp8", CK_W4A8_MXFP8}};
    const char *to = cl_str(cl, "to"), *saver = cl_str(cl, "saver");
    ConvertKind kind = CK_FLOAT;
    int n = 0;
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        kind = strcmp(targets[i].word, to) == 0 ? targets[i].to : kind;
    const bool ascend = saver ? strcmp(saver, "ascend_v1") == 0 : kind != CK_FLOAT;
    const char **match = cl_list(cl, "match", &n);
    Str text = {0};
    Status st = match ? convert_doc_write(kind, ascend, 4, match, n, &text, err) : error_nomem(err, "a list of patterns");
    if (st == ST_OK)
        st = convert_doc_parse(out, &recipe_rows, str_text(&text), text.len, "--to", NULL, err);
    str_free(&text);
    free(match);
    return st;
}

static Status run_convert(App *a, const CommandLine *cl, Error *err)
{
    ConvertDoc *doc = NULL;
    const char *config = cl_str(cl, "config_path");
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    if (!config == !cl_str(cl, "to"))
        return error_set(err, ST_USAGE, "give --to bf16 (or mxfp8, ...), or a document by --config_path: one of the two");
    if (config && (cl_given(cl, "match") || cl_given(cl, "saver")))
        return error_set(err, ST_USAGE, "--match and --saver go with --to: the document of --config_path says both");
    if (!cl_str(cl, "save_path") && !cl_given(cl, "dry-run"))
        return error_set(err, ST_USAGE, "'convert' needs --save_path DIR");
    RETURN_IF_ERROR(config ? open_conversion(config, &doc, err) : write_document(cl, &doc, err));
    Status st = doc ? run_conversion(a, cl, cl->words[0], doc, err)
                    : error_set(err, ST_DATA, "'%s' is no document of modelslim_convert: 'slimscope quant' runs recipes", config);
    convert_doc_free(doc);
    return st;
}

static const Option convert_options[] = {
    {"to", ARG_CHOICE, "bf16|mxfp8|mxfp4|w4a8_mxfp8", "what the weights become: BF16, W8A8_MXFP8, W4A4_MXFP4 or W4A8_MXFP8", COMP_NONE},
    {"match", ARG_LIST, "PATTERN...", "with --to: linears (default: all that are coded; of floats *_proj, *.w1, *.w2, *.w3)", COMP_NONE},
    {"saver", ARG_CHOICE, "ascend_v1|huggingface", "with --to: layout of the output (default: huggingface for bf16, else ascend_v1)",
     COMP_NONE},
    {"config_path", ARG_PATH, "FILE", "a document of modelslim_convert, in place of --to", COMP_FILE},
    {"save_path", ARG_PATH, "DIR", "folder of the converted model; made when it isn't there", COMP_FILE},
    {"model_type", ARG_STR, "TYPE", "names the document beside the weights (default convert)", COMP_NONE},
    {"force", ARG_FLAG, NULL, "replace what is in the folder already: an older output, or a run that was stopped", COMP_NONE},
    {"resume", ARG_FLAG, NULL, "go on with a run into this folder that was stopped before its end", COMP_NONE},
    {"verify", ARG_FLAG, NULL, "read everything back, hold it against the source, and print the error of what is quantized", COMP_NONE},
    {"dry-run", ARG_FLAG, NULL, "print what would become of what, and the files; write nothing", COMP_NONE},
    {"format", ARG_CHOICE, "text|json", "of the result (default text)", COMP_NONE},
    {"threads", ARG_INT, "N", "compute threads (0, the default: every core this process may use)", COMP_NONE},
    {"mem", ARG_SIZE, "SIZE", "bound of the buffers, 300M or 4G (default: 70 % of what is available)", COMP_NONE},
    {"compat", ARG_CHOICE, "peer", "convert exactly as msModelSlim does, quirks included", COMP_NONE},
    OPTION_PROGRESS,
    {0},
};
const Command command_convert = {
    .name = "convert",
    .args = "MODEL",
    .summary = "Write a model's weights in another encoding: FP8, MXFP4 or packed INT4 as BF16, floats as MXFP8 or MXFP4.",
    .help = "MODEL is a folder or one .safetensors file of any family. Tensors go through one by one, a few MiB a thread. "
            "No rule's tensors are copied byte for byte. Everything is checked before anything is written, and nothing in the "
            "target is replaced before all of it is whole.",
    .flags = CMD_LONG | CMD_CLI | CMD_CLI_ONLY,
    .completes = COMP_FILE,
    .options = convert_options,
    .run = run_convert,
};
