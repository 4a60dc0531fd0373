/* Sessions: named, listed, removed, saved as one file, told as a report. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/dtype.h"
#include "io/file.h"
#include "session/settings.h"
#include "src/commands.h"
#include "src/internal.h"

static Status need_session(const App *a, Error *err)
{
    if (!a->session || !session_id(a->session)[0])
        return error_set(err, ST_USAGE, "no session that is on disk is open here: 'slimscope resume --list' shows them, 'slimscope MODEL' begins one");
    return ST_OK;
}

/* A word that names a session or a file, and looks like a file. */
static bool names_file(const char *word)
{
    return strpbrk(word, "/.") != NULL;
}

/* A word that names a session or a file, and is a file. */
static bool is_file(const char *word)
{
    return strchr(word, '/') || (names_file(word) && file_exists(word));
}

/* ---- the report: a script with all that is known of the session as comments ---- */

/* Lines of a text as comments. */
static void put_comment(const char *text, Str *out)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        str_printf(out, "# %.*s\n", (int)n, text);
        text += n + (text[n] == '\n');
    }
}

static void put_config(const Model *m, Str *out)
{
    char *path = path_join(m->path, "config.json"), *text = NULL;
    size_t n;
    str_puts(out, "#\n# ---- config.json ----\n");
    if (path && file_read(path, 1 << 20, &text, &n, NULL) == ST_OK)
        put_comment(text, out);
    free(text);
    free(path);
}

static void put_tensors(const Model *m, Str *out)
{
    str_printf(out, "#\n# ---- linears: name, outputs, inputs, values, level ----\n");
    for (int64_t i = 0; i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        str_printf(out, "# %s %lld %lld %s\n", l->name, (long long)l->out, (long long)l->in,
                   l->weight ? dtype_name(l->weight->dtype) : "?");
    }
}

static void put_scores(const Session *s, Str *out)
{
    const Metric *const *all = session_metrics(s);
    const Model *m = session_model(s);
    for (int k = 0; all[k]; k++) {
        if (!session_has_run(s, all[k]))
            continue;
        str_printf(out, "#\n# ---- scores: %s ----\n", all[k]->name);
        for (int64_t i = 0; i < m->nlinears; i++) {
            Score sc = session_score(s, all[k], i);
            if (sc.state == SCORE_OK || sc.state == SCORE_STALE)
                str_printf(out, "# %s %.9g%s\n", m->linears[i].name, sc.value, sc.state == SCORE_STALE ? " stale" : "");
            else if (sc.state == SCORE_FAILED)
                str_printf(out, "# %s failed: %s\n", m->linears[i].name, sc.reason ? sc.reason : "");
        }
    }
}

static void put_measurements(const Session *s, Str *out)
{
    str_puts(out, "#\n# ---- measurements: number, KL, its error, perplexity, float's, top-1, tokens ----\n");
    for (int i = 0; i < session_measurements(s); i++) {
        Measurement m = session_measurement(s, i);
        str_printf(out, "# #%d %.9g %.3g %.9g %.9g %.6g %lld\n", m.id, m.effect->kl_mean, m.effect->kl_se, m.effect->ppl_quant,
                   m.effect->ppl_float, m.effect->top1, (long long)m.effect->tokens);
    }
}

static void put_jobs(Session *s, Str *out)
{
    static const char *const states[] = {"waits", "runs", "done", "failed", "stopped"};
    str_puts(out, "#\n# ---- jobs ----\n");
    for (int i = 0; i < session_jobs(s); i++) {
        const JobView *j = session_job(s, i);
        str_printf(out, "# #%d %s: %s, %lld of %lld, %.1f s, ok %d, warned %d, failed %d, peak %llu of %llu bytes%s%s\n", j->id,
                   j->title, states[j->state], (long long)j->done, (long long)j->total, j->elapsed, j->ok, j->warned, j->failed,
                   (unsigned long long)j->peak, (unsigned long long)j->bound, j->error[0] ? ": " : "", j->error);
    }
}

