#include "model/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/map.h"
#include "base/str.h"
#include "io/file.h"
#include "model/config.h"
#include "model/defaults.h"
#include "model/mtp.h"
#include "model/open.h"
#include "model/storage.h"

enum { CONFIG_MAX = 10000000 };

/* The sum at the end of hyper-connections: hc_head_fn and so on, hc_head.hc_fn where transformers saved them. */
static Status take_hyper(Open *o, const char *name)
{
    char own[NAME_MAX_BYTES], saved[NAME_MAX_BYTES];
    snprintf(saved, sizeof saved, "%s%s.hc_fn", o->m->body, name);
    bool as_saved = checkpoint_find(o->m->ckpt, saved) != NULL;
    snprintf(own, sizeof own, "%s%s%s", o->m->body, name, as_saved ? ".hc" : "");
    return open_hyper(o, own, o->m->cfg.hyper.copies, 1, o->m->exit.hyper);
}

static Status take_all(Open *o, bool has_dtype, Str *w)
{
    Model *m = o->m;
    ModelConfig *c = &m->cfg;
    static const char table[] = "vocab_size, hidden_size", usual[] = "embed_tokens.weight";
    const EntrySpec *in = &m->arch->entry;
    const ExitSpec *out = &m->arch->exit;
    RETURN_IF_ERROR(open_place(o));
    RETURN_IF_ERROR(open_body_take(o, config_key(in->table, usual), usual, false, c->vocab, c->hidden, table,
                                   &m->entry.table));
    m->entry.scaled = in->scaled;
    RETURN_IF_ERROR(open_units(o));
    RETURN_IF_ERROR(open_body_take(o, "norm.weight", NULL, false, c->hidden, 0, "hidden_size", &m->exit.norm));
    if (c->norm == NORM_LAYER)
        RETURN_IF_ERROR(open_body_take(o, "norm.bias", NULL, true, c->hidden, 0, "hidden_size", &m->exit.norm_bias));
    if (out->hyper)
        RETURN_IF_ERROR(take_hyper(o, out->hyper));
    RETURN_IF_ERROR(open_head(o, w));
    if (!has_dtype)
        c->dtype = m->entry.table->dtype;
    return ST_OK;
}

/* Tensors of a decoder layer that no result depends on: tables that are recomputed, masks, scales of a cache in FP8. */
static bool is_harmless(const char *name)
{
    static const char *const ends[] = {"rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached",
                                       ".masked_bias",        ".k_scale",              ".v_scale",
                                       ".q_scale",            ".prob_scale"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t len = strlen(ends[i]);
        if (n >= len && strcmp(name + n - len, ends[i]) == 0)
            return true;
    }
    return false;
}

/* The first tensor of a decoder layer that has no place in it; *count of them. */
static const TensorInfo *unused_tensor(const Open *o, int64_t *count)
{
    const Checkpoint *c = o->m->ckpt;
    const TensorInfo *first = NULL;
    const char *prefix = open_layers_prefix(o);
    size_t len = strlen(prefix);
    *count = 0;
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const TensorInfo *t = checkpoint_at(c, i);
        if (o->used[i] || strncmp(t->name, prefix, len) != 0 || is_harmless(t->name))
            continue;
        if (strtol(t->name + len, NULL, 10) >= o->m->cfg.layers) /* multi-token prediction layers */
            continue;
        first = first ? first : t;
        ++*count;
    }
    return first;
}

void open_warn(Str *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (w->len)
        str_puts(w, "; ");
    str_vprintf(w, fmt, ap);
    va_end(ap);
}

/* Tells of tensors that belong to no layer and to no end of the decoder: parts that see or hear, heads of other tasks. */
static void note_others(const Open *o, Str *w)
{
    const Model *m = o->m;
    const char *prefix = open_layers_prefix(o), *first = NULL;
    int64_t n = 0;
    for (int64_t i = 0; i < checkpoint_count(m->ckpt); i++) {
        const TensorInfo *t = checkpoint_at(m->ckpt, i);
        if (o->used[i] || strncmp(t->name, prefix, strlen(prefix)) == 0 || t == m->exit.spare ||
            model_mtp_tensor(m, t->name) || strstr(t->name, "rotary_emb.inv_freq"))
            continue;
        first = first ? first : t->name;
        n++;
    }
    if (n)
        open_warn(w, "%lld tensor%s not of the decoder, %s '%s': %s copied and not analysed", (long long)n,
                  n == 1 ? " is" : "s are", n == 1 ? "it is" : "the first is", first, n == 1 ? "it is" : "they are");
}

