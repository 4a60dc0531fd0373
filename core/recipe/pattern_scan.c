#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "recipe/pattern_impl.h"

/* One pattern over all names of a model. The brace alternatives share their beginnings in a tree of tokens; the sets of
 * tree nodes that a name's bytes lead to are kept as the states of an automaton built on demand. Names in model order
 * share long beginnings, so only their ends are walked. Names with bytes above 127 or a leading dot take the plain
 * matcher. */

enum { STATES_MAX = 2048, DEPTH_MAX = 512 };
/* What the table of next states holds besides states: not built yet; no match; match, whatever follows. */
enum { UNKNOWN = -1, DEAD = -2, ALWAYS = -3 };

typedef struct Node {
    Token tok;          /* taken to enter the node */
    int32_t child, next;
    bool accept;
} Node;

typedef struct State {
    int32_t *set; /* n node indices, ascending */
    int32_t n;
    bool accept;
} State;

typedef struct Scan {
    const Pattern *p;
    Node *nodes;
    size_t nnodes, cap;
    State *states;            /* [STATES_MAX] */
    int16_t (*next)[128];     /* [STATES_MAX][128]: by byte */
    int32_t nstates;
    int32_t *work, *mark;     /* [nnodes] */
    int32_t round;
    Map index;                /* a set's bytes -> state */
    Arena arena;
} Scan;

static int32_t node_child(Scan *s, int32_t at, const Token *t)
{
    for (int32_t c = s->nodes[at].child; c >= 0; c = s->nodes[c].next)
        if (memcmp(&s->nodes[c].tok, t, sizeof *t) == 0)
            return c;
    if (!mem_grow(&s->nodes, &s->cap, s->nnodes + 1, sizeof *s->nodes))
        return -1;
    int32_t c = (int32_t)s->nnodes++;
    s->nodes[c] = (Node){.tok = *t, .child = -1, .next = s->nodes[at].child};
    s->nodes[at].child = c;
    return c;
}

/* Alternatives come in brace order, so neighbours share their beginnings. */
static bool tree_build(Scan *s)
{
    const Pattern *p = s->p;
    if (!mem_grow(&s->nodes, &s->cap, 1, sizeof *s->nodes))
        return false;
    s->nodes[s->nnodes++] = (Node){.child = -1, .next = -1};
    for (int32_t i = 0; i < p->nalts; i++) {
        int32_t at = 0;
        for (int32_t k = 0; k < p->alts[i].count && at >= 0; k++)
            at = node_child(s, at, &p->tokens[p->alts[i].first + k]);
        if (at < 0)
            return false;
        s->nodes[at].accept = true;
    }
    return true;
}

static int by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Adds a node and the stars behind it to the set in work. */
static void set_add(Scan *s, int32_t *n, int32_t node)
{
    if (s->mark[node] == s->round)
        return;
    s->mark[node] = s->round;
    int32_t from = *n;
    s->work[(*n)++] = node;
    for (int32_t k = from; k < *n; k++)
        for (int32_t c = s->nodes[s->work[k]].child; c >= 0; c = s->nodes[c].next)
            if (s->nodes[c].tok.kind == TK_STAR && s->mark[c] != s->round) {
                s->mark[c] = s->round;
                s->work[(*n)++] = c;
            }
}

/* State of the set in work; UNKNOWN when memory is short or the table is full. */
static int32_t state_of(Scan *s, int32_t n)
{
    if (!n)
        return DEAD;
    if (n > 1)
        qsort(s->work, (size_t)n, sizeof *s->work, by_number);
    int64_t have = map_get(&s->index, (const char *)s->work, (size_t)n * sizeof *s->work, -1);
    if (have >= 0)
        return (int32_t)have;
    for (int32_t k = 0; k < n; k++)
        if (s->work[k] && s->nodes[s->work[k]].accept && s->nodes[s->work[k]].tok.kind == TK_STAR)
            return ALWAYS;
    if (s->nstates == STATES_MAX)
        return UNKNOWN;
    State st = {.n = n, .set = arena_alloc(&s->arena, (size_t)n * sizeof *st.set)};
    if (!st.set)
        return UNKNOWN;
    memcpy(st.set, s->work, (size_t)n * sizeof *st.set);
    if (!map_add(&s->index, (const char *)st.set, (size_t)n * sizeof *st.set, s->nstates, NULL))
        return UNKNOWN;
    for (int32_t k = 0; k < n; k++)
        st.accept |= s->nodes[st.set[k]].accept;
    memset(s->next[s->nstates], 0xff, sizeof s->next[0]);
    s->states[s->nstates] = st;
    return s->nstates++;
}

