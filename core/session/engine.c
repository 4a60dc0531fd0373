#include "session/engine.h"

#include <string.h>

#include "base/hash.h"
#include "session/assignment.h"
#include "session/parts.h"

static uint64_t digest_word(const Digest *d)
{
    uint64_t v;
    memcpy(&v, d->b, sizeof v);
    return v;
}

static Status hold(const Session *s, const Recipe *recipe, RuntimeReport *out, Error *err)
{
    const RuntimeQuery q = {.recipe = recipe, .model = s->model, .level = s->assignment->level,
                            .runtime = s->opt.runtime, .peer = s->opt.peer};
    return runtime_check(&q, out, err);
}

Status session_runtime(const Session *s, RuntimeReport *out, Error *err)
{
    *out = (RuntimeReport){0};
    if (!s->model || !s->recipe)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    return hold(s, s->recipe, out, err);
}

Status engine_meet(Session *s, const Recipe *recipe, Error *err)
{
    RuntimeReport r;
    Hasher h;
    Status st = hold(s, recipe, &r, err);
    const bool must = s->opt.runtime != NULL;
    hasher_init(&h);
    for (size_t i = 0; st == ST_OK && i < r.n; i++)
        hasher_str(&h, r.f[i].text);
    const Digest digest = hasher_end(&h);
    const uint64_t told = r.n ? digest_word(&digest) : 0;
    for (size_t i = must; st == ST_OK && i < r.n && (must || told != s->rules_told); i++)
        session_log(s, must ? 2 : 1, "%s", r.f[i].text);
    if (st == ST_OK)
        s->rules_told = told;
    if (st == ST_OK && must && r.n)
        st = error_set(err, ST_DATA, "%s", r.f[0].text);
    runtime_report_fini(&r);
    return st;
}
