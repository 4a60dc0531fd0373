#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/map.h"
#include "base/str.h"
#include "recipe/pattern_impl.h"

/* A short list of patterns for a set of linears.
 *
 * 1. The names, sorted, form a tree of components. A subtree that may be taken whole becomes one item "prefix.*",
 *    other wanted names become items themselves.
 * 2. An item is text around at most two numbers: head 3 middle 17 tail. Items that differ in one part only join
 *    into a box: head {numbers} middle {numbers} {tails}; which way round they join best is tried.
 * 3. A box is written with braces, shorter forms with '*' are taken when they select nothing else, and what the
 *    peer would refuse as too long is cut in two.
 *
 * All steps go by sorted order, so the same set gives the same text. */

enum { STAR_TRIES_MAX = 48, COMPONENTS_MAX = 32, NUMBER_DIGITS_MAX = 6 };

typedef struct TextPart {
    const char *s;
    int n;
} TextPart;

/* Item of step 2. Missing numbers are -1 and their parts empty: a name without numbers is all tail. */
typedef struct Item {
    TextPart head, middle, tail;
    int32_t n1, n2;
} Item;

typedef struct Box {
    TextPart head, middle;
    int32_t *n1, *n2;
    int c1, c2; /* 0: the box has no such number */
    TextPart *tail;
    int ctail;
} Box;

typedef struct Cover {
    const Model *m;
    const bool *want, *allowed;
    int32_t *order; /* linears by name */
    Item *items;
    size_t nitems, items_cap;
    char **out;
    size_t nout, out_cap;
    bool *hits;     /* scratch */
    bool short_head; /* "*layers." means the same as "model.layers." */
    int tries;
    Arena arena;
    Error *err;
    Status st;
} Cover;

static void out_of_memory(Cover *c)
{
    if (c->st == ST_OK)
        c->st = error_nomem(c->err, "a pattern list");
}

static int piece_cmp(TextPart a, TextPart b)
{
    int n = a.n < b.n ? a.n : b.n, d = n ? memcmp(a.s, b.s, (size_t)n) : 0;
    return d ? d : a.n - b.n;
}

static const char *name_of(const Cover *c, int64_t k)
{
    return c->m->linears[c->order[k]].name;
}

/* ---- 1: the tree ---- */

/* Digits of a component that is a plain number (no leading zero), 0 when it is none. */
static int number_length(const char *s)
{
    int n = 0;
    while (ascii_is_digit(s[n]))
        n++;
    bool plain = n > 0 && n <= NUMBER_DIGITS_MAX && (s[n] == '.' || !s[n]) && !(s[0] == '0' && n > 1);
    return plain ? n : 0;
}

static void add_item(Cover *c, TextPart text)
{
    Item it = {.n1 = -1, .n2 = -1, .tail = text};
    const char *end = text.s + text.n;
    int found = 0;
    for (const char *s = text.s; s < end && found < 2; s++) {
        int n = s == text.s || s[-1] == '.' ? number_length(s) : 0;
        if (!n)
            continue;
        TextPart before = {it.tail.s, (int)(s - it.tail.s)};
        it.tail = (TextPart){s + n, (int)(end - s - n)};
        *(found ? &it.middle : &it.head) = before;
        *(found ? &it.n2 : &it.n1) = (int32_t)strtol(s, NULL, 10);
        found++;
        s += n;
    }
    if (!mem_grow(&c->items, &c->items_cap, c->nitems + 1, sizeof *c->items)) {
        out_of_memory(c);
        return;
    }
    c->items[c->nitems++] = it;
}