static int32_t state_start(Scan *s)
{
    int32_t n = 0;
    s->round++;
    set_add(s, &n, 0);
    return state_of(s, n);
}

static int32_t state_step(Scan *s, int32_t from, unsigned char byte)
{
    const State *st = &s->states[from];
    int32_t n = 0;
    s->round++;
    for (int32_t k = 0; k < st->n; k++) {
        const Node *d = &s->nodes[st->set[k]];
        if (d->tok.kind == TK_STAR && st->set[k] != 0)
            set_add(s, &n, st->set[k]);
        for (int32_t c = d->child; c >= 0; c = s->nodes[c].next) {
            const Token *t = &s->nodes[c].tok;
            bool take = (t->kind == TK_BYTE && t->byte == byte) || t->kind == TK_ANY ||
                        (t->kind == TK_CLASS && class_has(&s->p->classes[t->cls], byte));
            if (take)
                set_add(s, &n, c);
        }
    }
    return state_of(s, n);
}

static void states_drop(Scan *s)
{
    map_free(&s->index);
    s->index = (Map){0};
    arena_free(&s->arena);
    s->arena = (Arena){0};
    s->nstates = 0;
}

static bool scan_init(Scan *s, const Pattern *p)
{
    *s = (Scan){.p = p};
    if (!tree_build(s))
        return false;
    s->states = mem_array(STATES_MAX, sizeof *s->states);
    s->next = mem_array(STATES_MAX, sizeof *s->next);
    s->work = mem_array(s->nnodes, sizeof *s->work);
    s->mark = mem_zarray(s->nnodes, sizeof *s->mark);
    return s->states && s->next && s->work && s->mark;
}

static void scan_fini(Scan *s)
{
    states_drop(s);
    free(s->nodes);
    free(s->states);
    free(s->next);
    free(s->work);
    free(s->mark);
}

/* The states along the name walked last: at[i] is the one after i bytes, valid for i <= known. */
typedef struct Trail {
    int32_t at[DEPTH_MAX + 1];
    const char *name;
    size_t known;
} Trail;

/* 1 match, 0 none, -1: this name needs the plain matcher. */
static int scan_name(Scan *s, Trail *tr, const char *name)
{
    size_t i = 0;
    if (*name == '.' || !*name)
        return -1;
    if (tr->name) {
        while (i < tr->known && tr->name[i] == name[i])
            i++;
    } else {
        int32_t start = state_start(s);
        if (start < 0)
            return start == ALWAYS ? 1 : -1;
        tr->at[0] = start;
    }
    tr->name = name;
    tr->known = i;
    int st = tr->at[i];
    for (; name[i]; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c >= 128 || i + 1 > DEPTH_MAX)
            return -1;
        int to = s->next[st][c];
        if (to == UNKNOWN) {
            to = state_step(s, st, c);
            if (to == UNKNOWN) { /* full: start again with an empty table */
                states_drop(s);
                tr->name = NULL;
                return -1;
            }
            s->next[st][c] = (int16_t)to;
        }
        if (to < 0)
            return to == ALWAYS;
        st = to;
        tr->at[i + 1] = st;
        tr->known = i + 1;
    }
    return s->states[st].accept;
}

int64_t pattern_hits(const Pattern *p, const Model *m, bool *hits)
{
    Scan s;
    Trail *tr = mem_array(1, sizeof *tr);
    bool fast = scan_init(&s, p) && tr;
    int64_t n = 0;
    if (fast)
        tr->name = NULL;
    for (int64_t i = 0; i < m->nlinears; i++) {
        const char *name = m->linears[i].name;
        int r = fast ? scan_name(&s, tr, name) : -1;
        bool hit = r < 0 ? pattern_match(p, name) : r > 0 || strcmp(name, p->text) == 0;
        hits[i] |= hit;
        n += hit;
    }
    scan_fini(&s);
    free(tr);
    return n;
}
