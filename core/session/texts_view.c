/* The texts as a person looks at them: what each is, what it does to ranges, sums, order, filter, tags. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "base/num.h"
#include "io/file.h"
#include "metric/metric.h"
#include "metric/sampleparts.h"
#include "metric/textrange.h"
#include "metric/watch.h"
#include "recipe/pattern.h"
#include "session/assignment.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/texts.h"
#include "text/unicode.h"

typedef struct TextsView {
    TextTable table;
    TextRow *row;
    int *order;
    uint64_t version, results, levels; /* Texts', the results' and the levels' version of which it is */
    char base[128];
    const Metric *metric; /* that was shown */
    int max_samples;
    int64_t seq_len;
} TextsView;

void texts_view_free(TextsView *v)
{
    if (!v)
        return;
    free(v->row);
    free(v->order);
    free(v);
}

const char *text_state_name(TextState k)
{
    static const char *const names[] = {[TEXT_USED] = "used", [TEXT_CUT] = "cut to --seq-len", [TEXT_OUT] = "taken out",
                                        [TEXT_EMPTY] = "no token", [TEXT_BEYOND] = "beyond --max-samples"};
    return names[k];
}

static const char *const sort_names[TEXT_SORTS] = {
    [TEXT_SORT_NUMBER] = "number", [TEXT_SORT_TOKENS] = "tokens", [TEXT_SORT_SETS] = "sets",     [TEXT_SORT_FACTOR] = "factor",
    [TEXT_SORT_SHARE] = "share",   [TEXT_SORT_LOO] = "loo",       [TEXT_SORT_SCRIPT] = "script", [TEXT_SORT_TEXT] = "text",     [TEXT_SORT_STATE] = "state"};

const char *text_sort_name(TextSort k)
{
    return sort_names[k];
}

int text_sort_find(const char *name)
{
    for (int k = 0; k < TEXT_SORTS; k++)
        if (strcmp(sort_names[k], name) == 0)
            return k;
    return -1;
}

/* What was read of the set as it is, NULL: nothing. */
static const TextsRead *read_now(Session *s)
{
    Texts *t = s->texts;
    return t->read && t->read->error.status == ST_OK && !t->reader ? t->read : NULL;
}

/* ---- ranges ---- */

/* Factors of the linears whose range texts set, by text. */
typedef struct Factors {
    int32_t *text;
    double *factor;
    size_t n, cap, cap_factor;
} Factors;

static void add_factor(Factors *f, int text, double factor)
{
    if (!mem_grow(&f->text, &f->cap, f->n + 1, sizeof *f->text) ||
        !mem_grow(&f->factor, &f->cap_factor, f->n + 1, sizeof *f->factor))
        return; /* counts that are short by what there was no memory for */
    f->text[f->n] = text;
    f->factor[f->n++] = factor;
}

/* One linear's part in what its texts do. */
static void add_linear(TextRow *row, int n, const double *part, Factors *f)
{
    const int end[] = {(int)part[TEXT_RANGE_LO_TEXT], (int)part[TEXT_RANGE_HI_TEXT]};
    for (int k = 0; k < 2; k++) {
        if (end[k] < 1 || end[k] > n || (k == 1 && end[1] == end[0]))
            continue;
        double factor = text_range_factor(part, end[k]);
        TextRanges *r = &row[end[k] - 1].ranges;
        if (!(factor > 1))
            continue;
        r->sets++;
        r->share += 1 - 1 / factor;
        r->widens += factor >= TEXT_WIDE;
        r->most = fmax(r->most, factor); /* fmax: not the NaN that it begins as */
        add_factor(f, end[k], factor);
    }
}

static int compare_text(const void *a, const void *b)
{
    const struct {
        int32_t text;
        double factor;
    } *x = a, *y = b;
    if (x->text != y->text)
        return x->text < y->text ? -1 : 1;
    return (x->factor > y->factor) - (x->factor < y->factor);
}

