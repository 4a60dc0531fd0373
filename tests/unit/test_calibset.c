/* The calibration set as a person changes it: texts out and in, added files, what every output calls it, undo, resume; and
 * what is told of its texts. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metric/sampleparts.h"
#include "metric/textrange.h"
#include "metric/watch.h"
#include "session/calibset.h"
#include "tests/lib/random_model.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tiny_model.h"

#define DEMO "lab_models/demo"

static Error err;
static char *root;
static char model[64];
static const char texts[] = "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n{\"input_ids\":[9,8,7,6,5,4]}\n\n{\"input_ids\":[]}\n"
                            "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n{\"input_ids\":[20,21,22,23,24,25,26,27,28,29]}\n";
static const char more[] = "{\"input_ids\":[40,41,42]}\n{\"input_ids\":[50,51,52,53]}\n";

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static int begin(void **state)
{
    (void)state;
    const RandomShape shape = {.model_type = "llama", .layers = 3, .heads = 2, .kv_heads = 1, .head_dim = 8, .hidden = 16,
                               .inter = 24, .vocab = 64, .dtype = DT_F32, .seed = 7};
    random_model_write(&shape, model);
    root = temp_folder();
    temp_puts(temp_path(root, "texts.jsonl"), texts);
    temp_puts(temp_path(root, "more.jsonl"), more);
    return 0;
}

static int end(void **state)
{
    (void)state;
    random_model_remove(model);
    temp_remove(root);
    return 0;
}

static Session *open_on(const char *path, const char *calib, bool durable)
{
    SessionOptions o;
    Session *s;
    session_options_default(&o);
    o.threads = 1;
    o.ctx = 4;
    o.state_dir = durable ? root : NULL;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, path, NULL, &err));
    ok(session_set_calib(s, calib, &err));
    ok(session_set_eval(s, temp_path(root, "more.jsonl"), &err));
    return s;
}

static Session *open_session(bool durable)
{
    return open_on(model, temp_path(root, "texts.jsonl"), durable);
}

static void take(Session *s, const char *target, bool out, int want)
{
    int changed = -1;
    ok(session_texts_take(s, &target, 1, out, &changed, &err));
    assert_int_equal(changed, want);
}

static void refused(Session *s, const char *target, bool out, Status st, const char *text)
{
    Error why = {0};
    assert_int_equal(session_texts_take(s, &target, 1, out, NULL, &why), st);
    if (!strstr(why.text, text))
        fail_msg("'%s' does not say '%s'", why.text, text);
}

static void analyze(Session *s, const char *metric)
{
    const char *names[] = {metric, NULL};
    ok(session_analyze(s, names, NULL, 0, false, &err));
    ok(session_wait(s, &err));
}

static const char *title(const Session *s)
{
    const char *t = session_calib_title(s), *slash = strrchr(t, '/');
    return slash ? slash + 1 : t;
}

static const TextTable *table(Session *s)
{
    ok(session_texts_wait(s, &err));
    const TextTable *t = session_texts(s, NULL);
    assert_non_null(t);
    return t;
}

static void texts_are_what_the_file_has(void **state)
{
    (void)state;
    Session *s = open_session(false);
    const TextTable *t = table(s);
    assert_int_equal(t->n, 5);
    assert_int_equal(t->shown, 5);
    assert_int_equal(t->sums.used, 4);
    assert_int_equal(t->sums.empty, 1);
    assert_int_equal(t->sums.same, 1);
    assert_int_equal(t->sums.tokens, 8 + 6 + 8 + 10);
    assert_int_equal(t->sums.distinct, 9 + 10);
    assert_int_equal(t->sums.vocab, 64);
    assert_int_equal(t->sums.eval_tokens, 7);
    assert_int_equal(t->sums.eval_seen, 0);
    assert_int_equal(t->row[2].state, TEXT_EMPTY);
    assert_int_equal(t->row[3].same_as, 1);
    assert_int_equal(t->row[3].line, 5);
    assert_int_equal(t->row[4].number, 5);
    assert_int_equal(t->sums.shortest, 6);
    assert_int_equal(t->sums.longest, 10);
    int all = 0;
    for (int i = 0; i < t->lengths.n; i++)
        all += t->lengths.count[i];
    assert_int_equal(all, 4);
    ok(session_set(s, "seq-len", "7", &err));
    ok(session_set(s, "max-samples", "3", &err));
    t = table(s);
    assert_int_equal(t->row[0].state, TEXT_CUT);
    assert_int_equal(t->row[0].used, 7);
    assert_int_equal(t->row[1].state, TEXT_USED);
    assert_int_equal(t->row[3].state, TEXT_CUT);
    assert_int_equal(t->row[4].state, TEXT_BEYOND);
    assert_int_equal(t->sums.tokens, 7 + 6 + 7);
    analyze(s, "kurtosis"); /* which is what a job takes */
    assert_int_equal(session_calib_info(s).tokens, 20);
    assert_int_equal(session_calib_info(s).samples, 3);
    session_free(s);
}

