#!/bin/sh
# Smoothed models by quant: what the original crashes on is written, a run that was killed ends in the same bytes, in either
# arithmetic, and what can't be smoothed is named before anything is written.
. tests/tap.sh
model=tests/golden/formats/_models/qwen3-bf16
calib=$PWD/tests/golden/formats/iter_smooth_w8a8_fp32/calib.jsonl

# recipe FILE PROCESSOR: it before static W8A8
recipe() {
    cat >"$1" <<YAML
apiversion: modelslim_v1
spec:
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
