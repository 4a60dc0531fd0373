#!/bin/sh
# asan: no
# Rotations from the command line: a prior stage with its own texts, a kill and a resume, a measurement of what was turned.
. tests/tap.sh
model=lab_models/demo
s() { "$SLIMSCOPE" "$@"; }
recipe() { # FILE PRIOR PROCESS
    printf 'apiversion: modelslim_v1\nspec:\n  prior: [%s]\n  process: [%s]\n  dataset: mix_calib.jsonl\n' "$2" "$3" >"$1"
}
q='{type: linear_quant, qconfig: {act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}, weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}}'
first='{process: [{type: adapt_rotation, stage: 1, steps: 2}], dataset: boolq.jsonl}'
recipe "$tmp/both.yaml" "$first" "{type: adapt_rotation, stage: 2}, $q"
recipe "$tmp/alone.yaml" "" "{type: adapt_rotation, stage: 2}, $q"
recipe "$tmp/order.yaml" "" "$q, {type: quarot}"
recipe "$tmp/lost.yaml" '{process: [{type: adapt_rotation, stage: 1}], dataset: nowhere.jsonl}' "{type: adapt_rotation, stage: 2}, $q"
recipe "$tmp/turn.yaml" "" "{type: quarot}"
quant() { s quant --model_path $model --max-samples 8 --config_path "$1" --save_path "$2" --threads "$3"; }

exits 0 "a prior stage, then the list" quant "$tmp/both.yaml" "$tmp/a" 1
exits 0 "the same with two threads" quant "$tmp/both.yaml" "$tmp/b" 2
for f in "$tmp"/a/*.safetensors "$tmp"/a/*.json; do
    same "$f" "$tmp/b/${f##*/}" "${f##*/} has the same bytes"
done
exits 137 "killed behind a layer" python3 tests/lib/interrupt_at.py "layer 3" SIGKILL 1 "$SLIMSCOPE" quant --model_path $model --max-samples 8 \
    --config_path "$tmp/both.yaml" --save_path "$tmp/c" --progress always
exits 0 "resumed after a kill" s quant --model_path $model --max-samples 8 --config_path "$tmp/both.yaml" --save_path "$tmp/c" --resume
for f in "$tmp"/a/*.safetensors; do
    same "$f" "$tmp/c/${f##*/}" "${f##*/} has the same bytes, resumed"
done
for r in alone:"no matrix to turn by" order:"has to stand before" lost:"nowhere.jsonl"; do
    exits 65 "${r%%:*} is refused" quant "$tmp/${r%%:*}.yaml" "$tmp/no" 1
    has "$tmp/err" "${r#*:}" "says why"
    [ -e "$tmp/no" ] && not_ok "nothing was written" || ok "nothing was written"
done
s measure --model_path $model --recipe "$tmp/turn.yaml" --max-samples 8 >"$tmp/m" 2>/dev/null
kl=$(sed -n 's/^KL divergence *\([^ ]*\).*/\1/p' "$tmp/m")
is yes "$(awk -v k="${kl:-1}" 'BEGIN { print k < 1e-8 ? "yes" : "no" }')" "a turned model computes what it did (KL $kl)"

# Matrices of their own for the queries and keys of an indexer.
indexed=tests/golden/models/deepseek_v32/fp32
rows='{type: linear_quant, qconfig: {act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}, weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}, exclude: ["*.{gate,kv_b_proj}", "*.indexer.*"]}'
online() { # FILE SAVER: one recipe for it
    recipe "$1" "" "$rows, {type: online_quarot}"
    printf '  save: [{type: %s}]\n' "$2" >>"$1"
}
for s in ascendv1_saver mindie_format_saver; do
    online "$tmp/online.yaml" $s
    exits 0 "$s has a place for them" s quant --model_path $indexed --config_path "$tmp/online.yaml" --save_path "$tmp/$s"
    exits 0 "and is whole" s check "$tmp/$s"
    is "FLOAT FLOAT FLOAT FLOAT" "$(sed -n 's/.*indexer\.[qk]_rot": "\([A-Z]*\)".*/\1/p' "$tmp/$s"/quant_model_description*.json | xargs)" "they are in its description"
    is "4 orthogonal" "$(python3 tests/lib/orthogonal.py _rot "$tmp/$s"/*.safetensors)" "and are rotations"
done
online "$tmp/online.yaml" compressed_tensors
exits 65 "a format without a place" s quant --model_path $indexed --config_path "$tmp/online.yaml" --save_path "$tmp/no"
has "$tmp/err" "compressed_tensors can't write 'model.layers.0.self_attn.indexer.q_rot', which is applied at run time: use ascendv1_saver, or leave 'online_quarot' out" "is told by name"
recipe "$tmp/online.yaml" "" "{type: online_quarot}, $q"
exits 65 "a model without an indexer" quant "$tmp/online.yaml" "$tmp/no" 1
has "$tmp/err" "online_quarot has nothing to turn in" "is told"
finish
