/* generate: what the model says behind a text, as it is or quantized. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "evaluate/stops.h"
#include "session/asked.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/lang.h"
#include "src/output.h"
#include "text/chat.h"
#include "text/flow.h"

enum { TOKENS_DEFAULT = 64 };

typedef struct Generate {
    App *a;
    Tokenizer *tok;
    const ChatForm *chat;  /* NULL: prompts are taken as they are */
    CalibFile *file;       /* of --prompts, NULL */
    char **text;           /* [n] prompts as they are written */
    int64_t *start;        /* [n + 1] */
    int32_t *ids;
    size_t cap;
    int n;
    int32_t *stop;
    int nstop;
    bool stream;           /* what is said is printed as it comes */
    TextFlow flow;
    Cancel cancel;
} Generate;

static void generate_fini(Generate *g)
{
    for (int i = 0; g->text && i < g->n; i++)
        free(g->text[i]);
    free(g->text);
    free(g->start);
    free(g->ids);
    free(g->stop);
    str_free(&g->flow.held);
    calib_free(g->file);
    tokenizer_free(g->tok);
}

/* ---- prompts ---- */

static Status add_ids(Generate *g, int i, const int32_t *ids, size_t n, Error *err)
{
    int64_t at = g->start[i], vocab = session_model(g->a->session)->cfg.vocab;
    if (!n)
        return error_set(err, ST_DATA, "prompt %d has no token: nothing can be put behind it", i + 1);
    for (size_t k = 0; k < n; k++)
        if (ids[k] >= vocab)
            return error_set(err, ST_DATA, "prompt %d: token %d, but the model's vocabulary has %lld", i + 1, (int)ids[k],
                             (long long)vocab);
    if (!mem_grow(&g->ids, &g->cap, (size_t)at + n, sizeof *g->ids))
        return error_nomem(err, "the prompts");
    memcpy(g->ids + at, ids, n * sizeof *ids);
    g->start[i + 1] = at + (int64_t)n;
    return ST_OK;
}

/* Prompt i as the model gets it. */
static Status add_text(Generate *g, int i, const char *text, size_t len, Error *err)
{
    Str all = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    if (g->chat)
        str_puts(&all, g->chat->before);
    str_append(&all, text, len);
    if (g->chat)
        str_puts(&all, g->chat->after);
    Status st = all.oom ? error_nomem(err, "a prompt") : ST_OK;
    const TextLimits limits = {.cancel = interrupt_cancel()};
    if (st == ST_OK)
        st = tokenizer_encode(g->tok, str_text(&all), all.len, true, &limits, &ids, &n, err);
    if (st == ST_OK)
        st = add_ids(g, i, ids, n, err);
    free(ids);
    g->text[i] = str_detach(&all);
    return st == ST_OK && !g->text[i] ? error_nomem(err, "a prompt") : st;
}

static Status prompts_of(Generate *g, const CommandLine *cl, Error *err)
{
    const char *one = cl_str(cl, "prompt"), *path = cl_str(cl, "prompts");
    if (!one == !path)
        return error_set(err, ST_USAGE, "give either --prompt TEXT or --prompts FILE");
    if (path)
        RETURN_IF_ERROR(calib_open(&g->file, path, false, NULL, err));
    g->n = path ? g->file->count : 1;
    g->text = mem_zarray((size_t)g->n, sizeof *g->text);
    g->start = mem_zarray((size_t)g->n + 1, sizeof *g->start);
    if (!g->text || !g->start)
        return error_nomem(err, "the prompts");
    if (one)
        return add_text(g, 0, one, strlen(one), err);
    for (int i = 0; i < g->n; i++) {
        const struct CalibItem *item = &g->file->items[i];
        RETURN_IF_ERROR(item->ids ? add_ids(g, i, item->ids, (size_t)item->nids, err)
                                  : add_text(g, i, item->text, item->len, err));
    }
    return ST_OK;
}

/* ---- what is said ---- */

static void said(const Generate *g, const int32_t *ids, int64_t n, Str *out)
{
    TextFlow f = {0};
    for (int64_t i = 0; i < n; i++)
        text_flow_put(&f, g->tok, ids[i], out);
    text_flow_end(&f, out);
}

