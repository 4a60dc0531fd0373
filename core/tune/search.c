#include "tune/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"

const char *tune_stage_text(TuneStage s)
{
    static const char *const text[] = {
        [TUNE_START] = "everything at its fewest bytes", [TUNE_TWELVE] = "the first groups of the order given back",
        [TUNE_BRACKET] = "the number of groups at which the target should be met",
        [TUNE_BACK] = "one of the last groups taken back", [TUNE_BUDGET] = "the best sets for these bytes",
        [TUNE_DONE] = "done"};
    return text[s];
}

typedef struct Search {
    const TuneTable *t;
    const TunePath *p;
    const TuneGoal *goal;
    const TuneResult *r;
    int nr;
    TunePoint *point; /* [nr] of the results */
    int16_t *set;     /* [n] looked at, and at last what to measure */
    int16_t *kept;    /* [n] */
    bool wait;        /* for s->set to be measured */
    bool *used;       /* [nr] or NULL */
    TuneNext *out;
} Search;

static double value_of(const Search *s, int i)
{
    return s->goal->what == TUNE_KL ? s->r[i].point.kl : s->r[i].point.ppl;
}

/* The newest result of s->set, -1: not measured. */
static int result_of(const Search *s)
{
    for (int i = s->nr; i-- > 0;)
        if (memcmp(s->r[i].point.set, s->set, (size_t)s->t->n * sizeof *s->set) == 0)
            return i;
    return -1;
}

static void use(Search *s, int i)
{
    s->out->tries++;
    if (s->used)
        s->used[i] = true;
}

/* What was measured of s->set; -1: it is to be measured, which is what the search answers. */
static int wanted(Search *s, TuneStage stage)
{
    int i = result_of(s);
    s->out->stage = stage;
    s->wait = i < 0;
    if (i >= 0)
        use(s, i);
    return i;
}

static int wanted_prefix(Search *s, TuneStage stage, int64_t moves)
{
    tune_path_set(s->p, moves, s->set, NULL, NULL);
    return wanted(s, stage);
}

/* Whether a result holds the goal; the one of fewest bytes is the answer. */
static bool holds(Search *s, int i, double error)
{
    bool fine = value_of(s, i) + error <= s->goal->at_most;
    if (fine && (s->out->best < 0 || s->r[i].bytes < s->r[s->out->best].bytes))
        s->out->best = i;
    return fine;
}

/* Between which prefixes the answer lies, by what was measured: the shortest that holds the goal, and the longest
 * shorter one, which misses it. */
typedef struct Bracket {
    int64_t low, high;
    int at;    /* result of `high`, -1: it is all of the path, and not measured */
    int tries; /* measured prefixes beside the first two */
} Bracket;

static Bracket bracket(Search *s, int64_t first)
{
    Bracket b = {.low = 0, .high = s->p->nmoves, .at = -1};
    for (int64_t k = 1; k <= s->p->nmoves; k++) {
        tune_path_set(s->p, k, s->set, NULL, NULL);
        int i = result_of(s);
        if (i >= 0 && k != first) {
            b.tries++;
            use(s, i);
        }
        if (i >= 0 && b.at < 0 && holds(s, i, 0)) {
            b.high = k;
            b.at = i;
        } else if (i >= 0 && b.at < 0) {
            b.low = k;
        }
    }
    return b;
}

/* The prefix inside the bracket at which the curve through the results reaches the goal; its middle once that has been
 * off the mark three times. */
static Status guess(Search *s, const Bracket *b, int64_t *moves, Error *err)
{
    enum { INTERPOLATE = 3 };
    TuneCurve c;
    RETURN_IF_ERROR(tune_curve(&c, s->point, s->nr, s->goal->what, -1, err));
    int64_t k = tune_path_reach(s->p, tune_curve_inverse(&c, s->goal->at_most));
    tune_curve_free(&c);
    if (b->tries >= INTERPOLATE)
        k = b->low + (b->high - b->low) / 2;
    *moves = min_i64(max_i64(k, b->low + 1), b->high - (b->at >= 0));
    return ST_OK;
}

/* Takes back the last moves one at a time: what holds by more than its error stays away. The prefix below an already
 * closed bracket is known to miss the goal. */
