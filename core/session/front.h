#ifndef SLIM_SESSION_FRONT_H
#define SLIM_SESSION_FRONT_H

#include "session/allot.h"

/* What can be had from the present set by giving groups other levels, kept until an edit, a result or an engine comes.
 * Owner thread. */
typedef struct Outlook {
    uint64_t version, results; /* of the levels and of the results that it was made from */
    uint64_t opened;
    const Runtime *runtime;
    bool known, reaches;       /* there is an outlook; `reach` is of it */
    Reach reach;
    bool have[2];              /* allot[k] */
    Status failed[2];          /* why not, `why` */
    char why[2][ERROR_TEXT_MAX];
    Allot allot[2];            /* costs in bytes; in weight bits */
    Points points;             /* with allot[0] */
    FrontRow *rows;            /* [nrows] sampled; NULL: not asked for yet */
    int64_t nrows;
} Outlook;
void outlook_clear(Outlook *o);
/* With its reach, which needs no scores. */
Status outlook_reach(Session *s, const Outlook **out, Error *err);

#endif
