#include "session/bases.h"

#include <string.h>

#include "session/parts.h"
#include "session/table.h"

Digest base_now(const Session *s)
{
    Digest d;
    const Work w = {.recipe = s->recipe, .peer = s->opt.peer};
    work_changes(&w, &d);
    return d;
}

bool base_changed(const Digest *d)
{
    static const Digest none;
    return digest_cmp(d, &none) != 0;
}

/* ---- shelves ---- */

static Shelf *shelf_of(Results *r, const Digest *base)
{
    for (int i = 0; i < r->nshelves; i++)
        if (digest_cmp(&r->shelf[i].base, base) == 0)
            return &r->shelf[i];
    return NULL;
}

static void drop_shelf(Results *r, int i)
{
    scores_fini(&r->shelf[i].scores);
    memmove(&r->shelf[i], &r->shelf[i + 1], (size_t)(r->nshelves - i - 1) * sizeof *r->shelf);
    r->nshelves--;
}

/* The oldest one that is not the checkpoint's, which others are compared with. */
static void make_room(Results *r)
{
    if (r->nshelves == SHELVES)
        drop_shelf(r, base_changed(&r->shelf[0].base) ? 0 : 1);
}

Digest bases_present(Session *s, const Digest *base)
{
    Results *r = s->results;
    const Digest was = r->base;
    Error err = {0};
    if (!r->scores.m || digest_cmp(&was, base) == 0)
        return was;
    Shelf *to = shelf_of(r, base);
    Scores fresh = {0};
    if (to) {
        fresh = to->scores;
        to->scores = (Scores){0};
        drop_shelf(r, (int)(to - r->shelf));
    } else if (scores_init(&fresh, s->model, &err) != ST_OK) {
        session_log(s, 2, "%s", err.text);
        return was;
    }
    make_room(r);
    r->shelf[r->nshelves++] = (Shelf){was, r->scores};
    r->scores = fresh;
    r->base = *base;
    r->levels_seen = 0; /* every value is another one */
    r->loss_whole++;
    r->loss_version++;
    r->version++;
    table_scores_changed(s->table);
    return was;
}

bool bases_follow(Session *s)
{
    const Digest now = base_now(s), was = bases_present(s, &now);
    return digest_cmp(&was, &s->results->base) != 0;
}

void bases_close(Results *r)
{
    while (r->nshelves)
        drop_shelf(r, r->nshelves - 1);
    r->base = (Digest){{0}};
}

/* ---- the unchanged model's inputs ---- */

const LinearResult *session_result_before(const Session *s, int64_t linear)
{
    Results *r = s->results;
    static const Digest none;
    const Shelf *shelf = base_changed(&r->base) ? shelf_of(r, &none) : NULL;
    if (!shelf || !shelf->scores.linear)
        return NULL;
    const LinearStats *l = &shelf->scores.linear[linear];
    return l->needs && l->made == origin_unchanged(s).data ? &l->r : NULL;
}
