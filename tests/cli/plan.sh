#!/bin/sh
# tune --config: recipes tried by a plan, each written, evaluated by a program, a person or natively; what was learned is kept.
. tests/tap.sh
model=lab_models/demo
head -n 4 lab_calib/mix_calib.jsonl >"$tmp/calib.jsonl"
options="--seq-len 64"

# An evaluation that counts what a written model keeps in float: more is better, as in a benchmark. It notes each call.
cat >"$tmp/score" <<'S'
#!/bin/sh
# usage: score MODEL
echo "$1" >>"$(dirname "$0")/calls"
python3 - "$1" <<'P'
import glob, json, sys
kinds = json.load(open(glob.glob(sys.argv[1] + "/quant_model_description*.json")[0]))
floats = sum(1 for k, v in kinds.items() if v == "FLOAT" and k.endswith("proj.weight"))
print("kept", 60 + floats)
P
S
chmod +x "$tmp/score"

# plan FILE TARGET STRATEGY-LINES: standing_high or what is given, evaluated by the program
plan() {
    cat >"$1" <<P
strategy:
  type: standing_high
  anti_outlier_strategies:
    - []
  template:
    dataset: $tmp/calib.jsonl
    process:
      - type: linear_quant
        qconfig:
          act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}
          weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}
    save: [{type: ascendv1_saver, part_file_size: 4}]
evaluation:
  type: command
  run: ["$tmp/score", "{model}"]
  timeout: 100
  demand: {expectations: [{dataset: kept, target: "$2", tolerance: "0"}]}
P
}

# calls: how often the program was asked
calls() {
    [ -f "$tmp/calls" ] && wc -l <"$tmp/calls" | tr -d ' ' || echo 0
}

# yes NAME COMMAND...
yes() {
    name=$1; shift
    if "$@"; then ok "$name"; else not_ok "$name"; fi
}

tune() {
    "$SLIMSCOPE" tune --model_path "$model" $options "$@"
}

plan "$tmp/plan.yaml" 70
exits 0 "a plan whose demand can be met" tune --save_path "$tmp/tuned" --config "$tmp/plan.yaml" --progress never
has "$tmp/out" "MET" "it says so"
first=$(calls)
yes "it took several tries" [ "$first" -gt 2 ]
yes "the recipe lies there" [ -f "$tmp/tuned/best_practice.yaml" ]
yes "and the model that was written by it" [ -d "$tmp/tuned/quant_model" ]
has "$tmp/tuned/best_practice.yaml" "w_bit: 8" "with the label that practices are looked up by"
for f in report.md report.json report.html; do yes "$f" [ -s "$tmp/tuned/$f" ]; done
mkdir "$tmp/repo"
exits 0 "with a folder of practices" env MSMODELSLIM_CUSTOM_PRACTICE_REPO="$tmp/repo" "$SLIMSCOPE" tune --model_path "$model" $options \
    --save_path "$tmp/tuned" --config "$tmp/plan.yaml" --progress never
exits 0 "quant finds it there" env MSMODELSLIM_CUSTOM_PRACTICE_REPO="$tmp/repo" "$SLIMSCOPE" quant --model_path "$model" \
    --save_path "$tmp/found" --quant_type w8a8 --yes --dry-run
has "$tmp/err" "practice $(basename "$tmp"/repo/*/*.yaml .yaml)" "as the best of its kind"
exits 0 "quant takes the recipe" "$SLIMSCOPE" quant --model_path "$model" $options --save_path "$tmp/again" \
    --config_path "$tmp/tuned/best_practice.yaml" --progress never
same "$tmp/tuned/quant_model/quant_model_weights-00001-of-00001.safetensors" "$tmp/again/quant_model_weights-00001-of-00001.safetensors" \
    "and writes the weights that were kept"

exits 0 "the same plan with the same folder" tune --save_path "$tmp/tuned" --config "$tmp/plan.yaml" --progress never --format json
is "$first" "$(calls)" "asks nothing again"
yes "its tries as JSON" python3 -m json.tool "$tmp/out" /dev/null

plan "$tmp/high.yaml" 1000
exits 1 "a demand that nothing meets" tune --save_path "$tmp/high" --config "$tmp/high.yaml" --progress never
has "$tmp/err" "NOT MET" "is said in a line"

finish
