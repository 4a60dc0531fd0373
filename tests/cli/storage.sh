#!/bin/sh
# asan: yes
# Weights stored as codes: each way must give what the same model with the decoded values in BF16 gives, exactly, whatever is done with it.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
printf '{"input_ids":[1,5,90,17,33,60,8,8,21,40]}\n{"input_ids":[2,70,71,0,95]}\n{"input_ids":[9,3,14,15,92,65,35,89,79,32,38,46,26]}\n' >"$tmp/ids.jsonl"
scores() { sed 's/"model":"[^"]*"//' "$1"; }
effect() {
    python3 -c 'import json,sys; d=json.load(sys.stdin); [d.pop(k,None) for k in ("model","seconds","computed")]; print(json.dumps(d,sort_keys=True))' <"$1"
}
same_run() { # NAME CODED PLAIN
    for sim in fp32 exact; do
        for m in "$2" "$3"; do
            exits 0 "$1: forward $sim" s forward --model_path "$m" --ids 1,5,90,17,33,60,8,8,21,40 --dtype-sim $sim --out "$tmp/f.safetensors"
            mv "$tmp/f.safetensors" "$tmp/f-$(basename "$m")"
        done
        same "$tmp/f-$(basename "$2")" "$tmp/f-$(basename "$3")" "$1: every step of $sim is the same"
    done
    for sim in fp32 exact; do
        exits 0 "$1: analyze" s analyze --model_path "$2" --calib_dataset "$tmp/ids.jsonl" --metrics local_error --dtype-sim $sim --format json
        scores "$tmp/out" >"$tmp/a"
        exits 0 "$1: analyze plain" s analyze --model_path "$3" --calib_dataset "$tmp/ids.jsonl" --metrics local_error --dtype-sim $sim --format json
        scores "$tmp/out" >"$tmp/b"
        same "$tmp/a" "$tmp/b" "$1: scores of $sim are the same"
    done
    exits 0 "$1: measure" s measure --model_path "$2" --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl" --format json
    effect "$tmp/out" >"$tmp/a"
    exits 0 "$1: measure plain" s measure --model_path "$3" --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl" --format json
    effect "$tmp/out" >"$tmp/b"
    same "$tmp/a" "$tmp/b" "$1: the effect is the same"
    exits 0 "$1: check" s check "$2"
    exits 0 "$1: info" s info "$2" --format json
    mv "$tmp/out" "$tmp/a"
    exits 0 "$1: info plain" s info "$3" --format json
    if python3 - "$tmp/a" "$tmp/out" <<'PY' 2>"$tmp/log"; then ok "$1: the same facts"; else not_ok "$1: the same facts"; tail -n 1 "$tmp/log" | sed 's/^/# /'; fi
import json, sys
a, b = (json.load(open(p)) for p in sys.argv[1:3])
for k in ("parameters", "values", "linears", "quantizable", "kinds", "groups", "alone", "size", "layers"):
    assert a[k] == b[k], (k, a[k], b[k])
PY
}
for kind in fp8 e8m0 int4 mxfp4 c_fp8 f_fp8 f; do
    python3 tests/lib/coded_models.py $kind "$tmp/$kind" "$tmp/$kind-plain" || not_ok "$kind: made"
    same_run $kind "$tmp/$kind" "$tmp/$kind-plain"
done

