/* LD_PRELOAD library for tests: makes allocations of the program fail and tells how the program treats its disk.
 *   FAULT_AT=N      the N-th allocation fails (from 1)      FAULT_COUNT=F   how many there were is written to F at exit
 *   FAULT_WHERE=F   the calls that led to each failure are appended to F
 *   FAULT_LIBS=1    counts what the libraries that parse for the program ask for, too (most is cJSON's)
 *   SYNC_SKIP=1     fsync and fdatasync do nothing
 *   SYNC_MS=N       fsync and fdatasync take N ms longer    SYNC_LOG=F      one line to F for each of them and for each
 *                                                           write to a journal: what, thread, main or other, path
 * Counted is what the program asks for, by the place a call returns to: what the C library, the loader, OpenBLAS and
 * threads take for themselves differs from run to run, so failure N would be another one each time. A call that
 * allocates inside the C library for the program (strdup, opendir, ...) counts as one. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CALLER __builtin_return_address(0)
enum { RANGES = 32, DEPTH = 24 };

static const char *const parsers[] = {"libcjson", "libyaml", "libpcre2", "libutf8proc", NULL};
static struct { uintptr_t begin, end; } range[RANGES];
static int ranges;
static atomic_long count;
static long fail_at, sync_ms;
static const char *count_file, *where_file, *sync_file;

static bool counted_object(const char *name)
{
    if (!*name)
        return true; /* the program itself */
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    for (int i = 0; getenv("FAULT_LIBS") && parsers[i]; i++)
        if (strncmp(base, parsers[i], strlen(parsers[i])) == 0)
            return true;
    return false;
}

static int add_ranges(struct dl_phdr_info *o, size_t size, void *ctx)
{
    (void)size, (void)ctx;
    for (int i = 0; counted_object(o->dlpi_name) && i < o->dlpi_phnum && ranges < RANGES; i++)
        if (o->dlpi_phdr[i].p_type == PT_LOAD && o->dlpi_phdr[i].p_flags & PF_X) {
            range[ranges].begin = o->dlpi_addr + o->dlpi_phdr[i].p_vaddr;
            range[ranges].end = range[ranges].begin + o->dlpi_phdr[i].p_memsz;
            ranges++;
        }
    return 0;
}

static long number(const char *name)
{
    const char *s = getenv(name);
    return s ? atol(s) : 0;
}

__attribute__((constructor)) static void begin(void)
{
    fail_at = number("FAULT_AT");
    sync_ms = number("SYNC_MS");
    count_file = getenv("FAULT_COUNT");
    where_file = getenv("FAULT_WHERE");
    sync_file = getenv("SYNC_LOG");
    dl_iterate_phdr(add_ranges, NULL);
    void *warm[2];
    if (where_file)
        backtrace(warm, 2); /* loads what it needs now, not at the failure */
}

static void append(const char *path, const char *text, size_t n)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    syscall(SYS_write, fd, text, n);
    close(fd);
}

__attribute__((destructor)) static void end(void)
{
    char text[32];
    if (count_file)
        append(count_file, text, (size_t)snprintf(text, sizeof text, "%ld\n", atomic_load(&count)));
}

static void tell_where(long n)
{
    void *at[DEPTH];
    char text[32];
    append(where_file, text, (size_t)snprintf(text, sizeof text, "failure at %ld\n", n));
    int fd = open(where_file, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0)
        return;
    backtrace_symbols_fd(at, backtrace(at, DEPTH), fd);
    close(fd);
}

/* Counts a call that returns to `to`; true when it has to fail. */
static bool fails(void *to)
{
    bool ours = false;
    for (int i = 0; i < ranges && !ours; i++)
        ours = (uintptr_t)to >= range[i].begin && (uintptr_t)to < range[i].end;
    if (!ours)
        return false;
    long n = atomic_fetch_add(&count, 1) + 1;
    if (n != fail_at)
        return false;
    if (where_file)
        tell_where(n);
    errno = ENOMEM;
    return true;
}

/* ---- what the program calls ---- */

typedef void *Malloc(size_t), *Calloc(size_t, size_t), *Realloc(void *, size_t), *Aligned(size_t, size_t);
typedef char *Strdup(const char *), *Strndup(const char *, size_t), *Realpath(const char *, char *);
typedef DIR *Opendir(const char *);
typedef FILE *Fopen(const char *, const char *);
typedef ssize_t Getline(char **, size_t *, FILE *);
typedef int Create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
typedef int Sync(int);
typedef ssize_t Write(int, const void *, size_t), Pwrite(int, const void *, size_t, off_t);

