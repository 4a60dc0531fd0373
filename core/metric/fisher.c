/* What quantizing a fused group does to the model's own predictions, in first order: the gradient of the likelihood of tokens
 * that the model draws itself, times the output error of the group's linears. One float pass and one backward pass over a few
 * tokens serve every group and every level. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "measure/spread.h"
#include "metric/errordots.h"
#include "metric/leveled.h"
#include "metric/ranges.h"
#include "metric/rows.h"
#include "metric/watch.h"
#include "run/exitgrad.h"
#include "run/schedule.h"
#include "run/share.h"
#include "run/taps.h"

/* How many tokens it is taken over by default, how many of a text's beginning at least, and the bytes of kept streams up to
 * which every layer's input is kept. */
enum { FISHER_TOKENS = 1024, FISHER_LEAST = 128 };
static const uint64_t kept_bytes = (uint64_t)256 << 20;

enum { PART_ERROR, PART_MEAN, PART_TEXT, PART_LABELS };
static const MetricPart fisher_parts[] = {
    {"error", "nats", "standard error of the score, from what the texts give each"},
    {"mean", "nats", "mean over all tokens, not the middle of the texts"},
    {"text", "nats", "that mean with the tokens of a text summed before they are squared"},
    {"labels", "", "of tokens drawn from the model's own predictions (0), or of the texts' next tokens (1)"},
    {NULL, NULL, NULL}};

/* What a text gives of a group: half the sum of its tokens' squared dots, the sum of the dots, how many of them have a loss,
 * and the first that is no number, -1: none. */
typedef struct TextSums {
    double squares, sum;
    int64_t tokens, bad;
} TextSums;

typedef struct FisherPass {
    Runner *r;
    const PassPlan *p;
    const PassSink *sink;
    const Scores *known;
    LeveledSet set;
    LayerForms *forms;    /* [set.n] of the unit at work */
    RangeSet ranges;
    Dist *dist;           /* NULL: alone */
    TokenSet probe;       /* its arrays: start, ids */
    int64_t *start;
    int32_t *ids;
    int32_t *label;       /* [rows] */
    uint64_t *key;        /* [rows] */
    int64_t labelled;     /* rows with a loss */
    Share share;          /* of the probe, what this rank takes */
    int64_t row0;         /* of the probe, with which that begins */
    int first, last;      /* units [first, last) are walked down */
    Stream *kept;         /* [nkept] inputs of units kept_at[i] */
    int *kept_at, nkept;
    int step;             /* of them */
    ErrorDots dots;
    bool *open;           /* [ngroups] to be scored */
    double *text;         /* [samples] what each text gives */
    TextSums *sums;       /* [largest unit's groups][levels][samples] of all ranks; elsewhere than on rank 0 its own */
    PassScore *score;     /* [cap] */
    int64_t done, total;
} FisherPass;

/* ---- which tokens ---- */

static PassProbe probe(const PassPlan *p)
{
    return pass_probe(p, FISHER_TOKENS, FISHER_LEAST);
}

/* Sample i of the probe: the number of its text. */
static int text_of(const PassPlan *p, int i)
{
    return (int)((int64_t)i * p->tokens->samples / probe(p).samples);
}

/* How many tokens that are. */
static int64_t probe_tokens(const PassPlan *p)
{
    const PassProbe at = probe(p);
    int64_t n = 0;
    for (int i = 0; i < at.samples; i++)
        n += min_i64(at.rows, p->tokens->start[text_of(p, i) + 1] - p->tokens->start[text_of(p, i)]);
    return n;
}

static Dist *dist_of(const PassPlan *p)
{
    return p->ranks ? p->ranks->dist : NULL;
}

