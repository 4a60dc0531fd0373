/* The program around a session: running command lines, recording them, giving results out. */
#include "src/app.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"
#include "io/modeldir.h"
#include "session/attach.h"
#include "session/settings.h"
#include "src/internal.h"
#include "src/page.h"
#include "src/lang.h"

static void print_stdout(void *ctx, const char *text, size_t len)
{
    (void)ctx;
    fwrite(text, 1, len, stdout); /* main checks the stream's error flag at exit */
}

Status app_init(App *a, Face face, Error *err)
{
    memset(a, 0, sizeof *a);
    session_options_default(&a->options);
    a->options.find_data = app_find_dataset;
    a->options.find_ctx = a;
    a->options.plan_report = page_plan_write;
    a->face = face;
    a->print = print_stdout;
    a->progress = -1;
    const char *fault = saver_table_fault(saver_table); /* told now, not when a model has been written */
    if (fault)
        return error_set(err, ST_INTERNAL, "this build is broken: %s", fault);
    return app_become(a, face, err);
}

Status app_become(App *a, Face face, Error *err)
{
    a->face = face;
    a->options.attended = face == FACE_UI;
    a->options.asks = face != FACE_SCRIPT;
    if ((face == FACE_SHELL || face == FACE_UI) && !a->options.state_dir) {
        a->options.state_dir = app_state_dir();
        if (!a->options.state_dir)
            return error_nomem(err, "the state folder's name");
    }
    return ST_OK;
}

Status app_go_on(App *a, Error *err)
{
    Status st = session_close(a->session, err);
    a->session = a->next;
    a->next = NULL;
    a->quit = false;
    a->log_seen = session_log_old(a->session);
    if (st == ST_OK && !session_attached(a->session, &(AttachView){0}))
        session_follow(a, NULL);
    return st;
}

Status app_run_screen(App *a, const ScreenOptions *o, Error *err)
{
    if (!a->screen)
        return error_set(err, ST_USAGE, "this program has no screen");
    ScreenOptions now = *o;
    Status st = a->screen->run(a, &now, err);
    now.script = NULL; /* it was run */
    while (st == ST_OK && a->next) {
        st = app_go_on(a, err);
        if (st == ST_OK)
            st = a->screen->run(a, &now, err);
    }
    return st;
}

/* How to go on with what is being closed; "" where there is nothing to say. */
static void kept_line(App *a, char *out, size_t size)
{
    Session *s = a->session;
    SessionInfo *list;
    int n = 0;
    bool person = a->face == FACE_UI || (a->face == FACE_SHELL && isatty(STDIN_FILENO));
    *out = 0;
    AttachView v;
    if (s && session_attached(s, &v)) {
        const char *name = v.hello->name[0] ? v.hello->name : v.hello->id;
        snprintf(out, size, v.over ? "process %ld has closed the session: slimscope resume %s opens it"
                                   : "process %ld goes on with it: slimscope attach %s looks at it again", v.hello->pid, name);
        return;
    }
    if (!s || !person || !session_has_work(s))
        return;
    if (session_unkept(s)) {
        snprintf(out, size, "this session was %s: what was done here is not kept", session_unkept(s));
        return;
    }
    if (session_list(a->options.state_dir, &list, &n, NULL) == ST_OK)
        free(list);
    snprintf(out, size, "session kept: slimscope resume%s%s goes on", n > 1 ? " " : "", n > 1 ? session_id(s) : "");
}

Status app_close(App *a, Error *err)
{
    char line[200], id[40] = "";
    kept_line(a, line, sizeof line);
    Session *s = a->session;
    if (s && session_model(s))
        a->weights_read = checkpoint_bytes_read(session_model(s)->ckpt);
    if (a->detach && s && session_is_saved(s))
        snprintf(id, sizeof id, "%s", session_id(s));
    a->session = NULL;
    Status st = session_close(s, err);
    if (st == ST_OK && id[0] && session_detach(a->options.state_dir, id, err) == ST_OK)
        snprintf(line, sizeof line, "its jobs go on without a screen; slimscope resume %s opens it when they are done", id);
    else if (id[0] && st == ST_OK)
        return err->status;
    if (st == ST_OK && line[0])
        fprintf(stderr, "%s\n", line);
    return st;
}

void app_fini(App *a)
{
    session_free(a->session);
    session_free(a->next);
    free((char *)a->options.state_dir);
    free((char *)a->options.cache_dir);
    free(a->words);
    free(a->replay_file);
    memset(a, 0, sizeof *a);
}

static int output_errno; /* of the first failed flush of standard output */

