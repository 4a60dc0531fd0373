#include <string.h>

#include "base/ascii.h"
#include "model/model.h"
#include "recipe/practice_impl.h"

/* Pedigrees: folders of best practices. A model that a row of arch_table runs has its names there; these are the peer's
 * others (specs/models.md 1.3, 1.4). */

enum { NAMES_MAX = 8 };

typedef struct Family {
    const char *pedigree;
    const char *names[NAMES_MAX]; /* that the peer's adapters take for --model_type */
} Family;

static const Family others[] = {
    {.pedigree = "default", .names = {"default"}},
    {.pedigree = "step3_5_flash", .names = {"Step-3.5-Flash"}},
    {.pedigree = "qwen25_vl", .names = {"Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL-72B-Instruct",
                                          "Qwen2.5-VL-32B-Instruct"}},
    {.pedigree = "qwen3_vl", .names = {"Qwen3-VL-4B-Instruct", "Qwen3-VL-32B-Instruct", "Qwen3-VL-Embedding-2B",
                                       "Qwen3-VL-Embedding-8B", "Qwen3-VL-Reranker-2B", "Qwen3-VL-Reranker-8B"}},
    {.pedigree = "qwen3_vl_moe", .names = {"Qwen3-VL-30B-A3B", "Qwen3-VL-235B-A22B"}},
    {.pedigree = "qwen3_5_moe", .names = {"Qwen3.5-397B-A17B", "Qwen3.5-27B", "Qwen3.5-122B-A10B", "Qwen3.5-35B-A3B",
                                          "Qwen3.6-27B"}},
    {.pedigree = "glm4_6v", .names = {"GLM-4.6V"}},
    {.pedigree = "qwen2_5_omni_thinker", .names = {"Qwen2.5-Omni-7B"}},
    {.pedigree = "qwen3_omni_moe", .names = {"Qwen3-Omni-30B-A3B-Thinking", "Qwen3-Omni-30B-A3B-Instruct"}},
    {.pedigree = "internvl3_5", .names = {"InternVL3_5-38B"}},
    {.pedigree = "internvl3_5_moe", .names = {"InternVL3_5-241B-A28B"}},
    {.pedigree = "kimi_k2_5", .names = {"Kimi-K2.5", "Kimi-K2.6"}},
    {.pedigree = "wan2_1", .names = {"Wan2_1", "Wan2.1"}},
    {.pedigree = "wan2_2", .names = {"Wan2_2", "Wan2.2", "Wan2.2-T2V-A14B", "Wan2.2-I2V-A14B", "Wan2.2-TI2V-5B"}},
    {.pedigree = "hunyuan_video", .names = {"HunyuanVideo", "hunyuan_video", "hunyuan-video", "hunyuanvideo"}},
    {.pedigree = "flux1", .names = {"FLUX.1-dev"}},
    {.pedigree = "qwen_image_edit", .names = {"Qwen-Image-Edit-2509"}},
    {.pedigree = NULL},
};

static int folded(char c)
{
    return c == '_' ? '-' : ascii_lower(c);
}

bool practice_same_name(const char *a, const char *b)
{
    while (*a && folded(*a) == folded(*b)) {
        a++;
        b++;
    }
    return !*a && !*b;
}

static const char *arch_pedigree(const Arch *a, const ArchName *n)
{
    if (n && n->pedigree)
        return n->pedigree;
    return a->pedigree ? a->pedigree : a->model_type;
}

typedef bool SameName(const char *a, const char *b);

static bool equal_name(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool find_as(const char *s, SameName *same, PracticeModel *out)
{
    for (const Arch *const *a = arch_table; *a; a++)
        for (const ArchName *n = (*a)->names; n && n->name; n++)
            if (!n->config && same(s, n->name)) {
                *out = (PracticeModel){.model_type = n->name, .pedigree = arch_pedigree(*a, n), .known = true};
                return true;
            }
    for (const Family *f = others; f->pedigree; f++)
        for (int i = 0; i < NAMES_MAX && f->names[i]; i++)
            if (same(s, f->names[i])) {
                *out = (PracticeModel){.model_type = f->names[i], .pedigree = f->pedigree, .known = true};
                return true;
            }
    return false;
}

/* One of the adapters' names: as written, else whatever its case. */
static bool find_name(const char *s, PracticeModel *out)
{
    return find_as(s, equal_name, out) || find_as(s, practice_same_name, out);
}

/* Folder of a config.json type: its own name, if no row says otherwise. */
static const char *config_pedigree(const char *type)
{
    for (const Arch *const *a = arch_table; *a; a++) {
        if (strcmp((*a)->model_type, type) == 0)
            return arch_pedigree(*a, NULL);
        for (const ArchName *n = (*a)->names; n && n->name; n++)
            if (n->config && strcmp(n->name, type) == 0)
                return arch_pedigree(*a, n);
    }
    return type;
}

void practice_identify(const char *given, const char *folder, const char *config_type, PracticeModel *out)
{
    if (given && find_name(given, out))
        return;
    if (!given && folder && find_name(folder, out)) {
        out->guessed = true;
        return;
    }
    *out = (PracticeModel){.model_type = "default", .pedigree = "default", .guessed = true};
    if (config_type)
        *out = (PracticeModel){
            .model_type = config_type,
            .pedigree = config_pedigree(config_type),
            .guessed = true,
            .known = !given || strcmp(given, config_type) == 0};
    else if (given)
        out->model_type = given;
}
