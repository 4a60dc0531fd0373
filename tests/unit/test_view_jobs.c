/* Screen 3 with a job in every state, drawn from a journal and from fixed times. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "session/parts.h"
#include "session/queue.h"
#include "tests/lib/screen_world.h"

#define ENDED(id, state, status, seconds, done, ok, failed, warned, last, error, more)                                         \
    "{\"t\":\"job_begin\",\"job\":" #id "}", "{\"t\":\"job_end\",\"job\":" #id ",\"status\":" #status ",\"state\":" #state      \
    ",\"seconds\":" #seconds ",\"done\":" #done ",\"total\":8,\"ok\":" #ok ",\"failed\":" #failed ",\"warned\":" #warned     \
    ",\"last\":\"" last "\",\"error\":\"" error "\"" more "}"
#define ANALYSIS(id, title, metrics)                                                                                           \
    "{\"t\":\"job\",\"job\":" #id ",\"kind\":\"analyze\",\"title\":\"" title "\",\"own\":false,\"request\":" #id                \
    ",\"sort\":\"00000000000000aa\",\"work\":1000,\"run\":" #id ",\"first\":0,\"needs\":1,\"scheme\":\"\",\"metrics\":[" metrics "]}"
#define MEASUREMENT(id)                                                                                                        \
    "{\"t\":\"job\",\"job\":" #id ",\"kind\":\"measure\",\"title\":\"measure: 54 quantized, 2 float\",\"own\":false,\"request\":0,"     \
    "\"sort\":\"00000000000000bb\",\"work\":500,\"full\":false}"
#define QUANTIZATION(id)                                                                                                       \
    "{\"t\":\"job\",\"job\":" #id ",\"kind\":\"quantize\",\"title\":\"quantize: demo-w8a8\",\"own\":false,\"request\":0,"             \
    "\"sort\":\"00000000000000cc\",\"work\":900,\"dir\":\"/nowhere/demo-w8a8\",\"verify\":true,\"debug\":false,\"resume\":false,\"force\":false}"

static const char *const records[] = {
    ANALYSIS(11, "kurtosis+std", "\"kurtosis\",\"std\""),
    ENDED(11, 2, 0, 12.5, 8, 54, 2, 1, "model.layers.7.mlp.down_proj  312.1", "", ""),
    MEASUREMENT(12),
    ENDED(12, 2, 0, 3.25, 8, 0, 0, 0, "", "", ",\"found\":[0.01234,0.0021,18.25,17.5,0.9375]"),
    MEASUREMENT(13),
    ENDED(13, 3, 65, 0.5, 0, 0, 0, 0, "", "'eval.jsonl' was not found: give a path, or one of the shipped sets", ""),
    QUANTIZATION(14),
    ENDED(14, 2, 0, 65, 8, 0, 0, 0, "", "", ""),
    QUANTIZATION(15),
    ENDED(15, 4, 130, 21, 3, 0, 0, 0, "", "", ""),
    MEASUREMENT(16),
    ENDED(16, 4, 130, 1.5, 2, 0, 0, 0, "", "", ""),
    ANALYSIS(17, "quantile", "\"quantile\""),
    ENDED(17, 4, 130, 4.75, 5, 35, 0, 0, "model.layers.4.mlp.down_proj  28.25", "", ""),
    ANALYSIS(18, "std", "\"std\""),
    ANALYSIS(19, "local_error", "\"local_error\""),
    MEASUREMENT(20),
    MEASUREMENT(21),
    "{\"t\":\"queue\",\"order\":[18,19,20,21],\"paused\":[21]}",
    NULL,
};

static JobRow *row_of(World *w, int id)
{
    const Queue *q = w->app.session->queue;
    for (size_t i = 0; i < q->njobs; i++)
        if (q->jobs[i]->view.id == id)
            return q->jobs[i];
    fail_msg("no job %d", id);
    return NULL;
}

/* Job 18 runs since 95.2 seconds, or stands still after as many. */
static void set_running(World *w, bool paused)
{
    JobRow *r = row_of(w, 18);
    const int64_t now = clock_ns();
    r->view.state = JOB_RUNNING;
    r->view.earlier = false;
    r->view.paused = paused;
    r->job->t_start = now - 95200000000;
    r->job->t_pause = now;
    r->view.phase = "layer";
    r->view.done = 5;
    r->view.total = 8;
    r->view.ok = 35;
    r->view.failed = 1;
    r->view.warned = 2;
    r->view.eta = 57;
    r->view.last = "model.layers.4.mlp.down_proj  3.5";
    r->view.peak = 53u << 20;
    r->view.bound = 59u << 20;
}