/* Rows of the probe that this rank takes; without memory to tell, all. */
static int64_t own_tokens(const PassPlan *p)
{
    const PassProbe at = probe(p);
    int64_t *start = mem_zarray((size_t)at.samples + 1, sizeof *start), n = probe_tokens(p);
    const TokenSet all = {.samples = at.samples, .start = start};
    Share s;
    for (int i = 0; start && i < at.samples; i++)
        start[i + 1] = start[i] + min_i64(at.rows, p->tokens->start[text_of(p, i) + 1] - p->tokens->start[text_of(p, i)]);
    if (start && share_init(&s, dist_of(p), &all, NULL) == ST_OK) {
        n = s.mine.start[s.mine.samples];
        share_fini(&s);
    }
    free(start);
    return n;
}

/* Beginnings of texts that are spread over all of them. */
static Status make_probe(FisherPass *f, Error *err)
{
    const TokenSet *t = f->p->tokens;
    const PassProbe at = probe(f->p);
    size_t rows = (size_t)at.samples * (size_t)at.rows + 1;
    f->start = mem_zarray((size_t)at.samples + 1, sizeof *f->start);
    f->ids = mem_array(rows, sizeof *f->ids);
    f->label = mem_array(rows, sizeof *f->label);
    f->key = mem_array(rows, sizeof *f->key);
    if (!f->start || !f->ids || !f->label || !f->key)
        return error_nomem(err, "the tokens of an analysis");
    for (int i = 0; i < at.samples; i++) {
        int text = text_of(f->p, i);
        int64_t from = t->start[text], own = t->start[text + 1] - from, n = min_i64(own, at.rows), to = f->start[i];
        f->start[i + 1] = to + n;
        for (int64_t k = 0; k < n; k++) {
            f->ids[to + k] = t->ids[from + k];
            f->key[to + k] = (uint64_t)text << 32 | (uint64_t)k;
            f->label[to + k] = f->p->data_labels ? (k + 1 < own ? t->ids[from + k + 1] : LABEL_NONE) : LABEL_DRAW;
            f->labelled += f->label[to + k] != LABEL_NONE;
        }
    }
    f->probe = (TokenSet){.name = t->name, .samples = at.samples, .start = f->start, .ids = f->ids};
    if (!f->labelled)
        return error_set(err, ST_DATA, "'%s' has no text of two tokens: there is no next one", t->name ? t->name : "?");
    RETURN_IF_ERROR(share_init(&f->share, f->dist, &f->probe, err));
    f->row0 = f->start[f->share.first];
    return ST_OK;
}

/* ---- which groups ---- */

/* Whether the group is to be scored at all: a linear of it is selected, and logits depend on it. */
static bool scores_group(const PassPlan *p, int64_t group)
{
    int64_t from, to;
    scope_linears(p->m, SCOPE_GROUP, group, &from, &to);
    return from < to && p->m->linears[from].layer >= 0 && p->m->linears[from].layer < p->m->cfg.layers &&
           pass_selects(p, SCOPE_GROUP, group);
}

static bool is_known(const PassPlan *p, const Scores *s, int64_t group, const QConfig *q)
{
    const UnitSlot *u = s ? scores_unit_at(s, &metric_fisher, group, scores_level_all(p->m, SCOPE_GROUP, group, q)) : NULL;
    if (!u || u->stale)
        return false;
    if (u->s.absent || u->s.why[0])
        return true;
    int64_t wanted = !p->probe ? 0 : p->tokens ? probe_tokens(p) : p->probe;
    return u->s.tokens >= wanted && (u->s.part[PART_LABELS] != 0) == p->data_labels;
}

static bool all_known(const PassPlan *p, const Scores *s, int64_t group)
{
    for (int k = 0; k < p->nlevels; k++)
        if (!is_known(p, s, group, &p->levels[k]))
            return false;
    return true;
}

static int64_t steps(const PassPlan *p)
{
    int64_t n = 0;
    for (int64_t g = 0; g < p->m->ngroups; g++)
        n += scores_group(p, g);
    return n;
}

