#!/bin/sh
# make bench: speed, memory and latency in one table; figures only, nothing is asserted. usage: tests/bench/run.sh BUILD-FOLDER
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build}
bench=$build/bench
model=$bench/qwen3-0.6b-shape
mkdir -p "$bench" || exit 1
unset OPENBLAS_NUM_THREADS OMP_NUM_THREADS NO_COLOR
# shellcheck disable=SC2046 # several words are meant
[ "$bench/gemm_peak" -nt tests/bench/gemm_peak.c ] ||
    ${CC:-gcc} -O2 tests/bench/gemm_peak.c -o "$bench/gemm_peak" $(pkg-config --cflags --libs openblas) || exit 1
if [ ! -f "$model/tokens.jsonl" ]; then
    echo "making a random model of Qwen3-0.6B's shape in $model (860 MiB, once)" >&2
    rm -rf "$model"
    python3 tests/bench/gen_model.py "$model" || exit 1
fi
PYTHONDONTWRITEBYTECODE=1 exec python3 tests/bench/report.py "$build/slimscope" "$bench" "$model"
