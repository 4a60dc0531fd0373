#!/bin/sh
# slimscope compare: measurements and metrics side by side.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
m=lab_models/demo
cat >"$tmp/two.slim" <<EOS
open $m
set max-samples 4
set seq-len 64
set eval-tokens 256
compare list
measure --format json --out $tmp/first.json
exclude '*.{1,6}.mlp.down_proj'
measure --format json --out $tmp/second.json
exclude '*.0.self_attn.o_proj'
measure
compare list
compare
compare measurements present base
compare measurements 1 2 --format json --out $tmp/pair.json
compare list --format json --out $tmp/list.json
set dtype-sim=exact
measure
compare measurements 4 3
EOS
exits 0 "measurements side by side" s --script "$tmp/two.slim"
has "$tmp/out" "nothing is measured yet" "an empty list says so"
has "$tmp/out" "2 of 56 linears float" "the list tells what was measured"
has "$tmp/out" "against #1 " "measure tells the difference to the base"
has "$tmp/out" "(base)" "and that it is that"
has "$tmp/out" "against #2 " "and to the measurement before"
has "$tmp/out" "A  #3 (present): w8a8_static" "without names: the present one"
has "$tmp/out" "B  #2: w8a8_static" "against the one before"
has "$tmp/out" "1 linear differs: model.layers.0.self_attn.o_proj (float, in B W8A8)" "the level that differs"
has "$tmp/out" "B  #1 (base)" "names"
has "$tmp/out" "verdict          A is better" "a verdict"
has "$tmp/out" "not comparable: measured in other arithmetics" "what doesn't compare is named"
python3 - "$tmp" >"$tmp/says" <<'PY'
import json, sys
d = sys.argv[1]
p, l, second = (json.load(open(f"{d}/{n}.json")) for n in ("pair", "list", "second"))
x = p["difference"]
print("figures" if abs(x["kl"] - (p["a"]["kl"] - p["b"]["kl"])) < 1e-12 else "no")
print("paired" if 0 < x["kl_se"] < (p["a"]["kl_se"] ** 2 + p["b"]["kl_se"] ** 2) ** 0.5 else "no")
print("decided" if x["verdict"] == "worse" and x["kl"] > 2 * x["kl_se"] else "no")
print(sorted(c["name"] + " " + c["a"] + " " + c["b"] for c in p["levels"]))
print([k["number"] for k in l["measurements"]], [k["float"] for k in l["measurements"]])
back = second["against"]["base"]
print("mirrored" if back["number"] == 1 and back["difference"]["kl"] == -x["kl"] and back["difference"]["verdict"] == "better" else "no")
PY
cat >"$tmp/wanted" <<'EOS'
figures
paired
decided
['model.layers.1.mlp.down_proj W8A8 float', 'model.layers.6.mlp.down_proj W8A8 float']
[1, 2, 3] [0, 2, 3]
mirrored
EOS
same "$tmp/wanted" "$tmp/says" "the JSON documents agree"

exits 0 "two files, without a model" s compare measurements "$tmp/first.json" "$tmp/second.json" --format json
python3 - "$tmp/out" "$tmp/pair.json" >"$tmp/says" <<'PY'
import json, sys
a, b = (json.load(open(n)) for n in sys.argv[1:])
print(a["difference"] == b["difference"], [a[k]["bytes"] == b[k]["bytes"] for k in "ab"])
PY
is "True [True, True]" "$(cat "$tmp/says")" "say what the session says"
exits 0 "as text" s compare measurements "$tmp/second.json" "$tmp/first.json"
has "$tmp/out" "verdict          A is better" "with a verdict"
exits 65 "another document" s compare measurements "$tmp/first.json" "$tmp/list.json"
has "$tmp/err" "is no document that measure wrote" "is named"
exits 74 "no such file" s compare measurements "$tmp/first.json" "$tmp/none.json"
sed 's/"blocks"/"blacks"/' "$tmp/first.json" >"$tmp/older.json"
exits 0 "an older document" s compare measurements "$tmp/older.json" "$tmp/second.json"
has "$tmp/out" "the error is unknown: recorded by an older slimscope" "has no errors"
sed 's/"predicted_tokens":\([0-9]*\)/"predicted_tokens":1/' "$tmp/first.json" >"$tmp/torn.json"
exits 65 "blocks of another measurement" s compare measurements "$tmp/torn.json" "$tmp/second.json"

