/* Marks of what is to be compared. */
#include "session/kept.h"

#include <stdio.h>
#include <string.h>

#include "session/assignment.h"
#include "session/entries.h"
#include "session/fields.h"
#include "session/parts.h"
#include "session/results.h"

static const char *const letters[MARKS] = {[MARK_A] = "A", [MARK_B] = "B"};

void kept_close(Kept *k)
{
    *k = (Kept){.version = k->version + 1};
}

static void put_mark(Session *s, int which, const char *thing)
{
    snprintf(s->kept->mark[which], THING_MAX, "%s", thing);
    s->kept->version++;
    entry_mark(s, letters[which], thing);
}

Status session_mark(Session *s, int which, const char *thing, Error *err)
{
    int i;
    char name[THING_MAX] = "";
    if (thing) {
        RETURN_IF_ERROR(session_measurement_find(s, thing, &i, err));
        snprintf(name, sizeof name, "%d", session_measurement(s, i).id);
    }
    if (name[0] && strcmp(name, s->kept->mark[!which]) == 0) /* it can't be both */
        put_mark(s, !which, "");
    put_mark(s, which, name);
    return ST_OK;
}

const char *session_marked(const Session *s, int which)
{
    return s->kept->mark[which];
}

void session_swap_marks(Session *s)
{
    char a[THING_MAX];
    snprintf(a, sizeof a, "%s", s->kept->mark[MARK_A]);
    char b[THING_MAX];
    snprintf(b, sizeof b, "%s", s->kept->mark[MARK_B]);
    put_mark(s, MARK_A, b);
    put_mark(s, MARK_B, a);
}

int session_marked_measurement(const Session *s, int which)
{
    int i;
    const char *name = session_marked(s, which);
    return *name && session_measurement_find(s, name, &i, NULL) == ST_OK ? i : -1;
}

uint64_t session_compare_version(const Session *s)
{
    return s->kept->version + s->results->version + session_edit_version(s);
}

Status mark_restore(Session *s, const cJSON *record, Error *err)
{
    const char *which = text_of(record, "which"), *thing = text_of(record, "thing");
    for (int k = 0; which && thing && k < MARKS; k++) {
        if (strcmp(which, letters[k]) != 0)
            continue;
        snprintf(s->kept->mark[k], THING_MAX, "%s", thing);
        s->kept->version++;
        return ST_OK;
    }
    return error_set(err, ST_DATA, "the record of a mark is damaged");
}
