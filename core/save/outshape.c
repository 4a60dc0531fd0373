#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "io/file.h"
#include "io/json.h"
#include "model/block.h"
#include "model/config.h"
#include "save/outcheck_impl.h"
#include "save/pyjson.h"

/* Whether an output has every tensor that its config.json asks for, in its size: the headers of the model that it stands
 * for, whose weights nobody reads, are opened as a model is. */

enum { CONFIG_MAX = 64 << 20 };

/* ---- the model's headers ---- */

/* Type of its plain matrices. */
static DType plain_type(const OutCheck *o)
{
    for (int f = 0; f < o->files; f++)
        for (int64_t i = 0; i < checkpoint_count(o->file[f].c); i++) {
            const TensorInfo *t = checkpoint_at(o->file[f].c, i);
            if (t->ndim == 2 && (t->dtype == DT_F32 || t->dtype == DT_F16 || t->dtype == DT_BF16)
                && o->file[f].role[i] == OUT_FLOAT)
                return t->dtype;
        }
    return DT_BF16;
}

/* One tensor of the model; codes have the shape of what they stand for. */
static void put_tensor(Str *s, const TensorInfo *t, bool codes, DType plain, uint64_t *at)
{
    DType type = codes ? plain : t->dtype;
    uint64_t bytes = (uint64_t)dtype_size(type);
    str_puts(s, s->len > 1 ? "," : "");
    str_json(s, t->name);
    str_printf(s, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(type));
    for (int d = 0; d < t->ndim; d++) {
        int64_t n = t->shape[d];
        n *= codes && t->dtype == DT_U8 && d == 1 ? 2 : 1; /* two columns a byte */
        bytes *= (uint64_t)n;
        str_printf(s, "%s%lld", d ? "," : "", (long long)n);
    }
    str_printf(s, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*at, (unsigned long long)(*at + bytes));
    *at += bytes;
}

/* Two rows a byte is told by the label alone. */
static TensorInfo unpacked(const OutCheck *o, const TensorInfo *t, bool codes)
{
    TensorInfo u = *t;
    const char *label = codes && o->f->labels ? out_label(o, t->name) : NULL;
    for (const Scheme *s = scheme_table; label && s->name; s++)
        if (strcmp(s->name, scheme_of_label(label)) == 0 && s->part[0] == P_ROWS4) {
            u.shape[0] *= 2;
            break;
        }
    return u;
}

/* A linear whose input is multiplied is called by its own name again. */
static const char *plain_name(OutCheck *o, const char *name)
{
    static const char inner[] = ".linear.";
    const char *at = strstr(name, inner);
    char factor[600];
    int file;
    if (!at || snprintf(factor, sizeof factor, "%.*s" OUT_FACTOR, (int)(at - name), name) >= (int)sizeof factor
        || !out_tensor(o, factor, &file))
        return name;
    snprintf(factor, sizeof factor, "%.*s.%s", (int)(at - name), name, at + sizeof inner - 1);
    return arena_strdup(&o->names, factor);
}

/* The bias of a norm, "input_layernorm.bias". Of most families only processors give one. */
static bool is_norm_bias(const OutCheck *o, const TensorInfo *t)
{
    static const char bias[] = ".bias", weight[] = ".weight";
    char of[512];
    size_t n = strlen(t->name) - (str_ends_with(t->name, bias) ? sizeof bias - 1 : 0);
    if (!t->name[n] || !(o->f->holds & SAVES_BIASES) || n + sizeof weight > sizeof of)
        return false;
    memcpy(of, t->name, n);
    memcpy(of + n, weight, sizeof weight);
    int file;
    const TensorInfo *w = out_tensor(o, of, &file);
    return w && w->ndim == 1 && t->ndim == 1 && w->shape[0] == t->shape[0] && !strstr(of, ".indexer."); /* it has its own */
}

static bool has_norm_bias(const OutCheck *o)
{
    for (int f = 0; f < o->files; f++)
        for (int64_t i = 0; i < checkpoint_count(o->file[f].c); i++)
            if (is_norm_bias(o, checkpoint_at(o->file[f].c, i)))
                return true;
    return false;
}

static Status put_headers(OutCheck *o, bool biases, Str *head, uint64_t *payload, Error *err)
{
    DType plain = plain_type(o);
    str_putc(head, '{');
    for (int f = 0; f < o->files; f++)
        for (int64_t i = 0; i < checkpoint_count(o->file[f].c); i++) {
            const TensorInfo *t = checkpoint_at(o->file[f].c, i);
            bool codes = o->file[f].role[i] == OUT_CODES;
            TensorInfo u = unpacked(o, t, codes);
            if (!biases && is_norm_bias(o, t))
                continue;
            u.name = plain_name(o, t->name);
            if (!u.name)
                return error_nomem(err, "a file's header");
            if (codes || o->file[f].role[i] == OUT_FLOAT)
                put_tensor(head, &u, codes, plain, payload);
        }
    str_putc(head, '}');
    return head->oom ? error_nomem(err, "a file's header") : ST_OK;
}

