#!/bin/sh
# asan: yes
# Data sets of token ids, for checkpoints without a tokenizer: the same scores and effects as from the texts they stand for.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
scores() { sed 's/"model":"[^"]*"//; s/"calibration":{[^}]*}//' "$1"; }

# a model with its tokenizer, and the same one without
with=tests/golden/analysis/_models/llama-fp32 bare=$tmp/bare
mkdir "$bare"
cp $with/config.json $with/model.safetensors "$bare"
printf '{"text":"a first text, short"}\n{"text":"and a second one: 12 words, or a few less"}\n{"text":"third"}\n' >"$tmp/texts.jsonl"
exits 0 "ids of the texts" s tokenize --model_path $with --jsonl text "$tmp/texts.jsonl"
sed 's/.*/{"input_ids":&}/' "$tmp/out" >"$tmp/ids.jsonl"
for m in kurtosis std quantile local_error; do
    exits 0 "$m from texts" s analyze $m --model_path $with --calib_dataset "$tmp/texts.jsonl" --format json
    scores "$tmp/out" >"$tmp/a"
    exits 0 "$m from ids" s analyze $m --model_path "$bare" --calib_dataset "$tmp/ids.jsonl" --format json
    scores "$tmp/out" >"$tmp/b"
    same "$tmp/a" "$tmp/b" "$m is the same"
done
exits 0 "measure from texts" s measure --model_path $with --calib_dataset "$tmp/texts.jsonl" --eval "$tmp/texts.jsonl" --format json
python3 -c 'import json,sys; d=json.load(sys.stdin); [d.pop(k,None) for k in ("model","calibration","evaluation","seconds","computed")]; print(json.dumps(d,sort_keys=True))' <"$tmp/out" >"$tmp/a"
exits 0 "measure from ids" s measure --model_path "$bare" --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl" --format json
python3 -c 'import json,sys; d=json.load(sys.stdin); [d.pop(k,None) for k in ("model","calibration","evaluation","seconds","computed")]; print(json.dumps(d,sort_keys=True))' <"$tmp/out" >"$tmp/b"
same "$tmp/a" "$tmp/b" "the effect is the same"
has "$tmp/a" '"kl' "and there is one"

# a recorded model, end to end
g=tests/golden/models/llama/fp32
printf '{"input_ids":[116,56,100,30,21,14,97,86,116,98]}\n{"input_ids":[127,121,105,28,77,19,85,15,61,71]}\n' >"$tmp/g.jsonl"
exits 0 "analyze" s analyze --model_path $g --calib_dataset "$tmp/g.jsonl" --topk 3
has "$tmp/out" "Total layers analyzed: 21" "scores every linear"
exits 0 "in exact arithmetic" s analyze linear --metrics std --model_path tests/golden/models/llama/bf16 --calib_dataset "$tmp/g.jsonl" --dtype-sim exact
exits 0 "measure" s measure --model_path $g --calib_dataset "$tmp/g.jsonl" --eval "$tmp/g.jsonl"
has "$tmp/out" "KL divergence" "gives an effect"
exits 0 "a script" sh -c "printf 'open $g\ncalib $tmp/g.jsonl\neval $tmp/g.jsonl\nanalyze local_error\nexclude *down_proj\nmeasure\nexport $tmp/e.yaml\n' | '$SLIMSCOPE' --script -"
has "$tmp/e.yaml" "down_proj" "exports"

# what cannot be: texts, or ids outside the vocabulary
exits 65 "the default texts" s analyze --model_path $g
has "$tmp/err" "no tokenizer.json there; a data set of token ids (input_ids) needs none" "tells what would do"
printf '{"input_ids":[1,2]}\n{"input_ids":[128]}\n' >"$tmp/big.jsonl"
exits 65 "an id too large" s analyze --model_path $g --calib_dataset "$tmp/big.jsonl"
has "$tmp/err" "big.jsonl:2: token id 128 is outside the model's vocabulary of 128" "names the line"
exits 65 "no id at all" sh -c "echo '{\"input_ids\":[]}' >'$tmp/none.jsonl'; '$SLIMSCOPE' analyze --model_path $g --calib_dataset '$tmp/none.jsonl'"
finish