/* A tensor that isn't used makes another model: a key of config.json may be missing or wrong. */
static Status check_unused(Open *o, bool known)
{
    int64_t n;
    char more[64] = "";
    const TensorInfo *t = unused_tensor(o, &n);
    if (!t)
        return ST_OK;
    if (n > 1)
        snprintf(more, sizeof more, " (and %lld more)", (long long)n - 1);
    return error_set(o->err, ST_DATA, "'%s': tensor '%s'%s has no place in a %s decoder as config.json describes it",
                     open_file_of(o, t), t->name, more, known ? o->m->arch->model_type : "Llama");
}

/* Folder of best practices of a name of the row's. */
static const char *pedigree_of(const Arch *a, const char *name)
{
    const ArchName *n = a->names;
    while (n && n->name && strcmp(n->name, name) != 0)
        n++;
    const char *own = n && n->name ? n->pedigree : NULL;
    return own ? own : a->pedigree ? a->pedigree : a->model_type;
}

/* What the user's --model_type (may be NULL) has to say about the type found in config.json. */
static void check_user_type(Model *m, const char *user, bool known, Str *w)
{
    const char *type = m->cfg.model_type;
    m->pedigree = pedigree_of(m->arch, type);
    if (!known)
        open_warn(w, "model_type '%s' is not built in: its tensors fit a Llama decoder, so it runs as one; compare a result "
                "before you trust it", type);
    if (!user || strcmp(user, type) == 0)
        return;
    const Arch *a = arch_find(user);
    if (!a)
        open_warn(w, "--model_type '%s' is not known: config.json says '%s', which is used", user, type);
    else if (a != m->arch || !known)
        open_warn(w, "--model_type '%s' means '%s', but config.json says '%s', which is used", user, a->model_type, type);
    else
        m->pedigree = pedigree_of(a, user);
}

static void fingerprint(Model *m, const char *config, size_t len)
{
    Hasher h;
    hasher_init(&h);
    hasher_u64(&h, len);
    hasher_bytes(&h, config, len);
    hasher_str(&h, checkpoint_fingerprint(m->ckpt));
    Digest d = hasher_end(&h);
    digest_hex(&d, m->fingerprint);
}

/* The decoder's part of config.json. Keys that are not known go to *unknown. */
static Status read_decoder(Open *o, const cJSON *root, cJSON *config, bool known, bool *has_dtype, Str *unknown)
{
    Model *m = o->m;
    Error *err = o->err;
    RETURN_IF_ERROR(config_judge(config, known, unknown, err));
    if (known)
        RETURN_IF_ERROR(config_synonyms(config, m->cfg.model_type, err));
    if (known)
        RETURN_IF_ERROR(config_defaults(config, m->arch, err));
    RETURN_IF_ERROR(config_read(config, m->arch, known, &m->arena, &m->cfg, has_dtype, err));
    o->may_tie = m->cfg.tied;
    if (config != root) /* the whole model's word counts before that of the part */
        RETURN_IF_ERROR(json_bool(root, "tie_word_embeddings", &m->cfg.tied, NULL, err));
    bool foreign;
    Status st = storage_config(root, config, &m->cfg, &foreign, err);
    if (st != ST_DATA || !foreign)
        return st;
    o->coding = arena_strdup(&m->arena, err->text);
    return o->coding ? ST_OK : error_nomem(err, "config.json");
}

/* config.json into m->cfg and m->arch. */
static Status read_config(Open *o, cJSON *root, const char *path, bool *known, bool *has_dtype, Str *w)
{
    Model *m = o->m;
    Error *err = o->err;
    Str unknown = {0};
    if (!cJSON_IsObject(root))
        return error_set(err, ST_DATA, "'%s': expected an object", path);
    cJSON *config = config_text(root);
    Status st = config_model_type(config, m->cfg.model_type, err);
    if (st == ST_OK) {
        m->arch = arch_find(m->cfg.model_type);
        *known = m->arch != NULL;
        if (!m->arch)
            m->arch = arch_find("llama");
        if (!m->arch)
            return error_set(err, ST_INTERNAL, "no row for 'llama' in the table of architectures");
        st = read_decoder(o, root, config, *known, has_dtype, &unknown);
    }
    if (st == ST_OK && unknown.len)
        open_warn(w, "config.json has keys that are not known and may change what the model computes: %s", unknown.s);
    if (st == ST_OK && unknown.oom)
        st = error_nomem(err, "config.json");
    str_free(&unknown);
    if (st == ST_DATA)
        error_prefix(err, st, "'%s': ", path);
    return st;
}

