#!/bin/sh
# tune by experience: the table that ships is found from everywhere, one of one's own is used, and told the line of what is wrong.
. tests/tap.sh
model=$PWD/lab_models/demo
head -n 2 lab_calib/mix_calib.jsonl >"$tmp/calib.jsonl"
printf '#!/bin/sh\necho d 1\n' >"$tmp/score"
chmod +x "$tmp/score"
cat >"$tmp/plan.yaml" <<P
strategy:
  type: standing_high_with_experience
  structure_configs:
    - {type: GQA, include: ['*self_attn*']}
    - {type: FFN, include: ['*mlp*']}
evaluation:
  type: command
  run: ["$tmp/score", "{model}"]
  demand: {expectations: [{dataset: d, target: 1, tolerance: 0}]}
P
case $SLIMSCOPE in /*) ;; *) SLIMSCOPE=$PWD/$SLIMSCOPE ;; esac
tune() {
    (cd "$tmp" && "$SLIMSCOPE" tune --model_path "$model" --calib_dataset calib.jsonl --seq-len 32 --config plan.yaml --progress never "$@")
}
exits 0 "from another folder" tune --save_path one
has "$tmp/one/best_practice.yaml" "flex_smooth_quant" "the first suppression of the table"
has "$tmp/one/best_practice.yaml" "per_tensor" "attention by a fixed range"
has "$tmp/one/best_practice.yaml" "per_token" "the rest by token"

mkdir -p "$tmp/mine/lab_practice"
cp -R lab_calib "$tmp/mine/"
sed 's/{type: flex_smooth_quant}/{type: iter_smooth, alpha: 0.75}/' lab_practice/experience.yaml >"$tmp/mine/lab_practice/experience.yaml"
export SLIMSCOPE_DATA="$tmp/mine"
exits 0 "a table of one's own" tune --save_path two
has "$tmp/two/best_practice.yaml" "alpha: 0.75" "is used"
sed -i 's/GQA: \*attention/GQA: nothing/' "$tmp/mine/lab_practice/experience.yaml"
exits 65 "one with a mistake" tune --save_path three
has "$tmp/err" "experience.yaml:11:12: quant_types.w8a8.structures.GQA: must be float or {act, weight}, not nothing" "is told where"
finish