/* Names [a,b) of the order share their first `len` bytes, which end with a component. */
static void walk_tree(Cover *c, int64_t a, int64_t b, int len, int depth)
{
    int64_t want = 0, allowed = 0;
    for (int64_t k = a; k < b; k++) {
        want += c->want[c->order[k]];
        allowed += c->allowed[c->order[k]];
    }
    if (!want || c->st != ST_OK)
        return;
    if (b - a > 1 && allowed == b - a && want * 2 >= b - a && depth < COMPONENTS_MAX) {
        char *s = arena_alloc(&c->arena, (size_t)len + 2);
        if (!s) {
            out_of_memory(c);
            return;
        }
        memcpy(s, name_of(c, a), (size_t)len);
        strcpy(s + len, "*");
        add_item(c, (TextPart){s, len + 1});
        return;
    }
    for (int64_t k = a; k < b;) {
        const char *s = name_of(c, k), *dot = depth < COMPONENTS_MAX ? strchr(s + len, '.') : NULL;
        if (!dot) {
            if (c->want[c->order[k]])
                add_item(c, (TextPart){s, (int)strlen(s)});
            k++;
            continue;
        }
        int sub = (int)(dot - s) + 1;
        int64_t end = k + 1;
        while (end < b && strncmp(name_of(c, end), s, (size_t)sub) == 0)
            end++;
        walk_tree(c, k, end, sub, depth + 1);
        k = end;
    }
}

static int by_name(const void *a, const void *b, void *model)
{
    const Model *m = model;
    return strcmp(m->linears[*(const int32_t *)a].name, m->linears[*(const int32_t *)b].name);
}

/* ---- 3: text ---- */

/* What the peer lets into a list, less what means something in a pattern; what it refuses becomes '?'. */
static void put_literal(Str *b, TextPart p)
{
    for (int i = 0; i < p.n; i++) {
        char ch = p.s[i];
        if (((unsigned char)ch & 0xc0) == 0x80)
            continue; /* one '?' for the whole character */
        bool star_end = ch == '*' && i == p.n - 1 && (i == 0 || p.s[i - 1] == '.'); /* our own ".*" */
        if (strchr("*?[]{},\\", ch) && !star_end)
            str_putc(b, '\\');
        bool plain = ascii_is_alnum(ch) || strchr("_\"'><=[])(,}{: |/.*~?!+-\\", ch);
        str_putc(b, plain ? ch : '?');
    }
}

/* "3", "{1,6}", "{0..7}", "{1,{3..5},9}" */
static void put_numbers(Str *b, const int32_t *v, int n)
{
    if (n == 1) {
        str_printf(b, "%d", (int)v[0]);
        return;
    }
    bool one_run = v[n - 1] - v[0] == n - 1 && n > 2;
    if (!one_run)
        str_putc(b, '{');
    for (int i = 0; i < n;) {
        int j = i;
        while (j + 1 < n && v[j + 1] == v[j] + 1)
            j++;
        if (i)
            str_putc(b, ',');
        if (j - i >= 2) {
            str_printf(b, "{%d..%d}", (int)v[i], (int)v[j]);
        } else {
            str_printf(b, "%d", (int)v[i]);
            j = i;
        }
        i = j + 1;
    }
    if (!one_run)
        str_putc(b, '}');
}

/* Tails with their common beginning (whole components) and end (from a '_' or '.') taken out: "mlp.{gate,up}_proj". */
static void put_tails(Str *b, const TextPart *t, int n)
{
    if (n == 1) {
        put_literal(b, t[0]);
        return;
    }
    int pre = t[0].n, suf = t[0].n;
    for (int i = 1; i < n; i++) {
        int k = 0, j = 0;
        while (k < pre && k < t[i].n && t[i].s[k] == t[0].s[k])
            k++;
        while (j < suf && j < t[i].n && t[i].s[t[i].n - 1 - j] == t[0].s[t[0].n - 1 - j])
            j++;
        pre = k;
        suf = j;
    }
    while (pre && t[0].s[pre - 1] != '.')
        pre--;
    while (suf && t[0].s[t[0].n - suf] != '_' && t[0].s[t[0].n - suf] != '.')
        suf--;
    for (int i = 0; i < n; i++)
        if (t[i].n <= pre + suf)
            suf = 0;
    put_literal(b, (TextPart){t[0].s, pre});
    str_putc(b, '{');
    for (int i = 0; i < n; i++) {
        if (i)
            str_putc(b, ',');
        put_literal(b, (TextPart){t[i].s + pre, t[i].n - pre - suf});
    }
    str_putc(b, '}');
    put_literal(b, (TextPart){t[0].s + t[0].n - suf, suf});
}

static void put_head(const Cover *c, Str *b, TextPart head)
{
    if (c->short_head) {
        int at = head.n - 1;
        while (at > 0 && head.s[at - 1] != '.')
            at--;
        str_putc(b, '*');
        head = (TextPart){head.s + at, head.n - at};
    }
    put_literal(b, head);
}

