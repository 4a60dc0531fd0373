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

enum { LINE_PARTS = 8 };

/* What the %s of a template stand for in a line. */
typedef struct LineParts {
    const char *at[LINE_PARTS];
    size_t len[LINE_PARTS];
    int n;
} LineParts;

static bool fits(const char *template, const char *line, LineParts *p)
{
    p->n = 0;
    for (const char *t = template; *t || *line;) {
        if (strncmp(t, "%s", 2) != 0) {
            if (*t++ != *line++)
                return false;
            continue;
        }
        t += 2;
        size_t text = strcspn(t, "%"); /* up to which the part goes */
        const char *end = text ? line + 1 : line + strlen(line);
        while (text && *line && *end && strncmp(end, t, text) != 0)
            end++;
        if (!*line || p->n == LINE_PARTS || (text && !*end))
            return false;
        p->at[p->n] = line;
        p->len[p->n++] = (size_t)(end - line);
        line = end;
    }
    return true;
}

const char *tr_line(const char *line, char *buf, size_t size)
{
    LineParts p;
    const LangText *t = chosen ? chosen->lines : NULL;
    while (t && t->en && !fits(t->en, line, &p))
        t++;
    if (!t || !t->en)
        return line;
    Str out = {0};
    int k = 0;
    for (const char *c = t->to; *c; c++) {
        if (strncmp(c, "%s", 2) != 0 || k == p.n) {
            str_putc(&out, *c);
            continue;
        }
        str_append(&out, p.at[k], p.len[k]);
        k++;
        c++;
    }
    bool whole = !out.oom && out.len < size;
    if (whole)
        memcpy(buf, str_text(&out), out.len + 1);
    str_free(&out);
    return whole ? buf : line;
}

int text_format(char *out, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, size, tr(fmt), ap);
    va_end(ap);
    return n;
}
