/* The program as one of several ranks: what they must have in common is looked at before anything else, rank 0 alone speaks,
 * and all of them end together. */
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/pool.h"
#include "io/file.h"
#include "math/cpu.h"
#include "math/gemmspeed.h"
#include "recipe/device.h"
#include "src/internal.h"

extern char **environ;
static const char kernels[] = "SLIMSCOPE_KERNELS";
static int speak_fd = -1; /* standard error of a rank that is silent */

/* ---- what they must have in common ---- */

static Status same_program(Dist *d, Error *err)
{
    enum { LARGEST = 1 << 30 };
    char *text;
    size_t len;
    RETURN_IF_ERROR(file_read("/proc/self/exe", LARGEST, &text, &len, err));
    const Digest key = digest_of(text, len);
    free(text);
    return dist_same(d, "build of slimscope", &key, sizeof key, err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The words of the command line, and the environment's that the program reads; kernels are chosen further down. */
static Status same_words(Dist *d, int argc, char **argv, Error *err)
{
    Hasher h;
    hasher_init(&h);
    for (int i = 1; i < argc; i++)
        hasher_str(&h, argv[i]);
    Digest key = hasher_end(&h);
    RETURN_IF_ERROR(dist_same(d, "command line", &key, sizeof key, err));
    size_t n = 0, all = 0;
    while (environ[all])
        all++;
    char **own = calloc(all + 1, sizeof *own);
    if (!own)
        return error_nomem(err, "the environment");
    for (char **e = environ; *e; e++)
        if (strncmp(*e, "SLIMSCOPE_", 10) == 0 && strncmp(*e, kernels, sizeof kernels - 1) != 0)
            own[n++] = *e;
    qsort(own, n, sizeof *own, by_name);
    hasher_init(&h);
    for (size_t i = 0; i < n; i++)
        hasher_str(&h, own[i]);
    key = hasher_end(&h);
    free(own);
    return dist_same(d, "environment (variables SLIMSCOPE_...)", &key, sizeof key, err);
}

/* Functions of the C library choose their form by the processor, as kernels do, and other releases compute otherwise. */
static Status same_functions(Dist *d, Error *err)
{
    enum { POINTS = 512 };
    double y[POINTS][8];
    float z[POINTS][8];
    for (int i = 0; i < POINTS; i++) {
        volatile double x = (i + 1) * 0.0371 + 1e-3 * i * i / POINTS;
        const double at = x;
        const float f = (float)at;
        const double yi[8] = {exp(-at), log(at), sin(at), cos(at), tanh(at), pow(at, 1.7), erf(at), log1p(at)};
        const float zi[8] = {expf(-f), logf(f), sinf(f), cosf(f), tanhf(f), powf(f, 1.7f), erff(f), exp2f(-f)};
        memcpy(y[i], yi, sizeof yi);
        memcpy(z[i], zi, sizeof zi);
    }
    Hasher h;
    hasher_init(&h);
    hasher_bytes(&h, y, sizeof y);
    hasher_bytes(&h, z, sizeof z);
    const Digest key = hasher_end(&h);
    return dist_same(d, "C library, or processor, whose exp, log and others give the last bit otherwise "
                        "(where only processors differ, GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-FMA on all ranks makes them alike),", &key, sizeof key, err);
}

/* OpenBLAS's own kernels: decompositions are in their arithmetic. */
extern char *openblas_get_corename(void) __attribute__((weak));
static Status same_lapack(Dist *d, Error *err)
{
    const char *core = openblas_get_corename ? openblas_get_corename() : "";
    char what[200];
    snprintf(what, sizeof what, "processor for OpenBLAS (%.40s: OPENBLAS_CORETYPE=%.40s on all ranks makes them alike)", core, core);
    return dist_same(d, what, core, strlen(core), err);
}

/* The best that every rank's processor runs, and none forbids by SLIMSCOPE_KERNELS, so that all of them compute alike. */
static Status same_kernels(Dist *d, Error *err)
{
    RETURN_IF_ERROR(math_check(err));
    if (math_openblas())
        return error_set(err, ST_USAGE, "%s=openblas: its sums differ from processor to processor: leave it out where several "
                                        "ranks compute", kernels);
    uint64_t runs = 0;
    for (MathLevel l = MATH_REFERENCE; l <= math_level(); l++)
        runs |= (uint64_t)math_level_runs(l) << l;
    RETURN_IF_ERROR(dist_common(d, &runs, err));
    MathLevel best = MATH_LEVELS - 1;
    while (best > MATH_REFERENCE && !(runs >> best & 1))
        best--;
    return setenv(kernels, math_level_name(best), 1) == 0 ? ST_OK : error_nomem(err, "the environment");
}

/* ---- begin and end ---- */

/* What mpirun's end of the job leaves: of a command that goes on with what it has, all but what was under way. */
static const char *end_line = "slimscope: another rank was killed or failed, or mpirun was stopped: the job ends, nothing of it was "
                              "kept; run it again\n";
static const char resumes_line[] = "slimscope: another rank was killed or failed, or mpirun was stopped: the job ends; what was "
                                   "finished is kept, --resume goes on\n";

static const char again_line[] = "slimscope: another rank was killed or failed, or mpirun was stopped: the job ends; the same plan and "
                                 "folder go on from here\n";

static const char session_line[] = "slimscope: another rank was killed or failed, or mpirun was stopped: the job ends; its session "
                                   "keeps the layers that were done, 'slimscope resume --headless' goes on\n";

void ranks_keep_session(void)
{
    end_line = session_line;
}
static const char *first_line = "slimscope: rank 0 was killed: the job ends; run it again\n";
static const char first_resumes_line[] = "slimscope: rank 0 was killed: the job ends; what was finished is kept, --resume goes on\n";

void ranks_keep_tries(void)
{
    end_line = again_line;
    first_line = "slimscope: rank 0 was killed: the job ends; the same plan and folder go on from here\n";
}

/* What a rank says when mpirun ends it, which has lost another one: rank 0, or where that is gone the next on its machine. */
static volatile sig_atomic_t over; /* all that is to be written is written */
static volatile pid_t first;       /* rank 0's process, where this rank speaks in its place; 0: it doesn't */

static void say(int fd, const char *line)
{
    ssize_t n = write(fd, line, strlen(line));
    (void)n;
}

static void on_end(int sig)
{
    (void)sig;
    say(STDERR_FILENO, over ? "slimscope: another rank was killed behind the end of the work: what was written is whole\n" : end_line);
    _exit(status_exit_code(ST_FAIL));
}

static void on_end_of_first(int sig)
{
    (void)sig;
    if (first && kill(first, 0) != 0)
        say(speak_fd, first_line);
    _exit(status_exit_code(ST_FAIL));
}

/* Which process is rank 0, for the first of the other ranks on its machine. */
static Status know_first(Dist *d, Error *err)
{
    char host[256] = "";
    Pack mine = {0}, *all;
    gethostname(host, sizeof host - 1);
    pack_put(&mine, host, sizeof host);
    pack_i64(&mine, getpid());
    Status st = dist_gather_all(d, &mine, &all, err);
    pack_fini(&mine);
    RETURN_IF_ERROR(st);
    char other[sizeof host];
    Unpack in = unpack_of(&all[0]);
    unpack_get(&in, host, sizeof host);
    const pid_t pid = (pid_t)unpack_i64(&in);
    int next = 0;
    for (int r = 1; r < dist_size(d) && !next; r++) {
        in = unpack_of(&all[r]);
        unpack_get(&in, other, sizeof other);
        next = strcmp(other, host) == 0 ? r : 0;
    }
    first = next && next == dist_rank(d) ? pid : 0;
    dist_packs_free(all, dist_size(d));
    return ST_OK;
}

/* Before MPI says which rank this is: whether the launcher calls it the first. */
static bool begins_first(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    rank = rank ? rank : getenv("PMIX_RANK");
    return rank && strcmp(rank, "0") == 0;
}

static Status fall_silent(Error *err)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    speak_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (null < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0)
        return error_set(err, ST_IO, "/dev/null can't be opened");
    close(null);
    return ST_OK;
}

Status ranks_begin(App *a, int argc, char **argv, Error *err)
{
    const bool early = begins_first();
    if (early)
        signal(SIGTERM, on_end); /* mpirun's, when it has lost a rank */
    RETURN_IF_ERROR(dist_open(&a->dist, dist_table, err));
    if (dist_size(a->dist) == 1 && early)
        signal(SIGTERM, SIG_DFL);
    if (dist_size(a->dist) == 1)
        return ST_OK;
    signal(SIGTERM, dist_leads(a->dist) ? on_end : on_end_of_first);
    if (!dist_leads(a->dist))
        RETURN_IF_ERROR(fall_silent(err));
    RETURN_IF_ERROR(same_program(a->dist, err));
    RETURN_IF_ERROR(same_words(a->dist, argc, argv, err));
    RETURN_IF_ERROR(know_first(a->dist, err));
    RETURN_IF_ERROR(same_functions(a->dist, err));
    RETURN_IF_ERROR(same_lapack(a->dist, err));
    return same_kernels(a->dist, err);
}

/* Ranks of one machine that were given all of its cores share them. */
static int threads_here(const Dist *d)
{
    const int mine = pool_threads_of(0), here = dist_here(d);
    if (here == 1 || mine < sysconf(_SC_NPROCESSORS_ONLN))
        return 0;
    return mine > here ? mine / here : 1;
}

static bool resumes(const Command *c)
{
    const Option *o = c->options;
    while (o && o->name && strcmp(o->name, "resume") != 0)
        o++;
    return o && o->name;
}

/* By CPU time: what else runs now will not run for ever; ranks that are more than the cores they share wait for each other. An
 * error ends the next call between ranks. */
static void tell_speed(const App *a)
{
    Pool *pool = NULL;
    const bool made = pool_new(&pool, a->options.threads, NULL) == ST_OK;
    const double cores = (double)sysconf(_SC_NPROCESSORS_ONLN), threads = made ? pool_threads(pool) * dist_here(a->dist) : 1;
    const bool waits = pool_threads_of(0) >= cores && threads > cores;
    dist_set_speed(a->dist, (made ? gemm_speed(pool) : 1) * (waits ? cores / threads : 1), NULL);
    pool_free(pool);
}

bool ranks_share(App *a, const Command *c)
{
    if (dist_size(a->dist) == 1)
        return true;
    if (c && c->flags & CMD_RANKS) {
        a->options.dist = a->dist;
        end_line = resumes(c) ? resumes_line : end_line;
        first_line = resumes(c) ? first_resumes_line : first_line;
        a->options.threads = threads_here(a->dist);
        tell_speed(a);
        return true;
    }
    if (dist_leads(a->dist) && c && c->flags & CMD_LONG)
        app_note(a, "note: '%s' is not divided over ranks: rank 0 of %d does all of it", c->name, dist_size(a->dist));
    return dist_leads(a->dist);
}

/* ---- devices ---- */

/* A list of devices over which the peer divides the texts. */
static void note_divided(App *a, const CommandLine *cl, const Device *d, const char *refused)
{
    const char *text = cl_str(cl, "device");
    const int ranks = dist_size(a->dist);
    Str also = {0};
    if (*refused)
        str_printf(&also, "; msModelSlim itself refuses %s there", refused);
    if (ranks == 1)
        app_note(a, "note: --device %s: here ranks stand for devices: 'mpirun -n %d slimscope %s ...'%s starts %d; one process "
                    "gives the same result%s", text, d->count, cl->command->name, dist_table[0] ? "" : " of a build with MPI=1",
                 d->count, str_text(&also));
    else if (ranks != d->count)
        app_note(a, "note: --device %s names %d devices, but %d ranks were started: these do the work%s", text, d->count, ranks,
                 str_text(&also));
    else
        app_note(a, "note: --device %s: %d ranks on processors stand for them%s", text, ranks, str_text(&also));
    str_free(&also);
}

Status ranks_for_devices(App *a, const CommandLine *cl, const Recipe *r, Error *err)
{
    const char *text = cl_str(cl, "device");
    Device d = {0};
    Str refused = {0};
    if (!text)
        return ST_OK;
    RETURN_IF_ERROR(device_parse(text, &d, err));
    if (r)
        recipe_undivided(r, &refused);
    const bool divides = recipe_divides(r, d.count);
    Status st = refused.oom ? error_nomem(err, "a recipe") : ST_OK;
    if (st == ST_OK && divides && refused.len && session_options(a->session)->peer)
        st = error_set(err, ST_USAGE, "--device %.80s: msModelSlim divides texts over them and refuses %.200s there: name one "
                                      "device, or leave --compat peer out", text, str_text(&refused));
    else if (st == ST_OK && divides)
        note_divided(a, cl, &d, str_text(&refused));
    else if (st == ST_OK && d.count > 1)
        app_note(a, "note: --device %s: msModelSlim takes %s of them with this recipe's runner; here the result is that of cpu",
                 text, recipe_runner(r) == RUNNER_MODEL_WISE ? "none" : "the first");
    else if (st == ST_OK && d.npu)
        app_note(a, "note: --device %s: slimscope computes on the processor, as with --device cpu", text);
    str_free(&refused);
    return st;
}

/* ---- costs ---- */

/* What each rank took, of work that was divided: a line each on rank 0's standard error. */
static void tell_costs(App *a)
{
    struct rusage u;
    Pack mine = {0}, *all = NULL;
    getrusage(RUSAGE_SELF, &u);
    pack_f64(&mine, (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec));
    pack_i64(&mine, (int64_t)mem_peak_bytes());
    pack_i64(&mine, (int64_t)dist_sent(a->dist));
    pack_i64(&mine, (int64_t)dist_got(a->dist));
    pack_i64(&mine, (int64_t)a->weights_read);
    const Status st = dist_gather(a->dist, &mine, &all, NULL);
    for (int r = 0; st == ST_OK && all && r < dist_size(a->dist); r++) {
        Unpack in = unpack_of(&all[r]);
        const double seconds = unpack_f64(&in), mib = 1.0 / 1048576, peak = (double)unpack_i64(&in) * mib;
        const double sent = (double)unpack_i64(&in) * mib, got = (double)unpack_i64(&in) * mib;
        char speed[64] = "";
        if (dist_speeds(a->dist)[r] < 1)
            snprintf(speed, sizeof speed, ", %.3g times as fast as the fastest", dist_speeds(a->dist)[r]);
        tell("rank %d: %.1f s of CPU, peak memory %.1f MiB, sent %.2f MiB, got %.2f MiB, read %.2f MiB of weights%s\n", r, seconds, peak,
             sent, got, (double)unpack_i64(&in) * mib, speed);
    }
    dist_packs_free(all, dist_size(a->dist));
    pack_fini(&mine);
}

Status ranks_end(App *a, Status st, Error *err)
{
    if (!a->dist)
        return st;
    bool heard;
    Error all = *err;
    if (st == ST_OK && a->options.dist)
        tell_costs(a);
    Status ended = dist_end(a->dist, st, &heard, &all);
    if (!heard) {
        char line[ERROR_TEXT_MAX + 60];
        int n = snprintf(line, sizeof line, "slimscope: rank %d: %s\n", dist_rank(a->dist), err->text);
        ssize_t k = dist_leads(a->dist) ? 0 : write(speak_fd, line, (size_t)n);
        (void)k;
        dist_kill(a->dist, status_exit_code(st));
    }
    if (dist_leads(a->dist) && st == ST_OK && ended != ST_OK)
        tell("slimscope: %s\n", all.text);
    const bool leads = dist_leads(a->dist);
    over = 1;
    first = 0; /* which may leave before this rank, and mpirun then ends the rest */
    dist_free(a->dist);
    a->dist = NULL;
    return leads ? ended : ST_OK; /* whose exit code mpirun gives */
}
