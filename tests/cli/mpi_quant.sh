#!/bin/sh
# quant over several ranks: every file has the bytes of one process; what a rank that was killed or had no room left goes on with
# any number of them.
cd "$(dirname "$0")/../.." || exit 1
. tests/tap.sh
. tests/ranks.sh
demo=lab_models/demo moe=tests/golden/models/qwen3_moe/fp32
static=lab_practice/default/default-w8a8-static.yaml
few="--max-samples 3 --seq-len 48" many="--max-samples 12 --seq-len 256"

# quant NAME NUMBERS MODEL OPTIONS...
quant() {
    what="quant $1" numbers=$2 model=$3; shift 3
    rm -rf "$tmp/one"
    $SLIMSCOPE quant --model_path $model --save_path "$tmp/one" "$@" >/dev/null 2>"$tmp/err" || { not_ok "$what by one process"; return; }
    for n in $numbers; do
        rm -rf "$tmp/many"
        exits 0 "$what on $n ranks" ranks "$n" "$mpi" quant --model_path $model --save_path "$tmp/many" "$@"
        is "" "$(diff -r "$tmp/one" "$tmp/many" 2>&1)" "$what on $n ranks: the same files"
    done
}
recipe() { # NAME PROCESS SAVE
    printf 'apiversion: modelslim_v1\nmetadata: {config_id: %s}\nspec:\n  process: [%s]\n  save: [%s]\n' "$1" "$2" "$3" >"$tmp/$1.yaml"
}
smooth='{type: smooth_quant, alpha: 0.6}'
minmax='{type: linear_quant, qconfig: {act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax},
    weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}}'
moments='{type: linear_quant, include: ["*layers.{2,3}.*"], qconfig: {
    act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax},
    weight: {scope: per_channel, dtype: int8, symmetric: true, method: gptq}}}'
recipe moments "$moments" '{type: ascendv1_saver, part_file_size: 0.001}, {type: compressed_tensors}'
recipe smooth "$smooth, $minmax" '{type: ascendv1_saver}'
quant "with static ranges" "1 2 3" $demo --config_path $static $many
has "$tmp/out" "56 linears quantized, 0 float" "all of them are counted"
quant "with second moments, by two savers, in several files" "3" $demo --config_path "$tmp/moments.yaml" $many --verify
has "$tmp/out" "0 problems" "and read back"
quant "with second moments as the peer does" 2 $demo --config_path "$tmp/moments.yaml" $few --compat peer
quant "with smoothing" 2 $demo --config_path "$tmp/smooth.yaml" $few
quant "without data" 3 $demo --config_path lab_practice/default/default-w8a8-dynamic.yaml --debug
quant "as the peer does" 2 $demo --config_path $static $few --compat peer
quant "with its second forward" 2 $demo --config_path tests/golden/formats/ct_w8a8_static/config.yaml $few --compat peer
quant "with rounding that is trained behind limits of inputs" 3 tests/golden/formats/_models/qwen3-bf16 \
    --config_path tests/golden/formats/flatquant_w4a4_autoround/config.yaml
python3 -c 'import random
random.seed(3)
for n in (512, 3, 1, 700, 520, 40, 600): print("{\"input_ids\":%s}" % [random.randrange(2, 60) for _ in range(n)])' >"$tmp/ids.jsonl"
printf '  dataset: ids.jsonl\n' >>"$tmp/smooth.yaml"
quant "of experts" 3 $moe --config_path "$tmp/smooth.yaml"
printf '{"input_ids":[5]}\n' >"$tmp/ids.jsonl"
quant "of experts without a token" 2 $moe --config_path "$tmp/smooth.yaml"
quant "on more ranks than a layer has linears" 9 tests/golden/formats/_models/qwen3-bf16 --config_path $static $few