static void a_text_that_is_out_is_in_no_output(void **state)
{
    (void)state;
    Session *s = open_session(false);
    analyze(s, "kurtosis");
    const Metric *m = session_metric_find(s, "kurtosis");
    char sha[65];
    memcpy(sha, session_calib_info(s).sha256, sizeof sha);
    assert_int_equal(session_calib_info(s).tokens, 32);
    take(s, "5", true, 1);
    assert_string_equal(title(s), "texts.jsonl - 1 text");
    assert_int_equal(session_score(s, m, 0).state, SCORE_STALE);
    assert_int_equal(session_undo_depth(s), 1);
    take(s, "5", true, 0); /* no step */
    assert_int_equal(session_undo_depth(s), 1);
    take(s, "1-2", true, 2);
    take(s, "1", false, 1);
    assert_string_equal(title(s), "texts.jsonl - 2 texts");
    analyze(s, "kurtosis");
    assert_int_equal(session_calib_info(s).tokens, 16);
    assert_int_equal(session_calib_info(s).samples, 2);
    assert_true(strcmp(session_calib_info(s).sha256, sha) != 0);
    assert_non_null(strstr(session_calib_info(s).name, "texts.jsonl - 2 texts"));
    assert_int_equal(session_score(s, m, 0).state, SCORE_OK);
    Str what = {0};
    for (int i = 0; i < 3; i++)
        ok(session_undo(s, &what, &err));
    assert_string_equal(str_text(&what), "text 1 is out" "text 1, 2 are in again" "text 5 is in again");
    assert_string_equal(title(s), "texts.jsonl");
    str_clear(&what);
    ok(session_redo(s, &what, &err));
    assert_string_equal(str_text(&what), "text 5 is out");
    assert_string_equal(title(s), "texts.jsonl - 1 text");
    str_free(&what);
    session_free(s);
}

/* Scores of the set as it was are there again, without a pass. */
static void taking_a_text_back_brings_its_scores_back(void **state)
{
    (void)state;
    Session *s = open_session(false);
    const char *both[] = {"kurtosis", "text_range", NULL};
    ok(session_analyze(s, both, NULL, 0, false, &err));
    ok(session_wait(s, &err));
    int jobs = session_jobs(s);
    take(s, "2", true, 1);
    for (int k = 0; k < 2; k++)
        assert_int_equal(session_score(s, session_metric_find(s, both[k]), 3).state, SCORE_STALE);
    ok(session_undo(s, NULL, &err));
    for (int k = 0; k < 2; k++)
        assert_int_equal(session_score(s, session_metric_find(s, both[k]), 3).state, SCORE_OK);
    assert_int_equal(session_jobs(s), jobs);
    session_free(s);
}

