/* LD_PRELOAD library for tests: makes allocations and calls for files of the program fail, or kills it before one, and
 * tells how the program treats its disk.
 *   FAULT_AT=N      the N-th allocation fails (from 1)      FAULT_COUNT=F   how many there were is written to F at exit
 *   FAULT_WHERE=F   the calls that led to each failure are appended to F
 *   FAULT_LIBS=1    counts what the libraries that parse for the program ask for, too (most is cJSON's)
 *   SYNC_SKIP=1     fsync and fdatasync do nothing
 *   SYNC_MS=N       fsync and fdatasync take N ms longer    SYNC_LOG=F      one line to F for each of them and for each
 *                                                           write to a journal: what, thread, main or other, path
 *   DISK_OP=O, DISK_AT=N    the N-th call O (a name of disk_names, from 1) fails; with DISK_ON=1 all from it on
 *   DISK_HOW=H              how: an errno's name, "short" (half the bytes), "end" (0 bytes), "kill" (SIGKILL before it)
 *   DISK_COUNT=F            a line "O N" for each kind of call to F at exit
 * Calls on standard streams, pipes, /proc, /sys and /dev don't count, nor do those of libraries.
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
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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


enum Disk { D_READ, D_PREAD, D_WRITE, D_PWRITE, D_FSYNC, D_FDATASYNC, D_RENAME, D_OPEN, D_CLOSE, D_FTRUNCATE, D_FALLOCATE,
            D_UNLINK, D_MKDIR, D_FSTAT, DISKS };
static const char *const disk_names[DISKS] = {"read", "pread", "write", "pwrite", "fsync", "fdatasync", "rename", "open",
                                              "close", "ftruncate", "fallocate", "unlink", "mkdir", "fstat"};
static atomic_long disk_count[DISKS];
static int disk_op = -1, disk_errno;
static long disk_at;
static bool disk_on;
static enum { AS_ERRNO, AS_SHORT, AS_END, AS_KILL } disk_how;
static const char *disk_file;

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

static void read_disk(void)
{
    static const struct {
        const char *name;
        int how, code;
    } hows[] = {{"EIO", AS_ERRNO, EIO}, {"ENOSPC", AS_ERRNO, ENOSPC}, {"EINTR", AS_ERRNO, EINTR}, {"EACCES", AS_ERRNO, EACCES},
                {"EMFILE", AS_ERRNO, EMFILE}, {"short", AS_SHORT, 0}, {"end", AS_END, 0}, {"kill", AS_KILL, 0}};
    const char *op = getenv("DISK_OP"), *how = getenv("DISK_HOW");
    for (int i = 0; op && i < DISKS; i++)
        if (strcmp(op, disk_names[i]) == 0)
            disk_op = i;
    for (size_t i = 0; how && i < sizeof hows / sizeof *hows; i++)
        if (strcmp(how, hows[i].name) == 0) {
            disk_how = hows[i].how;
            disk_errno = hows[i].code;
        }
    disk_at = number("DISK_AT");
    disk_on = number("DISK_ON") != 0;
    disk_file = getenv("DISK_COUNT");
}

__attribute__((constructor)) static void begin(void)
{
    read_disk();
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

static void tell_counts(void)
{
    char text[32];
    if (count_file)
        append(count_file, text, (size_t)snprintf(text, sizeof text, "%ld\n", atomic_load(&count)));
    for (int i = 0; disk_file && i < DISKS; i++)
        append(disk_file, text,
               (size_t)snprintf(text, sizeof text, "%s %ld\n", disk_names[i], atomic_load(&disk_count[i])));
}

/* The program ends without destructors. */
__attribute__((noreturn)) void _exit(int code)
{
    tell_counts();
    for (;;)
        syscall(SYS_exit_group, code);
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

static bool is_ours(void *to)
{
    bool ours = false;
    for (int i = 0; i < ranges && !ours; i++)
        ours = (uintptr_t)to >= range[i].begin && (uintptr_t)to < range[i].end;
    return ours;
}

/* Counts a call that returns to `to`; true when it has to fail. */
static bool fails(void *to)
{
    if (!is_ours(to))
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
typedef ssize_t Read(int, void *, size_t), Pread(int, void *, size_t, off_t);
typedef int Rename(const char *, const char *), Renameat(int, const char *, int, const char *), Open(const char *, int, ...);
typedef int Openat(int, const char *, int, ...), Close(int), Ftruncate(int, off_t), Fallocate(int, int, off_t, off_t);
typedef int Unlink(const char *), Unlinkat(int, const char *, int), Mkdir(const char *, mode_t);
typedef int Mkdirat(int, const char *, mode_t), Fstat(int, struct stat *);

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
    Read *read;
    Pread *pread;
    Rename *rename;
    Renameat *renameat;
    Open *open;
    Openat *openat;
    Close *close;
    Ftruncate *ftruncate;
    Fallocate *fallocate;
    Unlink *unlink;
    Unlinkat *unlinkat;
    Mkdir *mkdir;
    Mkdirat *mkdirat;
    Fstat *fstat;
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
                 {"write", &real.write}, {"pwrite", &real.pwrite}, {"read", &real.read}, {"pread", &real.pread}, {"rename", &real.rename},
                 {"renameat", &real.renameat}, {"open", &real.open}, {"openat", &real.openat}, {"close", &real.close},
                 {"ftruncate", &real.ftruncate}, {"fallocate", &real.fallocate}, {"unlink", &real.unlink},
                 {"unlinkat", &real.unlinkat}, {"mkdir", &real.mkdir}, {"mkdirat", &real.mkdirat}, {"fstat", &real.fstat},
                 {"malloc", &real.malloc}};
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

/* Whether what is behind `fd`, or called `path`, is a file or folder that counts. */
static bool is_disk(int fd, const char *path)
{
    char link[64], buf[1024];
    if (!path) {
        if (fd <= 2)
            return false;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, buf, sizeof buf - 1);
        buf[n > 0 ? n : 0] = 0;
        path = buf;
        if (buf[0] != '/')
            return false; /* a pipe, an eventfd, a socket */
    }
    static const char *const out[] = {"/proc", "/sys", "/dev/null", "/dev/tty", "/dev/pts"};
    for (size_t i = 0; i < sizeof out / sizeof *out; i++)
        if (strncmp(path, out[i], strlen(out[i])) == 0)
            return false;
    return true;
}

