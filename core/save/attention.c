#include "save/attention.h"

#include <stdio.h>
#include <string.h>

const char *const attention_parts[ATTENTION_PARTS] = {"fa_q", "fa_k", "fa_v"};

static const char letters[ATTENTION_PARTS + 1] = "QKV";
static const char dynamic_end[] = "_DYNAMIC";

/* What the types are called. No two of them begin alike. */
static const struct {
    QType dtype;
    const char *name;
} names[] = {{QT_INT8, "INT8"}, {QT_FP8_E4M3, "FP8"}, {QT_MXFP4, "MXFP4"}, {QT_MXFP8, "MXFP8"}};
enum { NAMES = sizeof names / sizeof names[0] };

static const char *name_of(QType t)
{
    for (int i = 0; i < NAMES; i++)
        if (names[i].dtype == t)
            return names[i].name;
    return "?";
}

static bool same(const AttentionPart *a, const AttentionPart *b)
{
    return a->dtype == b->dtype && a->dynamic == b->dynamic;
}

/* Those of the same kind together, where the first of them stands. */
void attention_type(const AttentionPart part[ATTENTION_PARTS], char out[ATTENTION_TYPE_MAX])
{
    int n = 0;
    out[0] = '\0';
    for (int i = 0; i < ATTENTION_PARTS; i++) {
        char who[ATTENTION_PARTS + 1];
        int k = 0, before = 0;
        while (before < i && !same(&part[before], &part[i]))
            before++;
        if (part[i].dtype == QT_FLOAT || before < i)
            continue;
        for (int j = i; j < ATTENTION_PARTS; j++)
            if (same(&part[j], &part[i]))
                who[k++] = letters[j];
        who[k] = '\0';
        n += snprintf(out + n, (size_t)(ATTENTION_TYPE_MAX - n), "%s%s%s%s%s", n ? "_" : "", k < ATTENTION_PARTS ? who : "",
                      k < ATTENTION_PARTS ? "_" : "", name_of(part[i].dtype), part[i].dynamic ? dynamic_end : "");
    }
}

/* Takes `word` from the front of *text. */
static bool take(const char **text, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(*text, word, n) != 0)
        return false;
    *text += n;
    return true;
}

/* One group: letters and an underline, or neither; a type; perhaps that it is dynamic. */
static bool take_group(const char **text, AttentionPart part[ATTENTION_PARTS])
{
    AttentionPart own = {.dtype = QT_FLOAT};
    size_t n = strspn(*text, letters);
    bool all = n == 0 || (*text)[n] != '_';
    const char *who = *text;
    *text += all ? 0 : n + 1;
    for (int i = 0; i < NAMES && own.dtype == QT_FLOAT; i++)
        if (take(text, names[i].name))
            own.dtype = names[i].dtype;
    own.dynamic = take(text, dynamic_end);
    for (int i = 0; i < ATTENTION_PARTS; i++)
        if (all || memchr(who, letters[i], n))
            part[i] = own;
    return own.dtype != QT_FLOAT;
}

bool attention_type_read(const char *text, AttentionPart part[ATTENTION_PARTS])
{
    char again[ATTENTION_TYPE_MAX];
    const char *at = text;
    memset(part, 0, ATTENTION_PARTS * sizeof *part);
    bool good = take_group(&at, part);
    while (good && *at)
        good = take(&at, "_") && take_group(&at, part);
    attention_type(part, again); /* the one way in which it is written */
    return good && strcmp(again, text) == 0;
}

static bool entry_at(const SaveChanges *c, size_t i, AttentionPart part[ATTENTION_PARTS], bool *entry)
{
    const SaveMade *t = save_changes_made_at(c, i);
    *entry = t && t->entry && attention_type_read(t->entry, part);
    return t != NULL;
}

unsigned attention_kinds(const SaveChanges *c)
{
    AttentionPart part[ATTENTION_PARTS];
    unsigned kinds = 0;
    bool entry;
    for (size_t i = 0; entry_at(c, i, part, &entry); i++)
        for (int k = 0; entry && k < ATTENTION_PARTS; k++) {
            QType t = part[k].dtype;
            bool block = t == QT_MXFP4 || t == QT_MXFP8;
            kinds |= t == QT_FLOAT ? 0u : block ? ATTENTION_BLOCK : part[k].dynamic ? ATTENTION_TOKEN : ATTENTION_STATIC;
            kinds |= t == QT_MXFP8 ? ATTENTION_MXFP8 : 0u;
        }
    return kinds;
}

int attention_count(const SaveChanges *c, AttentionCount out[ATTENTION_TYPES_MAX])
{
    AttentionPart part[ATTENTION_PARTS];
    bool entry;
    int n = 0;
    for (size_t i = 0; entry_at(c, i, part, &entry); i++) {
        int k = 0;
        if (!entry)
            continue;
        const char *type = save_changes_made_at(c, i)->entry;
        while (k < n && k < ATTENTION_TYPES_MAX - 1 && strcmp(out[k].type, type) != 0)
            k++;
        if (k == n) {
            out[n++].n = 0;
            snprintf(out[k].type, sizeof out[k].type, "%s", type);
        }
        out[k].n++;
    }
    return n;
}

const SaveMade *attention_with(const SaveChanges *c, QType dtype)
{
    AttentionPart part[ATTENTION_PARTS];
    bool entry;
    for (size_t i = 0; entry_at(c, i, part, &entry); i++)
        for (int k = 0; entry && k < ATTENTION_PARTS; k++)
            if (part[k].dtype == dtype)
                return save_changes_made_at(c, i);
    return NULL;
}
