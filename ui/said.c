/* What is said of a command that succeeded and printed nothing: one row a verb. */
#include <string.h>

#include "session/calibset.h"
#include "session/columns.h"
#include "session/fold.h"
#include "src/lang.h"
#include "text/lexer.h"
#include "ui/workbench.h"

typedef struct Done {
    const char *verb;
    void (*say)(Ui *ui, const Words *w, int verb);
} Done;

static const char *word(const Words *w, int i)
{
    return i < w->n ? w->word[i] : "";
}

/* Whether the job at work, or the next, is the first of what was asked for; others of the same line may wait behind it. */
static bool begins_with(Session *s, const char *metric)
{
    for (int i = 0; *metric && i < session_jobs(s); i++) {
        const JobView *j = session_job(s, i);
        if (j->state == JOB_RUNNING || j->state == JOB_WAITING)
            return j->kind == JOB_ANALYZE && strncmp(j->title, metric, strlen(metric)) == 0;
    }
    return false;
}

static void said_analyze(Ui *ui, const Words *w, int verb)
{
    static const char runs[] = "%s runs; you can go on working, 3 shows the job, ^C stops it";
    if (begins_with(ui_session(ui), word(w, verb + 1)))
        ui_say(ui, SL_TEXT, runs, word(w, verb + 1));
    else if (session_busy(ui_session(ui)))
        ui_say_queued(ui, runs, word(w, verb + 1));
}

static void said_measure(Ui *ui, const Words *w, int verb)
{
    (void)w, (void)verb;
    if (session_busy(ui_session(ui)))
        ui_say_queued(ui, "measuring the real effect; What-if (2) shows it, ^C stops it");
}

static void said_quantize(Ui *ui, const Words *w, int verb)
{
    (void)w, (void)verb;
    if (session_busy(ui_session(ui)))
        ui_say_queued(ui, "writing the quantized model; 3 shows the job, ^C stops it");
}

static void said_resume(Ui *ui, const Words *w, int verb)
{
    (void)w, (void)verb;
    if (session_busy(ui_session(ui)))
        ui_say_queued(ui, "it goes on; 3 shows the job, ^C stops it");
}

static void said_theme(Ui *ui, const Words *w, int verb)
{
    (void)w, (void)verb;
    ui_say(ui, SL_OK, "colours of the theme %s", ui->term.theme.name);
}

static void said_set(Ui *ui, const Words *w, int verb)
{
    if (w->n - verb == 3 && !strchr(word(w, verb + 1), '='))
        ui_say(ui, SL_OK, "%s is %s now", word(w, verb + 1), word(w, verb + 2));
    else
        ui_say(ui, SL_OK, "set: %s%s", word(w, verb + 1), w->n - verb > 2 ? " ..." : "");
}

static void said_dump(Ui *ui, const Words *w, int verb)
{
    ui_say(ui, SL_OK, "the screen was written to %s", word(w, verb + 1));
}

static void said_bind(Ui *ui, const Words *w, int verb)
{
    ui_say(ui, SL_OK, "%s runs '%s' from now on; ? lists it", word(w, verb + 1),
           ui->nbindings ? ui->bindings[ui->nbindings - 1].command : "");
}

static void said_recipe(Ui *ui, const Words *w, int verb)
{
    (void)w, (void)verb;
    const Recipe *r = session_recipe(ui_session(ui));
    if (r)
        ui_say(ui, SL_OK, "the recipe is %s", recipe_name(r));
}

static void said_calib(Ui *ui, const Words *w, int verb)
{
    const char *what = word(w, verb + 1);
    bool up;
    TextSort by = session_texts_sort_key(ui_session(ui), &up);
    const TextTable *t = session_texts(ui_session(ui), NULL);
    if (strcmp(what, "sort") == 0)
        ui_say(ui, SL_OK, up ? "texts by %s, rising" : "texts by %s, falling", text_sort_name(by));
    else if (strcmp(what, "tag") == 0 && t)
        ui_say(ui, SL_OK, t->sums.tagged == 1 ? "%d text is tagged" : "%d texts are tagged", t->sums.tagged);
    else if (strcmp(what, "filter") == 0 && t)
        ui_say(ui, SL_OK, t->shown == 1 ? "%d text of %d passes" : "%d texts of %d pass", t->shown, t->n);
    else
        ui_say(ui, SL_OK, "calibration texts are those of %s; r scores with them", what);
}

static void said_eval(Ui *ui, const Words *w, int verb)
{
    ui_say(ui, SL_OK, "evaluation texts are those of %s; F5 measures with them", word(w, verb + 1));
}

