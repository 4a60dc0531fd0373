#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "evaluate/ask.h"
#include "evaluate/outcome.h"
#include "evaluate/precheck.h"
#include "evaluate/served.h"

enum { FAILED_MAX = 300, STOPS_MAX = 4 /* of OpenAI's API */ };

/* What a question came to. */
typedef struct Reached {
    Status status;
    bool asked, right;
    int fired; /* rule of the precheck, -1: none */
} Reached;

typedef struct Asking {
    const Service *s;
    const TaskSet *set;
    const TaskFile *file;
    const EvalKit *kit;
    Http **http;      /* [threads], opened by its worker */
    Reached *reached; /* [file->n] */
    Error *why;       /* [file->n] */
    atomic_int done;
    atomic_bool stop; /* one came to nothing: the rest need not be asked */
} Asking;

/* What generation may stop at: not a line's end, which many replies begin with. */
static int stops_of(const TaskSet *set, const char **stop)
{
    int n = 0;
    for (int i = 0; i < set->nuntil && n < STOPS_MAX; i++)
        if (set->until[i][strspn(set->until[i], " \t\r\n")])
            stop[n++] = set->until[i];
    return n;
}

static Status ask_exact(const Asking *a, Http *http, const TaskItem *item, Reached *r, Error *err)
{
    const char *stop[STOPS_MAX];
    Str ask = {0}, reply = {0};
    if (a->set->chat) {
        if (item->before)
            str_printf(&ask, "%s\n", item->before);
        str_puts(&ask, item->question);
    } else
        task_prompt(item, &ask);
    const TextQuestion q = {.text = str_text(&ask),
                            .chat = a->set->chat,
                            .max_tokens = a->set->max_tokens,
                            .stop = stop,
                            .nstop = stops_of(a->set, stop),
                            .timeout = a->s->request_timeout};
    Status st = ask.oom ? error_nomem(err, "a question") : ask_text(http, &a->s->at, &q, a->kit->cancel, &reply, err);
    if (st == ST_OK) {
        size_t n = task_reply_end(a->set, item, str_text(&reply));
        if (reply.s)
            reply.s[n] = '\0';
        st = exact_match(a->set, item, str_text(&reply), &r->right, err);
        if (st == ST_OK && a->set->precheck)
            st = precheck_garbled(str_text(&reply), n, GARBLED_ALL, a->kit->peer, &r->fired, err);
    }
    str_free(&ask);
    str_free(&reply);
    return st;
}

static Status ask_choice(const Asking *a, Http *http, const TaskItem *item, Reached *r, Error *err)
{
    int best = -1;
    double most = 0;
    Status st = ST_OK;
    for (int i = 0; i < item->choices && st == ST_OK; i++) {
        Str text = {0};
        double sum = 0;
        int64_t tokens = 0, bytes = (int64_t)strlen(item->choice[i]);
        task_prompt(item, &text);
        size_t from = text.len;
        task_choice(item->choice[i], false, &text);
        st = text.oom ? error_nomem(err, "a question")
                      : ask_likelihood(http, &a->s->at, text.s, from, a->s->request_timeout, a->kit->cancel, &sum,
                                       &tokens, err);
        int64_t by = a->set->norm == NORM_TOKENS ? tokens : a->set->norm == NORM_BYTES ? bytes : 1;
        sum /= (double)(by > 0 ? by : 1);
        if (best < 0 || sum > most) {
            best = i;
            most = sum;
        }
        str_free(&text);
    }
    r->right = best == item->right;
    return st;
}

static void ask_one(void *ctx, int64_t i, int worker)
{
    Asking *a = ctx;
    Reached *r = &a->reached[i];
    if (atomic_load(&a->stop))
        return;
    r->status = a->http[worker] ? ST_OK : http_open(&a->http[worker], &a->why[i]);
    for (int64_t try = 0; r->status == ST_OK || (r->status == ST_FAIL && a->http[worker]); try++) {
        r->status = (a->set->kind == TASK_CHOICE ? ask_choice : ask_exact)(a, a->http[worker], &a->file->item[i], r,
                                                                           &a->why[i]);
        if (r->status != ST_FAIL || try >= a->s->bench.retry)
            break;
    }
    r->asked = true;
    if (r->status != ST_OK)
        atomic_store(&a->stop, true);
    int done = atomic_fetch_add(&a->done, 1) + 1;
    if (worker == 0)
        eval_progress(a->kit, a->set->name, done, a->file->n);
}

/* The first that came to nothing; counts of the others. */
static Status gather(const Asking *a, TaskScore *out, char *failed, Error *err)
{
    for (int i = 0; i < a->file->n; i++) {
        const Reached *r = &a->reached[i];
        if (r->asked && r->status == ST_FAIL) {
            snprintf(failed, FAILED_MAX, "%.60s, line %d: %.200s", a->set->name, a->file->item[i].line, a->why[i].text);
            return ST_OK;
        }
        if (r->asked && r->status != ST_OK)
            return error_set(err, r->status, "%s", a->why[i].text);
        out->right += r->right;
        if (r->fired >= 0 && !out->garbled++)
            out->rule = garbled_names[r->fired];
    }
    return ST_OK;
}

Status served_run(const Service *s, const TaskSet *set, const TaskFile *file, const EvalKit *kit, TaskScore *out,
                  char *failed, Error *err)
{
    int threads = pool_threads(kit->pool);
    Asking a = {.s = s,
                .set = set,
                .file = file,
                .kit = kit,
                .http = mem_zarray((size_t)threads, sizeof *a.http),
                .reached = mem_zarray((size_t)file->n, sizeof *a.reached),
                .why = mem_zarray((size_t)file->n, sizeof *a.why)};
    *out = (TaskScore){.n = file->n};
    failed[0] = '\0';
    Status st = a.http && a.reached && a.why ? ST_OK : error_nomem(err, "the questions");
    for (int i = 0; i < file->n && st == ST_OK; i++)
        a.reached[i].fired = -1;
    if (st == ST_OK) {
        pool_run(kit->pool, PHASE_OTHER, file->n, ask_one, &a, kit->cancel);
        st = cancel_check(kit->cancel, err);
    }
    if (st == ST_OK)
        st = gather(&a, out, failed, err);
    for (int i = 0; i < threads && a.http; i++)
        http_close(a.http[i]);
    free(a.http);
    free(a.reached);
    free(a.why);
    return st;
}
