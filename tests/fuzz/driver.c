/* Runs the targets. usage: run_fuzz [--runs N] [--seed S] [TARGET|FILE...], --names, or --corpus TARGET FOLDER
 * Without names every target gets its regressions and N changed seeds, in a process of its own; TAP on stdout. A FILE (below
 * a folder of its target's name, or TARGET.what.ever) is run once. What a process died of stays in $TMPDIR as fuzz.TARGET.
 * Built with libFuzzer (`make fuzz`) the target is $FUZZ. */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rng.h"
#include "base/str.h"

static const FuzzTarget *const targets[] = {
    &fuzz_safetensors, &fuzz_index, &fuzz_json,   &fuzz_config,  &fuzz_tokenizer, &fuzz_encode, &fuzz_fallback, &fuzz_calib,
    &fuzz_regex,       &fuzz_yaml,  &fuzz_recipe, &fuzz_convert, &fuzz_pattern, &fuzz_lexer,     &fuzz_theme,  &fuzz_rc,       &fuzz_journal,
    &fuzz_scores,      &fuzz_wire,  &fuzz_plan,  &fuzz_answers, &fuzz_questions,
    NULL,
};
enum { INPUT_MAX = 1 << 18, SEEDS_MAX = 256, CPU_SECONDS = 20 };

/* ---- for the targets ---- */

void fuzz_bad(const char *what, const char *detail)
{
    fprintf(stderr, "must not be: %s: %s\n", what, detail);
    abort();
}

void fuzz_error(Status st, const Error *err)
{
    if (st == ST_OK)
        return;
    char text[ERROR_TEXT_MAX];
    size_t n = strlen(err->text);
    memcpy(text, err->text, n + 1);
    if (st == ST_INTERNAL || n == 0)
        fuzz_bad(n ? "an internal error" : "an error without a text", err->text);
    if (text_fit_terminal(text, n, false) != n || memcmp(text, err->text, n) != 0)
        fuzz_bad("a text that a terminal obeys", err->text);
}

static char folder[128];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
    (void)st, (void)flag, (void)f;
    return remove(path);
}

static void remove_folder(void)
{
    if (folder[0])
        nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *tmpdir(void)
{
    const char *t = getenv("TMPDIR");
    return t && *t ? t : "/tmp";
}

const char *fuzz_path(const char *name)
{
    static char path[4][256];
    static int at;
    if (!folder[0]) {
        snprintf(folder, sizeof folder, "%.80s/slimscope-fuzz.%d", tmpdir(), (int)getpid());
        if (mkdir(folder, 0700) != 0)
            fuzz_bad("no folder", folder);
        atexit(remove_folder);
    }
    at = (at + 1) % 4;
    snprintf(path[at], sizeof path[at], "%s/%s", folder, name);
    return path[at];
}

void fuzz_put(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(fuzz_path(name), "wb");
    if (!f || (n && fwrite(bytes, 1, n, f) != n) || fclose(f) != 0)
        fuzz_bad("cannot write", name);
}

char *fuzz_text(const uint8_t *data, size_t n)
{
    if (memchr(data, 0, n))
        return NULL;
    char *s = malloc(n + 1);
    if (!s)
        fuzz_bad("memory", "");
    memcpy(s, data, n);
    s[n] = '\0';
    return s;
}

/* ---- changing seeds ---- */

typedef struct Bytes {
    uint8_t *at;
    size_t n;
} Bytes;

/* The input that is being run, where the parent sees it. */
typedef struct Shared {
    size_t n;
    uint64_t run;
    uint8_t at[INPUT_MAX];
} Shared;

static size_t below(Rng *r, size_t n)
{
    return n ? (size_t)rng_below(r, n) : 0;
}

static void put_range(Shared *s, size_t at, const void *bytes, size_t n)
{
    if (n > INPUT_MAX - s->n)
        return;
    memmove(s->at + at + n, s->at + at, s->n - at);
    memcpy(s->at + at, bytes, n);
    s->n += n;
}

static void cut_range(Shared *s, size_t at, size_t n)
{
    n = n < s->n - at ? n : s->n - at;
    memmove(s->at + at, s->at + at + n, s->n - at - n);
    s->n -= n;
}

static void put_number(Shared *s, size_t at, Rng *r)
{
    static const char *const number[] = {"0",     "-1",         "1e999", "9223372036854775807", "18446744073709551616", "65536",
                                         "1e-40", "4294967295", "NaN",   "0.5",                 "3",                    "-0"};
    const char *v = number[below(r, sizeof number / sizeof *number)];
    size_t end = at;
    while (end < s->n && !(s->at[end] >= '0' && s->at[end] <= '9')) /* the next number that is there */
        end++;
    at = end < s->n ? end : at;
    end = at;
    while (at > 0 && s->at[at - 1] >= '0' && s->at[at - 1] <= '9')
        at--;
    while (end < s->n && s->at[end] >= '0' && s->at[end] <= '9')
        end++;
    cut_range(s, at, end - at);
    put_range(s, at, v, strlen(v));
}

static void change(Shared *s, const FuzzTarget *t, const Bytes *seeds, int nseeds, Rng *r)
{
    static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, '"', '{', '[', '\n', '\\', '*', '\'', 0xc2, 0xe2, 0xf0, 0x1b};
    size_t at = below(r, s->n + 1), len = 1 + below(r, below(r, 2) ? 4 : 64);
    uint8_t part[64];
    switch (below(r, 8)) {
    case 0:
        if (at < s->n)
            s->at[at] ^= (uint8_t)(1u << below(r, 8));
        break;
    case 1:
        if (at < s->n)
            s->at[at] = odd[below(r, sizeof odd)];
        break;
    case 2: cut_range(s, at, len); break;
    case 3:
        len = len < s->n - at ? len : s->n - at;
        memcpy(part, s->at + at, len);
        put_range(s, below(r, s->n + 1), part, len);
        break;
    case 4: {
        int words = 0;
        while (t->words && t->words[words])
            words++;
        const char *w = words ? t->words[below(r, (size_t)words)] : "\"";
        put_range(s, at, w, strlen(w));
        break;
    }
    case 5: put_number(s, at, r); break;
    case 6: {
        const Bytes *other = &seeds[below(r, (size_t)nseeds)];
        size_t from = below(r, other->n + 1), n = below(r, 512);
        put_range(s, at, other->at + from, n < other->n - from ? n : other->n - from);
        break;
    }
    default:
        if (below(r, 8) == 0)
            s->n = at;
        else if (at < s->n)
            put_range(s, at, odd + below(r, sizeof odd), 1);
    }
}