static void print_part(const Generate *g, Str *part)
{
    Error e = {0};
    if (part->len && app_result(g->a, part, NULL, &e) == ST_OK)
        output_flush();
    str_free(part);
}

static bool on_token(void *ctx, int text, int32_t id)
{
    Generate *g = ctx;
    Str part = {0};
    (void)text;
    text_flow_put(&g->flow, g->tok, id, &part);
    print_part(g, &part);
    return true;
}

/* ^C is looked for where the work tells how far it is. */
static void on_progress(void *ctx, const char *phase, int64_t done, int64_t total)
{
    Generate *g = ctx;
    (void)phase;
    (void)done;
    (void)total;
    if (interrupt_take() > 0)
        atomic_store(&g->cancel.level, 2);
}

static const char *const end_words[] = {[GREEDY_STOP] = "stop", [GREEDY_LENGTH] = "length", [GREEDY_TOLD] = "told"};

static void write_json(const Generate *g, const Greedy *r, bool quantized, Str *out)
{
    str_puts(out, "{\"model\":");
    str_json(out, session_model(g->a->session)->path);
    str_printf(out, ",\"quantized\":%s,\"results\":[", quantized ? "true" : "false");
    for (int i = 0; i < r->texts; i++) {
        Str text = {0};
        int64_t n = r->start[i + 1] - r->start[i];
        said(g, r->ids + r->start[i], n, &text);
        str_printf(out, "%s\n{\"prompt\":", i ? "," : "");
        if (g->text[i])
            str_json(out, g->text[i]);
        else
            str_puts(out, "null");
        str_printf(out, ",\"prompt_tokens\":%lld,\"text\":", (long long)(g->start[i + 1] - g->start[i]));
        str_json(out, str_text(&text));
        str_puts(out, ",\"ids\":[");
        for (int64_t k = 0; k < n; k++)
            str_printf(out, "%s%d", k ? "," : "", (int)r->ids[r->start[i] + k]);
        str_printf(out, "],\"end\":\"%s\"}", end_words[r->end[i]]);
        str_free(&text);
    }
    str_puts(out, "\n]}\n");
}

/* Of several prompts each behind the first words of its own. */
static void write_text(const Generate *g, const Greedy *r, Str *out)
{
    enum { WORDS = 60 };
    for (int i = 0; i < r->texts; i++) {
        if (r->texts > 1) {
            const char *p = g->text[i] ? g->text[i] : "";
            size_t n = strcspn(p, "\n");
            for (n = n > WORDS ? WORDS : n; n && ((unsigned char)p[n] & 0xc0) == 0x80;) /* not within a character */
                n--;
            str_printf(out, "%s#%d %.*s%s\n", i ? "\n" : "", i + 1, (int)n, p, p[n] ? "..." : "");
        }
        said(g, r->ids + r->start[i], r->start[i + 1] - r->start[i], out);
        str_putc(out, '\n');
    }
}

static Status give(Generate *g, const CommandLine *cl, const Greedy *r, bool quantized, Error *err)
{
    Str out = {0};
    if (g->stream) {
        text_flow_end(&g->flow, &out);
        str_putc(&out, '\n');
        print_part(g, &out);
        return ST_OK;
    }
    if (out_format(cl_str(cl, "format")) == OUT_JSON)
        write_json(g, r, quantized, &out);
    else
        write_text(g, r, &out);
    Status st = app_result(g->a, &out, cl_str(cl, "out"), err);
    str_free(&out);
    return st;
}

static void tell_facts(const Generate *g, const Greedy *r, const SubjectFacts *f, double seconds)
{
    int64_t n = r->start[r->texts];
    char left[80] = "";
    if (f->left)
        snprintf(left, sizeof left, ", %llu linear%s read anew in every step (--mem)", (unsigned long long)f->left,
                 f->left == 1 ? "" : "s");
    app_note(g->a, "%lld token%s in %.2f s (%.0f tokens/s), %d text%s at a time; weights that stay ready %.1f MB%s; bound %.1f MB",
             (long long)n, n == 1 ? "" : "s", seconds, seconds > 0 ? (double)n / seconds : 0, f->at_once, f->at_once == 1 ? "" : "s",
             (double)f->ready / 1e6, left, (double)f->bound / 1e6);
}

