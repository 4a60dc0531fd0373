/* YAML, recipes with their proved export, patterns, and lines of the command language. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "fuzz.h"
#include "io/yaml.h"
#include "recipe/pattern.h"
#include "recipe/recipe.h"
#include "src/cmdline.h"
#include "src/commands.h"
#include "text/lexer.h"

static void run_yaml(int variant, const uint8_t *data, size_t n)
{
    YamlDoc *d;
    Error err = {0};
    (void)variant;
    Status st = yaml_parse(&d, (const char *)data, n, "y", &err);
    fuzz_error(st, &err);
    if (st == ST_OK)
        yaml_doc_free(d);
}

static const char *const recipe_seeds[] = {"lab_practice/*/*.yaml", "tests/golden/config/broken/*.yaml", NULL};
static const char *const recipe_words[] = {
    "  exclude:\n  - '*down_proj'\n", "include: ['*']", "type: linear_quant\n", "&a", "*a", "<<: *a", "qconfig:", "act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}",
    "method: ssz", "group_size: 32", "- type: group\n", "configs:", "apiversion: modelslim_v0\n", "!!str ", "|-\n", "\r\n", "\t", NULL};
const FuzzTarget fuzz_yaml = {.name = "yaml", .seeds = recipe_seeds, .words = recipe_words, .take = 4000, .run = run_yaml};

static const Model *model_of(int k)
{
    static const char *const folder[] = {"lab_models/demo", "tests/golden/models/qwen3_moe/fp32", "tests/golden/models/deepseek_v3/fp32"};
    static Model *m[3];
    Error err = {0};
    k = (k & 0xff) % 3;
    if (!m[k] && model_open(&m[k], folder[k], NULL, &err) != ST_OK)
        fuzz_bad("no model", err.text);
    return m[k];
}

/* Some fused groups go to other levels. */
static void edit(const Model *m, int levels, uint64_t seed, int16_t *level)
{
    Rng r = rng_new(seed);
    for (int64_t g = 0; g < m->ngroups; g++) {
        int16_t to = (int16_t)rng_below(&r, (uint64_t)levels);
        for (int32_t k = 0; k < m->groups[g].count && rng_below(&r, 4) == 0; k++)
            for (int32_t q = 0; q < m->groups[g].count; q++)
                level[group_linear(&m->groups[g], q)] = to;
    }
}

