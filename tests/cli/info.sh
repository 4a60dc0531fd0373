#!/bin/sh
# asan: yes
# slimscope info: figures against what the headers say.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
cat >"$tmp/facts.py" <<'PY'
import json, os, struct, sys
m, out = sys.argv[1:3]
d = json.load(open(out))
with open(os.path.join(m, "model.safetensors"), "rb") as f:
    h = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
h.pop("__metadata__", None)
c = json.load(open(os.path.join(m, "config.json")))
size = {k: v["data_offsets"][1] - v["data_offsets"][0] for k, v in h.items()}
assert d["tensors"] == len(h) and d["bytes"] == sum(size.values()), d
types = {}
for k, v in h.items():
    t = types.setdefault(v["dtype"], {"tensors": 0, "bytes": 0}); t["tensors"] += 1; t["bytes"] += size[k]
assert d["dtypes"] == types, (d["dtypes"], types)
linears = [k for k in h if k.endswith("_proj.weight")]
assert d["linears"] == len(linears) == d["quantizable"], d
for k, n in d["kinds"].items():
    assert n == sum(k + ".weight" in x for x in linears), k
L = c["num_hidden_layers"]
assert d["layers"] == L and d["hidden"] == c["hidden_size"] and d["vocab"] == c["vocab_size"]
assert d["groups"] == {"qkv": {"groups": L, "linears": 3 * L}, "gu": {"groups": L, "linears": 2 * L}} and d["alone"] == 2 * L
assert d["parameters"] == sum(eval("*".join(map(str, v["shape"]))) for k, v in h.items() if "rotary" not in k), d["parameters"]
s, y = d["size"], d["memory"]
assert s["default"] < s["float"] and s["average_bits"] == 8, s
assert 0 < y["kurtosis"] < y["every_metric"] and y["measure"] > 0, y
PY
for m in tests/golden/models/llama/fp32 tests/golden/models/qwen2/bf16 tests/golden/models/qwen3/fp32 lab_models/demo; do
    exits 0 "$m" s info $m --format json
    if python3 "$tmp/facts.py" $m "$tmp/out" 2>"$tmp/log"; then ok "$m: figures"; else not_ok "$m: figures"; tail -n 1 "$tmp/log" | sed 's/^/# /'; fi
done
for m in tests/golden/models/*/*/; do exits 0 "info $m" s info "$m"; done

exits 0 "text" s info lab_models/demo --threads 1
has "$tmp/out" "architecture  Qwen 3 (qwen3): 8 layers, hidden 256" "architecture"
has "$tmp/out" "linears       56, 56 can be quantized by the default recipe" "linears"
has "$tmp/out" "fused groups  8 qkv (24 linears), 8 gu (16 linears), 16 linears alone" "groups"
has "$tmp/out" "memory        for 16,384 tokens, longest text 2,048, 1 thread: analyze kurtosis" "memory for the default size"
has "$tmp/out" "tokenizer     tokenizer.json" "tokenizer"
exits 0 "without a tokenizer" s info tests/golden/models/llama/fp32
has "$tmp/out" "none: only data sets of token ids (input_ids) can be used" "is told"
memory() { s info lab_models/demo --format json --threads 2 "$@" | sed 's/.*"kurtosis":\([0-9]*\).*/\1/'; }
few=$(memory --rows 100) many=$(memory --rows 1000000 --longest 100) long=$(memory --rows 1000000 --longest 1000000)
if [ "$few" -lt "$many" ] && [ "$many" -lt "$long" ]; then ok "memory grows with tokens and with the longest text"; else not_ok "memory: $few $many $long"; fi

# an unknown family that is shaped as Llama: a warning, in the report too
mkdir "$tmp/new"
cp tests/golden/models/llama/fp32/model.safetensors "$tmp/new"
sed 's/"model_type": "llama"/"model_type": "newllama"/; s/LlamaForCausalLM/NewForCausalLM/' tests/golden/models/llama/fp32/config.json >"$tmp/new/config.json"
exits 0 "an unknown type" s info "$tmp/new"
has "$tmp/out" "warning       " "is told"
exits 0 "with its own type" s info "$tmp/new" --model_type llama
exits 0 "digests of the files" s info lab_models/demo --hash
has "$tmp/out" "sha256        $(sha256sum lab_models/demo/model.safetensors | cut -d' ' -f1)  model.safetensors" "as sha256sum gives them"
exits 64 "no model" s info
exits 64 "no rows" s info lab_models/demo --rows 0
exits 64 "a text longer than all" s info lab_models/demo --rows 10 --longest 11
exits 65 "no folder" s info "$tmp/none"
script() { printf '%s\n' "open lab_models/demo" "$@" >"$tmp/t.slim"; s --script "$tmp/t.slim"; }
exits 0 "tensors by a filter" script "exclude *.1.mlp.down_proj" "tensors filter down_proj !float" "tensors" "history"
has "$tmp/out" "7 of 90 tensors" "those that hold all of its words"
has "$tmp/out" "tensors filter down_proj !float" "and the line is in the history"
exits 0 "as JSON" script "tensors filter embed_tokens" "tensors list --format json"
is "1 copied" "$(python3 -c 'import json,sys; t=sys.stdin.read(); d=json.JSONDecoder().raw_decode(t[t.index("{\"filter"):])[0]; print(len(d["tensors"]), d["tensors"][0]["level"])' <"$tmp/out")" "with its level"
exits 64 "a size that is none" script "tensors filter size>much"
has "$tmp/err" "'much' is no size" "is told"
exits 64 "no such part of tensors" script "tensors drop"
finish
