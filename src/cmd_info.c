/* info: what a model is made of and what an analysis of it would take; headers are read, no weight. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/file.h"
#include "session/facts.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

enum { DEFAULT_ROWS = 16384, DEFAULT_LONGEST = 2048 };

/* ---- for people ---- */

/* "12,345,678". */
static void put_count(Str *b, int64_t n)
{
    char digits[32];
    int len = 0;
    for (uint64_t u = (uint64_t)n; u || len == 0; u /= 10)
        digits[len++] = (char)('0' + u % 10);
    while (len) {
        str_putc(b, digits[--len]);
        if (len && len % 3 == 0)
            str_putc(b, ',');
    }
}

static void put_tensors(const ModelFacts *f, Str *b)
{
    str_puts(b, "tensors       ");
    put_count(b, f->tensors);
    str_printf(b, " in %d file%s, ", checkpoint_files(f->m->ckpt), checkpoint_files(f->m->ckpt) == 1 ? "" : "s");
    str_bytes(b, f->bytes);
    for (int i = 0, n = 0; i < DT_COUNT; i++)
        if (f->type[i].tensors) {
            str_printf(b, "%s%s ", n++ ? ", " : ": ", dtype_name((DType)i));
            put_count(b, f->type[i].tensors);
            str_puts(b, " (");
            str_bytes(b, f->type[i].bytes);
            str_putc(b, ')');
        }
    str_putc(b, '\n');
}

static bool any_codes(const ModelFacts *f)
{
    for (int i = 0; i < f->nstores; i++)
        if (f->store[i].how)
            return true;
    return false;
}

static void put_stores(const ModelFacts *f, Str *b)
{
    str_puts(b, "stored as     ");
    for (int i = 0; i < f->nstores; i++) {
        const StoreSum *s = &f->store[i];
        str_puts(b, i ? ", " : "");
        put_count(b, s->linears);
        str_printf(b, " linear%s %s (", s->linears == 1 ? "" : "s", s->how ? s->how->title : dtype_name(s->dtype));
        str_bytes(b, s->bytes);
        str_putc(b, ')');
    }
    str_putc(b, '\n');
}

static void put_linears(const ModelFacts *f, Str *b)
{
    str_puts(b, "linears       ");
    put_count(b, f->m->nlinears);
    str_puts(b, ", ");
    put_count(b, f->size.quantized);
    str_puts(b, " can be quantized by the default recipe");
    for (int i = 0, n = 0; i < FACT_KINDS; i++)
        if (f->kind[i]) {
            str_printf(b, "%s%s ", n++ ? ", " : ": ", linear_kind_name((LinearKind)i));
            put_count(b, f->kind[i]);
        }
    str_puts(b, "\nfused groups  ");
    for (int i = 0; i < f->nlabels; i++) {
        put_count(b, f->label[i].groups);
        str_printf(b, " %s (", f->label[i].label);
        put_count(b, f->label[i].linears);
        str_puts(b, " linears), ");
    }
    put_count(b, f->alone);
    str_puts(b, " linears alone\n");
}

static void put_mtp(const ModelFacts *f, Str *b)
{
    if (!f->mtp.tensors)
        return;
    str_printf(b, "mtp layers    %lld from %s on: ", (long long)f->mtp.layers, f->mtp.first);
    put_count(b, f->mtp.linears);
    str_puts(b, " linears, ");
    put_count(b, f->mtp.params);
    str_puts(b, " parameters: ");
    if (f->m->mtp_layers)
        str_printf(b, "%s analysed and quantized; a measurement runs it in float\n",
                   f->mtp.layers > 1 ? "the first is" : "it is");
    else
        str_printf(b, "listed, not analysed%s%s\n", f->m->mtp_reason ? ": " : "",
                   f->m->mtp_reason ? f->m->mtp_reason : "");
}

static void put_memory(const ModelFacts *f, bool now, Str *b)
{
    str_puts(b, "memory        for ");
    put_count(b, f->rows);
    str_puts(b, " tokens, longest text ");
    put_count(b, f->longest);
    str_printf(b, ", %d thread%s: analyze kurtosis ", f->threads, f->threads == 1 ? "" : "s");
    str_bytes(b, f->one);
    str_puts(b, ", every metric with histograms ");
    str_bytes(b, f->all);
    str_puts(b, ", measure ");
    str_bytes(b, f->measure);
    str_puts(b, " and up"); /* boundary states are kept as far as there is room */
    uint64_t have = now ? mem_available_bytes() : 0;
    if (have) {
        str_puts(b, "; available ");
        str_bytes(b, have);
    }
    str_putc(b, '\n');
}

