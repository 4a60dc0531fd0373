#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "evaluate/outcome.h"
#include "evaluate/server.h"
#include "io/file.h"

enum {
    WHY_MAX = 300,
    ANSWER_MOST = 1 << 20,
    LINE_SHOWN = 140,
    NAP_FIRST_MS = 20,
    NAP_MOST_MS = 1000,
    LOOK_MS = 20,
    FALL_MS = 300
};
static const double grace_seconds = 10, ask_seconds = 3;

/* ---- its words ---- */

static void put_word(Str *out, int *n, const char *text)
{
    str_puts(out, text);
    str_putc(out, '\0');
    ++*n;
}

static void put_args(const YamlNode *args, Str *out, int *n)
{
    for (int i = 0; args && i < args->count; i++) {
        const YamlNode *v = args->vals[i];
        Str word = {0};
        if (v->kind == YAML_NULL || (v->kind == YAML_BOOL && !v->b))
            continue;
        str_printf(&word, "--%s", args->keys[i]->text);
        put_word(out, n, str_text(&word));
        str_clear(&word);
        service_value(v, &word);
        if (v->kind != YAML_BOOL)
            put_word(out, n, str_text(&word));
        out->oom = out->oom || word.oom;
        str_free(&word);
    }
}

static bool names_model(const YamlNode *args)
{
    return args && (yaml_get(args, "served-model-name") || yaml_get(args, "served_model_name"));
}

Status engine_words(const Engine *e, const char *folder, bool peer, Str *out, int *n, Error *err)
{
    char port[16];
    *n = 0;
    if (peer && !service_word(folder))
        return error_set(err, ST_DATA,
                         "'%.300s' has a character other than letters, digits and _-./{}:\",: the server's words may "
                         "have no other under --compat peer",
                         folder);
    snprintf(port, sizeof port, "%d", e->at.port);
    const char *const words[] = {"-m", e->entrypoint, "--model", folder, "--host", e->at.host, "--port", port};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        put_word(out, n, words[i]);
    if (!peer && !names_model(e->args)) {
        put_word(out, n, "--served-model-name");
        put_word(out, n, e->at.served);
    }
    put_args(e->args, out, n);
    return out->oom ? error_nomem(err, "a server's words") : ST_OK;
}

/* "NAME=value" of env_vars, each with its NUL. */
static void put_env(const YamlNode *env, Str *out, int *n)
{
    for (int i = 0; env && i < env->count; i++) {
        str_printf(out, "%s=", env->keys[i]->text);
        service_value(env->vals[i], out);
        str_putc(out, '\0');
        ++*n;
    }
}

/* The python of a plan, by its env_vars' PATH: "python", else "python3"; NULL: there is none, or no memory. Caller
 * frees. */
static char *engine_python(const Engine *e)
{
    const YamlNode *path = e->env ? yaml_get(e->env, "PATH") : NULL;
    const char *in = path && path->kind == YAML_STR ? path->text : NULL;
    char *python = child_find("python", in);
    return python ? python : child_find("python3", in);
}

/* ---- ready or not ---- */

static const char *asked_host(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 ? "127.0.0.1" : strcmp(host, "::") == 0 ? "::1" : host;
}

/* Asks for its health. *code 0: no answer. */
static Status ask_health(Http *http, const Engine *e, const Cancel *cancel, int *code, Error *err)
{
    Str url = {0}, body = {0};
    Error why = {0};
    host_url(&url, asked_host(e->at.host), e->at.port);
    str_puts(&url, e->health);
    *code = 0;
    if (url.oom)
        return error_nomem(err, "a request");
    HttpRequest r = {.url = url.s, .timeout = ask_seconds, .most = ANSWER_MOST, .cancel = cancel};
    Status st = http_call(http, &r, code, &body, &why);
    str_free(&url);
    str_free(&body);
    if (st == ST_CANCELLED || st == ST_NOMEM)
        return error_set(err, st, "%s", why.text);
    return ST_OK;
}

static Status nobody_there(const Engine *e, const EvalKit *kit, Error *err)
{
    Http *http;
    int code = 0;
    RETURN_IF_ERROR(http_open(&http, err));
    Status st = ask_health(http, e, kit->cancel, &code, err);
    http_close(http);
    if (st == ST_OK && code)
        return error_set(err, ST_FAIL,
                         "another server answers at %s:%d already: stop it, or give evaluation and inference_engine "
                         "another port",
                         e->at.host, e->at.port);
    return st;
}

Status server_ready(const Engine *e, const EvalKit *kit, Error *err)
{
    char *python = engine_python(e);
    if (!python)
        return error_set(err, ST_DATA,
                         "no python is found in PATH to start the server with (inference_engine.env_vars.PATH may name "
                         "another)");
    free(python);
    if (host_kind(e->at.host) == HOST_NAME)
        RETURN_IF_ERROR(host_resolves(e->at.host, err));
    return nobody_there(e, kit, err);
}