static void put_log_tail(const Session *s, Str *out)
{
    enum { TAIL = 300 };
    static const char *const levels[] = {"", "warning: ", "error: "};
    int end = session_log_lines(s), from = end - TAIL > session_log_first(s) ? end - TAIL : session_log_first(s);
    str_puts(out, "#\n# ---- the end of the log ----\n");
    for (int i = from; i < end; i++) {
        LogLine l = session_log_line(s, i);
        char when[32] = "";
        time_t t = (time_t)l.when;
        struct tm tm;
        if (localtime_r(&t, &tm))
            strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
        str_printf(out, "# %s %s %s%s\n", when, log_kind_name(l.kind), levels[l.level < 0 || l.level > 2 ? 0 : l.level], l.text);
    }
}

static void put_begin(const Session *s, Str *out)
{
    Str version = {0};
    str_puts(out, "#\n# ---- what follows is for who reads this; above is what was done, as 'slimscope --script' runs it ----\n#\n");
    write_version(&version);
    put_comment(str_text(&version), out);
    str_free(&version);
    str_printf(out, "# session %s %s\n", session_id(s), session_name(s));
}

static Status session_report(Session *s, Str *out, Error *err)
{
    const Model *m = session_model(s);
    const SessionOptions *o = session_options(s);
    if (!m)
        return error_set(err, ST_USAGE, "no model is open: there is nothing to report");
    RETURN_IF_ERROR(history_script(s, out, err));
    put_begin(s, out);
    str_printf(out, "# model %s: %d layers, %lld linears, %lld values\n# fingerprint %s\n", m->cfg.model_type, m->cfg.layers,
               (long long)m->nlinears, (long long)m->params, m->fingerprint);
    str_printf(out, "# threads %d, mem %llu, max-samples %d, seq-len %lld, ctx %lld, eval-tokens %lld, tokens %lld, labels %s, seed %llu, %s%s\n",
               o->threads, (unsigned long long)o->mem, o->max_samples, (long long)o->seq_len, (long long)o->ctx,
               (long long)o->eval_tokens, (long long)o->tokens, o->data_labels ? "data" : "model", (unsigned long long)o->seed, arith_name(o->arith),
               o->peer ? ", compat peer" : "");
    put_jobs(s, out);
    put_measurements(s, out);
    put_log_tail(s, out);
    put_scores(s, out);
    put_config(m, out);
    put_tensors(m, out);
    return out->oom ? error_nomem(err, "the report") : ST_OK;
}

/* ---- the report of a session that can't be opened: its journal, record by record ---- */

static void put_record(void *ctx, const char *json)
{
    str_printf(ctx, "# %s\n", json);
}

static Status closed_report(App *a, const char *id, const char *why, Str *out, Error *err)
{
    Str records = {0};
    Status st = session_look(&a->session, &a->options, id, put_record, &records, err);
    if (st == ST_OK)
        st = history_script(a->session, out, err);
    if (st == ST_OK) {
        put_begin(a->session, out);
        str_printf(out, "# MISSING: the model, so names of linears (i: their number), its config and histograms: %s\n", why);
        put_log_tail(a->session, out);
        str_puts(out, "#\n# ---- the journal, record by record ----\n");
        str_append(out, str_text(&records), records.len);
        st = out->oom || records.oom ? error_nomem(err, "the report") : ST_OK;
    }
    str_free(&records);
    return st;
}

/* Of a session that is not open here, or of a file: looked at, whatever its model has become. */
static Status report_of(App *a, const char *word, Str *out, Error *err)
{
    char id[40] = "";
    Error why = {0};
    RETURN_IF_ERROR(app_become(a, FACE_UI, err)); /* for the state folder */
    a->face = FACE_CLI;
    a->options.read_only = a->options.force = true;
    if (word && is_file(word))
        RETURN_IF_ERROR(session_take_file(a->options.state_dir, word, id, err));
    Status st = session_restore(&a->session, &a->options, id[0] ? id : word, &why);
    if (st == ST_OK)
        st = session_report(a->session, out, err);
    else if ((st = closed_report(a, id[0] ? id : word, why.text, out, err)) == ST_OK)
        app_note(a, "it can't be opened, the report has what its journal holds: %s", why.text);
    if (a->session)
        a->log_seen = session_log_lines(a->session);
    if (id[0])
        session_delete(a->options.state_dir, id, NULL);
    return st;
}

