#define PCRE2_CODE_UNIT_WIDTH 8

#include "export/modules.h"

#include <stdlib.h>
#include <string.h>

#include <pcre2.h>

#include "base/mem.h"
#include "save/ignore_regex.h"

void modules_fini(ModuleList *l)
{
    free(l->name);
    arena_free(&l->made);
    *l = (ModuleList){0};
}

static Status add(ModuleList *l, const char *name, Error *err)
{
    if (!name || !mem_grow(&l->name, &l->cap, l->n + 1, sizeof *l->name))
        return error_nomem(err, "a list of layers");
    l->name[l->n++] = name;
    return ST_OK;
}

Status modules_at(const ExportInput *in, int level, ModuleList *out, Error *err)
{
    for (int64_t i = 0; i < in->model->nlinears; i++)
        if (in->same[in->level[i]] == in->same[level])
            RETURN_IF_ERROR(add(out, in->model->linears[i].name, err));
    return ST_OK;
}

Status modules_beside(const Model *m, ModuleList *out, Error *err)
{
    static const char end[] = ".weight";
    const size_t k = sizeof end - 1;
    bool head = false;
    for (int64_t i = 0; m->ckpt && i < checkpoint_count(m->ckpt); i++) {
        const TensorInfo *t = checkpoint_at(m->ckpt, i);
        size_t n = strlen(t->name);
        if (t->ndim != 2 || n <= k || strcmp(t->name + n - k, end) != 0 || t == m->entry.table)
            continue;
        char *name = arena_strndup(&out->made, t->name, n - k);
        if (name && model_find_linear(m, name) >= 0)
            continue;
        RETURN_IF_ERROR(add(out, name, err));
        head = head || strcmp(name, "lm_head") == 0;
    }
    return head ? ST_OK : add(out, "lm_head", err); /* a module also where it is tied or stored under another name */
}

/* PCRE2 compiles up to 64 KiB; a name's letters take two bytes or so. */
enum { PATTERN_MAX = 16000 };

static Status put(Str *out, const char **name, size_t n, const char *const text[3], bool *any, Error *err)
{
    Str re = {0}, whole = {0};
    Status st = n ? ignore_regex(name, n, &re, err) : ST_OK;
    if (st == ST_OK && n > 1 && re.len > PATTERN_MAX) {
        str_free(&re);
        RETURN_IF_ERROR(put(out, name, n / 2, text, any, err));
        return put(out, name + n / 2, n - n / 2, text, any, err);
    }
    if (st == ST_OK && n) {
        /* to the end of the name, where ignore_regex has the original's "no letter behind it" */
        str_puts(&whole, text[1]);
        str_append(&whole, re.s + strlen("re:"), re.len - strlen("re:") - strlen("(?![.\\w])"));
        str_putc(&whole, '$');
        str_printf(out, "%s%s", *any ? ",\n" : "", text[0]);
        str_json(out, str_text(&whole));
        str_puts(out, text[2]);
        *any = true;
        st = whole.oom || out->oom ? error_nomem(err, "an export") : ST_OK;
    }
    str_free(&re);
    str_free(&whole);
    return st;
}

Status put_patterns(Str *out, ModuleList *l, const char *indent, const char *lead, const char *after, bool *any,
                    Error *err)
{
    return put(out, l->name, l->n, (const char *const[3]){indent, lead, after}, any, err);
}

/* ---- as tools match ---- */

struct ToolRegex {
    pcre2_code *code;
    pcre2_match_data *match;
};

Status tool_regex(ToolRegex **out, const char *pattern, bool at_start, Error *err)
{
    int code;
    PCRE2_SIZE at;
    ToolRegex *r = calloc(1, sizeof *r);
    if (!r)
        return error_nomem(err, "a pattern");
    r->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | (at_start ? PCRE2_ANCHORED : 0), &code, &at, NULL);
    if (!r->code) {
        char why[120] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        free(r);
        return error_set(err, ST_DATA, "pattern '%.60s': %s", pattern, why);
    }
    pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE);
    r->match = pcre2_match_data_create(1, NULL);
    if (!r->match) {
        tool_regex_free(r);
        return error_nomem(err, "a pattern");
    }
    *out = r;
    return ST_OK;
}

bool tool_regex_hits(const ToolRegex *r, const char *name)
{
    return pcre2_match(r->code, (PCRE2_SPTR)name, PCRE2_ZERO_TERMINATED, 0, 0, r->match, NULL) >= 0;
}

void tool_regex_free(ToolRegex *r)
{
    if (!r)
        return;
    pcre2_match_data_free(r->match);
    pcre2_code_free(r->code);
    free(r);
}
