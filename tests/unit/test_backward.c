/* The order in which a backward schedule walks, with gradients that only count: blocks of this file's table take them
 * times two and add the state they are given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define block_table table_of_the_build
#include "core/registry.c"
#undef block_table

#include "run/lineargrad.h"
#include "run/schedule.h"

#include "tests/lib/bench.h"
#include "tests/lib/random_model.h"

/* ---- blocks that count ---- */

typedef struct Visit {
    int unit;
    const Block *block;
} Visit;

static Visit visits[64];
static int nvisits;

static Status count_backward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    LinearGrad g = {.linear = b->lin[0].index, .form = b->lin[0].form, .row0 = ps->row0, .rows = ps->rows};
    const GradHooks *h = ps->grad->hooks;
    if (h)
        RETURN_IF_ERROR(h->linear(h->self, &g, err));
    if (ps->row0 == 0)
        visits[nvisits++] = (Visit){ps->layer, b->b};
    for (int64_t i = 0; i < ps->rows * ps->out->width; i++)
        buf->out[i] = 2 * buf->out[i] + buf->in[i];
    return ST_OK;
}

static BlockOps counting_gqa, counting_dense, counting_moe;
const BlockKind block_table[] = {
    {&block_gqa, &counting_gqa},
    {&block_dense, &counting_dense},
    {&block_moe, &counting_moe},
    {&block_residual, &residual_ops},
    {&block_mla, &mla_ops},
    {NULL, NULL},
};

static int count_blocks(void **state)
{
    (void)state;
    counting_gqa = gqa_ops;
    counting_dense = dense_ops;
    counting_moe = moe_ops;
    counting_gqa.backward = counting_dense.backward = counting_moe.backward = count_backward;
    counting_gqa.backward_need = gqa_ops.need;
    counting_dense.backward_need = dense_ops.need;
    counting_moe.backward_need = moe_ops.need;
    return 0;
}

/* ---- against the walk by hand ---- */

static const RandomShape dense = {"qwen3", 6, 4, 2, 16, 40, 72, 130, 0, DT_BF16, 4};

typedef struct Line {
    TestRun b;
    char dir[64];
    TokenSet *t;
    int units;
    Stream input[9];  /* of every unit, and behind the last */
} Line;

static void line_open(Line *l, const char *model)
{
    l->dir[0] = 0;
    if (!model)
        random_model_write(&dense, l->dir);
    test_run_open(&l->b, model ? model : l->dir, ARITH_FP32, 2, NULL);
    l->t = test_tokens((int[]){700, 3, 520}, 3, l->b.m->cfg.vocab, 12);
    l->units = l->b.m->cfg.layers;
    assert_int_equal(runner_embed(l->b.r, l->t, &l->input[0], NULL), ST_OK);
    for (int u = 0; u < l->units; u++) {
        assert_int_equal(stream_copy(&l->input[u + 1], &l->input[u], NULL), ST_OK);
        assert_int_equal(runner_layer(l->b.r, u, NULL, &l->input[u], &l->input[u + 1], NULL, 0, NULL), ST_OK);
    }
    nvisits = 0;
}

static void line_close(Line *l)
{
    for (int u = 0; u <= l->units; u++)
        stream_fini(&l->input[u]);
    test_tokens_free(l->t);
    test_run_close(&l->b);
    if (l->dir[0])
        random_model_remove(l->dir);
}

/* What the counting blocks make of a gradient on the way from `last` down to `first`. */
static void by_hand(Line *l, int first, int last, Stream *grad)
{
    for (int u = last - 1; u >= first; u--)
        for (int i = l->b.m->units[u].nblocks - 1; i >= 0; i--) {
            Stream state;
            assert_int_equal(stream_copy(&state, &l->input[u], NULL), ST_OK);
            if (i > 0)
                assert_int_equal(unit_forward(l->b.r, u, 0, i, NULL, &l->input[u], &state, NULL, 0, NULL), ST_OK);
            for (int64_t k = 0; k < grad->rows * grad->width; k++)
                grad->data[k] = 2 * grad->data[k] + state.data[k];
            stream_fini(&state);
        }
}