/* When it doesn't, *why says how it ended. */
static bool server_runs(Server *s, char *why)
{
    ChildEnd end;
    char how[60];
    Str last = {0};
    if (child_running(s->child, &end))
        return true;
    child_last_line(s->log.s, LINE_SHOWN, &last);
    snprintf(why, WHY_MAX, "the server ended (%s)%s%s", child_end_text(&end, 0, how, sizeof how), last.len ? ": " : "",
             str_text(&last));
    str_free(&last);
    return false;
}

/* Sleeps, and looks at the process meanwhile. */
static bool nap(Server *s, const Cancel *cancel, int ms, char *why)
{
    for (; ms > 0; ms -= LOOK_MS) {
        struct timespec t = {.tv_nsec = LOOK_MS * 1000000L};
        if (!server_runs(s, why))
            return false;
        if (cancel_level(cancel))
            return true;
        nanosleep(&t, NULL);
    }
    return true;
}

bool server_fell(Server *s, char *why)
{
    return !nap(s, NULL, FALL_MS, why);
}

/* Asks soon and often at first: a small model is there at once. */
static Status wait_healthy(Server *s, const Engine *e, const EvalKit *kit, bool *healthy, char *why, Error *err)
{
    int64_t begin = clock_ns(), until = begin + (int64_t)(e->startup * 1e9);
    int code = 0, last = 0;
    for (int ms = NAP_FIRST_MS; nap(s, kit->cancel, ms, why); ms = ms * 2 < NAP_MOST_MS ? ms * 2 : NAP_MOST_MS) {
        RETURN_IF_ERROR(cancel_check(kit->cancel, err));
        RETURN_IF_ERROR(ask_health(s->http, e, kit->cancel, &code, err));
        eval_progress(kit, "waiting for the server", (clock_ns() - begin) / 1000000000, (int64_t)e->startup);
        if ((*healthy = code == 200))
            return ST_OK;
        last = code ? code : last;
        if (clock_ns() < until)
            continue;
        Str line = {0};
        child_last_line(s->log.s, LINE_SHOWN, &line);
        int n = snprintf(why, WHY_MAX, "the server is not ready after %g s", e->startup);
        if (last)
            n += snprintf(why + n, (size_t)(WHY_MAX - n), " (%.80s answers %d)", e->health, last);
        snprintf(why + n, (size_t)(WHY_MAX - n), "%s%s", line.len ? ": " : "", str_text(&line));
        str_free(&line);
        return ST_OK;
    }
    return ST_OK;
}

static void point(const char **to, int n, const char *text)
{
    for (int i = 0; i < n; i++, text += strlen(text) + 1)
        to[i] = text;
    to[n] = NULL;
}

static Status start(const Engine *e, const EvalKit *kit, const char *folder, Server *s, Error *err)
{
    Str words = {0}, env = {0};
    int n = 0, nenv = 0;
    char *full = NULL, *python = engine_python(e);
    Status st = eval_full_path(folder, &full, err);
    if (st == ST_OK && !python)
        st = server_ready(e, kit, err);
    if (st == ST_OK)
        st = engine_words(e, full, kit->peer, &words, &n, err);
    put_env(e->env, &env, &nenv);
    const char **argv = mem_array((size_t)n + 2, sizeof *argv), **envp = mem_array((size_t)nenv + 1, sizeof *envp);
    if (st == ST_OK && (!argv || !envp || env.oom || words.oom))
        st = error_nomem(err, "a server");
    if (st == ST_OK) {
        ChildSpec spec = {.argv = argv, .env = envp, .log = s->log.s, .grace = grace_seconds};
        argv[0] = python;
        point(argv + 1, n, words.s);
        point(envp, nenv, str_text(&env));
        unlink(s->log.s);
        st = child_start(&s->child, &spec, err);
    }
    free(argv);
    free(envp);
    free(full);
    free(python);
    str_free(&words);
    str_free(&env);
    return st;
}

Status server_start_on(const Engine *e, const EvalKit *kit, const char *folder, Server *out, bool *healthy, char *why,
                       Error *err)
{
    *out = (Server){0};
    *healthy = false;
    RETURN_IF_ERROR(nobody_there(e, kit, err));
    RETURN_IF_ERROR(eval_place(kit, "", "vllm_server.log", &out->log, err));
    RETURN_IF_ERROR(http_open(&out->http, err));
    RETURN_IF_ERROR(start(e, kit, folder, out, err));
    return wait_healthy(out, e, kit, healthy, why, err);
}

void server_stop(Server *s)
{
    child_stop(s->child);
    http_close(s->http);
    str_free(&s->log);
    *s = (Server){0};
}
