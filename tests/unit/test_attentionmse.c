/* attention_mse: the peer's recorded runs, a reference written out in double, every architecture, and the hook that it
 * replaces q, k and v by. */
#include <glob.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "io/json.h"
#include "metric/probe.h"
#include "model/block.h"
#include "quant/headquant.h"
#include "text/calib.h"

#include "tests/lib/bench.h"

#define GOLDEN "tests/golden/analysis/"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

/* ---- one analysis ---- */

typedef struct Run {
    TestRun b;
    TokenSet *t;
    UnitScore *unit; /* [model_depth], samples 0 and no reason: not told of */
} Run;

static void run_open(Run *u, const char *dir, ArithMode arith, int threads)
{
    *u = (Run){0};
    test_run_open(&u->b, dir, arith, threads, NULL);
    u->unit = mem_zarray((size_t)model_depth(u->b.m), sizeof *u->unit);
}

static void run_close(Run *u)
{
    free(u->unit);
    test_run_close(&u->b);
}

static Status on_step(void *ctx, const PassStep *step, Error *e)
{
    (void)e;
    Run *u = ctx;
    for (int64_t i = 0; i < step->nscore; i++)
        u->unit[step->score[i].s.unit] = step->score[i].s;
    return ST_OK;
}

static void analyze(Run *u, bool peer)
{
    const Metric *list[] = {&metric_attention_mse, NULL};
    int16_t *level = mem_zarray((size_t)u->b.m->nlinears, sizeof *level);
    PassPlan p = {.m = u->b.m, .pass = metric_attention_mse.pass, .metrics = list, .level = level, .tokens = u->t,
                  .peer = peer};
    ok(metric_attention_mse.pass->run(u->b.r, &p, &(PassSink){on_step, u}, &err));
    free(level);
}

/* ---- the peer's recorded runs ---- */

static void recorded(const char *run, double tol)
{
    char path[200], dir[200];
    Run u;
    CalibFile *c;
    Tokenizer *tok;
    cJSON *doc;
    snprintf(dir, sizeof dir, GOLDEN "_models/%s", run);
    snprintf(path, sizeof path, GOLDEN "%s.mse.json", run);
    run_open(&u, dir, ARITH_EXACT, 2);
    ok(calib_open(&c, GOLDEN "_models/calib5.jsonl", true, NULL, &err));
    ok(tokenizer_open(&tok, dir, &err));
    ok(tokens_make(&u.t, c, tok, 0, 0, u.b.m->cfg.vocab, NULL, &err));
    tokenizer_free(tok);
    calib_free(c);
    analyze(&u, true);
    ok(json_parse_file(path, 1 << 20, &doc, &err));
    const cJSON *list = json_get(doc, "layer_scores");
    int n = u.b.m->cfg.layers;
    double want[16], worst = 0;
    assert_int_equal(cJSON_GetArraySize(list), n);
    for (int i = 0; i < n; i++) {
        want[i] = json_get(cJSON_GetArrayItem(list, i), "score")->valuedouble;
        worst = fmax(worst, fabs(u.unit[i].value / want[i] - 1));
    }
    printf("# %-12s worst relative difference %.2e\n", run, worst);
    assert_true(worst <= tol);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            assert_true(want[i] <= want[j] || u.unit[i].value > u.unit[j].value);
    cJSON_Delete(doc);
    tokens_free(u.t);
    run_close(&u);
}

/* In 16 bits the peer's own program moves a score by 1.1e-2 when it computes with narrower vectors. */
static void recorded_runs(void **state)
{
    (void)state;
    recorded("llama-fp32", 1e-3);
    recorded("qwen3-fp32", 1e-3);
    recorded("qwen3-bf16", 1.5e-2);
}

/* ---- a reference: float inputs of each layer, everything behind q, k and v in double ---- */

/* What one float pass over a unit shows, [rows][width]. */
typedef struct Seen {
    int unit;
    float *x[3];
    int64_t width[3];
    const int64_t *start;
} Seen;

static bool seen_wants(void *self, Tap tap)
{
    const Seen *s = self;
    return tap.layer == s->unit && tap.kind >= TAP_Q && tap.kind <= TAP_V;
}

static Status seen_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *e)
{
    (void)e;
    Seen *s = self;
    s->start = start;
    s->width[tap.kind - TAP_Q] = width;
    s->x[tap.kind - TAP_Q] = mem_array((size_t)(start[samples] * width), sizeof(float));
    return ST_OK;
}