/* Leaving texts out is the same as a file without them. */
static void a_saved_set_is_the_same_set(void **state)
{
    (void)state;
    Session *s = open_session(false);
    Str text = {0};
    int n;
    ok(session_texts_add(s, temp_path(root, "more.jsonl"), &err));
    assert_string_equal(title(s), "texts.jsonl + more.jsonl");
    take(s, "1", true, 1);
    take(s, "7", true, 1);
    assert_string_equal(title(s), "texts.jsonl + more.jsonl - 2 texts");
    ok(session_measure(s, true, &err));
    ok(session_wait(s, &err));
    double kl = session_effect(s, NULL)->kl_mean;
    assert_int_equal(session_calib_info(s).tokens, 6 + 8 + 10 + 3);
    ok(session_texts_save(s, &text, &n, &err));
    assert_int_equal(n, 5); /* the empty one is one, too */
    temp_puts(temp_path(root, "saved.jsonl"), str_text(&text));
    str_free(&text);
    session_free(s);
    s = open_on(model, temp_path(root, "saved.jsonl"), false);
    ok(session_measure(s, true, &err));
    ok(session_wait(s, &err));
    assert_true(session_effect(s, NULL)->kl_mean == kl);
    assert_int_equal(session_calib_info(s).tokens, 27);
    session_free(s);
    s = open_session(false); /* and another one than all of them */
    ok(session_measure(s, true, &err));
    ok(session_wait(s, &err));
    assert_true(session_effect(s, NULL)->kl_mean != kl);
    session_free(s);
}

static void targets_that_select_nothing_are_refused(void **state)
{
    (void)state;
    Session *s = open_session(false);
    refused(s, "6", true, ST_DATA, "there is no text 6: they are numbered from 1 to 5");
    refused(s, "0", true, ST_DATA, "there is no text 0");
    refused(s, "3-9", true, ST_DATA, "there is no text 9");
    refused(s, "horse", true, ST_DATA, "no text holds 'horse'");
    refused(s, "tagged", true, ST_DATA, "no text is tagged");
    refused(s, "flagged", true, ST_DATA, "analyze text_range");
    refused(s, "1-5", true, ST_USAGE, "no text would be left");
    assert_int_equal(session_undo_depth(s), 0);
    assert_int_equal(session_texts_add(s, temp_path(root, "nowhere.jsonl"), &err), ST_DATA);
    temp_puts(temp_path(root, "bad.jsonl"), "{\"other\": 1}\n");
    assert_int_equal(session_texts_add(s, temp_path(root, "bad.jsonl"), &err), ST_DATA);
    assert_non_null(strstr(err.text, "bad.jsonl:1"));
    session_free(s);
    s = open_on(DEMO, "lab_calib/mix_calib.jsonl", false);
    take(s, "PLUM dumplings", true, 1); /* a part, whatever its case */
    take(s, "*import*", true, 1);
    take(s, "*", false, 2);
    const char *const tags[] = {"3", "Le march"};
    int changed;
    ok(session_texts_tag(s, tags, 2, true, &changed, &err));
    assert_int_equal(changed, 2);
    take(s, "tagged", true, 2);
    assert_int_equal(table(s)->row[2].state, TEXT_OUT);
    assert_int_equal(table(s)->row[22].state, TEXT_OUT);
    session_free(s);
}

/* Another set has none of the changes, the same one has them again. */
static void changes_are_of_their_set(void **state)
{
    (void)state;
    Session *s = open_session(false);
    take(s, "2", true, 1);
    ok(session_set_calib(s, temp_path(root, "more.jsonl"), &err));
    assert_string_equal(title(s), "more.jsonl");
    assert_int_equal(table(s)->sums.out, 0);
    ok(session_set_calib(s, temp_path(root, "texts.jsonl"), &err));
    assert_string_equal(title(s), "texts.jsonl - 1 text");
    ok(session_set_calib(s, temp_path(root, "more.jsonl"), &err));
    take(s, "1", true, 1);
    assert_string_equal(title(s), "more.jsonl - 1 text");
    ok(session_undo(s, NULL, &err));
    assert_string_equal(title(s), "more.jsonl");
    session_free(s);
}

