#include "save/marks.h"

#include <string.h>

#include "base/str.h"

static const char dynamic[] = "_DYNAMIC";
static const char *const marks[] = {"_FLATQUANT"};

const char *layout_marked(SaveLayout *l, const char *label, const char *mark)
{
    if (!mark)
        return label;
    size_t n = strlen(label), end = sizeof dynamic - 1, stem = str_ends_with(label, dynamic) ? n - end : n, m = strlen(mark);
    char *text = arena_alloc(&l->names, n + m + 1);
    if (!text)
        return NULL;
    memcpy(text, label, stem);
    memcpy(text + stem, mark, m);
    memcpy(text + stem + m, label + stem, n - stem + 1);
    return text;
}

bool label_unmark(char *label)
{
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        size_t n = strlen(marks[i]);
        char *at = strstr(label, marks[i]);
        if (!at || (at[n] && strcmp(at + n, dynamic) != 0))
            continue;
        memmove(at, at + n, strlen(at + n) + 1);
        return true;
    }
    return false;
}
