/* Goals of fit and tune, as they are typed. */
#include "session/goal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/settings.h"

/* A number that takes the whole text; `percent`: it may end in % (then a hundredth of it) and begin with +. */
static bool number(const char *text, bool percent, double *out)
{
    char *end;
    if (*text == '+' && !percent)
        return false;
    *out = strtod(text, &end);
    if (end == text || !isfinite(*out))
        return false;
    if (percent && strcmp(end, "%") == 0) {
        *out /= 100;
        return true;
    }
    return !percent && !*end;
}

static bool read_kl(const char *text, Goal *g)
{
    return number(text, false, &g->value) && g->value >= 0;
}

static bool read_ppl(const char *text, Goal *g)
{
    return number(text, true, &g->value) && g->value > -1;
}

static bool read_bytes(const char *text, Goal *g)
{
    uint64_t bytes;
    g->more = *text == '+';
    if (!setting_bytes(text + g->more, &bytes))
        return false;
    g->value = (double)bytes;
    return true;
}

static bool read_bits(const char *text, Goal *g)
{
    return number(text, false, &g->value) && g->value > 0;
}

static const struct {
    const char *name;
    bool (*read)(const char *text, Goal *g);
} forms[] = {
    [GOAL_KL] = {"kl", read_kl},
    [GOAL_PPL] = {"ppl", read_ppl},
    [GOAL_BYTES] = {"bytes", read_bytes},
    [GOAL_BITS] = {"bits", read_bits},
};

/* What a bare figure is of: "+20M", "1%", "5.2bits". NULL: nothing says it. */
static const char *bare_kind(const char *text, size_t n)
{
    if (strchr(text, '=') || !n)
        return NULL;
    if (text[n - 1] == '%')
        return "ppl";
    if (n > 4 && strcmp(text + n - 4, "bits") == 0)
        return "bits";
    return strchr("KMGTBkmgtb", text[n - 1]) && (*text == '+' || (*text >= '0' && *text <= '9')) ? "bytes" : NULL;
}

Status goal_parse(const char *text, Goal *out, Error *err)
{
    size_t len = strlen(text);
    const char *kind = bare_kind(text, len);
    *out = (Goal){0};
    if (len + sizeof "bytes=" > sizeof out->text)
        return error_set(err, ST_USAGE, "'%.80s...' is no goal: it is too long", text);
    if (kind)
        snprintf(out->text, sizeof out->text, "%s=%.*s", kind, (int)(len - (strcmp(kind, "bits") == 0 ? 4 : 0)), text);
    else
        snprintf(out->text, sizeof out->text, "%s", text);
    for (int i = 0; i < (int)(sizeof forms / sizeof *forms); i++) {
        size_t n = strlen(forms[i].name);
        out->kind = (GoalKind)i;
        if (strncmp(out->text, forms[i].name, n) == 0 && out->text[n] == '=' && forms[i].read(out->text + n + 1, out))
            return ST_OK;
    }
    return error_set(err, ST_USAGE, "'%s' is no goal: write kl=0.1, ppl=+1%%, bytes=+20M, bytes=300M or bits=5.2", text);
}