static bool answered(const PassPlan *p, const Scores *s)
{
    for (int64_t g = 0; g < p->m->ngroups; g++)
        if (scores_group(p, g) && !all_known(p, s, g))
            return false;
    return true;
}

/* Those that are to be scored yet, and the units that hold them. */
static Status open_groups(FisherPass *f, Error *err)
{
    const Model *m = f->p->m;
    f->open = mem_zarray((size_t)m->ngroups + 1, sizeof *f->open);
    if (!f->open)
        return error_nomem(err, "the groups of an analysis");
    f->first = m->cfg.layers;
    f->last = m->cfg.layers;
    for (int64_t g = 0; g < m->ngroups; g++) {
        if (!scores_group(f->p, g))
            continue;
        f->total++;
        f->open[g] = !all_known(f->p, f->known, g);
        f->done += !f->open[g];
        int unit = m->linears[m->groups[g].first].layer;
        f->first = f->open[g] && unit < f->first ? unit : f->first;
    }
    return ST_OK;
}

/* Before anything is computed: what stands between the groups and the loss has gradients. */
static Status check_gradients(const FisherPass *f, Error *err)
{
    Status st = exit_has_gradients(f->p->m, err);
    for (int unit = f->first; st == ST_OK && unit < f->last; unit++)
        st = unit_has_gradients(f->p->m, unit, err);
    if (st == ST_USAGE)
        error_prefix(err, st, "fisher walks gradients back through the model: ");
    return st;
}

/* ---- ranges of inputs ---- */

static Status find_ranges(FisherPass *f, Error *err)
{
    const Model *m = f->p->m;
    bool *wanted = mem_zarray((size_t)m->nlinears * (size_t)f->p->nlevels + 1, sizeof *wanted);
    if (!wanted)
        return error_nomem(err, "the levels of an analysis");
    for (int k = 0; k < f->set.n; k++) {
        const Leveled *l = &f->set.of[k];
        for (int64_t i = 0; i < m->nlinears; i++)
            wanted[(l->number - 1) * m->nlinears + i] = l->at[i] && f->open[m->linears[i].group];
    }
    f->ranges = (RangeSet){.r = f->r, .p = f->p, .level = f->set.level, .done = f->done, .total = f->total, .sink = f->sink};
    Status st = ranges_find(&f->ranges, wanted, err);
    free(wanted);
    return st;
}

/* ---- forward ---- */

static uint64_t stream_bytes(const Model *m, int64_t rows)
{
    return (uint64_t)rows * (uint64_t)m->cfg.stream_width * sizeof(float);
}

/* Every how many of `units` layers one's input is kept under a limit (0: none): all while they take little, else at least as
 * many as lie between two. */
static int kept_step(const Model *m, int64_t rows, int units, uint64_t limit)
{
    int step = 1;
    uint64_t most = limit ? min_u64(kept_bytes, limit / 32) : kept_bytes;
    while (step * step < units && (uint64_t)div_up(units, step) * stream_bytes(m, rows) > most)
        step++;
    return step;
}

static Status keep_and_run(void *self, LayerCtx *ctx, Error *err)
{
    FisherPass *f = self;
    const Variant v = {.sdpa = f->p->peer};
    int at = ctx->layer - f->first;
    if (at >= 0 && at % f->step == 0) {
        RETURN_IF_ERROR(stream_copy(&f->kept[f->nkept], ctx->streams[0], err));
        f->kept_at[f->nkept++] = ctx->layer;
        runner_hold(f->r, (uint64_t)f->nkept * stream_bytes(f->p->m, f->kept[0].rows));
    }
    return layer_forward(ctx, &v, ctx->streams[0], ctx->streams[0], err);
}

