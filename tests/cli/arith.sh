#!/bin/sh
# Every arithmetic, through every command that computes: results name the one that made them, also when the setting is
# another since, and a session keeps its own.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
demo=lab_models/demo
few="--max-samples 2 --seq-len 24 --threads 2"
modes=$(s help analyze | sed -n 's/^ *--dtype-sim \([a-z0-9|]*\).*/\1/p' | tr '|' ' ')
first=${modes%% *} last=${modes##* }
is "fp32 exact" "$first $last" "help names the choices"
for m in $modes; do
    is "1 1" "$(grep -c "^| \`$m\`" README.md) $(grep -c "^| \`$m\`" README.zh-CN.md)" "$m: in both READMEs"
done
get() { python3 -c 'import json,sys
v = json.load(open(sys.argv[1]))
for k in sys.argv[2].split("."): v = v[int(k)] if k.isdigit() else v[k]
print(v)' "$1" "$2"; }
# of what a run says beside its figures: nothing for the default
beside() { if [ "$1" = fp32 ]; then echo 0; else echo 1; fi; }

for m in $modes; do
    run() { s "$@" --model_path $demo $few --dtype-sim $m; }
    exits 0 "$m: analyze" run analyze --calib_dataset mix_calib.jsonl --format json
    cp "$tmp/out" "$tmp/scores.$m"
    is $m "$(get "$tmp/out" arithmetic)" "$m: names its own"
    exits 0 "$m: as a table" run analyze
    is "$(beside $m)" "$(grep -c "^Arithmetic: $m$" "$tmp/out")" "$m: in the text"
    exits 0 "$m: csv" run analyze --format csv
    is "$m arithmetic " "$(cut -d, -f9 "$tmp/out" | sort -ru | tr '\n' ' ' | sed "s/^arithmetic $m/$m arithmetic/")" "$m: in every row"
    exits 0 "$m: yaml" run analyze --format yaml
    is "$(beside $m)" "$(grep -c "^# $m arithmetic$" "$tmp/out")" "$m: in a comment"
    exits 0 "$m: measure" run measure --format json
    is $m "$(get "$tmp/out" arithmetic)" "$m: of the measurement"
    exits 0 "$m: in words" run measure
    has "$tmp/out" "arithmetic       $m" "$m: of the measurement in words"
    exits 0 "$m: report" s $demo $few --dtype-sim $m
    is "$(beside $m)" "$(grep -c " tokens, $m arithmetic$" "$tmp/out")" "$m: of the report"
    exits 0 "$m: forward" s forward --model_path $demo --ids 1,2,3 --out "$tmp/f" --dtype-sim $m
    is "$m" "$(python3 -c 'import json,sys
f = open(sys.argv[1], "rb")
print(json.loads(f.read(int.from_bytes(f.read(8), "little")))["__metadata__"]["arithmetic"])' "$tmp/f")" "$m: in the file"
    exits 0 "$m: quant" run quant --config_path lab_practice/default/default-w8a8-static.yaml --save_path "$tmp/q.$m" --format json
    is $m "$(get "$tmp/out" arithmetic)" "$m: of what is written"
    is $m "$(get "$tmp/q.$m/.slimscope.ascendv1_saver.json" arithmetic)" "$m: in the list of files"
    exits 0 "$m: quant again" run quant --config_path lab_practice/default/default-w8a8-static.yaml --save_path "$tmp/q.$m"
    has "$tmp/out" "holds this model already" "$m: is there already"
    is "$(beside $m)" "$(grep -c "^arithmetic   $m$" "$tmp/out")" "$m: in words"
    for other in $modes; do
        [ $other = $m ] && continue
        exits 64 "$m: is not taken for $other" s quant --model_path $demo $few --dtype-sim $other \
            --config_path lab_practice/default/default-w8a8-static.yaml --save_path "$tmp/q.$m"
    done
done
is "$(echo $modes | wc -w)" "$(for m in $modes; do sed 's/"arithmetic":"[a-z0-9]*"//' "$tmp/scores.$m" | cksum; done | sort -u | wc -l)" \
    "no two give the same scores"

# ---- a session in each: back from its journal, and replayed ----
for m in $modes; do
    rm -rf "$XDG_STATE_HOME/slimscope"
    printf 'set ctx=32 eval-tokens=64\nanalyze kurtosis\nmeasure\nexclude *.0.mlp.down_proj\nhistory --save %s/again.%s!\n' "$tmp" $m |
        s shell $demo $few --dtype-sim $m >"$tmp/out" 2>&1
    exits 0 "$m: resume" s resume --size 160x40 --dump-screen "$tmp/screen"
    is "$(beside $m)" "$(head -n 1 "$tmp/screen" | grep -c " $m arithmetic")" "$m: in the head"
    has "$tmp/screen" "56/56" "$m: with its scores"
    has "$tmp/screen" "STALE KL" "$m: and its measurement"
    is 0 "$(grep -c ' s stale\|not made' "$tmp/screen")" "$m: none of them stale"
    printf 'rank kurtosis --format json\n' >>"$tmp/again.$m"
    exits 0 "$m: replayed" s --script "$tmp/again.$m"
    sed 's/"model":"[^"]*"//' "$tmp/out" | grep '"rank"' >"$tmp/replayed"
    grep '"rank"' "$tmp/scores.$m" >"$tmp/want"
    same "$tmp/want" "$tmp/replayed" "$m: gives the same scores"
    grep -o '"arithmetic":"[a-z0-9]*"' "$tmp/out" >"$tmp/named"
    is "\"arithmetic\":\"$m\"" "$(cat "$tmp/named")" "$m: in its own arithmetic"
done

# ---- one session through all ----
{
    echo "open $demo"
    echo "set threads=2 max-samples=2 seq-len=24 ctx=32 eval-tokens=64"
    before=none
    for m in $modes; do
        echo "set dtype-sim=$m"
        [ $before = none ] || echo "rule --format json"
        echo measure
        before=$m
    done
    for m in $modes; do
        echo "set dtype-sim=$m"
        echo "rule --format json"
    done
    echo "set dtype-sim=$first"
    echo "analyze std --format json"
    echo "set dtype-sim=$last"
    echo "rank std --format json --out $tmp/old.json"
    echo "analyze std --pattern *.0.* --format json --out $tmp/new.json"
    echo "rank std --format json --out $tmp/mixed.json"
    echo "rank std --format csv --out $tmp/mixed.csv"
    echo "rank std --out $tmp/mixed.txt"
} >"$tmp/all"
exits 0 "all in one session" s --script "$tmp/all"
{
    before=$first
    for m in ${modes#* }; do echo "other settings $before"; before=$m; done
    for m in $modes; do echo "present $m"; done
} >"$tmp/want"
grep -o '"measured":{"of":"[a-z ]*".*"arithmetic":"[a-z0-9]*"' "$tmp/out" |
    sed 's/"measured":{"of":"\([a-z ]*\)".*"arithmetic":"\([a-z0-9]*\)"/\1 \2/' >"$tmp/got"
same "$tmp/want" "$tmp/got" "a measurement counts in its own arithmetic only"
is $first "$(get "$tmp/old.json" arithmetic)" "scores are of what made them, not of what is set"
is $last "$(get "$tmp/new.json" arithmetic)" "those made anew are of the other"
is mixed "$(get "$tmp/mixed.json" arithmetic)" "a ranking of both says so"
is "7 49" "$(grep -c "\"arithmetic\":\"$last\"" "$tmp/mixed.json") $(grep -c "\"arithmetic\":\"$first\"" "$tmp/mixed.json")" "row by row"
is "7 49" "$(cut -d, -f9 "$tmp/mixed.csv" | grep -c "^$last\$") $(cut -d, -f9 "$tmp/mixed.csv" | grep -c "^$first\$")" "also as csv"
has "$tmp/mixed.txt" "Arithmetic: $first and $last" "and in words"

rm -rf "$XDG_STATE_HOME/slimscope"
printf 'analyze kurtosis\nset dtype-sim=%s\n' $last | s shell $demo $few --dtype-sim $first >"$tmp/out" 2>&1
exits 0 "a session whose setting is another since" s resume --size 160x40 --dump-screen "$tmp/screen"
has "$tmp/screen" "scored in $first arithmetic" "says what made its scores"
has "$tmp/screen" " $last arithmetic" "and what is set"

# ---- what is no arithmetic ----
exits 64 "an unknown one" s analyze --model_path $demo --dtype-sim bf16
has "$tmp/err" "$(echo $modes | tr ' ' '|')" "is told the choices"
printf 'open %s\nset dtype-sim=bf16\n' $demo >"$tmp/bad"
exits 64 "as a setting" s --script "$tmp/bad"
has "$tmp/err" "$(echo $modes | tr ' ' '|')" "too"
exits 0 "compat peer" s analyze --model_path $demo $few --compat peer --format json
is exact "$(get "$tmp/out" arithmetic)" "computes exactly"
for m in $modes; do
    [ $m = exact ] && continue
    printf 'open %s\nset compat=peer\nset dtype-sim=%s\n' $demo $m >"$tmp/bad"
    exits 64 "compat peer in $m" s --script "$tmp/bad"
    has "$tmp/err" "compat=peer computes in exact arithmetic" "is refused"
done
finish
