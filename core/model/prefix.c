#include <stdio.h>
#include <string.h>

#include "model/open.h"

/* Where in the checkpoint the decoder stands: what its tensors' names begin with. The family's row knows the usual
 * place; text parts of multimodal models, compiled, wrapped or bare modules have others, which the tensors tell. */

/* Of several decoders in a checkpoint the one that reads text. */
static const char *const preferred[] = {
    "model.language_model.", "language_model.model.", "language_model.", "thinker.model.", "model.text_model.",
    "text_model.", "llm.model.", "model.llm.",
};

static const char layers_word[] = "layers.";

static bool ends_with(const char *s, const char *end, size_t *rest)
{
    size_t n = strlen(s), k = strlen(end);
    *rest = n - k;
    return n >= k && strcmp(s + n - k, end) == 0;
}

/* Whether there are tensors of layers below the first n bytes of `name`. */
static bool has_layers(const Checkpoint *c, const char *name, size_t n)
{
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const char *t = checkpoint_at(c, i)->name;
        if (strncmp(t, name, n) == 0 && strncmp(t + n, layers_word, sizeof layers_word - 1) == 0)
            return true;
    }
    return false;
}

/* Bytes of `name` before the table of embeddings that it is; -1 when it is none of a decoder. */
static int64_t body_of(const Open *o, const char *name)
{
    const char *const tables[] = {o->m->arch->entry.table, "embed_tokens.weight"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        size_t n;
        if (tables[i] && ends_with(name, tables[i], &n) && (n == 0 || name[n - 1] == '.') &&
            has_layers(o->m->ckpt, name, n))
            return (int64_t)n;
    }
    return -1;
}

/* Place of a prefix among those preferred, beyond them all when it is none. */
static size_t rank(const char *name, size_t n, const char *usual)
{
    size_t i = 0, count = sizeof preferred / sizeof *preferred;
    if (strlen(usual) == n && memcmp(name, usual, n) == 0)
        return 0;
    while (i < count && !(strlen(preferred[i]) == n && memcmp(name, preferred[i], n) == 0))
        i++;
    return i + 1;
}

/* What a tensor's name begins with. */
typedef struct Place {
    const char *name;
    size_t n;
} Place;

static bool same_place(Place a, Place b)
{
    return a.n == b.n && memcmp(a.name, b.name, a.n) == 0;
}

/* The body whose table of embeddings is there, of several the one that is preferred; name NULL: none is. */
static Status find_table(const Open *o, const char *usual, Place *out)
{
    const Checkpoint *c = o->m->ckpt;
    size_t best = SIZE_MAX;
    Place other = {NULL, 0};
    *out = other;
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const char *name = checkpoint_at(c, i)->name;
        int64_t n = body_of(o, name);
        Place p = {name, n < 0 ? 0 : (size_t)n};
        size_t r = n < 0 ? SIZE_MAX : rank(name, p.n, usual);
        if (n < 0 || r > best || (out->name && same_place(*out, p)))
            continue;
        other = r == best ? *out : (Place){NULL, 0};
        best = r;
        *out = p;
    }
    if (!other.name)
        return ST_OK;
    return error_set(o->err, ST_DATA, "'%s': the checkpoint has several decoders, '%.*s' and '%.*s': give one with a single "
                     "model", open_file_of(o, NULL), (int)other.n, other.name, (int)out->n, out->name);
}

/* Without a table the layers tell, so that the error names what is missing where it should be. */
static void find_layers(const Open *o, const char *usual, Place *out)
{
    const Checkpoint *c = o->m->ckpt;
    for (int64_t i = 0; i < checkpoint_count(c) && !has_layers(c, usual, strlen(usual)); i++) {
        const char *name = checkpoint_at(c, i)->name, *at = strstr(name, "layers.0.");
        if (at && (at == name || at[-1] == '.')) {
            *out = (Place){name, (size_t)(at - name)};
            return;
        }
    }
}

Status open_place(Open *o)
{
    enum { BODY_MAX = 64 };
    Model *m = o->m;
    const char *usual = m->arch->prefix ? "" : "model.";
    char layers[BODY_MAX + sizeof layers_word];
    Place p;
    RETURN_IF_ERROR(find_table(o, usual, &p));
    if (!p.name)
        find_layers(o, usual, &p);
    if (!p.name)
        p = (Place){usual, strlen(usual)};
    if (p.n > BODY_MAX)
        return error_set(o->err, ST_DATA, "'%s': what the tensors' names begin with is too long: '%.*s'",
                         open_file_of(o, NULL), BODY_MAX, p.name);
    snprintf(layers, sizeof layers, "%.*s%s", (int)p.n, p.name, layers_word);
    m->body = arena_strndup(&m->arena, p.name, p.n);
    m->layers = arena_strdup(&m->arena, layers);
    return m->body && m->layers ? ST_OK : error_nomem(o->err, "the model");
}

const TensorInfo *open_find_head(const Open *o, const char *name)
{
    char text[NAME_MAX_BYTES];
    size_t n = strlen(o->m->body);
    for (;;) {
        snprintf(text, sizeof text, "%.*s%s", (int)n, o->m->body, name);
        const TensorInfo *t = checkpoint_find(o->m->ckpt, text);
        if (t || n == 0)
            return t;
        for (n--; n && o->m->body[n - 1] != '.'; n--) { /* up to the module above */
        }
    }
}