static void seen_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    const Seen *s = self;
    for (int64_t r = 0; r < rows; r++)
        memcpy(s->x[tap.kind - TAP_Q] + (s->start[sample] + row0 + r) * width, x + r * ld, (size_t)width * sizeof *x);
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* The scale of head h of one part over all texts: each text's shortest window, then the widest of all. */
static double head_scale(const Seen *s, int part, int64_t h, int64_t dim, const Stream *shape)
{
    double lo = INFINITY, hi = -INFINITY;
    for (int i = 0; i < shape->samples; i++) {
        int64_t rows = shape->start[i + 1] - shape->start[i], n = rows * dim, at = 0;
        float *all = mem_array((size_t)n, sizeof *all);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < dim; c++)
                all[r * dim + c] = s->x[part][(shape->start[i] + r) * s->width[part] + h * dim + c];
        qsort(all, (size_t)n, sizeof *all, by_value);
        int64_t in = part == 2 ? n : (int64_t)(0.9999 * (double)n);
        for (int64_t k = 1; k + in <= n; k++)
            if ((double)all[k + in - 1] - all[k] < (double)all[at + in - 1] - all[at])
                at = k;
        lo = fmin(lo, all[at]);
        hi = fmax(hi, all[at + in - 1]);
        free(all);
    }
    return fmax(fmax(-fmin(lo, 0), fmax(hi, 0)) / 127, 0x1p-23);
}

static double fake(double v, double scale)
{
    return fmin(fmax(nearbyint(v / scale), -128), 127) * scale;
}

/* How a layer attends: what scores are multiplied by, their cap and the window, 0: none. */
typedef struct How {
    double factor, cap;
    int64_t window;
} How;

/* Causal attention of one head's rows into out[rows][dv]; scale NULL: as they are. */
static void attend(const Seen *s, const Stream *shape, int i, const int64_t head[3], const int64_t dim[3], const How *how,
                   const double *scale, double *out)
{
    int64_t rows = shape->start[i + 1] - shape->start[i];
    double *p = mem_array((size_t)rows, sizeof *p);
#define AT(part, t, c)                                                                                                       \
    (scale ? fake(s->x[part][(shape->start[i] + (t)) * s->width[part] + head[part] * dim[part] + (c)], scale[part])         \
           : (double)s->x[part][(shape->start[i] + (t)) * s->width[part] + head[part] * dim[part] + (c)])
    for (int64_t t = 0; t < rows; t++) {
        double most = -INFINITY, sum = 0;
        int64_t first = how->window && t >= how->window ? t - how->window + 1 : 0;
        for (int64_t k = first; k <= t; k++) {
            p[k] = 0;
            for (int64_t c = 0; c < dim[0]; c++)
                p[k] += AT(0, t, c) * AT(1, k, c);
            p[k] *= how->factor;
            p[k] = how->cap > 0 ? how->cap * tanh(p[k] / how->cap) : p[k];
            most = fmax(most, p[k]);
        }
        for (int64_t k = first; k <= t; k++)
            sum += p[k] = exp(p[k] - most);
        for (int64_t c = 0; c < dim[2]; c++) {
            out[t * dim[2] + c] = 0;
            for (int64_t k = first; k <= t; k++)
                out[t * dim[2] + c] += p[k] / sum * AT(2, k, c);
        }
    }
#undef AT
    free(p);
}

/* o_proj of the unit's attention. */
static int64_t out_linear(const Unit *u)
{
    const Block *b = unit_block(u, ROLE_ATTENTION, 0);
    return b->linear[b->type == &block_mla ? (int)MLA_O : (int)GQA_O];
}

