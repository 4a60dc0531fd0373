#include "export/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "export/modules.h"
#include "export/scorefile.h"

/* A file for llama-quantize's --tensor-type-file: "REGEX=TYPE" words. By tools/quantize/quantize.cpp, parse_tensor_type
 * (words at white space, the pattern up to the first '=' and in small letters) and src/llama-quant.cpp (2025 and 2026):
 * std::regex_search over the tensor's whole name; of several that match, the first decides in newer releases, the last in
 * older ones. The patterns written here name whole tensors, each once, so both agree, and every linear has one: the
 * type on the command line is for the embedding and the head alone. Tensors' names: gguf-py/gguf/tensor_mapping.py,
 * constants.py and convert_hf_to_gguf.py. */

enum { GGUF_NAMES = 3 };
/* What a linear is called there: '#' stands for an expert's number. Several names: what releases made of it. */
typedef struct GgufRow {
    const char *module, *tensor[GGUF_NAMES];
    bool kept; /* llama.cpp never quantizes it */
} GgufRow;
static const GgufRow rows[] = {
    {.module = "self_attn.q_proj", .tensor = {"attn_q"}},
    {.module = "self_attn.k_proj", .tensor = {"attn_k"}},
    {.module = "self_attn.v_proj", .tensor = {"attn_v"}},
    {.module = "self_attn.o_proj", .tensor = {"attn_output"}},
    {.module = "self_attn.qkv_proj", .tensor = {"attn_qkv"}},
    {.module = "self_attn.q_a_proj", .tensor = {"attn_q_a"}},
    {.module = "self_attn.q_b_proj", .tensor = {"attn_q_b"}},
    {.module = "self_attn.kv_a_proj_with_mqa", .tensor = {"attn_kv_a_mqa"}},
    {.module = "self_attn.kv_b_proj", .tensor = {"attn_k_b", "attn_v_b", "attn_kv_b"}},
    {.module = "self_attn.indexer.wq_b", .tensor = {"indexer.attn_q_b"}},
    {.module = "self_attn.indexer.wk", .tensor = {"indexer.attn_k"}},
    {.module = "self_attn.indexer.weights_proj", .tensor = {"indexer.proj"}},
    {.module = "linear_attn.in_proj_qkvz", .tensor = {"attn_qkv", "attn_gate", "ssm_in"}},
    {.module = "linear_attn.in_proj_ba", .tensor = {"ssm_ba"}},
    {.module = "linear_attn.out_proj", .tensor = {"ssm_out"}},
    {.module = "mlp.gate_proj", .tensor = {"ffn_gate"}},
    {.module = "mlp.up_proj", .tensor = {"ffn_up"}},
    {.module = "mlp.down_proj", .tensor = {"ffn_down"}},
    {.module = "mlp.gate_up_proj", .tensor = {"ffn_up"}},
    {.module = "mlp.experts.#.gate_proj", .tensor = {"ffn_gate_exps"}},
    {.module = "mlp.experts.#.up_proj", .tensor = {"ffn_up_exps"}},
    {.module = "mlp.experts.#.down_proj", .tensor = {"ffn_down_exps"}},
    {.module = "block_sparse_moe.experts.#.w1", .tensor = {"ffn_gate_exps"}},
    {.module = "block_sparse_moe.experts.#.w3", .tensor = {"ffn_up_exps"}},
    {.module = "block_sparse_moe.experts.#.w2", .tensor = {"ffn_down_exps"}},
    {.module = "mlp.shared_expert.gate_proj", .tensor = {"ffn_gate_shexp"}},
    {.module = "mlp.shared_expert.up_proj", .tensor = {"ffn_up_shexp"}},
    {.module = "mlp.shared_expert.down_proj", .tensor = {"ffn_down_shexp"}},
    {.module = "mlp.shared_experts.gate_proj", .tensor = {"ffn_gate_shexp"}},
    {.module = "mlp.shared_experts.up_proj", .tensor = {"ffn_up_shexp"}},
    {.module = "mlp.shared_experts.down_proj", .tensor = {"ffn_down_shexp"}},
    {.module = "mlp.shared_expert_gate", .tensor = {"ffn_gate_inp_shexp"}, .kept = true},
    {.module = "mlp.gate", .tensor = {"ffn_gate_inp"}, .kept = true},
    {.module = "mlp.router", .tensor = {"ffn_gate_inp"}, .kept = true},
    {.module = "block_sparse_moe.gate", .tensor = {"ffn_gate_inp"}, .kept = true},
    {.module = "eh_proj", .tensor = {"nextn.eh_proj"}},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

/* Families that convert_hf_to_gguf.py makes tensors of these names of. */
static const char *const families[] = {
    "llama",     "mistral",    "qwen2",      "qwen3",        "phi3",        "gemma2",      "gemma3_text",  "mixtral",
    "qwen2_moe", "qwen3_moe",  "qwen3_next", "glm4_moe",     "glm4_moe_lite", "minimax_m2", "deepseek_v2", "deepseek_v3",
    "deepseek_v32", "glm_moe_dsa", "gpt_oss", NULL,
};

/* ---- types ---- */

enum { QUANT_BLOCK = 32 }; /* values that share a scale, of all three types */

static const char *type_of(const ExportInput *in, int level)
{
    if (level == 0)
        return in->model->cfg.dtype == DT_F16 ? "f16" : in->model->cfg.dtype == DT_BF16 ? "bf16" : "f32";
    const QConfig *q = export_config(in, level);
    if (q->act.dtype == QT_INT4 || q->act.dtype == QT_MXFP4)
        return NULL;
    return q->weight.dtype == QT_INT8    ? "q8_0"
           : q->weight.dtype == QT_INT4  ? "q4_0"
           : q->weight.dtype == QT_MXFP4 ? "mxfp4"
                                         : NULL;
}

static Status setting(const ExportInput *in, int level, Str *out, Error *err)
{
    const char *type = type_of(in, level);
    const QConfig *q = level ? export_config(in, level) : NULL;
    if (!type)
        return error_set(err, ST_DATA, "it has no type for %s weights with %s inputs", qtype_name(q->weight.dtype),
                         qtype_name(q->act.dtype));
    str_puts(out, type);
    return ST_OK;
}

/* ---- names ---- */

static size_t digits(const char *s)
{
    return strspn(s, "0123456789");
}

static bool matches(const char *pattern, const char *s)
{
    for (; *pattern; pattern++) {
        size_t n = *pattern == '#' ? digits(s) : *s == *pattern;
        if (n == 0)
            return false;
        s += n;
    }
    return *s == '\0';
}

/* Row of a linear, and where its layer's number stands in its name; -1: it has none. */
static int row_of(const Model *m, const char *name, const char **number)
{
    const char *prefix = model_layers_prefix(m), *s = name + strlen(prefix);
    size_t n = strncmp(name, prefix, strlen(prefix)) == 0 ? digits(s) : 0;
    if (n == 0 || s[n] != '.')
        return -1;
    *number = s;
    for (int r = 0; r < ROWS; r++)
        if (matches(rows[r].module, s + n + 1))
            return r;
    return -1;
}

int64_t gguf_linear(const Model *m, const char *tensor, int expert)
{
    static const char head[] = "blk.", end[] = ".weight";
    const char *number = tensor + strlen(head), *rest = number;
    if (strncmp(tensor, head, strlen(head)) != 0 || !str_ends_with(tensor, end) || !digits(number))
        return -1;
    rest += digits(number);
    size_t len = *rest == '.' ? strlen(rest + 1) - strlen(end) : 0;
    for (int r = 0; r < ROWS * GGUF_NAMES && len > 0 && len < 80; r++) {
        const GgufRow *row = &rows[r / GGUF_NAMES];
        const char *name = row->tensor[r % GGUF_NAMES], *hash = strchr(row->module, '#');
        char module[256];
        if (!name || strlen(name) != len || strncmp(name, rest + 1, len) != 0)
            continue;
        int n = snprintf(module, sizeof module, "%s%.*s.", model_layers_prefix(m), (int)digits(number), number);
        if (n < 0 || n >= (int)sizeof module)
            return -1;
        if (hash && expert >= 0)
            snprintf(module + n, sizeof module - (size_t)n, "%.*s%d%s", (int)(hash - row->module), row->module, expert,
                     hash + 1);
        else if (!hash && expert < 0)
            snprintf(module + n, sizeof module - (size_t)n, "%s", row->module);
        else
            continue;
        int64_t i = model_find_linear(m, module);
        if (i >= 0)
            return i;
    }
    return -1;
}

/* ---- the text ---- */

/* The level of a kind of tensor in a layer, and the first linear that is in it. */
typedef struct Cell {
    int64_t linear; /* -1: the layer has none */
    int level;
} Cell;

static Status check_linear(const ExportInput *in, int64_t i, int row, Error *err)
{
    const Model *m = in->model;
    const Linear *l = &m->linears[i];
    if (row < 0)
        return error_set(err, ST_DATA, "'%s' can't be written for llama.cpp: it has no tensor's name there", l->name);
    if (!in->level[i])
        return ST_OK;
    if (rows[row].kept)
        return error_set(err, ST_DATA, "'%s' can't be written for llama.cpp: it never quantizes '%s'", l->name,
                         rows[row].tensor[0]);
    bool split = rows[row].tensor[1] && strcmp(rows[row].tensor[0], "attn_k_b") == 0; /* its rows become columns */
    int64_t in_row = split && m->cfg.mla.nope % QUANT_BLOCK ? m->cfg.mla.nope : l->in;
    if (in_row % QUANT_BLOCK)
        return error_set(err, ST_DATA, "'%s' can't be written for llama.cpp: rows of %lld are no multiple of %d, and would "
                         "get another type than %s", l->name, (long long)in_row, QUANT_BLOCK,
                         type_of(in, in->level[i]));
    return ST_OK;
}

/* cell[ROWS][depth] of the model; linears of one tensor have one level. */
static Status fill(const ExportInput *in, Cell *cell, Error *err)
{
    const Model *m = in->model;
    for (int64_t i = 0; i < m->nlinears; i++) {
        const char *number;
        int row = row_of(m, m->linears[i].name, &number);
        RETURN_IF_ERROR(check_linear(in, i, row, err));
        int level = in->same[in->level[i]];
        int64_t block = m->linears[i].layer;
        Cell *c = &cell[row * (int64_t)model_depth(m) + block];
        if (c->linear >= 0 && c->level != level)
            return error_set(err, ST_DATA,
                             "'%s' can't be written for llama.cpp: it is one tensor with '%s', which has another level",
                             m->linears[i].name, m->linears[c->linear].name);
        if (c->linear < 0)
            *c = (Cell){i, level};
    }
    return ST_OK;
}

/* "^blk\.(0|2|3)\.attn_q\.weight$=q8_0" for the layers in which the row's tensor has this level. */
static void put_line(const ExportInput *in, const char *tensor, const Cell *cell, int level, Str *out)
{
    int n = 0, depth = model_depth(in->model);
    for (int b = 0; b < depth; b++) {
        if (cell[b].linear < 0 || cell[b].level != level)
            continue;
        const char *number;
        row_of(in->model, in->model->linears[cell[b].linear].name, &number);
        str_puts(out, n++ ? "|" : "^blk\\.(");
        str_append(out, number, digits(number));
    }
    if (!n)
        return;
    str_puts(out, ")\\.");
    for (const char *s = tensor; *s; s++)
        str_printf(out, *s == '.' ? "\\%c" : "%c", *s);
    str_printf(out, "\\.weight$=%s\n", type_of(in, level));
}

static Status write(const ExportInput *in, Export *x, Error *err)
{
    const Model *m = in->model;
    int known = 0, depth = model_depth(m);
    while (families[known] && (!m->arch || strcmp(families[known], m->arch->model_type) != 0))
        known++;
    if (!families[known])
        return error_set(err, ST_DATA, "%s can't be written for llama.cpp: it has no names for this family",
                         m->cfg.model_type);
    Cell *cell = mem_array((size_t)(ROWS * depth), sizeof *cell);
    if (!cell)
        return error_nomem(err, "an export");
    for (int i = 0; i < ROWS * depth; i++)
        cell[i] = (Cell){-1, 0};
    Status st = fill(in, cell, err);
    for (int r = 0; st == ST_OK && r < ROWS; r++)
        for (int t = 0; t < GGUF_NAMES && rows[r].tensor[t] && !rows[r].kept; t++)
            for (int k = 0; k <= recipe_entries(in->recipe); k++)
                put_line(in, rows[r].tensor[t], cell + r * depth, k, &x->text);
    free(cell);
    return st;
}

/* ---- read again ---- */

typedef struct Word {
    ToolRegex *re;
    int level;
} Word;

static Status read_word(const ExportInput *in, char *word, Word *out, Error *err)
{
    char *type = strchr(word, '=');
    if (!type || type == word || !type[1])
        return error_set(err, ST_DATA, "'%.60s' is no PATTERN=TYPE", word);
    *type++ = '\0';
    for (char *c = word; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    for (out->level = 0; out->level <= recipe_entries(in->recipe); out->level++) {
        const char *have = type_of(in, out->level);
        if (in->same[out->level] == out->level && have && strcmp(have, type) == 0)
            return tool_regex(&out->re, word, false, err);
    }
    return error_set(err, ST_DATA, "'%.20s' is no level's type", type);
}

/* Level that the words give a tensor, -1: none does, or the first and the last that match differ. */
static int level_of_tensor(const Word *w, size_t n, const char *name)
{
    int first = -1, last = -1;
    for (size_t i = 0; i < n; i++)
        if (tool_regex_hits(w[i].re, name)) {
            first = first < 0 ? w[i].level : first;
            last = w[i].level;
        }
    return first == last ? first : -1;
}

static Status expand_linear(const ExportInput *in, const Word *w, size_t n, int64_t i, int16_t *level, Error *err)
{
    const char *number, *name = in->model->linears[i].name;
    int row = row_of(in->model, name, &number);
    *level = 0;
    for (int t = 0; row >= 0 && !rows[row].kept && t < GGUF_NAMES && rows[row].tensor[t]; t++) {
        char tensor[96];
        snprintf(tensor, sizeof tensor, "blk.%.*s.%s.weight", (int)digits(number), number, rows[row].tensor[t]);
        int got = level_of_tensor(w, n, tensor);
        if (got < 0 || (t && got != *level))
            return error_set(err, ST_DATA, "'%s' has no type", tensor);
        *level = (int16_t)got;
    }
    return ST_OK;
}

static Status expand(const ExportInput *in, const char *text, size_t len, int16_t *level, Error *err)
{
    char *copy = mem_array(len + 1, 1), *rest = copy;
    Word *w = NULL;
    size_t n = 0, cap = 0;
    Status st = copy ? ST_OK : error_nomem(err, "an export");
    if (copy)
        memcpy(copy, text, len + 1);
    for (char *word; st == ST_OK && (word = strtok_r(rest, " \t\r\n\v\f", &rest));) {
        st = mem_grow(&w, &cap, n + 1, sizeof *w) ? ST_OK : error_nomem(err, "an export");
        if (st == ST_OK)
            st = read_word(in, word, &w[n], err);
        n += st == ST_OK;
    }
    for (int64_t i = 0; st == ST_OK && i < in->model->nlinears; i++)
        st = expand_linear(in, w, n, i, &level[i], err);
    for (size_t i = 0; i < n; i++)
        tool_regex_free(w[i].re);
    free(w);
    free(copy);
    return st;
}

const ExportForm form_llama_cpp = {
    .name = "llama.cpp", .ext = {".txt"}, .tool = "llama.cpp",
    .use = "llama-quantize --tensor-type-file FILE ... q8_0 takes it: the types stand for its own quantizers (q8_0, q4_0), "
           "the last word is for the embedding and the head",
    .setting = setting, .write = write, .expand = expand,
};