bool output_flush(void)
{
    errno = 0;
    if (fflush(stdout) != 0 && !output_errno)
        output_errno = errno;
    return !output_errno && !ferror(stdout);
}

const char *output_fault(void)
{
    return output_errno ? strerror(output_errno) : "a write failed";
}

void tell(const char *fmt, ...)
{
    Str text = {0};
    va_list ap;
    va_start(ap, fmt);
    str_vprintf(&text, fmt, ap);
    va_end(ap);
    output_flush();
    if (text.len)
        fwrite(text.s, 1, text_fit_terminal(text.s, text.len, true), stderr);
    str_free(&text);
}

void app_note(App *a, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, tr(fmt), ap);
    va_end(ap);
    if (a->face == FACE_UI && a->session)
        session_log(a->session, 0, "%s", text);
    else if (a->face != FACE_UI)
        tell("%s\n", text);
}

Status app_result(App *a, const Str *text, const char *out, Error *err)
{
    if (text->oom)
        return error_nomem(err, "the result's text");
    if (!dist_leads(a->dist))
        return ST_OK; /* rank 0 has the same result */
    if (out)
        return file_write_atomic(out, str_text(text), text->len, err);
    char *shown = malloc(text->len + 1);
    if (!shown)
        return error_nomem(err, "the result's text");
    memcpy(shown, str_text(text), text->len);
    a->print(a->print_ctx, shown, text_fit_terminal(shown, text->len, true));
    free(shown);
    return ST_OK;
}

Status app_session(App *a, Error *err)
{
    if (a->session)
        return ST_OK;
    a->log_seen = 0;
    return session_new(&a->session, &a->options, err);
}

Status app_need_model(const App *a, Error *err)
{
    if (a->session && session_model(a->session))
        return ST_OK;
    return error_set(err, ST_USAGE, "no model is open: 'open MODEL' first");
}

Status app_open_model(App *a, const char *path, const char *type, Error *err)
{
    if (!dir_exists(path))
        return error_set(err, ST_DATA,
                         file_exists(path) ? "'%s' is a file: give the model's folder" : "'%s': no such model folder",
                         path);
    char *config = path_join(path, "config.json");
    if (!config)
        return error_nomem(err, "a path");
    bool have = file_exists(config);
    free(config);
    if (!have) {
        char hint[400];
        modeldir_hint(path, hint, sizeof hint);
        return error_set(err, ST_DATA, "'%s' holds no config.json: it is no model folder%s", path, hint);
    }
    return session_open_model(a->session, path, type, err);
}

bool app_waits(const App *a)
{
    return a->face != FACE_UI && !a->async;
}

Status want_words(const CommandLine *cl, int min, int max, Error *err)
{
    if (cl->nwords < min)
        return error_set(err, ST_USAGE, "'%s' needs more: %s %s", cl->command->name, cl->command->name,
                         cl->command->args);
    if (max >= 0 && cl->nwords > max)
        return error_set(err, ST_USAGE, "'%s' does not take '%s': %s %s", cl->command->name, cl->words[max],
                         cl->command->name, cl->command->args);
    return ST_OK;
}

Status select_linears(const Session *s, const char *const *targets, int n, bool **out, Error *err)
{
    *out = mem_zarray((size_t)session_model(s)->nlinears + 1, sizeof **out);
    Status st = *out ? ST_OK : error_nomem(err, "a set of layers");
    for (int i = 0; i < n && st == ST_OK; i++) {
        int64_t count;
        st = session_target(s, targets[i], *out, &count, err); /* adds to the set */
    }
    if (st != ST_OK) {
        free(*out);
        *out = NULL;
    }
    return st;
}

void app_pass_log(App *a, const char *skip)
{
    static const char *const level[] = {"", "warning: ", "error: "};
    if (a->face == FACE_UI || !a->session)
        return;
    session_pump(a->session); /* what could not be saved is told now */
    size_t nskip = skip ? strlen(skip) : 0;
    if (a->log_seen < session_log_first(a->session))
        a->log_seen = session_log_first(a->session);
    for (int n = session_log_lines(a->session); a->log_seen < n; a->log_seen++) {
        LogLine l = session_log_line(a->session, a->log_seen);
        size_t len = strlen(l.text);
        if (l.kind == LOG_JOB || l.kind == LOG_COMMAND) /* progress and errors tell them here */
            continue;
        if (nskip && len >= nskip && strcmp(l.text + len - nskip, skip) == 0)
            continue;
        tell("%s%s\n", level[l.level < 0 || l.level > 2 ? 0 : l.level], l.text);
    }
}

/* ---- run options ---- */

