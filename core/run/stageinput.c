#include "run/stageinput.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"

static bool same_act(const LinearRun *a, const LinearRun *b)
{
    const LinearForm *f = a->form, *g = b->form;
    return a->codes == b->codes && f->act == g->act && (f->self == g->self || (f->act_key && f->act_key == g->act_key));
}

static const LinearForm *act_form(const LinearRun *l)
{
    return l->form && l->form->act ? l->form : NULL;
}

static bool same_inputs(const LinearRun *a, const LinearRun *b)
{
    const EditChain *c = a->inputs, *d = b->inputs;
    return c == d || (c && d && digest_cmp(&c->digest, &d->digest) == 0);
}

/* The first linear to whose input the same is done. */
static int reads_as(LinearRun *const *lin, int i)
{
    int j = 0;
    while (!same_inputs(lin[j], lin[i]))
        j++;
    return j;
}

/* The first linear of the stage that reads what linear i does. */
static int input_owner(LinearRun *const *lin, int i)
{
    for (int j = 0; j < i; j++)
        if (!same_inputs(lin[j], lin[i]))
            continue;
        else if (!act_form(lin[j]) == !act_form(lin[i]) && (!act_form(lin[i]) || same_act(lin[j], lin[i])))
            return j;
    return i;
}

/* ---- room ---- */

/* Each row of a made input has its scale, whether it is codes or not. */
int64_t stage_acts_floats(int64_t in, int64_t acts)
{
    return acts * (in + 1);
}

int64_t stage_plain_floats(int64_t in, const GemmOps *products)
{
    return products && products->row_bytes ? (int64_t)(products->row_bytes(in) / sizeof(float)) : 0;
}

int64_t stage_input_floats(LinearRun *const *lin, int n, const GemmOps *products)
{
    int64_t floats = 0, in = lin[0]->lin->in;
    for (int i = 0; i < n; i++) {
        floats += lin[i]->inputs && reads_as(lin, i) == i ? stage_acts_floats(in, 1) : 0;
        floats += lin[i]->low ? lin[i]->low->rank : 0;
    }
    for (int i = 0; i < n; i++)
        if (input_owner(lin, i) == i)
            floats += act_form(lin[i]) ? stage_acts_floats(in, 1) : stage_plain_floats(in, products);
    return floats * max_i64(lin[0]->lin->groups, 1);
}

/* ---- the inputs that are made ---- */

/* One of them: a change of the stage's input; or, in a wave behind that, what forms and products make of one. Of a plain
 * input form is NULL and only `packed` is made. */
typedef struct InputRun {
    const Stage *st;
    const EditChain *change; /* x is done this to, in out; NULL: it isn't */
    const LowRank *low;  /* out is l1 x; NULL: it isn't */
    const LinearForm *form;
    const GemmOps *gemm; /* what multiplies it */
    bool codes;
    const float *src;    /* what the form or the change sees */
    const float *x;      /* what is packed */
    float *out, *scale;  /* what the form makes */
    void *packed;        /* NULL: nothing is */
    int64_t ld;          /* bytes of its rows */
    int64_t task0;       /* its first task of the present pool call */
} InputRun;

enum { INPUTS_MAX = STAGES_MAX * 2 > STAGE_MAX ? STAGES_MAX * 2 : STAGE_MAX };

typedef struct InputWave {
    InputRun run[INPUTS_MAX];
    int n;
} InputWave;

static int64_t rows_of(const Stage *st)
{
    return st->ps->rows * stage_groups(st);
}

/* What linear i reads, the first of the stage that does, its rows at `at`; returns the floats it takes there. */
static int64_t make_input(Stage *st, int i, float *at, InputRun *run)
{
    const GemmOps *gemm = stage_gemms(st, i);
    const LinearForm *f = act_form(st->lin[i]);
    int64_t in = st->lin[0]->lin->in, rows = rows_of(st), floats = 0;
    *run = (InputRun){.st = st, .form = f, .gemm = gemm, .codes = st->lin[i]->codes, .src = st->xsrc[i], .x = st->xsrc[i]};
    if (f) {
        run->out = at;
        run->scale = at + rows * in;
        run->x = at;
        floats = rows * stage_acts_floats(in, 1);
    }
    if (run->codes) { /* in place: their rows are even */
        run->packed = at;
        run->ld = in * (int64_t)sizeof *at;
    } else if (!f && st->packs && gemm->row_bytes) {
        run->packed = at;
        run->ld = (int64_t)gemm->row_bytes(in);
        floats = rows * stage_plain_floats(in, gemm);
    }
    st->xin[i] = run->x;
    st->xpack[i] = run->packed;
    st->ldpack[i] = run->ld;
    st->xscale[i] = run->scale;
    return floats;
}