void output_model(const ModelFacts *f, bool now, Str *b)
{
    const ModelConfig *c = &f->m->cfg;
    str_printf(b, "%s\narchitecture  %s (%s): %d layers, hidden %lld, %d heads, %d key/value heads of %d, vocabulary ",
               now ? f->m->path : path_here(f->m->path), f->m->arch ? f->m->arch->title : "unknown", c->model_type, c->layers, (long long)c->hidden,
               c->heads, c->kv_heads, c->head_dim);
    put_count(b, c->vocab);
    str_puts(b, c->tied ? ", head tied\nparameters    " : f->m->exit.head ? "\nparameters    " : ", no head\nparameters    ");
    put_count(b, f->m->params);
    str_puts(b, " in the decoder, ");
    put_count(b, f->values);
    str_puts(b, " values in the checkpoint\n");
    put_tensors(f, b);
    if (any_codes(f))
        put_stores(f, b);
    put_linears(f, b);
    put_mtp(f, b);
    str_puts(b, "size          float ");
    str_bytes(b, f->size.float_bytes);
    str_puts(b, ", by the default recipe ");
    str_bytes(b, f->size.bytes);
    str_printf(b, " (%s, %.2f bits a weight)\n", f->level, f->size.average_bits);
    put_memory(f, now, b);
    str_printf(b, "fingerprint   %.16s\n", f->m->fingerprint);
    str_printf(b, "tokenizer     %s\n",
               f->tokenizer ? f->tokenizer : "none: only data sets of token ids (input_ids) can be used");
    if (f->m->warning)
        str_printf(b, "warning       %s\n", f->m->warning);
}

/* ---- as JSON ---- */

static void put_json(const ModelFacts *f, const Digest *sha256, Str *b)
{
    const ModelConfig *c = &f->m->cfg;
    str_puts(b, "{\"model\":");
    str_json(b, f->m->path);
    str_puts(b, ",\"model_type\":");
    str_json(b, c->model_type);
    str_puts(b, ",\"architecture\":");
    str_json(b, f->m->arch ? f->m->arch->title : "unknown");
    str_printf(b,
               ",\"fingerprint\":\"%s\",\"layers\":%d,\"hidden\":%lld,\"heads\":%d,\"kv_heads\":%d,\"head_dim\":%d,"
               "\"vocab\":%lld,\"tied\":%s",
               f->m->fingerprint, c->layers, (long long)c->hidden, c->heads, c->kv_heads, c->head_dim,
               (long long)c->vocab, c->tied ? "true" : "false");
    for (int i = 0; sha256 && i < checkpoint_files(f->m->ckpt); i++) {
        char hex[65];
        digest_hex(&sha256[i], hex);
        str_puts(b, i ? "," : ",\"sha256\":{");
        str_json(b, path_base(checkpoint_file_path(f->m->ckpt, i)));
        str_printf(b, ":\"%s\"", hex);
    }
    str_puts(b, sha256 ? "}" : "");
    str_printf(b, ",\"parameters\":%lld,\"values\":%lld,\"tensors\":%lld,\"files\":%d,\"bytes\":%llu,\"dtypes\":{",
               (long long)f->m->params, (long long)f->values, (long long)f->tensors, checkpoint_files(f->m->ckpt),
               (unsigned long long)f->bytes);
    for (int i = 0, n = 0; i < DT_COUNT; i++)
        if (f->type[i].tensors)
            str_printf(b, "%s\"%s\":{\"tensors\":%lld,\"bytes\":%llu}", n++ ? "," : "", dtype_name((DType)i),
                       (long long)f->type[i].tensors, (unsigned long long)f->type[i].bytes);
    str_puts(b, "},\"storage\":{");
    for (int i = 0; i < f->nstores; i++)
        str_printf(b, "%s\"%s\":{\"linears\":%lld,\"bytes\":%llu}", i ? "," : "",
                   f->store[i].how ? f->store[i].how->name : dtype_name(f->store[i].dtype),
                   (long long)f->store[i].linears, (unsigned long long)f->store[i].bytes);
    str_printf(b, "},\"linears\":%lld,\"quantizable\":%lld,\"kinds\":{", (long long)f->m->nlinears,
               (long long)f->size.quantized);
    for (int i = 0, n = 0; i < FACT_KINDS; i++)
        if (f->kind[i])
            str_printf(b, "%s\"%s\":%lld", n++ ? "," : "", linear_kind_name((LinearKind)i), (long long)f->kind[i]);
    str_puts(b, "},\"groups\":{");
    for (int i = 0; i < f->nlabels; i++)
        str_printf(b, "%s\"%s\":{\"groups\":%lld,\"linears\":%lld}", i ? "," : "", f->label[i].label,
                   (long long)f->label[i].groups, (long long)f->label[i].linears);
    str_printf(b, "},\"mtp\":{\"layers\":%lld,\"linears\":%lld,\"parameters\":%lld,\"analysed\":%s",
               (long long)f->mtp.layers, (long long)f->mtp.linears, (long long)f->mtp.params,
               f->m->mtp_layers ? "true" : "false");
    str_printf(b, "},\"alone\":%lld,\"size\":{\"float\":%llu,\"default\":%llu,\"scheme\":\"%s\",\"average_bits\":",
               (long long)f->alone, (unsigned long long)f->size.float_bytes, (unsigned long long)f->size.bytes,
               f->level);
    str_double(b, f->size.average_bits);
    str_printf(b,
               "},\"memory\":{\"rows\":%lld,\"longest\":%lld,\"threads\":%d,\"kurtosis\":%llu,\"every_metric\":%llu,"
               "\"measure\":%llu},\"tokenizer\":",
               (long long)f->rows, (long long)f->longest, f->threads, (unsigned long long)f->one,
               (unsigned long long)f->all, (unsigned long long)f->measure);
    if (f->tokenizer)
        str_json(b, f->tokenizer);
    else
        str_puts(b, "null");
    str_puts(b, ",\"warning\":");
    if (f->m->warning)
        str_json(b, f->m->warning);
    else
        str_puts(b, "null");
    str_puts(b, "}\n");
}

