/* guide: the five steps of accuracy tuning. */
#include <string.h>

#include "session/guide.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

/* brief: the steps alone. */
static Status print(App *a, const CommandLine *cl, const char *out, bool brief, Error *err)
{
    Str text = {0};
    Status st = output_guide(a->session, out_format(cl_str(cl, "format")), brief, &text, err);
    if (st == ST_OK)
        st = app_result(a, &text, out, err);
    str_free(&text);
    return st;
}

/* The words from `first` on, with blanks between. */
static Status rest(const CommandLine *cl, int first, Str *out, Error *err)
{
    for (int i = first; i < cl->nwords; i++)
        str_printf(out, "%s%s", i > first ? " " : "", cl->words[i]);
    return out->oom ? error_nomem(err, "the guide") : ST_OK;
}

static Status do_report(App *a, const CommandLine *cl, Error *err)
{
    return print(a, cl, cl->words[1], false, err);
}

static Status do_goal(App *a, const CommandLine *cl, Error *err)
{
    return session_guide_goal(a->session, cl->words[1], err);
}

static Status runs(App *a, const CommandLine *cl, Status (*run)(Session *s, const char *id, int *jobs, Error *err), Error *err)
{
    int jobs;
    RETURN_IF_ERROR(run(a->session, cl->words[1], &jobs, err));
    if (!app_waits(a)) {
        if (!jobs) /* of its own: others may run */
            app_note(a, "known already: nothing had to run");
        return ST_OK;
    }
    Status st = jobs ? app_wait(a, err) : ST_OK;
    Error second = {0};
    Status said = print(a, cl, NULL, true, &second);
    if (st == ST_OK && said != ST_OK)
        return error_set(err, said, "%s", second.text);
    return st;
}

static Status do_run(App *a, const CommandLine *cl, Error *err)
{
    return runs(a, cl, session_guide_run, err);
}

static Status do_again(App *a, const CommandLine *cl, Error *err)
{
    return runs(a, cl, session_guide_again, err);
}

static Status do_apply(App *a, const CommandLine *cl, Error *err)
{
    Str what = {0};
    Status st = session_guide_apply(a->session, cl->words[1], cl_given(cl, "beside"), &what, err);
    str_puts(&what, "\n");
    if (st == ST_OK)
        st = app_result(a, &what, NULL, err);
    str_free(&what);
    return st;
}

static Status do_whatif(App *a, const CommandLine *cl, Error *err)
{
    Str text = {0};
    Status st = session_guide_preview(a->session, cl->words[1], cl_given(cl, "beside"), &text, err);
    if (st == ST_OK)
        st = app_result(a, &text, NULL, err);
    str_free(&text);
    return st;
}

static Status do_skip(App *a, const CommandLine *cl, Error *err)
{
    Str reason = {0};
    Status st = rest(cl, 2, &reason, err);
    if (st == ST_OK)
        st = session_guide_skip(a->session, cl->words[1], str_text(&reason), err);
    str_free(&reason);
    return st;
}

static Status do_todo(App *a, const CommandLine *cl, Error *err)
{
    return session_guide_skip(a->session, cl->words[1], NULL, err);
}

static Status do_answer(App *a, const CommandLine *cl, Error *err)
{
    Str note = {0};
    Status st = rest(cl, 3, &note, err);
    if (st == ST_OK)
        st = session_guide_answer(a->session, cl->words[1], cl->words[2], str_text(&note), err);
    str_free(&note);
    return st;
}

static Status do_evidence(App *a, const CommandLine *cl, Error *err)
{
    Str text = {0};
    Status st = rest(cl, 2, &text, err);
    if (st == ST_OK)
        st = session_guide_note(a->session, cl->words[1], str_text(&text), err);
    str_free(&text);
    return st;
}

static void offer_ids(const App *a, int n, OfferWord *put, void *ctx)
{
    const GuideView *v;
    if (n != 1 || !a->session || session_guide(a->session, &v, NULL) != ST_OK)
        return;
    for (int k = 0; k < GUIDE_STEPS; k++)
        put(ctx, v->step[k].id, v->step[k].title);
    for (int i = 0; i < v->nitems; i++)
        put(ctx, v->item[i].id, v->item[i].title);
}

static void offer_answers(const App *a, int n, OfferWord *put, void *ctx)
{
    const GuideView *v;
    if (!a->session || session_guide(a->session, &v, NULL) != ST_OK)
        return;
    for (int i = 0; n == 1 && i < v->nitems; i++)
        if (v->item[i].asks)
            put(ctx, v->item[i].id, v->item[i].title);
    static const char *const words[] = {"yes", "no", "unknown"};
    for (int i = 0; n == 2 && i < 3; i++)
        put(ctx, words[i], "");
}

