#!/bin/sh
# asan: yes
# slimscope check of what quant wrote: a good output is good, and whatever a loader would stumble over is named.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
g=tests/golden/models
printf '{"input_ids":[116,56,100,30,21,14,97,86,116,98]}\n{"input_ids":[127,121,105,28,77,19,85,15,61,71]}\n' >"$tmp/ids.jsonl"
# recipe SAVER LINE...: each line an act and a weight, include and exclude behind them
recipe() {
    saver=$1
    shift
    printf 'apiversion: modelslim_v1\nspec:\n  dataset: %s\n  process:\n' "$tmp/ids.jsonl"
    for e in "$@"; do printf '  - type: linear_quant\n    %s\n' "$e"; done
    printf '  save:\n'
    for e in $saver; do printf '  - {type: %s, part_file_size: 0}\n' "$e"; done
}
int() { printf '{dtype: %s, scope: %s, symmetric: %s, method: %s%s}' "$1" "$2" "$3" "${4:-minmax}" "${5:+, ext: $5}"; }
pair() { printf 'qconfig: {act: %s, weight: %s}' "$1" "$2"; }
token=$(int int8 per_token true) tensor=$(int int8 per_tensor false) tensor_sym=$(int int8 per_tensor true) channel=$(int int8 per_channel true)
none='{dtype: float, scope: per_tensor, symmetric: true, method: none}'
dynamic=$(pair "$token" "$channel") static=$(pair "$tensor" "$channel") static_sym=$(pair "$tensor_sym" "$channel")
w4a8=$(pair "$token" "$(int int4 per_channel true ssz)") fp8=$(pair "$(int fp8_e4m3 per_token true)" "$(int fp8_e4m3 per_channel true)")
mx8=$(pair "$(int mxfp8 per_block true)" "$(int mxfp8 per_block true)") mx4=$(pair "$(int mxfp4 per_block true)" "$(int mxfp4 per_block true)")
w8a16="qconfig: {weight: $channel}" w4a16="qconfig: {weight: $(int int4 per_group true minmax '{group_size: 8}')}"
mix=$(pair "$(int int8 pd_mix false)" "$channel")
# good SAVERS MODEL LINE...: written, read as good
good() {
    savers=$1 model=$2
    shift 2
    recipe "$savers" "$@" >"$tmp/r.yaml"
    rm -rf "$tmp/o"
    exits 0 "$savers of $model: $1" s quant --model_path "$model" --config_path "$tmp/r.yaml" --save_path "$tmp/o"
    exits 0 "is good" s check "$tmp/o"
    has "$tmp/out" "$tmp/o: written by " "is known for what it is"
    has "$tmp/out" ": nothing bad" "without a word"
}
for line in "$dynamic" "$static" "$static_sym" "$w4a8" "$fp8" "$mx8" "$mx4" "$w8a16" "$w4a16" "$mix"; do
    good ascendv1_saver $g/llama/fp32 "$line"
