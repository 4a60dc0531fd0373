#!/bin/sh
# Scores of other programs beside those made here: shown, sorted, ranked and exported by their names, and marked.
. tests/tap.sh
M=tests/golden/models/llama/fp32
script() { cat >"$tmp/$1.slim"; exits "${2:-0}" "$1" "$SLIMSCOPE" --script "$tmp/$1.slim"; }

script "the recorded logs are read" <<EOT
open $M
load scores tests/golden/analysis/llama-fp32.std.log --as peer
load scores tests/golden/analysis/llama-fp32.mse.txt
load scores tests/golden/analysis/llama-fp32.kurtosis.json --as k
show peer
sort score
rank peer --topk 1
EOT
has "$tmp/err" "21 scores of linears loaded from llama-fp32.std.log (a log of msModelSlim) as 'peer'" "a log with a logger's words"
has "$tmp/err" "3 scores of attentions loaded from llama-fp32.mse.txt (a log of msModelSlim) as 'llama-fp32.mse'" "scores of attentions"
has "$tmp/out" "Loaded from: llama-fp32.std.log" "rank says where they come from"
has "$tmp/out" "model.layers.2.mlp.gate_proj                       | Score:   1.4911e+01" "the peer's first"

script "JSON and CSV have them" <<EOT
open $M
load scores tests/golden/analysis/llama-fp32.std.json --as peer
rank peer --format json --out $tmp/rank.json
rank peer --format csv --out $tmp/rank.csv
export $tmp/table.csv
load scores $tmp/rank.json --as again
load scores $tmp/rank.csv --as csv
load scores $tmp/table.csv
export $tmp/two.csv
EOT
python3 - "$tmp" tests/golden/analysis/llama-fp32.std.json >"$tmp/tap" <<'P'
import csv, json, sys
tmp, recorded = sys.argv[1:]
want = {l["name"]: l["score"] for l in json.load(open(recorded))["layer_scores"]}
j = json.load(open(tmp + "/rank.json"))
def check(name, good): print(("ok" if good else "not ok") + " - " + name)
check("rank's JSON is the file's", {l["name"]: l["score"] for l in j["layers"]} == want)
check("and says that it was loaded", j["loaded"] == "llama-fp32.std.json" and j["arithmetic"] is None and j["scheme"] is None)
rows = list(csv.DictReader(open(tmp + "/two.csv")))
for column in ("peer", "again", "csv", "table"):
    check(f"column {column} is the file's", {r["name"]: float(r[column]) for r in rows} == want)
P
relay "$tmp/tap"
[ -s "$tmp/tap" ] || not_ok "the comparison ran"

# llama.cpp's matrices of a model with experts, in both forms
G=tests/golden/models/qwen3_moe/fp32
PYTHONDONTWRITEBYTECODE=1 python3 tests/lib/make_imatrix.py $G "$tmp/im"
script "an imatrix is read" <<EOT
open $G
load scores $tmp/im.dat --as dat
load scores $tmp/im.gguf --as gguf
export $tmp/im.csv
EOT
python3 - "$tmp" >"$tmp/tap" <<'P'
import csv, json, sys
want = json.load(open(sys.argv[1] + "/im.json"))
rows = [r for r in csv.DictReader(open(sys.argv[1] + "/im.csv")) if r["dat"]]
for form in ("dat", "gguf"):
    good = len(rows) == len(want) and all(abs(float(r[form]) - want[r["name"]]) <= 1e-6 * want[r["name"]] for r in rows)
    print(("ok" if good else "not ok") + f" - {form}: sums of mean squares, of each expert")
P
relay "$tmp/tap"
[ -s "$tmp/tap" ] || not_ok "the matrices were compared"

head -c 100 "$tmp/im.gguf" >"$tmp/cut.gguf"
script "a file that is cut off" 65 <<EOT
open $G
load scores $tmp/cut.gguf
EOT
has "$tmp/err" "'cut.gguf' can't be read as an imatrix of llama.cpp: it is cut off" "is refused in a line"
head -c 3000 /dev/urandom >"$tmp/noise"
script "bytes without a meaning" 65 <<EOT
open $G
load scores $tmp/noise
EOT
is 1 "$(grep -c "can't be read as" "$tmp/err")" "are refused in a line"
truncate -s 2G "$tmp/huge.csv"
script "a huge file" 65 <<EOT
open $G
load scores $tmp/huge.csv
EOT
has "$tmp/err" "huge.csv" "is refused in a line"
script "another word" 64 <<EOT
open $G
load weights $tmp/im.json
EOT
has "$tmp/err" "'load weights' is not known: load scores FILE" "is refused"
finish