static void put_box(const Cover *c, Str *b, const Box *x)
{
    if (x->c1) {
        put_head(c, b, x->head);
        put_numbers(b, x->n1, x->c1);
    }
    if (x->c2) {
        put_literal(b, x->middle);
        put_numbers(b, x->n2, x->c2);
    }
    put_tails(b, x->tail, x->ctail);
}

static void keep(Cover *c, const Str *text)
{
    char *s = text->oom ? NULL : strdup(str_text(text));
    if (!s || !mem_grow(&c->out, &c->out_cap, c->nout + 1, sizeof *c->out)) {
        free(s);
        out_of_memory(c);
        return;
    }
    c->out[c->nout++] = s;
}

/* Whether the pattern selects something and only what is allowed. */
static bool selects_allowed(Cover *c, const char *text)
{
    Pattern *p;
    Status st = pattern_compile(&p, text, NULL);
    if (st == ST_NOMEM)
        out_of_memory(c);
    if (st != ST_OK)
        return false;
    memset(c->hits, 0, (size_t)c->m->nlinears);
    int64_t n = pattern_hits(p, c->m, c->hits);
    pattern_free(p);
    for (int64_t i = 0; i < c->m->nlinears && n; i++)
        if (c->hits[i] && !c->allowed[i])
            n = 0;
    return n > 0;
}

static TextPart last_component(TextPart p)
{
    int at = p.n;
    while (at > 0 && p.s[at - 1] != '.')
        at--;
    return (TextPart){p.s + at, p.n - at};
}

/* The forms of a box with fewer numbers, shortest first; each is written into b. false: no such form. */
static bool star_form(const Cover *c, Str *b, const Box *x, int form)
{
    TextPart last[16];
    str_clear(b);
    if (form == 0) { /* *down_proj */
        if (x->c1 < 2 || x->c2 == 1 || x->ctail > 16)
            return false;
        TextPart parent = {x->tail[0].s, x->tail[0].n - last_component(x->tail[0]).n};
        for (int i = 0; i < x->ctail; i++) {
            last[i] = last_component(x->tail[i]);
            if (last[i].n == x->tail[i].n || last[i].n < 2 ||
                piece_cmp(parent, (TextPart){x->tail[i].s, x->tail[i].n - last[i].n}) != 0)
                return false;
        }
        str_putc(b, '*');
        put_tails(b, last, x->ctail);
        return true;
    }
    if (form == 1) { /* *mlp.down_proj, *experts.{1,2}.up_proj */
        if (x->c1 < 2)
            return false;
        str_putc(b, '*');
        if (x->c2) {
            put_literal(b, (TextPart){x->middle.s + 1, x->middle.n - 1});
            put_numbers(b, x->n2, x->c2);
            put_tails(b, x->tail, x->ctail);
        } else {
            Box no_dot = *x;
            TextPart t = {x->tail[0].s + 1, x->tail[0].n - 1};
            no_dot.tail = &t;
            if (x->ctail > 1)
                return false;
            put_tails(b, no_dot.tail, 1);
        }
        return true;
    }
    if (x->c2 < 2) /* *layers.{1,2}.mlp.experts.*.up_proj */
        return false;
    put_head(c, b, x->head);
    put_numbers(b, x->n1, x->c1);
    put_literal(b, x->middle);
    str_putc(b, '*');
    put_tails(b, x->tail, x->ctail);
    return true;
}