/* Float over the probe: what is kept on the way, and the gradient behind the last layer. */
static Status run_forward(FisherPass *f, Stream *grad, Error *err)
{
    Stream h = {0}, *hs = &h;
    const TokenSet *tokens = &f->share.mine;
    const Outside embed = {.tokens = &tokens};
    const Schedule s = {.last = f->last, .job = {"float", keep_and_run, f}, .outside = &embed, .seed = f->p->seed};
    const ExitLoss loss = {.label = f->label + f->row0, .key = f->key + f->row0, .seed = f->p->seed, .first = f->share.first};
    f->step = kept_step(f->p->m, tokens->start[tokens->samples], f->last - f->first, runner_mem_limit(f->r));
    f->kept = mem_zarray((size_t)(f->last - f->first) + 1, sizeof *f->kept);
    f->kept_at = mem_zarray((size_t)(f->last - f->first) + 1, sizeof *f->kept_at);
    if (!f->kept || !f->kept_at)
        return error_nomem(err, "kept hidden states");
    RETURN_IF_ERROR(schedule_forward(f->r, &hs, 1, &s, err));
    Status st = exit_gradient(f->r, &h, &loss, grad, err);
    stream_fini(&h);
    return st;
}

/* ---- scores ---- */

/* The middle of what n texts give, and the standard error of it: half of what lies between the values that many drawings of n
 * texts would have as their middle in two cases of three, by the binomial distribution of ranks. */
static void take_middle(double *text, int n, UnitScore *u)
{
    u->value = sorted_median(text, n);
    double half = sqrt((double)n) / 2, mid = (double)n / 2;
    int lo = (int)fmax(0, floor(mid - half)), hi = (int)fmin(n, ceil(mid + half)) - 1;
    u->part[PART_ERROR] = n > 1 ? (text[hi] - text[lo]) / 2 : NAN;
}

/* Of sample s of the probe, which this rank has. */
static TextSums one_text(const FisherPass *f, const double *dot, int s)
{
    TextSums x = {.bad = -1};
    for (int64_t t = f->probe.start[s]; t < f->probe.start[s + 1]; t++) {
        const double v = dot[t - f->row0];
        if (x.bad < 0 && !isfinite(v))
            x.bad = t - f->probe.start[s];
        if (f->label[t] == LABEL_NONE)
            continue;
        x.sum += v;
        x.squares += v * v / 2;
        x.tokens++;
    }
    return x;
}

/* A group's score and what belongs to it, from what its texts gave. */
static void sum_texts(const FisherPass *f, const TextSums *of, UnitScore *u)
{
    double all = 0, texts = 0;
    int n = 0;
    u->tokens = f->probe.start[f->probe.samples];
    u->samples = f->probe.samples;
    for (int s = 0; s < f->probe.samples; s++) {
        if (of[s].tokens > 0)
            f->text[n++] = of[s].squares / (double)of[s].tokens;
        all += of[s].squares;
        texts += of[s].sum * of[s].sum / 2;
        if (of[s].bad < 0)
            continue;
        snprintf(u->why, sizeof u->why, "NaN or Inf in its error or gradient at text %d token %lld", text_of(f->p, s),
                 (long long)of[s].bad);
        return;
    }
    take_middle(f->text, n, u);
    u->part[PART_MEAN] = all / (double)f->labelled;
    u->part[PART_TEXT] = texts / (double)f->labelled;
    u->part[PART_LABELS] = f->p->data_labels;
}

/* Whether any of the group's linears computes otherwise than in float. */
static bool has_form(const FisherPass *f, int k, int64_t group)
{
    int64_t from, to;
    scope_linears(f->p->m, SCOPE_GROUP, group, &from, &to);
    for (int64_t i = from; i < to; i++)
        if (scope_unit_of(f->p->m, SCOPE_GROUP, i) == group && f->forms[k].table[i - f->forms[k].first])
            return true;
    return false;
}

/* Those of a group of the unit at work at a level. */
static TextSums *sums_of(const FisherPass *f, int64_t group, int k)
{
    return f->sums + ((group - f->dots.group0) * f->set.n + k) * f->probe.samples;
}