/* Where the samples of the chunk begin in it, the others have no row there. Caller frees. */
static int64_t *chunk_starts(const Stage *st)
{
    const Stream *all = stage_shape(st);
    int64_t row0 = st->ps->row0 * stage_groups(st), rows = rows_of(st);
    int64_t *start = mem_array((size_t)all->samples + 1, sizeof *start);
    for (int i = 0; start && i <= all->samples; i++)
        start[i] = min_i64(max_i64(all->start[i] - row0, 0), rows);
    return start;
}

/* Lets the forms see the input. */
static Status show_input(Stage *st, Error *err)
{
    const Pass *ps = st->ps;
    bool any = false;
    for (int i = 0; i < st->n; i++)
        any = any || (st->lin[i]->form && st->lin[i]->form->prepare);
    if (!any || (ps->rows == 0 && st->hidden))
        return ST_OK;
    int64_t in = st->lin[0]->lin->in, *start = chunk_starts(st);
    if (!start)
        return error_nomem(err, "a layer's inputs");
    const Stream shape = {.samples = ps->in->samples, .rows = rows_of(st), .width = in, .start = start,
                          .first = ps->in->first};
    Status s = ST_OK;
    for (int i = 0; s == ST_OK && i < st->n; i++) {
        const LinearForm *f = st->lin[i]->form;
        if (f && f->prepare)
            s = f->prepare(f->self, st->xsrc[i], &shape, in, ps->r->opt.pool, err);
    }
    free(start);
    return s;
}

void stage_readers(Stage *st)
{
    for (int i = 0; i < st->n; i++)
        st->reads[i] = reads_as(st->lin, i);
}

/* Lists how the input has to be changed. */
static void list_changes(Stage *st, InputWave *w)
{
    int64_t in = st->lin[0]->lin->in, rows = rows_of(st);
    st->act_free = st->act_scratch;
    for (int i = 0; i < st->n; i++) {
        int first = st->reads[i];
        st->xsrc[i] = first < i ? st->xsrc[first] : st->lin[i]->inputs ? st->act_free : st->x;
        if (first < i || !st->lin[i]->inputs)
            continue;
        w->run[w->n++] = (InputRun){.st = st, .change = st->lin[i]->inputs, .src = st->x, .out = st->act_free};
        st->act_free += rows ? rows * stage_acts_floats(in, 1) : 0;
    }
}

/* Lists what branches have to make of it. */
static void list_branches(Stage *st, InputWave *w)
{
    int64_t rows = rows_of(st);
    for (int i = 0; i < st->n; i++) {
        const LowRank *low = st->lin[i]->low;
        st->xlow[i] = st->act_free;
        if (!low || !rows)
            continue;
        w->run[w->n++] = (InputRun){.st = st, .low = low, .src = st->xsrc[i], .out = st->act_free};
        st->act_free += rows * low->rank;
    }
}

/* Lists what has to be made of it then. */
static Status list_inputs(Stage *st, InputWave *w, Error *err)
{
    Pass *ps = st->ps;
    RETURN_IF_ERROR(show_input(st, err));
    float *at = st->act_free;
    for (int i = 0; i < st->n && ps->rows > 0; i++) {
        int owner = input_owner(st->lin, i);
        if (owner == i) {
            int64_t floats = make_input(st, i, at, &w->run[w->n]);
            at = floats ? at + floats : at;
            w->n += floats > 0;
        } else {
            st->xin[i] = st->xin[owner];
            st->xpack[i] = st->xpack[owner];
            st->ldpack[i] = st->ldpack[owner];
            st->xscale[i] = st->xscale[owner];
        }
    }
    return ST_OK;
}

/* ---- tasks ---- */

/* Some rows of the input changed, each step rounded as operations are. */
static void change_task(const InputRun *a, int64_t index, Worker *wk)
{
    const EditChain *c = a->change;
    const Ops *ops = stage_ops(a->st);
    int64_t in = a->st->lin[0]->lin->in, r0 = index * PASS_TILE, rows = pass_tile_end(index, rows_of(a->st)) - r0;
    float *out = a->out + r0 * in;
    memcpy(out, a->src + r0 * in, (size_t)(rows * in) * sizeof *out);
    for (int i = 0; i < c->n; i++) {
        editchain_rows(c, i, i + 1, ops->k, r0, rows, in, out, wk->edit);
        ops_round(ops, out, rows * in);
    }
}

enum { LOW_COLS = 64 }; /* no more than any weight's panel has, where the rank is larger */

