#!/bin/sh
# --device and the recipe's runner: what msModelSlim takes is taken, and a line says what becomes of it.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
recipe() { # RUNNER PROCESSOR SAVER
    cat <<END2
apiversion: modelslim_v1
metadata: {config_id: several}
spec:
  runner: $1
  process:
    - {type: $2}
    - type: linear_quant
      qconfig:
        act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}
        weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}
  save: [{type: $3}]
  dataset: $tmp/ids.jsonl
END2
}
python3 -c 'for n in (20, 3, 40): print("{\"input_ids\":%s}" % [(7 * i + n) % 60 for i in range(n)])' >"$tmp/ids.jsonl"
recipe dp_layer_wise iter_smooth ascendv1_saver >"$tmp/dp.yaml"
recipe auto smooth_quant compressed_tensors >"$tmp/no.yaml"
recipe layer_wise iter_smooth ascendv1_saver >"$tmp/one.yaml"
recipe model_wise iter_smooth ascendv1_saver >"$tmp/whole.yaml"
plan() { s quant --model_path lab_models/demo --dry-run --config_path "$@"; }
# says CODE TEXT COUNT ARGS...: the line, and how many speak of devices
says() {
    code=$1 text=$2 count=$3; shift 3
    exits "$code" "$*" plan "$@"
    has "$tmp/err" "$text" "says: $text"
    is "$count" "$(grep -Ec '^(note|slimscope): .*device' "$tmp/err")" "in one line"
}
says 0 "runner dp_layer_wise: the ranks that mpirun started" 0 "$tmp/dp.yaml"
says 0 "slimscope computes on the processor" 1 "$tmp/dp.yaml" --device npu:5
says 0 "'mpirun -n 4 slimscope quant ...'" 1 "$tmp/dp.yaml" --device npu:0,1,2,3
says 0 "msModelSlim itself refuses 'smooth_quant', 'compressed_tensors' there" 1 "$tmp/no.yaml" --device npu:0,1
says 0 "slimscope computes on the processor" 1 "$tmp/no.yaml" --device npu:0 --compat peer
says 64 "refuses 'smooth_quant', 'compressed_tensors' there" 1 "$tmp/no.yaml" --device npu:0,1 --compat peer
says 0 "'mpirun -n 2 slimscope quant" 1 "$tmp/dp.yaml" --device npu:0,1 --compat peer
says 0 "takes the first of them" 1 "$tmp/one.yaml" --device npu:0,1
says 0 "takes none of them" 1 "$tmp/whole.yaml" --device npu:0,1
says 64 "device 1 stands there twice" 1 "$tmp/dp.yaml" --device npu:1,1
says 64 "mpirun -n 2" 1 "$tmp/dp.yaml" --device cpu:0,1
exits 64 "an empty one" plan "$tmp/dp.yaml" --device ""

printf '%s\n' "open lab_models/demo" "recipe $tmp/dp.yaml" "exclude *.0.mlp.down_proj" "export $tmp/new.yaml" | s --script - >"$tmp/out" 2>"$tmp/err"
is "  runner: dp_layer_wise" "$(grep runner: "$tmp/new.yaml")" "an exported recipe keeps the runner"

# equal bytes, whatever the devices are called
small=tests/golden/models/qwen3/fp32
q() { s quant --model_path $small --config_path "$tmp/dp.yaml" "$@"; }
exits 0 "one process" q --save_path "$tmp/a"
exits 0 "one process with a list" q --save_path "$tmp/b" --device npu:0,1
diff -r "$tmp/a" "$tmp/b" >"$tmp/out" && ok "equal bytes" || not_ok "equal bytes: $(head -n 3 "$tmp/out")"
mpi=$(dirname "$SLIMSCOPE")/slimscope-mpi
if command -v mpirun >/dev/null && pkg-config --exists ompi && ${MAKE:-make} -s BUILD="$(dirname "$SLIMSCOPE")" "$mpi" >"$tmp/made" 2>&1; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    SLIMSCOPE=$mpi
    exits 0 "as many ranks as devices" mpirun -q --oversubscribe -n 2 "$mpi" quant --model_path $small \
        --config_path "$tmp/dp.yaml" --save_path "$tmp/c" --device npu:0,1
    has "$tmp/err" "2 ranks on processors stand for them" "says what they are"
    diff -r "$tmp/a" "$tmp/c" >"$tmp/out" && ok "equal bytes of both" || not_ok "equal bytes of both: $(head -n 3 "$tmp/out")"
    exits 0 "other ranks than devices" mpirun -q --oversubscribe -n 2 "$mpi" quant --model_path $small --config_path "$tmp/dp.yaml" --dry-run --device npu:0,1,2
    has "$tmp/err" "names 3 devices, but 2 ranks were started: these do the work" "ranks win"
else
    skip "ranks for devices" "Open MPI (libopenmpi-dev, openmpi-bin) is not installed"
fi
finish
