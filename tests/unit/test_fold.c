/* Rows of the folded table against plain rules over names and scores: every mode, sort key and direction, with filters
 * and failed rows; what a fold's targets select; what work a look costs. */
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
#include "session/fold.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/table.h"
#include "tests/lib/fake_model.h"
#include "tests/lib/tempdir.h"

#define DEMO "lab_models/demo"
#define MOE "tests/golden/models/qwen3_moe/fp32"
enum { MOST = 100 };

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static Session *open_session(const char *model, const char *state_dir)
{
    SessionOptions o;
    Session *s;
    session_options_default(&o);
    o.threads = 1;
    o.state_dir = state_dir;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, model, NULL, &err));
    ok(session_open_recipe(s, NULL, NULL, &err));
    ok(session_show(s, "kurtosis", &err));
    assert_true(session_model(s)->nlinears <= MOST);
    return s;
}

/* Scores in no order; some linears fail, some have none. */
static void give_scores(Session *s, unsigned long long seed, bool gaps)
{
    for (int64_t i = 0; i < session_model(s)->nlinears; i++) {
        LinearResult r = {.linear = i, .in = {.values = 1000, .rows = 10, .width = 100, .samples = 1}};
        unsigned lot = fake_random(&seed) % 8;
        r.in.kurtosis = (double)(fake_random(&seed) % 1000000) / 100 - 2;
        r.in.bad = gaps && lot == 0;
        if (!gaps || lot != 1)
            results_store(s->results, &r, NEED_ORDER | metric_find("kurtosis")->needs);
    }
    table_scores_changed(s->table);
}

/* ---- an independent reading of what belongs together ---- */

static void reference_key(const Session *s, int64_t i, char *out, size_t size)
{
    const char *name = session_model(s)->linears[i].name, *experts = strstr(name, ".experts."), *end = name;
    out[0] = '\0';
    switch (session_fold_mode(s)) {
    case FOLD_BLOCK:
        for (int dots = 0; dots < 3; end++)
            dots += *end == '.';
        snprintf(out, size, "%.*s*", (int)(end - name), name);
        break;
    case FOLD_KIND: snprintf(out, size, "*%s", strrchr(name, '.')); break;
    case FOLD_EXPERTS:
        if (experts)
            snprintf(out, size, "%.*s.experts.*", (int)(experts - name), name);
        break;
    case FOLD_GROUP:
        if (experts)
            snprintf(out, size, "%.*s.experts.*", (int)(experts - name), name);
        else if (strstr(name, "gate_proj") || strstr(name, "up_proj"))
            snprintf(out, size, "%.*s.mlp.{gate,up}_proj", (int)(strstr(name, ".mlp.") - name), name);
        else if (strstr(name, "q_proj") || strstr(name, "k_proj") || strstr(name, "v_proj"))
            snprintf(out, size, "%.*s.self_attn.{q,k,v}_proj", (int)(strstr(name, ".self_attn.") - name), name);
        break;
    case FOLD_NONE:
    case FOLD_MODES: break;
    }
}

/* What a unit (head or lone linear) goes by, ascending: tier, value, then the place of its first member. */
typedef struct Place {
    int tier;
    double value;
} Place;

static Place reference_place(Session *s, const int64_t *members, int64_t n)
{
    bool ascending;
    SortKey key = session_sort_key(s, &ascending);
    Place p = {1, 0};
    if (key == SORT_SIZE) {
        for (int64_t k = 0; k < n; k++) {
            const Linear *l = &session_model(s)->linears[members[k]];
            p.value += (ascending ? 1.0 : -1.0) * (double)l->in * (double)l->out;
        }
    } else if (key == SORT_SCORE || key == SORT_SECOND) { /* without a second metric by the shown one */
        double worst = NAN;
        for (int64_t k = 0; k < n; k++) {
            Score sc = session_score(s, session_metric(s), members[k]);
            if (sc.state == SCORE_FAILED)
                return (Place){0, 0};
            if (sc.state == SCORE_OK)
                worst = fmax(worst, sc.value);
        }
        p = isnan(worst) ? (Place){2, 0} : (Place){1, ascending ? worst : -worst};
    }
    return p;
}