/* One band of rows through the first factor of a branch, a group of inputs after the other. */
static void low_task(const InputRun *a, int64_t index, Worker *wk)
{
    const Pass *ps = a->st->ps;
    const Ops *ops = stage_ops(a->st);
    const LowRank *low = a->low;
    int64_t groups = stage_groups(a->st), in = low->in, block = ps->b0 + index;
    int64_t row = ps->plan.start[block] - ps->row0, end = ps->plan.start[block + 1] - ps->row0;
    for (int64_t rows; row < end; row += rows) {
        rows = min_i64(end - row, STAGE_TILE_ROWS);
        for (int64_t g = 0; g < groups; g++)
            for (int64_t c = 0; c < low->rank; c += LOW_COLS) {
                GemmArgs p = {.m = rows, .n = min_i64(LOW_COLS, low->rank - c), .k = in, .x = a->src + (row * groups + g) * in,
                              .ldx = in * groups, .w = low->l1 + c * in, .ldw = in,
                              .y = a->out + (row * groups + g) * low->rank + c, .ldy = low->rank * groups};
                ops_gemm(ops, &p, wk->gemm);
            }
    }
}

static int64_t low_tasks(const InputRun *a)
{
    return a->low ? a->st->ps->b1 - a->st->ps->b0 : 0;
}

static int64_t change_tasks(const InputRun *a)
{
    return a->change ? div_up(rows_of(a->st), PASS_TILE) : 0;
}

/* One sample of one input through its form. */
static void act_task(const InputRun *a, int64_t index, Worker *wk)
{
    (void)wk;
    const Pass *ps = a->st->ps;
    const Stream *shape = stage_shape(a->st);
    int s = ps->s0 + (int)index;
    int64_t in = a->st->lin[0]->lin->in, r0 = shape->start[s] - ps->row0 * stage_groups(a->st);
    int64_t rows = shape->start[s + 1] - shape->start[s];
    const float *x = a->src + r0 * in;
    if (rows > 0 && a->codes)
        a->form->act_codes(a->form->self, s, x, rows, in, in, a->out + r0 * in, a->scale + r0);
    else if (rows > 0)
        a->form->act(a->form->self, s, x, rows, in, in, a->out + r0 * in);
}

static int64_t act_tasks(const InputRun *a)
{
    return a->form ? a->st->ps->s1 - a->st->ps->s0 : 0;
}

static void pack_task(const InputRun *a, int64_t index, Worker *wk)
{
    (void)wk;
    int64_t in = a->st->lin[0]->lin->in, r0 = index * PASS_TILE, end = pass_tile_end(index, rows_of(a->st));
    a->gemm->pack_x(a->x + r0 * in, in, end - r0, in, (unsigned char *)a->packed + r0 * a->ld, a->ld);
}

static int64_t pack_tasks(const InputRun *a)
{
    return a->packed ? div_up(rows_of(a->st), PASS_TILE) : 0;
}

/* What is done to an input, each in a pool call of its own. */
typedef struct Step {
    Phase phase;
    int64_t (*tasks)(const InputRun *a);
    void (*task)(const InputRun *a, int64_t index, Worker *wk);
} Step;

typedef struct StepRun {
    const Step *step;
    InputWave *w;
} StepRun;

static void step_task(void *ctx, int64_t index, int worker)
{
    const StepRun *r = ctx;
    int i = 0;
    while (i + 1 < r->w->n && r->w->run[i + 1].task0 <= index)
        i++;
    const InputRun *a = &r->w->run[i];
    r->step->task(a, index - a->task0, &a->st->ps->r->worker[worker]);
}

static Status run_step(const Step *step, InputWave *w, Runner *r, Error *err)
{
    StepRun run = {step, w};
    Batch b = {.n = 0};
    int64_t tasks = 0;
    for (int i = 0; i < w->n; i++) {
        w->run[i].task0 = tasks;
        tasks += step->tasks(&w->run[i]);
    }
    batch_add(&b, step->phase, step_task, &run, tasks);
    return tasks ? batch_run(&b, r->opt.pool, r->opt.cancel, err) : ST_OK;
}

Status stage_inputs(Stage *const *st, int n, Error *err)
{
    static const Step change = {PHASE_ELEMENTS, change_tasks, change_task}, branch = {PHASE_LINEAR, low_tasks, low_task};
    static const Step steps[] = {{PHASE_QUANT_ACT, act_tasks, act_task}, {PHASE_PACK, pack_tasks, pack_task}};
    InputWave w = {.n = 0};
    Runner *r = st[0]->ps->r;
    for (int i = 0; i < n; i++)
        list_changes(st[i], &w);
    RETURN_IF_ERROR(run_step(&change, &w, r, err));
    w.n = 0;
    for (int i = 0; i < n; i++)
        list_branches(st[i], &w);
    RETURN_IF_ERROR(run_step(&branch, &w, r, err));
    w.n = 0;
    for (int i = 0; i < n; i++)
        RETURN_IF_ERROR(list_inputs(st[i], &w, err));
    for (size_t k = 0; k < sizeof steps / sizeof *steps; k++)
        RETURN_IF_ERROR(run_step(&steps[k], &w, r, err));
    return ST_OK;
}
