/* Advice by rules that a person can read, from what groups weigh in predictions and from the weights alone. */
#include <math.h>

#include "session/assignment.h"
#include "session/columns.h"
#include "session/groups.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/table.h"

/* What rules look at. */
typedef struct Facts {
    double share;  /* of the group, of the sum of what all weigh at their homes; NaN: not known */
    int bits;      /* of the weight at its home; 0: no level would take it */
    bool grouped;  /* its scale is of groups or blocks already */
    double gain;   /* error of 4-bit rows over that of groups of 64, NaN: not known */
} Facts;

static bool much(const Facts *f)
{
    return f->share >= 0.05;
}

static bool few_bits(const Facts *f)
{
    return f->bits && f->bits < 8 && f->share >= 0.01;
}

static bool gains_by_groups(const Facts *f)
{
    return f->bits && f->bits < 8 && !f->grouped && f->gain >= 2;
}

static bool known(const Facts *f)
{
    return !isnan(f->share);
}

static bool always(const Facts *f)
{
    (void)f;
    return true;
}

/* The first that holds gives the advice. */
static const struct AdviceRule {
    const char *name, *word, *why;
    bool (*holds)(const Facts *f);
} rules[] = {
    {"twentieth-of-loss", "keep float", "its group makes 5 % or more of the loss of all groups", much},
    {"four-bit-loss", "8-bit", "its group makes 1 % or more of the loss, at less than 8 bits", few_bits},
    {"small-groups", "group 64", "4-bit groups of 64 halve the error of its weight", gains_by_groups},
    {"little-loss", "fine", "its group makes little of the loss of all groups", known},
    {"not-measured", "?", "block_error is not known yet; r on Rank finds it", always},
};
enum { RULES = sizeof rules / sizeof rules[0] };

bool advice_rule(int i, Advice *out)
{
    if (i < 0 || i >= RULES)
        return false;
    *out = (Advice){rules[i].word, rules[i].name, rules[i].why, NAN};
    return true;
}

/* Error of rows over groups of 64, from the metric of group sizes, where that was run. */
static double gain_of(const Session *s, int64_t linear)
{
    enum { RMSE_64 = 1, RMSE_ROW = 4 };
    const Metric *m = metric_find("group_size");
    const double *part = m ? session_unit_parts(s, m, linear) : NULL;
    return part && part[RMSE_64] > 0 ? part[RMSE_ROW] / part[RMSE_64] : NAN;
}

/* What all groups weigh at their homes; made anew when results or the recipe changed. */
static double weight_of_all(Session *s, const GroupTable *t)
{
    Table *table = s->table;
    if (table->advice_results == t->results && table->advice_opened == t->opened && table->advice_known)
        return table->advice_sum;
    double sum = 0;
    for (int64_t g = 0; g < t->n; g++)
        sum += t->v[g * t->levels + s->assignment->home[group_linear(&s->model->groups[g], 0)]];
    table->advice_sum = sum;
    table->advice_results = t->results;
    table->advice_opened = t->opened;
    table->advice_known = true;
    return sum;
}

static Facts facts_of(Session *s, int64_t linear)
{
    const GroupTable *t;
    int home = s->assignment->home[linear];
    const QConfig *q = home ? level_config(s->assignment, home) : NULL;
    const Scheme *scheme = q ? scheme_find(q) : NULL;
    Facts f = {.share = NAN, .bits = scheme ? scheme->weight_bits : 0, .gain = gain_of(s, linear)};
    f.grouped = q && q->weight.scope != QS_PER_CHANNEL && q->weight.scope != QS_PER_TENSOR;
    if (!s->recipe || group_table(s, &t, NULL) != ST_OK)
        return f;
    double all = weight_of_all(s, t);
    if (all > 0)
        f.share = t->v[s->model->linears[linear].group * t->levels + home] / all;
    return f;
}

Advice session_advice(Session *s, int64_t linear)
{
    Facts f = facts_of(s, linear);
    Advice a = {0};
    int i = 0;
    while (!rules[i].holds(&f))
        i++;
    advice_rule(i, &a);
    a.share = f.share;
    return a;
}

/* ---- which columns are shown ---- */

static const char *const column_names[] = {"kind", "advice", NULL};

const char *table_column_name(int bit)
{
    return bit >= 0 && bit < 2 ? column_names[bit] : NULL;
}

const Metric *session_second(const Session *s)
{
    return s->table->second;
}

unsigned session_columns(const Session *s)
{
    return s->table->columns;
}

void session_set_columns(Session *s, const Metric *second, unsigned columns)
{
    s->table->order_valid = s->table->order_valid && (s->table->sort != SORT_SECOND || s->table->second == second);
    s->table->second = second;
    s->table->columns = columns;
}
