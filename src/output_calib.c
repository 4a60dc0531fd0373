/* The texts of the calibration set as text, JSON and CSV. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "session/calibset.h"
#include "src/output.h"
#include "text/csv.h"

enum { WORDS_SHOWN = 48, LAYERS_SHOWN = 12 };

/* The beginning of a text on one line, of at most so many bytes. */
static void put_words(const TextRow *row, size_t most, Str *out)
{
    if (!row->text) {
        str_puts(out, "(token ids)");
        return;
    }
    size_t n = row->len < most ? row->len : most;
    while (n > 0 && n < row->len && ((unsigned char)row->text[n] & 0xc0) == 0x80)
        n--;
    char *copy = malloc(n + 1);
    if (!copy) {
        out->oom = true;
        return;
    }
    memcpy(copy, row->text, n);
    str_append(out, copy, text_fit_terminal(copy, n, false));
    str_puts(out, n < row->len ? "..." : "");
    free(copy);
}

/* "Latin 62 %, Han 20 %": what is at least one in a hundred, the most first. */
static void put_scripts(const double share[SCRIPTS], Str *out)
{
    bool told[SCRIPTS] = {false};
    for (int n = 0; n < SCRIPTS; n++) {
        int most = -1;
        for (int k = 0; k < SCRIPTS; k++)
            most = !told[k] && share[k] >= 0.01 && (most < 0 || share[k] > share[most]) ? k : most;
        if (most < 0)
            break;
        told[most] = true;
        str_printf(out, "%s%s %.0f %%", n ? ", " : "", script_name((Script)most), 100 * share[most]);
    }
}

