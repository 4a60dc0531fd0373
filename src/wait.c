/* Waiting for jobs without a screen: progress on stderr, the session's messages, and SIGINT as cancel. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "session/autotune.h"
#include "src/internal.h"

static int sig_pipe[2] = {-1, -1};
static Cancel interrupted;
static volatile sig_atomic_t unheard; /* interrupts that nothing has taken yet */

static void on_interrupt(int sig)
{
    (void)sig;
    unheard++;
    atomic_store_explicit(&interrupted.level, 2, memory_order_relaxed);
    if (unheard > 2)
        _exit(130); /* nothing listened to the first two */
    int keep = errno;
    ssize_t n = write(sig_pipe[1], "i", 1);
    (void)n;
    errno = keep;
}

void interrupt_init(void)
{
    struct sigaction was;
    if (sigaction(SIGINT, NULL, &was) == 0 && was.sa_handler == SIG_IGN)
        return; /* started in the background: ^C is meant for somebody else */
    if (sig_pipe[0] >= 0 || pipe2(sig_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return; /* without the pipe SIGINT keeps ending the program */
    struct sigaction sa = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
}

int interrupt_take(void)
{
    char buf[16];
    int n = 0;
    for (ssize_t k; sig_pipe[0] >= 0 && (k = read(sig_pipe[0], buf, sizeof buf)) > 0;)
        n += (int)k;
    if (n) {
        unheard = 0;
        atomic_store_explicit(&interrupted.level, 0, memory_order_relaxed);
    }
    return n;
}

const Cancel *interrupt_cancel(void)
{
    return &interrupted;
}

/* Readable after a SIGINT; -1 before interrupt_init. */
static int interrupt_fd(void)
{
    return sig_pipe[0];
}

static void line_rewrite(int *width, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Rewrites the progress line on stderr, of which *width bytes were written so far (start with 0). */
static void line_rewrite(int *width, const char *fmt, ...)
{
    char text[80]; /* one line of a terminal: a longer one could not be rewritten in place */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    int n = (int)text_fit_terminal(text, strlen(text), false);
    fprintf(stderr, "\r%.*s%*s", n, text, *width > n ? *width - n : 0, "");
    *width = n > *width ? n : *width;
    fflush(stderr);
}

static void line_clear(int *width)
{
    if (*width)
        fprintf(stderr, "\r%*s\r", *width, "");
    *width = 0;
}

/* How fast it goes, and how long it will: once there is something to tell it by. */
static void byte_line(ByteWatch *w, int64_t now, uint64_t done, uint64_t total)
{
    const double seconds = (double)(now - w->began_ns) * 1e-9, rate = (double)(done - w->began) / 1e6 / (seconds > 0 ? seconds : 1);
    char left[40] = "";
    if (seconds > 0.5 && rate > 0 && done < total)
        snprintf(left, sizeof left, ", %.0f MB/s, %.0f s left", rate, (double)(total - done) / 1e6 / rate);
    line_rewrite(&w->width, "%.30s  %.0f of %.0f MiB%s", w->path, (double)done / 1048576, (double)total / 1048576, left);
}

void byte_progress(void *ctx, uint64_t done, uint64_t total)
{
    ByteWatch *w = ctx;
    if (interrupt_take() > 0)
        atomic_store(&w->cancel.level, 2);
    int64_t now = clock_ns();
    if (!w->began_ns) {
        w->began_ns = now;
        w->began = done;
    }
    if (w->show <= 0 || (now - w->last_ns < 100000000 && done < total))
        return;
    w->last_ns = now;
    if (w->show == 2)
        fprintf(stderr, "{\"phase\":\"%s\",\"done\":%llu,\"total\":%llu}\n", w->phase, (unsigned long long)done,
                (unsigned long long)total);
    else
        byte_line(w, now, done, total);
    if (w->show != 2 && done >= total)
        fputs("\n", stderr);
}

/* Progress as a person sees it: one line rewritten in place at most ten times a second. */
typedef struct Shown {
    int64_t last_ns;
    int64_t done;
    int job, width;
    char lap[40]; /* what goes through the layers: "" the job itself */
} Shown;

static void pass_on_log(App *a, Shown *s, const char *skip)
{
    if (a->log_seen < session_log_lines(a->session))
        line_clear(&s->width);
    app_pass_log(a, skip);
}

static const JobView *running_job(Session *s)
{
    const JobView *job = NULL;
    for (int i = 0; i < session_jobs(s); i++) {
        const JobView *j = session_job(s, i);
        if (j->state == JOB_RUNNING || !job || job->state != JOB_RUNNING)
            job = j;
    }
    return job;
}

/* What a phase counts layers of: a prior stage ("prior stage 1: layer 3", of whose search it counts the steps) or the job
 * itself ("layer 3, ..."): lap is what stands before the number. false: it counts other things, such as texts. */
static bool lap_of(const char *phase, char *lap, size_t size)
{
    bool prior = strncmp(phase, "prior stage ", 12) == 0;
    const char *colon = prior ? strchr(phase, ':') : NULL, *number = colon ? strpbrk(colon, "0123456789") : NULL;
    snprintf(lap, size, "%.*s", (int)(number ? number - phase : 0), phase);
    return number || strncmp(phase, "layer ", 6) == 0;
}

/* A line for every finished layer (or step of a search); layers that came together share one. */
static void show_layers(Shown *s, const JobView *j)
{
    char lap[sizeof s->lap];
    if (!lap_of(j->phase, lap, sizeof lap))
        return;
    if (s->job != j->id || strcmp(s->lap, lap) != 0)
        s->done = 0;
    s->job = j->id;
    memcpy(s->lap, lap, sizeof lap);
    if (j->done <= s->done || j->done > j->total)
        return;
    const char *what = lap[0] ? lap : "layer ";
    int n = (int)strlen(what) - 1; /* of the word without its space */
    if (j->done == s->done + 1)
        fprintf(stderr, "%s%lld of %lld", what, (long long)j->done, (long long)j->total);
    else
        fprintf(stderr, "%.*ss %lld to %lld of %lld", n, what, (long long)s->done + 1, (long long)j->done, (long long)j->total);
    fprintf(stderr, "  %.1f s  peak %.1f MiB\n", j->elapsed, (double)j->peak / 1048576);
    s->done = j->done;
}

static void show_progress(App *a, Shown *s)
{
    const JobView *j = running_job(a->session);
    int64_t now = clock_ns();
    if (a->progress == PROGRESS_LINES && j) {
        show_layers(s, j);
        return;
    }
    if (a->progress <= 0 || !j || j->state != JOB_RUNNING || now - s->last_ns < 100000000)
        return;
    if (a->progress == 2 && j->id == s->job && j->done == s->done && now - s->last_ns < 1000000000)
        return;
    s->last_ns = now;
    s->job = j->id;
    s->done = j->done;
    if (a->progress == 2) {
        Str b = {0};
        str_printf(&b, "{\"job\":%d,\"title\":", j->id);
        str_json(&b, j->title);
        str_puts(&b, ",\"phase\":");
        str_json(&b, j->phase);
        str_printf(&b, ",\"done\":%lld,\"total\":%lld,\"elapsed\":%.3f", (long long)j->done, (long long)j->total,
                   j->elapsed);
        if (j->eta >= 0)
            str_printf(&b, ",\"eta\":%.3f", j->eta);
        str_printf(&b, ",\"peak\":%llu}\n", (unsigned long long)j->peak);
        fputs(str_text(&b), stderr);
        str_free(&b);
        return;
    }
    char line[200];
    int n = snprintf(line, sizeof line, "%s  %s %lld/%lld  %.1f s", j->title, j->phase, (long long)j->done,
                     (long long)j->total, j->elapsed);
    if (j->eta >= 0 && n > 0 && n < (int)sizeof line)
        snprintf(line + n, sizeof line - (size_t)n, "  ~%.0f s left", j->eta);
    line_rewrite(&s->width, "%s", line);
}

bool ask_person(void *ctx, const char *question, char *line, size_t size)
{
    (void)ctx;
    tell("%s", question);
    if (!fgets(line, (int)size, stdin))
        return false;
    line[strcspn(line, "\r\n")] = '\0';
    return true;
}

/* What the running job asks. */
static void answer_job(App *a, Shown *s)
{
    char line[256];
    const char *question = session_question(a->session);
    if (!question)
        return;
    line_clear(&s->width);
    session_answer(a->session, ask_person(NULL, question, line, sizeof line) ? line : NULL, NULL);
}

/* Who waits for the jobs waits for none behind a ^C. */
static void stop_all(Session *s, int level)
{
    for (int i = session_jobs(s); i-- > 0;) {
        const JobView *j = session_job(s, i);
        if (j->state == JOB_RUNNING || j->state == JOB_WAITING)
            session_cancel_job(s, j->id, level, NULL);
    }
}

Status app_wait(App *a, Error *err)
{
    Session *s = a->session;
    if (!s)
        return ST_OK;
    Shown shown = {0};
    int level = 0;
    while (session_works(s)) {
        struct pollfd p[2] = {{session_fd(s), POLLIN, 0}, {interrupt_fd(), POLLIN, 0}};
        if (poll(p, p[1].fd >= 0 ? 2 : 1, 1000) < 0 && errno != EINTR)
            return error_set(err, ST_INTERNAL, "waiting for the job failed: %s", strerror(errno));
        session_pump(s);
        if (!session_works(s))
            break; /* the last lines may tell what the caller prints as the error */
        pass_on_log(a, &shown, NULL);
        show_progress(a, &shown);
        answer_job(a, &shown);
        if (interrupt_take() > 0 && session_busy(s)) {
            level = level ? 2 : 1;
            line_clear(&shown.width);
            tell("%s\n",
                 level == 1 ? "stopping after this tile, finished rows are kept (again: stop at once)"
                            : "stopping at once");
            stop_all(s, level);
        }
    }
    line_clear(&shown.width);
    Error own = {0};
    Status st = session_wait(s, &own);
    pass_on_log(a, &shown, st == ST_OK ? NULL : own.text);
    if (st != ST_OK && err)
        *err = own;
    return st;
}

void app_profile(App *a, ProfileReport *out)
{
    session_profile(a->session, out);
    if (out->workers && a->face == FACE_CLI)
        profile_report_process(out);
}

void app_note_profile(App *a, OutFormat f)
{
    ProfileReport r;
    Str text = {0};
    app_profile(a, &r);
    if (a->face != FACE_CLI || f == OUT_JSON || !r.workers)
        return;
    output_profile(&r, &text);
    tell("%s", str_text(&text));
    str_free(&text);
}

void app_note_memory(App *a)
{
    int n = session_jobs(a->session);
    uint64_t bound = 0;
    for (int i = 0; i < n; i++) {
        const JobView *j = session_job(a->session, i);
        bound = j->bound > bound ? j->bound : bound;
    }
    if (a->face != FACE_CLI || !bound) /* nothing was computed: there is no plan to hold the figure against */
        return;
    fprintf(stderr, "peak memory %.1f MiB, planned at most %.1f MiB\n", (double)mem_peak_bytes() / 1048576,
            (double)bound / 1048576);
}