static void a_session_that_is_gone_on_with_has_them(void **state)
{
    (void)state;
    char id[40];
    Session *s = open_session(true);
    snprintf(id, sizeof id, "%s", session_id(s));
    ok(session_texts_add(s, temp_path(root, "more.jsonl"), &err));
    take(s, "2", true, 1);
    take(s, "1", true, 1);
    ok(session_undo(s, NULL, &err));
    analyze(s, "text_range");
    const Metric *m = session_metric_find(s, "text_range");
    double before = session_score(s, m, 4).value;
    session_free(s);
    SessionOptions o;
    session_options_default(&o);
    o.threads = 1;
    o.state_dir = root;
    ok(session_restore(&s, &o, id, &err));
    assert_string_equal(title(s), "texts.jsonl + more.jsonl - 1 text");
    assert_int_equal(session_undo_depth(s), 2);
    assert_int_equal(session_redo_depth(s), 1);
    assert_int_equal(session_score(s, m, 4).state, SCORE_OK);
    assert_true(session_score(s, m, 4).value == before);
    assert_int_equal(table(s)->sums.out, 1);
    assert_int_equal(table(s)->n, 7);
    ok(session_redo(s, NULL, &err));
    assert_int_equal(session_score(s, m, 4).state, SCORE_STALE);
    session_free(s);
}

static void data_stays_as_it_is_while_a_job_runs(void **state)
{
    (void)state;
    Session *s = open_session(false);
    const char *names[] = {"kurtosis", NULL};
    take(s, "2", true, 1);
    ok(session_analyze(s, names, NULL, 0, false, &err));
    refused(s, "1", true, ST_USAGE, "a job runs");
    assert_int_equal(session_undo(s, NULL, &err), ST_USAGE);
    assert_int_equal(session_undo_depth(s), 1);
    ok(session_wait(s, &err));
    ok(session_undo(s, NULL, &err));
    session_free(s);
}

static double width(double lo, double hi)
{
    return (hi > 0 ? hi : 0) - (lo < 0 ? lo : 0);
}

/* The part of a linear's range that no other text than this one needs. */
static double needed(const double *part, int text)
{
    double lo = (int)part[TEXT_RANGE_LO_TEXT] == text ? part[TEXT_RANGE_LO_NEXT] : part[TEXT_RANGE_LO];
    double hi = (int)part[TEXT_RANGE_HI_TEXT] == text ? part[TEXT_RANGE_HI_NEXT] : part[TEXT_RANGE_HI];
    double all = width(part[TEXT_RANGE_LO], part[TEXT_RANGE_HI]);
    return (all - width(lo, hi)) / all;
}

/* Sums by text of what text_range tells of each linear, made anew from its parts. */
static void ranges_by_text_are_the_sums_over_linears(void **state)
{
    (void)state;
    Session *s = open_on(DEMO, "lab_calib/mix_calib.jsonl", false);
    assert_int_equal(table(s)->sums.ranged, 0);
    analyze(s, "text_range");
    const TextTable *t = table(s);
    assert_int_equal(t->sums.ranged, 56);
    assert_int_equal(t->sums.stale, 0);
    int64_t sets = 0;
    for (int i = 0; i < t->n; i++) {
        double factor[64], most = NAN;
        int64_t n = 0, widens = 0;
        double share = 0;
        for (int64_t k = 0; k < 56; k++) {
            const double *part = session_unit_parts(s, &metric_text_range, k);
            share += needed(part, i + 1) / 56;
            double f = text_range_factor(part, i + 1);
            if (!(f > 1))
                continue;
            int64_t at = n++;
            for (; at > 0 && factor[at - 1] > f; at--)
                factor[at] = factor[at - 1];
            factor[at] = f;
            widens += f >= TEXT_WIDE;
            most = fmax(most, f);
        }
        const TextRanges *r = &t->row[i].ranges;
        assert_int_equal(r->sets, n);
        assert_int_equal(r->widens, widens);
        assert_true(fabs(r->share - share) < 1e-12);
        assert_true(n ? r->most == most && r->middle == (factor[(n - 1) / 2] + factor[n / 2]) / 2 : isnan(r->most));
        sets += n;
        TextLinear *l;
        int64_t listed;
        ok(session_text_linears(s, i + 1, &l, &listed, &err));
        assert_int_equal(listed, n);
        for (int64_t k = 0; k < listed; k++) {
            assert_true(l[k].factor > 1 && (k == 0 || l[k].factor <= l[k - 1].factor));
            assert_true(l[k].lo_less >= l[k].lo && l[k].hi_less <= l[k].hi);
        }
        free(l);
    }
    assert_true(sets > 56);
    take(s, "4", true, 1);
    assert_int_equal(table(s)->sums.stale, 56);
    session_free(s);
}

