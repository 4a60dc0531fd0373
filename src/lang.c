#include "src/lang.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

const Lang *const lang_table[] = {&lang_zh, NULL};

static const Lang *chosen;         /* NULL: English */
static size_t texts[LANG_TABLES]; /* of each of its tables */

/* The first of the variables that is set decides, as in setlocale. */
static const Lang *of_environment(void)
{
    static const char *const names[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
    const char *v = NULL;
    for (int i = 0; i < 3 && (!v || !*v); i++)
        v = getenv(names[i]);
    for (int i = 0; v && lang_table[i]; i++) {
        size_t n = strlen(lang_table[i]->name);
        if (strncmp(v, lang_table[i]->name, n) == 0 && (v[n] == '\0' || strchr("_.@-", v[n])))
            return lang_table[i];
    }
    return NULL;
}

Status lang_choose(const char *name, Error *err)
{
    const Lang *l = NULL;
    Str names = {0};
    bool known = strcmp(name, "en") == 0 || strcmp(name, "auto") == 0;
    for (int i = 0; lang_table[i]; i++) {
        l = strcmp(name, lang_table[i]->name) == 0 ? lang_table[i] : l;
        str_printf(&names, ", %s", lang_table[i]->name);
    }
    if (!l && !known)
        error_set(err, ST_USAGE, "there is no language '%s': lang is auto, en%s", name, str_text(&names));
    str_free(&names);
    if (!l && !known)
        return ST_USAGE;
    chosen = strcmp(name, "auto") == 0 ? of_environment() : l;
    for (int i = 0; chosen && chosen->tables[i]; i++)
        for (texts[i] = 0; chosen->tables[i][texts[i]].en;)
            texts[i]++;
    return ST_OK;
}

const char *lang_name(void)
{
    return chosen ? chosen->name : "en";
}

static int by_english(const void *key, const void *row)
{
    return strcmp(key, ((const LangText *)row)->en);
}

const char *tr(const char *english)
{
    int i = 0; /* the last table that doesn't begin behind the text */
    while (chosen && chosen->tables[i + 1] && strcmp(chosen->tables[i + 1]->en, english) <= 0)
        i++;
    const LangText *t = chosen ? bsearch(english, chosen->tables[i], texts[i], sizeof *t, by_english) : NULL;
    return t ? t->to : english;
}

int text_format(char *out, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, size, tr(fmt), ap);
    va_end(ap);
    return n;
}
