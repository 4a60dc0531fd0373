#!/bin/sh
# The shown table as a file, columns beside the metric, presets as targets, kept filters, and --read-only.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
M=lab_models/demo
in_session() { printf '%s\n' "open $M" "set threads=1" "$@" | s --script -; }

in_session "analyze weight_error weight_outliers" "columns weight_outliers" "sort size" "filter last=1 !attn" "sheet $tmp/a.csv" "sheet $tmp/a.json" \
    "sheet $tmp/a.txt" >"$tmp/out" 2>&1
has "$tmp/out" "written: $tmp/a.txt, 3 rows" "the table is written as csv, json and text"
cat >"$tmp/look.py" <<'PY'
import csv, json, sys
d = sys.argv[1]
rows = list(csv.DictReader(open(d + "/a.csv")))
doc = json.load(open(d + "/a.json"))
assert [r["name"] for r in rows] == [r["name"] for r in doc["rows"]], "the same rows in the same order"
assert len(rows) == 3 and all(".7.mlp." in r["name"] for r in rows), "those that the filter lets through"
cost = [float(r["float_costs_bytes"]) for r in rows]
assert cost == sorted(cost, reverse=True), "in the order of the table"
assert doc["filter"] == "last=1 !attn" and doc["sort"] == "size" and doc["metric"] == "weight_error" and doc["second"] == "weight_outliers"
for r, q in zip(rows, doc["rows"]):
    assert float(r["weight_error"]) == q["score"] and int(r["second_rank"]) == q["second_rank"] > 0
text = open(d + "/a.txt").read()
assert text.count("\n") == 4 and all(r["name"] in text for r in rows)
PY
exits 0 "all three hold the shown rows, with both metrics" python3 "$tmp/look.py" "$tmp"
in_session "sheet $tmp/a.csv" >"$tmp/out" 2>&1
is 74 $? "a file that is there stays"
has "$tmp/out" "add ! to replace it" "and it is said how to replace it"
in_session "sheet $tmp/a.csv!" >"$tmp/out" 2>&1
is 0 $? "which does"

in_session "analyze weight_error" "tag model.layers.0.self_attn.o_proj" "filter tagged" "say" >"$tmp/out" 2>&1
has "$tmp/out" "model.layers.0.self_attn.o_proj, level W8A8, tagged, rank 1 by weight_error" "say tells the row in words"
s help keys rank >"$tmp/out" 2>&1
has "$tmp/out" "tag all of the same block" "help keys tells those of a screen"
s help keys >"$tmp/out" 2>&1
has "$tmp/out" "All screens" "or of all of them"
s help keys nosuch >"$tmp/out" 2>&1
is 64 $? "of one that there is not it names those there are"

in_session "exclude last=2" "rule" >"$tmp/out" 2>&1
has "$tmp/out" 'model.layers.{6..7}.*' "last=2 is a pattern of the last two blocks"
in_session "exclude first=1" >"$tmp/out" 2>&1
has "$tmp/out" "7 linears sent to float" "first=1 one of the first"
in_session "tag kind=o_proj" >"$tmp/out" 2>&1
has "$tmp/out" "8 tagged" "kind=o_proj all of a kind"
in_session "exclude first=none" >"$tmp/out" 2>&1
is 64 $? "first= takes a number"
in_session "savefilter late last=1" "filter @late" "sheet $tmp/b.csv" >"$tmp/out" 2>&1
is 8 "$(wc -l <"$tmp/b.csv" | tr -d ' ')" "a filter that was kept is a word of others"
in_session "savefilter a @b" >"$tmp/out" 2>&1
is 64 $? "one of a name that there is not is refused"
in_session "savefilter a attn" "savefilter b @a" "savefilter a @b" "filter @a" >"$tmp/out" 2>&1
is 64 $? "and those that name each other in a circle"

for c in "exclude *down_proj" "level float *q_proj" "recipe lab_practice/default/default-w8a8-dynamic.yaml"; do
    printf 'open %s\n%s\n' "$M" "$c" | s shell --read-only >"$tmp/out" 2>&1
    is 64 $? "--read-only refuses: ${c%% *}"
    has "$tmp/out" "opened with --read-only: nothing is changed" "with a word: ${c%% *}"
done
printf 'open %s\ntag *q_proj\nfilter tagged\nundo\nrule\n' "$M" | s shell --read-only >"$tmp/out" 2>&1
is 0 $? "--read-only leaves tags, filters and looking"
finish