static void set_waiting(World *w)
{
    JobView *v = &row_of(w, 18)->view;
    v->state = JOB_WAITING;
    v->paused = false;
    v->phase = v->last = "";
}

/* The screen while job 18 has run for 95 seconds: again where the machine slept meanwhile. */
static void put_screen(World *w, bool paused, const char *title, int row, Str *out)
{
    char *screen = NULL;
    do {
        free(screen);
        set_running(w, paused);
        ui_paint(w->ui);
        screen = world_screen(w);
    } while (clock_ns() - row_of(w, 18)->job->t_start >= 95900000000);
    world_hide_times(screen);
    str_printf(out, "=== %s, row %d%s\n%s", title, row, paused ? ", the first paused" : "", screen);
    free(screen);
}

static void test_every_state(void **state)
{
    (void)state;
    static const struct {
        int cols, rows;
        const char *glyphs;
    } looks[] = {{60, 15, "ascii"}, {80, 24, "ascii"}, {80, 24, "braille"}, {100, 30, "block"}, {200, 60, "braille"}};
    Str out = {0};
    for (size_t k = 0; k < sizeof looks / sizeof *looks; k++) {
        World w;
        char title[40];
        snprintf(title, sizeof title, "%dx%d %s", looks[k].cols, looks[k].rows, looks[k].glyphs);
        world_open_more(&w, looks[k].cols, looks[k].rows, looks[k].glyphs, records);
        set_running(&w, false);
        world_keys(&w, "3 g");
        const int n = session_jobs(w.app.session);
        assert_int_equal(n, 11);
        for (int i = 1; i <= n; i++) { /* the details of each */
            put_screen(&w, false, title, i, &out);
            world_keys(&w, "j");
        }
        world_keys(&w, "g j"); /* of a paused one the details tell what memory the process holds just now */
        put_screen(&w, true, title, 2, &out);
        set_waiting(&w);
        world_close(&w);
    }
    world_compare("tests/golden/screens/jobs.txt", &out);
    str_free(&out);
}

/* Of many that have ended the newest stay, and those that wait. */
static void test_oldest_are_forgotten(void **state)
{
    (void)state;
    enum { MANY = 600, KEPT = 500 };
    const char **list = calloc(2 * MANY + 3, sizeof *list);
    assert_non_null(list);
    size_t n = 0;
    for (int id = 11; id < 11 + MANY; id++)
        for (int k = 0; k < 2; k++) {
            Str r = {0};
            if (k == 0)
                str_printf(&r, "{\"t\":\"job\",\"job\":%d,\"kind\":\"measure\",\"title\":\"measure\",\"own\":false,\"request\":0,\"work\":1}", id);
            else
                str_printf(&r, "{\"t\":\"job_end\",\"job\":%d,\"status\":0,\"state\":2,\"seconds\":1,\"done\":8,\"total\":8}", id);
            list[n++] = str_detach(&r);
        }
    list[n++] = strdup("{\"t\":\"job\",\"job\":2000,\"kind\":\"measure\",\"title\":\"waits\",\"own\":false,\"request\":0,\"work\":1,\"full\":false}");
    World w;
    world_open_more(&w, 80, 24, "ascii", list);
    const Session *s = w.app.session;
    assert_int_equal(session_jobs(s), KEPT + 1);
    assert_int_equal(session_job(w.app.session, 0)->id, 11 + MANY - KEPT);
    assert_int_equal(session_job(w.app.session, KEPT)->state, JOB_WAITING);
    world_close(&w);
    for (size_t i = 0; i < n; i++)
        free((char *)list[i]);
    free(list);
}

int main(void)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    setenv("LC_ALL", "C.UTF-8", 1);
    setenv("TZ", "UTC", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state),
        cmocka_unit_test(test_oldest_are_forgotten),
    };
    return cmocka_run_group_tests_name("view_jobs", tests, NULL, NULL);
}
