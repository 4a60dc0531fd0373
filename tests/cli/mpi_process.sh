#!/bin/sh
# Several ranks: what processors find in texts that are divided has the bits of one rank with all of them, in our arithmetic and in
# the peer's, and ranges of routed experts do, whichever rank an expert's tokens are on.
cd "$(dirname "$0")/../.." || exit 1
. tests/tap.sh
. tests/ranks.sh
minmax='{type: linear_quant, qconfig: {act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax},
    weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}}'
moments='{type: linear_quant, qconfig: {act: {scope: per_tensor, dtype: int8, symmetric: false, method: histogram},
    weight: {scope: per_channel, dtype: int8, symmetric: true, method: gptq}}}'
int4='{scope: per_group, dtype: int4, symmetric: true, method: minmax, ext: {group_size: 8}}'
int8='{scope: per_channel, dtype: int8, symmetric: true, method: minmax}'

round='{type: autoround_quant, iters: 5, strategies: [{include: ["*"], qconfig: {act: {scope: per_token, dtype: int4, symmetric: true, method: minmax},
    weight: {scope: per_group, dtype: int4, symmetric: true, method: autoround, ext: {group_size: 8, scale_dtype: float32}}}}]}'

# measure NAME NUMBERS PROCESS OPTIONS...
measure() {
    name=$1 numbers=$2
    printf 'apiversion: modelslim_v1\nmetadata: {config_id: ranks}\nspec:\n  process: [%s]\n' "$3" >"$tmp/ranks.yaml"
    shift 3
    $SLIMSCOPE measure --model_path $model --format json --out "$tmp/one" --recipe "$tmp/ranks.yaml" "$@" 2>"$tmp/err" ||
        not_ok "measure $name by one process: $(cat "$tmp/err")"
    for n in $numbers; do
        ranks "$n" "$mpi" measure --model_path $model --format json --out "$tmp/many" --recipe "$tmp/ranks.yaml" "$@" 2>"$tmp/err"
        same "$tmp/one" "$tmp/many" "measure $name on $n ranks"
        grep -q 'not divided' "$tmp/err" && not_ok "measure $name is divided: $(cat "$tmp/err")"
        rm -f "$tmp/many"
    done
}
model=lab_models/demo
set -- --max-samples 6 --seq-len 160 --ctx 64 --exclude '*layers.{2,3,4,5,6}.*'
measure "with both sides smoothed" 2 "{type: iter_smooth, alpha: 0.9}, $minmax" "$@"
measure "with searches, keys and a cache" 3 "{type: awq, weight_qconfig: $int4, n_grid: 3}, {type: kv_smooth, smooth_factor: 0.5},
    {type: dynamic_cache, qconfig: $int8, include: ['*']}, $minmax" "$@"
measure "with tokens of all, turned" 2 "{type: quarot}, {type: svd_res, rank: 2}, {type: flex_smooth_quant}, {type: fa3_quant}, $minmax" "$@"
measure "as the peer does" 2 "{type: awq, weight_qconfig: $int4, n_grid: 2}, {type: dynamic_cache, qconfig: $int8, include: ['*']}, $minmax" \
    "$@" --compat peer

measure "with rounding that is trained" 3 "{type: iter_smooth}, $round" "$@"

# experts that one rank has no token of
python3 -c 'import random
random.seed(3)
for n in (64, 3, 1, 70, 52, 40, 60): print("{\"input_ids\":%s}" % [random.randrange(2, 60) for _ in range(n)])' >"$tmp/ids.jsonl"
model=tests/golden/models/qwen3_moe/fp32
set -- --calib "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl"
measure "of experts' ranges and moments" 5 "$moments" "$@"
measure "of experts' inputs smoothed" 3 "{type: flex_smooth_quant}, {type: awq, weight_qconfig: $int4, n_grid: 2}, $minmax" "$@"
measure "of experts whose rounding is trained, in steps with fewer texts than ranks" 6 "$round" "$@"
measure "with rounding trained as the peer does, texts twice in a step" 2 "$round" "$@" --compat peer
head -n 4 "$tmp/ids.jsonl" >"$tmp/few.jsonl"
measure "with fewer texts than ranks, and states kept" 5 "{type: smooth_quant}, $minmax" --calib "$tmp/few.jsonl" \
    --eval "$tmp/few.jsonl" --cache-dir "$tmp/kept"
has "$tmp/err" "4 of 5 ranks measure: there are no more calibration texts" "and says so"
measure "of experts as the peer does" 3 "{type: iter_smooth}, $minmax" "$@" --compat peer
finish
