#!/bin/sh
# asan: yes
# slimscope tokenize: ids as recorded, one array a line.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
for t in demo qwen2; do
    g=tests/golden/tokenizers/$t j=tests/golden/tokenizers/$t/tokenizer.json
    [ $t = demo ] && j=lab_models/demo/tokenizer.json
    python3 - $g/golden.json "$tmp" <<'PY'
import json, sys
d = [x for x in json.load(open(sys.argv[1])) if "\0" not in x["text"]]
out = lambda n: open(sys.argv[2] + "/" + n, "w", encoding="utf-8", newline="\n")
with out("texts.jsonl") as f:
    for x in d: f.write(json.dumps({"other": 1, "text": x["text"]}) + "\n")
with out("ids") as f:
    for x in d: f.write(json.dumps(x["ids"]) + "\n")
with out("plain") as f:
    for x in d: f.write(json.dumps(x["ids_no_special"]) + "\n")
PY
    exits 0 "$t runs" s tokenize --tokenizer $j --jsonl text "$tmp/texts.jsonl"
    same "$tmp/ids" "$tmp/out" "$t ids"
    exits 0 "$t runs without special tokens" s tokenize --tokenizer $j --no-special --jsonl text "$tmp/texts.jsonl"
    same "$tmp/plain" "$tmp/out" "$t ids without special tokens"
done
m="--model_path lab_models/demo"
exits 0 "an empty text" s tokenize $m --text ''
is "[]" "$(cat "$tmp/out")" "has no id"
exits 0 "a text" s tokenize $m --text 'The house was'
cp "$tmp/out" "$tmp/a"
printf 'The house was' >"$tmp/f.txt"
exits 0 "a file" s tokenize $m --file "$tmp/f.txt"
same "$tmp/a" "$tmp/out" "is one text"
exits 0 "a text that looks like an option" s tokenize $m --text=--foo
printf '{"t":"a"}\n\n{"t":""}\n' >"$tmp/x.jsonl"
exits 0 "blank lines are skipped" s tokenize $m --jsonl t "$tmp/x.jsonl"
is 2 "$(wc -l <"$tmp/out")" "one array a text"
is "[]" "$(tail -n 1 "$tmp/out")" "[] for an empty one"

exits 64 "no tokenizer" s tokenize --text a
has "$tmp/err" "give either --model_path DIR or --tokenizer FILE" "is told"
exits 64 "two tokenizers" s tokenize $m --tokenizer x --text a
exits 64 "no text" s tokenize $m
exits 64 "two texts" s tokenize $m --text a --file b
exits 64 "jsonl without a file" s tokenize $m --jsonl text
has "$tmp/err" "--jsonl FIELD FILE" "is told"
printf '{"t":"a"}\n{"u":"a"}\n' >"$tmp/x.jsonl"
exits 65 "a missing field" s tokenize $m --jsonl t "$tmp/x.jsonl"
has "$tmp/err" "x.jsonl:2: no field 't'" "names the line"
printf '{"t":"a"}\n{"t":\n' >"$tmp/x.jsonl"
exits 65 "bad JSON" s tokenize $m --jsonl t "$tmp/x.jsonl"
has "$tmp/err" "x.jsonl:2" "names the line"
printf '[1]\n' >"$tmp/x.jsonl"
exits 65 "no object" s tokenize $m --jsonl t "$tmp/x.jsonl"
echo '{' >"$tmp/bad.json"
exits 65 "a bad tokenizer" s tokenize --tokenizer "$tmp/bad.json" --text a
exits 74 "a missing file" s tokenize $m --file "$tmp/none"
finish