/* An export without a blocking check reads back as the very assignment. */
static void prove(const Recipe *r, const Model *m, const int16_t *level, int variant)
{
    static const char *const comments[] = {"made by", "a test", NULL};
    Export e;
    Error err = {0};
    Status st = recipe_export(r, m, level, &(RecipeSizing){.peer = variant & 1}, NULL, variant & 2 ? comments : NULL,
                              variant & 4 ? "a\nb\n" : NULL, &e, &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    bool blocked = false;
    for (int i = 0; i < e.nchecks; i++)
        blocked |= !e.checks[i].ok && e.checks[i].blocking;
    Recipe *again;
    int16_t *got = mem_zarray((size_t)m->nlinears + 1, sizeof *got);
    if (!blocked) {
        if (recipe_parse(&again, &recipe_rows, str_text(&e.text), e.text.len, "e.yaml", NULL, &err) != ST_OK)
            fuzz_bad("an export that does not parse", err.text);
        if (recipe_assign(again, m, got, &err) != ST_OK || memcmp(got, level, (size_t)m->nlinears * sizeof *got) != 0)
            fuzz_bad("an export that assigns otherwise", str_text(&e.text));
        recipe_free(again);
    }
    free(got);
    export_fini(&e);
}

static void run_recipe(int variant, const uint8_t *data, size_t n)
{
    const Model *m = model_of(variant);
    Recipe *r;
    Error err = {0};
    Str all = {0};
    Status st = recipe_parse(&r, &recipe_rows, (const char *)data, n, "r.yaml", &all, &err);
    str_free(&all);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    (void)recipe_can_run(r, &all);
    str_free(&all);
    int16_t *level = mem_zarray((size_t)m->nlinears + 1, sizeof *level);
    st = recipe_assign(r, m, level, &err);
    fuzz_error(st, &err);
    if (st == ST_OK) {
        SizeReport size;
        recipe_sizes(r, m, level, NULL, &size);
        edit(m, recipe_entries(r) + 1, n * 2654435761u + (unsigned)variant, level);
        prove(r, m, level, variant);
    }
    free(level);
    recipe_free(r);
}

const FuzzTarget fuzz_recipe = {.name = "recipe", .seeds = recipe_seeds, .words = recipe_words, .take = 4000, .run = run_recipe};

/* The list that covers a pattern's linears selects just these. */
static void cover(const Model *m, const bool *hits)
{
    char **list;
    int n;
    Error err = {0};
    Status st = pattern_cover(m, hits, &list, &n, &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    bool *again = mem_zarray((size_t)m->nlinears + 1, 1);
    for (int i = 0; i < n; i++) {
        Pattern *p;
        if (pattern_compile(&p, list[i], &err) != ST_OK)
            fuzz_bad("a cover that is no pattern", list[i]);
        pattern_hits(p, m, again);
        pattern_free(p);
        free(list[i]);
    }
    free(list);
    if (memcmp(again, hits, (size_t)m->nlinears) != 0)
        fuzz_bad("a cover that selects something else", "");
    free(again);
}

static void run_pattern(int variant, const uint8_t *data, size_t n)
{
    char *text = n < 4000 ? fuzz_text(data, n) : NULL;
    const Model *m = model_of(variant);
    if (!text || !n) {
        free(text);
        return;
    }
    Pattern *p;
    Error err = {0};
    bool *hits = mem_zarray((size_t)m->nlinears + 1, 1);
    Status st = pattern_compile(&p, text, &err);
    fuzz_error(st, &err);
    if (st == ST_OK) {
        pattern_hits(p, m, hits);
        pattern_match(p, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab");
        pattern_free(p);
        cover(m, hits);
        Lint lint;
        st = pattern_lint(text, m, variant & 4 ? hits : NULL, &lint, &err);
        fuzz_error(st, &err);
    }
    free(hits);
    free(text);
}

static const char *const pattern_seeds[] = {"tests/fuzz/seeds/pattern*", NULL};
static const char *const pattern_words[] = {"model.layers.", "{1,2}", "{0..9}", "*", "**", "?", "[!a]", "[[:alpha:]]", "self_attn", "mlp.down_proj", "\\", "!", "@(a|b)", NULL};
const FuzzTarget fuzz_pattern = {.name = "pattern", .seeds = pattern_seeds, .words = pattern_words, .run = run_pattern};

/* ---- command lines ---- */

/* Quoted words are split into themselves. */
static void quote_again(const Words *w)
{
    Str line = {0};
    Words again;
    Error err = {0};
    for (int i = 0; i < w->n; i++) {
        if (i)
            str_putc(&line, ' ');
        lexer_quote(&line, w->word[i]);
    }
    if (lexer_split(str_text(&line), &again, &err) != ST_OK || again.n != w->n)
        fuzz_bad("a quoted line that is split otherwise", str_text(&line));
    for (int i = 0; i < w->n; i++)
        if (strcmp(w->word[i], again.word[i]) != 0)
            fuzz_bad("a quoted word that is another", w->word[i]);
    words_fini(&again);
    str_free(&line);
}

static void run_lexer(int variant, const uint8_t *data, size_t n)
{
    char *line = fuzz_text(data, n);
    Words w;
    Error err = {0};
    (void)variant;
    if (!line)
        return;
    Status st = lexer_split(line, &w, &err);
    fuzz_error(st, &err);
    if (st == ST_OK) {
        quote_again(&w);
        for (const Command *const *c = command_table; *c && w.n; c++) {
            CommandLine cl;
            st = cmdline_parse(*c, w.n, w.word, w.quoted, &cl, &err);
            fuzz_error(st, &err);
            if (st == ST_OK)
                cmdline_fini(&cl);
        }
        words_fini(&w);
    }
    st = lexer_partial(line, &w, &err);
    fuzz_error(st, &err);
    if (st == ST_OK)
        words_fini(&w);
    free(line);
}

static const char *const lexer_seeds[] = {"tests/fuzz/seeds/line*", NULL};
static const char *const lexer_words[] = {"'", "\"", "\\", "#", "exclude ", "--topk 3", "--metrics kurtosis std", "!", " ", "--mem=3G", "measure", NULL};
const FuzzTarget fuzz_lexer = {.name = "lexer", .seeds = lexer_seeds, .words = lexer_words, .run = run_lexer};
