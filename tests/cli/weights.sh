#!/bin/sh
# Analyses of weights alone: no data set and no tokenizer is opened, and every output says so; pictures of one weight; schemes
# side by side.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
model=tests/golden/analysis/_models/llama-fp32 calib=tests/golden/analysis/_models/calib5.jsonl
down=model.layers.0.mlp.down_proj
all="weight_error weight_outliers group_size clipping"
mkdir "$tmp/bare" "$tmp/data" # a model without a tokenizer, and what ships without its data sets
cp $model/config.json $model/model.safetensors "$tmp/bare"
cp -r lab_practice "$tmp/data"
cp "$SLIMSCOPE" "$tmp/slimscope" # data sets are looked for beside the program, too
# shellcheck disable=SC2086 # several words are meant
{
bare="env -C $tmp SLIMSCOPE_DATA=$tmp/data ./slimscope analyze --model_path $tmp/bare"
exits 65 "a metric of inputs has no data set here" $bare --metrics kurtosis
exits 0 "without data" $bare --metrics $all --format json
cp "$tmp/out" "$tmp/bare.json"
is "" "$(grep -i 'calibrated\|boolq' "$tmp/err")" "no data set is named"
exits 0 "a data set that is named is not read" s analyze --model_path "$tmp/bare" --calib_dataset $calib --metrics $all --format json
same "$tmp/bare.json" "$tmp/out" "and changes nothing"
exits 0 "on one thread" s analyze --threads 1 --model_path "$tmp/bare" --metrics $all --format json
same "$tmp/bare.json" "$tmp/out" "the same bytes"
exits 0 "as CSV" s analyze --model_path "$tmp/bare" --metrics $all --format csv
}
cat >"$tmp/check.py" <<'PY'
import csv, json, sys
runs = json.load(open(sys.argv[1]))["runs"]
parts = {"weight_error": "frobenius rmse max mean_abs sqnr cosine", "weight_outliers": "count fraction max_outlier range inlier_range wasted mean std kurtosis",
         "group_size": "rmse_32 rmse_64 rmse_128 rmse_256 rmse_row bits_32 bits_64 bits_128 bits_256 bits_row",
         "clipping": "error_99 error_99_5 error_99_9 error_99_95 error_100 best clip clip_error quant_error clipped"}
assert [r["metric"] for r in runs] == list(parts)
for r in runs:
    assert r["calibration"] is None and r["inputs"] == "none: no data was read", r["calibration"]
    assert (r["scheme"] is None) == (r["metric"] != "weight_error"), r["scheme"]
    assert len(r["layers"]) == 21
    for l in r["layers"]:
        assert list(l["parts"]) == parts[r["metric"]].split() and "tokens" not in l, l
rows = list(csv.DictReader(open(sys.argv[2])))
assert len(rows) == 84 and all(r["inputs"] == "none: no data was read" for r in rows), len(rows)
assert all([p.split("=")[0] for p in r["parts"].split()] == parts[r["metric"]].split() for r in rows)
PY
if python3 "$tmp/check.py" "$tmp/bare.json" "$tmp/out" >"$tmp/log" 2>&1; then ok "parts, and what was read, in JSON and CSV"; else not_ok "parts, and what was read, in JSON and CSV"; tail -n 3 "$tmp/log"; fi

# ---- a session that has data claims none of it for weights; levels are known from one pass ----
cat >"$tmp/two.slim" <<END
open $model
calib $calib
analyze kurtosis
analyze weight_error
rank weight_error --format json --out $tmp/w8.json
rank kurtosis --format json --out $tmp/k.json
END
exits 0 "weights behind data" s -x "$tmp/two.slim"
has "$tmp/w8.json" '"calibration":null' "data of another analysis is not claimed"
has "$tmp/k.json" '"samples":5' "which has them"
exits 0 "under a scheme by name" s analyze --model_path "$tmp/bare" --metrics weight_error --scheme W4A8_DYNAMIC
has "$tmp/out" "Scheme: W4A8_DYNAMIC" "the scheme is told"
has "$tmp/out" "inputs: none: no data was read" "and that no data was"
python3 tests/lib/spoil_model.py lab_models/demo "$tmp/nan" nan:model.layers.0.mlp.up_proj.weight
exits 1 "a NaN fails the analysis" s analyze --model_path "$tmp/nan" --metrics weight_outliers
has "$tmp/out" "no score: weight: NaN first at row" "and says where; the others have scores"
is 55 "$(s analyze --model_path "$tmp/nan" --metrics weight_outliers --format csv 2>/dev/null | awk -F, 'NR > 1 && $4 != ""' | wc -l | tr -d ' ')" "all but one"

