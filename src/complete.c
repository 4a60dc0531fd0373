/* Completion: what the last word of a line could become. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "session/columns.h"
#include "session/fold.h"
#include "src/internal.h"
#include "src/lang.h"
#include "src/plot.h"

enum { MAX_HITS = 500 };

typedef struct Hits {
    char **list;
    size_t cap;
    int n;
} Hits;

/* Adds a candidate when it begins with `word`; `text` is quoted for the line, `more` (not quoted) follows it. */
static void offer(Hits *h, const char *word, const char *text, const char *more)
{
    if (h->n >= MAX_HITS || strncmp(text, word, strlen(word)) != 0)
        return;
    Str b = {0};
    lexer_quote(&b, text);
    str_puts(&b, more);
    char *s = str_detach(&b);
    if (!s || !mem_grow(&h->list, &h->cap, (size_t)h->n + 2, sizeof *h->list)) {
        free(s);
        return;
    }
    h->list[h->n++] = s;
    h->list[h->n] = NULL;
}

static void offer_verbs(const App *a, Hits *h, const char *word)
{
    for (int i = 0; command_table[i]; i++)
        if (!(command_table[i]->flags & CMD_CLI_ONLY) || a->face == FACE_CLI)
            offer(h, word, command_table[i]->name, "");
}

/* Layer names up to the next '.', the way a shell completes folders. */
static void offer_layers(const App *a, Hits *h, const char *word)
{
    const Model *m = a->session ? session_model(a->session) : NULL;
    size_t n = strlen(word);
    Str last = {0};
    for (int64_t i = 0; m && i < m->nlinears; i++) {
        const char *name = m->linears[i].name;
        if (strncmp(name, word, n) != 0)
            continue;
        const char *dot = strchr(name + n, '.');
        size_t len = dot ? (size_t)(dot - name) + 1 : strlen(name);
        if (last.s && last.len == len && strncmp(last.s, name, len) == 0)
            continue;
        str_clear(&last);
        str_append(&last, name, len);
        bool seen = false;
        for (int k = 0; k < h->n && !seen; k++)
            seen = strcmp(h->list[k], str_text(&last)) == 0;
        if (!seen)
            offer(h, word, str_text(&last), "");
    }
    str_free(&last);
    static const char *const presets[] = {"tagged", "first=", "last=", "kind="};
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
        offer(h, word, presets[i], "");
}

static void offer_files(Hits *h, const char *word)
{
    const char *slash = strrchr(word, '/');
    size_t dir_len = slash ? (size_t)(slash - word) + 1 : 0;
    char *dir = dir_len ? strndup(word, dir_len) : strdup(".");
    DIR *d = dir ? opendir(dir) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            (e->d_name[0] == '.' && word[dir_len] != '.'))
            continue;
        Str path = {0};
        str_append(&path, word, dir_len);
        str_puts(&path, e->d_name);
        struct stat sb;
        bool folder = stat(str_text(&path), &sb) == 0 && S_ISDIR(sb.st_mode);
        offer(h, word, str_text(&path), folder ? "/" : "");
        str_free(&path);
    }
    if (d)
        closedir(d);
    free(dir);
}

/* Words of a filter, and what they keep. */
static const struct {
    const char *word, *help;
} filter_words[] = {
    {"kind=", "of this kind, as kind=down_proj"},
    {"layer=", "of these blocks: layer=3 or layer=3..7"},
    {"score>", "with a higher score, as score>0.01"},
    {"score<", "with a lower one"},
    {"first=", "of the first so many blocks"},
    {"last=", "of the last so many blocks"},
    {"float", "kept in float"},
    {"failed", "whose score failed"},
    {"tagged", "that are tagged"},
};
enum { FILTER_WORDS = sizeof filter_words / sizeof filter_words[0] };

