#!/bin/sh
# The texts of the calibration set: taken out, taken back, added, written; what every output calls the set; undo, history and
# scripts; a session that was killed.
. tests/tap.sh
M=lab_models/demo
export SLIMSCOPE_DATA=$PWD
printf '{"inputs_pretokenized": "The wrong answer came here."}\n{"input_ids": [5, 6, 7]}\n' >"$tmp/bad.jsonl"
head -n 6 lab_calib/mix_calib.jsonl >"$tmp/six.jsonl"
script() { cat >"$tmp/$1.slim"; exits "${2:-0}" "$1" "$SLIMSCOPE" --script "$tmp/$1.slim"; }

script "texts go and come back" <<EOT
open $M
set threads=1
calib $tmp/six.jsonl
calib drop 5 1-2
calib keep 2
undo
redo
undo
undo
calib drop heapq 6
calib add $tmp/bad.jsonl
calib list
analyze std
rank std --format json --out $tmp/rank.json
export $tmp/best.yaml
calib save $tmp/saved.jsonl
calib save $tmp/saved.jsonl
history --save $tmp/again.slim
EOT
has "$tmp/err" "3 texts taken out; calibration is six.jsonl - 3 texts now" "what was taken out"
has "$tmp/err" "1 text taken back; calibration is six.jsonl - 2 texts now" "and back"
has "$tmp/err" "undone: text 1, 2, 5 are in again" "undo says what it did"
has "$tmp/out" "six.jsonl + bad.jsonl - 2 texts: 6 of 8 texts used, 2 taken out" "the list is of the set as it is"
has "$tmp/out" "3  X " "and shows what is out"
grep -q '"name":"[^"]*six.jsonl + bad.jsonl - 2 texts"' "$tmp/rank.json" && ok "a ranking names it" || not_ok "a ranking names it"
has "$tmp/best.yaml" "# slimscope: calibration: six.jsonl + bad.jsonl - 2 texts, sha256" "an exported recipe names it"
is 6 "$(wc -l <"$tmp/saved.jsonl" | tr -d ' ')" "a saved set has the texts that are in"
has "$tmp/saved.jsonl" '{"input_ids": [5, 6, 7]}' "token ids stay token ids"
grep -q "keep 2" "$tmp/again.slim" && not_ok "what was undone is left out of the history" || ok "what was undone is left out of the history"
has "$tmp/again.slim" "calib save" "and what shows the set stays"

script "a saved set gives the same scores" <<EOT
open $M
set threads=1
calib $tmp/saved.jsonl
analyze std
rank std --format json --out $tmp/rank2.json
EOT
python3 - "$tmp" >"$tmp/tap" <<'P'
import json, sys
a, b = (json.load(open(f"{sys.argv[1]}/{n}.json")) for n in ("rank", "rank2"))
def check(name, good): print(("ok" if good else "not ok") + " - " + name)
check("to the last digit", a["layers"] == b["layers"])
check("of as many tokens", a["calibration"]["tokens"] == b["calibration"]["tokens"] > 0)
check("under another fingerprint", a["calibration"]["sha256"] != b["calibration"]["sha256"])
P
relay "$tmp/tap"
[ -s "$tmp/tap" ] || not_ok "the comparison ran"

cp "$tmp/best.yaml" "$tmp/first.yaml"
rm "$tmp/best.yaml" "$tmp/saved.jsonl"
exits 0 "a saved history does it again" "$SLIMSCOPE" --script "$tmp/again.slim"
cmp -s "$tmp/first.yaml" "$tmp/best.yaml" && ok "with the same export" || not_ok "with the same export"

# what is wrong is said in one line
while read -r words; do
    printf 'open %s\ncalib %s\n' $M "$words" >"$tmp/bad.slim"
    "$SLIMSCOPE" --script "$tmp/bad.slim" >"$tmp/out" 2>"$tmp/err"
    rc=$?
    n=$(grep -c "bad.slim:2" "$tmp/err")
    [ $rc -ge 64 ] && [ "$n" = 1 ] && ok "calib $words: $(sed -n 's/.*bad.slim:2: //p' "$tmp/err")" || not_ok "calib $words ends with $rc and $n lines"