typedef struct Told {
    const Line *l;
    int next;
} Told;

static Status unit_told(void *ctx, int unit, const Stream *in, const Stream *grad, Error *err)
{
    (void)err;
    Told *t = ctx;
    assert_int_equal(unit, t->next--);
    assert_memory_equal(in->data, t->l->input[unit].data, (size_t)(in->rows * in->width) * sizeof *in->data);
    assert_int_equal(grad->rows, in->rows);
    return ST_OK;
}

/* kept: units whose inputs are there, as bits. */
static void check_walk(Line *l, unsigned kept, int first, int last)
{
    const Stream *streams[8];
    int at[8], n = 0, blocks = 0;
    for (int u = 0; u < l->units; u++)
        if (kept >> u & 1) {
            streams[n] = &l->input[u];
            at[n++] = u;
        }
    Stream grad, want;
    Error e = {0};
    assert_int_equal(stream_copy(&grad, &l->input[0], NULL), ST_OK);
    assert_int_equal(stream_copy(&want, &l->input[0], NULL), ST_OK);
    Told told = {l, last - 1};
    Backward b = {.first = first, .last = last, .kept = streams, .kept_at = at, .nkept = n, .unit_done = unit_told,
                  .ctx = &told};
    nvisits = 0;
    if (schedule_backward(l->b.r, &b, &grad, &e) != ST_OK)
        fail_msg("%s", e.text);
    by_hand(l, first, last, &want);
    assert_memory_equal(grad.data, want.data, (size_t)(grad.rows * grad.width) * sizeof *grad.data);
    for (int u = last - 1; u >= first; u--)
        for (int i = l->b.m->units[u].nblocks - 1; i >= 0; i--, blocks++) {
            assert_int_equal(visits[blocks].unit, u);
            assert_ptr_equal(visits[blocks].block, &l->b.m->units[u].block[i]);
        }
    assert_int_equal(nvisits, blocks);
    assert_int_equal(told.next, first - 1);
    stream_fini(&grad);
    stream_fini(&want);
}

static void gradients_walk_down_from_kept_streams(void **state)
{
    (void)state;
    Line l;
    line_open(&l, NULL);
    assert_true(l.b.m->units[0].nblocks == 2);
    check_walk(&l, 1, 0, 6);      /* all of it from the embedding */
    check_walk(&l, 1 | 8, 0, 6);  /* two segments */
    check_walk(&l, 1 | 8, 1, 5);  /* neither end at a kept stream */
    check_walk(&l, 63, 2, 4);     /* everything is there */
    check_walk(&l, 1 | 16, 0, 3); /* nothing of the last is wanted */
    check_walk(&l, 1 | 4, 4, 5);  /* and nothing of the first */
    line_close(&l);
}

/* What the blocks tell hooks of. */
typedef struct Heard {
    int64_t linear[8], rows;
    const LinearForm *form[8];
    int n;
} Heard;

static Status hear(void *self, const LinearGrad *g, Error *err)
{
    (void)err;
    Heard *h = self;
    if (g->row0 == 0)
        h->rows = 0;
    assert_int_equal(g->row0, h->rows);
    h->rows += g->rows;
    h->linear[h->n % 8] = g->linear;
    h->form[h->n++ % 8] = g->form;
    return ST_OK;
}

static void hooks_and_forms_reach_the_blocks(void **state)
{
    (void)state;
    Line l;
    line_open(&l, NULL);
    Heard h = {.n = 0};
    const GradHooks hooks = {hear, &h};
    const Unit *u = &l.b.m->units[1];
    const LinearForm form = {.self = &h};
    const LinearForm *forms[16] = {NULL};
    const Variant v = {.forms = forms};
    Stream grad;
    forms[u->block[0].linear[0] - u->first] = &form;
    assert_int_equal(stream_copy(&grad, &l.input[0], NULL), ST_OK);
    assert_int_equal(unit_backward(l.b.r, 1, &v, &l.input[1], &grad, &hooks, NULL), ST_OK);
    assert_int_equal(h.n, 2); /* feed-forward, then attention */
    assert_int_equal(h.rows, grad.rows);
    assert_int_equal(h.linear[0], u->block[1].linear[0]);
    assert_int_equal(h.linear[1], u->block[0].linear[0]);
    assert_null(h.form[0]);
    assert_ptr_equal(h.form[1], &form);
    const Stream *kept[] = {&l.input[0]};
    Backward b = {.first = 1, .last = 3, .kept = kept, .kept_at = (int[]){0}, .nkept = 1, .hooks = &hooks};
    h.n = 0;
    assert_int_equal(schedule_backward(l.b.r, &b, &grad, NULL), ST_OK);
    assert_int_equal(h.n, 4);
    assert_int_equal(h.linear[3], u->block[0].linear[0]);
    assert_null(h.form[3]);
    stream_fini(&grad);
    line_close(&l);
}

