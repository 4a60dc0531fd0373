#include "base/ascii.h"
#include "ui/theme.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INCLUDE = 8, MAX_LINE = 400, MAX_WORDS = 8 };

static const struct SlotDef {
    const char *name, *color, *mono;
} slot_defs[SLOTS] = {
#define X(id, name, color, mono) [id] = {name, color, mono},
    THEME_SLOTS(X)
#undef X
};

static const char *const color_names[16] = {
    "black",       "red",          "green",      "yellow",       "blue",          "magenta",     "cyan",
    "white",       "bright-black", "bright-red", "bright-green", "bright-yellow", "bright-blue", "bright-magenta",
    "bright-cyan", "bright-white",
};

/* What terminals usually show for the first sixteen (xterm). */
static const int base_rgb[16] = {
    0x000000, 0xcd0000, 0x00cd00, 0xcdcd00, 0x0000ee, 0xcd00cd, 0x00cdcd, 0xe5e5e5,
    0x7f7f7f, 0xff0000, 0x00ff00, 0xffff00, 0x5c5cff, 0xff00ff, 0x00ffff, 0xffffff,
};

static const struct {
    const char *name;
    unsigned bit;
} attrs[] = {
    {"bold", TA_BOLD}, {"dim", TA_DIM}, {"underline", TA_UNDERLINE}, {"reverse", TA_REVERSE}, {"normal", 0},
};

static bool parse_color(const char *w, int *out)
{
    if (strcmp(w, "default") == 0 || strcmp(w, "-") == 0) {
        *out = THEME_DEFAULT;
        return true;
    }
    for (int i = 0; i < 16; i++) {
        if (strcmp(w, color_names[i]) == 0) {
            *out = i;
            return true;
        }
    }
    char *end;
    if (w[0] == '#' && strlen(w) == 7 && strspn(w + 1, "0123456789abcdefABCDEF") == 6) {
        *out = THEME_RGB | (int)strtol(w + 1, NULL, 16);
        return true;
    }
    if (!ascii_is_digit(w[0]))
        return false;
    long v = strtol(w, &end, 10);
    if (*end || v > 255)
        return false;
    *out = (int)v;
    return true;
}

static bool parse_attr(const char *w, unsigned *bits)
{
    for (size_t i = 0; i < sizeof attrs / sizeof attrs[0]; i++) {
        if (strcmp(w, attrs[i].name) == 0) {
            *bits |= attrs[i].bit;
            return true;
        }
    }
    return false;
}

/* "fg [bg] [attr...]" into *look; the word that is not understood, or NULL. `value` is cut into words. */
static const char *parse_look(char *value, Look *look)
{
    Look l = {THEME_DEFAULT, THEME_DEFAULT, 0};
    int colors = 0;
    char *save = NULL;
    for (char *w = strtok_r(value, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
        int c;
        if (parse_attr(w, &l.attr)) {
            colors = 2;
            continue;
        }
        if (colors >= 2 || !parse_color(w, &c))
            return w;
        *(colors++ == 0 ? &l.fg : &l.bg) = c;
    }
    *look = l;
    return NULL;
}

static void builtin(Theme *t, const char *name, bool mono)
{
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s", name);
    for (int i = 0; i < SLOTS; i++) {
        char buf[64];
        snprintf(buf, sizeof buf, "%s", mono ? slot_defs[i].mono : slot_defs[i].color);
        parse_look(buf, &t->look[i]);
    }
}

void theme_default(Theme *t)
{
    builtin(t, "default", false);
}

void theme_mono(Theme *t)
{
    builtin(t, "mono", true);
}

static int slot_find(const char *name)
{
    for (int i = 0; i < SLOTS; i++) {
        if (strcmp(name, slot_defs[i].name) == 0)
            return i;
    }
    return -1;
}

static char *trim(char *s)
{
    while (ascii_is_space(*s))
        s++;
    size_t n = strlen(s);
    while (n > 0 && ascii_is_space(s[n - 1]))
        s[--n] = '\0';
    return s;
}

static const char *nearest_slot(const char *name)
{
    const char *best = NULL;
    int best_d = 4;
    for (int i = 0; i < SLOTS; i++) {
        int d = str_distance(name, slot_defs[i].name, best_d);
        if (d < best_d) {
            best_d = d;
            best = slot_defs[i].name;
        }
    }
    return best;
}

static void parse_slot_line(Theme *t, char *line, const char *file, int number, Str *warnings)
{
    char *eq = strchr(line, '=');
    if (!eq) {
        str_printf(warnings, "%s:%d: expected 'slot = colour', found '%s'\n", file, number, line);
        return;
    }
    *eq = '\0';
    const char *name = trim(line);
    int slot = slot_find(name);
    if (slot < 0) {
        const char *near = nearest_slot(name);
        str_printf(warnings, "%s:%d: unknown slot '%s'%s%s%s\n", file, number, name, near ? ", did you mean '" : "",
                   near ? near : "", near ? "'?" : "");
        return;
    }
    const char *bad = parse_look(trim(eq + 1), &t->look[slot]);
    if (bad)
        str_printf(warnings, "%s:%d: '%s' is neither a colour (name, 0-255, #rrggbb) nor an attribute\n", file, number,
                   bad);
}

static Status parse_text(Theme *t, const char *text, const char *file, int depth, ThemeLoad *load, void *ctx,
                         Str *warnings, Error *err);

static Status parse_include(Theme *t, const char *name, const char *file, int number, int depth, ThemeLoad *load,
                            void *ctx, Str *warnings, Error *err)
{
    if (depth + 1 > MAX_INCLUDE)
        return error_set(err, ST_DATA, "%s:%d: includes are nested deeper than %d", file, number, MAX_INCLUDE);
    Error why = {ST_OK, ""};
    char *text = load ? load(ctx, name, &why) : NULL;
    if (!text) {
        str_printf(warnings, "%s:%d: cannot include '%s': %s\n", file, number, name,
                   why.text[0] ? why.text : "not found");
        return ST_OK;
    }
    Status st = parse_text(t, text, name, depth + 1, load, ctx, warnings, err);
    free(text);
    return st;
}

static Status parse_text(Theme *t, const char *text, const char *file, int depth, ThemeLoad *load, void *ctx,
                         Str *warnings, Error *err)
{
    int number = 0;
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "\n");
        char line[MAX_LINE];
        number++;
        if (n >= sizeof line) {
            str_printf(warnings, "%s:%d: line longer than %d bytes\n", file, number, MAX_LINE - 1);
        } else {
            memcpy(line, p, n);
            line[n] = '\0';
            char *s = trim(line);
            if (strncmp(s, "include", 7) == 0 && ascii_is_space(s[7]))
                RETURN_IF_ERROR(parse_include(t, trim(s + 7), file, number, depth, load, ctx, warnings, err));
            else if (*s && *s != '#')
                parse_slot_line(t, s, file, number, warnings);
        }
        p += n + (p[n] == '\n');
    }
    return ST_OK;
}

