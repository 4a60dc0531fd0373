#include "export/export.h"

/* The recipe itself, with its lists edited: recipe_export reads it again and proves it. */

static Status write_yaml(const ExportInput *in, Export *out, Error *err)
{
    return recipe_export(in->recipe, in->model, in->level, in->sizing, in->runtime, in->comments, in->against, out, err);
}

const ExportForm form_yaml = {
    .name = "yaml", .ext = {".yaml", ".yml"}, .tool = "msModelSlim and slimscope", .write = write_yaml,
};
