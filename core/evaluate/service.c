#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/aisbench.h"
#include "evaluate/ask.h"
#include "evaluate/outcome.h"
#include "evaluate/served.h"
#include "evaluate/server.h"
#include "evaluate/service.h"

/* Evaluator `service_oriented` (specs/tuning.md 7, 8): an inference server serves the quantized model, prechecks ask
 * it, a benchmark scores it data set by data set, up to the first that is not met. By default a model that is bad and
 * an evaluation that failed are two things; the peer has accuracy 0 for both. */

enum { WHY_MAX = 300 };

static Status service_ready(const void *settings, const Expectation *e, int n, const EvalKit *kit, Error *err)
{
    const Service *s = settings;
    if (host_kind(s->at.host) == HOST_NAME)
        RETURN_IF_ERROR(host_resolves(s->at.host, err));
    bool bench = false;
    for (int i = 0; i < n; i++) {
        const TaskSet *task = service_task(s, e[i].dataset);
        TaskFile *file;
        bench = bench || !task;
        if (!task)
            continue;
        Status st = task_open(&file, task->path, task->kind, (int)task->limit, err);
        if (st != ST_OK)
            return error_prefix(err, st, "data set '%s': ", task->name);
        task_free(file);
    }
    RETURN_IF_ERROR(server_ready(&s->engine, kit, err));
    return bench ? aisbench_ready(s, kit, err) : ST_OK;
}

/* A data set that the model failed, or that failed: the peer's accuracy 0, or a state of its own. */
static Status not_scored(const EvalKit *kit, const Expectation *e, EvalState state, const char *why, EvalResult *r,
                         bool *met, Error *err)
{
    static const Decimal zero = {.n = 1};
    eval_log(kit, "%s: %s", e->dataset, why);
    *met = false;
    return kit->peer ? eval_add(r, e, &zero, NULL, met, err) : eval_says(r, state, "%s", why);
}

/* A data set that we ask ourselves. */
static Status score_task(const Service *s, const TaskSet *set, const Expectation *e, const EvalKit *kit, Server *server,
                         EvalResult *r, bool *met, Error *err)
{
    TaskFile *file;
    TaskScore score;
    char failed[WHY_MAX], fell[WHY_MAX];
    RETURN_IF_ERROR(task_open(&file, set->path, set->kind, (int)set->limit, err));
    Status st = served_run(s, set, file, kit, &score, failed, err);
    task_free(file);
    RETURN_IF_ERROR(st);
    if (failed[0])
        return not_scored(kit, e, EVAL_FAILED, server_fell(server, fell) ? fell : failed, r, met, err);
    eval_log(kit, "%s: %lld of %lld right", set->name, (long long)score.right, (long long)score.n);
    RETURN_IF_ERROR(task_add_score(set, &score, NULL, r, err));
    *met = r->state == EVAL_DONE && expectation_met(e, eval_result_of(r, e->dataset));
    return ST_OK;
}

static Status score(const Service *s, const Expectation *e, const EvalKit *kit, const EvalTrial *t, Server *server,
                    EvalResult *r, bool *met, Error *err)
{
    BenchResult b;
    char why[WHY_MAX] = "";
    const TaskSet *task = service_task(s, e->dataset);
    if (task)
        return score_task(s, task, e, kit, server, r, met, err);
    RETURN_IF_ERROR(aisbench_run(s, service_set(s, e->dataset), kit, t, &b, err));
    if (b.lost && kit->peer)
        return error_set(err, ST_FAIL, "%s", b.why);
    if (!b.scored)
        return not_scored(kit, e, EVAL_FAILED, server_fell(server, why) ? why : b.why, r, met, err);
    return eval_add(r, e, &b.value, NULL, met, err);
}

/* Prechecks come before each data set with `peer`, else once: server and questions stay the same. */
static Status evaluate(const Service *s, const Expectation *e, int n, const EvalKit *kit, const EvalTrial *t,
                       Server *server, EvalResult *r, Error *err)
{
    bool met = true;
    for (int i = 0; i < n && met; i++) {
        char bad[WHY_MAX] = "", failed[WHY_MAX] = "", fell[WHY_MAX] = "";
        if (i == 0 || kit->peer)
            RETURN_IF_ERROR(ask_prechecks(s, server->http, kit, bad, failed, err));
        eval_progress(kit, e[i].dataset, i, n);
        if (bad[0])
            RETURN_IF_ERROR(not_scored(kit, &e[i], EVAL_BAD, bad, r, &met, err));
        else if (failed[0])
            RETURN_IF_ERROR(
                not_scored(kit, &e[i], EVAL_FAILED, server_fell(server, fell) ? fell : failed, r, &met, err));
        else
            RETURN_IF_ERROR(score(s, &e[i], kit, t, server, r, &met, err));
    }
    return ST_OK;
}

static Status service_run(const void *settings, const Expectation *e, int n, const EvalKit *kit, const EvalTrial *t,
                          EvalResult *r, Error *err)
{
    const Service *s = settings;
    Server server = {0};
    bool healthy = false;
    char why[WHY_MAX] = "";
    Status st = server_start_on(&s->engine, kit, t->folder, &server, &healthy, why, err);
    if (st == ST_OK && healthy) {
        eval_log(kit, "try %d is served (its log: %s)", t->number, server.log.s);
        st = evaluate(s, e, n, kit, t, &server, r, err);
    } else if (st == ST_OK)
        st = kit->peer ? error_set(err, ST_FAIL, "%s", why) : eval_says(r, EVAL_FAILED, "%s", why);
    server_stop(&server);
    demand_met(e, n, r);
    return st;
}

static Status service_digest(const void *settings, Hasher *h, Error *err)
{
    const Service *s = settings;
    for (int i = 0; i < s->ntasks; i++)
        RETURN_IF_ERROR(eval_hash_file(s->task[i].path, h, err));
    return ST_OK;
}

const EvaluatorType evaluator_service_oriented = {
    .name = "service_oriented",
    .object = &service_object,
    .folder = true,
    .peer = true,
    .settings = service_settings,
    .ready = service_ready,
    .run = service_run,
    .digest = service_digest,
};
