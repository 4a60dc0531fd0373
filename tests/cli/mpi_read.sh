#!/bin/sh
# --read once: ranks that read each layer's weights together have the bytes of one rank, and one line where a rank can't read.
cd "$(dirname "$0")/../.." || exit 1
. tests/tap.sh
. tests/ranks.sh
demo=lab_models/demo
texts=$tmp/texts.jsonl
head -n 16 lab_calib/boolq.jsonl >"$texts"
# many NAME N COMMAND OPTIONS...: --read all and once as one process
many() {
    name=$1 n=$2 command=$3; shift 3
    $SLIMSCOPE "$command" --model_path $demo --format json --out "$tmp/one" "$@" 2>/dev/null
    for how in all once; do
        rm -f "$tmp/many"
        ranks "$n" "$mpi" "$command" --model_path $demo --format json --out "$tmp/many" --read $how "$@" 2>"$tmp/err.$how"
        same "$tmp/one" "$tmp/many" "$name, --read $how"
    done
}
read_of() { weights_read "$tmp/err.$1"; }
less() { [ "$(read_of once)" -gt 0 ] && [ "$((2 * $(read_of once)))" -lt "$(read_of all)" ] && ok "$1" || not_ok "$1: $(read_of all) $(read_of once)"; }
many "statistics and block_error on 3 ranks" 3 analyze --calib_dataset "$texts" --metrics block_error kurtosis
less "weights are read once"
many "a measurement on 2 ranks" 2 measure --max-samples 12 --seq-len 256
python3 tests/lib/coded_models.py fp8 "$tmp/fp8" "$tmp/plain" && demo=$tmp/fp8
python3 -c 'import random
random.seed(3)
for n in (512, 3, 1, 700, 40): print("{\"input_ids\":%s}" % [random.randrange(2, 60) for _ in range(n)])' >"$tmp/ids.jsonl"
many "FP8 with scales on 2 ranks" 2 analyze --calib_dataset "$tmp/ids.jsonl" --metrics kurtosis
demo=tests/golden/models/deepseek_v3/fp32
many "experts on 2 ranks" 2 analyze --calib_dataset "$tmp/ids.jsonl" --metrics coverage kurtosis
demo=lab_models/demo
sed -e '/^  process:/a\    - {type: iter_smooth}' -e "s|dataset: .*|dataset: $tmp/ids.jsonl|" lab_practice/default/default-w8a8-static.yaml >"$tmp/r.yaml"
write() { "$@" quant --model_path tests/golden/models/qwen3/fp32 --config_path "$tmp/r.yaml" --save_path "$tmp/$to" $how >/dev/null 2>"$tmp/err.$to"; }
to=q1 how='' write $SLIMSCOPE
to=q2 how='--read once' write ranks 2 "$mpi"
diff -r "$tmp/q1" "$tmp/q2" >"$tmp/out" 2>&1 && ok "quant of smoothed layers on 2 ranks, --read once" || not_ok "quant of smoothed layers: $(head -n 2 "$tmp/out" "$tmp/err.q2")"
once() { ranks 2 "$mpi" analyze --model_path $demo --read once --calib_dataset "$texts" "$@" >"$tmp/out" 2>"$tmp/err"; }
once --metrics mse_layer_wise --max-samples 2
has "$tmp/err" "not every rank runs all layers here" "layers that are divided are read by each"
once --metrics kurtosis --max-samples 1
has "$tmp/err" "not every rank runs all layers here" "so are those of ranks without texts"
once --metrics kurtosis --mem 26M
has "$tmp/err" "are more than a rank's limit of memory leaves: each rank reads all" "a layer that has no room is read by each"

# rank 1 can't read any more, somewhere behind the beginning
shim=${SLIMSCOPE%/*}/tests/faultshim.so
${MAKE:-make} -s BUILD="$(dirname "$SLIMSCOPE")" "$shim" >"$tmp/made" 2>&1
python3 -c 'for n in (600, 600): print("{\"input_ids\":%s}" % [(7 * i) % 60 for i in range(n)])' >"$tmp/two.jsonl"
for how in "74 EIO" "65 end"; do
    exits "${how% *}" "a rank that can't read (${how#* }) ends all" ranks 2 sh -c "[ \$OMPI_COMM_WORLD_RANK = 1 ] && export LD_PRELOAD=$shim DISK_OP=pread DISK_AT=890 DISK_HOW=${how#* }
        exec $mpi analyze --model_path $demo --read once --calib_dataset $tmp/two.jsonl --metrics kurtosis"
    has "$tmp/err" "slimscope: rank 1: tensor 'model.layers." "by the tensor's name"
    is 1 "$(grep -c '^slimscope: ' "$tmp/err")" "in one line"
done
finish