cat >"$tmp/plots.slim" <<END
open $model
calib $calib
plot dequantized $down --level W4A8
plot rows $down --table
plot error $down
plot error $down --area 1-1,14-14
analyze local_error
plot input $down
plot grid $down
END
# ---- pictures ----
exits 0 "a histogram" s hist --model_path "$tmp/bare" $down
has "$tmp/out" "+3 std" "hist marks three deviations"
has "$tmp/out" "percentiles: 0.1 %" "and reads percentiles"
has "$tmp/out" "43 below -0.2594, 32 above 0.2606" "and counts what lies beyond"
exits 0 "of a pattern" s hist --model_path "$tmp/bare" '*layers.0*down*' --log --glyphs ascii
is "" "$(LC_ALL=C tr -d '\11\12\40-\176' <"$tmp/out")" "in ASCII"
exits 0 "as CSV" s hist --model_path "$tmp/bare" $down --format csv
is 101 "$(wc -l <"$tmp/out" | tr -d ' ')" "a hundred bins"
is 10240 "$(awk -F, 'NR > 1 { n += $3 } END { print n }' "$tmp/out")" "of all values"
exits 0 "as JSON" s hist --model_path "$tmp/bare" $down --format json --out "$tmp/h.json"
exits 0 "which is JSON" python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); assert sum(d["counts"]) == 10240 and len(d["density"]) == 100 and d["sigma3"] > 0.25' "$tmp/h.json"
exits 64 "one linear only" s hist --model_path "$tmp/bare" '*down*'
has "$tmp/err" "names 3 linears" "and says how many"
exits 0 "a map" s heat --model_path "$tmp/bare" $down --size 20x3 --glyphs ascii
is 3 "$(grep -c '^ *[0-9]* |.\{20\}|$' "$tmp/out")" "heat draws a map"
has "$tmp/out" "at group 1 of channel 14" "and says where the error is largest"
exits 0 "as CSV" s heat --model_path "$tmp/bare" $down --format csv --size 400x400
is 321 "$(wc -l <"$tmp/out" | tr -d ' ')" "every group of every channel"
exits 0 "as JSON, under a scheme" s heat --model_path "$tmp/bare" $down --format json --scheme W8A8 --out "$tmp/heat.json"
exits 0 "which is JSON" python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); assert d["groups"] == len(d["mean"]) == 5 and max(map(max, d["max"])) == d["largest"]' "$tmp/heat.json"
exits 64 "not a scheme" s heat --model_path "$tmp/bare" $down --scheme W3
exits 64 "not a size" s heat --model_path "$tmp/bare" $down --size 0x4
printf 'open %s\nhist %s --bins 3\nheat %s --scheme recipe --size 4x2\n' "$tmp/bare" $down $down >"$tmp/pictures.slim"
exits 0 "in a script, of the open model" s -x "$tmp/pictures.slim"
has "$tmp/out" "W8A8 per_tensor asym: mean square error" "at the level of its own"

