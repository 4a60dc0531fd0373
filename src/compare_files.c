/* Files that are compared: what measure wrote as JSON, and which of those in a folder could be. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/file.h"
#include "io/json.h"
#include "session/effectrecord.h"
#include "src/compare.h"

enum { DOCUMENT_MAX = 256 << 20 };

static double number_at(const cJSON *o, const char *key)
{
    const cJSON *v = json_get(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static double mean_of(const cJSON *root, const char *key)
{
    return number_at(json_get(root, key), "mean");
}

static Status fill(const cJSON *root, const char *path, MeasuredFile *out, Error *err)
{
    const cJSON *arith = json_get(root, "arithmetic"), *recipe = json_get(root, "recipe");
    double tokens = number_at(json_get(root, "evaluation"), "tokens"), predicted = number_at(root, "predicted_tokens");
    Effect *e = &out->effect;
    *e = (Effect){.kl_mean = mean_of(root, "kl"), .kl_se = number_at(json_get(root, "kl"), "se"),
                  .top1 = mean_of(root, "top1"), .ppl_float = mean_of(root, "perplexity_float"),
                  .ppl_quant = mean_of(root, "perplexity_quantized"), .whole = cJSON_IsTrue(json_get(root, "whole_set"))};
    bool good = isfinite(e->kl_mean) && isfinite(e->ppl_float) && isfinite(e->ppl_quant) && isfinite(e->top1) && tokens > 0 &&
                tokens < 1e15 && predicted > 0 && predicted <= tokens && cJSON_IsString(arith) &&
                arith_find(arith->valuestring, &e->arith);
    if (!good)
        return error_set(err, ST_DATA, "'%s' is no document that measure wrote with --format json", path);
    e->tokens = (int64_t)tokens;
    e->predicted = (int64_t)predicted;
    out->bytes = number_at(root, "bytes");
    str_puts(&out->recipe, cJSON_IsString(recipe) ? recipe->valuestring : "?");
    return blocks_parse(root, e, &out->blocks, err);
}

Status measured_file_read(const char *path, MeasuredFile *out, Error *err)
{
    cJSON *root;
    *out = (MeasuredFile){.blocks = NULL};
    RETURN_IF_ERROR(json_parse_file(path, DOCUMENT_MAX, &root, err));
    Status st = fill(root, path, out, err);
    cJSON_Delete(root);
    if (st != ST_OK)
        measured_file_fini(out);
    return st;
}

void measured_file_fini(MeasuredFile *f)
{
    free(f->blocks);
    str_free(&f->recipe);
    *f = (MeasuredFile){.blocks = NULL};
}

bool measured_file_named(const char *word)
{
    return str_ends_with(word, ".json") || strchr(word, '/') != NULL;
}

/* ---- which there are ---- */

/* Ends of files that can be scores, and what one begins with that tells what it is. */
static const struct FileKind {
    const char *end, *holds, *means;
} file_kinds[] = {
    {".json", "\"predicted_tokens\"", "a measurement, as measure wrote it"},
    {".json", "\"metric\"", "scores, as analyze or rank wrote them"},
    {".json", "{", "JSON"},
    {".csv", ",", "scores as CSV"},
    {".yaml", "", "a recipe: 1 for what it leaves float"},
    {".log", "", "a log, as msModelSlim's analyze writes it"},
    {".dat", "", "an imatrix"},
    {".gguf", "GGUF", "an imatrix"},
};

static const char *file_means(const char *path, const char *name)
{
    enum { LOOK = 4096 };
    char text[LOOK + 1];
    bool wanted = false;
    for (size_t i = 0; i < sizeof file_kinds / sizeof *file_kinds; i++)
        wanted |= str_ends_with(name, file_kinds[i].end);
    FILE *f = wanted ? fopen(path, "re") : NULL;
    if (!f)
        return NULL;
    text[fread(text, 1, LOOK, f)] = '\0';
    fclose(f);
    for (size_t i = 0; i < sizeof file_kinds / sizeof *file_kinds; i++)
        if (str_ends_with(name, file_kinds[i].end) && strstr(text, file_kinds[i].holds))
            return file_kinds[i].means;
    return NULL;
}

void offer_results(const char *word, OfferWord *put, void *ctx)
{
    const char *slash = strrchr(word, '/');
    size_t folder = slash ? (size_t)(slash - word) + 1 : 0;
    char *dir = folder ? strndup(word, folder) : strdup(".");
    DIR *d = dir ? opendir(dir) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat sb;
        Str path = {0};
        if (e->d_name[0] == '.' || strncmp(e->d_name, word + folder, strlen(word + folder)) != 0)
            continue;
        str_append(&path, word, folder);
        str_puts(&path, e->d_name);
        bool known = stat(str_text(&path), &sb) == 0, is_dir = known && S_ISDIR(sb.st_mode);
        const char *means = known && S_ISREG(sb.st_mode) ? file_means(str_text(&path), e->d_name) : NULL;
        if (is_dir)
            str_putc(&path, '/');
        if (is_dir || means)
            put(ctx, str_text(&path), is_dir ? "a folder" : means);
        str_free(&path);
    }
    if (d)
        closedir(d);
    free(dir);
}
