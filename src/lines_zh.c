/* Lines that a run leaves in the log, in simplified Chinese: templates of core/, whose %s stand for what is in the line. */
#include "src/lang_zh.h"

const LangText lang_zh_lines[] = {
    {.en = "%s: '%s' in %s matches no sub-graph: they go by their norm or linear, such as '%s', and by what reads it",
     .to = "%s：'%s'（%s）没有匹配任何子图：子图以其归一化或线性层的名字（如 '%s'）以及读取它的层为名"},
    {.en = "%s: '%s' in %s matches no %s, such as '%s'", .to = "%s：'%s'（%s）没有匹配任何 %s，例如 '%s'"},
    {.en = "%s: this model has no sub-graph of type %s", .to = "%s：此模型没有 %s 类型的子图"},
    {.en = "%s: no token reached %s of the inputs, or the original finds no scales for them, first that of '%s': their scales stay 1",
     .to = "%s：%s 处输入没有词元到达，或原版找不到尺度，首个是 '%s'：其尺度保持 1"},
    {.en = "%s: no token reached %s of the inputs, first that of '%s': their scales stay 1",
     .to = "%s：%s 处输入没有词元到达，首个是 '%s'：其尺度保持 1"},
    {.en = "%s has no place for %s: it is left out, the model is whole without it", .to = "%s 没有 %s 的位置：略去，模型没有它也完整"},
    {.en = "%s: '%s' gets a bias that what loads this layout doesn't apply: as the original does, it is written all the same",
     .to = "%s：'%s' 得到一个偏置，而加载此布局的程序不会使用它：与原版一样照写"},
    {.en = "dynamic_cache selects no attention of this model: no C8 is written", .to = "dynamic_cache 没有选中此模型的任何注意力：不写 C8"},
    {.en = "svd_res: %s of its linears stay float, where a branch saves nothing: leave them out",
     .to = "svd_res：其 %s 个线性层保留浮点，旁支在那里毫无益处：请排除它们"},
    {.en = "float_sparse: a share of %s of the values of %s weights is 0", .to = "float_sparse：%s 的值（共 %s 个权重）为 0"},
    {.en = "the texts of all ranks don't fit into --mem here: should the analysis stop, it begins anew",
     .to = "所有 rank 的文本放不进这里的 --mem：分析若中断，将从头开始"},
    {.en = "the calibration is not divided over ranks (a processor that needs all texts, or fewer texts than ranks): each runs all "
           "texts; what is quantized and written is divided",
     .to = "校准没有分给各 rank（某个处理器需要全部文本，或文本少于 rank 数）：每个 rank 运行全部文本；量化与写出仍分开进行"},
    {.en = "--read once: not every rank runs all layers here: each reads what it needs",
     .to = "--read once：这里并非每个 rank 都运行所有层：各自读取所需的权重"},
    {.en = "--read once: the weights of a layer (%s MB) are more than a rank's limit of memory leaves: each rank reads all of them",
     .to = "--read once：一层的权重（%s MB）超过 rank 内存上限所剩：每个 rank 读取全部权重"},
    {.en = "%s: is not divided over ranks: rank 0 of %s does all of it", .to = "%s：没有分给各 rank：由 rank 0（共 %s 个）全部完成"},
    {.en = "the measurement is not divided over ranks (%s): rank 0 does all of it", .to = "测量没有分给各 rank（%s）：由 rank 0 全部完成"},
    {.en = "%s of %s ranks measure: there are no more calibration texts", .to = "%s 个 rank（共 %s 个）参与测量：没有更多校准文本"},
    {.en = NULL},
};