static void score_group(FisherPass *f, int64_t group, int k, PassScore *out)
{
    const Leveled *l = &f->set.of[k];
    const char *why = leveled_refuses(&f->set, l, SCOPE_GROUP, group);
    UnitScore *u = &out->s;
    *out = (PassScore){&metric_fisher, {.unit = group, .value = NAN,
                                        .levels = scores_level_all(f->p->m, SCOPE_GROUP, group, l->q)}};
    for (int i = 0; i < metric_parts(&metric_fisher); i++)
        u->part[i] = NAN;
    if (*why) {
        snprintf(u->why, sizeof u->why, "%s", why);
    } else if (!has_form(f, k, group)) {
        snprintf(u->why, sizeof u->why, "%s", leveled_unreached);
        u->absent = true;
    } else {
        sum_texts(f, sums_of(f, group, k), u);
    }
}

/* ---- backward ---- */

static Status begin_unit(FisherPass *f, int unit, const Stream *shape, Error *err)
{
    const Unit *u = &f->p->m->units[unit];
    for (int k = 0; k < f->set.n; k++) {
        RETURN_IF_ERROR(layer_forms_init(&f->forms[k], f->p->m, &f->set.of[k].opt, u->first, u->count, err));
        ranges_recall(&f->ranges, &f->forms[k], f->set.of[k].at, &f->set.types);
        RETURN_IF_ERROR(layer_forms_stage(&f->forms[k], 0, FORM_FIXED, &f->set.types, err));
    }
    RETURN_IF_ERROR(errordots_begin(&f->dots, f->r, unit, f->forms, f->set.n, shape, err));
    for (int64_t g = 0; g < f->dots.groups; g++)
        f->dots.wanted[g] = f->open[f->dots.group0 + g];
    return ST_OK;
}

static void end_unit(FisherPass *f)
{
    errordots_end(&f->dots);
    for (int k = 0; k < f->set.n; k++)
        if (f->forms[k].states)
            layer_forms_fini(&f->forms[k]);
}

/* What the texts of all ranks gave, on rank 0. mine: of this rank's. */
static Status gather_texts(FisherPass *f, const Pack *mine, Error *err)
{
    Pack *all = NULL;
    RETURN_IF_ERROR(dist_gather(f->dist, mine, &all, err));
    for (int r = 0, s = 0; all && r < dist_size(f->dist); r++) {
        Unpack in = unpack_of(&all[r]);
        const int first = s;
        s += in.at != in.end ? (int)unpack_i64(&in) : 0;
        for (int64_t g = f->dots.group0; in.at != in.end && g < f->dots.group0 + f->dots.groups; g++)
            for (int k = 0; f->open[g] && k < f->set.n; k++)
                unpack_get(&in, sums_of(f, g, k) + first, (size_t)(s - first) * sizeof *f->sums);
    }
    dist_packs_free(all, dist_size(f->dist));
    return ST_OK;
}

/* Of a rank without a text. */
static Status gather_nothing(FisherPass *f, Error *err)
{
    return gather_texts(f, &(Pack){0}, err);
}

static Status take_texts(FisherPass *f, Error *err)
{
    const int first = f->share.first, n = f->share.mine.samples;
    Pack mine = {0};
    pack_i64(&mine, n);
    for (int64_t g = f->dots.group0; g < f->dots.group0 + f->dots.groups; g++)
        for (int k = 0; f->open[g] && k < f->set.n; k++) {
            for (int s = first; s < first + n; s++)
                sums_of(f, g, k)[s] = one_text(f, errordots_rows(&f->dots, k, g), s);
            pack_put(&mine, sums_of(f, g, k) + first, (size_t)n * sizeof *f->sums);
        }
    const Status st = dist_size(f->dist) > 1 ? gather_texts(f, &mine, err) : ST_OK;
    pack_fini(&mine);
    return st;
}