static void offer_filter(const App *a, Hits *h, const char *word)
{
    const Model *m = a->session ? session_model(a->session) : NULL;
    const char *text;
    for (int i = 0; i < FILTER_WORDS; i++)
        offer(h, word, filter_words[i].word, "");
    for (int64_t i = 0; m && i < m->nlinears && strncmp(word, "kind=", 5) == 0; i++) {
        char kind[64];
        snprintf(kind, sizeof kind, "kind=%s", linear_kind_name(m->linears[i].kind));
        bool seen = false;
        for (int k = 0; k < h->n && !seen; k++)
            seen = strcmp(h->list[k], kind) == 0;
        if (!seen)
            offer(h, word, kind, "");
    }
    for (int i = 0; a->session && session_filter_name(a->session, i, &text); i++) {
        Str name = {0};
        str_printf(&name, "@%s", session_filter_name(a->session, i, &text));
        offer(h, word, str_text(&name), "");
        str_free(&name);
    }
}

static void tell_filter(const App *a, const char *word, Str *out)
{
    const char *text, *name;
    for (int i = 0; i < FILTER_WORDS; i++)
        if (strcmp(filter_words[i].word, word) == 0)
            str_puts(out, filter_words[i].help);
    for (int i = 0; word[0] == '@' && a->session && (name = session_filter_name(a->session, i, &text)) != NULL; i++)
        if (strcmp(name, word + 1) == 0)
            str_puts(out, text);
}

static void offer_themes(Hits *h, const char *word)
{
    char *dir = app_find_data("themes", NULL);
    DIR *d = dir ? opendir(dir) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        char *dot = strrchr(e->d_name, '.');
        if (dot && strcmp(dot, ".theme") == 0) {
            *dot = 0;
            offer(h, word, e->d_name, "");
        }
    }
    if (d)
        closedir(d);
    free(dir);
}

/* The alternatives of "a|b|c". */
static void offer_choices(Hits *h, const char *word, const char *choices)
{
    while (choices && *choices) {
        size_t n = strcspn(choices, "|");
        char *one = strndup(choices, n);
        if (one)
            offer(h, word, one, "");
        free(one);
        choices += n + (choices[n] == '|');
    }
}

/* ---- settings: what they are, and what they are now ---- */

static void now_count(Str *out, int64_t n, const char *none)
{
    if (n > 0)
        str_printf(out, "%lld", (long long)n);
    else
        str_puts(out, none);
}

static void now_threads(const SessionOptions *o, Str *out)
{
    now_count(out, o->threads, "every core");
}

static void now_samples(const SessionOptions *o, Str *out)
{
    now_count(out, o->max_samples, "all");
}

static void now_seq_len(const SessionOptions *o, Str *out)
{
    now_count(out, o->seq_len, "whole texts");
}

static void now_ctx(const SessionOptions *o, Str *out)
{
    now_count(out, o->ctx, "512");
}

static void now_tokens(const SessionOptions *o, Str *out)
{
    now_count(out, o->eval_tokens, "all");
}

static void now_seed(const SessionOptions *o, Str *out)
{
    str_printf(out, "%llu", (unsigned long long)o->seed);
}

static void now_arith(const SessionOptions *o, Str *out)
{
    str_puts(out, arith_name(o->arith));
}

/* NULL: it is none, or not the whole word. */
static const char *arith_means(const char *choice)
{
    ArithMode m;
    return arith_find(choice, &m) ? arith_table[m].help : NULL;
}

static void now_compat(const SessionOptions *o, Str *out)
{
    str_puts(out, o->peer ? "peer" : "none");
}

static void now_mem(const SessionOptions *o, Str *out)
{
    if (o->mem > 0)
        str_printf(out, "%.1f MiB", (double)o->mem / (1 << 20));
    else
        str_puts(out, "70 % of what is available");
}

static void now_session_cap(const SessionOptions *o, Str *out)
{
    if (o->session_cap > 0)
        str_bytes(out, o->session_cap);
    else
        str_puts(out, "no limit");
}