/* ---- the command ---- */

static Status ask(Generate *g, const CommandLine *cl, bool quantized, Error *err)
{
    Asked *asked;
    Greedy r;
    SubjectFacts facts;
    TokenSet t = {.name = (char *)(uintptr_t)"the prompts", .samples = g->n, .start = g->start, .ids = g->ids};
    const AskedOptions ao = {.quantized = quantized, .cancel = &g->cancel, .progress = on_progress, .ctx = g};
    const GreedyOptions o = {.stop = g->stop, .nstop = g->nstop, .max_tokens = cl_int(cl, "max-tokens", TOKENS_DEFAULT),
                             .token = g->stream ? on_token : NULL, .ctx = g};
    RETURN_IF_ERROR(asked_new(&asked, g->a->session, &ao, err));
    int64_t t0 = clock_ns(), unseen = subject_unseen(asked_subject(asked));
    if (unseen)
        app_note(g->a, "%lld expert linear%s stay in float: they saw no token of the calibration set", (long long)unseen,
                 unseen == 1 ? "" : "s");
    Status st = subject_generate(asked_subject(asked), &t, &o, &r, &facts, err);
    if (st == ST_OK) {
        double seconds = (double)(clock_ns() - t0) * 1e-9;
        st = give(g, cl, &r, quantized, err);
        if (st == ST_OK)
            tell_facts(g, &r, &facts, seconds);
    }
    greedy_fini(&r);
    asked_free(asked);
    return st;
}

static Status open_generate(App *a, const CommandLine *cl, bool *quantized, Error *err)
{
    const char *path = cl->nwords ? cl->words[0] : cl_str(cl, "model_path"), *recipe = cl_str(cl, "recipe");
    const char *set = cl_str(cl, "calib_dataset");
    bool own = a->face == FACE_CLI;
    RETURN_IF_ERROR(want_words(cl, 0, own, err));
    if (!own && (cl_given(cl, "model_path") || recipe))
        return error_set(err, ST_USAGE, "--model_path and --recipe belong to the program's command line: use 'open' and 'recipe' here");
    if (own && !path)
        return error_set(err, ST_USAGE, "'generate' needs a model's folder");
    RETURN_IF_ERROR(apply_run_options(a, cl, err));
    if (own)
        RETURN_IF_ERROR(app_open_model(a, path, cl_str(cl, "model_type"), err));
    RETURN_IF_ERROR(app_need_model(a, err));
    if (recipe)
        RETURN_IF_ERROR(session_open_recipe(a->session, recipe, NULL, err));
    if (set)
        RETURN_IF_ERROR(session_set_calib(a->session, set, err));
    *quantized = own ? recipe != NULL : !cl_given(cl, "float");
    return ST_OK;
}

/* On the screen a job says it; without a prompt the newest answer is shown. */
static Status show_said(const Generate *g, Error *err)
{
    const Said *last = session_said(g->a->session);
    Str out = {0};
    if (!last)
        return error_set(err, ST_USAGE, "nothing was generated yet: generate --prompt TEXT");
    str_printf(&out, "%s\n---- %s ----\n", last->prompt, tr(last->quantized ? N_("quantized") : N_("float")));
    said(g, last->ids, last->n, &out);
    str_putc(&out, '\n');
    Status st = app_result(g->a, &out, NULL, err);
    str_free(&out);
    return st;
}

static Status queue_ask(Generate *g, const CommandLine *cl, bool quantized, Error *err)
{
    if (g->n != 1 || cl_given(cl, "out") || cl_given(cl, "format"))
        return error_set(err, ST_USAGE, "on the screen one --prompt at a time: --prompts, --format and --out are for the shell");
    const char *prompt = cl_str(cl, "prompt");
    const GenerateAsk one = {.prompt = prompt ? prompt : "", .ids = g->ids, .nids = g->start[1], .stop = g->stop,
                             .nstop = g->nstop, .max_tokens = cl_int(cl, "max-tokens", TOKENS_DEFAULT), .quantized = quantized};
    return session_generate(g->a->session, &one, err);
}

