#!/bin/sh
# Smoothed models by quant: what the original crashes on is written, a run that was killed ends in the same bytes, in either
# arithmetic, and what can't be smoothed is named before anything is written.
. tests/tap.sh
model=tests/golden/formats/_models/qwen3-bf16
calib=$PWD/tests/golden/formats/iter_smooth_w8a8_fp32/calib.jsonl

# recipe FILE PROCESSOR [SAVER [PRIOR]]: it before static W8A8
recipe() {
    cat >"$1" <<YAML
apiversion: modelslim_v1
spec:
  prior: [$4]
  process:
    - $2
    - {type: linear_quant, qconfig: {act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax},
       weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}, include: ['*']}
  save: [{type: ${3:-ascendv1_saver}}]
  dataset: $calib
YAML
}
quant() { "$SLIMSCOPE" quant --model_path "$model" --model_type Qwen3-8B "$@"; }
sums() { (cd "$1" && find . -type f ! -name '*.yaml' -exec cksum {} + | sort); }

# The original fails on each of these with a bf16 model.
recipe "$tmp/iter.yaml" "{type: iter_smooth, alpha: 0.5}"
recipe "$tmp/iter_shift.yaml" "{type: iter_smooth, alpha: 0.5, symmetric: false, enable_subgraph_type: [norm-linear]}"
recipe "$tmp/quant.yaml" "{type: smooth_quant}"
recipe "$tmp/quant_shift.yaml" "{type: smooth_quant, symmetric: false}"
recipe "$tmp/nonfusion.yaml" "{type: iter_smooth, alpha: 0.5, enable_subgraph_type: [non-fusion]}"
for r in iter iter_shift quant quant_shift nonfusion; do
    exits 0 "$r is written" quant --config_path "$tmp/$r.yaml" --save_path "$tmp/$r"
    exits 0 "and is whole" "$SLIMSCOPE" check "$tmp/$r"
done
has "$tmp/iter_shift/quant_model_weights.safetensors.index.json" "input_layernorm.bias" "a shift is a bias of its norm"
is 0 "$(grep -c "layernorm.bias" "$tmp/quant/quant_model_weights.safetensors.index.json")" "without one a norm has none"

has "$tmp/nonfusion/quant_model_weights.safetensors.index.json" "mlp.down_proj.div.mul_scale" "a scale at run time is a multiplier"

# Killed behind the first layer.
for how in "" "--compat peer"; do
    exits 0 "in one go $how" quant --config_path "$tmp/iter.yaml" --save_path "$tmp/whole" --force $how
    rm -rf "$tmp/part"
    exits 137 "killed $how" python3 tests/lib/interrupt_at.py "layer 1" SIGKILL 1 "$SLIMSCOPE" quant --model_path "$model" \
        --model_type Qwen3-8B --config_path "$tmp/iter.yaml" --save_path "$tmp/part" --progress always $how
    exits 0 "gone on with" quant --config_path "$tmp/iter.yaml" --save_path "$tmp/part" --resume $how
    is "$(sums "$tmp/whole")" "$(sums "$tmp/part")" "the same bytes"
    exits 0 "an output that is there, with --verify" quant --config_path "$tmp/iter.yaml" --save_path "$tmp/part" --resume \
        --verify $how
    has "$tmp/err" "--verify compares nothing: the output was there already" "is not held against the model unchanged"
done