/* Writes a box, whole or in parts that the peer loads. */
static void emit(Cover *c, const Box *x)
{
    if (c->st != ST_OK)
        return;
    Str b = {0};
    for (int form = 0; form < 3 && c->tries < STAR_TRIES_MAX; form++) {
        if (!star_form(c, &b, x, form) || b.len > PATTERN_PEER_MAX)
            continue;
        c->tries++;
        if (selects_allowed(c, str_text(&b))) {
            keep(c, &b);
            str_free(&b);
            return;
        }
    }
    str_clear(&b);
    put_box(c, &b, x);
    int64_t alts = (int64_t)(x->c1 ? x->c1 : 1) * (x->c2 ? x->c2 : 1) * x->ctail;
    bool fits = b.len <= PATTERN_PEER_MAX && alts <= PATTERN_ALTS_MAX;
    if (fits)
        keep(c, &b);
    else if (x->c1 <= 1 && x->c2 <= 1 && x->ctail <= 1)
        c->st = error_set(c->err, ST_DATA, "a layer name needs a pattern of more than %d characters: '%.60s…'",
                          PATTERN_PEER_MAX, str_text(&b));
    str_free(&b);
    if (fits || c->st != ST_OK)
        return;
    Box lo = *x, hi = *x;
    if (x->c2 > 1 && x->c2 >= x->c1) {
        lo.c2 = x->c2 / 2;
        hi.n2 += lo.c2;
        hi.c2 -= lo.c2;
    } else if (x->c1 > 1 && x->c1 >= x->ctail) {
        lo.c1 = x->c1 / 2;
        hi.n1 += lo.c1;
        hi.c1 -= lo.c1;
    } else {
        lo.ctail = x->ctail / 2;
        hi.tail += lo.ctail;
        hi.ctail -= lo.ctail;
    }
    c->tries = STAR_TRIES_MAX; /* parts of a box have no shorter form */
    emit(c, &lo);
    emit(c, &hi);
}

/* ---- 2: boxes ---- */

/* A coordinate of an item: 0 = n1, 1 = n2, 2 = tail. */
static int coordinate_cmp(const Item *a, const Item *b, int which)
{
    if (which == 0)
        return (a->n1 > b->n1) - (a->n1 < b->n1);
    if (which == 1)
        return (a->n2 > b->n2) - (a->n2 < b->n2);
    return piece_cmp(a->tail, b->tail);
}

static int frame_cmp(const Item *a, const Item *b)
{
    int d = piece_cmp(a->head, b->head);
    if (!d)
        d = piece_cmp(a->middle, b->middle);
    if (!d)
        d = ((a->n1 < 0) - (b->n1 < 0)) * 2 + (a->n2 < 0) - (b->n2 < 0);
    return d;
}

/* Sorts by the frame, then the coordinates named, the one to join last. */
static int by_axes(const void *a, const void *b, void *axes)
{
    const int *ax = axes;
    int d = frame_cmp(a, b);
    for (int i = 0; i < 3 && !d; i++)
        d = coordinate_cmp(a, b, ax[i]);
    return d;
}

/* A run of items that share all but the joined coordinate. During joining an item stands for a whole run: `members` of
 * its set. */
typedef struct Run {
    const Item *first; /* values of the other coordinates */
    int32_t set[3];    /* id of the set of values along each axis, -1: the single value in `first` */
} Run;

typedef struct Sets {
    Map index;         /* bytes of a set -> id */
    Str *key;          /* [n] values as bytes: int32 numbers, or TextPart structs */
    size_t n, cap;
} Sets;

static int32_t set_id(Cover *c, Sets *s, const Str *key)
{
    int64_t have = key->oom ? -1 : map_get(&s->index, str_text(key), key->len, -1);
    if (have >= 0)
        return (int32_t)have;
    char *copy = key->oom ? NULL : arena_strndup(&c->arena, key->s, key->len);
    if (!copy || !mem_grow(&s->key, &s->cap, s->n + 1, sizeof *s->key) ||
        !map_add(&s->index, copy, key->len, (int64_t)s->n, NULL)) {
        out_of_memory(c);
        return 0;
    }
    s->key[s->n] = (Str){.s = copy, .len = key->len};
    return (int32_t)s->n++;
}

typedef struct RunSort {
    int axis; /* joined now */
} RunSort;

static int run_cmp_axis(const Run *a, const Run *b, int axis)
{
    if (a->set[axis] != b->set[axis])
        return a->set[axis] < b->set[axis] ? -1 : 1;
    return a->set[axis] >= 0 ? 0 : coordinate_cmp(a->first, b->first, axis);
}

static int run_cmp_others(const Run *a, const Run *b, int axis)
{
    int d = frame_cmp(a->first, b->first);
    for (int k = 0; k < 3 && !d; k++)
        if (k != axis)
            d = run_cmp_axis(a, b, k);
    return d;
}

static int by_run(const void *a, const void *b, void *sort)
{
    int axis = ((const RunSort *)sort)->axis;
    int d = run_cmp_others(a, b, axis);
    return d ? d : run_cmp_axis(a, b, axis);
}

