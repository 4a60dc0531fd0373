#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "convert/run.h"
#include "save/ascendv1.h"

/* What goes with the weights, and what an earlier run left. */

/* A SaveOut that looks at the plan's layout; nothing in it is to be freed but what its store holds. */
SaveOut convert_out(const ConvertPlan *p)
{
    SaveOut s = {.format = &p->format, .plan = &p->save, .layout = p->layout, .store = STORE_CLOSED, .forced = p->save.force};
    memcpy(s.known, p->digest, sizeof s.known);
    memcpy(s.run, p->digest, sizeof s.run);
    return s;
}

static const ConvertPlan *plan_of(const SavePlan *save)
{
    return (const ConvertPlan *)(const void *)save; /* its first member */
}

/* config.json says how weights are coded: no longer, once none is. */
static Status edit_config(SaveOut *s, Error *err)
{
    static const char *const coding[] = {"quantization_config", NULL};
    const ConvertPlan *p = plan_of(s->plan);
    bool coded = false;
    for (size_t i = 0; i < p->n && !s->plan->peer; i++)
        coded = coded || (p->item[i].coded && !p->item[i].l);
    return coded ? ST_OK : save_edit_config(s, coding, NULL, false, err);
}

static Status ascend_documents(SaveOut *s, Error *err)
{
    const char *type = s->layout.n ? "FLOAT" : "Unknown";
    int best = -1;
    int64_t group = 0;
    for (size_t i = 0; i < s->layout.n; i++) {
        const char *label = s->layout.t[i].label;
        int r = ascend_rank(s->plan->peer, &label);
        type = r > best ? label : type;
        best = r > best ? r : best;
        group = strcmp(s->layout.t[i].label, "FLOAT") != 0 ? 32 : group;
    }
    RETURN_IF_ERROR(ascend_describe(s, type, group, err));
    RETURN_IF_ERROR(save_side_files(s, false, err));
    return edit_config(s, err);
}

static Status hf_documents(SaveOut *s, Error *err)
{
    RETURN_IF_ERROR(save_side_files(s, false, err));
    return edit_config(s, err);
}

static Status list(const SaveFormat *f, const SavePlan *save, SaveFile **out, int *n, Error *err)
{
    (void)f;
    SaveOut s = convert_out(plan_of(save));
    *out = NULL;
    *n = 0;
    return save_list_files(&s, out, n, err);
}

/* ---- an earlier run ---- */

static Status look_into(const ConvertPlan *p, int at, SaveStopped *out, Error *err)
{
    char name[200];
    ConvertMark mark;
    snprintf(name, sizeof name, STORE_PREFIX "%s/journal", p->format.type);
    if (faccessat(at, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
        return ST_OK;
    char *path = path_join(p->save.dir, name);
    Journal *j = NULL;
    Status st = path ? convert_journal(p, path, JOURNAL_READ, &j, &mark, err) : error_nomem(err, "a path");
    free(path);
    if (st != ST_OK)
        return st;
    (void)journal_close(j, NULL);
    snprintf(name, sizeof name, STORE_PREFIX "%s/" STORE_READY, p->format.type);
    out->there = mark.head;
    out->ready = mark.head && faccessat(at, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    out->forced = mark.forced;
    out->layers = (int)(mark.bytes >> 20);
    out->differs = mark.differs;
    return ST_OK;
}

static Status stopped(const SaveFormat *f, const SavePlan *save, SaveStopped *out, Error *err)
{
    (void)f;
    const ConvertPlan *p = plan_of(save);
    *out = (SaveStopped){0};
    int at = open(save->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return ST_OK; /* nothing there, or nothing that a run would take */
    SaveOut s = convert_out(p);
    Status st = look_into(p, at, out, err);
    if (st == ST_OK && !out->there)
        st = saveout_complete(&s, at, &out->done, err);
    close(at);
    return st;
}

static const SaverOps ops = {.files = list, .stopped = stopped};

SaveFormat convert_saver(bool ascend)
{
    if (ascend) {
        SaveFormat f = *saver_find("ascendv1_saver");
        f.documents = ascend_documents;
        f.ops = &ops;
        return f;
    }
    return (SaveFormat){.type = "huggingface", .title = "Hugging Face", .weights = "model", .documents = hf_documents, .ops = &ops};
}