static void now_runtime(const SessionOptions *o, Str *out)
{
    str_puts(out, o->runtime ? o->runtime->name : "none");
}

static void now_profile(const SessionOptions *o, Str *out)
{
    str_puts(out, o->profile ? "on" : "off");
}

static void now_budget(const SessionOptions *o, Str *out)
{
    str_puts(out, o->budget.text[0] ? o->budget.text : "none");
}

static void now_probe(const SessionOptions *o, Str *out)
{
    now_count(out, o->tokens, "its own number");
}

static void now_labels(const SessionOptions *o, Str *out)
{
    str_puts(out, o->data_labels ? "data" : "model");
}

static void now_lang(const SessionOptions *o, Str *out)
{
    (void)o;
    str_puts(out, lang_name());
}

static void now_color(const SessionOptions *o, Str *out)
{
    (void)o;
    str_puts(out, "as the screen is drawn");
}

/* What completion tells of the rows of setting_table, and of the two settings that are the program's. */
static const struct {
    const char *key, *help, *choices; /* choices: NULL for numbers */
    void (*now)(const SessionOptions *o, Str *out);
    const char *(*means)(const char *choice); /* NULL: the choices say it themselves */
} setting_words[] = {
    {"threads", "compute threads", NULL, now_threads, NULL},
    {"mem", "memory bound, as 300M or 4G", NULL, now_mem, NULL},
    {"max-samples", "use only the first N texts", NULL, now_samples, NULL},
    {"seq-len", "cut texts to N tokens", NULL, now_seq_len, NULL},
    {"ctx", "tokens of an evaluation window", NULL, now_ctx, NULL},
    {"eval-tokens", "evaluation tokens of a measurement, 0 for all", NULL, now_tokens, NULL},
    {"tokens", "tokens that alone, block_error, fisher and errors of outputs take, 0 for their own number", NULL, now_probe, NULL},
    {"labels", "whose next tokens fisher's gradients are of: drawn from the model, or the texts'", "model|data", now_labels, NULL},
    {"dtype-sim", "arithmetic", ARITH_WORDS, now_arith, arith_means},
    {"compat", "whose quantization", "peer|none", now_compat, NULL},
    {"seed", "random seed", NULL, now_seed, NULL},
    {"runtime", "engine that shall load it", RUNTIME_WORDS "|none", now_runtime, NULL},
    {"budget", "limit that the set is held against, as +20M, 300M or 5.2bits", "none", now_budget, NULL},
    {"session-cap", "what sessions may take together, as 2G; 0 for no limit", NULL, now_session_cap, NULL},
    {"profile", "whether jobs tell where their CPU time went", "on|off", now_profile, NULL},
    {"lang", "language of the workbench", "auto|en|zh", now_lang, NULL},
    {"color", "whether the workbench has colours", "auto|always|never", now_color, NULL},
};
enum { SETTING_WORDS = sizeof setting_words / sizeof setting_words[0] };

static void offer_settings(Hits *h, const char *word)
{
    const char *eq = strchr(word, '=');
    for (int i = 0; i < SETTING_WORDS && !eq; i++)
        offer(h, word, setting_words[i].key, "=");
    for (int i = 0; i < SETTING_WORDS && eq; i++) {
        size_t n = (size_t)(eq - word);
        if (strlen(setting_words[i].key) != n || strncmp(setting_words[i].key, word, n) != 0)
            continue;
        for (const char *c = setting_words[i].choices; c && *c;) {
            size_t len = strcspn(c, "|");
            Str b = {0};
            str_printf(&b, "%s=%.*s", setting_words[i].key, (int)len, c);
            offer(h, word, str_text(&b), "");
            str_free(&b);
            c += len + (c[len] == '|');
        }
    }
}

