#!/bin/sh
# Builds everything and runs every test. The last line is "N passed, N failed, N skipped".
# tests/unit: twice, plainly and under ASan+UBSan; what has threads also under TSan, what has numbers also by clang.
# tests/cli: shell tests (TAP), plainly; those marked "# asan: yes" or "# tsan: yes" in their first lines also with that
# program. All of these as many at once as there are cores, but those marked "# alone: yes" and those of several ranks
# (mpi*.sh), which take all cores themselves, at the end and one by one.
# usage: tests/run.sh [name-part...]   (only tests whose name contains one of the parts)
cd "$(dirname "$0")/.." || exit 1
threaded="base journal keeper session statecache panels"
numbers="math stat order act intquant weightquant weightrules runner moe tokenizer"
MAKE=${MAKE:-make}
CC=${CC:-gcc}
jobs=$(nproc 2>/dev/null || echo 2)
export LC_ALL=C.UTF-8 TZ=UTC
unset NO_COLOR SLIMSCOPE_DATA XDG_STATE_HOME XDG_CONFIG_HOME MAKEFLAGS MFLAGS MAKELEVEL
export OPENBLAS_NUM_THREADS=1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
pass=0 fail=0 skip=0

wanted() {
    [ "$#" -gt 1 ] || return 0
    n=$1; shift
    for p in "$@"; do case "$n" in *"$p"*) return 0 ;; esac; done
    return 1
}

# tell LABEL LOG CODE SECONDS: counts the lines of a TAP producer that has ended.
tell() {
    label=$1 log=$2 rc=$3
    p=$(grep -c '^ok ' "$log")
    s=$(grep -ciE '^ok .*# skip' "$log")
    f=$(grep -c '^not ok ' "$log")
    p=$((p - s))
    if [ "$f" -eq 0 ] && [ "$rc" -ne 0 ] && [ "$rc" -ne 77 ]; then f=1; fi
    if [ "$f" -eq 0 ] && [ $((p + s)) -eq 0 ]; then f=1; fi
    pass=$((pass + p)); fail=$((fail + f)); skip=$((skip + s))
    printf '%-48s %4d passed %3d failed %3d skipped %4d s\n' "$label" "$p" "$f" "$s" "$4"
    [ "$s" -eq 0 ] || grep -iE '^ok .*# skip' "$log"
    if [ "$f" -ne 0 ]; then echo "---- $label (exit $rc) ----"; tail -n 60 "$log"; echo "----"; fi
}

# what every build shares: places in files for traces, and the linker that takes a third of the time, where it is there
build() { $MAKE -s -j"$jobs" DEBUG=-g1 LDFLAGS="$linker" "$@"; }
linker=
! command -v ld.lld >/dev/null || linker=-fuse-ld=lld
mpi=
! command -v mpirun >/dev/null || ! pkg-config --exists ompi || mpi=build/slimscope-mpi

echo "== build ($CC)"
# shellcheck disable=SC2086
build CC="$CC" WERROR=1 all unit $mpi || { echo "build failed"; echo "0 passed, 1 failed"; exit 1; }
echo "== build (ASan+UBSan)"
build CC="$CC" BUILD=build-asan SAN=1 all unit || { echo "sanitized build failed"; echo "0 passed, 1 failed"; exit 1; }
# some FOLDER NAMES: the unit tests of these names
some() { for name in $2; do printf '%s ' "$1/tests/test_$name"; done; }
echo "== build (TSan)"
tsan=$(some build-tsan "$threaded")
# shellcheck disable=SC2086
build CC="$CC" BUILD=build-tsan SAN=thread all $tsan || { echo "TSan build failed"; echo "0 passed, 1 failed"; exit 1; }
clang=
if command -v clang >/dev/null; then
    echo "== build (clang, warnings are errors)"
    clang=$(some build-clang "$numbers")
    # shellcheck disable=SC2086
    if build CC=clang BUILD=build-clang WERROR=1 OPT=-O1 all $clang; then pass=$((pass + 1)); else fail=$((fail + 1)); fi
fi
echo "== functions that nothing calls"
if $MAKE -s -j"$jobs" CC="$CC" unused; then pass=$((pass + 1)); else fail=$((fail + 1)); fi

export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=suppressions=tests/lsan.supp:print_suppressions=0
# tests fork a process that they kill
export TSAN_OPTIONS=exitcode=66:halt_on_error=0:die_after_fork=0
export CMOCKA_MESSAGE_OUTPUT=tap
# one OUT LINE: does one line of the list below, KIND FILE; OUT/KIND.FILE is what it said and .end its exit code and seconds.
# shellcheck disable=SC2016
one='out=$1 kind=${2%% *} t=${2#* }
log=$out/$(echo "$2" | tr "/ " ..)
limit=600
set -- "$t"
case $kind in
fuzz) limit=1200; set -- "$t" --runs 1500 ;;
cli) set -- env SLIMSCOPE=build/slimscope sh "$t" ;;
asan | tsan) limit=900; set -- env SLIMSCOPE=build-$kind/slimscope SLIMSCOPE_SAN=1 sh "$t" ;;
esac
began=$(date +%s)
timeout -k 10 $limit "$@" >"$log" 2>&1 </dev/null
echo "$? $(($(date +%s) - began))" >"$log.end"'
# shellcheck disable=SC2086
for t in build/tests/test_* build-asan/tests/test_* $tsan $clang; do
    case "$t" in *.o|*.d) continue ;; esac
    [ ! -x "$t" ] || ! wanted "$t" "$@" || echo "unit $t"
done >"$out/list"
# The regressions of every reader of foreign bytes, and changed seeds: the same ones each time.
! wanted fuzz "$@" || echo "fuzz build-asan/tests/run_fuzz" >>"$out/list"
for t in tests/cli/*.sh; do
    [ -f "$t" ] || continue
    wanted "$t" "$@" || continue
    marks=$(sed -n '1,5s/^# \([a-z]*\): yes.*/\1/p' "$t" | tr '\n' ' ')
    list=list
    case " $marks$t" in *" alone "* | */mpi*) list=alone ;; esac
    echo "cli $t" >>"$out/$list"
    case " $marks" in *" asan "*) echo "asan $t" >>"$out/$list" ;; esac
    case " $marks" in *" tsan "*) echo "tsan $t" >>"$out/$list" ;; esac
done

# run LIST COUNT: does its lines, COUNT at once, and tells of each in their order as soon as it and those before have ended.
run() {
    [ -s "$1" ] || return 0
    (xargs -P "$2" -I{} sh -c "$one" sh "$out" {} <"$1"; : >"$1.done") &
    while read -r kind t; do
        log=$out/$(echo "$kind.$t" | tr / .)
        until [ -s "$log.end" ] || [ -e "$1.done" ]; do sleep 1; done
        rc=1 seconds=0
        [ ! -s "$log.end" ] || read -r rc seconds <"$log.end"
        case $kind in
        fuzz) label="fuzz (ASan)" ;;
        asan) label="$t (ASan)" ;;
        tsan) label="$t (TSan)" ;;
        *) label=$t ;;
        esac
        tell "$label" "$log" "$rc" "$seconds"
    done <"$1"
    wait
}
echo "== tests, $jobs at once"
run "$out/list" "$jobs"
run "$out/alone" 1
if [ "$skip" -gt 0 ]; then
    echo "$pass passed, $fail failed, $skip skipped"
else
    echo "$pass passed, $fail failed"
fi
[ "$fail" -eq 0 ]