# ---- marks, and back to a measurement ----
cat >"$tmp/marks.slim" <<EOS
open $m
set max-samples 4
set seq-len 64
set eval-tokens 256
measure
exclude '*.{1,6}.mlp.down_proj'
measure
compare mark A 1
compare mark B present
compare
compare swap
compare --format json --out $tmp/marked.json
undo
take 2
rule
undo
take 2
history --save $tmp/again.slim
EOS
exits 0 "marks" s --script "$tmp/marks.slim"
has "$tmp/err" "2 is B now; 'compare' sets the two side by side" "are told"
has "$tmp/out" "A  #1 (base): w8a8_static" "without names the marked ones are compared"
has "$tmp/out" "differs          levels of 2 linears only" "and told what differs"
has "$tmp/out" "  +float *.{1,6}.mlp.down_proj" "with the rules"
has "$tmp/err" "A is 2, B is 1 now" "swapped"
has "$tmp/err" "the assignment of measurement 2 is in place: 2 linears changed" "a measurement is taken back"
is "1" "$(grep -c '^ \[x\]  float .*[*][.]{1,6}[.]mlp[.]down_proj$' "$tmp/out")" "with its rules"
is '{"number":2' "$(sed -n 's/^{"a":\({"number":.\).*/\1/p' "$tmp/marked.json")" "as JSON"
is "1" "$(grep -c '^take 2$' "$tmp/again.slim")" "an undone take is left out of a saved history"
sed -i "s!^history.*!!; s!--out $tmp/marked.json!--out $tmp/replayed.json!" "$tmp/again.slim"
exits 0 "the saved history" s --script "$tmp/again.slim"
cut -d, -f1-3 "$tmp/marked.json" >"$tmp/wanted"
cut -d, -f1-3 "$tmp/replayed.json" >"$tmp/says"
same "$tmp/wanted" "$tmp/says" "compares the same two"

# ---- metrics ----
cat >"$tmp/m.slim" <<EOS
open $m
set max-samples 4
set seq-len 64
analyze kurtosis std local_error
compare metrics std kurtosis --topk 3
compare metrics kurtosis std --format json --out $tmp/metrics.json
EOS
exits 0 "metrics side by side" s --script "$tmp/m.slim"
has "$tmp/out" "std against kurtosis, over 56 of 56 linears" "what is compared"
has "$tmp/out" "... and 53 more that moved less" "as many rows as asked for"
python3 - "$tmp" >"$tmp/says" <<'PY'
import json, sys
p = json.load(open(sys.argv[1] + "/metrics.json"))
rows = p["rows"]
def ranks(of):
    v = [r[of] for r in rows]
    return [sum(y > x for y in v) + (sum(y == x for y in v) + 1) / 2 for x in v]
def same(a, b):
    return all(abs(x - y) < 1e-9 for x, y in zip(a, b))
a, b = ranks("a"), ranks("b")
print("ranks" if same(a, [r["rank_a"] for r in rows]) and same(b, [r["rank_b"] for r in rows]) else "no")
n, ma, mb = len(a), sum(a) / len(a), sum(b) / len(b)
cov = lambda x, y, mx, my: sum((i - mx) * (j - my) for i, j in zip(x, y))
rho = cov(a, b, ma, mb) / (cov(a, a, ma, ma) * cov(b, b, mb, mb)) ** 0.5
sign = lambda x: (x > 0) - (x < 0)
pairs = [(sign(a[i] - a[j]), sign(b[i] - b[j])) for i in range(n) for j in range(i)]
tau = sum(x * y for x, y in pairs) / (sum(x != 0 for x, _ in pairs) * sum(y != 0 for _, y in pairs)) ** 0.5
print("agreement" if same([rho, tau], [p["spearman"], p["kendall"]]) and p["both"] == n == p["units"] else "no")
moved = [abs(r["rank_a"] - r["rank_b"]) for r in rows]
print("order" if moved == sorted(moved, reverse=True) else "no")
PY
printf 'ranks\nagreement\norder\n' >"$tmp/wanted"
same "$tmp/wanted" "$tmp/says" "ranks, agreement and order of the rows are right"

