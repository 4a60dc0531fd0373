#!/bin/sh
# tune over several ranks: the tries, recipes, history and reports of one process; killed, and gone on with by another number of ranks.
cd "$(dirname "$0")/../.." || exit 1
. tests/tap.sh
. tests/ranks.sh
demo=lab_models/demo tiny=tests/golden/formats/_models/qwen3-bf16
# What is no result: seconds, times of day, how a demand of an earlier run was quoted.
plain() {
    sed -E 's/(seconds": *)[0-9.e+-]+/\1/g; s/(_seconds: )[0-9.]+/\1/; s/(  time: ).*/\1/; s/[0-9]+ s in this run//
s/\| [0-9.]+ \| [0-9.]+ \| (yes|no) \|$//' "$@" | tr -d "\"'"
}
python3 - "$tmp" <<'END'
import json, random, sys
random.seed(5)
def lines(name, rows):
    with open(sys.argv[1] + "/" + name, "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)
words = "she was a little girl and the old house stood in the wood where her mother had been told of it by an aunt".split()
behind = lambda i: (i % 7) + 2 + i % 3
lines("ids.jsonl", ({"input_ids": [random.randrange(2, 60) for _ in range(n)]} for n in (512, 3, 600)))
lines("choice.jsonl", ({"prompt": " ".join(words[i % 7:behind(i)]), "choices": [words[behind(i)], words[7 * i % 20], "xyzzy"], "answer": 0} for i in range(9)))
lines("exact.jsonl", ({"prompt": "The old " + words[i], "answer": words[i + 1]} for i in range(3)))
END

# until OUT COMMAND...: what is told of a search for few bytes, and its recipe
until_kl() {
    to=$1; shift
    "$@" tune --model_path $tiny --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl" --until kl=5e-5 --format json --out "$to.yaml" \
        --progress never $how >"$to" 2>"$tmp/err"
    plain "$to" "$to.yaml" >"$to.all"
}
how=
until_kl "$tmp/one" "$SLIMSCOPE"
has "$tmp/one" '"met":true' "tune --until holds its goal"
for n in 3 2; do
    [ $n = 3 ] || how='--read once'
    until_kl "$tmp/sets" ranks $n "$mpi"
    same "$tmp/one.all" "$tmp/sets.all" "$n ranks measure the same sets, to the same recipe"
    [ $n = 2 ] || each=$(weights_read "$tmp/err")
done
[ "$(weights_read "$tmp/err")" -gt 0 ] && [ "$((2 * $(weights_read "$tmp/err")))" -lt "$each" ] && ok "--read once reads weights once" || not_ok "--read once: $(weights_read "$tmp/err") of $each"

linear='{type: linear_quant, qconfig: {act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax}, weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}}'
# evaluation KL
evaluation() {
    cat <<END
evaluation:
  type: native
  demand: {expectations: [{dataset: kl, at_most: $1}, {dataset: said, target: 0.1, tolerance: 0.1}, {dataset: mine, target: 0.1, tolerance: 0}]}
  datasets:
    mine: {path: $tmp/choice.jsonl, kind: choice}
    said: {path: $tmp/exact.jsonl, kind: exact, max_tokens: 4, match: contains, precheck: true}
END
}
# standing KL SCOPE
standing() {
    printf 'strategy:\n  type: standing_high\n  scope: %s\n  anti_outlier_strategies: [[]]\n  template:\n    dataset: %s\n    process: [%s]\n' \
        "$2" "$tmp/ids.jsonl" "$linear"
    printf '    save: [{type: ascendv1_saver}]\n'
    evaluation "$1"
}
standing 5e-5 linear >"$tmp/standing.yaml"
standing 0.03 block >"$tmp/blocks.yaml"
{ printf 'strategy:\n  type: binary_fallback\n  scope: linear\n  rollback_path: spec.process.1.exclude\n  template:\n    apiversion: modelslim_v1\n'
  printf '    metadata: {config_id: bf}\n    spec: {process: [{type: iter_smooth}, %s], dataset: %s}\n' "$linear" "$tmp/ids.jsonl"; evaluation 5e-5; } >"$tmp/fallback.yaml"
options="--seq-len 600 --eval $tmp/ids.jsonl"
# plan FOLDER PLAN MODEL COMMAND...
plan() { to=$1 name=$2 m=$3; shift 3; "$@" tune --model_path $m --config "$tmp/$name.yaml" --save_path "$to" $options $how --progress never >"$tmp/out" 2>"$tmp/err"; }
# results FOLDER FILES...: what they hold
results() { (cd "$1" && shift && for f in best_practice.yaml history/*.yaml history/*.json "$@"; do echo "== $f"; plain "$f"; done) | sed "s,$1,OUT,g"; }
all="report.md report.json"

for p in standing fallback; do
    plan "$tmp/one.$p" $p $tiny "$SLIMSCOPE"
    is 0 $? "$p, its tries measured, and asked by likelihood and by generation"
    results "$tmp/one.$p" $all >"$tmp/a"
    for n in 2 3; do
        [ $n = 2 ] && how='--read once' || how=
        plan "$tmp/many" $p $tiny ranks $n "$mpi"
        is 0 $? "on $n ranks"
        results "$tmp/many" $all >"$tmp/b"
        same "$tmp/a" "$tmp/b" "has the same recipe, history and reports"
        rm -rf "$tmp/many"
    done
done

# a program's evaluation is rank 0's, of a model that all ranks wrote
cat >"$tmp/score" <<'END'
#!/bin/sh
# usage: score MODEL
echo "$1" >>"$(dirname "$0")/calls"
echo "kept $(cat "$1"/quant_model_description*.json | grep -o 'proj.weight": "FLOAT"' | wc -l)"
END
chmod +x "$tmp/score"
cat >"$tmp/command.yaml" <<END
strategy:
  type: fewest_bytes
  scope: linear
  template: {dataset: $tmp/ids.jsonl, process: [$linear], save: [{type: ascendv1_saver, part_file_size: 4}]}
evaluation: {type: command, run: ["$tmp/score", "{model}"], demand: {expectations: [{dataset: kept, target: 3, tolerance: 0}]}}
END
for n in 1 3; do
    rm -f "$tmp/calls"
    [ $n = 1 ] && plan "$tmp/command1" command $tiny "$SLIMSCOPE" || plan "$tmp/command3" command $tiny ranks $n "$mpi"
    is 0 $? "fewest_bytes by a program on $n ranks"
    { results "$tmp/command$n" $all; wc -l <"$tmp/calls"; cat "$tmp/command$n"/quant_model/*.safetensors "$tmp/command$n"/quant_model/*description*.json | sha256sum; } >"$tmp/w$n"
done
same "$tmp/w1" "$tmp/w3" "comes to the same recipe, history, calls and model"
# what ranks have otherwise is one error
for r in 0 1; do mkdir "$tmp/r$r"; cp "$tmp/standing.yaml" "$tmp/r$r/plan.yaml"; done
sed -i 's/at_most: 5e-5/at_most: 6e-5/' "$tmp/r1/plan.yaml"
bin=$(cd "$(dirname "$mpi")" && pwd)/slimscope-mpi here=$PWD
exits 64 "another plan on another rank is an error" ranks 2 env SLIMSCOPE_DATA="$here" sh -c "cd $tmp/r\$OMPI_COMM_WORLD_RANK && exec $bin tune --model_path $here/$tiny --config plan.yaml --save_path ../other $options"
has "$tmp/err" "rank 1 has another plan than rank 0" "and named"

# a rank is killed, or rank 0 hears ^C, at the second try; another number of ranks goes on
cat >"$tmp/stop.sh" <<'END'
# usage: stop.sh TOLD RANK SIGNAL COMMAND...: sends it when rank 0 tells that the second try is evaluated
told=$1 rank=$2 sig=$3; shift 3
[ "$OMPI_COMM_WORLD_RANK" = "$rank" ] || exec env --default-signal=INT "$@"
env --default-signal=INT "$@" &
pid=$!
until grep -q 'try 2.*: evaluates","phase":"[a-z]' "$told"; do sleep 0.05; done
kill -"$sig" $pid
wait $pid
END
# stopped FOLDER N RANK SIGNAL PLAN
stopped() {
    : >"$tmp/told"
    ranks "$2" sh "$tmp/stop.sh" "$tmp/told" "$3" "$4" "$mpi" tune --model_path $demo --config "$tmp/$5.yaml" --save_path "$1" $options \
        --progress json >"$tmp/out" 2>"$tmp/told"
}
plan "$tmp/whole" blocks $demo "$SLIMSCOPE"
results "$tmp/whole" >"$tmp/a"
stopped "$tmp/back" 3 2 KILL blocks
has "$tmp/told" "slimscope: another rank was killed" "3 ranks of which one is killed"
[ -f "$tmp/back/best_practice.yaml" ] && not_ok "end before their answer" || ok "end before their answer"
plan "$tmp/back" blocks $demo "$SLIMSCOPE"
results "$tmp/back" >"$tmp/b"
same "$tmp/a" "$tmp/b" "one process goes on to the same recipe and history"
stopped "$tmp/int" 2 0 INT blocks
has "$tmp/told" "stopped; the same plan and folder go on from here" "^C stops all ranks"
plan "$tmp/int" blocks $demo ranks 3 "$mpi"
is 0 "$(grep -c 'the float model is asked' "$tmp/err")" "3 ranks go on with what was known"
results "$tmp/int" >"$tmp/b"
same "$tmp/a" "$tmp/b" "to the same recipe and history"
finish
