#include "session/practices.h"

#include "io/file.h"
#include "recipe/practice.h"

Status practice_keep(const Model *m, const char *model_type, const char *folder, const char *id, const char *text, size_t len,
                     Str *path, Error *err)
{
    PracticeModel who;
    practice_identify(model_type, path_base(m->path), m->cfg.model_type, &who);
    str_printf(path, "%s/%s", folder, who.pedigree);
    RETURN_IF_ERROR(path->oom ? error_nomem(err, "a path") : dir_make(str_text(path), err));
    str_printf(path, "/%s.yaml", id);
    if (path->oom)
        return error_nomem(err, "a path");
    if (file_holds(str_text(path), text, len))
        return ST_OK;
    if (file_exists(str_text(path)))
        return error_set(err, ST_DATA, "'%s' is another recipe, and stays", str_text(path));
    return file_write_atomic(str_text(path), text, len, err);
}