# Whatever kind of processor it is: what a search found, weights that are turned as a whole, inputs at run time, keys.
weight='{dtype: int8, scope: per_channel, symmetric: true, method: minmax}'
recipe "$tmp/flex.yaml" "{type: flex_smooth_quant}"
recipe "$tmp/ssz.yaml" "{type: flex_awq_ssz, qconfig: {act: {dtype: int8, scope: per_token, symmetric: true, method: minmax}, weight: $weight}}"
recipe "$tmp/awq.yaml" "{type: awq, weight_qconfig: $weight}"
recipe "$tmp/kv.yaml" "{type: kv_smooth}"
recipe "$tmp/turn.yaml" "{type: quarot}"
recipe "$tmp/online.yaml" "{type: quarot, online: true, max_tp_size: 1, down_proj_online_layers: [0, 1]}"
recipe "$tmp/adapt.yaml" "{type: adapt_rotation, stage: 2}" "" "{process: [{type: adapt_rotation, stage: 1}], dataset: $calib}"
for r in flex ssz awq kv turn online adapt; do
    exits 0 "$r in one go" quant --config_path "$tmp/$r.yaml" --save_path "$tmp/whole" --force
    [ $r = turn ] && cp -r "$tmp/whole" "$tmp/turned"
    rm -rf "$tmp/part"
    exits 137 "killed" python3 tests/lib/interrupt_at.py "layer 1" SIGKILL 1 "$SLIMSCOPE" quant --model_path "$model" \
        --model_type Qwen3-8B --config_path "$tmp/$r.yaml" --save_path "$tmp/part" --progress always
    exits 0 "gone on with" quant --config_path "$tmp/$r.yaml" --save_path "$tmp/part" --resume
    is "$(sums "$tmp/whole")" "$(sums "$tmp/part")" "the same bytes"
done

exits 0 "smoothed where the turned model was" quant --config_path "$tmp/iter.yaml" --save_path "$tmp/turned" --force
is "" "$(ls "$tmp/turned/optional" 2>/dev/null)" "the rotation goes with it"

# What can't be.
recipe "$tmp/none.yaml" "{type: iter_smooth, enable_subgraph_type: [linear-linear]}"
recipe "$tmp/word.yaml" "{type: iter_smooth, enable_subgraph_type: [norm-liner]}"
recipe "$tmp/nomatch.yaml" "{type: iter_smooth, exclude: ['*.gate_prj']}"
recipe "$tmp/hf.yaml" "{type: smooth_quant, symmetric: false}" compressed_tensors
exits 65 "no such sub-graph" quant --config_path "$tmp/none.yaml" --save_path "$tmp/no"
has "$tmp/err" "iter_smooth selects nothing: no sub-graph of this model has an enabled type" "is named"
exits 65 "no such type" quant --config_path "$tmp/word.yaml" --save_path "$tmp/no"
has "$tmp/err" "'norm-liner' is no type of sub-graph: there are norm-linear, linear-linear, ov, up-down" "is told those there are"
exits 65 "a shift in a format without biases of norms" quant --config_path "$tmp/hf.yaml" --save_path "$tmp/no"
has "$tmp/err" "use symmetric: true, or ascendv1_saver" "is told what to do"
is "" "$(ls "$tmp/no" 2>/dev/null)" "nothing is made"
exits 0 "a pattern that matches nothing" quant --config_path "$tmp/nomatch.yaml" --save_path "$tmp/nomatch"
has "$tmp/err" "iter_smooth: '*.gate_prj' in exclude matches no sub-graph" "is told"

exits 65 "a width that no rotation has" "$SLIMSCOPE" quant --model_path tests/golden/models/llama/fp32 \
    --config_path "$tmp/turn.yaml" --save_path "$tmp/no"
