#!/bin/sh
# Every family's recorded model, as a user has it: info, an analysis, its effect and a quantized copy that reads back, from a
# data set of token ids. forward is compared with the recordings in tests/unit/test_forward.c.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
printf '{"input_ids":[11,56,30,21,14,27,8,16,9,3]}\n{"input_ids":[12,5,15,28,7,19,5,15,6,7]}\n' >"$tmp/ids.jsonl"
sed 's/dataset: .*/dataset: ids.jsonl/' lab_practice/default/default-w8a8-static.yaml >"$tmp/static.yaml"
seen=0
for config in tests/golden/models/*/*/config.json; do
    m=${config%/config.json}
    seen=$((seen + 1))
    exits 0 "info $m" s info "$m"
    exits 0 "analyze $m" s analyze --model_path "$m" --calib_dataset "$tmp/ids.jsonl" --metrics kurtosis std quantile local_error --format json
    if grep -q '"name":"' "$tmp/out"; then ok "scores"; else not_ok "scores"; fi
    exits 0 "measure $m" s measure --model_path "$m" --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl"
    has "$tmp/out" "KL divergence" "gives an effect"
    exits 0 "quant $m" s quant --model_path "$m" --config_path "$tmp/static.yaml" --save_path "$tmp/q" --verify --format json
    has "$tmp/out" '"problems":0' "reads back"
    rm -rf "$tmp/q"
done
[ "$seen" -ge 34 ] && ok "all of them" || not_ok "all of them: $seen"
finish
