#!/bin/sh
# asan: yes
# Checkpoints as people have them: other names of tensors and keys, other files, parts that are missing or too many. What is read gives
# the logits of the plain form, bit by bit; the rest says what it is.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
g=tests/golden/models
ids=1,5,9,3,77,12,100,31,8,8,2,64,33,90,17,4,5,6,7,1
cat >"$tmp/logits.py" <<'PY'
import json, struct, sys
f = open(sys.argv[1], "rb"); n = struct.unpack("<Q", f.read(8))[0]; h = json.loads(f.read(n)); b = f.read()
o = h["logits"]["data_offsets"]; sys.stdout.buffer.write(b[o[0]:o[1]])
PY
# logits DIR FILE: of the ids, 128 to a model at least; FILE is empty when it does not run
logits() {
    rm -f "$tmp/f.st"
    s forward --model_path "$1" --ids $ids --out "$tmp/f.st" --threads 1 >"$tmp/out" 2>"$tmp/err" || { : >"$2"; return 1; }
    python3 "$tmp/logits.py" "$tmp/f.st" >"$2"
}
# form NAME SOURCE "BASE KINDS" "KINDS": both forms give the same logits; the second one stays in $tmp/m
form() {
    rm -rf "$tmp/p" "$tmp/m"
    python3 tests/lib/redialect.py "$2" "$tmp/p" $3 && python3 tests/lib/redialect.py "$2" "$tmp/m" $4 || exit 1
    logits "$tmp/p" "$tmp/want"
    logits "$tmp/m" "$tmp/got"
    if [ -s "$tmp/want" ] && cmp -s "$tmp/want" "$tmp/got"; then ok "$1"; else not_ok "$1"; head -n 3 "$tmp/err" | sed 's/^/# /'; fi
}
warns() { has "$tmp/err" "warning: " "$2: a warning"; has "$tmp/err" "$1" "$2: says it"; }
quiet() { is "" "$(cat "$tmp/err")" "$1: nothing to say"; }
# refused CODE KINDS TEXT NAME [SOURCE]
refused() {
    rm -rf "$tmp/m"
    python3 tests/lib/redialect.py "${5:-$g/llama/fp32}" "$tmp/m" $2 || exit 1
    exits "$1" "$4: refused" s info "$tmp/m"
    has "$tmp/err" "$3" "$4: says why"
}

for p in bare language_model model.language_model language _orig_mod module base_model thinker strange; do
    form "names that begin otherwise: $p" $g/llama/fp32 plain $p
    quiet "$p"
done
form "a part of a multimodal model" $g/qwen3/fp32 plain "language_model nested vision"
warns "2 tensors are not of the decoder, the first is" "a part of a multimodal model"
refused 65 "no_table" "tensor 'model.embed_tokens.weight' is missing" "no table of embeddings"
python3 tests/lib/redialect.py $g/llama/fp32 "$tmp/p" plain

# ---- what is written keeps the names ----
cat >"$tmp/r.yaml" <<'Y'
apiversion: modelslim_v1
spec:
  process:
    - type: linear_quant
      qconfig:
        act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}
        weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}
      include: ["*"]
      exclude: ["*down_proj"]
  save:
    - type: ascendv1_saver
      part_file_size: 4
Y
python3 tests/lib/redialect.py $g/qwen3/fp32 "$tmp/vl" language_model nested vision
exits 0 "a part of a multimodal model is quantized" s quant --model_path "$tmp/vl" --config_path "$tmp/r.yaml" --save_path "$tmp/qvl" --verify
exits 0 "the plain one too" s quant --model_path $g/qwen3/fp32 --config_path "$tmp/r.yaml" --save_path "$tmp/qp"
cat >"$tmp/names.py" <<'PY'
import glob, json, struct, sys
def load(d):
    out = {}
    for p in glob.glob(d + "/*.safetensors"):
        f = open(p, "rb"); n = struct.unpack("<Q", f.read(8))[0]; h = json.loads(f.read(n)); b = f.read()
        out.update({k: (v["dtype"], v["shape"], b[v["data_offsets"][0]:v["data_offsets"][1]]) for k, v in h.items() if k != "__metadata__"})
    d = [p for p in glob.glob(d + "/quant_model_description*.json")]
    return out, json.load(open(d[0]))