static bool comes_before(Place a, Place b)
{
    return a.tier != b.tier ? a.tier < b.tier : a.value < b.value;
}

/* Members of a unit by the reference: visible ones of the same key in table order; a lone one is alone. */
static int64_t reference_members(Session *s, const int64_t *order, int64_t n, int64_t linear, int64_t *out)
{
    char want[200], key[200];
    int64_t count = 0;
    reference_key(s, linear, want, sizeof want);
    for (int64_t k = 0; k < n && want[0]; k++) {
        reference_key(s, order[k], key, sizeof key);
        if (strcmp(key, want) == 0)
            out[count++] = order[k];
    }
    if (count < 2)
        out[0] = linear;
    return count < 2 ? 1 : count;
}

static void check_figures(Session *s, const Fold *f)
{
    int64_t scored = 0, failed = 0, floats = 0, tagged = 0;
    double sum = 0, max = -INFINITY, cost = 0;
    for (int64_t k = 0; k < f->count; k++) {
        int64_t i = f->members[k];
        Score sc = session_score(s, session_metric(s), i);
        failed += sc.state == SCORE_FAILED;
        scored += sc.state == SCORE_OK;
        if (sc.state == SCORE_OK) {
            sum += sc.value;
            max = fmax(max, sc.value);
        }
        floats += session_level_of(s, i) == 0;
        tagged += session_tagged(s, i);
        cost += (double)recipe_linear_bytes(session_recipe(s), session_model(s), i, 0, false) -
                (double)recipe_linear_bytes(session_recipe(s), session_model(s), i, 1, false);
    }
    assert_int_equal(f->scored, scored);
    assert_int_equal(f->failed, failed);
    assert_int_equal(f->floats, floats);
    assert_int_equal(f->at_level[0], floats);
    assert_int_equal(f->tagged, tagged);
    assert_int_equal(f->level, floats == f->count ? 0 : floats ? -1 : 1);
    assert_true(f->cost == cost);
    if (scored) {
        assert_true(f->max == max && fabs(f->mean - sum / (double)scored) <= 1e-9 * fabs(max));
        assert_true(session_score(s, session_metric(s), f->worst).value == max);
    } else {
        assert_true(isnan(f->max) && isnan(f->mean) && f->worst == -1);
    }
}

/* The whole table as it is now. */
static void check_rows(Session *s)
{
    int64_t n, norder, at = 0, members[MOST], seen = 0, before[MOST] = {0};
    const TableRow *rows = session_rows(s, &n, true);
    const int64_t *order = session_order(s, &norder, false);
    Place last = {-1, 0};
    while (at < n) {
        TableRow r = rows[at];
        int64_t count = reference_members(s, order, norder, r.linear, members);
        Place p = reference_place(s, members, count);
        assert_int_equal(members[0], r.linear);
        assert_int_equal(r.head, count > 1);
        assert_false(comes_before(p, last));
        if (seen && !comes_before(last, p)) { /* equal: by the first member */
            int64_t a = 0, b = 0;
            while (order[a] != before[0])
                a++;
            while (order[b] != r.linear)
                b++;
            assert_true(a < b);
        }
        last = p;
        before[0] = r.linear;
        seen += count;
        if (!r.head) {
            assert_int_equal(r.fold, -1);
            assert_int_equal(session_row_of(s, r.linear, true), at++);
            continue;
        }
        const Fold *f = session_fold_at(s, r.fold);
        assert_int_equal(f->count, count);
        assert_memory_equal(f->members, members, (size_t)count * sizeof *members);
        assert_int_equal(f->row, at);
        check_figures(s, f);
        at++;
        for (int64_t k = 0; k < count; k++) {
            assert_int_equal(session_row_of(s, members[k], true), f->row);
            assert_int_equal(session_row_of(s, members[k], false), f->open ? at : f->row);
            if (f->open) {
                assert_int_equal(rows[at].linear, members[k]);
                assert_true(!rows[at].head && rows[at].fold == r.fold);
                at++;
            }
        }
    }
    assert_int_equal(seen, norder);
}

