#include "src/cmdline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/settings.h"

bool parse_int(const char *text, int64_t *out)
{
    if (!(*text == '-' || (*text >= '0' && *text <= '9')))
        return false;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return false;
    *out = v;
    return true;
}

const char *nearest_name(const char *word, const char *const *names)
{
    const char *best = NULL;
    size_t n = strlen(word);
    int limit = n <= 3 ? 1 : n <= 6 ? 2 : 3;
    for (; *names; names++) {
        if (n >= 2 && strncmp(*names, word, n) == 0)
            return *names;
        int d = str_distance(word, *names, limit);
        if (d <= limit) {
            best = *names;
            limit = d - 1;
        }
    }
    return best;
}

/* Option names compare with '-' and '_' equal; true when the first n bytes agree. */
static bool same_name(const char *option, const char *given, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char a = option[i] == '-' ? '_' : option[i], b = given[i] == '-' ? '_' : given[i];
        if (a != b || !a)
            return false;
    }
    return true;
}

static const char *nearest_option(const Command *cmd, const char *name, size_t len)
{
    enum { MAX = 64 };
    const char *names[MAX + 1];
    int n = 0;
    for (const Option *o = cmd->options; o && o->name && n < MAX; o++)
        if (o->help)
            names[n++] = o->name;
    names[n] = NULL;
    char word[64];
    if (len >= sizeof word)
        return NULL;
    memcpy(word, name, len);
    word[len] = 0;
    return nearest_name(word, names);
}

const Option *option_find(const Command *cmd, const char *name, size_t len, Error *err)
{
    const Option *hit = NULL, *other = NULL;
    for (const Option *o = cmd->options; o && o->name && len; o++) {
        if (!same_name(o->name, name, len))
            continue;
        if (strlen(o->name) == len)
            return o;
        if (hit)
            other = o;
        else
            hit = o;
    }
    int n = len > 60 ? 60 : (int)len;
    if (other) {
        error_set(err, ST_USAGE, "'--%.*s' could be --%s or --%s: write more of it", n, name, hit->name, other->name);
        return NULL;
    }
    if (hit)
        return hit;
    const char *near = nearest_option(cmd, name, len);
    if (near)
        error_set(err, ST_USAGE, "'%s' has no option '--%.*s': did you mean --%s?", cmd->name, n, name, near);
    else
        error_set(err, ST_USAGE, "'%s' has no option '--%.*s': see 'help %s'", cmd->name, n, name, cmd->name);
    return NULL;
}

/* The word is one of "a|b|c". */
static bool in_choices(const char *choices, const char *value)
{
    size_t n = strlen(value);
    for (const char *p = choices; n; p++) {
        size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, value, n) == 0)
            return true;
        p += len;
        if (!*p)
            break;
    }
    return false;
}

static Status check_value(const Option *o, const char *value, Error *err)
{
    int64_t i;
    uint64_t size;
    switch (o->type) {
    case ARG_INT:
        if (!parse_int(value, &i))
            return error_set(err, ST_USAGE, "--%s takes a whole number, not '%s'", o->name, value);
        return ST_OK;
    case ARG_SIZE:
        if (!setting_bytes(value, &size))
            return error_set(err, ST_USAGE, "--%s: '%s' is no size: write 300M, 4G or a number of bytes", o->name, value);
        return size ? ST_OK : error_set(err, ST_USAGE, "--%s: '%s' is no size that memory can have", o->name, value);
    case ARG_CHOICE:
        if (!in_choices(o->value, value))
            return error_set(err, ST_USAGE, "--%s takes %s, not '%s'", o->name, o->value, value);
        return ST_OK;
    case ARG_TEXT:
        return ST_OK;
    default:
        if (!*value)
            return error_set(err, ST_USAGE, "--%s is empty", o->name);
        return ST_OK;
    }
}

static Status add_value(CommandLine *cl, const Option *o, const char *value, Error *err)
{
    if (o->type != ARG_LIST && cl_given(cl, o->name))
        return error_set(err, ST_USAGE, "--%s is given twice", o->name);
    if (value)
        RETURN_IF_ERROR(check_value(o, value, err));
    cl->values[cl->nvalues++] = (OptionValue){o, value};
    return ST_OK;
}

static bool is_option(const char *w)
{
    return w[0] == '-' && w[1] && !(w[1] >= '0' && w[1] <= '9');
}

/* Takes the option at argv[*i] with its value or values; *i is left on the last word used. */
static Status take_option(CommandLine *cl, int argc, char *const *argv, int *i, Error *err)
{
    const char *name = argv[*i] + 2, *eq = strchr(name, '=');
    size_t len = eq ? (size_t)(eq - name) : strlen(name);
    if (argv[*i][1] != '-') { /* short: -x is --script */
        if (strcmp(argv[*i], "-x") != 0)
            return error_set(err, ST_USAGE, "'%s' has no option '%s': see 'help %s'", cl->command->name, argv[*i],
                             cl->command->name);
        name = "script";
        len = 6;
        eq = NULL;
    }
    const Option *o = option_find(cl->command, name, len, err);
    if (!o)
        return ST_USAGE;
    if (o->type == ARG_FLAG) {
        if (eq)
            return error_set(err, ST_USAGE, "--%s takes no value", o->name);
        return add_value(cl, o, NULL, err);
    }
    if (eq)
        return add_value(cl, o, eq + 1, err);
    if (o->type == ARG_LIST) {
        int had = cl->nvalues;
        while (*i + 1 < argc && !is_option(argv[*i + 1]))
            RETURN_IF_ERROR(add_value(cl, o, argv[++*i], err));
        return cl->nvalues == had ? add_value(cl, o, NULL, err) : ST_OK;
    }
    if (*i + 1 >= argc || strncmp(argv[*i + 1], "--", 2) == 0)
        return error_set(err, ST_USAGE, "--%s needs a value: --%s %s", o->name, o->name, o->value ? o->value : "VALUE");
    return add_value(cl, o, argv[++*i], err);
}

