#!/bin/sh
# Each target for so many seconds by libFuzzer. What one dies of lies in build-fuzz/TARGET: cut it down (-minimize_crash=1), mend
# the cause and put it into tests/fuzz/regress as TARGET.what-it-is.
# usage: search.sh DRIVER LIBFUZZER-BINARY SECONDS [TARGET...]
driver=$1 binary=$2 seconds=$3
shift 3
export ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS=suppressions=tests/lsan.supp OPENBLAS_NUM_THREADS=1
bad=0
for t in ${*:-$("$driver" --names)}; do
    mkdir -p "build-fuzz/$t/corpus"
    "$driver" --corpus "$t" "build-fuzz/$t/corpus" || exit 1
    cp tests/fuzz/regress/"$t".* "build-fuzz/$t/corpus" 2>/dev/null
    if FUZZ=$t "$binary" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -max_len=65536 -artifact_prefix="build-fuzz/$t/" \
        "build-fuzz/$t/corpus" >"build-fuzz/$t/log" 2>&1; then
        echo "$t: $(grep -o '^Done [0-9]* runs' "build-fuzz/$t/log"), nothing found"
    else
        bad=1
        echo "$t: FOUND, see build-fuzz/$t/log"
    fi
done
exit $bad