# ---- runs ----
for n in 2 5; do
    s analyze --model_path $m --metrics kurtosis std --max-samples $n --seq-len 64 --format json --out "$tmp/run$n.json" 2>/dev/null
done
s analyze --model_path $m --metrics kurtosis --max-samples 5 --seq-len 64 --format csv --out "$tmp/run5.csv" 2>/dev/null
exits 0 "two files, without a model" s compare runs "$tmp/run2.json" "$tmp/run5.json" --topk 3
has "$tmp/out" "kurtosis: 56 names in both" "each metric that both have"
has "$tmp/out" "std: 56 names in both" "all of them"
has "$tmp/out" "calibration boolq.jsonl (2 samples" "what was calibrated with"
exits 0 "JSON against CSV" s compare runs "$tmp/run5.json" "$tmp/run5.csv" --format json
python3 - "$tmp/out" >"$tmp/says" <<'PY'
import json, sys
runs = json.load(open(sys.argv[1]))["runs"]
r = runs[0]
print(len(runs), r["metric"], r["both"], r["spearman"], r["kendall"], r["top"]["jaccard"], r["only_a"], all(x["a"] == x["b"] for x in r["rows"]))
PY
is "1 kurtosis 56 1 1 1 0 True" "$(sed 's/\.0 / /g' "$tmp/says")" "the same run in another form is the same"
cat >"$tmp/r.slim" <<EOS
open $m
calib boolq.jsonl
set max-samples 5
set seq-len 64
analyze kurtosis
compare runs $tmp/run2.json --format json --out $tmp/session.json
compare runs $tmp/run5.json
EOS
exits 0 "a file against the session" s --script "$tmp/r.slim"
has "$tmp/out" "B  this session: calibration boolq.jsonl (5 samples" "which is told"
has "$tmp/out" "Spearman 1.000, Kendall tau-b 1.000" "the same scores are the same"
s compare runs "$tmp/run2.json" "$tmp/run5.json" --format json >"$tmp/files.json" 2>/dev/null
python3 - "$tmp" >"$tmp/says" <<'PY'
import json, sys
a, b = (next(r for r in json.load(open(f"{sys.argv[1]}/{n}.json"))["runs"] if r["metric"] == "kurtosis") for n in ("session", "files"))
print(a["spearman"] == b["spearman"] < 1, a["rows"] == b["rows"])
PY
is "True True" "$(cat "$tmp/says")" "the session ranks as its own file does"
cat >"$tmp/k.slim" <<EOS
open $m
set max-samples 3
set seq-len 64
calib mix_calib.jsonl
analyze kurtosis
compare keep three
calib boolq.jsonl
analyze kurtosis
compare mark A kurtosis
compare mark B mix_calib.kurtosis
compare --topk 2
compare metrics three.kurtosis mix_calib.kurtosis --format json --out $tmp/kept.json
EOS
exits 0 "two calibration sets in one session" s --script "$tmp/k.slim"
has "$tmp/err" "the scores with mix_calib.jsonl are kept as mix_calib.METRIC" "a new set keeps what the old one gave"
has "$tmp/out" "A  kurtosis  now: boolq.jsonl, 3 texts" "where the scores of A come from"
has "$tmp/out" "B  mix_calib.kurtosis  kept: mix_calib.jsonl, 3 texts" "and of B"
has "$tmp/out" "... and 54 more that moved less" "as many rows as asked for"
has "$tmp/kept.json" '"both":56,"spearman":1' "what a person kept is what was kept by itself"
export XDG_STATE_HOME="$tmp/state"
printf 'open %s\nset max-samples 3\nset seq-len 64\nset eval-tokens 128\nanalyze kurtosis\nmeasure\n' $m >"$tmp/one.slim"
exits 0 "a session" sh -c "\"$SLIMSCOPE\" shell <\"$tmp/one.slim\""
id=$(ls "$tmp/state/slimscope/sessions")
printf 'open %s\nset max-samples 3\nset seq-len 64\nset eval-tokens 128\nexclude *.down_proj\nmeasure\nload session %s --as first\ncompare 1@first 1\n' $m "$id" >"$tmp/two.slim"
printf 'compare measurements 1 1@first\ncompare list --format json --out %s\n' "$tmp/list2.json" >>"$tmp/two.slim"
sed -i '/^compare 1@first/d' "$tmp/two.slim"
exits 0 "another session beside it" sh -c "\"$SLIMSCOPE\" shell <\"$tmp/two.slim\""
has "$tmp/err" "columns first.METRIC, 1 measurement NUMBER@first" "what came in is told"
has "$tmp/out" "B  #1@first" "its measurement is named by both"
has "$tmp/out" "verdict          A is better" "and compared"
has "$tmp/list2.json" '"name":"1@first"' "the list has it"
# shell COMMAND...: the last exit status of commands on the demo model
shell() { printf 'open %s\n' $m >"$tmp/x.slim"; printf '%s\n' "$@" >>"$tmp/x.slim"; s --script "$tmp/x.slim"; }
cat >"$tmp/h.slim" <<EOS
open $m
set max-samples 3
set seq-len 64
set eval-tokens 128
measure
measure --out $tmp/mine.json --format json
exclude *.1.mlp.down_proj
measure
compare hist model.layers.1.mlp.down_proj 1 2 --glyphs ascii
compare hist model.layers.1.mlp.down_proj 1 2 --format json --out $tmp/hist.json
compare measurements present $tmp/mine.json
load session $id --as first
compare drop first
compare list
EOS
exits 0 "a layer as both quantize it" sh -c "\"$SLIMSCOPE\" shell <\"$tmp/h.slim\""
has "$tmp/out" "A #1 W8A8: error 0.76 % of the weight" "what A loses"
has "$tmp/out" "B #2 float: nothing is lost" "and B"
has "$tmp/out" "B  $tmp/mine.json: w8a8_static, 128 tokens" "a measurement beside a file"
has "$tmp/err" "first is dropped: 2 columns, 1 measurement" "what is dropped is told"
python3 - "$tmp/hist.json" >"$tmp/says" <<'PY'
import json, sys
p = json.load(open(sys.argv[1]))["plots"]
n = [x["numbers"] for x in p]
print(n[0]["plot"], n[1]["plot"], all(abs(sum(c) - 131072) < 4 for c in (n[0]["count"], n[0]["dequantized"], n[1]["count"])), round(100 * n[0]["error"], 2))
PY
is "dequantized weight True 0.76" "$(cat "$tmp/says")" "as JSON every value is counted in both"
exits 64 "a layer without two" shell "compare hist model.layers.1.mlp.down_proj"
has "$tmp/err" "nothing is marked A" "says what is needed"
printf 'open %s\nload session nothing\n' $m >"$tmp/no.slim"
exits 65 "no such session" sh -c "\"$SLIMSCOPE\" shell <\"$tmp/no.slim\""
unset XDG_STATE_HOME
printf 'name,score\nmodel.layers.0.mlp.down_proj,1\n' >"$tmp/one.csv"
exits 65 "one name in both" s compare runs "$tmp/one.csv" "$tmp/one.csv"
printf '{"metric":"other","layers":[{"name":"a","score":1},{"name":"b","score":2}]}' >"$tmp/other.json"
exits 65 "no metric in both" s compare runs "$tmp/other.json" "$tmp/run5.json"
has "$tmp/err" "no metric of 'other.json' is in run5.json" "is named"
exits 64 "one file, without a model" s compare runs "$tmp/run5.json"
exits 74 "no such file" s compare runs "$tmp/none.json" "$tmp/run5.json"

exits 64 "nothing measured" shell "compare"
has "$tmp/err" "nothing is measured yet: measure" "says what to do"
exits 64 "no such metric" shell "compare metrics kurtosis stdd"
has "$tmp/err" "nearest: std" "names the nearest"
exits 64 "one metric" shell "compare metrics kurtosis"
exits 64 "the same twice" shell "compare metrics std std"
exits 65 "not analyzed" shell "compare metrics std kurtosis"
has "$tmp/err" "analyze std kurtosis" "says what to do"
exits 64 "no such mark" shell "compare mark C 1"
exits 64 "a mark of nothing" shell "compare mark A 1"
exits 64 "nothing to take" shell "take 1"
exits 64 "no such thing" shell "compare measurement"
has "$tmp/err" "nearest: measurements" "names the nearest"
printf 'compare list\n' >"$tmp/x.slim"
exits 64 "without a model" s --script "$tmp/x.slim"
finish