done
for line in "$dynamic" "$static" "$mx8" "$mx4"; do good mindie_format_saver $g/qwen2/bf16 "$line"; done
for line in "$dynamic" "$static" "$static_sym"; do good compressed_tensors $g/qwen2/fp32 "$line"; done
good "ascendv1_saver mindie_format_saver" $g/qwen3/fp32 "$dynamic"
has "$tmp/out" "written by ascendv1_saver and mindie_format_saver" "both"
mixed() { good "$1" "$2" "$static
    include: ['*attn*']
    exclude: ['*kv_b_proj', '*layers.1.*']" "$dynamic
    include: ['*mlp*', '*block_sparse_moe*']
    exclude: ['*.gate', '*shared_expert_gate', '*layers.0.*']"; }
for m in mixtral deepseek_v3 deepseek_v4 qwen3_next gpt_oss; do
    mixed ascendv1_saver $g/$m/fp32
    [ $m = gpt_oss ] || mixed compressed_tensors $g/$m/fp32
done
printf 'apiversion: modelslim_v1\nspec:\n  dataset: %s\n  process:\n  - {type: dynamic_cache, qconfig: {dtype: int8, scope: per_channel, symmetric: true, method: minmax}}\n  save: [{type: ascendv1_saver}]\n' "$tmp/ids.jsonl" >"$tmp/r.yaml"
exits 0 "keys and values" s quant --model_path $g/llama/fp32 --config_path "$tmp/r.yaml" --save_path "$tmp/c8"
exits 0 "are good" s check "$tmp/c8"

# ---- what is wrong ----
cat >"$tmp/spoil.py" <<'P'
# spoil.py FROM TO FILE HOW NAME [VALUE]: a copy of an output with one tensor of FILE gone, called otherwise, cut, or changed
import json, os, shutil, struct, sys
src, dst, file, how, name = sys.argv[1:6]
shutil.rmtree(dst, ignore_errors=True)
shutil.copytree(src, dst)
p = os.path.join(dst, file)
raw = open(p, "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head, body = json.loads(raw[8:8 + n]), raw[8 + n:]
data = {k: bytearray(body[slice(*v["data_offsets"])]) for k, v in head.items()}
if how == "gone":
    del head[name]
elif how == "called":
    head[sys.argv[6]], data[sys.argv[6]] = head.pop(name), data[name]
elif how == "cut":
    head[name]["shape"][0] -= 1
    data[name] = data[name][:len(data[name]) // (head[name]["shape"][0] + 1) * head[name]["shape"][0]]
elif how == "typed":
    head[name]["dtype"] = sys.argv[6]
elif how == "f32":
    struct.pack_into("<f", data[name], 8, float(sys.argv[6]))
at = 0
for k, v in head.items():
    v["data_offsets"] = [at, at + len(data[k])]
    at += len(data[k])
text = json.dumps(head).encode()
text += b" " * (-len(text) % 8)
open(p, "wb").write(struct.pack("<Q", len(text)) + text + b"".join(data[k] for k in head))
P
d=model.layers.1.mlp.down_proj
# bad TEXT NAME HOW...: the spoilt copy of $from, $file is told by TEXT
bad() {
    text=$1 what=$2
    shift 2
    python3 "$tmp/spoil.py" "$from" "$tmp/bad" "$file" "$@"
    exits 65 "$what" s check "$tmp/bad"
    has "$tmp/out" "$text" "is named"
}
recipe ascendv1_saver "$static" >"$tmp/r.yaml"
exits 0 "an output" s quant --model_path $g/llama/fp32 --config_path "$tmp/r.yaml" --save_path "$tmp/ascend"
from=$tmp/ascend file=quant_model_weights.safetensors
bad "bad   $d.deq_scale  is missing: the description has it as W8A8" "a tensor that is gone" gone $d.deq_scale
has "$tmp/out" "bad   $d.deq_scale  is missing: W8A8 makes its linear of it" "by its linear too"
bad "bad   model.norm.weight  is missing: the description has it as FLOAT" "a norm that is gone" gone model.norm.weight
bad "bad   $d.other  has no entry in the description" "one that nobody named" called $d.quant_bias $d.other
bad "bad   $d.quant_bias  is I32 [39], W8A8 wants I32 [40]" "one too short" cut $d.quant_bias
bad "bad   $d.weight  is U8 [40,56], which is no form of W8A8" "one of another type" typed $d.weight U8
bad "bad   $d.input_scale  is I32 [1], W8A8 wants F32 [1]" "a scale of another type" typed $d.input_scale I32
for t in q_proj k_proj; do cp -r "$tmp/ascend" "$tmp/label-$t"; done
sed -i "s/\"$d.weight\": \"W8A8\"/\"$d.weight\": \"W9\"/" "$tmp/label-q_proj/quant_model_description.json"
exits 65 "a label" s check "$tmp/label-q_proj"
has "$tmp/out" "bad   $d.weight  is I8 [40,56], W9 is no label that is known" "is named"
rm "$tmp/label-k_proj/quant_model_description.json"
exits 65 "no description" s check "$tmp/label-k_proj"
has "$tmp/out" "quant_model_description.json is missing: nothing says how the tensors are quantized" "is told"
rm "$tmp/label-q_proj/$file"
exits 65 "no weights" s check "$tmp/label-q_proj"
has "$tmp/out" "bad   model.norm.weight  is missing" "are missed"
recipe ascendv1_saver "$dynamic" >"$tmp/r.yaml"
exits 0 "an output by row" s quant --model_path $g/llama/fp32 --config_path "$tmp/r.yaml" --save_path "$tmp/rows"
from=$tmp/rows
for v in 0 -1 nan inf; do
    case $v in inf) text="0 NaN and 1 Inf, first Inf at [2,0]" ;; *) text="1 of 40 scales are not above 0, first at [2,0]" ;; esac
    bad "$d.weight_scale  " "a scale of $v" f32 $d.weight_scale $v
    has "$tmp/out" "$text" "with its place"
done
bad "bad   $d.weight_offset  F32 [40,1]: 1 NaN and 0 Inf" "an offset" f32 $d.weight_offset nan
bad "bad   lm_head.weight  F32 [128,40]: 1 NaN and 0 Inf" "a float tensor" f32 lm_head.weight nan
# one file of it
exits 0 "a good file" s check "$tmp/rows/$file"
has "$tmp/out" "written by ascendv1_saver" "knows its description"
bad "$d.weight_scale" "a bad one" f32 $d.weight_scale 0
exits 65 "that file" s check "$tmp/bad/$file"
cp "$tmp/rows/$file" "$tmp/alone.safetensors"
exits 0 "a file without its description" s check "$tmp/alone.safetensors"

# shards: what another one holds is not this one's
sed -i 's/part_file_size: 0/part_file_size: 0.00005/' "$tmp/r.yaml"
exits 0 "shards" s quant --model_path $g/llama/fp32 --config_path "$tmp/r.yaml" --save_path "$tmp/shards"
exits 0 "are good" s check "$tmp/shards"
first=$(cd "$tmp/shards" && ls quant_model_weights-00001-of-*)
exits 0 "each alone too" s check "$tmp/shards/$first"
has "$tmp/out" "in 1 file: nothing bad" "is one file"
cp -r "$tmp/shards" "$tmp/torn"
rm "$tmp/torn/$first"
exits 65 "without the first" s check "$tmp/torn"
has "$tmp/out" "is missing: the index places it in \"$first\"" "says where it was"
cp "$tmp/shards/$first" "$tmp/torn"
rm "$tmp/torn/quant_model_weights.safetensors.index.json"
exits 65 "without the index" s check "$tmp/torn"
has "$tmp/out" "quant_model_weights.safetensors.index.json is missing" "is told"

# as older tools call a sharded one
mkdir "$tmp/older"
for f in "$tmp"/shards/*; do cp "$f" "$tmp/older/$(basename "$f" | sed 's/quant_model_weights/quant_model_weight_w8a8_dynamic/')"; done
sed -i 's/quant_model_weights-/quant_model_weight_w8a8_dynamic-/' "$tmp/older"/*.index.json
exits 0 "an older one's names" s check "$tmp/older"
has "$tmp/out" "written by mindie_format_saver, " "are known"

# compressed-tensors: as a loader takes it
recipe compressed_tensors "$static
    include: ['*attn*']" "$dynamic
    include: ['*mlp*']
    exclude: ['*layers.0.*']" >"$tmp/r.yaml"
exits 0 "two groups" s quant --model_path $g/llama/fp32 --config_path "$tmp/r.yaml" --save_path "$tmp/ct"
exits 0 "are good" s check "$tmp/ct"
from=$tmp/ct file=$(cd "$tmp/ct" && ls model*.safetensors)
q=model.layers.1.self_attn.q_proj
bad "bad   $q.input_scale  is missing: group_0 makes its linear of it" "no scale" gone $q.input_scale
bad "bad   $d.weight_scale  is missing: group_1 makes its linear of it" "no scale" gone $d.weight_scale
bad "bad   $d.weight_scale  is F32 [39,1], group_1 wants F32 [40,1]" "a short scale" cut $d.weight_scale
bad "bad   $d.input_scale  group_1 has no place for it: inputs would be quantized otherwise than they were" "another one's scale" called $q.input_scale $d.input_scale
# edited PYTHON: a copy whose quantization_config q was changed so; g: its groups
edited() {
    rm -rf "$tmp/bad"
    cp -r "$tmp/ct" "$tmp/bad"
    python3 - "$tmp/bad/config.json" "$1" <<'P'
import json, sys
c = json.load(open(sys.argv[1]))
q = c["quantization_config"]
exec(sys.argv[2], {"q": q, "g": list(q["config_groups"].values())})
json.dump(c, open(sys.argv[1], "w"))
P
}
edited 'g[0]["targets"] = g[1]["targets"] = ["Linear"]'
exits 65 "groups that name the class" s check "$tmp/bad"
has "$tmp/out" "bad   $q.input_scale  group_1 has no place for it" "the last takes all"
edited 'g[0]["targets"] = ["re:.*layers.[01].*"]'
exits 65 "two expressions for one linear" s check "$tmp/bad"
has "$tmp/out" "bad   $d.input_scale  is missing: group_0 makes its linear of it" "the first in order takes it"
edited 'q["ignore"] = []; g[1]["targets"] = ["re:.*mlp"]'
exits 65 "an expression that takes too much" s check "$tmp/bad"
has "$tmp/out" "bad   model.layers.0.mlp.down_proj.weight  is F32, but group_1 takes it by name: it belongs into 'ignore'" "and a float linear"
edited 'q["ignore"] = []'
exits 0 "names alone" s check "$tmp/bad"
edited 'g[1]["targets"] = ["model.layers.%d.mlp.%s_proj" % (i, n) for i in (1, 2) for n in ("gate", "up", "down")]'
exits 0 "exact names" s check "$tmp/bad"
edited 'g[0]["targets"] = ["re:model("]'
exits 65 "an expression that is none" s check "$tmp/bad"
has "$tmp/out" "config.json: 're:model(' in quantization_config is no regular expression" "is told"
edited 'g[0]["targets"] = ["nobody"]'
exits 65 "a linear that no group takes" s check "$tmp/bad"
has "$tmp/out" "bad   $q.weight  is I8, but no group of quantization_config takes it" "is named"
recipe compressed_tensors "$dynamic
    exclude: ['*o_proj']" >"$tmp/r.yaml"
exits 0 "one group" s quant --model_path $g/llama/fp32 --config_path "$tmp/r.yaml" --save_path "$tmp/ct1"
cp -r "$tmp/ct1" "$tmp/ct2"
python3 -c 'import json,sys; p=sys.argv[1]; c=json.load(open(p)); c["quantization_config"]["ignore"]=["lm_head"]; json.dump(c,open(p,"w"))' "$tmp/ct2/config.json"
exits 65 "a float linear that the class takes" s check "$tmp/ct2"
has "$tmp/out" "bad   model.layers.0.self_attn.o_proj.weight  is F32, but group_0 takes every linear: it belongs into 'ignore'" "is told"

# ---- what config.json asks for and no document names ----
file=$(cd "$tmp/ct1" && ls model*.safetensors)
python3 "$tmp/spoil.py" "$tmp/ct1" "$tmp/half" "$file" gone $d.weight
python3 "$tmp/spoil.py" "$tmp/half" "$tmp/none" "$file" gone $d.weight_scale
exits 65 "a linear that is gone" s check "$tmp/none"
has "$tmp/out" "tensor '$d.weight' is missing" "is named"
has "$tmp/out" "'$tmp/none/" "by the output's path"
cp -r "$tmp/ct1" "$tmp/wide"
sed -i 's/"intermediate_size": [0-9]*/"intermediate_size": 72/' "$tmp/wide/config.json"
exits 65 "another config.json" s check "$tmp/wide"
has "$tmp/out" "mlp.gate_proj.weight' has shape [56,40], config.json says [72,40]" "is named"
sed -i 's/"model_type": "llama"/"model_type": "newer"/' "$tmp/wide/config.json"
exits 0 "a family that is not built in" s check "$tmp/wide"
TMPDIR=$tmp/nowhere exits 0 "no place for the headers" s check "$tmp/ct1"
mkdir "$tmp/place"
TMPDIR=$tmp/place exits 0 "a place" s check "$tmp/ct1"
is "" "$(ls -A "$tmp/place")" "nothing is left behind"

cp -r "$tmp/ct1" "$tmp/less"
yaml=$(cd "$tmp/less" && ls *_best_practice.yaml)
rm "$tmp/less/$yaml"
exits 65 "a file of the run that is gone" s check "$tmp/less"
has "$tmp/out" "bad   $yaml is missing: it was written with" "is named"
cp "$tmp/ct1/$yaml" "$tmp/less"
echo '# mine' >>"$tmp/less/$yaml"
exits 0 "one that somebody edited" s check "$tmp/less"
has "$tmp/out" "note  $yaml has been changed" "is told"

# ---- unfinished ----
recipe ascendv1_saver "$dynamic" >"$tmp/r.yaml"
exits 130 "a run that is stopped" python3 tests/lib/interrupt_at.py "layer 1" SIGINT 1 "$SLIMSCOPE" quant --model_path lab_models/demo --config_path "$tmp/r.yaml" --save_path "$tmp/part" --progress always
exits 65 "is bad" s check "$tmp/part"
has "$tmp/out" "bad   an unfinished run of ascendv1_saver: " "is unfinished"
has "$tmp/out" "whole layers are written; the same command with --resume finishes it" "says what to do"
exits 0 "finished" s quant --model_path lab_models/demo --config_path "$tmp/r.yaml" --save_path "$tmp/part" --resume
exits 0 "is good" s check "$tmp/part"
exits 130 "another run into it" python3 tests/lib/interrupt_at.py "layer 1" SIGINT 1 "$SLIMSCOPE" quant --model_path lab_models/demo --config_path "$tmp/r.yaml" --save_path "$tmp/part" --force --progress always
exits 0 "leaves it good" s check "$tmp/part"
has "$tmp/out" "the files beside it are of an older run" "is told"

exits 65 "json" s check --format json "$tmp/ct" "$tmp/label-k_proj"
if python3 - "$tmp/out" <<'P'
import json, sys
d = json.load(open(sys.argv[1]))["paths"]
assert [p["kind"] for p in d] == ["output", "output"] and [p["bad"] for p in d] == [0, 2], d
P
then ok "is one document"; else not_ok "is one document"; fi
finish