/* Which text has most of a score that is a mean over texts, counted anew from its parts. */
static void scores_by_text_are_counted(void **state)
{
    (void)state;
    Session *s = open_on(DEMO, "lab_calib/mix_calib.jsonl", false);
    take(s, "2", true, 1); /* numbers of texts are not those of samples */
    assert_null(table(s)->row[0].ranges.worst_of);
    analyze(s, "attention_mse");
    const Metric *m = session_metric_find(s, "attention_mse");
    const TextTable *t = table(s);
    int64_t all = 0, units = scope_units(session_model(s), m->scope);
    for (int i = 0; i < t->n; i++) {
        const TextRanges *r = &t->row[i].ranges;
        int64_t most = 0;
        double share = 0;
        for (int64_t u = 0; u < units; u++) {
            const double *part = session_unit_parts(s, m, u);
            bool mine = i != 1 && (int)part[SAMPLE_MOST] == (i > 1 ? i - 1 : i);
            most += mine;
            share += mine ? part[SAMPLE_SHARE] / 100 : 0;
        }
        assert_string_equal(r->worst_of, "attention_mse");
        assert_int_equal(r->worst, most);
        assert_int_equal(r->units, units);
        assert_true(fabs(r->worst_share * (double)most - share) < 1e-9);
        all += most;
    }
    assert_int_equal(all, units);
    session_free(s);
}

/* Of the embedding's row `token`, channel 3 becomes `value`. */
static void spoil_embedding(const char *dir, int token, float value)
{
    Model *m = test_model_open(dir, NULL);
    size_t n;
    const TensorInfo *e = checkpoint_find(m->ckpt, "model.embed_tokens.weight");
    char path[100];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    char *bytes = temp_get(path, &n);
    memcpy(bytes + e->offset + (uint64_t)(token * e->shape[1] + 3) * sizeof value, &value, sizeof value);
    temp_put(path, bytes, n);
    free(bytes);
    model_free(m);
}

/* A token with one channel far above the others widens the ranges that its text sets. */
static void a_text_that_widens_many_ranges_is_flagged(void **state)
{
    (void)state;
    const RandomShape shape = {.model_type = "llama", .layers = 2, .heads = 2, .kv_heads = 1, .head_dim = 32, .hidden = 128,
                               .inter = 48, .vocab = 64, .dtype = DT_F32, .seed = 3};
    char dir[64];
    random_model_write(&shape, dir);
    spoil_embedding(dir, 25, 300); /* it comes in text 5 alone */
    Session *s = open_on(dir, temp_path(root, "texts.jsonl"), false);
    analyze(s, "text_range");
    const TextTable *t = table(s);
    assert_int_equal(t->sums.flagged, 1);
    assert_true(t->row[4].flag && t->row[4].ranges.widens >= 3 && t->row[4].ranges.most > 2);
    for (int i = 0; i < t->n; i++)
        assert_int_equal(t->row[i].flag, (double)t->row[i].ranges.widens >= TEXT_FLAG * (double)t->sums.ranged);
    take(s, "flagged", true, 1);
    assert_int_equal(table(s)->row[4].state, TEXT_OUT);
    analyze(s, "text_range");
    assert_int_equal(table(s)->row[4].ranges.sets, 0);
    assert_false(table(s)->row[4].flag);
    session_free(s);
    random_model_remove(dir);
}

