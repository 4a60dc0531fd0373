#!/bin/sh
# Several ranks of one job under mpirun: the bytes of one, whatever the shares are, and one line when something is wrong.
cd "$(dirname "$0")/../.." || exit 1
. tests/tap.sh
. tests/ranks.sh
demo=lab_models/demo
texts=$(head -n 40 lab_calib/boolq.jsonl >"$tmp/texts.jsonl"; echo "$tmp/texts.jsonl")

analyze "kurtosis local_error" "of statistics" 1 2 3
analyze "mse_layer_wise weight_error" "by layers" 3
analyze "alone" "by units" 3
analyze "block_error kurtosis" "with ranges of all texts" 2
# measure NAME NUMBERS... -- OPTIONS...
measure() {
    name=$1 numbers=$2; shift 2
    $SLIMSCOPE measure --model_path $demo --format json --out "$tmp/one" --max-samples 12 --seq-len 256 "$@" 2>/dev/null
    for n in $numbers; do
        ranks "$n" "$mpi" measure --model_path $demo --format json --out "$tmp/many" --max-samples 12 --seq-len 256 "$@" 2>"$tmp/err"
        same "$tmp/one" "$tmp/many" "measure $name on $n ranks"
        rm -f "$tmp/many"
    done
}
cat >"$tmp/moments.yaml" <<'END'
apiversion: modelslim_v1
metadata:
  config_id: moments
spec:
  process:
    - type: linear_quant
      qconfig:
        act: {scope: per_tensor, dtype: int8, symmetric: false, method: histogram}
        weight: {scope: per_channel, dtype: int8, symmetric: true, method: gptq}
      include: ['*layers.{2,3}.*']
END
measure "with static ranges" "2 3"
measure "as the peer does" 2 --compat peer
measure "with histograms and second moments" 2 --recipe "$tmp/moments.yaml"

head -n 2 lab_calib/boolq.jsonl >"$tmp/two.jsonl"
texts=$tmp/two.jsonl
analyze "block_error" "of two texts" 3

# experts are counted over all ranks
python3 -c 'import random
random.seed(3)
for n in (512, 3, 1, 700, 520, 40, 600): print("{\"input_ids\":%s}" % [random.randrange(2, 60) for _ in range(n)])' >"$tmp/ids.jsonl"
demo=tests/golden/models/qwen3_moe/fp32 texts=$tmp/ids.jsonl
analyze "coverage expert_load" "of experts" 3
analyze "kurtosis" "of experts' inputs" 3
demo=lab_models/demo

exits 65 "a model that is not there is one error" ranks 2 "$mpi" analyze --model_path "$tmp/none"
is 1 "$(grep -c '^slimscope: ' "$tmp/err")" "in one line"
exits 64 "other words on another rank are an error" mpirun -q --oversubscribe -n 1 "$mpi" analyze --model_path $demo \
    : -n 1 "$mpi" analyze --model_path $demo --topk 3
has "$tmp/err" "rank 1 has another command line than rank 0" "and named"
# the same words, another model in each rank's folder; none in one of them
for r in 0 1; do mkdir -p "$tmp/r$r"; cp -r $demo "$tmp/r$r/m"; done
sed -i 's/"rms_norm_eps": *[^,]*/"rms_norm_eps": 0.125/' "$tmp/r1/m/config.json"
bin=$(cd "$(dirname "$mpi")" && pwd)/slimscope-mpi
SLIMSCOPE_DATA=$PWD
export SLIMSCOPE_DATA
exits 64 "other models are an error" ranks 2 sh -c "cd $tmp/r\$OMPI_COMM_WORLD_RANK && exec $bin analyze --model_path m"
has "$tmp/err" "rank 1 has another model than rank 0" "and named"
rm -r "$tmp/r1/m"
exits 65 "what one rank lacks ends all" ranks 2 sh -c "cd $tmp/r\$OMPI_COMM_WORLD_RANK && exec $bin analyze --model_path m"
has "$tmp/err" "slimscope: rank 1: 'm': no such model folder" "by its name"
unset SLIMSCOPE_DATA
exits 64 "a build without MPI does not run N times" ranks 2 $SLIMSCOPE analyze --model_path $demo
has "$tmp/err" "this build has no MPI" "and says so"

# a killed rank ends all of them
cat >"$tmp/kill.sh" <<'END'
told=$1; shift
[ "$OMPI_COMM_WORLD_RANK" = 1 ] || exec "$@" # mpirun's signal reaches the program itself: nobody ends before it has spoken
"$@" &
pid=$!
until grep -q '"phase":"[a-z]' "$told"; do sleep 0.05; done # when rank 0 tells how far it is, both are at work
date +%s >"$told.killed"
kill -9 $pid
wait $pid
END
: >"$tmp/err"
ranks 2 sh "$tmp/kill.sh" "$tmp/err" "$mpi" analyze --model_path $demo --metrics alone_exact --progress json >"$tmp/out" 2>"$tmp/err"
rc=$?
[ $rc -ne 0 ] && [ $(($(date +%s) - $(cat "$tmp/err.killed"))) -lt 12 ] && ok "a killed rank ends the job" || not_ok "a killed rank ends the job (exit $rc)"
is 1 "$(grep -c '^slimscope: another rank was killed' "$tmp/err")" "with one line"
finish