Status cmdline_parse(const Command *cmd, int argc, char *const *argv, const bool *quoted, CommandLine *out, Error *err)
{
    memset(out, 0, sizeof *out);
    out->command = cmd;
    out->words = mem_zarray((size_t)argc + 1, sizeof *out->words);
    out->values = mem_zarray((size_t)argc + 1, sizeof *out->values);
    if (!out->words || !out->values) {
        cmdline_fini(out);
        return error_nomem(err, "a command line");
    }
    if (argc > 1 && strcmp(argv[argc - 1], "!") == 0 && !(quoted && quoted[argc - 1]) && (cmd->flags & CMD_DESTROYS)) {
        out->bang = true;
        argc--;
    }
    bool options = true;
    Status st = ST_OK;
    for (int i = 1; i < argc && st == ST_OK; i++) {
        if (!options || !is_option(argv[i])) {
            out->words[out->nwords++] = argv[i];
        } else if (strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            out->help = true;
        } else {
            st = take_option(out, argc, argv, &i, err);
        }
    }
    if (st == ST_OK && !out->help && out->nwords && !cmd->args[0])
        st = error_set(err, ST_USAGE, "'%s' takes no '%s'", cmd->name, out->words[0]);
    if (st != ST_OK)
        cmdline_fini(out);
    return st;
}

void cmdline_fini(CommandLine *cl)
{
    free(cl->words);
    free(cl->values);
    memset(cl, 0, sizeof *cl);
}

static const OptionValue *find_value(const CommandLine *cl, const char *name)
{
    for (int i = 0; i < cl->nvalues; i++)
        if (strcmp(cl->values[i].option->name, name) == 0)
            return &cl->values[i];
    return NULL;
}

bool cl_given(const CommandLine *cl, const char *name)
{
    return find_value(cl, name) != NULL;
}

const char *cl_str(const CommandLine *cl, const char *name)
{
    const OptionValue *v = find_value(cl, name);
    return v ? v->value : NULL;
}

const char **cl_list(const CommandLine *cl, const char *name, int *n)
{
    const char **list = mem_zarray((size_t)cl->nvalues + 1, sizeof *list);
    *n = 0;
    for (int i = 0; list && i < cl->nvalues; i++)
        if (strcmp(cl->values[i].option->name, name) == 0 && cl->values[i].value)
            list[(*n)++] = cl->values[i].value;
    return list;
}

int64_t cl_int(const CommandLine *cl, const char *name, int64_t missing)
{
    const char *s = cl_str(cl, name);
    int64_t v;
    return s && parse_int(s, &v) ? v : missing;
}

uint64_t cl_size(const CommandLine *cl, const char *name, uint64_t missing)
{
    const char *s = cl_str(cl, name);
    uint64_t v;
    return s && setting_bytes(s, &v) ? v : missing;
}

Status cl_threads(const CommandLine *cl, int *out, Error *err)
{
    int64_t n = cl_int(cl, "threads", 0);
    if (n < 0 || n > THREADS_MOST)
        return error_set(err, ST_USAGE, "--threads takes 0 to %d", THREADS_MOST);
    *out = (int)n;
    return ST_OK;
}

/* Appends `text` broken at blanks into lines of `width` columns, later lines indented. */
static void wrap(Str *out, const char *text, int indent, int width)
{
    int col = indent;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (col > indent && col + 1 + n > width) {
            str_printf(out, "\n%*s", indent, "");
            col = indent;
        } else if (col > indent) {
            str_putc(out, ' ');
            col++;
        }
        str_append(out, text, (size_t)n);
        col += n;
        text += n;
        while (*text == ' ')
            text++;
    }
    str_putc(out, '\n');
}

void command_usage(const Command *cmd, Str *out)
{
    bool any = false;
    for (const Option *o = cmd->options; o && o->name; o++)
        any |= o->help != NULL;
    str_printf(out, "usage: %s%s%s%s%s\n", cmd->name, cmd->args[0] ? " " : "", cmd->args, any ? " [options]" : "",
               cmd->flags & CMD_DESTROYS ? " [!]" : "");
    str_puts(out, "  ");
    wrap(out, cmd->summary, 2, 96);
    if (cmd->help) {
        str_puts(out, "\n  ");
        wrap(out, cmd->help, 2, 96);
    }
    if (any)
        str_puts(out, "\noptions:\n");
    for (const Option *o = cmd->options; o && o->name; o++) {
        if (!o->help)
            continue;
        Str head = {0};
        str_printf(&head, "  --%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        str_printf(out, "%-34s", str_text(&head));
        if (head.len > 33)
            str_printf(out, "\n%34s", "");
        str_free(&head);
        wrap(out, o->help, 34, 110);
    }
}