static void blocks_that_see_all_rows_come_in_their_place(void **state)
{
    (void)state;
    Line l;
    line_open(&l, "tests/golden/models/qwen3_moe/fp32");
    check_walk(&l, 1, 0, l.units);
    line_close(&l);
}

static void a_segment_is_computed_once(void **state)
{
    (void)state;
    Line l;
    line_open(&l, NULL);
    Stream grad;
    uint64_t read[2], bytes[2];
    for (int k = 0; k < 2; k++) { /* with one kept stream, and with all of them */
        const Stream *streams[6];
        int at[6], n = k ? 6 : 1;
        for (int u = 0; u < n; u++) {
            streams[u] = &l.input[u];
            at[u] = u;
        }
        Backward b = {.first = 0, .last = 6, .kept = streams, .kept_at = at, .nkept = n};
        assert_int_equal(stream_copy(&grad, &l.input[0], NULL), ST_OK);
        read[k] = checkpoint_bytes_read(l.b.m->ckpt);
        assert_int_equal(schedule_backward(l.b.r, &b, &grad, NULL), ST_OK);
        read[k] = checkpoint_bytes_read(l.b.m->ckpt) - read[k];
        bytes[k] = schedule_backward_bytes(l.b.m, &b, grad.rows, 700, 2);
        stream_fini(&grad);
    }
    assert_int_equal(bytes[0] - bytes[1], 5 * (l.input[0].rows * (l.input[0].width + 1)) * 4); /* the inputs it holds */
    Stream h;
    uint64_t units = checkpoint_bytes_read(l.b.m->ckpt);
    assert_int_equal(stream_copy(&h, &l.input[0], NULL), ST_OK);
    for (int u = 0; u < 5; u++)
        assert_int_equal(runner_layer(l.b.r, u, NULL, &h, &h, NULL, 0, NULL), ST_OK);
    units = checkpoint_bytes_read(l.b.m->ckpt) - units;
    stream_fini(&h);
    assert_in_range(read[0] - read[1], units / 2, units * 3 / 2); /* units 0 to 4 once more, not once for each of them */
    line_close(&l);
}

/* ---- what is refused ---- */

static int refused_work;

static Status refuse(void *ctx, int unit, const Stream *in, const Stream *grad, Error *err)
{
    (void)ctx, (void)unit, (void)in, (void)grad, (void)err;
    refused_work++;
    return ST_OK;
}

static void a_block_without_gradients_is_named_before_any_work(void **state)
{
    (void)state;
    Error e = {0};
    Line l;
    line_open(&l, NULL);
    Stream grad;
    assert_int_equal(stream_copy(&grad, &l.input[0], NULL), ST_OK);
    const Stream *kept[] = {&l.input[0]};
    Backward b = {.first = 0, .last = 6, .kept = kept, .kept_at = (int[]){0}, .nkept = 1, .unit_done = refuse};
    counting_dense.backward = NULL;
    uint64_t read = checkpoint_bytes_read(l.b.m->ckpt);
    assert_int_equal(schedule_backward(l.b.r, &b, &grad, &e), ST_USAGE);
    assert_string_equal(e.text, "no gradients through dense yet (layer 0)");
    counting_dense.backward = count_backward;
    assert_true(read == checkpoint_bytes_read(l.b.m->ckpt) && refused_work == 0 && nvisits == 0);
    b.kept_at = (int[]){1};
    assert_int_equal(schedule_backward(l.b.r, &b, &grad, &e), ST_INTERNAL); /* unit 0's input is nowhere */
    stream_fini(&grad);
    line_close(&l);
    TestRun other;
    test_run_open(&other, "tests/golden/models/deepseek_v4/fp32", ARITH_FP32, 1, NULL);
    assert_int_equal(unit_has_gradients(other.m, 0, &e), ST_USAGE);
    assert_string_equal(e.text, "no gradients through compressed yet (layer 0)");
    test_run_close(&other);
}