static void take_back(Search *s, const Bracket *b)
{
    int tried = 0, at = b->at;
    memcpy(s->kept, s->r[at].point.set, (size_t)s->t->n * sizeof *s->kept);
    for (int64_t i = b->high - 1; i >= 0 && i >= b->high - 2 * TUNE_TAKE_BACK && tried < TUNE_TAKE_BACK; i--) {
        const TuneMove *m = &s->p->move[i];
        if (s->kept[m->group] != m->to || (i == b->high - 1 && b->low == b->high - 1))
            continue;
        double sum;
        int64_t bytes;
        memcpy(s->set, s->kept, (size_t)s->t->n * sizeof *s->set);
        s->set[m->group] = m->from;
        tune_sums(s->t, s->set, &sum, &bytes);
        bool hopeless = value_of(s, at) * (sum / s->point[at].s) > TUNE_HOPE * s->goal->at_most;
        if (result_of(s) < 0 && (hopeless || s->out->tries >= TUNE_TRIES))
            continue;
        tried++;
        int r = wanted(s, TUNE_BACK);
        if (r < 0)
            return;
        double error = s->r[r].error ? s->r[r].error[at] : 0;
        if (holds(s, r, isfinite(error) ? error : 0)) {
            at = r;
            memcpy(s->kept, s->set, (size_t)s->t->n * sizeof *s->kept);
        }
    }
}

static Status search_target(Search *s, Error *err)
{
    int64_t first = min_i64(TUNE_FIRST_PREFIX, s->p->nmoves), moves;
    int i = wanted_prefix(s, TUNE_START, 0);
    if (i < 0 || holds(s, i, 0) || first == 0) /* or nothing has to be given back, or can be */
        return ST_OK;
    if (wanted_prefix(s, TUNE_TWELVE, first) < 0)
        return ST_OK;
    Bracket b = bracket(s, first);
    if (b.at < 0 && b.low == b.high)
        return ST_OK; /* all of it was measured, and misses the goal */
    if (b.high - b.low > 1 && (b.tries < TUNE_BRACKET_TRIES || b.at < 0)) {
        RETURN_IF_ERROR(guess(s, &b, &moves, err));
        wanted_prefix(s, TUNE_BRACKET, moves);
    } else if (b.at < 0) {
        wanted_prefix(s, TUNE_BRACKET, b.high);
    } else {
        take_back(s, &b);
    }
    return ST_OK;
}

static Status search_budget(Search *s, Error *err)
{
    const TuneWish wish = {.bytes = s->goal->bytes, .s = INFINITY};
    for (int k = 0; k < 2; k++) {
        RETURN_IF_ERROR((k ? tune_greedy : tune_allocate)(s->t, s->p, &wish, s->set, err));
        if (k && memcmp(s->set, s->kept, (size_t)s->t->n * sizeof *s->set) == 0)
            return ST_OK; /* both are one */
        memcpy(s->kept, s->set, (size_t)s->t->n * sizeof *s->set);
        int i = wanted(s, TUNE_BUDGET);
        if (i < 0)
            return ST_OK;
        if (s->out->best < 0 || value_of(s, i) < value_of(s, s->out->best))
            s->out->best = i;
    }
    return ST_OK;
}

Status tune_next(const TuneTable *t, const TunePath *p, const TuneGoal *goal, const TuneResult *r, int nr, int16_t *set,
                 bool *used, TuneNext *out, Error *err)
{
    *out = (TuneNext){.best = -1, .predicted = {.value = NAN, .low = NAN, .high = NAN}};
    Search s = {.t = t, .p = p, .goal = goal, .r = r, .nr = nr, .set = set, .out = out, .used = used,
                .point = mem_array((size_t)nr + 1, sizeof *s.point), .kept = mem_array((size_t)t->n, sizeof *s.kept)};
    Status st = s.point && s.kept ? ST_OK : error_nomem(err, "the search");
    for (int i = 0; st == ST_OK && i < nr; i++)
        s.point[i] = r[i].point;
    for (int i = 0; used && i < nr; i++)
        used[i] = false;
    if (st == ST_OK)
        st = goal->bytes < INT64_MAX ? search_budget(&s, err) : search_target(&s, err);
    double sum;
    int64_t bytes;
    if (!s.wait)
        out->stage = TUNE_DONE;
    if (s.wait)
        tune_sums(t, set, &sum, &bytes);
    if (st == ST_OK && s.wait)
        st = tune_predict(s.point, nr, goal->what, set, t->n, sum, &out->predicted, err);
    free(s.point);
    free(s.kept);
    return st;
}