(a, da), (b, db) = load(sys.argv[1]), load(sys.argv[2])
full = lambda k: k if k.startswith("model_") or "." not in k else "language_model." + k
assert {full(k): v for k, v in b.items()}.items() <= a.items(), set(map(full, b)) - set(a)
assert set(a) - set(map(full, b)) == {"vision_tower.patch.weight", "visual.layers.0.attn.weight"}
assert all(da[full(k)] == v for k, v in db.items() if k.endswith("weight")), [k for k in db if full(k) not in da]
assert da["language_model.model.layers.0.mlp.down_proj.weight"] == "FLOAT"
PY
if python3 "$tmp/names.py" "$tmp/qvl" "$tmp/qp" >"$tmp/log" 2>&1; then ok "names, values and levels of the output"; else not_ok "names, values and levels of the output"; tail -n 2 "$tmp/log"; fi

sed 's/ascendv1_saver/compressed_tensors/' "$tmp/r.yaml" >"$tmp/ct.yaml"
exits 0 "as compressed-tensors too" s quant --model_path "$tmp/vl" --config_path "$tmp/ct.yaml" --save_path "$tmp/qct"
cat >"$tmp/ignore.py" <<'PY'
import json, re, sys
c = json.load(open(sys.argv[1]))["quantization_config"]["ignore"]
left = lambda n: any(re.match(i[3:], n) if i.startswith("re:") else i == n for i in c)
for n in ("language_model.lm_head", "language_model.model.layers.0.mlp.down_proj", "vision_tower.patch", "visual.layers.0.attn"):
    assert left(n), (n, c)
assert not left("language_model.model.layers.0.mlp.up_proj") and not left("lm_head"), c
PY
if python3 "$tmp/ignore.py" "$tmp/qct/config.json" >"$tmp/log" 2>&1; then ok "its list of what is left alone has the names"; else not_ok "its list of what is left alone has the names"; tail -n 1 "$tmp/log"; fi

# ---- keys that configuration classes take for the same ----
form "qwen3_moe with num_local_experts" $g/qwen3_moe/fp32 plain num_experts:num_local_experts
form "qwen3_moe with n_routed_experts" $g/qwen3_moe/fp32 plain num_experts:n_routed_experts
form "qwen2_moe with num_local_experts" $g/qwen2_moe/fp32 plain num_experts:num_local_experts
form "mixtral with num_experts" $g/mixtral/fp32 plain num_local_experts:num_experts
form "minimax_m2 with num_experts" $g/minimax_m2/fp32 plain num_local_experts:num_experts
form "gpt_oss with num_experts" $g/gpt_oss/fp32 plain num_local_experts:num_experts
form "deepseek_v3 with num_local_experts" $g/deepseek_v3/fp32 plain n_routed_experts:num_local_experts
form "deepseek_v2 with num_experts" $g/deepseek_v2/fp32 plain n_routed_experts:num_experts
form "glm4_moe with num_local_experts" $g/glm4_moe/fp32 plain n_routed_experts:num_local_experts
form "longcat_flash with the usual names" $g/longcat_flash/fp32 plain \
    "moe_topk:num_experts_per_tok n_routed_experts:num_local_experts expert_ffn_hidden_size:moe_intermediate_size ffn_hidden_size:intermediate_size"
form "a null is no value" $g/qwen3_moe/fp32 plain "num_experts:num_local_experts num_experts=null"
for m in deepseek_v32 glm_moe_dsa; do
    form "$m with indexed_attention" $g/$m/fp32 plain layer_types
    form "$m with deepseek_sparse_attention" $g/$m/fp32 plain old_layer_types
