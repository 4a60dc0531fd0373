#!/bin/sh
# What ranks find out of each other at the start, what they agree on, and what a killed one leaves: one line each.
cd "$(dirname "$0")/../.." || exit 1
. tests/tap.sh
. tests/ranks.sh
printf '{"input_ids":[11,56,30,21,14,27,8,16,9,3]}\n{"input_ids":[12,5,15,28,7,19,5,15,6,7]}\n' >"$tmp/ids.jsonl"
run="analyze --model_path lab_models/demo --calib_dataset $tmp/ids.jsonl --metrics mse_layer_wise --format json"
# pair COMMAND...: rank 1 is started by the words; rank 0 as ever
pair() { timeout 60 mpirun -q --oversubscribe -n 1 "$mpi" $run --out "$tmp/many" : -n 1 "$@" $run --out "$tmp/many"; }
refused() { # TEXT NAME COMMAND...
    text=$1 name=$2; shift 2
    exits 64 "$name" pair "$@"
    has "$tmp/err" "$text" "is named"
    is 1 "$(grep -c '^slimscope: ' "$tmp/err")" "in one line"
}
# none of what follows may look at this test's own environment
unset SLIMSCOPE_KERNELS GLIBC_TUNABLES OPENBLAS_CORETYPE
cp "$mpi" "$tmp/other"
printf x >>"$tmp/other"
refused "rank 1 has another build of slimscope than rank 0" "another build" "$tmp/other"
refused "rank 1 has another environment (variables SLIMSCOPE_...) than rank 0" "another environment" env SLIMSCOPE_X=1 "$mpi"
refused "rank 1: SLIMSCOPE_KERNELS: there are no kernels 'none'" "kernels that are none, on one rank" env SLIMSCOPE_KERNELS=none "$mpi"
refused "rank 1: SLIMSCOPE_KERNELS=openblas: its sums differ" "OpenBLAS's products on one rank" env SLIMSCOPE_KERNELS=openblas "$mpi"
if [ "$(uname -m)" = x86_64 ]; then
    refused "rank 1 has another processor for OpenBLAS" "decompositions of another kind" env OPENBLAS_CORETYPE=Prescott "$mpi"
fi

# the least that a rank's processor runs is what all of them run
for level in generic reference; do
    rm -f "$tmp/many"
    SLIMSCOPE_KERNELS=$level $SLIMSCOPE $run --out "$tmp/one" 2>/dev/null
    exits 0 "a rank that runs $level kernels" pair env SLIMSCOPE_KERNELS=$level "$mpi"
    same "$tmp/one" "$tmp/many" "has the others do the same"
done
off=glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4
if [ "$(uname -m)" = x86_64 ] && grep -qw fma /proc/cpuinfo; then
    refused "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-FMA on all ranks" "functions of the C library for another processor" env GLIBC_TUNABLES=$off "$mpi"
    rm -f "$tmp/many"
    GLIBC_TUNABLES=$off $SLIMSCOPE $run --out "$tmp/one" 2>/dev/null
    exits 0 "and chosen alike" env GLIBC_TUNABLES=$off timeout 60 mpirun -q --oversubscribe -n 2 "$mpi" $run --out "$tmp/many"
    same "$tmp/one" "$tmp/many" "are equal"
fi
exits 64 "ranks that MPI doesn't know" env PMI_SIZE=4 PMI_RANK=0 "$mpi" $run
has "$tmp/err" "started as one of 4 ranks, but MPI finds no others" "are told of"

# killed: by its own wrapper, which waits for what rank 0 tells
cat >"$tmp/kill.sh" <<'END2'
rank=$1 when=$2 told=$3; shift 3
[ "$OMPI_COMM_WORLD_RANK" = "$rank" ] || exec "$@" # mpirun's signal reaches the program itself: nobody ends before it has spoken
"$@" &
pid=$! n=0
until grep -q "$when" "$told" || [ $((n += 1)) -gt 400 ]; do sleep 0.05; done
date +%s >"$told.killed"
kill -9 $pid
wait $pid
END2
killed() { # RANK WHEN TEXT NAME
    echo begins >"$tmp/err"
    ranks 2 sh "$tmp/kill.sh" "$1" "$2" "$tmp/err" "$mpi" analyze --model_path lab_models/demo --metrics alone_exact --progress json >"$tmp/out" 2>>"$tmp/err"
    rc=$?
    [ $rc -ne 0 ] && [ $(($(date +%s) - $(cat "$tmp/err.killed"))) -lt 11 ] && ok "$4 ends the job" || not_ok "$4 ends the job (exit $rc)"
    is 1 "$(grep -c "^slimscope: $3" "$tmp/err")" "with one line"
}
killed 1 begins "another rank was killed" "a rank that is killed at the start"
killed 0 '"phase":"[a-z]' "rank 0 was killed: the job ends" "rank 0, killed"
finish
