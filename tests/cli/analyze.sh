#!/bin/sh
# asan: yes
# slimscope analyze: formats, options, exit codes. The expected text blocks are the peer's own lines without their log prefixes.
. tests/tap.sh
g=tests/golden/analysis model=tests/golden/analysis/_models/llama-fp32 calib=tests/golden/analysis/_models/calib5.jsonl
calib3=tests/golden/analysis/_models/calib3.json
s() { "$SLIMSCOPE" "$@"; }
run() { s analyze --model_path $model --calib_dataset $calib "$@"; }

# ---- the peer's text, but for the line that says what its metrics are worth ----
peers_text() { grep -v ' describes inputs and does not rank damage: block_error does$' "$tmp/out" >"$tmp/text"; same "$g/$1" "$tmp/text" "$2"; }
exits 0 "kurtosis runs" s analyze --model_type llama --model_path $model --device cpu --calib_dataset $calib --topk 100 \
    --trust_remote_code False
peers_text llama-fp32.kurtosis.txt "text is the peer's, line for line"
has "$tmp/out" "kurtosis describes inputs and does not rank damage" "which is said"
has "$tmp/err" "kurtosis describes inputs; what the model loses by each layer is ranked by --metrics block_error" "stderr says which metric ranks better"
is 1 "$(grep -vc 'kurtosis describes inputs' "$tmp/err")" "and one line more"
has "$tmp/err" "peak memory" "which tells the peak memory"
exits 0 "patterns run" s analyze --model_path $model --calib_dataset $calib3 --topk 3 \
    --pattern '*down_proj' '*o_proj' 'model.layers.[01].self_attn.?_proj'
peers_text llama-fp32.kurtosis.pattern.txt "patterns select and topk counts as in the peer"
exits 0 "std runs" s analyze linear --model_path $model --calib_dataset $calib3 --topk 2 --metrics std
peers_text llama-fp32.std.json3_topk2.txt "topk counts groups of equal scores"
exits 0 "trust_remote_code is told to change nothing" run --trust_remote_code True --topk 1
has "$tmp/err" "never run" "and says so"
exits 0 "beginnings of options are enough" s analyze --model_p $model --calib $calib --met kurtosis --topk 100
peers_text llama-fp32.kurtosis.txt "and mean the same"
exits 0 "metric as a word" s analyze kurtosis --model-path $model --calib-dataset $calib --topk=100
peers_text llama-fp32.kurtosis.txt "and mean the same, '-' for '_'"

# ---- JSON ----
exits 0 "json runs" run --format json
cp "$tmp/out" "$tmp/first.json"
cat >"$tmp/check.py" <<'PY'
import json, sys, hashlib
text = open(sys.argv[1]).read()
d = json.loads(text)
want = json.load(open(sys.argv[2]))
assert list(d) == ["model", "metric", "scheme", "arithmetic", "calibration", "layers"], list(d)
assert d["metric"] == "kurtosis" and d["scheme"] is None and d["arithmetic"] == "fp32"
c = d["calibration"]
assert c["sha256"] == hashlib.sha256(open(sys.argv[3], "rb").read()).hexdigest() and c["samples"] == 5 and c["tokens"] > 0, c
names = {x["name"]: x["score"] for x in want}
assert len(d["layers"]) == len(names) == 21
for i, l in enumerate(d["layers"]):
    assert list(l) == ["rank", "name", "score", "group", "kind", "parameters", "tokens"], list(l)
    assert l["rank"] == i + 1
    assert abs(l["score"] - names[l["name"]]) <= 1e-4 * abs(names[l["name"]]), l
    assert l["parameters"] > 0 and l["name"].endswith(l["kind"])
assert [l["score"] for l in d["layers"]] == sorted((l["score"] for l in d["layers"]), reverse=True)
g = {l["name"]: l["group"] for l in d["layers"]}
assert g["model.layers.0.self_attn.q_proj"] == g["model.layers.0.self_attn.v_proj"] == "model.layers.0.self_attn.qkv"
assert g["model.layers.0.mlp.down_proj"] is None
for l in d["layers"]:  # the fewest digits that read back
    assert repr(l["score"]) in text or "%g" % l["score"] in text or "%.17g" % l["score"] in text
