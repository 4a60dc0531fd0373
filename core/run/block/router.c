#include "run/block/router.h"

#include <math.h>
#include <string.h>

int router_choices(const MoeConfig *c)
{
    return c->experts + c->zero;
}

size_t router_scratch_floats(const MoeConfig *c)
{
    return 3 * (size_t)router_choices(c) + (size_t)c->groups;
}

/* Indices of the k greatest of n, greatest first. taken [n] is overwritten. */
static void greatest(const float *x, int n, int k, unsigned char *taken, int32_t *idx)
{
    memset(taken, 0, (size_t)n);
    for (int j = 0; j < k; j++) {
        int best = -1;
        for (int i = 0; i < n; i++)
            if (!taken[i] && (best < 0 || x[i] > x[best]))
                best = i;
        taken[best] = 1;
        idx[j] = best;
    }
}

static float group_score(GroupScore kind, const float *x, int n)
{
    float first = -INFINITY, second = -INFINITY;
    for (int i = 0; i < n; i++) {
        if (x[i] > first) {
            second = first;
            first = x[i];
        } else if (x[i] > second) {
            second = x[i];
        }
    }
    return kind == GROUP_MAX ? first : first + second;
}

/* Puts the experts of groups that are not chosen out of the running. */
static void limit_groups(const MoeRule *rule, const MoeConfig *c, float *choice, float *group, unsigned char *taken)
{
    int size = c->experts / c->groups;
    for (int g = 0; g < c->groups; g++)
        group[g] = group_score(rule->group, choice + g * size, size);
    memset(taken, 0, (size_t)c->groups);
    for (int j = 0; j < c->top_groups; j++) {
        int best = -1;
        for (int g = 0; g < c->groups; g++)
            if (!taken[g] && (best < 0 || group[g] > group[best]))
                best = g;
        taken[best] = 1;
    }
    for (int e = 0; e < c->experts; e++)
        if (!taken[e / size])
            choice[e] = rule->group == GROUP_MAX ? 0 : -INFINITY;
}

static void sort_by_index(int32_t *idx, float *w, int n)
{
    for (int i = 1; i < n; i++) {
        int32_t e = idx[i];
        float v = w[i];
        int j = i;
        for (; j > 0 && idx[j - 1] > e; j--) {
            idx[j] = idx[j - 1];
            w[j] = w[j - 1];
        }
        idx[j] = e;
        w[j] = v;
    }
}

/* What an expert is chosen for, before any bias. */
static void scores_of(const MoeRule *rule, const Ops *ops, const float *logits, int n, float *score)
{
    memcpy(score, logits, (size_t)n * sizeof *score);
    switch (rule->score) {
    case SCORE_SOFTMAX:
        ops->f->softmax(score, n);
        break;
    case SCORE_SIGMOID:
        for (int i = 0; i < n; i++)
            score[i] = 1.0f / (1.0f + expf(-score[i]));
        break;
    case SCORE_SQRT_SOFTPLUS:
        for (int i = 0; i < n; i++)
            score[i] = score[i] > 20.0f ? score[i] : log1pf(expf(score[i]));
        ops_round(ops, score, n);
        for (int i = 0; i < n; i++)
            score[i] = sqrtf(score[i]);
        ops_round(ops, score, n);
        break;
    case SCORE_TOP_SOFTMAX:
        break;
    }
}

static void round_step(const MoeRule *rule, const Ops *ops, float *x, int n)
{
    if (rule->round_steps)
        ops_round(ops, x, n);
}

/* Weights of the chosen experts from their scores, sorted by index. */
static void weigh(const MoeRule *rule, const MoeConfig *c, const Ops *ops, const float *score, int32_t *idx, float *w)
{
    float sum = 0;
    for (int j = 0; j < c->top_k; j++) {
        w[j] = score[idx[j]];
        sum += w[j];
    }
    if (rule->score == SCORE_TOP_SOFTMAX)
        ops->f->softmax(w, c->top_k);
    if (c->renorm) {
        round_step(rule, ops, &sum, 1);
        sum += (float)rule->renorm_eps;
        round_step(rule, ops, &sum, 1);
        for (int j = 0; j < c->top_k; j++)
            w[j] /= sum;
        round_step(rule, ops, w, c->top_k);
    }
    for (int j = 0; j < c->top_k && rule->scaled; j++)
        w[j] *= (float)c->scale;
    if (rule->round_weights)
        ops_round(ops, w, c->top_k);
    sort_by_index(idx, w, c->top_k);
}

void router_choose(const MoeRule *rule, const MoeConfig *c, const Ops *ops, const float *logits, const float *bias,
                   float *scratch, int32_t *idx, float *w)
{
    int n = router_choices(c);
    float *score = scratch, *choice = scratch + n, *group = choice + n;
    unsigned char *taken = (unsigned char *)(group + c->groups); /* experts and groups: at most n bytes */
    scores_of(rule, ops, logits, n, score);
    for (int i = 0; i < n; i++)
        choice[i] = bias ? score[i] + bias[i] : score[i];
    if (c->groups > 1)
        limit_groups(rule, c, choice, group, taken);
    greatest(choice, n, c->top_k, taken, idx);
    weigh(rule, c, ops, score, idx, w);
}

void router_weigh(const MoeRule *rule, const MoeConfig *c, const Ops *ops, const float *logits, float *scratch,
                  int32_t *idx, float *w)
{
    scores_of(rule, ops, logits, router_choices(c), scratch);
    weigh(rule, c, ops, scratch, idx, w);
}

void router_back(const MoeRule *rule, const MoeConfig *c, const Ops *ops, float *logits, const int32_t *idx, const float *dw,
                 float *scratch)
{
    int n = router_choices(c), k = c->top_k;
    float *score = scratch, *d = scratch + n, *w = d + n;
    double sum = 0, along = 0;
    scores_of(rule, ops, logits, n, score);
    for (int j = 0; j < k; j++) {
        w[j] = score[idx[j]];
        sum += (double)w[j];
    }
    if (rule->score == SCORE_TOP_SOFTMAX)
        ops->f->softmax(w, k);
    bool top = rule->score == SCORE_TOP_SOFTMAX, renorm = c->renorm && !top;
    sum = renorm ? sum + (double)(float)rule->renorm_eps : 1;
    for (int j = 0; j < k; j++)
        along += top || renorm ? (double)w[j] / sum * (double)dw[j] : 0;
    memset(d, 0, (size_t)n * sizeof *d);
    for (int j = 0; j < k; j++) {
        double of = ((double)dw[j] - along) / sum * (rule->scaled ? (double)(float)c->scale : 1);
        d[idx[j]] = (float)(top ? (double)w[j] * of : of);
    }
    along = 0;
    for (int i = 0; i < n && rule->score == SCORE_SOFTMAX; i++)
        along += (double)score[i] * (double)d[i];
    for (int i = 0; i < n; i++) {
        double s = (double)score[i], g = (double)d[i], l = (double)logits[i];
        logits[i] = (float)(top ? g
                            : rule->score == SCORE_SOFTMAX ? s * (g - along)
                            : rule->score == SCORE_SIGMOID ? g * s * (1 - s)
                            : g == 0 ? 0 : g / (2 * s * (1 + exp(-l))));
    }
}