/* ---- as a folder ---- */

/* A file of its header and a hole; false where there is no room for such a file. */
static bool write_hollow(const char *path, const Str *head, uint64_t payload)
{
    unsigned char len[8];
    for (int i = 0; i < 8; i++)
        len[i] = (unsigned char)((uint64_t)head->len >> (8 * i));
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool good = fd >= 0 && payload < INT64_MAX - head->len - 8 && write(fd, len, 8) == 8
                && write(fd, head->s, head->len) == (ssize_t)head->len
                && ftruncate(fd, (off_t)(8 + head->len + payload)) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

static Status write_config(const OutCheck *o, const char *to, Error *err)
{
    static const char *const drop[] = {"quantization_config", NULL};
    static const PyjsonEdit edit = {.drop = drop};
    char *from = path_join(o->dir, "config.json"), *text = NULL;
    size_t n;
    int dropped;
    Str out = {0};
    Status st = from ? file_read(from, CONFIG_MAX, &text, &n, err) : error_nomem(err, "a path");
    if (st == ST_OK)
        st = pyjson_rewrite(text, n, from, 2, &edit, &dropped, &out, err);
    if (st == ST_OK)
        st = out.oom ? error_nomem(err, from) : file_write_atomic(to, str_text(&out), out.len, err);
    str_free(&out);
    free(text);
    free(from);
    return st;
}

/* ---- opening it ---- */

/* Whether config.json names a family that is built in. Of one that is stored in stacks an output may have the experts one
 * by one, which is no model of theirs. */
static bool readable(const char *config)
{
    cJSON *root = NULL;
    char type[64];
    Error err;
    bool good = json_parse_file(config, CONFIG_MAX, &root, &err) == ST_OK && cJSON_IsObject(root)
                && config_model_type(config_text(root), type, &err) == ST_OK;
    const Arch *a = good ? arch_find(type) : NULL;
    cJSON_Delete(root);
    for (const BlockSpec *b = a ? a->blocks : NULL; b && b->type; b++)
        if (b->type == &block_moe && ((const MoeRule *)b->how)->stacked)
            return false;
    return a != NULL;
}

/* The error about the folder `temp`, as one about the output. */
static void tell_error(OutCheck *o, const char *temp, const char *text)
{
    Str s = {0};
    size_t n = strlen(temp);
    for (const char *p = text, *at; *p; p = at + n) {
        at = strstr(p, temp);
        if (!at) {
            str_puts(&s, p);
            break;
        }
        str_append(&s, p, (size_t)(at - p));
        str_puts(&s, o->dir);
    }
    out_tell(o, true, NULL, "", "%s", str_text(&s));
    str_free(&s);
}

/* *bad: it is no model, as was told when `tells`. */
static Status open_hollow(OutCheck *o, const char *temp, bool biases, bool tells, bool *bad, Error *err)
{
    char *config = path_join(temp, "config.json"), *weights = path_join(temp, "model.safetensors");
    Str head = {0};
    uint64_t payload = 0;
    Error why = {0};
    Status st = config && weights ? put_headers(o, biases, &head, &payload, err) : error_nomem(err, "a path");
    bool made = st == ST_OK && write_config(o, config, &why) == ST_OK && readable(config)
                && write_hollow(weights, &head, payload);
    Model *m = NULL;
    *bad = made && model_open(&m, temp, NULL, &why) == ST_DATA;
    if (*bad && tells)
        tell_error(o, temp, why.text);
    else if (why.status == ST_NOMEM) {
        *err = why;
        st = why.status;
    }
    model_free(m);
    if (weights)
        unlink(weights);
    if (config)
        unlink(config);
    str_free(&head);
    free(config);
    free(weights);
    return st;
}

Status out_shapes(OutCheck *o, Error *err)
{
    const char *where = getenv("TMPDIR");
    char *temp = path_join(where && *where ? where : "/tmp", "slimscope-check-XXXXXX");
    if (!temp)
        return error_nomem(err, "a path");
    Status st = ST_OK;
    if (mkdtemp(temp)) { /* else what the documents name is all that is checked */
        bool bad = true, biased = has_norm_bias(o); /* as processors gave them, or as the family has them */
        if (biased)
            st = open_hollow(o, temp, false, false, &bad, err);
        if (st == ST_OK && bad)
            st = open_hollow(o, temp, true, true, &bad, err);
        rmdir(temp);
    }
    free(temp);
    return st;
}
