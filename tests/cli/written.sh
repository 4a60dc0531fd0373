#!/bin/sh
# What quant writes is what was measured: an independent reader turns the files back into a float model, whose perplexity
# must be the one that measure gave for the assignment.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
model=lab_models/demo
set -- --max-samples 4 --seq-len 64 --ctx 64
# perplexity KEY FILE
ppl() { python3 -c 'import json,sys; print(repr(json.load(open(sys.argv[2]))["perplexity_"+sys.argv[1]]["mean"]))' "$1" "$2"; }
# near SHARE A B NAME: within that share of each other
near() {
    if python3 -c 'import sys; t,a,b=map(float,sys.argv[1:]); sys.exit(not abs(a-b)<=t*abs(a))' "$1" "$2" "$3"; then ok "$4"; else not_ok "$4"; echo "# $2 and $3"; fi
}
# recipe ACT_DTYPE ACT_SCOPE ACT_SYM WEIGHT_DTYPE WEIGHT_SCOPE METHOD [EXT]: on standard output. Activations "none": weight only.
recipe() {
    printf 'apiversion: modelslim_v1\nspec:\n  process:\n  - type: linear_quant\n    qconfig:\n'
    [ "$1" = none ] || printf '      act: {dtype: %s, scope: %s, symmetric: %s, method: minmax}\n' "$1" "$2" "$3"
    printf '      weight: {dtype: %s, scope: %s, symmetric: true, method: %s%s}\n' "$4" "$5" "$6" "${7:+, ext: $7}"
    printf "    include: ['*']\n    exclude: ['*layers.3.*down_proj']\n  save:\n  - type: ascendv1_saver\n"
}
# check NAME [again]: writes by $tmp/NAME.yaml, reads back, compares. again: activations are quantized too, so the model that
# was read is measured under the same recipe; its weights lie on their grid already and stay where they are, but for the last
# bit of a scale, which a model whose activations are rounded may answer with some ten-thousandths of its perplexity.
check() {
    exits 0 "$1: measure" s measure --model_path $model --recipe "$tmp/$1.yaml" --format json --max-samples 4 --seq-len 64 --ctx 64
    cp "$tmp/out" "$tmp/$1.want"
    exits 0 "$1: quant" s quant --model_path $model --config_path "$tmp/$1.yaml" --save_path "$tmp/$1" --max-samples 4 --seq-len 64
    exits 0 "$1: somebody else reads it" python3 tests/lib/dequantize.py "$tmp/$1" $model "$tmp/$1.float"
    exits 0 "$1: and measures it" s measure --model_path "$tmp/$1.float" --recipe "$tmp/$1.yaml" --format json --max-samples 4 --seq-len 64 --ctx 64
    cp "$tmp/out" "$tmp/$1.got"
    if [ "${2:-}" = again ]; then
        near 1e-3 "$(ppl quantized "$tmp/$1.want")" "$(ppl quantized "$tmp/$1.got")" "$1: the perplexity that was measured"
    else
        near 1e-4 "$(ppl quantized "$tmp/$1.want")" "$(ppl float "$tmp/$1.got")" "$1: the perplexity that was measured"
    fi
    rm -rf "${tmp:?}/$1" "$tmp/$1.float"
}
recipe none - - int8 per_channel minmax >"$tmp/w8a16.yaml"
recipe none - - int4 per_group minmax '{group_size: 64}' >"$tmp/w4a16.yaml"
recipe none - - int4 per_group gptq '{group_size: 64}' >"$tmp/w4a16-gptq.yaml"
recipe int8 per_token true int4 per_channel ssz >"$tmp/w4a8.yaml"
recipe int8 per_token true int8 per_channel minmax >"$tmp/w8a8-dynamic.yaml"
recipe int8 per_tensor false int8 per_channel minmax >"$tmp/w8a8.yaml"
recipe fp8_e4m3 per_token true fp8_e4m3 per_channel minmax >"$tmp/fp8.yaml"
recipe mxfp8 per_block true mxfp8 per_block minmax >"$tmp/mxfp8.yaml"
recipe mxfp4 per_block true mxfp4 per_block minmax >"$tmp/mxfp4.yaml"
check w8a16
check w4a16
check w4a16-gptq
check w8a8-dynamic again
check w8a8 again
check fp8 again
check mxfp8 again
check mxfp4 again
# ---- compressed-tensors: the recipe that a loader makes of the groups gives what the one it was written by gave ----
q8='{dtype: int8, scope: per_channel, symmetric: true, method: minmax}'
token='{dtype: int8, scope: per_token, symmetric: true, method: minmax}'
tensor='{dtype: int8, scope: per_tensor, symmetric: false, method: minmax}'
tensor_sym='{dtype: int8, scope: per_tensor, symmetric: true, method: minmax}'
ct_head() { printf 'apiversion: modelslim_v1\nspec:\n  process:\n'; }
# ct_entry ACT INCLUDE EXCLUDE
ct_entry() { printf '  - type: linear_quant\n    qconfig: {act: %s, weight: %s}\n    include: [%s]\n    exclude: [%s]\n' "$1" "$q8" "$2" "$3"; }
ct_tail() { printf '  save:\n  - type: compressed_tensors\n'; }
# compressed NAME MODEL OPTIONS: $tmp/NAME.yaml on MODEL
compressed() {
    run=$1 from=$2
    shift 2
    exits 0 "$run: measure" s measure --model_path "$from" --recipe "$tmp/$run.yaml" --format json "$@"
    cp "$tmp/out" "$tmp/want"
    exits 0 "$run: quant" s quant --model_path "$from" --config_path "$tmp/$run.yaml" --save_path "$tmp/$run" $quant_options --verify
    has "$tmp/out" "0 problems" "$run: read back"
    exits 0 "$run: somebody else reads it" python3 tests/lib/dequantize.py "$tmp/$run" "$from" "$tmp/$run.float" "$tmp/loaded.yaml"
    exits 0 "$run: and measures it" s measure --model_path "$tmp/$run.float" --recipe "$tmp/loaded.yaml" --format json "$@"
    near 1e-6 "$(ppl quantized "$tmp/want")" "$(ppl quantized "$tmp/out")" "$run: the perplexity that was measured"
    rm -rf "${tmp:?}/$run" "$tmp/$run.float"
}
quant_options='--max-samples 4 --seq-len 64'
for kind in token tensor tensor_sym; do
    eval "act=\$$kind"
    { ct_head; ct_entry "$act" "'*'" "'*layers.3.*down_proj'"; ct_tail; } >"$tmp/ct-$kind.yaml"
    compressed ct-$kind $model --max-samples 4 --seq-len 64 --ctx 64
