#!/bin/sh
# asan: yes
# Analyses that look at what flows through the model: found from their help, run, printed with their parts, gone on with.
. tests/tap.sh
model=tests/golden/analysis/_models/llama-fp32 calib=tests/golden/analysis/_models/calib5.jsonl
moe=tests/golden/models/qwen3_moe/fp32
s() { "$SLIMSCOPE" "$@"; }
printf '%s\n' '{"input_ids":[1,2]}' '{"input_ids":[9]}' >"$tmp/few.jsonl"

exits 0 "help" s help analyses
for m in act_outliers output_outliers massive coverage expert_load text_range smooth_alpha awq_search gptq_gain output_error \
    residual_error block_output; do
    has "$tmp/out" "  $m: " "help tells of $m"
done
exits 0 "outliers run" s analyze --model_path $model --calib_dataset $calib --metrics act_outliers --topk 2
has "$tmp/out" "1. model.layers.2.mlp.down_proj                       | Score:   4.9816e+01 | max 14, mean 0.281" "and rank"
exits 0 "one pass for all" s analyze --model_path $model --calib_dataset $calib --metrics act_outliers massive \
    --format json --mem 120M
has "$tmp/out" '"sinks":0' "with the parts in JSON"
exits 0 "coverage runs" s analyze --model_path $moe --calib_dataset "$tmp/few.jsonl" --metrics coverage expert_load --format csv
has "$tmp/out" "effective" "with its parts"
exits 0 "a dense model has nothing to cover, which is no failure" s analyze --model_path $model --calib_dataset $calib \
    --metrics coverage
exits 0 "searches run" s analyze --model_path $model --calib_dataset $calib --metrics smooth_alpha gptq_gain --format json
has "$tmp/out" '"alpha":0.9,"before":0.001216' "and tell the errors by alpha"
has "$tmp/out" '"act_order":' "and what activation order gives"
exits 0 "output errors run" s analyze --model_path $model --calib_dataset $calib --metrics output_error residual_error \
    block_output --scheme W4A8_DYNAMIC --format json
has "$tmp/out" '"from_weight":' "and tell what the weight loses"
has "$tmp/out" '"token":' "and blocks token by token"
for m in output_outliers output_error gptq_gain; do
    exits 0 "$m on the demo model" s analyze --model_path lab_models/demo --max-samples 8 --metrics $m --topk 1
    case $SLIMSCOPE in
    *asan*) ;; # which takes memory of its own
    *) if awk '/^peak memory/ { exit !($3 <= $8) }' "$tmp/err"; then ok "$m stays within its plan"; else not_ok "$m stays within its plan"; tail -n 1 "$tmp/err"; fi ;;
    esac
done
python3 tests/lib/spoil_model.py lab_models/demo "$tmp/nan" nan:model.layers.6.mlp.up_proj.weight
exits 1 "a NaN in a weight" s analyze --model_path "$tmp/nan" --max-samples 2 --metrics act_outliers --format json
has "$tmp/out" "NaN first at sample 0 token 0 channel" "names sample, token and channel"
exits 1 "a NaN in a weight, output errors" s analyze --model_path "$tmp/nan" --max-samples 2 --metrics output_error --format json
is 47 "$(grep -c '"score":[0-9]' "$tmp/out")" "layers before it have scores"
has "$tmp/out" "NaN" "others say why"
printf 'open %s\ncalib %s\nanalyze massive act_outliers\nrank massive --topk 1\n' $model $calib >"$tmp/a.slim"
exits 0 "from a script" s --script "$tmp/a.slim"
has "$tmp/out" "massive" "rank prints them"
finish