# against the peer: the model that it made of each
for case in fp8block32_to_bf16_hf:qwen3-bf16-2 int4packed_to_bf16_hf:qwen3-bf16-5; do
    same_run "${case%:*}" tests/golden/formats/_models/${case#*:} tests/golden/formats/convert_${case%:*}/out
done

exits 0 "info" s info "$tmp/e8m0"
has "$tmp/out" "stored as     7 linears FP8 E4M3 with E8M0 scales (100.0 KiB), 6 linears FP4 E2M1 with E8M0 scales (270.9 KiB), 1 linear BF16 (50.0 KiB)" "tells how weights are stored"
exits 0 "info of a plain one" s info "$tmp/e8m0-plain"
if grep -q "stored as" "$tmp/out"; then not_ok "a plain model has no such line"; else ok "a plain model has no such line"; fi

# multi-token prediction layers are listed: three decoder layers of which config.json counts one
mkdir "$tmp/mtp"
cp tests/golden/models/llama/fp32/model.safetensors "$tmp/mtp"
sed 's/"num_hidden_layers": *[0-9]*/"num_hidden_layers": 1/' tests/golden/models/llama/fp32/config.json >"$tmp/mtp/config.json"
exits 0 "info with MTP layers" s info "$tmp/mtp"
has "$tmp/out" "mtp layers    2 from model.layers.1 on: 14 linears, " "are listed"
has "$tmp/out" "parameters: listed, not analysed" "and said not to be analysed"
exits 0 "info as JSON" s info "$tmp/mtp" --format json
has "$tmp/out" '"mtp":{"layers":2,"linears":14,"parameters":' "in JSON too"
sed 's/"num_hidden_layers": 2/"num_hidden_layers": 1/' "$tmp/int4/config.json" >"$tmp/mtp/config.json"
cp "$tmp/int4/model.safetensors" "$tmp/mtp"
exits 0 "info with coded MTP layers" s info "$tmp/mtp"
has "$tmp/out" "mtp layers    1 from model.layers.1 on: 7 linears, " "their codes count as linears, scales don't"

# damage
cat >"$tmp/damage.py" <<'PY'
# damage.py SRC DST TENSOR OFFSET HEX: bytes of a tensor; OFFSET drop: leaves it out
import json, os, shutil, struct, sys
src, dst, name, at = sys.argv[1:5]
os.makedirs(dst)
shutil.copy(os.path.join(src, "config.json"), dst)
b = open(os.path.join(src, "model.safetensors"), "rb").read()
n = struct.unpack("<Q", b[:8])[0]
h, body = json.loads(b[8:8 + n]), bytearray(b[8 + n:])
lo, hi = h[name]["data_offsets"]
if at == "drop":
    del h[name], body[lo:hi]
    for v in h.values():
        v["data_offsets"] = [x - (hi - lo if x > lo else 0) for x in v["data_offsets"]]
elif at == "shape":
    h[name]["shape"] = json.loads(sys.argv[5])
else:
    x = bytes.fromhex(sys.argv[5]); body[lo + int(at):lo + int(at) + len(x)] = x
t = json.dumps(h).encode()
open(os.path.join(dst, "model.safetensors"), "wb").write(struct.pack("<Q", len(t)) + t + body)
PY
q=model.layers.0.self_attn.q_proj
damage() { rm -rf "$tmp/bad"; python3 "$tmp/damage.py" "$1" "$tmp/bad" "$2" "$3" "$4"; }
refused() { exits 65 "$1" s info "$tmp/bad"; has "$tmp/err" "$2" "$1: names it"; }
damage "$tmp/fp8" $q.weight_scale_inv drop
refused "a missing scale" "tensor '$q.weight_scale_inv' is missing: '$q.weight' is F8_E4M3"
damage "$tmp/int4" $q.weight_scale drop
refused "a missing group scale" "tensor '$q.weight_scale' is missing: '$q.weight_packed' is I32"
damage "$tmp/mxfp4" model.layers.1.mlp.experts.down_proj_scales drop
refused "missing MX scales" "tensor 'model.layers.1.mlp.experts.down_proj_scales' is missing"
damage "$tmp/fp8" $q.weight_scale_inv shape '[1,4]'
refused "a scale of another shape" "tensor '$q.weight_scale_inv' has shape [1,4], expected [2,2] (one scale for 48x40 values)"
damage "$tmp/int4" $q.weight_shape 0 3d00000000000000
exits 65 "a weight_shape that lies" s forward --model_path "$tmp/bad" --ids 1,2 --out "$tmp/f.safetensors"
has "$tmp/err" "tensor '$q.weight_shape' says [61,60], config.json says [60,60]" "is named"
damage "$tmp/fp8" $q.weight 5 7f
exits 65 "a NaN code" s check "$tmp/bad"
has "$tmp/out" "$q.weight  F8_E4M3 [72,72]: 1 NaN and 0 Inf, first NaN at [0,5]" "is named"
damage "$tmp/fp8" $q.weight_scale_inv 4 0000c07f
exits 65 "a NaN scale" s check "$tmp/bad"
has "$tmp/out" "$q.weight_scale_inv  F32 [2,2]: 1 NaN" "is named"
damage "$tmp/fp8" $q.weight_scale_inv 0 0000fa43
exits 65 "a scale of 500" s check "$tmp/bad"
has "$tmp/out" "$q.weight_scale_inv  F32 [2,2]: 1 values above 223.214 (largest 500), first at [0,0]" "is absurd: its values pass 1e5"
damage "$tmp/mxfp4" model.layers.0.mlp.experts.gate_up_proj_scales 3 ff
exits 65 "an MX scale of 255" s check "$tmp/bad"
has "$tmp/out" "model.layers.0.mlp.experts.gate_up_proj_scales  U8 [4,1088,2]: 1 NaN" "is NaN"
damage "$tmp/mxfp4" model.layers.0.mlp.experts.gate_up_proj_scales 3 a0
exits 65 "an MX scale of 2^33" s check "$tmp/bad"
has "$tmp/out" "1 values above 16666.7 (largest 8.59e+09), first at [0,1,1]" "is absurd"
cp -r "$tmp/fp8" "$tmp/cut"
truncate -s -1 "$tmp/cut/model.safetensors"
exits 65 "a file cut short" s info "$tmp/cut"
for m in awq gptq bitsandbytes fbgemm_fp8; do
    rm -rf "$tmp/bad"; cp -r "$tmp/fp8" "$tmp/bad"
    sed -i "s/\"quant_method\": \"fp8\"/\"quant_method\": \"$m\"/" "$tmp/bad/config.json"
    refused "$m" "'quantization_config': quant_method '$m' is not read"
done
finish