PY
cat >"$tmp/want.py" <<'PY'
import sys
lines = open(sys.argv[1]).read().splitlines()
print("[" + ",".join('{"name":"%s","score":%s}' % (l.split()[1], l.split()[-1]) for l in lines if "| Score:" in l) + "]")
PY
python3 "$tmp/want.py" $g/llama-fp32.kurtosis.txt >"$tmp/want.json"
if python3 "$tmp/check.py" "$tmp/first.json" "$tmp/want.json" $calib >"$tmp/log" 2>&1; then ok "json document"; else not_ok "json document"; tail -n 3 "$tmp/log"; fi
run --format json >"$tmp/second.json" 2>/dev/null
same "$tmp/first.json" "$tmp/second.json" "same run, same bytes"
run --format json --topk 1 >"$tmp/second.json" 2>/dev/null
same "$tmp/first.json" "$tmp/second.json" "topk does not limit json"
run --format json --threads 1 >"$tmp/t1.json" 2>/dev/null
run --format json --threads 2 >"$tmp/t2.json" 2>/dev/null
is "$(grep -o '"name":"model[^"]*"' "$tmp/t1.json")" "$(grep -o '"name":"model[^"]*"' "$tmp/t2.json")" "the number of threads moves no rank"
exits 0 "several metrics" run --metrics kurtosis std quantile local_error --format json
is "kurtosis std quantile local_error" "$(python3 -c 'import json,sys
print(*[r["metric"] for r in json.load(open(sys.argv[1]))["runs"]])' "$tmp/out")" "one document with runs"
has "$tmp/out" '"scheme":"W8A8' "local_error names its scheme"
exits 0 "exact arithmetic" run --dtype-sim exact --format json
has "$tmp/out" '"arithmetic":"exact"' "is named"
exits 0 "compat peer" run --compat peer --format json --seed 7
has "$tmp/out" '"arithmetic":"exact"' "implies exact arithmetic"
cat >"$tmp/near.py" <<'EOF'
import json, sys
def scores(path, rows): return {r["name"]: r["score"] for r in json.load(open(path))[rows]}
want = scores(sys.argv[3], "layer_scores")
peer, plain = [max(abs(s - want[n]) / abs(want[n]) for n, s in scores(f, "layers").items()) for f in sys.argv[1:3]]
print(peer, plain)
sys.exit(not (peer <= 1.01e-2 < 2e-2 < plain))
EOF
for as in "--compat peer" "--dtype-sim exact"; do
    s analyze --model_path $g/_models/qwen3-bf16 --calib_dataset $calib --metrics quantile --format json $as \
        --out "$tmp/near.${as##* }.json" >"$tmp/log" 2>&1
done
if python3 "$tmp/near.py" "$tmp/near.peer.json" "$tmp/near.exact.json" $g/qwen3-bf16.quantile.json >"$tmp/log" 2>&1
then ok "compat peer attends as the peer does, nearer its scores"
else not_ok "compat peer attends as the peer does, nearer its scores"; tail -n 3 "$tmp/log"; fi
exits 0 "max-samples" run --max-samples 2 --format json
has "$tmp/out" '"samples":2' "limits the texts"
exits 0 "seq-len" run --max-samples 3 --seq-len 8 --format json
has "$tmp/out" '"samples":3,"tokens":24' "cuts them"

# ---- CSV and YAML ----
exits 0 "csv" run --format csv --metrics kurtosis std
is "metric,rank,name,score,group,kind,parameters,reason,arithmetic,parts,scheme,inputs" "$(head -n 1 "$tmp/out")" "csv head"
is 43 "$(wc -l <"$tmp/out")" "csv rows of both metrics"
exits 0 "yaml" run --format yaml --topk 4
is "exclude:
  - 'model.layers.1.mlp.down_proj'
  - 'model.layers.2.mlp.down_proj'
  - 'model.layers.0.mlp.down_proj'
  - 'model.layers.0.self_attn.q_proj'
  - 'model.layers.0.self_attn.k_proj'
  - 'model.layers.0.self_attn.v_proj'" "$(cat "$tmp/out")" "yaml is an exclude list"
