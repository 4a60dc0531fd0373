#ifndef SLIM_TEST_KEEPSAVER_H
#define SLIM_TEST_KEEPSAVER_H

#include "base/pool.h"
#include "save/format.h"

/* What keep_saver was given. */
typedef struct Kept {
    int64_t n;
    QWeight *w;      /* [n] own copies, code NULL: float */
    SaveLinear *l;   /* [n] */
    SaveCache cache[8];
    float *scales[8];
    int caches, layers_done;
    bool finished, closed, kept;
    /* set before a run: */
    int first_layer;   /* that a resumed one begins with */
    int stop_after;    /* layers behind which stop is raised; -1: never */
    Cancel *stop;
    const char *fault; /* of the last linear's writing; NULL: none */
} Kept;
/* Of n linears: what the runs that follow hand to keep_saver. Free with kept_fini. */
void kept_init(Kept *k, int64_t n);
void kept_fini(Kept *k);

/* A saver that writes nothing. */
extern const SaveFormat keep_saver;

#endif