static void put_middles(TextRow *row, const Factors *f)
{
    struct {
        int32_t text;
        double factor;
    } *list = mem_array(f->n + 1, sizeof *list);
    if (!list)
        return;
    for (size_t i = 0; i < f->n; i++) {
        list[i].text = f->text[i];
        list[i].factor = f->factor[i];
    }
    qsort(list, f->n, sizeof *list, compare_text);
    for (size_t i = 0, end; i < f->n; i = end) {
        for (end = i; end < f->n && list[end].text == list[i].text; end++)
            ;
        size_t n = end - i;
        row[list[i].text - 1].ranges.middle = (list[i + (n - 1) / 2].factor + list[i + n / 2].factor) / 2;
    }
    free(list);
}

static void put_ranges(Session *s, TextRow *row, int n, TextSums *sums)
{
    Factors f = {0};
    sums->linears = s->model->nlinears;
    for (int64_t i = 0; i < s->model->nlinears; i++) {
        const double *part = session_unit_parts(s, &metric_text_range, i);
        if (!part)
            continue;
        sums->stale += metric_stale(&metric_text_range, &s->results->scores, i);
        if (part[TEXT_RANGE_TEXTS] == 1 && part[TEXT_RANGE_TEXT] >= 1 && part[TEXT_RANGE_TEXT] <= n)
            row[(int)part[TEXT_RANGE_TEXT] - 1].ranges.sole++;
        if (!isfinite(part[TEXT_RANGE_LO_NEXT]))
            continue;
        sums->ranged++;
        add_linear(row, n, part, &f);
    }
    put_middles(row, &f);
    free(f.text);
    free(f.factor);
    for (int i = 0; i < n; i++) {
        row[i].ranges.share /= sums->ranged > 0 ? (double)sums->ranged : 1;
        row[i].flag = sums->ranged > 0 && (double)row[i].ranges.widens >= TEXT_FLAG * (double)sums->ranged;
        sums->flagged += row[i].flag;
    }
}

/* ---- scores that are means over texts ---- */

static bool by_texts(const Session *s, const Metric *m)
{
    return m && m->parts == sample_parts && session_has_run(s, m);
}

/* Which text has most of a score, in how many of the metric's units: numbers of samples are those of the used texts. */
static void put_worst(Session *s, TextRow *row, int n)
{
    const Metric *m = by_texts(s, session_metric(s)) ? session_metric(s) : NULL;
    int *used = mem_array((size_t)n + 1, sizeof *used), nused = 0;
    int64_t units = 0;
    for (int i = 0; used && i < n; i++)
        if (row[i].used)
            used[nused++] = i;
    for (const Metric *const *k = metric_table; !m && *k; k++)
        m = by_texts(s, *k) ? *k : NULL;
    for (int64_t u = 0; m && u < scope_units(s->model, m->scope); u++) {
        const double *part = session_unit_score(s, m, u).state == SCORE_OK ? session_unit_parts(s, m, u) : NULL;
        if (!part || !(part[SAMPLE_SHARE] > 0) || !(part[SAMPLE_MOST] < nused))
            continue;
        TextRanges *r = &row[used[(int)part[SAMPLE_MOST]]].ranges;
        r->worst++;
        r->worst_share += part[SAMPLE_SHARE] / 100;
        units++;
    }
    for (int i = 0; i < n; i++) {
        TextRanges *r = &row[i].ranges;
        r->worst_of = units ? m->name : NULL;
        r->units = units;
        r->worst_share /= r->worst ? (double)r->worst : 1;
    }
    free(used);
}

/* ---- rows and sums ---- */

static TextState state_of(const Session *s, int64_t tokens, bool out, int used)
{
    if (out)
        return TEXT_OUT;
    if (tokens == 0)
        return TEXT_EMPTY;
    if (s->opt.max_samples > 0 && used >= s->opt.max_samples)
        return TEXT_BEYOND;
    return s->opt.seq_len > 0 && tokens > s->opt.seq_len ? TEXT_CUT : TEXT_USED;
}