static Status set_cache_dir(App *a, const char *dir, Error *err)
{
    if (a->session)
        return error_set(err, ST_USAGE, "--cache-dir must be given when the session starts");
    free((char *)a->options.cache_dir);
    a->options.cache_dir = strdup(dir);
    return a->options.cache_dir ? ST_OK : error_nomem(err, "--cache-dir");
}

void apply_progress(App *a, const CommandLine *cl)
{
    const char *p = cl_str(cl, "progress");
    if (!p && a->progress >= 0)
        return; /* decided when the program started */
    if (!p || strcmp(p, "auto") == 0)
        a->progress = isatty(STDERR_FILENO);
    else
        a->progress = strcmp(p, "json") == 0 ? 2 : strcmp(p, "always") == 0;
}

Status apply_run_options(App *a, const CommandLine *cl, Error *err)
{
    const char *dir = cl_str(cl, "cache-dir"), *read = cl_str(cl, "read");
    a->options.read_once = read && strcmp(read, "once") == 0;
    if (dir)
        RETURN_IF_ERROR(set_cache_dir(a, dir, err));
    RETURN_IF_ERROR(app_session(a, err));
    for (const Setting *s = setting_table; s->key; s++) {
        const char *v = cl_str(cl, s->key);
        if (!v && cl_given(cl, s->key))
            v = "on"; /* a flag */
        if (v)
            RETURN_IF_ERROR(session_set(a->session, s->key, v, err));
    }
    return ST_OK;
}

/* ---- running a line ---- */

static const char *nearest_command(const char *name)
{
    enum { MAX = 100 };
    const char *names[MAX + 1];
    int n = 0;
    for (int i = 0; command_table[i] && n < MAX; i++)
        names[n++] = command_table[i]->name;
    names[n] = NULL;
    return nearest_name(name, names);
}

Status unknown_command(const char *name, bool a_folder, Error *err)
{
    const char *near = nearest_command(name);
    if (near)
        return error_set(err, ST_USAGE, "unknown command '%s': did you mean '%s'?", name, near);
    return error_set(err, ST_USAGE, "unknown command '%s': 'help' lists all%s", name,
                     a_folder ? ", and no such model folder is here" : "");
}

/* The line under which a command is kept in the session's history: full verb, words quoted, input files absolute. */
static void history_line(const Command *cmd, const CommandLine *cl, int argc, char **argv, Str *out)
{
    str_puts(out, cmd->name);
    for (int i = 1; i < argc; i++) {
        bool word = false;
        for (int k = 0; k < cl->nwords; k++)
            word |= cl->words[k] == argv[i];
        bool file = word && (cmd->flags & CMD_INPUT) && access(argv[i], F_OK) == 0;
        char *full = file ? absolute_path(argv[i]) : NULL;
        out->oom = out->oom || (file && !full);
        str_putc(out, ' ');
        if (i == argc - 1 && cl->bang)
            str_putc(out, '!');
        else
            lexer_quote(out, full ? full : argv[i]);
        free(full);
    }
}

/* What the program's own command line began is no line of a script: of a session that is kept the history has what opens its
 * model (run_named). */
static bool leaves_history(const App *a, const Command *cmd)
{
    const bool kept = a->face == FACE_CLI && session_id(a->session)[0];
    return !(cmd->flags & CMD_NO_LOG) && !kept && !session_attached(a->session, &(AttachView){0});
}

static Status record(App *a, const Command *cmd, const CommandLine *cl, int argc, char **argv, int undo_before,
                     Error *err)
{
    if (!a->session || a->next || !leaves_history(a, cmd)) /* going on elsewhere is no part of what was done here */
        return ST_OK;
    Str line = {0};
    history_line(cmd, cl, argc, argv, &line);
    /* an edit that was no undo step must not be taken for one when the history is compacted */
    if ((cmd->flags & CMD_EDIT) && session_undo_depth(a->session) == undo_before)
        str_puts(&line, a->shows ? " # no step" : " # no change");
    if (cmd == command_find("open"))
        str_printf(&line, " # fingerprint %.16s", session_model(a->session)->fingerprint);
    Status st = line.oom ? error_nomem(err, "the history of commands") : session_record(a->session, line.s, err);
    str_free(&line);
    return st;
}

bool command_reads(const Command *c)
{
    const unsigned changes = CMD_EDIT | CMD_LONG | CMD_INPUT;
    return c == command_find("rank") || c == command_find("set") || (!(c->flags & changes) && c->flags & (CMD_NO_LOG | CMD_NEUTRAL));
}

