#!/bin/sh
# Numbers out of range: one line that names the option and what it takes, exit 64, before anything runs.
. tests/tap.sh
D=lab_models/demo
echo "open $D" >"$tmp/open.slim"
# bad OPTION VALUES WORDS...: the command WORDS with --OPTION and each of the values is refused
bad() {
    o=$1 values=$2; shift 2
    for v in $values; do
        exits 64 "$* --$o $v" "$SLIMSCOPE" "$@" --"$o" "$v"
        is 1 "$(grep -vc " - INFO - " "$tmp/err")" "in one line"
        has "$tmp/err" "$o" "that names it"
        is 0 "$(wc -c <"$tmp/out")" "and prints nothing"
    done
}
huge=99999999999999999999
for verb in analyze measure quant interact report; do
    case $verb in
    interact) set -- interact '*.0.mlp.*' --model_path $D ;;
    quant) set -- quant --yes --model_path $D --save_path "$tmp/q" ;;
    *) set -- $verb --model_path $D ;;
    esac
    bad threads "-1 1025 $huge x" "$@"
    bad max-samples "-1 3000000000 1.5" "$@"
    bad seq-len "-1 1000000001" "$@"
    bad seed "-1 $huge" "$@"
    bad mem "0 -5 12Q" "$@"
done
bad ctx "-1 0 1 1000000001" measure --model_path $D
bad tokens "-1 1000000001" analyze --model_path $D --metrics alone
bad topk "-1 0" analyze --model_path $D
bad pairs "-1 1001" interact '*.0.mlp.*' --model_path $D
for o in rows longest; do bad $o "-1 0 5000000000" info $D; done
for verb in check info; do bad threads "-1 1025" $verb $D; done
bad threads "-1 1025" forward --model_path $D --text x --out "$tmp/f"
bad threads "-1 1025" schemes --model_path $D
bad bins "-1 0 1001" hist --model_path $D model.layers.0.mlp.down_proj
bad group "-1 0" heat --model_path $D model.layers.0.mlp.down_proj
bad prune "-1 100001" resume
bad older "-1 100001" session rm
bad pace "-1 60001" --ui --size 80x24 --script "$tmp/open.slim"
for line in "log --job 0" "log --job -1" "analyze alone --tokens 1000000001" "set threads=1025" "set ctx=1" "set tokens=1000000001" "set max-samples=-1" \
    "replay $tmp/open.slim --pace -1"; do
    printf 'open %s\n%s\n' $D "$line" >"$tmp/s.slim"
    exits 64 "$line" "$SLIMSCOPE" --script "$tmp/s.slim"
    is 1 "$(grep -c "s.slim:2: " "$tmp/err")" "in one line"
done
exits 0 "--threads 0 is every core, as help says" "$SLIMSCOPE" info $D --threads 0
finish
