#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/assignment.h"
#include "session/entries.h"
#include "session/parts.h"
#include "session/results.h"
#include "tests/lib/weights.h"

void give_block_errors(Session *s, double (*v)(const Model *m, int64_t group, int level))
{
    const Model *m = session_model(s);
    s->results->scores.origin = origin_now(s);
    for (int64_t g = 0; g < m->ngroups; g++)
        for (int k = 1; k < session_levels(s); k++) {
            PassScore p = {metric_find("block_error"), {.unit = g, .value = v(m, g, k), .tokens = 100,
                           .levels = scores_level_all(m, SCOPE_GROUP, g, level_config(s->assignment, k))}};
            assert_int_equal(results_store_unit(s->results, &p, NULL), ST_OK);
        }
}

static double each_linear;

static double equal(const Model *m, int64_t group, int level)
{
    (void)level;
    return each_linear * m->groups[group].count;
}

void give_equal_errors(Session *s, double each)
{
    each_linear = each;
    give_block_errors(s, equal);
}

void give_effect(Session *s, double kl, double ppl_change, int64_t tokens)
{
    size_t n = (size_t)session_model(s)->nlinears;
    Measured m = {.key = assignment_key(s, s->assignment->level), .fit = fit_key(s),
                  .effect = {.arith = session_options(s)->arith, .tokens = tokens, .kl_mean = kl, .ppl_float = 10,
                             .ppl_quant = 10 * (1 + ppl_change), .ppl_change = ppl_change},
                  .recipe = recipe_hold(s->recipe), .level = malloc(n * sizeof *m.level)};
    assert_non_null(m.level);
    memcpy(m.level, s->assignment->level, n * sizeof *m.level);
    entry_measured(s, &m);
    assert_int_equal(results_measured(s->results, &m, NULL), ST_OK);
}
