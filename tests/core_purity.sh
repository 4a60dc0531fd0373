#!/bin/sh
# Fails when an object of core/ refers to a terminal, stdio output, exit, depends on the locale, or keeps writable data.
bad=$(nm -A -u "$@" | grep -wE 'printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|fputc|putc|fwrite|fopen|freopen|fdopen|fflush|perror|stdout|stderr|stdin|exit|_exit|abort|quick_exit|initscr|newterm|stdscr|readline|add_history|__printf_chk|__fprintf_chk|__vfprintf_chk')
# .data.rel.ro is constant data that holds addresses (tables of strings or functions): written by the loader only
data=$(nm -A -f sysv "$@" | grep -E '\| +[BbDdC] +\|' | grep -vE '\.data\.rel\.ro|__asan|__ubsan|\.LUBSAN|_sub_|__odr_asan|\.Lubsan|\.LASAN')
case "$SAN" in 1 | thread | fuzzer) data= ;; esac
# what depends on the locale: base/ascii.h has it for ASCII
locale=$(nm -A -u "$@" | grep -wE '__ctype_b_loc|__ctype_tolower_loc|__ctype_toupper_loc|isalnum|isalpha|isdigit|islower|isprint|ispunct|isspace|isupper|isxdigit|tolower|toupper|strcasecmp|strncasecmp|strcoll|setlocale')
[ -z "$bad" ] || printf 'core/ must not use a terminal, stdio output or exit:\n%s\n' "$bad" >&2
[ -z "$data" ] || printf 'core/ must not keep writable globals:\n%s\n' "$data" >&2
[ -z "$locale" ] || printf 'core/ must not depend on the locale:\n%s\n' "$locale" >&2
[ -z "$bad$data$locale" ]