static void put_counts(const TextSums *s, Str *out)
{
    const struct {
        int n;
        const char *what;
    } kinds[] = {{s->out, "taken out"}, {s->cut, "cut to --seq-len"}, {s->empty, "without a token"},
                 {s->beyond, "beyond --max-samples"}, {s->same, "the same as another"}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        if (kinds[k].n)
            str_printf(out, ", %d %s", kinds[k].n, kinds[k].what);
}

static void head_text(Session *s, const TextTable *t, Str *out)
{
    const TextSums *c = &t->sums;
    str_printf(out, "calibration  %s: %d of %d texts used", session_calib_title(s), c->used, c->texts);
    put_counts(c, out);
    str_printf(out, "\ntokens       %lld; of a text %lld to %lld, median %lld\ncharacters   ", (long long)c->tokens,
               (long long)c->shortest, (long long)c->longest, (long long)c->middle);
    put_scripts(c->script, out);
    if (c->eval_tokens) {
        str_puts(out, "; evaluation set ");
        put_scripts(c->eval_script, out);
    }
    str_printf(out, "\nvocabulary   %lld of %lld tokens are seen", (long long)c->distinct, (long long)c->vocab);
    if (c->eval_tokens)
        str_printf(out, "; they make %.1f %% of the evaluation set", 100 * (double)c->eval_seen / (double)c->eval_tokens);
    if (c->ranged)
        str_printf(out, "\nranges       of %lld linears, %d text%s flagged (!): alone they make at least %.0f %% of the ranges "
                        "%.2gx wider%s\n",
                   (long long)c->ranged, c->flagged, c->flagged == 1 ? "" : "s", 100 * TEXT_FLAG, TEXT_WIDE,
                   c->stale ? "; stale: of other texts or settings" : "");
    else
        str_puts(out, "\nranges       not known: analyze text_range tells which text sets which range\n");
}

static char state_sign(const TextRow *row)
{
    static const char sign[TEXT_STATES] = {[TEXT_USED] = ' ', [TEXT_CUT] = 'c', [TEXT_OUT] = 'X', [TEXT_EMPTY] = '-',
                                           [TEXT_BEYOND] = '-'};
    return sign[row->state];
}

static void put_factor(double v, Str *out)
{
    if (isnan(v))
        str_printf(out, "%8s", "");
    else
        str_printf(out, v < 100 ? " %6.2fx" : " %6.0fx", v);
}

static void row_text(const TextRow *row, bool loo, Str *out)
{
    str_printf(out, "%4d %c%c %8lld  %-8s %6lld %6lld", row->number, row->flag ? '!' : row->tagged ? '*' : ' ', state_sign(row),
               (long long)row->tokens, script_name(text_script(row)), (long long)row->ranges.sets,
               (long long)row->ranges.widens);
    put_factor(row->ranges.middle, out);
    put_factor(row->ranges.most, out);
    if (row->ranges.share > 0)
        str_printf(out, " %6.2f%%", 100 * row->ranges.share);
    else
        str_printf(out, "%8s", "");
    if (loo && isnan(row->loo))
        str_printf(out, "%20s", "");
    else if (loo)
        str_printf(out, "  %+9.2e+-%.1e", row->loo, row->loo_se);
    str_puts(out, "  ");
    if (row->same_as)
        str_printf(out, "(as %d) ", row->same_as);
    put_words(row, WORDS_SHOWN, out);
    str_putc(out, '\n');
}

static void texts_text(Session *s, const TextTable *t, Str *out)
{
    bool loo = false;
    for (int i = 0; i < t->n; i++)
        loo = loo || !isnan(t->row[i].loo);
    bool up;
    TextSort by = session_texts_sort_key(s, &up);
    head_text(s, t, out);
    if (*session_texts_filter_text(s))
        str_printf(out, "filter       '%s': %d of %d texts\n", session_texts_filter_text(s), t->shown, t->n);
    if (by != TEXT_SORT_NUMBER || !up)
        str_printf(out, "sorted       by %s, %s\n", text_sort_name(by), up ? "rising" : "falling");
    str_printf(out, "   # S    tokens  script     sets >=%.2gx  median    most   share%s  text\n", TEXT_WIDE,
               loo ? "    KL change without" : "");
    for (int i = 0; i < t->shown; i++)
        row_text(&t->row[t->order[i]], loo, out);
}

static void number_json(Str *out, const char *name, double v)
{
    str_printf(out, ",\"%s\":", name);
    str_double(out, v);
}

static void scripts_json(const double share[SCRIPTS], Str *out)
{
    for (int k = 0, n = 0; k < SCRIPTS; k++)
        if (share[k] > 0)
            str_printf(out, "%s\"%s\":%.6g", n++ ? "," : "", script_name((Script)k), share[k]);
}

static void row_json(const TextRow *row, Str *out)
{
    str_printf(out, "{\"number\":%d,\"state\":\"%s\",\"tokens\":%lld,\"used\":%lld,\"distinct\":%d,\"same_as\":%d,\"file\":",
               row->number, text_state_name(row->state), (long long)row->tokens, (long long)row->used, row->distinct,
               row->same_as);
    str_json(out, row->file);
    str_printf(out, ",\"line\":%d,\"characters\":{", row->line);
    scripts_json(row->script, out);
    str_printf(out, "},\"flagged\":%s,\"ranges\":{\"sets\":%lld,\"widens\":%lld,\"sole\":%lld", row->flag ? "true" : "false",
               (long long)row->ranges.sets, (long long)row->ranges.widens, (long long)row->ranges.sole);
    number_json(out, "median", row->ranges.middle);
    number_json(out, "most", row->ranges.most);
    number_json(out, "share", row->ranges.share);
    if (row->ranges.worst_of) {
        str_printf(out, "},\"scores\":{\"metric\":\"%s\",\"units\":%lld,\"most_of\":%lld", row->ranges.worst_of,
                   (long long)row->ranges.units, (long long)row->ranges.worst);
        number_json(out, "share", row->ranges.worst_share);
    }
    str_puts(out, "},\"loo\":");
    str_double(out, row->loo);
    number_json(out, "loo_se", row->loo_se);
    number_json(out, "loss_share", row->loss);
    str_puts(out, ",\"text\":");
    if (row->text)
        str_json(out, row->text);
    else
        str_puts(out, "null");
    str_putc(out, '}');
}

static void texts_json(Session *s, const TextTable *t, Str *out)
{
    const TextSums *c = &t->sums;
    str_puts(out, "{\"calibration\":");
    str_json(out, session_calib_title(s));
    str_printf(out, ",\"texts\":%d,\"used\":%d,\"out\":%d,\"cut\":%d,\"empty\":%d,\"beyond\":%d,\"same\":%d,\"tokens\":%lld,"
                    "\"characters\":{",
               c->texts, c->used, c->out, c->cut, c->empty, c->beyond, c->same, (long long)c->tokens);
    scripts_json(c->script, out);
    str_puts(out, "},\"evaluation_characters\":{");
    scripts_json(c->eval_script, out);
    str_printf(out, "},\"distinct\":%lld,\"vocabulary\":%lld,\"evaluation_tokens\":%lld,\"evaluation_seen\":%lld,\"linears\":%lld,"
                    "\"stale\":%lld,\"flagged\":%d,\"rows\":[",
               (long long)c->distinct, (long long)c->vocab, (long long)c->eval_tokens, (long long)c->eval_seen,
               (long long)c->ranged, (long long)c->stale, c->flagged);
    for (int i = 0; i < t->shown; i++) {
        str_puts(out, i ? ",\n" : "\n");
        row_json(&t->row[t->order[i]], out);
    }
    str_puts(out, "]}\n");
}

static void texts_csv(const TextTable *t, Str *out)
{
    str_puts(out, "number,state,tokens,used,distinct,same_as,script,flagged,sets,widens,median,most,share,loo,loo_se,file,line,text\n");
    for (int i = 0; i < t->shown; i++) {
        const TextRow *r = &t->row[t->order[i]];
        const double value[] = {r->ranges.middle, r->ranges.most, r->ranges.share, r->loo, r->loo_se};
        str_printf(out, "%d,%s,%lld,%lld,%d,%d,%s,%d,%lld,%lld", r->number, text_state_name(r->state), (long long)r->tokens,
                   (long long)r->used, r->distinct, r->same_as, script_name(text_script(r)), r->flag,
                   (long long)r->ranges.sets, (long long)r->ranges.widens);
        for (int k = 0; k < 5; k++) {
            str_putc(out, ',');
            if (!isnan(value[k]))
                str_double(out, value[k]);
        }
        str_putc(out, ',');
        csv_field(out, r->file);
        str_printf(out, ",%d,", r->line);
        csv_field(out, r->text ? r->text : "");
        str_putc(out, '\n');
    }
}

Status output_texts(Session *s, OutFormat f, Str *out, Error *err)
{
    const char *why;
    const TextTable *t = session_texts(s, &why);
    if (!t)
        return error_set(err, ST_DATA, "%s", why);
    if (f == OUT_JSON)
        texts_json(s, t, out);
    else if (f == OUT_CSV)
        texts_csv(t, out);
    else
        texts_text(s, t, out);
    return out->oom ? error_nomem(err, "the texts") : ST_OK;
}

/* ---- one text ---- */

static void put_layers(Session *s, const TextLinear *l, int64_t n, Str *out)
{
    for (int64_t i = 0; i < n && i < LAYERS_SHOWN; i++) {
        str_printf(out, "  %-46s %10.4g .. %-10.4g", session_model(s)->linears[l[i].linear].name, l[i].lo, l[i].hi);
        if (isnan(l[i].factor))
            str_puts(out, " no other text reaches it\n");
        else
            str_printf(out, " without it %10.4g .. %-10.4g %.2fx\n", l[i].lo_less, l[i].hi_less, l[i].factor);
    }
    if (n > LAYERS_SHOWN)
        str_printf(out, "  and %lld more\n", (long long)(n - LAYERS_SHOWN));
}

static Status put_ranges(Session *s, const TextTable *t, const TextRow *row, Str *out, Error *err)
{
    TextLinear *l;
    int64_t n;
    const TextRanges *r = &row->ranges;
    if (!t->sums.ranged) {
        str_puts(out, "ranges      not known: analyze text_range tells which it sets\n");
        return ST_OK;
    }
    RETURN_IF_ERROR(session_text_linears(s, row->number, &l, &n, err));
    str_printf(out, "ranges      alone it sets those of %lld of %lld linears", (long long)r->sets, (long long)t->sums.ranged);
    if (r->sets)
        str_printf(out, ", by %.2fx in the median, %.2fx at most; %lld by %.2gx or more", r->middle, r->most,
                   (long long)r->widens, TEXT_WIDE);
    if (r->sole)
        str_printf(out, "; %lld linears of experts only it reaches", (long long)r->sole);
    str_puts(out, t->sums.stale ? " (stale)\n" : "\n");
    if (row->flag)
        str_printf(out, "flagged     it makes at least %.0f %% of the ranges %.2gx wider: calib loo %d measures what that costs\n",
                   100 * TEXT_FLAG, TEXT_WIDE, row->number);
    put_layers(s, l, n, out);
    free(l);
    return ST_OK;
}

Status output_text(Session *s, int64_t number, Str *out, Error *err)
{
    const char *why;
    const TextTable *t = session_texts(s, &why);
    if (!t)
        return error_set(err, ST_DATA, "%s", why);
    if (number < 1 || number > t->n)
        return error_set(err, ST_DATA, "there is no text %lld: they are numbered from 1 to %d", (long long)number, t->n);
    const TextRow *row = &t->row[number - 1];
    str_printf(out, "text %d      %s, %s:%d\ntokens      %lld", row->number, text_state_name(row->state), row->file, row->line,
               (long long)row->tokens);
    if (row->state == TEXT_CUT)
        str_printf(out, ", the first %lld are used", (long long)row->used);
    str_printf(out, ", %d different\ncharacters  ", row->distinct);
    put_scripts(row->script, out);
    str_putc(out, '\n');
    if (row->same_as)
        str_printf(out, "same        as text %d\n", row->same_as);
    if (!isnan(row->loo))
        str_printf(out, "left out    KL %+.3e +- %.1e\n", row->loo, row->loo_se);
    RETURN_IF_ERROR(put_ranges(s, t, row, out, err));
    str_putc(out, '\n');
    if (row->text) {
        char *copy = malloc(row->len + 1);
        if (!copy)
            return error_nomem(err, "the text");
        memcpy(copy, row->text, row->len);
        str_append(out, copy, text_fit_terminal(copy, row->len, true));
        free(copy);
    }
    int64_t n;
    const int32_t *ids = session_text_ids(s, row->number, &n);
    Str pieces = {0};
    session_text_tokens(s, row->number, &pieces);
    str_puts(out, "\n\nits tokens, | between them:\n");
    str_append(out, str_text(&pieces), pieces.s ? text_fit_terminal(pieces.s, pieces.len, true) : 0);
    str_free(&pieces);
    str_puts(out, "\n\ntheir numbers:");
    for (int64_t k = 0; k < n; k++)
        str_printf(out, " %d", (int)ids[k]);
    str_putc(out, '\n');
    return out->oom ? error_nomem(err, "the text") : ST_OK;
}

/* ---- other texts ---- */

static void trial_name(const CalibTrial *t, char *out, size_t size)
{
    if (t->number)
        snprintf(out, size, "without text %d", t->number);
    else
        snprintf(out, size, "%s", path_base(t->name));
}

static void put_effect(const char *name, const DataPrint *d, const Effect *e, Str *out)
{
    str_printf(out, "%-24s %6d %8lld %10.4g %8.2g %10.4g", name, d->samples, (long long)d->tokens, e->kl_mean, e->kl_se,
               e->ppl_quant);
}

static void trial_text(const CalibTrial *t, Str *out)
{
    char name[80];
    trial_name(t, name, sizeof name);
    if (!t->effect && isfinite(t->loss))
        return;
    if (!t->effect) {
        str_printf(out, "%-24s %s\n", name, t->applies ? "not measured under the present decision" : "of another set, or out");
        return;
    }
    put_effect(name, &t->made->calib, t->effect, out);
    if (t->paired.state == PAIR_OK)
        str_printf(out, "  %+10.2e +- %-8.1e %s", t->paired.kl, t->paired.kl_se,
                   verdict_word(verdict_of(t->paired.kl, t->paired.kl_se)));
    else
        str_printf(out, "  %s", pair_why(t->paired.state));
    str_putc(out, '\n');
}

/* What block_error adds up to without a text, beside what it does with all of them. */
static void losses_text(Session *s, Str *out)
{
    double now = session_loss(s);
    bool head = false;
    for (int i = 0; i < session_calib_trials(s); i++) {
        CalibTrial t = session_calib_trial(s, i);
        char name[80];
        if (!isfinite(t.loss))
            continue;
        if (!head)
            str_printf(out, "\nblock_error, summed over what is quantized: %.6g with all texts; a text's share is 1 less the sum without it "
                            "over that\n", now);
        head = true;
        trial_name(&t, name, sizeof name);
        str_printf(out, "%-24s %12.6g  share %+.2f %%\n", name, t.loss, 100 * (1 - t.loss / now));
    }
}

static void trials_text(Session *s, const Measurement *now, Str *out)
{
    str_printf(out, "%-24s %6s %8s %10s %8s %10s  %24s\n", "calibration", "texts", "tokens", "KL", "+-", "perplexity",
               "KL change, verdict");
    if (now)
        put_effect("as it is", &now->made->calib, now->effect, out);
    if (now)
        str_puts(out, "\n");
    for (int i = 0; i < session_calib_trials(s); i++) {
        CalibTrial t = session_calib_trial(s, i);
        trial_text(&t, out);
    }
    losses_text(s, out);
    const TextTable *texts = session_texts(s, NULL);
    if (texts && texts->sums.beyond)
        str_puts(out, "in the place of a text that is left out comes the first beyond --max-samples\n");
    if (now && now->effect && !now->effect->whole)
        str_printf(out, "over %lld tokens of the evaluation set; --full takes all of it\n", (long long)now->effect->tokens);
}

static void effect_json(const DataPrint *d, const Effect *e, Str *out)
{
    str_printf(out, "\"texts\":%d,\"tokens\":%lld", d->samples, (long long)d->tokens);
    number_json(out, "kl", e->kl_mean);
    number_json(out, "kl_se", e->kl_se);
    number_json(out, "perplexity", e->ppl_quant);
}

static void trials_json(Session *s, const Measurement *now, Str *out)
{
    str_puts(out, "{\"calibration\":");
    str_json(out, session_calib_title(s));
    str_puts(out, ",\"present\":");
    str_puts(out, now ? "{" : "null");
    if (now) {
        effect_json(&now->made->calib, now->effect, out);
        str_putc(out, '}');
    }
    str_puts(out, ",\"trials\":[");
    for (int i = 0; i < session_calib_trials(s); i++) {
        CalibTrial t = session_calib_trial(s, i);
        str_printf(out, "%s{\"without\":%d,\"set\":", i ? ",\n" : "\n", t.number);
        if (t.name)
            str_json(out, t.name);
        else
            str_puts(out, "null");
        str_printf(out, ",\"measured\":%s", t.effect ? "true," : "false");
        if (isfinite(t.loss)) {
            str_puts(out, t.effect ? "" : ",");
            str_puts(out, "\"block_error\":");
            str_double(out, t.loss);
            str_puts(out, t.effect ? "," : "");
        }
        if (t.effect) {
            effect_json(&t.made->calib, t.effect, out);
            str_puts(out, ",\"difference\":");
            output_paired_json(&t.paired, out);
        }
        str_putc(out, '}');
    }
    str_puts(out, "]}\n");
}

Status output_trials(Session *s, OutFormat f, Str *out, Error *err)
{
    int i;
    Measurement m;
    const Measurement *now = NULL;
    if (!session_calib_trials(s))
        return error_set(err, ST_USAGE, "nothing was tried yet: calib loo N..., or calib compare FILE...");
    if (session_measurement_find(s, "present", &i, NULL) == ST_OK) {
        m = session_measurement(s, i);
        now = &m;
    }
    if (f == OUT_JSON)
        trials_json(s, now, out);
    else
        trials_text(s, now, out);
    return out->oom ? error_nomem(err, "the report") : ST_OK;
}
