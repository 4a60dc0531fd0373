/* The tensors of a model as a tree by their names. */
#include "session/modeltree.h"

#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/map.h"
#include "base/mem.h"
#include "session/parts.h"

/* Names by their parts, numbers by their size: layers.9 before layers.10. */
static int natural(const char *a, const char *b)
{
    while (*a && *b) {
        if (ascii_is_digit(*a) && ascii_is_digit(*b)) {
            size_t na = strspn(a, "0123456789"), nb = strspn(b, "0123456789");
            int c = na != nb ? (na < nb ? -1 : 1) : memcmp(a, b, na);
            if (c)
                return c;
            a += na;
            b += nb;
        } else if (*a != *b) {
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        } else {
            a++;
            b++;
        }
    }
    return (*a != 0) - (*b != 0);
}

static int by_name(const void *a, const void *b)
{
    return natural((*(const TensorInfo *const *)a)->name, (*(const TensorInfo *const *)b)->name);
}

static bool is_number(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!ascii_is_digit(s[i]))
            return false;
    return n > 0;
}

enum { STEPS_MAX = 6 };

/* Where the steps of a name end: behind its first number, one component, behind the next number, the rest. */
static int steps_of(const char *name, size_t end[STEPS_MAX])
{
    size_t len = strlen(name), at = 0;
    int n = 0;
    bool first = true;
    while (at < len && n < STEPS_MAX - 1) {
        size_t stop = at, number = 0;
        int parts = 0;
        for (size_t i = at; i < len; parts++) {
            size_t w = strcspn(name + i, ".");
            if (!number && is_number(name + i, w))
                number = i + w;
            if (parts == 0)
                stop = i + w;
            i += w + 1;
        }
        if (!number && (first || parts <= 2))
            break; /* what is left is the tensor */
        end[n] = first || (number && n > 1) ? number : stop;
        first = false;
        at = end[n++] + 1;
    }
    end[n++] = len;
    return n;
}

static bool new_node(ModelTree *t, size_t *cap, const char *name, size_t len, int32_t parent, int depth)
{
    if (!mem_grow(&t->node, cap, (size_t)t->n + 1, sizeof *t->node))
        return false;
    char *copy = arena_strndup(&t->names, name, len);
    t->node[t->n] = (TreeNode){.name = copy, .parent = parent, .depth = depth, .linear = -1, .end = t->n + 1};
    t->n += copy != NULL;
    return copy != NULL;
}

/* The linear that a tensor belongs to by its name. */
static int64_t linear_of(const Session *s, const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? map_get(&s->by_name, name, (size_t)(dot - name), -1) : -1;
}

static Status add_tensor(const Session *s, ModelTree *t, size_t *cap, const TensorInfo *info, int32_t open[STEPS_MAX], int *depth,
                         Error *err)
{
    size_t end[STEPS_MAX], from = 0;
    int n = steps_of(info->name, end), k = 0;
    while (k < n - 1 && k < *depth) { /* steps that the tensor before went, too */
        const char *name = t->node[open[k]].name;
        if (strlen(name) != end[k] - from || memcmp(name, info->name + from, end[k] - from) != 0)
            break;
        from = end[k++] + 1;
    }
    for (; k < n; k++) {
        int32_t own = t->n;
        if (!new_node(t, cap, info->name + from, end[k] - from, k ? open[k - 1] : -1, k))
            return error_nomem(err, "the tree of tensors");
        open[k] = own;
        from = end[k] + 1;
    }
    *depth = n - 1;
    TreeNode *leaf = &t->node[t->n - 1];
    leaf->tensor = info;
    leaf->linear = linear_of(s, info->name);
    return ST_OK;
}

/* Sums of what is below, from the last node on. */
static void add_up(const Session *s, ModelTree *t)
{
    for (int32_t i = 0; i < t->n; i++)
        t->node[i].dtype = DT_COUNT;
    bool *begun = mem_zarray((size_t)t->n + 1, sizeof *begun);
    for (int32_t i = t->n - 1; i >= 0; i--) {
        TreeNode *x = &t->node[i];
        if (x->tensor) {
            x->tensors = 1;
            x->bytes = x->tensor->nbytes;
            x->dtype = x->tensor->dtype;
            x->linears = x->linear >= 0 && s->model->linears[x->linear].weight == x->tensor;
        }
        if (x->parent < 0)
            continue;
        TreeNode *p = &t->node[x->parent];
        p->tensors += x->tensors;
        p->linears += x->linears;
        p->bytes += x->bytes;
        p->end = p->end > x->end ? p->end : x->end;
        if (begun && !begun[x->parent])
            p->dtype = x->dtype;
        else if (p->dtype != x->dtype)
            p->dtype = DT_COUNT;
        if (begun)
            begun[x->parent] = true;
    }
    free(begun);
}

Status model_tree_make(const Session *s, ModelTree *out, Error *err)
{
    const Checkpoint *c = s->model->ckpt;
    int64_t n = checkpoint_count(c);
    *out = (ModelTree){0};
    const TensorInfo **list = mem_array((size_t)n + 1, sizeof *list);
    size_t cap = 0;
    int32_t open[STEPS_MAX];
    int depth = 0;
    if (!list || n > INT32_MAX / STEPS_MAX) {
        free(list);
        return error_nomem(err, "the tree of tensors");
    }
    for (int64_t i = 0; i < n; i++)
        list[i] = checkpoint_at(c, i);
    qsort(list, (size_t)n, sizeof *list, by_name);
    Status st = ST_OK;
    for (int64_t i = 0; st == ST_OK && i < n; i++)
        st = add_tensor(s, out, &cap, list[i], open, &depth, err);
    free(list);
    if (st == ST_OK)
        add_up(s, out);
    else
        model_tree_free(out);
    return st;
}

void model_tree_free(ModelTree *t)
{
    free(t->node);
    arena_free(&t->names);
    *t = (ModelTree){0};
}

TreeLevels model_tree_levels(const Session *s, const ModelTree *t, int32_t node)
{
    TreeLevels l = {.level = -1};
    for (int32_t i = node; i < t->node[node].end; i++) {
        const TreeNode *x = &t->node[i];
        if (x->linear < 0 || (node != i && s->model->linears[x->linear].weight != x->tensor))
            continue;
        int level = session_level_of(s, x->linear);
        if (level == 0)
            l.floats++;
        else if (l.linears == l.floats) /* the first that is not */
            l.level = level;
        else if (l.level != level)
            l.level = -1;
        l.linears++;
    }
    return l;
}
