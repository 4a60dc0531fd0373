#!/bin/sh
# Calls for files that fail, one in each run, and kills before one: an analysis into a file, an export, a report, a
# conversion and quant in four formats end with one clear line, keep what was there or write the new, and go on with --resume to the same bytes. A
# sample of all places: 'make faults' tries every one.
. tests/tap.sh
shim=${SLIMSCOPE%/*}/tests/faultshim.so
tries() { # SCENES ARGUMENTS
    scenes=$1 before=$tap_n
    shift
    PYTHONDONTWRITEBYTECODE=1 python3 tests/lib/diskfaults.py "$@" "$SLIMSCOPE" "$shim" >"$tmp/tap"
    relay "$tmp/tap"
    is "$scenes" $((tap_n - before)) "every scene was tried"
}
tries 8 --budget 60
tries 8 --budget 30 --kill
finish