Status theme_parse(Theme *t, const char *text, const char *file, ThemeLoad *load, void *ctx, Str *warnings, Error *err)
{
    return parse_text(t, text, file, 0, load, ctx, warnings, err);
}

static int cube_level(int v)
{
    return v < 48 ? 0 : v < 115 ? 1 : (v - 35) / 40;
}

static int cube_value(int level)
{
    return level == 0 ? 0 : 55 + 40 * level;
}

static int rgb_of(int color)
{
    if (color < 0)
        return 0x808080;
    if (color & THEME_RGB)
        return color & 0xffffff;
    if (color < 16)
        return base_rgb[color];
    if (color < 232) {
        int c = color - 16;
        return cube_value(c / 36) << 16 | cube_value(c / 6 % 6) << 8 | cube_value(c % 6);
    }
    int g = 8 + 10 * (color - 232);
    return g << 16 | g << 8 | g;
}

static int rgb_distance(int a, int b)
{
    int dr = (a >> 16 & 255) - (b >> 16 & 255), dg = (a >> 8 & 255) - (b >> 8 & 255), db = (a & 255) - (b & 255);
    return 3 * dr * dr + 6 * dg * dg + db * db; /* the eye weighs green most */
}

static int nearest_256(int rgb)
{
    int r = rgb >> 16 & 255, g = rgb >> 8 & 255, b = rgb & 255;
    int cube = 16 + 36 * cube_level(r) + 6 * cube_level(g) + cube_level(b);
    int mean = (r + g + b) / 3;
    int grey = mean < 8 ? 232 : mean > 238 ? 255 : 232 + (mean - 3) / 10;
    return rgb_distance(rgb, rgb_of(grey)) < rgb_distance(rgb, rgb_of(cube)) ? grey : cube;
}

/* How far a colour is from grey. */
static int chroma(int rgb)
{
    int r = rgb >> 16 & 255, g = rgb >> 8 & 255, b = rgb & 255;
    int most = r > g ? r : g, least = r < g ? r : g;
    return (most > b ? most : b) - (least < b ? least : b);
}

/* Of the first sixteen. A grey is no colour's neighbour: what a colour says is its hue. */
static int nearest_16(int rgb)
{
    enum { COLOURED = 48 };
    int best = -1;
    for (int i = 0; i < 16; i++) {
        if (chroma(rgb) >= COLOURED && chroma(base_rgb[i]) == 0)
            continue;
        if (best < 0 || rgb_distance(rgb, base_rgb[i]) < rgb_distance(rgb, base_rgb[best]))
            best = i;
    }
    return best;
}

int theme_color(int color, Depth depth, bool *bright)
{
    enum { BRIGHT_BLACK = 8 };
    if (bright)
        *bright = false;
    if (color < 0 || depth == DEPTH_MONO)
        return -1;
    if (depth == DEPTH_DIRECT)
        return color & THEME_RGB ? color & 0xffffff : color < 8 ? color : rgb_of(color);
    if (depth == DEPTH_256)
        return color & THEME_RGB ? nearest_256(color & 0xffffff) : color;
    if ((color & THEME_RGB) || color > 15)
        color = nearest_16(rgb_of(color));
    if (depth == DEPTH_16)
        return color;
    if (color == BRIGHT_BLACK) /* bold black is black on many terminals */
        return -1;
    if (bright)
        *bright = color > 7;
    return color & 7;
}

int theme_mix(int a, int b, double t)
{
    int x = rgb_of(a), y = rgb_of(b), out = 0;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    for (int shift = 16; shift >= 0; shift -= 8) {
        int p = x >> shift & 255, q = y >> shift & 255;
        out |= (int)(p + (q - p) * t + 0.5) << shift;
    }
    return THEME_RGB | out;
}

bool theme_wants_color(int flag, const char *no_color, int config, bool able)
{
    if (!able)
        return false;
    if (flag >= 0)
        return flag > 0;
    if (no_color && *no_color)
        return false;
    return config != 0;
}