/* Counts a call; true when it has to go wrong (errno is set), which for "short" and "end" is the caller's to do. */
static bool goes_wrong(enum Disk op, void *to, int fd, const char *path)
{
    if (!disk_file && disk_op < 0)
        return false;
    int keep = errno;
    bool counts = is_ours(to) && is_disk(fd, path);
    errno = keep;
    if (!counts)
        return false;
    long n = atomic_fetch_add(&disk_count[op], 1) + 1;
    if ((int)op != disk_op || (disk_on ? n < disk_at : n != disk_at))
        return false;
    if (disk_how == AS_KILL)
        kill(getpid(), SIGKILL);
    errno = disk_errno;
    return true;
}

static size_t cut(size_t n)
{
    return disk_how == AS_END ? 0 : n > 1 ? n / 2 : n;
}

int fsync(int fd)
{
    return ready() && !goes_wrong(D_FSYNC, CALLER, fd, NULL) ? slow_sync("fsync", real.fsync, fd) : -1;
}

int fdatasync(int fd)
{
    return ready() && !goes_wrong(D_FDATASYNC, CALLER, fd, NULL) ? slow_sync("fdatasync", real.fdatasync, fd) : -1;
}

ssize_t write(int fd, const void *p, size_t n)
{
    if (!ready())
        return -1;
    tell_disk("write", fd, "journal", n);
    if (goes_wrong(D_WRITE, CALLER, fd, NULL)) {
        if (disk_how == AS_ERRNO)
            return -1;
        n = cut(n);
    }
    return real.write(fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    if (!ready())
        return -1;
    tell_disk("pwrite", fd, "journal", n);
    if (goes_wrong(D_PWRITE, CALLER, fd, NULL)) {
        if (disk_how == AS_ERRNO)
            return -1;
        n = cut(n);
    }
    return real.pwrite(fd, p, n, at);
}

ssize_t read(int fd, void *p, size_t n)
{
    if (!ready())
        return -1;
    if (goes_wrong(D_READ, CALLER, fd, NULL)) {
        if (disk_how == AS_ERRNO)
            return -1;
        n = cut(n);
    }
    return real.read(fd, p, n);
}

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    if (!ready())
        return -1;
    if (goes_wrong(D_PREAD, CALLER, fd, NULL)) {
        if (disk_how == AS_ERRNO)
            return -1;
        n = cut(n);
    }
    return real.pread(fd, p, n, at);
}

int rename(const char *from, const char *to)
{
    return ready() && !goes_wrong(D_RENAME, CALLER, -1, to) ? real.rename(from, to) : -1;
}

int renameat(int a, const char *from, int b, const char *to)
{
    return ready() && !goes_wrong(D_RENAME, CALLER, -1, to) ? real.renameat(a, from, b, to) : -1;
}

static mode_t mode_of(int flags, va_list ap)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return ready() && !goes_wrong(D_OPEN, CALLER, -1, path) ? real.open(path, flags, mode) : -1;
}

int openat(int dir, const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return ready() && !goes_wrong(D_OPEN, CALLER, -1, path) ? real.openat(dir, path, flags, mode) : -1;
}

int close(int fd)
{
    if (!ready())
        return -1;
    bool bad = goes_wrong(D_CLOSE, CALLER, fd, NULL);
    int code = errno, r = real.close(fd); /* as the kernel does: the descriptor is gone */
    errno = bad ? code : errno;
    return bad ? -1 : r;
}

int ftruncate(int fd, off_t n)
{
    return ready() && !goes_wrong(D_FTRUNCATE, CALLER, fd, NULL) ? real.ftruncate(fd, n) : -1;
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
    return ready() && !goes_wrong(D_FALLOCATE, CALLER, fd, NULL) ? real.fallocate(fd, mode, at, n) : -1;
}

int unlink(const char *path)
{
    return ready() && !goes_wrong(D_UNLINK, CALLER, -1, path) ? real.unlink(path) : -1;
}

int unlinkat(int dir, const char *path, int flags)
{
    return ready() && !goes_wrong(D_UNLINK, CALLER, -1, path) ? real.unlinkat(dir, path, flags) : -1;
}

int mkdir(const char *path, mode_t mode)
{
    return ready() && !goes_wrong(D_MKDIR, CALLER, -1, path) ? real.mkdir(path, mode) : -1;
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    return ready() && !goes_wrong(D_MKDIR, CALLER, -1, path) ? real.mkdirat(dir, path, mode) : -1;
}

int fstat(int fd, struct stat *st)
{
    return ready() && !goes_wrong(D_FSTAT, CALLER, fd, NULL) ? real.fstat(fd, st) : -1;
}