static void put_row(const TextsRead *r, int i, TextRow *row)
{
    const struct CalibItem *from = &r->file->items[i];
    const TextItem *item = &r->item[i];
    int64_t all = 0;
    *row = (TextRow){.number = i + 1, .text = from->text, .len = from->len, .file = path_base(from->from), .line = from->line,
                     .tokens = item->nids, .distinct = item->distinct, .same_as = item->same_as, .loss = NAN, .loo = NAN, .loo_se = NAN};
    row->ranges.middle = row->ranges.most = NAN;
    for (int k = 0; k < SCRIPTS; k++)
        all += item->script[k];
    for (int k = 0; k < SCRIPTS && all; k++)
        row->script[k] = (double)item->script[k] / (double)all;
}

static void put_rows(Session *s, const TextsRead *r, TextRow *row)
{
    const TextsChange *c = texts_now(s);
    const Texts *t = s->texts;
    int used = 0, at = 0;
    for (int i = 0; i < r->file->count; i++) {
        while (c && at < c->nout && c->out[at] < i + 1)
            at++;
        put_row(r, i, &row[i]);
        row[i].tagged = i < t->ntagged && t->tagged[i];
        row[i].state = state_of(s, row[i].tokens, c && at < c->nout && c->out[at] == i + 1, used);
        bool in = row[i].state == TEXT_USED || row[i].state == TEXT_CUT;
        row[i].used = row[i].state == TEXT_CUT ? s->opt.seq_len : in ? row[i].tokens : 0;
        used += in;
    }
}

static int compare_lengths(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void shares(const int64_t count[SCRIPTS], double out[SCRIPTS])
{
    int64_t all = 0;
    for (int k = 0; k < SCRIPTS; k++)
        all += count[k];
    for (int k = 0; k < SCRIPTS; k++)
        out[k] = all ? (double)count[k] / (double)all : 0;
}

static void put_lengths(int64_t *len, int n, TextTable *t)
{
    qsort(len, (size_t)n, sizeof *len, compare_lengths);
    t->sums.shortest = n ? len[0] : 0;
    t->sums.longest = n ? len[n - 1] : 0;
    t->sums.middle = n ? len[n / 2] : 0;
    t->lengths.width = div_up(t->sums.longest + 1, TEXT_BINS);
    t->lengths.n = n ? (int)(t->sums.longest / t->lengths.width) + 1 : 0;
    for (int i = 0; i < n; i++)
        t->lengths.count[len[i] / t->lengths.width]++;
}

/* Different tokens of the used texts, and how much of the evaluation set's they are. */
static void put_tokens(const TextsRead *r, const TextRow *row, TextSums *sums)
{
    bool *seen = mem_zarray((size_t)r->vocab + 1, sizeof *seen);
    sums->vocab = r->vocab;
    sums->eval_tokens = r->eval_tokens;
    for (int i = 0; seen && i < r->file->count; i++)
        for (int64_t k = 0; k < row[i].used; k++) {
            int32_t id = r->item[i].ids[k];
            if (id < 0 || id >= r->vocab || seen[id])
                continue;
            seen[id] = true;
            sums->distinct++;
            sums->eval_seen += r->eval_count[id];
        }
    free(seen);
}

static void put_sums(const TextsRead *r, TextTable *t)
{
    TextSums *sums = &t->sums;
    int64_t script[SCRIPTS] = {0}, *len = mem_array((size_t)t->n + 1, sizeof *len);
    int n = 0;
    sums->texts = t->n;
    for (int i = 0; i < t->n; i++) {
        const TextRow *row = &t->row[i];
        sums->out += row->state == TEXT_OUT;
        sums->cut += row->state == TEXT_CUT;
        sums->empty += row->state == TEXT_EMPTY;
        sums->beyond += row->state == TEXT_BEYOND;
        sums->tagged += row->tagged;
        if (!row->used)
            continue;
        sums->used++;
        sums->tokens += row->used;
        sums->same += row->same_as > 0 && t->row[row->same_as - 1].used > 0;
        for (int k = 0; k < SCRIPTS; k++)
            script[k] += r->item[i].script[k];
        if (len)
            len[n++] = row->used;
    }
    shares(script, sums->script);
    shares(r->eval_script, sums->eval_script);
    if (len)
        put_lengths(len, n, t);
    put_tokens(r, t->row, sums);
    free(len);
}

/* ---- targets ---- */

static bool holds(const char *text, size_t len, const char *part)
{
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= len; i++)
        if (ascii_ncasecmp(text + i, part, n) == 0)
            return true;
    return n == 0;
}