static int numbers(Session *s, char *out, size_t size)
{
    const TextTable *t = table(s);
    int n = 0;
    out[0] = 0;
    for (int i = 0; i < t->shown; i++)
        n += snprintf(out + n, size - (size_t)n, "%s%d", i ? " " : "", t->row[t->order[i]].number);
    return t->shown;
}

static void order_and_filter(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *want;
        TextSort by;
        bool up;
    } cases[] = {
        {"", "1 2 3 4 5", TEXT_SORT_NUMBER, true},       {"", "5 4 3 2 1", TEXT_SORT_NUMBER, false},
        {"", "5 1 4 2 3", TEXT_SORT_TOKENS, false},      {"", "3 2 1 4 5", TEXT_SORT_TOKENS, true},
        {"tokens>6", "1 4 5", TEXT_SORT_NUMBER, true},   {"used !same", "1 5", TEXT_SORT_NUMBER, true},
        {"out", "2", TEXT_SORT_NUMBER, true},            {"!out tokens<9 used", "1 4", TEXT_SORT_NUMBER, true},
        {"file=TEXTS same", "4", TEXT_SORT_NUMBER, true}, {"file=other", "", TEXT_SORT_NUMBER, true},
    };
    Session *s = open_session(false);
    char got[64];
    take(s, "2", true, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool up;
        ok(session_texts_sort(s, cases[i].by, cases[i].up));
        ok(session_texts_filter(s, cases[i].filter, &err));
        numbers(s, got, sizeof got);
        assert_string_equal(got, cases[i].want);
        assert_int_equal(session_texts_sort_key(s, &up), cases[i].by);
        assert_int_equal(up, cases[i].up);
    }
    session_free(s);
    s = open_on(DEMO, "lab_calib/mix_calib.jsonl", false);
    ok(session_texts_filter(s, "script=han tokens>600", &err));
    numbers(s, got, sizeof got);
    assert_string_equal(got, "5 6 7 26 33");
    ok(session_texts_filter(s, "plum DUMPLINGS", &err)); /* both words */
    numbers(s, got, sizeof got);
    assert_string_equal(got, "20");
    ok(session_texts_filter(s, "script=Hangul", &err));
    assert_int_equal(numbers(s, got, sizeof got), 0);
    session_free(s);
}

static double measured_kl(const char *calib)
{
    Session *s = open_on(model, calib, false);
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    double kl = session_effect(s, NULL)->kl_mean;
    session_free(s);
    return kl;
}

static void loo(Session *s, const char *target, int want)
{
    int queued = -1;
    ok(session_texts_loo(s, &target, 1, false, &queued, &err));
    ok(session_wait(s, &err));
    assert_int_equal(queued, want);
}

static void loo_loss(Session *s, const char *target, int want)
{
    int queued = -1;
    ok(session_texts_loo_loss(s, &target, 1, &queued, &err));
    ok(session_wait(s, &err));
    assert_int_equal(queued, want);
}

