#!/bin/sh
# What make bench, bench-peers and bench-real run: figures only, nothing is asserted. usage: run.sh BUILD-FOLDER report|peers|real [MODEL]
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build} what=${2:-report} bench=${1:-build}/bench
mkdir -p "$bench" || exit 1
unset OPENBLAS_NUM_THREADS OPENBLAS_CORETYPE OMP_NUM_THREADS NO_COLOR SLIMSCOPE_KERNELS
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
exec python3 "tests/bench/$what.py" "$build/slimscope" "$bench" ${3:+"$3"}