static bool text_matches(const TextRow *row, const char *part, const Pattern *p)
{
    if (!row->text)
        return false;
    return p ? pattern_match(p, row->text) : holds(row->text, row->len, part);
}

/* "5" or "5-9"; false: it is no number. */
static bool parse_numbers(const char *text, int64_t *first, int64_t *last)
{
    char *end;
    *first = *last = strtoll(text, &end, 10);
    if (end == text || text[0] == '-')
        return false;
    if (*end == '-' && end[1] && end[1] != '-')
        *last = strtoll(end + 1, &end, 10);
    return *end == '\0';
}

static Status hit_numbers(const TextTable *t, int64_t first, int64_t last, bool *hit, Error *err)
{
    if (first < 1 || last < first || last > t->n)
        return error_set(err, ST_DATA, "there is no text %lld: they are numbered from 1 to %d",
                         (long long)(first >= 1 && first <= t->n ? last : first), t->n);
    for (int64_t i = first; i <= last; i++)
        hit[i - 1] = true;
    return ST_OK;
}

static Status hit_one(const TextTable *t, const char *target, bool *hit, Error *err)
{
    int64_t first, last;
    int n = 0;
    if (parse_numbers(target, &first, &last))
        return hit_numbers(t, first, last, hit, err);
    bool tagged = strcmp(target, "tagged") == 0, flagged = strcmp(target, "flagged") == 0;
    Pattern *p = NULL;
    if (strpbrk(target, "*?["))
        RETURN_IF_ERROR(pattern_compile(&p, target, err));
    for (int i = 0; i < t->n; i++) {
        const TextRow *row = &t->row[i];
        if (tagged ? row->tagged : flagged ? row->flag : text_matches(row, target, p)) {
            hit[i] = true;
            n++;
        }
    }
    pattern_free(p);
    return n         ? ST_OK
           : tagged  ? error_set(err, ST_DATA, "no text is tagged: tag some first (Space, or calib tag N)")
           : flagged ? error_set(err, ST_DATA, "no text is flagged: %s",
                                 t->sums.ranged ? "none widens many ranges" : "analyze text_range finds those that widen ranges")
                     : error_set(err, ST_DATA, "no text holds '%s'", target);
}

Status texts_target(Session *s, const char *const *targets, int ntargets, bool **hit, int *n, Error *err)
{
    *hit = NULL;
    RETURN_IF_ERROR(session_texts_wait(s, err));
    const TextTable *t = session_texts(s, NULL);
    if (!t || !(*hit = mem_zarray((size_t)t->n + 1, sizeof **hit)))
        return error_nomem(err, "the texts");
    *n = t->n;
    Status st = ST_OK;
    for (int i = 0; st == ST_OK && i < ntargets; i++)
        st = hit_one(t, targets[i], *hit, err);
    if (st != ST_OK) {
        free(*hit);
        *hit = NULL;
    }
    return st;
}

