#include "tests/lib/fake_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(Model *m, int layer, const char *rest, LinearKind kind, int64_t out, int64_t in, bool joins)
{
    char name[160];
    snprintf(name, sizeof name, "model.layers.%d.%s", layer, rest);
    int64_t i = m->nlinears++;
    if (!joins || !m->ngroups) {
        m->groups[m->ngroups++] = (FusedGroup){.first = (int32_t)i, .label = "."};
    }
    FusedGroup *g = &m->groups[m->ngroups - 1];
    g->count++;
    if (g->count == 2)
        strcpy(g->label, kind == LK_K ? "qkv" : "gu");
    m->linears[i] = (Linear){
        .name = arena_strdup(&m->arena, name), .out = out, .in = in, .layer = layer,
        .group = (int32_t)(m->ngroups - 1), .input = g->first, .kind = kind, .expert = -1,
    };
    map_add(&m->by_name, m->linears[i].name, strlen(m->linears[i].name), i, NULL);
    m->params += out * in;
}

static Model *empty(int64_t n)
{
    Model *m = calloc(1, sizeof *m);
    m->linears = calloc((size_t)n, sizeof *m->linears);
    m->groups = calloc((size_t)n, sizeof *m->groups);
    m->path = strdup("fake");
    strcpy(m->cfg.model_type, "qwen3");
    return m;
}

Model *fake_model(const FakeShape *s)
{
    int64_t per = 4 + (s->experts ? 1 + 3 * s->experts : 3);
    Model *m = empty(per * s->layers);
    m->cfg.layers = m->nunits = s->layers;
    int64_t h = s->hidden, f = s->inter;
    for (int l = 0; l < s->layers; l++) {
        add(m, l, "self_attn.q_proj", LK_Q, h, h, false);
        add(m, l, "self_attn.k_proj", LK_K, h / 2, h, true);
        add(m, l, "self_attn.v_proj", LK_V, h / 2, h, true);
        add(m, l, "self_attn.o_proj", LK_O, h, h, false);
        if (!s->experts) {
            add(m, l, "mlp.gate_proj", LK_GATE, f, h, false);
            add(m, l, "mlp.up_proj", LK_UP, f, h, true);
            add(m, l, "mlp.down_proj", LK_DOWN, h, f, false);
            continue;
        }
        add(m, l, "mlp.gate", LK_ROUTER, s->experts, h, false);
        for (int e = 0; e < s->experts; e++) {
            static const char *const part[] = {"gate_proj", "up_proj", "down_proj"};
            for (int k = 0; k < 3; k++) {
                char rest[64];
                snprintf(rest, sizeof rest, "mlp.experts.%d.%s", e, part[k]);
                add(m, l, rest, (LinearKind)(LK_GATE + k), k == 2 ? h : f, k == 2 ? f : h, k == 1);
            }
        }
    }
    return m;
}

Model *fake_model_names(const char *const *names, int n)
{
    Model *m = empty(n ? n : 1);
    for (int i = 0; i < n; i++) {
        m->groups[m->ngroups++] = (FusedGroup){.first = i, .count = 1, .label = "."};
        m->linears[m->nlinears++] = (Linear){
            .name = arena_strdup(&m->arena, names[i]), .out = 8, .in = 8, .group = i, .input = i, .kind = LK_OTHER,
            .expert = -1};
        map_add(&m->by_name, m->linears[i].name, strlen(m->linears[i].name), i, NULL);
    }
    return m;
}

void fake_model_free(Model *m)
{
    if (!m)
        return;
    map_free(&m->by_name);
    arena_free(&m->arena);
    free(m->linears);
    free(m->groups);
    free(m->path);
    free(m);
}

unsigned fake_random(unsigned long long *state)
{
    unsigned long long x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return (unsigned)(x >> 32);
}
