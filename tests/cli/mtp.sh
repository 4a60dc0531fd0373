#!/bin/sh
# The layer of multi-token prediction from the checkpoint to the quantized one: a recorded model gets one.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
cat >"$tmp/add.py" <<'EOF'
import json, struct, sys, random
src, dst, drop = sys.argv[1], sys.argv[2], sys.argv[3:]
raw = open(src + "/model.safetensors", "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head, data = json.loads(raw[8:8 + n]), raw[8 + n:]
config = json.load(open(src + "/config.json"))
layers, hidden = config["num_hidden_layers"], config["hidden_size"]
out = {k: (v["dtype"], v["shape"], data[slice(*v["data_offsets"])]) for k, v in head.items() if k != "__metadata__"}
last, mtp = "model.layers.%d." % (layers - 1), "model.layers.%d." % layers
for k in list(out):
    if k.startswith(last):
        out[mtp + k[len(last):]] = out[k]
rnd = random.Random(5)
def put(name, mean, std, *shape):
    count = 1
    for d in shape:
        count *= d
    out[mtp + name] = ("F32", list(shape), struct.pack("<%df" % count, *(rnd.gauss(mean, std) for _ in range(count))))
put("enorm.weight", 1, .2, hidden)
put("hnorm.weight", 1, .2, hidden)
put("shared_head.norm.weight", 1, .2, hidden)
put("eh_proj.weight", 0, .15, hidden, 2 * hidden)
for name in ("embed_tokens.weight", "shared_head.head.weight"):
    out[mtp + name] = out["model.embed_tokens.weight" if name[0] == "e" else "lm_head.weight"]
for d in drop:
    del out[mtp + d]
header, at = {}, 0
for k, (t, shape, b) in out.items():
    header[k] = {"dtype": t, "shape": shape, "data_offsets": [at, at + len(b)]}
    at += len(b)
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(dst + "/model.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + b"".join(b for _, _, b in out.values()))
json.dump(config, open(dst + "/config.json", "w"))
EOF
whole=$tmp/whole part=$tmp/part
mkdir "$whole" "$part"
python3 "$tmp/add.py" tests/golden/models/deepseek_v3/fp32 "$whole"
python3 "$tmp/add.py" tests/golden/models/deepseek_v3/fp32 "$part" enorm.weight
printf '{"input_ids":[116,56,100,30,21,14,97,86,116,98]}\n{"input_ids":[127,121,105,28,77,19,85,15,61,71]}\n' >"$tmp/ids.jsonl"

# ---- listed ----
exits 0 "info" s info "$whole"
has "$tmp/out" "34 linears, 50,744 parameters: it is analysed and quantized" "tells that it runs"
exits 0 "info of an incomplete one" s info "$part"
has "$tmp/out" "listed, not analysed: " "tells that it doesn't"
has "$tmp/out" "'model.layers.3.enorm.weight' is missing" "and why"

# ---- analysed ----
a() { s analyze local_error --calib_dataset "$tmp/ids.jsonl" --format json --model_path "$@"; }
exits 0 "analyze" a "$whole"
for l in eh_proj self_attn.q_a_proj mlp.experts.0.gate_proj mlp.shared_experts.down_proj; do
    has "$tmp/out" "\"model.layers.3.$l\"" "ranks $l"
done
sed 's/"rank":[0-9]*//; s/,$//' "$tmp/out" | grep '"model.layers.[012]' | sort >"$tmp/with"
exits 0 "analyze an incomplete one" a "$part"
sed 's/"rank":[0-9]*//; s/,$//; s/\]}$//' "$tmp/out" | grep '"model.layers.[0123]' | sort >"$tmp/without"
same "$tmp/without" "$tmp/with" "the decoder's scores are the same"

# ---- measured as float ----
m() { s measure --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl" "$@"; }
effect() { grep -E '^(KL|same|perplexity|output)' "$tmp/out"; }
exits 0 "measure" m --model_path "$whole"
has "$tmp/err" "33 quantized linears of the multi-token prediction layer run in float" "says what it leaves out"
effect >"$tmp/with"
exits 0 "with the layer in float" m --model_path "$whole" --exclude 'model.layers.3.*'
hasnt=$(grep -c "run in float" "$tmp/err")
is 0 "$hasnt" "has nothing to leave out"
effect >"$tmp/float"
same "$tmp/float" "$tmp/with" "the same effect"
exits 0 "without the layer" m --model_path "$part"
effect >"$tmp/without"
same "$tmp/without" "$tmp/with" "and as without the layer"

# ---- quantized ----
for mode in static dynamic; do
    sed -e "s|^\( *\)dataset:.*|\1dataset: $tmp/ids.jsonl|" -e "s/- '\*\.{gate,.*/- '*.kv_b_proj'/" lab_practice/default/default-w8a8-$mode.yaml >"$tmp/$mode.yaml"
    for how in "--dtype-sim fp32" "--dtype-sim fast" "--compat peer"; do
        to=$tmp/$mode-${how##* }
        exits 0 "quant $mode $how" s quant --model_path "$whole" --save_path "$to" --config_path "$tmp/$mode.yaml" --verify --force $how
        has "$tmp/out" "0 problems" "reads back what it wrote"
        has "$to/quant_model_description.json" '"model.layers.3.eh_proj.weight": "W8A8' "eh_proj is quantized"
        has "$to/quant_model_description.json" '"model.layers.3.self_attn.q_b_proj.weight": "W8A8' "and the layer"
        for t in enorm hnorm shared_head.norm shared_head.head embed_tokens; do
            has "$to/quant_model_description.json" "\"model.layers.3.$t.weight\": \"FLOAT\"" "$t is written as it is"
        done
    done
done
# compressed-tensors: whoever makes linears of a copied layer, its projection and its head finds them left alone
sed 's/ascendv1_saver/compressed_tensors/' "$tmp/dynamic.yaml" >"$tmp/ct.yaml"
for m in part whole; do
    exits 0 "compressed-tensors, $m" s quant --model_path "$tmp/$m" --save_path "$tmp/ct-$m" --config_path "$tmp/ct.yaml" --verify
    has "$tmp/out" "0 problems" "reads back what it wrote"
    exits 0 "somebody else's loader agrees" python3 tests/lib/dequantize.py "$tmp/ct-$m" "$tmp/$m" "$tmp/float-$m"
done
finish