static void tell_setting(const App *a, const char *word, Str *out)
{
    const SessionOptions *o = a->session ? session_options(a->session) : &a->options;
    size_t n = strcspn(word, "=");
    for (int i = 0; i < SETTING_WORDS; i++) {
        if (strlen(setting_words[i].key) != n || strncmp(setting_words[i].key, word, n) != 0)
            continue;
        const char *means = word[n] && setting_words[i].means ? setting_words[i].means(word + n + 1) : NULL;
        str_puts(out, "now ");
        setting_words[i].now(o, out);
        if (means)
            str_printf(out, "; %s: %s", word + n + 1, means);
        else
            str_printf(out, ": %s", setting_words[i].help);
    }
}

static void offer_values(const App *a, Hits *h, const char *word, Completes what)
{
    const char *view;
    switch (what) {
    case COMP_NONE: break;
    case COMP_FILE: offer_files(h, word); break;
    case COMP_LAYER: offer_layers(a, h, word); break;
    case COMP_METRIC:
        for (const Metric *const *m = session_metrics(a->session); *m; m++)
            offer(h, word, (*m)->name, "");
        break;
    case COMP_FILTER: offer_filter(a, h, word); break;
    case COMP_COLUMN:
        for (int i = 0; table_column_name(i); i++)
            offer(h, word, table_column_name(i), "");
        offer(h, word, "none", "");
        offer_values(a, h, word, COMP_METRIC);
        break;
    case COMP_VERB: offer_verbs(a, h, word); break;
    case COMP_THEME: offer_themes(h, word); break;
    case COMP_LEVEL:
        for (int i = 0; a->session && i < session_levels(a->session); i++)
            offer(h, word, session_level_name(a->session, i), "");
        break;
    case COMP_SETTING: offer_settings(h, word); break;
    case COMP_SCREEN:
        for (int i = 0; a->screen && (view = a->screen->view_name(i)) != NULL; i++)
            offer(h, word, view, "");
        break;
    case COMP_SORT:
        for (int i = 0; i < SORT_KEYS; i++)
            offer(h, word, sort_key_name((SortKey)i), "");
        break;
    case COMP_FOLD:
        for (int i = 0; i < FOLD_MODES; i++)
            offer(h, word, fold_mode_name((FoldMode)i), "");
        break;
    case COMP_PLOT:
        for (int i = 0; i < PLOT_KINDS; i++)
            offer(h, word, plot_name((PlotKind)i), "");
        break;
    }
}

static void offer_options(Hits *h, const char *word, const Command *cmd)
{
    for (const Option *o = cmd->options; o && o->name; o++) {
        Str b = {0};
        str_printf(&b, "--%s", o->name);
        if (o->help)
            offer(h, word, str_text(&b), "");
        str_free(&b);
    }
}

/* The option whose value the last word is: the one before it, or a list further left. NULL: a positional word. */
static const Option *option_before(const Command *cmd, const Words *w, int verb)
{
    for (int i = w->n - 2; i > verb; i--) {
        if (strncmp(w->word[i], "--", 2) != 0)
            continue;
        const Option *o =
            strchr(w->word[i], '=') ? NULL : option_find(cmd, w->word[i] + 2, strlen(w->word[i] + 2), NULL);
        bool takes = o && (o->type == ARG_LIST || (i == w->n - 2 && o->type != ARG_FLAG));
        return takes ? o : NULL;
    }
    return NULL;
}

/* What the last word of a line can be. */
typedef struct Place {
    const Command *cmd; /* NULL: it is the verb, or nothing is known of it */
    const Option *opt;  /* whose value it is */
    bool option;        /* a --name of cmd */
    Completes what;
    bool own;           /* cmd->offer knows it */
    int verb;           /* the words before its own */
} Place;

/* What a command's own offers are held against. */
struct Own {
    const char *word;
    bool whole;         /* what the word means is asked for, into out; else words that begin so, into hits */
    Hits *hits;
    Str *out;
};

