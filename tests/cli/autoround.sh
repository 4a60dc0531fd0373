#!/bin/sh
# asan: no
# autoround_quant from the command line: LAOS from its practice, a kill and a resume, a decision on its
# strategies, what is told of a training.
. tests/tap.sh
model=tests/golden/formats/_models/qwen3-bf16
s() { "$SLIMSCOPE" "$@"; }
sed 's/iters: 400/iters: 40/' lab_practice/qwen3/qwen3-w4a4-laos.yaml >"$tmp/laos.yaml"
laos() { s quant --model_path $model --config_path "$tmp/laos.yaml" --max-samples 10 --seq-len 24 --save_path "$@"; }

exits 0 "LAOS runs from its practice" laos "$tmp/a" --threads 1 --verify
has "$tmp/out" "14 linears quantized, 0 float" "every linear is quantized"
has "$tmp/out" "0 problems" "and is what was found"
exits 0 "the same with three threads" laos "$tmp/b" --threads 3
same "$tmp/a/quant_model_weights-00001-of-00001.safetensors" "$tmp/b/quant_model_weights-00001-of-00001.safetensors" "has the same bytes"
is "W4A4_DYNAMIC W8A8_DYNAMIC" "$(grep -o 'W[48]A[48]_DYNAMIC' "$tmp/a/quant_model_description.json" | sort -u | tr '\n' ' ' | sed 's/ $//')" "with both of its schemes"
exits 137 "killed behind a layer" python3 tests/lib/interrupt_at.py "layer 1" SIGKILL 1 "$SLIMSCOPE" quant --model_path $model \
    --config_path "$tmp/laos.yaml" --max-samples 10 --seq-len 24 --save_path "$tmp/c" --progress always
exits 0 "resumed" laos "$tmp/c" --resume
same "$tmp/a/quant_model_weights-00001-of-00001.safetensors" "$tmp/c/quant_model_weights-00001-of-00001.safetensors" "has the same bytes, resumed"
sed 's/iters: 400/iters: 1000000/' lab_practice/qwen3/qwen3-w4a4-laos.yaml >"$tmp/long.yaml"
exits 130 "progress tells the layer, the step and the loss" python3 tests/lib/interrupt_at.py '"phase":"layer 0, step [0-9]*/1000000, loss ' SIGINT 1 \
    "$SLIMSCOPE" quant --model_path $model --config_path "$tmp/long.yaml" --max-samples 10 --seq-len 24 --save_path "$tmp/d" --progress json

cat >"$tmp/script" <<X
open $model
recipe $tmp/laos.yaml
set max-samples=10
set seq-len=24
exclude *layers.1.mlp.gate_proj
measure
export $tmp/best.yaml
X
exits 0 "a decision on its levels" s --script "$tmp/script"
has "$tmp/best.yaml" "layers.1.mlp" "is an exclude of a strategy"
exits 0 "which is a recipe" s check "$tmp/best.yaml"
printf 'apiversion: modelslim_v1\nspec:\n  process: [{type: autoround_quant, knob: 1, strategies: []}]\n' >"$tmp/bad.yaml"
exits 65 "an unknown key" s check "$tmp/bad.yaml"
has "$tmp/out" "knob: unknown key" "is named"
finish
