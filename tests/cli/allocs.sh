#!/bin/sh
# asan: yes
# Memory that can't be had: every k-th allocation of analyze, measure, quant, convert and a session fails, one in each run, and each
# run ends with one clear line and exit code 1 or as if nothing had been. 'make faults' tries every one.
. tests/tap.sh
seconds=80
[ -z "$SLIMSCOPE_SAN" ] || seconds=40
shim=${SLIMSCOPE%/*}/tests/faultshim.so
PYTHONDONTWRITEBYTECODE=1 python3 tests/lib/faults.py --budget $seconds "$SLIMSCOPE" "$shim" >"$tmp/tap"
relay "$tmp/tap"
is 13 "$tap_n" "every case was tried"
finish