static void every_mode_sort_and_filter(void **state)
{
    (void)state;
    static const char *const models[] = {DEMO, MOE}, *const filters[] = {"", "layer=1..2", "down_proj", "failed",
                                                                         "!failed score>4000", "no.such"};
    for (size_t m = 0; m < 2; m++) {
        Session *s = open_session(models[m], NULL);
        give_scores(s, 11 + m, true);
        static const char *const some[] = {"*layers.1.*"}, *const part[] = {"*layers.0.self_attn.o_proj"};
        ok(session_edit(s, some, 1, 0, false, NULL, &err));
        ok(session_edit(s, part, 1, 0, false, NULL, &err));
        for (int mode = 0; mode < FOLD_MODES; mode++) {
            ok(session_fold(s, (FoldMode)mode, &err));
            for (int k = 0; k < 2 * SORT_KEYS; k++) {
                ok(session_sort(s, (SortKey)(k / 2), k % 2, &err));
                for (size_t f = 0; f < sizeof filters / sizeof *filters; f++) {
                    ok(session_filter(s, filters[f], &err));
                    session_fold_open_all(s, false);
                    check_rows(s);
                    for (int32_t i = 0; i < session_folds(s); i += 2)
                        session_fold_open(s, i, true);
                    check_rows(s);
                    session_fold_open_all(s, true);
                    check_rows(s);
                }
            }
        }
        session_free(s);
    }
}

static void nothing_is_measured(void **state)
{
    (void)state;
    Session *s = open_session(MOE, NULL);
    for (int mode = 0; mode < FOLD_MODES; mode++) {
        ok(session_fold(s, (FoldMode)mode, &err));
        check_rows(s);
    }
    ScoreRange r = session_score_range(s);
    assert_int_equal(r.scored, 0);
    session_free(s);
}

/* A fold's targets select its visible members and nothing else; its name alone where nothing is hidden. */
static void targets_are_exact(void **state)
{
    (void)state;
    static const char *const models[] = {DEMO, MOE}, *const filters[] = {"", "layer=1..2 !k_proj", "score>3000"};
    for (size_t m = 0; m < 2; m++) {
        Session *s = open_session(models[m], NULL);
        give_scores(s, 5, false);
        for (int mode = 1; mode < FOLD_MODES; mode++)
            for (size_t f = 0; f < sizeof filters / sizeof *filters; f++) {
                ok(session_fold(s, (FoldMode)mode, &err));
                ok(session_filter(s, filters[f], &err));
                for (int32_t i = 0; i < session_folds(s); i++) {
                    const Fold *v = session_fold_at(s, i);
                    char **target, want[200];
                    int n;
                    bool hits[MOST] = {false};
                    int64_t count, total = 0;
                    ok(session_fold_target(s, i, &target, &n, &err));
                    reference_key(s, v->members[0], want, sizeof want);
                    if (v->count == v->whole)
                        assert_true(n == 1 && strcmp(target[0], want) == 0);
                    for (int k = 0; k < n; k++) {
                        ok(session_target(s, target[k], hits, &count, &err));
                        free(target[k]);
                    }
                    free(target);
                    for (int64_t k = 0; k < MOST; k++)
                        total += hits[k];
                    assert_int_equal(total, v->count);
                    for (int64_t k = 0; k < v->count; k++)
                        assert_true(hits[v->members[k]]);
                }
            }
        char **target;
        int n;
        assert_int_equal(session_fold_target(s, 10000, &target, &n, &err), ST_USAGE);
        session_free(s);
    }
}

static void experts_of_a_dense_model(void **state)
{
    (void)state;
    Session *s = open_session(DEMO, NULL);
    int64_t n;
    ok(session_fold(s, FOLD_EXPERTS, &err));
    session_rows(s, &n, false);
    assert_int_equal(n, 56);
    assert_int_equal(session_folds(s), 0);
    session_fold_open(s, 0, true); /* there is none */
    assert_null(session_fold_at(s, 0));
    assert_int_equal(session_fold(s, FOLD_MODES, &err), ST_USAGE);
    session_free(s);
    SessionOptions o;
    session_options_default(&o);
    ok(session_new(&s, &o, &err));
    assert_int_equal(session_fold(s, FOLD_KIND, &err), ST_USAGE);
    assert_null(session_rows(s, &n, false));
    assert_int_equal(n, 0);
    session_free(s);
}