exits 0 "yaml of a part of a group" run --format yaml --pattern 'model.layers.0.self_attn.q_proj'
is 4 "$(wc -l <"$tmp/out")" "is the whole group"
exits 64 "yaml takes one metric" run --format yaml --metrics kurtosis std
has "$tmp/err" "one metric" "and says so"

# ---- files ----
exits 0 "out" run --format json --out "$tmp/o.json"
same "$tmp/first.json" "$tmp/o.json" "out holds the result"
is "" "$(cat "$tmp/out")" "and stdout nothing"
exits 74 "out in no folder" run --out "$tmp/no/such/o.json"
echo old >"$tmp/full.json"
if [ -z "${SLIMSCOPE_SAN:-}" ]; then
    (ulimit -f 1; exits 74 "out on a full disk" run --format json --out "$tmp/full.json"; echo "$tap_n $tap_bad" >"$tmp/count") >"$tmp/sub"
    cat "$tmp/sub"
    read -r tap_n tap_bad <"$tmp/count"
    is old "$(cat "$tmp/full.json")" "leaves the old file"
    is "" "$(ls "$tmp" | grep -v '^full.json$' | grep full)" "and no part of a new one"
fi
exits 74 "stdout on a full disk" sh -c '"$1" analyze --model_path "$2" --calib_dataset "$3" >/dev/full' sh "$SLIMSCOPE" $model $calib
has "$tmp/err" "standard output" "is told"

# ---- progress, memory, cache ----
run --progress json >/dev/null 2>"$tmp/err"
grep -v '^peak memory\|kurtosis describes inputs' "$tmp/err" >"$tmp/json" || :
exits 0 "json progress is JSON" python3 -c 'import json,sys
for l in open(sys.argv[1]): json.loads(l)' "$tmp/json"
exits 0 "progress always" run --progress always
exits 0 "progress never" run --progress never
is 1 "$(grep -vc 'kurtosis describes inputs' "$tmp/err")" "is silent but for the memory"
exits 0 "progress auto without a terminal" run --progress auto
is 1 "$(grep -vc 'kurtosis describes inputs' "$tmp/err")" "is silent too"
exits 0 "mem" run --mem 1G --cache-dir "$tmp/cache"
exits 1 "too little memory" run --mem 64K
is "" "$(cat "$tmp/out")" "prints no result"

# ---- refusals ----
refuse() { # TEXT NAME ARGS...
    text=$1 name=$2; shift 2
    exits 64 "$name" run "$@"
    has "$tmp/err" "$text" "$name: says"
}
exits 64 "no model" s analyze
has "$tmp/err" "needs --model_path DIR" "is told"
refuse "stands there twice" "device npu:0,0" --device npu:0,0
refuse "give --device cpu" "device gpu" --device gpu
refuse "must be above 0, not 0" "topk 0" --topk 0
refuse "must be above 0, not -1" "topk -1" --topk -1
refuse "takes a whole number, not 'x'" "topk x" --topk x
refuse "takes True|False, not 'yes'" "trust yes" --trust_remote_code yes
refuse "takes True|False, not 'true'" "trust true" --trust_remote_code true
refuse "kurtosis" "metric in capitals" --metrics KURTOSIS
refuse "at least one name" "no metric" --metrics
refuse "asked for twice" "a metric twice" --metrics std std
refuse "--model_path or --model_type" "an unclear beginning" --model x
refuse "no option '--patern': did you mean --pattern?" "a wrong option" --patern x
refuse "does not go with" "quant_modules without scope" --quant_modules '*'
refuse "whole number" "threads" --threads many
refuse "no size" "mem" --mem lots
exits 64 "a metric of another scope" s analyze layer --model_path $model --metrics kurtosis
has "$tmp/err" "metric 'kurtosis' scores each linear, scope 'layer' has others: use " "is told in a line"
has "$tmp/err" "mse_layer_wise, mse_model_wise" "with what the scope has"
exits 64 "a scheme that is none" s analyze layer --model_path $model --scheme W3A3
has "$tmp/err" "scheme 'W3A3' is none: there are W8A8S, W8A8," "names those there are"
exits 64 "a recipe and a scheme" s analyze layer --model_path $model --scheme W8A8 --recipe lab_practice/default/default-w8a8-static.yaml
exits 64 "patterns in scope attn" s analyze attn --model_path $model --pattern '*'
has "$tmp/err" "--pattern does not go with scope attn" "are told"
exits 64 "a metric of blocks in scope attn" s analyze attn --model_path $model --metrics mse_model_wise
has "$tmp/err" "metric 'mse_model_wise' scores each block, scope 'attn' has others: use " "is told in a line"
exits 0 "scope after options" s analyze --model_path $model --calib_dataset $calib3 --topk 3 layer
exits 64 "unknown scope" s analyze foo --model_path $model
exits 65 "a pattern without a hit" run --pattern '*Q_PROJ'
has "$tmp/err" "selects no layer" "is told"
exits 65 "a pattern with too many alternatives" run --pattern '{1..9}{1..9}{1..9}{1..9}'
exits 65 "an unknown data set" s analyze --model_path $model --calib_dataset nothere.jsonl
has "$tmp/err" "boolq.jsonl, eval.jsonl" "lists those there are"
exits 0 "the default data set" s analyze --model_path $model --max-samples 1 --format json
has "$tmp/out" '"name":"boolq.jsonl"' "is boolq.jsonl"
exits 0 "with a scope word" s analyze linear --model_path $model --max-samples 1 --format json
has "$tmp/out" '"name":"mix_calib.jsonl"' "it is mix_calib.jsonl"
# ---- chats: their words, and a line that says so ----
printf '%s\n' '{"messages":[{"role":"user","content":"Where does the river end?"},{"role":"assistant","content":"At the sea."}]}' >"$tmp/chat.jsonl"
printf '["Where does the river end?\\nAt the sea."]' >"$tmp/words.json"
for f in chat.jsonl words.json; do
    exits 0 "analyze $f" "$SLIMSCOPE" analyze --model_path lab_models/demo --calib_dataset "$tmp/$f" --metrics kurtosis --format csv --out "$tmp/$f.csv"
    cp "$tmp/err" "$tmp/$f.err"
