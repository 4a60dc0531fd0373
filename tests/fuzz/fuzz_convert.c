/* Documents of modelslim_convert, and what they would do to weights of three kinds. */
#include <stdlib.h>
#include <string.h>

#include "convert/impl.h"
#include "fuzz.h"

static const char *const seeds[] = {"tests/golden/formats/convert_*/config.yaml", NULL};
static const char *const words[] = {
    "apiversion: modelslim_convert\n", "spec:\n", "  linears:\n", "  - match: ['*']\n", "    target: FLOAT\n", "    target: W4A4_MXFP4\n", "    route: auto\n",
    "    route: [FP8_BLOCK, FLOAT]\n", "  preprocess:\n", "  - {type: rename, patterns: [{from: '(.*)[.]mlp[.](.*)', to: '\\2.\\g<1>'}]}\n",
    "  - {type: convert, source: ['*'], target: ['*'], ops: [{type: chunk, dim: 1, projections: [a]}]}\n", "  save: [{type: hf, part_file_size: 0.0001}]\n",
    "'[!a-'", "'(?P<n>x*)*$'", "\\g<n>", NULL};

/* Every linear that a way counts is one of the checkpoint's, and what is written is laid out. */
static void plan(const ConvertDoc *doc, int variant)
{
    static const char *const folder[] = {"qwen3-bf16-2", "qwen3-bf16-5", "qwen3-fp16-2"};
    char model[100];
    ConvertPlan *p;
    Error err = {0};
    int n;
    strcpy(model, "tests/golden/formats/_models/");
    strcat(model, folder[(variant & 0xff) % 3]);
    const ConvertAsk ask = {.model = model, .dir = fuzz_path("converted"), .peer = variant & 64};
    Status st = convert_plan_make(&p, doc, &ask, &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    const ConvertWay *w = convert_ways(p, &n);
    const SaveFormat *f = convert_format(p);
    uint64_t out = convert_sums(p).copied_bytes, bytes = 0;
    for (int i = 0; i < n; i++)
        if (!convert_reaches(w[i].from, w[i].to) || w[i].rule < 0 || w[i].rule >= doc->nrules)
            fuzz_bad("a way that isn't there", w[i].first);
        else if (w[i].from != w[i].to)
            out += w[i].bytes_out;
    SaveFile *files;
    st = f->ops->files(f, convert_save_plan(p), &files, &n, &err);
    fuzz_error(st, &err);
    for (int i = 0; st == ST_OK && i < n; i++)
        bytes += files[i].bytes;
    if (st == ST_OK && (bytes < convert_sums(p).bytes_out || convert_sums(p).bytes_out < out))
        fuzz_bad("bytes that are nowhere", model);
    if (st == ST_OK)
        free(files);
    convert_plan_free(p);
}

static void run(int variant, const uint8_t *data, size_t n)
{
    ConvertDoc *doc;
    Error err = {0};
    Str all = {0};
    bool is;
    Status st = convert_is_document((const char *)data, n, &is, &err);
    fuzz_error(st, &err);
    if (st != ST_OK || !is)
        return;
    st = convert_doc_parse(&doc, &recipe_rows, (const char *)data, n, "c.yaml", &all, &err);
    fuzz_error(st, &err);
    if (st == ST_OK)
        plan(doc, variant);
    if (st == ST_OK)
        convert_doc_free(doc);
    str_free(&all);
}

const FuzzTarget fuzz_convert = {.name = "convert", .seeds = seeds, .words = words, .take = 2000, .run = run};
