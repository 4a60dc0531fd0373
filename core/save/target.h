#ifndef SLIM_SAVE_TARGET_H
#define SLIM_SAVE_TARGET_H

#include "base/str.h"
#include "save/format.h"

/* The folder that a run writes into. What is not of an older output of this program stays: a file of another is never
 * replaced unless that is asked for (SavePlan.force), and never deleted. */

typedef struct NameList {
    char **s;
    size_t n, cap;
} NameList;
void names_free(NameList *l);
/* "a, b and 3 more". */
void names_text(const NameList *l, Str *out);

/* What a run would find in its target. */
typedef struct SaveTarget {
    NameList replaced;   /* files that are there and would be replaced */
    NameList removed;    /* files of an older output that would go */
    NameList left;       /* weights and indexes of others, which stay */
    char model[256];     /* of the older output there; "": none */
    char saver[64];
    bool other;          /* it is another model than that of the plans */
    int stopped;         /* layers of a run that was stopped there, 0: none */
    bool goes_on;        /* that the plans can go on with, as far as they are known */
    bool done;           /* the output of the plans, whole, as far as they are known, and nothing of another */
} SaveTarget;

/* All plans have one folder. A folder that isn't there holds nothing. Ended by save_target_fini, also after an error. */
Status save_target_look(const SaveFormat *const *savers, const SavePlan *plans, int n, SaveTarget *out, Error *err);
void save_target_fini(SaveTarget *t);
/* Refuses (ST_USAGE, ST_IO for another run's folder) what force would allow: files that would be replaced, a stopped
 * run that would be thrown away. The plans may be those before the run (flow NULL) unless resume. *done: it holds the
 * plans' output (SaveTarget.done), so that there is nothing to do. */
Status save_target_check(const SaveFormat *const *savers, const SavePlan *plans, int n, bool resume, bool *done, Error *err);
/* After all savers have finished: removes what older outputs left. removed: the names of what went. ST_IO when
 * something could not be removed: the new output is whole all the same. */
Status save_target_clean(const SaveFormat *const *savers, const SavePlan *plans, int n, NameList *removed, Error *err);

#endif
