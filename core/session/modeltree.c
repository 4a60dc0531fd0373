/* The tensors of a model as a tree by their names. */
#include "session/modeltree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/map.h"
#include "base/mem.h"
#include "session/assignment.h"
#include "session/parts.h"
#include "session/rules.h"
#include "session/settings.h"
#include "session/table.h"

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

/* ---- why not ---- */

/* By a part of the name: the first row that fits. */
static const struct TensorKind {
    const char *part, *why;
} tensor_kinds[] = {
    {"norm", "a norm: so few values that nothing would be gained"},
    {"embed", "an embedding: rows are looked up, nothing is multiplied"},
    {"lm_head", "the output head: every inference engine keeps it in float"},
    {".bias", "a bias: it is added in float"},
    {"router", "a router: a small error would choose other experts"},
    {"mlp.gate.", "a router: a small error would choose other experts"},
    {"correction_bias", "a router's bias: a small error would choose other experts"},
    {"rotary", "positions: computed in float"},
    {"inv_freq", "positions: computed in float"},
    {"sinks", "attention sinks: a value for each head"},
    {"conv1d", "a short convolution: no matrix product"},
    {"A_log", "the state's decay: a value for each head"},
    {"dt_bias", "the state's step: a value for each head"},
    {"scale", "the scale of a weight that is stored quantized"},
};

static const char *why_float(const Session *s, int64_t linear, const char **arg)
{
    const RuleList *l = &s->assignment->rules;
    const RuleRow *by = NULL;
    if (s->assignment->opened[linear] == 0)
        return s->model->linears[linear].kept ? "the recipe leaves it float, as every inference engine does" : "the recipe leaves it float";
    for (int i = 0; i < l->n; i++)
        for (int64_t k = 0; l->row[i].on && l->row[i].to == 0 && k < l->row[i].rule->nclosed; k++)
            by = l->row[i].rule->closed[k] == linear ? &l->row[i] : by;
    if (!by)
        return "float by a decision that is no rule";
    *arg = by->rule->text;
    return by->fitted ? "float by the rule '%s', which a fit made, on What-if (2)" : "float by the rule '%s' on What-if (2)";
}

const char *model_tree_why(const Session *s, const ModelTree *t, int32_t node, const char **arg)
{
    const TreeNode *x = &t->node[node];
    *arg = "";
    if (!x->tensor)
        return "";
    if (x->linear >= 0 && s->model->linears[x->linear].weight == x->tensor)
        return session_level_of(s, x->linear) == 0 ? why_float(s, x->linear, arg) : "";
    for (size_t i = 0; i < sizeof tensor_kinds / sizeof *tensor_kinds; i++)
        if (strstr(x->tensor->name, tensor_kinds[i].part))
            return tensor_kinds[i].why;
    return x->linear >= 0 ? "of a linear, but not its weight: it goes along" : "of no linear that is quantized: it is copied";
}

/* ---- filter ---- */

static bool has_part(const char *name, const char *part, size_t n)
{
    for (; *name; name++)
        if (ascii_ncasecmp(name, part, n) == 0)
            return true;
    return n == 0;
}

/* One word without its '!'; ST_USAGE for a size that is none. */
static Status word_holds(const Session *s, const TreeNode *x, const char *word, size_t n, bool *is, Error *err)
{
    static const char type[] = "type=", size[] = "size";
    char text[32];
    uint64_t bytes;
    bool linear = x->linear >= 0, weight = linear && s->model->linears[x->linear].weight == x->tensor;
    snprintf(text, sizeof text, "%.*s", (int)n, word);
    if (strncmp(text, type, sizeof type - 1) == 0) {
        *is = ascii_casecmp(dtype_name(x->tensor->dtype), text + sizeof type - 1) == 0;
    } else if (strncmp(text, size, sizeof size - 1) == 0 && (text[4] == '>' || text[4] == '<')) {
        if (!setting_bytes(text + 5, &bytes))
            return text[5] ? error_set(err, ST_USAGE, "'%s' is no size: size>1M, size<4K", text + 5) : (*is = true, ST_OK);
        *is = text[4] == '>' ? x->bytes > bytes : x->bytes < bytes;
    } else if (strcmp(text, "float") == 0 || strcmp(text, "quantized") == 0) {
        *is = weight && (session_level_of(s, x->linear) == 0) == (text[0] == 'f');
    } else if (strcmp(text, "copied") == 0) {
        *is = !weight;
    } else {
        *is = has_part(x->tensor->name, word, n);
    }
    return ST_OK;
}

static Status passes(const Session *s, const TreeNode *x, const char *expr, bool *out, Error *err)
{
    *out = true;
    for (const char *p = expr + strspn(expr, " "); *p && *out; p += strspn(p, " ")) {
        size_t n = strcspn(p, " ");
        bool is, not = *p == '!' && n > 1;
        RETURN_IF_ERROR(word_holds(s, x, p + not, n - not, &is, err));
        *out = is != not;
        p += n;
    }
    return ST_OK;
}

Status model_tree_filter(const Session *s, const ModelTree *t, const char *expr, bool *shown, int64_t *hits, Error *err)
{
    *hits = 0;
    memset(shown, 0, (size_t)t->n * sizeof *shown);
    for (int32_t i = 0; i < t->n; i++) {
        bool is = false;
        if (!t->node[i].tensor)
            continue;
        RETURN_IF_ERROR(passes(s, &t->node[i], expr, &is, err));
        *hits += is;
        for (int32_t p = is ? i : -1; p >= 0 && !shown[p]; p = t->node[p].parent)
            shown[p] = true;
    }
    return ST_OK;
}

Status session_tensor_filter(Session *s, const char *expr, Error *err)
{
    Table *t = s->table;
    bool is;
    if (!s->model || !checkpoint_count(s->model->ckpt))
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    const TreeNode any = {.tensor = checkpoint_at(s->model->ckpt, 0), .name = "", .linear = -1};
    for (const char *p = expr + strspn(expr, " "); *p; p += strcspn(p, " "), p += strspn(p, " ")) {
        size_t not = *p == '!' && p[1] && p[1] != ' ';
        RETURN_IF_ERROR(word_holds(s, &any, p + not, strcspn(p, " ") - not, &is, err)); /* what is no word of filters */
    }
    if (strlen(expr) >= sizeof t->tensors)
        return error_set(err, ST_USAGE, "a filter of tensors has at most %zu characters", sizeof t->tensors - 1);
    snprintf(t->tensors, sizeof t->tensors, "%s", expr);
    return ST_OK;
}

const char *session_tensor_filter_text(const Session *s)
{
    return s->table->tensors;
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