static Status write_report(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 2, 3, err));
    const char *file = cl->words[1];
    Str text = {0};
    if (a->face != FACE_CLI && cl->nwords > 2)
        return error_set(err, ST_USAGE, "here 'session report' is of the open session: another one by 'slimscope session report'");
    if (a->face != FACE_CLI && !a->session)
        return error_set(err, ST_USAGE, "no model is open: there is nothing to report");
    Status st = a->face == FACE_CLI ? report_of(a, cl->nwords > 2 ? cl->words[2] : NULL, &text, err) : session_report(a->session, &text, err);
    if (st == ST_OK && !cl->bang && file_exists(file) && !file_holds(file, str_text(&text), text.len))
        st = error_set(err, ST_IO, "'%s' is there already with other content: add ! to replace it", file);
    if (st == ST_OK)
        st = app_result(a, &text, file, err);
    if (st == ST_OK)
        app_note(a, "written: %s, without a weight; attach it to a report of a fault", file);
    str_free(&text);
    return st;
}

/* ---- the others ---- */

static Status give_name(App *a, const char *name, Error *err)
{
    RETURN_IF_ERROR(need_session(a, err));
    if (session_is_read_only(a->session))
        return error_set(err, ST_USAGE, "this session is read-only here: it can't be named");
    RETURN_IF_ERROR(session_set_name(a->session, name, err));
    app_note(a, "this session is %s; slimscope resume %s goes on with it", name, name);
    return ST_OK;
}

static Status name_session(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 2, 2, err));
    return give_name(a, cl->words[1], err);
}

static Status write_session(App *a, const char *file, bool replace, Error *err)
{
    RETURN_IF_ERROR(need_session(a, err));
    if (file_exists(file) && !replace)
        return error_set(err, ST_IO, "'%s' is there already: add ! to replace it", file);
    RETURN_IF_ERROR(session_save(a->session, file, err));
    app_note(a, "written: %s; load %s opens it again, with the same model", file, file);
    return ST_OK;
}

static Status save_session(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 2, 2, err));
    return write_session(a, cl->words[1], cl->bang, err);
}

Status session_go_to(App *a, const char *word, const char *verb, bool stop, Error *err)
{
    Session *s = a->session;
    char id[40] = "";
    if ((a->face != FACE_UI && a->face != FACE_SHELL) || a->depth)
        return error_set(err, ST_USAGE, "'%s' opens a session in the workbench and in the shell: elsewhere slimscope resume %s", verb, word);
    if (s && session_busy(s) && !stop)
        return error_set(err, ST_USAGE, "a job runs: 'wait' for it, or '%s %s!' to stop it; finished rows are kept", verb, word);
    if (s && (strcmp(word, session_id(s)) == 0 || strcmp(word, session_name(s)) == 0))
        return error_set(err, ST_USAGE, "session '%s' is the one that is open", word);
    bool file = is_file(word);
    if (file && a->options.read_only)
        return error_set(err, ST_USAGE, "opened with --read-only: a file can't become a session here");
    if (file)
        RETURN_IF_ERROR(session_take_file(a->options.state_dir, word, id, err));
    SessionOptions o = a->options;
    Status st = session_restore(&a->next, &o, id[0] ? id : word, err);
    if (st != ST_OK && id[0])
        session_delete(a->options.state_dir, id, NULL);
    a->quit = a->quit || st == ST_OK;
    return st;
}

static Status open_session(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 2, 2, err));
    return session_go_to(a, cl->words[1], "session open", cl->bang, err);
}

static Status remove_sessions(App *a, const CommandLine *cl, Error *err)
{
    int64_t days = cl_int(cl, "older", 0);
    if (!cl_given(cl, "older") && cl->nwords < 2)
        return error_set(err, ST_USAGE, "which ones? session rm NAME..., or --older DAYS");
    if (days < 0 || days > 100000)
        return error_set(err, ST_USAGE, "--older takes a number of days");
    return sessions_delete(a, cl_given(cl, "older") ? NULL : cl->words + 1, days, err);
}

static Status list_them(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    return sessions_list(a, err);
}