has "$tmp/err" "head_dim 10: no Hadamard matrix of size 10 is known" "is named, with the sizes there are"
sed 's/"tie_word_embeddings": false/"tie_word_embeddings": true/' "$model/config.json" >"$tmp/config.json"
mkdir "$tmp/tied" && cp -r "$model"/* "$tmp/tied" && cp "$tmp/config.json" "$tmp/tied/config.json"
exits 65 "a table that is the head, too, by the original" "$SLIMSCOPE" quant --model_path "$tmp/tied" --model_type Qwen3-8B \
    --config_path "$tmp/turn.yaml" --save_path "$tmp/no" --compat peer
has "$tmp/err" "tie_word_embeddings: the original would rotate the shared table twice" "is told what to do"
is "" "$(ls "$tmp/no" 2>/dev/null)" "nothing is made"
exits 0 "in our arithmetic the head becomes a tensor of its own" "$SLIMSCOPE" quant --model_path "$tmp/tied" \
    --model_type Qwen3-8B --config_path "$tmp/turn.yaml" --save_path "$tmp/untied"
has "$tmp/untied/config.json" '"tie_word_embeddings": false' "and is no longer tied"

# A value that is no number: the first of them by name, whichever sub-graph comes first, and nothing is written.
spoil() { rm -rf "$tmp/bad"; python3 tests/lib/spoil_model.py "$model" "$tmp/bad" "$1"; }
bad() { "$SLIMSCOPE" quant --model_path "$tmp/bad" --model_type Qwen3-8B "$@"; }
named() { # TENSOR TEXT RECIPE...
    spoil "nan:model.layers.1.$1"
    t=$1 text=$2; shift 2
    for r; do
        exits 65 "$r of NaN in $t" bad --config_path "$tmp/$r.yaml" --save_path "$tmp/no"
        has "$tmp/err" "$text" "is named"
    done
}
named input_layernorm.weight "'model.layers.1.input_layernorm.weight' has NaN at [50]" iter quant flex ssz awq turn adapt
named mlp.up_proj.weight "'model.layers.1.mlp.up_proj': its weight holds NaN at [0,50]" iter quant flex ssz awq
is "" "$(ls "$tmp/no" 2>/dev/null)" "nothing is made"

# A channel that is always 0, and so is what reads it.
spoil dead:1
for r in iter iter_shift quant flex ssz awq kv turn adapt; do
    exits 0 "$r of a dead channel" bad --config_path "$tmp/$r.yaml" --save_path "$tmp/dead" --force
    exits 0 "and is whole" "$SLIMSCOPE" check "$tmp/dead"
done

# What is left out on one side of a fold is left out on both: the model computes what it did.
printf '{"input_ids": [3, 9, 27, 5, 11, 40, 2, 8]}\n{"input_ids": [7, 1, 4, 30, 12]}\n' >"$tmp/ids.jsonl"
for x in "*.v_proj" "*.o_proj" "*.up_proj" "*.down_proj" "*.gate_proj" "*.input_layernorm"; do
    printf 'apiversion: modelslim_v1\nspec:\n  process: [{type: iter_smooth, exclude: ["%s"]}]\n' "$x" >"$tmp/side.yaml"
    kl=$("$SLIMSCOPE" measure --model_path tests/golden/models/llama/fp32 --recipe "$tmp/side.yaml" --calib "$tmp/ids.jsonl" \
        --eval "$tmp/ids.jsonl" --dtype-sim fp32 2>"$tmp/err" | sed -n 's/^KL divergence *\([^ ]*\).*/\1/p')
    is yes "$(awk -v k="${kl:-1}" 'BEGIN { print k < 1e-8 ? "yes" : "no" }')" "without $x (KL ${kl:-$(tail -n 1 "$tmp/err")})"
done

# A dry run tells all of it before the run.
recipe "$tmp/types.yaml" "{type: iter_smooth, enable_subgraph_type: [linear-linear, ov]}"
recipe "$tmp/cache.yaml" "{type: kv_smooth, exclude: ['*.self_attention']}"
exits 65 "a dry run of what selects nothing" quant --config_path "$tmp/none.yaml" --dry-run
for r in nomatch:"iter_smooth: '*.gate_prj' in exclude matches no sub-graph" types:"iter_smooth: this model has no sub-graph of type linear-linear" \
    cache:"kv_smooth: '*.self_attention' in exclude matches no attention, such as 'model.layers.0.self_attn'"; do
    exits 0 "a dry run of ${r%%:*}" quant --config_path "$tmp/${r%%:*}.yaml" --dry-run
    is 1 "$(grep -cF "${r#*:}" "$tmp/err")" "tells it, once"
    exits 0 "a run of ${r%%:*}" quant --config_path "$tmp/${r%%:*}.yaml" --save_path "$tmp/${r%%:*}" --force
    is 1 "$(grep -cF "${r#*:}" "$tmp/err")" "tells it, once"
done
finish
