#include "tests/lib/screen_world.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "io/file.h"
#include "io/journal.h"
#include "tests/lib/tempdir.h"
#include "ui/keys.h"

enum { MAX_LINE = 4 << 20 };
#define ROOT_MARK "@ROOT@"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

/* ---- the recording: a journal's records as lines of text, the source tree's path written as @ROOT@ ---- */

static void replace(const char *line, const char *from, const char *to, Str *out)
{
    for (const char *hit; *from && (hit = strstr(line, from)) != NULL; line = hit + strlen(from)) {
        str_append(out, line, (size_t)(hit - line));
        str_puts(out, to);
    }
    str_puts(out, line);
}

static char *root(void)
{
    char *r = realpath(".", NULL);
    assert_non_null(r);
    return r;
}

/* more: records behind it, NULL-terminated; NULL: none. */
static void play_recording(const char *state_dir, const char *const *more)
{
    Str dir = {0}, path = {0};
    str_printf(&dir, "%s/sessions/recorded", state_dir);
    str_printf(&path, "%s/journal", dir.s);
    ok(dir_make(dir.s, &err));
    gzFile f = gzopen(SCREEN_RECORDING, "rb");
    char *line = malloc(MAX_LINE), *here = root();
    Journal *j;
    assert_non_null(f);
    assert_non_null(line);
    ok(journal_open(&j, path.s, JOURNAL_CUT, NULL, NULL, NULL, &err));
    while (gzgets(f, line, MAX_LINE)) {
        Str record = {0};
        line[strcspn(line, "\n")] = '\0';
        replace(line, ROOT_MARK, here, &record);
        ok(journal_append(j, record.s, false, &err));
        str_free(&record);
    }
    for (; more && *more; more++)
        ok(journal_append(j, *more, false, &err));
    ok(journal_close(j, &err));
    gzclose(f);
    free(line);
    free(here);
    str_free(&dir);
    str_free(&path);
}

static Status write_record(void *ctx, const char *json, uint32_t len, Error *e)
{
    Str whole = {0}, line = {0};
    char *here = root();
    (void)e;
    str_append(&whole, json, len);
    replace(whole.s, here, ROOT_MARK, &line);
    assert_true(gzwrite(ctx, line.s, (unsigned)line.len) > 0);
    assert_true(gzputc(ctx, '\n') == '\n');
    free(here);
    str_free(&whole);
    str_free(&line);
    return ST_OK;
}

static void run(Session *s, const char *line, Status st)
{
    if (st == ST_OK && session_busy(s))
        st = session_wait(s, &err);
    ok(st);
    assert_int_equal(session_record(s, line, NULL), ST_OK);
}

/* What a person would do: rank, look closely at a few layers, decide, measure, change one's mind, tag. */
static void work(Session *s)
{
    static const char *const metrics[] = {"kurtosis", "local_error", NULL};
    static const char *const weighs[] = {"block_error", NULL};
    static const char *const closely[] = {"*layers.{1,6}.mlp.*", "*layers.3.self_attn.q_proj"};
    static const char *const worst[] = {"*layers.{1,6}.mlp.down_proj"};
    static const char *const broad[] = {"*layers.1*.self_attn.q_proj"};
    ok(session_open_model(s, "lab_models/demo", NULL, &err));
    ok(session_open_recipe(s, NULL, NULL, &err));
    ok(session_set_calib(s, SCREEN_CALIB, &err));
    ok(session_set_eval(s, SCREEN_CALIB, &err));
    run(s, "analyze kurtosis local_error", session_analyze(s, metrics, NULL, 0, false, &err));
    run(s, "analyze kurtosis local_error --pattern=...", session_analyze(s, metrics, closely, 2, true, &err));
    run(s, "analyze block_error", session_analyze(s, weighs, NULL, 0, false, &err));
    run(s, "measure", session_measure(s, false, &err));
    run(s, "exclude *layers.{1,6}.mlp.down_proj", session_edit(s, worst, 1, 0, false, NULL, &err));
    run(s, "measure", session_measure(s, false, &err));
    run(s, "exclude *layers.1*.self_attn.q_proj", session_edit(s, broad, 1, 0, false, NULL, &err));
    bool *hits = calloc((size_t)session_model(s)->nlinears, sizeof *hits);
    int64_t n;
    ok(session_target(s, "*layers.5.mlp.gate_proj", hits, &n, &err));
    ok(session_tag(s, hits, true, &err));
    free(hits);
}

void world_record(void)
{
    char *dir = temp_folder(), *path;
    SessionOptions o;
    Session *s;
    session_options_default(&o);
    o.threads = 1;
    o.eval_tokens = 256;
    o.ctx = 128;
    o.state_dir = dir;
    ok(session_new(&s, &o, &err));
    work(s);
    Str p = {0};
    str_printf(&p, "%s/sessions/%s/journal", dir, session_id(s));
    path = str_detach(&p);
    session_free(s);
    gzFile f = gzopen(SCREEN_RECORDING, "wb9");
    Journal *j;
    assert_non_null(f);
    ok(journal_open(&j, path, JOURNAL_READ, write_record, f, NULL, &err));
    ok(journal_close(j, &err));
    assert_int_equal(gzclose(f), Z_OK);
    free(path);
    temp_remove(dir);
}