static Status run_command(App *a, const Command *cmd, int argc, char **argv, const bool *quoted, Error *err)
{
    if ((cmd->flags & CMD_CLI_ONLY) && a->face != FACE_CLI)
        return error_set(err, ST_USAGE, "'%s' is a form of the program: run 'slimscope %s' in a shell", cmd->name,
                         cmd->name);
    CommandLine cl;
    RETURN_IF_ERROR(cmdline_parse(cmd, argc, argv, quoted, &cl, err));
    if (cl.help) {
        Str b = {0};
        command_usage(cmd, &b);
        Status st = app_result(a, &b, NULL, err);
        str_free(&b);
        cmdline_fini(&cl);
        return st;
    }
    Status st = (cmd->flags & CMD_NEEDS_MODEL) ? app_need_model(a, err) : ST_OK;
    if (st == ST_OK && a->session && !command_reads(cmd))
        st = attached_refuses(a->session, err);
    if (st == ST_OK) {
        int depth = a->session ? session_undo_depth(a->session) : 0;
        a->shows = false;
        st = cmd->run(a, &cl, err);
        if (st == ST_OK)
            st = record(a, cmd, &cl, argc, argv, depth, err);
    }
    app_pass_log(a, st == ST_OK || !err ? NULL : err->text);
    cmdline_fini(&cl);
    return st;
}

/* *last: the last word of a typed line without a ! that was put right behind it ("export FILE!"), NULL when there is
 * none. false: out of memory. */
static bool without_bang(const Command *cmd, int argc, char **argv, const bool *quoted, char **last)
{
    size_t n = strlen(argv[argc - 1]);
    bool has =
        argc > 1 && quoted && !quoted[argc - 1] && (cmd->flags & CMD_DESTROYS) && n > 1 && argv[argc - 1][n - 1] == '!';
    *last = has ? strndup(argv[argc - 1], n - 1) : NULL;
    return *last || !has;
}

/* argv of a line or of the program's command line: an async prefix, verb!, then the verb's own words. */
static Status execute(App *a, int argc, char **argv, const bool *quoted, Error *err)
{
    bool async = argc > 1 && strcmp(argv[0], "async") == 0;
    if (async) {
        argv++;
        argc--;
        quoted = quoted ? quoted + 1 : NULL;
    }
    char verb[64];
    size_t n = strlen(argv[0]);
    bool bang = n > 1 && argv[0][n - 1] == '!';
    snprintf(verb, sizeof verb, "%.*s", (int)(bang ? n - 1 : n), argv[0]);
    const Command *cmd = command_find(verb);
    if (!cmd)
        return unknown_command(argv[0], false, err);
    if (bang && !(cmd->flags & CMD_DESTROYS))
        return error_set(err, ST_USAGE, "'%s' takes no !", cmd->name);
    if (async && !(cmd->flags & CMD_LONG))
        return error_set(err, ST_USAGE, "'%s' is no long command: async does not apply", cmd->name);
    for (int i = 0; i < argc && !(cmd->flags & CMD_NO_LOG); i++)
        if (strpbrk(argv[i], "\n\r"))
            return error_set(err, ST_USAGE, "word %d holds a line break: a command of the history is one line", i + 1);
    char **words = calloc((size_t)argc + 2, sizeof *words);
    bool *q = calloc((size_t)argc + 2, sizeof *q);
    char *last = NULL;
    if (!words || !q || (!bang && !without_bang(cmd, argc, argv, quoted, &last))) {
        free(words);
        free(q);
        return error_nomem(err, "a command line");
    }
    memcpy(words, argv, (size_t)argc * sizeof *words);
    if (quoted)
        memcpy(q, quoted, (size_t)argc * sizeof *q);
    static char bang_word[] = "!";
    if (last)
        words[argc - 1] = last;
    if (bang || last)
        words[argc++] = bang_word;
    bool was = a->async;
    a->async = async;
    Status st = run_command(a, cmd, argc, words, q, err);
    a->async = was;
    free(last);
    free(words);
    free(q);
    return st;
}

Status app_execute(App *a, const char *line, Error *err)
{
    Words w;
    Error own = {0};
    RETURN_IF_ERROR(lexer_split(line, &w, err));
    bool noted = a->session && a->face != FACE_UI && w.n; /* the workbench has its own line for it */
    if (noted)
        session_note(a->session, LOG_COMMAND, 0, ":%s", line);
    Status st = w.n ? execute(a, w.n, w.word, w.quoted, &own) : ST_OK;
    if (noted && a->session && st != ST_OK)
        session_note(a->session, LOG_COMMAND, 2, "%s", own.text);
    words_fini(&w);
    if (st != ST_OK && err)
        *err = own;
    return st;
}

Status app_execute_words(App *a, int argc, char **argv, Error *err)
{
    return argc > 0 ? execute(a, argc, argv, NULL, err) : ST_OK;
}
