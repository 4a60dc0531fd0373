#!/bin/sh
# A plan whose evaluator asks the quantized model itself: questions of a file beside the measured KL divergence.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
M=lab_models/demo D=$tmp/ids.jsonl
export SLIMSCOPE_DATA=$PWD
printf '{"input_ids":[11,56,30,21,14,27,8,16,9,3]}\n{"input_ids":[12,5,15,28,7,19,5,15,6,7]}\n' >"$D"
printf '{"prompt":"The old house","choices":["was a little girl","xyzzy"],"answer":0}\n{"prompt":"She was","choices":["a","qqqqq"],"answer":"A"}\n' >"$tmp/q.jsonl"
plan() {
    cat >"$tmp/plan.yaml" <<YAML
strategy:
  type: standing_high
  anti_outlier_strategies: [[]]
  template:
    process:
      - {type: linear_quant, qconfig: {act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax}, weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}}
    save: [{type: ascendv1_saver}]
    dataset: $D
evaluation:
  type: native
  demand: {expectations: [{dataset: kl, at_most: 5}, {dataset: mine, target: 1, tolerance: 0.5}]}
  datasets:
    mine: {path: $tmp/q.jsonl, kind: $1}
YAML
}
plan choice
exits 0 "a plan with questions" s tune --model_path $M --save_path "$tmp/t" --config "$tmp/plan.yaml" --eval "$D" --calib_dataset "$D" --threads 2
has "$tmp/out" "MET" "is met"
has "$tmp/err" "mine: the float model is asked" "the float model is asked"
has "$tmp/out" "mine 1" "and it is told"
printf '{"prompt":"The old house","choices":["was a little girl"],"answer":0}\n' >"$tmp/q.jsonl"
exits 65 "a question with one choice" s tune --model_path $M --save_path "$tmp/t2" --config "$tmp/plan.yaml" --eval "$D" --calib_dataset "$D"
has "$tmp/err" "q.jsonl:1: one choice alone is no question" "is named with file and line, before any work"
plan 'other'
exits 65 "another kind" s tune --model_path $M --save_path "$tmp/t3" --config "$tmp/plan.yaml" --eval "$D" --calib_dataset "$D"
has "$tmp/err" "kind" "is refused"
finish