static Status hash_weights(App *a, const ModelFacts *f, Digest **sha256, Error *err)
{
    ByteWatch w = {.phase = "hash", .path = f->m->path, .show = a->progress};
    const CheckpointWatch watch = {.cancel = &w.cancel, .progress = byte_progress, .ctx = &w};
    *sha256 = mem_zarray((size_t)checkpoint_files(f->m->ckpt), sizeof **sha256);
    Status st = *sha256 ? ST_OK : error_nomem(err, "the digests");
    for (int i = 0; st == ST_OK && i < checkpoint_files(f->m->ckpt); i++)
        st = checkpoint_hash(f->m->ckpt, i, &watch, &(*sha256)[i], err);
    return st;
}

/* Behind the text: each file's digest. */
static void put_digests(const ModelFacts *f, const Digest *sha256, Str *b)
{
    for (int i = 0; sha256 && i < checkpoint_files(f->m->ckpt); i++) {
        char hex[65];
        digest_hex(&sha256[i], hex);
        str_printf(b, "sha256        %s  %s\n", hex, path_base(checkpoint_file_path(f->m->ckpt, i)));
    }
}

static Status run_info(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    ModelFacts f;
    Digest *sha256 = NULL;
    int64_t rows = cl_int(cl, "rows", DEFAULT_ROWS);
    int64_t longest = cl_int(cl, "longest", rows < DEFAULT_LONGEST ? rows : DEFAULT_LONGEST);
    int threads;
    if (rows < 1 || rows > INT64_C(1) << 32 || longest < 1 || longest > rows)
        return error_set(err, ST_USAGE, "--rows takes 1 to 4294967296, --longest 1 to as many");
    RETURN_IF_ERROR(cl_threads(cl, &threads, err));
    Pool *pool;
    RETURN_IF_ERROR(pool_new(&pool, threads, err)); /* knows how many threads a run would use */
    threads = pool_threads(pool);
    pool_free(pool);
    RETURN_IF_ERROR(app_session(a, err));
    RETURN_IF_ERROR(app_open_model(a, cl->words[0], cl_str(cl, "model_type"), err));
    RETURN_IF_ERROR(model_facts(&f, session_model(a->session), rows, longest, threads, err));
    apply_progress(a, cl);
    Status st = cl_given(cl, "hash") ? hash_weights(a, &f, &sha256, err) : ST_OK;
    Str out = {0};
    if (out_format(cl_str(cl, "format")) == OUT_JSON) {
        put_json(&f, sha256, &out);
    } else {
        output_model(&f, true, &out);
        put_digests(&f, sha256, &out);
    }
    if (st == ST_OK)
        st = out.oom ? error_nomem(err, "a report") : app_result(a, &out, NULL, err);
    str_free(&out);
    free(sha256);
    return st;
}

static const Option info_options[] = {
    {"model_type", ARG_STR, "TYPE", "the model's family (default: read from config.json)", COMP_NONE},
    {"rows", ARG_INT, "N", "tokens of the calibration set that memory is planned for (default 16384)", COMP_NONE},
    {"longest", ARG_INT, "N", "tokens of its longest text (default 2048)", COMP_NONE},
    {"threads", ARG_INT, "N", "compute threads (0, the default: every core this process may use)", COMP_NONE},
    {"hash", ARG_FLAG, NULL, "also print the SHA-256 of each of the weights' files", COMP_NONE},
    {"format", ARG_CHOICE, "text|json", "of the report (default text)", COMP_NONE},
    OPTION_PROGRESS,
    {0},
};
const Command command_info = {
    .name = "info",
    .args = "MODEL",
    .summary = "Print what a model is made of, what can be quantized, and the memory an analysis needs.",
    .flags = CMD_CLI_ONLY | CMD_NO_LOG,
    .completes = COMP_FILE,
    .options = info_options,
    .run = run_info,
};
