#!/bin/sh
# asan: yes
# quant: from a recipe or a best practice to the files that an inference engine loads.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
model=lab_models/demo
static=lab_practice/default/default-w8a8-static.yaml
dynamic=lab_practice/default/default-w8a8-dynamic.yaml
q() { s quant --model_path $model "$@"; }

# ---- refused before anything is made ----
exits 64 "no target" s quant --model_path $model --config_path $dynamic
has "$tmp/err" "needs --save_path" "says so"
exits 64 "no model" s quant --save_path "$tmp/no" --config_path $dynamic
exits 64 "two recipes" q --save_path "$tmp/no" --config_path $dynamic --quant_type w8a8
has "$tmp/err" "not both" "says so"
exits 64 "a type that is none" q --save_path "$tmp/no" --quant_type w3a3
exits 64 "a device that is none" q --save_path "$tmp/no" --config_path $dynamic --device gpu:0
has "$tmp/err" "--device cpu" "names the one there is"
exits 64 "a log level that is none" env MSMODELSLIM_LOG_LEVEL=loud "$SLIMSCOPE" quant --model_path $model --save_path "$tmp/no" --config_path $dynamic
has "$tmp/err" "MSMODELSLIM_LOG_LEVEL" "names the variable"
exits 74 "no such recipe" q --save_path "$tmp/no" --config_path "$tmp/none.yaml"
sed 's/mix_calib.jsonl/nowhere.jsonl/' $static >"$tmp/nodata.yaml"
exits 65 "no such data set" q --save_path "$tmp/no" --config_path "$tmp/nodata.yaml"
has "$tmp/err" "nowhere.jsonl" "names it"
sed 's/ascendv1_saver/mindie_format_saver/' lab_practice/default/default-w4a8-dynamic.yaml >"$tmp/pair.yaml"
exits 65 "a saver that can't write the scheme" q --save_path "$tmp/no" --config_path "$tmp/pair.yaml"
has "$tmp/err" "mindie_format_saver can't write W4A8_DYNAMIC" "says which"
for f in tests/golden/config/broken/*.yaml; do
    s check "$f" >/dev/null 2>&1 && continue
    exits 65 "broken $(basename "$f")" q --save_path "$tmp/no" --config_path "$f"
    is 1 "$(grep -c '^slimscope: ' "$tmp/err")" "one line says why"
done
cp -r $model "$tmp/own"
exits 64 "into the model's own folder" s quant --model_path "$tmp/own" --save_path "$tmp/own/" --config_path $dynamic
cmp -s $model/model.safetensors "$tmp/own/model.safetensors" && ok "which is as it was" || not_ok "which is as it was"
: >"$tmp/file"
exits 74 "a file in place of the folder" q --save_path "$tmp/file" --config_path $dynamic
[ ! -e "$tmp/no" ] && ok "nothing was made by any of them" || not_ok "nothing was made by any of them"

# ---- the practice ----
exits 0 "dry run" q --save_path "$tmp/no" --quant_type w8a8 --dry-run --why
has "$tmp/out" "W8A8_DYNAMIC" "names the scheme"
has "$tmp/err" "practice qwen3-w8a8:" "the family's own practice comes first"
has "$tmp/out" "48 linears" "and how many linears it takes"
has "$tmp/err" "step 1:" "--why tells the steps"
has "$tmp/err" "candidates:" "and the candidates"
exits 0 "dry run as JSON" q --save_path "$tmp/no" --config_path $static --dry-run --format json
has "$tmp/out" '"calibration":"mix_calib.jsonl"' "names the data set"
python3 -c 'import json,sys; json.load(sys.stdin)' <"$tmp/out" && ok "is JSON" || not_ok "is JSON"
[ ! -e "$tmp/no" ] && ok "nothing is made by a dry run" || not_ok "nothing is made by a dry run"
exits 1 "a practice nobody confirms" q --save_path "$tmp/no"
exits 1 "or that is refused" sh -c "echo no | '$SLIMSCOPE' quant --model_path $model --save_path '$tmp/no' --tag vLLM-Ascend"
[ ! -e "$tmp/no" ] && ok "nothing is made without a yes" || not_ok "nothing is made without a yes"
exits 0 "yes is taken for y" sh -c "echo yes | '$SLIMSCOPE' quant --model_path $model --save_path '$tmp/asked' --trust_remote_code False --device cpu --model_type qwen3"
exits 0 "--yes doesn't ask" q --save_path "$tmp/asked2" --yes
cmp -s "$tmp/asked/quant_model_weights-00001-of-00001.safetensors" "$tmp/asked2/quant_model_weights-00001-of-00001.safetensors" &&
    ok "the same" || not_ok "the same"
mkdir -p "$tmp/repo/qwen3" "$tmp/repo/default"
sed 's/config_id: .*/config_id: mine/; s/score: .*/score: 99/; s/^  label: .*/&\n  verified_model_types: [qwen3]/' $dynamic >"$tmp/repo/qwen3/mine.yaml"
sed 's/config_id: .*/config_id: best/; s/score: .*/score: 100/' $dynamic >"$tmp/repo/default/best.yaml"
exits 0 "a folder of the user's own" env MSMODELSLIM_CUSTOM_PRACTICE_REPO="$tmp/repo" "$SLIMSCOPE" quant --model_path $model --save_path "$tmp/no" --quant_type w8a8 --dry-run --yes
has "$tmp/err" "practice mine" "its practice wins by score, and before any default"
exits 0 "a family without a folder" q --save_path "$tmp/no" --quant_type w8a8 --dry-run --yes --model_type default
has "$tmp/err" "practice default-w8a8-static:" "gets the default: W8A8 with fixed ranges"