static void offer_goals(const App *a, int n, OfferWord *put, void *ctx)
{
    (void)a;
    if (n != 1)
        return;
    put(ctx, "ppl=+1%", "the perplexity may grow by 1 %");
    put(ctx, "kl=0.05", "KL in nats a token, against float");
}

static const struct Deed {
    const char *name, *usage;
    int least, most; /* words behind the name; most -1: any number */
    Status (*run)(App *a, const CommandLine *cl, Error *err);
    const char *means;
    void (*offer)(const App *a, int n, OfferWord *put, void *ctx); /* what its n-th word may be; NULL: nothing is known of it */
} deeds[] = {
    {"report", "guide report [FILE]", 0, 1, do_report, "all steps and entries with their evidence", NULL},
    {"goal", "guide goal kl=0.05 or ppl=+1%", 1, 1, do_goal, "how much may be lost", offer_goals},
    {"run", "guide run [S3b or S3]", 0, 1, do_run, "measures what an entry, a step, or what comes next would change", offer_ids},
    {"again", "guide again [S3b or S3]", 0, 1, do_again, "measures anew what was tried before something else came in", offer_ids},
    {"apply", "guide apply S3b [--beside]", 1, 1, do_apply, "takes what an entry changes: one undo step", offer_ids},
    {"whatif", "guide whatif S3b [--beside]", 1, 1, do_whatif, "shows what an entry would change", offer_ids},
    {"skip", "guide skip S2 'engine cannot rotate'", 1, -1, do_skip, "leaves an entry or a step out, with a reason", offer_ids},
    {"todo", "guide todo S2", 1, 1, do_todo, "takes a skip back", offer_ids},
    {"answer", "guide answer S1a yes|no|unknown [NOTE]", 2, -1, do_answer, "what only a person knows", offer_answers},
    {"evidence", "guide evidence S1 'GPQA float 51.5'", 2, -1, do_evidence, "notes a line of evidence", offer_ids},
};

static void guide_offer(const App *a, const char *const *words, int n, OfferWord *put, void *ctx)
{
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++) {
        if (n == 0)
            put(ctx, deeds[i].name, deeds[i].means);
        else if (deeds[i].offer && strcmp(deeds[i].name, words[0]) == 0)
            deeds[i].offer(a, n, put, ctx);
    }
}

static Status unknown(const char *word, Error *err)
{
    Str names = {0};
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++)
        str_printf(&names, "%s%s", i ? ", " : "", deeds[i].name);
    error_set(err, ST_USAGE, "guide has no '%s': there are %s", word, str_text(&names));
    str_free(&names);
    return ST_USAGE;
}

static Status guide_run(App *a, const CommandLine *cl, Error *err)
{
    if (!cl->nwords)
        return print(a, cl, NULL, false, err);
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++) {
        const struct Deed *d = &deeds[i];
        if (strcmp(d->name, cl->words[0]) != 0)
            continue;
        int more = cl->nwords - 1;
        if (more < d->least || (d->most >= 0 && more > d->most))
            return error_set(err, ST_USAGE, "write %s", d->usage);
        return d->run(a, cl, err);
    }
    return unknown(cl->words[0], err);
}

static const Option guide_options[] = {
    {"format", ARG_CHOICE, "text|json", "of the result (default text)", COMP_NONE},
    {"beside", ARG_FLAG, NULL, "apply, whatif: what smooths already stays, behind the new one", COMP_NONE},
    {0},
};
const Command command_guide = {
    .name = "guide",
    .args = "[report|goal|run|again|apply|whatif|skip|todo|answer|evidence] [ID] [TEXT...]",
    .summary = "The five steps of accuracy tuning: run, apply or skip them, note evidence; alone it prints them.",
    .help = "goal kl=0.05 or ppl=+1% says when it is done. run takes an entry (S3b), a step (S3), or what comes next: it measures what "
            "the entry would change against what is open; better means by more than twice the error of the difference. again "
            "measures anew what was tried before something else came in. apply takes it, one undo step; a processor that smooths "
            "takes the place of one that does (--beside: it does not); whatif shows what it would change. skip needs a reason, todo takes it back. answer S1a yes, "
            "no or unknown, evidence S1 TEXT: what a person knows. report writes it all to FILE.",
    .flags = CMD_NEEDS_MODEL | CMD_LONG,
    .completes = COMP_FILE,
    .options = guide_options,
    .run = guide_run,
    .offer = guide_offer,
};