done
form "deepseek_v4 as transformers saves it" $g/deepseek_v4/fp32 plain deepseek_v4
quiet "deepseek_v4 as transformers saves it"
refused 65 'deepseek_v4 mlp_layer_types=["moe","hash_moe","moe","moe"]' "'mlp_layer_types[1]' is hash_moe behind a layer that is not" \
    "hash_moe behind moe" $g/deepseek_v4/fp32
refused 65 'deepseek_v4 layer_types=["full_attention","sliding_attention","sliding_attention","sliding_attention"]' \
    "'layer_types[0]' is 'full_attention': this family has" "another word in layer_types" $g/deepseek_v4/fp32
for t in '"auto"' '"float8_e4m3fn"'; do
    form "dtype $t" $g/llama/fp32 plain "torch_dtype=null dtype=$t"
done
form "config.json as Python writes it" $g/llama/fp32 plain python_json
exits 0 "and its output" s quant --model_path "$tmp/m" --config_path "$tmp/r.yaml" --save_path "$tmp/qj"
is "[True, False]" "$(python3 -c 'import json,sys; c=json.load(open(sys.argv[1])); print([c["swa"] == float("inf"), c["use_cache"]])' "$tmp/qj/config.json")" \
    "the output's config.json has them"
is 1 "$(grep -c '"hidden_size"' "$tmp/qj/config.json")" "each key once"
refused 65 'rms_norm_eps=NaN' "'rms_norm_eps' must be a finite number" "a NaN that is read"

# ---- the index, and files without one ----
form "two shards" $g/llama/fp32 plain two_shards
form "an overlay shard" $g/llama/fp32 plain overlay
warns "tensor 'model.embed_tokens.weight' (model-00002-of-00002.safetensors) is in several shards and is read where the index says" "an overlay shard"
exits 0 "it is quantized" s quant --model_path "$tmp/m" --config_path "$tmp/r.yaml" --save_path "$tmp/qo"
exits 0 "as the plain one" s quant --model_path "$tmp/p" --config_path "$tmp/r.yaml" --save_path "$tmp/qq"
same "$tmp/qo/$(cd "$tmp/qo" && ls *.safetensors)" "$tmp/qq/$(cd "$tmp/qq" && ls *.safetensors)" "with the same bytes"
form "an index that names more" $g/llama/fp32 plain names_more
warns "tensor 'mtp.fc.weight' (model-00002-of-00002.safetensors) is in the index and in no shard" "an index that names more"
refused 65 names_needed "tensor 'model.layers.0.mlp.up_proj.weight' is missing in '$tmp/m/model-00002-of-00002.safetensors', where the index says it is" \
    "an index that names what is needed"