static Bytes read_seed(const char *path, size_t take)
{
    Bytes b = {0};
    FILE *f = fopen(path, "rb");
    size_t most = take && take < INPUT_MAX / 2 ? take : INPUT_MAX / 2;
    b.at = malloc(most + 1);
    if (!f || !b.at)
        fuzz_bad("no seed", path);
    b.n = fread(b.at, 1, most, f);
    fclose(f);
    return b;
}

static int read_seeds(const FuzzTarget *t, Bytes *seeds)
{
    int n = 0;
    for (int g = 0; t->seeds[g]; g++) {
        glob_t found;
        if (glob(t->seeds[g], 0, NULL, &found) != 0)
            fuzz_bad("no seeds", t->seeds[g]);
        for (size_t i = 0; i < found.gl_pathc && n < SEEDS_MAX; i++)
            seeds[n++] = read_seed(found.gl_pathv[i], t->take);
        globfree(&found);
    }
    return n;
}

static void run_input(const FuzzTarget *t, const uint8_t *at, size_t n)
{
    struct itimerval limit = {.it_value = {.tv_sec = CPU_SECONDS}};
    setitimer(ITIMER_PROF, &limit, NULL); /* SIGPROF ends the process */
    if (n) {
        uint8_t *copy = malloc(n); /* its end is the sanitizer's */
        if (!copy)
            fuzz_bad("memory", "");
        memcpy(copy, at + 1, n - 1);
        t->run(at[0], copy, n - 1);
        free(copy);
    }
}

static void run_seeds(const FuzzTarget *t, uint64_t runs, uint64_t seed, Shared *s)
{
    static Bytes seeds[SEEDS_MAX];
    int n = read_seeds(t, seeds);
    Rng rng = rng_new(seed);
    for (s->run = 0; s->run < runs; s->run++) {
        const Bytes *b = &seeds[s->run < (uint64_t)n ? s->run : below(&rng, (size_t)n)];
        s->at[0] = (uint8_t)rng_next(&rng);
        memcpy(s->at + 1, b->at, b->n);
        s->n = b->n + 1;
        for (size_t k = s->run < (uint64_t)n ? 0 : 1 + below(&rng, below(&rng, 4) ? 3 : 12); k > 0; k--)
            change(s, t, seeds, n, &rng);
        run_input(t, s->at, s->n);
    }
    for (int i = 0; i < n; i++)
        free(seeds[i].at);
}

/* ---- regressions: files named TARGET.what ---- */

static void run_file(const FuzzTarget *t, const char *path, Shared *s)
{
    Bytes b = read_seed(path, 0);
    memcpy(s->at, b.at, b.n);
    s->n = b.n;
    free(b.at);
    run_input(t, s->at, s->n);
}

