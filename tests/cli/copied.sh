#!/bin/sh
# asan: yes
# quant looks at what it copies: NaN and Inf outside the quantized weights are refused by name by every saver and recipe.
. tests/tap.sh
model=$tmp/demo
cp -r lab_models/demo "$model" # its head is the embedding: here it gets one of its own
python3 - "$model" <<'P'
import json, struct, sys
p = sys.argv[1] + "/model.safetensors"
raw = open(p, "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head, body = json.loads(raw[8:8 + n]), raw[8 + n:]
e = head["model.embed_tokens.weight"]
head["lm_head.weight"] = dict(e, data_offsets=[len(body), len(body) + e["data_offsets"][1] - e["data_offsets"][0]])
body += body[slice(*e["data_offsets"])]
text = json.dumps(head).encode()
text += b" " * (-len(text) % 8)
open(p, "wb").write(struct.pack("<Q", len(text)) + text + body)
c = json.load(open(sys.argv[1] + "/config.json"))
c["tie_word_embeddings"] = False
json.dump(c, open(sys.argv[1] + "/config.json", "w"))
P
# recipe SAVER ACT WEIGHT
recipe() {
    printf 'apiversion: modelslim_v1\nspec:\n  process:\n  - type: linear_quant\n    qconfig:\n      act: %s\n      weight: %s\n' "$2" "$3"
    printf "    include: ['*']\n    exclude: ['*layers.3.*down_proj']\n  save:\n  - type: %s\n" "$1"
}
dynamic='{dtype: int8, scope: per_token, symmetric: true, method: minmax}' w8='{dtype: int8, scope: per_channel, symmetric: true, method: minmax}'
mx='{dtype: mxfp8, scope: per_block, symmetric: true, method: minmax}'
recipe ascendv1_saver "$dynamic" "$w8" >"$tmp/ascend.yaml"
recipe mindie_format_saver "$mx" "$mx" >"$tmp/mindie.yaml"
recipe compressed_tensors "$dynamic" "$w8" >"$tmp/compressed.yaml"
q() { "$SLIMSCOPE" quant --model_path "$1" --config_path "$tmp/$2.yaml" --save_path "$tmp/made" --threads 1; }
for t in lm_head.weight model.embed_tokens.weight model.norm.weight model.layers.0.input_layernorm.weight \
    model.layers.3.mlp.down_proj.weight; do
    for how in nan inf; do
        python3 tests/lib/spoil_model.py "$model" "$tmp/bad" "$how:$t"
        case $t in *norm*) at='[50]' ;; *) at='[0,50]' ;; esac
        word=NaN
        [ $how = nan ] || word=Inf
        for saver in ascend mindie compressed; do
            exits 65 "$saver: $how in $t" q "$tmp/bad" $saver
            has "$tmp/err" "'$t' has $word at $at: the model is damaged; 'slimscope check' names every such tensor" "is named"
            [ -e "$tmp/made" ] && not_ok "nothing is made" || ok "nothing is made"
            rm -rf "$tmp/made"
        done
        rm -rf "$tmp/bad"
    done
done
# the bias of a linear that is quantized
cp -r tests/golden/models/qwen2/fp32 "$tmp/biased"
python3 - "$tmp/biased/model.safetensors" <<'P'
import json, struct, sys
b = bytearray(open(sys.argv[1], "rb").read())
n = struct.unpack("<Q", b[:8])[0]
at = json.loads(b[8:8 + n])["model.layers.1.self_attn.k_proj.bias"]["data_offsets"][0]
struct.pack_into("<f", b, 8 + n + at + 4 * 3, float("nan"))
open(sys.argv[1], "wb").write(b)
P
for saver in ascend compressed; do
    exits 65 "$saver: a bias" q "$tmp/biased" $saver
    has "$tmp/err" "'model.layers.1.self_attn.k_proj.bias' would be written with NaN at value 3: the model is damaged" "is named"
    rm -rf "$tmp/made"
done
exits 0 "a good one" q "$model" compressed
finish
