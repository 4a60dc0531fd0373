#!/bin/sh
# The recipes that ship load without a word, are named after their ids, and those for the demo model's family run.
. tests/tap.sh
model=lab_models/demo
for f in lab_practice/*/*.yaml; do
    id=$(basename "$f" .yaml)
    exits 0 "$id loads" "$SLIMSCOPE" check "$f"
    has "$f" "config_id: $id" "$id is named after its id"
    case $f in */default/* | */qwen3/*) ;; *) continue ;; esac
    # as many steps of a training as tell that it runs: autoround.sh trains with more of them
    sed 's/^\( *iters:\) 400$/\1 12/' "$f" >"$tmp/short.yaml"
    exits 0 "$id runs" "$SLIMSCOPE" measure --model_path $model --recipe "$tmp/short.yaml" --max-samples 2 --seq-len 64 --ctx 64 --format json
    has "$tmp/out" '"kl' "$id has a measured effect"
done
finish