# ---- plots ----
exits 0 "a weight" s plot weight $down --model_path "$tmp/bare" --glyphs ascii --at p99
has "$tmp/out" "weight values: 10,240 values, counts logarithmic" "plot draws a weight"
has "$tmp/out" ": 99 % lie below" "with a cursor at a percentile"
is "" "$(LC_ALL=C tr -d '\11\12\40-\176' <"$tmp/out")" "in ASCII"
is 21 "$(wc -l <"$tmp/out" | tr -d ' ')" "its name and twenty lines"
exits 0 "of a script" s -x "$tmp/plots.slim"
has "$tmp/out" "level W4A8_DYNAMIC per_token sym" "at another level"
has "$tmp/out" "largest value of each weight row (output channel): 64" "rows"
has "$tmp/out" "groups of 32: 0-4 down, channels 0-63 across" "errors"
has "$tmp/out" "group 1 of channel 14: its 32 values" "down to one group"
has "$tmp/out" "input activations:" "inputs of an analysed session"
has "$tmp/out" "dequantized" "over what they become"
exits 0 "inputs from the command line" s plot channels $down --model_path $model --calib_dataset $calib --format csv
is 161 "$(wc -l <"$tmp/out" | tr -d ' ')" "a line for each channel"
exits 0 "one group as JSON" s plot error $down --model_path "$tmp/bare" --area 1-1,14-14 --format json --out "$tmp/cell.json"
exits 0 "the map as JSON" s plot error $down --model_path "$tmp/bare" --format json --size 200x40 --out "$tmp/map.json"
exits 0 "which agree" python3 -c 'import json,sys
cell, field = (json.load(open(f)) for f in sys.argv[1:])
error = sum((a - b) ** 2 for a, b in zip(cell["value"], cell["dequantized"])) / 32
at = [i for i in range(len(field["group"])) if (field["group"][i], field["channel"][i]) == (1, 14)]
assert len(cell["value"]) == 32 and len(at) == 1 and abs(field["mean"][at[0]] - error) < 1e-6 * error' "$tmp/cell.json" "$tmp/map.json"
exits 0 "over what it becomes" s plot dequantized $down --model_path "$tmp/bare" --level W4A8 --format csv
is "10240 10240" "$(awk -F, 'NR > 1 { n += $3; m += $4 } END { printf "%.0f %.0f", n, m }' "$tmp/out")" "of all values, both"
exits 64 "no such plot" s plot weigth $down --model_path "$tmp/bare"
has "$tmp/err" "nearest: weight" "is told the nearest"
exits 64 "no such level" s plot weight $down --model_path "$tmp/bare" --level W3
exits 64 "no such place" s plot weight $down --model_path "$tmp/bare" --at p200
exits 64 "no such window" s plot weight $down --model_path "$tmp/bare" --zoom 2..1
exits 64 "no such part" s plot error $down --model_path "$tmp/bare" --area 3-1,0-0
exits 64 "not every plot" s plot all $down --model_path "$tmp/bare"
exits 65 "what can't be drawn has no numbers" s plot dequantized $down --model_path "$tmp/bare" --level W8A8S --format csv

# ---- schemes ----
exits 0 "schemes" s schemes --model_path "$tmp/bare" W8A8 W4A8_DYNAMIC W4A16/32
is "W8A8 W4A8_DYNAMIC W4A16/32" "$(awk '$1 ~ /^W[48]/ { printf "%s%s", n++ ? " " : "", $1 }' "$tmp/out")" "schemes are set side by side"
exits 0 "all of them" s schemes --model_path "$tmp/bare" --format json --out "$tmp/schemes.json"
exits 0 "each with what it loses, or why not" python3 -c 'import json,sys
d = json.load(open(sys.argv[1])); by = {r["name"]: r for r in d["schemes"]}
assert d["calibration"] is None and len(by) > 8 and by["W8A8"]["mean"] == by["W8A16"]["mean"] < by["W4A8_DYNAMIC"]["mean"]
assert all(r["linears"] + r["without"] == 21 for r in by.values()) and by["W4A16"]["linears"] == 0 and by["W4A16"]["mean"] is None
assert by["W8A8"]["bytes"] > by["W4A8_DYNAMIC"]["bytes"]' "$tmp/schemes.json"
exits 64 "no such scheme" s schemes --model_path "$tmp/bare" W3A3
exits 64 "no such groups" s schemes --model_path "$tmp/bare" W4A16/x
finish