Status session_texts_tag(Session *s, const char *const *targets, int n, bool on, int *changed, Error *err)
{
    bool *hit;
    int total, moved = 0;
    RETURN_IF_ERROR(texts_target(s, targets, n, &hit, &total, err));
    Texts *t = s->texts;
    bool *tagged = mem_zarray((size_t)total + 1, sizeof *tagged);
    if (!tagged) {
        free(hit);
        return error_nomem(err, "the tags");
    }
    for (int i = 0; i < total; i++) {
        bool was = i < t->ntagged && t->tagged[i];
        tagged[i] = hit[i] ? on : was;
        moved += tagged[i] != was;
    }
    free(hit);
    free(t->tagged);
    t->tagged = tagged;
    t->ntagged = total;
    t->version++;
    if (changed)
        *changed = moved;
    return ST_OK;
}

/* ---- filter and order ---- */

static bool compares(const char *word, const char *name, double v, bool *is)
{
    size_t n = strlen(name);
    if (strncmp(word, name, n) != 0 || !strchr("<>", word[n]) || !word[n])
        return false;
    double than = strtod(word + n + 1, NULL);
    *is = word[n] == '<' ? v < than : v > than;
    return true;
}

static bool passes_word(const TextRow *row, const char *word)
{
    static const char script[] = "script=", file[] = "file=";
    bool is;
    if (compares(word, "tokens", (double)row->tokens, &is) || compares(word, "sets", (double)row->ranges.sets, &is))
        return is;
    if (strncmp(word, script, sizeof script - 1) == 0) {
        for (int k = 0; k < SCRIPTS; k++)
            if (ascii_casecmp(script_name((Script)k), word + sizeof script - 1) == 0)
                return row->script[k] >= 0.1;
        return false;
    }
    if (strncmp(word, file, sizeof file - 1) == 0)
        return holds(row->file, strlen(row->file), word + sizeof file - 1);
    const struct {
        const char *word;
        bool is;
    } flags[] = {{"used", row->used > 0},     {"out", row->state == TEXT_OUT}, {"cut", row->state == TEXT_CUT},
                 {"tagged", row->tagged},     {"flagged", row->flag},          {"same", row->same_as > 0}};
    for (size_t k = 0; k < sizeof flags / sizeof *flags; k++)
        if (strcmp(flags[k].word, word) == 0)
            return flags[k].is;
    return row->text && holds(row->text, row->len, word);
}

static bool passes(const TextRow *row, const char *filter)
{
    char word[256];
    for (const char *p = filter; p && *p;) {
        p += strspn(p, " ");
        size_t n = strcspn(p, " ");
        if (!n)
            break;
        bool not = *p == '!' && n > 1;
        size_t len = n - not < sizeof word ? n - not : sizeof word - 1;
        memcpy(word, p + not, len);
        word[len] = 0;
        if (passes_word(row, word) == not)
            return false;
        p += n;
    }
    return true;
}

Status session_texts_filter(Session *s, const char *expr, Error *err)
{
    char *copy = strdup(expr);
    if (!copy)
        return error_nomem(err, "the filter");
    free(s->texts->filter);
    s->texts->filter = copy;
    s->texts->version++;
    return ST_OK;
}

const char *session_texts_filter_text(const Session *s)
{
    return s->texts->filter ? s->texts->filter : "";
}

Status session_texts_sort(Session *s, TextSort k, bool ascending)
{
    s->texts->sort = k;
    s->texts->descending = !ascending;
    s->texts->version++;
    return ST_OK;
}

TextSort session_texts_sort_key(const Session *s, bool *ascending)
{
    if (ascending)
        *ascending = !s->texts->descending;
    return s->texts->sort;
}

Script text_script(const TextRow *row)
{
    int most = 0;
    for (int k = 1; k < SCRIPTS; k++)
        most = row->script[k] > row->script[most] ? k : most;
    return (Script)most;
}

