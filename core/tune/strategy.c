#include "tune/strategy.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "tune/play.h"

const char *const rank_scope_names[] = {"block", "group", "linear", NULL};

struct Strategy {
    const StrategyType *type;
    const StrategyKit *kit;
    void *state;
    Arena arena;
    RankRow *row;          /* [nrows] sorted */
    int64_t nrows;
    bool ranked;
    EvalResult *answer;    /* [nanswers] in order of the tries */
    size_t nanswers, answers_cap;
    const Practice **made; /* [nmade] every practice once */
    size_t nmade, made_cap;
    size_t at;             /* of a replay: answers used so far */
    StrategyStep step;
    bool known;            /* step is what is to be done now */
    Status st;             /* of a replay */
    Error err;
};

Status strategy_open(Strategy **out, const StrategyType *type, const void *settings, const StrategyKit *kit, Error *err)
{
    Strategy *s = calloc(1, sizeof *s);
    if (!s)
        return error_nomem(err, "a strategy");
    s->type = type;
    s->kit = kit;
    s->state = (void *)(uintptr_t)settings;
    Status st = type->open ? type->open(&s->state, settings, kit, err) : ST_OK;
    if (st != ST_OK) {
        free(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

void strategy_free(Strategy *s)
{
    if (!s)
        return;
    if (s->type->close)
        s->type->close(s->state);
    for (size_t i = 0; i < s->nanswers; i++)
        eval_result_free(&s->answer[i]);
    free(s->answer);
    free(s->made);
    free(s->row);
    arena_free(&s->arena);
    free(s);
}

/* ---- the ranking ---- */

typedef struct Ranked {
    RankRow row;
    int64_t place;
} Ranked;

static int worst_first(const void *a, const void *b)
{
    const Ranked *x = a, *y = b;
    bool xn = isnan(x->row.score), yn = isnan(y->row.score);
    if (xn != yn)
        return xn ? -1 : 1;
    if (!xn && x->row.score != y->row.score)
        return x->row.score > y->row.score ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

static Status copy_row(Strategy *s, const RankRow *from, RankRow *to, Error *err)
{
    *to = *from;
    const char **pattern = arena_alloc(&s->arena, (size_t)(from->npatterns + 1) * sizeof *pattern);
    to->name = arena_strdup(&s->arena, from->name);
    bool fine = pattern && to->name;
    for (int i = 0; fine && i < from->npatterns; i++)
        fine = (pattern[i] = arena_strdup(&s->arena, from->patterns[i])) != NULL;
    to->patterns = pattern;
    return fine ? ST_OK : error_nomem(err, "a ranking");
}

Status strategy_ranked(Strategy *s, const RankRow *rows, int64_t n, Error *err)
{
    Ranked *r = mem_array((size_t)n + 1, sizeof *r);
    RankRow *sorted = mem_array((size_t)n + 1, sizeof *sorted);
    Status st = r && sorted ? ST_OK : error_nomem(err, "a ranking");
    int64_t bad = 0;
    for (int64_t i = 0; st == ST_OK && i < n; i++) {
        r[i].place = i;
        bad += isnan(rows[i].score);
        st = copy_row(s, &rows[i], &r[i].row, err);
    }
    if (st != ST_OK) {
        free(r);
        free(sorted);
        return st;
    }
    qsort(r, (size_t)n, sizeof *r, worst_first);
    for (int64_t i = 0; i < n; i++)
        sorted[i] = r[i].row;
    free(r);
    free(s->row);
    s->row = sorted;
    s->nrows = n;
    s->ranked = true;
    s->known = false;
    if (bad)
        kit_say(s->kit, 1, "%lld of %lld scores of the ranking are no numbers: these stand first, as the worst", (long long)bad,
                (long long)n);
    return ST_OK;
}

bool play_ranking(Play *p, const RankWish *w, const RankRow **rows, int64_t *n)
{
    Strategy *s = p->s;
    if (p->stopped)
        return false;
    if (!s->ranked) {
        s->step = (StrategyStep){.kind = STEP_RANK, .wish = w};
        p->stopped = true;
        return false;
    }
    *rows = s->row;
    *n = s->nrows;
    return true;
}

/* ---- practices ---- */

/* A practice that was made before with the same text, or a new one. */
static Status keep(Strategy *s, const char *id, int level, DraftMade *m, const Practice **out, Error *err)
{
    for (size_t i = 0; i < s->nmade; i++)
        if (s->made[i]->len == m->doc.text.len && memcmp(s->made[i]->text, m->doc.text.s, m->doc.text.len) == 0) {
            *out = s->made[i];
            return ST_OK;
        }
    Practice *p = arena_alloc(&s->arena, sizeof *p);
    char *text = arena_strndup(&s->arena, m->doc.text.s, m->doc.text.len), *name = arena_strdup(&s->arena, id);
    if (!p || !text || !name || !mem_grow(&s->made, &s->made_cap, s->nmade + 1, sizeof *s->made))
        return error_nomem(err, "a practice");
    *p = (Practice){.id = name, .text = text, .len = m->doc.text.len, .anti = m->anti, .patterns = m->doc.patterns,
                    .npatterns = m->doc.npatterns, .level = level};
    s->made[s->nmade++] = p;
    *out = p;
    return ST_OK;
}

static Status make(Strategy *s, const Draft *d, const char *id, DraftMade *m, Error *err)
{
    *m = (DraftMade){0};
    return s->type->make(s->state, &s->arena, d, id, m, err);
}

/* Ids by content never collide, and are the same for the same practice in every run; the peer counts. */
static Status practice_of(Strategy *s, const Draft *d, const Practice **out, Error *err)
{
    DraftMade m;
    char id[256];
    const char *name = s->type->id(s->state);
    Status st;
    if (s->kit->peer) {
        snprintf(id, sizeof id, "%.200s_%d", name, d->number);
    } else {
        st = make(s, d, "", &m, err);
        Digest digest = st == ST_OK ? digest_of(m.doc.text.s, m.doc.text.len) : (Digest){0};
        practice_made_free(&m.doc);
        RETURN_IF_ERROR(st);
        char hex[65];
        digest_hex(&digest, hex);
        snprintf(id, sizeof id, "%.180s_%.8s", name, hex);
    }
    st = make(s, d, id, &m, err);
    int level = 0;
    for (int64_t i = 0; i < d->n; i++)
        level += !d->in || d->in[i];
    if (st == ST_OK)
        st = keep(s, id, level, &m, out, err);
    practice_made_free(&m.doc);
    return st;
}

static void stop(Play *p, StepKind kind, const Draft *d, const char *text)
{
    Strategy *s = p->s;
    static const Practice none = {0};
    s->step = (StrategyStep){.kind = kind, .practice = &none, .text = text};
    if (d)
        s->st = practice_of(s, d, &s->step.practice, &s->err);
    p->stopped = true;
}

bool play_try(Play *p, const Draft *d, const EvalResult **r)
{
    if (p->stopped)
        return false;
    if (p->s->at < p->s->nanswers) {
        *r = &p->s->answer[p->s->at++];
        return true;
    }
    stop(p, STEP_TRY, d, NULL);
    return false;
}

void play_end(Play *p, StepKind kind, const Draft *d, const char *text)
{
    if (!p->stopped)
        stop(p, kind, d, text);
}

void play_fail(Play *p, Status st, const char *text)
{
    p->s->st = error_set(&p->s->err, st, "%s", text);
    p->stopped = true;
}

Status strategy_next(Strategy *s, StrategyStep *out, Error *err)
{
    if (!s->known) {
        Play p = {.kit = s->kit, .s = s};
        s->at = 0;
        s->st = ST_OK;
        s->type->play(s->state, &p);
        if (s->st != ST_OK)
            return error_set(err, s->st, "%s", s->err.text);
        if (!p.stopped)
            return error_set(err, ST_INTERNAL, "the strategy %s ended without a word", s->type->name);
        s->known = true;
    }
    *out = s->step;
    return ST_OK;
}

Status strategy_answered(Strategy *s, const EvalResult *r, Error *err)
{
    if (!mem_grow(&s->answer, &s->answers_cap, s->nanswers + 1, sizeof *s->answer))
        return error_nomem(err, "an answer");
    RETURN_IF_ERROR(eval_result_copy(&s->answer[s->nanswers], r, err));
    s->nanswers++;
    s->known = false;
    return ST_OK;
}

/* ---- what strategies share ---- */

const char *const *draft_patterns(Arena *a, const Draft *d, RankScope scope, int *n)
{
    size_t most = 1;
    for (int64_t i = 0; i < d->n; i++)
        most += (size_t)d->rows[i].npatterns + 1;
    const char **list = arena_alloc(a, most * sizeof *list);
    *n = 0;
    for (int64_t i = 0; list && i < d->n; i++) {
        const RankRow *r = &d->rows[i];
        if (d->in && !d->in[i])
            continue;
        for (int k = 0; k < r->npatterns; k++)
            list[(*n)++] = r->patterns[k];
        if (r->npatterns)
            continue;
        size_t len = strlen(r->name) + 4;
        char *text = arena_alloc(a, len);
        if (!text)
            return NULL;
        snprintf(text, len, scope == RANK_LINEARS ? "%s" : "*%s.*", r->name);
        list[(*n)++] = text;
    }
    return list;
}

void kit_say(const StrategyKit *kit, int level, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (kit->log)
        kit->log(kit->ctx, level, text);
}