# ---- killed, and gone on with ----
cat >"$tmp/kill.sh" <<'END'
[ "$OMPI_COMM_WORLD_RANK" = 1 ] || exec "$@" # mpirun's signal reaches the program itself: nobody ends before it has spoken
"$@" &
pid=$!
until grep -aq "\"layer\":$KILL_AT," "$KILL_IN"/.slimscope-*/journal 2>/dev/null; do sleep 0.02; done # behind this layer
date +%s >"$KILL_IN.killed"
kill -9 $pid
wait $pid
END
export SLIMSCOPE_KERNELS=generic # so slow that a layer is there to be stopped in
KILL_IN=$tmp/k
export KILL_IN KILL_AT
q="quant --model_path $demo --config_path $static --max-samples 5 --seq-len 48"
$SLIMSCOPE $q --save_path "$tmp/whole" >/dev/null 2>&1
killed() { # RANKS LAYER OPTIONS...: a run of so many of which one is killed then
    n=$1 KILL_AT=$2; shift 2
    ranks "$n" sh "$tmp/kill.sh" "$mpi" $q --save_path "$tmp/k" "$@" >/dev/null 2>"$tmp/err"
    rc=$?
    [ $rc -ne 0 ] && [ $(($(date +%s) - $(cat "$KILL_IN.killed"))) -lt 12 ] && ok "a killed rank of $n ends the job" || not_ok "a killed rank of $n ends the job (exit $rc)"
    is 1 "$(grep -c '^slimscope: another rank was killed.*--resume goes on' "$tmp/err")" "with one line that says what to do"
}
resumed() { # NAME COMMAND...
    what=$1; shift
    exits 0 "$what" "$@"
    has "$tmp/out" "layers were there already" "$what: finished layers are not done again"
    is "" "$(diff -r "$tmp/whole" "$tmp/k" 2>&1)" "$what: the same files"
    rm -rf "$tmp/k"
}
killed 3 2
killed 2 4 --resume
resumed "one process goes on with what three and two began" $SLIMSCOPE $q --save_path "$tmp/k" --resume
OMPI_COMM_WORLD_RANK=1 KILL_AT=3 sh "$tmp/kill.sh" $SLIMSCOPE $q --save_path "$tmp/k" >/dev/null 2>&1
resumed "three go on with what one process began" ranks 3 "$mpi" $q --save_path "$tmp/k" --resume

# ---- stopped, and no room on one rank ----
ended() { # CODE NAME TEXT: how the last command ended
    [ "$1" -ne 0 ] && ok "$2 ends the job" || not_ok "$2 ends the job"
    is 1 "$(grep -c '^slimscope: ' "$tmp/err")" "$2: one line"
    has "$tmp/err" "$3" "$2: says what to do"
}
python3 tests/lib/interrupt_at.py "layer 3" SIGINT 1 mpirun -q --oversubscribe -n 2 "$mpi" $q --save_path "$tmp/k" --progress always 2>"$tmp/err"
ended $? "^C of mpirun" "what was finished is kept, --resume goes on"
resumed "two go on behind a ^C" ranks 2 "$mpi" $q --save_path "$tmp/k" --resume
cat >"$tmp/full.sh" <<'END'
[ "$OMPI_COMM_WORLD_RANK" = 1 ] && export LD_PRELOAD="$SHIM" DISK_OP=fdatasync DISK_HOW=ENOSPC DISK_AT=4 # one for each layer, whatever its share
exec "$@"
END
SHIM=$(cd "$(dirname "$SLIMSCOPE")" && pwd)/tests/faultshim.so
export SHIM
ranks 2 sh "$tmp/full.sh" "$mpi" $q --save_path "$tmp/k" >/dev/null 2>"$tmp/err"
ended $? "a full disk of one rank" "slimscope: rank 1: cannot sync files in '$tmp/k': No space left on device; nothing in '$tmp/k' was replaced: --resume goes on"
resumed "three go on where there is room again" ranks 3 "$mpi" $q --save_path "$tmp/k" --resume
# the target of one rank is another than that of rank 0
bin=$(cd "$(dirname "$mpi")" && pwd)/slimscope-mpi
for r in 0 1; do mkdir -p "$tmp/r$r"; done
here=$PWD
exits 74 "a target that ranks don't share" env SLIMSCOPE_DATA="$here" mpirun -q --oversubscribe -n 2 sh -c "cd $tmp/r\$OMPI_COMM_WORLD_RANK && exec $bin \
    quant --model_path $here/$demo --config_path $here/lab_practice/default/default-w8a8-dynamic.yaml --save_path out"
has "$tmp/err" "slimscope: rank 1: does not see 'out' as rank 0 made it: it has to be on a file system that all ranks share" "is told at the start"
is "" "$(ls -A "$tmp/r0" "$tmp/r1" | grep -v :)" "and leaves nothing"
finish
