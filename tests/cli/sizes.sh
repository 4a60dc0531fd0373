#!/bin/sh
# asan: no
# The size that is told of a recipe with processors is what its files take, whatever they add to the model.
. tests/tap.sh
model=lab_models/demo
quantized() { echo "{type: linear_quant, qconfig: {act: $1, weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}, exclude: ['*layers.3.*']}"; }
tokens=$(quantized "{scope: per_token, dtype: int8, symmetric: true, method: minmax}")
fixed=$(quantized "{scope: per_tensor, dtype: int8, symmetric: false, method: minmax}")
# told WHAT OPTIONS PROCESSORS...: on one line of YAML
told() {
    what=$1; how=$2
    printf 'apiversion: modelslim_v1\nspec:\n  process: [%s]\n  save: [{type: ascendv1_saver}]\n  dataset: mix_calib.jsonl\n' "$3" >"$tmp/r.yaml"
    rm -rf "$tmp/out"
    "$SLIMSCOPE" measure --model_path $model --recipe "$tmp/r.yaml" --max-samples 2 --seq-len 64 --format json $how >"$tmp/m" 2>/dev/null
    "$SLIMSCOPE" quant --model_path $model --config_path "$tmp/r.yaml" --max-samples 2 --seq-len 64 --save_path "$tmp/out" $how >/dev/null 2>&1
    is "$(python3 tests/lib/payload.py "$tmp/out")" "$(python3 -c 'import json, sys; print(json.load(sys.stdin)["bytes"])' <"$tmp/m")" "$what"
}
told "nothing added" "" "$tokens"
told "norms that are folded" "" "{type: iter_smooth}, $tokens"
told "biases of norms and linears, by token" "" "{type: iter_smooth, symmetric: false}, $tokens"
told "the same with fixed ranges" "" "{type: smooth_quant, symmetric: false}, {type: iter_smooth, symmetric: false, alpha: 0.5}, $fixed"
told "multipliers of inputs" "" "{type: iter_smooth, enable_subgraph_type: [non-fusion]}, $fixed"
told "a head of its own, and the rotation" "" "{type: quarot}, $tokens"
told "rotations of inputs" "" "{type: quarot, online: true, max_tp_size: 2, down_proj_online_layers: [0, 3], export_extra_info: false}, $tokens"
told "scales of the cache" "" "{type: dynamic_cache, qconfig: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}, $fixed"
told "scales of heads" "" "{type: fa3_quant, details: {fa_q: {scope: per_head, dtype: int8, symmetric: true, method: minmax}, fa_v: {scope: per_head, dtype: fp8_e4m3, symmetric: true, method: minmax}}}, $tokens"
told "scales of the cache in the model's type" "--compat peer" "{type: dynamic_cache, qconfig: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}"
finish