static TableWork work_of_look(Session *s)
{
    int64_t n;
    TableWork a = session_table_work(s), b;
    session_rows(s, &n, false);
    session_fold_at(s, 0);
    session_score_range(s);
    b = session_table_work(s);
    return (TableWork){b.gathered - a.gathered, b.laid - a.laid, b.figured - a.figured};
}

static void assert_work(Session *s, uint64_t gathered, uint64_t laid, uint64_t figured)
{
    TableWork w = work_of_look(s);
    assert_int_equal(w.gathered, gathered);
    assert_int_equal(w.laid, laid);
    assert_int_equal(w.figured, figured);
    w = work_of_look(s); /* looking again costs nothing */
    assert_true(w.gathered + w.laid + w.figured == 0);
}

static void only_what_changed_is_done_again(void **state)
{
    (void)state;
    Session *s = open_session(DEMO, NULL);
    bool hits[MOST] = {true, true};
    give_scores(s, 3, false);
    ok(session_fold(s, FOLD_KIND, &err));
    assert_work(s, 1, 1, 1);
    session_fold_open(s, 1, true);
    assert_work(s, 0, 1, 0);
    session_fold_open(s, 1, true);
    assert_work(s, 0, 0, 0);
    const char *const two[] = {session_model(s)->linears[0].name, session_model(s)->linears[1].name};
    ok(session_edit(s, two, 2, 0, false, NULL, &err));
    assert_work(s, 0, 0, 1);
    ok(session_tag(s, hits, true, &err));
    assert_work(s, 0, 0, 1);
    ok(session_undo(s, NULL, &err));
    assert_work(s, 0, 0, 1);
    ok(session_sort(s, SORT_NAME, true, &err));
    assert_work(s, 1, 1, 1);
    assert_true(session_fold_at(s, session_rows(s, &(int64_t){0}, false)[0].fold)->count == 8);
    give_scores(s, 4, false); /* rows that have a place keep it until they are asked to move */
    assert_work(s, 0, 0, 1);
    int64_t n;
    TableWork before = session_table_work(s);
    session_rows(s, &n, true); /* one refresh makes order, rows and figures */
    TableWork after = session_table_work(s);
    assert_int_equal(after.gathered - before.gathered, 1);
    assert_int_equal(after.laid - before.laid, 1);
    assert_int_equal(after.figured - before.figured, 1);
    assert_work(s, 0, 0, 0);
    session_free(s);
}

/* The kept scores against each asked for by itself. */
static void assert_kept(Session *s, const char *metric)
{
    const Metric *m = metric_find(metric);
    const Scored *kept = scored_of(s, m);
    assert_non_null(kept);
    for (int64_t i = 0; i < session_model(s)->nlinears; i++) {
        Score sc = session_score(s, m, i);
        bool some = sc.state == SCORE_OK || sc.state == SCORE_STALE;
        assert_int_equal(kept->state[i], sc.state == SCORE_QUEUED ? SCORE_NONE : sc.state);
        assert_true(kept->value[i] == (some ? sc.value : 0));
        assert_int_equal(kept->level[i], scored_level(s->assignment, i));
    }
}

static void put_score(Session *s, const char *metric, int64_t unit, double value)
{
    const Metric *m = metric_find(metric);
    PassScore p = {.metric = m, .s = {.unit = unit, .value = value, .tokens = 10}};
    p.s.levels = scored_key(s, m, unit, s->assignment->level);
    ok(results_store_unit(s->results, &p, &err));
}