/* ---- the workbench over it ---- */

/* In the order of the recording's day. */
static const char *const metrics[] = {"kurtosis", "std", "quantile", "local_error"};

static void open_world(World *w, int cols, int rows, const char *glyphs, bool recorded, bool read_only, const char *const *more)
{
    memset(w, 0, sizeof *w);
    w->dir = temp_folder();
    setenv("XDG_STATE_HOME", w->dir, 1);
    setenv("XDG_CONFIG_HOME", w->dir, 1);
    ok(app_init(&w->app, FACE_UI, &err));
    free((char *)w->app.options.state_dir);
    w->app.options.state_dir = strdup(w->dir);
    w->app.options.read_only = read_only;
    w->app.options.threads = 1;
    if (recorded) {
        play_recording(w->dir, more);
        ok(session_restore(&w->app.session, &w->app.options, "recorded", &err));
    }
    ScreenOptions o = {.glyphs = glyphs, .color = -1, .cols = cols, .rows = rows};
    ok(ui_new(&w->ui, &w->app, &o, &err));
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++)
        w->metrics[i] = metric_find(metrics[i]);
    w->ui->metrics = w->metrics;
    ui_paint(w->ui);
}

void world_open(World *w, int cols, int rows, const char *glyphs, bool recorded, bool read_only)
{
    open_world(w, cols, rows, glyphs, recorded, read_only, NULL);
}

void world_open_more(World *w, int cols, int rows, const char *glyphs, const char *const *records)
{
    open_world(w, cols, rows, glyphs, true, false, records);
}

void world_close(World *w)
{
    ui_free(w->ui);
    app_fini(&w->app);
    temp_remove(w->dir);
}

static void settle(World *w, unsigned bits)
{
    if (bits & DO_RELAYOUT)
        ui_set_size(w->ui, w->ui->rows, w->ui->cols);
    ui_paint(w->ui);
}

/* Paints until no weight that is looked at is being read: a key may mean something in its plot. */
static void see(World *w)
{
    ui_paint(w->ui);
    while (ui_session(w->ui) && session_picture_waits(ui_session(w->ui))) {
        session_picture_wait(ui_session(w->ui));
        ui_paint(w->ui);
    }
}

void world_keys(World *w, const char *names)
{
    char *copy = strdup(names), *save = NULL;
    unsigned bits = 0;
    for (char *n = strtok_r(copy, " ", &save); n; n = strtok_r(NULL, " ", &save)) {
        int key = key_parse(n);
        if (key == KEY_NONE)
            fail_msg("there is no key '%s'", n);
        bits = ui_key(w->ui, key);
        settle(w, bits);
        if (w->ui->plot.kind != PLOT_ALL)
            see(w);
    }
    free(copy);
}

void world_type(World *w, const char *text)
{
    for (; *text; text++)
        settle(w, ui_key(w->ui, (unsigned char)*text));
}

void world_resize(World *w, int cols, int rows)
{
    term_resize(&w->ui->term, rows, cols);
    ui_set_size(w->ui, rows, cols);
    ui_paint(w->ui);
}

char *world_screen(World *w)
{
    Str out = {0};
    see(w);
    ui_dump(w->ui, &out);
    char *text = str_detach(&out);
    assert_non_null(text);
    return text;
}

void world_shows(World *w, const char *text, bool want)
{
    char *screen = world_screen(w);
    if ((strstr(screen, text) != NULL) != want)
        fail_msg("%s '%s' in:\n%s", want ? "no" : "unwanted", text, screen);
    free(screen);
}

void world_wait(World *w)
{
    Session *s = w->app.session;
    while (session_busy(s)) {
        struct pollfd p = {.fd = session_fd(s), .events = POLLIN};
        poll(&p, 1, 1000);
        ui_pump(w->ui);
        ui_paint(w->ui);
    }
    ui_pump(w->ui);
    ui_paint(w->ui);
}

/* ---- golden screens ---- */

void world_hide_times(char *s)
{
    static const char form[] = "00:00:00";
    for (; *s; s++) {
        size_t n = 0;
        while (form[n] && (form[n] == ':' ? s[n] == ':' : s[n] >= '0' && s[n] <= '9'))
            n++;
        if (!form[n])
            memcpy(s, "hh:mm:ss", n);
    }
}

void world_compare(const char *path, const Str *got)
{
    char *want = NULL;
    size_t n;
    if (getenv("ACCEPT")) {
        assert_int_equal(file_write_atomic(path, got->s, got->len, &err), ST_OK);
        return;
    }
    if (file_read(path, 1 << 24, &want, &n, &err) != ST_OK)
        fail_msg("%s", err.text);
    const char *a = want, *b = got->s, *title = a;
    for (int line = 1; *a || *b; line++) {
        size_t la = strcspn(a, "\n"), lb = strcspn(b, "\n");
        if (strncmp(a, "===", 3) == 0)
            title = a;
        if (la != lb || memcmp(a, b, la) != 0) {
            fail_msg("%s:%d (%.*s)\nwanted '%.*s'\ngot    '%.*s'", path, line, (int)strcspn(title, "\n"), title,
                     (int)la, a, (int)lb, b);
        }
        a += la + (a[la] == '\n');
        b += lb + (b[lb] == '\n');
    }
    free(want);
}
