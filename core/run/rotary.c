#include "run/rotary.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"

static const double pi = 3.14159265358979323846;

/* Which frequency set a sample of `len` tokens uses: some scalings depend on its length. */
static int64_t rope_key(const ModelConfig *cfg, const RopeParams *p, int64_t len)
{
    switch (p->type) {
    case ROPE_DYNAMIC:
        return len > cfg->max_positions ? len : 0;
    case ROPE_LONGROPE:
        return len > p->original_max;
    default:
        return 0;
    }
}

bool rope_same(const ModelConfig *cfg, const RopeParams *p, int64_t a, int64_t b)
{
    return rope_key(cfg, p, a) == rope_key(cfg, p, b);
}

/* theta^(2j/d) in float32: of what the inverse frequencies are made, by one division each as Hugging Face makes them. */
static float power_of(double theta, int j, int d)
{
    return (float)pow((double)(float)theta, (double)((float)(2 * j) / (float)d));
}

static void llama3_freq(const RopeParams *p, float *inv)
{
    float orig = (float)p->original_max, factor = (float)p->factor;
    float low = (float)p->low_freq_factor, high = (float)p->high_freq_factor;
    for (int j = 0; j < p->dim / 2; j++) {
        float f = inv[j], wave = (float)(2 * pi) / f;
        if (wave > orig / low) {
            inv[j] = f / factor;
        } else if (wave >= orig / high) {
            float smooth = (orig / wave - low) / (high - low);
            inv[j] = (1 - smooth) * f / factor + smooth * f;
        }
    }
}

static double yarn_dim(const RopeParams *p, double turns)
{
    return p->dim * log((double)p->original_max / (turns * 2 * pi)) / (2 * log(p->theta));
}

static void yarn_freq(const RopeParams *p, float *inv)
{
    double lo = yarn_dim(p, p->beta_fast), hi = yarn_dim(p, p->beta_slow);
    if (p->truncate) {
        lo = floor(lo);
        hi = ceil(hi);
    }
    lo = fmax(lo, 0);
    hi = fmin(hi, p->dim - 1);
    if (lo == hi)
        hi += 0.001;
    for (int j = 0; j < p->dim / 2; j++) {
        float ramp = ((float)j - (float)lo) / (float)(hi - lo), power = power_of(p->theta, j, p->dim);
        float keep = 1 - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);
        inv[j] = 1 / ((float)p->factor * power) * (1 - keep) + 1 / power * keep;
    }
}

static double yarn_gain(double factor, double m)
{
    return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

static double attention_factor(const ModelConfig *cfg, const RopeParams *p)
{
    if (p->type == ROPE_YARN) {
        if (p->has_attention_factor)
            return p->attention_factor;
        if (p->mscale != 0 && p->mscale_all_dim != 0)
            return yarn_gain(p->factor, p->mscale) / yarn_gain(p->factor, p->mscale_all_dim);
        return yarn_gain(p->factor, 1);
    }
    if (p->type == ROPE_LONGROPE) {
        if (p->has_attention_factor)
            return p->attention_factor;
        double f = p->factor > 0 ? p->factor : (double)cfg->max_positions / (double)p->original_max;
        return f <= 1 ? 1 : sqrt(1 + log(f) / log((double)p->original_max));
    }
    return 1;
}

/* theta for a sample that is longer than the model was trained for, in float32 from the length on. */
static double dynamic_theta(const ModelConfig *cfg, const RopeParams *p, int64_t len)
{
    float ratio = (float)p->factor * (float)len / (float)cfg->max_positions - (float)(p->factor - 1);
    float growth = (float)pow((double)ratio, (double)(float)((double)p->dim / (p->dim - 2)));
    return (double)((float)p->theta * growth);
}

static void frequencies(const ModelConfig *cfg, const RopeParams *p, int64_t key, float *inv)
{
    double theta = p->type == ROPE_DYNAMIC && key ? dynamic_theta(cfg, p, key) : p->theta;
    const double *stretch = p->type == ROPE_LONGROPE ? key ? p->long_factor : p->short_factor : NULL;
    for (int j = 0; j < p->dim / 2; j++)
        inv[j] = 1 / ((stretch ? (float)stretch[j] : 1) * power_of(theta, j, p->dim));
    if (p->type == ROPE_LINEAR)
        for (int j = 0; j < p->dim / 2; j++)
            inv[j] /= (float)p->factor;
    else if (p->type == ROPE_LLAMA3)
        llama3_freq(p, inv);
    else if (p->type == ROPE_YARN)
        yarn_freq(p, inv);
}

static RopeTable *find(const RopeSet *set, const RopeParams *p, int64_t key)
{
    for (size_t i = 0; i < set->n; i++)
        if (set->t[i].key == key && set->t[i].of == p)
            return &set->t[i];
    return NULL;
}

const RopeTable *rope_table(const RopeSet *set, const ModelConfig *cfg, const RopeParams *p, int64_t len)
{
    return find(set, p, rope_key(cfg, p, len));
}

static Status fill_table(RopeTable *t, const ModelConfig *cfg, const Ops *ops, int64_t rows, Error *err)
{
    const RopeParams *p = t->of;
    int64_t half = p->dim / 2;
    float *inv = mem_array((size_t)half, sizeof *inv);
    float *c = mem_aligned((size_t)(rows * half), sizeof *c), *s = mem_aligned((size_t)(rows * half), sizeof *s);
    if (!inv || !c || !s) {
        free(inv);
        free(c);
        free(s);
        return error_nomem(err, "position tables");
    }
    float af = (float)attention_factor(cfg, p);
    frequencies(cfg, p, t->key, inv);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < half; j++) {
            double angle = (double)((float)i * inv[j]);
            c[i * half + j] = (float)cos(angle) * af;
            s[i * half + j] = (float)sin(angle) * af;
        }
    if (!ops->rope_fp32) {
        ops_round(ops, c, rows * half);
        ops_round(ops, s, rows * half);
    }
    free(inv);
    free(t->cos);
    free(t->sin);
    t->cos = c;
    t->sin = s;
    t->rows = rows;
    t->half = half;
    return ST_OK;
}

Status rope_reserve(RopeSet *set, const ModelConfig *cfg, const RopeParams *p, const Ops *ops, int64_t len, Error *err)
{
    int64_t key = rope_key(cfg, p, len);
    RopeTable *t = find(set, p, key);
    if (t && t->rows >= len)
        return ST_OK;
    if (!t) {
        if (!mem_grow(&set->t, &set->cap, set->n + 1, sizeof *set->t))
            return error_nomem(err, "position tables");
        t = &set->t[set->n++];
        *t = (RopeTable){.key = key, .of = p};
    }
    return fill_table(t, cfg, ops, max_i64(len, t->rows + t->rows / 4), err); /* texts that grow token by token: not each time */
}

void rope_fini(RopeSet *set)
{
    for (size_t i = 0; i < set->n; i++) {
        free(set->t[i].cos);
        free(set->t[i].sin);
    }
    free(set->t);
    *set = (RopeSet){0};
}