/* Scoring without a text is scoring the set that hasn't got it, to the last bit; the session's scores stay what they are. */
static void losses_are_those_of_other_texts(void **state)
{
    (void)state;
    char id[40];
    static const char *const down = "*.down_proj";
    Session *s = open_session(true);
    const Metric *m = session_metric_find(s, "block_error");
    snprintf(id, sizeof id, "%s", session_id(s));
    ok(session_edit(s, &down, 1, 0, false, NULL, &err)); /* what is float adds nothing */
    assert_true(isnan(session_loss(s)));
    loo_loss(s, "5", 2); /* the set as it is, too */
    loo_loss(s, "2", 1);
    loo_loss(s, "5", 0); /* it is there */
    double with = session_loss(s), first = session_unit_score(s, m, 0).value, less[2];
    assert_true(isfinite(with) && session_unit_score(s, m, 0).state == SCORE_OK);
    assert_string_equal(title(s), "texts.jsonl");
    assert_int_equal(session_calib_info(s).tokens, 32);
    for (int i = 0; i < 2; i++)
        less[i] = session_calib_trial(s, i).loss;
    assert_true(isfinite(less[0]) && isfinite(less[1]) && less[0] != with && less[0] != less[1]);
    assert_true(table(s)->row[4].loss == 1 - less[0] / with && table(s)->row[1].loss == 1 - less[1] / with);
    assert_true(isnan(table(s)->row[0].loss));
    session_free(s);
    SessionOptions o;
    session_options_default(&o);
    o.threads = 2;
    o.state_dir = root;
    ok(session_restore(&s, &o, id, &err));
    m = session_metric_find(s, "block_error");
    assert_true(session_loss(s) == with && session_unit_score(s, m, 0).value == first);
    assert_true(session_calib_trial(s, 0).loss == less[0] && session_calib_trial(s, 1).loss == less[1]);
    loo_loss(s, "5", 0); /* nor run again by it */
    take(s, "5", true, 1);
    assert_true(isnan(session_calib_trial(s, 0).loss)); /* of a set that is not open */
    analyze(s, "block_error");
    assert_true(session_loss(s) == less[0]);
    take(s, "5", false, 1);
    ok(session_undo(s, NULL, &err));
    ok(session_undo(s, NULL, &err));
    ok(session_undo(s, NULL, &err)); /* the edit: other levels, another sum */
    assert_true(isnan(session_calib_trial(s, 0).loss));
    session_free(s);
}

/* Leaving a text out is measuring with a file that hasn't got it, to the last bit; other sets likewise. */
static void trials_are_measurements_on_other_texts(void **state)
{
    (void)state;
    static const char without[][200] = {"{\"input_ids\":[9,8,7,6,5,4]}\n{\"input_ids\":[1,2,3,4,5,6,7,8]}\n"
                                        "{\"input_ids\":[20,21,22,23,24,25,26,27,28,29]}\n",
                                        "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n{\"input_ids\":[9,8,7,6,5,4]}\n"
                                        "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n"};
    char id[40];
    int queued;
    Session *s = open_session(true);
    snprintf(id, sizeof id, "%s", session_id(s));
    loo(s, "1", 2); /* the set as it is, too */
    loo(s, "5", 1);
    loo(s, "5", 0); /* it is there */
    const char *other = temp_path(root, "more.jsonl");
    ok(session_calib_compare(s, &other, 1, false, &queued, &err));
    ok(session_wait(s, &err));
    assert_int_equal(queued, 1);
    assert_int_equal(session_calib_trials(s), 3);
    assert_string_equal(title(s), "texts.jsonl"); /* nothing has changed */
    assert_int_equal(session_calib_info(s).tokens, 32);
    assert_int_equal(session_undo_depth(s), 0);
    double base = session_effect(s, NULL)->kl_mean, kl[3];
    for (int i = 0; i < 3; i++) {
        CalibTrial t = session_calib_trial(s, i);
        assert_non_null(t.effect);
        kl[i] = t.effect->kl_mean;
        assert_int_equal(t.paired.state, PAIR_OK);
        assert_true(fabs(t.paired.kl - (kl[i] - base)) < 1e-12);
        assert_int_equal(t.made->calib.tokens, i == 0 ? 24 : i == 1 ? 22 : 7);
    }
    assert_true(table(s)->row[4].loo == session_calib_trial(s, 1).paired.kl);
    assert_true(isnan(table(s)->row[1].loo));
    assert_true(base == measured_kl(temp_path(root, "texts.jsonl")));
    for (int i = 0; i < 2; i++) {
        temp_puts(temp_path(root, "less.jsonl"), without[i]);
        assert_true(kl[i] == measured_kl(temp_path(root, "less.jsonl")));
        assert_true((kl[i] == base) == (i == 0)); /* text 4 is the same as text 1 */
    }
    assert_true(kl[2] == measured_kl(temp_path(root, "more.jsonl")));
    Measurement m;
    Paired p;
    assert_false(session_rival(s, RIVAL_PREVIOUS, &m, &p)); /* a trial is not what was measured before */
    session_free(s);
    SessionOptions o;
    session_options_default(&o);
    o.threads = 1;
    o.state_dir = root;
    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(session_calib_trials(s), 3);
    for (int i = 0; i < 3; i++)
        assert_true(session_calib_trial(s, i).effect->kl_mean == kl[i]);
    loo(s, "1", 0); /* what was measured is not run again */
    loo(s, "2", 1);
    take(s, "5", true, 1); /* what was measured without it stands for the set now */
    assert_true(session_effect(s, NULL)->kl_mean == kl[1]);
    assert_false(session_calib_trial(s, 1).applies);
    session_free(s);
}

