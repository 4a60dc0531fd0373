#include "io/modeldir.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "io/file.h"

/* "model-00002-of-00007.safetensors". */
static bool shard_name(const char *name, int *number, int *of)
{
    static const char form[] = "model-#####-of-#####.safetensors";
    int n[2] = {0, 0}, k = 0;
    if (strlen(name) != strlen(form))
        return false;
    for (int i = 0; form[i]; i++) {
        bool digit = name[i] >= '0' && name[i] <= '9';
        if (form[i] == '#' ? !digit : form[i] != name[i])
            return false;
        k += form[i] == '#' && form[i - 1] != '#';
        if (form[i] == '#')
            n[k - 1] = n[k - 1] * 10 + (name[i] - '0');
    }
    *number = n[0];
    *of = n[1];
    return true;
}

/* The first number of 1 to `of` that has no shard among the sorted ones. */
static int first_missing(const ShardNames *n)
{
    int number, of;
    for (int i = 0; i < n->count; i++)
        if (shard_name(n->name[i], &number, &of) && number != i + 1)
            return i + 1;
    return n->count + 1;
}

Status modeldir_shards(const char *dir, ShardNames *out, Error *err)
{
    size_t cap = 0;
    int number, of, total = 0;
    bool mixed = false;
    DIR *d = opendir(dir);
    if (!d)
        return file_error(err, "read folder", dir, errno);
    Status st = ST_OK;
    const struct dirent *e;
    while (st == ST_OK && (e = readdir(d)) != NULL) {
        if (!shard_name(e->d_name, &number, &of))
            continue;
        mixed = mixed || (total && of != total);
        total = of;
        if (!mem_grow(&out->name, &cap, (size_t)out->count + 1, sizeof *out->name) ||
            !(out->name[out->count] = strdup(e->d_name)))
            st = error_nomem(err, "the list of shards");
        else
            out->count++;
    }
    closedir(d);
    if (out->count)
        qsort(out->name, (size_t)out->count, sizeof *out->name, compare_strings);
    if (st == ST_OK && mixed)
        return error_set(err, ST_DATA, "'%s' has shards of several models and no model.safetensors.index.json that says "
                         "which ones count", dir);
    if (st == ST_OK && out->count && (out->count != total || first_missing(out) <= total))
        return error_set(err, ST_DATA, "'%s' has no model.safetensors.index.json and %d of %d shards: "
                         "model-%05d-of-%05d.safetensors is missing: download it", dir, out->count, total,
                         first_missing(out), total);
    return st;
}

void modeldir_free(ShardNames *n)
{
    for (int i = 0; i < n->count; i++)
        free(n->name[i]);
    free(n->name);
    *n = (ShardNames){0};
}

/* ---- what else a folder may be ---- */

#define CONVERT "convert them to safetensors first"

/* By a file whose name begins and ends so; the first row that fits some file counts. */
static const struct {
    const char *begin, *end, *what;
} folders[] = {
    {"adapter_config", ".json", "is an adapter (LoRA): merge it into its base model first"},
    {"adapter_model", "", "is an adapter (LoRA): merge it into its base model first"},
    {"quant_model_description", ".json", "is a quantized model: give the checkpoint it was made from"},
    {"quant_model_weight", "", "is a quantized model: give the checkpoint it was made from"},
    {"consolidated", "", "has the weights in the layout of their maker: give the folder in Hugging Face's layout"},
    {"", ".gguf", "has a GGUF model: give the Hugging Face checkpoint it was made from"},
    {"pytorch_model", ".bin", "has the weights as PyTorch files: " CONVERT},
    {"", ".bin", "has the weights as PyTorch files: " CONVERT},
    {"", ".pth", "has the weights as PyTorch files: " CONVERT},
    {"", ".pt", "has the weights as PyTorch files: " CONVERT},
    {"tf_model", ".h5", "has the weights of TensorFlow: " CONVERT},
    {"flax_model", ".msgpack", "has the weights of Flax: " CONVERT},
    {"", ".onnx", "has an ONNX model: give the Hugging Face checkpoint it was made from"},
    {"model_index", ".json", "is a pipeline of several models: give the folder of one of them"},
    {"", ".incomplete", "has an unfinished download: finish it"},
    {"", ".safetensors", "has weights under another name: call it model.safetensors, or give the file's own folder"},
};

static bool fits(const char *name, const char *begin, const char *end)
{
    size_t n = strlen(name), b = strlen(begin), e = strlen(end);
    return n >= b + e && strncmp(name, begin, b) == 0 && strcmp(name + n - e, end) == 0;
}

/* The row of `folders` that says most of the folder, and the file it is known by; NULL when none fits. */
static const char *known_folder(const char *dir, char file[256])
{
    const size_t rows = sizeof folders / sizeof *folders;
    size_t best = rows;
    DIR *d = opendir(dir);
    const struct dirent *e;
    file[0] = 0;
    while (d && (e = readdir(d)) != NULL)
        for (size_t i = 0; i < rows && i <= best; i++)
            if (fits(e->d_name, folders[i].begin, folders[i].end) && (i < best || strcmp(e->d_name, file) < 0)) {
                best = i;
                snprintf(file, 256, "%s", e->d_name);
            }
    if (d)
        closedir(d);
    return best < rows ? folders[best].what : NULL;
}

Status modeldir_no_weights(const char *dir, Error *err)
{
    char file[256];
    const char *what = known_folder(dir, file);
    if (what)
        return error_set(err, ST_DATA, "'%s' has no model.safetensors and no model.safetensors.index.json: it %s ('%s')",
                         dir, what, file);
    return error_set(err, ST_DATA, "'%s' has no model.safetensors and no model.safetensors.index.json", dir);
}

void modeldir_hint(const char *dir, char *buf, size_t size)
{
    char file[256];
    const char *what = known_folder(dir, file);
    buf[0] = 0;
    if (what)
        snprintf(buf, size, "; the folder %s ('%s')", what, file);
}