/* Which of the build's own blocks have gradients: each is held against differences in test_gradient.c. */
static void kinds_with_gradients_have_both_halves(void **state)
{
    (void)state;
    static const char *const with[] = {"gqa", "mla", "delta", "compressed", "dense", "moe", "mtp", "residual", "hyper"};
    size_t n = 0;
    for (const BlockKind *k = table_of_the_build; k->type; k++) {
        bool join = k->type->role == ROLE_JOIN, has = join ? k->ops->write_back != NULL : k->ops->backward != NULL, said = false;
        assert_true(join ? has == (k->ops->read_back != NULL) : has == (k->ops->backward_need != NULL));
        for (size_t i = 0; i < sizeof with / sizeof *with; i++)
            said = said || strcmp(k->type->name, with[i]) == 0;
        if (has != said)
            fail_msg("%s: test its gradients, and say here that they are there", k->type->name);
        n += has;
    }
    assert_int_equal(n, sizeof with / sizeof *with);
}

/* ---- parts of a unit ---- */

typedef struct Parts {
    int units;
    Stream whole;
} Parts;

static Status run_parts(void *self, LayerCtx *ctx, Error *err)
{
    Parts *p = self;
    Stream *h = ctx->streams[0];
    int n = runner_model(ctx->runner)->units[ctx->layer].nblocks;
    RETURN_IF_ERROR(layer_forward(ctx, NULL, h, &p->whole, err));
    for (int i = 0; i < n; i++)
        RETURN_IF_ERROR(layer_forward_part(ctx, i, i + 1, NULL, h, h, err));
    assert_memory_equal(h->data, p->whole.data, (size_t)(h->rows * h->width) * sizeof *h->data);
    assert_int_equal(layer_forward_part(ctx, 1, n + 1, NULL, h, h, NULL), ST_INTERNAL);
    float *norm; /* and what the job may read of it */
    const TensorInfo *t = ctx->src->model->units[ctx->layer].block[0].join->small[RESIDUAL_BEFORE];
    assert_non_null(t);
    assert_int_equal(source_small(ctx->src, NULL, t, &norm, err), ST_OK);
    free(norm);
    p->units++;
    return ST_OK;
}

static void a_job_runs_parts_of_its_unit(void **state)
{
    (void)state;
    Line l;
    Error e = {0};
    line_open(&l, NULL);
    Parts p = {0};
    Stream h;
    assert_int_equal(stream_copy(&h, &l.input[0], NULL), ST_OK);
    assert_int_equal(stream_copy(&p.whole, &l.input[0], NULL), ST_OK);
    Schedule s = {.first = 0, .last = 6, .job = {"parts", run_parts, &p}};
    if (schedule_forward(l.b.r, (Stream *[]){&h}, 1, &s, &e) != ST_OK)
        fail_msg("%s", e.text);
    assert_int_equal(p.units, 6);
    stream_fini(&h);
    stream_fini(&p.whole);
    line_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_walk_down_from_kept_streams),
        cmocka_unit_test(hooks_and_forms_reach_the_blocks),
        cmocka_unit_test(blocks_that_see_all_rows_come_in_their_place),
        cmocka_unit_test(a_segment_is_computed_once),
        cmocka_unit_test(a_block_without_gradients_is_named_before_any_work),
        cmocka_unit_test(kinds_with_gradients_have_both_halves),
        cmocka_unit_test(a_job_runs_parts_of_its_unit),
    };
    return cmocka_run_group_tests(tests, count_blocks, NULL);
}