static Status tell_unit(FisherPass *f, Error *err)
{
    int64_t n = 0;
    RETURN_IF_ERROR(errordots_finish(&f->dots, err));
    RETURN_IF_ERROR(take_texts(f, err));
    for (int64_t g = f->dots.group0; g < f->dots.group0 + f->dots.groups; g++) {
        if (!f->open[g])
            continue;
        for (int k = 0; dist_leads(f->dist) && k < f->set.n; k++)
            score_group(f, g, k, &f->score[n++]);
        f->done++;
    }
    const PassStep step = {.done = f->done, .total = f->total, .news = true, .score = f->score, .nscore = n};
    return f->sink->step(f->sink->ctx, &step, err);
}

/* Between the passes of two units weights can be read: what was gathered of this one is made whole, the next one begins. */
static Status unit_done(void *ctx, int unit, const Stream *in, const Stream *grad, Error *err)
{
    (void)in;
    FisherPass *f = ctx;
    Status st = tell_unit(f, err);
    end_unit(f);
    return st == ST_OK && unit > f->first ? begin_unit(f, unit - 1, grad, err) : st;
}

static Status run_backward(FisherPass *f, Stream *grad, Error *err)
{
    const Stream **kept = mem_array((size_t)f->nkept + 1, sizeof *kept);
    if (!kept)
        return error_nomem(err, "kept hidden states");
    for (int i = 0; i < f->nkept; i++)
        kept[i] = &f->kept[i];
    const GradHooks hooks = errordots_hooks(&f->dots);
    const Backward b = {.first = f->first, .last = f->last, .kept = kept, .kept_at = f->kept_at, .nkept = f->nkept,
                        .sdpa = f->p->peer, .hooks = &hooks, .unit_done = unit_done, .ctx = f};
    runner_hold(f->r, (uint64_t)(f->nkept + 1) * stream_bytes(f->p->m, grad->rows));
    Status st = begin_unit(f, f->last - 1, grad, err);
    if (st == ST_OK)
        st = schedule_backward(f->r, &b, grad, err);
    end_unit(f);
    free(kept);
    return st;
}

/* ---- the pass ---- */

static Status begin(FisherPass *f, Error *err)
{
    const Model *m = f->p->m;
    const PassProbe at = probe(f->p);
    int64_t most = 0;
    RETURN_IF_ERROR(open_groups(f, err));
    if (f->first == f->last)
        return ST_OK;
    RETURN_IF_ERROR(check_gradients(f, err));
    RETURN_IF_ERROR(make_probe(f, err));
    RETURN_IF_ERROR(leveled_init_without_data(&f->set, f->r, f->p, err));
    for (int unit = 0; unit < m->nunits; unit++)
        most = max_i64(most, m->units[unit].count);
    f->forms = mem_zarray((size_t)f->set.n + 1, sizeof *f->forms);
    f->score = mem_zarray((size_t)most * (size_t)f->set.n + 1, sizeof *f->score);
    f->sums = mem_zarray((size_t)most * (size_t)f->set.n * (size_t)at.samples + 1, sizeof *f->sums);
    f->text = mem_zarray((size_t)at.samples + 1, sizeof *f->text);
    return f->forms && f->score && f->text && f->sums ? ST_OK : error_nomem(err, "the scores of an analysis");
}

static void end(FisherPass *f)
{
    for (int i = 0; i < f->nkept; i++)
        stream_fini(&f->kept[i]);
    runner_hold(f->r, 0);
    share_fini(&f->share);
    scores_fini(&f->ranges.found);
    leveled_fini(&f->set);
    free(f->kept);
    free(f->kept_at);
    free(f->start);
    free(f->ids);
    free(f->label);
    free(f->key);
    free(f->open);
    free(f->text);
    free(f->sums);
    free(f->forms);
    free(f->score);
}

