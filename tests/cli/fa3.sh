#!/bin/sh
# Attention that reads quantized queries, keys and values: what is written, read again, refused and measured.
. tests/tap.sh
model=tests/golden/models/qwen3/fp32
printf '{"input_ids": [1, 2, 3, 4, 5, 6, 7, 8]}\n{"input_ids": [9, 8, 7, 6, 5]}\n' >"$tmp/ids.jsonl"
int8="{dtype: int8, scope: per_head, symmetric: true, method: minmax}"
fp8="{dtype: fp8_e4m3, scope: per_head, symmetric: true, method: minmax}"
token="{dtype: fp8_e4m3, scope: per_token, symmetric: true, method: minmax}"
block() { echo "{dtype: $1, scope: per_block, symmetric: true, method: minmax}"; }
# recipe SAVER KEYS...
recipe() { printf 'apiversion: modelslim_v1\nspec:\n  dataset: %s\n  process: [{type: fa3_quant%s}]\n  save: [{type: %s}]\n' "$tmp/ids.jsonl" "$2" "$1" >"$tmp/r.yaml"; }
s() { "$SLIMSCOPE" "$@" >"$tmp/out" 2>"$tmp/err"; }
quant() { rm -rf "$tmp/to"; s quant --model_path ${2:-$model} --config_path "$tmp/r.yaml" --save_path "$tmp/to" --verify $1; }
described() { python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
print(" ".join(f"{k}={v}" for k, v in d.items() if ".0.self_attn." in k and ("fa_" in k or "quant_type" in k) or k == "fa_quant_type"))' "$1"; }
a=model.layers.0.self_attn
tensors() { for p in "$@"; do printf '%s.fa_%s.scale=FAQuant %s.fa_%s.offset=FAQuant ' $a $p $a $p; done; }

# ---- written and read again ----
# written WHAT SAVER KEYS WANT
written() {
    recipe $2 "$3"
    exits 0 "$1: written and read back" quant
    is "$(described "$tmp/to"/quant_model_description*.json)" "$4" "$1: the description"
    exits 0 "$1: good" s check "$tmp/to"
}
one() { echo "$a.fa_q.scale=FAQuant $a.fa_q.offset=FAQuant $a.quant_type=$1 $(tensors k v)fa_quant_type=FAKQuant"; }
written "int8, one scale a head" ascendv1_saver "" "$(one INT8)"
written "fp8, one scale a head" ascendv1_saver ", qconfig: $fp8" "$(one FP8)"
written "scales of tokens" ascendv1_saver ", qconfig: $token" "$a.quant_type=FP8_DYNAMIC"
written "blocks" ascendv1_saver ", qconfig: $(block mxfp4)" "$a.quant_type=MXFP4_DYNAMIC"
written "of each its own" ascendv1_saver ", details: {fa_q: $token, fa_k: $token, fa_v: $int8}" \
    "$a.fa_v.scale=FAQuant $a.fa_v.offset=FAQuant $a.quant_type=QK_FP8_DYNAMIC_V_INT8 fa_quant_type=FAKQuant"
written "one layer only" ascendv1_saver ", include: ['*.1.*']" "fa_quant_type=FAKQuant"
written "in MindIE's form" mindie_format_saver "" "$a.fa_q.scale=FAQuant fa_quant_type=FAKQuant $a.fa_q.offset=FAQuant $a.quant_type=INT8 $(tensors k v | sed 's/ $//')"
written "blocks of fp8, which it alone has" mindie_format_saver ", details: {fa_k: $(block mxfp8)}" "$a.quant_type=K_MXFP8_DYNAMIC"
recipe ascendv1_saver ", details: {fa_k: $int8, fa_v: $fp8}"
quant
python3 - "$tmp/to" >"$tmp/types" <<'P'
import glob, json, struct, sys
for f in glob.glob(sys.argv[1] + "/*.safetensors"):
    raw = open(f, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    for k, v in json.loads(raw[8:8 + n]).items():
        if ".0.self_attn.fa_" in k:
            b, e = v["data_offsets"]
            print(k.split("attn.")[1], v["dtype"], v["shape"], "zero" if not any(raw[8 + n + b:8 + n + e]) else "some")
P
is "$(sort "$tmp/types" | tr '\n' ';')" "fa_k.offset I8 [2, 1] zero;fa_k.scale F32 [2, 1] some;fa_v.offset F32 [2, 1] zero;fa_v.scale F32 [2, 1] some;" "types and shapes"

# ---- latent attention, two attentions a layer ----
for m in deepseek_v3 longcat_flash gpt_oss; do
    recipe ascendv1_saver ""
    exits 0 "$m" quant "" tests/golden/models/$m/fp32
    exits 0 "$m: good" s check "$tmp/to"
done
recipe ascendv1_saver ""
exits 65 "keys that are values" quant "" tests/golden/models/deepseek_v4/fp32
has "$tmp/err" "'layers.0.attn': fa3_quant is not applicable" "says why"


# ---- what engines of single families read ----
w4="{type: linear_quant, qconfig: {act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}, weight: {scope: per_channel, dtype: int4, symmetric: true, method: minmax}}, include: ['*experts*']}"
# family NAME SCOPE
family() {
    printf 'apiversion: modelslim_v1\nspec:\n  dataset: %s\n  process: [{type: fa3_quant, qconfig: {dtype: int8, scope: %s, symmetric: true, method: minmax}}, %s]\n  save: [{type: ascendv1_saver}]\n' "$tmp/ids.jsonl" $2 "$w4" >"$tmp/r.yaml"
    quant "" tests/golden/models/$1/fp32
    grep -ho '"mla_quantize.*\|"indexer_quant.*' "$tmp/to/config.json" "$tmp/to/quant_model_description.json" | tr -d '," '
}
is "$(family deepseek_v3 per_head)" "mla_quantize:w8a8" "scales of heads in config.json"
is "$(family deepseek_v3 per_token)" "mla_quantize:w8a8_dynamic" "scales of tokens"
is "$(family deepseek_v32 per_token)" "indexer_quant_type:INT8_DYNAMIC" "and of an indexer, in the description"
is "$(family deepseek_v32 per_head)" "" "not with scales of heads"

# ---- refused before anything runs ----
recipe compressed_tensors ""
exits 65 "compressed_tensors" quant
has "$tmp/err" "compressed_tensors can't write attention that reads quantized" "names it"
is "$(wc -l <"$tmp/err")" 4 "in a line"
recipe ascendv1_saver ", qconfig: $(block mxfp8)"
exits 65 "a type that the format has no word for" quant
has "$tmp/err" "ascendv1_saver has no word for attention in MXFP8" "names it"
recipe ascendv1_saver ", details: {}"
exits 65 "nothing named" quant
has "$tmp/err" "details names none of fa_q, fa_k and fa_v" "says so"

# ---- what is wrong with an output ----
recipe ascendv1_saver ""
quant
d=$tmp/to/quant_model_description.json
cp "$d" "$tmp/d"
# wrong WHAT FROM TO SAYS
wrong() {
    sed "s/$2/$3/" "$tmp/d" >"$d"
    exits 65 "$1" s check "$tmp/to"
    has "$tmp/out" "$4" "$1: told"
}
wrong "no kind" '"INT8"' '"INT9"' "is 'INT9', which is no kind of quantized attention"
wrong "another kind" '"INT8"' '"FP8"' "is no column of F32"
wrong "a part less" '"INT8"' '"QK_INT8"' "says nothing of it"
wrong "dynamic" '"INT8"' '"INT8_DYNAMIC"' "says nothing of it"

# ---- the run ----
recipe ascendv1_saver ""
s quant --model_path $model --config_path "$tmp/r.yaml" --save_path "$tmp/no" --dry-run
has "$tmp/out" "attention    INT8 for 3 attentions" "told before the run"
"$SLIMSCOPE" measure --model_path $model --recipe "$tmp/r.yaml" --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl" --format json >"$tmp/m1" 2>/dev/null
recipe ascendv1_saver ", qconfig: $(block mxfp4)"
"$SLIMSCOPE" measure --model_path $model --recipe "$tmp/r.yaml" --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl" --format json >"$tmp/m2" 2>/dev/null
is "$(python3 -c 'import json, sys
a, b = (json.load(open(f))["kl"]["mean"] for f in sys.argv[1:])
print(0 < a < b)' "$tmp/m1" "$tmp/m2")" True "measured: more with fewer bits"
exits 0 "measured as the original computes" s measure --model_path $model --recipe "$tmp/r.yaml" --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl" --compat peer
finish
