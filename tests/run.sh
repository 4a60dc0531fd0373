#!/bin/sh
# Builds everything and runs every test. The last line is "N passed, N failed, N skipped".
# tests/unit: twice, plainly and under ASan+UBSan; what has threads also under TSan, what has numbers also by clang.
# tests/cli: shell tests (TAP), plainly; those marked "# asan: yes" or "# tsan: yes" in their first lines also with that
# program.
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

# run LABEL SECONDS COMMAND...: runs a TAP producer and counts its lines.
run() {
    label=$1; limit=$2; shift 2
    began=$(date +%s)
    timeout -k 10 "$limit" "$@" >"$out/log" 2>&1 </dev/null
    tell "$label" "$out/log" $? $(($(date +%s) - began))
}

echo "== build ($CC)"
$MAKE -s -j"$jobs" CC="$CC" WERROR=1 all unit || { echo "build failed"; echo "0 passed, 1 failed"; exit 1; }
echo "== build (ASan+UBSan)"
$MAKE -s -j"$jobs" CC="$CC" BUILD=build-asan SAN=1 all unit || { echo "sanitized build failed"; echo "0 passed, 1 failed"; exit 1; }
# some FOLDER NAMES: the unit tests of these names
some() { for name in $2; do printf '%s ' "$1/tests/test_$name"; done; }
echo "== build (TSan)"
tsan=$(some build-tsan "$threaded")
# shellcheck disable=SC2086
$MAKE -s -j"$jobs" CC="$CC" BUILD=build-tsan SAN=thread all $tsan || { echo "TSan build failed"; echo "0 passed, 1 failed"; exit 1; }
clang=
if command -v clang >/dev/null; then
    echo "== build (clang, warnings are errors)"
    clang=$(some build-clang "$numbers")
    # shellcheck disable=SC2086
    if $MAKE -s -j"$jobs" CC=clang BUILD=build-clang WERROR=1 OPT=-O1 all $clang; then pass=$((pass + 1)); else fail=$((fail + 1)); fi
fi
echo "== functions that nothing calls"
if $MAKE -s -j"$jobs" CC="$CC" unused; then pass=$((pass + 1)); else fail=$((fail + 1)); fi

export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=suppressions=tests/lsan.supp:print_suppressions=0
# tests fork a process that they kill
export TSAN_OPTIONS=exitcode=66:halt_on_error=0:die_after_fork=0
export CMOCKA_MESSAGE_OUTPUT=tap
echo "== unit tests, $jobs at once"
# Unit tests are programs of their own: as many at once as there are cores, told in their order.
# shellcheck disable=SC2016
one='t=$1; log=$2/$(echo "$t" | tr / .); began=$(date +%s)
timeout -k 10 600 "$t" >"$log" 2>&1 </dev/null
echo "$? $(($(date +%s) - began))" >"$log.end"'
# shellcheck disable=SC2086
for t in build/tests/test_* build-asan/tests/test_* $tsan $clang; do
    case "$t" in *.o|*.d) continue ;; esac
    [ -x "$t" ] || continue
    wanted "$t" "$@" && echo "$t"
done >"$out/units"
xargs -r -P "$jobs" -I{} sh -c "$one" sh {} "$out" <"$out/units"
while read -r t; do
    log=$out/$(echo "$t" | tr / .)
    rc=1 seconds=0
    [ ! -s "$log.end" ] || read -r rc seconds <"$log.end"
    tell "$t" "$log" "$rc" "$seconds"
done <"$out/units"
# The regressions of every reader of foreign bytes, and changed seeds: the same ones each time.
if wanted fuzz "$@"; then run "fuzz (ASan)" 1200 build-asan/tests/run_fuzz --runs 1500; fi
for t in tests/cli/*.sh; do
    [ -f "$t" ] || continue
    wanted "$t" "$@" || continue
    run "$t" 600 env SLIMSCOPE=build/slimscope sh "$t"
    if head -n 5 "$t" | grep -q '^# asan: yes'; then
        run "$t (ASan)" 900 env SLIMSCOPE=build-asan/slimscope SLIMSCOPE_SAN=1 sh "$t"
    fi
    if head -n 5 "$t" | grep -q '^# tsan: yes'; then
        run "$t (TSan)" 900 env SLIMSCOPE=build-tsan/slimscope SLIMSCOPE_SAN=1 sh "$t"
    fi
done
if [ "$skip" -gt 0 ]; then
    echo "$pass passed, $fail failed, $skip skipped"
else
    echo "$pass passed, $fail failed"
fi
[ "$fail" -eq 0 ]