static Status run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    FisherPass f = {.r = r, .p = p, .sink = sink, .known = p->before, .dist = dist_of(p)};
    Stream grad = {0};
    Status st = begin(&f, err);
    bool open = st == ST_OK && f.first < f.last;
    if (open)
        st = find_ranges(&f, err);
    bool rows = open && st == ST_OK && f.share.mine.start[f.share.mine.samples] > 0;
    for (int unit = f.last; open && st == ST_OK && !rows && unit > f.first; unit--)
        st = gather_nothing(&f, err);
    if (rows)
        st = run_forward(&f, &grad, err);
    if (rows && st == ST_OK)
        st = run_backward(&f, &grad, err);
    stream_fini(&grad);
    end(&f);
    return st;
}

/* Forms, kept streams, what a unit's pass hands over, and the loss. */
static uint64_t bytes(const PassPlan *p, int threads)
{
    const Model *m = p->m;
    int64_t rows = own_tokens(p);
    const PassProbe at = probe(p);
    const uint64_t sums = (uint64_t)model_most_linears(m) * (uint64_t)p->nlevels * (uint64_t)at.samples * sizeof(TextSums);
    uint64_t kept = (uint64_t)div_up(m->cfg.layers, kept_step(m, rows, m->cfg.layers, 0)) * stream_bytes(m, rows);
    return leveled_bytes(p, threads) + kept + sums + stream_bytes(m, rows) + (uint64_t)probe_tokens(p) * 16 +
           max_u64(errordots_bytes(m, rows, p->nlevels, threads), exit_gradient_bytes(m, rows, threads));
}

/* Of the way back, of the head, or of the float pass that finds the ranges. */
static uint64_t need(const PassPlan *p, int threads)
{
    const Model *m = p->m;
    int64_t rows = own_tokens(p), longest = min_i64(longest_of(p->tokens->start, p->tokens->samples), probe(p).rows);
    int step = kept_step(m, rows, m->cfg.layers, 0), n = (int)div_up(m->cfg.layers, step);
    int *at = mem_zarray((size_t)n + 1, sizeof *at);
    for (int i = 0; at && i < n; i++)
        at[i] = i * step;
    const Backward b = {.last = m->cfg.layers, .kept_at = at, .nkept = at ? n : 0};
    const RunnerAsk ask = {.rows = rows, .longest = longest, .threads = threads};
    uint64_t most = max_u64(schedule_backward_bytes(m, &b, rows, longest, threads), runner_estimate(m, &ask));
    free(at);
    for (int k = 0; k < p->nlevels; k++) {
        const QuantLevel l = quant_level(&p->levels[k]);
        most = range_needed(&l) ? max_u64(most, leveled_need(p, threads)) : most;
    }
    return most;
}

static const Metric *const reads[] = {&metric_fisher, &metric_input_range, NULL};
static const MetricPass pass_fisher = {.name = "fisher", .step = "layer", .reads = reads, .answered = answered, .steps = steps,
                                       .bytes = bytes, .need = need, .run = run, .divides = DIVIDES_ITSELF};

const Metric metric_fisher = {
    .name = "fisher",
    .title = "Fisher",
    .unit = "nats",
    .scope = SCOPE_GROUP,
    .family = FAMILY_DECIDE,
    .cost = "one pass forward and one back through the model over 1,024 tokens; a float pass over the calibration set before it "
            "where static levels have no ranges yet",
    .parts = fisher_parts,
    .direction = 1,
    .pass = &pass_fisher,
    .explain = "What quantizing a fused group alone loses in KL divergence, in first order: of the middle text half the mean of\n"
               "(g.dy)^2 over its tokens, dy the group's output error, g the gradient there of the likelihood of a token drawn\n"
               "from the model's own predictions. Unlike block_error it knows what later layers make of an error, the last layer's\n"
               "too, and adds up in nats; of very large errors it thinks too badly. alone, which computes the loss, is the check.",
};
