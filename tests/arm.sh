#!/bin/sh
# core/math built for arm64 and its own tests under qemu: the same bytes there, NEON's table included. Says so where the
# packages (gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user) are not installed. usage: tests/arm.sh BUILD-FOLDER
cd "$(dirname "$0")/.." || exit 1
out=${1:-build}/arm
cc=aarch64-linux-gnu-gcc
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64)
if ! command -v $cc >/dev/null || [ -z "$qemu" ]; then
    echo "check-arm: not run: install gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user"
    exit 0
fi
mkdir -p "$out" || exit 1
bad=0
for t in test_math test_tiles; do
    # shellcheck disable=SC2046 # several words are meant
    $cc -std=c17 -D_GNU_SOURCE -Wall -Wextra -O2 -ffp-contract=off -static -Itests/arm -Icore -I. -o "$out/$t" \
        "tests/unit/$t.c" tests/arm/gemms.c $(ls core/math/*.c | grep -v "openblas\|lapack") core/base/str.c \
        core/base/error.c core/base/dtype.c core/base/mem.c core/base/pool.c core/base/profile.c core/base/clock.c -lm -pthread || { bad=1; continue; }
    "$qemu" "$out/$t" >"$out/$t.txt" || { bad=1; cat "$out/$t.txt"; }
    echo "$t on arm64: $(tail -n 1 "$out/$t.txt")"
done
exit $bad
