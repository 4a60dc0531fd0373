/* Themes, the settings file, and the journal of a session. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "fuzz.h"
#include "session/wire.h"
#include "src/internal.h"
#include "ui/theme.h"

typedef struct Self {
    const char *text;
    int loads;
} Self;

static char *load_self(void *ctx, const char *name, Error *err)
{
    Self *s = ctx;
    if (strcmp(name, "self") != 0) {
        error_set(err, ST_DATA, "there is no theme '%s'", name);
        return NULL;
    }
    if (++s->loads > 2000)
        fuzz_bad("includes without an end", "");
    return strdup(s->text);
}

static void run_theme(int variant, const uint8_t *data, size_t n)
{
    Self self = {.text = n < 4000 ? fuzz_text(data, n) : NULL};
    Theme t;
    Str warnings = {0};
    Error err = {0};
    (void)variant;
    if (!self.text)
        return;
    theme_default(&t);
    fuzz_error(theme_parse(&t, self.text, "f", load_self, &self, &warnings, &err), &err);
    for (int i = 0; i < SLOTS; i++)
        for (int d = 0; d <= DEPTH_DIRECT; d++) {
            bool bright;
            theme_color(t.look[i].fg, (Depth)d, &bright);
            theme_mix(t.look[i].fg, t.look[i].bg, 0.3);
        }
    str_free(&warnings);
    free((char *)self.text);
}

static const char *const theme_seeds[] = {"themes/*.theme", NULL};
static const char *const theme_words[] = {"include self\n", " = #ff0000", "bold", "reverse", "default", "231", "text = ", "# ", NULL};
const FuzzTarget fuzz_theme = {.name = "theme", .seeds = theme_seeds, .words = theme_words, .run = run_theme};

static Status take_theme(void *ctx, const char *name, Error *err)
{
    (void)ctx, (void)name, (void)err;
    return ST_OK;
}

static Status take_key(void *ctx, const char *key, const char *command, Error *err)
{
    (void)ctx, (void)key, (void)command, (void)err;
    return ST_OK;
}

static void run_rc(int variant, const uint8_t *data, size_t n)
{
    App a;
    Error err = {0};
    (void)variant;
    char folder[256];
    snprintf(folder, sizeof folder, "%s", fuzz_path("slimscope"));
    mkdir(folder, 0700);
    *strrchr(folder, '/') = '\0';
    setenv("XDG_CONFIG_HOME", folder, 1);
    setenv("XDG_STATE_HOME", folder, 1);
    fuzz_put("slimscope/rc", data, n);
    if (app_init(&a, FACE_UI, &err) != ST_OK)
        fuzz_bad("no program", err.text);
    a.set_theme = take_theme;
    a.bind_key = take_key;
    fuzz_error(app_rc(&a, &err), &err);
    app_fini(&a);
}

static const char *const rc_seeds[] = {"tests/fuzz/seeds/rc*", NULL};
static const char *const rc_words[] = {"set threads=2\n", "bind F6 measure\n", "theme light\n", "set mem=3G\n", "'", "#", "=", NULL};
const FuzzTarget fuzz_rc = {.name = "rc", .seeds = rc_seeds, .words = rc_words, .run = run_rc};

/* ---- the journal ---- */

static char *find_data(void *ctx, const char *name, Error *err)
{
    char path[300];
    (void)ctx;
    snprintf(path, sizeof path, "lab_calib/%.200s", name);
    if (access(path, R_OK) == 0)
        return strdup(path);
    error_set(err, ST_DATA, "no data set '%s'", name);
    return NULL;
}

static void put_u32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}

/* One record with its length and sum. */
static void put_record(Str *out, const char *s, size_t n)
{
    uint8_t head[8];
    put_u32(head, (uint32_t)n);
    put_u32(head + 4, (uint32_t)crc32(0, (const uint8_t *)s, (uInt)n));
    str_append(out, (const char *)head, sizeof head);
    str_append(out, s, n);
}