/* Tails as set members are named by an id of their text. */
static void put_value(Cover *c, Sets *tails, Str *key, const Item *it, int axis)
{
    int32_t v = axis == 0 ? it->n1 : it->n2;
    if (axis == 2) {
        Str t = {.s = (char *)it->tail.s, .len = (size_t)it->tail.n};
        v = set_id(c, tails, &t);
    }
    str_append(key, (const char *)&v, sizeof v);
}

/* Joins runs that differ along one axis only. Gives the new number of runs. */
static size_t join(Cover *c, Sets *sets, Sets *tails, Run *run, size_t n, int axis)
{
    RunSort order = {axis};
    qsort_r(run, n, sizeof *run, by_run, &order);
    size_t out = 0;
    Str key = {0};
    for (size_t i = 0; i < n && c->st == ST_OK;) {
        size_t j = i;
        str_clear(&key);
        while (j < n && run_cmp_others(&run[i], &run[j], axis) == 0)
            put_value(c, tails, &key, run[j++].first, axis);
        Run r = run[i];
        r.set[axis] = set_id(c, sets, &key);
        run[out++] = r;
        i = j;
    }
    str_free(&key);
    return out;
}

/* Joins along the axes in this order; the runs are left in `run`. */
static size_t join_all(Cover *c, Sets *sets, Sets *tails, Run *run, const int axes[3])
{
    for (size_t i = 0; i < c->nitems; i++)
        run[i] = (Run){&c->items[i], {-1, -1, -1}};
    size_t n = c->nitems;
    for (int k = 0; k < 3; k++)
        n = join(c, sets, tails, run, n, axes[k]);
    return n;
}

