/* How far the calibration set reaches into the routed experts. */
#include "session/parts.h"
#include "session/results.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool session_unseen(const Session *s, int64_t linear)
{
    const LinearStats *sl = &s->results->scores.linear[linear];
    return s->model->linears[linear].expert >= 0 && (sl->needs & NEED_INPUT) && sl->r.in.rows == 0;
}

/* Tokens that reached an expert, known by any of its linears. */
typedef struct Reached {
    int64_t tokens, linear;
} Reached;

static int by_tokens(const void *pa, const void *pb)
{
    const Reached *a = pa, *b = pb;
    if (a->tokens != b->tokens)
        return a->tokens < b->tokens ? -1 : 1;
    return a->linear < b->linear ? -1 : a->linear > b->linear;
}

/* The measured experts in model order; their linears stand together. */
static int64_t list_experts(const Session *s, Reached *out)
{
    int64_t n = 0;
    int32_t layer = -1, expert = -1;
    for (int64_t i = 0; i < s->model->nlinears; i++) {
        const Linear *l = &s->model->linears[i];
        if (l->expert < 0 || !(s->results->scores.linear[i].needs & NEED_INPUT) || (l->layer == layer && l->expert == expert))
            continue;
        layer = l->layer;
        expert = l->expert;
        if (out)
            out[n] = (Reached){s->results->scores.linear[i].r.in.rows, i};
        n++;
    }
    return n;
}

bool session_coverage(const Session *s, Coverage *out)
{
    *out = (Coverage){.first_unseen = -1, .fewest = -1};
    int64_t n = s->model && s->model->cfg.moe.experts ? list_experts(s, NULL) : 0;
    Reached *list = n ? mem_array((size_t)n, sizeof *list) : NULL;
    if (!list)
        return false;
    list_experts(s, list);
    qsort(list, (size_t)n, sizeof *list, by_tokens);
    out->experts = n;
    while (out->unseen < n && list[out->unseen].tokens == 0)
        out->unseen++;
    if (out->unseen > 0)
        out->first_unseen = list[0].linear;
    if (out->unseen < n) {
        out->fewest = list[out->unseen].linear;
        out->fewest_tokens = list[out->unseen].tokens;
    }
    out->median = ((double)list[(n - 1) / 2].tokens + (double)list[n / 2].tokens) / 2;
    free(list);
    return true;
}

static void expert_name(const Model *m, int64_t linear, Str *out)
{
    const char *name = m->linears[linear].name, *dot = strrchr(name, '.');
    str_append(out, name, dot ? (size_t)(dot - name) : strlen(name));
}

void coverage_log(Session *s)
{
    Coverage c;
    if (!session_coverage(s, &c))
        return;
    Str text = {0};
    str_printf(&text, "experts: %lld of %lld saw no token", (long long)c.unseen, (long long)c.experts);
    if (c.unseen) {
        str_puts(&text, " and are not measured, the first is ");
        expert_name(s->model, c.first_unseen, &text);
    }
    if (c.fewest >= 0) {
        str_printf(&text, "; fewest%s %lld (", c.unseen ? " of the others" : "", (long long)c.fewest_tokens);
        expert_name(s->model, c.fewest, &text);
        str_printf(&text, "), median of all %.10g", c.median);
    }
    session_log(s, c.unseen > 0, "%s", str_text(&text));
    str_free(&text);
}