/* Every line as a record; those that have a number get the next one. */
static void put_records(const char *data, size_t n)
{
    static const char number[] = "{\"seq\":";
    Str out = {0}, line = {0};
    int seq = 0;
    for (const char *s = data, *end = data + n; s < end;) {
        const char *nl = memchr(s, '\n', (size_t)(end - s));
        size_t len = (size_t)((nl ? nl : end) - s), skip = strlen(number);
        str_clear(&line);
        if (len > skip && memcmp(s, number, skip) == 0) {
            while (skip < len && s[skip] >= '0' && s[skip] <= '9')
                skip++;
            str_printf(&line, "%s%d", number, ++seq);
            str_append(&line, s + skip, len - skip);
        } else {
            str_append(&line, s, len);
        }
        if (len)
            put_record(&out, str_text(&line), line.len);
        s += len + 1;
    }
    fuzz_put("sessions/s1/journal", str_text(&out), out.len);
    str_free(&out);
    str_free(&line);
}

/* Everything that a screen asks, and all edits back and forth. */
static void look_at(Session *s)
{
    int64_t n;
    int64_t differs;
    Coverage c;
    Str what = {0};
    Error err = {0};
    session_pump(s);
    const Model *m = session_model(s);
    for (int64_t i = 0; m && i < m->nlinears; i++) {
        (void)session_level_of(s, i);
        (void)session_result(s, i);
    }
    (void)session_order(s, &n, true);
    (void)session_effect(s, &differs);
    (void)session_base_effect(s);
    (void)session_predict(s);
    (void)session_coverage(s, &c);
    for (int i = 0; i < session_whatifs(s); i++)
        (void)session_whatif(s, i);
    for (int i = 0; i < session_jobs(s); i++)
        (void)session_job(s, i);
    while (session_undo_depth(s) && session_undo(s, &what, &err) == ST_OK)
        str_clear(&what);
    while (session_redo_depth(s) && session_redo(s, &what, &err) == ST_OK)
        str_clear(&what);
    str_free(&what);
}

/* Variant: bit 0: the data are the file's bytes, or lines that become records. */
static void run_journal(int variant, const uint8_t *data, size_t n)
{
    char folder[256];
    snprintf(folder, sizeof folder, "%s", fuzz_path("sessions"));
    mkdir(folder, 0700);
    mkdir(fuzz_path("sessions/s1"), 0700);
    *strrchr(folder, '/') = '\0';
    if (variant & 1)
        fuzz_put("sessions/s1/journal", data, n);
    else
        put_records((const char *)data, n);
    SessionOptions o;
    session_options_default(&o);
    o.threads = 1;
    o.state_dir = folder;
    o.find_data = find_data;
    o.force = true; /* the model that is here need not be the one of the seed */
    Session *s;
    Error err = {0};
    Status st = session_restore(&s, &o, "s1", &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    look_at(s);
    session_free(s);
}

static const char *const journal_seeds[] = {"tests/fuzz/seeds/journal*", NULL};
static const char *const journal_words[] = {"{\"t\":\"edit\",", "\"undo\"", "\"rows\":[", "\"n\":3", "null", "\"level\":1", "\n", "{", "}", "-1", "1e300", NULL};
const FuzzTarget fuzz_journal = {.name = "journal", .seeds = journal_seeds, .words = journal_words, .take = 20000, .run = run_journal};

/* ---- what is said over the attach socket ---- */

static void run_wire(int variant, const uint8_t *data, size_t n)
{
    WireLine l, again;
    Error err = {0};
    (void)variant;
    const Status st = wire_parse(&l, (const char *)data, n, &err);
    fuzz_error(st, &err);
    if (st != ST_OK || l.kind == WIRE_KINDS)
        return;
    Str line = {0};
    wire_put(&line, &l);
    if (memchr(str_text(&line), '\n', line.len - 1) || wire_parse(&again, line.s, line.len - 1, &err) != ST_OK || again.kind != l.kind)
        fuzz_bad("a line that does not come back", str_text(&line));
    str_free(&line);
}

static const char *const wire_seeds[] = {"tests/fuzz/seeds/wire*.json", NULL};
static const char *const wire_words[] = {"{\"t\":\"", "hello", "job", "log", "end", "idle", "bye", "refused", "cancel", "\",\"job\":", "\"waits\":[1,2]",
                                         "\"state\":\"stopped\"", "\"text\":\"", "1e400", "-1", "null", NULL};
const FuzzTarget fuzz_wire = {.name = "wire", .seeds = wire_seeds, .words = wire_words, .run = run_wire};
