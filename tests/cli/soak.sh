#!/bin/sh
# What a long sitting keeps: memory, threads and descriptors over rounds of work in one process (tests/lib/soak.py).
. tests/tap.sh
is "threads constant, descriptors constant, growth small" "$(python3 tests/lib/soak.py "$SLIMSCOPE" "$tmp" "${SOAK_ROUNDS:-360}" 2>"$tmp/err")" "a long sitting holds no more and more"
sed 's/^/# /' "$tmp/err"
finish
