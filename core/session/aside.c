/* Jobs about another recipe than the one that is open. */
#include "session/aside.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/parts.h"
#include "session/queue.h"

Status aside_begin(Session *s, Recipe *r, const char *calib, const char *scheme, Aside *a, Error *err)
{
    *a = (Aside){.recipe = s->recipe, .was = s->assignment, .calib_path = s->calib_path, .calib_name = s->calib_name,
                 .change = s->texts->change, .texts_aside = s->texts->aside};
    char *path = calib ? strdup(calib) : NULL, *name = calib ? strdup(calib) : NULL;
    Status st = calib && (!path || !name) ? error_nomem(err, "a path") : assignment_read(r, s->model, &a->own, err);
    if (st == ST_OK)
        st = assignment_reset(&a->own, s->model, err);
    if (st != ST_OK) {
        free(path);
        free(name);
        assignment_close(&a->own);
        return st;
    }
    memcpy(a->calib_print, s->calib_print, sizeof a->calib_print);
    memcpy(a->scheme, s->scheme, sizeof a->scheme);
    s->recipe = r;
    a->own.version = a->own.opened_version = UINT64_MAX / 2 + (uint64_t)s->queue->next_job; /* nothing that is kept of a version is of this one */
    s->assignment = &a->own;
    s->calib_path = path;
    s->calib_name = name;
    s->calib_print[0] = '\0';
    snprintf(s->scheme, sizeof s->scheme, "%s", scheme);
    s->texts->change = (TextsChange){0};
    s->texts->aside = true;
    return ST_OK;
}

void aside_end(Session *s, Aside *a)
{
    free(s->calib_path);
    free(s->calib_name);
    s->recipe = a->recipe;
    s->assignment = a->was;
    s->calib_path = a->calib_path;
    s->calib_name = a->calib_name;
    memcpy(s->calib_print, a->calib_print, sizeof s->calib_print);
    memcpy(s->scheme, a->scheme, sizeof s->scheme);
    s->texts->change = a->change;
    s->texts->aside = a->texts_aside;
    assignment_close(&a->own);
}

void aside_take(Job *j, const PassScore *score, int64_t n)
{
    for (int64_t i = 0; i < n; i++) /* of a unit the present level comes last */
        if (score[i].metric == j->metrics[0] && !(j->found[score[i].s.unit] < 0)) {
            j->view->ok += isnan(j->found[score[i].s.unit]) && isfinite(score[i].s.value);
            j->found[score[i].s.unit] = score[i].s.value;
        }
}