/* An entry of config.json that tells of coded weights of a kind that is not read: only where they are floats it does not
 * matter. st: of taking the tensors. */
static Status check_coding(Open *o, Status st, Str *w)
{
    const Model *m = o->m;
    bool coded = st == ST_DATA;
    for (int64_t i = 0; i < m->nlinears && !coded; i++)
        coded = m->linears[i].store != NULL;
    if (!o->coding || (st != ST_OK && st != ST_DATA))
        return st;
    if (coded)
        return error_set(o->err, ST_DATA, "'%s/config.json': %s", m->path, o->coding);
    open_warn(w, "config.json has a quantization_config of a kind that is not read, but the weights are floats: it is "
                 "left aside");
    return ST_OK;
}

static Status build(Open *o, const char *dir, bool known, bool has_dtype, const char *user_type, Str *w)
{
    Model *m = o->m;
    Status st = checkpoint_open(&m->ckpt, dir, o->err);
    if (st == ST_OK && !(o->used = mem_zarray((size_t)checkpoint_count(m->ckpt), sizeof *o->used)))
        st = error_nomem(o->err, "the model's tensors");
    if (st == ST_OK && checkpoint_note(m->ckpt))
        open_warn(w, "%s", checkpoint_note(m->ckpt));
    if (st == ST_OK)
        st = check_coding(o, take_all(o, has_dtype, w), w);
    if (st == ST_OK)
        st = check_unused(o, known);
    if (st == ST_OK)
        note_others(o, w);
    if (st == ST_OK)
        check_user_type(m, user_type, known, w);
    if (st == ST_OK && (w->oom || (w->len && !(m->warning = arena_strdup(&m->arena, w->s)))))
        st = error_nomem(o->err, "the model");
    return st;
}

/* Names the built-in types in front of an error about a type that has no row. */
static void explain_unknown(const Model *m, Error *err)
{
    Str b = {0};
    for (const Arch *const *a = arch_table; *a; a++)
        str_printf(&b, "%s%s", b.len ? ", " : "", (*a)->model_type);
    error_prefix(err, ST_DATA, "model_type '%s' is not built in (%s are) and cannot run as a Llama: ", m->cfg.model_type,
                 str_text(&b));
    str_free(&b);
}

static Status open_in(Model *m, const char *config_path, const char *user_type, Error *err)
{
    char *text;
    size_t len;
    cJSON *root;
    bool known = true, has_dtype = false;
    Str w = {0};
    RETURN_IF_ERROR(file_read(config_path, CONFIG_MAX, &text, &len, err));
    Status st = json_parse_loose(text, len, config_path, &root, err);
    Open o = {.m = m, .err = err};
    if (st == ST_OK)
        st = read_config(&o, root, config_path, &known, &has_dtype, &w);
    cJSON_Delete(root);
    if (st == ST_OK)
        st = build(&o, m->path, known, has_dtype, user_type, &w);
    free(o.used);
    if (st == ST_OK)
        fingerprint(m, text, len);
    else if (st == ST_DATA && !known)
        explain_unknown(m, err);
    str_free(&w);
    free(text);
    return st;
}

Status model_open(Model **out, const char *path, const char *model_type, Error *err)
{
    *out = NULL;
    Model *m = calloc(1, sizeof *m);
    char *config_path = path_join(path, "config.json");
    Status st;
    if (!m || !config_path || !(m->path = strdup(path)))
        st = error_nomem(err, "a model");
    else
        st = open_in(m, config_path, model_type, err);
    free(config_path);
    if (st != ST_OK) {
        model_free(m);
        return st;
    }
    *out = m;
    return ST_OK;
}

void model_free(Model *m)
{
    if (!m)
        return;
    checkpoint_free(m->ckpt);
    map_free(&m->by_name);
    free(m->linears);
    free(m->groups);
    free(m->units);
    free(m->path);
    arena_free(&m->arena);
    free(m);
}

int64_t model_find_linear(const Model *m, const char *name)
{
    return map_get(&m->by_name, name, strlen(name), -1);
}
