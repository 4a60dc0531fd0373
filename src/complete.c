/* Completion: what the last word of a line could become. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "session/fold.h"
#include "src/internal.h"

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
    offer(h, word, "tagged", "");
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

static void offer_values(const App *a, Hits *h, const char *word, Completes what)
{
    const char *view;
    switch (what) {
    case COMP_NONE: break;
    case COMP_FILE: offer_files(h, word); break;
    case COMP_LAYER: offer_layers(a, h, word); break;
    case COMP_METRIC:
        for (int i = 0; metric_table[i]; i++)
            offer(h, word, metric_table[i]->name, "");
        break;
    case COMP_VERB: offer_verbs(a, h, word); break;
    case COMP_THEME: offer_themes(h, word); break;
    case COMP_LEVEL:
        for (int i = 0; a->session && i < session_levels(a->session); i++)
            offer(h, word, session_level_name(a->session, i), "");
        break;
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

static void complete_word(const App *a, Hits *h, const Words *w)
{
    int verb = w->n > 1 && strcmp(w->word[0], "async") == 0 ? 1 : 0;
    const char *word = w->word[w->n - 1];
    if (w->n - 1 == verb) {
        offer_verbs(a, h, word);
        return;
    }
    const Command *cmd = command_find(w->word[verb]);
    if (!cmd)
        return;
    if (word[0] == '-') {
        offer_options(h, word, cmd);
        return;
    }
    const Option *o = option_before(cmd, w, verb);
    if (o && o->type == ARG_CHOICE)
        offer_choices(h, word, o->value);
    else if (cmd->completes == COMP_LEVEL && !o && w->n - 2 > verb)
        offer_values(a, h, word, COMP_LAYER); /* level NAME TARGET... */
    else
        offer_values(a, h, word, o ? o->completes : cmd->completes);
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