static void trials_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *target, *text;
    } bad[] = {{"3", "text 3 is not used (no token)"}, {"9", "there is no text 9"}, {"flagged", "no text is flagged"}};
    int queued;
    Session *s = open_session(false);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_not_equal(session_texts_loo(s, &bad[i].target, 1, false, &queued, &err), ST_OK);
        assert_non_null(strstr(err.text, bad[i].text));
    }
    assert_int_equal(session_texts_loo(s, NULL, 0, false, &queued, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "analyze text_range"));
    const char *sets[] = {temp_path(root, "more.jsonl"), "nowhere.jsonl"};
    assert_int_not_equal(session_calib_compare(s, sets, 2, false, &queued, &err), ST_OK);
    assert_int_equal(session_jobs(s), 0);
    analyze(s, "text_range");
    ok(session_texts_loo(s, NULL, 0, false, &queued, &err));
    ok(session_wait(s, &err));
    assert_true(queued >= 2 && session_calib_trials(s) == queued - 1);
    session_free(s);
}

static void texts_are_read_beside_a_job(void **state)
{
    (void)state;
    Session *s = open_on(DEMO, "lab_calib/mix_calib.jsonl", false);
    const char *why;
    assert_null(session_texts(s, &why));
    assert_string_equal(why, "");
    session_texts_begin(s);
    session_texts_begin(s); /* the same one */
    unsigned kinds = 0;
    while (session_texts_reading(s))
        kinds |= session_pump(s);
    assert_true(kinds & EV_TEXTS);
    assert_non_null(session_texts(s, NULL));
    ok(session_set_calib(s, temp_path(root, "more.jsonl"), &err));
    session_texts_begin(s);
    session_free(s); /* while it reads */
    s = open_on(DEMO, temp_path(root, "more.jsonl"), false);
    temp_puts(temp_path(root, "more.jsonl"), "[1]\n");
    assert_int_equal(session_texts_wait(s, &err), ST_DATA);
    assert_null(session_texts(s, &why));
    assert_non_null(strstr(why, "more.jsonl"));
    temp_puts(temp_path(root, "more.jsonl"), more);
    session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_what_the_file_has),
        cmocka_unit_test(a_text_that_is_out_is_in_no_output),
        cmocka_unit_test(taking_a_text_back_brings_its_scores_back),
        cmocka_unit_test(a_saved_set_is_the_same_set),
        cmocka_unit_test(targets_that_select_nothing_are_refused),
        cmocka_unit_test(changes_are_of_their_set),
        cmocka_unit_test(a_session_that_is_gone_on_with_has_them),
        cmocka_unit_test(data_stays_as_it_is_while_a_job_runs),
        cmocka_unit_test(ranges_by_text_are_the_sums_over_linears),
        cmocka_unit_test(scores_by_text_are_counted),
        cmocka_unit_test(a_text_that_widens_many_ranges_is_flagged),
        cmocka_unit_test(order_and_filter),
        cmocka_unit_test(losses_are_those_of_other_texts),
        cmocka_unit_test(trials_are_measurements_on_other_texts),
        cmocka_unit_test(trials_that_make_no_sense_are_refused),
        cmocka_unit_test(texts_are_read_beside_a_job),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