# ---- the run ----
exits 0 "static" q --save_path "$tmp/a" --config_path $static --verify --debug --max-samples 6 --seq-len 64 --progress always
has "$tmp/out" "56 linears quantized, 0 float" "counts"
has "$tmp/out" "0 problems" "reads back what it wrote"
has "$tmp/err" "===========QUANTIZE MODEL===========" "phases are logged"
has "$tmp/err" " of 8" "and layers, a line each"
has "$tmp/err" "peak memory" "and the peak"
for f in quant_model_description.json quant_model_weights.safetensors.index.json config.json tokenizer.json qwen3_best_practice.yaml debug_info/debug_info.json debug_info/debug_info.safetensors; do
    [ -s "$tmp/a/$f" ] && ok "writes $f" || not_ok "writes $f"
done
has "$tmp/a/quant_model_description.json" '"model_quant_type": "W8A8"' "describes itself"
exits 0 "its recipe loads" s check "$tmp/a/qwen3_best_practice.yaml"
exits 0 "as JSON" q --save_path "$tmp/j" --config_path $dynamic --format json --verify --threads 1 --mem 2G
python3 -c 'import json,sys; d=json.load(sys.stdin); assert d["quantized"]==56 and d["verify"][0]["problems"]==0 and len(d["verify"][0]["layers"])>=56' <"$tmp/out" &&
    ok "every linear has its error" || not_ok "every linear has its error"
exits 1 "memory that can't do" q --save_path "$tmp/no" --config_path $static --mem 1M
[ ! -e "$tmp/no/quant_model_description.json" ] && ok "leaves no output" || not_ok "leaves no output"
printf 'x' >>"$tmp/j/quant_model_weights-00001-of-00001.safetensors"
exits 64 "over an older output" q --save_path "$tmp/j" --config_path $dynamic --compat peer --progress never
has "$tmp/err" "holds 'demo' as ascendv1_saver wrote it" "is refused by its name"
exits 0 "when that is asked for" q --save_path "$tmp/j" --config_path $dynamic --compat peer --force --progress never
is 0 "$(grep -c 'layer' "$tmp/err")" "--progress never"

