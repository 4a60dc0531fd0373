#!/bin/sh
# tune --config killed before a call for a file, here and there: the same command goes on to the same recipe and the same model,
# and evaluates at most the running try again.
. tests/tap.sh
shim=${SLIMSCOPE%/*}/tests/faultshim.so
case $shim in /*) ;; *) shim=$PWD/$shim ;; esac
model=tests/golden/formats/_models/qwen3-bf16
printf '%s\n' '{"input_ids":[11,56,30,21,14,27,8,16,9,3]}' '{"input_ids":[12,5,15,28,7,19,5,15,6,7]}' >"$tmp/ids.jsonl"
cat >"$tmp/score" <<'S'
#!/bin/sh
# usage: score MODEL
echo "$1" >>"$(dirname "$0")/calls"
echo "kept $(cat "$1"/quant_model_description*.json | grep -o 'proj.weight": "FLOAT"' | wc -l)"
S
chmod +x "$tmp/score"
cat >"$tmp/plan.yaml" <<P
strategy:
  type: fewest_bytes
  scope: linear
  template:
    dataset: $tmp/ids.jsonl
    process:
      - type: linear_quant
        qconfig:
          act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}
          weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}
    save: [{type: ascendv1_saver, part_file_size: 4}]
evaluation:
  type: command
  run: ["$tmp/score", "{model}"]
  demand: {expectations: [{dataset: kept, target: 3, tolerance: 0}]}
P
tune() { # FOLDER
    "$SLIMSCOPE" tune --model_path $model --config "$tmp/plan.yaml" --save_path "$1" --threads 1 --progress never >"$tmp/out" 2>"$tmp/err"
}
what() { # FOLDER: what it came to
    (cd "$1" && cat best_practice.yaml quant_model/*.safetensors quant_model/quant_model_description*.json | sha256sum)
}
tune "$tmp/whole"
is 0 $? "a whole run"
want=$(what "$tmp/whole") calls=$(wc -l <"$tmp/calls")
for op in rename fsync mkdir unlink; do
    n=1 killed=0 bad=
    while :; do
        rm -rf "$tmp/run" "$tmp/calls"
        (DISK_OP=$op DISK_HOW=kill DISK_AT=$n LD_PRELOAD=$shim SYNC_SKIP=1 tune "$tmp/run") 2>/dev/null
        [ $? -gt 128 ] || break
        killed=$((killed + 1))
        tune "$tmp/run" || bad="$bad $n:exit"
        [ "$(what "$tmp/run")" = "$want" ] || bad="$bad $n:other"
        [ "$(wc -l <"$tmp/calls")" -le $((calls + 1)) ] || bad="$bad $n:again"
        n=$((n + 1 + n / 3))
    done
    is "" "$bad" "killed before $op"
    [ $killed -gt 0 ] && ok "$op: killed at $killed places" || not_ok "$op: killed nowhere"
done
finish