static double sort_value(const TextRow *row, TextSort k)
{
    switch (k) {
    case TEXT_SORT_TOKENS: return (double)row->tokens;
    case TEXT_SORT_SETS: return (double)row->ranges.sets;
    case TEXT_SORT_FACTOR: return row->ranges.middle;
    case TEXT_SORT_SHARE: return row->ranges.share;
    case TEXT_SORT_LOO: return row->loo;
    case TEXT_SORT_SCRIPT: return (double)text_script(row);
    case TEXT_SORT_STATE: return (double)row->state;
    case TEXT_SORT_NUMBER:
    case TEXT_SORT_TEXT:
    case TEXT_SORTS: break;
    }
    return (double)row->number;
}

typedef struct SortItem {
    const TextRow *row;
    TextSort by;
    bool descending;
} SortItem;

static int by_text(const TextRow *a, const TextRow *b)
{
    if (!a->text || !b->text)
        return (a->text == NULL) - (b->text == NULL);
    size_t n = a->len < b->len ? a->len : b->len;
    int c = memcmp(a->text, b->text, n);
    return c ? c : (a->len > b->len) - (a->len < b->len);
}

/* Rows without the value come last either way, equal ones by their numbers. */
static int compare_items(const void *pa, const void *pb)
{
    const SortItem *a = pa, *b = pb;
    double x = sort_value(a->row, a->by), y = sort_value(b->row, b->by);
    int c = a->by == TEXT_SORT_TEXT ? by_text(a->row, b->row) : (x > y) - (x < y);
    if (isnan(x) || isnan(y))
        return isnan(x) != isnan(y) ? (isnan(x) ? 1 : -1) : a->row->number - b->row->number;
    c = a->descending ? -c : c;
    return c ? c : a->row->number - b->row->number;
}

static void put_order(const Session *s, TextsView *v)
{
    SortItem *list = mem_array((size_t)v->table.n + 1, sizeof *list);
    int n = 0;
    for (int i = 0; list && i < v->table.n; i++)
        if (passes(&v->row[i], s->texts->filter))
            list[n++] = (SortItem){&v->row[i], s->texts->sort, s->texts->descending};
    if (list)
        qsort(list, (size_t)n, sizeof *list, compare_items);
    for (int i = 0; i < n; i++)
        v->order[i] = list[i].row->number - 1;
    v->table.shown = n;
    free(list);
}

/* ---- the table ---- */

static bool is_fresh(const Session *s, const TextsView *v)
{
    char base[128];
    texts_base(s, base);
    return v->version == s->texts->version && v->results == s->results->version &&
           v->levels == s->assignment->version && v->metric == session_metric(s) && strcmp(v->base, base) == 0 &&
           v->max_samples == s->opt.max_samples && v->seq_len == s->opt.seq_len;
}

static TextsView *make_view(Session *s, const TextsRead *r)
{
    TextsView *v = mem_zarray(1, sizeof *v);
    size_t n = (size_t)r->file->count;
    if (!v)
        return NULL;
    v->row = mem_zarray(n + 1, sizeof *v->row);
    v->order = mem_zarray(n + 1, sizeof *v->order);
    if (!v->row || !v->order) {
        texts_view_free(v);
        return NULL;
    }
    v->table = (TextTable){.n = (int)n, .row = v->row, .order = v->order};
    put_rows(s, r, v->row);
    put_sums(r, &v->table);
    put_ranges(s, v->row, (int)n, &v->table.sums);
    put_worst(s, v->row, (int)n);
    texts_put_loo(s, v->row, (int)n);
    put_order(s, v);
    v->metric = session_metric(s);
    v->version = s->texts->version;
    v->results = s->results->version;
    v->levels = s->assignment->version;
    texts_base(s, v->base);
    v->max_samples = s->opt.max_samples;
    v->seq_len = s->opt.seq_len;
    return v;
}

const TextTable *session_texts(Session *s, const char **why)
{
    Texts *t = s->texts;
    const char *none = t->reader ? "reading" : t->read ? t->read->error.text : "";
    const TextsRead *r = s->model ? read_now(s) : NULL;
    if (why)
        *why = none;
    if (!r)
        return NULL;
    if (t->view && is_fresh(s, t->view))
        return &t->view->table;
    texts_view_free(t->view);
    t->view = make_view(s, r);
    if (!t->view && why)
        *why = "out of memory";
    return t->view ? &t->view->table : NULL;
}