form "shards without an index" $g/llama/fp32 plain no_index
warns "there is no model.safetensors.index.json: the 2 shards of the folder are read" "shards without an index"
rm "$tmp/m/model-00002-of-00002.safetensors"
exits 65 "a shard too few" s info "$tmp/m"
has "$tmp/err" "1 of 2 shards: model-00002-of-00002.safetensors is missing" "it is named"
rm "$tmp/m/config.json" "$tmp"/m/*.safetensors
: >"$tmp/m/tiny.Q4_K_M.gguf"
exits 65 "a folder of another kind" s info "$tmp/m"
has "$tmp/err" "; the folder has a GGUF model: give the Hugging Face checkpoint it was made from ('tiny.Q4_K_M.gguf')" "it is named"

# ---- heads ----
form "tied, with an equal head" $g/llama/fp32 "tied" same_head
quiet "tied, with an equal head"
form "tied, with a head of its own" $g/llama/fp32 "tied" own_head
warns "'lm_head.weight' is not the table of embeddings, but tie_word_embeddings is true: it is not used" "tied, with a head of its own"
form "the whole model's word on a tied head" $g/qwen3/fp32 "tied" "tied untied nested tie_word_embeddings=true"
form "the part's word on a tied head" $g/qwen3/fp32 "tied" "tied nested tie_word_embeddings=false"
rm -rf "$tmp/m"
python3 tests/lib/redialect.py $g/llama/fp32 "$tmp/m" no_head untied
printf '{"input_ids":[%s]}\n' $ids >"$tmp/ids.jsonl"
exits 0 "no head: analyze" s analyze --model_path "$tmp/m" --calib_dataset "$tmp/ids.jsonl"
warns "there is no lm_head.weight and tie_word_embeddings is false: the model gives no logits" "no head"
exits 0 "no head: quant" s quant --model_path "$tmp/m" --config_path "$tmp/r.yaml" --save_path "$tmp/qh"
exits 65 "no head: measure" s measure --model_path "$tmp/m" --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl"
has "$tmp/err" "has no head and gives no logits: KL divergence and perplexity cannot be measured" "it says why"
exits 0 "no head: forward" s forward --model_path "$tmp/m" --ids $ids --out "$tmp/f.st"
exits 0 "no head: info" s info "$tmp/m"
if grep -q "head tied" "$tmp/out"; then not_ok "no head is no tied head"; else ok "no head is no tied head"; fi

# ---- codes that are not read ----
q=model.layers.0.self_attn.q_proj
while read -r kind text; do
    refused 65 "$kind" "$text" "weights stored as $kind"
done <<END
gptq tensor '$q.weight' is missing, and '$q.qweight' is there: weights stored as GPTQ are not read
awq tensor '$q.weight' is missing, and '$q.qweight' is there: weights stored as AWQ or GPTQ are not read
bnb4 tensor '$q.weight' is U8, and '$q.weight.absmax' is there: weights stored as bitsandbytes with 4 bits are not read
bnb8 tensor '$q.weight' is I8, and '$q.SCB' is there: weights stored as bitsandbytes with 8 bits are not read
hqq tensor '$q.weight' is missing, and '$q.W_q' is there: weights stored as HQQ are not read
fp8_tensor tensor '$q.weight' is F8_E4M3, and '$q.weight_scale' is there: weights stored as codes with a scale for each tensor or row are not read
int8 tensor '$q.weight' is I8, and '$q.weight_scale' is there: weights stored as codes with a scale for each tensor or row are not read
END
refused 65 'gptq quantization_config={"quant_method":"gptq"}' "/config.json': 'quantization_config': quant_method 'gptq' is not read" "an entry for them"
form "an entry for coded weights on floats" $g/llama/fp32 plain 'quantization_config={"quant_method":"bitsandbytes","load_in_4bit":true}'
warns "but the weights are floats: it is left aside" "an entry for coded weights on floats"
exits 0 "and its output" s quant --model_path "$tmp/m" --config_path "$tmp/r.yaml" --save_path "$tmp/qb"
if grep -q bitsandbytes "$tmp/qb/config.json"; then not_ok "does not have the entry"; else ok "does not have the entry"; fi

# ---- keys that change what is computed ----
refused 65 use_bidirectional_attention=true "'use_bidirectional_attention': its tokens look at those behind them" "bidirectional" $g/gemma3/fp32
refused 65 is_causal=false "'is_causal': its tokens look at those behind them" "not causal"
refused 65 'rope_parameters={"rope_type":"default","llama_4_scaling_beta":0.1}' "'rope_parameters.llama_4_scaling_beta': it scales queries by their position" \
    "llama_4_scaling_beta"
refused 65 'model_type="ministral3" rope_scaling={"rope_type":"yarn","factor":2,"llama_4_scaling_beta":0.1}' "llama_4_scaling_beta" "in a type that is not built in"
form "their neutral values" $g/gemma3/fp32 plain "use_bidirectional_attention=false is_causal=true use_bidirectional_attention=null"
form "unknown keys of rope_parameters" $g/llama/fp32 plain 'rope_parameters={"rope_type":"default","magic_beta":0.1,"note":"x"}'
warns "keys that are not known and may change what the model computes: rope_parameters.magic_beta" "unknown keys of rope_parameters"
form "unknown keys of an unknown type" $g/llama/fp32 plain 'model_type="newllama" skip_every=2 auto_map={"a":"b"} use_thing=false'
warns "may change what the model computes: skip_every;" "unknown keys of an unknown type"
finish
