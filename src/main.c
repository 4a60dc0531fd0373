/* The program: one command line is one command. */
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "io/file.h"
#include "math/cpu.h"
#include "src/commands.h"
#include "src/internal.h"
#include "text/lexer.h"
#include "ui/ui.h"

/* What the command line names: a command, or the workbench with a model. */
static Status choose(App *a, int argc, char **argv, int *skip, Error *err)
{
    const Command *c = argc > 1 ? command_find(argv[1]) : NULL;
    *skip = 1;
    if (argc > 1 &&
        (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        argv[1] += argv[1][1] == '-' ? 2 : 0;
        static char help[] = "help", version[] = "version";
        if (argv[1][0] == '-')
            argv[1] = argv[1][1] == 'V' ? version : help;
        return ST_OK;
    }
    if (c && (c->flags & (CMD_CLI | CMD_CLI_ONLY)))
        return ST_OK;
    if (c && !dir_exists(argv[1]))
        return error_set(
            err, ST_USAGE,
            "'%s' works on an open model: use it in 'slimscope MODEL', 'slimscope shell MODEL' or a script", c->name);
    if (argc > 1 && argv[1][0] != '-' && access(argv[1], F_OK) != 0) {
        if (strchr(argv[1], '/'))
            return error_set(err, ST_DATA, "'%s': no such model folder", argv[1]);
        return unknown_command(argv[1], true, err);
    }
    a->implicit = true;
    *skip = 0;
    return ST_OK;
}

/* What was typed, for those that attach to it. */
static Status take_words(App *a, int argc, char **argv, Error *err)
{
    Str b = {0};
    for (int i = 1; i < argc; i++) {
        str_puts(&b, i > 1 ? " " : "");
        lexer_quote(&b, argv[i]);
    }
    a->words = argc > 1 ? str_detach(&b) : NULL;
    a->options.words = a->words;
    return argc < 2 || a->words ? ST_OK : error_nomem(err, "the command line");
}

static Status run(App *a, int argc, char **argv, Error *err)
{
    int skip;
    static char workbench[] = "workbench";
    RETURN_IF_ERROR(ranks_begin(a, argc, argv, err));
    RETURN_IF_ERROR(math_check(err));
    RETURN_IF_ERROR(choose(a, argc, argv, &skip, err));
    if (!skip)
        argv[0] = workbench; /* slimscope [MODEL] [options] */
    RETURN_IF_ERROR(take_words(a, argc, argv, err));
    if (!ranks_share(a, command_find(argv[skip])))
        return ST_OK;
    return app_execute_words(a, argc - skip, argv + skip, err);
}

/* Large blocks go back to the system when they are let go, instead of staying in a heap that nobody planned. */
static void keep_heap_small(void)
{
    enum { LARGE = 256 << 10 };
    mallopt(M_MMAP_THRESHOLD, LARGE);
    mallopt(M_TRIM_THRESHOLD, LARGE);
}

/* LeakSanitizer's, in builds that have it. */
extern void __lsan_do_leak_check(void) __attribute__((weak));

/* Ends without the destructors of libraries: where the address space is short, OpenBLAS's waits for threads that it started
 * when it was loaded and that ask for memory for ever. */
static _Noreturn void leave(int code)
{
    if (__lsan_do_leak_check)
        __lsan_do_leak_check();
    fflush(stderr);
    _exit(code);
}

/* OpenBLAS starts threads of its own when it is loaded, and each takes a buffer. Where the address space is limited they
 * would take what the pool needs, so the program begins once more without them. */
static void without_foreign_threads(char **argv)
{
    static const char variable[] = "OPENBLAS_NUM_THREADS";
    struct rlimit room;
    if (getrlimit(RLIMIT_AS, &room) == 0 && room.rlim_cur != RLIM_INFINITY && !getenv(variable) &&
        setenv(variable, "1", 1) == 0)
        execv("/proc/self/exe", argv); /* if it fails, go on */
}

int main(int argc, char **argv)
{
    without_foreign_threads(argv);
    keep_heap_small();
    setlocale(LC_CTYPE, ""); /* for the terminal and the prompt; nothing else depends on a locale */
    signal(SIGPIPE, SIG_IGN); /* a closed pipe and a full file are write errors with a message, not deaths */
    signal(SIGXFSZ, SIG_IGN);
    interrupt_init();
    App app;
    Error err = {0};
    Status st = app_init(&app, FACE_CLI, &err);
    app.screen = &ui_face;
    if (st == ST_OK)
        st = run(&app, argc, argv, &err);
    if (st != ST_OK)
        tell("slimscope: %s\n", err.text);
    Status closed = app_close(&app, &err);
    if (closed != ST_OK)
        tell("slimscope: %s\n", err.text);
    if (st == ST_OK)
        st = closed;
    if (!output_flush()) {
        tell("slimscope: standard output: %s\n", output_fault());
        if (st == ST_OK)
            st = ST_IO;
    }
    st = ranks_end(&app, st, &err);
    app_fini(&app);
    leave(status_exit_code(st));
}
