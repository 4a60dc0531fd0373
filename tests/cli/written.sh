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