static Status show_session(App *a, Error *err)
{
    Str b = {0};
    RETURN_IF_ERROR(need_session(a, err));
    Session *s = a->session;
    str_printf(&b, "session %s%s%s\n%d command%s, %d job%s, log in %s\n", session_id(s), session_name(s)[0] ? ", named " : "",
               session_name(s), session_commands(s), session_commands(s) == 1 ? "" : "s", session_jobs(s),
               session_jobs(s) == 1 ? "" : "s", session_log_file(s) ? session_log_file(s) : "memory only");
    Status st = app_result(a, &b, NULL, err);
    str_free(&b);
    return st;
}

static const struct {
    const char *word, *means;
    Status (*run)(App *a, const CommandLine *cl, Error *err);
} parts[] = {
    {"name", "give this session a name", name_session},
    {"list", "all sessions", list_them},
    {"open", "another session in the place of this one", open_session},
    {"rm", "remove sessions", remove_sessions},
    {"save", "write this one as a file", save_session},
    {"report", "write a report of a fault", write_report},
};
enum { NPARTS = sizeof parts / sizeof *parts };

/* The parts, then the sessions there are. */
static void session_offer(const App *a, const char *const *words, int n, OfferWord *put, void *ctx)
{
    for (int i = 0; n == 0 && i < NPARTS; i++)
        put(ctx, parts[i].word, parts[i].means);
    if (n > 0 && (strcmp(words[0], "open") == 0 || strcmp(words[0], "rm") == 0))
        offer_sessions(a, true, put, ctx);
}

static Status run_session(App *a, const CommandLine *cl, Error *err)
{
    if (!cl->nwords)
        return show_session(a, err);
    for (int i = 0; i < NPARTS; i++)
        if (strcmp(cl->words[0], parts[i].word) == 0)
            return parts[i].run(a, cl, err);
    return error_set(err, ST_USAGE, "'session %s' is not known: session [name NAME|list|open NAME|rm NAME...|save FILE|report FILE]", cl->words[0]);
}
static const Option session_options_list[] = {
    {"older", ARG_INT, "DAYS", "rm: those that nothing was done in for so many days", COMP_NONE},
    {0},
};
const Command command_session = {
    .name = "session",
    .args = "[name NAME|list|open NAME|rm NAME...|save FILE|report FILE [SESSION|FILE]]",
    .summary = "What session this is; name, list, open, remove or save sessions, or write a report of a fault.",
    .help = "A report is a script of what was done, with versions, the model's fingerprint, config and linears, settings, jobs, the "
            "end of the log, scores and measurements as comments: no weight, no text. Outside of a session it is of the newest one, "
            "of SESSION or of the FILE that save wrote; where its model is gone it is the journal, record by record.",
    .flags = CMD_CLI | CMD_NO_LOG | CMD_DESTROYS,
    .completes = COMP_FILE,
    .options = session_options_list,
    .run = run_session,
    .offer = session_offer,
};

static Status run_save(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    if (cl->nwords)
        return names_file(cl->words[0]) ? write_session(a, cl->words[0], cl->bang, err) : give_name(a, cl->words[0], err);
    RETURN_IF_ERROR(need_session(a, err));
    if (session_unkept(a->session))
        return error_set(err, ST_USAGE, "this session is %s: save FILE writes what it holds to a file", session_unkept(a->session));
    app_note(a, "kept as you go: slimscope resume %s; save NAME gives it a name, save FILE.session writes a copy",
             session_name(a->session)[0] ? session_name(a->session) : session_id(a->session));
    return ST_OK;
}
const Command command_save = {
    .name = "save",
    .args = "[NAME|FILE]",
    .summary = "Give this session a name, or write it as one file; load NAME or FILE goes on with it.",
    .help = "A session is kept by itself as one works. A word with a dot or a / is a file (best.session, ./best), any other a name. The "
            "file holds decisions, scores, measurements and history: no weight and no activations. With ! an existing file is replaced. "
            "What was decided for an engine is written by 'export', the quantized model by 'quantize'.",
    .flags = CMD_NO_LOG | CMD_DESTROYS,
    .completes = COMP_FILE,
    .run = run_save,
};
