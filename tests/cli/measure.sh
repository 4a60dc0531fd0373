#!/bin/sh
# slimscope measure, and what slimscope MODEL prints without a terminal.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
m=lab_models/demo
measure() { s measure --model_path $m --max-samples 8 --seq-len 128 "$@"; }
get() { python3 -c 'import json,sys
d=json.load(open(sys.argv[1]))
for k in sys.argv[2].split("."): d=d[k]
print(d if not isinstance(d,list) else len(d))' "$1" "$2"; }
less() { # A B NAME: A < B
    if python3 -c 'import sys; sys.exit(not float(sys.argv[1]) < float(sys.argv[2]))' "$1" "$2"; then ok "$3"; else not_ok "$3"; echo "# $1 is not below $2"; fi
}

exits 0 "text" measure
for w in "KL divergence" "perplexity" "same top token" "output MSE" "bits per weight" "56 of 56 linears W8A8" "eval.jsonl" "mix_calib.jsonl"; do
    has "$tmp/out" "$w" "text tells $w"
done
has "$tmp/err" "peak memory" "stderr tells the memory"
exits 0 "json" measure --format json
cp "$tmp/out" "$tmp/all.json"
measure --format json >"$tmp/again.json" 2>/dev/null
same "$tmp/all.json" "$tmp/again.json" "same run, same bytes"
less "$(get "$tmp/all.json" perplexity_float.mean)" "$(get "$tmp/all.json" perplexity_quantized.mean)" "quantizing makes perplexity worse"
is 1024 "$(get "$tmp/all.json" evaluation.tokens)" "1,024 evaluation tokens"
exits 0 "exclude" measure --format json --exclude '*.{1,6}.mlp.down_proj' --out "$tmp/kept.json"
is "" "$(cat "$tmp/out")" "out leaves stdout empty"
is 2 "$(get "$tmp/kept.json" levels.float)" "two linears are float"
less "$(get "$tmp/kept.json" kl.mean)" "$(get "$tmp/all.json" kl.mean)" "the two worst in float make KL smaller"
less "$(get "$tmp/kept.json" perplexity_quantized.mean)" "$(get "$tmp/all.json" perplexity_quantized.mean)" "and perplexity better"
exits 0 "a group moves as one" measure --format json --exclude 'model.layers.3.self_attn.q_proj' 'model.layers.0.mlp.gate_proj'
is 5 "$(get "$tmp/out" levels.float)" "q takes k and v, gate takes up"
exits 0 "all in float" measure --format json --exclude '*'
is 0.0 "$(python3 -c 'import json,sys; print(round(abs(float(json.load(open(sys.argv[1]))["kl"]["mean"])),6))' "$tmp/out")" "costs nothing"
exits 0 "full, ctx, eval, calib, seed" measure --full --ctx 64 --eval eval.jsonl --calib_dataset mix_calib.jsonl --seed 3 --format json
less 1024 "$(get "$tmp/out" evaluation.tokens)" "full is the whole set"
exits 0 "exact arithmetic" measure --dtype-sim exact --threads 2 --format json
is exact "$(get "$tmp/out" arithmetic)" "is named"
exits 0 "a recipe" measure --recipe tests/golden/config/broken/00-good-base.yaml

exits 64 "no model" s measure
exits 64 "csv" measure --format csv
exits 64 "an empty exclude" measure --exclude
exits 74 "a word that is no file" measure kurtosis
exits 64 "ctx 1" measure --ctx 1
exits 65 "a pattern without a hit" measure --exclude '*lm_haed*'
exits 65 "no evaluation set" measure --eval none.jsonl
exits 65 "a bad recipe" measure --recipe tests/golden/config/broken/05-unknown-processor.yaml
exits 74 "out in no folder" measure --out "$tmp/none/x"

# ---- back to what was measured: its numbers stand again, no job runs ----
cat >"$tmp/undo.slim" <<EOF
open $m
set max-samples 4
set seq-len 64
set ctx 64
measure
exclude '*.1.mlp.down_proj'
export --preview
measure
undo
export --preview
redo
export --preview
include '*.1.mlp.down_proj'
export --preview
set seed 5
export --preview
EOF
exits 0 "measure, exclude, undo, redo, include" s --script "$tmp/undo.slim"
is 2 "$(grep -c '^=== Measured effect' "$tmp/out")" "two measurements ran"
grep '^# slimscope: measured: ' "$tmp/out" >"$tmp/measured"
kl() { sed -n "$1p" "$tmp/measured" | grep -o 'KL [^ ]*'; }
is 5 "$(wc -l <"$tmp/measured")" "five previews tell what is measured"
is "" "$(kl 1)" "nothing after an exclude that is new"
is yes "$([ -n "$(kl 2)" ] && [ "$(kl 2)" != "$(kl 3)" ] && echo yes)" "undo and redo bring back two results"
is "$(kl 2)" "$(kl 4)" "so does the same assignment by another way"
is "" "$(kl 5)" "not under another seed"

# ---- slimscope MODEL without a terminal ----
exits 0 "report" s $m
for i in 1 2 3 15; do
    if grep -qE "^ *$i  model\.layers\.[0-9]\.[a-z_.]+ " "$tmp/out"; then ok "report has row $i with its whole name"; else not_ok "report has row $i with its whole name"; fi
done
for w in "quantized: 56 linears W8A8" "the worst 2 in float" "perplexity from" "of the loss is repaired" \
    "model.layers.6.mlp.down_proj and model.layers.1.mlp.down_proj in float"; do
    has "$tmp/out" "$w" "report tells: $w"
done
python3 - "$tmp/out" >"$tmp/story" <<'PY'
import re, sys
t = open(sys.argv[1]).read()
f, q = map(float, re.search(r"perplexity from ([\d.]+) to ([\d.]+)", t).groups())
k = float(re.search(r"in float it is ([\d.]+):", t).group(1))
r = float(re.search(r"([\d.]+) % of the loss", t).group(1))
print("worse" if q > 1.05 * f else "no", "repaired" if r > 60 and k < q else "no")
PY
is "worse repaired" "$(cat "$tmp/story")" "quantized is clearly worse than float, the two worst repair most of it"
exits 0 "make demo without a terminal" sh tests/demo.sh "$(realpath "$SLIMSCOPE")"
has "$tmp/out" "perplexity from" "is the report"
touch "$tmp/notafolder"
exits 74 "a cache folder that is a file" "$SLIMSCOPE" measure --model_path lab_models/demo --max-samples 1 --seq-len 16 --ctx 16 --cache-dir "$tmp/notafolder"
has "$tmp/err" "notafolder" "is named"
exits 0 "a cache folder is made" "$SLIMSCOPE" measure --model_path lab_models/demo --max-samples 1 --seq-len 16 --ctx 16 --cache-dir "$tmp/new/cache"
is yes "$([ -d "$tmp/new/cache" ] && echo yes)" "and is there"
# Several recipes: a table, the figures of each as measured by itself, differences paired against the first.
d=lab_practice/default
few="--model_path lab_models/demo --threads 2 --max-samples 4 --seq-len 64 --ctx 64"
cp $d/default-w8a8-static.yaml "$tmp/again, too.yaml"
# shellcheck disable=SC2086 # words are meant
several() { "$SLIMSCOPE" measure $d/default-w8a8-static.yaml $d/default-w8a8-dynamic.yaml "$tmp/again, too.yaml" $few "$@"; }
exits 0 "three recipes" several
has "$tmp/out" "differences are paired, against the first" "text: says so"
is 5 "$(wc -l <"$tmp/out" | tr -d ' ')" "text: a head and a row each"
exits 0 "three recipes as JSON" several --format json
cp "$tmp/out" "$tmp/three.json"
# shellcheck disable=SC2086
exits 0 "one of them by itself" "$SLIMSCOPE" measure --recipe $d/default-w8a8-dynamic.yaml $few --format json
cp "$tmp/out" "$tmp/one.json"
exits 0 "three recipes as CSV" several --format csv
python3 - "$tmp/three.json" "$tmp/one.json" "$tmp/out" >"$tmp/story" <<'PY'
import csv, json, sys
rows = json.load(open(sys.argv[1]))["recipes"]
one = json.load(open(sys.argv[2]))
table = list(csv.DictReader(open(sys.argv[3])))
print(len(rows), len(table))
print(rows[1]["kl"] == one["kl"]["mean"] and rows[1]["kl_se"] == one["kl"]["se"] and rows[1]["bytes"] == one["bytes"])
print(abs(rows[1]["kl_more"] - (rows[1]["kl"] - rows[0]["kl"])) < 1e-6 and rows[1]["kl_more_se"] > 0)
print(rows[1]["verdict"], rows[2]["verdict"], rows[2]["kl_more"] == 0, rows[2]["recipe"][-15:])
print(all(float(t["kl"]) == r["kl"] and t["recipe"] == r["recipe"] for t, r in zip(table, rows)))
PY
is "3 3
True
True
better the same True again, too.yaml
True" "$(cat "$tmp/story")" "each as by itself, and paired"
# shellcheck disable=SC2086
exits 74 "a recipe that isn't there" "$SLIMSCOPE" measure $d/default-w8a8-static.yaml "$tmp/none.yaml" $few
is "" "$(grep 'peak memory' "$tmp/err")" "is told before anything is measured"
# shellcheck disable=SC2086
exits 64 "--exclude beside several" several --exclude '*o_proj'
# shellcheck disable=SC2086
exits 64 "csv of one" "$SLIMSCOPE" measure $few --format csv

# ---- processors that change the model first ----
sed 's/^  process:$/  process:\n    - type: "iter_smooth"/' $d/default-w8a8-static.yaml >"$tmp/iter.yaml"
exits 0 "a recipe that smooths" measure --recipe "$tmp/iter.yaml" --format json
mv "$tmp/out" "$tmp/iter.json"
exits 0 "and the same without" measure --recipe $d/default-w8a8-static.yaml --format json
is 1 "$(get "$tmp/iter.json" processors)" "what was measured tells its processors"
is 0 "$(grep -c '"processors"' "$tmp/out")" "where there are none, there are none"
mv "$tmp/out" "$tmp/named.json"
exits 0 "a recipe as a word" measure $d/default-w8a8-static.yaml --format json
is "$(get "$tmp/named.json" kl.mean)" "$(get "$tmp/out" kl.mean)" "is the one of --recipe"
exits 64 "a recipe as a word beside --exclude" measure $d/default-w8a8-static.yaml --exclude '*o_proj'
mv "$tmp/named.json" "$tmp/out"
less "$(get "$tmp/iter.json" kl.mean)" "$(get "$tmp/out" kl.mean)" "less is lost"
exits 0 "the text" measure --recipe "$tmp/iter.yaml"
has "$tmp/out" "processors       iter_smooth, before anything is quantized" "tells them too"
sed 's/^  process:$/  process:\n    - type: "kv_smooth"/' $d/default-w8a8-static.yaml >"$tmp/kv.yaml"
analyze() { s analyze attn attention_mse --model_path $m --max-samples 4 --seq-len 128 "$@"; }
exits 0 "an analysis" analyze --format json
mv "$tmp/out" "$tmp/plain.json"
exits 0 "an analysis behind kv_smooth" analyze --recipe "$tmp/kv.yaml" --format json
is 1 "$(get "$tmp/out" processors)" "tells what it looked at"
last() { python3 -c 'import json,sys; print(next(l["score"] for l in json.load(open(sys.argv[1]))["layers"] if ".7." in l["name"]))' "$1"; }
less "$(last "$tmp/out")" "$(last "$tmp/plain.json")" "keys with one scale a head lose less"
exits 0 "as text" analyze --recipe "$tmp/kv.yaml"
has "$tmp/out" "Model: as kv_smooth of kv.yaml makes it" "it says so"
exits 0 "the input before" s plot channels model.layers.1.self_attn.q_proj --model_path $m --max-samples 4 --seq-len 128 --recipe "$tmp/iter.yaml" --before --format json
mv "$tmp/out" "$tmp/before.json"
exits 0 "and behind iter_smooth" s plot channels model.layers.1.self_attn.q_proj --model_path $m --max-samples 4 --seq-len 128 --recipe "$tmp/iter.yaml" --format json
top() { python3 -c 'import json,sys; v=json.load(open(sys.argv[1]))["largest"]; print(max(v)/(sum(v)/len(v)))' "$1"; }
less "$(top "$tmp/out")" "$(top "$tmp/before.json")" "its largest channel stands out less"
finish
