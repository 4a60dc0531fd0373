#include <ctype.h>
#include <string.h>

#include "recipe/practice.h"

/* Pedigrees: the names that the peer's adapters take for --model_type (specs/models.md 1.3, 1.4) and config.json's
 * types. */

enum { NAMES_MAX = 8 };

typedef struct Pedigree {
    const char *name;
    const char *const *config; /* config.json types, when they aren't the pedigree's name */
    const char *names[NAMES_MAX];
} Pedigree;

#define CONFIG(...) .config = (const char *const[]){__VA_ARGS__, NULL}

static const Pedigree pedigrees[] = {
    {"default", NULL, {"default"}},
    {.name = "deepseek_v3", .names = {"DeepSeek-V3", "DeepSeek-V3-0324", "DeepSeek-R1", "DeepSeek-R1-0528",
                                      "DeepSeek-V3.1", "DeepSeek-V3.1-Terminus"}},
    {.name = "deepseek_v3_2", CONFIG("deepseek_v32"), .names = {"DeepSeek-V3.2-Exp", "DeepSeek-V3.2"}},
    {.name = "deepseek_v4", .names = {"DeepSeek-V4-Flash", "DeepSeek-V4-Pro"}},
    {.name = "glm_5", CONFIG("glm_moe_dsa"), .names = {"GLM-5", "GLM-5.1"}},
    {.name = "qwen1_5", .names = {"Qwen1.5-110B"}},
    {.name = "qwen2", .names = {"Qwen2-7B", "Qwen2-7B-Instruct", "Qwen2-72B"}},
    {.name = "qwen2_5", .names = {"Qwen2.5-7B-Instruct", "Qwen2.5-32B-Instruct", "Qwen2.5-72B-Instruct",
                                  "Qwen2.5-Coder-7B-Instruct", "DeepSeek-R1-Distill-Qwen-1.5B",
                                  "DeepSeek-R1-Distill-Qwen-7B"}},
    {.name = "qwq", .names = {"Qwen-QwQ-32B", "QwQ-32B"}},
    {.name = "qwen3", .names = {"Qwen3-8B", "Qwen3-14B", "Qwen3-32B"}},
    {.name = "qwen3_moe", .names = {"Qwen3-30B", "Qwen3-235B", "Qwen3-Coder-480B-A35B"}},
    {.name = "qwen3_next", .names = {"Qwen3-Next-80B-A3B-Instruct"}},
    {.name = "kimi_k2", .names = {"Kimi-K2-Instruct-0905", "Kimi-K2-Thinking"}},
    {.name = "glm4_moe", .names = {"GLM-4.5", "GLM-4.6", "GLM-4.7"}},
    {.name = "glm4_moe_lite", .names = {"GLM-4.7-Flash"}},
    {.name = "minimax_m2", .names = {"MiniMax-M2.7"}},
    {.name = "longcat_flash", .names = {"LongCat-Flash-Chat"}},
    {.name = "step3_5_flash", .names = {"Step-3.5-Flash"}},
    {.name = "qwen25_vl", .names = {"Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL-72B-Instruct", "Qwen2.5-VL-32B-Instruct"}},
    {.name = "qwen3_vl", .names = {"Qwen3-VL-4B-Instruct", "Qwen3-VL-32B-Instruct", "Qwen3-VL-Embedding-2B",
                                   "Qwen3-VL-Embedding-8B", "Qwen3-VL-Reranker-2B", "Qwen3-VL-Reranker-8B"}},
    {.name = "qwen3_vl_moe", .names = {"Qwen3-VL-30B-A3B", "Qwen3-VL-235B-A22B"}},
    {.name = "qwen3_5_moe", .names = {"Qwen3.5-397B-A17B", "Qwen3.5-27B", "Qwen3.5-122B-A10B", "Qwen3.5-35B-A3B",
                                      "Qwen3.6-27B"}},
    {.name = "glm4_6v", .names = {"GLM-4.6V"}},
    {.name = "qwen2_5_omni_thinker", .names = {"Qwen2.5-Omni-7B"}},
    {.name = "qwen3_omni_moe", .names = {"Qwen3-Omni-30B-A3B-Thinking", "Qwen3-Omni-30B-A3B-Instruct"}},
    {.name = "internvl3_5", .names = {"InternVL3_5-38B"}},
    {.name = "internvl3_5_moe", .names = {"InternVL3_5-241B-A28B"}},
    {.name = "kimi_k2_5", .names = {"Kimi-K2.5", "Kimi-K2.6"}},
    {.name = "wan2_1", .names = {"Wan2_1", "Wan2.1"}},
    {.name = "wan2_2", .names = {"Wan2_2", "Wan2.2", "Wan2.2-T2V-A14B", "Wan2.2-I2V-A14B", "Wan2.2-TI2V-5B"}},
    {.name = "hunyuan_video", .names = {"HunyuanVideo", "hunyuan_video", "hunyuan-video", "hunyuanvideo"}},
    {.name = "flux1", .names = {"FLUX.1-dev"}},
    {.name = "qwen_image_edit", .names = {"Qwen-Image-Edit-2509"}},
    {.name = NULL},
};

static int folded(char c)
{
    return c == '_' ? '-' : tolower((unsigned char)c);
}

static bool same_name(const char *a, const char *b)
{
    while (*a && folded(*a) == folded(*b)) {
        a++;
        b++;
    }
    return !*a && !*b;
}

/* One of the adapters' names: as written, else whatever its case. */
static bool find_name(const char *s, PracticeModel *out)
{
    for (int exact = 1; exact >= 0; exact--)
        for (const Pedigree *p = pedigrees; p->name; p++)
            for (int i = 0; i < NAMES_MAX && p->names[i]; i++)
                if (exact ? strcmp(s, p->names[i]) == 0 : same_name(s, p->names[i])) {
                    *out = (PracticeModel){.model_type = p->names[i], .pedigree = p->name, .known = true};
                    return true;
                }
    return false;
}

/* Folder of a config.json type: its own name, if no adapter calls it otherwise. */
static const char *config_pedigree(const char *type)
{
    for (const Pedigree *p = pedigrees; p->name; p++)
        for (const char *const *t = p->config; t && *t; t++)
            if (strcmp(*t, type) == 0)
                return p->name;
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