static Status run_generate(App *a, const CommandLine *cl, Error *err)
{
    Generate g = {.a = a};
    bool quantized = false;
    RETURN_IF_ERROR(open_generate(a, cl, &quantized, err));
    int64_t most = cl_int(cl, "max-tokens", TOKENS_DEFAULT);
    if (most < 1 || most > 1 << 20)
        return error_set(err, ST_USAGE, "--max-tokens: from 1 to %d", 1 << 20);
    const Model *m = session_model(a->session);
    Status st = tokenizer_open(&g.tok, m->path, err);
    if (st == ST_OK && a->face == FACE_UI && !cl_given(cl, "prompt") && !cl_given(cl, "prompts")) {
        st = show_said(&g, err);
        generate_fini(&g);
        return st;
    }
    if (st == ST_OK && cl_given(cl, "chat"))
        st = chat_form(m->path, &g.chat, err);
    if (st == ST_OK)
        st = stop_tokens(m->path, g.tok, m->cfg.vocab, g.chat ? g.chat->end : NULL, &g.stop, &g.nstop, err);
    if (st == ST_OK)
        st = prompts_of(&g, cl, err);
    g.stream = g.n == 1 && !cl_given(cl, "out") && out_format(cl_str(cl, "format")) == OUT_TEXT;
    if (st == ST_OK)
        st = (a->face == FACE_UI ? queue_ask : ask)(&g, cl, quantized, err);
    generate_fini(&g);
    return st;
}

static const Option generate_options[] = {
    {"prompt", ARG_TEXT, "S", "the text that the model goes on with", COMP_NONE},
    {"prompts", ARG_PATH, "FILE", "several: a file as of a calibration set (.jsonl, .json)", COMP_FILE},
    {"max-tokens", ARG_INT, "N", "end each text after N tokens (default 64)", COMP_NONE},
    {"chat", ARG_FLAG, NULL, "as a person's turn in the model's chat template", COMP_NONE},
    {"recipe", ARG_PATH, "FILE", "what the model says quantized so (default: in float)", COMP_FILE},
    {"float", ARG_FLAG, NULL, "in a session: the float model, not the present decision", COMP_NONE},
    {"model_path", ARG_PATH, "DIR", "the model's folder", COMP_FILE},
    {"model_type", ARG_STR, "TYPE", "the model's family (default: read from config.json)", COMP_NONE},
    {"calib_dataset", ARG_PATH, "FILE", "calibration set of a recipe (default mix_calib.jsonl)", COMP_FILE},
    {"format", ARG_CHOICE, "text|json", "of the result (default text: of one prompt as it comes)", COMP_NONE},
    {"out", ARG_PATH, "FILE", "write the result to FILE (whole or not at all) instead of standard output", COMP_FILE},
    {"threads", ARG_INT, "N", "compute threads (0, the default: every core this process may use)", COMP_NONE},
    {"mem", ARG_SIZE, "SIZE", "memory bound, 300M or 4G (default: 70 % of what is available)", COMP_NONE},
    {"max-samples", ARG_INT, "N", "of a recipe: use only the first N calibration texts (default: all)", COMP_NONE},
    {"seq-len", ARG_INT, "N", "of a recipe: cut them to N tokens (default: no limit)", COMP_NONE},
    OPTION_ARITH,
    {"compat", ARG_CHOICE, "peer", "quantize exactly as msModelSlim does, quirks included; implies --dtype-sim exact",
     COMP_NONE},
    {0},
};
const Command command_generate = {
    .name = "generate",
    .args = "[MODEL]",
    .summary = "Print what the model says behind a text, token by token the likeliest, in float or quantized.",
    .help = "Keys and values of the text are kept, so each token goes through the model once; weights stay ready in memory "
            "while --mem has room. With a recipe linears compute as 'measure' runs them; keys and values are not quantized. "
            "A text ends at eos_token_id of generation_config.json. The same at every number of threads. In a session the present "
            "decision is asked (--float: the float model); on the screen a job does it, and 'generate' alone shows what came.",
    .flags = CMD_CLI,
    .completes = COMP_FILE,
    .options = generate_options,
    .run = run_generate,
};