static double reference(Run *u, int unit, const Stream *in)
{
    const ModelConfig *c = u->b.m->units[unit].cfg;
    const Linear *o = &u->b.m->linears[out_linear(&u->b.m->units[unit])];
    static const ObserverOps ops = {.name = "seen", .wants_tap = seen_wants, .tap_begin = seen_begin, .tap_tile = seen_tile};
    Seen s = {.unit = unit};
    Observer obs = {&ops, &s};
    Stream out;
    ok(stream_copy(&out, in, &err));
    ok(runner_layer(u->b.r, unit, NULL, in, &out, &obs, 1, &err));
    stream_fini(&out);
    const int64_t dim[3] = {c->head_dim, c->head_dim, c->v_dim};
    const Block *b = unit_block(&u->b.m->units[unit], ROLE_ATTENTION, 0);
    const How how = {c->attn_scale, c->attn_softcap, b->type == &block_gqa ? ((const GqaConf *)b->conf)->window : 0};
    int64_t heads = s.width[0] / dim[0], kv = s.width[1] / dim[1];
    double *scale = mem_array((size_t)(3 * heads), sizeof *scale), mean = 0;
    float *w = mem_array((size_t)(o->out * o->in), sizeof *w);
    ok(runner_weight(u->b.r, out_linear(&u->b.m->units[unit]), -1, w, &err));
    for (int64_t h = 0; h < heads; h++)
        for (int part = 0; part < 3; part++)
            scale[h * 3 + part] = head_scale(&s, part, part ? h * kv / heads : h, dim[part], in);
    for (int i = 0; i < in->samples; i++) {
        int64_t rows = in->start[i + 1] - in->start[i];
        double *d = mem_zarray((size_t)(rows * o->in), sizeof *d), *a = mem_array((size_t)(rows * dim[2]), sizeof *a), sum = 0;
        for (int64_t h = 0; h < heads; h++)
            for (int quant = 0; quant < 2; quant++) {
                attend(&s, in, i, (const int64_t[]){h, h * kv / heads, h * kv / heads}, dim, &how,
                       quant ? &scale[h * 3] : NULL, a);
                for (int64_t t = 0; t < rows; t++)
                    for (int64_t k = 0; k < dim[2]; k++)
                        d[t * o->in + h * dim[2] + k] += (quant ? 1 : -1) * a[t * dim[2] + k];
            }
        for (int64_t t = 0; t < rows; t++)
            for (int64_t r = 0; r < o->out; r++) {
                double y = 0;
                for (int64_t k = 0; k < o->in; k++)
                    y += (double)w[r * o->in + k] * d[t * o->in + k];
                sum += y * y;
            }
        mean += sum / (double)(rows * o->out) / in->samples;
        free(d);
        free(a);
    }
    free(scale);
    free(w);
    for (int part = 0; part < 3; part++)
        free(s.x[part]);
    return mean;
}

static void each_layer_starts_from_float(void **state)
{
    (void)state;
    static const char *const models[] = {"llama",  "qwen2",   "qwen3_moe",   "phi3",       "gemma2",
                                         "gemma3", "mistral", "deepseek_v2", "deepseek_v3"};
    static const int lengths[] = {37, 1, 21, 60};
    for (size_t k = 0; k < sizeof models / sizeof models[0]; k++) {
        char dir[200];
        Run u;
        Stream h;
        double worst = 0;
        snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", models[k]);
        run_open(&u, dir, ARITH_FP32, 2);
        u.t = test_tokens(lengths, 4, u.b.m->cfg.vocab, 11);
        analyze(&u, false);
        ok(runner_embed(u.b.r, u.t, &h, &err));
        for (int l = 0; l < u.b.m->cfg.layers; l++) {
            worst = fmax(worst, fabs(u.unit[l].value / reference(&u, l, &h) - 1));
            ok(runner_layer(u.b.r, l, NULL, &h, &h, NULL, 0, &err));
        }
        printf("# %-12s worst relative difference %.2e\n", models[k], worst);
        assert_true(worst < 1e-3);
        stream_fini(&h);
        test_tokens_free(u.t);
        run_close(&u);
    }
}

/* ---- every architecture ---- */

static bool has_scores(const Unit *u)
{
    for (int nth = 0; unit_block(u, ROLE_ATTENTION, nth); nth++)
        if (unit_block(u, ROLE_ATTENTION, nth)->type->scores)
            return true;
    return false;
}

static void every_architecture_has_scores(void **state)
{
    (void)state;
    static const int lengths[] = {50, 3};
    glob_t found;
    int absent = 0;
    assert_int_equal(glob("tests/golden/models/*/fp32", 0, NULL, &found), 0);
    for (size_t k = 0; k < found.gl_pathc; k++) {
        Run a, b;
        run_open(&a, found.gl_pathv[k], ARITH_FP32, 1);
        run_open(&b, found.gl_pathv[k], ARITH_FP32, 2);
        a.t = b.t = test_tokens(lengths, 2, a.b.m->cfg.vocab, 11);
        analyze(&a, false);
        analyze(&b, false);
        for (int l = 0; l < a.b.m->cfg.layers; l++) {
            const UnitScore *u = &a.unit[l];
            assert_int_equal(u->absent, !has_scores(&a.b.m->units[l]));
            assert_true(u->absent ? strstr(u->why, "not applicable") != NULL : u->value > 0 && u->samples == 2);
            assert_true(u->absent || u->value == b.unit[l].value); /* whatever the number of threads */
            assert_true(u->absent || u->part[SAMPLE_SHARE] > 0); /* of the sample that weighs most */
            absent += u->absent;
        }
        test_tokens_free(a.t);
        run_close(&a);
        run_close(&b);
    }
    assert_true(found.gl_pathc > 15 && absent > 0);
    globfree(&found);
}