# ---- stopped and gone on ----
exits 0 "one run" q --save_path "$tmp/whole" --config_path $static --max-samples 8
cp -r "$tmp/whole" "$tmp/described"
exits 64 "a described run into it is another one" q --save_path "$tmp/described" --config_path $static --max-samples 8 --debug
exits 0 "a run that is described" q --save_path "$tmp/described" --config_path $static --max-samples 20 --debug --force
mkfifo "$tmp/pipe"
"$SLIMSCOPE" quant --model_path $model --save_path "$tmp/part" --config_path $static --max-samples 8 --progress always 2>"$tmp/pipe" >/dev/null &
pid=$!
while read -r line; do case $line in layer*) kill -9 $pid; break ;; esac; done <"$tmp/pipe"
wait $pid 2>/dev/null
[ ! -e "$tmp/part/quant_model_description.json" ] && ok "a killed run leaves no output" || ok "the run was faster than its end"
exits 0 "go on" q --save_path "$tmp/part" --config_path $static --max-samples 8 --resume --verify
for f in "$tmp/whole"/*; do
    cmp -s "$f" "$tmp/part/${f##*/}" || { not_ok "${f##*/} is the same"; continue; }
    ok "${f##*/} is the same"
done
is "$(ls -A "$tmp/whole" | sort | tr '\n' ' ')" "$(ls -A "$tmp/part" | sort | tr '\n' ' ')" "and nothing else is left"

rm -rf "$tmp/part"
exits 130 "a described run that is stopped" python3 tests/lib/interrupt_at.py "layer 2 " SIGINT 1 "$SLIMSCOPE" quant --model_path $model --save_path "$tmp/part" --config_path $static --max-samples 20 --debug --progress always
exits 0 "go on and describe" q --save_path "$tmp/part" --config_path $static --max-samples 20 --resume --debug
has "$tmp/out" "layers were there already from the run that was stopped" "finished layers are not written again"
for layer in 0 7; do
    has "$tmp/part/debug_info/debug_info.json" "\"model.layers.$layer.mlp.down_proj.scale\"" "layer $layer is described"
done
for f in debug_info.json debug_info.safetensors; do
    same "$tmp/described/debug_info/$f" "$tmp/part/debug_info/$f" "$f describes the layers of the stopped run, too"
done
same "$tmp/described/.slimscope.ascendv1_saver.json" "$tmp/part/.slimscope.ascendv1_saver.json" "and the run counts as the same"

# ---- the same run once more ----
state() { (cd "$1" && find . -type f -exec ls -ln --time-style=full-iso {} + | sort); }
for d in whole described; do
    how="--max-samples 8" && [ $d = described ] && how="--max-samples 20 --debug"
    state "$tmp/$d" >"$tmp/before"
    exits 0 "a dry run of it" q --save_path "$tmp/$d" --config_path $static $how --dry-run
    has "$tmp/out" "$tmp/$d holds this model already: whole, nothing would be written if the calibration texts are still the same" "says so"
    exits 0 "a finished run counts as done" q --save_path "$tmp/$d" --config_path $static $how --verify
    has "$tmp/out" "$tmp/$d holds this model already: whole, nothing written" "says so"
    has "$tmp/out" "56 quantized" "--verify reads it back"
    exits 0 "so does one that would go on" q --save_path "$tmp/$d" --config_path $static $how --resume --format json
    has "$tmp/out" '"there_already":true' "and tells it as JSON"
    state "$tmp/$d" | cmp -s - "$tmp/before" && ok "and nothing is touched" || not_ok "and nothing is touched"
done
for other in "--max-samples 7" "--max-samples 8 --seq-len 32" "--max-samples 8 --dtype-sim exact" "--max-samples 8 --compat peer"; do
    exits 64 "another run ($other)" q --save_path "$tmp/whole" --config_path $static $other
    has "$tmp/err" "holds 'demo' as ascendv1_saver wrote it: --force replaces it" "is refused"
done
sed 's/score: .*/score: 1/' $static >"$tmp/scored.yaml"
exits 64 "a recipe that would go along with another text" q --save_path "$tmp/whole" --config_path "$tmp/scored.yaml" --max-samples 8
printf 'x' >>"$tmp/whole/tokenizer.json"
exits 64 "a file that was changed" q --save_path "$tmp/whole" --config_path $static --max-samples 8
cp -r $model "$tmp/model"
exits 0 "a model" s quant --model_path "$tmp/model" --save_path "$tmp/side" --config_path $dynamic
exits 0 "counts as done" s quant --model_path "$tmp/model" --save_path "$tmp/side" --config_path $dynamic
has "$tmp/out" "nothing written" "without texts"
sed -i 's/0/2/' "$tmp/model/generation_config.json"
exits 64 "not when a file beside its weights has changed" s quant --model_path "$tmp/model" --save_path "$tmp/side" --config_path $dynamic

# ---- the command language ----
cat >"$tmp/script" <<S
open $model
set max-samples 6
set seq-len 64
exclude *layers.0.mlp.down_proj *o_proj
quantize --save $tmp/edited --dry-run
quantize --save $tmp/edited --verify --debug
export $tmp/edited.yaml
S
exits 0 "a script" s --script "$tmp/script"
has "$tmp/out" "float" "its dry run lists what stays float"
has "$tmp/edited/quant_model_description.json" '"model.layers.0.mlp.down_proj.weight": "FLOAT"' "what was excluded is float"
has "$tmp/edited/quant_model_description.json" '"model.layers.1.mlp.down_proj.weight": "W8A8"' "the rest is not"
exits 0 "the exported recipe" q --save_path "$tmp/again" --config_path "$tmp/edited.yaml" --max-samples 6 --seq-len 64
cmp -s "$tmp/edited/quant_model_weights-00001-of-00001.safetensors" "$tmp/again/quant_model_weights-00001-of-00001.safetensors" &&
    ok "writes the same weights" || not_ok "writes the same weights"
exits 64 "quantize needs a folder" sh -c "printf 'open $model\nquantize\n' | '$SLIMSCOPE' --script -"
exits 64 "and a model" sh -c "printf 'quantize --save $tmp/no\n' | '$SLIMSCOPE' --script -"
exits 0 "quantize as JSON" sh -c "printf 'open $model\nrecipe $dynamic\nquantize --save $tmp/part! --format json\n' | '$SLIMSCOPE' --script -"
has "$tmp/out" '"quantized":56' "counts"
finish