done
# three kinds, and floats among them, in either order
mixed() { ct_head; for e in "$@"; do eval "ct_entry $e"; done; ct_tail; }
a="\"\$tensor\" \"'*down_proj', '*o_proj'\" \"'*layers.3.*'\"" b="\"\$token\" \"'*q_proj', '*k_proj', '*v_proj'\" ''" \
    c="\"\$tensor_sym\" \"'*gate_proj', '*up_proj'\" \"'*layers.0.*'\""
mixed "$a" "$b" "$c" >"$tmp/ct-mixed.yaml"
mixed "$c" "$b" "$a" >"$tmp/ct-turned.yaml"
compressed ct-mixed $model --max-samples 4 --seq-len 64 --ctx 64
compressed ct-turned $model --max-samples 4 --seq-len 64 --ctx 64
# experts: attention static, experts per token, the router and one layer in float
python3 -c '
import random
r = random.Random(3)
for n in (40, 33, 50):
    print("{\"input_ids\":[%s]}" % ",".join(str(r.randrange(100)) for _ in range(n)))' >"$tmp/ids.jsonl"
quant_options=
for m in qwen3_moe mixtral deepseek_v3 qwen3_next minimax_m2; do
    { ct_head; ct_entry "$tensor" "'*attn*'" "'*kv_b_proj', '*layers.1.*'"
    ct_entry "$token" "'*mlp*', '*block_sparse_moe*'" "'*.gate', '*shared_expert_gate', '*layers.0.*'"; ct_tail
    echo "  dataset: $tmp/ids.jsonl"; } >"$tmp/ct-$m.yaml"
    compressed ct-$m tests/golden/models/$m/fp32 --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl" --ctx 32
done
# ssz searches its scale, so its grid is not found again from values on it: weights only, by a reader's own measure
exits 0 "w4a8: quant" s quant --model_path $model --config_path "$tmp/w4a8.yaml" --save_path "$tmp/w4a8" --verify --format json
cp "$tmp/out" "$tmp/verify"
exits 0 "w4a8: somebody else reads it" python3 tests/lib/dequantize.py "$tmp/w4a8" $model "$tmp/w4a8.float"
exits 0 "w4a8: errors agree with --verify" python3 - "$tmp/verify" $model "$tmp/w4a8.float" <<'P'
import array, json, math, os, struct, sys
def load(d):
    out = {}
    with open(os.path.join(d, "model.safetensors"), "rb") as f:
        h = json.loads(f.read(struct.unpack("<Q", f.read(8))[0])); b = f.read()
    for n, t in h.items():
        if n == "__metadata__": continue
        x = b[slice(*t["data_offsets"])]
        if t["dtype"] == "BF16":
            w = bytearray(2 * len(x)); w[2::4], w[3::4] = x[0::2], x[1::2]; x = bytes(w)
        out[n] = array.array("f", x)
    return out
rows = json.load(open(sys.argv[1]))["verify"][0]["layers"]
a, b = load(sys.argv[2]), load(sys.argv[3])
seen = 0
for r in rows:
    if r["type"] == "FLOAT": continue
    w, v = a[r["name"] + ".weight"], b[r["name"] + ".weight"]
    e = math.sqrt(sum((p - q) ** 2 for p, q in zip(w, v)) / sum(p * p for p in w))
    assert abs(e - r["error"]) <= 1e-5 * e, (r, e)
    seen += 1
assert seen == 55, seen
P
finish