done
same "$tmp/chat.jsonl.csv" "$tmp/words.json.csv" "a chat is what its messages say"
has "$tmp/chat.jsonl.err" "chat.jsonl: 1 text: what the messages say" "which is told"
# ---- a model with a NaN: what could not be scored is told, proposed for nothing, and the job has failed ----
python3 tests/lib/spoil_model.py lab_models/demo "$tmp/nan" nan:model.layers.6.mlp.up_proj.weight
exits 1 "rows that fail" s analyze --model_path "$tmp/nan" --max-samples 2 --topk 3
has "$tmp/out" "  !  model.layers.6.mlp.down_proj " "are listed apart"
is 5 "$(sed -n "/^top 5:/,/^=== End/p" "$tmp/out" | grep -c "^  - 'model.layers.[0-5]\.")" "the five proposed (three scores) have one"
has "$tmp/err" "of 56 have no score: 'slimscope check" "and one line says where to look"
exits 0 "the finite layers alone" s analyze --model_path "$tmp/nan" --max-samples 2 --pattern 'model.layers.{0..4}.*'
exits 1 "blocks behind it fail" s analyze layer --model_path "$tmp/nan" --max-samples 2 --format json
is "6 scored, NaN in the float output, first at sample 0 token 0 channel 0" "$(python3 -c 'import json,sys
rows = json.load(open(sys.argv[1]))["layers"]
print(sum(r["score"] is not None for r in rows), "scored,", *{r["reason"] for r in rows if r["score"] is None})' "$tmp/out")" "the others are ranked, each failure with its place"
has "$tmp/err" "2 of 8 have no score, each with its reason" "and counted"

# ---- the peer's metrics of layers: its own text, but for the line that says how it was made ----
exits 0 "quant_modules name what is quantized" s analyze layer --model_path $model --calib_dataset $calib3 --metrics mse_model_wise \
    --quant_modules '*mlp*' --compat peer