static void run_regressions(const FuzzTarget *t, Shared *s)
{
    char pattern[128];
    glob_t found;
    snprintf(pattern, sizeof pattern, "tests/fuzz/regress/%s.*", t->name);
    if (glob(pattern, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        run_file(t, found.gl_pathv[i], s);
    globfree(&found);
}

/* Seeds as files of a folder, each in the first four variants: what libFuzzer begins with. */
static void write_corpus(const FuzzTarget *t, const char *out)
{
    static Bytes seeds[SEEDS_MAX];
    int n = read_seeds(t, seeds);
    for (int i = 0; i < 4 * n; i++) {
        char path[300];
        snprintf(path, sizeof path, "%.200s/seed%03d.%d", out, i / 4, i % 4);
        FILE *f = fopen(path, "wb");
        if (!f || fputc(i % 4, f) == EOF || fwrite(seeds[i / 4].at, 1, seeds[i / 4].n, f) != seeds[i / 4].n || fclose(f) != 0)
            fuzz_bad("cannot write", path);
    }
    for (int i = 0; i < n; i++)
        free(seeds[i].at);
}

/* ---- the program ---- */

static void keep(const FuzzTarget *t, const Shared *s)
{
    char path[256];
    snprintf(path, sizeof path, "%.100s/fuzz.%s", tmpdir(), t->name);
    FILE *f = fopen(path, "wb");
    if (f && fwrite(s->at, 1, s->n, f) == s->n)
        printf("# the input, %zu bytes, run %llu: %s\n", s->n, (unsigned long long)s->run, path);
    if (f)
        fclose(f);
}

/* Everything of one target in a process of its own; whether it lived. */
static bool try_target(const FuzzTarget *t, uint64_t runs, uint64_t seed, Shared *s)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        run_regressions(t, s);
        run_seeds(t, runs, seed, s);
        exit(0);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        fuzz_bad("no process", t->name);
    if (status)
        keep(t, s);
    return status == 0;
}

static const FuzzTarget *find_target(const char *name)
{
    for (int i = 0; targets[i]; i++)
        if (strcmp(targets[i]->name, name) == 0)
            return targets[i];
    return NULL;
}

/* Of a regression's file name. */
static const FuzzTarget *target_of_file(const char *path)
{
    const char *base = strrchr(path, '/');
    char name[64];
    snprintf(name, sizeof name, "%s", base ? base + 1 : path);
    char *skip = strncmp(name, "fuzz.", 5) == 0 ? name + 5 : name;
    skip[strcspn(skip, ".")] = '\0';
    return find_target(skip);
}

#ifndef FUZZ_LIBFUZZER
int main(int argc, char **argv)
{
    uint64_t runs = 2000, seed = 1;
    const FuzzTarget *wanted[sizeof targets / sizeof *targets] = {NULL};
    int n = 0, bad = 0, done = 0;
    Shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED)
        return 2;
    for (int i = 1; i < argc; i++) {
        const FuzzTarget *t = find_target(argv[i]);
        if (strcmp(argv[i], "--names") == 0) {
            for (int k = 0; targets[k]; k++)
                puts(targets[k]->name);
            return 0;
        }
        if (strcmp(argv[i], "--corpus") == 0 && i + 2 < argc && find_target(argv[i + 1]))
            return write_corpus(find_target(argv[i + 1]), argv[i + 2]), 0;
        if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            runs = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else if (t && n < (int)(sizeof targets / sizeof *targets))
            wanted[n++] = t;
        else if ((t = target_of_file(argv[i])) != NULL)
            run_file(t, argv[i], s);
        else
            return fprintf(stderr, "run_fuzz: '%s' is no target and no file of one\n", argv[i]), 2;
    }
    if (n == 0 && argc > 1 && target_of_file(argv[argc - 1]) && !find_target(argv[argc - 1]))
        return 0;
    for (const FuzzTarget *const *t = n ? wanted : targets; *t; t++) {
        bool lived = try_target(*t, runs, seed, s);
        printf("%sok %d - fuzz %s, %llu runs\n", lived ? "" : "not ", ++done, (*t)->name, (unsigned long long)runs);
        bad += !lived;
    }
    printf("1..%d\n", done);
    return bad != 0;
}
#else
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const FuzzTarget *t;
    if (!t && !(t = find_target(getenv("FUZZ") ? getenv("FUZZ") : "")))
        fuzz_bad("no such target", "set FUZZ");
    if (n)
        t->run(data[0], data + 1, n - 1);
    return 0;
}
#endif