/* ---- the hook ---- */

static void leave(void *self, int64_t linear, int part, float *x, int64_t rows, int64_t ld)
{
    (void)linear, (void)x, (void)rows, (void)ld;
    assert_in_range(part, 0, 2);
    ++*(atomic_int *)self;
}

static void clear_values(void *self, int64_t linear, int part, float *x, int64_t rows, int64_t ld)
{
    (void)linear;
    for (int64_t r = 0; part == 2 && r < rows; r++)
        memset(x + r * ld, 0, (size_t)*(const int64_t *)self * sizeof *x);
}

static bool wants_output(void *self, Tap tap)
{
    return tap.layer == 0 && tap.kind == TAP_ATTN && self;
}

static void largest(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    (void)tap, (void)sample, (void)row0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width; c++)
            *(float *)self = fmaxf(*(float *)self, fabsf(x[r * ld + c]));
}

static void attention_reads_what_the_form_leaves(void **state)
{
    (void)state;
    static const char *const models[] = {"llama", "phi3", "deepseek_v3", "deepseek_v4", "longcat_flash", "qwen3_next"};
    static const int lengths[] = {30};
    for (size_t k = 0; k < sizeof models / sizeof models[0]; k++) {
        char dir[200];
        TestRun b;
        snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", models[k]);
        test_run_open(&b, dir, ARITH_FP32, 1, NULL);
        TokenSet *t = test_tokens(lengths, 1, b.m->cfg.vocab, 2);
        for (int l = 0; l < b.m->cfg.layers; l++) {
            Stream h, plain, same;
            atomic_int calls = 0;
            AttnForm form = {.replace = leave, .self = &calls};
            Variant v = {.attn = &form};
            ok(runner_embed(b.r, t, &h, &err));
            ok(stream_copy(&plain, &h, &err));
            ok(stream_copy(&same, &h, &err));
            ok(runner_layer(b.r, l, NULL, &h, &plain, NULL, 0, &err));
            ok(runner_layer(b.r, l, &v, &h, &same, NULL, 0, &err));
            assert_int_equal(calls > 0, has_scores(&b.m->units[l]));
            assert_memory_equal(plain.data, same.data, (size_t)(h.rows * h.width) * sizeof *h.data);
            stream_fini(&h);
            stream_fini(&plain);
            stream_fini(&same);
        }
        if (strcmp(models[k], "llama") == 0) { /* sums of nothing */
            Stream h;
            float most = 0;
            int64_t width = (int64_t)b.m->cfg.kv_heads * b.m->cfg.v_dim;
            static const ObserverOps ops = {.name = "largest", .wants_tap = wants_output, .tap_tile = largest};
            Observer obs = {&ops, &most};
            AttnForm form = {.replace = clear_values, .self = &width};
            ok(runner_embed(b.r, t, &h, &err));
            ok(runner_layer(b.r, 0, &(Variant){.attn = &form}, &h, &h, &obs, 1, &err));
            assert_true(most == 0);
            stream_fini(&h);
        }
        test_tokens_free(t);
        test_run_close(&b);
    }
}

/* ---- the window ---- */

static void windows_are_the_shortest(void **state)
{
    (void)state;
    static const double ratios[] = {1, 0.9999, 0.9, 0.5, 0.001};
    Rng rng = rng_of(5, 0);
    for (int n = 1; n < 400; n += n < 10 ? 1 : 37)
        for (int k = 0; k < 5; k++) {
            float x[400], sorted[400], lo, hi;
            for (int i = 0; i < n; i++)
                x[i] = sorted[i] = (float)((int)(rng_below(&rng, 41)) - 20) * (i % 7 ? 0.25f : 3); /* with ties */
            qsort(sorted, (size_t)n, sizeof *sorted, by_value);
            int64_t in = (int64_t)(ratios[k] * n) < 1 ? 1 : (int64_t)(ratios[k] * n), at = 0;
            for (int64_t i = 1; i + in <= n; i++)
                if (sorted[i + in - 1] - sorted[i] < sorted[at + in - 1] - sorted[at])
                    at = i;
            assert_true(head_window(x, n, 1, 1, ratios[k], &lo, &hi));
            assert_true(lo == sorted[at] && hi == sorted[at + in - 1]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_runs),
        cmocka_unit_test(each_layer_starts_from_float),
        cmocka_unit_test(every_architecture_has_scores),
        cmocka_unit_test(attention_reads_what_the_form_leaves),
        cmocka_unit_test(windows_are_the_shortest),
    };
    return cmocka_run_group_tests_name("attentionmse", tests, NULL, NULL);
}