is "Scheme: W4A4_MXFP4 per_block sym; inputs: float; arithmetic: exact" "$(grep '^Scheme:' "$tmp/out")" "scheme, inputs and arithmetic are named"
grep -v '^Scheme:' "$tmp/out" >"$tmp/text"
same $g/llama-fp32.mse_model_wise.mlp.txt "$tmp/text" "text is the peer's, line for line"
exits 0 "scope layer" s analyze layer --model_path $model --calib_dataset $calib3 --format json
has "$tmp/out" '"metric":"mse_layer_wise","scheme":"W4A4_MXFP4 per_block sym","arithmetic":"fp32","inputs":"float"' "has its default, json names how"
exits 0 "a scheme" s analyze layer --model_path $model --calib_dataset $calib3 --scheme W4A8_DYNAMIC --format csv
has "$tmp/out" ",W4A8_DYNAMIC per_token sym,float" "is what is quantized with, csv names it"
exits 0 "a recipe" s analyze layer --model_path $model --calib_dataset $calib3 --recipe lab_practice/default/default-w8a8-static.yaml --format yaml
has "$tmp/out" "# scheme W8A8 per_tensor asym, W8A8_DYNAMIC per_token sym, inputs float" "says what is quantized with, yaml names it"
has "$tmp/out" "  - 'model.layers.2.*'" "and holds whole blocks"
printf 'open %s\ncalib %s\nanalyze mse_layer_wise\nanalyze mse_layer_wise --scheme W4A4_MXFP4\n' $model $calib3 >"$tmp/two.slim"
exits 0 "in a script" s --script "$tmp/two.slim"
is "Scheme: W8A8 per_tensor asym; inputs: float; arithmetic: fp32
Scheme: W4A4_MXFP4 per_block sym; inputs: float; arithmetic: fp32" "$(grep '^Scheme:' "$tmp/out")" "it is the open recipe's, then the one that is given"

# ---- and of attentions ----
for m in llama-fp32 qwen3-fp32; do
    exits 0 "scope attn of $m" s analyze attn --model_path $g/_models/$m --calib_dataset $calib --metrics mse --compat peer
    is "Scheme: int8 per_head q, k, v; inputs: accumulated; arithmetic: exact" "$(grep '^Scheme:' "$tmp/out")" "scheme, inputs and arithmetic are named"
    sed '/^Scheme:/d; s/Score: .*/Score/' "$tmp/out" >"$tmp/text" # a step of a quantizer moves their fourth digit
    sed 's/Score: .*/Score/' $g/$m.mse.txt >"$tmp/want"
    same "$tmp/want" "$tmp/text" "text is the peer's, line for line, but for digits of scores"
done
exits 0 "the older command line" run --metrics attention_mse --pattern '*down_proj' --format json
has "$tmp/err" "--pattern names linears: attention_mse scores all attention modules" "drops patterns with a word"
is "attention_mse float 3" "$(python3 -c 'import json,sys
d = json.load(open(sys.argv[1]))
print(d["metric"], d["inputs"], len(d["layers"]))' "$tmp/out")" "and scores all attentions, each from float inputs"
printf '{"input_ids":[5,9,13,4,8,15,16,23,42,7,3,1]}\n' >"$tmp/few.jsonl"
exits 0 "linear attention" s analyze attn --model_path tests/golden/models/qwen3_next/fp32 --calib_dataset "$tmp/few.jsonl" --format json
has "$tmp/out" '"reason":"not applicable: linear attention has no queries and keys of scores"' "has no score, which is no failure"
printf 'open %s\ncalib %s\nanalyze attention_mse --pattern *.1.*\n' $model $calib3 >"$tmp/one.slim"
exits 0 "patterns in a script" s --script "$tmp/one.slim"
is 1 "$(grep -c '| Score:' "$tmp/out")" "select attentions"

# ---- names in Chinese stay what they are, and where only ASCII may stand, that part of them ----
zh=通义千问-Qwen3-0.6B-指令微调版
cp -r lab_models/demo "$tmp/$zh"
printf "open '%s'\nexport '%s'\n" "$tmp/$zh" "$tmp/导出.yaml" >"$tmp/zh.slim"
exits 0 "a model with a Chinese name" s --script "$tmp/zh.slim"
has "$tmp/导出.yaml" "# slimscope: model: $zh, fingerprint" "its export names it"
has "$tmp/导出.yaml" "config_id: 'Qwen3-0.6B_w8a8_static'" "the id is what of it is ASCII"
has "$tmp/导出.yaml" "- 'Qwen3-0.6B'" "and so is the model's type"
exits 0 "which the quantizer's loader takes" s check "$tmp/导出.yaml"
finish