const int32_t *session_text_ids(Session *s, int number, int64_t *n)
{
    const TextsRead *r = read_now(s);
    if (!r || number < 1 || number > r->file->count)
        return NULL;
    *n = r->item[number - 1].nids;
    return r->item[number - 1].ids;
}

void session_text_tokens(Session *s, int number, Str *out)
{
    const TextsRead *r = read_now(s);
    int64_t n = 0;
    const int32_t *ids = session_text_ids(s, number, &n);
    size_t whole = out->len; /* characters up to here are complete: several tokens may make one */
    for (int64_t k = 0; k < n && !out->oom; k++) {
        const char *piece = ids[k] >= 0 && ids[k] < r->vocab ? r->piece[ids[k]] : NULL;
        whole += out->len > whole ? utf8_valid_prefix(out->s + whole, out->len - whole) : 0;
        if (k > 0 && whole == out->len) {
            str_puts(out, piece ? "|" : " ");
            whole = out->len;
        }
        if (piece)
            str_puts(out, piece);
        else
            str_printf(out, "%d", (int)ids[k]);
    }
}

/* ---- what one text does ---- */

static int by_factor(const void *pa, const void *pb)
{
    const TextLinear *a = pa, *b = pb;
    bool na = isnan(a->factor), nb = isnan(b->factor);
    if (na != nb)
        return na ? 1 : -1;
    if (!na && a->factor != b->factor)
        return a->factor > b->factor ? -1 : 1;
    return a->linear < b->linear ? -1 : a->linear > b->linear;
}

Status session_text_linears(Session *s, int number, TextLinear **out, int64_t *n, Error *err)
{
    size_t cap = 0;
    *out = NULL;
    *n = 0;
    for (int64_t i = 0; s->model && i < s->model->nlinears; i++) {
        const double *part = session_unit_parts(s, &metric_text_range, i);
        TextLinear l = {.linear = i};
        if (!part || !isfinite(part[TEXT_RANGE_LO]))
            continue;
        bool other = text_range_without(part, number, &l.lo_less, &l.hi_less);
        bool sole = !other && (int)part[TEXT_RANGE_TEXT] == number;
        l.lo = part[TEXT_RANGE_LO];
        l.hi = part[TEXT_RANGE_HI];
        l.factor = other ? text_range_factor(part, number) : NAN;
        if (!sole && !(l.factor > 1))
            continue;
        if (!mem_grow(out, &cap, (size_t)*n + 1, sizeof **out)) {
            free(*out);
            *out = NULL;
            return error_nomem(err, "the layers of a text");
        }
        (*out)[(*n)++] = l;
    }
    if (*n)
        qsort(*out, (size_t)*n, sizeof **out, by_factor);
    return ST_OK;
}

Status session_texts_save(Session *s, Str *out, int *texts, Error *err)
{
    RETURN_IF_ERROR(session_texts_wait(s, err));
    const TextTable *t = session_texts(s, NULL);
    if (!t)
        return error_nomem(err, "the texts");
    *texts = 0;
    for (int i = 0; i < t->n; i++) {
        if (t->row[i].state == TEXT_OUT)
            continue;
        int64_t n;
        const int32_t *ids = session_text_ids(s, i + 1, &n);
        str_puts(out, t->row[i].text ? "{\"inputs_pretokenized\": " : "{\"input_ids\": [");
        if (t->row[i].text)
            str_json(out, t->row[i].text);
        for (int64_t k = 0; !t->row[i].text && k < n; k++)
            str_printf(out, "%s%d", k ? ", " : "", (int)ids[k]);
        str_puts(out, t->row[i].text ? "}\n" : "]}\n");
        (*texts)++;
    }
    return out->oom ? error_nomem(err, "the texts") : ST_OK;
}