static void said_show(Ui *ui, const Words *w, int verb)
{
    (void)w, (void)verb;
    const Metric *m = session_metric(ui_session(ui));
    const char *text = m && m->explain ? m->explain : m ? m->title : "";
    if (m)
        ui_say(ui, SL_TEXT, "%s: %.*s", m->name, (int)strcspn(text, "\n"), text);
}

static void said_sort(Ui *ui, const Words *w, int verb)
{
    (void)w, (void)verb;
    bool up;
    SortKey k = session_sort_key(ui_session(ui), &up);
    ui_say(ui, SL_TEXT, up ? "sorted by %s, rising" : "sorted by %s, falling", sort_key_name(k));
}

static void said_filter(Ui *ui, const Words *w, int verb)
{
    (void)w, (void)verb;
    int64_t n;
    Session *s = ui_session(ui);
    session_order(s, &n, false);
    if (session_filter_text(s)[0])
        ui_say(ui, SL_TEXT, n == 1 ? "%lld layer of %lld passes" : "%lld layers of %lld pass", (long long)n,
               (long long)ui_model(ui)->nlinears);
    else
        ui_say(ui, SL_TEXT, "the filter is gone; u brings it back");
}

static void said_savefilter(Ui *ui, const Words *w, int verb)
{
    ui_say(ui, SL_OK, "kept as @%s, a word of filters from now on", word(w, verb + 1));
}

static void said_fold(Ui *ui, const Words *w, int verb)
{
    (void)w, (void)verb;
    Session *s = ui_session(ui);
    const char *mode = fold_mode_name(session_fold_mode(s));
    if (session_fold_mode(s) == FOLD_NONE)
        ui_say(ui, SL_TEXT, "every layer has its row again");
    else if (session_folds(s) == 0)
        ui_say(ui, SL_TEXT, "folded by %s: no two rows here belong together", mode);
    else
        ui_say(ui, SL_TEXT, session_folds(s) == 1 ? "folded by %s: %lld fold; o opens it"
                                                  : "folded by %s: %lld folds; o opens one, O all",
               mode, (long long)session_folds(s));
}

static void said_columns(Ui *ui, const Words *w, int verb)
{
    (void)w, (void)verb;
    Session *s = ui_session(ui);
    const Metric *second = session_second(s);
    const unsigned bits = session_columns(s);
    static const char *const more[] = {
        "", N_("the kinds of layers"), N_("advice by rules, which the details name"), N_("kinds, and advice by rules, which the details name"),
    };
    if (second && bits)
        ui_say(ui, SL_TEXT, "shown too: %s with its ranks; %s", second->name, tr(more[bits]));
    else if (second)
        ui_say(ui, SL_TEXT, "shown too: %s with its ranks; = compares the two", second->name);
    else
        ui_say(ui, SL_TEXT, bits ? "shown too: %s" : "only the usual columns are shown", tr(more[bits]));
}

static void said_guide(Ui *ui, const Words *w, int verb)
{
    static const struct {
        const char *deed, *text;
    } said[] = {
        {"goal", "the goal is %s"},           {"skip", "%s is skipped; s takes that back"}, {"todo", "%s is to be done again"},
        {"answer", "the answer for %s is noted"}, {"evidence", "noted for %s"},
    };
    const char *id = word(w, verb + 2);
    bool runs = strcmp(word(w, verb + 1), "run") == 0 || strcmp(word(w, verb + 1), "again") == 0;
    if (runs && session_busy(ui_session(ui)))
        ui_say_queued(ui, "measuring; the guide shows what it finds, 3 shows the job, ^C stops it");
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (strcmp(word(w, verb + 1), said[i].deed) == 0)
            ui_say(ui, SL_OK, said[i].text, id);
}

static const Done table[] = {
    {"analyze", said_analyze}, {"measure", said_measure}, {"quantize", said_quantize}, {"resume", said_resume},
    {"theme", said_theme},     {"set", said_set},         {"dump", said_dump},         {"bind", said_bind},
    {"recipe", said_recipe},   {"calib", said_calib},     {"eval", said_eval},         {"show", said_show},
    {"sort", said_sort},       {"filter", said_filter},   {"fold", said_fold},
    {"columns", said_columns}, {"savefilter", said_savefilter},
    {"guide", said_guide},
};

void ui_said(Ui *ui, const char *line)
{
    Words w;
    if (lexer_split(line, &w, NULL) == ST_OK && w.n > 0) {
        int verb = w.n > 1 && strcmp(w.word[0], "async") == 0;
        size_t n = strcspn(w.word[verb], "!");
        for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
            if (strlen(table[i].verb) == n && strncmp(table[i].verb, w.word[verb], n) == 0)
                table[i].say(ui, &w, verb);
    }
    words_fini(&w);
}
