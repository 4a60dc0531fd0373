#ifndef SLIM_SESSION_RULES_H
#define SLIM_SESSION_RULES_H

#include "session/session.h"

/* The what-if list as rules: the level of every linear follows from the recipe and the rows that are on, applied in
 * order. Owner thread. */

/* A text and what it selects in the open model; shared by the lists that hold it (now, and in the undo list). */
typedef struct Rule {
    int holders;
    char *text;
    int32_t *own, *closed;     /* ascending: linears it selects, and with their fused groups */
    int64_t nown, nclosed;
    bool linted;               /* lint is known */
    Lint lint;                 /* of the text alone */
} Rule;

typedef struct RuleRow {
    Rule *rule;                /* held */
    int16_t to;                /* level, or WHATIF_QUANTIZE */
    bool on;
    bool fitted;               /* fit, grow or tune made it: it is no decision that holds what it takes */
} RuleRow;

typedef struct RuleList {
    RuleRow *row;
    int n;
} RuleList;

/* Resolves a text: the name of a linear (its rule is a text for its whole fused group), or a pattern; one without a hit
 * is ST_DATA naming the nearest. *out has one holder. */
Status rule_new(const Session *s, const char *text, Rule **out, Error *err);
void rule_free(Rule *r);

/* A copy with room for `more` rows, which have no rule yet. On an error *to is empty. */
Status rules_copy(const RuleList *from, int more, RuleList *to, Error *err);
void rules_fini(RuleList *l);
/* Row of this text, -1 none. A linear's name finds the rule of its fused group, too. */
int rules_find(const Session *s, const RuleList *l, const char *text);
/* The level that a rule to `to` leaves a linear with. */
int16_t rule_level(int16_t to, int16_t now, int16_t home);
/* level[nlinears] under the recipe and a list. */
void rules_levels(const Session *s, const RuleList *l, int16_t *level);
/* Changes a list so that all that the targets name (session_target's, closed to whole groups) gets `to`: rows that say
 * otherwise about nothing but these linears go, and a row a target is added where it takes one. fitted: marked so; a row
 * that is there already is a person's if it was, or becomes one when it is asked for by one. */
Status rules_wish(Session *s, RuleList *l, const char *const *targets, int n, int to, bool fitted, Error *err);
/* Makes a list the present one as one undo step (none when it is the present one and not `always`) and takes it over,
 * also on an error. *changed (may be NULL): linears with another level. */
Status rules_push(Session *s, RuleList *l, bool always, int64_t *changed, Error *err);
/* The row goes. */
void rules_drop(RuleList *l, int i);
/* Makes the newest step, of rules, end in this list (copied), which gives the same levels. */
Status rules_amend(Session *s, const RuleList *l, Error *err);
/* Patterns that select exactly these linears, as session_edit's targets; caller frees each and the list. */
Status rules_texts(const Session *s, const bool *want, char ***out, int *n, Error *err);

#endif