static int by_first_item(const void *a, const void *b)
{
    const Run *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

static void emit_run(Cover *c, const Sets *sets, const Sets *tails, const Run *r)
{
    const Str *s[3];
    for (int k = 0; k < 3; k++)
        s[k] = &sets->key[r->set[k]];
    int nt = (int)(s[2]->len / sizeof(int32_t));
    const int32_t *ids = (const int32_t *)(const void *)s[2]->s;
    TextPart *tail = arena_alloc(&c->arena, (size_t)nt * sizeof *tail);
    if (!tail) {
        out_of_memory(c);
        return;
    }
    for (int i = 0; i < nt; i++)
        tail[i] = (TextPart){tails->key[ids[i]].s, (int)tails->key[ids[i]].len};
    Box x = {
        .head = r->first->head, .middle = r->first->middle, .tail = tail, .ctail = nt,
        .n1 = (int32_t *)(void *)s[0]->s, .c1 = r->first->n1 < 0 ? 0 : (int)(s[0]->len / sizeof(int32_t)),
        .n2 = (int32_t *)(void *)s[1]->s, .c2 = r->first->n2 < 0 ? 0 : (int)(s[1]->len / sizeof(int32_t)),
    };
    if (!x.c1) { /* names without a number don't join */
        for (int i = 0; i < nt; i++) {
            Box one = x;
            one.tail = &tail[i];
            one.ctail = 1;
            emit(c, &one);
        }
        return;
    }
    emit(c, &x);
}

static void boxes(Cover *c)
{
    static const int orders[][3] = {{0, 1, 2}, {1, 0, 2}, {2, 0, 1}, {2, 1, 0}, {0, 2, 1}};
    enum { N = sizeof orders / sizeof orders[0] };
    int axes[3] = {2, 1, 0};
    qsort_r(c->items, c->nitems, sizeof *c->items, by_axes, axes);
    Run *run = mem_array(c->nitems, sizeof *run);
    Sets sets = {0}, tails = {0};
    size_t best = 0, least = SIZE_MAX;
    if (!run)
        out_of_memory(c);
    for (size_t k = 0; k < N && c->st == ST_OK; k++) {
        size_t n = join_all(c, &sets, &tails, run, orders[k]);
        if (n < least) {
            least = n;
            best = k;
        }
    }
    if (c->st == ST_OK) {
        size_t n = join_all(c, &sets, &tails, run, orders[best]);
        if (n)
            qsort(run, n, sizeof *run, by_first_item);
        for (size_t i = 0; i < n && c->st == ST_OK; i++)
            emit_run(c, &sets, &tails, &run[i]);
    }
    free(run);
    map_free(&sets.index);
    map_free(&tails.index);
    free(sets.key);
    free(tails.key);
}

/* ---- all together ---- */

/* "*layers.5." is as good as "model.layers.5." when every name with "layers." has it once, behind one and the same
 * beginning. */
static void find_short_head(Cover *c)
{
    TextPart head = {"", 0};
    c->short_head = false;
    for (size_t i = 0; i < c->nitems && !head.n; i++)
        if (c->items[i].n1 >= 0)
            head = c->items[i].head;
    int at = head.n - 1;
    while (at > 0 && head.s[at - 1] != '.')
        at--;
    if (head.n < 2 || at <= 0 || head.n - at >= 64)
        return;
    char part[72];
    memcpy(part, head.s + at, (size_t)(head.n - at));
    part[head.n - at] = '\0';
    for (int64_t i = 0; i < c->m->nlinears; i++) {
        const char *s = c->m->linears[i].name, *p = strstr(s, part);
        if (p && (p - s != at || strncmp(s, head.s, (size_t)at) != 0 || strstr(p + 1, part)))
            return;
    }
    for (size_t i = 0; i < c->nitems; i++)
        if (c->items[i].n1 >= 0 && piece_cmp(c->items[i].head, head) != 0)
            return;
    c->short_head = true;
}

/* Every pattern must stay within `allowed` and all together reach `want`; what adds nothing is dropped. */
static void verify(Cover *c)
{
    size_t n = 0, k;
    bool *got = mem_zarray((size_t)c->m->nlinears, 1);
    if (!got) {
        out_of_memory(c);
        return;
    }
    for (k = 0; k < c->nout && c->st == ST_OK; k++) {
        bool fine = selects_allowed(c, c->out[k]), adds = false;
        for (int64_t i = 0; i < c->m->nlinears && fine; i++) {
            adds |= c->hits[i] && c->want[i] && !got[i];
            got[i] |= c->hits[i];
        }
        if (!fine && c->st == ST_OK)
            c->st = error_set(c->err, ST_INTERNAL, "pattern '%s' selects layers it should not", c->out[k]);
        char *s = c->out[k];
        c->out[k] = NULL;
        if (adds && c->st == ST_OK)
            c->out[n++] = s;
        else
            free(s);
    }
    for (; k < c->nout; k++) {
        free(c->out[k]);
        c->out[k] = NULL;
    }
    c->nout = n;
    for (int64_t i = 0; i < c->m->nlinears && c->st == ST_OK; i++)
        if (c->want[i] && !got[i])
            c->st = error_set(c->err, ST_INTERNAL, "no pattern was found for '%s'", c->m->linears[i].name);
    free(got);
}

Status pattern_cover_within(const Model *m, const bool *want, const bool *allowed, char ***out, int *n, Error *err)
{
    Cover c = {.m = m, .want = want, .allowed = allowed, .err = err};
    size_t nl = (size_t)m->nlinears;
    *out = NULL;
    *n = 0;
    c.order = mem_array(nl, sizeof *c.order);
    c.hits = mem_array(nl, 1);
    if (!c.order || !c.hits) {
        out_of_memory(&c);
    } else {
        for (int64_t i = 0; i < m->nlinears; i++)
            c.order[i] = (int32_t)i;
        qsort_r(c.order, nl, sizeof *c.order, by_name, (void *)(uintptr_t)m);
        walk_tree(&c, 0, m->nlinears, 0, 0);
    }
    if (c.st == ST_OK && c.nitems) {
        find_short_head(&c);
        boxes(&c);
    }
    if (c.st == ST_OK)
        verify(&c);
    free(c.order);
    free(c.hits);
    free(c.items);
    arena_free(&c.arena);
    if (c.st != ST_OK) {
        for (size_t i = 0; i < c.nout; i++)
            free(c.out[i]);
        free(c.out);
        return c.st;
    }
    *out = c.out;
    *n = (int)c.nout;
    return ST_OK;
}

Status pattern_cover(const Model *m, const bool *want, char ***out, int *n, Error *err)
{
    return pattern_cover_within(m, want, want, out, n, err);
}
