#ifndef SLIM_SESSION_ASSIGNMENT_H
#define SLIM_SESSION_ASSIGNMENT_H

#include "session/rules.h"

/* Levels, tags and the list of edits (undo). Owner thread. */

/* The numbers stand in the journal, where 0 is an edit of levels without rules (restore.c). */
typedef enum EditKind { EDIT_TAG = 1, EDIT_FILTER, EDIT_RULES, EDIT_RECIPE, EDIT_TEXTS } EditKind;
typedef struct EditCell {
    int32_t linear;
    int16_t from, to;
} EditCell;
typedef struct Edit {
    EditKind kind;
    int n;
    EditCell *cells;           /* EDIT_TAG */
    char *from, *to;           /* EDIT_FILTER, EDIT_TEXTS */
    RuleList before, after;    /* EDIT_RULES, EDIT_RECIPE */
    Recipe *old, *fresh;       /* EDIT_RECIPE, held */
} Edit;

typedef struct Assignment {
    int nlevels;               /* float included */
    QConfig *levels;           /* [nlevels - 1] */
    char (*level_name)[48];
    int16_t *opened;           /* [nlinears] as the recipe gives it */
    RuleList rules;            /* what was decided since */
    int16_t *level;            /* [nlinears] what follows from both */
    int16_t *home;             /* level a float linear returns to */
    bool *tagged;
    int64_t ntagged;
    uint64_t tag_version;      /* grows with every change of tags */
    uint64_t version;          /* of the levels */
    uint64_t opened_version;   /* of what the recipe gives: grows when one is opened */
    Edit *edits;
    size_t nedits, cap_edits, edit_pos;
} Assignment;

/* Room for the linears of the model that is open. */
Status assignment_open(Assignment *a, const Model *m, Error *err);
void assignment_close(Assignment *a);
/* Everything of a recipe's levels into a zeroed assignment, which assignment_close frees on an error, too; and what was
 * decided: nothing beside them. */
Status assignment_read(const Recipe *r, const Model *m, Assignment *a, Error *err);
Status assignment_reset(Assignment *a, const Model *m, Error *err);
/* Opens the recipe (one more holder) with these rules, which are taken over: the levels of both. On an error nothing
 * has changed. */
Status assignment_use_recipe(Session *s, Recipe *r, RuleList *rules, Error *err);
/* The same as an undo step. rules NULL: the present ones, but for those whose level the recipe has not. */
Status assignment_change_recipe(Session *s, Recipe *r, RuleList *rules, Str *what, Error *err);
/* Opens a recipe: the model's first, or one more step (assignment_change_recipe); nothing when it is the one that is open
 * and `rules`, where given, are empty as the present ones. */
Status recipe_adopt(Session *s, Recipe *r, RuleList *rules, Str *what, Error *err);
/* Applies an edit and takes it over; on an error it is freed and nothing has changed. */
Status edit_push(Session *s, Edit e, Error *err);
void edit_fini(Edit *e);
/* Adds to hits[nlinears] the fused groups of all hits. */
void close_groups(const Model *m, bool *hits);
/* name[n + 1]: "float", then the names of these schemes. */
void name_levels(const QConfig *levels, int n, char (*name)[48]);
const QConfig *level_config(const Assignment *a, int level); /* NULL for float */

#endif