static Place find_place(const Words *w)
{
    int verb = w->n > 1 && strcmp(w->word[0], "async") == 0 ? 1 : 0;
    Place p = {.what = COMP_NONE, .verb = verb};
    if (w->n - 1 == verb) {
        p.what = COMP_VERB;
        return p;
    }
    p.cmd = command_find(w->word[verb]);
    if (!p.cmd)
        return p;
    p.option = w->word[w->n - 1][0] == '-';
    p.opt = p.option ? NULL : option_before(p.cmd, w, verb);
    if (p.opt)
        p.what = p.opt->completes;
    else if (p.cmd->offer)
        p.own = true;
    else if ((p.cmd->completes == COMP_LEVEL || p.cmd->completes == COMP_PLOT) && w->n - 2 > verb)
        p.what = COMP_LAYER; /* level NAME TARGET..., plot KIND LINEAR */
    else
        p.what = p.cmd->completes;
    return p;
}

/* Words of a command that knows them itself. */
static void put_own(void *ctx, const char *word, const char *means)
{
    struct Own *o = ctx;
    if (o->whole && strcmp(word, o->word) == 0)
        str_puts(o->out, means);
    if (!o->whole)
        offer(o->hits, o->word, word, "");
}

static void complete_word(const App *a, Hits *h, const Words *w)
{
    const char *word = w->word[w->n - 1];
    Place p = find_place(w);
    if (p.option)
        offer_options(h, word, p.cmd);
    else if (p.opt && p.opt->type == ARG_CHOICE)
        offer_choices(h, word, p.opt->value);
    else if (p.own)
        p.cmd->offer(a, (const char *const *)w->word + p.verb + 1, w->n - 2 - p.verb, put_own, &(struct Own){word, false, h, NULL});
    else
        offer_values(a, h, word, p.what);
    if (p.own && h->n == 0)
        offer_values(a, h, word, p.cmd->completes);
}

void app_complete_help(App *a, const char *line, const char *word, Str *out)
{
    Words w;
    bool good = lexer_partial(line, &w, NULL) == ST_OK && w.n && !w.comment;
    Place p = good ? find_place(&w) : (Place){.what = COMP_NONE};
    const Command *verb = p.what == COMP_VERB && !p.option ? command_find(word) : NULL;
    const Metric *m = (p.what == COMP_METRIC || p.what == COMP_COLUMN) && !p.option ? session_metric_find(a->session, word) : NULL;
    const Option *o = p.option && strncmp(word, "--", 2) == 0 ? option_find(p.cmd, word + 2, strlen(word) - 2, NULL) : NULL;
    if (p.own)
        p.cmd->offer(a, (const char *const *)w.word + p.verb + 1, w.n - 2 - p.verb, put_own, &(struct Own){word, true, NULL, out});
    else if (verb)
        str_puts(out, verb->summary);
    else if (m)
        str_puts(out, m->title);
    else if (o && o->help)
        str_puts(out, o->help);
    else if (p.what == COMP_SETTING)
        tell_setting(a, word, out);
    else if (p.what == COMP_FILTER)
        tell_filter(a, word, out);
    words_fini(&w);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **app_complete(App *a, const char *line)
{
    Hits h = {0};
    Words w;
    if (lexer_partial(line, &w, NULL) == ST_OK && w.n && !w.comment)
        complete_word(a, &h, &w);
    words_fini(&w);
    if (!h.list)
        return calloc(1, sizeof *h.list);
    qsort(h.list, (size_t)h.n, sizeof *h.list, by_text);
    return h.list;
}

char **app_search_commands(const char *line)
{
    Hits h = {0};
    Words w;
    bool one = lexer_partial(line, &w, NULL) == ST_OK && w.n == 1 && w.word[0][0] && !w.comment;
    for (int i = 0; one && command_table[i]; i++) {
        const Command *c = command_table[i];
        if (!(c->flags & CMD_CLI_ONLY) && (strcasestr(c->name, w.word[0]) || strcasestr(c->summary, w.word[0])))
            offer(&h, "", c->name, "");
    }
    words_fini(&w);
    return h.list ? h.list : calloc(1, sizeof *h.list);
}
