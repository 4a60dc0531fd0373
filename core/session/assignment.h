#ifndef SLIM_SESSION_ASSIGNMENT_H
#define SLIM_SESSION_ASSIGNMENT_H

#include "session/session.h"

/* Levels, tags and the list of edits (undo). Owner thread. */

typedef enum EditKind { EDIT_LEVEL, EDIT_TAG, EDIT_FILTER } EditKind;
typedef struct EditCell {
    int32_t linear;
    int16_t from, to;
} EditCell;
typedef struct Edit {
    EditKind kind;
    int n;
    EditCell *cells;           /* EDIT_LEVEL, EDIT_TAG */
    char *from, *to;           /* EDIT_FILTER */
} Edit;

typedef struct Assignment {
    int nlevels;               /* float included */
    QConfig *levels;           /* [nlevels - 1] */
    char (*level_name)[48];
    int16_t *level, *opened;   /* [nlinears] now, and as the recipe gives it */
    int16_t *home;             /* level a float linear returns to */
    bool *tagged;
    int64_t ntagged;
    uint64_t tag_version;      /* grows with every change of tags */
    uint64_t version;          /* of the levels */
    Edit *edits;
    size_t nedits, cap_edits, edit_pos;
} Assignment;

/* Room for the linears of the model that is open. */
Status assignment_open(Assignment *a, const Model *m, Error *err);
void assignment_close(Assignment *a);
/* Levels of the recipe, which the session takes over; every linear at the level that it gives, edits gone. On an error
 * nothing has changed and the recipe is still the caller's. */
Status assignment_use_recipe(Session *s, Recipe *r, Error *err);
/* Applies an edit and takes it over; on an error it is freed and nothing has changed. */
Status edit_push(Session *s, Edit e, Error *err);
void edit_fini(Edit *e);
/* Adds to hits[nlinears] the fused groups of all hits. */
void close_groups(const Model *m, bool *hits);
const QConfig *level_config(const Assignment *a, int level); /* NULL for float */

#endif