static struct {
    Malloc *malloc;
    Calloc *calloc;
    Realloc *realloc;
    Aligned *aligned_alloc;
    Strdup *strdup;
    Strndup *strndup;
    Realpath *realpath;
    Opendir *opendir;
    Fopen *fopen;
    Getline *getline;
    Create *pthread_create;
    Sync *fsync, *fdatasync;
    Write *write;
    Pwrite *pwrite;
} real;

/* Finds the functions behind this library's; the first allocation of the process comes before there are threads. */
static void find_real(void)
{
    static const struct {
        const char *name;
        void *at;
    } names[] = {{"calloc", &real.calloc}, {"realloc", &real.realloc}, {"aligned_alloc", &real.aligned_alloc},
                 {"strdup", &real.strdup}, {"strndup", &real.strndup}, {"realpath", &real.realpath},
                 {"opendir", &real.opendir}, {"fopen", &real.fopen}, {"getline", &real.getline},
                 {"pthread_create", &real.pthread_create}, {"fsync", &real.fsync}, {"fdatasync", &real.fdatasync},
                 {"write", &real.write}, {"pwrite", &real.pwrite}, {"malloc", &real.malloc}};
    static bool looking;
    if (looking)
        return; /* the look-up itself wants memory: it can do without */
    looking = true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *f = dlsym(RTLD_NEXT, names[i].name);
        memcpy(names[i].at, &f, sizeof f);
    }
    looking = false;
}

static bool ready(void)
{
    if (!real.malloc)
        find_real();
    return real.malloc;
}

void *malloc(size_t n)
{
    return ready() && !fails(CALLER) ? real.malloc(n) : NULL;
}

void *calloc(size_t n, size_t size)
{
    return ready() && !fails(CALLER) ? real.calloc(n, size) : NULL;
}

void *realloc(void *p, size_t n)
{
    return ready() && !fails(CALLER) ? real.realloc(p, n) : NULL;
}

void *aligned_alloc(size_t align, size_t n)
{
    return ready() && !fails(CALLER) ? real.aligned_alloc(align, n) : NULL;
}

char *strdup(const char *s)
{
    return ready() && !fails(CALLER) ? real.strdup(s) : NULL;
}

char *strndup(const char *s, size_t n)
{
    return ready() && !fails(CALLER) ? real.strndup(s, n) : NULL;
}

char *realpath(const char *path, char *out)
{
    return ready() && (out || !fails(CALLER)) ? real.realpath(path, out) : NULL;
}

DIR *opendir(const char *path)
{
    return ready() && !fails(CALLER) ? real.opendir(path) : NULL;
}

FILE *fopen(const char *path, const char *mode)
{
    return ready() && !fails(CALLER) ? real.fopen(path, mode) : NULL;
}

ssize_t getline(char **line, size_t *n, FILE *f)
{
    return ready() && !fails(CALLER) ? real.getline(line, n, f) : -1;
}

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    return ready() && !fails(CALLER) ? real.pthread_create(t, attr, run, arg) : EAGAIN;
}

/* ---- the disk ---- */

/* "WHAT TID main|other PATH N" for a descriptor; `only` is a word its path must hold, or NULL. */
static void tell_disk(const char *what, int fd, const char *only, size_t n)
{
    char link[64], path[1024], text[1200];
    if (!sync_file)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    path[len > 0 ? len : 0] = 0;
    if (only && !strstr(path, only))
        return;
    long tid = syscall(SYS_gettid);
    int k = snprintf(text, sizeof text, "%s %ld %s %s %zu\n", what, tid, tid == getpid() ? "main" : "other", path, n);
    append(sync_file, text, (size_t)k);
}

static int slow_sync(const char *what, Sync *sync, int fd)
{
    tell_disk(what, fd, NULL, 0);
    struct timespec t = {sync_ms / 1000, sync_ms % 1000 * 1000000};
    while (sync_ms && nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
    return getenv("SYNC_SKIP") ? 0 : sync(fd);
}

int fsync(int fd)
{
    return ready() ? slow_sync("fsync", real.fsync, fd) : -1;
}

int fdatasync(int fd)
{
    return ready() ? slow_sync("fdatasync", real.fdatasync, fd) : -1;
}

ssize_t write(int fd, const void *p, size_t n)
{
    if (!ready())
        return -1;
    tell_disk("write", fd, "journal", n);
    return real.write(fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    if (!ready())
        return -1;
    tell_disk("pwrite", fd, "journal", n);
    return real.pwrite(fd, p, n, at);
}