done <<'EOT'
drop 35
drop 0
drop nothing-of-the-kind
drop 1-34
drop tagged
drop
keep
add nowhere.jsonl
add README.md
save
show 99
show x
sort size
sort tokens up
list 5
one two
EOT
printf 'calib drop 5\n' >"$tmp/bad.slim"
exits 64 "without a model there are no texts" "$SLIMSCOPE" --script "$tmp/bad.slim"
has "$tmp/err" "no model is open" "which is said"

# a session that was killed
{ printf 'calib drop 5 7\ncalib keep 5\nanalyze std\nhistory\n'; sleep 5; } | "$SLIMSCOPE" shell $M >"$tmp/out" 2>"$tmp/err" &
pid=$!
for _ in 1 2 3 4 5 6 7; do
    grep -q "analyze std" "$tmp/out" && break
    sleep 0.5
done
sleep 1.2 # what was handed over is on the disk within a second
kill -9 $pid
wait $pid 2>/dev/null
exits 0 "it is gone on with" "$SLIMSCOPE" resume --no-run --size 200x60 --dump-screen "$tmp/back.txt"
has "$tmp/back.txt" "calib mix_calib.jsonl - 1 text" "with the text that was out"
script "what shows a text" <<EOT
open $M
calib $tmp/six.jsonl
analyze text_range
calib list --format csv --out $tmp/t.csv
calib list --format json --out $tmp/t.json
calib sort tokens
calib filter script=Han
calib list
calib filter
calib show 3
EOT
python3 - "$tmp" >"$tmp/tap" <<'P'
import csv, json, sys
def check(name, good): print(("ok" if good else "not ok") + " - " + name)
rows = list(csv.DictReader(open(sys.argv[1] + "/t.csv")))
doc = json.load(open(sys.argv[1] + "/t.json"))
texts = [json.loads(l)["inputs_pretokenized"] for l in open(sys.argv[1] + "/six.jsonl")]
check("csv has every text whole", [r["text"] for r in rows] == texts)
check("json, too", [r["text"] for r in doc["rows"]] == texts)
check("and the same figures", all(int(r["sets"]) == d["ranges"]["sets"] and int(r["tokens"]) == d["tokens"] for r, d in zip(rows, doc["rows"])))
check("every linear's range is set by some text", sum(d["ranges"]["sets"] for d in doc["rows"]) >= doc["linears"] > 0)
P
relay "$tmp/tap"
[ -s "$tmp/tap" ] || not_ok "the tables were read"
has "$tmp/out" "filter       'script=Han': 2 of 6 texts" "a filter is told"
has "$tmp/out" "sorted       by tokens, falling" "and an order"
has "$tmp/out" "alone it sets those of" "show tells what the text does"
has "$tmp/out" "heapq.heappush" "and has all of it"

script "texts are left out one by one, and other sets tried" <<EOT
open $M
set threads=1
calib $tmp/six.jsonl
calib loo 3 5
calib loo 3
calib compare boolq.jsonl $tmp/saved.jsonl
calib trials --format json --out $tmp/trials.json
EOT
has "$tmp/out" "without text 5" "each has its row"
has "$tmp/out" "boolq.jsonl" "sets, too"
head -n 2 "$tmp/six.jsonl" >"$tmp/five.jsonl"
tail -n 3 "$tmp/six.jsonl" >>"$tmp/five.jsonl"
exits 0 "a set without the text" "$SLIMSCOPE" measure --model_path $M --calib_dataset "$tmp/five.jsonl" --threads 1 --format json --out "$tmp/five.json"
python3 - "$tmp" >"$tmp/tap" <<'P'
import json, sys
def check(name, good): print(("ok" if good else "not ok") + " - " + name)
t = json.load(open(sys.argv[1] + "/trials.json"))
five = json.load(open(sys.argv[1] + "/five.json"))
check("gives what leaving it out gives", five["kl"]["mean"] == t["trials"][0]["kl"])
check("four were tried", [x["without"] for x in t["trials"]] == [3, 5, 0, 0] and all(x["measured"] for x in t["trials"]))
check("with paired errors", all(x["difference"] for x in t["trials"]))
P
relay "$tmp/tap"
[ -s "$tmp/tap" ] || not_ok "the trials were read"
printf 'open %s\ncalib trials\n' $M >"$tmp/bad.slim"
exits 64 "nothing was tried yet" "$SLIMSCOPE" --script "$tmp/bad.slim"
finish