/* Rows that arrive, edits, another recipe, what is stale: what is kept is what would be asked for. */
static void kept_scores_are_the_scores(void **state)
{
    (void)state;
    static const char *const metrics[] = {"kurtosis", "std", "local_error", "block_error", "mse_layer_wise", "alone"};
    Session *s = open_session(DEMO, NULL);
    int64_t n = session_model(s)->nlinears;
    for (int step = 0; step < 60; step++) {
        uint64_t made = scored_of(s, metric_find("kurtosis"))->made;
        LinearResult r = {.linear = step * 7 % n, .in = {.values = 10, .rows = 10, .width = 1, .samples = 1, .kurtosis = step}};
        if (step % 3 == 0) {
            results_store(s->results, &r, NEED_ORDER | metric_find("kurtosis")->needs);
            table_scores_arrived(s->table);
            assert_true(scored_of(s, metric_find("kurtosis"))->made > made);
        }
        if (step % 4 == 1)
            put_score(s, "block_error", step % session_model(s)->ngroups, step);
        if (step % 10 == 5)
            ok(session_edit(s, (const char *const[]){session_model(s)->linears[step % n].name}, 1, step % 20 == 5 ? 0 : s->assignment->nlevels - 1, false, NULL, &err));
        if (step == 33)
            ok(session_set_calib(s, "lab_calib/boolq.jsonl", &err)); /* all are stale */
        if (step == 41)
            ok(session_open_recipe(s, "lab_practice/qwen3/qwen3-w4a8.yaml", NULL, &err));
        if (step == 52)
            ok(session_undo(s, NULL, &err));
        for (size_t k = 0; k < sizeof metrics / sizeof *metrics; k++)
            assert_kept(s, metrics[k]);
    }
    session_free(s);
}

static void open_folds_outlive_an_order(void **state)
{
    (void)state;
    Session *s = open_session(DEMO, NULL);
    int64_t n, down = model_find_linear(session_model(s), "model.layers.3.mlp.down_proj");
    give_scores(s, 9, false);
    ok(session_fold(s, FOLD_KIND, &err));
    const TableRow *rows = session_rows(s, &n, false);
    assert_int_equal(n, 7);
    session_fold_open(s, rows[session_row_of(s, down, false)].fold, true);
    for (int k = 0; k < SORT_KEYS; k++) {
        ok(session_sort(s, (SortKey)k, true, &err));
        rows = session_rows(s, &n, false);
        assert_int_equal(n, 15);
        assert_int_equal(rows[session_row_of(s, down, false)].linear, down);
        assert_true(rows[session_row_of(s, down, true)].head);
        check_rows(s);
    }
    ok(session_filter(s, "layer=3", &err)); /* one of each kind: alone, hidden ones have no row */
    session_rows(s, &n, false);
    assert_int_equal(n, 7);
    assert_int_equal(session_folds(s), 0);
    assert_int_equal(session_row_of(s, 0, false), -1);
    ok(session_filter(s, "layer=3..4", &err));
    assert_int_equal(session_row_of(s, 0, false), -1);
    assert_true(session_row_of(s, 0, true) >= 0); /* its fold's head is there */
    ok(session_fold(s, FOLD_KIND, &err)); /* folded anew: closed */
    session_rows(s, &n, false);
    assert_int_equal(n, 7);
    ok(session_open_model(s, MOE, NULL, &err)); /* the next model is folded the same way */
    ok(session_filter(s, "", &err));
    assert_int_equal(session_fold_mode(s), FOLD_KIND);
    assert_int_equal(session_folds(s), 8);
    session_free(s);
}

static void resume_folds_again(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Session *s = open_session(DEMO, dir);
    ok(session_fold(s, FOLD_BLOCK, &err));
    bool *all = mem_zarray((size_t)session_model(s)->nlinears, sizeof *all);
    all[0] = true;
    ok(session_tag(s, all, true, &err)); /* a session without work in it isn't kept */
    free(all);
    session_free(s);
    SessionOptions o;
    session_options_default(&o);
    o.state_dir = dir;
    ok(session_restore(&s, &o, NULL, &err));
    assert_int_equal(session_fold_mode(s), FOLD_BLOCK);
    assert_int_equal(session_folds(s), 8);
    session_free(s);
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mode_sort_and_filter),
        cmocka_unit_test(nothing_is_measured),
        cmocka_unit_test(targets_are_exact),
        cmocka_unit_test(experts_of_a_dense_model),
        cmocka_unit_test(only_what_changed_is_done_again),
        cmocka_unit_test(kept_scores_are_the_scores),
        cmocka_unit_test(open_folds_outlive_an_order),
        cmocka_unit_test(resume_folds_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
